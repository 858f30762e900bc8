/** Select groups that share out the connections of a virtual address: spread by weight, open connections stay where they
 *  are, changes move what the selection method promises, affinity holds, and new connections cause no upcalls. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  BALANCED_FLOWS,
  type Backend,
  byId,
  CHANGES,
  type Change,
  groupText,
  least,
  METHODS,
  type Method,
  shares,
  watchedPort,
} from '../../bench/balance/cases.js';
import { chiSquare, chiSquareBound } from '../support/chi-square.js';
import { ethernet, ipv4, type Packet, Random, udp, unhex } from '../support/packets.js';
import { difference, run } from '../support/run.js';

const EPOCH = 1_700_000_000;
const CONNECTIONS = 2000;
const WEIGHTS = [4, 4, 8, 16];
const BACKENDS: readonly Backend[] = WEIGHTS.map((weight, i) => ({ id: i + 1, weight }));
const PORTS = [1, 2, ...Array.from({ length: 8 }, (_, i) => watchedPort(i + 1))];

/** Each client sends once in every round. */
function clients(n: number, rounds: readonly number[]): Packet[] {
  const r = new Random(5);
  const frames = Array.from({ length: n }, () => {
    const src = `11.${r.int(256)}.${r.int(256)}.${r.int(256)}`;
    return ethernet({}, ipv4({ src, dst: '10.254.0.1' }, udp({ sport: 1024 + r.int(60_000), dport: 80 })));
  });
  return rounds.flatMap((second) =>
    frames.map((frame, i) => ({ sec: EPOCH + second, nsec: i * 1000, port: 1, frame })),
  );
}

const backendOf = (line: string): number => unhex(line.split(' ')[2])[33];

async function change(method: Method, what: Change) {
  const events = what.events(method, BACKENDS).map((e) => `${JSON.stringify({ t: EPOCH + 10, ...e })}\n`);
  const {
    frames,
    log,
    run: of,
  } = await run(clients(CONNECTIONS, [0, 20, 200]), {
    flows: BALANCED_FLOWS,
    groups: groupText(method, BACKENDS),
    events: events.join(''),
    ports: PORTS,
  });
  assert.ok(!log.some((line) => line.includes('"error"')), log.join('\n'));
  assert.equal(frames.length, 3 * CONNECTIONS);
  const ids = frames.map(backendOf);
  const round = (k: number) => ids.slice(k * CONNECTIONS, (k + 1) * CONNECTIONS);
  return { first: round(0), again: round(1), anew: round(2), upcalls: of.cache.upcalls };
}

const count = (ids: readonly number[], backends: readonly Backend[]): number[] =>
  backends.map((b) => ids.filter((id) => id === b.id).length);
const moved = (a: readonly number[], b: readonly number[]): number =>
  a.filter((id, i) => id !== b[i]).length / a.length;

for (const method of METHODS) {
  test(`balance: ${method.name}: spread, changes, open connections, upcalls`, async () => {
    for (const what of CHANGES) {
      const where = `${method.name}, one ${what.name}`;
      const { first, again, anew, upcalls } = await change(method, what);
      const after = what.after(BACKENDS);
      assert.deepEqual(again, first, `${where}: an open connection moved`);
      for (const [ids, backends] of [
        [first, BACKENDS],
        [anew, after],
      ] as const) {
        assert.equal(
          count(ids, backends).reduce((a, b) => a + b, 0),
          CONNECTIONS,
          where,
        );
        // By slots a group of other weights is as near to them as its slots allow; these are met exactly.
        if (method.kind === 'slots' && ids === anew) continue;
        const statistic = chiSquare(count(ids, backends), shares(method, backends));
        const bound = chiSquareBound(backends.length - 1);
        assert.ok(statistic < bound, `${where}: ${count(ids, backends)}: ${statistic} is over ${bound}`);
      }
      // Three standard deviations around what a change must move, where no more than that is promised.
      const must = least(byId(BACKENDS, shares(method, BACKENDS)), byId(after, shares(method, after)));
      const slack = 3 * Math.sqrt((must * (1 - must)) / CONNECTIONS);
      const by = moved(first, anew);
      assert.ok(by > must - slack, `${where}: ${by} moved, ${must} must`);
      if (method.kind === 'score' || what.name === 'down') {
        assert.ok(by < must + slack, `${where}: ${by} moved, ${must} must`);
        // A backend that is neither changed nor new loses nothing but to those that are.
        const changed = new Set([BACKENDS.length - 1, BACKENDS.length + 1]);
        assert.ok(
          first.every((id, i) => id === anew[i] || changed.has(id) || changed.has(anew[i])),
          `${where}: a connection moved between backends that did not change`,
        );
      }
      assert.ok(upcalls < 50, `${where}: ${upcalls} upcalls for ${2 * CONNECTIONS} new connections`);
    }
  });
}

test('balance: adding or removing one of N equal backends moves about 1/N by score', async () => {
  const [, , method] = METHODS;
  for (const n of [3, 5, 8]) {
    const equal: Backend[] = Array.from({ length: n }, (_, i) => ({ id: i + 1, weight: 10 }));
    for (const what of CHANGES.filter((c) => c.name === 'removed' || c.name === 'added')) {
      const events = what.events(method, equal).map((e) => `${JSON.stringify({ t: EPOCH + 10, ...e })}\n`);
      const { frames } = await run(clients(CONNECTIONS, [0, 200]), {
        flows: BALANCED_FLOWS,
        groups: groupText(method, equal),
        events: events.join(''),
        ports: PORTS.concat(watchedPort(9)),
      });
      const ids = frames.map(backendOf);
      const by = moved(ids.slice(0, CONNECTIONS), ids.slice(CONNECTIONS));
      const share = what.name === 'added' ? 1 / (n + 1) : 1 / n;
      assert.ok(Math.abs(by - share) < 3 * Math.sqrt(share / CONNECTIONS), `${n} ${what.name}: ${by}`);
    }
  }
});

test('balance: weight 0 and a bucket that is down get nothing; all down: no-live-bucket', async () => {
  const events = [1, 2, 3, 4]
    .map((id) => `{"t": ${EPOCH + 10}, "port": [${watchedPort(id)}, "down"]}\n`)
    .join('');
  const { frames, traffic, verdicts } = await run(clients(500, [0, 200]), {
    flows: BALANCED_FLOWS,
    groups: groupText(METHODS[0], [...BACKENDS.slice(0, 3), { id: 4, weight: 0 }]),
    events,
    ports: PORTS,
  });
  assert.equal(frames.length, 500);
  assert.deepEqual([...new Set(frames.map(backendOf))].sort(), [1, 2, 3]);
  assert.equal(traffic.ct.commits, 500);
  assert.equal(verdicts.filter((v) => v.includes('"no-live-bucket"')).length, 500);
});

/** Connections of 40 clients, each from many ports. */
function visits(): Packet[] {
  const r = new Random(8);
  return Array.from({ length: 1200 }, (_, i) => {
    const l3 = { src: `11.0.0.${1 + (i % 40)}`, dst: '10.254.0.1' };
    const frame = ethernet({}, ipv4(l3, udp({ sport: 1024 + r.int(60_000), dport: 80 })));
    return { sec: EPOCH + i, nsec: 0, port: 1, frame };
  });
}

/** How many backends each client met. */
const met = (frames: readonly string[]): number[] =>
  Array.from({ length: 40 }, (_, c) => new Set(frames.filter((_, i) => i % 40 === c).map(backendOf)).size);

test('balance: a client keeps its backend by a hash of its address', async () => {
  const o = { flows: BALANCED_FLOWS, ports: PORTS };
  const equal = BACKENDS.map((b) => ({ ...b, weight: 5 }));
  const bySource = await run(visits(), { ...o, groups: groupText(METHODS[3], equal) });
  assert.deepEqual(new Set(met(bySource.frames)), new Set([1]));
  assert.equal(new Set(bySource.frames.map(backendOf)).size, 4);
  const byTuple = await run(visits(), { ...o, groups: groupText(METHODS[2], equal) });
  assert.ok(Math.min(...met(byTuple.frames)) > 1);
});

/** The backend that the group has chosen is learned for its client, as OVN's load balancers with an affinity timeout do.
 *  Buckets are action sets, which learn() can't be in: so they go to a table that learns. */
const AFFINITY = `table=0,in_port=1,udp,nw_dst=10.254.0.1,actions=ct(zone=1,nat,table=1)
table=1,priority=9,udp,ct_state=+trk+est,actions=output:2
table=1,priority=1,udp,ct_state=+trk+new,actions=resubmit(,4),resubmit(,5)
table=5,priority=2,udp,reg0=0,actions=group:1
table=5,priority=1,udp,actions=resubmit(,7)
table=6,udp,actions=learn(table=4,idle_timeout=60,priority=9,eth_type=0x800,NXM_OF_IP_SRC[],load:NXM_NX_REG0[]->NXM_NX_REG0[]),resubmit(,7)
${[1, 2, 3, 4]
  .map((id) => `table=7,udp,reg0=${id},actions=ct(commit,zone=1,nat(dst=10.1.0.${id}:8080),table=2)\n`)
  .join('')}table=2,actions=output:2
`;
const affinityGroup = (ids: readonly number[]): string =>
  `group_id=1,type=select,selection_method=hash,fields(ip_src,udp_src),${ids
    .map((id) => `bucket=bucket_id:${id},weight:10,actions=load:${id}->NXM_NX_REG0[],resubmit(,6)`)
    .join(',')}`;

test('balance: a client keeps the backend that was learned, also when the group changes, until it is forgotten', async () => {
  const packets = visits();
  const late = packets.slice(0, 40).map((p) => ({ ...p, sec: EPOCH + 1400 + packets.indexOf(p) }));
  const o = {
    flows: AFFINITY,
    groups: affinityGroup([1, 2, 3, 4]),
    events: `{"t": ${EPOCH + 600}, "ofctl": ["mod-group", ${JSON.stringify(affinityGroup([3, 4]))}]}\n`,
  };
  const got = await run([...packets, ...late], o);
  assert.deepEqual(new Set(met(got.frames.slice(0, 1200))), new Set([1]));
  assert.deepEqual([...new Set(got.frames.slice(0, 1200).map(backendOf))].sort(), [1, 2, 3, 4]);
  // A minute without a packet, and the client starts afresh.
  assert.deepEqual([...new Set(got.frames.slice(1200).map(backendOf))].sort(), [3, 4]);
  assert.equal(difference(got, await run([...packets, ...late], { ...o, workers: 2 })), null);
});
