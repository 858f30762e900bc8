/** Records and verdicts for `for await`: an analysis runs beside its consumer, and reads no more packets while so many
 *  items wait. */
import type { Verdict } from '../coordinator/collector.js';
import type { ConnectionRecord } from '../coordinator/record.js';
import { type ReplayResult, replay } from '../coordinator/replay.js';
import { type Analysis, type AnalyzeOptions, analyze, openInput, replayOptions } from './analyze.js';

/** Items that may wait. */
const MOST = 4096;

/** Items as they come, and what is known at the end. Breaking off the loop ends the run. */
export interface Stream<T, R> extends AsyncIterable<T> {
  /** Resolves when all items have been taken; rejects if the run fails, or its loop is broken off. */
  readonly result: Promise<R>;
}

/** What became of a packet. */
export interface PacketVerdict {
  /** Number of the packet, from 1. */
  packet: number;
  /** Time of capture. */
  sec: number;
  nsec: number;
  inPort: number;
  wireLength: number;
  /** One element for every ct() that it went through. */
  ct: readonly { zone: number; state: string }[];
  /** Ports in output order. */
  out: readonly number[];
  /** Why there was no output, or null. */
  reason: string | null;
}

/** A record for each connection of the captures, in the order of `analyze`. */
export function records(
  options: Omit<AnalyzeOptions, 'onRecord' | 'resume' | 'room'>,
): Stream<ConnectionRecord, Analysis> {
  return stream((push, control) => analyze({ ...options, ...control(options.signal), onRecord: push }));
}

/** A verdict for each packet of the captures, in input order. */
export function verdicts(
  options: Omit<AnalyzeOptions, 'onRecord' | 'outputs' | 'resume' | 'room'>,
): Stream<PacketVerdict, ReplayResult> {
  return stream(async (push, control) => {
    const input = await openInput(options);
    const sink = { verdict: (v: Verdict) => push(plain(v)) };
    return replay({ ...replayOptions(options, input), ...control(options.signal), sinks: [sink] });
  });
}

function plain({ packet, sec, nsec, inPort, wireLen, template }: Verdict): PacketVerdict {
  const { ct, out, reason } = template;
  return { packet, sec, nsec, inPort, wireLength: wireLen, ct, out, reason };
}

/** The options that let a consumer hold a run up, and end it. */
interface Control {
  room: () => Promise<void> | null;
  signal: AbortSignal;
}

class BrokenOff extends Error {
  override name = 'BrokenOff';
}

function stream<T, R>(
  start: (push: (item: T) => void, control: (signal?: AbortSignal) => Control) => Promise<R>,
): Stream<T, R> {
  let items: T[] = [];
  let isDone = false;
  /** Wakes the consumer, or the run. */
  let filled = (): void => {};
  let emptied = (): void => {};
  const abort = new AbortController();
  const push = (item: T): void => {
    items.push(item);
    filled();
  };
  const control = (signal?: AbortSignal): Control => ({
    room: () =>
      items.length < MOST || abort.signal.aborted
        ? null
        : new Promise((resolve) => {
            emptied = resolve;
          }),
    signal: signal === undefined ? abort.signal : AbortSignal.any([abort.signal, signal]),
  });
  let result: Promise<R> | null = null;
  const run = (): Promise<R> => {
    result ??= start(push, control).finally(() => {
      isDone = true;
      filled();
    });
    return result;
  };
  async function* iterate(): AsyncGenerator<T, void, void> {
    const ended = run();
    // Reported where it is awaited.
    ended.catch(() => {});
    try {
      for (;;) {
        const batch = items;
        items = [];
        emptied();
        yield* batch;
        if (items.length > 0) continue;
        if (isDone) break;
        await new Promise<void>((resolve) => {
          filled = resolve;
          if (items.length > 0 || isDone) resolve();
        });
      }
      await ended;
    } finally {
      if (!isDone) {
        abort.abort(new BrokenOff('nobody takes the items any more'));
        emptied();
        await ended.catch(() => {});
      }
    }
  }
  return {
    [Symbol.asyncIterator]: iterate,
    get result() {
      return run();
    },
  };
}
