import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Drawing, draw } from '../../../bench/regression/draw.js';
import type { Slice } from '../../../src/bench/slices.js';
import { earlyVerdict, judge, logRatio, ratioOf, slicePackets } from '../../../src/compare/timing.js';
import { Random } from '../../../src/generate/random.js';

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

test('timing: what looks like a small slow-down is not called none early', () => {
  assert.equal(earlyVerdict({ time: { ratio: 1.03, low: 1.005, high: 1.045 } }, limits), "can't tell");
  assert.equal(earlyVerdict({ time: { ratio: 1.003, low: 0.98, high: 1.045 } }, limits), 'not slower');
  assert.equal(earlyVerdict({ time: { ratio: 1.03, low: 1.02, high: 1.045 } }, limits), 'slower');
});

test('timing: empty caches can show a slow-down, but not the lack of one', () => {
  assert.equal(judge({ main: ratio(0.99, 1.02), cold: ratio(1.02, 1.2) }, limits), 'slower');
  assert.equal(judge({ main: ratio(0.99, 1.02), cold: ratio(0.8, 1.2) }, limits), 'not slower');
  assert.equal(judge({ cold: ratio(0.99, 1.01) }, limits), "can't tell");
});

test('timing: pairs that are far out do not hide a slow-down', () => {
  const logs = [...Array.from({ length: 18 }, (_, i) => 0.046 + i / 2000), -0.2, 0.4];
  const { ratio: centre, low, high } = ratioOf(logs);
  assert.ok(low > 1.01 && high > low && centre > 1.04 && centre < 1.06, `${low} ${centre} ${high}`);
  assert.deepEqual(ratioOf([0.1]).low, 0);
});

test('timing: drawn comparisons: equal sides are seldom slower, 5 % is found', () => {
  const share = (d: Drawing, verdict: string, n: number) => {
    const random = new Random(7);
    return Array.from({ length: n }, () => draw(d, random)).filter((r) => r.verdict === verdict).length / n;
  };
  const pairs = { deviation: 0.03, far: 0, farBy: 0, mostPairs: 25 };
  assert.ok(share({ ...pairs, slowdown: 0 }, 'slower', 400) <= 0.01);
  assert.ok(share({ ...pairs, slowdown: 0 }, 'not slower', 100) >= 0.9);
  assert.ok(share({ ...pairs, slowdown: 0.05 }, 'slower', 100) >= 0.95);
  assert.ok(share({ ...pairs, slowdown: 0.1, mostPairs: 13 }, 'slower', 100) >= 0.99);
  // One pair in seven is far out.
  const wild = { deviation: 0.015, far: 0.15, farBy: 4.67, mostPairs: 25 };
  assert.ok(share({ ...wild, slowdown: 0 }, 'slower', 400) <= 0.01);
  assert.ok(share({ ...wild, slowdown: 0.05 }, 'slower', 100) >= 0.95);
});
