/** Frames that differ in one field, through tables that look at this field in every way that there is: the caches of the
 *  datapath, whose keys have some fields and not others, say what `--workers 0` says, which has none of them.
 *
 *  SHARDTRACK_PROPERTY_RUNS=N draws N cases; SHARDTRACK_PROPERTY_SEED=S begins with case S. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ACK,
  arp,
  type Bytes,
  data,
  ethernet,
  icmp,
  ipv4,
  ipv6,
  type Packet,
  Random,
  SYN,
  tcp,
  udp,
} from '../support/packets.js';
import { difference, run } from '../support/run.js';
import { DrawnTurns } from '../support/turns.js';

const RUNS = Number(process.env.SHARDTRACK_PROPERTY_RUNS ?? 2);
const FIRST = Number(process.env.SHARDTRACK_PROPERTY_SEED ?? 1);

/** What a frame's field is called in a match, its bits to move, its name for a group, and frames by its value; `sport` may
 *  be any. */
const FIELDS: readonly [match: string, bits: string, name: string, (v: number, sport: number) => Bytes][] = [
  ['ip', 'NXM_NX_IP_TTL[0..1]', 'nw_ttl', (v, sport) => ethernet({}, ipv4({ ttl: 60 + v }, udp({ sport })))],
  ['ip', 'NXM_OF_IP_TOS[2..3]', 'nw_tos', (v, sport) => ethernet({}, ipv4({ tos: v << 2 }, udp({ sport })))],
  ['ip', 'NXM_NX_IP_ECN[0..1]', 'ip_ecn', (v, sport) => ethernet({}, ipv4({ tos: v }, tcp({ sport })))],
  [
    'tcp',
    'NXM_NX_TCP_FLAGS[0..1]',
    'tcp_flags',
    (v, sport) => ethernet({}, ipv4({}, tcp({ sport, flags: [SYN, ACK, SYN | ACK, SYN | 0x40][v] }))),
  ],
  [
    'udp',
    'NXM_OF_UDP_DST[0..1]',
    'udp_dst',
    (v, sport) => ethernet({}, ipv4({}, udp({ sport, dport: [53, 69, 21, 0][v] }))),
  ],
  [
    'icmp',
    'NXM_OF_ICMP_TYPE[0..1]',
    'icmp_type',
    (v) => ethernet({}, ipv4({}, icmp({ type: [8, 0, 13, 3][v] }))),
  ],
  [
    'ipv6',
    'NXM_NX_IPV6_LABEL[0..1]',
    'ipv6_label',
    (v, sport) => ethernet({}, ipv6({ label: v }, udp({ sport }))),
  ],
  [
    'ipv6',
    'NXM_NX_IP_TTL[0..1]',
    'nw_ttl',
    (v, sport) => ethernet({}, ipv6({ hops: 60 + v }, tcp({ sport }))),
  ],
  ['arp', 'NXM_OF_ARP_SPA[0..1]', 'arp_spa', (v) => ethernet({ pad: 18 }, arp({ spa: `10.0.0.${v}` }))],
  ['arp', 'NXM_OF_ARP_OP[0..1]', 'arp_op', (v) => ethernet({ pad: 18 }, arp({ op: 1 + v }))],
  ['arp', 'NXM_NX_ARP_THA[0..1]', 'arp_tha', (v) => ethernet({ pad: 18 }, arp({ tha: v }))],
  [
    'mpls',
    'OXM_OF_MPLS_LABEL[0..1]',
    'mpls_label',
    (v) => ethernet({ type: 0x8847 }, Uint8Array.of(0, 6, v << 4, 64, 1, ...data(40))),
  ],
  [
    'ip',
    'NXM_OF_VLAN_TCI[0..1]',
    'vlan_vid',
    (v, sport) => ethernet({ tags: [4 + v] }, ipv4({}, udp({ sport }))),
  ],
  [
    'ip',
    'NXM_OF_VLAN_TCI[13..14]',
    'vlan_pcp',
    (v, sport) => ethernet({ tags: [{ vid: 5, pcp: v }] }, ipv4({}, tcp({ sport }))),
  ],
  ['ip', 'NXM_OF_ETH_SRC[0..1]', 'eth_src', (v, sport) => ethernet({ src: v }, ipv4({}, udp({ sport })))],
  [
    'ip',
    'NXM_OF_IP_SRC[0..1]',
    'ip_src',
    (v, sport) => ethernet({}, ipv4({ src: `10.0.0.${v}`, options: [1, 1, 1, v && 1] }, udp({ sport }))),
  ],
];

/** The rules of a table that looks at a field; it may go on to 9, with bits in a register. G is the group that hashes the field. */
const USES: readonly ((match: string, bits: string) => string)[] = [
  (match, bits) => `${match},actions=move:${bits}->NXM_NX_REG0[0..1],resubmit(,9)`,
  (match) => `${match},actions=group:G`,
  (match) => `${match},actions=group:1`,
  (match, bits) =>
    `${match},actions=move:${bits}->NXM_NX_REG0[0..1],ct(commit,zone=NXM_NX_REG0[0..15],exec(move:${bits}->NXM_NX_CT_MARK[0..1]),table=8)`,
  (match, bits) => `${match},actions=ct(commit,zone=7),move:${bits}->NXM_NX_REG0[0..1],resubmit(,9)`,
  (match, bits) => `${match},actions=move:${bits}->NXM_OF_ETH_DST[0..1],2`,
];
const BUCKETS = [1, 2, 3, 4].map((port) => `bucket=bucket_id=${port},actions=output:${port}`).join(',');
/** The first port that frames come from. */
const PORT = 10;

test('one field: frames that differ in nothing else, and tables that look at it', async () => {
  const flows: string[] = [];
  const groups = [`group_id=1,type=select,selection_method=dp_hash,selection_method_param=1,${BUCKETS}`];
  for (let v = 0; v < 4; v++) flows.push(`table=9,reg0=${v},actions=${1 + ((v + 1) % 4)}`);
  flows.push(
    'table=8,ct_state=+new,actions=1,resubmit(,9)',
    'table=8,ct_mark=1,actions=2',
    'table=8,priority=0,actions=3',
  );
  const ways: { port: number; frame: (v: number, sport: number) => Bytes }[] = [];
  FIELDS.forEach(([match, bits, name, frame], f) => {
    groups.push(`group_id=${10 + f},type=select,selection_method=hash,fields(${name}),${BUCKETS}`);
    for (const use of USES) {
      const actions = use(match, bits).replace('group:G', `group:${10 + f}`);
      if (actions.includes('ct(') && (match === 'arp' || match === 'mpls')) continue;
      const port = PORT + ways.length;
      ways.push({ port, frame });
      flows.push(`in_port=${port},${actions}`);
    }
  });
  const ports = [1, 2, 3, 4, ...ways.map(({ port }) => port)];
  for (let seed = FIRST; seed < FIRST + RUNS; seed++) {
    const r = new Random(seed);
    const packets: Packet[] = [];
    for (const { port, frame } of ways) {
      const spread = r.pick([1, 8, 30]);
      for (let i = 0; i < 30; i++) {
        const sport = 5000 + r.int(spread);
        packets.push({ sec: 1_700_000_000, nsec: packets.length, port, frame: frame(r.int(4), sport) });
      }
    }
    const options = { flows: `${flows.join('\n')}\n`, groups: `${groups.join('\n')}\n`, ports };
    const want = await run(packets, options);
    for (const workers of [1, 2]) {
      const turns = new DrawnTurns(r);
      const got = await run(packets, { ...options, workers, vector: r.pick([1, 7, 64]), turns });
      assert.equal(difference(want, got), null, `seed ${seed}, ${workers} workers`);
    }
  }
});
