/** Waits that block this thread, for whoever reads an output or for another thread. Nothing of Node runs meanwhile, nor do
 *  handlers of signals: a process that is told to end would not. So a wait that takes longer than usual gives SIGINT and
 *  SIGTERM back what they do to a program without handlers, which ends at once; outputs keep their temporary names.
 *
 *  In other threads than the main one `process` has no handlers, and signals are none of their business. */

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;
const sleepWord = new Int32Array(new SharedArrayBuffer(4));

/** Blocks this thread. */
export function pause(ms: number): void {
  Atomics.wait(sleepWord, 0, 0, ms);
}

/** Waits in such a way that SIGINT and SIGTERM end the process. */
export function mortally<T>(wait: () => T): T {
  const handlers = SIGNALS.map((signal) => process.listeners(signal));
  for (const signal of SIGNALS) process.removeAllListeners(signal);
  try {
    return wait();
  } finally {
    for (const [i, signal] of SIGNALS.entries())
      for (const handler of handlers[i]) process.on(signal, handler);
  }
}

/** Waits for another thread to change a word from `value`, for `ms` at most. `again`: that has been done in vain before. */
export function waitForThread(
  words: Int32Array,
  at: number,
  value: number,
  ms: number,
  again: boolean,
): void {
  if (again) mortally(() => Atomics.wait(words, at, value, ms));
  else Atomics.wait(words, at, value, ms);
}

/** Of this thread: whether those who wait for a reader of an output are to go on waiting. */
let goesOn: () => boolean = () => true;

/** From now on outputs of this thread, having waited for PATIENCE_MS, ask whether to go on waiting. */
export function waitWhile(asked: () => boolean): void {
  goesOn = asked;
}

/** Whether to wait on for a reader after so long. */
export function isWorthwhile(waitedMs: number): boolean {
  return waitedMs < PATIENCE_MS || goesOn();
}

const PATIENCE_MS = 3000;
