/** Writes pcapng (draft-ietf-opsawg-pcapng), little endian: one section by "shardtrack", one interface a port with
 *  its name and nanosecond resolution, Enhanced Packet Blocks. Nothing in it depends on the clock or the machine. */

import { OutputFile } from './output-file.js';
import { MAX_PACKET_BYTES } from './types.js';

const OPT_COMMENT = 1;
const SHB_USERAPPL = 4;
const IF_NAME = 2;
const IF_TSRESOL = 9;
/** An option's length field has 16 bits. */
const MAX_OPTION_BYTES = 0xffff;
/** Seconds whose nanoseconds fit 64 bits. */
const MAX_SEC = 18446744072;

const encoder = new TextEncoder();

export class PcapngWriter {
  private readonly out: OutputFile;
  private nInterfaces = 0;

  /** Opens `path` ("-" is standard output) as an OutputFile and writes the section header. Throws Error naming the
   *  path and the reason, as do the methods below but `abort`. */
  constructor(path: string) {
    this.out = new OutputFile(path);
    const user = encoder.encode('shardtrack');
    const length = 28 + optionBytes(user.length) + 4;
    const at = this.out.reserve(24);
    const view = this.out.view;
    view.setUint32(at, 0x0a0d0d0a, true);
    view.setUint32(at + 4, length, true);
    view.setUint32(at + 8, 0x1a2b3c4d, true);
    view.setUint16(at + 12, 1, true);
    view.setUint16(at + 14, 0, true);
    view.setUint32(at + 16, 0xffffffff, true); // section length: not given
    view.setUint32(at + 20, 0xffffffff, true);
    this.option(SHB_USERAPPL, user);
    this.endBlock(length, true);
  }

  /** Describes an interface and returns its number: 0, 1, 2... A name beyond 65535 bytes of UTF-8 is cut. */
  addInterface(name: string): number {
    const bytes = utf8(name);
    const length = 20 + optionBytes(bytes.length) + optionBytes(1) + 4;
    const at = this.out.reserve(16);
    const view = this.out.view;
    view.setUint32(at, 1, true);
    view.setUint32(at + 4, length, true);
    view.setUint16(at + 8, 1, true); // Ethernet
    view.setUint16(at + 10, 0, true);
    view.setUint32(at + 12, MAX_PACKET_BYTES, true);
    this.option(IF_NAME, bytes);
    this.option(IF_TSRESOL, Uint8Array.of(9));
    this.endBlock(length, true);
    return this.nInterfaces++;
  }

  /** Appends the packet `u8[off .. off + capLen]`, sent by interface `iface`, with an optional comment (cut at 65535
   *  bytes of UTF-8). `nsec` is 0 to 999,999,999; seconds that 64 bits of nanoseconds can't hold become the nearest
   *  that they can. */
  write(
    iface: number,
    sec: number,
    nsec: number,
    u8: Uint8Array,
    off: number,
    capLen: number,
    wireLen: number,
    comment?: string,
  ): void {
    if (iface >= this.nInterfaces) {
      throw new RangeError(`pcapng: interface ${iface} was not added; there are ${this.nInterfaces}`);
    }
    const text = comment === undefined ? undefined : utf8(comment);
    const padded = (capLen + 3) & ~3;
    const length = 32 + padded + (text === undefined ? 0 : optionBytes(text.length) + 4);
    if (sec < 0) sec = nsec = 0;
    else if (sec > MAX_SEC) sec = MAX_SEC;
    // sec * 10^9 + nsec in two 32-bit halves; every product and sum stays below 2^53.
    const top = Math.floor(sec / 65536) * 1e9;
    const topHigh = Math.floor(top / 65536);
    const low = (top - topHigh * 65536) * 65536 + (sec % 65536) * 1e9 + nsec;
    const carry = Math.floor(low / 4294967296);
    const out = this.out;
    const at = out.reserve(28);
    const view = out.view;
    view.setUint32(at, 6, true);
    view.setUint32(at + 4, length, true);
    view.setUint32(at + 8, iface, true);
    view.setUint32(at + 12, topHigh + carry, true);
    view.setUint32(at + 16, low - carry * 4294967296, true);
    view.setUint32(at + 20, capLen, true);
    view.setUint32(at + 24, wireLen, true);
    out.writeRange(u8, off, capLen);
    this.pad(padded - capLen);
    if (text !== undefined) this.option(OPT_COMMENT, text);
    this.endBlock(length, text !== undefined);
  }

  /** Closes the file and gives it its name. */
  finish(): void {
    this.out.finish();
  }

  /** Closes the file and leaves it as `<path>.partial`. Never throws. */
  abort(): void {
    this.out.abort();
  }

  private option(code: number, value: Uint8Array): void {
    const at = this.out.reserve(4);
    this.out.view.setUint16(at, code, true);
    this.out.view.setUint16(at + 2, value.length, true);
    this.out.write(value);
    this.pad(-value.length & 3);
  }

  private pad(n: number): void {
    const at = this.out.reserve(n);
    for (let i = 0; i < n; i++) this.out.buffer[at + i] = 0;
  }

  /** The end-of-options option, if there were any, and the second length. */
  private endBlock(length: number, options: boolean): void {
    if (options) this.pad(4);
    const at = this.out.reserve(4);
    this.out.view.setUint32(at, length, true);
  }
}

/** What an option takes in its block. */
function optionBytes(length: number): number {
  return 4 + ((length + 3) & ~3);
}

/** UTF-8 of at most 65535 bytes, cut between characters. */
function utf8(text: string): Uint8Array {
  const bytes = encoder.encode(text);
  if (bytes.length <= MAX_OPTION_BYTES) return bytes;
  let n = MAX_OPTION_BYTES;
  while ((bytes[n] & 0xc0) === 0x80) n--;
  return bytes.subarray(0, n);
}
