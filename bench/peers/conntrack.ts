/** What `ovstest test-conntrack benchmark 1 PACKETS BATCH` does, with our tracker: one thread, batches of the same UDP
 *  packet (42 bytes, without a checksum, 10.1.1.1 port 1 to 10.1.1.2 port 2), each tracked with commit in zone 0.
 *
 *  In Open vSwitch a batch goes through conntrack_execute(): read and check the headers, hash, find the connection,
 *  step its state, count, write ct_state into the packet. Here it goes through what a worker does with a vector: read
 *  and check the headers, hash, find the microflow entry and the connection, step its state, count, tell the verdict.
 *  The first packet opens the connection, by way of the engine; packets lie in memory on both sides.
 *
 *      node dist/bench/peers/conntrack.js --packets 100000000 --batch 32 */
import { Command } from 'commander';
import { wholeNumber } from '../../src/cli/options.js';
import { Collector } from '../../src/coordinator/collector.js';
import { Fabric } from '../../src/coordinator/fabric.js';
import { STEP_NEW } from '../../src/datapath/context.js';
import { FrameStore } from '../../src/datapath/frames.js';
import { MicroflowCache } from '../../src/datapath/microflow.js';
import { STAT_WORDS } from '../../src/datapath/stats.js';
import { parseFlows } from '../../src/openflow/parser.js';
import { Pipeline } from '../../src/openflow/tables.js';
import { Translator } from '../../src/openflow/translate.js';
import { CONN } from '../../src/shm/layouts.js';

/** build_packet() of tests/test-conntrack.c: Ethernet, IPv4, UDP, no data. */
const FRAME = Uint8Array.from([
  ...[0x50, 0x54, 0, 0, 0, 0x0a, 0x50, 0x54, 0, 0, 0, 0x09, 0x08, 0x00],
  ...[0x45, 0, 0, 28, 0, 0, 0, 0, 0, 17, 0xa4, 0xcd, 10, 1, 1, 1, 10, 1, 1, 2],
  ...[0, 1, 0, 2, 0, 8, 0, 0],
]);
/** Buffers of packets, apart as in a batch of Open vSwitch's. */
const STRIDE = 64;
/** Batches before the clock starts. */
const WARMUP = 200_000;

class Tracked {
  private readonly fabric: Fabric;
  private readonly cache: MicroflowCache;
  private readonly slots: Int32Array;
  private readonly completed: Int32Array;
  private readonly verdict = 1;
  /** By verdict. */
  private readonly hits = new Int32Array(2);

  constructor(batch: number) {
    const arena = new SharedArrayBuffer(batch * STRIDE + 64);
    const u8 = new Uint8Array(arena);
    const rules = parseFlows('ip,actions=ct(commit)', 'benchmark');
    const pipeline = new Pipeline({ rules, ports: [1] });
    this.fabric = new Fabric({
      workers: 0,
      slots: batch,
      arena,
      ports: [1],
      maxConns: 1000,
      translator: new Translator(pipeline),
    });
    const { fabric } = this;
    const { packets } = fabric;
    this.slots = Int32Array.from({ length: batch }, (_, i) => i);
    this.completed = new Int32Array(batch);
    for (const i of this.slots) {
      u8.set(FRAME, i * STRIDE);
      packets.off[i] = i * STRIDE;
      packets.capLen[i] = packets.wireLen[i] = FRAME.length;
      packets.inPort[i] = 1;
    }
    const collector = new Collector(packets, arena, 0, () => {}, [], pipeline.stats, fabric.reassembly);
    fabric.start(collector);
    collector.dispatched++;
    fabric.dispatch(0, 0);
    collector.drain();
    if (fabric.coordinator.connections !== 1) throw new Error('the first packet has opened no connection');
    const partition = fabric.coordinator.partitions[0];
    const stats = new Float64Array(STAT_WORDS);
    this.cache = new MicroflowCache(partition, packets, new FrameStore(() => {}), arena, batch, stats);
    this.cache.stage(this.slots, 1);
    this.cache.insert(
      0,
      {
        foldable: true,
        nConns: 1,
        conns: Int32Array.of(0),
        steps: STEP_NEW,
        nSteps: 1,
        nFrames: 0,
        edits: new Int32Array(0),
        nEdits: 0,
        nInvalid: 0,
        invalid: 0,
      },
      this.verdict,
    );
  }

  /** Tracks `n` batches; how many packets were not. */
  run(n: number): number {
    const { cache, slots, verdict, hits, completed } = this;
    const { length } = slots;
    let wrong = 0;
    for (let i = 0; i < n; i++) {
      cache.stage(slots, length);
      // What it leaves is rare, and wrong here: all packets are of the one connection.
      wrong += length - cache.runPlain(0, length, hits, completed, 0);
    }
    wrong += (n * length - hits[verdict]) | 0;
    hits.fill(0);
    return wrong;
  }

  /** Packets that the connection has counted. */
  get counted(): number {
    return this.fabric.coordinator.partitions[0].hot[CONN.at.PKTS_0] >>> 0;
  }
}

function main(o: { packets: number; batch: number; json: boolean }): void {
  const tracked = new Tracked(o.batch);
  let wrong = tracked.run(WARMUP);
  const before = tracked.counted;
  const batches = Math.ceil(o.packets / o.batch);
  const began = performance.now();
  wrong += tracked.run(batches);
  const ms = performance.now() - began;
  const n = batches * o.batch;
  if (wrong > 0 || tracked.counted - before !== n % 2 ** 32) {
    throw new Error(
      `${wrong} packets were not tracked; the connection counts ${tracked.counted - before} of ${n}`,
    );
  }
  const mpps = n / ms / 1000;
  process.stdout.write(
    o.json ? `${JSON.stringify({ mpps, node: process.version })}\n` : `${mpps.toPrecision(4)} Mpps\n`,
  );
}

const program = new Command('bench:conntrack')
  .option('--packets <N>', 'packets to track', wholeNumber(1, 4e9), 100_000_000)
  .option('--batch <N>', 'packets at a time', wholeNumber(1, 4096), 32)
  .option('--json', 'as JSON', false)
  .action(main);
try {
  program.parse();
} catch (error) {
  process.stderr.write(`bench:conntrack: ${(error as Error).message}\n`);
  process.exit(1);
}
