/** Any number of captures as one timeline.
 *
 *  The time of each capture's first packet is looked up at the start. A capture is opened when the timeline reaches
 *  that time, and closed at its end; captures that overlap are merged by time, as `MergedSource` does. So a set that
 *  rotates has one file open at a time, and a thousand files cost no more memory than those that overlap.
 *
 *  A damaged capture gives what it has; the damage is noted with its report, and the others go on. So does one that the
 *  system can't read, unless the timeline is strict. */
import fs from 'node:fs';
import { MIN_SEGMENT_BYTES, SegmentArena } from './arena.js';
import { type MergedRecord, mergeInto, type PacketSource } from './merge.js';
import { openCapture } from './open.js';
import {
  CaptureError,
  type CaptureNotice,
  type CaptureReader,
  type PacketArena,
  type PacketRecord,
  ReadResult,
  type Stretch,
} from './types.js';
import { newPacketRecord } from './window.js';

const { END, PACKET, STARVED } = ReadResult;

/** Captures that may overlap in time. */
export const MAX_OVERLAPPING = 256;

/** The latest second that a record can say: 2106-02-07. */
const LATEST = 0xffffffff;

/** What came out of a capture. */
export interface CaptureReport {
  readonly path: string;
  packets: number;
  /** Of whole frames on the wire. */
  bytes: number;
  /** Packets of which the capture has the beginning only. */
  cut: number;
  /** Packets with a time before 1970 or after 2106 (pcapng can say so): records have the nearest that they can say. */
  misdated: number;
  /** Not among them: packets of interfaces whose link type can't be read. */
  unreadable: { packets: number; bytes: number };
  /** Why it could not be read, or not to its end. */
  damage: string | null;
  notices: readonly CaptureNotice[];
}

interface Entry {
  /** Index of its report. */
  source: number;
  reader: CaptureReader;
  head: PacketRecord;
  filled: boolean;
}

interface Start {
  source: number;
  sec: number;
  nsec: number;
}

export class Timeline implements PacketSource {
  /** In the order in which the paths were given. */
  readonly reports: readonly CaptureReport[];
  private readonly arena: PacketArena;
  private readonly strict: boolean;
  /** Captures to be opened, the latest first. */
  private readonly starts: Start[];
  private readonly open: Entry[] = [];
  /** What `readable` waits for: a reader, or that the next capture is opened. */
  private starved: CaptureReader | null = null;

  private constructor(
    reports: readonly CaptureReport[],
    starts: Start[],
    arena: PacketArena,
    strict: boolean,
  ) {
    this.reports = reports;
    this.starts = starts;
    this.arena = arena;
    this.strict = strict;
  }

  /** Looks into all captures. `arena` needs `minSegments` for all that overlap. Only if it is `strict` it rejects, and
   *  `next` and `readable` fail, for a capture that the system can't read; else its report says so. */
  static async of(paths: readonly string[], arena: PacketArena, strict = false): Promise<Timeline> {
    const reports: CaptureReport[] = paths.map((path) => ({
      path,
      packets: 0,
      bytes: 0,
      cut: 0,
      misdated: 0,
      unreadable: { packets: 0, bytes: 0 },
      damage: null,
      notices: [],
    }));
    const starts: Start[] = [];
    for (const [source, report] of reports.entries()) {
      // What can be read only once comes first.
      const first = isReadOnce(report.path) ? { sec: -Infinity, nsec: 0 } : await firstPacket(report, strict);
      if (first !== null) starts.push({ source, sec: first.sec, nsec: first.nsec });
    }
    starts.sort((a, b) => b.sec - a.sec || b.nsec - a.nsec || b.source - a.source);
    return new Timeline(reports, starts, arena, strict);
  }

  next(packet: MergedRecord): ReadResult {
    if (this.open.length === 1 && this.starts.length === 0 && !this.open[0].filled) {
      return this.nextOfLast(packet, this.open[0]);
    }
    for (let i = 0; i < this.open.length; ) {
      const entry = this.open[i];
      const state = entry.filled ? PACKET : this.fill(entry);
      if (state === END) {
        this.leave(i);
        continue;
      }
      if (state !== PACKET) {
        this.starved = entry.reader;
        return state;
      }
      i++;
    }
    let best: Entry | null = null;
    for (const entry of this.open) if (best === null || before(entry, best)) best = entry;
    const due = this.starts.at(-1);
    if (due !== undefined && (best === null || !later(due, best.head))) {
      this.starved = null;
      return STARVED;
    }
    if (best === null) return END;
    const { head, source } = best;
    mergeInto(packet, head, source);
    best.filled = false;
    return this.given(packet, this.reports[source]);
  }

  stretch(): Stretch | null {
    if (this.open.length !== 1 || this.starts.length > 0 || this.open[0].filled) return null;
    const { reader, source } = this.open[0];
    const stretch = reader.stretch?.() ?? null;
    if (stretch === null) return null;
    const report = this.reports[source];
    const passed = (packets: number, bytes: number, pos: number): void => {
      report.packets += packets;
      report.bytes += bytes;
      stretch.passed(packets, bytes, pos);
    };
    return { ...stretch, source, passed };
  }

  /** The next packet while there is but one capture left: no other can come before it. */
  private nextOfLast(packet: MergedRecord, { reader, source }: Entry): ReadResult {
    const report = this.reports[source];
    let state: ReadResult = END;
    try {
      state = reader.next(packet);
    } catch (error) {
      report.damage = damageOf(error, this.strict);
    }
    if (state === END) {
      this.leave(0);
      return END;
    }
    if (state !== PACKET) {
      this.starved = reader;
      return state;
    }
    packet.source = source;
    return this.given(packet, report);
  }

  /** Counts a packet, and gives it a time that all formats have. */
  private given(packet: MergedRecord, report: CaptureReport): ReadResult {
    report.packets++;
    report.bytes += packet.wireLen;
    if (packet.capLen < packet.wireLen) report.cut++;
    if (packet.sec < 0 || packet.sec > LATEST) {
      report.misdated++;
      packet.nsec = packet.sec < 0 ? 0 : 999_999_999;
      packet.sec = packet.sec < 0 ? 0 : LATEST;
    }
    return PACKET;
  }

  async readable(): Promise<void> {
    if (this.starved !== null) return this.starved.readable();
    const start = this.starts.pop();
    if (start === undefined) return;
    const report = this.reports[start.source];
    try {
      if (this.open.length === MAX_OVERLAPPING) {
        throw new CaptureError(
          report.path,
          0,
          `${MAX_OVERLAPPING} captures overlap in time already; merge some of them first (mergecap)`,
        );
      }
      const reader = await openCapture(report.path, this.arena);
      reader.unreadable = report.unreadable;
      this.open.push({ source: start.source, reader, head: newPacketRecord(), filled: false });
    } catch (error) {
      report.damage = damageOf(error, this.strict);
    }
  }

  get notices(): CaptureNotice[] {
    return this.reports.flatMap((r) => [...r.notices]);
  }

  close(): void {
    this.starts.length = 0;
    while (this.open.length > 0) {
      const [entry] = this.open;
      if (entry.filled) this.arena.release(entry.head.segment);
      this.leave(0);
    }
  }

  /** The next packet of a capture into its head; damage ends it. */
  private fill(entry: Entry): ReadResult {
    try {
      const state = entry.reader.next(entry.head);
      entry.filled = state === PACKET;
      return state;
    } catch (error) {
      this.reports[entry.source].damage = damageOf(error, this.strict);
      return END;
    }
  }

  private leave(i: number): void {
    const [{ source, reader }] = this.open.splice(i, 1);
    this.reports[source].notices = reader.notices;
    reader.close();
  }
}

/** What a report says. Throws what is no damage. */
function damageOf(error: unknown, strict: boolean): string {
  if (!(error instanceof CaptureError) || (strict && error.isOfSystem)) throw error;
  return error.message;
}

function before(a: Entry, b: Entry): boolean {
  const x = a.head;
  const y = b.head;
  return x.sec !== y.sec ? x.sec < y.sec : x.nsec !== y.nsec ? x.nsec < y.nsec : a.source < b.source;
}

function later(a: { sec: number; nsec: number }, b: { sec: number; nsec: number }): boolean {
  return a.sec !== b.sec ? a.sec > b.sec : a.nsec > b.nsec;
}

/** Whether it is standard input, a pipe or a device. */
function isReadOnce(path: string): boolean {
  if (path === '-') return true;
  try {
    const stat = fs.statSync(path);
    return !stat.isFile() && !stat.isDirectory();
  } catch {
    // Told of by whoever opens it.
    return false;
  }
}

/** The first packet of a capture; null, with what is to be said in its report, if there is none. */
async function firstPacket(report: CaptureReport, strict: boolean): Promise<PacketRecord | null> {
  const arena = new SegmentArena(2, MIN_SEGMENT_BYTES);
  let reader: CaptureReader | null = null;
  try {
    reader = await openCapture(report.path, arena);
    reader.unreadable = { packets: 0, bytes: 0 };
    const packet = newPacketRecord();
    let state = reader.next(packet);
    while (state === STARVED) {
      await reader.readable();
      state = reader.next(packet);
    }
    if (state === PACKET) return packet;
    report.notices = reader.notices;
    report.unreadable = reader.unreadable;
    return null;
  } catch (error) {
    report.damage = damageOf(error, strict);
    return null;
  } finally {
    reader?.close();
  }
}
