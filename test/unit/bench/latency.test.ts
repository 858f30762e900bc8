/** Latency histograms beside plain counting. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { latencyOf, newHistogram } from '../../../src/bench/latency.js';
import { Random } from '../../../src/generate/random.js';

test('latency: bars have what was recorded, in several parts', () => {
  const random = new Random(4);
  // Even on a logarithmic scale from 1 µs to 1 ms; whole numbers of ns.
  const values = Array.from({ length: 3000 }, () =>
    Math.round(1000 * 10 ** ((3 * random.below(10_000)) / 10_000)),
  );
  const parts = [newHistogram(), newHistogram(), newHistogram()];
  values.forEach((v, i) => {
    parts[i % 2].record(v);
  });
  const latency = latencyOf(parts);
  assert.ok(latency !== null);
  const { count, bins, p50, max } = latency;
  assert.equal(count, 3000);
  assert.equal(
    bins.reduce((n, b) => n + b.n, 0),
    3000,
  );
  for (const [i, { from, to, n }] of bins.entries()) {
    if (i > 0) assert.ok(from >= bins[i - 1].to);
    // Two digits: values within a hundredth of an edge may be on either side of it.
    const within = (slack: number) =>
      values.filter((v) => v / 1000 >= from * (1 - slack) && v / 1000 < to * (1 + slack)).length;
    assert.ok(n <= within(0.02) && n >= within(-0.02), `${from} to ${to}: ${n}, not about ${within(0)}`);
  }
  const exact = [...values].sort((a, b) => a - b);
  assert.ok(Math.abs(p50 / (exact[1500] / 1000) - 1) < 0.02);
  assert.ok(Math.abs(max / (exact[2999] / 1000) - 1) < 0.02);
});

test('latency: nothing was recorded', () => {
  assert.equal(latencyOf([newHistogram()]), null);
  assert.equal(latencyOf([]), null);
});
