/** Keyed, symmetric hash of a connection tuple: both directions of a connection hash alike. The key is
 *  drawn anew for every run, so nobody can prepare tuples that collide; no result depends on it. */

function mix(h: number, v: number): number {
  h = Math.imul(h ^ v, 0x9e3779b1 | 0);
  return (h << 13) | (h >>> 19);
}

/** Hash of a tuple; `zoneProto` is CONN.ZONE_PROTO, of which zone and protocol count. */
export function tupleHash(seed: number, src: number, dst: number, ports: number, zoneProto: number): number {
  const sport = ports >>> 16;
  const dport = ports & 0xffff;
  let h = mix(seed, src ^ dst);
  h = mix(h, (src + dst) | 0);
  h = mix(h, ((sport ^ dport) << 16) ^ (sport + dport));
  h = mix(h, zoneProto >>> 8);
  h = Math.imul(h ^ (h >>> 15), 0x85ebca6b | 0);
  return h ^ (h >>> 13);
}

/** One word that stands for an IPv6 address in a tuple. */
export function fold6(seed: number, a: number, b: number, c: number, d: number): number {
  let h = mix(seed, a);
  h = mix(h, b);
  h = mix(h, c);
  h = mix(h, d);
  return Math.imul(h ^ (h >>> 16), 0x7feb352d | 0);
}
