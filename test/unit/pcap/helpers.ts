/** What the capture tests share: builders of capture bytes, a feed over memory, and a loop that drains a reader. */

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Readable } from 'node:stream';
import { SegmentArena } from '../../../src/pcap/arena.js';
import { type ByteFeed, FEED_END, FEED_STARVED } from '../../../src/pcap/feed.js';
import { openCapture, openCaptureStream } from '../../../src/pcap/open.js';
import { CaptureError, type CaptureReader, type PacketArena, ReadResult } from '../../../src/pcap/types.js';
import { newPacketRecord } from '../../../src/pcap/window.js';

/** A packet copied out of the arena. */
export interface Got {
  sec: number;
  nsec: number;
  wireLen: number;
  iface: number;
  /** The frame, hexadecimal. */
  hex: string;
}

/** All that a capture gave. */
export interface Drained {
  packets: Got[];
  error: CaptureError | undefined;
  notices: { offset: number; message: string }[];
}

export const SEGMENT = 264 * 1024;

/** Reads a capture to its end, holding up to `window` packets unreleased as a pipeline would, then checks that
 *  nothing was left in the arena. Errors that are no CaptureError are rethrown. */
export async function drain(
  open: (arena: SegmentArena) => CaptureReader | Promise<CaptureReader>,
  arena = new SegmentArena(3, SEGMENT),
  window = 16,
): Promise<Drained> {
  const packets: Got[] = [];
  let error: CaptureError | undefined;
  let reader: CaptureReader | undefined;
  const held: { segment: number; off: number; capLen: number; hex: string }[] = [];
  const collect = (): void => {
    const first = held.shift();
    if (first === undefined) throw new Error('the arena is full, though every packet was released');
    // A packet must stay as it is until it is released.
    const now = Buffer.from(arena.u8.subarray(first.off, first.off + first.capLen)).toString('hex');
    if (now !== first.hex) throw new Error('a packet was overwritten before its release');
    arena.release(first.segment);
  };
  try {
    reader = await open(arena);
    const packet = newPacketRecord();
    for (;;) {
      const state = reader.next(packet);
      if (state === ReadResult.END) break;
      if (state === ReadResult.STARVED) await reader.readable();
      else if (state === ReadResult.ARENA_FULL) collect();
      else {
        const { off, capLen, segment, sec, nsec, wireLen, iface } = packet;
        const hex = Buffer.from(arena.u8.subarray(off, off + capLen)).toString('hex');
        packets.push({ sec, nsec, wireLen, iface, hex });
        held.push({ segment, off, capLen, hex });
        if (held.length > window) collect();
      }
    }
    if (reader.next(packet) !== ReadResult.END) throw new Error('something came after the end');
  } catch (e) {
    if (!(e instanceof CaptureError)) throw e;
    error = e;
  }
  while (held.length > 0) collect();
  const notices = (reader?.notices ?? []).map(({ offset, message }) => ({ offset, message }));
  reader?.close();
  if (arena.nFreeSegments !== arena.nSegments) throw new Error('segments were lost');
  return { packets, error, notices };
}

/** A feed over memory that gives at most `chunk` bytes at a time and starves in between if told to. */
export class BytesFeed implements ByteFeed {
  readonly name = 'memory';
  readonly shortfall = '';
  private readonly bytes: Uint8Array;
  private readonly chunk: number;
  private readonly starves: boolean;
  private at = 0;
  private hungry = false;

  constructor(bytes: Uint8Array, chunk = Infinity, starves = false) {
    this.bytes = bytes;
    this.chunk = chunk;
    this.starves = starves;
  }

  read(u8: Uint8Array, off: number, max: number): number {
    const n = this.skip(max);
    if (n > 0) u8.set(this.bytes.subarray(this.at - n, this.at), off);
    return n;
  }

  skip(max: number): number {
    if (this.starves) {
      this.hungry = !this.hungry;
      if (this.hungry) return FEED_STARVED;
    }
    const n = Math.min(max, this.chunk, this.bytes.length - this.at);
    if (n === 0) return FEED_END;
    this.at += n;
    return n;
  }

  async readable(): Promise<void> {}
  close(): void {}
}

let folder: string | undefined;
let nFiles = 0;

/** A path for a temporary file, removed at exit. */
export function tempPath(name: string): string {
  if (folder === undefined) {
    const made = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-pcap-'));
    folder = made;
    process.on('exit', () => fs.rmSync(made, { recursive: true, force: true }));
  }
  return path.join(folder, `${nFiles++}-${name}`);
}

export function tempFile(bytes: Uint8Array, name = 'capture'): string {
  const file = tempPath(name);
  fs.writeFileSync(file, bytes);
  return file;
}

/** Reads capture bytes from a file. */
export function fromFile(bytes: Uint8Array): Promise<Drained> {
  const file = tempFile(bytes);
  return drain((arena) => openCapture(file, arena)).finally(() => fs.rmSync(file));
}

/** Reads capture bytes from a stream of chunks. */
export function fromStream(bytes: Uint8Array, chunk = 1000): Promise<Drained> {
  return drain((arena) => openCaptureStream('stream', chunked(bytes, chunk), arena));
}

export function chunked(bytes: Uint8Array, chunk: number): Readable {
  function* chunks(): Generator<Uint8Array> {
    for (let at = 0; at < bytes.length; at += chunk) yield bytes.subarray(at, at + chunk);
  }
  return Readable.from(chunks(), { objectMode: false });
}

/** Appends integers in one byte order. */
export class Bytes {
  private readonly parts: Uint8Array[] = [];
  private readonly little: boolean;

  constructor(little: boolean) {
    this.little = little;
  }

  u8(...xs: number[]): this {
    this.parts.push(Uint8Array.from(xs));
    return this;
  }

  u16(x: number): this {
    const b = Buffer.alloc(2);
    if (this.little) b.writeUInt16LE(x);
    else b.writeUInt16BE(x);
    this.parts.push(b);
    return this;
  }

  u32(x: number): this {
    const b = Buffer.alloc(4);
    if (this.little) b.writeUInt32LE(x);
    else b.writeUInt32BE(x);
    this.parts.push(b);
    return this;
  }

  /** High half first, as pcapng does in either order. */
  u64halves(x: bigint): this {
    return this.u32(Number(x >> 32n)).u32(Number(x & 0xffffffffn));
  }

  add(bytes: Uint8Array): this {
    this.parts.push(bytes);
    return this;
  }

  get all(): Buffer {
    return Buffer.concat(this.parts);
  }
}

export interface Rec {
  sec: number;
  frac: number;
  data: Uint8Array;
  wireLen?: number;
  /** What the header claims, if not the truth. */
  capLen?: number;
}

export interface PcapOptions {
  little?: boolean;
  magic?: number;
  major?: number;
  minor?: number;
  linkType?: number;
  snapLen?: number;
}

/** A classic pcap file. */
export function pcap(records: Rec[], o: PcapOptions = {}): Buffer {
  const out = new Bytes(o.little ?? true);
  const magic = o.magic ?? 0xa1b2c3d4;
  out
    .u32(magic)
    .u16(o.major ?? 2)
    .u16(o.minor ?? 4);
  out
    .u32(0)
    .u32(0)
    .u32(o.snapLen ?? 262144)
    .u32(o.linkType ?? 1);
  for (const { sec, frac, data, wireLen, capLen } of records) {
    out
      .u32(sec)
      .u32(frac)
      .u32(capLen ?? data.length)
      .u32(wireLen ?? data.length);
    if (magic === 0xa1b2cd34) out.u32(7).u16(0x0800).u8(4, 0);
    out.add(data);
  }
  return out.all;
}

const padded = (bytes: Uint8Array): Buffer => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);

/** Composes pcapng blocks in one byte order. */
export class Blocks {
  private readonly little: boolean;

  constructor(little = true) {
    this.little = little;
  }

  get bytes(): Bytes {
    return new Bytes(this.little);
  }

  block(type: number, body: Uint8Array, length?: number, trailer?: number): Buffer {
    const full = padded(body);
    const n = length ?? full.length + 12;
    return this.bytes
      .u32(type)
      .u32(n)
      .add(full)
      .u32(trailer ?? n).all;
  }

  option(code: number, value: Uint8Array): Buffer {
    return this.bytes.u16(code).u16(value.length).add(padded(value)).all;
  }

  section(...options: Buffer[]): Buffer {
    const body = this.bytes.u32(0x1a2b3c4d).u16(1).u16(0).u32(0xffffffff).u32(0xffffffff);
    return this.block(0x0a0d0d0a, body.add(Buffer.concat(options)).all);
  }

  iface(
    o: { linkType?: number; snapLen?: number; tsresol?: number; tsoffset?: bigint; more?: Buffer } = {},
  ): Buffer {
    const body = this.bytes
      .u16(o.linkType ?? 1)
      .u16(0)
      .u32(o.snapLen ?? 0);
    if (o.more !== undefined) body.add(o.more);
    if (o.tsresol !== undefined) body.add(this.option(9, Uint8Array.of(o.tsresol)));
    if (o.tsoffset !== undefined) {
      const value = Buffer.alloc(8);
      if (this.little) value.writeBigInt64LE(o.tsoffset);
      else value.writeBigInt64BE(o.tsoffset);
      body.add(this.option(14, value));
    }
    return this.block(1, body.all);
  }

  enhanced(
    id: number,
    ticks: bigint,
    data: Uint8Array,
    wireLen = data.length,
    options: Uint8Array = Buffer.alloc(0),
  ): Buffer {
    const body = this.bytes.u32(id).u64halves(ticks).u32(data.length).u32(wireLen);
    return this.block(6, body.add(padded(data)).add(options).all);
  }

  obsolete(id: number, ticks: bigint, data: Uint8Array): Buffer {
    const body = this.bytes.u16(id).u16(3).u64halves(ticks).u32(data.length).u32(data.length);
    return this.block(2, body.add(data).all);
  }

  simple(data: Uint8Array, wireLen = data.length): Buffer {
    return this.block(3, this.bytes.u32(wireLen).add(data).all);
  }
}

/** `n` bytes that differ from place to place. */
export function payload(n: number, seed = 1): Buffer {
  const b = Buffer.alloc(n);
  let x = seed | 1;
  for (let i = 0; i < n; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) | 0;
    b[i] = x >>> 24;
  }
  return b;
}

export const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** The folder that holds this project's package.json. */
export function projectRoot(): string {
  let at = path.dirname(new URL(import.meta.url).pathname);
  while (!fs.existsSync(path.join(at, 'fixtures'))) {
    const up = path.dirname(at);
    if (up === at) return process.cwd();
    at = up;
  }
  return at;
}

export type { PacketArena };
