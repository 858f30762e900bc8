/** Connections, packets and bytes of the shipped captures are the same in every format that has them, and in the summary: under
 *  the default table, under ones that drop or translate, and of random traffic. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type AnalyzeOptions, analyze } from '../../src/analyze/analyze.js';
import { queryRecords } from '../../src/analyze/sql.js';
import { FORMATS } from '../../src/output/records/formats.js';
import { readIpfix } from '../support/ipfix.js';
import { pcapFile, Random } from '../support/packets.js';
import { randomTraffic } from '../support/random-traffic.js';

const FIXTURES = fileURLToPath(new URL('../../../fixtures', import.meta.url));
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-formats-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));
const file = (name: string): string => path.join(folder, name);

/** By direction; `frames`: bytes of frames, in the formats that have them; without any: dump-conntrack. */
interface Sums {
  connections: number;
  packets?: [number, number];
  bytes?: [number, number];
  frames?: [number, number];
}

const NAMES = ['packets', 'bytes', 'frames'] as const;
const COLUMNS = ['packets', 'bytes', 'frame_bytes'].flatMap((n) => [`orig_${n}`, `reply_${n}`]);

/** Of rows with the six columns. */
function sums(rows: readonly (readonly (string | number)[])[]): Sums {
  const total = COLUMNS.map((_, i) =>
    rows.reduce((n, row) => {
      const value = Number(row[i]);
      assert.ok(Number.isSafeInteger(value), `${COLUMNS[i]} is ${row[i]}`);
      return n + value;
    }, 0),
  );
  const pair = (i: number): [number, number] => [total[i], total[i + 1]];
  return { connections: rows.length, packets: pair(0), bytes: pair(2), frames: pair(4) };
}

const without = ({ frames: _, ...rest }: Sums): Sums => rest;
const text = (name: string): string[] => {
  const all = fs.readFileSync(file(name), 'utf8').trimEnd();
  return all === '' ? [] : all.split('\n');
};

/** What each file says; nothing is shared with what has written them. */
const READERS: Record<(typeof FORMATS)[number], () => Sums | Promise<Sums>> = {
  ndjson: () => sums(text('ndjson').map((line) => COLUMNS.map((c) => JSON.parse(line)[c] as number))),
  csv() {
    const [head, ...lines] = text('csv').map((line) => line.split(','));
    // No field before these columns has a comma in it.
    const at = COLUMNS.map((c) => head.indexOf(c));
    assert.ok(
      !text('csv').some(
        (line) => line.slice(0, line.indexOf('"')).split(',').length < at[5] && line.includes('"'),
      ),
    );
    return sums(lines.map((fields) => at.map((i) => fields[i])));
  },
  async parquet() {
    const list = COLUMNS.map((c) => `coalesce(sum(${c}), 0)`).join();
    const { rows } = await queryRecords(file('parquet'), `select count(*), ${list} from connections`);
    const [connections, ...total] = (rows[0] as string[]).map(Number);
    return { ...sums([total]), connections };
  },
  zeek() {
    const lines = text('zeek').map((line) => line.split('\t'));
    const names = (lines.find((l) => l[0] === '#fields') as string[]).slice(1);
    const at = ['orig_pkts', 'resp_pkts', 'orig_ip_bytes', 'resp_ip_bytes'].map((n) => names.indexOf(n));
    const rows = lines.filter((l) => !l[0].startsWith('#'));
    return without(sums(rows.map((l) => [...at.map((i) => l[i]), 0, 0])));
  },
  ipfix() {
    // octetDeltaCount is 1, packetDeltaCount 2, `r` before those of the reverse direction.
    const of = (hex: string | undefined): number => (hex === undefined ? 0 : Number(`0x${hex}`));
    const records = readIpfix(fs.readFileSync(file('ipfix'))).flatMap((m) => m.records);
    const rows = records.map((r) => [...['2', 'r2', '1', 'r1'].map((id) => of(r.get(id))), 0, 0]);
    return without(sums(rows));
  },
  conntrack() {
    const rows = text('conntrack').map((line) => {
      const [packets, bytes] = ['packets', 'bytes'].map((n) =>
        [...line.matchAll(new RegExp(` ${n}=(\\d+)`, 'g'))].map((m) => m[1]),
      );
      assert.equal(packets.length, 2, line);
      return [...packets, ...bytes, 0, 0];
    });
    return without(sums(rows));
  },
  dpctl() {
    const lines = text('dpctl');
    assert.ok(lines.every((line) => /^\w+,orig=\(.*\),reply=\(/.test(line)));
    return { connections: lines.length };
  },
};

async function check(what: string, options: Omit<AnalyzeOptions, 'outputs'>): Promise<number> {
  const outputs = FORMATS.map((format) => ({ format, path: file(format) }));
  const { reconciliation, summary } = await analyze({ workers: 0, maxConns: 20_000, ...options, outputs });
  const all = await READERS.ndjson();
  for (const format of FORMATS) {
    const got = await READERS[format]();
    const want = { ...all };
    for (const name of NAMES) if (got[name] === undefined) delete want[name];
    assert.deepEqual(got, want, `${what}: ${format}`);
  }
  const { records } = reconciliation;
  const both = (pair: [number, number] | undefined): number =>
    (pair as [number, number])[0] + (pair as [number, number])[1];
  assert.deepEqual(
    { connections: all.connections, packets: both(all.packets), bytes: both(all.frames) },
    { connections: records.connections, packets: records.packets, bytes: records.bytes },
    what,
  );
  for (const counts of [summary.endings, summary.protocols]) {
    assert.equal(
      [...counts.values()].reduce((a, b) => a + b, 0),
      all.connections,
      what,
    );
  }
  return all.connections;
}

test('formats: the sums of the shipped captures are the same in all of them', async () => {
  const paths = [path.join(FIXTURES, 'captures'), path.join(FIXTURES, 'compressed')];
  const firewall = fs.readFileSync(path.join(FIXTURES, 'flows', 'firewall.txt'), 'utf8');
  const nat = (addr: string) => `actions=ct(commit,zone=9,nat(src=${addr})),1`;
  const tables: [string, string | undefined][] = [
    ['default', undefined],
    ['firewall', firewall],
    ['translated', `ip,${nat('192.0.2.1')}\nipv6,${nat('2001:db8::1')}\n`],
    ['two zones', 'ip,actions=ct(commit,zone=1),ct(commit,zone=2),in_port\n'],
  ];
  const connections = [];
  for (const [what, flows] of tables)
    connections.push(await check(what, { paths, flows, ignoreChecksums: true }));
  assert.ok(connections.every((n) => n > 100) && connections[3] > connections[0], connections.join());
});

test('formats: the sums of random traffic are the same in all of them', async () => {
  for (let seed = 1; seed <= 6; seed++) {
    const packets = randomTraffic(new Random(seed), { packets: 400 }).map((p) => ({ ...p, port: 1 }));
    packets.sort((a, b) => a.sec - b.sec || a.nsec - b.nsec);
    fs.writeFileSync(file('random.pcap'), pcapFile(packets, { nano: true }));
    assert.ok((await check(`seed ${seed}`, { paths: [file('random.pcap')] })) > 10);
  }
});
