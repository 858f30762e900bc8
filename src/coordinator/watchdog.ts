/** Notices that a run does not go on any more: packets are in flight, and none is completed.
 *
 *  Time is counted in short steps between looks, so that a process that was stopped, or a machine that was asleep,
 *  has not lost any: what counts is time in which this thread ran, and could have been told of a completion. */

/** A step counts so much at most, in ms. */
const MOST_STEP_MS = 500;

/** How a worker is doing. */
export interface WorkerState {
  /** Vectors that it has finished. */
  epoch: number;
  asleep: boolean;
}

export class Watchdog {
  private readonly limitMs: number;
  private readonly states: () => readonly WorkerState[];
  /** As of the last progress. */
  private completed = -1;
  /** As of when half of the time was over. */
  private before: readonly WorkerState[] = [];
  private waitedMs = 0;
  private lookedAt = 0;

  private readonly remedy: string;

  /** `limitMs` 0: it never says anything. */
  constructor(
    limitMs: number,
    states: () => readonly WorkerState[],
    remedy = '; --watchdog SECONDS waits longer, 0 for ever',
  ) {
    this.limitMs = limitMs;
    this.states = states;
    this.remedy = remedy;
  }

  /** `completed` packets of `dispatched` have been completed by `now` (ms). Throws Error if nothing has been for too
   *  long. */
  look(now: number, completed: number, dispatched: number): void {
    const step = Math.min(MOST_STEP_MS, now - this.lookedAt);
    this.lookedAt = now;
    if (completed !== this.completed || completed === dispatched) {
      this.completed = completed;
      this.waitedMs = 0;
      return;
    }
    const { limitMs } = this;
    // Who has done nothing in the second half of the time is stuck.
    if (this.waitedMs <= limitMs / 2) this.before = this.states();
    this.waitedMs += step;
    if (limitMs === 0 || this.waitedMs < limitMs) return;
    throw new Error(
      `no packet of ${dispatched - completed} in flight has been completed for ${limitMs / 1000} s: ` +
        `${this.describe()}${this.remedy}`,
    );
  }

  private describe(): string {
    const stuck = this.states().flatMap(({ epoch, asleep }, id) =>
      !asleep && epoch === this.before[id].epoch ? [id] : [],
    );
    if (stuck.length === 0) return 'all workers wait for something';
    return `worker${stuck.length === 1 ? '' : 's'} ${stuck.join(', ')} ${stuck.length === 1 ? 'is' : 'are'} stuck`;
  }
}
