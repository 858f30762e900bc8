/** Several captures as one, in order of time.
 *
 *  One packet of each capture is looked at ahead; a binary heap of capture numbers, ordered by that packet's
 *  timestamp and then by the captures' order, gives the next. So ties go to the capture that comes first in the list,
 *  and each capture keeps its own order even where its timestamps step back. */

import {
  type CaptureNotice,
  type CaptureReader,
  type PacketArena,
  type PacketRecord,
  ReadResult,
  type Stretch,
} from './types.js';
import { newPacketRecord } from './window.js';

const { END, PACKET } = ReadResult;

/** A packet and the index of the reader that it came from. */
export interface MergedRecord extends PacketRecord {
  source: number;
}

/** An empty record for `MergedSource.next` to fill. */
export function newMergedRecord(): MergedRecord {
  return { ...newPacketRecord(), source: 0 };
}

/** Makes `packet` what `head` of capture `source` is. */
export function mergeInto(packet: MergedRecord, head: PacketRecord, source: number): void {
  packet.off = head.off;
  packet.capLen = head.capLen;
  packet.wireLen = head.wireLen;
  packet.sec = head.sec;
  packet.nsec = head.nsec;
  packet.iface = head.iface;
  packet.segment = head.segment;
  packet.source = source;
}

/** Packets of one or more captures, in the order in which they are to be replayed. */
export interface PacketSource {
  /** The next packet into `packet`. ARENA_FULL and STARVED as in `CaptureReader.next`. */
  next(packet: MergedRecord): ReadResult;
  /** Resolves when a STARVED source may have more. */
  readable(): Promise<void>;
  readonly notices: readonly CaptureNotice[];
  /** Of a share of a source: the clock and numbers of the whole, which go on with packets that are not given out. */
  readonly clock?: SourceClock | null;
  /** As in `CaptureReader`: what comes next, if that is what `next` would give. */
  stretch?(): Stretch | null;
  close(): void;
}

/** Times of the first packet, and the latest of any so far; the number of the one given out last, from 0. */
export interface SourceClock {
  packet: number;
  firstSec: number;
  firstNsec: number;
  sec: number;
  nsec: number;
}

export class MergedSource implements PacketSource {
  private readonly readers: readonly CaptureReader[];
  private readonly arena: PacketArena;
  /** The look-ahead packet of each reader. */
  private readonly heads: PacketRecord[];
  /** Readers with a look-ahead packet, the earliest first. */
  private readonly heap: Int32Array;
  private nHeap = 0;
  /** Readers that need a new look-ahead packet. */
  private readonly pending: Int32Array;
  private nPending: number;

  /** Takes over the readers, all over `arena`, which needs `minSegments(readers.length)` segments. */
  constructor(readers: readonly CaptureReader[], arena: PacketArena) {
    this.readers = readers;
    this.arena = arena;
    this.heads = readers.map(newPacketRecord);
    this.heap = new Int32Array(readers.length);
    // A stack: the first reader on top.
    this.pending = Int32Array.from(readers, (_, i) => readers.length - 1 - i);
    this.nPending = readers.length;
  }

  /** The earliest packet of all readers into `packet`. ARENA_FULL and STARVED as in `CaptureReader.next`; a
   *  CaptureError of any reader ends the run. */
  next(packet: MergedRecord): ReadResult {
    if (this.readers.length === 1) {
      packet.source = 0;
      return this.readers[0].next(packet);
    }
    while (this.nPending > 0) {
      const reader = this.pending[this.nPending - 1];
      const state = this.readers[reader].next(this.heads[reader]);
      if (state !== PACKET && state !== END) return state;
      this.nPending--;
      if (state === PACKET) this.enter(reader);
    }
    if (this.nHeap === 0) return END;
    const source = this.heap[0];
    const head = this.heads[source];
    mergeInto(packet, head, source);
    this.leaveTop();
    this.pending[this.nPending++] = source;
    return PACKET;
  }

  /** Resolves when the reader that `next` found starved may have more. */
  readable(): Promise<void> {
    if (this.readers.length === 1) return this.readers[0].readable();
    return this.nPending > 0 ? this.readers[this.pending[this.nPending - 1]].readable() : Promise.resolve();
  }

  /** Those of all readers, in their order. */
  get notices(): CaptureNotice[] {
    return this.readers.flatMap((reader) => [...reader.notices]);
  }

  /** Closes the readers and lets go of the packets looked at ahead. */
  close(): void {
    while (this.nHeap > 0) this.arena.release(this.heads[this.heap[--this.nHeap]].segment);
    this.nPending = 0;
    for (const reader of this.readers) reader.close();
  }

  private before(a: number, b: number): boolean {
    const x = this.heads[a];
    const y = this.heads[b];
    if (x.sec !== y.sec) return x.sec < y.sec;
    if (x.nsec !== y.nsec) return x.nsec < y.nsec;
    return a < b;
  }

  private enter(reader: number): void {
    const heap = this.heap;
    let at = this.nHeap++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.before(reader, heap[parent])) break;
      heap[at] = heap[parent];
      at = parent;
    }
    heap[at] = reader;
  }

  private leaveTop(): void {
    const heap = this.heap;
    const n = --this.nHeap;
    if (n === 0) return;
    const last = heap[n];
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= n) break;
      if (child + 1 < n && this.before(heap[child + 1], heap[child])) child++;
      if (!this.before(heap[child], last)) break;
      heap[at] = heap[child];
      at = child;
    }
    heap[at] = last;
  }
}
