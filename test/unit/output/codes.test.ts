import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Codes } from '../../../src/output/records/codes.js';
import { Random } from '../../support/packets.js';

test('codes: ids count from 0 in the order in which codes come, also while the table grows and after it is cleared', () => {
  const r = new Random(8);
  const codes = new Codes();
  for (let round = 0; round < 3; round++) {
    const known = new Map<number, number>();
    for (let i = 0; i < 5000; i++) {
      // Neighbours, as addresses are; words at random; both ends.
      const code = [r.int(2000), r.word() | 0, -1 - r.int(3), 0x7fffffff][r.int(4)];
      const id = known.get(code) ?? known.size;
      known.set(code, id);
      assert.equal(codes.idOf(code), id);
      assert.equal(codes.codes[id], code);
    }
    assert.equal(codes.size, known.size);
    codes.clear();
    assert.equal(codes.size, 0);
  }
});
