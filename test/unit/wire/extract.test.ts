/** From bytes to flow key: every protocol, every impossible length, every cut. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FLOW, FLOW_WORDS, FRAG_ANY, FRAG_LATER, KEY_WORDS } from '../../../src/classifier/flow-key.js';
import { FIELDS, getField } from '../../../src/openflow/fields.js';
import { ETH_TYPE_NONE, extract, FrameLayout } from '../../../src/wire/extract.js';
import {
  ACK,
  arp,
  type Bytes,
  cat,
  data,
  ethernet,
  fragment6,
  fragmentIpv4,
  gre,
  icmp,
  icmp6,
  ipv4,
  ipv6,
  PSH,
  payload,
  Random,
  sctp,
  tcp,
  u16,
  udp,
  unhex,
  view,
} from '../../support/packets.js';

/** Names shown in the order of the wire; several stand for the same bits, the first is taken. */
const NAMES = [
  'eth_dst',
  'eth_src',
  'eth_type',
  'vlan_tci',
  'ip_src',
  'ip_dst',
  'ipv6_src',
  'ipv6_dst',
  'ipv6_label',
  'nw_proto',
  'nw_ttl',
  'nw_tos',
  'nw_ecn',
  'ip_frag',
  'tcp_src',
  'tcp_dst',
  'tcp_flags',
  'nd_target',
  'arp_sha',
  'arp_tha',
];
const SHOWN = NAMES.map((name) => FIELDS.find((f) => f.name === name)!);

interface Parsed {
  key: Int32Array;
  layout: FrameLayout;
}

/** Parses the frame from a view that has nothing else, and from the middle of another; they must agree. */
function parse(frame: Bytes): Parsed {
  const key = new Int32Array(KEY_WORDS).fill(0x55555555);
  const layout = new FrameLayout();
  const exact = frame.slice();
  extract(view(exact), 0, frame.length, key, layout);
  for (const junk of [0x00, 0xff]) {
    const room = new Uint8Array(frame.length + 200).fill(junk);
    room.set(frame, 77);
    const again = new Int32Array(KEY_WORDS).fill(0x55555555);
    const where = new FrameLayout();
    extract(view(room), 77, frame.length, again, where);
    assert.deepEqual(again, key, 'depends on what is around the frame');
    assert.deepEqual(where, layout);
  }
  for (let w = 0; w < KEY_WORDS; w++) {
    if (w < FLOW.ETH_DST_HI || w > FLOW.MPLS_2)
      assert.equal(key[w], 0x55555555, `word ${w} is not its to write`);
  }
  return { key, layout };
}

/** Fields that are not zero, in hexadecimal. */
function fields(frame: Bytes): Record<string, string> {
  const { key } = parse(frame);
  const flow = new Int32Array(FLOW_WORDS);
  flow.set(key);
  const out: Record<string, string> = {};
  for (const f of SHOWN) {
    const value = getField(flow, f);
    if (value !== 0n) out[f.name] = value.toString(16);
  }
  // nd_options_type shares a word with the TCP flags.
  if (['135', '136'].includes(String(key[FLOW.TP] >>> 16)) && out.tcp_flags !== undefined) {
    out.nd_options_type = out.tcp_flags;
    delete out.tcp_flags;
  }
  for (const [name, word] of Object.entries({
    nd_reserved: FLOW.ND_RESERVED,
    mpls_0: FLOW.MPLS_0,
    mpls_1: FLOW.MPLS_1,
    mpls_2: FLOW.MPLS_2,
  })) {
    if (key[word] !== 0) out[name] = (key[word] >>> 0).toString(16);
  }
  return out;
}

const L2 = { eth_dst: '20000000002', eth_src: '20000000001' };
const V4 = { ...L2, eth_type: '800', ip_src: 'a000001', ip_dst: 'a000002', nw_ttl: '40' };
const V6 = {
  ...L2,
  eth_type: '86dd',
  ipv6_src: `fd${'0'.repeat(29)}1`,
  ipv6_dst: `fd${'0'.repeat(29)}2`,
  nw_ttl: '40',
};
const PORTS = { tcp_src: '1388', tcp_dst: '35' };

const ndSolicit = (options: Bytes) =>
  icmp6({ type: 135, rest: 0, data: cat(unhex('fe80000000000000000000000000000a'), options) });
const ndAdvert = (options: Bytes) =>
  icmp6({ type: 136, rest: 0xe0000000, data: cat(unhex('fe80000000000000000000000000000a'), options) });

/** Label stack entries 16 to 18, and one at the bottom with traffic class 6 and TTL 255. */
const LABELS = ['00010040', '00011041', '00012042', '0012d1ff'].map(unhex);

const KNOWN: [string, Bytes, Record<string, string>][] = [
  [
    'an IPv4 TCP segment',
    ethernet({}, ipv4({}, tcp({ flags: ACK | PSH }))),
    { ...V4, nw_proto: '6', tcp_src: '9c40', tcp_dst: '50', tcp_flags: '18' },
  ],
  [
    'a TCP segment with all twelve flag bits',
    ethernet(
      {},
      ipv4(
        {},
        {
          proto: 6,
          bytes: (p) => {
            const b = tcp().bytes(p);
            b[12] = 0x5f;
            b[13] = 0xff;
            return b;
          },
        },
      ),
    ),
    { ...V4, nw_proto: '6', tcp_src: '9c40', tcp_dst: '50', tcp_flags: 'fff' },
  ],
  [
    'an IPv4 UDP datagram',
    ethernet({}, ipv4({ tos: 0xb9 }, udp())),
    { ...V4, nw_proto: '11', nw_tos: 'b8', nw_ecn: '1', ...PORTS },
  ],
  [
    'an IPv4 packet with options',
    ethernet({}, ipv4({ options: [7, 3, 4] }, udp())),
    { ...V4, nw_proto: '11', ...PORTS },
  ],
  [
    'an IPv4 header of another version number: only the EtherType counts',
    ethernet({}, ipv4({ version: 5 }, udp())),
    { ...V4, nw_proto: '11', ...PORTS },
  ],
  [
    'an ICMP echo',
    ethernet({}, ipv4({}, icmp({ type: 8, code: 0 }))),
    { ...V4, nw_proto: '1', tcp_src: '8' },
  ],
  [
    'an IGMP message: type and code like ICMP',
    ethernet({}, ipv4({}, payload(2, unhex('1605000000000000')))),
    { ...V4, nw_proto: '2', tcp_src: '16', tcp_dst: '5' },
  ],
  [
    'an SCTP packet',
    ethernet({}, ipv4({}, sctp())),
    { ...V4, nw_proto: '84', tcp_src: '1b58', tcp_dst: '1b59' },
  ],
  ['a GRE packet', ethernet({}, ipv4({}, gre())), { ...V4, nw_proto: '2f' }],
  [
    'a packet with the do-not-fragment bit',
    ethernet({}, ipv4({ frag: 0x4000 }, udp())),
    { ...V4, nw_proto: '11', ...PORTS },
  ],
  [
    'an IPv6 UDP datagram',
    ethernet({}, ipv6({ trafficClass: 0xb9, label: 0x12345 }, udp())),
    { ...V6, ipv6_label: '12345', nw_proto: '11', nw_tos: 'b8', nw_ecn: '1', ...PORTS },
  ],
  [
    'an IPv6 packet with hop-by-hop, destination and routing headers',
    ethernet({}, ipv6({ extensions: [{ type: 0 }, { type: 60 }, { type: 43 }] }, udp())),
    { ...V6, nw_proto: '11', ...PORTS },
  ],
  [
    'an IPv6 packet with an authentication header',
    ethernet({}, ipv6({ extensions: [{ type: 51, body: new Array<number>(14).fill(0) }] }, udp())),
    { ...V6, nw_proto: '11', ...PORTS },
  ],
  [
    'an atomic IPv6 fragment is no fragment',
    ethernet({}, ipv6({ extensions: [fragment6(0, false)] }, udp())),
    { ...V6, nw_proto: '11', ...PORTS },
  ],
  ['an ICMPv6 echo', ethernet({}, ipv6({}, icmp6())), { ...V6, nw_proto: '3a', tcp_src: '80' }],
  ['no next header', ethernet({}, ipv6({}, payload(59, data(4)))), { ...V6, nw_proto: '3b' }],
  [
    'a neighbour solicitation',
    ethernet({}, ipv6({}, ndSolicit(unhex('0101020000000009')))),
    {
      ...V6,
      nw_proto: '3a',
      tcp_src: '87',
      nd_target: `fe80${'0'.repeat(27)}a`,
      arp_sha: '20000000009',
      nd_options_type: '1',
    },
  ],
  [
    'a neighbour advertisement',
    ethernet({}, ipv6({}, ndAdvert(unhex('0201020000000009')))),
    {
      ...V6,
      nw_proto: '3a',
      tcp_src: '88',
      nd_target: `fe80${'0'.repeat(27)}a`,
      arp_tha: '20000000009',
      nd_options_type: '2',
      nd_reserved: 'e0000000',
    },
  ],
  [
    'an advertisement with the options of both kinds: the first tells the type',
    ethernet({}, ipv6({}, ndAdvert(unhex('01010600000000070201020000000009')))),
    {
      ...V6,
      nw_proto: '3a',
      tcp_src: '88',
      nd_target: `fe80${'0'.repeat(27)}a`,
      arp_sha: '60000000007',
      arp_tha: '20000000009',
      nd_options_type: '1',
      nd_reserved: 'e0000000',
    },
  ],
  [
    'a solicitation with an option of another kind',
    ethernet({}, ipv6({}, ndSolicit(unhex('0e01000000000000')))),
    { ...V6, nw_proto: '3a', tcp_src: '87', nd_target: `fe80${'0'.repeat(27)}a` },
  ],
  [
    'a solicitation with the address twice: only the type of the option can be matched',
    ethernet({}, ipv6({}, ndSolicit(unhex('01010200000000090101020000000009')))),
    { ...V6, nw_proto: '3a', tcp_src: '87', nd_options_type: '1' },
  ],
  [
    'a solicitation with an option of length 0: reading stops there',
    ethernet({}, ipv6({}, ndSolicit(unhex('0100020000000009')))),
    { ...V6, nw_proto: '3a', tcp_src: '87', nd_target: `fe80${'0'.repeat(27)}a` },
  ],
  [
    'a solicitation with an option beyond the end',
    ethernet({}, ipv6({}, ndSolicit(unhex('0102020000000009')))),
    { ...V6, nw_proto: '3a', tcp_src: '87', nd_target: `fe80${'0'.repeat(27)}a` },
  ],
  [
    'an MPLS label: nothing behind it is looked at',
    ethernet({}, { type: 0x8847, bytes: cat(LABELS[3], ipv4({}, udp()).bytes) }),
    { ...L2, eth_type: '8847', mpls_0: '12d1ff' },
  ],
  [
    'three MPLS labels behind a tag',
    ethernet({ tags: [4] }, { type: 0x8848, bytes: cat(LABELS[0], LABELS[1], LABELS[3]) }),
    { ...L2, eth_type: '8848', vlan_tci: '1004', mpls_0: '10040', mpls_1: '11041', mpls_2: '12d1ff' },
  ],
  [
    'a solicitation with code 1 is no neighbour discovery',
    ethernet({}, ipv6({}, icmp6({ type: 135, code: 1, rest: 0, data: data(24) }))),
    { ...V6, nw_proto: '3a', tcp_src: '87', tcp_dst: '1' },
  ],
  [
    'an ARP request',
    ethernet({ dst: 'ff:ff:ff:ff:ff:ff' }, arp()),
    {
      ...L2,
      eth_dst: 'ffffffffffff',
      eth_type: '806',
      ip_src: 'a000001',
      ip_dst: 'a000002',
      nw_proto: '1',
      arp_sha: '20000000001',
    },
  ],
  [
    'an ARP reply',
    ethernet({}, arp({ op: 2, tha: 3 })),
    {
      ...L2,
      eth_type: '806',
      ip_src: 'a000001',
      ip_dst: 'a000002',
      nw_proto: '2',
      arp_sha: '20000000001',
      arp_tha: '20000000003',
    },
  ],
  [
    'an ARP opcode above 255 can not be matched',
    ethernet({}, arp({ op: 256 })),
    { ...L2, eth_type: '806', ip_src: 'a000001', ip_dst: 'a000002', arp_sha: '20000000001' },
  ],
  [
    'ARP for other hardware',
    ethernet({}, { type: 0x806, bytes: cat([0, 6], arp().bytes.subarray(2)) }),
    { ...L2, eth_type: '806' },
  ],
  [
    'a tagged frame',
    ethernet({ tags: [{ vid: 5, pcp: 3 }] }, ipv4({}, udp())),
    { ...V4, vlan_tci: '7005', nw_proto: '11', ...PORTS },
  ],
  [
    'a priority tag: VID 0 is a tag too',
    ethernet({ tags: [0] }, ipv4({}, udp())),
    { ...V4, vlan_tci: '1000', nw_proto: '11', ...PORTS },
  ],
  [
    'a frame with two tags: the inner one is the EtherType',
    ethernet({ tags: [{ tpid: 0x88a8, vid: 5 }, 6] }, ipv4({}, udp())),
    { ...L2, vlan_tci: '1005', eth_type: '8100' },
  ],
  ['a SNAP frame', ethernet({ snap: true }, ipv4({}, udp())), { ...V4, nw_proto: '11', ...PORTS }],
  [
    'a SNAP frame with a length for a type',
    ethernet({ snap: true, type: 0x500 }, data(50)),
    { ...L2, eth_type: ETH_TYPE_NONE.toString(16) },
  ],
  [
    'an 802.2 frame',
    ethernet({ type: 40 }, cat([0x42, 0x42, 3], data(37))),
    { ...L2, eth_type: ETH_TYPE_NONE.toString(16) },
  ],
  ['a frame of an unknown type', ethernet({ type: 0x88cc }, data(10)), { ...L2, eth_type: '88cc' }],
  [
    'Ethernet padding behind the packet',
    ethernet({ pad: 30 }, ipv4({}, udp())),
    { ...V4, nw_proto: '11', ...PORTS },
  ],
];

for (const [name, frame, want] of KNOWN) {
  test(`extract: ${name}`, () => assert.deepEqual(fields(frame), want));
}

test('extract: fragments show their place, and later ones no ports', () => {
  const parts = fragmentIpv4(ipv4({ id: 9 }, udp({ data: data(40) })), 36).map((p) => ethernet({}, p));
  assert.deepEqual(fields(parts[0]), { ...V4, nw_proto: '11', ip_frag: FRAG_ANY.toString(), ...PORTS });
  assert.deepEqual(fields(parts[1]), { ...V4, nw_proto: '11', ip_frag: (FRAG_ANY | FRAG_LATER).toString() });
  assert.deepEqual(fields(parts.at(-1)!), {
    ...V4,
    nw_proto: '11',
    ip_frag: (FRAG_ANY | FRAG_LATER).toString(),
  });
  const six = (offset: number, more: boolean) =>
    fields(ethernet({}, ipv6({ extensions: [fragment6(offset, more)] }, udp())));
  assert.deepEqual(six(0, true), { ...V6, nw_proto: '11', ip_frag: '1', ...PORTS });
  assert.deepEqual(six(64, true), { ...V6, nw_proto: '2c', ip_frag: '3' });
  assert.deepEqual(six(64, false), { ...V6, nw_proto: '2c', ip_frag: '3' });
});

test('extract: the layout says where the headers are', () => {
  const { layout } = parse(
    ethernet({ tags: [4], pad: 9 }, ipv4({ options: [1, 1, 1, 1] }, udp({ data: data(5) }))),
  );
  assert.deepEqual({ ...layout }, { vlanLimit: 1, mpls: -1, l3: 18, l4: 42, end: 55 });
  const six = parse(ethernet({}, ipv6({ extensions: [{ type: 0 }] }, tcp()))).layout;
  assert.deepEqual({ ...six }, { vlanLimit: 1, mpls: -1, l3: 14, l4: 62, end: 82 });
});

test('extract: more than three labels are skipped; without a bottom the stack ends with the frame', () => {
  const five = [LABELS[0], LABELS[1], LABELS[2], LABELS[2], LABELS[3]];
  const words = { mpls_0: '10040', mpls_1: '11041', mpls_2: '12042' };
  const frame = ethernet({}, { type: 0x8847, bytes: cat(...five, ipv4({}, udp()).bytes) });
  assert.deepEqual(fields(frame), { ...L2, eth_type: '8847', ...words });
  assert.deepEqual({ ...parse(frame).layout }, { vlanLimit: 1, mpls: 14, l3: 34, l4: -1, end: frame.length });
  const open = ethernet({}, { type: 0x8847, bytes: cat(LABELS[0], LABELS[1], [1, 2, 3]) });
  assert.deepEqual(fields(open), { ...L2, eth_type: '8847', mpls_0: '10040', mpls_1: '11041' });
  assert.deepEqual({ ...parse(open).layout }, { vlanLimit: 1, mpls: 14, l3: 22, l4: -1, end: 25 });
  const none = ethernet({}, { type: 0x8847, bytes: Uint8Array.of(1, 2, 3) });
  assert.deepEqual(fields(none), { ...L2, eth_type: '8847' });
  assert.deepEqual({ ...parse(none).layout }, { vlanLimit: 1, mpls: 14, l3: 14, l4: -1, end: 17 });
});

/** Only Ethernet and the EtherType: what there is of an IPv4 packet that can't be. */
const NO_V4 = { ...L2, eth_type: '800' };
const IMPOSSIBLE: [string, Bytes, Record<string, string>][] = [
  ['a header length of 4 words', ethernet({}, ipv4({ ihl: 4 }, udp())), NO_V4],
  ['a header longer than the frame', ethernet({}, ipv4({ ihl: 15 }, udp({ data: data(0) }))), NO_V4],
  ['a header longer than the total length', ethernet({}, ipv4({ ihl: 6, length: 22 }, udp())), NO_V4],
  ['a total length of less than a header', ethernet({}, ipv4({ length: 19 }, udp())), NO_V4],
  ['a total length of 0', ethernet({}, ipv4({ length: 0 }, udp())), NO_V4],
  [
    'a total length of one more than there is',
    ethernet({}, ipv4({ length: 37 }, udp({ data: data(8) }))),
    NO_V4,
  ],
  ['a total length of 65535', ethernet({}, ipv4({ length: 65535 }, udp())), NO_V4],
  [
    'a total length that leaves 7 bytes of UDP',
    ethernet({}, ipv4({ length: 27 }, udp())),
    { ...V4, nw_proto: '11' },
  ],
  [
    'a total length that leaves 19 bytes of TCP',
    ethernet({}, ipv4({ length: 39 }, tcp({ data: data(9) }))),
    { ...V4, nw_proto: '6' },
  ],
  [
    'a total length that leaves nothing',
    ethernet({}, ipv4({ length: 20 }, udp())),
    { ...V4, nw_proto: '11' },
  ],
  ['a TCP data offset of 4 words', ethernet({}, ipv4({}, tcp({ offset: 4 }))), { ...V4, nw_proto: '6' }],
  [
    'a TCP data offset beyond the segment',
    ethernet({}, ipv4({}, tcp({ offset: 6 }))),
    { ...V4, nw_proto: '6' },
  ],
  ['an ICMP message of 7 bytes', ethernet({}, ipv4({}, payload(1, data(7)))), { ...V4, nw_proto: '1' }],
  ['an SCTP packet of 11 bytes', ethernet({}, ipv4({}, payload(132, data(11)))), { ...V4, nw_proto: '84' }],
  [
    'an IPv6 payload length of one more than there is',
    ethernet({}, ipv6({ length: 17 }, udp())),
    { ...L2, eth_type: '86dd' },
  ],
  [
    'an IPv6 payload length of 65535',
    ethernet({}, ipv6({ length: 65535 }, udp())),
    { ...L2, eth_type: '86dd' },
  ],
  ['an IPv6 payload length of 0', ethernet({}, ipv6({ length: 0 }, udp())), { ...V6, nw_proto: '11' }],
  [
    'an IPv6 extension header beyond the end',
    ethernet({}, ipv6({ extensions: [{ type: 0, length: 9 }] }, udp())),
    { ...L2, eth_type: '86dd', ipv6_src: V6.ipv6_src, ipv6_dst: V6.ipv6_dst },
  ],
  [
    'an IPv6 extension header of 7 bytes',
    ethernet({}, ipv6({ proto: 60 }, payload(60, data(7)))),
    { ...L2, eth_type: '86dd', ipv6_src: V6.ipv6_src, ipv6_dst: V6.ipv6_dst },
  ],
  ['an ICMPv6 message of 7 bytes', ethernet({}, ipv6({}, payload(58, data(7)))), { ...V6, nw_proto: '3a' }],
  [
    'a neighbour solicitation without its target',
    ethernet({}, ipv6({}, icmp6({ type: 135, rest: 0, data: data(15) }))),
    { ...V6, nw_proto: '3a', tcp_src: '87' },
  ],
  [
    'an ARP packet of 27 bytes',
    ethernet({}, { type: 0x806, bytes: arp().bytes.subarray(0, 27) }),
    { ...L2, eth_type: '806' },
  ],
  [
    'a tag without an EtherType behind it',
    ethernet({}, { type: 0x8100, bytes: Uint8Array.of(0, 5, 8) }),
    { ...L2, eth_type: '8100' },
  ],
  [
    'a SNAP header cut off',
    ethernet({ type: 7 }, unhex('aaaa0300000008')),
    { ...L2, eth_type: ETH_TYPE_NONE.toString(16) },
  ],
  [
    'a SNAP header of another organisation',
    ethernet({ type: 40 }, cat(unhex('aaaa03000c290800'), ipv4({}, udp()).bytes)),
    { ...L2, eth_type: ETH_TYPE_NONE.toString(16) },
  ],
];

for (const [name, frame, want] of IMPOSSIBLE) {
  test(`extract: ${name}`, () => assert.deepEqual(fields(frame), want));
}

test('extract: 65,536 bytes behind the IP packet make it unreadable, one fewer does not', () => {
  assert.deepEqual(fields(ethernet({ pad: 0xffff }, ipv4({}, udp()))), { ...V4, nw_proto: '11', ...PORTS });
  assert.deepEqual(fields(ethernet({ pad: 0x10000 }, ipv4({}, udp()))), NO_V4);
  assert.deepEqual(fields(ethernet({ pad: 0x10000 }, ipv6({}, udp()))), { ...L2, eth_type: '86dd' });
});

test('extract: cut at any byte, a packet shows its Ethernet header and nothing of what is incomplete', () => {
  for (const [name, frame, whole] of KNOWN) {
    const { layout } = parse(frame);
    // Nothing is lost until the cut reaches into the IP packet, or the part of ARP that counts.
    const end = layout.l4 >= 0 ? layout.end : whole.eth_type === '806' ? 42 : -1;
    for (let n = 0; n < frame.length; n++) {
      const cut = frame.slice(0, n);
      const got = fields(cut);
      if (n < 14) assert.deepEqual(got, {}, `${name}, cut at ${n}`);
      else if (end >= 0 && n >= end) assert.deepEqual(got, whole, `${name}, cut at ${n}`);
      else {
        // With a tag the EtherType may be lost as well.
        const { eth_dst, eth_src, vlan_tci, eth_type } = got;
        assert.deepEqual(
          { eth_dst, eth_src },
          { eth_dst: whole.eth_dst, eth_src: whole.eth_src },
          `${name}, cut at ${n}`,
        );
        if (n >= 22)
          assert.deepEqual(
            { vlan_tci, eth_type },
            { vlan_tci: whole.vlan_tci, eth_type: whole.eth_type },
            `${name}, cut at ${n}`,
          );
        const rest = Object.keys(got).filter(
          (k) => !['eth_dst', 'eth_src', 'vlan_tci', 'eth_type'].includes(k) && !k.startsWith('mpls'),
        );
        assert.deepEqual(rest, [], `${name}, cut at ${n}`);
      }
    }
  }
});

test('extract: random changes never make it throw, read on behind the frame, or depend on what is there', () => {
  const r = new Random(Number(process.env.SHARDTRACK_PROPERTY_SEED ?? 42));
  for (let i = 0; i < 4000; i++) {
    const frame = r.pick(KNOWN)[1].slice(0, 14 + r.int(120));
    for (let n = r.int(6); n > 0; n--) frame[r.int(frame.length)] = r.int(256);
    parse(frame);
  }
  assert.ok(u16(0).length === 2);
});
