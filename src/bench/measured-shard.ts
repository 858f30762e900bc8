/** A worker that also measures itself: how long vectors take, how long a packet waits for its commit, and its garbage
 *  collections. It costs two readings of the clock a vector and two a commit.
 *
 *  Reads: the word PHASE, which the main thread raises when measuring begins. Posts what it has found on a
 *  BroadcastChannel of its own when it is told to stop: with a third end open on it, Node sends no histograms. */
import type { RecordableHistogram } from 'node:perf_hooks';
import v8 from 'node:v8';
import { BroadcastChannel } from 'node:worker_threads';
import type { PacketContext } from '../datapath/context.js';
import type { CommitRequest } from '../datapath/control.js';
import { type Chain, Shard, type ShardInit } from '../datapath/shard.js';
import { newHistogram } from './latency.js';

/** What the main thread hands to its workers. */
export interface Measure {
  /** One word: 0 while warming up, 1 from then on. */
  phase: SharedArrayBuffer;
  /** Name of the channels. */
  channel: string;
}

/** The channel on which a worker reports. */
export const channelOf = ({ channel }: Measure, id: number) => new BroadcastChannel(`${channel}-${id}`);

export interface Collections {
  count: number;
  ms: number;
}

export interface ShardReport {
  id: number;
  /** Nanoseconds a vector, and a commit: until the record is made, or the request for it answered. */
  vectors: RecordableHistogram;
  commits: RecordableHistogram;
  /** Milliseconds spent in vectors. */
  busyMs: number;
  collections: Collections;
}

/** Counts garbage collections of the thread that it is made on. */
export class CollectionCounter {
  private readonly profiler = new v8.GCProfiler();

  constructor() {
    this.profiler.start();
  }

  stop(): Collections {
    const { statistics } = this.profiler.stop();
    // Microseconds.
    return { count: statistics.length, ms: statistics.reduce((n, s) => n + s.cost, 0) / 1000 };
  }
}

export class MeasuredShard extends Shard {
  private readonly id: number;
  private readonly measure: Measure;
  private readonly phase: Int32Array;
  private readonly vectors = newHistogram();
  private readonly commits = newHistogram();
  private readonly asked = new Map<PacketContext, number>();
  private collections: CollectionCounter | null = null;
  private busyMs = 0;
  private reservedMs = 0;

  constructor(init: ShardInit, measure: Measure) {
    super(init);
    this.id = init.id;
    this.measure = measure;
    this.phase = new Int32Array(measure.phase);
  }

  override run(): void {
    super.run();
    const channel = channelOf(this.measure, this.id);
    const { id, vectors, commits, busyMs } = this;
    const collections = this.collections?.stop() ?? { count: 0, ms: 0 };
    channel.postMessage({ id, vectors, commits, busyMs, collections } satisfies ShardReport);
    channel.close();
  }

  protected override step(): boolean {
    if (this.collections === null && Atomics.load(this.phase, 0) !== 0) {
      this.collections = new CollectionCounter();
    }
    const began = performance.now();
    const busy = super.step();
    if (!busy || this.collections === null) return busy;
    const ms = performance.now() - began;
    this.busyMs += ms;
    this.vectors.record(nanoseconds(ms));
    return busy;
  }

  /** Plain connections are made here, at once. */
  override grant(): number {
    if (this.collections !== null) this.reservedMs = performance.now();
    return super.grant();
  }

  override made(row: number, slot: number, hash: number): void {
    super.made(row, slot, hash);
    if (this.collections !== null) this.commits.record(nanoseconds(performance.now() - this.reservedMs));
  }

  override commit(ctx: PacketContext, request: CommitRequest): number {
    if (this.collections !== null) this.asked.set(ctx, performance.now());
    return super.commit(ctx, request);
  }

  protected override resume(chain: Chain): void {
    const asked = this.asked.get(chain.ctx);
    if (asked !== undefined) {
      this.commits.record(nanoseconds(performance.now() - asked));
      this.asked.delete(chain.ctx);
    }
    super.resume(chain);
  }
}

function nanoseconds(ms: number): number {
  return Math.max(1, Math.round(ms * 1e6));
}
