/** Threads that run by turns, in one real thread: what mirror.ts puts in the place of `Atomics`, of message channels and of
 *  calls. Before an atomic operation that another thread could notice, or whose result another thread could change, a
 *  thread yields; whoever runs it (explore.ts) decides when it goes on. */

type Words = Int32Array | Uint32Array;
type Kind = 'load' | 'store' | 'add' | 'sub' | 'wait' | 'notify';

/** What a thread is about to do. */
export interface Pending {
  /** Which operation: of the copy's places (mirror.ts), negative if it sleeps there. */
  site: number;
  word: number;
  /** Where it is: a hash of the places of the calls that led there. */
  place: number;
  /** It sleeps, until it is woken: … */
  asleep: boolean;
  /** … or until somebody has changed anything: it only wants to give others time. */
  gives: boolean;
}

const real = globalThis.Atomics;
/** Words of a buffer are numbered from here on. */
const STRIDE = 2 ** 24;

/** A word as somebody saw it. */
interface Seen {
  array: Words;
  index: number;
  value: number;
}

/** Memory that threads share. */
export interface Memory {
  /** What atomic operations are used on, in the same order in all runs; … */
  buffers: readonly SharedArrayBuffer[];
  /** … of these, the control blocks of partitions; … */
  levels: readonly SharedArrayBuffer[];
  /** … and what is used without. */
  tables: readonly Int32Array[];
}

/** The threads of a run, and what is known of the words that they share. */
export class Threads {
  /** Who runs. */
  current = 0;
  /** By thread: two hashes of all that it has read so far. So what it will do next depends on them alone. */
  readonly history: Int32Array;
  readonly pending: (Pending | null)[];
  /** By thread: the places of the calls that it is in. */
  readonly calls: number[][];
  /** By thread: what it saw last in each word; and whether it has found something to do since it began anew. */
  private readonly last: Map<number, number>[];
  private readonly working: boolean[];
  /** By thread: the words that it has looked at since it last began to, as it saw or left them. */
  private readonly looked: Map<number, Seen>[];
  private readonly known: Knowledge;
  private readonly buffers = new Map<ArrayBufferLike, number>();
  /** Memory that is shared without atomics. */
  private readonly tables: Int32Array[];
  /** Control blocks of partitions. */
  private readonly levels: ReadonlySet<ArrayBufferLike>;

  constructor(n: number, known: Knowledge, { buffers, levels, tables }: Memory) {
    this.history = new Int32Array(2 * n).fill(1);
    this.pending = new Array<Pending | null>(n).fill(null);
    this.known = known;
    this.calls = Array.from({ length: n }, () => []);
    this.last = Array.from({ length: n }, () => new Map());
    this.working = new Array<boolean>(n).fill(true);
    this.looked = Array.from({ length: n }, () => new Map());
    this.tables = [...tables];
    this.levels = new Set(levels);
    for (const buffer of buffers) if (!this.buffers.has(buffer)) this.buffers.set(buffer, this.buffers.size);
    known.arrays = [...this.buffers.keys()].map((b) => new Int32Array(b, 0, b.byteLength >> 2));
  }

  wordOf(array: Words, index: number): number {
    let buffer = this.buffers.get(array.buffer);
    if (buffer === undefined) {
      // Chunks of changed frames are made as they are needed.
      buffer = this.buffers.size;
      this.buffers.set(array.buffer, buffer);
      this.known.arrays.push(new Int32Array(array.buffer, 0, array.buffer.byteLength >> 2));
    }
    return buffer * STRIDE + (array.byteOffset >> 2) + index;
  }

  /** Where the running thread is. */
  place(site: number): number {
    let hash = site;
    for (const s of this.calls[this.current]) hash = Math.imul(hash ^ s, 0x9e3779b1) ^ (hash >>> 13);
    return hash;
  }

  /** The running thread has seen `value` in a word. If that is what it saw last, and it has not had anything to do
   *  since it began anew, it is where it was. */
  saw(site: number, word: number, value: number): void {
    const last = this.last[this.current];
    if ((last.get(word) ?? 0) !== value) {
      last.set(word, value);
      this.works(site);
    }
    if (this.working[this.current]) this.read(value);
  }

  /** The running thread has something to do. */
  works(site: number): void {
    if (!this.working[this.current]) this.read(this.place(site));
    this.working[this.current] = true;
    this.read(1);
  }

  /** The running thread begins anew. */
  top(): void {
    if (this.working[this.current]) this.read(2);
    this.working[this.current] = false;
  }

  private read(value: number): void {
    const { history } = this;
    const at = 2 * this.current;
    const a = Math.imul(history[at] ^ value, 0x85ebca6b);
    history[at] = (a ^ (a >>> 15)) + 1;
    const b = Math.imul(history[at + 1] + value, 0xc2b2ae35);
    history[at + 1] = (b ^ (b >>> 13)) + 7;
  }

  /** The running thread has seen or left a word as it is now. */
  note(word: number, array: Words, index: number): void {
    this.looked[this.current].set(word, { array, index, value: array[index] });
  }

  /** Whether a thread can go on: it does not sleep; or it only gives others time, and would see something else if it looked
   *  again. */
  isReady(t: number): boolean {
    const p = this.pending[t];
    if (p === null || !p.asleep) return p !== null;
    if (!p.gives) return false;
    for (const { array, index, value } of this.looked[t].values()) if (array[index] !== value) return true;
    return false;
  }

  /** The running thread begins to look at everything that it could wait for. */
  look(): void {
    this.looked[this.current].clear();
  }

  /** Whether threads can be stopped now. */
  get isActive(): boolean {
    return this.known.active();
  }

  /** Notes an operation; says whether others can tell when it happens. */
  notice(word: number, kind: Kind): boolean {
    return this.known.notice(word, this.current, kind === 'load' || kind === 'wait');
  }

  /** Notes that the index has grown, or something of the kind. */
  levelled(): void {
    this.known.notice(LEVEL, this.current, false);
  }

  perform(site: number, word: number, kind: Kind, array: Words, index: number, value: number): number {
    let got = 0;
    if (kind === 'load') got = real.load(array, index);
    else if (kind === 'store') real.store(array, index, value);
    else if (kind === 'add') got = real.add(array, index, value);
    else got = real.sub(array, index, value);
    this.note(word, array, index);
    if (kind !== 'load' && this.levels.has(array.buffer)) this.levelled();
    this.saw(site, kind === 'load' ? word : -word, got);
    return kind === 'store' ? value : got;
  }

  wake(word: number): number {
    let n = 0;
    for (const p of this.pending) {
      if (p === null || !p.asleep || p.word !== word) continue;
      p.asleep = false;
      n++;
    }
    return n;
  }

  /** What is in the tables now. */
  contents(): number {
    let hash = 1;
    for (const table of this.tables) {
      for (let i = 0; i < table.length; i++)
        if (table[i] !== 0) hash = Math.imul(hash ^ table[i] ^ i, 0x9e3779b1) + (hash >>> 15);
    }
    return hash;
  }

  /** A number for the state of everything: threads that have read the same go on in the same way. */
  key(salt: number): number {
    let a = salt | 0;
    let b = ~salt;
    const mix = (v: number): void => {
      a = Math.imul(a ^ v, 0x85ebca6b);
      a ^= a >>> 15;
      b = Math.imul(b + v, 0xc2b2ae35);
      b ^= b >>> 13;
    };
    for (const h of this.history) mix(h);
    for (const [t, p] of this.pending.entries()) {
      mix(this.isReady(t) ? 1 : 2);
      mix(p === null ? 1 : p.asleep ? 2 : 3);
      mix(p === null ? 0 : p.word % 2 ** 31);
      mix(p === null ? 0 : p.place);
    }
    for (const w of this.working) mix(w ? 1 : 2);
    for (const word of this.known.visible)
      mix(this.known.arrays[Math.floor(word / STRIDE)]?.[word % STRIDE] ?? 0);
    return (a >>> 0) * 2 ** 21 + (b & 0x1fffff);
  }
}

/** Which thread reads and which changes which words, as far as has been seen in any run. A word that one thread alone
 *  uses, or none changes, needs no stop. */
export class Knowledge {
  private readonly readers = new Map<number, number>();
  private readonly writers = new Map<number, number>();
  readonly visible = new Set<number>();
  arrays: Int32Array[] = [];
  /** Something new has been learned since: runs before may have stopped too rarely. */
  grown = false;
  /** Whether threads are stopped: not while they get ready, or finish. */
  active = (): boolean => false;

  /** Notes that a thread uses a word; says whether others could tell when. */
  notice(word: number, thread: number, isRead: boolean): boolean {
    if (!this.active()) return false;
    const map = isRead ? this.readers : this.writers;
    const before = map.get(word) ?? 0;
    const bit = 1 << thread;
    if ((before & bit) === 0) {
      map.set(word, before | bit);
      this.grown = true;
    }
    const writers = (this.writers.get(word) ?? 0) & ~bit;
    const others = isRead ? writers : writers | ((this.readers.get(word) ?? 0) & ~bit);
    if (others !== 0) this.visible.add(word);
    return others !== 0;
  }
}

let threads: Threads;
/** Nobody runs: memory is being made. */
let idle = true;

/** The threads whose code runs from now on; null: none. */
export function use(all: Threads | null): void {
  idle = all === null;
  if (all !== null) threads = all;
}

function plain(kind: Kind, array: Words, index: number, value: number): number {
  if (idle) return real[kind as 'add'](array, index, value);
  const word = threads.wordOf(array, index);
  threads.notice(word, kind);
  return threads.perform(0, word, kind, array, index, value);
}

/** `Atomics` of code that is not interrupted. */
export const plainAtomics = {
  load: (array: Words, index: number): number => plain('load', array, index, 0),
  store: (array: Words, index: number, value: number): number => plain('store', array, index, value),
  add: (array: Words, index: number, value: number): number => plain('add', array, index, value),
  sub: (array: Words, index: number, value: number): number => plain('sub', array, index, value),
  notify: (array: Words, index: number): number => (idle ? 0 : threads.wake(threads.wordOf(array, index))),
  wait(): never {
    throw new Error('model: a thread waits where it is not interrupted');
  },
};

/** Places that threads have come by while they could be stopped. */
export const passed = new Set<number>();

/** The running thread comes by a place. */
export function $mark(site: number): void {
  if (!idle && threads.isActive) passed.add(site);
}

/** The thread begins anew. */
export function $top(): void {
  threads.top();
  threads.look();
}

/** The thread tries again what it has waited for. */
export function $again(): void {
  threads.look();
}

/** The thread has something to do. */
export function $works(site: number): void {
  threads.works(site);
}

/** An atomic operation of a thread that can be interrupted. */
export function* $op(
  site: number,
  kind: Kind,
  array: Words,
  index: number,
  value = 0,
  timeout = Number.POSITIVE_INFINITY,
): Generator<Pending, unknown> {
  $mark(site);
  const word = threads.wordOf(array, index);
  if (threads.notice(word, kind) || kind === 'wait') yield stop(site, word);
  if (kind === 'notify') return threads.wake(word);
  if (kind !== 'wait') return threads.perform(site, word, kind, array, index, value);
  const now = real.load(array, index);
  threads.note(word, array, index);
  threads.saw(site, word, now);
  if (now !== value) return 'not-equal';
  // Fractions of a millisecond are for giving others time.
  yield { ...stop(-site, word), asleep: true, gives: timeout < 1 };
  return 'ok';
}

function stop(site: number, word: number): Pending {
  return { site, word, place: threads.place(site), asleep: false, gives: false };
}

type Method = (...args: unknown[]) => unknown;

/** A call of a method, in the form that can be interrupted if there is one. */
export function* $call(
  site: number,
  owner: unknown,
  name: string,
  ...args: unknown[]
): Generator<Pending, unknown> {
  if (owner === null || owner === undefined) return undefined;
  const methods = owner as Record<string, Method | undefined>;
  const steps = methods[`${name}$`];
  if (steps === undefined) return (methods[name] as Method).apply(owner, args);
  const calls = threads.calls[threads.current];
  calls.push(site);
  const got = yield* steps.apply(owner, args) as Generator<Pending, unknown>;
  calls.pop();
  return got;
}

interface Ring {
  ring: { write_ptr: Words; read_ptr: Words };
  push(words: Int32Array, n: number, from?: number): boolean;
  pushSome(words: Int32Array, n: number, from: number): number;
  pop(words: Int32Array, max: number, at?: number): number;
  empty(): boolean;
}

/** What is done to a ring, in one step. What a thread gets to know is what comes out, not how far the other is. */
export function* $ring(ring: Ring, name: keyof Ring, args: IArguments): Generator<Pending, unknown> {
  const word = threads.wordOf(ring.ring.write_ptr, 0);
  if (threads.notice(word, name === 'empty' ? 'load' : 'store')) yield stop(name === 'empty' ? 1 : 2, word);
  idle = true;
  const got = (ring[name as 'pop'] as Method)(...args) as number | boolean;
  idle = false;
  threads.note(word, ring.ring.write_ptr, 0);
  threads.note(threads.wordOf(ring.ring.read_ptr, 0), ring.ring.read_ptr, 0);
  if (name === 'empty') {
    // Whoever sees that there is something will do something.
    if (got === false) threads.works(3);
    return got;
  }
  if (got === false || got === 0) {
    threads.saw(4, word, 0);
    return got;
  }
  threads.works(5);
  const [words, , at] = args as unknown as [Int32Array, number, number | undefined];
  threads.saw(6, -1, Number(got));
  if (name === 'pop') for (let i = 0; i < (got as number); i++) threads.saw(7, -2, words[(at ?? 0) + i]);
  return got;
}

/** Of all tables together, and of the level of the index: words that do not exist. */
const TABLES = 2 ** 50;
const LEVEL = TABLES + 1;

/** The thread is about to read or change tables. */
export function* $look(site: number): Generator<Pending, void> {
  $mark(site);
  if (!threads.notice(TABLES, 'store')) return;
  yield stop(site, TABLES);
  threads.saw(site, TABLES, threads.contents());
}

/** The thread looks how large the index is (Partition.refresh). */
export function* $level(site: number, partition: unknown): Generator<Pending, void> {
  const { ctl } = partition as { ctl: Int32Array };
  if (threads.notice(LEVEL, 'load')) yield stop(site, LEVEL);
  for (let i = 0; i < 3; i++) threads.saw(site, LEVEL + 1 + i, ctl[i]);
}

/** Channels between threads: messages are there at once. */
export class MessageChannel {
  readonly port1 = new Port();
  readonly port2 = new Port();
  constructor() {
    this.port1.other = this.port2;
    this.port2.other = this.port1;
  }
}
export type MessagePort = Port;
class Port {
  other: Port | null = null;
  readonly messages: unknown[] = [];
  postMessage(message: unknown): void {
    this.other!.messages.push(message);
  }
  close(): void {}
}

export function receiveMessageOnPort(port: Port): { message: unknown } | undefined {
  return port.messages.length === 0 ? undefined : { message: port.messages.shift() };
}
