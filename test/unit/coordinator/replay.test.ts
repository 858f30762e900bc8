/** The replay, inline: the clock, expiry, events as fences, the dump, drop reasons, the books. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ACK,
  arp,
  type Bytes,
  data,
  ethernet,
  fragmentIpv4,
  hex,
  icmp,
  icmp6,
  ipv4,
  ipv6,
  type Packet,
  packet,
  SYN,
  sctp,
  tcp,
  udp,
  windowScale,
} from '../../support/packets.js';
import { parseVerdicts, run } from '../../support/run.js';

const TRACK =
  'ip,actions=ct(commit,table=1)\nipv6,actions=ct(commit,table=1)\ntable=1,in_port=1,actions=2\ntable=1,in_port=2,actions=1\n';
const there = (o: Parameters<typeof udp>[0] = {}) => ethernet({}, ipv4({}, udp(o)));
const back = () =>
  ethernet({ src: 2, dst: 1 }, ipv4({ src: '10.0.0.2', dst: '10.0.0.1' }, udp({ sport: 53, dport: 5000 })));

async function states(packets: Packet[], flows = TRACK): Promise<string[]> {
  return parseVerdicts(await run(packets, { flows })).map((v) => v.ct.map((c) => c.state).join(' '));
}

test('clock: a connection ends by capture time, at the millisecond', async () => {
  // 60 s for a single packet: at 60.000 s it is gone, a ms before it is not.
  assert.deepEqual(await states([packet(100, 1, there()), packet(159.999, 2, back())]), [
    '+new+trk',
    '+est+rpl+trk',
  ]);
  assert.deepEqual(await states([packet(100, 1, there()), packet(160, 2, back())]), ['+new+trk', '+new+trk']);
});

test('clock: a timestamp that steps back does not turn the clock back', async () => {
  const packets = [packet(100, 1, there()), packet(170, 1, there({ sport: 9 })), packet(101, 2, back())];
  assert.deepEqual(await states(packets), ['+new+trk', '+new+trk', '+new+trk']);
});

test('clock: only the running maximum counts, so a late packet after a step back finds its connection', async () => {
  const packets = [packet(100, 1, there()), packet(50, 2, back()), packet(60, 1, there())];
  assert.deepEqual(await states(packets), ['+new+trk', '+est+rpl+trk', '+est+trk']);
});

test('limit: expired connections make room at once, whatever the window and the number of workers', async () => {
  const flows = 'ip,actions=ct(commit,zone=1),ct(commit,zone=2),ct(commit,zone=3),ct(commit,zone=4),2\n';
  const packets = [1, 100, 200, 300].map((t) => packet(t, 1, there({ sport: 1000 + t })));
  for (const workers of [0, 1]) {
    for (const window of [1, 2, 4, 64]) {
      const r = await run(packets, { flows, maxConns: 4, workers, window });
      assert.deepEqual(
        { refused: r.traffic.ct.refused, made: r.traffic.ct.commits, live: r.result.connections },
        { refused: 0, made: 16, live: 4 },
        `workers ${workers}, window ${window}`,
      );
    }
  }
});

test('verdicts: packets are numbered from 1 and keep their nanoseconds', async () => {
  const packets: Packet[] = [{ sec: 1426168788, nsec: 123456789, port: 1, frame: there() }];
  const r = await run(packets, { flows: TRACK });
  assert.deepEqual(r.verdicts, [
    '{"packet":1,"ts":"1426168788.123456789","in_port":1,"ct":[{"zone":0,"state":"+new+trk"}],"out":[2],"reason":null}',
  ]);
});

test('events: packets stamped earlier see the state before, the others the state after', async () => {
  const packets = [packet(1, 1, there()), packet(2, 2, back()), packet(3, 2, back())];
  const events = '{"t": 3, "appctl": ["dpctl/flush-conntrack"]}';
  const r = await run(packets, { flows: TRACK, events });
  assert.deepEqual(
    parseVerdicts(r).map((v) => v.ct[0].state),
    ['+new+trk', '+est+rpl+trk', '+new+trk'],
  );
  assert.equal(r.traffic.ct.flushed, 1);
});

test('events: what is left when the input ends is applied, too', async () => {
  for (const [t, flushed] of [
    [2, 1],
    [99, 0], // it has expired by then
  ]) {
    const r = await run([packet(1, 1, there())], {
      flows: TRACK,
      events: `{"t": ${t}, "appctl": ["dpctl/flush-conntrack"]}`,
    });
    assert.deepEqual(r.dump, []);
    assert.equal(r.traffic.ct.flushed, flushed);
    assert.equal(r.traffic.ct.expired, 1 - flushed);
  }
});

test('events: sequence checks can be turned off and on', async () => {
  const seg = (o: Parameters<typeof tcp>[0]) => ethernet({}, ipv4({}, tcp(o)));
  const reply = (o: Parameters<typeof tcp>[0]) =>
    ethernet({}, ipv4({ src: '10.0.0.2', dst: '10.0.0.1' }, tcp({ sport: 80, dport: 40000, ...o })));
  const wild = seg({ seq: 0x40000000, ack: 901, data: data(9) });
  const packets = [
    packet(1, 1, seg({ seq: 100, flags: SYN })),
    packet(2, 2, reply({ seq: 900, ack: 101, flags: SYN | ACK })),
    packet(3, 1, seg({ seq: 101, ack: 901 })),
    packet(4, 1, wild),
    packet(6, 1, wild),
  ];
  const events = '{"t": 5, "appctl": ["dpctl/ct-disable-tcp-seq-chk"]}';
  const r = await run(packets, { flows: TRACK, events });
  assert.deepEqual(
    parseVerdicts(r).map((v) => v.ct[0].state),
    ['+new+trk', '+est+rpl+trk', '+est+trk', '+inv+trk', '+est+trk'],
  );
});

test('flush by zone leaves the other zones', async () => {
  const flows = 'ip,actions=ct(commit,zone=1),ct(commit,zone=2),2\n';
  const events = '{"t": 2, "appctl": ["dpctl/flush-conntrack", "zone=1"]}';
  const r = await run([packet(1, 1, there())], { flows, events });
  assert.equal(r.dump.length, 1);
  assert.match(r.dump[0], /,zone=2,/);
});

const DUMPS: [string, Bytes, string][] = [
  [
    'UDP',
    there(),
    'udp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=5000,dport=53),reply=(src=10.0.0.2,dst=10.0.0.1,sport=53,dport=5000),id=0,status=0',
  ],
  [
    'TCP with a window scale offered',
    ethernet({}, ipv4({}, tcp({ flags: SYN, options: windowScale(7) }))),
    'tcp,orig=(src=10.0.0.1,dst=10.0.0.2,sport=40000,dport=80),reply=(src=10.0.0.2,dst=10.0.0.1,sport=80,dport=40000),id=0,status=0,protoinfo=(state_orig=SYN_SENT,state_reply=CLOSED,wscale_orig=7,wscale_reply=0,flags_orig=WINDOW_SCALE,flags_reply=0)',
  ],
  [
    'ICMP echo',
    ethernet({}, ipv4({}, icmp({ rest: 0x12340001 }))),
    'icmp,orig=(src=10.0.0.1,dst=10.0.0.2,id=4660,type=8,code=0),reply=(src=10.0.0.2,dst=10.0.0.1,id=4660,type=0,code=0),id=0,status=0',
  ],
  [
    'ICMPv6 echo',
    ethernet({}, ipv6({}, icmp6({ rest: 0x00070001 }))),
    'icmpv6,orig=(src=fd00::1,dst=fd00::2,id=7,type=128,code=0),reply=(src=fd00::2,dst=fd00::1,id=7,type=129,code=0),id=0,status=0',
  ],
  [
    'SCTP over IPv6',
    ethernet({}, ipv6({}, sctp())),
    'sctp,orig=(src=fd00::1,dst=fd00::2,sport=7000,dport=7001),reply=(src=fd00::2,dst=fd00::1,sport=7001,dport=7000),id=0,status=0',
  ],
];
for (const [name, frame, line] of DUMPS) {
  test(`dump: ${name}`, async () => {
    const r = await run([packet(1, 1, frame)], { flows: TRACK });
    assert.deepEqual(r.dump, [line]);
  });
}

test('dump: zone, mark and label, and the order of creation', async () => {
  const flows =
    'ip,actions=ct(commit,zone=9,exec(set_field:0x10->ct_mark,set_field:0x123456789abcdef00112233445566778->ct_label)),2\n';
  const r = await run([packet(1, 1, there({ sport: 6000 })), packet(2, 1, there())], { flows });
  assert.equal(r.dump.length, 2);
  assert.match(
    r.dump[0],
    /sport=6000.*,id=0,zone=9,status=0,mark=16,labels=0x123456789abcdef00112233445566778$/,
  );
  assert.match(r.dump[1], /sport=5000/);
});

test('dump: connections that have ended by the last packet are left out', async () => {
  const r = await run([packet(1, 1, there()), packet(61, 1, ethernet({}, arp()))], { flows: TRACK });
  assert.deepEqual(r.dump, []);
  assert.equal(r.traffic.ct.expired, 1);
  const s = await run([packet(1, 1, there()), packet(60.999, 1, ethernet({}, arp()))], { flows: TRACK });
  assert.equal(s.dump.length, 1);
});

const DROPS: [string, string, Bytes, string][] = [
  ['a rule that says drop', 'actions=drop', there(), 'drop-action'],
  ['no rule', 'arp,actions=2', there(), 'table-miss'],
  ['a port that is not there', 'actions=9', there(), 'no-such-port'],
  ['the input port', 'actions=1', there(), 'output-to-input-port'],
  ['no output at all', 'actions=load:1->NXM_NX_REG0[]', there(), 'no-output'],
  ['13 bytes of frame', 'actions=2', there().slice(0, 13), 'frame-too-short'],
  ['a rule that resubmits to itself', 'actions=resubmit(,0)', there(), 'resubmit-limit'],
  ['a ct that comes back for ever', 'ip,actions=ct(table=0)', there(), 'recirculation-limit'],
  [
    'normal and a reserved MAC',
    'actions=normal',
    ethernet({ dst: '01:80:c2:00:00:03' }, arp()),
    'normal-reserved-mac',
  ],
  [
    'normal and half a tag',
    'actions=normal',
    ethernet({ tags: [5] }, arp()).slice(0, 16),
    'normal-partial-vlan',
  ],
];
for (const [name, flows, frame, reason] of DROPS) {
  test(`drops: ${name}`, async () => {
    const r = await run([packet(1, 1, frame)], { flows });
    assert.deepEqual(parseVerdicts(r)[0].out, []);
    assert.equal(parseVerdicts(r)[0].reason, reason);
    assert.deepEqual(r.traffic.drops, { [reason]: 1 });
  });
}

test('normal: floods what it does not know, then sends to where it was learned, never back', async () => {
  const at = (src: number, dst: number) => ethernet({ src, dst }, arp());
  const r = await run(
    [packet(1, 1, at(1, 2)), packet(2, 2, at(2, 1)), packet(3, 1, at(1, 2)), packet(4, 2, at(7, 2))],
    {
      flows: 'actions=normal',
      ports: [1, 2, 3],
    },
  );
  assert.deepEqual(
    parseVerdicts(r).map((v) => v.out),
    [[2, 3, 65534], [1], [2], []],
  );
  assert.equal(parseVerdicts(r)[3].reason, 'normal-same-port');
});

test('frames: each output is the frame as it was at that moment', async () => {
  const frame = there();
  const flows = 'actions=2,set_field:02:00:00:00:00:09->eth_dst,3,push_vlan:0x8100,4,pop_vlan,LOCAL';
  const r = await run([packet(1, 1, frame)], { flows });
  const nine = ethernet({ dst: 9 }, ipv4({}, udp()));
  const tagged = ethernet({ dst: 9, tags: [0] }, ipv4({}, udp()));
  assert.deepEqual(r.frames, [
    `1 2 ${hex(frame)}`,
    `1 3 ${hex(nine)}`,
    `1 4 ${hex(tagged)}`,
    `1 65534 ${hex(nine)}`,
  ]);
});

test('fragments: small ones are invalid to the tracker and counted by name, the last one is held', async () => {
  const parts = fragmentIpv4(ipv4({}, udp({ data: data(64) })), 44).map((p, i) =>
    packet(1 + i, 1, ethernet({}, p)),
  );
  const r = await run(parts, { flows: TRACK });
  const verdicts = parseVerdicts(r);
  assert.ok(verdicts.slice(0, -1).every((v) => v.ct[0].state === '+inv+trk'));
  assert.deepEqual([verdicts.at(-1)!.ct, verdicts.at(-1)!.reason], [[], 'fragment-held']);
  assert.equal(r.traffic.ct.fragments, parts.length);
  assert.equal(r.traffic.ct.fragments_held, 1);
  assert.deepEqual(r.traffic.ct.invalid_by_reason, { fragment: parts.length - 1 });
});

test('icmp error: about a known connection it is related, in the direction it takes', async () => {
  const about = ipv4({}, udp());
  const error = (src: string) =>
    ethernet({}, ipv4({ src, dst: '10.0.0.1' }, icmp({ type: 3, code: 1, rest: 0, data: about.bytes })));
  const r = await run(
    [packet(1, 1, ethernet({}, about)), packet(2, 2, error('10.0.0.2')), packet(3, 2, error('9.9.9.9'))],
    { flows: TRACK },
  );
  assert.deepEqual(
    parseVerdicts(r).map((v) => v.ct[0].state),
    ['+new+trk', '+rel+rpl+trk', '+rel+rpl+trk'],
  );
  const unknown = await run([packet(2, 2, error('10.0.0.2'))], { flows: TRACK });
  assert.deepEqual(unknown.traffic.ct.invalid_by_reason, { 'icmp-error-unrelated': 1 });
});

test('max-conns: commits over the limit leave the packet new and are counted; what has ended makes way', async () => {
  const packets = [1, 2, 3].map((n) => packet(n, 1, there({ sport: n })));
  packets.push(packet(100, 1, there({ sport: 4 })));
  const r = await run(packets, { flows: TRACK, maxConns: 2 });
  assert.ok(parseVerdicts(r).every((v) => v.ct[0].state === '+new+trk' && v.out[0] === 2));
  assert.equal(r.traffic.ct.refused, 1);
  assert.equal(r.traffic.ct.commits, 3);
  assert.equal(r.dump.length, 1);
});

test('books: live, expired and flushed connections are those committed; packets out or dropped are those in', async () => {
  const packets = Array.from({ length: 200 }, (_, i) =>
    packet(i, 1 + (i % 2), there({ sport: i < 50 ? 1 + i : 100 + (i % 20) })),
  );
  const r = await run(packets, { flows: TRACK, events: '{"t": 120.5, "appctl": ["dpctl/flush-conntrack"]}' });
  const { ct, out, drops } = r.traffic;
  assert.equal(ct.live + ct.expired + ct.flushed, ct.commits);
  assert.equal(ct.evicted, 0);
  assert.ok(ct.live > 0 && ct.expired > 0 && ct.flushed > 0, JSON.stringify(ct));
  const sent = Object.values(out).reduce((n, t) => n + t.packets, 0);
  const lost = Object.values(drops).reduce((n, t) => n + t, 0);
  assert.equal(sent + lost, packets.length);
});

test('an empty input gives an empty result, with and without workers', async () => {
  for (const workers of [0, 2]) {
    const r = await run([], { flows: TRACK, workers });
    assert.equal(r.result.packets, 0);
    assert.deepEqual(r.dump, []);
  }
});

test('recirculation: places where packets go on are forgotten when there are too many', async () => {
  // Every source address makes a place of its own.
  const flows = 'ip,actions=move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],ct(commit,table=1)\ntable=1,actions=2\n';
  const packets = Array.from({ length: 200 }, (_, i) =>
    packet(100 + i / 100, 1, ethernet({}, ipv4({ src: `10.0.1.${i % 150}` }, udp({ sport: 1000 + i })))),
  );
  const want = await run(packets, { flows });
  assert.deepEqual(want.traffic.drops, {});
  for (const workers of [0, 1, 2]) {
    const got = await run(packets, { flows, workers, maxFrozen: 10 });
    assert.deepEqual(got.verdicts, want.verdicts);
    if (workers === 0)
      assert.ok(got.run.cache.upcalls > want.run.cache.upcalls, 'nothing was translated anew');
  }
});
