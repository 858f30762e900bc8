/** Connections for the benchmarks that look them up, all different. */
import { tupleHash } from '../../src/conntrack/hash.js';
import { allocatePartition, PartitionWriter } from '../../src/conntrack/partition.js';
import { Random } from '../../src/generate/random.js';
import { CONN } from '../../src/shm/layouts.js';

export const SEED = 0x2545f491;
export const ZONE_PROTO = 17 << 8;

export interface Tuples {
  n: number;
  src: Int32Array;
  dst: Int32Array;
  ports: Int32Array;
}

export function tuples(n: number): Tuples {
  const random = new Random(3);
  const t = { n, src: new Int32Array(n), dst: new Int32Array(n), ports: new Int32Array(n) };
  for (let i = 0; i < n; i++) {
    t.src[i] = 0x0a000000 + i;
    t.dst[i] = 0xc0a80000 | random.below(0x10000);
    t.ports[i] = ((1024 + random.below(60000)) << 16) | 53;
  }
  return t;
}

export function hashOf(t: Tuples, i: number): number {
  return tupleHash(SEED, t.src[i], t.dst[i], t.ports[i], ZONE_PROTO);
}

/** A partition that holds the tuples; tuple i is in slot i. */
export function filledPartition(t: Tuples): PartitionWriter {
  const partition = new PartitionWriter(allocatePartition(t.n, SEED), () => 0);
  for (let i = 0; i < t.n; i++) {
    const slot = partition.allocate();
    const c = slot << CONN.shift;
    partition.hot[c + CONN.at.SRC] = t.src[i];
    partition.hot[c + CONN.at.DST] = t.dst[i];
    partition.hot[c + CONN.at.PORTS] = t.ports[i];
    partition.hot[c + CONN.at.ZONE_PROTO] = ZONE_PROTO;
    partition.hotF64[(c + CONN.at.EXPIRES) >> 1] = Number.MAX_VALUE;
    partition.publish(slot);
  }
  return partition;
}
