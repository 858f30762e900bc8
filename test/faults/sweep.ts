/** Every call for a file that a command makes, made to fail in turn: shim.c does it, from outside.
 *
 *  A case is a command, a kind of fault, and the number of the call. Before it each output is there from an earlier
 *  run; after it each must be that, or what an undisturbed run writes. A command that says it has worked has written
 *  all of them; another one says why, without a stack, and what it has not finished keeps the ending `.partial`. Of a
 *  command with a checkpoint the next run, undisturbed, ends as if nothing had been. */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Random } from '../../src/generate/random.js';

export const CLI =
  process.env.SHARDTRACK_CLI ?? fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const SHIM = fileURLToPath(new URL('../../../test/faults/shim.c', import.meta.url));

/** What an output holds that an earlier run has left. */
const EARLIER = Buffer.from('what an earlier run has written\n');
const LIMIT_MS = 30_000;

/** FILE stands for a place among the outputs, CAPTURE for the capture. */
export interface Command {
  name: string;
  args: readonly string[];
  /** Those that differ from run to run, by times. */
  loose?: readonly string[];
  /** Reads the capture, compressed so, or from standard input. */
  input?: 'gz' | 'stdin';
  /** The output that standard output is. */
  stdout?: string;
  /** It has a checkpoint of this name. */
  checkpoint?: string;
  /** A capture that can't be read is reported as damaged, and outputs have the others. */
  goesOn?: boolean;
  /** Outputs begin where a run has got that dies before this call. */
  from?: number;
}

const analysis = ['analyze', 'CAPTURE', '--quiet'];
const resumed: Omit<Command, 'name'> = {
  args: [
    ...[...analysis, '--workers', '0', '-o', 'csv=FILE.csv', '-o', 'parquet=FILE.parquet'],
    ...['-o', 'ipfix=FILE.ipfix', '--resume', 'FILE.checkpoint', '--checkpoint-every', '800'],
  ],
  checkpoint: 'o.checkpoint',
};

export const COMMANDS: readonly Command[] = [
  ...[0, 2].map(
    (workers): Command => ({
      name: `replay, ${workers} workers`,
      args: [
        ...['replay', 'CAPTURE', '--workers', String(workers), '--quiet', '--flows', 'FLOWS'],
        ...['--verdicts', 'FILE.ndjson', '--out', '2=FILE.pcap', '--out', 'FILE.pcapng'],
        ...['--conntrack', 'FILE.conntrack', '--connections', 'FILE.connections', '--stats', 'FILE.stats'],
      ],
      loose: ['o.stats'],
    }),
  ),
  {
    name: 'replay of gzip, report',
    args: [
      'replay',
      'CAPTURE',
      '--workers',
      '0',
      '--quiet',
      '--verdicts',
      'FILE.ndjson',
      '--html',
      'FILE.html',
    ],
    loose: ['o.html'],
    input: 'gz',
  },
  {
    name: 'replay of standard input to standard output',
    args: ['replay', '-', '--workers', '1', '--quiet', '--verdicts', '-'],
    input: 'stdin',
    stdout: 'o.ndjson',
  },
  {
    name: 'generate',
    args: [
      'generate',
      'tcp',
      'FILE.pcap',
      '--packets',
      '4000',
      '--seed',
      '1',
      '--quiet',
      '--flows',
      'FILE.flows',
    ],
  },
  ...[0, 1, 2].map(
    (workers): Command => ({
      name: `analyze, ${workers} workers`,
      args: [
        ...[...analysis, '--workers', String(workers), '-o', 'csv=FILE.csv', '-o', 'parquet=FILE.parquet'],
        ...[
          '-o',
          'ndjson=FILE.ndjson',
          '-o',
          'zeek=FILE.log',
          '-o',
          'ipfix=FILE.ipfix',
          '-o',
          'conntrack=FILE.ct',
        ],
        ...['--report', 'FILE.json'],
      ],
      goesOn: true,
    }),
  ),
  {
    name: 'analyze, partitioned',
    args: [...analysis, '--workers', '0', '-o', 'csv=FOLDER', '--partition', 'protocol'],
    goesOn: true,
  },
  { name: 'analyze --resume', ...resumed },
  { name: 'analyze --resume, begun', ...resumed, from: 0.6 },
  { name: 'analyze --resume, nearly done', ...resumed, from: 0.9 },
];

/** What happens at the call: an errno, or what shim.c has a word for. */
export const FAULTS = {
  EIO: '5',
  ENOSPC: '28',
  EINTR: '4',
  EACCES: '13',
  ENOENT: '2',
  EMFILE: '24',
  short: 'short',
  kill: 'kill',
  killed: 'killed',
} as const;
export type FaultKind = keyof typeof FAULTS;

export interface Case {
  command: Command;
  fault: FaultKind;
  /** The call, from 1. */
  at: number;
  /** All after it, too. */
  ever: boolean;
}

export interface Judged {
  case: Case;
  /** The call that failed, as the shim has noted it; '': it was not reached. */
  call: string;
  code: number | null;
  err: string;
  /** What must not be; empty if all is well. */
  wrong: string[];
}

/** What an undisturbed run writes, the calls that it makes, and what there is before a case. */
interface Known {
  whole: Map<string, Buffer>;
  calls: number;
  before: Map<string, Buffer>;
}

/** Runs cases in a folder. */
export class Sweep {
  private readonly library: string;
  private readonly out: string;
  private readonly input: string;
  private readonly log: string;
  private readonly capture: string;
  private readonly flows: string;
  private readonly known = new Map<Command, Known>();

  /** `capture` and a flow table are copied there. Throws Error without a C compiler. */
  constructor(folder: string, capture: string, flows: string) {
    fs.mkdirSync(folder, { recursive: true });
    this.library = path.join(folder, 'shim.so');
    const made = spawnSync('cc', ['-shared', '-fPIC', '-O1', '-o', this.library, SHIM, '-ldl']);
    if (made.status !== 0) throw new Error(`no C compiler: ${made.error?.message ?? made.stderr}`);
    this.log = path.join(folder, 'log');
    this.input = path.join(folder, 'files', 'in');
    this.out = path.join(folder, 'files', 'out');
    fs.mkdirSync(this.input, { recursive: true });
    this.capture = path.join(this.input, 'capture.pcap');
    this.flows = path.join(this.input, 'flows.txt');
    fs.copyFileSync(capture, this.capture);
    fs.copyFileSync(flows, this.flows);
    spawnSync('gzip', ['-k', this.capture]);
  }

  /** How many calls an undisturbed run of a command makes. */
  calls(command: Command): number {
    return this.know(command).calls;
  }

  run(one: Case): Judged {
    const { command, fault, at, ever } = one;
    const { whole, before } = this.know(command);
    this.put(before);
    const ran = this.start(command, {
      FAULT_AT: String(at),
      FAULT_HOW: FAULTS[fault],
      ...(ever ? { FAULT_EVER: '1' } : {}),
    });
    const call = /^\d+ (.*) FAULT$/m.exec(fs.readFileSync(this.log, 'utf8'))?.[1] ?? '';
    const err = ran.stderr.toString();
    const wrong: string[] = [];
    const killed = fault === 'kill' || fault === 'killed';
    if (ran.error !== undefined) wrong.push(`it does not end: ${ran.error.message}`);
    else if (ran.signal !== null && !killed) wrong.push(`it died of ${ran.signal}`);
    else if (ran.status === 0) this.expect(whole, command, wrong, 'it said that it had worked', fault);
    else if (ran.signal === null) {
      if (ran.status !== 1 && ran.status !== 2) wrong.push(`exit code ${ran.status}`);
      if (!/^shardtrack: /m.test(err)) wrong.push('no message');
      if (/^ {4}at /m.test(err)) wrong.push('a stack for a message');
      if (!err.includes(path.dirname(this.out)) && !/std(in|out)/.test(err))
        wrong.push('the message names no file');
    }
    const readingFailed = command.goesOn === true && /cannot (read|open) the (file|capture)/.test(err);
    for (const name of whole.keys()) {
      if (name === command.stdout || readingFailed) continue;
      const now = this.read(name);
      const was = before.get(name);
      // One that was whole for a part of the captures, or for all, is gone on with under its temporary name.
      if (now === undefined && command.checkpoint !== undefined && !was?.equals(EARLIER)) continue;
      if (now === undefined ? was !== undefined : !isAsItMayBe(name, now, command, [was, whole.get(name)]))
        wrong.push(`${name} is neither what it was nor what it is to be`);
    }
    if (command.checkpoint !== undefined && ran.status !== 0) {
      const again = this.start(command, {});
      if (again.status !== 0) wrong.push(`the next run failed: ${again.stderr}`);
      else this.expect(whole, command, wrong, 'the next run');
    }
    return { case: one, call, code: ran.status, err, wrong };
  }

  private expect(
    whole: Map<string, Buffer>,
    command: Command,
    wrong: string[],
    who: string,
    fault?: FaultKind,
  ): void {
    for (const [name, bytes] of whole) {
      const now = this.read(name);
      if (now === undefined) wrong.push(`${who}, and ${name} is not there`);
      else if (command.loose?.includes(name) ? now.equals(EARLIER) : !now.equals(bytes))
        wrong.push(`${who}, and ${name} is not as it should be`);
    }
    // A lock that can't be removed holds nobody up; a checkpoint that is said not to be there can't be.
    const may = (name: string): boolean =>
      name.endsWith('.lock') || (fault === 'ENOENT' && name === command.checkpoint);
    const left = this.listed().filter((name) => !whole.has(name) && !may(name));
    if (left.length > 0) wrong.push(`${who}, and left ${left.join(', ')}`);
  }

  private know(command: Command): Known {
    const known = this.known.get(command);
    if (known !== undefined) return known;
    this.put(new Map());
    this.must(this.start(command, {}), command);
    const whole = this.all();
    let before: Map<string, Buffer> = new Map([...whole.keys()].map((name) => [name, EARLIER]));
    this.put(before);
    if (command.from !== undefined) {
      this.start(command, { FAULT_AT: String(Math.floor(command.from * this.logged())), FAULT_HOW: 'kill' });
      before = this.all();
      if (!before.has(command.checkpoint as string)) throw new Error('no checkpoint is there yet');
    }
    this.must(this.start(command, {}), command);
    const found = { whole, before, calls: this.logged() };
    this.known.set(command, found);
    return found;
  }

  /** Calls of the last run. */
  private logged(): number {
    return fs.readFileSync(this.log, 'utf8').split('\n').length - 1;
  }

  private must(ran: SpawnSyncReturns<Buffer>, command: Command): void {
    if (ran.status !== 0) throw new Error(`${command.name} fails undisturbed: ${ran.stderr}`);
  }

  private start(command: Command, fault: Record<string, string>): SpawnSyncReturns<Buffer> {
    fs.rmSync(this.log, { force: true });
    const { input, stdout } = command;
    const args = command.args.map((arg) =>
      arg
        .replace('CAPTURE', input === 'gz' ? `${this.capture}.gz` : this.capture)
        .replace('FLOWS', this.flows)
        .replace('FOLDER', this.out)
        .replace('FILE', path.join(this.out, 'o')),
    );
    const from = input === 'stdin' ? fs.openSync(this.capture, 'r') : 'ignore';
    const to = stdout === undefined ? 'ignore' : fs.openSync(path.join(this.out, stdout), 'w');
    const ran = spawnSync(process.execPath, [CLI, ...args], {
      stdio: [from, to, 'pipe'],
      timeout: LIMIT_MS,
      killSignal: 'SIGKILL',
      env: {
        ...process.env,
        LD_PRELOAD: this.library,
        FAULT_UNDER: path.dirname(this.out),
        FAULT_CALLS: 'all',
        FAULT_LOG: this.log,
        ...fault,
      },
    });
    for (const fd of [from, to]) if (typeof fd === 'number') fs.closeSync(fd);
    return ran;
  }

  /** Files among the outputs. */
  private listed(): string[] {
    return (fs.readdirSync(this.out, { recursive: true }) as string[]).filter((name) =>
      fs.statSync(path.join(this.out, name)).isFile(),
    );
  }

  private all(): Map<string, Buffer> {
    return new Map(this.listed().map((name) => [name, fs.readFileSync(path.join(this.out, name))]));
  }

  private read(name: string): Buffer | undefined {
    const file = path.join(this.out, name);
    return fs.existsSync(file) ? fs.readFileSync(file) : undefined;
  }

  private put(files: Map<string, Buffer>): void {
    fs.rmSync(this.out, { recursive: true, force: true });
    fs.mkdirSync(this.out);
    for (const [name, bytes] of files) {
      const file = path.join(this.out, name);
      fs.mkdirSync(path.dirname(file), { recursive: true });
      fs.writeFileSync(file, bytes);
    }
  }
}

function isAsItMayBe(
  name: string,
  now: Buffer,
  { loose }: Command,
  may: readonly (Buffer | undefined)[],
): boolean {
  return (
    may.some((bytes) => bytes?.equals(now)) ||
    (loose?.includes(name) === true && /[}>]\n?$/.test(now.toString()))
  );
}

/** All cases of a command, in a drawn order. */
export function casesOf(command: Command, calls: number, random: Random): Case[] {
  const all: Case[] = [];
  for (let at = 1; at <= calls; at++) {
    for (const fault of Object.keys(FAULTS) as FaultKind[]) {
      all.push({ command, fault, at, ever: false });
      // What is interrupted for ever has to go on for ever.
      if (!['kill', 'killed', 'EINTR'].includes(fault)) all.push({ command, fault, at, ever: true });
    }
  }
  return Array.from(random.permutation(all.length), (i) => all[i]);
}
