/** TCP: handshake, windows, sequence numbers, ends of connections. */
import { ACK, CWR, ECE, ends, FIN, PSH, RST, random, SYN, swap, tcp, URG } from '../packets.js';
import { C, C6, S, S6, type Scenario, SHOW, Tcp, WATCH, WATCH_BOTH } from './script.js';

const web = (port = 40000) => ends(C, port, S, 80);
const web6 = (port = 40000) => ends(C6, port, S6, 80);
const MSS = [2, 4, 5, 180];
const ws = (n: number) => [...MSS, 1, 3, 3, n];

export const tcpScenarios: readonly Scenario[] = [
  {
    name: 'tcp-handshake-data',
    about: 'handshake, data both ways, orderly end; table at each step',
    flows: WATCH,
    play: (s) => {
      const t = new Tcp(s, web());
      t.up(SYN, 'SYN', { opts: MSS });
      s.table();
      t.down(SYN | ACK, 'SYN-ACK', { opts: MSS });
      s.table();
      t.up(ACK, 'ACK');
      s.table();
      t.send('GET / HTTP/1.0\r\n\r\n', 'request').answer(400, 'response').answer(1000);
      t.up(FIN | ACK, 'FIN').down(ACK);
      s.table();
      t.down(FIN | ACK, 'FIN back').up(ACK, 'last ACK');
      s.table();
      t.up(ACK, 'a late ACK').down(PSH | ACK, 'late data', { data: 10 });
    },
  },
  {
    name: 'tcp-retransmissions',
    about: 'SYN, SYN-ACK, data and FIN sent again; overlap; old segments',
    flows: WATCH,
    play: (s) => {
      const t = new Tcp(s, web());
      t.up(SYN, 'SYN')
        .up(SYN, 'SYN again', { at: -1 })
        .up(SYN, 'SYN with another sequence number', { at: 4000 });
      t.down(SYN | ACK, 'SYN-ACK')
        .down(SYN | ACK, 'SYN-ACK again', { at: -1 })
        .up(ACK, 'ACK');
      t.down(SYN | ACK, 'SYN-ACK after the ACK', { at: -1 }).up(ACK);
      t.up(PSH | ACK, 'data', { data: 500 }).up(PSH | ACK, 'data again', { data: 500, at: -500 });
      t.up(PSH | ACK, 'half of it and more', { data: 500, at: -250 }).down(ACK);
      t.up(PSH | ACK, 'the very old first byte', { data: 1, at: -500 });
      t.up(ACK, 'an old pure ACK', { at: -500 }).down(ACK, 'an old ack number', { ackAt: -500 });
      t.up(FIN | ACK, 'FIN')
        .up(FIN | ACK, 'FIN again', { at: -1 })
        .down(ACK)
        .down(FIN | ACK, 'FIN back')
        .down(FIN | ACK, 'again', { at: -1 })
        .up(ACK);
      s.table();
    },
  },
  {
    name: 'tcp-out-of-window',
    about: 'segments before, at and behind the edges of the window, no scaling',
    flows: WATCH,
    play: (s) => {
      for (const [k, win] of [65535, 8192, 1000, 1, 0].entries()) {
        const t = new Tcp(s, web(41000 + k), 100_000, 900_000);
        t.up(SYN, `window ${win}: SYN`, { win, opts: MSS })
          .down(SYN | ACK, 'SYN-ACK', { win, opts: MSS })
          .up(ACK, 'ACK', { win });
        t.up(PSH | ACK, 'data', { data: 1, win })
          .down(PSH | ACK, 'data back', { data: 1, win })
          .up(ACK, undefined, { win });
        for (const at of [
          -200_000,
          -66_001,
          -66_000,
          -65_535,
          -win - 1,
          -win,
          -1,
          1,
          win - 1,
          win,
          win + 1,
          65_535,
          66_000,
          66_001,
          70_000,
          200_000,
        ]) {
          if (at === 0) continue;
          t.down(PSH | ACK, `window ${win}: data at ${at}`, { data: 10, at, win });
          t.down(ACK, `window ${win}: pure ACK at ${at}`, { at, win });
          t.up(ACK, `window ${win}: ack number at ${at}`, { ackAt: at, win });
        }
        t.up(PSH | ACK, 'still alive?', { data: 5, win }).down(ACK, undefined, { win });
      }
      s.table();
    },
  },
  {
    name: 'tcp-window-scale',
    about: 'scaling agreed, refused, too large, malformed; big windows in use',
    flows: WATCH,
    play: (s) => {
      const options: [string, number[], number[]][] = [
        ['both 7', ws(7), ws(7)],
        ['7 and 2', ws(7), ws(2)],
        ['only one side', ws(7), MSS],
        ['none', MSS, MSS],
        ['14', ws(14), ws(14)],
        ['15 is too large', ws(15), ws(15)],
        ['a malformed option before it', [2, 0, 5, 180, 3, 3, 7, 0], ws(3)],
        ['option cut off', [1, 1, 3, 3], ws(3)],
        ['behind the end of the list', [0, 3, 3, 7], ws(3)],
      ];
      for (const [k, [what, oa, ob]] of options.entries()) {
        const t = new Tcp(s, web(42000 + k), 1_000_000, 9_000_000);
        t.up(SYN, `${what}: SYN`, { opts: oa })
          .down(SYN | ACK, 'SYN-ACK', { opts: ob })
          .up(ACK, 'ACK', { win: 4000 });
        t.up(PSH | ACK, undefined, { data: 1, win: 4000 })
          .down(PSH | ACK, undefined, { data: 1, win: 4000 })
          .up(ACK, undefined, { win: 4000 });
        for (const at of [
          3999, 4001, 15_999, 16_001, 66_000, 100_000, 511_999, 512_001, 600_000, 2_000_000,
        ]) {
          t.down(PSH | ACK, `${what}: data at ${at}`, { data: 10, at, win: 4000 });
        }
      }
      s.table();
    },
  },
  {
    name: 'tcp-sequence-wrap',
    about: 'sequence numbers that pass 2^32, in both directions',
    flows: WATCH,
    play: (s) => {
      for (const [k, [a, b]] of [
        [0xffffffff, 5000],
        [0xfffffff0, 0xfffffff8],
        [0xffffff00, 0xfffffe00],
        [0x7ffffff0, 0x7ffffff0],
        [0xffff0000, 1],
      ].entries()) {
        const t = new Tcp(s, web(43000 + k), a, b);
        t.open({ opts: ws(4) });
        for (let n = 0; n < 4; n++)
          t.send(300, 'data over the edge')
            .answer(1400)
            .up(PSH | ACK, 'again', { data: 300, at: -300 });
        t.down(PSH | ACK, 'far behind', { data: 10, at: -3_000_000 }).down(PSH | ACK, 'far ahead', {
          data: 10,
          at: 3_000_000,
        });
        t.up(FIN | ACK, 'FIN')
          .down(FIN | ACK)
          .up(ACK);
      }
      s.table();
    },
  },
  {
    name: 'tcp-simultaneous-open',
    about: 'SYNs that cross, with and without crossing SYN-ACKs',
    flows: WATCH,
    play: (s) => {
      const t = new Tcp(s, web());
      t.up(SYN, 'SYN').down(SYN, 'SYN that crosses');
      s.table();
      t.up(SYN | ACK, 'SYN-ACK', { at: -1 }).down(SYN | ACK, 'SYN-ACK that crosses', { at: -1 });
      s.table();
      t.up(ACK).down(ACK).send(10).answer(10);
      s.table();
      const u = new Tcp(s, web(40001));
      u.up(SYN, 'SYN').down(SYN, 'SYN that crosses').up(ACK, 'only an ACK').down(ACK).send(10).answer(10);
      s.table();
    },
  },
  {
    name: 'tcp-half-close',
    about: 'one side ends, the other goes on; both end at once',
    flows: WATCH,
    play: (s) => {
      const t = new Tcp(s, web());
      t.open()
        .send(100, 'request')
        .up(FIN | ACK, 'the client has no more')
        .down(ACK);
      s.table();
      for (let n = 0; n < 4; n++) t.answer(1000, 'still answering');
      t.down(FIN | ACK, 'the server ends').up(ACK);
      s.table();
      const u = new Tcp(s, web(40001));
      u.open().send(5);
      u.up(FIN | ACK, 'FIN', { ackAt: 0 }).down(FIN | ACK, 'FIN that crosses', { ackAt: -1 });
      s.table();
      u.up(ACK).down(ACK);
      s.table();
      const v = new Tcp(s, web(40002));
      v.open()
        .down(FIN | ACK, 'the server ends first')
        .up(ACK)
        .send(10, 'data to a closed end')
        .up(FIN | ACK)
        .down(ACK);
      s.table();
      const w = new Tcp(s, web(40003));
      w.open()
        .up(FIN | PSH | ACK, 'FIN with data', { data: 20 })
        .down(FIN | ACK, 'FIN and its ACK at once')
        .up(ACK);
      s.table();
    },
  },
  {
    name: 'tcp-reset',
    about: 'RST at, around and outside the sequence number that is expected',
    flows: WATCH,
    play: (s) => {
      let port = 44000;
      const steps: [string, (t: Tcp) => void][] = [
        ['before data', () => undefined],
        ['after data', (t) => t.send(100).answer(100)],
      ];
      for (const [what, before] of steps) {
        for (const at of [-70_000, -1001, -101, -2, -1, 0, 1, 2, 100, 1000, 30_000, 65_535, 70_000]) {
          const t = new Tcp(s, web(port++));
          t.open();
          before(t);
          t.down(RST, `${what}: RST at ${at}`, { at, still: true });
          t.up(PSH | ACK, 'and then', { data: 3 });
        }
      }
      for (const [flags, name] of [
        [RST, 'RST'],
        [RST | ACK, 'RST+ACK'],
      ]) {
        const t = new Tcp(s, web(port++));
        t.up(SYN, 'SYN')
          .down(flags as number, `${name}: connection refused`)
          .up(SYN, 'SYN again', { at: -1 });
        const u = new Tcp(s, web(port++));
        u.up(SYN, 'SYN')
          .up(flags as number, `${name} by the client itself`)
          .down(SYN | ACK, 'SYN-ACK for a dead connection');
        const v = new Tcp(s, web(port++));
        v.open()
          .up(FIN | ACK)
          .down(ACK)
          .down(flags as number, `${name} after half close`)
          .up(ACK);
      }
      s.table();
    },
  },
  {
    name: 'tcp-reopen',
    about: 'a SYN on the tuple of an ended connection, in every state of its end',
    flows: WATCH,
    play: (s) => {
      const endings: [string, (t: Tcp) => void][] = [
        [
          'time wait',
          (t) =>
            t
              .up(FIN | ACK)
              .down(FIN | ACK)
              .up(ACK),
        ],
        [
          'closed by the server first',
          (t) =>
            t
              .down(FIN | ACK)
              .up(FIN | ACK)
              .down(ACK),
        ],
        ['one FIN only', (t) => t.up(FIN | ACK).down(ACK)],
        ['FIN not acknowledged', (t) => t.up(FIN | ACK)],
        ['reset by the server', (t) => t.down(RST | ACK)],
        ['reset by the client', (t) => t.up(RST)],
        ['established', () => undefined],
      ];
      for (const [k, [what, end]] of endings.entries()) {
        const t = new Tcp(s, web(45000 + k));
        t.open().send(10);
        end(t);
        const u = new Tcp(s, t.e, 7_000_000, 8_000_000);
        u.up(SYN, `${what}: new SYN`)
          .down(SYN | ACK, 'SYN-ACK')
          .up(ACK)
          .send(10)
          .answer(10);
      }
      s.table();
      for (const [k, [what, end]] of endings.entries()) {
        const t = new Tcp(s, web(45100 + k));
        t.open().send(10);
        end(t);
        const u = new Tcp(s, swap(t.e), 7_000_000, 8_000_000, [2, 1]);
        u.up(SYN, `${what}: new SYN from the server's side`)
          .down(SYN | ACK, 'SYN-ACK')
          .up(ACK);
      }
      s.table();
    },
  },
  {
    name: 'tcp-midstream',
    about: 'connections seen from the middle: first packet ACK, data, FIN, RST, SYN-ACK, from either side',
    flows: WATCH_BOTH,
    play: (s) => {
      let port = 46000;
      for (const [flags, what] of [
        [ACK, 'ACK'],
        [PSH | ACK, 'data'],
        [FIN | ACK, 'FIN'],
        [RST, 'RST'],
        [RST | ACK, 'RST+ACK'],
        [SYN | ACK, 'SYN-ACK'],
        [URG | ACK, 'URG'],
      ] as const) {
        const t = new Tcp(s, web(port++), 3_000_000, 4_000_000);
        t.up(flags, `first packet: ${what}`, { data: flags & PSH ? 100 : 0 })
          .down(ACK, 'answer')
          .up(PSH | ACK, 'data', { data: 50 });
        t.down(PSH | ACK, 'data back', { data: 70 })
          .up(ACK)
          .down(PSH | ACK, 'far ahead', { data: 10, at: 300_000 });
        t.down(PSH | ACK, 'farther', { data: 10, at: 3_000_000 });
        const u = new Tcp(s, web(port++), 3_000_000, 4_000_000);
        u.down(flags, `first packet, from the server: ${what}`, { data: flags & PSH ? 100 : 0 })
          .up(ACK, 'answer')
          .send(20)
          .answer(20);
      }
      s.table();
    },
  },
  {
    name: 'tcp-syn-on-established',
    about: 'SYNs in the middle of a connection, from both sides, in and out of window',
    flows: WATCH_BOTH,
    play: (s) => {
      for (const [k, at] of [-100_000, -1, 0, 1, 1000, 100_000].entries()) {
        const t = new Tcp(s, web(47000 + k));
        t.open().send(100).answer(100);
        t.up(SYN, `SYN at ${at}`, { at, still: true })
          .down(ACK, 'challenge ACK')
          .send(10, 'the connection goes on')
          .answer(10);
        t.down(SYN, `SYN from the server at ${at}`, { at, still: true }).up(ACK).answer(10);
        t.up(SYN | ACK, `SYN-ACK at ${at}`, { at, still: true }).send(1);
      }
      s.table();
    },
  },
  {
    name: 'tcp-flags',
    about: 'every combination of FIN, SYN, RST, PSH, ACK and URG as a first packet and on a connection',
    flows: WATCH,
    play: (s) => {
      for (let f = 0; f < 64; f++)
        s.pkt(
          1,
          tcp(web(10_000 + f), f, 1000, 2000, { data: f & PSH ? 4 : 0 }),
          `first packet with flags ${f}`,
        );
      s.table();
      for (let f = 0; f < 64; f++) {
        const t = new Tcp(s, web(20_000 + f));
        t.open().up(f, `flags ${f} on a connection`);
      }
      s.table();
    },
  },
  {
    name: 'tcp-ecn-and-urgent',
    about: 'ECN set-up, CWR, urgent data, reserved bits: none of them matters',
    flows: WATCH,
    play: (s) => {
      const t = new Tcp(s, web());
      t.up(SYN | ECE | CWR, 'SYN, ECN')
        .down(SYN | ACK | ECE, 'SYN-ACK, ECN')
        .up(ACK);
      t.up(PSH | ACK | CWR, 'CWR', { data: 10 })
        .down(ACK | ECE, 'ECE')
        .up(ACK | URG, 'urgent', { data: 10, urgent: 5 })
        .down(ACK);
      t.up(ECE | CWR | ACK)
        .down(FIN | ACK | ECE)
        .up(ACK);
      s.pkt(1, tcp(web(40001), SYN | ECE | CWR | PSH, 1, 0), 'SYN with PSH').pkt(
        1,
        tcp(web(40002), ECE | CWR, 1, 0),
        'only ECN flags',
      );
      s.table();
    },
  },
  {
    name: 'tcp-fast-open',
    about: 'data on the SYN and on the SYN-ACK; split handshake; ACK of the wrong number',
    flows: WATCH,
    play: (s) => {
      const t = new Tcp(s, web());
      t.up(SYN, 'SYN with data', { data: 100 })
        .down(SYN | ACK, 'SYN-ACK with data', { data: 50 })
        .up(ACK)
        .send(10)
        .answer(10);
      const u = new Tcp(s, web(40001));
      u.up(SYN, 'SYN with data', { data: 100 })
        .down(SYN | ACK, 'acknowledges only the SYN', { ackAt: -100 })
        .up(PSH | ACK, 'data again', { data: 100, at: -100 })
        .down(ACK);
      const v = new Tcp(s, web(40002));
      v.up(SYN, 'SYN').down(ACK, 'split: ACK').down(SYN, 'split: SYN').up(ACK).send(10).answer(10);
      for (const [k, n] of [-1, 1, 1000, 100_000, -100_000].entries()) {
        const w = new Tcp(s, web(40010 + k));
        w.up(SYN, 'SYN')
          .down(SYN | ACK, `SYN-ACK acknowledges ${n} off`, { ackAt: n })
          .up(ACK)
          .send(10)
          .answer(10);
      }
      s.table();
    },
  },
  {
    name: 'tcp-keepalive-zero-window',
    about: 'keep-alives one byte back, zero windows and their probes',
    flows: WATCH,
    play: (s) => {
      const t = new Tcp(s, web());
      t.open().send(100);
      for (let n = 0; n < 3; n++) {
        s.wait(60);
        t.up(ACK, 'keep-alive', { at: -1 })
          .down(ACK)
          .up(ACK, 'keep-alive with a byte', { at: -1, data: 1 })
          .down(ACK);
      }
      t.down(ACK, 'window closed', { win: 0 })
        .up(PSH | ACK, 'probe', { data: 1, still: true })
        .down(ACK, undefined, { win: 0 });
      t.up(PSH | ACK, 'more than the window', { data: 500, still: true })
        .down(ACK, 'window open', { win: 2000 })
        .send(500);
      s.table();
    },
  },
  {
    name: 'tcp-header',
    about: 'data offsets, options and lengths that are wrong, on a live connection',
    flows: WATCH,
    play: (s) => {
      const t = new Tcp(s, web());
      t.open();
      for (const l4Length of [0, 1, 4, 6, 8, 15])
        t.up(ACK, `data offset ${l4Length}`, { l4Length, still: true });
      t.up(ACK, 'option of length 0', { opts: [8, 0, 0, 0] }).up(ACK, 'option of length 1', {
        opts: [8, 1, 0, 0],
      });
      t.up(ACK, 'option longer than the header', { opts: [8, 40, 0, 0] }).up(ACK, 'timestamps', {
        opts: [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
      });
      t.up(ACK, 'SACK', { opts: [1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2] }).up(ACK, '40 bytes of options', {
        opts: new Array<number>(40).fill(1),
      });
      t.up(ACK, 'bad checksum', { badL4: true }).send(10);
      s.table();
    },
  },
  {
    name: 'tcp-ipv6',
    about: 'the life of a connection over IPv6, out of window and reset',
    flows: WATCH,
    play: (s) => {
      const t = new Tcp(s, web6());
      t.open({ opts: ws(7) })
        .send(100)
        .answer(1200)
        .down(PSH | ACK, 'far ahead', { data: 10, at: 20_000_000 });
      t.up(FIN | ACK)
        .down(FIN | ACK)
        .up(ACK);
      const u = new Tcp(s, web6(40001));
      u.open()
        .down(RST | ACK, 'RST')
        .up(ACK);
      s.table();
    },
  },
  {
    name: 'tcp-not-committed',
    about: 'ct() without commit never makes an entry; the commit on a later packet picks up mid-stream',
    flows: `# Only port 3 commits.
table=0,priority=100,in_port=1,ip,actions=ct(zone=1,table=1)
table=0,priority=100,in_port=2,ip,actions=ct(zone=1,table=1)
table=0,priority=100,in_port=3,ip,actions=ct(commit,zone=1,table=1)
table=1,priority=100,in_port=1,actions=${SHOW},output:2
table=1,priority=100,in_port=2,actions=${SHOW},output:1
table=1,priority=100,in_port=3,actions=${SHOW},output:2
`,
    play: (s) => {
      const t = new Tcp(s, web());
      t.open().send(10);
      s.table();
      s.pkt(3, tcp(t.e, PSH | ACK, t.a, t.b, { data: 10 }), 'the commit');
      s.table();
      t.a += 10;
      t.down(ACK).send(10).answer(10);
      s.table();
    },
  },
  ...[1, 2, 3, 4].map(
    (seed): Scenario => ({
      name: `tcp-random-${seed}`,
      about: `drawn at random (seed ${seed}): segments around the edges of three connections, with pauses`,
      flows: seed % 2 ? WATCH : WATCH_BOTH,
      play: (s) => {
        const r = random(seed);
        const conns = Array.from(
          { length: 3 },
          (_, k) =>
            new Tcp(
              s,
              seed === 3 ? web6(48_000 + k) : web(48_000 + k),
              r(2) ? 0xffffff00 : r(2 ** 31),
              r(2 ** 31),
            ),
        );
        const flags = [
          SYN,
          SYN | ACK,
          ACK,
          ACK,
          ACK,
          PSH | ACK,
          PSH | ACK,
          PSH | ACK,
          PSH | ACK,
          FIN | ACK,
          RST,
          RST | ACK,
          FIN,
          0,
          SYN | FIN,
        ];
        const offsets = [0, 0, 0, 0, 0, 0, 0, -1, 1, -100, 100, -70_000, 70_000, 30_000, -1500, 500_000];
        const pick = <T>(l: readonly T[]): T => l[r(l.length)];
        for (const c of conns)
          if (r(3)) c.open({ opts: pick([MSS, ws(3), ws(7)]) }, { opts: pick([MSS, ws(3), ws(7)]) });
        for (let n = 0; n < 120; n++) {
          const c = pick(conns);
          const f = pick(flags);
          const o = {
            data: f & PSH ? r(1200) + 1 : 0,
            at: pick(offsets),
            ackAt: pick(offsets),
            win: pick([65535, 8192, 1000, 0]),
          };
          if (r(2)) c.up(f, undefined, o);
          else c.down(f, undefined, o);
          if (!r(25)) s.wait(pick([1, 10, 29, 31, 44, 46]));
          if (!r(40)) s.table();
        }
        s.table();
      },
    }),
  ),
];
