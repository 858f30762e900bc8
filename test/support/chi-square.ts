/** Is what was drawn spread as it should be? Pearson's chi-square test. */

/** The statistic of counts against shares, which are equal unless given. */
export function chiSquare(
  counts: readonly number[],
  shares: readonly number[] = counts.map(() => 1),
): number {
  const n = counts.reduce((a, b) => a + b, 0);
  const total = shares.reduce((a, b) => a + b, 0);
  return counts.reduce((sum, count, i) => {
    const expected = (n * shares[i]) / total;
    return sum + (count - expected) ** 2 / expected;
  }, 0);
}

/** What chance exceeds once in 1000 times with `freedom` degrees of freedom (Wilson and Hilferty's approximation). */
export function chiSquareBound(freedom: number): number {
  const z = 3.09;
  const v = 2 / (9 * freedom);
  return freedom * (1 - v + z * Math.sqrt(v)) ** 3;
}
