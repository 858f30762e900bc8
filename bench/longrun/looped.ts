/** Packets in memory, as a capture that begins again and again. Each round comes `gap` after the one before, on the clock;
 *  longer gaps inside of it, as between captures of different years, are cut to that. */
import type { Loaded } from '../../src/bench/load.js';
import type { CaptureNotice, CaptureReader, PacketArena, PacketRecord } from '../../src/pcap/types.js';
import { ReadResult } from '../../src/pcap/types.js';

const FIRST_SECOND = 1_600_000_000;
const ALIGN = 15;
/** Readers may read words behind a frame. */
const SLACK = 64;

export class LoopedReader implements CaptureReader {
  readonly name = 'loop';
  readonly notices: readonly CaptureNotice[] = [];
  /** Packets given out. */
  given = 0;
  /** Set it, and the input ends. */
  ended = false;
  private readonly loaded: Loaded;
  private readonly arena: PacketArena;
  private readonly frames: Uint8Array;
  private readonly clockMs: Float64Array;
  private readonly roundMs: number;
  private segment = -1;
  private pos = 0;
  private end = 0;
  private row = 0;
  private began = 0;

  constructor(loaded: Loaded, arena: PacketArena, gapMs: number) {
    this.loaded = loaded;
    this.arena = arena;
    this.frames = new Uint8Array(loaded.arena);
    this.clockMs = new Float64Array(loaded.n);
    for (let i = 1; i < loaded.n; i++) {
      const since = Math.min(gapMs, loaded.clockMs[i] - loaded.clockMs[i - 1]);
      this.clockMs[i] = this.clockMs[i - 1] + since;
    }
    this.roundMs = this.clockMs[loaded.n - 1] + gapMs;
  }

  get rounds(): number {
    return this.given / this.loaded.n;
  }

  /** Seconds of capture time so far. */
  get seconds(): number {
    return this.began / 1000;
  }

  readable(): Promise<void> {
    return Promise.resolve();
  }

  close(): void {
    if (this.segment >= 0) this.arena.close(this.segment);
    this.segment = -1;
  }

  next(packet: PacketRecord): ReadResult {
    if (this.ended) return ReadResult.END;
    const { arena, loaded } = this;
    const i = this.row;
    const length = loaded.len[i];
    if (this.end - this.pos < length + SLACK) {
      if (this.segment >= 0) arena.close(this.segment);
      this.segment = arena.acquire();
      if (this.segment < 0) return ReadResult.ARENA_FULL;
      this.pos = this.segment * arena.segmentBytes + SLACK;
      this.end = (this.segment + 1) * arena.segmentBytes;
    }
    const from = loaded.off[i];
    arena.u8.set(this.frames.subarray(from, from + length), this.pos);
    const ms = this.began + this.clockMs[i];
    packet.off = this.pos;
    packet.segment = this.segment;
    packet.sec = FIRST_SECOND + Math.floor(ms / 1000);
    packet.nsec = (ms % 1000) * 1e6;
    packet.capLen = packet.wireLen = length;
    packet.iface = loaded.port[i];
    this.pos += (length + ALIGN) & ~ALIGN;
    arena.hold(this.segment);
    this.given++;
    if (++this.row === loaded.n) {
      this.row = 0;
      this.began += this.roundMs;
    }
    return ReadResult.PACKET;
  }
}
