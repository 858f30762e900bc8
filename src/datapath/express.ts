/** The way of TCP and UDP through a table that does nothing but track everything in zone 0: packet, index, connection.
 *
 *  Such a table does the same with all IP packets of a port, so neither a megaflow nor a microflow entry has to be found to
 *  know what: one packet of each port and IP version that has been through the engine tells (`learn`). What is left of a
 *  packet is what ct() does, and three or four cache lines instead of six or eight. The engine has all else: helpers'
 *  ports, wrong checksums, packets that ct() calls invalid, connections that are more than a tuple. Nothing has been
 *  changed then.
 *
 *  As in microflow.ts, in stages: hash all; touch the buckets; find the candidates and touch their records; then, in
 *  packet order, compare and change. What a vector's own packets open or end is noticed there, because a candidate is
 *  compared with all that makes it the packet's, and if it is not, it is searched for again.
 *
 *  Private to its thread. With records only (recorder.ts). */
import { fold6, tupleHash } from '../conntrack/hash.js';
import * as keys from '../conntrack/key.js';
import type { Partition } from '../conntrack/partition.js';
import { tagOf } from '../conntrack/partition.js';
import { tcpNew, tcpUpdate, tcpValidNew } from '../conntrack/tcp.js';
import * as timers from '../conntrack/timeouts.js';
import * as updates from '../conntrack/verdict.js';
import * as layouts from '../shm/layouts.js';
import type { PacketColumns } from '../shm/packets.js';
import * as headers from '../wire/extract.js';
import { tcpStep } from './microflow.js';
import type { Slots } from './openings.js';
import type { Recorder } from './recorder.js';
import type { Staging } from './staging.js';
import * as stagedKeys from './staging.js';
import type { Tracker } from './tracker.js';

// Imported constants are loads from the other module's cells; local ones are folded into the code.
const { FTP_PORT, TFTP_PORT } = keys;
const { ADDR6, BUCKET_SHIFT, BUCKET_WAYS, COLD, CONN, KIND_IPV6, RECORD, STATE_SPECIAL, TAG_FREE } = layouts;
const { IPPROTO_TCP, IPPROTO_UDP } = headers;
const { DEFAULT_TIMEOUTS_MS, TM_UDP_FIRST, TM_UDP_MULTIPLE, TM_UDP_SINGLE } = timers;
const { UPDATE_VALID, UPDATE_VALID_NEW } = updates;
const { STAGED_ADDR6, STAGED_KEY, VLAN_BAD_IP, VLAN_BAD_L4, VLAN_IPV6, VLAN_OTHER } = stagedKeys;
const { PORT_NW, SRC, DST, TP, VLAN } = STAGED_KEY.at;
const KEY_SHIFT = STAGED_KEY.shift;
const ADDR6_WORDS = STAGED_ADDR6;
const ADDR6_SHIFT = ADDR6.shift;
const IPV6_BIT = VLAN_IPV6;
/** Packets that are the engine's. */
const UNUSUAL = VLAN_BAD_IP | VLAN_BAD_L4 | VLAN_OTHER;
const UDP_FIRST_MS = DEFAULT_TIMEOUTS_MS[TM_UDP_FIRST];

const C_SRC = CONN.at.SRC;
const C_DST = CONN.at.DST;
const C_PORTS = CONN.at.PORTS;
const C_ZONE_PROTO = CONN.at.ZONE_PROTO;
const C_STATE = CONN.at.STATE;
const C_EXPIRES = CONN.at.EXPIRES;
const C_EXPIRES_F64 = C_EXPIRES >> 1;
const C_PKTS_0 = CONN.at.PKTS_0;
const C_BYTES_0 = CONN.at.BYTES_0;
const HOT_SHIFT = CONN.shift;
const COLD_SHIFT = COLD.shift;
const RECORD_SHIFT = RECORD.shift;
/** Words to the second cache line of a record: packets in order touch two. */
const RECORD_LINE = 16;
const { CARRY, CREATED } = COLD.at;
/** Words of a hot record that a packet may change, counters apart: STATE to EXPIRES. */
const STEPPED_WORDS = C_PKTS_0 - C_STATE;

/** Ports that packets may come in by, of two IP versions. */
const MOST_PORTS = 256;
/** `found`: not for this. */
const PASSED = -2;

export class Express {
  /** Connections made since the caller set it to 0. */
  commits = 0;
  private readonly partition: Partition;
  private readonly packets: PacketColumns;
  private readonly staging: Staging;
  private readonly slots: Slots;
  private readonly recorder: Recorder;
  private readonly tracker: Tracker;
  /** Verdict template by IP version and port; -1 as long as it is not known. */
  private readonly verdicts = new Int32Array(2 * MOST_PORTS).fill(-1);
  /** Of each staged packet: the slot of the connection that it may be of, -1 if there is none in its bucket, or PASSED; the
   *  hash of its tuple; its addresses as in CONN. */
  private readonly found: Int32Array;
  private readonly hashes: Int32Array;
  private readonly srcs: Int32Array;
  private readonly dsts: Int32Array;
  private readonly addr6 = new Int32Array(8);
  private readonly saved = new Int32Array(STEPPED_WORDS);
  /** Positions of packets of the staged vector that are not for this: so many as `stage` has said. */
  readonly passed: Int32Array;
  /** Keeps the loads of `stage` alive. */
  sink = 0;

  constructor(
    partition: Partition,
    packets: PacketColumns,
    staging: Staging,
    slots: Slots,
    recorder: Recorder,
    tracker: Tracker,
    vector: number,
  ) {
    this.partition = partition;
    this.packets = packets;
    this.staging = staging;
    this.slots = slots;
    this.recorder = recorder;
    this.tracker = tracker;
    this.found = new Int32Array(vector);
    this.hashes = new Int32Array(vector);
    this.passed = new Int32Array(vector);
    this.srcs = new Int32Array(vector);
    this.dsts = new Int32Array(vector);
  }

  /** The engine has run packet `i` of the staged vector to this verdict, through one ct() and nothing else. */
  learn(row: number, ipv6: boolean, verdict: number): void {
    const port = this.packets.inPort[row];
    if (port < 0 || port >= MOST_PORTS || this.recorder.drops(verdict)) return;
    this.verdicts[ipv6 ? port + MOST_PORTS : port] = verdict;
  }

  /** The first stages, for the `n` packets of the parsed vector. Those that are taken here have no hash for the microflow
   *  cache any more; the others are in `passed`: returns how many. */
  stage(n: number): number {
    const nPassed = this.hash(n);
    const { found, hashes, partition } = this;
    const { index, base, mask, hot, addr6 } = partition;
    const { keys } = this.staging;
    const records = partition.records as Int32Array;
    let sink = 0;
    for (let i = 0; i < n; i++) sink ^= index[base + ((hashes[i] & mask) << BUCKET_SHIFT)];
    for (let i = 0; i < n; i++) {
      if (found[i] === PASSED) continue;
      const hash = hashes[i];
      const tag = tagOf(hash);
      const b = base + ((hash & mask) << BUCKET_SHIFT);
      let slot = -1;
      for (let way = 0; way < BUCKET_WAYS; way++) {
        const t = index[b + way];
        if (t === TAG_FREE) break;
        if (t === tag) {
          slot = index[b + BUCKET_WAYS + way] >>> 1;
          break;
        }
      }
      found[i] = slot;
    }
    for (let i = 0; i < n; i++) {
      const slot = found[i];
      if (slot < 0) continue;
      const r = slot << RECORD_SHIFT;
      sink ^= hot[slot << HOT_SHIFT] ^ records[r] ^ records[r + RECORD_LINE];
      if ((keys[(i << KEY_SHIFT) + VLAN] & IPV6_BIT) !== 0) sink ^= addr6[slot << ADDR6_SHIFT];
    }
    this.sink = sink;
    return nPassed;
  }

  private hash(n: number): number {
    const { found, hashes, srcs, dsts, staging, verdicts, passed } = this;
    const { seed } = this.partition;
    const { keys, addr6 } = staging;
    let nPassed = 0;
    for (let i = 0; i < n; i++) {
      found[i] = PASSED;
      passed[nPassed++] = i;
      if (staging.hashes[i] === 0) continue;
      const k = i << KEY_SHIFT;
      const portNw = keys[k + PORT_NW];
      const proto = (portNw >>> 8) & 0xff;
      const vlan = keys[k + VLAN];
      if ((proto !== IPPROTO_TCP && proto !== IPPROTO_UDP) || (vlan & UNUSUAL) !== 0) continue;
      const ports = keys[k + TP];
      const sport = ports >>> 16;
      const dport = ports & 0xffff;
      // Without a port ct() calls them invalid; helpers look at others.
      if (sport === 0 || dport === 0) continue;
      if (proto === IPPROTO_TCP ? sport === FTP_PORT || dport === FTP_PORT : dport === TFTP_PORT) continue;
      const ipv6 = (vlan & IPV6_BIT) !== 0;
      const port = portNw >>> 16;
      if (port >= MOST_PORTS || verdicts[ipv6 ? port + MOST_PORTS : port] < 0) continue;
      let src = keys[k + SRC];
      let dst = keys[k + DST];
      if (ipv6) {
        const a = i * ADDR6_WORDS;
        src = fold6(seed, addr6[a], addr6[a + 1], addr6[a + 2], src);
        dst = fold6(seed, addr6[a + 3], addr6[a + 4], addr6[a + 5], dst);
      }
      srcs[i] = src;
      dsts[i] = dst;
      hashes[i] = tupleHash(seed, src, dst, ports, proto << 8);
      found[i] = -1;
      nPassed--;
      staging.hashes[i] = 0;
    }
    return nPassed;
  }

  /** The last stage for packet `i` of the staged vector, in window slot `row`: its verdict template, or -1, and nothing has
   *  been done. */
  run(i: number, row: number): number {
    let slot = this.found[i];
    if (slot === PASSED) return -1;
    const { partition, staging, packets, recorder } = this;
    const { hot, hotF64, timeouts } = partition;
    const { keys, view } = staging;
    const k = i << KEY_SHIFT;
    const ipv6 = (keys[k + VLAN] & IPV6_BIT) !== 0;
    const proto = (keys[k + PORT_NW] >>> 8) & 0xff;
    const zoneProto = ipv6 ? (proto << 8) | KIND_IPV6 : proto << 8;
    const src = this.srcs[i];
    const dst = this.dsts[i];
    const ports = keys[k + TP];
    const now = packets.clock[row];
    const l4 = staging.l4s[i];
    const l4Size = staging.l4Sizes[i];
    let c = slot << HOT_SHIFT;
    let reply = 0;
    let known = false;
    if (slot >= 0 && hotF64[(c >> 1) + C_EXPIRES_F64] > now && hot[c + C_ZONE_PROTO] === zoneProto) {
      if (hot[c + C_SRC] === src && hot[c + C_DST] === dst && hot[c + C_PORTS] === ports) {
        known = true;
      } else if (
        hot[c + C_SRC] === dst &&
        hot[c + C_DST] === src &&
        hot[c + C_PORTS] === ((ports << 16) | (ports >>> 16))
      ) {
        known = true;
        reply = 1;
      }
      if (ipv6 && known) known = this.isSame6(i, slot, reply);
    }
    if (!known) {
      const conn = partition.find(
        this.hashes[i],
        src,
        dst,
        ports,
        zoneProto,
        zoneProto,
        ipv6 ? this.addresses(i) : null,
        now,
      );
      if (conn < 0) return this.open(i, row, zoneProto);
      slot = conn >> 1;
      reply = conn & 1;
      c = slot << HOT_SHIFT;
    }
    const state = hot[c + C_STATE];
    if ((state & STATE_SPECIAL) !== 0) return -1;
    if (proto === IPPROTO_TCP) {
      const timer = this.tracker.checkSequence ? tcpStep(hot, c, reply, state, view, l4, l4Size) : -1;
      if (timer >= 0) {
        hotF64[(c >> 1) + C_EXPIRES_F64] = now + timeouts[timers.timerBlock(state, hot, c) + timer];
      } else if (!this.tcpAny(slot, reply, l4, l4Size, now)) {
        return -1;
      }
    } else {
      const phase = reply === 1 ? 2 : (state & 15) === 0 ? 1 : state & 15;
      hot[c + C_STATE] = (state & ~15) | phase;
      const timer = phase === 2 ? TM_UDP_MULTIPLE : TM_UDP_SINGLE;
      hotF64[(c >> 1) + C_EXPIRES_F64] = now + timeouts[timers.timerBlock(state, hot, c) + timer];
    }
    const l3Size = staging.l3Sizes[i];
    hot[c + C_PKTS_0 + reply] = (hot[c + C_PKTS_0 + reply] + 1) | 0;
    const before = hot[c + C_BYTES_0 + reply];
    const after = (before + l3Size) | 0;
    hot[c + C_BYTES_0 + reply] = after;
    if (after >>> 0 < before >>> 0) {
      partition.cold[(slot << COLD_SHIFT) + CARRY] += reply ? 0x10000 : 1;
    }
    const port = keys[k + PORT_NW] >>> 16;
    const verdict = this.verdicts[ipv6 ? port + MOST_PORTS : port];
    packets.verdict[row] = verdict;
    recorder.hit((slot << 1) | reply, row, l4, l4Size, l3Size, verdict);
    return verdict;
  }

  /** Any segment that is valid; of others nothing is changed. */
  private tcpAny(slot: number, reply: number, l4: number, l4Size: number, now: number): boolean {
    const { saved, staging } = this;
    const { hot, hotF64, timeouts } = this.partition;
    const at = (slot << HOT_SHIFT) + C_STATE;
    for (let w = 0; w < STEPPED_WORDS; w++) saved[w] = hot[at + w];
    const payload = l4Size - ((staging.view.getUint8(l4 + 12) >>> 4) << 2);
    const { checkSequence } = this.tracker;
    const update = tcpUpdate(
      hot,
      hotF64,
      slot,
      reply,
      staging.view,
      l4,
      payload,
      now,
      checkSequence,
      timeouts,
    );
    if (update === UPDATE_VALID || update === UPDATE_VALID_NEW) return true;
    for (let w = 0; w < STEPPED_WORDS; w++) hot[at + w] = saved[w];
    return false;
  }

  /** A packet of which there is no connection. */
  private open(i: number, row: number, zoneProto: number): number {
    const { partition, staging, packets, tracker } = this;
    const { keys, view } = staging;
    const l4 = staging.l4s[i];
    const k = i << KEY_SHIFT;
    const proto = (zoneProto >>> 8) & 0xff;
    const now = packets.clock[row];
    if (tracker.expects || (proto === IPPROTO_TCP && !tcpValidNew(view.getUint8(l4 + 13)))) return -1;
    const slot = this.slots.grant();
    if (slot < 0) return -1;
    const { hot, hotF64, cold, coldF64, addr6 } = partition;
    // CREATED before EXPIRES, as in Coordinator.commit.
    const m = slot << COLD_SHIFT;
    for (let w = 0; w < CREATED; w++) cold[m + w] = 0;
    coldF64[(m + CREATED) >> 1] = packets.seq[row];
    const c = slot << HOT_SHIFT;
    hot[c + C_SRC] = this.srcs[i];
    hot[c + C_DST] = this.dsts[i];
    hot[c + C_PORTS] = keys[k + TP];
    hot[c + C_ZONE_PROTO] = zoneProto;
    hot[c + C_PKTS_0] = 1;
    hot[c + C_PKTS_0 + 1] = 0;
    hot[c + C_BYTES_0] = staging.l3Sizes[i];
    hot[c + C_BYTES_0 + 1] = 0;
    if (proto === IPPROTO_TCP) {
      const payload = staging.l4Sizes[i] - ((view.getUint8(l4 + 12) >>> 4) << 2);
      tcpNew(hot, hotF64, c, view, l4, payload, now);
    } else {
      for (let w = C_STATE; w < C_EXPIRES; w++) hot[c + w] = 0;
      hotF64[(c + C_EXPIRES) >> 1] = now + UDP_FIRST_MS;
    }
    const ipv6 = (zoneProto & KIND_IPV6) === KIND_IPV6;
    if (ipv6) {
      const addresses = this.addresses(i);
      const a = slot << ADDR6_SHIFT;
      for (let w = 0; w < 8; w++) addr6[a + w] = addresses[w];
    }
    this.slots.made(row, slot, this.hashes[i]);
    this.commits++;
    const port = keys[k + PORT_NW] >>> 16;
    const verdict = this.verdicts[ipv6 ? port + MOST_PORTS : port];
    packets.verdict[row] = verdict;
    this.recorder.hit(slot << 1, row, l4, staging.l4Sizes[i], staging.l3Sizes[i], verdict);
    return verdict;
  }

  /** Source and destination of an IPv6 packet. */
  private addresses(i: number): Int32Array {
    const { addr6, staging } = this;
    const a = i * ADDR6_WORDS;
    const k = i << KEY_SHIFT;
    for (let w = 0; w < 3; w++) {
      addr6[w] = staging.addr6[a + w];
      addr6[4 + w] = staging.addr6[a + 3 + w];
    }
    addr6[3] = staging.keys[k + SRC];
    addr6[7] = staging.keys[k + DST];
    return addr6;
  }

  private isSame6(i: number, slot: number, reply: number): boolean {
    const packet = this.addresses(i);
    const { addr6 } = this.partition;
    const a = slot << ADDR6_SHIFT;
    const cross = reply << 2;
    for (let w = 0; w < 8; w++) if (addr6[a + w] !== packet[w ^ cross]) return false;
    return true;
  }
}
