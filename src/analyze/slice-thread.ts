/** One slice of an analysis, on whichever thread: reads the captures, tracks the connections of its share, and gives their
 *  records to the thread that writes (streams.ts). What slices share is in coordinator/slice.ts; slices.ts starts them. */
import type { MessagePort } from 'node:worker_threads';
import { replay } from '../coordinator/replay.js';
import { Slice, type SliceOptions, SlicesWontDo } from '../coordinator/slice.js';
import type { CaptureReport } from '../pcap/timeline.js';
import { type AnalyzeOptions, openInput, replayOptions, ruleNames, type SliceResult } from './analyze.js';
import { RowStream, type StreamMemory } from './streams.js';
import { checkWriter } from './writer.js';

/** Packets in flight, and bytes that are read at a time: so few that they stay in a core's own cache. */
const WINDOW = 1024;
const SEGMENT_BYTES = 288 << 10;
export const VECTOR = 256;

/** Plain data. */
export interface SliceInit {
  k: number;
  n: number;
  /** Of Slice; of the stream; of RecordWriter. */
  control: SharedArrayBuffer;
  stream: StreamMemory & { port: MessagePort };
  writer: SharedArrayBuffer;
  options: Pick<
    AnalyzeOptions,
    'paths' | 'filter' | 'cutAsIs' | 'ignoreChecksums' | 'jitter' | 'window' | 'vector'
  >;
  slice: SliceOptions;
  ports: readonly number[];
}

/** What the thread says at its end. */
export type SliceAnswer =
  | { kind: 'done'; result: SliceResult; files: readonly CaptureReport[] }
  | { kind: 'failed'; wontDo: boolean; message: string };

type Control = Pick<AnalyzeOptions, 'progress' | 'signal'>;

/** Runs a slice to its end. Rejects with SlicesWontDo if slices can't do what is asked for; then so do all others. */
export async function runSlice(
  init: SliceInit,
  slice: Slice,
  control: Control = {},
): Promise<{ result: SliceResult; files: readonly CaptureReport[] }> {
  const { options, stream: memory, ports } = init;
  const { maxConns } = init.slice;
  const writer = new Int32Array(init.writer);
  const stream = new RowStream(memory, memory.port, () => {
    slice.beat();
    slice.check();
    checkWriter(writer);
  });
  slice.begin();
  try {
    const input = await openInput(options, false, SEGMENT_BYTES);
    const ruleOf = ruleNames(input.tables.pipeline);
    slice.passed = () => stream.mark();
    const { packets, bytes, seconds, captureSeconds, tallies } = await replay({
      ...replayOptions(
        { window: WINDOW, vector: VECTOR, ...options, ...control, maxConns, workers: 1 },
        input,
      ),
      ports,
      slice,
      onRecord: (record) => stream.record(record, ruleOf),
    });
    stream.end();
    const { filtered } = input;
    return {
      result: { packets, bytes, seconds, captureSeconds, tallies, filtered },
      files: input.timeline.reports,
    };
  } catch (error) {
    slice.fail();
    throw error;
  }
}

/** The whole of a thread of its own. */
export async function sliceThread(init: SliceInit, port: MessagePort): Promise<void> {
  const slice = new Slice(init.control, init.k, init.n, init.slice);
  let answer: SliceAnswer;
  try {
    answer = { kind: 'done', ...(await runSlice(init, slice)) };
  } catch (error) {
    answer = { kind: 'failed', wontDo: error instanceof SlicesWontDo, message: (error as Error).message };
  }
  port.postMessage(answer);
}
