/** The shared index and records, all interleavings: a search by a worker while the coordinator publishes, removes and
 *  uses slots again. Each test has its mutants, which must be found. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { tupleHash } from '../../src/conntrack/hash.js';
import { allocatePartition, Partition, PartitionWriter } from '../../src/conntrack/partition.js';
import { CONN } from '../../src/shm/layouts.js';
import { explore, type Store } from './interleavings.js';

const SEED = 1;
const NOW = 1000;
const { SRC, DST, PORTS, ZONE_PROTO, STATE, EXPIRES } = CONN.at;
const UDP = (17 << 8) | 0;

/** Connection `n`: all of its words tell which it is. */
function fill(p: PartitionWriter, slot: number, n: number): void {
  const c = slot << CONN.shift;
  p.hot[c + SRC] = 100 + n;
  p.hot[c + DST] = 200 + n;
  p.hot[c + PORTS] = (300 + n) * 65537;
  p.hot[c + ZONE_PROTO] = UDP;
  p.hot[c + STATE] = n;
  p.hotF64[(c + EXPIRES) >> 1] = 5000 + n;
  p.createdMs[slot] = NOW;
}

function add(p: PartitionWriter, n: number): void {
  const slot = p.allocate();
  fill(p, slot, n);
  p.publish(slot);
}

/** Finds connection `n` as its packets do; then reads of it what a packet reads. */
function search(p: Partition, n: number): { found: number; state: number; expires: number } {
  const [src, dst, ports] = [100 + n, 200 + n, (300 + n) * 65537];
  const found = p.find(tupleHash(SEED, src, dst, ports, UDP), src, dst, ports, UDP, UDP, null, NOW);
  if (found < 0) return { found, state: 0, expires: 0 };
  const c = (found >> 1) << CONN.shift;
  return { found, state: p.hot[c + STATE], expires: p.hotF64[(c + EXPIRES) >> 1] };
}

/** A partition with connections 1 to `n`; `epoch` says how many vectors the worker has finished. */
function setUp(n: number, epoch: () => number, grace = 1) {
  return () => {
    const memory = allocatePartition(64, SEED);
    const writer = new PartitionWriter(memory, epoch, grace);
    for (let i = 1; i <= n; i++) add(writer, i);
    return { writer, reader: new Partition(memory) };
  };
}

/** What is found is whole, and what was searched for. */
function whole(n: number): (got: ReturnType<typeof search>) => void {
  return ({ found, state, expires }) => {
    if (found < 0) return;
    assert.equal(state, n, 'a record of another connection, or half of one');
    assert.equal(expires, 5000 + n, 'a record of another connection, or half of one');
  };
}

const tagFirst = (s: Store[]) => [...s.slice(-2), ...s.slice(0, -2)];
const expiresFirst = (s: Store[]) => [
  ...s.filter(({ array }) => array instanceof Float64Array),
  ...s.filter(({ array }) => array instanceof Int32Array),
];
const slotOf = (p: PartitionWriter, n: number) =>
  Array.from({ length: p.high }, (_, slot) => slot).find((slot) => p.hot[slot << CONN.shift] === 100 + n)!;

describe('protocol: all interleavings of a search', () => {
  test('with the publication of the connection: found whole, or not at all', () => {
    const o = {
      setUp: setUp(3, () => 0),
      write: (p: PartitionWriter) => add(p, 4),
      read: (p: Partition) => search(p, 4),
    };
    let found = 0;
    const { runs, stores } = explore({
      ...o,
      check: (got) => {
        whole(4)(got);
        if (got.found >= 0) found++;
      },
    });
    assert.ok(
      runs > found && found > 0 && stores > 5,
      `${runs} runs, ${found} times found, ${stores} stores`,
    );
    // The tag before the record alone does no harm, since EXPIRES, written last, keeps searches from it; both do.
    explore({ ...o, check: whole(4), reorder: tagFirst });
    assert.throws(
      () => explore({ ...o, check: whole(4), reorder: (s) => expiresFirst(tagFirst(s)) }),
      /half of one/,
    );
  });

  test('with the removal of the connection, and of others in its bucket: whole or not at all', () => {
    const { runs } = explore({
      setUp: setUp(9, () => 0),
      write: (p) => {
        p.remove(slotOf(p, 5));
        p.remove(slotOf(p, 6));
        p.remove(slotOf(p, 9));
      },
      read: (p) => search(p, 5),
      // Whoever has found it reads the end of a connection that has ended.
      check: ({ found, state, expires }) => {
        if (found < 0) return;
        assert.equal(state, 5);
        assert.ok(expires === 5005 || expires === 0);
      },
    });
    assert.ok(runs > 1);
  });

  test('with changes around it: a connection that stays is found, whatever else comes and goes', () => {
    const { runs } = explore({
      setUp: setUp(9, () => 0),
      write: (p) => {
        p.remove(slotOf(p, 1));
        add(p, 10);
        p.remove(slotOf(p, 9));
        p.remove(slotOf(p, 2));
        add(p, 11);
      },
      read: (p) => search(p, 5),
      check: (got) => {
        assert.ok(got.found >= 0, 'a connection that was there all the time is not found');
        whole(5)(got);
      },
    });
    assert.ok(runs >= 1);
  });

  test('with its slot being used again: never while a vector is under way; at once, it would be found out', () => {
    const o = {
      write: (p: PartitionWriter) => {
        // 64 removals make the coordinator look whether slots in limbo are free.
        for (let n = 1; n <= 64; n++) p.remove(slotOf(p, n));
        for (let n = 1; n <= 4; n++) add(p, 100 + n);
      },
      read: (p: Partition) => search(p, 64),
      check: ({ found, state, expires }: ReturnType<typeof search>) => {
        if (found < 0) return;
        assert.equal(state, 64, 'the slot is used by another');
        assert.ok(expires === 5064 || expires === 0, 'the slot is used by another');
      },
    };
    const setUpMany = (epoch: () => number, grace: number) => () => {
      const memory = allocatePartition(200, SEED);
      const writer = new PartitionWriter(memory, epoch, grace);
      for (let i = 1; i <= 64; i++) add(writer, i);
      return { writer, reader: new Partition(memory) };
    };
    explore({ ...o, setUp: setUpMany(() => 0, 1) });
    assert.throws(() => explore({ ...o, setUp: setUpMany(() => 0, 0) }), /the slot is used by another/);
  });
});
