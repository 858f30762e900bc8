/** Where the level of a series of measurements has changed.
 *
 *  The positions that fit best at a price for each change are found with PELT (R. Killick, P. Fearnhead, I. A. Eckley,
 *  "Optimal detection of changepoints with a linear computational cost", JASA 107, 2012), for changes of the mean of values with
 *  equal variance. Measurements of machines come with values that are far out now and then, which must not look like
 *  a change there and back: a value that is far from the median of its neighbours counts as that median (F. Hampel, 1974). The
 *  variance is that of differences between neighbours, which a change of level touches once only, by their median. */
import { median, quantile } from 'simple-statistics';

export interface ChangeOptions {
  /** Runs between two changes, at least. */
  least: number;
  /** What a change must gain, in variances by the logarithm of the number of values. */
  penalty: number;
}

export const DEFAULT_CHANGES: ChangeOptions = { least: 3, penalty: 5 };

/** So many medians of absolute deviations are a standard deviation, if values are normal. */
const TO_DEVIATION = 1.4826;
/** Standard deviations from its neighbours at which a value is far out. */
const FAR = 3;
/** Of few values the deviation itself is known badly: the price is higher by this over their number. */
const FEW = 6;
/** Neighbours on either side. */
const NEAR = 2;

/** Indices at which a new level begins, ascending; none in short series. */
export function changePoints(values: readonly number[], options = DEFAULT_CHANGES): number[] {
  const { least } = options;
  const n = values.length;
  if (n < 2 * least) return [];
  const deviation = deviationOf(values);
  const clean = withoutOutliers(values, deviation);
  if (deviation === 0) return stepsOf(clean, least);
  return pelt(clean, options.penalty * (1 + FEW / n) * deviation ** 2 * Math.log(n), least);
}

/** Standard deviation within a level. */
function deviationOf(values: readonly number[]): number {
  const steps = values.slice(1).map((v, i) => Math.abs(v - values[i]));
  return (TO_DEVIATION * median(steps)) / Math.SQRT2;
}

function withoutOutliers(values: readonly number[], deviation: number): number[] {
  return values.map((v, i) => {
    const near = values.slice(Math.max(0, i - NEAR), i + NEAR + 1);
    const middle = quantile(near, 0.5);
    return Math.abs(v - middle) > FAR * deviation ? middle : v;
  });
}

/** Without noise every step is a change. */
function stepsOf(values: readonly number[], least: number): number[] {
  const changes: number[] = [];
  let last = 0;
  for (let i = 1; i < values.length; i++) {
    if (values[i] === values[i - 1] || i - last < least || values.length - i < least) continue;
    changes.push(i);
    last = i;
  }
  return changes;
}

function pelt(values: readonly number[], price: number, least: number): number[] {
  const n = values.length;
  const sums = new Float64Array(n + 1);
  const squares = new Float64Array(n + 1);
  values.forEach((v, i) => {
    sums[i + 1] = sums[i] + v;
    squares[i + 1] = squares[i] + v * v;
  });
  /** Squared distances of values `from` to `to` - 1 from their mean. */
  const cost = (from: number, to: number) =>
    squares[to] - squares[from] - (sums[to] - sums[from]) ** 2 / (to - from);
  const best = new Float64Array(n + 1).fill(Number.POSITIVE_INFINITY);
  best[0] = -price;
  const before = new Int32Array(n + 1);
  let starts = [0];
  for (let to = least; to <= n; to++) {
    for (const from of starts) {
      const total = best[from] + cost(from, to) + price;
      if (total < best[to]) {
        best[to] = total;
        before[to] = from;
      }
    }
    // What is worse now by a price can't become the best start again.
    starts = starts.filter((from) => best[from] + cost(from, to) <= best[to]);
    const next = to + 1 - least;
    if (next >= least) starts.push(next);
  }
  const changes: number[] = [];
  for (let at = before[n]; at > 0; at = before[at]) changes.unshift(at);
  return changes;
}
