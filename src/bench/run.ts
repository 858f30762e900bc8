/** Runs workloads in fresh processes, in turn, so that what the machine does meanwhile meets all of them. */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { ChildAnswer, MeasureRequest } from './child.js';
import type { MeasureOptions, ProcessResult } from './measure.js';
import { type BenchResults, CONFIDENCE, environment, RESULTS_VERSION, summarise } from './results.js';
import type { BenchSpec } from './spec.js';

export interface RunOptions extends MeasureOptions {
  processes: number;
  /** Told when a process has ended. */
  progress?: (done: number, of: number, workload: string) => void;
  signal?: AbortSignal;
}

export interface Named {
  spec: BenchSpec;
  what: string;
}

export async function runBenchmarks(
  workloads: readonly Named[],
  options: RunOptions,
  version: string,
): Promise<BenchResults> {
  const { processes, seconds, warmupSeconds } = options;
  const start = environment(version);
  const results: ProcessResult[][] = workloads.map(() => []);
  for (let p = 0; p < processes; p++) {
    for (const [i, { spec }] of workloads.entries()) {
      results[i].push(
        await measureInChild({ kind: 'measure', spec, options: { seconds, warmupSeconds } }, options.signal),
      );
      options.progress?.(p * workloads.length + i + 1, processes * workloads.length, spec.name);
    }
  }
  return {
    format: 'shardtrack-bench',
    version: RESULTS_VERSION,
    environment: start,
    options: { processes, seconds, warmupSeconds, confidence: CONFIDENCE },
    workloads: workloads.map(({ spec, what }, i) => summarise(spec.name, what, spec, results[i])),
  };
}

/** Throws Error with what the process says, or how it ended. */
export function measureInChild(request: MeasureRequest, signal?: AbortSignal): Promise<ProcessResult> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(new URL('child.js', import.meta.url)), { signal });
    let answer: ChildAnswer | null = null;
    child.on('message', (message) => {
      answer = message as ChildAnswer;
    });
    child.on('error', reject);
    child.on('close', (code, by) => {
      if (answer === null) reject(new Error(`${request.spec.name}: the process ended with ${by ?? code}`));
      else if ('error' in answer) reject(new Error(`${request.spec.name}: ${answer.error}`));
      else resolve(answer.result);
    });
    child.send(request);
  });
}
