/** A partition beside a plain Map; then with a thread that searches while another publishes and removes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { tupleHash } from '../../../src/conntrack/hash.js';
import {
  allocatePartition,
  Partition,
  PartitionWriter,
  REMOVED_EVICTED,
  tagOf,
} from '../../../src/conntrack/partition.js';
import { ADDR6, COLD, CONN, KIND_IPV6, TAG_FREE, TAG_REMOVED } from '../../../src/shm/layouts.js';
import { Random } from '../../support/packets.js';
import { find, publish, reversed, type Tuple, tuple4, tuple6, wrongWord } from './model.js';

const SEED = 0x1234567;
const NEVER = Number.MAX_SAFE_INTEGER;

/** Tuples that all hash to the first bucket of every level that tests reach. */
function colliding(n: number): Tuple[] {
  const found: Tuple[] = [];
  for (let i = 1; found.length < n; i++) {
    const t = tuple4(0x0a000000 + i, 0x0b000000, 1000, 80, 0, 17);
    if ((tupleHash(SEED, t.src, t.dst, t.ports, t.zoneProto) & 0xff) === 0) found.push(t);
  }
  return found;
}

function scattered(n: number): Tuple[] {
  return Array.from({ length: n }, (_, i) => {
    if (i % 5 !== 0) return tuple4(0x0a000000 + i * 7919, 0x0b000001, 1000 + (i % 9), 80, i % 3, 6);
    return tuple6(SEED, Int32Array.of(0xfd00 << 16, 0, 0, i, 0xfd00 << 16, 0, 0, 9), 1000, 53, i % 3, 17);
  });
}

const COLLIDING = colliding(24);
const POOL = [...COLLIDING, ...scattered(40)];

/** Drives a partition and its model. Every search is done through a second view, as a worker's would be. */
class Bench {
  readonly memory;
  readonly writer: PartitionWriter;
  readonly reader: Partition;
  readonly model = new Map<number, { slot: number; expires: number; generation: number }>();
  epoch = 0;
  generation = 0;

  constructor(capacity: number) {
    this.memory = allocatePartition(capacity, SEED);
    this.writer = new PartitionWriter(this.memory, () => this.epoch);
    this.reader = new Partition(this.memory);
  }

  publish(tuple: number, expires: number): boolean {
    const slot = publish(this.writer, POOL[tuple], ++this.generation, expires);
    if (slot >= 0) this.model.set(tuple, { slot, expires, generation: this.generation });
    return slot >= 0;
  }

  remove(tuple: number): void {
    this.writer.remove(this.model.get(tuple)!.slot);
    this.model.delete(tuple);
  }

  check(now: number): void {
    this.reader.refresh();
    POOL.forEach((t, i) => {
      const entry = this.model.get(i);
      const live = entry !== undefined && entry.expires > now;
      const there = find(this.reader, t, now);
      const back = find(this.reader, reversed(t), now);
      assert.equal(there, live ? entry.slot << 1 : -1, `tuple ${i}, original direction`);
      assert.equal(back, live ? (entry.slot << 1) | 1 : -1, `tuple ${i}, reply`);
      if (live) {
        assert.equal(wrongWord(this.reader, entry.slot, t), -1);
        assert.equal(this.reader.hot[(entry.slot << CONN.shift) + CONN.at.STATE], entry.generation);
      }
    });
    assert.equal(this.writer.count, this.model.size);
  }
}

/** Draws what the datapath does to connections: packets that refresh them, for no less than `shortest` from then
 *  on, and packets that end them on the spot. `watched` says whether the sweep must know every end at once. */
function sweepsExactly(watched: 'all' | 'some' | 'later'): void {
  const SHORTEST = 50;
  const step = fc.record({
    op: fc.constantFrom('publish', 'publish', 'refresh', 'refresh', 'end', 'time', 'time', 'sweep'),
    slot: fc.nat(15),
    ms: fc.oneof(fc.nat(60), fc.nat(1000), fc.constant(70_000)),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      let epoch = 0;
      const writer = new PartitionWriter(allocatePartition(64, SEED), () => epoch++);
      writer.setShortest(SHORTEST, 0);
      if (watched === 'all') writer.watchAll(true, 0);
      const reasons: number[] = [];
      writer.onRemove = (_slot, reason) => reasons.push(reason);
      /** By tuple. */
      const model = new Map<number, { slot: number; expires: number; ended: boolean; watched: boolean }>();
      let now = 1;
      let evicted = 0;
      const setEnd = (slot: number, expires: number) => {
        writer.hotF64[((slot << CONN.shift) + CONN.at.EXPIRES) >> 1] = expires;
      };
      const gone = (close: boolean) => {
        for (const [tuple, c] of model) {
          if (writer.used[c.slot]) {
            const late = close && (c.watched || watched === 'all') && c.expires < now;
            assert.ok(!late, `the end at ${c.expires} has not been noticed at ${now}`);
          } else {
            assert.ok(c.expires < now, `removed at ${now}, though it lives until ${c.expires}`);
            if (c.ended) evicted++;
            model.delete(tuple);
          }
        }
        assert.equal(writer.count, model.size);
      };
      for (const { op, slot: tuple, ms } of steps) {
        const c = model.get(tuple);
        if (op === 'publish' && c === undefined) {
          const close = watched === 'some' && tuple % 2 === 0;
          const slot = publish(writer, POOL[tuple], 0, now + SHORTEST + ms, now, close);
          model.set(tuple, { slot, expires: now + SHORTEST + ms, ended: false, watched: close });
        } else if (op === 'refresh' && c !== undefined && c.expires > now) {
          c.expires = now + SHORTEST + ms;
          setEnd(c.slot, c.expires);
        } else if (op === 'end' && c !== undefined && c.expires > now) {
          c.expires = now;
          c.ended = true;
          writer.end(c.slot, now);
        } else if (op === 'time') {
          now += ms;
        } else if (op === 'sweep') {
          writer.sweep(now, ms === 0 ? 3 : Infinity);
          gone(ms !== 0);
        }
      }
      if (watched === 'later') {
        writer.watchAll(true, now);
        for (const c of model.values()) c.watched = true;
        writer.sweep(now, Infinity);
      } else {
        now += 10_000_000;
        writer.sweepAll(now);
        assert.equal(writer.count, 0);
      }
      gone(true);
      assert.equal(reasons.filter((r) => r === REMOVED_EVICTED).length, evicted);
    }),
    { numRuns: 200 },
  );
}

test('partition: once all connections are watched, a sweep finds every end there is (property)', () => {
  sweepsExactly('all');
  sweepsExactly('later');
});

test('partition: a sweep finds every end of connections that are watched, among others (property)', () => {
  sweepsExactly('some');
});

test('partition: more ends than can be reported are found all the same', () => {
  let epoch = 0;
  const writer = new PartitionWriter(allocatePartition(8, SEED), () => epoch++);
  writer.watchAll(true, 0);
  const slots = [0, 1, 2].map((tuple) => publish(writer, POOL[tuple], 0, 90_000, 1, false));
  writer.end(slots[0], 5);
  for (let i = 0; i < 70_000; i++) writer.end(slots[1], 5);
  writer.sweep(6, Infinity);
  assert.deepEqual(
    [...slots].map((slot) => writer.used[slot] !== 0),
    [false, false, true],
  );
});

test('partition: a bucket that was full once does not send searches on for ever', () => {
  const b = new Bench(64);
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < COLLIDING.length; i++) b.publish(i, NEVER);
    b.check(1);
    for (let i = 0; i < COLLIDING.length; i++) b.remove((i * 7 + round) % COLLIDING.length);
    const index = new Int32Array(b.memory.index);
    const tags = Array.from({ length: index.length / 16 }, (_, bucket) => [
      ...index.subarray(bucket * 16, bucket * 16 + 8),
    ]);
    assert.ok(
      tags.flat().every((tag) => tag === TAG_FREE),
      `round ${round}: ways that are neither free nor in use: ${tags.flat().filter((t) => t === TAG_REMOVED).length}`,
    );
    b.epoch++;
  }
});

test('partition: behaves like a Map through publishing, removal, expiry, sweeps and collisions (property)', () => {
  const command = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        op: fc.constant('publish' as const),
        tuple: fc.nat(POOL.length - 1),
        ttl: fc.nat(50),
      }),
    },
    {
      weight: 4,
      arbitrary: fc.record({
        op: fc.constant('remove' as const),
        tuple: fc.nat(POOL.length - 1),
        ttl: fc.constant(0),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ op: fc.constant('sweep' as const), tuple: fc.nat(40), ttl: fc.constant(0) }),
    },
    {
      weight: 3,
      arbitrary: fc.record({ op: fc.constant('time' as const), tuple: fc.nat(9), ttl: fc.constant(0) }),
    },
    {
      weight: 3,
      arbitrary: fc.record({ op: fc.constant('epoch' as const), tuple: fc.constant(0), ttl: fc.constant(0) }),
    },
  );
  fc.assert(
    fc.property(
      fc.integer({ min: 8, max: 80 }),
      fc.array(command, { maxLength: 150 }),
      (capacity, commands) => {
        const b = new Bench(capacity);
        let now = 1;
        for (const { op, tuple, ttl } of commands) {
          if (op === 'publish') {
            // The coordinator never publishes a tuple twice while it lives; a dead one may still be there.
            const old = b.model.get(tuple);
            if (old !== undefined) {
              if (old.expires > now) continue;
              b.remove(tuple);
            }
            b.publish(tuple, now + ttl);
          } else if (op === 'remove') {
            if (b.model.has(tuple)) b.remove(tuple);
          } else if (op === 'sweep') {
            const before = b.writer.count;
            const removed = b.writer.sweep(now, tuple === 0 ? Infinity : tuple);
            assert.equal(before - b.writer.count, removed);
            for (const [i, { slot, expires }] of b.model) {
              if (!b.writer.used[slot]) {
                assert.ok(expires < now, `tuple ${i} was swept at ${now} although it lives until ${expires}`);
                b.model.delete(i);
              } else if (tuple === 0) {
                assert.ok(
                  expires >= now,
                  `tuple ${i} ended at ${expires} and survived a whole sweep at ${now}`,
                );
              }
            }
          } else if (op === 'time') now += tuple;
          else b.epoch++;
          b.check(now);
        }
      },
    ),
    { numRuns: 150 },
  );
});

test('partition: removing the first of a bucket leaves the others findable', () => {
  const b = new Bench(64);
  for (let i = 0; i < 3; i++) assert.ok(b.publish(i, NEVER));
  b.remove(0);
  b.check(0);
  b.remove(1);
  b.check(0);
});

test('partition: a bucket that was full stays a way to the next one, whatever is removed from it', () => {
  const b = new Bench(64);
  for (let i = 0; i < 20; i++) assert.ok(b.publish(i, NEVER));
  for (const i of [7, 0, 3, 6, 1, 2, 4, 5]) {
    b.remove(i);
    b.check(0);
  }
  b.epoch++;
  for (let i = 0; i < 8; i++) assert.ok(b.publish(i, NEVER));
  b.check(0);
});

test('partition: emptied buckets become free again, so that misses stay short', () => {
  const b = new Bench(64);
  for (let round = 0; round < 50; round++) {
    for (let i = 0; i < 6; i++) b.publish(i, NEVER);
    for (let i = 0; i < 6; i++) b.remove(i);
    b.epoch++;
  }
  const tags = new Int32Array(b.memory.index).subarray(0, 8);
  assert.deepEqual([...tags], new Array(8).fill(TAG_FREE));
});

test('partition: a full partition says so, and a slot in limbo is reused only when the epoch has moved', () => {
  const b = new Bench(8);
  for (let i = 0; i < 8; i++) assert.ok(b.publish(i, NEVER));
  assert.equal(b.publish(8, NEVER), false);
  b.remove(3);
  assert.equal(b.publish(8, NEVER), false, 'the worker may still look at slot 3');
  b.epoch++;
  assert.ok(b.publish(8, NEVER));
  b.check(0);
});

test('partition: growth keeps every record, and a view that has not noticed still finds the old ones', () => {
  const memory = allocatePartition(5000, SEED);
  const writer = new PartitionWriter(memory, () => 0);
  const reader = new Partition(memory);
  const stale = new Partition(memory);
  const many = scattered(2000);
  const slots = many.map((t, i) => {
    const slot = publish(writer, t, i + 1, NEVER);
    if (i === 100) {
      for (let k = 0; k <= i; k++) assert.ok(find(stale, many[k]) >= 0);
    }
    return slot;
  });
  reader.refresh();
  assert.ok(reader.mask > stale.mask, 'the index never grew: this test tests nothing');
  many.forEach((t, i) => {
    assert.equal(find(reader, t), slots[i] << 1);
    assert.equal(wrongWord(reader, slots[i], t), -1);
  });
  // Three hundred fit before the first growth: the stale view has those.
  for (let k = 0; k < 300; k++) assert.equal(find(stale, many[k]), slots[k] << 1);
});

test('partition: slabs and index are written only where records are (canaries)', () => {
  const capacity = 300;
  const memory = allocatePartition(capacity, SEED);
  const CANARY = 0x5ca1ab1e;
  const hot = new Int32Array(memory.hot);
  const cold = new Int32Array(memory.cold);
  const addr6 = new Int32Array(memory.addr6);
  const writer = new PartitionWriter(memory, () => 0);
  const used = 120;
  hot.fill(CANARY, used << CONN.shift);
  cold.fill(CANARY, used << COLD.shift);
  addr6.fill(CANARY, used << ADDR6.shift);
  const six = Array.from({ length: used }, (_, i) =>
    tuple6(
      SEED,
      Int32Array.from({ length: 8 }, (_x, k) => i * 31 + k),
      1,
      2,
      0,
      17,
    ),
  );
  const slots = six.map((t, i) => publish(writer, t, i, NEVER));
  assert.equal(Math.max(...slots), used - 1);
  for (let i = 0; i < used; i += 2) writer.remove(slots[i]);
  const intact = (slab: Int32Array, from: number) => slab.subarray(from).every((w) => w === CANARY);
  assert.ok(intact(hot, used << CONN.shift), 'hot slab');
  assert.ok(intact(cold, used << COLD.shift), 'cold slab');
  assert.ok(intact(addr6, used << ADDR6.shift), 'address slab');
  assert.ok(memory.hot.byteLength >= capacity * 64);
});

test('partition: a hash that looks like a free or removed way is given another tag', () => {
  for (const hash of [TAG_FREE, TAG_REMOVED]) {
    const tag = tagOf(hash);
    assert.ok(tag !== TAG_FREE && tag !== TAG_REMOVED);
  }
  assert.equal(tagOf(77), 77);
});

test('partition: IPv6 tuples that fold to the same words are told apart by their addresses', () => {
  const b = allocatePartition(16, SEED);
  const writer = new PartitionWriter(b, () => 0);
  const one = Int32Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  const two = Int32Array.of(9, 2, 3, 4, 5, 6, 7, 8);
  const t = tuple6(SEED, one, 5, 6, 0, 17);
  const twin: Tuple = { ...t, addr6: two };
  const slot = publish(writer, t, 1, NEVER);
  assert.equal(find(writer, t), slot << 1);
  assert.equal(find(writer, twin), -1);
  assert.equal(find(writer, reversed(twin)), -1);
  assert.equal(t.zoneProto & 0xff, KIND_IPV6);
  const second = publish(writer, twin, 1, NEVER);
  assert.equal(find(writer, twin), second << 1);
  assert.equal(find(writer, t), slot << 1);
});

test('partition: the same tuple in another zone or protocol is another connection', () => {
  const writer = new PartitionWriter(allocatePartition(16, SEED), () => 0);
  const a = tuple4(1, 2, 3, 4, 0, 6);
  publish(writer, a, 1, NEVER);
  assert.equal(find(writer, tuple4(1, 2, 3, 4, 1, 6)), -1);
  assert.equal(find(writer, tuple4(1, 2, 3, 4, 0, 17)), -1);
  assert.ok(find(writer, a) >= 0);
});

test('hash: both directions agree, and fold6 looks at every word (seeded property)', () => {
  const r = new Random(5);
  for (let i = 0; i < 500; i++) {
    const [seed, src, dst, ports] = [r.word() | 0, r.word() | 0, r.word() | 0, r.word() | 0];
    const swapped = (ports << 16) | (ports >>> 16);
    assert.equal(tupleHash(seed, src, dst, ports, 0x60600), tupleHash(seed, dst, src, swapped, 0x60600));
  }
});

test('partition: a thread that searches never sees a foreign or half-written record', async () => {
  const capacity = 4000;
  const memory = allocatePartition(capacity, SEED);
  const ctl = new SharedArrayBuffer(64);
  const words = new Int32Array(ctl);
  const tuples = [...COLLIDING, ...scattered(1600)];
  const order = new Random(11);
  // The stable ones are among the colliding ones and the others alike.
  for (let i = tuples.length - 1; i > 0; i--) {
    const k = order.int(i + 1);
    [tuples[i], tuples[k]] = [tuples[k], tuples[i]];
  }
  const nStable = 100;
  const writer = new PartitionWriter(memory, () => Atomics.load(words, 1));
  const slots = new Map<number, number>();
  let generation = 0;
  const add = (i: number) => {
    const slot = publish(writer, tuples[i], ++generation & 0xffffff, NEVER);
    if (slot >= 0) slots.set(i, slot);
    return slot >= 0;
  };
  for (let i = 0; i < nStable; i++) add(i);
  const worker = new Worker(new URL('./search-worker.js', import.meta.url), {
    workerData: { memory, ctl, tuples, nStable },
  });
  const exited = new Promise<number>((resolve, reject) => {
    worker.on('error', reject);
    worker.on('exit', resolve);
  });
  const r = new Random(Number(process.env.SHARDTRACK_PROPERTY_SEED ?? 2024));
  let changes = 0;
  const began = Date.now();
  // Until enough has happened, however slow the machine is.
  const enough = () => Date.now() - began > 1500 && words[4] > 5000 && words[6] >= 2 && changes > 20_000;
  let target = 200;
  while (!enough() && Date.now() - began < 8000 && words[2] === 0) {
    // Slowly towards the full pool, so that the index grows several times while it is searched.
    target = Math.min(tuples.length - 20, target + 3);
    for (let n = 1 + r.int(60); n > 0; n--) {
      const i = nStable + r.int(tuples.length - nStable);
      const slot = slots.get(i);
      if (slot === undefined) {
        if (slots.size < target) add(i);
      } else if (slots.size > target - 150 && r.once(2)) {
        writer.remove(slot);
        slots.delete(i);
      }
      changes++;
    }
    // It searches between any two rounds; sometimes for longer.
    for (let tries = 0, epoch = words[1]; Atomics.load(words, 1) === epoch && tries < 20; tries++)
      Atomics.wait(words, 15, 0, 0.1);
    if (r.once(3)) Atomics.wait(words, 15, 0, r.int(10) / 20);
  }
  Atomics.store(words, 0, 1);
  assert.equal(await exited, 0);
  const [, , error, detail, found, searched, grown] = words;
  const names = [
    '',
    'a connection that is always there was not found',
    'a wrong record was found',
    'a record changed before the end of the vector',
  ];
  assert.equal(error, 0, `${names[error]} (detail ${detail}) after ${changes} changes, ${searched} searches`);
  assert.ok(found > 1000 && searched > found, `${searched} searches, ${found} found: too few to tell`);
  assert.ok(grown >= 2, 'the index never grew under the search');
  assert.ok(changes > 2000);
  // What the writer believes in the end is what a fresh view finds.
  const fresh = new Partition(memory);
  tuples.forEach((t, i) => {
    assert.equal(find(fresh, t), slots.has(i) ? slots.get(i)! << 1 : -1);
  });
});
