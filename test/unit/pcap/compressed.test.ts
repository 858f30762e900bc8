import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import lz4 from 'lz4-napi';
import { CutShort, compressionOf, Intake } from '../../../src/pcap/decoders.js';
import { BytesFeed, type Drained, fromFile, fromStream, pcap } from './helpers.js';

const FOLDER = new URL('../../../../fixtures/compressed/', import.meta.url);
const NAMES = ['whole.zst', 'two-frames.zst', 'whole.lz4', 'linked.lz4', 'whole.xz', 'two-streams.xz'];
const fixture = (name: string): Buffer => fs.readFileSync(new URL(name, FOLDER));
const message = (got: Drained): string => got.error?.message ?? 'no error';

/** As fixtures/compressed/make.mjs. */
function capture(): Buffer {
  const records = Array.from({ length: 2000 }, (_, i) => {
    const data = Buffer.alloc(200);
    data.writeUInt16BE(0x88b5, 12);
    data.writeUInt32BE(i, 14);
    return { sec: i, frac: 0, data };
  });
  return pcap(records);
}

/** All but the file header, which the two make with other settings. */
const records = (bytes: Buffer): Buffer => bytes.subarray(24);

async function decode(bytes: Uint8Array, chunk = Infinity): Promise<Buffer> {
  const out: Uint8Array[] = [];
  const intake = new Intake(new BytesFeed(bytes, chunk, chunk < 100));
  for await (const piece of compressionOf(bytes)!.decode(intake)) out.push(Buffer.from(piece));
  return Buffer.concat(out);
}

test('compressed: zstd, lz4 and xz of one frame and of several, from files and pipes', async () => {
  const bytes = capture();
  const plain = await fromFile(bytes);
  assert.equal(plain.packets.length, 2000);
  for (const name of NAMES) {
    const packed = fixture(name);
    assert.ok(packed.length < bytes.length / 5, name);
    assert.deepEqual(await fromFile(packed), plain, name);
    for (const chunk of [777, 1 << 20]) assert.deepEqual(await fromStream(packed, chunk), plain, name);
    assert.ok(records(await decode(packed, 1)).equals(records(bytes)), name);
  }
});

test('compressed: cut off anywhere, what was whole before comes, and a notice', async () => {
  const whole = await fromFile(capture());
  for (const name of NAMES) {
    const packed = fixture(name);
    for (const length of [packed.length - 1, packed.length - 3, (packed.length * 2) / 3]) {
      const cut = packed.subarray(0, length);
      for (const got of [await fromFile(cut), await fromStream(cut, 100)]) {
        assert.equal(got.error, undefined, `${name} ${length}: ${message(got)}`);
        assert.deepEqual(got.packets, whole.packets.slice(0, got.packets.length));
        const { message: notice } = got.notices.at(-1)!;
        assert.match(notice, /^the (zstd|lz4|xz) stream is cut off after \d+ compressed bytes/);
      }
    }
  }
});

test('compressed: a flipped bit is found wherever it changes anything', async () => {
  // Frames without a checksum are left out: the first of one file, the second of another.
  const zstdMagic = Buffer.from('28b52ffd', 'hex');
  const lz4Magic = Buffer.from('04224d18', 'hex');
  for (const name of NAMES) {
    const packed = fixture(name);
    const good = await decode(packed);
    const from = name === 'two-frames.zst' ? packed.lastIndexOf(zstdMagic) : 0;
    const to = name === 'linked.lz4' ? packed.lastIndexOf(lz4Magic) : packed.length;
    for (let at = from + 13; at < to; at += 197) {
      const damaged = Buffer.from(packed);
      damaged[at] ^= 0x10;
      const got = await decode(damaged).catch((error: Error) => error);
      assert.ok(got instanceof Error || got.equals(good), `${name}: nothing was found at ${at}`);
    }
  }
  const damaged = fixture('whole.xz');
  damaged[200] ^= 1;
  const got = await fromFile(damaged);
  assert.match(message(got), /xz stream is damaged near compressed byte \d+ .*; check the file with xz -t/);
});

test('compressed: frames to pass over, and what is no frame', async () => {
  const skip = Buffer.from('5a2a4d1803000000abcdef', 'hex');
  for (const name of ['whole.zst', 'whole.lz4']) {
    const packed = fixture(name);
    const bytes = await decode(packed);
    assert.ok(
      (await decode(Buffer.concat([skip, packed, skip, packed]))).equals(Buffer.concat([bytes, bytes])),
    );
    await assert.rejects(
      decode(Buffer.concat([packed, Buffer.from('rubbish')])),
      /what follows the frame is none/,
    );
    await assert.rejects(decode(Buffer.concat([packed, skip.subarray(0, 9)])), CutShort);
  }
});

test('compressed: what a frame must not ask for is refused', async () => {
  const zstd = (header: string): Buffer => Buffer.from(`28b52ffd${header}`, 'hex');
  await assert.rejects(decode(zstd('01580700')), /compressed with a dictionary/);
  await assert.rejects(decode(zstd('00f8000000')), /its window of \d+ bytes is over 134217728/);
  const empty = lz4.compressFrameSync(Buffer.alloc(100));
  for (const [at, value, expected] of [
    [4, 0xff, /version 3|dictionary/],
    [5, 0x10, /its blocks have a size that is not known \(1\)/],
    [6, empty[6] ^ 1, /the checksum of its header is wrong/],
  ] as const) {
    const wrong = Buffer.from(empty);
    wrong[at] = value;
    await assert.rejects(decode(wrong), expected);
  }
});

test('compressed: twice is once too much', async () => {
  const twice = lz4.compressFrameSync(gzipSync(capture()));
  assert.match(message(await fromFile(twice)), /the capture is compressed twice; decompress it once first/);
});
