/** Writes connection records in a thread of its own, and sums them up there, so that formats cost the thread that
 *  reads and dispatches packets nothing but a copy of each row.
 *
 *  Rows go through CHUNKS chunks of shared memory in turn. Writer of a chunk: the main thread, until it has said so
 *  in a message; then the thread that writes, until it has moved DONE on. Messages are in order, so that the name of a
 *  rule is there before the rows that need it. While all chunks are full the main thread waits: memory is bounded.
 *  This is its side; that of the thread, which alone loads the formats, is record-thread.ts. */
import fs from 'node:fs';
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from 'node:worker_threads';
import { type ConnectionRecord, ROW_SHIFT, ROW_WORDS } from '../coordinator/record.js';
import type { RuleNames } from '../output/records/columns.js';
import type { RecordOutput } from '../output/records/formats.js';
import { ClosedPipeError } from '../pcap/output-file.js';
import { waitForThread } from '../pcap/patience.js';
import { checkRoom } from '../shm/room.js';
import type { StreamMemory } from './streams.js';
import type { SummarizerState, Summary, SummaryShare } from './summary.js';

/** Rows of a chunk. */
export const CHUNK_ROWS = 1024;
const CHUNKS = 8;

/** Words that both threads see: messages sent, chunks written out, 1 once the thread has failed, checkpoints, the
 *  thread's number as Linux has it, else 0, 1 if it is to give up streams that have not ended, and 1 if it is to give up
 *  outputs that nobody reads. */
export const SENT = 0;
export const DONE = 1;
export const FAILED = 2;
export const SAVED = 3;
export const THREAD = 4;
export const ABORTED = 5;
export const HURRIED = 6;
const CONTROL_BYTES = 32;

/** What the thread starts with. */
export interface WriterInit {
  outputs: readonly RecordOutput[];
  rows: SharedArrayBuffer;
  control: SharedArrayBuffer;
  /** To go on from. */
  saved: WriterState | null;
}

/** Plain data: what each sink has saved, and the sums so far. */
export interface WriterState {
  sinks: unknown[];
  sums: SummarizerState;
}

export type Message =
  | { kind: 'rows'; chunk: number; n: number }
  | { kind: 'rule'; stat: number; name: string | null }
  | { kind: 'streams'; streams: readonly (StreamMemory & { port: MessagePort })[] }
  | { kind: 'save'; to: MessagePort }
  | { kind: 'finish'; share: boolean }
  | { kind: 'abort' };

/** Totals over all records, and what they say together. */
export interface Summed {
  counted: { connections: number; packets: number; bytes: number };
  summary: Summary;
  /** If asked for. */
  share: SummaryShare | null;
}

export type Answer =
  | { kind: 'open' }
  | { kind: 'done'; summed: Summed | null }
  | { kind: 'failed'; message: string; closed: boolean };

/** The main thread's side. */
export class RecordWriter {
  private readonly worker: Worker;
  private readonly control: Int32Array;
  private readonly words: Int32Array;
  private readonly named = new Set<number>();
  private chunk = 0;
  private n = 0;
  /** Chunks handed over. */
  private sent = 0;
  private failure: Error | null = null;
  private finished = false;
  private settle: { resolve: (summed: Summed | null) => void; reject: (error: Error) => void } | null = null;
  private readonly ended: Promise<void>;

  private constructor(
    outputs: readonly RecordOutput[],
    saved: WriterState | null,
    hurriedBy: readonly (AbortSignal | undefined)[],
    opened: () => void,
    failed: (error: Error) => void,
  ) {
    const rows = new SharedArrayBuffer(CHUNKS * CHUNK_ROWS * ROW_WORDS * 4);
    const control = new SharedArrayBuffer(CONTROL_BYTES);
    this.words = new Int32Array(rows);
    this.control = new Int32Array(control);
    const workerData: WriterInit = { outputs, rows, control, saved };
    checkRoom(1);
    this.worker = new Worker(new URL('../../workers/records.js', import.meta.url), { workerData });
    const fail = (error: Error): void => {
      this.failure ??= error;
      this.settle?.reject(this.failure);
      failed(error);
    };
    this.worker.on('message', (answer: Answer) => {
      if (answer.kind === 'open') opened();
      else if (answer.kind === 'done') this.settle?.resolve(answer.summed);
      else fail(answer.closed ? new ClosedPipeError(answer.message) : new Error(answer.message));
    });
    this.worker.on('error', (error) =>
      fail(new Error(`the thread that writes records failed: ${error.message}`, { cause: error })),
    );
    const hurry = (): void => {
      Atomics.store(this.control, HURRIED, 1);
    };
    for (const signal of hurriedBy) {
      if (signal?.aborted) hurry();
      signal?.addEventListener('abort', hurry, { once: true });
    }
    this.ended = new Promise((resolve) =>
      this.worker.once('exit', () => {
        for (const signal of hurriedBy) signal?.removeEventListener('abort', hurry);
        resolve();
      }),
    );
  }

  /** Has all outputs opened, and does not wait for that: if one can't be, the next call of another method says so. */
  static start(
    outputs: readonly RecordOutput[],
    hurriedBy: readonly (AbortSignal | undefined)[],
  ): RecordWriter {
    const nothing = (): void => {};
    return new RecordWriter(outputs, null, hurriedBy, nothing, nothing);
  }

  /** Opens all outputs, or goes on with them from a checkpoint. After a signal of `hurriedBy` nobody waits long for those
   *  who read them. Rejects with Error naming one that can't be opened. */
  static open(
    outputs: readonly RecordOutput[],
    saved: WriterState | null = null,
    hurriedBy: readonly (AbortSignal | undefined)[] = [],
  ): Promise<RecordWriter> {
    return new Promise((resolve, reject) => {
      const writer: RecordWriter = new RecordWriter(outputs, saved, hurriedBy, () => resolve(writer), reject);
    });
  }

  /** Takes a record over. Throws Error if an output has failed. */
  record(r: ConnectionRecord, ruleOf: RuleNames): void {
    if (r.drops > 0 && !this.named.has(r.dropStat)) {
      this.named.add(r.dropStat);
      this.post({ kind: 'rule', stat: r.dropStat, name: ruleOf(r.dropStat) });
    }
    const to = (this.chunk * CHUNK_ROWS + this.n) << ROW_SHIFT;
    for (let i = 0; i < ROW_WORDS; i++) this.words[to + i] = r.words[r.base + i];
    if (++this.n === CHUNK_ROWS) this.hand();
  }

  /** Has the thread take its records from slices until their streams have ended, instead of from `record`. */
  take(streams: readonly (StreamMemory & { port: MessagePort })[]): void {
    this.worker.postMessage(
      { kind: 'streams', streams } satisfies Message,
      streams.map((s) => s.port),
    );
    this.ring();
  }

  /** For `checkWriter`. */
  get controlMemory(): SharedArrayBuffer {
    return this.control.buffer as SharedArrayBuffer;
  }

  /** Writes out all that has come and waits for it: what another writer needs to go on from here. Throws Error if an
   *  output has failed. */
  save(): WriterState {
    this.hand();
    const { port1, port2 } = new MessageChannel();
    const { control } = this;
    const before = Atomics.load(control, SAVED);
    this.worker.postMessage({ kind: 'save', to: port2 } satisfies Message, [port2]);
    this.ring();
    for (let again = false; ; again = true) {
      const got = receiveMessageOnPort(port1) as { message: WriterState } | undefined;
      if (got !== undefined) {
        port1.close();
        return got.message;
      }
      this.check();
      waitForThread(control, SAVED, before, 10, again);
    }
  }

  /** Makes all outputs whole; resolves to what all records say together. */
  async finish(share: boolean): Promise<Summed> {
    this.hand();
    const summed = await this.ask({ kind: 'finish', share });
    await this.ended;
    this.finished = true;
    return summed as Summed;
  }

  /** Leaves outputs as they are, under their temporary names. Never rejects; resolves to what was wrong with them, or
   *  null. */
  async abort(): Promise<Error | null> {
    if (this.finished) return null;
    Atomics.store(this.control, ABORTED, 1);
    // A thread that has died answers nothing.
    if (this.failure === null) await Promise.race([this.ask({ kind: 'abort' }).catch(() => {}), this.ended]);
    await this.ended;
    return this.failure;
  }

  private ask(message: Message): Promise<Summed | null> {
    return new Promise((resolve, reject) => {
      this.settle = { resolve, reject };
      if (this.failure === null) this.post(message);
      else reject(this.failure);
    });
  }

  private hand(): void {
    if (this.n === 0) return;
    this.post({ kind: 'rows', chunk: this.chunk, n: this.n });
    this.sent++;
    this.n = 0;
    this.chunk = this.sent % CHUNKS;
    const { control } = this;
    for (let again = false; ; again = true) {
      const done = Atomics.load(control, DONE);
      this.check();
      if (((this.sent - done) | 0) < CHUNKS) return;
      waitForThread(control, DONE, done, 100, again);
    }
  }

  private post(message: Message): void {
    this.worker.postMessage(message);
    this.ring();
  }

  /** Throws Error if the thread has failed, or died. Its reason is a message that can't be seen from here; `abort` tells. */
  private check(): void {
    if (this.failure !== null) throw this.failure;
    checkWriter(this.control);
  }

  private ring(): void {
    Atomics.add(this.control, SENT, 1);
    Atomics.notify(this.control, SENT);
  }
}

/** Throws Error if the thread that has this control block has failed, or died. */
export function checkWriter(control: Int32Array): void {
  if (Atomics.load(control, FAILED) !== 0) throw new Error('an output of records has failed');
  const thread = Atomics.load(control, THREAD);
  if (thread !== 0 && !fs.existsSync(`/proc/self/task/${thread}`)) {
    throw new Error('the thread that writes records has died');
  }
}
