/** Commands of ovs-appctl(8) and what they answer, in Open vSwitch's words (ovs-dpctl(8), "CONNECTION TRACKING
 *  TABLE COMMANDS"). Each is read and checked when the events file is; it acts while no packet is in flight. */

import { TCP_STATE_NAMES } from '../conntrack/tcp.js';
import { DEFAULT_ZONE } from '../conntrack/zone-limits.js';
import type { Pipeline } from '../openflow/tables.js';
import { MOST_CONNS } from '../shm/layouts.js';
import { IPPROTO_ICMP, IPPROTO_IGMP, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP } from '../wire/extract.js';
import {
  isConnection,
  isEverything,
  isFiveTuple,
  keyValues,
  matchesConnection,
  numberOf,
  parseConnectionMatch,
  parseZone,
  UsageProblem,
} from './ct-match.js';
import {
  connection,
  connectionsAt,
  type DumpOptions,
  dumpConntrack,
  dumpExpectations,
  IPPROTO_DCCP,
  IPPROTO_UDPLITE,
  tcpOneState,
} from './dump.js';
import type { Fabric } from './fabric.js';
import {
  LEAST_MIN_FRAGMENT,
  MOST_FRAGMENTS,
  setFragmentsEnabled,
  setMaxFragments,
  setMinFragment,
  showFragments,
} from './fragment-commands.js';

/** What commands act on. */
export interface CommandTarget {
  fabric: Fabric;
  pipeline: Pipeline;
  /** Tracker's clock in ms at the event. */
  clock: number;
}

/** Acts; returns what it prints. Throws CommandRefused. */
export type Command = (target: CommandTarget) => string;

/** A command that can't be done as things are: the text is what Open vSwitch would say. */
export class CommandRefused extends Error {
  override name = 'CommandRefused';
}

/** Options that come before the arguments. */
interface Flags {
  verbose: boolean;
  statistics: boolean;
}

interface Entry {
  usage: string;
  /** Arguments behind the datapath's name. */
  min: number;
  max: number;
  read(args: readonly string[], flags: Flags): Command;
}

/** How ovs-vswitchd begins the text of an error. */
const SPEAKER = 'ovs-vswitchd: ';
const MAX_U32 = 0xffff_ffff;

const COMMANDS = new Map<string, Entry>([
  ['dpctl/dump-conntrack', { usage: '[-m] [-s] [dp] [zone=N]', min: 0, max: 1, read: readDump }],
  ['dpctl/dump-conntrack-exp', { usage: '[dp] [zone=N]', min: 0, max: 1, read: readDumpExpectations }],
  [
    'dpctl/flush-conntrack',
    {
      usage: '[dp] [zone=N] [mark=X[/M]] [labels=Y[/N]] [ct-orig-tuple [ct-reply-tuple]]',
      min: 0,
      max: 5,
      read: readFlush,
    },
  ],
  ['dpctl/ct-stats-show', { usage: '[-m] [dp] [zone=N]', min: 0, max: 2, read: readStats }],
  ['dpctl/ct-bkts', { usage: '[dp] [gt=N]', min: 0, max: 1, read: readBuckets }],
  ['dpctl/ct-set-maxconns', { usage: '[dp] MAXCONNS', min: 1, max: 1, read: readSetMaxconns }],
  ['dpctl/ct-get-maxconns', query((t) => `${t.fabric.coordinator.maxConns}\n`)],
  ['dpctl/ct-get-nconns', query((t) => `${t.fabric.coordinator.live(t.clock)}\n`)],
  ['dpctl/ct-enable-tcp-seq-chk', sequenceCheck(true)],
  ['dpctl/ct-disable-tcp-seq-chk', sequenceCheck(false)],
  [
    'dpctl/ct-get-tcp-seq-chk',
    query((t) => `TCP sequence checking: ${t.fabric.sequenceCheck ? 'enabled' : 'disabled'}\n`),
  ],
  [
    'dpctl/ct-set-limits',
    { usage: '[dp] [default=L] [zone=N,limit=L]...', min: 1, max: Infinity, read: readSetLimits },
  ],
  ['dpctl/ct-del-limits', { usage: '[dp] [default] [zone=N1[,N2]...]', min: 1, max: 2, read: readDelLimits }],
  ['dpctl/ct-get-limits', { usage: '[dp] [zone=N1[,N2]...]', min: 0, max: 1, read: readGetLimits }],
  ['dpctl/ct-get-sweep-interval', query((t) => `${t.fabric.coordinator.sweepIntervalMs}`)],
  ['dpctl/ct-set-sweep-interval', { usage: '[dp] MS', min: 1, max: 1, read: readSetSweep }],
  [
    'dpctl/ipf-set-enabled',
    { usage: '[dp] v4|v6', min: 1, max: 1, read: ([version]) => setFragmentsEnabled(version, true) },
  ],
  [
    'dpctl/ipf-set-disabled',
    { usage: '[dp] v4|v6', min: 1, max: 1, read: ([version]) => setFragmentsEnabled(version, false) },
  ],
  ['dpctl/ipf-set-min-frag', { usage: '[dp] v4|v6 BYTES', min: 2, max: 2, read: readMinFragment }],
  ['dpctl/ipf-set-max-nfrags', { usage: '[dp] MAXFRAGS', min: 1, max: 1, read: readMaxFragments }],
  [
    'dpctl/ipf-get-status',
    { usage: '[-m] [dp]', min: 0, max: 0, read: (_, { verbose }) => showFragments(verbose) },
  ],
  [
    'fdb/show',
    { usage: '[bridge]', min: 0, max: 1, read: () => (t) => t.fabric.coordinator.macs.show(t.clock) },
  ],
  [
    'fdb/flush',
    {
      usage: '[bridge]',
      min: 0,
      max: 1,
      read: () => (t) => {
        t.fabric.coordinator.macs.clear();
        return 'table successfully flushed';
      },
    },
  ],
]);

/** Commands and their arguments, for messages and the manual. */
export function appctlUsage(): string[] {
  return [...COMMANDS].map(([name, { usage }]) => `${name} ${usage}`.trim());
}

/** Reads `[command, argument…]`; throws UsageProblem. */
export function readAppctl(argv: readonly string[]): Command {
  const [name, ...given] = argv;
  const entry = COMMANDS.get(name);
  if (entry === undefined) {
    throw new UsageProblem(
      `"${name}" is not a valid command; expected one of ${[...COMMANDS.keys()].join(', ')}`,
    );
  }
  const args = [...given];
  const flags: Flags = { verbose: false, statistics: false };
  if (name.startsWith('dpctl/')) {
    while (args[0]?.startsWith('-') && args[0] !== '-') readFlag(args.shift()!, flags, name);
    // There is only one datapath.
    if (args.length > 0 && /^((netdev|system|dummy)@\S+|ovs-(netdev|system|dummy))$/.test(args[0]))
      args.shift();
  }
  if (args.length < entry.min || args.length > entry.max) {
    const problem =
      args.length < entry.min ? 'too few arguments' : `"${args.at(-1)}" is an argument too many`;
    throw new UsageProblem(`${name}: ${problem}; expected ${name} ${entry.usage}`);
  }
  return problemsOf(name, () => entry.read(args, flags));
}

/** Puts the command's name in front of its problems. */
function problemsOf<T>(name: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof UsageProblem) throw new UsageProblem(`${name}: ${error.message}`);
    throw error;
  }
}

function readFlag(text: string, flags: Flags, name: string): void {
  const letters =
    { '--more': 'm', '--statistics': 's' }[text] ?? (text.startsWith('--') ? '-' : text.slice(1));
  for (const letter of letters) {
    if (letter === 'm') flags.verbose = true;
    else if (letter === 's') flags.statistics = true;
    else throw new UsageProblem(`${name}: Unrecognized option ${text}; expected -m or -s`);
  }
}

function query(answer: Command): Entry {
  return { usage: '[dp]', min: 0, max: 0, read: () => answer };
}

function readNumber(text: string, what: string): number {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (value <= MAX_U32) return value;
  throw new UsageProblem(`${what} missing or malformed: "${text}"; expected a whole number up to ${MAX_U32}`);
}

function zoneArgument(text: string | undefined): number | null {
  if (text === undefined) return null;
  if (!text.startsWith('zone=')) throw new UsageProblem(`"${text}" is not expected here; expected zone=N`);
  return parseZone(text.slice(5));
}

function lines(text: readonly string[]): string {
  return text.map((line) => `${line}\n`).join('');
}

// ---- fragments ----

function readMinFragment([version, size]: readonly string[]): Command {
  const bytes = readNumber(size, 'minimum fragment size');
  const set = setMinFragment(version, bytes);
  return (target) => {
    if (bytes >= LEAST_MIN_FRAGMENT) return set(target);
    throw new CommandRefused(
      `${SPEAKER}requested minimum fragment size too small; see documentation (Operation not permitted)\n`,
    );
  };
}

function readMaxFragments([count]: readonly string[]): Command {
  const n = readNumber(count, 'maximum fragments');
  const set = setMaxFragments(n);
  return (target) => {
    if (n <= MOST_FRAGMENTS) return set(target);
    throw new CommandRefused(`${SPEAKER}setting maximum fragments failed (Operation not permitted)\n`);
  };
}

// ---- the table ----

function readDump([zone]: readonly string[], flags: Flags): Command {
  const options: DumpOptions = { ...flags, zone: zoneArgument(zone) };
  return ({ fabric, clock }) => lines(dumpConntrack(fabric.coordinator.partitions, clock, options));
}

function readDumpExpectations([zone]: readonly string[]): Command {
  const only = zoneArgument(zone);
  return ({ fabric, clock }) => lines(dumpExpectations(fabric.coordinator.partitions, clock, only));
}

function readFlush(args: readonly string[]): Command {
  const match = parseConnectionMatch(args);
  const { zone } = match;
  if (isEverything(match)) {
    return ({ fabric, clock }) => {
      fabric.coordinator.flush(clock, (p, slot) => zone === null || p.zone(slot) === zone);
      return '';
    };
  }
  const one = isFiveTuple(match);
  const test = one ? isConnection : matchesConnection;
  return ({ fabric, clock }) => {
    const n = fabric.coordinator.flush(clock, (p, slot) => test(match, connection(p, slot)));
    if (one && n === 0)
      throw new CommandRefused(`${SPEAKER}failed to flush conntrack (No such file or directory)\n`);
    return '';
  };
}

/** Protocols in the order in which they are printed; ICMPv6 is not. */
const STATS: readonly (readonly [string, number])[] = [
  ['TCP', IPPROTO_TCP],
  ['UDP', IPPROTO_UDP],
  ['UDPLITE', IPPROTO_UDPLITE],
  ['SCTP', IPPROTO_SCTP],
  ['ICMP', IPPROTO_ICMP],
  ['DCCP', IPPROTO_DCCP],
  ['IGMP', IPPROTO_IGMP],
];
const IPPROTO_ICMPV6 = 58;

function readStats(args: readonly string[], flags: Flags): Command {
  const rest = args.filter((a) => a !== 'verbose');
  const verbose = flags.verbose || rest.length < args.length;
  const zone = zoneArgument(rest[0]);
  if (rest.length > 1) throw new UsageProblem(`"${rest[1]}" is an argument too many; expected one zone=N`);
  return ({ fabric, clock }) => {
    const all = connectionsAt(fabric.coordinator.partitions, clock, zone);
    const byProto = new Map<number, number>();
    const byState = new Map<number, number>();
    for (const c of all) {
      byProto.set(c.proto, (byProto.get(c.proto) ?? 0) + 1);
      if (c.proto !== IPPROTO_TCP) continue;
      const state = tcpOneState(c.state);
      byState.set(state, (byState.get(state) ?? 0) + 1);
    }
    const out = ['Connections Stats:', `    Total: ${all.length}`];
    let named = byProto.get(IPPROTO_ICMPV6) ?? 0;
    for (const [name, proto] of STATS) {
      const n = byProto.get(proto) ?? 0;
      named += n;
      if (n > 0) out.push(`  ${name}: ${n}`);
      if (n === 0 || proto !== IPPROTO_TCP || !verbose) continue;
      out.push('    Conn per TCP states:');
      for (const [state, k] of [...byState].sort(([a], [b]) => a - b)) {
        out.push(`\t  [${TCP_STATE_NAMES[state]}]=${k}`);
      }
    }
    if (all.length > named) out.push(`  Other: ${all.length - named}`);
    return lines(out);
  };
}

/** OVS has had a single bucket since its table became a cmap of every zone. */
function readBuckets([gt]: readonly string[]): Command {
  const least = gt === undefined ? 0 : /^gt=\d{1,5}$/.test(gt) ? Number(gt.slice(3)) : -1;
  if (least < 0) throw new UsageProblem(`"${gt}" is not expected here; expected gt=N`);
  return ({ fabric, clock }) => {
    const n = fabric.coordinator.live(clock);
    const rule = `+-----------+${'-'.repeat(41)}+`;
    const table = [
      rule,
      '|  Buckets  |         Connections per Buckets         |',
      rule,
      `   0..  7   | ${(n > least ? String(n) : '.').padStart(5)}`,
      '',
    ];
    return lines(['Total Buckets: 1', `Current Connections: ${n}`, '', ...(n > 0 ? table : [])]);
  };
}

function readSetMaxconns([text]: readonly string[]): Command {
  const n = maxConnsOf(text);
  return ({ fabric }) => {
    fabric.coordinator.setMaxConns(n);
    return 'setting maxconns successful';
  };
}

/** The table has room for the largest number that the events name, so all are known at the start. */
export function maxConnsOf(text: string): number {
  const n = readNumber(text, 'maxconns');
  if (n <= MOST_CONNS) return n;
  throw new UsageProblem(`maxconns ${n} is more than Shardtrack can hold; expected ${MOST_CONNS} at most`);
}

function sequenceCheck(on: boolean): Entry {
  return query(({ fabric }) => {
    fabric.setSequenceCheck(on);
    return `${on ? 'enabling' : 'disabling'} TCP sequence checking successful`;
  });
}

/** When ended connections are removed shows in no result, so the interval is only remembered. */
function readSetSweep([text]: readonly string[]): Command {
  const ms = /^\d{1,10}$/.test(text) ? Number(text) : 0;
  if (ms === 0 || ms > MAX_U32)
    throw new UsageProblem(`invalid sweep value: "${text}"; expected milliseconds, from 1 on`);
  return ({ fabric }) => {
    fabric.coordinator.sweepIntervalMs = ms;
    return 'setting sweep interval successful\n';
  };
}

// ---- zone limits ----

function readSetLimits(args: readonly string[]): Command {
  const limits: [number, number][] = [];
  args.forEach((arg, i) => {
    if (i === 0 && arg.startsWith('default=')) {
      const limit = /^default=\d{1,10}$/.test(arg) ? Number(arg.slice(8)) : Number.NaN;
      if (!(limit <= MAX_U32))
        throw new UsageProblem(`invalid default limit: "${arg}"; expected default=LIMIT`);
      limits.push([DEFAULT_ZONE, limit]);
      return;
    }
    limits.push(readLimit(arg));
  });
  return ({ fabric }) => {
    refuseProtected(fabric, 'set');
    for (const [zone, limit] of limits) fabric.coordinator.limits.set(zone, limit);
    return '';
  };
}

function readLimit(arg: string): [number, number] {
  let zone: number | null = null;
  let limit: number | null = null;
  for (const [key, value] of keyValues(arg)) {
    if (key === 'zone') zone = numberOf(key, value, 16);
    else if (key === 'limit') limit = numberOf(key, value, 32);
    else {
      const hint =
        key === 'default' ? '; expected default=LIMIT in front of all zones' : '; expected zone=N,limit=L';
      throw new UsageProblem(`invalid zone limit field: ${key}${hint}`);
    }
  }
  if (zone === null || limit === null) {
    throw new UsageProblem(`failed to parse zone limit: "${arg}"; expected zone=N,limit=L`);
  }
  return [zone, limit];
}

function readZones(arg: string): number[] {
  if (!arg.startsWith('zone=')) throw new UsageProblem(`invalid argument ${arg}; expected zone=N1[,N2]...`);
  return arg
    .slice(5)
    .split(',')
    .filter((z) => z !== '')
    .map(parseZone);
}

function readDelLimits(args: readonly string[]): Command {
  const zones = args[0] === 'default' ? [DEFAULT_ZONE] : [];
  const rest = args.slice(zones.length);
  if (rest.length > 1)
    throw new UsageProblem(`"${rest[1]}" is an argument too many; expected all zones in one`);
  if (rest.length === 1) zones.push(...readZones(rest[0]));
  return ({ fabric }) => {
    refuseProtected(fabric, 'del');
    for (const zone of zones) fabric.coordinator.limits.remove(zone);
    return '';
  };
}

function readGetLimits([arg]: readonly string[]): Command {
  const asked = arg === undefined ? null : readZones(arg);
  return ({ fabric, clock }) => {
    const { limits } = fabric.coordinator;
    fabric.coordinator.settle(clock + 1);
    const rows = (asked ?? limits.zones()).map((zone) => limits.get(zone));
    const text = rows.map((r) => `\nzone=${r.zone},limit=${r.limit},count=${r.count}`).join('');
    return `default limit=${limits.get(DEFAULT_ZONE).limit}${text}\n`;
  };
}

/** Limits that ovs-vsctl has set are not dpctl's to change. */
function refuseProtected(fabric: Fabric, what: 'set' | 'del'): void {
  if (fabric.coordinator.databaseLimits.size === 0) return;
  throw new CommandRefused(
    `${SPEAKER}the zone limits are set via database, use 'ovs-vsctl ${what}-zone-limit <...>' instead. (Operation not permitted)\n`,
  );
}
