/** Writes generated frames to a capture, at a steady rate from 2020-09-13 12:26:40 UTC on. */
import { PcapWriter } from '../pcap/pcap-writer.js';
import { PcapngWriter } from '../pcap/pcapng-writer.js';
import type { Frame } from './frames.js';

const FIRST_SECOND = 1_600_000_000;

/** One a microsecond. */
export const DEFAULT_RATE = 1_000_000;

export interface CaptureOptions {
  /** pcapng keeps the ports: interface k is port k + 1. */
  format?: 'pcap' | 'pcapng';
  /** Packets a second of the capture's clock. */
  rate?: number;
  /** Interfaces of a pcapng. */
  ports?: number;
}

/** What became of it. */
export interface Written {
  packets: number;
  bytes: number;
  /** From the first packet to one interval after the last. */
  seconds: number;
}

/** Writes all frames there are to `path`; - is standard output. Throws Error naming the path and the reason. */
export async function writeCapture(
  path: string,
  frames: Iterable<Frame> | AsyncIterable<Frame>,
  { format = 'pcap', rate = DEFAULT_RATE, ports = 1 }: CaptureOptions = {},
): Promise<Written> {
  const writer = format === 'pcap' ? new PcapWriter(path) : new PcapngWriter(path);
  if (writer instanceof PcapngWriter) for (let p = 1; p <= ports; p++) writer.addInterface(`port ${p}`);
  let n = 0;
  let total = 0;
  try {
    for await (const { bytes, length, port = 1 } of frames) {
      const sec = FIRST_SECOND + Math.floor(n / rate);
      const nsec = Math.floor(((n % rate) / rate) * 1e9);
      if (writer instanceof PcapWriter) writer.write(sec, nsec, bytes, 0, length, length);
      else writer.write(port - 1, sec, nsec, bytes, 0, length, length);
      n++;
      total += length;
    }
    writer.finish();
  } catch (error) {
    writer.abort();
    throw error;
  }
  return { packets: n, bytes: total, seconds: n / rate };
}
