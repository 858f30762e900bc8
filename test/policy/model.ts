/** A stateful firewall, as its policy reads: which packets may it let out, in order, one after the other? Written from
 *  ovs-fields(7) and ovs-actions(7) for tables of the form that `policy` draws; it shares no code with the product.
 *
 *  It is kinder than the switch: a connection that may have been committed never ends, a packet that may be invalid may
 *  as well be valid, checksums and windows are not looked at, what a fragment belongs to may be committed. So what it
 *  forbids is forbidden for certain. */
import type { Random } from '../support/packets.js';

/** A rule of table 1, where packets are tracked; the highest priority is first. */
interface Rule {
  inPort: number | null;
  six: boolean | null;
  proto: number | null;
  tpDst: number | null;
  /** Bits of ct_state that must be set, and that must not. */
  set: number;
  clear: number;
  commit: boolean;
  out: readonly number[];
}

const NEW = 1;
const EST = 2;
const REL = 4;
const RPL = 8;
const INV = 16;
const BITS = [
  ['new', NEW],
  ['est', EST],
  ['rel', REL],
  ['rpl', RPL],
  ['inv', INV],
] as const;
const [ICMP, TCP, UDP, ICMP6, SCTP] = [1, 6, 17, 58, 132];
const WITH_HEADER = [ICMP, TCP, UDP, ICMP6, SCTP];

export interface Policy {
  /** As the switch takes it. */
  flows: string;
  rules: readonly Rule[];
}

const PORTS = [1, 2, 3, 4];

/** A policy: ports 1 and 2 are inside, 3 and 4 outside; what is inside opens connections, mostly. */
export function policy(r: Random): Policy {
  const rules: Rule[] = [];
  const other = (port: number): number[] => [r.pick(PORTS.filter((p) => p !== port))];
  const any = { inPort: null, six: null, proto: null, tpDst: null, set: 0, clear: 0, commit: false };
  if (r.once(2)) rules.push({ ...any, set: INV, out: [] });
  // What is never let in or out.
  for (let n = r.int(3); n > 0; n--) {
    const proto = r.pick([TCP, UDP]);
    rules.push({
      ...any,
      inPort: r.once(2) ? r.pick(PORTS) : null,
      six: r.once(2),
      proto,
      tpDst: r.pick([22, 53, 80]),
      out: [],
    });
  }
  for (const inPort of [1, 2, ...(r.once(3) ? [3] : [])]) {
    if (r.once(6)) continue;
    const proto = inPort === 3 ? TCP : r.pick([null, null, TCP, UDP, ICMP]);
    const tpDst = proto === TCP || proto === UDP ? r.pick([null, 80, 443]) : null;
    const six = proto === null ? null : false;
    rules.push({
      ...any,
      inPort,
      six,
      proto,
      tpDst,
      set: NEW,
      clear: r.once(2) ? INV : 0,
      commit: true,
      out: other(inPort),
    });
  }
  for (const inPort of PORTS) {
    const how = r.int(4);
    if (how === 0) continue;
    rules.push({ ...any, inPort, set: EST, clear: how === 1 ? REL : 0, out: other(inPort) });
    if (how === 2) rules.push({ ...any, inPort, set: REL, clear: NEW, out: other(inPort) });
    if (how === 3) rules.push({ ...any, inPort, set: EST | RPL, out: other(inPort) });
  }
  const lines = rules.map((rule, i) => format(rule, 1000 - i));
  const flows = [
    'table=0,priority=9,ip,actions=ct(table=1)',
    'table=0,priority=9,ipv6,actions=ct(table=1)',
    ...lines,
  ];
  return { flows: `${flows.join('\n')}\n`, rules };
}

function format(rule: Rule, priority: number): string {
  const words: Record<number, readonly [string, string]> = {
    [TCP]: ['tcp', 'tcp6'],
    [UDP]: ['udp', 'udp6'],
    [ICMP]: ['icmp', 'icmp6'],
  };
  const families =
    rule.proto !== null
      ? [words[rule.proto][rule.six ? 1 : 0]]
      : rule.six === null
        ? ['ip', 'ipv6']
        : [rule.six ? 'ipv6' : 'ip'];
  const states = BITS.flatMap(([name, bit]) =>
    rule.set & bit ? [`+${name}`] : rule.clear & bit ? [`-${name}`] : [],
  );
  const match = [
    ...(rule.inPort === null ? [] : [`in_port=${rule.inPort}`]),
    ...(rule.tpDst === null ? [] : [`tp_dst=${rule.tpDst}`]),
    `ct_state=+trk${states.join('')}`,
  ].join(',');
  const actions =
    [...(rule.commit ? ['ct(commit)'] : []), ...rule.out.map((p) => `output:${p}`)].join(',') || 'drop';
  return families.map((f) => `table=1,priority=${priority},${f},${match},actions=${actions}`).join('\n');
}

/** What the model reads of a packet. */
interface Read {
  six: boolean;
  /** null: it can't be read, and may be anything. */
  proto: number | null;
  tpDst: number | null;
  /** Ends of its connection, both ways the same; null if it has none that can be read. */
  connection: string | null;
  /** Those of the packet inside an ICMP error. */
  inside: string | null;
  fragment: boolean;
  /** Of which datagram it is a fragment. */
  datagram: string;
}

function word(b: Uint8Array, at: number): number {
  return (b[at] << 8) | b[at + 1];
}

const hex = (b: Uint8Array): string => Buffer.from(b).toString('hex');

/** Reads an IP packet at `l3`; `inside`: of an ICMP error. */
function readIp(b: Uint8Array, l3: number, six: boolean, depth: number): Read {
  const unknown: Read = {
    six,
    proto: null,
    tpDst: null,
    connection: null,
    inside: null,
    fragment: false,
    datagram: '',
  };
  if (b.length < l3 + (six ? 40 : 20)) return unknown;
  let proto = six ? b[l3 + 6] : b[l3 + 9];
  let l4 = l3 + (six ? 40 : (b[l3] & 15) * 4);
  let fragment = !six && (word(b, l3 + 6) & 0x3fff) !== 0;
  let later = !six && (word(b, l3 + 6) & 0x1fff) !== 0;
  let id = six ? '' : hex(b.subarray(l3 + 4, l3 + 6));
  while (six && [0, 43, 44, 51, 60].includes(proto) && l4 + 8 <= b.length) {
    if (proto === 44) id = hex(b.subarray(l4 + 4, l4 + 8));
    if (proto === 44 && (word(b, l4 + 2) & 0xfff9) !== 0) fragment = true;
    if (proto === 44 && (word(b, l4 + 2) & 0xfff8) !== 0) later = true;
    const size = proto === 44 ? 8 : proto === 51 ? (b[l4 + 1] + 2) * 4 : (b[l4 + 1] + 1) * 8;
    proto = b[l4];
    l4 += size;
  }
  const src = hex(six ? b.subarray(l3 + 8, l3 + 24) : b.subarray(l3 + 12, l3 + 16));
  const dst = hex(six ? b.subarray(l3 + 24, l3 + 40) : b.subarray(l3 + 16, l3 + 20));
  const read: Read = { ...unknown, proto, fragment, datagram: `${src} ${dst} ${id}` };
  if (later) return read;
  // Protocols without ports are tracked by their addresses, however little follows.
  if (WITH_HEADER.includes(proto) && l4 + 8 > b.length) return { ...read, proto: null };
  const icmp = proto === ICMP || proto === ICMP6;
  const error = proto === ICMP ? [3, 4, 5, 11, 12].includes(b[l4]) : proto === ICMP6 && b[l4] < 5;
  if (icmp && error) {
    if (depth === 0) read.inside = readIp(b, l4 + 8, six, 1).connection;
    return read;
  }
  const ports = proto === TCP || proto === UDP || proto === SCTP;
  if (ports) read.tpDst = word(b, l4 + 2);
  const [from, to] = ports ? [`${src}.${word(b, l4)}`, `${dst}.${word(b, l4 + 2)}`] : [src, dst];
  const query = icmp ? `.${word(b, l4 + 4)}` : '';
  read.connection = `${proto}${query} ${[from, to].sort().join(' ')}`;
  return read;
}

/** null: no IP packet, for certain. */
function read(b: Uint8Array): Read | null {
  if (b.length < 14) return null;
  let type = word(b, 12);
  let l3 = 14;
  if ((type === 0x8100 || type === 0x88a8) && b.length >= 18) {
    type = word(b, 16);
    l3 = 18;
  }
  // LLC and SNAP (RFC 1042).
  if (type < 0x600 && b.length >= l3 + 8) {
    type = word(b, l3 + 6);
    l3 += 8;
  }
  if (type !== 0x800 && type !== 0x86dd) return null;
  return readIp(b, l3, type === 0x86dd, 0);
}

/** Follows a policy packet by packet. */
export class Model {
  private readonly rules: readonly Rule[];
  /** Connections that may have been committed. */
  private readonly committed = new Set<string>();
  /** Where fragments of each datagram may go. */
  private readonly waiting = new Map<string, Set<number>>();
  /** Packets with a port that they must not go out of. */
  forbidding = 0;

  constructor(rules: readonly Rule[]) {
    this.rules = rules;
  }

  /** The ports that this packet may go out of. */
  allowed(inPort: number, frame: Uint8Array): Set<number> {
    const ports = new Set<number>();
    const packet = read(frame);
    if (packet !== null) {
      const { connection } = packet;
      let commits = false;
      for (const state of this.states(packet)) {
        for (const rule of this.rules) {
          const fits = match(rule, inPort, packet, state);
          if (fits === false) continue;
          for (const port of rule.out) ports.add(port);
          commits ||= rule.commit;
          if (fits) break;
        }
      }
      // A first fragment may be committed with another that came from another port.
      if ((commits || packet.fragment) && connection !== null) this.committed.add(connection);
    }
    // Nothing goes out where it has come in.
    ports.delete(inPort);
    // Whoever completes a datagram takes the others along.
    if (packet?.fragment) {
      for (const port of this.waiting.get(packet.datagram) ?? []) ports.add(port);
      this.waiting.set(packet.datagram, ports);
    }
    if (PORTS.some((p) => p !== inPort && !ports.has(p))) this.forbidding++;
    return ports;
  }

  private states({ connection, inside, fragment, proto }: Read): number[] {
    const states = [NEW, INV];
    const known = connection !== null && this.committed.has(connection);
    // Which datagram a fragment belongs to, the model does not ask.
    if (known || fragment || (connection === null && proto === null)) states.push(EST, EST | RPL, NEW | RPL);
    if ((inside !== null && this.committed.has(inside)) || fragment)
      states.push(REL, REL | RPL, REL | EST, REL | EST | RPL, REL | NEW);
    return states;
  }
}

/** Whether a rule fits; null: nobody knows. */
function match(rule: Rule, inPort: number, p: Read, state: number): boolean | null {
  if (rule.inPort !== null && rule.inPort !== inPort) return false;
  if ((state & rule.set) !== rule.set || (state & rule.clear) !== 0) return false;
  if (rule.six !== null && rule.six !== p.six) return false;
  let certain = true;
  if (rule.proto !== null) {
    if (p.proto === null) certain = false;
    else if (rule.proto !== p.proto && !(rule.six === true && rule.proto === ICMP && p.proto === ICMP6))
      return false;
  }
  if (rule.tpDst !== null) {
    if (p.tpDst === null) certain = false;
    else if (rule.tpDst !== p.tpDst) return false;
  }
  return certain ? true : null;
}
