/** What do the parts cost, each by itself? In nanoseconds, beside a plain baseline where there is one.
 *
 *      npm run bench:micro -- --seconds 0.5 --only lookup --json FILE
 *
 *  Each variant runs in a process of its own, so that what V8 learns from one does not help or hurt another, and
 *  is checked for right results before it is timed. */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Command, InvalidArgumentError } from 'commander';
import { Bench } from 'tinybench';
import { VARIANTS } from './all.js';
import type { Variant } from './variant.js';

/** Nanoseconds an operation. */
interface Timing {
  median: number;
  best: number;
  samples: number;
  note?: string;
}

interface Options {
  seconds: number;
  only?: string[];
  json?: string;
  child?: string;
}

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
    note: variant.note?.(),
  };
}

async function timeInChild(variant: Variant, seconds: number): Promise<Timing> {
  const { stdout } = await promisify(execFile)(process.execPath, [
    fileURLToPath(import.meta.url),
    ...['--child', variant.name, '--seconds', `${seconds}`],
  ]);
  return JSON.parse(stdout) as Timing;
}

const digits = (ns: number) => (ns >= 100 ? ns.toFixed(0) : ns.toPrecision(3));

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
  const cpu = os.cpus()[0]?.model ?? 'unknown';
  process.stdout.write(`Node ${process.version}, ${cpu}, ${os.cpus().length} cores; best and median\n`);
  const results: (Timing & Pick<Variant, 'name' | 'what' | 'unit'>)[] = [];
  let group = '';
  for (const variant of chosen) {
    const timing = await timeInChild(variant, o.seconds);
    const { name, what, unit } = variant;
    results.push({ name, what, unit, ...timing });
    if (name.split('/')[0] !== group) {
      group = name.split('/')[0];
      process.stdout.write('\n');
    }
    process.stdout.write(
      `${name.padEnd(28)}${digits(timing.best).padStart(8)} ${digits(timing.median).padStart(8)} ${unit}   ${what}${timing.note === undefined ? '' : `: ${timing.note}`}\n`,
    );
  }
  if (o.json !== undefined) {
    const report = {
      date: new Date().toISOString(),
      node: process.version,
      cpu,
      seconds: o.seconds,
      results,
    };
    fs.writeFileSync(o.json, `${JSON.stringify(report, null, 2)}\n`);
  }
  const last = results[results.length - 1];
  process.stdout.write(`\n${digits(last.median)} ${last.unit} (${last.name})\n`);
}

function parseSeconds(text: string): number {
  const seconds = Number(text);
  if (seconds > 0 && seconds <= 3600) return seconds;
  throw new InvalidArgumentError('expected more than 0 and at most 3600.');
}

const program = new Command('bench:micro')
  .option('--seconds <S>', 'measured time of each; half as much again goes before', parseSeconds, 0.6)
  .option('--only <NAME...>', 'those whose names begin so, such as lookup or rings/words')
  .option('--json <FILE>', 'the figures as JSON')
  .option('--child <NAME>', 'times one of them and prints JSON (used by the program itself)')
  .action(main);
try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`bench:micro: ${(error as Error).message}\n`);
  process.exit(1);
}
