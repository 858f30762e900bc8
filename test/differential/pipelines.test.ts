/** Pipelines of real size (pipelines.ts) against what Open vSwitch answered, with any number of workers. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { readLines, timeline } from './fixture.js';
import { describe } from './frame.js';
import { makePipeline, outputDigests, PIPELINES, RECORDED, rulesIn, tableDigests } from './pipelines.js';
import { runProduct } from './product.js';

type Line = { i?: number; out?: string[]; conntrack?: string[]; version?: string };

for (const { name } of PIPELINES) {
  test(`pipeline ${name}: every packet as Open vSwitch`, async () => {
    const work = mkdtempSync(path.join(os.tmpdir(), 'shardtrack-pipelines-'));
    try {
      const fixture = makePipeline(name, work);
      const rules = rulesIn(readFileSync(fixture.flows, 'utf8'));
      assert.ok(rules > (name.endsWith('-10k') ? 9500 : 950), `${rules} rules`);
      const recorded = readLines<Line>(path.join(RECORDED, `${name}.jsonl`));
      const answers = new Map(recorded.flatMap((l) => (l.i === undefined ? [] : [[l.i, l.out!]])));
      const packets = fixture.records.flatMap((r, i) => (r.hex === undefined ? [] : [{ ...r, i }]));
      const tl = timeline(fixture.records);
      const options = { flows: fixture.flows, ports: fixture.meta.ports, work };
      const first = await runProduct(tl, { ...options, workers: name.endsWith('-10k') ? 2 : 0 });
      for (const [k, { i, hex, note }] of packets.entries()) {
        assert.deepEqual(
          outputDigests(first.outs[k]),
          answers.get(i),
          `packet ${k + 1}, ${note}: ${describe(hex!)}`,
        );
      }
      assert.deepEqual(tableDigests(first.conntrack), recorded.at(-1)!.conntrack);
      // The larger ones take most of their time to start.
      if (name.endsWith('-10k')) return;
      const second = await runProduct(tl, { ...options, workers: 2 });
      for (const [file, bytes] of first.files)
        assert.ok(bytes.equals(second.files.get(file)!), `--workers 2: ${file}`);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });
}
