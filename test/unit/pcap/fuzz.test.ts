import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { SegmentArena } from '../../../src/pcap/arena.js';
import { parsePcapHeader } from '../../../src/pcap/pcap-header.js';
import { PcapReader } from '../../../src/pcap/pcap-reader.js';
import { PcapngReader } from '../../../src/pcap/pcapng-reader.js';
import { Blocks, BytesFeed, drain, fromFile, fromStream, hexOf, payload, pcap } from './helpers.js';

const record = fc.record({
  sec: fc.integer({ min: 0, max: 0xffffffff }),
  frac: fc.integer({ min: 0, max: 999_999 }),
  size: fc.oneof(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 0, max: 1900 })),
  extra: fc.integer({ min: 0, max: 100 }),
});
const delivery = fc.record({
  segment: fc.integer({ min: 256, max: 600 }).map((n) => n * 8),
  nSegments: fc.integer({ min: 2, max: 4 }),
  chunk: fc.integer({ min: 1, max: 3000 }),
  starves: fc.boolean(),
  window: fc.integer({ min: 0, max: 30 }),
});

test('readers: random records in random segment sizes come out identical', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(record, { maxLength: 60 }),
      fc.boolean(),
      delivery,
      async (records, little, d) => {
        const made = records.map((r, i) => ({
          sec: r.sec,
          frac: r.frac,
          data: payload(r.size, i),
          wireLen: r.size + r.extra,
        }));
        const expected = made.map((m) => ({
          sec: m.sec,
          nsec: m.frac * 1000,
          wireLen: m.wireLen,
          iface: 0,
          hex: hexOf(m.data),
        }));
        const classic = pcap(made, { little });
        const b = new Blocks(little);
        const ng = Buffer.concat([
          b.section(),
          b.iface(),
          ...made.map((m) => b.enhanced(0, BigInt(m.sec) * 1_000_000n + BigInt(m.frac), m.data, m.wireLen)),
        ]);
        const arena = (): SegmentArena => new SegmentArena(d.nSegments, d.segment);
        const a = await drain(
          (to) =>
            new PcapReader(
              new BytesFeed(classic.subarray(24), d.chunk, d.starves),
              to,
              parsePcapHeader('m', classic),
            ),
          arena(),
          d.window,
        );
        assert.deepEqual(a, { packets: expected, error: undefined, notices: [] });
        const n = await drain(
          (to) => new PcapngReader(new BytesFeed(ng, d.chunk, d.starves), to, 0),
          arena(),
          d.window,
        );
        assert.deepEqual(n, { packets: expected, error: undefined, notices: [] });
      },
    ),
    { numRuns: 200 },
  );
});

test('readers: damaged captures end in packets, notices and CaptureErrors, the same from a file and from a stream', async () => {
  const data = [payload(60, 1), payload(200, 2), payload(1, 3), Buffer.alloc(0), payload(90, 4)];
  const classic = (linkType: number, magic: number): Buffer =>
    pcap(
      data.map((d, i) => ({ sec: i, frac: i, data: d })),
      { linkType, magic },
    );
  const b = new Blocks(false);
  const a = new Blocks(true);
  const ng = Buffer.concat([
    a.section(a.option(4, Buffer.from('x'))),
    a.iface({ tsresol: 9 }),
    a.iface({ linkType: 113, tsoffset: 5n }),
    ...data.map((d, i) => a.enhanced(i & 1, BigInt(i), d, d.length, a.option(1, d))),
    a.block(5, payload(20)),
    b.section(),
    b.iface({ linkType: 0, snapLen: 50 }),
    ...data.map((d) => b.simple(d.subarray(0, 50), d.length)),
    ...data.map((d, i) => b.obsolete(0, BigInt(i), d)),
  ]);
  const seeds = [
    classic(1, 0xa1b2c3d4),
    classic(276, 0xa1b23c4d),
    classic(113, 0xa1b2cd34),
    classic(0, 0xa1b2c3d4),
    ng,
    ng,
  ];
  const edit = fc.record({
    at: fc.nat(),
    how: fc.constantFrom('flip', 'set', 'zero4', 'ones4', 'small4', 'cut', 'insert', 'remove'),
    value: fc.nat(255),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.nat(seeds.length - 1),
      fc.array(edit, { minLength: 1, maxLength: 6 }),
      fc.boolean(),
      async (s, edits, zip) => {
        let bytes = Buffer.from(seeds[s]);
        for (const { at, how, value } of edits) {
          const i = at % Math.max(1, bytes.length - 4);
          if (bytes.length < 8) break;
          if (how === 'flip') bytes[i] ^= 1 << (value & 7);
          else if (how === 'set') bytes[i] = value;
          else if (how === 'zero4') bytes.fill(0, i & ~3, (i & ~3) + 4);
          else if (how === 'ones4') bytes.fill(255, i & ~3, (i & ~3) + 4);
          else if (how === 'small4') bytes.writeUInt32LE(value, i & ~3);
          else if (how === 'cut') bytes = bytes.subarray(0, i);
          else if (how === 'insert')
            bytes = Buffer.concat([bytes.subarray(0, i), Buffer.of(value), bytes.subarray(i)]);
          else bytes = Buffer.concat([bytes.subarray(0, i), bytes.subarray(i + 1 + (value & 7))]);
        }
        const plain = await fromFile(bytes);
        for (const p of plain.packets) {
          assert.ok(p.nsec >= 0 && p.nsec < 1e9 && Number.isInteger(p.nsec) && Number.isSafeInteger(p.sec));
          assert.ok(p.wireLen >= p.hex.length / 2 && p.wireLen <= 0x7fffffff);
        }
        const same = (got: typeof plain): void => {
          assert.deepEqual(got.packets, plain.packets);
          assert.deepEqual(got.notices, plain.notices);
          assert.equal(got.error?.offset, plain.error?.offset);
        };
        same(await fromStream(bytes, 100));
        if (zip && bytes.length > 0) same(await fromFile(gzipSync(bytes)));
      },
    ),
    { numRuns: 600 },
  );
});
