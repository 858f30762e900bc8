/** Does a packet cost more processor time with more workers? And how much memory does a connection take?
 *
 *      npm run bench:scaling -- --workers 1 2 4 --connections 100000
 *      npm run bench:scaling -- --workers 1 --connections 1000000 --table snat
 *
 *  Runs bench/replay with each number of workers in turn, several times, and prints the processor time a packet of all
 *  threads, and beside it the speed by the clock. On a machine with fewer processors than threads the clock tells how
 *  well they take turns, no more; processor time tells what more threads would do where there is room for them. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';
import { markdownTable } from 'markdown-table';
import { wholeNumber } from '../../src/cli/options.js';
import { writeCapture } from '../../src/generate/write.js';
import { median } from '../peers/numbers.js';
import { measureOurs, type OurResult } from '../peers/ours.js';
import { tcp, udp } from '../traffic/generate.js';

const TABLES = ['firewall', 'snat', 'dnat', 'zones', 'balance'];
const WITHIN = 0.15;
/** Of an IPv4 connection, index included. */
const WANTED_BYTES = 160;

interface Options {
  workers: string[];
  connections: number;
  packets: number;
  traffic: 'udp' | 'tcp';
  table: string;
  rounds: number;
  seconds: number;
  warmup: number;
}

async function main(o: Options): Promise<void> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'bench-scaling-'));
  let kill = () => {};
  process.on('exit', () => kill());
  const results: OurResult[][] = o.workers.map(() => []);
  try {
    const capture = path.join(dir, 'made.pcap');
    const packets = Math.max(o.packets, o.connections);
    const made = { packets, connections: o.connections, frameBytes: 60, seed: 1 };
    const frames = o.traffic === 'tcp' ? tcp(made) : udp({ ...made, bothWays: false, checksums: false });
    await writeCapture(capture, frames);
    const table = (name: string) =>
      fileURLToPath(new URL(`../../../bench/peers/flows/${name}.txt`, import.meta.url));
    for (let round = 0; round < o.rounds; round++) {
      for (const [i, text] of o.workers.entries()) {
        const run = {
          ...{ node: process.execPath, flows: table(o.table), dir, workers: Number(text) },
          ...{ groups: o.table === 'balance' ? table('balance-groups') : undefined },
          ...{ arrivals: [{ port: 1, capture, packets }], outputs: [2] },
          ...{ warmup: o.warmup, seconds: o.seconds },
        };
        results[i].push(
          await measureOurs(run, (stop) => {
            kill = stop;
          }),
        );
      }
    }
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
  const cpu = (i: number) => median(results[i].map((r) => r.cpu_ns_per_packet));
  const first = cpu(0);
  const lines = [
    [
      'workers',
      'CPU ns a packet',
      `beside ${o.workers[0]}`,
      'Mpps',
      'best Mpps',
      'connections',
      'shared bytes each',
    ],
    ...o.workers.map((text, i) => [
      text,
      `${cpu(i).toFixed(0)} (${results[i].map((r) => r.cpu_ns_per_packet.toFixed(0)).join(', ')})`,
      (cpu(i) / first).toFixed(2),
      median(results[i].map((r) => r.mpps)).toFixed(2),
      Math.max(...results[i].map((r) => r.mpps_best)).toFixed(2),
      `${results[i][0].connections}`,
      (results[i][0].shared_bytes_per_connection ?? Number.NaN).toFixed(1),
    ]),
  ];
  process.stdout.write(
    `${o.traffic}, ${o.connections.toLocaleString('en')} connections, ${o.table}; Node ${results[0][0].node}, ${os.cpus().length} cores, load ${os.loadavg()[0].toFixed(1)}; medians of ${o.rounds} rounds\n\n`,
  );
  process.stdout.write(`${markdownTable(lines, { align: lines[0].map(() => 'r') })}\n\n`);
  const worst = Math.max(...o.workers.map((_, i) => cpu(i) / first));
  const bytes = Math.max(...results.flat().map((r) => r.shared_bytes_per_connection ?? 0));
  process.stdout.write(
    `${((worst - 1) * 100).toFixed(0)} % more processor time at most; wanted: ${WITHIN * 100} %: ${worst <= 1 + WITHIN ? 'met' : 'not met'}\n` +
      `${bytes.toFixed(1)} bytes a connection at most; wanted: ${WANTED_BYTES}: ${bytes <= WANTED_BYTES ? 'met' : 'not met'}\n`,
  );
}

const program = new Command('bench:scaling')
  .option('--workers <N...>', 'numbers of workers; the first is what the others are compared with', [
    '1',
    '2',
    '4',
  ])
  .option('--connections <N>', 'connections', wholeNumber(1, 0xffffff), 100_000)
  .option(
    '--packets <N>',
    'packets of a round, one for each connection at least',
    wholeNumber(1, 1e7),
    400_000,
  )
  .addOption(new Option('--traffic <KIND>', 'of 60 bytes').choices(['udp', 'tcp']).default('udp'))
  .addOption(new Option('--table <NAME>', 'of bench/peers/flows').choices(TABLES).default('firewall'))
  .option('--rounds <N>', 'runs of each', wholeNumber(1, 100), 3)
  .option('--seconds <S>', 'measured time of a run', wholeNumber(1, 3600), 2)
  .option('--warmup <S>', 'time before it, two rounds at least', wholeNumber(1, 600), 3)
  .action(main);
try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`bench:scaling: ${(error as Error).message}\n`);
  process.exit(1);
}
