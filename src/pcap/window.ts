/** The part that the capture readers share: a window of capture bytes inside one arena segment.
 *
 *  `pos` is the next byte to parse, `end` the end of what was read. `fill(n)` makes n bytes from `pos` on
 *  contiguous: it reads on into the same segment while they fit, or else acquires the next segment, copies
 *  the unparsed tail (part of one record) to its start and closes the old one. Nothing is copied or
 *  allocated per packet. Packets stay where the read put them; in front of each lies its record header,
 *  at least 12 bytes that nobody reads again.
 *
 *  Writer: the reader, in the thread that owns the arena. Readers of the bytes: whoever was handed a packet,
 *  ordered by the ring that hands it over. */

import { SEGMENT_HEADROOM } from './arena.js';
import { type ByteFeed, FEED_END, FEED_STARVED } from './feed.js';
import {
  CaptureError,
  type CaptureNotice,
  type CaptureReader,
  type PacketArena,
  type PacketRecord,
  ReadResult,
} from './types.js';

const { END, PACKET, ARENA_FULL, STARVED } = ReadResult;

/** `wireLen` is kept below this, so that it stays a positive int32 whatever a damaged header claims. */
const MAX_WIRE_LEN = 0x7fffff00;

/** The `wireLen` of a packet with these two lengths in its record: at least what is there. */
export function boundedWireLen(capLen: number, wireLen: number): number {
  if (wireLen < capLen) return capLen;
  return Math.min(wireLen, MAX_WIRE_LEN);
}

/** An empty record for `CaptureReader.next` to fill. */
export function newPacketRecord(): PacketRecord {
  return { off: 0, capLen: 0, wireLen: 0, sec: 0, nsec: 0, iface: 0, segment: 0 };
}

export abstract class WindowReader implements CaptureReader {
  readonly name: string;
  readonly notices: CaptureNotice[] = [];
  protected readonly feed: ByteFeed;
  protected readonly arena: PacketArena;
  protected readonly u8: Uint8Array;
  protected readonly view: DataView;
  /** Open segment, or -1. */
  protected segment = -1;
  protected pos = 0;
  protected end = 0;
  protected done = false;
  private segmentEnd = 0;
  /** Offset in the capture of the byte at `end`. */
  private endOffset: number;
  private failure: CaptureError | undefined;

  /** `startOffset`: how many bytes of the capture were taken from the feed before. */
  constructor(feed: ByteFeed, arena: PacketArena, startOffset: number) {
    this.name = feed.name;
    this.feed = feed;
    this.arena = arena;
    this.u8 = arena.u8;
    this.view = new DataView(arena.u8.buffer, arena.u8.byteOffset, arena.u8.byteLength);
    this.endOffset = startOffset;
  }

  abstract next(packet: PacketRecord): ReadResult;

  readable(): Promise<void> {
    return this.feed.readable();
  }

  close(): void {
    this.done = true;
    this.leaveSegment();
    this.feed.close();
  }

  /** The longest run of bytes that `fill` can make contiguous. */
  protected get windowBytes(): number {
    return this.arena.segmentBytes - SEGMENT_HEADROOM;
  }

  /** Offset of `pos` in the capture. */
  protected get offset(): number {
    return this.endOffset - (this.end - this.pos);
  }

  /** Makes `n` bytes contiguous at `pos`. PACKET: they are there. END: the capture ends before. */
  protected fill(n: number): ReadResult {
    if (n > this.windowBytes) {
      this.fail(
        this.offset,
        `a record of ${n} bytes does not fit the arena's segments of ${this.arena.segmentBytes} bytes; use larger ones`,
      );
    }
    while (this.end - this.pos < n) {
      if (this.segment < 0 || this.pos + n > this.segmentEnd) {
        const next = this.arena.acquire();
        if (next < 0) return ARENA_FULL;
        const start = next * this.arena.segmentBytes + SEGMENT_HEADROOM;
        this.u8.copyWithin(start, this.pos, this.end);
        this.end = start + (this.end - this.pos);
        this.pos = start;
        if (this.segment >= 0) this.arena.close(this.segment);
        this.segment = next;
        this.segmentEnd = (next + 1) * this.arena.segmentBytes;
      }
      const got = this.feed.read(this.u8, this.end, this.segmentEnd - this.end);
      if (got === FEED_STARVED) return STARVED;
      if (got === FEED_END) return END;
      this.end += got;
      this.endOffset += got;
    }
    return PACKET;
  }

  /** Passes over up to `n` bytes; the number passed, or FEED_END / FEED_STARVED. */
  protected skip(n: number): number {
    const here = this.end - this.pos;
    if (here > 0) {
      const step = Math.min(n, here);
      this.pos += step;
      return step;
    }
    const got = this.feed.skip(n);
    if (got > 0) this.endOffset += got;
    return got;
  }

  /** The end of the capture: before a record if `recordOffset` equals `offset`, or inside one. */
  protected finish(recordOffset: number, needed: number): ReadResult {
    const there = this.endOffset - recordOffset;
    if (there > 0) {
      this.notices.push({
        file: this.name,
        offset: recordOffset,
        message: `the capture is cut off in mid-record: the record needs ${needed} bytes and ${there} are there; every packet before it was read`,
      });
    }
    if (this.feed.shortfall !== '') {
      this.notices.push({ file: this.name, offset: this.endOffset, message: this.feed.shortfall });
    }
    this.done = true;
    this.leaveSegment();
    return END;
  }

  /** What `next` gives after the end: END, or the same error again. */
  protected ended(): ReadResult {
    if (this.failure !== undefined) throw this.failure;
    return END;
  }

  protected fail(offset: number, message: string): never {
    this.failure = new CaptureError(this.name, offset, message);
    this.done = true;
    this.leaveSegment();
    throw this.failure;
  }

  private leaveSegment(): void {
    if (this.segment >= 0) this.arena.close(this.segment);
    this.segment = -1;
    this.pos = 0;
    this.end = 0;
    this.segmentEnd = 0;
  }
}

/** The words that end a message about damage at `offset`. */
export function damageRemedy(offset: number): string {
  return `the packets before it were read; the file is damaged from there on: repair it, or keep its first ${offset} bytes (head -c ${offset})`;
}
