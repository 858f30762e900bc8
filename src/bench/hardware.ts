/** What the processor counts: instructions, cycles, misses. `perf stat` (Linux) counts for a process, its workers
 *  included, between two calls; virtual machines often have no such counters. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';

/** Name in results, name in perf. */
const EVENTS = [
  ['instructions', 'instructions:u'],
  ['cycles', 'cycles:u'],
  ['cacheMisses', 'cache-misses:u'],
  ['branchMisses', 'branch-misses:u'],
] as const;

/** Null: not counted here. */
export type Hardware = Record<(typeof EVENTS)[number][0], number | null>;

let counts: boolean | null = null;

/** Whether this machine counts instructions; found out once. */
function isCounting(): boolean {
  if (counts === null) {
    const { status, stderr } = spawnSync('perf', ['stat', '-x,', '-e', EVENTS[0][1], 'true'], {
      encoding: 'utf8',
      timeout: 5000,
    });
    counts = status === 0 && parseCounts(stderr).instructions !== null;
  }
  return counts;
}

/** An event of a kind of core, where a machine has several: `cpu_core/cycles:u/`, or `cpu_core/cycles/u`. */
const ON_CORES = /^\w+\/([\w-]+)(?::u\/|\/u)$/;

/** What `perf stat -x,` says: value, unit, event and more in each line (perf-stat(1), "CSV FORMAT"). The value is a number, or
 *  `<not supported>`, or `<not counted>`. */
export function parseCounts(text: string): Hardware {
  const hardware: Hardware = { instructions: null, cycles: null, cacheMisses: null, branchMisses: null };
  for (const line of text.split('\n')) {
    const [value, , event = ''] = line.split(',');
    const name = event.replace(ON_CORES, '$1:u');
    const [key] = EVENTS.find((known) => known[1] === name) ?? [];
    if (key !== undefined && /^\d+$/.test(value)) hardware[key] = (hardware[key] ?? 0) + Number(value);
  }
  return hardware;
}

export class HardwareCounter {
  private readonly perf: ChildProcess;
  private text = '';

  private constructor() {
    const events = EVENTS.map(([, name]) => name).join(',');
    // Disabled until told otherwise on descriptor 3; says on 4 when that is done.
    const args = ['stat', '-x,', '-e', events, '-D', '-1', '--control', 'fd:3,4', '-p', `${process.pid}`];
    this.perf = spawn('perf', args, { stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'] });
    this.perf.on('error', () => {});
    this.perf.stderr!.on('data', (chunk) => {
      this.text += chunk;
    });
  }

  /** Begins to count for this process. Null if it can't be counted. */
  static async start(): Promise<HardwareCounter | null> {
    if (!isCounting()) return null;
    const counter = new HardwareCounter();
    const [control, said] = [counter.perf.stdio[3] as Writable, counter.perf.stdio[4] as Readable];
    control.on('error', () => {});
    control.write('enable\n');
    await Promise.race([once(said, 'data'), once(counter.perf, 'exit')]);
    if (counter.perf.exitCode === null) return counter;
    counts = false;
    return null;
  }

  async stop(): Promise<Hardware> {
    if (this.perf.exitCode === null) {
      this.perf.kill('SIGINT');
      await once(this.perf, 'close');
    }
    return parseCounts(this.text);
  }
}
