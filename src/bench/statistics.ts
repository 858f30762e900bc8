/** Means with their confidence intervals. */
import { mean, quantileSorted, sampleStandardDeviation } from 'simple-statistics';

export interface Interval {
  mean: number;
  low: number;
  high: number;
}

/** Of the mean of values whose logarithms are about normal, as speeds and times of processes are (Student, 1908).
 *  With one value the interval is that value; there is no telling. */
export function meanOf(values: readonly number[], confidence = 0.95): Interval {
  if (values.some((v) => v <= 0)) {
    const { mean: m, half } = studentInterval(values, confidence);
    return { mean: m, low: m - half, high: m + half };
  }
  const { mean: m, half } = studentInterval(values.map(Math.log), confidence);
  return { mean: Math.exp(m), low: Math.exp(m - half), high: Math.exp(m + half) };
}

/** The mean of normal values and half its interval. */
export function studentInterval(
  values: readonly number[],
  confidence: number,
): { mean: number; half: number } {
  const m = mean([...values]);
  const n = values.length;
  if (n < 2) return { mean: m, half: 0 };
  const error = sampleStandardDeviation([...values]) / Math.sqrt(n);
  return { mean: m, half: error * studentQuantile((1 + confidence) / 2, n - 1) };
}

/** The value that a variable of Student's distribution with `freedom` degrees of freedom stays below with
 *  probability `p`, 0.5 to 1. */
export function studentQuantile(p: number, freedom: number): number {
  let low = 0;
  let high = 1;
  while (studentCdf(high, freedom) < p) high *= 2;
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (studentCdf(middle, freedom) < p) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** Abramowitz and Stegun, 26.7.3 and 26.7.4, for whole degrees of freedom. */
function studentCdf(t: number, freedom: number): number {
  const theta = Math.atan(t / Math.sqrt(freedom));
  const cos2 = Math.cos(theta) ** 2;
  let term = 1;
  let total = freedom > 1 ? 1 : 0;
  const odd = freedom % 2 === 1;
  for (let k = odd ? 3 : 2; k < freedom; k += 2) {
    term *= ((k - 1) / k) * cos2;
    total += term;
  }
  const area = odd
    ? (2 / Math.PI) * (theta + (freedom > 1 ? Math.sin(theta) * Math.cos(theta) * total : 0))
    : Math.sin(theta) * total;
  return 0.5 + area / 2;
}

/** Where values that are about symmetric have their centre (J. L. Hodges, E. L. Lehmann, 1963), and an interval for it that
 *  misses it with `chance` at most on each side (F. Wilcoxon's signed ranks, inverted: J. W. Tukey, 1949): half sums of
 *  all pairs of values, without so many on both ends. Infinite for fewer values than that takes. */
export function wilcoxonInterval(
  values: readonly number[],
  chance: number,
): { centre: number; low: number; high: number } {
  const sums: number[] = [];
  values.forEach((v, i) => {
    for (const w of values.slice(i)) sums.push((v + w) / 2);
  });
  sums.sort((a, b) => a - b);
  const drop = signedRankQuantile(values.length, chance);
  return {
    centre: quantileSorted(sums, 0.5),
    low: drop < 0 ? Number.NEGATIVE_INFINITY : sums[drop],
    high: drop < 0 ? Number.POSITIVE_INFINITY : sums[sums.length - 1 - drop],
  };
}

/** The largest number that the sum of signed ranks of `n` values is below or equal to with probability `p` at most; -1 if
 *  there is none. */
function signedRankQuantile(n: number, p: number): number {
  // Ways to reach each sum with ranks 1 to n, each taken or not.
  const ways = new Float64Array((n * (n + 1)) / 2 + 1);
  ways[0] = 1;
  for (let rank = 1; rank <= n; rank++) {
    for (let sum = ways.length - 1; sum >= rank; sum--) ways[sum] += ways[sum - rank];
  }
  let below = 0;
  for (let sum = 0; sum < ways.length; sum++) {
    below += ways[sum] / 2 ** n;
    if (below > p) return sum - 1;
  }
  return ways.length - 1;
}
