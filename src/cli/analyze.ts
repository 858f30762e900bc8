/** `shardtrack analyze`. */
import fs from 'node:fs';
import type cliProgress from 'cli-progress';
import { InvalidArgumentError } from 'commander';
import { type Analysis, type AnalyzeOptions, analyze, TRACK_ALL } from '../analyze/analyze.js';
import { whyTogether } from '../analyze/bucket.js';
import { findCaptures } from '../analyze/inputs.js';
import { jobsOf, runQueued, startWorker, tidy, together } from '../analyze/queue.js';
import { loadDuckDb, queryRecords, type SqlResult, temporaryParquet } from '../analyze/sql.js';
import { type WhatIf, whatIf } from '../analyze/what-if.js';
import { FORMATS, type Format, type RecordOutput } from '../output/records/formats.js';
import type { PartitionBy } from '../output/records/partitioned.js';
import { compileFilter } from '../pcap/filter.js';
import { OutputFile } from '../pcap/output-file.js';
import type { Analyzed } from '../report/analyze.js';
import { renderReport } from '../report/lazy.js';
import type { PrefixSet } from '../wire/cidr.js';
import { count, INEXACT, summaryText, whatIfText } from './analyze-text.js';
import { readText } from './flows.js';
import { checkOutputs, UsageError } from './options.js';
import { loadPipeline, portMap } from './replay.js';
import { abortOnSignals, InterruptedError, onSignals } from './signals.js';

export interface AnalyzeArguments {
  paths: string[];
  out: RecordOutput[];
  report?: string;
  html?: string;
  sql?: string;
  filter?: string;
  resume?: string;
  partition?: PartitionBy;
  flowsB?: string;
  queue?: string;
  queuePrefix?: string;
  buckets: number;
  checkpointEvery?: number;
  flows?: string;
  groups?: string;
  meters?: string;
  events?: string;
  inside?: PrefixSet;
  ports: number[];
  workers: number | 'auto';
  maxConns?: number;
  ignoreChecksums?: boolean;
  cutAsIs?: boolean;
  top: number;
  jitter?: number;
  watchdog?: number;
  fault?: AnalyzeOptions['fault'];
  sliceFault?: AnalyzeOptions['sliceFault'];
  quiet?: boolean;
}

const ENDINGS: readonly (readonly [RegExp, Format])[] = [
  [/\.(ndjson|jsonl|json)$/i, 'ndjson'],
  [/\.csv$/i, 'csv'],
  [/\.log$/i, 'zeek'],
  [/\.parquet$/i, 'parquet'],
  [/\.ipfix$/i, 'ipfix'],
];

/** `FORMAT=FILE`, or a file whose name's ending says the format. */
export function collectRecordOutput(value: string, before: RecordOutput[]): RecordOutput[] {
  const at = value.indexOf('=');
  const format = FORMATS.find((f) => f === value.slice(0, Math.max(0, at)));
  if (format !== undefined) return [...before, { format, path: value.slice(at + 1) }];
  const ending = ENDINGS.find(([pattern]) => pattern.test(value));
  if (ending !== undefined) return [...before, { format: ending[1], path: value }];
  throw new InvalidArgumentError(
    `expected a name that ends in .ndjson, .csv, .log (Zeek), .parquet or .ipfix, or FORMAT=FILE with FORMAT one of ${FORMATS.join(', ')}.`,
  );
}

/** Runs the command; resolves to the exit code. Throws as `replayCommand` does. */
export async function analyzeCommand(args: AnalyzeArguments, version: string): Promise<number> {
  checkArguments(args);
  // Before anything is opened.
  if (args.filter !== undefined) compileFilter(args.filter);
  if (args.queue !== undefined) return analyzeQueued(args, args.queue, version);
  const { paths } = await findCaptures(args.paths).catch((error: Error) => {
    throw new UsageError(error.message);
  });
  // Those in folders, too.
  checkOutputs([...args.out.map((o) => o.path), args.report, args.html, args.resume], paths);
  const tables = loadPipeline({ ...args, captures: paths, in: [], out: [], builtIn: TRACK_ALL });
  const other =
    args.flowsB === undefined
      ? null
      : loadPipeline({
          ...args,
          flows: args.flowsB,
          events: undefined,
          ...{ captures: paths, in: [], out: [], builtIn: TRACK_ALL },
        });
  const toStdout = [...args.out.map((o) => o.path), args.report, args.html].includes('-');
  // Before an hour of analysis, not after it.
  if (args.sql !== undefined) await loadDuckDb();
  const stop = new AbortController();
  const abort = new AbortController();
  let stopped: NodeJS.Signals | null = null;
  const off = onSignals((signal) => {
    if (stopped !== null) abort.abort(new InterruptedError(signal));
    stopped ??= signal;
    stop.abort();
    return 'ends in order';
  });
  const query = args.sql === undefined ? null : temporaryParquet();
  const bars = args.quiet !== true && process.stderr.isTTY ? (await import('cli-progress')).default : null;
  const progress = new Progress(paths, bars);
  try {
    const outputs = args.out.map((o): RecordOutput => ({ ...o, partition: args.partition }));
    if (query !== null) outputs.push({ format: 'parquet', path: query.path });
    const report = args.report === undefined ? null : new OutputFile(args.report);
    const html = args.html === undefined ? null : new OutputFile(args.html);
    const analysis = await analyze({
      paths: args.paths,
      filter: args.filter,
      ...(args.resume === undefined
        ? { flows: { ...tables, builtIn: isBuiltIn(args) }, events: tables.events }
        : {}),
      portMap:
        args.inside === undefined ? undefined : portMap({ captures: paths, in: [], inside: args.inside }),
      workers: args.workers === 'auto' ? undefined : args.workers,
      maxConns: args.maxConns,
      ignoreChecksums: args.ignoreChecksums,
      cutAsIs: args.cutAsIs,
      jitter: args.jitter,
      watchdog: args.watchdog,
      fault: args.fault,
      sliceFault: args.sliceFault,
      outputs,
      resume: args.resume,
      checkpointEvery: args.checkpointEvery,
      progress: (packets, bytes) => progress.update(packets, bytes),
      signal: abort.signal,
      stop: stop.signal,
    });
    progress.stop();
    report?.writeText(`${JSON.stringify(reportOf(analysis), null, 2)}\n`);
    report?.finish();
    const warnings = warningsOf(analysis, args.cutAsIs);
    warn(warnings);
    let both: WhatIf | null = null;
    if (other !== null && stopped === null) {
      both = await whatIf(
        {
          paths: args.paths,
          filter: args.filter,
          portMap: portMap({ captures: paths, in: [], inside: args.inside }),
          workers: 0,
          maxConns: args.maxConns,
          ignoreChecksums: args.ignoreChecksums,
          cutAsIs: args.cutAsIs,
          signal: abort.signal,
        },
        loadPipeline({ ...args, events: undefined, captures: paths, in: [], out: [], builtIn: TRACK_ALL }),
        other,
      );
      (toStdout ? process.stderr : process.stdout).write(whatIfText(both, args.top, args.flowsB as string));
    }
    if (html !== null) {
      const notes = [...warnings];
      if (stopped !== null) {
        notes.unshift(
          `Stopped by ${stopped} after ${count(analysis.result.packets)} packets: this is about these.`,
        );
      }
      if (!analysis.summary.exact) notes.push(INEXACT);
      const { analysisReport } = await import('../report/analyze.js');
      const report = analysisReport(analysis, {
        top: args.top,
        facts: [...factsOf(args, version), ['Workers', String(args.workers)]],
        notes,
        flows: args.flows !== undefined,
        other: both === null ? undefined : { changes: both, name: args.flowsB as string },
      });
      html.writeText(await renderReport(report));
      html.finish();
    }
    if (query !== null) {
      process.stdout.write(sqlText(await queryRecords(query.path, args.sql as string)));
    } else if (args.quiet !== true) {
      (toStdout ? process.stderr : process.stdout).write(
        summaryText(analysis, analysis.result.seconds, args.top),
      );
    }
    if (stopped !== null) {
      process.stderr.write(
        `shardtrack: stopped by ${stopped} after ${analysis.result.packets} packets; the outputs are whole for these\n`,
      );
      return stopped === 'SIGINT' ? 130 : 143;
    }
    return analysis.files.some((f) => f.damage !== null) ? 1 : 0;
  } catch (error) {
    if (stopped === null || error instanceof InterruptedError) throw error;
    throw new InterruptedError(stopped, error);
  } finally {
    progress.stop();
    query?.remove();
    off();
  }
}

/** Whether the flow table is TRACK_ALL, and stays that. */
function isBuiltIn({ flows, groups, meters, events }: AnalyzeArguments): boolean {
  return [flows, groups, meters, events].every((arg) => arg === undefined);
}

/** `--queue`: every path is a timeline of its own, in so many buckets; a job each. */
async function analyzeQueued(args: AnalyzeArguments, url: string, version: string): Promise<number> {
  const given = (
    ['groups', 'meters', 'events', 'sql', 'resume', 'inside', 'partition', 'flowsB'] as const
  ).find((o) => args[o] !== undefined);
  if (given !== undefined)
    throw new UsageError(`--queue and --${given === 'flowsB' ? 'flows-b' : given} don't go together`);
  if (args.out.length === 0)
    throw new UsageError('--queue needs folders for its results, such as -o parquet=FOLDER');
  if (args.paths.includes('-') || args.out.some((o) => o.path === '-')) {
    throw new UsageError('--queue needs captures and folders that workers can reach, not -');
  }
  const sets = await Promise.all(args.paths.map((p) => findCaptures([p]))).catch((error: Error) => {
    throw new UsageError(error.message);
  });
  const flows = args.flows === undefined ? undefined : readText(args.flows);
  // Mistakes in it are found here, not by every worker.
  if (flows !== undefined) {
    const tables = loadPipeline({ ...args, captures: [], in: [], out: [], builtIn: TRACK_ALL });
    const why = args.buckets > 1 ? whyTogether(tables) : null;
    if (why !== null) {
      throw new UsageError(
        `--buckets needs a flow table under which connections don't depend on each other, and ${args.flows} ${why}; leave --buckets out, then each path is one job`,
      );
    }
  }
  const { filter, ports, ignoreChecksums, cutAsIs, maxConns } = args;
  const paths = sets.map((set) => set.paths);
  const jobs = jobsOf(paths, args.buckets, args.out, {
    filter,
    flows,
    ports,
    ignoreChecksums,
    cutAsIs,
    maxConns,
  });
  const abort = new AbortController();
  const off = abortOnSignals(abort);
  const began = performance.now();
  let told = '';
  try {
    const address = { url, prefix: args.queuePrefix };
    const results = await runQueued(
      address,
      jobs,
      (done, packets) => {
        const line = `${done} of ${jobs.length} jobs done, ${count(packets)} packets`;
        if (args.quiet === true || line === told) return;
        told = line;
        process.stderr.write(`shardtrack: ${line}\n`);
      },
      abort.signal,
    );
    tidy(jobs);
    const { reconciliation, summary } = together(results);
    // Every bucket has read all of its set.
    const files = results.filter((_, i) => jobs[i].bucket.k === 0).flatMap((r) => r.files);
    const seconds = (performance.now() - began) / 1000;
    const all: Analyzed = { files, reconciliation, summary };
    if (args.report !== undefined) {
      const report = new OutputFile(args.report);
      report.writeText(`${JSON.stringify(reportOf(all), null, 2)}\n`);
      report.finish();
    }
    const warnings = warningsOf({ files, passedOver: sets.flatMap((set) => set.passedOver) }, args.cutAsIs);
    warn(warnings);
    if (args.html !== undefined) {
      const html = new OutputFile(args.html);
      const notes = summary.exact ? warnings : [...warnings, INEXACT];
      const { analysisReport } = await import('../report/analyze.js');
      const report = analysisReport(all, {
        top: args.top,
        facts: [...factsOf(args, version), ['Queue', `${jobs.length} jobs`]],
        notes,
        flows: args.flows !== undefined,
      });
      html.writeText(await renderReport(report));
      html.finish();
    }
    if (args.quiet !== true) {
      const toStdout = [args.report, args.html].includes('-');
      (toStdout ? process.stderr : process.stdout).write(summaryText(all, seconds, args.top));
    }
    return files.some((f) => f.damage !== null) ? 1 : 0;
  } finally {
    off();
  }
}

/** `shardtrack worker`: until it is told to stop. */
export async function workerCommand(args: {
  queue: string;
  queuePrefix?: string;
  workers: number | 'auto';
  quiet?: boolean;
}): Promise<void> {
  const say = (line: string): void => {
    if (args.quiet !== true) process.stderr.write(`shardtrack: ${line}\n`);
  };
  const address = { url: args.queue, prefix: args.queuePrefix };
  const worker = await startWorker(address, args.workers === 'auto' ? undefined : args.workers, say);
  say('waiting for jobs');
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
  });
  say('stopping once the job under way is done');
  await worker.stop();
}

function checkArguments(args: AnalyzeArguments): void {
  const { flows, flowsB, groups, meters, events } = args;
  checkOutputs(
    [...args.out.map((o) => o.path), args.report, args.html, args.resume],
    [...args.paths, flows, flowsB, groups, meters, events],
  );
  if (args.partition !== undefined && args.out.some((o) => o.path === '-')) {
    throw new UsageError('--partition makes folders: standard output (-) is none');
  }
  if (args.buckets > 1 && args.queue === undefined)
    throw new UsageError('--buckets shares captures out among the workers of --queue, which is not given');
  if (args.resume !== undefined) {
    if (args.partition !== undefined) throw new UsageError("--resume and --partition don't go together");
    const given = (['flows', 'groups', 'meters', 'events', 'sql'] as const).find(
      (o) => args[o] !== undefined,
    );
    if (given !== undefined) throw new UsageError(`--resume and --${given} don't go together`);
    if (args.out.length === 0) throw new UsageError('--resume needs outputs (-o)');
    if (args.paths.includes('-'))
      throw new UsageError('--resume needs captures that can be read again, not -');
  }
  if (args.paths.filter((p) => p === '-').length > 1) {
    throw new UsageError('standard input (-) can be only one of the captures');
  }
}

/** Per file: damage and what the reader noticed. */
function warningsOf(
  { files, passedOver }: Pick<Analysis, 'files' | 'passedOver'>,
  cutAsIs: boolean | undefined,
): string[] {
  const warnings: string[] = [];
  const note = cutAsIs
    ? '; ct() calls those invalid whose IP packet is not all there'
    : '; those with whole headers count as long as IP says, their checksums unverified (see --cut-as-is)';
  for (const file of files) {
    if (file.damage !== null) warnings.push(file.damage);
    for (const { offset, message } of file.notices) {
      warnings.push(`${file.path}: byte ${offset}: ${message}`);
    }
    if (file.cut > 0) {
      warnings.push(`${file.path}: ${file.cut} of ${file.packets} packets are cut (snaplen)${note}`);
    }
  }
  for (const { path, misdated, packets } of files.filter((f) => f.misdated > 0)) {
    warnings.push(
      `${path}: ${misdated} of ${packets} packets are from before 1970 or after 2106; the nearest of these times stands for theirs`,
    );
  }
  if (passedOver.length > 0) {
    warnings.push(`${passedOver.length} files in folders are no captures, such as ${passedOver[0]}`);
  }
  return warnings;
}

function warn(warnings: readonly string[]): void {
  for (const warning of warnings) process.stderr.write(`shardtrack: warning: ${warning}\n`);
}

/** What was asked for, and where. */
function factsOf(args: AnalyzeArguments, version: string): [string, string][] {
  const facts: [string, string][] = [
    ['Shardtrack', version],
    ['Paths', args.paths.join(', ')],
    ['Flow table', args.flows ?? 'built in: everything is tracked, in zone 0'],
  ];
  const given: [string, string | undefined][] = [
    ['Groups', args.groups],
    ['Meters', args.meters],
    ['Events', args.events],
    ['Filter', args.filter],
    ['Outputs', args.out.length === 0 ? undefined : args.out.map((o) => o.path).join(', ')],
  ];
  for (const [name, value] of given) if (value !== undefined) facts.push([name, value]);
  return facts;
}

/** The summary for programs, the same in every run. */
function reportOf(a: Analyzed): unknown {
  const { summary, reconciliation, files } = a;
  return {
    files,
    reconciliation,
    summary: {
      ...summary,
      hosts: summary.hosts.slice(0, 1000),
      services: summary.services.slice(0, 1000),
      failed: summary.failed.slice(0, 1000),
      tcpStates: Object.fromEntries(summary.tcpStates),
      endings: Object.fromEntries(summary.endings),
      protocols: Object.fromEntries(summary.protocols),
    },
  };
}

function sqlText({ columns, rows }: SqlResult): string {
  const cell = (v: unknown): string =>
    v === null ? '' : typeof v === 'object' ? JSON.stringify(v) : String(v);
  const all = [columns, ...rows.map((row) => row.map(cell))];
  const widths = columns.map((_, i) => Math.max(...all.map((row) => row[i].length)));
  return all
    .map(
      (row) =>
        `${row
          .map((text, i) => text.padEnd(widths[i]))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}

/** A bar on standard error, if that is a terminal: how far, how fast, and how long to go. */
class Progress {
  private readonly bar: cliProgress.SingleBar | null = null;
  private readonly began = performance.now();
  /** Bytes of all captures; NaN if nobody knows. */
  private readonly total: number = Number.NaN;

  /** Without `bars` it shows nothing. */
  constructor(paths: readonly string[], bars: typeof cliProgress | null) {
    if (bars === null) return;
    let total = 0;
    for (const path of paths) {
      const stat = path === '-' ? undefined : fs.statSync(path, { throwIfNoEntry: false });
      // How much is in a compressed file or a pipe, nobody knows.
      if (stat === undefined || !stat.isFile() || /\.(gz|zst|lz4|xz)$/i.test(path)) total = Number.NaN;
      else total += stat.size;
    }
    this.total = total;
    const left = Number.isNaN(total) ? '' : '{bar} {percentage} % | {left} left | ';
    this.bar = new bars.SingleBar(
      {
        format: `analyzing ${left}{packets} packets | {rate} a second | {duration_formatted}`,
        stream: process.stderr,
        hideCursor: true,
        clearOnComplete: true,
      },
      bars.Presets.shades_classic,
    );
    this.bar.start(Number.isNaN(total) ? 1 : total, 0, { packets: '0', rate: '0', left: '?' });
  }

  update(packets: number, bytes: number): void {
    const seconds = (performance.now() - this.began) / 1000;
    // Of each packet there is a header of 16 bytes in the file, too.
    const done = bytes + 16 * packets;
    this.bar?.update(done, {
      left: timeLeft(seconds, done / this.total),
      packets: count(packets),
      rate: count(Math.round(packets / Math.max(seconds, 0.001))),
    });
  }

  stop(): void {
    this.bar?.stop();
  }
}

/** How long the rest of a work takes of which this share took so many seconds. */
export function timeLeft(seconds: number, share: number): string {
  // Before, it would be a guess from the start of threads.
  if (!(share > 0) || seconds < 0.5) return '?';
  const left = Math.max(0, Math.round((seconds * (1 - share)) / share));
  const [h, m, s] = [Math.floor(left / 3600), Math.floor(left / 60) % 60, left % 60];
  return h > 0 ? `${h} h ${m} min` : m > 0 ? `${m} min ${s} s` : `${s} s`;
}
