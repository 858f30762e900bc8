/** A buffered output file that looks whole only when it is.
 *
 *  Everything goes to `<path>.partial`, which `finish` renames to `<path>`; after a crash or `abort` the partial file
 *  stays under its own name. It is always a new file: of two processes that write one output, the first finds at its end
 *  that what is called so is not its own, and fails. "-" is standard output. A path that exists and is no regular file (a device, a named
 *  pipe) is written straight to. Writes are synchronous; a full pipe is waited for, and a named one without a reader,
 *  so that signals end the process (patience.ts). */

import { createHash, type Hash } from 'node:crypto';
import fs from 'node:fs';
import { systemReason } from './feed.js';
import { isWorthwhile, mortally, pause } from './patience.js';

const BUFFER_BYTES = 1 << 18;
const RETRY_MS = 1;
/** A reader that takes nothing for so long has stalled. */
const STALLED_MS = 20;
/** What was interrupted waits no longer for its reader. */
const LAST_MS = 1000;
const { O_WRONLY, O_APPEND, O_NONBLOCK } = fs.constants;
const encoder = new TextEncoder();

/** What has been written to an output so far. */
export interface Written {
  length: number;
  /** SHA-256. */
  digest: string;
}

/** Whoever read an output does not want any more of it. */
export class ClosedPipeError extends Error {
  override name = 'ClosedPipeError';
}

export class OutputFile {
  /** As given. */
  readonly path: string;
  /** The write buffer, for writers that compose records in place after `reserve`. */
  readonly buffer: Uint8Array = new Uint8Array(BUFFER_BYTES);
  readonly view: DataView = new DataView(this.buffer.buffer);
  private readonly fd: number;
  /** What is being written, and what it will be called; '' if written straight to. */
  private readonly partial: string;
  private readonly target: string;
  private used = 0;
  private state: 'open' | 'finished' | 'aborted' = 'open';

  /** Bytes that the system has. */
  private written = 0;
  /** Of the bytes before HASHED; begins with the first `sync`. */
  private hash: Hash | null = null;
  private hashed = 0;

  /** Opens the file for writing. With `resume`, goes on behind what an earlier process had written when `sync` returned
   *  this. Throws Error naming the path and the system's reason. */
  constructor(path: string, resume: Written | null = null) {
    this.path = path;
    if (path === '-') {
      this.partial = '';
      this.target = '';
      this.fd = 1;
      return;
    }
    try {
      const stat = fs.statSync(path, { throwIfNoEntry: false });
      if (stat?.isDirectory()) throw new Error('it is a folder');
      const straight = stat !== undefined && !stat.isFile();
      // A symbolic link stays one: the file behind it is replaced.
      this.target = straight ? '' : stat === undefined ? path : fs.realpathSync(path);
      this.partial = straight ? '' : `${this.target}.partial`;
      // 'a' for pipes and devices: nothing to truncate.
      if (resume !== null) {
        if (straight) throw new Error('it is no regular file');
        // The process may have finished this file, and not others.
        const left = fs.existsSync(this.partial) ? this.partial : this.target;
        this.fd = fs.openSync(left, 'r+');
        this.goOn(resume);
        if (left !== this.partial) fs.renameSync(left, this.partial);
        return;
      }
      if (stat?.isFIFO()) this.fd = openPipe(path);
      else if (straight) this.fd = fs.openSync(path, 'a');
      else {
        fs.rmSync(this.partial, { force: true });
        this.fd = fs.openSync(this.partial, 'wx+');
      }
    } catch (error) {
      throw this.error('open', error);
    }
  }

  /** Hands everything to the disk; returns what is there. Only of regular files. */
  sync(): Written {
    this.flush();
    try {
      fs.fdatasyncSync(this.fd);
      return { length: this.written, digest: this.digest() };
    } catch (error) {
      throw this.error('write', error);
    }
  }

  /** Of all that is written, as the file has it. */
  private digest(): string {
    this.hash ??= createHash('sha256');
    const bytes = new Uint8Array(BUFFER_BYTES);
    while (this.hashed < this.written) {
      const n = fs.readSync(
        this.fd,
        bytes,
        0,
        Math.min(bytes.length, this.written - this.hashed),
        this.hashed,
      );
      if (n === 0) throw new Error('somebody else has cut it');
      this.hash.update(bytes.subarray(0, n));
      this.hashed += n;
    }
    return this.hash.copy().digest('hex');
  }

  private goOn({ length, digest }: Written): void {
    this.written = length;
    if (fs.fstatSync(this.fd).size < length || this.digest() !== digest) {
      fs.closeSync(this.fd);
      throw new Error('it is not what the checkpoint is of any more; remove the checkpoint to start anew');
    }
    fs.ftruncateSync(this.fd, length);
  }

  /** Appends bytes (a copy is taken). Throws Error naming the path and the reason, as do all methods but `abort`. */
  write(bytes: Uint8Array): void {
    this.writeRange(bytes, 0, bytes.length);
  }

  /** Appends `length` bytes of `bytes` from `off` on. */
  writeRange(bytes: Uint8Array, off: number, length: number): void {
    while (length > 0) {
      let room = BUFFER_BYTES - this.used;
      if (room === 0) {
        this.flush();
        room = BUFFER_BYTES;
      }
      const step = Math.min(room, length);
      this.buffer.set(bytes.subarray(off, off + step), this.used);
      this.used += step;
      off += step;
      length -= step;
    }
  }

  /** Appends text as UTF-8. */
  writeText(text: string): void {
    // A UTF-16 unit takes three bytes at most.
    if (text.length * 3 > BUFFER_BYTES) {
      this.write(encoder.encode(text));
      return;
    }
    if (this.used + text.length * 3 > BUFFER_BYTES) this.flush();
    this.used += encoder.encodeInto(text, this.buffer.subarray(this.used)).written;
  }

  /** Appends `n` bytes (at most 64 KiB) and returns their offset in `buffer` and `view`, for the caller to fill
   *  before the next call. Their content is undefined until then. */
  reserve(n: number): number {
    if (this.used + n > BUFFER_BYTES) this.flush();
    const at = this.used;
    this.used += n;
    return at;
  }

  /** Hands what is buffered to the system, so that a reader of a pipe sees it. */
  flush(): void {
    this.flushFor(Number.POSITIVE_INFINITY);
  }

  /** Waits at most so long for a reader that takes nothing. */
  private flushFor(mostMs: number): void {
    if (this.state !== 'open') throw new Error(`${this.label}: cannot write: the output is ${this.state}`);
    let at = 0;
    try {
      while (at < this.used) {
        let n = this.writeFrom(at);
        if (n < 0) n = this.awaitReader(at, STALLED_MS, 0);
        if (n < 0) n = mortally(() => this.awaitReader(at, mostMs, STALLED_MS));
        if (n < 0) throw new Error('nobody reads it');
        at += n;
        this.written += n;
      }
    } catch (error) {
      // What was written is not written again by a later flush or abort.
      this.buffer.copyWithin(0, at, this.used);
      this.used -= at;
      throw this.error('write', error);
    }
    this.used = 0;
  }

  /** Writes what can be written, -1: nothing now. */
  private writeFrom(at: number): number {
    try {
      return fs.writeSync(this.fd, this.buffer, at, this.used - at, this.position);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      return -1;
    }
  }

  /** `writeFrom` again and again, until it has waited for so long or it is not worthwhile; -1: it has written nothing. */
  private awaitReader(at: number, mostMs: number, waitedMs: number): number {
    const began = performance.now() - waitedMs;
    for (;;) {
      pause(RETRY_MS);
      const n = this.writeFrom(at);
      const waited = performance.now() - began;
      if (n >= 0 || waited >= mostMs || !isWorthwhile(waited)) return n;
    }
  }

  /** Writes the rest, closes the file and gives it its name. Further calls do nothing. */
  finish(): void {
    if (this.state !== 'open') return;
    this.flush();
    this.state = 'finished';
    try {
      const ours = this.partial === '' || isSame(fs.fstatSync(this.fd), fs.statSync(this.partial));
      if (this.fd !== 1) fs.closeSync(this.fd);
      if (!ours) throw new Error('another process has begun to write it');
      if (this.partial !== '') fs.renameSync(this.partial, this.target);
    } catch (error) {
      throw this.error('finish', error);
    }
  }

  /** Writes what it can at once, closes the file and leaves it as `<path>.partial`. Never throws; does nothing after
   *  `finish`. */
  abort(): void {
    if (this.state !== 'open') return;
    try {
      this.flushFor(LAST_MS);
    } catch {
      // The reason for aborting is known already.
    }
    this.state = 'aborted';
    try {
      if (this.fd !== 1) fs.closeSync(this.fd);
    } catch {
      // As above.
    }
  }

  /** Closes the file and leaves nothing of it; a device or pipe stays. Never throws; does nothing after `finish`. */
  discard(): void {
    if (this.state !== 'open') return;
    this.used = 0;
    this.abort();
    if (this.partial !== '') fs.rmSync(this.partial, { force: true });
  }

  /** Where to write; null: where the system is. */
  private get position(): number | null {
    return this.partial === '' ? null : this.written;
  }

  private get label(): string {
    return this.path === '-' ? '<stdout>' : this.path;
  }

  private error(what: string, error: unknown): Error {
    const message = `${this.label}: cannot ${what} the output: ${systemReason(error)}`;
    const closed = (error as NodeJS.ErrnoException).code === 'EPIPE';
    return closed ? new ClosedPipeError(message, { cause: error }) : new Error(message, { cause: error });
  }
}

function isSame(a: fs.Stats, b: fs.Stats): boolean {
  return a.ino === b.ino && a.dev === b.dev;
}

/** Opens a named pipe for writing, once it has a reader. */
function openPipe(path: string): number {
  const open = (): number => {
    try {
      return fs.openSync(path, O_WRONLY | O_APPEND | O_NONBLOCK);
    } catch (error) {
      // It has no reader.
      if ((error as NodeJS.ErrnoException).code !== 'ENXIO') throw error;
      return -1;
    }
  };
  const fd = open();
  if (fd >= 0) return fd;
  return mortally(() => {
    const began = performance.now();
    for (;;) {
      pause(RETRY_MS);
      const fd = open();
      if (fd >= 0) return fd;
      if (!isWorthwhile(performance.now() - began)) throw new Error('nobody reads it');
    }
  });
}
