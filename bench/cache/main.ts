/** How many cache misses does a packet cost, and how much do they cost?
 *
 *  On paper a packet of an established UDP connection touches three lines at random places: a bucket of the index, the
 *  entry, the connection; 144 bytes a connection. Everything else comes in order. So for N connections a packet should
 *  cost what it costs for few of them, and three times what a line at random of that much memory costs, when 256 such
 *  loads overlap as those of a vector do.
 *
 *      npm run bench:cache -- --seconds 1
 *
 *  Measured: a vector of 256 through the microflow cache (parse, find, touch, step), in one thread; and loads of lines at
 *  random from as much memory as the connections take: 256 that overlap, and one after the other. Processor time. */
import os from 'node:os';
import { Command } from 'commander';
import { markdownTable } from 'markdown-table';
import { wholeNumber } from '../../src/cli/options.js';
import { STEP_NEW } from '../../src/datapath/context.js';
import { FrameStore } from '../../src/datapath/frames.js';
import { MicroflowCache } from '../../src/datapath/microflow.js';
import { STAT_WORDS } from '../../src/datapath/stats.js';
import { FrameBuilder } from '../../src/generate/frames.js';
import { Random } from '../../src/generate/random.js';
import { allocatePrivate } from '../../src/shm/aligned.js';
import { PacketColumns } from '../../src/shm/packets.js';
import { filledPartition, tuples } from '../micro/tuples.js';
import { median } from '../peers/numbers.js';

const VECTOR = 256;
const FRAME = 60;
const STRIDE = 64;
const LINE_WORDS = 16;
/** Of a connection: two ways of the index, entry, hot half of the record. */
const BYTES = 16 + 64 + 64;
const LINES = 3;
const VERDICT = 1;
/** Different packets, so that neither frames nor rows stay in a cache of the first level; in order, as they come. */
const MOST = 1_000_000;

/** Nanoseconds an operation: median of slices. `run` does `n` operations. */
function time(seconds: number, n: number, run: () => number): number {
  const slices: number[] = [];
  const end = performance.now() + seconds * 2000;
  while (performance.now() < end) {
    const before = process.cpuUsage();
    kept[0] ^= run();
    const { user, system } = process.cpuUsage(before);
    slices.push(((user + system) * 1000) / n);
  }
  return median(slices.slice(slices.length >> 1));
}
/** Keeps the loads alive. */
const kept = new Int32Array(1);

/** One after the other in random order: vectors of packets, each connection once. */
function packets(connections: number, seconds: number): number {
  const t = tuples(connections);
  const partition = filledPartition(t);
  const arena = new SharedArrayBuffer(connections * STRIDE + 64);
  const u8 = new Uint8Array(arena);
  const columns = new PacketColumns(connections);
  const builder = new FrameBuilder();
  const order = new Random(9).permutation(connections);
  for (let i = 0; i < connections; i++) {
    const c = order[i];
    const [sport, dport] = [t.ports[c] >>> 16, t.ports[c] & 0xffff];
    builder.udp({ src: t.src[c], dst: t.dst[c], sport, dport, reply: false }, FRAME, false);
    u8.set(builder.bytes.subarray(0, FRAME), i * STRIDE);
    columns.off[i] = i * STRIDE;
    columns.capLen[i] = columns.wireLen[i] = FRAME;
    columns.inPort[i] = 1;
  }
  const stats = new Float64Array(STAT_WORDS);
  const cache = new MicroflowCache(partition, columns, new FrameStore(() => {}), arena, VECTOR, stats);
  const slots = new Int32Array(VECTOR);
  // In the order of the connections' slots, as if they had been opened one after the other.
  const place = new Int32Array(connections);
  for (let i = 0; i < connections; i++) place[order[i]] = i;
  for (let c = 0; c < connections; c++) {
    slots[0] = place[c];
    cache.stage(slots, 1);
    const conns = Int32Array.of(c << 1);
    const edits = new Int32Array(0);
    cache.insert(
      0,
      {
        ...{ foldable: true, nConns: 1, conns, steps: STEP_NEW, nSteps: 1 },
        ...{ nFrames: 0, edits, nEdits: 0, nInvalid: 0, invalid: 0 },
      },
      VERDICT,
    );
  }
  const vectors = Math.max(1, Math.floor(65_536 / VECTOR));
  let at = 0;
  return time(seconds, vectors * VECTOR, () => {
    let wrong = 0;
    for (let v = 0; v < vectors; v++) {
      for (let i = 0; i < VECTOR; i++) {
        slots[i] = at;
        if (++at === connections) at = 0;
      }
      cache.stage(slots, VECTOR);
      for (let i = 0; i < VECTOR; i++) if (cache.run(i, slots[i]) !== VERDICT) wrong++;
    }
    if (wrong > 0) throw new Error(`${wrong} packets missed the cache`);
    return at;
  });
}

/** A line at random out of so many: loads that overlap, and loads each of which waits for the one before. */
function lines(n: number, seconds: number): { overlapped: number; dependent: number } {
  const words = new Int32Array(allocatePrivate(n * LINE_WORDS * 4), 0, n * LINE_WORDS);
  const order = new Random(11).permutation(n);
  for (let i = 0; i < n; i++) words[order[i] * LINE_WORDS] = order[(i + 1) % n];
  const loads = 1 << 18;
  let at = 0;
  const overlapped = time(seconds, loads, () => {
    let sum = 0;
    for (let i = 0; i < loads; i++) {
      sum ^= words[order[at] * LINE_WORDS];
      if (++at === n) at = 0;
    }
    return sum;
  });
  let line = 0;
  const dependent = time(seconds, loads, () => {
    for (let i = 0; i < loads; i++) line = words[line * LINE_WORDS];
    return line;
  });
  return { overlapped, dependent };
}

function main(o: { seconds: number; connections: string[] }): void {
  const head = [
    'connections',
    'MB',
    'packet, ns',
    'line, overlapped, ns',
    'line, dependent, ns',
    'foretold, ns',
    'lines a packet',
  ];
  const rows: string[][] = [];
  let first: { packet: number; line: number } | null = null;
  for (const text of o.connections) {
    const n = Math.min(MOST, Number(text));
    const packet = packets(n, o.seconds);
    const { overlapped, dependent } = lines(Math.max(VECTOR, Math.ceil((n * BYTES) / 64)), o.seconds);
    first ??= { packet, line: overlapped };
    const more = overlapped - first.line;
    rows.push([
      n.toLocaleString('en'),
      ((n * BYTES) / 1e6).toFixed(1),
      packet.toFixed(1),
      overlapped.toFixed(1),
      dependent.toFixed(1),
      (first.packet + LINES * more).toFixed(1),
      more > 0.5 ? ((packet - first.packet) / more).toFixed(1) : '–',
    ]);
  }
  process.stdout.write(
    `Node ${process.version}, ${os.cpus()[0]?.model}, load ${os.loadavg()[0].toFixed(1)}; foretold: that of ${o.connections[0]} connections and ${LINES} lines that are dearer by so much\n\n`,
  );
  process.stdout.write(`${markdownTable([head, ...rows], { align: head.map(() => 'r') })}\n`);
}

const program = new Command('bench:cache')
  .option('--seconds <S>', 'measured time of each part', wholeNumber(1, 600), 1)
  .option('--connections <N...>', 'connections', [
    '256',
    '1000',
    '4000',
    '16000',
    '65000',
    '250000',
    '1000000',
  ])
  .action(main);
try {
  program.parse();
} catch (error) {
  process.stderr.write(`bench:cache: ${(error as Error).message}\n`);
  process.exit(1);
}
