/** Which connections differ between two runs over the same packets: records of all of them, as `shardtrack analyze` and
 *  `replay --connections` write them, or the table at the end. Both come in the order in which they were made, more
 *  or less, so that few wait for their counterpart. */

export interface ConnectionGroup {
  /** `only in base`, `only in candidate`, or what differs. */
  difference: string;
  connections: number;
  /** Of the first: its line on both sides, and the number of the packet that made it. */
  first: { packet: number; base: string | null; candidate: string | null };
}

export interface ConnectionsCompared {
  /** All of them, or those that had not ended at the end. */
  all: boolean;
  base: number;
  candidate: number;
  different: number;
  groups: ConnectionGroup[];
}

/** A line, as JSON. */
type Line = Record<string, unknown>;

/** What fields of records are about, if not about packets. What a rule is called says nothing of what it does. */
const ASPECTS: readonly (readonly [aspect: string | null, fields: RegExp])[] = [
  [null, /^(drop_rule|community_id)$/],
  ['beginning', /^(start|first_packet|vlan|inner_vlan|in_port)$/],
  ['end', /^(end|duration|last_packet|ending)$/],
  ['translation', /^(nat|reply_(src|dst|sport|dport)|reply\..*)$/],
  ['state', /^(state|conn_state|history|(orig|reply)_tcp_flags|syn_ack_time|handshake_time)$/],
  ['drops', /^(dropped_packets|drop_reason)$/],
  ['packets', /^(orig|reply)_|^(invalid_packets|icmp_errors)$|\.(packets|bytes)$/],
];

export class ConnectionComparison {
  private readonly all: boolean;
  private readonly waiting = { base: new Map<string, string[]>(), candidate: new Map<string, string[]>() };
  private readonly groups = new Map<string, ConnectionGroup>();
  private readonly count = { base: 0, candidate: 0 };
  private different = 0;

  constructor(all: boolean) {
    this.all = all;
  }

  /** The next of each; null: there are no more. */
  add(base: string | null, candidate: string | null): void {
    if (base !== null) this.count.base++;
    if (candidate !== null) this.count.candidate++;
    const { waiting } = this;
    if (base === candidate && waiting.base.size + waiting.candidate.size === 0) return;
    if (base !== null) this.meet(base, 'base', 'candidate');
    if (candidate !== null) this.meet(candidate, 'candidate', 'base');
  }

  finish(): ConnectionsCompared {
    const { all, count, waiting } = this;
    for (const lines of waiting.base.values())
      for (const line of lines) this.note('only in base', line, null);
    for (const lines of waiting.candidate.values()) {
      for (const line of lines) this.note('only in candidate', null, line);
    }
    const groups = [...this.groups.values()].sort((a, b) => b.connections - a.connections);
    return { all, ...count, different: this.different, groups };
  }

  /** A line of `side` finds the oldest of the other with its tuple, or waits for it. */
  private meet(line: string, side: 'base' | 'candidate', other: 'base' | 'candidate'): void {
    const key = keyOf(JSON.parse(line));
    const before = this.waiting[other].get(key);
    if (before === undefined) {
      const own = this.waiting[side].get(key);
      if (own === undefined) this.waiting[side].set(key, [line]);
      else own.push(line);
      return;
    }
    const found = before.shift() as string;
    if (before.length === 0) this.waiting[other].delete(key);
    if (found === line) return;
    const [base, candidate] = side === 'base' ? [line, found] : [found, line];
    const aspects = aspectsThatDiffer(base, candidate);
    if (aspects.length > 0) this.note(`other ${aspects.join(', ')}`, base, candidate);
  }

  private note(difference: string, base: string | null, candidate: string | null): void {
    this.different++;
    const packet = packetOf(JSON.parse((base ?? candidate) as string));
    const group = this.groups.get(difference);
    if (group === undefined) {
      this.groups.set(difference, { difference, connections: 1, first: { packet, base, candidate } });
      return;
    }
    group.connections++;
    if (packet < group.first.packet) group.first = { packet, base, candidate };
  }
}

/** The packet that made it, from 1. The table at the end has them so too. */
const packetOf = (line: Line) => (line.first_packet ?? line.packet) as number;

/** By protocol, zone and original tuple, of which there may be several: one after the other, or on both ends of
 *  translations. */
function keyOf(line: Line): string {
  const { protocol, zone } = line;
  if (line.orig !== undefined) {
    const { packets, bytes, ...tuple } = line.orig as Line;
    return JSON.stringify([protocol, zone, tuple]);
  }
  const { src, dst, sport, dport, icmp_type, icmp_id } = line;
  return JSON.stringify([protocol, zone, src, dst, sport, dport, icmp_type, icmp_id]);
}

/** Aspects, and fields that belong to none. */
function aspectsThatDiffer(a: string, b: string): string[] {
  const [x, y] = [a, b].map((line) => new Map(flat(JSON.parse(line))));
  const fields = [...new Set([...x.keys(), ...y.keys()])].filter((name) => x.get(name) !== y.get(name));
  const aspects = fields.map((name) => {
    const found = ASPECTS.find(([, of]) => of.test(name));
    return found === undefined ? name : found[0];
  });
  return [...new Set(aspects)].filter((aspect) => aspect !== null);
}

/** Names of members, one level deep. */
function flat(object: Line): [string, string][] {
  return Object.entries(object).flatMap(([name, value]) =>
    value !== null && typeof value === 'object' && !Array.isArray(value)
      ? Object.entries(value).map(([inner, v]): [string, string] => [`${name}.${inner}`, JSON.stringify(v)])
      : [[name, JSON.stringify(value)] as [string, string]],
  );
}

/** A connection for people. */
export function connectionText(text: string): string {
  const line = JSON.parse(text) as Line;
  const { protocol, zone } = line;
  const { src, dst, sport, dport, id } = (line.orig ?? { ...line, id: line.icmp_id }) as Line;
  const ports = sport === undefined || sport === null ? `id ${id}` : `${sport} → ${dport}`;
  return `${protocol}, zone ${zone}, ${src} → ${dst}, ${ports}`;
}
