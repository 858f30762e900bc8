/** What a policy allows: as which frames, and out of which ports, may a packet go after those before it? Written from ovs-fields(7),
 *  ovs-actions(7) and the RFCs, for the rules that policy.ts draws; it shares no code with the product.
 *
 *  A packet is taken through the rules in each way that it could go: where the switch may say several things of it, there are
 *  several. It is kinder than the switch: any connection may have ended (but those of UDP, for a while), any packet may be
 *  invalid, checksums and windows are not looked at. What the switch chooses, translations and buckets, it learns from what
 *  comes out. So what no way sends is forbidden for certain. */

import { address, hex } from '../support/packets.js';
import {
  type Action,
  type Ct,
  DNAT,
  EST,
  ICMP,
  INV,
  type Match,
  NEW,
  PORTS,
  type Range,
  REL,
  RPL,
  type Rule,
  SCTP,
  SNAT,
  TCP,
  UDP,
  VIRTUAL,
} from './policy.js';
import { type Ends, type Read, readFrame, turned } from './read.js';

/** A connection of UDP is there for longer, whatever comes (Open vSwitch: 60 s, 30 s while it is not answered). */
const CERTAIN_SECONDS = 20;
const VIRTUAL_HEX = VIRTUAL.map((text) => hex(address(text)));
/** Protocols whose ports, or identifiers, are translated. */
const WITH_PORTS: readonly (number | null)[] = [ICMP, TCP, UDP, SCTP];

/** One that may have been committed. */
interface Connection {
  zone: number;
  proto: number | null;
  /** Of its first packet, as it came and as it went on. */
  before: Ends;
  after: Ends;
  nat: 'src' | 'dst' | null;
  marks: Set<number>;
  /** Whether it may have been answered. */
  answered: boolean;
  /** Until when it is there for certain. */
  until: number;
}

/** What a zone says of a packet. */
interface Said {
  zone: number;
  state: number;
  mark: number;
  connection: Connection | null;
  reply: boolean;
}

interface Commit {
  connection: Connection;
  mark: number;
  state: number;
}

/** A packet, on one of its ways. */
interface Way {
  inPort: number;
  packet: Read;
  /** What the tracker has said last; `seen`: what rules see, in tables that ct() names. */
  said: Said | null;
  seen: Said | null;
  out: readonly { port: number; packet: Read }[];
  commits: readonly Commit[];
}

export interface Frame {
  port: number;
  frame: Uint8Array;
}

const keyOf = (zone: number, proto: number | null, e: Ends): string =>
  `${zone} ${proto} ${e.src}.${e.sport} ${e.dst}.${e.dport}`;

const sameEnds = (a: Ends, b: Ends): boolean =>
  a.src === b.src && a.sport === b.sport && a.dst === b.dst && a.dport === b.dport;

/** Follows a policy packet by packet. */
export class Model {
  private readonly rules: readonly Rule[];
  /** By the ends of their packets, either way. */
  private readonly connections = new Map<string, { connection: Connection; reply: boolean }[]>();
  /** How many there are, by zone and protocol. */
  private readonly used = new Map<string, number>();
  /** Fragments of each datagram so far. */
  private readonly fragments = new Map<string, { inPort: number; packet: Read }[]>();
  private seconds = 0;
  /** What the packet in hand has come out as. */
  private frames: readonly { port: number; packet: Read }[] = [];
  /** Packets with a port that they must not go out of. */
  forbidding = 0;

  constructor(rules: readonly Rule[]) {
    this.rules = rules;
  }

  /** Takes a packet and what came out of the switch; returns whether the policy allows it. */
  allows(inPort: number, seconds: number, frame: Uint8Array, came: readonly Frame[]): boolean {
    this.seconds = Math.max(this.seconds, seconds);
    const packet = readFrame(frame);
    this.frames = came.flatMap(({ port, frame }) => {
      const read = readFrame(frame);
      return read === null ? [] : [{ port, packet: read }];
    });
    if (packet === null || this.frames.length < came.length) {
      this.forbidding++;
      return came.length === 0;
    }
    const ways = this.together(inPort, packet).flatMap((way) => this.lookup(way, 0));
    const ports = new Set(ways.flatMap((way) => way.out.map((o) => o.port)));
    if (PORTS.some((p) => p !== inPort && !ports.has(p))) this.forbidding++;
    return packet.datagram === null ? this.settle(ways) : this.settleFragments(ways);
  }

  /** Whoever completes a datagram takes its other fragments along, each from its port. The whole is that of any first one. */
  private together(inPort: number, packet: Read): Way[] {
    const way = { inPort, packet, said: null, seen: null, out: [], commits: [] };
    if (packet.datagram === null) return [way];
    const all = this.fragments.get(packet.datagram) ?? [];
    this.fragments.set(packet.datagram, all);
    all.push({ inPort, packet });
    const same = new Map<string, Way>();
    for (const first of all) {
      const { sport, dport, proto, own, inside } = first.packet;
      for (const part of all) {
        const whole = { ...part.packet, sport, dport, proto, own, inside, tpDst: null };
        const { vlan } = whole;
        const id = `${part.inPort} ${vlan} ${own} ${keyOf(0, proto, whole)} ${inside && keyOf(0, 0, inside)}`;
        same.set(id, { ...way, inPort: part.inPort, packet: whole });
      }
    }
    return [...same.values()];
  }

  /** Whether one way sends what came out; its connections are those that there may be now. */
  private settle(ways: readonly Way[]): boolean {
    const enough = ways.filter((w) => this.frames.every((f) => w.out.some((o) => matches(o, f))));
    const exact = enough.filter((w) => w.out.length === this.frames.length);
    const taken = exact.length > 0 ? exact : enough;
    for (const way of taken) for (const commit of way.commits) this.commit(commit);
    // What all say is certain.
    const [first] = taken;
    for (const { connection, mark } of first?.commits ?? []) {
      if (connection.proto !== UDP) continue;
      const key = keyOf(connection.zone, UDP, connection.before);
      const same = taken.map((w) =>
        w.commits.find(
          (c) =>
            c.mark === mark &&
            keyOf(c.connection.zone, UDP, c.connection.before) === key &&
            sameEnds(c.connection.after, connection.after),
        ),
      );
      if (same.some((c) => c === undefined)) continue;
      this.remove(key);
      const answered = same.some((c) => (c!.state & NEW) === 0);
      this.add({
        ...connection,
        ...{ marks: new Set([mark]), answered, until: this.seconds + CERTAIN_SECONDS },
      });
    }
    return enough.length > 0;
  }

  private settleFragments(ways: readonly Way[]): boolean {
    for (const way of ways) {
      if (!way.out.every((o) => this.frames.some((f) => matches(o, f)))) continue;
      for (const commit of way.commits) this.commit(commit);
    }
    return this.frames.every((f) => ways.some((w) => w.out.some((o) => matches(o, f))));
  }

  // ---- rules ----

  private lookup(way: Way, table: number): Way[] {
    const ways: Way[] = [];
    for (const rule of this.rules) {
      const fits = rule.table === table && match(rule, way);
      if (fits === false) continue;
      ways.push(...this.perform(way, rule.actions));
      if (fits) return ways;
    }
    return [...ways, way];
  }

  private perform(way: Way, actions: readonly Action[]): Way[] {
    let ways = [way];
    for (const action of actions) ways = ways.flatMap((w) => this.step(w, action));
    return ways;
  }

  private step(way: Way, action: Action): Way[] {
    if ('oneOf' in action) return action.oneOf.flatMap((list) => this.perform(way, list));
    if ('resubmit' in action) return this.lookup(way, action.resubmit);
    if ('ct' in action) {
      const { table } = action.ct;
      const ways = this.track(way, action.ct);
      return table === undefined ? ways : ways.flatMap((w) => this.lookup({ ...w, seen: w.said }, table));
    }
    // Nothing goes out where it has come in.
    if (action.out === way.inPort) return [way];
    return [{ ...way, out: [...way.out, { port: action.out, packet: way.packet }] }];
  }

  // ---- the tracker ----

  /** ct(): everything that it may say of a packet. */
  private track(way: Way, ct: Ct): Way[] {
    const { packet, said } = way;
    const { zone } = ct;
    const invalid = { zone, state: INV, mark: 0, connection: null, reply: false };
    if (said?.zone === zone) {
      // A zone does not change its mind.
      if (said.connection !== null) return [this.known(way, ct, said)];
      return said.state === INV ? [way] : this.fresh(way, ct);
    }
    const ways: Way[] = [];
    // What is wrong with UDP does not depend on the zone.
    const valid = packet.proto === UDP && packet.datagram === null && said !== null && said.state !== INV;
    if (!valid) ways.push({ ...way, said: invalid });
    const related = !packet.own;
    if (related && packet.inside?.own !== true) return ways;
    // An error comes the other way.
    const ends = related ? turned(packet.inside!) : packet;
    const { proto } = related ? packet.inside! : packet;
    const found = this.connections.get(keyOf(zone, proto, ends)) ?? [];
    for (const { connection, reply } of found) {
      if (reply && !related) connection.answered = true;
      const states = related
        ? [reply ? REL | RPL : REL]
        : reply
          ? [EST | RPL]
          : connection.answered || proto === TCP
            ? [NEW, EST]
            : [NEW];
      for (const state of states) {
        for (const mark of connection.marks)
          ways.push(this.known(way, ct, { zone, state, mark, connection, reply }));
      }
    }
    if (!related && !found.some((f) => f.connection.until >= this.seconds)) ways.push(...this.fresh(way, ct));
    return ways;
  }

  /** A packet of a connection, or an ICMP error about one. */
  private known(way: Way, ct: Ct, before: Said): Way {
    const connection = before.connection!;
    const said = { ...before };
    let { packet } = way;
    if (ct.nat !== undefined && connection.nat !== null && (said.state & (SNAT | DNAT)) === 0) {
      packet = translate(packet, connection, said.reply);
      said.state |= (connection.nat === 'src') === said.reply ? DNAT : SNAT;
    }
    const { mark = before.mark } = ct;
    if (ct.commit) said.mark = mark;
    const commits = ct.commit ? [...way.commits, { connection, mark, state: said.state }] : way.commits;
    return { ...way, packet, said, commits };
  }

  /** A packet of a connection that is not there. */
  private fresh(way: Way, ct: Ct): Way[] {
    const { packet } = way;
    const { zone, nat, mark = 0 } = ct;
    const said = { zone, state: NEW, mark: 0, connection: null, reply: false };
    if (!ct.commit) return [{ ...way, said }];
    const made = (after: Ends, range: Range | null): Way => {
      const connection: Connection = {
        ...{ zone, proto: packet.proto, before: packet, after, nat: range?.end ?? null },
        ...{ marks: new Set([mark]), answered: false, until: 0 },
      };
      const state = range === null ? NEW : range.end === 'src' ? NEW | SNAT : NEW | DNAT;
      return {
        ...way,
        packet: range === null ? packet : translate(packet, connection, false),
        said: { ...said, state, mark, connection },
        commits: [...way.commits, { connection, mark, state }],
      };
    };
    if (nat === undefined || nat === 'back') return [made(packet, null)];
    // Policies send what they translate.
    const ways = this.frames
      .filter(({ packet: to }) => this.mayBecome(zone, nat, packet, to))
      .map(({ packet: to }) => made(to, nat));
    // Where all choices may be taken, it goes on as it is, and is not committed.
    const used = this.used.get(`${zone} ${packet.proto}`) ?? 0;
    if (used >= choices(nat, packet.proto)) ways.push({ ...way, said });
    return ways;
  }

  /** Whether a packet may be translated so: to what is in the range, and to what no other connection has. */
  private mayBecome(zone: number, range: Range, from: Read, to: Read): boolean {
    if (!to.own || to.proto !== from.proto) return false;
    const { end, addresses, ports } = range;
    const query = from.proto === ICMP;
    const [mine, port, port0] =
      end === 'src' ? [to.src, to.sport, from.sport] : [to.dst, to.dport, from.dport];
    if (!addresses.includes(mine)) return false;
    if (end === 'src' && (to.dst !== from.dst || (to.dport !== from.dport && !query))) return false;
    // Where many have the same destination, they get other source ports.
    if (end === 'dst' && to.src !== from.src) return false;
    const moves = WITH_PORTS.includes(from.proto) && (end === 'src' || ports !== null || query);
    if (!moves && port !== port0) return false;
    // A query's identifier stands for both ports: for a destination it may be any.
    const within = ports === null || (port >= ports[0] && port <= ports[1]) || (query && end === 'dst');
    if (moves && !within) return false;
    const others = this.connections.get(keyOf(zone, from.proto, turned(to))) ?? [];
    return !others.some((o) => o.connection.until >= this.seconds && !sameEnds(o.connection.before, from));
  }

  // ---- connections ----

  private commit({ connection: c, mark }: Commit): void {
    const same = this.connections
      .get(keyOf(c.zone, c.proto, c.before))
      ?.find((o) => !o.reply && sameEnds(o.connection.after, c.after));
    if (same === undefined) this.add({ ...c, marks: new Set([mark]) });
    else same.connection.marks.add(mark);
  }

  private add(connection: Connection): void {
    const { zone, proto, before, after } = connection;
    const used = `${zone} ${proto}`;
    this.used.set(used, (this.used.get(used) ?? 0) + 1);
    for (const [ends, reply] of [[before, false] as const, [turned(after), true] as const]) {
      const key = keyOf(zone, proto, ends);
      const list = this.connections.get(key) ?? [];
      list.push({ connection, reply });
      this.connections.set(key, list);
    }
  }

  /** Those that packets with these ends may have opened. */
  private remove(key: string): void {
    for (const { connection: c, reply } of [...(this.connections.get(key) ?? [])]) {
      if (reply) continue;
      for (const ends of [c.before, turned(c.after)]) {
        const at = keyOf(c.zone, c.proto, ends);
        this.connections.set(
          at,
          this.connections.get(at)!.filter((o) => o.connection !== c),
        );
      }
    }
  }
}

/** A packet of a connection, or an ICMP error about one, as it goes on. */
function translate(packet: Read, c: Connection, reply: boolean): Read {
  if (packet.own) {
    const { src, sport, dst, dport } = reply ? turned(c.before) : c.after;
    return { ...packet, src, sport, dst, dport, frame: NONE };
  }
  // Whoever tells of the error, the end that is translated is.
  const src = c.nat === 'src' ? (reply ? packet.src : c.after.src) : reply ? c.before.dst : packet.src;
  const dst = c.nat === 'dst' ? (reply ? packet.dst : c.after.dst) : reply ? c.before.src : packet.dst;
  const { src: isrc, sport, dst: idst, dport } = reply ? c.before : turned(c.after);
  return {
    ...packet,
    src,
    dst,
    frame: NONE,
    inside: { ...packet.inside!, src: isrc, sport, dst: idst, dport },
  };
}

/** The frame of a packet that has been changed. */
const NONE = new Uint8Array();

/** How many connections with one destination a range may hold at least. */
function choices({ end, ports }: Range, proto: number | null): number {
  if (!WITH_PORTS.includes(proto)) return 1;
  // Source ports below 1024 stay below.
  return ports === null || end === 'dst' ? 400 : ports[1] - ports[0] + 1;
}

/** Whether a frame is what a way sends: its bytes, or, if it was translated, its ends. */
function matches(o: { port: number; packet: Read }, came: { port: number; packet: Read }): boolean {
  const [a, b] = [o.packet, came.packet];
  if (o.port !== came.port) return false;
  // Of a fragment that came earlier, and that may be without ports, the addresses.
  if (a.datagram !== null) return a.src === b.src && a.dst === b.dst;
  if (a.frame !== NONE) return Buffer.compare(a.frame, b.frame) === 0;
  if (a.proto !== b.proto || !sameEnds(a, b)) return false;
  if (a.inside === null) return true;
  // Open vSwitch and Shardtrack spoil the source inside ICMPv6 errors about TCP (docs/ovs-differences.md).
  return b.inside !== null && (sameEnds(a.inside, b.inside) || (a.six && a.inside.proto === TCP));
}

/** Whether a rule fits; null: nobody knows. */
function match(rule: Match, { inPort, packet: p, seen }: Way): boolean | null {
  const state = seen?.state ?? 0;
  if (rule.inPort !== null && rule.inPort !== inPort) return false;
  if ((state & rule.set) !== rule.set || (state & rule.clear) !== 0) return false;
  if (rule.mark !== null && rule.mark !== (seen?.mark ?? 0)) return false;
  if (rule.six !== null && rule.six !== p.six) return false;
  if (rule.vlan !== null && rule.vlan !== p.vlan) return false;
  let certain = true;
  const may = (known: boolean, fits: boolean): boolean => {
    if (!known) certain = false;
    return !known || fits;
  };
  const low = (end: string) => (p.six ? /^fd0{29}[0-3]$/.test(end) : /^0a00000[0-3]$/.test(end));
  const { proto } = rule;
  if (proto !== null) {
    const icmp6 = rule.six === true && proto === ICMP && p.proto === 58;
    if (!may(p.proto !== null, proto === p.proto || icmp6)) return false;
  }
  if (rule.low !== null && !may(p.proto !== null, low(p[rule.low]))) return false;
  if (rule.virtual && !may(p.proto !== null, VIRTUAL_HEX.includes(p.dst))) return false;
  if (rule.tpDst !== null && !may(p.tpDst !== null, rule.tpDst === p.tpDst)) return false;
  return certain ? true : null;
}
