/** Which hashes belong together, for tables that translate addresses: the packets of a translated connection
 *  come with two tuples, and both must go to one home, in one queue.
 *
 *  A *class* is a set of hashes; its name is the hash of one of them. The hash of a tuple that a live connection
 *  has is *named*: it has a node. A hash that is not is a class of its own. A named hash stays in its class until
 *  no packet is in flight that was given that class: what a connection that goes has held is released later, and what
 *  comes until then holds it, too. So packets only look, and `touch` lets the cache misses of a batch overlap.
 *  The packets in flight can be told by hash, in input order, so that those of a class are known when it joins another.
 *
 *      bucket, 64 bytes    4 nodes: HASH, NAME, NEXT, COUNT
 *
 *  A node stays where it is until the directory grows, so that connections can keep its word offset. A search goes
 *  on behind a bucket that nodes were put behind because it was full (`passed`).
 *
 *  Main thread only. Where a hash goes is keyed by `seed`, so that nobody can make a bucket crowded. */

const WAYS = 4;
const BUCKET_SHIFT = 4;
/** Words of a node: its hash; the name of its class; 1 + the next node of its class, round, or 0: the node is free;
 *  how many hold it, and LEAVING: some of those are to be released. */
const HASH = 0;
const NAME = 1;
const NEXT = 2;
const COUNT = 3;
const NODE_WORDS = 4;
const LEAVING = 0x40000000;
const FIRST_BUCKETS = 1 << 12;
/** More nodes a bucket than this, and there are twice as many buckets. */
const CROWDED = 2.4;

export class Directory {
  private nodes = new Int32Array(FIRST_BUCKETS << BUCKET_SHIFT);
  /** By bucket: nodes that are further on because it was full. */
  private passed = new Uint16Array(FIRST_BUCKETS);
  private shift = 32 - Math.log2(FIRST_BUCKETS);
  private nNodes = 0;
  private readonly seed: number;
  /** Packets that were, and that are no more in flight. */
  private nEntered = 0;
  private nLeft = 0;
  /** Nodes to be released, and `nEntered` then: when so many have left. In use from `queueHead` on. */
  private queue = new Int32Array(1 << 10);
  private queueAt = new Float64Array(1 << 10);
  private queueHead = 0;
  private queueEnd = 0;
  /** By window slot: the packet's hash, and the next packet of its chain. */
  private readonly rowHash: Int32Array;
  private readonly rowNext: Int32Array;
  /** By the last bits of a hash: first and last packet in flight, or -1. */
  private readonly chains: Int32Array;
  private readonly chainMask: number;
  /** After `obtain`: the hash was not named. */
  isFresh = false;
  /** Told of where nodes have moved to: by former node / NODE_WORDS. */
  onMoved: (to: Int32Array) => void = () => {};
  /** What `touch` has read: else it would be left out. */
  touched = 0;

  constructor(slots: number, seed: number) {
    this.seed = seed;
    this.rowHash = new Int32Array(slots);
    this.rowNext = new Int32Array(slots);
    const chains = 1 << (32 - Math.clz32(Math.min(slots, 1 << 14) - 1));
    this.chains = new Int32Array(2 * chains).fill(-1);
    this.chainMask = chains - 1;
  }

  /** Hashes that are named. */
  get size(): number {
    return this.nNodes;
  }

  /** Brings the buckets of the hashes in window slots `rows[0..n)` near. */
  touch(hash: Int32Array, rows: Int32Array, n: number): void {
    const { nodes, seed, shift } = this;
    let any = 0;
    for (let i = 0; i < n; i++) any ^= nodes[placeOf(hash[rows[i]], seed, shift) << BUCKET_SHIFT];
    this.touched = any;
  }

  /** The same for one hash. */
  touchHash(hash: number): number {
    return this.nodes[placeOf(hash, this.seed, this.shift) << BUCKET_SHIFT];
  }

  /** The same for nodes, of which some may be -1. */
  touchNodes(nodes: Int32Array, slots: Int32Array, n: number): number {
    let any = 0;
    for (let i = 0; i < n; i++) any ^= nodes[2 * slots[i]];
    for (let i = 0; i < n; i++) {
      const at = 2 * slots[i];
      any ^= this.nodes[Math.max(0, nodes[at])] ^ this.nodes[Math.max(0, nodes[at + 1])];
    }
    return any;
  }

  /** A packet with `hash` is in flight in window slot `row`; packets come in input order. Returns its node, or -1 if
   *  the hash is not named. */
  enter(row: number, hash: number): number {
    const { rowNext, chains } = this;
    const node = this.find(hash);
    this.nEntered++;
    if (node >= 0 && this.nodes[node + COUNT] & LEAVING) {
      this.nodes[node + COUNT]++;
      this.releaseLater(node);
    }
    this.rowHash[row] = hash;
    rowNext[row] = -1;
    const chain = (hash & this.chainMask) << 1;
    if (chains[chain] < 0) chains[chain] = row;
    else rowNext[chains[chain + 1]] = row;
    chains[chain + 1] = row;
    return node;
  }

  /** The packet in `row`, the oldest in flight, is in flight no more. */
  leave(row: number): void {
    this.chains[(this.rowHash[row] & this.chainMask) << 1] = this.rowNext[row];
    this.nLeft++;
  }

  /** Window slot of the oldest packet in flight with a hash; -1: there is none. */
  firstRow(hash: number): number {
    const { rowHash, rowNext } = this;
    let row = this.chains[(hash & this.chainMask) << 1];
    while (row >= 0 && rowHash[row] !== hash) row = rowNext[row];
    return row;
  }

  /** The node of a hash, which nobody may hold yet. Nodes may move. */
  obtain(hash: number): number {
    const found = this.find(hash);
    this.isFresh = found < 0;
    if (found >= 0) return found;
    if (this.nNodes >= this.passed.length * CROWDED) this.grow();
    const node = this.insert(hash);
    const { nodes } = this;
    nodes[node + NAME] = hash;
    nodes[node + COUNT] = 0;
    return node;
  }

  /** A live connection has a tuple with the hash of `node`; or somebody else needs it. */
  hold(node: number): void {
    this.nodes[node + COUNT]++;
  }

  /** Takes back a `hold` when the packets that are in flight now are so no more. */
  releaseLater(node: number): void {
    this.nodes[node + COUNT] |= LEAVING;
    if (this.queueEnd === this.queue.length) this.makeRoom();
    this.queue[this.queueEnd] = node;
    this.queueAt[this.queueEnd++] = this.nEntered;
  }

  /** Releases what is due. */
  settle(): void {
    const { queue, queueAt, queueEnd, queueHead, nLeft, nodes } = this;
    let due = queueHead;
    let any = 0;
    while (due < queueEnd && queueAt[due] <= nLeft) any ^= nodes[queue[due++]];
    this.touched = any;
    for (let i = queueHead; i < due; i++) {
      const node = queue[i];
      if ((--nodes[node + COUNT] & ~LEAVING) === 0) this.drop(node);
    }
    this.queueHead = due;
    if (due === queueEnd) this.queueHead = this.queueEnd = 0;
  }

  private makeRoom(): void {
    const { queue, queueAt, queueHead, queueEnd } = this;
    if (queueHead < queueEnd >> 1) {
      this.queue = new Int32Array(queueEnd * 2);
      this.queueAt = new Float64Array(queueEnd * 2);
    }
    this.queue.set(queue.subarray(queueHead, queueEnd));
    this.queueAt.set(queueAt.subarray(queueHead, queueEnd));
    this.queueHead = 0;
    this.queueEnd = queueEnd - queueHead;
  }

  hashOf(node: number): number {
    return this.nodes[node + HASH];
  }

  /** Name of the class that a node is in. */
  nameOf(node: number): number {
    return this.nodes[node + NAME];
  }

  classOf(hash: number): number {
    const node = this.find(hash);
    return node < 0 ? hash : this.nodes[node + NAME];
  }

  /** The class of a fresh node becomes part of the class that `into` is in. */
  attach(node: number, into: number): void {
    const { nodes } = this;
    nodes[node + NAME] = nodes[into + NAME];
    nodes[node + NEXT] = nodes[into + NEXT];
    nodes[into + NEXT] = node + 1;
  }

  /** The class `from` becomes part of the class `into`. Something must hold a hash of each. */
  merge(into: number, from: number): void {
    const { nodes } = this;
    const a = this.find(into);
    const b = this.find(from);
    if (a < 0 || b < 0 || nodes[a + NAME] !== into || nodes[b + NAME] !== from) {
      throw new Error(`steering: there is no class ${a < 0 || nodes[a + NAME] !== into ? into : from}`);
    }
    for (let node = b; nodes[node + NAME] !== into; node = nodes[node + NEXT] - 1) nodes[node + NAME] = into;
    const next = nodes[a + NEXT];
    nodes[a + NEXT] = nodes[b + NEXT];
    nodes[b + NEXT] = next;
    if ((nodes[b + COUNT] & ~LEAVING) === 0) this.drop(b);
  }

  /** Appends the window slots of the packets in flight with a hash, in input order. */
  rowsAt(hash: number, rows: number[]): void {
    const { rowHash, rowNext } = this;
    for (let row = this.chains[(hash & this.chainMask) << 1]; row >= 0; row = rowNext[row]) {
      if (rowHash[row] === hash) rows.push(row);
    }
  }

  /** Appends the window slots of the packets in flight of a class, each hash's in input order. */
  rowsOf(name: number, rows: number[]): void {
    const first = this.find(name);
    if (first < 0) {
      this.rowsAt(name, rows);
      return;
    }
    let node = first;
    do {
      this.rowsAt(this.nodes[node + HASH], rows);
      node = this.nodes[node + NEXT] - 1;
    } while (node !== first);
  }

  /** A node that nothing holds goes, unless others of its class have their name from it. */
  private drop(node: number): void {
    const { nodes } = this;
    const next = nodes[node + NEXT] - 1;
    if (next === node) {
      this.free(node);
      return;
    }
    if (nodes[node + NAME] === nodes[node + HASH]) return;
    let before = next;
    while (nodes[before + NEXT] - 1 !== node) before = nodes[before + NEXT] - 1;
    nodes[before + NEXT] = next + 1;
    this.free(node);
    // What is left alone has the class's name.
    if (before === next && (nodes[before + COUNT] & ~LEAVING) === 0) this.free(before);
  }

  private place(hash: number): number {
    return placeOf(hash, this.seed, this.shift);
  }

  private find(hash: number): number {
    const { nodes, passed } = this;
    for (let bucket = this.place(hash); ; bucket = (bucket + 1) & (passed.length - 1)) {
      const from = bucket << BUCKET_SHIFT;
      for (let node = from; node < from + WAYS * NODE_WORDS; node += NODE_WORDS) {
        if (nodes[node + HASH] === hash && nodes[node + NEXT] !== 0) return node;
      }
      if (passed[bucket] === 0) return -1;
    }
  }

  /** A node for a hash, alone in its class. */
  private insert(hash: number): number {
    const { nodes, passed } = this;
    this.nNodes++;
    for (let bucket = this.place(hash); ; bucket = (bucket + 1) & (passed.length - 1)) {
      const from = bucket << BUCKET_SHIFT;
      for (let node = from; node < from + WAYS * NODE_WORDS; node += NODE_WORDS) {
        if (nodes[node + NEXT] !== 0) continue;
        nodes[node + HASH] = hash;
        nodes[node + NEXT] = node + 1;
        return node;
      }
      passed[bucket]++;
    }
  }

  private free(node: number): void {
    const { nodes, passed } = this;
    nodes[node + NEXT] = 0;
    this.nNodes--;
    const last = node >> BUCKET_SHIFT;
    for (let b = this.place(nodes[node + HASH]); b !== last; b = (b + 1) & (passed.length - 1)) passed[b]--;
  }

  /** Twice as many buckets. */
  private grow(): void {
    const old = this.nodes;
    this.nodes = new Int32Array(old.length * 2);
    this.passed = new Uint16Array(this.passed.length * 2);
    this.shift--;
    this.nNodes = 0;
    const to = new Int32Array(old.length / NODE_WORDS).fill(-1);
    for (let node = 0; node < old.length; node += NODE_WORDS) {
      if (old[node + NEXT] !== 0) to[node / NODE_WORDS] = this.insert(old[node + HASH]);
    }
    const { nodes, queue } = this;
    for (let node = 0; node < old.length; node += NODE_WORDS) {
      if (old[node + NEXT] === 0) continue;
      const now = to[node / NODE_WORDS];
      nodes[now + NAME] = old[node + NAME];
      nodes[now + NEXT] = to[(old[node + NEXT] - 1) / NODE_WORDS] + 1;
      nodes[now + COUNT] = old[node + COUNT];
    }
    for (let i = this.queueHead; i < this.queueEnd; i++) queue[i] = movedTo(queue[i], to);
    this.onMoved(to);
  }
}

/** First bucket where a hash may be. */
function placeOf(hash: number, seed: number, shift: number): number {
  return Math.imul(hash ^ seed, 0x9e3779b1 | 0) >>> shift;
}

/** Where a node is now, by what `onMoved` tells. */
export function movedTo(node: number, to: Int32Array): number {
  return to[node / NODE_WORDS];
}
