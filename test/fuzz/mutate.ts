/** Changes inputs: bytes, and text by its tokens. Everything is drawn from a seeded generator. */
import { type Bytes, cat, type Random } from '../support/packets.js';

/** Values at which lengths, counts and offsets tip over. */
const EDGES = [
  0, 1, 2, 4, 7, 8, 15, 16, 20, 31, 32, 40, 63, 64, 127, 128, 255, 256, 1500, 4095, 32767, 32768,
];
const EDGES_32 = [...EDGES, 65535, 65536, 262144, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff];
/** Inputs don't grow beyond this. */
const MOST_BYTES = 1 << 16;

/** `input`, changed in one to six places; `others` lend parts. */
export function mutateBytes(r: Random, input: Bytes, others: readonly Bytes[]): Bytes {
  let out: Bytes = input.slice();
  for (let n = 1 + (r.once(2) ? 0 : r.int(6)); n > 0; n--) {
    out = mutateOnce(r, out, others);
    if (out.length > MOST_BYTES) out = out.slice(0, MOST_BYTES);
  }
  return out;
}

function mutateOnce(r: Random, b: Bytes, others: readonly Bytes[]): Bytes {
  const at = r.int(b.length + 1);
  const size = r.int(Math.min(r.once(4) ? 256 : 8, b.length - at + 1));
  const aligned = at & ~(r.once(2) ? 3 : 1);
  const view = new DataView(b.buffer, b.byteOffset, b.length);
  switch (r.int(12)) {
    case 0:
      if (at < b.length) b[at] ^= 1 << r.int(8);
      return b;
    case 1:
      if (at < b.length) b[at] = r.int(256);
      return b;
    case 2:
      if (at < b.length) b[at] = r.pick(EDGES);
      return b;
    case 3:
      if (aligned + 2 <= b.length) view.setUint16(aligned, r.pick(EDGES), r.once(2));
      return b;
    case 4:
      if (aligned + 4 <= b.length) view.setUint32(aligned, r.pick(EDGES_32), r.once(2));
      return b;
    case 5: // a little more or less
      if (aligned + 2 <= b.length) {
        const little = r.once(2);
        view.setUint16(aligned, view.getUint16(aligned, little) + r.int(17) - 8, little);
      }
      return b;
    case 6: // cut off
      return b.slice(0, at);
    case 7: // a part goes
      return cat(b.subarray(0, at), b.subarray(at + size));
    case 8: // a part comes again
      return cat(b.subarray(0, at + size), b.subarray(at));
    case 9: // new bytes
      return cat(b.subarray(0, at), r.once(2) ? r.bytes(size) : new Uint8Array(size), b.subarray(at));
    case 10: {
      // the end of another
      const other = r.pick(others);
      return cat(b.subarray(0, at), other.subarray(r.int(other.length + 1)));
    }
    default: {
      // a part of another in the same place
      const other = r.pick(others);
      const from = r.int(other.length + 1);
      const part = other.subarray(from, from + size);
      if (at + part.length <= b.length) b.set(part, at);
      return b;
    }
  }
}

const TOKEN = /[A-Za-z0-9_.]+|\s+|[^A-Za-z0-9_.\s]/g;
const SIGNS = [...',=:/()[]{}<>->+-*#"\'\\%~|!&;@^ \n\t'];
const NUMBERS = [
  ...EDGES_32.map(String),
  '-1',
  '4294967296',
  '18446744073709551615',
  '18446744073709551616',
  '0x',
  '0xffffffffffffffffffffffffffffffffff',
  '1e9',
  '0.5',
  'NaN',
  '٣',
  '::',
  '255.255.255.255/33',
];

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** The same for text: tokens go, come again, are exchanged, numbers tip over. */
export function mutateText(r: Random, input: Bytes, others: readonly Bytes[]): Bytes {
  // Now and then what is not even text.
  if (r.once(12)) return mutateBytes(r, input, others);
  const tokens: string[] = decoder.decode(input).match(TOKEN) ?? [];
  for (let n = 1 + (r.once(2) ? 0 : r.int(5)); n > 0; n--) {
    const at = r.int(tokens.length + 1);
    const size = 1 + r.int(r.once(4) ? 20 : 3);
    switch (r.int(9)) {
      case 0:
        tokens.splice(at, size);
        break;
      case 1:
        tokens.splice(at, 0, ...tokens.slice(at, at + size));
        break;
      case 2:
        tokens.splice(at, 0, r.pick(SIGNS));
        break;
      case 3:
        tokens.splice(at, 1, r.pick(NUMBERS));
        break;
      case 4: {
        // a token of another
        const theirs: string[] = decoder.decode(r.pick(others)).match(TOKEN) ?? ['?'];
        tokens.splice(at, r.int(2), r.pick(theirs));
        break;
      }
      case 5: {
        // a part of another
        const theirs: string[] = decoder.decode(r.pick(others)).match(TOKEN) ?? ['?'];
        const from = r.int(theirs.length);
        tokens.splice(at, r.int(4), ...theirs.slice(from, from + size));
        break;
      }
      case 6: // the same many times
        tokens.splice(
          at,
          0,
          tokens
            .slice(at, at + size)
            .join('')
            .repeat(r.once(50) ? 5000 : r.pick([2, 10, 200])),
        );
        break;
      case 7: {
        const other = r.int(tokens.length + 1);
        [tokens[at], tokens[other]] = [tokens[other] ?? '', tokens[at] ?? ''];
        break;
      }
      default: {
        // within a token
        const token = tokens[at] ?? '';
        const cut = r.int(token.length + 1);
        tokens[at] =
          token.slice(0, cut) +
          r.pick([...SIGNS, '\0', 'é', '\u{1f980}', '\ud800', 'x', '9']) +
          token.slice(cut + r.int(2));
      }
    }
  }
  return encoder.encode(tokens.join('').slice(0, MOST_BYTES));
}
