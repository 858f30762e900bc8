/** Canary words around the tables that threads share, and an audit of what is in them.
 *
 *  A JavaScript array cannot be written beyond its end (guard.ts makes an error of trying to). But a slab lies in pages of its
 *  own, of which it seldom fills the last, so that a slot that does not exist can be written to without a sound; so can slots
 *  that were never given out, levels of the index that are not in use, records of rings that nothing was put into, and words
 *  of control blocks that mean nothing. There the canaries are: words behind the last record and bucket, in the
 *  gaps of control blocks, and behind what rings have held, which must stay as they were planted; and what must still be
 *  zero. */

import { ConnKey } from '../../src/conntrack/key.js';
import { FIRST_LEVEL_BUCKETS, PartitionWriter } from '../../src/conntrack/partition.js';
import { Coordinator } from '../../src/coordinator/coordinator.js';
import { Fabric } from '../../src/coordinator/fabric.js';
import {
  ADDR6,
  BUCKET_SHIFT,
  BUCKET_WAYS,
  COLD,
  CONN,
  CTL_LINE,
  NAT,
  PARENT,
  RECORD,
  STATE_CHILD,
  STATE_TRANSLATED,
  TAG_FREE,
  TAG_REMOVED,
} from '../../src/shm/layouts.js';

const NONE: ReadonlySet<number> = new Set();
const CANARY = 0x0ca9a91e;

/** What the audit knows of a partition's inside. */
interface Inside {
  index: Int32Array;
  level: number;
  base: number;
  mask: number;
  entries: number;
  free: number[];
  limbo: number[];
  limboHead: number;
  gone: Set<number>;
  withheld: Map<number, number[]>;
  passed: Int32Array;
}

/** Rings of a partition, and its control words, in which little is used. */
interface Rings {
  ctl: Int32Array;
  endedSlots: Int32Array;
  endedLogs: { slots: Int32Array }[];
  expected: { words: Int32Array };
}

/** Words of PartitionMemory.ctl that mean something. */
const PARTITION_CTL = 4;
/** Of lines of the control block: the main thread's, a worker's that others write, and its own. The nap's word stays 0. */
const MAIN_LINE = 5;
const BELL_LINE = 3;
const OWN_LINE = 2;
const NAP = 8;
/** Words of a ring that are watched behind what has been put into it. */
const BEHIND = 1024;
/** So many words behind what is in use are looked at in each audit, and all of them in one of so many. */
const NEAR = 8192;
const ALL_EVERY = 32;
let nAudits = 0;
const EXPECTED_HEADER = 2;
const EXPECTED_STRIDE = 40;

/** The tables of a partition: the array, and how many of its words are the table. */
function tablesOf(p: PartitionWriter): [string, Int32Array, number][] {
  const { index } = p as unknown as Inside;
  const n = p.capacity;
  const tables: [string, Int32Array, number][] = [
    ['hot', p.hot, n * CONN.words],
    ['cold', p.cold, n * COLD.words],
    ['addr6', p.addr6, n * ADDR6.words],
    ['nat', p.nat, n * NAT.words],
    ['parent', p.parent, n * PARENT.words],
    ['index', index, indexWords(n)],
  ];
  if (p.records !== null) tables.push(['records', p.records, n * RECORD.words]);
  return tables;
}

function indexWords(capacity: number): number {
  let levels = 1;
  while (FIRST_LEVEL_BUCKETS * 2 ** (levels - 1) * 5 < 2 * capacity) levels++;
  return (FIRST_LEVEL_BUCKETS * (2 ** levels - 1)) << BUCKET_SHIFT;
}

/** Words that nobody should write now: from, to, and what they should be. */
type Gap = [name: string, words: Int32Array, from: number, to: number];

/** One for each worker. */
function endedRings(p: PartitionWriter): Set<Int32Array> {
  const { endedSlots, endedLogs } = p as unknown as Rings;
  return new Set([endedSlots, ...endedLogs.map((log) => log.slots)]);
}

/** The gaps of the rings and control words of a partition, as far as they have been filled. */
function gapsOf(p: PartitionWriter): Gap[] {
  const { ctl, expected } = p as unknown as Rings;
  const gaps: Gap[] = [['partition ctl', ctl, PARTITION_CTL, ctl.length]];
  const behind = (name: string, words: Int32Array, from: number): void => {
    // A ring that has gone round has no gap.
    if (from <= words.length) gaps.push([name, words, from, Math.min(words.length, from + BEHIND)]);
  };
  for (const slots of endedRings(p)) behind('ended', slots, 1 + (slots[0] >>> 0));
  const { words } = expected;
  gaps.push(['expected', words, 1, EXPECTED_HEADER]);
  behind('expected', words, EXPECTED_HEADER + (words[0] >>> 0) * EXPECTED_STRIDE);
  return gaps;
}

/** Plants canaries behind the tables, and in rings. */
export function plant(p: PartitionWriter): void {
  for (const [, words, used] of tablesOf(p)) words.fill(CANARY, used);
  const { ctl, expected } = p as unknown as Rings;
  ctl.fill(CANARY, PARTITION_CTL);
  for (const slots of endedRings(p)) slots.fill(CANARY, 1 + (slots[0] >>> 0));
  expected.words.fill(CANARY, 1);
}

/** Gaps in the control block of all threads. */
function* ctlGaps(ctl: Int32Array): Generator<number> {
  for (let w = 0; w < ctl.length; w++) {
    const line = Math.floor(w / CTL_LINE);
    const used = line === 0 ? MAIN_LINE : line % 2 === 1 ? BELL_LINE : OWN_LINE;
    if (w % CTL_LINE >= used && w % CTL_LINE !== NAP) yield w;
  }
}

/** The rings of words between the main thread and a worker, by name. */
const WORD_RINGS = ['work', 'done', 'requests', 'replies', 'templates', 'grants'] as const;
type Init = Record<(typeof WORD_RINGS)[number], SharedArrayBuffer | null>;
const RING_HEADER = 2;

interface FabricInside {
  ctl: Int32Array;
  inits: Init[];
}

function plantFabric(fabric: Fabric): void {
  const { ctl, inits } = fabric as unknown as FabricInside;
  for (const w of ctlGaps(ctl)) ctl[w] = CANARY;
  for (const init of inits) {
    for (const name of WORD_RINGS) {
      const memory = init[name];
      if (memory === null) continue;
      const words = new Int32Array(memory);
      words.fill(CANARY, RING_HEADER + words[0]);
    }
  }
}

/** Throws if a canary between the threads is gone. Nothing is under way. */
export function auditFabric(fabric: Fabric): void {
  const { ctl, inits } = fabric as unknown as FabricInside;
  for (const w of ctlGaps(ctl)) {
    if (ctl[w] !== CANARY) throw new Error(`canary: ctl: word ${w}, which means nothing, is ${ctl[w]}`);
  }
  for (const [worker, init] of inits.entries()) {
    for (const name of WORD_RINGS) {
      const memory = init[name];
      if (memory === null) continue;
      const words = new Int32Array(memory);
      const [write, read] = words;
      const size = words.length - RING_HEADER;
      if (!(write >= 0 && write < size && read >= 0 && read < size))
        throw new Error(`ring: ${name} of worker ${worker} is at ${read} to ${write} of ${size} words`);
      // It has not gone round, so that nothing has been put there yet.
      if (words[words.length - 1] !== CANARY) continue;
      for (let w = RING_HEADER + write; w < words.length; w++) {
        if (words[w] !== CANARY)
          throw new Error(`canary: ring ${name} of worker ${worker}: word ${w} is ${words[w]}`);
      }
    }
  }
}

/** Throws if a canary is gone, if something has been written where nothing is, or if the index and the lists of slots
 *  contradict each other. No packet is in flight at `clock`; `reserved` slots are a worker's, to make connections in. */
export function audit(
  p: PartitionWriter,
  reserved: ReadonlySet<number> = NONE,
  clock = Number.NEGATIVE_INFINITY,
): void {
  const near = nAudits++ % ALL_EVERY === 0 ? Infinity : NEAR;
  for (const [name, words, used] of tablesOf(p)) {
    for (let w = used; w < Math.min(words.length, used + near); w++) {
      if (words[w] !== CANARY)
        throw new Error(`canary: ${name}: word ${w} behind its ${used} words is ${words[w]}`);
    }
  }
  for (const [name, words, from, to] of gapsOf(p)) {
    for (let w = from; w < to; w++) {
      if (words[w] !== CANARY)
        throw new Error(`canary: ${name}: word ${w}, which nothing was put into, is ${words[w]}`);
    }
  }
  const { high, capacity } = p;
  const slabs: [string, Int32Array | Float64Array, number][] = [
    ['hot', p.hot, CONN.words],
    ['cold', p.cold, COLD.words],
    ['addr6', p.addr6, ADDR6.words],
    ['nat', p.nat, NAT.words],
    ['parent', p.parent, PARENT.words],
  ];
  if (p.records !== null) slabs.push(['records', p.records, RECORD.words]);
  if (p.endedBy.length > 0) slabs.push(['endedBy', p.endedBy, 1]);
  for (const [name, words, size] of slabs) {
    for (let w = high * size; w < Math.min(capacity * size, high * size + near); w++) {
      if (words[w] !== 0)
        throw new Error(`canary: ${name}: word ${w} of slot ${w / size}, never given out, is ${words[w]}`);
    }
  }
  const inside = p as unknown as Inside;
  const { index, base, mask } = inside;
  const end = base + ((mask + 1) << BUCKET_SHIFT);
  const unused = Math.min(indexWords(capacity), end + near);
  for (let w = end; w < unused; w++) {
    if (index[w] !== 0)
      throw new Error(`canary: index: word ${w} of a level that is not in use is ${index[w]}`);
  }

  // Every entry is of a slot in use; every slot in use has its entries.
  const entries = new Map<number, number>();
  for (let b = base; b < end; b += 1 << BUCKET_SHIFT) {
    for (let way = 0; way < BUCKET_WAYS; way++) {
      const tag = index[b + way];
      if (tag === TAG_FREE || tag === TAG_REMOVED) continue;
      const entry = index[b + BUCKET_WAYS + way];
      const slot = entry >>> 1;
      if (slot >= high || p.used[slot] === 0)
        throw new Error(`index: entry ${entry} is of a slot that is not in use`);
      entries.set(entry, (entries.get(entry) ?? 0) + 1);
    }
  }
  let expected = 0;
  const withheld = new Set([...inside.withheld.values()].flat());
  for (let slot = 0; slot < high; slot++) {
    if (p.used[slot] === 0) continue;
    const translated = (p.hot[slot * CONN.words + CONN.at.STATE] & (1 << 26)) !== 0;
    expected += translated && !withheld.has(slot) ? 2 : 1;
    if (entries.get(slot << 1) !== 1)
      throw new Error(`index: slot ${slot} has ${entries.get(slot << 1)} entries`);
  }
  const n = [...entries.values()].reduce((a, b) => a + b, 0);
  if (n !== expected) throw new Error(`index: ${n} entries of ${expected}`);

  findable(p);
  unambiguous(p, clock);

  // A slot is in use, free, or in limbo.
  const seen = new Uint8Array(high);
  const once = (slot: number, what: string) => {
    if (!(slot >= 0 && slot < high)) throw new Error(`slots: ${slot} is ${what}, and does not exist`);
    if (seen[slot]++ !== 0) throw new Error(`slots: ${slot} is ${what}, and something else`);
  };
  for (const slot of inside.free) once(slot, 'free');
  for (const slot of inside.limbo.slice(inside.limboHead)) once(slot, 'in limbo');
  for (const slot of inside.gone) once(slot, 'gone');
  for (const slot of reserved) once(slot, 'reserved');
  for (let slot = 0; slot < high; slot++) if (p.used[slot] !== 0) once(slot, 'in use');
  const lost = seen.indexOf(0);
  if (lost >= 0) throw new Error(`slots: ${lost} is lost`);
}

/** Entries are where a search comes by before it ends, and buckets know how many were put further on because of them. */
function findable(p: PartitionWriter): void {
  const { index, base, mask, passed } = p as unknown as Inside;
  const further = new Int32Array(mask + 1);
  const key = new ConnKey();
  const ways = (bucket: number) => base + (bucket << BUCKET_SHIFT);
  for (let at = 0; at <= mask; at++) {
    for (let way = 0; way < BUCKET_WAYS; way++) {
      if (index[ways(at) + way] === TAG_FREE || index[ways(at) + way] === TAG_REMOVED) continue;
      const entry = index[ways(at) + BUCKET_WAYS + way];
      p.load(entry >>> 1, entry & 1, key);
      for (let bucket = key.hash & mask; bucket !== at; bucket = (bucket + 1) & mask) {
        further[bucket]++;
        if (index.subarray(ways(bucket), ways(bucket) + BUCKET_WAYS).includes(TAG_FREE))
          throw new Error(`index: entry ${entry} is in bucket ${at}; a search ends in bucket ${bucket}`);
      }
      if (index.subarray(ways(at), ways(at) + way).includes(TAG_FREE))
        throw new Error(`index: entry ${entry} is behind a free way of bucket ${at}`);
    }
  }
  const wrong = further.findIndex((n, bucket) => n !== passed[bucket]);
  if (wrong >= 0)
    throw new Error(`index: ${further[wrong]} entries are behind bucket ${wrong}; it says ${passed[wrong]}`);
}

/** No two connections that live have been translated so that their answers are the same. Those that a helper has promised an
 *  address to are not asked. */
function unambiguous(p: PartitionWriter, clock: number): void {
  const answers = new Map<string, number>();
  for (let slot = 0; slot < p.high; slot++) {
    const state = p.hot[slot * CONN.words + CONN.at.STATE];
    if (p.used[slot] === 0 || (state & STATE_TRANSLATED) === 0 || (state & STATE_CHILD) !== 0) continue;
    if (p.expires(slot) <= clock) continue;
    const n = slot * NAT.words;
    const words = [...p.nat.subarray(n, n + NAT.words)];
    const { SRC, DST, PORTS, SRC6_0 } = NAT.at;
    const zoneProto = p.hot[slot * CONN.words + CONN.at.ZONE_PROTO];
    const six = zoneProto & 0x80 ? words.slice(SRC6_0, SRC6_0 + 8) : [];
    const text = [zoneProto, words[SRC], words[DST], words[PORTS], ...six].join();
    const other = answers.get(text);
    if (other !== undefined) throw new Error(`nat: slots ${other} and ${slot} have the same answers`);
    answers.set(text, slot);
  }
}

/** From now on, all partitions of this thread get canaries before their first record, and are audited when a run is
 *  settled at its end; what lies between threads before these start, and is audited when they have been stopped. Returns how
 *  many audits there have been. */
export function auditAll(): () => number {
  let audits = 0;
  const planted = new WeakSet<PartitionWriter>();
  const { prototype: writer } = PartitionWriter;
  const { allocate } = writer;
  writer.allocate = function (this: PartitionWriter) {
    if (!planted.has(this)) {
      planted.add(this);
      plant(this);
    }
    return allocate.call(this);
  };
  const { prototype: coordinator } = Coordinator;
  const { settle, reserve, made } = coordinator;
  const reserved = new WeakMap<PartitionWriter, Set<number>>();
  const reservedOf = (p: PartitionWriter): Set<number> => {
    if (!reserved.has(p)) reserved.set(p, new Set());
    return reserved.get(p)!;
  };
  coordinator.reserve = function (this: Coordinator, home) {
    const slot = reserve.call(this, home);
    if (slot >= 0) reservedOf(this.partitions[home]).add(slot);
    return slot;
  };
  coordinator.made = function (this: Coordinator, home, slot, ...rest) {
    reservedOf(this.partitions[home]).delete(slot);
    made.call(this, home, slot, ...rest);
  };
  coordinator.settle = function (this: Coordinator, clock: number) {
    settle.call(this, clock);
    for (const p of this.partitions) {
      if (!planted.has(p)) continue;
      audit(p, reservedOf(p), clock);
      audits++;
    }
  };
  const { prototype: fabrics } = Fabric;
  const { start, stop } = fabrics;
  const started = new WeakSet<Fabric>();
  fabrics.start = function (this: Fabric, ...rest) {
    plantFabric(this);
    started.add(this);
    start.apply(this, rest);
  };
  fabrics.stop = async function (this: Fabric, ...rest) {
    await stop.apply(this, rest);
    if (!started.delete(this) || this.failure !== null) return;
    auditFabric(this);
    audits++;
  };
  return () => audits;
}
