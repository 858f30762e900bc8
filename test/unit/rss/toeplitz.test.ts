/** The Toeplitz hash against the vectors that Microsoft publishes ("Verifying the RSS hash calculation"). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  DEFAULT_RSS_KEY,
  defaultIndirection,
  drawRssKey,
  INDIRECTION_ENTRIES,
  Toeplitz,
} from '../../../src/rss/toeplitz.js';
import { address, cat, Random, u16, unhex, view } from '../../support/packets.js';

const MICROSOFT_KEY = unhex(
  '6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa',
);

// Destination, its port, source, its port, hash of the addresses, hash with ports.
const VECTORS: [string, number, string, number, number, number][] = [
  ['161.142.100.80', 1766, '66.9.149.187', 2794, 0x323e8fc2, 0x51ccc178],
  ['65.69.140.83', 4739, '199.92.111.2', 14230, 0xd718262a, 0xc626b0ea],
  ['12.22.207.184', 38024, '24.19.198.95', 12898, 0xd2d0a5de, 0x5c2b394a],
  ['209.142.163.6', 2217, '38.27.205.30', 48228, 0x82989176, 0xafc7327f],
  ['202.188.127.2', 1303, '153.39.163.191', 44251, 0x5d1809c5, 0x10e828a2],
  ['3ffe:2501:200:3::1', 1766, '3ffe:2501:200:1fff::7', 2794, 0x2cc18cd5, 0x40207d3d],
  ['ff02::1', 4739, '3ffe:501:8::260:97ff:fe40:efab', 14230, 0x0f0c461c, 0xdde51bbf],
  ['fe80::200:f8ff:fe21:67cf', 38024, '3ffe:1900:4545:3:200:f8ff:fe21:67cf', 44251, 0x4b61e985, 0x02d1feef],
];

function words(bytes: Uint8Array): Int32Array {
  const v = view(bytes);
  return Int32Array.from({ length: bytes.length / 4 }, (_, i) => v.getInt32(i * 4));
}

for (const [dst, dport, src, sport, bare, ported] of VECTORS) {
  test(`toeplitz: ${src} port ${sport} to ${dst} port ${dport}`, () => {
    const toeplitz = new Toeplitz(MICROSOFT_KEY);
    const ends = cat(address(src), address(dst));
    assert.equal(toeplitz.hash(words(ends), ends.length / 4) >>> 0, bare);
    const tuple = cat(ends, u16(sport), u16(dport));
    assert.equal(toeplitz.hash(words(tuple), tuple.length / 4) >>> 0, ported);
    const [a, b, c] = words(tuple);
    if (tuple.length === 12) assert.equal(toeplitz.hash3(a, b, c) >>> 0, ported);
  });
}

test('toeplitz: the default key is symmetric by itself, for both address sizes', () => {
  const toeplitz = new Toeplitz(DEFAULT_RSS_KEY);
  const r = new Random(1);
  for (let i = 0; i < 200; i++) {
    const size = r.once(2) ? 4 : 16;
    const [a, b, ap, bp] = [r.bytes(size), r.bytes(size), r.bytes(2), r.bytes(2)];
    const one = words(cat(a, b, ap, bp));
    const two = words(cat(b, a, bp, ap));
    assert.equal(toeplitz.hash(one, one.length), toeplitz.hash(two, two.length));
  }
});

test('toeplitz: a key of the wrong length is refused', () => {
  assert.throws(() => new Toeplitz(new Uint8Array(39)), /40 bytes, not 39/);
});

test('indirection: 128 entries in turn, every worker within one of its share', () => {
  for (const workers of [1, 2, 3, 4, 7, 128]) {
    const table = defaultIndirection(workers);
    assert.equal(table.length, INDIRECTION_ENTRIES);
    const counts = new Array<number>(workers).fill(0);
    for (const home of table) counts[home]++;
    assert.ok(Math.max(...counts) - Math.min(...counts) <= 1, `${workers} workers: ${counts}`);
  }
});

test('a drawn key spreads connections that the default key brings to one worker', () => {
  const known = new Toeplitz(DEFAULT_RSS_KEY);
  const prepared: number[] = [];
  for (let src = 0x0a000000; prepared.length < 4096; src++) {
    if ((known.hash3(src, 0x0b000001, (4000 << 16) | 80) & 3) === 0) prepared.push(src);
  }
  const drawn = new Toeplitz(drawRssKey());
  const load = [0, 0, 0, 0];
  for (const src of prepared) load[drawn.hash3(src, 0x0b000001, (4000 << 16) | 80) & 3]++;
  // 1,024 each, or nearly, unless three bits of the key happen to depend on each other over all that was chosen.
  assert.ok(Math.max(...load) < 1200, `of 4 workers they have ${load}`);
});
