/** What ct() can be told: zones from fields and several in a row, force, ct_clear, mark and label bit by bit, ct() in
 *  line; for UDP, TCP, SCTP, ICMP and protocols without ports, with pauses around their timeouts. The TOS of a packet
 *  chooses what is done with it. */
import {
  ACK,
  type Bytes,
  cat,
  type Ends,
  echo,
  ends,
  FIN,
  type IpOptions,
  ip,
  PSH,
  RST,
  SYN,
  sctp,
  swap,
  tcp,
  u16,
  u32,
  udp,
} from '../packets.js';
import { SHOW } from '../scenarios/script.js';
import { type Draw, damaged, type Fuzzer, once, pick } from './fuzzer.js';

const PORT_ZONE = 'move:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15]';

/** By DSCP. */
const WAYS = [
  'ct(commit,zone=1,table=1)',
  'ct(zone=1,table=1)',
  `${PORT_ZONE},ct(commit,zone=NXM_NX_REG0[0..15],table=1)`,
  'ct(commit,force,zone=1,table=1)',
  'ct(commit,zone=1,exec(set_field:0x5/0xf->ct_mark),table=1)',
  'ct(commit,zone=1,exec(set_field:0xa0/0xf0->ct_mark,set_field:0x1/0x3->ct_label),table=1)',
  'ct(zone=1,table=2)',
  'ct(commit,zone=2,table=3)',
  'ct(commit,zone=1,exec(move:NXM_NX_REG1[0..15]->NXM_NX_CT_MARK[16..31],load:0x3->NXM_NX_CT_LABEL[62..65]),table=1)',
  'ct(commit,zone=1),ct(zone=1,table=1)',
  'ct(zone=1,table=4)',
  'ct(commit,zone=65535,table=1)',
  'ct(commit,table=1)',
  'ct(commit,zone=1),ct_clear,ct(zone=2,table=1)',
  'ct(commit,zone=1,table=5)',
  'ct(commit,zone=2,exec(set_field:0xffffffff->ct_mark)),ct(commit,force,zone=1,table=3)',
  'ct(zone=1),ct(commit,zone=1,table=1)',
];

const table = (rules: readonly string[]): string => `${rules.join('\n')}\n`;
const both = (rule: string): string[] => [rule.replaceAll('IP', 'ip'), rule.replaceAll('IP', 'ipv6')];
const LABEL = 'move:NXM_NX_CT_LABEL[0..15]->NXM_OF_ETH_DST[32..47]';

const CHOOSE = table([
  '# The DSCP of a packet chooses what is done with it; frames show state, zone, mark and part of the label.',
  ...WAYS.flatMap((way, dscp) =>
    both(`table=0,priority=100,IP,nw_tos=${dscp * 4},actions=load:0x1234->NXM_NX_REG1[],${way}`),
  ),
  `table=1,actions=${SHOW},${LABEL},output:3`,
  `table=2,actions=${SHOW},output:3,ct_clear,${SHOW},output:3`,
  ...both('table=3,priority=100,IP,ct_state=-inv+trk,actions=ct(commit,zone=1,table=1)'),
  'table=3,priority=0,actions=resubmit(,1)',
  ...both(
    'table=4,priority=100,IP,ct_mark=0x5/0xf,actions=ct(commit,zone=1,exec(set_field:0->ct_mark),table=1)',
  ),
  ...both(
    'table=4,priority=90,IP,ct_label=0x1/0x1,actions=ct(commit,zone=1,exec(set_field:0x2/0x3->ct_label),table=1)',
  ),
  ...both(
    'table=4,priority=80,IP,ct_state=+est-inv+trk,actions=ct(commit,zone=1,exec(set_field:0x5/0xf->ct_mark),table=1)',
  ),
  'table=4,priority=0,actions=resubmit(,1)',
  // ct_clear and force behind recirculation.
  ...both('table=5,priority=100,IP,ct_state=+new+trk,actions=ct_clear,ct(commit,zone=2,table=1)'),
  ...both('table=5,priority=90,IP,ct_state=+rpl+trk,actions=ct(commit,force,zone=1,table=1)'),
  'table=5,priority=0,actions=ct_clear,resubmit(,1)',
]);

/** The same with the TTL, behind a VLAN tag whose number is the zone. */
const TAGGED = table([
  '# The VLAN is the zone; what a connection has been told stays with it.',
  'table=0,priority=100,vlan_tci=0x1000/0x1000,actions=move:NXM_OF_VLAN_TCI[0..11]->NXM_NX_REG0[0..11],resubmit(,1)',
  'table=0,priority=0,actions=resubmit(,1)',
  ...both(
    'table=1,priority=100,in_port=1,IP,actions=ct(commit,zone=NXM_NX_REG0[0..15],exec(move:NXM_NX_REG0[0..15]->NXM_NX_CT_MARK[0..15]),table=2)',
  ),
  ...both('table=1,priority=90,IP,actions=ct(zone=NXM_NX_REG0[0..15],table=2)'),
  ...both(
    'table=2,priority=100,in_port=2,IP,ct_state=+est-inv+trk,ct_mark=0/0x10000,actions=ct(commit,zone=NXM_NX_REG0[0..15],exec(set_field:0x10000/0x10000->ct_mark),table=3)',
  ),
  'table=2,priority=0,actions=resubmit(,3)',
  `table=3,actions=${SHOW},${LABEL},output:3`,
]);

const PAUSES = [0.1, 1, 29.9, 30, 30.1, 31, 45, 59.9, 60, 60.1, 61, 90];
const HOSTS = [
  ['10.1.1.1', '10.1.1.2'],
  ['10.1.1.1', '10.1.1.3'],
  ['fc00::1', 'fc00::2'],
] as const;

function chunks(r: Draw): number[] {
  const out: number[] = [];
  for (let n = 1 + r(3); n > 0; n--) {
    const size = pick(r, [4, 4, 8, 16, 20, 5, 7]);
    out.push(r(16), r(4), ...u16(size), ...new Array<number>(((size + 3) & ~3) - 4).fill(r(256)));
  }
  if (once(r, 10)) out.push(...[0, 0, 0, r(8)].slice(0, 1 + r(4)));
  return out;
}

function packet(r: Draw, e: Ends, kind: string, reply: boolean, o: IpOptions): Bytes {
  const bad = once(r, 40) ? { badL4: true } : {};
  const n = e.ap ^ e.bp;
  switch (kind) {
    case 'udp':
      return udp(e, {
        ...o,
        ...bad,
        ...(once(r, 20) ? { noSum: true } : {}),
        ...(once(r, 30) ? { l4Length: r(20) } : {}),
      });
    case 'tcp': {
      const flags = pick(
        r,
        reply ? [SYN | ACK, ACK, PSH | ACK, FIN | ACK, RST] : [SYN, SYN, ACK, PSH | ACK, FIN | ACK, RST],
      );
      return tcp(e, flags, reply ? 5000 : 1000, reply ? 1001 : 5001, { ...o, ...bad, data: r(3) });
    }
    case 'sctp':
      return sctp(e, r(3), chunks(r), { ...o, ...bad });
    case 'echo':
      return echo(e.a, e.b, n & 0xffff, reply, { ...o, ...bad });
    case 'gre':
      return ip(e.a, e.b, 47, cat([0x20, 0, 8, 0], u32(n)), o);
    case 'none':
      return ip(e.a, e.b, e.a.includes(':') ? 59 : 255, new Uint8Array(r(20)), o);
    default:
      return ip(
        e.a,
        e.b,
        pick(r, [2, 4, 41, 50, 51, 88, 89, 103, 112, 136, 253]),
        cat(u32(8 << 16), new Uint8Array(r(40))),
        o,
      );
  }
}

export const zonesFuzzer: Fuzzer = {
  name: 'zones',
  about: 'zones, force, ct_clear, mark and label; UDP, SCTP and protocols without ports',
  tables: [CHOOSE, TAGGED],
  ports: 3,
  play: (s, r, number) => {
    const talks = Array.from({ length: 1 + r(5) }, (_, n) => {
      const [a, b] = pick(r, HOSTS);
      const port = once(r, 20) ? 0 : 53;
      return {
        e: ends(a, 40_000 + (n % 3), b, port),
        kind: pick(r, ['udp', 'udp', 'tcp', 'sctp', 'sctp', 'echo', 'gre', 'none', 'other']),
      };
    });
    for (let n = 25 + r(50); n > 0; n--) {
      const { e, kind } = pick(r, talks);
      const reply = once(r, 3);
      const six = e.a.includes(':');
      const o: IpOptions = {
        tos: 4 * r(number === 0 ? WAYS.length : 2),
        ...(number === 1 && !once(r, 4) ? { vlan: [pick(r, [0, 1, 2, 4095])] } : {}),
        ...(six && once(r, 15) ? { ext: [[pick(r, [0, 60, 43]), [1, 4, 0, 0, 0, 0]]] as const } : {}),
        ...(!six && once(r, 30) ? { options: [1, 1, 1, 1] } : {}),
        ...(once(r, 40) ? { ttl: r(3) } : {}),
        ...(once(r, 40) ? { cut: 1 + r(9) } : {}),
        ...(once(r, 60) && !six ? { badIp: true } : {}),
        ...(once(r, 30) ? { pad: 1 + r(20) } : {}),
      };
      let frame = packet(r, reply ? swap(e) : e, kind, reply, o);
      if (once(r, 60)) frame = damaged(r, frame, 14, 2);
      s.pkt(once(r, 12) ? 1 + r(2) : reply ? 2 : 1, frame, kind);
      if (once(r, 12)) s.wait(pick(r, PAUSES));
      if (once(r, 25)) s.cmd('dpctl/dump-conntrack', '-m', '-s', ...(once(r, 2) ? ['zone=1'] : []));
      if (once(r, 50)) s.cmd('dpctl/flush-conntrack', ...pick(r, [[], ['zone=1'], ['zone=2']]));
    }
  },
};
