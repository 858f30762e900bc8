/** Text of field values, in the spellings of ovs-fields(7): numbers, addresses, flags, ports. Knows
 *  nothing of flows or positions: every reader returns its value or a Refusal that says what is wrong
 *  and what would be right; `parser.ts` adds where. */
import {
  CT_STATE_NAMES,
  FRAG_ANY,
  FRAG_LATER,
  OFPP_LOCAL,
  OFPP_MAX,
  OFPP_NONE,
} from '../classifier/flow-key.js';
import { type Field, VLAN_NONE } from './fields.js';

/** Why a text is not a value. `ofs` and `length` narrow it down to a part of the text. */
export class Refusal {
  readonly message: string;
  readonly expected: string;
  readonly ofs: number | undefined;
  readonly length: number | undefined;

  /** What is wrong, and what would be right. */
  constructor(message: string, expected: string, ofs?: number, length?: number) {
    this.message = message;
    this.expected = expected;
    this.ofs = ofs;
    this.length = length;
  }
}

/** A value and the bits of it that count. */
export interface Masked {
  value: bigint;
  mask: bigint;
}

/** Names of the TCP flag bits from bit 0 up (ovs-fields(7), tcp_flags). */
export const TCP_FLAG_NAMES = [
  'fin',
  'syn',
  'rst',
  'psh',
  'ack',
  'urg',
  'ece',
  'cwr',
  'ns',
  '[200]',
  '[400]',
  '[800]',
] as const;

/** What reserved ports of OpenFlow 1.0 are further on in 1.1 and later. */
const OFPP11_OFFSET = 0xffff0000;

/** OpenFlow 1.0 reserved ports by name; ovs-ofctl(8) takes them in any case. */
export const PORT_NAMES: ReadonlyMap<string, number> = new Map([
  ['IN_PORT', 0xfff8],
  ['TABLE', 0xfff9],
  ['NORMAL', 0xfffa],
  ['FLOOD', 0xfffb],
  ['ALL', 0xfffc],
  ['CONTROLLER', 0xfffd],
  ['LOCAL', OFPP_LOCAL],
  ['ANY', OFPP_NONE],
  ['NONE', OFPP_NONE],
  ['UNSET', 0xfff7],
]);

const FRAGS: ReadonlyMap<string, Masked> = new Map([
  ['no', { value: 0n, mask: BigInt(FRAG_ANY | FRAG_LATER) }],
  ['yes', { value: BigInt(FRAG_ANY), mask: BigInt(FRAG_ANY) }],
  ['first', { value: BigInt(FRAG_ANY), mask: BigInt(FRAG_ANY | FRAG_LATER) }],
  ['later', { value: BigInt(FRAG_ANY | FRAG_LATER), mask: BigInt(FRAG_ANY | FRAG_LATER) }],
  ['not_later', { value: 0n, mask: BigInt(FRAG_LATER) }],
]);

/** `n` one bits. */
export function ones(n: number): bigint {
  return (1n << BigInt(n)) - 1n;
}

/** A number of at most `bits` bits in C notation: decimal, 0x hexadecimal, or octal after a 0. */
export function parseNumber(text: string, bits: number, what = 'number'): bigint | Refusal {
  const max = ones(bits);
  const expected = `a number from 0 to ${bits > 32 ? '0x' + max.toString(16) : max}`;
  let value: bigint;
  if (/^0[xX][0-9a-fA-F]+$/.test(text)) value = BigInt(text);
  else if (/^0[0-7]+$/.test(text)) value = BigInt('0o' + text.slice(1));
  else if (/^(0|[1-9][0-9]*)$/.test(text)) {
    value = BigInt(text);
    // OVS reads decimal numbers through strtoull, so wider ones need hexadecimal.
    if (value > ones(64) && bits > 64) {
      return new Refusal(
        `${what} ${text} needs more than 64 bits`,
        'such a number in hexadecimal, with 0x in front',
      );
    }
  } else if (text === '') return new Refusal(`missing ${what}`, expected);
  else return new Refusal(`"${text}" is not a number`, expected);
  return value > max ? new Refusal(`${what} ${text} does not fit into ${bits} bits`, expected) : value;
}

/** A port number or reserved name. Numbers are decimal; 0xffffff00 and up are OpenFlow 1.1 numbers. */
export function parsePort(text: string): number | undefined {
  const named = PORT_NAMES.get(text.toUpperCase());
  if (named !== undefined) return named;
  if (!/^[0-9]+$/.test(text)) return undefined;
  const port = Number(text);
  if (port <= 0xffff) return port;
  return port >= 0xffffff00 && port <= 0xffffffff ? port - OFPP11_OFFSET : undefined;
}

/** A table number that a flow can be in. */
export function parseTable(text: string): number | Refusal {
  const expected = 'a table number from 0 to 254';
  if (text === '') return new Refusal('missing table number', expected);
  if (!/^[0-9]+$/.test(text)) return new Refusal(`"${text}" is not a table number`, expected);
  return Number(text) <= 254 ? Number(text) : new Refusal(`there is no table ${text}`, expected);
}

/** Six hexadecimal bytes with colons. */
export function parseMac(text: string): bigint | undefined {
  if (!/^[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}$/.test(text)) return undefined;
  return text.split(':').reduce((v, byte) => (v << 8n) | BigInt('0x' + byte), 0n);
}

/** Dotted decimal. */
export function parseIpv4(text: string): bigint | undefined {
  if (!/^[0-9]{1,3}(\.[0-9]{1,3}){3}$/.test(text)) return undefined;
  const bytes = text.split('.').map(Number);
  if (bytes.some((b) => b > 255)) return undefined;
  return bytes.reduce((v, b) => (v << 8n) | BigInt(b), 0n);
}

/** RFC 4291 section 2.2 text, all three forms. */
export function parseIpv6(text: string): bigint | undefined {
  let rest = text;
  let nGroups = 8;
  let tail = 0n;
  const dotted = /(^|:)([0-9.]*\.[0-9.]*)$/.exec(text);
  if (dotted !== null) {
    const v4 = parseIpv4(dotted[2]);
    if (v4 === undefined) return undefined;
    tail = v4;
    nGroups = 6;
    rest = text.slice(0, text.length - dotted[2].length);
    if (rest.endsWith(':') && !rest.endsWith('::')) rest = rest.slice(0, -1);
    if (rest === '') return undefined;
  }
  const halves = rest.split('::');
  if (halves.length > 2) return undefined;
  const groups = halves.map((h) => (h === '' ? [] : h.split(':')));
  const n = groups.reduce((sum, g) => sum + g.length, 0);
  if (halves.length === 1 ? n !== nGroups : n >= nGroups) return undefined;
  const all = [...groups[0], ...Array<string>(nGroups - n).fill('0'), ...(groups[1] ?? [])];
  if (all.some((g) => !/^[0-9a-fA-F]{1,4}$/.test(g))) return undefined;
  const head = all.reduce((v, g) => (v << 16n) | BigInt('0x' + g), 0n);
  return nGroups === 6 ? (head << 32n) | tail : head;
}

/** "0.0.0.0" of an IPv4 address. */
export function ipv4Text(value: bigint): string {
  return [24n, 16n, 8n, 0n].map((s) => ((value >> s) & 0xffn).toString()).join('.');
}

/** "00:00:00:00:00:00" of an Ethernet address. */
export function macText(value: bigint): string {
  return value.toString(16).padStart(12, '0').match(/../g)!.join(':');
}

/** RFC 5952 text of an IPv6 address; the dotted form where inet_ntop() has it. */
export function ipv6Text(value: bigint): string {
  const groups = value
    .toString(16)
    .padStart(32, '0')
    .match(/..../g)!
    .map((g) => parseInt(g, 16));
  let best = 0;
  let bestLength = 1; // a single zero group is not shortened
  for (let i = 0; i < 8; ) {
    let j = i;
    while (j < 8 && groups[j] === 0) j++;
    if (j - i > bestLength) {
      best = i;
      bestLength = j - i;
    }
    i = j === i ? i + 1 : j;
  }
  const hex = groups.map((g) => g.toString(16));
  if (best === 0 && (bestLength === 6 || (bestLength === 5 && groups[5] === 0xffff))) {
    return `::${bestLength === 5 ? 'ffff:' : ''}${ipv4Text(value & 0xffffffffn)}`;
  }
  if (bestLength < 2) return hex.join(':');
  return `${hex.slice(0, best).join(':')}::${hex.slice(best + bestLength).join(':')}`;
}

/** Length of the prefix that `mask` is, or -1 if its ones are not all in front. */
export function prefixLength(mask: bigint, bits: number): number {
  const zeros = ones(bits) & ~mask;
  return (zeros & (zeros + 1n)) === 0n ? bits - zeros.toString(2).replace(/^0$/, '').length : -1;
}

function parseAddress(
  text: string,
  bits: number,
  parse: (text: string) => bigint | undefined,
  kind: string,
  example: string,
): Masked | Refusal {
  const slash = text.indexOf('/');
  const head = slash < 0 ? text : text.slice(0, slash);
  const value = parse(head);
  if (value === undefined) {
    return new Refusal(`"${head}" is not an ${kind} address`, `an address like ${example}`, 0, head.length);
  }
  if (slash < 0) return { value, mask: ones(bits) };
  const tail = text.slice(slash + 1);
  let mask = parse(tail);
  if (mask === undefined && bits !== 48 && /^[0-9]+$/.test(tail) && Number(tail) <= bits) {
    mask = ones(bits) ^ ones(bits - Number(tail));
  }
  if (mask !== undefined) return { value, mask };
  return new Refusal(
    `"${tail}" is not an ${kind} mask`,
    bits === 48 ? `a mask like ${example}` : `a prefix length from 0 to ${bits} or a mask like ${example}`,
    slash + 1,
    tail.length,
  );
}

/** ct_state and tcp_flags: `+a-b`, `a|b`, `VALUE/MASK` or a number. */
function parseFlags(text: string, names: readonly string[], what: string): Masked | Refusal {
  const expected = `flags like +${names[1]}-${names[0]}, or a number, of: ${names.join(' ')}`;
  const allowed = ones(names.length);
  const bad = (token: string, ofs: number) =>
    new Refusal(`"${token}" is not a ${what} flag`, expected, ofs, token.length);
  if (/^[+-]/.test(text)) {
    let value = 0n;
    let mask = 0n;
    let at = 0;
    for (const token of text.match(/[+-][^+-]*/g)!) {
      const bit = names.indexOf(token.slice(1));
      if (bit < 0) return bad(token.slice(1) || token, token.length > 1 ? at + 1 : at);
      const flag = 1n << BigInt(bit);
      if (mask & flag) {
        return new Refusal(
          `${what} flag "${names[bit]}" is given twice`,
          'each flag once',
          at + 1,
          token.length - 1,
        );
      }
      if (token[0] === '+') value |= flag;
      mask |= flag;
      at += token.length;
    }
    return { value, mask };
  }
  const slash = text.indexOf('/');
  if (slash >= 0) {
    const value = parseNumber(text.slice(0, slash), names.length, `${what} value`);
    if (value instanceof Refusal) return new Refusal(value.message, value.expected, 0, slash);
    const mask = parseNumber(text.slice(slash + 1), names.length, `${what} mask`);
    if (mask instanceof Refusal) return new Refusal(mask.message, mask.expected, slash + 1);
    return { value, mask };
  }
  let value = 0n;
  let at = 0;
  for (const token of text.split('|')) {
    const bit = names.indexOf(token);
    const number = bit >= 0 ? 1n << BigInt(bit) : parseNumber(token, names.length);
    if (number instanceof Refusal) return bad(token, at);
    value |= number;
    at += token.length + 1;
  }
  return { value, mask: allowed };
}

function parseMaskedNumber(text: string, f: Field): Masked | Refusal {
  const slash = text.indexOf('/');
  const full = ones(f.bytes * 8);
  const value = parseNumber(slash < 0 ? text : text.slice(0, slash), f.bytes * 8, `${f.name} value`);
  if (value instanceof Refusal) {
    return slash < 0 ? value : new Refusal(value.message, value.expected, 0, slash);
  }
  if (slash < 0) return { value, mask: full };
  const mask = parseNumber(text.slice(slash + 1), f.bytes * 8, `${f.name} mask`);
  return mask instanceof Refusal ? new Refusal(mask.message, mask.expected, slash + 1) : { value, mask };
}

function parseUnchecked(text: string, f: Field): Masked | Refusal {
  switch (f.format) {
    case 'decimal':
    case 'hex':
      return parseMaskedNumber(text, f);
    case 'ethernet':
      return parseAddress(text, 48, parseMac, 'Ethernet', '00:11:22:33:44:55');
    case 'ipv4':
      return parseAddress(text, 32, parseIpv4, 'IPv4', '10.1.2.3');
    case 'ipv6':
      return parseAddress(text, 128, parseIpv6, 'IPv6', 'fc00::1');
    case 'ct_state':
      return parseFlags(text, CT_STATE_NAMES, 'ct_state');
    case 'tcp_flags':
      return parseFlags(text, TCP_FLAG_NAMES, 'tcp_flags');
    case 'frag':
      return (
        FRAGS.get(text.toLowerCase()) ??
        new Refusal(`"${text}" is not a kind of fragment`, `one of ${[...FRAGS.keys()].join(', ')}`)
      );
    case 'port': {
      const port = parsePort(text);
      return port === undefined
        ? new Refusal(`"${text}" is not a port`, 'a decimal port number or LOCAL')
        : { value: BigInt(port), mask: ones(16) };
    }
    case 'port11': {
      const port = parsePort(text);
      return port === undefined
        ? new Refusal(`"${text}" is not a port`, 'a decimal port number, LOCAL or UNSET')
        : { value: BigInt(port < OFPP_MAX ? port : port + OFPP11_OFFSET), mask: ones(32) };
    }
  }
}

/** Value and mask of a field as ovs-fields(7) writes it, `*` included. The mask has the bits that the
 *  field has. Value bits outside the mask are kept; a value bit that the field does not have is
 *  refused, where OVS drops it in a match (nw_tos=3) and refuses it in set_field. */
export function parseFieldValue(text: string, f: Field): Masked | Refusal {
  if (text === '*') return { value: 0n, mask: 0n };
  const parsed = parseUnchecked(text, f);
  if (parsed instanceof Refusal) return parsed;
  const { value, mask } = parsed;
  const slash = text.indexOf('/');
  if (f.name === 'dl_vlan' && value === BigInt(VLAN_NONE)) return { value, mask: f.valid };
  if (!f.maskable && mask !== 0n && mask !== ones(f.bytes * 8)) {
    return new Refusal(`${f.name} can't be masked`, `${f.name}=VALUE without a mask`, slash);
  }
  const stray = value & mask & ~f.valid;
  if (stray !== 0n && f.format !== 'frag') {
    const allowed = `a value within 0x${f.valid.toString(16)}`;
    return new Refusal(
      `${f.name} has no bits 0x${stray.toString(16)}`,
      allowed,
      0,
      slash < 0 ? undefined : slash,
    );
  }
  return { value: value & f.valid, mask: mask & f.valid };
}

function flagsText(value: bigint, mask: bigint, names: readonly string[]): string {
  const set = names.filter((_, bit) => (value >> BigInt(bit)) & 1n);
  if (mask === ones(names.length)) return set.join('|') || '0';
  const used = names.filter((_, bit) => (mask >> BigInt(bit)) & 1n);
  return used.map((name) => (set.includes(name) ? '+' : '-') + name).join('') || '0/0';
}

function addressText(value: bigint, mask: bigint, bits: number, text: (value: bigint) => string): string {
  if (mask === ones(bits)) return text(value);
  const prefix = bits === 48 ? -1 : prefixLength(mask, bits);
  return `${text(value)}/${prefix >= 0 ? prefix : text(mask)}`;
}

/** "LOCAL" or the number of a port. */
export function portText(port: number): string {
  for (const [name, number] of PORT_NAMES) if (number === port) return name;
  return String(port);
}

/** Text that parseFieldValue reads back as the same value and mask. */
export function fieldValueText(f: Field, value: bigint, mask: bigint): string {
  if (mask === 0n && f.format !== 'frag') return '*';
  switch (f.format) {
    case 'ethernet':
      return addressText(value, mask, 48, macText);
    case 'ipv4':
      return addressText(value, mask, 32, ipv4Text);
    case 'ipv6':
      return addressText(value, mask, 128, ipv6Text);
    case 'ct_state':
      return flagsText(value, mask, CT_STATE_NAMES);
    case 'tcp_flags':
      return flagsText(value, mask, TCP_FLAG_NAMES);
    case 'frag':
      for (const [name, m] of FRAGS) if (m.value === value && m.mask === mask) return name;
      return '*';
    case 'port':
      return portText(Number(value));
    case 'port11':
      return portText(value < OFPP_MAX ? Number(value) : Number(value) - OFPP11_OFFSET);
    default: {
      const exact = mask === f.valid;
      const hex = f.format === 'hex' || !exact;
      const text = hex && value !== 0n ? '0x' + value.toString(16) : value.toString();
      return exact ? text : `${text}/0x${mask.toString(16)}`;
    }
  }
}
