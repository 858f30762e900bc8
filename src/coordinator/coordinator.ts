/** The control plane: translation, commits, MAC learning, removal. The only thread that changes the
 *  index of a partition.
 *
 *  It answers requests from the datapath. Translations and commits may be answered in any order: they
 *  depend on no other connection (as long as the table is far from its limit). What depends on the order
 *  of the input (`normal`; commits close to the limit) is asked only when every earlier packet is done;
 *  the caller sees to that (`mustWait`). */
import { FLOW, OFPP_LOCAL } from '../classifier/flow-key.js';
import { Binder, NAT_DST, NAT_SRC } from '../conntrack/nat.js';
import type { PartitionWriter } from '../conntrack/partition.js';
import { firstTimer, SHORTEST_TIMEOUT_MS, TM_SHIFT } from '../conntrack/timeouts.js';
import { ZoneLimits } from '../conntrack/zone-limits.js';
import { ZonePolicies } from '../conntrack/zone-policies.js';
import {
  CHILD_ADDRESS,
  CHILD_END,
  CHILD_META,
  CHILD_PARENT,
  COMMIT_CHILD,
  COMMIT_CONN,
  COMMIT_IPV6,
  COMMIT_NAT,
  COMMIT_NTH,
  commitPart,
  NO_ENTRY,
  NO_TUPLE,
} from '../datapath/control.js';
import {
  DROP_NORMAL_NO_PORT,
  DROP_NORMAL_PARTIAL_VLAN,
  DROP_NORMAL_RESERVED,
  DROP_NORMAL_SAME_PORT,
} from '../datapath/program.js';
import type { Tracer, Translation, Translator } from '../openflow/translate.js';
import {
  ADDR6,
  COLD,
  CONN,
  CREATED_STEP,
  NAT,
  PARENT,
  STATE_CHILD,
  STATE_HAS_META,
  STATE_HAS_POLICY,
  STATE_SPECIAL,
  STATE_TRANSLATED,
} from '../shm/layouts.js';
import { isPartialVlan } from '../wire/extract.js';
import { COMMITTED, ENTRY_OF_REMOVAL, Ledger, NO_TUPLE_LEFT, TABLE_FULL, ZONE_FULL } from './ledger.js';
import { isReserved, MacTable } from './mac-table.js';
import { pasteRow } from './record.js';
import type { RecordKeeper } from './records.js';

const { IN_PORT, ETH_DST_HI, ETH_DST_LO_SRC_HI, ETH_SRC_LO, VLAN_0 } = FLOW;
const { SRC, DST, PORTS, ZONE_PROTO, STATE } = CONN.at;
const EXPIRES_F64 = CONN.at.EXPIRES >> 1;
const HOT_SHIFT = CONN.shift;
const COLD_SHIFT = COLD.shift;
const ADDR6_SHIFT = ADDR6.shift;
const COLD_WORDS = COLD.words;
const CREATED_F64 = COLD.at.CREATED >> 1;
/** Connections are watched for their ends from when the table is full until it is this full. */
const WATCH_ABOVE = 0.75;
/** Mark and label, the first words of COLD. */
const META_WORDS = 5;
const VLAN_PRESENT = 0x1000;
const ZONES = 0x10000;
/** Of CONN.ZONE_PROTO. */
const KIND_IPV6_BIT = 0x80;

/** `Coordinator.forward`: to all ports but the one that the frame came from. Drop reasons are small. */
const FLOOD = -1000;

export class Coordinator {
  readonly partitions: readonly PartitionWriter[];
  private readonly translator: Translator;
  private readonly ports: readonly number[];
  readonly macs = new MacTable();
  private readonly binder = new Binder();
  /** Connections that may exist (dpctl/ct-set-maxconns). */
  maxConns: number;
  readonly limits: ZoneLimits;
  readonly policies: ZonePolicies;
  /** Limits that ovs-vsctl has set, by zone or DEFAULT_ZONE. */
  readonly databaseLimits = new Map<number, number>();
  /** dpctl/ct-set-sweep-interval; nothing goes by it. */
  sweepIntervalMs = 20_000;
  /** Whether the ends of all connections are watched for. */
  private watching = false;
  upcalls = 0;
  /** What became of connections and of commits. */
  readonly ledger = new Ledger();
  /** Takes the records of connections, if they are asked for. */
  keeper: RecordKeeper | null = null;

  constructor(
    partitions: readonly PartitionWriter[],
    translator: Translator,
    ports: readonly number[],
    maxConns: number,
  ) {
    this.partitions = partitions;
    this.translator = translator;
    this.ports = [...ports.filter((p) => p !== OFPP_LOCAL), OFPP_LOCAL];
    this.maxConns = maxConns;
    this.limits = new ZoneLimits(partitions.length, partitions[0].capacity);
    this.policies = new ZonePolicies(partitions[0].timeouts);
    partitions.forEach((p, home) => {
      p.onRemove = (slot, reason) => {
        const zone = p.zone(slot);
        this.ledger.count(zone, ENTRY_OF_REMOVAL[reason]);
        this.limits.removed(zone, home, slot);
        this.keeper?.removed(p, slot, reason);
        this.onRemoved?.(slot);
      };
    });
  }

  /** Told of every connection before it can be found; says whether the tuple of its replies may be. */
  onMade: ((slot: number) => boolean) | null = null;
  /** Told of every connection that is removed. */
  onRemoved: ((slot: number) => void) | null = null;

  get connections(): number {
    let n = 0;
    for (const p of this.partitions) n += p.count;
    return n;
  }

  translate(key: Int32Array, tracer: Tracer | null = null): Translation {
    this.upcalls++;
    return this.translator.translate(key, tracer);
  }

  /** Whether a commit to `zone` now could meet a limit, so that its order matters. `inFlight` packets may
   *  each have committed ahead of their turn. */
  nearLimit(zone: number, inFlight: number): boolean {
    const coming = Math.max(8, this.translator.nCommits) * inFlight;
    return this.connections + coming >= this.maxConns || this.limits.room(zone) <= coming;
  }

  /** Whether a commit to `zone` now has to make room, or is refused. */
  isFull(zone: number): boolean {
    return this.connections >= this.maxConns || (!this.limits.none && this.limits.room(zone) <= 0);
  }

  /** No packet leaves a connection with less, in ms, except one that ends it on the spot. */
  get shortestTimeout(): number {
    return Math.min(SHORTEST_TIMEOUT_MS, this.policies.shortest());
  }

  /** Whether no commit of the `inFlight` packets that there are can be refused, whatever their order. */
  commitsFreely(inFlight: number): boolean {
    const coming = Math.max(8, this.translator.nCommits) * inFlight;
    return this.limits.none && this.connections + coming < this.maxConns;
  }

  /** A slot for a connection that somebody else fills in and hands to `made`, or -1. */
  reserve(home: number): number {
    const partition = this.partitions[home];
    const slot = partition.allocate();
    if (slot >= 0) partition.clearRecord(slot);
    return slot;
  }

  /** The record in a reserved slot is filled: a connection without anything special, whose tuple has this hash. It
   *  expires at `expires`, as far as the default timeouts go. */
  made(home: number, slot: number, hash: number, zoneProto: number, expires: number, clock: number): void {
    const partition = this.partitions[home];
    const zone = zoneProto >>> 16;
    partition.createdMs[slot] = clock;
    if (zoneProto & KIND_IPV6_BIT && slot >= partition.high6) partition.high6 = slot + 1;
    let due = expires;
    if (this.policies.any && this.policies.has(zone)) {
      this.followPolicy(partition, slot << HOT_SHIFT, zone, clock);
      due = partition.expires(slot);
    }
    partition.publishPlain(slot, hash, due, !this.limits.none && this.limits.added(zone, home, slot));
    this.ledger.count(zone, COMMITTED);
  }

  /** Touches what `made` will change: the misses of many overlap. Returns something of it. */
  touch(home: number, slot: number, hash: number): number {
    return this.partitions[home].touch(slot, hash);
  }

  /** Touches what `commit` will look at, as far as the tuple that it tries first tells, and `replies` for that.
   *  Returns something of it. */
  touchCommit(
    home: number,
    words: Int32Array,
    at: number,
    seq: number,
    replies: (proto: number, src: number, dst: number, ports: number) => number,
  ): number {
    const record = at + COMMIT_CONN;
    const zoneProto = words[record + ZONE_PROTO];
    if (zoneProto & KIND_IPV6_BIT) return 0;
    const partition = this.partitions[home];
    let sink = partition.touchTuple(
      words[record + SRC],
      words[record + DST],
      words[record + PORTS],
      zoneProto,
    );
    const ask = commitPart(words, at, COMMIT_NAT);
    if (ask < 0 || commitPart(words, at, COMMIT_CHILD) >= 0) return sink;
    const { binder } = this;
    binder.propose(partition, words, record, -1, ask, seq, 0);
    const { src, dst, ports } = binder;
    sink ^= partition.touchTuple(src, dst, ports, zoneProto);
    return sink ^ replies((zoneProto >>> 8) & 0xff, src, dst, ports);
  }

  /** Makes the connection that the request at word `at` asks for (see control.ts); `seq` is the packet that
   *  asks. Returns the slot, or why there is none. */
  commit(home: number, words: Int32Array, at: number, seq: number, clock: number): number {
    const partition = this.partitions[home];
    const record = at + COMMIT_CONN;
    const zone = words[record + ZONE_PROTO] >>> 16;
    const limited = !this.limits.none;
    if (limited && this.limits.room(zone) <= 0) {
      // Its connections are always watched.
      this.sweep(clock, Infinity);
      if (this.limits.room(zone) <= 0) {
        this.ledger.count(zone, ZONE_FULL);
        return NO_ENTRY;
      }
    }
    if (this.connections >= this.maxConns) {
      this.makeRoom(clock);
      if (this.connections >= this.maxConns) {
        this.ledger.count(zone, TABLE_FULL);
        return NO_ENTRY;
      }
    }
    const addresses = commitPart(words, at, COMMIT_IPV6);
    const ask = commitPart(words, at, COMMIT_NAT);
    const child = commitPart(words, at, COMMIT_CHILD);
    const { binder } = this;
    let action = 0;
    if (ask >= 0 && child >= 0) {
      // A helper has promised the data connection an address: nothing is left to choose.
      const end = words[child + CHILD_END];
      action = end === 1 ? NAT_SRC : NAT_DST;
      binder.promise(words, record, addresses, end, child + CHILD_ADDRESS, partition);
    } else if (ask >= 0) {
      action = words[ask] & (NAT_SRC | NAT_DST);
      if (!binder.choose(partition, words, record, addresses, ask, seq, clock)) {
        this.ledger.count(zone, NO_TUPLE_LEFT);
        return NO_TUPLE;
      }
    }
    const slot = partition.allocate();
    if (slot < 0)
      throw new Error(`conntrack: partition ${home} has no slot below the limit of ${this.maxConns}`);
    const c = slot << HOT_SHIFT;
    const { hot, cold, coldF64, addr6, nat, parent } = partition;
    // CREATED before EXPIRES: a microflow entry of the slot's former connection that finds the slot alive
    // again must not find the old number.
    const m = slot << COLD_SHIFT;
    for (let i = 0; i < COLD_WORDS; i++) cold[m + i] = 0;
    coldF64[(m >> 1) + CREATED_F64] = seq + words[at + COMMIT_NTH] / CREATED_STEP;
    for (let i = 0; i < CONN.words; i++) hot[c + i] = words[record + i];
    partition.createdMs[slot] = clock;
    partition.clearRecord(slot);
    if (addresses >= 0) {
      const a = slot << ADDR6_SHIFT;
      for (let i = 0; i < ADDR6.words; i++) addr6[a + i] = words[addresses + i];
      if (slot >= partition.high6) partition.high6 = slot + 1;
    }
    if (this.policies.any && this.policies.has(zone)) this.followPolicy(partition, c, zone, clock);
    if (hot[c + STATE] & STATE_SPECIAL || ask >= 0) {
      const n = slot << NAT.shift;
      for (let i = 0; i < NAT.words; i++) nat[n + i] = 0;
    }
    if (ask >= 0) {
      hot[c + STATE] |= STATE_TRANSLATED;
      binder.store(slot, action);
    }
    if (child >= 0) {
      hot[c + STATE] |= STATE_CHILD;
      let any = 0;
      for (let i = 0; i < META_WORDS; i++) any |= cold[m + i] = words[child + CHILD_META + i];
      if (any !== 0) hot[c + STATE] |= STATE_HAS_META;
      const p = slot << PARENT.shift;
      for (let i = 0; i < PARENT.words; i++) parent[p + i] = words[child + CHILD_PARENT + i];
    }
    partition.noteUse(slot);
    const watched = limited && this.limits.added(zone, home, slot);
    partition.publish(slot, watched, this.onMade === null || this.onMade(slot));
    this.ledger.count(zone, COMMITTED);
    return slot;
  }

  /** Makes a connection that was there when a checkpoint was taken; its home is that of its tuple. */
  restore(home: number, words: Int32Array, f64: Float64Array, base: number): void {
    const partition = this.partitions[home];
    const slot = partition.allocate();
    if (slot < 0) throw new Error(`checkpoint: partition ${home} has no room for its connections`);
    pasteRow(partition, slot, words, f64, base);
    const zone = partition.zone(slot);
    partition.noteUse(slot);
    partition.publish(slot, this.limits.added(zone, home, slot));
    this.ledger.count(zone, COMMITTED);
  }

  /** Puts the new connection at word `c` under its zone's timeout policy. */
  private followPolicy(partition: PartitionWriter, c: number, zone: number, clock: number): void {
    const { hot, hotF64, timeouts } = partition;
    const timer = firstTimer((hot[c + ZONE_PROTO] >>> 8) & 0xff);
    if (timer < 0) return;
    hot[c + STATE] |= STATE_HAS_POLICY;
    hotF64[(c >> 1) + EXPIRES_F64] = clock + timeouts[((zone + 1) << TM_SHIFT) + timer];
  }

  /** Removes what has ended before `clock` from a table that is full. From now on it is known at once what
   *  that is: a flood asks with every packet. */
  private makeRoom(clock: number): void {
    if (!this.watching) this.watch(true, clock);
    this.sweep(clock, Infinity);
  }

  private watch(on: boolean, clock: number): void {
    this.watching = on;
    for (const p of this.partitions) p.watchAll(on, clock);
  }

  /** Removes ended connections; `clock` is that of the oldest packet in flight, `budget` how many may be looked at
   *  in each partition. */
  sweep(clock: number, budget: number): void {
    for (const p of this.partitions) p.sweep(clock, budget);
    if (this.watching && this.connections < this.maxConns * WATCH_ABOVE) this.watch(false, clock);
  }

  /** Removes all that has ended before `clock`; no packet is in flight. */
  settle(clock: number): void {
    for (const p of this.partitions) p.sweepAll(clock);
  }

  /** L2 switching for the frame in `key` (header words as on the wire now). Appends the ports to
   *  `ports`; returns a drop reason, or 0. Must be asked in input order. */
  normal(key: Int32Array, now: number, ports: number[]): number {
    const tag = key[VLAN_0];
    if (isPartialVlan(key)) return DROP_NORMAL_PARTIAL_VLAN;
    const middle = key[ETH_DST_LO_SRC_HI];
    const last = key[ETH_SRC_LO];
    const vlan = tag & VLAN_PRESENT ? tag & 0x0fff : 0;
    const inPort = key[IN_PORT];
    const dstLo = middle >>> 16;
    const srcHi = (middle << 16) | (last >>> 16);
    const to = this.forward(key[ETH_DST_HI], dstLo, srcHi, last & 0xffff, vlan, inPort, now);
    return this.portsOf(to, inPort, ports);
  }

  /** Where a frame goes: a port, or what `portsOf` understands. Learns where its sender is. Addresses as bits 47-16
   *  and 15-0. Must be asked in input order. */
  forward(
    dstHi: number,
    dstLo: number,
    srcHi: number,
    srcLo: number,
    vlan: number,
    inPort: number,
    now: number,
  ): number {
    if (isReserved(dstHi, dstLo)) return -DROP_NORMAL_RESERVED;
    this.macs.learn(srcHi, (vlan << 16) | srcLo, inPort, now);
    const port = this.macs.lookup(dstHi, (vlan << 16) | dstLo, now);
    if (port < 0) return FLOOD;
    return port === inPort ? -DROP_NORMAL_SAME_PORT : port;
  }

  /** Appends the ports that `forward` has named; returns a drop reason, or 0. */
  portsOf(to: number, inPort: number, ports: number[]): number {
    if (to >= 0) {
      ports.push(to);
      return 0;
    }
    if (to !== FLOOD) return -to;
    for (const p of this.ports) if (p !== inPort) ports.push(p);
    return ports.length === 0 ? DROP_NORMAL_NO_PORT : 0;
  }

  /** Removes the live connections that `chosen` names. Only while no packet is in flight. */
  flush(clock: number, chosen: (partition: PartitionWriter, slot: number) => boolean): number {
    // What has ended by itself counts as expired, however far the sweeper has come.
    this.settle(clock + 1);
    let n = 0;
    if (this.keeper !== null) this.keeper.flushClock = clock;
    for (const p of this.partitions) {
      for (let slot = 0; slot < p.high; slot++) {
        if (!p.used[slot] || !chosen(p, slot)) continue;
        p.remove(slot);
        n++;
      }
    }
    return n;
  }

  /** dpctl/ct-set-maxconns. The partitions must have been made with room for so many. */
  setMaxConns(n: number): void {
    const { capacity } = this.partitions[0];
    if (n > capacity)
      throw new Error(`conntrack: maxconns ${n} is more than the ${capacity} slots that there are`);
    this.maxConns = n;
  }

  /** Counts the connections in the table; the answer is by zone. */
  byZone(): (zone: number) => number {
    const counts = new Int32Array(ZONES);
    for (const p of this.partitions) {
      for (let slot = 0; slot < p.high; slot++) if (p.used[slot]) counts[p.zone(slot)]++;
    }
    return (zone) => counts[zone];
  }

  /** Connections that are live at `clock`. Only while no packet is in flight. */
  live(clock: number): number {
    this.settle(clock + 1);
    return this.connections;
  }

  /** Gives a zone a timeout policy, or takes it away. Only while no packet is in flight. */
  setPolicy(zone: number, attributes: ReadonlyMap<string, number> | null, clock: number): void {
    const known = this.policies.has(zone);
    if (attributes === null) this.policies.remove(zone);
    else if (!this.policies.set(zone, attributes)) return;
    const shortest = this.shortestTimeout;
    for (const p of this.partitions) {
      p.setShortest(shortest, clock);
      if (!known) continue;
      for (let slot = 0; slot < p.high; slot++) {
        if (p.used[slot] && p.zone(slot) === zone) p.hot[(slot << HOT_SHIFT) + STATE] &= ~STATE_HAS_POLICY;
      }
    }
  }

  /** Bytes of shared memory that the connections have needed so far, index included. */
  sharedBytes(): number {
    let n = 0;
    for (const p of this.partitions) n += p.usedBytes();
    return n;
  }
}
