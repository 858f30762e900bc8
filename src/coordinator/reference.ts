/** `--workers 0`: one packet after the other through the engine, on the main thread, and the coordinator answers at
 *  once. What every other way of running a table must agree with. */
import { type Megaflow, MegaflowCache } from '../classifier/megaflow.js';
import { Partition } from '../conntrack/partition.js';
import type { PacketContext } from '../datapath/context.js';
import type { CommitRequest, ControlPlane } from '../datapath/control.js';
import { Engine } from '../datapath/engine.js';
import { FrameChunk, FrameStore } from '../datapath/frames.js';
import { Recorder } from '../datapath/recorder.js';
import { STAT } from '../datapath/stats.js';
import { VerdictTable } from '../datapath/verdicts.js';
import type { Completions } from './fabric.js';
import type { LocalDatapath, LocalOptions } from './local.js';

export class Reference implements LocalDatapath, ControlPlane {
  completions: Completions | null = null;
  private readonly o: LocalOptions;
  private readonly stats: Float64Array;
  private readonly engine: Engine;
  private readonly ctx: PacketContext;
  private readonly verdicts = new VerdictTable();
  private readonly recorder: Recorder | null = null;
  private readonly done = new Int32Array(1);
  /** Generation of the tables that the megaflows are of. */
  private generation: number;

  constructor(o: LocalOptions) {
    this.o = o;
    const { arena, packets } = o;
    this.stats = new Float64Array(o.stats);
    this.generation = o.pipeline.generation;
    const frames = new FrameStore((id, sab) => this.completions!.chunk(0, id, new FrameChunk(sab)));
    const partition = new Partition(o.partition);
    this.engine = new Engine(partition, new MegaflowCache(), this, frames, arena, packets, this.stats);
    const { tracker } = this.engine;
    tracker.strict = o.strict;
    tracker.ignoreChecksums = o.ignoreChecksums;
    this.engine.vlanLimit = o.vlanLimit;
    if (o.tallies !== null) this.recorder = new Recorder(partition, packets, arena, tracker, o.tallies);
    this.ctx = this.engine.newContext();
  }

  set checkSequence(on: boolean) {
    this.engine.tracker.checkSequence = on;
  }

  take(slot: number): void {
    const { engine, ctx, verdicts, o, done } = this;
    const { packets } = o;
    engine.begin(ctx, slot);
    engine.partition.refresh();
    if (!engine.run(ctx))
      throw new Error('datapath: a packet waits although the coordinator answers at once');
    const known = verdicts.size;
    const id = verdicts.intern(ctx);
    if (id === known) this.completions!.template(0, id, verdicts.template(id));
    this.recorder?.done(ctx, id, verdicts);
    packets.setVerdict(slot, id, ctx.firstChunk, ctx.firstRecord, ctx.hasOneFrame(packets.capLen[slot]));
    done[0] = slot;
    this.completions!.complete(0, done, 1);
  }

  finish(): void {}

  forget(): void {
    this.engine.megaflows.clear();
  }

  account(): void {}

  megaflows(): readonly Megaflow[] {
    return this.engine.megaflows.entries();
  }

  upcall(ctx: PacketContext): Int32Array {
    this.stats[STAT.UPCALLS]++;
    return this.o.control.upcall(ctx, this.engine.megaflows);
  }

  reserve(): number {
    return this.o.control.reserve();
  }

  made(row: number, slot: number, hash: number): void {
    const { partition } = this.engine;
    this.o.control.made(row, slot, hash, partition);
    partition.refresh();
  }

  commit(ctx: PacketContext, request: CommitRequest): number {
    const slot = this.o.control.commit(ctx, request);
    this.engine.partition.refresh();
    return slot;
  }

  normal(ctx: PacketContext): boolean {
    return this.o.control.normal(ctx);
  }

  change(ctx: PacketContext, id: number): void {
    const { control, pipeline } = this.o;
    control.change(ctx, id);
    if (pipeline.generation === this.generation) return;
    this.generation = pipeline.generation;
    this.forget();
  }

  meter(ctx: PacketContext, id: number): boolean {
    return this.o.control.meter(ctx, id);
  }

  fragment(ctx: PacketContext, zone: number): boolean {
    return this.o.control.fragment(ctx, zone);
  }
}
