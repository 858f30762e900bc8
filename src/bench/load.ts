/** Packets held in memory, to be replayed again and again: made ones, or captures. */
import type { PortMap } from '../coordinator/replay.js';
import type { Frame } from '../generate/frames.js';
import { minSegments, SegmentArena } from '../pcap/arena.js';
import { MergedSource, newMergedRecord } from '../pcap/merge.js';
import { openCapture } from '../pcap/open.js';
import { ReadResult } from '../pcap/types.js';

/** Frames in one arena, on 16-byte boundaries, and a row each. */
export interface Loaded {
  arena: SharedArrayBuffer;
  off: Int32Array;
  len: Int32Array;
  port: Int32Array;
  /** Since the first packet, never going back. */
  clockMs: Float64Array;
  n: number;
  /** What was found in the captures, such as one that is cut off. */
  notices?: string[];
}

const ALIGN = 16;
/** Behind the last frame, for reads of whole words. */
const SLACK = 64;

/** Room to begin with, in frames and bytes. */
const FIRST_FRAMES = 1 << 16;
const FIRST_BYTES = 1 << 24;
/** Offsets are int32. */
const MOST_BYTES = 0x7fffff00;

/** A column that grows: a capture may hold millions of packets. */
class Column {
  private values = new Float64Array(FIRST_FRAMES);
  n = 0;

  push(value: number): void {
    if (this.n === this.values.length) {
      const more = new Float64Array(this.n * 2);
      more.set(this.values);
      this.values = more;
    }
    this.values[this.n++] = value;
  }

  get last(): number {
    return this.n === 0 ? 0 : this.values[this.n - 1];
  }

  get all(): Float64Array {
    return this.values.slice(0, this.n);
  }
}

class Loader {
  private bytes = 0;
  private frames = new Uint8Array(FIRST_BYTES);
  private readonly off = new Column();
  private readonly len = new Column();
  private readonly port = new Column();
  private readonly clockMs = new Column();

  /** The frame is copied. */
  add(frame: Uint8Array, port: number, clockMs: number): void {
    this.off.push(this.bytes);
    this.len.push(frame.length);
    this.port.push(port);
    this.clockMs.push(Math.max(clockMs, this.clockMs.last));
    const end = this.bytes + frame.length;
    if (end > MOST_BYTES) {
      throw new Error(`the first ${this.off.n} packets have ${end} bytes; up to ${MOST_BYTES} fit in memory`);
    }
    if (end > this.frames.length) {
      const more = new Uint8Array(Math.max(this.frames.length * 2, end));
      more.set(this.frames);
      this.frames = more;
    }
    this.frames.set(frame, this.bytes);
    this.bytes = (end + ALIGN - 1) & -ALIGN;
  }

  done(notices: string[] = []): Loaded {
    const arena = new SharedArrayBuffer(this.bytes + SLACK);
    new Uint8Array(arena).set(this.frames.subarray(0, this.bytes));
    return {
      arena,
      off: Int32Array.from(this.off.all),
      len: Int32Array.from(this.len.all),
      port: Int32Array.from(this.port.all),
      clockMs: this.clockMs.all,
      n: this.off.n,
      notices,
    };
  }
}

/** Frames `rate` a second. */
export function loadFrames(frames: Iterable<Frame>, rate: number): Loaded {
  const loader = new Loader();
  let n = 0;
  for (const { bytes, length, port = 1 } of frames) {
    loader.add(bytes.subarray(0, length), port, Math.floor((n * 1000) / rate));
    n++;
  }
  return loader.done();
}

/** Captures merged by time. Throws Error naming the file if it can't be read, or if there are no packets. */
export async function loadCaptures(paths: readonly string[], { portOf }: PortMap): Promise<Loaded> {
  const window = new SegmentArena(minSegments(paths.length) + 4);
  const source = new MergedSource(await Promise.all(paths.map((path) => openCapture(path, window))), window);
  const record = newMergedRecord();
  const loader = new Loader();
  const view = new DataView(window.sab);
  let first: { sec: number; nsec: number } | null = null;
  try {
    for (;;) {
      const result = source.next(record);
      if (result === ReadResult.END) break;
      if (result === ReadResult.STARVED) await source.readable();
      if (result !== ReadResult.PACKET) continue;
      const { off, capLen, sec, nsec } = record;
      first ??= { sec, nsec };
      const ms = (sec - first.sec) * 1000 + Math.floor((nsec - first.nsec) / 1e6);
      const port = portOf(record.source, record.iface, view, off, capLen);
      loader.add(window.u8.subarray(off, off + capLen), port, ms);
      window.release(record.segment);
    }
  } finally {
    source.close();
  }
  if (first === null) throw new Error(`${paths.join(', ')}: there are no packets to replay`);
  return loader.done(source.notices.map((n) => `${n.file}: byte ${n.offset}: ${n.message}`));
}
