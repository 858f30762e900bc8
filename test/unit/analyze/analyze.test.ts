import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { type Analysis, type AnalyzeOptions, analyze } from '../../../src/analyze/analyze.js';
import { findCaptures } from '../../../src/analyze/inputs.js';
import { FlowSyntaxError } from '../../../src/openflow/types.js';
import { FORMATS } from '../../../src/output/records/formats.js';
import { recordJson } from '../../../src/output/records/sinks.js';
import { readIpfix } from '../../support/ipfix.js';
import {
  ACK,
  data,
  type EthernetOptions,
  ethernet,
  ipv4,
  type Packet,
  packet,
  pcapFile,
  Random,
  SYN,
  tcp,
  udp,
} from '../../support/packets.js';
import { randomTraffic } from '../../support/random-traffic.js';
import { Blocks } from '../pcap/helpers.js';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-analyze-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));
let nFolders = 0;

/** A folder with these files. */
function files(content: Record<string, Uint8Array | string>): string {
  const at = path.join(folder, String(nFolders++));
  for (const [name, bytes] of Object.entries(content)) {
    fs.mkdirSync(path.dirname(path.join(at, name)), { recursive: true });
    fs.writeFileSync(path.join(at, name), bytes);
  }
  return at;
}

const NANO = { nano: true };
const SMALL = { maxConns: 100_000 };

async function records(
  paths: string[],
  options: Partial<AnalyzeOptions> = {},
): Promise<{ lines: string[]; analysis: Analysis }> {
  const lines: string[] = [];
  const onRecord: AnalyzeOptions['onRecord'] = (r, ruleOf) => lines.push(recordJson(r, ruleOf));
  const analysis = await analyze({ paths, workers: 0, ...SMALL, ...options, onRecord });
  return { lines, analysis };
}

test('analyze: a set that rotates, compressed or not, gives what one capture of it all does', async () => {
  const packets = randomTraffic(new Random(3), { packets: 600 }).map((p) => ({ ...p, port: 1 }));
  packets.sort((a, b) => a.sec - b.sec || a.nsec - b.nsec);
  const set: Record<string, Uint8Array> = {};
  for (let i = 0; i < 12; i++) {
    const bytes = pcapFile(packets.slice(i * 50, (i + 1) * 50), NANO);
    set[`x-${i}.pcap${i % 3 === 0 ? '.gz' : ''}`] = i % 3 === 0 ? gzipSync(bytes) : bytes;
  }
  const whole = files({ 'all.pcap': pcapFile(packets, NANO) });
  const want = await records([path.join(whole, 'all.pcap')]);
  assert.ok(want.lines.length > 20);
  for (const workers of [0, 2]) {
    const got = await records([files(set)], { workers });
    assert.deepEqual(got.lines, want.lines);
    assert.equal(got.analysis.files.length, 12);
    assert.deepEqual(got.analysis.reconciliation, want.analysis.reconciliation);
    assert.deepEqual(got.analysis.summary, want.analysis.summary);
  }
});

test('analyze: captures that overlap are merged by time', async () => {
  const packets = randomTraffic(new Random(4), { packets: 300 }).map((p) => ({ ...p, port: 1 }));
  // No two at the same time: which comes first would depend on the file.
  packets.sort((a, b) => a.sec - b.sec || a.nsec - b.nsec);
  const single = packets.map((p, i) => ({ ...p, sec: p.sec + i }));
  const parts = [0, 1, 2].map((k) =>
    pcapFile(
      single.filter((_, i) => i % 3 === k),
      NANO,
    ),
  );
  const at = files({
    'a.pcap': parts[0],
    'b.pcap': parts[1],
    'c.pcap': parts[2],
    'all.pcap': pcapFile(single, NANO),
  });
  const got = await records([path.join(at, '[abc].pcap')]);
  assert.deepEqual(got.lines, (await records([path.join(at, 'all.pcap')])).lines);
});

test('analyze: damaged and cut captures are reported, the rest goes on', async () => {
  const make = (sport: number, n: number): Packet[] =>
    Array.from({ length: n }, (_, i) =>
      packet(
        10 * sport + i,
        1,
        ethernet({}, ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }, udp({ sport, data: data(99) }))),
      ),
    );
  const broken = Buffer.from(pcapFile(make(2, 5)));
  broken.writeUInt32LE(0x7fffffff, 24 + 2 * (16 + 141) + 8);
  const at = files({
    'whole.pcap': pcapFile(make(1, 5)),
    'broken.pcap': broken,
    'cut.pcap': pcapFile(make(3, 5)).subarray(0, -10),
    'short.pcap': pcapFile(make(4, 5), { snaplen: 60 }),
    'nothing.pcap': Buffer.from('d4c3b2a1', 'hex'),
    'notes.txt': 'no capture',
    'empty.pcap': pcapFile([]),
  });
  const { lines, analysis } = await records([at], { cutAsIs: true });
  const report = Object.fromEntries(analysis.files.map((f) => [path.basename(f.path), f]));
  assert.deepEqual(
    analysis.passedOver.map((p) => path.basename(p)),
    ['notes.txt'],
  );
  assert.match(report['broken.pcap'].damage ?? '', /broken\.pcap: byte \d+: .*keep its first/);
  assert.match(report['nothing.pcap'].damage ?? '', /the pcap file header has 24 bytes/);
  assert.equal(report['whole.pcap'].damage, null);
  assert.match(report['cut.pcap'].notices[0].message, /cut off in mid-record/);
  const counts = (what: 'packets' | 'cut'): Record<string, number> =>
    Object.fromEntries(Object.entries(report).map(([name, f]) => [name, f[what]]));
  assert.deepEqual(counts('packets'), {
    'whole.pcap': 5,
    'broken.pcap': 2,
    'cut.pcap': 4,
    'short.pcap': 5,
    'nothing.pcap': 0,
    'empty.pcap': 0,
  });
  assert.equal(report['short.pcap'].cut, 5);
  assert.equal(report['whole.pcap'].cut, 0);
  assert.equal(lines.length, 3);
  assert.deepEqual(
    analysis.reconciliation.rows.map((r) => [r.name, r.packets, r.bytes]),
    [
      ['in connections', 11, 11 * 141],
      ['invalid: truncated', 5, 5 * 141],
    ],
  );
  assert.deepEqual(analysis.reconciliation.captured, { packets: 16, bytes: 16 * 141 });
});

test('analyze: records come as connections end, in an order that workers do not change', async () => {
  // Three marks of 65,536 packets, a connection every 30 packets, each of which lives for a few seconds.
  const frames = Array.from({ length: 3000 }, (_, i) =>
    ethernet({}, ipv4({ src: `10.1.${i >> 8}.${i & 255}`, dst: '10.0.0.2' }, udp({ data: data(2) }))),
  );
  const packets = Array.from({ length: 200_000 }, (_, i) =>
    packet(i / 100, 1, frames[Math.floor(i / 30) % frames.length]),
  );
  const parts = Array.from({ length: 100 }, (_, i) => pcapFile(packets.slice(i * 2000, (i + 1) * 2000)));
  const bytes = Buffer.concat(parts.map((part, i) => (i === 0 ? part : part.subarray(24))));
  const at = path.join(files({ 'many.pcap': bytes }), 'many.pcap');
  const want: string[] = [];
  const early: number[] = [];
  let seen = 0;
  await analyze({
    paths: [at],
    workers: 0,
    ...SMALL,
    onRecord(r, ruleOf) {
      want.push(recordJson(r, ruleOf));
      if (r.lastPacket < 60_000 && r.ending === 'timeout') early.push(seen);
    },
    progress: (n) => {
      seen = n;
    },
  });
  assert.equal(want.length, Math.ceil(200_000 / 30));
  assert.ok(early.length > 1500 && early.every((n) => n < 140_000), 'records wait for the end of the input');
  for (const jitter of [undefined, 7]) {
    const { lines } = await records([at], { workers: 2, jitter });
    assert.deepEqual(lines, want);
  }
});

test('analyze: checksums are verified unless told otherwise', async () => {
  const wrong = ethernet({}, ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }, udp({ spoil: 1 })));
  const at = files({ 'a.pcap': pcapFile([packet(1, 1, wrong), packet(2, 1, wrong)]) });
  assert.equal((await records([at])).lines.length, 0);
  for (const workers of [0, 1]) {
    const { lines, analysis } = await records([at], { ignoreChecksums: true, workers });
    assert.equal(lines.length, 1);
    assert.deepEqual(
      analysis.reconciliation.rows.map((r) => [r.name, r.packets]),
      [['in connections', 2]],
    );
  }
});

test('analyze: a stop ends the input, and what was read is whole', async () => {
  const frame = ethernet({}, ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }, udp()));
  const at = files({
    'a.pcap': pcapFile(Array.from({ length: 50_000 }, (_, i) => packet(i / 1000, 1, frame))),
  });
  const stop = new AbortController();
  stop.abort();
  const { analysis } = await records([at], { stop: stop.signal });
  assert.equal(analysis.reconciliation.captured.packets, analysis.result.packets);
  assert.ok(analysis.result.packets < 50_000);
});

test('analyze: drops by rule, hosts, services, failed handshakes', async () => {
  const scan = Array.from({ length: 40 }, (_, i) =>
    packet(
      i,
      1,
      ethernet(
        {},
        {
          ...ipv4({ src: '10.0.0.66', dst: `10.0.1.${i}` }, { proto: 6, bytes: synTo(22 + (i % 2)) }),
        },
      ),
    ),
  );
  const asked = ['10.0.2.1', '10.0.2.2'].map((dst, i) =>
    packet(50 + i, 1, ethernet({}, ipv4({ src: '10.0.0.66', dst }, udp({ dport: 53 })))),
  );
  const at = files({ 'a.pcap': pcapFile([...scan, ...asked]) });
  const { analysis } = await records([at], {
    flows: 'tcp,tp_dst=22,actions=ct(commit)\nip,actions=ct(commit),in_port',
  });
  const { summary } = analysis;
  assert.deepEqual(summary.failed, [{ src: '10.0.0.66', failed: 40, connections: 40, hosts: 40, ports: 2 }]);
  assert.deepEqual(summary.scans, [{ ...summary.failed[0], kind: 'hosts', failed: 42, hosts: 42, ports: 3 }]);
  assert.deepEqual(Object.fromEntries(summary.tcpStates), { S0: 40 });
  assert.deepEqual(
    summary.services.map((s) => [s.name, s.connections]),
    [
      ['tcp/22', 20],
      ['tcp/23', 20],
      ['udp/53', 2],
    ],
  );
  assert.deepEqual(summary.hosts[0], {
    name: '10.0.0.66',
    connections: 42,
    packets: 42,
    bytes: 40 * 54 + 100,
  });
  assert.equal(summary.drops.length, 1);
  const [drop] = summary.drops;
  assert.deepEqual([drop.connections, drop.packets], [20, 20]);
  assert.match(drop.rule ?? '', /tcp,tp_dst=22 actions=ct\(commit\)/);
  await assert.rejects(records([at], { flows: 'nonsense' }), FlowSyntaxError);
});

/** A SYN, composed by hand: `ipv4` asks with its pseudo header. */
function synTo(dport: number): (pseudo: (length: number) => Uint8Array) => Uint8Array {
  return (pseudo) => {
    const bytes = Buffer.alloc(20);
    bytes.writeUInt16BE(40000, 0);
    bytes.writeUInt16BE(dport, 2);
    bytes[12] = 0x50;
    bytes[13] = 2;
    bytes.writeUInt16BE(1000, 14);
    let sum = 0;
    const all = Buffer.concat([pseudo(20), bytes]);
    for (let i = 0; i < all.length; i += 2) sum += all.readUInt16BE(i);
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    bytes.writeUInt16BE(~sum & 0xffff, 16);
    return bytes;
  };
}

test('inputs: files once each, folders below, names in the order that people count in, and what is not there', async () => {
  const capture = pcapFile([]);
  const at = files({
    'x-10.pcap': capture,
    'x-9.pcap': capture,
    'sub/.hidden.cap': capture,
    'readme.md': '#',
  });
  const names = async (...args: string[]): Promise<string[]> =>
    (await findCaptures(args.map((a) => (a === '-' ? a : path.join(at, a))))).paths.map((p) =>
      path.relative(at, p),
    );
  assert.deepEqual(await names('.'), ['sub/.hidden.cap', 'x-9.pcap', 'x-10.pcap']);
  assert.deepEqual(await names('x-*.pcap'), ['x-9.pcap', 'x-10.pcap']);
  assert.deepEqual(await names('x-10.pcap', 'x-10.pcap', 'readme.md'), ['x-10.pcap', 'readme.md']);
  assert.deepEqual((await findCaptures(['-'])).paths, ['-']);
  await assert.rejects(names('gone.pcap'), /gone\.pcap: no such file or folder/);
  await assert.rejects(names('y-*.pcap'), /no file matches the pattern/);
  await assert.rejects(findCaptures([files({ 'a.txt': 'x' })]), /no capture is in the folder/);
});

test('inputs: names with anything in them, and what several links lead to once', async () => {
  const capture = pcapFile([]);
  const odd = ['-', 'new\nline.pcap', 'sp ace [1]*?{a,b}.pcap', '\u00fcn\u00ef', 'a!(b).cap', '$HOME'];
  const at = files({
    ...Object.fromEntries(odd.map((name) => [`odd/${name}`, capture])),
    'set/x-1.pcap': capture,
    'elsewhere/y.pcap': capture,
  });
  const names = async (...args: string[]): Promise<string[]> =>
    (await findCaptures(args)).paths.map((p) => path.relative(at, p)).sort();
  assert.deepEqual(await names(`${at}/odd/`), odd.map((name) => `odd/${name}`).sort());
  assert.deepEqual(await names(...odd.map((name) => `${at}/odd/${name}`)), odd.map((n) => `odd/${n}`).sort());
  fs.symlinkSync('x-1.pcap', path.join(at, 'set/latest.pcap'));
  fs.symlinkSync('../set', path.join(at, 'set/again'));
  fs.symlinkSync('../elsewhere', path.join(at, 'set/away'));
  fs.symlinkSync('nowhere', path.join(at, 'set/dangling.pcap'));
  assert.deepEqual(await names(`${at}/set`), ['set/away/y.pcap', 'set/x-1.pcap']);
  assert.deepEqual(await names(`${at}/set/*.pcap`), ['set/x-1.pcap']);
  assert.deepEqual(await names(`${at}/set/latest.pcap`), ['set/latest.pcap']);
  assert.deepEqual(await names(`${at}/set/x-1.pcap`, `${at}/set/../set/x-1.pcap`), ['set/x-1.pcap']);
});

test('analyze: a filter leaves packets out, and they are a row of the reconciliation', async () => {
  const packets = randomTraffic(new Random(5), { packets: 400 }).map((p) => ({ ...p, port: 1 }));
  packets.sort((a, b) => a.sec - b.sec || a.nsec - b.nsec);
  const at = files({ 'all.pcap': pcapFile(packets, NANO) });
  const all = await records([at], { cutAsIs: true });
  const udp = await records([at], { filter: 'udp or icmp' });
  const rest = await records([at], { filter: 'not (udp or icmp)', workers: 1 });
  const row = ({ analysis }: { analysis: Analysis }) =>
    analysis.reconciliation.rows.find((r) => r.name === 'left out by the filter');
  assert.deepEqual(udp.analysis.reconciliation.captured, all.analysis.reconciliation.captured);
  assert.equal(row(all), undefined);
  // Both leave out what is too short to tell.
  assert.ok(row(udp)!.packets + row(rest)!.packets >= packets.length);
  const long = row(await records([at], { filter: 'greater 100' }))!;
  assert.equal(long.packets + row(await records([at], { filter: 'less 99' }))!.packets, packets.length);
  assert.ok(udp.lines.length > 5 && rest.lines.length > 5);
  assert.ok(udp.lines.every((line) => /"protocol":"(udp|icmp)"/.test(line)));
  // UDP behind a tag is no `udp`.
  assert.ok(rest.lines.every((line) => !/"protocol":"(udp|icmp)".*"vlan":null/.test(line)));
  await assert.rejects(records([at], { filter: 'port x' }), /column 6: "x" is no port/);
});

test('analyze: times until 2106, across 2038; and times that no pcap can say', async () => {
  const [a, b] = [
    ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }, tcp({ sport: 9, dport: 80, flags: SYN, seq: 1 })),
    ipv4(
      { src: '10.0.0.2', dst: '10.0.0.1' },
      tcp({ sport: 80, dport: 9, flags: SYN | ACK, seq: 1, ack: 2 }),
    ),
  ].map((l3) => ethernet({}, l3));
  const last = ethernet({}, ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }, udp({ data: data(2) })));
  const at = files({
    'late.pcap': pcapFile(
      [
        { ...packet(0, 1, a), sec: 2 ** 31 - 1, nsec: 500_000_000 },
        { ...packet(0, 1, b), sec: 2 ** 31, nsec: 250_000_000 },
        { ...packet(0, 1, last), sec: 2 ** 32 - 1, nsec: 999_999_999 },
      ],
      NANO,
    ),
  });
  const outputs = FORMATS.map((format) => ({ format, path: path.join(at, format) }));
  await analyze({ paths: [path.join(at, 'late.pcap')], workers: 0, ...SMALL, outputs });
  const text = (format: string) => fs.readFileSync(path.join(at, format), 'utf8');
  const [first, second] = text('ndjson')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.equal(first.start, '2147483647.500000000');
  assert.equal(first.end, '2147483648.250000000');
  assert.equal(first.duration, 0.75);
  assert.equal(first.syn_ack_time, 0.75);
  assert.equal(second.start, '4294967295.999999999');
  assert.match(text('csv'), /^2147483647\.500000000,2147483648\.250000000,0\.75,/m);
  assert.match(text('zeek'), /^2147483647\.500000\t.*\t0\.750000\t/m);
  assert.match(text('zeek'), /^4294967295\.999999\t/m);
  const [flow] = readIpfix(fs.readFileSync(path.join(at, 'ipfix')))[0].records;
  assert.equal(BigInt(`0x${flow.get('152')}`), 2_147_483_647_500n);

  const blocks = new Blocks();
  const wide = Buffer.concat([
    blocks.section(),
    blocks.iface({ tsresol: 0, tsoffset: 0n }),
    blocks.enhanced(0, 2n ** 33n, a),
    blocks.iface({ tsresol: 0, tsoffset: -50n }),
    blocks.enhanced(1, 1n, last),
  ]);
  const { lines, analysis } = await records([path.join(files({ 'wide.pcapng': wide }), 'wide.pcapng')]);
  assert.equal(analysis.files[0].misdated, 2);
  const got = lines.map((line) => JSON.parse(line));
  assert.deepEqual(
    got.map((r) => [r.start, r.end]),
    [
      ['4294967295.999999999', '4294967295.999999999'],
      ['0.000000000', '0.000000000'],
    ],
  );
});

test('analyze: a capture of headers alone has the connections, packets and bytes of the whole one', async () => {
  const packets = randomTraffic(new Random(21), { packets: 4000, clean: true }).map((p) => ({
    ...p,
    port: 1,
  }));
  // Of fragments the checksum is that of a datagram, and of ICMP errors the packet that they are about may be cut.
  const whole = packets
    .filter(({ frame }) => isPlain(frame))
    .sort((a, b) => a.sec - b.sec || a.nsec - b.nsec);
  const at = files({
    'whole.pcap': pcapFile(whole, NANO),
    'cut.pcap': pcapFile(whole, { ...NANO, snaplen: 96 }),
  });
  const want = await records([path.join(at, 'whole.pcap')]);
  assert.ok(want.lines.length > 20);
  for (const workers of [0, 2]) {
    const got = await records([path.join(at, 'cut.pcap')], { workers });
    assert.ok(got.analysis.files[0].cut > 3);
    assert.deepEqual(got.lines, want.lines);
    assert.deepEqual(got.analysis.reconciliation, want.analysis.reconciliation);
  }
  const { analysis } = await records([path.join(at, 'cut.pcap')], { cutAsIs: true });
  const invalid = analysis.reconciliation.rows.filter((r) => r.name.startsWith('invalid'));
  assert.ok(invalid.reduce((n, r) => n + r.packets, 0) > 3);
  // Captured so short that not all headers are there: invalid, either way.
  const stump = files({ 'a.pcap': pcapFile(whole, { ...NANO, snaplen: 40 }) });
  const { lines } = await records([path.join(stump, 'a.pcap')]);
  assert.ok(lines.length < want.lines.length / 4);
});

/** IPv4 without options, tags and fragments, of TCP or UDP. */
function isPlain(frame: Uint8Array): boolean {
  const bytes = Buffer.from(frame);
  if (bytes.length < 42 || bytes.readUInt16BE(12) !== 0x0800 || bytes[14] !== 0x45) return false;
  return (bytes.readUInt16BE(20) & 0x3fff) === 0 && [6, 17].includes(bytes[23]);
}

test('analyze: behind two VLAN tags, without a flow table of one’s own; with one, behind one, as in Open vSwitch', async () => {
  const both = (tags: EthernetOptions['tags']): Packet[] => [
    packet(1, 1, ethernet({ tags }, ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }, udp({ sport: 9, dport: 7 })))),
    packet(2, 1, ethernet({ tags }, ipv4({ src: '10.0.0.2', dst: '10.0.0.1' }, udp({ sport: 7, dport: 9 })))),
    packet(3, 1, ethernet({ tags }, ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }, udp({ sport: 9, dport: 7 })))),
  ];
  const at = files({
    'two.pcap': pcapFile(both([{ tpid: 0x88a8, vid: 5 }, 6])),
    'three.pcap': pcapFile(both([{ tpid: 0x88a8, vid: 5 }, 6, 7])),
  });
  const flows = 'ip,actions=ct(commit),in_port\nipv6,actions=ct(commit),in_port';
  for (const workers of [0, 1, 2]) {
    const { lines, analysis } = await records([at], { workers });
    assert.equal(lines.length, 1);
    const { vlan, inner_vlan, orig_packets, reply_packets } = JSON.parse(lines[0]);
    assert.deepEqual([vlan, inner_vlan, orig_packets, reply_packets], [5, 6, 2, 1]);
    assert.deepEqual(
      analysis.reconciliation.rows.map((r) => [r.name, r.packets]),
      [
        ['in connections', 3],
        ['not IP', 3],
      ],
    );
    assert.equal((await records([at], { workers, flows })).lines.length, 0);
  }
});

test('analyze: interfaces of a pcapng whose link type is not supported are passed over and counted', async () => {
  const frame = ethernet({}, ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }, udp({})));
  const b = new Blocks();
  const odd = Buffer.alloc(30);
  const at = files({
    'a.pcapng': Buffer.concat([
      ...[b.section(), b.iface({ linkType: 189 }), b.iface(), b.iface({ linkType: 101 })],
      ...[
        b.enhanced(0, 1_000_000n, odd),
        b.enhanced(1, 2_000_000n, frame),
        b.enhanced(0, 3_000_000n, odd, 40),
      ],
      b.enhanced(2, 4_000_000n, frame.subarray(14)),
    ]),
    'b.pcapng': Buffer.concat([b.section(), b.iface({ linkType: 189 }), b.enhanced(0, 9_000_000n, odd)]),
  });
  const { lines, analysis } = await records([at]);
  assert.deepEqual(
    lines.map((line) => JSON.parse(line).orig_packets),
    [2],
  );
  const [first, second] = analysis.files;
  assert.deepEqual([first.packets, first.unreadable], [2, { packets: 2, bytes: 70 }]);
  assert.deepEqual([second.packets, second.unreadable], [0, { packets: 1, bytes: 30 }]);
  for (const { damage, notices } of analysis.files) {
    assert.equal(damage, null);
    assert.deepEqual(
      notices.map((n) => /interface 0: link type 189.*; its packets are passed over/.test(n.message)),
      [true],
    );
  }
  const rows = analysis.reconciliation.rows.map((r) => [r.name, r.packets, r.bytes]);
  assert.deepEqual(rows.at(-1), ['of interfaces whose link type is not supported', 3, 100]);
  assert.equal(analysis.reconciliation.captured.packets, 5);
  const buckets = [];
  for (const k of [0, 1, 2]) {
    const a = await analyze({ paths: [at], workers: 0, ...SMALL, bucket: { k, n: 3 } });
    buckets.push(a.reconciliation.captured);
  }
  assert.equal(
    buckets.reduce((n, c) => n + c.packets, 0),
    5,
  );
});
