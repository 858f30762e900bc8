/** `shardtrack replay`. */
import fs from 'node:fs';
import { availableParallelism } from 'node:os';
import type cliProgress from 'cli-progress';
import { OFPP_CONTROLLER, OFPP_LOCAL } from '../classifier/flow-key.js';
import { type ControlEvent, type EventOutcome, outcomeJson, parseEvents } from '../coordinator/events.js';
import { type PortMap, type ReplayOptions, replay } from '../coordinator/replay.js';
import { type Ordering, orderingOf } from '../openflow/order.js';
import { Pipeline } from '../openflow/tables.js';
import { Translator } from '../openflow/translate.js';
import { type FileSink, NdjsonSink, PcapngSink, PortSink } from '../output/sinks.js';
import { DEFAULT_SEGMENT_BYTES, minSegments, SegmentArena } from '../pcap/arena.js';
import { MergedSource } from '../pcap/merge.js';
import { openCapture } from '../pcap/open.js';
import { OutputFile } from '../pcap/output-file.js';
import { renderReport } from '../report/lazy.js';
import { replayReport, Timeline } from '../report/replay.js';
import type { PrefixSet } from '../wire/cidr.js';
import { parseTables, readText } from './flows.js';
import { checkOutputs, type PortFile, UsageError } from './options.js';
import { abortOnSignals } from './signals.js';
import { statsOf, summaryText } from './summary.js';

export interface ReplayArguments {
  captures: string[];
  in: PortFile[];
  out: PortFile[];
  inside?: PrefixSet;
  ports: number[];
  flows?: string;
  groups?: string;
  meters?: string;
  events?: string;
  eventsLog?: string;
  verdicts?: string;
  frameHashes?: boolean;
  controller?: string;
  conntrack?: string;
  connections?: string;
  dumpFlows?: string;
  dumpGroups?: string;
  dpflows?: string;
  stats?: string;
  html?: string;
  comments?: boolean;
  workers: number | 'auto';
  maxConns?: number;
  strict?: boolean;
  rssKey?: Uint8Array;
  window?: number;
  vector?: number;
  watchdog?: number;
  jitter?: number;
  ringWords?: number;
  slow?: number;
  fault?: ReplayOptions['fault'];
  quiet?: boolean;
}

/** What runs without --flows. */
const DEFAULT_FLOWS = 'ip,actions=ct(commit)\nipv6,actions=ct(commit)\n';

/** Segments of the packet arena besides those that the readers need to go on. */
const SPARE_SEGMENTS = 32;

/** Runs the command; resolves to the exit code. Throws UsageError, FlowSyntaxError and EventError for
 *  exit code 2, anything else for 1. */
export async function replayCommand(args: ReplayArguments, version: string): Promise<number> {
  checkStandardStreams(args);
  const { pipeline, ports, events, ordering } = loadPipeline(args);
  const workers = workersOf(args);
  const paths = pathsOf(args);
  const { arena, source } = await openSource(paths);

  const sinks: FileSink[] = [];
  const files: OutputFile[] = [];
  const bar = await progressBar(args, paths);
  const abort = new AbortController();
  const off = abortOnSignals(abort);
  try {
    openSinks(args, ports, sinks);
    const conntrack = open(args.conntrack, files);
    const onRecord = await recordsTo(open(args.connections, files), pipeline);
    const flowsDump = open(args.dumpFlows, files);
    const groupsDump = open(args.dumpGroups, files);
    const statsFile = open(args.stats, files);
    const dpflows = open(args.dpflows, files);
    const log = open(args.eventsLog, files);
    const html = open(args.html, files);
    const timeline = html === null ? null : new Timeline();
    const refusals: string[] = [];
    const result = await replay({
      source,
      arena,
      portMap: portMap(args),
      ports,
      translator: new Translator(pipeline),
      workers,
      ordering,
      events,
      onEvent: (outcome) => {
        log?.writeText(`${outcomeJson(outcome)}\n`);
        if (outcome.error !== null) refusals.push(refusalText(outcome));
      },
      onFlowRemoved: (line) => log?.writeText(`${line}\n`),
      onRecord,
      strict: args.strict,
      dpflows: args.dpflows !== undefined,
      sinks: timeline === null ? sinks : [...sinks, timeline],
      maxConns: args.maxConns,
      rssKey: args.rssKey,
      window: args.window,
      vector: args.vector,
      watchdog: args.watchdog,
      jitter: args.jitter,
      ringWords: args.ringWords,
      slow: args.slow,
      fault: args.fault,
      progress: (_packets, bytes, coordinator) => {
        bar?.update(bytes);
        timeline?.look(coordinator);
      },
      signal: abort.signal,
    });
    bar?.stop();
    const stats = statsOf(result, { version, workers, ordering });
    if (conntrack !== null) {
      const json = /\.(ndjson|json)$/i.test(args.conntrack ?? '');
      for (const line of json ? result.dumpJson() : result.dump()) conntrack.writeText(`${line}\n`);
    }
    flowsDump?.writeText(result.dumpFlows());
    groupsDump?.writeText(result.dumpGroups());
    if (dpflows !== null) for (const line of result.dpflows()) dpflows.writeText(`${line}\n`);
    statsFile?.writeText(`${JSON.stringify(stats, null, 2)}\n`);
    if (html !== null && timeline !== null) {
      timeline.finish(result.census());
      html.writeText(await renderReport(replayReport(stats, timeline, factsOf(args, paths))));
    }
    for (const notice of result.notices) {
      process.stderr.write(`shardtrack: warning: ${notice.file}: byte ${notice.offset}: ${notice.message}\n`);
    }
    warnOfRefusals(refusals);
    // Damage ends the input, not the report on what came before; but the outputs are not whole.
    if (result.damage !== null) {
      if (!args.quiet) summaryStream(args).write(summaryText(stats));
      throw result.damage;
    }
    for (const output of [...sinks, ...files]) output.finish();
    if (!args.quiet) summaryStream(args).write(summaryText(stats));
    return 0;
  } catch (error) {
    bar?.stop();
    for (const output of [...sinks, ...files]) output.abort();
    // Nobody is told of a pipe that was closed, and it can't be renamed.
    const kept = [...sinks, ...files].filter((o) => o.path !== '-').length;
    if (kept > 0) {
      process.stderr.write('shardtrack: outputs are incomplete and keep the ending .partial\n');
    }
    throw error;
  } finally {
    off();
  }
}

/** What writes records of connections; loaded when it is needed. */
async function recordsTo(
  file: OutputFile | null,
  pipeline: Pipeline,
): Promise<ReplayOptions['onRecord'] | undefined> {
  if (file === null) return undefined;
  const [{ ruleNames }, { recordJson }] = await Promise.all([
    import('../analyze/analyze.js'),
    import('../output/records/sinks.js'),
  ]);
  const ruleOf = ruleNames(pipeline);
  return (record) => file.writeText(`${recordJson(record, ruleOf)}\n`);
}

/** What a report says about the input. */
function factsOf(args: ReplayArguments, paths: readonly string[]): [string, string][] {
  const { flows, groups, events } = args;
  const facts: [string, string][] = [
    ['Captures', paths.join(', ')],
    ['Flow table', flows ?? 'built in: everything is tracked'],
  ];
  if (groups !== undefined) facts.push(['Groups', groups]);
  if (events !== undefined) facts.push(['Events', events]);
  return facts;
}

/** Refused events that are told one by one; the log has all. */
const REFUSALS_SHOWN = 10;

function refusalText({ event, error }: EventOutcome): string {
  const what = Array.isArray(event.argument) ? event.argument.join(' ') : JSON.stringify(event.argument);
  return `${event.place}: ${event.kind} ${what}: ${(error as string).trim()}`;
}

function warnOfRefusals(refusals: readonly string[]): void {
  for (const text of refusals.slice(0, REFUSALS_SHOWN))
    process.stderr.write(`shardtrack: warning: ${text}\n`);
  const more = refusals.length - REFUSALS_SHOWN;
  if (more > 0)
    process.stderr.write(
      `shardtrack: warning: ${more} more events were refused; --events-log FILE has all\n`,
    );
}

/** The flow table and the ports of the switch. */
export function loadPipeline(
  args: Pick<
    ReplayArguments,
    'flows' | 'groups' | 'meters' | 'events' | 'in' | 'out' | 'ports' | 'inside' | 'captures'
  > & { builtIn?: string },
): {
  pipeline: Pipeline;
  /** Without LOCAL. */
  ports: number[];
  events: ControlEvent[];
  /** That the tables need, with what the events put into them. */
  ordering: Ordering;
} {
  const file = args.flows ?? '<built-in>';
  const text = args.flows === undefined ? (args.builtIn ?? DEFAULT_FLOWS) : readText(args.flows);
  const load = (path: string | undefined) =>
    path === undefined ? undefined : { file: path, text: readText(path) };
  const {
    rules: [rules],
    groups,
    meters,
  } = parseTables([{ file, text }], load(args.groups), load(args.meters));
  const ports = new Set<number>(args.ports);
  for (const { port } of [...args.in, ...args.out]) if (port !== null) ports.add(port);
  if (args.captures.length > 0) ports.add(1);
  if (args.inside !== undefined) ports.add(1).add(2);
  ports.delete(OFPP_LOCAL);
  const sorted = [...ports].sort((a, b) => a - b);
  const events =
    args.events === undefined
      ? []
      : parseEvents(readText(args.events), args.events, { ports: sorted, readFile: readText });
  const lists = [...rules, ...groups.flatMap((g) => g.buckets)].map((r) => r.actions);
  return {
    pipeline: new Pipeline({ rules, groups, meters, ports: sorted }),
    ports: sorted,
    events,
    ordering: orderingOf([...lists, ...events.flatMap((e) => e.actions)]),
  };
}

/** How many workers `--workers` means. */
export function workersOf(args: Pick<ReplayArguments, 'workers'>): number {
  return args.workers === 'auto' ? Math.max(1, availableParallelism() - 1) : args.workers;
}

/** The captures, bare ones first. */
export function pathsOf(args: Pick<ReplayArguments, 'captures' | 'in'>): string[] {
  return [...args.captures, ...args.in.map((i) => i.path)];
}

/** Opens captures, merged by time, over an arena of their own. */
export async function openSource(
  paths: readonly string[],
): Promise<{ arena: SegmentArena; source: MergedSource }> {
  const arena = new SegmentArena(minSegments(paths.length) + SPARE_SEGMENTS, DEFAULT_SEGMENT_BYTES);
  const readers = [];
  for (const path of paths) readers.push(await openCapture(path, arena));
  return { arena, source: new MergedSource(readers, arena) };
}

/** Which port a packet arrives on. */
export function portMap(args: Pick<ReplayArguments, 'captures' | 'in' | 'inside'>): PortMap {
  const fixed = args.in.map((i) => i.port as number);
  const bare = args.captures.length;
  const { inside } = args;
  return {
    identity: JSON.stringify([fixed, inside?.text ?? null]),
    portOf(source, iface, view, off, len) {
      if (source >= bare) return fixed[source - bare];
      if (inside !== undefined) return inside.holdsSource(view, off, len) ? 1 : 2;
      return iface + 1;
    },
  };
}

function openSinks(args: ReplayArguments, ports: readonly number[], sinks: FileSink[]): void {
  if (args.verdicts !== undefined) sinks.push(new NdjsonSink(args.verdicts, args.frameHashes));
  if (args.controller !== undefined) sinks.push(new PortSink(OFPP_CONTROLLER, args.controller));
  for (const { port, path } of args.out) {
    if (port === null) sinks.push(new PcapngSink(path, [...ports, OFPP_LOCAL], args.comments ?? false));
    else sinks.push(new PortSink(port, path));
  }
}

function open(path: string | undefined, files: OutputFile[]): OutputFile | null {
  if (path === undefined) return null;
  const file = new OutputFile(path);
  files.push(file);
  return file;
}

function outputs(args: ReplayArguments): string[] {
  return [
    args.verdicts,
    args.controller,
    args.conntrack,
    args.connections,
    args.stats,
    args.html,
    args.eventsLog,
    args.dumpFlows,
    args.dumpGroups,
    args.dpflows,
    ...args.out.map((o) => o.path),
  ].filter((p): p is string => p !== undefined);
}

function checkStandardStreams(args: ReplayArguments): void {
  const inputs = pathsOf(args);
  if (inputs.length === 0) {
    throw new UsageError('no capture given; expected a file, - for standard input, or --in PORT=FILE');
  }
  if (inputs.filter((p) => p === '-').length > 1) {
    throw new UsageError('standard input (-) can be only one of the captures');
  }
  const { flows, groups, meters, events } = args;
  checkOutputs(outputs(args), [...inputs, flows, groups, meters, events]);
}

/** The summary makes way for an output on standard output. */
function summaryStream(args: ReplayArguments): NodeJS.WriteStream {
  return outputs(args).includes('-') ? process.stderr : process.stdout;
}

async function progressBar(
  args: ReplayArguments,
  paths: readonly string[],
): Promise<cliProgress.SingleBar | null> {
  if (args.quiet || !process.stderr.isTTY) return null;
  let total = 0;
  for (const path of paths) {
    const stat = path === '-' ? undefined : fs.statSync(path, { throwIfNoEntry: false });
    if (stat === undefined || !stat.isFile()) return null;
    total += stat.size;
  }
  const { default: library } = await import('cli-progress');
  const bar = new library.SingleBar(
    {
      format: 'replaying {bar} {percentage} % | {duration_formatted} | {eta_formatted} left',
      stream: process.stderr,
      hideCursor: true,
      clearOnComplete: true,
    },
    library.Presets.shades_classic,
  );
  bar.start(total, 0);
  return bar;
}
