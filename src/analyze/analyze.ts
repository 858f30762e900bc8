/** Connection records of captures: the library's `analyze`, and what `shardtrack analyze` runs on. */
import fs from 'node:fs';
import { availableParallelism } from 'node:os';
import type { ConnectionRecord } from '../coordinator/record.js';
import { type PortMap, type ReplayOptions, type ReplayResult, replay } from '../coordinator/replay.js';
import { SlicesWontDo } from '../coordinator/slice.js';
import type { Fault } from '../datapath/fault.js';
import { DROP_CONTROLLER, DROP_FRAGMENT_HELD, DROP_REASONS } from '../datapath/program.js';
import { formatRule } from '../openflow/format.js';
import { type Ordering, orderingOf } from '../openflow/order.js';
import { parseFlows } from '../openflow/parser.js';
import { TableRule } from '../openflow/rules.js';
import { Pipeline } from '../openflow/tables.js';
import { Translator } from '../openflow/translate.js';
import type { RuleNames } from '../output/records/columns.js';
import type { RecordOutput } from '../output/records/formats.js';
import { DEFAULT_SEGMENT_BYTES, minSegments, SegmentArena } from '../pcap/arena.js';
import { compileFilter } from '../pcap/filter.js';
import { FilteredSource } from '../pcap/filtered.js';
import { newMergedRecord, type PacketSource } from '../pcap/merge.js';
import { RestoredSource } from '../pcap/restored.js';
import { type CaptureReport, MAX_OVERLAPPING, Timeline } from '../pcap/timeline.js';
import { ReadResult } from '../pcap/types.js';
import { type Bucket, NotApart, Share, whyTogether } from './bucket.js';
import { CheckpointFile } from './checkpoint.js';
import { findCaptures } from './inputs.js';
import { type Amount, type Reconciliation, reconcile, sum } from './reconcile.js';
import { analyzeInSlices, slicesOf } from './slices.js';
import { Summarizer, type Summary, type SummaryShare } from './summary.js';
import { RecordWriter } from './writer.js';

/** Tracks everything, behind two VLAN tags at most, and drops nothing. */
export const TRACK_ALL = 'ip,actions=ct(commit),in_port\nipv6,actions=ct(commit),in_port\n';

/** Segments of the packet arena besides those that readers need to go on. */
const SPARE_SEGMENTS = 32;

/** A flow table that is ready to run. */
export interface Tables {
  pipeline: Pipeline;
  ordering: Ordering;
  /** Without LOCAL. */
  ports: readonly number[];
  /** It is TRACK_ALL: nobody asks what it drops. */
  builtIn?: boolean;
}

export interface AnalyzeOptions
  extends Pick<
    ReplayOptions,
    | 'events'
    | 'maxConns'
    | 'window'
    | 'vector'
    | 'jitter'
    | 'watchdog'
    | 'fault'
    | 'room'
    | 'ignoreChecksums'
    | 'progress'
    | 'signal'
    | 'stop'
  > {
  /** Files, folders, patterns; `-` is standard input. */
  paths: readonly string[];
  /** Only packets that pass count: an expression of pcap-filter(7), as far as docs/analyze.md says. */
  filter?: string;
  /** Packets that a snapshot length has cut stay as they are, which ct() finds invalid. Else those whose headers are
   *  there count for what their IP header says, and what is missing of them is taken for zeros. */
  cutAsIs?: boolean;
  /** Only a share of the connections: the rest counts as not captured. All buckets together have the records of the
   *  whole. Outputs have to be regular files, and the flow table one under which connections don't depend on each other. */
  bucket?: Bucket;
  /** A flow table, as text for `ovs-ofctl add-flows`, or ready. Default: every connection is tracked in zone 0. */
  flows?: string | Tables;
  /** Of a table that is text: ports of the switch besides 1 and LOCAL. */
  ports?: readonly number[];
  /** Which port a packet arrives on. Default: interface k of its capture is port k + 1. */
  portMap?: PortMap;
  /** Threads; 0: all on this one. Default: what suits the captures and the processors. No result depends on it. */
  workers?: number;
  /** A file of checkpoints: the analysis goes on from the one that is there, after a crash; it is removed at the end.
   *  Captures and outputs have to be regular files, and the flow table the default one. */
  resume?: string;
  /** For tests: packets between two checkpoints. */
  checkpointEvery?: number;
  /** For tests: what all slices but the first do. */
  sliceFault?: Fault;
  /** Files of records; each has a temporary name until it is whole. A thread of its own writes them. */
  outputs?: readonly RecordOutput[];
  /** Takes every record, with a function that gives the text of the rule at its stat point. */
  onRecord?: (record: ConnectionRecord, ruleOf: RuleNames) => void;
}

export interface Analysis {
  /** In the order of the paths. */
  files: readonly CaptureReport[];
  /** Files in folders that were no captures. */
  passedOver: readonly string[];
  reconciliation: Reconciliation;
  summary: Summary;
  /** Of a bucket: what `join` of all makes a summary of. */
  share: SummaryShare | null;
  result: AnalysisResult;
}

/** What is known of the run: packets read, bytes that were captured of them, seconds that it took and that the captures
 *  span, and what became of every packet. */
export type AnalysisResult = Pick<
  ReplayResult,
  'packets' | 'bytes' | 'seconds' | 'captureSeconds' | 'tallies'
>;

/** The same of a slice, and what the filter has left out, which is the same for all slices. */
export interface SliceResult extends AnalysisResult {
  filtered: Amount;
}

/** Reads captures as one timeline, and gives out a record for each connection. Rejects with FlowSyntaxError for a
 *  mistake in the table, with FilterSyntaxError for one in the filter, with Error for a path that names nothing; damaged captures are in `files`. */
export async function analyze(options: AnalyzeOptions): Promise<Analysis> {
  if (options.bucket !== undefined) checkBucket(options);
  const { paths, passedOver } = await findCaptures(options.paths);
  const slices = slicesOf(options, paths);
  if (slices > 0) {
    try {
      return await analyzeInSlices(options, { paths, passedOver }, slices);
    } catch (error) {
      if (!(error instanceof SlicesWontDo)) throw error;
    }
  }
  try {
    return await analyzeInput(options, await openInput(options));
  } catch (error) {
    if (!(error instanceof NotApart)) throw error;
    return await analyzeInput(options, await openInput(options, true));
  }
}

async function analyzeInput(options: AnalyzeOptions, input: Input): Promise<Analysis> {
  const { paths, passedOver, tables, arena, timeline, source } = input;
  const ruleOf = ruleNames(tables.pipeline);
  const { outputs = [], onRecord } = options;
  const checkpoint = checkpointFile(options, paths);
  const summarizer = new Summarizer(ruleOf);
  let opened: RecordWriter | null = null;
  try {
    if (outputs.length > 0) {
      const saved = checkpoint?.stored?.writer ?? null;
      opened = await RecordWriter.open(outputs, saved, [options.signal, options.stop]);
    }
    const writer = opened;
    await pass(source, arena, checkpoint?.stored?.replay.packets ?? 0, options.signal);
    const result = await replay({
      ...replayOptions(options, input),
      checkpoints: checkpoint?.checkpoints(() => (writer as RecordWriter).save()),
      onRecord(record) {
        if (writer !== null) writer.record(record, ruleOf);
        else summarizer.add(record);
        onRecord?.(record, ruleOf);
      },
    });
    const { reports: files } = timeline;
    const asked = options.bucket !== undefined;
    const { counted, summary, share } =
      writer === null ? summarizer.summed(asked) : await writer.finish(asked);
    // Every bucket reads all of them: they are the first one's.
    const unreadable = options.bucket?.k ? NOTHING : sum(files.map((f) => f.unreadable));
    const reconciliation = reconcile(files, result.tallies, counted, { ...input, unreadable });
    const drops = tables.builtIn ? [] : dropsOf(result, summary.drops, ruleOf);
    if (options.stop?.aborted !== true) checkpoint?.remove();
    return {
      files,
      passedOver,
      reconciliation,
      summary: { ...summary, drops },
      share: share === null ? null : { ...share, drops },
      result,
    };
  } catch (error) {
    throw (await opened?.abort()) ?? error;
  } finally {
    checkpoint?.leave();
  }
}

/** What a list of captures is read from, and the tables that they run through. */
export interface Input {
  paths: readonly string[];
  passedOver: readonly string[];
  tables: Tables;
  arena: SegmentArena;
  timeline: Timeline;
  /** The timeline, or what is to be analyzed of it. */
  source: PacketSource;
  /** What a filter leaves out, and what is of other buckets. */
  filtered: Amount;
  elsewhere: Amount;
}

const NOTHING: Amount = { packets: 0, bytes: 0 };

/** `together`: the first bucket is the whole. */
export async function openInput(
  options: AnalyzeOptions,
  together = false,
  segmentBytes: number = DEFAULT_SEGMENT_BYTES,
): Promise<Input> {
  const { paths, passedOver } = await findCaptures(options.paths);
  const tables = tablesFor(options);
  const segments = minSegments(Math.min(paths.length, MAX_OVERLAPPING)) + SPARE_SEGMENTS;
  const arena = new SegmentArena(segments, segmentBytes);
  const filter = options.filter === undefined ? null : compileFilter(options.filter);
  // What can be read the next time is no damage to a run that may go on then.
  const timeline = await Timeline.of(paths, arena, options.resume !== undefined);
  const { bucket, cutAsIs = false } = options;
  const input = { paths, passedOver, tables, arena, timeline };
  if (bucket !== undefined) {
    const source = new Share(timeline, { bucket, together, filter, cutAsIs, tables }, arena);
    const { filtered, elsewhere } = source;
    return { ...input, source, filtered, elsewhere };
  }
  const passing = filter === null ? timeline : new FilteredSource(timeline, filter, arena);
  const filtered = filter === null ? NOTHING : (passing as FilteredSource).filtered;
  const source = cutAsIs ? passing : new RestoredSource(passing, arena);
  return { ...input, source, filtered, elsewhere: NOTHING };
}

export function replayOptions(options: AnalyzeOptions, { tables, arena, source }: Input): ReplayOptions {
  return {
    source,
    arena,
    portMap: options.portMap ?? { portOf: (_source, iface) => iface + 1 },
    ports: tables.ports,
    translator: new Translator(tables.pipeline),
    ordering: tables.ordering,
    workers: options.workers ?? Math.max(1, availableParallelism() - 1),
    events: options.events,
    maxConns: options.maxConns,
    window: options.window,
    vector: options.vector,
    jitter: options.jitter,
    watchdog: options.watchdog,
    fault: options.fault,
    ignoreChecksums: options.ignoreChecksums,
    ...(tables.builtIn ? { vlanLimit: 2 } : {}),
    progress: options.progress,
    signal: options.signal,
    stop: options.stop,
    room: options.room,
  };
}

/** The text of the last rule at each stat point. */
export function ruleNames({ stats }: Pipeline): RuleNames {
  const names = new Map<number, string | null>();
  return (stat) => {
    let name = names.get(stat);
    if (name === undefined) {
      const rule = stat < 0 ? undefined : stats.list(stat).findLast((c) => c instanceof TableRule);
      name = rule === undefined ? null : formatRule(rule as TableRule);
      names.set(stat, name);
    }
    return name;
  };
}

function checkBucket(options: AnalyzeOptions): void {
  const { bucket, flows, events, onRecord, outputs = [] } = options;
  const cannot = (why: string): never => {
    throw new Error(`an analysis can't be shared out in buckets ${why}`);
  };
  const { k, n } = bucket as Bucket;
  if (!Number.isInteger(n) || n < 1 || !Number.isInteger(k) || k < 0 || k >= n)
    throw new RangeError(`there is no bucket ${k} of ${n}: they count from 0`);
  if (events !== undefined && events.length > 0) cannot('with events');
  // It may have to begin anew.
  if (onRecord !== undefined) cannot('if somebody else takes its records');
  for (const { path, partition } of outputs) {
    const stat = path === '-' ? null : fs.statSync(path, { throwIfNoEntry: false });
    if (stat === null || (stat !== undefined && !stat.isFile() && partition === undefined))
      cannot(`into ${path}, which is no regular file`);
  }
  if (flows === undefined || n === 1) return;
  const why = whyTogether(tablesFor(options));
  if (why !== null) cannot(`under a flow table that ${why}`);
}

function checkpointFile(options: AnalyzeOptions, paths: readonly string[]): CheckpointFile | null {
  const { resume, outputs = [] } = options;
  if (resume === undefined) return null;
  const cannot = (why: string): never => {
    throw new Error(`${resume}: an analysis can't go on from a checkpoint ${why}`);
  };
  if (options.bucket !== undefined) cannot('of a bucket');
  if (options.flows !== undefined || options.events !== undefined) cannot('with a flow table or events');
  if (options.onRecord !== undefined) cannot('if somebody else takes its records');
  if (outputs.length === 0) cannot('without outputs');
  for (const path of [...paths, ...outputs.map((o) => o.path)]) {
    const stat = path === '-' ? null : fs.statSync(path, { throwIfNoEntry: false });
    if (stat === null || (stat !== undefined && !stat.isFile()))
      cannot(`of ${path}, which is no regular file`);
  }
  const { filter = null, maxConns = null, portMap } = options;
  const { ignoreChecksums = false, cutAsIs = false } = options;
  const ports = portMap === undefined ? null : (portMap.identity ?? 'unknown');
  const further = { filter, cutAsIs, ignoreChecksums, maxConns, ports };
  return new CheckpointFile(resume, { paths, outputs, options: further }, options.checkpointEvery ?? null);
}

/** Packets read past between two looks at the signal. */
const PASS_STEP = 1 << 16;

/** Reads past the first `n` packets. */
async function pass(
  source: PacketSource,
  arena: SegmentArena,
  n: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const packet = newMergedRecord();
  while (n > 0) {
    const state = source.next(packet);
    if (state === ReadResult.PACKET) {
      arena.release(packet.segment);
      if (--n % PASS_STEP !== 0) continue;
      await new Promise(setImmediate);
      signal?.throwIfAborted();
    } else if (state === ReadResult.STARVED) {
      await source.readable();
    } else {
      throw new Error('the captures have fewer packets than the checkpoint says: they have changed');
    }
  }
}

/** All packets that the flow table dropped, by reason and rule; `byRecord` has the connections. */
function dropsOf(
  { dropsByStat }: ReplayResult,
  byRecord: Summary['drops'],
  ruleOf: RuleNames,
): Summary['drops'][number][] {
  const drops = new Map<string, Summary['drops'][number]>();
  for (const [reason, byStat] of dropsByStat) {
    if (NO_DROPS.has(reason)) continue;
    for (const [stat, packets] of byStat) {
      const rule = ruleOf(stat);
      const key = `${reason} ${rule}`;
      const connections = byRecord.find((d) => d.reason === reason && d.rule === rule)?.connections ?? 0;
      drops.set(key, { reason, rule, connections, packets: (drops.get(key)?.packets ?? 0) + packets });
    }
  }
  const text = ({ reason, rule }: Summary['drops'][number]): string => `${reason} ${rule}`;
  return [...drops.values()].sort((a, b) => b.packets - a.packets || (text(a) < text(b) ? -1 : 1));
}
/** Reasons that say why there was no output, though the packet was not dropped. */
const NO_DROPS: ReadonlySet<string> = new Set([
  DROP_REASONS[DROP_CONTROLLER],
  DROP_REASONS[DROP_FRAGMENT_HELD],
]);

function tablesFor({ flows = TRACK_ALL, ports: more = [] }: AnalyzeOptions): Tables {
  if (typeof flows === 'object') return flows;
  const rules = parseFlows(flows, '<flows>');
  const ports = [...new Set([1, ...more])];
  return {
    pipeline: new Pipeline({ rules, ports }),
    ordering: orderingOf(rules.map((r) => r.actions)),
    ports,
    builtIn: flows === TRACK_ALL,
  };
}
