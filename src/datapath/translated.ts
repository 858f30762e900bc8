/** Frames of translated packets, a vector at a time: copies of what was captured, with another address and other ports.
 *
 *  What the microflow cache finds by an entry that translates and does nothing else (`isTranslated` there) is TCP or UDP
 *  over IPv4, in one frame as long as the captured one. So records lie behind each other without headroom, and a loop that
 *  calls nothing writes them. Checksums follow by incremental update (RFC 1624).
 *
 *  Writer of the frames and of the packets' FRAME_* columns: the thread that runs the packets. */
import type { PacketColumns } from '../shm/packets.js';
import * as columns from '../shm/packets.js';
import { record } from '../shm/record.js';
import * as headers from '../wire/extract.js';
import type { FrameStore } from './frames.js';
import * as frameRecords from './frames.js';
import type { Staging } from './staging.js';
import * as stagedKeys from './staging.js';

// Imported constants are loads from the other module's cells; local ones are folded into the code.
const { IPPROTO_TCP } = headers;
const { FRAME_DATA_OFF, FRAME_LEN, FRAME_NEXT_CHUNK, FRAME_NEXT_OFF, FRAME_RECORD_BYTES } = frameRecords;
const { VERDICT_FRAMES, VERDICT_ONE_FRAME } = columns;
const KEY_SHIFT = stagedKeys.STAGED_KEY.shift;
const { PORT_NW, SRC, DST, TP } = stagedKeys.STAGED_KEY.at;

/** What becomes of a packet: its place in the staged vector, addresses, ports. */
const CHANGE = record('AT', 'SRC', 'DST', 'TP');
export const CHANGE_SHIFT = CHANGE.shift;

/** Frames up to this length are copied word by word: quicker than a view of so few bytes is made. */
const MOST_WORDWISE = 512;

/** Whether the frame of `len` bytes at `from` may be copied by `copyWords`. */
export function isShort(from: number, len: number, arena: Int32Array): boolean {
  return len <= MOST_WORDWISE && (from + len + 3) >> 2 <= arena.length;
}

/** Copies `from[at..end)` to `to[dest]` and on. */
export function copyWords(from: Int32Array, at: number, end: number, to: Int32Array, dest: number): void {
  let d = dest;
  for (; at + 4 <= end; at += 4, d += 4) {
    to[d] = from[at];
    to[d + 1] = from[at + 1];
    to[d + 2] = from[at + 2];
    to[d + 3] = from[at + 3];
  }
  for (; at < end; at++, d++) to[d] = from[at];
}

/** What a 32-bit word that goes `from` … `to` adds to a sum (RFC 1624, equation 3). */
function difference(from: number, to: number): number {
  return (~from >>> 16) + (~from & 0xffff) + (to >>> 16) + (to & 0xffff);
}

export class FrameTranslator {
  /** CHANGE of each packet to translate. Written by whoever then calls `make`. */
  readonly changes: Int32Array;
  private readonly staging: Staging;
  private readonly packets: PacketColumns;
  private readonly frames: FrameStore;
  private readonly arenaWords: Int32Array;
  private readonly arenaU8: Uint8Array;

  constructor(
    staging: Staging,
    packets: PacketColumns,
    frames: FrameStore,
    arena: SharedArrayBuffer,
    vector: number,
  ) {
    this.staging = staging;
    this.packets = packets;
    this.frames = frames;
    this.arenaWords = new Int32Array(arena, 0, arena.byteLength >> 2);
    this.arenaU8 = new Uint8Array(arena);
    this.changes = new Int32Array(vector << CHANGE_SHIFT);
  }

  /** Makes the frames of the packets in `changes[0..n)`, whose verdicts have been written down, of the staged vector
   *  `slots`. */
  make(slots: Int32Array, n: number): void {
    const { frames, changes, packets } = this;
    for (let from = 0; from < n; ) {
      const slot = slots[changes[from << CHANGE_SHIFT]];
      const off = packets.off[slot];
      const len = packets.capLen[slot];
      const bytes = (FRAME_RECORD_BYTES + (off & 3) + len + 3) & ~3;
      const { u8 } = frames.makeRoom(bytes);
      let to = this.copy(slots, from, n);
      if (to === from) {
        u8.set(this.arenaU8.subarray(off, off + len), frames.end + FRAME_RECORD_BYTES + (off & 3));
        to++;
      }
      this.translate(slots, from, to);
      from = to;
    }
  }

  /** Copies the frames of `changes[from..n)`, as far as the current chunk has room and they are short. Returns the first
   *  that was not copied. */
  private copy(slots: Int32Array, from: number, n: number): number {
    const { changes, packets, frames, arenaWords } = this;
    const { off, capLen } = packets;
    const { words, u8 } = frames.chunks[frames.chunk];
    const room = u8.length;
    let at = frames.end;
    let j = from;
    for (; j < n; j++) {
      const slot = slots[changes[j << CHANGE_SHIFT]];
      const source = off[slot];
      const len = capLen[slot];
      const to = at + FRAME_RECORD_BYTES + (source & 3);
      at = (to + len + 3) & ~3;
      if (at > room || !isShort(source, len, arenaWords)) break;
      copyWords(arenaWords, source >> 2, (source + len + 3) >> 2, words, to >> 2);
    }
    return j;
  }

  /** Writes the records of `changes[from..n)`, whose frames have been copied, and translates these. A loop that calls
   *  nothing and has no other in it. */
  private translate(slots: Int32Array, from: number, n: number): void {
    const { changes, staging, packets, frames } = this;
    const { keys, l3s, l4s } = staging;
    const { off, capLen, verdict, frameChunk, frameOff } = packets;
    const id = frames.chunk;
    const { words, view } = frames.chunks[id];
    let at = frames.end;
    for (let j = from; j < n; j++) {
      const change = j << CHANGE_SHIFT;
      const i = changes[change];
      const slot = slots[i];
      const source = off[slot];
      const len = capLen[slot];
      const to = at + FRAME_RECORD_BYTES + (source & 3);
      const w = at >> 2;
      words[w + FRAME_NEXT_CHUNK] = -1;
      words[w + FRAME_NEXT_OFF] = -1;
      words[w + FRAME_DATA_OFF] = to;
      words[w + FRAME_LEN] = len;

      const k = i << KEY_SHIFT;
      const src = changes[change + 1];
      const dst = changes[change + 2];
      const tp = changes[change + 3];
      const by = to - source;
      const l3 = (l3s[i] + by) | 0;
      const l4 = (l4s[i] + by) | 0;
      // One of the two is what it was.
      const other = keys[k + SRC] === src;
      const address = difference(keys[k + (other ? DST : SRC)], other ? dst : src);
      view.setInt32((l3 + 12) | 0, src);
      view.setInt32((l3 + 16) | 0, dst);
      view.setInt32(l4, tp);
      const ip = (~view.getUint16((l3 + 10) | 0) & 0xffff) + address;
      const ipOnce = (ip & 0xffff) + (ip >>> 16);
      view.setUint16((l3 + 10) | 0, ~(ipOnce + (ipOnce >>> 16)));
      const tcp = ((keys[k + PORT_NW] >>> 8) & 0xff) === IPPROTO_TCP;
      const field = tcp ? (l4 + 16) | 0 : (l4 + 6) | 0;
      const before = view.getUint16(field);
      // UDP: zero means that the sender computed none (RFC 768); a computed zero is sent as all ones.
      if (before !== 0 || tcp) {
        const sum = (~before & 0xffff) + address + difference(keys[k + TP], tp);
        const once = (sum & 0xffff) + (sum >>> 16);
        const checksum = ~(once + (once >>> 16)) & 0xffff;
        view.setUint16(field, checksum === 0 && !tcp ? 0xffff : checksum);
      }
      verdict[slot] |= VERDICT_FRAMES | VERDICT_ONE_FRAME;
      frameChunk[slot] = id;
      frameOff[slot] = at;
      at = (to + len + 3) & ~3;
    }
    frames.took(n - from, at);
  }
}
