/** A queueing model of the threads: dispatchers hand bursts of packets to workers, workers run vectors, completions go
 *  back, at most `window` packets are in flight. Threads that have something to do take turns on the cores there are.
 *
 *  Service times are constants, so this is a closed network of D/D/1 stations under round robin, with finite population
 *  `window`; what is random in it is which worker a packet belongs to, which `shares` says. It is simulated event by event,
 *  an event being a burst or a vector. */

export interface Tandem {
  cores: number;
  dispatchers: number;
  /** Packets of each worker, of all; sums up to 1. */
  shares: readonly number[];
  /** Nanoseconds a packet. */
  dispatch: number;
  collect: number;
  work: number;
  /** Nanoseconds to get a sleeping thread to run. */
  wake: number;
  window: number;
  burst: number;
  vector: number;
}

export interface Outcome {
  mpps: number;
  /** Part of its time that a dispatcher, and that the busiest worker, has been at work. */
  dispatcherBusy: number;
  workerBusy: number;
}

/** A thread: ready at a time, or asleep (Infinity). */
interface Thread {
  dispatcher: boolean;
  id: number;
  readyAt: number;
  asleep: boolean;
  busy: number;
}

/** Equal shares for `n` workers behind an indirection table of `entries`. */
export function sharesOf(n: number, entries = 128): number[] {
  const shares = new Array<number>(n).fill(0);
  for (let i = 0; i < entries; i++) shares[i % n] += 1 / entries;
  return shares;
}

/** Runs `packets` packets of each dispatcher through. */
export function simulate(t: Tandem, packets = 2_000_000): Outcome {
  const { dispatchers, shares } = t;
  const n = shares.length;
  const mains: Thread[] = Array.from({ length: dispatchers }, (_, id) => thread(true, id));
  const workers: Thread[] = Array.from({ length: n }, (_, id) => thread(false, id));
  const cores = new Float64Array(t.cores);
  // By dispatcher and worker: waiting, done; parts of packets that shares leave over.
  const queue = new Float64Array(dispatchers * n);
  const owed = new Float64Array(dispatchers * n);
  const done = new Float64Array(dispatchers);
  const inFlight = new Float64Array(dispatchers);
  const collected = new Float64Array(dispatchers);
  const wake = (other: Thread, at: number) => {
    if (!other.asleep) return;
    other.asleep = false;
    other.readyAt = at + t.wake;
  };

  /** What a thread does when it gets a core; returns how long it takes, 0 if there is nothing. */
  const runMain = (m: Thread): number => {
    const room = Math.min(t.burst, t.window - inFlight[m.id]);
    const back = done[m.id];
    done[m.id] = 0;
    inFlight[m.id] += room - back;
    collected[m.id] += back;
    for (let w = 0; w < n; w++) {
      const at = m.id * n + w;
      owed[at] += room * shares[w];
      const whole = Math.floor(owed[at]);
      owed[at] -= whole;
      queue[at] += whole;
    }
    return room * t.dispatch + back * t.collect;
  };
  const runWorker = (w: Thread): number => {
    let left = t.vector;
    for (let k = 0; k < dispatchers && left > 0; k++) {
      const m = (w.id + k) % dispatchers;
      const at = m * n + w.id;
      const take = Math.min(left, queue[at]);
      queue[at] -= take;
      done[m] += take;
      left -= take;
    }
    return (t.vector - left) * t.work;
  };

  const threads = [...mains, ...workers];
  const most = packets * dispatchers;
  let end = 0;
  for (let total = 0; total < most; ) {
    // The core that is free first takes the thread that has been ready longest.
    let core = 0;
    for (let c = 1; c < cores.length; c++) if (cores[c] < cores[core]) core = c;
    let next: Thread | null = null;
    for (const other of threads) {
      if (!other.asleep && (next === null || other.readyAt < next.readyAt)) next = other;
    }
    if (next === null) throw new Error('model: all threads sleep');
    const began = Math.max(cores[core], next.readyAt);
    const took = next.dispatcher ? runMain(next) : runWorker(next);
    end = began + took;
    cores[core] = end;
    next.busy += took;
    next.readyAt = end;
    if (took === 0) {
      next.asleep = true;
    } else if (next.dispatcher) {
      for (const w of workers) if (queue[next.id * n + w.id] > 0) wake(w, end);
    } else {
      for (const m of mains) if (done[m.id] > 0) wake(m, end);
    }
    total = collected.reduce((a, b) => a + b);
  }
  const total = collected.reduce((a, b) => a + b);
  return {
    mpps: (total / end) * 1000,
    dispatcherBusy: Math.max(...mains.map((m) => m.busy)) / end,
    workerBusy: Math.max(...workers.map((w) => w.busy)) / end,
  };
}

function thread(dispatcher: boolean, id: number): Thread {
  return { dispatcher, id, readyAt: 0, asleep: false, busy: 0 };
}
