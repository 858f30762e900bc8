/** What becomes of every packet of a capture, as Open vSwitch answers, and whether shardtrack agrees: through
 *  `ct(commit)` in zone 0, and through the shipped stateful firewall. fixtures/captures/ovs-states.jsonl has the answers
 *  for the shipped captures; corpus.ts asks about any others.
 *
 *  Both sides see the same frames and the same clock: the capture's, never going back, in steps of QUANTUM_MS, gaps of
 *  two days at most (each step costs Open vSwitch 10 ms, and centuries of a damaged capture would cost it minutes).
 *
 *  The outcome of a packet is a word for each output, sorted, or `-` if there is none:
 *
 *      PORT=            the frame as it came in
 *      PORT+new+trk     the frame with this ct_state in its source MAC, where the tables show it
 *      PORT+new+trk@-3  the same of the frame three packets before, a fragment that was held until now
 *      PORT#DIGEST      other bytes
 *
 *  An answer is a line: a `legend` of all outcomes, and `states`, a letter of it a packet. */
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type BlockList, isIPv6 } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { type Record as Captured, readCaptureFile } from './capture-file.js';
import { tableDifferences } from './compare.js';
import { CAPTURES, type Outputs, ROOT, readLines, type Timeline } from './fixture.js';
import { isFragment, layers, STATE_NAMES, stateOfBits, stateText } from './frame.js';
import { Ovs } from './ovs.js';
import { type Run, runProduct } from './product.js';

export const STATES = path.join(CAPTURES, 'ovs-states.jsonl');
export const QUANTUM_MS = 1000;
const GAP_NS = 172_800_000_000_000n;
/** Longer frames crash Open vSwitch's dummy ports; shorter ones than an Ethernet header it takes not at all. */
const MAX_FRAME = 65535;
const MIN_FRAME = 14;
/** An absolute time that any reader accepts, with room for the gaps of a capture. */
const EPOCH_S = 1_000_000_000;

// ---- the tables ----

/** ct_state and ct_zone into the source MAC. */
const SHOW = 'move:NXM_NX_CT_STATE[]->NXM_OF_ETH_SRC[0..31],move:NXM_NX_CT_ZONE[]->NXM_OF_ETH_SRC[32..47]';
const FIREWALL = path.join(ROOT, 'fixtures', 'flows', 'firewall.txt');

export interface Table {
  readonly name: 'track' | 'firewall';
  readonly flows: string;
  readonly ports: number;
}

/** The shipped firewall; what comes back from ct() goes to port 3 as well, with its state. */
export function firewall(): string {
  return readFileSync(FIREWALL, 'utf8').replace(
    /^(table=1,.*actions=)(.*)$/gm,
    (_, rule: string, actions: string) =>
      `${rule}clone(${SHOW},output:3)${actions === 'drop' ? '' : `,${actions}`}`,
  );
}

export const TABLES: readonly Table[] = [
  {
    name: 'track',
    ports: 2,
    flows: `# Tracks everything in zone 0 and shows the resulting ct_state in the source MAC.
table=0,priority=10,ip,actions=ct(commit,table=1)
table=0,priority=9,ipv6,actions=ct(commit,table=1)
table=0,priority=0,actions=drop
table=1,actions=${SHOW},output:2
`,
  },
  { name: 'firewall', ports: 3, flows: firewall() },
];

export const digestOf = (table: Table): string => sha256(Buffer.from(table.flows)).slice(0, 16);

// ---- the packets ----

export interface Packet {
  /** Microseconds on the clock that both sides see. */
  readonly us: number;
  readonly frame: Buffer;
}

/** The packets of a capture on the common clock. `leave` hears of those that are left out. */
export function onClock(
  records: readonly Captured[],
  quantumMs: number,
  leave: (why: string) => void = () => undefined,
): Packet[] {
  const out: Packet[] = [];
  let now = 0n;
  let prev: bigint | null = null;
  let shown = 0n;
  const ms = (ns: bigint) => ns / 1_000_000n;
  for (const [ns, frame] of records) {
    if (frame.length > MAX_FRAME) leave(`over ${MAX_FRAME} bytes`);
    else if (frame.length < MIN_FRAME) leave(`under ${MIN_FRAME} bytes`);
    else {
      if (prev !== null && ns > prev) now += ns - prev > GAP_NS ? GAP_NS : ns - prev;
      prev = prev === null || ns > prev ? ns : prev;
      if (ms(now) - ms(shown) >= BigInt(quantumMs)) shown = ms(now) * 1_000_000n;
      out.push({ us: Number(shown / 1000n), frame });
    }
  }
  return out;
}

/** The port of each packet: of two addresses the one that speaks first, or one in `inside`, is on port 1. */
export function portsOf(packets: readonly Packet[], table: Table, inside: BlockList | null): number[] {
  const first = new Map<string, string>();
  return packets.map(({ frame }) => {
    if (table.name === 'track') return 1;
    const l = layers(frame);
    const [src, dst] = l.version
      ? [l.src, l.dst]
      : [frame.toString('hex', 6, 12), frame.toString('hex', 0, 6)];
    if (inside !== null && l.version) return inside.check(src, isIPv6(src) ? 'ipv6' : 'ipv4') ? 1 : 2;
    const pair = src < dst ? `${src} ${dst}` : `${dst} ${src}`;
    if (!first.has(pair)) first.set(pair, src);
    return first.get(pair) === src ? 1 : 2;
  });
}

/** A digest of all that the answer depends on besides the flow table. */
export function digestOfPackets(packets: readonly Packet[], ports: readonly number[]): string {
  const h = createHash('sha256');
  packets.forEach(({ us, frame }, k) => {
    h.update(`${us} ${ports[k]} ${frame.length}\n`).update(frame);
  });
  return h.digest('hex');
}

export const sha256 = (b: Buffer): string => createHash('sha256').update(b).digest('hex');

// ---- outcomes ----

/** Turns the outputs of each packet in turn into its outcome. */
class Outcomes {
  readonly #packets: readonly Packet[];
  /** Fragments that have not come out yet, by what is behind their MAC addresses. */
  readonly #waiting = new Map<string, number[]>();

  constructor(packets: readonly Packet[]) {
    this.#packets = packets;
  }

  of(k: number, outputs: Outputs): string {
    const { frame } = this.#packets[k];
    const own = frame.toString('hex');
    const behind = own.slice(24);
    const words: string[] = [];
    const gone = new Map<string, number>();
    let self = false;
    for (const [port, h] of outputs) {
      const rest = h.slice(24);
      const earlier = rest === behind ? undefined : this.#waiting.get(rest)?.[0];
      if (h === own) words.push(`${port}=`);
      else if (rest === behind) words.push(`${port}${shownState(h)}`);
      else if (earlier !== undefined) {
        gone.set(rest, earlier);
        words.push(`${port}${shownState(h)}@${earlier - k}`);
      } else words.push(`${port}#${sha256(Buffer.from(h, 'hex')).slice(0, 8)}`);
      self ||= rest === behind;
    }
    for (const rest of gone.keys()) this.#waiting.get(rest)!.shift();
    if (!self && isFragment(frame)) {
      const list = this.#waiting.get(behind);
      if (list) list.push(k);
      else this.#waiting.set(behind, [k]);
    }
    return words.sort().join(' ') || '-';
  }
}

const shownState = (hex: string): string => stateOfBits(Number.parseInt(hex.slice(16, 24), 16));

// ---- answers ----

export interface Answers {
  /** One a packet; fewer if Open vSwitch ended on the way. */
  readonly outcomes: readonly string[];
  /** The connection table at the end; null if Open vSwitch ended on the way. */
  readonly connections: readonly string[] | null;
  readonly version: string;
}

/** An answer in a file. */
export interface StoredAnswers {
  readonly file: string;
  readonly table: string;
  /** digestOfPackets, digestOf(table) and the clock's steps: what the question was. */
  readonly packets: string;
  readonly flows: string;
  readonly quantum_ms: number;
  readonly version: string;
  readonly legend: readonly string[];
  readonly states: string;
  readonly connections: readonly string[] | null;
}

const LETTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789';

export function pack(outcomes: readonly string[]): { legend: string[]; states: string } {
  const numbers = new Map<string, number>();
  for (const o of outcomes) if (!numbers.has(o)) numbers.set(o, numbers.size);
  // What there are no letters for has a character of the plane behind surrogates, one code point each.
  const letter = (n: number) => LETTERS[n] ?? String.fromCodePoint(0x10000 + n);
  return { legend: [...numbers.keys()], states: outcomes.map((o) => letter(numbers.get(o)!)).join('') };
}

export function unpack(s: StoredAnswers): Answers {
  const outcomes = [...s.states].map((c) => {
    const at = LETTERS.indexOf(c);
    const o = s.legend[at < 0 ? c.codePointAt(0)! - 0x10000 : at];
    if (o === undefined) throw new Error(`${s.file}, table ${s.table}: the legend lacks ${c}`);
    return o;
  });
  return { outcomes, connections: s.connections, version: s.version };
}

/** Asks Open vSwitch. If it ends on the way, the answers end there too. */
export async function askOvs(
  packets: readonly Packet[],
  ports: readonly number[],
  table: Table,
  bindir: string | undefined,
  progress: (k: number) => void = () => undefined,
): Promise<Answers> {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'shardtrack-states-'));
  const ovs = await Ovs.start(bindir, table.ports);
  try {
    const flows = path.join(dir, 'flows.txt');
    writeFileSync(flows, table.flows);
    await ovs.addFlows(flows, table.flows, 'never');
    const outcomes: string[] = [];
    const words = new Outcomes(packets);
    try {
      for (const [k, { us, frame }] of packets.entries()) {
        await ovs.clock(Math.floor(us / 1000));
        outcomes.push(words.of(k, await ovs.packet(ports[k], frame.toString('hex'))));
        // What `normal` learns reaches cached flows late.
        if (table.name === 'firewall' && isSwitched(frame)) await ovs.purge();
        progress(k + 1);
      }
      return { outcomes, connections: await ovs.table(), version: ovs.version };
    } catch (e) {
      if (!ovs.ended) throw e;
      return { outcomes, connections: null, version: ovs.version };
    }
  } finally {
    await ovs.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

/** ARP and neighbour discovery: what the firewall sends by MAC address. */
function isSwitched(frame: Buffer): boolean {
  const l = layers(frame);
  return l.etherType === 0x0806 || (l.proto === 58 && (frame[l.l4] === 135 || frame[l.l4] === 136));
}

// ---- comparison ----

export interface Difference {
  /** Index of the packet, or -1: it is about the connection table, or worker counts. */
  readonly k: number;
  readonly ovs: string;
  readonly got: string;
}

/** Why a difference is as it should be, if docs/ovs-differences.md says so; else null. */
export function explanation(
  packets: readonly Packet[],
  table: Table,
  d: Difference,
  version: string,
): string | null {
  const old = Number(/(\d+)\.\d+\.\d+/.exec(version)?.[1] ?? 4) < 4;
  if (d.k < 0) return old && /sctp,/.test(`${d.ovs} ${d.got}`) ? OLD_SCTP : null;
  const { frame } = packets[d.k];
  if (old) {
    const l = layers(frame);
    if (l.proto === 132) return OLD_SCTP;
    // A fragment came out that had been held, and here it never does.
    if (/@-/.test(d.ovs) && !/@-/.test(d.got)) return OLD_FRAGMENTS;
    const error =
      (l.proto === 1 && [3, 4, 5, 11, 12].includes(frame[l.l4])) || (l.proto === 58 && frame[l.l4] < 5);
    if (error && /\+inv/.test(d.ovs) && /\+rel/.test(d.got)) return OLD_ERRORS;
  }
  return table.name === 'firewall' && isSwitched(frame) ? agedOut(packets, d.k) : null;
}

const OLD_SCTP = 'Open vSwitch before 4.0 ignores ports and checksums of SCTP';
const OLD_FRAGMENTS = 'Open vSwitch before 4.0 lets fragments go whose datagram was never complete';
const OLD_ERRORS = 'Open vSwitch before 4.0 calls an ICMP error about a first fragment invalid';

/** Open vSwitch forgets what `normal` has learned 300 s after it was seen, to the second of its own clock. */
function agedOut(packets: readonly Packet[], at: number): string | null {
  const target = packets[at].frame.toString('hex', 0, 6);
  for (let k = at - 1; k >= 0; k--) {
    const { us, frame } = packets[k];
    const age = (packets[at].us - us) / 1e6;
    if (age > 302) return null;
    if (isSwitched(frame) && frame.toString('hex', 6, 12) === target)
      return age >= 298
        ? 'an address that `normal` has learned is forgotten 300 s later, to the second'
        : null;
  }
  return null;
}

/** Runs shardtrack with each number of workers and says where it does something else than Open vSwitch. */
export async function compareWith(
  answers: Answers,
  packets: readonly Packet[],
  ports: readonly number[],
  table: Table,
  workers: readonly number[],
  timeoutMs?: number,
): Promise<Difference[]> {
  const work = mkdtempSync(path.join(os.tmpdir(), 'shardtrack-states-'));
  try {
    const flows = path.join(work, 'flows.txt');
    writeFileSync(flows, table.flows);
    const tl: Timeline = {
      packets: packets.map((p, k) => ({ us: p.us, port: ports[k], frame: p.frame })),
      events: [],
      clock: false,
    };
    const run = (n: number): Promise<Run> =>
      runProduct(tl, {
        flows,
        ports: table.ports,
        workers: n,
        work,
        epoch: EPOCH_S,
        mixedPorts: true,
        ...(timeoutMs === undefined ? {} : { timeoutMs }),
      });
    const first = await run(workers[0]);
    const found: Difference[] = [];
    const words = new Outcomes(packets);
    for (let k = 0; k < answers.outcomes.length; k++) {
      const got = words.of(k, first.outs[k]);
      const want = answers.outcomes[k];
      if (got !== want) found.push({ k, ovs: want, got });
      else if (!verdictSays(got, first.verdicts[k].ct[0]?.state, packets[k].frame)) {
        found.push({ k, ovs: want, got: `${got}, but the verdict says ${first.verdicts[k].ct[0]?.state}` });
      }
    }
    if (answers.connections !== null) {
      for (const t of tableDifferences(answers.connections, first.conntrack)) {
        const [what, line] = t.split(/: (.*)/s);
        const here = what === 'connection missing';
        found.push({
          k: -1,
          ovs: here ? line : 'no such connection',
          got: here ? 'no such connection' : line,
        });
      }
    }
    for (const n of workers.slice(1)) {
      const other = await run(n);
      for (const [name, bytes] of first.files) {
        if (bytes.equals(other.files.get(name)!)) continue;
        found.push({ k: -1, ovs: `${name} with ${workers[0]} workers`, got: `another with ${n} workers` });
      }
    }
    return found;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const SHOWN = new RegExp(`^\\d+((?:\\+(?:${STATE_NAMES.join('|')}))+)$`);

/** Whether the verdict has the state that a frame shows. That of a fragment may be told when it arrives. */
function verdictSays(outcome: string, state: string | undefined, frame: Buffer): boolean {
  if (isFragment(frame)) return true;
  const shown = outcome
    .split(' ')
    .map((w) => SHOWN.exec(w)?.[1])
    .find((s) => s !== undefined);
  return shown === undefined || (state !== undefined && stateText(state) === shown);
}

// ---- the shipped captures ----

export const readStates = (): StoredAnswers[] =>
  existsSync(STATES) ? readLines<StoredAnswers>(STATES).slice(1) : [];

export function shippedPackets(file: string): Packet[] {
  return onClock(readCaptureFile(readFileSync(path.join(CAPTURES, file))).records, QUANTUM_MS);
}

/** The recorder's --captures. */
export async function recordCaptures(bindir: string | undefined, check: boolean): Promise<number> {
  const before = new Map(readStates().map((s) => [`${s.file} ${s.table}`, s]));
  const lines: StoredAnswers[] = [];
  let changed = 0;
  const files = readdirSync(CAPTURES)
    .filter((f) => /\.(pcap|pcapng)$/.test(f) && !f.startsWith('format-'))
    .sort();
  for (const file of files) {
    const packets = shippedPackets(file);
    if (!packets.length) {
      process.stdout.write(`${file}: left out: no Ethernet packets\n`);
      continue;
    }
    for (const table of TABLES) {
      const ports = portsOf(packets, table, null);
      const now = await askOvs(packets, ports, table, bindir);
      const asked = {
        packets: digestOfPackets(packets, ports),
        flows: digestOf(table),
        quantum_ms: QUANTUM_MS,
      };
      const line = {
        ...{ file, table: table.name, ...asked, version: now.version },
        ...{ ...pack(now.outcomes), connections: now.connections },
      };
      const old = before.get(`${file} ${table.name}`);
      const was = old ? unpack(old).outcomes : [];
      const differ = now.outcomes.flatMap((o, k) => (o === was[k] ? [] : [k]));
      const tables = tableDifferences(old?.connections ?? [], now.connections ?? []);
      const same = old && !differ.length && was.length === packets.length && !tables.length;
      if (!same) changed++;
      const k = differ[0] ?? was.length;
      const first = differ.length
        ? `; packet ${k + 1}: ${was[k] ?? 'not recorded'} -> ${now.outcomes[k]}`
        : '';
      const what = `${differ.length} packets and ${tables.length} connections differ${first}`;
      process.stdout.write(`${file}, ${table.name}: ${same ? `same (${packets.length} packets)` : what}\n`);
      lines.push(same && old ? old : line);
    }
  }
  if (!check && changed) {
    const head = {
      made: 'npm run oracle:record -- --captures',
      tables: Object.fromEntries(TABLES.map((t) => [t.name, t.flows])),
    };
    writeFileSync(STATES, [head, ...lines].map((l) => `${JSON.stringify(l)}\n`).join(''));
  }
  return check && changed ? 1 : 0;
}
