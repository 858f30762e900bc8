/** The statistics add up, whatever happens: random tables, traffic, limits and commands; fragments, helpers,
 *  translation; any number of workers. What is counted in two places is the same in both, and what the statistics
 *  say is what the verdicts and the connection table say. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ACK, ethernet, FIN, ipv4, type Packet, packet, Random, RST, SYN, tcp } from '../support/packets.js';
import { randomEvents } from '../support/random-events.js';
import { randomTable } from '../support/random-tables.js';
import { randomTraffic } from '../support/random-traffic.js';
import { difference, parseVerdicts, type RunOptions, type RunResult, run } from '../support/run.js';

const RUNS = Number(process.env.SHARDTRACK_PROPERTY_RUNS ?? 8);
const FIRST = Number(process.env.SHARDTRACK_PROPERTY_SEED ?? 1);
const seeds = Array.from({ length: RUNS }, (_, i) => FIRST + i);

type Books = RunResult['traffic']['ct']['zones'][string];

const sum = (numbers: Iterable<number>) => [...numbers].reduce((a, b) => a + b, 0);

/** Counts by key. */
function tally<T>(items: Iterable<T>, keyOf: (item: T) => string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const item of items) {
    const key = keyOf(item);
    counts[key] = (counts[key] ?? 0) + 1;
  }
  return counts;
}

function balance(b: Books, story: string): void {
  assert.equal(
    b.live + b.expired + b.evicted + b.flushed,
    b.commits,
    `${story}: connections that came and went`,
  );
  assert.equal(sum(Object.values(b.refused_by_reason)), b.refused, `${story}: refused commits`);
}

/** Every sum that must come out. */
function audit(r: RunResult, packets: readonly Packet[], story: string): void {
  const { traffic, table } = r;
  const { ct } = traffic;
  const verdicts = parseVerdicts(r);

  // Connections.
  balance(ct, story);
  const zones = Object.entries(ct.zones);
  for (const [zone, books] of zones) balance(books, `${story}, zone ${zone}`);
  for (const column of ['commits', 'refused', 'expired', 'evicted', 'flushed', 'live'] as const) {
    assert.equal(
      sum(zones.map(([, books]) => books[column])),
      ct[column],
      `${story}: ${column} of all zones`,
    );
  }
  const lines = table.map((line) => JSON.parse(line) as { zone: number });
  const live = tally(lines, (c) => String(c.zone));
  for (const [zone, books] of zones) assert.equal(books.live, live[zone] ?? 0, `${story}: live in ${zone}`);
  assert.equal(ct.live, lines.length, `${story}: connections in the table`);

  // Packets.
  assert.equal(traffic.packets, packets.length, story);
  assert.equal(traffic.bytes, sum(packets.map((p) => p.frame.length)), story);
  const dropped = verdicts.filter((v) => v.reason !== null);
  assert.deepEqual(
    { ...traffic.drops },
    tally(dropped, (v) => v.reason as string),
    `${story}: dropped`,
  );
  assert.equal(traffic.passed, verdicts.length - dropped.length, `${story}: passed`);
  const out = tally(
    verdicts.flatMap((v) => v.out),
    String,
  );
  for (const [port, { packets: n }] of Object.entries(traffic.out)) {
    assert.equal(n, out[port], `${story}: out of ${port}`);
    delete out[port];
  }
  assert.deepEqual(out, {}, story);

  // ct().
  const states = tally(
    verdicts.flatMap((v) => v.ct),
    ({ state }) => {
      if (state.includes('+inv')) return 'invalid';
      if (state.includes('+rel')) return 'related';
      return state.includes('+est') ? 'established' : 'new';
    },
  );
  for (const what of ['new', 'established', 'related', 'invalid'] as const) {
    assert.equal(ct[what], states[what] ?? 0, `${story}: ${what}`);
  }
  // The worker of the fragment that completes a datagram runs ct() once more, for the whole.
  const tracked = ct.new + ct.established + ct.related + ct.invalid;
  assert.ok(ct.actions <= tracked + ct.fragments_held + ct.reassembled, `${story}: ${ct.actions} ct()`);
  assert.equal(sum(Object.values(ct.invalid_by_reason)), ct.invalid, `${story}: invalid by reason`);
}

async function auditAll(
  o: RunOptions,
  packets: readonly Packet[],
  r: Random,
  story: string,
): Promise<RunResult> {
  const want = await run(packets, o);
  audit(want, packets, `${story}, inline`);
  for (const workers of [1, 2]) {
    const schedule = {
      window: 2 + r.int(64),
      vector: 1 + r.int(16),
      jitter: r.once(2) ? 0 : 1 + r.int(1 << 20),
    };
    const got = await run(packets, { ...o, workers, ...schedule });
    audit(got, packets, `${story}, ${workers} workers`);
    assert.equal(difference(want, got), null, `${story}, ${workers} workers`);
  }
  return want;
}

/** Clients that open, close and open again, from few ports; some closed connections are opened from the server. */
function revolving(r: Random, n: number): Packet[] {
  const packets: Packet[] = [];
  let t = 100;
  while (packets.length < n) {
    const client = { src: `10.0.0.${1 + r.int(3)}`, dst: '10.0.1.1' };
    const sport = 1000 + r.int(4);
    const send = (reply: boolean, flags: number, seq: number, ack: number) => {
      t += r.once(40) ? r.int(100) : r.int(30) / 1000;
      const ends = reply ? { src: client.dst, dst: client.src } : client;
      const ports = reply ? { sport: 80, dport: sport } : { sport, dport: 80 };
      packets.push(
        packet(t, reply ? 2 : 1, ethernet({}, ipv4(ends, tcp({ ...ports, flags, seq, ack, window: 5000 })))),
      );
    };
    send(false, SYN, 100, 0);
    if (r.once(4)) continue;
    send(true, SYN | ACK, 500, 101);
    send(false, ACK, 101, 501);
    if (r.once(3)) {
      send(r.once(2), RST | ACK, r.once(2) ? 101 : 501, 501);
    } else {
      send(false, FIN | ACK, 101, 501);
      send(true, FIN | ACK, 501, 102);
      send(false, ACK, 102, 502);
    }
    // The same tuple from the other side: with force, the end of the old connection.
    if (r.once(3)) send(true, SYN, 9000, 0);
  }
  return packets;
}

test('books: random tables, traffic, limits and commands: every sum comes out', async () => {
  const seen = { expired: 0, flushed: 0, refused: 0, fragments_held: 0 };
  for (const seed of seeds) {
    const r = new Random(seed ^ 0x1092);
    const flows = randomTable(r, { groups: false });
    const packets = randomTraffic(r, { packets: 200 + r.int(200), flows: 20, calm: r.once(2) });
    const events = randomEvents(r, packets, 4 + r.int(20));
    const maxConns = r.once(2) ? 1 + r.int(10) : 1000;
    const want = await auditAll({ flows, events, maxConns, strict: r.once(2) }, packets, r, `seed ${seed}`);
    for (const what of Object.keys(seen) as (keyof typeof seen)[]) seen[what] += want.traffic.ct[what];
  }
  for (const [what, n] of Object.entries(seen))
    assert.ok(n > 0, `${what} is 0: this test tests less than it says`);
});

test('books: connections that are closed and opened again, and ended by force, at limits', async () => {
  const tables = [
    'ip,ct_state=-trk,actions=ct(table=1)\ntable=1,ip,ct_state=+new,actions=ct(commit),2\ntable=1,actions=1',
    'ip,in_port=1,actions=ct(commit,zone=7),2\nip,in_port=2,actions=ct(commit,force,zone=7),1',
    'tcp,actions=ct(commit,zone=NXM_OF_IN_PORT[],alg=ftp),ct(commit,zone=9),2',
    'ip,in_port=1,actions=ct(commit,zone=1,nat(src=10.9.0.1-10.9.0.2:5000-5003)),2\nip,in_port=2,actions=ct(zone=1,nat),1',
  ];
  let evicted = 0;
  let refused = 0;
  for (const seed of seeds.slice(0, Math.ceil(RUNS / 8))) {
    for (const [i, flows] of tables.entries()) {
      const r = new Random(seed * 100 + i);
      const packets = revolving(r, 250);
      const events = r.once(2)
        ? ''
        : '{"t": 0, "appctl": ["dpctl/ct-set-limits", "default=4", "zone=7,limit=3"]}';
      const maxConns = r.once(2) ? 3 + r.int(5) : 1000;
      const want = await auditAll({ flows, events, maxConns }, packets, r, `seed ${seed}, table ${i}`);
      evicted += want.traffic.ct.evicted;
      refused += want.traffic.ct.refused;
    }
  }
  assert.ok(evicted > 0 && refused > 0, `${evicted} evicted, ${refused} refused`);
});
