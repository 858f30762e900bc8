/** npm run oracle:fuzz -- --protocol NAME --seed S --cases N: random traffic of one kind (fuzz/*.ts) through a live Open
 *  vSwitch and through shardtrack, compared packet by packet, with the connection table at the end of each case
 *  (addresses, states, windows' scales, mark, label, timeouts), and between numbers of workers.
 *
 *  A case depends on protocol, seed and its number alone. Cases are asked in batches, one after the other through the
 *  same switch: a flush and a long pause lie between them. One that differs is asked again by itself, made smaller,
 *  and written as a fixture (fixture.ts says what is in it).
 *  Exit: 0 no difference, 1 some, 2 usage, or no Open vSwitch to ask. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { commandDifferences, packetDifferences, tableDifferences } from './compare.js';
import { type Fixture, type InputRecord, timeline, writeExpected } from './fixture.js';
import type { Fuzzer } from './fuzz/fuzzer.js';
import { BETWEEN_S, FUZZERS, playCase } from './fuzz/index.js';
import { fuzzNat } from './nat-fuzz.js';
import { OvsMissing } from './ovs.js';
import { runProduct } from './product.js';
import { ask } from './record.js';
import { Script } from './scenarios/script.js';

const HELP = `usage: npm run oracle:fuzz -- --protocol NAME [options]

  --protocol NAME   ${FUZZERS.map((f) => `${f.name}: ${f.about}`).join('\n                    ')}
                    nat: translating tables, and answers to what was chosen; --batch, --workers and --minimise
                    mean nothing to it
  --seed S          default 1
  --cases N         default 100
  --first K         begin with case K, default 0
  --batch N         cases for one start of each program, default 25
  --ovs-bindir DIR  an installation or a build tree of Open vSwitch; default: the installed one
  --workers LIST    default 0,2: all must agree byte for byte
  --out DIR         where cases that differ are written, default the system's temporary directory
  --minimise N      make them smaller, with N questions at most, default 60
  --stop N          after N cases that differ, default 5
`;

class Usage extends Error {}

/** The records of a case. */
export function play(f: Fuzzer, seed: number, number: number, table: number): InputRecord[] {
  const s = new Script();
  playCase(s, f, seed, number, table);
  return s.records;
}

/** Records of several cases, one after the other. */
export function inRow(cases: readonly (readonly InputRecord[])[]): InputRecord[] {
  const out: InputRecord[] = [];
  let shiftUs = 0;
  for (const records of cases) {
    const began = Math.round((records[0]?.t ?? 0) * 1e6);
    let last = began;
    for (const r of records) {
      last = Math.round(r.t * 1e6);
      out.push({ ...r, t: (last - began + shiftUs + 100_000_000) / 1e6 });
    }
    shiftUs += last - began + BETWEEN_S * 1e6;
  }
  return out;
}

interface Question {
  readonly fuzzer: Fuzzer;
  readonly table: number;
  readonly bindir: string | undefined;
  readonly workers: readonly number[];
}

function fixture(q: Question, name: string, dir: string, records: readonly InputRecord[]): Fixture {
  mkdirSync(dir, { recursive: true });
  const flows = path.join(dir, 'flows.txt');
  writeFileSync(flows, q.fuzzer.tables[q.table]);
  const meta = { about: q.fuzzer.about, made: 'npm run oracle:fuzz', ports: q.fuzzer.ports };
  return { name, dir, meta, flows, groups: null, records };
}

/** How often each state was seen, over all questions. */
const seen = new Map<string, number>();

/** Differences as [record, sentence]; the record is the last one if it is about the end. */
async function differences(q: Question, records: readonly InputRecord[]): Promise<[number, string][]> {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'shardtrack-fuzz-'));
  try {
    const f = fixture(q, 'fuzz', dir, records);
    const expected = await ask(f, q.bindir);
    const tl = timeline(records);
    const run = (workers: number) =>
      runProduct(tl, { flows: f.flows, ports: f.meta.ports, workers, work: path.join(dir, 'run') });
    const first = await run(q.workers[0]);
    for (const v of first.verdicts) for (const { state } of v.ct) seen.set(state, (seen.get(state) ?? 0) + 1);
    const packets = records.flatMap((r, i) => (r.hex === undefined ? [] : [i]));
    const found: [number, string][] = packetDifferences(records, expected.answers, first).map(([k, t]) => [
      packets[k],
      t,
    ]);
    for (const t of commandDifferences(records, expected.answers, first))
      found.push([Number(/^record (\d+)/.exec(t)![1]), t]);
    const end = records.length - 1;
    for (const t of tableDifferences(expected.conntrack, first.conntrack))
      found.push([end, `at the end: ${t}`]);
    for (const workers of q.workers.slice(1)) {
      const other = await run(workers);
      const bad = [...first.files].filter(([n, b]) => !b.equals(other.files.get(n)!)).map(([n]) => n);
      if (bad.length)
        found.push([end, `--workers ${q.workers[0]} and ${workers} write different ${bad.join(', ')}`]);
    }
    return found.sort(([a], [b]) => a - b);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Drops records as long as something differs still (Zeller and Hildebrandt's ddmin), with `budget` questions. */
async function minimise(
  q: Question,
  records: readonly InputRecord[],
  budget: number,
): Promise<InputRecord[]> {
  let now = [...records];
  for (let parts = 2; parts <= now.length && budget > 0; ) {
    const size = Math.ceil(now.length / parts);
    let smaller: InputRecord[] | null = null;
    for (let at = 0; at < now.length && budget > 0 && smaller === null; at += size) {
      const rest = [...now.slice(0, at), ...now.slice(at + size)];
      if (!rest.some((r) => r.hex !== undefined)) continue;
      budget--;
      if ((await differences(q, rest)).length) smaller = rest;
    }
    if (smaller !== null) {
      now = smaller;
      parts = Math.max(parts - 1, 2);
    } else if (size === 1) break;
    else parts = Math.min(parts * 2, now.length);
  }
  return now;
}

function writeCase(f: Fixture, fuzzer: Fuzzer, seed: number, number: number): void {
  const made = `npm run oracle:fuzz -- --protocol ${fuzzer.name} --seed ${seed}, case ${number}`;
  writeFileSync(path.join(f.dir, 'meta.json'), `${JSON.stringify({ ...f.meta, made }, null, 2)}\n`);
  writeFileSync(path.join(f.dir, 'input.jsonl'), f.records.map((r) => `${JSON.stringify(r)}\n`).join(''));
}

export async function main(argv: readonly string[]): Promise<number> {
  let parsed: ReturnType<typeof parse>;
  try {
    parsed = parse(argv);
  } catch (e) {
    throw new Usage((e as Error).message);
  }
  const { values: v } = parsed;
  if (v.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const whole = (name: 'seed' | 'cases' | 'first' | 'batch' | 'minimise' | 'stop'): number => {
    const n = Number(v[name]);
    if (!Number.isSafeInteger(n) || n < 0)
      throw new Usage(`--${name} ${v[name]}: a whole number is expected`);
    return n;
  };
  if (v.protocol === 'nat') {
    const { out, 'ovs-bindir': bindir } = v;
    const [seed, first, cases, stop] = (['seed', 'first', 'cases', 'stop'] as const).map(whole);
    return (await fuzzNat({ bindir, seed, first, cases, out, stop })) > 0 ? 1 : 0;
  }
  const fuzzer = FUZZERS.find((f) => f.name === v.protocol);
  if (!fuzzer)
    throw new Usage(
      `--protocol ${v.protocol ?? ''}: one of ${FUZZERS.map((f) => f.name).join(', ')}, nat is expected`,
    );
  const [seed, first, batch] = [whole('seed'), whole('first'), Math.max(1, whole('batch'))];
  const end = first + whole('cases');
  const workers = v.workers.split(',').map(Number);
  let differ = 0;
  let packets = 0;
  for (let at = first; at < end && differ < whole('stop'); at += batch) {
    const q: Question = {
      fuzzer,
      table: Math.floor(at / batch) % fuzzer.tables.length,
      bindir: v['ovs-bindir'],
      workers,
    };
    const numbers = Array.from({ length: Math.min(batch, end - at) }, (_, k) => at + k);
    const cases = numbers.map((n) => play(fuzzer, seed, n, q.table));
    const ends: number[] = [];
    for (const c of cases) ends.push((ends.at(-1) ?? 0) + c.length);
    const records = inRow(cases);
    packets += records.filter((r) => r.hex !== undefined).length;
    let found: [number, string][];
    try {
      found = await differences(q, records);
    } catch (e) {
      if (e instanceof OvsMissing) throw e;
      // One of the cases ends a program: which one?
      process.stdout.write(`cases ${at} to ${numbers.at(-1)}: ${(e as Error).message}\n`);
      found = [];
      for (const [k, c] of cases.entries()) {
        if (differ >= whole('stop')) break;
        try {
          for (const [i, text] of await differences(q, inRow([c])))
            found.push([(ends[k - 1] ?? 0) + i, text]);
        } catch (e) {
          differ++;
          const name = `fuzz-${fuzzer.name}-${seed}-${numbers[k]}`;
          const f = fixture(q, name, path.join(v.out ?? os.tmpdir(), name), inRow([c]));
          writeCase(f, fuzzer, seed, numbers[k]);
          process.stdout.write(`${name}: ${(e as Error).message}: ${f.dir}\n`);
        }
      }
    }
    const bad = new Map<number, [string, number]>();
    for (const [i, text] of found) {
      const k = ends.findIndex((e) => i < e);
      const [was, n] = bad.get(k) ?? [text, 0];
      bad.set(k, [was, n + 1]);
    }
    for (const [k, [text, n]] of bad) {
      if (differ++ >= whole('stop')) break;
      const name = `fuzz-${fuzzer.name}-${seed}-${numbers[k]}`;
      process.stdout.write(`${name}: ${n} differences; the first: ${text}\n`);
      const own = inRow([cases[k]]);
      const alone = await differences(q, own);
      // What shows only behind the cases before is written with them.
      const whole1 = alone.length ? own : inRow(cases.slice(0, k + 1));
      const small = alone.length ? await minimise(q, own, whole('minimise')) : whole1;
      const f = fixture(q, name, path.join(v.out ?? os.tmpdir(), name), small);
      const expected = await ask(f, q.bindir);
      writeExpected(path.join(f.dir, 'expected.jsonl'), expected);
      writeCase(f, fuzzer, seed, numbers[k]);
      const again = (await differences(q, small))[0]?.[1] ?? 'not again';
      process.stdout.write(`    ${small.length} of ${own.length} records in ${f.dir}: ${again}\n`);
    }
    process.stdout.write(
      `${fuzzer.name}, seed ${seed}: cases ${at} to ${numbers.at(-1)} of table ${q.table}: ${bad.size ? `${bad.size} DIFFER` : 'agree'}\n`,
    );
  }
  const states = [...seen].sort(([, a], [, b]) => b - a).map(([state, n]) => `${state} ${n}`);
  process.stdout.write(`states: ${states.join(', ')}\n`);
  process.stdout.write(`${fuzzer.name}, seed ${seed}: ${packets} packets, ${differ} cases differ\n`);
  return differ ? 1 : 0;
}

const parse = (argv: readonly string[]) =>
  parseArgs({
    args: [...argv],
    options: {
      protocol: { type: 'string' },
      seed: { type: 'string', default: '1' },
      cases: { type: 'string', default: '100' },
      first: { type: 'string', default: '0' },
      batch: { type: 'string', default: '25' },
      'ovs-bindir': { type: 'string' },
      workers: { type: 'string', default: '0,2' },
      out: { type: 'string' },
      minimise: { type: 'string', default: '60' },
      stop: { type: 'string', default: '5' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    process.exitCode = await main(process.argv.slice(2));
  } catch (e) {
    process.stderr.write(`oracle:fuzz: ${(e as Error).message}\n`);
    process.exitCode = e instanceof Usage || e instanceof OvsMissing ? 2 : 1;
  }
}
