/** Change points of made series: levels with noise, with values that are far out, without anything. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Random } from '../../../src/generate/random.js';
import { changePoints } from '../../../src/report/changes.js';

/** Standard normal (Box and Muller, 1958). */
function normal(random: Random): number {
  const u = (random.below(1 << 24) + 1) / (1 << 24);
  return Math.sqrt(-2 * Math.log(u)) * Math.cos((2 * Math.PI * random.below(1 << 24)) / (1 << 24));
}

const series = (seed: number, levels: readonly (readonly [n: number, level: number])[], noise = 1) => {
  const random = new Random(seed);
  return levels.flatMap(([n, level]) => Array.from({ length: n }, () => level + noise * normal(random)));
};

test('changes: a level that rises by four deviations is found where it rises, give or take a run', () => {
  let exact = 0;
  for (let seed = 1; seed <= 200; seed++) {
    const found = changePoints(
      series(seed, [
        [30, 100],
        [30, 104],
      ]),
    );
    assert.equal(found.length, 1, `seed ${seed}: ${found}`);
    assert.ok(Math.abs(found[0] - 30) <= 3, `seed ${seed}: ${found}`);
    if (found[0] === 30) exact++;
  }
  assert.ok(exact > 150, `${exact} of 200 at the very run`);
});

test('changes: there and back, and three levels', () => {
  for (let seed = 1; seed <= 100; seed++) {
    const there = changePoints(
      series(seed, [
        [20, 0],
        [8, 6],
        [20, 0],
      ]),
    );
    assert.equal(there.length, 2, `seed ${seed}: ${there}`);
    const stairs = changePoints(
      series(seed, [
        [15, 0],
        [15, 6],
        [15, 12],
      ]),
    );
    assert.equal(stairs.length, 2, `seed ${seed}: ${stairs}`);
  }
});

test('changes: noise alone has none, in 97 of 100 series of any length', () => {
  for (const n of [8, 20, 60, 200]) {
    let alarms = 0;
    for (let seed = 1; seed <= 300; seed++) {
      if (changePoints(series(seed * 7 + n, [[n, 50]])).length > 0) alarms++;
    }
    assert.ok(alarms <= 9, `${n} runs: ${alarms} of 300`);
  }
});

test('changes: a run that is far out is none', () => {
  let alarms = 0;
  for (let seed = 1; seed <= 200; seed++) {
    const values = series(seed, [[40, 50]]);
    values[12] += 30;
    values[25] -= 20;
    if (changePoints(values).length > 0) alarms++;
  }
  assert.ok(alarms <= 8, `${alarms} of 200`);
});

test('changes: scale and offset do not matter', () => {
  const values = series(5, [
    [20, 3],
    [20, 9],
  ]);
  const found = changePoints(values);
  assert.deepEqual(found, [20]);
  assert.deepEqual(changePoints(values.map((v) => v * 1e6 - 4e8)), found);
});

test('changes: series that are short, constant or without noise', () => {
  assert.deepEqual(changePoints([]), []);
  assert.deepEqual(changePoints([1, 2, 3, 50, 51]), []);
  assert.deepEqual(changePoints(Array(30).fill(7)), []);
  assert.deepEqual(changePoints([...Array(10).fill(7), ...Array(10).fill(8)]), [10]);
});
