import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Comparison, comparisonMarkdown, comparisonText } from '../../../src/compare/report.js';

const line = JSON.stringify({
  protocol: 'tcp',
  zone: 5,
  orig: { src: '10.0.0.1', dst: '10.0.0.2', sport: 1, dport: 2 },
  packet: 7,
});

const comparison: Comparison = {
  format: 'shardtrack-compare',
  version: 1,
  base: 'old',
  candidate: 'new',
  what: 'x.pcap',
  results: {
    packets: { base: 1000, candidate: 1000, different: 3 },
    causes: [
      {
        base: 'a|b',
        candidate: 'c',
        consequence: true,
        packets: 3,
        first: { packet: 9, ts: '1.5', inPort: 2 },
        groups: [
          { base: 'to port 1', candidate: 'dropped', packets: 3, first: { packet: 9, ts: '1.5', inPort: 2 } },
        ],
      },
    ],
    connections: {
      all: true,
      base: 2,
      candidate: 1,
      different: 1,
      groups: [
        { difference: 'only in base', connections: 1, first: { packet: 7, base: line, candidate: null } },
      ],
    },
  },
  timing: {
    verdict: 'slower',
    pairs: 5,
    tolerance: 0.01,
    notice: 0.05,
    seconds: 12,
    ratios: {
      time: { ratio: 1.05, low: 1.02, high: 1.081 },
      main: { ratio: 0.99, low: 0, high: Number.POSITIVE_INFINITY },
      others: { ratio: 20, low: 0.5, high: 40 },
    },
    counts: { base: { upcalls: 0.001, commits: 0.5 }, candidate: { upcalls: 0.002, commits: 0.501 } },
    workers: { base: 1, candidate: 2 },
    logs: {},
  },
  stored: null,
};

test('report: says what differs, since when, how much, and how sure that is', () => {
  const text = comparisonText(comparison);
  assert.match(text, /3 of 1,000 packets differ, for 1 cause\n/);
  assert.match(
    text,
    /1\. 3 packets, the first is number 9; a consequence of earlier packets; base: a\|b — candidate: c/,
  );
  assert.match(text, /9 \(1\.5, port 2\)/);
  assert.match(text, /tcp, zone 5, 10\.0\.0\.1 → 10\.0\.0\.2, 1 → 2/);
  assert.match(text, /\+5\.00 % +│ \+2\.00 % to \+8\.10 %/);
  assert.match(text, /−1\.00 % +│ unknown/);
  assert.match(text, /more than 10 times/);
  assert.match(text, /upcalls +│ 1000 +│ 2000/);
  assert.doesNotMatch(text, /commits/, 'a difference of two thousandths');
});

test('report: Markdown escapes what would break its tables', () => {
  const text = comparisonMarkdown({
    ...comparison,
    results: {
      ...comparison.results!,
      causes: [
        {
          ...comparison.results!.causes[0],
          groups: [{ ...comparison.results!.causes[0].groups[0], base: 'a|b <c>' }],
        },
      ],
    },
  });
  assert.match(text, /^## Shardtrack: old → new/);
  assert.match(text, /base: `a\|b` — candidate: `c`/);
  assert.match(text, /a\\\|b &lt;c>/);
});

test('report: sides that do the same have short reports', () => {
  const same: Comparison = {
    ...comparison,
    timing: null,
    results: {
      packets: { base: 5, candidate: 5, different: 0 },
      causes: [],
      connections: { all: true, base: 2, candidate: 2, different: 0, groups: [] },
    },
  };
  const text = comparisonText(same);
  assert.match(text, /the same for all 5 packets/);
  assert.match(text, /all 2 are the same/);
});
