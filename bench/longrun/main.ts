/** Does a replay that goes on and on stay as it is?
 *
 *      npm run bench:longrun -- --minutes 120 --workers 1 --out DIR CAPTURE...
 *
 *  Captures (those of fixtures/ unless some are named) and made clients whose addresses are translated are held in memory and
 *  replayed as one capture that begins again and again, an hour of capture time later each time: connections are made,
 *  translated and expire, fragments are put together. Every --every seconds a line with memory and counters is written to
 *  DIR/samples.ndjson. Each round must have the verdicts of the one before, after --settling rounds; memory must not
 *  drift; and the books must balance at every sample and in the end: else the exit code is 1. Draws DIR/longrun.svg.
 *
 *  SIGINT and SIGTERM end it as if its time were over. Time in which it is stopped (SIGSTOP) does not count.
 *
 *  `--draw FILE` draws and judges samples that are there already. */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { type Loaded, loadFrames } from '../../src/bench/load.js';
import { type Prepared, prepare } from '../../src/bench/spec.js';
import { wholeNumber } from '../../src/cli/options.js';
import type { Coordinator } from '../../src/coordinator/coordinator.js';
import { COMMITTED, EVICTED, EXPIRED, FLUSHED } from '../../src/coordinator/ledger.js';
import { DEFAULT_WINDOW, replay } from '../../src/coordinator/replay.js';
import { traffic } from '../../src/generate/traffic.js';
import { workloadNamed } from '../../src/generate/workloads.js';
import { Translator } from '../../src/openflow/translate.js';
import { SegmentArena } from '../../src/pcap/arena.js';
import { MergedSource } from '../../src/pcap/merge.js';
import { picture } from './draw.js';
import { extrapolated, judge, MEMORY, rise, type Sample, type Totals } from './judge.js';
import { joined, LoopedReader } from './looped.js';
import { Rounds } from './rounds.js';

const CAPTURES = fileURLToPath(new URL('../../../fixtures/captures/', import.meta.url));
const FLOWS = fileURLToPath(new URL('../../../bench/longrun/flows.txt', import.meta.url));
/** What is inside, in the shipped captures. */
const INSIDE = '10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fe80::/10,fd00::/8,3ffe::/16';
/** Made clients behind the addresses of flows.txt. */
/** ICMP that is translated runs while nothing else is in flight: the shipped captures have enough of it. */
const CLIENTS = {
  packets: 60_000,
  connections: 1000,
  life: 64,
  natTargets: 4,
  protocols: { tcp: 3, udp: 1, icmp: 0, sctp: 0 },
};
const RATE = 100_000;
const SEGMENTS = 48;
const MIB = 2 ** 20;
/** Between two looks. More means that the process was stopped meanwhile. */
const STOPPED_SECONDS = 5;

interface Arguments {
  minutes: number;
  packets: number;
  workers: number;
  flows?: string;
  gap: number;
  every: number;
  drift: number;
  settling: number;
  out: string;
  draw?: string;
}

/** Packets in memory and the switch that they go through. */
interface Loop {
  loaded: Loaded;
  prepared: Prepared;
  gapMs: number;
}

async function loopOf(captures: string[], args: Arguments): Promise<Loop> {
  const prepared = await prepare({
    name: 'longrun',
    made: null,
    replayed: { captures, in: [], inside: INSIDE, ports: [1] },
    flows: args.flows ?? FLOWS,
    workers: args.workers,
  });
  const clients = loadFrames(traffic({ ...workloadNamed('snat').traffic, ...CLIENTS }), RATE);
  return { loaded: joined(prepared.loaded, clients), prepared, gapMs: args.gap * 1000 };
}

/** Goes round `most` times, unless `look`, called now and then, sets `reader.ended`. */
async function goRound(
  { loaded, prepared, gapMs }: Loop,
  most: number,
  workers: number,
  settling: number,
  look: (reader: LoopedReader, rounds: Rounds, packets: number, coordinator: Coordinator) => void,
): Promise<{ totals: Totals; rounds: Rounds; seconds: number }> {
  const arena = new SegmentArena(SEGMENTS);
  const reader = new LoopedReader(loaded, arena, gapMs, most);
  const rounds = new Rounds(loaded.n, settling);
  const { pipeline, ports, ordering } = prepared;
  const result = await replay({
    source: new MergedSource([reader], arena),
    arena,
    portMap: { portOf: (_source, iface) => iface },
    ports,
    translator: new Translator(pipeline),
    workers,
    ordering,
    sinks: [rounds],
    progress: (packets, _bytes, coordinator) => look(reader, rounds, packets, coordinator),
  });
  const { ledger } = result;
  const counters: Record<string, number> = {
    packets: result.packets,
    read: reader.given,
    verdicts: rounds.verdicts,
    bytes: result.bytes,
    passed: result.passed,
    made: ledger.total(COMMITTED),
    removed: ledger.total(EXPIRED) + ledger.total(EVICTED) + ledger.total(FLUSHED),
    refused: ledger.refused,
  };
  for (const [port, tally] of result.outByPort) counters[`out of port ${port}`] = tally.packets;
  for (const [reason, n] of result.drops) counters[reason] = n;
  return {
    totals: { rounds: reader.rounds, live: result.connections, counters },
    rounds,
    seconds: result.seconds,
  };
}

/** Returns what is wrong besides samples. */
async function run(loop: Loop, args: Arguments, onSample: (sample: Sample) => void): Promise<string[]> {
  let seconds = 0;
  let looked = performance.now();
  let due = 0;
  let interrupted = false;
  const interrupt = () => {
    interrupted = true;
  };
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
  const mib = (bytes: number) => Math.round((bytes / MIB) * 10) / 10;
  const most = Math.ceil(args.packets / loop.loaded.n);
  const long = await goRound(
    loop,
    most,
    args.workers,
    args.settling,
    (reader, rounds, packets, coordinator) => {
      const now = performance.now();
      const since = (now - looked) / 1000;
      looked = now;
      if (since < STOPPED_SECONDS) seconds += since;
      reader.ended = interrupted || seconds >= args.minutes * 60;
      if (seconds < due) return;
      due = seconds + args.every;
      const { ledger } = coordinator;
      const { rss, heapUsed, external } = process.memoryUsage();
      const { user, system } = process.cpuUsage();
      onSample({
        seconds: Math.round(seconds * 10) / 10,
        cpu_seconds: Math.round((user + system) / 1e5) / 10,
        capture_seconds: reader.seconds,
        rounds: Math.floor(reader.rounds),
        read: reader.given,
        packets,
        verdicts: rounds.verdicts,
        passed: rounds.passed,
        dropped: rounds.dropped,
        made: ledger.total(COMMITTED),
        expired: ledger.total(EXPIRED),
        evicted: ledger.total(EVICTED),
        refused: ledger.refused,
        live: coordinator.connections,
        rss_mib: mib(rss),
        heap_mib: mib(heapUsed),
        external_mib: mib(external),
        shared_mib: mib(coordinator.sharedBytes()),
      });
    },
  );
  const { totals, rounds } = long;
  process.stdout.write(
    `${totals.counters.packets} packets in ${totals.rounds} rounds of ${loop.loaded.n}, ${seconds.toFixed(0)} s, ` +
      `${(totals.counters.packets / seconds / 1e6).toPrecision(3)} Mpps, ${args.workers} workers\n` +
      `${rounds.compared} verdicts compared with those of the round before, ${rounds.different} differ\n`,
  );
  const wrong: string[] = [];
  if (rounds.first !== null) wrong.push(`${rounds.different} verdicts differ; the first: ${rounds.first}`);
  if (totals.rounds > args.settling) {
    const short = async (n: number): Promise<Totals> => (await goRound(loop, n, 0, n, () => {})).totals;
    const found = extrapolated(totals, await short(args.settling), await short(args.settling + 1));
    process.stdout.write(
      `${Object.keys(totals.counters).length} counters and ${totals.live} live connections at the end: ` +
        `${found.length === 0 ? 'as' : 'not as'} ${args.settling} and ${args.settling + 1} rounds without workers predict\n`,
    );
    wrong.push(...found);
  }
  return wrong;
}

function conclude(samples: Sample[], drift: number, svg: string, more: readonly string[]): void {
  fs.writeFileSync(svg, picture(samples));
  const last = samples[samples.length - 1];
  process.stdout.write(
    `${samples.length} samples: ${last.made} connections made, ${last.expired} expired, ${last.evicted} evicted, ${last.live} live\n` +
      `rise over the second half: ${MEMORY.map((m) => `${m} ${rise(samples, m).toFixed(1)}`).join(', ')}\n${svg}\n`,
  );
  const wrong = [...judge(samples, DEFAULT_WINDOW, drift / 100), ...more];
  for (const line of wrong) process.stderr.write(`bench:longrun: ${line}\n`);
  if (wrong.length > 0) process.exitCode = 1;
}

async function main(captures: string[], args: Arguments): Promise<void> {
  if (args.draw !== undefined) {
    const lines = fs.readFileSync(args.draw, 'utf8').trim().split('\n');
    conclude(
      lines.map((line) => JSON.parse(line) as Sample),
      args.drift,
      args.draw.replace(/\.ndjson$/, '') + '.svg',
      [],
    );
    return;
  }
  const shipped = () =>
    fs
      .readdirSync(CAPTURES)
      .filter((name) => /\.pcap(ng)?$/.test(name) && !/malformed|truncated/.test(name))
      .map((name) => path.join(CAPTURES, name));
  fs.mkdirSync(args.out, { recursive: true });
  const file = fs.openSync(path.join(args.out, 'samples.ndjson'), 'w');
  const samples: Sample[] = [];
  const loop = await loopOf(captures.length > 0 ? captures : shipped(), args);
  const wrong = await run(loop, args, (sample) => {
    samples.push(sample);
    fs.writeSync(file, `${JSON.stringify(sample)}\n`);
  });
  fs.closeSync(file);
  conclude(samples, args.drift, path.join(args.out, 'longrun.svg'), wrong);
}

const program = new Command('bench:longrun')
  .argument('[CAPTURE...]', 'what is replayed (default: the captures of fixtures/)')
  .option('--minutes <N>', 'ends then', wholeNumber(1, 100_000), 120)
  .option('--packets <N>', 'or after so many packets', wholeNumber(1, 1e12), 1e12)
  .option('--workers <N>', 'worker threads; 0: inline', wholeNumber(0, 128), 1)
  .option('--flows <FILE>', 'flow table (default: bench/longrun/flows.txt, which translates)')
  .option('--gap <SECONDS>', 'capture time between two rounds', wholeNumber(1, 1_000_000), 3600)
  .option('--every <SECONDS>', 'between two samples', wholeNumber(1, 3600), 5)
  .option('--drift <PERCENT>', 'by which memory may rise over the second half', wholeNumber(0, 100), 5)
  .option('--settling <ROUNDS>', 'before each round must be like the last', wholeNumber(1, 1e6), 30)
  .option('--out <DIR>', 'where samples and drawing go', 'longrun')
  .option('--draw <FILE>', 'only draw and judge these samples')
  .action(main);
try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`bench:longrun: ${(error as Error).message}\n`);
  process.exit(1);
}
