/** `--inside`: sets of prefixes and which frames come from them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PrefixSet } from '../../../src/wire/cidr.js';
import { arp, type Bytes, data, ethernet, icmp6, ipv4, ipv6, udp, view } from '../../support/packets.js';

function inside(set: string, frame: Bytes): boolean {
  const room = new Uint8Array(frame.length + 10);
  room.set(frame, 5);
  return new PrefixSet(set).holdsSource(view(room), 5, frame.length);
}
const from = (src: string, tags: number[] = []) =>
  ethernet({ tags }, src.includes(':') ? ipv6({ src }, udp()) : ipv4({ src }, udp()));

const ROWS: [string, string, boolean][] = [
  ['10.0.0.0/8', '10.255.0.1', true],
  ['10.0.0.0/8', '11.0.0.1', false],
  ['10.1.2.3/8', '10.9.9.9', true],
  ['0.0.0.0/0', '203.0.113.9', true],
  ['0.0.0.0/0', 'fd00::1', false],
  ['10.0.0.1', '10.0.0.1', true],
  ['10.0.0.1', '10.0.0.2', false],
  ['10.0.0.0/31', '10.0.0.1', true],
  ['10.0.0.0/31', '10.0.0.2', false],
  ['128.0.0.0/1', '200.0.0.1', true],
  ['192.168.0.0/16, 10.0.0.0/8', '10.1.1.1', true],
  ['fd00::/8', 'fd12::9', true],
  ['fd00::/8', 'fe80::9', false],
  ['fd00::1/128', 'fd00::1', true],
  ['fd00:0:0:5::/64', 'fd00:0:0:5::77', true],
  ['fd00:0:0:5::/63', 'fd00:0:0:4::77', true],
  ['::/0', '::1', true],
  ['::ffff:1.2.3.4/128', '::ffff:102:304', true],
];
for (const [set, src, want] of ROWS) {
  test(`prefixes: ${src} is ${want ? '' : 'not '}in ${set}`, () => {
    assert.equal(inside(set, from(src)), want);
    assert.equal(inside(set, from(src, [7])), want);
  });
}

test('prefixes: ARP counts by its sender', () => {
  assert.equal(inside('10.0.0.0/8', ethernet({}, arp({ spa: '10.0.0.9' }))), true);
  assert.equal(inside('10.0.0.0/8', ethernet({}, arp({ spa: '11.0.0.9' }))), false);
});

test('prefixes: frames without a readable source are outside, at every length', () => {
  const whole = ethernet({ tags: [3] }, ipv6({ src: 'fd00::1' }, icmp6()));
  for (let n = 0; n < 18 + 40; n++) {
    const cut = whole.slice(0, n);
    assert.equal(new PrefixSet('::/0,0.0.0.0/0').holdsSource(view(cut), 0, n), false, `${n} bytes`);
  }
  assert.equal(inside('::/0,0.0.0.0/0', whole), true);
  assert.equal(inside('::/0,0.0.0.0/0', ethernet({ type: 0x88cc }, data(60))), false);
});

for (const [text, says] of [
  ['10.0.0.0/33', /at most 32 bits/],
  ['fd00::/129', /at most 128 bits/],
  ['10.0.0', /not an address prefix/],
  ['10.0.0.0/8/9', /not an address prefix/],
  ['10.0.0.0/', /not an address prefix/],
  ['10.0.0.0/-1', /not an address prefix/],
  ['', /not an address prefix/],
  ['10.0.0.0/8,', /not an address prefix/],
  ['host', /expected one such as 10\.0\.0\.0\/8/],
] as [string, RegExp][]) {
  test(`prefixes: "${text}" is refused`, () => assert.throws(() => new PrefixSet(text), says));
}
