/** The fixtures themselves: made by what they say they are made by, complete, and rewritten by the recorder as it says. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { outputDifference, tableDifferences } from './compare.js';
import {
  CAPTURES,
  type Expected,
  type Fixture,
  fixtureNames,
  loadFixture,
  ORACLE,
  readExpected,
  timeline,
} from './fixture.js';
import { filesOf, SCENARIOS } from './make-scenarios.js';
import { changes, store } from './record.js';

describe('fixtures/oracle', () => {
  for (const sc of SCENARIOS) {
    it(`${sc.name} is what make-scenarios.ts writes`, () => {
      for (const [file, text] of Object.entries(filesOf(sc))) {
        assert.equal(
          readFileSync(path.join(ORACLE, sc.name, file), 'utf8'),
          text,
          `${file}: run make-scenarios, then npm run oracle:record`,
        );
      }
    });
  }

  it('every fixture has an answer for each of its records', () => {
    for (const name of fixtureNames()) {
      const f = loadFixture(name);
      for (const file of readdirSync(f.dir).filter((n) => n.startsWith('expected'))) {
        const e = readExpected(path.join(f.dir, file));
        assert.ok(e?.version && e.made && Array.isArray(e.conntrack), `${name}/${file}`);
        const answered = new Set(e.answers.map((a) => a.i));
        assert.deepEqual(
          f.records.flatMap((r, i) =>
            (r.hex !== undefined || r.cmd || r.vsctl) && !answered.has(i) ? [i] : [],
          ),
          [],
          `${name}/${file}`,
        );
      }
      assert.ok(readExpected(path.join(f.dir, 'expected.jsonl')), `${name} has no expected.jsonl`);
    }
  });

  it('every capture of others is named in ATTRIBUTION.md', () => {
    const text = readFileSync(path.join(CAPTURES, 'ATTRIBUTION.md'), 'utf8');
    const files = readdirSync(CAPTURES).filter(
      (n) => /\.(pcap|pcapng)(\.gz)?$/.test(n) && !n.startsWith('format-'),
    );
    assert.deepEqual(
      files.filter((n) => !text.includes(`\`${n}\``)),
      [],
    );
    assert.deepEqual(
      [...text.matchAll(/^\| `([^`]+)`/gm)].map((m) => m[1]).filter((n) => !files.includes(n)),
      [],
    );
  });
});

describe('timeline', () => {
  it('records of equal time are moved a microsecond apart', () => {
    const tl = timeline([
      { t: 1, in_port: 1, hex: '00' },
      { t: 1, cmd: ['dpctl/flush-conntrack'] },
      { t: 1, cmd: ['dpctl/dump-conntrack', '-m'] },
      { t: 1, in_port: 2, hex: '01' },
    ]);
    assert.deepEqual(
      tl.packets.map((p) => [p.us, p.port]),
      [
        [1_000_000, 1],
        [1_000_003, 2],
      ],
    );
    assert.deepEqual(tl.events, [
      { i: 1, us: 1_000_001, kind: 'appctl', args: ['dpctl/flush-conntrack'] },
      { i: 2, us: 1_000_002, kind: 'appctl', args: ['dpctl/dump-conntrack', '-m'] },
    ]);
    assert.equal(tl.clock, false);
  });

  it('time behind the last packet is carried by a frame that no ct() sees', () => {
    const tl = timeline([
      { t: 1, in_port: 3, hex: '00' },
      { t: 61, note: 'the end' },
    ]);
    assert.equal(tl.clock, true);
    assert.deepEqual(
      tl.packets.map((p) => [p.us, p.port, p.frame.length]),
      [
        [1_000_000, 3, 1],
        [61_000_000, 3, 60],
      ],
    );
  });
});

describe('comparison', () => {
  const frame = '020000000002020000000001080045000020000000004011000000000000000000000001003500080000';
  it('the order of copies means nothing, their number does', () => {
    assert.equal(
      outputDifference(
        [
          [1, frame],
          [2, frame],
        ],
        [
          [2, frame],
          [1, frame],
        ],
        null,
      ),
      null,
    );
    assert.match(
      outputDifference(
        [[1, frame]],
        [
          [1, frame],
          [1, frame],
        ],
        null,
      )!,
      /port 1 is too much/,
    );
    assert.match(
      outputDifference([[1, frame]], [], 'no-match')!,
      /port 1 is missing \(reason given: no-match\)/,
    );
    assert.match(outputDifference([[1, frame]], [[4, frame]], null)!, /expected on port 1, got on port 4/);
  });
  it('a state that the MACs expose is named', () => {
    const show = (bits: string) => `0000000000000001000000${bits}${frame.slice(24)}`;
    assert.match(
      outputDifference([[1, show('21')]], [[1, show('22')]], null)!,
      /ct_state zone 1 \+new\+trk expected, zone 1 \+est\+trk got/,
    );
  });
  it('a table is compared without order, id and timeout', () => {
    assert.deepEqual(
      tableDifferences(
        ['udp,orig=(sport=1,id=7),id=0,timeout=5', 'b'],
        ['b', 'udp,orig=(sport=1,id=7),id=9'],
      ),
      [],
    );
    assert.deepEqual(tableDifferences(['a'], ['b']), ['connection missing: a', 'connection too many: b']);
  });
});

describe('recorder', () => {
  const answer = (version: string, port: number): Expected => ({
    version: `ovs-vswitchd (Open vSwitch) ${version}`,
    made: 'by this test',
    answers: [{ i: 0, out: [[port, '00']] }],
    conntrack: [],
  });
  it('expected.jsonl belongs to the newest version, an older one that differs has its own file', () => {
    const dir = mkdtempSync(path.join(os.tmpdir(), 'shardtrack-store-'));
    try {
      const f: Fixture = {
        name: 'x',
        dir,
        meta: { about: '', made: '', ports: 2 },
        flows: '',
        groups: null,
        records: [{ t: 0, in_port: 1, hex: '00' }],
      };
      const files = () => readdirSync(dir).sort();
      const versionOf = (n: string) => /[\d.]+$/.exec(readExpected(path.join(dir, n))!.version)![0];
      store(f, answer('3.1.0', 1), true);
      assert.deepEqual(files(), [], '--check writes nothing');
      store(f, answer('3.1.0', 1), false);
      assert.deepEqual(files(), ['expected.jsonl']);
      assert.equal(store(f, answer('4.0.90', 2), false).length, 1);
      assert.deepEqual(files(), ['expected-3.1.jsonl', 'expected.jsonl']);
      assert.equal(versionOf('expected.jsonl'), '4.0.90');
      assert.deepEqual(store(f, answer('3.1.0', 1), false), [], '3.1 still answers as it did');
      store(f, answer('3.1.0', 2), false);
      assert.deepEqual(files(), ['expected.jsonl'], '3.1 answers as main does: no file of its own');
      assert.equal(versionOf('expected.jsonl'), '4.0.90');
      assert.match(
        changes(f, answer('1.0.0', 1), answer('1.0.0', 2))[0],
        /record 0 .*expected on port 1, got on port 2/,
      );
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });

  it('without Open vSwitch: says what to install and exits with 2', () => {
    const r = spawnSync(
      process.execPath,
      [
        path.join(path.dirname(fileURLToPath(import.meta.url)), 'record.js'),
        '--ovs-bindir',
        '/nonexistent',
        'tcp-flags',
      ],
      { encoding: 'utf8' },
    );
    assert.equal(r.status, 2);
    assert.match(r.stderr, /is not below \/nonexistent/);
  });
});
