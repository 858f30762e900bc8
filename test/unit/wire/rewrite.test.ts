/** Rewriting: a changed frame is the frame that would have been built with the new value, checksums and all. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FLOW, KEY_WORDS } from '../../../src/classifier/flow-key.js';
import { extract, FrameLayout } from '../../../src/wire/extract.js';
import { setWord } from '../../../src/wire/rewrite.js';
import {
  arp,
  type Bytes,
  cat,
  data,
  type EthernetOptions,
  ethernet,
  hex,
  type Ipv4Options,
  type Ipv6Options,
  icmp,
  icmp6,
  internetChecksum,
  ipv4,
  ipv6,
  type Layer4,
  Random,
  sctp,
  tcp,
  u16,
  udp,
  unhex,
  view,
} from '../../support/packets.js';

/** Sets bits of a word in a copy of the frame; checks that nothing around the frame changes. */
function set(frame: Bytes, word: number, value: number, mask = -1): { frame: Bytes; stale: boolean } {
  const room = cat(new Uint8Array(33).fill(0xa5), frame, new Uint8Array(20).fill(0xa5));
  const key = new Int32Array(KEY_WORDS);
  const layout = new FrameLayout();
  extract(view(room), 33, frame.length, key, layout);
  const stale = setWord(view(room), 33, layout, key, word, value & mask, mask);
  assert.ok(
    room.subarray(0, 33).every((b) => b === 0xa5) &&
      room.subarray(33 + frame.length).every((b) => b === 0xa5),
  );
  return { frame: room.slice(33, 33 + frame.length), stale };
}

const word32 = (bytes: readonly number[] | Bytes) =>
  (bytes[0] << 24) | (bytes[1] << 16) | (bytes[2] << 8) | bytes[3] | 0;

interface Shape {
  sport: number;
  dport: number;
  body: Bytes;
}
const L4: Record<string, (s: Shape) => Layer4> = {
  tcp: ({ sport, dport, body }) => tcp({ sport, dport, data: body, seq: 7 }),
  udp: ({ sport, dport, body }) => udp({ sport, dport, data: body }),
  'udp without checksum': ({ sport, dport, body }) => udp({ sport, dport, data: body, unsummed: true }),
  sctp: ({ sport, dport, body }) => sctp({ sport, dport, chunks: [{ type: 0, value: body }] }),
};

const v4 = (n: number[]) => n.join('.');
const v6 = (words: number[]) =>
  words.map((w) => `${(w >>> 16).toString(16)}:${(w & 0xffff).toString(16)}`).join(':');

for (const [name, make] of Object.entries(L4)) {
  test(`rewrite: ${name} over IPv4: addresses, ports, TOS and TTL as if built so (seeded property)`, () => {
    for (let seed = 1; seed <= 150; seed++) {
      const r = new Random(seed);
      const host = () => [...r.bytes(4)];
      const ip: Ipv4Options = {
        src: v4(host()),
        dst: v4(host()),
        tos: r.int(256),
        ttl: r.int(256),
        options: r.once(3) ? [1, 1, 1, 1] : [],
      };
      const l4: Shape = { sport: r.int(65536), dport: r.int(65536), body: r.bytes(r.int(30)) };
      const eth: EthernetOptions = { tags: r.once(3) ? [5] : [], pad: r.int(3) };
      const build = (i: Partial<Ipv4Options>, t: Partial<Shape>) =>
        hex(ethernet(eth, ipv4({ ...ip, ...i }, make({ ...l4, ...t }))));
      const frame = unhex(build({}, {}));
      const to = host();
      const [sport, dport, tos, ttl] = [r.int(65536), r.int(65536), r.int(256), r.int(256)];
      const say = `seed ${seed}`;
      assert.equal(hex(set(frame, FLOW.NW_SRC, word32(to)).frame), build({ src: v4(to) }, {}), say);
      assert.equal(hex(set(frame, FLOW.NW_DST, word32(to)).frame), build({ dst: v4(to) }, {}), say);
      assert.equal(hex(set(frame, FLOW.TP, sport << 16, 0xffff0000 | 0).frame), build({}, { sport }), say);
      assert.equal(hex(set(frame, FLOW.TP, dport, 0xffff).frame), build({}, { dport }), say);
      assert.equal(hex(set(frame, FLOW.TP, (sport << 16) | dport).frame), build({}, { sport, dport }), say);
      assert.equal(
        hex(set(frame, FLOW.NW, (tos << 16) | (ttl << 8), 0xffff00).frame),
        build({ tos, ttl }, {}),
        say,
      );
      assert.equal(
        hex(set(frame, FLOW.NW, tos << 16, 0xfc0000).frame),
        build({ tos: (ip.tos! & 3) | (tos & 0xfc) }, {}),
        say,
      );
    }
  });

  if (name === 'udp without checksum') continue; // not over IPv6 (RFC 8200, section 8.1)
  test(`rewrite: ${name} over IPv6: addresses, ports, traffic class, label and hop limit as if built so`, () => {
    for (let seed = 1; seed <= 100; seed++) {
      const r = new Random(seed);
      const host = () => Array.from({ length: 4 }, () => r.word());
      const [src, dst] = [host(), host()];
      const ip: Ipv6Options = {
        src: v6(src),
        dst: v6(dst),
        trafficClass: r.int(256),
        label: r.int(1 << 20),
        hops: r.int(256),
        extensions: r.once(3) ? [{ type: 60 }] : [],
      };
      const l4: Shape = { sport: r.int(65536), dport: r.int(65536), body: r.bytes(r.int(30)) };
      const build = (i: Partial<Ipv6Options>, t: Partial<Shape>) =>
        hex(ethernet({}, ipv6({ ...ip, ...i }, make({ ...l4, ...t }))));
      const frame = unhex(build({}, {}));
      const [w, to, sport, label, hops, tc] = [
        r.int(4),
        r.word(),
        r.int(65536),
        r.int(1 << 20),
        r.int(256),
        r.int(256),
      ];
      const changed = (from: number[]) => v6(from.map((x, i) => (i === w ? to : x)));
      const say = `seed ${seed}`;
      assert.equal(hex(set(frame, FLOW.IPV6_SRC_0 + w, to | 0).frame), build({ src: changed(src) }, {}), say);
      assert.equal(hex(set(frame, FLOW.IPV6_DST_0 + w, to | 0).frame), build({ dst: changed(dst) }, {}), say);
      assert.equal(hex(set(frame, FLOW.TP, sport << 16, 0xffff0000 | 0).frame), build({}, { sport }), say);
      assert.equal(hex(set(frame, FLOW.IPV6_LABEL, label, 0xfffff).frame), build({ label }, {}), say);
      assert.equal(
        hex(set(frame, FLOW.NW, (tc << 16) | (hops << 8), 0xffff00).frame),
        build({ trafficClass: tc, hops }, {}),
        say,
      );
    }
  });
}

test('rewrite: ICMP and ICMPv6 type and code, and ICMPv6 addresses', () => {
  const four = (type: number, code: number) => ethernet({}, ipv4({}, icmp({ type, code })));
  assert.equal(hex(set(four(8, 0), FLOW.TP, (3 << 16) | 1, 0x00ff00ff).frame), hex(four(3, 1)));
  const six = (type: number, src = 'fd00::1') => ethernet({}, ipv6({ src }, icmp6({ type })));
  assert.equal(hex(set(six(128), FLOW.TP, 129 << 16, 0x00ff0000).frame), hex(six(129)));
  assert.equal(hex(set(six(128), FLOW.IPV6_SRC_3, 0x77).frame), hex(six(128, 'fd00::77')));
});

test('rewrite: the target of a neighbour solicitation is under the checksum', () => {
  const make = (target: string) => ethernet({}, ipv6({}, icmp6({ type: 135, rest: 0, data: unhex(target) })));
  const before = make('fe80000000000000000000000000000a');
  assert.equal(
    hex(set(before, FLOW.ND_TARGET_3, 0x12345678).frame),
    hex(make('fe800000000000000000000012345678')),
  );
});

test('rewrite: reserved word, link-layer address and option type of neighbour discovery', () => {
  const target = unhex('fe80000000000000000000000000000a');
  const make = (rest: number, type: number, mac: string, before = '') =>
    ethernet({}, ipv6({}, icmp6({ type: 136, rest, data: cat(target, unhex(`${before}0${type}01${mac}`)) })));
  const frame = make(0x60000000, 2, '020000000009');
  assert.equal(
    hex(set(frame, FLOW.ND_RESERVED, 0x80000001 | 0, 0xc0000001 | 0).frame),
    hex(make(0xa0000001, 2, '020000000009')),
  );
  assert.equal(hex(set(frame, FLOW.TCP_FLAGS, 1, 0xff).frame), hex(make(0x60000000, 1, '020000000009')));
  const steps = (from: Bytes, words: [number, number, number][]) =>
    words.reduce((got, [word, value, mask]) => set(got, word, value, mask).frame, from);
  assert.equal(
    hex(
      steps(frame, [
        [FLOW.ARP_SHA_LO_THA_HI, 0x7777abcd, -1],
        [FLOW.ARP_THA_LO, 0x12345678, -1],
        [FLOW.ARP_SHA_HI, 0x11111111, -1],
      ]),
    ),
    hex(make(0x60000000, 2, 'abcd12345678')),
    'the address of the other kind has no place here',
  );
  assert.equal(
    hex(
      steps(make(0, 1, '020000000009', '0e01000000000000'), [
        [FLOW.ARP_SHA_HI, 0x0a0b0c0d, -1],
        [FLOW.ARP_SHA_LO_THA_HI, 0x0e0f7777, -1],
      ]),
    ),
    hex(make(0, 1, '0a0b0c0d0e0f', '0e01000000000000')),
    'behind an option of another kind',
  );
  const bare = ethernet({}, ipv6({}, icmp6({ type: 135, rest: 0, data: target })));
  for (const word of [FLOW.TCP_FLAGS, FLOW.ARP_SHA_HI, FLOW.ARP_SHA_LO_THA_HI, FLOW.ARP_THA_LO]) {
    assert.equal(hex(set(bare, word, 2, 0xff).frame), hex(bare), 'no option');
  }
});

test('rewrite: the outermost MPLS label stack entry, masked', () => {
  const make = (...entries: string[]) =>
    ethernet({ tags: [7] }, { type: 0x8847, bytes: cat(unhex(entries.join('')), ipv4({}, udp()).bytes) });
  const frame = make('00010040', '00011141');
  assert.equal(hex(set(frame, FLOW.MPLS_0, 0x12345e3f).frame), hex(make('12345e3f', '00011141')));
  assert.equal(hex(set(frame, FLOW.MPLS_0, 0x3f, 0xff).frame), hex(make('0001003f', '00011141')));
  assert.equal(hex(set(frame, FLOW.MPLS_1, 0, -1).frame), hex(frame));
  const cut = ethernet({}, { type: 0x8847, bytes: Uint8Array.of(1, 2, 3) });
  assert.equal(hex(set(cut, FLOW.MPLS_0, 0, -1).frame), hex(cut));
});

test('rewrite: a UDP checksum that comes out as zero is sent as all ones', () => {
  // Data that makes the sum complete: the checksum is then computed as 0.
  const make = (dport: number, filler: number) => ipv4({}, udp({ dport, data: cat(u16(filler)) }));
  const raw = make(4000, 0).bytes.slice();
  const field = (raw[26] << 8) | raw[27];
  const want = ethernet({}, make(4000, field));
  assert.equal(hex(want.subarray(40, 42)), 'ffff', 'of the test itself');
  assert.equal(hex(set(ethernet({}, make(53, field)), FLOW.TP, 4000, 0xffff).frame), hex(want));
  const moved = ethernet({}, ipv4({ src: '10.0.0.77' }, udp({ dport: 4000, data: cat(u16(field)) })));
  assert.equal(hex(set(moved, FLOW.NW_SRC, word32([10, 0, 0, 1])).frame), hex(want));
});

test('rewrite: wrong checksums stay wrong by the same amount', () => {
  const cases: [string, (dport: number) => Bytes][] = [
    ['ip', (dport) => ethernet({}, ipv4({ spoil: 0x1234 }, udp({ dport })))],
    ['sctp', (dport) => ethernet({}, ipv4({}, sctp({ dport, spoil: 0x12345678 })))],
  ];
  for (const [name, make] of cases)
    assert.equal(hex(set(make(53), FLOW.TP, 99, 0xffff).frame), hex(make(99)), name);
  const tcpFrame = set(ethernet({}, ipv4({}, tcp({ spoil: 0xff }))), FLOW.TP, 99, 0xffff).frame;
  const right = ethernet({}, ipv4({}, tcp({ dport: 99 })));
  assert.notEqual(hex(tcpFrame), hex(right));
});

test('rewrite: only addresses and ports make a cached connection stale', () => {
  const frame = ethernet({}, ipv4({}, udp()));
  assert.equal(set(frame, FLOW.NW_SRC, 1).stale, true);
  assert.equal(set(frame, FLOW.TP, 1, 0xffff).stale, true);
  assert.equal(set(frame, FLOW.NW, 9 << 8, 0xff00).stale, false);
  assert.equal(set(frame, FLOW.ETH_DST_HI, 1).stale, false);
});

test('rewrite: MAC addresses, masked', () => {
  const frame = ethernet({ dst: '02:11:22:33:44:55', src: '02:66:77:88:99:aa' }, ipv4({}, udp()));
  const want = ethernet({ dst: '02:11:22:33:44:ff', src: 'ee:66:77:88:99:aa' }, ipv4({}, udp()));
  assert.equal(hex(set(frame, FLOW.ETH_DST_LO_SRC_HI, 0x00ffee00 | 0, 0x00ffff00).frame), hex(want));
});

test('rewrite: ARP addresses and opcode', () => {
  const frame = ethernet({}, arp({ op: 1, spa: '10.0.0.1', tpa: '10.0.0.2', tha: 9 }));
  const steps: [number, number, number][] = [
    [FLOW.NW_SRC, word32([10, 9, 9, 9]), -1],
    [FLOW.NW_DST, word32([10, 8, 8, 8]), -1],
    [FLOW.NW, 2, 0xff],
    [FLOW.ARP_SHA_HI, word32([2, 0, 0, 0]), -1],
    [FLOW.ARP_SHA_LO_THA_HI, (7 << 16) | 0x0200, -1],
    [FLOW.ARP_THA_LO, 8, -1],
  ];
  let got = frame;
  for (const [word, value, mask] of steps) got = set(got, word, value, mask).frame;
  assert.equal(hex(got), hex(ethernet({}, arp({ op: 2, sha: 7, spa: '10.9.9.9', tha: 8, tpa: '10.8.8.8' }))));
});

test('rewrite: what the frame does not carry is left alone', () => {
  for (const frame of [
    ethernet({}, arp()),
    ethernet({ type: 0x88cc }, data(40)),
    ethernet({}, ipv4({ length: 999 }, udp())),
  ]) {
    for (const word of [FLOW.IPV6_SRC_0, FLOW.TP, FLOW.IPV6_LABEL, FLOW.ND_TARGET_0]) {
      assert.equal(hex(set(frame, word, 0x12345678).frame), hex(frame));
    }
  }
  const short = ethernet({}, ipv4({ length: 27 }, udp()));
  assert.equal(hex(set(short, FLOW.TP, 1).frame), hex(short), 'UDP header cut');
});

test('rewrite: an IPv6 address that a routing header hides is not under the checksum', () => {
  // Two segments left: the final destination is in the routing header.
  const make = (dst: string) => ipv6({ dst, extensions: [{ type: 43, body: [0, 2, 0, 0, 0, 0] }] }, udp());
  const frame = ethernet({}, make('fd00::2'));
  const got = set(frame, FLOW.IPV6_DST_3, 0x99).frame;
  const want = frame.slice();
  want[14 + 39] = 0x99;
  assert.equal(hex(got), hex(want));
  assert.ok(internetChecksum(Uint8Array.of()) === 0xffff);
});
