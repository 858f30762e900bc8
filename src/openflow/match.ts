/** The match of a flow: how its keys fill the mask, and what a match promises about a packet, against
 *  which prerequisites are checked. Follows ovs-fields(7), "Matching" and "Prerequisites". */
import {
  CS_DNAT,
  CS_EST,
  CS_INV,
  CS_NEW,
  CS_REL,
  CS_RPL,
  CS_SNAT,
  CS_TRK,
  FLOW,
  FLOW_WORDS,
  FRAG_LATER,
} from '../classifier/flow-key.js';
import {
  ETH_TYPE_ARP,
  ETH_TYPE_IP,
  ETH_TYPE_IPV6,
  ETH_TYPE_MPLS,
  ETH_TYPE_MPLS_MCAST,
  ETH_TYPE_RARP,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
} from '../wire/extract.js';
import { type Field, getField, type Prereq, putFieldBits, VLAN_NONE } from './fields.js';
import type { Match } from './types.js';

const ND_SOLICIT = 135;
const ND_ADVERT = 136;
const VLAN_VID_MASK = 0x0fff;
/** The bit of a VLAN_0 or VLAN_1 word that says that there is a tag. */
export const VLAN_CFI = 0x1000;
const VLAN_PCP_MASK = 0xe000;

/** The match of every packet. */
export function catchAll(): Match {
  return { value: new Int32Array(FLOW_WORDS), mask: new Int32Array(FLOW_WORDS) };
}

function setVlan(m: Match, value: number, mask: number): void {
  m.value[FLOW.VLAN_0] = (m.value[FLOW.VLAN_0] & ~mask) | value;
  m.mask[FLOW.VLAN_0] |= mask;
}

/** Makes `m` compare the field; a later setting of the same bits replaces an earlier one, and an
 *  all-zero mask stops comparing them, as in OVS. */
export function matchField(m: Match, f: Field, value: bigint, mask: bigint): void {
  const tci = Number(value);
  if (mask === 0n) {
    putFieldBits(m.value, f, 0n);
    putFieldBits(m.mask, f, 0n);
    // Without VID and PCP nothing is left of a match on a tag.
    const left = f.name.endsWith('pcp') ? VLAN_VID_MASK : VLAN_PCP_MASK;
    if (/^(dl_vlan|vlan_vid|dl_vlan_pcp|vlan_pcp)$/.test(f.name) && !(m.mask[FLOW.VLAN_0] & left)) {
      m.value[FLOW.VLAN_0] = 0;
      m.mask[FLOW.VLAN_0] = 0;
    }
  } else if (f.name === 'dl_vlan') {
    if (tci === VLAN_NONE) {
      m.value[FLOW.VLAN_0] = 0;
      m.mask[FLOW.VLAN_0] = 0xffff;
    } else {
      setVlan(m, tci | VLAN_CFI, VLAN_VID_MASK | VLAN_CFI);
    }
  } else if (f.name === 'dl_vlan_pcp' || f.name === 'vlan_pcp') {
    setVlan(m, (tci << 13) | VLAN_CFI, VLAN_PCP_MASK | VLAN_CFI);
  } else if (f.prereq === 'icmp4' || f.prereq === 'icmp6') {
    // OVS keeps type and code in 16-bit ports and compares all of them.
    const { word, shift } = f.segments[0];
    m.value[word] = (m.value[word] & ~(0xffff << shift)) | (tci << shift);
    m.mask[word] |= 0xffff << shift;
  } else if (f.name === 'nd_options_type') {
    // As do the 16 bits where TCP flags are.
    m.value[FLOW.TCP_FLAGS] = tci;
    m.mask[FLOW.TCP_FLAGS] = 0xffff;
  } else {
    putFieldBits(m.value, f, value & mask);
    putFieldBits(m.mask, f, mask);
  }
}

/** Adds to what `m` already says of the field. */
export function matchSubfield(m: Match, f: Field, ofs: number, bits: number, value: bigint): void {
  const ones = ((1n << BigInt(bits)) - 1n) << BigInt(ofs);
  const old = getField(m.value, f);
  matchField(m, f, (old & ~ones) | (value << BigInt(ofs)), getField(m.mask, f) | ones);
}

const ethType = (m: Match): number => m.value[FLOW.ETH_TYPE];
const proto = (m: Match): number => m.value[FLOW.NW] & 0xff;
const typeIs = (m: Match, type: number): boolean => m.value[FLOW.TP] >>> 16 === type;

/** True if all packets of `m` are IPv4 or IPv6. */
export function isIp(m: Match): boolean {
  return ethType(m) === ETH_TYPE_IP || ethType(m) === ETH_TYPE_IPV6;
}

/** True if all packets of `m` have an MPLS label stack. */
export function isMpls(m: Match): boolean {
  return ethType(m) === ETH_TYPE_MPLS || ethType(m) === ETH_TYPE_MPLS_MCAST;
}

function isArp(m: Match): boolean {
  return ethType(m) === ETH_TYPE_ARP || ethType(m) === ETH_TYPE_RARP;
}

function isLater(m: Match): boolean {
  return ((m.value[FLOW.NW] >>> 24) & FRAG_LATER) !== 0;
}

function isNd(m: Match): boolean {
  return meets(m, 'icmp6', false) && (typeIs(m, ND_SOLICIT) || typeIs(m, ND_ADVERT));
}

/** True if `m` implies that packets went through conntrack and are not invalid. */
export function isCtValid(m: Match): boolean {
  const state = m.value[FLOW.CT_STATE];
  const some = CS_NEW | CS_EST | CS_REL | CS_RPL | CS_SNAT | CS_DNAT;
  return (
    (state & some) !== 0 ||
    ((state & CS_TRK) !== 0 && (m.mask[FLOW.CT_STATE] & CS_INV) !== 0 && (state & CS_INV) === 0)
  );
}

/** True if every packet of `m` meets the prerequisite. `tagged`: whether it has a VLAN tag by then. */
export function meets(m: Match, prereq: Prereq, tagged: boolean): boolean {
  switch (prereq) {
    case 'none':
    case 'ethernet':
      return true;
    case 'vlan':
      return tagged;
    case 'mpls':
      return isMpls(m);
    case 'arp':
      return isArp(m);
    case 'ipv4':
      return ethType(m) === ETH_TYPE_IP;
    case 'ipv6':
      return ethType(m) === ETH_TYPE_IPV6;
    case 'ip':
      return isIp(m);
    case 'ct':
      return isCtValid(m);
    case 'tcp':
      return isIp(m) && proto(m) === IPPROTO_TCP && !isLater(m);
    case 'udp':
      return isIp(m) && proto(m) === IPPROTO_UDP && !isLater(m);
    case 'sctp':
      return isIp(m) && proto(m) === IPPROTO_SCTP && !isLater(m);
    case 'icmp4':
      return ethType(m) === ETH_TYPE_IP && proto(m) === IPPROTO_ICMP;
    case 'icmp6':
      return ethType(m) === ETH_TYPE_IPV6 && proto(m) === IPPROTO_ICMPV6;
    case 'nd':
      return isNd(m) && (m.value[FLOW.TP] & 0xffff) === 0;
    case 'nd_solicit':
      return meets(m, 'nd', tagged) && typeIs(m, ND_SOLICIT);
    case 'nd_advert':
      return meets(m, 'nd', tagged) && typeIs(m, ND_ADVERT);
    case 'l4':
      return meets(m, 'tcp', tagged) || meets(m, 'udp', tagged) || meets(m, 'sctp', tagged);
  }
}

/** What a prerequisite asks of a flow, for messages. */
export const PREREQ_TEXT: Readonly<Record<Prereq, string>> = {
  none: 'nothing',
  ethernet: 'nothing',
  vlan: 'a VLAN tag (dl_vlan, or vlan_tci=0x1000/0x1000, or push_vlan before)',
  mpls: 'mpls or mplsm',
  arp: 'arp or rarp',
  ipv4: 'ip',
  ipv6: 'ipv6',
  ip: 'ip or ipv6',
  ct: 'a ct_state that implies a valid connection, such as +trk+est or +trk-inv',
  tcp: 'tcp or tcp6',
  udp: 'udp or udp6',
  sctp: 'sctp or sctp6',
  icmp4: 'icmp',
  icmp6: 'icmp6',
  nd: 'icmp6 with icmpv6_type=135 or 136',
  nd_solicit: 'icmp6 with icmpv6_type=135',
  nd_advert: 'icmp6 with icmpv6_type=136',
  l4: 'tcp, udp or sctp',
};

/** What the match must have for the field to be comparable, or undefined if it has it. Laxer than
 *  meets(): fields that share a place stand in for each other, as when OVS normalises a match
 *  (nw_src in an arp match is arp_spa, tp_src in an icmp match is icmp_type). OVS drops other
 *  comparisons with a warning, which would widen the flow; here they are refused. */
export function missingForMatch(m: Match, f: Field): string | undefined {
  const ports =
    isIp(m) &&
    (proto(m) === IPPROTO_TCP ||
      proto(m) === IPPROTO_UDP ||
      proto(m) === IPPROTO_SCTP ||
      proto(m) === (ethType(m) === ETH_TYPE_IP ? IPPROTO_ICMP : IPPROTO_ICMPV6));
  switch (f.name) {
    case 'ip_src':
    case 'ip_dst':
    case 'arp_spa':
    case 'arp_tpa':
      return ethType(m) === ETH_TYPE_IP || isArp(m) ? undefined : 'ip, arp or rarp';
    case 'nw_proto':
    case 'arp_op':
      return isIp(m) || isArp(m) ? undefined : 'ip, ipv6, arp or rarp';
    case 'tcp_flags':
      return isIp(m) && proto(m) === IPPROTO_TCP ? undefined : 'tcp or tcp6';
    case 'arp_sha':
    case 'nd_sll':
      return isArp(m) || (isNd(m) && typeIs(m, ND_SOLICIT)) ? undefined : PREREQ_TEXT[f.prereq];
    case 'arp_tha':
    case 'nd_tll':
      return isArp(m) || (isNd(m) && typeIs(m, ND_ADVERT)) ? undefined : PREREQ_TEXT[f.prereq];
    case 'nd_target':
    case 'nd_reserved':
    case 'nd_options_type':
      return isNd(m) ? undefined : PREREQ_TEXT.nd;
  }
  switch (f.prereq) {
    case 'vlan':
      return undefined; // a match on it implies the tag
    case 'tcp':
    case 'udp':
    case 'sctp':
    case 'icmp4':
    case 'icmp6':
      if (ports) return undefined;
      return f.aliases.includes('tp_src') || f.aliases.includes('tp_dst')
        ? 'tcp, udp, sctp or icmp'
        : PREREQ_TEXT[f.prereq];
    default:
      return meets(m, f.prereq, false) ? undefined : PREREQ_TEXT[f.prereq];
  }
}
