/** Captures that fuzzers and schedules begin with: those of fixtures/captures and, where SHARDTRACK_CAPTURES names files or
 *  folders (as PATH does), these too: `npm run fuzz -- CAPTURE...` and `npm run schedules -- CAPTURE...` set it. */
import fs from 'node:fs';
import path from 'node:path';
import { CaptureError, readCaptureFile } from '../differential/capture-file.js';
import { CAPTURES } from '../differential/fixture.js';
import type { Bytes } from './packets.js';

const VARIABLE = 'SHARDTRACK_CAPTURES';
/** Of larger files only so much is read. */
const MOST_BYTES = 16 << 20;
const MOST_FRAME = 10_000;

/** A frame and its time. */
export interface Captured {
  ns: bigint;
  frame: Bytes;
}

/** Adds files and folders to those that this process and its children begin with. Throws Error if there is none. */
export function addCaptures(paths: readonly string[]): void {
  for (const p of paths) if (!fs.existsSync(p)) throw new Error(`${p}: there is no such file or folder`);
  if (paths.length > 0) process.env[VARIABLE] = paths.map((p) => path.resolve(p)).join(path.delimiter);
}

/** Captures that were added: files, and all files below folders. */
export function addedCaptures(): string[] {
  const named = (process.env[VARIABLE] ?? '').split(path.delimiter).filter((p) => p !== '');
  return named.flatMap((p) => {
    if (!fs.statSync(p).isDirectory()) return [p];
    return fs
      .readdirSync(p, { recursive: true, encoding: 'utf8' })
      .sort()
      .map((f) => path.join(p, f))
      .filter((f) => fs.statSync(f).isFile());
  });
}

/** The shipped captures, by name, without those that hold the packets of another one in other formats. */
export function shippedCaptures(): string[] {
  return fs
    .readdirSync(CAPTURES)
    .filter((f) => /\.(pcap|pcapng)$/.test(f) && !f.startsWith('format-'))
    .sort()
    .map((f) => path.join(CAPTURES, f));
}

/** What a file begins with. */
export function beginning(file: string, bytes = MOST_BYTES): Bytes {
  const fd = fs.openSync(file, 'r');
  try {
    const room = new Uint8Array(Math.min(bytes, fs.fstatSync(fd).size));
    return room.subarray(0, fs.readSync(fd, room));
  } finally {
    fs.closeSync(fd);
  }
}

/** Ethernet frames of a capture, pcap or pcapng, as far as it can be read. None: it is something else. */
export function framesOf(file: string): Captured[] {
  try {
    return readCaptureFile(Buffer.from(beginning(file)))
      .records.map(([ns, frame]) => ({ ns, frame: Uint8Array.from(frame) }))
      .filter(({ frame }) => frame.length >= 14 && frame.length < MOST_FRAME);
  } catch (error) {
    if (error instanceof CaptureError) return [];
    throw error;
  }
}
