/** Internet checksums (RFC 1071), their incremental update (RFC 1624) and CRC32c (RFC 9260, appendix A).
 *
 *  Sums of 16-bit words carry into the high half of an int32; `fold` brings them down. Frames are read through a DataView because they lie at any alignment. */

/** Folds a sum below 2^32 to 16 bits. */
export function fold(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
}

/** Unfolded one's complement sum of `len` bytes at `off`; an odd last byte counts as the high half. At
 *  most 65,535 bytes (an IP packet), so that the sum stays below 2^31. */
export function sum(view: DataView, off: number, len: number): number {
  let high = 0;
  let low = 0;
  // Four words at a time: independent loads, and one loop test for all.
  for (const quads = off + (len & ~15); off < quads; off += 16) {
    const a = view.getInt32(off);
    const b = view.getInt32(off + 4);
    const c = view.getInt32(off + 8);
    const d = view.getInt32(off + 12);
    high = (high + (a >>> 16) + (b >>> 16) + (c >>> 16) + (d >>> 16)) | 0;
    low = (low + (a & 0xffff) + (b & 0xffff) + (c & 0xffff) + (d & 0xffff)) | 0;
  }
  for (const words = off + (len & 12); off < words; off += 4) {
    const a = view.getInt32(off);
    high = (high + (a >>> 16)) | 0;
    low = (low + (a & 0xffff)) | 0;
  }
  if (len & 2) {
    low += view.getUint16(off);
    off += 2;
  }
  if (len & 1) low += view.getUint8(off) << 8;
  return high + low;
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

const CRC32C = new Int32Array(256);
for (let n = 0; n < 256; n++) {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0x82f63b78 : c >>> 1;
  CRC32C[n] = c;
}

/** CRC32c of an SCTP packet with its checksum field (bytes 8 to 11) taken as zero, in the byte order in
 *  which it stands on the wire when written with setInt32(…, littleEndian = true). */
export function sctpChecksum(view: DataView, off: number, len: number): number {
  let crc = -1;
  for (let i = 0; i < len; i++) {
    const byte = i >= 8 && i < 12 ? 0 : view.getUint8(off + i);
    crc = CRC32C[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  }
  return ~crc;
}
