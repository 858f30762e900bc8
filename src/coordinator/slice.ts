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
 *  What they share is one block of words. STOP, STOP_AT and FAILED are the main thread's or whoever fails; of a slice's line
 *  only it writes. */

/** Packets between two looks at whether the input has been stopped. */
export const SLICE_STEP = 4096;

const LINE = 16;
/** Line 0: whether the input is to end (ASKED, then DECIDED), before which step, and whether a slice has given up. */
const STOP = 0;
const STOP_AT = 1;
const FAILED = 2;
const ASKED = 1;
const DECIDED = 2;
/** Line 1 + k: the step that slice k may reach, its marks so far, and the connections at each of the last four. */
const REACH = 0;
const MARKS = 1;
const LIVE = 2;
const LIVES = 4;
const PATIENCE_MS = 100;

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

  constructor(sab: SharedArrayBuffer, k: number, n: number, maxConns: number, vector: number) {
    this.words = new Int32Array(sab);
    this.k = k;
    this.n = n;
    this.mostConnections = Math.floor(maxConns / n);
    this.vector = vector;
    this.line = (1 + k) * LINE;
  }

  static allocate(n: number): SharedArrayBuffer {
    return new SharedArrayBuffer((1 + n) * LINE * 4);
  }

  /** Whether packet number `packet`, a multiple of SLICE_STEP, and those of its step are still to be read. */
  goesOn(packet: number): boolean {
    const { words, line } = this;
    const step = packet / SLICE_STEP;
    this.check();
    // Told first, looked at then: either it is seen here that the input is to end, or there how far this has come.
    Atomics.store(words, line + REACH, step + 1);
    let stop = Atomics.load(words, STOP);
    while (stop === ASKED) {
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
      for (let there = Atomics.load(words, line + MARKS); there < marks; ) {
        this.check();
        Atomics.wait(words, line + MARKS, there, PATIENCE_MS);
        there = Atomics.load(words, line + MARKS);
      }
      sum += Atomics.load(words, line + LIVE + ((marks - 1) % LIVES));
    }
    return sum;
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
