import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import {
  firstRound,
  median,
  memoryFor,
  parseConnections,
  parseOvstest,
  parsePmdStats,
  queuesFor,
} from '../../../bench/peers/numbers.js';
import { likeness, type Row, ratios, summary, table, verdict } from '../../../bench/peers/report.js';
import { FIREWALL, ownWorkload, realCaptures, WORKLOADS } from '../../../bench/peers/workloads.js';
import { parseFlows } from '../../../src/openflow/parser.js';

/** As Open vSwitch 3.1.0 prints it. */
const STATS = `pmd thread numa_id 0 core_id 1:
  packets received: 16968736
  packet recirculations: 16968736
  avg. datapath passes per packet: 2.00
  phwol hits: 0
  mfex opt hits: 0
  simple match hits: 0
  emc hits: 33773108
  smc hits: 0
  megaflow hits: 164364
  avg. subtable lookups per megaflow hit: 1.00
  miss with success upcall: 0
  miss with failed upcall: 0
  avg. packets per output batch: 31.98
  idle cycles: 0 (0.00%)
  processing cycles: 12980000000 (100.00%)
  avg cycles per packet: 764.93 (12980000000/16968736)
  avg processing cycles per packet: 764.93 (12980000000/16968736)
main thread:
  packets received: 0
  packet recirculations: 0
`;

test('peers: the figures of the PMD thread are found', () => {
  assert.deepEqual(parsePmdStats(STATS), { packets: 16968736, busyCycles: 12980000000, idleCycles: 0 });
  const idle =
    'pmd thread numa_id 0 core_id 1:\n  packets received: 0\nmain thread:\n  packets received: 5\n';
  assert.deepEqual(parsePmdStats(idle), { packets: 0, busyCycles: 0, idleCycles: 0 });
  assert.throws(() => parsePmdStats('main thread:\n  packets received: 5\n'), /names no PMD thread/);
});

test('peers: the number of connections is found', () => {
  assert.equal(parseConnections('Connections Stats:\n    Total: 1000\n  UDP: 1000\n'), 1000);
  assert.throws(() => parseConnections('nothing'), /no total/);
});

test('peers: the time of ovstest is found', () => {
  assert.equal(parseOvstest('conntrack:    662 ms\n'), 662);
  assert.throws(() => parseOvstest('usage'), /nothing about conntrack/);
});

test('peers: median', () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.ok(Number.isNaN(median([])));
});

test('peers: only samples of the first round count', () => {
  const sample = (at: number, packets: number) => ({ at, packets, busyCycles: packets * 500, idleCycles: 0 });
  const samples = [sample(0, 0), sample(10, 1000), sample(20, 5000), sample(30, 9000), sample(40, 13_000)];
  assert.deepEqual(firstRound(samples, 10_000), { mpps: 0.4, cyclesPerPacket: 500 });
  assert.throws(() => firstRound([sample(0, 0), sample(10, 500)], 400), RangeError);
  assert.throws(() => firstRound([sample(0, 100)], 400), /use a longer capture/);
});

test('peers: buffers for a capture, and memory for the buffers', () => {
  // dpdk_calculate_mbufs() of Open vSwitch: descriptors of all queues, and 16384 more.
  for (const packets of [1, 140_000, 1_000_000]) {
    const queues = queuesFor(packets);
    assert.ok(queues * 4096 >= packets + 32, `${packets} packets: ${queues} queues`);
    assert.ok(memoryFor([queues, 1]) * 2 ** 20 > packets * 3072);
    assert.equal(memoryFor([queues]) % 64, 0);
  }
});

const ovs = (mpps: number) => ({ mpps, cyclesPerPacket: 1000, connections: 7 });
const ours = (mpps: number, cpu = 100) => ({
  mpps,
  mpps_best: mpps,
  mpps_median: mpps,
  gbps: mpps / 2,
  connections: 7,
  shared_bytes_per_connection: 128,
  cpu_ns_per_packet: cpu,
  upcalls: 2,
  node: 'v20',
});
const row = (more: Partial<Row>): Row => ({
  workload: 'udp',
  what: 'UDP',
  target: 4,
  packets: 10,
  bytes: 600,
  ovs: [],
  ours: [],
  notes: [],
  ...more,
});

test('peers: ratios are of pairs, the table says whether they are enough', () => {
  const measured = row({ ovs: [ovs(2), ovs(4), ovs(2)], ours: [ours(8), ours(12), ours(10)] });
  assert.deepEqual(ratios(measured), [4, 3, 5]);
  assert.match(table([measured]), /\| 4\.00 \(4\.00, 3\.00, 5\.00\) \| +4 \| +yes \|/);
  assert.equal(verdict(3.99, 4), '**no**');
  assert.equal(verdict(3.99, null), '–');
  assert.match(table([row({ ours: [ours(8)] })]), /– \| +4 \| +– \|/);
  assert.match(table([row({ error: 'no hugepages' })]), /failed/);
});

test('peers: a line for each workload', () => {
  const measured = row({ ovs: [ovs(2), ovs(4)], ours: [ours(8), ours(12)] });
  assert.match(
    summary(measured),
    /Open vSwitch 3\.00 Mpps; ours 10\.00 Mpps, .*ratio 3\.50 \(4\.00, 3\.00\); wanted 4: no$/,
  );
  assert.match(summary(row({ ours: [ours(8)] })), /: 8\.00 Mpps/);
  assert.match(summary(row({ error: 'no hugepages' })), /: failed: no hugepages$/);
});

test('peers: a workload beside another one of the same side', () => {
  const like = row({ workload: 'rules-10', ours: [ours(10, 100), ours(8, 125)] });
  const l = likeness(row({ ours: [ours(9, 110), ours(8, 125)] }), like, 0.05);
  assert.deepEqual(l.speed, [0.9, 1]);
  assert.deepEqual(l.cpu, [1.1, 1]);
});

test('peers: flow tables are ones that we read, names are not used twice', () => {
  assert.equal(parseFlows(fs.readFileSync(FIREWALL, 'utf8'), FIREWALL).length, 8);
  const names = WORKLOADS.map((w) => w.name);
  assert.equal(new Set(names).size, names.length);
  for (const { like } of WORKLOADS) assert.ok(like === undefined || names.includes(like.name));
});

const fixtures = fileURLToPath(new URL('../../../../fixtures/', import.meta.url));

test('peers: without the corpus the shipped captures are taken', () => {
  const paths = realCaptures(path.join(os.tmpdir(), 'not-there'));
  assert.ok(paths.length > 5);
  for (const file of paths) assert.ok(fs.existsSync(file), file);
  assert.throws(() => realCaptures(path.join(fixtures, 'flows')), /no captures/);
});

test('peers: captures of one’s own are shared out by port, long frames left out', async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'peers-test-'));
  try {
    const p = await ownWorkload({
      captures: [],
      in: [
        { port: 1, path: path.join(fixtures, 'captures/web-client.pcap') },
        { port: 5, path: path.join(fixtures, 'captures/http-arp.pcapng') },
      ],
      ports: [3],
      flows: FIREWALL,
    }).prepare({ dir, corpus: '' });
    assert.deepEqual(
      p.arrivals.map((a) => a.port),
      [1, 5],
    );
    assert.deepEqual(p.outputs, [3, 2]);
    assert.equal(
      p.arrivals.reduce((n, a) => n + a.packets, 0),
      p.packets,
    );
    for (const { capture, packets } of p.arrivals) {
      assert.ok(packets > 0 && fs.statSync(capture).size > packets * 16);
    }
    assert.match(p.notes.join(), /not by time/);
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
});

test('peers: our side alone, with captures of one’s own', async () => {
  const main = fileURLToPath(new URL('../../../bench/peers/main.js', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [
    ...[main, '--skip-ovs', '--rounds', '1', '--seconds', '1', '--warmup', '1', '--workers', '0'],
    ...['--in', `1=${path.join(fixtures, 'captures/web-client.pcap')}`, '--flows', FIREWALL],
  ]);
  assert.match(stdout, /\| `own` +\| +– \| +– \| +\d+\.\d\d \|/);
  assert.match(stdout, /Open vSwitch not measured/);
});
