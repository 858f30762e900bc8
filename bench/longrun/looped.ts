/** Packets in memory, as a capture that begins again and again. Each round comes `gap` after the one before, on the clock;
 *  longer gaps inside of it, as between captures of different years, are cut to that. It ends behind a whole round. */
import type { Loaded } from '../../src/bench/load.js';
import type { PacketArena, PacketRecord } from '../../src/pcap/types.js';
import { ReadResult } from '../../src/pcap/types.js';
import { MadeReader } from '../traffic/made-reader.js';

const FIRST_SECOND = 1_600_000_000;

/** Both, one behind the other. */
export function joined(a: Loaded, b: Loaded): Loaded {
  const at = (a.arena.byteLength + 15) & ~15;
  const arena = new SharedArrayBuffer(at + b.arena.byteLength);
  new Uint8Array(arena).set(new Uint8Array(a.arena));
  new Uint8Array(arena).set(new Uint8Array(b.arena), at);
  const last = a.clockMs[a.n - 1];
  return {
    arena,
    off: Int32Array.from([...a.off, ...b.off.map((off) => off + at)]),
    len: Int32Array.from([...a.len, ...b.len]),
    port: Int32Array.from([...a.port, ...b.port]),
    clockMs: Float64Array.from([...a.clockMs, ...b.clockMs.map((ms) => ms + last)]),
    n: a.n + b.n,
  };
}

export class LoopedReader extends MadeReader {
  /** Packets given out. */
  given = 0;
  /** Set it, and the input ends with this round. */
  ended = false;
  private readonly loaded: Loaded;
  private readonly frames: Uint8Array;
  private readonly clockMs: Float64Array;
  private readonly roundMs: number;
  private readonly most: number;
  private row = 0;
  private began = 0;

  /** Ends after `most` rounds. */
  constructor(loaded: Loaded, arena: PacketArena, gapMs: number, most: number) {
    super('loop', arena);
    this.most = most * loaded.n;
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
    const { arena, loaded } = this;
    const i = this.row;
    if ((this.ended && i === 0) || this.given === this.most) return ReadResult.END;
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
