/** The rules of one OpenFlow table, found by the flow that they match, with the bits of the flow that
 *  the answer depends on. Lives in the coordinator.
 *
 *  Tuple space search (Srinivasan, Suri and Varghese, SIGCOMM 1999) with the aims of Open vSwitch's
 *  classifier (lib/classifier.h; Pfaff et al., NSDI 2015): as few wildcards lost as possible, and as few
 *  different masks.
 *
 *      RuleTable ── Partition: a mask over the words that cost no wildcards (registers, metadata, in_port,
 *          │        EtherType)
 *          └─ Sector: one value of these words, e.g. all rules of one logical switch
 *              └─ Group: those of one IP protocol, or those of any
 *                  └─ Subtable: those of one mask, in a hash table
 *
 *  A lookup finds the sectors of the flow, at most one a partition, and searches their subtables in the
 *  order of the highest priority in each, until no better rule can come. So rules of other sectors and
 *  other protocols are never met and cost nothing.
 *
 *  A subtable that the flow misses adds the least that proves the miss, tried in this order: whatever is
 *  looked at already; one field, conntrack first and ports last, whose value no rule has, where leading
 *  bits of an address or a port are enough; the fields up to a stage together (conntrack, Ethernet,
 *  network, transport). In a small subtable the first two do, for each rule by itself. Prefixes are rounded up to multiples of 4 bits: fewer masks for slightly narrower
 *  megaflows.
 *
 *  Of rules of equal priority that match the same flow Open vSwitch takes any (ovs-ofctl(8)); here it is
 *  the one that was inserted first. */
import { FLOW, FLOW_WORDS, KEY_WORDS } from '../classifier/flow-key.js';
import type { Action, FlowRule, Match } from './types.js';
import { commonBits, ValueSet } from './value-set.js';

const { IN_PORT, RECIRC_ID, ETH_TYPE, NW, TP, CT_TP, CONJ_ID } = FLOW;
const { CT_STATE, CT_LABEL_3, VLAN_1, NW_SRC, IPV6_LABEL } = FLOW;
const { ETH_DST_LO_SRC_HI, ARP_SHA_LO_THA_HI, CT_NW_SRC } = FLOW;

const PROTO = 0xff;
/** Subtables of up to so many different values are searched one by one. */
const SMALL = 24;
/** Prefix lengths are rounded up to a multiple of this. */
const PREFIX_STEP = 4;
/** Clauses of a conjunction, at most: ovs-actions(7), "The conjunction action". */
const CLAUSES_PER_WORD = 32;

/** Words with addresses: first word, number of words. */
const ADDRESSES = new Map<number, number>([
  [NW_SRC, 1],
  [FLOW.NW_DST, 1],
  [FLOW.IPV6_SRC_0, 4],
  [FLOW.IPV6_DST_0, 4],
  [FLOW.ND_TARGET_0, 4],
  [FLOW.CT_NW_SRC, 1],
  [FLOW.CT_NW_DST, 1],
  [FLOW.CT_IPV6_SRC_0, 4],
  [FLOW.CT_IPV6_DST_0, 4],
  [FLOW.ETH_DST_HI, 1],
  [FLOW.ETH_SRC_LO, 1],
  [FLOW.ARP_SHA_HI, 1],
  [FLOW.ARP_THA_LO, 1],
]);
/** Words with two 16-bit fields of which prefixes make sense. */
const HALVES: readonly number[] = [TP, CT_TP, ETH_DST_LO_SRC_HI, ARP_SHA_LO_THA_HI];
const N_STAGES = 4;

/** Order in which the words of a packet are looked at. */
function stageOf(word: number): number {
  if (word === NW || (word >= CT_STATE && word <= CT_LABEL_3)) return 0;
  if (word <= VLAN_1) return 1;
  if (word >= CT_NW_SRC) return word === CT_TP ? 3 : 2;
  return word < TP || word === IPV6_LABEL ? 2 : 3;
}

/** A field of a mask, for proving that no rule has a flow's value there. */
interface Test {
  /** First word of it in the flow, and how many there are. */
  readonly word: number;
  readonly n: number;
  /** Bits of it in these words. */
  readonly masks: Int32Array;
  /** Bits to shift the (only) word left by, so that the field is at its top. */
  readonly shift: number;
  /** Leading bits that the mask has, or 0: it isn't a prefix, all its bits are looked at. */
  readonly prefixBits: number;
  readonly stage: number;
}

/** Number of leading ones if that is all that there is, else 0. */
function prefixLength(masks: Int32Array): number {
  const zeros = masks.findIndex((bits) => bits !== -1);
  if (zeros < 0) return masks.length * 32;
  const ones = Math.clz32(~masks[zeros]);
  const rest = ones === 0 ? masks[zeros] : masks[zeros] << ones;
  return rest === 0 && masks.every((bits, i) => i <= zeros || bits === 0) ? zeros * 32 + ones : 0;
}

function makeTest(word: number, masks: Int32Array, shift: number, prefix: boolean): Test {
  const prefixBits = prefix ? prefixLength(masks.map((bits) => bits << shift)) : 0;
  const n = prefixBits > 0 ? Math.ceil(prefixBits / 32) : masks.length;
  return { word, n, masks: masks.slice(0, n), shift, prefixBits, stage: stageOf(word) };
}

/** The fields of words KEY_WORDS of a mask, in order of their stages. */
function testsOf(mask: Int32Array): Test[] {
  const tests: Test[] = [];
  const single = (word: number, bits: number, shift: number, prefix: boolean) => {
    if (bits !== 0) tests.push(makeTest(word, Int32Array.of(bits), shift, prefix));
  };
  for (let w = 0; w < KEY_WORDS; w++) {
    const n = ADDRESSES.get(w) ?? 0;
    if (n > 0) {
      const masks = mask.subarray(w, w + n);
      if (n > 1 && prefixLength(masks) > 0) tests.push(makeTest(w, masks, 0, true));
      else for (let i = 0; i < n; i++) single(w + i, masks[i], 0, true);
      w += n - 1;
    } else if (HALVES.includes(w)) {
      single(w, mask[w] & 0xffff0000, 0, true);
      single(w, mask[w] & 0xffff, 16, true);
    } else if (w === NW) {
      for (let shift = 24; shift >= 0; shift -= 8) single(w, mask[w] & (0xff << shift), 0, false);
    } else {
      single(w, mask[w], 0, false);
    }
  }
  return tests.sort((a, b) => a.stage - b.stage);
}

/** What all rules of one mask have in common. */
class Shape {
  readonly mask: Int32Array;
  readonly partition: Int32Array;
  /** Whether the rules are of one IP protocol; then that byte is not among `bits`. */
  readonly ofProtocol: boolean;
  /** The other words that are compared, in the order of their stages, and the bits of each. */
  readonly words: Int32Array;
  readonly bits: Int32Array;
  /** How many of `words` there are up to each stage. */
  readonly ends: Int32Array;
  readonly tests: readonly Test[];
  nRules = 0;

  constructor(mask: Int32Array) {
    this.mask = mask.slice();
    this.partition = mask.slice();
    this.partition.fill(0, 0, KEY_WORDS);
    for (const w of [IN_PORT, RECIRC_ID, ETH_TYPE]) this.partition[w] = mask[w];
    const rest = mask.slice(0, KEY_WORDS);
    rest[IN_PORT] = rest[RECIRC_ID] = rest[ETH_TYPE] = 0;
    this.ofProtocol = (mask[NW] & PROTO) === PROTO;
    if (this.ofProtocol) rest[NW] &= ~PROTO;
    const words = [...rest.keys()].filter((w) => rest[w] !== 0);
    words.sort((a, b) => stageOf(a) - stageOf(b) || a - b);
    this.words = Int32Array.from(words);
    this.bits = Int32Array.from(words, (w) => rest[w]);
    this.ends = new Int32Array(N_STAGES);
    for (let s = 0; s < N_STAGES; s++) this.ends[s] = words.filter((w) => stageOf(w) <= s).length;
    this.tests = testsOf(rest);
  }
}

/** A rule in the table. */
interface Entry<R> {
  readonly rule: R;
  /** Counts insertions. */
  readonly seq: number;
  /** What it compares of the subtable's words. */
  readonly values: Int32Array;
  readonly hash: number;
  /** The same match with the next lower priority. */
  lower: Entry<R> | null;
  /** Other values with the same hash. */
  chain: Entry<R> | null;
}

const mix = (h: number, word: number): number => {
  const x = Math.imul(h ^ word, 0x9e3779b1 | 0);
  return (x << 13) | (x >>> 19);
};

/** Scratch: hash of a flow's words up to each stage. */
const stageHashes = new Int32Array(N_STAGES);
/** Scratch: the value of a field. */
const fieldValues = [1, 2, 3, 4].map((n) => new Int32Array(n));

/** Leaves the hashes of the words up to each stage in `stageHashes`; returns that of all. */
function hashFlow(shape: Shape, flow: Int32Array): number {
  const { words, bits, ends } = shape;
  let h = 0;
  let i = 0;
  for (let s = 0; s < N_STAGES; s++) {
    const end = ends[s];
    for (; i < end; i++) h = mix(h, flow[words[i]] & bits[i]);
    stageHashes[s] = h;
  }
  return h;
}

/** The masked value of a field at the top of its words; a shared array. */
function fieldValue(test: Test, flow: Int32Array): Int32Array {
  const value = fieldValues[test.n - 1];
  for (let i = 0; i < test.n; i++) value[i] = (flow[test.word + i] & test.masks[i]) << test.shift;
  return value;
}

/** Bits of word `i` of a field that its leading `bits` bits are in. */
function fieldBits(test: Test, i: number, bits: number): number {
  if (test.prefixBits === 0) return test.masks[i];
  const left = bits - i * 32;
  if (left <= 0) return 0;
  return (left >= 32 ? -1 : -1 << (32 - left)) >>> test.shift;
}

/** What a subtable with many rules is searched by. */
interface Index<R> {
  heads: Map<number, Entry<R>>;
  /** Different values by the hash of their words up to a stage. */
  stages: Map<number, number>[];
  sets: ValueSet[];
  /** Rules by priority. */
  priorities: Map<number, number>;
}

function bump(counts: Map<number, number>, key: number, by: number): void {
  const n = (counts.get(key) ?? 0) + by;
  if (n === 0) counts.delete(key);
  else counts.set(key, n);
}

/** The rules of one mask within a group. */
class Subtable<R extends FlowRule> {
  readonly shape: Shape;
  /** No rule in it was inserted before this. */
  readonly seq: number;
  maxPriority = -1;
  /** One entry of each match, the one of highest priority, while there are few. */
  private heads: Entry<R>[] = [];
  private index: Index<R> | null = null;

  constructor(shape: Shape, seq: number) {
    this.shape = shape;
    this.seq = seq;
  }

  get empty(): boolean {
    return this.index === null ? this.heads.length === 0 : this.index.heads.size === 0;
  }

  insert(rule: R, seq: number): void {
    const { words, bits } = this.shape;
    const { value } = rule.match;
    const values = words.map((w, i) => value[w] & bits[i]);
    const entry: Entry<R> = {
      rule,
      seq,
      values,
      hash: hashFlow(this.shape, value),
      lower: null,
      chain: null,
    };
    this.maxPriority = Math.max(this.maxPriority, rule.priority);
    const head = this.head(value, entry.hash);
    if (head === null) {
      if (this.index === null && this.heads.length === SMALL) this.buildIndex();
      if (this.index === null) this.heads.push(entry);
      else this.indexHead(this.index, entry);
    } else if (head.rule.priority < rule.priority) {
      entry.lower = head;
      this.replaceHead(head, entry);
    } else {
      let above = head;
      while (above.lower !== null && above.lower.rule.priority > rule.priority) above = above.lower;
      entry.lower = above.lower;
      above.lower = entry;
    }
    if (this.index !== null) bump(this.index.priorities, rule.priority, 1);
  }

  remove(rule: R): boolean {
    const head = this.head(rule.match.value, hashFlow(this.shape, rule.match.value));
    if (head === null) return false;
    if (head.rule === rule) {
      if (head.lower !== null) this.replaceHead(head, head.lower);
      else this.removeHead(head);
    } else {
      let above = head;
      while (above.lower !== null && above.lower.rule !== rule) above = above.lower;
      if (above.lower === null) return false;
      above.lower = above.lower.lower;
    }
    if (this.index !== null) bump(this.index.priorities, rule.priority, -1);
    if (rule.priority === this.maxPriority) {
      this.maxPriority = -1;
      const left = this.index?.priorities.keys() ?? this.heads.map((e) => e.rule.priority);
      for (const priority of left) this.maxPriority = Math.max(this.maxPriority, priority);
    }
    return true;
  }

  /** The entry of highest priority with the flow's value, or null; adds what that depends on to `wild`. */
  find(flow: Int32Array, wild: Int32Array): Entry<R> | null {
    const { index } = this;
    if (index === null) return this.scan(flow, wild);
    const head = this.head(flow, hashFlow(this.shape, flow));
    if (head === null) this.explain(index, flow, wild);
    else this.lookAtAll(wild);
    return head;
  }

  private lookAtAll(wild: Int32Array): void {
    const { words, bits } = this.shape;
    for (let i = 0; i < words.length; i++) wild[words[i]] |= bits[i];
  }

  /** `find` among a few: of each that differs, one bit is enough that is looked at already, or else the
   *  leading bits of a field. */
  private scan(flow: Int32Array, wild: Int32Array): Entry<R> | null {
    const { words, bits } = this.shape;
    const { heads } = this;
    const n = words.length;
    for (let e = 0; e < heads.length; e++) {
      const { values } = heads[e];
      let differs = false;
      let i = 0;
      for (; i < n; i++) {
        const different = (flow[words[i]] ^ values[i]) & bits[i];
        if (different === 0) continue;
        if ((different & wild[words[i]]) !== 0) break;
        differs = true;
      }
      if (i < n) continue;
      if (!differs) {
        this.lookAtAll(wild);
        return heads[e];
      }
      this.tellApart(flow, heads[e].rule.match.value, wild);
    }
    return null;
  }

  /** Adds leading bits of the first field in which the flow differs from a value of this shape. */
  private tellApart(flow: Int32Array, value: Int32Array, wild: Int32Array): void {
    for (const test of this.shape.tests) {
      let common = 0;
      for (let w = 0; w < test.n; w++) {
        const different = ((flow[test.word + w] ^ value[test.word + w]) & test.masks[w]) << test.shift;
        if (different !== 0) {
          lookAt(test, common + Math.clz32(different) + 1, wild);
          return;
        }
        common += 32;
      }
    }
  }

  /** The first entry of the flow's value, whose hash this is. */
  head(flow: Int32Array, hash: number): Entry<R> | null {
    if (this.index !== null) {
      let entry = this.index.heads.get(hash) ?? null;
      while (entry !== null && !this.has(entry, flow)) entry = entry.chain;
      return entry;
    }
    for (const entry of this.heads) if (this.has(entry, flow)) return entry;
    return null;
  }

  private has(entry: Entry<R>, flow: Int32Array): boolean {
    const { words, bits } = this.shape;
    const { values } = entry;
    for (let i = 0; i < values.length; i++) if ((flow[words[i]] & bits[i]) !== values[i]) return false;
    return true;
  }

  /** Adds the least that proves that no rule has the flow's value, whose `stageHashes` must be there. */
  private explain(index: Index<R>, flow: Int32Array, wild: Int32Array): void {
    const { tests, ends, words, bits } = this.shape;
    let reason: Test | null = null;
    let reasonBits = 0;
    let reasonWords = words.length;
    let t = 0;
    for (let s = 0; s < N_STAGES; s++) {
      for (; t < tests.length && tests[t].stage === s; t++) {
        const missing = index.sets[t].missingBits(fieldValue(tests[t], flow));
        if (missing === 0) continue;
        if (isLookedAt(tests[t], missing, wild)) return;
        if (reason !== null || reasonWords < words.length) continue;
        reason = tests[t];
        reasonBits = missing;
      }
      if (reason !== null || reasonWords < words.length || ends[s] === words.length) continue;
      if (ends[s] > 0 && !index.stages[s].has(stageHashes[s])) reasonWords = ends[s];
    }
    if (reason !== null) lookAt(reason, reasonBits, wild);
    else for (let i = 0; i < reasonWords; i++) wild[words[i]] |= bits[i];
  }

  private buildIndex(): void {
    const index: Index<R> = {
      heads: new Map(),
      stages: Array.from(this.shape.ends, () => new Map()),
      sets: this.shape.tests.map((test) => new ValueSet(test.n)),
      priorities: new Map(),
    };
    for (const head of this.heads) {
      this.indexHead(index, head);
      for (let e: Entry<R> | null = head; e !== null; e = e.lower) {
        bump(index.priorities, e.rule.priority, 1);
      }
    }
    this.heads = [];
    this.index = index;
  }

  private indexHead(index: Index<R>, entry: Entry<R>): void {
    entry.chain = index.heads.get(entry.hash) ?? null;
    index.heads.set(entry.hash, entry);
    this.count(index, entry, 1);
  }

  private count(index: Index<R>, entry: Entry<R>, by: 1 | -1): void {
    const { tests } = this.shape;
    const { value } = entry.rule.match;
    hashFlow(this.shape, value);
    for (let s = 0; s < N_STAGES; s++) bump(index.stages[s], stageHashes[s], by);
    for (let t = 0; t < tests.length; t++) {
      const field = fieldValue(tests[t], value);
      if (by > 0) index.sets[t].add(field);
      else index.sets[t].delete(field);
    }
  }

  /** Puts another entry of the same match in a head's place. */
  private replaceHead(head: Entry<R>, by: Entry<R>): void {
    if (this.index === null) {
      this.heads[this.heads.indexOf(head)] = by;
      return;
    }
    by.chain = head.chain;
    this.relink(this.index, head, by);
  }

  private removeHead(head: Entry<R>): void {
    if (this.index === null) {
      this.heads.splice(this.heads.indexOf(head), 1);
      return;
    }
    this.relink(this.index, head, head.chain);
    this.count(this.index, head, -1);
  }

  private relink(index: Index<R>, from: Entry<R>, to: Entry<R> | null): void {
    const first = index.heads.get(from.hash)!;
    if (first !== from) {
      let before = first;
      while (before.chain !== from) before = before.chain!;
      before.chain = to;
    } else if (to === null) {
      index.heads.delete(from.hash);
    } else {
      index.heads.set(from.hash, to);
    }
  }
}

/** Whether these leading bits of a field are in `wild` already. */
function isLookedAt(test: Test, bits: number, wild: Int32Array): boolean {
  for (let i = 0; i < test.n; i++) {
    if ((fieldBits(test, i, bits) & ~wild[test.word + i]) !== 0) return false;
  }
  return true;
}

/** Adds so many leading bits of a field, rounded up, to `wild`. */
function lookAt(test: Test, bits: number, wild: Int32Array): void {
  const rounded = Math.min(test.prefixBits, Math.ceil(bits / PREFIX_STEP) * PREFIX_STEP);
  for (let i = 0; i < test.n; i++) wild[test.word + i] |= fieldBits(test, i, rounded);
}

/** Subtables by descending priority, then by age. */
class Group<R extends FlowRule> {
  readonly subtables: Subtable<R>[] = [];

  find(shape: Shape): Subtable<R> | undefined {
    return this.subtables.find((s) => s.shape === shape);
  }

  insert(shape: Shape, rule: R, seq: number): void {
    const subtable = this.find(shape) ?? new Subtable<R>(shape, seq);
    const before = subtable.maxPriority;
    subtable.insert(rule, seq);
    if (subtable.maxPriority !== before) this.place(subtable);
  }

  remove(shape: Shape, rule: R): boolean {
    const subtable = this.find(shape);
    if (subtable === undefined) return false;
    const before = subtable.maxPriority;
    if (!subtable.remove(rule)) return false;
    if (subtable.maxPriority !== before) this.place(subtable);
    return true;
  }

  /** Puts a subtable where it belongs now, or takes it out if it is empty. */
  private place(subtable: Subtable<R>): void {
    const { subtables } = this;
    const was = subtables.indexOf(subtable);
    if (was >= 0) subtables.splice(was, 1);
    if (subtable.empty) return;
    let low = 0;
    let high = subtables.length;
    while (low < high) {
      const mid = (low + high) >>> 1;
      const { maxPriority, seq } = subtables[mid];
      const before =
        maxPriority > subtable.maxPriority || (maxPriority === subtable.maxPriority && seq < subtable.seq);
      if (before) low = mid + 1;
      else high = mid;
    }
    subtables.splice(low, 0, subtable);
  }
}

/** The rules with one value of a partition's words. */
class Sector<R extends FlowRule> {
  readonly values: Int32Array;
  /** Rules of any protocol. */
  readonly common = new Group<R>();
  readonly protocols: { proto: number; group: Group<R> }[] = [];
  /** Over `protocols`. */
  maxPriority = -1;
  readonly seq: number;
  chain: Sector<R> | null = null;

  constructor(values: Int32Array, seq: number) {
    this.values = values;
    this.seq = seq;
  }

  get empty(): boolean {
    return this.common.subtables.length === 0 && this.protocols.length === 0;
  }

  group(proto: number): Group<R> | undefined {
    const { protocols } = this;
    for (let i = 0; i < protocols.length; i++) if (protocols[i].proto === proto) return protocols[i].group;
    return undefined;
  }

  groupOf(shape: Shape, value: Int32Array): Group<R> | undefined {
    return shape.ofProtocol ? this.group(value[NW] & PROTO) : this.common;
  }

  insert(shape: Shape, rule: R, seq: number): void {
    let group = this.groupOf(shape, rule.match.value);
    if (group === undefined) {
      group = new Group<R>();
      this.protocols.push({ proto: rule.match.value[NW] & PROTO, group });
    }
    group.insert(shape, rule, seq);
    this.update();
  }

  remove(shape: Shape, rule: R): boolean {
    const group = this.groupOf(shape, rule.match.value);
    if (group === undefined || !group.remove(shape, rule)) return false;
    if (group !== this.common && group.subtables.length === 0) {
      const at = this.protocols.findIndex((p) => p.group === group);
      this.protocols.splice(at, 1);
    }
    this.update();
    return true;
  }

  private update(): void {
    this.maxPriority = -1;
    for (const { group } of this.protocols) {
      this.maxPriority = Math.max(this.maxPriority, group.subtables[0].maxPriority);
    }
  }
}

/** The rules with one mask over the words that cost no wildcards. */
class Partition<R extends FlowRule> {
  readonly mask: Int32Array;
  readonly words: Int32Array;
  readonly bits: Int32Array;
  readonly sectors = new Map<number, Sector<R>>();

  constructor(mask: Int32Array) {
    this.mask = mask;
    this.words = Int32Array.from([...mask.keys()].filter((w) => mask[w] !== 0));
    this.bits = this.words.map((w) => mask[w]);
  }

  find(flow: Int32Array): Sector<R> | null {
    let sector = this.sectors.get(this.hash(flow)) ?? null;
    while (sector !== null && !this.has(sector, flow)) sector = sector.chain;
    return sector;
  }

  /** The sector of a rule, made if there is none. */
  make(rule: R, seq: number): Sector<R> {
    const { value } = rule.match;
    let sector = this.find(value);
    if (sector === null) {
      sector = new Sector<R>(
        this.words.map((w, i) => value[w] & this.bits[i]),
        seq,
      );
      const hash = this.hash(value);
      sector.chain = this.sectors.get(hash) ?? null;
      this.sectors.set(hash, sector);
    }
    return sector;
  }

  /** Takes an empty sector out, which the value falls into. */
  drop(sector: Sector<R>, value: Int32Array): void {
    const hash = this.hash(value);
    const first = this.sectors.get(hash)!;
    if (first !== sector) {
      let before = first;
      while (before.chain !== sector) before = before.chain!;
      before.chain = sector.chain;
    } else if (sector.chain === null) {
      this.sectors.delete(hash);
    } else {
      this.sectors.set(hash, sector.chain);
    }
  }

  private hash(flow: Int32Array): number {
    const { words, bits } = this;
    let h = 0;
    for (let i = 0; i < words.length; i++) h = mix(h, flow[words[i]] & bits[i]);
    return h;
  }

  private has(sector: Sector<R>, flow: Int32Array): boolean {
    const { words, bits } = this;
    for (let i = 0; i < words.length; i++) {
      if ((flow[words[i]] & bits[i]) !== sector.values[i]) return false;
    }
    return true;
  }
}

const isConjunction = (action: Action): boolean => action.kind === 'conjunction';
/** Whether a match with the rule is only a clause of a conjunction. */
const isSoft = (rule: FlowRule): boolean => rule.actions.some(isConjunction);
const bySeq = (a: Entry<FlowRule>, b: Entry<FlowRule>): number => a.seq - b.seq;

/** Whether `a` is of higher priority than `b`, or older at the same. */
function isBetter(a: Entry<FlowRule>, b: Entry<FlowRule> | null): boolean {
  if (b === null || a.rule.priority > b.rule.priority) return true;
  return a.rule.priority === b.rule.priority && a.seq < b.seq;
}

export class RuleTable<R extends FlowRule> {
  /** In the order of their insertion. */
  private readonly members = new Set<R>();
  private readonly shapes = new Map<number, Shape[]>();
  private readonly partitions: Partition<R>[] = [];
  private nInserted = 0;

  // The lookup under way: where in which group it is, or which sector's protocols it hasn't looked at.
  private readonly groups: (Group<R> | null)[] = [];
  private readonly sectors: Sector<R>[] = [];
  private readonly at: number[] = [];
  /** Matches that are clauses. */
  private softs: Entry<R>[] = [];

  get size(): number {
    return this.members.size;
  }

  /** In the order of their insertion. */
  rules(): Iterable<R> {
    return this.members;
  }

  /** Adds a rule. There must be none of the same match and priority. Its match and priority must stay as
   *  they are while it is in the table. */
  insert(rule: R): void {
    const seq = this.nInserted++;
    this.members.add(rule);
    const shape = this.shape(rule.match.mask) ?? this.makeShape(rule.match.mask);
    shape.nRules++;
    let partition = this.partition(shape);
    if (partition === undefined) {
      partition = new Partition<R>(shape.partition);
      this.partitions.push(partition);
    }
    partition.make(rule, seq).insert(shape, rule, seq);
  }

  /** Takes a rule out; whether it was in. */
  remove(rule: R): boolean {
    if (!this.members.delete(rule)) return false;
    const { value, mask } = rule.match;
    const shape = this.shape(mask)!;
    const partition = this.partition(shape)!;
    const sector = partition.find(value)!;
    sector.remove(shape, rule);
    if (sector.empty) partition.drop(sector, value);
    if (partition.sectors.size === 0) this.partitions.splice(this.partitions.indexOf(partition), 1);
    if (--shape.nRules === 0) this.dropShape(shape);
    return true;
  }

  /** The rule with exactly this match and priority. */
  find(match: Match, priority: number): R | null {
    const shape = this.shape(match.mask);
    if (shape === undefined) return null;
    const sector = this.partition(shape)!.find(match.value);
    const subtable = sector?.groupOf(shape, match.value)?.find(shape);
    let entry = subtable?.head(match.value, hashFlow(shape, match.value)) ?? null;
    while (entry !== null && entry.rule.priority !== priority) entry = entry.lower;
    return entry?.rule ?? null;
  }

  /** The rule of highest priority that matches the flow (FLOW_WORDS words), or null. Adds to `wild` the
   *  bits that the answer depends on. A rule that was found as a conjunction (ovs-fields(7), "Conjunctive
   *  Match Fields") has its clauses' rules added to `clauses`. */
  lookup(flow: Int32Array, wild: Int32Array, clauses: R[] | null = null): R | null {
    const { softs } = this;
    softs.length = 0;
    const hard = this.search(flow, wild, true);
    const found = softs.length === 0 ? hard : this.conjunction(flow, wild, hard, clauses);
    softs.length = 0;
    return found?.rule ?? null;
  }

  /** The best rule that matches by itself. Clauses of higher priority go to `softs`. */
  private search(flow: Int32Array, wild: Int32Array, withSofts: boolean): Entry<R> | null {
    const { groups, sectors, at } = this;
    let n = 0;
    for (let p = 0; p < this.partitions.length; p++) {
      const partition = this.partitions[p];
      wild[IN_PORT] |= partition.mask[IN_PORT];
      wild[RECIRC_ID] |= partition.mask[RECIRC_ID];
      wild[ETH_TYPE] |= partition.mask[ETH_TYPE];
      const sector = partition.find(flow);
      if (sector === null) continue;
      if (sector.common.subtables.length > 0) {
        groups[n] = sector.common;
        sectors[n] = sector;
        at[n++] = 0;
      }
      if (sector.protocols.length > 0) {
        groups[n] = null;
        sectors[n] = sector;
        at[n++] = 0;
      }
    }
    let best: Entry<R> | null = null;
    let bestPriority = -1;
    for (;;) {
      // What can have the best rule; of several, the oldest.
      let next = -1;
      let priority = -1;
      let seq = 0;
      for (let i = 0; i < n; i++) {
        const from = groups[i] === null ? sectors[i] : groups[i]!.subtables[at[i]];
        if (from.maxPriority < priority || (from.maxPriority === priority && from.seq > seq)) continue;
        next = i;
        priority = from.maxPriority;
        seq = from.seq;
      }
      if (next < 0 || priority < bestPriority) return best;
      if (priority === bestPriority && seq > best!.seq) return best;
      const group: Group<R> | null = groups[next];
      let entry: Entry<R> | null = null;
      let done = false;
      if (group === null) {
        wild[NW] |= PROTO;
        const ofProto = sectors[next].group(flow[NW] & PROTO);
        if (ofProto === undefined) done = true;
        else groups[next] = ofProto;
      } else {
        entry = group.subtables[at[next]++].find(flow, wild);
        done = at[next] === group.subtables.length;
      }
      if (done) {
        n--;
        groups[next] = groups[n];
        sectors[next] = sectors[n];
        at[next] = at[n];
      }
      if (entry === null || entry.rule.priority < bestPriority) continue;
      if (isSoft(entry.rule)) {
        if (withSofts && entry.rule.priority > bestPriority) this.softs.push(entry);
      } else if (isBetter(entry, best)) {
        best = entry;
        bestPriority = entry.rule.priority;
      }
    }
  }

  /** The best rule, given the best one that matches by itself and the clauses that match. A conjunction
   *  is as important as its clauses; its own rules are then looked up with its conj_id. */
  private conjunction(
    flow: Int32Array,
    wild: Int32Array,
    hard: Entry<R> | null,
    clauses: R[] | null,
  ): Entry<R> | null {
    let best = hard;
    let softs = this.softs.slice();
    for (;;) {
      const floor = best === null ? -1 : best.rule.priority;
      softs = softs.filter((e) => e.rule.priority > floor);
      if (softs.length === 0) return best;
      const priority = softs.reduce((most, e) => Math.max(most, e.rule.priority), -1);
      const top = softs.filter((e) => e.rule.priority === priority).sort(bySeq);
      const missing = new Map<number, Int32Array>();
      for (const { rule } of top) {
        const id = completedBy(rule, top.length, missing);
        if (id < 0) continue;
        const saved = flow[CONJ_ID];
        flow[CONJ_ID] = id;
        const found = this.search(flow, wild, false);
        flow[CONJ_ID] = saved;
        if (found === null) continue;
        clauses?.push(...top.map((e) => e.rule).filter((r) => hasClause(r, id)));
        return found;
      }
      // None; on to what the same matches say at lower priorities.
      softs = softs.flatMap((e) => {
        if (e.rule.priority !== priority) return [e];
        const { lower } = e;
        if (lower === null) return [];
        if (isSoft(lower.rule)) return [lower];
        if (isBetter(lower, best)) best = lower;
        return [];
      });
    }
  }

  private shape(mask: Int32Array): Shape | undefined {
    return this.shapes.get(hashWords(mask))?.find((s) => commonBits(s.mask, 0, mask, 0, FLOW_WORDS) === ALL);
  }

  private makeShape(mask: Int32Array): Shape {
    const shape = new Shape(mask);
    const hash = hashWords(mask);
    const same = this.shapes.get(hash);
    if (same === undefined) this.shapes.set(hash, [shape]);
    else same.push(shape);
    return shape;
  }

  private dropShape(shape: Shape): void {
    const hash = hashWords(shape.mask);
    const left = this.shapes.get(hash)!.filter((s) => s !== shape);
    if (left.length === 0) this.shapes.delete(hash);
    else this.shapes.set(hash, left);
  }

  private partition({ partition }: Shape): Partition<R> | undefined {
    return this.partitions.find((p) => commonBits(p.mask, 0, partition, 0, FLOW_WORDS) === ALL);
  }
}

const ALL = FLOW_WORDS * 32;

function hashWords(words: Int32Array): number {
  let h = 0;
  for (let w = 0; w < words.length; w++) h = mix(h, words[w]);
  return h;
}

/** Id of the first conjunction that a clause completes, or -1. `missing` has the clauses that are still
 *  missing of those met; a conjunction of more clauses than `nSofts` matching rules can't be complete. */
function completedBy(rule: FlowRule, nSofts: number, missing: Map<number, Int32Array>): number {
  for (const action of rule.actions) {
    if (action.kind !== 'conjunction' || action.nClauses > nSofts) continue;
    const { id, clause, nClauses } = action;
    let left = missing.get(id);
    if (left === undefined) {
      left = Int32Array.of(ones(nClauses), ones(nClauses - CLAUSES_PER_WORD));
      missing.set(id, left);
    }
    left[clause >>> 5] &= ~(1 << (clause & 31));
    if (left[0] === 0 && left[1] === 0) return id;
  }
  return -1;
}

/** The lowest `n` bits. */
function ones(n: number): number {
  return n <= 0 ? 0 : n >= CLAUSES_PER_WORD ? -1 : (1 << n) - 1;
}

function hasClause(rule: FlowRule, id: number): boolean {
  return rule.actions.some((a) => a.kind === 'conjunction' && a.id === id);
}
