/** The microflow cache says what the engine says. Conversations whose answers follow what was really sent, so that
 *  translated connections get theirs, through tables of the kinds that entries cover; `--workers 0`, which has no
 *  such cache, is the answer.
 *
 *  SHARDTRACK_PROPERTY_RUNS=N draws N cases of each table; SHARDTRACK_PROPERTY_SEED=S begins with case S. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ACK,
  arp,
  type Bytes,
  data,
  ethernet,
  FIN,
  gre,
  icmp,
  icmp6,
  ipv4,
  ipv6,
  type Layer4,
  type Packet,
  PSH,
  Random,
  RST,
  SYN,
  tcp,
  udp,
  unhex,
  view,
} from '../support/packets.js';
import { difference, run } from '../support/run.js';

const RUNS = Number(process.env.SHARDTRACK_PROPERTY_RUNS ?? 2);
const FIRST = Number(process.env.SHARDTRACK_PROPERTY_SEED ?? 1);

/** Tables whose packets go from port 1 to 2 and back. */
const TABLES: Readonly<Record<string, string>> = {
  'mark and label': `ct_state=-trk,ip,actions=ct(zone=5,table=1)
ct_state=-trk,ipv6,actions=ct(zone=5,table=1)
table=1,ct_state=+trk+new,ip,actions=ct(commit,zone=5,exec(set_field:7->ct_mark,set_field:0x1234->ct_label)),resubmit(,2)
table=1,ct_state=+trk+new,ipv6,actions=ct(commit,zone=5,exec(set_field:7->ct_mark)),resubmit(,2)
table=1,ct_state=+trk+est,ct_mark=7,actions=resubmit(,2)
table=1,ct_state=+trk+est,ct_mark=9,actions=mod_nw_tos:32,resubmit(,2)
table=2,in_port=1,actions=2
table=2,in_port=2,actions=1
`,
  'a mark that changes': `ip,actions=ct(commit,zone=5,exec(load:0x1->NXM_NX_CT_MARK[0],move:NXM_OF_IP_TOS[2..3]->NXM_NX_CT_MARK[4..5]),table=1)
ipv6,actions=ct(commit,zone=5,exec(set_field:3->ct_mark),table=1)
table=1,in_port=1,actions=2
table=1,in_port=2,ct_state=-inv,actions=1
`,
  'three zones': `ct_state=-trk,ip,actions=ct(zone=1,table=1)
ct_state=-trk,ipv6,actions=ct(zone=1,table=1)
table=1,ct_state=+new+trk,ip,actions=ct(commit,zone=1),ct(zone=2,table=2)
table=1,ct_state=+new+trk,ipv6,actions=ct(commit,zone=1),ct(zone=2,table=2)
table=1,ip,ct_state=+est+trk,actions=ct(zone=2,table=2)
table=1,ipv6,ct_state=+est+trk,actions=ct(zone=2,table=2)
table=2,ct_state=+new+trk,ip,actions=ct(commit,zone=2),ct(zone=3,table=3)
table=2,ct_state=+new+trk,ipv6,actions=ct(commit,zone=2),ct(zone=3,table=3)
table=2,ip,ct_state=+est+trk,actions=ct(zone=3,table=3)
table=2,ipv6,ct_state=+est+trk,actions=ct(zone=3,table=3)
table=3,ct_state=+new+trk,ip,actions=ct(commit,zone=3,exec(set_field:1->ct_mark)),2
table=3,ct_state=+new+trk,ipv6,actions=ct(commit,zone=3),2
table=3,ct_state=+est+trk,in_port=1,actions=2
table=3,ct_state=+est+trk,in_port=2,actions=mod_dl_dst:02:00:00:00:00:aa,1
`,
  'source translation': `in_port=1,ip,actions=ct(commit,zone=1,nat(src=10.9.0.1-10.9.0.2),table=1)
in_port=1,ipv6,actions=ct(commit,zone=1,nat(src=fd09::1),table=1)
in_port=2,ip,actions=ct(zone=1,nat,table=1)
in_port=2,ipv6,actions=ct(zone=1,nat,table=1)
table=1,in_port=1,actions=mod_dl_src:02:00:00:00:00:01,2
table=1,in_port=2,ct_state=+trk-new-inv,actions=1
`,
  'source translation, looked up first': `ct_state=-trk,ip,actions=ct(zone=1,nat,table=1)
table=1,ip,in_port=1,ct_state=+new+trk,actions=ct(commit,zone=1,nat(src=10.9.0.1:3000-3100)),2
table=1,in_port=1,ct_state=+est+trk,actions=2
table=1,in_port=2,ct_state=+est+trk,actions=1
`,
  'load balancing beside direct connections': `in_port=1,ip,nw_dst=10.0.1.3,actions=ct(commit,zone=1,nat(dst=10.0.1.1-10.0.1.2),table=1)
in_port=1,ip,actions=ct(commit,zone=1,table=1)
in_port=2,ip,actions=ct(zone=1,nat,table=1)
table=1,ip,in_port=1,actions=mod_nw_tos:16,2
table=1,ip,in_port=2,ct_state=+trk-new-inv,actions=1
`,
  'translation in one zone, tracking in another': `in_port=1,ip,actions=ct(zone=4,table=1)
table=1,ip,actions=ct(commit,zone=4),ct(commit,zone=1,nat(src=10.9.0.1),table=2)
table=2,ip,actions=ct(commit,zone=2,table=3)
table=3,ip,actions=2
in_port=2,ip,actions=ct(zone=2,table=4)
table=4,ip,actions=ct(zone=1,nat,table=5)
table=5,ip,actions=ct(zone=4,table=6)
table=6,ip,ct_state=+est,actions=1
`,
  'no tracking': `in_port=1,ip,actions=mod_nw_dst:10.0.7.7,mod_tp_dst:99,2
in_port=1,ipv6,actions=mod_dl_dst:02:00:00:00:00:07,2
in_port=2,actions=1
`,
  switching: `arp,actions=normal
ct_state=-trk,ip,actions=ct(zone=3,table=1)
ct_state=-trk,ipv6,actions=ct(zone=3,table=1)
dl_type=0x88cc,actions=drop
priority=0,actions=output:3,normal
table=1,ct_state=+trk+new,ip,actions=ct(commit,zone=3),normal
table=1,ct_state=+trk+new,ipv6,actions=ct(commit,zone=3),normal
table=1,ct_state=+trk+est-inv,actions=normal
table=1,ct_state=+trk+inv,actions=output:4
`,
  'switching of changed frames': `ip,in_port=1,nw_dst=10.0.1.1,actions=ct(commit,zone=3),mod_vlan_vid:7,normal
ip,in_port=1,actions=ct(commit,zone=3),mod_dl_src:02:00:00:00:00:dd,normal
ip,actions=mod_dl_src:02:00:00:00:00:bb,output:3,mod_dl_src:02:00:00:00:00:cc,normal
arp,arp_tpa=10.0.0.2,actions=mod_dl_src:02:00:00:00:00:aa,normal
arp,actions=output:3,resubmit(,1)
priority=0,actions=normal,output:2
table=1,actions=normal
`,
};

/** Frames that carry no IP, some of them short or tagged. */
function other(r: Random): { port: number; frame: Bytes } {
  const [src, dst] = [1 + r.int(4), r.once(4) ? 'ff:ff:ff:ff:ff:ff' : 1 + r.int(4)];
  const tags = r.once(6) ? [r.once(3) ? 0 : 5] : [];
  const kind = r.int(5);
  let frame = ethernet({ src, dst, tags, pad: 18 }, arp({ op: 1 + r.int(2), tpa: `10.0.0.${1 + r.int(3)}` }));
  if (kind === 3) frame = ethernet({ src, dst: '01:80:c2:00:00:0e', tags, type: 0x88cc }, data(50));
  else if (kind === 4) frame = ethernet({ src, dst, tags, type: r.once(2) ? 46 : 0x8100 }, data(46));
  else if (r.once(8)) frame = frame.slice(0, r.once(4) ? 10 : 20);
  return { port: 1 + r.int(3), frame };
}

/** The frame, a byte of which has been damaged on the way: of the IP header's checksum, or at the end. */
function damaged(r: Random, frame: Bytes): Bytes {
  const bytes = frame.slice();
  const at = r.once(3) && view(bytes).getUint16(12) === 0x0800 ? 24 : bytes.length - 1;
  bytes[at] ^= 0x41;
  return bytes;
}

const V4 = (n: number) => `10.0.${n < 10 ? 0 : 1}.${n % 10}`;
const V6 = (n: number) => `fd00::${n.toString(16)}`;

/** The frame that whoever gets `frame` answers with. */
function answer(r: Random, frame: Bytes): Bytes {
  const v = view(frame);
  const six = v.getUint16(12) === 0x86dd;
  const quad = (at: number) => [...frame.subarray(at, at + 4)].join('.');
  const groups = (at: number) =>
    Array.from({ length: 8 }, (_, i) => v.getUint16(at + 2 * i).toString(16)).join(':');
  const proto = frame[six ? 20 : 23];
  const l4 = six ? 54 : 34;
  const [sport, dport] = [v.getUint16(l4 + 2), v.getUint16(l4)];
  let back: Layer4;
  if (proto === 1) back = icmp({ type: 0, rest: v.getUint32(l4 + 4) });
  else if (proto === 58) back = icmp6({ type: 129, rest: v.getUint32(l4 + 4) });
  else if (proto === 17) back = udp({ sport, dport, unsummed: !six && r.once(3) });
  else if (proto === 6) {
    const flags = frame[l4 + 13];
    const size = (six ? v.getUint16(18) + 40 : v.getUint16(16)) - (l4 - 14) - (frame[l4 + 12] >> 4) * 4;
    const seq = flags & ACK ? v.getUint32(l4 + 8) : 5000;
    const ack = v.getUint32(l4 + 4) + size + (flags & (SYN | FIN) ? 1 : 0);
    const reply = flags & SYN ? SYN | ACK : r.once(12) ? FIN | ACK : r.once(30) ? RST : ACK;
    back = tcp({ sport, dport, seq, ack, flags: reply, data: data(flags & SYN ? 0 : r.int(20)) });
  } else back = gre();
  if (six) return ethernet({}, ipv6({ src: groups(38), dst: groups(22) }, back));
  return ethernet({}, ipv4({ src: quad(30), dst: quad(26), tos: r.once(6) ? 8 : 0 }, back));
}

/** Packets of a few conversations over and over, with answers to what port 2 gets. */
async function conversations(r: Random, flows: string): Promise<Packet[]> {
  const packets: Packet[] = [];
  const next = new Map<string, [number, number]>();
  let ms = 0;
  for (let i = 0; i < 500; i++) {
    ms += r.once(100) ? 70_000 : r.int(300);
    const six = r.once(4);
    const [src, dst] = [1 + r.int(2), 11 + r.int(3)];
    const sport = 3000 + r.int(2);
    const kind = r.int(8);
    let l4: Layer4;
    if (kind < 4) {
      const name = `${six} ${src} ${dst} ${sport}`;
      const [seq, ack] = next.get(name) ?? [1000, -1];
      const opens = ack < 0;
      const size = opens || r.once(3) ? 0 : r.int(40);
      const flags = opens ? SYN : r.once(25) ? FIN | ACK : r.once(60) ? RST : r.once(2) ? PSH | ACK : ACK;
      const jump = r.once(30) ? 200_000 : 0;
      l4 = tcp({ sport, dport: 80, seq: seq + jump, ack: opens ? 0 : ack, flags, data: data(size) });
      next.set(name, flags & (FIN | RST) ? [seq + 70_000, -1] : [seq + (opens ? 1 : size), 5001]);
    } else if (kind < 6) l4 = udp({ sport, dport: 53, unsummed: !six && r.once(3) });
    else if (kind < 7 || six) l4 = six ? icmp6({ rest: sport << 16 }) : icmp({ rest: sport << 16 });
    else l4 = gre();
    const tos = r.once(10) ? 4 : 0;
    const l3 = six ? ipv6({ src: V6(src), dst: V6(dst) }, l4) : ipv4({ src: V4(src), dst: V4(dst), tos }, l4);
    const sec = 1_700_000_000 + Math.floor(ms / 1000);
    const tags = dst === 13 && r.once(2) ? [5] : [];
    const frame = ethernet({ tags }, l3);
    const nsec = (ms % 1000) * 1e6;
    packets.push({ sec, nsec, port: 1, frame: r.once(12) ? damaged(r, frame) : frame });
    if (r.once(6)) packets.push({ sec, nsec, ...other(r) });
  }
  await run(packets, {
    flows,
    window: 1,
    onOutput: (n, port, frame) => {
      if (port !== 2 || r.once(6)) return;
      const bytes = unhex(frame);
      const type = view(bytes).getUint16(12);
      if (type !== 0x0800 && type !== 0x86dd) return;
      // The source has looked at one packet more already.
      packets.splice(n + 1, 0, { ...packets[n - 1], port: 2, frame: answer(r, bytes) });
    },
  });
  return packets;
}

for (const [name, flows] of Object.entries(TABLES)) {
  test(`microflows: ${name}: entries say what the engine says`, async () => {
    let hits = 0;
    let all = 0;
    for (let seed = FIRST; seed < FIRST + RUNS; seed++) {
      const r = new Random(seed);
      const packets = await conversations(r, flows);
      const want = await run(packets, { flows });
      for (const workers of [1, 2]) {
        const got = await run(packets, { flows, workers, vector: 1 + r.int(8), window: 8 + r.int(32) });
        const diff = difference(want, got);
        assert.equal(diff, null, `seed ${seed}, ${workers} workers:\n${flows}\n${diff}`);
        hits += got.run.cache.microflow_hits;
        all += packets.length;
      }
    }
    assert.ok(hits * 8 > all, `only ${hits} of ${all} packets were hits`);
  });
}

test('microflows: thousands of connections that come, stay and go: entries say what the engine says', async () => {
  const r = new Random(FIRST);
  const packets: Packet[] = [];
  // Each generation comes while the one before lives, or when it has ended.
  for (let generation = 0; generation < 8; generation++) {
    const n = generation < 4 ? 900 : 1100;
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < n; i++) {
        const l4 = udp({ sport: 1024 + i, dport: 53 });
        const l3 =
          i % 5 === 0
            ? ipv6({ src: V6(1), dst: V6(20 + generation) }, l4)
            : ipv4({ src: '10.0.0.1', dst: `10.0.2.${generation}` }, l4);
        const sec = 1_700_000_000 + (generation < 4 ? generation : 100 * generation);
        packets.push({ sec, nsec: 0, port: 1, frame: ethernet({}, l3) });
      }
    }
  }
  for (const name of ['three zones', 'source translation']) {
    const flows = TABLES[name];
    const want = await run(packets, { flows });
    const got = await run(packets, { flows, workers: 1, vector: 64 + r.int(64) });
    assert.equal(difference(want, got), null, name);
    const hits = got.run.cache.microflow_hits;
    assert.ok(hits * 4 > packets.length, `only ${hits} of ${packets.length} packets were hits`);
  }
});

/** Choices by hash: flows, and their group. */
const CHOICES: Readonly<Record<string, readonly [flows: string, group: string]>> = {
  'no method': ['actions=group:1', 'type=select'],
  dp_hash: ['actions=group:1', 'type=select,selection_method=dp_hash,selection_method_param=1'],
  hash: ['actions=group:1', 'type=select,selection_method=hash'],
  ...Object.fromEntries(
    [
      'eth_src',
      'symmetric_l4',
      'symmetric_l3l4',
      'symmetric_l3l4+udp',
      'symmetric_l3',
      'nw_src',
      'nw_dst',
    ].map((by) => [
      by,
      [
        `actions=multipath(${by},7,modulo_n,4,0,NXM_NX_REG0[0..1]),resubmit(,1)\n${[0, 1, 2, 3].map((n) => `table=1,reg0=${n},actions=${2 + n}`).join('\n')}`,
        'type=select',
      ],
    ]),
  ),
};

for (const [name, [flows, group]] of Object.entries(CHOICES)) {
  test(`microflows: ${name}: frames of the same MACs that differ in anything else`, async () => {
    const r = new Random(FIRST);
    const packets: Packet[] = [];
    for (let i = 0; i < 600; i++) {
      const end = () => `10.0.0.${1 + r.int(9)}`;
      const [src, dst] = [end(), end()];
      const l4 = r.pick([
        udp({ sport: 1 + r.int(3) }),
        icmp({ rest: r.int(3) }),
        gre(),
        tcp({ dport: 1 + r.int(3) }),
      ]);
      const l3 = r.pick([
        () => arp({ op: 1 + r.int(3), spa: src, tpa: dst, sha: r.int(3) }),
        () => ipv4({ src, dst, ttl: 60 + r.int(3) }, l4),
        () => ipv6({ src: V6(1 + r.int(9)), dst: V6(1 + r.int(9)) }, udp({ sport: 1 + r.int(3) })),
        () => ({ type: r.pick([0x8847, 0x8848, 0x88cc, 0x0100]), bytes: r.bytes(20) }),
      ])();
      packets.push({
        sec: 1_700_000_000,
        nsec: i,
        port: 1,
        frame: ethernet({ tags: r.once(3) ? [5] : [] }, l3),
      });
    }
    const buckets = [2, 3, 4, 5].map((port) => `bucket=actions=${port}`).join(',');
    const options = { flows: `${flows}\n`, groups: `group_id=1,${group},${buckets}\n` };
    const want = await run(packets, options);
    for (const workers of [1, 2]) {
      const got = await run(packets, { ...options, workers, vector: 1 + r.int(64) });
      assert.equal(difference(want, got), null, `${workers} workers`);
    }
  });
}
