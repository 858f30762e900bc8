/** Canary words around the tables of a partition, and an audit of what is in them.
 *
 *  A JavaScript array cannot be written beyond its end; but a slab lies in pages of its own, of which it seldom fills
 *  the last, so that a slot that does not exist can be written to without a sound; so can slots that were never given
 *  out, and levels of the index that are not in use. There the canaries are: words behind the last record and bucket,
 *  which must stay as they were planted, and what must still be zero. */

import { FIRST_LEVEL_BUCKETS, PartitionWriter } from '../../src/conntrack/partition.js';
import { Coordinator } from '../../src/coordinator/coordinator.js';
import {
  ADDR6,
  BUCKET_SHIFT,
  BUCKET_WAYS,
  COLD,
  CONN,
  NAT,
  PARENT,
  RECORD,
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

/** Plants canaries behind the tables. */
export function plant(p: PartitionWriter): void {
  for (const [, words, used] of tablesOf(p)) words.fill(CANARY, used);
}

/** Throws if a canary is gone, if something has been written where nothing is, or if the index and the lists of slots
 *  contradict each other. No packet is in flight; `reserved` slots are a worker's, to make connections in. */
export function audit(p: PartitionWriter, reserved: ReadonlySet<number> = NONE): void {
  for (const [name, words, used] of tablesOf(p)) {
    for (let w = used; w < words.length; w++) {
      if (words[w] !== CANARY)
        throw new Error(`canary: ${name}: word ${w} behind its ${used} words is ${words[w]}`);
    }
  }
  const { high, capacity } = p;
  const slabs = [
    ['hot', p.hot, CONN.words],
    ['cold', p.cold, COLD.words],
    ['addr6', p.addr6, ADDR6.words],
    ['nat', p.nat, NAT.words],
  ] as const;
  for (const [name, words, size] of slabs) {
    for (let w = high * size; w < capacity * size; w++) {
      if (words[w] !== 0)
        throw new Error(`canary: ${name}: word ${w} of slot ${w / size}, never given out, is ${words[w]}`);
    }
  }
  const inside = p as unknown as Inside;
  const { index, base, mask } = inside;
  const end = base + ((mask + 1) << BUCKET_SHIFT);
  const unused = indexWords(capacity);
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

/** From now on, all partitions of this thread get canaries before their first record, and are audited when a run is
 *  settled at its end. Returns how many audits there have been. */
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
      audit(p, reservedOf(p));
      audits++;
    }
  };
  return () => audits;
}
