/** What runs in CI, in a plain shell. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-ci-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

function script(name: string, env: Record<string, string>) {
  const { status, stderr } = spawnSync('bash', [path.join(root, 'ci', name)], {
    cwd: folder,
    env: { PATH: process.env.PATH, ...env },
  });
  return { status, err: stderr.toString() };
}

const read = (name: string) => fs.readFileSync(path.join(folder, name), 'utf8');

test('ci: bench.sh writes results, summary and history', () => {
  const { status, err } = script('bench.sh', {
    SHARDTRACK_WORKLOADS: 'udp',
    SHARDTRACK_ARGS: '--packets 1000 --connections 10 --workers 0 --processes 1 --seconds 1 --warmup 1',
    SHARDTRACK_HISTORY: 'history/bench.ndjson',
    GITHUB_STEP_SUMMARY: 'summary.md',
  });
  assert.equal(status, 0, err);
  assert.match(read('summary.md'), /## Shardtrack benchmarks[\s\S]*\| Mpps/);
  assert.deepEqual(
    JSON.parse(read('history/bench.ndjson')),
    JSON.parse(read('shardtrack-results/bench.json')),
  );
});

test('ci: compare.sh fails on what it is told to, and summarises all the same', () => {
  fs.writeFileSync(path.join(folder, 'a.txt'), 'ip,actions=output:2\n');
  fs.writeFileSync(path.join(folder, 'b.txt'), 'ip,actions=drop\n');
  const capture = path.join(root, 'fixtures/captures/icmp-nbns.pcap');
  const compare = (failOn: string, summary: string) =>
    script('compare.sh', {
      SHARDTRACK_BASE: 'a.txt',
      SHARDTRACK_CANDIDATE: 'b.txt',
      SHARDTRACK_ARGS: `--capture ${capture} --workers 0 --only results --explain 0`,
      SHARDTRACK_FAIL_ON: failOn,
      SHARDTRACK_SUMMARY: summary,
    });
  assert.equal(compare('slower different', 'strict.md').status, 3);
  assert.equal(compare('slower', 'mild.md').status, 0);
  for (const name of ['strict.md', 'mild.md']) assert.match(read(name), /packets differ/);
  const { status, err } = compare('sometimes', 'x.md');
  assert.equal(status, 64);
  assert.match(err, /"sometimes" is none of/);
});
