/** Exact timestamps from pcapng's 64-bit tick counts, in double arithmetic that never rounds.
 *
 *  if_tsresol (draft-ietf-opsawg-pcapng, IDB): the low 7 bits are k, the unit is 10^-k seconds, or 2^-k with the
 *  top bit set. For 10^-9 and coarser, and 2^-30 and coarser, a second has U <= 2^30 ticks and the division is
 *  done in two or three steps whose dividends stay below 2^53; finer units (rare) go through BigInt and are
 *  rounded down to the nanosecond. */

const TWO32 = 4294967296;
const POW5_9 = 1953125; // 1e9 = 2^9 * 5^9

/** From 1970 on, or before: all times are counted in whole milliseconds. */
export const MAX_SECONDS = 1e12;

const DECIMAL = 0;
const BINARY = 1;
const FINE = 2;

/** One interface's clock. `convert` leaves its result in `sec` and `nsec` (0 to 999,999,999). */
export class TickClock {
  sec = 0;
  nsec = 0;
  /** The time was further away than MAX_SECONDS, which was put in its place. */
  clamped = false;
  private readonly form: number;
  private readonly exponent: number;
  /** Ticks a second, where that is at most 2^30. */
  private readonly perSecond: number;
  /** Nanoseconds a tick (decimal). */
  private readonly nsecPerTick: number;
  /** if_tsoffset, seconds. */
  private readonly offsetSec: number;

  /** `tsresol`: the option's byte (6, microseconds, when there is none). `offsetSec`: a safe integer. */
  constructor(tsresol: number, offsetSec: number) {
    this.offsetSec = offsetSec;
    this.exponent = tsresol & 0x7f;
    const binary = (tsresol & 0x80) !== 0;
    this.form = binary ? (this.exponent <= 30 ? BINARY : FINE) : this.exponent <= 9 ? DECIMAL : FINE;
    if (this.form === FINE && binary) this.exponent = -this.exponent;
    this.perSecond = this.form === FINE ? 0 : binary ? 2 ** this.exponent : 10 ** this.exponent;
    this.nsecPerTick = this.form === DECIMAL ? 10 ** (9 - this.exponent) : 0;
  }

  /** `high` and `low`: the two halves of the tick count, unsigned. */
  convert(high: number, low: number): void {
    if (this.form === FINE) {
      this.convertFine(high, low);
      return;
    }
    const perSecond = this.perSecond;
    let sec: number;
    let rest: number;
    if (high < 0x200000) {
      const ticks = high * TWO32 + low; // < 2^53
      sec = Math.floor(ticks / perSecond);
      rest = ticks - sec * perSecond;
    } else {
      // Long division, 16 bits of `low` at a time: each dividend is below 2^30 * 2^16.
      const q2 = Math.floor(high / perSecond);
      const d1 = (high - q2 * perSecond) * 65536 + (low >>> 16);
      const q1 = Math.floor(d1 / perSecond);
      const d0 = (d1 - q1 * perSecond) * 65536 + (low & 0xffff);
      const q0 = Math.floor(d0 / perSecond);
      rest = d0 - q0 * perSecond;
      sec = q2 * TWO32 + q1 * 65536 + q0;
    }
    this.setSeconds(sec + this.offsetSec);
    // Binary: rest < 2^30 and 5^9 < 2^21, so the product is exact, and so is scaling by a power of two.
    this.nsec =
      this.form === DECIMAL ? rest * this.nsecPerTick : Math.floor(((rest * POW5_9) / perSecond) * 512);
  }

  private convertFine(high: number, low: number): void {
    const ticks = (BigInt(high) << 32n) | BigInt(low);
    const e = this.exponent;
    const nsec = e < 0 ? (ticks * 1_000_000_000n) >> BigInt(-e) : ticks / 10n ** BigInt(e - 9);
    this.setSeconds(Number(nsec / 1_000_000_000n) + this.offsetSec);
    this.nsec = Number(nsec % 1_000_000_000n);
  }

  private setSeconds(sec: number): void {
    this.clamped = Math.abs(sec) > MAX_SECONDS;
    this.sec = this.clamped ? Math.sign(sec) * MAX_SECONDS : sec;
  }
}
