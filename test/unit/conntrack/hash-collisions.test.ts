import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tupleHash } from '../../../src/conntrack/hash.js';

/** How many different values hashes of `n` tuples have that are drawn by `port` and `address`, under `seed`. */
function distinct(seed: number, addresses: number, ports: number): number {
  const seen = new Set<number>();
  for (let a = 0; a < addresses; a++) {
    for (let p = 0; p < ports; p++) {
      // Upper bits of an address, and the bits of a port that a rotation by 13 brings them to.
      seen.add(
        tupleHash(seed, (0x0a000001 ^ (a << 20)) | 0, 0x0a000002, ((1024 ^ (p << 1)) << 16) | 53, 0x1100),
      );
    }
  }
  return seen.size;
}

test('addresses and ports chosen by their bits do not collide, whatever the key', () => {
  for (const seed of [1, 0x5eed, 0x7fffffff, -2, 0x12345678]) {
    const n = distinct(seed, 1024, 64);
    // Of 65,536 random values of 32 bits, less than one is met twice on average.
    assert.ok(n > 65_000, `${n} of 65,536 values under seed ${seed}`);
  }
});
