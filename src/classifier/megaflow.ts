/** Megaflow cache of one worker: tuple space search over wildcarded masks (Srinivasan, Suri and
 *  Varghese, SIGCOMM 1999; Pfaff et al., NSDI 2015). One hash table per distinct mask; entries that
 *  overlap agree on what to do, so the first hit is the answer. Masks that were hit most of late are
 *  searched first.
 *
 *  The number of entries is bounded. When it is reached, a clock hand goes round: an entry that was hit
 *  since the hand last came by stays, the next that was not makes way (second chance; Corbato, 1968).
 *  Private to its thread. */
import { drawKeys, scatter, stir } from '../conntrack/hash.js';
import { FLOW, KEY_WORDS } from './flow-key.js';

/** Drawn by each thread, so that nobody can prepare packets that collide. No result depends on them. */
const HASH_KEYS = drawKeys(KEY_WORDS);

const { RECIRC_ID } = FLOW;
/** A power of two. */
const LAST = 4;

/** What a megaflow entry makes the datapath do. */
export interface Megaflow {
  /** Words of `datapath/program.ts`. */
  readonly program: Int32Array;
  readonly mask: Int32Array;
  readonly key: Int32Array;
  /** Packets that found it. Bytes and the clock in ms of the last one are whoever finds it to count. */
  packets: number;
  bytes: number;
  used: number;
  /** `packets` when the clock hand last came by. */
  seen: number;
  /** Microflow entries of which packets cover all that the mask looks at: FOLDS_*. */
  readonly folds: number;
}

/** Of IP packets, and of all others. */
export const FOLDS_IP = 1;
export const FOLDS_OTHER = 2;

/** Lookups after which masks are put in order. */
const REORDER_EVERY = 4096;

/** Entries of one mask, by open addressing with linear probing. */
class Subtable {
  readonly mask: Int32Array;
  /** The words that the mask looks at, and the bits of each. */
  private readonly words: Int32Array;
  private readonly bits: Int32Array;
  private slots: (Megaflow | null)[];
  private hashes: Int32Array;
  size = 0;
  /** Since masks were last put in order, older ones counting half. */
  hits = 0;

  constructor(mask: Int32Array) {
    this.mask = mask.slice(0, KEY_WORDS);
    const used: number[] = [];
    for (let w = 0; w < KEY_WORDS; w++) if (mask[w] !== 0) used.push(w);
    this.words = Int32Array.from(used);
    this.bits = Int32Array.from(used, (w) => mask[w]);
    this.slots = new Array<Megaflow | null>(16).fill(null);
    this.hashes = new Int32Array(16);
  }

  /** Whether the key falls into an entry of this mask. */
  has(key: Int32Array, entry: Megaflow): boolean {
    const { words, bits } = this;
    const want = entry.key;
    for (let i = 0; i < words.length; i++) if ((key[words[i]] & bits[i]) !== want[words[i]]) return false;
    return true;
  }

  find(key: Int32Array): Megaflow | null {
    const { words, bits, slots, hashes } = this;
    const n = words.length;
    const hash = this.hash(key);
    const mask = slots.length - 1;
    for (let i = hash & mask; ; i = (i + 1) & mask) {
      const entry = slots[i];
      if (entry === null) return null;
      if (hashes[i] !== hash) continue;
      const want = entry.key;
      let w = 0;
      while (w < n && (key[words[w]] & bits[w]) === want[words[w]]) w++;
      if (w === n) return entry;
    }
  }

  insert(entry: Megaflow): void {
    if (this.size * 2 >= this.slots.length) this.grow();
    this.put(entry, this.hash(entry.key));
    this.size++;
  }

  remove(entry: Megaflow): void {
    const { slots, hashes } = this;
    const mask = slots.length - 1;
    let hole = this.hash(entry.key) & mask;
    while (slots[hole] !== entry) hole = (hole + 1) & mask;
    // What probed past the hole moves up into it.
    for (let i = (hole + 1) & mask; slots[i] !== null; i = (i + 1) & mask) {
      if (((i - hashes[i]) & mask) < ((i - hole) & mask)) continue;
      slots[hole] = slots[i];
      hashes[hole] = hashes[i];
      hole = i;
    }
    slots[hole] = null;
    this.size--;
  }

  private put(entry: Megaflow, hash: number): void {
    const mask = this.slots.length - 1;
    let i = hash & mask;
    while (this.slots[i] !== null) i = (i + 1) & mask;
    this.slots[i] = entry;
    this.hashes[i] = hash;
  }

  private grow(): void {
    const { slots, hashes } = this;
    this.slots = new Array<Megaflow | null>(slots.length * 2).fill(null);
    this.hashes = new Int32Array(slots.length * 2);
    slots.forEach((entry, i) => {
      if (entry !== null) this.put(entry, hashes[i]);
    });
  }

  private hash(key: Int32Array): number {
    const { words, bits } = this;
    let h = 0;
    for (let i = 0; i < words.length; i++) h = (h + scatter(key[words[i]] & bits[i], HASH_KEYS[i])) | 0;
    return stir(h);
  }
}

const sameMask = (a: Int32Array, b: Int32Array): boolean => {
  for (let w = 0; w < KEY_WORDS; w++) if (a[w] !== b[w]) return false;
  return true;
};

const byHits = (a: Subtable, b: Subtable): number => b.hits - a.hits;

export class MegaflowCache {
  private subtables: Subtable[] = [];
  private readonly limit: number;
  /** All entries, in the order of the clock hand. */
  private ring: Megaflow[] = [];
  private hand = 0;
  private lookups = 0;
  /** By the lower bits of a recirculation id: the entry that was found last, and its subtable. */
  private readonly last: (Megaflow | null)[] = new Array<Megaflow | null>(LAST).fill(null);
  private readonly lastIn: Subtable[] = [];
  /** Entries that have made way for others. */
  evictions = 0;

  private readonly covers: (mask: Int32Array) => number;

  /** `covers` tells which microflow entries can stand for a mask (FOLDS_*); `limit` is how many entries there may
   *  be. */
  constructor(covers: (mask: Int32Array) => number = () => 0, limit = 65536) {
    this.covers = covers;
    this.limit = limit;
  }

  get size(): number {
    return this.ring.length;
  }

  /** The entry that the key falls into, or null: ask the coordinator. */
  find(key: Int32Array): Megaflow | null {
    const { subtables } = this;
    if (++this.lookups === REORDER_EVERY) this.reorder();
    // Packets of a first pass, or of one that a ct() goes on with, are mostly like the one before.
    const kind = key[RECIRC_ID] & (LAST - 1);
    const last = this.last[kind];
    if (last !== null && this.lastIn[kind].has(key, last)) {
      last.packets++;
      this.lastIn[kind].hits++;
      return last;
    }
    for (let i = 0; i < subtables.length; i++) {
      const entry = subtables[i].find(key);
      if (entry === null) continue;
      entry.packets++;
      subtables[i].hits++;
      this.last[kind] = entry;
      this.lastIn[kind] = subtables[i];
      return entry;
    }
    return null;
  }

  /** Adds an entry for the packets whose masked key equals `key` masked. */
  insert(key: Int32Array, mask: Int32Array, program: Int32Array): Megaflow {
    const full = this.ring.length >= this.limit;
    if (full) this.evict();
    let subtable = this.subtables.find((s) => sameMask(s.mask, mask));
    if (subtable === undefined) {
      subtable = new Subtable(mask);
      this.subtables.push(subtable);
    }
    const masked = new Int32Array(KEY_WORDS);
    for (let w = 0; w < KEY_WORDS; w++) masked[w] = key[w] & mask[w];
    const entry: Megaflow = {
      program,
      mask: subtable.mask,
      key: masked,
      packets: 0,
      bytes: 0,
      used: -1,
      seen: 0,
      folds: this.covers(mask),
    };
    subtable.insert(entry);
    if (full) this.ring[this.hand++] = entry;
    else this.ring.push(entry);
    return entry;
  }

  /** Takes the next entry out that was not hit since the hand came by, and leaves the hand there. */
  private evict(): void {
    const { ring } = this;
    for (;;) {
      if (this.hand >= ring.length) this.hand = 0;
      const entry = ring[this.hand];
      if (entry.packets === entry.seen) {
        this.last.fill(null);
        const at = this.subtables.findIndex((s) => s.mask === entry.mask);
        this.subtables[at].remove(entry);
        if (this.subtables[at].size === 0) this.subtables.splice(at, 1);
        this.evictions++;
        return;
      }
      entry.seen = entry.packets;
      this.hand++;
    }
  }

  private reorder(): void {
    this.lookups = 0;
    this.subtables.sort(byHits);
    for (const subtable of this.subtables) subtable.hits /= 2;
  }

  clear(): void {
    this.last.fill(null);
    this.subtables = [];
    this.ring = [];
    this.hand = 0;
  }

  masks(): number {
    return this.subtables.length;
  }

  entries(): readonly Megaflow[] {
    return this.ring;
  }
}
