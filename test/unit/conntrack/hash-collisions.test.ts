import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fold6, packetHash, tupleHash } from '../../../src/conntrack/hash.js';
import { TupleHash } from '../../../src/rss/steer.js';

type Words = readonly [number, number, number, number];
type Hash = (seed: number, words: Words) => number;

/** Hashes of four words that somebody chooses. */
const HASHES: Record<string, Hash> = {
  tupleHash: (seed, [src, dst, ports]) => tupleHash(seed, src, dst, ports, 0x1100),
  packetHash: (seed, [src, dst, ports, short]) =>
    packetHash(seed, (1 << 16) | (short & 0xffff), src, dst, ports),
  fold6: (seed, [a, b, c, d]) => fold6(seed, a, b, c, d),
  'HASH of packets': (seed, [src, dst, ports]) => steerHash(seed).ofTuple(17, src, dst, ports),
  'HASH of IPv6 packets': (seed, [a, b, c, d]) =>
    steerHash(seed).ofTuple6(17, Int32Array.of(a, b, c, d, 9, 9, 9, 9), 0, 53),
};
const steerHashes = new Map<number, TupleHash>();
function steerHash(seed: number): TupleHash {
  const known = steerHashes.get(seed) ?? new TupleHash(seed);
  steerHashes.set(seed, known);
  return known;
}
const SEEDS = [0x3c6ef372, 0x5eed1234, 0x7f4a7c15, -0x21524111, 0x12345678];
const N = 65536;

/** How many values the hashes of 65,536 inputs have: of the bits of word `i` changed by each of 1,024 differences, and of word
 *  `j` by each of 64. */
function distinct(hash: Hash, seed: number, i: number, j: number, first: Diff, second: Diff): number {
  const seen = new Set<number>();
  const words: [number, number, number, number] = [0x0a000001, 0x0a000002, (1024 << 16) | 53, 0];
  const [wi, wj] = [words[i], words[j]];
  for (let a = 0; a < 1024; a++) {
    words[i] = wi ^ first(a);
    for (let b = 0; b < 64; b++) {
      words[j] = wj ^ second(b);
      seen.add(hash(seed, words));
    }
  }
  return seen.size;
}

/** The `n`th difference of a family. */
type Diff = (n: number) => number;
const at =
  (shift: number): Diff =>
  (n) =>
    n << shift;
/** What becomes n << shift when its upper bits are folded into the lower ones, 15 down. */
const unfolded =
  (shift: number): Diff =>
  (n) => {
    const v = (n << shift) >>> 0;
    return (v ^ (v >>> 15) ^ (v >>> 30)) | 0;
  };

/** Pairs of words, the second of which may take back what the first has changed. */
const PAIRS: Record<string, readonly (readonly [number, number])[]> = {
  tupleHash: [
    [0, 2],
    [1, 2],
    [0, 1],
  ],
  packetHash: [
    [0, 1],
    [0, 2],
    [1, 2],
    [2, 3],
  ],
  fold6: [
    [0, 1],
    [1, 2],
    [2, 3],
    [0, 3],
  ],
  // Its ends are put in order: a change of the lower one beyond the other is one of that.
  'HASH of packets': [
    [0, 2],
    [1, 2],
  ],
  'HASH of IPv6 packets': [
    [0, 1],
    [1, 2],
    [2, 3],
    [0, 3],
  ],
};

for (const [name, hash] of Object.entries(HASHES)) {
  test(`${name}: words chosen by their bits do not collide, whatever the key`, () => {
    for (const [i, j] of PAIRS[name]) {
      // Ports are 16 bits, and so is the last word of a packetHash: their families stay inside.
      const half = name === 'packetHash' && j === 3;
      for (const first of [at(22), at(20), unfolded(22)]) {
        for (const shift of half ? [0, 4, 8] : [0, 1, 5, 10, 17, 21, 26]) {
          for (const second of [at(shift), unfolded(shift)]) {
            const seed = SEEDS[shift % SEEDS.length];
            const n = distinct(hash, seed, i, j, first, second);
            // Of 65,536 random values of 32 bits less than one is met twice on average; chains had 1,024 or 4,096.
            assert.ok(
              n > 60_000,
              `${n} of ${N} values under seed ${seed}, words ${i} and ${j}, shift ${shift}`,
            );
          }
        }
      }
    }
  });
}

test('neighbouring tuples fill the buckets of a table evenly', () => {
  for (const seed of SEEDS) {
    for (const [name, tuple] of Object.entries({
      addresses: (n: number) => [0x0a000000 + n, 0x0a000002, (1024 << 16) | 53],
      'a scan': (n: number) => [0x0a000001, 0x0b000000 + n, (1024 << 16) | 22],
      ports: (n: number) => [0x0a000001, 0x0a000002, ((n & 0xffff) << 16) | 53],
    })) {
      const load = new Int32Array(8192);
      for (let n = 0; n < N; n++) {
        const [src, dst, ports] = tuple(n);
        load[tupleHash(seed, src, dst, ports, 0x1100) & 8191]++;
      }
      // 8 on average; of random ones, the fullest has 22 or so.
      const most = Math.max(...load);
      assert.ok(most < 40, `${most} ${name} in one bucket under seed ${seed}`);
    }
  }
});

test('HASH: tuples of the same addresses and protocol have it only if they have the same ports', () => {
  for (const seed of SEEDS) {
    const hash = new TupleHash(seed);
    const seen = new Set<number>();
    for (let n = 0; n < N; n++) seen.add(hash.ofTuple(17, 1, 2, Math.imul(n, 0x9e3779b1)));
    assert.equal(seen.size, N);
  }
});

test('tuples that collide under one key do not under another', () => {
  // What somebody who knows the source prepares at home: sources and ports for one bucket of 4,096.
  const keys = [1, 2] as const;
  for (const [name, of] of Object.entries({
    tupleHash: (seed: number, src: number, ports: number) => tupleHash(seed, src, 2, ports, 0x1100),
    packetHash: (seed: number, src: number, ports: number) => packetHash(seed, 1 << 16, src, 2, ports),
    HASH: (seed: number, src: number, ports: number) => steerHash(seed).ofTuple(17, src, 2, ports),
  })) {
    const load = new Int32Array(4096);
    let n = 0;
    for (let i = 0; n < 1024; i++) {
      const [src, ports] = [0x0a000000 + (i >>> 6), ((1024 + (i & 63)) << 16) | 53];
      if ((of(keys[0], src, ports) & 4095) !== 0) continue;
      n++;
      load[of(keys[1], src, ports) & 4095]++;
    }
    const most = Math.max(...load);
    assert.ok(most < 10, `${name}: ${most} of ${n} in one bucket`);
  }
});
