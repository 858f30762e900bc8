/** Packets through the datapath, a vector at a time: by the microflow cache where it can, else by the engine.
 *
 *  What a worker's loop (shard.ts) and the lane of the main thread (coordinator/lane.ts) have in common. They
 *  differ in where packets come from, in how the coordinator is asked, and in where verdicts go.
 *
 *  Writer of the packets' VERDICT and FRAME_* columns and of its counters: the thread that it runs on. */
import { FLOW, OFPP_NORMAL } from '../classifier/flow-key.js';
import { type Megaflow, MegaflowCache } from '../classifier/megaflow.js';
import { Partition, type PartitionMemory } from '../conntrack/partition.js';
import type { PacketColumns } from '../shm/packets.js';
import { ETH_TYPE_IPV6, isPartialVlan } from '../wire/extract.js';
import type { PacketContext } from './context.js';
import type { CommitRequest, ControlPlane } from './control.js';
import { Engine } from './engine.js';
import { Express } from './express.js';
import { FrameStore } from './frames.js';
import { coveredBy, MicroflowCache } from './microflow.js';
import { Openings } from './openings.js';
import { DROP_NO_OUTPUT, OP_END } from './program.js';
import { Recorder } from './recorder.js';
import { STAT } from './stats.js';
import { VerdictTable } from './verdicts.js';

const { IN_PORT, VLAN_0 } = FLOW;
/** With twice so many elements of `PacketContext.outs`, all ports still fit in (MAX_OUTPUTS). */
const MOST_OUTS = 256;

export interface VectorOptions {
  arena: SharedArrayBuffer;
  partition: PartitionMemory;
  /** Counters (STAT). */
  stats: SharedArrayBuffer;
  /** The recorder's counters; null: no records are kept. */
  tallies: SharedArrayBuffer | null;
  /** Packets in a vector at most. */
  vector: number;
  /** Packets whose commit is refused are dropped. */
  strict: boolean;
  /** ct() takes checksums for right. */
  ignoreChecksums: boolean;
  /** VLAN tags that are looked behind. */
  vlanLimit: number;
  /** The table does nothing but track everything in zone 0: TRACK_ALL. With records. */
  tracksAll: boolean;
  /** Megaflows count the packets of microflow entries too: they are asked for at the end. */
  dpflows: boolean;
}

export abstract class VectorLoop implements ControlPlane {
  protected readonly packets: PacketColumns;
  protected readonly stats: Float64Array;
  protected readonly engine: Engine;
  protected readonly microflows: MicroflowCache;
  private readonly openings: Openings;
  /** With `tracksAll`. */
  private readonly express: Express | null = null;
  private readonly verdicts = new VerdictTable();
  /** Microflow hits by verdict template, not yet in the counters. */
  private hits = new Int32Array(64);
  /** Keeps records of connections, if they are asked for. */
  private readonly recorder: Recorder | null = null;
  private readonly dpflows: boolean;
  /** With `dpflows`, the megaflows behind microflow entries, by their tags. */
  private behind: Megaflow[][] = [];
  /** Packets that have their verdict and have not been handed on: the first `nCompleted` elements. */
  protected readonly completed: Int32Array;
  protected nCompleted = 0;
  protected ctx: PacketContext;

  /** `most` packets are held back before they are handed on; `chunk` is told of new chunks of changed frames. */
  constructor(
    o: VectorOptions,
    packets: PacketColumns,
    most: number,
    chunk: (id: number, sab: SharedArrayBuffer) => void,
  ) {
    this.packets = packets;
    this.stats = new Float64Array(o.stats);
    this.dpflows = o.dpflows;
    const frames = new FrameStore(chunk);
    const partition = new Partition(o.partition);
    this.microflows = new MicroflowCache(partition, packets, frames, o.arena, o.vector, this.stats);
    this.microflows.ignoreChecksums = o.ignoreChecksums;
    this.microflows.vlanLimit = o.vlanLimit;
    this.engine = new Engine(
      partition,
      new MegaflowCache(coveredBy),
      this,
      frames,
      o.arena,
      packets,
      this.stats,
    );
    const { tracker } = this.engine;
    tracker.strict = o.strict;
    tracker.ignoreChecksums = o.ignoreChecksums;
    if (o.tallies !== null) {
      this.recorder = new Recorder(partition, packets, o.arena, tracker, o.tallies);
      this.microflows.recorder = this.recorder;
    }
    if (o.tracksAll && this.recorder !== null) {
      const { staging } = this.microflows;
      this.express = new Express(partition, packets, staging, this, this.recorder, tracker, o.vector);
    }
    this.openings = new Openings(partition, packets, this.microflows.staging, this, o.vector);
    this.completed = new Int32Array(most);
    this.engine.vlanLimit = o.vlanLimit;
    this.ctx = this.engine.newContext();
  }

  /** dpctl/ct-{en,dis}able-tcp-seq-chk. */
  set checkSequence(on: boolean) {
    this.engine.tracker.checkSequence = on;
    this.microflows.checkSequence = on;
  }

  /** The recorder counts no packet. */
  protected set uncounted(on: boolean) {
    if (this.recorder !== null) this.recorder.uncounted = on;
  }

  /** Drops what was cached of older tables, whatever is under way. */
  forget(): void {
    this.microflows.clear();
    this.openings.clear();
    this.engine.megaflows.clear();
    this.behind = [];
  }

  /** Whether the packet must wait for others; then it has been put aside. Asked of each before it runs, … */
  protected abstract queues(slot: number): boolean;
  /** … unless it is known that none does until one has been through the engine. */
  protected abstract mayQueue(): boolean;
  /** Whether a packet that has its verdict is done. */
  protected abstract isDone(ctx: PacketContext): boolean;
  /** The packet of `ctx`, which is `this.ctx`, waits for the coordinator. */
  protected abstract park(ctx: PacketContext): void;
  /** A new verdict template; completions that name it follow. */
  protected abstract announce(id: number, template: Int32Array): void;
  /** Hands on what is complete. */
  protected abstract flush(): boolean;

  abstract upcall(ctx: PacketContext): Int32Array | null;
  abstract reserve(ctx: PacketContext): number;
  abstract grant(): number;
  abstract made(row: number, slot: number, hash: number): void;
  abstract commit(ctx: PacketContext, request: CommitRequest): number;
  abstract normal(ctx: PacketContext): boolean;
  abstract change(ctx: PacketContext, id: number): void;
  abstract meter(ctx: PacketContext, id: number): boolean;
  abstract fragment(ctx: PacketContext, zone: number): boolean;

  /** Whether nothing depends on where `normal` sends the packet: then the collector switches it in its turn, and it
   *  waits for nothing. */
  protected switchesLater(ctx: PacketContext): boolean {
    const { key, program, pc } = ctx;
    const tag = key[VLAN_0];
    const later =
      program![pc] === OP_END &&
      program![pc + 1] === DROP_NO_OUTPUT &&
      ctx.isAlone &&
      ctx.cut === 0 &&
      ctx.nOuts < MOST_OUTS &&
      key[IN_PORT] === this.packets.inPort[ctx.slot] &&
      // A priority tag is taken off.
      (tag & 0x1fff) !== 0x1000 &&
      !isPartialVlan(key) &&
      // A connection's record says why its packets were dropped.
      (this.recorder === null || ctx.nSeen === 0);
    if (!later) return false;
    ctx.answer = 0;
    ctx.answerPorts.length = 1;
    ctx.answerPorts[0] = OFPP_NORMAL;
    return true;
  }

  /** The packets in `slots[0..n)` through the datapath; the last stage in input order. */
  protected runVector(slots: Int32Array, n: number): void {
    if (this.express !== null) {
      this.runExpress(this.express, slots, n);
      return;
    }
    const { microflows, openings, packets, stats, completed } = this;
    microflows.stage(slots, n);
    openings.stage(microflows.missed, microflows.nMissed, n);
    const { tracker } = this.engine;
    let opens = !tracker.expects;
    let hits = 0;
    let opened = 0;
    let bytes = 0;
    for (let i = 0; i < n; i++) {
      if (!this.dpflows && !this.mayQueue()) {
        const most = Math.min(n, i + completed.length - this.nCompleted);
        const to = microflows.runPlain(i, most, this.hits, completed, this.nCompleted);
        hits += to - i;
        this.nCompleted += to - i;
        if (this.nCompleted === completed.length) this.flush();
        i = to;
        if (i === n) break;
      }
      const slot = slots[i];
      if (this.queues(slot)) continue;
      let verdict = opens ? openings.run(i, slot) : -1;
      if (verdict >= 0) {
        opened++;
      } else {
        verdict = microflows.run(i, slot);
        if (verdict < 0) {
          this.start(slot, i);
          // It may have announced a connection that comes in this very vector.
          opens = !tracker.expects;
          continue;
        }
        if (this.dpflows) this.countBehind(i, slot);
        hits++;
      }
      this.hits[verdict]++;
      bytes += packets.capLen[slot];
      completed[this.nCompleted++] = slot;
      if (this.nCompleted === completed.length) this.flush();
    }
    if (opened > 0) {
      stats[STAT.PACKETS] += opened;
      stats[STAT.OPENING_HITS] += opened;
      stats[STAT.COMMITS] += openings.commits;
      openings.commits = 0;
    }
    stats[STAT.PACKETS] += hits;
    stats[STAT.BYTES] += bytes + microflows.bytes;
    microflows.bytes = 0;
    stats[STAT.MICROFLOW_HITS] += hits;
    if ((++stats[STAT.VECTORS] & 0xff) === 0) this.account();
  }

  /** The same where most packets need neither cache. */
  private runExpress(express: Express, slots: Int32Array, n: number): void {
    const { microflows, packets, stats, completed } = this;
    microflows.staging.parse(slots, n);
    microflows.lookUpSome(slots, express.passed, express.stage(n));
    let hits = 0;
    let bytes = 0;
    for (let i = 0; i < n; i++) {
      const slot = slots[i];
      if (this.mayQueue() && this.queues(slot)) continue;
      let verdict = express.run(i, slot);
      if (verdict < 0) verdict = microflows.run(i, slot);
      if (verdict < 0) {
        this.start(slot, i);
        continue;
      }
      hits++;
      this.hits[verdict]++;
      bytes += packets.capLen[slot];
      completed[this.nCompleted++] = slot;
      if (this.nCompleted === completed.length) this.flush();
    }
    stats[STAT.COMMITS] += express.commits;
    express.commits = 0;
    stats[STAT.PACKETS] += hits;
    stats[STAT.BYTES] += bytes;
    stats[STAT.MICROFLOW_HITS] += hits;
    if ((++stats[STAT.VECTORS] & 0xff) === 0) this.account();
  }

  /** Runs a packet through the engine; `i` is its place in the vector. */
  private start(slot: number, i: number): void {
    const { engine, ctx } = this;
    engine.begin(ctx, slot);
    ctx.sums = this.microflows.sums(i);
    if (!engine.run(ctx) || !this.isDone(ctx)) {
      this.park(ctx);
      return;
    }
    const verdict = this.complete(ctx);
    if (!ctx.foldable) return;
    if (this.express !== null && ctx.nSeen === 1 && ctx.nFrames === 0) {
      this.express.learn(slot, ctx.key[FLOW.ETH_TYPE] === ETH_TYPE_IPV6, verdict);
    }
    if (ctx.opensIn >= 0) {
      // Megaflows and records of connections count each packet by itself.
      if (!this.dpflows && this.recorder === null) this.openings.learn(i, ctx, verdict);
      return;
    }
    const tag = this.dpflows ? this.behind.push(ctx.megaflows.slice(0, ctx.nMegaflows)) - 1 : 0;
    this.microflows.insert(i, ctx, verdict, tag);
  }

  /** Counts a microflow hit for the megaflows that its packet would have found. */
  private countBehind(i: number, slot: number): void {
    for (const megaflow of this.behind[this.microflows.tagOf(i)]) {
      megaflow.packets++;
      megaflow.bytes += this.packets.capLen[slot];
      megaflow.used = this.packets.clock[slot];
    }
  }

  /** Adds the microflow hits to the counters. */
  account(): void {
    const { hits, verdicts, stats } = this;
    for (let id = 0; id < verdicts.size; id++) {
      if (hits[id] > 0) verdicts.account(id, hits[id], stats);
      hits[id] = 0;
    }
  }

  /** Writes the verdict down; the completion itself goes out with others. */
  protected complete(ctx: PacketContext): number {
    const { packets, verdicts } = this;
    const { slot } = ctx;
    const known = verdicts.size;
    const id = verdicts.intern(ctx);
    if (id === known) {
      this.announce(id, verdicts.template(id));
      if (id === this.hits.length) {
        const grown = new Int32Array(id * 2);
        grown.set(this.hits);
        this.hits = grown;
      }
    }
    this.recorder?.done(ctx, id, verdicts);
    packets.setVerdict(slot, id, ctx.firstChunk, ctx.firstRecord, ctx.hasOneFrame(packets.capLen[slot]));
    this.completed[this.nCompleted++] = slot;
    if (this.nCompleted === this.completed.length) this.flush();
    return id;
  }
}
