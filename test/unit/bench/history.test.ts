/** Histories of results: read, and where they changed. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { readHistory, trendsOf } from '../../../src/bench/history.js';
import type { BenchResults } from '../../../src/bench/results.js';
import { historySections } from '../../../src/report/bench.js';
import { renderReport } from '../../../src/report/html.js';
import { sampleResults } from '../../support/sample-results.js';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-history-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

function run(day: number, ns: number, more: { cpu?: string; workers?: number } = {}): BenchResults {
  const results = sampleResults([ns], [ns / 10]);
  results.environment.commit = `${day}`.padStart(40, 'c');
  results.environment.cpu = more.cpu ?? 'one';
  results.environment.date = new Date(Date.UTC(2026, 0, day)).toISOString();
  results.workloads[0].spec.workers = more.workers ?? 1;
  return results;
}

/** 300 ns, a little up and down, then by a tenth more. */
const slower = Array.from({ length: 24 }, (_, i) => run(i + 1, (i < 16 ? 300 : 330) + (i % 3)));

test('history: a change is found where it happened, in times and in speeds', () => {
  const [time] = trendsOf(slower, 'cpuNsPerPacket');
  assert.deepEqual(time.changes, [16]);
  assert.ok(Math.abs((time.lastChange as number) - 0.1) < 0.01);
  const [, part] = trendsOf(slower, 'cpuNsPerPacket');
  assert.equal(part.name, 'tcp/update');
  assert.deepEqual(part.changes, [16]);
  const [speed, ...more] = trendsOf(slower, 'mpps');
  assert.deepEqual(more, []);
  assert.deepEqual(speed.changes, [16]);
  assert.ok((speed.lastChange as number) < -0.08);
});

test('history: runs on other machines and of other options are not compared', () => {
  const mixed = slower.flatMap((r, i) => [
    r,
    run(i + 1, 900, { cpu: 'two' }),
    run(i + 1, 50, { workers: 4 }),
  ]);
  const [trend] = trendsOf([...mixed, run(25, 330)], 'cpuNsPerPacket');
  assert.equal(trend.runs.length, 25);
  assert.deepEqual(trend.changes, [16]);
});

test('history: files are read line by line; what is wrong is named', () => {
  const file = path.join(folder, 'h.ndjson');
  fs.writeFileSync(file, slower.map((r) => `${JSON.stringify(r)}\n`).join(''));
  assert.deepEqual(readHistory(file), slower);
  fs.appendFileSync(file, '{"format":"other"}\n');
  assert.throws(() => readHistory(file), /h\.ndjson:25: these are no results of shardtrack bench/);
  fs.writeFileSync(file, '{\n');
  assert.throws(() => readHistory(file), /h\.ndjson:1: /);
  const wrong = (change: (results: BenchResults) => void): void => {
    const results = run(1, 300);
    change(results);
    fs.writeFileSync(file, JSON.stringify(results));
  };
  wrong((r) => r.workloads[0].processes.pop());
  assert.throws(() => readHistory(file), /:1: workloads\[0\]\.processes must NOT have fewer than 1 items/);
  wrong((r) => {
    r.workloads[0].processes[0].nsPerPacket = -1;
  });
  assert.throws(() => readHistory(file), /processes\[0\]\.nsPerPacket must be >= 0/);
  wrong((r) => Reflect.deleteProperty(r, 'micro'));
  assert.throws(() => readHistory(file), /the whole must have required property 'micro'/);
  wrong((r) => Object.assign(r, { later: true }));
  assert.equal(readHistory(file).length, 1);
});

test('history: the report says what changed and shows it; a single run has no history', () => {
  const sections = historySections(slower);
  const html = renderReport({ title: 'x', lead: '', facts: [], notes: [], sections });
  assert.match(html, /The last of 1 change in 24 runs is at run 17 \(cccccccccc\): \+\d+\.\d %/);
  assert.match(html, /new level from here/);
  assert.deepEqual(historySections(slower.slice(0, 1)), []);
});
