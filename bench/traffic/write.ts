/** Writes generated frames to a capture, one a microsecond from 2020-09-13 12:26:40 UTC on. */
import { PcapWriter } from '../../src/pcap/pcap-writer.js';
import type { Frame } from './generate.js';

const FIRST_SECOND = 1_600_000_000;

/** Returns how many frames there were. */
export async function writeCapture(
  path: string,
  frames: Iterable<Frame> | AsyncIterable<Frame>,
): Promise<number> {
  const writer = new PcapWriter(path);
  let n = 0;
  try {
    for await (const { bytes, length } of frames) {
      writer.write(
        FIRST_SECOND + Math.floor(n / 1_000_000),
        (n % 1_000_000) * 1000,
        bytes,
        0,
        length,
        length,
      );
      n++;
    }
    writer.finish();
  } catch (error) {
    writer.abort();
    throw error;
  }
  return n;
}
