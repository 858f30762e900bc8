/** The registry of fields that a flow can match on and an action can read or write: name, width,
 *  place in the flow key, mask and write rules, prerequisite. A row per field of ovs-fields(7); the
 *  names, widths and prerequisites are those of that manual and of OVS's field table.
 *
 *  Values are bigints and this code is for the control plane (parsing, translation), never for a
 *  packet loop: compile a field into its segments there. */
import { FLOW } from '../classifier/flow-key.js';

/** A run of bits of one word of the flow key; `shift` is the position of its least significant bit. */
export interface FieldSegment {
  word: number;
  shift: number;
  bits: number;
}

/** What a packet must be for a field to exist in it (ovs-fields(7), "Prerequisites"). */
export type Prereq =
  | 'none'
  | 'ethernet'
  | 'vlan'
  | 'mpls'
  | 'arp'
  | 'ipv4'
  | 'ipv6'
  | 'ip'
  | 'ct'
  | 'tcp'
  | 'udp'
  | 'sctp'
  | 'icmp4'
  | 'icmp6'
  | 'nd'
  | 'nd_solicit'
  | 'nd_advert'
  /** TCP, UDP or SCTP over IPv4 or IPv6, and not a later fragment: only mod_tp_src and mod_tp_dst. */
  | 'l4';

/** How values of a field are read and printed. */
export type FieldFormat =
  | 'decimal'
  | 'hex'
  | 'ethernet'
  | 'ipv4'
  | 'ipv6'
  | 'ct_state'
  | 'tcp_flags'
  | 'frag'
  | 'port'
  /** A port as OpenFlow 1.1 and later number it: 32 bits, reserved ones from 0xffffff00. */
  | 'port11';

/** One field of ovs-fields(7). */
export interface Field {
  /** The primary name in OVS's field table, e.g. `ip_src`. */
  name: string;
  /** Other names: the second name of the field table and the NXM/OXM names. */
  aliases: readonly string[];
  /** Width that a subfield may address, as OVS counts it (12 for vlan_vid, without the CFI bit). */
  bits: number;
  /** Bytes of a value as text and OpenFlow carry it; a number that needs more is refused. */
  bytes: number;
  /** Bits that a value may have: 0xfc for nw_tos, 0x1fff for vlan_vid. */
  valid: bigint;
  /** Most significant first. */
  segments: readonly FieldSegment[];
  maskable: boolean;
  writable: boolean;
  prereq: Prereq;
  format: FieldFormat;
}

/** A run of bits of a field, `ofs` counted from its least significant bit. */
export interface Subfield {
  field: Field;
  ofs: number;
  bits: number;
}

const TAG_PRESENT = 0x1000; // CFI bit of the TCI
const TPID_8021Q = 0x8100;
/** dl_vlan value that means "no tag" (OpenFlow 1.0). */
export const VLAN_NONE = 0xffff;

function whole(word: number, nWords: number): FieldSegment[] {
  return Array.from({ length: nWords }, (_, i) => ({ word: word + i, shift: 0, bits: 32 }));
}

/** An Ethernet address that starts at the most significant bit of `word`. */
function macAtTop(word: number): FieldSegment[] {
  return [
    { word, shift: 0, bits: 32 },
    { word: word + 1, shift: 16, bits: 16 },
  ];
}

/** An Ethernet address that starts in the middle of `word`. */
function macAtMiddle(word: number): FieldSegment[] {
  return [
    { word, shift: 0, bits: 16 },
    { word: word + 1, shift: 0, bits: 32 },
  ];
}

function part(word: number, shift: number, bits: number): FieldSegment[] {
  return [{ word, shift, bits }];
}

const fields: Field[] = [];

/** Adds a row. `names`: primary name, then aliases. `flags`: m maskable, w writable. */
function field(
  names: string,
  bits: number,
  segments: FieldSegment[],
  format: FieldFormat,
  prereq: Prereq,
  flags: '' | 'm' | 'w' | 'mw',
  odd: { bytes?: number; valid?: bigint } = {},
): void {
  const [name, ...aliases] = names.split(' ');
  fields.push(
    Object.freeze({
      name,
      aliases: Object.freeze(aliases),
      bits,
      bytes: odd.bytes ?? Math.ceil(bits / 8),
      valid: odd.valid ?? (1n << BigInt(bits)) - 1n,
      segments: Object.freeze(segments),
      maskable: flags.includes('m'),
      writable: flags.includes('w'),
      prereq,
      format,
    }),
  );
}

// Metadata and registers.
field('dp_hash NXM_NX_DP_HASH NXOXM_ET_DP_HASH', 32, whole(FLOW.DP_HASH, 1), 'hex', 'none', 'm');
field('recirc_id NXM_NX_RECIRC_ID', 32, whole(FLOW.RECIRC_ID, 1), 'decimal', 'none', '');
field('conj_id NXM_NX_CONJ_ID', 32, whole(FLOW.CONJ_ID, 1), 'decimal', 'none', '');
field('tun_id tunnel_id NXM_NX_TUN_ID OXM_OF_TUNNEL_ID', 64, whole(FLOW.TUN_ID_HI, 2), 'hex', 'none', 'mw');
field('tun_src NXM_NX_TUN_IPV4_SRC', 32, whole(FLOW.TUN_SRC, 1), 'ipv4', 'none', 'mw');
field('tun_dst NXM_NX_TUN_IPV4_DST', 32, whole(FLOW.TUN_DST, 1), 'ipv4', 'none', 'mw');
field('metadata OXM_OF_METADATA', 64, whole(FLOW.METADATA_HI, 2), 'hex', 'none', 'mw');
// OpenFlow 1.1's name of the input port has 32 bits; the lower 16 are those of in_port.
field(
  'in_port in_port_oxm NXM_OF_IN_PORT OXM_OF_IN_PORT',
  16,
  part(FLOW.IN_PORT, 0, 16),
  'port',
  'none',
  'w',
);
field(
  'actset_output ONFOXM_ET_ACTSET_OUTPUT OXM_OF_ACTSET_OUTPUT',
  32,
  whole(FLOW.ACTSET_OUTPUT, 1),
  'port11',
  'none',
  '',
);
field('pkt_mark NXM_NX_PKT_MARK', 32, whole(FLOW.PKT_MARK, 1), 'hex', 'none', 'mw');
for (let i = 0; i < 32; i++) {
  const wire = i < 16 ? 'NXM_NX_REG' : 'NXOXM_ET_REG';
  field(`reg${i} ${wire}${i}`, 32, whole(FLOW.REG0 + i, 1), 'hex', 'none', 'mw');
}
for (let i = 0; i < 16; i++) {
  field(`xreg${i} OXM_OF_PKT_REG${i}`, 64, whole(FLOW.REG0 + 2 * i, 2), 'hex', 'none', 'mw');
}
for (let i = 0; i < 8; i++) {
  const wire = i < 4 ? 'NXM_NX_XXREG' : 'NXOXM_ET_XXREG';
  field(`xxreg${i} ${wire}${i}`, 128, whole(FLOW.REG0 + 4 * i, 4), 'hex', 'none', 'mw');
}

// Connection tracking.
field('ct_state NXM_NX_CT_STATE', 32, whole(FLOW.CT_STATE, 1), 'ct_state', 'none', 'm', {
  valid: 0xffn,
});
field('ct_zone NXM_NX_CT_ZONE', 16, part(FLOW.CT_ZONE, 0, 16), 'hex', 'none', '');
field('ct_mark NXM_NX_CT_MARK', 32, whole(FLOW.CT_MARK, 1), 'hex', 'none', 'mw');
field('ct_label NXM_NX_CT_LABEL', 128, whole(FLOW.CT_LABEL_0, 4), 'hex', 'none', 'mw');
field('ct_nw_proto NXM_NX_CT_NW_PROTO', 8, part(FLOW.CT_NW_PROTO, 0, 8), 'decimal', 'ct', '');
field('ct_nw_src NXM_NX_CT_NW_SRC', 32, whole(FLOW.CT_NW_SRC, 1), 'ipv4', 'ct', 'm');
field('ct_nw_dst NXM_NX_CT_NW_DST', 32, whole(FLOW.CT_NW_DST, 1), 'ipv4', 'ct', 'm');
field('ct_ipv6_src NXM_NX_CT_IPV6_SRC', 128, whole(FLOW.CT_IPV6_SRC_0, 4), 'ipv6', 'ct', 'm');
field('ct_ipv6_dst NXM_NX_CT_IPV6_DST', 128, whole(FLOW.CT_IPV6_DST_0, 4), 'ipv6', 'ct', 'm');
field('ct_tp_src NXM_NX_CT_TP_SRC', 16, part(FLOW.CT_TP, 16, 16), 'decimal', 'ct', 'm');
field('ct_tp_dst NXM_NX_CT_TP_DST', 16, part(FLOW.CT_TP, 0, 16), 'decimal', 'ct', 'm');

// Ethernet and VLAN.
field(
  'eth_src dl_src NXM_OF_ETH_SRC OXM_OF_ETH_SRC',
  48,
  macAtMiddle(FLOW.ETH_DST_LO_SRC_HI),
  'ethernet',
  'ethernet',
  'mw',
);
field(
  'eth_dst dl_dst NXM_OF_ETH_DST OXM_OF_ETH_DST',
  48,
  macAtTop(FLOW.ETH_DST_HI),
  'ethernet',
  'ethernet',
  'mw',
);
field(
  'eth_type dl_type NXM_OF_ETH_TYPE OXM_OF_ETH_TYPE',
  16,
  part(FLOW.ETH_TYPE, 0, 16),
  'hex',
  'ethernet',
  '',
);
field('vlan_tci NXM_OF_VLAN_TCI', 16, part(FLOW.VLAN_0, 0, 16), 'hex', 'ethernet', 'mw');
field('dl_vlan', 12, part(FLOW.VLAN_0, 0, 12), 'decimal', 'ethernet', 'w');
field('vlan_vid OXM_OF_VLAN_VID', 12, part(FLOW.VLAN_0, 0, 13), 'decimal', 'ethernet', 'mw', {
  valid: 0x1fffn,
});
field('dl_vlan_pcp', 3, part(FLOW.VLAN_0, 13, 3), 'decimal', 'ethernet', 'w');
field('vlan_pcp OXM_OF_VLAN_PCP', 3, part(FLOW.VLAN_0, 13, 3), 'decimal', 'vlan', 'w');

// MPLS: the outermost label stack entry.
field('mpls_label OXM_OF_MPLS_LABEL', 20, part(FLOW.MPLS_0, 12, 20), 'decimal', 'mpls', 'w', { bytes: 4 });
field('mpls_tc OXM_OF_MPLS_TC', 3, part(FLOW.MPLS_0, 9, 3), 'decimal', 'mpls', 'w');
field('mpls_bos OXM_OF_MPLS_BOS', 1, part(FLOW.MPLS_0, 8, 1), 'decimal', 'mpls', '');
field('mpls_ttl NXM_NX_MPLS_TTL', 8, part(FLOW.MPLS_0, 0, 8), 'decimal', 'mpls', 'w');

// IPv4, IPv6.
field('ip_src nw_src NXM_OF_IP_SRC OXM_OF_IPV4_SRC', 32, whole(FLOW.NW_SRC, 1), 'ipv4', 'ipv4', 'mw');
field('ip_dst nw_dst NXM_OF_IP_DST OXM_OF_IPV4_DST', 32, whole(FLOW.NW_DST, 1), 'ipv4', 'ipv4', 'mw');
field('ipv6_src NXM_NX_IPV6_SRC OXM_OF_IPV6_SRC', 128, whole(FLOW.IPV6_SRC_0, 4), 'ipv6', 'ipv6', 'mw');
field('ipv6_dst NXM_NX_IPV6_DST OXM_OF_IPV6_DST', 128, whole(FLOW.IPV6_DST_0, 4), 'ipv6', 'ipv6', 'mw');
field(
  'ipv6_label NXM_NX_IPV6_LABEL OXM_OF_IPV6_FLABEL',
  20,
  part(FLOW.IPV6_LABEL, 0, 20),
  'hex',
  'ipv6',
  'mw',
  { bytes: 4 },
);
field('nw_proto ip_proto NXM_OF_IP_PROTO OXM_OF_IP_PROTO', 8, part(FLOW.NW, 0, 8), 'decimal', 'ip', '');
// The two ECN bits belong to nw_ecn, so nw_tos has none: its value is DSCP times 4.
field('nw_tos NXM_OF_IP_TOS', 8, part(FLOW.NW, 16, 8), 'decimal', 'ip', 'w', { valid: 0xfcn });
field('ip_dscp OXM_OF_IP_DSCP', 6, part(FLOW.NW, 18, 6), 'decimal', 'ip', 'w');
field('nw_ecn ip_ecn NXM_NX_IP_ECN OXM_OF_IP_ECN', 2, part(FLOW.NW, 16, 2), 'decimal', 'ip', 'w');
field('nw_ttl NXM_NX_IP_TTL', 8, part(FLOW.NW, 8, 8), 'decimal', 'ip', 'w');
field('ip_frag nw_frag NXM_NX_IP_FRAG', 2, part(FLOW.NW, 24, 2), 'frag', 'ip', 'm');

// ARP.
field('arp_op NXM_OF_ARP_OP OXM_OF_ARP_OP', 16, part(FLOW.NW, 0, 8), 'decimal', 'arp', 'w', {
  valid: 0xffn,
});
field('arp_spa NXM_OF_ARP_SPA OXM_OF_ARP_SPA', 32, whole(FLOW.NW_SRC, 1), 'ipv4', 'arp', 'mw');
field('arp_tpa NXM_OF_ARP_TPA OXM_OF_ARP_TPA', 32, whole(FLOW.NW_DST, 1), 'ipv4', 'arp', 'mw');
field('arp_sha NXM_NX_ARP_SHA OXM_OF_ARP_SHA', 48, macAtTop(FLOW.ARP_SHA_HI), 'ethernet', 'arp', 'mw');
field(
  'arp_tha NXM_NX_ARP_THA OXM_OF_ARP_THA',
  48,
  macAtMiddle(FLOW.ARP_SHA_LO_THA_HI),
  'ethernet',
  'arp',
  'mw',
);

// Transport.
field('tcp_src tp_src NXM_OF_TCP_SRC OXM_OF_TCP_SRC', 16, part(FLOW.TP, 16, 16), 'decimal', 'tcp', 'mw');
field('tcp_dst tp_dst NXM_OF_TCP_DST OXM_OF_TCP_DST', 16, part(FLOW.TP, 0, 16), 'decimal', 'tcp', 'mw');
field(
  'tcp_flags NXM_NX_TCP_FLAGS ONFOXM_ET_TCP_FLAGS OXM_OF_TCP_FLAGS',
  12,
  part(FLOW.TCP_FLAGS, 0, 12),
  'tcp_flags',
  'tcp',
  'm',
);
field('udp_src NXM_OF_UDP_SRC OXM_OF_UDP_SRC', 16, part(FLOW.TP, 16, 16), 'decimal', 'udp', 'mw');
field('udp_dst NXM_OF_UDP_DST OXM_OF_UDP_DST', 16, part(FLOW.TP, 0, 16), 'decimal', 'udp', 'mw');
field('sctp_src OXM_OF_SCTP_SRC', 16, part(FLOW.TP, 16, 16), 'decimal', 'sctp', 'mw');
field('sctp_dst OXM_OF_SCTP_DST', 16, part(FLOW.TP, 0, 16), 'decimal', 'sctp', 'mw');
field('icmp_type NXM_OF_ICMP_TYPE OXM_OF_ICMPV4_TYPE', 8, part(FLOW.TP, 16, 8), 'decimal', 'icmp4', 'w');
field('icmp_code NXM_OF_ICMP_CODE OXM_OF_ICMPV4_CODE', 8, part(FLOW.TP, 0, 8), 'decimal', 'icmp4', 'w');
field('icmpv6_type NXM_NX_ICMPV6_TYPE OXM_OF_ICMPV6_TYPE', 8, part(FLOW.TP, 16, 8), 'decimal', 'icmp6', 'w');
field('icmpv6_code NXM_NX_ICMPV6_CODE OXM_OF_ICMPV6_CODE', 8, part(FLOW.TP, 0, 8), 'decimal', 'icmp6', 'w');

// Neighbour discovery: the link-layer addresses share the words of arp_sha and arp_tha.
field(
  'nd_target NXM_NX_ND_TARGET OXM_OF_IPV6_ND_TARGET',
  128,
  whole(FLOW.ND_TARGET_0, 4),
  'ipv6',
  'nd',
  'mw',
);
field(
  'nd_sll NXM_NX_ND_SLL OXM_OF_IPV6_ND_SLL',
  48,
  macAtTop(FLOW.ARP_SHA_HI),
  'ethernet',
  'nd_solicit',
  'mw',
);
field(
  'nd_tll NXM_NX_ND_TLL OXM_OF_IPV6_ND_TLL',
  48,
  macAtMiddle(FLOW.ARP_SHA_LO_THA_HI),
  'ethernet',
  'nd_advert',
  'mw',
);

field('nd_reserved ERICOXM_OF_ICMPV6_ND_RESERVED', 32, whole(FLOW.ND_RESERVED, 1), 'decimal', 'nd', 'w');
// Where TCP keeps its flags.
field(
  'nd_options_type ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE',
  8,
  part(FLOW.TCP_FLAGS, 0, 8),
  'decimal',
  'nd',
  'w',
);

/** What mod_tp_src writes: the port of whichever transport protocol the packet has. A name in a flow
 *  never means this field (there, tp_src is tcp_src). */
export const MOD_TP_SRC: Field = l4Port('tp_src', 16);
/** What mod_tp_dst writes. */
export const MOD_TP_DST: Field = l4Port('tp_dst', 0);

function l4Port(name: string, shift: number): Field {
  return Object.freeze({
    name,
    aliases: [],
    bits: 16,
    bytes: 2,
    valid: 0xffffn,
    segments: part(FLOW.TP, shift, 16),
    maskable: true,
    writable: true,
    prereq: 'l4',
    format: 'decimal',
  });
}

/** Every field, in the order of ovs-fields(7). */
export const FIELDS: readonly Field[] = Object.freeze(fields);

const byName = new Map<string, Field>();
for (const f of fields) {
  for (const name of [f.name, ...f.aliases]) byName.set(name, f);
}

/** The field of a name, an alias, or an NXM_/OXM_ name. As in OVS, case matters, and an NXM/OXM
 *  name may end in `_W`. */
export function fieldByName(name: string): Field | undefined {
  const found = byName.get(name);
  if (found !== undefined || !name.endsWith('_W')) return found;
  const unwild = byName.get(name.slice(0, -2));
  return unwild !== undefined && isWireName(name) ? unwild : undefined;
}

/** True for names of the kind NXM_OF_IP_SRC, which OVS takes only where it expects a subfield. */
export function isWireName(name: string): boolean {
  return /^(NXM|OXM|NXOXM|ONFOXM|ERICOXM)_/.test(name);
}

/** The name of a field on the wire, as ovs-ofctl prints it; undefined for dl_vlan and dl_vlan_pcp,
 *  which OpenFlow has no code for. */
export function wireName(f: Field): string | undefined {
  return f.aliases.find(isWireName);
}

/** True for fields whose code is 64 bits wide: learn, multipath and bundle_load don't take those. */
export function isExperimenter(f: Field): boolean {
  return /^(NXOXM|ONFOXM)_/.test(wireName(f) ?? '');
}

const BY_VLAN_WORD = new Set(['vlan_tci', 'dl_vlan', 'vlan_vid', 'dl_vlan_pcp', 'vlan_pcp']);

/** Value of the field in `flow` (or in a mask), 0 for bits that it does not have. */
export function getField(flow: Int32Array, f: Field): bigint {
  let value = 0n;
  for (const s of f.segments) {
    const bits = s.bits === 32 ? flow[s.word] >>> 0 : (flow[s.word] >>> s.shift) & ((1 << s.bits) - 1);
    value = (value << BigInt(s.bits)) | BigInt(bits);
  }
  return value & f.valid;
}

/** Puts `value` into the field's bits and leaves its neighbours alone; no side effect on the tag. */
export function putFieldBits(flow: Int32Array, f: Field, value: bigint): void {
  let rest = value & f.valid;
  let valid = f.valid;
  for (let i = f.segments.length - 1; i >= 0; i--) {
    const { word, shift, bits } = f.segments[i];
    const ones = Number(valid & ((1n << BigInt(bits)) - 1n));
    const low = Number(rest & BigInt(ones));
    flow[word] = (flow[word] & ~(ones << shift)) | (low << shift);
    rest >>= BigInt(bits);
    valid >>= BigInt(bits);
  }
}

/** Writes the field as an action does. A write of dl_vlan or a PCP makes the packet tagged, dl_vlan
 *  0xffff untagged; a tag that appears this way gets TPID 0x8100 (ovs-fields(7), "VLAN Fields"). */
export function setField(flow: Int32Array, f: Field, value: bigint): void {
  if (f.name === 'dl_vlan' && value === BigInt(VLAN_NONE)) {
    flow[FLOW.VLAN_0] &= ~0xffff;
    return;
  }
  putFieldBits(flow, f, value);
  if (!BY_VLAN_WORD.has(f.name)) return;
  if (f.name !== 'vlan_tci' && f.name !== 'vlan_vid') flow[FLOW.VLAN_0] |= TAG_PRESENT;
  const word = flow[FLOW.VLAN_0];
  if (word >>> 16 === 0 && (word & 0xffff) !== 0) flow[FLOW.VLAN_0] = (TPID_8021Q << 16) | word;
}

/** Value of a run of bits of a field. */
export function getSubfield(flow: Int32Array, s: Subfield): bigint {
  return (getField(flow, s.field) >> BigInt(s.ofs)) & ((1n << BigInt(s.bits)) - 1n);
}

/** Writes a run of bits of a field, with setField's effect on the VLAN tag. */
export function setSubfield(flow: Int32Array, s: Subfield, value: bigint): void {
  const ones = ((1n << BigInt(s.bits)) - 1n) << BigInt(s.ofs);
  const old = getField(flow, s.field);
  setField(flow, s.field, (old & ~ones) | ((value << BigInt(s.ofs)) & ones));
}
