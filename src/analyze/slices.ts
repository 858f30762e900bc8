/** An analysis by several threads that each read everything and track a share of the connections (coordinator/slice.ts).
 *  The first slice runs on this thread; another thread merges their records and writes them. */
import fs from 'node:fs';
import { availableParallelism } from 'node:os';
import { isDeepStrictEqual } from 'node:util';
import { MessageChannel, Worker } from 'node:worker_threads';
import { DEFAULT_MAX_CONNS } from '../coordinator/fabric.js';
import { joinTallies } from '../coordinator/records.js';
import { WATCHDOG } from '../coordinator/replay.js';
import { PATIENCE_MS, Slice, SlicesWontDo } from '../coordinator/slice.js';
import { isPlainCapture } from '../pcap/open.js';
import type { CaptureReport } from '../pcap/timeline.js';
import { checkRoom } from '../shm/room.js';
import type { Analysis, AnalyzeOptions, SliceResult } from './analyze.js';
import type { Inputs } from './inputs.js';
import { reconcile, sum } from './reconcile.js';
import { runSlice, type SliceAnswer, type SliceInit, VECTOR } from './slice-thread.js';
import { allocateStream } from './streams.js';
import { RecordWriter } from './writer.js';

/** More threads gain little: each reads all packets. */
const MOST_SLICES = 4;
/** Bytes of captures for which another thread is worth its start. */
const LEAST_BYTES = 1 << 30;

/** How many slices an analysis is to have; 0: none, it has to be done otherwise. Each slice opens the captures by itself,
 *  so they must be there to be read more than once, and not have to be decompressed every time. */
export function slicesOf(options: AnalyzeOptions, paths: readonly string[]): number {
  const {
    outputs = [],
    flows,
    events = [],
    workers,
    portMap,
    resume,
    bucket,
    onRecord,
    fault,
    room,
  } = options;
  const tracksAll = flows === undefined || (typeof flows === 'object' && flows.builtIn === true);
  const given = [portMap, resume, bucket, onRecord, fault, room].some((o) => o !== undefined);
  if (workers === 0 || !tracksAll || given || events.length > 0) return 0;
  // It may have to begin anew, which what has been written into a pipe can't.
  if (outputs.some((o) => !isReplaceable(o.path))) return 0;
  let bytes = 0;
  for (const path of paths) {
    if (!isPlainCapture(path)) return 0;
    bytes += fs.statSync(path).size;
  }
  if (workers !== undefined) return workers;
  return bytes < LEAST_BYTES ? 1 : Math.min(MOST_SLICES, availableParallelism());
}

/** Whether what is written there before a failure is gone when it is written again. */
function isReplaceable(path: string): boolean {
  const stat = path === '-' ? null : fs.statSync(path, { throwIfNoEntry: false });
  return (
    path === '/dev/null' || stat === undefined || stat?.isFile() === true || stat?.isDirectory() === true
  );
}

/** The slices of other threads. */
interface Others {
  workers: readonly Worker[];
  answers: Promise<readonly { result: SliceResult; files: readonly CaptureReport[] }[]>;
}

/** Rejects with SlicesWontDo if it has to be done otherwise; then outputs are as if nothing had begun. */
export async function analyzeInSlices(
  options: AnalyzeOptions,
  { paths, passedOver }: Inputs,
  n: number,
): Promise<Analysis> {
  const { outputs = [], flows, filter, cutAsIs, ignoreChecksums, jitter, window, vector, stop } = options;
  const maxConns = options.maxConns ?? DEFAULT_MAX_CONNS;
  const ports = typeof flows === 'object' ? flows.ports : [...new Set([1, ...(options.ports ?? [])])];
  // Besides this one, which is a slice: the others, and the one that writes.
  checkRoom(n);
  const control = Slice.allocate(n);
  const watchdog = options.watchdog ?? WATCHDOG;
  const sliceOptions = { maxConns, vector: vector ?? VECTOR, watchdog };
  const slice = new Slice(control, 0, n, sliceOptions);
  const writer = RecordWriter.start(outputs, [options.signal, stop]);
  const inits: SliceInit[] = [];
  const readers = Array.from({ length: n }, (_, k) => {
    const { port1, port2 } = new MessageChannel();
    const memory = allocateStream();
    inits.push({
      ...{ k, n, control, ports },
      slice: { ...sliceOptions, ...(k === 0 ? {} : { fault: options.sliceFault }) },
      stream: { ...memory, port: port1 },
      writer: writer.controlMemory,
      options: { paths, filter, cutAsIs, ignoreChecksums, jitter, window, vector },
    });
    return { ...memory, port: port2 };
  });
  writer.take(readers);
  const others = start(inits.slice(1), slice);
  const onStop = (): void => slice.stop();
  if (stop?.aborted) onStop();
  stop?.addEventListener('abort', onStop, { once: true });
  try {
    const { progress, signal } = options;
    const own = await runSlice(inits[0], slice, { progress, signal });
    const all = [own, ...(await others.answers)];
    for (const { files } of all) {
      if (!isDeepStrictEqual(files, own.files))
        throw new SlicesWontDo('a capture has changed while it was read');
    }
    const { files, result } = own;
    const { counted, summary } = await writer.finish(false);
    const tallies = joinTallies(all.map((a) => a.result.tallies));
    const { filtered } = result;
    const elsewhere = { packets: 0, bytes: 0 };
    const unreadable = sum(files.map((f) => f.unreadable));
    const reconciliation = reconcile(files, tallies, counted, { filtered, elsewhere, unreadable });
    return {
      ...{ files, passedOver, reconciliation },
      // As for every analysis without a flow table.
      summary: { ...summary, drops: [] },
      share: null,
      result: { ...result, tallies },
    };
  } catch (error) {
    slice.fail();
    const wrong = await writer.abort();
    // What an output or another slice has failed of comes before what it has led to here.
    const theirs =
      error instanceof SlicesWontDo
        ? await others.answers.then(
            () => null,
            (e: Error) => e,
          )
        : null;
    throw wrong ?? theirs ?? error;
  } finally {
    stop?.removeEventListener('abort', onStop);
    await Promise.all(others.workers.map((w) => w.terminate()));
    for (const { stream } of inits) stream.port.close();
  }
}

function start(inits: readonly SliceInit[], own: Slice): Others {
  const file = new URL('../../workers/slice.js', import.meta.url);
  const workers = inits.map(
    (init) => new Worker(file, { workerData: init, transferList: [init.stream.port] }),
  );
  const answers = Promise.all(
    workers.map(
      (worker, i) =>
        new Promise<{ result: SliceResult; files: readonly CaptureReport[] }>((resolve, reject) => {
          let answered = false;
          const fail = (error: Error): void => {
            clearInterval(timer);
            if (answered) return;
            own.fail();
            reject(error);
          };
          const look = own.watch(inits[i].k);
          const timer = setInterval(() => {
            try {
              look();
            } catch (error) {
              // Why it has died is told of as an error.
              if (!(error instanceof SlicesWontDo)) fail(error as Error);
            }
          }, PATIENCE_MS);
          worker.once('message', (answer: SliceAnswer) => {
            if (answer.kind === 'done') {
              answered = true;
              clearInterval(timer);
              resolve(answer);
            } else fail(answer.wontDo ? new SlicesWontDo(answer.message) : new Error(answer.message));
          });
          worker.once('error', fail);
          worker.once('exit', (code) => fail(new Error(`the thread of a slice ended with ${code}`)));
        }),
    ),
  );
  // Looked at where this thread's own slice has ended.
  answers.catch(() => {});
  return { workers, answers };
}
