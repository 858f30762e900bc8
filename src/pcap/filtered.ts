/** A source without the packets that a filter leaves out, which are counted. */
import type { SegmentArena } from './arena.js';
import type { PacketFilter } from './filter.js';
import type { MergedRecord, PacketSource } from './merge.js';
import { type CaptureNotice, ReadResult } from './types.js';

/** Packets that may be left out in a row before others have their turn. */
const MOST_IN_A_ROW = 1 << 14;

export class FilteredSource implements PacketSource {
  /** Left out: packets, and bytes of their frames on the wire. */
  readonly filtered = { packets: 0, bytes: 0 };
  private readonly source: PacketSource;
  private readonly passes: PacketFilter;
  private readonly arena: SegmentArena;
  private readonly view: DataView;
  private isWaiting = false;

  constructor(source: PacketSource, passes: PacketFilter, arena: SegmentArena) {
    this.source = source;
    this.passes = passes;
    this.arena = arena;
    this.view = new DataView(arena.sab);
  }

  next(packet: MergedRecord): ReadResult {
    const { source, arena, view, filtered } = this;
    for (let n = 0; n < MOST_IN_A_ROW; n++) {
      const state = source.next(packet);
      if (state !== ReadResult.PACKET) {
        this.isWaiting = state === ReadResult.STARVED;
        return state;
      }
      if (this.passes(view, packet.off, packet.capLen, packet.wireLen)) return state;
      filtered.packets++;
      filtered.bytes += packet.wireLen;
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
