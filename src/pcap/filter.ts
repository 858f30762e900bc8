/** Filters in the language of pcap-filter(7), as predicates over Ethernet frames.
 *
 *  A filter is parsed from left to right into closures over one `Frame`. As in a BPF program a load from behind the
 *  end of the frame ends the whole filter with no, whatever `not` stands before it. What the language has beyond that
 *  listed in docs/analyze.md (names of hosts, protocols other than IP, ARP and VLAN, properties of live captures) is
 *  refused, with its place. */
import { isIP } from 'node:net';
import { parseIpv4Strict, parseIpv6Strict } from '../wire/address.js';
import {
  ETH_TYPE_ARP,
  ETH_TYPE_IP,
  ETH_TYPE_IPV6,
  ETH_TYPE_QINQ,
  ETH_TYPE_VLAN,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_IGMP,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
} from '../wire/extract.js';

/** Whether a frame, `capLen` bytes from `off` on, of `wireLen` on the wire, passes. */
export type PacketFilter = (view: DataView, off: number, capLen: number, wireLen: number) => boolean;

/** The message has the filter, and a caret under what is wrong. */
export class FilterSyntaxError extends Error {
  override name = 'FilterSyntaxError';
  /** From 1. */
  readonly column: number;
  constructor(filter: string, at: number, message: string) {
    super(`filter: column ${at + 1}: ${message}\n  ${filter}\n  ${' '.repeat(at)}^`);
    this.column = at + 1;
  }
}

/** Throws FilterSyntaxError. */
export function compileFilter(text: string): PacketFilter {
  const frame = new Frame();
  const test = new Parser(text, frame).filter();
  return (view, off, capLen, wireLen) => {
    frame.view = view;
    frame.off = off;
    frame.end = off + capLen;
    frame.wireLen = wireLen;
    frame.ended = false;
    return test() && !frame.ended;
  };
}

type Test = () => boolean;
type Value = () => number;

/** The frame under test. Offsets are from its first byte. */
class Frame {
  view: DataView = new DataView(new ArrayBuffer(0));
  off = 0;
  end = 0;
  wireLen = 0;
  /** A load was not in the frame. */
  ended = false;

  u8(at: number): number {
    const from = this.off + at;
    if (at < 0 || from >= this.end) return this.none();
    return this.view.getUint8(from);
  }
  u16(at: number): number {
    const from = this.off + at;
    if (at < 0 || from + 2 > this.end) return this.none();
    return this.view.getUint16(from);
  }
  u32(at: number): number {
    const from = this.off + at;
    if (at < 0 || from + 4 > this.end) return this.none();
    return this.view.getUint32(from);
  }
  private none(): number {
    this.ended = true;
    return 0;
  }
}

const ETH_TYPE_RARP = 0x8035;
const ETH_TYPE_OLD_QINQ = 0x9100;
const NEXT_FRAGMENT = 44;

/** Bytes from the network header on. */
const IP_FRAGMENT = 6;
const IP_PROTO = 9;
const IP_SRC = 12;
const IP6_NEXT = 6;
const IP6_SRC = 8;
const IP6_HEADER = 40;
const ARP_SRC = 14;
const ARP_DST = 24;

/** Protocols over IP, and which versions carry them; as libpcap has them. */
const TRANSPORTS = new Map<string, { proto: number; ip: boolean; ip6: boolean }>([
  ['tcp', { proto: IPPROTO_TCP, ip: true, ip6: true }],
  ['udp', { proto: IPPROTO_UDP, ip: true, ip6: true }],
  ['sctp', { proto: IPPROTO_SCTP, ip: true, ip6: true }],
  ['icmp', { proto: IPPROTO_ICMP, ip: true, ip6: false }],
  ['icmp6', { proto: IPPROTO_ICMPV6, ip: false, ip6: true }],
  ['igmp', { proto: IPPROTO_IGMP, ip: true, ip6: false }],
  ['pim', { proto: 103, ip: true, ip6: true }],
  ['vrrp', { proto: 112, ip: true, ip6: false }],
  ['ah', { proto: 51, ip: true, ip6: true }],
  ['esp', { proto: 50, ip: true, ip6: true }],
]);
const LINK_TYPES = new Map([
  ['ip', ETH_TYPE_IP],
  ['ip6', ETH_TYPE_IPV6],
  ['arp', ETH_TYPE_ARP],
  ['rarp', ETH_TYPE_RARP],
]);
const PORTED = ['tcp', 'udp', 'sctp'];
/** As /etc/services has them. */
const SERVICES = new Map([
  ['ftp-data', 20],
  ['ftp', 21],
  ['ssh', 22],
  ['telnet', 23],
  ['smtp', 25],
  ['domain', 53],
  ['bootps', 67],
  ['bootpc', 68],
  ['tftp', 69],
  ['http', 80],
  ['kerberos', 88],
  ['pop3', 110],
  ['ntp', 123],
  ['imap2', 143],
  ['snmp', 161],
  ['bgp', 179],
  ['ldap', 389],
  ['https', 443],
  ['syslog', 514],
  ['imaps', 993],
  ['pop3s', 995],
]);
const CONSTANTS = new Map([
  ['tcpflags', 13],
  ['tcp-fin', 1],
  ['tcp-syn', 2],
  ['tcp-rst', 4],
  ['tcp-push', 8],
  ['tcp-ack', 16],
  ['tcp-urg', 32],
  ['tcp-ece', 64],
  ['tcp-cwr', 128],
  ['icmptype', 0],
  ['icmpcode', 1],
  ['icmp-echoreply', 0],
  ['icmp-unreach', 3],
  ['icmp-sourcequench', 4],
  ['icmp-redirect', 5],
  ['icmp-echo', 8],
  ['icmp-routeradvert', 9],
  ['icmp-routersolicit', 10],
  ['icmp-timxceed', 11],
  ['icmp-paramprob', 12],
  ['icmp-tstamp', 13],
  ['icmp-tstampreply', 14],
  ['icmp-ireq', 15],
  ['icmp-ireqreply', 16],
  ['icmp-maskreq', 17],
  ['icmp-maskreply', 18],
  ['icmp6type', 0],
  ['icmp6code', 1],
  ['icmp6-destinationunreach', 1],
  ['icmp6-packettoobig', 2],
  ['icmp6-timeexceeded', 3],
  ['icmp6-parameterproblem', 4],
  ['icmp6-echo', 128],
  ['icmp6-echoreply', 129],
  ['icmp6-routersolicit', 133],
  ['icmp6-routeradvert', 134],
  ['icmp6-neighborsolicit', 135],
  ['icmp6-neighboradvert', 136],
  ['icmp6-redirect', 137],
]);
/** Of the language, and not of this. */
const UNSUPPORTED = new Set(
  'gateway protochain mpls pppoed pppoes geneve vxlan llc decnet iso clnp esis isis stp ipx netbeui atalk aarp lat moprc mopdl wlan fddi tr type subtype dir inbound outbound ifname on ifindex rulenum reason rset ruleset srnr subrulenum action byte radio fddi slip carp'.split(
    ' ',
  ),
);
const WORDS_OF_LANGUAGE = new Set([
  ...LINK_TYPES.keys(),
  ...TRANSPORTS.keys(),
  ...UNSUPPORTED,
  ...'and or not host net port portrange proto src dst ether link vlan less greater len mask broadcast multicast'.split(
    ' ',
  ),
]);

/** Parentheses and the like within each other, and operators of arithmetic, at most: each takes of the stack. */
const MOST_DEPTH = 200;
const MOST_OPERATORS = 1000;

type Dir = 'or' | 'and' | 'src' | 'dst';
type Kind = 'host' | 'net' | 'port' | 'portrange' | 'proto';

/** What stands before an identifier; the next one without any has the same. */
interface Qualifiers {
  proto: string | null;
  dir: Dir;
  kind: Kind | null;
}

interface Token {
  text: string;
  at: number;
  kind: 'word' | 'number' | 'ipv4' | 'colons' | 'op' | 'end';
}

const RELATIONS = new Map<string, (a: number, b: number) => boolean>([
  ['=', (a, b) => a === b],
  ['==', (a, b) => a === b],
  ['!=', (a, b) => a !== b],
  ['<', (a, b) => a < b],
  ['<=', (a, b) => a <= b],
  ['>', (a, b) => a > b],
  ['>=', (a, b) => a >= b],
]);

/** By how strongly they bind, the weakest first; of a kind from left to right. All is modulo 2^32. */
const OPERATORS: readonly ReadonlyMap<string, (a: number, b: number) => number>[] = [
  new Map([['|', (a: number, b: number) => (a | b) >>> 0]]),
  new Map([['&', (a: number, b: number) => (a & b) >>> 0]]),
  new Map([
    ['<<', (a: number, b: number) => (b > 31 ? 0 : (a << b) >>> 0)],
    ['>>', (a: number, b: number) => (b > 31 ? 0 : a >>> b)],
  ]),
  new Map([
    ['+', (a: number, b: number) => (a + b) >>> 0],
    ['-', (a: number, b: number) => (a - b) >>> 0],
  ]),
  new Map([
    ['*', (a: number, b: number) => Math.imul(a, b) >>> 0],
    ['/', (a: number, b: number) => Math.floor(a / b)],
  ]),
];

/** A value, what must be so for it to be there, and itself if it is known. */
interface Arith {
  value: Value;
  needs: Test | null;
  constant: number | null;
}

class Parser {
  private readonly text: string;
  private readonly frame: Frame;
  private readonly tokens: Token[];
  private next = 0;
  /** How much further what comes after the addresses is: `vlan` moves it. */
  private shift = 0;
  private last: Qualifiers = { proto: null, dir: 'or', kind: null };
  private depth = 0;
  private nOperators = 0;

  constructor(text: string, frame: Frame) {
    this.text = text;
    this.frame = frame;
    this.tokens = tokenize(text);
  }

  filter(): Test {
    if (this.tokens.length === 1) return () => true;
    const test = this.expression();
    if (this.peek().kind !== 'end') this.fail(this.peek(), 'expected "and", "or" or the end');
    return test;
  }

  private expression(): Test {
    return this.row(() => this.term());
  }

  /** Conditions with `and` and `or` between them, which bind alike, from left to right. */
  private row(condition: () => Test): Test {
    const tests = [condition()];
    /** Whether `and` stands before a condition. */
    const ands = [true];
    for (;;) {
      if (this.accept('and', '&&')) ands.push(true);
      else if (this.accept('or', '||')) ands.push(false);
      else break;
      tests.push(condition());
    }
    const [a, b] = tests;
    if (tests.length === 1) return a;
    if (tests.length === 2) return ands[1] ? () => a() && b() : () => a() || b();
    // There may be thousands, of hosts for instance.
    return () => {
      let passes = true;
      for (let i = 0; i < tests.length; i++) if (passes === ands[i]) passes = tests[i]();
      return passes;
    };
  }

  /** Parses what may have the same within it. */
  private within<T>(parse: () => T): T {
    if (this.depth === MOST_DEPTH) this.fail(this.peek(), 'conditions are nested too deeply here');
    this.depth++;
    try {
      return parse();
    } finally {
      this.depth--;
    }
  }

  private term(): Test {
    return this.within(() => this.condition());
  }

  private condition(): Test {
    if (this.accept('not', '!')) {
      const test = this.term();
      return () => !test();
    }
    const relation = this.relation();
    if (relation !== null) return relation;
    if (this.accept('(')) {
      const test = this.expression();
      this.expect(')');
      return test;
    }
    return this.primitive();
  }

  /** `value < value`; null, with nothing taken, if none stands here. */
  private relation(): Test | null {
    const { next } = this;
    const token = this.peek();
    // It may be a parenthesis of the other kind, or the 443 of `port 80 or 443`.
    const isOpen = token.text === '(' || token.kind === 'number';
    const isValue =
      isOpen ||
      token.text === '-' ||
      token.text === 'len' ||
      CONSTANTS.has(token.text) ||
      this.tokens[next + 1]?.text === '[';
    if (!isValue) return null;
    let left: Arith;
    try {
      left = this.arith(0);
      if (!RELATIONS.has(this.peek().text)) this.fail(this.peek(), 'expected a comparison such as = or >');
    } catch (error) {
      if (!isOpen || !(error instanceof FilterSyntaxError)) throw error;
      this.next = next;
      return null;
    }
    const compare = RELATIONS.get(this.peek().text)!;
    this.next++;
    const right = this.arith(0);
    const a = left.value;
    const b = right.value;
    return both(both(left.needs, right.needs), () => compare(a(), b()))!;
  }

  private arith(level: number): Arith {
    if (level === OPERATORS.length) {
      const operand = this.operand();
      const token = this.peek();
      // As the grammar of libpcap has it: all that follows is the other side.
      const rest = (): Arith => this.within(() => this.arith(0));
      if (this.accept('^')) return this.combined(operand, rest(), (a, b) => (a ^ b) >>> 0, false);
      if (!this.accept('%')) return operand;
      const right = rest();
      if (right.constant === 0) this.fail(token, 'division by zero');
      return this.combined(operand, right, (a, b) => a % b, true);
    }
    let left = this.arith(level + 1);
    for (;;) {
      const token = this.peek();
      const operator = OPERATORS[level].get(token.text);
      if (operator === undefined) return left;
      this.next++;
      const right = this.arith(level + 1);
      const divides = token.text === '/';
      if (divides && right.constant === 0) this.fail(token, 'division by zero');
      left = this.combined(left, right, operator, divides);
    }
  }

  private combined(
    left: Arith,
    right: Arith,
    operator: (a: number, b: number) => number,
    divides: boolean,
  ): Arith {
    const { frame } = this;
    if (++this.nOperators > MOST_OPERATORS)
      this.fail(this.peek(), `there are more than ${MOST_OPERATORS} operators`);
    // As libpcap (gen_arth): whether the protocol of the right side is there is not asked.
    const { needs } = left;
    if (left.constant !== null && right.constant !== null) {
      const constant = operator(left.constant, right.constant);
      return { value: () => constant, needs, constant };
    }
    const a = left.value;
    const b = right.value;
    const value = divides
      ? () => {
          const divisor = b();
          // As in BPF.
          if (divisor === 0) frame.ended = true;
          return divisor === 0 ? 0 : operator(a(), divisor);
        }
      : () => operator(a(), b());
    return { value, needs, constant: null };
  }

  private operand(): Arith {
    return this.within(() => this.value());
  }

  private value(): Arith {
    const token = this.take();
    const { frame } = this;
    if (token.text === '(') {
      const inner = this.arith(0);
      this.expect(')');
      return inner;
    }
    if (token.text === '-') {
      const inner = this.operand();
      const negative = this.combined(constantOf(0), inner, (a, b) => (a - b) >>> 0, false);
      return { ...negative, needs: inner.needs };
    }
    if (token.text === 'len') return { value: () => frame.wireLen, needs: null, constant: null };
    const constant = token.kind === 'number' ? Number(token.text) : CONSTANTS.get(token.text);
    if (constant !== undefined) {
      if (constant > 0xffffffff) this.fail(token, `${token.text} does not fit into 32 bits`);
      return constantOf(constant);
    }
    if (this.peek().text !== '[') this.fail(token, 'expected a number, len, or PROTOCOL[OFFSET:SIZE]');
    return this.load(token);
  }

  /** `proto[offset:size]`, behind the name of the protocol. */
  private load(name: Token): Arith {
    const { frame } = this;
    this.expect('[');
    const offset = this.arith(0);
    let size = 1;
    if (this.accept(':')) {
      const token = this.take();
      size = Number(token.text);
      if (token.kind !== 'number' || ![1, 2, 4].includes(size)) this.fail(token, 'the size is 1, 2 or 4');
    }
    this.expect(']');
    const { base, needs } = this.header(name);
    const at = offset.value;
    const value =
      size === 1
        ? () => frame.u8(base() + at())
        : size === 2
          ? () => frame.u16(base() + at())
          : () => frame.u32(base() + at());
    return { value, needs: both(offset.needs, needs), constant: null };
  }

  /** Where a protocol's header starts, and when it is there. */
  private header(name: Token): { base: Value; needs: Test | null } {
    const network = 14 + this.shift;
    if (name.text === 'ether' || name.text === 'link') return { base: () => 0, needs: null };
    if (LINK_TYPES.has(name.text)) return { base: () => network, needs: this.linkType(name.text) };
    const transport = TRANSPORTS.get(name.text);
    if (transport === undefined) {
      return this.fail(
        name,
        `"${name.text}" has no bytes to look at; try ether, ip, ip6, arp, tcp, udp, icmp, icmp6`,
      );
    }
    if (!transport.ip) {
      return { base: () => network + IP6_HEADER, needs: this.ipProto(6, transport.proto) };
    }
    // As libpcap: of IPv4 only, of the first fragment.
    const needs = both(this.ipProto(4, transport.proto), this.firstFragment());
    return { base: this.behindIp(), needs };
  }

  private primitive(): Test {
    const token = this.peek();
    const { text } = token;
    if (text === 'less' || text === 'greater') {
      this.next++;
      const n = this.number('a length');
      const { frame } = this;
      return text === 'less' ? () => frame.wireLen <= n : () => frame.wireLen >= n;
    }
    if (text === 'vlan') return this.vlan();
    if (text === 'broadcast' || text === 'multicast') {
      this.next++;
      return this.toMany(text, null, token);
    }
    if (UNSUPPORTED.has(text)) this.fail(token, `"${text}" is not supported`);
    return this.qualified();
  }

  /** `[protocol] [direction] [kind] identifier`; an identifier alone has the last ones; a protocol may stand alone. */
  private qualified(): Test {
    const start = this.peek();
    const q: Qualifiers = { proto: null, dir: 'or', kind: null };
    const name = start.text === 'link' ? 'ether' : start.text;
    if (name === 'ether' || LINK_TYPES.has(name) || TRANSPORTS.has(name)) {
      this.next++;
      q.proto = name;
      const { text } = this.peek();
      if (text === 'broadcast' || text === 'multicast') {
        this.next++;
        return this.toMany(text, name, start);
      }
    }
    let isDirected = false;
    const dir = this.peek();
    if (dir.text === 'src' || dir.text === 'dst') {
      this.next++;
      isDirected = true;
      q.dir = dir.text;
      const joint = this.peek().text;
      const other = dir.text === 'src' ? 'dst' : 'src';
      if ((joint === 'or' || joint === 'and') && this.tokens[this.next + 1].text === other) {
        this.next += 2;
        q.dir = joint;
      }
    }
    const kind = this.peek().text;
    if (kind === 'host' || kind === 'net' || kind === 'port' || kind === 'portrange' || kind === 'proto') {
      this.next++;
      q.kind = kind;
    }
    if (q.proto === null && !isDirected && q.kind === null) {
      if (start.kind === 'end') this.fail(start, 'the filter ends where a condition should stand');
      if (start.kind === 'op') this.fail(start, `"${start.text}" is not expected here`);
      // Such as the 443 of `port 80 or 443`.
      return this.identifier(this.last.kind === null ? { ...this.last, kind: 'host' } : this.last);
    }
    const id = this.peek();
    const isAlone =
      id.kind === 'end' || (id.kind === 'op' && id.text !== '(') || id.text === 'and' || id.text === 'or';
    if (isAlone) {
      if (q.proto === null || isDirected || q.kind !== null || q.proto === 'ether') {
        this.fail(id, 'expected an address, a number or a name here');
      }
      return this.protocol(q.proto);
    }
    q.kind ??= 'host';
    this.last = q;
    return this.identifier(q);
  }

  /** An identifier, or several in parentheses: `port (80 or 443)`. */
  private identifier(q: Qualifiers): Test {
    if (!this.accept('(')) return this.simple(q);
    const test = this.row(() => this.negated(q));
    if (!this.accept(')')) this.fail(this.peek(), 'expected "and", "or" or ")"');
    return test;
  }

  private negated(q: Qualifiers): Test {
    return this.within(() => {
      if (!this.accept('not', '!')) return this.identifier(q);
      const test = this.negated(q);
      return () => !test();
    });
  }

  private simple(q: Qualifiers): Test {
    switch (q.kind) {
      case 'port':
      case 'portrange':
        return this.ports(q);
      case 'proto':
        return this.numbered(q);
      default:
        return q.proto === 'ether' ? this.station(q) : this.network(q);
    }
  }

  private protocol(name: string): Test {
    const transport = TRANSPORTS.get(name);
    if (transport === undefined) return this.linkType(name);
    const tests = [
      transport.ip ? this.ipProto(4, transport.proto) : null,
      transport.ip6 ? this.ipProto(6, transport.proto) : null,
    ];
    return either(tests);
  }

  private vlan(): Test {
    this.next++;
    const { frame } = this;
    const at = 12 + this.shift;
    this.shift += 4;
    let id = -1;
    if (this.peek().kind === 'number') {
      const token = this.peek();
      id = this.number('a VLAN id');
      if (id > 4095) this.fail(token, 'a VLAN id is below 4096');
    }
    return () => {
      const type = frame.u16(at);
      if (type !== ETH_TYPE_VLAN && type !== ETH_TYPE_QINQ && type !== ETH_TYPE_OLD_QINQ) return false;
      return id < 0 || (frame.u16(at + 2) & 0xfff) === id;
    };
  }

  private toMany(what: string, proto: string | null, token: Token): Test {
    const { frame } = this;
    const network = 14 + this.shift;
    if (proto === null || proto === 'ether') {
      if (what === 'multicast') return () => (frame.u8(0) & 1) !== 0;
      return () => frame.u32(0) === 0xffffffff && frame.u16(4) === 0xffff;
    }
    if (what === 'multicast' && proto === 'ip') {
      return both(this.linkType('ip'), () => frame.u8(network + IP_SRC + 4) >= 224)!;
    }
    if (what === 'multicast' && proto === 'ip6') {
      return both(this.linkType('ip6'), () => frame.u8(network + IP6_SRC + 16) === 255)!;
    }
    return this.fail(token, `"${proto} ${what}" is not supported`);
  }

  private linkType(name: string): Test {
    const { frame } = this;
    const at = 12 + this.shift;
    const type = LINK_TYPES.get(name)!;
    return () => frame.u16(at) === type;
  }

  /** IPv6: the next header, or that behind a fragment header. */
  private ipProto(version: 4 | 6, proto: number): Test {
    const { frame } = this;
    const network = 14 + this.shift;
    if (version === 4) return both(this.linkType('ip'), () => frame.u8(network + IP_PROTO) === proto)!;
    return both(this.linkType('ip6'), () => {
      const next = frame.u8(network + IP6_NEXT);
      return next === proto || (next === NEXT_FRAGMENT && frame.u8(network + IP6_HEADER) === proto);
    })!;
  }

  private firstFragment(): Test {
    const { frame } = this;
    const at = 14 + this.shift + IP_FRAGMENT;
    return () => (frame.u16(at) & 0x1fff) === 0;
  }

  private behindIp(): Value {
    const { frame } = this;
    const network = 14 + this.shift;
    return () => network + ((frame.u8(network) & 15) << 2);
  }

  /** `proto N`: of IP, or an EtherType. */
  private numbered(q: Qualifiers): Test {
    const token = this.take();
    const name = token.text.replace(/^\\/, '');
    if (q.proto === 'ether') {
      const type = token.kind === 'number' ? Number(name) : LINK_TYPES.get(name);
      if (type === undefined || type > 0xffff) {
        return this.fail(token, 'expected an EtherType, or ip, ip6, arp, rarp');
      }
      if (type <= 1500) this.fail(token, 'EtherTypes begin at 1501; LLC is not supported');
      const { frame } = this;
      const at = 12 + this.shift;
      return () => frame.u16(at) === type;
    }
    if (q.proto !== null && q.proto !== 'ip' && q.proto !== 'ip6') {
      return this.fail(token, `"${q.proto} proto" is no condition; ip, ip6 and ether have it`);
    }
    const proto = token.kind === 'number' ? Number(name) : TRANSPORTS.get(name)?.proto;
    if (proto === undefined || proto > 255) {
      return this.fail(
        token,
        `expected a protocol number below 256, or ${[...TRANSPORTS.keys()].join(', ')}`,
      );
    }
    return either([
      q.proto === 'ip6' ? null : this.ipProto(4, proto),
      q.proto === 'ip' ? null : this.ipProto(6, proto),
    ]);
  }

  private ports(q: Qualifiers): Test {
    const token = this.peek();
    if (q.proto !== null && !PORTED.includes(q.proto)) {
      this.fail(token, `"${q.proto} port" is no condition; tcp, udp and sctp have ports`);
    }
    const low = this.port();
    const high = q.kind === 'portrange' && this.accept('-') ? this.port() : low;
    const [least, most] = low <= high ? [low, high] : [high, low];
    const protos = q.proto !== null && PORTED.includes(q.proto) ? [q.proto] : PORTED;
    const numbers = protos.map((name) => TRANSPORTS.get(name)!.proto);
    const { frame } = this;
    const network = 14 + this.shift;
    const isPorted =
      (at: number): Test =>
      () =>
        numbers.includes(frame.u8(network + at));
    const within = (base: Value): Test =>
      this.ends(q, (dst) => () => {
        const port = frame.u16(base() + (dst ? 2 : 0));
        return port >= least && port <= most;
      });
    // The order of libpcap: the protocol, then whether it is a fragment, then the ports.
    const ip = [this.linkType('ip'), isPorted(IP_PROTO), this.firstFragment(), within(this.behindIp())];
    const ip6 = [this.linkType('ip6'), isPorted(IP6_NEXT), within(() => network + IP6_HEADER)];
    return either([all(ip), all(ip6)]);
  }

  private port(): number {
    const token = this.take();
    const port = token.kind === 'number' ? Number(token.text) : SERVICES.get(token.text.replace(/^\\/, ''));
    if (port === undefined)
      return this.fail(token, `"${token.text}" is no port that is known; give its number`);
    if (port > 65535) this.fail(token, `${token.text} is no port: they end at 65535`);
    return port;
  }

  /** A test at the source, the destination, either or both. */
  private ends(q: Qualifiers, test: (dst: boolean) => Test): Test {
    const src = test(false);
    const dst = test(true);
    switch (q.dir) {
      case 'src':
        return src;
      case 'dst':
        return dst;
      case 'and':
        return () => src() && dst();
      case 'or':
        return () => src() || dst();
    }
  }

  /** `ether host`, `ether src`, `ether dst`. */
  private station(q: Qualifiers): Test {
    const token = this.take();
    if (!/^[0-9a-f]{1,2}(:[0-9a-f]{1,2}){5}$/i.test(token.text)) {
      this.fail(token, 'expected an Ethernet address such as 00:16:3e:00:00:01');
    }
    const bytes = token.text.split(':').map((b) => Number.parseInt(b, 16));
    const high = (bytes[0] * 2 ** 24 + (bytes[1] << 16) + (bytes[2] << 8) + bytes[3]) >>> 0;
    const low = (bytes[4] << 8) | bytes[5];
    const { frame } = this;
    return this.ends(q, (dst) => {
      const at = dst ? 0 : 6;
      return () => frame.u16(at + 4) === low && frame.u32(at) === high;
    });
  }

  /** `host`, `net`. */
  private network(q: Qualifiers): Test {
    const token = this.take();
    const { proto } = q;
    if (proto !== null && !LINK_TYPES.has(proto)) {
      return this.fail(token, `"${proto}" has no addresses; ip, ip6, arp, rarp and ether have`);
    }
    if (isIP(token.text) === 6) return this.network6(q, token);
    if (token.kind !== 'ipv4' && token.kind !== 'number') return this.noAddress(token);
    if (proto === 'ip6') this.fail(token, 'ip6 needs an address of IPv6');
    const { address, mask } = this.prefix4(q, token);
    const { frame } = this;
    const network = 14 + this.shift;
    const tests = [...LINK_TYPES.keys()]
      .filter((name) => name !== 'ip6' && (proto === null || proto === name))
      .map((name) => {
        const [src, dst] = name === 'ip' ? [IP_SRC, IP_SRC + 4] : [ARP_SRC, ARP_DST];
        const at = this.ends(q, (isDst) => {
          const from = network + (isDst ? dst : src);
          return () => (frame.u32(from) & mask) >>> 0 === address;
        });
        return both(this.linkType(name), at);
      });
    return either(tests);
  }

  /** `10.1.2.3`, `10.1.0.0/16`, `10.1`, `10.1.0.0 mask 255.255.0.0`. */
  private prefix4(q: Qualifiers, token: Token): { address: number; mask: number } {
    const parts = token.text.split('.');
    const isNet = q.kind === 'net';
    if (parts.length < 4 && !isNet) this.fail(token, 'expected an address of four numbers; or say net');
    const given = Math.min(4, parts.length);
    const whole = parseIpv4Strict([...parts, '0', '0', '0'].slice(0, 4).join('.'));
    if (whole === null || parts.length > 4) return this.fail(token, `${token.text} is no address`);
    const address = whole >>> 0;
    let bits = isNet ? 8 * given : 32;
    let mask = bits === 0 ? 0 : (-1 << (32 - bits)) >>> 0;
    if (this.peek().text === '/') {
      if (!isNet) this.fail(this.peek(), 'a prefix needs net before it');
      this.next++;
      const length = this.peek();
      bits = this.number('the length of a prefix');
      if (bits > 32) this.fail(length, 'a prefix of IPv4 has at most 32 bits');
      mask = bits === 0 ? 0 : (-1 << (32 - bits)) >>> 0;
    } else if (isNet && this.accept('mask')) {
      const text = this.take();
      const word = parseIpv4Strict(text.text);
      if (word === null) return this.fail(text, 'expected a mask such as 255.255.0.0');
      mask = word >>> 0;
    }
    if ((address & ~mask) !== 0) this.fail(token, `${token.text} has bits that are not of its network`);
    return { address, mask };
  }

  private network6(q: Qualifiers, token: Token): Test {
    if (q.proto !== null && q.proto !== 'ip6') this.fail(token, `${q.proto} needs an address of IPv4`);
    const words = new Int32Array(4);
    if (!parseIpv6Strict(token.text, words)) return this.noAddress(token);
    let bits = 128;
    if (this.peek().text === '/') {
      if (q.kind !== 'net') this.fail(this.peek(), 'a prefix needs net before it');
      this.next++;
      const length = this.peek();
      bits = this.number('the length of a prefix');
      if (bits > 128) this.fail(length, 'a prefix of IPv6 has at most 128 bits');
    }
    const masks = words.map((_, i) => {
      const left = Math.max(0, Math.min(32, bits - 32 * i));
      return left === 0 ? 0 : -1 << (32 - left);
    });
    if (words.some((w, i) => (w & ~masks[i]) !== 0)) {
      this.fail(token, `${token.text} has bits that are not of its network`);
    }
    const { frame } = this;
    const network = 14 + this.shift;
    const at = this.ends(q, (dst) => {
      const from = network + IP6_SRC + (dst ? 16 : 0);
      return () => words.every((w, i) => (frame.u32(from + 4 * i) & masks[i]) === w);
    });
    return both(this.linkType('ip6'), at)!;
  }

  private noAddress(token: Token): never {
    if (token.kind === 'word' && UNSUPPORTED.has(token.text)) {
      this.fail(token, `"${token.text}" is not supported`);
    }
    if (token.kind === 'word' && WORDS_OF_LANGUAGE.has(token.text)) {
      this.fail(token, `"${token.text}" can't stand here; put "and" or "or" between conditions`);
    }
    return this.fail(
      token,
      token.kind === 'word'
        ? `"${token.text}" is no condition and no address; names of hosts are not looked up`
        : `"${token.text}" is no address`,
    );
  }

  private number(what: string): number {
    const token = this.take();
    if (token.kind !== 'number') this.fail(token, `expected ${what}`);
    return Number(token.text);
  }

  private peek(): Token {
    return this.tokens[this.next];
  }

  private take(): Token {
    const token = this.tokens[this.next];
    if (token.kind === 'end') this.fail(token, 'the filter ends too early');
    this.next++;
    return token;
  }

  private accept(...texts: string[]): boolean {
    if (!texts.includes(this.peek().text)) return false;
    this.next++;
    return true;
  }

  private expect(text: string): void {
    if (!this.accept(text)) this.fail(this.peek(), `expected "${text}"`);
  }

  private fail(token: Token, message: string): never {
    throw new FilterSyntaxError(this.text, token.at, message);
  }
}

function constantOf(constant: number): Arith {
  return { value: () => constant, needs: null, constant };
}

function both(a: Test | null, b: Test | null): Test | null {
  if (a === null || b === null) return a ?? b;
  return () => a() && b();
}

function all(tests: readonly Test[]): Test {
  return () => tests.every((test) => test());
}

function either(tests: readonly (Test | null)[]): Test {
  return tests.filter((t) => t !== null).reduce((a, b) => () => a() || b());
}

/** Numbers in brackets stand before a colon; elsewhere a colon is of an address. */
const OUTSIDE =
  /\s*(?:(?<colons>[0-9a-f]*:[0-9a-f:]*(?:\d+\.\d+\.\d+\.\d+)?)|(?<ipv4>\d+(?:\.\d+){1,3})|(?<number>0x[0-9a-f]+|\d+)|(?<word>\\?[a-z_][a-z0-9_]*(?:-[a-z0-9_]+)*)|(?<op><<|>>|<=|>=|==|!=|&&|\|\||[()[\]!<>=+\-*/%&|^])|(?<bad>\S)|(?<end>$))/giy;
const INSIDE =
  /\s*(?:(?<number>0x[0-9a-f]+|\d+)|(?<word>[a-z_][a-z0-9_]*(?:-[a-z_]+)*)|(?<op><<|>>|[()[\]:+\-*/%&|^])|(?<bad>\S)|(?<end>$))/giy;

function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  let depth = 0;
  for (let at = 0; ; ) {
    const pattern = depth > 0 ? INSIDE : OUTSIDE;
    pattern.lastIndex = at;
    const groups = pattern.exec(text)!.groups!;
    const [kind, found] = Object.entries(groups).find(([, value]) => value !== undefined)!;
    const from = pattern.lastIndex - found.length;
    if (kind === 'bad') throw new FilterSyntaxError(text, from, `"${found}" is not of the language`);
    // Octal as in C.
    const value = kind === 'number' && /^0[0-7]+$/.test(found) ? String(Number.parseInt(found, 8)) : found;
    tokens.push({ text: value, at: from, kind: kind as Token['kind'] });
    if (kind === 'end') return tokens;
    if (found === '[') depth++;
    if (found === ']') depth--;
    at = pattern.lastIndex;
  }
}
