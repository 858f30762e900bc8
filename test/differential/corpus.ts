/** npm run oracle:corpus -- DIR [options]: every capture of a folder through Open vSwitch and through shardtrack, with
 *  the flow tables, the clock and the outcomes of capture-states.ts, compared packet by packet.
 *
 *  A line a capture, then totals, what was left out and why, and the first difference of each kind, by cause.
 *  Exit: 0 all agrees, 1 something differs, or a file could not be read or replayed, 2 usage, or no Open vSwitch to ask. */
import {
  appendFileSync,
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { BlockList, isIP } from 'node:net';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { CaptureError, readCaptureFile } from './capture-file.js';
import {
  type Answers,
  askOvs,
  compareWith,
  type Difference,
  digestOf,
  digestOfPackets,
  explanation,
  onClock,
  type Packet,
  pack,
  portsOf,
  QUANTUM_MS,
  type StoredAnswers,
  TABLES,
  type Table,
  unpack,
} from './capture-states.js';
import { describe, isFragment, layers } from './frame.js';
import { OvsMissing } from './ovs.js';

const HELP = `usage: npm run oracle:corpus -- DIR [options]

Replays every Ethernet capture below DIR (pcap, pcapng, gzipped or not; DIR may be one file) through Open vSwitch and
through shardtrack and compares what becomes of each packet: its ct_state, its outputs, and the connections at the end.

  --table NAME       only this table: track (ct(commit) in zone 0) or firewall (fixtures/flows/firewall.txt);
                     default: both
  --inside CIDR,...  firewall: what is inside; default: of two addresses, the one that speaks first
  --ovs-bindir DIR   an installation or a build tree of Open vSwitch; default: the installed one
  --answers FILE     answers of Open vSwitch are taken from FILE, and new ones appended: the next run asks nothing
  --workers LIST     default 0,2: all must agree byte for byte
  --only TEXT        only files whose path contains TEXT
  --max-packets N    only the first N packets of each file
  --quantum MS       steps of the clock, default ${QUANTUM_MS}; each costs Open vSwitch 10 ms
  --jobs N           files at a time, default 2
  --timeout S        for one run of shardtrack, default 600
  --json FILE        a report
`;

class Usage extends Error {}

interface Options {
  readonly root: string;
  readonly tables: readonly Table[];
  readonly inside: BlockList | null;
  readonly bindir: string | undefined;
  readonly answers: AnswerFile | null;
  readonly workers: readonly number[];
  readonly only: string;
  readonly maxPackets: number;
  readonly quantumMs: number;
  readonly jobs: number;
  readonly timeoutMs: number;
  readonly json: string | undefined;
}

function number(text: string, name: string, least: number): number {
  const n = Number(text);
  if (!Number.isSafeInteger(n) || n < least)
    throw new Usage(`--${name} ${text}: a whole number from ${least} on is expected`);
  return n;
}

function insideOf(text: string): BlockList {
  const list = new BlockList();
  for (const cidr of text.split(',')) {
    const [address, bits] = cidr.split('/');
    const version = isIP(address);
    const width = version === 6 ? 128 : 32;
    const n = bits === undefined ? width : Number(bits);
    if (!version || !Number.isInteger(n) || n < 0 || n > width)
      throw new Usage(
        `--inside ${cidr}: an address or a network such as 192.168.0.0/16 or fc00::/7 is expected`,
      );
    list.addSubnet(address, n, version === 6 ? 'ipv6' : 'ipv4');
  }
  return list;
}

function readOptions(argv: readonly string[]): Options | null {
  let parsed: ReturnType<typeof parse>;
  try {
    parsed = parse(argv);
  } catch (e) {
    throw new Usage((e as Error).message);
  }
  const { values: v, positionals } = parsed;
  if (v.help) return null;
  if (positionals.length !== 1) throw new Usage('one folder (or file) of captures is expected');
  const [root] = positionals;
  if (!existsSync(root)) throw new Usage(`${root} does not exist`);
  const tables = TABLES.filter((t) => v.table === undefined || t.name === v.table);
  if (!tables.length)
    throw new Usage(`--table ${v.table}: ${TABLES.map((t) => t.name).join(' or ')} is expected`);
  return {
    root,
    tables,
    inside: v.inside === undefined ? null : insideOf(v.inside),
    bindir: v['ovs-bindir'],
    answers: v.answers === undefined ? null : new AnswerFile(v.answers),
    workers: v.workers.split(',').map((n) => number(n, 'workers', 0)),
    only: v.only ?? '',
    maxPackets: v['max-packets'] === undefined ? Infinity : number(v['max-packets'], 'max-packets', 1),
    quantumMs: number(v.quantum, 'quantum', 1),
    jobs: number(v.jobs, 'jobs', 1),
    timeoutMs: number(v.timeout, 'timeout', 1) * 1000,
    json: v.json,
  };
}

const parse = (argv: readonly string[]) =>
  parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      table: { type: 'string' },
      inside: { type: 'string' },
      'ovs-bindir': { type: 'string' },
      answers: { type: 'string' },
      workers: { type: 'string', default: '0,2' },
      only: { type: 'string' },
      'max-packets': { type: 'string' },
      quantum: { type: 'string', default: String(QUANTUM_MS) },
      jobs: { type: 'string', default: '2' },
      timeout: { type: 'string', default: '600' },
      json: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });

// ---- stored answers ----

/** Answers by what was asked, so that a file may be moved or renamed. What a run was interrupted in is asked again. */
class AnswerFile {
  readonly #file: string;
  readonly #known = new Map<string, StoredAnswers>();

  constructor(file: string) {
    this.#file = file;
    if (!existsSync(file)) {
      writeFileSync(file, '');
      return;
    }
    const text = readFileSync(file, 'utf8');
    const lines = text.split('\n');
    for (const [n, line] of lines.entries()) {
      if (line === '') continue;
      try {
        const s = JSON.parse(line) as StoredAnswers;
        if (s.states !== undefined) this.#known.set(keyOf(s), s);
      } catch (e) {
        if (n === lines.length - 1) continue;
        throw new Usage(`${file}, line ${n + 1}: ${(e as Error).message}: take another file for --answers`);
      }
    }
    if (text !== '' && !text.endsWith('\n')) writeFileSync(file, text.slice(0, text.lastIndexOf('\n') + 1));
  }

  get(asked: Asked): StoredAnswers | undefined {
    return this.#known.get(keyOf(asked));
  }

  add(s: StoredAnswers): void {
    this.#known.set(keyOf(s), s);
    appendFileSync(this.#file, `${JSON.stringify(s)}\n`);
  }
}

type Asked = Pick<StoredAnswers, 'packets' | 'flows' | 'quantum_ms'>;
const keyOf = (a: Asked): string => `${a.packets} ${a.flows} ${a.quantum_ms}`;

// ---- the run ----

interface FileReport {
  readonly file: string;
  packets: number;
  /** Frames that the snap length has cut: both sides see them as they are. */
  cut: number;
  leftOut: Record<string, number>;
  damage?: string;
  /** Why the file is no capture. */
  unusable?: string;
  /** Why it could not be read at all. */
  error?: string;
  readonly tables: {
    readonly table: string;
    readonly version: string;
    readonly compared: number;
    /** Differences in packets, of them those that the documentation explains, and unexplained ones in all else. */
    readonly differ: number;
    readonly explained: number;
    readonly atEnd: number;
    /** Packets behind one that ended Open vSwitch, this one included. */
    readonly unanswered: number;
    readonly error?: string;
  }[];
}

interface Kind {
  readonly table: string;
  readonly cause: string;
  readonly ovs: string;
  readonly shardtrack: string;
  count: number;
  readonly first: { readonly file: string; readonly packet: number | null; readonly words: string };
}

class Report {
  readonly files: FileReport[] = [];
  readonly kinds = new Map<string, Kind>();

  difference(
    file: string,
    table: Table,
    packets: readonly Packet[],
    d: Difference,
    why: string | null,
  ): void {
    const frame = d.k < 0 ? null : packets[d.k].frame;
    const cause =
      why !== null
        ? `explained: ${why}`
        : frame === null
          ? 'connections and files at the end'
          : causeOf(frame);
    const [ovs, shardtrack] = [d.ovs, d.got].map((w) =>
      frame === null
        ? w.replace(/=[^,()]+/g, '=…')
        : w.replace(/@-\d+/g, '@held').replace(/#[0-9a-f]+/g, '#bytes'),
    );
    const id = [table.name, cause, ovs, shardtrack].join('\n');
    const known = this.kinds.get(id);
    if (known) {
      known.count++;
      return;
    }
    const words = frame === null ? `${d.ovs} / ${d.got}` : describe(frame.toString('hex'));
    const first = { file, packet: frame === null ? null : d.k + 1, words };
    this.kinds.set(id, { table: table.name, cause, ovs, shardtrack, count: 1, first });
  }
}

const PROTOCOLS: Readonly<Record<number, string>> = {
  1: 'ICMP',
  6: 'TCP',
  17: 'UDP',
  58: 'ICMPv6',
  132: 'SCTP',
};

function causeOf(frame: Buffer): string {
  const l = layers(frame);
  if (!l.version) return 'not IP';
  const proto = PROTOCOLS[l.proto] ?? `IP protocol ${l.proto}`;
  return `IPv${l.version}, ${isFragment(frame) ? 'fragment of ' : ''}${proto}`;
}

function filesBelow(root: string): string[] {
  if (!statSync(root).isDirectory()) return [''];
  return (readdirSync(root, { recursive: true, withFileTypes: true }) as import('node:fs').Dirent[])
    .filter((e) => e.isFile() || e.isSymbolicLink())
    .map((e) => path.relative(root, path.join(e.parentPath, e.name)))
    .sort();
}

/** As capture-file.ts counts what is not Ethernet. */
const LINK_TYPE = 'link type ';

/** What is held in memory of a file, and of its frames. */
const MAX_FILE = 1 << 30;
const MAX_BYTES = 256 << 20;

function readStart(file: string): { data: Buffer; partly: boolean } {
  if (statSync(file).size <= MAX_FILE) return { data: readFileSync(file), partly: false };
  const data = Buffer.alloc(MAX_FILE);
  const fd = openSync(file, 'r');
  try {
    return { data: data.subarray(0, readSync(fd, data)), partly: true };
  } finally {
    closeSync(fd);
  }
}

function fitting(packets: readonly Packet[]): number {
  let bytes = 0;
  const over = packets.findIndex(({ frame }) => {
    bytes += frame.length;
    return bytes > MAX_BYTES;
  });
  return over < 0 ? packets.length : over;
}

async function one(file: string, o: Options, report: Report): Promise<FileReport> {
  const r: FileReport = { file: file || path.basename(o.root), packets: 0, cut: 0, leftOut: {}, tables: [] };
  let packets: Packet[];
  try {
    const { data, partly } = readStart(path.join(o.root, file));
    const capture = readCaptureFile(data);
    const leave = (why: string, n = 1): void => {
      r.leftOut[why] = (r.leftOut[why] ?? 0) + n;
    };
    for (const [why, n] of capture.leftOut) leave(why, n);
    const records = capture.records.slice(0, o.maxPackets);
    if (records.length < capture.records.length)
      leave('--max-packets', capture.records.length - records.length);
    packets = onClock(records, o.quantumMs, leave);
    if (partly) r.damage = `only its first ${MAX_FILE >> 20} MiB have been read`;
    else if (capture.damage !== null) r.damage = capture.damage;
    const fits = fitting(packets);
    if (fits < packets.length) leave(`behind the first ${MAX_BYTES >> 20} MiB`, packets.length - fits);
    packets = packets.slice(0, fits);
    r.cut = capture.cut;
  } catch (e) {
    if (e instanceof CaptureError) r.unusable = e.message;
    else r.error = (e as Error).message;
    return r;
  }
  r.packets = packets.length;
  if (!packets.length) return r;
  for (const table of o.tables) {
    const ports = portsOf(packets, table, o.inside);
    let answers: Answers;
    try {
      answers = await answersFor(r.file, packets, ports, table, o);
    } catch (e) {
      if (e instanceof OvsMissing) throw e;
      const error = `Open vSwitch: ${(e as Error).message}`;
      r.tables.push({
        table: table.name,
        version: '',
        compared: 0,
        ...{ differ: 0, explained: 0, atEnd: 0 },
        unanswered: packets.length,
        error,
      });
      continue;
    }
    const { version, outcomes } = answers;
    const unanswered = packets.length - outcomes.length;
    let found: Difference[] = [];
    let error: { error?: string } = {};
    try {
      found = await compareWith(answers, packets, ports, table, o.workers, o.timeoutMs);
    } catch (e) {
      error = { error: (e as Error).message };
    }
    let [explained, atEnd] = [0, 0];
    for (const d of found) {
      const why = explanation(packets, table, d, version);
      if (why !== null && d.k >= 0) explained++;
      if (why === null && d.k < 0) atEnd++;
      report.difference(r.file, table, packets, d, why);
    }
    const differ = found.filter((d) => d.k >= 0).length;
    const compared = error.error === undefined ? outcomes.length : 0;
    const counts = { compared, differ, explained, atEnd, unanswered };
    r.tables.push({ table: table.name, version, ...counts, ...error });
  }
  return r;
}

async function answersFor(
  file: string,
  packets: readonly Packet[],
  ports: readonly number[],
  table: Table,
  o: Options,
): Promise<Answers> {
  const asked = {
    packets: digestOfPackets(packets, ports),
    flows: digestOf(table),
    quantum_ms: o.quantumMs,
  };
  const stored = o.answers?.get(asked);
  if (stored) return unpack(stored);
  const now = await askOvs(packets, ports, table, o.bindir, progress(file, table.name, packets.length));
  o.answers?.add({
    ...{ file, table: table.name, ...asked, version: now.version },
    ...{ ...pack(now.outcomes), connections: now.connections },
  });
  return now;
}

/** How far Open vSwitch has got with a long capture, on a terminal. */
function progress(file: string, table: string, n: number): (k: number) => void {
  let next = 2000;
  return (k) => {
    if (!process.stderr.isTTY || (k < next && k < n)) return;
    next += 2000;
    process.stderr.write(k < n ? `\r${file}, ${table}: ${k} of ${n} packets asked\x1b[K` : '\r\x1b[K');
  };
}

function lineOf(r: FileReport, at: number, of: number): string {
  const head = `[${at}/${of}] ${r.file}: `;
  if (r.error !== undefined) return `${head}FAILED: can't be read: ${r.error}\n`;
  if (r.unusable !== undefined) return `${head}left out: ${r.unusable}\n`;
  const left = Object.entries(r.leftOut).map(([why, n]) => `${n} left out: ${why}`);
  const said = r.tables.map((t) => {
    if (t.error !== undefined) return `${t.table}: FAILED: ${t.error}`;
    const ended = t.unanswered ? `, Open vSwitch ended at packet ${t.compared + 1}` : '';
    const bad = t.differ - t.explained + t.atEnd;
    const why = t.explained ? ` but for ${t.explained} explained` : '';
    return `${t.table}: ${bad ? `${bad} DIFFER` : `agree${why}`}${ended}`;
  });
  const damage = r.damage === undefined ? [] : [`not all read: ${r.damage}`];
  return `${head}${r.packets} packets${[...said, ...left, ...damage].map((t) => `; ${t}`).join('')}\n`;
}

function summary(o: Options, report: Report): { text: string; clean: boolean } {
  const lines: string[] = [];
  let clean = true;
  const leftOut = new Map<string, [number, number]>();
  for (const r of report.files) {
    if (r.error !== undefined) clean = false;
    for (const [why, n] of Object.entries(r.leftOut)) {
      const [packets, files] = leftOut.get(why) ?? [0, 0];
      leftOut.set(why, [packets + n, files + 1]);
    }
  }
  const kinds = [...report.kinds.values()].sort(
    (a, b) => a.table.localeCompare(b.table) || a.cause.localeCompare(b.cause) || b.count - a.count,
  );
  for (const [n, k] of kinds.entries()) {
    const before = kinds[n - 1];
    if (before?.table !== k.table || before.cause !== k.cause) lines.push(`${k.table}: ${k.cause}`);
    const { file, packet, words } = k.first;
    const where = packet === null ? file : `${file}, packet ${packet}`;
    lines.push(
      `  ${k.count} x Open vSwitch ${k.ovs}, shardtrack ${k.shardtrack}`,
      `      first: ${where}: ${words}`,
    );
  }
  for (const r of report.files.filter((f) => f.error !== undefined))
    lines.push(`${r.file}: can't be read: ${r.error}`);
  const unusable = report.files.filter((r) => r.unusable !== undefined).length;
  if (unusable) lines.push(`${unusable} files left out: no captures (see above)`);
  const damaged = report.files.filter((r) => r.damage !== undefined).length;
  const cut = report.files.reduce((n, r) => n + r.cut, 0);
  if (cut) lines.push(`${cut} frames were cut by a snap length; both sides saw what there is of them`);
  if (damaged)
    lines.push(`${damaged} files are damaged or very large; what is before that has been compared`);
  const empty = report.files.filter((r) => !r.error && !r.unusable && !r.packets).length;
  if (empty) lines.push(`${empty} files have no packets to compare`);
  const others = [...leftOut].filter(([why]) => why.startsWith(LINK_TYPE)).sort(([, [a]], [, [b]]) => b - a);
  if (others.length) {
    const types = others.map(([why, [packets]]) => `${why.slice(LINK_TYPE.length)} (${packets} packets)`);
    lines.push(`left out: link types other than Ethernet: ${types.join(', ')}`);
  }
  for (const [why, [packets, files]] of leftOut)
    if (!why.startsWith(LINK_TYPE)) lines.push(`left out: ${packets} packets in ${files} files: ${why}`);
  for (const { name } of o.tables) {
    const all = report.files.flatMap((r) => r.tables.filter((t) => t.table === name));
    const sum = (of: (t: (typeof all)[number]) => number) => all.reduce((n, t) => n + of(t), 0);
    const n = {
      compared: sum((t) => t.compared),
      differ: sum((t) => t.differ),
      explained: sum((t) => t.explained),
      atEnd: sum((t) => t.atEnd),
      unanswered: sum((t) => t.unanswered),
      failed: all.filter((t) => t.error !== undefined).length,
    };
    if (n.differ > n.explained || n.atEnd || n.failed) clean = false;
    const versions = [...new Set(all.map((t) => t.version).filter(Boolean))].join(', ') || 'nobody was asked';
    const more = [
      n.explained ? `${n.explained} of them explained in docs/ovs-differences.md` : '',
      n.atEnd ? `${n.atEnd} differences at the end of a capture` : '',
      n.failed ? `${n.failed} files failed` : '',
      n.unanswered ? `${n.unanswered} packets not answered (Open vSwitch ended)` : '',
    ].filter(Boolean);
    lines.push(
      `${name}: ${n.compared} packets of ${all.length} files compared, ${n.compared - n.differ} agree, ` +
        `${n.differ} differ${more.map((t) => `, ${t}`).join('')} (${versions})`,
    );
  }
  if (o.json !== undefined) {
    const left = Object.fromEntries([...leftOut].map(([why, [packets, files]]) => [why, { packets, files }]));
    writeFileSync(
      o.json,
      `${JSON.stringify({ clean, left_out: left, kinds, files: report.files }, null, 1)}\n`,
    );
  }
  return { text: `${lines.join('\n')}\n`, clean };
}

export async function main(argv: readonly string[]): Promise<number> {
  const o = readOptions(argv);
  if (o === null) {
    process.stdout.write(HELP);
    return 0;
  }
  const files = filesBelow(o.root).filter((f) => f.includes(o.only));
  if (!files.length) throw new Usage(`${o.root} has no files${o.only && ` whose path contains ${o.only}`}`);
  const report = new Report();
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < files.length) {
      const r = await one(files[next++], o, report);
      report.files.push(r);
      process.stdout.write(lineOf(r, report.files.length, files.length));
    }
  };
  await Promise.all(Array.from({ length: o.jobs }, lane));
  report.files.sort((a, b) => (a.file < b.file ? -1 : 1));
  const { text, clean } = summary(o, report);
  process.stdout.write(`\n${text}`);
  return clean ? 0 : 1;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    process.exitCode = await main(process.argv.slice(2));
  } catch (e) {
    const remedy = e instanceof OvsMissing ? ', or take answers from another run with --answers' : '';
    process.stderr.write(`oracle:corpus: ${(e as Error).message}${remedy}\n`);
    process.exitCode = e instanceof Usage || e instanceof OvsMissing ? 2 : 1;
  }
}
