/** What must hold of a long run: its books balance at every sample, and memory does not drift. */
import { linearRegression } from 'simple-statistics';

/** How the run stood at some time. */
export interface Sample {
  /** Since the beginning, without time in which the process was stopped; of all its threads. */
  seconds: number;
  cpu_seconds: number;
  /** Of capture time. */
  capture_seconds: number;
  rounds: number;
  /** Read, and collected; and the verdicts that have come. */
  read: number;
  packets: number;
  verdicts: number;
  passed: number;
  dropped: number;
  made: number;
  expired: number;
  /** By a SYN after their end; they can't be flushed here. */
  evicted: number;
  refused: number;
  live: number;
  rss_mib: number;
  heap_mib: number;
  external_mib: number;
  shared_mib: number;
}

/** MiB by which noise may lift a line through the samples of a short run. */
const LEAST_MIB = 32;
/** Fewer say nothing of a slope. */
const LEAST_SAMPLES = 6;

export const MEMORY = ['rss_mib', 'heap_mib', 'external_mib', 'shared_mib'] as const;
export type Memory = (typeof MEMORY)[number];

/** MiB by which the line through the second half of the samples rises over it. */
export function rise(samples: readonly Sample[], of: Memory): number {
  const half = samples.slice(samples.length >> 1);
  if (half.length < LEAST_SAMPLES) return 0;
  const { m } = linearRegression(half.map((s) => [s.seconds, s[of]]));
  return m * (half[half.length - 1].seconds - half[0].seconds);
}

/** What is wrong, a line each. `share` of its mean over the second half is what memory may rise there. */
export function judge(samples: readonly Sample[], window: number, share: number): string[] {
  const wrong: string[] = [];
  const half = samples.slice(samples.length >> 1);
  for (const of of MEMORY) {
    const mean = half.reduce((sum, s) => sum + s[of], 0) / Math.max(1, half.length);
    const most = Math.max(LEAST_MIB, share * mean);
    const by = rise(samples, of);
    if (by > most) {
      wrong.push(`${of} rises by ${by.toFixed(1)} MiB over the second half: more than ${most.toFixed(1)}`);
    }
  }
  if (half.length >= LEAST_SAMPLES && half[half.length - 1].made === half[0].made) {
    wrong.push('no connection has been made in the second half');
  }
  for (const s of samples) {
    const at = `after ${s.seconds.toFixed(0)} s`;
    if (s.verdicts !== s.packets) wrong.push(`${at}: ${s.packets} packets, but ${s.verdicts} verdicts`);
    if (s.passed + s.dropped !== s.packets) {
      wrong.push(`${at}: ${s.packets} packets, but ${s.passed} passed and ${s.dropped} dropped`);
    }
    if (s.read < s.packets || s.read - s.packets > window) {
      wrong.push(`${at}: ${s.read} packets read, ${s.packets} collected: up to ${window} may be in flight`);
    }
    if (s.made !== s.live + s.expired + s.evicted) {
      wrong.push(
        `${at}: ${s.made} connections made, but ${s.live} live and ${s.expired + s.evicted} removed`,
      );
    }
  }
  return wrong;
}

/** What a run has counted in its rounds. */
export interface Totals {
  rounds: number;
  /** Connections at its end. */
  live: number;
  counters: Readonly<Record<string, number>>;
}

/** How a long run differs from what two short ones, one of a round more than the other, let expect: each further round
 *  counts as much as that one. */
export function extrapolated(long: Totals, first: Totals, second: Totals): string[] {
  const wrong: string[] = [];
  const rounds = long.rounds - first.rounds;
  for (const name of new Set([long, first, second].flatMap((t) => Object.keys(t.counters)))) {
    const from = first.counters[name] ?? 0;
    const want = from + rounds * ((second.counters[name] ?? 0) - from);
    const is = long.counters[name] ?? 0;
    if (is !== want) wrong.push(`after ${long.rounds} rounds: ${name} is ${is}; it should be ${want}`);
  }
  if (long.live !== first.live || long.live !== second.live) {
    wrong.push(`${long.live} connections live at the end, ${first.live} after ${first.rounds} rounds`);
  }
  return wrong;
}
