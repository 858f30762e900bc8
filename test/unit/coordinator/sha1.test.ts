import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { sha1 } from '../../../src/coordinator/sha1.js';

test('sha1: as OpenSSL has it, for every length of one block', () => {
  const digest = Buffer.alloc(20);
  for (let size = 0; size <= 55; size++) {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: size, maxLength: size }), (bytes) => {
        sha1(bytes, size, digest);
        assert.equal(digest.toString('hex'), createHash('sha1').update(bytes).digest('hex'));
      }),
      { numRuns: 10 },
    );
  }
  assert.throws(() => sha1(new Uint8Array(56), 56, digest), RangeError);
});
