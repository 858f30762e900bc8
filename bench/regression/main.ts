/** How well does `shardtrack compare` find slow-downs, and how often does it see one that is not there?
 *
 *  Compares this build with copies of itself, equal ones and ones that were made slower on purpose, again and again,
 *  and counts verdicts. With 100 comparisons of up to 90 seconds a row it takes hours; rows can be run apart.
 *
 *      npm run bench:regression -- --percent 0,3,5,10 --place worker --comparisons 100 --workload tcp --json FILE */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import { Command, Option } from 'commander';
import { wholeNumber } from '../../src/cli/options.js';
import type { Comparison } from '../../src/compare/report.js';
import { inject, PLACES, type Place } from './inject.js';

interface Arguments {
  percent: number[];
  place: Place;
  comparisons: number;
  workload: string;
  workers: number;
  budget: number;
  json?: string;
}

interface Row {
  place: Place;
  percent: number;
  verdicts: Record<string, number>;
  /** Of a comparison. */
  seconds: { mean: number; longest: number };
  pairs: number;
  comparisons: Comparison[];
}

const CLI = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const root = fileURLToPath(new URL('../../../', import.meta.url));

function compare(candidate: string, o: Arguments): Comparison {
  const args = [
    ...[CLI, 'compare', root, candidate, '--only', 'time', '--json', '-', '--quiet'],
    ...['--workload', o.workload, '--workers', `${o.workers}`, '--budget', `${o.budget}`],
  ];
  const { stdout, stderr } = spawnSync(process.execPath, args, { maxBuffer: 1 << 26 });
  if (stdout.length === 0) throw new Error(`compare failed: ${stderr}`);
  return JSON.parse(stdout.toString()) as Comparison;
}

function row(o: Arguments, percent: number, folder: string): Row {
  const candidate = inject(folder, o.place, percent);
  const verdicts: Record<string, number> = { slower: 0, "can't tell": 0, 'not slower': 0 };
  const comparisons: Comparison[] = [];
  for (let i = 0; i < o.comparisons; i++) {
    const result = compare(candidate, o);
    const { verdict } = result.timing!;
    verdicts[verdict]++;
    comparisons.push(result);
    process.stderr.write(`${o.place} ${percent} %: ${i + 1}/${o.comparisons} ${verdict}\n`);
  }
  const seconds = comparisons.map((c) => c.timing!.seconds);
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  return {
    place: o.place,
    percent,
    verdicts,
    seconds: { mean: mean(seconds), longest: Math.max(...seconds) },
    pairs: mean(comparisons.map((c) => c.timing!.pairs)),
    comparisons,
  };
}

function main(o: Arguments): void {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-regression-'));
  try {
    const rows = o.percent.map((percent) => row(o, percent, folder));
    const table = new Table({
      head: ['slow-down', 'where', 'slower', "can't tell", 'not slower', 'pairs', 's', 's at most'],
      style: { head: [], border: [], compact: true },
    });
    for (const r of rows) {
      table.push([
        `${r.percent} %`,
        r.percent === 0 ? '–' : r.place,
        r.verdicts.slower,
        r.verdicts["can't tell"],
        r.verdicts['not slower'],
        r.pairs.toFixed(1),
        r.seconds.mean.toFixed(0),
        r.seconds.longest.toFixed(0),
      ]);
    }
    process.stdout.write(
      `${o.workload}, ${o.workers} workers, ${o.comparisons} comparisons a row, Node ${process.version}, ` +
        `${os.cpus()[0]?.model}, ${os.availableParallelism()} cores\n${table.toString()}\n`,
    );
    if (o.json !== undefined) fs.writeFileSync(o.json, `${JSON.stringify(rows, null, 2)}\n`);
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

const program = new Command('bench:regression')
  .option(
    '--percent <LIST>',
    'slow-downs; 0 is an equal copy',
    (text) => text.split(',').map(wholeNumber(0, 1000)),
    [0, 3, 5, 10],
  )
  .addOption(
    new Option('--place <PLACE>', 'what is slowed down').choices(Object.keys(PLACES)).default('worker'),
  )
  .option('--comparisons <N>', 'in each row', wholeNumber(1, 10_000), 100)
  .option('--workload <NAME>', 'what is replayed', 'tcp')
  .option('--workers <N>', 'worker threads', wholeNumber(0, 128), 1)
  .option('--budget <S>', 'time of a comparison', wholeNumber(1, 3600), 80)
  .option('--json <FILE>', 'everything, as JSON')
  .action(main);
try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`bench:regression: ${(error as Error).message}\n`);
  process.exit(1);
}
