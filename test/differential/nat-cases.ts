/** Draws cases for the NAT fuzzer: a small flow table that translates, clients whose connections get into each other's
 *  way, servers that answer what they see, ICMP errors from both, pauses in which connections end, flushes.
 *
 *  In an *exact* case Open vSwitch has no choice (one address, no port or one), so both sides must send the very same
 *  bytes. In a *free* one it draws from a range, by a hash that differs in every run: then clients have a port of their
 *  own each, unless there is one address only, so that the choice decides nothing but itself. */
import { Random } from '../support/packets.js';
import { isFragment, layers } from './frame.js';
import { type Arrival, copyOf, type LiveCase, type Seen, type Step } from './live.js';
import {
  ACK,
  type Bytes,
  cat,
  type Ends,
  echo,
  ends,
  FIN,
  fragments,
  type IpOptions,
  icmp,
  icmpError,
  ip,
  PSH,
  RST,
  SYN,
  sctp,
  tcp,
  u16,
  u32,
  udp,
} from './packets.js';
import { SHOW } from './scenarios/script.js';

/** What Open vSwitch is free to choose. */
export interface Free {
  /** Begins the text of every address that may be chosen. */
  readonly pool: string;
  /** Whether ports are drawn too. */
  readonly ports: boolean;
}

export interface NatCase extends LiveCase {
  readonly about: string;
  readonly free: Free | null;
}

const STEP_US = 200;
const be16 = (b: Bytes, o: number): number => (b[o] << 8) | b[o + 1];
const be32 = (b: Bytes, o: number): number => ((be16(b, o) << 16) | be16(b, o + 2)) >>> 0;

/** How a receiver answers. */
export interface Manner {
  readonly flags?: number;
  readonly data?: number | string;
  readonly badL4?: boolean;
  readonly noSum?: boolean;
  /** TCP options of the answer. */
  readonly opts?: readonly number[];
}

/** What the receiver of a frame sends back, or null if it sends nothing. */
export function answerTo(frame: Bytes, how: Manner = {}): Bytes | null {
  const l = layers(frame);
  if (!l.version || isFragment(frame) || l.l4 + 8 > frame.length) return null;
  const e = ends(l.dst, be16(frame, l.l4 + 2), l.src, be16(frame, l.l4));
  const { badL4, noSum } = how;
  const o = { ...(badL4 ? { badL4 } : {}), ...(noSum ? { noSum } : {}) };
  if (l.proto === 6) return answerTcp(frame, l.l4, e, how);
  if (l.proto === 17) return udp(e, { data: how.data ?? 'answer', ...o });
  if (l.proto === 132) return sctp(e, 1, [2, 0, 0, 4]);
  if (l.proto === 47) return ip(l.dst, l.src, 47, cat(u32(0x0800)));
  if (l.proto !== 1 && l.proto !== 58) return null;
  const type = frame[l.l4];
  const id = be16(frame, l.l4 + 4);
  if (type === 8 || type === 128) return echo(l.dst, l.src, id, true, badL4 ? { badL4 } : {});
  if (type === 13) return icmp(l.dst, l.src, 14, [...u16(id), 0, 1]);
  return null;
}

function answerTcp(frame: Bytes, l4: number, e: Ends, how: Manner): Bytes {
  const got = frame[l4 + 13];
  const l3 = layers(frame).l3;
  const end = layers(frame).version === 4 ? l3 + be16(frame, l3 + 2) : l3 + 40 + be16(frame, l3 + 4);
  const size = end - l4 - (frame[l4 + 12] >> 4) * 4 + (got & SYN ? 1 : 0) + (got & FIN ? 1 : 0);
  const seq = got & ACK ? be32(frame, l4 + 8) : 5000;
  const ack = (be32(frame, l4 + 4) + size) >>> 0;
  const flags =
    how.flags ?? (got & SYN && !(got & ACK) ? SYN | ACK : how.data === undefined ? ACK : PSH | ACK);
  const { data, badL4, opts } = how;
  return tcp(e, flags, seq, flags & ACK ? ack : 0, {
    ...(data === undefined || flags & SYN ? {} : { data }),
    ...(badL4 ? { badL4 } : {}),
    ...(opts ? { opts } : {}),
  });
}

interface Addresses {
  readonly clients: readonly string[];
  readonly servers: readonly string[];
  readonly vips: readonly string[];
  readonly out: string;
  readonly router: string;
  /** Begin the addresses of a range for nat(src) and nat(dst). */
  readonly srcPool: string;
  readonly dstPool: string;
  readonly zero: string;
}

const V4: Addresses = {
  clients: ['10.1.1.1', '10.1.1.2', '10.1.1.3', '10.1.1.4'],
  servers: ['10.1.2.1', '10.1.2.2'],
  vips: ['10.254.0.1', '10.254.0.2'],
  out: '10.9.0.1',
  router: '10.8.8.8',
  srcPool: '10.9.0.',
  dstPool: '10.77.0.',
  zero: '0.0.0.0',
};
const V6: Addresses = {
  clients: ['fc00::1', 'fc00::2', 'fc00::3', 'fc00::4'],
  servers: ['fc00:2::1', 'fc00:2::2'],
  vips: ['fd00:fe::1', 'fd00:fe::2'],
  out: 'fd00:9::1',
  router: 'fd00:8::8',
  srcPool: 'fd00:9::',
  dstPool: 'fd00:77::',
  zero: '::',
};
/** At the edges of the classes that a port without range keeps to. */
const PORTS = [1, 5, 500, 511, 512, 599, 600, 1023, 1024, 4000, 4001, 65535];
const ZONES = [0, 1, 7, 65535];

/** The address part of a nat() argument. */
const at = (address: string, ports: string): string =>
  ports === '' ? address : address.includes(':') ? `[${address}]:${ports}` : `${address}:${ports}`;

class Drawer {
  readonly steps: Step[] = [];
  readonly r: Random;
  readonly six: boolean;
  readonly a: Addresses;
  readonly free: Free | null;
  /** Steps whose packets may have come out somewhere. */
  readonly sent: number[] = [];
  private us = 0;

  constructor(r: Random, six: boolean, free: Free | null) {
    this.r = r;
    this.six = six;
    this.a = six ? V6 : V4;
    this.free = free;
  }

  packet(note: string, packet: (seen: Seen) => Arrival | null): number {
    this.us += STEP_US;
    this.sent.push(this.steps.length);
    this.steps.push({ us: this.us, note, packet });
    return this.steps.length - 1;
  }

  send(note: string, port: number, frame: Bytes): number {
    return this.packet(note, () => ({ port, frame }));
  }

  cmd(...cmd: string[]): void {
    this.us += STEP_US;
    this.steps.push({ us: this.us, note: cmd.join(' '), cmd });
  }

  wait(seconds: number): void {
    this.us += seconds * 1e6;
  }

  /** The packet that came out for step `of`, answered by whoever got it. */
  answer(of: number, how: Manner = {}): number {
    return this.packet(`answer to step ${of}`, (seen) => {
      const got = copyOf(seen, of);
      const frame = got === null ? null : answerTo(got.frame, how);
      return got === null || frame === null ? null : { port: got.port, frame };
    });
  }

  /** The same, so large that it comes in two or three pieces. */
  answerInPieces(of: number): void {
    const { r } = this;
    const data = 1500 + r.int(2000);
    const ident = 1 + r.int(60_000);
    const order = r.once(4) ? [2, 1, 0] : [0, 1, 2];
    for (const k of order) {
      this.packet(`piece ${k} of an answer to step ${of}`, (seen) => {
        const got = copyOf(seen, of);
        const l = got === null ? null : layers(got.frame);
        if (got === null || l?.proto !== 17) return null;
        const whole = answerTo(got.frame, { data });
        const piece = whole === null ? undefined : fragments(whole, [1480, 1480], ident)[k];
        return piece === undefined ? null : { port: got.port, frame: piece };
      });
    }
  }

  error(of: number): number {
    const { r, a, six } = this;
    const router = r.once(2);
    const keep = r.pick([1500, 1500, six ? 48 : 28, six ? 60 : 40, six ? 47 : 27]);
    const [type, code] = r.pick(
      six
        ? [
            [1, 0],
            [1, 4],
            [2, 0],
            [3, 0],
          ]
        : [
            [3, 1],
            [3, 3],
            [3, 4],
            [11, 0],
            [12, 0],
          ],
    );
    const rest = r.once(2) ? u32(1400) : u32(0);
    return this.packet(`ICMP error about step ${of}`, (seen) => {
      const got = copyOf(seen, of);
      if (got === null) return null;
      const l = layers(got.frame);
      if (!l.version || isFragment(got.frame)) return null;
      const frame = icmpError(router ? a.router : l.dst, l.src, got.frame, { type, code, keep, rest });
      return { port: got.port, frame };
    });
  }
}

/** A nat() argument of which Open vSwitch chooses nothing. */
function exactNat(d: Drawer, way: 'src' | 'dst'): string {
  const { r, a } = d;
  const flags = r.pick(['', '', '', ',persistent', ',hash', ',random', ',random,persistent']);
  const ports = r.pick(['', '', '', '80', '512', '40000', '1']);
  if (way === 'src' && r.once(6)) return `nat(src=${at(a.zero, '')})`;
  if (way === 'src') return `nat(src=${at(a.out, ports)}${flags})`;
  return `nat(dst=${at(r.pick(a.servers), ports)}${flags})`;
}

/** One of which it chooses an address, or a port, or both. */
function freeNat(d: Drawer, way: 'src' | 'dst', several: boolean): string {
  const { r, a, free } = d;
  const { pool, ports } = free!;
  const flags = r.pick(['', ',persistent', ',hash', ',random', ',random,persistent', ',hash,persistent']);
  const range = ports
    ? r.pick(several ? ['1024-65535', '40000-41000'] : ['5000-5002', '5000-5007', '1-65535'])
    : '';
  const last = r.pick(['2', '4', '9']);
  const one = (text: string) => (a === V6 && (several || range !== '') ? `[${text}]` : text);
  const addresses = several ? `${one(`${pool}1`)}-${one(`${pool}${last}`)}` : one(`${pool}1`);
  return `nat(${way}=${addresses}${range === '' ? '' : `:${range}`}${flags})`;
}

/** A flow table, and what it needs of the traffic. */
interface Table {
  readonly about: string;
  readonly flows: string;
  readonly groups?: string;
}

function tableOf(d: Drawer, natOf: (way: 'src' | 'dst') => string): Table {
  const { r, six, a } = d;
  const ip = six ? 'ipv6' : 'ip';
  const dst = six ? 'ipv6_dst' : 'nw_dst';
  const zone = r.pick(ZONES);
  const [z1, z2] = r.pick([
    [1, 2],
    [0, 9],
    [7, 7],
  ]);
  const way = d.free === null ? r.pick(['src', 'dst'] as const) : d.free.pool === a.srcPool ? 'src' : 'dst';
  const nat = natOf(way);
  const exec = r.once(3) ? ',exec(set_field:0x2a->ct_mark)' : '';
  const force = d.free === null && r.once(10) ? ',force' : '';
  const show = `table=9,in_port=1,actions=${SHOW},output:2
table=9,in_port=2,actions=${SHOW},output:1
`;
  const l4 = six ? ['tcp6', 'udp6'] : ['tcp', 'udp'];
  const choices: (() => Table)[] = [
    () => ({
      about: `commit at once: ${nat}`,
      flows: `in_port=1,${ip},actions=ct(commit${force},zone=${zone},${nat}${exec},table=9)
in_port=2,${ip},actions=ct(zone=${zone},nat,table=9)
${show}`,
    }),
    () => ({
      about: `look up first, commit what is new: ${nat}`,
      flows: `${ip},actions=ct(zone=${zone},nat,table=1)
table=1,priority=9,${ip},ct_state=+inv,actions=resubmit(,9)
table=1,priority=8,${ip},ct_state=+new,in_port=1,actions=ct(commit,zone=${zone},${nat}${exec},table=9)
table=1,priority=7,${ip},ct_state=+new,in_port=2,actions=${r.pick(['drop', 'resubmit(,9)', `ct(commit,zone=${zone},table=9)`])}
table=1,priority=1,${ip},actions=resubmit(,9)
${show}`,
    }),
    () => ({
      about: `in line: ${nat}`,
      flows: `in_port=1,${ip},actions=ct(commit,zone=${zone},${nat}${exec}),output:2
in_port=2,${ip},actions=ct(zone=${zone},nat),output:1
`,
    }),
    () => ({
      about: `looked up without nat, then with it: ${nat}`,
      flows: `in_port=1,${ip},actions=ct(zone=${zone},table=1)
in_port=2,${ip},actions=ct(zone=${zone},table=2)
table=1,priority=9,${ip},ct_state=+new,actions=ct(commit,zone=${zone},${nat}${exec},table=9)
table=1,priority=1,${ip},actions=ct(zone=${zone},nat,table=9)
table=2,priority=9,${ip},ct_state=+new,actions=resubmit(,9)
table=2,priority=1,${ip},actions=ct(zone=${zone},nat,table=9)
${show}`,
    }),
    () => ({
      about: `two protocols, translated and not: ${nat}`,
      flows: `in_port=1,${l4[0]},actions=ct(commit,zone=${zone},${nat},table=9)
in_port=1,${l4[1]},actions=ct(commit,zone=${zone}${exec},table=9)
priority=1,in_port=1,${ip},actions=ct(commit,zone=${zone},${nat},table=9)
in_port=2,${ip},actions=ct(zone=${zone},nat,table=9)
${show}`,
    }),
  ];
  if (d.free === null) {
    const src = exactNat(d, 'src');
    const to = exactNat(d, 'dst');
    const [vip, other] = a.vips;
    choices.push(
      () => ({
        about: `destination in zone ${z1}, source in zone ${z2}: ${to}, ${src}`,
        flows: `in_port=1,${ip},actions=ct(commit,zone=${z1},${to},table=1)
table=1,priority=1,${ip},actions=ct(commit,zone=${z2},${src},table=9)
in_port=2,${ip},actions=ct(zone=${z2},nat,table=2)
table=2,priority=1,${ip},actions=ct(zone=${z1},nat,table=9)
${show}`,
      }),
      () => ({
        about: `source in zone ${z1}, destination in zone ${z2}, looked up first: ${src}, ${to}`,
        flows: `in_port=1,${ip},actions=ct(zone=${z1},nat,table=1)
table=1,priority=9,${ip},ct_state=+new-rel,actions=ct(commit,zone=${z1},${src},table=2)
table=1,priority=1,${ip},actions=resubmit(,2)
table=2,priority=1,${ip},actions=ct(zone=${z2},nat,table=3)
table=3,priority=9,${ip},ct_state=+new-rel,actions=ct(commit,zone=${z2},${to}${exec},table=9)
table=3,priority=1,${ip},actions=resubmit(,9)
in_port=2,${ip},actions=ct(zone=${z2},nat,table=4)
table=4,priority=1,${ip},actions=ct(zone=${z1},nat,table=9)
${show}`,
      }),
      () => ({
        about: `hairpin: clients reach each other by ${vip}`,
        flows: `in_port=1,${ip},actions=ct(zone=1,nat,table=1)
in_port=2,${ip},actions=ct(zone=1,nat,table=1)
table=1,priority=9,${ip},ct_state=+new,${dst}=${vip},actions=ct(commit,zone=1,nat(dst=${a.clients[0]}),table=2)
table=1,priority=8,${ip},ct_state=+new,${dst}=${other},actions=ct(commit,zone=1,nat(dst=${at(a.clients[1], '80')}),table=2)
table=1,priority=1,${ip},actions=resubmit(,2)
table=2,priority=1,${ip},actions=ct(zone=2,nat,table=3)
table=3,priority=9,${ip},ct_state=+new,${six ? 'ipv6_src=fc00::/64' : 'nw_src=10.1.1.0/24'},actions=ct(commit,zone=2,nat(src=${vip}),table=4)
table=3,priority=1,${ip},actions=resubmit(,4)
table=4,in_port=1,actions=${SHOW},in_port
table=4,in_port=2,actions=${SHOW},output:1
`,
      }),
      () => ({
        about: `floating address: ${a.vips[0]} is ${a.clients[0]}`,
        flows: `in_port=1,${ip},actions=ct(zone=${zone},nat,table=1)
in_port=2,${ip},actions=ct(zone=${zone},nat,table=2)
table=1,priority=9,${ip},ct_state=+new,${six ? 'ipv6_src' : 'nw_src'}=${a.clients[0]},actions=ct(commit,zone=${zone},nat(src=${a.vips[0]}),table=9)
table=1,priority=5,${ip},ct_state=+new,actions=ct(commit,zone=${zone},${src},table=9)
table=1,priority=1,${ip},actions=resubmit(,9)
table=2,priority=9,${ip},ct_state=+new,${dst}=${a.vips[0]},actions=ct(commit,zone=${zone},nat(dst=${a.clients[0]}),table=9)
table=2,priority=1,${ip},actions=resubmit(,9)
${show}`,
      }),
      () => {
        const [type, buckets] = r.pick([
          [
            'ff',
            `bucket=watch_port:1,ct(commit,zone=${z1},${to},table=9),bucket=watch_port:2,ct(commit,zone=${z1},${src},table=9)`,
          ],
          ['indirect', `bucket=ct(commit,zone=${z1},${src}${exec},table=9)`],
          [
            'all',
            `bucket=ct(commit,zone=${z1},${to},table=9),bucket=ct(commit,zone=${z1 + 1},${src},table=9)`,
          ],
        ]);
        return {
          about: `a group of type ${type}: ${to}, ${src}`,
          flows: `in_port=1,${ip},actions=ct(zone=${z1},nat,table=1)
in_port=2,${ip},actions=ct(zone=${z1},nat,table=9)
table=1,priority=9,${ip},ct_state=+new-inv,actions=group:1
table=1,priority=1,${ip},actions=resubmit(,9)
${show}`,
          groups: `group_id=1,type=${type},${buckets}`,
        };
      },
      () => ({
        about: `a copy and the packet itself: ${src}, ${to}`,
        flows: `in_port=1,${ip},actions=clone(ct(commit,zone=${z1},${src}),${SHOW},output:2),ct(commit,zone=${z1 + 1},${to},table=9)
in_port=2,${ip},actions=ct(zone=${z1},nat,table=1)
table=1,priority=9,${ip},ct_state=-new,actions=resubmit(,9)
table=1,priority=1,${ip},actions=ct_clear,ct(zone=${z1 + 1},nat,table=9)
${show}`,
      }),
      () => helperTable(d, zone, way === 'src' ? src : to),
    );
  }
  return r.pick(choices)();
}

/** FTP and TFTP with helpers; data connections take what the helper has promised. */
function helperTable(d: Drawer, zone: number, nat: string): Table {
  const ip = d.six ? 'ipv6' : 'ip';
  const [t, u] = d.six ? ['tcp6', 'udp6'] : ['tcp', 'udp'];
  const back = d.r.once(5) ? '' : ',nat';
  return {
    about: `helpers: ${nat}`,
    flows: `priority=9,in_port=1,${t},tp_dst=21,actions=ct(commit,zone=${zone},alg=ftp,${nat},exec(set_field:7->ct_mark),table=9)
priority=9,in_port=1,${u},tp_dst=69,actions=ct(commit,zone=${zone},alg=tftp,${nat},table=9)
priority=5,${ip},actions=ct(zone=${zone},nat,table=1)
table=1,priority=9,${ip},ct_state=+new+rel,actions=ct(commit,zone=${zone}${back},table=9)
table=1,priority=5,${ip},ct_state=+new,in_port=1,actions=ct(commit,zone=${zone},${nat},table=9)
table=1,priority=1,${ip},actions=resubmit(,9)
table=9,in_port=1,actions=${SHOW},output:2
table=9,in_port=2,actions=${SHOW},output:1
`,
  };
}

interface Conn {
  readonly proto: string;
  readonly e: Ends;
}

function connection(d: Drawer, i: number, unique: boolean): Conn {
  const { r, a, six, free } = d;
  const ownPorts = unique ? 2000 + 17 * i : r.pick(PORTS);
  const proto = r.pick(
    free?.pool === a.dstPool && free.ports
      ? ['tcp', 'udp', 'udp', 'sctp']
      : free !== null && !unique && !free.ports
        ? ['tcp', 'udp']
        : free !== null
          ? ['tcp', 'tcp', 'udp', 'udp', 'sctp', ...(six ? [] : ['ping'])]
          : [
              'tcp',
              'tcp',
              'udp',
              'udp',
              'udp',
              'ping',
              'ping',
              'sctp',
              'gre',
              ...(six ? [] : ['stamp', 'unsummed']),
            ],
  );
  const b = r.pick([...a.servers, ...a.vips, a.vips[0]]);
  const bp = r.pick([53, 80, 80, 21, 69]);
  return { proto, e: ends(r.pick(a.clients), ownPorts, b, proto === 'tcp' && bp === 69 ? 21 : bp) };
}

/** What may stand around a packet: tags, padding, IPv4 options. Not IPv6 extension headers, behind which Open vSwitch gets
 *  checksums wrong (docs/ovs-differences.md). */
function wrapping(r: Random, six: boolean): IpOptions {
  if (!r.once(5)) return {};
  return r.pick<IpOptions>([
    { vlan: [5] },
    { vlan: [5, 6] },
    { pad: 6 },
    six ? { tos: 3 } : { options: [1, 1, 1, 0] },
    { tos: 0x2e },
  ]);
}

function opening({ proto, e }: Conn, r: Random): Bytes {
  const o = wrapping(r, e.a.includes(':'));
  if (proto === 'tcp') {
    return r.once(6) ? tcp(e, PSH | ACK, 1000, 7000, { ...o, data: 9 }) : tcp(e, SYN, 1000, 0, o);
  }
  if (proto === 'udp') return udp(e, { ...o, data: r.pick(['x', 'data', 'longer data']) });
  if (proto === 'unsummed') return udp(e, { ...o, noSum: true });
  if (proto === 'ping') return echo(e.a, e.b, e.ap, false, o);
  if (proto === 'stamp') return icmp(e.a, e.b, 13, [...u16(e.ap), 0, 1], o);
  if (proto === 'sctp') return sctp(e, 1, [1, 0, 0, 4], o);
  return ip(e.a, e.b, 47, cat(u32(0x0800)), o);
}

/** SACK-permitted's blocks as a receiver would send them (RFC 2018), with two bytes of padding before. */
const sack = (from: number, to: number): number[] => [1, 1, 5, 10, ...u32(from), ...u32(to)];

/** A conversation on a control connection of FTP that step `syn` opened, answered by the frames as they came out. */
function ftp(d: Drawer, syn: number, c: Conn): void {
  const { r, six } = d;
  let last = d.answer(d.answer(syn));
  for (let n = 1 + r.int(4); n > 0; n--) {
    const port = 2000 + r.int(9);
    const quad = (text: string) => text.replaceAll('.', ',');
    const active = (ip: string) =>
      six
        ? `EPRT |2|${ip}|${port}|\r\n`
        : r.once(3)
          ? `EPRT |1|${ip}|${port}|\r\n`
          : `PORT ${quad(ip)},${port >> 8},${port & 255}\r\n`;
    const kind = r.int(5);
    // Acknowledges what the client sent last: the client's next segment follows from it.
    const heard = d.answer(last, r.once(3) ? { opts: sack(100, 200) } : {});
    if (kind <= 1) {
      // The client announces: its own address, or now and then another one.
      const who = r.once(6) ? '10.1.1.9' : c.e.a;
      const said = d.answer(heard, { data: active(six && who !== c.e.a ? 'fc00::99' : who) });
      const data = d.packet(`the server connects to what step ${said} announces`, (seen) => {
        const got = copyOf(seen, said);
        const to = got === null ? null : announced(got.frame);
        if (got === null || to === null) return null;
        return {
          port: got.port,
          frame: tcp(ends(layers(got.frame).dst, 20, to.address, to.port), SYN, 77, 0),
        };
      });
      d.answer(d.answer(data));
      last = said;
    } else if (kind <= 3) {
      const passive = (ip: string) =>
        six || r.once(3)
          ? `229 Extended Passive Mode Entered (|||${port}|)\r\n`
          : `227 Entering Passive Mode (${quad(ip)},${port >> 8},${port & 255})\r\n`;
      const text = passive('@');
      const asked = d.answer(heard, { data: 'PASV\r\n' });
      const said = d.packet(`step ${asked} is answered with where to connect`, (seen) => {
        const got = copyOf(seen, asked);
        if (got === null) return null;
        const frame = answerTo(got.frame, { data: text.replace('@', quad(layers(got.frame).dst)) });
        return frame === null ? null : { port: got.port, frame };
      });
      const data = d.packet(`the client connects to what step ${said} announces`, (seen) => {
        const got = copyOf(seen, said);
        const to = got === null ? null : announced(got.frame);
        if (got === null || to === null) return null;
        const l = layers(got.frame);
        const address = to.address === '' ? l.src : to.address;
        return { port: got.port, frame: tcp(ends(l.dst, 3000 + n, address, to.port), SYN, 88, 0) };
      });
      d.answer(d.answer(data));
      last = d.answer(said);
    } else {
      last = d.answer(heard, { data: r.pick(['NOOP\r\n', 'PORT nonsense\r\n', 'USER x\r\n']) });
    }
    if (r.once(3)) d.cmd('dpctl/dump-conntrack', '-m');
  }
  d.answer(d.answer(last, { flags: FIN | ACK }), { flags: FIN | ACK });
}

/** Where a control segment says that a data connection goes; address '' for the sender's own. */
function announced(frame: Bytes): { address: string; port: number } | null {
  const text = Buffer.from(frame).toString('latin1');
  const six = /(?:EPRT \|[12]\|([0-9a-f:.,]+)\|(\d+)\|)|\(\|\|\|(\d+)\|\)/.exec(text);
  if (six !== null) {
    return six[3] !== undefined
      ? { address: '', port: Number(six[3]) }
      : { address: six[1].replaceAll(',', '.'), port: Number(six[2]) };
  }
  const quad = /(\d+,\d+,\d+,\d+),(\d+),(\d+)/.exec(text);
  if (quad === null) return null;
  return { address: quad[1].replaceAll(',', '.'), port: Number(quad[2]) * 256 + Number(quad[3]) };
}

/** Case `n` of a seed: the same on every machine. */
export function drawCase(seed: number, n: number): NatCase {
  const r = new Random(Math.imul(seed, 0x9e3779b1) + n);
  const six = r.int(10) < 3;
  const a = six ? V6 : V4;
  const isFree = r.int(10) < 4;
  const several = r.once(2);
  const free: Free | null = isFree
    ? { pool: r.once(2) ? a.srcPool : a.dstPool, ports: !several || r.once(2) }
    : null;
  const d = new Drawer(r, six, free);
  const table = tableOf(d, (way) => (free === null ? exactNat(d, way) : freeNat(d, way, several)));
  const unique = free !== null && several;
  const conns = Array.from({ length: 3 + r.int(8) }, (_, i) => connection(d, i, unique));
  const helped = table.about.startsWith('helpers');
  const spoken = new Set<Conn>();

  d.send('the clock starts', 1, cat(new Array(12).fill(0), [0x88, 0xb5], new Array(46).fill(0)));
  for (let n = 20 + r.int(25); n > 0; n--) {
    const c = r.pick(conns);
    const old = d.sent.length > 3 ? r.pick(d.sent.slice(-12)) : 0;
    const what = r.int(20);
    if (what < 6 || old === 0) {
      const step = d.send(`client: ${c.proto}`, 1, opening(c, r));
      // Once a control connection: Open vSwitch's sweeper, which has its own pace, removes with an ended one what a
      // later one of the same tuple expects.
      if (helped && c.proto === 'tcp' && c.e.bp === 21 && !spoken.has(c)) {
        spoken.add(c);
        ftp(d, step, c);
      } else if (!r.once(3)) d.answer(step);
    } else if (what < 12) {
      d.answer(
        old,
        r.pick([
          {},
          {},
          { data: 30 },
          { flags: FIN | ACK },
          { flags: RST },
          { badL4: true },
          { noSum: true },
        ]),
      );
    } else if (what < 14 && !(six && free !== null)) {
      d.error(old);
    } else if (what === 14 && free === null) {
      const e = { ...c.e, a: c.e.b, ap: c.e.bp, b: r.pick([a.out, c.e.a, ...a.vips]), bp: c.e.ap };
      d.send(
        'from the other side',
        2,
        c.proto === 'ping' ? echo(e.a, e.b, e.bp, r.once(2)) : opening({ ...c, e }, r),
      );
    } else if (what === 15 && free === null) {
      const whole = udp({ ...c.e, bp: 53 }, { data: 2000 + r.int(2000) });
      const parts = fragments(whole, r.once(2) ? [1480, 1480] : [1232], 1 + r.int(60_000));
      if (r.once(4)) parts.reverse();
      for (const part of parts) d.send('a fragment', 1, part);
      if (r.once(2)) d.answerInPieces(old);
    } else if (what === 16) {
      d.cmd('dpctl/dump-conntrack', '-m');
    } else if (what === 17 && r.once(2)) {
      d.cmd('dpctl/flush-conntrack', `zone=${r.pick([0, 1, 2, 7])}`);
    } else if (what === 18) {
      d.wait(r.pick([1, 20, 29, 31, 45, 61]));
    }
  }
  return { ...table, ports: 2, steps: d.steps, free };
}
