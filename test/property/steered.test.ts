/** Steered mode: tables with one zone that translate run on all workers, and agree with one packet after the other.
 *
 *  SHARDTRACK_PROPERTY_RUNS=N draws N cases; SHARDTRACK_PROPERTY_SEED=S begins with case S. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseGroups } from '../../src/openflow/groups.js';
import { orderingOf } from '../../src/openflow/order.js';
import { parseFlows } from '../../src/openflow/parser.js';
import { natTraffic, randomBalancer, randomNatTable } from '../support/nat-traffic.js';
import { Random } from '../support/packets.js';
import { randomEvents } from '../support/random-events.js';
import { difference, run } from '../support/run.js';

const RUNS = Number(process.env.SHARDTRACK_PROPERTY_RUNS ?? 8);
const FIRST = Number(process.env.SHARDTRACK_PROPERTY_SEED ?? 1);

test('steered: random NAT, most of whose replies hash elsewhere: 0, 1, 2 and 4 workers agree byte for byte', async () => {
  const sums = { packets: 0, commits: 0, exhausted: 0, moved: 0 };
  for (let seed = FIRST; seed < FIRST + RUNS; seed++) {
    const r = new Random(seed);
    const six = r.once(4);
    const { flows, groups } = r.once(3)
      ? randomBalancer(r, six)
      : { flows: randomNatTable(r, six), groups: '' };
    const known = parseGroups(groups, 'groups.txt');
    const rules = parseFlows(flows, 'flows.txt', { groups: new Set(known.map((g) => g.id)) });
    const { mode } = orderingOf([...rules, ...known.flatMap((g) => g.buckets)].map((r) => r.actions));
    assert.equal(mode, 'steered', flows);
    const strict = r.once(5);
    const maxConns = r.once(5) ? 4 + r.int(20) : 1000;
    const options = { flows, groups, strict, maxConns };
    const packets = await natTraffic(
      r,
      { packets: 100 + r.int(250), six, delay: r.pick([0, 2, 20]), whole: !r.once(4) },
      options,
    );
    const events = r.once(3) ? randomEvents(r, packets, 1 + r.int(8)) : '';
    const want = await run(packets, { ...options, events });
    sums.packets += packets.length;
    sums.commits += want.traffic.ct.commits;
    sums.exhausted += want.traffic.ct.refused_by_reason.nat_exhausted;
    for (const workers of r.pick([[1, 2], [2, 4], [2], [4]])) {
      const schedule = {
        workers,
        window: 2 + r.int(r.once(2) ? 20 : 400),
        vector: 1 + r.int(r.once(2) ? 8 : 64),
        jitter: r.once(4) ? 0 : 1 + r.int(1 << 20),
      };
      const got = await run(packets, { ...options, events, ...schedule });
      sums.moved += got.run.moved;
      const diff = difference(want, got);
      const story = `seed ${seed}: ${JSON.stringify({ ...schedule, strict, maxConns, events })}`;
      assert.equal(diff, null, `${story}, ${packets.length} packets, and\n${flows}${groups}\n${diff}`);
    }
  }

  assert.ok(sums.moved > 0, 'no packet went elsewhere: this test tests little');
  assert.ok(sums.commits > sums.packets / 10, `few connections: ${JSON.stringify(sums)}`);
});
