/** Generated frames side by side in one buffer, on 16-byte boundaries. */
import type { Frame } from '../../src/generate/frames.js';
import { tcp, udp } from '../traffic/generate.js';

export interface Frames {
  view: DataView;
  off: Int32Array;
  len: Int32Array;
  n: number;
}

const flows = { frameBytes: 60, seed: 1, bothWays: true, checksums: true };

export function udpFrames(n: number, connections: number): Frames {
  return gather(udp({ ...flows, packets: n, connections }));
}

export function tcpFrames(n: number, connections: number, frameBytes = 60): Frames {
  return gather(tcp({ ...flows, frameBytes, packets: n, connections }));
}

function gather(frames: Iterable<Frame>): Frames {
  const copies: Uint8Array[] = [];
  for (const { bytes, length } of frames) copies.push(bytes.slice(0, length));
  const off = new Int32Array(copies.length);
  let end = 0;
  copies.forEach((frame, i) => {
    off[i] = end;
    end += (frame.length + 15) & ~15;
  });
  const bytes = new Uint8Array(new SharedArrayBuffer(end));
  copies.forEach((frame, i) => {
    bytes.set(frame, off[i]);
  });
  return {
    view: new DataView(bytes.buffer),
    off,
    len: Int32Array.from(copies, (f) => f.length),
    n: copies.length,
  };
}
