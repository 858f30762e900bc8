/** A commit at a limit makes room by its own clock. With packets in flight that are as far from each other as connections
 *  live, none may go that a packet before it still has to do with. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ethernet, ipv4, type Packet, payload, Random, udp } from '../support/packets.js';
import { difference, type RunOptions, run } from '../support/run.js';
import { DrawnTurns } from '../support/turns.js';

const RUNS = 30;
const FIRST = Number(process.env.SHARDTRACK_SEED ?? 1);

/** Datagrams of a few clients, now and then longer after each other than connections live. */
function slowTraffic(r: Random): Packet[] {
  let sec = 1_700_000_000;
  return Array.from({ length: 60 }, () => {
    if (r.once(3)) sec += 20 + r.int(60);
    const src = `10.0.0.${1 + r.int(6)}`;
    const l4 = r.once(6)
      ? payload(47, Uint8Array.of(0, 0, 8, 0))
      : udp({ sport: 1000 + r.int(3), dport: 53 });
    return { sec, nsec: 0, port: 1, frame: ethernet({}, ipv4({ src, dst: '10.0.1.1' }, l4)) };
  });
}

const TABLES = [
  'ip,actions=ct(commit,zone=1),2',
  'ip,actions=ct(commit,zone=1),ct(commit,zone=2,table=1)\ntable=1,actions=2',
  'ip,actions=ct(commit,zone=1,nat(src=10.9.0.1-10.9.0.2:5000-5003)),2',
];

test('limits: connections that end while packets are in flight, workers that take turns', async () => {
  for (let n = 0; n < RUNS; n++) {
    const r = new Random(FIRST + n);
    const packets = slowTraffic(r);
    const zoned = r.once(3);
    const o: RunOptions = {
      flows: r.pick(TABLES),
      maxConns: zoned ? 1000 : 1 + r.int(3),
      records: r.once(2),
      ...(zoned
        ? { events: '{"t":0,"appctl":["dpctl/ct-set-limits","zone=1,limit=2","zone=2,limit=1"]}\n' }
        : {}),
    };
    const want = await run(packets, o);
    const schedule = { workers: 1 + r.int(3), window: 64, vector: 1 + r.int(9), turns: new DrawnTurns(r) };
    assert.equal(difference(want, await run(packets, { ...o, ...schedule })), null, `seed ${FIRST + n}`);
  }
});
