/** MurmurHash3, 32 bits, over 32-bit words (Austin Appleby, public domain): what Open vSwitch hashes with
 *  in a build for any x86-64. Where a choice of it is a pure function of the packet, this is how to make
 *  the same one. */

/** Hash after one more word. */
export function murmurAdd(hash: number, word: number): number {
  let k = Math.imul(word, 0xcc9e2d51);
  k = Math.imul((k << 15) | (k >>> 17), 0x1b873593);
  const h = hash ^ k;
  return (Math.imul((h << 13) | (h >>> 19), 5) + 0xe6546b64) | 0;
}

/** The finished hash. */
export function murmurFinish(hash: number): number {
  let h = hash;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** A word in the other byte order: Open vSwitch hashes fields as they lie in memory. */
export function swapBytes(word: number): number {
  return (word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);
}
