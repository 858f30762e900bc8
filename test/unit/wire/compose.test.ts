/** Composing a frame from a flow key is the reverse of parsing one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FLOW, FRAG_ANY, FRAG_LATER, KEY_WORDS } from '../../../src/classifier/flow-key.js';
import { ConnKey, extractConnKey, INVALID_NONE } from '../../../src/conntrack/key.js';
import { composeFrame } from '../../../src/wire/compose.js';
import { extract, FrameLayout } from '../../../src/wire/extract.js';
import { arp, ethernet, icmp, ipv4, ipv6, Random, tcp, udp, view } from '../../support/packets.js';
import { randomTraffic } from '../../support/random-traffic.js';

function parse(frame: Uint8Array): { key: Int32Array; layout: FrameLayout } {
  const key = new Int32Array(KEY_WORDS);
  const layout = new FrameLayout();
  extract(view(frame), 0, frame.length, key, layout);
  return { key, layout };
}

function roundTrip(frame: Uint8Array): void {
  const { key, layout } = parse(frame);
  const ip = key[FLOW.ETH_TYPE] === 0x0800 || key[FLOW.ETH_TYPE] === 0x86dd;
  if (frame.length < 14 || (ip && layout.l4 < 0)) return; // cut
  // A TTL or TCP flags of zero mean "not given" to composeFrame.
  if (ip && (key[FLOW.NW] & 0xff00) === 0) return;
  if ((key[FLOW.NW] & 0xff) === 6 && (key[FLOW.TCP_FLAGS] & 0xfff) === 0) return;
  const composed = composeFrame(key);
  assert.deepEqual(parse(composed).key, key);
}

test('compose: frames of every kind parse to the key that they were made from', () => {
  for (let seed = 1; seed <= 40; seed++) {
    for (const { frame } of randomTraffic(new Random(seed), { packets: 50, flows: 8 })) roundTrip(frame);
  }
  roundTrip(ethernet({ tags: [{ vid: 5, pcp: 3 }] }, ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }, udp())));
  roundTrip(ethernet({}, arp({ op: 2, sha: 7, tha: 9, tpa: '10.0.0.9' })));
  roundTrip(ethernet({}, ipv6({ src: 'fd00::1', dst: 'fd00::2' }, tcp({ sport: 5, dport: 80, flags: 18 }))));
});

test('compose: fragments keep their place in the datagram', () => {
  for (const type of [0x0800, 0x86dd]) {
    for (const frag of [FRAG_ANY, FRAG_ANY | FRAG_LATER]) {
      const key = new Int32Array(KEY_WORDS);
      key[FLOW.ETH_TYPE] = type;
      key[FLOW.NW] = (frag << 24) | (64 << 8) | 17;
      const got = parse(composeFrame(key)).key;
      assert.equal(got[FLOW.NW] >>> 24, frag);
    }
  }
});

test('compose: the tracker finds nothing wrong with the checksums', () => {
  const payload = Uint8Array.from([1, 2, 3]);
  for (const frame of [
    ethernet({}, ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }, tcp({ sport: 1, dport: 2, flags: 2 }))),
    ethernet({}, ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }, udp({ sport: 1, dport: 2 }))),
    ethernet({}, ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }, icmp({ type: 8 }))),
    ethernet({}, ipv6({ src: 'fd00::1', dst: 'fd00::2' }, udp({ sport: 1, dport: 2 }))),
  ]) {
    const composed = composeFrame(parse(frame).key, payload);
    const { key, layout } = parse(composed);
    const reason = extractConnKey(view(composed), 0, layout, key, 0, false, 1, new ConnKey());
    assert.equal(reason, INVALID_NONE);
  }
});
