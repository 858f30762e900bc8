/** Runs fuzzers, each in a process of its own, and watches them: what breaks a property, crashes the process, hangs it
 *  or takes its memory ends that fuzzer, with the input that did it. */
import { fork } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { LoopMessage, LoopOptions } from './loop.js';
import { NOTHING, type Progress } from './progress.js';
import { TARGETS } from './targets.js';

export interface FuzzOptions {
  seed: number;
  seconds: number;
  inputs?: number;
  bug?: LoopOptions['bug'];
  guard?: boolean;
  blind?: boolean;
  /** An input that takes longer hangs. */
  hangSeconds?: number;
  /** The loop of a copy of the product (mutants.ts). */
  loop?: URL;
}

export interface Outcome {
  target: string;
  progress: Progress;
  /** What was broken, and by which input, in hex; null: nothing. */
  broken: { why: string; input: string } | null;
  /** Inputs that made new code run. */
  kept: string[];
}

export const NAMES: readonly string[] = TARGETS.map((make) => make(false).name);
const HANG_SECONDS = 60;
const MOST_HEAP_MB = 1024;

/** Runs the fuzzer of this name. */
export async function fuzz(name: string, o: FuzzOptions): Promise<Outcome> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-fuzz-'));
  const state = path.join(folder, 'state');
  fs.writeFileSync(state, new Uint8Array(8));
  const options: LoopOptions = {
    target: NAMES.indexOf(name),
    seed: o.seed,
    seconds: o.seconds,
    inputs: o.inputs ?? Infinity,
    bug: o.bug ?? 'none',
    guard: o.guard ?? false,
    blind: o.blind ?? false,
    state,
  };
  // JSON has no infinity.
  const text = JSON.stringify({ ...options, inputs: Math.min(options.inputs, Number.MAX_SAFE_INTEGER) });
  const child = fork(fileURLToPath(o.loop ?? new URL('./loop.js', import.meta.url)), [text], {
    execArgv: ['--expose-gc', `--max-old-space-size=${MOST_HEAP_MB}`],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  const outcome: Outcome = { target: name, progress: NOTHING, broken: null, kept: [] };
  let done = false;
  let stderr = '';
  child.stderr!.on('data', (text: Buffer) => {
    stderr = (stderr + text.toString()).slice(-4000);
  });
  child.on('message', (message: LoopMessage) => {
    if (message.kind === 'progress' || message.kind === 'done') outcome.progress = message.progress;
    if (message.kind === 'kept') outcome.kept.push(message.input);
    if (message.kind === 'broken') outcome.broken = { why: message.why, input: message.input };
    done ||= message.kind === 'done' || message.kind === 'broken';
  });
  /** Which input it is at. */
  const current = (): { number: number; input: string } => {
    const bytes = fs.readFileSync(state);
    const length = bytes.readUInt32LE(4);
    return { number: bytes.readUInt32LE(0), input: bytes.subarray(8, 8 + length).toString('hex') };
  };
  const limit = o.hangSeconds ?? HANG_SECONDS;
  let last = -1;
  let since = { wall: performance.now(), cpu: cpuSeconds(child.pid) };
  const watch = setInterval(() => {
    const { number, input } = current();
    const now = { wall: performance.now(), cpu: cpuSeconds(child.pid) };
    if (number !== last) {
      last = number;
      since = now;
      return;
    }
    // Where others want the processor too, little of it is left for this; but it may wait for nothing, too.
    const hangs = now.cpu - since.cpu > limit || now.wall - since.wall > limit * 10_000;
    if (done || !hangs) return;
    outcome.broken ??= { why: `an input has taken more than ${limit} s`, input };
    child.kill('SIGKILL');
  }, 250);
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) => {
    child.on('close', (c, s) => resolve([c, s]));
  });
  clearInterval(watch);
  if (!done && outcome.broken === null) {
    const why = `the process has ended by ${signal ?? `exit code ${code}`}: ${stderr}`;
    outcome.broken = { why, input: current().input };
  }
  fs.rmSync(folder, { recursive: true, force: true });
  return outcome;
}

/** Processor time of a process; 0 where nobody tells. */
function cpuSeconds(pid: number | undefined): number {
  try {
    const fields = fs.readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ')[1].split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100;
  } catch {
    return 0;
  }
}
