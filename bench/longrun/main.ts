/** Does a replay that goes on and on stay as it is?
 *
 *      npm run bench:longrun -- --minutes 120 --workers 1 --out DIR CAPTURE...
 *
 *  Captures (those of fixtures/ unless some are named) are held in memory and replayed as one that begins again and again, an
 *  hour of capture time later each time: connections are made and expire. Every --every seconds a line
 *  with memory and counters is written to DIR/samples.ndjson. In the end memory must not have drifted, and the books must have
 *  balanced at every sample: else the exit code is 1. Draws DIR/longrun.svg.
 *
 *  `--draw FILE` draws and judges samples that are there already. */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { prepare } from '../../src/bench/spec.js';
import { wholeNumber } from '../../src/cli/options.js';
import type { Coordinator } from '../../src/coordinator/coordinator.js';
import { COMMITTED, EVICTED, EXPIRED } from '../../src/coordinator/ledger.js';
import { DEFAULT_WINDOW, replay } from '../../src/coordinator/replay.js';
import { Translator } from '../../src/openflow/translate.js';
import { SegmentArena } from '../../src/pcap/arena.js';
import { MergedSource } from '../../src/pcap/merge.js';
import { picture } from './draw.js';
import { judge, MEMORY, rise, type Sample } from './judge.js';
import { LoopedReader } from './looped.js';

const CAPTURES = fileURLToPath(new URL('../../../fixtures/captures/', import.meta.url));
const SEGMENTS = 48;
const MIB = 2 ** 20;

interface Arguments {
  minutes: number;
  packets: number;
  workers: number;
  flows?: string;
  gap: number;
  every: number;
  drift: number;
  out: string;
  draw?: string;
}

async function run(captures: string[], args: Arguments, onSample: (sample: Sample) => void): Promise<void> {
  const { loaded, pipeline, ports, ordering } = await prepare({
    name: 'longrun',
    made: null,
    replayed: { captures, in: [], ports: [1] },
    ...(args.flows === undefined ? {} : { flows: args.flows }),
    workers: args.workers,
  });
  const arena = new SegmentArena(SEGMENTS);
  const reader = new LoopedReader(loaded, arena, args.gap * 1000);
  const began = performance.now();
  let verdicts = 0;
  let due = 0;
  const mib = (bytes: number) => Math.round((bytes / MIB) * 10) / 10;
  const look = (packets: number, coordinator: Coordinator) => {
    const seconds = (performance.now() - began) / 1000;
    if (seconds >= args.minutes * 60 || reader.given >= args.packets) reader.ended = true;
    if (seconds < due) return;
    due += args.every;
    const { ledger } = coordinator;
    const { rss, heapUsed, external } = process.memoryUsage();
    onSample({
      seconds: Math.round(seconds * 10) / 10,
      capture_seconds: reader.seconds,
      rounds: Math.floor(reader.rounds),
      read: reader.given,
      packets,
      verdicts,
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
  };
  const result = await replay({
    source: new MergedSource([reader], arena),
    arena,
    portMap: { portOf: (_source, iface) => iface },
    ports,
    translator: new Translator(pipeline),
    workers: args.workers,
    ordering,
    sinks: [{ verdict: () => verdicts++ }],
    progress: (packets, _bytes, coordinator) => look(packets, coordinator),
  });
  if (result.packets !== reader.given || verdicts !== reader.given) {
    throw new Error(`${reader.given} packets read, ${result.packets} collected, ${verdicts} verdicts`);
  }
  process.stdout.write(
    `${result.packets} packets in ${reader.rounds.toFixed(0)} rounds of ${loaded.n}, ` +
      `${(result.packets / result.seconds / 1e6).toPrecision(3)} Mpps, ${args.workers} workers\n`,
  );
}

function conclude(samples: Sample[], drift: number, svg: string): void {
  fs.writeFileSync(svg, picture(samples));
  const last = samples[samples.length - 1];
  process.stdout.write(
    `${samples.length} samples: ${last.made} connections made, ${last.expired} expired, ${last.evicted} evicted, ${last.live} live\n` +
      `rise over the second half: ${MEMORY.map((m) => `${m} ${rise(samples, m).toFixed(1)}`).join(', ')}\n${svg}\n`,
  );
  const wrong = judge(samples, DEFAULT_WINDOW, drift / 100);
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
  await run(captures.length > 0 ? captures : shipped(), args, (sample) => {
    samples.push(sample);
    fs.writeSync(file, `${JSON.stringify(sample)}\n`);
  });
  fs.closeSync(file);
  conclude(samples, args.drift, path.join(args.out, 'longrun.svg'));
}

const program = new Command('bench:longrun')
  .argument('[CAPTURE...]', 'what is replayed (default: the captures of fixtures/)')
  .option('--minutes <N>', 'ends then', wholeNumber(1, 100_000), 120)
  .option('--packets <N>', 'or after so many packets', wholeNumber(1, 1e12), 1e12)
  .option('--workers <N>', 'worker threads; 0: inline', wholeNumber(0, 128), 1)
  .option('--flows <FILE>', 'flow table (default: everything is tracked, in zone 0)')
  .option('--gap <SECONDS>', 'capture time between two rounds', wholeNumber(1, 1_000_000), 3600)
  .option('--every <SECONDS>', 'between two samples', wholeNumber(1, 3600), 5)
  .option('--drift <PERCENT>', 'by which memory may rise over the second half', wholeNumber(0, 100), 5)
  .option('--out <DIR>', 'where samples and drawing go', 'longrun')
  .option('--draw <FILE>', 'only draw and judge these samples')
  .action(main);
try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`bench:longrun: ${(error as Error).message}\n`);
  process.exit(1);
}
