/** Which address and port a connection is translated to, and that both its tuples find it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tupleHash } from '../../../src/conntrack/hash.js';
import { ConnKey } from '../../../src/conntrack/key.js';
import {
  ASK_HASH,
  ASK_MAX,
  ASK_MIN,
  ASK_PORTS,
  Binder,
  HASHED_ASK_WORDS,
  NAT_ADDRESS,
  NAT_DST,
  NAT_ON,
  NAT_PERSISTENT,
  NAT_RANDOM,
  NAT_SRC,
  rangeHash,
} from '../../../src/conntrack/nat.js';
import { allocatePartition, Partition, PartitionWriter } from '../../../src/conntrack/partition.js';
import { COLD, CONN, STATE_TRANSLATED } from '../../../src/shm/layouts.js';

const SEED = 77;
const TCP = 6;
const ICMP = 1;
const GRE = 47;
const ASK = CONN.words;

const ip = (text: string): number => text.split('.').reduce((n, part) => (n << 8) | Number(part), 0);
const SERVER = ip('10.0.1.1');
const OUT = ip('10.9.0.1');

interface Wanted {
  proto?: number;
  src?: string;
  sport?: number;
  dport?: number;
  flags?: number;
  min?: number;
  max?: number;
  ports?: [number, number];
  seq?: number;
}

/** A coordinator's side of a partition. */
class Bench {
  readonly memory;
  readonly writer;
  readonly reader;
  readonly binder = new Binder();
  private seq = 0;

  constructor(capacity = 2000) {
    this.memory = allocatePartition(capacity, SEED);
    this.writer = new PartitionWriter(this.memory, () => 0);
    this.reader = new Partition(this.memory);
  }

  /** The reply's source and destination port if there is a tuple for it; publishes the connection. */
  commit(w: Wanted): { slot: number; src: number; dst: number; sport: number; dport: number } | null {
    const { writer, binder } = this;
    const words = new Int32Array(CONN.words + HASHED_ASK_WORDS);
    const proto = w.proto ?? TCP;
    const sport = w.sport ?? 40000;
    words[CONN.at.SRC] = ip(w.src ?? '10.0.0.1');
    words[CONN.at.DST] = SERVER;
    words[CONN.at.PORTS] = proto === GRE ? 0 : (sport << 16) | (proto === ICMP ? sport : (w.dport ?? 80));
    words[CONN.at.ZONE_PROTO] = (5 << 16) | (proto << 8) | (proto === ICMP ? 8 : 0);
    words[ASK] = NAT_ON | NAT_ADDRESS | (w.flags ?? NAT_SRC);
    words[ASK + ASK_MIN] = w.min ?? OUT;
    words[ASK + ASK_MAX] = w.max ?? w.min ?? OUT;
    const [first, last] = w.ports ?? [0, 0];
    words[ASK + ASK_PORTS] = (first << 16) | last;
    words[ASK + ASK_HASH] = rangeHash(words, 0, -1, ASK, false);
    const seq = w.seq ?? this.seq++;
    if (!binder.choose(writer, words, 0, -1, ASK, seq, 0)) return null;
    const slot = writer.allocate();
    const c = slot << CONN.shift;
    writer.hot.set(words.subarray(0, CONN.words), c);
    writer.hot[c + CONN.at.STATE] = STATE_TRANSLATED;
    writer.hotF64[(c + CONN.at.EXPIRES) >> 1] = 1000;
    writer.coldF64[((slot << COLD.shift) + COLD.at.CREATED) >> 1] = seq;
    binder.store(slot, NAT_SRC);
    writer.publish(slot);
    const { src, dst, ports } = binder;
    return { slot, src, dst, sport: ports >>> 16, dport: ports & 0xffff };
  }

  find(slot: number, reply: number): number {
    const key = new ConnKey();
    this.reader.refresh();
    this.writer.load(slot, reply, key);
    const { src, dst, ports, zoneProto, zoneProtoReply, hash } = key;
    assert.equal(hash, tupleHash(SEED, src, dst, ports, zoneProto));
    return this.reader.find(hash, src, dst, ports, zoneProto, zoneProtoReply, null, 0);
  }
}

test('snat: the source port stays if it can, else counts up within its class and round', () => {
  for (const [port, second] of [
    [40000, 40001],
    [65535, 1024],
    [511, 1],
    [1023, 600],
    // 512 to 599 belong to no class: what clashes there goes to 600.
    [512, 600],
    [599, 600],
  ] as const) {
    const b = new Bench();
    assert.equal(b.commit({ sport: port })!.dport, port);
    assert.equal(b.commit({ sport: port, src: '10.0.0.2' })!.dport, second, `clash of port ${port}`);
  }
});

test('snat: another server port is no clash', () => {
  const b = new Bench();
  b.commit({ dport: 80 });
  assert.equal(b.commit({ dport: 81, src: '10.0.0.2' })!.dport, 40000);
});

test('snat: a port range is used up to the last one, then the new flow is refused', () => {
  const b = new Bench();
  const ports = new Set<number>();
  for (let i = 1; i <= 8; i++) ports.add(b.commit({ src: `10.0.0.${i}`, ports: [3000, 3007] })!.dport);
  assert.deepEqual([...ports].sort(), [3000, 3001, 3002, 3003, 3004, 3005, 3006, 3007]);
  assert.equal(b.commit({ src: '10.0.0.9', ports: [3000, 3007] }), null);
});

test('snat: a large range is not searched to its end', () => {
  const b = new Bench(70_000);
  let made = 0;
  while (b.commit({ src: `10.0.${made >> 8}.${made & 255}`, ports: [2000, 4999] }) !== null) made++;
  assert.ok(made > 2500 && made < 3000, `${made} of 3000 ports`);
});

test('nat: protocols without ports have one connection an address and peer', () => {
  const b = new Bench();
  assert.notEqual(b.commit({ proto: GRE }), null);
  assert.equal(b.commit({ proto: GRE, src: '10.0.0.2' }), null);
});

test('nat: an ICMP query has its new id at both ends', () => {
  const b = new Bench();
  b.commit({ proto: ICMP, sport: 7 });
  const { sport, dport } = b.commit({ proto: ICMP, sport: 7, src: '10.0.0.2' })!;
  assert.deepEqual([sport, dport], [8, 8]);
});

test('dnat: a clash moves the source port', () => {
  const b = new Bench();
  const to = { flags: NAT_DST, min: ip('10.0.2.1') };
  assert.deepEqual(b.commit(to), {
    slot: 0,
    src: ip('10.0.2.1'),
    dst: ip('10.0.0.1'),
    sport: 80,
    dport: 40000,
  });
  // The same client, another virtual address: the reply would be the same.
  const words = b.commit({ ...to, ports: [80, 80], dport: 8080 })!;
  assert.deepEqual([words.sport, words.dport], [80, 40001]);
});

test('nat: persistent picks by source address alone; random differs from packet to packet and repeats', () => {
  const range = { min: OUT, max: OUT + 200 };
  const b = new Bench();
  const flags = NAT_SRC | NAT_PERSISTENT;
  const first = b.commit({ ...range, flags, dport: 1 })!.dst;
  for (let dport = 2; dport < 40; dport++) assert.equal(b.commit({ ...range, flags, dport })!.dst, first);
  const spread = new Set(Array.from({ length: 40 }, (_, i) => b.commit({ ...range, dport: 100 + i })!.dst));
  assert.ok(spread.size > 20, `${spread.size} of 201 addresses for 40 connections`);
  const random = (seq: number) =>
    new Bench().commit({ ports: [1024, 65535], flags: NAT_SRC | NAT_RANDOM, seq })!.dport;
  assert.equal(random(1), random(1));
  assert.ok(new Set([1, 2, 3, 4, 5].map(random)).size > 3);
});

test('partition: both tuples of a translated connection find it, before and after the index grows', () => {
  const b = new Bench(20_000);
  const slots: number[] = [];
  for (let i = 0; i < 4000; i++) {
    slots.push(b.commit({ src: `10.0.${i >> 8}.${i & 255}`, sport: 1024 + (i % 50) })!.slot);
  }
  for (const slot of slots) {
    assert.equal(b.find(slot, 0), slot << 1);
    assert.equal(b.find(slot, 1), (slot << 1) | 1);
  }
  for (const slot of slots.filter((s) => s % 3 === 0)) b.writer.remove(slot);
  for (const slot of slots) {
    const there = slot % 3 !== 0;
    if (there) assert.equal(b.find(slot, 1), (slot << 1) | 1);
  }
  assert.equal(b.writer.count, slots.filter((s) => s % 3 !== 0).length);
  for (const slot of slots.filter((s) => s % 3 !== 0)) b.writer.remove(slot);
  assert.equal(b.writer.count, 0);
});

test('partition: a tuple of two connections belongs to the younger one, in whatever order they are found', () => {
  for (const hosts of [4, 40]) {
    const b = new Bench();
    const translated = b.commit({ seq: 10 })!;
    for (let i = 2; i < hosts; i++) b.commit({ src: `10.0.0.${i}`, sport: 50000 + i, seq: 11 });
    // What the replies are translated from speaks for itself, from there.
    const key = new ConnKey();
    b.writer.load(translated.slot, 1, key);
    const slot = b.writer.allocate();
    const c = slot << CONN.shift;
    b.writer.hot.fill(0, c, c + CONN.words);
    b.writer.hot[c + CONN.at.SRC] = key.dst;
    b.writer.hot[c + CONN.at.DST] = key.src;
    b.writer.hot[c + CONN.at.PORTS] = (key.ports << 16) | (key.ports >>> 16);
    b.writer.hot[c + CONN.at.ZONE_PROTO] = key.zoneProto;
    b.writer.hotF64[(c + CONN.at.EXPIRES) >> 1] = 1000;
    b.writer.coldF64[((slot << COLD.shift) + COLD.at.CREATED) >> 1] = 12;
    b.writer.publish(slot);
    assert.equal(b.find(translated.slot, 1), (slot << 1) | 1);
    b.writer.remove(slot);
    assert.equal(b.find(translated.slot, 1), (translated.slot << 1) | 1);
  }
});
