/** `shardtrack analyze` and its peers as whole processes: what each costs for a capture, in turn. For bench:analyze and bench:peers. */
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const CLI = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

interface Contender {
  name: string;
  program: string;
  /** `file` names one that goes away. */
  args: (capture: string, file: (name: string) => string) => string[];
}

const OURS = 'shardtrack';

const ours = (workers: string): Contender => ({
  name: `${OURS} --workers ${workers}`,
  program: OURS,
  args: (capture, file) => [
    CLI,
    'analyze',
    capture,
    '--quiet',
    '--workers',
    workers,
    '-o',
    file('records.parquet'),
  ],
});

const CONTENDERS: readonly Contender[] = [
  ours('0'),
  ours('auto'),
  { name: 'softflowd', program: 'softflowd', args: (c) => ['-r', c, '-n', '127.0.0.1:9'] },
  { name: 'nfpcapd', program: 'nfpcapd', args: (c, file) => ['-r', c, '-l', file('')] },
  { name: 'argus', program: 'argus', args: (c, file) => ['-r', c, '-w', file('argus.out')] },
  {
    name: 'tshark conv',
    program: 'tshark',
    args: (c) => ['-r', c, '-q', '-z', 'conv,tcp', '-z', 'conv,udp'],
  },
];

export interface Cost {
  /** Seconds by the clock, and of processors. */
  wall: number;
  cpu: number;
  /** Peak resident memory in MB. */
  memory: number;
}

/** Runs a process to its end. Its CPU time is that of all children so far, less what it was before. */
async function cost(program: string, args: string[], started: (stop: () => void) => void): Promise<Cost> {
  const began = performance.now();
  const command = ['-c', 'TIMEFORMAT="%U %S"; time "$0" "$@" >/dev/null 2>&1', program, ...args];
  const child = spawn('bash', command, { stdio: ['ignore', 'ignore', 'pipe'], detached: true });
  // The group: the shell, and what it measures.
  started(() => process.kill(-child.pid!, 'SIGKILL'));
  let text = '';
  child.stderr.on('data', (b: Buffer) => {
    text += b;
  });
  let memory = 0;
  const timer = setInterval(() => {
    memory = Math.max(memory, peakOf(child.pid!));
  }, 20);
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  clearInterval(timer);
  started(() => {});
  if (code !== 0) throw new Error(`${program} ended with ${code}`);
  const [user, sys] = text.trim().split(/\s+/).map(Number);
  return { wall: (performance.now() - began) / 1000, cpu: user + sys, memory };
}

/** MB of the children of a shell. */
function peakOf(pid: number): number {
  try {
    const children = fs.readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
    return Math.max(
      0,
      ...children.filter(Boolean).map((child) => {
        const status = fs.readFileSync(`/proc/${child}/status`, 'utf8');
        return Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024;
      }),
    );
  } catch {
    return 0;
  }
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

/** A contender and what it took in each round. */
export interface Costs {
  name: string;
  rounds: Cost[];
}

export interface MeasureOptions {
  capture: string;
  rounds: number;
  /** That runs our side. */
  node: string;
  /** Called after each run, and with what ends the one that goes on. */
  progress?: (costs: readonly Costs[]) => void;
  started?: (stop: () => void) => void;
}

/** Those that are not installed are left out, and `missing` named. Rejects with Error if one fails. */
export async function measureAnalyzers(
  o: MeasureOptions,
  missing: (program: string) => void,
): Promise<Costs[]> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'bench-analyze-'));
  const file = (name: string): string => path.join(folder, name);
  const there = CONTENDERS.filter(({ program }) => {
    const found = program === OURS || spawnSync('sh', ['-c', 'command -v "$0"', program]).status === 0;
    if (!found) missing(program);
    return found;
  });
  const costs = there.map(({ name }): Costs => ({ name, rounds: [] }));
  try {
    for (let round = 0; round < o.rounds; round++) {
      for (const [i, c] of there.entries()) {
        fs.rmSync(file('argus.out'), { force: true });
        const program = c.program === OURS ? o.node : c.program;
        costs[i].rounds.push(await cost(program, c.args(o.capture, file), o.started ?? (() => {})));
        o.progress?.(costs);
      }
    }
    return costs;
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/** Made traffic of TCP, UDP, ICMP and SCTP, IMIX sizes. Throws Error if it cannot be made. */
export function makeMixed(capture: string, packets: number): void {
  const life = ['--connections', String(Math.ceil(packets / 50)), '--life', '40'];
  const made = ['generate', 'imix', capture, '--quiet', '--packets', String(packets), ...life];
  const { status } = spawnSync(process.execPath, [CLI, ...made], { stdio: 'inherit' });
  if (status !== 0) throw new Error(`shardtrack ${made.join(' ')} ended with ${status}`);
}

/** Medians over the rounds, and the highest peak of memory, as a Markdown table, with our best wall time by that of the fastest other. */
export function costTable(costs: readonly Costs[]): string {
  const rows = costs
    .filter((c) => c.rounds.length > 0)
    .map(({ name, rounds }) => ({
      name,
      wall: median(rounds.map((c) => c.wall)),
      cpu: median(rounds.map((c) => c.cpu)),
      memory: Math.max(...rounds.map((c) => c.memory)),
    }));
  let text = '| | wall s | CPU s | peak MB |\n| --- | ---: | ---: | ---: |\n';
  for (const r of rows)
    text += `| ${r.name} | ${r.wall.toFixed(2)} | ${r.cpu.toFixed(2)} | ${r.memory.toFixed(0)} |\n`;
  const [us, others] = [true, false].map((our) =>
    rows.filter((r) => r.name.startsWith(OURS) === our).map((r) => r.wall),
  );
  if (us.length > 0 && others.length > 0) {
    text += `\n${(Math.min(...us) / Math.min(...others)).toFixed(2)} of the wall time of the fastest other\n`;
  }
  return text;
}
