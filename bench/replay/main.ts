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
import { aloneIn } from '../../src/bench/resident.js';
import { collectIn, type PortFile, parseInside, parsePortList, wholeNumber } from '../../src/cli/options.js';
import { loadPipeline, portMap } from '../../src/cli/replay.js';
import { Collector } from '../../src/coordinator/collector.js';
import { Fabric } from '../../src/coordinator/fabric.js';
import { COMMITTED } from '../../src/coordinator/ledger.js';
import { DEFAULT_WINDOW } from '../../src/coordinator/replay.js';
import { STAT } from '../../src/datapath/stats.js';
import type { Ordering } from '../../src/openflow/order.js';
import { Translator } from '../../src/openflow/translate.js';
import { minSegments, SegmentArena } from '../../src/pcap/arena.js';
import { MergedSource, newMergedRecord } from '../../src/pcap/merge.js';
import { openCapture } from '../../src/pcap/open.js';
import { ReadResult } from '../../src/pcap/types.js';
import { Steering } from '../../src/rss/steer.js';
import { DEFAULT_RSS_KEY, defaultIndirection, Toeplitz } from '../../src/rss/toeplitz.js';
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

/** Packets handed over between two looks at the rings. */
const BURST = 1024;
/** Records that the sweeper looks at per turn. */
const SWEEP_SLICE = 4096;
/** Offsets are int32. */
const MOST_BYTES = 0x7fffff00;
/** Warming up for so many rounds takes so long at most. */
const WARMUP_MS = 120_000;
/** Packets in flight at most, as in a replay. */
const IN_FLIGHT = DEFAULT_WINDOW;

interface Loaded {
  arena: SharedArrayBuffer;
  off: Int32Array;
  len: Int32Array;
  port: Int32Array;
  sec: Int32Array;
  nsec: Int32Array;
  n: number;
}

/** Growing columns of numbers: a capture may hold millions of packets. */
class Rows {
  readonly columns: Float64Array[];
  n = 0;

  constructor(columns: number) {
    this.columns = Array.from({ length: columns }, () => new Float64Array(1 << 16));
  }

  add(...values: number[]): void {
    const { columns, n } = this;
    if (n === columns[0].length) {
      columns.forEach((column, k) => {
        columns[k] = new Float64Array(n * 2);
        columns[k].set(column);
      });
    }
    for (let k = 0; k < values.length; k++) columns[k][n] = values[k];
    this.n++;
  }

  int32(k: number): Int32Array {
    return Int32Array.from(this.columns[k].subarray(0, this.n));
  }
}

/** Reads captures into one arena, frames on 16-byte boundaries. */
async function load(captures: string[], args: Arguments): Promise<Loaded> {
  const paths = [...captures, ...args.in.map((i) => i.path)];
  const window = new SegmentArena(minSegments(paths.length) + 4);
  const source = new MergedSource(await Promise.all(paths.map((path) => openCapture(path, window))), window);
  const record = newMergedRecord();
  const rows = new Rows(5);
  const view = new DataView(window.sab);
  const { portOf } = portMap({ ...args, captures });
  let frames = new Uint8Array(1 << 24);
  let bytes = 0;
  for (;;) {
    const result = source.next(record);
    if (result === ReadResult.END) break;
    if (result === ReadResult.STARVED) await source.readable();
    if (result !== ReadResult.PACKET) continue;
    const { off, capLen } = record;
    const port = portOf(record.source, record.iface, view, off, capLen);
    rows.add(bytes, capLen, port, record.sec, record.nsec);
    if (bytes + capLen > frames.length) {
      const more = new Uint8Array(Math.max(frames.length * 2, bytes + capLen));
      more.set(frames);
      frames = more;
    }
    frames.set(window.u8.subarray(off, off + capLen), bytes);
    bytes += (capLen + 15) & ~15;
    window.release(record.segment);
  }
  source.close();
  if (bytes > MOST_BYTES)
    throw new Error(`the packets have ${bytes} bytes; up to ${MOST_BYTES} fit in memory`);
  const arena = new SharedArrayBuffer(bytes + 64);
  new Uint8Array(arena).set(frames.subarray(0, bytes));
  return {
    arena,
    off: rows.int32(0),
    len: rows.int32(1),
    port: rows.int32(2),
    sec: rows.int32(3),
    nsec: rows.int32(4),
    n: rows.n,
  };
}

async function main(captures: string[], args: Arguments): Promise<void> {
  const loaded = await load(captures, args);
  const { n } = loaded;
  if (n === 0) throw new Error('the captures hold no packets');
  // Port 2 is what the reference flow tables send to.
  const { pipeline, ports, ordering } = loadPipeline({
    ...args,
    ports: [...args.ports, 2],
    captures,
    out: [],
  });
  const inline = args.workers === 0;
  const steered = ordering.mode === 'steered' && !inline;
  const shared = steered || ordering.mode === 'parallel';
  const workers = shared ? args.workers : 0;
  const fabric = new Fabric({
    workers,
    vectors: !inline,
    steered,
    mayAnswer: (slot) => answers[slot] !== 0,
    slots: n,
    arena: loaded.arena,
    ports,
    translator: new Translator(pipeline),
    ...(args.vector === undefined ? {} : { vector: args.vector }),
  });
  const collector = new Collector(
    fabric.packets,
    loaded.arena,
    workers,
    (done) => fabric.homes?.collected(done),
    [],
    pipeline.stats,
    fabric.reassembly,
  );
  const { packets } = fabric;
  const { homes, answers } = prepare(fabric, loaded, workers, ordering, shared);
  // In steered mode what is in HASH changes.
  const hashes = packets.hash.slice();
  fabric.start(collector);

  const most = Math.min(n, IN_FLIGHT);
  let slot = 0;
  let seq = 0;
  // A slot's clock counts on from round to round.
  const span = packets.clock[n - 1] + 1;
  packets.clock.forEach((clock, i) => {
    packets.clock[i] = clock - span;
  });
  const stamp = () => {
    packets.seq[slot] = seq++;
    packets.clock[slot] += span;
    if (collector.inFlight === 0) collector.clock = packets.clock[slot];
  };
  const alone = fabric.homes === null ? null : aloneIn(loaded, ordering);
  /** Whether the next packet, or the one before it, is to be alone in flight, and others are. */
  const mustWait = (flags: Uint8Array) =>
    (flags[slot] | flags[slot === 0 ? n - 1 : slot - 1]) !== 0 && collector.inFlight > 0;
  const turn = () => {
    fabric.sweep(SWEEP_SLICE);
    if (inline) {
      for (let i = 0; i < BURST; i++) {
        stamp();
        collector.dispatched++;
        fabric.dispatch(slot, 0);
        collector.drain();
        if (++slot === n) slot = 0;
      }
      return;
    }
    let room = Math.min(BURST, most - collector.inFlight);
    let busy = false;
    while (room-- > 0) {
      if (alone !== null && mustWait(alone)) break;
      busy = true;
      stamp();
      collector.dispatched++;
      packets.hash[slot] = hashes[slot];
      fabric.dispatch(slot, homes[slot]);
      if (++slot === n) slot = 0;
    }
    fabric.flush();
    const polled = fabric.poll();
    const drained = collector.drain();
    if (!busy && !polled && !drained) fabric.sleep(1);
  };
  const runFor = async (seconds: number) => {
    const end = performance.now() + seconds * 1000;
    let breath = performance.now();
    for (let now = breath; now < end; now = performance.now()) {
      for (let i = 0; i < 16; i++) turn();
      if (now - breath > 50) {
        await new Promise(setImmediate);
        if (fabric.failure !== null) throw fabric.failure;
        breath = now;
      }
    }
  };

  await runFor(args.warmup);
  const patience = performance.now() + WARMUP_MS;
  while (collector.head < args.warmRounds * n) {
    if (performance.now() > patience) throw new Error('warming up takes longer than two minutes');
    await runFor(0.1);
  }
  // Best and median of slices: a shared machine takes time away now and then.
  const slices: number[] = [];
  const before = { head: collector.head, stats: fabric.counters().total.slice() };
  collector.settle();
  const bytesBefore = collector.bytes;
  const cpuBefore = process.cpuUsage();
  const began = performance.now();
  while (performance.now() - began < args.seconds * 1000) {
    const head = collector.head;
    const at = performance.now();
    await runFor(Math.min(0.25, args.seconds));
    slices.push((collector.head - head) / (performance.now() - at) / 1000);
  }
  const seconds = (performance.now() - began) / 1000;
  const cpu = process.cpuUsage(cpuBefore);
  collector.settle();
  const done = collector.head - before.head;
  const { total } = fabric.counters();
  const { coordinator } = fabric;
  const { connections } = coordinator;
  slices.sort((a, b) => a - b);
  const report = {
    mpps: done / seconds / 1e6,
    mpps_best: slices[slices.length - 1],
    mpps_median: slices[slices.length >> 1],
    gbps: ((collector.bytes - bytesBefore) * 8) / seconds / 1e9,
    packets: done,
    seconds,
    capture_packets: n,
    workers,
    connections,
    moved: fabric.homes?.nMoved ?? 0,
    upcalls: coordinator.upcalls,
    commits: coordinator.ledger.total(COMMITTED),
    microflow_hits: total[STAT.MICROFLOW_HITS] - before.stats[STAT.MICROFLOW_HITS],
    megaflow_hits: total[STAT.MEGAFLOW_HITS] - before.stats[STAT.MEGAFLOW_HITS],
    shared_bytes_per_connection: connections === 0 ? null : coordinator.sharedBytes() / connections,
    cpu_ns_per_packet: ((cpu.user + cpu.system) * 1000) / done,
    node: process.version,
    cpu: os.cpus()[0]?.model ?? 'unknown',
  };
  // Let the window run empty before the threads stop.
  while (workers > 0 && collector.inFlight > 0) {
    if (!fabric.poll()) fabric.sleep(1);
    collector.drain();
  }
  await fabric.stop();
  if (args.json !== undefined) fs.writeFileSync(args.json, `${JSON.stringify(report, null, 2)}\n`);
  for (const [name, value] of Object.entries(report)) {
    process.stdout.write(
      `${name.padEnd(28)} ${typeof value === 'number' ? Number(value.toPrecision(6)) : value}\n`,
    );
  }
  process.stdout.write(`${report.mpps.toPrecision(4)} Mpps\n`);
}

/** Fills the descriptor rows; returns each packet's home, and whether it may be an answer. */
function prepare(
  fabric: Fabric,
  loaded: Loaded,
  workers: number,
  ordering: Ordering,
  shared: boolean,
): { homes: Uint8Array; answers: Uint8Array } {
  const { packets } = fabric;
  const steering = new Steering(
    new Toeplitz(DEFAULT_RSS_KEY),
    defaultIndirection(Math.max(1, workers)),
    fabric.seed,
  );
  const view = new DataView(loaded.arena);
  const homes = new Uint8Array(loaded.n);
  const answers = new Uint8Array(loaded.n);
  steering.targets = ordering.targets;
  let clock = 0;
  for (let i = 0; i < loaded.n; i++) {
    const ms = (loaded.sec[i] - loaded.sec[0]) * 1000 + Math.floor((loaded.nsec[i] - loaded.nsec[0]) / 1e6);
    clock = Math.max(clock, ms);
    packets.clock[i] = clock;
    packets.off[i] = loaded.off[i];
    packets.capLen[i] = packets.wireLen[i] = loaded.len[i];
    packets.inPort[i] = loaded.port[i];
    packets.sec[i] = loaded.sec[i];
    packets.nsec[i] = loaded.nsec[i];
    steering.locate(view, loaded.off[i], loaded.len[i]);
    packets.hash[i] = shared ? steering.hash : 0;
    homes[i] = steering.home;
    answers[i] = steering.mayAnswer(view) ? 1 : 0;
  }
  return { homes, answers };
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
