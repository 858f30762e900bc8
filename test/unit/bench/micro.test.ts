import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VARIANTS } from '../../../bench/micro/all.js';

test('micro: names are unique', () => {
  assert.equal(new Set(VARIANTS.map((v) => v.name)).size, VARIANTS.length);
});

for (const variant of VARIANTS) {
  test(`micro: ${variant.name} gives right results`, () => {
    // Building it checks it; a second run must find everything as the first did.
    const run = variant.prepare();
    run();
    assert.ok(Number.isFinite(run()));
  });
}
