/** Text of flows in the style of `ovs-ofctl dump-flows`; `parser.ts` reads it back as the same match
 *  and actions. For dumps, messages and tests. */
import { FLOW, OFPP_MAX } from '../classifier/flow-key.js';
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
import { type Field, fieldByName, getField, type Subfield, wireName } from './fields.js';
import {
  type Action,
  ALL_TABLES,
  CONTROLLER_REASONS,
  DEFAULT_PRIORITY,
  type FlowMod,
  type FlowRule,
  type LearnSpec,
  MAX_LEN_ALL,
  type Match,
  type NatSpec,
  REASON_ACTION,
} from './types.js';
import { fieldValueText, ipv4Text, ipv6Text, ones, portText } from './values.js';

/** "NXM_NX_REG0[0..15]", as ovs-ofctl names a run of bits. */
export function formatSubfield(s: Subfield): string {
  const name = wireName(s.field) ?? s.field.name;
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
    if (a.field.name === 'tun_id') {
      return `set_tunnel${a.value > 0xffffffffn ? '64' : ''}:0x${a.value.toString(16)}`;
    }
    if (a.field.name.startsWith('mpls_')) return `set_${a.field.name}(${a.value})`;
    return `${MOD_NAMES[a.field.name]}:${fieldValueText(a.field, a.value, a.field.valid)}`;
  }
  if (a.via === 'load') {
    let ofs = 0;
    while (((a.mask >> BigInt(ofs)) & 1n) === 0n) ofs++;
    const bits = (a.mask >> BigInt(ofs)).toString(2).length;
    const value = (a.value >> BigInt(ofs)).toString(16);
    return `load:0x${value}->${formatSubfield({ field: a.field, ofs, bits })}`;
  }
  // Masked decimal numbers are hexadecimal in a match, but not here.
  const text =
    a.field.format === 'decimal' && a.mask !== a.field.valid
      ? `${a.value}/0x${a.mask.toString(16)}`
      : fieldValueText(a.field, a.value, a.mask);
  return `set_field:${text}->${a.field.name}`;
}

function formatCt(a: Action & { kind: 'ct' }): string {
  const args: string[] = [];
  if (a.commit) args.push('commit');
  if (a.force) args.push('force');
  if (a.table !== null) args.push(`table=${a.table}`);
  if (typeof a.zone !== 'number') args.push(`zone=${formatSubfield(a.zone)}`);
  else if (a.zone !== 0) args.push(`zone=${a.zone}`);
  if (a.nat !== undefined) args.push(formatNat(a.nat));
  if (a.exec.length > 0) args.push(`exec(${a.exec.map(formatAction).join(',')})`);
  if (a.alg !== undefined) args.push(`alg=${a.alg}`);
  return `ct(${args.join(',')})`;
}

/** "nat(src=10.0.0.1-10.0.0.5:1024-2048,random)", "nat(dst)" or "nat". */
function formatNat(nat: NatSpec): string {
  if (nat.type === null) return 'nat';
  let range = '';
  if (nat.addrMin !== null || nat.portMin !== 0) {
    const address = (value: bigint): string => {
      if (!nat.ipv6) return ipv4Text(value);
      return nat.portMin === 0 ? ipv6Text(value) : `[${ipv6Text(value)}]`;
    };
    range = `=${address(nat.addrMin ?? 0n)}`;
    if (nat.addrMax !== nat.addrMin) range += `-${address(nat.addrMax ?? 0n)}`;
    if (nat.portMin !== 0) range += `:${nat.portMin}`;
    if (nat.portMax !== nat.portMin) range += `-${nat.portMax}`;
  }
  const flags = (['persistent', 'hash', 'random'] as const).filter((name) => nat[name]);
  return `nat(${[nat.type + range, ...flags].join(',')})`;
}

function formatController(a: Action & { kind: 'controller' }): string {
  const plain = a.reason === REASON_ACTION && a.id === 0 && a.userdata.length === 0 && !a.pause;
  if (plain && a.meter === 0) return `CONTROLLER:${a.maxLen}`;
  const args: string[] = [];
  if (a.reason !== REASON_ACTION) args.push(`reason=${CONTROLLER_REASONS[a.reason]}`);
  if (a.maxLen !== MAX_LEN_ALL) args.push(`max_len=${a.maxLen}`);
  if (a.id !== 0) args.push(`id=${a.id}`);
  if (a.userdata.length > 0) args.push(`userdata=${hexText(a.userdata)}`);
  if (a.pause) args.push('pause');
  if (a.meter !== 0) args.push(`meter_id=${a.meter}`);
  return `controller(${args.join(',')})`;
}

/** "00.1f.20". */
function hexText(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('.');
}

function formatLearnSpec(spec: LearnSpec): string {
  if (spec.kind === 'output') return `output:${formatSubfield(spec.src)}`;
  const dst = formatSubfield(spec.dst);
  if ('field' in spec.src) {
    const { src } = spec;
    if (spec.kind === 'load') return `load:${formatSubfield(src)}->${dst}`;
    return src.field === spec.dst.field && src.ofs === spec.dst.ofs ? dst : `${dst}=${formatSubfield(src)}`;
  }
  const { value } = spec.src;
  if (spec.kind === 'load') return `load:0x${value.toString(16)}->${dst}`;
  const { field } = spec.dst;
  if (spec.dst.bits < field.bits) return `${dst}=0x${value.toString(16)}`;
  return `${field.name}=${fieldValueText(field, value, field.valid)}`;
}

function formatLearn(a: Action & { kind: 'learn' }): string {
  const args = [`table=${a.table}`];
  if (a.idleTimeout !== 0) args.push(`idle_timeout=${a.idleTimeout}`);
  if (a.hardTimeout !== 0) args.push(`hard_timeout=${a.hardTimeout}`);
  if (a.finIdleTimeout !== 0) args.push(`fin_idle_timeout=${a.finIdleTimeout}`);
  if (a.finHardTimeout !== 0) args.push(`fin_hard_timeout=${a.finHardTimeout}`);
  if (a.priority !== DEFAULT_PRIORITY) args.push(`priority=${a.priority}`);
  if (a.sendFlowRem) args.push('send_flow_rem');
  if (a.deleteLearned) args.push('delete_learned');
  if (a.cookie !== 0n) args.push(`cookie=0x${a.cookie.toString(16)}`);
  if (a.limit !== 0) args.push(`limit=${a.limit}`);
  if (a.resultDst !== null) args.push(`result_dst=${formatSubfield(a.resultDst)}`);
  return `learn(${[...args, ...a.specs.map(formatLearnSpec)].join(',')})`;
}

function formatBundle(a: Action & { kind: 'bundle' }): string {
  const name = a.dst === undefined ? 'bundle' : 'bundle_load';
  const args = [a.fields, a.basis, a.algorithm, 'ofport'];
  if (a.dst !== undefined) args.push(formatSubfield(a.dst));
  return `${name}(${args.join(',')},members:${a.ports.map(portText).join(',')})`;
}

/** A list of actions; an empty one is "drop". */
export function formatActions(actions: readonly Action[]): string {
  return actions.map(formatAction).join(',') || 'drop';
}

/** One action, e.g. "ct(commit,table=1,zone=5)". */
export function formatAction(a: Action): string {
  switch (a.kind) {
    case 'output':
      if (a.maxLen !== undefined) return `output(port=${portText(a.port)},max_len=${a.maxLen})`;
      return a.port < OFPP_MAX ? `output:${a.port}` : portText(a.port);
    case 'output_reg':
      return `output:${formatSubfield(a.src)}`;
    case 'in_port':
    case 'normal':
    case 'flood':
    case 'all':
      return a.kind.toUpperCase();
    case 'resubmit': {
      const port = a.port === null ? '' : portText(a.port);
      if (a.table === null) return a.ct ? `resubmit(${port},,ct)` : `resubmit:${port}`;
      return `resubmit(${port},${a.table}${a.ct ? ',ct' : ''})`;
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
    case 'dec_ttl':
      return a.controllers === undefined ? a.kind : `dec_ttl(${a.controllers.join(',')})`;
    case 'enqueue':
      return `enqueue:${portText(a.port)}:${a.queue}`;
    case 'controller':
      return formatController(a);
    case 'group':
      return `group:${a.group}`;
    case 'clone':
    case 'write_actions':
      return `${a.kind}(${formatActions(a.actions)})`;
    case 'write_metadata': {
      const mask = a.mask === ones(64) ? '' : `/0x${a.mask.toString(16)}`;
      return `write_metadata:0x${a.value.toString(16)}${mask}`;
    }
    case 'meter':
      return `meter:${a.meter}`;
    case 'push':
      return `push:${formatSubfield(a.src)}`;
    case 'pop':
      return `pop:${formatSubfield(a.dst)}`;
    case 'push_mpls':
    case 'pop_mpls':
      return `${a.kind}:0x${a.ethertype.toString(16).padStart(4, '0')}`;
    case 'learn':
      return formatLearn(a);
    case 'fin_timeout': {
      const args = a.idleTimeout === 0 ? [] : [`idle_timeout=${a.idleTimeout}`];
      if (a.hardTimeout !== 0) args.push(`hard_timeout=${a.hardTimeout}`);
      return `fin_timeout(${args.join(',')})`;
    }
    case 'note':
      return `note:${hexText(a.bytes)}`;
    case 'multipath': {
      const args = [a.fields, a.basis, a.algorithm, a.links, a.arg, formatSubfield(a.dst)];
      return `multipath(${args.join(',')})`;
    }
    case 'bundle':
      return formatBundle(a);
    case 'check_pkt_larger':
      return `check_pkt_larger(${a.size})->${formatSubfield(a.dst)}`;
    case 'conjunction':
      return `conjunction(${a.id},${a.clause + 1}/${a.nClauses})`;
    case 'set_queue':
      return `set_queue:${a.queue}`;
    case 'drop':
    case 'ct_clear':
    case 'pop_vlan':
    case 'dec_mpls_ttl':
    case 'clear_actions':
    case 'pop_queue':
    case 'exit':
      return a.kind;
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
  [ETH_TYPE_MPLS]: 'mpls',
  [ETH_TYPE_MPLS_MCAST]: 'mplsm',
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

const padded = (value: bigint, digits: number): string => '0x' + value.toString(16).padStart(digits, '0');

/** Fields that ovs-ofctl prints in a match otherwise than in actions. */
const ODD_NUMBERS: Readonly<Record<string, (value: bigint, mask: bigint) => string>> = {
  ct_zone: (value) => value.toString(),
  recirc_id: (value) => (value === 0n ? '0' : padded(value, 1)),
  eth_type: (value) => padded(value, 4),
  ipv6_label: (value, mask) => padded(value, 5) + (mask === ones(20) ? '' : `/${padded(mask, 5)}`),
};

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
    else parts.push(`${printed}=${ODD_NUMBERS[name]?.(value, mask) ?? fieldValueText(f, value, mask)}`);
  };
  for (const name of ['pkt_mark', 'recirc_id', 'dp_hash', 'conj_id', 'actset_output']) put(name);
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
  for (let i = 0; i < 32; i++) put(`reg${i}`);
  for (const name of ['tun_id', 'tun_src', 'tun_dst', 'metadata']) put(name);
  put('in_port');
  parts.push(...vlanParts(m));
  put('eth_src', 'dl_src');
  put('eth_dst', 'dl_dst');
  if (hasType && short === undefined) put('eth_type', 'dl_type');

  const isIcmp6 = shortProto === 'icmp6';
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
  for (const name of ['mpls_label', 'mpls_tc', 'mpls_ttl', 'mpls_bos']) put(name);
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
    put('nd_reserved');
  }
  put(isIcmp6 ? 'nd_options_type' : 'tcp_flags');
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
  if (r.importance !== undefined && r.importance !== 0) text += `importance=${r.importance}, `;
  for (const flag of r.flags ?? []) text += `${flag}, `;
  const match = formatMatch(r.match);
  text += `priority=${r.priority}${match === '' ? '' : ','}${match}`;
  return `${text} actions=${formatActions(r.actions)}`;
}

/** A flow-mod as a line of a file: its command (none for add) and what goes with it. */
export function formatFlowMod(mod: FlowMod): string {
  const { command, rule } = mod;
  if (command === 'add') return formatRule(rule);
  const deletes = command === 'delete' || command === 'delete_strict';
  const hex = (value: bigint): string => `0x${value.toString(16)}`;
  const parts: string[] = [];
  if (mod.cookieMask !== 0n) parts.push(`cookie=${hex(rule.cookie)}/${hex(mod.cookieMask)}`);
  if (rule.table !== ALL_TABLES) parts.push(`table=${rule.table}`);
  if (mod.outPort !== null) parts.push(`out_port=${portText(mod.outPort)}`);
  if (mod.outGroup !== null) parts.push(`out_group=${mod.outGroup}`);
  if (rule.idleTimeout !== 0) parts.push(`idle_timeout=${rule.idleTimeout}`);
  if (rule.hardTimeout !== 0) parts.push(`hard_timeout=${rule.hardTimeout}`);
  parts.push(...(rule.flags ?? []));
  const match = formatMatch(rule.match);
  if (command !== 'delete') parts.push(`priority=${rule.priority}${match === '' ? '' : ','}${match}`);
  else if (match !== '') parts.push(match);
  const text = [command, parts.join(', ')].join(' ').trimEnd();
  return deletes ? text : `${text} actions=${formatActions(rule.actions)}`;
}
