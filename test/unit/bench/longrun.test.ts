import assert from 'node:assert/strict';
import { test } from 'node:test';
import { picture } from '../../../bench/longrun/draw.js';
import { judge, type Sample } from '../../../bench/longrun/judge.js';

const WINDOW = 100;

/** A run with nothing wrong, sampled every 5 s. */
function calm(n = 40): Sample[] {
  return Array.from({ length: n }, (_, i) => ({
    seconds: i * 5,
    capture_seconds: i * 3600,
    rounds: i,
    read: i * 1000 + 50,
    packets: i * 1000,
    verdicts: i * 1000,
    made: i * 20,
    expired: i * 18,
    evicted: i,
    refused: 0,
    live: i,
    // Memory grows at first, then goes up and down.
    rss_mib: 600 + Math.min(i, 10) * 40 + (i % 3) * 5,
    heap_mib: 40 + (i % 5) * 4,
    external_mib: 10,
    shared_mib: 300,
  }));
}

test('long run: growth at first, and noise, are no drift', () => {
  assert.deepEqual(judge(calm(), WINDOW, 0.05), []);
});

test('long run: memory that rises on and on is found, whichever it is', () => {
  for (const of of ['rss_mib', 'heap_mib', 'external_mib', 'shared_mib'] as const) {
    const samples = calm().map((s, i) => ({ ...s, [of]: s[of] + i * 5 }));
    assert.match(judge(samples, WINDOW, 0.05).join(), new RegExp(`^${of} rises by \\d+`));
  }
});

test('long run: a verdict, a connection or a packet that is missing once is found', () => {
  for (const [change, says] of [
    [{ verdicts: 19_999 }, /after 100 s: 20000 packets, but 19999 verdicts/],
    [{ made: 401 }, /after 100 s: 401 connections made, but 20 live and 380 removed/],
    [{ read: 20_101 }, /after 100 s: 20101 packets read, 20000 collected/],
  ] as const) {
    const samples = calm();
    samples[20] = { ...samples[20], ...change };
    const wrong = judge(samples, WINDOW, 0.05);
    assert.equal(wrong.length, 1);
    assert.match(wrong[0], says);
  }
});

test('long run: one in which no connections are made any more says nothing', () => {
  const samples = calm().map((s) => ({ ...s, made: 20, expired: 10, evicted: 0, live: 10 }));
  assert.deepEqual(judge(samples, WINDOW, 0.05), ['no connection has been made in the second half']);
});

test('long run: the drawing is one SVG of a size that can be kept', () => {
  const svg = picture(calm(5000));
  assert.match(svg, /^<svg xmlns=/);
  assert.equal(svg.match(/<svg /g)?.length, 5);
  assert.ok(svg.length < 100_000, `${svg.length} bytes`);
});
