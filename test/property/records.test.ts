/** Connection records of random tables and traffic: the same for any number of workers and any schedule, and every
 *  packet is in exactly one row of the reconciliation. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CATEGORY } from '../../src/datapath/recorder.js';
import { Random } from '../support/packets.js';
import { randomEvents } from '../support/random-events.js';
import { GROUPS, randomTable } from '../support/random-tables.js';
import { randomTraffic } from '../support/random-traffic.js';
import { difference, type RunOptions, type RunResult, run } from '../support/run.js';

const RUNS = Number(process.env.SHARDTRACK_PROPERTY_RUNS ?? 8);
const FIRST = Number(process.env.SHARDTRACK_PROPERTY_SEED ?? 1);

const TRACK_TWICE =
  'priority=9,ip,ct_state=-trk,actions=ct(commit,zone=1),ct(commit,zone=2,table=1)\nip,actions=ct(commit),2\nipv6,actions=ct(commit),1\ntable=1,ct_state=+inv,actions=drop\ntable=1,priority=0,actions=1,2';

interface Line {
  orig_packets: number;
  reply_packets: number;
  orig_frame_bytes: number;
  reply_frame_bytes: number;
  first_packet: number;
  last_packet: number;
  icmp_errors: number;
}

/** What must hold of any run. */
function adds(got: RunResult, packets: number, bytes: number, what: string): void {
  const { tallies: t } = got.result;
  const sum = (numbers: Iterable<number>): number => [...numbers].reduce((a, b) => a + b, 0);
  assert.equal(sum(t.packets), packets, what);
  assert.equal(sum(t.bytes), bytes, what);
  assert.equal(t.packets[CATEGORY.NONE], 0, what);
  const lines = got.records.map((text) => JSON.parse(text) as Line);
  assert.equal(
    sum(lines.map((r) => r.orig_packets + r.reply_packets)),
    t.packets[CATEGORY.CONNECTION] + t.repeatedPackets,
    what,
  );
  assert.equal(
    sum(lines.map((r) => r.orig_frame_bytes + r.reply_frame_bytes)),
    t.bytes[CATEGORY.CONNECTION] + t.repeatedBytes,
    what,
  );
  for (const r of lines) {
    assert.ok(r.orig_packets >= 1, what);
    assert.ok(r.first_packet <= r.last_packet && r.last_packet <= packets, what);
  }
}

test('records: random tables, traffic and events, the same for 0, 1, 2 and 4 workers, and all adds up', async () => {
  let connections = 0;
  let microflows = 0;
  let repeated = 0;
  for (let seed = FIRST; seed < FIRST + RUNS / 2; seed++) {
    const r = new Random(seed);
    const twice = r.once(3);
    const flows = twice ? TRACK_TWICE : randomTable(r, { rewriteTuples: r.once(4), groups: true });
    const packets = randomTraffic(r, { packets: 200 + r.int(300) });
    const o: RunOptions = {
      flows,
      groups: GROUPS,
      records: true,
      ...(r.once(3) ? { events: randomEvents(r, packets, 5) } : {}),
    };
    const what = `seed ${seed}`;
    const want = await run(packets, o);
    const bytes = packets.reduce((n, p) => n + p.frame.length, 0);
    adds(want, packets.length, bytes, what);
    connections += want.records.length;
    repeated += want.result.tallies.repeatedPackets;
    const plain = await run(packets, { ...o, records: false });
    assert.deepEqual(plain.records, []);
    assert.equal(
      difference({ ...plain, records: want.records }, want),
      null,
      `${what}: records change results`,
    );
    for (const workers of [1, 2, 4]) {
      const schedule = {
        workers,
        window: 2 + r.int(r.once(2) ? 8 : 63),
        vector: 1 + r.int(8),
        jitter: r.once(4) ? 0 : 1 + r.int(1 << 20),
      };
      const got = await run(packets, { ...o, ...schedule });
      const diff = difference(want, got);
      assert.ok(diff === null, `${what} ${JSON.stringify(schedule)}\n${flows}\n${diff}`);
      adds(got, packets.length, bytes, what);
      assert.deepEqual(got.result.tallies, want.result.tallies, what);
      microflows += got.run.cache.microflow_hits;
    }
  }
  assert.ok(connections > RUNS && microflows > 0 && (repeated > 0 || RUNS < 16), 'too little was tested');
});
