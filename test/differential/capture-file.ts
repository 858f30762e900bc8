/** Reads captures for the comparisons with Open vSwitch: pcap (both byte orders, microseconds and nanoseconds) and
 *  pcapng (sections, interfaces, enhanced, simple and obsolete packet blocks), plain or gzipped. Written apart from
 *  src/pcap, so that a mistake there shows. What is not Ethernet is left out and counted, by reason. */
import { constants, gunzipSync } from 'node:zlib';

/** A frame and when it was captured, in nanoseconds since the epoch. */
export type Record = readonly [ns: bigint, frame: Buffer];

export interface CaptureFile {
  readonly records: readonly Record[];
  /** Packets left out, by reason. */
  readonly leftOut: ReadonlyMap<string, number>;
  /** Frames that the snap length has cut. */
  readonly cut: number;
  /** What is wrong with the file behind its last record, if anything is. */
  readonly damage: string | null;
}

/** The file is no capture, or none of this kind. */
export class CaptureError extends Error {}

class Reader {
  readonly records: Record[] = [];
  readonly leftOut = new Map<string, number>();
  cut = 0;
  damage: string | null = null;

  take(ns: bigint, frame: Buffer, whole: number, linkType: number): void {
    if (linkType !== ETHERNET) {
      this.leave(`link type ${linkType}`);
      return;
    }
    this.records.push([ns, frame]);
    if (frame.length < whole) this.cut++;
  }

  leave(why: string): void {
    this.leftOut.set(why, (this.leftOut.get(why) ?? 0) + 1);
  }
}

const ETHERNET = 1;
const SECTION = 0x0a0d0d0a;

export function readCaptureFile(data: Buffer): CaptureFile {
  if (!data.length) throw new CaptureError('the file is empty');
  if (data[0] === 0x1f && data[1] === 0x8b) {
    try {
      // A compressed file that is cut off is read as far as it goes.
      data = gunzipSync(data, { finishFlush: constants.Z_SYNC_FLUSH });
    } catch (e) {
      throw new CaptureError(`damaged gzip: ${(e as Error).message}`);
    }
  }
  const r = new Reader();
  if (data.length >= 12 && data.readUInt32BE(0) === SECTION) readNg(data, r);
  else readClassic(data, r);
  return r;
}

function readClassic(b: Buffer, r: Reader): void {
  const magic = b.length >= 4 ? [b.readUInt32LE(0), b.readUInt32BE(0)] : [];
  const at = magic.findIndex((m) => m === 0xa1b2c3d4 || m === 0xa1b23c4d);
  if (at < 0) {
    const first = b.toString('hex', 0, 4) || 'nothing';
    throw new CaptureError(`not pcap or pcapng: it begins with ${first}`);
  }
  if (b.length < 24)
    throw new CaptureError(`the pcap header is cut off: ${b.length} bytes, 24 are the least`);
  const u32 = (o: number) => (at === 0 ? b.readUInt32LE(o) : b.readUInt32BE(o));
  const tick = magic[at] === 0xa1b2c3d4 ? 1000n : 1n;
  const linkType = u32(20) & 0xffff;
  let o = 24;
  for (let n: number; o + 16 <= b.length; o += 16 + n) {
    n = u32(o + 8);
    if (o + 16 + n > b.length) break;
    const ns = BigInt(u32(o)) * 1_000_000_000n + BigInt(u32(o + 4)) * tick;
    r.take(ns, b.subarray(o + 16, o + 16 + n), u32(o + 12), linkType);
  }
  if (o < b.length) r.damage = `the record at byte ${o} goes beyond the end of the file`;
}

interface Interface {
  readonly linkType: number;
  readonly snapLength: number;
  readonly perSecond: bigint;
  readonly offset: bigint;
}

function readNg(b: Buffer, r: Reader): void {
  let le = true;
  let interfaces: Interface[] = [];
  let last = 0n;
  const u16 = (o: number) => (le ? b.readUInt16LE(o) : b.readUInt16BE(o));
  const u32 = (o: number) => (le ? b.readUInt32LE(o) : b.readUInt32BE(o));
  /** A packet of `size` bytes at `at`, of `whole` before it was cut, in a block whose body ends at `end`. */
  const packet = (
    number: number,
    ticks: bigint | null,
    at: number,
    size: number,
    whole: number,
    end: number,
  ): boolean => {
    const i = interfaces[number];
    if (i === undefined || at + size > end) return false;
    if (ticks !== null) last = (ticks * 1_000_000_000n) / i.perSecond + i.offset * 1_000_000_000n;
    r.take(last, b.subarray(at, at + size), whole, i.linkType);
    return true;
  };
  let o = 0;
  for (let n: number; o + 12 <= b.length; o += n) {
    if (b.readUInt32BE(o) === SECTION) {
      le = b.readUInt32LE(o + 8) === 0x1a2b3c4d;
      interfaces = [];
    }
    const type = u32(o);
    n = u32(o + 4);
    if (n < 12 || n % 4 || o + n > b.length) break;
    const body = o + 8;
    const end = o + n - 4;
    const ticks = (at: number) => (BigInt(u32(at)) << 32n) | BigInt(u32(at + 4));
    let whole = true;
    if (type === 1 && n >= 20) interfaces.push(readInterface(b, body, end, le));
    else if (type === 6 && n >= 32)
      whole = packet(u32(body), ticks(body + 4), body + 20, u32(body + 12), u32(body + 16), end);
    else if (type === 2 && n >= 32)
      whole = packet(u16(body), ticks(body + 4), body + 20, u32(body + 12), u32(body + 16), end);
    else if (type === 3 && n >= 16) {
      // No length but that of the packet before it was cut, and no time: that of the packet before.
      const size = Math.min(u32(body), interfaces[0]?.snapLength || Infinity, end - body - 4);
      whole = packet(0, null, body + 4, size, u32(body), end);
    }
    if (!whole) {
      r.damage = `the packet block at byte ${o} is longer than its block, or of an interface that there is not`;
      return;
    }
  }
  if (o < b.length) r.damage = `the block at byte ${o} goes beyond the end of the file`;
}

function readInterface(b: Buffer, body: number, end: number, le: boolean): Interface {
  const u16 = (o: number) => (le ? b.readUInt16LE(o) : b.readUInt16BE(o));
  let perSecond = 1_000_000n;
  let offset = 0n;
  for (let p = body + 8; p + 4 <= end && u16(p) !== 0; p += 4 + ((u16(p + 2) + 3) & ~3)) {
    if (u16(p) === 9) perSecond = b[p + 4] & 128 ? 1n << BigInt(b[p + 4] & 127) : 10n ** BigInt(b[p + 4]);
    if (u16(p) === 14 && p + 12 <= end) offset = le ? b.readBigInt64LE(p + 4) : b.readBigInt64BE(p + 4);
  }
  const snapLength = le ? b.readUInt32LE(body + 4) : b.readUInt32BE(body + 4);
  return { linkType: u16(body), snapLength, perSecond, offset };
}
