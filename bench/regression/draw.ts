/** How good are the rules of `shardtrack compare`, if pairs of processes vary by so much? Drawn, not measured: the ratios of
 *  pairs are normal, or normal with a few that are far out. */
import {
  commonVariance,
  earlyVerdict,
  isLook,
  lateVerdict,
  type Ratio,
  ratioOf,
  type TimingVerdict,
} from '../../src/compare/timing.js';
import type { Random } from '../../src/generate/random.js';

export interface Drawing {
  /** Standard deviation of a pair's logarithm. */
  deviation: number;
  /** Share of pairs that are far out, and by how many times the deviation they vary. */
  far: number;
  farBy: number;
  /** Of one of MEASURES: 0.05 is 5 %. */
  slowdown: number;
  mostPairs: number;
}

const LIMITS = { tolerance: 0.01, notice: 0.05 };
/** As many as a comparison of the default workloads has, each drawn by itself, which is worse than what is seen: parts of a
 *  scene vary together. */
const MEASURES = 22;

/** The verdict of one comparison that was never made, and after how many pairs. */
export function draw(d: Drawing, random: Random): { verdict: TimingVerdict; pairs: number } {
  const logs = Array.from({ length: MEASURES }, (): number[] => []);
  let ratios: Record<string, Ratio> = {};
  for (let pairs = 1; pairs <= d.mostPairs; pairs++) {
    for (const [k, list] of logs.entries()) {
      const scale = random.below(1000) < d.far * 1000 ? d.farBy : 1;
      list.push(scale * d.deviation * normal(random) + (k === 0 ? Math.log(1 + d.slowdown) : 0));
    }
    if (!isLook(pairs) && pairs < d.mostPairs) continue;
    const prior = commonVariance(logs);
    ratios = Object.fromEntries(logs.map((list, k) => [`${k}`, ratioOf(list, prior)]));
    const verdict = isLook(pairs) ? earlyVerdict(ratios, LIMITS) : "can't tell";
    if (verdict !== "can't tell") return { verdict, pairs };
  }
  return { verdict: lateVerdict(ratios, d.mostPairs, LIMITS), pairs: d.mostPairs };
}

/** G. E. P. Box, M. E. Muller, 1958. */
function normal(random: Random): number {
  const u = (random.below(1 << 24) + 1) / (1 << 24);
  return Math.sqrt(-2 * Math.log(u)) * Math.cos((2 * Math.PI * random.below(1 << 24)) / (1 << 24));
}
