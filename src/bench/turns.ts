/** One side of a timed comparison: a replay whose workers take turns with the main thread on one thread, and which comes to
 *  rest after every chunk of packets. Nobody waits, sleeps or is woken, so a chunk costs the same whatever else the
 *  machine does, as long as it is let run; and it is known what each part of the program has spent on it. What is missing is
 *  that threads run at once and lines of memory move between cores: slices.ts has that.
 *
 *  It is the replay of `shardtrack replay` (coordinator/replay.ts), over packets in memory that come again and again, each
 *  round after the one before on the clock. */
import type { Completions, Fabric } from '../coordinator/fabric.js';
import { replay, STAGE, type Stage, type Turns } from '../coordinator/replay.js';
import { Shard, type ShardInit } from '../datapath/shard.js';
import { Translator } from '../openflow/translate.js';
import type { MergedRecord, PacketSource } from '../pcap/merge.js';
import { ReadResult } from '../pcap/types.js';
import type { Loaded } from './load.js';
import { type Counts, countsOf } from './resident.js';
import { type BenchSpec, prepare } from './spec.js';

/** Parts of the program; what there is of each chunk, in milliseconds of processor time. Without workers, what they would do counts as
 *  dispatch. */
export const PARTS = ['dispatch', 'workers', 'coordinate', 'collect'] as const;
const WORKERS = 1;
/** Part of each STAGE but REST. */
const PART_OF = [0, 2, 3];

export interface TurnsReady {
  /** Packets of a round. */
  packets: number;
  workers: number;
}

/** A worker that is told when to go on. */
class TurnShard extends Shard {
  /** Runs until it can't go on. */
  turn(): void {
    while (this.step());
  }
}

/** Runs the workers, and measures. */
class Stopwatch implements Turns {
  fabric: Fabric | null = null;
  readonly spent = new Float64Array(PARTS.length);
  private readonly shards: TurnShard[] = [];
  private at = 0;

  start(fabric: Fabric, completions: Completions): void {
    this.fabric = fabric;
    fabric.start(completions, (init: ShardInit) => this.shards.push(new TurnShard(init)));
  }

  did(stage: Stage): void {
    const { shards } = this;
    if (stage === STAGE.REST) this.at = processorMs();
    else this.lap(PART_OF[stage]);
    if (stage !== STAGE.DISPATCH || shards.length === 0) return;
    for (let i = 0; i < shards.length; i++) shards[i].turn();
    this.lap(WORKERS);
  }

  private lap(part: number): void {
    const now = processorMs();
    this.spent[part] += now - this.at;
    this.at = now;
  }

  reset(): void {
    this.spent.fill(0);
    this.at = processorMs();
  }
}

/** Packets in memory, in rounds, as many as are granted. */
class Rounds implements PacketSource {
  readonly notices = [];
  private readonly loaded: Loaded;
  /** Of a round, on the clock. */
  private readonly spanMs: number;
  private position = 0;
  private roundMs = 0;
  private granted = 0;
  private isEnded = false;
  /** Resolves what `readable` has returned. */
  private wake: () => void = () => {};
  private onRest: () => void = () => {};

  constructor(loaded: Loaded) {
    this.loaded = loaded;
    this.spanMs = loaded.clockMs[loaded.n - 1] + 1;
  }

  next(packet: MergedRecord): ReadResult {
    if (this.granted === 0) return this.isEnded ? ReadResult.END : ReadResult.STARVED;
    this.granted--;
    const { loaded, position: i } = this;
    const ms = loaded.clockMs[i] + this.roundMs;
    packet.off = loaded.off[i];
    packet.capLen = packet.wireLen = loaded.len[i];
    packet.sec = Math.floor(ms / 1000);
    packet.nsec = (ms % 1000) * 1e6;
    packet.iface = loaded.port[i];
    this.position++;
    if (this.position === loaded.n) {
      this.position = 0;
      this.roundMs += this.spanMs;
    }
    return ReadResult.PACKET;
  }

  /** Called when all packets that were granted are done. */
  readable(): Promise<void> {
    const { promise, resolve } = signal();
    this.wake = resolve;
    this.onRest();
    return promise;
  }

  /** Lets `n` more packets come; resolves when they are done. */
  grant(n: number): Promise<void> {
    const { promise, resolve } = signal();
    this.onRest = resolve;
    this.granted = n;
    this.wake();
    return promise;
  }

  end(): void {
    this.isEnded = true;
    this.wake();
  }

  close(): void {}
}

function signal(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

/** Of all threads of this process; while it takes turns there is one that does something. */
function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

export class TurnsRunner {
  readonly ready: TurnsReady;
  private readonly watch = new Stopwatch();
  private readonly rounds: Rounds;
  private readonly bytes: Float64Array;
  private done = 0;
  /** Of the replay; never resolves before `stop`. */
  private readonly running: Promise<unknown>;

  private constructor(rounds: Rounds, bytes: Float64Array, watch: Stopwatch, running: Promise<unknown>) {
    this.rounds = rounds;
    this.bytes = bytes;
    this.watch = watch;
    this.running = running;
    this.ready = { packets: bytes.length - 1, workers: watch.fabric!.workers };
  }

  static async open(spec: BenchSpec): Promise<TurnsRunner> {
    const { loaded, pipeline, ports, ordering } = await prepare(spec);
    const rounds = new Rounds(loaded);
    const watch = new Stopwatch();
    const u8 = new Uint8Array(loaded.arena);
    const running = replay({
      source: rounds,
      // Nothing is read into it.
      arena: {
        sab: loaded.arena,
        u8,
        segmentBytes: u8.length,
        acquire: () => -1,
        close() {},
        hold() {},
        release() {},
      },
      portMap: { portOf: (_source, iface) => iface },
      ports,
      translator: new Translator(pipeline),
      workers: spec.workers,
      ordering,
      turns: watch,
      ...(spec.vector === undefined ? {} : { vector: spec.vector }),
    });
    // It is told of by whoever waits for packets to be done.
    running.catch(() => {});
    const bytes = new Float64Array(loaded.n + 1);
    for (let i = 0; i < loaded.n; i++) bytes[i + 1] = bytes[i] + loaded.len[i];
    return new TurnsRunner(rounds, bytes, watch, running);
  }

  /** Runs `packets` packets, a chunk after the other; `cold`: with empty flow caches at first. Returns the milliseconds
   *  of each chunk, by PARTS, and those without a processor: because others had it, or because it slept. */
  async run(packets: number, chunk: number, cold: boolean): Promise<number[][]> {
    const { watch, rounds } = this;
    const chunks: number[][] = [];
    if (cold) this.forget();
    for (let left = packets; left > 0; ) {
      const n = Math.min(chunk, left);
      watch.reset();
      const began = performance.now();
      await Promise.race([rounds.grant(n), this.failed()]);
      const passed = performance.now() - began;
      const had = watch.spent.reduce((sum, ms) => sum + ms, 0);
      chunks.push([...watch.spent, Math.max(0, passed - had)]);
      left -= n;
      this.done += n;
    }
    return chunks;
  }

  /** Rejects if the replay ends. */
  private failed(): Promise<never> {
    return this.running.then(() => {
      throw new Error('the replay has ended');
    });
  }

  /** Empties the flow caches, so that the next packets ask for translation again. */
  private forget(): void {
    const { fabric } = this.watch;
    fabric!.pipeline.renew();
    fabric!.tidy();
  }

  counts(): Counts {
    const n = this.bytes.length - 1;
    const bytes = Math.floor(this.done / n) * this.bytes[n] + this.bytes[this.done % n];
    return countsOf(this.watch.fabric!, this.done, bytes);
  }

  async stop(): Promise<void> {
    this.rounds.end();
    await this.running;
  }
}
