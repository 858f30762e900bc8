/** A fuzzer's process: one target, until its time is over or something is broken. Before each input it writes down which
 *  it is, so that whoever watches it knows what made it crash, or hang, or take too much memory.
 *
 *      node loop.js '{"target": ..., "seed": ..., ...}'      messages to the parent: see LoopMessage */
import fs from 'node:fs';
import { auditAll } from '../support/canaries.js';
import { guardSharedMemory } from '../support/guard.js';
import { type Bytes, Random } from '../support/packets.js';
import { readCorpus } from './corpus.js';
import { Coverage } from './coverage.js';
import { NOTHING, type Progress } from './progress.js';
import type { Target, Work } from './target.js';

export interface LoopOptions {
  target: number;
  seed: number;
  seconds: number;
  /** Inputs to run at most. */
  inputs: number;
  bug: 'none' | 'property' | 'throw' | 'hang' | 'memory' | 'exit';
  guard: boolean;
  /** Where the input is written down. */
  state: string;
  /** No coverage: faster. */
  blind: boolean;
}

export type LoopMessage =
  | { kind: 'progress'; progress: Progress }
  | { kind: 'kept'; input: string }
  | { kind: 'broken'; input: string; why: string }
  | { kind: 'done'; progress: Progress };

/** Between two looks at the coverage. */
const BATCH = 4096;
const BATCH_MS = 500;
/** More than this beyond what there was after the seeds is taken for a leak. */
const MOST_GROWTH = 700 * 2 ** 20;
/** What is still in use after a garbage collection, every so often, may have grown by so much: corpus and coverage, and no
 *  more. */
const MOST_HELD = 256 * 2 ** 20;
const COLLECT_MS = 10_000;

const options = JSON.parse(process.argv[2]) as LoopOptions;
if (options.guard) guardSharedMemory();
const audits = auditAll();
// After the guard, so that what is allocated on loading is guarded, too.
const { TARGETS } = await import('./targets.js');
const target: Target = TARGETS[options.target](options.bug === 'property');

const state = fs.openSync(options.state, 'r+');
const header = new Uint32Array(2);
const r = new Random(options.seed);
const coverage = target.guided && !options.blind ? new Coverage() : null;
const progress: Progress = { ...NOTHING };

function send(message: LoopMessage): Promise<void> {
  return new Promise((resolve) => process.send!(message, undefined, undefined, () => resolve()));
}

const hex = (b: Bytes): string => Buffer.from(b.buffer, b.byteOffset, b.length).toString('hex');

function writeDown(input: Bytes): void {
  header[0] = ++serial;
  header[1] = input.length;
  fs.writeSync(state, new Uint8Array(header.buffer), 0, 8, 0);
  fs.writeSync(state, input, 0, input.length, 8);
}
let serial = 0;

/** Runs an input; false if something is broken, which has been told. */
async function one(input: Bytes): Promise<boolean> {
  progress.inputs++;
  writeDown(input);
  try {
    if (progress.inputs > 20 && options.bug !== 'property') await misbehave();
    const work: Work = await target.run(input);
    progress.files += work.files;
    progress.packets += work.packets;
    return true;
  } catch (error) {
    const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
    await send({ kind: 'broken', input: hex(input), why });
    return false;
  }
}

/** Deliberate bugs of the product's process. */
async function misbehave(): Promise<void> {
  switch (options.bug) {
    case 'throw':
      throw new TypeError('deliberate bug');
    case 'hang':
      for (;;);
    case 'exit':
      process.kill(process.pid, 'SIGSEGV');
      break;
    case 'memory':
      leak.push(new Uint8Array(64 << 20).fill(1));
      break;
  }
}
const leak: Uint8Array[] = [];

/** Of inputs that have made new code run together, which is forgotten again: those that do, in turn. */
async function pick(inputs: readonly Bytes[], blocks: Coverage): Promise<readonly Bytes[]> {
  for (const input of inputs) {
    writeDown(input);
    await target.run(input);
  }
  if (blocks.take() === 0) return [];
  if (inputs.length === 1) return inputs;
  blocks.forgetLast();
  const half = inputs.length >> 1;
  return [...(await pick(inputs.slice(0, half), blocks)), ...(await pick(inputs.slice(half), blocks))];
}

/** What is in use, garbage apart. */
function held(): number {
  globalThis.gc?.();
  const { heapUsed, external, arrayBuffers } = process.memoryUsage();
  return heapUsed + Math.max(external, arrayBuffers);
}

async function main(): Promise<void> {
  const seeds = [...target.seeds(), ...readCorpus(target.name)];
  const corpus: Bytes[] = seeds.length > 0 ? seeds : [r.bytes(4)];
  coverage?.start();
  for (const seed of seeds) if (!(await one(seed))) return;
  coverage?.take();
  const began = performance.now();
  let told = began;
  let collected = began;
  const heldAtFirst = held();
  const base = process.memoryUsage.rss();
  while (progress.inputs < options.inputs && performance.now() - began < options.seconds * 1000) {
    const batch: Bytes[] = [];
    const until = performance.now() + BATCH_MS;
    while (batch.length < BATCH && performance.now() < until && progress.inputs < options.inputs) {
      // The youngest are the most promising.
      const from = r.once(2) ? Math.max(0, corpus.length - 50) : 0;
      const input = target.mutate(r, corpus[from + r.int(corpus.length - from)], corpus);
      batch.push(input);
      if (!(await one(input))) return;
    }
    const rss = process.memoryUsage.rss();
    progress.peakBytes = Math.max(progress.peakBytes, rss);
    if (rss - base > MOST_GROWTH) {
      const why = `memory has grown by ${Math.round((rss - base) / 2 ** 20)} MiB; these were the last inputs`;
      await send({ kind: 'broken', input: hex(batch[batch.length - 1]), why });
      return;
    }
    if (performance.now() - collected > COLLECT_MS) {
      collected = performance.now();
      const now = held();
      progress.heldBytes = Math.max(progress.heldBytes, now);
      if (now - heldAtFirst > MOST_HELD) {
        const why = `memory has grown by ${Math.round((now - heldAtFirst) / 2 ** 20)} MiB that are no garbage; these were the last inputs`;
        await send({ kind: 'broken', input: hex(batch[batch.length - 1]), why });
        return;
      }
    }
    if (coverage !== null && coverage.take() > 0) {
      coverage.forgetLast();
      for (const input of await pick(batch, coverage)) {
        corpus.push(input);
        progress.kept++;
        await send({ kind: 'kept', input: hex(input) });
      }
    }
    if (performance.now() - told > 1000) {
      told = performance.now();
      progress.blocks = coverage?.size ?? 0;
      progress.audits = audits();
      await send({ kind: 'progress', progress });
    }
  }
  progress.blocks = coverage?.size ?? 0;
  progress.audits = audits();
  progress.heldBytes = Math.max(progress.heldBytes, held());
  await send({ kind: 'done', progress });
}

await main();
process.disconnect?.();
