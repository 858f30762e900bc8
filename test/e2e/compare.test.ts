/** `shardtrack compare` as a user meets it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { inject, PLACES } from '../../bench/regression/inject.js';
import type { Comparison } from '../../src/compare/report.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const CLI = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-compare-test-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

function cli(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, 'compare', ...args]);
  return { status, out: stdout.toString(), err: stderr.toString() };
}

function file(name: string, text: string): string {
  const at = path.join(folder, name);
  fs.writeFileSync(at, text);
  return at;
}

const capture = path.join(root, 'fixtures/captures/web-client.pcap');
const firewall = path.join(root, 'fixtures/flows/firewall.txt');
const office = ['--capture', capture, '--inside', '192.168.100.0/24', '--workers', '1', '--only', 'results'];

test('compare: a flow table that lets less through is reviewed by its effect', () => {
  const text = fs.readFileSync(firewall, 'utf8');
  const opening = /^table=1, priority=100, in_port=1.*$/m;
  assert.match(text, opening);
  const strict = text.replace(opening, (line) =>
    line.replace('in_port=1,', 'in_port=1, tcp, tp_dst=443,').replace(' ip,', ''),
  );
  const json = path.join(folder, 'review.json');
  const { status, out, err } = cli(
    firewall,
    file('strict.txt', strict),
    ...office,
    '--explain',
    '3',
    '--json',
    json,
    '--html',
    path.join(folder, 'review.html'),
  );
  assert.equal(status, 3, err);
  const { results } = JSON.parse(fs.readFileSync(json, 'utf8')) as Comparison;
  assert.ok(results !== null && results.packets.different > 100);
  const sum = results.causes.reduce((n, c) => n + c.packets, 0);
  assert.equal(sum, results.packets.different, 'every difference has a cause');
  const [first] = results.causes;
  assert.match(`${first.base}`, /in_port=1, priority 100/);
  assert.equal(first.candidate, '1. priority 0');
  assert.ok(!first.consequence && first.groups[0].first.packet === 1);
  assert.ok(results.causes.slice(1).every((c) => c.consequence || c.base === null));
  assert.deepEqual(first.first, first.groups.find((g) => g.first.packet === 1)?.first);
  const [gone] = results.connections.groups;
  assert.equal(gone.difference, 'only in base');
  assert.equal(results.connections.base - results.connections.candidate, gone.connections);
  assert.match(out, /of 3,138 packets differ/);
  const html = fs.readFileSync(path.join(folder, 'review.html'), 'utf8');
  assert.match(html, /Cause 1: .* packets, the first is number 1; base: .*in_port=1, priority 100/);
  assert.match(html, /only in base/);
});

test('compare: another spelling of the same table makes no difference', () => {
  const text = fs.readFileSync(firewall, 'utf8').replaceAll('priority=100', 'priority=0x64');
  const { status, out } = cli(firewall, file('same.txt', text), ...office);
  assert.equal(status, 0, out);
  assert.match(out, /the same for all 3,138 packets/);
});

test('compare: bytes that differ are found, though the verdict is the same', () => {
  const table = (ttl: number) => file(`ttl-${ttl}.txt`, `ip,actions=mod_nw_ttl:${ttl},output:2\n`);
  const json = path.join(folder, 'bytes.json');
  const { status } = cli(table(9), table(8), ...office, '--json', json);
  assert.equal(status, 3);
  const { results } = JSON.parse(fs.readFileSync(json, 'utf8')) as Comparison;
  assert.match(results!.causes[0].groups[0].base, /1 frame with other bytes/);
});

test('compare: groups and events can be of a side, and connections that have ended count', () => {
  const json = path.join(folder, 'sides.json');
  const results = () => (JSON.parse(fs.readFileSync(json, 'utf8')) as Comparison).results!;
  const flows = file(
    'balance.txt',
    'in_port=1,ip,actions=ct(commit),group:1\nin_port=2,ip,actions=ct(commit),1\n',
  );
  const group = (weight: number) =>
    file(
      `group-${weight}.txt`,
      `group_id=1,type=select,bucket=weight:1,actions=2\ngroup_id=2,type=all,bucket=actions=drop\n`.replace(
        'actions=2',
        `actions=2,bucket=weight:${weight},actions=3`,
      ),
    );
  const weighed = cli(
    ...[`groups:${group(1)}`, `groups:${group(9)}`, '--flows', flows, ...office, '--ports', '3'],
    ...['--json', json, '--explain', '4'],
  );
  assert.equal(weighed.status, 3, weighed.err);
  assert.match(`${results().causes[0].base}`, /^group 1: bucket/);
  assert.equal(results().connections.different, 0);

  const timeouts = (seconds: number) =>
    file(
      `timeouts-${seconds}.ndjson`,
      `{"t":0,"vsctl":["add-zone-tp","netdev","zone=0","udp_first=${seconds}","udp_single=${seconds}"]}\n`,
    );
  const timed = cli(
    ...[`flows:${flows},events:${timeouts(60)}`, `flows:${flows},events:${timeouts(1)}`],
    ...['--groups', group(1), ...office, '--json', json],
  );
  assert.equal(timed.status, 3, timed.err);
  const { connections } = results();
  assert.ok(connections.all && connections.groups.some((g) => g.difference.startsWith('other end')));
  assert.match(timed.out, /\nConnections\n/);
});

test('compare: two pairs of processes say nothing yet about time, but all about counters', () => {
  const json = path.join(folder, 'time.json');
  const { status, out, err } = cli(
    ...[root, root, '--only', 'time', '--workload', 'udp', '--packets', '2000', '--workers', '1'],
    ...['--slices', '4', '--slice', '5', '--pairs', '2', '--warmup-ms', '50', '--exit-unknown', '9'],
    ...['--json', json, '--html', path.join(folder, 'time.html')],
  );
  assert.equal(status, 9, err);
  assert.match(out, /Time: can't tell/);
  const { timing } = JSON.parse(fs.readFileSync(json, 'utf8')) as Comparison;
  assert.equal(timing!.verdict, "can't tell");
  assert.equal(timing!.logs['udp: all'].length, 2);
  assert.deepEqual(timing!.workers, { base: 1, candidate: 1 });
  assert.ok(timing!.counts.base.microflowHits > 0.1);
  assert.deepEqual(timing!.counts.base.commits, timing!.counts.candidate.commits);
  const html = fs.readFileSync(path.join(folder, 'time.html'), 'utf8');
  assert.match(html, /Time: can&#39;t tell/);
  assert.match(html, /Each pair of processes by itself/);
});

test('compare: a capture that is damaged fails by an exit code of its own', () => {
  const bytes = Buffer.from(fs.readFileSync(capture));
  bytes.writeUInt32LE(0x7fffffff, 24 + 16 + bytes.readUInt32LE(24 + 8) + 8);
  const damaged = path.join(folder, 'damaged.pcap');
  fs.writeFileSync(damaged, bytes);
  const json = path.join(folder, 'damaged.json');
  const { status, err } = cli(
    ...[firewall, firewall, '--capture', damaged, '--only', 'results', '--workers', '0', '--json', json],
  );
  assert.equal(status, 4, err);
  assert.match(err, /damaged\.pcap: byte \d+: the record there claims a packet of 2147483647 bytes/);
  assert.ok(!fs.existsSync(json) && !fs.existsSync(`${json}.partial`));
});

test('compare: the places to slow down on purpose are there', async () => {
  for (const [place, { module }] of Object.entries(PLACES)) {
    const copy = inject(folder, place as keyof typeof PLACES, 5);
    // It throws if the class or the method has another name by now.
    await import(path.join(copy, 'dist/src', module));
  }
});

test('compare: what can not be compared ends with 2 and says what would be right', () => {
  const wrong = (...args: string[]) => {
    const { status, err } = cli(...args);
    assert.equal(status, 2, err);
    return err;
  };
  assert.match(wrong('no-such-thing', firewall), /no file, no folder and no commit/);
  assert.match(wrong(folder, root), /expected a built installation/);
  assert.match(wrong('flows:/nowhere', firewall), /there is no such file/);
  assert.match(wrong(firewall, firewall, '--tolerance', '5', '--notice', '5'), /must be more/);
  assert.match(wrong(firewall, file('r.json', '{}')), /with a stored result only/);
  assert.match(wrong(file('a.json', '{}'), file('b.json', '{}')), /no results of shardtrack bench/);
  assert.match(wrong(`flows:${firewall},flows:${firewall}`, firewall), /flows: is there twice/);
  assert.match(wrong(`node:${firewall}`, firewall), /this is no program; expected a Node binary/);
  assert.match(wrong(`git:HEAD,install:${root}`, firewall), /leave one out/);
  assert.match(wrong(capture, firewall), /one side is a capture/);
  assert.match(wrong(firewall, firewall, '--capture', 'nowhere.pcap'), /nowhere.pcap: there is no such file/);
  assert.match(
    wrong(firewall, firewall, '--capture', capture, '--packets', '5'),
    /--packets changes workloads/,
  );
  assert.match(wrong(firewall, firewall, '--capture', capture, '--workload', 'tcp'), /not both/);
  assert.match(wrong(root, root, '--groups', firewall), /--groups needs --flows/);
  const events = file('none.ndjson', '');
  assert.match(wrong(firewall, firewall, '--events', events), /add --only results/);
  assert.match(wrong(firewall, file('mistake.txt', 'tabel=0,actions=drop\n'), ...office), /mistake.txt:1/);
  assert.match(wrong(firewall, firewall, ...office, '--json', 'x', '--html', 'x'), /the file of two outputs/);
});
