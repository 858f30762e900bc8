/** SIGINT and SIGTERM while a command runs. */

/** What a signal has asked for has to be done by then; else something hangs. */
const GRACE_MS = 5000;

/** Calls `handle` with every SIGINT and SIGTERM until the function that it returns is called. If `handle` says so, and for every
 *  signal but the first, the command has to end soon: if it does not, the process ends as one without handlers. */
export function onSignals(handle: (signal: NodeJS.Signals) => 'ends soon' | 'ends in order'): () => void {
  let again = false;
  let timer: NodeJS.Timeout | undefined;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (handle(signal) === 'ends soon' || again) {
      timer ??= setTimeout(() => {
        off();
        process.kill(process.pid, signal);
      }, GRACE_MS);
    }
    again = true;
  };
  const off = (): void => {
    clearTimeout(timer);
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  return off;
}

/** The same for a command that a signal aborts, with an InterruptedError for a reason. */
export function abortOnSignals(abort: AbortController): () => void {
  return onSignals((signal) => {
    abort.abort(new InterruptedError(signal));
    return 'ends soon';
  });
}

/** SIGINT or SIGTERM has ended a command. */
export class InterruptedError extends Error {
  override name = 'InterruptedError';
  readonly signal: NodeJS.Signals;

  /** `why`: what could not be done any more. */
  constructor(signal: NodeJS.Signals, why?: unknown) {
    super(`interrupted by ${signal}${why === undefined ? '' : `: ${(why as Error).message}`}`);
    this.signal = signal;
  }
}
