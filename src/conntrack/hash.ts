/** Keyed hashes of what packets choose. The key is drawn anew for every run, so nobody can prepare tuples that collide; no
 *  result depends on it.
 *
 *  A chain of xor, multiplication by a constant and shift is not enough, whatever its key: two words can always be chosen
 *  so that the first makes a difference in the upper bits alone, where multiplication leaves it, and the second takes it
 *  back. So a word is not multiplied by a constant but its halves, with the key added, by each other, and the products are
 *  added: NH of UMAC (RFC 4418, section 5.2; Black et al., 1999), but for carries. Two given inputs have the same sum under
 *  one key in 32,768 at most, if the keys of their words are independent; here they come of one. */

/** What a word adds to a hash. */
export function scatter(word: number, key: number): number {
  const t = (word + key) | 0;
  // With `t` itself, as else half of all words would share their products with many others.
  return (Math.imul(t & 0xffff, t >>> 16) + t) | 0;
}

/** A sum of scattered words with all its bits in each of the lower ones. A permutation. */
export function stir(sum: number): number {
  const h = Math.imul(sum ^ (sum >>> 15), 0x85ebca6b | 0);
  return h ^ (h >>> 15);
}

/** The key times these are further keys. */
const KEY_1 = 0x9e3779b1 | 0;
const KEY_2 = 0xc2b2ae35 | 0;
const KEY_3 = 0x27d4eb2f;

/** One end of a connection. Each is stirred by itself: sums or differences of ends would collide under any key. */
function end(seed: number, address: number, port: number): number {
  return stir((scatter(address, seed) + Math.imul(port, Math.imul(seed, KEY_1) | 1)) | 0);
}

/** Symmetric hash of a tuple: both directions of a connection hash alike. `zoneProto` is CONN.ZONE_PROTO, of which
 *  zone and protocol count. */
export function tupleHash(seed: number, src: number, dst: number, ports: number, zoneProto: number): number {
  const ends = (end(seed, src, ports >>> 16) + end(seed, dst, ports & 0xffff)) | 0;
  return stir((ends + Math.imul(zoneProto >>> 8, Math.imul(seed, KEY_2) | 1)) | 0);
}

/** One word that stands for an IPv6 address in a tuple. */
export function fold6(seed: number, a: number, b: number, c: number, d: number): number {
  const upper = (scatter(a, Math.imul(seed, KEY_1)) + scatter(b, Math.imul(seed, KEY_2))) | 0;
  const lower = (scatter(c, Math.imul(seed, KEY_3)) + scatter(d, seed)) | 0;
  return stir((upper + lower) | 0);
}

/** Hash of the packets of one direction; never 0. `short` has the port that they came in by in its upper half. */
export function packetHash(seed: number, short: number, src: number, dst: number, ports: number): number {
  const addresses = (scatter(src, seed) + scatter(dst, Math.imul(seed, KEY_1))) | 0;
  const rest = (scatter(ports, Math.imul(seed, KEY_2)) + Math.imul(short, Math.imul(seed, KEY_3) | 1)) | 0;
  return stir((addresses + rest) | 0) || 1;
}

/** So many keys, none of which says anything of the others. Node seeds Math.random in every thread from the operating
 *  system's source of random numbers (V8::SetEntropySource), and nothing that it gives goes into any output: nobody who
 *  makes packets can learn or guess a key. */
export function drawKeys(n: number): Int32Array {
  return Int32Array.from({ length: n }, () => (Math.random() * 0x100000000) | 0);
}

/** So many keys made of one, the same every time. */
export function keysOf(seed: number, n: number): Int32Array {
  return Int32Array.from({ length: n }, (_, i) => {
    // The finalizer of MurmurHash3, of a counter.
    let h = (seed + Math.imul(i + 1, KEY_1)) | 0;
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b | 0);
    h = Math.imul(h ^ (h >>> 13), KEY_2);
    return h ^ (h >>> 16);
  });
}
