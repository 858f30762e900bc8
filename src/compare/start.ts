/** What a whole run of the program costs: from its start to its end, with reading and writing. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import { cliOf, type Side } from './sides.js';

export interface StartOptions {
  /** Arguments of `shardtrack replay` of each side. */
  base: readonly string[];
  candidate: readonly string[];
}

/** Loaded before the program: writes what the process has cost, in microseconds, to descriptor 3 when it exits. */
const REPORTER = `data:text/javascript,${encodeURIComponent(
  "import fs from 'node:fs';" +
    "process.on('exit', () => { const { user, system } = process.cpuUsage(); fs.writeSync(3, String(user + system)); });",
)}`;

/** Milliseconds of processor time of one run, all threads. Throws Error with what it says if it fails. */
export async function startTime(
  side: Side,
  args: readonly string[],
  signal: AbortSignal | undefined,
): Promise<number> {
  const child: ChildProcess = spawn(side.node, ['--import', REPORTER, cliOf(side), 'replay', ...args], {
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    signal,
    killSignal: 'SIGKILL',
  });
  const exit = once(child, 'exit');
  const [said, cost] = await Promise.all([text(child.stderr!), text(child.stdio[3] as Readable)]);
  const [code] = await exit;
  if (code !== 0) throw new Error(`${side.label}: replay ended with ${code}: ${said}`);
  return Number(cost) / 1000;
}
