/** How does a select group share out the connections of a virtual address, and how many move when it changes?
 *
 *      npm run bench:balance -- --connections 20000 --weights 4,4,4,4,8,8,16,16 --workers 2 --json FILE
 *
 *  For each selection method and change: every connection is opened; the change comes; every connection sends once more
 *  (all must keep their backend); they expire, and are opened anew (those that get another backend have moved). */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError } from 'commander';
import { wholeNumber } from '../../src/cli/options.js';
import { FrameBuilder, MIN_FRAME } from '../../src/generate/frames.js';
import { Random } from '../../src/generate/random.js';
import { SegmentArena } from '../../src/pcap/arena.js';
import { MergedSource, newMergedRecord } from '../../src/pcap/merge.js';
import { openCapture } from '../../src/pcap/open.js';
import { PcapWriter } from '../../src/pcap/pcap-writer.js';
import { ReadResult } from '../../src/pcap/types.js';
import {
  BACKEND_PORT,
  BALANCED_FLOWS,
  type Backend,
  byId,
  CHANGES,
  type Change,
  CLIENT_PORT,
  groupText,
  least,
  METHODS,
  type Method,
  shares,
  watchedPort,
} from './cases.js';

interface Options {
  connections: number;
  weights: number[];
  workers: number;
  seed: number;
  only?: string[];
  json?: string;
}

interface Row {
  method: string;
  change: string;
  /** By backend: share of connections before and after, and what the method's arithmetic says. */
  before: { id: number; weight: number; share: number; expected: number }[];
  after: { id: number; weight: number; share: number; expected: number }[];
  /** Connections that were open and went to another backend. */
  strayed: number;
  /** Share of connections opened anew that got another backend, and the least that the change asks for. */
  moved: number;
  least: number;
  upcalls: number;
  /** What chance exceeds once in 1000 times, and what came out, before the change. */
  chiSquare: number;
  bound: number;
}

const CLI = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const EPOCH = 1_600_000_000;
/** Seconds at which connections are opened, send again, and are opened anew: UDP has expired by then. */
const ROUNDS = [0, 20, 200];
const CHANGE_AT = 10;

/** UDP clients of the virtual address, an address and a port each. */
function writeClients(file: string, o: Options): void {
  const random = new Random(o.seed);
  const clients = Array.from({ length: o.connections }, () => [
    0x0b000000 + random.below(0x1000000),
    1024 + random.below(64_000),
  ]);
  const builder = new FrameBuilder();
  const writer = new PcapWriter(file);
  for (const second of ROUNDS) {
    for (const [i, [src, sport]] of clients.entries()) {
      const ends = { src, dst: 0x0afe0001, sport, dport: 80, reply: false };
      const length = builder.udp(ends, MIN_FRAME, true);
      const us = i * Math.min(100, Math.floor(9e6 / o.connections));
      writer.write(
        EPOCH + second + Math.floor(us / 1e6),
        (us % 1e6) * 1000,
        builder.bytes,
        0,
        length,
        length,
      );
    }
  }
  writer.finish();
}

async function backendsOf(file: string): Promise<Uint8Array> {
  const arena = new SegmentArena(8);
  const source = new MergedSource([await openCapture(file, arena)], arena);
  const record = newMergedRecord();
  const ids: number[] = [];
  for (;;) {
    const result = source.next(record);
    if (result === ReadResult.END) break;
    if (result === ReadResult.STARVED) await source.readable();
    if (result !== ReadResult.PACKET) continue;
    ids.push(arena.u8[record.off + 33]);
    arena.release(record.segment);
  }
  source.close();
  return Uint8Array.from(ids);
}

function replay(args: string[]): Promise<void> {
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, [CLI, 'replay', ...args], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    child.on('error', fail);
    child.on('close', (code) =>
      code === 0 ? done() : fail(new Error(`shardtrack replay ended with ${code}`)),
    );
  });
}

function tally(ids: Uint8Array, method: Method, backends: readonly Backend[]): Row['before'] {
  const expected = shares(method, backends);
  const counts = new Map<number, number>();
  for (const id of ids) counts.set(id, (counts.get(id) ?? 0) + 1);
  return backends.map((b, i) => ({
    ...b,
    share: (counts.get(b.id) ?? 0) / ids.length,
    expected: expected[i],
  }));
}

async function measure(method: Method, change: Change, dir: string, o: Options): Promise<Row> {
  const backends = o.weights.map((weight, i) => ({ id: i + 1, weight }));
  const file = (name: string) => path.join(dir, name);
  fs.writeFileSync(file('flows.txt'), BALANCED_FLOWS);
  fs.writeFileSync(file('groups.txt'), `${groupText(method, backends)}\n`);
  const events = change.events(method, backends).map((e) => ({ t: EPOCH + CHANGE_AT, ...e }));
  fs.writeFileSync(file('events.ndjson'), events.map((e) => `${JSON.stringify(e)}\n`).join(''));
  const ports = [BACKEND_PORT, ...[...backends, { id: backends.length + 1 }].map((b) => watchedPort(b.id))];
  await replay([
    ...['--in', `${CLIENT_PORT}=${file('clients.pcap')}`, '--flows', file('flows.txt')],
    ...['--groups', file('groups.txt'), '--events', file('events.ndjson')],
    ...['--ports', ports.join(','), '--out', `${BACKEND_PORT}=${file('out.pcap')}`],
    ...['--stats', file('stats.json'), '--workers', `${o.workers}`, '--quiet'],
  ]);
  const n = o.connections;
  const ids = await backendsOf(file('out.pcap'));
  if (ids.length !== 3 * n) throw new Error(`${method.name}: ${ids.length} of ${3 * n} packets came through`);
  const [first, again, anew] = [0, n, 2 * n].map((from) => ids.subarray(from, from + n));
  const differ = (a: Uint8Array, b: Uint8Array) => a.reduce((sum, id, i) => sum + (id === b[i] ? 0 : 1), 0);
  const after = change.after(backends);
  const stats = JSON.parse(fs.readFileSync(file('stats.json'), 'utf8')) as {
    run: { cache: { upcalls: number } };
  };
  const before = tally(first, method, backends);
  return {
    method: method.name,
    change: change.name,
    before,
    after: tally(anew, method, after),
    strayed: differ(first, again),
    moved: differ(first, anew) / n,
    least: least(byId(backends, shares(method, backends)), byId(after, shares(method, after))),
    upcalls: stats.run.cache.upcalls,
    chiSquare: before.reduce((sum, b) => sum + (n * (b.share - b.expected) ** 2) / b.expected, 0),
    bound: bound(backends.length - 1),
  };
}

/** Of chi-square with `freedom` degrees of freedom, at 0.001 (Wilson and Hilferty). */
function bound(freedom: number): number {
  const v = 2 / (9 * freedom);
  return freedom * (1 - v + 3.09 * Math.sqrt(v)) ** 3;
}

const percent = (x: number) => `${(100 * x).toFixed(1)} %`;

async function main(o: Options): Promise<void> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'bench-balance-'));
  process.on('exit', () => fs.rmSync(dir, { recursive: true, force: true }));
  writeClients(path.join(dir, 'clients.pcap'), o);
  process.stdout.write(
    `Node ${process.version}, ${o.workers} worker(s); ${o.connections} connections, weights ${o.weights.join(',')}\n`,
  );
  const rows: Row[] = [];
  const chosen = METHODS.filter((m) => o.only?.some((part) => m.name.startsWith(part)) ?? true);
  if (chosen.length === 0) {
    throw new Error(`no method is named so; there are ${METHODS.map((m) => m.name).join('; ')}`);
  }
  for (const method of chosen) {
    for (const change of CHANGES) {
      const row = await measure(method, change, dir, o);
      if (change === CHANGES[0]) {
        process.stdout.write(`\n${method.name}: new connections by backend (by the method's arithmetic)\n  `);
        process.stdout.write(
          row.before.map((b) => `${percent(b.share)} (${percent(b.expected)})`).join('  '),
        );
        process.stdout.write(
          `\n  chi-square ${row.chiSquare.toFixed(1)}; chance exceeds ${row.bound.toFixed(1)} once in 1000 times\n`,
        );
      }
      process.stdout.write(
        `  ${`one ${change.name}`.padEnd(12)} ${percent(row.moved).padStart(7)} of new connections move, ` +
          `at least ${percent(row.least)} must; ${row.strayed} open ones moved; ${row.upcalls} upcalls\n`,
      );
      rows.push(row);
    }
  }
  if (o.json !== undefined) fs.writeFileSync(o.json, `${JSON.stringify({ options: o, rows }, null, 2)}\n`);
  const most = Math.max(...rows.map((r) => r.upcalls));
  process.stdout.write(`\n${most} upcalls at most for ${2 * o.connections} new connections\n`);
}

function parseWeights(text: string): number[] {
  const weights = text.split(',').map(Number);
  if (weights.length >= 3 && weights.every((w) => Number.isInteger(w) && w > 0 && w < 0x8000)) return weights;
  throw new InvalidArgumentError('expected at least three weights of 1 to 32767, separated by commas.');
}

const program = new Command('bench:balance')
  .option('--connections <N>', 'clients of the virtual address', wholeNumber(100, 1_000_000), 20_000)
  .option(
    '--weights <LIST>',
    'weights of the backends, separated by commas',
    parseWeights,
    [4, 4, 4, 4, 8, 8, 16, 16],
  )
  .option('--workers <N>', 'worker threads', wholeNumber(0, 128), 1)
  .option('--only <NAME...>', 'methods whose names begin so')
  .option('--seed <N>', 'which clients', wholeNumber(0, 0x7fffffff), 1)
  .option('--json <FILE>', 'all figures as JSON')
  .action(main);
try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`bench:balance: ${(error as Error).message}\n`);
  process.exit(1);
}
