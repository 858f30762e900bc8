/** docs/connections.md names every key of `--conntrack FILE.ndjson` and of `ct` in `--stats`, and no other. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { ACK, ethernet, icmp, ipv4, packet, SYN, tcp, udp } from '../../support/packets.js';
import { type RunResult, run } from '../../support/run.js';

const DOC = fs.readFileSync(new URL('../../../../docs/connections.md', import.meta.url), 'utf8');

/** Names in the first column of the table of a section. */
function documented(section: string): string[] {
  const from = DOC.indexOf(section);
  assert.ok(from > 0, `no section ${section}`);
  const rows = DOC.slice(from, DOC.indexOf('\n\n', DOC.indexOf('| --- |', from))).split('\n');
  return rows
    .flatMap((row) => [...(row.split('|')[1] ?? '').matchAll(/`([a-z_]+)`/g)].map((m) => m[1]))
    .sort();
}

/** A control connection with a helper and its data connection, UDP and ICMP. */
async function everything(): Promise<RunResult> {
  const client = { src: '10.0.0.1', dst: '10.0.0.2' };
  const server = { src: '10.0.0.2', dst: '10.0.0.1' };
  const control = { sport: 40000, dport: 21 };
  const back = { sport: 21, dport: 40000 };
  const command = new TextEncoder().encode('PORT 10,0,0,1,4,1\r\n');
  const l4 = [
    [1, client, tcp({ ...control, flags: SYN, seq: 1, ack: 0, window: 5000 })],
    [2, server, tcp({ ...back, flags: SYN | ACK, seq: 9, ack: 2, window: 5000 })],
    [1, client, tcp({ ...control, flags: ACK, seq: 2, ack: 10, window: 5000 })],
    [1, client, tcp({ ...control, flags: ACK, seq: 2, ack: 10, window: 5000, data: command })],
    [2, server, tcp({ sport: 20, dport: 1025, flags: SYN, seq: 1, ack: 0, window: 5000 })],
    [1, client, udp({ sport: 5, dport: 53 })],
    [1, client, icmp({ type: 8 })],
  ] as const;
  const packets = l4.map(([port, ends, segment], i) =>
    packet(100 + i, port, ethernet({}, ipv4(ends, segment))),
  );
  const flows = 'tcp,actions=ct(commit,alg=ftp),2\nip,actions=ct(commit),2\n';
  return run(packets, { flows });
}

test('connections.md: the keys of the connection table', async () => {
  const { table } = await everything();
  const keys = new Set(table.flatMap((line) => Object.keys(JSON.parse(line))));
  assert.deepEqual([...keys].sort(), documented('## `--conntrack FILE.ndjson`'));
});

test('connections.md: the keys of `ct` in the statistics', async () => {
  const { traffic } = await everything();
  assert.deepEqual(Object.keys(traffic.ct).sort(), documented('## `ct` in `--stats`'));
  const seven = ['commits', 'live', 'expired', 'evicted', 'flushed', 'refused', 'refused_by_reason'];
  for (const books of Object.values(traffic.ct.zones))
    assert.deepEqual(Object.keys(books).sort(), seven.sort());
});
