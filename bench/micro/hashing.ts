/** What does it cost to hash a tuple? */
import { tupleHash } from '../../src/conntrack/hash.js';
import { DEFAULT_RSS_KEY, Toeplitz } from '../../src/rss/toeplitz.js';
import { hashOf, SEED, tuples, ZONE_PROTO } from './tuples.js';
import { must, type Variant } from './variant.js';

const N = 1024;

/** The definition, bit by bit. */
function toeplitzByBits(key: Uint8Array, words: Int32Array, from: number, n: number): number {
  let hash = 0;
  for (let bit = 0; bit < n * 32; bit++) {
    if (((words[from + (bit >> 5)] >>> (31 - (bit & 31))) & 1) === 0) continue;
    let window = 0;
    for (let i = 0; i < 32; i++) {
      const at = bit + i;
      window = (window << 1) | ((key[at >> 3] >>> (7 - (at & 7))) & 1);
    }
    hash ^= window;
  }
  return hash;
}

/** A tuple's three words, one after the other. */
function inputs(): Int32Array {
  const t = tuples(N);
  return Int32Array.from({ length: N * 3 }, (_, i) => [t.src, t.dst, t.ports][i % 3][Math.floor(i / 3)]);
}

/** Verification suite of Microsoft's "RSS hashing types": 66.9.149.187:2794 to 161.142.100.80:1766. */
function checkToeplitz(hash: (key: Uint8Array, words: Int32Array) => number): void {
  const key = Buffer.from(
    '6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa',
    'hex',
  );
  const words = Int32Array.of(0x420995bb, 0xa18e6450 | 0, (2794 << 16) | 1766);
  must(hash(key, words) === (0x51ccc178 | 0), 'Toeplitz hash of the verification suite');
}

export const HASHING: readonly Variant[] = [
  {
    name: 'hashing/tuple',
    what: 'tupleHash: the tracker finds connections by it',
    operations: N,
    unit: 'ns/call',
    prepare() {
      const t = tuples(N);
      const turned = (t.ports[5] << 16) | (t.ports[5] >>> 16);
      must(tupleHash(SEED, t.dst[5], t.src[5], turned, ZONE_PROTO) === hashOf(t, 5), 'hash is not symmetric');
      must(new Set(t.src.map((_, i) => hashOf(t, i))).size > N - 3, 'hash collides');
      return () => {
        let x = 0;
        for (let i = 0; i < N; i++) x ^= tupleHash(SEED, t.src[i], t.dst[i], t.ports[i], ZONE_PROTO);
        return x;
      };
    },
  },
  {
    name: 'hashing/toeplitz',
    what: 'Toeplitz over 12 bytes, by tables',
    operations: N,
    unit: 'ns/call',
    prepare() {
      checkToeplitz((key, words) => new Toeplitz(key).hash(words, 3));
      const toeplitz = new Toeplitz(DEFAULT_RSS_KEY);
      const all = inputs();
      const words = new Int32Array(3);
      return () => {
        let x = 0;
        for (let i = 0; i < N * 3; i += 3) {
          words[0] = all[i];
          words[1] = all[i + 1];
          words[2] = all[i + 2];
          x ^= toeplitz.hash(words, 3);
        }
        return x;
      };
    },
  },
  {
    name: 'hashing/toeplitz-by-bits',
    what: 'baseline: the definition, bit by bit',
    operations: N,
    unit: 'ns/call',
    prepare() {
      checkToeplitz((key, words) => toeplitzByBits(key, words, 0, 3));
      const all = inputs();
      return () => {
        let x = 0;
        for (let i = 0; i < N * 3; i += 3) x ^= toeplitzByBits(DEFAULT_RSS_KEY, all, i, 3);
        return x;
      };
    },
  },
];
