/** Every packet of the shipped captures against what Open vSwitch answered (capture-states.ts). */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  compareWith,
  digestOf,
  digestOfPackets,
  pack,
  portsOf,
  QUANTUM_MS,
  readStates,
  shippedPackets,
  TABLES,
  unpack,
} from './capture-states.js';
import { describe as inWords } from './frame.js';

describe('the shipped captures against Open vSwitch', { concurrency: 2 }, () => {
  const stored = readStates();
  assert.ok(stored.length > 0, 'fixtures/captures/ovs-states.jsonl has no answers');
  for (const s of stored) {
    const answers = unpack(s);
    it(`${s.file}, ${s.table}: ${answers.outcomes.length} packets`, async () => {
      const table = TABLES.find((t) => t.name === s.table)!;
      const packets = shippedPackets(s.file);
      const ports = portsOf(packets, table, null);
      const asked = [digestOfPackets(packets, ports), digestOf(table), QUANTUM_MS];
      const again = 'not what was recorded: npm run oracle:record -- --captures';
      assert.deepEqual(asked, [s.packets, s.flows, s.quantum_ms], again);
      const bad = await compareWith(answers, packets, ports, table, table.name === 'track' ? [2] : [0]);
      const words = bad.slice(0, 3).map(({ k, ovs, got }) => {
        const where = k < 0 ? 'at the end' : `packet ${k + 1} (${inWords(packets[k].frame.toString('hex'))})`;
        return `${where}: Open vSwitch ${ovs}, shardtrack ${got}`;
      });
      assert.ok(!bad.length, `${bad.length} differences; the first:\n    ${words.join('\n    ')}`);
    });
  }
});

describe('recorded outcomes', () => {
  it('come back as they were, however many there are', () => {
    const outcomes = Array.from({ length: 300 }, (_, k) => `2+new+trk@-${(k * 7) % 150}`);
    const packed = pack(outcomes);
    assert.equal(packed.legend.length, 150);
    const head = { file: '', table: '', packets: '', flows: '', quantum_ms: 1, version: '' };
    assert.deepEqual(unpack({ ...head, ...packed, connections: null }).outcomes, outcomes);
  });
});
