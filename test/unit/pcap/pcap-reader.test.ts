import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SegmentArena } from '../../../src/pcap/arena.js';
import { parsePcapHeader } from '../../../src/pcap/pcap-header.js';
import { PcapReader } from '../../../src/pcap/pcap-reader.js';
import { MAX_PACKET_BYTES } from '../../../src/pcap/types.js';
import {
  BytesFeed,
  type Drained,
  drain,
  fromFile,
  fromStream,
  hexOf,
  type PcapOptions,
  payload,
  pcap,
} from './helpers.js';

const A = payload(60, 3);
const B = payload(1514, 5);

/** Through a file, through streams of several chunk sizes, and through the arena reader fed by starving drops. */
async function everyWay(bytes: Buffer): Promise<Drained> {
  const file = await fromFile(bytes);
  for (const chunk of [1, 7, 1000, 1 << 20]) {
    const stream = await fromStream(bytes, chunk);
    assert.deepEqual(stream.packets, file.packets, `chunks of ${chunk}`);
    assert.deepEqual(stream.notices, file.notices);
    assert.equal(stream.error?.offset, file.error?.offset);
    assert.equal(
      stream.error?.message.replace(/^stream/, ''),
      file.error?.message.replace(/^\S+?(?=: byte)/, ''),
    );
  }
  return file;
}

test('pcap: both byte orders, micro- and nanoseconds, Kuznetsov records', async () => {
  for (const little of [true, false]) {
    for (const [magic, nsecA, nsecB] of [
      [0xa1b2c3d4, 1000, 999_999_000],
      [0xa1b23c4d, 1, 999_999],
      [0xa1b2cd34, 1000, 999_999_000],
    ]) {
      const bytes = pcap(
        [
          { sec: 1, frac: 1, data: A },
          { sec: 0xffffffff, frac: 999_999, data: B, wireLen: 9000 },
        ],
        { little, magic },
      );
      const got = await everyWay(bytes);
      assert.equal(got.error, undefined);
      assert.deepEqual(got.notices, []);
      assert.deepEqual(got.packets, [
        { sec: 1, nsec: nsecA, wireLen: 60, iface: 0, hex: hexOf(A) },
        { sec: 0xffffffff, nsec: nsecB, wireLen: 9000, iface: 0, hex: hexOf(B) },
      ]);
    }
  }
});

test('pcap: no packets, an empty packet, snapshot length 0, more captured than original, a fraction beyond a second', async () => {
  assert.deepEqual(await everyWay(pcap([])), { packets: [], error: undefined, notices: [] });
  const bytes = pcap(
    [
      { sec: 1, frac: 0, data: Buffer.alloc(0), wireLen: 64 },
      { sec: 2, frac: 0, data: A, wireLen: 20 },
      { sec: 3, frac: 4_294_967_295, data: A, wireLen: 0xffffffff },
    ],
    { snapLen: 0 },
  );
  assert.deepEqual((await everyWay(bytes)).packets, [
    { sec: 1, nsec: 0, wireLen: 64, iface: 0, hex: '' },
    { sec: 2, nsec: 0, wireLen: 60, iface: 0, hex: hexOf(A) },
    { sec: 4297, nsec: 967_295_000, wireLen: 0x7fffff00, iface: 0, hex: hexOf(A) },
  ]);
});

test('pcap: cut at every byte of the last record, the packets before come and the record is reported', async () => {
  const whole = pcap([
    { sec: 1, frac: 0, data: A },
    { sec: 2, frac: 0, data: A },
  ]);
  const last = 24 + 16 + 60;
  for (let length = last; length < whole.length; length++) {
    const got = await fromFile(whole.subarray(0, length));
    const stream = await fromStream(whole.subarray(0, length), 33);
    assert.deepEqual(stream, got);
    assert.equal(got.error, undefined);
    assert.equal(got.packets.length, 1);
    if (length === last) {
      assert.deepEqual(got.notices, []);
      continue;
    }
    assert.equal(got.notices.length, 1);
    assert.equal(got.notices[0].offset, last);
    const needed = length < last + 16 ? 16 : 76;
    assert.match(got.notices[0].message, new RegExp(`needs ${needed} bytes and ${length - last} are there`));
  }
});

test('pcap: a length beyond any packet ends the run after the packets before it, with offset and remedy', async () => {
  for (const capLen of [MAX_PACKET_BYTES + 1, 0x7fffffff, 0x80000000, 0xffffffff]) {
    for (const magic of [0xa1b2c3d4, 0xa1b23c4d]) {
      const bytes = pcap(
        [
          { sec: 1, frac: 0, data: A },
          { sec: 2, frac: 0, data: A, capLen },
          { sec: 3, frac: 0, data: B },
        ],
        { magic },
      );
      const got = await everyWay(bytes);
      assert.equal(got.packets.length, 1);
      assert.equal(got.error?.offset, 100);
      assert.match(
        got.error?.message ?? '',
        new RegExp(`byte 100: .*claims a packet of ${capLen} bytes.*262144.*head -c 100`),
      );
    }
  }
});

test('pcap: the longest packet passes, many of them', async () => {
  const big = payload(MAX_PACKET_BYTES, 9);
  const bytes = pcap([0, 1, 2, 3, 4].map((sec) => ({ sec, frac: 0, data: sec === 2 ? A : big })));
  const got = await everyWay(bytes.subarray(0, bytes.length));
  assert.deepEqual(
    got.packets.map((p) => p.hex === hexOf(big)),
    [true, true, false, true, true],
  );
});

test('pcap: old versions have the lengths swapped', async () => {
  const data = A.subarray(0, 40);
  for (const [major, minor] of [
    [2, 0],
    [2, 2],
    [2, 3],
    [543, 0],
  ]) {
    const swapped = pcap([{ sec: 1, frac: 0, data, capLen: 60, wireLen: 40 }], { major, minor });
    const got = await everyWay(swapped);
    assert.deepEqual([got.packets[0].wireLen, got.packets[0].hex], [60, hexOf(data)], `${major}.${minor}`);
  }
  const unswapped = pcap([{ sec: 1, frac: 0, data, wireLen: 60 }], { minor: 3 });
  assert.deepEqual((await everyWay(unswapped)).packets[0].hex, hexOf(data));
  for (const [major, minor] of [
    [2, 5],
    [1, 4],
    [3, 0],
    [543, 1],
  ]) {
    const got = await everyWay(pcap([], { major, minor }));
    assert.match(
      got.error?.message ?? '',
      new RegExp(`byte 4: pcap version ${major}.${minor} is not supported; 2.0 to 2.4 are`),
    );
  }
});

test('pcap: a file header cut short, or with FCS bits beside the link type', async () => {
  const whole = pcap([{ sec: 1, frac: 0, data: A }]);
  for (let length = 4; length < 24; length++) {
    assert.match(
      (await everyWay(whole.subarray(0, length))).error?.message ?? '',
      new RegExp(`ends after ${length}`),
    );
  }
  const fcs = pcap([{ sec: 1, frac: 0, data: A }], { linkType: 0x24000001 });
  assert.equal((await everyWay(fcs)).packets[0].hex, hexOf(A));
});

test('pcap: a segment that a packet does not fit is an error that says so', async () => {
  const bytes = pcap([{ sec: 1, frac: 0, data: B }]);
  const got = await drain((arena) => {
    const feed = new BytesFeed(bytes);
    feed.skip(24);
    return new PcapReader(feed, arena, parsePcapHeader('memory', bytes));
  }, new SegmentArena(2, 1024));
  assert.match(
    got.error?.message ?? '',
    /byte 24: a record of 1530 bytes does not fit the arena's segments of 1024 bytes/,
  );
});

test('pcap: records straddle small segments at every position, from feeds that drip and starve', async () => {
  const records = Array.from({ length: 60 }, (_, i) => ({
    sec: i,
    frac: i,
    data: payload((i * 37) % 190, i),
  }));
  const options: PcapOptions[] = [{}, { little: false, magic: 0xa1b2cd34 }];
  for (const option of options) {
    const bytes = pcap(records, option);
    for (let segment = 312; segment < 600; segment += 8) {
      const got = await drain(
        (arena) => {
          const feed = new BytesFeed(bytes.subarray(24), 1 + (segment % 91), segment % 16 === 0);
          return new PcapReader(feed, arena, parsePcapHeader('memory', bytes));
        },
        new SegmentArena(3, segment),
        4,
      );
      assert.deepEqual(
        got.packets.map((p) => [p.sec, p.hex]),
        records.map((r) => [r.sec, hexOf(r.data)]),
      );
    }
  }
});
