/** How does one worker compare with OVS-DPDK's one PMD thread, on the same captures and flow table?
 *
 *  Both sides run in turn, A B A B, so that what else the machine does hits both; the ratio is the median over
 *  the pairs. Our side also has its main thread, which hands out packets and collects verdicts.
 *
 *      npm run bench:peers -- --rounds 3 --seconds 3 --json FILE
 *
 *  Needs Debian's openvswitch-switch-dpdk, root, and 2 GiB for hugepages while it runs. Exit code 2 where that
 *  is missing; --skip-ovs measures only our side, with no needs. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Command } from 'commander';
import { wholeNumber } from '../../src/cli/options.js';
import { writeCapture } from '../../src/generate/write.js';
import { median } from './numbers.js';
import { measureOurs, type OurResult } from './ours.js';
import { Hugepages, OvsDpdk, type OvsResult, ovsVersion, whyNot } from './ovs.js';
import { FRESH_RATE, WORKLOADS, type Workload } from './workloads.js';

interface Options {
  only?: string[];
  rounds: number;
  seconds: number;
  warmup: number;
  workers: number;
  node: string;
  skipOvs: boolean;
  json?: string;
}

interface Row {
  workload: string;
  what: string;
  ovs: OvsResult[];
  ours: OurResult[];
}

const hugepages = new Hugepages();
const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'bench-peers-'));
/** Ends what runs right now. */
let kill: () => void = () => {};

process.on('exit', () => {
  kill();
  hugepages.release();
  fs.rmSync(dir, { recursive: true, force: true });
});
for (const [signal, number] of [
  ['SIGINT', 2],
  ['SIGTERM', 15],
  ['SIGHUP', 1],
] as const) {
  process.on(signal, () => process.exit(128 + number));
}

async function measurePeer(workload: Workload, capture: string, o: Options): Promise<OvsResult> {
  const ovs = new OvsDpdk();
  kill = () => ovs.kill();
  try {
    return await ovs.measure(workload, capture, o.warmup, o.seconds);
  } finally {
    await ovs.stop();
    kill = () => {};
  }
}

async function measureWorkload(workload: Workload, o: Options): Promise<Row> {
  const capture = path.join(dir, `${workload.name}.pcap`);
  await writeCapture(capture, workload.frames(), workload.fresh ? { rate: FRESH_RATE } : {});
  const row: Row = { workload: workload.name, what: workload.what, ovs: [], ours: [] };
  for (let round = 0; round < o.rounds; round++) {
    progress(`${workload.name}: round ${round + 1} of ${o.rounds}`);
    if (!o.skipOvs) row.ovs.push(await measurePeer(workload, capture, o));
    row.ours.push(
      await measureOurs({ ...o, flows: workload.flows, groups: workload.groups, capture, dir }, (stop) => {
        kill = stop;
      }),
    );
    kill = () => {};
  }
  fs.rmSync(capture);
  return row;
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

const ratioOf = (row: Row) => median(row.ours.map((r, i) => r.mpps / row.ovs[i].mpps));

function table(rows: Row[], skipOvs: boolean): string {
  const of = <T>(results: T[], key: (r: T) => number, digits: number) =>
    results.length === 0 ? '-' : median(results.map(key)).toFixed(digits);
  const lines = [
    [
      'workload',
      'OVS Mpps',
      'cycles/packet',
      'ours Mpps',
      'CPU ns/packet',
      'bytes/connection',
      'upcalls',
      'ours/OVS',
    ],
    ...rows.map((r) => [
      r.workload,
      of(r.ovs, (x) => x.mpps, 2),
      of(r.ovs, (x) => x.cyclesPerPacket, 0),
      of(r.ours, (x) => x.mpps, 2),
      of(r.ours, (x) => x.cpu_ns_per_packet, 0),
      of(r.ours, (x) => x.shared_bytes_per_connection ?? Number.NaN, 1),
      of(r.ours, (x) => x.upcalls, 0),
      skipOvs ? '-' : ratioOf(r).toFixed(2),
    ]),
  ];
  const widths = lines[0].map((_, column) => Math.max(...lines.map((line) => line[column].length)));
  return lines
    .map((line) =>
      line.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('  '),
    )
    .join('\n');
}

async function main(o: Options): Promise<void> {
  const unknown = o.only?.find((name) => !WORKLOADS.some((w) => w.name === name));
  if (unknown !== undefined) {
    throw new Error(`there is no workload ${unknown}; there are ${WORKLOADS.map((w) => w.name).join(', ')}`);
  }
  if (!o.skipOvs) {
    const reason = whyNot();
    if (reason !== null) {
      process.stderr.write(`bench:peers: ${reason} (--skip-ovs measures only our side)\n`);
      process.exitCode = 2;
      return;
    }
    hugepages.reserve();
  }
  const versions = o.skipOvs ? null : await ovsVersion();
  const rows: Row[] = [];
  for (const workload of WORKLOADS) {
    if (o.only !== undefined && !o.only.includes(workload.name)) continue;
    rows.push(await measureWorkload(workload, o));
  }
  progress('');
  const node = rows[0].ours[0].node;
  const cpu = os.cpus()[0]?.model ?? 'unknown';
  const peer =
    versions === null ? 'not measured' : `${versions.ovs} with DPDK ${versions.dpdk}, one PMD thread`;
  process.stdout.write(
    `Node ${node}, ${o.workers} worker(s); Open vSwitch ${peer}\n` +
      `${cpu}, ${os.cpus().length} cores; median of ${o.rounds} rounds of ${o.seconds} s\n\n` +
      `${table(rows, o.skipOvs)}\n`,
  );
  if (o.json !== undefined) {
    const report = {
      date: new Date().toISOString(),
      node,
      cpu,
      cores: os.cpus().length,
      versions,
      options: o,
      rows,
    };
    fs.writeFileSync(o.json, `${JSON.stringify(report, null, 2)}\n`);
  }
  if (o.skipOvs) {
    const least = Math.min(...rows.map((r) => median(r.ours.map((x) => x.mpps))));
    process.stdout.write(`${least.toPrecision(3)} Mpps\n`);
  } else {
    process.stdout.write(`${Math.min(...rows.map(ratioOf)).toPrecision(3)} times OVS-DPDK at least\n`);
  }
}

const program = new Command('bench:peers')
  .option('--only <NAME...>', `of the workloads ${WORKLOADS.map((w) => w.name).join(', ')}`)
  .option('--rounds <N>', 'pairs of runs a workload', wholeNumber(1, 1000), 3)
  .option('--seconds <S>', 'measured time of a run', wholeNumber(1, 3600), 3)
  .option('--warmup <S>', 'time before it', wholeNumber(1, 600), 3)
  .option('--workers <N>', 'our workers', wholeNumber(0, 128), 1)
  .option('--node <FILE>', 'Node that runs our side', process.execPath)
  .option('--skip-ovs', 'only our side', false)
  .option('--json <FILE>', 'all figures as JSON')
  .action(main);
try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`bench:peers: ${(error as Error).message}\n`);
  process.exit(1);
}
