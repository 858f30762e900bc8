/** Entry point of a process that a benchmark starts: takes requests over the IPC channel, answers each, and ends when
 *  the channel does.
 *
 *      measure  -> result               and that is all
 *      open     -> ready                then as often as wanted
 *      slice    -> slice
 *      counts   -> counts
 *      scene    -> scene                any number of them, numbered from 0; then as often as wanted
 *      round    -> chunks, counts */
import { type MeasureOptions, measure, type ProcessResult } from './measure.js';
import type { Counts } from './resident.js';
import { type Slice, type SliceReady, SliceRunner } from './slices.js';
import type { BenchSpec } from './spec.js';
import { type TurnsReady, TurnsRunner } from './turns.js';

export type ChildRequest =
  | { kind: 'measure'; spec: BenchSpec; options: MeasureOptions }
  | { kind: 'open'; spec: BenchSpec }
  | { kind: 'slice'; packets: number; cold?: boolean }
  | { kind: 'counts' }
  | { kind: 'scene'; spec: BenchSpec }
  | { kind: 'round'; scene: number; packets: number; chunk: number; cold: boolean };

export type ChildAnswer =
  | { result: ProcessResult }
  | { ready: SliceReady }
  | { slice: Slice }
  | { counts: Counts }
  | { scene: TurnsReady }
  | { chunks: number[][]; counts: Counts }
  | { error: string };

let runner: SliceRunner | null = null;
const scenes: TurnsRunner[] = [];

async function answer(request: ChildRequest): Promise<ChildAnswer> {
  if (request.kind === 'measure') return { result: await measure(request.spec, request.options) };
  if (request.kind === 'open') {
    runner = await SliceRunner.open(request.spec);
    return { ready: runner.ready };
  }
  if (request.kind === 'scene') {
    const scene = await TurnsRunner.open(request.spec);
    scenes.push(scene);
    return { scene: scene.ready };
  }
  if (request.kind === 'round') {
    const { packets, chunk, cold } = request;
    const scene = scenes[request.scene];
    return { chunks: await scene.run(packets, chunk, cold), counts: scene.counts() };
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
