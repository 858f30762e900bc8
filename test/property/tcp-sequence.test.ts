/** Sequence numbers are a circle of 2^32 (RFC 9293, section 3.4): where on it a connection begins changes nothing.
 *
 *  A connection that is opened by SYN and SYN-ACK is played twice with any segments behind them, from other
 *  initial sequence numbers, near the places where signed and unsigned numbers wrap and anywhere else. Every
 *  verdict, state, window, timer and distance between numbers must be the same. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN, tcpNew, tcpUpdate } from '../../src/conntrack/tcp.js';
import { allocateTimeouts } from '../../src/conntrack/timeouts.js';
import { UPDATE_NEW } from '../../src/conntrack/verdict.js';
import { CONN } from '../../src/shm/layouts.js';

const { STATE, WINS, SEQLO_0, SEQHI_0, SEQLO_1, SEQHI_1, EXPIRES } = CONN.at;
const TIMEOUTS = new Float64Array(allocateTimeouts());
const TCP_PSH = 8;
const SCALE = 3;

interface Segment {
  readonly from: 0 | 1;
  readonly flags: number;
  /** As distances from the initial numbers of the sender and of its peer. */
  readonly seq: number;
  readonly ack: number;
  readonly payload: number;
  readonly win: number;
}

const far = fc.constantFrom(
  0xffff,
  0xffff + 1500,
  0xffff + 1501,
  67_036,
  1 << 20,
  1 << 24,
  0x7fffffff,
  0x80000000,
);
const distance = fc.oneof(
  fc.integer({ min: -3, max: 3000 }),
  fc.integer({ min: -100_000, max: 100_000 }),
  fc
    .tuple(far, fc.integer({ min: -2, max: 2 }), fc.boolean())
    .map(([d, by, back]) => (back ? by - d : d + by)),
  fc.integer(),
);
const segment: fc.Arbitrary<Segment> = fc.record({
  from: fc.constantFrom(0, 1),
  flags: fc.constantFrom(
    ...[TCP_ACK, TCP_ACK | TCP_PSH, TCP_ACK | TCP_PSH, TCP_ACK | TCP_FIN, TCP_ACK | TCP_RST, TCP_RST],
    ...[TCP_SYN, TCP_SYN | TCP_ACK],
  ),
  seq: distance,
  ack: distance,
  payload: fc.constantFrom(0, 0, 1, 100, 1460, 60_000),
  win: fc.constantFrom(0, 1, 1000, 32_768, 65_535),
});
const start = fc.oneof(
  fc.constantFrom(1, 2, 0x7ffffffe, 0x7fffffff, 0x80000000, 0x80000001, 0xfffffffe, 0xffffffff, 0xffff0000),
  fc.integer({ min: 1, max: 0xffffffff }),
);
/** Shifts that both SYNs offer; -1: the option is not there. */
const scale = fc.integer({ min: -1, max: 14 });

/** What the tracker says and keeps, with numbers as distances from the initial ones. */
function play(
  starts: readonly [number, number],
  scales: readonly [number, number],
  segments: readonly Segment[],
): number[] {
  const hot = new Int32Array(CONN.words);
  const hotF64 = new Float64Array(hot.buffer);
  const log: number[] = [];
  const note = (verdict: number): void => {
    log.push(
      ...[verdict, hot[STATE], hot[WINS]],
      ...[(hot[SEQLO_0] - starts[0]) | 0, (hot[SEQHI_0] - starts[0]) | 0],
      ...[(hot[SEQLO_1] - starts[1]) | 0, (hot[SEQHI_1] - starts[1]) | 0, hotF64[EXPIRES >> 1]],
    );
  };
  const header = (s: Segment): DataView => {
    const shift = s.flags & TCP_SYN ? scales[s.from] : -1;
    const view = new DataView(new ArrayBuffer(24));
    view.setUint32(4, starts[s.from] + s.seq);
    view.setUint32(8, s.flags & TCP_ACK ? starts[s.from ^ 1] + s.ack : 0);
    view.setUint8(12, (shift < 0 ? 5 : 6) << 4);
    view.setUint8(13, s.flags);
    view.setUint16(14, s.win);
    if (shift >= 0) view.setUint32(20, (SCALE << 24) | (3 << 16) | (shift << 8));
    return view;
  };
  const opening: Segment = { from: 0, flags: TCP_SYN, seq: 0, ack: 0, payload: 0, win: 65_535 };
  tcpNew(hot, hotF64, 0, header(opening), 0, 0, 0);
  const answer: Segment = { from: 1, flags: TCP_SYN | TCP_ACK, seq: 0, ack: 1, payload: 0, win: 65_535 };
  for (const [n, s] of [answer, ...segments].entries()) {
    const now = 1000 * (n + 1);
    const verdict = tcpUpdate(hot, hotF64, 0, s.from, header(s), 0, s.payload, now, true, TIMEOUTS);
    note(verdict);
    // The connection has ended; the next begins anew.
    if (verdict === UPDATE_NEW) break;
  }
  return log;
}

test('where a connection begins in the space of sequence numbers changes nothing (property)', () => {
  let verdicts = 0;
  const seen = new Set<number>();
  fc.assert(
    fc.property(
      fc.tuple(start, start),
      fc.tuple(scale, scale),
      fc.array(segment, { minLength: 1, maxLength: 30 }),
      (starts, scales, segments) => {
        // An RST whose acknowledgement is the number 0 is taken for one that has none (RFC 9293 has no such rule).
        const clear = (from: readonly [number, number]) =>
          segments.every((s) => !(s.flags & TCP_RST) || ((from[s.from ^ 1] + s.ack) | 0) !== 0);
        const base = [1_000_000, 2_000_000] as const;
        fc.pre(clear(starts) && clear(base));
        const want = play(base, scales, segments);
        assert.deepEqual(play(starts, scales, segments), want);
        verdicts += want.length / 8;
        for (let i = 0; i < want.length; i += 8) seen.add(want[i]);
      },
    ),
    { numRuns: 3000 },
  );
  assert.ok(verdicts > 10_000, `${verdicts} verdicts`);
  assert.equal(seen.size, 4, 'valid, valid and new, new, invalid');
});
