/** A replay that stays in memory and can be run a slice at a time: packets, flow tables, workers, connections.
 *
 *  It goes through its packets again and again; each round comes after the one before on the clock, so connections
 *  expire as they would. Dispatch and collecting are on this thread, as in a replay; verdicts are put in order and
 *  counted, and written nowhere. What a packet's home is has been computed before. */
import { Collector } from '../coordinator/collector.js';
import { Fabric } from '../coordinator/fabric.js';
import { COMMITTED, EXPIRED } from '../coordinator/ledger.js';
import { DEFAULT_WINDOW, WATCHDOG } from '../coordinator/replay.js';
import { Watchdog } from '../coordinator/watchdog.js';
import { STAT } from '../datapath/stats.js';
import type { Ordering } from '../openflow/order.js';
import { Translator } from '../openflow/translate.js';
import { Steering } from '../rss/steer.js';
import { DEFAULT_RSS_KEY, defaultIndirection, Toeplitz } from '../rss/toeplitz.js';
import type { Loaded } from './load.js';
import type { Prepared } from './spec.js';

/** Packets handed over between two looks at the rings. */
const BURST = 1024;
/** Records that the sweeper looks at per turn. */
const SWEEP_SLICE = 4096;
const IDLE_MS = 1;
/** Key of the tables' hashes: the same collisions in every process. */
const TABLE_SEED = 0x5eed;

/** What this thread does; names of the `stages` of results. */
export const MAIN_STAGES = ['dispatch', 'coordinate', 'collect', 'sweep', 'wait'] as const;
const DISPATCH = 0;
const COORDINATE = 1;
const COLLECT = 2;
const SWEEP = 3;
const WAIT = 4;

/** Counters that only grow. */
export interface Counts {
  packets: number;
  bytes: number;
  upcalls: number;
  commits: number;
  refused: number;
  expired: number;
  microflowHits: number;
  megaflowHits: number;
  parked: number;
  vectors: number;
}

/** What a fabric has counted, for so many packets and bytes. */
export function countsOf(fabric: Fabric, packets: number, bytes: number): Counts {
  const { total } = fabric.counters();
  const { coordinator } = fabric;
  return {
    packets,
    bytes,
    upcalls: coordinator.upcalls,
    commits: coordinator.ledger.total(COMMITTED),
    refused: coordinator.ledger.refused,
    expired: coordinator.ledger.total(EXPIRED),
    microflowHits: total[STAT.MICROFLOW_HITS],
    megaflowHits: total[STAT.MEGAFLOW_HITS],
    parked: total[STAT.PARKED],
    vectors: total[STAT.VECTORS],
  };
}

export interface ResidentOptions {
  /** 0: everything on this thread. */
  workers: number;
  vector?: number;
  /** Entry point of the workers and what it gets, if it is not the ordinary one. */
  worker?: { file: string; data: unknown };
  /** Seconds without a completed packet after which `run` rejects. */
  watchdog?: number;
}

export class Resident {
  readonly fabric: Fabric;
  readonly collector: Collector;
  /** Packets of a round. */
  readonly n: number;
  /** Threads: none if packets must run in input order. */
  readonly workers: number;
  private readonly inline: boolean;
  /** Milliseconds spent in each of MAIN_STAGES. Without threads, what they would do counts as dispatch. */
  readonly stages = new Float64Array(MAIN_STAGES.length);
  private readonly homes: Uint8Array;
  /** What each packet's HASH is at first: in steered mode it changes; and whether it may be an answer. */
  private readonly hashes: Int32Array;
  private readonly answers: Uint8Array;
  /** 1 for packets that are alone in flight in steered mode. */
  private readonly alone: Uint8Array;
  protected readonly most: number;
  private readonly span: number;
  private slot = 0;
  protected seq = 0;
  private readonly watchdog: Watchdog;

  constructor({ loaded, pipeline, ports, ordering }: Prepared, o: ResidentOptions) {
    this.n = loaded.n;
    this.inline = o.workers === 0;
    const steered = ordering.mode === 'steered' && !this.inline;
    const shared = steered || ordering.mode === 'parallel';
    this.workers = shared ? o.workers : 0;
    this.watchdog = new Watchdog((o.watchdog ?? WATCHDOG) * 1000, () => this.fabric.workerStates(), '');
    this.fabric = new Fabric({
      workers: this.workers,
      vectors: !this.inline,
      steered,
      mayAnswer: (slot) => this.answers[slot] !== 0,
      slots: loaded.n,
      arena: loaded.arena,
      ports,
      translator: new Translator(pipeline),
      seed: TABLE_SEED,
      ...(o.vector === undefined ? {} : { vector: o.vector }),
      ...(o.worker === undefined ? {} : { worker: o.worker }),
    });
    const { packets, reassembly } = this.fabric;
    this.collector = new Collector(
      packets,
      loaded.arena,
      this.workers,
      (slot) => this.fabric.homes?.collected(slot),
      [],
      pipeline.stats,
      reassembly,
    );
    this.answers = new Uint8Array(loaded.n);
    this.alone = steered ? aloneIn(loaded, ordering) : new Uint8Array(loaded.n);
    this.homes = this.fill(loaded, ordering, shared);
    this.hashes = packets.hash.slice();
    this.most = Math.min(loaded.n, DEFAULT_WINDOW);
    // A slot's clock counts on from round to round.
    this.span = loaded.clockMs[loaded.n - 1] + 1;
    for (let i = 0; i < loaded.n; i++) packets.clock[i] -= this.span;
  }

  /** Fills the descriptor rows; returns each packet's home. */
  private fill(loaded: Loaded, ordering: Ordering, shared: boolean): Uint8Array {
    const { packets } = this.fabric;
    const homes = new Uint8Array(loaded.n);
    const steering = new Steering(
      new Toeplitz(DEFAULT_RSS_KEY),
      defaultIndirection(Math.max(1, this.workers)),
      this.fabric.seed,
    );
    const view = new DataView(loaded.arena);
    steering.targets = ordering.targets;
    for (let i = 0; i < loaded.n; i++) {
      packets.clock[i] = loaded.clockMs[i];
      packets.off[i] = loaded.off[i];
      packets.capLen[i] = packets.wireLen[i] = loaded.len[i];
      packets.inPort[i] = loaded.port[i];
      steering.locate(view, loaded.off[i], loaded.len[i]);
      packets.hash[i] = shared ? steering.hash : 0;
      homes[i] = steering.home;
      this.answers[i] = steering.mayAnswer(view) ? 1 : 0;
    }
    return homes;
  }

  start(): void {
    this.fabric.start(this.collector);
  }

  /** Sends `n` packets through and waits until all are done. Rejects if a worker fails, or hangs. */
  async run(n: number): Promise<void> {
    const end = this.seq + n;
    await this.turnWhile(() => this.seq < end || this.collector.inFlight > 0, end);
  }

  /** Sends packets through for so long; does not wait for those in flight. */
  async runFor(ms: number): Promise<void> {
    const until = performance.now() + ms;
    await this.turnWhile(() => performance.now() < until, Number.POSITIVE_INFINITY);
  }

  private async turnWhile(goesOn: () => boolean, end: number): Promise<void> {
    let breath = performance.now();
    while (goesOn()) {
      this.turn(end);
      const now = performance.now();
      if (now - breath > 50) {
        await new Promise(setImmediate);
        if (this.workers > 0) this.watch(now);
        breath = now;
      }
      if (this.fabric.failure !== null) throw this.fabric.failure;
    }
  }

  /** A worker that hangs counts as one that has failed: nobody waits for its end. */
  private watch(now: number): void {
    const { fabric, collector, watchdog } = this;
    try {
      watchdog.look(now, collector.completed, collector.dispatched);
    } catch (error) {
      fabric.failure ??= error as Error;
    }
  }

  /** Hands over what there is room for, serves the workers and collects. */
  private turn(end: number): void {
    const { fabric, collector, stages } = this;
    let at = performance.now();
    const lap = (stage: number) => {
      const now = performance.now();
      stages[stage] += now - at;
      at = now;
    };
    fabric.sweep(SWEEP_SLICE);
    lap(SWEEP);
    if (this.inline) {
      for (let i = Math.min(BURST, end - this.seq); i > 0; i--) {
        this.dispatch();
        collector.drain();
      }
      lap(DISPATCH);
      return;
    }
    const room = Math.min(BURST, this.most - collector.inFlight, end - this.seq);
    let n = 0;
    while (n < room && !this.mustWait()) {
      this.dispatch();
      n++;
    }
    fabric.flush();
    lap(DISPATCH);
    const polled = fabric.poll();
    lap(COORDINATE);
    const drained = collector.drain();
    lap(COLLECT);
    if (n > 0 || polled || drained) return;
    fabric.sleep(IDLE_MS);
    lap(WAIT);
  }

  /** Whether the next packet must wait until nothing is in flight: it is to be alone, or the one before it is. */
  protected mustWait(): boolean {
    const { alone, slot, n, collector } = this;
    return (alone[slot] | alone[slot === 0 ? n - 1 : slot - 1]) !== 0 && collector.inFlight > 0;
  }

  protected dispatch(): void {
    const { fabric, collector, slot } = this;
    const { packets } = fabric;
    packets.seq[slot] = this.seq++;
    packets.clock[slot] += this.span;
    if (collector.inFlight === 0) collector.clock = packets.clock[slot];
    collector.dispatched++;
    packets.hash[slot] = this.hashes[slot];
    fabric.dispatch(slot, this.homes[slot]);
    this.slot = slot + 1 === this.n ? 0 : slot + 1;
  }

  /** Empties the flow caches, so that the next packets ask for translation again. Only between runs. */
  forget(): void {
    this.fabric.pipeline.renew();
    this.fabric.tidy();
  }

  /** The clock of the packet dispatched last, in ms since the first of all. */
  get clockMs(): number {
    return this.fabric.packets.clock[(this.slot === 0 ? this.n : this.slot) - 1];
  }

  counts(): Counts {
    const { fabric, collector } = this;
    collector.settle();
    return countsOf(fabric, collector.head, collector.bytes);
  }

  /** Live connections, and bytes of shared memory that they take. */
  connections(): { n: number; sharedBytes: number } {
    const { coordinator } = this.fabric;
    return { n: coordinator.connections, sharedBytes: coordinator.sharedBytes() };
  }

  /** Ends the threads. */
  async stop(): Promise<void> {
    await this.fabric.stop();
  }
}

/** Which packets are alone in flight in steered mode, as 1. */
export function aloneIn(loaded: Pick<Loaded, 'arena' | 'off' | 'len' | 'n'>, ordering: Ordering): Uint8Array {
  const steering = new Steering(new Toeplitz(DEFAULT_RSS_KEY), defaultIndirection(1), 0);
  const view = new DataView(loaded.arena);
  const alone = new Uint8Array(loaded.n);
  for (let i = 0; i < loaded.n; i++) {
    alone[i] = steering.isAlone(view, loaded.off[i], loaded.len[i], ordering.movesPorts) ? 1 : 0;
  }
  return alone;
}
