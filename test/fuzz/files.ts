/** Captures: pcap, pcapng, and compressed. Damage ends in packets, notices and CaptureErrors, the same however the bytes
 *  are delivered; packets have lengths and times that are possible. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { SegmentArena } from '../../src/pcap/arena.js';
import { openCaptureStream } from '../../src/pcap/open.js';
import { parsePcapHeader } from '../../src/pcap/pcap-header.js';
import { PcapReader } from '../../src/pcap/pcap-reader.js';
import { isPcapngMagic, PcapngReader } from '../../src/pcap/pcapng-reader.js';
import { CaptureError, type CaptureReader, MAX_PACKET_BYTES } from '../../src/pcap/types.js';
import { CAPTURES, ROOT } from '../differential/fixture.js';
import { addedCaptures, beginning } from '../support/captures.js';
import type { Bytes } from '../support/packets.js';
import {
  Blocks,
  BytesFeed,
  chunked,
  type Drained,
  drain,
  payload,
  pcap,
  SEGMENT,
} from '../unit/pcap/helpers.js';
import { mutateBytes } from './mutate.js';
import { check, type MakeTarget, seedOf, type Target } from './target.js';

const MOST_SEED_BYTES = 4096;
/** What a compressed file may grow into before the fuzzer goes on to the next. */
const HEADER_BYTES = 24;

/** The readers, or readers with a mistake. */
type Open = (bytes: Bytes, arena: SegmentArena, chunk: number, starves: boolean) => CaptureReader;

const open: Open = (bytes, arena, chunk, starves) => {
  if (isPcapngMagic(bytes)) return new PcapngReader(new BytesFeed(bytes, chunk, starves), arena, 0);
  const header = parsePcapHeader('memory', bytes);
  return new PcapReader(new BytesFeed(bytes.subarray(HEADER_BYTES), chunk, starves), arena, header);
};

/** Has the length of a long packet wrong if its file says so in a byte that is 0 otherwise. */
const openWrongly: Open = (bytes, arena, chunk, starves) => {
  const reader = open(bytes, arena, chunk, starves);
  const next = reader.next.bind(reader);
  reader.next = (record) => {
    const result = next(record);
    if (record.wireLen > 0x10000) record.wireLen = record.capLen - 1;
    return result;
  };
  return reader;
};

// One for all runs: `drain` checks that each gives everything back.
const arena = new SegmentArena(3, SEGMENT);

function possible({ packets, error }: Drained): void {
  for (const p of packets) {
    const n = p.hex.length / 2;
    check(p.nsec >= 0 && p.nsec < 1e9 && Number.isInteger(p.nsec), () => `nsec ${p.nsec}`);
    check(Number.isSafeInteger(p.sec), () => `sec ${p.sec}`);
    check(p.wireLen >= n && p.wireLen <= 0x7fffffff, () => `${n} bytes captured of ${p.wireLen}`);
    check(n <= MAX_PACKET_BYTES + 64, () => `${n} bytes captured`);
    check(p.iface >= 0 && Number.isInteger(p.iface), () => `interface ${p.iface}`);
  }
  if (error !== undefined) {
    check(error.message.length < 2000 && /byte \d+/.test(error.message), () => `message: ${error.message}`);
  }
}

function same(a: Drained, b: Drained): void {
  const text = (d: Drained) =>
    JSON.stringify([d.packets, d.notices, d.error === undefined ? null : d.error.offset]);
  check(
    text(a) === text(b),
    () => `bytes delivered in other portions read differently:\n${text(a)}\n${text(b)}`,
  );
}

async function read(opener: Open, input: Bytes, chunk: number, starves: boolean): Promise<Drained> {
  try {
    return await drain((to) => opener(input, to, chunk, starves), arena);
  } catch (error) {
    // parsePcapHeader refuses what is none.
    if (error instanceof CaptureError) return { packets: [], notices: [], error };
    throw error;
  }
}

function plain(name: string, about: string, seeds: () => Bytes[]): MakeTarget {
  return (bug): Target => ({
    name,
    about,
    seeds,
    mutate: mutateBytes,
    guided: true,
    async run(input) {
      if (input.length < HEADER_BYTES) return { files: 1, packets: 0 };
      const opener = bug ? openWrongly : open;
      const seed = seedOf(input);
      const whole = await read(opener, input, Infinity, false);
      possible(whole);
      same(whole, await read(opener, input, 1 + (seed % 97), seed % 2 === 0));
      return { files: 1, packets: whole.packets.length };
    },
  });
}

function shipped(folder: string, names: RegExp, most = MOST_SEED_BYTES): Bytes[] {
  return readdirSync(folder)
    .filter((f) => names.test(f) && statSync(path.join(folder, f)).size <= most)
    .sort()
    .map((f) => new Uint8Array(readFileSync(path.join(folder, f))));
}

function madePcap(): Bytes[] {
  const records = [60, 200, 1, 0, 90].map((n, i) => ({ sec: i, frac: i, data: payload(n, i) }));
  return [
    pcap(records, { linkType: 1, magic: 0xa1b2c3d4 }),
    pcap(records, { linkType: 276, magic: 0xa1b23c4d, little: false }),
    pcap(records, { linkType: 113, magic: 0xa1b2cd34 }),
    pcap(records, { linkType: 0 }),
  ].map((b) => new Uint8Array(b));
}

function madePcapng(): Bytes[] {
  const data = [payload(60, 1), payload(200, 2), payload(1, 3), Buffer.alloc(0), payload(90, 4)];
  const little = new Blocks(true);
  const big = new Blocks(false);
  return [
    Buffer.concat([
      little.section(little.option(4, Buffer.from('x'))),
      little.iface({ tsresol: 9 }),
      little.iface({ linkType: 113, tsoffset: 5n }),
      ...data.map((d, i) => little.enhanced(i & 1, BigInt(i), d, d.length, little.option(1, d))),
      little.block(5, payload(20)),
    ]),
    Buffer.concat([
      big.section(),
      big.iface({ linkType: 0, snapLen: 50 }),
      ...data.map((d) => big.simple(d.subarray(0, 50), d.length)),
      ...data.map((d, i) => big.obsolete(0, BigInt(i), d)),
    ]),
  ].map((b) => new Uint8Array(b));
}

/** Of captures that were added, what they begin with. */
function added(magic: (bytes: Bytes) => boolean): Bytes[] {
  return addedCaptures()
    .map((file) => beginning(file, MOST_SEED_BYTES))
    .filter(magic);
}

export const pcapTarget = plain('pcap', 'classic captures, all byte orders and resolutions', () => [
  ...madePcap(),
  ...shipped(CAPTURES, /\.pcap$/),
  ...added((bytes) => !isPcapngMagic(bytes)),
]);

export const pcapngTarget = plain('pcapng', 'pcapng: sections, interfaces, blocks, options', () => [
  ...madePcapng(),
  ...shipped(CAPTURES, /\.pcapng$/),
  ...added(isPcapngMagic),
]);

export const compressedTarget: MakeTarget = (bug) => ({
  name: 'compressed',
  about: 'gzip, zstd, lz4 and xz: the compressed bytes are changed, or what is in them',
  seeds: () => [
    ...shipped(path.join(ROOT, 'fixtures', 'compressed'), /\.(xz|zst)$/, 7000),
    ...shipped(path.join(ROOT, 'fixtures', 'compressed'), /^whole\.lz4$/, 30_000),
    ...shipped(CAPTURES, /\.gz$/),
    ...[...madePcap(), ...madePcapng()].map((b) => new Uint8Array(gzipSync(b))),
    ...madePcap().slice(0, 1),
  ],
  mutate: mutateBytes,
  guided: true,
  async run(input) {
    const seed = seedOf(input);
    const stream = (bytes: Bytes, chunk: number): Promise<Drained> =>
      drain(async (to) => {
        const reader = await openCaptureStream('stream', chunked(bytes, chunk), to);
        if (bug) {
          const next = reader.next.bind(reader);
          reader.next = (record) => {
            // A stream that ends in mid-packet is not noticed.
            if (reader.notices.length > 0) throw new TypeError('deliberate bug');
            return next(record);
          };
        }
        return reader;
      }, arena);
    const first = await stream(input, 1 + (seed % 5000));
    possible(first);
    same(first, await stream(input, 65_536));
    return { files: 1, packets: first.packets.length };
  },
});
