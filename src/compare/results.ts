/** Compares what two sides do with the same packets: every verdict, every byte sent, every connection at the end.
 *
 *  Both replay at the same time and write their verdicts to pipes; lines are compared as they come, so that it takes
 *  no more memory for a longer capture. Differences are grouped by what became what; the first packet of a group is
 *  explained by both sides, and groups that part at the same place of the explanation have one cause. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { cliOf, type Side } from './sides.js';

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
  /** They part at the state of a connection: something before has led to that. */
  consequence: boolean;
  packets: number;
  groups: Group[];
}

export interface ConnectionGroup {
  /** `only in base`, `only in candidate`, or which fields differ. */
  difference: string;
  connections: number;
  /** Of the first: as `--conntrack FILE.ndjson` has it, and the number of the packet that made it. */
  first: { packet: number; base: string | null; candidate: string | null };
}

export interface ResultsComparison {
  packets: { base: number; candidate: number; different: number };
  causes: Cause[];
  connections: { base: number; candidate: number; different: number; groups: ConnectionGroup[] };
}

export interface CompareResultsOptions {
  base: Side;
  candidate: Side;
  /** Arguments of `replay` that both have: ports, tables, captures unless a side has its own. */
  args: readonly string[];
  captures: readonly string[];
  flows?: string;
  /** Arguments that `trace` does not know, so that nothing can be explained. */
  untraceable: boolean;
  /** Groups that are explained. */
  explain: number;
}

/** Throws Error with what a side said if one fails. */
export async function compareResults(o: CompareResultsOptions): Promise<ResultsComparison> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-compare-'));
  try {
    const files = {
      base: path.join(folder, 'base.ndjson'),
      candidate: path.join(folder, 'candidate.ndjson'),
    };
    const base = new Replay(o.base, o, files.base);
    const candidate = new Replay(o.candidate, o, files.candidate);
    const groups = new Map<string, Group>();
    let different = 0;
    try {
      for (;;) {
        const [a, b] = await Promise.all([base.next(), candidate.next()]);
        if (a === null && b === null) break;
        if (a === b) continue;
        different++;
        note(groups, a, b);
      }
      await Promise.all([base.ended(), candidate.ended()]);
    } finally {
      base.stop();
      candidate.stop();
    }
    return {
      packets: { base: base.lines, candidate: candidate.lines, different },
      causes: await causesOf([...groups.values()], o),
      connections: compareConnections(readLines(files.base), readLines(files.candidate)),
    };
  } finally {
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/** The arguments of a side that `replay` and `trace` share. */
function inputs(side: Side, o: CompareResultsOptions): string[] {
  const flows = side.flows ?? o.flows;
  const captures = side.capture === undefined ? o.captures : [side.capture];
  return [...captures, ...o.args, ...(flows === undefined ? [] : ['--flows', flows])];
}

/** A replay whose verdicts come line by line. */
class Replay {
  lines = 0;
  private readonly side: Side;
  private readonly child;
  private readonly iterator: AsyncIterator<string>;
  private readonly closed: Promise<unknown[]>;
  private stderr = '';

  constructor(side: Side, o: CompareResultsOptions, conntrack: string) {
    this.side = side;
    const args = [
      ...[cliOf(side), 'replay', ...inputs(side, o)],
      ...['--verdicts', '-', '--frame-hashes', '--conntrack', conntrack, '--quiet'],
    ];
    this.child = spawn(side.node, args, { stdio: ['ignore', 'pipe', 'pipe'] });
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
    if (this.child.exitCode === null) this.child.kill();
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
  const causes = new Map<string, Cause>();
  for (const [i, group] of groups.entries()) {
    const explained = i < o.explain && !o.untraceable ? await part(group.first.packet, o) : null;
    const key =
      explained === null
        ? `${group.base}\n${group.candidate}`
        : `\n${explained.base}\n${explained.candidate}`;
    const cause = causes.get(key);
    if (cause === undefined) {
      causes.set(key, {
        base: explained?.base ?? null,
        candidate: explained?.candidate ?? null,
        consequence:
          explained !== null && [explained.base, explained.candidate].every((line) => CT_STATE.test(line)),
        packets: group.packets,
        groups: [group],
      });
    } else {
      cause.packets += group.packets;
      cause.groups.push(group);
    }
  }
  return [...causes.values()].sort(
    (a, b) => Number(a.consequence) - Number(b.consequence) || b.packets - a.packets,
  );
}

/** A line of an explanation that says what a ct() has found. */
const CT_STATE = /^ct\(zone=\d+\): ct_state=/;

/** Where the explanations of a packet part. Null if a side has none, such as a packet that is in one capture only. */
async function part(
  packet: number,
  o: CompareResultsOptions,
): Promise<{ base: string; candidate: string } | null> {
  const [base, candidate] = await Promise.all([o.base, o.candidate].map((side) => trace(side, packet, o)));
  if (base === null || candidate === null) return null;
  const n = Math.max(base.length, candidate.length);
  for (let i = 0; i < n; i++) {
    if (base[i] === candidate[i]) continue;
    return { base: base[i] ?? 'nothing more', candidate: candidate[i] ?? 'nothing more' };
  }
  return null;
}

/** The lines of a packet's explanation that say what was done: without headings, flows, and what differs by its mere
 *  number. */
async function trace(side: Side, packet: number, o: CompareResultsOptions): Promise<string[] | null> {
  const child = spawn(side.node, [cliOf(side), 'trace', ...inputs(side, o), '--packet', `${packet}`], {
    stdio: ['ignore', 'pipe', 'ignore'],
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

function readLines(file: string): string[] {
  return fs
    .readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '');
}

interface ConnectionLine {
  protocol: string;
  zone: number;
  orig: Record<string, unknown>;
  packet: number;
}

/** By protocol, zone and original tuple, of which there may be several: with the same one at different times, or on
 *  both ends of translations. */
function connectionKey(c: ConnectionLine): string {
  const { packets, bytes, ...tuple } = c.orig;
  return JSON.stringify([c.protocol, c.zone, tuple]);
}

export function compareConnections(
  base: readonly string[],
  candidate: readonly string[],
): ResultsComparison['connections'] {
  const left = new Map<string, string[]>();
  for (const line of base) {
    const key = connectionKey(JSON.parse(line));
    left.set(key, [...(left.get(key) ?? []), line]);
  }
  const groups = new Map<string, ConnectionGroup>();
  let different = 0;
  const add = (difference: string, a: string | null, b: string | null) => {
    different++;
    const { packet } = JSON.parse((a ?? b) as string) as ConnectionLine;
    const group = groups.get(difference);
    if (group === undefined) {
      groups.set(difference, { difference, connections: 1, first: { packet, base: a, candidate: b } });
      return;
    }
    group.connections++;
    if (packet < group.first.packet) group.first = { packet, base: a, candidate: b };
  };
  for (const line of candidate) {
    const before = left.get(connectionKey(JSON.parse(line)))?.shift();
    if (before === undefined) add('only in candidate', null, line);
    else if (before !== line) add(`other ${fieldsThatDiffer(before, line).join(', ')}`, before, line);
  }
  for (const lines of left.values()) for (const line of lines) add('only in base', line, null);
  return {
    base: base.length,
    candidate: candidate.length,
    different,
    groups: [...groups.values()].sort((a, b) => b.connections - a.connections),
  };
}

/** Names of members, one level deep. */
function fieldsThatDiffer(a: string, b: string): string[] {
  const [x, y] = [a, b].map((line) => new Map(flat(JSON.parse(line))));
  return [...new Set([...x.keys(), ...y.keys()])].filter((name) => x.get(name) !== y.get(name));
}

function flat(object: Record<string, unknown>): [string, string][] {
  return Object.entries(object).flatMap(([name, value]) =>
    value !== null && typeof value === 'object' && !Array.isArray(value)
      ? Object.entries(value).map(([inner, v]): [string, string] => [`${name}.${inner}`, JSON.stringify(v)])
      : [[name, JSON.stringify(value)] as [string, string]],
  );
}
