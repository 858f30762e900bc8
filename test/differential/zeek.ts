/** `npm run oracle:zeek -- --zeek DIR`: connections of Zeek's own test captures beside the conn.log that Zeek publishes
 *  for them (github.com/zeek/zeek, DIR is its testing/btest). Every test whose conn.log comes of one capture is run
 *  through `analyze` as its command line says, and its lines are compared one by one: which connections there are, and
 *  in each field. A difference is put down to a cause where what is known of both sides tells one; docs/analyze.md has
 *  the list. Nothing of Zeek is in this project: fetch the repository to run it. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { gunzipSync } from 'node:zlib';
import { analyze } from '../../src/analyze/analyze.js';

/** Fields that both sides say; the rest is random, unset here, or a fact about Zeek's analyzers. */
const FIELDS = [
  'proto',
  'duration',
  'orig_bytes',
  'resp_bytes',
  'conn_state',
  'missed_bytes',
  'history',
  'orig_pkts',
  'orig_ip_bytes',
  'resp_pkts',
  'resp_ip_bytes',
] as const;
type Field = (typeof FIELDS)[number];
type Row = Record<string, string>;

interface Baseline {
  name: string;
  log: string;
  capture: string;
  ignoreChecksums: boolean;
  /** Its -f. */
  filter?: string;
  /** Whether the test's script or options change what Zeek does. */
  altered: boolean;
}

const { values: args } = parseArgs({
  options: {
    zeek: { type: 'string' },
    only: { type: 'string' },
    json: { type: 'string' },
    verbose: { type: 'boolean', short: 'v', default: false },
  },
});
if (args.zeek === undefined) {
  process.stderr.write(
    'usage: npm run oracle:zeek -- --zeek .../zeek/testing/btest [--only RE] [-v] [--json FILE]\n',
  );
  process.exit(2);
}
const root = args.zeek;
const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-zeek-'));

/** Tests by the name of their baseline. */
function testFiles(): Map<string, string> {
  const found = new Map<string, string>();
  for (const entry of fs.readdirSync(root, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !/\.(zeek|test|sh|btest)$/.test(entry.name)) continue;
    const file = path.join(entry.parentPath, entry.name);
    const name = path
      .relative(root, file)
      .replace(/\.[a-z]+$/, '')
      .replaceAll('/', '.');
    found.set(name, file);
  }
  return found;
}

/** The baselines whose conn.log comes of one capture and has whole lines. */
function baselines(): Baseline[] {
  const tests = testFiles();
  const found: Baseline[] = [];
  for (const folder of fs.readdirSync(path.join(root, 'Baseline')).sort()) {
    const inside = fs.readdirSync(path.join(root, 'Baseline', folder));
    for (const log of inside.filter((n) => /^conn\.log(\.cut)?$/.test(n))) {
      // Parts of a file behind @TEST-START-NEXT are called NAME-2, NAME-3, ...
      const [, base, part] = /^(.*?)(?:-(\d+))?$/.exec(folder) as unknown as [
        string,
        string,
        string | undefined,
      ];
      const file = tests.get(folder) ?? tests.get(base);
      if (file === undefined) continue;
      let text = fs.readFileSync(file, 'utf8');
      if (!tests.has(folder) && part !== undefined) {
        const parts = text.split(/@TEST-START-NEXT/);
        text = `${[...parts[0].matchAll(/.*@TEST-EXEC.*\n/g)].join('')}${parts[Number(part) - 1] ?? ''}`;
      }
      const commands = [...text.matchAll(/@TEST-EXEC: *(.*)/g)].map((m) => m[1]);
      const before = commands.slice(0, commands.findLastIndex((c) => /btest-diff .*conn\.log/.test(c)) + 1);
      const runs = before.filter((c) => /\bzeek\b.*-r/.test(c));
      const captures = new Set(
        runs.flatMap((c) => [...c.matchAll(/\$\{?TRACES\}?\/([\w./+-]+)/g)].map((m) => m[1])),
      );
      if (captures.size !== 1 || runs.length === 0) continue;
      const [capture] = captures;
      if (!fs.existsSync(path.join(root, 'Traces', capture))) continue;
      found.push({
        name: folder,
        log: path.join(root, 'Baseline', folder, log),
        capture: path.join(root, 'Traces', capture),
        ignoreChecksums:
          runs.some((c) => / -C\b|ignore_checksums=T/.test(c)) || /redef ignore_checksums *= *T/.test(text),
        filter: runs.map((c) => /-f ["']([^"']+)["']/.exec(c)?.[1]).find((f) => f !== undefined),
        altered:
          /set_inactivity_timeout|inactivity_timeout|linger|Pcap::|skip_further|terminate\(|NetControl|GridFTP::|TeredO::/i.test(
            text,
          ),
      });
    }
  }
  return found;
}

/** A log in Zeek's TSV, or as zeek-cut leaves it. */
function rowsOf(file: string): { fields: string[]; rows: Row[] } {
  let separator = '\t';
  let fields: string[] = [];
  const rows: Row[] = [];
  for (const line of fs.readFileSync(file, 'utf8').split('\n')) {
    if (line === '' || line.startsWith('###')) continue;
    if (line.startsWith('#separator')) separator = String.fromCharCode(Number.parseInt(line.slice(13), 16));
    else if (line.startsWith('#fields')) fields = line.split(separator).slice(1);
    else if (line.startsWith('#')) continue;
    else if (fields.length === 0) fields = line.split(separator);
    else rows.push(Object.fromEntries(line.split(separator).map((v, i) => [fields[i], v])));
  }
  return { fields, rows };
}

async function ours(b: Baseline): Promise<Row[]> {
  let { capture } = b;
  if (capture.endsWith('.gz')) {
    capture = path.join(scratch, 'capture');
    fs.writeFileSync(capture, gunzipSync(fs.readFileSync(b.capture)));
  }
  const log = path.join(scratch, 'conn.log');
  await analyze({
    paths: [capture],
    workers: 0,
    maxConns: 200_000,
    ignoreChecksums: b.ignoreChecksums,
    filter: b.filter,
    outputs: [{ format: 'zeek', path: log }],
  });
  return rowsOf(log).rows;
}

const end = (r: Row, who: 'orig' | 'resp'): string => `${r[`id.${who}_h`]} ${r[`id.${who}_p`]}`;
const forth = (r: Row): string => `${r.proto} ${end(r, 'orig')} ${end(r, 'resp')}`;
const back = (r: Row): string => `${r.proto} ${end(r, 'resp')} ${end(r, 'orig')}`;
/** Without what only Zeek writes: ^ (direction turned round), C, T, G, W, I, Q (and small). */
const plain = (history: string): string => history.replace(/[\^ctgwiqCTGWIQ]/g, '');
const isSame = (field: Field, a: string, b: string): boolean =>
  a === b ||
  (field === 'duration' && Math.abs(Number(a) - Number(b)) < 2e-6) ||
  (field === 'history' && (a === '-' ? '' : plain(a)) === (b === '-' ? '' : plain(b)));

/** Why a connection of Zeek's is not ours. */
function missingCause(z: Row, theirs: readonly Row[]): string {
  if (z.tunnel_parents !== undefined && z.tunnel_parents !== '-' && z.tunnel_parents !== '(empty)') {
    return 'inside a tunnel that Zeek unpacks';
  }
  if (z.proto === 'icmp') return 'ICMP without an identifier, or an error: no connection for Open vSwitch';
  if (z.proto === 'unknown_transport') return 'protocol without ports';
  if (
    theirs.some(
      (o) =>
        o !== z &&
        o.tunnel_parents !== undefined &&
        o.tunnel_parents !== '-' &&
        o.tunnel_parents !== '(empty)',
    )
  )
    return 'the tunnel itself, or a frame that Zeek unpacks';
  return 'other';
}

interface Counted {
  compared: number;
  equal: number;
  causes: Map<string, number>;
}
const byField = new Map<Field, Counted>(FIELDS.map((f) => [f, { compared: 0, equal: 0, causes: new Map() }]));
const onlyZeek = new Map<string, number>();
const onlyOurs = new Map<string, number>();
const total = { baselines: 0, zeek: 0, ours: 0, matched: 0, turned: 0, allEqual: 0 };
const details: unknown[] = [];
const count = (map: Map<string, number>, key: string, n = 1): void => {
  map.set(key, (map.get(key) ?? 0) + n);
};
const wanted = args.only === undefined ? null : new RegExp(args.only);

for (const b of baselines()) {
  if (wanted !== null && !wanted.test(b.name)) continue;
  const { fields, rows: zeek } = rowsOf(b.log);
  if (!['id.orig_h', 'id.orig_p', 'id.resp_h', 'id.resp_p'].every((f) => fields.includes(f))) continue;
  if (!fields.includes('proto')) continue;
  const mine = await ours(b);
  total.baselines++;
  total.zeek += zeek.length;
  total.ours += mine.length;
  const left = new Map<string, Row[]>();
  for (const m of mine) {
    const list = left.get(forth(m));
    if (list === undefined) left.set(forth(m), [m]);
    else list.push(m);
  }
  for (const z of zeek) {
    const straight = left.get(forth(z));
    const list = straight !== undefined && straight.length > 0 ? straight : left.get(back(z));
    const m = list?.shift();
    if (m === undefined) {
      const cause = missingCause(z, zeek);
      count(onlyZeek, cause);
      if (args.verbose)
        console.log(
          `${b.name}: only Zeek: ${cause}: ${forth(z)} ${z.conn_state} ${z.history} ${z.orig_pkts}/${z.resp_pkts}`,
        );
      details.push({ baseline: b.name, only: 'zeek', cause, zeek: z });
      continue;
    }
    total.matched++;
    const turned = list !== straight;
    if (turned) total.turned++;
    let equal = !turned;
    if (turned) {
      if (args.verbose)
        console.log(
          `${b.name}: turned: ${forth(z)} Z ${z.conn_state} ${z.history} ${z.orig_pkts}/${z.resp_pkts} O ${m.conn_state} ${m.history} ${m.orig_pkts}/${m.resp_pkts}`,
        );
      continue;
    }
    const wrong: string[] = [];
    for (const field of FIELDS) {
      if (z[field] === undefined || (z[field] === '-' && /pkts|ip_bytes/.test(field))) continue;
      const c = byField.get(field) as Counted;
      c.compared++;
      if (isSame(field, z[field], m[field])) c.equal++;
      else {
        equal = false;
        wrong.push(`${field} ${z[field]} | ${m[field]}`);
      }
    }
    if (equal) total.allEqual++;
    else {
      if (args.verbose)
        console.log(
          `${b.name}${b.altered ? ' (altered)' : ''}: ${forth(z)} ${z.conn_state} ${z.history} ${z.orig_pkts}/${z.resp_pkts}: ${wrong.join('; ')}`,
        );
      details.push({ baseline: b.name, altered: b.altered, connection: forth(z), wrong, zeek: z, ours: m });
    }
  }
  for (const list of left.values()) {
    for (const m of list) {
      count(onlyOurs, m.proto);
      if (args.verbose)
        console.log(
          `${b.name}: only ours: ${forth(m)} ${m.conn_state} ${m.history} ${m.orig_pkts}/${m.resp_pkts}`,
        );
      details.push({ baseline: b.name, only: 'ours', ours: m });
    }
  }
}
console.log(
  JSON.stringify(
    { total, onlyZeek: Object.fromEntries(onlyZeek), onlyOurs: Object.fromEntries(onlyOurs) },
    null,
    1,
  ),
);
for (const [field, c] of byField) console.log(`${field.padEnd(14)} ${c.equal} of ${c.compared}`);
if (args.json !== undefined) fs.writeFileSync(args.json, JSON.stringify(details, null, 1));
fs.rmSync(scratch, { recursive: true, force: true });
