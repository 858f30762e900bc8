/** The vector loop on the main thread, for flow tables whose packets must run in input order: the microflow cache
 *  before the engine, and a coordinator that answers at once.
 *
 *  Packets are taken up to a vector of them; then they run, one after the other, each to its end before the next one
 *  begins. So all that is asked of the coordinator is asked in order, as without vectors. What a vector has besides
 *  is what was read of its packets before they ran: their headers, which nothing changes, and the microflow entries
 *  that they found. Whatever can make an entry wrong must be noticed within the vector:
 *
 *  - a connection that ends, is removed, or whose slot is given to another: `MicroflowCache.run` looks at the record;
 *  - a tuple that a younger connection gets: counted by `publish`, looked at after every commit (`noticeConflicts`);
 *  - tables that change (learn, fin_timeout, a flow whose time is over): the caches are emptied at once.
 *
 *  What counts packets in input order (flows that end, fragments that expire) is shown those before first. */
import type { Megaflow } from '../classifier/megaflow.js';
import type { PacketContext } from '../datapath/context.js';
import type { CommitRequest } from '../datapath/control.js';
import { FrameChunk } from '../datapath/frames.js';
import { STAT } from '../datapath/stats.js';
import { VectorLoop } from '../datapath/vectors.js';
import type { Pipeline } from '../openflow/tables.js';
import type { Direct } from './direct.js';
import type { Completions } from './fabric.js';
import type { LocalDatapath, LocalOptions } from './local.js';
import { SlicesWontDo } from './slice.js';

export class Lane extends VectorLoop implements LocalDatapath {
  completions: Completions | null = null;
  private readonly control: Direct;
  private readonly pipeline: Pipeline;
  /** Packets that have been taken and not been run: the first `n` elements. */
  private readonly slots: Int32Array;
  private n = 0;
  /** Packets of the next vector. */
  private size: number;
  /** Generation of the tables that the caches are of. */
  private generation: number;
  /** A packet later than this comes after the end of a flow that the vector has made, or given other timeouts. */
  private deadline = Number.POSITIVE_INFINITY;
  private random: number;

  constructor(o: LocalOptions) {
    super(o, o.packets, o.vector, (id, sab) => this.completions!.chunk(0, id, new FrameChunk(sab)));
    this.control = o.control;
    this.pipeline = o.pipeline;
    this.generation = o.pipeline.generation;
    this.slots = new Int32Array(o.vector);
    this.random = o.jitter;
    this.size = this.nextSize();
  }

  take(slot: number): void {
    this.slots[this.n++] = slot;
    if (this.n >= this.size) this.finish();
  }

  finish(): void {
    const { n } = this;
    if (n === 0) return;
    this.n = 0;
    this.size = this.nextSize();
    this.engine.partition.refresh();
    this.deadline = Number.POSITIVE_INFINITY;
    this.runVector(this.slots, n);
    this.flush();
  }

  megaflows(): readonly Megaflow[] {
    return this.engine.megaflows.entries();
  }

  // ---- the loop ----

  protected override mayQueue(): boolean {
    return this.deadline !== Number.POSITIVE_INFINITY;
  }

  protected override queues(slot: number): boolean {
    if (this.packets.clock[slot] > this.deadline) this.expire(this.packets.clock[slot]);
    return false;
  }

  protected override isDone(): boolean {
    return true;
  }

  protected override park(): void {
    throw new Error('datapath: a packet waits although the coordinator answers at once');
  }

  protected override announce(id: number, template: Int32Array): void {
    this.completions!.template(0, id, template);
  }

  protected override flush(): boolean {
    if (this.nCompleted === 0) return false;
    this.completions!.complete(0, this.completed, this.nCompleted);
    this.nCompleted = 0;
    return true;
  }

  /** Ends the flows that are gone for a packet at `now`, all before which are done. */
  private expire(now: number): void {
    this.settle();
    this.pipeline.expire(now);
    this.revalidate();
  }

  /** Shows the packets that are done to whoever counts them. */
  private settle(): void {
    this.flush();
    this.completions!.drain();
  }

  /** Takes notice of tables that have changed. */
  private revalidate(): void {
    const { pipeline } = this;
    this.deadline = pipeline.nextDeadline;
    if (pipeline.generation === this.generation) return;
    this.generation = pipeline.generation;
    this.forget();
  }

  // ---- ControlPlane ----

  upcall(ctx: PacketContext): Int32Array {
    this.stats[STAT.UPCALLS]++;
    return this.control.upcall(ctx, this.engine.megaflows);
  }

  reserve(): number {
    return this.grant();
  }

  grant(): number {
    this.checkOwn();
    return this.control.reserve();
  }

  made(row: number, slot: number, hash: number): void {
    this.control.made(row, slot, hash, this.engine.partition);
    this.noticeCommit();
  }

  commit(ctx: PacketContext, request: CommitRequest): number {
    this.checkOwn();
    const slot = this.control.commit(ctx, request);
    this.noticeCommit();
    return slot;
  }

  private noticeCommit(): void {
    this.engine.partition.refresh();
    this.microflows.noticeConflicts();
  }

  normal(ctx: PacketContext): boolean {
    if (this.switchesLater(ctx)) return true;
    this.inTurn();
    return this.control.normal(ctx);
  }

  change(ctx: PacketContext, id: number): void {
    this.settle();
    this.control.change(ctx, id);
    this.revalidate();
  }

  meter(ctx: PacketContext, id: number): boolean {
    return this.control.meter(ctx, id);
  }

  fragment(ctx: PacketContext, zone: number): boolean {
    this.inTurn();
    return this.elsewhere ? this.control.hold(ctx, zone) : this.control.fragment(ctx, zone);
  }

  /** Fragments that another slice tracks (slice.ts): what waits is the same in all, and nothing else becomes of them. */
  set elsewhere(on: boolean) {
    this.isElsewhere = on;
    this.uncounted = on;
  }
  get elsewhere(): boolean {
    return this.isElsewhere;
  }
  private isElsewhere = false;

  private checkOwn(): void {
    if (this.isElsewhere) throw new SlicesWontDo('a packet of another slice would open a connection');
  }

  /** What the collector does with packets in their turn is done with all before this one: frames that it switches,
   *  fragments that expire. */
  private inTurn(): void {
    this.flush();
    this.completions!.turn();
  }

  // ---- test only ----

  private nextSize(): number {
    if (this.random === 0) return this.slots.length;
    this.random = (Math.imul(this.random, 1103515245) + 12345) | 0 || 1;
    return 1 + (((this.random >>> 8) & 0xffff) % this.slots.length);
  }
}
