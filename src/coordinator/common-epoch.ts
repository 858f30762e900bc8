/** An epoch of all workers together, for the partition that they share in steered mode: it moves on when every worker
 *  has finished a vector since it last did, or sleeps. So whatever a worker found before is not used any more when it
 *  has moved on twice.
 *
 *  Main thread only; reads the workers' control lines (CTL_EPOCH, CTL_ASLEEP). */
import { CTL_ASLEEP, CTL_EPOCH, CTL_LINE } from '../shm/layouts.js';

export class CommonEpoch {
  private readonly ctl: Int32Array;
  /** Vectors that each worker had finished when the epoch last moved on. */
  private readonly finished: Int32Array;
  private epoch = 0;

  constructor(ctl: Int32Array, workers: number) {
    this.ctl = ctl;
    this.finished = new Int32Array(workers).fill(-1);
  }

  now(): number {
    const { ctl, finished } = this;
    for (let id = 0; id < finished.length; id++) {
      const line = (2 * id + 2) * CTL_LINE;
      const n = Atomics.load(ctl, line + CTL_EPOCH);
      if (n === finished[id] && Atomics.load(ctl, line + CTL_ASLEEP) === 0) return this.epoch;
    }
    for (let id = 0; id < finished.length; id++) {
      finished[id] = Atomics.load(ctl, (2 * id + 2) * CTL_LINE + CTL_EPOCH);
    }
    return ++this.epoch;
  }
}
