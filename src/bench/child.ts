/** Entry point of a process that a benchmark starts: takes requests over the IPC channel, answers each, and ends when
 *  the channel does.
 *
 *      measure  -> result               and that is all
 *      open     -> ready                then as often as wanted
 *      slice    -> slice
 *      counts   -> counts */
import { type MeasureOptions, measure, type ProcessResult } from './measure.js';
import type { Counts } from './resident.js';
import { type Slice, type SliceReady, SliceRunner } from './slices.js';
import type { BenchSpec } from './spec.js';

export type ChildRequest =
  | { kind: 'measure'; spec: BenchSpec; options: MeasureOptions }
  | { kind: 'open'; spec: BenchSpec }
  | { kind: 'slice'; packets: number; cold?: boolean }
  | { kind: 'counts' };

export type ChildAnswer =
  | { result: ProcessResult }
  | { ready: SliceReady }
  | { slice: Slice }
  | { counts: Counts }
  | { error: string };

let runner: SliceRunner | null = null;

async function answer(request: ChildRequest): Promise<ChildAnswer> {
  if (request.kind === 'measure') return { result: await measure(request.spec, request.options) };
  if (request.kind === 'open') {
    runner = await SliceRunner.open(request.spec);
    return { ready: runner.ready };
  }
  if (runner === null) throw new Error(`"${request.kind}" came before "open"`);
  return request.kind === 'slice'
    ? { slice: await runner.run(request.packets, request.cold === true) }
    : { counts: runner.counts() };
}

process.on('message', async (request: ChildRequest) => {
  let said: ChildAnswer;
  try {
    said = await answer(request);
  } catch (error) {
    said = { error: (error as Error).message };
  }
  // Whoever asked may have gone.
  if (process.connected) process.send!(said);
});
process.on('disconnect', async () => {
  await runner?.stop();
  process.exit();
});
