/** Reads the tuple that a packet is tracked by, and says why a packet can't be tracked.
 *
 *  The checks, and what they leave unchecked, are those of Open vSwitch's userspace tracker: checksums
 *  and lengths of the packet itself, but not of the packet inside an ICMP error. */
import * as flowKey from '../classifier/flow-key.js';
import * as layouts from '../shm/layouts.js';
import { checksum, sctpChecksum, sum } from '../wire/checksum.js';
import * as headers from '../wire/extract.js';
import { type FrameLayout, Ipv6Walk, walkIpv6 } from '../wire/extract.js';
import { fold6, tupleHash } from './hash.js';

// Imported constants are loads from the other module's cells; local ones are folded into the code.
const { FLOW, FRAG_LATER } = flowKey;
const { KIND_IPV4, KIND_IPV6 } = layouts;
const { ETH_TYPE_IP, ETH_TYPE_IPV6, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP } =
  headers;

const { ETH_TYPE, NW_SRC, NW_DST, IPV6_SRC_0, NW } = FLOW;

/** Control ports of helpers: the tracker looks at their packets again in every ct(), helper or not. */
export const FTP_PORT = 21;
export const TFTP_PORT = 69;

/** Why ct() calls a packet invalid; index into INVALID_REASONS. */
export const INVALID_NONE = 0;
export const INVALID_NOT_IP = 1;
export const INVALID_TRUNCATED = 2;
export const INVALID_FRAGMENT = 3;
export const INVALID_IP_CHECKSUM = 4;
export const INVALID_L4_HEADER = 5;
export const INVALID_L4_CHECKSUM = 6;
export const INVALID_PORT_ZERO = 7;
export const INVALID_ICMP_TYPE = 8;
export const INVALID_ICMP_CODE = 9;
export const INVALID_ICMP_PAYLOAD = 10;
export const INVALID_UNRELATED = 11;
export const INVALID_NOT_OPENING = 12;
export const INVALID_TCP = 13;
/** Stable names, as --stats prints them. */
export const INVALID_REASONS = [
  '',
  'not-ip',
  'truncated',
  'fragment',
  'bad-ip-checksum',
  'bad-l4-header',
  'bad-l4-checksum',
  'port-zero',
  'icmp-type',
  'icmp-code',
  'icmp-error-payload',
  'icmp-error-unrelated',
  'not-an-opening-packet',
  'tcp-flags-or-window',
] as const;

/** A packet's tuple in the direction of the packet. One a thread: overwritten by every packet. */
export class ConnKey {
  src = 0;
  dst = 0;
  /** As CONN.PORTS. */
  ports = 0;
  /** As CONN.ZONE_PROTO, if the packet goes in the original direction … */
  zoneProto = 0;
  /** … and if it is a reply: differs for ICMP, whose replies have another type. */
  zoneProtoReply = 0;
  ipv6 = false;
  /** Source and destination address of an IPv6 tuple. */
  readonly addr6 = new Int32Array(8);
  /** The packet is an ICMP error; the tuple is that of the packet inside, turned round. */
  related = false;
  hash = 0;
  proto = 0;
}

const walk = new Ipv6Walk();

const ICMP_ECHO_REPLY = 0;
const ICMP_ECHO = 8;
const ICMP6_ECHO = 128;
const ICMP6_ECHO_REPLY = 129;

/** The type that answers an ICMP query type, or -1 (RFC 792). */
export function replyType(type: number): number {
  switch (type) {
    case ICMP_ECHO:
      return ICMP_ECHO_REPLY;
    case ICMP_ECHO_REPLY:
      return ICMP_ECHO;
    case 13: // timestamp
      return 14;
    case 14:
      return 13;
    case 15: // information request
      return 16;
    case 16:
      return 15;
    default:
      return -1;
  }
}

/** The same for ICMPv6: echo only (RFC 4443, section 4). */
export function replyType6(type: number): number {
  if (type === ICMP6_ECHO) return ICMP6_ECHO_REPLY;
  return type === ICMP6_ECHO_REPLY ? ICMP6_ECHO : -1;
}

/** CONN.ZONE_PROTO as the replies of a connection say it: ICMP queries have answers of another type. */
export function replyZoneProto(zoneProto: number): number {
  const proto = (zoneProto >>> 8) & 0xff;
  const kind = zoneProto & 0xff;
  if (proto === IPPROTO_ICMP && !(kind & 0x80)) return (zoneProto & ~0xff) | replyType(kind);
  if (proto === IPPROTO_ICMPV6 && kind & 0x80 && kind !== KIND_IPV6) {
    return (zoneProto & ~0xff) | replyType6(kind);
  }
  return zoneProto;
}

function isIcmpError(type: number): boolean {
  // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
  return type === 3 || type === 4 || type === 5 || type === 11 || type === 12;
}

function isIcmp6Error(type: number): boolean {
  return type >= 1 && type <= 4;
}

/** Reads the tuple of the packet at `off` in `zone`. `flow` and `layout` are its parse; `verified` says
 *  that its checksums were found right before. Returns INVALID_NONE or the reason. */
export function extractConnKey(
  view: DataView,
  off: number,
  layout: FrameLayout,
  flow: Int32Array,
  zone: number,
  verified: boolean,
  seed: number,
  key: ConnKey,
): number {
  const type = flow[ETH_TYPE];
  if (type !== ETH_TYPE_IP && type !== ETH_TYPE_IPV6) return INVALID_NOT_IP;
  if (layout.l4 < 0) return INVALID_TRUNCATED;
  const nw = flow[NW];
  // The first fragment of IPv4 passes for a packet if nobody has reassembled it; of most protocols its
  // checksum or length tells that it is none.
  if (nw >>> 24 !== 0 && (type === ETH_TYPE_IPV6 || ((nw >>> 24) & FRAG_LATER) !== 0))
    return INVALID_FRAGMENT;
  const l3 = off + layout.l3;
  const l4 = off + layout.l4;
  const size = layout.end - layout.l4;
  const proto = nw & 0xff;
  const ipv6 = type === ETH_TYPE_IPV6;
  if (!ipv6 && !verified && checksum(sum(view, l3, layout.l4 - layout.l3)) !== 0) return INVALID_IP_CHECKSUM;

  key.related = false;
  key.ipv6 = ipv6;
  key.proto = proto;
  key.ports = 0;
  let kind = ipv6 ? KIND_IPV6 : KIND_IPV4;
  let kindReply = kind;
  if (!ipv6) {
    key.src = flow[NW_SRC];
    key.dst = flow[NW_DST];
  } else {
    for (let i = 0; i < 8; i++) key.addr6[i] = flow[IPV6_SRC_0 + i];
  }

  if (proto === IPPROTO_TCP) {
    if (size < 20) return INVALID_L4_HEADER;
    const header = (view.getUint8(l4 + 12) >>> 4) << 2;
    if (header < 20 || header > size) return INVALID_L4_HEADER;
    if (!verified && !l4ChecksumRight(view, l3, l4, size, proto, ipv6)) return INVALID_L4_CHECKSUM;
    key.ports = view.getInt32(l4);
    if (!portsSet(key.ports)) return INVALID_PORT_ZERO;
  } else if (proto === IPPROTO_UDP) {
    if (size < 8) return INVALID_L4_HEADER;
    const length = view.getUint16(l4 + 4);
    if (length < 8 || length > size) return INVALID_L4_HEADER;
    // Over IPv4 a sender may leave the checksum out (RFC 768), over IPv6 not (RFC 8200, section 8.1).
    if (!verified && (ipv6 || view.getUint16(l4 + 6) !== 0)) {
      if (!l4ChecksumRight(view, l3, l4, size, proto, ipv6)) return INVALID_L4_CHECKSUM;
    }
    key.ports = view.getInt32(l4);
    if (!portsSet(key.ports)) return INVALID_PORT_ZERO;
  } else if (proto === IPPROTO_SCTP) {
    if (!sctpChunksFit(view, l4, size)) return INVALID_L4_HEADER;
    if (!verified && view.getInt32(l4 + 8, true) !== sctpChecksum(view, l4, size)) {
      return INVALID_L4_CHECKSUM;
    }
    key.ports = view.getInt32(l4);
    if (!portsSet(key.ports)) return INVALID_PORT_ZERO;
  } else if (proto === IPPROTO_ICMP && !ipv6) {
    if (!verified && checksum(sum(view, l4, size)) !== 0) return INVALID_L4_CHECKSUM;
    if (size < 8) return INVALID_L4_HEADER;
    const icmpType = view.getUint8(l4);
    if (isIcmpError(icmpType)) return extractInner4(view, l4 + 8, l4 + size, zone, seed, key);
    const answer = replyType(icmpType);
    if (answer < 0) return INVALID_ICMP_TYPE;
    if (view.getUint8(l4 + 1) !== 0) return INVALID_ICMP_CODE;
    const id = view.getUint16(l4 + 4);
    key.ports = (id << 16) | id;
    kind = icmpType;
    kindReply = answer;
  } else if (proto === IPPROTO_ICMPV6 && ipv6) {
    if (!verified && !l4ChecksumRight(view, l3, l4, size, proto, true)) return INVALID_L4_CHECKSUM;
    if (size < 8) return INVALID_L4_HEADER;
    const icmpType = view.getUint8(l4);
    if (isIcmp6Error(icmpType)) return extractInner6(view, l4 + 8, l4 + size, zone, seed, key);
    const answer = replyType6(icmpType);
    if (answer < 0) return INVALID_ICMP_TYPE;
    if (view.getUint8(l4 + 1) !== 0) return INVALID_ICMP_CODE;
    const id = view.getUint16(l4 + 4);
    key.ports = (id << 16) | id;
    kind = icmpType;
    kindReply = answer;
  }
  finish(key, zone, kind, kindReply, seed);
  return INVALID_NONE;
}

/** Words that stand for the IPv6 addresses in `key`. */
export function fold(key: ConnKey, seed: number): void {
  const a = key.addr6;
  key.src = fold6(seed, a[0], a[1], a[2], a[3]);
  key.dst = fold6(seed, a[4], a[5], a[6], a[7]);
}

function finish(key: ConnKey, zone: number, kind: number, kindReply: number, seed: number): void {
  if (key.ipv6) fold(key, seed);
  const zoneProto = (zone << 16) | (key.proto << 8);
  key.zoneProto = zoneProto | kind;
  key.zoneProtoReply = zoneProto | kindReply;
  key.hash = tupleHash(seed, key.src, key.dst, key.ports, zoneProto);
}

function portsSet(ports: number): boolean {
  return ports >>> 16 !== 0 && (ports & 0xffff) !== 0;
}

/** TCP, UDP and ICMPv6: the sum over pseudo header and segment (RFC 9293, section 3.1; RFC 8200, 8.1). */
function l4ChecksumRight(
  view: DataView,
  l3: number,
  l4: number,
  size: number,
  proto: number,
  ipv6: boolean,
): boolean {
  const addresses = ipv6 ? sum(view, l3 + 8, 32) : sum(view, l3 + 12, 8);
  return checksum(sum(view, l4, size) + addresses + proto + size) === 0;
}

/** Whether the chunks fill the packet exactly (RFC 9260, section 3.2). The last length is taken on
 *  trust as far as its padding goes. */
function sctpChunksFit(view: DataView, l4: number, size: number): boolean {
  if (size < 12) return false;
  let next = 12;
  while (next < size) {
    if (size - next < 4) return false;
    const length = view.getUint16(l4 + next + 2);
    if (length < 4) return false;
    next += (length + 3) & ~3;
  }
  return next === size;
}

/** The packet inside an ICMP error about an IPv4 packet (RFC 792): its header and the 8 bytes behind. */
function extractInner4(
  view: DataView,
  l3: number,
  end: number,
  zone: number,
  seed: number,
  key: ConnKey,
): number {
  const size = end - l3;
  if (size < 20) return INVALID_ICMP_PAYLOAD;
  const header = (view.getUint8(l3) & 15) << 2;
  if (header < 20 || size < header) return INVALID_ICMP_PAYLOAD;
  if ((view.getUint16(l3 + 6) & 0x1fff) !== 0) return INVALID_ICMP_PAYLOAD;
  // The error goes to whoever sent the packet inside.
  if (view.getInt32(l3 + 12) !== key.dst) return INVALID_ICMP_PAYLOAD;
  key.dst = view.getInt32(l3 + 12);
  key.src = view.getInt32(l3 + 16);
  key.proto = view.getUint8(l3 + 9);
  // RFC 792 promises 8 bytes of whatever is inside.
  return extractInnerL4(view, l3 + header, end, key.proto === IPPROTO_ICMP, 8, zone, seed, key);
}

/** The packet inside an ICMPv6 error (RFC 4443, section 3). */
function extractInner6(
  view: DataView,
  l3: number,
  end: number,
  zone: number,
  seed: number,
  key: ConnKey,
): number {
  if (end - l3 < 40) return INVALID_ICMP_PAYLOAD;
  if (!walkIpv6(view, l3 + 40, end, view.getUint8(l3 + 6), walk)) return INVALID_ICMP_PAYLOAD;
  if (walk.frag !== 0) return INVALID_ICMP_PAYLOAD;
  for (let i = 0; i < 4; i++) {
    const src = view.getInt32(l3 + 8 + i * 4);
    if (src !== key.addr6[4 + i]) return INVALID_ICMP_PAYLOAD;
  }
  for (let i = 0; i < 4; i++) key.addr6[i] = view.getInt32(l3 + 24 + i * 4);
  key.proto = walk.proto;
  const least = key.proto === IPPROTO_TCP ? 20 : key.proto === IPPROTO_SCTP ? 12 : 8;
  return extractInnerL4(view, walk.off, end, key.proto === IPPROTO_ICMPV6, least, zone, seed, key);
}

/** Ports or ICMP query of the packet inside an error, turned round; `least` bytes of it must be there. */
function extractInnerL4(
  view: DataView,
  l4: number,
  end: number,
  icmp: boolean,
  least: number,
  zone: number,
  seed: number,
  key: ConnKey,
): number {
  const { proto } = key;
  let kind = key.ipv6 ? KIND_IPV6 : KIND_IPV4;
  let kindReply = kind;
  if (proto === IPPROTO_TCP || proto === IPPROTO_UDP || proto === IPPROTO_SCTP) {
    if (end - l4 < least) return INVALID_ICMP_PAYLOAD;
    const ports = view.getInt32(l4);
    if (!portsSet(ports)) return INVALID_PORT_ZERO;
    key.ports = (ports << 16) | (ports >>> 16);
  } else if (icmp) {
    if (end - l4 < least) return INVALID_ICMP_PAYLOAD;
    const type = view.getUint8(l4);
    const answer = key.ipv6 ? replyType6(type) : replyType(type);
    if (answer < 0 || view.getUint8(l4 + 1) !== 0) return INVALID_ICMP_PAYLOAD;
    const id = view.getUint16(l4 + 4);
    key.ports = (id << 16) | id;
    kind = answer;
    kindReply = type;
  }
  key.related = true;
  finish(key, zone, kind, kindReply, seed);
  return INVALID_NONE;
}
