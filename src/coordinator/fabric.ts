/** The worker threads as the main thread sees them: shared memory, rings, requests and answers. The
 *  replay and the benchmark drive it; both dispatch packets into it and collect what comes out.
 *
 *  With no workers the datapath runs here and the coordinator answers it at once: a packet at a time, the reference
 *  that everything else must agree with (reference.ts), or a vector at a time (lane.ts). */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { Piscina } from 'piscina';
import { KEY_WORDS } from '../classifier/flow-key.js';
import type { Megaflow } from '../classifier/megaflow.js';
import { drawKeys } from '../conntrack/hash.js';
import { Arrival, FRAGMENT_HELD, Reassembly } from '../conntrack/ipf.js';
import {
  allocateEnded,
  allocatePartition,
  type PartitionMemory,
  PartitionWriter,
} from '../conntrack/partition.js';
import { allocateTimeouts } from '../conntrack/timeouts.js';
import { COMMIT_CONN, COMMIT_NAT } from '../datapath/control.js';
import { FrameChunk } from '../datapath/frames.js';
import { TALLY_WORDS } from '../datapath/recorder.js';
import {
  FRAGMENT_ANSWER,
  FRAGMENT_HEADER,
  LONGEST_REQUEST,
  MADE_WORDS,
  MAX_GRANTED,
  MAX_PARKED,
  MSG_ADOPT,
  MSG_COMMIT,
  MSG_FRAGMENT,
  MSG_MADE,
  MSG_NORMAL,
  MSG_SURRENDER,
  MSG_TURN,
  MSG_UPCALL,
  ORDERED_HEADER,
  REQUEST_RING_WORDS,
  readLayout,
  type ShardInit,
  writeLayout,
} from '../datapath/shard.js';
import { STAT_WORDS } from '../datapath/stats.js';
import type { Pipeline } from '../openflow/tables.js';
import type { Translator } from '../openflow/translate.js';
import { MESSAGE_HEADER, MessageReader, MessageWriter, WordRing } from '../rings/words.js';
import { Directory } from '../rss/directory.js';
import { TupleHash } from '../rss/steer.js';
import { defaultIndirection } from '../rss/toeplitz.js';
import {
  ASLEEP_FOR_SERVED,
  CONN,
  CTL_ASLEEP,
  CTL_BELL,
  CTL_EPOCH,
  CTL_GENERATION,
  CTL_GRANTING,
  CTL_LINE,
  CTL_MAIN_ASLEEP,
  CTL_MAIN_BELL,
  CTL_NO_SEQ_CHECK,
  CTL_SERVED,
  CTL_STOP,
  ctlWords,
} from '../shm/layouts.js';
import { PacketColumns, SUM_UNKNOWN } from '../shm/packets.js';
import { checkRoom } from '../shm/room.js';
import { VLAN_LIMIT } from '../wire/extract.js';
import { Ahead, BEHIND } from './ahead.js';
import { CommonEpoch } from './common-epoch.js';
import { Coordinator } from './coordinator.js';
import { arrive, Direct } from './direct.js';
import { explain } from './explain.js';
import { type Ask, Homes } from './homes.js';
import { Lane } from './lane.js';
import type { LocalDatapath } from './local.js';
import { OrderedRequests } from './ordered.js';
import { Reference } from './reference.js';
import type { WorkerState } from './watchdog.js';

/** Packets that a worker takes from its ring at a time. */
export const DEFAULT_VECTOR = 256;
/** Connections that the tracker holds unless told otherwise (dpctl/ct-get-maxconns of Open vSwitch). */
export const DEFAULT_MAX_CONNS = 3_000_000;
const REPLY_RING_WORDS = 1 << 18;
const TEMPLATE_RING_WORDS = 1 << 18;
const DISPATCH_BATCH = 128;
/** Slots that a worker is granted at first. */
const FIRST_GRANTED = 256;
/** Connections whose places in the index are touched before they are entered. */
const ENTERED_AT_ONCE = 32;
/** Answers that a worker gets at a time. */
const ANSWER_BATCH = 128;
/** Commits whose cache misses overlap, and packets between two sweeps. */
const TOUCHED_AT_ONCE = 64;
const SWEPT_AFTER = 256;
const NONE: readonly number[] = [];
const PATIENCE_STEP_MS = 250;
/** Between two looks at a ring of answers that is full. */
const FULL_RING_MS = 0.1;

export interface FabricOptions {
  /** 0: everything on this thread. */
  workers: number;
  /** Without workers: a vector at a time. */
  vectors?: boolean;
  /** One partition for all workers, and homes that connections change (homes.ts). */
  steered?: boolean;
  /** In steered mode: whether the packet in a window slot may be an answer to one in flight. */
  mayAnswer?: (slot: number) => boolean;
  /** Packets in flight at most: rows of the descriptor columns. */
  slots: number;
  arena: SharedArrayBuffer;
  translator: Translator;
  ports: readonly number[];
  maxConns?: number;
  /** Connections that there must be room for: the most that maxConns will be set to. */
  capacity?: number;
  vector?: number;
  /** Packets whose commit is refused are dropped. */
  strict?: boolean;
  /** ct() takes checksums for right. */
  ignoreChecksums?: boolean;
  /** VLAN tags that are looked behind: 1 or 2. */
  vlanLimit?: number;
  /** Keep what dumpDpFlows needs. */
  dpflows?: boolean;
  /** Keep records of connections. */
  records?: boolean;
  /** The input is a share of a source, whose numbers its packets keep. */
  share?: boolean;
  /** With `records`, in the lane: the table does nothing but track everything in zone 0. */
  tracksAll?: boolean;
  /** Key of the tables' hashes and of HASH; drawn unless it is given. */
  seed?: number;
  /** Test only: seed of random delays in workers and coordinator; 0 for none. */
  jitter?: number;
  /** Test only: makes the first worker fail. */
  fault?: ShardInit['fault'];
  /** Test only: words that the rings of requests, answers and templates hold. Those of packets hold as many as may be in
   *  flight. */
  ringWords?: number;
  /** Test only: ms that the main thread waits before each look at the rings. */
  slow?: number;
  /** Entry point of the workers and what it gets as workerData, if it is not the ordinary one: benchmarks. */
  worker?: { file: string; data: unknown };
}

/** Switches packets that `normal` sends, one after the other in input order (Coordinator). */
export interface Bridge {
  forward(
    dstHi: number,
    dstLo: number,
    srcHi: number,
    srcLo: number,
    vlan: number,
    inPort: number,
    now: number,
  ): number;
  portsOf(to: number, inPort: number, ports: number[]): number;
}

/** Whoever takes the completed packets. */
export interface Completions {
  /** Switches those that workers have left to be switched in their turn. Set by `Fabric.start`. */
  bridge: Bridge | null;
  /** Packets collected. */
  readonly head: number;
  /** Clock in ms of the oldest packet that is not collected. */
  readonly clock: number;
  /** Sequence number of the packet whose turn it is to be answered in order: all before it are complete or
   *  have had the answer to their last request. */
  turn(): number;
  /** The packet in `slot` has had the answer to its last request, and is through `cts` ct() by now. */
  answered(slot: number, cts: number): void;
  /** Packets in flight, and packets that have been completed. */
  readonly inFlight: number;
  readonly completed: number;
  /** Whether the packet in `slot` is complete. */
  isDone(slot: number): boolean;
  template(worker: number, id: number, words: Int32Array): void;
  chunk(worker: number, id: number, chunk: FrameChunk): void;
  complete(worker: number, slots: Int32Array, n: number): void;
  /** Emits what is complete and in turn. False if that was nothing. */
  drain(): boolean;
}

/** One worker's rings, from this side. */
class Link {
  readonly work: WordRing;
  readonly done: WordRing;
  readonly requests: MessageReader;
  readonly replies: MessageWriter;
  readonly templates: MessageReader;
  /** Slots in which the worker may make connections; null in steered mode. */
  readonly grants: WordRing | null;
  /** How many it has, and is to have. */
  granted = 0;
  toGrant = FIRST_GRANTED;
  /** Connections that it has made and that can be found, modulo 2^32. */
  served = 0;
  readonly port: MessagePort;
  /** Chunks of changed frames. */
  readonly chunks: FrameChunk[] = [];
  readonly batch = new Int32Array(DISPATCH_BATCH);
  nBatch = 0;

  constructor(init: ShardInit, port: MessagePort) {
    this.work = new WordRing(init.work);
    this.done = new WordRing(init.done);
    this.requests = new MessageReader(new WordRing(init.requests), REQUEST_RING_WORDS);
    this.replies = new MessageWriter(new WordRing(init.replies));
    this.templates = new MessageReader(new WordRing(init.templates), TEMPLATE_RING_WORDS);
    this.grants = init.grants === null ? null : new WordRing(init.grants);
    this.port = port;
  }
}

export class Fabric {
  /** Key of the tables' hashes, and of HASH. */
  readonly seed: number;
  readonly packets: PacketColumns;
  readonly coordinator: Coordinator;
  readonly pipeline: Pipeline;
  private readonly translator: Translator;
  /** In steered mode: where packets go. */
  readonly homes: Homes | null = null;
  /** Window slot of the packet whose commit is being answered. */
  private committing = 0;
  /** Fragments that wait in ct(). */
  readonly reassembly = new Reassembly();
  private readonly arrival: Arrival;
  private readonly arena: { u8: Uint8Array; view: DataView };
  readonly workers: number;
  /** Set when a worker has failed; the run can't go on. */
  failure: Error | null = null;
  /** Resolves when that happens. */
  readonly failed: Promise<void>;
  /** Each worker's megaflows, once it has stopped. */
  readonly megaflows: (readonly Megaflow[])[] = [];
  private fail: () => void = () => {};
  private readonly ctl: Int32Array;
  private readonly partitions: PartitionMemory[] = [];
  private readonly strict: boolean;
  /** What it does while workers are behind; null if ct() takes checksums for right. */
  private readonly ahead: Ahead | null;
  private readonly behindAt: number;
  private readonly entry: { file: string; data: unknown };
  private readonly stats: Float64Array[] = [];
  /** Counters of each recorder. */
  readonly tallies: Float64Array[] = [];
  private readonly links: Link[] = [];
  private readonly inits: ShardInit[] = [];
  /** Requests whose answers depend on everything before them in the input. */
  private readonly ordered: OrderedRequests;
  /** In steered mode: packets dispatched whose homes are to be found, and these. */
  private readonly strays = new Int32Array(DISPATCH_BATCH);
  private readonly strayHomes = new Int32Array(DISPATCH_BATCH);
  private nStrays = 0;
  private readonly popped: Int32Array;
  /** Slots that one worker may have: the packets in flight are all workers' together. */
  private readonly mostGranted: number;
  private readonly grants = new Int32Array(MAX_GRANTED);
  private pool: Piscina | null = null;
  private tasks: Promise<unknown>[] = [];
  private random: number;
  private readonly slow: number;

  /** Without workers. */
  private readonly local: LocalDatapath | null = null;
  private readonly direct: Direct;
  private epoch = 0;
  /** Generation of the tables that caches know of. */
  private generation: number;
  /** The generation when nothing of former ones was left. */
  private tidied: number;
  private completions: Completions | null = null;

  constructor(options: FabricOptions) {
    const o = {
      maxConns: DEFAULT_MAX_CONNS,
      vector: DEFAULT_VECTOR,
      strict: false,
      ignoreChecksums: false,
      vlanLimit: VLAN_LIMIT,
      dpflows: false,
      records: false,
      tracksAll: false,
      vectors: false,
      seed: drawKeys(1)[0],
      jitter: 0,
      ...options,
      steered: options.steered === true && options.workers > 0,
    };
    this.seed = o.seed;
    this.workers = o.workers;
    this.mostGranted = Math.ceil(MAX_GRANTED / Math.max(1, o.workers));
    this.pipeline = o.translator.pipeline;
    this.generation = this.tidied = this.pipeline.generation;
    this.translator = o.translator;
    this.failed = new Promise((resolve) => {
      this.fail = resolve;
    });
    this.strict = o.strict;
    this.entry = options.worker ?? {
      file: fileURLToPath(new URL('../../workers/shard.js', import.meta.url)),
      data: null,
    };
    this.random = o.jitter;
    this.slow = o.slow ?? 0;
    this.arena = { u8: new Uint8Array(o.arena), view: new DataView(o.arena) };
    this.arrival = new Arrival(this.arena.u8, this.arena.view);
    this.packets = new PacketColumns(o.slots, undefined, o.share ?? false);
    this.ahead = o.ignoreChecksums ? null : new Ahead(this.packets, o.arena);
    this.behindAt = Math.min(BEHIND, o.slots >> 2);
    this.popped = new Int32Array(o.slots);
    this.ordered = new OrderedRequests(o.slots, LONGEST_REQUEST);
    const ctl = new SharedArrayBuffer(ctlWords(o.workers) * 4);
    this.ctl = new Int32Array(ctl);
    const homes = Math.max(1, o.workers);
    // Slots in limbo can't be used yet: as many more as there can be commits before the epoch moves on.
    const capacity = Math.max(o.maxConns, o.capacity ?? 0) + o.slots + 4 * MAX_PARKED + MAX_GRANTED;
    const partitions: PartitionWriter[] = [];
    const stats: SharedArrayBuffer[] = [];
    const tallies: SharedArrayBuffer[] = [];
    const timeouts = allocateTimeouts();
    for (let id = 0; id < homes; id++) {
      let partition = this.partitions[0];
      if (!o.steered) {
        partition = allocatePartition(capacity, o.seed, timeouts, o.records);
        const epochAt = (2 * id + 2) * CTL_LINE + CTL_EPOCH;
        // On this thread nothing is searched for while the coordinator is at work.
        const epoch = o.workers === 0 ? () => ++this.epoch : () => Atomics.load(this.ctl, epochAt);
        this.partitions.push(partition);
        partitions.push(new PartitionWriter(partition, epoch));
      } else if (id === 0) {
        partition = allocatePartition(capacity, o.seed, timeouts, false, true);
        this.partitions.push(partition);
        // All workers have finished a vector between two steps of this epoch.
        const epoch = new CommonEpoch(this.ctl, o.workers);
        partitions.push(new PartitionWriter(partition, () => epoch.now(), 2));
      } else {
        partition = { ...partition, ended: allocateEnded() };
        partitions[0].share(partition.ended);
      }
      stats.push(new SharedArrayBuffer(STAT_WORDS * 8));
      this.stats.push(new Float64Array(stats[id]));
      if (o.records) {
        tallies.push(new SharedArrayBuffer(TALLY_WORDS * 8));
        this.tallies.push(new Float64Array(tallies[id]));
      }
      if (o.workers === 0) break;
      const channel = new MessageChannel();
      const init: ShardInit = {
        id,
        arena: o.arena,
        packets: this.packets.sab,
        slots: o.slots,
        partition,
        ctl,
        stats: stats[id],
        tallies: tallies[id] ?? null,
        work: WordRing.allocate(o.slots + 1),
        done: WordRing.allocate(o.slots + 1),
        requests: WordRing.allocate(o.ringWords ?? REQUEST_RING_WORDS),
        replies: WordRing.allocate(o.ringWords ?? REPLY_RING_WORDS),
        templates: WordRing.allocate(o.ringWords ?? TEMPLATE_RING_WORDS),
        grants: o.steered ? null : WordRing.allocate(MAX_GRANTED),
        port: channel.port2,
        vector: o.vector,
        strict: o.strict,
        ignoreChecksums: o.ignoreChecksums,
        vlanLimit: o.vlanLimit,
        steered: o.steered,
        tracksAll: false,
        dpflows: o.dpflows,
        jitter: o.jitter === 0 ? 0 : o.jitter + id + 1,
        fault: id === 0 ? (o.fault ?? null) : null,
      };
      this.inits.push(init);
      this.links.push(new Link(init, channel.port1));
    }
    this.coordinator = new Coordinator(partitions, o.translator, o.ports, o.maxConns);
    const { coordinator, packets, pipeline } = this;
    this.direct = new Direct(coordinator, pipeline, packets, this.reassembly, o.arena);
    if (o.workers === 0) {
      const { vectors, arena, vector, strict, ignoreChecksums, vlanLimit, tracksAll, dpflows, jitter } = o;
      const shared = { arena, vector, strict, ignoreChecksums, vlanLimit, tracksAll, dpflows, jitter };
      const memory = { partition: this.partitions[0], stats: stats[0], tallies: tallies[0] ?? null };
      const local = { ...shared, ...memory, packets, pipeline, control: this.direct };
      this.local = vectors ? new Lane(local) : new Reference(local);
    }
    if (!o.steered) {
      for (const [id, link] of this.links.entries()) this.grant(link, id);
      return;
    }
    const { mayAnswer } = options;
    this.homes = new Homes({
      packets,
      directory: new Directory(o.slots, o.seed),
      tuples: new TupleHash(o.seed),
      indirection: defaultIndirection(o.workers),
      capacity,
      isDone: (slot) => this.completions!.isDone(slot),
      // Test only: by chance.
      mayAnswer: o.jitter === 0 && mayAnswer !== undefined ? mayAnswer : () => this.coin(),
    });
    const { homes: steering } = this;
    coordinator.onMade = (slot) => steering.made(partitions[0], slot, this.committing);
    coordinator.onRemoved = (slot) => steering.removed(slot);
    partitions[0].onTouch = (slots, n) => steering.touchRemoved(slots, n);
    this.touchReplies = (proto, src, dst, ports) => steering.touchTuple(proto, src, dst, ports);
  }

  /** Starts the threads; or has `instead` do what each would do. */
  start(completions: Completions, instead: ((init: ShardInit) => void) | null = null): void {
    this.completions = completions;
    completions.bridge = this.coordinator;
    if (this.local !== null) {
      this.local.completions = completions;
      return;
    }
    if (instead !== null) {
      for (const init of this.inits) instead(init);
      return;
    }
    checkRoom(this.workers);
    // Not before there are threads to start: it is as much to load as half of the datapath.
    const { Piscina: Pool } = createRequire(import.meta.url)('piscina') as typeof import('piscina');
    this.pool = new Pool({
      filename: this.entry.file,
      workerData: this.entry.data,
      minThreads: this.workers,
      maxThreads: this.workers,
      concurrentTasksPerWorker: 1,
    });
    this.tasks = this.inits.map((init, id) =>
      this.pool!.run(init, { transferList: [init.port] }).catch((error: Error) => {
        this.failure ??= new Error(`worker ${id} failed: ${error.message}`, { cause: error });
        this.fail();
      }),
    );
  }

  /** In a slice: the packets that are dispatched now are fragments that another slice tracks. */
  set elsewhere(on: boolean) {
    (this.local as Lane).elsewhere = on;
  }

  /** Hands the packet in `slot` to its home; in steered mode it finds that by HASH. Its row must be complete. */
  dispatch(slot: number, home: number): void {
    if (this.local !== null) {
      this.local.take(slot);
    } else if (this.homes === null) {
      this.push(slot, home);
    } else {
      this.strays[this.nStrays++] = slot;
      if (this.nStrays === DISPATCH_BATCH) this.steer(this.homes);
    }
  }

  /** Hands packets to their homes, as far as they are not kept. */
  private steer(homes: Homes): void {
    const { strays, strayHomes, nStrays } = this;
    this.nStrays = 0;
    homes.steer(strays, nStrays, strayHomes);
    for (let i = 0; i < nStrays; i++) {
      if (strayHomes[i] >= 0) this.push(strays[i], strayHomes[i]);
      else this.packets.sums[strays[i]] = SUM_UNKNOWN;
    }
  }

  private push(slot: number, home: number): void {
    const link = this.links[home];
    link.batch[link.nBatch++] = slot;
    if (link.nBatch === DISPATCH_BATCH) this.flushLink(link, home);
  }

  /** Publishes what has been dispatched; without workers, runs it. */
  flush(): void {
    this.local?.finish();
    if (this.homes !== null && this.nStrays > 0) this.steer(this.homes);
    for (let home = 0; home < this.links.length; home++) this.flushFor(home);
  }

  private flushLink(link: Link, home: number): void {
    // Before the packets: those that follow are counted when next it is looked at.
    if (this.homes === null) {
      const granting = this.coordinator.commitsFreely(this.completions!.inFlight) ? 1 : 0;
      if (granting !== this.granting) {
        this.granting = granting;
        Atomics.store(this.ctl, CTL_GRANTING, granting);
      }
    }
    this.ahead?.prepare(link.batch, link.nBatch, this.completions!.inFlight > this.behindAt);
    if (this.homes !== null && link.replies.pending && !link.replies.flush()) {
      // What is left of the answers may tell of packets that come before these: so they come behind it, by the same ring.
      const r = link.replies.begin(MSG_ADOPT, 0, link.nBatch);
      link.replies.words.set(link.batch.subarray(0, link.nBatch), r);
    } else if (!link.work.push(link.batch, link.nBatch)) {
      // It has room for every slot there is.
      throw new Error('dispatcher: ring overflow');
    }
    link.nBatch = 0;
    this.wake(home);
  }

  /** CTL_GRANTING. */
  private granting = 0;

  private wake(worker: number): void {
    if (Atomics.load(this.ctl, (2 * worker + 2) * CTL_LINE + CTL_ASLEEP) === 0) return;
    const bell = (2 * worker + 1) * CTL_LINE + CTL_BELL;
    Atomics.add(this.ctl, bell, 1);
    Atomics.notify(this.ctl, bell);
  }

  /** Serves requests and takes completions. False if there were none. */
  poll(): boolean {
    let any = false;
    const { links } = this;
    if (links.length === 0) return false;
    if (this.slow > 0) Atomics.wait(this.never, 0, 0, this.slow);
    // Test only: workers in random order, and sometimes not at all.
    const first = this.random === 0 ? 0 : this.next() % links.length;
    for (let i = 0; i < links.length; i++) {
      if (this.random !== 0 && this.next() % 4 === 0) {
        any = true;
        continue;
      }
      const worker = (first + i) % links.length;
      if (this.attend(worker)) any = true;
    }
    if ((this.ordered.size > 0 || this.homes?.moving || this.homes?.keeping) && this.serveOrdered())
      any = true;
    for (let worker = 0; worker < links.length; worker++) this.flushReplies(worker);
    return any;
  }

  /** Requests, templates and chunks before the completions of their packets. They may arrive before these, not
   *  after: so completions are taken out of their ring first. */
  private attend(worker: number): boolean {
    const n = this.links[worker].done.pop(this.popped, this.popped.length);
    const served = this.serve(worker);
    const told = this.takeTemplates(worker);
    if (n === 0) return served || told;
    this.takeChunks(worker);
    this.completions!.complete(worker, this.popped, n);
    return true;
  }

  private takeTemplates(worker: number): boolean {
    const { templates } = this.links[worker];
    let any = false;
    for (let m = templates.next(); m >= 0; m = templates.next()) {
      const { words } = templates;
      this.completions!.template(worker, words[m + 2], words.slice(m + MESSAGE_HEADER, m + words[m]));
      any = true;
    }
    return any;
  }

  private takeChunks(worker: number): void {
    const { port } = this.links[worker];
    for (let got = receiveMessageOnPort(port); got !== undefined; got = receiveMessageOnPort(port)) {
      const { id, sab } = got.message as { id: number; sab: SharedArrayBuffer };
      const chunk = new FrameChunk(sab);
      this.links[worker].chunks[id] = chunk;
      this.completions!.chunk(worker, id, chunk);
    }
  }

  private serve(worker: number): boolean {
    const link = this.links[worker];
    const { requests } = link;
    let n = 0;
    let made = 0;
    let touched = 0;
    for (let m = requests.next(); m >= 0; m = requests.next()) {
      const { words } = requests;
      if (this.touchReplies !== null && (m >= touched || m === 0)) touched = this.touch(worker, m);
      // It can go on while the others are answered.
      if (++n % ANSWER_BATCH === 0) this.flushReplies(worker);
      if (words[m + 1] === MSG_MADE) made += this.enter(worker, words, m + MESSAGE_HEADER, m + words[m]);
      else this.answer(worker, words, m, false);
    }
    if (made > 0) this.servedMade(link, worker, made);
    return n > 0;
  }

  private flushReplies(worker: number): void {
    const { replies } = this.links[worker];
    if (!replies.pending) return;
    replies.flush();
    this.wake(worker);
  }

  /** Enters the connections of which a worker tells in `words[from..end)`; returns how many. */
  private enter(worker: number, words: Int32Array, from: number, end: number): number {
    const { coordinator } = this;
    const { clock } = this.packets;
    let sink = 0;
    for (let at = from; at < end; ) {
      const next = Math.min(end, at + ENTERED_AT_ONCE * MADE_WORDS);
      for (let t = at; t < next; t += MADE_WORDS) sink ^= coordinator.touch(worker, words[t], words[t + 2]);
      for (; at < next; at += MADE_WORDS) {
        const now = clock[words[at + 1]];
        coordinator.made(worker, words[at], words[at + 2], words[at + 3], now + words[at + 4], now);
      }
    }
    this.sink = sink;
    return (end - from) / MADE_WORDS;
  }

  /** In steered mode: touches what the commits among the messages of a worker, from that at `m` on, will change; returns
   *  up to where. */
  private touch(worker: number, m: number): number {
    const { requests } = this.links[worker];
    const { words, end } = requests;
    const { coordinator, packets } = this;
    const touchReplies = this.touchReplies!;
    let sink = 0;
    let commits = 0;
    let at = m;
    for (; at < end && at + words[at] <= end && commits < TOUCHED_AT_ONCE; at += words[at]) {
      if (words[at + 1] !== MSG_COMMIT) continue;
      const payload = at + MESSAGE_HEADER;
      commits++;
      const row = words[payload];
      sink ^= this.homes!.touchHash(packets.hash[row]);
      sink ^= coordinator.touchCommit(0, words, payload + ORDERED_HEADER, packets.seq[row], touchReplies);
    }
    if (commits > 0) sink ^= coordinator.partitions[0].touchFree(commits);
    this.sink = sink;
    return at;
  }
  /** In steered mode: touches what a connection's tuple changes in the directory. */
  private touchReplies: ((proto: number, src: number, dst: number, ports: number) => number) | null = null;
  /** Keeps the loads of `touch` alive. */
  sink = 0;

  /** `n` more of the connections that a worker has made can be found. */
  private servedMade(link: Link, worker: number, n: number): void {
    link.served = (link.served + n) | 0;
    Atomics.store(this.ctl, (2 * worker + 1) * CTL_LINE + CTL_SERVED, link.served);
    if (Atomics.load(this.ctl, (2 * worker + 2) * CTL_LINE + CTL_ASLEEP) === ASLEEP_FOR_SERVED)
      this.wake(worker);
    link.granted -= n;
    // It is not to run out of them between two turns.
    if (2 * n >= link.toGrant) link.toGrant = Math.min(this.mostGranted, 4 * link.toGrant);
    this.grant(link, worker);
  }

  /** Gives a worker slots, if there are any. */
  private grant(link: Link, worker: number): void {
    const { grants } = this;
    const most = link.toGrant - link.granted;
    let n = 0;
    while (n < most) {
      const slot = this.coordinator.reserve(worker);
      if (slot < 0) break;
      grants[n++] = slot;
    }
    // The ring has room for as many as there may be.
    if (!link.grants!.push(grants, n)) throw new Error('conntrack: ring of granted slots overflows');
    link.granted += n;
  }

  /** Answers the message at `m`, or puts it off until its packet is the oldest. */
  private answer(worker: number, words: Int32Array, m: number, inTurn: boolean): void {
    const { coordinator, packets } = this;
    const { replies } = this.links[worker];
    const type = words[m + 1];
    const token = words[m + 2];
    const payload = m + MESSAGE_HEADER;
    if (type === MSG_UPCALL) {
      const key = words.slice(payload, payload + KEY_WORDS);
      const { program, mask } = coordinator.translate(key);
      const at = replies.begin(MSG_UPCALL, token, 2 * KEY_WORDS + program.length);
      replies.words.set(key, at);
      replies.words.set(mask, at + KEY_WORDS);
      replies.words.set(program, at + 2 * KEY_WORDS);
      return;
    }
    if (type === MSG_SURRENDER) {
      this.homes!.surrendered(token, words.subarray(payload, m + words[m]));
      return;
    }
    const slot = words[payload];
    const seq = packets.seq[slot];
    const completions = this.completions!;
    if (this.homes !== null) {
      // In steered mode all of it depends on order.
      const early = !inTurn && (seq !== completions.turn() || this.homes.isCalledBack(slot));
      if (early || (!inTurn && this.mustWait(words, m, slot))) {
        this.ordered.put(slot, worker, words, m, words[m]);
        return;
      }
    } else if (!inTurn && seq !== completions.turn()) {
      // What a connection is translated to depends on those before it.
      const request = payload + ORDERED_HEADER;
      const translates = type === MSG_COMMIT && (words[request] & COMMIT_NAT) !== 0;
      const zone = words[request + COMMIT_CONN + CONN.at.ZONE_PROTO] >>> 16;
      // A fragment for which there is no room is answered the same whenever it is. It matters in a flood: what becomes of it
      // is not known before it is complete, so in turn there would be one round trip for each.
      const refused = type === MSG_FRAGMENT && this.reassembly.isFull(packets.clock[slot]);
      if (
        !refused &&
        (type !== MSG_COMMIT || translates || coordinator.nearLimit(zone, completions.inFlight))
      ) {
        this.ordered.put(slot, worker, words, m, words[m]);
        return;
      }
    } else if (!inTurn && this.mustWait(words, m, slot)) {
      this.ordered.put(slot, worker, words, m, words[m]);
      return;
    }
    if (type === MSG_COMMIT) {
      const at = payload + ORDERED_HEADER;
      // In turn, no packet before this one looks a connection up any more.
      this.committing = slot;
      const home = this.homes === null ? worker : 0;
      const got = coordinator.commit(home, words, at, seq, packets.clock[slot]);
      if (this.homes?.mustMove) {
        this.homes.begin(worker, token, this.callBack);
      } else {
        this.answerCommit(worker, token, got, got < 0 || this.homes === null ? NONE : this.homes.arrivals);
      }
    } else if (type === MSG_TURN) {
      replies.begin(MSG_TURN, token, 0);
    } else if (type === MSG_FRAGMENT) {
      if (this.answerFragment(worker, words, m) !== FRAGMENT_HELD) return;
    } else {
      const key = words.slice(payload + ORDERED_HEADER, payload + ORDERED_HEADER + KEY_WORDS);
      const ports: number[] = [];
      const reason = coordinator.normal(key, packets.clock[slot], ports);
      const r = replies.begin(MSG_NORMAL, token, 1 + ports.length);
      replies.words[r] = reason;
      for (let i = 0; i < ports.length; i++) replies.words[r + 1 + i] = ports[i];
    }
    const last = words[payload + 1];
    if (last > 0) completions.answered(slot, last - 1);
  }

  /** Whether the message at `m` is a commit at a limit that has its turn, but has to wait until all packets before it are
   *  collected. To make room for it, connections go that have ended by its own clock. One of a packet before it could be
   *  among them which has had the answer to its last request, but may not have seen it yet. That is made at its own time, or
   *  put off then, and so lives for the shortest timeout; but what the verdict is goes into records of those that it has
   *  ended, too. */
  private mustWait(words: Int32Array, m: number, slot: number): boolean {
    if (words[m + 1] !== MSG_COMMIT) return false;
    const { coordinator, packets } = this;
    const completions = this.completions!;
    if (completions.head >= packets.seq[slot]) return false;
    const record = m + MESSAGE_HEADER + ORDERED_HEADER + COMMIT_CONN;
    if (!coordinator.isFull(words[record + CONN.at.ZONE_PROTO] >>> 16)) return false;
    return (
      coordinator.keeper !== null || packets.clock[slot] - completions.clock >= coordinator.shortestTimeout
    );
  }

  /** Answers MSG_COMMIT; `rows` come to the packet that asked. */
  private answerCommit(worker: number, token: number, got: number, rows: readonly number[]): void {
    const n = rows.length;
    if (n > 0) this.flushFor(worker);
    const { replies } = this.links[worker];
    const r = replies.begin(MSG_COMMIT, token, 1 + n);
    const { words } = replies;
    words[r] = got;
    for (let i = 0; i < n; i++) words[r + 1 + i] = rows[i];
  }

  /** Answers MSG_FRAGMENT; returns the answer. */
  private answerFragment(worker: number, words: Int32Array, m: number): number {
    const { packets, arrival, reassembly } = this;
    const { replies, chunks } = this.links[worker];
    const payload = m + MESSAGE_HEADER;
    const slot = words[payload];
    const chunk = words[payload + 3];
    // The chunk was announced before the worker wrote to it.
    if (chunk >= 0 && chunks[chunk] === undefined) this.takeChunks(worker);
    const { u8, view } = chunk < 0 ? this.arena : chunks[chunk];
    arrival.u8 = u8;
    arrival.view = view;
    arrival.off = words[payload + 4];
    arrival.len = words[payload + 5];
    readLayout(words, payload + 6, arrival.layout);
    const key = payload + ORDERED_HEADER + FRAGMENT_HEADER;
    // In steered mode any worker may have the datagram: it alone is in flight.
    const hash = this.homes === null ? packets.hash[slot] : 0;
    arrival.packet(words.subarray(key, key + KEY_WORDS), words[payload + 2], hash);
    arrival.home = worker;
    const answer = arrive(reassembly, arrival, packets.clock[slot]);
    const { completed } = reassembly;
    const size = completed.reduce(
      (n, { bytes }) => n + FRAGMENT_ANSWER + KEY_WORDS + (((bytes?.length ?? 0) + 3) >> 2),
      1,
    );
    let r = replies.begin(MSG_FRAGMENT, words[m + 2], size);
    const out = replies.words;
    out[r++] = answer;
    for (const { bytes, layout, key } of completed) {
      out[r] = bytes === null ? -1 : bytes.length;
      writeLayout(out, r + 1, layout);
      out.set(key, r + FRAGMENT_ANSWER);
      r += FRAGMENT_ANSWER + KEY_WORDS;
      if (bytes === null) continue;
      new Uint8Array(out.buffer, out.byteOffset + r * 4).set(bytes);
      r += (bytes.length + 3) >> 2;
    }
    return answer;
  }

  /** Answers the requests whose turn it is, one after the other. */
  private serveOrdered(): boolean {
    const { ordered } = this;
    const completions = this.completions!;
    let any = false;
    for (;;) {
      const seq = completions.turn();
      const slot = seq % this.packets.slots;
      if (!ordered.has(slot)) {
        if (this.homes?.keeping && this.letGo(slot)) any = true;
        break;
      }
      if (this.homes?.isCalledBack(slot) || this.mustWait(ordered.words, ordered.at(slot), slot)) break;
      any = true;
      const worker = ordered.worker(slot);
      this.answer(worker, ordered.words, ordered.take(slot), true);
    }
    if (this.homes !== null && this.finishMoves()) any = true;
    return any;
  }

  /** Before a worker is told of packets, it finds in its ring all that were dispatched before. */
  private flushFor(worker: number): void {
    const link = this.links[worker];
    if (link.nBatch > 0) this.flushLink(link, worker);
  }

  /** Asks a worker for packets that are to go elsewhere. */
  private readonly callBack: Ask = (worker, move, hash, rows) => {
    this.flushFor(worker);
    const { replies } = this.links[worker];
    const r = replies.begin(MSG_SURRENDER, move.id, 1 + rows.length);
    replies.words[r] = hash;
    replies.words.set(rows, r + 1);
  };

  /** The packet in `slot` has its turn: if it is kept, it goes to its home, with others that are kept. */
  private letGo(slot: number): boolean {
    const homes = this.homes as Homes;
    const rows = homes.letGo(slot);
    if (rows === null) return false;
    const home = homes.homeOf(this.packets.hash[slot]);
    this.flushFor(home);
    const { replies } = this.links[home];
    const r = replies.begin(MSG_ADOPT, 0, rows.length);
    replies.words.set(rows, r);
    return true;
  }

  /** Answers the commits whose packets from elsewhere have come. */
  private finishMoves(): boolean {
    const homes = this.homes as Homes;
    const [partition] = this.coordinator.partitions;
    let any = false;
    for (let move = homes.finished(); move !== null; move = homes.finished()) {
      any = true;
      partition.publishReply(move.slot);
      this.flushFor(move.worker);
      for (const row of move.rows) if (this.ordered.has(row)) this.ordered.take(row);
      this.answerCommit(move.worker, move.token, move.slot, move.rows);
      homes.goOn(this.callBack);
    }
    return any;
  }

  /** Makes caches forget what they have of older tables, if the tables have changed. With workers only
   *  while no packet is in flight. */
  revalidate(): void {
    const { generation } = this.pipeline;
    if (generation === this.generation) return;
    this.generation = generation;
    Atomics.store(this.ctl, CTL_GENERATION, generation);
    this.local?.forget();
  }

  /** Whether `tidy` is due. */
  get crowded(): boolean {
    return this.translator.crowded;
  }

  /** Forgets what only programs of former generations name, or all of it if there is too much. Only while no
   *  packet is in flight. */
  tidy(): void {
    if (this.crowded) this.pipeline.renew();
    this.revalidate();
    if (this.tidied === this.generation) return;
    this.tidied = this.generation;
    // Workers empty their caches before their next packet.
    this.local?.forget();
    this.translator.forget();
  }

  /** A slice of the sweep: when so many packets have come that it finds several to remove at a time, and so large
   *  that it keeps up if each of them has opened a connection. */
  sweep(budget: number): void {
    const { completed, clock } = this.completions!;
    const come = completed - this.sweptAt;
    if (come < SWEPT_AFTER) return;
    this.sweptAt = completed;
    this.coordinator.sweep(clock, budget + 2 * come);
  }
  /** Packets completed at the last sweep. */
  private sweptAt = 0;

  /** Waits until a worker has something, at most `ms`. A worker that makes room for the rest of an answer does not say
   *  so. */
  sleep(ms: number): void {
    const { ctl } = this;
    const bell = Atomics.load(ctl, CTL_MAIN_BELL);
    Atomics.store(ctl, CTL_MAIN_ASLEEP, 1);
    const most = this.links.some((link) => link.replies.pending) ? Math.min(ms, FULL_RING_MS) : ms;
    if (this.quiet()) Atomics.wait(ctl, CTL_MAIN_BELL, bell, most);
    Atomics.store(ctl, CTL_MAIN_ASLEEP, 0);
  }

  private quiet(): boolean {
    for (const { done, requests, templates } of this.links) {
      if (!done.empty() || !requests.empty() || !templates.empty()) return false;
    }
    return true;
  }

  get sequenceCheck(): boolean {
    return Atomics.load(this.ctl, CTL_NO_SEQ_CHECK) === 0;
  }

  /** dpctl/ct-{en,dis}able-tcp-seq-chk; only while no packet is in flight. */
  setSequenceCheck(on: boolean): void {
    Atomics.store(this.ctl, CTL_NO_SEQ_CHECK, on ? 0 : 1);
    if (this.local !== null) this.local.checkSequence = on;
  }

  /** Counters of all workers together (see STAT), and of each. */
  counters(): { total: Float64Array; byWorker: Float64Array[] } {
    this.local?.account();
    const total = new Float64Array(STAT_WORDS);
    for (const stats of this.stats) for (let i = 0; i < STAT_WORDS; i++) total[i] += stats[i];
    return { total, byWorker: this.stats };
  }

  /** How each worker is doing. */
  workerStates(): WorkerState[] {
    return this.links.map((_, id) => {
      const line = (2 * id + 2) * CTL_LINE;
      return {
        epoch: Atomics.load(this.ctl, line + CTL_EPOCH),
        asleep: Atomics.load(this.ctl, line + CTL_ASLEEP) !== 0,
      };
    });
  }

  /** Stops the threads; resolves when they are gone. Those that have not ended by themselves after `patienceMs` (0:
   *  for ever) are ended, and the run has failed. */
  async stop(patienceMs = 0): Promise<void> {
    for (let worker = 0; worker < this.links.length; worker++) {
      const line = (2 * worker + 1) * CTL_LINE;
      Atomics.store(this.ctl, line + CTL_STOP, 1);
      Atomics.add(this.ctl, line + CTL_BELL, 1);
      Atomics.notify(this.ctl, line + CTL_BELL);
    }
    if (this.failure === null) await this.ended(patienceMs);
    await this.pool?.destroy();
    for (const { port } of this.links) {
      for (let got = receiveMessageOnPort(port); got !== undefined; got = receiveMessageOnPort(port)) {
        if ('megaflows' in got.message) this.megaflows.push(got.message.megaflows as Megaflow[]);
      }
    }
    if (this.local !== null && this.megaflows.length === 0) this.megaflows.push(this.local.megaflows());
    for (const link of this.links) link.port.close();
  }

  private async ended(patienceMs: number): Promise<void> {
    let patience: NodeJS.Timeout | undefined;
    // In steps, so that a process that was stopped has not lost any.
    let left = patienceMs / PATIENCE_STEP_MS;
    const tired = new Promise<void>((resolve) => {
      patience = setInterval(() => {
        if (patienceMs === 0 || --left > 0) return;
        this.failure ??= new Error(`workers did not end within ${patienceMs / 1000} s of being told to`);
        resolve();
      }, PATIENCE_STEP_MS);
    });
    await Promise.race([Promise.all(this.tasks), tired, this.failed]);
    clearInterval(patience);
  }

  /** Says what happens to the packet in row `slot`, whose frame is at its offset of `arena`, at its home; no
   *  packet is in flight. */
  explain(slot: number, home: number, arena: SharedArrayBuffer): string[] {
    const { coordinator, pipeline, packets, strict } = this;
    return explain({
      coordinator,
      pipeline,
      home,
      partition: this.partitions[this.homes === null ? home : 0],
      packets,
      slot,
      arena,
      checkSequence: Atomics.load(this.ctl, CTL_NO_SEQ_CHECK) === 0,
      strict,
      fragment: (ctx, zone) => this.direct.fragment(ctx, zone),
    });
  }

  // ---- test only ----

  private readonly never = new Int32Array(new SharedArrayBuffer(4));

  private coin(): boolean {
    return this.next() % 2 === 0;
  }

  private next(): number {
    this.random = (Math.imul(this.random, 1103515245) + 12345) | 0 || 1;
    return (this.random >>> 8) & 0xffff;
  }
}
