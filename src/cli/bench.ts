/** `shardtrack bench`. */
import fs from 'node:fs';
import type { Command } from 'commander';
import { historyLine, readHistory } from '../bench/history.js';
import { resultsMarkdown, resultsText } from '../bench/results.js';
import { type Named, runBenchmarks } from '../bench/run.js';
import { type BenchSpec, madeSpec } from '../bench/spec.js';
import { WORKLOADS } from '../generate/workloads.js';
import { OutputFile } from '../pcap/output-file.js';
import { benchReport } from '../report/bench.js';
import { renderReport } from '../report/lazy.js';
import { changedWorkload, type WorkloadChanges, workloadOptions } from './generate.js';
import {
  collectIn,
  InterruptedError,
  type PortFile,
  parseInside,
  parsePortList,
  parseWorkers,
  UsageError,
  usage,
  wholeNumber,
} from './options.js';
import { loadPipeline, workersOf } from './replay.js';

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
  const paths = [...args.capture, ...args.in.map((i) => i.path)];
  if (paths.length > 0) {
    if (names.length > 0) throw new UsageError('expected names of workloads or captures, not both');
    for (const path of paths) {
      if (!fs.existsSync(path)) throw new UsageError(`${path}: there is no such file`);
    }
    const replayed = { captures: args.capture, in: args.in, inside: args.inside, ports: args.ports };
    const spec: BenchSpec = { name: 'capture', made: null, replayed, ...common };
    return [{ spec, what: paths.join(', ') }];
  }
  return (names.length > 0 ? names : DEFAULT_WORKLOADS).map((name) => {
    const workload = changedWorkload(name, args);
    return { spec: { name, made: madeSpec(workload), replayed: null, ...common }, what: workload.what };
  });
}

/** Runs the command. Throws UsageError and FlowSyntaxError for exit code 2, anything else for 1. */
export async function benchCommand(
  names: readonly string[],
  args: BenchArguments,
  version: string,
): Promise<void> {
  const workloads = specsOf(names, args);
  // Mistakes in an old history too.
  if (args.history !== undefined && fs.existsSync(args.history)) {
    const { history } = args;
    usage(() => readHistory(history));
  }
  // Mistakes in the tables are told before anything runs, as replay does.
  if (args.flows !== undefined) {
    const { flows, groups, meters, ports } = args;
    loadPipeline({ flows, groups, meters, ports, captures: [], in: args.in, out: [] });
  }
  const abort = new AbortController();
  const onSignal = (signal: NodeJS.Signals) => abort.abort(new InterruptedError(signal));
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
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
    writeTo(args.json, `${JSON.stringify(results, null, 2)}\n`);
    writeTo(args.markdown, resultsMarkdown(results));
    if (args.history !== undefined) fs.appendFileSync(args.history, historyLine(results));
    if (args.html !== undefined) {
      const history = args.history === undefined ? [] : readHistory(args.history);
      writeTo(args.html, await renderReport(benchReport(results, history)));
    }
    const taken = [args.json, args.markdown, args.html].includes('-');
    if (!args.quiet && !taken) process.stdout.write(resultsText(results));
  } catch (error) {
    throw abort.signal.aborted ? abort.signal.reason : error;
  } finally {
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  }
}

export function writeTo(path: string | undefined, text: string): void {
  if (path === undefined) return;
  const out = new OutputFile(path);
  out.writeText(text);
  out.finish();
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
