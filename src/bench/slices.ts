/** One side of a timed comparison: a replay that is resident and runs slices when it is told to, so that two of them
 *  can take turns. Between slices it sleeps. */
import fs from 'node:fs';
import { type Counts, Resident } from './resident.js';
import { type BenchSpec, prepare } from './spec.js';

/** Changes when the two sides of a comparison could no longer understand each other. */
export const SLICES_VERSION = 1;

/** Milliseconds that a slice took. */
export interface Slice {
  /** By the clock. */
  time: number;
  /** Processor time of the main thread, and of all others; null where the system does not tell. */
  main: number | null;
  others: number | null;
}

export interface SliceReady {
  version: number;
  /** Packets of a round. */
  packets: number;
  workers: number;
  node: string;
  /** It knows slices that begin with empty flow caches. */
  cold: true;
}

/** Processor time of this thread in nanoseconds (Linux, Documentation/scheduler/sched-stats.rst). */
const SCHEDSTAT = '/proc/thread-self/schedstat';
const nap = new Int32Array(new SharedArrayBuffer(4));
const NAP_MS = 0.1;

export class SliceRunner {
  private readonly resident: Resident;

  private constructor(resident: Resident) {
    this.resident = resident;
    resident.start();
  }

  static async open(spec: BenchSpec): Promise<SliceRunner> {
    const prepared = await prepare(spec);
    return new SliceRunner(new Resident(prepared, { workers: spec.workers, vector: spec.vector }));
  }

  get ready(): SliceReady {
    const { n, workers } = this.resident;
    return { version: SLICES_VERSION, packets: n, workers, node: process.version, cold: true };
  }

  /** Runs `packets` packets; `cold`: with empty flow caches at first. */
  async run(packets: number, cold: boolean): Promise<Slice> {
    if (cold) this.resident.forget();
    const mainBefore = mainCpuMs();
    const allBefore = process.cpuUsage();
    const began = performance.now();
    await this.resident.run(packets);
    const time = performance.now() - began;
    // The kernel brings a thread's time up to date when it goes to sleep.
    Atomics.wait(nap, 0, 0, NAP_MS);
    const mainAfter = mainCpuMs();
    const { user, system } = process.cpuUsage(allBefore);
    const main = mainBefore === null || mainAfter === null ? null : mainAfter - mainBefore;
    return { time, main, others: main === null ? null : Math.max(0, (user + system) / 1000 - main) };
  }

  counts(): Counts {
    return this.resident.counts();
  }

  stop(): Promise<void> {
    return this.resident.stop();
  }
}

function mainCpuMs(): number | null {
  try {
    return Number(fs.readFileSync(SCHEDSTAT, 'latin1').split(' ', 1)[0]) / 1e6;
  } catch {
    return null;
  }
}
