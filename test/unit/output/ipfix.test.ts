import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import dgram from 'node:dgram';
import fs from 'node:fs';
import { createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { analyze } from '../../../src/analyze/analyze.js';
import { IpfixRecords } from '../../../src/output/records/ipfix.js';
import { recordJson } from '../../../src/output/records/sinks.js';
import { type IpfixMessage, readIpfix } from '../../support/ipfix.js';

const FIXTURES = fileURLToPath(new URL('../../../../fixtures', import.meta.url));
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-ipfix-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));
const PLAIN = path.join(folder, 'plain.ipfix');
const NAT = path.join(folder, 'nat.ipfix');

// biome-ignore lint/suspicious/noExplicitAny: columns by name
type Row = Record<string, any>;
let rows: Row[];
let natRows: Row[];
let messages: IpfixMessage[];

/** Records of all shipped captures. */
async function write(to: string, flows?: string): Promise<Row[]> {
  const sink = new IpfixRecords(to);
  const got: Row[] = [];
  await analyze({
    paths: [path.join(FIXTURES, 'captures')],
    workers: 0,
    maxConns: 10_000,
    ignoreChecksums: true,
    flows,
    onRecord(r) {
      sink.record(r);
      got.push(JSON.parse(recordJson(r, () => null)));
    },
  });
  sink.finish();
  return got;
}

before(async () => {
  rows = await write(PLAIN);
  const nat = (addr: string): string => `actions=ct(commit,nat(src=${addr})),1`;
  natRows = await write(NAT, `ip,${nat('192.0.2.1')}\nipv6,${nat('2001:db8::1')}\n`);
  messages = readIpfix(fs.readFileSync(PLAIN));
});

const number = (hex: string | undefined): number => (hex === undefined ? Number.NaN : Number(`0x${hex}`));
const ip = (hex: string): string =>
  hex.length === 8
    ? (hex.match(/../g) as string[]).map((b) => Number.parseInt(b, 16)).join('.')
    : new URL(`http://[${(hex.match(/.{4}/g) as string[]).join(':')}]`).hostname.slice(1, -1);
/** The same text for the same address. */
const same = (address: string): string =>
  address.includes(':') ? new URL(`http://[${address}]`).hostname.slice(1, -1) : address;

test('ipfix: an independent reader finds every record, with the values of the other formats', () => {
  const records = messages.flatMap((m) => m.records);
  assert.equal(records.length, rows.length);
  assert.ok(new Set(records.map((r) => r.size)).size >= 3, 'several templates');
  records.forEach((r, i) => {
    const row = rows[i];
    assert.equal(ip((r.get('8') ?? r.get('27')) as string), same(row.src));
    assert.equal(ip((r.get('12') ?? r.get('28')) as string), same(row.dst));
    assert.equal(number(r.get('60')), row.ip_version);
    assert.equal(r.has('7') ? number(r.get('7')) : null, row.sport);
    assert.equal(r.has('11') ? number(r.get('11')) : null, row.dport);
    if (row.icmp_type !== null) assert.equal(number(r.get('32') ?? r.get('139')), row.icmp_type << 8);
    assert.equal(number(r.get('2')), row.orig_packets);
    assert.equal(number(r.get('r2')), row.reply_packets);
    assert.equal(number(r.get('1')), row.orig_bytes);
    assert.equal(number(r.get('r1')), row.reply_bytes);
    assert.equal(number(r.get('352')), row.orig_frame_bytes);
    assert.equal(number(r.get('r352')), row.reply_frame_bytes);
    assert.equal(number(r.get('231')), row.orig_payload_bytes);
    assert.equal(number(r.get('232')), row.reply_payload_bytes);
    assert.equal(number(r.get('10')), row.in_port);
    assert.equal(number(r.get('58')), row.vlan ?? 0);
    const [sec, nsec] = row.start.split('.');
    // Milliseconds have no sign: a damaged time before 1970 becomes 0.
    assert.equal(number(r.get('152')), Math.max(0, Number(sec) * 1000 + Math.floor(Number(nsec) / 1e6)));
    const ntp = r.get('156') as string;
    // Seconds of NTP begin anew in 2036.
    assert.equal((number(ntp.slice(0, 8)) - 2_208_988_800) >>> 0, Number(sec));
    assert.ok(Math.abs((number(ntp.slice(8)) / 2 ** 32) * 1e9 - Number(nsec)) <= 1);
    assert.equal(r.has('6'), row.protocol === 'tcp');
    assert.match(r.get('136') as string, /^0[134]$/);
  });
  assert.equal(new Set(records.map((r) => r.get('148'))).size, records.length, 'flow ids');
});

test('ipfix: messages number their records, and export times do not go back', () => {
  assert.ok(messages.length > 2);
  let sequence = 0;
  let time = 0;
  for (const m of messages) {
    assert.equal(m.sequence, sequence);
    assert.ok(m.exportTime >= time);
    sequence += m.records.length;
    time = m.exportTime;
  }
});

test('ipfix: a translated connection has the tuple behind the translation', () => {
  const records = readIpfix(fs.readFileSync(NAT)).flatMap((m) => m.records);
  const translated = natRows.flatMap((row, i) => (row.nat === null ? [] : [[row, records[i]] as const]));
  assert.ok(translated.length > 50);
  for (const [row, r] of translated) {
    assert.equal(ip((r.get('225') ?? r.get('281')) as string), same(row.reply_dst));
    assert.equal(ip((r.get('226') ?? r.get('282')) as string), same(row.reply_src));
    if (row.sport !== null) {
      assert.equal(number(r.get('227')), row.reply_dport);
      assert.equal(number(r.get('228')), row.reply_sport);
    }
  }
});

const has = (program: string, option = '-V'): boolean => spawnSync(program, [option]).error === undefined;

test('ipfix: tshark dissects the file without a complaint', {
  skip: has('tshark', '--version') ? false : 'tshark is not installed',
}, () => {
  const fields = ['-e', 'cflow.packets', '-e', 'cflow.octets', '-e', '_ws.malformed', '-e', '_ws.expert'];
  const args = ['-r', PLAIN, '-T', 'fields', '-E', 'aggregator=,', ...fields];
  const text = execFileSync('tshark', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  const sums = [0, 0];
  for (const line of text.trimEnd().split('\n')) {
    const [packets, octets, malformed, expert] = line.split('\t');
    assert.equal(`${malformed ?? ''}${expert ?? ''}`, '');
    for (const n of packets.split(',')) sums[0] += Number(n);
    for (const n of octets.split(',')) sums[1] += Number(n);
  }
  const total = (name: string): number =>
    rows.reduce((n, row) => n + row[`orig_${name}`] + row[`reply_${name}`], 0);
  assert.deepEqual(sums, [total('packets'), total('bytes')]);
});

test('ipfix: nfcapd collects it and nfdump lists the same records', {
  skip: has('nfdump') && has('nfcapd') ? false : 'nfdump is not installed',
}, async () => {
  const into = path.join(folder, 'nfcapd');
  fs.mkdirSync(into);
  const port = await freePort();
  const collector = spawn('nfcapd', ['-p', String(port), '-b', '127.0.0.1', '-w', into, '-t', '3600'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = new Promise((resolve) => collector.on('exit', resolve));
  await new Promise<void>((resolve, reject) => {
    collector.on('error', reject);
    collector.stderr.on('data', (text: Buffer) => {
      if (text.includes('Startup')) resolve();
    });
    setTimeout(resolve, 1500).unref();
  });
  const socket = dgram.createSocket('udp4');
  for (const { bytes } of messages) {
    await new Promise((resolve) => socket.send(bytes, port, '127.0.0.1', resolve));
  }
  socket.close();
  await new Promise((resolve) => setTimeout(resolve, 300));
  collector.kill('SIGTERM');
  await ended;
  const text = execFileSync('nfdump', ['-R', into, '-o', 'json'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const got = (JSON.parse(text) as Row[]).map((f) => [
    f.proto,
    same(f.src4_addr ?? f.src6_addr),
    f.src_port ?? null,
    f.in_packets,
    f.in_bytes,
    f.out_packets ?? 0,
    f.out_bytes ?? 0,
  ]);
  const want = rows.map((row) => [
    PROTOCOLS[row.protocol] ?? Number(row.protocol),
    same(row.src),
    // nfdump has no ports of ICMP.
    row.icmp_type === null ? row.sport : null,
    row.orig_packets,
    row.orig_bytes,
    row.reply_packets,
    row.reply_bytes,
  ]);
  const sorted = (list: unknown[][]): string[] => list.map((x) => JSON.stringify(x)).sort();
  assert.deepEqual(sorted(got), sorted(want));
});

const PROTOCOLS: Record<string, number> = { icmp: 1, igmp: 2, tcp: 6, udp: 17, icmpv6: 58, sctp: 132 };

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}
