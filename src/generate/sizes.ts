/** Sizes of frames: fixed, IMIX, a range, or a list with weights. */
import { MAX_FRAME, MIN_FRAME } from './frames.js';
import type { Random } from './random.js';

/** Simple IMIX: 7 of 64, 4 of 594, 1 of 1518 bytes with check sequence, as makers of test equipment have it
 *  (RFC 6985 tells how to name mixes); here without the 4 bytes of the check sequence. */
const IMIX = '60:7,590:4,1514:1';

/** How long the next frame is. */
export interface Sizes {
  /** As `parseSizes` takes it. */
  readonly text: string;
  /** On average. */
  readonly mean: number;
  next(random: Random): number;
}

function bytes(text: string): number {
  const n = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (n >= MIN_FRAME && n <= MAX_FRAME) return n;
  throw new RangeError(`"${text}" is not a frame size; expected ${MIN_FRAME} to ${MAX_FRAME} bytes`);
}

/** `60`, `imix`, `60-1514` (all alike) or `60:7,590:4,1514:1` (bytes and weight; a range may have one too). Throws
 *  RangeError. */
export function parseSizes(text: string): Sizes {
  const entries = (text === 'imix' ? IMIX : text).split(',').map((entry) => {
    const [range, weightText = '1', more] = entry.trim().split(':');
    const weight = /^\d{1,6}$/.test(weightText) ? Number(weightText) : 0;
    if (weight < 1 || more !== undefined) {
      throw new RangeError(
        `"${entry}" is not a frame size with its weight; expected as in 60:7, a weight from 1 to 999999`,
      );
    }
    const [low, high = low] = range.split('-');
    const from = bytes(low);
    const to = bytes(high);
    if (to < from) throw new RangeError(`"${range}" runs backwards; expected ${to}-${from}`);
    return { from, span: to - from + 1, weight };
  });
  const total = entries.reduce((n, e) => n + e.weight, 0);
  const mean = entries.reduce((n, e) => n + (e.from + (e.span - 1) / 2) * e.weight, 0) / total;
  return {
    text,
    mean,
    next(random) {
      if (total === 1 && entries[0].span === 1) return entries[0].from;
      let at = random.below(total);
      for (const { from, span, weight } of entries) {
        if (at < weight) return span === 1 ? from : from + random.below(span);
        at -= weight;
      }
      throw new Error('sizes: the weights do not add up');
    },
  };
}
