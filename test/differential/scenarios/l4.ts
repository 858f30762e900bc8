/** UDP, ICMP, ICMP errors, other protocols, expiry. */
import {
  ACK,
  type Bytes,
  cat,
  echo,
  ends,
  FIN,
  icmp,
  icmpError,
  ip,
  PSH,
  RST,
  SYN,
  sctp,
  swap,
  tcp,
  text,
  u16,
  u32,
  udp,
} from '../packets.js';
import { C, C6, S, S6, type Scenario, SHOW, Tcp, WATCH, WATCH_BOTH } from './script.js';

const ROUTER = '10.9.9.9';
const ROUTER6 = 'fc00::99';

export const l4Scenarios: readonly Scenario[] = [
  {
    name: 'udp-states',
    about: 'one way, answered, both ends again; broadcast, multicast, own address, port reuse',
    flows: WATCH,
    play: (s) => {
      for (const [k, e] of [ends(C, 30000, S, 53), ends(C6, 30000, S6, 53)].entries()) {
        s.pkt(1, udp(e), 'first').pkt(1, udp(e), 'again: still new').table();
        s.pkt(2, udp(swap(e)), 'answer')
          .pkt(1, udp(e), 'now established')
          .pkt(2, udp(swap(e)))
          .table();
        s.pkt(2, udp({ ...swap(e), ap: 54 }), 'answer from another port').pkt(
          2,
          udp({ ...swap(e), a: k ? 'fc00::3' : '10.1.1.3' }),
          'from another host',
        );
        s.pkt(2, udp(ends(e.b, 53, e.a, 30001)), 'unsolicited');
      }
      s.pkt(1, udp(ends('0.0.0.0', 68, '255.255.255.255', 67), { dmac: 'ff:ff:ff:ff:ff:ff' }), 'DHCP').pkt(
        2,
        udp(ends(S, 67, '255.255.255.255', 68)),
        'DHCP offer',
      );
      s.pkt(1, udp(ends(C, 5353, '224.0.0.251', 5353)), 'mDNS')
        .pkt(1, udp(ends(C, 7, C, 7)), 'to itself')
        .pkt(1, udp(ends('127.0.0.1', 5, '127.0.0.1', 6)), 'loopback');
      s.pkt(1, udp(ends(C, 9, S, 9)), 'same port both sides')
        .pkt(2, udp(ends(S, 9, C, 9)))
        .table();
    },
  },
  {
    name: 'udp-checksums-lengths',
    about:
      'no checksum (IPv4: fine, IPv6: not), bad checksum, length field too small and too large, no data, padding',
    flows: WATCH,
    play: (s) => {
      for (const [k, [a, b]] of [
        [C, S],
        [C6, S6],
      ].entries()) {
        let p = 31000 + 100 * k;
        const e = () => ends(a, p++, b, 53);
        s.pkt(1, udp(e(), { noSum: true }), 'no checksum')
          .pkt(1, udp(e(), { badL4: true }), 'bad checksum')
          .pkt(1, udp(e(), { data: 0 }), 'no data');
        for (const l4Length of [0, 4, 7, 8, 11, 12, 13, 1000])
          s.pkt(1, udp(e(), { l4Length }), `length field ${l4Length} of 12`);
        s.pkt(1, udp(e(), { pad: 18 }), 'padded frame')
          .pkt(1, udp(e(), { data: 1 }), 'odd length')
          .pkt(1, udp(e(), { data: 1472 }), 'a full frame');
        const one = e();
        s.pkt(1, udp(one))
          .pkt(2, udp(swap(one), { badL4: true }), 'answer with a bad checksum')
          .pkt(1, udp(one), 'so it is still new')
          .pkt(2, udp(swap(one), { noSum: true }), 'answer without')
          .pkt(1, udp(one));
      }
      s.table();
    },
  },
  {
    name: 'icmp-echo',
    about: 'ping: ids, sequence numbers, codes, unknown replies, replies that come twice, bad checksums',
    flows: WATCH,
    play: (s) => {
      s.pkt(1, echo(C, S, 7), 'request')
        .pkt(1, echo(C, S, 7, false, { seq: 2 }), 'next request: still new')
        .table();
      s.pkt(2, echo(S, C, 7, true), 'reply')
        .pkt(2, echo(S, C, 7, true), 'again')
        .pkt(1, echo(C, S, 7, false, { seq: 3 }))
        .table();
      s.pkt(2, echo(S, C, 8, true), 'reply with another id')
        .pkt(2, echo(S, C, 7), 'request of the other side')
        .pkt(1, echo(C, S, 9, true), 'reply nobody asked for');
      s.pkt(1, echo(C, S, 10, false, { code: 1 }), 'code 1')
        .pkt(2, echo(S, C, 7, true, { code: 3 }), 'reply with code 3')
        .pkt(1, echo(C, S, 11, false, { badL4: true }), 'bad checksum');
      s.pkt(1, echo(C, S, 0), 'id 0')
        .pkt(2, echo(S, C, 0, true))
        .pkt(1, echo(C, S, 12, false, { data: text('') }), 'no data')
        .pkt(2, echo(S, C, 12, true, { data: text('xyz') }), 'other data');
      for (const type of [13, 14, 15, 16, 17, 18, 9, 10, 5, 4, 6, 19, 30, 40, 42, 255])
        s.pkt(1, icmp(C, S, type, [...u16(100 + type), 0, 1]), `type ${type}`);
      for (const type of [14, 16, 18])
        s.pkt(2, icmp(S, C, type, [...u16(99 + type), 0, 1]), `type ${type}, the reply`);
      s.table();
    },
  },
  {
    name: 'icmp6-echo',
    about: 'ICMPv6 ping; neighbour discovery and the rest is invalid',
    flows: WATCH,
    play: (s) => {
      s.pkt(1, echo(C6, S6, 7), 'request')
        .table()
        .pkt(2, echo(S6, C6, 7, true), 'reply')
        .pkt(1, echo(C6, S6, 7, false, { seq: 2 }))
        .table();
      s.pkt(2, echo(S6, C6, 8, true), 'reply with another id')
        .pkt(1, echo(C6, S6, 9, true), 'reply nobody asked for')
        .pkt(1, echo(C6, S6, 10, false, { code: 1 }), 'code 1');
      s.pkt(1, echo(C6, S6, 11, false, { badL4: true }), 'bad checksum');
      for (const type of [130, 131, 132, 133, 134, 135, 136, 137, 139, 140, 143, 200])
        s.pkt(1, icmp(C6, S6, type, u32(0), { data: new Uint8Array(20), ttl: 255 }), `type ${type}`);
      s.pkt(1, ip(C6, S6, 1, text('12345678')), 'ICMP of IPv4 in IPv6')
        .pkt(1, ip(C, S, 58, text('12345678')), 'ICMPv6 in IPv4')
        .table();
    },
  },
  {
    name: 'icmp-errors',
    about:
      'errors about TCP, UDP, echo and an unknown connection, from either end and a router, of every type',
    flows: WATCH,
    play: (s) => {
      const u = udp(ends(C, 30000, S, 53));
      const back = udp(ends(S, 53, C, 30000));
      s.pkt(1, u)
        .pkt(2, icmpError(S, C, u, { type: 3, code: 3 }), 'port unreachable')
        .pkt(2, icmpError(ROUTER, C, u, { type: 3, code: 1 }), 'a router says host unreachable')
        .table();
      for (const [type, code] of [
        [3, 0],
        [3, 2],
        [3, 4],
        [3, 13],
        [3, 15],
        [3, 16],
        [4, 0],
        [5, 0],
        [5, 1],
        [11, 0],
        [11, 1],
        [12, 0],
        [12, 2],
      ] as const) {
        s.pkt(2, icmpError(ROUTER, C, u, { type, code }), `type ${type} code ${code}`);
      }
      s.pkt(2, back, 'an answer')
        .pkt(1, icmpError(C, S, back, { type: 3, code: 3 }), 'error about the answer')
        .pkt(1, icmpError(ROUTER, S, back, { type: 11 }), 'of a router');
      s.pkt(2, icmpError(S, C, back, { type: 3, code: 3 }), 'about its own packet')
        .pkt(2, icmpError(ROUTER, '10.1.1.77', u), 'to a third party')
        .pkt(1, u);
      s.pkt(
        2,
        icmpError(S, C, udp(ends(C, 30001, S, 53)), { type: 3, code: 3 }),
        'about an unknown connection',
      );
      const t = new Tcp(s, ends(C, 40000, S, 80));
      t.open();
      const seg = tcp(t.e, PSH | ACK, t.a, t.b, { data: 100 });
      for (const keep of [100, 40, 28, 27, 24, 20, 19, 8, 0])
        s.pkt(2, icmpError(ROUTER, C, seg, { type: 3, code: 4, keep }), `about TCP, ${keep} bytes of it`);
      s.pkt(
        2,
        icmpError(ROUTER, C, tcp(t.e, PSH | ACK, t.a + 5_000_000, t.b), { keep: 28 }),
        'about a segment far out of window',
      ).pkt(1, seg, 'the connection lives on');
      const e = echo(C, S, 9);
      s.pkt(1, e)
        .pkt(2, icmpError(ROUTER, C, e, { type: 11 }), 'time exceeded about an echo')
        .pkt(2, icmpError(ROUTER, C, echo(C, S, 10), { type: 11 }), 'about another echo')
        .table();
    },
  },
  {
    name: 'icmp6-errors',
    about: 'ICMPv6 errors about UDP, TCP and echo, of every type, cut and nonsense',
    flows: WATCH,
    play: (s) => {
      const u = udp(ends(C6, 30000, S6, 53));
      s.pkt(1, u).pkt(2, icmpError(S6, C6, u, { type: 1, code: 4 }), 'port unreachable');
      for (const [type, code] of [
        [1, 0],
        [1, 1],
        [1, 3],
        [2, 0],
        [3, 0],
        [3, 1],
        [4, 0],
        [4, 2],
        [5, 0],
        [100, 0],
        [127, 0],
      ] as const) {
        s.pkt(2, icmpError(ROUTER6, C6, u, { type, code }), `type ${type} code ${code}`);
      }
      for (const keep of [52, 48, 47, 44, 40, 39, 0])
        s.pkt(2, icmpError(ROUTER6, C6, u, { keep }), `${keep} bytes of it`);
      const t = new Tcp(s, ends(C6, 40000, S6, 80));
      t.open();
      s.pkt(
        2,
        icmpError(ROUTER6, C6, tcp(t.e, ACK, t.a, t.b), { type: 2, rest: u32(1280) }),
        'packet too big',
      );
      const e = echo(C6, S6, 9);
      s.pkt(1, e)
        .pkt(2, icmpError(ROUTER6, C6, e, { type: 3 }), 'time exceeded')
        .pkt(2, icmpError(ROUTER6, C6, udp(ends(C6, 1, S6, 2))), 'about nothing known');
      s.pkt(2, icmpError(ROUTER6, C6, udp(ends(C, 1, S, 2)), { type: 1 }), 'IPv4 inside')
        .pkt(2, icmpError(ROUTER6, C6, u, { badL4: true }), 'bad checksum')
        .table();
    },
  },
  {
    name: 'icmp-errors-nonsense',
    about: 'errors that hold errors, fragments, wrong versions, bad checksums, IP options, reply direction',
    flows: WATCH,
    play: (s) => {
      const e = ends(C, 30000, S, 53);
      const u = udp(e);
      const err = icmpError(S, C, u, { type: 3, code: 3 });
      s.pkt(1, u)
        .pkt(2, err, 'a good one')
        .pkt(1, icmpError(C, S, err, { type: 3, code: 1 }), 'an error about an error');
      s.pkt(2, icmpError(S, C, u, { type: 3, code: 3, badL4: true }), 'bad ICMP checksum').pkt(
        2,
        icmpError(S, C, udp(e, { badIp: true }), { type: 3, code: 3 }),
        'bad IP checksum inside',
      );
      s.pkt(2, icmpError(S, C, udp(e, { badL4: true }), { type: 3, code: 3 }), 'bad UDP checksum inside').pkt(
        2,
        icmpError(S, C, udp(e, { version: 6 })),
        'version 6 inside',
      );
      for (const ihl of [0, 4, 6, 15])
        s.pkt(2, icmpError(S, C, udp(e, { ihl })), `header length ${ihl} inside`);
      s.pkt(2, icmpError(S, C, udp(e, { options: [7, 3, 4, 0] })), 'IP options inside').pkt(
        2,
        icmpError(S, C, udp(e, { frag: 0x2000 })),
        'first fragment inside',
      );
      s.pkt(2, icmpError(S, C, udp(e, { frag: 0x00b9 })), 'later fragment inside')
        .pkt(2, icmpError(S, C, udp(e, { length: 2000 })), 'length 2000 inside')
        .pkt(2, icmpError(S, C, udp(e, { length: 10 })), 'length 10 inside');
      s.pkt(2, icmpError(S, C, udp(ends(C6, 30000, S6, 53))), 'IPv6 inside').pkt(
        2,
        icmpError(S, C, udp(e, { ttl: 0 }), { type: 11 }),
        'TTL 0 inside',
      );
      s.pkt(2, icmpError(S, C, ip(C, S, 47, text('12345678'))), 'GRE inside').pkt(
        2,
        icmpError(S, C, icmp(C, S, 13, u32(7))),
        'timestamp request inside',
      );
      s.pkt(2, icmpError(S, C, echo(C, S, 5, true)), 'echo reply inside')
        .pkt(1, icmpError(C, S, u, { type: 3 }), 'from the sender itself')
        .table();
    },
  },
  {
    name: 'other-protocols',
    about: 'GRE, ESP, AH, IGMP, OSPF, an unknown one: tracked by addresses only, in both families',
    flows: WATCH,
    play: (s) => {
      for (const proto of [0, 2, 4, 41, 47, 50, 51, 89, 103, 112, 253, 255]) {
        const body = cat(u32(0x20000800), text(`protocol ${proto}`));
        s.pkt(1, ip(C, S, proto, body), `protocol ${proto}`)
          .pkt(2, ip(S, C, proto, body), 'back')
          .pkt(1, ip(C, S, proto, body));
      }
      for (const proto of [4, 41, 47, 50, 89, 253]) {
        const body = cat(u32(0x20000800), text(`protocol ${proto}`));
        s.pkt(1, ip(C6, S6, proto, body), `IPv6, protocol ${proto}`).pkt(2, ip(S6, C6, proto, body), 'back');
      }
      s.pkt(1, ip(C, S, 47, new Uint8Array()), 'GRE of no length')
        .pkt(2, ip(S, '10.1.1.9', 47, text('x')), 'to another host')
        .table();
    },
  },
  {
    name: 'other-sctp',
    about: 'SCTP: the association is two-way by ports, tags do not matter, the checksum does',
    flows: WATCH,
    play: (s) => {
      const e = ends(C, 5000, S, 6000);
      const init = [1, 0, ...u16(20), ...u32(77), ...u32(65536), ...u16(5), ...u16(5), ...u32(1)];
      const data = [0, 3, ...u16(20), ...u32(1), ...u16(0), ...u16(0), ...u32(0), 1, 2, 3, 4];
      s.pkt(1, sctp(e, 0, init), 'INIT')
        .pkt(1, sctp(e, 0, init), 'INIT again')
        .pkt(2, sctp(swap(e), 77, [2, ...init.slice(1)]), 'INIT-ACK')
        .table();
      s.pkt(1, sctp(e, 88, data), 'DATA')
        .pkt(2, sctp(swap(e), 12345, data), 'DATA, wrong tag')
        .pkt(1, sctp(e, 88, data, { badL4: true }), 'bad checksum');
      s.pkt(1, sctp({ ...e, ap: 5001 }, 0, data), 'DATA first')
        .pkt(2, sctp({ ...swap(e), ap: 6001 }, 1, data), 'from another port')
        .pkt(1, sctp({ ...e, ap: 0 }, 0, init), 'port 0');
      s.pkt(1, sctp(e, 88, [7, 0, ...u16(8), ...u32(1)]), 'SHUTDOWN')
        .pkt(2, sctp(swap(e), 77, [6, 0, ...u16(4)]), 'ABORT')
        .pkt(1, sctp(e, 88, data), 'and on it goes');
      s.pkt(1, sctp(ends(C6, 5000, S6, 6000), 0, init), 'IPv6')
        .pkt(2, sctp(ends(S6, 6000, C6, 5000), 7, data), 'back')
        .table();
    },
  },
  {
    name: 'expiry-udp-icmp-other',
    about:
      'timeouts of UDP (60/30 s), ICMP (60/30 s) and other protocols (60/30 s), refreshed and not, a second around',
    flows: WATCH,
    play: (s) => {
      const kinds: [string, (back: boolean, k: number) => Bytes][] = [
        ['UDP', (b, k) => udp(b ? ends(S, 53, C, 30000 + k) : ends(C, 30000 + k, S, 53))],
        ['ICMP', (b, k) => (b ? echo(S, C, 100 + k, true) : echo(C, S, 100 + k))],
        ['ICMPv6', (b, k) => (b ? echo(S6, C6, 100 + k, true) : echo(C6, S6, 100 + k))],
        ['GRE', (b, k) => (b ? ip(S, `10.1.2.${k}`, 47, text('x')) : ip(`10.1.2.${k}`, S, 47, text('x')))],
      ];
      for (const [what, make] of kinds) {
        for (const [k, gap] of [28, 31, 58, 61].entries()) {
          s.pkt(1, make(false, k), `${what}, one way`)
            .wait(gap)
            .pkt(2, make(true, k), `answer ${gap} s later`);
          s.pkt(1, make(false, k + 10), `${what}, answered`)
            .pkt(2, make(true, k + 10))
            .wait(gap)
            .pkt(2, make(true, k + 10), `second answer ${gap} s later`);
        }
        s.pkt(1, make(false, 20), `${what}, refreshed`);
        for (let n = 0; n < 3; n++) s.wait(50).pkt(1, make(false, 20), '50 s later');
        s.wait(50).pkt(2, make(true, 20), 'the answer after 200 s').table();
      }
    },
  },
  {
    name: 'expiry-tcp',
    about: 'timeouts of each TCP state: a second or two before and behind',
    flows: WATCH_BOTH,
    play: (s) => {
      let port = 50000;
      const states: [string, number, (t: Tcp) => void][] = [
        ['SYN sent', 30, (t) => t.up(SYN)],
        ['SYN received', 30, (t) => t.up(SYN).down(SYN | ACK)],
        ['established', 86400, (t) => t.open().send(10)],
        [
          'one FIN',
          900,
          (t) =>
            t
              .open()
              .send(10)
              .up(FIN | ACK)
              .down(ACK),
        ],
        [
          'both FINs',
          45,
          (t) =>
            t
              .open()
              .up(FIN | ACK)
              .down(FIN | ACK),
        ],
        [
          'closed',
          30,
          (t) =>
            t
              .open()
              .up(FIN | ACK)
              .down(FIN | ACK)
              .up(ACK),
        ],
        [
          'reset',
          30,
          (t) =>
            t
              .open()
              .send(10)
              .down(RST | ACK),
        ],
        ['mid-stream', 30, (t) => t.up(ACK)],
        ['mid-stream, answered', 86400, (t) => t.up(ACK).down(ACK)],
      ];
      for (const [what, seconds, make] of states) {
        for (const d of [-2, 2]) {
          const t = new Tcp(s, ends(C, port++, S, 80));
          make(t);
          s.table().wait(seconds + d);
          t.down(ACK, `${what}: ${seconds + d} s later`);
          s.table();
        }
      }
    },
  },
  {
    name: 'expiry-recreated',
    about: 'an entry that has expired is committed again and answered at once; many others expire meanwhile',
    flows: WATCH,
    play: (s) => {
      const udps = (k: number) => ends(C, 31_000 + k, S, 53);
      for (const pause of [100, 31, 61]) {
        for (let k = 0; k < 20; k++) {
          s.pkt(1, udp(udps(k)), k ? undefined : `all of them, ${pause} s later`);
          if (k % 3) s.pkt(2, udp(swap(udps(k))), 'answered');
        }
        s.pkt(1, echo(C6, S6, pause), 'ICMPv6')
          .wait(20)
          .pkt(2, echo(S6, C6, pause, true), 'its answer')
          .table()
          .wait(pause);
        s.pkt(1, udp(udps(1)), 'committed again')
          .pkt(2, udp(swap(udps(1))), 'answered at once')
          .pkt(1, udp(udps(1)));
        s.pkt(2, udp(swap(udps(2))), 'an answer to an expired one')
          .pkt(1, udp(udps(2)), 'committed again')
          .pkt(2, udp(swap(udps(2))));
        const t = new Tcp(s, ends(C, 42_000, S, 80), pause * 1000);
        t.open()
          .send(5)
          .up(FIN | ACK)
          .down(FIN | ACK)
          .up(ACK);
      }
      s.table();
    },
  },
  {
    name: 'expiry-refresh',
    about:
      'what refreshes an entry: packets of either side, retransmitted SYNs, invalid ones not; errors not',
    flows: WATCH,
    play: (s) => {
      const t = new Tcp(s, ends(C, 51000, S, 80));
      t.up(SYN, 'SYN');
      s.wait(25);
      t.up(SYN, 'SYN again', { at: -1 });
      s.wait(25);
      t.down(SYN | ACK, 'SYN-ACK after 50 s');
      s.wait(25);
      t.down(RST, 'out of window: invalid', { at: 1_000_000 });
      s.wait(10);
      t.up(ACK, '35 s after the SYN-ACK');
      s.table();
      const u = ends(C, 30000, S, 53);
      s.pkt(1, udp(u), 'UDP')
        .wait(50)
        .pkt(2, icmpError(S, C, udp(u), { type: 3, code: 3 }), 'an error about it')
        .wait(20)
        .pkt(2, udp(swap(u)), 'answer after 70 s');
      const v = new Tcp(s, ends(C, 51001, S, 80));
      v.open().send(1);
      s.wait(80_000);
      v.up(ACK, 'after 80,000 s');
      s.wait(80_000);
      v.down(ACK, 'and again').send(10);
      s.wait(86_500);
      v.down(PSH | ACK, 'too late', { data: 10 });
      s.table();
    },
  },
  {
    name: 'expiry-table',
    about: 'the table while its entries run out; time passes after the last packet',
    flows: WATCH,
    play: (s) => {
      s.pkt(1, udp(ends(C, 1, S, 53)), 'one way')
        .pkt(1, udp(ends(C, 2, S, 53)))
        .pkt(2, udp(ends(S, 53, C, 2)), 'both ways')
        .pkt(1, echo(C, S, 5));
      const t = new Tcp(s, ends(C, 3, S, 80));
      t.open();
      new Tcp(s, ends(C, 4, S, 80)).up(SYN);
      s.table().wait(28).table().wait(4).table().wait(32).until('the end');
    },
  },
  {
    name: 'icmp-error-marks',
    about: 'related packets carry mark and label of their connection',
    flows: `# The connection gets a mark and a label; its errors show them.
table=0,priority=100,in_port=1,ip,actions=ct(commit,zone=3,exec(set_field:0x1234->ct_mark,set_field:0xabcd->ct_label),table=1)
table=0,priority=100,in_port=2,ip,actions=ct(zone=3,table=1)
table=1,priority=100,in_port=1,actions=${SHOW},output:2
table=1,priority=110,in_port=2,ip,ct_state=+rel,ct_mark=0x1234,ct_label=0xabcd,actions=${SHOW},output:1
table=1,priority=100,in_port=2,actions=${SHOW},output:3
`,
    play: (s) => {
      const u = udp(ends(C, 30000, S, 53));
      s.pkt(1, u)
        .pkt(2, icmpError(ROUTER, C, u), 'error')
        .pkt(2, udp(ends(S, 53, C, 30000)), 'answer')
        .pkt(2, icmpError(ROUTER, C, udp(ends(C, 1, S, 2))), 'unknown')
        .table();
    },
  },
];
