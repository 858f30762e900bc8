/** Replays captures through the switch: source, dispatcher, coordinator and collector share this
 *  thread; workers, if any, run the datapath.
 *
 *  Every packet gets a window slot (its number modulo the window), a clock, a hash and a home, is handed
 *  to its home, and is collected in input order. Control events are fences: the window runs empty, the
 *  event is applied, and dispatch goes on. */

import type { ShardInit } from '../datapath/shard.js';
import { dumpDpFlows } from '../openflow/dpflows.js';
import { dumpFlows, dumpGroupStats, dumpGroups, flowRemovedText, selectAll } from '../openflow/dump.js';
import { catchAll } from '../openflow/match.js';
import type { Ordering } from '../openflow/order.js';
import type { Translator } from '../openflow/translate.js';
import { newMergedRecord, type PacketSource } from '../pcap/merge.js';
import { CaptureError, type CaptureNotice, type PacketArena, ReadResult } from '../pcap/types.js';
import { Steering } from '../rss/steer.js';
import { defaultIndirection, drawRssKey, Toeplitz } from '../rss/toeplitz.js';
import { census } from './census.js';
import { Collector, type Tally, type VerdictSink } from './collector.js';
import type { Coordinator } from './coordinator.js';
import { connectionJson, connectionsAt, type DumpOptions, dumpConntrack } from './dump.js';
import { type ControlEvent, type EventOutcome, noteJson, runEvent } from './events.js';
import { type Completions, Fabric } from './fabric.js';
import type { Ledger } from './ledger.js';
import { type ConnectionRecord, frameOfRow, ROW_WORDS } from './record.js';
import { addTallies, type KeeperState, RecordKeeper, sumTallies, type Tallies } from './records.js';
import { SLICE_STEP, type Slice, SlicesWontDo } from './slice.js';
import { StretchReader } from './stretch.js';
import { Watchdog } from './watchdog.js';

/** Packets in flight at most. */
export const DEFAULT_WINDOW = 16384;
/** Packets in flight at first, until it is known how many bytes of changed frames one makes; and bytes of these in flight
 *  at most: a table may send thousands of copies of a packet, and a worker runs ahead of what is written. */
const FIRST_IN_FLIGHT = 32;
const MOST_COPIED = 64 << 20;
/** Packets read between two looks at the rings. */
const READ_BURST = 512;
/** Connections of a partition that the sweeper looks at after each burst. */
const SWEEP_SLICE = 4096;
/** How often the event loop gets a turn (signals, failures of workers), in ms. */
const BREATH_MS = 20;
const IDLE_MS = 1;
/** Packets that a slice passes over before it looks after everything else. */
const SLICE_BURST = 8192;
const ABANDON_MS = 1000;
/** Seconds; see ReplayOptions.watchdog. */
export const WATCHDOG = 60;

/** Chooses the port that a packet arrives on. */
export interface PortMap {
  /** Says which ports it chooses: a checkpoint is not one of a run with another. Without it all maps count as one. */
  readonly identity?: string;
  portOf(source: number, iface: number, view: DataView, off: number, len: number): number;
}

/** All that a run needs to go on behind its first `packets` packets, whose source has been read past them. */
export interface ReplayState {
  packets: number;
  bytes: number;
  /** Of the last of them. */
  clock: number;
  firstSec: number;
  firstNsec: number;
  tallies: Float64Array;
  keeper: KeeperState;
}

/** Checkpoints of a run that tracks and does nothing else: no events, no translation, no switching by address. Nothing
 *  but connections, records and clock is kept of it. */
export interface Checkpoints {
  /** To go on from. */
  from: ReplayState | null;
  /** Whether one is wanted before packet number `packets`, while so many connections live. */
  isDue: (packets: number, connections: number) => boolean;
  take: (state: ReplayState) => void;
}

/** The packet to explain. */
export interface TraceRequest {
  /** Number of a packet of the input, from 0; the input ends there. */
  packet: number | null;
  /** Or a frame that comes after the whole input, and its port. */
  frame: Uint8Array | null;
  inPort: number;
}

/** What the main thread does in a turn of its loop. */
export const STAGE = { DISPATCH: 0, COORDINATE: 1, COLLECT: 2, REST: 3 } as const;
export type Stage = (typeof STAGE)[keyof typeof STAGE];

/** Takes turns with the main thread, instead of threads beside it: for benchmarks that must not depend on when a thread
 *  is woken (bench/turns.ts). */
export interface Turns {
  /** Makes workers of what `fabric.start` hands out. */
  start(fabric: Fabric, completions: Completions): void;
  /** The main thread has done this. Behind DISPATCH the workers run until they can't go on. */
  did(stage: Stage): void;
}

export interface ReplayOptions {
  source: PacketSource;
  arena: PacketArena & { readonly sab: SharedArrayBuffer };
  portMap: PortMap;
  /** Ports of the switch besides LOCAL. */
  ports: readonly number[];
  translator: Translator;
  workers: number;
  /** What the flow table needs. If its packets must run in order, workers stay away (lane.ts). */
  ordering: Ordering;
  events?: readonly ControlEvent[];
  /** Takes a line of the events log for every flow with send_flow_rem that goes. */
  onFlowRemoved?: (line: string) => void;
  /** Told what became of each event. */
  onEvent?: (outcome: EventOutcome) => void;
  /** ct() takes checksums for right. */
  ignoreChecksums?: boolean;
  /** VLAN tags that flows and ct() look behind: 1 (other_config:vlan-limit of Open vSwitch, unless changed) or 2. */
  vlanLimit?: 1 | 2;
  /** Packets whose commit is refused are dropped. */
  strict?: boolean;
  /** Takes a record of each connection that has ended, and of the others when the input has: in an order that
   *  does not depend on the number of workers. */
  onRecord?: (record: ConnectionRecord) => void;
  /** With `onRecord`. */
  checkpoints?: Checkpoints;
  /** Only a share of the connections, in the lane, while others run the other shares; with `onRecord`, and a table that
   *  does nothing but track. Without events, checkpoints, sinks; `portMap` goes by the interface alone. */
  slice?: Slice;
  /** Keep what `ReplayResult.dpflows` needs. */
  dpflows?: boolean;
  sinks?: readonly VerdictSink[];
  maxConns?: number;
  /** Key of the RSS hash, which says who runs a packet, and seed of all other hashes; drawn unless they are given. */
  rssKey?: Uint8Array;
  seed?: number;
  /** Window slots, packets per vector; for tests. */
  window?: number;
  vector?: number;
  /** Test only: seed of random delays; a worker that fails. */
  jitter?: number;
  fault?: ShardInit['fault'];
  /** Test only: small rings, a main thread that is slow (FabricOptions). */
  ringWords?: number;
  slow?: number;
  /** Benchmarks only. */
  turns?: Turns;
  /** Says what happens to a packet instead of running it, once everything before it is done. */
  trace?: TraceRequest;
  /** Asked all the time; while the promise is pending, no more packets are read. */
  room?: () => Promise<void> | null;
  /** Seconds without a completed packet after which workers are taken for stuck, and the run fails; 0: never. */
  watchdog?: number;
  /** Called now and then. */
  progress?: (packets: number, bytes: number, coordinator: Coordinator) => void;
  /** Aborts the run. */
  signal?: AbortSignal;
  /** Ends the input where it is; what was read so far is finished. */
  stop?: AbortSignal;
}

export interface ReplayResult {
  packets: number;
  bytes: number;
  /** From the first packet read to the last one collected. */
  seconds: number;
  /** Time that the capture spans, in seconds. */
  captureSeconds: number;
  /** Packets that went out at a port or to a controller; the others, by reason. */
  passed: number;
  drops: Map<string, number>;
  /** By reason and stat point of their last pass, -1 if there is none. */
  dropsByStat: Map<string, Map<number, number>>;
  outByPort: Map<number, Tally>;
  /** Packets sent to controllers. */
  controller: number;
  /** Counters of all workers together (STAT) and of each. */
  counters: { total: Float64Array; byWorker: Float64Array[] };
  upcalls: number;
  /** In steered mode: packets that changed their home while they were in flight. */
  moved: number;
  /** What became of commits and connections up to the last packet or event. */
  ledger: Ledger;
  /** Live connections at the end, and by zone. */
  connections: number;
  connectionsOf: (zone: number) => number;
  events: { done: number; refused: number };
  /** Makes the lines of dump-conntrack, -m unless told otherwise; or the table as lines of JSON. */
  dump: (options?: DumpOptions) => string[];
  dumpJson: () => string[];
  /** How many live connections there are at the end in each state. */
  census: () => Map<string, number>;
  /** As dump-flows prints the flow tables at the end. */
  dumpFlows: () => string;
  /** As dump-groups and dump-group-stats print the groups. */
  dumpGroups: () => string;
  /** With the option: makes the lines of dpctl/dump-flows, which depend on how packets were shared out. */
  dpflows: () => string[];
  /** With `onRecord`: what became of every packet. */
  tallies: Tallies;
  sharedBytes: number;
  /** Of the chunks that changed frames were in. */
  frameBytes: number;
  notices: CaptureNotice[];
  /** Why the input ended early: the packets before the damage are in this result. */
  damage: CaptureError | null;
  /** What `trace` asked for; null if the input has no such packet. */
  explanation: string[] | null;
}

export async function replay(options: ReplayOptions): Promise<ReplayResult> {
  const run = new Run(options);
  try {
    return await run.loop();
  } finally {
    options.source.close();
    // After a failure nobody waits for a worker that is stuck.
    await run.fabric.stop(ABANDON_MS);
  }
}

class Run {
  readonly fabric: Fabric;
  private readonly options: ReplayOptions;
  private readonly steered: boolean;
  /** A packet at a time: the reference. */
  private readonly inline: boolean;
  /** The packet dispatched last is one that is alone in flight, in steered mode. */
  private alone = false;
  private readonly collector: Collector;
  private readonly keeper: RecordKeeper | null = null;
  private readonly steering: Steering;
  private readonly segments: Int32Array;
  private readonly view: DataView;
  private readonly record = newMergedRecord();
  /** Its packets keep the numbers of the whole. */
  private readonly isShare: boolean;
  private readonly events: readonly ControlEvent[];
  private nextEvent = 0;
  /** A packet has been read that an event or the end of a flow must come before. */
  private holding = false;
  private ended = false;
  private starved = false;
  /** Packets before the last checkpoint. */
  private checkpointed = 0;
  /** Packets read, and bytes of theirs that were captured: of the whole, in a slice. */
  private packets = 0;
  private bytes = 0;
  private firstSec = 0;
  private firstNsec = 0;
  private clock = 0;
  /** The clock before the packet just read: of the packets and events before it. */
  private before = 0;
  private readonly outcomes = { done: 0, refused: 0 };
  private damage: CaptureError | null = null;
  private explanation: string[] | null = null;

  constructor(options: ReplayOptions) {
    this.options = options;
    const { mode } = options.ordering;
    // Records of connections count packets as they are run, and what has been run may have to be forgotten.
    this.steered = mode === 'steered' && options.workers > 0 && options.onRecord === undefined;
    const inOrder = (mode !== 'parallel' && !this.steered) || options.slice !== undefined;
    const workers = inOrder ? 0 : options.workers;
    this.inline = options.workers === 0;
    this.isShare = (options.source.clock ?? null) !== null;
    const slots = options.window ?? DEFAULT_WINDOW;
    this.most = Math.min(slots, FIRST_IN_FLIGHT);
    const { arena } = options;
    this.fabric = new Fabric({
      workers,
      vectors: options.workers > 0,
      steered: this.steered,
      mayAnswer: (slot) => this.mayAnswer(slot),
      slots,
      arena: arena.sab,
      translator: options.translator,
      ports: options.ports,
      ...(options.maxConns === undefined ? {} : { maxConns: options.maxConns }),
      capacity: Math.max(0, ...(options.events ?? []).map((e) => e.capacity)),
      strict: options.strict ?? false,
      ignoreChecksums: options.ignoreChecksums ?? false,
      ...(options.vlanLimit === undefined ? {} : { vlanLimit: options.vlanLimit }),
      dpflows: options.dpflows ?? false,
      records: options.onRecord !== undefined,
      share: this.isShare,
      tracksAll: options.slice !== undefined,
      ...(options.vector === undefined ? {} : { vector: options.vector }),
      ...(options.seed === undefined ? {} : { seed: options.seed }),
      ...(options.jitter === undefined ? {} : { jitter: options.jitter }),
      ...(options.fault === undefined ? {} : { fault: options.fault }),
      ...(options.ringWords === undefined ? {} : { ringWords: options.ringWords }),
      ...(options.slow === undefined ? {} : { slow: options.slow }),
    });
    this.segments = new Int32Array(slots);
    this.view = new DataView(arena.sab);
    this.collector = new Collector(
      this.fabric.packets,
      arena.sab,
      workers,
      (slot) => {
        arena.release(this.segments[slot]);
        this.fabric.homes?.collected(slot);
      },
      options.sinks ?? [],
      options.translator.pipeline.stats,
      this.fabric.reassembly,
    );
    if (options.onRecord !== undefined) {
      const { coordinator } = this.fabric;
      coordinator.keeper = this.keeper = new RecordKeeper(
        coordinator.partitions,
        (clock) => coordinator.settle(clock),
        options.onRecord,
        options.slice,
      );
    }
    const { pipeline } = options.translator;
    pipeline.fold = () => this.collector.settle();
    pipeline.onRemoved = (rule, reason, now) => {
      const nsec = this.firstNsec + (now % 1000) * 1_000_000;
      const time = {
        sec: this.firstSec + Math.floor(now / 1000) + Math.floor(nsec / 1e9),
        nsec: nsec % 1e9,
      };
      options.onFlowRemoved?.(noteJson(time, 'flow_removed', flowRemovedText(rule, reason, now)));
    };
    const homes = this.steered ? 1 : Math.max(1, workers);
    const toeplitz = new Toeplitz(options.rssKey ?? drawRssKey());
    this.steering = new Steering(toeplitz, defaultIndirection(homes), this.fabric.seed);
    this.steering.reassembles = mode === 'parallel' && options.ordering.tracks;
    this.steering.targets = options.ordering.targets;
    this.events = options.events ?? [];
  }

  private get patienceMs(): number {
    return (this.options.watchdog ?? WATCHDOG) * 1000;
  }

  async loop(): Promise<ReplayResult> {
    const { fabric, collector, options } = this;
    const { turns } = options;
    const watchdog = new Watchdog(this.patienceMs, () => fabric.workerStates());
    if (turns === undefined) fabric.start(collector);
    else turns.start(fabric, collector);
    if (options.checkpoints?.from) this.goOn(options.checkpoints.from);
    const began = performance.now();
    let breath = began;
    for (;;) {
      let busy = options.slice === undefined ? this.fill() : this.fillSlice(options.slice);
      fabric.flush();
      turns?.did(STAGE.DISPATCH);
      if (fabric.poll()) busy = true;
      turns?.did(STAGE.COORDINATE);
      if (this.drain()) busy = true;
      turns?.did(STAGE.COLLECT);
      if (collector.inFlight === 0 && this.fence()) busy = true;
      if (this.ended && collector.inFlight === 0) break;
      const room = options.room?.();
      if (room) {
        await room;
        options.signal?.throwIfAborted();
      }
      fabric.sweep(SWEEP_SLICE);
      turns?.did(STAGE.COORDINATE);

      if (fabric.failure !== null) throw fabric.failure;
      const now = performance.now();
      if (!busy || now - breath > BREATH_MS) {
        if (!busy && this.starved && collector.inFlight === 0) await this.readable();
        else if (!busy && fabric.workers > 0 && turns === undefined) fabric.sleep(IDLE_MS);
        await new Promise(setImmediate);
        options.signal?.throwIfAborted();
        if (fabric.workers > 0) watchdog.look(now, collector.completed, collector.dispatched);
        collector.settle();
        if (options.slice === undefined)
          options.progress?.(collector.head, collector.bytes, fabric.coordinator);
        else options.progress?.(this.packets, this.bytes, fabric.coordinator);
        breath = now;
        turns?.did(STAGE.REST);
      }
    }
    const frame = options.trace?.frame;
    if (frame) this.explanation = this.explain(frame, options.trace!.inPort);
    const seconds = (performance.now() - began) / 1000;
    // Workers bring their counters up to date when they stop.
    await fabric.stop(this.patienceMs);
    if (fabric.failure !== null) throw fabric.failure;
    return this.result(seconds);
  }

  /** Emits what is complete and in turn, and gives out the records that are due. False if that was nothing. */
  private drain(): boolean {
    const any = this.collector.drain();
    if (any) {
      this.keeper?.advance(this.collector.head);
      this.pace();
    }
    return any;
  }

  /** Lets more packets into flight, or fewer. */
  private pace(): void {
    const { head, copied } = this.collector;
    const packets = head - this.pacedHead;
    if (packets < Math.min(this.most, FIRST_IN_FLIGHT)) return;
    const each = (copied - this.pacedCopied) / packets;
    this.pacedHead = head;
    this.pacedCopied = copied;
    const room = each === 0 ? Number.POSITIVE_INFINITY : Math.floor(MOST_COPIED / each);
    this.most = Math.max(1, Math.min(this.fabric.packets.slots, 2 * this.most, room));
  }
  private pacedHead = 0;
  private pacedCopied = 0;
  /** Packets that may be in flight. */
  private most: number;

  /** Waits for input, the signal to abort, or a worker's failure. */
  private async readable(): Promise<void> {
    const { source, signal, stop } = this.options;
    signal?.throwIfAborted();
    let wake = () => {};
    const aborted = new Promise<void>((resolve) => {
      wake = resolve;
    });
    signal?.addEventListener('abort', wake, { once: true });
    stop?.addEventListener('abort', wake, { once: true });
    if (!stop?.aborted) await Promise.race([source.readable(), aborted, this.fabric.failed]);
    signal?.removeEventListener('abort', wake);
    stop?.removeEventListener('abort', wake);
  }

  /** Reads and dispatches a burst of packets. False if there was none. */
  private fill(): boolean {
    const { source } = this.options;
    const { collector, fabric } = this;
    this.starved = false;
    // A packet that has been read, and waits, still counts.
    if (this.options.stop?.aborted && !this.holding) this.ended = true;
    let n = 0;
    while (n < READ_BURST && collector.inFlight < this.most && !this.ended) {
      if (!this.holding) {
        const result = this.read(source);
        if (result === ReadResult.END) {
          this.ended = true;
          // Packets of the whole may come after the last one of the share.
          if (this.isShare && collector.dispatched > 0) this.tick();
          break;
        }
        if (result !== ReadResult.PACKET) {
          this.starved = result === ReadResult.STARVED;
          break;
        }
        this.tick();
        this.packets++;
      }
      // What is due before this packet waits until all packets before it are done.
      this.holding = this.eventDue() || fabric.pipeline.nextDeadline < this.clock || fabric.crowded;
      if (this.holding) {
        if (collector.inFlight > 0) break;
        this.fence();
        this.holding = false;
      }
      if (!this.isSteered()) break;
      if (this.isCheckpointDue()) {
        this.holding = collector.inFlight > 0;
        if (this.holding) break;
        this.checkpoint();
      }
      if (collector.dispatched === this.options.trace?.packet) {
        this.holding = collector.inFlight > 0;
        if (!this.holding) this.explainRecord();
        break;
      }
      this.dispatch();
      n++;
      // Inline, the packet is done: free its slot.
      if (this.inline) this.drain();
    }
    return n > 0;
  }

  /** Reads on until a vector of packets of the slice has been dispatched. All packets are read: the clock, the numbers of
   *  packets and the marks are those of the whole. Fragments of other slices wait for each other here as they do
   *  there, because how many do, and when they are given up, is one thing for all. False if there was nothing. */
  private fillSlice(slice: Slice): boolean {
    const { source, arena } = this.options;
    const { collector, fabric, steering, record, view, keeper } = this;
    const { reassembly } = fabric;
    const from = this.packets;
    const until = collector.dispatched + this.room(slice.vector);
    this.starved = false;
    while (collector.dispatched < until && this.packets - from < SLICE_BURST) {
      if (this.packets % SLICE_STEP === 0) {
        if (!this.goesOn(slice)) break;
      } else if (this.readPlain(slice, until - collector.dispatched)) {
        continue;
      }
      const result = this.read(source);
      if (result !== ReadResult.PACKET) {
        this.ended = result === ReadResult.END;
        this.starved = result === ReadResult.STARVED;
        break;
      }
      this.tick();
      keeper!.dispatched(this.packets++, this.clock, collector.dispatched);
      this.bytes += record.capLen;
      const { off, capLen, segment } = record;
      const isOwn = (steering.addressHash(view, off, capLen) >>> 0) % slice.n === slice.k;
      if (steering.isFragment) {
        this.dispatchFragment(isOwn);
      } else if (isOwn) {
        this.dispatchTo(0);
      } else {
        if (this.clock > reassembly.oldest && steering.isIp(view, off, capLen)) {
          this.runDry();
          reassembly.expire(this.clock, 1);
        }
        arena.release(segment);
      }
    }
    // No packet may come behind the last mark.
    if (collector.inFlight === 0) keeper!.advance(collector.head);
    return this.packets > from;
  }

  /** Reads the packets that lie in the arena and need nothing special, within the step, and dispatches those of the slice, at most
   *  `room`. False if the next packet is none of these. */
  private readPlain(slice: Slice, room: number): boolean {
    const { source, arena, portMap } = this.options;
    const { collector, fabric, segments, view } = this;
    const { packets } = fabric;
    const stretch = source.stretch?.() ?? null;
    if (stretch === null) return false;
    this.stretches ??= new StretchReader(view, packets, slice);
    const { stretches: reader } = this;
    let slot = collector.dispatched % packets.slots;
    const n = reader.read(
      stretch,
      SLICE_STEP - (this.packets % SLICE_STEP),
      room,
      slot,
      portMap.portOf(stretch.source, 0, view, stretch.pos, 0),
      this.packets,
      this.firstSec,
      this.firstNsec,
      this.clock,
      fabric.reassembly.oldest,
    );
    if (n === 0) return false;
    const { own, bytes } = reader;
    const { segment } = stretch;
    this.packets += n;
    this.bytes += bytes;
    this.before = Math.max(this.before, this.clock);
    this.clock = reader.clock;
    stretch.passed(n, bytes, reader.pos);
    arena.hold(segment, own);
    if (own > 0 && collector.inFlight === 0) collector.clock = packets.clock[slot];
    for (let i = 0; i < own; i++) {
      segments[slot] = segment;
      collector.dispatched++;
      fabric.dispatch(slot, 0);
      if (++slot === packets.slots) slot = 0;
    }
    return true;
  }
  private stretches: StretchReader | null = null;

  /** Packets that may be dispatched now, `most` at most. */
  private room(most: number): number {
    return Math.min(most, this.most - this.collector.inFlight);
  }

  /** Asked before every so many packets. */
  private goesOn(slice: Slice): boolean {
    if (this.fabric.coordinator.connections + 2 * SLICE_STEP > slice.mostConnections) {
      throw new SlicesWontDo('there may be more connections than --max-conns');
    }
    this.ended = !slice.goesOn(this.packets);
    return !this.ended;
  }

  /** A fragment runs while nothing else does, so that what waits is what waited in the whole. */
  private dispatchFragment(isOwn: boolean): void {
    const { steering, record, view, fabric } = this;
    const { off, capLen } = record;
    if (steering.isErrorFragment(view, off, capLen)) {
      throw new SlicesWontDo('a fragment of an ICMP error may be about a connection of another slice');
    }
    this.runDry();
    const datagram = steering.doubt(view, off, capLen);
    if (datagram !== '') {
      fabric.reassembly.purge(this.clock);
      steering.settle(datagram, fabric.reassembly.firstOf(datagram));
    }
    fabric.elsewhere = !isOwn;
    this.dispatch();
    this.runDry();
    fabric.elsewhere = false;
  }

  /** Runs what has been dispatched to its end. */
  private runDry(): void {
    this.fabric.flush();
    this.drain();
  }

  /** A checkpoint comes before the packet just read. Fragments that wait are not in one: it comes later then. */
  private isCheckpointDue(): boolean {
    const { checkpoints } = this.options;
    if (checkpoints === undefined || this.collector.dispatched === this.checkpointed) return false;
    const { coordinator, reassembly } = this.fabric;
    return reassembly.held === 0 && checkpoints.isDue(this.collector.dispatched, coordinator.connections);
  }

  private checkpoint(): void {
    const { fabric, collector, before, firstSec, firstNsec } = this;
    this.checkpointed = collector.dispatched;
    fabric.coordinator.settle(before);
    this.options.checkpoints!.take({
      packets: collector.dispatched,
      bytes: collector.bytes,
      clock: before,
      firstSec,
      firstNsec,
      tallies: addTallies(fabric.tallies),
      keeper: this.keeper!.save(),
    });
  }

  private goOn(state: ReplayState): void {
    const { fabric, collector, steering } = this;
    collector.resume(state.packets, state.bytes);
    this.packets = state.packets;
    this.checkpointed = state.packets;
    this.clock = this.before = collector.clock = state.clock;
    this.firstSec = state.firstSec;
    this.firstNsec = state.firstNsec;
    fabric.tallies[0].set(state.tallies);
    this.keeper!.restore(state.keeper);
    const { live } = state.keeper;
    const f64 = new Float64Array(live.buffer, live.byteOffset, live.length >> 1);
    for (let base = 0; base < live.length; base += ROW_WORDS) {
      const frame = frameOfRow(live, base);
      steering.locate(frame, 0, frame.byteLength);
      fabric.coordinator.restore(fabric.workers === 0 ? 0 : steering.home, live, f64, base);
    }
  }

  /** Whether it is known where the packet just read belongs. A fragment in doubt waits until all packets before it
   *  are done: then the fragments that are held tell. */
  private isSteered(): boolean {
    const { steering, record, collector, fabric, clock } = this;
    if (this.steered) {
      // A fragment may complete the datagram of a connection elsewhere, and a query whose id is not moved as its
      // connection says meets another connection: they run while nothing else does. So do all while packets may
      // leave connections ended at their own time: those of the same time before them could not tell.
      const { off, capLen } = record;
      const alone =
        fabric.coordinator.policies.endsAtOnce ||
        steering.isAlone(this.view, off, capLen, this.options.ordering.movesPorts);
      this.holding = (alone || this.alone) && collector.inFlight > 0;
      if (!this.holding) this.alone = alone;
      return !this.holding;
    }
    if (!steering.reassembles) return true;
    const datagram = steering.doubt(this.view, record.off, record.capLen);
    if (datagram === '') return true;
    this.holding = collector.inFlight > 0;
    if (this.holding) return false;
    fabric.reassembly.purge(clock);
    steering.settle(datagram, fabric.reassembly.firstOf(datagram));
    return true;
  }

  /** Damage ends the input; what came before it is finished and reported with it. */
  private read(source: PacketSource): ReadResult {
    try {
      return source.next(this.record);
    } catch (error) {
      if (!(error instanceof CaptureError)) throw error;
      this.damage = error;
      return ReadResult.END;
    }
  }

  /** Advances the clock to the packet just read: the running maximum of the timestamps. */
  private tick(): void {
    const { record } = this;
    const whole = this.options.source.clock ?? null;
    if (this.packets === 0) {
      this.firstSec = whole?.firstSec ?? record.sec;
      this.firstNsec = whole?.firstNsec ?? record.nsec;
    }
    this.before = Math.max(this.before, this.clock);
    const ms = whole === null ? this.millis(record.sec, record.nsec) : this.millis(whole.sec, whole.nsec);
    if (ms > this.clock) this.clock = ms;
  }

  /** Whole ms since the first packet. */
  private millis(sec: number, nsec: number): number {
    return (sec - this.firstSec) * 1000 + Math.floor((nsec - this.firstNsec) / 1e6);
  }

  private eventDue(): boolean {
    const event = this.events[this.nextEvent];
    if (event === undefined) return false;
    const { record } = this;
    return event.sec < record.sec || (event.sec === record.sec && event.nsec <= record.nsec);
  }

  /** Applies what is due, or what is left at the end; no packet is in flight. False if nothing was. */
  private fence(): boolean {
    const { fabric } = this;
    const first = this.nextEvent;
    while (this.nextEvent < this.events.length && (this.ended || (this.holding && this.eventDue()))) {
      this.apply(this.events[this.nextEvent++]);
    }
    if (this.holding) fabric.pipeline.expire(this.clock);
    fabric.tidy();
    return this.holding || this.nextEvent > first;
  }

  private apply(event: ControlEvent): void {
    const { fabric, options } = this;
    this.before = Math.max(this.before, this.millis(event.sec, event.nsec));
    const { pipeline } = options.translator;
    pipeline.expire(this.before);
    const outcome = runEvent(event, { fabric, pipeline, clock: this.before });
    if (outcome.error === null) this.outcomes.done++;
    else this.outcomes.refused++;
    options.onEvent?.(outcome);
  }

  /** Explains the packet just read; it ends the input. */
  private explainRecord(): void {
    const { record, options, view } = this;
    const { source, iface, off, capLen } = record;
    const inPort = options.portMap.portOf(source, iface, view, off, capLen);
    this.explanation = this.explain(new Uint8Array(options.arena.sab, off, capLen), inPort);
    options.arena.release(record.segment);
    this.ended = true;
  }

  /** Fills in a row for a frame and says what happens to it. */
  private explain(frame: Uint8Array, inPort: number): string[] {
    const { fabric, collector } = this;
    const { packets } = fabric;
    const arena = new SharedArrayBuffer(Math.max(1, frame.length));
    new Uint8Array(arena).set(frame);
    const slot = collector.dispatched % packets.slots;
    packets.off[slot] = 0;
    packets.capLen[slot] = packets.wireLen[slot] = frame.length;
    packets.seq[slot] = collector.dispatched;
    packets.clock[slot] = Math.max(this.clock, this.before);
    packets.inPort[slot] = inPort;
    const home = this.steered ? 0 : this.steer(slot, new DataView(arena), 0, frame.length);
    return fabric.explain(slot, home, arena);
  }

  private dispatch(): void {
    const { record, fabric, view } = this;
    const slot = this.collector.dispatched % fabric.packets.slots;
    this.dispatchTo(this.steer(slot, view, record.off, record.capLen));
  }

  /** Hands the packet just read to `home`. */
  private dispatchTo(home: number): void {
    const { record, fabric, collector, view, options } = this;
    const { packets } = fabric;
    const slot = collector.dispatched % packets.slots;
    packets.off[slot] = record.off;
    packets.capLen[slot] = record.capLen;
    packets.wireLen[slot] = record.wireLen;
    packets.sec[slot] = record.sec;
    packets.nsec[slot] = record.nsec;
    packets.seq[slot] = this.packets - 1;
    if (this.isShare) packets.number[slot] = options.source.clock!.packet;
    packets.clock[slot] = this.clock;
    packets.inPort[slot] = options.portMap.portOf(
      record.source,
      record.iface,
      view,
      record.off,
      record.capLen,
    );
    this.segments[slot] = record.segment;
    if (collector.inFlight === 0) collector.clock = this.clock;
    if (options.slice === undefined) this.keeper?.dispatched(collector.dispatched, this.clock);
    collector.dispatched++;
    fabric.dispatch(slot, home);
  }

  /** Gives the packet its hash; returns its home. */
  private steer(slot: number, view: DataView, off: number, len: number): number {
    const { fabric, steering } = this;
    const { packets, workers } = fabric;
    // Without workers, the hash matters to fragments alone.
    if (workers === 0 && !(steering.reassembles && steering.mayBeFragment(view, off, len))) return 0;
    steering.locate(view, off, len);
    packets.hash[slot] = steering.hash;
    return workers === 0 ? 0 : steering.home;
  }

  /** Whether the packet in `slot` may be an answer to one in flight, in steered mode. */
  private mayAnswer(slot: number): boolean {
    const { steering, view } = this;
    const { off, capLen } = this.fabric.packets;
    steering.locate(view, off[slot], capLen[slot]);
    return steering.mayAnswer(view);
  }

  private result(seconds: number): ReplayResult {
    const { collector, fabric, options } = this;
    const { coordinator } = fabric;
    // What ended by the time of the last packet or event is left out, as a lookup at that time would.
    const end = Math.max(this.clock, this.before);
    coordinator.settle(end + 1);
    this.keeper?.finish();
    const { partitions } = coordinator;
    const { pipeline } = fabric;
    collector.settle();
    return {
      packets: options.slice === undefined ? collector.head : this.packets,
      bytes: options.slice === undefined ? collector.bytes : this.bytes,
      seconds,
      captureSeconds: this.clock / 1000,
      passed: collector.passed,
      drops: collector.drops,
      dropsByStat: collector.dropsByStat,
      outByPort: collector.outByPort,
      controller: collector.controller,
      counters: fabric.counters(),
      upcalls: coordinator.upcalls,
      moved: fabric.homes?.nMoved ?? 0,
      ledger: coordinator.ledger,
      connections: coordinator.connections,
      connectionsOf: coordinator.byZone(),
      events: this.outcomes,
      dump: (dumpOptions) => dumpConntrack(partitions, end, dumpOptions),
      dumpJson: () => {
        const firstNs = BigInt(this.firstSec) * 1_000_000_000n + BigInt(this.firstNsec);
        return connectionsAt(partitions, end).map((c) =>
          connectionJson(c, end, firstNs, coordinator.limits.limitOf(c.zone)),
        );
      },
      census: () => census(partitions, end),
      dumpFlows: () => dumpFlows(pipeline, selectAll(catchAll()), end),
      dumpGroups: () => dumpGroups(pipeline, null) + dumpGroupStats(pipeline, null, end),
      dpflows: () => dumpDpFlows(fabric.megaflows, end),
      tallies: sumTallies(fabric.tallies),
      sharedBytes: coordinator.sharedBytes(),
      frameBytes: collector.chunkBytes,
      notices: [...options.source.notices],
      damage: this.damage,
      explanation: this.explanation,
    };
  }
}
