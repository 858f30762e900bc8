/** SHA-1 (FIPS 180-4) of short messages, one block at a time on this thread: for Community IDs, of which every record has
 *  one. For these a call into OpenSSL takes ten times as long as the hash. Not for secrets. */

const BLOCK = 64;
/** Longest message: its end and its length fit into one block behind it. */
const MOST = BLOCK - 9;
const schedule = new Int32Array(80);

/** Writes the digest of `message[0..size)`, at most 55 bytes, to the 20 bytes of `digest`. */
export function sha1(message: Uint8Array, size: number, digest: Uint8Array): void {
  if (size > MOST) throw new RangeError(`sha1: a message of ${size} bytes; at most ${MOST}`);
  const w = schedule;
  for (let i = 0; i < 15; i++) w[i] = 0;
  for (let i = 0; i < size; i++) w[i >> 2] |= message[i] << (24 - ((i & 3) << 3));
  w[size >> 2] |= 0x80 << (24 - ((size & 3) << 3));
  w[15] = size << 3;
  for (let i = 16; i < 80; i++) {
    const x = w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16];
    w[i] = (x << 1) | (x >>> 31);
  }
  let a = 0x67452301;
  let b = 0xefcdab89 | 0;
  let c = 0x98badcfe | 0;
  let d = 0x10325476;
  let e = 0xc3d2e1f0 | 0;
  for (let i = 0; i < 80; i++) {
    let f = 0;
    if (i < 20) f = ((b & c) | (~b & d)) + 0x5a827999;
    else if (i < 40) f = (b ^ c ^ d) + 0x6ed9eba1;
    else if (i < 60) f = ((b & c) | (b & d) | (c & d)) + (0x8f1bbcdc | 0);
    else f = (b ^ c ^ d) + (0xca62c1d6 | 0);
    const next = (((a << 5) | (a >>> 27)) + f + e + w[i]) | 0;
    e = d;
    d = c;
    c = (b << 30) | (b >>> 2);
    b = a;
    a = next;
  }
  put(digest, 0, a + 0x67452301);
  put(digest, 4, b + (0xefcdab89 | 0));
  put(digest, 8, c + (0x98badcfe | 0));
  put(digest, 12, d + 0x10325476);
  put(digest, 16, e + (0xc3d2e1f0 | 0));
}

function put(bytes: Uint8Array, at: number, word: number): void {
  bytes[at] = word >>> 24;
  bytes[at + 1] = word >>> 16;
  bytes[at + 2] = word >>> 8;
  bytes[at + 3] = word;
}
