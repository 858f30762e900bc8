/** How many packets a second go through the whole pipeline?
 *
 *  Loads captures into memory, replays them in a loop for some seconds after a warm-up, and prints Mpps:
 *  dispatch on this thread, datapath on worker threads, verdicts collected in order. Each round comes after
 *  the one before on the clock, so connections expire as they would.
 *
 *      npm run bench:replay -- --in 1=FILE --flows FILE --workers N --seconds S --json FILE */
import fs from 'node:fs';
import os from 'node:os';
import { Command } from 'commander';
import { Resident } from '../../src/bench/resident.js';
import { prepare } from '../../src/bench/spec.js';
import { collectIn, type PortFile, parseInside, parsePortList, wholeNumber } from '../../src/cli/options.js';
import type { PrefixSet } from '../../src/wire/cidr.js';

interface Arguments {
  in: PortFile[];
  inside?: PrefixSet;
  ports: number[];
  flows?: string;
  groups?: string;
  workers: number;
  seconds: number;
  warmup: number;
  warmRounds: number;
  vector?: number;
  json?: string;
}

/** Warming up for so many rounds takes so long at most. */
const WARMUP_MS = 120_000;
/** Best and median are of slices: a shared machine takes time away now and then. */
const SLICE_MS = 250;

async function main(captures: string[], args: Arguments): Promise<void> {
  const { inside, ports, flows, groups, workers, vector } = args;
  const resident = new Resident(
    await prepare({
      name: 'bench:replay',
      made: null,
      replayed: { captures, in: args.in, inside: inside?.text, ports },
      flows,
      groups,
      workers,
    }),
    { workers, vector },
  );
  resident.start();
  const { collector, fabric, n } = resident;
  await resident.runFor(args.warmup * 1000);
  const patience = performance.now() + WARMUP_MS;
  while (collector.head < args.warmRounds * n) {
    if (performance.now() > patience) throw new Error('warming up takes longer than two minutes');
    await resident.runFor(100);
  }
  const speeds: number[] = [];
  const before = resident.counts();
  const cpuBefore = process.cpuUsage();
  const began = performance.now();
  while (performance.now() - began < args.seconds * 1000) {
    const { head } = collector;
    const at = performance.now();
    await resident.runFor(Math.min(SLICE_MS, args.seconds * 1000));
    speeds.push((collector.head - head) / (performance.now() - at) / 1000);
  }
  const seconds = (performance.now() - began) / 1000;
  const cpu = process.cpuUsage(cpuBefore);
  const after = resident.counts();
  const packets = after.packets - before.packets;
  const connections = resident.connections();
  speeds.sort((a, b) => a - b);
  const report = {
    mpps: packets / seconds / 1e6,
    mpps_best: speeds[speeds.length - 1],
    mpps_median: speeds[speeds.length >> 1],
    gbps: ((after.bytes - before.bytes) * 8) / seconds / 1e9,
    packets,
    seconds,
    capture_packets: n,
    workers: resident.workers,
    connections: connections.n,
    moved: fabric.homes?.nMoved ?? 0,
    upcalls: after.upcalls,
    commits: after.commits,
    microflow_hits: after.microflowHits - before.microflowHits,
    megaflow_hits: after.megaflowHits - before.megaflowHits,
    shared_bytes_per_connection: connections.n === 0 ? null : connections.sharedBytes / connections.n,
    cpu_ns_per_packet: ((cpu.user + cpu.system) * 1000) / packets,
    node: process.version,
    cpu: os.cpus()[0]?.model ?? 'unknown',
  };
  // Let the window run empty before the threads stop.
  await resident.run(0);
  await resident.stop();
  if (args.json !== undefined) fs.writeFileSync(args.json, `${JSON.stringify(report, null, 2)}\n`);
  for (const [name, value] of Object.entries(report)) {
    process.stdout.write(
      `${name.padEnd(28)} ${typeof value === 'number' ? Number(value.toPrecision(6)) : value}\n`,
    );
  }
  process.stdout.write(`${report.mpps.toPrecision(4)} Mpps\n`);
}

const program = new Command('bench:replay')
  .argument('[capture...]')
  .option('--in <PORT=FILE>', 'capture that arrives on PORT', collectIn, [])
  .option('--inside <CIDR,...>', 'sources that arrive on port 1', parseInside)
  .option('--ports <LIST>', 'further ports', parsePortList, [])
  .option('--flows <FILE>', 'flow table')
  .option('--groups <FILE>', 'group table')
  .option('--workers <N>', 'worker threads; 0: inline', wholeNumber(0, 128), 1)
  .option('--seconds <S>', 'measured time', wholeNumber(1, 86400), 5)
  .option('--warmup <S>', 'time before', wholeNumber(0, 3600), 3)
  .option('--warm-rounds <N>', 'rounds before, at least', wholeNumber(0, 1000), 0)
  .option('--vector <N>', 'packets a vector', wholeNumber(1, 4096))
  .option('--json <FILE>', 'the figures as JSON')
  .action(main);
try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`bench:replay: ${(error as Error).message}\n`);
  process.exit(1);
}
