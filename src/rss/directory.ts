/** Which hashes belong together, for tables that translate addresses: the packets of a translated connection
 *  come with two tuples, and both must go to one home, in one queue.
 *
 *  A *class* is a set of hashes; its name is the hash of one of them. A hash that nobody has named is a class of
 *  its own. Entries are counted: one for each live connection that has a tuple with the hash, one for each
 *  packet in flight; without either an entry leaves its class. The packets in flight of a hash are chained in
 *  input order, so that those of a class can be told when it joins another.
 *
 *  Main thread only. Open addressing with linear probing and no tombstones (Knuth, vol. 3, 6.4, algorithm R);
 *  where a hash goes is keyed by `seed`, so that nobody can make it crowded. */

const FIRST_ENTRIES = 1 << 10;

export class Directory {
  /** By entry: hash, first entry of the class, next of its members round, count, packets in flight. */
  private hashes = new Int32Array(FIRST_ENTRIES);
  private roots = new Int32Array(FIRST_ENTRIES);
  private nexts = new Int32Array(FIRST_ENTRIES);
  private counts = new Int32Array(FIRST_ENTRIES);
  private heads = new Int32Array(FIRST_ENTRIES);
  private tails = new Int32Array(FIRST_ENTRIES);
  /** By first entry of a class: packets in flight, and other holders. */
  private rows = new Int32Array(FIRST_ENTRIES);
  private holders = new Int32Array(FIRST_ENTRIES);
  private nEntries = 0;
  /** Unused entries, chained by `nexts`. */
  private free = -1;
  private high = 0;
  /** Entry + 1, or 0. */
  private index = new Int32Array(FIRST_ENTRIES * 2);
  private shift = 32 - Math.log2(FIRST_ENTRIES * 2);
  private readonly seed: number;
  /** By window slot: the packet's entry, and the next packet with its hash. */
  private readonly rowEntry: Int32Array;
  private readonly rowNext: Int32Array;

  constructor(slots: number, seed: number) {
    this.seed = seed;
    this.rowEntry = new Int32Array(slots);
    this.rowNext = new Int32Array(slots);
  }

  /** Hashes that are named. */
  get size(): number {
    return this.nEntries;
  }

  /** A packet with `hash` is in flight in window slot `row`; packets come in input order. Returns its class. */
  enter(row: number, hash: number): number {
    const e = this.obtain(hash);
    const root = this.roots[e];
    this.counts[e]++;
    this.isFresh = this.rows[root] + this.holders[root] === 0;
    this.rows[root]++;
    this.rowEntry[row] = e;
    this.rowNext[row] = -1;
    if (this.heads[e] < 0) this.heads[e] = row;
    else this.rowNext[this.tails[e]] = row;
    this.tails[e] = row;
    return this.hashes[root];
  }
  /** After `enter`: nobody but the packet itself needs its class. */
  isFresh = false;

  /** The packet in `row`, the oldest in flight, is in flight no more. */
  leave(row: number): void {
    const e = this.rowEntry[row];
    this.heads[e] = this.rowNext[row];
    this.rows[this.roots[e]]--;
    if (--this.counts[e] === 0) this.drop(e);
  }

  /** A live connection has a tuple with `hash`. Returns what `release` wants to know when it is gone. */
  hold(hash: number): number {
    const e = this.obtain(hash);
    this.counts[e]++;
    this.holders[this.roots[e]]++;
    return e;
  }

  release(e: number): void {
    this.holders[this.roots[e]]--;
    if (--this.counts[e] === 0) this.drop(e);
  }

  classOf(hash: number): number {
    const e = this.find(hash);
    return e < 0 ? hash : this.hashes[this.roots[e]];
  }

  /** Class of the packet in flight in window slot `row`. */
  classOfRow(row: number): number {
    return this.hashes[this.roots[this.rowEntry[row]]];
  }

  /** The class `from` becomes part of the class `into`. Something must hold a hash of each. */
  merge(into: number, from: number): void {
    const { roots, nexts } = this;
    const a = this.find(into);
    const b = this.find(from);
    if (a < 0 || b < 0 || roots[a] !== a || roots[b] !== b) {
      throw new Error(`steering: there is no class ${a < 0 || roots[a] !== a ? into : from}`);
    }
    for (let e = b; roots[e] !== a; e = nexts[e]) roots[e] = a;
    this.rows[a] += this.rows[b];
    this.holders[a] += this.holders[b];
    const next = nexts[a];
    nexts[a] = nexts[b];
    nexts[b] = next;
    if (this.counts[b] === 0) this.drop(b);
  }

  /** Calls `each` with the window slot of every packet in flight of a class. */
  rowsOf(name: number, each: (row: number) => void): void {
    const root = this.find(name);
    if (root < 0) return;
    let e = root;
    do {
      for (let row = this.heads[e]; row >= 0; row = this.rowNext[row]) each(row);
      e = this.nexts[e];
    } while (e !== root);
  }

  /** An entry that nothing holds goes, unless others of its class have their name from it. */
  private drop(e: number): void {
    const { roots, nexts } = this;
    const root = roots[e];
    if (root === e && nexts[e] !== e) return;
    let before = e;
    while (nexts[before] !== e) before = nexts[before];
    nexts[before] = nexts[e];
    this.unlist(e);
    nexts[e] = this.free;
    this.free = e;
    if (root !== e && nexts[root] === root && this.counts[root] === 0) this.drop(root);
  }

  private place(hash: number): number {
    return Math.imul(hash ^ this.seed, 0x9e3779b1 | 0) >>> this.shift;
  }

  private find(hash: number): number {
    const { index, hashes } = this;
    const mask = index.length - 1;
    for (let i = this.place(hash); ; i = (i + 1) & mask) {
      const e = index[i] - 1;
      if (e < 0 || hashes[e] === hash) return e;
    }
  }

  private obtain(hash: number): number {
    const found = this.find(hash);
    if (found >= 0) return found;
    if (this.nEntries * 2 >= this.index.length) this.grow();
    let e = this.free;
    if (e >= 0) this.free = this.nexts[e];
    else e = this.high++;
    this.hashes[e] = hash;
    this.roots[e] = this.nexts[e] = e;
    this.counts[e] = this.rows[e] = this.holders[e] = 0;
    this.heads[e] = -1;
    this.list(e);
    this.nEntries++;
    return e;
  }

  private list(e: number): void {
    const { index } = this;
    const mask = index.length - 1;
    let i = this.place(this.hashes[e]);
    while (index[i] !== 0) i = (i + 1) & mask;
    index[i] = e + 1;
  }

  private unlist(e: number): void {
    const { index, hashes } = this;
    const mask = index.length - 1;
    let hole = this.place(hashes[e]);
    while (index[hole] !== e + 1) hole = (hole + 1) & mask;
    for (let i = (hole + 1) & mask; index[i] !== 0; i = (i + 1) & mask) {
      // An entry moves up unless the place where its search begins is behind the hole.
      if (((i - this.place(hashes[index[i] - 1])) & mask) < ((i - hole) & mask)) continue;
      index[hole] = index[i];
      hole = i;
    }
    index[hole] = 0;
    this.nEntries--;
  }

  private grow(): void {
    const { index } = this;
    this.index = new Int32Array(index.length * 2);
    this.shift--;
    for (const e of index) if (e !== 0) this.list(e - 1);
    this.hashes = twice(this.hashes);
    this.roots = twice(this.roots);
    this.nexts = twice(this.nexts);
    this.counts = twice(this.counts);
    this.heads = twice(this.heads);
    this.tails = twice(this.tails);
    this.rows = twice(this.rows);
    this.holders = twice(this.holders);
  }
}

function twice(words: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const grown = new Int32Array(words.length * 2);
  grown.set(words);
  return grown;
}
