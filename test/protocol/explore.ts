/** Runs threads in all orders: depth first over the choices of who goes on, each run from the beginning. A state that has
 *  been met is not gone on from again; two are the same if every thread has read the same values so far, since then each
 *  will do the same. So if no limit is given, and the exploration ends, every order has been tried. */
import { Knowledge, type Memory, type Pending, Threads, use } from './sched.js';

/** Threads as generators, over memory that was made for one run. */
export interface World {
  threads: readonly Generator<Pending, unknown>[];
  /** Whether threads are stopped now: not while they get ready, or finish. */
  active: () => boolean;
  /** Throws if something that has happened must not. Called at the end of each run. */
  check: () => void;
}

export interface Limits {
  /** Times that a thread may be stopped where it could go on, in a run. */
  stops: number;
  runs: number;
  /** Without them the same is explored on each machine. */
  seconds?: number;
  /** Draws who goes on, 0 to 1, instead of trying one after the other. */
  draw?: () => number;
  /** Whether sleepers may wake up by themselves, when all sleep: a limited number of times. */
  timeouts: number;
}

export interface Explored {
  runs: number;
  states: number;
  /** Choices in the longest run. */
  depth: number;
  /** Every order has been tried, as far as `stops` go. */
  complete: boolean;
  /** Sleepers that had to wake up by themselves, in the run with most of them. */
  timeouts: number;
}

/** A property does not hold. */
export class Violation extends Error {
  override name = 'Violation';
}

interface Choice {
  options: number[];
  at: number;
}

/** Explores what `make` begins. Throws Violation with the order that led there. */
export function explore(make: (threads: (w: Memory, n: number) => void) => World, limits: Limits): Explored {
  const known = new Knowledge();
  const until = performance.now() + (limits.seconds ?? Number.POSITIVE_INFINITY) * 1000;
  let runs = 0;
  for (;;) {
    known.grown = false;
    const seen = new Map<number, number>();
    const stack: Choice[] = [];
    let depth = 0;
    let timeouts = 0;
    for (;;) {
      const run = new Run(make, limits, known, seen, stack);
      run.go();
      runs++;
      depth = Math.max(depth, stack.length);
      timeouts = Math.max(timeouts, run.timeouts);
      if (limits.draw !== undefined) {
        if (runs < limits.runs && performance.now() < until) continue;
        return { runs, states: seen.size, depth, timeouts, complete: false };
      }
      // With what is known now, there is more to choose from.
      if (known.grown) break;
      let top = stack.at(-1);
      while (top !== undefined && top.at === top.options.length - 1) {
        stack.pop();
        top = stack.at(-1);
      }
      const explored = { runs, states: seen.size, depth, timeouts };
      if (top === undefined) return { ...explored, complete: true };
      top.at++;
      if (runs >= limits.runs || performance.now() > until) return { ...explored, complete: false };
    }
  }
}

/** Steps; longer runs than any that ends. */
const LONGEST_RUN = 100_000;
/** What is told of an order. */
const LONGEST_ORDER = 60;

class Run {
  timeouts = 0;
  private readonly world: World;
  private threads!: Threads;
  private readonly limits: Limits;
  private readonly known: Knowledge;
  private readonly seen: Map<number, number>;
  private readonly stack: Choice[];
  private readonly trace: number[] = [];
  /** How often a thread is stopped where it could go on, of runs that are drawn. */
  private readonly restless: number;

  constructor(
    make: (threads: (w: Memory, n: number) => void) => World,
    limits: Limits,
    known: Knowledge,
    seen: Map<number, number>,
    stack: Choice[],
  ) {
    this.limits = limits;
    this.restless = 0.5 ** (limits.draw === undefined ? 1 : 1 + 6 * limits.draw());
    this.known = known;
    this.seen = seen;
    this.stack = stack;
    this.world = make((memory, n) => {
      this.threads = new Threads(n, known, memory);
      use(this.threads);
    });
  }

  go(): void {
    const { world, threads, limits, stack, seen, known } = this;
    known.active = world.active;
    try {
      for (let t = 0; t < world.threads.length; t++) this.step(t);
      let depth = 0;
      let last = -1;
      let stops = 0;
      for (;;) {
        const ready = this.ready();
        if (ready.length === 0) {
          if (threads.pending.every((p) => p === null)) break;
          if (this.timeouts++ >= limits.timeouts)
            throw new Violation(`all threads sleep: ${this.sleepers()}`);
          for (const p of threads.pending) if (p !== null) p.asleep = false;
          continue;
        }
        const goesOn = ready.includes(last);
        let t = goesOn ? last : ready[0];
        if (world.active() && ready.length > 1 && limits.draw !== undefined) {
          if (!goesOn || limits.draw() < this.restless) t = ready[Math.floor(limits.draw() * ready.length)];
        } else if (world.active() && ready.length > 1) {
          if (depth === stack.length) {
            const bounded = limits.stops < Number.POSITIVE_INFINITY;
            const key = threads.key(bounded && goesOn ? last + 1 : 0);
            const before = seen.get(key);
            if (before !== undefined && before <= stops) return;
            seen.set(key, bounded ? stops : 0);
            const others = goesOn && stops >= limits.stops ? [] : ready.filter((r) => r !== last);
            stack.push({ options: goesOn ? [last, ...others] : others, at: 0 });
          }
          const choice = stack[depth++];
          t = choice.options[choice.at];
        }
        if (goesOn && t !== last) stops++;
        this.step(t);
        last = t;
      }
      world.check();
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw new Violation(`${why}\nafter ${this.order()}`, { cause: error });
    }
  }

  private step(t: number): void {
    const { threads, world } = this;
    threads.current = t;
    this.trace.push(t);
    if (this.trace.length > LONGEST_RUN) throw new Violation('the run does not end');
    const { done, value } = world.threads[t].next();
    threads.pending[t] = done ? null : value;
  }

  private ready(): number[] {
    const ready: number[] = [];
    for (let t = 0; t < this.threads.pending.length; t++) if (this.threads.isReady(t)) ready.push(t);
    return ready;
  }

  private sleepers(): string {
    return this.threads.pending.flatMap((p, t) => (p === null ? [] : [t])).join(', ');
  }

  /** Who ran, in a row: "… 0x12 1x3", at most LONGEST_ORDER of these. */
  private order(): string {
    const parts: string[] = [];
    for (let i = 0; i < this.trace.length; ) {
      let n = i;
      while (n < this.trace.length && this.trace[n] === this.trace[i]) n++;
      parts.push(`${this.trace[i]}x${n - i}`);
      i = n;
    }
    const first = Math.max(0, parts.length - LONGEST_ORDER);
    return `${first > 0 ? '… ' : ''}${parts.slice(first).join(' ')}`;
  }
}
