/** Microflow cache of one worker: the vectorised shortcut for packets of known connections.
 *
 *  An entry folds a packet's whole way through the datapath, all passes and all ct(), into one exact
 *  match: which connections it goes through, the ct_state that each must say, and the verdict. It stands
 *  as long as they do say it. The engine (`engine.ts`) is the truth: entries are made from what it did,
 *  and whatever an entry can't vouch for is left to it, before anything has been changed.
 *
 *  A vector goes through in stages, each a small loop, so that the cache misses of different packets
 *  overlap: parse and verify checksums; touch the entries; compare them and touch the connections. The
 *  last stage, in the shard, is in packet order and is the only one that changes anything.
 *
 *  Entries cover TCP and UDP over IPv4, not fragmented, through at most two connections without mark,
 *  label, translation or helper, with frames left as they are. Private to its thread. */
import * as flowKey from '../classifier/flow-key.js';
import * as keys from '../conntrack/key.js';
import type { Partition } from '../conntrack/partition.js';
import * as tcp from '../conntrack/tcp.js';
import { tcpTimer } from '../conntrack/tcp.js';
import * as timers from '../conntrack/timeouts.js';
import { timerBlock } from '../conntrack/timeouts.js';
import * as layouts from '../shm/layouts.js';
import type { PacketColumns } from '../shm/packets.js';
import { record } from '../shm/record.js';
import { checksum, sum } from '../wire/checksum.js';
import * as headers from '../wire/extract.js';

// Imported constants are loads from the other module's cells; local ones are folded into the code.
const { CS_EST, CS_NEW, CS_RPL, CS_TRK, FLOW, KEY_WORDS } = flowKey;
const { FTP_PORT, TFTP_PORT } = keys;
const {
  MAX_ACK_WINDOW: MAX_ACK,
  TCP_ACK,
  TCP_FIN,
  TCP_RST,
  TCP_SYN,
  TCPS_CLOSING,
  TCPS_SYN_SENT,
  WSCALE_KNOWN,
  WSCALE_SHIFT,
  WSCALE_UNKNOWN,
} = tcp;
const { TM_UDP_MULTIPLE, TM_UDP_SINGLE } = timers;
const { COLD, CONN, STATE_SPECIAL } = layouts;
const { IPPROTO_TCP, IPPROTO_UDP } = headers;

/** An entry: one cache line. */
const ENTRY = record(
  'PORT_NW', //    in_port:16 | proto:8 | tos:8
  'SRC',
  'DST',
  'TP',
  'ETH_0', //      destination and source MAC
  'ETH_1',
  'ETH_2',
  'VLAN', //       as FLOW.VLAN_0
  'CONN_0', //     slot << 1 | reply
  'ZONE_PROTO_0',
  'CONN_1', //     or -1
  'ZONE_PROTO_1',
  'STATES', //     ct_state expected of each, a byte each
  'VERDICT', //    template
  'TAG', //        the caller's
  'HASH', //       0: free
);
const { PORT_NW, SRC, DST, TP, ETH_0, ETH_1, ETH_2, VLAN } = ENTRY.at;
const { CONN_0, ZONE_PROTO_0, CONN_1, ZONE_PROTO_1, STATES, VERDICT, TAG, HASH } = ENTRY.at;
const SHIFT = ENTRY.shift;
const KEY_LEN = 8;

const C_SRC = CONN.at.SRC;
const C_DST = CONN.at.DST;
const C_PORTS = CONN.at.PORTS;
const C_ZONE_PROTO = CONN.at.ZONE_PROTO;
const C_STATE = CONN.at.STATE;
const C_WINS = CONN.at.WINS;
const C_SEQLO_0 = CONN.at.SEQLO_0;
const C_EXPIRES_F64 = CONN.at.EXPIRES >> 1;
const C_PKTS_0 = CONN.at.PKTS_0;
const C_BYTES_0 = CONN.at.BYTES_0;
const HOT_SHIFT = CONN.shift;
const CARRY = COLD.at.CARRY;
const COLD_SHIFT = COLD.shift;

const PROTO_TCP = IPPROTO_TCP;
const PROTO_UDP = IPPROTO_UDP;
const MAX_ACK_WINDOW = MAX_ACK;
const STATE_NEW = CS_NEW | CS_TRK;
const STATE_EST = CS_EST | CS_TRK;
const STATE_EST_RPL = CS_EST | CS_RPL | CS_TRK;

/** Entries that a search looks at. */
const PROBES = 8;
const FIRST_ENTRIES = 1 << 10;
const MAX_ENTRIES = 1 << 20;

/** Bits of a megaflow's mask that an entry's key, or what it checks, covers. */
const COVERED = new Int32Array(KEY_WORDS);
for (const w of [
  FLOW.IN_PORT,
  FLOW.RECIRC_ID,
  FLOW.CT_STATE,
  FLOW.CT_ZONE,
  FLOW.CT_MARK,
  FLOW.CT_LABEL_0,
  FLOW.CT_LABEL_1,
  FLOW.CT_LABEL_2,
  FLOW.CT_LABEL_3,
  FLOW.ETH_DST_HI,
  FLOW.ETH_DST_LO_SRC_HI,
  FLOW.ETH_SRC_LO,
  FLOW.ETH_TYPE,
  FLOW.VLAN_0,
  FLOW.VLAN_1,
  FLOW.NW_SRC,
  FLOW.NW_DST,
  FLOW.TP,
  FLOW.CT_NW_SRC,
  FLOW.CT_NW_DST,
  FLOW.CT_TP,
  FLOW.CT_NW_PROTO,
]) {
  COVERED[w] = -1;
}
COVERED[FLOW.NW] = ~0xff00; // all but the TTL

/** Whether an entry can stand for a megaflow with this mask. */
export function coversMask(mask: Int32Array): boolean {
  for (let w = 0; w < KEY_WORDS; w++) if ((mask[w] & ~COVERED[w]) !== 0) return false;
  return true;
}

/** Whether these bits of a flow key word are the same for all packets of an entry. */
export function isCovered(word: number, bits: number): boolean {
  return (bits & ~COVERED[word]) === 0;
}

/** What the engine did with a packet, for making an entry. */
export interface Trace {
  /** Nothing but covered matches, steady connections and plain outputs. */
  readonly foldable: boolean;
  readonly nConns: number;
  readonly conns: Int32Array;
  readonly states: Int32Array;
}

export class MicroflowCache {
  private entries = new Int32Array(FIRST_ENTRIES << SHIFT);
  private mask = FIRST_ENTRIES - 1;
  private nEntries = 0;
  /** Bumped whenever entries move or are overwritten. */
  private version = 0;
  private stagedVersion = 0;
  private readonly partition: Partition;
  private readonly packets: PacketColumns;
  private readonly view: DataView;

  // Columns of the vector being staged.
  private readonly keys: Int32Array;
  private readonly hashes: Int32Array; // 0: not for this cache
  private readonly found: Int32Array; //  entry's first word, or -1
  private readonly l4s: Int32Array;
  private readonly l4Sizes: Int32Array;
  private readonly l3Sizes: Int32Array;
  /** Keeps the loads of the touching stages alive. */
  sink = 0;

  constructor(partition: Partition, packets: PacketColumns, arena: SharedArrayBuffer, vector: number) {
    this.partition = partition;
    this.packets = packets;
    this.view = new DataView(arena);
    this.keys = new Int32Array(vector * KEY_LEN);
    this.hashes = new Int32Array(vector);
    this.found = new Int32Array(vector);
    this.l4s = new Int32Array(vector);
    this.l4Sizes = new Int32Array(vector);
    this.l3Sizes = new Int32Array(vector);
  }

  /** Forgets everything, whatever is staged. */
  clear(): void {
    this.entries = new Int32Array(FIRST_ENTRIES << SHIFT);
    this.mask = FIRST_ENTRIES - 1;
    this.nEntries = 0;
    this.version++;
    this.found.fill(-1);
  }

  /** Stages 1 to 3 for the packets in `slots[0..n)`. Changes nothing that anyone can see. */
  stage(slots: Int32Array, n: number): void {
    this.parse(slots, n);
    const { entries, mask, hashes, found, keys } = this;
    const { hot } = this.partition;
    let sink = 0;
    for (let i = 0; i < n; i++) sink ^= entries[(hashes[i] & mask) << SHIFT];
    for (let i = 0; i < n; i++) {
      const hash = hashes[i];
      found[i] = -1;
      if (hash === 0) continue;
      const e = find(entries, mask, hash, keys, i * KEY_LEN);
      if (e < 0) continue;
      found[i] = e;
      sink ^= hot[(entries[e + CONN_0] >> 1) << HOT_SHIFT];
    }
    this.sink = sink;
    this.now = this.packets.clock[slots[0]];
    this.stagedVersion = this.version;
  }

  /** The tag that the entry of packet `i` was made with, after `run` has found it. */
  tagOf(i: number): number {
    return this.entries[this.found[i] + TAG];
  }

  /** Whether the checksums of packet `i` of the staged vector were looked at and are right. */
  verified(i: number): boolean {
    return this.hashes[i] !== 0;
  }

  /** Stage 4 for packet `i` of the staged vector. Returns its verdict template, or -1: ask the engine. */
  run(i: number, slot: number): number {
    const e = this.found[i];
    if (e < 0) return -1;
    const { entries, partition } = this;
    if (this.version !== this.stagedVersion) {
      if (entries[e + HASH] !== this.hashes[i] || !sameKey(entries, e, this.keys, i * KEY_LEN)) return -1;
    }
    const { hot, hotF64 } = partition;
    const now = this.packets.clock[slot];
    const conn = entries[e + CONN_0];
    const c = (conn >> 1) << HOT_SHIFT;
    const states = entries[e + STATES];
    const zoneProto = entries[e + ZONE_PROTO_0];
    if (hotF64[(c >> 1) + C_EXPIRES_F64] <= now || !this.owns(c, conn & 1, zoneProto, e)) return -1;
    const second = entries[e + CONN_1];
    const tcp = ((zoneProto >>> 8) & 0xff) === PROTO_TCP;
    if (second < 0) {
      if (
        !(tcp
          ? this.tcp(c, conn & 1, states & 0xff, i, now, true)
          : this.udp(c, conn & 1, states & 0xff, now, true))
      )
        return -1;
    } else {
      const d = (second >> 1) << HOT_SHIFT;
      if (hotF64[(d >> 1) + C_EXPIRES_F64] <= now || !this.owns(d, second & 1, entries[e + ZONE_PROTO_1], e))
        return -1;
      // Both must agree before either is changed.
      if (tcp) {
        if (!this.tcp(c, conn & 1, states & 0xff, i, now, false)) return -1;
        if (!this.tcp(d, second & 1, (states >>> 8) & 0xff, i, now, true)) return -1;
        this.tcp(c, conn & 1, states & 0xff, i, now, true);
      } else {
        if (!this.udp(c, conn & 1, states & 0xff, now, false)) return -1;
        if (!this.udp(d, second & 1, (states >>> 8) & 0xff, now, true)) return -1;
        this.udp(c, conn & 1, states & 0xff, now, true);
      }
      this.count(hot, d, second & 1, this.l3Sizes[i]);
    }
    this.count(hot, c, conn & 1, this.l3Sizes[i]);
    return entries[e + VERDICT];
  }

  /** Whether the record at word `c` still is the connection of the entry's packet. */
  private owns(c: number, reply: number, zoneProto: number, e: number): boolean {
    const { entries } = this;
    const { hot } = this.partition;
    if (hot[c + C_ZONE_PROTO] !== zoneProto || hot[c + C_STATE] & STATE_SPECIAL) return false;
    const ports = entries[e + TP];
    if (reply === 0) {
      return (
        hot[c + C_SRC] === entries[e + SRC] &&
        hot[c + C_DST] === entries[e + DST] &&
        hot[c + C_PORTS] === ports
      );
    }
    return (
      hot[c + C_SRC] === entries[e + DST] &&
      hot[c + C_DST] === entries[e + SRC] &&
      hot[c + C_PORTS] === ((ports << 16) | (ports >>> 16))
    );
  }

  /** UDP step, if the outcome is the expected state. */
  private udp(c: number, reply: number, expected: number, now: number, apply: boolean): boolean {
    const { hot, hotF64 } = this.partition;
    const state = hot[c + C_STATE];
    let phase = state & 15;
    if (reply === 1) phase = 2;
    else if (phase === 0) phase = 1;
    const outcome = phase !== 2 ? STATE_NEW : reply === 1 ? STATE_EST_RPL : STATE_EST;
    if (outcome !== expected) return false;
    if (apply) {
      hot[c + C_STATE] = (state & ~15) | phase;
      const timer = phase === 2 ? TM_UDP_MULTIPLE : TM_UDP_SINGLE;
      hotF64[(c >> 1) + C_EXPIRES_F64] = now + this.partition.timeouts[timerBlock(state, hot, c) + timer];
    }
    return true;
  }

  /** TCP step of a segment that passes all checks and changes neither peer's state: see `tcpUpdate`, of
   *  which this is the common case. */
  private tcp(c: number, reply: number, expected: number, i: number, now: number, apply: boolean): boolean {
    const { hot } = this.partition;
    const state = hot[c + C_STATE];
    const srcState = (state >>> (reply << 2)) & 15;
    const dstState = (state >>> ((reply ^ 1) << 2)) & 15;
    // An acknowledgement moves a peer out of these two states.
    if (srcState < TCPS_SYN_SENT || dstState === TCPS_SYN_SENT || dstState === TCPS_CLOSING) return false;
    if (!this.checkSequence) return false;
    if (expected !== (reply === 1 ? STATE_EST_RPL : STATE_EST)) return false;
    const l4 = this.l4s[i];
    const { view } = this;
    const control = view.getUint16(l4 + 12);
    if ((control & (TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK)) !== TCP_ACK) return false;
    const payload = this.l4Sizes[i] - ((control >>> 12) << 2);
    const wins = hot[c + C_WINS];
    let srcWin: number;
    let dstWin: number;
    let srcScale: number;
    let dstScale: number;
    if (reply === 0) {
      srcWin = wins & 0xffff;
      dstWin = wins >>> 16;
      srcScale = state >>> 8;
      dstScale = state >>> 16;
    } else {
      srcWin = wins >>> 16;
      dstWin = wins & 0xffff;
      srcScale = state >>> 16;
      dstScale = state >>> 8;
    }
    let sws = 0;
    let dws = 0;
    if (srcScale & dstScale & WSCALE_KNOWN) {
      sws = srcScale & WSCALE_SHIFT;
      dws = dstScale & WSCALE_SHIFT;
    } else if (srcScale & dstScale & WSCALE_UNKNOWN) {
      sws = dws = 14;
    }
    const src = c + C_SEQLO_0 + (reply << 1);
    const dst = c + C_SEQLO_0 + ((reply ^ 1) << 1);
    const srcLo = hot[src];
    const srcHi = hot[src + 1];
    let seq = view.getInt32(l4 + 4);
    const ack = view.getInt32(l4 + 8);
    const win = view.getUint16(l4 + 14);
    let end = (seq + payload) | 0;
    if (payload === 0) seq = end = srcLo;
    const ackSkew = (hot[dst] - ack) | 0;
    if (
      ((srcHi - end) | 0) < 0 ||
      ((seq - ((srcLo - (dstWin << dws)) | 0)) | 0) < 0 ||
      ackSkew < -MAX_ACK_WINDOW ||
      ackSkew > MAX_ACK_WINDOW << sws
    ) {
      return false;
    }
    if (!apply) return true;
    if (win > srcWin) hot[c + C_WINS] = reply === 0 ? win | (dstWin << 16) : dstWin | (win << 16);
    if (((end - srcLo) | 0) > 0) hot[src] = end;
    const scaled = win << sws;
    if (((ack + scaled - hot[dst + 1]) | 0) >= 0) hot[dst + 1] = (ack + Math.max(scaled, 1)) | 0;
    const { hotF64, timeouts } = this.partition;
    hotF64[(c >> 1) + C_EXPIRES_F64] =
      now + timeouts[timerBlock(state, hot, c) + tcpTimer(srcState, dstState)];
    return true;
  }
  /** dpctl/ct-{en,dis}able-tcp-seq-chk. */
  checkSequence = true;

  private count(hot: Int32Array, c: number, reply: number, bytes: number): void {
    hot[c + C_PKTS_0 + reply] = (hot[c + C_PKTS_0 + reply] + 1) | 0;
    const before = hot[c + C_BYTES_0 + reply];
    const after = (before + bytes) | 0;
    hot[c + C_BYTES_0 + reply] = after;
    if (after >>> 0 < before >>> 0) {
      this.partition.cold[((c >> HOT_SHIFT) << COLD_SHIFT) + CARRY] += reply ? 0x10000 : 1;
    }
  }

  /** Stage 1: key, hash and checksums of each packet; hash 0 for what the cache does not cover. */
  private parse(slots: Int32Array, n: number): void {
    const { view, packets, keys, hashes, l4s, l4Sizes, l3Sizes } = this;
    const { off, capLen, inPort } = packets;
    for (let i = 0; i < n; i++) {
      const slot = slots[i];
      const o = off[slot];
      const len = capLen[slot];
      hashes[i] = 0;
      if (len < 42) continue;
      let l3 = o + 14;
      let type = view.getUint16(o + 12);
      let vlan = 0;
      if (type === 0x8100 || type === 0x88a8) {
        vlan = view.getInt32(o + 12) | 0x1000;
        type = view.getUint16(o + 16);
        l3 = o + 18;
      }
      if (type !== 0x0800) continue;
      const first = view.getInt32(l3); // version, length, tos, total length
      const room = o + len - l3;
      const total = first & 0xffff;
      const header = (first >>> 22) & 0x3c;
      if (header < 20 || total > room || total < header + 8 || room - total > 0xffff) continue;
      if ((view.getUint16(l3 + 6) & 0x3fff) !== 0) continue;
      const proto = view.getUint8(l3 + 9);
      const l4 = l3 + header;
      const size = total - header;
      const tp = view.getInt32(l4);
      if (proto === PROTO_TCP) {
        if (size < 20) continue;
        const data = (view.getUint8(l4 + 12) >>> 4) << 2;
        if (data < 20 || data > size) continue;
      } else if (proto === PROTO_UDP) {
        const length = view.getUint16(l4 + 4);
        if (length < 8 || length > size) continue;
      } else {
        continue;
      }
      const src = view.getInt32(l3 + 12);
      const dst = view.getInt32(l3 + 16);
      if (checksum(sum(view, l3, header)) !== 0 || !payloadRight(view, l3, l4, size, proto)) continue;

      const k = i * KEY_LEN;
      const portNw = (inPort[slot] << 16) | (proto << 8) | ((first >>> 16) & 0xff);
      keys[k + PORT_NW] = portNw;
      keys[k + SRC] = src;
      keys[k + DST] = dst;
      keys[k + TP] = tp;
      keys[k + ETH_0] = view.getInt32(o);
      keys[k + ETH_1] = view.getInt32(o + 4);
      keys[k + ETH_2] = view.getInt32(o + 8);
      keys[k + VLAN] = vlan;
      hashes[i] = this.hash(portNw, src, dst, tp);
      l4s[i] = l4;
      l4Sizes[i] = size;
      l3Sizes[i] = total;
    }
  }

  /** Keyed like the connection table's hash; never 0. */
  private hash(portNw: number, src: number, dst: number, tp: number): number {
    let h = Math.imul(this.partition.seed ^ src, 0x9e3779b1 | 0);
    h = Math.imul(((h << 13) | (h >>> 19)) ^ dst, 0x9e3779b1 | 0);
    h = Math.imul(((h << 13) | (h >>> 19)) ^ tp, 0x9e3779b1 | 0);
    h = Math.imul(((h << 13) | (h >>> 19)) ^ portNw, 0x85ebca6b | 0);
    return h ^ (h >>> 15) || 1;
  }

  /** Makes an entry for packets like the one in staged position `i`, which the engine has just run. */
  insert(i: number, trace: Trace, verdict: number, tag = 0): void {
    const hash = this.hashes[i];
    if (hash === 0 || !trace.foldable || trace.nConns < 1 || trace.nConns > 2) return;
    const k = i * KEY_LEN;
    const { keys } = this;
    const tp = keys[k + TP];
    if ((keys[k + PORT_NW] & 0xff00) === PROTO_TCP << 8) {
      if (tp >>> 16 === FTP_PORT || (tp & 0xffff) === FTP_PORT) return;
    } else if ((tp & 0xffff) === TFTP_PORT) {
      return;
    }
    if (this.nEntries * 2 > this.mask) this.rebuild(false);
    let e = this.place(hash, k);
    if (e < 0) {
      // Live entries on all sides.
      this.rebuild(true);
      e = this.place(hash, k);
      if (e < 0) e = (hash & this.mask) << SHIFT;
    }
    const { entries } = this;
    if (entries[e + HASH] === 0) this.nEntries++;
    this.version++;
    for (let w = 0; w < KEY_LEN; w++) entries[e + w] = keys[k + w];
    const { hot } = this.partition;
    const { conns, states, nConns } = trace;
    entries[e + CONN_0] = conns[0];
    entries[e + ZONE_PROTO_0] = hot[((conns[0] >> 1) << HOT_SHIFT) + C_ZONE_PROTO];
    entries[e + CONN_1] = nConns > 1 ? conns[1] : -1;
    entries[e + ZONE_PROTO_1] = nConns > 1 ? hot[((conns[1] >> 1) << HOT_SHIFT) + C_ZONE_PROTO] : 0;
    entries[e + STATES] = states[0] | (nConns > 1 ? states[1] << 8 : 0);
    entries[e + VERDICT] = verdict;
    entries[e + TAG] = tag;
    entries[e + HASH] = hash;
  }

  /** The entry to overwrite: of the same packet, else a free one, else a dead one, else none: -1. */
  private place(hash: number, k: number): number {
    const { entries, mask, keys } = this;
    let dead = -1;
    for (let p = 0; p < PROBES; p++) {
      const e = ((hash + p) & mask) << SHIFT;
      if (entries[e + HASH] === 0 || (entries[e + HASH] === hash && sameKey(entries, e, keys, k))) return e;
      if (dead < 0 && !this.alive(e)) dead = e;
    }
    return dead;
  }

  private alive(e: number): boolean {
    const c = (this.entries[e + CONN_0] >> 1) << HOT_SHIFT;
    const { hot, hotF64 } = this.partition;
    return (
      hotF64[(c >> 1) + C_EXPIRES_F64] > this.now && hot[c + C_ZONE_PROTO] === this.entries[e + ZONE_PROTO_0]
    );
  }
  /** Clock of the vector being run, in ms. */
  private now = 0;

  /** Makes room: drops entries whose connection is gone, and doubles the table if most are not or it
   *  must. */
  private rebuild(must: boolean): void {
    const old = this.entries;
    const keep: Int32Array[] = [];
    for (let e = 0; e < old.length; e += 1 << SHIFT) {
      if (old[e + HASH] !== 0 && this.alive(e)) keep.push(old.subarray(e, e + (1 << SHIFT)));
    }
    const full = this.mask + 1 >= MAX_ENTRIES;
    if ((must || keep.length * 3 > this.mask) && !full) this.mask = this.mask * 2 + 1;
    this.entries = new Int32Array((this.mask + 1) << SHIFT);
    this.version++;
    this.nEntries = 0;
    for (const entry of keep) {
      // At the largest size half of the entries make way.
      if (full && this.nEntries * 4 > this.mask) break;
      for (let p = 0; p < PROBES; p++) {
        const e = ((entry[HASH] + p) & this.mask) << SHIFT;
        if (this.entries[e + HASH] !== 0) continue;
        this.entries.set(entry, e);
        this.nEntries++;
        break;
      }
    }
    // What was staged names entries of the old table.
    this.found.fill(-1);
  }
}

/** First word of the packet's entry, or -1. Entries are never removed, so a free one ends the search. */
function find(entries: Int32Array, mask: number, hash: number, keys: Int32Array, k: number): number {
  for (let p = 0; p < PROBES; p++) {
    const e = ((hash + p) & mask) << SHIFT;
    const h = entries[e + HASH];
    if (h === hash && sameKey(entries, e, keys, k)) return e;
    if (h === 0) return -1;
  }
  return -1;
}

function sameKey(entries: Int32Array, e: number, keys: Int32Array, k: number): boolean {
  return (
    entries[e] === keys[k] &&
    entries[e + 1] === keys[k + 1] &&
    entries[e + 2] === keys[k + 2] &&
    entries[e + 3] === keys[k + 3] &&
    entries[e + 4] === keys[k + 4] &&
    entries[e + 5] === keys[k + 5] &&
    entries[e + 6] === keys[k + 6] &&
    entries[e + 7] === keys[k + 7]
  );
}

/** Checksum over pseudo header and segment; a UDP checksum of zero was left out by the sender. */
function payloadRight(view: DataView, l3: number, l4: number, size: number, proto: number): boolean {
  if (proto === PROTO_UDP && view.getUint16(l4 + 6) === 0) return true;
  return checksum(sum(view, l4, size) + sum(view, l3 + 12, 8) + proto + size) === 0;
}
