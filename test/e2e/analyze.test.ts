/** `shardtrack analyze` as a user meets it. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { queryRecords } from '../../src/analyze/sql.js';
import { data, ethernet, ipv4, packet, pcapFile, udp } from '../support/packets.js';

const CLI = process.env.SHARDTRACK_CLI ?? fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const FIXTURES = fileURLToPath(new URL('../../../fixtures', import.meta.url));
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-analyze-cli-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));
const file = (name: string): string => path.join(folder, name);

interface Outcome {
  code: number | null;
  out: string;
  err: string;
}

function start(args: readonly string[]): ChildProcess {
  return spawn(process.execPath, [CLI, 'analyze', ...args], { stdio: 'pipe' });
}

async function outcome(child: ChildProcess): Promise<Outcome> {
  let out = '';
  let err = '';
  child.stdout!.on('data', (b: Buffer) => {
    out += b;
  });
  child.stderr!.on('data', (b: Buffer) => {
    err += b;
  });
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return { code, out, err };
}

const shardtrack = (...args: string[]): Promise<Outcome> => outcome(start(args));
const lines = (name: string): string[] => fs.readFileSync(file(name), 'utf8').trimEnd().split('\n');

const frame = (sport: number): Uint8Array =>
  ethernet({}, ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }, udp({ sport, data: data(20) })));

test('analyze: a folder, several outputs, a summary that adds up; the same with any number of workers', async () => {
  const got: string[][] = [];
  for (const workers of ['0', '2']) {
    const { code, out, err } = await shardtrack(
      `${FIXTURES}/captures/web-client.pcap`,
      `${FIXTURES}/compressed`,
      '--workers',
      workers,
      ...['-o', file('a.ndjson'), '-o', file('a.parquet'), '-o', `conntrack=${file('a.txt')}`],
      ...['--report', file('report.json')],
    );
    assert.equal(code, 0, err);
    assert.match(out, /^7 captures, 15,138 packets, /);
    assert.match(out, / {2}all that was captured +15,138 +\d/);
    assert.match(err, /fixtures\/compressed\/make\.mjs/);
    got.push(lines('a.ndjson'));
    const report = JSON.parse(fs.readFileSync(file('report.json'), 'utf8'));
    assert.equal(report.files.length, 7);
    assert.equal(report.reconciliation.records.connections, lines('a.txt').length);
    assert.equal(report.summary.connections, lines('a.ndjson').length);
  }
  assert.deepEqual(got[1], got[0]);
});

test('analyze: from a pipe, to a pipe', async () => {
  const child = start(['-', '-o', 'csv=-', '--workers', '0']);
  child.stdin!.end(pcapFile([packet(1, 1, frame(5)), packet(2, 1, frame(6))]));
  const { code, out, err } = await outcome(child);
  assert.equal(code, 0, err);
  assert.equal(out.trimEnd().split('\n').length, 3);
  assert.match(err, /2 connections/);
});

test('analyze: a flow table drops, and the summary says by which rule', async () => {
  fs.writeFileSync(file('flows.txt'), 'udp,tp_src=5,actions=ct(commit),2\nudp,actions=ct(commit)\n');
  fs.writeFileSync(file('two.pcap'), pcapFile([packet(1, 1, frame(5)), packet(2, 1, frame(6))]));
  const { code, out } = await shardtrack(
    file('two.pcap'),
    '--flows',
    file('flows.txt'),
    '--ports',
    '2',
    '--workers',
    '0',
  );
  assert.equal(code, 0);
  assert.match(out, /dropped\n.*\n {2}no-output +1 +1 +table=0, .*udp actions=ct\(commit\)/);
});

test('analyze: partitioned Parquet is one table', async () => {
  const { code, err } = await shardtrack(
    ...[`${FIXTURES}/captures/web-client.pcap`, '--quiet', '--workers', '0'],
    ...['--partition', 'protocol', '-o', `parquet=${file('table')}`],
  );
  assert.equal(code, 0, err);
  assert.deepEqual(fs.readdirSync(file('table')).sort(), ['protocol=tcp', 'protocol=udp']);
  const { rows } = await queryRecords(
    file('table/**/*.parquet'),
    'select protocol, count(*) from connections group by 1 order by 1',
  );
  assert.deepEqual(rows, [
    ['tcp', '70'],
    ['udp', '40'],
  ]);
});

test('analyze: what another flow table would change', async () => {
  fs.writeFileSync(file('a.txt'), 'ip,actions=ct(commit),2\n');
  fs.writeFileSync(file('b.txt'), 'udp,tp_src=5,actions=drop\nip,actions=ct(commit),2\n');
  const packets = [packet(1, 1, frame(5)), packet(2, 1, frame(6)), packet(3, 1, frame(5))];
  fs.writeFileSync(file('three.pcap'), pcapFile(packets));
  const { code, out, err } = await shardtrack(
    ...[file('three.pcap'), '--flows', file('a.txt'), '--flows-b', file('b.txt')],
    ...['--ports', '2', '--workers', '0', '--html', file('what-if.html')],
  );
  assert.equal(code, 0, err);
  assert.match(out, /under .*b\.txt: 2 of 3 packets would fare otherwise/);
  assert.match(out, / {2}out 2 +drop: .* 2 +\d+ +1\n/);
  const html = fs.readFileSync(file('what-if.html'), 'utf8');
  assert.match(html, /<h2[^>]*>Under [^<]*b\.txt<\/h2>\s*<p>2 of 3 packets would fare otherwise/);
  assert.match(html, /<th scope="row">out 2<\/th><td>drop: [^<]*<\/td><td class="n">2<\/td>/);
});

test('analyze: a report as HTML, without a flow table, to standard output', async () => {
  const { code, out, err } = await shardtrack(
    ...[`${FIXTURES}/captures/web-client.pcap`, `${FIXTURES}/captures/truncated.pcap`],
    ...['--workers', '0', '--html', '-'],
  );
  assert.equal(code, 0, err);
  assert.ok(out.startsWith('<!doctype html>') && out.endsWith('</html>\n'));
  assert.ok(!/<script|https?:\/\/(?!www\.w3\.org)/.test(out));
  const [, connections] = /: (\d+) connections\n/.exec(err) as RegExpExecArray;
  assert.ok(out.includes(`<p class="lead">${connections} connections in `));
  assert.match(out, /No flow table was given/);
  assert.match(out, /<li>[^<]*truncated\.pcap: byte \d+/);
});

test('analyze: damaged captures make the exit code 1, and the others are in the outputs', async () => {
  const bytes = pcapFile([packet(1, 1, frame(5))]);
  fs.mkdirSync(file('set'));
  fs.writeFileSync(file('set/good.pcap'), bytes);
  fs.writeFileSync(file('set/bad.pcap'), bytes.subarray(0, 20));
  const { code, err } = await shardtrack(file('set'), '-o', file('set.csv'), '--workers', '0');
  assert.equal(code, 1);
  assert.match(err, /warning: .*bad\.pcap: byte 20: the pcap file header has 24 bytes/);
  assert.equal(lines('set.csv').length, 2);
});

test('analyze: Ctrl-C ends with whole outputs of what was read', async () => {
  const child = start(['-', '-o', file('stop.ndjson'), '--workers', '1']);
  const bytes = pcapFile(Array.from({ length: 200 }, (_, i) => packet(i, 1, frame(i + 1))));
  child.stdin!.write(bytes);
  const timer = setInterval(() => {
    // The output is opened before the first packet is read.
    if (!fs.existsSync(file('stop.ndjson.partial'))) return;
    clearInterval(timer);
    setTimeout(() => child.kill('SIGINT'), 500);
  }, 20);
  const { code, err } = await outcome(child);
  assert.equal(code, 130, err);
  const [, n] = /stopped by SIGINT after (\d+) packets; the outputs are whole/.exec(err) ?? [];
  assert.equal(lines('stop.ndjson').filter((l) => l !== '').length, Number(n));
  assert.ok(!fs.existsSync(file('stop.ndjson.partial')));
});

test('analyze: SQL over the records', async () => {
  const { code, out, err } = await shardtrack(
    `${FIXTURES}/captures/web-client.pcap`,
    '--sql',
    'select protocol, count(*) as n from connections group by 1 order by 1',
  );
  assert.equal(code, 0, err);
  assert.equal(out, 'protocol  n\ntcp       70\nudp       40\n');
  const wrong = await shardtrack(`${FIXTURES}/captures/web-client.pcap`, '--sql', 'select');
  assert.equal(wrong.code, 1);
  assert.match(wrong.err, /Parser Error/);
});

test('analyze: wrong usage', async () => {
  for (const [args, expected] of [
    [['/nowhere.pcap'], /nowhere\.pcap: no such file or folder/],
    [['-', '-'], /standard input \(-\) can be only one/],
    [
      ['-', '-o', 'records.xml'],
      /ends in \.ndjson, \.csv, \.log \(Zeek\), \.parquet or \.ipfix, or FORMAT=FILE/,
    ],
    [['-', '-o', 'csv=-', '-o', 'ndjson=-'], /standard output \(-\) can be only one/],
    [['-', '-o', 'a.csv', '--report', 'a.csv'], /a\.csv is the file of two outputs/],
    [[], /missing required argument/],
  ] as const) {
    const { code, err } = await shardtrack(...args);
    assert.equal(code, 2, err);
    assert.match(err, expected);
  }
});
