/** Several threads that analyse one capture together: each reads all of it, and tracks the connections of its slice, a
 *  share by addresses. So packets, columns and verdicts never go from one thread to another.
 *
 *  Each slice has the clock and the packet numbers of the whole, and connections know nothing of each other (a table
 *  that does nothing but track); what is left of common is
 *  - fragments that wait: each slice holds those of all (`Run.fillSlice`);
 *  - the limit of connections: if a slice comes near its part of it, none may go on (SlicesWontDo);
 *  - which marks give out records (records.ts): each tells the others how many connections it has;
 *  - where the input ends if it is stopped: at a packet that none has passed.
 *
 *  A slice that waits for another looks whether that one still is there, and gets on: if it has died, or reads nothing for
 *  too long, all give up.
 *
 *  What they share is one block of words. STOP, STOP_AT and FAILED are the main thread's or whoever fails; of a slice's line
 *  only it writes. */

import fs from 'node:fs';
import { type Fault, misbehave } from '../datapath/fault.js';
import { waitForThread } from '../pcap/patience.js';

/** Packets between two looks at whether the input has been stopped. */
export const SLICE_STEP = 4096;

const LINE = 16;
/** Line 0: whether the input is to end (ASKED, then DECIDED), before which step, and whether a slice has given up. */
const STOP = 0;
const STOP_AT = 1;
const FAILED = 2;
const ASKED = 1;
const DECIDED = 2;
/** Line 1 + k: the step that slice k may reach, its marks so far, the connections at each of the last four, its
 *  thread's number as Linux has it, and a word that it changes as long as it gets on, or waits. */
const REACH = 0;
const MARKS = 1;
const LIVE = 2;
const LIVES = 4;
const THREAD = 6;
const BEAT = 7;
export const PATIENCE_MS = 100;

export interface SliceOptions {
  maxConns: number;
  /** Packets of a vector. */
  vector: number;
  /** Seconds that another slice may read nothing, 0: any. */
  watchdog: number;
  /** Test only: what to do when so many packets have been read. */
  fault?: Fault;
}

/** The number of this thread as Linux has it: whoever waits for it looks whether it is there. 0: not known. */
export function threadNumber(): number {
  try {
    return Number(fs.readlinkSync('/proc/thread-self').split('/').at(-1));
  } catch {
    return 0;
  }
}

/** Slices can't do what one thread can, or another one has failed: the analysis has to begin anew without. */
export class SlicesWontDo extends Error {
  override name = 'SlicesWontDo';
}

export class Slice {
  readonly k: number;
  readonly n: number;
  /** Connections that it may have. */
  readonly mostConnections: number;
  /** Packets of a vector. */
  readonly vector: number;
  /** Called when the records of a mark have been given out. */
  passed: () => void = () => {};
  private readonly words: Int32Array;
  private readonly line: number;
  private marks = 0;
  private readonly o: SliceOptions;

  constructor(sab: SharedArrayBuffer, k: number, n: number, o: SliceOptions) {
    this.words = new Int32Array(sab);
    this.k = k;
    this.n = n;
    this.o = o;
    this.mostConnections = Math.floor(o.maxConns / n);
    this.vector = o.vector;
    this.line = (1 + k) * LINE;
  }

  /** Called by its thread before it begins. */
  begin(): void {
    Atomics.store(this.words, this.line + THREAD, threadNumber());
  }

  static allocate(n: number): SharedArrayBuffer {
    return new SharedArrayBuffer((1 + n) * LINE * 4);
  }

  /** Whether packet number `packet`, a multiple of SLICE_STEP, and those of its step are still to be read. */
  goesOn(packet: number): boolean {
    const { words, line } = this;
    const step = packet / SLICE_STEP;
    this.check();
    this.beat();
    const { fault } = this.o;
    if (fault && packet >= fault.after) misbehave(fault.kind);
    // Told first, looked at then: either it is seen here that the input is to end, or there how far this has come.
    Atomics.store(words, line + REACH, step + 1);
    let stop = Atomics.load(words, STOP);
    while (stop === ASKED) {
      this.beat();
      Atomics.wait(words, STOP, ASKED, PATIENCE_MS);
      stop = Atomics.load(words, STOP);
    }
    return stop !== DECIDED || step < Atomics.load(words, STOP_AT);
  }

  /** Ends the input of all slices at the same packet. */
  stop(): void {
    const { words, n } = this;
    if (Atomics.compareExchange(words, STOP, 0, ASKED) !== 0) return;
    let most = 0;
    for (let k = 0; k < n; k++) most = Math.max(most, Atomics.load(words, (1 + k) * LINE + REACH));
    Atomics.store(words, STOP_AT, most);
    Atomics.store(words, STOP, DECIDED);
    Atomics.notify(words, STOP);
  }

  /** So many connections live at a mark. */
  tell(live: number): void {
    const { words, line } = this;
    Atomics.store(words, line + LIVE + (this.marks % LIVES), live);
    Atomics.store(words, line + MARKS, ++this.marks);
    Atomics.notify(words, line + MARKS);
  }

  /** Connections of all slices at the last mark; waits for those that have not come so far. They can be one mark ahead at
   *  most, since they wait in the same way. */
  total(): number {
    const { words, marks, n } = this;
    let sum = 0;
    for (let k = 0; k < n; k++) {
      const line = (1 + k) * LINE;
      let look: (() => void) | null = null;
      for (let there = Atomics.load(words, line + MARKS); there < marks; ) {
        this.check();
        this.beat();
        look?.();
        waitForThread(words, line + MARKS, there, PATIENCE_MS, look !== null);
        look ??= this.watch(k);
        there = Atomics.load(words, line + MARKS);
      }
      sum += Atomics.load(words, line + LIVE + ((marks - 1) % LIVES));
    }
    return sum;
  }

  /** This slice gets on, or waits for somebody. */
  beat(): void {
    const { words, line } = this;
    Atomics.store(words, line + BEAT, (words[line + BEAT] + 1) | 0);
  }

  /** A function to be called every PATIENCE_MS while slice `k` is waited for, which throws Error if that is in vain. Time in which this
   *  process is stopped does not count. */
  watch(k: number): () => void {
    const { words, o } = this;
    const line = (1 + k) * LINE;
    let beat = Atomics.load(words, line + BEAT);
    let looks = 0;
    return () => {
      const thread = Atomics.load(words, line + THREAD);
      if (thread > 0 && !fs.existsSync(`/proc/self/task/${thread}`)) {
        throw new SlicesWontDo(`the thread of slice ${k} has died`);
      }
      const now = Atomics.load(words, line + BEAT);
      if (now !== beat) looks = 0;
      beat = now;
      if (o.watchdog === 0 || ++looks * PATIENCE_MS < o.watchdog * 1000) return;
      throw new Error(
        `slice ${k} of ${this.n} has not got on for ${o.watchdog} s: its thread is stuck; --watchdog SECONDS waits longer, 0 for ever`,
      );
    };
  }

  /** Makes all others give up. */
  fail(): void {
    Atomics.store(this.words, FAILED, 1);
  }

  /** Throws SlicesWontDo if another one has given up. */
  check(): void {
    if (Atomics.load(this.words, FAILED) !== 0) throw new SlicesWontDo('another slice has given up');
  }
}
