/** A source without the packets that a filter leaves out, which are counted. */
import type { SegmentArena } from './arena.js';
import type { PacketFilter } from './filter.js';
import type { MergedRecord, PacketSource } from './merge.js';
import { type LeftOut, SiftedSource } from './sifted.js';

export class FilteredSource extends SiftedSource {
  readonly filtered: LeftOut = { packets: 0, bytes: 0 };
  private readonly passes: PacketFilter;

  constructor(source: PacketSource, passes: PacketFilter, arena: SegmentArena) {
    super(source, arena);
    this.passes = passes;
  }

  protected sift(packet: MergedRecord): LeftOut | null {
    return this.passes(this.view, packet.off, packet.capLen, packet.wireLen) ? null : this.filtered;
  }
}
