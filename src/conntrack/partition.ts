/** A worker's conntrack partition: connection records in slabs, found through an index of cache-line
 *  buckets, all in SharedArrayBuffers.
 *
 *  Two threads use it. The home worker searches the index and owns the records that it finds there; the
 *  coordinator alone inserts and removes. What orders them:
 *
 *  - Insert: the coordinator fills a record that nobody can reach, writes its slot number behind a free
 *    way of a bucket, and then publishes both with one Atomics.store of the tag. A worker that reads the
 *    tag reads a whole record.
 *  - Remove: the coordinator clears the tag, and puts the slot into limbo with the worker's epoch. It is
 *    reused only when the epoch has moved on, which the worker does at the end of every vector: no
 *    search that began before the removal can still hold the slot.
 *  - Only connections that ended before the oldest packet in flight are removed (`sweep`), so nothing
 *    that a worker still has to do can want the record, and removal shows in no result.
 *  - Growth: the coordinator builds an index of twice the size beside the old one and publishes its
 *    level; the worker reads the level at the start of each vector, after it has popped the replies that
 *    could name records of the new one. The old index is never changed again.
 *
 *  `docs/architecture.md` has the argument; `test/` injects delays and removes under load. */
import { ADDR6, BUCKET_SHIFT, BUCKET_WAYS, COLD, CONN, TAG_FREE, TAG_REMOVED } from '../shm/layouts.js';
import { tupleHash } from './hash.js';
import { allocateTimeouts } from './timeouts.js';

const { SRC, DST, PORTS, ZONE_PROTO, EXPIRES } = CONN.at;
const HOT_SHIFT = CONN.shift;
const COLD_SHIFT = COLD.shift;
const ADDR6_SHIFT = ADDR6.shift;
const EXPIRES_F64 = EXPIRES >> 1;
const CREATED_F64 = COLD.at.CREATED >> 1;

const FIRST_LEVEL_BUCKETS = 64;
/** An index grows when its buckets hold more than this many records on average. */
const MAX_LOAD = 5;

/** What a thread needs to attach to a partition. */
export interface PartitionMemory {
  hot: SharedArrayBuffer;
  cold: SharedArrayBuffer;
  addr6: SharedArrayBuffer;
  index: SharedArrayBuffer;
  /** Word 0: index level in use. */
  ctl: SharedArrayBuffer;
  /** Timeout policies (timeouts.ts), the same for all partitions. */
  timeouts: SharedArrayBuffer;
  capacity: number;
  seed: number;
}

/** Memory for `capacity` connections. The buffers are zero pages until something is written to them. */
export function allocatePartition(
  capacity: number,
  seed: number,
  timeouts = allocateTimeouts(),
): PartitionMemory {
  const levels = levelsFor(capacity);
  const buckets = FIRST_LEVEL_BUCKETS * (2 ** levels - 1);
  return {
    hot: new SharedArrayBuffer(capacity * CONN.words * 4),
    cold: new SharedArrayBuffer(capacity * COLD.words * 4),
    addr6: new SharedArrayBuffer(capacity * ADDR6.words * 4),
    index: new SharedArrayBuffer(buckets * 64),
    ctl: new SharedArrayBuffer(64),
    timeouts,
    capacity,
    seed,
  };
}

function levelsFor(capacity: number): number {
  let levels = 1;
  while (FIRST_LEVEL_BUCKETS * 2 ** (levels - 1) * MAX_LOAD < capacity) levels++;
  return levels;
}

/** Tags 0 and 1 mean something else. */
export function tagOf(hash: number): number {
  return (hash & ~1) === 0 ? hash | 2 : hash;
}

/** The worker's view: search, and the records themselves. */
export class Partition {
  readonly hot: Int32Array;
  readonly hotF64: Float64Array;
  readonly cold: Int32Array;
  readonly coldF64: Float64Array;
  readonly addr6: Int32Array;
  readonly timeouts: Float64Array;
  readonly seed: number;
  readonly capacity: number;
  protected readonly ctl: Int32Array;
  protected readonly index: Int32Array;
  protected level = -1;
  /** First word of the index level in use, and its bucket mask. */
  base = 0;
  mask = 0;

  constructor(memory: PartitionMemory) {
    this.hot = new Int32Array(memory.hot);
    this.hotF64 = new Float64Array(memory.hot);
    this.cold = new Int32Array(memory.cold);
    this.coldF64 = new Float64Array(memory.cold);
    this.addr6 = new Int32Array(memory.addr6);
    this.timeouts = new Float64Array(memory.timeouts);
    this.index = new Int32Array(memory.index);
    this.ctl = new Int32Array(memory.ctl);
    this.seed = memory.seed;
    this.capacity = memory.capacity;
    this.refresh();
  }

  /** Takes notice of a grown index. Once a vector, after the replies have been popped. */
  refresh(): void {
    const level = Atomics.load(this.ctl, 0);
    if (level === this.level) return;
    this.level = level;
    this.base = (FIRST_LEVEL_BUCKETS * (2 ** level - 1)) << BUCKET_SHIFT;
    this.mask = FIRST_LEVEL_BUCKETS * 2 ** level - 1;
  }

  /** Finds a live connection: `slot << 1 | reply`, or -1. `kindReply` is ZONE_PROTO as the original
   *  direction would have it if this packet were a reply (it differs for ICMP). `addr6` holds source and
   *  destination of an IPv6 packet. */
  find(
    hash: number,
    src: number,
    dst: number,
    ports: number,
    zoneProto: number,
    zoneProtoReply: number,
    addr6: Int32Array | null,
    now: number,
  ): number {
    const { index, hot, hotF64, base, mask } = this;
    const tag = tagOf(hash);
    const swapped = (ports << 16) | (ports >>> 16);
    for (let bucket = hash & mask; ; bucket = (bucket + 1) & mask) {
      const b = base + (bucket << BUCKET_SHIFT);
      for (let way = 0; way < BUCKET_WAYS; way++) {
        const t = index[b + way];
        if (t === tag) {
          const slot = index[b + BUCKET_WAYS + way];
          const c = slot << HOT_SHIFT;
          if (hotF64[(c >> 1) + EXPIRES_F64] <= now) continue;
          if (
            hot[c + SRC] === src &&
            hot[c + DST] === dst &&
            hot[c + PORTS] === ports &&
            hot[c + ZONE_PROTO] === zoneProto &&
            (addr6 === null || this.sameAddr6(slot, addr6, 0))
          ) {
            return slot << 1;
          }
          if (
            hot[c + SRC] === dst &&
            hot[c + DST] === src &&
            hot[c + PORTS] === swapped &&
            hot[c + ZONE_PROTO] === zoneProtoReply &&
            (addr6 === null || this.sameAddr6(slot, addr6, 4))
          ) {
            return (slot << 1) | 1;
          }
        } else if (t === TAG_FREE) {
          return -1;
        }
      }
    }
  }

  /** Whether the record's addresses are the packet's, which start at word `from` (0) or cross (4). */
  private sameAddr6(slot: number, packet: Int32Array, from: number): boolean {
    const a = slot << ADDR6_SHIFT;
    for (let i = 0; i < 8; i++) {
      if (this.addr6[a + i] !== packet[i ^ from]) return false;
    }
    return true;
  }
}

/** The coordinator's view: everything that changes the index. */
export class PartitionWriter extends Partition {
  /** Published records. */
  count = 0;
  /** Slots below this one have been used. */
  high = 0;
  /** 1 for slots that are published. */
  readonly used: Uint8Array;
  /** Clock in ms at which each was made. */
  readonly createdMs: Float64Array;
  private readonly free: number[] = [];
  private readonly limbo: { slot: number; epoch: number }[] = [];
  private readonly epochOf: () => number;

  /** `epochOf` reads how many vectors the worker has finished. */
  constructor(memory: PartitionMemory, epochOf: () => number) {
    super(memory);
    this.used = new Uint8Array(memory.capacity);
    this.createdMs = new Float64Array(memory.capacity);
    this.epochOf = epochOf;
  }

  /** A slot to fill, or -1 if all are in use. */
  allocate(): number {
    const slot = this.free.pop();
    if (slot !== undefined) return slot;
    if (this.high < this.capacity) return this.high++;
    return this.drainLimbo() ? this.free.pop()! : -1;
  }

  /** Publishes the filled record in `slot`. */
  publish(slot: number): void {
    if (this.count >= (this.mask + 1) * MAX_LOAD) this.grow();
    this.used[slot] = 1;
    this.count++;
    this.place(this.hashOf(slot), slot, true);
  }

  /** Told of every removal while the record still is what it was. */
  onRemove: ((slot: number) => void) | null = null;

  /** Unpublishes a record; its slot is reused after the worker's current vector. */
  remove(slot: number): void {
    this.onRemove?.(slot);
    const { index, base, mask } = this;
    const hash = this.hashOf(slot);
    const tag = tagOf(hash);
    for (let bucket = hash & mask; ; bucket = (bucket + 1) & mask) {
      const b = base + (bucket << BUCKET_SHIFT);
      let full = true;
      let found = -1;
      for (let way = 0; way < BUCKET_WAYS; way++) {
        const t = index[b + way];
        if (t === TAG_FREE) {
          full = false;
          break;
        }
        if (t === tag && index[b + BUCKET_WAYS + way] === slot) found = way;
      }
      if (found >= 0) {
        this.clear(b, found);
        break;
      }
      if (!full) throw new Error(`conntrack: slot ${slot} is not in the index`);
    }
    // Flow-cache entries that still name the slot find it expired.
    this.hotF64[((slot << HOT_SHIFT) >> 1) + EXPIRES_F64] = 0;
    this.used[slot] = 0;
    this.count--;
    this.limbo.push({ slot, epoch: this.epochOf() });
    if (this.limbo.length >= 64) this.drainLimbo();
  }

  /** Removes up to `budget` slots' worth of connections that ended before `clock` (ms), which must not
   *  be later than the clock of the oldest packet in flight. Returns how many went. `cursor` is kept
   *  between calls; pass Infinity to look at all. */
  sweep(clock: number, budget: number): number {
    let removed = 0;
    let left = Math.min(budget, this.high);
    while (left-- > 0) {
      if (this.cursor >= this.high) this.cursor = 0;
      const slot = this.cursor++;
      if (this.used[slot] && this.expires(slot) < clock) {
        this.remove(slot);
        removed++;
      }
    }
    return removed;
  }
  private cursor = 0;

  /** The earliest time in ms at which a published connection ends; Infinity if there is none. */
  nextExpiry(): number {
    let next = Infinity;
    for (let slot = 0; slot < this.high; slot++) {
      if (this.used[slot]) next = Math.min(next, this.expires(slot));
    }
    return next;
  }

  expires(slot: number): number {
    return this.hotF64[((slot << HOT_SHIFT) >> 1) + EXPIRES_F64];
  }

  created(slot: number): number {
    return this.coldF64[((slot << COLD_SHIFT) >> 1) + CREATED_F64];
  }

  zone(slot: number): number {
    return this.hot[(slot << HOT_SHIFT) + ZONE_PROTO] >>> 16;
  }

  /** Bytes of the slabs and of the index levels that have been written to. */
  usedBytes(): number {
    const indexBytes = FIRST_LEVEL_BUCKETS * (2 ** (this.level + 1) - 1) * 64;
    return this.high * (CONN.words + COLD.words) * 4 + this.high6 * ADDR6.words * 4 + indexBytes + 64;
  }
  /** Slots below this one have had an IPv6 connection. */
  high6 = 0;

  private hashOf(slot: number): number {
    const c = slot << HOT_SHIFT;
    const { hot } = this;
    return tupleHash(this.seed, hot[c + SRC], hot[c + DST], hot[c + PORTS], hot[c + ZONE_PROTO]);
  }

  /** Empties a way of the bucket at word `b`. A search ends at the first free way, so a way becomes free
   *  only if none behind it is in use and the bucket was never full: searches go on past a full bucket,
   *  and past what was removed from it. */
  private clear(b: number, way: number): void {
    const { index } = this;
    Atomics.store(index, b + way, TAG_REMOVED);
    if (way + 1 === BUCKET_WAYS || index[b + way + 1] !== TAG_FREE) return;
    for (; way >= 0 && index[b + way] === TAG_REMOVED; way--) Atomics.store(index, b + way, TAG_FREE);
  }

  private place(hash: number, slot: number, published: boolean): void {
    const { index, base, mask } = this;
    for (let bucket = hash & mask; ; bucket = (bucket + 1) & mask) {
      const b = base + (bucket << BUCKET_SHIFT);
      for (let way = 0; way < BUCKET_WAYS; way++) {
        if (index[b + way] === TAG_FREE || index[b + way] === TAG_REMOVED) {
          index[b + BUCKET_WAYS + way] = slot;
          if (published) Atomics.store(index, b + way, tagOf(hash));
          else index[b + way] = tagOf(hash);
          return;
        }
      }
    }
  }

  /** Builds the next level from the records and publishes it. */
  private grow(): void {
    const next = this.level + 1;
    const words = (FIRST_LEVEL_BUCKETS * 2 ** next) << BUCKET_SHIFT;
    const base = (FIRST_LEVEL_BUCKETS * (2 ** next - 1)) << BUCKET_SHIFT;
    if (base + words > this.index.length) return;
    this.level = next;
    this.base = base;
    this.mask = FIRST_LEVEL_BUCKETS * 2 ** next - 1;
    for (let slot = 0; slot < this.high; slot++) {
      if (this.used[slot]) this.place(this.hashOf(slot), slot, false);
    }
    Atomics.store(this.ctl, 0, next);
  }

  private drainLimbo(): boolean {
    const epoch = this.epochOf();
    let kept = 0;
    for (const entry of this.limbo) {
      if (entry.epoch === epoch) this.limbo[kept++] = entry;
      else this.free.push(entry.slot);
    }
    this.limbo.length = kept;
    return this.free.length > 0;
  }
}
