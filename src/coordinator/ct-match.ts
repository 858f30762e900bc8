/** Which connections `dpctl/flush-conntrack` means (ovs-dpctl(8)): `[zone=N] [mark=X[/M]] [labels=Y[/N]]
 *  [ct-orig-tuple [ct-reply-tuple]]`, with the oddities of Open vSwitch's reading of it. */
import { parseIpv4, parseIpv6, parseNumber, Refusal } from '../openflow/values.js';
import { formatIpv4, formatIpv6 } from '../wire/address.js';
import { IPPROTO_ICMP, IPPROTO_ICMPV6 } from '../wire/extract.js';
import type { Connection, Tuple } from './dump.js';

/** A mistake in a command: what is wrong, in Open vSwitch's words where it has some, and what would be right. */
export class UsageProblem extends Error {
  override name = 'UsageProblem';
}

/** Part of a tuple: what is empty or 0 is not compared, except for ICMP. */
interface PartialTuple {
  src: string;
  dst: string;
  srcPort: number;
  dstPort: number;
  icmpId: number;
  icmpType: number;
  icmpCode: number;
}

export interface ConnectionMatch {
  zone: number | null;
  mark: number;
  markMask: number;
  label: bigint;
  labelMask: bigint;
  /** 4 or 6; 0 if no address was given. */
  version: number;
  proto: number;
  orig: PartialTuple;
  reply: PartialTuple;
}

const EXAMPLE = "such as 'ct_nw_src=10.0.0.1,ct_nw_dst=10.0.0.2,ct_nw_proto=17,ct_tp_src=1,ct_tp_dst=2'";

/** Reads the arguments behind the datapath's name; throws UsageProblem. */
export function parseConnectionMatch(args: readonly string[]): ConnectionMatch {
  const match: ConnectionMatch = {
    zone: null,
    mark: 0,
    markMask: 0,
    label: 0n,
    labelMask: 0n,
    version: 0,
    proto: 0,
    orig: emptyTuple(),
    reply: emptyTuple(),
  };
  const rest = [...args];
  if (rest[0]?.startsWith('zone=')) match.zone = parseZone(rest.shift()!.slice(5));
  if (rest[0]?.startsWith('mark=')) {
    const [value, mask] = parseMasked(rest.shift()!.slice(5), 32, 'mark');
    match.mark = Number(value);
    match.markMask = Number(mask);
  }
  if (rest[0]?.startsWith('labels=')) {
    [match.label, match.labelMask] = parseMasked(rest.shift()!.slice(7), 128, 'labels');
  }
  for (const tuple of [match.orig, match.reply]) {
    const text = rest.shift();
    if (text !== undefined && text !== '') parseTuple(text, tuple, match);
  }
  if (rest.length > 0) {
    throw new UsageProblem(
      `invalid arguments: "${rest.join(' ')}"; expected [zone=N] [mark=X[/M]] [labels=Y[/N]] and at most two tuples, in this order`,
    );
  }
  return match;
}

/** Whether nothing but the zone, if that, was given. */
export function isEverything(m: ConnectionMatch): boolean {
  const icmp = isIcmp(m.proto);
  return m.proto === 0 && m.version === 0 && noTuple(m.orig, icmp) && noTuple(m.reply, icmp) && noMeta(m);
}

/** Whether the original direction is given in full and nothing else: such a connection must be there, and is
 *  found from either side, in zone 0 unless told otherwise. */
export function isFiveTuple(m: ConnectionMatch): boolean {
  const icmp = isIcmp(m.proto);
  const { orig } = m;
  if (orig.src === '' || orig.dst === '' || !(icmp || (orig.srcPort !== 0 && orig.dstPort !== 0)))
    return false;
  return noTuple(m.reply, icmp) && noMeta(m);
}

/** Whether `c` is the connection of a full tuple. */
export function isConnection(m: ConnectionMatch, c: Connection): boolean {
  if (c.proto !== m.proto || c.zone !== (m.zone ?? 0) || (m.version === 6) !== c.ipv6) return false;
  return [c.orig, c.reply].some((t) => {
    if (t.src !== m.orig.src || t.dst !== m.orig.dst) return false;
    if (t.id === undefined) return t.sport === m.orig.srcPort && t.dport === m.orig.dstPort;
    return t.id === m.orig.icmpId && t.type === m.orig.icmpType && t.code === m.orig.icmpCode;
  });
}

/** Whether `c` agrees with all that was given. */
export function matchesConnection(m: ConnectionMatch, c: Connection): boolean {
  if (m.zone !== null && m.zone !== c.zone) return false;
  if (m.version !== 0 && (m.version === 6) !== c.ipv6) return false;
  if (m.proto !== 0 && m.proto !== c.proto) return false;
  if (!partOf(m.orig, c.orig, m.proto) || !partOf(m.reply, c.reply, m.proto)) return false;
  if (((c.mark ^ m.mark) & m.markMask) !== 0) return false;
  let label = 0n;
  for (const word of c.label) label = (label << 32n) | BigInt(word >>> 0);
  return ((label ^ m.label) & m.labelMask) === 0n;
}

/** ICMP has no wildcards here: id, type and code are compared in both directions even where they were left out. */
function partOf(p: PartialTuple, t: Tuple, proto: number): boolean {
  if ((p.src !== '' && p.src !== t.src) || (p.dst !== '' && p.dst !== t.dst)) return false;
  if (isIcmp(proto)) return p.icmpId === t.id && p.icmpType === t.type && p.icmpCode === t.code;
  return (p.srcPort === 0 || p.srcPort === t.sport) && (p.dstPort === 0 || p.dstPort === t.dport);
}

function isIcmp(proto: number): boolean {
  return proto === IPPROTO_ICMP || proto === IPPROTO_ICMPV6;
}

function emptyTuple(): PartialTuple {
  return { src: '', dst: '', srcPort: 0, dstPort: 0, icmpId: 0, icmpType: 0, icmpCode: 0 };
}

function noTuple(t: PartialTuple, icmp: boolean): boolean {
  return t.src === '' && t.dst === '' && (icmp || (t.srcPort === 0 && t.dstPort === 0));
}

function noMeta(m: ConnectionMatch): boolean {
  return m.markMask === 0 && m.labelMask === 0n;
}

/** A zone number: 0 to 65535. */
export function parseZone(text: string): number {
  const zone = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (zone <= 0xffff) return zone;
  throw new UsageProblem(`failed to parse zone: "${text}"; expected zone=0 to zone=65535`);
}

function parseMasked(text: string, bits: number, what: string): [bigint, bigint] {
  const [value, mask, ...more] = text.split('/');
  const read = (part: string) => {
    const n = parseNumber(part, bits, what);
    if (n instanceof Refusal || more.length > 0) {
      throw new UsageProblem(
        `failed to parse ${what}: "${text}"; expected ${what}=VALUE or ${what}=VALUE/MASK`,
      );
    }
    return n;
  };
  return [read(value), mask === undefined ? (1n << BigInt(bits)) - 1n : read(mask)];
}

/** `key=value` pairs, as ofputil_parse_key_value() separates them. */
export function* keyValues(text: string): Generator<[string, string]> {
  for (const pair of text.split(/[,\s]+/)) {
    if (pair === '') continue;
    const at = pair.search(/[=:]/);
    if (at < 0 || at === pair.length - 1) {
      throw new UsageProblem(
        `field ${at < 0 ? pair : pair.slice(0, at)} missing value; expected FIELD=VALUE`,
      );
    }
    yield [pair.slice(0, at), pair.slice(at + 1)];
  }
}

function parseTuple(text: string, tuple: PartialTuple, match: ConnectionMatch): void {
  for (const [key, value] of keyValues(text)) {
    switch (key) {
      case 'ct_nw_src':
      case 'ct_nw_dst':
      case 'ct_ipv6_src':
      case 'ct_ipv6_dst': {
        const version = key.startsWith('ct_nw') ? 4 : 6;
        if (match.version !== 0 && match.version !== version) {
          throw new UsageProblem(
            `the L3 protocol does not match ${value}; expected addresses of one IP version`,
          );
        }
        const end = key.endsWith('src') ? 'src' : 'dst';
        if (tuple[end] !== '')
          throw new UsageProblem(`${key} is set multiple times; expected it once a tuple`);
        match.version = version;
        tuple[end] = address(key, value, version);
        break;
      }
      case 'ct_nw_proto':
        match.proto = numberOf(key, value, 8);
        break;
      case 'ct_tp_src':
        tuple.srcPort = numberOf(key, value, 16);
        break;
      case 'ct_tp_dst':
        tuple.dstPort = numberOf(key, value, 16);
        break;
      case 'icmp_id':
      case 'icmp_type':
      case 'icmp_code':
        if (!isIcmp(match.proto)) {
          throw new UsageProblem(
            `invalid L4 fields: ${key} needs ct_nw_proto=1 or ct_nw_proto=58 in front of it`,
          );
        }
        if (key === 'icmp_id') tuple.icmpId = numberOf(key, value, 16);
        else if (key === 'icmp_type') tuple.icmpType = numberOf(key, value, 8);
        else tuple.icmpCode = numberOf(key, value, 8);
        break;
      default:
        throw new UsageProblem(`invalid conntrack tuple field: ${key}; expected a tuple ${EXAMPLE}`);
    }
  }
  if (match.proto === 0 && (tuple.srcPort !== 0 || tuple.dstPort !== 0)) {
    throw new UsageProblem('port is set without protocol; expected ct_nw_proto=6 or the like as well');
  }
}

/** In the form of a dump. An address of zeros means none. */
function address(key: string, text: string, version: number): string {
  const value = version === 4 ? parseIpv4(text) : parseIpv6(text);
  if (value === undefined)
    throw new UsageProblem(`failed to parse field ${key}: "${text}" is no IPv${version} address`);
  if (value === 0n && version === 6) return '';
  if (version === 4) return formatIpv4(Number(value));
  const words = new Int32Array(4);
  for (let i = 0; i < 4; i++) words[i] = Number(BigInt.asIntN(32, value >> BigInt(96 - 32 * i)));
  return formatIpv6(words, 0);
}

/** The number that belongs to `key`: decimal, octal or hexadecimal. */
export function numberOf(key: string, text: string, bits: number): number {
  const value = parseNumber(text, bits, key);
  if (value instanceof Refusal)
    throw new UsageProblem(`failed to parse field ${key}: ${value.message}; expected ${value.expected}`);
  return Number(value);
}
