import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { median, parseConnections, parsePmdStats } from '../../../bench/peers/numbers.js';
import { OVS_MAX_PACKETS } from '../../../bench/peers/ovs.js';
import { FIREWALL, PACKETS, WORKLOADS } from '../../../bench/peers/workloads.js';
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
  assert.deepEqual(parsePmdStats(STATS), { packets: 16968736, cyclesPerPacket: 764.93 });
  assert.throws(() => parsePmdStats('main thread:\n  packets received: 5\n'), /names no PMD thread/);
});

test('peers: the number of connections is found', () => {
  assert.equal(parseConnections('Connections Stats:\n    Total: 1000\n  UDP: 1000\n'), 1000);
  assert.throws(() => parseConnections('nothing'), /no total/);
});

test('peers: median', () => {
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 2, 3]), 2.5);
  assert.ok(Number.isNaN(median([])));
});

test('peers: the flow table is one that we read, the captures fit into DPDK', async () => {
  assert.equal(parseFlows(fs.readFileSync(FIREWALL, 'utf8'), FIREWALL).length, 8);
  for (const workload of WORKLOADS) {
    let n = 0;
    let longest = 0;
    for await (const { length } of workload.frames()) {
      n++;
      longest = Math.max(longest, length);
    }
    assert.ok(n > 0.9 * PACKETS && n <= OVS_MAX_PACKETS, `${workload.name}: ${n} packets`);
    assert.ok(longest <= 1514, `${workload.name}: ${longest} bytes`);
  }
});
