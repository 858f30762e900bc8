/** A worker's loop: packets from its ring through the datapath a vector at a time (vectors.ts); requests to the
 *  coordinator, answers from it; completions to the collector.
 *
 *  Plain connections are made here, in slots that the coordinator has granted, and their packets go on.
 *  A packet that waits for the coordinator is parked, and the packets of its connection (the same HASH)
 *  queue up behind it, unless all it has left to do is being sent; packets of other connections go on.
 *  Order within a connection is input order, always. The number of parked packets is bounded: beyond it the worker takes nothing from its ring
 *  until an answer comes, and of packets from elsewhere only those that come before one that it has taken. That can't deadlock: the oldest
 *  packet in flight is never behind another, so its request is always answered.
 *
 *  docs/architecture.md, "The thread protocol", has the order of publications. */
import type { MessagePort } from 'node:worker_threads';
import { KEY_WORDS } from '../classifier/flow-key.js';
import type { Fragment } from '../conntrack/ipf.js';
import { MESSAGE_HEADER, MessageReader, MessageWriter, WordRing } from '../rings/words.js';
import {
  ASLEEP,
  ASLEEP_FOR_SERVED,
  AWAKE,
  COLD,
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
} from '../shm/layouts.js';
import { PacketColumns } from '../shm/packets.js';
import { FrameLayout } from '../wire/extract.js';
import { type PacketContext, WAIT_NONE, WAIT_NORMAL, WAIT_TURN, WAIT_UPCALL } from './context.js';
import { type CommitRequest, MAX_COMMIT_WORDS, PENDING } from './control.js';
import { type Fault, misbehave } from './fault.js';
import { OrderedRows } from './ordered-rows.js';
import { MAX_PROGRAM_WORDS } from './program.js';
import { STAT } from './stats.js';
import { VectorLoop, type VectorOptions } from './vectors.js';

/** Request: `slot, last request?`, a CommitRequest's words. Answer: `slot`, NO_ENTRY or NO_TUPLE; then, in
 *  steered mode, window slots of packets that have come from elsewhere to this one's queue, in input order. */
export const MSG_COMMIT = 1;
/** Request: key. Answer: key, mask, program. */
export const MSG_UPCALL = 2;
/** Request: `slot, last request?`, key. Answer: `drop reason, ports…`. Packets for which nothing follows are not asked
 *  for: their verdict has OFPP_NORMAL for a port, and the collector switches them. */
export const MSG_NORMAL = 3;
/** Request: `slot, last request?, zone, chunk, off, len, mpls, l3, l4, end`, key. Answer: `FRAGMENT_*`, and for
 *  each fragment of a datagram that is complete `bytes of its frame (-1: the frame that asked), mpls, l3, l4,
 *  end`, key, the frame. */
export const MSG_FRAGMENT = 5;
/** To the collector: the token is the number, the payload the template. */
export const MSG_TEMPLATE = 4;
/** Request: `slot, last request?`: the packet has its verdict, and waits for its turn. No payload in the answer. */
export const MSG_TURN = 6;
/** From the coordinator: HASH, window slots of packets with it that are to go elsewhere, in input order. Request
 *  that answers it, with the same token: those of them that have not been run. */
export const MSG_SURRENDER = 7;
/** From the coordinator: window slots of packets that are to be run, in input order; none with their HASH that comes later
 *  is here. */
export const MSG_ADOPT = 8;

/** Request, without a token: connections that the worker has made in slots that it was granted, MADE_WORDS each: `slot,
 *  slot of the packet, hash of the tuple, CONN.ZONE_PROTO, ms until it expires`. No answer but CTL_SERVED. */
export const MSG_MADE = 9;
export const MADE_WORDS = 5;

/** Words that requests which may depend on order begin with: slot, and whether the packet makes no other: 0
 *  if it may, else 1 + the number of ct() that it will have been through. */
export const ORDERED_HEADER = 2;
/** Words of MSG_FRAGMENT between ORDERED_HEADER and key, and in front of each key of its answer. */
export const FRAGMENT_HEADER = 8;
export const FRAGMENT_ANSWER = 5;
/** Longest message from the coordinator. */
export const MAX_REPLY_WORDS = MESSAGE_HEADER + 2 * KEY_WORDS + MAX_PROGRAM_WORDS;
/** Packets that may wait for the coordinator at a time. */
export const MAX_PARKED = 1024;
/** Words of a request that is answered in order, at most. */
export const LONGEST_REQUEST =
  MESSAGE_HEADER + ORDERED_HEADER + Math.max(FRAGMENT_HEADER + KEY_WORDS, MAX_COMMIT_WORDS);
/** Words of the request ring: all parked packets may have a request in it, but for some that have come late. */
export const REQUEST_RING_WORDS = MAX_PARKED * LONGEST_REQUEST;

/** Slots that workers together may have been granted and not told of: one for each packet that is usually in flight, so that none
 *  has to ask while the main thread is behind. */
export const MAX_GRANTED = 16_384;

/** What a worker needs; everything in it is shared memory or can be cloned. */
export interface ShardInit extends VectorOptions {
  id: number;
  packets: SharedArrayBuffer;
  slots: number;
  ctl: SharedArrayBuffer;
  /** Rings: slots to run; completed slots; requests; answers; verdict templates. */
  work: SharedArrayBuffer;
  done: SharedArrayBuffer;
  requests: SharedArrayBuffer;
  replies: SharedArrayBuffer;
  templates: SharedArrayBuffer;
  /** Ring of free slots for connections that can't be refused; null in steered mode. */
  grants: SharedArrayBuffer | null;
  /** Announces chunks of changed frames. */
  port: MessagePort;
  /** The partition is shared with other workers, and packets may be called back (docs/architecture.md, "Steered
   *  mode"). */
  steered: boolean;
  /** Test only: seed of random delays, 0 for none. */
  jitter: number;
  /** Test only: what to do when so many packets have come: nothing at 0. */
  fault: Fault | null;
}

const GRANTS_AT_ONCE = 64;
/** A power of two, beside which few connections are made in a round trip. */
const MADE_HASHES = 1 << 14;

/** After so many connections, a power of two, numbers in `madeLast` are renewed. */
const MADE_RENEWED = 1 << 28;

/** Unwinds a worker that is told to stop while it waits for room in a ring. */
class Stopped extends Error {}

/** Packets of the same hash that wait. */
interface Queue {
  hash: number;
  /** Slots, from element `head` on. */
  queue: number[];
  head: number;
  /** If they wait for a connection that the worker has made: its number. */
  after: number;
}

/** A parked packet and what queues behind it. */
export interface Chain extends Queue {
  ctx: PacketContext;
  /** Whether packets of the same hash must wait behind it. */
  holds: boolean;
  /** The packet went elsewhere while it waited for a translation. */
  forgotten: boolean;
}

/** Whether the packets of its connection may go past a packet that waits: it will only be sent. If it may have to
 *  be forgotten, it must not have changed anything. */
function passable(ctx: PacketContext): boolean {
  const sent =
    ctx.wait === WAIT_TURN || (ctx.asksNoMore && (ctx.wait === WAIT_NORMAL || ctx.wait === WAIT_UPCALL));
  return sent && (isFinal(ctx) || ctx.nKept === 0);
}

/** Whether what the packet found out about connections can't change any more. */
function isFinal(ctx: PacketContext): boolean {
  return !ctx.missed || ctx.inTurn;
}

export function writeLayout(words: Int32Array, at: number, layout: FrameLayout): void {
  words[at] = layout.mpls;
  words[at + 1] = layout.l3;
  words[at + 2] = layout.l4;
  words[at + 3] = layout.end;
}

export function readLayout(words: Int32Array, at: number, layout: FrameLayout): void {
  layout.mpls = words[at];
  layout.l3 = words[at + 1];
  layout.l4 = words[at + 2];
  layout.end = words[at + 3];
}

/** The fragments of an answer to MSG_FRAGMENT; they refer to its words. */
function readFragments(words: Int32Array, at: number, end: number): Fragment[] {
  const fragments: Fragment[] = [];
  while (at < end) {
    const len = words[at];
    const layout = new FrameLayout();
    readLayout(words, at + 1, layout);
    at += FRAGMENT_ANSWER;
    const key = words.subarray(at, at + KEY_WORDS);
    at += KEY_WORDS;
    const bytes = len < 0 ? null : new Uint8Array(words.buffer, words.byteOffset + at * 4, len);
    fragments.push({ bytes, layout, key });
    if (len > 0) at += (len + 3) >> 2;
  }
  return fragments;
}

/** What a worker takes its packets from in steered mode: its ring, from which packets may have been called back,
 *  and packets that were called back from elsewhere; together in input order. */
class SteeredInput {
  /** By window slot: token + 1 of the context that waits with the packet. */
  readonly parked: Int32Array;
  private readonly ring: WordRing;
  private readonly seq: Float64Array;
  private readonly hash: Int32Array;
  /** Taken out of the ring, and not yet taken from here: `ahead[at..n)`; and whether the ring was empty then. */
  private readonly ahead: Int32Array;
  private n = 0;
  private at = 0;
  private dry = false;
  /** From elsewhere. */
  private readonly adopted: OrderedRows;
  /** How often window slots are to be skipped when they come out of the ring, and the sum of these. More than once: a packet
   *  that was called back may have been run elsewhere, and one that has its slot by now may be called back, too, before
   *  the first one is met here. */
  private readonly called: Uint8Array;
  private nCalled = 0;
  /** No packet that was taken from here has a higher number. */
  private last = -1;

  constructor(ring: WordRing, packets: PacketColumns, vector: number) {
    this.ring = ring;
    this.seq = packets.seq;
    this.hash = packets.hash;
    this.ahead = new Int32Array(vector);
    this.parked = new Int32Array(packets.slots);
    this.called = new Uint8Array(packets.slots);
    this.adopted = new OrderedRows(packets.seq);
  }

  /** Takes packets out of the ring, before replies are looked at: what must come before them is in these, if it
   *  is not here yet. */
  fill(): void {
    if (this.at < this.n) return;
    this.n = this.ring.pop(this.ahead, this.ahead.length);
    this.at = 0;
    this.dry = this.n === 0;
  }

  /** Takes up to `most` packets to `slots`. */
  take(slots: Int32Array, most: number): number {
    const { seq, ahead, adopted, called } = this;
    let n = 0;
    let nAdopted = 0;
    while (n < most) {
      const own = this.at < this.n ? ahead[this.at] : -1;
      if (own >= 0 && this.nCalled > 0 && called[own] !== 0) {
        called[own]--;
        this.nCalled--;
        this.at++;
        continue;
      }
      const other = nAdopted < adopted.length ? adopted.at(nAdopted) : -1;
      // Without any of its own, there may be some in the ring that come before.
      if (other >= 0 && (own < 0 ? this.dry : seq[other] < seq[own])) {
        slots[n++] = other;
        nAdopted++;
      } else if (own >= 0) {
        slots[n++] = own;
        this.at++;
      } else {
        break;
      }
    }
    if (nAdopted > 0) adopted.shift(nAdopted);
    if (n > 0) this.last = Math.max(this.last, seq[slots[n - 1]]);
    return n;
  }

  /** Takes packets from elsewhere that come before one that was taken, to `slots`. */
  takeLate(slots: Int32Array): number {
    const { seq, adopted, last } = this;
    const most = Math.min(slots.length, adopted.length);
    let n = 0;
    while (n < most && seq[adopted.at(n)] < last) slots[n] = adopted.at(n++);
    adopted.shift(n);
    return n;
  }

  /** Takes over packets from elsewhere. */
  add(rows: Int32Array): void {
    for (const row of rows) this.adopted.insert(row);
    this.dry = false;
  }

  /** Takes over packets from elsewhere, in input order, that belong behind the packet of `chain`. */
  adopt(chain: Chain, rows: Int32Array): void {
    const { seq, hash, last, adopted } = this;
    const { queue } = chain;
    if (seq[rows[0]] > last) {
      // What comes out of the ring meets them in `take`.
      this.add(rows);
      return;
    }
    // What has come out of the ring behind them is in the queue. So must be what has not been taken yet, if it
    // comes before that.
    queue.splice(0, chain.head);
    chain.head = 0;
    for (let i = 0; i < adopted.length && seq[adopted.at(i)] < last; ) {
      const row = adopted.at(i);
      if (hash[row] !== chain.hash) i++;
      else {
        adopted.remove(row);
        queue.push(row);
      }
    }
    for (const row of rows) {
      if (seq[row] < last) queue.push(row);
      else adopted.insert(row);
    }
    queue.sort(this.inOrder);
    this.dry = false;
  }
  private readonly inOrder = (a: number, b: number) => this.seq[a] - this.seq[b];

  /** A packet that is called back and does not wait. False if it has been run, or is in a queue. */
  drop(row: number): boolean {
    if (this.adopted.remove(row)) return true;
    if (this.seq[row] <= this.last) return false;
    this.called[row]++;
    this.nCalled++;
    return true;
  }
}

/** Elements that a queue may have left behind before it moves up. */
const QUEUE_SLACK = 4096;

/** Loops without work before a thread goes to sleep; with more threads than cores, spinning steals the
 *  time of whoever has something to do. */
const SPINS = 64;

export class Shard extends VectorLoop {
  private readonly init: ShardInit;
  private readonly ctl: Int32Array;
  private readonly bellWord: number;
  private readonly ownLine: number;
  private readonly work: WordRing;
  private readonly done: WordRing;
  private readonly requests: MessageWriter;
  private readonly replies: MessageReader;
  private readonly repliesRing: WordRing;
  private readonly templates: MessageWriter;

  private readonly slots: Int32Array;
  /** A vector of packets that had queued up. */
  private readonly queued: Int32Array;
  /** Completions that the main thread may be asleep over: waking it for each vector costs more than the
   *  vector, and on few cores takes this thread's. */
  private unannounced = 0;
  private readonly announceAt: number;

  private readonly contexts: PacketContext[] = [];
  /** Parked packets that others must wait behind, by hash; and the number of all that are parked. */
  private readonly parked = new Map<number, Queue>();
  private nParked = 0;
  private readonly chains: (Chain | null)[] = [];
  private readonly freeTokens: number[] = [];
  /** Chains that wait for a translation behind the one that is under way. */
  private misses: Chain[] = [];
  private upcallPending = false;
  /** Slots granted: taken out of the ring, and whether they may be used. */
  private readonly grants: WordRing | null;
  private readonly granted = new Int32Array(GRANTS_AT_ONCE);
  private nGranted = 0;
  private granting = false;
  /** Connections made in them, modulo 2^32; how many of these can be found; by the lower bits of a hash, the number
   *  of the last one with it; and the queues that wait for such a number. */
  private nMade = 0;
  private served = 0;
  private readonly madeLast = new Int32Array(MADE_HASHES);
  /** MADE_WORDS of each that the coordinator has not been told of, the first `nToTell` elements: of no more than have been
   *  granted. */
  private readonly toTell = new Int32Array(MAX_GRANTED * MADE_WORDS);
  private nToTell = 0;
  private waiting: Queue[] = [];
  /** Generation of the tables that the caches are of. */
  private generation = 0;
  private readonly input: SteeredInput | null;
  private random: number;

  constructor(init: ShardInit) {
    super(init, new PacketColumns(init.slots, init.packets), init.slots, (id, sab) =>
      init.port.postMessage({ id, sab }),
    );
    this.init = init;
    this.ctl = new Int32Array(init.ctl);
    this.bellWord = (2 * init.id + 1) * CTL_LINE;
    this.ownLine = (2 * init.id + 2) * CTL_LINE;
    this.work = new WordRing(init.work);
    this.done = new WordRing(init.done);
    this.requests = new MessageWriter(new WordRing(init.requests));
    this.repliesRing = new WordRing(init.replies);
    this.replies = new MessageReader(this.repliesRing, MAX_REPLY_WORDS);
    this.templates = new MessageWriter(new WordRing(init.templates));
    this.engine.tracker.keeps = init.steered;
    this.grants = init.grants === null ? null : new WordRing(init.grants);
    this.input = init.steered ? new SteeredInput(this.work, this.packets, init.vector) : null;
    this.slots = new Int32Array(init.vector);
    this.queued = new Int32Array(init.vector);
    this.random = init.jitter;
    this.announceAt = Math.min(2048, init.slots >> 2);
  }

  /** Runs until told to stop. */
  run(): void {
    try {
      this.loop();
    } catch (error) {
      if (!(error instanceof Stopped)) throw error;
    }
    this.account();
    if (this.init.dpflows) this.init.port.postMessage({ megaflows: this.engine.megaflows.entries() });
    this.init.port.close();
  }

  private loop(): void {
    let idle = 0;
    for (;;) {
      // Before all that it is rung for: who rings later is not slept through.
      const bell = Atomics.load(this.ctl, this.bellWord + CTL_BELL);
      if (Atomics.load(this.ctl, this.bellWord + CTL_STOP) !== 0) return;
      if (this.step()) {
        idle = 0;
      } else if (++idle > SPINS) {
        this.sleep(bell);
        idle = 0;
      }
    }
  }

  /** One vector. False if there was nothing to do. */
  protected step(): boolean {
    const { engine } = this;
    if (this.random !== 0) this.delay();
    // Before anything is searched for: records that only an outgrown index still lists are reused from
    // this epoch on. And after the replies: they may name records that only the grown index has.
    engine.partition.refresh();
    this.input?.fill();
    let answered = this.takeReplies();
    if (this.nMade !== this.served && this.takeServed()) answered = true;
    engine.partition.refresh();
    this.checkSequence = Atomics.load(this.ctl, CTL_NO_SEQ_CHECK) === 0;
    const n = this.take();
    this.revalidate();
    this.granting = Atomics.load(this.ctl, CTL_GRANTING) !== 0;
    if (n > 0) {
      if (this.init.fault !== null) this.fail(n);
      this.runVector(this.slots, n);
    }
    const flushed = this.flush();
    // Quiescent: nothing found in the index before this point is used after it, except by parked packets,
    // whose connections the sweeper leaves alone.
    Atomics.add(this.ctl, this.ownLine + CTL_EPOCH, 1);
    return n > 0 || answered || flushed;
  }

  /** Takes the next packets to `slots`, at most so many that MAX_PARKED wait. Beyond that only those from elsewhere that come
   *  before one that was taken: all that wait here may wait for them. */
  private take(): number {
    const { slots, input } = this;
    if (this.nParked >= MAX_PARKED) return input === null ? 0 : input.takeLate(slots);
    const most = Math.min(slots.length, this.allowance());
    return input === null ? this.work.pop(slots, most) : input.take(slots, most);
  }

  /** Drops what was cached of older tables. They change only while no packet is in flight, so it is enough
   *  to look after packets have been taken from the ring. */
  private revalidate(): void {
    const generation = Atomics.load(this.ctl, CTL_GENERATION);
    if (generation === this.generation) return;
    this.generation = generation;
    this.forget();
  }

  /** How many packets may be taken so that at most MAX_PARKED wait. */
  private allowance(): number {
    const room = MAX_PARKED - this.nParked;
    return this.random === 0 ? room : Math.min(room, 1 + (this.next() % 16));
  }

  // ---- parking ----

  protected override mayQueue(): boolean {
    return this.parked.size > 0 || this.nMade !== this.served;
  }

  /** If a packet of the same hash is parked, or may have opened a connection that can't be found yet, this one
   *  queues up behind it. */
  protected override queues(slot: number): boolean {
    if (this.parked.size > 0) {
      const chain = this.parked.get(this.packets.hash[slot]);
      if (chain !== undefined) {
        chain.queue.push(slot);
        return true;
      }
    }
    return this.nMade !== this.served && this.waits(slot);
  }

  protected override park(ctx: PacketContext): void {
    const hash = this.packets.hash[ctx.slot];
    const chain = this.chains[ctx.token] as Chain;
    chain.hash = hash;
    chain.ctx = ctx;
    chain.forgotten = false;
    if (this.input !== null) this.input.parked[ctx.slot] = ctx.token + 1;
    chain.holds = !passable(ctx);
    if (chain.holds) this.parked.set(hash, chain);
    this.nParked++;
    this.stats[STAT.PARKED]++;
    this.ctx = this.contexts.pop() ?? this.engine.newContext();
    this.ctx.token = -1;
  }

  /** The token under which answers for this packet come back. */
  private tokenOf(ctx: PacketContext): number {
    if (ctx.token < 0) {
      ctx.token = this.freeTokens.pop() ?? this.chains.length;
      if (ctx.token === this.chains.length) this.chains.push(null);
      this.chains[ctx.token] ??= {
        hash: 0,
        queue: [],
        head: 0,
        after: 0,
        ctx,
        holds: true,
        forgotten: false,
      };
    }
    return ctx.token;
  }

  /** Goes on with a packet that has got its answer, and then with what queued up behind it. */
  protected resume(chain: Chain): void {
    const { ctx, holds } = chain;
    if (this.goOn(ctx)) {
      this.complete(ctx);
      if (this.input !== null) this.input.parked[ctx.slot] = 0;
      this.unpark(ctx);
    } else if (holds && passable(ctx)) {
      chain.holds = false;
    } else {
      return;
    }
    if (holds) this.release(chain);
  }

  /** Goes on with packets that have queued up. */
  private release(chain: Queue): void {
    const { queue } = chain;
    this.parked.delete(chain.hash);
    chain.queue = [];
    let from = chain.head;
    chain.head = 0;
    // Short vectors first: what the first packets of a connection leave in the microflow cache serves
    // those that follow.
    for (let size = 2; from < queue.length; size *= 2) {
      const n = Math.min(size, this.queued.length, queue.length - from);
      for (let i = 0; i < n; i++) this.queued[i] = queue[from + i];
      this.runVector(this.queued, n);
      from += n;
      const next = this.parked.get(chain.hash);
      if (next !== undefined) {
        // One of them waits, with the rest of its vector behind it: the others follow where they are.
        next.head = from - next.queue.length;
        next.queue = queue;
        if (next.head > QUEUE_SLACK) {
          queue.splice(0, next.head);
          next.head = 0;
        }
        return;
      }
    }
  }

  private goOn(ctx: PacketContext): boolean {
    if (ctx.wait !== WAIT_TURN) return this.engine.run(ctx) && this.isDone(ctx);
    ctx.wait = WAIT_NONE;
    return true;
  }

  private unpark(ctx: PacketContext): void {
    this.nParked--;
    this.freeTokens.push(ctx.token);
    ctx.token = -1;
    this.contexts.push(ctx);
  }

  /** Whether a packet that has its verdict is done. In steered mode one that found no connection has to wait for
   *  its turn: an earlier one may open it. */
  protected override isDone(ctx: PacketContext): boolean {
    if (this.input === null || isFinal(ctx)) return true;
    const at = this.requests.begin(MSG_TURN, this.tokenOf(ctx), ORDERED_HEADER);
    const { words } = this.requests;
    words[at] = ctx.slot;
    words[at + 1] = 1 + ctx.nCt / 2;
    ctx.wait = WAIT_TURN;
    return false;
  }

  private takeReplies(): boolean {
    let any = false;
    for (let m = this.replies.next(); m >= 0; m = this.replies.next()) {
      any = true;
      const { words } = this.replies;
      const payload = m + MESSAGE_HEADER;
      const end = m + words[m];
      if (words[m + 1] === MSG_SURRENDER) {
        this.surrender(words[m + 2], words[payload], words.subarray(payload + 1, end));
        continue;
      }
      if (words[m + 1] === MSG_ADOPT) {
        this.input!.add(words.subarray(payload, end));
        continue;
      }
      const chain = this.chains[words[m + 2]] as Chain;
      const { ctx } = chain;
      switch (words[m + 1]) {
        case MSG_COMMIT:
          ctx.answer = words[payload];
          ctx.inTurn = true;
          if (end > payload + 1) this.input!.adopt(chain, words.subarray(payload + 1, end));
          this.engine.partition.refresh();
          this.resume(chain);
          break;
        case MSG_UPCALL:
          this.installed(chain, words, payload, end);
          break;
        case MSG_TURN:
          ctx.inTurn = true;
          this.resume(chain);
          break;
        case MSG_NORMAL:
          ctx.answer = words[payload];
          ctx.inTurn = true;
          ctx.answerPorts.length = 0;
          for (let i = payload + 1; i < end; i++) ctx.answerPorts.push(words[i]);
          this.resume(chain);
          break;
        case MSG_FRAGMENT:
          ctx.answer = words[payload];
          ctx.inTurn = true;
          ctx.fragments = readFragments(words, payload + 1, end);
          this.resume(chain);
          break;
      }
    }
    return any;
  }

  // ---- connections that the worker makes by itself ----

  /** Whether the packet may belong to one that can't be found yet: then it waits until it can. */
  private waits(slot: number): boolean {
    const hash = this.packets.hash[slot];
    const after = this.madeLast[hash & (MADE_HASHES - 1)];
    if (((after - this.served) | 0) <= 0) return false;
    const queue: Queue = { hash, queue: [slot], head: 0, after };
    this.parked.set(hash, queue);
    this.waiting.push(queue);
    return true;
  }

  /** Takes notice of what can be found by now, and goes on with what has waited for it. False if nothing has. */
  private takeServed(): boolean {
    this.served = Atomics.load(this.ctl, this.bellWord + CTL_SERVED);
    const { waiting, served } = this;
    if (waiting.length === 0) return false;
    this.waiting = waiting.filter(({ after }) => ((after - served) | 0) > 0);
    if (this.waiting.length === waiting.length) return false;
    this.engine.partition.refresh();
    for (const queue of waiting) if (((queue.after - served) | 0) <= 0) this.release(queue);
    return true;
  }

  /** Numbers that were passed long ago would be ahead again one day. */
  private renewMade(): void {
    const { madeLast, served } = this;
    for (let i = 0; i < MADE_HASHES; i++) if (((madeLast[i] - served) | 0) <= 0) madeLast[i] = served;
  }

  private installed(chain: Chain, words: Int32Array, payload: number, end: number): void {
    const key = words.subarray(payload, payload + KEY_WORDS);
    const mask = words.subarray(payload + KEY_WORDS, payload + 2 * KEY_WORDS);
    const entry = this.engine.megaflows.insert(key, mask, words.slice(payload + 2 * KEY_WORDS, end));
    this.upcallPending = false;
    chain.ctx.program = entry.program;
    chain.ctx.pc = 0;
    if (!chain.forgotten) this.resume(chain);
    else this.unpark(chain.ctx);
    this.serveMisses();
  }

  /** Lets those go on that have waited, up to the first that has to ask: its answer may be what the others need, and
   *  if all let them look again, packets that need a translation each would look as often as there are of them. */
  private serveMisses(): void {
    const waiting = this.misses;
    if (waiting.length === 0) return;
    this.misses = [];
    let served = 0;
    while (served < waiting.length && !this.upcallPending) this.resume(waiting[served++]);
    this.misses = [...waiting.slice(served), ...this.misses];
  }

  // ---- steered mode: packets that go elsewhere ----

  /** Gives back those of the packets in `rows`, all with this hash, that have not been run to the end. */
  private surrender(token: number, hash: number, rows: Int32Array): void {
    const input = this.input!;
    const given: number[] = [];
    const holder = this.parked.get(hash);
    for (const row of rows) {
      const parked = input.parked[row];
      if (parked === 0 ? input.drop(row) : this.forgetParked(this.chains[parked - 1] as Chain))
        given.push(row);
    }
    if (holder !== undefined) {
      if (this.parked.has(hash)) {
        throw new Error(`datapath: packets wait behind one that is not to go elsewhere with them`);
      }
      for (let i = holder.head; i < holder.queue.length; i++) given.push(holder.queue[i]);
      holder.queue = [];
      holder.head = 0;
    }
    const at = this.requests.begin(MSG_SURRENDER, token, given.length);
    this.requests.words.set(given, at);
  }

  /** Forgets a parked packet. False if it stays: all it has left to do is being sent. */
  private forgetParked(chain: Chain): boolean {
    const { ctx } = chain;
    if (!chain.holds && isFinal(ctx)) return false;
    this.engine.forget(ctx);
    this.input!.parked[ctx.slot] = 0;
    if (chain.holds) this.parked.delete(chain.hash);
    const miss = ctx.wait === WAIT_UPCALL ? this.misses.indexOf(chain) : -1;
    if (miss >= 0) this.misses.splice(miss, 1);
    if (ctx.wait !== WAIT_UPCALL || miss >= 0) {
      this.unpark(ctx);
    } else {
      // The translation that it has asked for may serve others.
      chain.forgotten = true;
    }
    return true;
  }

  // ---- ControlPlane: ask, and let the packet wait ----

  upcall(ctx: PacketContext): null {
    const token = this.tokenOf(ctx);
    if (this.upcallPending) {
      // The translation under way may be the one that this packet needs.
      const chain = this.chains[token] as Chain;
      chain.ctx = ctx;
      this.misses.push(chain);
      return null;
    }
    this.upcallPending = true;
    this.stats[STAT.UPCALLS]++;
    const at = this.requests.begin(MSG_UPCALL, token, KEY_WORDS);
    this.requests.words.set(ctx.key, at);
    return null;
  }

  override reserve(ctx: PacketContext): number {
    // Nothing may look for the connection before it can be found.
    return ctx.datagram !== null || !ctx.isLastRequest ? -1 : this.grant();
  }

  override grant(): number {
    if (!this.granting) return -1;
    if (this.nGranted === 0) {
      this.nGranted = this.grants!.pop(this.granted, GRANTS_AT_ONCE);
      if (this.nGranted === 0) return -1;
      this.touchGranted();
    }
    return this.granted[--this.nGranted];
  }

  /** Touches the slots that come next: the misses of many overlap. */
  private touchGranted(): void {
    const { hot, cold } = this.engine.partition;
    let sink = 0;
    for (let i = 0; i < this.nGranted; i++) {
      const slot = this.granted[i];
      sink ^= hot[slot << CONN.shift] ^ cold[slot << COLD.shift];
    }
    this.sink = sink;
  }
  /** Keeps the loads of `touchGranted` alive. */
  sink = 0;

  override made(row: number, slot: number, hash: number): void {
    const { hot, hotF64 } = this.engine.partition;
    const { toTell } = this;
    const at = this.nToTell;
    this.nToTell += MADE_WORDS;
    const c = slot << CONN.shift;
    toTell[at] = slot;
    toTell[at + 1] = row;
    toTell[at + 2] = hash;
    toTell[at + 3] = hot[c + CONN.at.ZONE_PROTO];
    toTell[at + 4] = hotF64[(c + CONN.at.EXPIRES) >> 1] - this.packets.clock[row];
    this.nMade = (this.nMade + 1) | 0;
    this.madeLast[this.packets.hash[row] & (MADE_HASHES - 1)] = this.nMade;
    if ((this.nMade & (MADE_RENEWED - 1)) === 0) this.renewMade();
  }

  commit(ctx: PacketContext, request: CommitRequest): number {
    const n = request.length;
    const at = this.requests.begin(MSG_COMMIT, this.tokenOf(ctx), ORDERED_HEADER + n);
    const { words } = this.requests;
    words[at] = ctx.slot;
    ctx.asksNoMore = ctx.isLastRequest;
    words[at + 1] = ctx.asksNoMore ? 2 + ctx.nCt / 2 : 0;
    for (let i = 0; i < n; i++) words[at + ORDERED_HEADER + i] = request.words[i];
    return PENDING;
  }

  normal(ctx: PacketContext): boolean {
    if ((this.input === null || isFinal(ctx)) && this.switchesLater(ctx)) return true;
    const at = this.requests.begin(MSG_NORMAL, this.tokenOf(ctx), ORDERED_HEADER + KEY_WORDS);
    this.requests.words[at] = ctx.slot;
    ctx.asksNoMore = ctx.isLastRequest;
    this.requests.words[at + 1] = ctx.asksNoMore ? 1 + ctx.nCt / 2 : 0;
    this.requests.words.set(ctx.key, at + ORDERED_HEADER);
    return false;
  }

  change(): void {
    throw new Error('datapath: a program for the main thread has come to a worker');
  }

  meter(): boolean {
    throw new Error('datapath: a program for the main thread has come to a worker');
  }

  fragment(ctx: PacketContext, zone: number): boolean {
    const n = ORDERED_HEADER + FRAGMENT_HEADER + KEY_WORDS;
    const at = this.requests.begin(MSG_FRAGMENT, this.tokenOf(ctx), n);
    const { words } = this.requests;
    words[at] = ctx.slot;
    // If it is held, nothing more becomes of it.
    words[at + 1] = ctx.isAlone ? 1 + ctx.nCt / 2 : 0;
    words[at + 2] = zone;
    words[at + 3] = ctx.chunk;
    words[at + 4] = ctx.off;
    words[at + 5] = ctx.len;
    writeLayout(words, at + 6, ctx.layout);
    words.set(ctx.key, at + ORDERED_HEADER + FRAGMENT_HEADER);
    return false;
  }

  // ---- publishing ----

  protected override announce(id: number, template: Int32Array): void {
    const at = this.templates.begin(MSG_TEMPLATE, id, template.length);
    this.templates.words.set(template, at);
  }

  /** Templates and requests before the completions of their packets. True if anything went out. */
  protected override flush(): boolean {
    if (this.nToTell > 0) this.tellMade();
    if (!this.templates.pending && !this.requests.pending && this.nCompleted === 0) return false;
    // What a parked packet waits for; not what was only made.
    const urgent =
      this.templates.pending ||
      this.nParked > 0 ||
      this.waiting.length > 0 ||
      (this.input !== null && this.requests.pending);
    while (!this.templates.flush()) this.pause();
    // Whoever sees a packet complete sees the connections that it has made.
    while (!this.requests.flush()) this.pause();
    while (!this.done.push(this.completed, this.nCompleted)) this.pause();
    // Not before: whoever was rung for, to make room, has not seen these.
    this.unannounced += this.nCompleted;
    this.nCompleted = 0;
    if (urgent || this.unannounced >= this.announceAt) this.ring();
    return true;
  }

  private tellMade(): void {
    const { toTell, nToTell, requests } = this;
    const at = requests.begin(MSG_MADE, 0, nToTell);
    const { words } = requests;
    for (let i = 0; i < nToTell; i++) words[at + i] = toTell[i];
    this.nToTell = 0;
  }

  /** Lets the main thread drain what is full. */
  private pause(): void {
    if (Atomics.load(this.ctl, this.bellWord + CTL_STOP) !== 0) throw new Stopped();
    this.ring();
    Atomics.wait(this.ctl, this.ownLine + 8, 0, 0.1);
  }

  /** Wakes the main thread if it sleeps. */
  private ring(): void {
    this.unannounced = 0;
    if (Atomics.load(this.ctl, CTL_MAIN_ASLEEP) !== 0) {
      Atomics.add(this.ctl, CTL_MAIN_BELL, 1);
      Atomics.notify(this.ctl, CTL_MAIN_BELL);
    }
  }

  private sleep(bell: number): void {
    const { ctl } = this;
    if (this.unannounced > 0) this.ring();
    const waits = this.waiting.length > 0;
    Atomics.store(ctl, this.ownLine + CTL_ASLEEP, waits ? ASLEEP_FOR_SERVED : ASLEEP);
    // Whoever pushed before it could see that we sleep has left something in a ring.
    const blocked = this.nParked >= MAX_PARKED;
    const served = waits && Atomics.load(ctl, this.bellWord + CTL_SERVED) !== this.served;
    if ((blocked || this.work.empty()) && this.repliesRing.empty() && !served) {
      Atomics.wait(ctl, this.bellWord + CTL_BELL, bell, 100);
    }
    Atomics.store(ctl, this.ownLine + CTL_ASLEEP, AWAKE);
  }

  // ---- test only ----

  /** Packets taken. */
  private came = 0;

  private fail(n: number): void {
    const { kind, after } = this.init.fault!;
    this.came += n;
    if (this.came < after) return;
    misbehave(kind);
  }

  private next(): number {
    this.random = (Math.imul(this.random, 1103515245) + 12345) | 0 || 1;
    return (this.random >>> 8) & 0xffff;
  }

  private delay(): void {
    if (this.next() % 8 === 0) Atomics.wait(this.ctl, this.ownLine + 8, 0, (this.next() % 20) / 10);
  }
}
