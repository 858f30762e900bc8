/** The ct_state of every packet of the shipped Ethernet captures through `ct(commit)` in zone 0, as Open vSwitch
 *  answers: fixtures/captures/ovs-states.jsonl. Both sides see the same clock: the capture's, never going back, in
 *  steps of QUANTUM_MS, gaps of two days at most (each step costs Open vSwitch 10 ms, and centuries of a damaged
 *  capture would cost it minutes).
 *
 *  The file: a head {codes, quantum_ms, flows}, then {file, sha256, version, states} with a letter a packet. */
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';
import { ROOT, readLines } from './fixture.js';
import { isFragment, layers } from './frame.js';
import { Ovs } from './ovs.js';

export const CAPTURES = path.join(ROOT, 'fixtures', 'captures');
export const STATES = path.join(CAPTURES, 'ovs-states.jsonl');
export const QUANTUM_MS = 1000;
const GAP_US = 172_800e6;
/** Longer frames crash OVS's dummy ports. */
const MAX_FRAME = 65535;

export const FLOWS = `# Tracks everything in zone 0 and shows the resulting ct_state in the source MAC.
table=0,priority=10,ip,actions=ct(commit,table=1)
table=0,priority=9,ipv6,actions=ct(commit,table=1)
table=0,priority=0,actions=drop
table=1,actions=move:NXM_NX_CT_STATE[]->NXM_OF_ETH_SRC[0..31],move:NXM_NX_CT_ZONE[]->NXM_OF_ETH_SRC[32..47],output:2
`;

/** A letter for each recorded state. `f` is a piece of a datagram, whose state depends on reassembly. */
export const CODES: Readonly<Record<string, string>> = {
  '-': 'no ct',
  f: 'fragment',
  n: '+new+trk',
  e: '+est+trk',
  r: '+est+rpl+trk',
  i: '+inv+trk',
  l: '+rel+trk',
  L: '+rel+rpl+trk',
};

export interface StatesOfFile {
  readonly file: string;
  readonly sha256: string;
  readonly version: string;
  readonly states: string;
}

export const readStates = (): StatesOfFile[] =>
  existsSync(STATES) ? readLines<StatesOfFile>(STATES).slice(1) : [];

export const sha256 = (b: Buffer): string => createHash('sha256').update(b).digest('hex');

export interface Captured {
  /** Microseconds on the clock that both sides see. */
  readonly us: number;
  readonly frame: Buffer;
}

/** The packets of an Ethernet capture on the common clock, or why the file is not one of those that are compared. */
export function ethernetPackets(data: Buffer): readonly Captured[] | string {
  if (data[0] === 0x1f && data[1] === 0x8b) data = gunzipSync(data);
  const raw: [bigint, Buffer][] = [];
  if (data.length >= 12 && data.readUInt32BE(0) === 0x0a0d0d0a) {
    const why = readNg(data, raw);
    if (why) return why;
  } else {
    const why = readClassic(data, raw);
    if (why) return why;
  }
  let now = 0n;
  let prev: bigint | null = null;
  let shown = 0n;
  const ms = (ns: bigint) => ns / 1_000_000n;
  const gap = BigInt(GAP_US) * 1000n;
  const out: Captured[] = [];
  for (const [ns, frame] of raw) {
    if (frame.length > MAX_FRAME) continue;
    if (prev !== null) {
      const d = ns - prev;
      now += d < 0n ? 0n : d > gap ? gap : d;
    }
    prev = prev === null || ns > prev ? ns : prev;
    if (ms(now) - ms(shown) >= BigInt(QUANTUM_MS)) shown = ms(now) * 1_000_000n;
    out.push({ us: Number(shown / 1000n), frame });
  }
  return out;
}

function readClassic(b: Buffer, out: [bigint, Buffer][]): string {
  if (b.length < 24) return 'not a capture';
  const magic = [
    [0xa1b2c3d4, 1000n],
    [0xa1b23c4d, 1n],
  ] as const;
  let le = true;
  let m = magic.find(([x]) => b.readUInt32LE(0) === x);
  if (!m) {
    le = false;
    m = magic.find(([x]) => b.readUInt32BE(0) === x);
  }
  if (!m) return 'not pcap or pcapng';
  const u32 = (o: number) => (le ? b.readUInt32LE(o) : b.readUInt32BE(o));
  if ((u32(20) & 0xffff) !== 1) return `link type ${u32(20) & 0xffff}`;
  for (let o = 24; o + 16 <= b.length; ) {
    const n = u32(o + 8);
    if (o + 16 + n > b.length) break;
    out.push([BigInt(u32(o)) * 1_000_000_000n + BigInt(u32(o + 4)) * m[1], b.subarray(o + 16, o + 16 + n)]);
    o += 16 + n;
  }
  return '';
}

function readNg(b: Buffer, out: [bigint, Buffer][]): string {
  let le = true;
  let interfaces: { div: bigint; offset: bigint }[] = [];
  const u16 = (o: number) => (le ? b.readUInt16LE(o) : b.readUInt16BE(o));
  const u32 = (o: number) => (le ? b.readUInt32LE(o) : b.readUInt32BE(o));
  for (let o = 0; o + 12 <= b.length; ) {
    if (b.readUInt32BE(o) === 0x0a0d0d0a) {
      le = b.readUInt32LE(o + 8) === 0x1a2b3c4d;
      interfaces = [];
    }
    const type = u32(o);
    const n = u32(o + 4);
    if (n < 12 || n % 4 || o + n > b.length) break;
    if (type === 1) {
      if (u16(o + 8) !== 1) return 'an interface is not Ethernet';
      let div = 1_000_000n;
      let offset = 0n;
      for (let p = o + 16; p + 4 <= o + n - 4 && u16(p) !== 0; p += 4 + ((u16(p + 2) + 3) & ~3)) {
        if (u16(p) === 9) div = b[p + 4] & 128 ? 1n << BigInt(b[p + 4] & 127) : 10n ** BigInt(b[p + 4]);
        if (u16(p) === 14) offset = le ? b.readBigInt64LE(p + 4) : b.readBigInt64BE(p + 4);
      }
      interfaces.push({ div, offset });
    } else if (type === 6) {
      const i = interfaces[u32(o + 8)];
      const ticks = (BigInt(u32(o + 12)) << 32n) | BigInt(u32(o + 16));
      const len = u32(o + 20);
      out.push([
        (ticks * 1_000_000_000n) / i.div + i.offset * 1_000_000_000n,
        b.subarray(o + 28, o + 28 + len),
      ]);
    } else if (type === 2 || type === 3) return 'simple or obsolete packet blocks';
    o += n;
  }
  return '';
}

/** Which packets can be compared: none that are pieces of datagrams, and none between two hosts that have sent each
 *  other such pieces before, since reassembly (which decides about them) is not there yet. */
export function comparable(packets: readonly Captured[]): boolean[] {
  const touched = new Set<string>();
  return packets.map(({ frame }) => {
    const l = layers(frame);
    const pair = [l.src, l.dst].sort().join(' ');
    if (isFragment(frame)) {
      touched.add(pair);
      return false;
    }
    return !touched.has(pair);
  });
}

async function askStates(
  packets: readonly Captured[],
  bindir: string | undefined,
): Promise<{ version: string; states: string }> {
  const dir = mkdtempSync(path.join(os.tmpdir(), 'shardtrack-states-'));
  const ovs = await Ovs.start(bindir, 2);
  try {
    const flows = path.join(dir, 'flows.txt');
    writeFileSync(flows, FLOWS);
    await ovs.addFlows(flows, FLOWS);
    const letter = new Map(Object.entries(CODES).map(([k, v]) => [v, k]));
    let states = '';
    for (const { us, frame } of packets) {
      await ovs.clock(Math.floor(us / 1000));
      const out = await ovs.packet(1, frame.toString('hex'));
      const behindMacs = frame.toString('hex', 12);
      const own = out.find(([, h]) => h.slice(24) === behindMacs);
      if (isFragment(frame)) states += 'f';
      else if (!own) states += '-';
      else {
        const bits = Number.parseInt(own[1].slice(16, 24), 16);
        const names = ['new', 'est', 'rel', 'rpl', 'inv', 'trk']
          .filter((_, k) => (bits >> k) & 1)
          .map((n) => `+${n}`);
        const code = letter.get(names.join(''));
        if (!code) throw new Error(`no letter for ${names.join('') || bits}`);
        states += code;
      }
    }
    return { version: ovs.version, states };
  } finally {
    await ovs.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

/** The recorder's --captures. */
export async function recordCaptures(bindir: string | undefined, check: boolean): Promise<number> {
  const before = new Map(readStates().map((s) => [s.file, s]));
  const lines: StatesOfFile[] = [];
  let changed = 0;
  for (const file of readdirSync(CAPTURES)
    .filter((f) => /\.(pcap|pcapng|cap|trace|ntar)$/.test(f) && !f.startsWith('format-'))
    .sort()) {
    const data = readFileSync(path.join(CAPTURES, file));
    const packets = ethernetPackets(data);
    if (typeof packets === 'string' || !packets.length) {
      process.stdout.write(`${file}: left out: ${packets.length ? packets : 'no packets'}\n`);
      continue;
    }
    const now = await askStates(packets, bindir);
    const old = before.get(file);
    const differ = [...now.states].flatMap((s, k) => (s === old?.states[k] ? [] : [k]));
    if (differ.length || old?.states.length !== now.states.length) {
      changed++;
      const k = differ[0] ?? now.states.length;
      process.stdout.write(
        `${file}: ${differ.length} of ${packets.length} packets differ; packet ${k + 1}: ${CODES[old?.states[k] ?? ''] ?? 'not recorded'} -> ${CODES[now.states[k]]}\n`,
      );
    } else process.stdout.write(`${file}: same (${packets.length} packets)\n`);
    lines.push(!differ.length && old ? old : { file, sha256: sha256(data), ...now });
  }
  if (!check && changed) {
    const head = {
      made: 'npm run oracle:record -- --captures',
      quantum_ms: QUANTUM_MS,
      codes: CODES,
      flows: FLOWS,
    };
    writeFileSync(STATES, [head, ...lines].map((l) => `${JSON.stringify(l)}\n`).join(''));
  }
  return check && changed ? 1 : 0;
}
