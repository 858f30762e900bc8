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
  const [line, whole] = ['history/bench.ndjson', 'shardtrack-results/bench.json'].map((f) =>
    JSON.parse(read(f)),
  );
  assert.deepEqual(line.environment, whole.environment);
  assert.match(read('summary.md'), /### History[\s\S]*udp: no change in 1 run/);
  assert.match(read('shardtrack-results/bench.html'), /Throughput over capture time/);
});

test('ci: history.sh keeps lines on a branch, whoever pushes meanwhile, and leaves the checkout alone', () => {
  const git = (cwd: string, ...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(
      'git',
      ['-c', 'user.name=t', '-c', 'user.email=t@t', ...args],
      { cwd },
    );
    assert.equal(status, 0, stderr.toString());
    return stdout.toString();
  };
  const at = (...names: string[]) => path.join(folder, 'history-branch', ...names);
  fs.mkdirSync(at('origin'), { recursive: true });
  git(at('origin'), 'init', '-q', '--bare', '-b', 'main');
  git(at(), 'clone', '-q', at('origin'), 'one');
  fs.writeFileSync(at('one', 'flows.txt'), 'drop\n');
  git(at('one'), 'add', 'flows.txt');
  git(at('one'), 'commit', '-qm', 'first');
  git(at('one'), 'push', '-q', 'origin', 'HEAD:main');
  git(at(), 'clone', '-q', at('origin'), 'two');
  const history = (clone: string, what: string, file: string) =>
    spawnSync('bash', [path.join(root, 'ci/history.sh'), what, file], { cwd: at(clone), encoding: 'utf8' });
  const ok = (clone: string, what: string) => {
    const { status, stderr } = history(clone, what, 'out/h.ndjson');
    assert.equal(status, 0, stderr);
  };
  const lines = (clone: string) => fs.readFileSync(at(clone, 'out/h.ndjson'), 'utf8');
  for (const clone of ['one', 'two']) {
    ok(clone, 'pull');
    assert.equal(lines(clone), '');
    fs.appendFileSync(at(clone, 'out/h.ndjson'), `{"run":"${clone}"}\n`);
  }
  // Both have pulled before either pushes: nothing is lost, and pushing twice adds nothing.
  ok('one', 'push');
  ok('two', 'push');
  ok('two', 'push');
  ok('one', 'pull');
  assert.equal(lines('one'), '{"run":"one"}\n{"run":"two"}\n');
  assert.equal(git(at('one'), 'log', '--format=%s', '-1').trim(), 'first');
  assert.equal(git(at('one'), 'status', '--porcelain', '--', 'flows.txt'), '');
  assert.equal(git(at('origin'), 'rev-list', '--count', 'shardtrack-history').trim(), '2');
  // A remote that can't be reached is no empty history.
  git(at('one'), 'remote', 'set-url', 'origin', at('nowhere'));
  assert.notEqual(history('one', 'pull', 'out/h.ndjson').status, 0);
  assert.equal(lines('one'), '{"run":"one"}\n{"run":"two"}\n');
  assert.equal(history('one', 'sometimes', 'x').status, 64);
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
