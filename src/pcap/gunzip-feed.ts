/** Gunzips one feed into another, with node:zlib (RFC 1952; members that follow one another are joined).
 *
 *  The input is handed to zlib in pieces, the next only when the piece before is done and the reader has
 *  taken most of the output: so the queue is bounded, and when zlib reports damage we know in which piece.
 *  zlib withholds what the failing call had already decoded. The input is therefore decoded again, the failing
 *  piece in smaller ones and at last byte by byte, so that everything in front of the damage is delivered. A pipe can't be read again; its
 *  first HISTORY_BYTES are kept for this. Behind them up to OUTPUT_CHUNK bytes in front of the damage are lost. */

import zlib from 'node:zlib';
import { type ByteFeed, ChunkFeed, FEED_END, FEED_STARVED, FileFeed, systemReason } from './feed.js';
import { CaptureError } from './types.js';

const PIECE = 1 << 15;
const OUTPUT_CHUNK = 1 << 17;
const QUEUE_HIGH = 1 << 20;
const HISTORY_BYTES = 1 << 20;
/** Piece sizes of one attempt after the other. Of more output than AGAIN_BYTES the second attempt is the last: to
 *  decode so much once more costs more than 32768 single bytes, which take half a second. */
const SMALL_PIECE = 1 << 8;
const AGAIN_BYTES = 1 << 26;

export class GunzipFeed extends ChunkFeed {
  private readonly inner: ByteFeed;
  private gunzip!: zlib.Gunzip;
  /** Compressed bytes that zlib has finished with. */
  private nIn = 0;
  /** Bytes decoded so far, for the second attempt to leave out. */
  private nOut = 0;
  private leaveOut = 0;
  /** Compressed bytes that zlib gets at a time from the compressed offset `carefulFrom` on; PIECE before it. */
  private pieceBytes = PIECE;
  private carefulFrom = 0;
  /** What was read from a pipe, while it is little enough to keep. */
  private history: Buffer[] | undefined = [];
  private resumePump: (() => void) | undefined;
  private zlibError: NodeJS.ErrnoException | undefined;
  private settle: (() => void) | undefined;
  private closed = false;

  constructor(inner: ByteFeed) {
    super(inner.name);
    this.inner = inner;
    this.start();
    this.pump().catch((error) =>
      error instanceof CaptureError ? this.failWith(error) : this.fail(systemReason(error), error),
    );
  }

  private start(): void {
    const gunzip = zlib.createGunzip({ chunkSize: OUTPUT_CHUNK });
    this.zlibError = undefined;
    this.gunzip = gunzip;
    // Always flowing: the queue here is the only buffer, and nothing is lost when zlib fails.
    gunzip.on('data', (chunk: Uint8Array) => {
      if (gunzip !== this.gunzip || this.closed) return;
      if (this.leaveOut >= chunk.length) {
        this.leaveOut -= chunk.length;
        return;
      }
      const fresh = this.leaveOut > 0 ? chunk.subarray(this.leaveOut) : chunk;
      this.leaveOut = 0;
      this.nOut += fresh.length;
      this.push(fresh);
    });
    gunzip.on('error', (error: NodeJS.ErrnoException) => {
      if (gunzip !== this.gunzip) return;
      this.zlibError = error;
      this.settle?.();
    });
  }

  private async pump(): Promise<void> {
    const buffer = Buffer.allocUnsafe(PIECE);
    while (!this.closed) {
      if (this.queued > QUEUE_HIGH) {
        await new Promise<void>((resolve) => {
          this.resumePump = resolve;
        });
        continue;
      }
      const before = this.carefulFrom - this.nIn;
      const n = this.inner.read(buffer, 0, before > 0 ? Math.min(PIECE, before) : this.pieceBytes);
      if (n === FEED_STARVED) {
        await this.inner.readable();
        continue;
      }
      if (n > 0) this.keep(buffer.subarray(0, n));
      await (n === FEED_END ? this.finishInput() : this.feedPiece(buffer.subarray(0, n)));
      if (this.closed) return;
      if (this.zlibError !== undefined) {
        if (this.again(n)) continue;
        this.stop();
        return;
      }
      if (n === FEED_END) {
        this.shortfall = this.inner.shortfall;
        this.end();
        return;
      }
      this.nIn += n;
    }
  }

  private feedPiece(piece: Buffer): Promise<void> {
    return new Promise((resolve) => {
      this.settle = resolve;
      this.gunzip.write(piece, (error) => {
        if (error) this.zlibError ??= error;
        resolve();
      });
    });
  }

  private finishInput(): Promise<void> {
    return new Promise((resolve) => {
      this.settle = resolve;
      this.gunzip.once('end', resolve);
      this.gunzip.end();
    });
  }

  /** Keeps what a pipe gave in the first attempt, while it is little. */
  private keep(piece: Buffer): void {
    if (this.pieceBytes !== PIECE || this.inner instanceof FileFeed) return;
    if (this.nIn + piece.length > HISTORY_BYTES) this.history = undefined;
    this.history?.push(Buffer.from(piece));
  }

  /** Starts over with smaller pieces from the failing one on, which had `n` bytes, if that is possible. */
  private again(n: number): boolean {
    if (this.zlibError?.code !== 'Z_DATA_ERROR' || this.pieceBytes === 1) return false;
    if (this.inner instanceof FileFeed) {
      this.inner.rewind();
    } else if (this.inner instanceof ChunkFeed && this.history !== undefined) {
      this.inner.unread(Buffer.concat(this.history).subarray(0, this.nIn + n));
    } else {
      return false;
    }
    this.pieceBytes = this.pieceBytes === PIECE && this.nOut < AGAIN_BYTES ? SMALL_PIECE : 1;
    this.carefulFrom = this.nIn;
    this.nIn = 0;
    this.leaveOut = this.nOut;
    this.start();
    return true;
  }

  private stop(): void {
    const error = this.zlibError as NodeJS.ErrnoException;
    if (error.code === 'Z_BUF_ERROR') {
      this.shortfall = `the gzip stream is cut off after ${this.nIn} compressed bytes; what it held up to there was read`;
      this.end();
      return;
    }
    this.fail(
      `the gzip stream is damaged near compressed byte ${this.nIn} (${error.message}); ` +
        'the packets before it were read; check the file with gzip -t',
    );
  }

  protected drained(): void {
    if (this.resumePump !== undefined && this.queued <= QUEUE_HIGH / 2) {
      const resume = this.resumePump;
      this.resumePump = undefined;
      resume();
    }
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.discard();
    this.resumePump?.();
    this.settle?.();
    this.gunzip.destroy();
    this.inner.close();
  }
}
