/** Rows of frames, each with a place (a port or a zone) and a time: as bytes, so that they can be kept, and changed as rows. */
import { type Bytes, cat, type Random, u16 } from '../support/packets.js';
import { mutateBytes } from './mutate.js';

export interface Part {
  /** 0 to 255. */
  place: number;
  /** Since the one before; its unit is the fuzzer's. */
  wait: number;
  frame: Bytes;
}

/** Of each part, before its frame: place, wait and the frame's length. */
const PART_HEADER = 5;

export function packRow(parts: readonly Part[]): Bytes {
  return cat(
    ...parts.flatMap(({ place, wait, frame }) => [
      Uint8Array.of(place, ...u16(wait), ...u16(frame.length)),
      frame,
    ]),
  );
}

export function unpackRow(input: Bytes, mostParts = Infinity, mostFrame = 0xffff): Part[] {
  const parts: Part[] = [];
  for (let at = 0; at + PART_HEADER <= input.length && parts.length < mostParts; ) {
    const [place, high, low] = input.subarray(at, at + 3);
    const length = Math.min(mostFrame, (input[at + 3] << 8) | input[at + 4]);
    at += PART_HEADER;
    parts.push({ place, wait: (high << 8) | low, frame: input.slice(at, at + length) });
    at += length;
  }
  return parts;
}

export interface RowChanges {
  waits: readonly number[];
  /** Whatever else can be done to a row, at one of its parts. */
  further: readonly ((parts: Part[], at: number) => void)[];
}

/** Changes a row, which has parts, in one to four places. */
export function changeRow(r: Random, parts: Part[], { waits, further }: RowChanges): void {
  for (let n = 1 + r.int(4); n > 0; n--) {
    const at = r.int(parts.length);
    const part = parts[at];
    const kind = r.int(5 + further.length);
    switch (kind) {
      case 0:
        parts.splice(at, 0, { ...part });
        break;
      case 1:
        if (parts.length > 1) parts.splice(at, 1);
        break;
      case 2:
        parts.splice(r.once(4) ? parts.length : r.int(parts.length), 0, ...parts.splice(at, 1));
        break;
      case 3:
        part.wait = r.pick(waits);
        break;
      case 4:
        part.frame = mutateBytes(r, part.frame, [r.pick(parts).frame]);
        break;
      default:
        further[kind - 5](parts, at);
    }
  }
}
