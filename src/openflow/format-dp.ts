/** Text of what the datapath has, in the manner of `ovs-appctl dpctl/dump-flows`: megaflows and action
 *  programs. For --dpflows and `shardtrack trace`. ovs-dpctl(8), "Datapath flow table debugging
 *  commands"; the order of the parts is that of Open vSwitch's userspace datapath. */
import { CT_STATE_NAMES, FLOW, FRAG_ANY, FRAG_LATER, KEY_WORDS, OFPP_LOCAL } from '../classifier/flow-key.js';
import {
  ALG_FTP,
  ALG_TFTP,
  CT_ARG_ALG,
  CT_ARG_NAT,
  CT_ARG_NAT_MAX,
  CT_ARG_NAT_MIN,
  CT_ARG_NAT_PORTS,
  CT_COMMIT,
  CT_FORCE,
  CT_SET_LABEL,
  CT_SET_MARK,
  NAT_ADDRESS,
  NAT_DST,
  NAT_HASH,
  NAT_IPV6,
  NAT_ON,
  NAT_PERSISTENT,
  NAT_RANDOM,
  NAT_SRC,
  OP_CHECK_LEN,
  OP_CLONE,
  OP_CONTROLLER,
  OP_CT,
  OP_CT_CLEAR,
  OP_DP_HASH,
  OP_END,
  OP_FIN_TIMEOUT,
  OP_HASH_FIELDS,
  OP_HASH_HEADERS,
  OP_LEARN,
  OP_METER,
  OP_NORMAL,
  OP_OUTPUT,
  OP_POP_MPLS,
  OP_POP_VLAN,
  OP_PUSH_MPLS,
  OP_PUSH_VLAN,
  OP_RECIRC,
  OP_SELECT_BEST,
  OP_SELECT_MAP,
  OP_SET,
  OP_STAT,
  OP_TRUNC,
  opWords,
} from '../datapath/program.js';
import { formatIpv4, formatIpv6 } from '../wire/address.js';
import {
  ETH_TYPE_ARP,
  ETH_TYPE_IP,
  ETH_TYPE_IPV6,
  ETH_TYPE_NONE,
  ETH_TYPE_RARP,
  ETH_TYPE_VLAN,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  isMpls,
} from '../wire/extract.js';
import { HASH_5TUPLE } from '../wire/hash.js';
import { TCP_FLAG_NAMES } from './values.js';

const VLAN_CFI = 0x1000;
const ND_SOLICIT = 135;
const ND_ADVERT = 136;

/** "%#x" of C: zero has no prefix. */
const hex = (n: number): string => (n === 0 ? '0' : `0x${(n >>> 0).toString(16)}`);
const hex4 = (n: number): string => `0x${n.toString(16).padStart(4, '0')}`;

/** "name=" and a number of so many bits, with its mask if it isn't all ones; "" if nothing counts. */
function number(name: string, value: number, mask: number, bits: number, base: 10 | 16 = 10): string {
  if (mask === 0) return '';
  const ones = bits === 32 ? -1 : (1 << bits) - 1;
  const label = name === '' ? '' : `${name}=`;
  if (mask === ones) return label + (base === 10 ? `${value >>> 0}` : hex(value));
  return `${label}${hex(value)}/${hex(mask)}`;
}

function flags(names: readonly string[], value: number, mask: number): string {
  return names
    .map((name, bit) => ((mask >>> bit) & 1 ? ((value >>> bit) & 1 ? '+' : '-') + name : ''))
    .join('');
}

function ipv4(name: string, value: number, mask: number): string {
  if (mask === 0) return '';
  const prefix = Math.clz32(~mask);
  const isPrefix = mask === -1 || mask << prefix === 0;
  const end = mask === -1 ? '' : isPrefix ? `/${prefix}` : `/${formatIpv4(mask)}`;
  return `${name}=${formatIpv4(value)}${end}`;
}

function ipv6(name: string, value: Int32Array, mask: Int32Array, at: number): string {
  const words = mask.subarray(at, at + 4);
  if (words.every((w) => w === 0)) return '';
  let prefix = 0;
  for (const w of words) {
    prefix += Math.clz32(~w);
    if (w !== -1) break;
  }
  const isPrefix = words.every((w, i) => {
    const bits = Math.min(32, Math.max(0, prefix - i * 32));
    return w === (bits === 0 ? 0 : -1 << (32 - bits));
  });
  const end = prefix === 128 ? '' : isPrefix ? `/${prefix}` : `/${formatIpv6(words, 0)}`;
  return `${name}=${formatIpv6(value, at)}${end}`;
}

const macText = (hi: number, lo: number): string =>
  [hi >>> 8, hi, lo >>> 24, lo >>> 16, lo >>> 8, lo]
    .map((byte) => (byte & 0xff).toString(16).padStart(2, '0'))
    .join(':');

/** An address whose first 16 bits and last 32 bits these are. */
function mac(name: string, value: [number, number], mask: [number, number]): string {
  if ((mask[0] | mask[1]) === 0) return '';
  const exact = mask[0] === 0xffff && mask[1] === -1;
  return `${name}=${macText(...value)}${exact ? '' : `/${macText(...mask)}`}`;
}

/** First 16 and last 32 bits of the first address in three words, and of the second. */
const firstMac = (w: Int32Array, at: number): [number, number] => [
  w[at] >>> 16,
  (w[at] << 16) | (w[at + 1] >>> 16),
];
const secondMac = (w: Int32Array, at: number): [number, number] => [w[at + 1] & 0xffff, w[at + 2]];

function wide(value: Int32Array, mask: Int32Array, at: number): string {
  const text = (words: Int32Array) => {
    let n = 0n;
    for (const w of words.subarray(at, at + 4)) n = (n << 32n) | BigInt(w >>> 0);
    return n === 0n ? '0' : `0x${n.toString(16)}`;
  };
  const exact = mask.subarray(at, at + 4).every((w) => w === -1);
  return exact ? text(value) : `${text(value)}/${text(mask)}`;
}

function frag(value: number, mask: number): string {
  if (mask === 0) return '';
  const bits = FRAG_ANY | FRAG_LATER;
  if (mask !== bits) return `frag=${hex(value)}/${hex(mask)}`;
  return `frag=${value & FRAG_LATER ? 'later' : value & FRAG_ANY ? 'first' : 'no'}`;
}

/** "name(parts)", or nothing if no part counts. */
function attribute(name: string, ...parts: string[]): string[] {
  const there = parts.filter((p) => p !== '');
  return there.length === 0 ? [] : [`${name}(${there.join(',')})`];
}

function vlan(value: number, mask: number): string {
  const parts = [
    number('vid', value & 0xfff, mask & 0xfff, 12),
    number('pcp', (value >>> 13) & 7, (mask >>> 13) & 7, 3),
    mask & VLAN_CFI && !(value & VLAN_CFI) ? 'cfi=0' : '',
  ];
  return `vlan(${parts.filter((p) => p !== '').join(',')})`;
}

function mpls(value: Int32Array, mask: Int32Array): string[] {
  const entries: string[] = [];
  for (let w = FLOW.MPLS_0; w < FLOW.MPLS_0 + 3; w++) {
    if (mask[w] === 0) continue;
    entries.push(labelStackEntry(value[w], mask[w]));
  }
  return entries.length === 0 ? [] : [`mpls(${entries.join(',')})`];
}

function labelStackEntry(value: number, mask: number): string {
  return [
    number('label', value >>> 12, mask >>> 12, 20),
    number('tc', (value >>> 9) & 7, (mask >>> 9) & 7, 3),
    number('ttl', value & 0xff, mask & 0xff, 8),
    number('bos', (value >>> 8) & 1, (mask >>> 8) & 1, 1),
  ]
    .filter((p) => p !== '')
    .join(',');
}

function ethernet(value: Int32Array, mask: Int32Array): string[] {
  const at = FLOW.ETH_DST_HI;
  return attribute(
    'eth',
    mac('src', secondMac(value, at), secondMac(mask, at)),
    mac('dst', firstMac(value, at), firstMac(mask, at)),
  );
}

/** What is behind the EtherType. `ethType` and `proto` say how the words are to be read. */
function network(value: Int32Array, mask: Int32Array, ethType: number, proto: number): string[] {
  const { NW, NW_SRC, NW_DST } = FLOW;
  const byte = (words: Int32Array, shift: number) => (words[NW] >>> shift) & 0xff;
  const of = (name: string, shift: number, base: 10 | 16 = 10) =>
    number(name, byte(value, shift), byte(mask, shift), 8, base);
  const fragment = frag(byte(value, 24), byte(mask, 24) & (FRAG_ANY | FRAG_LATER));
  if (ethType === ETH_TYPE_ARP || ethType === ETH_TYPE_RARP) {
    const at = FLOW.ARP_SHA_HI;
    return attribute(
      'arp',
      ipv4('sip', value[NW_SRC], mask[NW_SRC]),
      ipv4('tip', value[NW_DST], mask[NW_DST]),
      of('op', 0),
      mac('sha', firstMac(value, at), firstMac(mask, at)),
      mac('tha', secondMac(value, at), secondMac(mask, at)),
    );
  }
  if (isMpls(ethType)) return mpls(value, mask);
  if (ethType === ETH_TYPE_IP) {
    return [
      ...attribute(
        'ipv4',
        ipv4('src', value[NW_SRC], mask[NW_SRC]),
        ipv4('dst', value[NW_DST], mask[NW_DST]),
        of('proto', 0),
        of('tos', 16, 16),
        of('ttl', 8),
        fragment,
      ),
      ...transport(value, mask, proto),
    ];
  }
  if (ethType !== ETH_TYPE_IPV6) return [];
  return [
    ...attribute(
      'ipv6',
      ipv6('src', value, mask, FLOW.IPV6_SRC_0),
      ipv6('dst', value, mask, FLOW.IPV6_DST_0),
      number('label', value[FLOW.IPV6_LABEL], mask[FLOW.IPV6_LABEL], 20, 16),
      of('proto', 0),
      of('tclass', 16, 16),
      of('hlimit', 8),
      fragment,
    ),
    ...transport(value, mask, proto),
  ];
}

const PORTS = new Map([
  [IPPROTO_TCP, 'tcp'],
  [IPPROTO_UDP, 'udp'],
  [IPPROTO_SCTP, 'sctp'],
]);

function transport(value: Int32Array, mask: Int32Array, proto: number): string[] {
  const { TP, TCP_FLAGS } = FLOW;
  const first = (name: string, bits = 16) =>
    number(name, value[TP] >>> 16, (mask[TP] >>> 16) & ((1 << bits) - 1), bits);
  const second = (name: string, bits = 16) =>
    number(name, value[TP] & 0xffff, mask[TP] & 0xffff & ((1 << bits) - 1), bits);
  const ports = PORTS.get(proto);
  if (ports !== undefined) {
    const tcpFlags = proto === IPPROTO_TCP ? flags(TCP_FLAG_NAMES, value[TCP_FLAGS], mask[TCP_FLAGS]) : '';
    return [...attribute(ports, first('src'), second('dst')), ...attribute('tcp_flags', tcpFlags)];
  }
  if (proto === IPPROTO_ICMP) return attribute('icmp', first('type', 8), second('code', 8));
  if (proto !== IPPROTO_ICMPV6) return [];
  const type = value[TP] >>> 16;
  const parts = attribute('icmpv6', first('type', 8), second('code', 8));
  if (type !== ND_SOLICIT && type !== ND_ADVERT) return parts;
  const at = FLOW.ARP_SHA_HI;
  return [
    ...parts,
    ...attribute(
      'nd',
      ipv6('target', value, mask, FLOW.ND_TARGET_0),
      mac('sll', firstMac(value, at), firstMac(mask, at)),
      mac('tll', secondMac(value, at), secondMac(mask, at)),
    ),
    ...attribute(
      'nd_ext',
      number('nd_reserved', value[FLOW.ND_RESERVED], mask[FLOW.ND_RESERVED], 32, 16),
      number('nd_options_type', value[TCP_FLAGS], mask[TCP_FLAGS] & 0xff, 8),
    ),
  ];
}

function conntrack(value: Int32Array, mask: Int32Array): string[] {
  const { CT_STATE, CT_ZONE, CT_MARK, CT_LABEL_0, CT_TP, CT_NW_PROTO } = FLOW;
  const label = mask.subarray(CT_LABEL_0, CT_LABEL_0 + 4).some((w) => w !== 0);
  const proto = number('proto', value[CT_NW_PROTO], mask[CT_NW_PROTO] & 0xff, 8);
  const src = (name: string) => number(name, value[CT_TP] >>> 16, mask[CT_TP] >>> 16, 16);
  const dst = (name: string) => number(name, value[CT_TP] & 0xffff, mask[CT_TP] & 0xffff, 16);
  const v6 = value[FLOW.ETH_TYPE] === ETH_TYPE_IPV6;
  const { CT_NW_SRC, CT_NW_DST, CT_IPV6_SRC_0, CT_IPV6_DST_0 } = FLOW;
  return [
    ...attribute('ct_state', flags(CT_STATE_NAMES, value[CT_STATE], mask[CT_STATE])),
    ...attribute('ct_zone', number('', value[CT_ZONE], mask[CT_ZONE] & 0xffff, 16, 16)),
    ...attribute('ct_mark', number('', value[CT_MARK], mask[CT_MARK], 32, 16)),
    ...(label ? [`ct_label(${wide(value, mask, CT_LABEL_0)})`] : []),
    ...(v6
      ? attribute(
          'ct_tuple6',
          ipv6('src', value, mask, CT_IPV6_SRC_0),
          ipv6('dst', value, mask, CT_IPV6_DST_0),
          proto,
          src('src_port'),
          dst('dst_port'),
        )
      : attribute(
          'ct_tuple4',
          ipv4('src', value[CT_NW_SRC], mask[CT_NW_SRC]),
          ipv4('dst', value[CT_NW_DST], mask[CT_NW_DST]),
          proto,
          src('tp_src'),
          dst('tp_dst'),
        )),
  ];
}

/** The packets that a megaflow stands for: KEY_WORDS words each of values and of the bits that count. */
export function formatMegaflow(key: Int32Array, mask: Int32Array): string {
  const { RECIRC_ID, DP_HASH, IN_PORT, ETH_TYPE, VLAN_0, VLAN_1, NW } = FLOW;
  const before = [
    ...conntrack(key, mask),
    ...attribute('recirc_id', number('', key[RECIRC_ID], mask[RECIRC_ID], 32, 16)),
    ...attribute('dp_hash', number('', key[DP_HASH], mask[DP_HASH], 32, 16)),
    ...attribute('in_port', mask[IN_PORT] === 0 ? '' : portName(key[IN_PORT])),
    ...ethernet(key, mask),
  ];
  const tags = [VLAN_0, VLAN_1].filter((w) => mask[w] !== 0 && key[w] & VLAN_CFI);
  const type = key[ETH_TYPE];
  let text = [
    mask[ETH_TYPE] === 0 ? '' : `eth_type(${type === ETH_TYPE_NONE ? '0/0xffff' : hex4(type)})`,
    ...network(key, mask, type, key[NW] & 0xff),
  ]
    .filter((p) => p !== '')
    .join(',');
  for (const w of tags.reverse()) {
    const tpid = key[w] >>> 16 || ETH_TYPE_VLAN;
    text = `eth_type(${hex4(tpid)}),${vlan(key[w], mask[w])},encap(${text})`;
  }
  return [...before, text].filter((p) => p !== '').join(',');
}

const portName = (port: number): string => (port === OFPP_LOCAL ? 'LOCAL' : `${port}`);

function formatNat(program: Int32Array, at: number): string {
  const nat = program[at + CT_ARG_NAT];
  if (!(nat & (NAT_SRC | NAT_DST))) return 'nat';
  const v6 = (nat & NAT_IPV6) !== 0;
  const ports = program[at + CT_ARG_NAT_PORTS];
  const address = (arg: number): string => {
    if (!v6) return formatIpv4(program[at + arg]);
    const text = formatIpv6(program, at + arg);
    return ports === 0 ? text : `[${text}]`;
  };
  let text = nat & NAT_SRC ? 'src' : 'dst';
  if (nat & NAT_ADDRESS) {
    const [min, max] = [address(CT_ARG_NAT_MIN), address(CT_ARG_NAT_MAX)];
    text += `=${min}${max === min ? '' : `-${max}`}`;
  }
  if (ports !== 0) {
    const [min, max] = [ports >>> 16, ports & 0xffff];
    text += `:${min}${max === min ? '' : `-${max}`}`;
  }
  if (nat & NAT_PERSISTENT) text += ',persistent';
  if (nat & NAT_HASH) text += ',hash';
  if (nat & NAT_RANDOM) text += ',random';
  return `nat(${text})`;
}

function formatCt(program: Int32Array, at: number): string {
  const [f, zone, mark, markMask] = program.subarray(at + 1, at + 5);
  const parts: string[] = [];
  if (f & CT_COMMIT) parts.push(f & CT_FORCE ? 'force_commit' : 'commit');
  if (zone !== 0) parts.push(`zone=${zone}`);
  if (f & CT_SET_MARK) parts.push(`mark=${hex(mark)}/${hex(markMask)}`);
  if (f & CT_SET_LABEL) {
    const label = program.subarray(at + 5, at + 9);
    const mask = program.subarray(at + 9, at + 13);
    parts.push(`label=${wide(label, mask, 0)}`);
  }
  const alg = program[at + CT_ARG_ALG];
  if (alg === ALG_FTP) parts.push('helper=ftp');
  else if (alg === ALG_TFTP) parts.push('helper=tftp');
  if (program[at + CT_ARG_NAT] & NAT_ON) parts.push(formatNat(program, at));
  return parts.length === 0 ? 'ct' : `ct(${parts.join(',')})`;
}

/** What to do with a packet, as text. `key` is of a packet that it is for: it says whether written words
 *  are IPv4, IPv6 or ARP ones, and of which protocol. */
export function formatProgram(program: Int32Array, key: Int32Array): string {
  const text = actionsFrom(program, 0, program.length, key).join(',');
  return text === '' ? 'drop' : text;
}

/** The operations from `pc` to the end, or to OP_END. */
function actionsFrom(program: Int32Array, from: number, end: number, key: Int32Array): string[] {
  const list: string[] = [];
  let pc = from;
  while (pc < end && program[pc] !== OP_END) {
    if (program[pc] === OP_SET) {
      pc = setsFrom(program, pc, key, list);
      continue;
    }
    const next = pc + opWords(program, pc);
    switch (program[pc]) {
      case OP_CLONE: {
        const inside = actionsFrom(program, next, next + program[pc + 1], key);
        list.push(`clone(${inside.join(',')})`);
        pc = next + program[pc + 1];
        continue;
      }
      case OP_CHECK_LEN: {
        const inside = actionsFrom(program, next, next + program[pc + 2], key);
        const rest = actionsFrom(program, next + program[pc + 2], end, key);
        const done = endsIn(program, next, next + program[pc + 2]) ? inside : [...inside, ...rest];
        list.push(`check_pkt_len(size=${program[pc + 1]},gt(${done.join(',')}),le(${rest.join(',')}))`);
        return list;
      }
      case OP_SELECT_MAP:
      case OP_SELECT_BEST: {
        list.push(buckets(program, pc, end, key));
        return list;
      }
      default:
        list.push(...operation(program, pc));
    }
    pc = next;
  }
  return list;
}

/** Whether the operations from `pc` to `end` have an end of their own. */
function endsIn(program: Int32Array, pc: number, end: number): boolean {
  while (pc < end) {
    if (program[pc] === OP_END) return true;
    pc += program[pc] === OP_CLONE ? 2 + program[pc + 1] : opWords(program, pc);
  }
  return false;
}

/** Consecutive writes, by header. */
function setsFrom(program: Int32Array, from: number, key: Int32Array, list: string[]): number {
  const value = new Int32Array(KEY_WORDS);
  const mask = new Int32Array(KEY_WORDS);
  let pc = from;
  for (; program[pc] === OP_SET; pc += opWords(program, pc)) {
    const [word, bits, ones] = program.subarray(pc + 1, pc + 4);
    value[word] = (value[word] & ~ones) | bits;
    mask[word] |= ones;
  }
  const parts = [
    ...ethernet(value, mask),
    ...network(value, mask, key[FLOW.ETH_TYPE], key[FLOW.NW] & 0xff),
    ...mpls(value, mask),
  ];
  list.push(...new Set(parts.map((part) => `set(${part})`)));
  return pc;
}

/** A choice by hash: the buckets in order, each with what follows it. */
function buckets(program: Int32Array, pc: number, end: number, key: Int32Array): string {
  const best = program[pc] === OP_SELECT_BEST;
  const n = program[pc + 1];
  const weights = new Map<number, number>();
  for (let i = 0; i < n; i++) {
    const at = best ? program[pc + 2 + i * 3 + 2] : program[pc + 2 + i];
    const weight = best ? program[pc + 2 + i * 3 + 1] : 1;
    weights.set(at, (weights.get(at) ?? 0) + weight);
  }
  const parts = [...weights].map(([at, weight]) => {
    const actions = actionsFrom(program, pc + at, end, key);
    return `bucket(weight=${weight},actions(${actions.join(',')}))`;
  });
  return `select(${parts.join(',')})`;
}

/** One operation that is neither a branch nor a write; those that only count have no text. */
function operation(program: Int32Array, pc: number): string[] {
  const [op, a, b, c] = program.subarray(pc, pc + 4);
  switch (op) {
    case OP_OUTPUT:
      return [portName(a)];
    case OP_PUSH_VLAN: {
      const tpid = a >>> 16;
      return [`push_vlan(${tpid === ETH_TYPE_VLAN ? '' : `tpid=${hex4(tpid)},`}${vlan(a, 0xffff).slice(5)}`];
    }
    case OP_POP_VLAN:
      return ['pop_vlan'];
    case OP_CT:
      return [formatCt(program, pc)];
    case OP_RECIRC:
      return [`recirc(${hex(a)})`];
    case OP_CT_CLEAR:
      return ['ct_clear'];
    case OP_NORMAL:
      return ['normal'];
    case OP_STAT:
      return [];
    case OP_LEARN:
      return [`learn(${a})`];
    case OP_FIN_TIMEOUT:
      return [`fin_timeout(${a})`];
    case OP_METER:
      return [`meter(${a})`];
    case OP_TRUNC:
      return [`trunc(${a})`];
    case OP_CONTROLLER:
      return [`userspace(controller(reason=${b},controller_id=${c},max_len=${a}))`];
    case OP_PUSH_MPLS:
      return [`push_mpls(${labelStackEntry(a, -1)},eth_type=${hex(b)})`];
    case OP_POP_MPLS:
      return [`pop_mpls(eth_type=${hex(a)})`];
    case OP_DP_HASH:
    case OP_HASH_HEADERS:
      return [`hash(${a === HASH_5TUPLE ? 'l4' : `sym_${a}`}(${b >>> 0}))`];
    case OP_HASH_FIELDS:
      return [`hash(fields(${b >>> 0}))`];
    default:
      throw new Error(`datapath: no text for opcode ${op} at ${pc}`);
  }
}

/** One line of dump-flows. `used` is how long ago the last packet came, in ms; negative: never. */
export function formatDpFlow(
  flow: { key: Int32Array; mask: Int32Array; program: Int32Array; packets: number; bytes: number },
  used: number,
): string {
  const last = used < 0 ? 'never' : `${(used / 1000).toFixed(3)}s`;
  const { key, mask, program, packets, bytes } = flow;
  return `${formatMegaflow(key, mask)}, packets:${packets}, bytes:${bytes}, used:${last}, actions:${formatProgram(program, key)}`;
}
