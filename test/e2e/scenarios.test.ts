/** The scenarios of docs/scenarios: their captures are what they are made by, their commands run, and print what the pages
 *  say. What each packet becomes is compared with Open vSwitch in test/differential/oracle.test.ts. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { carrier } from '../../bench/scenarios/carrier.js';
import { ROOT } from '../differential/fixture.js';
import {
  documentedScenarios,
  folderOf,
  SCENARIO_FOLDER,
  writeTraffic,
} from '../differential/scenarios/documented.js';

const CLI = path.join(ROOT, 'dist', 'src', 'cli', 'main.js');
const DOCS = path.join(ROOT, 'docs', 'scenarios');

describe('documented scenarios', () => {
  let work = '';
  before(() => {
    work = mkdtempSync(path.join(os.tmpdir(), 'shardtrack-scenarios-'));
  });
  after(() => rmSync(work, { recursive: true, force: true }));

  for (const sc of documentedScenarios) {
    const name = folderOf(sc);
    const page = readFileSync(path.join(DOCS, `${name}.md`), 'utf8');

    it(`${name}: the captures are what make-scenarios.ts writes`, () => {
      writeTraffic(sc, work);
      for (const file of ['traffic.pcapng', 'events.ndjson']) {
        const kept = path.join(SCENARIO_FOLDER, name, file);
        if (!existsSync(kept)) continue;
        assert.deepEqual(
          readFileSync(path.join(work, file)),
          readFileSync(kept),
          `${kept}: run make-scenarios`,
        );
      }
    });

    it(`${name}: its commands print what the page says`, () => {
      const commands = [...page.matchAll(/^ +npx shardtrack (.*?)(?: && .*)?$/gm)].map((m) => m[1]);
      assert.ok(commands.length > 0);
      let printed = '';
      for (const command of commands) {
        const args = command.replace('2=world.pcap', `2=${path.join(work, 'world.pcap')}`).split(' ');
        const r = spawnSync(process.execPath, [CLI, ...args], { cwd: ROOT, encoding: 'utf8' });
        assert.equal(r.status, 0, r.stderr);
        printed += r.stdout + r.stderr;
      }
      const promised = page
        .split('\n')
        .map((line) => line.trim())
        .filter((line) => /^(packets|output|dropped|connections) {2}|^(tcp|udp),orig=|^parent=/.test(line));
      assert.ok(promised.length > 4, 'the page promises nothing');
      for (const line of promised) assert.ok(printed.includes(line), `not printed: ${line}`);
    });
  }

  it('carrier-nat: in range, one address a subscriber, nobody confused, all answers come home', async () => {
    const subscribers = 4000;
    const r = await carrier({ subscribers, each: 2, workers: 2, dir: work });
    assert.deepEqual(
      [r.connections, r.outOfRange, r.wandering, r.confused, r.home, r.answers],
      [2 * subscribers, 0, 0, 0, 2 * subscribers, 2 * subscribers],
    );
    // Each address has its eighth, within four standard deviations.
    for (const { subscribers: n } of r.outside) assert.ok(Math.abs(n - subscribers / 8) < 84, `${n}`);
  });

  it('every page, and every folder, is in the list', () => {
    const list = readFileSync(path.join(DOCS, 'README.md'), 'utf8');
    for (const file of readdirSync(DOCS))
      if (file !== 'README.md') assert.ok(list.includes(`(${file})`), file);
    for (const name of readdirSync(SCENARIO_FOLDER)) assert.ok(list.includes(`scenario -- ${name}`), name);
  });
});
