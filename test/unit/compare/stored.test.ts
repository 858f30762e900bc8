import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import type { BenchResults } from '../../../src/bench/results.js';
import { compareStored, readResults } from '../../../src/compare/stored.js';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-stored-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

/** Only what is compared. */
function results(times: number[], more: { name?: string; cpu?: string; spec?: object } = {}): BenchResults {
  const processes = times.map((t) => ({ nsPerPacket: t, cpuNsPerPacket: 1.5 * t }));
  const { name = 'udp', cpu = 'A', spec = {} } = more;
  return {
    format: 'shardtrack-bench',
    version: 1,
    environment: { cpu, cores: 2, node: 'v20.0.0', os: 'linux' },
    workloads: [{ name, spec, processes }],
    micro: [],
  } as unknown as BenchResults;
}

const limits = { tolerance: 0.01, notice: 0.05 };

test('stored: what is clear is told, what is not is not', () => {
  const base = results([100, 101, 99, 100, 100.5]);
  const verdict = (times: number[]) => compareStored(base, results(times), limits).verdict;
  assert.equal(verdict([120, 121, 119, 120, 120.5]), 'slower');
  assert.equal(verdict([100, 100.4, 99.7, 100, 100.2]), 'not slower');
  assert.equal(verdict([70, 130, 100, 140, 60]), "can't tell");
  assert.equal(verdict([120]), "can't tell");
});

test('stored: equal figures have an interval without width', () => {
  const { workloads } = compareStored(results([100, 100]), results([110, 110]), limits);
  const { ratio, low, high } = workloads[0].ratios.time;
  assert.ok(Math.abs(ratio - 1.1) < 1e-12 && low === ratio && high === ratio);
});

test('stored: other machines, other input and missing workloads are remarked on', () => {
  const { remarks } = compareStored(results([1, 1]), results([1, 1], { cpu: 'B', spec: { x: 1 } }), limits);
  assert.deepEqual(remarks, ['cpu differs: A and B', 'udp: the two did not replay the same']);
  assert.throws(() => compareStored(results([1]), results([1], { name: 'tcp' }), limits), /in common/);
});

test('stored: parts by themselves', () => {
  const parts = (medians: number[]): BenchResults => ({
    ...results([1]),
    workloads: [],
    micro: [
      { name: 'tcp/update', processes: medians.map((median) => ({ median })) },
    ] as BenchResults['micro'],
  });
  const { workloads, verdict } = compareStored(parts([20, 20.1, 19.9]), parts([25, 25.1, 24.9]), limits);
  assert.equal(verdict, 'slower');
  assert.equal(workloads[0].name, 'tcp/update');
  assert.ok(Math.abs(workloads[0].ratios.time.ratio - 1.25) < 1e-3);
});

test('stored: a file that is none is named', () => {
  const file = path.join(folder, 'x.json');
  fs.writeFileSync(file, '{"format":"other"}');
  assert.throws(() => readResults(file), /x\.json: these are no results/);
  fs.writeFileSync(file, '{');
  assert.throws(() => readResults(file), /x\.json: /);
});
