/** Makes a frame that a flow key describes: the reverse of `extract`, for tracing a flow that was given as
 *  text. Lengths and checksums are right. What the key leaves open is zero, and the TTL 64 unless the key
 *  has one; a TCP segment without flags is a SYN, as the first packet of a connection would be. */
import { FLOW, FRAG_ANY, FRAG_LATER } from '../classifier/flow-key.js';
import { checksum, sctpChecksum, sum } from './checksum.js';
import {
  ETH_TYPE_ARP,
  ETH_TYPE_IP,
  ETH_TYPE_IPV6,
  ETH_TYPE_RARP,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
} from './extract.js';

const VLAN_PRESENT = 0x1000;
const ETH_TYPE_MPLS = 0x8847;
const ETH_TYPE_MPLS_MULTICAST = 0x8848;
const MPLS_BOTTOM = 0x100;
/** Highest value of eth_type that is a length (IEEE 802.3). */
const ETH_TYPE_MIN = 0x0600;
const TCP_SYN = 2;
const DEFAULT_TTL = 64;
/** Offset of a fragment that is not the first, in units of 8 bytes; any but 0 would do. */
const LATER_OFFSET = 150;
const IPPROTO_FRAGMENT = 44;
const ICMPV6_ND_SOLICIT = 135;
const ICMPV6_ND_ADVERT = 136;

/** Appends numbers of 8, 16 and 32 bits in network order. */
class Bytes {
  readonly list: number[] = [];
  u8(...values: number[]): this {
    for (const v of values) this.list.push(v & 0xff);
    return this;
  }
  u16(v: number): this {
    return this.u8(v >>> 8, v);
  }
  u32(v: number): this {
    return this.u8(v >>> 24, v >>> 16, v >>> 8, v);
  }
  words(key: Int32Array, first: number, n: number): this {
    for (let i = 0; i < n; i++) this.u32(key[first + i]);
    return this;
  }
}

/** A frame whose parse is `key` (KEY_WORDS words; conntrack words are not looked at), with `payload` bytes
 *  behind the transport header. */
export function composeFrame(key: Int32Array, payload: Uint8Array = new Uint8Array(0)): Uint8Array {
  const b = new Bytes().words(key, FLOW.ETH_DST_HI, 3);
  const type = key[FLOW.ETH_TYPE];
  for (const word of [FLOW.VLAN_0, FLOW.VLAN_1]) {
    if (key[word] & VLAN_PRESENT) b.u16(key[word] >>> 16 || 0x8100).u16(key[word] & ~VLAN_PRESENT);
  }
  if (type < ETH_TYPE_MIN) {
    // 802.2 without SNAP: a length and an LLC header that is not SNAP's.
    b.u16(3 + payload.length).u8(0x42, 0x42, 3);
  } else {
    b.u16(type);
  }
  if (type === ETH_TYPE_MPLS || type === ETH_TYPE_MPLS_MULTICAST) labels(b, key);
  else if (type === ETH_TYPE_ARP || type === ETH_TYPE_RARP) arp(b, key);
  if (type === ETH_TYPE_IP) return ipv4(b, key, payload);
  if (type === ETH_TYPE_IPV6) return ipv6(b, key, payload);
  return Uint8Array.from([...b.list, ...payload]);
}

function labels(b: Bytes, key: Int32Array): void {
  for (const word of [FLOW.MPLS_0, FLOW.MPLS_1, FLOW.MPLS_2]) {
    const last = word === FLOW.MPLS_2 || key[word + 1] === 0;
    b.u32(last ? key[word] | MPLS_BOTTOM : key[word]);
    if (last) return;
  }
}

/** RFC 826. */
function arp(b: Bytes, key: Int32Array): void {
  b.u16(1)
    .u16(ETH_TYPE_IP)
    .u8(6, 4)
    .u16(key[FLOW.NW] & 0xff);
  const sha = key[FLOW.ARP_SHA_HI];
  const mixed = key[FLOW.ARP_SHA_LO_THA_HI];
  b.u32(sha)
    .u16(mixed >>> 16)
    .u32(key[FLOW.NW_SRC]);
  b.u16(mixed & 0xffff)
    .u32(key[FLOW.ARP_THA_LO])
    .u32(key[FLOW.NW_DST]);
}

function ipv4(b: Bytes, key: Int32Array, payload: Uint8Array): Uint8Array {
  const nw = key[FLOW.NW];
  const frag = nw >>> 24;
  const proto = nw & 0xff;
  const l4 = frag & FRAG_LATER ? new Bytes() : transport(key, proto, payload.length);
  const l3 = b.list.length;
  b.u8(0x45, nw >>> 16).u16(20 + l4.list.length + payload.length);
  b.u16(0).u16(frag & FRAG_LATER ? LATER_OFFSET : frag & FRAG_ANY ? 0x2000 : 0);
  b.u8((nw >>> 8) & 0xff || DEFAULT_TTL, proto)
    .u16(0)
    .words(key, FLOW.NW_SRC, 2);
  const frame = Uint8Array.from([...b.list, ...l4.list, ...payload]);
  const view = new DataView(frame.buffer);
  view.setUint16(l3 + 10, checksum(sum(view, l3, 20)));
  if (frag === 0) seal(view, l3 + 20, l3 + 12, 8, proto);
  return frame;
}

function ipv6(b: Bytes, key: Int32Array, payload: Uint8Array): Uint8Array {
  const nw = key[FLOW.NW];
  const frag = nw >>> 24;
  const proto = nw & 0xff;
  const l4 = frag & FRAG_LATER ? new Bytes() : transport(key, proto, payload.length);
  const l3 = b.list.length;
  const extension = frag & FRAG_ANY ? 8 : 0;
  b.u32((6 << 28) | (((nw >>> 16) & 0xff) << 20) | (key[FLOW.IPV6_LABEL] & 0xfffff));
  b.u16(extension + l4.list.length + payload.length);
  b.u8(extension === 0 ? proto : IPPROTO_FRAGMENT, (nw >>> 8) & 0xff || DEFAULT_TTL);
  b.words(key, FLOW.IPV6_SRC_0, 8);
  if (extension !== 0)
    b.u8(proto, 0)
      .u16(frag & FRAG_LATER ? LATER_OFFSET << 3 : 1)
      .u32(1);
  const frame = Uint8Array.from([...b.list, ...l4.list, ...payload]);
  if (frag === 0) seal(new DataView(frame.buffer), l3 + 40, l3 + 8, 32, proto);
  return frame;
}

/** The transport header; its checksum is left to `seal`. */
function transport(key: Int32Array, proto: number, payload: number): Bytes {
  const b = new Bytes();
  const tp = key[FLOW.TP];
  switch (proto) {
    case IPPROTO_TCP:
      return b
        .u32(tp)
        .u32(0)
        .u32(0)
        .u16(0x5000 | (key[FLOW.TCP_FLAGS] & 0xfff || TCP_SYN))
        .u16(65535)
        .u32(0);
    case IPPROTO_UDP:
      return b
        .u32(tp)
        .u16(8 + payload)
        .u16(0);
    case IPPROTO_SCTP:
      return b.u32(tp).u32(0).u32(0);
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6: {
      const type = (tp >>> 16) & 0xff;
      b.u8(type, tp).u16(0);
      if (proto === IPPROTO_ICMPV6 && (type === ICMPV6_ND_SOLICIT || type === ICMPV6_ND_ADVERT)) {
        return discovery(b, key, type);
      }
      return b.u32(0);
    }
    default:
      return b;
  }
}

/** RFC 4861, sections 4.3 and 4.4: target, and the link-layer address if the key has one. */
function discovery(b: Bytes, key: Int32Array, type: number): Bytes {
  b.u32(key[FLOW.ND_RESERVED]).words(key, FLOW.ND_TARGET_0, 4);
  const mixed = key[FLOW.ARP_SHA_LO_THA_HI];
  const [hi, lo] =
    type === ICMPV6_ND_SOLICIT
      ? [key[FLOW.ARP_SHA_HI] >>> 16, (key[FLOW.ARP_SHA_HI] << 16) | (mixed >>> 16)]
      : [mixed & 0xffff, key[FLOW.ARP_THA_LO]];
  const option = type === ICMPV6_ND_SOLICIT ? 1 : 2;
  return hi === 0 && lo === 0 ? b : b.u8(option, 1).u16(hi).u32(lo);
}

/** Fills in the transport checksum; the pseudo header has `size` bytes of addresses at `addresses`. */
function seal(view: DataView, l4: number, addresses: number, size: number, proto: number): void {
  const length = view.byteLength - l4;
  const pseudo = () => checksum(sum(view, l4, length) + sum(view, addresses, size) + proto + length);
  switch (proto) {
    case IPPROTO_TCP:
      view.setUint16(l4 + 16, pseudo());
      break;
    case IPPROTO_UDP:
      view.setUint16(l4 + 6, pseudo() || 0xffff);
      break;
    case IPPROTO_ICMPV6:
      view.setUint16(l4 + 2, pseudo());
      break;
    case IPPROTO_ICMP:
      view.setUint16(l4 + 2, checksum(sum(view, l4, length)));
      break;
    case IPPROTO_SCTP:
      view.setInt32(l4 + 8, sctpChecksum(view, l4, length), true);
      break;
  }
}
