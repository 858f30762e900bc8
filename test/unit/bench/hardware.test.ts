/** What `perf stat` counts, on machines that count and on those that don't. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { parseCounts } from '../../../src/bench/hardware.js';

/** As perf 6.1 says it on the development machine, a virtual one. */
const NOT_SUPPORTED = `<not supported>,,instructions:u,0,100.00,,
<not supported>,,cycles:u,0,100.00,,
<not supported>,,cache-misses:u,0,100.00,,
<not supported>,,branch-misses:u,0,100.00,,
`;
/** In the format of perf-stat(1): with a metric behind, with an event that had to share its counter, with one that never ran. */
const COUNTED = `# started on Sun Nov 22 12:00:00 2026

4000000,,instructions:u,1003251,100.00,2.00,insn per cycle
2000000,,cycles:u,1003251,100.00,,
3000,,cache-misses:u,603251,60.12,,
<not counted>,,branch-misses:u,0,0.00,,
`;

test('hardware: what is not supported or not counted is null', () => {
  const none = { instructions: null, cycles: null, cacheMisses: null, branchMisses: null };
  assert.deepEqual(parseCounts(NOT_SUPPORTED), none);
  assert.deepEqual(parseCounts(''), none);
  assert.deepEqual(parseCounts('Error:\nNo permission to enable cycles:u event.\n'), none);
  assert.deepEqual(parseCounts(COUNTED), {
    instructions: 4000000,
    cycles: 2000000,
    cacheMisses: 3000,
    branchMisses: null,
  });
});

test('hardware: kinds of cores are added up, however perf writes them', () => {
  const counts = parseCounts(`700,,cpu_core/instructions:u/,5,100.00,,
30,,cpu_atom/instructions:u/,5,100.00,,
500,,cpu_core/cycles/u,5,100.00,,
<not counted>,,cpu_atom/cycles/u,0,0.00,,
9,,cpu_core/cycles:k/,5,100.00,,
`);
  assert.deepEqual(counts, { instructions: 730, cycles: 500, cacheMisses: null, branchMisses: null });
});

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-perf-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

/** A perf that says `text` about any program, and about a process when it is interrupted, if it was enabled before. */
function perfThatSays(name: string, text: string): string {
  const place = path.join(folder, name);
  fs.mkdirSync(place);
  const script = `#!${process.execPath}
const fs = require('node:fs');
const say = () => fs.writeSync(2, ${JSON.stringify(text)});
if (!process.argv.includes('--control')) { say(); process.exit(); }
const line = Buffer.alloc(16);
if (line.toString('utf8', 0, fs.readSync(3, line)) !== 'enable\\n') process.exit(1);
process.on('SIGINT', () => { say(); process.exit(); });
setInterval(() => {}, 1000);
fs.writeSync(4, 'ack\\n');
`;
  fs.writeFileSync(path.join(place, 'perf'), script, { mode: 0o755 });
  return place;
}

/** What a process with this PATH counts. */
function count(place: string): unknown {
  const url = new URL('../../../src/bench/hardware.js', import.meta.url);
  const code = `const { HardwareCounter } = await import(${JSON.stringify(url)});
    const counter = await HardwareCounter.start();
    console.log(JSON.stringify(counter === null ? 'none' : await counter.stop()));`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
    env: { PATH: place },
    encoding: 'utf8',
  });
  assert.equal(stderr, '');
  return JSON.parse(stdout);
}

test('hardware: perf is told when to begin and when to end', () => {
  const hybrid = '60,,cpu_core/instructions:u/,5,100.00,,\n4,,cpu_atom/instructions:u/,5,100.00,,\n';
  assert.deepEqual(count(perfThatSays('counting', COUNTED)), parseCounts(COUNTED));
  assert.deepEqual(count(perfThatSays('hybrid', hybrid)), parseCounts(hybrid));
  assert.equal(count(perfThatSays('not-counting', NOT_SUPPORTED)), 'none');
  assert.equal(count(path.join(folder, 'nowhere')), 'none');
});
