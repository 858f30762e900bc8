/** Changes header fields of a frame in place and keeps its checksums right by incremental update, as
 *  the set actions of the userspace datapath do (ovs-actions(7)). The frame must belong to the caller. */
import { FLOW } from '../classifier/flow-key.js';
import { checksum, sctpChecksum, sum, update16, update32 } from './checksum.js';
import {
  ETH_TYPE_ARP,
  ETH_TYPE_IP,
  ETH_TYPE_IPV6,
  ETH_TYPE_RARP,
  type FrameLayout,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  ND_OPT_SLL,
  ND_OPT_TLL,
} from './extract.js';

const { ETH_DST_HI, ETH_SRC_LO, ETH_TYPE, NW_SRC, NW_DST } = FLOW;
const { IPV6_SRC_0, IPV6_DST_3, NW, TP, IPV6_LABEL } = FLOW;
const { ARP_SHA_HI, ARP_SHA_LO_THA_HI, ARP_THA_LO, ND_TARGET_0, ND_TARGET_3 } = FLOW;
const { TCP_FLAGS, ND_RESERVED, MPLS_0 } = FLOW;

/** Sets the bits `mask` of flow key word `word` to `value` in the frame at `off`, whose parse is in `key`
 *  and `layout`. Words that the frame does not carry are left alone. True if the change makes a cached
 *  connection stale (addresses and ports do). */
export function setWord(
  view: DataView,
  off: number,
  layout: FrameLayout,
  key: Int32Array,
  word: number,
  value: number,
  mask: number,
): boolean {
  if (word >= ETH_DST_HI && word <= ETH_SRC_LO) {
    const at = off + ((word - ETH_DST_HI) << 2);
    view.setInt32(at, (view.getInt32(at) & ~mask) | value);
    return false;
  }
  if (word === MPLS_0) {
    if (layout.mpls >= 0 && layout.l3 - layout.mpls >= 4) put(view, off + layout.mpls, value, mask);
    return false;
  }
  const type = key[ETH_TYPE];
  if (type === ETH_TYPE_IP && layout.l4 >= 0) return setIpv4(view, off, layout, key, word, value, mask);
  if (type === ETH_TYPE_IPV6 && layout.l4 >= 0) return setIpv6(view, off, layout, key, word, value, mask);
  if (type === ETH_TYPE_ARP || type === ETH_TYPE_RARP) setArp(view, off + layout.l3, word, value, mask);
  return false;
}

function setIpv4(
  view: DataView,
  off: number,
  layout: FrameLayout,
  key: Int32Array,
  word: number,
  value: number,
  mask: number,
): boolean {
  const l3 = off + layout.l3;
  const l4 = off + layout.l4;
  const l4Size = layout.end - layout.l4;
  if (word === NW_SRC || word === NW_DST) {
    const at = word === NW_SRC ? l3 + 12 : l3 + 16;
    const from = view.getInt32(at);
    const to = (from & ~mask) | value;
    if (from === to) return false;
    updateL4Checksum(view, l4, l4Size, key[NW] & 0xff, from, to);
    view.setUint16(l3 + 10, update32(view.getUint16(l3 + 10), from, to));
    view.setInt32(at, to);
    return true;
  }
  if (word === NW) {
    const tos = view.getUint8(l3 + 1);
    const newTos = (tos & ~(mask >>> 16) & 0xff) | ((value >>> 16) & 0xff);
    if (newTos !== tos) {
      view.setUint16(l3 + 10, update16(view.getUint16(l3 + 10), tos, newTos));
      view.setUint8(l3 + 1, newTos);
    }
    const ttl = view.getUint8(l3 + 8);
    const newTtl = (ttl & ~(mask >>> 8) & 0xff) | ((value >>> 8) & 0xff);
    if (newTtl !== ttl) {
      view.setUint16(l3 + 10, update16(view.getUint16(l3 + 10), ttl << 8, newTtl << 8));
      view.setUint8(l3 + 8, newTtl);
    }
    return false;
  }
  if (word === TP) return setPorts(view, l4, l4Size, key[NW] & 0xff, value, mask);
  return false;
}

/** The L4 checksum covers the addresses through the pseudo header: a word of them goes `from` … `to`. */
export function updateL4Checksum(
  view: DataView,
  l4: number,
  l4Size: number,
  proto: number,
  from: number,
  to: number,
): void {
  if (proto === IPPROTO_TCP && l4Size >= 20) {
    view.setUint16(l4 + 16, update32(view.getUint16(l4 + 16), from, to));
  } else if (proto === IPPROTO_UDP && l4Size >= 8) {
    const field = view.getUint16(l4 + 6);
    // Zero means that the sender computed none (RFC 768); a computed zero is sent as all ones.
    if (field !== 0) view.setUint16(l4 + 6, update32(field, from, to) || 0xffff);
  } else if (proto === IPPROTO_ICMPV6 && l4Size >= 4) {
    view.setUint16(l4 + 2, update32(view.getUint16(l4 + 2), from, to));
  }
}

/** Gives the message of an ICMP query or its answer another id, with its checksum. */
export function setIcmpId(view: DataView, l4: number, id: number): void {
  const from = view.getUint16(l4 + 4);
  view.setUint16(l4 + 2, update16(view.getUint16(l4 + 2), from, id));
  view.setUint16(l4 + 4, id);
}

/** Writes a word of an IPv6 address at `at`, with the checksum at `l4` as `proto` has it. */
export function translateWord6(
  view: DataView,
  at: number,
  l4: number,
  l4Size: number,
  proto: number,
  word: number,
): void {
  updateL4Checksum(view, l4, l4Size, proto, view.getInt32(at), word);
  view.setInt32(at, word);
}

/** Writes ports, or type and code of an ICMP message, with their checksum. */
export function setPorts(
  view: DataView,
  l4: number,
  l4Size: number,
  proto: number,
  value: number,
  mask: number,
): boolean {
  if (proto === IPPROTO_ICMP || proto === IPPROTO_ICMPV6) {
    if (l4Size < 4) return false;
    const from = view.getUint16(l4);
    const typeCode = ((value >>> 8) & 0xff00) | (value & 0xff);
    const bits = ((mask >>> 8) & 0xff00) | (mask & 0xff);
    const to = (from & ~bits) | typeCode;
    if (from !== to) {
      view.setUint16(l4, to);
      view.setUint16(l4 + 2, update16(view.getUint16(l4 + 2), from, to));
    }
    return true;
  }
  if (l4Size < 4) return false;
  const from = view.getInt32(l4);
  const to = (from & ~mask) | value;
  if (proto === IPPROTO_TCP) {
    if (l4Size < 20) return false;
    view.setUint16(l4 + 16, update32(view.getUint16(l4 + 16), from, to));
  } else if (proto === IPPROTO_UDP) {
    if (l4Size < 8) return false;
    const field = view.getUint16(l4 + 6);
    if (field !== 0) view.setUint16(l4 + 6, update32(field, from, to) || 0xffff);
  } else if (proto === IPPROTO_SCTP) {
    if (l4Size < 12) return false;
    // A wrong checksum stays wrong by the same difference.
    const field = view.getInt32(l4 + 8, true);
    const right = sctpChecksum(view, l4, l4Size);
    view.setInt32(l4, to);
    view.setInt32(l4 + 8, field ^ right ^ sctpChecksum(view, l4, l4Size), true);
    return true;
  }
  view.setInt32(l4, to);
  return true;
}

function setIpv6(
  view: DataView,
  off: number,
  layout: FrameLayout,
  key: Int32Array,
  word: number,
  value: number,
  mask: number,
): boolean {
  const l3 = off + layout.l3;
  const l4 = off + layout.l4;
  const l4Size = layout.end - layout.l4;
  if (word >= IPV6_SRC_0 && word <= IPV6_DST_3) {
    const at = l3 + 8 + ((word - IPV6_SRC_0) << 2);
    const from = view.getInt32(at);
    const to = (from & ~mask) | value;
    if (from === to) return false;
    if (checksumCoversAddress(view, l3, l4)) {
      updateL4Checksum(view, l4, l4Size, key[NW] & 0xff, from, to);
    }
    view.setInt32(at, to);
    return true;
  }
  if (word === NW) {
    const first = view.getInt32(l3);
    view.setInt32(l3, (first & ~((mask & 0xff0000) << 4)) | ((value & 0xff0000) << 4));
    const ttl = view.getUint8(l3 + 7);
    view.setUint8(l3 + 7, (ttl & ~(mask >>> 8)) | ((value >>> 8) & 0xff));
  } else if (word === IPV6_LABEL) {
    view.setInt32(l3, (view.getInt32(l3) & ~mask) | value);
  } else if (word === TP) {
    return setPorts(view, l4, l4Size, key[NW] & 0xff, value, mask);
  } else if (l4Size >= ND_BYTES && (key[NW] & 0xff) === IPPROTO_ICMPV6) {
    setNeighbour(view, l3, l4, l4Size, word, value, mask);
  }
  return false;
}

/** Neighbour Discovery (RFC 4861, sections 4.3 and 4.4). A link-layer address is written only to the first
 *  option of either kind. */
function setNeighbour(
  view: DataView,
  l3: number,
  l4: number,
  l4Size: number,
  word: number,
  value: number,
  mask: number,
): void {
  if (word >= ND_TARGET_0 && word <= ND_TARGET_3) {
    putSummed(view, l4, l4 + 8 + ((word - ND_TARGET_0) << 2), value, mask);
  } else if (word === ND_RESERVED || word === TCP_FLAGS) {
    if (word === ND_RESERVED) put(view, l4 + 4, value, mask);
    else if (l4Size > ND_BYTES) {
      view.setUint8(l4 + ND_BYTES, (view.getUint8(l4 + ND_BYTES) & ~mask) | (value & 0xff));
    }
    // The checksum is computed anew, over the next header and length that the fixed header tells: with
    // extension headers in between it comes out wrong, in Open vSwitch as here.
    view.setUint16(l4 + 2, 0);
    const pseudo = sum(view, l3 + 8, 32) + view.getUint8(l3 + 6) + view.getUint16(l3 + 4);
    view.setUint16(l4 + 2, checksum(sum(view, l4, l4Size) + pseudo));
  } else {
    const at = firstLinkAddress(view, l4, l4Size);
    if (at < 0) return;
    if (view.getUint8(at) === ND_OPT_SLL) {
      if (word === ARP_SHA_HI) putSummed(view, l4, at + 2, value, mask);
      else if (word === ARP_SHA_LO_THA_HI) putSummed(view, l4, at + 4, value >>> 16, mask >>> 16);
    } else if (word === ARP_SHA_LO_THA_HI) putSummed(view, l4, at + 2, value << 16, mask << 16);
    else if (word === ARP_THA_LO) putSummed(view, l4, at + 4, value, mask);
  }
}

/** Neighbour solicitation or advertisement without options. */
const ND_BYTES = 24;

/** The first link-layer address option, or -1. Options of other kinds are passed over only while the room
 *  left behind them is more than the next one needs twice: Open vSwitch takes the length of the option that
 *  it has come to, not of the one it has passed, off what is left. */
function firstLinkAddress(view: DataView, l4: number, l4Size: number): number {
  let at = l4 + ND_BYTES;
  let left = l4Size - ND_BYTES;
  const end = l4 + l4Size;
  while (left >= 8 && end - at >= 8) {
    const units = view.getUint8(at + 1);
    if (units === 0 || left < units * 8) return -1;
    const type = view.getUint8(at);
    if (units === 1 && (type === ND_OPT_SLL || type === ND_OPT_TLL)) return at;
    at += units * 8;
    if (end - at < 8) return -1;
    left -= view.getUint8(at + 1) * 8;
  }
  return -1;
}

/** Changes a word under the checksum of the ICMPv6 message at `l4`. */
function putSummed(view: DataView, l4: number, at: number, value: number, mask: number): void {
  const from = view.getInt32(at);
  const to = (from & ~mask) | value;
  view.setUint16(l4 + 2, update32(view.getUint16(l4 + 2), from, to));
  view.setInt32(at, to);
}

/** Whether the upper-layer checksum was computed with the address in the IPv6 header: Open vSwitch
 *  leaves it alone while a routing header has segments left (RFC 8200, section 8.1), and in a packet whose
 *  fragment header says anything but "first of several". */
function checksumCoversAddress(view: DataView, l3: number, l4: number): boolean {
  let proto = view.getUint8(l3 + 6);
  let at = l3 + 40;
  let covered = true;
  while (at < l4) {
    if (proto === 43 && view.getUint8(at + 3) > 0) return false;
    if (proto === 44) {
      const offFlags = view.getUint16(at + 2);
      covered = (offFlags & 0xfff8) === 0 && (offFlags & 1) === 1;
    }
    const next = view.getUint8(at);
    at += proto === 44 ? 8 : proto === 51 ? (view.getUint8(at + 1) + 2) * 4 : (view.getUint8(at + 1) + 1) * 8;
    proto = next;
  }
  return covered;
}

function setArp(view: DataView, l3: number, word: number, value: number, mask: number): void {
  if (word === NW_SRC) put(view, l3 + 14, value, mask);
  else if (word === NW_DST) put(view, l3 + 24, value, mask);
  else if (word === NW) {
    view.setUint16(l3 + 6, (view.getUint16(l3 + 6) & ~(mask & 0xff)) | (value & 0xff));
  } else if (word === ARP_SHA_HI) put(view, l3 + 8, value, mask);
  else if (word === ARP_THA_LO) put(view, l3 + 20, value, mask);
  else if (word === ARP_SHA_LO_THA_HI) {
    view.setUint16(l3 + 12, (view.getUint16(l3 + 12) & ~(mask >>> 16)) | (value >>> 16));
    view.setUint16(l3 + 18, (view.getUint16(l3 + 18) & ~mask) | (value & 0xffff));
  }
}

function put(view: DataView, at: number, value: number, mask: number): void {
  view.setInt32(at, (view.getInt32(at) & ~mask) | value);
}
