/** Differential suite: every fixture of fixtures/oracle through the real command line, with 0, 1 and 2 workers,
 *  against the recorded answer of Open vSwitch. ORACLE_ONLY=REGEX picks fixtures, ORACLE_KEEP=1 keeps the
 *  files, ORACLE_ALL=1 shows all differences. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { commandDifferences, packetDifferences, tableDifferences } from './compare.js';
import { type Expected, type Fixture, fixtureNames, loadFixture, readExpected, timeline } from './fixture.js';
import { COMMAND, type Run, runProduct } from './product.js';

const WORKERS = [0, 1, 2];

const only = new RegExp(process.env['ORACLE_ONLY'] ?? '');
let work = '';

async function compareOne(f: Fixture, expected: Expected): Promise<void> {
  const tl = timeline(f.records);
  const run = (workers: number): Promise<Run> =>
    runProduct(tl, {
      flows: f.flows,
      groups: f.groups,
      ports: f.meta.ports,
      workers,
      work: path.join(work, f.name),
    });

  const first = await run(WORKERS[0]);
  const packets = packetDifferences(f.records, expected.answers, first).map(([, t]) => t);
  const commands = commandDifferences(f.records, expected.answers, first);
  const tables = tableDifferences(expected.conntrack, first.conntrack).map((t) => `at the end: ${t}`);
  const found = [...packets, ...commands, ...tables];

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
