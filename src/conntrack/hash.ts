/** Keyed, symmetric hash of a connection tuple: both directions of a connection hash alike. The key is
 *  drawn anew for every run, so nobody can prepare tuples that collide; no result depends on it. */

/** The upper bits go into the lower ones before the multiplication: without that, what differs in the upper bits of one word
 *  alone stays together under any key, and lower bits of the next word take it back. */
function mix(h: number, v: number): number {
  h ^= v;
  h = Math.imul(h ^ (h >>> 15), 0x9e3779b1 | 0);
  return (h << 13) | (h >>> 19);
}

/** One end of a connection. Each end goes through the keyed mixing by itself: sums or differences of the
 *  ends would collide under any key. */
function end(seed: number, address: number, port: number): number {
  const h = Math.imul(mix(mix(seed, address), port), 0x85ebca6b | 0);
  return h ^ (h >>> 15);
}

/** Hash of a tuple; `zoneProto` is CONN.ZONE_PROTO, of which zone and protocol count. */
export function tupleHash(seed: number, src: number, dst: number, ports: number, zoneProto: number): number {
  const ends = (end(seed, src, ports >>> 16) + end(seed, dst, ports & 0xffff)) | 0;
  const h = Math.imul(mix(ends, zoneProto >>> 8), 0xc2b2ae35 | 0);
  return h ^ (h >>> 16);
}

/** One word that stands for an IPv6 address in a tuple. */
export function fold6(seed: number, a: number, b: number, c: number, d: number): number {
  let h = mix(seed, a);
  h = mix(h, b);
  h = mix(h, c);
  h = mix(h, d);
  return Math.imul(h ^ (h >>> 16), 0x7feb352d | 0);
}
