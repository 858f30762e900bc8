/** Snappy's raw format (github.com/google/snappy, format_description.txt), compressed: what Parquet calls SNAPPY. Repetitions are
 *  looked for by four bytes in a table of their last places, ever less closely where there are none. */

const TABLE_BITS = 14;
const FARTHEST = 0xffff;
/** Bytes at the end that are taken as they are, so that reads of four bytes stay inside. */
const MARGIN = 15;
const table = new Int32Array(1 << TABLE_BITS);

/** The longest that `n` bytes can become. */
function mostBytes(n: number): number {
  return 32 + n + Math.ceil(n / 6);
}

export function snappy(input: Uint8Array): Uint8Array {
  const n = input.length;
  const view = new DataView(input.buffer, input.byteOffset, n);
  const out = new Uint8Array(mostBytes(n));
  let at = 0;
  let length = n;
  for (; length > 0x7f; length >>>= 7) out[at++] = (length & 0x7f) | 0x80;
  out[at++] = length;

  table.fill(-1);
  let from = 0;
  let tried = 32;
  for (let i = 0; i < n - MARGIN; ) {
    const word = view.getInt32(i, true);
    const hash = Math.imul(word, 0x1e35a7bd) >>> (32 - TABLE_BITS);
    const before = table[hash];
    table[hash] = i;
    if (before < 0 || i - before > FARTHEST || view.getInt32(before, true) !== word) {
      i += tried++ >>> 5;
      continue;
    }
    at = literal(input, from, i, out, at);
    let end = i + 4;
    for (let b = before + 4; end < n && input[end] === input[b]; b++) end++;
    at = copy(end - i, i - before, out, at);
    from = i = end;
    tried = 32;
  }
  return out.subarray(0, literal(input, from, n, out, at));
}

/** Bytes `from` to `to` as they are; returns the end of what is written at `at`. */
function literal(input: Uint8Array, from: number, to: number, out: Uint8Array, at: number): number {
  const size = to - from;
  if (size === 0) return at;
  if (size <= 60) out[at++] = (size - 1) << 2;
  else {
    // The length behind the tag: 60 and more say in how many bytes.
    const bytes = size <= 0x100 ? 1 : size <= 0x10000 ? 2 : size <= 0x1000000 ? 3 : 4;
    out[at++] = (59 + bytes) << 2;
    for (let b = 0; b < bytes; b++) out[at++] = (size - 1) >>> (8 * b);
  }
  if (size < 24) for (let i = from; i < to; i++) out[at++] = input[i];
  else {
    out.set(input.subarray(from, to), at);
    at += size;
  }
  return at;
}

/** `size` bytes that came `offset` bytes before, in copies of 64 at most. */
function copy(size: number, offset: number, out: Uint8Array, at: number): number {
  for (; size >= 68; size -= 64) at = longCopy(64, offset, out, at);
  // What is left must be four at least.
  if (size > 64) {
    at = longCopy(60, offset, out, at);
    size -= 60;
  }
  if (size > 11 || offset >= 2048) return longCopy(size, offset, out, at);
  out[at++] = 1 | ((size - 4) << 2) | ((offset >>> 8) << 5);
  out[at++] = offset;
  return at;
}

function longCopy(size: number, offset: number, out: Uint8Array, at: number): number {
  out[at++] = 2 | ((size - 1) << 2);
  out[at++] = offset;
  out[at++] = offset >>> 8;
  return at;
}
