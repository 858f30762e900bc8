import assert from 'node:assert/strict';
import { test } from 'node:test';
import { meanOf, studentInterval, studentQuantile, wilcoxonInterval } from '../../../src/bench/statistics.js';

test('statistics: quantiles are those of the tables', () => {
  // Abramowitz and Stegun, table 26.10.
  const table: [number, number, number][] = [
    [0.975, 1, 12.706],
    [0.975, 2, 4.303],
    [0.975, 4, 2.776],
    [0.975, 9, 2.262],
    [0.995, 3, 5.841],
    [0.995, 30, 2.75],
    [0.95, 120, 1.658],
    [0.5, 7, 0],
  ];
  for (const [p, freedom, t] of table) {
    assert.ok(Math.abs(studentQuantile(p, freedom) - t) < 6e-4, `${p} ${freedom}`);
  }
});

test('statistics: an interval is centred on the mean, of speeds on the geometric one', () => {
  const { mean, half } = studentInterval([1, 2, 3], 0.95);
  assert.equal(mean, 2);
  assert.ok(Math.abs(half - 4.3027 / Math.sqrt(3)) < 1e-3);
  const speeds = meanOf([1, 4]);
  assert.ok(Math.abs(speeds.mean - 2) < 1e-12);
  assert.ok(Math.abs(speeds.low * speeds.high - 4) < 1e-9);
  assert.deepEqual(meanOf([5]), {
    mean: Math.exp(Math.log(5)),
    low: Math.exp(Math.log(5)),
    high: Math.exp(Math.log(5)),
  });
  assert.equal(meanOf([0, 0]).mean, 0);
});

test('statistics: 95 of 100 intervals hold the truth', () => {
  // Sums of twelve uniform numbers are about normal; a fixed sequence.
  let state = 1;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
  const normal = () => Array.from({ length: 12 }, uniform).reduce((a, b) => a + b, -6);
  let held = 0;
  for (let i = 0; i < 2000; i++) {
    const { mean, half } = studentInterval([normal(), normal(), normal(), normal()], 0.95);
    if (Math.abs(mean) <= half) held++;
  }
  assert.ok(held > 1860 && held < 1940, `${held} of 2000`);
});

test('statistics: signed ranks are those of the tables', () => {
  // Values 1 to n: half sums are 1, 1.5, 2, 2, 2.5, 2.5, 3, 3, 3 ..., so the interval's end says how many are left out.
  // Critical values of Wilcoxon's signed rank sum, one side 0.025 and 0.005: 8 and 3 (n = 10), 52 and 37 (n = 20).
  const values = (n: number) => Array.from({ length: n }, (_, i) => i + 1);
  const sums = (n: number) =>
    values(n)
      .flatMap((v) =>
        values(n)
          .slice(v - 1)
          .map((w) => (v + w) / 2),
      )
      .sort((a, b) => a - b);
  for (const [n, chance, critical] of [
    [10, 0.025, 8],
    [10, 0.005, 3],
    [20, 0.025, 52],
    [20, 0.005, 37],
  ]) {
    const { low, high, centre } = wilcoxonInterval(values(n), chance);
    assert.equal(low, sums(n)[critical], `n ${n}, ${chance}`);
    assert.equal(high, n + 1 - low);
    assert.equal(centre, (n + 1) / 2);
  }
  // Eight values can't be so sure.
  assert.equal(wilcoxonInterval(values(8), 0.0025).low, Number.NEGATIVE_INFINITY);
});
