/** How well does `shardtrack compare` find slow-downs, and how often does it see one that is not there?
 *
 *  Compares this build with copies of itself, equal ones and ones that were made slower on purpose, again and again,
 *  and counts verdicts. With 100 comparisons of up to 90 seconds a row it takes hours: `--resume FILE` keeps each comparison as a
 *  line of JSON and goes on where it was; rows take turns, so that what there is so far is about the same for each.
 *
 *      npm run bench:regression -- --resume FILE --percent 0,3,5,10 --place worker --comparisons 100 --minutes 60
 *      npm run bench:regression -- --resume FILE --table          # only the table of what there is
 *      npm run bench:regression -- --draw 1600                    # the rules by themselves, with drawn numbers */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError } from 'commander';
import { markdownTable } from 'markdown-table';
import { wholeNumber } from '../../src/cli/options.js';
import type { Comparison } from '../../src/compare/report.js';
import type { TimingComparison } from '../../src/compare/timing.js';
import { Random } from '../../src/generate/random.js';
import { draw } from './draw.js';
import { inject, PLACES, type Place } from './inject.js';

interface Arguments {
  percent: number[];
  place: Place[];
  comparisons: number;
  workload: string;
  workers: number;
  budget: number;
  minutes?: number;
  resume?: string;
  table?: boolean;
  draw?: number;
}

/** What is compared with this build; `equal` is a copy. */
interface Row {
  place: Place | 'equal';
  percent: number;
  workload: string;
  workers: number;
}

/** A line of the file: a comparison. */
export interface Line extends Row {
  verdict: TimingComparison['verdict'];
  pairs: number;
  seconds: number;
  /** Of each row: ratio and interval. */
  ratios: Record<string, [ratio: number, low: number, high: number]>;
  /** Load average before. */
  load: number;
  node: string;
  date: string;
}

/** The workloads that `compare` has unless it is told otherwise. */
const DEFAULT = 'default';
const CLI = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const root = fileURLToPath(new URL('../../../', import.meta.url));

function compare(candidate: string, row: Row, budget: number): Line {
  const load = os.loadavg()[0];
  const args = [
    ...[CLI, 'compare', root, candidate, '--only', 'time', '--json', '-', '--quiet'],
    ...['--workers', `${row.workers}`, '--budget', `${budget}`],
    ...(row.workload === DEFAULT ? [] : ['--workload', row.workload]),
  ];
  const { stdout, stderr } = spawnSync(process.execPath, args, { maxBuffer: 1 << 26 });
  if (stdout.length === 0) throw new Error(`compare failed: ${stderr}`);
  const { timing } = JSON.parse(stdout.toString()) as Comparison;
  const { verdict, pairs, seconds, ratios } = timing!;
  return {
    ...row,
    verdict,
    pairs,
    seconds: rounded(seconds),
    ratios: Object.fromEntries(
      Object.entries(ratios).map(([name, r]) => [name, [rounded(r.ratio), rounded(r.low), rounded(r.high)]]),
    ),
    load,
    node: process.version,
    date: new Date().toISOString(),
  };
}

/** To four digits behind the point; what is known of one pair only has no upper bound, which JSON can't say. */
const rounded = (x: number) => Number(Math.min(x, 1e6).toFixed(4));

/** Rows that the arguments ask for. */
function rowsOf(o: Arguments): Row[] {
  const { workload, workers } = o;
  const slow = o.percent.filter((percent) => percent > 0);
  const equal: Row[] = o.percent.includes(0) ? [{ place: 'equal', percent: 0, workload, workers }] : [];
  return [
    ...equal,
    ...o.place.flatMap((place) => slow.map((percent) => ({ place, percent, workload, workers }))),
  ];
}

const keyOf = ({ place, percent, workload, workers }: Row) =>
  JSON.stringify([place, percent, workload, workers]);

export function readLines(file: string): Line[] {
  if (!fs.existsSync(file)) return [];
  const lines = fs.readFileSync(file, 'utf8').split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as Line);
}

/** Verdicts of each row, as Markdown. */
export function tableOf(lines: readonly Line[]): string {
  const rows = new Map<string, Line[]>();
  for (const line of lines) rows.set(keyOf(line), [...(rows.get(keyOf(line)) ?? []), line]);
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const head = ['slow-down', 'where', 'workload', 'comparisons', 'slower', "can't tell", 'not slower'];
  const body = [...rows.values()].map((of) => {
    const [{ place, percent, workload, workers }] = of;
    const count = (verdict: Line['verdict']) => `${of.filter((l) => l.verdict === verdict).length}`;
    const seconds = of.map((l) => l.seconds);
    return [
      place === 'equal' ? 'none' : `${percent} %`,
      place === 'equal' ? 'equal builds' : place,
      `${workload}, ${workers} worker${workers === 1 ? '' : 's'}`,
      `${of.length}`,
      ...[count('slower'), count("can't tell"), count('not slower')],
      mean(of.map((l) => l.pairs)).toFixed(1),
      mean(seconds).toFixed(0),
      Math.max(...seconds).toFixed(0),
      mean(of.map((l) => l.load)).toFixed(1),
    ];
  });
  return markdownTable([[...head, 'pairs', 's', 's at most', 'load'], ...body], {
    align: ['r', 'l', 'l', ...Array(8).fill('r')],
  });
}

function drawnTable(n: number): string {
  const rows: string[][] = [];
  for (const [name, deviation, far, farBy] of [
    ['1 %', 0.01, 0, 0],
    ['1.5 %', 0.015, 0, 0],
    ['2 %', 0.02, 0, 0],
    ['3 %', 0.03, 0, 0],
    ['1 %, one in eight 10 %', 0.01, 0.125, 10],
  ] as const) {
    for (const mostPairs of [2, 6, 12]) {
      for (const slowdown of [0, 0.03, 0.05, 0.1]) {
        const random = new Random(1);
        const drawn = Array.from({ length: n }, () =>
          draw({ deviation, far, farBy, slowdown, mostPairs }, random),
        );
        const share = (verdict: string) =>
          `${((100 * drawn.filter((d) => d.verdict === verdict).length) / n).toFixed(1)} %`;
        const pairs = drawn.reduce((sum, d) => sum + d.pairs, 0) / n;
        rows.push([
          ...[name, `${mostPairs}`, `${100 * slowdown} %`],
          ...[share('slower'), share("can't tell"), share('not slower'), pairs.toFixed(1)],
        ]);
      }
    }
  }
  const head = ['pairs vary by', 'pairs at most', 'slow-down', 'slower', "can't tell", 'not slower', 'pairs'];
  return markdownTable([head, ...rows], { align: ['l', ...Array(6).fill('r')] });
}

function main(o: Arguments): void {
  if (o.draw !== undefined) {
    process.stdout.write(`${drawnTable(o.draw)}\n`);
    return;
  }
  const lines = o.resume === undefined ? [] : readLines(o.resume);
  if (!o.table) run(o, lines);
  process.stdout.write(
    `Node ${process.version}, ${os.cpus()[0]?.model}, ${os.availableParallelism()} cores\n${tableOf(lines)}\n`,
  );
}

/** Makes the comparisons that are missing and adds them to `lines` and the file. */
function run(o: Arguments, lines: Line[]): void {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-regression-'));
  const end = o.minutes === undefined ? Number.POSITIVE_INFINITY : performance.now() + o.minutes * 60_000;
  try {
    const rows = rowsOf(o);
    const copies = rows.map(({ place, percent }) =>
      inject(folder, place === 'equal' ? 'worker' : place, percent),
    );
    const done = rows.map((row) => lines.filter((line) => keyOf(line) === keyOf(row)).length);
    for (;;) {
      const next = done.indexOf(Math.min(...done));
      // Another one would end late.
      if (done[next] >= o.comparisons || performance.now() + o.budget * 1000 > end) break;
      const line = compare(copies[next], rows[next], o.budget);
      lines.push(line);
      done[next]++;
      if (o.resume !== undefined) fs.appendFileSync(o.resume, `${JSON.stringify(line)}\n`);
      process.stderr.write(
        `${line.place} ${line.percent} %: ${done[next]}/${o.comparisons} ${line.verdict}, ${line.pairs} pairs, ${line.seconds.toFixed(0)} s\n`,
      );
    }
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

function parsePlaces(text: string): Place[] {
  return text.split(',').map((name) => {
    if (name in PLACES) return name as Place;
    throw new InvalidArgumentError(`"${name}" is none of ${Object.keys(PLACES).join(', ')}.`);
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const program = new Command('bench:regression')
    .option(
      '--percent <LIST>',
      'slow-downs; 0 is an equal copy',
      (text) => text.split(',').map(wholeNumber(0, 1000)),
      [0, 3, 5, 10],
    )
    .option('--place <LIST>', `what is slowed down, of ${Object.keys(PLACES).join(', ')}`, parsePlaces, [
      'worker',
    ])
    .option('--comparisons <N>', 'in each row', wholeNumber(1, 10_000), 100)
    .option('--workload <LIST>', 'what is replayed', DEFAULT)
    .option('--workers <N>', 'worker threads', wholeNumber(0, 128), 1)
    .option('--budget <S>', 'time of a comparison', wholeNumber(1, 3600), 80)
    .option('--minutes <N>', 'begin no comparison that may end later than this', wholeNumber(1, 100_000))
    .option('--resume <FILE>', 'keep comparisons in FILE as lines of JSON, and count those that are there')
    .option('--table', 'compare nothing, only print the table of FILE')
    .option(
      '--draw <N>',
      'instead draw N comparisons from distributions, and say what the rules make of them',
      wholeNumber(1, 1_000_000),
    )
    .action(main);
  try {
    await program.parseAsync();
  } catch (error) {
    process.stderr.write(`bench:regression: ${(error as Error).message}\n`);
    process.exit(1);
  }
}
