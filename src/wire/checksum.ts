/** Internet checksums (RFC 1071), their incremental update (RFC 1624) and CRC32c (RFC 9260, appendix A).
 *
 *  Sums of 16-bit words carry into the high half of an int32; `fold` brings them down. Frames are read through a DataView because they lie at any alignment. */

/** Folds a sum below 2^32 to 16 bits. */
export function fold(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
}

/** Unfolded one's complement sum of `len` bytes at `off`; an odd last byte counts as the high half. At
 *  most 65,535 bytes (an IP packet), so that the sum stays below 2^31.
 *
 *  Of the 32-bit words only the upper halves are summed, and the words themselves modulo 2^32: the sum of the lower
 *  halves is less than that, and is the difference. */
export function sum(view: DataView, off: number, len: number): number {
  if (len >= LONG) return sumLong(view, off, len);
  let high = 0;
  let all = 0;
  for (const quads = (off + (len & ~15)) | 0; off < quads; off = (off + 16) | 0) {
    const a = view.getInt32(off);
    const b = view.getInt32((off + 4) | 0);
    const c = view.getInt32((off + 8) | 0);
    const d = view.getInt32((off + 12) | 0);
    all = (all + a + b + c + d) | 0;
    high = (high + (a >>> 16) + (b >>> 16) + (c >>> 16) + (d >>> 16)) | 0;
  }
  for (const words = (off + (len & 12)) | 0; off < words; off = (off + 4) | 0) {
    const a = view.getInt32(off);
    all = (all + a) | 0;
    high = (high + (a >>> 16)) | 0;
  }
  let total = (high + all - (high << 16)) | 0;
  if (len & 2) {
    total = (total + view.getUint16(off)) | 0;
    off = (off + 2) | 0;
  }
  if (len & 1) total = (total + (view.getUint8(off) << 8)) | 0;
  return total;
}

/** From here on, `sumLong` is quicker. */
const LONG = 128;

/** The sum of words with their bytes swapped is the sum with its bytes swapped (RFC 1071, section 2): so most of them
 *  are read as the processor has them. */
function sumLong(view: DataView, off: number, len: number): number {
  let high = 0;
  let all = 0;
  for (const lines = (off + (len & ~31)) | 0; off < lines; off = (off + 32) | 0) {
    const a = view.getInt32(off, true);
    const b = view.getInt32((off + 4) | 0, true);
    const c = view.getInt32((off + 8) | 0, true);
    const d = view.getInt32((off + 12) | 0, true);
    const e = view.getInt32((off + 16) | 0, true);
    const f = view.getInt32((off + 20) | 0, true);
    const g = view.getInt32((off + 24) | 0, true);
    const h = view.getInt32((off + 28) | 0, true);
    all = (all + a + b + c + d + e + f + g + h) | 0;
    high = (high + (a >>> 16) + (b >>> 16) + (c >>> 16) + (d >>> 16)) | 0;
    high = (high + (e >>> 16) + (f >>> 16) + (g >>> 16) + (h >>> 16)) | 0;
  }
  const swapped = fold((high + all - (high << 16)) | 0);
  return ((swapped & 0xff) << 8) + (swapped >>> 8) + sum(view, off, len & 31);
}

/** Checksum field for a sum that was taken with the field as zero; 0 for bytes that include a right
 *  checksum (RFC 1071, section 1). */
export function checksum(total: number): number {
  return ~fold(total) & 0xffff;
}

/** Checksum after a 16-bit word changed from `from` to `to` (RFC 1624, equation 3). */
export function update16(field: number, from: number, to: number): number {
  return ~fold((~field & 0xffff) + (~from & 0xffff) + to) & 0xffff;
}

/** Checksum after a 32-bit word changed. */
export function update32(field: number, from: number, to: number): number {
  return update16(update16(field, from >>> 16, to >>> 16), from & 0xffff, to & 0xffff);
}

/** Tables for eight bytes at a time: T[256 k + b] is what byte b does to the CRC with k bytes behind it. */
const CRC32C = new Int32Array(8 * 256);
for (let n = 0; n < 256; n++) {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
  CRC32C[n] = c;
}
for (let n = 256; n < CRC32C.length; n++) {
  const c = CRC32C[n - 256];
  CRC32C[n] = CRC32C[c & 0xff] ^ (c >>> 8);
}

/** The CRC behind `len` further bytes. */
function crc32c(crc: number, view: DataView, off: number, len: number): number {
  const T = CRC32C;
  for (const last = (off + (len & ~7)) | 0; off < last; off = (off + 8) | 0) {
    const a = crc ^ view.getInt32(off, true);
    const b = view.getInt32((off + 4) | 0, true);
    crc =
      T[0x700 + (a & 0xff)] ^
      T[0x600 + ((a >>> 8) & 0xff)] ^
      T[0x500 + ((a >>> 16) & 0xff)] ^
      T[0x400 + (a >>> 24)] ^
      T[0x300 + (b & 0xff)] ^
      T[0x200 + ((b >>> 8) & 0xff)] ^
      T[0x100 + ((b >>> 16) & 0xff)] ^
      T[b >>> 24];
  }
  for (let i = 0; i < (len & 7); i++) crc = T[(crc ^ view.getUint8(off + i)) & 0xff] ^ (crc >>> 8);
  return crc;
}

const NO_CHECKSUM = new DataView(new ArrayBuffer(4));

/** CRC32c of an SCTP packet with its checksum field (bytes 8 to 11) taken as zero, in the byte order in
 *  which it stands on the wire when written with setInt32(…, littleEndian = true). At least 12 bytes. */
export function sctpChecksum(view: DataView, off: number, len: number): number {
  const crc = crc32c(crc32c(-1, view, off, 8), NO_CHECKSUM, 0, 4);
  return ~crc32c(crc, view, off + 12, len - 12);
}
