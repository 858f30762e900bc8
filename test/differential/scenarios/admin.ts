/** What an administrator does while packets flow: zone limits, timeout policies, flushes, questions. */
import { ACK, echo, ends, FIN, icmp, PSH, RST, random, SYN, sctp, swap, text, u32, udp } from '../packets.js';
import { C, C6, S, S6, type Scenario, type Script, SHOW, Tcp } from './script.js';

/** Port 1 commits to zone 1, port 2 to zone 2, port 3 only looks into zone 1; port 4 sees the states. */
const TWO_ZONES = `# The frames show ct_state, zone and mark.
table=0,priority=100,in_port=1,ip,actions=ct(commit,zone=1,table=1)
table=0,priority=100,in_port=1,ipv6,actions=ct(commit,zone=1,table=1)
table=0,priority=100,in_port=2,ip,actions=ct(commit,zone=2,table=1)
table=0,priority=100,in_port=2,ipv6,actions=ct(commit,zone=2,table=1)
table=0,priority=100,in_port=3,ip,actions=ct(zone=1,table=1)
table=0,priority=100,in_port=3,ipv6,actions=ct(zone=1,table=1)
table=1,actions=${SHOW},output:4
`;

/** As above, with a mark and a label for what comes from 10.1.1.7 and 10.1.1.8. */
const MARKED = `# Marks and labels by source.
table=0,priority=200,in_port=1,ip,nw_src=10.1.1.7,actions=ct(commit,zone=1,exec(set_field:0x77->ct_mark,set_field:0x1234567890abcdef1122334455667788->ct_label),table=1)
table=0,priority=200,in_port=1,ip,nw_src=10.1.1.8,actions=ct(commit,zone=1,exec(set_field:0x87->ct_mark,set_field:0x8->ct_label),table=1)
${TWO_ZONES}`;

/** One UDP connection a port number. */
function open(s: Script, port: number, from: number, n: number): void {
  for (let i = 0; i < n; i++) s.pkt(port, udp(ends(C, from + i, S, 53)));
}

const limits = (s: Script, ...zones: string[]) =>
  s.cmd('dpctl/ct-get-limits', ...(zones.length ? [`zone=${zones.join(',')}`] : []));

/** One of each kind, in zones 1 and 2. Whether main puts SCTP under a policy depends on its flow cache. */
function zoo(s: Script, withSctp = true): void {
  s.pkt(1, udp(ends(C, 1, S, 53))).pkt(3, udp(swap(ends(C, 1, S, 53))));
  s.pkt(1, udp(ends('10.1.1.7', 7, S, 53))).pkt(1, udp(ends('10.1.1.8', 7, S, 53)));
  s.pkt(1, echo(C, S, 5))
    .pkt(1, echo(C, S, 6))
    .pkt(1, echo(C6, S6, 5));
  s.pkt(1, udp(ends(C6, 1, S6, 53)));
  if (withSctp) s.pkt(1, sctp(ends(C, 9, S, 9), 1, [1, 0, 0, 4]));
  const t = new Tcp(s, ends(C, 10, S, 80), 1000, 5000, [1, 3]);
  t.open({ opts: [3, 3, 7] }).send(10);
  new Tcp(s, ends(C, 11, S, 80), 1, 1, [1, 3]).up(SYN);
  new Tcp(s, ends(C, 12, S, 80), 1, 1, [1, 3]).open().up(FIN | ACK);
  new Tcp(s, ends(C, 13, S, 80), 1, 1, [1, 3])
    .open()
    .up(FIN | ACK)
    .down(FIN | ACK)
    .up(ACK);
  new Tcp(s, ends(C, 14, S, 80), 1, 1, [1, 3]).open().up(RST | ACK);
  new Tcp(s, ends(C6, 15, S6, 80), 1, 1, [1, 3]).open().up(PSH | ACK, 'data', { data: 5 });
  s.pkt(2, udp(ends(C, 1, S, 53))).pkt(2, echo(C, S, 5));
}

const flush = (s: Script, ...args: string[]) => s.cmd('dpctl/flush-conntrack', ...args).table();

/** Packets and commands by chance. All within the shortest timeout: the sweeper of Open vSwitch has nothing to do. */
function muddle(s: Script, seed: number): void {
  const r = random(seed);
  const pick = <T>(list: readonly T[]): T => list[r(list.length)];
  const zone = () => `zone=${r(4)}`;
  const tuple = () => {
    const [a, b] = [pick([C, S]), pick([C, S, '10.1.1.7'])];
    return pick([
      `ct_nw_src=${a},ct_nw_dst=${b},ct_nw_proto=17,ct_tp_src=${1 + r(6)},ct_tp_dst=53`,
      `ct_nw_src=${a},ct_nw_dst=${b},ct_nw_proto=17,ct_tp_src=53,ct_tp_dst=${1 + r(6)}`,
      `ct_nw_src=${a},ct_nw_dst=${b},ct_nw_proto=1,icmp_id=${1 + r(6)},icmp_type=${pick([8, 0])},icmp_code=0`,
      `ct_nw_src=${a}`,
      `ct_nw_dst=${b},ct_nw_proto=${pick([1, 6, 17])}`,
      `ct_nw_proto=6,ct_tp_dst=${pick([80, 81])}`,
      'ct_ipv6_src=fc00::1,ct_nw_proto=17',
    ]);
  };
  for (let i = 0; i < 160; i++) {
    const port = 1 + r(3);
    const id = 1 + r(6);
    const from = pick([C, C, '10.1.1.7', '10.1.1.8']);
    switch (r(10)) {
      case 0:
        s.pkt(port, echo(from, S, id));
        break;
      case 1:
        s.pkt(port, udp(pick([ends(C6, id, S6, 53), ends(S6, 53, C6, id)])));
        break;
      case 2:
        new Tcp(s, ends(from, id, S, pick([80, 81])), 1000, 5000, [pick([1, 2]), 3]).up(SYN);
        break;
      case 3:
      case 4:
      case 5:
        s.pkt(port, udp(pick([ends(from, id, S, 53), ends(S, 53, from, id)])));
        break;
      case 6:
        s.cmd(
          'dpctl/flush-conntrack',
          ...pick([
            [zone()],
            [tuple()],
            [zone(), tuple()],
            ['', tuple()],
            ['mark=0x7/0xf'],
            [zone(), 'labels=0x8'],
          ]),
        );
        break;
      case 7:
        s.cmd(
          'dpctl/ct-set-limits',
          ...pick([[`default=${r(12)}`], [`${zone()},limit=${r(12)}`], ['default=9', `${zone()},limit=3`]]),
        );
        break;
      case 8:
        s.cmd(
          ...pick([
            ['dpctl/ct-del-limits', zone()],
            ['dpctl/ct-del-limits', 'default'],
            ['dpctl/ct-set-maxconns', String(10 + r(40))],
          ]),
        );
        break;
      default:
        s.cmd(
          ...pick([
            ['dpctl/ct-get-nconns'],
            ['dpctl/ct-stats-show', '-m', zone()],
            ['dpctl/ct-get-limits'],
            ['dpctl/dump-conntrack', '-s'],
          ]),
        );
        s.cmd('dpctl/ct-get-limits', 'zone=0,1,2,3');
    }
  }
  s.table();
}

export const adminScenarios: readonly Scenario[] = [
  ...[1, 2, 3].map((seed) => ({
    name: `admin-random-${seed}`,
    about: `commands among packets, by chance: seed ${seed}`,
    flows: MARKED,
    play: (s: Script) => muddle(s, seed),
  })),
  {
    name: 'admin-zone-limits',
    about: 'limits of zones and the default one: what they count, at the limit, changed, deleted, made again',
    flows: TWO_ZONES,
    play: (s) => {
      limits(s);
      open(s, 1, 100, 3);
      s.cmd('dpctl/ct-set-limits', 'zone=1,limit=2');
      limits(s, '1');
      open(s, 1, 100, 3); // older connections go on and count for nothing
      open(s, 1, 200, 4); // two fit
      open(s, 1, 200, 4); // and so does nothing else
      s.pkt(1, echo(C, S, 1)).pkt(1, udp(ends(C6, 1, S6, 53)));
      limits(s);
      s.cmd('dpctl/ct-set-limits', 'zone=1,limit=3');
      open(s, 1, 202, 2);
      s.cmd('dpctl/ct-set-limits', 'default=2');
      limits(s, '0', '1', '2', '65535');
      open(s, 2, 300, 4);
      limits(s, '2');
      limits(s);
      s.cmd('dpctl/ct-del-limits', 'zone=1'); // now under the default, with its count
      limits(s, '1');
      s.pkt(1, udp(ends(C, 400, S, 53)));
      s.cmd('dpctl/ct-set-limits', 'default=5');
      open(s, 1, 400, 4);
      limits(s, '1', '2');
      s.cmd('dpctl/ct-del-limits', 'default');
      limits(s, '1', '2');
      open(s, 1, 500, 2);
      s.cmd('dpctl/ct-set-limits', 'default=0', 'zone=1,limit=1', 'zone=2,limit=0'); // counting begins anew
      limits(s);
      open(s, 1, 600, 2);
      open(s, 2, 600, 2);
      limits(s);
      s.cmd('dpctl/flush-conntrack', 'zone=1');
      limits(s);
      open(s, 1, 700, 2);
      s.cmd('dpctl/ct-del-limits', 'zone=1,2');
      limits(s);
      open(s, 1, 800, 2);
      s.cmd('dpctl/ct-set-limits', 'zone=0x1,limit=0x2');
      s.table();
    },
  },
  {
    name: 'admin-zone-limit-tcp',
    about:
      'a full zone: opening again after the close and ct(force) want a second place; refused packets are new',
    flows: TWO_ZONES,
    play: (s) => {
      s.cmd('dpctl/ct-set-limits', 'zone=1,limit=2');
      const t = new Tcp(s, ends(C, 10, S, 80), 1000, 5000, [1, 3]);
      t.open()
        .up(FIN | ACK)
        .down(FIN | ACK)
        .up(ACK);
      new Tcp(s, ends(C, 11, S, 80), 1000, 5000, [1, 3]).open().send(5);
      limits(s, '1');
      new Tcp(s, ends(C, 12, S, 80), 1000, 5000, [1, 3])
        .up(SYN, 'no room')
        .up(SYN, 'still none', { still: true });
      new Tcp(s, ends(C, 10, S, 80), 90000, 95000, [1, 3]).up(
        SYN,
        'the old one is gone, the new one has no room',
      );
      s.table();
    },
  },
  {
    name: 'admin-maxconns',
    about: 'the limit of the whole table, changed while packets flow',
    flows: TWO_ZONES,
    play: (s) => {
      s.cmd('dpctl/ct-get-maxconns').cmd('dpctl/ct-get-nconns');
      open(s, 1, 100, 3);
      s.cmd('dpctl/ct-set-maxconns', '4').cmd('dpctl/ct-get-maxconns');
      open(s, 2, 100, 3);
      s.cmd('dpctl/ct-get-nconns').cmd('dpctl/ct-set-maxconns', '2');
      open(s, 1, 100, 4);
      s.cmd('dpctl/ct-get-nconns').cmd('dpctl/flush-conntrack', 'zone=1').cmd('dpctl/ct-get-nconns');
      open(s, 1, 100, 3);
      s.cmd('dpctl/ct-set-maxconns', '0').cmd('dpctl/flush-conntrack');
      open(s, 1, 100, 1);
      s.cmd('dpctl/ct-set-maxconns', '5000000').cmd('dpctl/ct-get-maxconns');
      open(s, 1, 100, 2);
      s.cmd('dpctl/ct-get-nconns').table();
    },
  },
  {
    name: 'admin-questions',
    about: 'everything that can be asked of the tracker',
    flows: MARKED,
    play: (s) => {
      const ask = () => {
        s.cmd('dpctl/dump-conntrack')
          .cmd('dpctl/dump-conntrack', '-m')
          .cmd('dpctl/dump-conntrack', '-s', 'zone=2');
        s.cmd('dpctl/dump-conntrack', '-ms', 'zone=1').cmd(
          'dpctl/dump-conntrack',
          '--more',
          'dummy@ovs-dummy',
        );
        s.cmd('dpctl/ct-stats-show')
          .cmd('dpctl/ct-stats-show', 'verbose')
          .cmd('dpctl/ct-stats-show', '-m', 'zone=1');
        s.cmd('dpctl/ct-stats-show', 'zone=2').cmd('dpctl/ct-stats-show', 'zone=77');
        s.cmd('dpctl/ct-bkts').cmd('dpctl/ct-bkts', 'gt=1000').cmd('dpctl/ct-get-nconns');
        s.cmd('dpctl/ct-get-tcp-seq-chk').cmd('dpctl/ct-get-sweep-interval');
      };
      ask();
      zoo(s);
      ask();
      s.cmd('dpctl/ct-disable-tcp-seq-chk')
        .cmd('dpctl/ct-get-tcp-seq-chk')
        .cmd('dpctl/ct-enable-tcp-seq-chk');
      s.cmd('dpctl/ct-set-sweep-interval', '500').cmd('dpctl/ct-get-sweep-interval');
      s.wait(40);
      s.cmd('dpctl/dump-conntrack', '-m').cmd('dpctl/ct-stats-show', '-m').until('the end');
    },
  },
  {
    name: 'admin-zones',
    about:
      'zones 0 to 65535 from a register and from an address: limits, timeout policies and flushes in the first, the last and between',
    flows: `# Port 1: the zone is the low half of the source address. Port 2: of the destination, by a register.
table=0,priority=100,in_port=1,ip,actions=ct(commit,zone=NXM_OF_IP_SRC[0..15],table=1)
table=0,priority=100,in_port=2,ip,actions=move:NXM_OF_IP_DST[0..15]->NXM_NX_REG5[8..23],ct(zone=NXM_NX_REG5[8..23],table=1)
table=1,actions=${SHOW},output:4
`,
    play: (s) => {
      const zones = [0, 1, 255, 256, 32767, 32768, 65279, 65534, 65535];
      const client = (zone: number) => `10.1.${zone >> 8}.${zone & 255}`;
      const all = (port: number) => {
        for (const zone of zones) s.pkt(1, udp(ends(client(zone), port, S, 53)), `zone ${zone}`);
      };
      const answers = (port: number) => {
        for (const zone of zones) s.pkt(2, udp(ends(S, 53, client(zone), port)), `answer in zone ${zone}`);
      };
      s.cmd('dpctl/ct-set-limits', 'default=3', 'zone=65535,limit=1', 'zone=0,limit=2', 'zone=65534,limit=0');
      s.vsctl('add-zone-tp', 'dummy', 'zone=65535', 'udp_first=5', 'udp_multiple=9');
      s.vsctl('add-zone-tp', 'dummy', 'zone=0', 'udp_first=6').vsctl(
        'add-zone-tp',
        'dummy',
        'zone=32768',
        'udp_single=7',
      );
      all(1);
      s.table();
      all(2);
      answers(1);
      answers(2);
      limits(s, '0', '65535', '65534', '32768', '7');
      limits(s);
      s.vsctl('list-zone-tp', 'dummy');
      for (const zone of zones) s.cmd('dpctl/dump-conntrack', '-m', '-s', `zone=${zone}`);
      s.cmd('dpctl/ct-stats-show', '-m', 'zone=65535').cmd('dpctl/ct-stats-show', 'zone=32768');
      flush(s, 'zone=65535');
      flush(
        s,
        'zone=32768',
        'ct_nw_src=10.1.128.0,ct_nw_dst=10.1.1.2,ct_nw_proto=17,ct_tp_src=2,ct_tp_dst=53',
      );
      all(3);
      limits(s, '65535', '0', '256');
      s.cmd('dpctl/ct-del-limits', 'default', 'zone=65535,0,65534').vsctl(
        'del-zone-tp',
        'dummy',
        'zone=65535',
      );
      all(4);
      s.table();
      limits(s, '65535', '0', '256');
      flush(s, 'zone=0');
      s.cmd('dpctl/flush-conntrack').cmd('dpctl/ct-get-nconns').table();
    },
  },
  {
    name: 'admin-flush',
    about: 'flushes by zone, mark, label, part of a tuple, and the whole of one, from both sides',
    flows: MARKED,
    play: (s) => {
      zoo(s);
      s.table();
      flush(s, 'zone=1', 'mark=0x77');
      flush(s, 'mark=0x7/0xf');
      zoo(s);
      flush(s, 'zone=2', 'labels=0x8');
      flush(s, 'labels=0x12000000000000000000000000000000/0xff000000000000000000000000000000');
      flush(s, 'zone=1', 'labels=0x8/0xf');
      flush(s, 'zone=1', 'ct_nw_src=10.1.1.1,ct_nw_dst=10.1.1.2,ct_nw_proto=17,ct_tp_src=1,ct_tp_dst=53');
      flush(s, 'ct_nw_src=10.1.1.1,ct_nw_dst=10.1.1.2,ct_nw_proto=17,ct_tp_src=1,ct_tp_dst=53'); // not in zone 0
      flush(
        s,
        'dummy@ovs-dummy',
        'zone=2',
        'ct_nw_src=10.1.1.2,ct_nw_dst=10.1.1.1,ct_nw_proto=17,ct_tp_src=53,ct_tp_dst=1',
      );
      flush(s, 'zone=1', 'ct_nw_src=10.1.1.1,ct_nw_dst=10.1.1.2,ct_nw_proto=6,ct_tp_src=99,ct_tp_dst=80');
      flush(
        s,
        'zone=1',
        'ct_nw_src=10.1.1.1,ct_nw_dst=10.1.1.2,ct_nw_proto=1,icmp_id=5,icmp_type=8,icmp_code=0',
      );
      flush(
        s,
        'zone=1',
        'ct_nw_src=10.1.1.2,ct_nw_dst=10.1.1.1,ct_nw_proto=1,icmp_id=6,icmp_type=0,icmp_code=0',
      );
      flush(s, 'ct_nw_proto=1,icmp_id=5,icmp_type=8'); // ICMP has no wildcards
      flush(s, '', 'ct_nw_src=10.1.1.2,ct_nw_proto=6,ct_tp_src=80,ct_tp_dst=11');
      flush(s, 'ct_nw_proto=6,ct_tp_src=12');
      flush(s, 'ct_ipv6_src=fc00::1,ct_nw_proto=6');
      flush(s, 'ct_ipv6_dst=fc00:0:0::2');
      flush(s, 'ct_nw_src=10.1.1.1', 'ct_nw_src=10.1.1.3');
      flush(s, 'ct_nw_proto=132');
      flush(s, 'zone=7');
      flush(s, 'zone=1');
      flush(s);
    },
  },
  {
    name: 'admin-timeout-policy',
    about: 'timeout policies: all timers of all protocols, replaced, repeated, deleted',
    flows: TWO_ZONES,
    play: (s) => {
      const policy = [
        ...['udp_first=5', 'udp_single=7', 'udp_multiple=9', 'icmp_first=4', 'icmp_reply=6'],
        ...[
          'tcp_syn_sent=3',
          'tcp_syn_recv=5',
          'tcp_established=20',
          'tcp_fin_wait=8',
          'tcp_time_wait=4',
          'tcp_close=2',
        ],
      ];
      const look = () => s.cmd('dpctl/dump-conntrack', '-m', '-s');
      open(s, 1, 50, 1); // by the default policy, for good
      s.vsctl('list-zone-tp', 'dummy');
      s.vsctl('add-zone-tp', 'dummy', 'zone=1', ...policy).vsctl('list-zone-tp', 'dummy');
      zoo(s, false);
      look().wait(3.5);
      look().wait(2.5);
      look().wait(2.5);
      look().wait(13);
      look();
      // Replaced and deleted policies are forgotten every 20 seconds.
      s.vsctl('add-zone-tp', 'dummy', 'zone=1', 'udp_first=300', 'udp_single=200').vsctl(
        'list-zone-tp',
        'dummy',
      );
      open(s, 1, 60, 4);
      s.pkt(1, udp(ends(C, 63, S, 53)));
      look().wait(21);
      s.vsctl('add-zone-tp', 'dummy', 'zone=1', 'udp_first=400').vsctl('list-zone-tp', 'dummy');
      look();
      s.pkt(1, udp(ends(C, 61, S, 53)), 'refreshed by the default policy').pkt(1, udp(ends(C, 63, S, 53)));
      open(s, 1, 70, 2);
      s.pkt(1, udp(ends(C, 70, S, 53)));
      look().wait(21);
      s.vsctl('add-zone-tp', 'dummy', 'zone=1', 'udp_first=400'); // no change
      s.pkt(1, udp(ends(C, 71, S, 53)));
      s.vsctl('add-zone-tp', 'dummy', 'zone=2', 'tcp_syn_sent=0').vsctl('list-zone-tp', 'dummy');
      new Tcp(s, ends(C, 80, S, 80), 1, 1, [2, 3])
        .up(SYN, 'gone at once')
        .up(SYN, 'new again', { still: true });
      look().wait(21);
      s.vsctl('del-zone-tp', 'dummy', 'zone=1').vsctl('del-zone-tp', 'dummy', 'zone=1');
      s.vsctl('--if-exists', 'del-zone-tp', 'dummy', 'zone=1').vsctl('list-zone-tp', 'dummy');
      look();
      s.pkt(1, udp(ends(C, 70, S, 53)), 'refreshed by the default policy');
      s.pkt(1, icmp(C, S, 13, u32(1), { data: text('time?') }));
      open(s, 1, 90, 1);
      look().wait(31);
      look().wait(31);
      look().until('the end');
    },
  },
  {
    name: 'admin-zone-limits-database',
    about: 'zone limits by ovs-vsctl, which dpctl may not change',
    flows: TWO_ZONES,
    play: (s) => {
      s.vsctl('set-zone-limit', 'dummy', '1', '2')
        .vsctl('list-zone-limits', 'dummy')
        .vsctl('list-zone-tp', 'dummy');
      limits(s);
      open(s, 1, 100, 3);
      s.cmd('dpctl/ct-set-limits', 'zone=1,limit=9').cmd('dpctl/ct-del-limits', 'zone=1');
      s.vsctl('set-zone-limit', 'dummy', 'default', '1').vsctl('list-zone-limits', 'dummy');
      open(s, 2, 100, 3);
      limits(s, '1', '2');
      s.vsctl('del-zone-limit', 'dummy', '1').vsctl('del-zone-limit', 'dummy', '1');
      s.vsctl('--if-exists', 'del-zone-limit', 'dummy', '1');
      limits(s);
      s.vsctl('del-zone-limit', 'dummy', 'default').vsctl('del-zone-limit', 'dummy', 'default');
      s.vsctl('list-zone-limits', 'dummy');
      s.cmd('dpctl/ct-set-limits', 'zone=1,limit=9');
      open(s, 1, 200, 3);
      limits(s);
    },
  },
];
