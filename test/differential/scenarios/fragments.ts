/** Fragments in ct(): what is held, what goes on together, what is refused, and when it is too late. */
import {
  ACK,
  type Bytes,
  echo,
  ends,
  fragments,
  icmpError,
  ip,
  PSH,
  random,
  swap,
  tcp,
  udp,
} from '../packets.js';
import { C, C6, S, S6, type Scenario, type Script, SHOW, WATCH, WATCH_BOTH } from './script.js';

const PAIRS = [
  [C, S],
  [C6, S6],
] as const;
/** Large enough for either version of IP. */
const BIG = 1304;
const STATUS = ['dpctl/ipf-get-status'] as const;

/** A datagram of 3 fragments. */
const three = (a: string, b: string, port: number, ident: number, o = {}): Bytes[] =>
  fragments(udp(ends(a, port, b, 53), { data: 3000, ...o }), [BIG, BIG], ident);
const two = (a: string, b: string, port: number, ident: number, o = {}): Bytes[] =>
  fragments(udp(ends(a, port, b, 53), { data: 2000, ...o }), [BIG], ident);

const send = (s: Script, port: number, frames: readonly Bytes[], note: string): Script => {
  frames.forEach((f, i) => {
    s.pkt(port, f, `${note} ${i}`);
  });
  return s;
};

export const fragmentScenarios: readonly Scenario[] = [
  {
    name: 'fragments-orders',
    about: 'every order of three fragments, two datagrams at once, answers, whole packets in between',
    flows: WATCH,
    play: (s) => {
      for (const [a, b] of PAIRS) {
        let port = 40000;
        for (const order of ['012', '021', '102', '120', '201', '210']) {
          const parts = three(a, b, ++port, port);
          send(
            s,
            1,
            [...order].map((i) => parts[Number(i)]),
            order,
          );
        }
        s.table();
        const x = three(a, b, 41000, 7);
        const y = two(a, b, 41001, 8);
        send(s, 1, [x[0], y[1], x[2], y[0], x[1]], 'interleaved');
        s.pkt(1, udp(ends(a, 41000, b, 53)), 'whole').pkt(2, udp(ends(b, 53, a, 41000)), 'answer');
        send(
          s,
          2,
          fragments(udp(swap(ends(a, 41001, b, 53)), { data: 2500 }), [BIG], 8),
          'answer in fragments',
        );
        send(s, 1, x, 'again, established');
        s.table().cmd(...STATUS);
      }
    },
  },
  {
    name: 'fragments-protocols',
    about: 'TCP, ICMP and ICMPv6, errors, GRE, bad checksums, VLAN tags, padding, IP options',
    flows: WATCH_BOTH,
    play: (s) => {
      for (const [a, b] of PAIRS) {
        const e = ends(a, 42000, b, 80);
        send(s, 1, fragments(tcp(e, PSH | ACK, 1000, 5000, { data: 2800 }), [BIG, 1280], 1), 'TCP');
        send(s, 2, fragments(tcp(swap(e), PSH | ACK, 5000, 3800, { data: 1400 }), [BIG], 2), 'TCP answer');
        const data = udp(e, { data: 2000 }).subarray(42);
        send(s, 1, fragments(echo(a, b, 77, false, { data }), [BIG], 3), 'echo');
        send(s, 2, fragments(echo(b, a, 77, true, { data }), [BIG], 4), 'echo answer');
        send(s, 1, fragments(ip(a, b, 47, new Uint8Array(2000)), [BIG], 5), 'GRE');
        const about = udp(ends(a, 42001, b, 53), { data: 1600 });
        s.pkt(1, about);
        send(s, 2, fragments(icmpError(b, a, about), [BIG], 6), 'error that quotes all');
        send(s, 1, two(a, b, 42002, 7, { badL4: true }), 'bad checksum');
        send(s, 1, two(a, b, 42003, 8, { noSum: true }), 'no checksum');
        send(s, 1, two(a, b, 42004, 9, { vlan: [5] }), 'tagged');
        send(s, 1, two(a, b, 42005, 10, { vlan: [5, 6] }), 'two tags');
        send(s, 1, two(a, b, 42006, 11, { pad: 30 }), 'padded');
        send(s, 1, two(a, b, 42007, 12, { l4Length: 1300 }), 'UDP length of the first fragment');
        s.table();
      }
      send(s, 1, two(C, S, 42010, 13, { options: [1, 1, 1, 1] }), 'IP options');
      const [first, second] = two(C, S, 42011, 14);
      second[14 + 11] ^= 1;
      send(s, 1, [first, second], 'bad IP checksum');
      s.table().cmd(...STATUS);
    },
  },
  {
    name: 'fragments-refused',
    about: 'duplicates, overlaps, fragments of complete datagrams, small ones, other identities',
    flows: WATCH,
    play: (s) => {
      for (const [a, b] of PAIRS) {
        const x = three(a, b, 43000, 1);
        send(s, 1, [x[0], x[0], x[1], x[1], x[2], x[2], x[0]], 'each twice');
        send(s, 1, [x[1]], 'completes the second round');
        const wide = fragments(udp(ends(a, 43000, b, 53), { data: 3000 }), [BIG + 80, BIG], 2);
        const y = three(a, b, 43000, 2);
        send(s, 1, [y[0], wide[1], wide[0], y[1], wide[2], y[2]], 'overlaps');
        for (const size of [1176, 1184, 1224, 1232, 1240]) {
          const frame = udp(ends(a, 43001, b, 53), { data: 2000 });
          send(s, 1, fragments(frame, [size], size), `first of ${size}`);
        }
        send(s, 1, fragments(udp(ends(a, 43002, b, 53), { data: 100 }), [64], 3), 'tiny');
        // A fragment of one datagram and one of another.
        send(s, 1, [two(a, b, 43003, 4)[0], two(a, b, 43004, 5)[1]], 'other identity');
        send(s, 1, [two(a, b, 43005, 6)[0], two(b, a, 43005, 6)[1]], 'other direction');
        send(s, 1, [two(a, b, 43006, 7)[0], two(a, b, 43007, 7)[1]], 'other ports: the checksum is wrong');
        s.table().cmd(...STATUS);
        s.wait(16);
        for (let i = 0; i < 20; i++) s.pkt(1, udp(ends(a, 43100, b, 53)), 'expires one list');
        s.cmd(...STATUS);
      }
    },
  },
  {
    name: 'fragments-limits',
    about: 'dpctl/ipf-set-*: off and on, least sizes, most fragments; 64 kB; a datagram that is too long',
    flows: WATCH,
    play: (s) => {
      const both = (port: number, ident: number) => {
        for (const [a, b] of PAIRS) send(s, 1, two(a, b, port, ident), `identity ${ident}`);
      };
      s.cmd('dpctl/ipf-set-disabled', 'v4');
      both(44000, 1);
      s.cmd('dpctl/ipf-set-disabled', 'v6');
      both(44001, 2);
      s.pkt(
        1,
        fragments(ip(C, S, 47, new Uint8Array(2000)), [BIG], 3)[0],
        'a first fragment that nothing can be wrong with',
      );
      s.cmd('dpctl/ipf-set-enabled', 'v4').cmd('dpctl/ipf-set-enabled', 'v6');
      both(44002, 3);
      s.cmd('dpctl/ipf-set-min-frag', 'v4', '400').cmd('dpctl/ipf-set-min-frag', 'v6', '1400');
      s.cmd('dpctl/ipf-set-min-frag', 'v4', '399')
        .cmd('dpctl/ipf-set-max-nfrags', '5001')
        .cmd(...STATUS);
      both(44003, 4);
      for (const [a, b] of PAIRS) {
        send(s, 1, fragments(udp(ends(a, 44004, b, 53), { data: 900 }), [400, 392], 5), 'of 400');
        send(s, 1, fragments(udp(ends(a, 44005, b, 53), { data: 1600 }), [1400], 6), 'of 1400');
      }
      s.cmd('dpctl/ipf-set-min-frag', 'v6', '1280').cmd('dpctl/ipf-set-max-nfrags', '2');
      both(44006, 7);
      send(s, 1, three(C, S, 44007, 8), 'one too many');
      s.cmd(...STATUS).cmd('dpctl/ipf-set-max-nfrags', '1000');
      send(s, 1, [three(C, S, 44007, 8)[2]], 'the one that was too many');
      s.cmd('dpctl/ipf-set-min-frag', 'v4', '1200');
      for (const [a, b] of PAIRS) {
        const whole = udp(ends(a, 44008, b, 53), { data: 60_000 });
        send(s, 1, fragments(whole, new Array<number>(60).fill(1480), 9), '60 kB');
        // Long enough to be too long with the frame's header.
        const long = udp(ends(a, 44009, b, 53), { data: 65_480 - (a === C6 ? 10 : 0) });
        send(s, 1, fragments(long, new Array<number>(60).fill(1480), 10), 'too long');
      }
      s.table().cmd(...STATUS);
    },
  },
  {
    name: 'fragments-expiry',
    about: 'completion before and after 15 s, with and without packets in between, and after 25 s',
    flows: `${WATCH}table=0,priority=50,arp,actions=2\n`,
    play: (s) => {
      for (const [k, [a, b]] of PAIRS.entries()) {
        const port = 45000 + 100 * k;
        const other = () => s.pkt(1, udp(ends(a, port + 99, b, 53)), 'another packet');
        const x = (n: number) => two(a, b, port + n, n);
        s.pkt(1, x(1)[0]).cmd('dpctl/ipf-get-status', '-m').wait(14.9).pkt(1, x(1)[1], 'in time');
        s.pkt(1, x(2)[0]).wait(15.5).pkt(1, x(2)[1], 'late, nothing in between');
        s.pkt(1, x(3)[0]).wait(15.5);
        other();
        s.pkt(1, x(3)[1], 'late, something in between');
        other();
        s.wait(16);
        s.pkt(1, x(4)[0]).pkt(1, x(5)[0]).pkt(1, x(6)[0]).wait(15.5);
        other();
        s.pkt(1, x(6)[1], 'the youngest of three').pkt(1, x(5)[1], 'has gone by now').pkt(1, x(4)[1]);
        s.cmd(...STATUS).wait(40);
        for (let i = 0; i < 6; i++) other();
        s.cmd(...STATUS);
        s.pkt(1, x(7)[0]).wait(24.5).pkt(1, x(7)[1], 'just not too late');
        s.pkt(1, x(8)[0]).wait(25.5).pkt(1, x(8)[1], 'too late');
        s.table().cmd(...STATUS);
      }
    },
  },
  {
    name: 'fragments-pipeline',
    about: 'matches on ip_frag, sets and tags before and behind ct(), two zones, ct() without recirculation',
    ports: 6,
    flows: `# VLAN 1: through two zones. VLAN 2: changed before and behind. VLAN 3: by ip_frag. Untagged: ct() in line.
table=0,dl_vlan=1,ip,actions=ct(commit,zone=1,table=1)
table=0,dl_vlan=1,ipv6,actions=ct(commit,zone=1,table=1)
table=0,dl_vlan=2,ip,actions=strip_vlan,dec_ttl,mod_dl_src:02:00:00:00:00:99,ct(commit,zone=3,exec(set_field:0x77->ct_mark),table=3)
table=0,dl_vlan=2,ipv6,actions=strip_vlan,dec_ttl,mod_dl_src:02:00:00:00:00:99,ct(commit,zone=3,exec(set_field:0x77->ct_mark),table=3)
table=0,dl_vlan=3,ip,ip_frag=first,actions=ct(commit,zone=4,table=4)
table=0,dl_vlan=3,ip,ip_frag=later,actions=ct(zone=4,table=4)
table=0,dl_vlan=3,ipv6,actions=ct(commit,zone=4,table=4)
table=0,priority=9,ip,actions=ct(commit,zone=5),${SHOW},output:2
table=0,priority=9,ipv6,actions=ct(commit,zone=5),output:3,${SHOW},output:2
table=1,ip,ct_state=+new,actions=ct(commit,zone=2,table=2),output:4
table=1,ipv6,ct_state=+new,actions=ct(commit,zone=2,table=2)
table=2,actions=${SHOW},output:2
table=3,priority=5,ip,ip_frag=later,actions=mod_nw_tos:8,mod_vlan_vid:9,output:5,${SHOW},output:2
table=3,priority=1,actions=output:4,${SHOW},output:2
table=4,priority=5,ip,ip_frag=first,actions=output:3
table=4,priority=4,ip,ip_frag=later,actions=output:4
table=4,priority=4,udp6,ipv6,actions=output:5
table=4,priority=1,actions=output:2
`,
    play: (s) => {
      for (const [a, b] of PAIRS) {
        for (const vlan of [[], [1], [2], [3]]) {
          const x = three(a, b, 46000 + (vlan[0] ?? 0), 1 + (vlan[0] ?? 0), { vlan });
          send(s, 1, x, `VLAN ${vlan[0] ?? 'none'}`);
          send(s, 1, [x[2], x[1], x[0]], 'backwards');
          send(s, 1, [x[1], x[1]], 'again');
        }
      }
      s.table().cmd(...STATUS);
    },
  },
  {
    name: 'fragments-nat',
    about: 'source translation of fragments and of the answers to them; TCP, ICMP, no UDP checksum',
    flows: `# Port 1 is translated to 10.1.1.240 port 3000 or fc00::f0, port 2 is where the answers come from.
table=0,in_port=1,ip,actions=ct(commit,zone=1,nat(src=10.1.1.240:3000-3000),table=1)
table=0,in_port=2,ip,actions=ct(zone=1,nat,table=1)
table=0,in_port=1,ipv6,actions=ct(commit,zone=1,nat(src=fc00::f0),table=1)
table=0,in_port=2,ipv6,actions=ct(zone=1,nat,table=1)
table=1,in_port=1,actions=${SHOW},output:2
table=1,in_port=2,actions=${SHOW},output:1
`,
    play: (s) => {
      for (const [a, b] of PAIRS) {
        const outside = a === C ? '10.1.1.240' : 'fc00::f0';
        const port = a === C ? 3000 : 48000;
        const x = three(a, b, 48000, 1);
        send(s, 1, x, 'there');
        send(s, 2, fragments(udp(ends(b, 53, outside, port), { data: 3000 }), [BIG, BIG], 2), 'back');
        send(s, 1, [x[2], x[0], x[1]], 'there again');
        s.pkt(1, udp(ends(a, 48000, b, 53)), 'whole');
        const e = ends(a, 48001, b, 80);
        send(s, 1, fragments(tcp(e, PSH | ACK, 1000, 5000, { data: 2000 }), [BIG], 3), 'TCP');
        const data = udp(e, { data: 2000 }).subarray(42);
        send(s, 1, fragments(echo(a, b, 77, false, { data }), [BIG], 4), 'echo');
        send(s, 1, two(a, b, 48000, 5, { noSum: true }), 'no checksum');
        s.table();
      }
    },
  },
  {
    name: 'fragments-random',
    about: 'many datagrams of many sizes, cut, shuffled, doubled and lost at random',
    flows: WATCH_BOTH,
    play: (s) => {
      const r = random(20);
      const queue: { port: number; frame: Bytes }[] = [];
      for (let i = 0; i < 60; i++) {
        const [a, b] = PAIRS[r(2)];
        const back = r(3) === 0;
        const e = ends(a, 47000 + r(6), b, 53);
        const frame = udp(back ? swap(e) : e, { data: 1300 + r(5000), badL4: r(9) === 0 });
        const sizes = Array.from({ length: 6 }, () => (r(8) === 0 ? 8 * r(150) + 8 : BIG + 8 * r(30)));
        for (const part of fragments(frame, sizes, 1 + r(5))) queue.push({ port: back ? 2 : 1, frame: part });
      }
      while (queue.length > 0) {
        const i = r(4) === 0 ? r(Math.min(queue.length, 12)) : 0;
        const { port, frame } = queue[i];
        if (r(15) > 0) s.pkt(port, frame);
        if (r(15) > 0) queue.splice(i, 1);
        if (r(12) === 0) s.wait(r(60) / 10);
        if (r(20) === 0) s.pkt(1, udp(ends(C, 47000 + r(6), S, 53)), 'whole');
        if (r(40) === 0) s.cmd(...STATUS);
      }
      s.table().cmd(...STATUS);
    },
  },
];
