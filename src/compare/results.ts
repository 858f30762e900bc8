/** Compares what two sides do with the same packets: every verdict, every byte sent, every connection.
 *
 *  Both replay at the same time and write their verdicts to pipes; lines are compared as they come, so that it takes
 *  no more memory for a longer capture. Differences are grouped by what became what; the first packet of a group is
 *  explained by both sides, and groups that part at the same place of the explanation have one cause. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { ConnectionComparison, type ConnectionsCompared } from './connections.js';
import { cliOf, type Side, TABLES, type Tables } from './sides.js';

/** A line of `--verdicts --frame-hashes`. */
interface Line {
  packet: number;
  ts: string;
  in_port: number;
  ct: { zone: number; state: string }[];
  out: number[];
  reason: string | null;
  controller?: number;
  frames: string[];
}

/** Packets for which the same became something else. */
export interface Group {
  /** What became of them on both sides, in words. */
  base: string;
  candidate: string;
  packets: number;
  /** Number from 1, time and port of the first one. */
  first: { packet: number; ts: string; inPort: number };
}

export interface Cause {
  /** The first line of both explanations that differs; null: not explained. */
  base: string | null;
  candidate: string | null;
  /** They part at what is known of a connection, and packets before were treated in another way. */
  consequence: boolean;
  packets: number;
  /** The earliest of all. */
  first: Group['first'];
  /** Those with the most packets first. */
  groups: Group[];
}

export interface ResultsComparison {
  packets: { base: number; candidate: number; different: number };
  causes: Cause[];
  connections: ConnectionsCompared;
}

export interface CompareResultsOptions {
  base: Side;
  candidate: Side;
  /** Arguments of `replay` that both have, and captures and tables for a side without its own. */
  args: readonly string[];
  captures: readonly string[];
  tables: Tables;
  /** Groups that are explained. */
  explain: number;
  signal?: AbortSignal;
}

/** Throws Error with what a side said if one fails. */
export async function compareResults(o: CompareResultsOptions): Promise<ResultsComparison> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-compare-'));
  try {
    const files = {
      base: path.join(folder, 'base.ndjson'),
      candidate: path.join(folder, 'candidate.ndjson'),
    };
    // Installations from before there were records have the table at the end.
    const all = [o.base, o.candidate].every(hasRecords);
    const base = new Replay(o.base, o, all, files.base);
    const candidate = new Replay(o.candidate, o, all, files.candidate);
    const groups = new Map<string, Group>();
    let different = 0;
    try {
      for (;;) {
        const [a, b] = await Promise.all([base.next(), candidate.next()]);
        // One that has failed need not be compared any further.
        if (a === null) await base.ended();
        if (b === null) await candidate.ended();
        if (a === null && b === null) break;
        if (a === b) continue;
        different++;
        note(groups, a, b);
      }
    } finally {
      base.stop();
      candidate.stop();
    }
    return {
      packets: { base: base.lines, candidate: candidate.lines, different },
      causes: await causesOf([...groups.values()], o),
      connections: await compareConnections(files.base, files.candidate, all),
    };
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/** The arguments of a side that `replay` and `trace` share. */
export function replayArguments(
  side: Side,
  o: Pick<CompareResultsOptions, 'args' | 'captures' | 'tables'>,
): string[] {
  const tables: Tables = { ...o.tables, ...side.tables };
  return [
    ...(side.capture === undefined ? o.captures : [side.capture]),
    ...o.args,
    ...TABLES.flatMap((name) => (tables[name] === undefined ? [] : [`--${name}`, tables[name]])),
  ];
}

/** Whether replay knows `--connections`. */
function hasRecords(side: Side): boolean {
  const { stdout } = spawnSync(side.node, [cliOf(side), 'replay', '--help'], { encoding: 'utf8' });
  return `${stdout}`.includes('--connections');
}

/** A replay whose verdicts come line by line. */
class Replay {
  lines = 0;
  private readonly side: Side;
  private readonly child;
  private readonly iterator: AsyncIterator<string>;
  private readonly closed: Promise<unknown[]>;
  private stderr = '';

  /** `connections` takes all of them, or those at the end. */
  constructor(side: Side, o: CompareResultsOptions, all: boolean, connections: string) {
    this.side = side;
    const args = [
      ...[cliOf(side), 'replay', ...replayArguments(side, o)],
      ...['--verdicts', '-', '--frame-hashes', all ? '--connections' : '--conntrack', connections, '--quiet'],
    ];
    this.child = spawn(side.node, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      signal: o.signal,
      killSignal: 'SIGKILL',
    });
    this.closed = once(this.child, 'close');
    // Reported by `ended`.
    this.closed.catch(() => {});
    this.child.stderr.on('data', (text) => {
      this.stderr += text;
    });
    this.iterator = readline.createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  async next(): Promise<string | null> {
    const { value, done } = await this.iterator.next();
    if (done) return null;
    this.lines++;
    return value;
  }

  async ended(): Promise<void> {
    const [code] = await this.closed;
    if (code !== 0) throw new Error(`${this.side.label}: replay ended with ${code}: ${this.stderr.trim()}`);
  }

  stop(): void {
    if (this.child.exitCode === null) this.child.kill('SIGKILL');
  }
}

function note(groups: Map<string, Group>, a: string | null, b: string | null): void {
  const [base, candidate] = [a, b].map((text) => (text === null ? null : (JSON.parse(text) as Line)));
  const left = describe(base, candidate);
  const right = describe(candidate, base);
  const key = `${left}\n${right}`;
  const group = groups.get(key);
  if (group !== undefined) {
    group.packets++;
    return;
  }
  const { packet, ts, in_port } = (base ?? candidate) as Line;
  groups.set(key, { base: left, candidate: right, packets: 1, first: { packet, ts, inPort: in_port } });
}

/** What became of a packet, in words: of frames only whether they are others than on the other side. */
function describe(line: Line | null, other: Line | null): string {
  if (line === null) return 'no such packet';
  const parts = line.ct.map((c) => `zone ${c.zone} ${c.state}`);
  const ports = line.out.map((port) => (port === 65534 ? 'LOCAL' : port));
  if (ports.length > 0) parts.push(`to port ${ports.join(', ')}`);
  if (line.controller !== undefined) parts.push(`${line.controller} to the controller`);
  if (line.reason !== null) parts.push(`dropped: ${line.reason}`);
  if (other !== null && (line.ts !== other.ts || line.in_port !== other.in_port)) {
    parts.push(`came from port ${line.in_port}${line.ts === other.ts ? '' : ' at another time'}`);
  }
  const sameOutputs = other !== null && line.frames.length === other.frames.length;
  const changed = sameOutputs ? line.frames.filter((hash, i) => hash !== other.frames[i]).length : 0;
  if (changed > 0) parts.push(`${changed} frame${changed === 1 ? '' : 's'} with other bytes`);
  return parts.join('; ');
}

/** Explains the largest groups and joins those that part at the same place. */
async function causesOf(groups: Group[], o: CompareResultsOptions): Promise<Cause[]> {
  groups.sort((a, b) => b.packets - a.packets);
  const earliest = Math.min(...groups.map((g) => g.first.packet));
  const causes = new Map<string, Cause>();
  for (const [i, group] of groups.entries()) {
    const parting = i < o.explain ? await part(group.first.packet, o) : null;
    const key = parting === null ? `${group.base}\n${group.candidate}` : `\n${parting.key}`;
    const cause = causes.get(key);
    if (cause === undefined) {
      causes.set(key, {
        base: parting?.base ?? null,
        candidate: parting?.candidate ?? null,
        consequence: parting?.byConnection === true && group.first.packet > earliest,
        packets: group.packets,
        first: group.first,
        groups: [group],
      });
      continue;
    }
    cause.packets += group.packets;
    cause.groups.push(group);
    if (group.first.packet < cause.first.packet) {
      cause.first = group.first;
      cause.consequence &&= group.first.packet > earliest;
    }
  }
  return [...causes.values()].sort(
    (a, b) => Number(a.consequence) - Number(b.consequence) || b.packets - a.packets,
  );
}

/** Where two explanations part. */
export interface Parting {
  base: string;
  candidate: string;
  /** The same for packets that part for the same reason. */
  key: string;
  /** At what is known of the packet's connection. */
  byConnection: boolean;
}

/** Null if a side has no explanation, as for a packet that is in one capture only, or both have the same. */
async function part(packet: number, o: CompareResultsOptions): Promise<Parting | null> {
  const [base, candidate] = await Promise.all([o.base, o.candidate].map((side) => trace(side, packet, o)));
  return base === null || candidate === null ? null : partingOf(base, candidate);
}

/** A line of an explanation that says what a ct() has found: the packet's state, or a connection. */
const CT_STATE = /^ct\(zone=\d+\): ct_state=/;
const CT_FOUND = /^-> (?:connection, \w+ direction: |no connection )/;
/** How a connection is put down there: `protocol,name=value,...`, and tuples in parentheses. */
const CONNECTION = /^-> .*?: (\w+,.*)$/;

/** The first lines of two explanations that differ. */
export function partingOf(base: readonly string[], candidate: readonly string[]): Parting | null {
  const n = Math.max(base.length, candidate.length);
  for (let i = 0; i < n; i++) {
    if (base[i] === candidate[i]) continue;
    const lines = [base[i] ?? 'nothing more', candidate[i] ?? 'nothing more'];
    const byConnection =
      lines.every((line) => CT_STATE.test(line)) || lines.every((line) => CT_FOUND.test(line));
    const [left, right] = lines.map((line) => CONNECTION.exec(line)?.[1]);
    if (left === undefined || right === undefined) {
      // Lines on connections name them.
      const key = lines.map((line) => line.replace(CONNECTION, '')).join('\n');
      return { base: lines[0], candidate: lines[1], key, byConnection };
    }
    // Of connections only what differs, and not what it is in this one.
    const [x, y] = [left, right].map(fieldsOf);
    const names = [...new Set([...x.keys(), ...y.keys()])].filter((name) => x.get(name) !== y.get(name));
    const said = (of: ReadonlyMap<string, string>) =>
      `${x.get('')} ${x.get('orig')}: ${names.map((name) => `${name}=${of.get(name) ?? 'none'}`).join(', ')}`;
    return { base: said(x), candidate: said(y), key: `connection: ${names.join()}`, byConnection };
  }
  return null;
}

/** Fields of a connection by name; its protocol is ''. */
function fieldsOf(text: string): Map<string, string> {
  const parts = text.split(/,(?![^(]*\))/);
  return new Map(
    parts.map((part): [string, string] => {
      const at = part.indexOf('=');
      return at < 0 ? ['', part] : [part.slice(0, at), part.slice(at + 1)];
    }),
  );
}

/** The lines of a packet's explanation that say what was done: without headings, flows, and what differs by its mere
 *  number. */
async function trace(side: Side, packet: number, o: CompareResultsOptions): Promise<string[] | null> {
  const { signal } = o;
  const args = [cliOf(side), 'trace', ...replayArguments(side, o), '--packet', `${packet}`];
  const child = spawn(side.node, args, {
    stdio: ['ignore', 'pipe', 'ignore'],
    signal,
    killSignal: 'SIGKILL',
  });
  let text = '';
  child.stdout.on('data', (chunk) => {
    text += chunk;
  });
  const [code] = await once(child, 'close');
  if (code !== 0) return null;
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter(
      (line) => line !== '' && !/^(Packet \d|Flow:|Megaflow:|Datapath actions:|=+$|recirc\()/.test(line),
    );
}

/** Both files a line at a time, so that what is the same is never in memory. */
async function compareConnections(
  base: string,
  candidate: string,
  all: boolean,
): Promise<ConnectionsCompared> {
  const comparison = new ConnectionComparison(all);
  const [left, right] = [base, candidate].map((file) =>
    readline.createInterface({ input: fs.createReadStream(file) })[Symbol.asyncIterator](),
  );
  for (;;) {
    const [a, b] = await Promise.all([left.next(), right.next()]);
    if (a.done && b.done) return comparison.finish();
    comparison.add(a.done ? null : a.value, b.done ? null : b.value);
  }
}
