/** Histories: files to which every run of `shardtrack bench --history` appends its results as one line of JSON. */
import fs from 'node:fs';
import { type ChangeOptions, changePoints, DEFAULT_CHANGES } from '../report/changes.js';
import type { Latency } from './latency.js';
import type { ProcessResult } from './measure.js';
import { type BenchResults, checkResults } from './results.js';
import type { Interval } from './statistics.js';

/** Throws Error naming the file and the line. */
export function readHistory(file: string): BenchResults[] {
  const lines = fs.readFileSync(file, 'utf8').split('\n');
  return lines.flatMap((line, i) => (line.trim() === '' ? [] : [checkResults(line, `${file}:${i + 1}`)]));
}

/** The line that a run adds: without what only its own report shows. */
export function historyLine(results: BenchResults): string {
  const workloads = results.workloads.map((w) => ({ ...w, processes: w.processes.map(slim) }));
  return `${JSON.stringify({ ...results, workloads })}\n`;
}

function slim(p: ProcessResult): ProcessResult {
  const without = (latency: Latency | null) => (latency === null ? null : { ...latency, bins: [] });
  return {
    ...p,
    vector: without(p.vector),
    commit: without(p.commit),
    series: { clock: [], mpps: [], microflow: [], megaflow: [], upcalls: [] },
    states: { clock: [], connections: {} },
  };
}

export interface Run {
  commit: string | null;
  /** ISO 8601. */
  date: string;
  value: Interval;
}

/** How one figure went, run after run. */
export interface Trend {
  name: string;
  runs: Run[];
  /** Index of the first run of each level but the first. */
  changes: number[];
  /** Last level by the one before, minus 1; null if there was but one. */
  lastChange: number | null;
}

/** Of the workloads and parts of the last run, those runs that measured the same on a machine like the last one's. Node and
 *  Shardtrack may differ: that is what a change is looked for in. */
export function trendsOf(
  history: readonly BenchResults[],
  field: 'cpuNsPerPacket' | 'mpps',
  options: ChangeOptions = DEFAULT_CHANGES,
): Trend[] {
  const last = history[history.length - 1];
  if (last === undefined) return [];
  const alike = history.filter(
    ({ environment: e }) => e.cpu === last.environment.cpu && e.cores === last.environment.cores,
  );
  const of = (name: string, values: { run: BenchResults; value: Interval | undefined }[]): Trend => {
    const runs = values.flatMap(({ run, value }) =>
      value === undefined ? [] : [{ commit: run.environment.commit, date: run.environment.date, value }],
    );
    // Levels of times differ by shares.
    const logs = runs.map((r) => Math.log(r.value.mean));
    const changes = changePoints(logs, options);
    return { name, runs, changes, lastChange: lastChange(logs, changes) };
  };
  const parts = last.micro.map(({ name }) =>
    of(
      name,
      alike.map((run) => ({ run, value: run.micro.find((m) => m.name === name)?.summary })),
    ),
  );
  const workloads = last.workloads.map(({ name, spec }) => {
    const same = JSON.stringify(spec);
    return of(
      name,
      alike.map((run) => {
        const found = run.workloads.find((w) => w.name === name && JSON.stringify(w.spec) === same);
        return { run, value: found?.summary[field] };
      }),
    );
  });
  // Parts have times only.
  return field === 'mpps' ? workloads : [...workloads, ...parts];
}

function lastChange(logs: readonly number[], changes: readonly number[]): number | null {
  if (changes.length === 0) return null;
  const at = changes[changes.length - 1];
  const before = logs.slice(changes[changes.length - 2] ?? 0, at);
  const mean = (part: readonly number[]) => part.reduce((a, b) => a + b, 0) / part.length;
  return Math.exp(mean(logs.slice(at)) - mean(before)) - 1;
}
