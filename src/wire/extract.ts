/** Parses a frame into the header words of a flow key, as Open vSwitch's userspace datapath does.
 *
 *  What it leaves out matters as much as what it fills in: a packet whose IP length says more than the
 *  frame holds has no addresses or ports at all, so a rule that asks for them does not match it
 *  (`ip` alone does), and `ct()` calls it invalid. The frame is only read here. */
import { FLOW, FRAG_ANY, FRAG_LATER } from '../classifier/flow-key.js';

const { ETH_DST_HI, ETH_DST_LO_SRC_HI, ETH_SRC_LO, ETH_TYPE, VLAN_0, VLAN_1 } = FLOW;
const { NW_SRC, NW_DST, IPV6_SRC_0, NW, TP, TCP_FLAGS, IPV6_LABEL } = FLOW;
const { ARP_SHA_HI, ARP_SHA_LO_THA_HI, ARP_THA_LO, ND_TARGET_0, ND_RESERVED, MPLS_0, MPLS_2 } = FLOW;

export const ETH_TYPE_IP = 0x0800;
export const ETH_TYPE_ARP = 0x0806;
export const ETH_TYPE_RARP = 0x8035;
export const ETH_TYPE_IPV6 = 0x86dd;
export const ETH_TYPE_VLAN = 0x8100;
export const ETH_TYPE_QINQ = 0x88a8;
export const ETH_TYPE_MPLS = 0x8847;
export const ETH_TYPE_MPLS_MCAST = 0x8848;
/** What eth_type reads for 802.2 frames without a SNAP EtherType (ovs-fields(7), eth_type). */
export const ETH_TYPE_NONE = 0x05ff;
const ETH_TYPE_MIN = 0x0600;

export const IPPROTO_ICMP = 1;
export const IPPROTO_IGMP = 2;
export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
export const IPPROTO_ICMPV6 = 58;
export const IPPROTO_SCTP = 132;
const IPPROTO_HOPOPTS = 0;
const IPPROTO_ROUTING = 43;
const IPPROTO_FRAGMENT = 44;
const IPPROTO_AH = 51;
const IPPROTO_DSTOPTS = 60;

/** VLAN tags that are looked at unless said otherwise (2 at most): other_config:vlan-limit (ovs-vswitchd.conf.db(5)). */
export const VLAN_LIMIT = 1;

/** Bottom-of-stack bit of an MPLS label stack entry (RFC 3032, section 2.1). */
export const MPLS_BOS = 0x100;

/** Neighbour Discovery options that carry a link-layer address (RFC 4861, section 4.6.1). */
export const ND_OPT_SLL = 1;
export const ND_OPT_TLL = 2;

/** Where a frame's layers start, as offsets from the first byte of the frame; -1 where there is none. */
export class FrameLayout {
  /** VLAN tags that `extract` looks behind. */
  vlanLimit = VLAN_LIMIT;
  /** MPLS label stack. */
  mpls = -1;
  /** Layer 3 header, set for every frame of at least 14 bytes; behind an MPLS label stack. */
  l3 = -1;
  /** Layer 4 header, set only for IPv4 and IPv6 packets that are all there. */
  l4 = -1;
  /** First byte after the IP packet; what follows is Ethernet padding. */
  end = 0;

  copy(from: FrameLayout): void {
    this.mpls = from.mpls;
    this.l3 = from.l3;
    this.l4 = from.l4;
    this.end = from.end;
  }

  /** Bytes were inserted in front of everything, or taken away. */
  move(by: number): void {
    if (this.mpls >= 0) this.mpls += by;
    if (this.l3 >= 0) this.l3 += by;
    if (this.l4 >= 0) this.l4 += by;
    this.end += by;
  }
}

/** Whether the frame ends within its VLAN tag. */
export function isPartialVlan(key: Int32Array): boolean {
  const type = key[ETH_TYPE];
  return (type === ETH_TYPE_VLAN || type === ETH_TYPE_QINQ) && (key[VLAN_0] & 0x1000) === 0;
}

export function isMpls(ethType: number): boolean {
  return ethType === ETH_TYPE_MPLS || ethType === ETH_TYPE_MPLS_MCAST;
}

/** Result of walking IPv6 extension headers (one walker a thread; the caller reads it at once). */
export class Ipv6Walk {
  proto = 0;
  frag = 0;
  /** Offset of the upper-layer header in the view. */
  off = 0;
}

/** Walks the extension headers from `off` to `end` (absolute offsets), starting with header type
 *  `proto`. False if one does not fit (RFC 8200, section 4). A later fragment ends the walk with
 *  protocol 44. */
export function walkIpv6(view: DataView, off: number, end: number, proto: number, walk: Ipv6Walk): boolean {
  let frag = 0;
  for (;;) {
    if (
      proto !== IPPROTO_HOPOPTS &&
      proto !== IPPROTO_ROUTING &&
      proto !== IPPROTO_DSTOPTS &&
      proto !== IPPROTO_AH &&
      proto !== IPPROTO_FRAGMENT
    ) {
      break;
    }
    if (end - off < 8) return false;
    const next = view.getUint8(off);
    if (proto === IPPROTO_FRAGMENT) {
      const offFlags = view.getUint16(off + 2);
      off += 8;
      proto = next;
      if (offFlags !== 0) {
        frag = FRAG_ANY;
        if ((offFlags & 0xfff8) !== 0) {
          frag |= FRAG_LATER;
          proto = IPPROTO_FRAGMENT;
          break;
        }
      }
      continue;
    }
    const units = view.getUint8(off + 1);
    const bytes = proto === IPPROTO_AH ? (units + 2) * 4 : (units + 1) * 8;
    if (bytes > end - off) return false;
    off += bytes;
    proto = next;
  }
  walk.proto = proto;
  walk.frag = frag;
  walk.off = off;
  return true;
}

/** Offset of the last fragment header between the IPv6 header at `l3` and `l4`, or -1. The headers are
 *  known to fit (`walkIpv6` has passed them). */
export function lastFragmentHeader(view: DataView, l3: number, l4: number): number {
  let proto = view.getUint8(l3 + 6);
  let at = l3 + 40;
  let found = -1;
  while (at < l4) {
    const next = view.getUint8(at);
    const units = view.getUint8(at + 1);
    if (proto === IPPROTO_FRAGMENT) {
      found = at;
      at += 8;
    } else {
      at += proto === IPPROTO_AH ? (units + 2) * 4 : (units + 1) * 8;
    }
    proto = next;
  }
  return found;
}

const walk = new Ipv6Walk();

/** Fills the header words (ETH_DST_HI to MPLS_2) of `key` from the frame of `len` bytes at `off`
 *  and says in `layout` where its layers are. The words before and after keep their values. */
export function extract(
  view: DataView,
  off: number,
  len: number,
  key: Int32Array,
  layout: FrameLayout,
): void {
  for (let w = ETH_DST_HI; w <= MPLS_2; w++) key[w] = 0;
  extractInto(view, off, len, key, layout);
}

/** `extract` into a key whose header words are all 0. */
export function extractInto(
  view: DataView,
  off: number,
  len: number,
  key: Int32Array,
  layout: FrameLayout,
): void {
  layout.mpls = -1;
  layout.l3 = -1;
  layout.l4 = -1;
  layout.end = len;
  if (len < 14) return;

  const end = off + len;
  key[ETH_DST_HI] = view.getInt32(off);
  key[ETH_DST_LO_SRC_HI] = view.getInt32(off + 4);
  key[ETH_SRC_LO] = view.getInt32(off + 8);

  let at = off + 12;
  let type = view.getUint16(at);
  for (let n = 0; n < layout.vlanLimit && (type === ETH_TYPE_VLAN || type === ETH_TYPE_QINQ); n++) {
    if (end - at < 6) break;
    key[n === 0 ? VLAN_0 : VLAN_1] = view.getInt32(at) | 0x1000;
    at += 4;
    type = view.getUint16(at);
  }
  at += 2;
  if (type < ETH_TYPE_MIN) {
    // 802.3 length: an EtherType only behind LLC/SNAP with the Ethernet OUI (RFC 1042).
    type = ETH_TYPE_NONE;
    if (end - at >= 8 && view.getInt32(at) === (0xaaaa0300 | 0) && view.getUint16(at + 4) === 0) {
      const snap = view.getUint16(at + 6);
      at += 8;
      if (snap >= ETH_TYPE_MIN) type = snap;
    }
  }
  key[ETH_TYPE] = type;
  if (isMpls(type)) {
    layout.mpls = at - off;
    at = extractMpls(view, at, end, key);
  }
  layout.l3 = at - off;

  let proto: number;
  let frag = 0;
  let l4: number;
  let l4End: number;
  if (type === ETH_TYPE_IP) {
    const size = end - at;
    if (size < 20) return;
    const headerLen = (view.getUint8(at) & 15) << 2;
    const totalLen = view.getUint16(at + 2);
    if (headerLen < 20 || size < headerLen || totalLen > size || headerLen > totalLen) return;
    if (size - totalLen > 0xffff) return;
    key[NW_SRC] = view.getInt32(at + 12);
    key[NW_DST] = view.getInt32(at + 16);
    const fragOff = view.getUint16(at + 6) & 0x3fff;
    if (fragOff !== 0) frag = FRAG_ANY | ((fragOff & 0x1fff) !== 0 ? FRAG_LATER : 0);
    proto = view.getUint8(at + 9);
    key[NW] = (frag << 24) | (view.getUint8(at + 1) << 16) | (view.getUint8(at + 8) << 8) | proto;
    l4 = at + headerLen;
    l4End = at + totalLen;
  } else if (type === ETH_TYPE_IPV6) {
    const size = end - at;
    if (size < 40) return;
    const payloadLen = view.getUint16(at + 4);
    if (payloadLen + 40 > size || size - payloadLen - 40 > 0xffff) return;
    for (let i = 0; i < 8; i++) key[IPV6_SRC_0 + i] = view.getInt32(at + 8 + i * 4);
    l4End = at + 40 + payloadLen;
    if (!walkIpv6(view, at + 40, l4End, view.getUint8(at + 6), walk)) return;
    const first = view.getInt32(at);
    proto = walk.proto;
    frag = walk.frag;
    key[IPV6_LABEL] = first & 0xfffff;
    key[NW] = (frag << 24) | (((first >>> 20) & 0xff) << 16) | (view.getUint8(at + 7) << 8) | proto;
    l4 = walk.off;
  } else {
    if (type === ETH_TYPE_ARP || type === ETH_TYPE_RARP) extractArp(view, at, end, key);
    return;
  }

  layout.l4 = l4 - off;
  layout.end = l4End - off;
  if (frag & FRAG_LATER) return;
  const l4Size = l4End - l4;
  if (proto === IPPROTO_TCP) {
    if (l4Size < 20) return;
    const control = view.getUint16(l4 + 12);
    const headerLen = (control >>> 12) << 2;
    if (headerLen < 20 || l4Size < headerLen) return;
    key[TCP_FLAGS] = control & 0x0fff;
    key[TP] = view.getInt32(l4);
  } else if (proto === IPPROTO_UDP) {
    if (l4Size >= 8) key[TP] = view.getInt32(l4);
  } else if (proto === IPPROTO_SCTP) {
    if (l4Size >= 12) key[TP] = view.getInt32(l4);
  } else if (proto === IPPROTO_ICMP || proto === IPPROTO_IGMP) {
    if (l4Size >= 8) key[TP] = (view.getUint8(l4) << 16) | view.getUint8(l4 + 1);
  } else if (proto === IPPROTO_ICMPV6) {
    if (l4Size < 8) return;
    const icmpType = view.getUint8(l4);
    const code = view.getUint8(l4 + 1);
    key[TP] = (icmpType << 16) | code;
    if (code === 0 && (icmpType === 135 || icmpType === 136)) {
      extractNeighbour(view, l4, l4End, key);
    }
  }
}

/** The label stack (RFC 3032): the first three entries can be matched, more are skipped, and what the stack
 *  carries is not looked at. Returns the first byte behind it. */
function extractMpls(view: DataView, at: number, end: number, key: Int32Array): number {
  for (let n = 0; end - at >= 4; n++) {
    const entry = view.getInt32(at);
    at += 4;
    if (n < 3) key[MPLS_0 + n] = entry;
    if (entry & MPLS_BOS) break;
  }
  return at;
}

/** RFC 826, Ethernet and IPv4 only; the opcode is matched by its low 8 bits and only if it has no more. */
function extractArp(view: DataView, at: number, end: number, key: Int32Array): void {
  if (end - at < 28) return;
  if (view.getInt32(at) !== 0x00010800 || view.getUint16(at + 4) !== 0x0604) return;
  const op = view.getUint16(at + 6);
  key[NW_SRC] = view.getInt32(at + 14);
  key[NW_DST] = view.getInt32(at + 24);
  if (op <= 0xff) key[NW] = op;
  key[ARP_SHA_HI] = view.getInt32(at + 8);
  key[ARP_SHA_LO_THA_HI] = (view.getUint16(at + 12) << 16) | view.getUint16(at + 18);
  key[ARP_THA_LO] = view.getInt32(at + 20);
}

/** Neighbour Discovery: the reserved word (flags of an advertisement), target, link-layer address options and
 *  the type of the first of them (RFC 4861, sections 4.3, 4.4 and 4.6.1). An option that comes again makes
 *  target and addresses unmatchable. */
function extractNeighbour(view: DataView, l4: number, end: number, key: Int32Array): void {
  key[ND_RESERVED] = view.getInt32(l4 + 4);
  let at = l4 + 8;
  if (end - at < 16) return;
  for (let i = 0; i < 4; i++) key[ND_TARGET_0 + i] = view.getInt32(at + i * 4);
  at += 16;
  while (end - at >= 8) {
    const bytes = view.getUint8(at + 1) * 8;
    if (bytes === 0 || bytes > end - at) return;
    const type = view.getUint8(at);
    if ((type === ND_OPT_SLL || type === ND_OPT_TLL) && bytes === 8) {
      const hi = view.getInt32(at + 2);
      const lo = view.getUint16(at + 6);
      const seen =
        type === ND_OPT_SLL
          ? key[ARP_SHA_HI] !== 0 || key[ARP_SHA_LO_THA_HI] >>> 16 !== 0
          : key[ARP_THA_LO] !== 0 || (key[ARP_SHA_LO_THA_HI] & 0xffff) !== 0;
      if (seen) {
        for (let i = 0; i < 4; i++) key[ND_TARGET_0 + i] = 0;
        key[ARP_SHA_HI] = key[ARP_SHA_LO_THA_HI] = key[ARP_THA_LO] = 0;
        return;
      }
      if (key[TCP_FLAGS] === 0) key[TCP_FLAGS] = type;
      if (type === ND_OPT_SLL) {
        key[ARP_SHA_HI] = hi;
        key[ARP_SHA_LO_THA_HI] = (lo << 16) | (key[ARP_SHA_LO_THA_HI] & 0xffff);
      } else {
        key[ARP_SHA_LO_THA_HI] = (key[ARP_SHA_LO_THA_HI] & 0xffff0000) | (hi >>> 16);
        key[ARP_THA_LO] = (hi << 16) | lo;
      }
    }
    at += bytes;
  }
}
