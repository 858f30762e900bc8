import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SegmentArena } from '../../../src/pcap/arena.js';
import { PcapngReader } from '../../../src/pcap/pcapng-reader.js';
import { Blocks, BytesFeed, type Drained, drain, fromFile, fromStream, hexOf, payload } from './helpers.js';

const A = payload(60, 3);
const B = payload(61, 5);
const US = 1_700_000_000_000_001n;
const le = new Blocks(true);
const be = new Blocks(false);

async function everyWay(...blocks: Buffer[]): Promise<Drained> {
  const bytes = Buffer.concat(blocks);
  const file = await fromFile(bytes);
  for (const chunk of bytes.length < 100_000 ? [1, 7, 1000] : [4001, 65536]) {
    const stream = await fromStream(bytes, chunk);
    assert.deepEqual({ ...stream, error: stream.error?.offset }, { ...file, error: file.error?.offset });
  }
  return file;
}

const message = (got: Drained): string => got.error?.message ?? 'no error';

test('pcapng: enhanced, simple and obsolete packet blocks in both byte orders', async () => {
  for (const b of [le, be]) {
    const got = await everyWay(
      b.section(),
      b.iface({ snapLen: 40 }),
      b.iface({ tsresol: 9 }),
      b.enhanced(0, US, A, 100),
      b.enhanced(1, US * 1000n + 2n, B),
      b.obsolete(1, 5n, B),
      b.simple(A.subarray(0, 40), 60),
      b.simple(B.subarray(0, 10)),
    );
    assert.equal(got.error, undefined);
    assert.deepEqual(got.notices, []);
    assert.deepEqual(got.packets, [
      { sec: 1_700_000_000, nsec: 1000, wireLen: 100, iface: 0, hex: hexOf(A) },
      { sec: 1_700_000_000, nsec: 1002, wireLen: 61, iface: 1, hex: hexOf(B) },
      { sec: 0, nsec: 5, wireLen: 61, iface: 1, hex: hexOf(B) },
      { sec: 0, nsec: 0, wireLen: 60, iface: 0, hex: hexOf(A.subarray(0, 40)) },
      { sec: 0, nsec: 0, wireLen: 10, iface: 0, hex: hexOf(B.subarray(0, 10)) },
    ]);
  }
});

test('pcapng: if_tsresol and if_tsoffset', async () => {
  const got = await everyWay(
    le.section(),
    le.iface({ tsresol: 0 }),
    le.iface({ tsresol: 3 }),
    le.iface({ tsresol: 12 }),
    le.iface({ tsresol: 0x80 | 10 }),
    le.iface({ tsresol: 0x80 | 32 }),
    le.iface({ tsoffset: -3n }),
    le.iface({ tsresol: 9, tsoffset: 1_000_000_000n }),
    le.iface({ tsoffset: 2n ** 62n }),
    le.enhanced(0, 77n, A),
    le.enhanced(1, 77_001n, A),
    le.enhanced(2, 77_000_000_001_999n, A),
    le.enhanced(3, 1025n, A),
    le.enhanced(4, (7n << 32n) | 0x80000000n, A),
    le.enhanced(5, 1_000_000n, A),
    le.enhanced(6, 5n, A),
    le.enhanced(7, 1_000_000n, A),
  );
  assert.deepEqual(
    got.packets.map((p) => [p.sec, p.nsec]),
    [
      [77, 0],
      [77, 1_000_000],
      [77, 1],
      [1, 976_562],
      [7, 500_000_000],
      [-2, 0],
      [1_000_000_000, 5],
      [1, 0],
    ],
  );
  assert.match(got.notices[0].message, /time offset of 4611686018427387904 seconds; it is ignored/);
});

test('pcapng: sections switch byte order and count interfaces on', async () => {
  const got = await everyWay(
    le.section(le.option(4, Buffer.from('someone'))),
    le.iface(),
    le.iface(),
    le.enhanced(1, US, A),
    be.section(),
    be.iface({ tsresol: 9 }),
    be.enhanced(0, US * 1000n, B),
    le.section(),
    le.iface(),
    le.enhanced(0, US, A),
  );
  assert.deepEqual(
    got.packets.map((p) => [p.iface, p.sec, p.hex.length / 2]),
    [
      [1, 1_700_000_000, 60],
      [2, 1_700_000_000, 61],
      [3, 1_700_000_000, 60],
    ],
  );
});

test('pcapng: other blocks and options are passed over, even those larger than the arena', async () => {
  const huge = Buffer.alloc(5_000_000, 0x5a);
  const bigOption = le.option(11, Buffer.alloc(60_000, 1));
  const got = await everyWay(
    le.section(le.option(1, Buffer.from('a comment'))),
    le.block(4, Buffer.alloc(20)),
    le.iface({ more: Buffer.concat(Array(20).fill(bigOption)), tsresol: 9 }),
    le.block(0x0bad, huge),
    le.block(0x0a, Buffer.alloc(0)),
    le.enhanced(0, 9n, A, 60, le.option(1, Buffer.alloc(50_000))),
    le.block(5, Buffer.alloc(48)),
    le.enhanced(0, 10n, A, 60, Buffer.concat(Array(100).fill(bigOption))),
    le.enhanced(0, 11n, B),
    le.block(0x80000001, Buffer.alloc(4)),
  );
  assert.equal(got.error, undefined);
  assert.deepEqual(
    got.packets.map((p) => p.nsec),
    [9, 10, 11],
  );
});

test('pcapng: malformed interface options are ignored, the interface stays', async () => {
  const long = le.bytes.u16(9).u16(200).u8(9, 0, 0, 0).all; // claims more than the block has
  const wrongSize = le.option(9, Uint8Array.of(9, 9)); // if_tsresol of two bytes
  const ended = le.bytes.u16(0).u16(0).all;
  const got = await everyWay(
    le.section(),
    le.iface({ more: long }),
    le.iface({ more: wrongSize }),
    le.iface({ more: ended, tsresol: 9 }),
    le.enhanced(0, 1n, A),
    le.enhanced(1, 1n, A),
    le.enhanced(2, 1n, A),
  );
  assert.deepEqual(
    got.packets.map((p) => p.nsec),
    [1000, 1000, 1000],
  );
});

test('pcapng: cut at every byte of the last block, the packets before come and the block is reported', async () => {
  for (const tail of [
    le.enhanced(0, US, B),
    le.simple(B),
    le.iface({ tsresol: 9 }),
    le.section(),
    le.block(77, B),
  ]) {
    const before = Buffer.concat([le.section(), le.iface(), le.enhanced(0, US, A)]);
    for (let n = 0; n < tail.length; n++) {
      const bytes = Buffer.concat([before, tail.subarray(0, n)]);
      const got = await fromFile(bytes);
      assert.deepEqual(await fromStream(bytes, 5), got);
      assert.equal(got.error, undefined);
      assert.equal(got.packets.length, 1);
      if (n === 0) assert.deepEqual(got.notices, []);
      else {
        assert.equal(got.notices.length, 1);
        assert.equal(got.notices[0].offset, before.length);
        assert.match(got.notices[0].message, new RegExp(`cut off in mid-record: .* and ${n} are there`));
      }
    }
  }
});

test('pcapng: lengths that cannot be end the run after the packets before, with offset and remedy', async () => {
  const before = [le.section(), le.iface(), le.enhanced(0, US, A)];
  const at = Buffer.concat(before).length;
  const bad: [Buffer, RegExp][] = [
    [le.block(6, B, 0), /block there claims 0 bytes; it must be a multiple of 4 from 12 to 16777216/],
    [le.block(6, B, 8), /claims 8 bytes/],
    [le.block(6, B, 28), /claims 28 bytes; it must be a multiple of 4 from 32/],
    [le.block(6, B, 74), /claims 74 bytes/],
    [le.block(9, B, 0x7ffffffc), /claims 2147483644 bytes/],
    [le.block(9, B, 0xfffffffc), /claims 4294967292 bytes/],
    [le.block(3, Buffer.alloc(0)), /claims 12 bytes; it must be a multiple of 4 from 16/],
    [le.block(1, Buffer.alloc(4)), /claims 16 bytes; it must be a multiple of 4 from 20/],
    [le.block(9, B, 76, 80), /claims 76 bytes at its start and 80 at its end/],
    [
      le.block(6, le.bytes.u32(0).u64halves(US).u32(64).u32(64).add(A).all),
      /has 92 bytes and claims a packet of 64/,
    ],
    [
      le.block(6, le.bytes.u32(0).u64halves(US).u32(0xffffffff).u32(64).add(A).all),
      /claims a packet of 4294967295; .* at most 262144/,
    ],
    [
      le.block(6, le.bytes.u32(0).u64halves(US).u32(60).u32(60).add(A).all, 92, 96),
      /92 bytes at its start and 96/,
    ],
    [
      le.block(6, le.bytes.u32(0).u64halves(US).u32(270_000).u32(60).add(Buffer.alloc(270_000)).all),
      /claims a packet of 270000/,
    ],
    [le.simple(Buffer.alloc(270_000)), /claims a packet of 270000/],
    [le.enhanced(1, US, A), /names interface 1, and its section has described 1/],
    [le.enhanced(0xffffffff, US, A), /names interface 4294967295/],
    [Buffer.concat([le.section(), le.simple(A)]), /names interface 0, and its section has described 0/],
    [le.block(0x0a0d0d0a, Buffer.alloc(16)), /byte-order magic 0x0 and not 0x1a2b3c4d/],
    [le.block(0x0a0d0d0a, le.bytes.u32(0x1a2b3c4d).u16(2).u16(0).u32(0).u32(0).all), /pcapng version 2.0/],
    [le.block(0x0a0d0d0a, le.bytes.u32(0x1a2b3c4d).u16(1).u16(0).u32(0).u32(0).all, 24), /claims 24 bytes/],
  ];
  for (const [block, expected] of bad) {
    const got = await everyWay(...before, block, le.enhanced(0, US, A), Buffer.alloc(64));
    assert.match(message(got), expected);
    assert.ok(got.error !== undefined && got.error.offset >= at && got.error.offset <= at + 28, message(got));
    assert.equal(got.packets.length, 1);
  }
});

test('pcapng: an interface that cannot be read matters only when one of its packets comes', async () => {
  const before = [le.section(), le.iface({ linkType: 105 }), le.iface(), le.enhanced(1, US, A)];
  assert.equal((await everyWay(...before)).error, undefined);
  const got = await everyWay(...before, le.enhanced(0, US, A));
  assert.equal(got.packets.length, 1);
  assert.match(
    message(got),
    /interface 0: link type 105 \(IEEE 802.11\) is not supported; supported are 1 \(Ethernet\)/,
  );
});

test('pcapng: blocks straddle small segments at every position, from feeds that drip and starve', async () => {
  const expected: [number, string][] = [];
  const blocks = [le.section(), le.iface({ tsresol: 9 })];
  for (let i = 0; i < 60; i++) {
    const data = payload((i * 37) % 190, i);
    const b = i < 30 ? le : be;
    if (i === 30) blocks.push(be.section(), be.iface({ tsresol: 9, linkType: 1 }));
    blocks.push(
      b.enhanced(0, BigInt(i), data, data.length, i % 5 === 0 ? b.option(1, payload(i * 20)) : undefined),
    );
    if (i % 7 === 0) blocks.push(b.block(9, payload(i * 11)));
    expected.push([i, hexOf(data)]);
  }
  const bytes = Buffer.concat(blocks);
  for (let segment = 328; segment < 700; segment += 8) {
    const got = await drain(
      (arena) => new PcapngReader(new BytesFeed(bytes, 1 + (segment % 91), segment % 16 === 0), arena, 0),
      new SegmentArena(3, segment),
      4,
    );
    assert.equal(got.error, undefined);
    assert.deepEqual(
      got.packets.map((p) => [p.nsec, p.hex]),
      expected,
    );
  }
});
