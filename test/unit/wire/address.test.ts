/** Addresses as text: the forms that inet_ntop(3) of glibc prints. */
import assert from 'node:assert/strict';
import { isIPv6 } from 'node:net';
import { test } from 'node:test';
import { formatIpv4, formatIpv6, ipv4TextRank } from '../../../src/wire/address.js';
import { Random } from '../../support/packets.js';

const words = (...groups: number[]) =>
  Int32Array.from({ length: 4 }, (_, i) => (groups[2 * i] << 16) | groups[2 * i + 1]);

test('address: dotted quads, the sign bit included', () => {
  assert.equal(formatIpv4(0), '0.0.0.0');
  assert.equal(formatIpv4(-1), '255.255.255.255');
  assert.equal(formatIpv4(0x0a000001), '10.0.0.1');
  assert.equal(formatIpv4(0xc0a80101 | 0), '192.168.1.1');
});

test('address: ranks of IPv4 addresses are in the order of their texts', () => {
  const r = new Random(3);
  const octets = [0, 1, 2, 9, 10, 11, 19, 20, 25, 99, 100, 101, 199, 200, 250, 255];
  const address = (): number =>
    (r.pick(octets) << 24) | (r.pick(octets) << 16) | (r.pick(octets) << 8) | r.pick(octets);
  for (let i = 0; i < 2000; i++) {
    const a = address();
    const b = r.once(2) ? address() : a ^ (r.int(256) << (8 * r.int(4)));
    const [x, y] = [formatIpv4(a), formatIpv4(b)];
    assert.equal(Math.sign(ipv4TextRank(a) - ipv4TextRank(b)), x < y ? -1 : x > y ? 1 : 0, `${x} and ${y}`);
  }
});

// What Python's socket.inet_ntop (glibc) says.
const KNOWN: [number[], string][] = [
  [[0, 0, 0, 0, 0, 0, 0, 0], '::'],
  [[0, 0, 0, 0, 0, 0, 0, 1], '::1'],
  [[0, 0, 0, 0, 0, 0, 1, 0], '::0.1.0.0'],
  [[0, 0, 0, 0, 0, 0, 0x102, 0x304], '::1.2.3.4'],
  [[0, 0, 0, 0, 0, 0xffff, 0x102, 0x304], '::ffff:1.2.3.4'],
  [[0, 0, 0, 0, 0, 0xfffe, 0x102, 0x304], '::fffe:102:304'],
  [[0, 0, 0, 0, 0xffff, 0, 0x102, 0x304], '::ffff:0:102:304'],
  [[0, 0, 0, 0, 0, 1, 0, 0], '::1:0:0'],
  [[0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], '2001:db8::'],
  [[0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], '2001:db8::1'],
  [[0x2001, 0xdb8, 0, 1, 1, 1, 1, 1], '2001:db8:0:1:1:1:1:1'],
  [[1, 0, 0, 2, 0, 0, 0, 3], '1:0:0:2::3'],
  [[1, 0, 0, 2, 3, 0, 0, 4], '1::2:3:0:0:4'],
  [[0, 1, 0, 1, 0, 1, 0, 1], '0:1:0:1:0:1:0:1'],
  [[1, 2, 3, 4, 5, 6, 0, 0], '1:2:3:4:5:6::'],
  [[0, 0, 1, 2, 3, 4, 5, 6], '::1:2:3:4:5:6'],
  [[0xfe80, 0, 0, 0, 0x200, 0xf8ff, 0xfe21, 0x67cf], 'fe80::200:f8ff:fe21:67cf'],
  [
    [0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff],
    'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff',
  ],
];

for (const [groups, text] of KNOWN) {
  test(`address: ${text}`, () => {
    const at = words(...groups);
    assert.equal(formatIpv6(at, 0), text);
    assert.equal(formatIpv6(Int32Array.of(9, 9, ...at, 9), 2), text);
  });
}

test('address: any IPv6 address reads back as itself (seeded property)', () => {
  const r = new Random(6);
  for (let i = 0; i < 500; i++) {
    const groups = Array.from({ length: 8 }, () => (r.once(2) ? 0 : r.int(65536)));
    const text = formatIpv6(words(...groups), 0);
    assert.ok(isIPv6(text), text);
    // The URL parser's own normal form is the same address.
    assert.equal(
      new URL(`http://[${text}]`).hostname,
      new URL(`http://[${groups.map((g) => g.toString(16)).join(':')}]`).hostname,
    );
  }
});
