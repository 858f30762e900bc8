/** Flows with timeouts, the one that may be gone first on top: a binary heap by deadline. Use only ever
 *  puts a deadline off, so an entry may be early; it is looked at again when its time has come. */
import type { TableRule } from './rules.js';

interface Entry {
  deadline: number;
  rule: TableRule;
}

export class DeadlineQueue {
  private readonly heap: Entry[] = [];

  /** The earliest deadline, Infinity if there is none. It may be that of a flow that is gone already. */
  get next(): number {
    return this.heap.length === 0 ? Number.POSITIVE_INFINITY : this.heap[0].deadline;
  }

  /** Adds a rule, again when its deadline has come nearer. */
  add(rule: TableRule): void {
    const { deadline } = rule;
    if (deadline >= rule.queued) return;
    rule.queued = deadline;
    this.push({ deadline, rule });
  }

  /** Takes out a live rule whose deadline is before `now`, or null; the counters must be up to date. */
  take(now: number): TableRule | null {
    while (this.next < now) {
      const { rule, deadline } = this.pop();
      // Another entry, earlier once, has spoken for it.
      if (deadline !== rule.queued) continue;
      rule.queued = Number.POSITIVE_INFINITY;
      if (!rule.live) continue;
      if (rule.deadline < now) return rule;
      this.add(rule);
    }
    return null;
  }

  private push(entry: Entry): void {
    const { heap } = this;
    let at = heap.push(entry) - 1;
    while (at > 0) {
      const up = (at - 1) >> 1;
      if (heap[up].deadline <= entry.deadline) break;
      heap[at] = heap[up];
      at = up;
    }
    heap[at] = entry;
  }

  private pop(): Entry {
    const { heap } = this;
    const top = heap[0];
    const last = heap.pop() as Entry;
    if (heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let down = 2 * at + 1;
      if (down >= heap.length) break;
      if (down + 1 < heap.length && heap[down + 1].deadline < heap[down].deadline) down++;
      if (heap[down].deadline >= last.deadline) break;
      heap[at] = heap[down];
      at = down;
    }
    heap[at] = last;
    return top;
  }
}
