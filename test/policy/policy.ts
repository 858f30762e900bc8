/** Draws policies: stateful firewalls of one zone, of several, with marks as verdicts, with translation, as rules. The switch
 *  takes them as flows and groups, the model (model.ts) reads the rules.
 *
 *  Ports 1 and 2 are inside, 3 and 4 outside; what is inside opens connections, mostly.
 *
 *  | kind   | table 0                                      | what follows                                                         |
 *  | ------ | -------------------------------------------- | -------------------------------------------------------------------- |
 *  | single | all into one zone                            | table 1: a firewall, see `firewall`                                  |
 *  | tenant | two zones, by port, VLAN or prefix           | a table for each zone: a firewall, its verdict often a mark or label |
 *  | chain  | all into one zone                            | table 1 sends nothing: what it lets by goes through the zone of table 2 |
 *  | nat    | `ct(nat)`: replies are translated back       | table 1: translates what is new, sends what is known                 |
 *  | edge   | inside: a firewall's zone; outside: `ct(nat)` | outwards the zone of the translation comes last, inwards first       |
 */
import { address, hex, type Random } from '../support/packets.js';

export const NEW = 1;
export const EST = 2;
export const REL = 4;
export const RPL = 8;
export const INV = 16;
export const SNAT = 64;
export const DNAT = 128;
const BITS: readonly (readonly [string, number])[] = [
  ['new', NEW],
  ['est', EST],
  ['rel', REL],
  ['rpl', RPL],
  ['inv', INV],
  ['snat', SNAT],
  ['dnat', DNAT],
];
export const [ICMP, TCP, UDP, ICMP6, SCTP] = [1, 6, 17, 58, 132];
export const PORTS = [1, 2, 3, 4];

/** Addresses (in hex) and ports to choose from, instead of the source or the destination; `text` as the switch takes it. */
export interface Range {
  end: 'src' | 'dst';
  addresses: readonly string[];
  ports: readonly [number, number] | null;
  text: string;
}

export interface Ct {
  zone: number;
  commit?: boolean;
  /** `back`: as the connection was translated. */
  nat?: Range | 'back';
  mark?: number;
  /** The packet goes on there, and the list of actions ends; else it goes on with the list. */
  table?: number;
}

export type Action = { out: number } | { ct: Ct } | { resubmit: number } | { oneOf: Action[][] };

export interface Match {
  inPort: number | null;
  six: boolean | null;
  proto: number | null;
  tpDst: number | null;
  vlan: number | null;
  /** Which address is one of the first four of the network of hosts. */
  low: 'src' | 'dst' | null;
  /** Whether it goes to the address that is balanced. */
  virtual: boolean;
  /** Bits of ct_state that must be set, and that must not. */
  set: number;
  clear: number;
  mark: number | null;
}

/** In each table the first rule that matches counts; without one the packet is dropped. */
export interface Rule extends Match {
  table: number;
  actions: readonly Action[];
}

export interface Policy {
  kind: Kind;
  rules: readonly Rule[];
  /** As the switch takes it. */
  flows: string;
  groups: string;
}

export const KINDS = ['single', 'tenant', 'chain', 'nat', 'edge'] as const;
export type Kind = (typeof KINDS)[number];

/** The address that outside speaks to, and inside answers. */
export const VIRTUAL = ['10.8.0.1', 'fd00:8::1'] as const;
export const TRANSLATED = ['10.9.0.', 'fd00:9::'] as const;
export const HOSTS = ['10.0.0.', 'fd00::'] as const;

const ANY: Match = {
  ...{ inPort: null, six: null, proto: null, tpDst: null, vlan: null, low: null, virtual: false },
  ...{ set: 0, clear: 0, mark: null },
};
const other = (r: Random, port: number): number => r.pick(PORTS.filter((p) => p !== port));
const across = (r: Random, port: number): number => (port <= 2 ? 3 : 1) + r.int(2);

export function policy(r: Random, kind: Kind = r.pick(KINDS)): Policy {
  const rules = { single, tenant, chain, nat, edge }[kind](r);
  const field = r.pick(['ct_mark', 'ct_label']);
  const groups: string[] = [];
  const flows = rules.flatMap((rule, i) => formatRule(rule, 1000 - i, field, groups));
  return { kind, rules, flows: `${flows.join('\n')}\n`, groups: groups.map((g) => `${g}\n`).join('') };
}

function single(r: Random): Rule[] {
  return [
    { ...ANY, table: 0, actions: [{ ct: { zone: 0, table: 1 } }] },
    ...firewall(r, { table: 1, zone: 0, send: (port) => [{ out: other(r, port) }] }),
  ];
}

function tenant(r: Random): Rule[] {
  const zones = [1 + r.int(9), 10 + r.int(9)];
  const into = (n: number): Action[] => [{ ct: { zone: zones[n], table: 1 + n } }];
  const by = r.int(3);
  const first: Match[] =
    by === 0
      ? [1, 3].map((inPort) => ({ ...ANY, inPort }))
      : by === 1
        ? [{ ...ANY, vlan: 1 }]
        : PORTS.map((inPort) => ({ ...ANY, inPort, low: inPort <= 2 ? 'src' : 'dst' }));
  return [
    ...first.map((m) => ({ ...m, table: 0, actions: into(0) })),
    { ...ANY, table: 0, actions: into(1) },
    ...zones.flatMap((zone, n) =>
      firewall(r, { table: 1 + n, zone, verdict: !r.once(3), send: (port) => [{ out: other(r, port) }] }),
    ),
  ];
}

function chain(r: Random): Rule[] {
  const zone = r.int(3);
  const send = (port: number): Action[] => [{ out: other(r, port) }];
  return [
    { ...ANY, table: 0, actions: [{ ct: { zone, table: 1 } }] },
    ...firewall(r, { table: 1, zone, verdict: r.once(2), send: () => [{ ct: { zone: 7, table: 2 } }] }),
    // What was new in the first zone may be known in this one, or is not made known to it.
    ...firewall(r, { table: 2, zone: 7, verdict: r.once(2), commits: r.once(2), send }),
  ];
}

interface Firewall {
  table: number;
  zone: number;
  /** Connections are marked when they are committed, and the mark says what becomes of their packets. */
  verdict?: boolean;
  /** Whether what is new is committed; it is by default. */
  commits?: boolean;
  send: (inPort: number) => Action[];
}

/** What is never let by; what may be opened; what is let by because it was. */
function firewall(r: Random, { table, zone, verdict = false, commits = true, send }: Firewall): Rule[] {
  const any = { ...ANY, table };
  const rules: Rule[] = [];
  if (r.once(2)) rules.push({ ...any, set: INV, actions: [] });
  for (let n = r.int(3); n > 0; n--) {
    const deny = { inPort: r.once(2) ? r.pick(PORTS) : null, six: r.once(2), proto: r.pick([TCP, UDP]) };
    rules.push({ ...any, ...deny, tpDst: r.pick([22, 53, 80]), actions: [] });
  }
  // Until it is answered, a connection may send one packet.
  if (verdict && r.once(2)) rules.push({ ...any, set: NEW, mark: 1, actions: [] });
  for (const inPort of [1, 2, ...(r.once(3) ? [3] : [])]) {
    if (r.once(6)) continue;
    const proto = inPort === 3 ? TCP : r.pick([null, null, TCP, UDP, ICMP]);
    const open = {
      ...{ ...any, inPort, six: proto === null ? null : false, proto },
      ...{ set: NEW, clear: r.once(2) ? INV : 0 },
    };
    const ct = (mark: number): Action[] =>
      commits ? [{ ct: { zone, commit: true, ...(verdict ? { mark } : {}) } }] : [];
    // Opened, but not to be answered.
    if (verdict) {
      const deny = { inPort, six: false, proto: UDP, tpDst: r.pick([53, 80, 443]) };
      rules.push({ ...open, ...deny, actions: [...ct(2), ...send(inPort)] });
    }
    const tpDst = proto === TCP || proto === UDP ? r.pick([null, 80, 443]) : null;
    rules.push({ ...open, tpDst, actions: [...ct(1), ...send(inPort)] });
  }
  for (const inPort of PORTS) {
    const how = r.int(4);
    if (how === 0) continue;
    const known = { ...any, inPort, mark: verdict ? 1 : null };
    rules.push({ ...known, set: EST, clear: how === 1 ? REL : 0, actions: send(inPort) });
    if (how === 2) rules.push({ ...known, set: REL, clear: NEW, actions: send(inPort) });
    if (how === 3) rules.push({ ...known, set: EST | RPL, actions: send(inPort) });
  }
  return rules;
}

function range(r: Random, end: 'src' | 'dst', six: boolean): Range {
  const net = (end === 'src' ? TRANSLATED : HOSTS)[Number(six)];
  const first = 1 + r.int(3);
  const addresses = Array.from({ length: 1 + r.int(3) }, (_, i) => `${net}${first + i}`);
  const port = end === 'src' ? r.pick([5000, 1024, 40000]) : r.pick([80, 8000]);
  const ports = r.once(2) ? null : ([port, port + r.pick([0, 3, 500])] as const);
  const how = r.pick(['', '', ',random', ',hash', ',persistent']);
  const between = [addresses[0], ...addresses.slice(1).slice(-1)];
  const text =
    ports === null
      ? between.join('-')
      : `${between.map((a) => (six ? `[${a}]` : a)).join('-')}:${ports[0]}-${ports[1]}`;
  return {
    ...{ end, addresses: addresses.map((a) => hex(address(a))), ports },
    text: `${end}=${text}${how}`,
  };
}

/** Rules of `table` for what is new: outwards it gets another source, inwards another destination. `before` comes first. */
function translate(r: Random, table: number, zone: number, before: Action[], after: number): Rule[] {
  const rules: Rule[] = [];
  const any = { ...ANY, table, set: NEW };
  const mark = r.once(2) ? { mark: 1 } : {};
  for (const inPort of [1, 2]) {
    for (const six of [false, true]) {
      const proto = r.pick([null, null, UDP, TCP]);
      const ct = { zone, commit: true, ...mark, nat: range(r, 'src', six) };
      // Sent at once, or by a table that asks whether it has been translated.
      const send: Action[] = r.once(2)
        ? [{ ct }, { out: across(r, inPort) }]
        : [{ ct: { ...ct, table: after } }];
      rules.push({ ...any, inPort, six, proto, actions: [...before, ...send] });
    }
    rules.push({ ...ANY, table: after, inPort, set: SNAT, actions: [{ out: across(r, inPort) }] });
  }
  return rules;
}

/** Rules for what asks for the balanced address. A bucket sends nothing itself: it is an action set, where output() would win
 *  over ct(). */
function balance(r: Random, table: number, zone: number, after: number): Rule[] {
  return [3, 4].flatMap((inPort) => {
    const out: Action = { out: across(r, inPort) };
    const rules = [false, true].map((six): Rule => {
      const ct = (): Ct => ({ zone, commit: true, nat: range(r, 'dst', six) });
      const bucket = (): Action[] => [{ ct: { ...ct(), table: after } }];
      const actions: Action[] = r.once(2)
        ? [{ ct: ct() }, out]
        : [{ oneOf: Array.from({ length: 1 + r.int(3) }, bucket) }];
      const proto = r.pick([null, TCP, UDP]);
      return { ...ANY, table, inPort, six, proto, virtual: true, set: NEW, actions };
    });
    return [...rules, { ...ANY, table: after, inPort, set: DNAT, actions: [out] }];
  });
}

function nat(r: Random): Rule[] {
  const zone = r.int(3);
  const known = PORTS.flatMap((inPort): Rule[] => {
    const send = { ...ANY, table: 1, inPort, actions: [{ out: across(r, inPort) }] };
    return [
      { ...send, set: EST | (inPort <= 2 ? 0 : RPL * r.int(2)) },
      ...(r.once(3) ? [] : [{ ...send, set: REL }]),
    ];
  });
  return [
    { ...ANY, table: 0, actions: [{ ct: { zone, nat: 'back', table: 1 } }] },
    ...(r.once(2) ? [{ ...ANY, table: 1, set: INV, actions: [] }] : []),
    ...translate(r, 1, zone, [], 2),
    ...balance(r, 1, zone, 2),
    // The rest of the rules stands in a table of its own.
    ...(r.once(2)
      ? known
      : [{ ...ANY, table: 1, actions: [{ resubmit: 3 }] }, ...known.map((rule) => ({ ...rule, table: 3 }))]),
  ];
}

function edge(r: Random): Rule[] {
  const [inner, outer] = [5, 6];
  const rules: Rule[] = [];
  for (const inPort of PORTS) {
    const ct: Ct = inPort <= 2 ? { zone: inner, table: 1 } : { zone: outer, nat: 'back', table: 4 };
    rules.push({ ...ANY, table: 0, inPort, actions: [{ ct }] });
  }
  rules.push(...translate(r, 1, outer, [{ ct: { zone: inner, commit: true, mark: 1 } }], 3));
  for (const inPort of [1, 2]) {
    const out: Action = { out: across(r, inPort) };
    // Outwards: known inside, so it has been translated.
    const outwards: Action = { ct: { zone: outer, nat: 'back', table: 2 } };
    rules.push({ ...ANY, table: 1, inPort, set: EST, actions: [outwards] });
    if (r.once(2)) rules.push({ ...ANY, table: 1, inPort, set: REL, actions: [outwards] });
    rules.push({ ...ANY, table: 2, inPort, set: SNAT, actions: [out] });
  }
  for (const inPort of [3, 4]) {
    const inwards: Action = { ct: { zone: inner, table: 5 } };
    rules.push({ ...ANY, table: 4, inPort, set: EST, actions: [inwards] });
    if (r.once(2)) rules.push({ ...ANY, table: 4, inPort, set: REL, actions: [inwards] });
    rules.push({ ...ANY, table: 5, inPort, set: RPL, mark: 1, actions: [{ out: across(r, inPort) }] });
  }
  return rules;
}

function formatRule(rule: Rule, priority: number, field: string, groups: string[]): string[] {
  const words: Record<number, readonly [string, string]> = {
    [TCP]: ['tcp', 'tcp6'],
    [UDP]: ['udp', 'udp6'],
    [ICMP]: ['icmp', 'icmp6'],
  };
  const actions = formatActions(rule.actions, field, groups) || 'drop';
  const states = BITS.flatMap(([name, bit]) =>
    rule.set & bit ? [`+${name}`] : rule.clear & bit ? [`-${name}`] : [],
  );
  const families = rule.six === null && rule.proto === null ? [0, 1] : [Number(rule.six)];
  return families.map((n) => {
    const match = [
      rule.proto === null ? ['ip', 'ipv6'][n] : words[rule.proto][n],
      ...(rule.inPort === null ? [] : [`in_port=${rule.inPort}`]),
      ...(rule.vlan === null ? [] : [`dl_vlan=${rule.vlan}`]),
      ...(rule.low === null ? [] : [n ? `ipv6_${rule.low}=fd00::/126` : `nw_${rule.low}=10.0.0.0/30`]),
      ...(rule.virtual ? [`${n ? 'ipv6_dst' : 'nw_dst'}=${VIRTUAL[n]}`] : []),
      ...(rule.tpDst === null ? [] : [`tp_dst=${rule.tpDst}`]),
      ...(rule.table === 0 ? [] : [`ct_state=+trk${states.join('')}`]),
      ...(rule.mark === null ? [] : [`${field}=${rule.mark}`]),
    ];
    return `table=${rule.table},priority=${priority},${match.join(',')},actions=${actions}`;
  });
}

function formatActions(actions: readonly Action[], field: string, groups: string[]): string {
  const texts = actions.map((a) => {
    if ('out' in a) return `output:${a.out}`;
    if ('resubmit' in a) return `resubmit(,${a.resubmit})`;
    if ('oneOf' in a) {
      const id = groups.length + 1;
      const buckets = a.oneOf.map((list) => `bucket=${formatActions(list, field, groups)}`);
      groups.push(`group_id=${id},type=select,${buckets.join(',')}`);
      return `group:${id}`;
    }
    const { zone, commit, nat, mark, table } = a.ct;
    const words = [
      ...(commit ? ['commit'] : []),
      ...(nat === undefined ? [] : [nat === 'back' ? 'nat' : `nat(${nat.text})`]),
      ...(zone === 0 ? [] : [`zone=${zone}`]),
      ...(table === undefined ? [] : [`table=${table}`]),
      ...(mark === undefined ? [] : [`exec(set_field:${mark}->${field})`]),
    ];
    return `ct(${words.join(',')})`;
  });
  return texts.join(',');
}
