/** The packet arena: one SharedArrayBuffer cut into equal segments.
 *  Owner: the thread that reads captures and collects verdicts; only it calls the methods here. Workers
 *  see `sab` and touch the bytes of packets handed to them, ordered by the rings; never the counts.
 *  A segment goes free -> open (a reader fills it) -> closed -> free, the last step when its reader has
 *  closed it and every packet held in it has been released. Free segments are a stack, so that the one
 *  used last, still in the cache, is filled next. */

import { MAX_PACKET_BYTES, type PacketArena } from './types.js';

/** Bytes that a reader leaves unused at the start of a segment, so that a link header can be written in
 *  front of the first packet. */
export const SEGMENT_HEADROOM = 64;

/** Bytes in a segment unless told otherwise. */
export const DEFAULT_SEGMENT_BYTES = 1 << 20;

/** The smallest segment that any packet up to MAX_PACKET_BYTES fits into, with headroom and headers. */
export const MIN_SEGMENT_BYTES = MAX_PACKET_BYTES + 1024;

/** The fewest segments with which `nReaders` readers over one arena can always go on once every packet
 *  that was delivered has been released: each may have one segment open and one look-ahead packet held
 *  in another. */
export function minSegments(nReaders: number): number {
  return 2 * Math.max(1, nReaders);
}

export class SegmentArena implements PacketArena {
  /** The memory itself, to post to workers. */
  readonly sab: SharedArrayBuffer;
  readonly u8: Uint8Array;
  readonly segmentBytes: number;
  readonly nSegments: number;
  /** Packets in each segment that were not released. */
  private readonly held: Int32Array;
  /** 1 while a reader fills the segment. */
  private readonly open: Uint8Array;
  private readonly free: Int32Array;
  private nFree: number;

  /** `nSegments` segments of `segmentBytes` each (a multiple of 8, default 1 MiB), at most 2^31 - 1
   *  bytes together, because packet offsets travel in Int32Arrays. Throws RangeError otherwise. */
  constructor(nSegments: number, segmentBytes: number = DEFAULT_SEGMENT_BYTES) {
    if (!Number.isInteger(segmentBytes) || segmentBytes < 256 || segmentBytes % 8 !== 0) {
      throw new RangeError(
        `arena: segment size ${segmentBytes} is not a multiple of 8 of at least 256 bytes`,
      );
    }
    const most = Math.floor(0x7fffffff / segmentBytes);
    if (!Number.isInteger(nSegments) || nSegments < 1 || nSegments > most) {
      throw new RangeError(
        `arena: ${nSegments} segments of ${segmentBytes} bytes; there can be 1 to ${most}`,
      );
    }
    this.sab = new SharedArrayBuffer(nSegments * segmentBytes);
    this.u8 = new Uint8Array(this.sab);
    this.segmentBytes = segmentBytes;
    this.nSegments = nSegments;
    this.held = new Int32Array(nSegments);
    this.open = new Uint8Array(nSegments);
    this.free = new Int32Array(nSegments);
    for (let i = 0; i < nSegments; i++) this.free[i] = nSegments - 1 - i;
    this.nFree = nSegments;
  }

  /** Segments that `acquire` could hand out now. */
  get nFreeSegments(): number {
    return this.nFree;
  }

  acquire(): number {
    if (this.nFree === 0) return -1;
    const segment = this.free[--this.nFree];
    this.open[segment] = 1;
    return segment;
  }

  close(segment: number): void {
    if (this.open[segment] !== 1) throw new Error(`arena: segment ${segment} closed, but it is not open`);
    this.open[segment] = 0;
    if (this.held[segment] === 0) this.free[this.nFree++] = segment;
  }

  /** Readers hold each packet that they deliver; whoever collects it releases it. */
  hold(segment: number, n = 1): void {
    this.held[segment] += n;
  }

  release(segment: number): void {
    const left = --this.held[segment];
    if (left > 0) return;
    // `!(left === 0)` also catches NaN: a segment number out of range.
    if (!(left === 0)) throw new Error(`arena: a packet of segment ${segment} was released twice`);
    if (this.open[segment] === 0) this.free[this.nFree++] = segment;
  }
}
