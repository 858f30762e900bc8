import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { SegmentArena } from '../../../src/pcap/arena.js';
import { openCapture } from '../../../src/pcap/open.js';
import { OutputFile } from '../../../src/pcap/output-file.js';
import { PcapWriter } from '../../../src/pcap/pcap-writer.js';
import { PcapngWriter } from '../../../src/pcap/pcapng-writer.js';
import { drain, hexOf, payload, tempFile, tempPath } from './helpers.js';

const read = (file: string) => drain((arena) => openCapture(file, arena), new SegmentArena(3, 1 << 20));

test('writers: what is written is read back, both formats, any sizes and times', async () => {
  const packet = fc.record({
    sec: fc.oneof(fc.integer({ min: 0, max: 0x7fffffff }), fc.integer({ min: 0, max: 0xffffffff })),
    nsec: fc.integer({ min: 0, max: 999_999_999 }),
    off: fc.integer({ min: 0, max: 5 }),
    capLen: fc.oneof(fc.integer({ min: 0, max: 80 }), fc.integer({ min: 0, max: 262144 })),
    extra: fc.integer({ min: 0, max: 2000 }),
    port: fc.integer({ min: 0, max: 2 }),
    comment: fc.option(fc.string({ unit: 'grapheme', maxLength: 40 }), { nil: undefined }),
  });
  const source = new Uint8Array(new SharedArrayBuffer(262144 + 8));
  source.set(payload(source.length));
  await fc.assert(
    fc.asyncProperty(fc.array(packet, { maxLength: 12 }), async (packets) => {
      const a = tempPath('a.pcap');
      const b = tempPath('b.pcapng');
      const classic = new PcapWriter(a);
      const ng = new PcapngWriter(b);
      assert.deepEqual([ng.addInterface('p1'), ng.addInterface('port two'), ng.addInterface('ä')], [0, 1, 2]);
      for (const p of packets) {
        classic.write(p.sec, p.nsec, source, p.off, p.capLen, p.capLen + p.extra);
        ng.write(p.port, p.sec, p.nsec, source, p.off, p.capLen, p.capLen + p.extra, p.comment);
      }
      classic.finish();
      ng.finish();
      const expected = packets.map((p) => ({
        sec: p.sec,
        nsec: p.nsec,
        wireLen: p.capLen + p.extra,
        iface: 0,
        hex: hexOf(source.slice(p.off, p.off + p.capLen)),
      }));
      assert.deepEqual((await read(a)).packets, expected);
      const got = await read(b);
      assert.deepEqual([got.error, got.notices], [undefined, []]);
      assert.deepEqual(
        got.packets,
        expected.map((e, i) => ({ ...e, iface: packets[i].port })),
      );
      fs.rmSync(a);
      fs.rmSync(b);
    }),
    { numRuns: 40 },
  );
});

test('writers: the headers say what they should', () => {
  const a = tempPath('a.pcap');
  new PcapWriter(a).finish();
  assert.equal(hexOf(fs.readFileSync(a)), '4d3cb2a1020004000000000000000000' + '0000040001000000');
  const b = tempPath('b.pcapng');
  const ng = new PcapngWriter(b);
  ng.addInterface('eth0');
  ng.write(0, 1, 2, Uint8Array.of(1, 2, 3), 0, 3, 60, 'why');
  ng.finish();
  const section =
    '0a0d0d0a' +
    '30000000' +
    '4d3c2b1a' +
    '01000000' +
    'ffffffffffffffff' +
    '04000a00' +
    '7368617264747261636b0000' +
    '00000000' +
    '30000000';
  const iface =
    '01000000' +
    '28000000' +
    '01000000' +
    '00000400' +
    '02000400' +
    '65746830' +
    '09000100' +
    '09000000' +
    '00000000' +
    '28000000';
  const packet =
    '06000000' +
    '30000000' +
    '00000000' +
    '00000000' +
    '02ca9a3b' +
    '03000000' +
    '3c000000' +
    '01020300' +
    '01000300' +
    '77687900' +
    '00000000' +
    '30000000';
  assert.equal(hexOf(fs.readFileSync(b)), section + iface + packet);
});

test('writers: times that a format cannot hold become the nearest that it can; long comments are cut between characters', async () => {
  const a = tempPath('a.pcap');
  const b = tempPath('b.pcapng');
  const classic = new PcapWriter(a);
  const ng = new PcapngWriter(b);
  ng.addInterface('x'.repeat(70_000));
  for (const sec of [-5, 2 ** 33, 2 ** 40]) {
    classic.write(sec, 7, Uint8Array.of(1), 0, 1, 1);
    ng.write(0, sec, 7, Uint8Array.of(1), 0, 1, 1, 'ä'.repeat(40_000));
  }
  assert.throws(() => ng.write(1, 0, 0, Uint8Array.of(1), 0, 1, 1), /interface 1 was not added; there are 1/);
  classic.finish();
  ng.finish();
  assert.deepEqual(
    (await read(a)).packets.map((p) => p.sec),
    [0, 0xffffffff, 0xffffffff],
  );
  const got = await read(b);
  assert.equal(got.error, undefined);
  assert.deepEqual(
    got.packets.map((p) => [p.sec, p.nsec]),
    [
      [0, 0],
      [2 ** 33, 7],
      [18446744072, 7],
    ],
  );
  assert.ok(fs.readFileSync(b).includes(Buffer.from('0100feffc3a4', 'hex')), 'a comment of 65534 bytes');
});

test('output: under .partial until finished; abort leaves it there', () => {
  const file = tempFile(Buffer.from('old'), 'out.txt');
  const out = new OutputFile(file);
  out.writeText('grüße ');
  out.write(Buffer.from('you'));
  out.flush();
  assert.equal(fs.readFileSync(file, 'utf8'), 'old');
  assert.equal(fs.readFileSync(`${file}.partial`, 'utf8'), 'grüße you');
  out.writeText('!');
  out.finish();
  out.finish();
  out.abort();
  assert.equal(fs.readFileSync(file, 'utf8'), 'grüße you!');
  assert.ok(!fs.existsSync(`${file}.partial`));
  assert.throws(() => {
    out.writeText('more');
    out.flush();
  }, /cannot write: the output is finished/);
  const broken = new OutputFile(file);
  broken.writeText('half');
  broken.abort();
  broken.abort();
  broken.finish();
  assert.equal(fs.readFileSync(file, 'utf8'), 'grüße you!');
  assert.equal(fs.readFileSync(`${file}.partial`, 'utf8'), 'half');
});

test('output: text and bytes of any size arrive in order', () => {
  const file = tempPath('out.txt');
  const out = new OutputFile(file);
  const parts: string[] = [];
  for (let i = 0; i < 400; i++)
    parts.push(String.fromCharCode(97 + (i % 26)).repeat((i * i * 7) % 9001), 'é€😀'.repeat(i % 50));
  parts.push('z'.repeat(300_000), '€'.repeat(100_000));
  parts.forEach((part, i) => {
    if (i % 3 === 0) out.write(Buffer.from(part));
    else out.writeText(part);
  });
  out.finish();
  assert.equal(fs.readFileSync(file, 'utf8'), parts.join(''));
});

test('output: a symbolic link stays one, devices and named pipes are written straight to', async () => {
  const file = tempFile(Buffer.from('old'));
  const link = tempPath('link');
  fs.symlinkSync(file, link);
  const out = new OutputFile(link);
  out.writeText('new');
  out.finish();
  assert.ok(fs.lstatSync(link).isSymbolicLink());
  assert.equal(fs.readFileSync(file, 'utf8'), 'new');
  if (process.platform === 'win32') return;
  const devnull = new OutputFile('/dev/null');
  devnull.writeText('gone');
  devnull.finish();
  assert.ok(!fs.existsSync('/dev/null.partial'));
  const fifo = tempPath('fifo');
  assert.equal(spawnSync('mkfifo', [fifo]).status, 0);
  const child = spawn('cat', [fifo], { stdio: ['ignore', 'pipe', 'inherit'] });
  const pipe = new OutputFile(fifo);
  pipe.writeText('through the pipe');
  pipe.finish();
  let text = '';
  for await (const chunk of child.stdout) text += chunk;
  assert.equal(text, 'through the pipe');
});

test('output: "-" is standard output, even one that is slow and does not block', async () => {
  const url = (name: string): string =>
    JSON.stringify(new URL(`../../../src/pcap/${name}`, import.meta.url).href);
  const code = `
    const { OutputFile } = await import(${url('output-file.js')});
    process.stdout; // what a program that also logs has done: the pipe no longer blocks
    const out = new OutputFile('-');
    for (let i = 0; i < 200000; i++) out.writeText(i + '\\n');
    out.finish();`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let n = 0;
  await new Promise((resolve) => setTimeout(resolve, 100));
  for await (const chunk of child.stdout) n += chunk.length;
  assert.equal(n, 1_288_890);
});

test('output: what cannot be written is an error that names the file and the reason', () => {
  const missing = path.join(tempPath('nowhere'), 'out.pcap');
  assert.throws(
    () => new PcapWriter(missing),
    new RegExp(`^Error: ${missing}: cannot open the output: ENOENT: no such file or directory$`),
  );
  assert.throws(() => new PcapngWriter('/'), /^Error: \/: cannot open the output: it is a folder$/);
  if (!fs.existsSync('/dev/full')) return;
  const full = new PcapWriter('/dev/full');
  full.write(1, 2, new Uint8Array(60), 0, 60, 60);
  assert.throws(
    () => full.finish(),
    /^Error: \/dev\/full: cannot write the output: ENOSPC: no space left on device$/,
  );
  full.abort();
});
