/** Writes classic pcap: nanoseconds, little endian, Ethernet, snapshot length 262144 (draft-ietf-opsawg-pcap). */

import { OutputFile } from './output-file.js';
import { MAX_PACKET_BYTES } from './types.js';

const MAGIC_NANOSECONDS = 0xa1b23c4d;

export class PcapWriter {
  private readonly out: OutputFile;

  /** Opens `path` ("-" is standard output) as an OutputFile and writes the file header. Throws Error naming the path
   *  and the reason, as do `write` and `finish`. */
  constructor(path: string) {
    this.out = new OutputFile(path);
    const at = this.out.reserve(24);
    const view = this.out.view;
    view.setUint32(at, MAGIC_NANOSECONDS, true);
    view.setUint16(at + 4, 2, true);
    view.setUint16(at + 6, 4, true);
    view.setUint32(at + 8, 0, true);
    view.setUint32(at + 12, 0, true);
    view.setUint32(at + 16, MAX_PACKET_BYTES, true);
    view.setUint32(at + 20, 1, true);
  }

  /** Appends the packet `u8[off .. off + capLen]`. `nsec` is 0 to 999,999,999; seconds that don't fit 32 unsigned
   *  bits become the nearest that do. */
  write(sec: number, nsec: number, u8: Uint8Array, off: number, capLen: number, wireLen: number): void {
    const out = this.out;
    const at = out.reserve(16);
    const view = out.view;
    view.setUint32(at, Math.min(Math.max(sec, 0), 0xffffffff), true);
    view.setUint32(at + 4, nsec, true);
    view.setUint32(at + 8, capLen, true);
    view.setUint32(at + 12, wireLen, true);
    out.writeRange(u8, off, capLen);
  }

  /** Closes the file and gives it its name. */
  finish(): void {
    this.out.finish();
  }

  /** Closes the file and leaves it as `<path>.partial`. Never throws. */
  abort(): void {
    this.out.abort();
  }
}
