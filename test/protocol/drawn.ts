/** Scenarios that are drawn from a seed, in orders that are drawn: what nobody has thought of. */
import { Random } from '../support/packets.js';
import { explore, type Limits, Violation } from './explore.js';
import { drawn, type Product, type Scenario, Stage } from './scenarios.js';

/** Runs case `n` of a seed in at most `runs` orders, if it is said for at most so many seconds. `want`: a product without mistakes. */
export function exploreCase(
  product: Product,
  seed: number,
  n: number,
  runs: number,
  seconds?: number,
  want: Product = product,
): { scenario: Scenario; runs: number; violation: Violation | null } {
  const r = new Random(Math.imul(seed, 1_000_003) + n);
  const scenario = drawn(r);
  const key = r.word() | 0;
  const draw = (): number => r.int(2 ** 24) / 2 ** 24;
  const limits: Limits = { stops: Number.POSITIVE_INFINITY, runs, seconds, timeouts: 0, draw };
  try {
    const stage = new Stage(product, scenario, new Stage(want, scenario, undefined, key).want, key);
    return { scenario, runs: explore(stage.make, limits).runs, violation: null };
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    return { scenario, runs: 0, violation: error };
  }
}
