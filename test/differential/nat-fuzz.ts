/** npm run oracle:fuzz -- --protocol nat: random translating flow tables and traffic (nat-cases.ts) through Shardtrack and
 *  through a live Open vSwitch of main, packet by packet; what they differ in is shown with its case. Where Open vSwitch's
 *  choice is free, the chosen address and port are taken out of both sides before they are compared, after it has been
 *  checked that each side's choice is in range, stable for the connection and unique in its zone, and that all checksums
 *  are right. Every case also goes through 1, 2 or 4 workers. Cases that differ are written as fixtures without an answer,
 *  for oracle:record. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { normTable, outputDifference } from './compare.js';
import type { InputRecord } from './fixture.js';
import { exposedState, layers } from './frame.js';
import { type Played, playOvs, playShardtrack, workersDisagree } from './live.js';
import { drawCase, type Free, type NatCase } from './nat-cases.js';
import { Ovs } from './ovs.js';
import { type Bytes, cat, checksum, crc32c, hex, ipBytes, u32, unhex } from './packets.js';

/** Cases that one Open vSwitch plays before it is started anew. */
const CASES_A_SWITCH = 40;
const MS_BETWEEN = 1000;
/** How often Open vSwitch is asked again. */
const TRIES = 16;

const be16 = (b: Bytes, o: number): number => (b[o] << 8) | b[o + 1];

/** Whether the checksums of an IP packet at `l3` are right. */
function sumsRight(b: Bytes, l3: number, end: number): boolean {
  const six = b[l3] >> 4 === 6;
  const l4 = l3 + (six ? 40 : (b[l3] & 15) * 4);
  const proto = b[six ? l3 + 6 : l3 + 9];
  const segment = b.subarray(l4, end);
  if (!six && checksum(b.subarray(l3, l4)) !== 0) return false;
  if (proto === 132) {
    const sum = segment.slice(8, 12);
    const zeroed = cat(segment.subarray(0, 8), u32(0), segment.subarray(12));
    const want = crc32c(zeroed);
    return sum.every((byte, i) => byte === ((want >>> (8 * i)) & 255));
  }
  if (proto === 1) return checksum(segment) === 0;
  if (proto === 17 && !six && be16(segment, 6) === 0) return true;
  if (proto !== 6 && proto !== 17 && proto !== 58) return true;
  const from = b.subarray(l3 + (six ? 8 : 12), l3 + (six ? 40 : 20));
  return checksum(cat(from, u32(segment.length), [0, 0, 0, proto], segment)) === 0;
}

/** A frame without what was chosen: the pool's addresses become its first one, with port or id 0 beside them, and
 *  checksums become whether they were right. `chosen` gets the addresses and ports. */
function blind(text: string, free: Free, chosen: Set<string>): string {
  const b = unhex(text);
  const l = layers(b);
  if (!l.version) return text;
  const end = l.version === 4 ? l.l3 + be16(b, l.l3 + 2) : l.l3 + 40 + be16(b, l.l3 + 4);
  const marks = [sumsRight(b, l.l3, end) ? 'sums right' : 'sums wrong'];
  blindPacket(b, l.l3, end, free, chosen, marks);
  return `${hex(b)} ${marks.join(', ')}`;
}

function blindPacket(
  b: Bytes,
  l3: number,
  end: number,
  free: Free,
  chosen: Set<string>,
  marks: string[],
): void {
  const six = b[l3] >> 4 === 6;
  const [size, src] = six ? [16, l3 + 8] : [4, l3 + 12];
  const l4 = l3 + (six ? 40 : (b[l3] & 15) * 4);
  const proto = b[six ? l3 + 6 : l3 + 9];
  const ping = proto === 1 || proto === 58;
  const error = ping && (proto === 1 ? [3, 11, 12].includes(b[l4]) : b[l4] < 128);
  const first = ipBytes(`${free.pool}1`);
  for (const [at, port] of [
    [src, ping ? l4 + 4 : l4],
    [src + size, ping ? l4 + 4 : l4 + 2],
  ]) {
    const address = b.subarray(at, at + size);
    if (!address.subarray(0, -1).every((x, i) => x === first[i])) continue;
    const withPort = !error && port + 2 <= end;
    if (!error) chosen.add(`${address.join('.')} ${free.ports && withPort ? be16(b, port) : '-'}`);
    b.set(first, at);
    if (free.ports && withPort) b.set([0, 0], port);
  }
  if (!six) b.set([0, 0], l3 + 10);
  const sum = proto === 6 ? l4 + 16 : proto === 17 ? l4 + 6 : ping ? l4 + 2 : l4 + 8;
  if (proto === 17 && sum + 2 <= end) marks.push(be16(b, sum) === 0 ? 'no sum' : 'sum');
  const sumSize = proto === 132 ? 4 : 2;
  if ([1, 6, 17, 58, 132].includes(proto)) for (let i = 0; i < sumSize && sum + i < end; i++) b[sum + i] = 0;
  if (error && l4 + 8 + (six ? 40 : 20) <= end) blindPacket(b, l4 + 8, end, free, chosen, marks);
}

/** A line of the connection table without what was chosen. */
function blindLine(line: string, free: Free): string {
  const pool = free.pool.replaceAll('.', '\\.');
  let text = line.replaceAll(new RegExp(`(src|dst)=${pool}[0-9a-f]+`, 'g'), '$1=POOL');
  if (free.ports) {
    text = text
      .replaceAll(/src=POOL,dst=([^,]*),sport=\d+/g, 'src=POOL,dst=$1,sport=*')
      .replaceAll(/dst=POOL,sport=(\d+|\*),dport=\d+/g, 'dst=POOL,sport=$1,dport=*')
      .replaceAll(/(POOL,(?:dst=[^,]*,)?)id=\d+/g, '$1id=*');
  }
  return text;
}

/** Why one side's choices break a promise, or null: two live connections of a zone have one reply tuple. Queries
 *  whose id nat(dst) has moved are left out: Open vSwitch tells them apart by an id that the table doesn't show. */
export function brokenPromise(lines: readonly string[]): string | null {
  const seen = new Map<string, string>();
  for (const line of lines) {
    const reply = /reply=\([^)]*\)/.exec(line);
    const ids = [...line.matchAll(/\bid=(\d+),type/g)].map((m) => m[1]);
    if (reply === null || (ids.length === 2 && ids[0] !== ids[1])) continue;
    const key = `${line.split(',')[0]} ${reply[0]} ${/zone=\d+/.exec(line)?.[0] ?? ''}`;
    const other = seen.get(key);
    if (other !== undefined) return `two connections have one reply tuple:\n      ${other}\n      ${line}`;
    seen.set(key, line);
  }
  return null;
}

/** What the sides differ in, as sentences. */
export function differences(c: NatCase, ovs: Played, ours: Played): string[] {
  const found: string[] = [];
  const { free } = c;
  const chosen = new Set<string>();
  const stable = [new Map<string, string>(), new Map<string, string>()];
  for (const [i, step] of c.steps.entries()) {
    const where = `step ${i} (${step.note})`;
    if (step.cmd) {
      const of = (lines: readonly string[]) =>
        normTable(free === null ? lines : lines.map((l) => blindLine(l, free)), true).join('\n      ');
      const [want, got] = [of(ovs.said[i]), of(ours.said[i])];
      if (want !== got) found.push(`${where}: expected\n      ${want}\n    got\n      ${got}`);
      for (const side of [ovs, ours]) {
        const broken = /dump-conntrack/.test(step.note) ? brokenPromise(side.said[i]) : null;
        if (broken !== null)
          found.push(`${where}: ${side === ovs ? 'Open vSwitch' : 'Shardtrack'}: ${broken}`);
      }
      continue;
    }
    const [want, got] = [ovs.out[i], ours.out[i]];
    if (free !== null) {
      found.push(...moved(stable[0], ovs, i, free).map((t) => `${where}: Open vSwitch: ${t}`));
      found.push(...moved(stable[1], ours, i, free).map((t) => `${where}: Shardtrack: ${t}`));
    }
    if (free === null) {
      const d = outputDifference(want, got, null);
      if (d !== null) found.push(`${where}: ${d}`);
      continue;
    }
    const of = (outs: typeof want) => outs.map(([p, h]) => `${p} ${blind(h, free, chosen)}`).join('\n      ');
    const [x, y] = [of(want), of(got)];
    if (x !== y) {
      const raw = (outs: typeof want) => outs.map(([p, h]) => `${p} ${h}`).join(' ');
      found.push(`${where}: expected\n      ${x}\n    got\n      ${y}\n    (${raw(want)} | ${raw(got)})`);
    }
  }
  for (const pair of chosen) {
    const why = outOfRange(c, pair);
    if (why !== null) found.push(why);
  }
  return found;
}

/** A connection keeps what was chosen for it: sentences about the packets of its original direction that step `i` of
 *  `side` let out and that say otherwise. `choices` has what was chosen, by the tuple that came in. */
function moved(choices: Map<string, string>, side: Played, i: number, free: Free): string[] {
  const came = side.in[i];
  if (came === null || layers(came.frame).l4 < 0 || layers(came.frame).later) return [];
  const { l3, l4, src, dst, proto } = layers(came.frame);
  const ports =
    proto === 1 || proto === 58 ? came.frame.subarray(l4 + 4, l4 + 6) : came.frame.subarray(l4, l4 + 4);
  const tuple = `${came.port} ${l3} ${src} ${dst} ${proto} ${ports.join('.')}`;
  return side.out[i].flatMap(([, frame]) => {
    const state = exposedState(frame) ?? '';
    if (/inv|rel|rpl/.test(state) || !/[sd]nat/.test(state)) return [];
    const chosen = new Set<string>();
    blind(frame, free, chosen);
    const now = [...chosen].join(', ');
    const before = choices.get(tuple);
    choices.set(tuple, now);
    return /est/.test(state) && before !== undefined && before !== now
      ? [`${tuple} was translated to ${before} and is now to ${now}`]
      : [];
  });
}

/** Why `pair` ("address bytes, port") is none that the table allows, or null. */
function outOfRange(c: NatCase, pair: string): string | null {
  const range = /nat\((?:src|dst)=\[?([0-9a-f.:]+?)\]?(?:-\[?([0-9a-f.:]+?)\]?)?(?::(\d+)-(\d+))?[,)]/.exec(
    c.flows,
  );
  if (range === null) return `no range in ${c.about}`;
  const [bytes, port] = pair.split(' ');
  const last = Number(bytes.split('.').at(-1));
  const lastOf = (text: string) => ipBytes(text).at(-1)!;
  const min = lastOf(range[1]);
  const max = range[2] === undefined ? min : lastOf(range[2]);
  if (last < min || last > max) return `address ${bytes} is not in ${range[0]}`;
  if (port !== '-' && range[3] !== undefined && /nat\(src/.test(range[0])) {
    const n = Number(port);
    if (n < Number(range[3]) || n > Number(range[4])) return `port ${port} is not in ${range[0]}`;
  }
  return null;
}

export function keep(dir: string, name: string, c: NatCase, played: Played): void {
  const folder = path.join(dir, name);
  mkdirSync(folder, { recursive: true });
  const meta = { about: c.about, made: `npm run oracle:fuzz: ${name}`, ports: c.ports };
  writeFileSync(path.join(folder, 'meta.json'), `${JSON.stringify(meta, null, 2)}\n`);
  writeFileSync(path.join(folder, 'flows.txt'), c.flows);
  const records = c.steps.flatMap((s, i): InputRecord[] => {
    const t = 100 + s.us / 1e6;
    if (s.cmd) return [{ t, cmd: s.cmd }];
    const came = played.in[i];
    return came === null ? [] : [{ t, in_port: came.port, hex: hex(came.frame), note: s.note }];
  });
  writeFileSync(path.join(folder, 'input.jsonl'), records.map((r) => `${JSON.stringify(r)}\n`).join(''));
}

/** Whether Open vSwitch, started anew, draws so that more than the draw differs: then nothing can be said. */
async function differsFromItself(
  c: NatCase,
  before: Played,
  bindir: string | undefined,
  dir: string,
): Promise<boolean> {
  for (let again = 0; again < TRIES; again++) {
    const ovs = await Ovs.start(bindir, 2);
    try {
      const played = await playOvs(ovs, c, { dir, startMs: MS_BETWEEN });
      if (differences(c, before, played).length > 0) return true;
    } finally {
      await ovs.stop();
    }
  }
  return false;
}

export interface NatFuzzOptions {
  readonly bindir: string | undefined;
  readonly seed: number;
  readonly first: number;
  readonly cases: number;
  /** Where cases that differ are written. */
  readonly out: string | undefined;
  /** Ends after so many of them. */
  readonly stop: number;
}

/** Plays the cases; returns how many differ. */
export async function fuzzNat(o: NatFuzzOptions): Promise<number> {
  const { seed, first, cases } = o;
  const dir = mkdtempSync(path.join(os.tmpdir(), 'nat-fuzz-'));
  const running = { ovs: null as Ovs | null };
  let differ = 0;
  let undecided = 0;
  let packets = 0;
  let exact = 0;
  let translated = 0;
  let version = '';
  try {
    let startMs = 0;
    for (let n = first; n < first + cases && differ < o.stop; n++) {
      if (running.ovs === null || (n - first) % CASES_A_SWITCH === 0) {
        await running.ovs?.stop();
        running.ovs = await Ovs.start(o.bindir, 2);
        version = running.ovs.version;
        startMs = MS_BETWEEN;
      }
      const c = drawCase(seed, n);
      const ovs = await playOvs(running.ovs, c, { dir, startMs });
      startMs += Math.ceil(c.steps.at(-1)!.us / 1000) + MS_BETWEEN;
      const ours = await playShardtrack(c);
      const found = differences(c, ovs, ours);
      const workers = await workersDisagree(c, ours, n);
      if (workers !== null) found.push(workers);
      packets += c.steps.length;
      for (const outs of ovs.out) {
        for (const [, frame] of outs) if (/[sd]nat/.test(exposedState(frame) ?? '')) translated++;
      }
      if (c.free === null) exact++;
      if (found.length === 0) continue;
      if (c.free !== null && (await differsFromItself(c, ovs, o.bindir, dir))) {
        undecided++;
        continue;
      }
      differ++;
      process.stdout.write(`seed ${seed}, case ${n}: ${c.about}${c.free ? ' (free)' : ''}\n`);
      for (const text of found.slice(0, 3)) process.stdout.write(`    ${text}\n`);
      if (found.length > 3) process.stdout.write(`    and ${found.length - 3} more\n`);
      const name = `fuzz-nat-${seed}-${n}`;
      const out = o.out ?? os.tmpdir();
      keep(out, name, c, ovs);
      process.stdout.write(`    ${path.join(out, name)}\n`);
    }
  } finally {
    await running.ovs?.stop();
    rmSync(dir, { recursive: true, force: true });
  }
  process.stdout.write(
    `${version}: ${cases} cases (${exact} compared byte by byte), ${packets} steps, ${translated} translated packets seen; ${differ} cases differ, ${undecided} undecided\n`,
  );
  return differ;
}
