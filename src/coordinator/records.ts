/** Gives out connection records when connections have ended, in an order that does not depend on the number of
 *  workers.
 *
 *  A connection is removed some time after it has ended, whenever the coordinator comes across it. So records wait
 *  here until the next *mark*, and those that had ended before the mark's clock are given out in the order of their
 *  creation. Marks are packets (every MARK_PACKETS, or fewer while many connections live), and before the records of
 *  a mark are given out, everything that has ended by its clock is removed. What a mark gives out is thus a function
 *  of the input alone, and so is which packets are marks. Memory is bounded by the connections that live, and those
 *  that end between two marks. */
import { type PartitionWriter, REMOVED_FLUSHED } from '../conntrack/partition.js';
import { CATEGORY, TALLY_REPEATED, TALLY_WORDS } from '../datapath/recorder.js';
import { ConnectionRecord, copyRow, ENDING_OPEN, ROW_SHIFT, ROW_WORDS } from './record.js';
import type { Slice } from './slice.js';

const MARK_PACKETS = 1 << 16;

/** Packets and bytes of a category of packets (CATEGORY). */
export interface Tallies {
  /** By category: packets and wire bytes. */
  readonly packets: Float64Array;
  readonly bytes: Float64Array;
  /** Packets that a further connection counts, in another zone. */
  readonly repeatedPackets: number;
  readonly repeatedBytes: number;
}

/** Of all recorders together. */
export function addTallies(tallies: readonly Float64Array[]): Float64Array {
  const sum = new Float64Array(TALLY_WORDS);
  for (const t of tallies) for (let i = 0; i < TALLY_WORDS; i++) sum[i] += t[i];
  return sum;
}

/** Sums up the recorders' tallies. */
export function sumTallies(tallies: readonly Float64Array[]): Tallies {
  const categories = TALLY_REPEATED / 2;
  const sum = addTallies(tallies);
  return {
    packets: Float64Array.from({ length: categories }, (_, i) => sum[2 * i]),
    bytes: Float64Array.from({ length: categories }, (_, i) => sum[2 * i + 1]),
    repeatedPackets: sum[TALLY_REPEATED],
    repeatedBytes: sum[TALLY_REPEATED + 1],
  };
}

/** The tallies of several runs together. */
export function joinTallies(all: readonly Tallies[]): Tallies {
  const sum = (of: (t: Tallies) => Float64Array): Float64Array =>
    all.map(of).reduce((a, b) => a.map((v, i) => v + b[i]));
  return {
    packets: sum((t) => t.packets),
    bytes: sum((t) => t.bytes),
    repeatedPackets: all.reduce((n, t) => n + t.repeatedPackets, 0),
    repeatedBytes: all.reduce((n, t) => n + t.repeatedBytes, 0),
  };
}

/** All packets that records count, once for every record. */
export function recordedPackets(t: Tallies): number {
  return t.packets[CATEGORY.CONNECTION] + t.repeatedPackets;
}

/** A row that waits for its mark. */
interface Waiting {
  /** Clock in ms. */
  readonly end: number;
  readonly record: ConnectionRecord;
}

/** Rows in a chunk of memory. */
const CHUNK_ROWS = 256;

/** What a keeper has to know to go on: `ends` of the rows that wait, which are in the order of the rows. */
export interface KeeperState {
  nextMark: number;
  quietUntil: number;
  ends: Float64Array;
  waiting: Int32Array;
  /** Rows of the connections that live. */
  live: Int32Array;
}

export class RecordKeeper {
  private readonly partitions: readonly PartitionWriter[];
  private readonly give: (record: ConnectionRecord) => void;
  private readonly settle: (clock: number) => void;
  private waiting: Waiting[] = [];
  /** Marks that have been dispatched and not reached: packet numbers, clocks, and how many packets have to be collected:
   *  in a slice fewer than there are before the mark. */
  private readonly marks: { packet: number; clock: number; at: number }[] = [];
  private nextMark = MARK_PACKETS;
  private chunk = new Int32Array(0);
  private chunkF64 = new Float64Array(0);
  private nRows = CHUNK_ROWS;
  /** The mark after which the next one is worth a look at all connections; in a slice without those of other slices, which
   *  are not known at once: then `quietFrom` is the mark before. */
  private quietUntil = 0;
  private quietFrom = -1;
  private readonly slice: Slice | null;
  /** Clock in ms of the flush under way. */
  flushClock = 0;

  /** `settle` removes all that has ended before a clock. */
  constructor(
    partitions: readonly PartitionWriter[],
    settle: (clock: number) => void,
    give: (record: ConnectionRecord) => void,
    slice?: Slice,
  ) {
    this.partitions = partitions;
    this.settle = settle;
    this.give = give;
    this.slice = slice ?? null;
  }

  /** The connection in `slot` is about to be removed, for this reason (REMOVED_*). */
  removed(partition: PartitionWriter, slot: number, reason: number): void {
    const end = reason === REMOVED_FLUSHED ? this.flushClock : partition.expires(slot);
    this.waiting.push({ end, record: this.row(partition, slot, reason) });
  }

  /** Packet number `packet`, of those that are run here number `at`, has been dispatched at `clock`. */
  dispatched(packet: number, clock: number, at: number = packet): void {
    if (packet !== this.nextMark) return;
    this.nextMark += MARK_PACKETS;
    this.marks.push({ packet, clock, at });
  }

  /** All packets before number `head` have been collected. */
  advance(head: number): void {
    while (this.marks.length > 0 && this.marks[0].at <= head) {
      const { packet, clock } = this.marks.shift()!;
      if (packet < this.quietUntil) continue;
      if (this.slice !== null && this.quietFrom >= 0) {
        this.quietUntil = this.quietFrom + this.slice.total();
        if (packet < this.quietUntil) continue;
      }
      this.settle(clock);
      const live = this.liveBefore(packet);
      this.quietFrom = packet;
      this.quietUntil = packet + live;
      // Before anything that may have to wait.
      this.slice?.tell(live);
      this.flush(clock);
      this.slice?.passed();
    }
  }

  /** The input has ended, and all that had ended by then has been removed. */
  finish(): void {
    const { waiting, partitions } = this;
    // By number: what waits, then the slots of the first partition, of the second, ...
    const refs: number[] = waiting.map((_, i) => i);
    const created: number[] = waiting.map(({ record }) => record.created);
    const starts: number[] = [];
    let start = waiting.length;
    for (const p of partitions) {
      starts.push(start);
      for (let slot = 0; slot < p.high; slot++) {
        if (p.used[slot] === 0) continue;
        refs.push(start + slot);
        created.push(p.created(slot));
      }
      start += p.high;
    }
    this.waiting = [];
    const order = Uint32Array.from(refs, (_, i) => i).sort((a, b) => created[a] - created[b]);
    for (const i of order) {
      const ref = refs[i];
      if (ref < waiting.length) {
        this.give(waiting[ref].record);
        continue;
      }
      let p = partitions.length - 1;
      while (starts[p] > ref) p--;
      this.give(this.row(partitions[p], ref - starts[p], ENDING_OPEN));
    }
  }

  /** All that is not given out; all packets before have been collected. */
  save(): KeeperState {
    const { waiting, partitions, nextMark, quietUntil } = this;
    const rows = new Int32Array(waiting.length * ROW_WORDS);
    waiting.forEach(({ record: { words, base } }, i) => {
      rows.set(words.subarray(base, base + ROW_WORDS), i * ROW_WORDS);
    });
    const n = partitions.reduce((sum, p) => sum + p.used.reduce((m, u) => m + (u === 0 ? 0 : 1), 0), 0);
    const live = new Int32Array(n * ROW_WORDS);
    const f64 = new Float64Array(live.buffer);
    let base = 0;
    for (const p of partitions) {
      for (let slot = 0; slot < p.high; slot++) {
        if (p.used[slot] === 0) continue;
        copyRow(p, slot, ENDING_OPEN, live, f64, base);
        base += ROW_WORDS;
      }
    }
    return { nextMark, quietUntil, ends: Float64Array.from(waiting, (w) => w.end), waiting: rows, live };
  }

  /** Goes on from there, but for the connections that live. */
  restore(state: KeeperState): void {
    this.nextMark = state.nextMark;
    this.quietUntil = state.quietUntil;
    const f64 = new Float64Array(state.waiting.buffer, state.waiting.byteOffset, state.waiting.length >> 1);
    this.waiting = Array.from(state.ends, (end, i) => ({
      end,
      record: new ConnectionRecord(state.waiting, f64, i * ROW_WORDS),
    }));
  }

  private row(partition: PartitionWriter, slot: number, ending: number): ConnectionRecord {
    if (this.nRows === CHUNK_ROWS) {
      this.chunk = new Int32Array(CHUNK_ROWS * ROW_WORDS);
      this.chunkF64 = new Float64Array(this.chunk.buffer);
      this.nRows = 0;
    }
    const base = this.nRows++ << ROW_SHIFT;
    copyRow(partition, slot, ending, this.chunk, this.chunkF64, base);
    return new ConnectionRecord(this.chunk, this.chunkF64, base);
  }

  /** Gives out what had ended before `clock`. */
  private flush(clock: number): void {
    const due: Waiting[] = [];
    const rest: Waiting[] = [];
    for (const w of this.waiting) (w.end < clock ? due : rest).push(w);
    this.waiting = rest;
    due.sort((a, b) => a.record.created - b.record.created);
    for (const { record } of due) this.give(record);
  }

  /** Live connections that packets before number `packet` have made. */
  private liveBefore(packet: number): number {
    let n = 0;
    for (const p of this.partitions) {
      for (let slot = 0; slot < p.high; slot++) if (p.used[slot] !== 0 && p.created(slot) < packet) n++;
    }
    return n;
  }
}
