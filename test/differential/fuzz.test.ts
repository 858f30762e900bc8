/** The protocol fuzzers (fuzz.ts): what a case depends on, and what they say without Open vSwitch. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { timeline } from './fixture.js';
import { FUZZERS } from './fuzz/index.js';
import { inRow, play } from './fuzz.js';
import { runProduct } from './product.js';

const HERE = path.dirname(fileURLToPath(import.meta.url));
const command = (name: string, ...args: string[]) =>
  spawnSync(process.execPath, [path.join(HERE, `${name}.js`), ...args], { encoding: 'utf8' });

describe('oracle:fuzz', () => {
  for (const f of FUZZERS) {
    it(`${f.name}: a case depends on seed and number alone; others are other cases`, () => {
      const drawn = (seed: number, n: number) => JSON.stringify(play(f, seed, n, 0));
      assert.equal(drawn(1, 5), drawn(1, 5));
      assert.notEqual(drawn(1, 5), drawn(1, 6));
      assert.notEqual(drawn(1, 5), drawn(2, 5));
    });

    it(`${f.name}: cases run, with the same results for any number of workers`, async () => {
      const work = mkdtempSync(path.join(os.tmpdir(), 'shardtrack-fuzz-'));
      try {
        const table = f.tables.length - 1;
        writeFileSync(path.join(work, 'flows.txt'), f.tables[table]);
        const tl = timeline(inRow([7, 8, 9].map((n) => play(f, 1, n, table))));
        const o = { flows: path.join(work, 'flows.txt'), ports: f.ports, work };
        const first = await runProduct(tl, { ...o, workers: 0 });
        const states = first.verdicts.flatMap((v) => v.ct.map((c) => c.state));
        assert.ok(states.length > 50, 'most packets are tracked');
        const second = await runProduct(tl, { ...o, workers: 2 });
        for (const [name, bytes] of first.files) assert.ok(bytes.equals(second.files.get(name)!), name);
      } finally {
        rmSync(work, { recursive: true, force: true });
      }
    });
  }

  it('cases in a row keep their own time, with room for timeouts between them', () => {
    const one = [
      { t: 100, note: 'a' },
      { t: 101.5, note: 'b' },
    ];
    assert.deepEqual(
      inRow([one, one]).map((r) => r.t),
      [100, 101.5, 201.5, 203],
    );
  });

  it('without Open vSwitch, or with a wrong option: says so and exits with 2', () => {
    const without = command('fuzz', '--protocol', 'tcp', '--ovs-bindir', '/nonexistent');
    assert.deepEqual([without.status, /is not below \/nonexistent/.test(without.stderr)], [2, true]);
    const wrong = command('fuzz', '--protocol', 'xyz');
    assert.deepEqual([wrong.status, /one of tcp, /.test(wrong.stderr)], [2, true]);
  });
});
