/** A source without the packets that somebody leaves out, which are counted. */
import type { SegmentArena } from './arena.js';
import type { MergedRecord, PacketSource } from './merge.js';
import { type CaptureNotice, ReadResult } from './types.js';

/** Packets that may be left out in a row before others have their turn. */
const MOST_IN_A_ROW = 1 << 14;

/** Packets, and bytes of their frames on the wire. */
export interface LeftOut {
  packets: number;
  bytes: number;
}

export abstract class SiftedSource implements PacketSource {
  /** Of the arena. */
  protected readonly view: DataView;
  private readonly source: PacketSource;
  private readonly arena: SegmentArena;
  private isWaiting = false;

  constructor(source: PacketSource, arena: SegmentArena) {
    this.source = source;
    this.arena = arena;
    this.view = new DataView(arena.sab);
  }

  /** Null if the packet is given out, else what it counts for. Called once for each. */
  protected abstract sift(packet: MergedRecord): LeftOut | null;

  next(packet: MergedRecord): ReadResult {
    const { source, arena } = this;
    for (let n = 0; n < MOST_IN_A_ROW; n++) {
      const state = source.next(packet);
      if (state !== ReadResult.PACKET) {
        this.isWaiting = state === ReadResult.STARVED;
        return state;
      }
      const left = this.sift(packet);
      if (left === null) return state;
      left.packets++;
      left.bytes += packet.wireLen;
      arena.release(packet.segment);
    }
    this.isWaiting = false;
    return ReadResult.STARVED;
  }

  async readable(): Promise<void> {
    if (this.isWaiting) await this.source.readable();
  }

  get notices(): readonly CaptureNotice[] {
    return this.source.notices;
  }

  close(): void {
    this.source.close();
  }
}
