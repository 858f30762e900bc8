/** Text of flows in the style of `ovs-ofctl dump-flows`; `parser.ts` reads it back as the same match
 *  and actions. For dumps, messages and tests. */
import { FLOW } from '../classifier/flow-key.js';
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
} from '../wire/extract.js';
import { type Field, fieldByName, getField, isWireName, type Subfield } from './fields.js';
import type { Action, FlowRule, Match } from './types.js';
import { fieldValueText, ones, portText } from './values.js';

/** "NXM_NX_REG0[0..15]", as ovs-ofctl names a run of bits. */
export function formatSubfield(s: Subfield): string {
  const name = s.field.aliases.find(isWireName) ?? s.field.name;
  if (s.ofs === 0 && s.bits === s.field.bits) return `${name}[]`;
  return s.bits === 1 ? `${name}[${s.ofs}]` : `${name}[${s.ofs}..${s.ofs + s.bits - 1}]`;
}

const MOD_NAMES: Readonly<Record<string, string>> = {
  eth_src: 'mod_dl_src',
  eth_dst: 'mod_dl_dst',
  ip_src: 'mod_nw_src',
  ip_dst: 'mod_nw_dst',
  nw_tos: 'mod_nw_tos',
  nw_ecn: 'mod_nw_ecn',
  nw_ttl: 'mod_nw_ttl',
  tp_src: 'mod_tp_src',
  tp_dst: 'mod_tp_dst',
};

function formatSet(a: Action & { kind: 'set' }): string {
  if (a.via === 'mod') {
    return `${MOD_NAMES[a.field.name]}:${fieldValueText(a.field, a.value, a.field.valid)}`;
  }
  if (a.via === 'load') {
    let ofs = 0;
    while (((a.mask >> BigInt(ofs)) & 1n) === 0n) ofs++;
    const bits = (a.mask >> BigInt(ofs)).toString(2).length;
    const value = (a.value >> BigInt(ofs)).toString(16);
    return `load:0x${value}->${formatSubfield({ field: a.field, ofs, bits })}`;
  }
  return `set_field:${fieldValueText(a.field, a.value, a.mask)}->${a.field.name}`;
}

function formatCt(a: Action & { kind: 'ct' }): string {
  const args: string[] = [];
  if (a.commit) args.push('commit');
  if (a.force) args.push('force');
  if (a.table !== null) args.push(`table=${a.table}`);
  if (typeof a.zone !== 'number') args.push(`zone=${formatSubfield(a.zone)}`);
  else if (a.zone !== 0) args.push(`zone=${a.zone}`);
  if (a.exec.length > 0) args.push(`exec(${a.exec.map(formatAction).join(',')})`);
  return `ct(${args.join(',')})`;
}

/** One action, e.g. "ct(commit,table=1,zone=5)". */
export function formatAction(a: Action): string {
  switch (a.kind) {
    case 'output':
      return a.port < 0xff00 ? `output:${a.port}` : portText(a.port);
    case 'output_reg':
      return `output:${formatSubfield(a.src)}`;
    case 'in_port':
    case 'normal':
    case 'flood':
    case 'all':
      return a.kind.toUpperCase();
    case 'resubmit': {
      const port = a.port === null ? '' : portText(a.port);
      return a.table === null ? `resubmit:${port}` : `resubmit(${port},${a.table})`;
    }
    case 'goto_table':
      return `goto_table:${a.table}`;
    case 'ct':
      return formatCt(a);
    case 'set':
      return formatSet(a);
    case 'move':
      return `move:${formatSubfield(a.src)}->${formatSubfield(a.dst)}`;
    case 'push_vlan':
      return `push_vlan:0x${a.tpid.toString(16)}`;
    case 'set_vlan_vid':
      return `mod_vlan_vid:${a.vid}`;
    case 'set_vlan_pcp':
      return `mod_vlan_pcp:${a.pcp}`;
    case 'drop':
    case 'ct_clear':
    case 'pop_vlan':
    case 'dec_ttl':
      return a.kind;
    default:
      throw new Error(`format: ${a.kind}`);
  }
}

const SHORT_PROTO: Readonly<Record<number, Readonly<Record<number, string>>>> = {
  [ETH_TYPE_IP]: {
    [IPPROTO_ICMP]: 'icmp',
    [IPPROTO_TCP]: 'tcp',
    [IPPROTO_UDP]: 'udp',
    [IPPROTO_SCTP]: 'sctp',
  },
  [ETH_TYPE_IPV6]: {
    [IPPROTO_ICMPV6]: 'icmp6',
    [IPPROTO_TCP]: 'tcp6',
    [IPPROTO_UDP]: 'udp6',
    [IPPROTO_SCTP]: 'sctp6',
  },
};
const SHORT_TYPE: Readonly<Record<number, string>> = {
  [ETH_TYPE_IP]: 'ip',
  [ETH_TYPE_IPV6]: 'ipv6',
  [ETH_TYPE_ARP]: 'arp',
  [ETH_TYPE_RARP]: 'rarp',
};

function vlanParts(m: Match): string[] {
  const value = m.value[FLOW.VLAN_0] & 0xffff;
  const mask = m.mask[FLOW.VLAN_0] & 0xffff;
  const vid = mask & 0x0fff;
  const pcp = mask & 0xe000;
  const whole = (vid === 0 || vid === 0x0fff) && (pcp === 0 || pcp === 0xe000);
  if (mask === 0) return [];
  if (mask & value & 0x1000 && whole && vid + pcp !== 0) {
    const parts = vid === 0 ? [] : [`dl_vlan=${value & 0x0fff}`];
    return pcp === 0 ? parts : [...parts, `dl_vlan_pcp=${value >>> 13}`];
  }
  const hex = (n: number): string => '0x' + n.toString(16).padStart(4, '0');
  return [mask === 0xffff ? `vlan_tci=${hex(value)}` : `vlan_tci=${hex(value)}/${hex(mask)}`];
}

/** The names of the port fields in this match, as ovs-ofctl prints them. */
function portNames(ethType: number, proto: number): [string, string] {
  const icmp =
    (ethType === ETH_TYPE_IP && proto === IPPROTO_ICMP) ||
    (ethType === ETH_TYPE_IPV6 && proto === IPPROTO_ICMPV6);
  return icmp ? ['icmp_type', 'icmp_code'] : ['tp_src', 'tp_dst'];
}

/** The match without its priority, e.g. "tcp,in_port=1,tp_dst=80"; empty for every packet. */
export function formatMatch(m: Match): string {
  const parts: string[] = [];
  const put = (name: string, printed = name): void => {
    const f = fieldByName(name) as Field;
    const mask = getField(m.mask, f);
    if (mask === 0n) return;
    const value = getField(m.value, f);
    const fragOdd = f.format === 'frag' && fieldValueText(f, value, mask) === '*';
    if (!f.maskable && mask !== f.valid) parts.push(...bitParts(f, value, mask));
    else if (fragOdd) parts.push(...bitParts(f, value, mask));
    else parts.push(`${printed}=${fieldValueText(f, value, mask)}`);
  };
  for (const name of ['ct_state', 'ct_zone', 'ct_mark', 'ct_label']) put(name);
  for (const name of ['ct_nw_src', 'ct_ipv6_src', 'ct_nw_dst', 'ct_ipv6_dst']) put(name);
  for (const name of ['ct_nw_proto', 'ct_tp_src', 'ct_tp_dst']) put(name);

  const hasType = (m.mask[FLOW.ETH_TYPE] & 0xffff) !== 0;
  const ethType = m.value[FLOW.ETH_TYPE];
  const hasProto = (m.mask[FLOW.NW] & 0xff) !== 0;
  const proto = m.value[FLOW.NW] & 0xff;
  const shortProto = hasType && hasProto ? SHORT_PROTO[ethType]?.[proto] : undefined;
  const short = shortProto ?? (hasType ? SHORT_TYPE[ethType] : undefined);
  if (short !== undefined) parts.push(short);
  for (let i = 0; i < 16; i++) put(`reg${i}`);
  put('metadata');
  put('in_port');
  parts.push(...vlanParts(m));
  put('eth_src', 'dl_src');
  put('eth_dst', 'dl_dst');
  if (hasType && short === undefined) put('eth_type', 'dl_type');

  const isArp = ethType === ETH_TYPE_ARP || ethType === ETH_TYPE_RARP;
  for (const name of ['ipv6_src', 'ipv6_dst', 'ipv6_label']) put(name);
  put('ip_src', isArp ? 'arp_spa' : 'nw_src');
  put('ip_dst', isArp ? 'arp_tpa' : 'nw_dst');
  if (shortProto === undefined) put('nw_proto', isArp ? 'arp_op' : 'nw_proto');
  if (isArp) {
    put('arp_sha');
    put('arp_tha');
  }
  put('nw_tos');
  put('nw_ecn');
  put('nw_ttl');
  put('ip_frag', 'nw_frag');
  const [src, dst] = portNames(ethType, proto);
  // ICMP types and codes take no mask, so a masked or wide one keeps its port name.
  const plain = (name: string): boolean => {
    const f = fieldByName(name)!;
    return getField(m.mask, f) === f.valid && getField(m.value, f) <= 0xffn;
  };
  put('tcp_src', plain('tcp_src') ? src : 'tp_src');
  put('tcp_dst', plain('tcp_dst') ? dst : 'tp_dst');
  if (!isArp) {
    put('nd_target');
    put('nd_sll');
    put('nd_tll');
  }
  put('tcp_flags');
  return parts.join(',');
}

/** One "NAME[BIT]=VALUE" for each bit that is compared. */
function bitParts(f: Field, value: bigint, mask: bigint): string[] {
  const parts: string[] = [];
  for (let bit = 0; bit < f.bits; bit++) {
    if ((mask >> BigInt(bit)) & 1n) parts.push(`${f.name}[${bit}]=${(value >> BigInt(bit)) & 1n}`);
  }
  return parts;
}

/** A whole flow, e.g. "table=0, priority=100,ip,in_port=1 actions=ct(table=1)". */
export function formatRule(r: FlowRule): string {
  let text = r.cookie === 0n ? '' : `cookie=0x${(r.cookie & ones(64)).toString(16)}, `;
  text += `table=${r.table}, `;
  if (r.idleTimeout !== 0) text += `idle_timeout=${r.idleTimeout}, `;
  if (r.hardTimeout !== 0) text += `hard_timeout=${r.hardTimeout}, `;
  const match = formatMatch(r.match);
  text += `priority=${r.priority}${match === '' ? '' : ','}${match}`;
  return `${text} actions=${r.actions.map(formatAction).join(',')}`;
}
