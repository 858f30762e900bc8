/** Fragments through the switch: held, let go together in the state of their datagram, each as it came. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ACK,
  type Bytes,
  data,
  ethernet,
  fragment6,
  fragmentIpv4,
  fragmentIpv6,
  hex,
  icmp,
  icmp6,
  ipv4,
  ipv6,
  type Layer3,
  type Packet,
  PSH,
  packet,
  payload,
  Random,
  SYN,
  tcp,
  udp,
} from '../../support/packets.js';
import { parseVerdicts, type RunOptions, run } from '../../support/run.js';

const COMMIT =
  'ip,actions=ct(commit,zone=1,table=1)\nipv6,actions=ct(commit,zone=1,table=1)\ntable=1,actions=2';

const at = (frames: Bytes[], port = 1, from = 1): Packet[] => frames.map((f, i) => packet(from + i, port, f));
const wrap = (parts: Layer3[]) => parts.map((p) => ethernet({}, p));
const big4 = (o = {}) => ipv4({ id: 9, ...o }, udp({ data: data(3000) }));
const cut4 = (o = {}) => wrap(fragmentIpv4(big4(o), 1300));
const cut6 = (id = 9) => wrap(fragmentIpv6(ipv6({}, udp({ data: data(3000) })), 1300, id));

/** Runs inline and with two workers, which must agree. */
async function both(packets: Packet[], o: RunOptions) {
  const want = await run(packets, o);
  const got = await run(packets, { ...o, workers: 2, jitter: 77 });
  assert.deepEqual(got.verdicts, want.verdicts);
  assert.deepEqual(got.frames, want.frames);
  assert.deepEqual(got.dump, want.dump);
  assert.deepEqual(got.traffic, want.traffic);
  return { ...want, lines: parseVerdicts(want) };
}

for (const [version, cut] of [
  ['IPv4', cut4],
  ['IPv6', cut6],
] as const) {
  test(`fragments: ${version}: the last to come lets all go, in order, and the datagram is tracked once`, async () => {
    const parts = cut();
    for (const order of [
      [0, 1, 2],
      [2, 0, 1],
      [1, 2, 0],
    ]) {
      const r = await both(at(order.map((i) => parts[i])), { flows: COMMIT });
      assert.deepEqual(
        r.lines.map((v) => [v.ct.map((c) => c.state), v.out, v.reason]),
        [
          [[], [], 'fragment-held'],
          [[], [], 'fragment-held'],
          [['+new+trk'], [2, 2, 2], null],
        ],
      );
      assert.deepEqual(
        r.frames,
        parts.map((p) => `3 2 ${hex(p)}`),
      );
      assert.equal(r.dump.length, 1);
      assert.equal(r.traffic.ct.commits, 1);
      assert.equal(r.traffic.ct.reassembled, 1);
      assert.equal(r.traffic.ct.fragments_held, 2);
    }
  });

  test(`fragments: ${version}: each goes on as itself`, async () => {
    const any = version === 'IPv4' ? 'ip' : 'ipv6';
    const flows = `${any},actions=ct(commit,table=1)
      table=1,priority=9,${any},nw_proto=17,ip_frag=first,ct_state=+new,actions=2
      table=1,priority=9,${any},ip_frag=later,ct_state=+new,actions=3
      table=1,priority=0,actions=4`;
    const r = await both(at(cut()), { flows });
    assert.deepEqual(r.lines[2].out, [2, 3, 3]);
  });

  test(`fragments: ${version}: what comes before ct() is done to each, what comes behind as well`, async () => {
    const any = version === 'IPv4' ? 'ip' : 'ipv6';
    const flows = `${any},actions=set_field:02:00:00:00:00:77->eth_dst,push_vlan:0x8100,ct(commit,table=1)
      table=1,ct_state=+new,actions=set_field:02:00:00:00:00:66->eth_src,2,pop_vlan,3`;
    const parts = cut();
    const r = await both(at(parts), { flows });
    const changed = parts.map((p) => {
      const frame = p.slice();
      frame.set([2, 0, 0, 0, 0, 0x77, 2, 0, 0, 0, 0, 0x66]);
      return frame;
    });
    const tagged = (f: Bytes) => `${hex(f.subarray(0, 12))}81000000${hex(f.subarray(12))}`;
    assert.deepEqual(
      r.frames,
      changed.flatMap((f) => [`3 2 ${tagged(f)}`, `3 3 ${hex(f)}`]),
    );
  });

  test(`fragments: ${version}: with a wrong checksum the datagram is invalid, and goes on as such`, async () => {
    const parts = cut();
    parts[1][parts[1].length - 1] ^= 1;
    const r = await both(at(parts), { flows: COMMIT });
    assert.deepEqual(
      r.lines[2].ct.map((c) => c.state),
      ['+inv+trk'],
    );
    assert.equal(r.frames.length, 3);
    assert.deepEqual(r.traffic.ct.invalid_by_reason, { 'bad-l4-checksum': 1 });
    assert.deepEqual(r.dump, []);
  });

  test(`fragments: ${version}: ct() after ct() in other zones takes them in again`, async () => {
    const any = version === 'IPv4' ? 'ip' : 'ipv6';
    const flows = `table=0,${any},actions=ct(commit,zone=1,table=1)
      table=1,${any},actions=ct(commit,zone=2,table=2)
      table=2,${any},ct_zone=2,ct_state=+new,actions=ct(commit,zone=3),2`;
    const r = await both(at(cut()), { flows });
    assert.deepEqual(
      r.lines[2].ct.map((c) => `${c.zone} ${c.state}`),
      ['1 +new+trk', '2 +new+trk', '3 +new+trk'],
    );
    assert.deepEqual(r.lines[2].out, [2, 2, 2]);
    assert.equal(r.dump.length, 3);
    assert.equal(r.traffic.ct.reassembled, 3);
  });
}

test('fragments: the reply, and what is not cut, belong to the same connection', async () => {
  const parts = cut4();
  const reply = wrap(
    fragmentIpv4(
      ipv4({ src: '10.0.0.2', dst: '10.0.0.1', id: 9 }, udp({ sport: 53, dport: 5000, data: data(2000) })),
      1300,
    ),
  );
  const packets = [...at(parts), ...at(reply, 2, 10), packet(20, 1, ethernet({}, ipv4({}, udp())))];
  const r = await both(packets, { flows: `${COMMIT.replace('1,actions=2', '1,actions=3')}` });
  assert.deepEqual(
    r.lines.filter((v) => v.ct.length > 0).map((v) => v.ct[0].state),
    ['+new+trk', '+est+rpl+trk', '+est+trk'],
  );
  assert.equal(r.dump.length, 1);
});

test('fragments: TCP segments, ICMP echoes and errors, and protocols without ports come together too', async () => {
  const about = ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }, udp({ data: data(1500) }));
  const cases: [string, Layer3[]][] = [
    ['+new+trk', fragmentIpv4(ipv4({ id: 1 }, tcp({ flags: SYN, data: data(2000) })), 1300)],
    ['+new+trk', fragmentIpv4(ipv4({ id: 2 }, tcp({ sport: 9, flags: ACK | PSH, data: data(2000) })), 1300)],
    ['+new+trk', fragmentIpv4(ipv4({ id: 3 }, icmp({ data: data(2000) })), 1300)],
    ['+new+trk', fragmentIpv6(ipv6({}, icmp6({ data: data(2000) })), 1300, 4)],
    ['+new+trk', fragmentIpv4(ipv4({ id: 5 }, payload(99, data(2000))), 1300)],
    ['+new+trk', fragmentIpv4(ipv4({ id: 6 }, udp({ data: data(2000), unsummed: true })), 1300)],
    [
      '+rel+rpl+trk',
      fragmentIpv4(
        ipv4({ src: '10.0.0.2', dst: '10.0.0.1', id: 7 }, icmp({ type: 3, rest: 0, data: about.bytes })),
        1300,
      ),
    ],
  ];
  const packets = cases.flatMap(([, parts], i) => at(wrap(parts), 1, 1 + 10 * i));
  const r = await both(packets, { flows: COMMIT });
  assert.deepEqual(
    r.lines.filter((v) => v.ct.length > 0).map((v) => v.ct[0].state),
    cases.map(([state]) => state),
  );
});

test('fragments: a duplicate is invalid and goes on; one of a complete datagram waits for a new one', async () => {
  const [a, b, c] = cut4();
  const r = await both(at([a, a, b, c, c]), { flows: COMMIT });
  assert.deepEqual(
    r.lines.map((v) => [v.ct[0]?.state, v.out.length]),
    [
      [undefined, 0],
      ['+inv+trk', 1],
      [undefined, 0],
      ['+new+trk', 3],
      [undefined, 0],
    ],
  );
});

test('fragments: without ct() nothing is held', async () => {
  const r = await both(at(cut4()), { flows: 'actions=2' });
  assert.equal(r.frames.length, 3);
  assert.equal(r.traffic.ct.fragments, 0);
});

test('fragments: a packet in between that goes through ct() after 15 s ends them', async () => {
  const [a, b, c] = cut4();
  const other = ethernet({}, ipv4({ src: '10.0.0.9' }, udp()));
  const untracked = ethernet({ type: 0x88b5 }, data(40));
  const late = async (between: Bytes | null) => {
    const packets = [packet(1, 1, a), packet(1, 1, b)];
    if (between !== null) packets.push(packet(16.5, 1, between));
    packets.push(packet(17, 1, c), packet(18, 1, other));
    const r = await both(packets, { flows: COMMIT });
    return r.lines.at(-2)!.out.length;
  };
  assert.equal(await late(null), 3);
  assert.equal(await late(untracked), 3, 'it does not go through ct()');
  assert.equal(await late(other), 0);
});

test('fragments: of two datagrams with one number, the one that came first is completed', async () => {
  const first = cut4();
  const second = wrap(fragmentIpv4(ipv4({ id: 9 }, udp({ sport: 77, data: data(3000) })), 1300));
  const outs = async (frames: Bytes[], flows = COMMIT) =>
    (await both(at(frames), { flows, rssKey: new Random(3).bytes(40) })).lines.map((v) => v.out.length);
  assert.deepEqual(await outs([first[0], second[0], first[1], first[2]]), [0, 1, 0, 3]);
  assert.deepEqual(await outs([...first, ...second, ...first]), [0, 0, 3, 0, 0, 3, 0, 0, 3]);
  assert.deepEqual(await outs([first[1], second[0], first[0], second[2]]), [0, 0, 1, 3]);
  // In two zones at once nobody can tell in advance: the answer is the same for any number of workers.
  const zones =
    'udp,in_port=1,actions=ct(zone=1,table=1)\nudp,in_port=2,actions=ct(zone=2,table=1)\ntable=1,actions=3';
  const mixed = [
    packet(1, 1, first[0]),
    packet(2, 2, second[0]),
    packet(3, 1, first[1]),
    packet(4, 2, second[1]),
    packet(5, 1, first[2]),
    packet(6, 2, second[2]),
  ];
  const r = await both(mixed, { flows: zones });
  assert.deepEqual(
    r.lines.map((v) => v.out.length),
    [0, 0, 0, 0, 0, 3],
  );
});

test('fragments: 64 kB in many pieces, with trailers, come out whole', async () => {
  const whole = ipv4({ id: 3 }, udp({ data: data(65_000) }));
  const parts = fragmentIpv4(whole, 1300).map((p) => ethernet({ pad: 6000 }, p));
  const packets = parts.map((p, i) => packet(1 + i / 8, 1, p));
  const r = await both(packets, { flows: COMMIT });
  assert.ok(r.frames.length === parts.length && r.frames.every((f, i) => f.endsWith(hex(parts[i]))));
});

test('fragments: dpctl/ipf-* change what is held', async () => {
  const small = wrap(fragmentIpv4(big4(), 600));
  const events = (...argv: string[]) => `{"t": 0.5, "appctl": ${JSON.stringify(argv)}}`;
  const outs = async (parts: Bytes[], event: string) =>
    (await both(at(parts), { flows: COMMIT, events: event })).lines.map((v) => v.out.length);
  assert.deepEqual(await outs(small, ''), [1, 1, 1, 1, 1, 0]);
  assert.deepEqual(await outs(small, events('dpctl/ipf-set-min-frag', 'v4', '500')), [0, 0, 0, 0, 0, 6]);
  assert.deepEqual(await outs(cut4(), events('dpctl/ipf-set-disabled', 'v4')), [1, 1, 1]);
  assert.deepEqual(await outs(cut6(), events('dpctl/ipf-set-disabled', 'v4')), [0, 0, 3]);
  assert.deepEqual(await outs(cut6(), events('dpctl/ipf-set-max-nfrags', '1')), [0, 1, 1]);
  await assert.rejects(
    outs(small, events('dpctl/ipf-set-min-frag', 'v4', 'x')),
    /minimum fragment size missing/,
  );
  await assert.rejects(outs(small, events('dpctl/ipf-set-max-nfrags', '-2')), /expected/);
  await assert.rejects(outs(small, events('dpctl/ipf-set-enabled', 'v5')), /'v4' for IPv4/);
  await assert.rejects(outs(small, events('dpctl/ipf-set-enabled')), /too few arguments/);
});

test('fragments: behind a first one that is switched off, protocols without checks are tracked', async () => {
  const parts = wrap(fragmentIpv4(ipv4({ id: 5 }, payload(99, data(2000))), 1300));
  const off = '{"t": 0.5, "appctl": ["dpctl/ipf-set-disabled", "v4"]}';
  const r = await both(at(parts), { flows: COMMIT, events: off });
  assert.deepEqual(
    r.lines.map((v) => v.ct[0].state),
    ['+new+trk', '+inv+trk'],
  );
  const six = wrap([ipv6({ extensions: [fragment6(0, true)] }, payload(99, data(1400)))]);
  const r6 = await both(at(six), { flows: COMMIT, events: off.replace('v4', 'v6') });
  assert.equal(r6.lines[0].ct[0].state, '+inv+trk');
});

test('fragments: beyond 1,000 that are held they are refused, without waiting for each other, until the first expire', async () => {
  const packets: Packet[] = [];
  const real = (n: number) => ethernet({}, ipv4({ src: '10.9.9.9' }, udp({ sport: 1000 + (n % 7) })));
  for (let n = 0; n < 1300; n++) {
    const [first] = fragmentIpv4(ipv4({ id: n, src: `10.1.${n & 3}.1` }, udp({ data: data(1400) })), 1300);
    packets.push(packet(1 + n / 1000, 1, ethernet({}, first)), packet(1 + n / 1000, 1, real(n)));
  }
  // Some whose datagrams are held, and would be complete; and all of one when packets in between have let the first expire.
  for (let n = 0; n < 20; n++) {
    const [, last] = fragmentIpv4(ipv4({ id: n, src: `10.1.${n & 3}.1` }, udp({ data: data(1400) })), 1300);
    packets.push(packet(3, 1, ethernet({}, last)));
  }
  for (let n = 0; n < 10; n++) packets.push(packet(16.9, 1, real(n)));
  for (const [i, frame] of cut4().entries()) packets.push(packet(17 + i / 10, 1, frame));
  const r = await both(packets, { flows: COMMIT });
  const states = r.lines.map((v) => v.reason ?? v.ct[0].state);
  const held = states.filter((state) => state === 'fragment-held').length;
  assert.deepEqual([held, states.at(-1)], [1002, '+new+trk']);
  const invalid = states.slice(2000, 2620).filter((_, i) => i >= 600 || i % 2 === 0);
  assert.deepEqual(new Set(invalid), new Set(['+inv+trk']));
});
