/** Differential suite: every fixture of fixtures/oracle through the real command line, with 0, 1 and 2 workers,
 *  against the recorded answer of Open vSwitch. ORACLE_ONLY=REGEX picks fixtures, ORACLE_KEEP=1 keeps the
 *  files, ORACLE_ALL=1 shows all differences, ORACLE_TABLES=N compares that many tables on the way per fixture. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { packetDifferences, tableDifferences } from './compare.js';
import { type Expected, type Fixture, fixtureNames, loadFixture, readExpected, timeline } from './fixture.js';
import { COMMAND, type Run, runProduct } from './product.js';

const WORKERS = [0, 1, 2];
/** Tables on the way cost a run each: so many per fixture, evenly chosen. */
const TABLES_ON_THE_WAY = Number(process.env['ORACLE_TABLES'] ?? 2);

const only = new RegExp(process.env['ORACLE_ONLY'] ?? '');
let work = '';

const failedRecords = (e: Expected): Set<number> => new Set(e.answers.filter((a) => a.error).map((a) => a.i));

async function compareOne(f: Fixture, expected: Expected): Promise<void> {
  const tl = timeline(f.records, failedRecords(expected));
  const run = (workers: number, t = tl, name = f.name): Promise<Run> =>
    runProduct(t, { flows: f.flows, ports: f.meta.ports, workers, work: path.join(work, name) });

  const first = await run(WORKERS[0]);
  const packets = packetDifferences(f.records, expected.answers, first).map(([, t]) => t);
  const tables = tableDifferences(expected.conntrack, first.conntrack).map((t) => `at the end: ${t}`);
  const found = [...packets, ...tables];

  const dumps = f.records.flatMap((r, i) =>
    r.cmd?.[0] === 'dpctl/dump-conntrack' && !r.cmd.includes('-s') ? [i] : [],
  );
  const step = Math.max(1, Math.ceil(dumps.length / TABLES_ON_THE_WAY));
  for (const i of dumps.filter((_, k) => k % step === 0)) {
    const r = f.records[i];
    // The run of the input up to here shows the table at this time, except that of one zone.
    if (r.cmd!.some((w) => w.startsWith('zone='))) continue;
    const prefix = timeline([...f.records.slice(0, i), { t: r.t, note: '' }], failedRecords(expected));
    if (!prefix.packets.length) continue;
    const want = expected.answers.find((a) => a.i === i)?.result;
    assert.ok(Array.isArray(want), `no table recorded for record ${i}: npm run oracle:record`);
    const got = await run(0, prefix, path.join(f.name, `table-${i}`));
    found.push(...tableDifferences(want, got.conntrack).map((t) => `at record ${i} (t=${r.t}): ${t}`));
  }
  const shown = process.env['ORACLE_ALL'] ? found : found.slice(0, 1);
  assert.ok(
    !found.length,
    `${found.length} differences from ${expected.version}:\n    ${shown.join('\n    ')}`,
  );

  for (const workers of WORKERS.slice(1)) {
    const other = await run(workers);
    const bad = [...first.files].filter(([n, b]) => !b.equals(other.files.get(n)!)).map(([n]) => n);
    assert.deepEqual(bad, [], `--workers ${WORKERS[0]} and --workers ${workers} write different files`);
  }
}

describe('shardtrack against the recorded answers of Open vSwitch', { concurrency: 2 }, () => {
  before(() => {
    const program = COMMAND.find((w) => /\.(js|py)$/.test(w));
    assert.ok(!program || existsSync(program), `${program} is not there: npm run build`);
    work = mkdtempSync(path.join(os.tmpdir(), 'shardtrack-oracle-'));
  });
  after(() => {
    if (work && !process.env['ORACLE_KEEP']) rmSync(work, { recursive: true, force: true });
  });
  const names = fixtureNames();
  assert.ok(names.length > 0, 'fixtures/oracle is empty');
  for (const name of names.filter((n) => only.test(n))) {
    const f = loadFixture(name);
    it(`${name}: ${f.meta.about}`, { skip: f.meta.pending && `pending: ${f.meta.pending}` }, async () => {
      const expected = readExpected(path.join(f.dir, 'expected.jsonl'));
      assert.ok(expected, `${name} has no recorded answer: npm run oracle:record ${name}`);
      await compareOne(f, expected);
    });
  }
});
