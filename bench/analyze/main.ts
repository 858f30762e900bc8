/** How long does `shardtrack analyze` take for a capture, beside argus, softflowd, nfpcapd and tshark?
 *
 *  Whole processes, start-up included, in turn; wall time, CPU time and peak memory, medians over the rounds. What each
 *  writes: Shardtrack Parquet, argus and nfpcapd their files, softflowd NetFlow to nobody, tshark a list. Those that
 *  are not installed (argus-server, softflowd, nfdump, tshark of Debian) are left out.
 *
 *      npm run bench:analyze -- --packets 1000000 --rounds 5 [--json FILE] [CAPTURE] */
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { wholeNumber } from '../../src/cli/options.js';

const CLI = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'bench-analyze-'));
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
const file = (name: string): string => path.join(folder, name);

interface Contender {
  name: string;
  program: string;
  args: (capture: string) => string[];
}

const ours = (workers: string): Contender => ({
  name: `shardtrack --workers ${workers}`,
  program: process.execPath,
  args: (capture) => [
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
  { name: 'nfpcapd', program: 'nfpcapd', args: (c) => ['-r', c, '-l', folder] },
  { name: 'argus', program: 'argus', args: (c) => ['-r', c, '-w', file('argus.out')] },
  {
    name: 'tshark conv',
    program: 'tshark',
    args: (c) => ['-r', c, '-q', '-z', 'conv,tcp', '-z', 'conv,udp'],
  },
];

interface Cost {
  wall: number;
  cpu: number;
  /** Peak resident memory in MB. */
  memory: number;
}

/** Runs a process to its end. Its CPU time is that of all children so far, less what it was before. */
async function cost(program: string, args: string[]): Promise<Cost> {
  fs.rmSync(file('argus.out'), { force: true });
  const began = performance.now();
  const command = ['-c', 'TIMEFORMAT="%U %S"; time "$0" "$@" >/dev/null 2>&1', program, ...args];
  const child = spawn('bash', command, { stdio: ['ignore', 'ignore', 'pipe'] });
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

const program = new Command('bench:analyze')
  .argument('[capture]', 'default: made traffic of TCP, UDP, ICMP and SCTP, IMIX sizes')
  .option('--packets <N>', 'of made traffic', wholeNumber(1000, 1e9), 1_000_000)
  .option('--rounds <N>', '', wholeNumber(1, 100), 5)
  .option('--json <FILE>', 'write the results')
  .parse();
const options = program.opts<{ packets: number; rounds: number; json?: string }>();
let [capture] = program.args;
if (capture === undefined) {
  capture = file('mixed.pcap');
  const life = ['--connections', String(Math.ceil(options.packets / 50)), '--life', '40'];
  const made = ['generate', 'imix', capture, '--quiet', '--packets', String(options.packets), ...life];
  if (spawnSync(process.execPath, [CLI, ...made], { stdio: 'inherit' }).status !== 0) process.exit(1);
}
const there = CONTENDERS.filter((c) => {
  const found = spawnSync('sh', ['-c', 'command -v "$0"', c.program]).status === 0;
  if (!found) process.stderr.write(`${c.program} is not installed: left out\n`);
  return found;
});
const costs = there.map((): Cost[] => []);
for (let round = 0; round < options.rounds; round++) {
  for (const [i, c] of there.entries()) costs[i].push(await cost(c.program, c.args(capture)));
}
const rows = there.map(({ name }, i) => ({
  name,
  wall: median(costs[i].map((c) => c.wall)),
  cpu: median(costs[i].map((c) => c.cpu)),
  memory: Math.max(...costs[i].map((c) => c.memory)),
}));
const { size } = fs.statSync(capture);
process.stdout.write(`${(size / 1e6).toFixed(0)} MB, ${options.rounds} rounds, Node ${process.version}\n\n`);
process.stdout.write('| | wall s | CPU s | peak MB |\n| --- | ---: | ---: | ---: |\n');
for (const r of rows) {
  process.stdout.write(
    `| ${r.name} | ${r.wall.toFixed(2)} | ${r.cpu.toFixed(2)} | ${r.memory.toFixed(0)} |\n`,
  );
}
if (options.json !== undefined) {
  fs.writeFileSync(
    options.json,
    `${JSON.stringify({ size, rounds: options.rounds, rows, costs }, null, 2)}\n`,
  );
}
const best = Math.min(...rows.filter((r) => r.name.startsWith('shardtrack')).map((r) => r.wall));
const others = rows.filter((r) => !r.name.startsWith('shardtrack')).map((r) => r.wall);
if (others.length > 0) {
  process.stdout.write(
    `\n${(best / Math.min(...others)).toFixed(2)} of the wall time of the fastest other\n`,
  );
}
