/** Translation and helpers: what a connection is translated to, what of a packet, and what FTP and TFTP announce. */
import {
  ACK,
  cat,
  echo,
  ends,
  FIN,
  icmpError,
  ip,
  PSH,
  RST,
  SYN,
  sctp,
  tcp,
  text,
  u16,
  u32,
  udp,
} from '../packets.js';
import { C, C6, S, S6, type Scenario, type Script, SHOW, Tcp } from './script.js';

const OUT = '10.9.0.1';
const OUT6 = 'fd00:9::1';
const VIP = '10.254.0.1';
const VIP6 = 'fd00:fe::1';
const ROUTER = '10.8.8.8';
const ROUTER6 = 'fd00:8::8';

/** Port 1 opens connections with `nat4` and `nat6`, port 2 translates back; all of zone 1. */
function translate(nat4: string, nat6 = nat4): string {
  return `# Port 1 opens translated connections, port 2 answers them; the frames show ct_state, zone and mark.
table=0,priority=100,in_port=1,ip,actions=ct(commit,zone=1,${nat4},table=1)
table=0,priority=100,in_port=1,ipv6,actions=ct(commit,zone=1,${nat6},table=1)
table=0,priority=100,in_port=2,ip,actions=ct(zone=1,nat,table=1)
table=0,priority=100,in_port=2,ipv6,actions=ct(zone=1,nat,table=1)
table=0,priority=0,actions=drop
table=1,priority=100,in_port=1,actions=${SHOW},output:2
table=1,priority=100,in_port=2,actions=${SHOW},output:1
`;
}

/** FTP and TFTP with their helpers; related connections are committed with `nat` if there is one. */
function helped(nat4: string, nat6: string): string {
  const arg = (nat: string) => (nat === '' ? '' : `,${nat}`);
  const back = nat4 === '' ? '' : ',nat';
  const shown = `move:NXM_NX_CT_NW_SRC[]->NXM_NX_REG1[],move:NXM_NX_CT_TP_DST[]->NXM_NX_REG2[0..15]`;
  return `# Control connections from port 1 have a helper; what it expects is committed. Shown: ct_state, zone, mark.
table=0,priority=110,in_port=1,tcp,tp_dst=21,actions=ct(commit,zone=1,alg=ftp${arg(nat4)},exec(set_field:7->ct_mark,set_field:9->ct_label),table=1)
table=0,priority=110,in_port=1,tcp6,tp_dst=21,actions=ct(commit,zone=1,alg=ftp${arg(nat6)},exec(set_field:7->ct_mark),table=1)
table=0,priority=110,in_port=1,udp,tp_dst=69,actions=ct(commit,zone=1,alg=tftp${arg(nat4)},exec(set_field:8->ct_mark),table=1)
table=0,priority=110,in_port=1,udp6,tp_dst=69,actions=ct(commit,zone=1,alg=tftp${arg(nat6)},table=1)
table=0,priority=100,ip,actions=ct(zone=1${back},table=2)
table=0,priority=100,ipv6,actions=ct(zone=1${back},table=2)
table=2,priority=100,ip,ct_state=+new+rel,actions=${shown},ct(commit,zone=1${back},exec(set_field:5->ct_mark),table=1)
table=2,priority=100,ipv6,ct_state=+new+rel,actions=ct(commit,zone=1${back},table=1)
table=2,priority=90,actions=resubmit(,1)
table=1,priority=110,in_port=1,reg1=0/0,actions=${SHOW},move:NXM_NX_REG2[0..15]->NXM_OF_ETH_DST[32..47],output:2
table=1,priority=110,in_port=2,actions=${SHOW},move:NXM_NX_REG2[0..15]->NXM_OF_ETH_DST[32..47],output:1
`;
}

/** A data connection to `to`: SYN, SYN-ACK, ACK, a byte each way. Opened from port `from`. */
function data(s: Script, from: 1 | 2, a: string, ap: number, b: string, bp: number, back: string): void {
  const to = from === 1 ? 2 : 1;
  const e = ends(a, ap, b, bp);
  // `back`: the address that its other end knows the opener, or the opener the other end, by.
  const answer = from === 1 ? ends(b, bp, back, ap) : ends(back, bp, a, ap);
  s.pkt(from, tcp(e, SYN, 100, 0), 'data connection');
  s.pkt(to, tcp(answer, SYN | ACK, 900, 101));
  s.pkt(from, tcp(e, ACK, 101, 901)).pkt(from, tcp(e, PSH | ACK, 101, 901, { data: 10 }));
  s.pkt(to, tcp(answer, PSH | ACK, 901, 111, { data: 20 })).pkt(from, tcp(e, FIN | ACK, 111, 921));
}

export const natScenarios: readonly Scenario[] = [
  {
    name: 'nat-snat-life',
    about: 'SNAT: TCP from SYN to reopening, UDP, SCTP, GRE, odd packets; answers to nobody',
    flows: translate(`nat(src=${OUT})`, `nat(src=${OUT6})`),
    play: (s) => {
      for (const [c, d, out] of [
        [C, S, OUT],
        [C6, S6, OUT6],
      ] as const) {
        const up = ends(c, 40000, d, 80);
        const down = ends(d, 80, out, 40000);
        s.pkt(1, tcp(up, SYN, 1000, 0), 'SYN').pkt(1, tcp(up, SYN, 1000, 0), 'SYN again');
        s.pkt(2, tcp(ends(d, 80, c, 40000), SYN | ACK, 5000, 1001), 'answer to the inner address');
        s.pkt(2, tcp(down, SYN | ACK, 5000, 1001))
          .pkt(1, tcp(up, ACK, 1001, 5001))
          .table();
        s.pkt(1, tcp(up, PSH | ACK, 1001, 5001, { data: 33 })).pkt(2, tcp(down, ACK, 5001, 1034));
        s.pkt(2, tcp(down, PSH | ACK, 0x7000000, 1034, { data: 5 }), 'out of window: invalid and translated');
        s.pkt(1, tcp(up, PSH | ACK, 1034, 5001, { data: 3, badL4: true }), 'bad checksum: not translated');
        s.pkt(2, tcp(down, FIN | ACK, 5001, 1034)).pkt(1, tcp(up, FIN | ACK, 1034, 5002));
        s.pkt(2, tcp(down, ACK, 5002, 1035)).table();
        s.pkt(1, tcp(up, SYN, 99000, 0), 'opened again')
          .pkt(2, tcp(down, SYN | ACK, 1, 99001))
          .table();
        s.pkt(2, tcp(down, RST | ACK, 2, 99001), 'reset');
        s.pkt(1, udp(ends(c, 500, d, 53))).pkt(2, udp(ends(d, 53, out, 500)));
        s.pkt(1, udp(ends(c, 501, d, 53), { noSum: true }), 'without checksum').pkt(
          2,
          udp(ends(d, 53, out, 501), { noSum: true }),
        );
        s.pkt(1, sctp(ends(c, 7000, d, 7001), 1, [1, 0, 0, 4]), 'SCTP').pkt(
          2,
          sctp(ends(d, 7001, out, 7000), 1, [2, 0, 0, 4]),
        );
        s.pkt(1, ip(c, d, 47, cat(u32(0x0800))), 'GRE').pkt(2, ip(d, out, 47, cat(u32(0x0800))));
        s.pkt(1, echo(c, d, 77))
          .pkt(2, echo(d, out, 77, true))
          .pkt(1, echo(c, d, 77))
          .table();
        s.pkt(2, udp(ends(d, 53, out, 9999)), 'nobody asked');
      }
    },
  },
  {
    name: 'nat-snat-clashes',
    about: 'SNAT without ports: clashes in each port class, ICMP ids, protocols without ports, one port only',
    flows: translate(`nat(src=${OUT})`, `nat(src=[${OUT6}]:3000)`),
    play: (s) => {
      for (const port of [1, 500, 511, 512, 599, 600, 1023, 1024, 65535]) {
        for (let host = 1; host <= 4; host++)
          s.pkt(1, udp(ends(`10.1.1.${host}`, port, S, 53)), `port ${port}`);
      }
      s.table();
      for (const id of [0, 5, 65535]) {
        for (let host = 1; host <= 3; host++) s.pkt(1, echo(`10.1.1.${host}`, S, id), `id ${id}`);
      }
      s.pkt(2, echo(S, OUT, 6, true), 'answer to an id that was moved');
      for (let host = 1; host <= 2; host++) s.pkt(1, ip(`10.1.1.${host}`, S, 47, cat(u32(0))), 'GRE').table();
      s.pkt(1, udp(ends(C6, 1, S6, 53)))
        .pkt(1, udp(ends('fc00::9', 2, S6, 53)), 'no port left: not translated')
        .pkt(1, udp(ends('fc00::9', 2, S6, 54)), 'to another port there is one');
      s.pkt(1, echo(C6, S6, 5))
        .pkt(1, echo('fc00::9', S6, 5), 'ICMPv6 ids are not moved')
        .table();
      s.wait(61)
        .pkt(1, udp(ends('fc00::9', 2, S6, 53)), 'free again')
        .table();
    },
  },
  {
    name: 'nat-dnat',
    about: 'DNAT to an address, then to an address and port; clashes move the source port',
    flows: `${translate(`nat(dst=${S})`, `nat(dst=[${S6}]:8080)`)}table=0,priority=120,in_port=1,udp,tp_dst=99,actions=ct(commit,zone=1,nat(dst=${S}:53),table=1)
table=0,priority=120,in_port=1,icmp,icmp_type=13,actions=ct(commit,zone=1,nat(dst=${S}:53),table=1)
`,
    play: (s) => {
      const t = new Tcp(s, ends(C, 40000, VIP, 80));
      t.up(SYN);
      s.pkt(2, tcp(ends(S, 80, C, 40000), SYN | ACK, 5000, 1001)).pkt(
        1,
        tcp(ends(C, 40000, S, 80), SYN, 7, 0),
        'straight to the server: a clash that shows only in the replies',
      );
      s.pkt(1, tcp(ends(C, 40000, VIP, 80), ACK, 1001, 5001)).table();
      s.pkt(1, udp(ends(C, 1, VIP, 99)), 'to the port of a range of one').pkt(2, udp(ends(S, 53, C, 1)));
      s.pkt(1, udp(ends(C, 1, '10.254.0.2', 99)), 'the same reply tuple: the source port moves');
      s.pkt(2, udp(ends(S, 53, C, 2))).table();
      s.pkt(1, tcp(ends(C6, 40000, VIP6, 80), SYN, 1000, 0));
      s.pkt(2, tcp(ends(S6, 8080, C6, 40000), SYN | ACK, 5000, 1001)).table();
      s.pkt(1, echo(C, VIP, 9)).pkt(2, echo(S, C, 9, true));
      s.pkt(1, echo(C6, VIP6, 9), 'ICMPv6 with a port')
        .pkt(2, echo(S6, C6, 9, true))
        .table();
    },
  },
  {
    name: 'nat-shadow',
    about: 'a tuple that belongs to two connections belongs to the younger one, until that ends',
    flows: `table=0,priority=110,in_port=1,ip,nw_dst=${VIP},actions=ct(commit,zone=1,nat(dst=${S}),table=1)
table=0,priority=100,in_port=1,ip,actions=ct(commit,zone=1,table=1)
table=0,priority=100,in_port=2,ip,actions=ct(zone=1,nat,table=1)
table=0,priority=100,in_port=3,ip,actions=ct(commit,zone=1,table=1)
table=1,priority=100,in_port=1,actions=${SHOW},output:2
table=1,priority=100,in_port=2,actions=${SHOW},output:1
table=1,priority=100,in_port=3,actions=${SHOW},output:1
`,
    play: (s) => {
      s.pkt(1, udp(ends(C, 5, VIP, 53)), 'to the virtual address').wait(20);
      s.pkt(1, udp(ends(C, 5, S, 53)), 'to the server behind it').table();
      s.pkt(2, udp(ends(S, 53, C, 5)), 'the answer is the younger one’s').wait(35);
      s.pkt(2, udp(ends(S, 53, C, 5)), 'which has ended: the older one’s').table();
      s.wait(100)
        .pkt(1, udp(ends(C, 6, VIP, 53)))
        .wait(1);
      s.pkt(3, udp(ends(VIP, 53, C, 6)), 'the virtual address itself opens the other way').table();
      s.pkt(1, udp(ends(C, 6, VIP, 53)), 'a packet of both');
    },
  },
  {
    name: 'nat-zones',
    about:
      'SNAT in one zone and DNAT in the next; ct before ct(nat); both in one action list; force; ct_clear',
    ports: 6,
    flows: `table=0,priority=100,in_port=1,ip,actions=ct(commit,zone=1,nat(src=${OUT}),table=1)
table=1,priority=100,in_port=1,ip,actions=ct(commit,zone=2,nat(dst=${S}),table=2)
table=0,priority=100,in_port=2,ip,actions=ct(zone=2,nat,table=3)
table=3,priority=100,ip,actions=ct(zone=1,nat,table=2)
table=0,priority=100,in_port=3,ip,actions=ct(zone=2,table=4)
table=4,priority=100,ip,actions=ct(zone=2,nat,table=5)
table=5,priority=100,ip,actions=ct(zone=2,table=2)
table=0,priority=100,in_port=4,ip,actions=ct(commit,zone=1,nat(src=${OUT})),ct(commit,zone=2,nat(dst=${S})),ct(zone=1,nat,table=2)
table=0,priority=100,in_port=5,ip,actions=ct(zone=2,nat,table=6)
table=6,priority=100,ip,actions=ct(commit,force,zone=2,table=2)
table=2,priority=100,in_port=1,actions=${SHOW},output:2
table=2,priority=100,actions=${SHOW},output:1
`,
    play: (s) => {
      s.pkt(1, udp(ends(C, 5, VIP, 53))).pkt(2, udp(ends(S, 53, OUT, 5)), 'back through both');
      s.pkt(1, udp(ends(C, 5, VIP, 53)), 'established in both').table();
      s.pkt(3, udp(ends(S, 53, OUT, 5)), 'looked up, translated, looked up again');
      s.pkt(4, udp(ends(C, 7, VIP, 53)), 'translated twice without recirculation').table();
      s.pkt(4, udp(ends(C, 7, VIP, 53)), 'again');
      s.pkt(4, tcp(ends(C, 8, VIP, 80), SYN, 1, 0)).pkt(2, tcp(ends(S, 80, OUT, 8), SYN | ACK, 9, 2));
      s.pkt(5, udp(ends(S, 53, OUT, 5)), 'translated, then committed anew the other way round').table();
      s.pkt(5, udp(ends(S, 53, OUT, 5)), 'again');
      s.pkt(2, icmpError(ROUTER, OUT, udp(ends(OUT, 5, S, 53))), 'an error through both').table();
    },
  },
  {
    name: 'nat-changed-between',
    about: 'a translated packet is changed and tracked again: its original tuple finds the connection',
    flows: `table=0,priority=100,in_port=1,ip,actions=ct(commit,zone=1,nat(src=${OUT}),table=1)
table=1,priority=110,udp,tp_dst=53,actions=set_field:10.7.7.7->ip_src,ct(zone=1,table=2)
table=1,priority=110,udp,tp_dst=54,actions=set_field:10.7.7.7->ip_src,ct(zone=1,nat,table=2)
table=1,priority=110,icmp,actions=set_field:10.7.7.7->ip_src,ct(zone=1,table=2)
table=1,priority=110,tcp,actions=set_field:10.7.7.7->ip_src,ct(commit,zone=1,table=2)
table=1,priority=110,udp,tp_dst=55,actions=set_field:10.7.7.7->ip_src,ct(commit,zone=1,nat(src=10.6.6.6),table=2)
table=1,priority=110,udp6,tp_dst=53,actions=set_field:fd00:7::7->ipv6_src,ct(zone=1,table=2)
table=0,priority=100,in_port=1,ipv6,actions=ct(commit,zone=1,nat(src=${OUT6}),table=1)
table=2,priority=100,actions=${SHOW},output:2
`,
    play: (s) => {
      for (const port of [53, 54, 55]) {
        s.pkt(1, udp(ends(C, 5, S, port)))
          .pkt(1, udp(ends(C, 5, S, port)))
          .table();
      }
      s.pkt(1, echo(C, S, 5))
        .pkt(1, echo(C, S, 5))
        .pkt(1, tcp(ends(C, 5, S, 80), SYN, 1, 0))
        .table();
      s.pkt(1, udp(ends(C6, 5, S6, 53)))
        .pkt(1, udp(ends(C6, 5, S6, 53)))
        .table();
    },
  },
  {
    name: 'nat-icmp-errors',
    about: 'errors about translated packets: from the end and from a router, whole and cut, both ways',
    flows: `${translate(`nat(src=${OUT})`, `nat(src=${OUT6})`)}table=0,priority=120,in_port=1,ip,nw_dst=${VIP},actions=ct(commit,zone=1,nat(dst=${S}:8080),table=1)
table=0,priority=120,in_port=1,ipv6,ipv6_dst=${VIP6},actions=ct(commit,zone=1,nat(dst=${S6}),table=1)
`,
    play: (s) => {
      const inside = [
        [C, S, OUT, ROUTER],
        [C6, S6, OUT6, ROUTER6],
      ] as const;
      for (const [c, d, out, router] of inside) {
        const segment = tcp(ends(out, 4000, d, 80), PSH | ACK, 1001, 5001, { data: 30 });
        s.pkt(1, tcp(ends(c, 4000, d, 80), SYN, 1000, 0)).pkt(
          2,
          tcp(ends(d, 80, out, 4000), SYN | ACK, 5000, 1001),
        );
        s.pkt(2, icmpError(router, out, segment), 'about TCP, whole');
        s.pkt(2, icmpError(d, out, segment), 'from the end');
        s.pkt(2, icmpError(router, out, segment, { keep: c === C ? 28 : 60 }), 'about TCP, cut');
        s.pkt(2, icmpError(router, out, segment, { keep: c === C ? 38 : 66 }), 'cut later');
        s.pkt(1, udp(ends(c, 4001, d, 53))).pkt(2, udp(ends(d, 53, out, 4001)));
        const datagram = udp(ends(out, 4001, d, 53));
        s.pkt(2, icmpError(router, out, datagram), 'about UDP');
        s.pkt(2, icmpError(router, out, datagram, { type: c === C ? 3 : 2, rest: u32(1400) }), 'with an MTU');
        s.pkt(1, icmpError(c, d, udp(ends(d, 53, c, 4001))), 'from the client');
        s.pkt(1, echo(c, d, 9)).pkt(2, echo(d, out, 9, true));
        s.pkt(2, icmpError(router, out, echo(out, d, 9)), 'about an echo');
        s.pkt(1, sctp(ends(c, 7000, d, 7001), 1, [1, 0, 0, 4]));
        s.pkt(2, icmpError(router, out, sctp(ends(out, 7000, d, 7001), 1, [1, 0, 0, 4])), 'about SCTP');
        s.pkt(2, icmpError(router, out, udp(ends(out, 4001, d, 99))), 'about nothing known');
        s.pkt(2, icmpError(router, c, udp(ends(c, 4001, d, 53))), 'about the packet before translation');
      }
      for (const [c, d, vip, router, port] of [
        [C, S, VIP, ROUTER, 8080],
        [C6, S6, VIP6, ROUTER6, 80],
      ] as const) {
        s.pkt(1, tcp(ends(c, 4005, vip, 80), SYN, 1000, 0)).pkt(
          2,
          tcp(ends(d, port, c, 4005), SYN | ACK, 5000, 1001),
        );
        s.pkt(2, icmpError(router, c, tcp(ends(c, 4005, d, port), ACK, 1001, 5001)), 'DNAT: from a router');
        s.pkt(1, icmpError(c, vip, tcp(ends(vip, 80, c, 4005), ACK, 5001, 1001)), 'DNAT: from the client');
        s.pkt(1, udp(ends(c, 4006, vip, 53))).pkt(2, udp(ends(d, c === C ? 8080 : 53, c, 4006)));
        s.pkt(
          2,
          icmpError(router, c, udp(ends(c, 4006, d, c === C ? 8080 : 53), { noSum: c === C })),
          'DNAT: about UDP',
        ).table();
      }
    },
  },
  {
    name: 'ftp-commands',
    about:
      'PORT, PASV, EPRT, EPSV in all spellings, well and badly formed; which connections they let through',
    flows: helped('', ''),
    play: (s) => {
      const t = new Tcp(s, ends(C, 40000, S, 21)).open();
      const good = [
        'PORT 10,1,1,1,4,1\r\n',
        'port 10,1,1,1,4,2\r\n',
        'PoRt   10,1,1,1,4,3 and more\r\n',
        'PORT 10.1.1.1,4,4\r\n',
        'EPRT |1|10.1.1.1|1029|\r\n',
        'eprt !1!10.1.1.1!1030!\r\n',
        'PORT 10,1,1,1,0004,7\r\n',
      ];
      for (const [i, command] of good.entries()) {
        t.send(command, command.trim());
        data(s, 2, S, 20, C, 1025 + i, C);
      }
      s.table();
      for (const command of [
        'PORT 10,1,1,1,4\r\n',
        'PORT 10,1,1,4,1\r\n',
        'PORT 10,1,1,1,256,1\r\n',
        'PORT 10,1,1,1,4,256\r\n',
        'PORT 10,1,1,01,4,1\r\n',
        'PORT 10,1,1,9,4,1\r\n',
        'PORT\r\n',
        'PORT \r\n',
        'PORTS 10,1,1,1,5,1\r\n',
        'EPRT |2|fc00::1|1029|\r\n',
        'EPRT |1|10.1.1.1|65536|\r\n',
        'EPRT |1|10.1.1.1||\r\n',
        'EPRT |1|\r\n',
        ' PORT 10,1,1,1,5,2\r\n',
        'NOOP\r\nPORT 10,1,1,1,5,3\r\n',
        'PORT 10,1,1,1,5,44',
        'P',
      ]) {
        t.send(command, command.trim());
      }
      s.pkt(2, tcp(ends(S, 20, C, 1281), SYN, 1, 0), '5,1').pkt(
        2,
        tcp(ends(S, 20, C, 1282), SYN, 1, 0),
        '5,2',
      );
      s.pkt(2, tcp(ends(S, 20, C, 1283), SYN, 1, 0), '5,3').pkt(
        2,
        tcp(ends(S, 20, C, 1284), SYN, 1, 0),
        '5,4',
      );
      for (const [i, reply] of [
        '227 Entering Passive Mode (10,1,1,2,8,1)\r\n',
        '229 Entering Extended Passive Mode (|||2050|)\r\n',
        '227 10,1,1,2,8,3\r\n',
        '227 Entering Passive Mode (10,1,1,9,8,4)\r\n',
        '227 Entering Passive Mode\r\n',
        '229 Entering (|||66000|)\r\n',
        '229-2055\r\n',
        '2290 2056\r\n',
      ].entries()) {
        t.answer(reply, reply.trim());
        data(s, 1, C, 41000 + i, S, 2049 + i, C);
      }
      s.table();
      t.send(`PORT 10,1,1,1,6,1${' '.repeat(120)}\r\n`, 'a long line').send(`${'x'.repeat(130)}\r\n`);
      s.pkt(2, tcp(ends(S, 20, C, 1537), SYN, 1, 0), 'another source port will do').pkt(
        2,
        tcp(ends('10.1.1.3', 20, C, 1537), SYN, 1, 0),
        'another host will not',
      );
      t.up(PSH | ACK, 'out of window', { data: 'PORT 10,1,1,1,7,1\r\n', at: 0x40000000 });
      s.pkt(2, tcp(ends(S, 20, C, 1793), SYN, 1, 0), 'which still announces').table();
      t.up(FIN | ACK)
        .down(FIN | ACK)
        .up(ACK);
      s.pkt(2, tcp(ends(S, 20, C, 1537), SYN, 1, 0), 'after the control connection');
    },
  },
  {
    name: 'ftp-expectations',
    about:
      'what helpers expect, asked with dpctl/dump-conntrack-exp: per zone, with NAT, until the control connection goes',
    flows: helped(`nat(src=${OUT})`, ''),
    play: (s) => {
      const ask = () => {
        s.cmd('dpctl/dump-conntrack-exp').cmd('dpctl/dump-conntrack-exp', 'zone=1');
        s.cmd('dpctl/dump-conntrack-exp', 'dummy@ovs-dummy', 'zone=2');
      };
      ask();
      const t = new Tcp(s, ends(C6, 40000, S6, 21)).open();
      t.send('EPRT |2|fc00::1|1029|\r\n');
      ask();
      const u = new Tcp(s, ends(C6, 40001, S6, 21)).open();
      u.answer('229 Entering Extended Passive Mode (|||2050|)\r\n').send('EPRT |2|fc00::1|1030|\r\n');
      ask();
      s.pkt(1, tcp(ends(C6, 41000, S6, 2050), SYN, 1, 0));
      ask();
      s.pkt(1, udp(ends(C, 5000, S, 69), { data: '\0\x01file\0octet\0' }));
      ask();
      u.up(RST | ACK);
      s.cmd('dpctl/flush-conntrack', 'zone=1');
      ask();
    },
  },
  {
    name: 'ftp6-commands',
    about: 'EPRT and EPSV over IPv6, well and badly formed',
    flows: helped('', ''),
    play: (s) => {
      const t = new Tcp(s, ends(C6, 40000, S6, 21)).open();
      for (const [i, command] of [
        'EPRT |2|fc00::1|1025|\r\n',
        'eprt |2|fc00:0:0:0:0:0:0:1|1026|\r\n',
        'EPRT |2|FC00::0001|1027|\r\n',
        'EPRT |1|10.1.1.1|1028|\r\n',
        'EPRT |2|fc00::9|1029|\r\n',
        'EPRT |2|fc00::1|66000|\r\n',
        'EPRT |2|fc00::g|1031|\r\n',
        'EPRT |2|fc00::0.0.0.1|1032|\r\n',
        'PORT 10,1,1,1,4,9\r\n',
      ].entries()) {
        t.send(command, command.trim());
        s.pkt(2, tcp(ends(S6, 20, C6, 1025 + i), SYN, 1, 0), `to ${1025 + i}`);
      }
      s.table();
      for (const [i, reply] of [
        '229 Entering Extended Passive Mode (|||2049|)\r\n',
        '229 entering extended passive mode (|||2050|)\r\n',
        '228 Extended Passive 2051\r\n',
        '229 Extended Passive (\r\n',
        '227 Entering Passive Mode (10,1,1,2,8,5)\r\n',
      ].entries()) {
        t.answer(reply, reply.trim());
        data(s, 1, C6, 41000 + i, S6, 2049 + i, C6);
      }
      s.table();
    },
  },
  {
    name: 'ftp-snat',
    about: 'announced addresses are translated; sequence numbers follow, both ways, command after command',
    flows: helped(`nat(src=${OUT})`, `nat(src=${OUT6})`),
    play: (s) => {
      for (const [c, d, out, commands] of [
        ['10.111.111.111', S, OUT, ['PORT 10,111,111,111,4,1\r\n', 'EPRT |1|10.111.111.111|1026|\r\n']],
        ['10.1.1.1', S, OUT, ['PORT 10,1,1,1,4,1\r\n', 'PORT 10,9,0,1,4,2\r\n']],
        [C6, S6, OUT6, ['EPRT |2|fc00::1|1025|\r\n', 'EPRT |2|fc00:0:0:0:0:0:0:1|1026|\r\n']],
      ] as const) {
        const up = ends(c, 40000, d, 21);
        const down = ends(d, 21, out, 40000);
        let a = 1000;
        // The server acknowledges what it has seen: what was rewritten has another length.
        let shift = 0;
        s.pkt(1, tcp(up, SYN, a++, 0))
          .pkt(2, tcp(down, SYN | ACK, 5000, a))
          .pkt(1, tcp(up, ACK, a, 5001));
        for (const [i, command] of commands.entries()) {
          s.pkt(1, tcp(up, PSH | ACK, a, 5001, { data: command }), command.trim());
          a += command.length;
          const port = 1025 + i;
          const announced = c.includes(':') ? out : out.replaceAll('.', ',');
          const was = /^PORT/.test(command)
            ? c === '10.1.1.1' && i === 1
              ? announced
              : c.replaceAll('.', ',')
            : command.split('|')[2];
          shift += announced.length - was.length;
          s.pkt(2, tcp(down, ACK, 5001, a + shift), 'acknowledged');
          data(s, 2, d, 20, out, port, c);
          s.pkt(1, tcp(up, PSH | ACK, a, 5001, { data: 'NOOP\r\n' })).pkt(
            1,
            tcp(up, PSH | ACK, a, 5001, { data: 'NOOP\r\n' }),
            'again',
          );
          a += 6;
          s.pkt(2, tcp(down, PSH | ACK, 5001, a + shift, { data: '200 ok\r\n' }));
        }
        s.table();
        s.pkt(2, tcp(down, FIN | ACK, 5001, a + shift))
          .pkt(1, tcp(up, FIN | ACK, a, 5002))
          .table();
        s.pkt(1, tcp(up, SYN, 77000, 0), 'a new control connection')
          .pkt(1, tcp(up, SYN, 77000, 0))
          .table();
      }
    },
  },
  {
    name: 'ftp-dnat',
    about: 'FTP to a virtual address: PASV and PORT through DNAT, TFTP as well',
    flows: helped(`nat(dst=${S})`, `nat(dst=${S6})`),
    play: (s) => {
      const up = ends(C, 40000, VIP, 21);
      const down = ends(S, 21, C, 40000);
      s.pkt(1, tcp(up, SYN, 1000, 0))
        .pkt(2, tcp(down, SYN | ACK, 5000, 1001))
        .pkt(1, tcp(up, ACK, 1001, 5001));
      const pasv = '227 Entering Passive Mode (10,1,1,2,8,1)\r\n';
      s.pkt(2, tcp(down, PSH | ACK, 5001, 1001, { data: pasv }), 'PASV');
      const b = 5001 + pasv.length;
      s.pkt(1, tcp(up, ACK, 1001, b + VIP.length - S.length), 'acknowledged as seen');
      data(s, 1, C, 41000, VIP, 2049, C);
      s.pkt(2, tcp(ends(S, 2049, C, 41000), SYN | ACK, 900, 101), 'from the server itself').table();
      const epsv = '229 Entering Extended Passive Mode (|||2050|)\r\n';
      s.pkt(2, tcp(down, PSH | ACK, b, 1001, { data: epsv }), 'EPSV');
      s.pkt(1, tcp(ends(C, 41001, VIP, 2050), SYN, 100, 0)).pkt(
        2,
        tcp(ends(S, 2050, C, 41001), SYN | ACK, 9, 101),
      );
      const port = 'PORT 10,1,1,1,4,1\r\n';
      s.pkt(1, tcp(up, PSH | ACK, 1001, b + epsv.length + 3, { data: port }), 'PORT');
      s.pkt(2, tcp(ends(S, 20, C, 1025), SYN, 100, 0), 'from the server');
      s.pkt(1, tcp(ends(C, 1025, VIP, 20), SYN | ACK, 100, 101)).pkt(
        2,
        tcp(ends(S, 20, C, 1025), ACK, 101, 101),
      );
      s.pkt(2, tcp(down, ACK, b + epsv.length, 1001 + port.length)).table();
      s.pkt(1, udp(ends(C, 3000, VIP, 69), { data: 'read' }), 'TFTP').pkt(
        2,
        udp(ends(S, 3333, C, 3000)),
        'its answer',
      );
      s.pkt(1, udp(ends(C, 3000, VIP, 3333)))
        .pkt(2, udp(ends(S, 3333, C, 3000)))
        .table();
    },
  },
  {
    name: 'tftp-snat',
    about: 'TFTP through SNAT and over IPv6: the answer comes from a port of its own; expectations stay',
    flows: helped(`nat(src=${OUT})`, `nat(src=${OUT6})`),
    play: (s) => {
      for (const [c, d, out] of [
        [C, S, OUT],
        [C6, S6, OUT6],
      ] as const) {
        s.pkt(2, udp(ends(d, 3333, out, 3000)), 'before the request');
        s.pkt(1, udp(ends(c, 3000, d, 69), { data: 'read' }), 'request');
        s.pkt(2, udp(ends(d, 3333, out, 3000)), 'answer').pkt(1, udp(ends(c, 3000, d, 3333)));
        s.pkt(2, udp(ends(d, 3334, out, 3000)), 'another answer').table();
        s.pkt(2, udp(ends(d, 69, out, 3000)), 'from the port itself');
        s.pkt(2, icmpError(d, out, udp(ends(out, 3000, d, 69))), 'an error').table();
        s.cmd('dpctl/flush-conntrack', 'zone=1').pkt(2, udp(ends(d, 3335, out, 3000)), 'nothing is expected');
      }
    },
  },
  {
    name: 'nat-helper-odds',
    about:
      'helpers where they do not belong: another port, the other protocol, without commit, translated later',
    flows: `table=0,priority=120,in_port=1,tcp,tp_dst=2121,actions=ct(commit,zone=1,alg=ftp,nat(src=${OUT}),table=1)
table=0,priority=120,in_port=1,tcp,tp_dst=21,actions=ct(commit,zone=1,alg=ftp),ct(zone=1,nat,table=1)
table=0,priority=110,in_port=1,tcp,actions=ct(zone=1,alg=ftp,nat,table=2)
table=0,priority=100,ip,actions=ct(zone=1,nat,table=2)
table=2,priority=100,ip,ct_state=+new+rel,actions=ct(commit,zone=1,nat,table=1)
table=2,priority=90,ip,ct_state=+new,in_port=1,actions=ct(commit,zone=1,table=1)
table=2,priority=80,actions=resubmit(,1)
table=1,priority=100,in_port=1,actions=${SHOW},output:2
table=1,priority=100,in_port=2,actions=${SHOW},output:1
`,
    play: (s) => {
      const up = ends(C, 40000, S, 2121);
      s.pkt(1, tcp(up, SYN, 1000, 0)).pkt(2, tcp(ends(S, 2121, OUT, 40000), SYN | ACK, 5000, 1001));
      s.pkt(1, tcp(up, PSH | ACK, 1001, 5001, { data: 'PORT 10,1,1,1,4,1\r\n' }), 'on another port').table();
      data(s, 2, S, 20, OUT, 1025, C);
      const t = new Tcp(s, ends(C, 40001, S, 21)).open();
      t.send('PORT 10,1,1,1,4,2\r\n', 'not translated');
      data(s, 2, S, 20, C, 1026, C);
      new Tcp(s, ends(C, 40002, S, 2222)).open().send('PORT 10,1,1,1,4,3\r\n', 'committed without helper');
      s.pkt(2, tcp(ends(S, 20, C, 1027), SYN, 1, 0)).table();
      s.pkt(1, ip(C, S, 6, cat(u16(5), text('x'))), 'no header');
    },
  },
];
