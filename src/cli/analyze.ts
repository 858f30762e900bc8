/** `shardtrack analyze`. */
import fs from 'node:fs';
import cliProgress from 'cli-progress';
import { InvalidArgumentError } from 'commander';
import { type Analysis, type AnalyzeOptions, analyze, TRACK_ALL } from '../analyze/analyze.js';
import { findCaptures } from '../analyze/inputs.js';
import { jobsOf, runQueued, startWorker, tidy, together } from '../analyze/queue.js';
import { loadDuckDb, queryRecords, type SqlResult, temporaryParquet } from '../analyze/sql.js';
import type { Ranked } from '../analyze/summary.js';
import { type WhatIf, whatIf } from '../analyze/what-if.js';
import { FORMATS, type Format, type RecordOutput } from '../output/records/formats.js';
import type { PartitionBy } from '../output/records/partitioned.js';
import { compileFilter } from '../pcap/filter.js';
import { OutputFile } from '../pcap/output-file.js';
import type { PrefixSet } from '../wire/cidr.js';
import { readText } from './flows.js';
import { InterruptedError, UsageError } from './options.js';
import { loadPipeline, portMap, workersOf } from './replay.js';

export interface AnalyzeArguments {
  paths: string[];
  out: RecordOutput[];
  report?: string;
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
export async function analyzeCommand(args: AnalyzeArguments): Promise<number> {
  checkOutputs(args);
  // Before anything is opened.
  if (args.filter !== undefined) compileFilter(args.filter);
  if (args.queue !== undefined) return analyzeQueued(args, args.queue);
  const { paths } = await findCaptures(args.paths).catch((error: Error) => {
    throw new UsageError(error.message);
  });
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
  const toStdout = [...args.out.map((o) => o.path), args.report].includes('-');
  // Before an hour of analysis, not after it.
  if (args.sql !== undefined) await loadDuckDb();
  const query = args.sql === undefined ? null : temporaryParquet();
  const stop = new AbortController();
  const abort = new AbortController();
  let stopped: NodeJS.Signals | null = null;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (stopped !== null) abort.abort(new InterruptedError(signal));
    stopped ??= signal;
    stop.abort();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  const progress = new Progress(paths, args.quiet === true);
  try {
    const outputs = args.out.map((o): RecordOutput => ({ ...o, partition: args.partition }));
    if (query !== null) outputs.push({ format: 'parquet', path: query.path });
    const report = args.report === undefined ? null : new OutputFile(args.report);
    const analysis = await analyze({
      paths: args.paths,
      filter: args.filter,
      ...(args.resume === undefined ? { flows: tables, events: tables.events } : {}),
      portMap: portMap({ captures: paths, in: [], inside: args.inside }),
      workers: workersOf(args),
      maxConns: args.maxConns,
      ignoreChecksums: args.ignoreChecksums,
      cutAsIs: args.cutAsIs,
      jitter: args.jitter,
      watchdog: args.watchdog,
      fault: args.fault,
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
    warn(analysis, args.cutAsIs);
    if (other !== null && stopped === null) {
      const both = await whatIf(
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
    if (query !== null) {
      process.stdout.write(sqlText(await queryRecords(query.path, args.sql as string)));
    } else if (args.quiet !== true) {
      (toStdout ? process.stderr : process.stdout).write(summaryText(analysis, args.top));
    }
    if (stopped !== null) {
      process.stderr.write(
        `shardtrack: stopped by ${stopped} after ${analysis.result.packets} packets; the outputs are whole for these\n`,
      );
      return stopped === 'SIGINT' ? 130 : 143;
    }
    return analysis.files.some((f) => f.damage !== null) ? 1 : 0;
  } finally {
    progress.stop();
    query?.remove();
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  }
}

/** `--queue`: every path is a timeline of its own, in so many buckets; a job each. */
async function analyzeQueued(args: AnalyzeArguments, url: string): Promise<number> {
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
  const sets = await Promise.all(args.paths.map(async (p) => (await findCaptures([p])).paths)).catch(
    (error: Error) => {
      throw new UsageError(error.message);
    },
  );
  const flows = args.flows === undefined ? undefined : readText(args.flows);
  // Mistakes in it are found here, not by every worker.
  if (flows !== undefined) loadPipeline({ ...args, captures: [], in: [], out: [], builtIn: TRACK_ALL });
  const { filter, ignoreChecksums, cutAsIs, maxConns } = args;
  const jobs = jobsOf(sets, args.buckets, args.out, { filter, flows, ignoreChecksums, cutAsIs, maxConns });
  const abort = new AbortController();
  const onSignal = (signal: NodeJS.Signals): void => abort.abort(new InterruptedError(signal));
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
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
    if (args.report !== undefined) {
      const report = new OutputFile(args.report);
      report.writeText(`${JSON.stringify({ files, reconciliation, summary, seconds }, null, 2)}\n`);
      report.finish();
    }
    warn({ files, passedOver: [] }, args.cutAsIs);
    if (args.quiet !== true) {
      process.stdout.write(
        summaryText(
          {
            files,
            reconciliation,
            result: { seconds },
            summary: {
              ...summary,
              exact: true,
              endings: new Map(Object.entries(summary.endings)),
              tcpStates: new Map(Object.entries(summary.tcpStates)),
              failed: [],
              scans: [],
              drops: [],
            },
          },
          args.top,
        ),
      );
    }
    return files.some((f) => f.damage !== null) ? 1 : 0;
  } finally {
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
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

function checkOutputs(args: AnalyzeArguments): void {
  const seen = new Set<string>();
  for (const path of [...args.out.map((o) => o.path), args.report]) {
    if (path === undefined || path === '/dev/null') continue;
    if (seen.has(path)) {
      throw new UsageError(
        path === '-'
          ? 'standard output (-) can be only one of the outputs'
          : `${path} is the file of two outputs`,
      );
    }
    seen.add(path);
  }
  if (args.partition !== undefined && args.out.some((o) => o.path === '-')) {
    throw new UsageError('--partition makes folders: standard output (-) is none');
  }
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
function warn(
  { files, passedOver }: Pick<Analysis, 'files' | 'passedOver'>,
  cutAsIs: boolean | undefined,
): void {
  const note = cutAsIs
    ? '; ct() calls those invalid whose IP packet is not all there'
    : '; those with whole headers count as long as IP says, their checksums unverified (see --cut-as-is)';
  for (const file of files) {
    if (file.damage !== null) process.stderr.write(`shardtrack: warning: ${file.damage}\n`);
    for (const { offset, message } of file.notices) {
      process.stderr.write(`shardtrack: warning: ${file.path}: byte ${offset}: ${message}\n`);
    }
    if (file.cut > 0) {
      process.stderr.write(
        `shardtrack: warning: ${file.path}: ${file.cut} of ${file.packets} packets are cut (snaplen)${note}\n`,
      );
    }
  }
  for (const { path, misdated, packets } of files.filter((f) => f.misdated > 0)) {
    process.stderr.write(
      `shardtrack: warning: ${path}: ${misdated} of ${packets} packets are from before 1970 or after 2106; the nearest of these times stands for theirs\n`,
    );
  }
  if (passedOver.length > 0) {
    process.stderr.write(
      `shardtrack: warning: ${passedOver.length} files in folders are no captures, such as ${passedOver[0]}\n`,
    );
  }
}

/** The summary for programs. */
function reportOf(a: Analysis): unknown {
  const { summary, reconciliation, files, result } = a;
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
    seconds: result.seconds,
  };
}

const count = (n: number): string => n.toLocaleString('en-US');

/** What the summary is made of. */
interface Summarized extends Pick<Analysis, 'files' | 'reconciliation'> {
  result: Pick<Analysis['result'], 'seconds'>;
  summary: Pick<
    Analysis['summary'],
    'connections' | 'hosts' | 'services' | 'exact' | 'endings' | 'tcpStates' | 'failed' | 'scans' | 'drops'
  >;
}

/** The summary for people. */
function summaryText(a: Summarized, top: number): string {
  const { summary: s, reconciliation: r, files, result } = a;
  const damaged = files.filter((f) => f.damage !== null).length;
  const cut = files.reduce((n, f) => n + f.cut, 0);
  let text = `${count(files.length)} capture${files.length === 1 ? '' : 's'}`;
  if (damaged > 0) text += ` (${count(damaged)} damaged)`;
  text += `, ${count(r.captured.packets)} packets`;
  if (cut > 0) text += ` (${count(cut)} cut)`;
  text += `, ${count(r.captured.bytes)} bytes in ${result.seconds.toFixed(2)} s: ${count(s.connections)} connections\n`;

  const rows = r.rows.map((row) => [row.name, count(row.packets), count(row.bytes)]);
  rows.push(['all that was captured', count(r.captured.packets), count(r.captured.bytes)]);
  text += table('packets', ['', 'packets', 'bytes'], rows);
  if (r.repeated.packets > 0) {
    text += `${count(r.repeated.packets)} packets are in the records of a further zone, too.\n`;
  }
  const ranked = (list: readonly Ranked[]): string[][] =>
    list.slice(0, top).map((e) => [e.name, count(e.connections), count(e.packets), count(e.bytes)]);
  const columns = ['', 'connections', 'packets', 'bytes'];
  text += table('hosts', columns, ranked(s.hosts));
  text += table('services', columns, ranked(s.services));
  text += table('how connections ended', ['', 'connections'], tally(s.endings));
  text += table('TCP, conn_state', ['', 'connections'], tally(s.tcpStates));
  text += table(
    'failed handshakes',
    ['source', 'failed', 'of', 'hosts', 'ports'],
    s.failed
      .slice(0, top)
      .map((f) => [f.src, count(f.failed), count(f.connections), count(f.hosts), count(f.ports)]),
  );
  text += table(
    'what looks like scans',
    ['source', 'of', 'failed', 'hosts', 'ports'],
    s.scans.slice(0, top).map((f) => [f.src, f.kind, count(f.failed), count(f.hosts), count(f.ports)]),
  );
  text += table(
    'dropped',
    ['reason', 'connections', 'packets', 'rule'],
    s.drops.slice(0, top).map((d) => [d.reason, count(d.connections), count(d.packets), d.rule ?? '-']),
  );
  if (!s.exact) text += 'Of hosts, services and sources the small ones were let go on the way.\n';
  return text;
}

/** What another flow table would change. */
function whatIfText({ packets, same, changes }: WhatIf, top: number, name: string): string {
  let text = `\nunder ${name}: ${count(packets - same.packets)} of ${count(packets)} packets would fare otherwise\n`;
  text += table(
    'changes',
    ['now', 'then', 'packets', 'bytes', 'first'],
    changes.slice(0, top).map((c) => [c.from, c.to, count(c.packets), count(c.bytes), count(c.first)]),
  );
  return text;
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

function tally(map: ReadonlyMap<string, number>): string[][] {
  return [...map].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1)).map(([name, n]) => [name, count(n)]);
}

/** Numbers to the right; nothing if there are no rows. */
function table(title: string, head: readonly string[], rows: readonly string[][]): string {
  if (rows.length === 0) return '';
  const all = [head, ...rows];
  const last = head.length - 1;
  const widths = head.map((_, i) => Math.max(...all.map((row) => row[i].length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) =>
        i === 0 ? cell.padEnd(widths[i]) : i === last && cell.length > 20 ? cell : cell.padStart(widths[i]),
      )
      .join('  ')
      .trimEnd();
  return `\n${title}\n${all.map((row) => `  ${line(row)}\n`).join('')}`;
}

/** A bar on standard error, if that is a terminal: how far, how fast, and how long to go. */
class Progress {
  private readonly bar: cliProgress.SingleBar | null = null;
  private readonly began = performance.now();

  constructor(paths: readonly string[], quiet: boolean) {
    if (quiet || !process.stderr.isTTY) return;
    let total = 0;
    for (const path of paths) {
      const stat = path === '-' ? undefined : fs.statSync(path, { throwIfNoEntry: false });
      // How much is in a compressed file or a pipe, nobody knows.
      if (stat === undefined || !stat.isFile() || /\.(gz|zst|lz4|xz)$/i.test(path)) total = Number.NaN;
      else total += stat.size;
    }
    const left = Number.isNaN(total) ? '' : '{bar} {percentage} % | {eta_formatted} left | ';
    this.bar = new cliProgress.SingleBar(
      {
        format: `analyzing ${left}{packets} packets | {rate} a second | {duration_formatted}`,
        stream: process.stderr,
        hideCursor: true,
        clearOnComplete: true,
      },
      cliProgress.Presets.shades_classic,
    );
    this.bar.start(Number.isNaN(total) ? 1 : total, 0, { packets: '0', rate: '0' });
  }

  update(packets: number, bytes: number): void {
    const seconds = (performance.now() - this.began) / 1000;
    // Of each packet there is a header of 16 bytes in the file, too.
    this.bar?.update(bytes + 16 * packets, {
      packets: count(packets),
      rate: count(Math.round(packets / Math.max(seconds, 0.001))),
    });
  }

  stop(): void {
    this.bar?.stop();
  }
}
