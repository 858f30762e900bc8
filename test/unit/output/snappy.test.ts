import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { snappyUncompress } from 'hyparquet/src/snappy.js';
import { snappy } from '../../../src/output/records/snappy.js';
import { Random } from '../../support/packets.js';

function assertSame(input: Uint8Array): number {
  const compressed = snappy(input);
  const output = new Uint8Array(input.length);
  snappyUncompress(compressed, output);
  assert.deepEqual(output, input);
  return compressed.length;
}

test('snappy: short inputs, and whatever repeats, come back (property)', () => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 90 }),
    fc.tuple(fc.uint8Array({ minLength: 1, maxLength: 7 }), fc.nat(200)).map(([bytes, n]) => {
      return Uint8Array.from({ length: bytes.length * n }, (_, i) => bytes[i % bytes.length]);
    }),
  );
  fc.assert(
    fc.property(
      fc.array(piece, { maxLength: 8 }),
      fc.array(fc.nat(7), { maxLength: 12 }),
      (pieces, order) => {
        const parts = pieces.length === 0 ? [] : order.map((i) => pieces[i % pieces.length]);
        assertSame(new Uint8Array(Buffer.concat(parts)));
      },
    ),
    { numRuns: 300 },
  );
});

test('snappy: long literals, repetitions nearer and farther than a copy reaches', () => {
  const r = new Random(4);
  for (const n of [60, 61, 256, 257, 65_536, 65_537, 70_000, 200_000]) {
    const noise = Uint8Array.from({ length: n }, () => r.int(256));
    assert.ok(assertSame(noise) >= n);
    assertSame(new Uint8Array(Buffer.concat([noise, noise, noise.subarray(0, 50)])));
  }
  const zeros = new Uint8Array(300_000);
  assert.ok(assertSame(zeros) < 20_000);
});
