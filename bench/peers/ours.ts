/** Runs one of our benchmarks in a process of its own, as Open vSwitch is one. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Arrival } from './ovs.js';

const REPLAY = fileURLToPath(new URL('../replay/main.js', import.meta.url));
const CONNTRACK = fileURLToPath(new URL('conntrack.js', import.meta.url));

/** What bench/replay reports, as far as it is used here. */
export interface OurResult {
  mpps: number;
  mpps_best: number;
  mpps_median: number;
  gbps: number;
  connections: number;
  shared_bytes_per_connection: number | null;
  cpu_ns_per_packet: number;
  upcalls: number;
  node: string;
}

export interface OurRun {
  node: string;
  flows: string;
  groups?: string | undefined;
  arrivals: readonly Arrival[];
  outputs: readonly number[];
  workers: number;
  warmup: number;
  seconds: number;
  /** Folder for the report. */
  dir: string;
}

/** Told how to end what has been started. */
export type Started = (kill: () => void) => void;

export async function measureOurs(o: OurRun, started: Started): Promise<OurResult> {
  const json = path.join(o.dir, 'ours.json');
  fs.rmSync(json, { force: true });
  await child(
    o.node,
    [
      ...[REPLAY, '--flows', o.flows, '--workers', `${o.workers}`],
      ...o.arrivals.flatMap((a) => ['--in', `${a.port}=${a.capture}`]),
      ...(o.outputs.length > 0 ? ['--ports', o.outputs.join(',')] : []),
      ...['--warmup', `${o.warmup}`, '--warm-rounds', '2', '--seconds', `${o.seconds}`, '--json', json],
      ...(o.groups === undefined ? [] : ['--groups', o.groups]),
    ],
    started,
  );
  return JSON.parse(fs.readFileSync(json, 'utf8')) as OurResult;
}

/** Our tracker on what `ovstest test-conntrack benchmark` sends. */
export interface TrackerResult {
  mpps: number;
  node: string;
}

export async function measureTracker(
  node: string,
  packets: number,
  batch: number,
  started: Started,
): Promise<TrackerResult> {
  const text = await child(
    node,
    [CONNTRACK, '--packets', `${packets}`, '--batch', `${batch}`, '--json'],
    started,
  );
  return JSON.parse(text) as TrackerResult;
}

/** What a command prints. Throws Error with what it complains about if it fails. */
export async function child(command: string, args: readonly string[], started: Started): Promise<string> {
  const process = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  started(() => process.kill('SIGKILL'));
  let text = '';
  let complaint = '';
  process.stdout.setEncoding('utf8').on('data', (more: string) => {
    text += more;
  });
  process.stderr.setEncoding('utf8').on('data', (more: string) => {
    complaint += more;
  });
  const code = await new Promise<number | null>((done, fail) => {
    process.on('error', fail);
    process.on('close', done);
  });
  started(() => {});
  if (code !== 0) throw new Error(`${args[0] ?? command} ended with ${code}: ${complaint.trim()}`);
  return text;
}
