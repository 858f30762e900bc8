import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Slice } from '../../../src/bench/slices.js';
import { judge, logRatio, slicePackets } from '../../../src/compare/timing.js';

const limits = { tolerance: 0.01, notice: 0.05 };
const ratio = (low: number, high: number) => ({ ratio: (low + high) / 2, low, high });

test('timing: slower needs the whole interval beyond the tolerance, in one time at least', () => {
  assert.equal(judge({ time: ratio(1.011, 1.2), main: ratio(0.9, 1.1) }, limits), 'slower');
  assert.equal(judge({ time: ratio(1.009, 1.2), main: ratio(0.9, 1.0) }, limits), "can't tell");
});

test('timing: not slower needs all intervals below what matters', () => {
  assert.equal(judge({ time: ratio(0.97, 1.03), main: ratio(0.99, 1.049) }, limits), 'not slower');
  assert.equal(judge({ time: ratio(0.97, 1.03), main: ratio(0.99, 1.051) }, limits), "can't tell");
  assert.equal(judge({ time: ratio(0.5, 0.6) }, limits), 'not slower');
  assert.equal(judge({}, limits), "can't tell");
  // One pair says nothing.
  assert.equal(judge({ time: ratio(0, Number.POSITIVE_INFINITY) }, limits), "can't tell");
});

test('timing: a slow-down that is small and certain is one all the same', () => {
  assert.equal(judge({ time: ratio(1.02, 1.03) }, limits), 'slower');
});

const slices = (pairs: [number, number][]): [Slice, Slice][] =>
  pairs.map(([a, b]) => [
    { time: a, main: a, others: null },
    { time: b, main: b, others: null },
  ]);

test('timing: slices in which a side has lost its processor do not count', () => {
  const pairs: [number, number][] = Array.from({ length: 20 }, (_, i) => [10 + i / 10, (10 + i / 10) * 1.05]);
  pairs[3] = [10, 200];
  pairs[7] = [300, 10];
  pairs[11] = [10, 90];
  const log = logRatio(slices(pairs), 'time');
  assert.ok(log !== null && Math.abs(log - Math.log(1.05)) < 1e-9);
});

test('timing: a time that the system does not tell has no ratio', () => {
  assert.equal(logRatio(slices([[1, 2]]), 'others'), null);
  assert.equal(
    logRatio(
      slices([
        [0, 0],
        [0, 1],
        [1, 1],
      ]),
      'main',
    ),
    null,
  );
});

test('timing: slices are whole parts of a round, or whole rounds', () => {
  assert.equal(slicePackets(1000, 2600), 3000);
  assert.equal(slicePackets(30_000, 30_000), 30_000);
  assert.equal(slicePackets(30_000, 9000), 10_000);
  assert.equal(slicePackets(30_000, 1), 256);
  assert.equal(slicePackets(100, 1), 100);
});
