/** Packets that are called back in steered mode: traffic in which that happens all the time, each kind for one part of
 *  what must be done about it. With random delays; the coordinator guesses by chance what may be an answer.
 *
 *  SHARDTRACK_PROPERTY_RUNS=N draws N schedules of each; SHARDTRACK_PROPERTY_SEED=S begins with schedule S. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Bytes, ethernet, ipv4, type Packet, SYN, tcp, udp } from '../support/packets.js';
import { difference, run } from '../support/run.js';

const RUNS = Number(process.env.SHARDTRACK_PROPERTY_RUNS ?? 2);
const FIRST = Number(process.env.SHARDTRACK_PROPERTY_SEED ?? 1);
const CLIENTS = 60;

/** Frames, a ms apart, each with its port. */
function packets(frames: readonly (readonly [number, Bytes])[]): Packet[] {
  return frames.map(([port, frame], ms) => ({
    sec: 1_700_000_000 + Math.floor(ms / 1000),
    nsec: (ms % 1000) * 1e6,
    port,
    frame,
  }));
}

const client = (i: number) => `10.0.${i >> 7}.${1 + (i & 127)}`;
const datagram = (src: string, sport: number, dst: string, dport: number) =>
  ethernet({}, ipv4({ src, dst }, udp({ sport, dport })));

/** Runs `frames` with 0 workers, and with 1, 2 and 4 in several schedules, which must agree; most packets of some are
 *  called back. */
async function check(flows: string, frames: readonly (readonly [number, Bytes])[], least: number) {
  const input = packets(frames);
  const want = await run(input, { flows });
  let moved = 0;
  for (let seed = FIRST; seed < FIRST + RUNS; seed++) {
    // With one worker packets go from queue to queue; few in flight, so that one runs again at once.
    for (const [workers, window] of [
      [1, 5],
      [2, 500],
      [4, 500],
    ]) {
      const schedule = { workers, window, jitter: 1000 * seed + workers, vector: 1 + (seed % 5) };
      const got = await run(input, { flows, ...schedule });
      moved += got.run.moved;
      assert.equal(difference(want, got), null, JSON.stringify(schedule));
    }
  }
  assert.ok(moved >= least * RUNS, `${moved} packets were called back`);
  return want;
}

/** Numbers of clients. */
const each = <T>(f: (i: number) => T[]): T[] => Array.from({ length: CLIENTS }, (_, i) => f(i)).flat();

test('called back: a second packet of a client is not told of the answer behind it', async () => {
  const flows = `in_port=1,ip,actions=ct(commit,nat(src=10.9.0.1)),2
in_port=2,ip,actions=ct(nat,table=1)
table=1,ct_state=+est,actions=1
table=1,actions=drop
`;
  const want = await check(
    flows,
    each((i) => [
      [1, datagram(client(i), 5000 + i, '10.1.0.1', 80)],
      [1, datagram(client(i), 5000 + i, '10.1.0.1', 80)],
      [2, datagram('10.1.0.1', 80, '10.9.0.1', 5000 + i)],
      [1, datagram(client(i), 5000 + i, '10.1.0.1', 80)],
    ]),
    CLIENTS / 4,
  );
  assert.equal(want.traffic.ct.commits, CLIENTS);
});

test('called back: what packets have changed that wait for the switch is as it was before', async () => {
  // Packets of a live connection, to the server itself, are of the class that an older packet to the virtual address
  // joins: its replies have the same hash. They wait for `normal` in between.
  const flows = `in_port=1,ip,nw_dst=10.8.0.1,actions=ct(commit,nat(dst=10.1.0.1)),2
in_port=1,ip,nw_dst=10.1.0.1,actions=ct(commit,nat(src=10.9.0.1),table=1)
in_port=2,ip,actions=ct(nat),1
table=1,ip,actions=normal,ct(commit,exec(set_field:7->ct_mark)),2
`;
  await check(
    flows,
    [
      ...each((i): [number, Bytes][] => [[1, datagram(client(i), 5000 + i, '10.1.0.1', 80)]]),
      ...each((i): [number, Bytes][] => [
        [1, datagram(client(i), 5000 + i, '10.8.0.1', 80)],
        [1, datagram(client(i), 5000 + i, '10.1.0.1', 80)],
        [1, datagram(client(i), 5000 + i, '10.1.0.1', 80)],
      ]),
    ],
    CLIENTS / 4,
  );
});

test('called back: who had opened a connection of his own finds that of an older packet', async () => {
  // Both ends begin at the same time; SYN is never taken for an answer.
  const flows = `in_port=1,ip,actions=ct(commit,nat(src=10.9.0.1)),2
in_port=2,ip,actions=ct(nat,table=1)
table=1,ip,ct_state=+new,actions=ct(commit,exec(set_field:9->ct_mark)),1
table=1,actions=1
`;
  const syn = (src: string, sport: number, dst: string, dport: number) =>
    ethernet({}, ipv4({ src, dst }, tcp({ sport, dport, flags: SYN, seq: 7 })));
  const want = await check(
    flows,
    each((i) => [
      [1, syn(client(i), 5000 + i, '10.1.0.1', 80)],
      [2, syn('10.1.0.1', 80, '10.9.0.1', 5000 + i)],
      [2, syn('10.1.0.1', 80, '10.9.0.1', 5000 + i)],
    ]),
    CLIENTS / 4,
  );
  assert.equal(want.traffic.ct.commits, CLIENTS);
});

test('called back: answers come behind their connection in input order, with those of their queue', async () => {
  const flows = `in_port=1,ip,actions=ct(commit,nat(src=10.9.0.1)),2
in_port=2,ip,actions=ct(nat,table=1)
table=1,ct_state=+est,udp,tp_dst=80,actions=1
table=1,ip,ct_state=+est,actions=ct(commit,exec(move:NXM_OF_ETH_SRC[0..15]->NXM_NX_CT_LABEL[0..15])),1
table=1,actions=drop
`;
  // Each answer leaves its mark; the last one's must be on the connection.
  const answer = (i: number, k: number) =>
    ethernet(
      { src: 1000 * i + k },
      ipv4({ src: '10.1.0.1', dst: '10.9.0.1' }, udp({ sport: 80, dport: 5000 + i })),
    );
  await check(
    flows,
    each((i) => [
      [1, datagram(client(i), 5000 + i, '10.1.0.1', 80)],
      [2, answer(i, 1)],
      [1, datagram(client(i), 5000 + i, '10.1.0.1', 80)],
      [2, answer(i, 2)],
      [1, datagram(client(i), 5000 + i, '10.1.0.1', 80)],
      [2, answer(i, 3)],
    ]),
    CLIENTS / 4,
  );
});

test('called back: answers that wait for answers of their own go on, one way after the other', async () => {
  // What comes back is translated, too: a chain of connections, each of which joins the next one's class.
  const flows = `in_port=1,ip,nw_dst=10.8.0.0/16,actions=ct(commit,nat(dst=10.1.0.1)),2
in_port=2,ip,actions=ct(nat,table=1)
table=1,ip,ct_state=+new,actions=ct(commit,nat(src=10.9.0.1-10.9.0.3)),1
table=1,actions=1
`;
  await check(
    flows,
    each((i) => [
      [1, datagram(client(i), 5000, `10.8.0.${1 + (i % 3)}`, 80)],
      [2, datagram('10.1.0.1', 80, client(i), 5000)],
      [1, datagram(client(i), 5000, `10.8.0.${1 + ((i + 1) % 3)}`, 80)],
      [2, datagram(client(i), 5000, '10.1.0.1', 80)],
      [2, datagram('10.1.0.1', 80, client(i), 5000)],
      [1, datagram('10.1.0.1', 80, client(i), 5000)],
    ]),
    1,
  );
});
