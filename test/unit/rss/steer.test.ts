/** Homes: both directions of a connection, and errors about it, go to one worker however they are wrapped. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Steering } from '../../../src/rss/steer.js';
import { defaultIndirection, Toeplitz } from '../../../src/rss/toeplitz.js';
import {
  arp,
  type Bytes,
  data,
  type EthernetOptions,
  ethernet,
  fragment6,
  fragmentIpv4,
  fragmentIpv6,
  icmp,
  icmp6,
  ipv4,
  ipv6,
  type Layer3,
  type Layer4,
  Random,
  sctp,
  tcp,
  udp,
  view,
} from '../../support/packets.js';

const SEED = 20_251_123;

function home(steering: Steering, frame: Bytes): string {
  // At an odd offset, with bytes around it that must not matter.
  const room = new Uint8Array(frame.length + 40).fill(0xa5);
  room.set(frame, 17);
  steering.locate(view(room), 17, frame.length);
  return `${steering.hash} at ${steering.home}`;
}

/** A random conversation: packets of both directions by how they are wrapped. */
function conversation(r: Random): {
  there: (eth?: EthernetOptions) => Bytes;
  back: (eth?: EthernetOptions) => Bytes;
  l3: Layer3;
  l3Back: Layer3;
  six: boolean;
} {
  const six = r.once(2);
  const host = () =>
    six
      ? `fd00:${r.int(65536).toString(16)}::${(1 + r.int(65535)).toString(16)}`
      : `${1 + r.int(223)}.${r.int(256)}.${r.int(256)}.${r.int(256)}`;
  const [a, b] = [host(), r.once(10) ? host() : host()];
  const [ap, bp] = [1 + r.int(65535), 1 + r.int(65535)];
  const kind = r.pick(['tcp', 'udp', 'sctp', 'echo'] as const);
  const l4 = (reply: boolean): Layer4 => {
    const [sport, dport] = reply ? [bp, ap] : [ap, bp];
    if (kind === 'tcp') return tcp({ sport, dport });
    if (kind === 'udp') return udp({ sport, dport });
    if (kind === 'sctp') return sctp({ sport, dport });
    const rest = ((ap << 16) | r.int(65536)) >>> 0;
    return six ? icmp6({ type: reply ? 129 : 128, rest }) : icmp({ type: reply ? 0 : 8, rest });
  };
  const ip = (reply: boolean): Layer3 => {
    const ends = reply ? { src: b, dst: a } : { src: a, dst: b };
    return six
      ? ipv6({ ...ends, extensions: r.once(4) ? [{ type: 60 }] : [] }, l4(reply))
      : ipv4({ ...ends, options: r.once(4) ? [1, 1, 1, 1] : [] }, l4(reply));
  };
  const l3 = ip(false);
  const l3Back = ip(true);
  return {
    there: (eth = {}) => ethernet(eth, l3),
    back: (eth = {}) => ethernet(eth, l3Back),
    l3,
    l3Back,
    six,
  };
}

function steerings(r: Random): Steering[] {
  return [2, 3, 5].map(
    (workers) => new Steering(new Toeplitz(r.bytes(40)), defaultIndirection(workers), SEED),
  );
}

test('steering: both directions of a connection have one hash and home, with any key (seeded property)', () => {
  for (let seed = 1; seed <= 300; seed++) {
    const r = new Random(seed);
    const c = conversation(r);
    for (const s of steerings(r)) assert.equal(home(s, c.back()), home(s, c.there()), `seed ${seed}`);
  }
});

test('steering: tagged, double tagged, SNAP and padded frames go where the plain frame goes', () => {
  const wraps: EthernetOptions[] = [
    { tags: [5] },
    { tags: [{ tpid: 0x88a8, vid: 7 }, 5] },
    { tags: [1, 2, 3] },
    { tags: [{ tpid: 0x9100, vid: 7 }, 5] },
    { snap: true },
    { snap: true, tags: [5] },
    { pad: 18 },
    { src: 9, dst: 8 },
  ];
  for (let seed = 1; seed <= 100; seed++) {
    const r = new Random(seed);
    const c = conversation(r);
    for (const s of steerings(r)) {
      for (const wrap of wraps)
        assert.equal(home(s, c.there(wrap)), home(s, c.there()), `seed ${seed}: ${JSON.stringify(wrap)}`);
    }
  }
});

test('steering: an ICMP error goes where the packet goes that it is about, whoever sent the error', () => {
  for (let seed = 1; seed <= 300; seed++) {
    const r = new Random(seed);
    const c = conversation(r);
    for (const about of [c.l3, c.l3Back]) {
      const keep = r.once(2) ? about.bytes : about.bytes.subarray(0, about.bytes.length - 4);
      const error = c.six
        ? ipv6({ src: 'fe80::99', dst: 'fd00::1' }, icmp6({ type: 1 + r.int(4), rest: 0, data: keep }))
        : ipv4(
            { src: '9.9.9.9', dst: '10.0.0.1' },
            icmp({ type: r.pick([3, 4, 5, 11, 12]), rest: 0, data: keep }),
          );
      for (const s of steerings(r))
        assert.equal(home(s, ethernet({}, error)), home(s, c.there()), `seed ${seed}`);
    }
  }
});

test('steering: fragments follow the first one, which goes where the whole datagram would', () => {
  for (let seed = 1; seed <= 200; seed++) {
    const r = new Random(seed);
    const s = new Steering(new Toeplitz(r.bytes(40)), defaultIndirection(5), SEED);
    s.reassembles = true;
    const cut = (id: number) => {
      const six = r.once(2);
      const quoted = ipv4({ src: '10.0.0.2', dst: '10.0.0.1' }, udp({ sport: r.int(9), data: data(90) }));
      const l4 = r.once(4)
        ? six
          ? icmp6({ rest: r.word(), data: data(200) })
          : icmp({ type: r.pick([3, 8]), rest: r.word(), data: quoted.bytes })
        : udp({ sport: 1 + r.int(9), dport: 1 + r.int(9), data: data(200) });
      const whole = six ? ipv6({}, l4) : ipv4({}, l4);
      const numbered = six ? whole : ipv4({ id }, l4);
      const parts = six ? fragmentIpv6(whole, 104 + r.int(80), id) : fragmentIpv4(numbered, 84 + r.int(60));
      return { want: home(s, ethernet({}, whole)), hash: s.hash, parts };
    };
    // Two datagrams at once.
    const [a, b] = [cut(1), cut(2)];
    const tags = r.once(2) ? [4] : [];
    for (let i = 0; i < 9; i++) {
      for (const { want, hash, parts } of [a, b]) {
        if (parts[i] === undefined) continue;
        const frame = ethernet({ tags }, parts[i]);
        assert.ok(s.mayBeFragment(view(frame), 0, frame.length));
        assert.deepEqual([home(s, frame), s.hash], [want, hash], `seed ${seed}, fragment ${i}`);
      }
    }
  }
});

test('steering: a number that two datagrams have is in doubt until somebody tells', () => {
  const s = new Steering(new Toeplitz(new Random(4).bytes(40)), defaultIndirection(5), SEED);
  s.reassembles = true;
  const cut = (sport: number) =>
    fragmentIpv4(ipv4({ id: 7 }, udp({ sport, data: data(200) })), 100).map((p) => ethernet({}, p));
  const doubt = (frame: Bytes) => s.doubt(view(frame), 0, frame.length);
  const [a, b] = [cut(1), cut(2)];
  const first = home(s, a[0]);
  const place = { hash: s.hash, home: s.home };
  assert.equal(doubt(a[1]), '');
  assert.notEqual(home(s, b[0]), first);
  assert.notEqual(doubt(a[1]), '');
  assert.equal(doubt(a[0]), '', 'a first fragment knows where it belongs');
  assert.equal(doubt(ethernet({}, ipv4({}, udp()))), '');
  s.settle(doubt(a[1]), place);
  assert.equal(home(s, a[1]), first);
  assert.notEqual(doubt(a[1]), '', 'not for good');
  s.settle(doubt(a[1]), 'none');
  assert.equal(doubt(a[1]), '');
  home(s, a[0]);
  assert.equal(home(s, a[2]), first, 'it begins anew');
});

test('steering: without reassembly later fragments go by addresses', () => {
  const s = new Steering(new Toeplitz(new Random(4).bytes(40)), defaultIndirection(5), SEED);
  const hashes = [1, 2].map((sport) => {
    const parts = fragmentIpv4(ipv4({ id: 7 }, udp({ sport, data: new Uint8Array(200) })), 60);
    return parts.map((part) => {
      home(s, ethernet({}, part));
      return s.hash;
    });
  });
  assert.notEqual(hashes[0][0], hashes[1][0]);
  assert.equal(new Set([...hashes[0].slice(1), ...hashes[1].slice(1)]).size, 1);
});

test('steering: what is no fragment is known to be none without a parse', () => {
  const s = new Steering(new Toeplitz(new Random(4).bytes(40)), defaultIndirection(5), SEED);
  for (const l3 of [ipv4({ frag: 0x4000 }, udp()), ipv6({}, udp()), arp()]) {
    for (const tags of [[], [3], [3, 4]]) {
      const frame = ethernet({ tags }, l3);
      for (let n = 0; n <= frame.length; n++) {
        assert.ok(!s.mayBeFragment(view(frame.slice(0, n)), 0, n));
      }
    }
  }
  const hidden = ethernet({}, ipv6({ extensions: [{ type: 0 }, fragment6(8, false)] }, udp()));
  assert.ok(s.mayBeFragment(view(hidden), 0, hidden.length));
});

test('steering: connections spread over the homes', () => {
  const s = new Steering(new Toeplitz(new Random(9).bytes(40)), defaultIndirection(4), SEED);
  const counts = [0, 0, 0, 0];
  for (let i = 0; i < 2000; i++) {
    const frame = ethernet({}, ipv4({ src: `10.0.${i >> 8}.${i & 255}` }, udp({ sport: 1024 + i })));
    s.locate(view(frame), 0, frame.length);
    counts[s.home]++;
  }
  for (const n of counts) assert.ok(n > 300 && n < 700, `${counts}`);
});

test('steering: any bytes of any length have a home, and reading stops at the end of the frame', () => {
  const s = new Steering(new Toeplitz(new Random(2).bytes(40)), defaultIndirection(3), SEED);
  const r = new Random(3);
  for (let i = 0; i < 2000; i++) {
    const c = conversation(r);
    const frame = r.once(2) ? c.there({ tags: r.once(2) ? [4] : [] }) : r.bytes(r.int(80));
    const cut = frame.slice(0, r.int(frame.length + 1));
    if (cut.length > 14) cut[12 + r.int(cut.length - 12)] = r.int(256);
    // A view of just these bytes throws where the code reads on.
    s.locate(view(cut), 0, cut.length);
    assert.ok(s.home >= 0 && s.home < 3);
  }
});
