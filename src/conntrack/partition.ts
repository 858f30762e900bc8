/** A worker's conntrack partition: connection records in slabs, found through an index of cache-line
 *  buckets, all in SharedArrayBuffers.
 *
 *  Two threads use it. The home worker searches the index and owns the records that it finds there; the
 *  coordinator alone inserts and removes. What orders them:
 *
 *  - Insert: the coordinator fills a record that nobody can reach (or the home worker does, in a slot that it
 *    was granted, and tells the coordinator), writes its slot number behind a free way of a bucket, and then the
 *    tag. Whoever has to find the connection has been told so by an atomic word (the write pointer of a ring,
 *    CTL_SERVED), stored after all this and read before. Whoever else meets the tag compares a key that is not his.
 *  - Remove: the coordinator clears the tag and, after an atomic operation, which keeps the two in order, puts the
 *    slot into limbo with the worker's epoch. It is reused only when the epoch has moved on, which the worker does
 *    at the end of every vector: no search that began before the removal can still hold the slot.
 *  - Only connections that ended before the oldest packet in flight are removed (`sweep`), so nothing
 *    that a worker still has to do can want the record, and removal shows in no result.
 *  - A translated connection has two entries, one for the tuple of each direction; each is published and
 *    removed by itself. Both name the same record, so the argument is the same for either.
 *  - Growth: the coordinator builds an index of twice the size beside the old one and publishes its
 *    level; the worker reads the level at the start of each vector, after it has popped the replies that
 *    could name records of the new one. The old index is never changed again.
 *
 *  `docs/architecture.md` has the argument; `test/` injects delays and removes under load. */
import { allocateShared } from '../shm/aligned.js';
import {
  ADDR6,
  BUCKET_SHIFT,
  BUCKET_WAYS,
  COLD,
  CONN,
  NAT,
  PARENT,
  RECORD,
  STATE_CHILD,
  STATE_ENDED,
  STATE_FTP,
  STATE_TFTP,
  STATE_TRANSLATED,
  TAG_FREE,
  TAG_REMOVED,
} from '../shm/layouts.js';
import { allocateExpected, ExpectedRing } from './expected.js';
import { tupleHash } from './hash.js';
import { ConnKey, replyZoneProto } from './key.js';
import { allocateTimeouts, SHORTEST_TIMEOUT_MS } from './timeouts.js';
import { Wheel, type WheelOwner } from './wheel.js';

const { SRC, DST, PORTS, ZONE_PROTO, STATE, EXPIRES } = CONN.at;
const HOT_SHIFT = CONN.shift;
const COLD_SHIFT = COLD.shift;
const ADDR6_SHIFT = ADDR6.shift;
const NAT_SHIFT = NAT.shift;
const NAT_ADDR6 = NAT.at.SRC6_0;
const REPLY_SRC = NAT.at.SRC;
const REPLY_DST = NAT.at.DST;
const REPLY_PORTS = NAT.at.PORTS;
const TRANSLATED = STATE_TRANSLATED;
const ENDED = STATE_ENDED;
const EXPIRES_F64 = EXPIRES >> 1;
const CREATED_F64 = COLD.at.CREATED >> 1;

/** Buckets of level 0 of an index. */
export const FIRST_LEVEL_BUCKETS = 64;
/** An index grows when its buckets hold more than this many records on average. */
const MAX_LOAD = 5;
/** Connections that the sweeper looks at together. */
const SWEPT_AT_ONCE = 32;
/** More than packets in flight end in the time between two looks. A power of two. */
const ENDED_SLOTS = 1 << 16;

/** What a thread needs to attach to a partition. */
export interface PartitionMemory {
  hot: SharedArrayBuffer;
  cold: SharedArrayBuffer;
  addr6: SharedArrayBuffer;
  nat: SharedArrayBuffer;
  parent: SharedArrayBuffer;
  /** RECORD of each slot, if records are asked for. */
  records: SharedArrayBuffer | null;
  index: SharedArrayBuffer;
  /** Word 3: the coordinator's own. Word 0: index level in use. Word 1: 1 once a connection has been translated. Word 2: how often a
   *  connection has got a tuple that an older one had (and has, for all that it can't be found by it). */
  ctl: SharedArrayBuffer;
  /** Connections that packets have ended. Word 0: how many, modulo 2^32; then the slots of the last ENDED_SLOTS.
   *  Written by the home worker; if several share the partition each has its own. */
  ended: SharedArrayBuffer;
  /** What helpers have expected (expected.ts). */
  expected: SharedArrayBuffer;
  /** Timeout policies (timeouts.ts), the same for all partitions. */
  timeouts: SharedArrayBuffer;
  /** If several workers share the partition: by slot, which packet (Float64 SEQ) ended the connection at its own
   *  time; else empty. */
  endedBy: SharedArrayBuffer;
  capacity: number;
  seed: number;
}

/** Memory for `capacity` connections. The buffers are zero pages until something is written to them. */
export function allocatePartition(
  capacity: number,
  seed: number,
  timeouts = allocateTimeouts(),
  withRecords = false,
  shared = false,
): PartitionMemory {
  // All of them could be translated.
  const levels = levelsFor(2 * capacity);
  const buckets = FIRST_LEVEL_BUCKETS * (2 ** levels - 1);
  return {
    hot: allocateShared(capacity * CONN.words * 4),
    cold: allocateShared(capacity * COLD.words * 4),
    addr6: allocateShared(capacity * ADDR6.words * 4),
    nat: allocateShared(capacity * NAT.words * 4),
    parent: allocateShared(capacity * PARENT.words * 4),
    records: withRecords ? allocateShared(capacity * RECORD.words * 4) : null,
    index: allocateShared(buckets * 64),
    ctl: new SharedArrayBuffer(64),
    ended: allocateEnded(),
    expected: allocateExpected(),
    timeouts,
    endedBy: new SharedArrayBuffer(shared ? capacity * 8 : 0),
    capacity,
    seed,
  };
}

/** Memory for PartitionMemory.ended. */
export function allocateEnded(): SharedArrayBuffer {
  return new SharedArrayBuffer((1 + ENDED_SLOTS) * 4);
}

function levelsFor(entries: number): number {
  let levels = 1;
  while (FIRST_LEVEL_BUCKETS * 2 ** (levels - 1) * MAX_LOAD < entries) levels++;
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
  readonly nat: Int32Array;
  readonly parent: Int32Array;
  readonly records: Int32Array | null;
  readonly timeouts: Float64Array;
  /** Written by whoever ends a connection; empty unless the partition is shared. */
  readonly endedBy: Float64Array;
  readonly seed: number;
  readonly capacity: number;
  protected readonly ctl: Int32Array;
  readonly index: Int32Array;
  protected readonly endedSlots: Int32Array;
  readonly expected: ExpectedRing;
  protected level = -1;
  /** First word of the index level in use, and its bucket mask. */
  base = 0;
  mask = 0;
  /** Whether any connection has been translated: then a tuple can belong to more than one. */
  protected translates = false;
  /** How often a connection has got a tuple by which another was found before. */
  conflicts = 0;

  constructor(memory: PartitionMemory) {
    this.hot = new Int32Array(memory.hot);
    this.hotF64 = new Float64Array(memory.hot);
    this.cold = new Int32Array(memory.cold);
    this.coldF64 = new Float64Array(memory.cold);
    this.addr6 = new Int32Array(memory.addr6);
    this.nat = new Int32Array(memory.nat);
    this.parent = new Int32Array(memory.parent);
    this.records = memory.records === null ? null : new Int32Array(memory.records);
    this.timeouts = new Float64Array(memory.timeouts);
    this.endedBy = new Float64Array(memory.endedBy);
    this.index = new Int32Array(memory.index);
    this.ctl = new Int32Array(memory.ctl);
    this.endedSlots = new Int32Array(memory.ended);
    this.expected = new ExpectedRing(memory.expected);
    this.seed = memory.seed;
    this.capacity = memory.capacity;
    this.refresh();
  }

  /** Takes notice of a grown index. Once a vector, after the replies have been popped. */
  refresh(): void {
    const level = Atomics.load(this.ctl, 0);
    this.translates = this.ctl[1] !== 0;
    this.conflicts = this.ctl[2];
    if (level === this.level) return;
    this.level = level;
    this.base = (FIRST_LEVEL_BUCKETS * (2 ** level - 1)) << BUCKET_SHIFT;
    this.mask = FIRST_LEVEL_BUCKETS * 2 ** level - 1;
  }

  /** Finds a live connection: `slot << 1 | reply`, or -1. `kindReply` is ZONE_PROTO as the original
   *  direction would have it if this packet were a reply (it differs for ICMP). `addr6` holds source and
   *  destination of an IPv6 packet.
   *
   *  Translation can give a tuple to two connections (the client of a virtual address may also speak with
   *  the server behind it): then the younger one has it, as in Open vSwitch. */
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
    let best = -1;
    for (let bucket = hash & mask; ; bucket = (bucket + 1) & mask) {
      const b = base + (bucket << BUCKET_SHIFT);
      for (let way = 0; way < BUCKET_WAYS; way++) {
        const t = index[b + way];
        if (t === tag) {
          const entry = index[b + BUCKET_WAYS + way];
          const slot = entry >>> 1;
          const c = slot << HOT_SHIFT;
          if (hotF64[(c >> 1) + EXPIRES_F64] <= now) continue;
          let found = -1;
          if (entry & 1) {
            if (hot[c + ZONE_PROTO] === zoneProtoReply && this.isReply(slot, src, dst, ports, addr6)) {
              found = entry;
            }
          } else if (
            hot[c + SRC] === src &&
            hot[c + DST] === dst &&
            hot[c + PORTS] === ports &&
            hot[c + ZONE_PROTO] === zoneProto &&
            (addr6 === null || this.sameAddr6(slot, addr6, 0))
          ) {
            found = entry;
          } else if (
            hot[c + SRC] === dst &&
            hot[c + DST] === src &&
            hot[c + PORTS] === swapped &&
            hot[c + ZONE_PROTO] === zoneProtoReply &&
            !(hot[c + STATE] & TRANSLATED) &&
            (addr6 === null || this.sameAddr6(slot, addr6, 4))
          ) {
            found = entry | 1;
          }
          if (found < 0) continue;
          if (!this.translates) return found;
          if (best < 0 || this.created(found >> 1) > this.created(best >> 1)) best = found;
        } else if (t === TAG_FREE) {
          return best;
        }
      }
    }
  }

  /** Whether this is the tuple of the replies of the translated connection in `slot`. */
  protected isReply(
    slot: number,
    src: number,
    dst: number,
    ports: number,
    addr6: Int32Array | null,
  ): boolean {
    const { nat } = this;
    const n = slot << NAT_SHIFT;
    if (nat[n + REPLY_SRC] !== src || nat[n + REPLY_DST] !== dst || nat[n + REPLY_PORTS] !== ports) {
      return false;
    }
    if (addr6 !== null) {
      for (let i = 0; i < 8; i++) if (nat[n + NAT_ADDR6 + i] !== addr6[i]) return false;
    }
    return true;
  }

  /** Fills `key` with the tuple that the connection's packets have in the original direction (`reply` 0) or
   *  the other. */
  load(slot: number, reply: number, key: ConnKey): void {
    const { hot, addr6, nat } = this;
    const c = slot << HOT_SHIFT;
    const a = slot << ADDR6_SHIFT;
    const n = slot << NAT_SHIFT;
    const zoneProto = hot[c + ZONE_PROTO];
    key.ipv6 = (zoneProto & 0x80) !== 0;
    key.proto = (zoneProto >>> 8) & 0xff;
    key.related = false;
    if (reply === 0) {
      key.src = hot[c + SRC];
      key.dst = hot[c + DST];
      key.ports = hot[c + PORTS];
      key.zoneProto = zoneProto;
      key.zoneProtoReply = replyZoneProto(zoneProto);
      if (key.ipv6) for (let i = 0; i < 8; i++) key.addr6[i] = addr6[a + i];
    } else {
      key.zoneProto = replyZoneProto(zoneProto);
      key.zoneProtoReply = zoneProto;
      if (hot[c + STATE] & TRANSLATED) {
        key.src = nat[n + REPLY_SRC];
        key.dst = nat[n + REPLY_DST];
        key.ports = nat[n + REPLY_PORTS];
        if (key.ipv6) for (let i = 0; i < 8; i++) key.addr6[i] = nat[n + NAT_ADDR6 + i];
      } else {
        const ports = hot[c + PORTS];
        key.src = hot[c + DST];
        key.dst = hot[c + SRC];
        key.ports = (ports << 16) | (ports >>> 16);
        if (key.ipv6) for (let i = 0; i < 8; i++) key.addr6[i] = addr6[a + (i ^ 4)];
      }
    }
    key.hash = tupleHash(this.seed, key.src, key.dst, key.ports, zoneProto);
  }

  /** Fills `key` with the original tuple of the connection's parent. */
  loadParent(slot: number, key: ConnKey): void {
    const { parent } = this;
    const p = slot << PARENT.shift;
    key.src = parent[p + PARENT.at.SRC];
    key.dst = parent[p + PARENT.at.DST];
    key.ports = parent[p + PARENT.at.PORTS];
    key.zoneProto = parent[p + PARENT.at.ZONE_PROTO];
    key.zoneProtoReply = replyZoneProto(key.zoneProto);
    key.proto = (key.zoneProto >>> 8) & 0xff;
    key.ipv6 = (key.zoneProto & 0x80) !== 0;
    key.related = false;
    if (key.ipv6) for (let i = 0; i < 8; i++) key.addr6[i] = parent[p + PARENT.at.SRC6_0 + i];
    key.hash = tupleHash(this.seed, key.src, key.dst, key.ports, key.zoneProto);
  }

  /** Packet `seq` at `now` ends the connection: nothing finds it any more. */
  end(slot: number, now: number, seq = 0): void {
    const { hot, endedSlots, endedBy } = this;
    const c = slot << HOT_SHIFT;
    if (endedBy.length > 0) endedBy[slot] = seq;
    hot[c + STATE] |= ENDED;
    this.hotF64[(c >> 1) + EXPIRES_F64] = now;
    const n = endedSlots[0];
    endedSlots[1 + (n & (ENDED_SLOTS - 1))] = slot;
    Atomics.store(endedSlots, 0, (n + 1) | 0);
  }

  /** When the connection was committed: number of the packet, plus which of its ct() did. */
  created(slot: number): number {
    return this.coldF64[((slot << COLD_SHIFT) >> 1) + CREATED_F64];
  }

  /** Whether the record's addresses are the packet's, which start at word `from` (0) or cross (4). */
  protected sameAddr6(slot: number, packet: Int32Array, from: number): boolean {
    const a = slot << ADDR6_SHIFT;
    for (let i = 0; i < 8; i++) {
      if (this.addr6[a + i] !== packet[i ^ from]) return false;
    }
    return true;
  }
}

/** Why a connection is removed: its time was over; a packet ended it; somebody wanted it. */
export const REMOVED_EXPIRED = 0;
export const REMOVED_EVICTED = 1;
export const REMOVED_FLUSHED = 2;

/** Removed slots that go into limbo together at most. */
const LEAVING_AT_ONCE = 64;
/** Slots that limbo may have left behind before it moves up. */
const LIMBO_SLACK = 4096;
/** Values of PartitionWriter.used besides 0, free. */
const USED = 1;
const WATCHED = 2;

/** The coordinator's view: everything that changes the index.
 *
 *  Ended connections are found by a wheel (wheel.ts) that says when to look at which. A packet may put the end of
 *  a connection off, and bring it forward, but never below `shortest` from its own time; so a connection that is
 *  looked at every `shortest` is found as soon as it has ended. So closely are those looked at whose number
 *  counts: all of them once the table has been full, and those of limited zones always. Others may be found later,
 *  by half of the time that they have lived. Those that packets end on the spot are reported, in `ended`. */
export class PartitionWriter extends Partition implements WheelOwner {
  /** Published records. */
  count = 0;
  /** Slots below this one have been used. */
  high = 0;
  /** Not 0 for slots that are published. */
  readonly used: Uint8Array;
  /** Clock in ms at which each was made. */
  readonly createdMs: Float64Array;
  /** Hash of each one's original tuple. */
  private readonly hashes: Int32Array;
  private readonly wheel: Wheel;
  /** No packet leaves a connection with less than this, in ms, except one that ends it on the spot. */
  private shortest = SHORTEST_TIMEOUT_MS;
  /** Whether all connections are watched closely. */
  private watchesAll = false;
  /** What workers have told of connections that packets have ended, and how much of it has been read. */
  private readonly endedLogs: { slots: Int32Array; seen: number }[] = [{ slots: this.endedSlots, seen: 0 }];
  private readonly free: number[] = [];
  /** Removed slots that a search may still hold, in order of removal, and the epochs of that. */
  private readonly limbo: number[] = [];
  private readonly limboEpochs: number[] = [];
  private limboHead = 0;
  /** Removed slots that are to go into limbo together, the first `nLeaving` elements; while `sweeping` they gather. */
  private readonly leaving = new Int32Array(LEAVING_AT_ONCE);
  private nLeaving = 0;
  private sweeping = false;
  private readonly epochOf: () => number;
  private readonly grace: number;
  /** By bucket of the level in use: entries that were put further on because it was full. */
  private passed: Int32Array;

  /** `epochOf` reads how many vectors the worker has finished, or of several workers at least that many; a
   *  removed slot is reused when it has moved on by `grace`. */
  constructor(memory: PartitionMemory, epochOf: () => number, grace = 1) {
    super(memory);
    this.used = new Uint8Array(memory.capacity);
    this.createdMs = new Float64Array(memory.capacity);
    this.hashes = new Int32Array(memory.capacity);
    this.wheel = new Wheel(memory.capacity);
    this.epochOf = epochOf;
    this.passed = new Int32Array(this.mask + 1);
    this.grace = grace;
  }

  /** A slot to fill, or -1 if all are in use. */
  allocate(): number {
    const slot = this.free.pop();
    if (slot !== undefined) return slot;
    if (this.high < this.capacity) return this.high++;
    return this.drainLimbo() ? this.free.pop()! : -1;
  }

  /** Publishes the filled record in `slot`; with `watched`, its end is to be noticed as soon as it comes; with
   *  `whole` false all but the tuple of its replies, which `publishReply` does. */
  publish(slot: number, watched = false, whole = true): void {
    const translated = (this.hot[(slot << HOT_SHIFT) + STATE] & STATE_TRANSLATED) !== 0;
    if (translated && !this.translates) {
      this.translates = true;
      Atomics.store(this.ctl, 1, 1);
    }
    this.publishPlain(slot, this.hashOf(slot), this.expires(slot), watched);
    if (!translated) return;
    this.entries++;
    if (whole) this.place(this.replyHashOf(slot), (slot << 1) | 1);
    else this.withhold(slot, this.replyHashOf(slot));
  }

  /** Touches what `publishPlain` will change. */
  touch(slot: number, hash: number): number {
    return (
      this.index[this.base + ((hash & this.mask) << BUCKET_SHIFT)] ^ this.used[slot] ^ this.wheel.touch(slot)
    );
  }

  /** Touches where a tuple is, or will be. */
  touchTuple(src: number, dst: number, ports: number, zoneProto: number): number {
    const hash = tupleHash(this.seed, src, dst, ports, zoneProto);
    return this.index[this.base + ((hash & this.mask) << BUCKET_SHIFT)];
  }

  /** Touches the slots that come next, at most `n`, for translated connections. */
  touchFree(n: number): number {
    const { free, hot, cold, nat } = this;
    let sink = 0;
    for (let i = free.length - 1; i >= Math.max(0, free.length - n); i--) {
      const slot = free[i];
      sink ^= hot[slot << HOT_SHIFT] ^ cold[slot << COLD_SHIFT] ^ nat[slot << NAT_SHIFT];
    }
    return sink;
  }

  /** The same for a connection without a tuple of its own for replies, which has this hash and expires then. */
  publishPlain(slot: number, hash: number, expires: number, watched: boolean): void {
    if (this.translates && this.conflicting(slot)) Atomics.add(this.ctl, 2, 1);
    if (this.entries >= (this.mask + 1) * MAX_LOAD) this.grow();
    this.used[slot] = watched ? WATCHED : USED;
    this.hashes[slot] = hash;
    this.wheel.put(slot, this.lookBefore(expires, slot, this.createdMs[slot]));
    this.count++;
    this.entries++;
    this.place(hash, slot << 1);
  }

  /** Slots by the hash of a reply tuple that is chosen, but not yet to be found by workers. */
  private readonly withheld = new Map<number, number[]>();
  /** Slots that were removed meanwhile. */
  private readonly gone = new Set<number>();

  private withhold(slot: number, hash: number): void {
    const slots = this.withheld.get(hash);
    if (slots === undefined) this.withheld.set(hash, [slot]);
    else slots.push(slot);
  }

  /** No longer withholds the slot; false if it was not withheld. */
  private unwithhold(slot: number): boolean {
    if (this.withheld.size === 0) return false;
    const hash = this.replyHashOf(slot);
    const slots = this.withheld.get(hash);
    const at = slots?.indexOf(slot) ?? -1;
    if (at < 0) return false;
    slots!.splice(at, 1);
    if (slots!.length === 0) this.withheld.delete(hash);
    return true;
  }

  /** The tuple of the replies may be found from now on. */
  publishReply(slot: number): void {
    if (this.unwithhold(slot)) this.place(this.replyHashOf(slot), (slot << 1) | 1);
    else if (this.gone.delete(slot)) this.retire(slot);
  }

  /** Whether a connection that is live for packet `seq` at `now` has this tuple: `find`, and what workers don't
   *  find: tuples that are withheld, and connections that a later packet has ended at the same time. */
  isTaken(
    hash: number,
    src: number,
    dst: number,
    ports: number,
    zoneProto: number,
    zoneProtoReply: number,
    addr6: Int32Array | null,
    now: number,
    seq: number,
  ): boolean {
    if (this.find(hash, src, dst, ports, zoneProto, zoneProtoReply, addr6, now) >= 0) return true;
    const { endedBy, hot, hotF64, index, base, mask } = this;
    if (endedBy.length === 0) return false;
    for (const slot of this.withheld.get(hash) ?? []) {
      const c = slot << HOT_SHIFT;
      if (hotF64[(c >> 1) + EXPIRES_F64] <= now || hot[c + ZONE_PROTO] !== zoneProtoReply) continue;
      if (this.isReply(slot, src, dst, ports, addr6)) return true;
    }
    const tag = tagOf(hash);
    for (let bucket = hash & mask; ; bucket = (bucket + 1) & mask) {
      const b = base + (bucket << BUCKET_SHIFT);
      for (let way = 0; way < BUCKET_WAYS; way++) {
        if (index[b + way] === TAG_FREE) return false;
        if (index[b + way] !== tag) continue;
        const entry = index[b + BUCKET_WAYS + way];
        const slot = entry >>> 1;
        if (hotF64[((slot << HOT_SHIFT) >> 1) + EXPIRES_F64] !== now || endedBy[slot] <= seq) continue;
        if (this.matches(entry, src, dst, ports, zoneProto, zoneProtoReply, addr6)) return true;
      }
    }
  }

  /** Whether an entry is for this tuple: of either direction if the connection is not translated. */
  private matches(
    entry: number,
    src: number,
    dst: number,
    ports: number,
    zoneProto: number,
    zoneProtoReply: number,
    addr6: Int32Array | null,
  ): boolean {
    const { hot } = this;
    const slot = entry >>> 1;
    const c = slot << HOT_SHIFT;
    if (entry & 1)
      return hot[c + ZONE_PROTO] === zoneProtoReply && this.isReply(slot, src, dst, ports, addr6);
    if (
      hot[c + SRC] === src &&
      hot[c + DST] === dst &&
      hot[c + PORTS] === ports &&
      hot[c + ZONE_PROTO] === zoneProto &&
      (addr6 === null || this.sameAddr6(slot, addr6, 0))
    )
      return true;
    return (
      hot[c + SRC] === dst &&
      hot[c + DST] === src &&
      hot[c + PORTS] === ((ports << 16) | (ports >>> 16)) &&
      hot[c + ZONE_PROTO] === zoneProtoReply &&
      !(hot[c + STATE] & TRANSLATED) &&
      (addr6 === null || this.sameAddr6(slot, addr6, 4))
    );
  }

  /** Ways in use. */
  private entries = 0;

  /** Whether the new connection's replies look like packets of an older one, which will not be found by them
   *  any more. Its own packets found none, and translation chooses replies that are nobody's. */
  private conflicting(slot: number): boolean {
    const state = this.hot[(slot << HOT_SHIFT) + STATE];
    if ((state & (STATE_TRANSLATED | STATE_CHILD)) === STATE_TRANSLATED) return false;
    const key = this.replies;
    this.load(slot, 1, key);
    const { hash, src, dst, ports, zoneProto, zoneProtoReply, ipv6, addr6 } = key;
    const now = this.createdMs[slot];
    return this.find(hash, src, dst, ports, zoneProto, zoneProtoReply, ipv6 ? addr6 : null, now) >= 0;
  }
  private readonly replies = new ConnKey();

  /** Forgets what was recorded of an earlier connection in `slot`. */
  clearRecord(slot: number): void {
    this.records?.fill(0, slot << RECORD.shift, (slot + 1) << RECORD.shift);
  }

  /** The first `n` slots will be removed: touches what `onRemove` will change, and returns something of it. */
  onTouch: ((slots: Int32Array, n: number) => number) | null = null;

  /** Told of every removal and its reason (REMOVED_*) while the record still is what it was. */
  onRemove: ((slot: number, reason: number) => void) | null = null;

  /** Unpublishes a record; its slot is reused after the worker's current vector. */
  remove(slot: number, reason: number = REMOVED_FLUSHED): void {
    this.onRemove?.(slot, reason);
    const translated = (this.hot[(slot << HOT_SHIFT) + STATE] & STATE_TRANSLATED) !== 0;
    this.unplace(this.hashes[slot], slot << 1);
    const withheld = translated && this.unwithhold(slot);
    if (translated && !withheld) this.unplace(this.replyHashOf(slot), (slot << 1) | 1);
    // Flow-cache entries that still name the slot find it expired, as it mostly is: then the line stays as it is, and is
    // not fetched from this core when the slot is filled again.
    if (reason === REMOVED_FLUSHED) this.hotF64[((slot << HOT_SHIFT) >> 1) + EXPIRES_F64] = 0;
    this.used[slot] = 0;
    this.wheel.take(slot);
    this.count--;
    this.entries -= translated ? 2 : 1;
    // Somebody still waits to hear of it: then `publishReply` sets it free.
    if (withheld) this.gone.add(slot);
    else this.retire(slot);
  }

  private retire(slot: number): void {
    this.leaving[this.nLeaving++] = slot;
    if (!this.sweeping || this.nLeaving === LEAVING_AT_ONCE) this.leave();
  }

  /** Puts the slots in `leaving` into limbo. */
  private leave(): void {
    const { leaving, limbo, limboEpochs } = this;
    // The emptied tags are seen before the epoch is read: this orders a thread's stores and loads.
    Atomics.add(this.ctl, 3, 1);
    const epoch = this.epochOf();
    for (let i = 0; i < this.nLeaving; i++) {
      limbo.push(leaving[i]);
      limboEpochs.push(epoch);
    }
    this.nLeaving = 0;
    if (limbo.length - this.limboHead >= LEAVING_AT_ONCE) this.drainLimbo();
  }

  private unplace(hash: number, entry: number): void {
    const { index, base, mask } = this;
    const tag = tagOf(hash);
    for (let bucket = hash & mask; ; bucket = (bucket + 1) & mask) {
      const b = base + (bucket << BUCKET_SHIFT);
      for (let way = 0; way < BUCKET_WAYS; way++) {
        const t = index[b + way];
        if (t === TAG_FREE) throw new Error(`conntrack: slot ${entry >>> 1} is not in the index`);
        if (t === tag && index[b + BUCKET_WAYS + way] === entry) {
          index[b + way] = TAG_REMOVED;
          if (this.passed[bucket] === 0) this.freeWays(bucket);
          // The buckets that it did not fit into.
          for (let full = hash & mask; full !== bucket; full = (full + 1) & mask) {
            if (--this.passed[full] === 0) this.freeWays(full);
          }
          return;
        }
      }
    }
  }

  /** Removes connections that ended before `clock` (ms), which must not be later than the clock of the oldest
   *  packet in flight: those that it is time to look at, `budget` at most. Returns how many went. */
  sweep(clock: number, budget: number): number {
    const before = this.count;
    this.readEnded();
    this.sweeping = true;
    let left = budget;
    // All at once what can be known of them beforehand: cache misses of many overlap.
    while (left >= SWEPT_AT_ONCE) {
      const n = this.wheel.peek(clock, this.swept);
      if (n < SWEPT_AT_ONCE) break;
      this.touchSwept(clock);
      this.wheel.advance(clock, n, this);
      left -= n;
    }
    this.wheel.advance(clock, left, this);
    this.sweeping = false;
    if (this.nLeaving > 0) this.leave();
    return before - this.count;
  }

  /** Touches the records in `swept`, and their places in the index. */
  private touchSwept(clock: number): void {
    const { swept, hot, hashes, nat, index, base, mask, over } = this;
    let sink = 0;
    for (let i = 0; i < SWEPT_AT_ONCE; i++) {
      const slot = swept[i];
      sink ^= hot[slot << HOT_SHIFT] ^ index[base + ((hashes[slot] & mask) << BUCKET_SHIFT)];
    }
    if (this.translates) {
      let n = 0;
      for (let i = 0; i < SWEPT_AT_ONCE; i++) {
        const slot = swept[i];
        if (this.expires(slot) >= clock) continue;
        over[n++] = slot;
        if (hot[(slot << HOT_SHIFT) + STATE] & TRANSLATED) sink ^= nat[slot << NAT_SHIFT];
      }
      for (let i = 0; i < n; i++) {
        const slot = over[i];
        if (!(hot[(slot << HOT_SHIFT) + STATE] & TRANSLATED)) continue;
        sink ^= index[base + ((this.replyHashOf(slot) & mask) << BUCKET_SHIFT)];
      }
      if (this.onTouch !== null) sink ^= this.onTouch(over, n);
    }
    this.sink = sink;
  }
  private readonly swept = new Int32Array(SWEPT_AT_ONCE);
  /** Those of them that have ended. */
  private readonly over = new Int32Array(SWEPT_AT_ONCE);
  /** Keeps the loads of `touchSwept` alive. */
  sink = 0;

  /** The same, looking at all. */
  sweepAll(clock: number): number {
    const before = this.count;
    for (let slot = 0; slot < this.high; slot++) {
      if (this.used[slot] !== 0 && this.expires(slot) < clock) this.due(slot, clock);
    }
    return before - this.count;
  }

  /** Whether the ends of all connections are to be noticed as soon as they come, from `clock` on. */
  watchAll(all: boolean, clock: number): void {
    const more = all && !this.watchesAll;
    this.watchesAll = all;
    if (more) this.lookAgain(clock);
  }

  /** Timeouts have changed: none is below `shortest` ms now. */
  setShortest(shortest: number, clock: number): void {
    const less = shortest < this.shortest;
    this.shortest = shortest;
    if (less) this.lookAgain(clock);
  }

  /** For the wheel: removes what has ended. */
  due(slot: number, clock: number): number {
    if (this.expires(slot) >= clock) return this.nextLook(slot, clock);
    this.remove(slot, this.hot[(slot << HOT_SHIFT) + STATE] & ENDED ? REMOVED_EVICTED : REMOVED_EXPIRED);
    return -1;
  }

  /** When to look at a connection that has been looked at at `clock`. */
  private nextLook(slot: number, clock: number): number {
    return this.lookBefore(this.expires(slot), slot, clock);
  }

  private lookBefore(expires: number, slot: number, clock: number): number {
    const { shortest } = this;
    const patience =
      this.watchesAll || this.used[slot] === WATCHED
        ? shortest
        : Math.max(2 * shortest, (clock - this.createdMs[slot]) / 2);
    return Math.min(expires, Math.floor(clock + patience));
  }

  private lookAgain(clock: number): void {
    for (let slot = 0; slot < this.high; slot++) {
      if (this.used[slot] === 0) continue;
      // The wheel may have been at this time already: it would not look at what has ended before.
      const due = this.due(slot, clock);
      if (due >= 0) this.wheel.put(slot, due);
    }
  }

  /** There is another worker, which has `ended` of its own. */
  share(ended: SharedArrayBuffer): void {
    this.endedLogs.push({ slots: new Int32Array(ended), seen: 0 });
  }

  /** Takes note of connections that packets have ended. */
  private readEnded(): void {
    for (const log of this.endedLogs) {
      const { slots, seen } = log;
      const n = Atomics.load(slots, 0);
      if (n === seen) continue;
      if (((n - seen) | 0) > ENDED_SLOTS / 2) {
        // Some may be overwritten by now.
        for (let slot = 0; slot < this.high; slot++) this.noteEnded(slot);
      } else {
        for (let i = seen; i !== n; i = (i + 1) | 0) this.noteEnded(slots[1 + (i & (ENDED_SLOTS - 1))]);
      }
      log.seen = n;
    }
  }

  /** The slot may be another connection's by now. */
  private noteEnded(slot: number): void {
    if (this.used[slot] === 0 || !(this.hot[(slot << HOT_SHIFT) + STATE] & ENDED)) return;
    this.wheel.put(slot, this.expires(slot));
  }

  expires(slot: number): number {
    return this.hotF64[((slot << HOT_SHIFT) >> 1) + EXPIRES_F64];
  }

  zone(slot: number): number {
    return this.hot[(slot << HOT_SHIFT) + ZONE_PROTO] >>> 16;
  }

  /** Bytes of the slabs and of the index levels that have been written to. */
  usedBytes(): number {
    const indexBytes = FIRST_LEVEL_BUCKETS * (2 ** (this.level + 1) - 1) * 64;
    const words =
      this.high * (CONN.words + COLD.words) +
      this.high6 * ADDR6.words +
      this.highNat * NAT.words +
      this.highChild * PARENT.words;
    return words * 4 + indexBytes + 64;
  }
  /** Slots below these have had an IPv6 connection, one that is translated or has a helper, a child. */
  high6 = 0;
  private highNat = 0;
  private highChild = 0;

  /** Takes note of which slabs the record in `slot` uses. */
  noteUse(slot: number): void {
    const state = this.hot[(slot << HOT_SHIFT) + STATE];
    if (state & (STATE_TRANSLATED | STATE_FTP | STATE_TFTP) && slot >= this.highNat) this.highNat = slot + 1;
    if (state & STATE_CHILD && slot >= this.highChild) this.highChild = slot + 1;
  }

  private hashOf(slot: number): number {
    const c = slot << HOT_SHIFT;
    const { hot } = this;
    return tupleHash(this.seed, hot[c + SRC], hot[c + DST], hot[c + PORTS], hot[c + ZONE_PROTO]);
  }

  private replyHashOf(slot: number): number {
    const n = slot << NAT_SHIFT;
    const { hot, nat } = this;
    const zoneProto = hot[(slot << HOT_SHIFT) + ZONE_PROTO];
    return tupleHash(this.seed, nat[n + REPLY_SRC], nat[n + REPLY_DST], nat[n + REPLY_PORTS], zoneProto);
  }

  /** A search ends at the first free way. So the ways of a bucket are free only if none behind is in use, and
   *  none at all while an entry is further on because the bucket was full. */
  private freeWays(bucket: number): void {
    const { index } = this;
    const b = this.base + (bucket << BUCKET_SHIFT);
    let way = BUCKET_WAYS - 1;
    while (way >= 0 && index[b + way] === TAG_FREE) way--;
    for (; way >= 0 && index[b + way] === TAG_REMOVED; way--) index[b + way] = TAG_FREE;
  }

  private place(hash: number, entry: number): void {
    const { index, base, mask } = this;
    for (let bucket = hash & mask; ; bucket = (bucket + 1) & mask) {
      const b = base + (bucket << BUCKET_SHIFT);
      for (let way = 0; way < BUCKET_WAYS; way++) {
        if (index[b + way] === TAG_FREE || index[b + way] === TAG_REMOVED) {
          index[b + BUCKET_WAYS + way] = entry;
          index[b + way] = tagOf(hash);
          return;
        }
      }
      this.passed[bucket]++;
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
    this.passed = new Int32Array(this.mask + 1);
    for (let slot = 0; slot < this.high; slot++) {
      if (!this.used[slot]) continue;
      this.place(this.hashes[slot], slot << 1);
      if (!(this.hot[(slot << HOT_SHIFT) + STATE] & STATE_TRANSLATED)) continue;
      const hash = this.replyHashOf(slot);
      if (!this.withheld.get(hash)?.includes(slot)) this.place(hash, (slot << 1) | 1);
    }
    Atomics.store(this.ctl, 0, next);
  }

  private drainLimbo(): boolean {
    const epoch = this.epochOf();
    const { limbo, limboEpochs, free } = this;
    let head = this.limboHead;
    while (head < limbo.length && ((epoch - limboEpochs[head]) | 0) >= this.grace) free.push(limbo[head++]);
    if (head === limbo.length) {
      limbo.length = limboEpochs.length = head = 0;
    } else if (head > LIMBO_SLACK) {
      limbo.splice(0, head);
      limboEpochs.splice(0, head);
      head = 0;
    }
    this.limboHead = head;
    return free.length > 0;
  }
}
