/** Checksums: the fast ones beside the definition, the incremental ones beside the full ones. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { checksum, fold, sctpChecksum, sum, update16, update32 } from '../../../src/wire/checksum.js';
import { cat, crc32c, internetChecksum, u16, u32, view } from '../../support/packets.js';

const word16 = fc.integer({ min: 0, max: 0xffff });
const word32 = fc.integer({ min: 0, max: 0xffffffff });

test('checksum: the example of RFC 1071', () => {
  const bytes = Uint8Array.of(0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7);
  assert.equal(fold(sum(view(bytes), 0, 8)), 0xddf2);
  assert.equal(checksum(sum(view(bytes), 0, 8)), 0x220d);
});

test('checksum: equals the definition for any bytes at any offset (property)', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(7), (bytes, off) => {
      const v = view(cat(new Uint8Array(off).fill(0xee), bytes));
      assert.equal(checksum(sum(v, off, bytes.length)), internetChecksum(bytes));
    }),
  );
});

test('checksum: 65,535 bytes of 0xff do not overflow', () => {
  const bytes = new Uint8Array(65535).fill(0xff);
  assert.equal(checksum(sum(view(bytes), 0, bytes.length)), internetChecksum(bytes));
});

test('checksum: incremental update of 16 bits equals the full one (property)', () => {
  fc.assert(
    fc.property(fc.array(word16, { minLength: 1, maxLength: 20 }), fc.nat(), word16, (words, at, to) => {
      // A header is never all zeros.
      words.push(0x4500);
      at %= words.length - 1;
      const before = internetChecksum(cat(...words.map(u16)));
      const from = words[at];
      words[at] = to;
      assert.equal(update16(before, from, to), internetChecksum(cat(...words.map(u16))));
    }),
  );
});

test('checksum: incremental update of 32 bits equals the full one, both signs (property)', () => {
  fc.assert(
    fc.property(fc.array(word32, { minLength: 1, maxLength: 10 }), fc.nat(), word32, (words, at, to) => {
      words.push(0x45000000);
      at %= words.length - 1;
      const before = internetChecksum(cat(...words.map(u32)));
      const from = words[at];
      words[at] = to;
      assert.equal(update32(before, from | 0, to | 0), internetChecksum(cat(...words.map(u32))));
    }),
  );
});

test('crc32c: the check value of the catalogue', () => {
  const bytes = cat(new TextEncoder().encode('123456789'));
  assert.equal(crc32c(bytes), 0xe3069283, 'of the test itself');
});

test('crc32c: SCTP packets with the checksum field taken as zero (property)', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 12, maxLength: 100 }), fc.nat(3), (bytes, off) => {
      const zeroed = bytes.slice();
      zeroed.fill(0, 8, 12);
      const v = view(cat(new Uint8Array(off), bytes));
      assert.equal(sctpChecksum(v, off, bytes.length) >>> 0, crc32c(zeroed));
    }),
  );
});
