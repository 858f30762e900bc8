/** npm run oracle:corpus on a small folder, with recorded answers in Open vSwitch's place. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { readCaptureFile } from './capture-file.js';
import { firewall, onClock, STATES } from './capture-states.js';
import { CAPTURES } from './fixture.js';

const CORPUS = path.join(path.dirname(fileURLToPath(import.meta.url)), 'corpus.js');

describe('oracle:corpus', () => {
  let dir = '';
  const run = (...args: string[]) => {
    const r = spawnSync(process.execPath, [CORPUS, ...args], { encoding: 'utf8', cwd: dir });
    return { code: r.status, out: r.stdout, err: r.stderr };
  };
  before(() => {
    dir = mkdtempSync(path.join(os.tmpdir(), 'shardtrack-corpus-'));
    mkdirSync(path.join(dir, 'captures', 'deep'), { recursive: true });
    const put = (name: string, data: Buffer | string) =>
      writeFileSync(path.join(dir, 'captures', name), data);
    copyFileSync(path.join(CAPTURES, 'sctp.pcap'), path.join(dir, 'captures', 'deep', 'sctp.cap'));
    put('teardrop.gz', gzipSync(readFileSync(path.join(CAPTURES, 'fragments-teardrop.pcap'))));
    put('sll.pcap', readFileSync(path.join(CAPTURES, 'sll.pcap')));
    put('cut.pcap', readFileSync(path.join(CAPTURES, 'truncated.pcap')));
    put('README', 'not a capture');
    put('empty.pcap', '');
    // Answers as --answers keeps them: the recorded ones, and a line that a run was interrupted in.
    const recorded = readFileSync(STATES, 'utf8');
    writeFileSync(path.join(dir, 'answers.jsonl'), `${recorded}{"file":"half`);
    const wrong = recorded.replaceAll('"2+new+trk"', '"2+est+trk"');
    writeFileSync(path.join(dir, 'wrong.jsonl'), wrong);
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  it('compares every capture below the folder, and says what is left out and why', () => {
    const r = run('captures', '--answers', 'answers.jsonl', '--workers', '0', '--json', 'report.json');
    assert.equal(r.code, 0, r.out + r.err);
    assert.match(r.out, /deep\/sctp\.cap: 22 packets; track: agree; firewall: agree\n/);
    assert.match(r.out, /teardrop\.gz: 17 packets; track: agree; firewall: agree\n/);
    assert.match(r.out, /cut\.pcap: 21 packets; .*not all read: the record at byte \d+ goes beyond the end/);
    assert.match(r.out, /README: left out: not pcap or pcapng: it begins with 6e6f7420\n/);
    assert.match(r.out, /empty\.pcap: left out: the file is empty\n/);
    assert.match(r.out, /^left out: link types other than Ethernet: 113 \(\d+ packets\)$/m);
    assert.match(r.out, /^track: 60 packets of 3 files compared, 60 agree, 0 differ \(.*4\.0\.90\)$/m);
    const report = JSON.parse(readFileSync(path.join(dir, 'report.json'), 'utf8'));
    assert.equal(report.clean, true);
    assert.equal(report.files.length, 6);
  });

  it('shows the first difference of each kind by its cause, and exits with 1', () => {
    const r = run(
      'captures',
      '--answers',
      'wrong.jsonl',
      '--workers',
      '0',
      '--table',
      'track',
      '--only',
      'sctp',
    );
    assert.equal(r.code, 1);
    assert.match(
      r.out,
      /^track: IPv4, SCTP\n {2}\d+ x Open vSwitch 2\+est\+trk, shardtrack 2\+new\+trk\n {6}first: deep\/sctp\.cap, packet \d+: .* SCTP, /m,
    );
  });

  it('without answers and without Open vSwitch: says so and exits with 2', () => {
    const r = run('captures', '--ovs-bindir', '/nonexistent', '--only', 'sctp');
    assert.equal(r.code, 2);
    assert.match(r.err, /is not below \/nonexistent, or take answers/);
    assert.match(run('nowhere').err, /nowhere does not exist/);
    assert.match(run('captures', '--inside', '10.0.0.0/40').err, /--inside 10\.0\.0\.0\/40: an address/);
  });
});

describe('what is compared', () => {
  it('the clock moves in steps, never back, and never further than two days', () => {
    const frame = Buffer.alloc(60);
    const s = 1_000_000_000n;
    const at = (...seconds: number[]) =>
      onClock(
        seconds.map((t) => [BigInt(Math.round(t * 1000)) * (s / 1000n), frame] as const),
        1000,
      ).map((p) => p.us / 1e6);
    assert.deepEqual(at(5, 5.5, 6.2, 6.9, 7.3, 3, 8.3), [0, 0, 1.2, 1.2, 2.3, 2.3, 3.3]);
    assert.deepEqual(at(0, 1e7, 1e7 + 1), [0, 172_800, 172_801]);
  });

  it('frames that Open vSwitch takes not at all, or dies of, are left out', () => {
    const left: string[] = [];
    const sizes = [13, 14, 65_535, 65_536].map((n) => [0n, Buffer.alloc(n)] as const);
    assert.equal(onClock(sizes, 1000, (why) => left.push(why)).length, 2);
    assert.deepEqual(left, ['under 14 bytes', 'over 65535 bytes']);
  });

  it('every rule behind ct() of the firewall shows its state, and none before', () => {
    const rules = firewall()
      .split('\n')
      .filter((l) => l.startsWith('table='));
    for (const rule of rules) assert.equal(rule.includes('output:3'), rule.startsWith('table=1,'), rule);
  });

  it('the byte order of a capture, and gzip, change nothing', () => {
    const read = (name: string) => readFileSync(path.join(CAPTURES, name));
    const big = readCaptureFile(read('format-usec-be.pcap'));
    const little = readCaptureFile(read('format-usec-le.pcap'));
    assert.ok(big.records.length > 2);
    assert.deepEqual(little, big);
    assert.deepEqual(readCaptureFile(read('udp-ntp.pcap.gz')), readCaptureFile(read('udp-ntp.pcap')));
  });

  it('of a pcapng: all blocks that have packets, and what is not Ethernet is counted', () => {
    const word = (...n: number[]) => Buffer.from(Uint32Array.from(n).buffer);
    const block = (type: number, body: Buffer) =>
      Buffer.concat([word(type, body.length + 12), body, word(body.length + 12)]);
    const frame = Buffer.alloc(16, 7);
    const all = Buffer.concat([
      block(0x0a0d0d0a, word(0x1a2b3c4d, 1, 0xffffffff, 0xffffffff)),
      ...[1, 113].map((linkType) => block(1, word(linkType, 0))),
      block(6, Buffer.concat([word(0, 0, 5_000_000, 16, 16), frame])),
      block(3, Buffer.concat([word(16), frame])),
      block(2, Buffer.concat([word(0, 0, 6_000_000, 16, 16), frame])),
      block(6, Buffer.concat([word(1, 0, 7_000_000, 16, 16), frame])),
    ]);
    const read = readCaptureFile(Buffer.concat([all, word(6, 400, 0)]));
    assert.deepEqual(
      read.records.map(([ns, f]) => [ns, f.length]),
      [
        [5_000_000_000n, 16],
        [5_000_000_000n, 16],
        [6_000_000_000n, 16],
      ],
    );
    assert.deepEqual([...read.leftOut], [['link type 113', 1]]);
    assert.equal(read.damage, `the block at byte ${all.length} goes beyond the end of the file`);
  });
});
