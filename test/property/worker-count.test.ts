/** The contract: the number of workers, the window, the vector and the schedule never change a verdict, an
 *  output byte, a connection or a traffic counter. Random tables and traffic; `--workers 0` is the answer.
 *
 *  SHARDTRACK_PROPERTY_RUNS=N draws N cases of each kind; SHARDTRACK_PROPERTY_SEED=S begins with case S. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Packet, Random } from '../support/packets.js';
import { randomTable } from '../support/random-tables.js';
import { randomTraffic } from '../support/random-traffic.js';
import { difference, type RunOptions, type RunResult, run } from '../support/run.js';

const RUNS = Number(process.env.SHARDTRACK_PROPERTY_RUNS ?? 8);
const FIRST = Number(process.env.SHARDTRACK_PROPERTY_SEED ?? 1);

/** Seeds are the same in every run, so that a failure can be repeated. */
const seeds = Array.from({ length: RUNS }, (_, i) => FIRST + i);

function story(seed: number, o: RunOptions, packets: readonly Packet[], what: string): string {
  const { flows, ...rest } = o;
  return `seed ${seed}: ${JSON.stringify(rest)}, ${packets.length} packets, and\n${flows}\n${what}`;
}

async function agree(
  seed: number,
  packets: readonly Packet[],
  want: RunResult,
  o: RunOptions,
): Promise<RunResult> {
  const got = await run(packets, o);
  const diff = difference(want, got);
  assert.ok(diff === null, story(seed, o, packets, diff ?? ''));
  return got;
}

/** A schedule that is as unkind as can be drawn. */
function randomSchedule(r: Random, workers: number): Partial<RunOptions> {
  return {
    workers,
    window: 2 + r.int(r.once(2) ? 8 : 63),
    vector: 1 + r.int(8),
    jitter: r.once(4) ? 0 : 1 + r.int(1 << 20),
  };
}

for (const rewriteTuples of [false, true]) {
  const name = rewriteTuples ? 'tables that rewrite addresses (lockstep)' : 'random tables and traffic';
  test(`worker count: ${name}: 0, 1, 2 and 4 workers agree byte for byte`, async () => {
    let microflows = 0;
    for (const seed of rewriteTuples ? seeds.slice(0, Math.ceil(RUNS / 4)) : seeds) {
      const r = new Random(seed);
      const flows = randomTable(r, { rewriteTuples });
      const packets = randomTraffic(r, { packets: 150 + r.int(300) });
      const want = await run(packets, { flows });
      assert.equal(want.verdicts.length, packets.length);
      for (const workers of rewriteTuples ? [2] : [1, 2, 4]) {
        const got = await agree(seed, packets, want, { flows, ...randomSchedule(r, workers) });
        microflows += got.run.cache.microflow_hits;
      }
    }
    assert.ok(microflows > 0, 'no packet took the short way: this test tests half of it');
  });
}

test('worker count: a connection table that fills up: 0, 1 and 3 workers refuse the same commits', async () => {
  let refused = 0;
  for (const seed of seeds.slice(0, Math.ceil(RUNS / 3))) {
    const r = new Random(seed ^ 0x5eed);
    const flows = randomTable(r, { rules: 4 });
    const packets = randomTraffic(r, { packets: 200, flows: 30 });
    const maxConns = 1 + r.int(12);
    const want = await run(packets, { flows, maxConns });
    refused += want.traffic.ct.refused;
    for (const workers of [1, 3]) {
      await agree(seed, packets, want, { flows, maxConns, ...randomSchedule(r, workers) });
    }
  }
  assert.ok(refused > 0, 'no table was full: this test tests nothing');
});

test('worker count: any RSS key gives the same answer, and so does the size of the window inline', async () => {
  for (const seed of seeds.slice(0, Math.ceil(RUNS / 6))) {
    const r = new Random(seed ^ 0x4b4559);
    const flows = randomTable(r);
    const packets = randomTraffic(r, { packets: 200 });
    const want = await run(packets, { flows });
    await agree(seed, packets, want, { flows, workers: 2, rssKey: r.bytes(40) });
    await agree(seed, packets, want, { flows, workers: 0, window: 1 + r.int(4) });
  }
});

test('worker count: control events between packets fall at the same place for 0 and 2 workers', async () => {
  let flushed = 0;
  for (const seed of seeds.slice(0, Math.ceil(RUNS / 4))) {
    const r = new Random(seed ^ 0xe4e475);
    const flows = randomTable(r);
    const packets = randomTraffic(r, { packets: 250, calm: true });
    const events = Array.from({ length: 6 }, () => {
      const at = r.pick(packets);
      const appctl = r.pick([
        ['dpctl/flush-conntrack'],
        ['dpctl/flush-conntrack', 'zone=0'],
        ['dpctl/ct-disable-tcp-seq-chk'],
        ['dpctl/ct-enable-tcp-seq-chk'],
      ]);
      return `{"t": ${at.sec}.${String(at.nsec).padStart(9, '0')}, "appctl": ${JSON.stringify(appctl)}}`;
    }).join('\n');
    const want = await run(packets, { flows, events });
    flushed += want.traffic.ct.flushed;
    await agree(seed, packets, want, { flows, events, ...randomSchedule(r, 2) });
  }
  assert.ok(flushed > 0, 'no event flushed a connection: this test tests nothing');
});

test('schedule: with injected delays packets wait for the coordinator, and nothing changes', async () => {
  const r = new Random(77);
  const flows = [
    'table=0,priority=10,ip,actions=ct(table=1)',
    'table=0,priority=10,ipv6,actions=ct(table=1)',
    'table=0,priority=0,actions=normal',
    'table=1,priority=10,ip,ct_state=+trk+new,actions=ct(commit,exec(set_field:1->ct_mark)),normal',
    'table=1,priority=5,ct_state=+trk+est,ct_mark=1,actions=in_port,normal',
    'table=1,priority=0,actions=normal',
  ].join('\n');
  const packets = randomTraffic(r, { packets: 600, flows: 24 });
  const want = await run(packets, { flows });
  for (const jitter of [1, 4711, 99991]) {
    const got = await agree(77, packets, want, { flows, workers: 3, jitter, window: 128, vector: 16 });
    assert.ok(got.run.parked > 0, `jitter ${jitter}: no packet was parked`);
  }
});
