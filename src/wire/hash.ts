/** The hashes that choose among links and buckets: over the headers in a flow key, with the results of an
 *  Open vSwitch built without SSE 4.2 (lib/hash.h is CRC32 with it and MurmurHash3 without; Bob Jenkins'
 *  lookup3 is what multipath and bundle promise, ovs-actions(7)). Hash values are unsigned 32-bit.
 *
 *  Words are fed in as a little-endian machine reads them from network order, hence the byte swaps. */
import { FLOW, FRAG_ANY } from '../classifier/flow-key.js';
import {
  ETH_TYPE_ARP,
  ETH_TYPE_IP,
  ETH_TYPE_IPV6,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
} from './extract.js';

const { ETH_DST_HI, ETH_DST_LO_SRC_HI, ETH_SRC_LO, ETH_TYPE, VLAN_0, VLAN_1 } = FLOW;
const { NW_SRC, NW_DST, IPV6_SRC_0, IPV6_DST_0, NW, TP } = FLOW;
const VLAN_VID = 0x0fff;

/** What a hash of the headers looks at; the words of multipath and bundle, and the switch's 5-tuple. */
export const HASH_5TUPLE = 0;
export const HASH_SYMMETRIC_L3L4 = 1;
export const HASH_SYMMETRIC_L4 = 2;
export const HASH_SYMMETRIC_L3L4_UDP = 3;
export const HASH_SYMMETRIC_L3 = 4;
export const HASH_ETH_SRC = 5;
export const HASH_NW_SRC = 6;
export const HASH_NW_DST = 7;

export function swap32(x: number): number {
  return (x << 24) | ((x & 0xff00) << 8) | ((x >>> 8) & 0xff00) | (x >>> 24);
}

/** One step of MurmurHash3 (Austin Appleby, x86_32); a zero word is not mixed in. */
export function hashAdd(hash: number, word: number): number {
  if (word !== 0) {
    const k = Math.imul(word, 0xcc9e2d51 | 0);
    hash ^= Math.imul((k << 15) | (k >>> 17), 0x1b873593);
  }
  hash = (hash << 13) | (hash >>> 19);
  return (Math.imul(hash, 5) + (0xe6546b64 | 0)) | 0;
}

export function hashFinish(hash: number, final: number): number {
  hash ^= final;
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85ebca6b | 0);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2ae35 | 0);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** Of two words. */
export function hashInt(x: number, basis: number): number {
  return hashFinish(hashAdd(hashAdd(x, 0), basis), 8);
}

/** Of a 64-bit number. */
export function hashUint64(x: bigint): number {
  return hashFinish(hashAdd(hashAdd(0, Number(x & 0xffffffffn) | 0), Number(x >> 32n) | 0), 8);
}

/** Hash of the headers in `key`, by one of HASH_*. */
export function hashHeaders(key: Int32Array, which: number, basis: number): number {
  switch (which) {
    case HASH_5TUPLE:
      return hash5Tuple(key, basis);
    case HASH_SYMMETRIC_L3L4:
      return symmetricL3L4(key, basis, false);
    case HASH_SYMMETRIC_L3L4_UDP:
      return symmetricL3L4(key, basis, true);
    case HASH_SYMMETRIC_L4:
      return symmetricL4(key, basis);
    case HASH_SYMMETRIC_L3:
      return symmetricL3(key, basis);
    case HASH_ETH_SRC:
      scratch.setInt32(0, (key[ETH_DST_LO_SRC_HI] << 16) | (key[ETH_SRC_LO] >>> 16));
      scratch.setInt32(4, key[ETH_SRC_LO] << 16);
      return lookup3(6, basis);
    default:
      return address(key, which === HASH_NW_SRC, basis);
  }
}

function hash5Tuple(key: Int32Array, basis: number): number {
  let hash = basis;
  const type = key[ETH_TYPE];
  if (type === ETH_TYPE_IPV6) {
    for (let i = 0; i < 8; i++) hash = hashAdd(hash, swap32(key[IPV6_SRC_0 + i]));
  } else if (type === ETH_TYPE_IP || type === ETH_TYPE_ARP) {
    hash = hashAdd(hashAdd(hash, swap32(key[NW_SRC])), swap32(key[NW_DST]));
  } else {
    return hashFinish(hash, 42);
  }
  const proto = key[NW] & 0xff;
  hash = hashAdd(hash, proto);
  if (
    proto === IPPROTO_TCP ||
    proto === IPPROTO_UDP ||
    proto === IPPROTO_SCTP ||
    proto === IPPROTO_ICMP ||
    proto === IPPROTO_ICMPV6
  ) {
    hash = hashAdd(hash, swap32(key[TP]));
  }
  return hashFinish(hash, 42);
}

function symmetricL3L4(key: Int32Array, basis: number, udp: boolean): number {
  let hash = basis;
  const type = key[ETH_TYPE];
  if (type === ETH_TYPE_IP) {
    hash = hashAdd(hash, swap32(key[NW_SRC] ^ key[NW_DST]));
  } else if (type === ETH_TYPE_IPV6) {
    for (let i = 0; i < 4; i++) hash = hashAdd(hash, swap32(key[IPV6_SRC_0 + i] ^ key[IPV6_DST_0 + i]));
  } else {
    return symmetricL2(key, basis);
  }
  const nw = key[NW];
  const proto = nw & 0xff;
  hash = hashAdd(hash, proto);
  const ports = proto === IPPROTO_TCP || proto === IPPROTO_SCTP || (udp && proto === IPPROTO_UDP);
  if (ports && (nw & (FRAG_ANY << 24)) === 0) hash = hashAdd(hash, swap32(xorPorts(key)) >>> 16);
  return hashFinish(hash, basis);
}

function symmetricL2(key: Int32Array, basis: number): number {
  let hash = hashAdd(basis, swap32((key[ETH_TYPE] << 16) | vlans(key)));
  hash = hashAdd(hash, swap32(xorEthHi(key)));
  return hashFinish(hashAdd(hash, swap32(xorEthLo(key) << 16)), basis);
}

// ---- lookup3 over a record in network order ----

const scratch = new DataView(new ArrayBuffer(32));

function symmetricL4(key: Int32Array, basis: number): number {
  const type = key[ETH_TYPE];
  for (let at = 0; at < 32; at += 4) scratch.setInt32(at, 0);
  let proto = 0;
  if (putXorAddresses(key)) proto = key[NW] & 0xff;
  scratch.setUint16(16, type);
  scratch.setUint16(18, vlans(key));
  if (proto === IPPROTO_TCP || proto === IPPROTO_SCTP) scratch.setUint16(20, xorPorts(key));
  scratch.setUint16(22, xorEthHi(key) >>> 16);
  scratch.setInt32(24, (xorEthHi(key) << 16) | xorEthLo(key));
  scratch.setUint8(28, proto);
  return lookup3(32, basis);
}

function symmetricL3(key: Int32Array, basis: number): number {
  for (let at = 0; at < 20; at += 4) scratch.setInt32(at, 0);
  putXorAddresses(key);
  scratch.setUint16(16, key[ETH_TYPE]);
  return lookup3(20, basis);
}

/** False if it is not an IP packet. */
function putXorAddresses(key: Int32Array): boolean {
  const type = key[ETH_TYPE];
  if (type === ETH_TYPE_IP) scratch.setInt32(0, key[NW_SRC] ^ key[NW_DST]);
  else if (type === ETH_TYPE_IPV6) {
    for (let i = 0; i < 4; i++) scratch.setInt32(4 * i, key[IPV6_SRC_0 + i] ^ key[IPV6_DST_0 + i]);
  }
  return type === ETH_TYPE_IP || type === ETH_TYPE_IPV6;
}

function address(key: Int32Array, src: boolean, basis: number): number {
  const type = key[ETH_TYPE];
  if (type === ETH_TYPE_IP) {
    scratch.setInt32(0, key[src ? NW_SRC : NW_DST]);
    return lookup3(4, basis);
  }
  if (type !== ETH_TYPE_IPV6) return basis;
  for (let i = 0; i < 4; i++) scratch.setInt32(4 * i, key[(src ? IPV6_SRC_0 : IPV6_DST_0) + i]);
  return lookup3(16, basis);
}

function xorPorts(key: Int32Array): number {
  return (key[TP] >>> 16) ^ (key[TP] & 0xffff);
}

function vlans(key: Int32Array): number {
  return (key[VLAN_0] ^ key[VLAN_1]) & VLAN_VID;
}

/** First four bytes of source XOR destination address. */
function xorEthHi(key: Int32Array): number {
  return key[ETH_DST_HI] ^ ((key[ETH_DST_LO_SRC_HI] << 16) | (key[ETH_SRC_LO] >>> 16));
}

/** Last two bytes. */
function xorEthLo(key: Int32Array): number {
  return (key[ETH_DST_LO_SRC_HI] >>> 16) ^ (key[ETH_SRC_LO] & 0xffff);
}

function rot(x: number, k: number): number {
  return (x << k) | (x >>> (32 - k));
}

/** Bob Jenkins' lookup3 (public domain, hashlittle) of the first `n` bytes of `scratch`; those behind them
 *  up to a multiple of 4 are 0. */
function lookup3(n: number, basis: number): number {
  let a = (0xdeadbeef + n + basis) | 0;
  let b = a;
  let c = a;
  let at = 0;
  let left = n;
  for (; left >= 12; left -= 12, at += 12) {
    a = (a + scratch.getInt32(at, true)) | 0;
    b = (b + scratch.getInt32(at + 4, true)) | 0;
    c = (c + scratch.getInt32(at + 8, true)) | 0;
    a = (a - c) ^ rot(c, 4);
    c = (c + b) | 0;
    b = (b - a) ^ rot(a, 6);
    a = (a + c) | 0;
    c = (c - b) ^ rot(b, 8);
    b = (b + a) | 0;
    a = (a - c) ^ rot(c, 16);
    c = (c + b) | 0;
    b = (b - a) ^ rot(a, 19);
    a = (a + c) | 0;
    c = (c - b) ^ rot(b, 4);
    b = (b + a) | 0;
  }
  if (left > 0) {
    a = (a + scratch.getInt32(at, true)) | 0;
    if (left > 4) b = (b + scratch.getInt32(at + 4, true)) | 0;
    if (left > 8) c = (c + scratch.getInt32(at + 8, true)) | 0;
    c = ((c ^ b) - rot(b, 14)) | 0;
    a = ((a ^ c) - rot(c, 11)) | 0;
    b = ((b ^ a) - rot(a, 25)) | 0;
    c = ((c ^ b) - rot(b, 16)) | 0;
    a = ((a ^ c) - rot(c, 4)) | 0;
    b = ((b ^ a) - rot(a, 14)) | 0;
    c = ((c ^ b) - rot(b, 24)) | 0;
  }
  return c >>> 0;
}
