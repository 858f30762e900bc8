/** Runs workloads in fresh processes, in turn, so that what the machine does meanwhile meets all of them. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { ChildAnswer, ChildRequest } from './child.js';
import type { MeasureOptions, ProcessResult } from './measure.js';
import { type BenchResults, CONFIDENCE, environment, RESULTS_VERSION, summarise } from './results.js';
import type { BenchSpec } from './spec.js';

const OWN_CHILD = fileURLToPath(new URL('child.js', import.meta.url));

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
  const { processes, seconds, warmupSeconds, signal } = options;
  const start = environment(version);
  const results: ProcessResult[][] = workloads.map(() => []);
  for (let p = 0; p < processes; p++) {
    for (const [i, { spec }] of workloads.entries()) {
      const child = new BenchChild(spec.name, { signal });
      try {
        const answer = await child.ask({ kind: 'measure', spec, options: { seconds, warmupSeconds } });
        results[i].push((answer as { result: ProcessResult }).result);
      } finally {
        child.end();
      }
      options.progress?.(p * workloads.length + i + 1, processes * workloads.length, spec.name);
    }
  }
  return {
    format: 'shardtrack-bench',
    version: RESULTS_VERSION,
    environment: start,
    options: { processes, seconds, warmupSeconds, confidence: CONFIDENCE },
    workloads: workloads.map(({ spec, what }, i) => summarise(spec.name, what, spec, results[i])),
    micro: [],
  };
}

/** A process of its own, asked one thing after the other. */
export class BenchChild {
  private readonly child: ChildProcess;
  private readonly label: string;
  private resolve: (answer: ChildAnswer) => void = () => {};
  private reject: (error: Error) => void = () => {};
  private failure: Error | null = null;

  /** `label` begins its errors; `entry` and `node` if they are not this program's own; `flags`: options of Node. */
  constructor(label: string, o: { entry?: string; node?: string; flags?: string[]; signal?: AbortSignal }) {
    this.label = label;
    this.child = fork(o.entry ?? OWN_CHILD, {
      signal: o.signal,
      // It may be stopped, or busy.
      killSignal: 'SIGKILL',
      execPath: o.node ?? process.execPath,
      execArgv: o.flags ?? [],
    });
    this.child.on('message', (message) => this.resolve(message as ChildAnswer));
    this.child.on('error', (error) => this.fail(error));
    this.child.on('exit', (code, by) =>
      this.fail(new Error(`${label}: the process ended with ${by ?? code}`)),
    );
  }

  get pid(): number | undefined {
    return this.child.pid;
  }

  private fail(error: Error): void {
    this.failure ??= error;
    this.reject(error);
  }

  /** Throws Error with what the process says, or how it ended. */
  async ask(request: ChildRequest): Promise<Exclude<ChildAnswer, { error: string }>> {
    if (this.failure !== null) throw this.failure;
    const answer = await new Promise<ChildAnswer>((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
      this.child.send(request);
    });
    if ('error' in answer) throw new Error(`${this.label}: ${answer.error}`);
    return answer;
  }

  end(): void {
    if (this.child.connected) this.child.disconnect();
  }
}
