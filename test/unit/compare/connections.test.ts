/** Which connections differ, and how that is said. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConnectionComparison, connectionText } from '../../../src/compare/connections.js';

/** A record, as far as it matters. */
const record = (sport: number, firstPacket: number, more: Record<string, unknown> = {}) =>
  JSON.stringify({
    start: '1.5',
    protocol: 'udp',
    src: '10.0.0.1',
    sport,
    dst: '10.0.0.2',
    dport: 53,
    reply_dst: '10.0.0.1',
    zone: 7,
    orig_packets: 1,
    first_packet: firstPacket,
    drop_rule: null,
    ...more,
  });

function compared(base: readonly string[], candidate: readonly string[]) {
  const comparison = new ConnectionComparison(true);
  for (let i = 0; i < Math.max(base.length, candidate.length); i++) {
    comparison.add(base[i] ?? null, candidate[i] ?? null);
  }
  return comparison.finish();
}

test('connections: the same in another order are the same, whatever a rule is called', () => {
  const base = [record(1, 1), record(2, 2), record(3, 3, { drop_rule: 'priority=5 actions=drop' })];
  const candidate = [base[1], record(3, 3, { drop_rule: 'priority=6 actions=drop' }), base[0]];
  assert.deepEqual(compared(base, candidate), { all: true, base: 3, candidate: 3, different: 0, groups: [] });
});

test('connections: differences are grouped by what they are about, with the first of each', () => {
  const nat = { reply_dst: '203.0.113.1' };
  const base = [record(1, 4), record(2, 2), record(3, 3), record(9, 9)];
  const candidate = [
    record(1, 4, nat),
    record(2, 2, nat),
    record(3, 3, { orig_packets: 2, new_field: 1 }),
    record(8, 8),
  ];
  const { different, groups } = compared(base, candidate);
  assert.equal(different, 5);
  assert.deepEqual(
    groups.map((g) => [g.difference, g.connections, g.first.packet]),
    [
      ['other translation', 2, 2],
      ['other packets, new_field', 1, 3],
      ['only in base', 1, 9],
      ['only in candidate', 1, 8],
    ],
  );
  assert.deepEqual(groups[0].first, { packet: 2, base: base[1], candidate: candidate[1] });
});

test('connections: one tuple several times is met in turn, also by those that wait', () => {
  const [one, two, three] = [record(1, 1), record(1, 20), record(1, 30)];
  const other = record(2, 5);
  assert.equal(compared([one, two, three, other], [other, one, two, three]).different, 0);
  const { groups } = compared([one, two], [one, two, three]);
  assert.deepEqual(
    groups.map((g) => [g.difference, g.first.packet]),
    [['only in candidate', 30]],
  );
});

test('connections: the table at the end has tuples in members', () => {
  const entry = (port: number, packets: number) =>
    JSON.stringify({
      protocol: 'tcp',
      zone: 0,
      packet: 3,
      orig: { src: '::1', dst: '::2', sport: port, dport: 80, packets, bytes: 9 },
      reply: { src: '::2', dst: '::1', sport: 80, dport: port, packets: 0, bytes: 0 },
    });
  const { groups } = compared([entry(1, 1), entry(2, 1)], [entry(2, 1), entry(1, 5)]);
  assert.deepEqual(
    groups.map((g) => [g.difference, g.first.packet]),
    [['other packets', 3]],
  );
  assert.equal(connectionText(entry(5, 1)), 'tcp, zone 0, ::1 → ::2, 5 → 80');
});

test('connections: for people', () => {
  assert.equal(connectionText(record(5, 1)), 'udp, zone 7, 10.0.0.1 → 10.0.0.2, 5 → 53');
  const icmp = { protocol: 'icmp', sport: null, dport: null, icmp_id: 77 };
  assert.equal(connectionText(record(5, 1, icmp)), 'icmp, zone 7, 10.0.0.1 → 10.0.0.2, id 77');
});
