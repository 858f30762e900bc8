/** What an analyst asks first: who talks most, which services, how connections ended, whose handshakes fail, what
 *  the flow table dropped. In bounded memory: of rankings over hosts and services at most RANKED entries are kept, the
 *  largest ones (the rest would have to grow beyond them to be missed; `exact` says whether any was let go). */
import { protocolName } from '../coordinator/dump.js';
import { type ConnectionRecord, connState } from '../coordinator/record.js';
import { DROP_REASONS } from '../datapath/program.js';
import { Codes } from '../output/records/codes.js';
import { formatIpv4, ipv4TextRank } from '../wire/address.js';
import { IPPROTO_TCP, IPPROTO_UDP } from '../wire/extract.js';
import type { Amount } from './reconcile.js';
import type { Summed } from './writer.js';

const RANKED = 1 << 15;
/** Targets of a source that are told apart. */
const TARGETS = 256;
/** Entries of each ranking that a share tells of, and targets of all its sources together. */
const SHARED = 4096;
const SHARED_TARGETS = 1 << 16;

export interface Ranked extends Amount {
  name: string;
  connections: number;
}

/** A source whose TCP handshakes failed. */
export interface FailedSource {
  src: string;
  /** Connections that were never opened, and all of its TCP connections. */
  failed: number;
  connections: number;
  /** Different targets and ports of those that failed, up to 256. */
  hosts: number;
  ports: number;
}

/** A source that looks like one that scans: so many of its connections failed, of TCP, or were not answered, of UDP,
 *  to so many hosts (a port swept) or ports (a host swept). */
export interface Scan extends FailedSource {
  kind: 'hosts' | 'ports' | 'hosts and ports';
}

/** Different targets from which on it is called a scan. */
const SCAN = 15;

export interface Summary {
  scans: readonly Scan[];
  connections: number;
  /** All by bytes; hosts count what they send and get. */
  hosts: readonly Ranked[];
  services: readonly Ranked[];
  exact: boolean;
  /** Connections by conn_state, TCP only, and by how they ended. */
  tcpStates: ReadonlyMap<string, number>;
  endings: ReadonlyMap<string, number>;
  protocols: ReadonlyMap<string, number>;
  failed: readonly FailedSource[];
  /** Those with the most packets first; of a flow table of one's own. */
  drops: readonly Drop[];
  retransmissions: number;
  outOfOrder: number;
}

const FAILED = new Set(['S0', 'REJ', 'RSTOS0', 'RSTRH', 'SH', 'SHR']);

export class Summarizer {
  /** Totals over all records. */
  readonly counted = { connections: 0, packets: 0, bytes: 0 };
  private readonly ruleOf: (stat: number) => string | null;
  private readonly hosts = new Ranking<Counted>(hostOrder, counter, (r) => r.bytes);
  private readonly services = new Ranking<Counted>(serviceOrder, counter, (r) => r.bytes);
  private readonly sources = new Ranking<Source>(hostOrder, source, (s) => s.failed + s.unanswered);
  private readonly tcpStates = new Map<string, number>();
  private readonly endings = new Map<string, number>();
  private readonly protocols = new Map<string, number>();
  private readonly drops = new Map<string, Drop>();
  /** Whether all that was joined was. */
  private isWhole = true;
  private retransmissions = 0;
  private outOfOrder = 0;

  constructor(ruleOf: (stat: number) => string | null) {
    this.ruleOf = ruleOf;
  }

  add(r: ConnectionRecord): void {
    const { proto } = r;
    const packets = r.packets[0] + r.packets[1];
    const bytes = r.frameBytes[0] + r.frameBytes[1];
    this.counted.connections++;
    this.counted.packets += packets;
    this.counted.bytes += bytes;
    const src = r.host(0, 0);
    const dst = r.host(0, 1);
    const dport = r.ports(0) & 0xffff;
    const name = protocolName(proto);
    const tcp = proto === IPPROTO_TCP;
    credit(this.hosts, src, packets, bytes);
    if (dst !== src) credit(this.hosts, dst, packets, bytes);
    const service = tcp || proto === IPPROTO_UDP ? (proto << 16) | dport : name;
    credit(this.services, service, packets, bytes);
    increment(this.endings, r.ending);
    increment(this.protocols, name);
    if (tcp) {
      const state = connState(r);
      increment(this.tcpStates, state);
      this.contact(src, dst, dport, FAILED.has(state), true);
      this.retransmissions += r.retransmissions[0] + r.retransmissions[1];
      this.outOfOrder += r.outOfOrder[0] + r.outOfOrder[1];
    } else if (proto === IPPROTO_UDP) {
      this.contact(src, dst, dport, r.packets[1] === 0, false);
    }
    if (r.drops > 0) this.dropped(r);
  }

  /** All of it, for `restore` of another. */
  save(): SummarizerState {
    const { counted, tcpStates, endings, protocols, drops, retransmissions, outOfOrder } = this;
    const rankings = [this.hosts, this.services, this.sources].map((r) => r.save());
    return { counted, rankings, tcpStates, endings, protocols, drops, retransmissions, outOfOrder };
  }

  restore(state: SummarizerState): void {
    Object.assign(this.counted, state.counted);
    this.hosts.restore(state.rankings[0] as RankingState<Counted>);
    this.services.restore(state.rankings[1] as RankingState<Counted>);
    this.sources.restore(state.rankings[2] as RankingState<Source>);
    for (const name of ['tcpStates', 'endings', 'protocols'] as const) {
      for (const [key, n] of state[name]) this[name].set(key, n);
    }
    for (const [key, entry] of state.drops) this.drops.set(key, entry);
    this.retransmissions = state.retransmissions;
    this.outOfOrder = state.outOfOrder;
  }

  summary(): Summary {
    const { hosts, services, sources } = this;
    const talked = sources.largest(1).map(told);
    return {
      connections: this.counted.connections,
      hosts: hosts.largest().map(ranked(hostName)),
      services: services.largest().map(ranked(serviceName)),
      exact: hosts.exact && services.exact && sources.exact && this.isWhole,
      tcpStates: this.tcpStates,
      endings: this.endings,
      protocols: this.protocols,
      failed: talked
        .filter((s) => s.failed > 0)
        .sort((a, b) => b.failed - a.failed)
        .map(({ src, failed, connections, refused }) => ({
          src,
          failed,
          connections,
          hosts: refused?.hosts.size ?? 0,
          ports: refused?.ports.size ?? 0,
        })),
      scans: talked.flatMap(scanOf),
      drops: [...this.drops.values()].sort((a, b) => b.packets - a.packets),
      retransmissions: this.retransmissions,
      outOfOrder: this.outOfOrder,
    };
  }

  /** What the writing thread answers with. */
  summed(share: boolean): Summed {
    return { counted: this.counted, summary: this.summary(), share: share ? this.share() : null };
  }

  /** What `join` of another needs. */
  share(): SummaryShare {
    const { hosts, services, sources, counted, retransmissions, outOfOrder } = this;
    const most = sources.largest().slice(0, SHARED);
    let [many, targets] = [0, 0];
    for (const { refused, silent } of most) {
      targets += sizeOf(refused) + sizeOf(silent);
      if (targets > SHARED_TARGETS) break;
      many++;
    }
    return {
      counted,
      exact:
        hosts.exact &&
        services.exact &&
        sources.exact &&
        hosts.size <= SHARED &&
        services.size <= SHARED &&
        sources.size === many,
      hosts: hosts.largest().slice(0, SHARED).map(ranked(hostName)),
      services: services.largest().slice(0, SHARED).map(ranked(serviceName)),
      sources: most
        .slice(0, many)
        .map((s) => ({ ...told(s), refused: listed(s.refused), silent: listed(s.silent) })),
      ...{ tcpStates: [...this.tcpStates], endings: [...this.endings], protocols: [...this.protocols] },
      drops: [...this.drops.values()],
      retransmissions,
      outOfOrder,
    };
  }

  /** Takes in what another has counted, of other connections. */
  join(share: SummaryShare): void {
    const { counted } = this;
    counted.connections += share.counted.connections;
    counted.packets += share.counted.packets;
    counted.bytes += share.counted.bytes;
    if (!share.exact) this.isWhole = false;
    for (const [ranking, list] of [
      [this.hosts, share.hosts],
      [this.services, share.services],
    ] as const) {
      for (const { name, connections, packets, bytes } of list)
        credit(ranking, name, packets, bytes, connections);
    }
    for (const s of share.sources) {
      const source = this.sources.of(s.src);
      source.failed += s.failed;
      source.connections += s.connections;
      source.unanswered += s.unanswered;
      source.refused = united(source.refused, s.refused);
      source.silent = united(source.silent, s.silent);
    }
    for (const name of ['tcpStates', 'endings', 'protocols'] as const) {
      for (const [key, n] of share[name]) increment(this[name], key, n);
    }
    for (const { reason, rule, connections, packets } of share.drops) {
      const entry = this.drop(reason, rule);
      entry.connections += connections;
      entry.packets += packets;
    }
    this.retransmissions += share.retransmissions;
    this.outOfOrder += share.outOfOrder;
  }

  private contact(src: Key, dst: Key, dport: number, failed: boolean, tcp: boolean): void {
    const source = this.sources.of(src);
    if (tcp) source.connections++;
    if (!failed) return;
    let targets = tcp ? source.refused : source.silent;
    targets ??= { hosts: new Set(), ports: new Set() };
    if (tcp) {
      source.failed++;
      source.refused = targets;
    } else {
      source.unanswered++;
      source.silent = targets;
    }
    const { hosts, ports } = targets;
    if (hosts.size < TARGETS) hosts.add(hostName(dst));
    if (ports.size < TARGETS) ports.add(dport);
  }

  private dropped(r: ConnectionRecord): void {
    const entry = this.drop(DROP_REASONS[r.dropReason] ?? '', this.ruleOf(r.dropStat));
    entry.connections++;
    entry.packets += r.drops;
  }

  private drop(reason: string, rule: string | null): Drop {
    const key = `${reason} ${rule}`;
    let entry = this.drops.get(key);
    if (entry === undefined) {
      entry = { reason, rule, connections: 0, packets: 0 };
      this.drops.set(key, entry);
    }
    return entry;
  }
}

/** What one of several has counted of its connections: plain data, as JSON takes it. Rankings have their SHARED largest
 *  entries; `exact` says whether that was all. */
export interface SummaryShare {
  counted: Summarizer['counted'];
  exact: boolean;
  hosts: Ranked[];
  services: Ranked[];
  sources: (Omit<Told, 'refused' | 'silent'> & { refused: Listed | null; silent: Listed | null })[];
  tcpStates: [string, number][];
  endings: [string, number][];
  protocols: [string, number][];
  drops: Drop[];
  retransmissions: number;
  outOfOrder: number;
}

/** Packets that were dropped for one reason by one rule, null if there was none, and the connections whose first
 *  dropped packet was among them. */
export interface Drop {
  reason: string;
  rule: string | null;
  connections: number;
  packets: number;
}

interface Listed {
  hosts: string[];
  ports: number[];
}

function listed(targets: Targets | null): Listed | null {
  return targets === null ? null : { hosts: [...targets.hosts], ports: [...targets.ports] };
}

function sizeOf(targets: Targets | null): number {
  return targets === null ? 0 : targets.hosts.size + targets.ports.size;
}

function united(targets: Targets | null, more: Listed | null): Targets | null {
  if (more === null) return targets;
  targets ??= { hosts: new Set(), ports: new Set() };
  for (const host of more.hosts) if (targets.hosts.size < TARGETS) targets.hosts.add(host);
  for (const port of more.ports) if (targets.ports.size < TARGETS) targets.ports.add(port);
  return targets;
}

/** Plain data, as `structuredClone` takes it. */
export interface SummarizerState {
  counted: Summarizer['counted'];
  rankings: RankingState<unknown>[];
  tcpStates: Map<string, number>;
  endings: Map<string, number>;
  protocols: Map<string, number>;
  drops: Map<string, Drop>;
  retransmissions: number;
  outOfOrder: number;
}

interface RankingState<T> {
  exact: boolean;
  entries: T[];
}

/** What an entry of a ranking is of: a name, or a number that stands for one. */
type Key = string | number;

interface Counted {
  key: Key;
  connections: number;
  packets: number;
  bytes: number;
}

const counter = (key: Key): Counted => ({ key, connections: 0, packets: 0, bytes: 0 });

/** An IPv4 address may be its word. */
function hostName(key: Key): string {
  return typeof key === 'number' ? formatIpv4(key) : key;
}

function hostOrder(a: Key, b: Key): number {
  if (typeof a === 'number' && typeof b === 'number') return ipv4TextRank(a) - ipv4TextRank(b);
  return hostName(a) < hostName(b) ? -1 : 1;
}

/** A port of TCP or UDP may be protocol and port. */
function serviceName(key: Key): string {
  return typeof key === 'number' ? `${protocolName(key >>> 16)}/${key & 0xffff}` : key;
}

function serviceOrder(a: Key, b: Key): number {
  return serviceName(a) < serviceName(b) ? -1 : 1;
}

function ranked(nameOf: (key: Key) => string): (entry: Counted) => Ranked {
  return ({ key, connections, packets, bytes }) => ({ name: nameOf(key), connections, packets, bytes });
}

interface Source {
  key: Key;
  failed: number;
  connections: number;
  /** Of UDP. */
  unanswered: number;
  /** Of failed handshakes, and of unanswered UDP. */
  refused: Targets | null;
  silent: Targets | null;
}

interface Targets {
  hosts: Set<string>;
  ports: Set<number>;
}

function source(key: Key): Source {
  return { key, failed: 0, connections: 0, unanswered: 0, refused: null, silent: null };
}

/** A source by its name. */
type Told = Omit<Source, 'key'> & { src: string };

function told({ key, failed, connections, unanswered, refused, silent }: Source): Told {
  return { src: hostName(key), failed, connections, unanswered, refused, silent };
}

function scanOf({ src, failed, connections, unanswered, refused, silent }: Told): Scan[] {
  const hosts = union(refused?.hosts, silent?.hosts);
  const ports = union(refused?.ports, silent?.ports);
  const many = [hosts >= SCAN, ports >= SCAN];
  if (!many[0] && !many[1]) return [];
  const kind = many[0] ? (many[1] ? 'hosts and ports' : 'hosts') : 'ports';
  return [{ src, kind, failed: failed + unanswered, connections, hosts, ports }];
}

/** Members of either, up to TARGETS. */
function union<T>(a: ReadonlySet<T> = new Set(), b: ReadonlySet<T> = new Set()): number {
  return Math.min(TARGETS, new Set([...a, ...b]).size);
}

/** Entries by key; when there are twice as many as are kept, the smaller half goes. The same thing always has the same key. */
class Ranking<T extends { key: Key }> {
  exact = true;
  /** Entries of names, and of numbers by their code. */
  private readonly named = new Map<string, T>();
  private readonly codes = new Codes();
  private numbered: T[] = [];
  private readonly order: (a: Key, b: Key) => number;
  private readonly make: (key: Key) => T;
  private readonly weight: (entry: T) => number;

  /** `order` is that of the names. */
  constructor(order: (a: Key, b: Key) => number, make: (key: Key) => T, weight: (entry: T) => number) {
    this.order = order;
    this.make = make;
    this.weight = weight;
  }

  get size(): number {
    return this.named.size + this.numbered.length;
  }

  /** The entry of a key, made if there is none. */
  of(key: Key): T {
    const known = typeof key === 'number' ? this.numbered[this.codes.idOf(key)] : this.named.get(key);
    if (known !== undefined) return known;
    const entry = this.make(key);
    if (this.size >= 2 * RANKED) this.prune();
    this.enter(entry);
    return entry;
  }

  save(): RankingState<T> {
    return { exact: this.exact, entries: this.all() };
  }

  restore({ exact, entries }: RankingState<T>): void {
    this.exact = exact;
    for (const entry of entries) this.enter(entry);
  }

  /** From the largest down to those of weight `least`. */
  largest(least = 0): T[] {
    return this.sorted(this.all().filter((entry) => this.weight(entry) >= least));
  }

  private all(): T[] {
    return [...this.named.values(), ...this.numbered];
  }

  private enter(entry: T): void {
    const { key } = entry;
    if (typeof key === 'number') this.numbered[this.codes.idOf(key)] = entry;
    else this.named.set(key, entry);
  }

  private prune(): void {
    this.exact = false;
    const all = this.all();
    const weights = Float64Array.from(all, this.weight).sort();
    const least = weights[all.length - RANKED];
    const kept = all.filter((entry) => this.weight(entry) > least);
    const last = this.sorted(all.filter((entry) => this.weight(entry) === least));
    this.named.clear();
    this.codes.clear();
    this.numbered = [];
    for (const entry of kept) this.enter(entry);
    for (const entry of last.slice(0, RANKED - kept.length)) this.enter(entry);
  }

  private sorted(entries: T[]): T[] {
    return entries.sort((x, y) => this.weight(y) - this.weight(x) || this.order(x.key, y.key));
  }
}

function credit(ranking: Ranking<Counted>, key: Key, packets: number, bytes: number, connections = 1): void {
  const entry = ranking.of(key);
  entry.connections += connections;
  entry.packets += packets;
  entry.bytes += bytes;
}

function increment(map: Map<string, number>, key: string, n = 1): void {
  map.set(key, (map.get(key) ?? 0) + n);
}
