/** How long does it take from the start of the process to the first packet?
 *
 *  Runs `shardtrack replay` of one packet, again and again, and takes the time from spawn to exit: loading, reading the
 *  flow table, starting the threads, the packet, its verdict, stopping. The first packet is somewhere before the end, so
 *  this is more than what is asked. Bare Node beside it: what cannot be helped.
 *
 *      npm run bench:startup -- --runs 20 --workers 1 2 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { wholeNumber } from '../../src/cli/options.js';
import { writeCapture } from '../../src/generate/write.js';
import { median } from '../peers/numbers.js';
import { udp } from '../traffic/generate.js';

const CLI = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const FLOWS = fileURLToPath(new URL('../../../fixtures/flows/firewall.txt', import.meta.url));
const WANTED_MS = 300;

/** Milliseconds from spawn to exit. */
async function once(node: string, args: readonly string[]): Promise<number> {
  const began = performance.now();
  const child = spawn(node, args, { stdio: 'ignore' });
  const code = await new Promise((done, fail) => {
    child.on('error', fail);
    child.on('exit', done);
  });
  const ms = performance.now() - began;
  if (code !== 0) throw new Error(`${args.join(' ')} ended with ${code}`);
  return ms;
}

async function main(o: { runs: number; workers: string[]; node: string }): Promise<void> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'bench-startup-'));
  try {
    const capture = path.join(dir, 'one.pcap');
    const frames = udp({
      packets: 1,
      connections: 1,
      frameBytes: 60,
      seed: 1,
      bothWays: false,
      checksums: true,
    });
    await writeCapture(capture, frames);
    const replay = (n: string) => [
      ...[CLI, 'replay', capture, '--flows', FLOWS, '--ports', '2', '--quiet', '--workers', n],
    ];
    const cases: [string, string[]][] = [
      ['bare Node', ['-e', '0']],
      ...o.workers.map((n): [string, string[]] => [`${n} worker(s)`, replay(n)]),
    ];
    const times = cases.map(() => [] as number[]);
    for (const [, args] of cases) await once(o.node, args);
    // In turn, so that what else the machine does meets all of them.
    for (let run = 0; run < o.runs; run++) {
      for (const [i, [, args]] of cases.entries()) times[i].push(await once(o.node, args));
    }
    const load = os.loadavg()[0].toFixed(1);
    process.stdout.write(`${o.node}, ${os.cpus().length} cores, load ${load}, ${o.runs} runs each, ms\n`);
    for (const [i, [name]] of cases.entries()) {
      const [least, most] = [Math.min(...times[i]), Math.max(...times[i])];
      process.stdout.write(
        `${name.padEnd(14)} min ${least.toFixed(0).padStart(5)}   median ${median(times[i]).toFixed(0).padStart(5)}   max ${most.toFixed(0).padStart(5)}\n`,
      );
    }
    const slowest = Math.max(...times.slice(1).map(median));
    process.stdout.write(
      `${slowest.toFixed(0)} ms with the slowest of them; wanted: under ${WANTED_MS} ms\n`,
    );
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
}

const program = new Command('bench:startup')
  .option('--runs <N>', 'runs of each', wholeNumber(1, 1000), 15)
  .option('--workers <N...>', 'numbers of workers', ['0', '1', '2'])
  .option('--node <FILE>', 'Node to run', process.execPath)
  .action(main);
try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`bench:startup: ${(error as Error).message}\n`);
  process.exit(1);
}
