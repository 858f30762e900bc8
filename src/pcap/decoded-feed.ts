/** A compressed feed, decoded (decoders.ts): zstd, lz4, xz. Decoding goes on while less than a mebibyte waits. */
import { type Compression, CutShort, Intake } from './decoders.js';
import { type ByteFeed, ChunkFeed, systemReason } from './feed.js';
import { CaptureError } from './types.js';

const QUEUE_HIGH = 1 << 20;

export class DecodedFeed extends ChunkFeed {
  private readonly inner: ByteFeed;
  private readonly compression: Compression;
  private resume: (() => void) | undefined;
  private closed = false;

  constructor(inner: ByteFeed, compression: Compression) {
    super(inner.name);
    this.inner = inner;
    this.compression = compression;
    void this.pump();
  }

  private async pump(): Promise<void> {
    const { name, check } = this.compression;
    const intake = new Intake(this.inner);
    try {
      for await (const bytes of this.compression.decode(intake)) {
        if (this.closed) return;
        this.push(bytes);
        if (this.queued > QUEUE_HIGH) {
          await new Promise<void>((resolve) => {
            this.resume = resolve;
          });
        }
        if (this.closed) return;
      }
      this.shortfall = this.inner.shortfall;
      this.end();
    } catch (error) {
      if (error instanceof CutShort) {
        this.shortfall = `the ${name} stream is cut off after ${intake.taken} compressed bytes; what it held up to there was read`;
        this.end();
      } else if (error instanceof CaptureError) {
        this.failWith(error);
      } else {
        this.fail(
          `the ${name} stream is damaged near compressed byte ${intake.taken} (${systemReason(error)}); ` +
            `the packets before it were read; check the file with ${check}`,
        );
      }
    }
  }

  protected drained(): void {
    if (this.resume === undefined || this.queued > QUEUE_HIGH / 2) return;
    const { resume } = this;
    this.resume = undefined;
    resume();
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.discard();
    this.resume?.();
    this.inner.close();
  }
}
