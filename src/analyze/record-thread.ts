/** The thread that sums connection records up and writes them: takes rows from writer.ts. */
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { ConnectionRecord, ROW_SHIFT } from '../coordinator/record.js';
import { threadNumber } from '../coordinator/slice.js';
import type { RuleNames } from '../output/records/columns.js';
import { openSink } from '../output/records/output.js';
import type { RecordSink } from '../output/records/sinks.js';
import { systemReason } from '../pcap/feed.js';
import { ClosedPipeError } from '../pcap/output-file.js';
import { waitWhile } from '../pcap/patience.js';
import { StreamMerger } from './streams.js';
import { Summarizer } from './summary.js';
import {
  ABORTED,
  type Answer,
  CHUNK_ROWS,
  DONE,
  FAILED,
  HURRIED,
  type Message,
  SAVED,
  SENT,
  THREAD,
  type WriterInit,
  type WriterState,
} from './writer.js';

/** Streams that won't end. */
class GivenUp extends Error {}

/** Runs until it has finished, aborted or failed. */
export function writeRecords(init: WriterInit, port: MessagePort): void {
  const control = new Int32Array(init.control);
  Atomics.store(control, THREAD, threadNumber());
  waitWhile(() => Atomics.load(control, HURRIED) === 0);
  const words = new Int32Array(init.rows);
  const f64 = new Float64Array(init.rows);
  const names = new Map<number, string | null>();
  let ruleOfRow: RuleNames = (stat) => names.get(stat) ?? null;
  const ruleOf: RuleNames = (stat) => ruleOfRow(stat);
  const summarizer = new Summarizer(ruleOf);
  const sinks: RecordSink[] = [];
  const answer = (a: Answer): void => port.postMessage(a);
  const give = (record: ConnectionRecord): void => {
    summarizer.add(record);
    for (const sink of sinks) sink.record(record);
  };
  try {
    init.outputs.forEach((output, i) => {
      sinks.push(openSink(output, ruleOf, init.saved?.sinks[i]));
    });
    if (init.saved !== null) summarizer.restore(init.saved.sums);
    answer({ kind: 'open' });
    for (let seen = 0; ; ) {
      const next = receiveMessageOnPort(port) as { message: Message } | undefined;
      if (next === undefined) {
        const sent = Atomics.load(control, SENT);
        // All that was counted may not have come through yet: a millisecond does no harm.
        Atomics.wait(control, SENT, sent, sent === seen ? 1000 : 1);
        continue;
      }
      seen = (seen + 1) | 0;
      const { message } = next;
      switch (message.kind) {
        case 'rule':
          names.set(message.stat, message.name);
          break;
        case 'rows':
          for (let i = 0; i < message.n; i++) {
            give(new ConnectionRecord(words, f64, (message.chunk * CHUNK_ROWS + i) << ROW_SHIFT));
          }
          Atomics.add(control, DONE, 1);
          Atomics.notify(control, DONE);
          break;
        case 'streams': {
          const merger = new StreamMerger(message.streams, () => {
            if (Atomics.load(control, ABORTED) !== 0) throw new GivenUp();
          });
          ruleOfRow = merger.ruleOf;
          try {
            merger.run(give);
          } catch (error) {
            // The message that says so comes next.
            if (!(error instanceof GivenUp)) throw error;
          }
          break;
        }
        case 'save':
          message.to.postMessage({
            sinks: sinks.map((sink) => sink.save()),
            sums: summarizer.save(),
          } satisfies WriterState);
          Atomics.add(control, SAVED, 1);
          Atomics.notify(control, SAVED);
          break;
        case 'finish':
          for (const sink of sinks) sink.finish();
          answer({ kind: 'done', summed: summarizer.summed(message.share) });
          return;
        case 'abort':
          for (const sink of sinks) sink.abort();
          answer({ kind: 'done', summed: null });
          return;
      }
    }
  } catch (error) {
    for (const sink of sinks) sink.abort();
    const message = error instanceof Error ? error.message : systemReason(error);
    answer({ kind: 'failed', message, closed: error instanceof ClosedPipeError });
    Atomics.store(control, FAILED, 1);
    Atomics.notify(control, DONE);
  }
}
