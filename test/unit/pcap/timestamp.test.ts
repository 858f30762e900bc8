import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MAX_SECONDS, TickClock } from '../../../src/pcap/timestamp.js';

/** The definition, in BigInt. */
function exact(tsresol: number, ticks: bigint): [bigint, bigint] {
  const k = BigInt(tsresol & 0x7f);
  const perSecond = tsresol & 0x80 ? 2n ** k : 10n ** k;
  const nsec = (ticks * 1_000_000_000n) / perSecond;
  return [nsec / 1_000_000_000n, nsec % 1_000_000_000n];
}

test('timestamps: every resolution agrees with the definition, to the nanosecond', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 255 }),
      fc.oneof(fc.bigInt(0n, 2n ** 64n - 1n), fc.bigInt(0n, 2n ** 54n), fc.bigInt(0n, 2n ** 32n)),
      (tsresol, ticks) => {
        const clock = new TickClock(tsresol, 0);
        clock.convert(Number(ticks >> 32n), Number(ticks & 0xffffffffn));
        const [sec, nsec] = exact(tsresol, ticks);
        // Coarse resolutions reach beyond what is counted.
        const far = sec > BigInt(MAX_SECONDS);
        assert.equal(clock.clamped, far);
        assert.deepEqual([clock.sec, clock.nsec], [far ? MAX_SECONDS : Number(sec), Number(nsec)]);
      },
    ),
    { numRuns: 20_000 },
  );
});

test('timestamps: the ends of a second, in every resolution of up to a nanosecond', () => {
  for (const tsresol of [...Array(10).keys(), ...[...Array(31).keys()].map((k) => k | 0x80)]) {
    const k = BigInt(tsresol & 0x7f);
    const perSecond = tsresol & 0x80 ? 2n ** k : 10n ** k;
    const clock = new TickClock(tsresol, 0);
    for (const sec of [0n, 1n, 1700000000n, 4294967295n]) {
      for (const ticks of [sec * perSecond, sec * perSecond + perSecond - 1n]) {
        clock.convert(Number(ticks >> 32n), Number(ticks & 0xffffffffn));
        assert.deepEqual(
          [BigInt(clock.sec), BigInt(clock.nsec)],
          exact(tsresol, ticks),
          `${tsresol} ${ticks}`,
        );
      }
    }
  }
});

test('timestamps: the offset is added to the seconds and may make them negative', () => {
  const clock = new TickClock(6, -10);
  clock.convert(0, 9_500_000);
  assert.deepEqual([clock.sec, clock.nsec], [-1, 500_000_000]);
});
