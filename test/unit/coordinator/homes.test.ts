/** Homes of packets in steered mode: what is called back from where, without any threads. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PartitionWriter } from '../../../src/conntrack/partition.js';
import { type Ask, Homes } from '../../../src/coordinator/homes.js';
import { Directory } from '../../../src/rss/directory.js';
import { TupleHash } from '../../../src/rss/steer.js';
import { ADDR6, CONN, NAT, STATE_TRANSLATED } from '../../../src/shm/layouts.js';
import { PacketColumns } from '../../../src/shm/packets.js';

const SLOTS = 64;
const UDP = 17;

/** A tuple of UDP: source, destination, ports. */
type Tuple = readonly [number, number, number];

/** Homes of four workers beside a partition that only has records. */
class Bench {
  readonly packets = new PacketColumns(SLOTS);
  readonly tuples = new TupleHash(1);
  readonly directory = new Directory(SLOTS, 1);
  readonly done = new Set<number>();
  readonly asked: { home: number; hash: number; rows: readonly number[]; id: number }[] = [];
  readonly homes = new Homes({
    packets: this.packets,
    directory: this.directory,
    tuples: this.tuples,
    // The home of a hash is its last two bits.
    indirection: Int32Array.of(0, 1, 2, 3),
    capacity: 100,
    isDone: (row) => this.done.has(row),
    mayAnswer: () => this.guess,
  });
  readonly ask: Ask = (home, move, hash, rows) => {
    this.asked.push({ home, hash, rows: [...rows], id: move.id });
  };
  guess = false;
  private seq = 0;
  private slots = 0;
  private readonly partition = {
    hot: new Int32Array(100 << CONN.shift),
    nat: new Int32Array(100 << NAT.shift),
    addr6: new Int32Array(100 << ADDR6.shift),
  };

  hashOf([src, dst, ports]: Tuple): number {
    return this.tuples.ofTuple(UDP, src, dst, ports);
  }

  /** A packet is dispatched: its window slot, and the home that it goes to. */
  comes(tuple: Tuple): { row: number; home: number } {
    const row = this.seq % SLOTS;
    this.packets.seq[row] = this.seq++;
    this.packets.hash[row] = this.hashOf(tuple);
    const home = new Int32Array(1);
    this.homes.steer(Int32Array.of(row), 1, home);
    return { row, home: home[0] };
  }

  /** The packet in `row` makes a connection; whether the tuple of its replies may be found at once. */
  makes(row: number, [src, dst, ports]: Tuple, replies: Tuple | null): { slot: number; whole: boolean } {
    const slot = this.slots++;
    const { hot, nat } = this.partition;
    const c = slot << CONN.shift;
    hot[c + CONN.at.SRC] = src;
    hot[c + CONN.at.DST] = dst;
    hot[c + CONN.at.PORTS] = ports;
    hot[c + CONN.at.ZONE_PROTO] = UDP << 8;
    if (replies !== null) {
      hot[c + CONN.at.STATE] = STATE_TRANSLATED;
      const n = slot << NAT.shift;
      [nat[n + NAT.at.SRC], nat[n + NAT.at.DST], nat[n + NAT.at.PORTS]] = replies;
    }
    return { slot, whole: this.homes.made(this.partition as unknown as PartitionWriter, slot, row) };
  }

  /** Makes a connection whose move begins. */
  begins(row: number, tuple: Tuple, replies: Tuple): number {
    const { slot, whole } = this.makes(row, tuple, replies);
    assert.ok(!whole && this.homes.mustMove);
    this.homes.begin(row % 4, row, this.ask);
    return slot;
  }
}

/** Replies of the n-th tuple; both of any two have different hashes. */
const tuple = (n: number): Tuple => [0x0a000001 + n, 0x0a010001, (5000 << 16) | 80];
const reply = (n: number): Tuple => [0x0a010001, 0x0a090001, (80 << 16) | (5000 + n)];

test('homes: connections bring both tuples to one home, until they are gone and nothing is in flight', () => {
  const b = new Bench();
  const first = b.comes(tuple(1));
  const { slot, whole } = b.makes(first.row, tuple(1), reply(1));
  assert.ok(whole);
  const back = b.comes(reply(1));
  assert.equal(back.home, first.home);
  assert.equal(b.packets.hash[back.row], b.hashOf(tuple(1)));
  b.homes.removed(slot);
  // Packets are in flight that were told so.
  assert.equal(b.packets.hash[b.comes(reply(1)).row], b.hashOf(tuple(1)));
  for (const row of [0, 1, 2]) b.homes.collected(row);
  assert.equal(b.packets.hash[b.comes(reply(1)).row], b.hashOf(reply(1)));
});

test('homes: packets in flight behind the connection are called back from where they are, in input order', () => {
  const b = new Bench();
  const before = b.comes(reply(1));
  const { row } = b.comes(tuple(1));
  const behind = [b.comes(reply(1)), b.comes(reply(1)), b.comes(reply(1))].map((p) => p.row);
  b.done.add(behind[1]);
  b.begins(row, tuple(1), reply(1));
  const hash = b.hashOf(reply(1));
  assert.deepEqual(b.asked, [{ home: hash & 3, hash, rows: [behind[0], behind[2]], id: 0 }]);
  // Nothing that they ask for is answered until they are where they belong; older ones are.
  assert.deepEqual(
    [before.row, ...behind].map((r) => b.homes.isCalledBack(r)),
    [false, true, true, true],
  );
  assert.equal(b.homes.finished(), null);
  b.homes.surrendered(0, Int32Array.of(behind[2], behind[0]));
  assert.deepEqual(b.homes.finished()?.rows, [behind[0], behind[2]]);
  assert.deepEqual(
    [...behind].map((r) => b.homes.isCalledBack(r)),
    [false, false, false],
  );
  assert.equal(b.packets.hash[behind[0]], b.packets.hash[row]);
  assert.ok(!b.homes.moving);
});

test('homes: a connection whose replies have the hash of a live one brings all packets of that one', () => {
  const b = new Bench();
  const other = b.comes(tuple(9));
  b.makes(other.row, tuple(9), reply(9));
  const { row } = b.comes(tuple(1));
  const [there, back] = [b.comes(tuple(9)).row, b.comes(reply(9)).row];
  b.begins(row, tuple(1), tuple(9));
  const hash = b.hashOf(tuple(9));
  assert.deepEqual(b.asked, [{ home: hash & 3, hash, rows: [there, back], id: 0 }]);
  b.homes.surrendered(0, Int32Array.of(there, back));
  b.homes.finished();
  const into = b.hashOf(tuple(1));
  for (const t of [tuple(9), reply(9), tuple(1)]) assert.equal(b.packets.hash[b.comes(t).row], into);
});

test('homes: who is to bring packets that are on their way waits for them', () => {
  const b = new Bench();
  const first = b.comes(tuple(1)).row;
  const second = b.comes(tuple(2)).row;
  const behind = b.comes(reply(1)).row;
  b.begins(first, tuple(1), reply(1));
  // The replies of the second connection have the hash of the first, whose answers are on their way.
  b.begins(second, tuple(2), tuple(1));
  assert.equal(b.asked.length, 1);
  b.homes.surrendered(0, Int32Array.of(behind));
  assert.equal(b.homes.finished()?.row, first);
  b.homes.goOn(b.ask);
  assert.deepEqual(b.asked[1], {
    home: b.hashOf(tuple(1)) & 3,
    hash: b.hashOf(tuple(1)),
    rows: [behind],
    id: 1,
  });
  b.homes.surrendered(1, Int32Array.of(behind));
  assert.deepEqual(b.homes.finished()?.rows, [behind]);
  assert.equal(b.packets.hash[behind], b.hashOf(tuple(2)));
});

test('homes: probable answers are kept, come with the connection, or are let go in their turn', () => {
  const b = new Bench();
  const { row } = b.comes(tuple(1));
  b.guess = true;
  const kept = [b.comes(reply(1)), b.comes(reply(1))];
  const stranger = b.comes(reply(2));
  assert.deepEqual(
    [...kept, stranger].map((p) => p.home),
    [-1, -1, -1],
  );
  assert.ok(b.makes(row, tuple(1), reply(1)).whole);
  assert.deepEqual(
    b.homes.arrivals,
    kept.map((p) => p.row),
  );
  assert.equal(b.packets.hash[kept[1].row], b.packets.hash[row]);
  assert.equal(b.homes.letGo(kept[0].row), null);
  assert.ok(b.homes.keeping);
  assert.deepEqual(b.homes.letGo(stranger.row), [stranger.row]);
  assert.ok(!b.homes.keeping);
});
