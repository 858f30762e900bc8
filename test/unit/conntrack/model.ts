/** Tuples and records for the partition tests: what a record must hold follows from its tuple and the
 *  generation in which it was published, so that a foreign or half-written record shows. */
import { fold6, tupleHash } from '../../../src/conntrack/hash.js';
import type { Partition, PartitionWriter } from '../../../src/conntrack/partition.js';
import { ADDR6, COLD, CONN, KIND_IPV4, KIND_IPV6 } from '../../../src/shm/layouts.js';

const { SRC, DST, PORTS, ZONE_PROTO, EXPIRES, STATE, WINS, SEQLO_0, SEQHI_1, PKTS_0, BYTES_1 } = CONN.at;

export interface Tuple {
  src: number;
  dst: number;
  ports: number;
  zoneProto: number;
  addr6: Int32Array | null;
}

export function tuple4(
  src: number,
  dst: number,
  sport: number,
  dport: number,
  zone: number,
  proto: number,
): Tuple {
  return {
    src,
    dst,
    ports: (sport << 16) | dport,
    zoneProto: (zone << 16) | (proto << 8) | KIND_IPV4,
    addr6: null,
  };
}

export function tuple6(
  seed: number,
  addr6: Int32Array,
  sport: number,
  dport: number,
  zone: number,
  proto: number,
): Tuple {
  const [a, b, c, d, e, f, g, h] = addr6;
  const zoneProto = (zone << 16) | (proto << 8) | KIND_IPV6;
  return {
    src: fold6(seed, a, b, c, d),
    dst: fold6(seed, e, f, g, h),
    ports: (sport << 16) | dport,
    zoneProto,
    addr6,
  };
}

export function reversed(t: Tuple): Tuple {
  const { addr6 } = t;
  return {
    src: t.dst,
    dst: t.src,
    ports: (t.ports << 16) | (t.ports >>> 16),
    zoneProto: t.zoneProto,
    addr6: addr6 === null ? null : Int32Array.from(addr6, (_, i) => addr6[i ^ 4]),
  };
}

export function find(p: Partition, t: Tuple, now = 0): number {
  const hash = tupleHash(p.seed, t.src, t.dst, t.ports, t.zoneProto);
  return p.find(hash, t.src, t.dst, t.ports, t.zoneProto, t.zoneProto, t.addr6, now);
}

/** What word `word` holds in generation `generation` of the record. */
function filling(t: Tuple, generation: number, word: number): number {
  return Math.imul(t.src ^ t.ports ^ Math.imul(generation, 0x9e3779b1), word + 3) | 0;
}

/** Fills a slot with the tuple's record, as the coordinator does before it publishes. */
function fill(p: PartitionWriter, slot: number, t: Tuple, generation: number, expires: number): void {
  const c = slot << CONN.shift;
  p.hot[c + SRC] = t.src;
  p.hot[c + DST] = t.dst;
  p.hot[c + PORTS] = t.ports;
  p.hot[c + ZONE_PROTO] = t.zoneProto;
  p.hot[c + STATE] = generation;
  for (let w = WINS; w <= BYTES_1; w++) {
    if (w < EXPIRES || w >= PKTS_0) p.hot[c + w] = filling(t, generation, w);
  }
  p.hotF64[(c + EXPIRES) >> 1] = expires;
  const m = slot << COLD.shift;
  for (let w = 0; w < COLD.at.CREATED; w++) p.cold[m + w] = filling(t, generation, 100 + w);
  p.coldF64[(m + COLD.at.CREATED) >> 1] = generation;
  if (t.addr6 !== null) p.addr6.set(t.addr6, slot << ADDR6.shift);
}

/** Publishes the tuple; returns its slot, or -1 when there is no room. */
export function publish(
  p: PartitionWriter,
  t: Tuple,
  generation: number,
  expires: number,
  now = 0,
  watched = false,
): number {
  const slot = p.allocate();
  if (slot < 0) return -1;
  fill(p, slot, t, generation, expires);
  p.createdMs[slot] = now;
  p.publish(slot, watched);
  return slot;
}

/** Word of the record in `slot` that is not what it must be for the tuple, or -1. */
export function wrongWord(p: Partition, slot: number, t: Tuple): number {
  const c = slot << CONN.shift;
  if (p.hot[c + SRC] !== t.src || p.hot[c + DST] !== t.dst) return 0;
  if (p.hot[c + PORTS] !== t.ports || p.hot[c + ZONE_PROTO] !== t.zoneProto) return 2;
  const generation = p.hot[c + STATE];
  for (let w = SEQLO_0; w <= SEQHI_1; w++) if (p.hot[c + w] !== filling(t, generation, w)) return w;
  for (let w = PKTS_0; w <= BYTES_1; w++) if (p.hot[c + w] !== filling(t, generation, w)) return w;
  const m = slot << COLD.shift;
  for (let w = 0; w < COLD.at.CREATED; w++)
    if (p.cold[m + w] !== filling(t, generation, 100 + w)) return 100 + w;
  if (t.addr6 !== null) {
    for (let i = 0; i < 8; i++) if (p.addr6[(slot << ADDR6.shift) + i] !== t.addr6[i]) return 200 + i;
  }
  return -1;
}
