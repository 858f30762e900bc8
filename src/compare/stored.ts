/** Compares two stored results of `shardtrack bench`. Their processes ran at different times, so that only large
 *  differences can be told; the intervals say how large. */
import fs from 'node:fs';
import { mean, sampleVariance } from 'simple-statistics';
import { type BenchResults, checkResults, type Environment } from '../bench/results.js';
import { studentQuantile } from '../bench/statistics.js';
import { judge, type Ratio, type TimingVerdict } from './timing.js';

export interface StoredComparison {
  workloads: { name: string; verdict: TimingVerdict; ratios: Record<string, Ratio> }[];
  verdict: TimingVerdict;
  /** What is not the same, besides the commit. */
  remarks: string[];
}

/** Chance on each side of an interval. */
const CHANCE = 0.005;
const FIELDS = { time: 'nsPerPacket', cpu: 'cpuNsPerPacket' } as const;

/** Throws Error naming the file. */
export function readResults(path: string): BenchResults {
  return checkResults(fs.readFileSync(path, 'utf8'), path);
}

export function compareStored(
  base: BenchResults,
  candidate: BenchResults,
  limits: { tolerance: number; notice: number },
): StoredComparison {
  const remarks = differencesOf(base.environment, candidate.environment);
  const workloads: StoredComparison['workloads'] = [];
  for (const { name, processes, spec } of candidate.workloads) {
    const before = base.workloads.find((w) => w.name === name);
    if (before === undefined) {
      remarks.push(`${name}: is in the candidate only`);
      continue;
    }
    if (JSON.stringify(before.spec) !== JSON.stringify(spec)) {
      remarks.push(`${name}: the two did not replay the same`);
    }
    const ratios: Record<string, Ratio> = {};
    for (const [title, field] of Object.entries(FIELDS)) {
      const logs = (of: typeof processes) => of.map((p) => Math.log(p[field]));
      ratios[title] = ratioOf(logs(before.processes), logs(processes));
    }
    workloads.push({ name, verdict: judge(ratios, limits), ratios });
  }
  for (const { name, processes } of candidate.micro) {
    const before = base.micro.find((m) => m.name === name);
    if (before === undefined) {
      remarks.push(`${name}: is in the candidate only`);
      continue;
    }
    const logs = (of: typeof processes) => of.map((p) => Math.log(p.median));
    const ratios = { time: ratioOf(logs(before.processes), logs(processes)) };
    workloads.push({ name, verdict: judge(ratios, limits), ratios });
  }
  if (workloads.length === 0) throw new Error('the two results have no workload in common');
  const verdicts = workloads.map((w) => w.verdict);
  const verdict = (['slower', "can't tell"] as const).find((v) => verdicts.includes(v)) ?? 'not slower';
  return { workloads, verdict, remarks };
}

/** Of means of logarithms of values that are not paired (Welch, 1947). */
function ratioOf(base: readonly number[], candidate: readonly number[]): Ratio {
  const ratio = Math.exp(mean([...candidate]) - mean([...base]));
  if (base.length < 2 || candidate.length < 2) return { ratio, low: 0, high: Number.POSITIVE_INFINITY };
  const [a, b] = [base, candidate].map((v) => sampleVariance([...v]) / v.length);
  if (a + b === 0) return { ratio, low: ratio, high: ratio };
  const freedom = (a + b) ** 2 / (a ** 2 / (base.length - 1) + b ** 2 / (candidate.length - 1));
  const half = studentQuantile(1 - CHANCE, Math.max(1, Math.floor(freedom))) * Math.sqrt(a + b);
  return { ratio, low: ratio * Math.exp(-half), high: ratio * Math.exp(half) };
}

function differencesOf(a: Environment, b: Environment): string[] {
  return (['cpu', 'cores', 'node', 'os'] as const)
    .filter((name) => a[name] !== b[name])
    .map((name) => `${name} differs: ${a[name]} and ${b[name]}`);
}
