/** `shardtrack bench` as a user meets it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Ajv2020 } from 'ajv/dist/2020.js';
import type { BenchResults } from '../../src/bench/results.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const CLI = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-bench-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

const schema = JSON.parse(fs.readFileSync(path.join(root, 'docs/bench.schema.json'), 'utf8'));
const validate = new Ajv2020({ allErrors: true, allowUnionTypes: true }).compile(schema);

function cli(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, 'bench', ...args]);
  return { status, out: stdout.toString(), err: stderr.toString() };
}

const short = ['--processes', '1', '--seconds', '1', '--warmup', '1'];

test('bench: results fit the schema, as JSON, as Markdown, as a line of history', () => {
  const file = (name: string) => path.join(folder, name);
  const { status, out, err } = cli(
    ...['tcp', '--packets', '5000', '--connections', '100', '--workers', '1', ...short],
    ...['--json', file('r.json'), '--markdown', file('r.md'), '--history', file('h.ndjson')],
    ...['--html', file('r.html')],
  );
  assert.equal(status, 0, err);
  const results = JSON.parse(fs.readFileSync(file('r.json'), 'utf8')) as BenchResults;
  assert.ok(validate(results), JSON.stringify(validate.errors));
  const line = JSON.parse(fs.readFileSync(file('h.ndjson'), 'utf8')) as BenchResults;
  assert.ok(validate(line), JSON.stringify(validate.errors));
  assert.deepEqual(line.environment, results.environment);
  assert.deepEqual(line.workloads[0].summary, results.workloads[0].summary);
  assert.equal(line.workloads[0].processes[0].series.clock.length, 0);
  assert.match(fs.readFileSync(file('r.md'), 'utf8'), /\| Mpps +\|/);
  assert.match(out, /Mpps/);
  const [{ processes, summary }] = results.workloads;
  const [p] = processes;
  assert.ok(p.mpps > 0 && p.counts.commits > 0 && p.counts.microflowHits > 0);
  assert.ok(p.vector !== null && p.vector.p50 > 0 && p.vector.p99 <= p.vector.max * 1.01);
  assert.ok(p.commit !== null && p.commit.count > 0);
  const { series, states, byWorker } = p;
  for (const list of Object.values(series)) assert.equal(list.length, series.clock.length);
  assert.ok(series.clock.length > 1 && series.clock.every((at, i) => i === 0 || at > series.clock[i - 1]));
  assert.ok(states.clock.length > 1 && states.connections.ESTABLISHED.length === states.clock.length);
  assert.equal(byWorker.length, 1);
  assert.equal(byWorker[0].packets, p.packets);
  assert.ok((byWorker[0].busy as number) > 0 && (byWorker[0].busy as number) <= 1);
  const html = fs.readFileSync(file('r.html'), 'utf8');
  for (const caption of [
    'Throughput over capture time',
    'Latency of a vector',
    'Connections by state',
    'Load of each',
  ]) {
    assert.ok(html.includes(caption), caption);
  }
  assert.equal(p.workers, 1);
  assert.ok(Math.abs(summary.mpps.mean - p.mpps) < 1e-9);
});

test('bench: captures, without workers', () => {
  const { status, out, err } = cli(
    ...['--capture', path.join(root, 'fixtures/captures/web-client.pcap'), '--inside', '192.168.100.0/24'],
    ...['--flows', path.join(root, 'fixtures/flows/firewall.txt'), '--workers', '0', ...short, '--json', '-'],
  );
  assert.equal(status, 0, err);
  const results = JSON.parse(out) as BenchResults;
  assert.ok(validate(results), JSON.stringify(validate.errors));
  const [p] = results.workloads[0].processes;
  assert.equal(p.workers, 0);
  assert.equal(p.vector, null);
  assert.ok(p.packets > 0);
  const start = p.start!;
  assert.ok(start.programMs > 0 && start.inputMs > 0 && start.packetsMs > 0);
  assert.equal(p.notices, undefined);
});

test('bench: one packet is enough, and what is wrong with a capture is told', () => {
  const whole = fs.readFileSync(path.join(root, 'fixtures/captures/icmp-nbns.pcap'));
  const [single, cut] = ['single.pcap', 'cut.pcap'].map((name) => path.join(folder, name));
  const [head, record] = [24, 16];
  const length = whole.readUInt32LE(head + 8);
  fs.writeFileSync(single, whole.subarray(0, head + record + length));
  fs.writeFileSync(cut, whole.subarray(0, head + record + length + 9));
  for (const [capture, workers] of [
    [single, '2'],
    [cut, '0'],
  ]) {
    const { status, out, err } = cli('--capture', capture, '--workers', workers, ...short, '--json', '-');
    assert.equal(status, 0, err);
    const results = JSON.parse(out) as BenchResults;
    assert.ok(validate(results), JSON.stringify(validate.errors));
    const [{ notices }] = results.workloads[0].processes;
    if (capture === single) assert.equal(notices, undefined);
    else assert.match(`${notices}`, /cut\.pcap: byte \d+: the capture is cut off in mid-record/);
  }
  fs.writeFileSync(cut, whole.subarray(0, head));
  const { status, err } = cli('--capture', cut, ...short);
  assert.equal(status, 1);
  assert.match(err, /cut\.pcap: there are no packets to replay/);
});

test('bench:micro: results fit the same schema', () => {
  const file = path.join(folder, 'micro.json');
  const main = fileURLToPath(new URL('../../bench/micro/main.js', import.meta.url));
  const { status, stdout, stderr } = spawnSync(process.execPath, [
    main,
    ...['--only', 'tcp', 'checksum/60', '--processes', '2', '--seconds', '0.02', '--json', file, '--quiet'],
    ...['--html', `${file}.html`],
  ]);
  assert.equal(status, 0, stderr.toString());
  assert.match(stdout.toString(), /tcp\/update .*ns\/call/);
  const results = JSON.parse(fs.readFileSync(file, 'utf8')) as BenchResults;
  assert.ok(validate(results), JSON.stringify(validate.errors));
  assert.deepEqual(
    results.micro.map((m) => [m.name, m.processes.length]),
    [
      ['checksum/60', 2],
      ['checksum/60-plain', 2],
      ['tcp/update', 2],
    ],
  );
  assert.match(fs.readFileSync(`${file}.html`, 'utf8'), /checksum: means over processes/);
});

test('report: a history and results, as text and HTML, and as exit code', () => {
  const file = (name: string) => path.join(folder, name);
  const report = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, 'report', ...args]);
    return { status, out: stdout.toString(), err: stderr.toString() };
  };
  const [line] = fs.readFileSync(file('h.ndjson'), 'utf8').split('\n');
  const history = Array.from({ length: 16 }, (_, i) => {
    const run = JSON.parse(line) as BenchResults;
    const { cpuNsPerPacket } = run.workloads[0].summary;
    cpuNsPerPacket.mean *= (i < 8 ? 1 : 1.2) + 0.002 * (i % 3);
    return `${JSON.stringify(run)}\n`;
  });
  fs.writeFileSync(file('long.ndjson'), history.join(''));
  const { status, out, err } = report(
    '--history',
    file('long.ndjson'),
    '--html',
    file('long.html'),
    '--fail-on-change',
  );
  assert.equal(status, 1, err);
  assert.match(out, /^tcp: \+(19|20|21)\.\d % processor time since run 9 of 16/);
  assert.match(fs.readFileSync(file('long.html'), 'utf8'), /tcp: processor time a packet, run after run/);
  assert.equal(report(file('r.json'), '--history', file('h.ndjson'), '--fail-on-change').status, 0);
  assert.equal(report().status, 2);
  assert.match(report('--history', file('none')).err, /none: there is no such file/);
  assert.match(report(file('r.md')).err, /r\.md: /);
});

test('bench: mistakes end with 2 and say what would be right', () => {
  const wrong = (...args: string[]) => {
    const { status, err } = cli(...args);
    assert.equal(status, 2, err);
    return err;
  };
  assert.match(wrong('nope'), /no workload "nope"; there are udp/);
  assert.match(wrong('udp', '--capture', 'x.pcap'), /not both/);
  assert.match(wrong('--capture', path.join(folder, 'none.pcap')), /none.pcap: there is no such file/);
  assert.match(wrong('udp', '--inside', 'x'), /x/);
  assert.match(wrong('udp', '--inside', '10.0.0.0/8'), /--inside is for captures/);
  const capture = path.join(root, 'fixtures/captures/web-client.pcap');
  assert.match(wrong('--capture', capture, '--new-rate', '5'), /--new-rate changes workloads/);
  assert.match(wrong('--capture', capture, '--no-checksums'), /--no-checksums changes workloads/);
  assert.match(wrong('udp', '--meters', capture), /--meters needs --flows/);
  assert.match(wrong('udp', '--json', 'x', '--history', 'x'), /x is the file of two outputs/);
  const flows = path.join(folder, 'bad.txt');
  fs.writeFileSync(flows, 'tabel=0,actions=drop\n');
  assert.match(wrong('udp', '--flows', flows), /bad.txt/);
  assert.match(
    wrong('udp', '--flows', path.join(folder, 'none.txt')),
    /none.txt: cannot read the file: ENOENT/,
  );
  const notes = path.join(folder, 'notes.txt');
  fs.writeFileSync(notes, 'not a line of results\n');
  assert.match(wrong('udp', '--history', notes), /notes.txt:1: /);
});

test('bench: what can not be written is told before anything is measured', () => {
  const nowhere = path.join(folder, 'nowhere', 'x');
  for (const option of ['--json', '--html', '--history']) {
    const began = performance.now();
    const { status, err } = cli(
      'udp',
      '--seconds',
      '60',
      option,
      nowhere,
      '--markdown',
      path.join(folder, 'kept.md'),
    );
    assert.equal(status, 1);
    assert.match(
      err,
      /nowhere\/x: cannot (open the output|append to the history): ENOENT: no such file or directory\n$/,
    );
    assert.ok(performance.now() - began < 30_000);
  }
  assert.deepEqual(
    fs.readdirSync(folder).filter((name) => /kept|partial/.test(name)),
    [],
  );
});
