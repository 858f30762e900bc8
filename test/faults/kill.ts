/** `analyze --resume`, killed again and again at random times, its workers failing in turn, and gone on with with
 *  another number of workers: in the end all outputs are those of an undisturbed run. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { Random } from '../../src/generate/random.js';
import { CLI } from './sweep.js';

const FORMATS = ['ndjson', 'csv', 'zeek', 'parquet', 'ipfix', 'conntrack', 'dpctl'];
const FAULTS = ['throw', 'exit', 'memory', 'hang'];
/** Runs of a round, the last of which nothing happens to. */
const MOST_RUNS = 10;
/** Megabytes of heap of a run whose worker is to have too little. */
const SMALL_HEAP = 128;

export interface Killed {
  rounds: number;
  /** Runs that were killed, and that failed of a worker. */
  kills: number;
  faults: number;
  /** What was not as it has to be. */
  wrong: string[];
}

interface Ran {
  code: number | null;
  err: string;
}

export class KillLoop {
  private readonly folder: string;
  private readonly capture: string;
  private readonly every: number;
  private readonly random: Random;
  readonly killed: Killed = { rounds: 0, kills: 0, faults: 0, wrong: [] };
  private packets = 0;
  /** Of the undisturbed run. */
  private ms = 0;

  /** `every`: packets between two checkpoints. */
  constructor(folder: string, capture: string, seed: number, every = 5000) {
    this.folder = folder;
    this.capture = capture;
    this.every = every;
    this.random = new Random(seed);
  }

  async run(until: number): Promise<Killed> {
    const began = performance.now();
    const report = path.join(this.folder, 'whole.json');
    const whole = await this.start([...this.args('whole'), '--workers', '0', '--report', report]);
    if (whole.code !== 0) throw new Error(`${this.capture}: it fails undisturbed: ${whole.err}`);
    this.ms = performance.now() - began;
    const { reconciliation } = JSON.parse(fs.readFileSync(report, 'utf8'));
    this.packets = reconciliation.captured.packets;
    while (performance.now() < until) await this.round();
    return this.killed;
  }

  private async round(): Promise<void> {
    const { random, killed } = this;
    const name = `round${killed.rounds++}`;
    const checkpoint = path.join(this.folder, `${name}.checkpoint`);
    const resumed = [
      ...this.args(name),
      ...['--resume', checkpoint, '--checkpoint-every', String(this.every), '--watchdog', '2'],
    ];
    for (let i = 0; ; i++) {
      const args = [...resumed, '--workers', String(random.below(3))];
      const fate = i === MOST_RUNS - 1 ? 9 : random.below(10);
      let ran: Ran;
      if (fate < 6) ran = await this.start(args, [], 50 + random.below(Math.ceil(this.ms * 1.3)));
      else if (fate < 8) {
        const kind = FAULTS[random.below(FAULTS.length)];
        const fault = [...resumed, '--workers', '2', '--fault', `${kind}@${random.below(this.packets)}`];
        ran = await this.start(fault, kind === 'memory' ? [`--max-old-space-size=${SMALL_HEAP}`] : []);
      } else ran = await this.start(args);
      if (ran.code === 0) break;
      if (ran.code === null) killed.kills++;
      else if (ran.code === 1 && fate >= 6 && fate < 8) killed.faults++;
      else {
        killed.wrong.push(`${name}: exit code ${ran.code}: ${ran.err}`);
        return;
      }
    }
    for (const format of FORMATS) {
      const [is, was] = [name, 'whole'].map((n) => fs.readFileSync(this.file(n, format)));
      if (!is.equals(was)) killed.wrong.push(`${name}: ${format} is not as it should be`);
    }
    for (const left of fs.readdirSync(this.folder).filter((f) => f.startsWith(`${name}.`))) {
      if (!FORMATS.some((format) => left === `${name}.${format}`))
        killed.wrong.push(`${name}: ${left} is left`);
      fs.rmSync(path.join(this.folder, left));
    }
  }

  private file(name: string, format: string): string {
    return path.join(this.folder, `${name}.${format}`);
  }

  private args(name: string): string[] {
    return [
      ...['analyze', this.capture, '--quiet'],
      ...FORMATS.flatMap((format) => ['--out', `${format}=${this.file(name, format)}`]),
    ];
  }

  private start(args: readonly string[], node: readonly string[] = [], killAfterMs = 0): Promise<Ran> {
    return new Promise((resolve, reject) => {
      const child = spawn(process.execPath, [...node, CLI, ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
      let err = '';
      child.stderr.on('data', (bytes) => {
        err += bytes;
      });
      const timer = killAfterMs > 0 ? setTimeout(() => child.kill('SIGKILL'), killAfterMs) : undefined;
      child.on('error', reject);
      child.on('close', (code) => {
        clearTimeout(timer);
        resolve({ code, err });
      });
    });
  }
}
