/** What would 16 and 64 cores do? A model of the threads (tandem.ts), fed with times measured here, checked against
 *  the speed that was measured here, and then asked about machines that are not at hand.
 *
 *      npm run bench:model -- --connections 100000 --rounds 3
 *
 *  Measured: with one worker, what a packet costs the main thread and the worker, in processor time of each thread. The
 *  model must then say what one worker, and two, give on these cores by the clock; the table shows what they did. */

import fs from 'node:fs';
import os from 'node:os';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { markdownTable } from 'markdown-table';
import { loadFrames } from '../../src/bench/load.js';
import { Resident } from '../../src/bench/resident.js';
import { wholeNumber } from '../../src/cli/options.js';
import { loadPipeline } from '../../src/cli/replay.js';
import { DEFAULT_VECTOR } from '../../src/coordinator/fabric.js';
import { DEFAULT_WINDOW } from '../../src/coordinator/replay.js';
import { median } from '../peers/numbers.js';
import { udp } from '../traffic/generate.js';
import { sharesOf, simulate, type Tandem } from './tandem.js';

const FIREWALL = fileURLToPath(new URL('../../../bench/peers/flows/firewall.txt', import.meta.url));
const BURST = 1024;
/** To wake a thread by a futex, on this kind of machine. */
const WAKE_NS = 5000;
/** Bytes that a packet of 60 moves between memory and cores where nothing fits a cache: frame, row, index, entry and
 *  record (read, the record written back), words of rings. */
const BYTES_A_PACKET = 64 + 2 * 56 + 64 + 64 + 2 * 64 + 16;
const SCHEDSTAT = (task: string) => `/proc/self/task/${task}/schedstat`;
const nap = new Int32Array(new SharedArrayBuffer(4));

interface Measured {
  workers: number;
  mpps: number;
  /** Nanoseconds a packet: of the main thread, of all workers together. */
  main: number;
  work: number;
  /** Part of the machine that other processes took, 0 to 1. */
  stolen: number;
}

/** Processor time of the main thread, and of the whole process, in ms; Linux only. */
function times(): { main: number; all: number } {
  // The kernel brings a thread's time up to date when it goes to sleep.
  Atomics.wait(nap, 0, 0, 0.1);
  const main = Number(fs.readFileSync(SCHEDSTAT(`${process.pid}`), 'latin1').split(' ', 1)[0]) / 1e6;
  const { user, system } = process.cpuUsage();
  return { main, all: (user + system) / 1000 };
}

/** Idle and total jiffies of the machine. */
function machine(): { idle: number; total: number } {
  const cpus = os.cpus().map((c) => c.times);
  const idle = cpus.reduce((sum, c) => sum + c.idle, 0);
  return { idle, total: cpus.reduce((sum, c) => sum + c.idle + c.user + c.sys + c.nice + c.irq, 0) };
}

async function measureHere(workers: number, connections: number, seconds: number): Promise<Measured> {
  const packets = Math.max(131_072, connections);
  const frames = udp({ packets, connections, frameBytes: 60, seed: 1, bothWays: false, checksums: false });
  const tables = { captures: [], in: [], out: [], ports: [1, 2], flows: FIREWALL };
  const resident = new Resident(
    { loaded: loadFrames(frames, 1_000_000), ...loadPipeline(tables) },
    { workers },
  );
  resident.start();
  try {
    await resident.run(4 * packets);
    const end = performance.now() + 1000;
    while (performance.now() < end) await resident.run(packets);
    const before = { ...times(), ...machine(), at: performance.now() };
    let n = 0;
    while (performance.now() < before.at + seconds * 1000) {
      await resident.run(packets);
      n += packets;
    }
    const after = { ...times(), ...machine(), at: performance.now() };
    const all = after.all - before.all;
    const main = after.main - before.main;
    const busy = after.total - before.total - (after.idle - before.idle);
    return {
      workers,
      mpps: n / (after.at - before.at) / 1000,
      main: (main * 1e6) / n,
      work: ((all - main) * 1e6) / n,
      stolen: Math.max(0, 1 - all / Math.max(1, busy)),
    };
  } finally {
    await resident.stop();
  }
}

/** The main thread's time is about two to one: hand-over and collecting (bench:dispatch). */
const DISPATCH_PART = 0.6;

function tandem(cores: number, dispatchers: number, workers: number, main: number, work: number): Tandem {
  return {
    ...{ cores, dispatchers, shares: sharesOf(workers), work },
    ...{ dispatch: main * DISPATCH_PART, collect: main * (1 - DISPATCH_PART) },
    ...{ wake: WAKE_NS, window: DEFAULT_WINDOW, burst: BURST, vector: DEFAULT_VECTOR },
  };
}

async function main(o: {
  connections: number;
  rounds: number;
  seconds: number;
  main?: string;
  work?: string;
}) {
  const lines: string[][] = [];
  let mainNs = Number(o.main);
  let workNs = Number(o.work);
  const load = os.loadavg()[0];
  if (o.main === undefined || o.work === undefined) {
    const runs: Measured[] = [];
    for (let round = 0; round < o.rounds; round++) {
      for (const workers of [1, 2]) runs.push(await measureHere(workers, o.connections, o.seconds));
    }
    const of = (workers: number, key: (m: Measured) => number) =>
      median(runs.filter((r) => r.workers === workers).map(key));
    mainNs = of(1, (m) => m.main);
    workNs = of(1, (m) => m.work);
    const cores = os.cpus().length;
    for (const workers of [1, 2]) {
      const measured = of(workers, (m) => m.mpps);
      // Times of the one-worker runs for both: two workers are foretold.
      const { mpps } = simulate(tandem(cores, 1, workers, mainNs, workNs));
      lines.push([
        `${workers}`,
        of(workers, (m) => m.main).toFixed(0),
        of(workers, (m) => m.work).toFixed(0),
        measured.toFixed(2),
        mpps.toFixed(2),
        (measured / mpps).toFixed(2),
        `${(of(workers, (m) => m.stolen) * 100).toFixed(0)} %`,
      ]);
    }
    process.stdout.write(
      `Node ${process.version}, ${cores} cores, load ${load.toFixed(1)}; UDP, ${o.connections.toLocaleString('en')} connections, firewall; medians of ${o.rounds}\n\n`,
    );
    const head = [
      'workers',
      'main, ns',
      'work, ns',
      'measured Mpps',
      'model Mpps',
      'measured / model',
      'taken by others',
    ];
    process.stdout.write(`${markdownTable([head, ...lines], { align: head.map(() => 'r') })}\n\n`);
  }
  process.stdout.write(`main ${mainNs.toFixed(1)} ns a packet, work ${workNs.toFixed(1)} ns a packet\n\n`);

  const head = [
    'cores',
    'dispatchers',
    'workers',
    'Mpps',
    'dispatcher busy',
    'worker busy',
    'GB/s of memory',
  ];
  const rows: string[][] = [];
  for (const cores of [2, 4, 8, 16, 64]) {
    let best = 0;
    for (let dispatchers = 1; dispatchers < cores; dispatchers *= 2) {
      const workers = cores - dispatchers;
      const { mpps, dispatcherBusy, workerBusy } = simulate(
        tandem(cores, dispatchers, workers, mainNs, workNs),
        400_000,
      );
      // More dispatchers than that take cores from workers.
      if (mpps < best) break;
      best = mpps;
      rows.push([
        ...[`${cores}`, `${dispatchers}`, `${workers}`, mpps.toFixed(1)],
        ...[`${(dispatcherBusy * 100).toFixed(0)} %`, `${(workerBusy * 100).toFixed(0)} %`],
        ((mpps * BYTES_A_PACKET) / 1000).toFixed(1),
      ]);
    }
  }
  process.stdout.write(`${markdownTable([head, ...rows], { align: head.map(() => 'r') })}\n`);
}

const program = new Command('bench:model')
  .option('--connections <N>', 'of the traffic that is measured', wholeNumber(1, 1e6), 100_000)
  .option('--rounds <N>', 'measurements', wholeNumber(1, 100), 3)
  .option('--seconds <S>', 'of each', wholeNumber(1, 600), 2)
  .option('--main <NS>', 'take this for a packet on the main thread, and measure nothing')
  .option('--work <NS>', 'the same for the worker')
  .action(main);
try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`bench:model: ${(error as Error).message}\n`);
  process.exit(1);
}
