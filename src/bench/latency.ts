/** Latencies: HDR histograms (G. Tene's, which Node has), added up, and as results have them. */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';

/** Of nanoseconds, with two digits. */
export const newHistogram = () => createHistogram({ lowest: 1, highest: 1e12, figures: 2 });

/** Microseconds. */
export interface Latency {
  count: number;
  p50: number;
  p90: number;
  p99: number;
  p999: number;
  max: number;
  /** How many took so long: a part of LATENCY_STEP on a logarithmic scale each, none empty. */
  bins: { from: number; to: number; n: number }[];
}

/** Width of a bar of a latency histogram: eight to a power of ten. */
const LATENCY_STEP = 10 ** (1 / 8);

/** Null if there is nothing in them. */
export function latencyOf(parts: readonly RecordableHistogram[]): Latency | null {
  const all = newHistogram();
  for (const part of parts) if (part.count > 0) all.add(part);
  if (all.count === 0) return null;
  const us = (p: number) => all.percentile(p) / 1000;
  const max = all.max / 1000;
  return { count: all.count, p50: us(50), p90: us(90), p99: us(99), p999: us(99.9), max, bins: binsOf(all) };
}

/** In microseconds. */
const edge = (i: number) => Number((LATENCY_STEP ** i / 1000).toPrecision(4));

/** The histogram on a coarser scale. It tells the value below which a share of all is, so how many are below a value
 *  is looked for. */
function binsOf(all: RecordableHistogram): Latency['bins'] {
  const below = (ns: number) => {
    let [low, high] = [0, all.count];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (all.percentile((100 * middle) / all.count) <= ns) low = middle;
      else high = middle - 1;
    }
    return low;
  };
  const bins: Latency['bins'] = [];
  let counted = 0;
  const first = Math.floor(Math.log(Math.max(1, all.min)) / Math.log(LATENCY_STEP));
  for (let i = first; counted < all.count; i++) {
    const to = LATENCY_STEP ** (i + 1);
    // The largest value may be a little above what its bucket says.
    const n = (to > all.max ? all.count : below(to)) - counted;
    if (n > 0) bins.push({ from: edge(i), to: edge(i + 1), n });
    counted += n;
  }
  return bins;
}
