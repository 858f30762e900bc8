/** Where a reader's bytes come from: a file descriptor, read synchronously, or a stream. */

import fs from 'node:fs';
import type { Readable } from 'node:stream';
import { CaptureError } from './types.js';

/** `ByteFeed.read` and `skip`: nothing more will come. */
export const FEED_END = 0;
/** `ByteFeed.read` and `skip`: nothing is there yet; await `readable()`. */
export const FEED_STARVED = -1;

/** A pull source of bytes in order. */
export interface ByteFeed {
  /** What error messages call it. */
  readonly name: string;
  /** Copies 1 to `max` bytes to `u8[off...]` and returns how many; FEED_END; or FEED_STARVED.
   *  Throws CaptureError when the source fails. */
  read(u8: Uint8Array, off: number, max: number): number;
  /** Passes over 1 to `n` bytes and returns how many; FEED_END; or FEED_STARVED. */
  skip(n: number): number;
  /** Resolves when a starved feed may have more. Never rejects; errors come out of `read`. */
  readable(): Promise<void>;
  /** After FEED_END: why the data ended before its time (a truncated gzip), or ''. */
  readonly shortfall: string;
  close(): void;
}

/** The system's reason in words: "ENOENT: no such file or directory, open ..." loses its tail. */
export function systemReason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { syscall } = error as NodeJS.ErrnoException;
  const tail = syscall === undefined ? -1 : error.message.lastIndexOf(`, ${syscall}`);
  return tail < 0 ? error.message : error.message.slice(0, tail);
}

/** A regular file. Positional reads, so that skipping is free and `rewind` possible. */
export class FileFeed implements ByteFeed {
  readonly name: string;
  shortfall = '';
  private readonly fd: number;
  /** The most bytes that the file is known to have had. */
  private size: number;
  private position = 0;
  private closed = false;

  /** Takes over the descriptor. */
  constructor(name: string, fd: number) {
    this.name = name;
    this.fd = fd;
    try {
      this.size = this.sizeNow();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  read(u8: Uint8Array, off: number, max: number): number {
    if (this.closed) return FEED_END;
    let n = -1;
    while (n < 0) {
      try {
        n = fs.readSync(this.fd, u8, off, max, this.position);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EINTR') throw this.failed(error);
      }
    }
    this.position += n;
    if (n === 0) this.noteShrinking();
    return n;
  }

  private failed(error: unknown): CaptureError {
    const message = `cannot read the file: ${systemReason(error)}`;
    return new CaptureError(this.name, this.position, message, { cause: error });
  }

  private sizeNow(): number {
    try {
      return fs.fstatSync(this.fd).size;
    } catch (error) {
      throw this.failed(error);
    }
  }

  private noteShrinking(): void {
    const size = this.sizeNow();
    if (this.position < this.size || size < this.size) {
      this.shortfall = `the file was cut from ${this.size} to ${size} bytes while it was read; what came before that was read`;
    }
  }

  skip(n: number): number {
    if (this.closed) return FEED_END;
    const left = this.sizeNow() - this.position;
    if (left <= 0) {
      this.noteShrinking();
      return FEED_END;
    }
    const step = Math.min(n, left);
    this.position += step;
    return step;
  }

  /** Back to the first byte. */
  rewind(): void {
    this.position = 0;
  }

  async readable(): Promise<void> {}

  close(): void {
    if (this.closed) return;
    this.closed = true;
    try {
      fs.closeSync(this.fd);
    } catch {
      // What was read was read.
    }
  }
}

/** A queue of chunks that producers fill and a reader empties; the common half of the stream feeds. */
export abstract class ChunkFeed implements ByteFeed {
  readonly name: string;
  shortfall = '';
  /** Bytes waiting in the queue. */
  protected queued = 0;
  protected ended = false;
  protected failure: CaptureError | undefined;
  /** Bytes taken out, for error offsets. */
  protected taken = 0;
  private chunks: Uint8Array[] = [];
  private head = 0;
  private headOff = 0;
  private waiters: (() => void)[] = [];

  constructor(name: string) {
    this.name = name;
  }

  read(u8: Uint8Array, off: number, max: number): number {
    return this.take(u8, off, max);
  }

  skip(n: number): number {
    return this.take(undefined, 0, n);
  }

  private take(u8: Uint8Array | undefined, off: number, max: number): number {
    let n = 0;
    while (n < max && this.head < this.chunks.length) {
      const chunk = this.chunks[this.head];
      const step = Math.min(max - n, chunk.length - this.headOff);
      if (u8 !== undefined) u8.set(chunk.subarray(this.headOff, this.headOff + step), off + n);
      n += step;
      this.headOff += step;
      if (this.headOff === chunk.length) {
        this.headOff = 0;
        this.head++;
        if (this.head === this.chunks.length) {
          this.chunks.length = 0;
          this.head = 0;
        } else if (this.head >= 64 && this.head * 2 >= this.chunks.length) {
          // Half of it at least, so that a queue of any length costs the same per chunk.
          this.chunks.splice(0, this.head);
          this.head = 0;
        }
      }
    }
    if (n > 0) {
      this.queued -= n;
      this.taken += n;
      this.drained();
      return n;
    }
    if (this.failure !== undefined) throw this.failure;
    return this.ended ? FEED_END : FEED_STARVED;
  }

  /** Puts bytes back in front of the queue: what a look at the file's first bytes has taken. */
  unread(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    if (this.headOff > 0) {
      this.chunks[this.head] = this.chunks[this.head].subarray(this.headOff);
      this.headOff = 0;
    }
    this.chunks.splice(this.head, 0, bytes);
    this.queued += bytes.length;
    this.taken -= bytes.length;
  }

  readable(): Promise<void> {
    if (this.queued > 0 || this.ended || this.failure !== undefined) return Promise.resolve();
    return new Promise((resolve) => this.waiters.push(resolve));
  }

  /** Chunks waiting in the queue. */
  protected get nChunks(): number {
    return this.chunks.length - this.head;
  }

  protected push(chunk: Uint8Array): void {
    if (chunk.length === 0) return;
    this.chunks.push(chunk);
    this.queued += chunk.length;
    this.wake();
  }

  protected end(): void {
    this.ended = true;
    this.wake();
  }

  /** The feed fails once what is queued has been read. */
  protected fail(message: string, cause?: unknown): void {
    this.failWith(new CaptureError(this.name, this.taken + this.queued, message, { cause }));
  }

  protected failWith(error: CaptureError): void {
    if (this.ended || this.failure !== undefined) return;
    this.failure = error;
    this.wake();
  }

  protected discard(): void {
    this.chunks.length = 0;
    this.head = 0;
    this.headOff = 0;
    this.queued = 0;
    this.end();
  }

  private wake(): void {
    if (this.waiters.length === 0) return;
    const waiters = this.waiters;
    this.waiters = [];
    for (const resolve of waiters) resolve();
  }

  /** Called after bytes were taken: time to ask the producer for more? */
  protected abstract drained(): void;
  abstract close(): void;
}

const STREAM_HIGH = 1 << 20;
const STREAM_LOW = 1 << 18;
/** Chunks may be as small as a byte, and then it is their number that costs. */
const STREAM_CHUNKS = 4096;

/** Any Readable of bytes: standard input, a named pipe, a socket. Pauses it while a mebibyte or 4096 chunks wait. */
export class StreamFeed extends ChunkFeed {
  private readonly stream: Readable;
  private paused = false;

  constructor(name: string, stream: Readable) {
    super(name);
    this.stream = stream;
    stream.on('data', (chunk: Uint8Array | string) => {
      this.push(typeof chunk === 'string' ? Buffer.from(chunk) : chunk);
      if (!this.paused && (this.queued > STREAM_HIGH || this.nChunks > STREAM_CHUNKS)) {
        this.paused = true;
        stream.pause();
      }
    });
    stream.on('end', () => this.end());
    stream.on('error', (error) => this.fail(`cannot read the stream: ${systemReason(error)}`, error));
    stream.on('close', () => this.fail('the stream was closed before its end'));
  }

  protected drained(): void {
    if (this.paused && this.queued < STREAM_LOW && this.nChunks < STREAM_CHUNKS / 2) {
      this.paused = false;
      this.stream.resume();
    }
  }

  close(): void {
    this.discard();
    this.stream.destroy();
  }
}
