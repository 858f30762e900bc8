/** Megaflow cache of one worker: tuple space search over wildcarded masks (Srinivasan, Suri and
 *  Varghese, SIGCOMM 1999; Pfaff et al., NSDI 2015). One hash table per distinct mask; entries never
 *  overlap in meaning, so the first hit is the answer. Private to its thread. */
import { KEY_WORDS } from './flow-key.js';

/** What a megaflow entry makes the datapath do. */
export interface Megaflow {
  /** Words of `datapath/program.ts`. */
  readonly program: Int32Array;
  readonly mask: Int32Array;
  readonly key: Int32Array;
  packets: number;
  /** Whether the mask looks only at what microflow entries cover. */
  readonly foldable: boolean;
}

/** Entries of one mask, by open addressing. */
class Subtable {
  readonly mask: Int32Array;
  /** The words that the mask looks at, and the bits of each. */
  private readonly words: Int32Array;
  private readonly bits: Int32Array;
  private slots: (Megaflow | null)[];
  private hashes: Int32Array;
  private count = 0;
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
    if (this.count * 2 >= this.slots.length) this.grow();
    this.put(entry, this.hash(entry.key));
    this.count++;
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
    for (let i = 0; i < words.length; i++) {
      h = Math.imul(h ^ (key[words[i]] & bits[i]), 0x9e3779b1 | 0);
      h = (h << 13) | (h >>> 19);
    }
    h = Math.imul(h ^ (h >>> 15), 0x85ebca6b | 0);
    return h ^ (h >>> 13);
  }

  entries(): Megaflow[] {
    return this.slots.filter((entry): entry is Megaflow => entry !== null);
  }
}

export class MegaflowCache {
  private subtables: Subtable[] = [];
  private readonly limit: number;
  size = 0;
  /** Times the cache was emptied because it was full. */
  flushes = 0;

  private readonly covers: (mask: Int32Array) => boolean;

  /** `covers` tells whether microflow entries can stand for a mask; `limit` is the number of entries after
   *  which the cache starts anew. */
  constructor(covers: (mask: Int32Array) => boolean = () => false, limit = 65536) {
    this.covers = covers;
    this.limit = limit;
  }

  /** The entry that the key falls into, or null: ask the coordinator. */
  find(key: Int32Array): Megaflow | null {
    const { subtables } = this;
    for (let i = 0; i < subtables.length; i++) {
      const entry = subtables[i].find(key);
      if (entry !== null) {
        entry.packets++;
        // Busy masks drift to the front.
        if (++subtables[i].hits > 64 && i > 0 && subtables[i].hits > 2 * subtables[i - 1].hits) {
          const busy = subtables[i];
          subtables[i] = subtables[i - 1];
          subtables[i - 1] = busy;
        }
        return entry;
      }
    }
    return null;
  }

  /** Adds an entry for the packets whose masked key equals `key` masked. */
  insert(key: Int32Array, mask: Int32Array, program: Int32Array): Megaflow {
    if (this.size >= this.limit) {
      this.clear();
      this.flushes++;
    }
    let subtable = this.subtables.find((s) => s.mask.every((bits, w) => bits === mask[w]));
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
      foldable: this.covers(mask),
    };
    subtable.insert(entry);
    this.size++;
    return entry;
  }

  clear(): void {
    this.subtables = [];
    this.size = 0;
  }

  masks(): number {
    return this.subtables.length;
  }

  entries(): Megaflow[] {
    return this.subtables.flatMap((s) => s.entries());
  }
}
