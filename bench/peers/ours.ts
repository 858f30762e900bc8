/** Runs bench/replay in a process of its own. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const REPLAY = fileURLToPath(new URL('../replay/main.js', import.meta.url));

/** What bench/replay reports, as far as it is used here. */
export interface OurResult {
  mpps: number;
  mpps_best: number;
  mpps_median: number;
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
  capture: string;
  workers: number;
  warmup: number;
  seconds: number;
  /** Folder for the report. */
  dir: string;
}

export async function measureOurs(o: OurRun, started: (kill: () => void) => void): Promise<OurResult> {
  const json = path.join(o.dir, 'ours.json');
  fs.rmSync(json, { force: true });
  const child = spawn(
    o.node,
    [
      ...[REPLAY, '--in', `1=${o.capture}`, '--flows', o.flows, '--workers', `${o.workers}`],
      ...['--warmup', `${o.warmup}`, '--seconds', `${o.seconds}`, '--json', json],
      ...(o.groups === undefined ? [] : ['--groups', o.groups]),
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  started(() => child.kill('SIGKILL'));
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  const code = await new Promise<number | null>((done, fail) => {
    child.on('error', fail);
    child.on('close', done);
  });
  if (code !== 0) throw new Error(`bench/replay ended with ${code}: ${complaint.trim()}`);
  return JSON.parse(fs.readFileSync(json, 'utf8')) as OurResult;
}
