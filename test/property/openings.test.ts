/** New connections without the engine (openings.ts) are what the engine makes of them: strangers in great number, some of
 *  whom come again, among packets that open nothing, through tables in which openings differ by what they look at.
 *  `--workers 0` has no openings, and is the answer.
 *
 *  SHARDTRACK_PROPERTY_RUNS=N draws N cases of each table; SHARDTRACK_PROPERTY_SEED=S begins with case S. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ACK,
  data,
  ethernet,
  FIN,
  ipv4,
  ipv6,
  type Layer4,
  type Packet,
  Random,
  RST,
  SYN,
  tcp,
  udp,
  windowScale,
} from '../support/packets.js';
import { difference, run } from '../support/run.js';

const RUNS = Number(process.env.SHARDTRACK_PROPERTY_RUNS ?? 2);
const FIRST = Number(process.env.SHARDTRACK_PROPERTY_SEED ?? 1);

/** Tables, and whether some packets must be openings. */
const TABLES: readonly { name: string; flows: string; opens: boolean }[] = [
  {
    name: 'a firewall that looks at addresses, ports, tags and MACs',
    opens: true,
    flows: `ct_state=-trk,ip,actions=ct(zone=3,table=1)
ct_state=-trk,ipv6,actions=ct(zone=3,table=1)
table=1,priority=9,ct_state=+trk+new,tcp,tp_dst=23,actions=drop
table=1,priority=8,ct_state=+trk+new,ip,nw_dst=10.0.1.0/30,in_port=1,actions=ct(commit,zone=3,exec(set_field:7->ct_mark,set_field:0x1234->ct_label)),2
table=1,priority=7,ct_state=+trk+new,ip,nw_tos=32,actions=ct(commit,zone=3,exec(set_field:0->ct_mark)),3
table=1,priority=6,ct_state=+trk+new,ip,dl_vlan=5,actions=output:4
table=1,priority=5,ct_state=+trk+new,udp,dl_src=02:00:00:00:00:01,actions=ct(commit,zone=3),2,controller
table=1,priority=4,ct_state=+trk+new,udp,nw_src=10.0.0.2,actions=output:4
table=1,priority=3,ct_state=+trk+new,ct_nw_src=10.0.0.3,ct_nw_proto=17,ip,actions=drop
table=1,priority=1,ct_state=+trk+new,ip,actions=ct(commit,zone=3),output:2
table=1,priority=1,ct_state=+trk+new,ipv6,actions=ct(commit,zone=3),output:2
table=1,priority=1,ct_state=+trk+est,ct_mark=7,actions=output:1
table=1,priority=0,actions=drop
`,
  },
  {
    name: 'commits in other zones than those of lookups, at once, and twice',
    opens: true,
    flows: `ct_state=-trk,ip,nw_dst=10.0.1.1,actions=ct(zone=1,table=1)
ct_state=-trk,ip,nw_dst=10.0.1.2,actions=ct(commit,zone=2),output:2
ct_state=-trk,ip,nw_dst=10.0.1.3,actions=ct(zone=4,table=2)
ct_state=-trk,ip,actions=ct(zone=3,table=3)
table=1,ct_state=+new,ip,actions=ct(commit,zone=5),output:2
table=2,ct_state=+new,ip,actions=ct(commit,zone=4),ct(commit,zone=6),output:3
table=3,ct_state=+new,ip,actions=ct(zone=3,table=4)
table=4,ip,actions=ct(commit,zone=3),output:2
`,
  },
  {
    // Those that a helper may read are run through their connection by each ct(). A table that learns is run in order.
    name: 'a commit, and further ct() of its zone',
    opens: true,
    flows: `arp,actions=learn(table=9,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[])
ct_state=-trk,ip,nw_dst=10.0.1.1,actions=ct(commit,zone=3,table=0)
ct_state=-trk,ip,actions=ct(commit,zone=3,table=1)
ct_state=+new,ip,nw_dst=10.0.1.1,actions=ct(commit,zone=3,table=0)
table=1,ct_state=+new,ip,actions=ct(zone=3,table=2)
table=2,actions=output:2
`,
  },
  {
    name: 'what goes by a hash, is rewritten, or forced',
    opens: false,
    flows: `ct_state=-trk,ip,actions=ct(zone=3,table=1)
table=1,ct_state=+new,ip,nw_dst=10.0.1.1,actions=ct(commit,zone=3),mod_nw_tos:16,output:2
table=1,ct_state=+new,ip,nw_dst=10.0.1.2,actions=ct(commit,force,zone=3),output:2
table=1,ct_state=+new,ip,nw_dst=10.0.1.3,actions=ct(commit,zone=3),multipath(symmetric_l4,50,modulo_n,2,0,NXM_NX_REG0[0..3]),resubmit(,2)
table=1,ct_state=+new,ip,ip_frag=no,nw_ttl=64,actions=ct(commit,zone=3),output:2
table=2,reg0=0,actions=output:2
table=2,reg0=1,actions=output:3
`,
  },
];

function strangers(r: Random): Packet[] {
  const packets: Packet[] = [];
  let ms = 0;
  for (let i = 0; i < 900; i++) {
    ms += r.once(150) ? 70_000 : r.int(40);
    const sport = r.once(40) ? 0 : r.once(20) ? 21 : 1024 + r.int(r.once(2) ? 30 : 5000);
    const dport = r.once(30) ? 69 : r.once(12) ? 23 : 80;
    let l4: Layer4;
    if (r.once(2)) {
      l4 = udp({ sport, dport, unsummed: r.once(3), data: data(r.int(9)) });
    } else {
      const flags = r.once(5) ? [ACK, FIN, RST, SYN | ACK, SYN | FIN, 0, RST | ACK][r.int(7)] : SYN;
      const options = r.once(3) ? windowScale(r.int(15)) : [];
      l4 = tcp({ sport, dport, seq: 1000 + r.int(3), ack: 1, flags, options, data: data(r.int(3)) });
    }
    const dst = 1 + r.int(5);
    const l3 = r.once(9)
      ? ipv6({ src: 'fd00::1', dst: `fd00::${dst}` }, l4)
      : ipv4({ src: `10.0.0.${1 + r.int(3)}`, dst: `10.0.1.${dst}`, tos: r.once(6) ? 32 : 0 }, l4);
    const frame = ethernet({ src: 1 + r.int(2), tags: r.once(8) ? [5] : [] }, l3);
    if (r.once(25)) frame[frame.length - 1 - r.int(12)] ^= 0x41;
    const sec = 1_700_000_000 + Math.floor(ms / 1000);
    packets.push({ sec, nsec: (ms % 1000) * 1e6, port: 1 + r.int(2), frame });
    // The same again, at once: it must not pass the connection that the first one makes.
    if (r.once(10)) packets.push({ ...packets[packets.length - 1] });
  }
  return packets;
}

for (const { name, flows, opens } of TABLES) {
  test(`openings: ${name}: what they make is what the engine makes`, async () => {
    for (let seed = FIRST; seed < FIRST + RUNS; seed++) {
      const r = new Random(seed);
      const packets = strangers(r);
      const want = await run(packets, { flows });
      let hits = 0;
      for (const o of [
        { workers: 1, vector: 64, window: 256 },
        { workers: 2, vector: 1 + r.int(8), window: 8 + r.int(32), jitter: 1 + r.int(1000) },
        // Near the limit every commit is asked for.
        { workers: 1, maxConns: 200 + r.int(200) },
      ]) {
        const expected = 'maxConns' in o ? await run(packets, { flows, maxConns: o.maxConns }) : want;
        const got = await run(packets, { flows, ...o });
        const diff = difference(expected, got);
        assert.equal(diff, null, `seed ${seed}, ${JSON.stringify(o)}:\n${flows}\n${diff}`);
        hits += got.run.cache.opening_hits;
      }
      if (opens)
        assert.ok(hits * 4 > packets.length, `only ${hits} of ${packets.length} packets were openings`);
    }
  });
}

test('openings: many rules: those that find no room make way, and all agree', async () => {
  const r = new Random(FIRST);
  let flows = 'ct_state=-trk,ip,actions=ct(table=1)\ntable=1,ct_state=+new,ip,actions=ct(commit),output:2\n';
  for (let i = 0; i < 40; i++) {
    const bits = 8 + r.int(25);
    flows += `table=1,priority=${10 + r.int(90)},ct_state=+new,ip,nw_dst=10.${r.int(2)}.${r.int(4)}.${r.int(8)}/${bits}`;
    flows += `${r.once(2) ? `,nw_src=10.0.0.0/${16 + r.int(17)}` : ''},actions=`;
    flows += r.once(3) ? 'drop\n' : `ct(commit),output:${1 + r.int(4)}\n`;
  }
  const packets: Packet[] = [];
  for (let i = 0; i < 3000; i++) {
    const l4 = udp({ sport: 1024 + i, dport: 53 });
    const l3 = ipv4({ src: `10.0.0.${r.int(256)}`, dst: `10.${r.int(2)}.${r.int(4)}.${r.int(16)}` }, l4);
    packets.push({ sec: 1_700_000_000, nsec: i, port: 3, frame: ethernet({}, l3) });
  }
  const want = await run(packets, { flows });
  for (const workers of [1, 2]) {
    const got = await run(packets, { flows, workers });
    assert.equal(difference(want, got), null, flows);
    assert.ok(got.run.cache.opening_hits > 100, `only ${got.run.cache.opening_hits} openings`);
  }
});
