import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Drawing, draw } from '../../../bench/regression/draw.js';
import type { Slice } from '../../../src/bench/slices.js';
import {
  commonVariance,
  earlyVerdict,
  judge,
  lateVerdict,
  logRatio,
  ratioOf,
  slicePackets,
  turnsRatio,
} from '../../../src/compare/timing.js';
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

test('timing: what is known less well can show a slow-down, but not the lack of one', () => {
  const unasked = (low: number, high: number) => ({ ...ratio(low, high), weight: null });
  assert.equal(judge({ all: ratio(0.99, 1.02), start: unasked(1.02, 1.2) }, limits), 'slower');
  assert.equal(judge({ all: ratio(0.99, 1.02), start: unasked(0.8, 1.2) }, limits), 'not slower');
  assert.equal(judge({ start: unasked(0.99, 1.01) }, limits), "can't tell");
});

test('timing: a small part must be slower by more', () => {
  const small = (low: number, high: number) => ({ ...ratio(low, high), weight: 2 });
  assert.equal(judge({ part: small(1.015, 1.2) }, limits), "can't tell");
  assert.equal(judge({ part: small(1.025, 1.2) }, limits), 'slower');
  assert.equal(judge({ part: small(0.95, 1.09) }, limits), 'not slower');
  assert.equal(earlyVerdict({ part: small(0.95, 1.07) }, limits), 'not slower');
  assert.equal(earlyVerdict({ part: small(1.0, 1.09) }, limits), "can't tell");
});

test('timing: few pairs borrow from what all measures vary by', () => {
  const logs = [0.05, 0.051, 0.05, 0.049];
  const width = (r: { low: number; high: number }) => r.high - r.low;
  const alone = ratioOf(logs);
  const moderated = ratioOf(logs, 0.02 ** 2);
  assert.ok(width(moderated) > 5 * width(alone), 'four that agree by chance are not believed');
  const scattered = [0.05, 0.11, -0.03, 0.07];
  assert.ok(width(ratioOf(scattered, 0.01 ** 2)) < 0.7 * width(ratioOf(scattered)));
  assert.equal(commonVariance([[1], [2]]), null);
  assert.ok(
    Math.abs(
      commonVariance([
        [0, 2],
        [0, 4],
        [0, 6],
      ])! - 8,
    ) < 1e-9,
  );
});

test('timing: chunks in which something else ran do not count', () => {
  // Two parts; something else runs in some visits of either side.
  const chunks = (factor: number, disturbed: number) =>
    Array.from({ length: 40 }, (_, i) => [(i + 1) * factor * (i % 7 === disturbed ? 5 : 1), i + 1]);
  const log = (parts: number[]) => turnsRatio(chunks(1, 3), chunks(1.05, 5), parts)!;
  assert.ok(Math.abs(log([0]) - Math.log(1.05)) < 1e-9);
  assert.equal(log([1]), 0);
  assert.ok(Math.abs(log([0, 1]) - Math.log(2.05 / 2)) < 1e-9);
  assert.equal(turnsRatio([[1], [1]], [[1], [1]], [0]), null);
});

test('timing: a machine that becomes slower and faster does not matter', () => {
  const speed = (i: number) => 1 + 0.3 * Math.sin(i / 9);
  const chunks = (factor: number) => Array.from({ length: 100 }, (_, i) => [factor * speed(i)]);
  assert.ok(Math.abs(turnsRatio(chunks(1), chunks(1.03), [0])! - Math.log(1.03)) < 1e-9);
});

test('timing: what comes in one chunk of ten shows in blocks', () => {
  const chunks = (every: number) => Array.from({ length: 120 }, (_, i) => [i % 10 === 0 ? 1 + every : 1]);
  assert.equal(turnsRatio(chunks(0), chunks(0.8), [0]), 0);
  assert.ok(turnsRatio(chunks(0), chunks(0.8), [0], 12)! > Math.log(1.06));
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
  const pairs = { deviation: 0.01, far: 0, farBy: 0, mostPairs: 14 };
  assert.ok(share({ ...pairs, slowdown: 0 }, 'slower', 200) <= 0.01);
  assert.ok(share({ ...pairs, slowdown: 0 }, 'not slower', 50) >= 0.9);
  assert.ok(share({ ...pairs, slowdown: 0.05 }, 'slower', 100) >= 0.95);
  assert.ok(share({ ...pairs, deviation: 0.03, slowdown: 0 }, 'slower', 100) <= 0.01);
  assert.ok(share({ ...pairs, deviation: 0.03, slowdown: 0.1 }, 'slower', 50) >= 0.99);
  // One pair in eight is far out.
  const wild = { deviation: 0.01, far: 0.125, farBy: 10, mostPairs: 14 };
  assert.ok(share({ ...wild, slowdown: 0 }, 'slower', 100) <= 0.01);
  assert.ok(share({ ...wild, slowdown: 0.05 }, 'slower', 50) >= 0.9);
});

test('timing: with no time for four pairs, what is plainly slower in two measures is slower', () => {
  const plain = ratio(1.04, 1.2);
  const some = ratio(1.02, 1.2);
  const none = ratio(0.97, 1.02);
  assert.equal(lateVerdict({ part: plain, all: plain, other: none }, 2, limits), 'slower');
  assert.equal(lateVerdict({ part: plain, all: some, other: none }, 2, limits), "can't tell");
  assert.equal(lateVerdict({ part: none, all: none }, 3, limits), "can't tell");
  assert.equal(lateVerdict({ part: some, all: none }, 4, limits), 'slower');
  assert.equal(lateVerdict({ part: none, all: none }, 4, limits), 'not slower');
});
