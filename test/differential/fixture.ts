/** The fixtures of fixtures/oracle: what a folder holds, and its translation into the command line's input.
 *
 *      meta.json        about, made, ports; pending: why the test does not run yet
 *      flows.txt        the flow table, as ovs-ofctl add-flows takes it
 *      groups.txt       the group table, if there is one
 *      input.jsonl      records in order: {t, in_port, hex, note}, {t, cmd: [appctl arguments]}, {t, vsctl: [arguments]},
 *                       {t, ofctl: [arguments]} or {t, note}
 *      expected.jsonl   what Open vSwitch answered: a head {version, made}, a line for each record, {conntrack: [...]}
 *      expected-X.Y.jsonl   the same of an older Open vSwitch that answers differently
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Bytes, unhex } from './packets.js';

export const LOCAL = 65534;

/** The checkout: the nearest folder above this file, or else the working directory, with our package.json. */
export function projectRoot(): string {
  for (const from of [path.dirname(fileURLToPath(import.meta.url)), process.cwd()]) {
    for (let d = from; d !== path.dirname(d); d = path.dirname(d)) {
      if (existsSync(path.join(d, 'fixtures')) && existsSync(path.join(d, 'package.json'))) return d;
    }
  }
  throw new Error('no checkout of shardtrack above this file or the working directory');
}

export const ROOT = projectRoot();
export const CAPTURES = path.join(ROOT, 'fixtures', 'captures');
export const ORACLE = path.join(ROOT, 'fixtures', 'oracle');

export interface Meta {
  /** What it is about, in a line. */
  readonly about: string;
  /** How it was made. */
  readonly made: string;
  readonly ports: number;
  readonly pending?: string;
}

export interface InputRecord {
  readonly t: number;
  readonly in_port?: number;
  readonly hex?: string;
  readonly note?: string;
  readonly cmd?: readonly string[];
  readonly vsctl?: readonly string[];
  readonly ofctl?: readonly string[];
}

/** Output frames as [port, hex]. */
export type Outputs = readonly (readonly [number, string])[];

export interface Answer {
  /** Index of the input record. */
  readonly i: number;
  readonly out?: Outputs;
  /** States that the flows expose in the frames: "zone 1 +new+trk". */
  readonly ct?: readonly string[];
  readonly result?: string | readonly string[];
  readonly error?: string;
}

export interface Expected {
  readonly version: string;
  readonly made: string;
  readonly answers: readonly Answer[];
  /** The connection table at the end, sorted. */
  readonly conntrack: readonly string[];
}

export interface Fixture {
  readonly name: string;
  readonly dir: string;
  readonly meta: Meta;
  readonly flows: string;
  /** Its group table; null: it has none. */
  readonly groups: string | null;
  readonly records: readonly InputRecord[];
}

export function readLines<T>(file: string): T[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((l) => l.trim() && !l.startsWith('#'))
    .map((l, k) => {
      try {
        return JSON.parse(l) as T;
      } catch (e) {
        throw new Error(`${file}, record ${k + 1}: ${(e as Error).message}`);
      }
    });
}

export function fixtureNames(dir = ORACLE): string[] {
  return existsSync(dir)
    ? readdirSync(dir)
        .filter((n) => existsSync(path.join(dir, n, 'input.jsonl')))
        .sort()
    : [];
}

export function loadFixture(name: string, root = ORACLE): Fixture {
  const dir = path.join(root, name);
  return {
    name,
    dir,
    meta: JSON.parse(readFileSync(path.join(dir, 'meta.json'), 'utf8')) as Meta,
    flows: path.join(dir, 'flows.txt'),
    groups: existsSync(path.join(dir, 'groups.txt')) ? path.join(dir, 'groups.txt') : null,
    records: readLines<InputRecord>(path.join(dir, 'input.jsonl')),
  };
}

export function readExpected(file: string): Expected | null {
  if (!existsSync(file)) return null;
  const lines = readLines<Record<string, unknown>>(file);
  const head = lines[0] as { version: string; made: string };
  const last = lines.at(-1) as { conntrack: string[] };
  return { ...head, answers: lines.slice(1, -1) as unknown as Answer[], conntrack: last.conntrack };
}

export function writeExpected(file: string, e: Expected): void {
  const lines = [{ version: e.version, made: e.made }, ...e.answers, { conntrack: e.conntrack }];
  writeFileSync(file, lines.map((l) => `${JSON.stringify(l)}\n`).join(''));
}

export interface TimedPacket {
  /** Microseconds; exact, since records are a microsecond apart at least. */
  readonly us: number;
  readonly port: number;
  readonly frame: Bytes;
}

export interface TimedEvent {
  /** Index of its record. */
  readonly i: number;
  /** Microseconds. */
  readonly us: number;
  readonly kind: 'appctl' | 'vsctl' | 'ofctl';
  readonly args: readonly string[];
}

export interface Timeline {
  readonly packets: readonly TimedPacket[];
  readonly events: readonly TimedEvent[];
  /** Is the last packet one of ours that only carries the clock to the end of the input? */
  readonly clock: boolean;
}

export const secondsText = (us: number, digits: 6 | 9 = 6): string =>
  `${Math.floor(us / 1e6)}.${String(us % 1e6).padStart(6, '0')}${digits === 9 ? '000' : ''}`;

/** All records at different times, in their order: those of equal time are moved a microsecond apart, so that
 *  merging and events have one order. Time that passes after the last packet matters to the connection table;
 *  a frame that no ct() can see (type 0x88b5) carries the clock there. */
export function timeline(records: readonly InputRecord[]): Timeline {
  const packets: TimedPacket[] = [];
  const events: TimedEvent[] = [];
  let last = -1;
  let later: number | null = null;
  const tick = (t: number): number => {
    last = Math.max(Math.round(t * 1e6), last + 1);
    return last;
  };
  records.forEach((r, i) => {
    if (r.hex !== undefined) {
      packets.push({ us: tick(r.t), port: r.in_port!, frame: unhex(r.hex) });
      later = null;
      return;
    }
    later = r.t;
    const args = r.cmd ?? r.vsctl ?? r.ofctl;
    const kind = r.cmd ? 'appctl' : r.vsctl ? 'vsctl' : 'ofctl';
    if (args) events.push({ i, us: tick(r.t), kind, args });
  });
  const end = packets.at(-1);
  const clock = later !== null && end !== undefined && Math.round(later * 1e6) > end.us + 1000;
  if (clock) {
    const frame = new Uint8Array(60);
    frame[12] = 0x88;
    frame[13] = 0xb5;
    packets.push({ us: tick(later!), port: packets[0].port, frame });
  }
  return { packets, events, clock };
}
