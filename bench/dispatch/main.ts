/** How many packets a second can the main thread hand over and take back?
 *
 *      npm run bench:dispatch -- --seconds 2 --workers 1 2 4
 *
 *  - `alone`: nobody at the other end, rings emptied while the watch is stopped; processor time of the thread. Number and
 *    clock of the packet into its row, a word into the batch of its home, batches of 128 into the ring, a look whether
 *    the worker sleeps: what Fabric.dispatch does. The hash has been computed and the other columns filled before, as in
 *    bench:replay.
 *  - `row + hash`: off, lengths, port, time of a packet into its row, and its tuple read from the frame, hashed, and its
 *    home found: what a replay does besides, for each packet. Also processor time.
 *  - `with threads`: the first with workers that hand every packet back at once; lines of memory move between the cores,
 *    and those who sleep are woken. By the clock, so that other work on the machine counts. `collect`: completions out
 *    of the rings, in input order, counted. */
import os from 'node:os';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { markdownTable } from 'markdown-table';
import { type Loaded, loadFrames } from '../../src/bench/load.js';
import { MAIN_STAGES, Resident } from '../../src/bench/resident.js';
import { wholeNumber } from '../../src/cli/options.js';
import { orderingOf } from '../../src/openflow/order.js';
import { parseFlows } from '../../src/openflow/parser.js';
import { Pipeline } from '../../src/openflow/tables.js';
import { WordRing } from '../../src/rings/words.js';
import { Steering } from '../../src/rss/steer.js';
import { DEFAULT_RSS_KEY, defaultIndirection, Toeplitz } from '../../src/rss/toeplitz.js';
import { CTL_ASLEEP, CTL_LINE, ctlWords } from '../../src/shm/layouts.js';
import { PacketColumns } from '../../src/shm/packets.js';
import { median } from '../peers/numbers.js';
import { udp } from '../traffic/generate.js';

const IDLE = fileURLToPath(new URL('idle-shard.js', import.meta.url));
const WANTED_MPPS = 30;
/** Packets of a slice. */
const SLICE = 500_000;
const ROUND = 65_536;
const WINDOW = 16_384;
/** As Fabric has it. */
const BATCH = 128;

interface Figures {
  workers: number;
  /** Nanoseconds a packet, medians of slices. */
  alone: number;
  handOver: number;
  rowAndHash: number;
  collect: number;
}

/** Processor time in ms; nothing else runs in this process then. */
function now(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

async function handOver(loaded: Loaded, workers: number, seconds: number) {
  const rules = parseFlows('actions=drop', '<bench>');
  const ports = [1, 2];
  const resident = new Resident(
    {
      loaded,
      pipeline: new Pipeline({ rules, ports }),
      ports,
      ordering: orderingOf(rules.map((r) => r.actions)),
    },
    { workers, worker: { file: IDLE, data: null } },
  );
  resident.start();
  const slices: number[][] = [];
  const end = performance.now() + (seconds + 1) * 1000;
  while (performance.now() < end) {
    const before = resident.stages.slice();
    await resident.run(SLICE);
    slices.push(MAIN_STAGES.map((_, i) => ((resident.stages[i] - before[i]) * 1e6) / SLICE));
  }
  await resident.stop();
  // The first half compiles.
  const measured = slices.slice(slices.length >> 1);
  const of = (stage: (typeof MAIN_STAGES)[number]) => measured.map((m) => m[MAIN_STAGES.indexOf(stage)]);
  const dispatch = of('dispatch');
  const collect = of('collect').map((ns, i) => ns + of('coordinate')[i]);
  return { handOver: median(dispatch), collect: median(collect) };
}

/** Rings that nobody reads until the window is full. */
function alone(loaded: Loaded, workers: number, seconds: number): number {
  const packets = new PacketColumns(WINDOW);
  const steering = new Steering(new Toeplitz(DEFAULT_RSS_KEY), defaultIndirection(workers), 1);
  const view = new DataView(loaded.arena);
  const homes = Uint8Array.from({ length: WINDOW }, (_, i) => {
    steering.locate(view, loaded.off[i], loaded.len[i]);
    return steering.home;
  });
  const links = Array.from({ length: workers }, () => ({
    ring: new WordRing(WordRing.allocate(WINDOW + 1)),
    batch: new Int32Array(BATCH),
    n: 0,
  }));
  const ctl = new Int32Array(new SharedArrayBuffer(ctlWords(workers) * 4));
  const out = new Int32Array(WINDOW);
  let seq = 0;
  const flush = (home: number) => {
    const link = links[home];
    if (!link.ring.push(link.batch, link.n)) throw new Error('ring overflow');
    link.n = 0;
    if (Atomics.load(ctl, (2 * home + 2) * CTL_LINE + CTL_ASLEEP) !== 0) throw new Error('nobody sleeps');
  };
  const window = () => {
    for (let slot = 0; slot < WINDOW; slot++) {
      packets.seq[slot] = seq++;
      packets.clock[slot] += 1;
      const link = links[homes[slot]];
      link.batch[link.n++] = slot;
      if (link.n === BATCH) flush(homes[slot]);
    }
    for (let home = 0; home < workers; home++) flush(home);
  };
  const times: number[] = [];
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) {
    const began = now();
    window();
    times.push(((now() - began) * 1e6) / WINDOW);
    let n = 0;
    for (const { ring } of links) n += ring.pop(out, WINDOW);
    if (n !== WINDOW) throw new Error(`${n} of ${WINDOW} packets were handed over`);
  }
  return median(times.slice(times.length >> 1));
}

/** Rows of packets from frames that lie in memory, in input order; hot as after reading: as many as are in flight. */
function rowAndHash(loaded: Loaded, workers: number, seconds: number): number {
  const packets = new PacketColumns(WINDOW);
  const steering = new Steering(new Toeplitz(DEFAULT_RSS_KEY), defaultIndirection(workers), 1);
  const view = new DataView(loaded.arena);
  const homes = new Uint8Array(WINDOW);
  const round = () => {
    for (let i = 0; i < ROUND; i++) {
      const slot = i % WINDOW;
      const off = loaded.off[i];
      const len = loaded.len[i];
      packets.off[slot] = off;
      packets.capLen[slot] = len;
      packets.wireLen[slot] = len;
      packets.sec[slot] = i;
      packets.nsec[slot] = i;
      packets.inPort[slot] = loaded.port[i];
      steering.locate(view, off, len);
      packets.hash[slot] = steering.hash;
      homes[slot] = steering.home;
    }
  };
  const times: number[] = [];
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) {
    const began = now();
    for (let i = 0; i < 8; i++) round();
    times.push(((now() - began) * 1e6) / (8 * ROUND));
  }
  return median(times.slice(times.length >> 1));
}

async function main(o: { seconds: number; workers: string[] }): Promise<void> {
  const frames = udp({
    packets: ROUND,
    connections: 1000,
    frameBytes: 60,
    seed: 1,
    bothWays: false,
    checksums: false,
  });
  const loaded = loadFrames(frames, 1_000_000);
  const all: Figures[] = [];
  for (const text of o.workers) {
    const workers = Number(text);
    const parts = await handOver(loaded, workers, o.seconds);
    all.push({
      ...{ workers, ...parts },
      ...{ alone: alone(loaded, workers, o.seconds), rowAndHash: rowAndHash(loaded, workers, o.seconds) },
    });
  }
  const mpps = (ns: number) => (1000 / ns).toFixed(1);
  const head = [
    'workers',
    'alone, ns',
    'Mpps',
    'row + hash, ns',
    'both, ns',
    'Mpps',
    'with threads, ns',
    'collect, ns',
  ];
  const lines = [
    head,
    ...all.map((f) => {
      const both = f.alone + f.rowAndHash;
      return [
        `${f.workers}`,
        f.alone.toFixed(1),
        mpps(f.alone),
        f.rowAndHash.toFixed(1),
        both.toFixed(1),
        mpps(both),
        f.handOver.toFixed(1),
        f.collect.toFixed(1),
      ];
    }),
  ];
  process.stdout.write(
    `Node ${process.version}, ${os.cpus().length} cores, load ${os.loadavg()[0].toFixed(1)}; ns a packet, medians\n\n`,
  );
  process.stdout.write(`${markdownTable(lines, { align: lines[0].map(() => 'r') })}\n\n`);
  const least = Math.min(...all.map((f) => 1000 / f.alone));
  process.stdout.write(
    `${least.toPrecision(3)} Mpps handed over at least; wanted: ${WANTED_MPPS}: ${least >= WANTED_MPPS ? 'met' : 'not met'}\n`,
  );
}

const program = new Command('bench:dispatch')
  .option('--seconds <S>', 'measured time of each part', wholeNumber(1, 600), 2)
  .option('--workers <N...>', 'numbers of workers', ['1', '2', '4'])
  .action(main);
try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`bench:dispatch: ${(error as Error).message}\n`);
  process.exit(1);
}
