import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects } from 'hyparquet';
import { type Analysis, analyze } from '../../../src/analyze/analyze.js';
import { queryRecords } from '../../../src/analyze/sql.js';
import { COLUMNS, tcpFlagsText, timeText } from '../../../src/output/records/columns.js';
import { ParquetRecords } from '../../../src/output/records/parquet.js';
import {
  ConntrackRecords,
  CsvRecords,
  DpctlRecords,
  NdjsonRecords,
  type RecordSink,
  ZeekRecords,
} from '../../../src/output/records/sinks.js';

const CAPTURE = fileURLToPath(new URL('../../../../fixtures/captures/web-client.pcap', import.meta.url));
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-records-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));
const file = (name: string): string => path.join(folder, name);
const lines = (name: string): string[] => fs.readFileSync(file(name), 'utf8').trimEnd().split('\n');

// biome-ignore lint/suspicious/noExplicitAny: columns by name
type Row = Record<string, any>;
let analysis: Analysis;
let rows: Row[];

before(async () => {
  let ruleOf: (stat: number) => string | null = () => null;
  const rules = (stat: number): string | null => ruleOf(stat);
  const sinks: RecordSink[] = [
    new NdjsonRecords(file('r.ndjson'), rules),
    new CsvRecords(file('r.csv'), rules),
    new ZeekRecords(file('conn.log')),
    new ConntrackRecords(file('r.txt')),
    new DpctlRecords(file('dpctl.txt')),
    new ParquetRecords(file('r.parquet'), rules),
  ];
  analysis = await analyze({
    paths: [CAPTURE],
    workers: 0,
    maxConns: 10_000,
    onRecord(r, names) {
      ruleOf = names;
      for (const sink of sinks) sink.record(r);
    },
  });
  for (const sink of sinks) sink.finish();
  rows = lines('r.ndjson').map((line) => JSON.parse(line) as Row);
});

test('ndjson: every column of every record', () => {
  assert.equal(rows.length, analysis.summary.connections);
  assert.ok(rows.length > 100);
  for (const row of rows)
    assert.deepEqual(
      Object.keys(row),
      COLUMNS.map((c) => c.name),
    );
});

test('csv: the same values as NDJSON, empty where there are none', () => {
  const [head, ...body] = lines('r.csv');
  assert.equal(head, COLUMNS.map((c) => c.name).join());
  const want = rows.map((row) =>
    Object.values(row)
      .map((v) => (v === null ? '' : String(v)))
      .join(),
  );
  assert.deepEqual(body, want);
});

test('parquet: typed columns with the same values, as another reader sees them', async () => {
  const buffer = await asyncBufferFromFile(file('r.parquet'));
  const { schema } = await parquetMetadataAsync(buffer);
  assert.deepEqual(
    schema.slice(1).map((s) => s.name),
    COLUMNS.map((c) => c.name),
  );
  const got = await parquetReadObjects({
    file: buffer,
    parsers: { timestampFromNanoseconds: (ns: bigint) => ns } as never,
  });
  const want = rows.map((row) =>
    Object.fromEntries(
      COLUMNS.map(({ name, type }) => {
        const v = row[name];
        if (v === null) return [name, undefined];
        if (type === 'time') return [name, BigInt(v.replace('.', ''))];
        return [name, type === 'integer' ? BigInt(v) : v];
      }),
    ),
  );
  assert.deepEqual(
    got.map((row) => Object.fromEntries(Object.entries(row).map(([k, v]) => [k, v ?? undefined]))),
    want,
  );
});

test('sql: DuckDB gets the sums of the reconciliation out of the Parquet file', async () => {
  const { columns, rows: answer } = await queryRecords(
    file('r.parquet'),
    `select count(*)::int as n, sum(orig_packets + reply_packets)::int as packets,
      sum(orig_frame_bytes + reply_frame_bytes)::int as bytes, min(start)::varchar as first from connections`,
  );
  assert.deepEqual(columns, ['n', 'packets', 'bytes', 'first']);
  const { records } = analysis.reconciliation;
  assert.deepEqual(answer[0].slice(0, 3), [records.connections, records.packets, records.bytes]);
  const first = Math.min(...rows.map((r) => Number(r.start)));
  assert.equal(Math.floor(Date.parse(String(answer[0][3])) / 1000), Math.floor(first));
  await assert.rejects(queryRecords(file('r.parquet'), 'select nothing'), /nothing/);
});

test('zeek: conn.log with its head, fields and types', () => {
  const all = lines('conn.log');
  const head = Object.fromEntries(
    all.filter((l) => l.startsWith('#')).map((l) => [l.split(/[\t ]/)[0], l.split(/[\t ]/).slice(1)]),
  );
  assert.deepEqual(head['#separator'], ['\\x09']);
  assert.deepEqual(head['#path'], ['conn']);
  const fields = head['#fields'];
  assert.equal(fields.length, head['#types'].length);
  const body = all.filter((l) => !l.startsWith('#')).map((l) => l.split('\t'));
  assert.equal(body.length, rows.length);
  body.forEach((cells, i) => {
    assert.equal(cells.length, fields.length);
    const z = Object.fromEntries(fields.map((f, k) => [f, cells[k]]));
    const row = rows[i];
    assert.match(z['ts'], /^\d+\.\d{6}$/);
    assert.equal(z['ts'], row['start'].slice(0, -3));
    assert.equal(z['id.orig_h'], row['src']);
    assert.equal(z['proto'], row['protocol']);
    assert.equal(z['conn_state'], row['conn_state']);
    assert.equal(Number(z['orig_pkts']), row['orig_packets']);
    assert.equal(Number(z['resp_ip_bytes']), row['reply_bytes']);
    if (row['duration'] === 0)
      assert.deepEqual([z['duration'], z['orig_bytes'], z['resp_bytes']], ['-', '-', '-']);
    else if (row['protocol'] !== 'tcp') assert.ok(Math.abs(Number(z['duration']) - row['duration']) < 1e-6);
    // Of TCP without what comes after both ends have closed.
    else assert.ok(Number(z['duration']) < row['duration'] + 1e-6);
  });
  assert.equal(new Set(body.map((cells) => cells[1])).size, rows.length, 'uids are unique');
});

test('conntrack: a line as conntrack -L prints them; and as dump-conntrack does', () => {
  const all = lines('r.txt');
  assert.equal(all.length, rows.length);
  assert.match(
    all[0],
    /^udp {6}17 0 src=192\.168\.100\.206 dst=192\.168\.100\.255 sport=137 dport=137 packets=14 bytes=1290 \[UNREPLIED\] src=192\.168\.100\.255 dst=192\.168\.100\.206 sport=137 dport=137 packets=0 bytes=0 mark=0 use=1$/,
  );
  assert.ok(all.some((l) => /^tcp {6}6 0 [A-Z_0-9]+ src=.* \[ASSURED\] mark=0 use=1$/.test(l)));
  const dpctl = lines('dpctl.txt');
  assert.match(
    dpctl[0],
    /^udp,orig=\(src=192\.168\.100\.206,dst=192\.168\.100\.255,sport=137,dport=137\),reply=\(/,
  );
  assert.ok(dpctl.some((l) => l.includes('protoinfo=(state_orig=')));
});

test('columns: flags and times as text', () => {
  assert.equal(tcpFlagsText(2 | 16), 'SA');
  assert.equal(tcpFlagsText(0xff), 'SRPAUECF');
  assert.equal(timeText(1_500_000_000n), '1.500000000');
  assert.equal(timeText(-1n), '-1.999999999');
});

test('records: an output that is given up keeps the name .partial', () => {
  for (const make of [
    () => new CsvRecords(file('p.csv'), () => null),
    () => new ParquetRecords(file('p.csv'), () => null),
  ]) {
    make().abort();
    assert.ok(!fs.existsSync(file('p.csv')) && fs.existsSync(file('p.csv.partial')));
  }
});
