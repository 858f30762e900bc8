/** What does it cost to find a connection, in cache and out of it? In random order, as packets come. */
import { Random } from '../../src/generate/random.js';
import { filledPartition, hashOf, type Tuples, tuples, ZONE_PROTO } from './tuples.js';
import { must, type Variant } from './variant.js';

const N = 4096;

/** Which connections are looked for. */
function wanted(n: number): Int32Array {
  const order = new Random(5).permutation(n);
  return Int32Array.from({ length: N }, (_, i) => order[i % n]);
}

/** As `find` answers for the original direction: slot << 1. */
type Find = (i: number) => number;

function variant(name: string, what: string, connections: number, make: (t: Tuples) => Find): Variant {
  return {
    name: `lookup/${name}-${connections}`,
    what: `${what}, ${connections.toLocaleString('en')} connections`,
    operations: N,
    unit: 'ns/call',
    prepare() {
      const t = tuples(connections);
      const find = make(t);
      // All of them in turn, so that every round finds other ones and the caches can't hold the answers.
      const order = new Random(5).permutation(connections);
      for (const i of wanted(connections)) must(find(i) === i << 1, `connection ${i}`);
      let at = 0;
      return () => {
        let x = 0;
        for (let k = 0; k < N; k++) {
          x ^= find(order[at]);
          if (++at === connections) at = 0;
        }
        return x;
      };
    },
  };
}

const partition = (t: Tuples): Find => {
  const p = filledPartition(t);
  return (i) => p.find(hashOf(t, i), t.src[i], t.dst[i], t.ports[i], ZONE_PROTO, ZONE_PROTO, null, 0);
};

const byBigInt = (t: Tuples): Find => {
  const key = (i: number) =>
    (BigInt(t.src[i] >>> 0) << 80n) |
    (BigInt(t.dst[i] >>> 0) << 48n) |
    (BigInt(t.ports[i] >>> 0) << 16n) |
    BigInt(ZONE_PROTO);
  const map = new Map<bigint, number>();
  for (let i = 0; i < t.n; i++) map.set(key(i), i << 1);
  return (i) => map.get(key(i)) ?? -1;
};

const byText = (t: Tuples): Find => {
  const key = (i: number) => `${t.src[i]},${t.dst[i]},${t.ports[i]},${ZONE_PROTO}`;
  const map = new Map<string, number>();
  for (let i = 0; i < t.n; i++) map.set(key(i), i << 1);
  return (i) => map.get(key(i)) ?? -1;
};

export const LOOKUP: readonly Variant[] = [1000, 100_000].flatMap((n) => [
  variant('partition', 'Partition.find, with its hash', n, partition),
  variant('map-bigint', 'baseline: Map by BigInt', n, byBigInt),
  variant('map-text', 'baseline: Map by string', n, byText),
]);
