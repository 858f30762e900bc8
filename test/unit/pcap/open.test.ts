import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { SegmentArena } from '../../../src/pcap/arena.js';
import { openCapture, openCaptureStream } from '../../../src/pcap/open.js';
import { ReadResult } from '../../../src/pcap/types.js';
import { newPacketRecord } from '../../../src/pcap/window.js';
import {
  Blocks,
  chunked,
  type Drained,
  drain,
  fromFile,
  fromStream,
  payload,
  pcap,
  SEGMENT,
  tempFile,
  tempPath,
} from './helpers.js';

const RECORDS = Array.from({ length: 400 }, (_, i) => ({
  sec: i,
  frac: i,
  data: payload(40 + ((i * 97) % 1400), i),
}));
const le = new Blocks(true);
const CAPTURES: [string, Buffer][] = [
  ['microseconds', pcap(RECORDS)],
  ['big-endian microseconds', pcap(RECORDS, { little: false })],
  ['nanoseconds', pcap(RECORDS, { magic: 0xa1b23c4d })],
  [
    'pcapng',
    Buffer.concat([le.section(), le.iface(), ...RECORDS.map((r) => le.enhanced(0, BigInt(r.sec), r.data))]),
  ],
];
const message = (got: Drained): string => got.error?.message ?? 'no error';

test('open: gzip in files and streams, one member or several, is found by its content', async () => {
  for (const [name, bytes] of CAPTURES) {
    const plain = await fromFile(bytes);
    assert.equal(plain.packets.length, 400, name);
    const members = Buffer.concat([gzipSync(bytes.subarray(0, 1000)), gzipSync(bytes.subarray(1000))]);
    for (const zipped of [gzipSync(bytes), gzipSync(bytes, { level: 0 }), members]) {
      assert.deepEqual(await fromFile(zipped), plain, name);
      for (const chunk of [1, 700, 1 << 20]) assert.deepEqual(await fromStream(zipped, chunk), plain, name);
    }
  }
});

test('open: a gzip stream that expands a thousandfold is read within bounds', async () => {
  const zeros = { sec: 1, frac: 0, data: Buffer.alloc(200_000) };
  const bytes = pcap(Array(300).fill(zeros));
  const zipped = gzipSync(bytes);
  assert.ok(zipped.length * 900 < bytes.length);
  assert.equal((await fromFile(zipped)).packets.length, 300);
});

test('open: gzip cut anywhere, the whole packets before the cut come, then a notice', async () => {
  for (const [name, bytes] of CAPTURES.slice(0, 1).concat(CAPTURES.slice(3))) {
    const zipped = gzipSync(bytes);
    const whole = await fromFile(bytes);
    for (const length of [zipped.length - 1, zipped.length - 9, zipped.length >> 1, 1000]) {
      const cut = zipped.subarray(0, length);
      for (const got of [await fromFile(cut), await fromStream(cut, 333)]) {
        assert.equal(got.error, undefined);
        assert.deepEqual(got.packets, whole.packets.slice(0, got.packets.length));
        assert.match(got.notices.at(-1)?.message ?? '', /gzip stream is cut off after \d+ compressed bytes/);
        if (length > zipped.length - 10) assert.equal(got.packets.length, 400, name);
        else
          assert.ok(
            got.packets.length > (400 * length) / zipped.length - 60,
            `${name}: ${got.packets.length}`,
          );
      }
    }
    assert.match(
      message(await fromFile(zipped.subarray(0, 12))),
      /the capture is empty: the gzip stream is cut off/,
    );
  }
});

test('open: damaged gzip, the packets before the damage come, then an error that says where', async () => {
  const bytes = CAPTURES[0][1];
  const whole = await fromFile(bytes);
  // Stored blocks, so that it is known what lies before the damage: the header of the third block.
  const zipped = gzipSync(bytes, { level: 0, memLevel: 9 });
  assert.equal(gunzipSync(zipped).length, bytes.length);
  let third = 10;
  let nBefore = 0;
  for (let i = 0; i < 2; i++) {
    const blockBytes = zipped.readUInt16LE(third + 1);
    third += 5 + blockBytes;
    nBefore += blockBytes;
  }
  const damaged = Buffer.from(zipped);
  damaged[third + 1] ^= 0xff;
  const got = await fromFile(damaged);
  assert.match(
    message(got),
    /gzip stream is damaged near compressed byte \d+ \(invalid stored block lengths\).*gzip -t/,
  );
  assert.deepEqual(got.packets, whole.packets.slice(0, got.packets.length));
  let complete = 0;
  for (let at = 24; ; complete++) {
    at += 16 + RECORDS[complete].data.length;
    if (at > nBefore) break;
  }
  assert.equal(got.packets.length, complete, 'every packet before the damage');
  // A wrong checksum is noticed behind the last packet.
  const sum = Buffer.from(zipped);
  sum[sum.length - 8] ^= 1;
  const last = await fromFile(sum);
  assert.equal(last.packets.length, 400);
  assert.match(message(last), /incorrect data check/);
  // The beginning of a pipe is kept, so that it can be read twice.
  for (const zip of [damaged, sum]) {
    const file = await fromFile(zip);
    const pipe = await fromStream(zip);
    assert.deepEqual(pipe.packets, file.packets);
    assert.equal(pipe.error?.offset, file.error?.offset);
  }
  // What lies beyond is not; it must still end with the error.
  const long = gzipSync(
    pcap(Array.from({ length: 30 }, (_, i) => ({ sec: i, frac: 0, data: payload(200_000, i) }))),
  );
  long[long.length - 8] ^= 1;
  const lost = await fromStream(long, 65536);
  assert.match(message(lost), /gzip stream is damaged near compressed byte \d+ \(incorrect data check\)/);
  assert.ok(lost.packets.length >= 28);
});

test('open: what is no capture is named for what it is', async () => {
  const cases: [Buffer, RegExp][] = [
    [Buffer.alloc(0), /byte 0: the capture is empty; a capture has at least a file header/],
    [Buffer.of(0xd4), /starts with d4;/],
    [
      Buffer.from('hello world, this is no capture'),
      /starts with 68656c6c; supported are pcap .* pcapng, .* gzip/,
    ],
    [Buffer.from('02214c18', 'hex'), /an lz4 file of the legacy format; decompress it first/],
    [Buffer.from('BZh91AY&SY0000'), /a bzip2 file/],
    [Buffer.from('504b0304', 'hex'), /zip archive/],
    [Buffer.from('snoop\0\0\0aaaa'), /snoop capture; convert it with editcap/],
    [Buffer.from('4d3cb2a1', 'hex'), /starts with 4d3cb2a1/],
    [Buffer.from('cd34b2a1', 'hex'), /FMESQUERY/],
    [Buffer.from('a12b3c4d', 'hex'), /NAVTEL/],
    [gzipSync(gzipSync(CAPTURES[0][1])), /compressed twice/],
    [gzipSync(Buffer.alloc(0)), /the capture is empty/],
    [gzipSync(Buffer.from('hello world')), /starts with 68656c6c/],
  ];
  // The byte-swapped nanosecond magic is a capture, of course.
  for (const [bytes, expected] of cases) {
    if (bytes.toString('hex') === '4d3cb2a1') {
      assert.match(
        message(await fromFile(bytes)),
        /the pcap file header has 24 bytes and the file ends after 4/,
      );
      continue;
    }
    assert.match(message(await fromFile(bytes)), expected);
    assert.match(message(await fromStream(bytes, 3)), expected);
  }
});

test('open: a file that cannot be opened is named with the reason of the system', async () => {
  const missing = tempPath('missing');
  const open = (file: string): Promise<Drained> => drain((arena) => openCapture(file, arena));
  assert.match(
    message(await open(missing)),
    new RegExp(`^${missing}: byte 0: cannot open the capture: ENOENT: no such file or directory$`),
  );
  assert.match(
    message(await open('/')),
    /^\/: byte 0: cannot open the capture: it is a folder; name a file in it$/,
  );
  if (process.getuid?.() !== 0) {
    const secret = tempFile(CAPTURES[0][1]);
    fs.chmodSync(secret, 0);
    assert.match(message(await open(secret)), /EACCES: permission denied/);
  }
  assert.match(message(await open('/dev/null')), /the capture is empty/);
});

test('open: an arena with segments too small for any packet is refused', async () => {
  const file = tempFile(CAPTURES[0][1]);
  await assert.rejects(
    openCapture(file, new SegmentArena(2, 1 << 18)),
    /segments of 262144 bytes can't hold every packet/,
  );
});

test('open: a stream that fails, or is destroyed, ends in an error after the packets that came', async () => {
  for (const [, bytes] of CAPTURES) {
    async function* broken(): AsyncGenerator<Buffer> {
      yield bytes.subarray(0, 5000);
      await new Promise((resolve) => setTimeout(resolve, 5));
      throw new Error('cable pulled');
    }
    const { Readable } = await import('node:stream');
    const got = await drain((arena) => openCaptureStream('upload', Readable.from(broken()), arena));
    assert.match(message(got), /^upload: byte 5000: cannot read the stream: cable pulled/);
    assert.ok(got.packets.length > 3);
    const stream = chunked(bytes, 1000);
    setTimeout(() => stream.destroy(), 5);
    stream.once('data', () => stream.pause());
    const closed = await drain((arena) => openCaptureStream('upload', stream, arena));
    assert.ok(closed.error === undefined || /closed before its end/.test(message(closed)));
  }
});

test('open: a stream is held back while the arena is full', async () => {
  let nTaken = 0;
  const bytes = pcap(Array.from({ length: 64 }, (_, i) => ({ sec: i, frac: 0, data: payload(200_000, i) })));
  function* chunks(): Generator<Buffer> {
    for (let at = 0; at < bytes.length; at += 65536) {
      nTaken += 65536;
      yield bytes.subarray(at, at + 65536);
    }
  }
  const { Readable } = await import('node:stream');
  const arena = new SegmentArena(2, SEGMENT);
  const reader = await openCaptureStream('upload', Readable.from(chunks(), { objectMode: false }), arena);
  const packet = newPacketRecord();
  const segments: number[] = [];
  for (;;) {
    const state = reader.next(packet);
    if (state === ReadResult.ARENA_FULL) break;
    if (state === ReadResult.STARVED) await reader.readable();
    else segments.push(packet.segment);
  }
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(segments.length, 2);
  assert.ok(nTaken < 3_000_000, `${nTaken} bytes were taken from the stream`);
  assert.equal(reader.next(packet), ReadResult.ARENA_FULL);
  for (const segment of segments) arena.release(segment);
  assert.equal(reader.next(packet), ReadResult.PACKET);
  assert.equal(packet.sec, 2);
  arena.release(packet.segment);
  reader.close();
  assert.equal(arena.nFreeSegments, 2);
});

/** A program that prints what it finds in the capture named by its argument. */
function reader(file: string): string[] {
  const at = (name: string): string =>
    JSON.stringify(new URL(`../../../src/pcap/${name}`, import.meta.url).href);
  const code = `
    const { SegmentArena } = await import(${at('arena.js')});
    const { openCapture } = await import(${at('open.js')});
    const { newPacketRecord } = await import(${at('window.js')});
    const arena = new SegmentArena(2);
    let n = 0, bytes = 0;
    try {
      const r = await openCapture(${JSON.stringify(file)}, arena);
      const p = newPacketRecord();
      for (let s; (s = r.next(p)) !== 0; ) {
        if (s === 3) { await r.readable(); continue; }
        n++; bytes += p.capLen; arena.release(p.segment);
      }
      console.log(r.name, n, bytes, r.notices.length);
      r.close();
    } catch (e) { console.log(e.message); }`;
  return ['--input-type=module', '-e', code];
}

const TOTAL = RECORDS.reduce((sum, r) => sum + r.data.length, 0);

test('open: standard input, plain and compressed, as a pipe and as a file', () => {
  for (const [name, bytes] of CAPTURES) {
    for (const input of [bytes, gzipSync(bytes)]) {
      const piped = spawnSync(process.execPath, reader('-'), { input, encoding: 'utf8' });
      assert.equal(piped.stdout, `<stdin> 400 ${TOTAL} 0\n`, `${name} ${piped.stderr}`);
      const fd = fs.openSync(tempFile(input), 'r');
      const redirected = spawnSync(process.execPath, reader('-'), {
        stdio: [fd, 'pipe', 'pipe'],
        encoding: 'utf8',
      });
      fs.closeSync(fd);
      assert.equal(redirected.stdout, `<stdin> 400 ${TOTAL} 0\n`, `${name} ${redirected.stderr}`);
    }
  }
  const empty = spawnSync(process.execPath, reader('-'), { input: '', encoding: 'utf8' });
  assert.match(empty.stdout, /^<stdin>: byte 0: the capture is empty/);
});

test('open: a named pipe', { skip: process.platform === 'win32' }, async () => {
  const fifo = tempPath('fifo');
  assert.equal(spawnSync('mkfifo', [fifo]).status, 0);
  const child = spawn(process.execPath, reader(fifo), { stdio: ['ignore', 'pipe', 'inherit'] });
  fs.promises.writeFile(fifo, CAPTURES[0][1]);
  let out = '';
  for await (const chunk of child.stdout) out += chunk;
  assert.equal(out, `${fifo} 400 ${TOTAL} 0\n`);
});
