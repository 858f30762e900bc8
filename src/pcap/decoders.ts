/** Decoders of compressed captures besides gzip: zstd (RFC 8878), lz4 (the frame format of lz4_Frame_format.md) and xz
 *  (the .xz file format), each over a kept library: fzstd, lz4-napi, xz-decompress.
 *
 *  A decoder pulls compressed bytes and yields decoded ones, a block at a time. The libraries for zstd and lz4 verify no
 *  checksum; so frames are walked here, which also finds where each ends, and contents are hashed with xxhash-wasm
 *  where the frame has a checksum. What was decoded before the damage is yielded before the error. A library is loaded
 *  when the first file asks for it: most captures are not compressed. */
import { ReadableStream } from 'node:stream/web';
import type lz4 from 'lz4-napi';
import type xxhash from 'xxhash-wasm';
import { type ByteFeed, FEED_END, FEED_STARVED } from './feed.js';

/** The compressed data ends before its time. */
export class CutShort extends Error {}

/** Compressed bytes, as many as a decoder asks for. */
export class Intake {
  /** Bytes taken. */
  taken = 0;
  /** Whether the feed has been read to its end. */
  ended = false;
  private readonly feed: ByteFeed;

  constructor(feed: ByteFeed) {
    this.feed = feed;
  }

  /** The next `n` bytes; fewer at the end. */
  async upTo(n: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(n);
    let at = 0;
    while (at < n) {
      const got = this.feed.read(bytes, at, n - at);
      if (got === FEED_END) {
        this.ended = true;
        break;
      }
      if (got === FEED_STARVED) await this.feed.readable();
      else at += got;
    }
    this.taken += at;
    return at === n ? bytes : bytes.subarray(0, at);
  }

  /** The next `n` bytes. Throws CutShort if there are fewer. */
  async exactly(n: number): Promise<Uint8Array> {
    const bytes = await this.upTo(n);
    if (bytes.length < n) throw new CutShort();
    return bytes;
  }
}

/** What the first bytes of a file say, and how to go on. */
export interface Compression {
  /** As in "the zstd stream is cut off". */
  readonly name: string;
  /** What checks such a file. */
  readonly check: string;
  decode(intake: Intake): AsyncGenerator<Uint8Array>;
}

const ZSTD_MAGIC = 0xfd2fb528;
const LZ4_MAGIC = 0x184d2204;
/** Both formats have these sixteen for frames to pass over. */
const SKIPPABLE = 0x184d2a50;
/** Larger windows need the permission of the user of zstd too (ZSTD_WINDOWLOG_LIMIT_DEFAULT). */
const ZSTD_WINDOW_LIMIT = 2 ** 27;
const LZ4_DICTIONARY = 1 << 16;
const XZ_PIECE = 1 << 16;
const PIECE = 1 << 16;

/** The compression of a file with these first bytes; undefined if it is none of the three. */
export function compressionOf(start: Uint8Array): Compression | undefined {
  if (start.length < 4) return undefined;
  const magic = u32(start, 0);
  if (magic === ZSTD_MAGIC) return { name: 'zstd', check: 'zstd -t', decode: decodeZstd };
  if (magic === LZ4_MAGIC) return { name: 'lz4', check: 'lz4 -t', decode: decodeLz4 };
  if (isSkippable(magic)) return { name: 'zstd or lz4', check: 'zstd -t', decode: decodeFrames };
  // fd 37 7a 58 5a 00
  if (magic === 0x587a37fd) return { name: 'xz', check: 'xz -t', decode: decodeXz };
  return undefined;
}

/** Frames of zstd and lz4 and skippable ones, one after the other to the end. */
async function* decodeFrames(intake: Intake): AsyncGenerator<Uint8Array> {
  const hashes = await (await import('xxhash-wasm')).default();
  for (;;) {
    const start = await intake.upTo(4);
    if (start.length === 0) return;
    if (start.length < 4) throw new CutShort();
    const magic = u32(start, 0);
    if (magic === ZSTD_MAGIC) yield* zstdFrame(intake, start, hashes.create64());
    else if (magic === LZ4_MAGIC) yield* lz4Frame(intake, hashes);
    else if (isSkippable(magic)) await pass(intake, u32(await intake.exactly(4), 0));
    else throw new Error('what follows the frame is none');
  }
}
const decodeZstd = decodeFrames;
const decodeLz4 = decodeFrames;

function isSkippable(magic: number): boolean {
  return magic >>> 4 === SKIPPABLE >>> 4;
}

async function pass(intake: Intake, n: number): Promise<void> {
  for (let left = n; left > 0; left -= PIECE) await intake.exactly(Math.min(left, PIECE));
}

/** RFC 8878, section 3.1.1. fzstd gets the frame a block at a time and hands out what it holds. */
async function* zstdFrame(
  intake: Intake,
  magic: Uint8Array,
  hash: { update(bytes: Uint8Array): unknown; digest(): bigint },
): AsyncGenerator<Uint8Array> {
  const { Decompress } = await import('fzstd');
  const out: Uint8Array[] = [];
  const zstd = new Decompress((bytes) => out.push(bytes));
  const descriptor = await intake.exactly(1);
  const single = (descriptor[0] & 0x20) !== 0;
  const checked = (descriptor[0] & 4) !== 0;
  const sizeBytes = [single ? 1 : 0, 2, 4, 8][descriptor[0] >>> 6];
  const dictionaryBytes = [0, 1, 2, 4][descriptor[0] & 3];
  if (dictionaryBytes > 0) throw new Error('it was compressed with a dictionary, which is not at hand');
  const rest = await intake.exactly((single ? 0 : 1) + sizeBytes);
  const size = sizeBytes === 0 ? -1 : contentSize(rest.subarray(single ? 0 : 1));
  const window = single ? size : 2 ** (10 + (rest[0] >>> 3)) * (1 + (rest[0] & 7) / 8);
  if (window > ZSTD_WINDOW_LIMIT) {
    throw new Error(
      `its window of ${window} bytes is over ${ZSTD_WINDOW_LIMIT}; recompress it without --long`,
    );
  }
  for (const bytes of [magic, descriptor, rest]) zstd.push(bytes);
  let nOut = 0;
  for (let last = false; !last; ) {
    const header = await intake.exactly(3);
    const word = header[0] | (header[1] << 8) | (header[2] << 16);
    last = (word & 1) !== 0;
    const block = await intake.exactly(((word >>> 1) & 3) === 1 ? 1 : word >>> 3);
    zstd.push(header);
    // The checksum belongs to the frame as fzstd sees it; with it the frame ends.
    const sum = last && checked ? await intake.exactly(4) : EMPTY;
    zstd.push(block, last && sum.length === 0);
    if (sum.length > 0) zstd.push(sum, true);
    for (const bytes of out) {
      nOut += bytes.length;
      hash.update(bytes);
      if (bytes.length > 0) yield bytes;
    }
    out.length = 0;
    if (sum.length > 0 && Number(hash.digest() & 0xffffffffn) !== u32(sum, 0)) throw new Error(WRONG_SUM);
  }
  if (size >= 0 && nOut !== size) throw new Error(`it has ${nOut} bytes and announces ${size}`);
}
const EMPTY = new Uint8Array(0);
const WRONG_SUM = 'the checksum is wrong';

/** Frame_Content_Size by its length. */
function contentSize(field: Uint8Array): number {
  let size = 0;
  for (let i = field.length - 1; i >= 0; i--) size = size * 256 + field[i];
  return field.length === 2 ? size + 256 : size;
}

/** Frames behind the magic; blocks may refer to the 64 KiB before them. */
async function* lz4Frame(
  intake: Intake,
  hashes: Awaited<ReturnType<typeof xxhash>>,
): AsyncGenerator<Uint8Array> {
  const flags = await intake.exactly(2);
  if (flags[0] >>> 6 !== 1) throw new Error(`version ${flags[0] >>> 6} of the frame format is not known`);
  if (flags[0] & 1) throw new Error('it was compressed with a dictionary, which is not at hand');
  const linked = (flags[0] & 0x20) === 0;
  const blocksChecked = (flags[0] & 0x10) !== 0;
  const sized = (flags[0] & 8) !== 0;
  const checked = (flags[0] & 4) !== 0;
  const log = (flags[1] >>> 4) & 7;
  if (log < 4) throw new Error(`its blocks have a size that is not known (${log})`);
  const most = 1 << (8 + 2 * log);
  const sizeField = await intake.exactly(sized ? 8 : 0);
  const size = sized ? contentSize(sizeField) : -1;
  const headerSum = await intake.exactly(1);
  if (((hashes.h32Raw(Buffer.concat([flags, sizeField])) >>> 8) & 0xff) !== headerSum[0]) {
    throw new Error('the checksum of its header is wrong');
  }
  const { default: library } = await import('lz4-napi');
  const hash = hashes.create32();
  let before: Uint8Array = EMPTY;
  let nOut = 0;
  for (;;) {
    const word = u32(await intake.exactly(4), 0);
    if (word === 0) break;
    const length = word & 0x7fffffff;
    if (length > most) throw new Error(`a block of ${length} bytes is over the ${most} of its frame`);
    const block = await intake.exactly(length);
    if (blocksChecked && u32(await intake.exactly(4), 0) !== hashes.h32Raw(block)) throw new Error(WRONG_SUM);
    const bytes = word >>> 31 !== 0 ? block : lz4Block(library, block, most, before);
    nOut += bytes.length;
    if (checked) hash.update(bytes);
    if (linked) before = lastBytes(before, bytes);
    yield bytes;
  }
  if (checked && u32(await intake.exactly(4), 0) !== hash.digest()) throw new Error(WRONG_SUM);
  if (size >= 0 && nOut !== size) throw new Error(`it has ${nOut} bytes and announces ${size}`);
}

/** lz4-napi wants the size in front, and takes one that is too large. */
function lz4Block(library: typeof lz4, block: Uint8Array, most: number, before: Uint8Array): Uint8Array {
  const sized = new Uint8Array(4 + block.length);
  new DataView(sized.buffer).setUint32(0, most, true);
  sized.set(block, 4);
  return before.length > 0 ? library.uncompressSync(sized, before) : library.uncompressSync(sized);
}

function lastBytes(before: Uint8Array, bytes: Uint8Array): Uint8Array {
  if (bytes.length >= LZ4_DICTIONARY) return bytes.subarray(bytes.length - LZ4_DICTIONARY);
  const both = Buffer.concat([before, bytes]);
  return both.subarray(Math.max(0, both.length - LZ4_DICTIONARY));
}

/** Streams, blocks, padding and checks are the library's. It says neither where nor, in words, what is wrong: 7 is
 *  damage, 8 an end that comes too early. */
async function* decodeXz(intake: Intake): AsyncGenerator<Uint8Array> {
  const compressed = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const bytes = await intake.upTo(XZ_PIECE);
      if (bytes.length > 0) controller.enqueue(bytes);
      if (bytes.length < XZ_PIECE) controller.close();
    },
  });
  const { default: xzDecompress } = await import('xz-decompress');
  const decoded = new xzDecompress.XzReadableStream(compressed as never).getReader();
  try {
    for (;;) {
      const { done, value } = await decoded.read();
      if (done) return;
      yield value;
    }
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    if (/code 8$/.test(text) && intake.ended) throw new CutShort();
    throw new Error(text);
  } finally {
    await decoded.cancel().catch(() => {});
  }
}

function u32(bytes: Uint8Array, at: number): number {
  return (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24)) >>> 0;
}
