/** The kernel: what established TCP and UDP need on the way that src/datapath/express.ts describes, in AssemblyScript, over the
 *  memory in which arena, columns, staged vector and connections lie (src/shm/space.ts). It does what the functions named
 *  below do in TypeScript, for packets of which it is sure, and leaves all others to them: a packet that it has not
 *  taken has changed nothing. src/datapath/kernel.ts loads it, and sets the globals.
 *
 *      npm run kernel     makes src/datapath/kernel-code.ts of it */
import {
  ADDR6_SHIFT,
  BUCKET_WAYS,
  BYTES_0,
  C_DST,
  C_PORTS,
  C_SRC,
  C_STATE,
  C_WINS,
  C_ZONE_PROTO,
  DISORDER_0,
  END_NSEC,
  END_SEC,
  EXPIRES,
  FLAGS,
  FRAME_BYTES_0,
  FTP_PORT,
  HISTORY_0,
  HISTORY_1,
  HOLE_HI_0,
  HOLE_LO_0,
  HOT_SHIFT,
  IP_BYTES_0,
  K_DST,
  K_PORT_NW,
  K_SRC,
  K_TP,
  K_VLAN,
  KEY_SHIFT,
  KIND_IPV6,
  LAST_PACKET,
  MAX_ACK_WINDOW,
  MISSED_0,
  NEXT_0,
  PAYLOAD_0,
  PKTS_0,
  R_PKTS_0,
  RECORD_RTT,
  RECORD_SHIFT,
  RECORD_STREAM_0,
  RECORD_SYN,
  RECORD_SYNACK,
  RETRANS_0,
  SEQ_BYTES_0,
  SEQLO_0,
  STATE_HAS_POLICY,
  STATE_SPECIAL,
  TCPS_CLOSING,
  TCPS_ESTABLISHED,
  TCPS_FIN_WAIT_2,
  TCPS_SYN_SENT,
  TFTP_PORT,
  TM_TCP_CLOSE,
  TM_TCP_ESTABLISHED,
  TM_TCP_FIN_WAIT,
  TM_TCP_SYN_RECV,
  TM_TCP_TIME_WAIT,
  TM_UDP_MULTIPLE,
  TM_UDP_SINGLE,
  VLAN_IPV6,
  WSCALE_KNOWN,
  WSCALE_MAX,
  WSCALE_SHIFT,
  WSCALE_UNKNOWN,
} from './layout';

/** Bytes from a tag to its entry. */
const ENTRIES: usize = (<usize>BUCKET_WAYS) << 2;
const PASSED: i32 = -2;
const TCP: i32 = 6;
const UDP: i32 = 17;
const SUM_UNKNOWN: i32 = 0;
const SUM_WRONG: i32 = 2;
/** Events of HISTORY (src/datapath/recorder.ts). */
const EVENT_ACK: i32 = 3;
const EVENT_DATA: i32 = 4;
const EVENTS: i32 = 6;

// Where things are: addresses in the memory.
/** Window slots of the vector. */
export const SLOTS: usize = 0;
// PacketColumns.
export const OFF: usize = 0;
export const CAP_LEN: usize = 0;
export const WIRE_LEN: usize = 0;
export const IN_PORT: usize = 0;
export const NSEC: usize = 0;
export const SEC: usize = 0;
export const CLOCK: usize = 0;
export const SEQ: usize = 0;
export const VERDICT: usize = 0;
export const SUMS: usize = 0;
// Staging.
export const KEYS: usize = 0;
export const KEY_ADDR6: usize = 0;
export const KEY_HASHES: usize = 0;
export const L3S: usize = 0;
export const L4S: usize = 0;
export const L3_SIZES: usize = 0;
export const L4_SIZES: usize = 0;
// Express: with REST, packets that are not the kernel's.
export const FOUND: usize = 0;
export const HASHES: usize = 0;
export const SRCS: usize = 0;
export const DSTS: usize = 0;
export const REST: usize = 0;
export const VERDICTS: usize = 0;
export const MOST_PORTS: i32 = 0;
// Partition.
export const INDEX: usize = 0;
export const HOT: usize = 0;
export const RECORDS: usize = 0;
export const ADDR6: usize = 0;
/** The default timers. */
export const TIMEOUTS: usize = 0;
export const SEED: i32 = 0;
/** 0: checksums are taken for right. */
export const VERIFY: i32 = 1;

/** Bytes on the wire of the packets that `run` has taken, for whoever sets it to 0. */
export let TAKEN_BYTES: f64 = 0;
/** Keeps the loads that only touch something. */
export let SINK: i32 = 0;

function be16(at: usize): i32 {
  return bswap<u16>(load<u16>(at));
}

function be32(at: usize): i32 {
  return bswap<i32>(load<i32>(at));
}

// ---- conntrack/hash.ts ----

const KEY_1: i32 = <i32>0x9e3779b1;
const KEY_2: i32 = <i32>0xc2b2ae35;
const KEY_3: i32 = 0x27d4eb2f;
const STIR: i32 = <i32>0x85ebca6b;

function scatter(word: i32, key: i32): i32 {
  const t = word + key;
  return (t & 0xffff) * (t >>> 16) + t;
}

function stir(sum: i32): i32 {
  const h = (sum ^ (sum >>> 15)) * STIR;
  return h ^ (h >>> 15);
}

function end(address: i32, port: i32): i32 {
  return stir(scatter(address, SEED) + port * ((SEED * KEY_1) | 1));
}

function tupleHash(src: i32, dst: i32, ports: i32, proto: i32): i32 {
  return stir(end(src, ports >>> 16) + end(dst, ports & 0xffff) + proto * ((SEED * KEY_2) | 1));
}

function fold6(a: i32, b: i32, c: i32, d: i32): i32 {
  const upper = scatter(a, SEED * KEY_1) + scatter(b, SEED * KEY_2);
  const lower = scatter(c, SEED * KEY_3) + scatter(d, SEED);
  return stir(upper + lower);
}

// ---- wire/checksum.ts ----

/** Sum of the 16-bit words as they lie in memory, with its bytes swapped against the one of the RFC, not folded. */
function sum(at: usize, size: i32): u64 {
  let lanes = i32x4.splat(0);
  for (const last = at + (size & ~15); at < last; at += 16) {
    lanes = i32x4.add(lanes, i32x4.extadd_pairwise_i16x8_u(v128.load(at)));
  }
  let total: u64 =
    <u64>(<u32>i32x4.extract_lane(lanes, 0)) +
    <u64>(<u32>i32x4.extract_lane(lanes, 1)) +
    <u64>(<u32>i32x4.extract_lane(lanes, 2)) +
    <u64>(<u32>i32x4.extract_lane(lanes, 3));
  if (size & 8) {
    total += <u64>load<u32>(at) + <u64>load<u32>(at, 4);
    at += 8;
  }
  if (size & 4) {
    total += <u64>load<u32>(at);
    at += 4;
  }
  if (size & 2) {
    total += <u64>load<u16>(at);
    at += 2;
  }
  if (size & 1) total += <u64>load<u8>(at);
  return total;
}

/** Whether the sum is that of bytes that include a right checksum. */
function isRight(total: u64): bool {
  total = (total >> 32) + (total & 0xffffffff);
  total = (total >> 32) + (total & 0xffffffff);
  let s = <u32>total;
  s = (s >> 16) + (s & 0xffff);
  s = (s >> 16) + (s & 0xffff);
  return s === 0xffff;
}

/** What protocol and length add to the sum of a pseudo header. */
function pseudo(proto: i32, size: i32): u64 {
  return <u64>((proto << 8) + <i32>bswap<u16>(<u16>size));
}

// ---- Staging.parse, Express.hash ----

/** Reads packet `i` of the vector, in window slot `row`. False if it is nothing for the kernel. */
function parse(i: i32, row: i32): bool {
  const column: usize = (<usize>row) << 2;
  const o: usize = <usize>load<i32>(OFF + column);
  const len = load<i32>(CAP_LEN + column);
  if (len < 42) return false;
  const type = load<u16>(o + 12);
  const l3 = o + 14;
  const room = len - 14;
  const known: i32 = load<u8>(SUMS + <usize>row);
  if (known === SUM_WRONG) return false;
  let l4: usize;
  let proto: i32;
  let size: i32;
  let tos: i32;
  let check: u64 = 0;
  const ipv6 = type === 0xdd86;
  if (ipv6) {
    if (room < 48) return false;
    size = be16(l3 + 4);
    if (size < 8 || size + 40 > room || room - size - 40 > 0xffff) return false;
    proto = load<u8>(l3 + 6);
    tos = (be32(l3) >>> 20) & 0xff;
    l4 = l3 + 40;
  } else {
    if (type !== 0x0008) return false;
    const total = be16(l3 + 2);
    if (load<u8>(l3) !== 0x45 || total > room || total < 28 || room - total > 0xffff) return false;
    if ((be16(l3 + 6) & 0x3fff) !== 0) return false;
    if (VERIFY !== 0) {
      const header =
        <u64>load<u32>(l3) +
        <u64>load<u32>(l3, 4) +
        <u64>load<u32>(l3, 8) +
        <u64>load<u32>(l3, 12) +
        <u64>load<u32>(l3, 16);
      if (!isRight(header)) return false;
    }
    proto = load<u8>(l3 + 9);
    tos = load<u8>(l3 + 1);
    size = total - 20;
    l4 = l3 + 20;
  }
  let verify = VERIFY !== 0;
  if (proto === TCP) {
    if (size < 20) return false;
    const data = (<i32>load<u8>(l4 + 12) >>> 4) << 2;
    if (data < 20 || data > size) return false;
    if (!ipv6 && known !== SUM_UNKNOWN) verify = false;
  } else if (proto === UDP) {
    const length = be16(l4 + 4);
    if (length < 8 || length > size) return false;
    if (!ipv6 && (known !== SUM_UNKNOWN || load<u16>(l4 + 6) === 0)) verify = false;
  } else {
    return false;
  }
  const tp = be32(l4);
  const sport = tp >>> 16;
  const dport = tp & 0xffff;
  if (sport === 0 || dport === 0) return false;
  if (proto === TCP ? sport === FTP_PORT || dport === FTP_PORT : dport === TFTP_PORT) return false;
  const port = load<i32>(IN_PORT + column) & 0xffff;
  if (port >= MOST_PORTS) return false;
  if (load<i32>(VERDICTS + ((<usize>(ipv6 ? port + MOST_PORTS : port)) << 2)) < 0) return false;
  if (verify) {
    check = sum(l4, size) + pseudo(proto, size);
    if (ipv6) check += sum(l3 + 8, 32);
    else check += <u64>load<u32>(l3, 12) + <u64>load<u32>(l3, 16);
    if (!isRight(check)) return false;
  }

  const k = KEYS + ((<usize>i) << (KEY_SHIFT + 2));
  const at = (<usize>i) << 2;
  let src: i32;
  let dst: i32;
  if (ipv6) {
    const a = KEY_ADDR6 + <usize>i * 24;
    const s0 = be32(l3 + 8);
    const s1 = be32(l3 + 12);
    const s2 = be32(l3 + 16);
    const d0 = be32(l3 + 24);
    const d1 = be32(l3 + 28);
    const d2 = be32(l3 + 32);
    store<i32>(a, s0);
    store<i32>(a, s1, 4);
    store<i32>(a, s2, 8);
    store<i32>(a, d0, 12);
    store<i32>(a, d1, 16);
    store<i32>(a, d2, 20);
    src = be32(l3 + 20);
    dst = be32(l3 + 36);
    store<i32>(k + K_SRC, src);
    store<i32>(k + K_DST, dst);
    src = fold6(s0, s1, s2, src);
    dst = fold6(d0, d1, d2, dst);
    store<i32>(k + K_VLAN, VLAN_IPV6);
    store<i32>(L3_SIZES + at, size + 40);
  } else {
    src = be32(l3 + 12);
    dst = be32(l3 + 16);
    store<i32>(k + K_SRC, src);
    store<i32>(k + K_DST, dst);
    store<i32>(k + K_VLAN, 0);
    store<i32>(L3_SIZES + at, size + 20);
  }
  store<i32>(k + K_PORT_NW, (port << 16) | (proto << 8) | tos);
  store<i32>(k + K_TP, tp);
  store<i32>(L3S + at, <i32>l3);
  store<i32>(L4S + at, <i32>l4);
  store<i32>(L4_SIZES + at, size);
  store<i32>(SRCS + at, src);
  store<i32>(DSTS + at, dst);
  store<i32>(HASHES + at, tupleHash(src, dst, tp, proto));
  return true;
}

/** Express.stage for the `n` packets in SLOTS, parsed before; the index level in use begins at word `base`. Those that are not
 *  the kernel's are listed in REST: returns how many. */
export function stage(n: i32, base: i32, mask: i32): i32 {
  const index = INDEX + ((<usize>base) << 2);
  const end = (<usize>n) << 2;
  let sink = 0;
  let nRest: usize = 0;
  for (let at: usize = 0; at < end; at += 4) {
    const i = <i32>(at >> 2);
    store<i32>(KEY_HASHES + at, 0);
    if (parse(i, load<i32>(SLOTS + at))) {
      store<i32>(FOUND + at, -1);
      sink ^= load<i32>(index + ((<usize>(load<i32>(HASHES + at) & mask)) << 6));
    } else {
      store<i32>(FOUND + at, PASSED);
      store<i32>(REST + nRest, i);
      nRest += 4;
    }
  }
  for (let at: usize = 0; at < end; at += 4) {
    if (load<i32>(FOUND + at) === PASSED) continue;
    const hash = load<i32>(HASHES + at);
    const tag = (hash & ~1) === 0 ? hash | 2 : hash;
    const bucket = index + ((<usize>(hash & mask)) << 6);
    let slot = -1;
    for (let way: usize = 0; way < ENTRIES; way += 4) {
      const t = load<i32>(bucket + way);
      if (t === 0) break;
      if (t === tag) {
        slot = load<i32>(bucket + ENTRIES + way) >>> 1;
        break;
      }
    }
    store<i32>(FOUND + at, slot);
    if (slot < 0) continue;
    const r = RECORDS + ((<usize>slot) << (RECORD_SHIFT + 2));
    sink ^= load<i32>(HOT + ((<usize>slot) << (HOT_SHIFT + 2))) ^ load<i32>(r) ^ load<i32>(r, 64);
    if (load<i32>(KEYS + ((at >> 2) << (KEY_SHIFT + 2)) + K_VLAN) !== 0) {
      sink ^= load<i32>(ADDR6 + ((<usize>slot) << (ADDR6_SHIFT + 2)));
    }
  }
  SINK = sink;
  return <i32>(nRest >> 2);
}

// ---- Express.run ----

/** The last stage for the packets from `i` on. Returns the first that is not taken, `n` if all are. */
export function run(i: i32, n: i32): i32 {
  let bytes: f64 = 0;
  for (; i < n; i++) {
    const row = load<i32>(SLOTS + ((<usize>i) << 2));
    if (!step(i, row)) break;
    bytes += <f64>load<i32>(WIRE_LEN + ((<usize>row) << 2));
  }
  TAKEN_BYTES += bytes;
  return i;
}

function step(i: i32, row: i32): bool {
  const at = (<usize>i) << 2;
  const slot = load<i32>(FOUND + at);
  if (slot < 0) return false;
  const k = KEYS + ((<usize>i) << (KEY_SHIFT + 2));
  const column = (<usize>row) << 2;
  const now = load<f64>(CLOCK + ((<usize>row) << 3));
  const c = HOT + ((<usize>slot) << (HOT_SHIFT + 2));
  if (!(load<f64>(c + EXPIRES) > now)) return false;
  const ipv6 = load<i32>(k + K_VLAN) !== 0;
  const portNw = load<i32>(k + K_PORT_NW);
  const proto = (portNw >>> 8) & 0xff;
  if (load<i32>(c + C_ZONE_PROTO) !== (ipv6 ? (proto << 8) | KIND_IPV6 : proto << 8)) return false;
  const src = load<i32>(SRCS + at);
  const dst = load<i32>(DSTS + at);
  const ports = load<i32>(k + K_TP);
  const cSrc = load<i32>(c + C_SRC);
  const cDst = load<i32>(c + C_DST);
  const cPorts = load<i32>(c + C_PORTS);
  let reply: i32;
  if (cSrc === src && cDst === dst && cPorts === ports) reply = 0;
  else if (cSrc === dst && cDst === src && cPorts === rotl<i32>(ports, 16)) reply = 1;
  else return false;
  if (ipv6 && !isSame6(i, k, slot, reply)) return false;
  const state = load<i32>(c + C_STATE);
  if ((state & (STATE_SPECIAL | STATE_HAS_POLICY)) !== 0) return false;
  const r = RECORDS + ((<usize>slot) << (RECORD_SHIFT + 2));
  // The first packet of a record, and carries of its bytes, are not for here.
  if (load<u64>(r + R_PKTS_0) === 0) return false;
  const l3Size = load<i32>(L3_SIZES + at);
  const d = (<usize>reply) << 2;
  const bytesBefore = load<i32>(c + d + BYTES_0);
  const bytesAfter = bytesBefore + l3Size;
  if (<u32>bytesAfter < <u32>bytesBefore) return false;

  const l4 = <usize>load<i32>(L4S + at);
  const l4Size = load<i32>(L4_SIZES + at);
  let timer: i32;
  let payload: i32;
  if (proto === TCP) {
    const before = load<i32>(r + FLAGS);
    // The end of a handshake is measured elsewhere.
    if (
      reply === 0 &&
      (before & (RECORD_RTT | RECORD_SYN | RECORD_SYNACK)) === (RECORD_SYN | RECORD_SYNACK)
    ) {
      return false;
    }
    timer = tcpStep(c, reply, state, l4, l4Size);
    if (timer < 0) return false;
    const flags: i32 = load<u8>(l4 + 13);
    payload = l4Size - ((<i32>load<u8>(l4 + 12) >>> 4) << 2);
    event(r, (payload === 0 ? EVENT_ACK : EVENT_DATA) + (reply !== 0 ? EVENTS : 0));
    store<i32>(r + FLAGS, before | (flags << (reply << 3)));
    segment(r, reply, before, be32(l4 + 4), payload);
  } else {
    const phase = reply === 1 ? 2 : (state & 15) === 0 ? 1 : state & 15;
    store<i32>(c + C_STATE, (state & ~15) | phase);
    timer = phase === 2 ? TM_UDP_MULTIPLE : TM_UDP_SINGLE;
    payload = l4Size - 8;
    event(r, EVENT_DATA + (reply !== 0 ? EVENTS : 0));
  }
  store<f64>(c + EXPIRES, now + load<f64>(TIMEOUTS + ((<usize>timer) << 3)));
  store<i32>(c + d + PKTS_0, load<i32>(c + d + PKTS_0) + 1);
  store<i32>(c + d + BYTES_0, bytesAfter);

  // Recorder.count.
  const sec = <u32>load<f64>(SEC + ((<usize>row) << 3));
  const nsec = load<i32>(NSEC + column);
  const end = load<u32>(r + END_SEC);
  if (sec > end || (sec === end && nsec > load<i32>(r + END_NSEC))) {
    store<u32>(r + END_SEC, sec);
    store<i32>(r + END_NSEC, nsec);
  }
  store<i32>(r + d + R_PKTS_0, load<i32>(r + d + R_PKTS_0) + 1);
  store<f64>(r + LAST_PACKET, load<f64>(SEQ + ((<usize>row) << 3)));
  const d8 = r + ((<usize>reply) << 3);
  store<f64>(d8 + FRAME_BYTES_0, load<f64>(d8 + FRAME_BYTES_0) + <f64>load<i32>(WIRE_LEN + column));
  store<f64>(d8 + IP_BYTES_0, load<f64>(d8 + IP_BYTES_0) + <f64>l3Size);
  store<f64>(d8 + PAYLOAD_0, load<f64>(d8 + PAYLOAD_0) + <f64>payload);
  const port = portNw >>> 16;
  store<i32>(VERDICT + column, load<i32>(VERDICTS + ((<usize>(ipv6 ? port + MOST_PORTS : port)) << 2)));
  return true;
}

/** Express.isSame6. */
function isSame6(i: i32, k: usize, slot: i32, reply: i32): bool {
  const p = KEY_ADDR6 + <usize>i * 24;
  const a = ADDR6 + ((<usize>slot) << (ADDR6_SHIFT + 2));
  const s = reply !== 0 ? a + 16 : a;
  const d = reply !== 0 ? a : a + 16;
  return (
    load<i32>(s, 12) === load<i32>(k + K_SRC) &&
    load<i32>(d, 12) === load<i32>(k + K_DST) &&
    load<i32>(s) === load<i32>(p) &&
    load<i32>(s, 4) === load<i32>(p, 4) &&
    load<i32>(s, 8) === load<i32>(p, 8) &&
    load<i32>(d) === load<i32>(p, 12) &&
    load<i32>(d, 4) === load<i32>(p, 16) &&
    load<i32>(d, 8) === load<i32>(p, 20)
  );
}

/** tcpStep of datapath/microflow.ts. */
function tcpStep(c: usize, reply: i32, state: i32, l4: usize, l4Size: i32): i32 {
  const srcState = (state >>> (reply << 2)) & 15;
  const dstState = (state >>> ((reply ^ 1) << 2)) & 15;
  if (srcState < TCPS_SYN_SENT || dstState === TCPS_SYN_SENT || dstState === TCPS_CLOSING) return -1;
  const offFlagsWin = be32(l4 + 12);
  // SYN, FIN, RST, ACK.
  if (((offFlagsWin >>> 16) & 0x17) !== 0x10) return -1;
  const payload = l4Size - ((offFlagsWin >>> 28) << 2);
  const wins = load<i32>(c + C_WINS);
  const srcWin = reply === 0 ? wins & 0xffff : wins >>> 16;
  const dstWin = reply === 0 ? wins >>> 16 : wins & 0xffff;
  const srcScale = reply === 0 ? state >>> 8 : state >>> 16;
  const dstScale = reply === 0 ? state >>> 16 : state >>> 8;
  let sws = 0;
  let dws = 0;
  if ((srcScale & dstScale & WSCALE_KNOWN) !== 0) {
    sws = srcScale & WSCALE_SHIFT;
    dws = dstScale & WSCALE_SHIFT;
  } else if ((srcScale & dstScale & WSCALE_UNKNOWN) !== 0) {
    sws = dws = WSCALE_MAX;
  }
  const src = c + SEQLO_0 + ((<usize>reply) << 3);
  const dst = c + SEQLO_0 + ((<usize>(reply ^ 1)) << 3);
  const srcLo = load<i32>(src);
  const srcHi = load<i32>(src, 4);
  const ack = be32(l4 + 8);
  const win = offFlagsWin & 0xffff;
  const seq = payload === 0 ? srcLo : be32(l4 + 4);
  const end = seq + payload;
  const ackSkew = load<i32>(dst) - ack;
  if (
    srcHi - end < 0 ||
    seq - (srcLo - (dstWin << dws)) < 0 ||
    ackSkew < -MAX_ACK_WINDOW ||
    ackSkew > MAX_ACK_WINDOW << sws
  ) {
    return -1;
  }
  if (win > srcWin) store<i32>(c + C_WINS, reply === 0 ? win | (dstWin << 16) : dstWin | (win << 16));
  if (end - srcLo > 0) store<i32>(src, end);
  const scaled = win << sws;
  if (ack + scaled - load<i32>(dst, 4) >= 0) store<i32>(dst, ack + (scaled === 0 ? 1 : scaled), 4);
  // tcpTimer.
  if (srcState >= TCPS_FIN_WAIT_2 && dstState >= TCPS_FIN_WAIT_2) return TM_TCP_CLOSE;
  if (srcState >= TCPS_CLOSING && dstState >= TCPS_CLOSING) return TM_TCP_TIME_WAIT;
  if (srcState < TCPS_ESTABLISHED || dstState < TCPS_ESTABLISHED) return TM_TCP_SYN_RECV;
  return srcState >= TCPS_CLOSING || dstState >= TCPS_CLOSING ? TM_TCP_FIN_WAIT : TM_TCP_ESTABLISHED;
}

/** Recorder.event. */
function event(r: usize, e: i32): void {
  const history = load<i32>(r + HISTORY_1);
  const known = history >>> 16;
  if (((known >>> (e - 1)) & 1) !== 0) return;
  const n = popcnt<i32>(known);
  store<i32>(r + HISTORY_1, history | (0x10000 << (e - 1)));
  const at = r + (n < 8 ? HISTORY_0 : HISTORY_1);
  store<i32>(at, load<i32>(at) | (e << ((n & 7) << 2)));
}

/** Recorder.segment, of one without SYN, FIN and RST, behind events and handshake. */
function segment(r: usize, reply: i32, before: i32, seq: i32, payload: i32): void {
  const d4 = r + ((<usize>reply) << 2);
  const d8 = r + ((<usize>reply) << 3);
  const end = seq + payload;
  if ((before & (RECORD_STREAM_0 << reply)) === 0) {
    store<i32>(r + FLAGS, load<i32>(r + FLAGS) | (RECORD_STREAM_0 << reply));
    store<i32>(d4 + NEXT_0, end);
    store<f64>(d8 + SEQ_BYTES_0, <f64>payload);
    return;
  }
  if (payload === 0) return;
  const next = load<i32>(d4 + NEXT_0);
  const ahead = seq - next;
  if (end - next > 0) {
    store<i32>(d4 + NEXT_0, end);
    let fresh = payload;
    if (ahead > 0) {
      store<f64>(d8 + MISSED_0, load<f64>(d8 + MISSED_0) + <f64>ahead);
      store<i32>(d8 + HOLE_LO_0, next);
      store<i32>(d8 + HOLE_HI_0, seq);
    } else if (ahead < 0) {
      add(d4 + RETRANS_0, 1);
      fresh = max<i32>(0, payload + ahead);
    }
    store<f64>(d8 + SEQ_BYTES_0, load<f64>(d8 + SEQ_BYTES_0) + <f64>fresh);
    return;
  }
  const lo = load<i32>(d8 + HOLE_LO_0);
  const hi = load<i32>(d8 + HOLE_HI_0);
  if (seq - lo >= 0 && hi - seq > 0) {
    add(d4 + DISORDER_0, 1);
    const filled = min<i32>(payload, hi - seq);
    store<f64>(d8 + MISSED_0, load<f64>(d8 + MISSED_0) - <f64>filled);
    store<f64>(d8 + SEQ_BYTES_0, load<f64>(d8 + SEQ_BYTES_0) + <f64>filled);
    if (seq === lo) store<i32>(d8 + HOLE_LO_0, seq + filled);
    else store<i32>(d8 + HOLE_HI_0, seq);
    return;
  }
  if (ahead === -1 && payload <= 1) return;
  add(d4 + RETRANS_0, 1);
}

function add(at: usize, n: i32): void {
  store<i32>(at, load<i32>(at) + n);
}
