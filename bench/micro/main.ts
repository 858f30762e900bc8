/** What do the parts cost, each by itself? In nanoseconds, beside a plain baseline where there is one.
 *
 *      npm run bench:micro -- --only lookup --json FILE --history FILE --html FILE
 *
 *  Each variant runs in processes of its own, so that what V8 learns from one does not help or hurt another, and
 *  is checked for right results before it is timed. Variants take turns, process by process. Results are in the
 *  schema of `shardtrack bench` (docs/bench.schema.json): `shardtrack compare A.json B.json` and `shardtrack report` read them. */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Command, InvalidArgumentError } from 'commander';
import { Bench } from 'tinybench';
import { historyLine, readHistory } from '../../src/bench/history.js';
import {
  type BenchResults,
  CONFIDENCE,
  environment,
  type MicroResult,
  RESULTS_VERSION,
  resultsMarkdown,
  resultsText,
  summariseMicro,
} from '../../src/bench/results.js';
import { openHistory } from '../../src/cli/bench.js';
import { checkOutputs, wholeNumber } from '../../src/cli/options.js';
import { Reports } from '../../src/cli/reports.js';
import { benchReport } from '../../src/report/bench.js';
import { renderReport } from '../../src/report/html.js';
import { VARIANTS } from './all.js';
import type { Variant } from './variant.js';

/** Nanoseconds an operation. */
interface Timing {
  median: number;
  best: number;
  samples: number;
  note: string | null;
}

interface Options {
  seconds: number;
  processes: number;
  only?: string[];
  json?: string;
  markdown?: string;
  history?: string;
  html?: string;
  quiet?: boolean;
  child?: string;
}

const PACKAGE = new URL('../../../package.json', import.meta.url);
/** Share of the measured time that goes into warming up before. */
const WARMUP = 0.5;
const MS = 1e6;

/** In the child: times one variant. */
function time(variant: Variant, seconds: number): Timing {
  const bench = new Bench({
    name: variant.name,
    time: seconds * 1000,
    warmupTime: seconds * 1000 * WARMUP,
    throws: true,
  });
  bench.add(variant.name, variant.prepare());
  const [task] = bench.runSync();
  const { result } = task;
  if (result.state !== 'completed') throw new Error(`${variant.name}: ${result.state}`);
  const per = MS / variant.operations;
  return {
    median: result.latency.p50 * per,
    best: result.latency.min * per,
    samples: result.latency.samplesCount,
    note: variant.note?.() ?? null,
  };
}

async function timeInChild(variant: Variant, seconds: number): Promise<Timing> {
  const { stdout } = await promisify(execFile)(process.execPath, [
    fileURLToPath(import.meta.url),
    ...['--child', variant.name, '--seconds', `${seconds}`],
  ]);
  return JSON.parse(stdout) as Timing;
}

async function main(o: Options): Promise<void> {
  if (o.child !== undefined) {
    const variant = VARIANTS.find((v) => v.name === o.child) as Variant;
    process.stdout.write(JSON.stringify(time(variant, o.seconds)));
    return;
  }
  const chosen = VARIANTS.filter((v) => o.only?.some((part) => v.name.startsWith(part)) ?? true);
  if (chosen.length === 0) {
    throw new Error(`nothing is named so; there are ${VARIANTS.map((v) => v.name).join(', ')}`);
  }
  const { json, markdown, html, history } = o;
  checkOutputs([json, markdown, html, history]);
  if (history !== undefined) openHistory(history);
  const reports = new Reports({ json, markdown, html });
  const { version } = JSON.parse(fs.readFileSync(PACKAGE, 'utf8')) as { version: string };
  const start = environment(version);
  const timings: Timing[][] = chosen.map(() => []);
  for (let p = 0; p < o.processes; p++) {
    for (const [i, variant] of chosen.entries()) {
      timings[i].push(await timeInChild(variant, o.seconds));
      if (!o.quiet) process.stderr.write(`${p + 1}/${o.processes} ${variant.name}\n`);
    }
  }
  const results: BenchResults = {
    format: 'shardtrack-bench',
    version: RESULTS_VERSION,
    environment: start,
    options: {
      processes: o.processes,
      seconds: o.seconds,
      warmupSeconds: o.seconds * WARMUP,
      confidence: CONFIDENCE,
    },
    workloads: [],
    micro: chosen.map((variant, i) => resultOf(variant, timings[i])),
  };
  await reports.write('json', () => `${JSON.stringify(results, null, 2)}\n`);
  await reports.write('markdown', () => resultsMarkdown(results));
  if (history !== undefined) fs.appendFileSync(history, historyLine(results));
  await reports.write('html', () =>
    renderReport(benchReport(results, history === undefined ? [] : readHistory(history))),
  );
  if (!reports.taken) process.stdout.write(resultsText(results));
}

function resultOf({ name, what, unit }: Variant, timings: readonly Timing[]): MicroResult {
  const processes = timings.map(({ median, best, samples }) => ({ median, best, samples }));
  return summariseMicro({ name, what, unit, note: timings[0].note }, processes);
}

function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (seconds > 0 && seconds <= 3600) return seconds;
  throw new InvalidArgumentError('expected more than 0 and at most 3600.');
}

const program = new Command('bench:micro')
  .option('--seconds <S>', 'measured time of each; half as much again goes before', parseSeconds, 0.3)
  .option('--processes <N>', 'fresh processes for each', wholeNumber(1, 1000), 3)
  .option('--only <NAME...>', 'those whose names begin so, such as lookup or rings/words')
  .option('--json <FILE>', 'results as JSON (docs/bench.schema.json)')
  .option('--markdown <FILE>', 'results as Markdown')
  .option('--history <FILE>', 'append the results to FILE, as one line of JSON')
  .option('--html <FILE>', 'a report with charts, as one HTML file')
  .option('--quiet', 'no progress')
  .option('--child <NAME>', 'times one of them and prints JSON (used by the program itself)')
  .action(main);
try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`bench:micro: ${(error as Error).message}\n`);
  process.exit(1);
}
