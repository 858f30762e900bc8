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
}

const ALIGN = 16;
/** Behind the last frame, for reads of whole words. */
const SLACK = 64;

class Loader {
  private bytes = 0;
  private readonly frames: Uint8Array[] = [];
  private readonly off: number[] = [];
  private readonly port: number[] = [];
  private readonly clockMs: number[] = [];

  add(frame: Uint8Array, port: number, clockMs: number): void {
    this.frames.push(frame);
    this.off.push(this.bytes);
    this.port.push(port);
    this.clockMs.push(Math.max(clockMs, this.clockMs[this.clockMs.length - 1] ?? 0));
    this.bytes += (frame.length + ALIGN - 1) & -ALIGN;
  }

  done(): Loaded {
    const { frames, off } = this;
    const arena = new SharedArrayBuffer(this.bytes + SLACK);
    const u8 = new Uint8Array(arena);
    frames.forEach((frame, i) => {
      u8.set(frame, off[i]);
    });
    return {
      arena,
      off: Int32Array.from(off),
      len: Int32Array.from(frames, (frame) => frame.length),
      port: Int32Array.from(this.port),
      clockMs: Float64Array.from(this.clockMs),
      n: frames.length,
    };
  }
}

/** Frames `rate` a second. */
export function loadFrames(frames: Iterable<Frame>, rate: number): Loaded {
  const loader = new Loader();
  let n = 0;
  for (const { bytes, length, port = 1 } of frames) {
    loader.add(bytes.slice(0, length), port, Math.floor((n * 1000) / rate));
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
      loader.add(window.u8.slice(off, off + capLen), port, ms);
      window.release(record.segment);
    }
  } finally {
    source.close();
  }
  if (first === null) throw new Error(`${paths.join(', ')}: there are no packets to replay`);
  return loader.done();
}
