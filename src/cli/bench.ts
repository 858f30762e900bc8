/** `shardtrack bench`. */
import fs from 'node:fs';
import type { Command } from 'commander';
import { historyLine, readHistory } from '../bench/history.js';
import { resultsMarkdown, resultsText } from '../bench/results.js';
import { type Named, runBenchmarks } from '../bench/run.js';
import { type BenchSpec, madeSpec } from '../bench/spec.js';
import { WORKLOADS } from '../generate/workloads.js';
import { systemReason } from '../pcap/feed.js';
import { benchReport } from '../report/bench.js';
import { renderReport } from '../report/lazy.js';
import { changedWorkload, changeGiven, type WorkloadChanges, workloadOptions } from './generate.js';
import {
  checkOutputs,
  collectIn,
  type PortFile,
  parseInside,
  parsePortList,
  parseWorkers,
  UsageError,
  usage,
  wholeNumber,
} from './options.js';
import { loadPipeline, workersOf } from './replay.js';
import { Reports } from './reports.js';
import { abortOnSignals } from './signals.js';

export interface BenchArguments extends WorkloadChanges {
  capture: string[];
  in: PortFile[];
  inside?: string;
  ports: number[];
  flows?: string;
  groups?: string;
  meters?: string;
  workers: number | 'auto';
  vector?: number;
  processes: number;
  seconds: number;
  warmup: number;
  json?: string;
  markdown?: string;
  html?: string;
  history?: string;
  quiet?: boolean;
}

/** What runs unless names are given: established connections, ever new ones, everything mixed, many rules. */
export const DEFAULT_WORKLOADS = ['udp', 'tcp', 'tcp-short', 'imix', 'rules'];

/** The workloads that the arguments name. Throws UsageError. */
export function specsOf(names: readonly string[], args: BenchArguments): Named[] {
  const { flows, groups, meters, vector } = args;
  const workers = workersOf(args);
  const common = { flows, groups, meters, workers, vector };
  checkInput(args, names.length > 0, flows !== undefined);
  const paths = capturesOf(args);
  if (paths.length > 0) {
    const replayed = { captures: args.capture, in: args.in, inside: args.inside, ports: args.ports };
    const spec: BenchSpec = { name: 'capture', made: null, replayed, ...common };
    return [{ spec, what: paths.join(', ') }];
  }
  const ports = args.ports.length === 0 ? undefined : args.ports;
  return [...new Set(names.length > 0 ? names : DEFAULT_WORKLOADS)].map((name) => {
    const workload = changedWorkload(name, args);
    return {
      spec: { name, made: madeSpec(workload), replayed: null, ports, ...common },
      what: workload.what,
    };
  });
}

export const capturesOf = (args: BenchArguments) => [...args.capture, ...args.in.map((i) => i.path)];

/** Throws UsageError for what is not there, and for options that would do nothing. `named`: workloads were; `tables`: there
 *  is a flow table besides theirs. */
export function checkInput(args: BenchArguments, named: boolean, tables: boolean, ownCaptures = false): void {
  const paths = capturesOf(args);
  if (paths.length > 0 || ownCaptures) {
    if (named) throw new UsageError('expected names of workloads or captures, not both');
    const gone = paths.find((path) => !fs.existsSync(path));
    if (gone !== undefined) throw new UsageError(`${gone}: there is no such file`);
    const change = changeGiven(args);
    if (change !== null)
      throw new UsageError(`${change} changes workloads, and captures are replayed; leave it out`);
    return;
  }
  if (args.inside !== undefined) throw new UsageError('--inside is for captures; workloads know their ports');
  const table = (['groups', 'meters'] as const).find((name) => args[name] !== undefined);
  if (table !== undefined && !tables) {
    throw new UsageError(`--${table} needs --flows: the tables of workloads use none`);
  }
}

/** Runs the command. Throws UsageError and FlowSyntaxError for exit code 2, anything else for 1. */
export async function benchCommand(
  names: readonly string[],
  args: BenchArguments,
  version: string,
): Promise<void> {
  const workloads = specsOf(names, args);
  // Mistakes in the tables are told before anything runs, as replay does.
  const { flows, groups, meters, ports } = args;
  if ([flows, groups, meters].some((table) => table !== undefined)) {
    loadPipeline({ flows, groups, meters, ports, captures: [], in: args.in, out: [] });
  }
  const { json, markdown, html, history } = args;
  checkOutputs([json, markdown, html, history]);
  if (history !== undefined) openHistory(history);
  const reports = new Reports({ json, markdown, html });
  const abort = new AbortController();
  const off = abortOnSignals(abort);
  try {
    const results = await runBenchmarks(
      workloads,
      {
        processes: args.processes,
        seconds: args.seconds,
        warmupSeconds: args.warmup,
        signal: abort.signal,
        progress: (done, of, name) => {
          if (!args.quiet) process.stderr.write(`${done}/${of} ${name}\n`);
        },
      },
      version,
    );
    await reports.write('json', () => `${JSON.stringify(results, null, 2)}\n`);
    await reports.write('markdown', () => resultsMarkdown(results));
    if (history !== undefined) fs.appendFileSync(history, historyLine(results));
    await reports.write('html', () =>
      renderReport(benchReport(results, history === undefined ? [] : readHistory(history))),
    );
    if (!args.quiet && !reports.taken) process.stdout.write(resultsText(results));
  } catch (error) {
    throw abort.signal.aborted ? abort.signal.reason : error;
  } finally {
    reports.discard();
    off();
  }
}

/** Finds out whether results can be appended to a history. Throws UsageError for mistakes in it. */
export function openHistory(path: string): void {
  try {
    const stat = fs.statSync(path, { throwIfNoEntry: false });
    // It is read, too: a device would never end.
    if (stat !== undefined && !stat.isFile()) throw new Error('it is no regular file');
    fs.closeSync(fs.openSync(path, 'a'));
  } catch (error) {
    throw new Error(`${path}: cannot append to the history: ${systemReason(error)}`);
  }
  usage(() => readHistory(path));
}

/** Checks what stays text, because it goes to another process. */
function insideText(value: string): string {
  parseInside(value);
  return value;
}

/** The options that say what is replayed, and how. */
export function benchOptions(command: Command): Command {
  return workloadOptions(
    command
      .option(
        '--capture <FILE>',
        'a capture instead of workloads (repeatable); arrives as for replay',
        (value: string, before: string[]) => [...before, value],
        [],
      )
      .option('--in <PORT=FILE>', 'capture that arrives on PORT (repeatable)', collectIn, [])
      .option('--inside <CIDR,...>', 'as for replay', insideText)
      .option('--ports <LIST>', 'further ports of the switch', parsePortList, [])
      .option('--flows <FILE>', 'flow table, instead of that of the workload')
      .option('--groups <FILE>', 'group table')
      .option('--meters <FILE>', 'meters')
      .option('--workers <N|auto>', 'worker threads; 0 runs everything inline', parseWorkers, 'auto')
      .option('--vector <N>', 'packets that a worker takes at a time', wholeNumber(1, 4096)),
  );
}

/** Adds the command to the program. */
export function addBench(program: Command, version: string): void {
  const command = program
    .command('bench')
    .description('measure how fast workloads, or captures, are replayed')
    .argument(
      '[workload...]',
      `names as of generate --list (default: ${DEFAULT_WORKLOADS.join(' ')}); all: every one`,
    );
  benchOptions(command)
    .option('--processes <N>', 'fresh processes for each workload', wholeNumber(1, 1000), 5)
    .option('--seconds <S>', 'measured time of each', wholeNumber(1, 3600), 3)
    .option('--warmup <S>', 'time to become stable, at most', wholeNumber(1, 3600), 10)
    .option('--json <FILE>', 'results as JSON (docs/bench.schema.json)')
    .option('--markdown <FILE>', 'results as Markdown')
    .option('--history <FILE>', 'append the results to FILE, as one line of JSON')
    .option('--html <FILE>', 'a report with charts, the history among them, as one HTML file')
    .option('--quiet', 'no table, no progress')
    .action((names: string[], o: BenchArguments) =>
      benchCommand(names.includes('all') ? WORKLOADS.map((w) => w.name) : names, o, version),
    );
}
