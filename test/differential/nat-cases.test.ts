/** The NAT fuzzer's cases without Open vSwitch: what translation promises whatever it chooses, and that the number of
 *  workers changes nothing where later packets answer earlier ones. `npm run oracle:fuzz -- --protocol nat` asks the real program too. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { playShardtrack, workersDisagree } from './live.js';
import { drawCase } from './nat-cases.js';
import { differences } from './nat-fuzz.js';

const CASES = 10;

test('nat cases: choices are in range and unique, and workers agree', async () => {
  let free = 0;
  let answered = 0;
  for (let n = 0; n < CASES; n++) {
    const c = drawCase(77, n);
    const played = await playShardtrack(c);
    // Against itself: ranges, uniqueness and the steps' shape are still looked at.
    assert.deepEqual(differences(c, played, played), [], `case ${n}: ${c.about}`);
    assert.equal(await workersDisagree(c, played, n), null, `case ${n}: ${c.about}`);
    if (c.free !== null) free++;
    answered += c.steps.filter((s, i) => /^answer/.test(s.note) && played.out[i].length > 0).length;
  }
  assert.ok(free >= 2 && answered > 5 * CASES, `${free} free cases, ${answered} answers came through`);
});

test('nat cases: the same on every machine', () => {
  const notes = (n: number) => drawCase(3, n).steps.map((s) => `${s.us} ${s.note}`);
  assert.deepEqual(notes(5), notes(5));
  assert.notDeepEqual(notes(5), notes(6));
});
