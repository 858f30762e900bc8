/** Does a flood hurt who is connected already?
 *
 *      npm run bench:flood                                   all floods, and those of connections against full tables
 *      npm run bench:flood -- --flood syn --limit none table zone --workers 0 1 2 --packets 10000000 --json FILE
 *      npm run bench:flood -- --flood table cache pile --known-keys
 *      npm run bench:flood -- CAPTURE...                     real traffic are these captures, too
 *
 *  Real connections open and talk; then strangers send packets that each open a connection, millions of them.
 *  Every run is made twice, without and with the strangers, and every real packet must get the same verdict
 *  (ct_state and ports) in both: else the exit code is 1. (Except, where it is full, of captured connections that begin in the
 *  flood: "late".) Made for three tables: one with room for
 *  Open vSwitch's 3,000,000 connections, one that is full all the time, and a zone that is. With --known-keys the product
 *  uses the keys that prepared floods are made for, instead of drawn ones: what they would do if keys could be known.
 *
 *  Processor time of a stranger's packet is the difference between both, after a third run for the compiler. Each case has a process of its own, so that its memory is its own. Flow tables: beside this file. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, Option } from 'commander';
import { wholeNumber } from '../../src/cli/options.js';
import { loadPipeline } from '../../src/cli/replay.js';
import type { Verdict, VerdictTemplate } from '../../src/coordinator/collector.js';
import { parseEvents } from '../../src/coordinator/events.js';
import { DEFAULT_MAX_CONNS } from '../../src/coordinator/fabric.js';
import { COMMITTED, EXPIRED, TABLE_FULL, ZONE_FULL } from '../../src/coordinator/ledger.js';
import { type ReplayResult, replay } from '../../src/coordinator/replay.js';
import { STAT } from '../../src/datapath/stats.js';
import { Translator } from '../../src/openflow/translate.js';
import { SegmentArena } from '../../src/pcap/arena.js';
import { MergedSource } from '../../src/pcap/merge.js';
import { DEFAULT_RSS_KEY } from '../../src/rss/toeplitz.js';
import { CapturedReader, capturedFrames, conversationOf, PORT_FIRST, PORT_OTHERS } from './captured.js';
import {
  ESTABLISHED_AT,
  FIRST_SECOND,
  FLOODS,
  type Flood,
  type FloodOptions,
  FloodReader,
  KNOWN_KEY,
  PORT_SERVER,
  PORT_STRANGERS,
} from './traffic.js';

const TABLES: Partial<Record<Flood, string>> = {
  zones: 'zones.txt',
  expectations: 'ftp.txt',
  masks: 'masks.txt',
  learn: 'learn.txt',
  macs: 'macs.txt',
  errors: 'both.txt',
  overlaps: 'both.txt',
  chains: 'both.txt',
};
const beside = (name: string) => fileURLToPath(new URL(`../../../bench/flood/${name}`, import.meta.url));
const flowsFor = (flood: Flood) => beside(TABLES[flood] ?? 'flows.txt');
/** Of each capture. */
const MOST_CAPTURED = 100_000;
const SEGMENTS = 48;
const WARMING = 20_000;
const SAMPLE_MS = 500;

const LIMITS = ['none', 'table', 'zone'] as const;
type Limit = (typeof LIMITS)[number];

interface Case extends FloodOptions {
  workers: number;
  limit: Limit;
  /** Room besides the real connections where a table or a zone is full. */
  spare: number;
  strict: boolean;
  knownKeys: boolean;
  captures: readonly string[];
}

/** How the run stood at some time. */
interface Sample {
  /** Packets collected. */
  packets: number;
  connections: number;
  rss_mib: number;
  shared_mib: number;
}

interface Run {
  packets: number;
  mpps: number;
  cpuNs: number;
  /** What became of each real packet, as numbers of `texts`. */
  verdicts: Uint16Array;
  /** Whether it is of a captured connection whose first packet came when the flood had begun. */
  late: Uint8Array;
  samples: Sample[];
  result: ReplayResult;
}

interface Report {
  flood: Flood;
  limit: Limit;
  workers: number;
  real_packets: number;
  /** Real packets that the flood has given another verdict. */
  real_changed: number;
  /** The same of captured connections that begin in the flood: where it is full, they are refused. */
  late_changed: number;
  packets: number;
  mpps: number;
  /** Processor time of all threads, making the packets included: of a packet in the run without the flood, and of
   *  one of the flood's. */
  cpu_ns_real: number;
  cpu_ns_flood: number;
  commits: number;
  refused: Record<string, number>;
  expired: number;
  live: number;
  peak_live: number;
  fragments_held: number;
  /** Share of the packets that the busiest worker has run. */
  busiest: number;
  peak_rss_mib: number;
  samples: Sample[];
}

/** Whether the server answers a stranger: addresses 64.0.0.0/8. */
function isToStranger(v: Verdict): boolean {
  return v.inPort === PORT_SERVER && v.frameBytes[0][v.frameOff[0] + 30] === 64;
}

/** With flows for captures, if there are any. */
function tablesOf(c: Case): ReturnType<typeof loadPipeline> {
  const given = { captures: [], in: [], out: [] };
  const flows = flowsFor(c.flood);
  if (c.captures.length === 0) return loadPipeline({ ...given, flows, ports: [1, 2, PORT_STRANGERS] });
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-flood-'));
  try {
    const both = path.join(folder, 'flows.txt');
    fs.writeFileSync(both, `${fs.readFileSync(flows)}\n${fs.readFileSync(beside('captured.txt'))}`);
    const ports = [1, 2, PORT_STRANGERS, PORT_FIRST, PORT_OTHERS];
    return loadPipeline({ ...given, flows: both, ports });
  } finally {
    fs.rmSync(folder, { recursive: true });
  }
}

/** One pass over the traffic; `texts` numbers verdicts. */
async function pass(c: Case, texts: Map<string, number>): Promise<Run> {
  const frames = await capturedFrames(c.captures, MOST_CAPTURED);
  const { pipeline, ports, ordering } = tablesOf(c);
  const arena = new SegmentArena(SEGMENTS);
  const limited = c.real + c.spare;
  const limits = `{"t": 0, "appctl": ["dpctl/ct-set-limits", "zone=1,limit=${limited}"]}`;
  const flooded = c.packets / c.rate;
  const verdicts = new Uint16Array(4 * c.real + Math.ceil((flooded + 100) * c.realRate) + frames.length);
  const late = new Uint8Array(verdicts.length);
  let n = 0;
  let flooding = false;
  /** Captured connections, and whether they are late. */
  const begun = new Map<string, number>();
  const known = new WeakMap<VerdictTemplate, number>();
  const samples: Sample[] = [];
  let sampled = 0;
  const before = process.cpuUsage();
  const result = await replay({
    source: new MergedSource(
      [
        new FloodReader(c, arena),
        ...(frames.length > 0
          ? [new CapturedReader(frames, arena, FIRST_SECOND, ESTABLISHED_AT + flooded)]
          : []),
      ],
      arena,
    ),
    arena,
    portMap: { portOf: (_source, iface) => iface },
    ports,
    translator: new Translator(pipeline),
    workers: c.workers,
    ordering,
    events: c.limit === 'zone' ? parseEvents(limits, 'limits', { ports }) : [],
    maxConns: c.limit === 'table' ? limited : DEFAULT_MAX_CONNS,
    strict: c.strict,
    ...(c.knownKeys ? { seed: KNOWN_KEY, rssKey: DEFAULT_RSS_KEY } : {}),
    sinks: [
      {
        verdict(v: Verdict): void {
          if (v.inPort === PORT_STRANGERS || isToStranger(v)) {
            flooding = true;
            return;
          }
          if (v.inPort >= PORT_FIRST) {
            const who = conversationOf(v.frameBytes[0], v.frameOff[0], v.frameLen[0]);
            const isLate = begun.get(who) ?? (flooding ? 1 : 0);
            begun.set(who, isLate);
            late[n] = isLate;
          }
          let id = known.get(v.template);
          if (id === undefined) {
            id = texts.get(v.template.json) ?? texts.size;
            texts.set(v.template.json, id);
            known.set(v.template, id);
          }
          verdicts[n++] = id;
        },
      },
    ],
    progress: (packets, _bytes, coordinator) => {
      const now = performance.now();
      if (now - sampled < SAMPLE_MS) return;
      sampled = now;
      samples.push({
        packets,
        connections: coordinator.connections,
        rss_mib: Math.round(process.memoryUsage.rss() / 2 ** 20),
        shared_mib: Math.round(coordinator.sharedBytes() / 2 ** 20),
      });
    },
  });
  const { user, system } = process.cpuUsage(before);
  const { packets, seconds } = result;
  const cpuNs = (user + system) * 1000;
  return {
    packets,
    mpps: packets / seconds / 1e6,
    cpuNs,
    verdicts: verdicts.subarray(0, n),
    late,
    samples,
    result,
  };
}

async function runCase(c: Case): Promise<Report> {
  const texts = new Map<string, number>();
  // Once for the compiler: whichever pass came first would pay for it.
  await pass({ ...c, packets: Math.min(c.packets, WARMING) }, texts);
  const calm = await pass({ ...c, silent: true }, texts);
  const run = await pass(c, texts);
  if (calm.verdicts.length !== run.verdicts.length) throw new Error('bench:flood: real packets are missing');
  const changed = [0, 0];
  calm.verdicts.forEach((id, i) => {
    if (run.verdicts[i] !== id) changed[run.late[i]]++;
  });
  const { result, samples } = run;
  const { ledger } = result;
  const { total, byWorker } = result.counters;
  return {
    flood: c.flood,
    limit: c.limit,
    workers: c.workers,
    real_packets: calm.packets,
    real_changed: changed[0],
    late_changed: changed[1],
    packets: run.packets,
    mpps: run.mpps,
    cpu_ns_real: calm.cpuNs / calm.packets,
    cpu_ns_flood: (run.cpuNs - calm.cpuNs) / Math.max(1, run.packets - calm.packets),
    commits: ledger.total(COMMITTED),
    refused: { table_full: ledger.total(TABLE_FULL), zone_limit: ledger.total(ZONE_FULL) },
    expired: ledger.total(EXPIRED),
    live: result.connections,
    peak_live: Math.max(0, ...samples.map((s) => s.connections)),
    fragments_held: total[STAT.FRAGMENTS_HELD],
    busiest: Math.max(...byWorker.map((w) => w[STAT.PACKETS])) / total[STAT.PACKETS],
    peak_rss_mib: Math.round(process.resourceUsage().maxRSS / 1024),
    samples,
  };
}

/** Runs a case in a process of its own. */
function inProcess(c: Case): Report {
  const child = spawnSync(
    process.execPath,
    [...process.execArgv, fileURLToPath(import.meta.url), '--case', JSON.stringify(c)],
    { stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 2 ** 26, encoding: 'utf8' },
  );
  if (child.status !== 0) throw new Error(`the run of ${c.flood} with ${c.workers} workers failed`);
  return JSON.parse(child.stdout) as Report;
}

const COLUMNS: [string, (r: Report) => string][] = [
  ['flood', (r) => r.flood],
  ['limit', (r) => r.limit],
  ['workers', (r) => String(r.workers)],
  ['real', (r) => String(r.real_packets)],
  ['changed', (r) => String(r.real_changed)],
  ['late', (r) => String(r.late_changed)],
  ['Mpps', (r) => r.mpps.toPrecision(3)],
  ['ns real', (r) => r.cpu_ns_real.toFixed(0)],
  ['ns flood', (r) => r.cpu_ns_flood.toFixed(0)],
  ['commits', (r) => String(r.commits)],
  ['refused', (r) => String(r.refused.table_full + r.refused.zone_limit)],
  ['peak live', (r) => String(r.peak_live)],
  ['live', (r) => String(r.live)],
  ['busiest', (r) => r.busiest.toFixed(2)],
  ['peak MiB', (r) => String(r.peak_rss_mib)],
];

function row(cells: string[]): void {
  process.stdout.write(
    `${cells.map((cell, i) => cell.padStart(i === 0 ? 12 : i === 1 ? 6 : 10)).join('')}\n`,
  );
}

interface Arguments extends Omit<FloodOptions, 'flood' | 'silent'> {
  flood: Flood[];
  workers: string[];
  limit?: Limit[];
  spare: number;
  strict: boolean;
  knownKeys: boolean;
  json?: string;
  case?: string;
}

async function main(captures: string[], args: Arguments): Promise<void> {
  if (args.case !== undefined) {
    process.stdout.write(JSON.stringify(await runCase(JSON.parse(args.case) as Case)));
    return;
  }
  row(COLUMNS.map(([name]) => name));
  const reports: Report[] = [];
  for (const flood of args.flood) {
    // What is full matters to those who open connections.
    for (const limit of args.limit ?? (flood === 'syn' ? LIMITS : LIMITS.slice(0, 1))) {
      for (const workers of args.workers.map(wholeNumber(0, 128))) {
        const { packets, rate, real, realRate, spare, strict, knownKeys } = args;
        const report = inProcess({
          flood,
          packets,
          silent: false,
          rate,
          real,
          realRate,
          workers,
          limit,
          spare,
          strict,
          knownKeys,
          captures,
        });
        reports.push(report);
        row(COLUMNS.map(([, text]) => text(report)));
      }
    }
  }
  if (args.json !== undefined) fs.writeFileSync(args.json, `${JSON.stringify(reports, null, 2)}\n`);
  const isWrong = (r: Report) => r.real_changed > 0 || (r.limit === 'none' && r.late_changed > 0);
  if (reports.some(isWrong)) throw new Error('the flood has changed real verdicts');
}

const program = new Command('bench:flood')
  .argument(
    '[capture...]',
    'real traffic besides the made one; where the table is full, connections that begin in the flood are refused ("late")',
  )
  .addOption(new Option('--flood <KIND...>', 'what strangers send').choices(FLOODS).default([...FLOODS]))
  .addOption(new Option('--limit <WHICH...>', 'what is full').choices(LIMITS))
  .option('--workers <N...>', 'worker threads; 0: inline', ['0', '1'])
  .option('--packets <N>', 'packets of strangers', wholeNumber(0, 1e9), 1_000_000)
  .option('--rate <N>', 'of them a second of capture time', wholeNumber(1, 1e9), 20_000)
  .option('--real <N>', 'real connections', wholeNumber(1, 1_000_000), 2000)
  .option('--real-rate <N>', 'their packets a second', wholeNumber(1, 1e9), 2000)
  .option('--spare <N>', 'room for strangers where there is a limit', wholeNumber(0, 2_900_000), 1000)
  .option('--strict', 'packets whose commit is refused are dropped', false)
  .option('--known-keys', 'the product uses the keys that prepared floods are for', false)
  .option('--json <FILE>', 'the figures as JSON, with samples over time')
  .addOption(new Option('--case <JSON>').hideHelp())
  .action(main);
try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`bench:flood: ${(error as Error).message}\n`);
  process.exit(1);
}
