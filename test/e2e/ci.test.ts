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
  // What has all of its history keeps it, and a push that nobody was in the way of is not tried again.
  assert.equal(git(at('one'), 'rev-parse', '--is-shallow-repository').trim(), 'false');
  fs.writeFileSync(at('origin', 'hooks', 'pre-receive'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
  fs.appendFileSync(at('one', 'out/h.ndjson'), '{"run":"refused"}\n');
  assert.match(history('one', 'push', 'out/h.ndjson').stderr, /was refused, as said above/);
  fs.rmSync(at('origin', 'hooks', 'pre-receive'));
  ok('one', 'pull');
  assert.equal(history('one', 'push', 'out/none').status, 66);
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
  assert.equal(script('compare.sh', {}).status, 64);
});

/** A step of action.yml that runs something. */
interface Step {
  name: string;
  if: string | null;
  env: [name: string, value: string][];
  run: string;
}

/** Reads the part of YAML that action.yml is written in. */
function stepsOfAction(): Step[] {
  const text = fs.readFileSync(path.join(root, 'action.yml'), 'utf8');
  return text
    .slice(text.indexOf('  steps:\n'))
    .split('\n    - name: ')
    .slice(1)
    .map((step) => {
      const value = (key: string) => new RegExp(`^      ${key}: (.*)$`, 'm').exec(step)?.[1] ?? null;
      const env = [...step.matchAll(/^ {8}(SHARDTRACK_\w+): (.*)$/gm)];
      const lines = /^ {6}run: \|\n((?: {8}.*\n?)+)/m.exec(step)?.[1].replace(/^ {8}/gm, '');
      return {
        name: step.split('\n', 1)[0],
        if: value('if'),
        env: env.map(([, name, text]): [string, string] => [name, text]),
        run: lines ?? /^'(.*)'$/.exec(value('run')!)![1],
      };
    });
}

/** What GitHub makes of an expression: its operators are those of JavaScript. */
function evaluate(expression: string, inputs: Record<string, string>): string | boolean {
  const format = (text: string, ...values: string[]) =>
    text.replace(/\{(\d)\}/g, (_, i) => values[Number(i)]);
  const code = expression.replace(/inputs\.([\w-]+)/g, (_, name) => `inputs[${JSON.stringify(name)}]`);
  return new Function('inputs', 'format', `return ${code}`)(inputs, format);
}

/** Runs the steps but the first, which installs, as a runner does; returns the exit code of the one that failed. */
function runAction(cwd: string, given: Record<string, string>): { failed: string | null; status: number } {
  const text = fs.readFileSync(path.join(root, 'action.yml'), 'utf8');
  const inputs: Record<string, string> = {};
  for (const [, name, value] of text.matchAll(/^ {2}([\w-]+):\n {4}description: .*\n {4}default: (.*)$/gm)) {
    inputs[name] = value.replace(/^'(.*)'$/, '$1');
  }
  Object.assign(inputs, given);
  const [build, ...steps] = stepsOfAction();
  assert.match(build.run, /npm ci .*\n.*tsc/);
  for (const step of steps) {
    if (step.if !== null && !evaluate(step.if, inputs)) continue;
    const env = Object.fromEntries(
      step.env.map(([name, value]) => [
        name,
        value.replace(/\$\{\{ (.*?) \}\}/g, (_, code) => `${evaluate(code, inputs)}`),
      ]),
    );
    const file = path.join(folder, 'step.sh');
    fs.writeFileSync(file, step.run);
    const { status, stderr } = spawnSync('bash', ['--noprofile', '--norc', '-eo', 'pipefail', file], {
      cwd,
      env: {
        PATH: process.env.PATH,
        GITHUB_ACTION_PATH: root,
        GITHUB_STEP_SUMMARY: path.join(cwd, 'summary.md'),
        ...env,
      },
    });
    if (status !== 0) return { failed: `${step.name}: ${stderr}`, status: status ?? -1 };
  }
  return { failed: null, status: 0 };
}

test('ci: the steps of action.yml, as a runner runs them: measuring, history, comparing, failing', () => {
  const cwd = path.join(folder, 'runner');
  fs.mkdirSync(cwd);
  const measured = runAction(cwd, {
    workloads: 'udp',
    'bench-args': '--packets 1000 --connections 10 --workers 0 --processes 2 --seconds 1 --warmup 1',
    history: 'kept/history.ndjson',
    out: 'out',
  });
  assert.deepEqual(measured, { failed: null, status: 0 });
  const at = (name: string) => path.join(cwd, name);
  assert.equal(fs.readFileSync(at('kept/history.ndjson'), 'utf8').trim().split('\n').length, 1);
  assert.match(fs.readFileSync(at('summary.md'), 'utf8'), /Shardtrack benchmarks/);

  const stored = (name: string, factors: readonly number[]) => {
    const results = JSON.parse(fs.readFileSync(at('out/bench.json'), 'utf8'));
    const [workload] = results.workloads;
    const [first] = workload.processes;
    workload.processes = factors.map((factor) => ({
      ...first,
      nsPerPacket: 100 * factor,
      cpuNsPerPacket: 120 * factor,
    }));
    fs.writeFileSync(at(name), JSON.stringify(results));
  };
  const around = [0.99, 1, 1.01, 1, 0.995];
  stored('base.json', around);
  stored(
    'slow.json',
    around.map((factor) => 1.2 * factor),
  );
  stored('wild.json', [0.5, 1, 2, 0.7, 1.4]);
  const slower = runAction(cwd, { base: 'base.json', candidate: 'slow.json' });
  assert.equal(slower.status, 1, slower.failed ?? '');
  assert.match(slower.failed!, /^Compare/);
  assert.match(fs.readFileSync(at('summary.md'), 'utf8'), /Stored results: slower/);
  assert.equal(runAction(cwd, { base: 'base.json', candidate: 'base.json' }).status, 0);
  assert.equal(
    runAction(cwd, { base: 'base.json', candidate: 'wild.json' }).status,
    0,
    'as it is by default',
  );
  assert.equal(
    runAction(cwd, { base: 'base.json', candidate: 'wild.json', 'fail-on': 'slower unknown' }).status,
    2,
  );
  assert.equal(runAction(cwd, { base: 'base.json', candidate: 'slow.json', 'fail-on': '' }).status, 0);
});
