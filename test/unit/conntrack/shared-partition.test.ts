/** What a partition that several workers share adds: tuples that are withheld, connections that a later packet has
 *  ended, and what a packet is forgotten by. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tupleHash } from '../../../src/conntrack/hash.js';
import { allocatePartition, Partition, PartitionWriter } from '../../../src/conntrack/partition.js';
import { allocateTimeouts } from '../../../src/conntrack/timeouts.js';
import { PacketContext } from '../../../src/datapath/context.js';
import { COLD, CONN, NAT, STATE_TRANSLATED } from '../../../src/shm/layouts.js';

const SEED = 99;
const UDP = 17 << 8;
const [CLIENT, SERVER, OUTSIDE] = [0x0a000001, 0x0a000101, 0x0a090001];
const PORTS = (1000 << 16) | 53;
const BACK = (53 << 16) | 1000;

class Bench {
  epoch = 0;
  readonly memory = allocatePartition(40, SEED, allocateTimeouts(), false, true);
  readonly writer = new PartitionWriter(this.memory, () => this.epoch, 2);
  readonly reader = new Partition(this.memory);

  /** CLIENT to SERVER, translated to OUTSIDE, live until `expires`. */
  publish(expires: number, whole: boolean): number {
    const { writer } = this;
    const slot = writer.allocate();
    const c = slot << CONN.shift;
    const { hot, nat } = writer;
    hot[c + CONN.at.SRC] = CLIENT;
    hot[c + CONN.at.DST] = SERVER;
    hot[c + CONN.at.PORTS] = PORTS;
    hot[c + CONN.at.ZONE_PROTO] = UDP;
    hot[c + CONN.at.STATE] = STATE_TRANSLATED;
    writer.hotF64[(c + CONN.at.EXPIRES) >> 1] = expires;
    const n = slot << NAT.shift;
    nat[n + NAT.at.SRC] = SERVER;
    nat[n + NAT.at.DST] = OUTSIDE;
    nat[n + NAT.at.PORTS] = BACK;
    writer.publish(slot, false, whole);
    return slot;
  }

  private hashOf(src: number, dst: number, ports: number): number {
    return tupleHash(SEED, src, dst, ports, UDP);
  }

  /** What a worker finds for the replies' tuple. */
  found(now: number): number {
    this.reader.refresh();
    return this.reader.find(this.hashOf(SERVER, OUTSIDE, BACK), SERVER, OUTSIDE, BACK, UDP, UDP, null, now);
  }

  taken(now: number, seq: number): boolean {
    const hash = this.hashOf(SERVER, OUTSIDE, BACK);
    return this.writer.isTaken(hash, SERVER, OUTSIDE, BACK, UDP, UDP, null, now, seq);
  }
}

test('shared partition: a withheld tuple is taken, but found only when it is published', () => {
  const b = new Bench();
  const slot = b.publish(100, false);
  assert.equal(b.found(5), -1);
  assert.equal(b.taken(5, 1), true);
  assert.equal(b.taken(100, 1), false, 'it has ended');
  // Growing builds the index anew.
  for (let i = 0; i < 3; i++) b.publish(100, true);
  b.writer.publishReply(slot);
  assert.notEqual(b.found(5), -1);
  b.writer.remove(slot);
});

test('shared partition: a slot that is removed while its tuple is withheld is not used again before', () => {
  const b = new Bench();
  const slot = b.publish(10, false);
  b.writer.remove(slot);
  assert.equal(b.taken(5, 1), false);
  const slots = new Set<number>();
  const drain = () => {
    for (let at = b.writer.allocate(); at >= 0; at = b.writer.allocate()) slots.add(at);
  };
  b.epoch += 5;
  drain();
  assert.equal(slots.has(slot), false);
  b.writer.publishReply(slot);
  b.epoch += 1;
  drain();
  assert.equal(slots.has(slot), false, 'a worker may be in the vector in which it began');
  b.epoch += 1;
  drain();
  assert.equal(slots.has(slot), true);
});

test('shared partition: who is ended by a later packet of the same time is live for an earlier one', () => {
  const b = new Bench();
  const slot = b.publish(100, true);
  b.writer.end(slot, 50, 7);
  assert.equal(b.found(50), -1);
  assert.deepEqual(
    [b.taken(50, 6), b.taken(50, 7), b.taken(50, 8), b.taken(51, 6)],
    [true, false, false, false],
  );
});

test('shared partition: a packet that is forgotten gives connections back what they were', () => {
  const b = new Bench();
  const slot = b.publish(100, true);
  const { hot, cold } = b.reader;
  const c = slot << CONN.shift;
  const m = slot << COLD.shift;
  const before = [hot.slice(c, c + CONN.words), cold.slice(m, m + COLD.words)];
  const ctx = new PacketContext(new DataView(new ArrayBuffer(8)), new Uint8Array(8));
  ctx.keep(b.reader, slot);
  b.reader.end(slot, 50, 7);
  // What it was is what it was before the packet came.
  ctx.keep(b.reader, slot);
  hot[c + CONN.at.PKTS_0]++;
  cold[m + COLD.at.MARK] = 9;
  assert.equal(b.found(50), -1);
  ctx.restore(b.reader);
  assert.deepEqual([hot.slice(c, c + CONN.words), cold.slice(m, m + COLD.words)], before);
  assert.notEqual(b.found(50), -1);
  assert.equal(ctx.nKept, 0);
});
