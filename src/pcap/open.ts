/** Opens a capture: finds out from its first bytes what it is, and picks the reader.
 *
 *      regular file, not compressed        PcapReader or PcapngReader, bytes read straight into the arena
 *      gzip, zstd, lz4, xz, "-", pipes     a stream: ParserReader (pcap-parser) for classic microsecond
 *                                          captures, the readers above for everything else */

import fs from 'node:fs';
import net from 'node:net';
import type { Readable } from 'node:stream';
import { MIN_SEGMENT_BYTES } from './arena.js';
import { DecodedFeed } from './decoded-feed.js';
import { compressionOf } from './decoders.js';
import {
  type ByteFeed,
  ChunkFeed,
  FEED_END,
  FEED_STARVED,
  FileFeed,
  StreamFeed,
  systemReason,
} from './feed.js';
import { GunzipFeed } from './gunzip-feed.js';
import { ParserReader } from './parser-reader.js';
import { describeUnknown, isPcapMagic, PCAP_HEADER_BYTES, parsePcapHeader } from './pcap-header.js';
import { PcapReader } from './pcap-reader.js';
import { isPcapngMagic, PcapngReader } from './pcapng-reader.js';
import { CaptureError, type CaptureReader, type PacketArena } from './types.js';

/** What messages call standard input. */
export const STDIN_NAME = '<stdin>';

/** Opens the capture at `path` ("-" is standard input) for reading into `arena`, whose segments must have at
 *  least MIN_SEGMENT_BYTES (RangeError). Rejects with CaptureError when the file can't be opened, is empty, is
 *  no capture or has a link type that can't be read. The caller closes the reader. */
export async function openCapture(path: string, arena: PacketArena): Promise<CaptureReader> {
  if (path === '-') {
    if (process.stdin.isTTY) {
      throw new CaptureError(
        STDIN_NAME,
        0,
        'standard input is a terminal; pipe a capture into it, or name a file',
      );
    }
    return openCaptureStream(STDIN_NAME, process.stdin, arena);
  }
  let regular: boolean;
  let stream: Readable | null = null;
  let fd = -1;
  try {
    const stat = fs.statSync(path);
    if (stat.isDirectory()) throw new Error('it is a folder; name a file in it');
    regular = stat.isFile();
    if (regular) fd = fs.openSync(path, 'r');
    else stream = stat.isFIFO() ? pipeStream(path) : fs.createReadStream(path);
  } catch (error) {
    throw new CaptureError(path, 0, `cannot open the capture: ${systemReason(error)}`, { cause: error });
  }
  if (stream !== null) return openCaptureStream(path, stream, arena);
  return openFeed(new FileFeed(path, fd), arena, false);
}

/** A named pipe, without a thread that is blocked until somebody writes: with one the process could not end. */
function pipeStream(path: string): Readable {
  // Elsewhere one that nobody has opened for writing may look ended.
  if (process.platform !== 'linux') return fs.createReadStream(path);
  const fd = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NONBLOCK);
  return new net.Socket({ fd, readable: true, writable: false });
}

/** The same for a stream of bytes, such as a socket or an upload; `name` is what messages call it. */
export async function openCaptureStream(
  name: string,
  stream: Readable,
  arena: PacketArena,
): Promise<CaptureReader> {
  return openFeed(new StreamFeed(name, stream), arena, true);
}

async function openFeed(feed: ByteFeed, arena: PacketArena, isStream: boolean): Promise<CaptureReader> {
  try {
    if (arena.segmentBytes < MIN_SEGMENT_BYTES) {
      throw new RangeError(
        `arena: segments of ${arena.segmentBytes} bytes can't hold every packet; use at least ${MIN_SEGMENT_BYTES}`,
      );
    }
    let start = await peek(feed);
    const decoded = decode(feed, start);
    if (decoded !== null) {
      feed = decoded;
      isStream = true;
      start = await peek(feed);
      if (isGzip(start) || compressionOf(start) !== undefined) {
        throw new CaptureError(feed.name, 0, 'the capture is compressed twice; decompress it once first');
      }
    }
    if (start.length === 0) {
      const why = feed.shortfall === '' ? '' : `: ${feed.shortfall}`;
      throw new CaptureError(
        feed.name,
        0,
        `the capture is empty${why}; a capture has at least a file header`,
      );
    }
    if (isPcapngMagic(start)) return new PcapngReader(feed, arena, 0);
    if (!isPcapMagic(start)) throw new CaptureError(feed.name, 0, describeUnknown(start));
    const header = parsePcapHeader(feed.name, start);
    feed.skip(PCAP_HEADER_BYTES);
    if (isStream && header.plainMicroseconds) return new ParserReader(feed, arena, header, start);
    return new PcapReader(feed, arena, header);
  } catch (error) {
    feed.close();
    throw error;
  }
}

function isGzip(start: Uint8Array): boolean {
  return start[0] === 0x1f && start[1] === 0x8b;
}

/** The feed decompressed, or null if it isn't compressed. */
function decode(feed: ByteFeed, start: Uint8Array): ChunkFeed | null {
  if (isGzip(start)) return new GunzipFeed(feed);
  const compression = compressionOf(start);
  return compression === undefined ? null : new DecodedFeed(feed, compression);
}

/** Whether the path is a regular file that is a capture and not compressed: one that can be read more than once. */
export function isPlainCapture(path: string): boolean {
  if (path === '-') return false;
  try {
    if (!fs.statSync(path).isFile()) return false;
    const fd = fs.openSync(path, 'r');
    try {
      const start = new Uint8Array(PCAP_HEADER_BYTES);
      const n = fs.readSync(fd, start);
      return isPcapngMagic(start.subarray(0, n)) || isPcapMagic(start.subarray(0, n));
    } finally {
      fs.closeSync(fd);
    }
  } catch {
    return false;
  }
}

/** Whether a file that starts with these bytes may be a capture, compressed or not. */
export function looksLikeCapture(start: Uint8Array): boolean {
  return isPcapngMagic(start) || isPcapMagic(start) || isGzip(start) || compressionOf(start) !== undefined;
}

/** The first 24 bytes, or fewer if there are no more; they stay in the feed. */
async function peek(feed: ByteFeed): Promise<Uint8Array> {
  const bytes = new Uint8Array(PCAP_HEADER_BYTES);
  let n = 0;
  while (n < bytes.length) {
    const got = feed.read(bytes, n, bytes.length - n);
    if (got === FEED_END) break;
    if (got === FEED_STARVED) await feed.readable();
    else n += got;
  }
  const start = bytes.subarray(0, n);
  if (feed instanceof FileFeed) feed.rewind();
  else if (feed instanceof ChunkFeed) feed.unread(start);
  return start;
}
