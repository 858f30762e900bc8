import assert from 'node:assert/strict';
import { test } from 'node:test';
import { picture } from '../../../bench/longrun/draw.js';
import { extrapolated, judge, type Sample } from '../../../bench/longrun/judge.js';
import { joined, LoopedReader } from '../../../bench/longrun/looped.js';
import { Rounds } from '../../../bench/longrun/rounds.js';
import type { Loaded } from '../../../src/bench/load.js';
import { Verdict, type VerdictTemplate } from '../../../src/coordinator/collector.js';
import { SegmentArena } from '../../../src/pcap/arena.js';
import { ReadResult } from '../../../src/pcap/types.js';
import { newPacketRecord } from '../../../src/pcap/window.js';

const WINDOW = 100;

/** A run with nothing wrong, sampled every 5 s. */
function calm(n = 40): Sample[] {
  return Array.from({ length: n }, (_, i) => ({
    seconds: i * 5,
    cpu_seconds: i * 8,
    capture_seconds: i * 3600,
    rounds: i,
    read: i * 1000 + 50,
    packets: i * 1000,
    verdicts: i * 1000,
    passed: i * 900,
    dropped: i * 100,
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
    [{ dropped: 1999 }, /after 100 s: 20000 packets, but 18000 passed and 1999 dropped/],
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

test('long run: rounds that count as much as two short runs say, and one that does not', () => {
  const after = (rounds: number, counters: Record<string, number>, live = 7) => ({ rounds, live, counters });
  const first = after(30, { packets: 3000, made: 65, lost: 1 });
  const second = after(31, { packets: 3100, made: 67, lost: 1 });
  const long = (made: number, live = 7) => after(130, { packets: 13_000, made, lost: 1 }, live);
  assert.deepEqual(extrapolated(long(265), first, second), []);
  assert.deepEqual(extrapolated(long(264), first, second), [
    'after 130 rounds: made is 264; it should be 265',
  ]);
  assert.deepEqual(extrapolated(long(265, 8), first, second), [
    '8 connections live at the end, 7 after 30 rounds',
  ]);
  const more = after(130, { ...long(265).counters, other: 1 });
  assert.deepEqual(extrapolated(more, first, second), ['after 130 rounds: other is 1; it should be 0']);
});

test('long run: a verdict that differs from that of the round before, once all has settled, is found', () => {
  const verdict = (json: string, reason: string | null) => {
    const v = new Verdict();
    v.template = { json, reason } as VerdictTemplate;
    return v;
  };
  const rounds = new Rounds(2, 2);
  for (const json of ['a', 'b', 'c', 'b', 'c', 'b', 'c', 'x', 'c', 'x']) {
    rounds.verdict(verdict(json, json === 'b' ? 'why' : null));
  }
  const { verdicts, passed, dropped, compared, different, first } = rounds;
  assert.deepEqual([verdicts, passed, dropped, compared, different], [10, 7, 3, 6, 1]);
  assert.equal(first, 'round 3, packet 2: x; in the round before: b');
});

test('long run: goes round as often as it is told, each round later', () => {
  const frame = (n: number, ports: number[]): Loaded => ({
    arena: new SharedArrayBuffer(n * 16),
    off: Int32Array.from(ports, (_, i) => i * 16),
    len: Int32Array.from(ports, () => 10),
    port: Int32Array.from(ports),
    clockMs: Float64Array.from(ports, (_, i) => i * 5000),
    n: ports.length,
  });
  const both = joined(frame(2, [1, 2]), frame(1, [3]));
  new Uint8Array(both.arena)[both.off[2]] = 77;
  const arena = new SegmentArena(2);
  const reader = new LoopedReader(both, arena, 1000, 2);
  const record = newPacketRecord();
  const seen: unknown[] = [];
  while (reader.next(record) === ReadResult.PACKET) {
    seen.push([record.iface, record.sec - 1_600_000_000, arena.u8[record.off]]);
  }
  assert.deepEqual(seen, [
    [1, 0, 0],
    [2, 1, 0],
    [3, 1, 77],
    [1, 2, 0],
    [2, 3, 0],
    [3, 3, 77],
  ]);
  assert.equal(reader.rounds, 2);
});
