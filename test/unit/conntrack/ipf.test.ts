/** Reassembly: which fragments come together, which are refused, and what is left behind. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FLOW, KEY_WORDS } from '../../../src/classifier/flow-key.js';
import {
  Arrival,
  FRAGMENT_COMPLETES,
  FRAGMENT_HELD,
  FRAGMENT_INVALID,
  FRAGMENT_PASSED,
  Reassembly,
} from '../../../src/conntrack/ipf.js';
import { extract } from '../../../src/wire/extract.js';
import {
  type Bytes,
  cat,
  data,
  ethernet,
  fragment6,
  fragmentIpv4,
  fragmentIpv6,
  hex,
  ipv4,
  ipv6,
  type Layer3,
  payload,
  Random,
  udp,
  view,
} from '../../support/packets.js';

const ANSWERS = ['passed', 'invalid', 'held', 'complete'];

interface Where {
  zone?: number;
  recirc?: number;
  hash?: number;
}

/** A reassembly that takes frames from an arena and says what it does in words. */
class Bench {
  readonly r = new Reassembly();
  now = 0;
  private readonly arena = new Uint8Array(70_000).fill(0xa5);
  private readonly arrival = new Arrival(this.arena, view(this.arena));

  send(l3: Layer3 | Bytes, { zone = 0, recirc = 0, hash = 0 }: Where = {}): string {
    const frame = l3 instanceof Uint8Array ? l3 : ethernet({}, l3);
    const { arrival, arena } = this;
    arena.set(frame, 33);
    const key = new Int32Array(KEY_WORDS);
    extract(arrival.view, 33, frame.length, key, arrival.layout);
    key[FLOW.RECIRC_ID] = recirc;
    arrival.off = 33;
    arrival.len = frame.length;
    arrival.packet(key, zone, hash);
    const answer = this.r.arrive(arrival, this.now);
    if (answer < FRAGMENT_COMPLETES) assert.equal(this.r.completed.length, 0);
    this.last = frame.slice();
    // What is held must not depend on the arena.
    arena.fill(0xa5, 33, 33 + frame.length);
    return ANSWERS[answer];
  }

  /** Frames of the datagram that was completed last. */
  frames(): string[] {
    assert.equal(this.r.completed.filter((f) => f.bytes === null).length, 1, 'one has just arrived');
    return this.r.completed.map((f) => hex(f.bytes ?? this.last));
  }
  private last = new Uint8Array();
}

const big = (id = 1, bytes = 3500) => ipv4({ id }, udp({ data: data(bytes) }));
const cut = (id = 1, bytes = 3500, mtu = 1300) => fragmentIpv4(big(id, bytes), mtu);
const cut6 = (id = 1, bytes = 3500, mtu = 1300) =>
  fragmentIpv6(ipv6({}, udp({ data: data(bytes) })), mtu, id);
const frames = (parts: Layer3[]) => parts.map((p) => hex(ethernet({}, p)));

test('ipf: the names of the answers', () => {
  assert.deepEqual([FRAGMENT_PASSED, FRAGMENT_INVALID, FRAGMENT_HELD, FRAGMENT_COMPLETES], [0, 1, 2, 3]);
});

for (const [version, make] of [
  ['IPv4', cut],
  ['IPv6', cut6],
] as const) {
  test(`ipf: ${version} fragments in any order make the datagram, and come out in order`, () => {
    for (const order of [
      [0, 1, 2],
      [0, 2, 1],
      [1, 0, 2],
      [1, 2, 0],
      [2, 0, 1],
      [2, 1, 0],
    ]) {
      const b = new Bench();
      const parts = make();
      assert.equal(parts.length, 3);
      const answers = order.map((i) => b.send(parts[i]));
      assert.deepEqual(answers, ['held', 'held', 'complete'], `${order}`);
      assert.deepEqual(b.frames(), frames(parts), `${order}`);
      assert.equal(b.r.held, 0);
    }
  });

  test(`ipf: ${version}: any cuts, any order, several datagrams at once (seeded property)`, () => {
    for (let seed = 1; seed <= 60; seed++) {
      const r = new Random(seed);
      const b = new Bench();
      const all = Array.from({ length: 1 + r.int(5) }, (_, id) => {
        const parts = make(id, 3300 + r.int(20_000), 1288 + r.int(2000));
        return parts.map((part) => ({ id, part, parts }));
      });
      const queue = all.flat();
      const left = all.map((parts) => parts.length);
      while (queue.length > 0) {
        const [{ id, part, parts }] = queue.splice(r.int(queue.length), 1);
        const want = --left[id] === 0 ? 'complete' : 'held';
        assert.equal(b.send(part, { zone: id & 1 }), want, `seed ${seed}`);
        if (want === 'complete') assert.deepEqual(b.frames(), frames(parts), `seed ${seed}`);
      }
      assert.equal(b.r.held, 0, `seed ${seed}`);
      assert.equal(b.r.oldest, Infinity);
      const { accepted, completed } = make === cut ? b.r.v4 : b.r.v6;
      assert.equal(accepted, completed);
    }
  });

  test(`ipf: ${version}: the same bytes again are invalid, whatever they say`, () => {
    const b = new Bench();
    const parts = make();
    assert.equal(b.send(parts[0]), 'held');
    assert.equal(b.send(parts[0]), 'invalid');
    assert.equal(b.send(parts[2]), 'held');
    assert.equal(b.send(parts[2]), 'invalid');
    assert.equal(b.send(make(1, 3500, 1308)[1]), 'invalid', 'overlaps at either end');
    assert.equal(b.send(parts[1]), 'complete');
    assert.equal((version === 'IPv4' ? b.r.v4 : b.r.v6).overlapped, 3);
    assert.equal(b.send(parts[1]), 'held', 'afterwards it begins anew');
  });

  test(`ipf: ${version}: fragments of other zones, passes and datagrams don't come together`, () => {
    const b = new Bench();
    const parts = make(1, 2000);
    const other = make(2, 2000);
    assert.equal(b.send(parts[0]), 'held');
    assert.equal(b.send(parts[1], { zone: 1 }), 'held');
    assert.equal(b.send(parts[1], { recirc: 1 }), 'held');
    assert.equal(b.send(other[1]), 'held');
    assert.equal(b.send(parts[0], { zone: 1 }), 'complete');
    assert.equal(b.send(parts[1]), 'complete');
    assert.equal(b.r.held, 2);
  });

  test(`ipf: ${version}: a fragment below the least size is invalid, unless it is the last`, () => {
    const b = new Bench();
    const least = version === 'IPv4' ? 1200 : 1280;
    const own = version === 'IPv4' ? b.r.v4 : b.r.v6;
    const head = version === 'IPv4' ? 20 : 48;
    const of = (size: number) => make(1, 2000, size + ((head - size) & 7))[0];
    assert.equal(own.minSize, least);
    for (let size = least - 16; size < least + 16; size++) {
      const part = of(size);
      const bytes = part.bytes.length;
      assert.equal(new Bench().send(part), bytes < least ? 'invalid' : 'held', `${bytes}`);
    }
    assert.equal(b.send(of(least - 8)), 'invalid');
    assert.equal(own.tooSmall, 1);
    assert.equal(b.send(make(1, 1300)[1]), 'held', 'a small last one waits');
    own.minSize = 400;
    assert.equal(b.send(of(least - 8)), 'held');
  });

  test(`ipf: ${version}: switched off, all pass, and what was held stays`, () => {
    const b = new Bench();
    const parts = make(1, 2000);
    assert.equal(b.send(parts[0]), 'held');
    const own = version === 'IPv4' ? b.r.v4 : b.r.v6;
    own.enabled = false;
    assert.equal(b.send(parts[1]), 'passed');
    assert.equal(b.r.held, 1);
    own.enabled = true;
    assert.equal(b.send(parts[1]), 'complete');
  });
}

test('ipf: an IPv4 header with a wrong checksum makes a fragment invalid', () => {
  const b = new Bench();
  const frame = ethernet({}, cut()[0]);
  frame[14 + 8] ^= 1;
  assert.equal(b.send(frame), 'invalid');
  assert.equal(b.r.v4.tooSmall, 0);
});

test('ipf: the protocol belongs to the key in IPv4, not in IPv6', () => {
  const b = new Bench();
  const [first, second] = cut6(1, 2000);
  second.bytes[40] = 6;
  assert.equal(b.send(first), 'held');
  assert.equal(b.send(second), 'complete');
  const tcpLike = fragmentIpv4(ipv4({ id: 1 }, payload(99, data(2008))), 1300);
  assert.equal(b.send(cut(1, 2000)[0]), 'held');
  assert.equal(b.send(tcpLike[1]), 'held');
});

test('ipf: no more fragments than allowed are held; others pass', () => {
  const b = new Bench();
  b.r.maxFragments = 5;
  for (let id = 0; id < 5; id++) assert.equal(b.send(cut(id, 2000)[0]), 'held');
  assert.equal(b.send(cut(9, 2000)[0]), 'passed');
  assert.equal(b.send(cut(3, 2000)[1]), 'passed', 'even one that would complete a datagram');
  b.r.maxFragments = 6;
  assert.equal(b.send(cut(3, 2000)[1]), 'complete');
  assert.equal(b.r.held, 4);
});

test('ipf: a datagram that is longer than IP can tell is never complete, and takes no more', () => {
  const piece = (offset: number, bytes: number, more: boolean) =>
    ipv4({ id: 5, frag: (more ? 0x2000 : 0) | (offset / 8) }, payload(17, data(bytes)));
  const b = new Bench();
  for (let at = 0; at < 64_000; at += 1600) assert.equal(b.send(piece(at, 1600, true)), 'held');
  assert.equal(b.send(piece(64_000, 1520, false)), 'held', 'with the Ethernet header that is 65,554 bytes');
  assert.equal(b.send(piece(0, 1600, true)), 'passed');
  const ping = new Bench();
  assert.equal(ping.send(piece(65_528, 100, false)), 'held', 'it would end at 65,628');
  for (let at = 1600; at < 65_528; at += 1600) {
    assert.equal(ping.send(piece(at, Math.min(1600, 65_528 - at), true)), 'held');
  }
  assert.equal(ping.send(piece(0, 1600, true)), 'held');
  assert.equal(ping.send(piece(0, 1600, true)), 'passed');
});

test('ipf: a list has room for as many fragments as the least size allows', () => {
  const b = new Bench();
  const piece = (n: number) => ipv4({ id: 5, frag: 0x2000 | (n + 1) }, payload(17, data(8)));
  b.r.v4.minSize = 20_000; // four fragments
  for (let n = 0; n < 4; n++) {
    // The least size does not hold for a last one.
    const last = ipv4({ id: 5, frag: 100 + n }, payload(17, data(8)));
    assert.equal(b.send(last), 'held');
  }
  assert.equal(b.send(ipv4({ id: 5, frag: 200 }, payload(17, data(8)))), 'passed');
  assert.equal(b.send(piece(0)), 'invalid');
});

test('ipf: after 15 s the next ct() drops a datagram, one each time, the oldest first', () => {
  const b = new Bench();
  for (let id = 0; id < 3; id++) {
    b.now = id * 1000;
    b.send(cut(id, 2000)[0]);
  }
  assert.equal(b.r.oldest, 15_000);
  b.r.expire(15_000, 5);
  assert.equal(b.r.held, 3);
  b.r.expire(15_001, 0);
  assert.equal(b.r.held, 3);
  b.r.expire(16_500, 1);
  assert.deepEqual([b.r.held, b.r.v4.expired, b.r.oldest], [2, 1, 16_000]);
  b.r.expire(16_500, 9);
  assert.deepEqual([b.r.held, b.r.v4.expired, b.r.oldest], [1, 2, 17_000]);
  b.now = 20_000;
  assert.equal(b.send(cut(2, 2000)[1]), 'complete', 'late, but nobody has dropped it');
  assert.equal(b.r.oldest, Infinity);
});

test('ipf: 10 s later a datagram goes even if nothing came through ct()', () => {
  for (const [now, want] of [
    [24_999, 'complete'],
    [25_000, 'held'],
  ] as const) {
    const b = new Bench();
    b.send(cut6(1, 2000)[0]);
    b.now = now;
    assert.equal(b.send(cut6(1, 2000)[1]), want);
    assert.equal(b.r.v6.purged, want === 'complete' ? 0 : 1);
    assert.equal(b.r.held, want === 'complete' ? 0 : 1);
  }
});

test('ipf: a datagram is not completed by a packet that is ordered with others', () => {
  const b = new Bench();
  const parts = cut();
  b.send(parts[1], { hash: 9 });
  b.send(parts[0], { hash: 1 });
  assert.equal(b.send(parts[2], { hash: 2 }), 'held');
  assert.equal(b.send(parts[2], { hash: 1 }), 'passed', 'it has failed');
  const other = new Bench();
  other.send(parts[1], { hash: 9 });
  other.send(parts[2], { hash: 8 });
  assert.equal(other.send(parts[0], { hash: 1 }), 'complete', 'the first one shows the ports');
});

test('ipf: IPv6: behind the fragment header only the upper layer counts, and atomic ones are none', () => {
  const b = new Bench();
  const atomic = ipv6({ extensions: [fragment6(0, false)] }, udp({ data: data(2000) }));
  const reserved = cat(ethernet({}, atomic));
  reserved[14 + 40 + 3] |= 2;
  assert.equal(b.send(reserved), 'passed');
  // Extension headers behind the fragment header are not counted, so nothing ever fits behind them.
  const first = ipv6({ extensions: [fragment6(0, true), { type: 60 }] }, payload(17, data(1280)));
  const second = ipv6({ extensions: [fragment6(1288, false)] }, payload(17, data(100)));
  assert.equal(b.send(first), 'held');
  assert.equal(b.send(second), 'held');
  const before = ipv6({ extensions: [{ type: 60 }, fragment6(0, true, 2)] }, payload(17, data(1280)));
  const after = ipv6({ extensions: [{ type: 0 }, fragment6(1280, false, 2)] }, payload(17, data(100)));
  assert.equal(b.send(before), 'held');
  assert.equal(b.send(after), 'complete');
});

test('ipf: Ethernet padding belongs to the frame, not to the fragment', () => {
  const b = new Bench();
  const parts = cut(1, 1300).map((p) => ethernet({ pad: 40 }, p));
  b.send(parts[1]);
  assert.equal(b.send(parts[0]), 'complete');
  assert.deepEqual(b.frames(), parts.map(hex));
});

test('ipf: the lists as dpctl shows them', () => {
  const b = new Bench();
  b.send(cut(7, 4000)[1], { zone: 3, recirc: 2 });
  b.send(cut6(0x12345678, 4000)[0]);
  b.send(cut6(0x12345678, 4000)[1]);
  b.send(cut(8, 4000)[3]);
  assert.deepEqual(b.r.describeLists(), [
    '(src=10.0.0.1,dst=10.0.0.2,recirc_id=2,ip_id=7,dl_type=0x800,zone=3,nw_proto=17,num_fragments=1,state=other frag)',
    '(src=fd00::1,dst=fd00::2,recirc_id=0,ip_id=305419896,dl_type=0x86dd,zone=0,nw_proto=0,num_fragments=2,state=first frag)',
    '(src=10.0.0.1,dst=10.0.0.2,recirc_id=0,ip_id=8,dl_type=0x800,zone=0,nw_proto=17,num_fragments=1,state=last frag)',
  ]);
});
