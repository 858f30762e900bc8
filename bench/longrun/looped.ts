/** Packets in memory, as a capture that begins again and again. Each round comes `gap` after the one before, on the clock;
 *  longer gaps inside of it, as between captures of different years, are cut to that. */
import type { Loaded } from '../../src/bench/load.js';
import type { PacketArena, PacketRecord } from '../../src/pcap/types.js';
import { ReadResult } from '../../src/pcap/types.js';
import { MadeReader } from '../traffic/made-reader.js';

const FIRST_SECOND = 1_600_000_000;

export class LoopedReader extends MadeReader {
  /** Packets given out. */
  given = 0;
  /** Set it, and the input ends. */
  ended = false;
  private readonly loaded: Loaded;
  private readonly frames: Uint8Array;
  private readonly clockMs: Float64Array;
  private readonly roundMs: number;
  private row = 0;
  private began = 0;

  constructor(loaded: Loaded, arena: PacketArena, gapMs: number) {
    super('loop', arena);
    this.loaded = loaded;
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

  next(packet: PacketRecord): ReadResult {
    if (this.ended) return ReadResult.END;
    const { arena, loaded } = this;
    const i = this.row;
    const length = loaded.len[i];
    if (!this.makeRoom(length)) return ReadResult.ARENA_FULL;
    const from = loaded.off[i];
    arena.u8.set(this.frames.subarray(from, from + length), this.pos);
    const ms = this.began + this.clockMs[i];
    packet.sec = FIRST_SECOND + Math.floor(ms / 1000);
    packet.nsec = (ms % 1000) * 1e6;
    packet.iface = loaded.port[i];
    this.give(packet, length);
    this.given++;
    if (++this.row === loaded.n) {
      this.row = 0;
      this.began += this.roundMs;
    }
    return ReadResult.PACKET;
  }
}
