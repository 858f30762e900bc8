/** Entry point of a process that a benchmark starts: takes a request over the IPC channel, answers, ends. */
import { type MeasureOptions, measure, type ProcessResult } from './measure.js';
import type { BenchSpec } from './spec.js';

export interface MeasureRequest {
  kind: 'measure';
  spec: BenchSpec;
  options: MeasureOptions;
}

export type ChildAnswer = { result: ProcessResult } | { error: string };

process.once('message', async (request: MeasureRequest) => {
  let answer: ChildAnswer;
  try {
    answer = { result: await measure(request.spec, request.options) };
  } catch (error) {
    answer = { error: (error as Error).message };
  }
  process.send!(answer, () => process.disconnect());
});
