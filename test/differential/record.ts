/** npm run oracle:record -- [--check] [--ovs-bindir DIR] [--captures] [NAME...]
 *
 *  Replays the inputs of fixtures/oracle (all, or those whose names contain a NAME) through a real Open vSwitch,
 *  rewrites their recorded answers and shows what changed. --check only shows, and exits with 1 if anything differs.
 *  --captures does the same for fixtures/captures/ovs-states.jsonl.
 *
 *  expected.jsonl belongs to the newest Open vSwitch that was asked; an older one that answers differently has its own
 *  expected-MAJOR.MINOR.jsonl beside it, and one that answers the same has none.
 *  Exit: 0 done, 1 something differs (--check) or could not be recorded, 2 usage, or Open vSwitch is not installed. */
import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { recordCaptures } from './capture-states.js';
import { outputDifference } from './compare.js';
import {
  type Answer,
  type Expected,
  type Fixture,
  fixtureNames,
  loadFixture,
  readExpected,
  writeExpected,
} from './fixture.js';
import { describe, EXPOSES, exposedState } from './frame.js';
import { Ovs, OvsMissing } from './ovs.js';

/** One answer for all the records of a fixture. */
export async function ask(f: Fixture, bindir: string | undefined): Promise<Expected> {
  const ovs = await Ovs.start(bindir, f.meta.ports);
  try {
    const flows = readFileSync(f.flows, 'utf8');
    if (f.groups !== null) await ovs.addGroups(f.groups);
    await ovs.addFlows(f.flows, flows);
    const shows = flows.includes(EXPOSES);
    const answers: Answer[] = [];
    // Shardtrack's clock counts from the first packet.
    const began = (f.records.find((r) => r.hex !== undefined) ?? f.records[0])?.t ?? 0;
    for (const [i, r] of f.records.entries()) {
      await ovs.clock(Math.floor(Math.round((r.t - began) * 1e6) / 1000));
      if (r.hex !== undefined) {
        // The order of the copies on different ports means nothing; on one port it is kept.
        const out = [...(await ovs.packet(r.in_port!, r.hex))].sort(([p], [q]) => p - q);
        const ct = shows
          ? [...new Set(out.map(([, h]) => exposedState(h)).filter((s) => s !== null))].sort()
          : [];
        answers.push({ i, out, ...(ct.length ? { ct } : {}) });
      } else if (r.ofctl) {
        const { result, error } = await ovs.change(r.ofctl);
        answers.push({ i, result: result?.trimEnd() ?? '', ...(error ? { error } : {}) });
      } else if (r.cmd || r.vsctl) {
        const dump = /^dpctl.dump-conntrack(-exp)?$/.test(r.cmd?.[0] ?? '');
        const { result, error } = r.cmd ? await ovs.command(r.cmd) : await ovs.vsctl(r.vsctl!);
        const said = result?.trimEnd() ?? '';
        answers.push({
          i,
          result: dump ? said.split('\n').filter(Boolean).sort() : said,
          ...(error ? { error } : {}),
        });
      }
    }
    return {
      version: ovs.version,
      made: 'npm run oracle:record: input.jsonl through ovs-vswitchd --enable-dummy with flows.txt',
      answers,
      conntrack: await ovs.table(),
    };
  } finally {
    await ovs.stop();
  }
}

/** What changed from `old` to `now`, in words. */
export function changes(f: Fixture, old: Expected, now: Expected): string[] {
  const found: string[] = [];
  const before = new Map(old.answers.map((a) => [a.i, a]));
  for (const a of now.answers) {
    const b = before.get(a.i);
    const r = f.records[a.i];
    const where = `record ${a.i} (t=${r.t}${r.note ? `, "${r.note}"` : ''}${r.hex ? `: ${describe(r.hex)}` : ''})`;
    if (!b) found.push(`${where}: new`);
    else if (a.out) {
      const d = outputDifference(b.out ?? [], a.out, null);
      if (d) found.push(`${where}: ${d}`);
    } else if (JSON.stringify(a) !== JSON.stringify(b)) {
      const lines = (x: Answer) => (Array.isArray(x.result) ? (x.result as string[]) : [String(x.result)]);
      found.push(`${where}: ${(r.cmd ?? r.vsctl ?? r.ofctl)!.join(' ')}${lineChanges(lines(b), lines(a))}`);
    }
  }
  if (old.answers.length > now.answers.length)
    found.push(`${old.answers.length - now.answers.length} answers fewer`);
  const t = lineChanges(old.conntrack, now.conntrack);
  if (t) found.push(`the connection table at the end:${t}`);
  return found;
}

const lineChanges = (old: readonly string[], now: readonly string[]): string =>
  [
    ...old.filter((l) => !now.includes(l)).map((l) => `\n      - ${l}`),
    ...now.filter((l) => !old.includes(l)).map((l) => `\n      + ${l}`),
  ].join('');

const numbers = (version: string): number[] =>
  (/(\d+)\.(\d+)\.(\d+)/.exec(version) ?? []).slice(1).map(Number);

function newer(a: string, b: string): boolean {
  const [x, y] = [numbers(a), numbers(b)];
  const k = x.findIndex((n, i) => n !== y[i]);
  return k >= 0 && x[k] > (y[k] ?? 0);
}

export const ownFile = (f: Fixture, version: string): string =>
  path.join(f.dir, `expected-${numbers(version).slice(0, 2).join('.')}.jsonl`);

/** Compares and, unless `check`, stores. Returns the sentences to show. */
export function store(f: Fixture, now: Expected, check: boolean): string[] {
  const main = path.join(f.dir, 'expected.jsonl');
  const own = ownFile(f, now.version);
  const recorded = readExpected(main);
  if (!recorded) {
    if (!check) writeExpected(main, now);
    return ['no answer was recorded yet'];
  }
  const same = (x: Expected) => !changes(f, x, now).length;
  if (now.version === recorded.version || newer(now.version, recorded.version)) {
    const found = changes(f, recorded, now);
    if (!check && (found.length || now.version !== recorded.version)) {
      if (now.version !== recorded.version && found.length) renameSync(main, ownFile(f, recorded.version));
      writeExpected(main, now);
    }
    return found;
  }
  // An older one: its own file holds its answers where they differ.
  const before = readExpected(own);
  if (same(recorded)) {
    if (before && !check) rmSync(own);
    return before ? [`${path.basename(own)} is not needed: it now answers as ${recorded.version} does`] : [];
  }
  const found = changes(f, before ?? recorded, now);
  if (!check && found.length) writeExpected(own, now);
  return found;
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      check: { type: 'boolean', default: false },
      captures: { type: 'boolean', default: false },
      'ovs-bindir': { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write('oracle:record [--check] [--captures] [--ovs-bindir DIR] [NAME...]\n');
    return 0;
  }
  const bindir = values['ovs-bindir'];
  if (values.captures) return recordCaptures(bindir, values.check);
  const names = fixtureNames().filter((n) => !positionals.length || positionals.some((p) => n.includes(p)));
  if (!names.length) {
    process.stderr.write(`no fixture matches ${positionals.join(', ')}\n`);
    return 2;
  }
  let changed = 0;
  let failed = 0;
  let version = '';
  const one = async (name: string): Promise<void> => {
    const f = loadFixture(name);
    let now: Expected;
    try {
      now = await ask(f, bindir);
    } catch (e) {
      if (e instanceof OvsMissing) throw e;
      failed++;
      process.stdout.write(`${name}: FAILED: ${(e as Error).message}\n`);
      return;
    }
    version = now.version;
    const found = store(f, now, values.check);
    if (found.length) changed++;
    const more = found.length > 12 ? `    and ${found.length - 12} more\n` : '';
    process.stdout.write(
      `${name}: ${found.length ? `${found.length} differences` : 'same'}\n${found
        .slice(0, 12)
        .map((t) => `    ${t}\n`)
        .join('')}${more}`,
    );
  };
  // Two at a time: each waits for OVS most of the time.
  const queue = [...names];
  const lane = async (): Promise<void> => {
    for (let n = queue.shift(); n !== undefined; n = queue.shift()) await one(n);
  };
  await Promise.all([lane(), lane()]);
  const known = names.filter((n) => existsSync(path.join(loadFixture(n).dir, 'expected.jsonl'))).length;
  process.stdout.write(
    `${version}: ${names.length} fixtures, ${changed} with differences${values.check ? ' (nothing written)' : ''}, ${failed} failed; ${known} have a recorded answer\n`,
  );
  return failed || (values.check && changed) ? 1 : 0;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    process.exitCode = await main();
  } catch (e) {
    process.stderr.write(`oracle:record: ${(e as Error).message}\n`);
    process.exitCode =
      e instanceof OvsMissing || (e as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') ? 2 : 1;
  }
}
