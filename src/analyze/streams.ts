/** Records of slices on their way to the thread that writes: a stream of rows for each slice, which that thread merges.
 *
 *  Rows go through CHUNKS chunks of shared memory in turn. Writer of a chunk: the slice, until it has moved WRITTEN on; then
 *  the thread that merges, until it has moved READ on. A chunk that ends with a mark says that all slices have given out
 *  what is due there (coordinator/records.ts): so the merged rows are in the order of creation between two marks, as
 *  one thread would have given them out. While all chunks are full the slice waits: memory is bounded. */
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { ConnectionRecord, createdOf, ROW_SHIFT, ROW_WORDS } from '../coordinator/record.js';
import type { RuleNames } from '../output/records/columns.js';
import { waitForThread } from '../pcap/patience.js';

const CHUNK_ROWS = 256;
const CHUNKS = 16;
/** Chunks written and read; then of each chunk its rows and what comes behind them. */
const WRITTEN = 0;
const READ = 1;
const CHUNK_0 = 2;
const MORE = 0;
const MARK = 1;
const END = 2;
const PATIENCE_MS = 100;

/** What both ends of a stream share. Names of rules go through ports. */
export interface StreamMemory {
  rows: SharedArrayBuffer;
  control: SharedArrayBuffer;
}

export function allocateStream(): StreamMemory {
  return {
    rows: new SharedArrayBuffer(CHUNKS * CHUNK_ROWS * ROW_WORDS * 4),
    control: new SharedArrayBuffer((CHUNK_0 + 2 * CHUNKS) * 4),
  };
}

export interface RuleName {
  stat: number;
  name: string | null;
}

/** The end of a slice. */
export class RowStream {
  private readonly words: Int32Array;
  private readonly control: Int32Array;
  private readonly port: MessagePort;
  private readonly check: () => void;
  private readonly named = new Set<number>();
  private chunk = 0;
  private n = 0;

  /** `check` is called now and then, above all while the stream waits, and throws if nobody reads any more. */
  constructor(memory: StreamMemory, port: MessagePort, check: () => void) {
    this.words = new Int32Array(memory.rows);
    this.control = new Int32Array(memory.control);
    this.port = port;
    this.check = check;
  }

  record(r: ConnectionRecord, ruleOf: RuleNames): void {
    if (r.drops > 0 && !this.named.has(r.dropStat)) {
      this.named.add(r.dropStat);
      this.port.postMessage({ stat: r.dropStat, name: ruleOf(r.dropStat) } satisfies RuleName);
    }
    const { words, base } = r;
    const to = (this.chunk * CHUNK_ROWS + this.n) << ROW_SHIFT;
    for (let i = 0; i < ROW_WORDS; i++) this.words[to + i] = words[base + i];
    if (++this.n === CHUNK_ROWS) this.hand(MORE);
  }

  /** All that is due at a mark has been given out. */
  mark(): void {
    this.hand(MARK);
  }

  end(): void {
    this.hand(END);
  }

  private hand(kind: number): void {
    const { control } = this;
    control[CHUNK_0 + 2 * this.chunk] = this.n;
    control[CHUNK_0 + 2 * this.chunk + 1] = kind;
    this.n = 0;
    this.chunk = (this.chunk + 1) % CHUNKS;
    const written = Atomics.add(control, WRITTEN, 1) + 1;
    Atomics.notify(control, WRITTEN);
    this.check();
    for (let again = false; ; again = true) {
      const read = Atomics.load(control, READ);
      if (((written - read) | 0) < CHUNKS) return;
      waitForThread(control, READ, read, PATIENCE_MS, again);
      this.check();
    }
  }
}

/** The other end. */
class RowReader {
  readonly words: Int32Array;
  readonly f64: Float64Array;
  private readonly control: Int32Array;
  private readonly port: MessagePort;
  private readonly names = new Map<number, string | null>();
  private chunk = -1;
  private at = 0;
  private n = 0;
  private kind = MORE;
  /** First word of the row that is next, -1 behind the last before a mark; and CREATED of it. */
  base = -1;
  created = Number.POSITIVE_INFINITY;

  constructor(memory: StreamMemory, port: MessagePort) {
    this.words = new Int32Array(memory.rows);
    this.f64 = new Float64Array(memory.rows);
    this.control = new Int32Array(memory.control);
    this.port = port;
  }

  get ended(): boolean {
    return this.kind === END;
  }

  /** On to the next row. `check` is called while there is none. */
  next(check: () => void): void {
    this.at++;
    while (this.at >= this.n) {
      if (this.chunk >= 0 && this.kind !== MORE) {
        this.base = -1;
        this.created = Number.POSITIVE_INFINITY;
        return;
      }
      this.nextChunk(check);
    }
    this.base = (this.chunk * CHUNK_ROWS + this.at) << ROW_SHIFT;
    this.created = createdOf(this.f64, this.base);
  }

  /** Past a mark, to the first row behind it. */
  pass(check: () => void): void {
    this.kind = MORE;
    this.next(check);
  }

  private nextChunk(check: () => void): void {
    const { control } = this;
    if (this.chunk >= 0) {
      Atomics.add(control, READ, 1);
      Atomics.notify(control, READ);
    }
    const read = Atomics.load(control, READ);
    for (;;) {
      const written = Atomics.load(control, WRITTEN);
      if (written !== read) break;
      check();
      Atomics.wait(control, WRITTEN, written, PATIENCE_MS);
    }
    this.chunk = (this.chunk + 1) % CHUNKS;
    this.n = control[CHUNK_0 + 2 * this.chunk];
    this.kind = control[CHUNK_0 + 2 * this.chunk + 1];
    this.at = 0;
  }

  /** The name comes through the port, which may be a little later than the row. */
  nameOf(stat: number, check: () => void): string | null {
    for (;;) {
      const name = this.names.get(stat);
      if (name !== undefined) return name;
      const got = receiveMessageOnPort(this.port) as { message: RuleName } | undefined;
      if (got === undefined) {
        check();
        Atomics.wait(this.control, READ, Atomics.load(this.control, READ), 1);
      } else this.names.set(got.message.stat, got.message.name);
    }
  }
}

/** Makes one of all streams. */
export class StreamMerger {
  private readonly readers: readonly RowReader[];
  private readonly check: () => void;
  private current: RowReader;

  /** `check` is called while there is no row, and throws if there won't be any more. */
  constructor(streams: readonly (StreamMemory & { port: MessagePort })[], check: () => void) {
    this.readers = streams.map((s) => new RowReader(s, s.port));
    this.current = this.readers[0];
    this.check = check;
  }

  /** Of the row that has been given out last. */
  readonly ruleOf: RuleNames = (stat) => this.current.nameOf(stat, this.check);

  /** Gives out all rows, in order, to the end of the streams. */
  run(give: (record: ConnectionRecord) => void): void {
    const { readers, check } = this;
    for (const reader of readers) reader.next(check);
    for (;;) {
      let first = readers[0];
      for (const reader of readers) if (reader.created < first.created) first = reader;
      if (first.base >= 0) {
        this.current = first;
        give(new ConnectionRecord(first.words, first.f64, first.base));
        first.next(check);
      } else {
        // All are at the same mark, or at their ends.
        if (first.ended) return;
        for (const reader of readers) reader.pass(check);
      }
    }
  }
}
