/** Runs the shardtrack command line as a child process on a timeline of packets and reads everything it wrote.
 *  SHARDTRACK_CMD replaces the command (words separated by blanks), for a stand-in or another build. */
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { LOCAL, type Outputs, ROOT, secondsText, type TimedPacket, type Timeline } from './fixture.js';

export const COMMAND: readonly string[] = process.env['SHARDTRACK_CMD']
  ? process.env['SHARDTRACK_CMD'].split(/\s+/)
  : [process.execPath, path.join(ROOT, 'dist', 'src', 'cli', 'main.js')];

export interface Verdict {
  readonly packet: number;
  readonly ts: string;
  readonly in_port: number;
  readonly ct: readonly { readonly zone: number; readonly state: string }[];
  readonly out: readonly number[];
  readonly reason: string | null;
}

export interface Run {
  readonly verdicts: readonly Verdict[];
  /** Per packet, in the order of its verdict's `out`. */
  readonly outs: readonly Outputs[];
  readonly conntrack: readonly string[];
  /** What the commands answered, by record. */
  readonly answers: ReadonlyMap<number, { readonly result?: string; readonly error?: string }>;
  readonly stats: Readonly<Record<string, unknown>>;
  /** The files as they are, by name, for comparison between worker counts. */
  readonly files: ReadonlyMap<string, Buffer>;
  readonly ms: number;
}

function words(b: Buffer, ...values: number[]): void {
  for (const [k, w] of values.entries()) b.writeUInt32LE(w, 4 * k);
}

/** A nanosecond pcap, little-endian, Ethernet. */
export function pcapFile(packets: readonly { readonly us: number; readonly frame: Uint8Array }[]): Buffer {
  const head = Buffer.alloc(24);
  words(head, 0xa1b23c4d, 0x00040002, 0, 0, 262144, 1);
  const parts: Uint8Array[] = [head];
  for (const { us, frame } of packets) {
    const h = Buffer.alloc(16);
    words(h, Math.floor(us / 1e6), (us % 1e6) * 1000, frame.length, frame.length);
    parts.push(h, frame);
  }
  return Buffer.concat(parts);
}

/** A pcapng with an interface for each of ports 1 to `ports`, nanoseconds, Ethernet: keeps the order of packets of
 *  one time that arrive on several ports. */
export function pcapngFile(packets: readonly TimedPacket[], ports: number): Buffer {
  const parts: Uint8Array[] = [];
  const block = (type: number, size: number, frame?: Uint8Array): Buffer => {
    const total = 12 + size + (((frame?.length ?? 0) + 3) & ~3);
    const b = Buffer.alloc(total);
    b.writeUInt32LE(type, 0);
    b.writeUInt32LE(total, 4);
    if (frame) b.set(frame, 8 + size);
    b.writeUInt32LE(total, total - 4);
    parts.push(b);
    return b.subarray(8);
  };
  words(block(0x0a0d0d0a, 16), 0x1a2b3c4d, 1, 0xffffffff, 0xffffffff);
  // if_tsresol: 10^-9.
  for (let n = 0; n < ports; n++) words(block(1, 20), 1, 262144, 0x00010009, 9, 0);
  for (const { us, port, frame } of packets) {
    const ns = BigInt(us) * 1000n;
    const body = block(6, 20, frame);
    words(body, port - 1, Number(ns >> 32n), Number(ns & 0xffffffffn), frame.length, frame.length);
  }
  return Buffer.concat(parts);
}

/** The frames of a classic pcap of either byte order. */
export function pcapFrames(file: string, b: Buffer): string[] {
  const le = b.length >= 24 && [0xa1b2c3d4, 0xa1b23c4d].includes(b.readUInt32LE(0));
  if (!le && !(b.length >= 24 && [0xa1b2c3d4, 0xa1b23c4d].includes(b.readUInt32BE(0))))
    throw new Error(`${file} is not a pcap`);
  const frames: string[] = [];
  let o = 24;
  while (o + 16 <= b.length) {
    const n = le ? b.readUInt32LE(o + 8) : b.readUInt32BE(o + 8);
    if (o + 16 + n > b.length) throw new Error(`${file} ends inside a record`);
    frames.push(b.toString('hex', o + 16, o + 16 + n));
    o += 16 + n;
  }
  if (o !== b.length) throw new Error(`${file} ends inside a record header`);
  return frames;
}

function start(argv: readonly string[], timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(COMMAND[0], [...COMMAND.slice(1), ...argv], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    child.stdout.on('data', (d: Buffer) => (said += d));
    child.stderr.on('data', (d: Buffer) => (said += d));
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    child.on('error', (e) => {
      clearTimeout(timer);
      reject(e);
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const first = said.trim().split('\n').slice(0, 6).join('\n    ') || '(no message)';
      if (code === 0) resolve();
      else
        reject(
          new Error(
            `shardtrack ${signal ? `was killed by ${signal}` : `ended with exit code ${code}`}: ${first}`,
          ),
        );
    });
  });
}

export interface RunOptions {
  readonly flows: string;
  readonly groups?: string | null;
  /** Ports 1 to this number exist besides LOCAL. */
  readonly ports: number;
  readonly workers: number;
  readonly work: string;
  /** The timestamps' offset in seconds, for timelines that start at 0. */
  readonly epoch?: number;
  /** Packets of one time keep their order, on whichever ports they arrive (1 to `ports`). */
  readonly mixedPorts?: boolean;
  readonly timeoutMs?: number;
}

export async function runProduct(tl: Timeline, o: RunOptions): Promise<Run> {
  const epochUs = (o.epoch ?? 0) * 1e6;
  const packets = tl.packets.map((p) => ({ ...p, us: p.us + epochUs }));
  mkdirSync(o.work, { recursive: true });
  const inWork = (name: string) => path.join(o.work, name);
  const argv = ['replay', '--flows', o.flows];
  if (o.groups) argv.push('--groups', o.groups);
  const logName = `w${o.workers}-events-log.ndjson`;
  if (tl.events.length) {
    const lines = tl.events.map(
      (e) => `{"t": ${secondsText(e.us + epochUs)}, "${e.kind}": ${JSON.stringify(e.args)}}\n`,
    );
    writeFileSync(inWork('events.ndjson'), lines.join(''));
    argv.push('--events', inWork('events.ndjson'), '--events-log', inWork(logName));
  }
  if (o.mixedPorts) {
    writeFileSync(inWork('in.pcapng'), pcapngFile(packets, o.ports));
    argv.push(inWork('in.pcapng'));
  } else
    for (const port of [...new Set(packets.map((p) => p.port))].sort((x, y) => x - y)) {
      writeFileSync(inWork(`in-${port}.pcap`), pcapFile(packets.filter((p) => p.port === port)));
      argv.push('--in', `${port}=${inWork(`in-${port}.pcap`)}`);
    }
  const outPorts = [...Array.from({ length: o.ports }, (_, k) => k + 1), LOCAL];
  const outName = (p: number) => `w${o.workers}-out-${p}.pcap`;
  for (const p of outPorts) argv.push('--out', `${p}=${inWork(outName(p))}`);
  const [verdictsName, tableName, statsName] = ['verdicts.ndjson', 'conntrack.txt', 'stats.json'].map(
    (n) => `w${o.workers}-${n}`,
  );
  argv.push(
    '--verdicts',
    inWork(verdictsName),
    '--conntrack',
    inWork(tableName),
    '--stats',
    inWork(statsName),
  );
  argv.push('--workers', String(o.workers), '--quiet');

  const began = performance.now();
  await start(argv, o.timeoutMs ?? 60_000);
  const ms = performance.now() - began;

  const files = new Map<string, Buffer>();
  for (const n of [...outPorts.map(outName), verdictsName, tableName, ...(tl.events.length ? [logName] : [])])
    files.set(n.slice(n.indexOf('-') + 1), readFileSync(inWork(n)));
  const queues = new Map(outPorts.map((p) => [p, pcapFrames(outName(p), files.get(`out-${p}.pcap`)!)]));
  const at = new Map(outPorts.map((p) => [p, 0]));
  const verdicts = files
    .get('verdicts.ndjson')!
    .toString()
    .split('\n')
    .filter(Boolean)
    .map((l) => JSON.parse(l) as Verdict);
  if (verdicts.length !== packets.length)
    throw new Error(`${verdicts.length} verdicts for ${packets.length} packets`);
  const outs = verdicts.map((v, k): Outputs => {
    const { us, port } = packets[k];
    if (v.packet !== k + 1 || v.in_port !== port || v.ts !== secondsText(us, 9)) {
      throw new Error(
        `verdict ${k + 1} is of packet ${v.packet}, in_port ${v.in_port}, ts ${v.ts}; packet ${k + 1}, in_port ${port}, ts ${secondsText(us, 9)} expected`,
      );
    }
    return v.out.map((p) => {
      const q = queues.get(p);
      const n = at.get(p) ?? 0;
      if (!q || n >= q.length)
        throw new Error(`verdict ${k + 1} lists an output on port ${p} that its capture does not have`);
      at.set(p, n + 1);
      return [p, q[n]];
    });
  });
  for (const [p, q] of queues) {
    if (q.length !== at.get(p))
      throw new Error(
        `the capture of port ${p} has ${q.length - at.get(p)!} packets more than the verdicts list`,
      );
  }
  const conntrack = files.get('conntrack.txt')!.toString().split('\n').filter(Boolean);
  const stats = JSON.parse(readFileSync(inWork(statsName), 'utf8')) as Record<string, unknown>;
  const logged = (files.get('events-log.ndjson')?.toString() ?? '').split('\n').filter(Boolean);
  if (logged.length !== tl.events.length)
    throw new Error(`${logged.length} lines of log for ${tl.events.length} events`);
  const answers = new Map(
    logged.map((l, k) => [tl.events[k].i, JSON.parse(l) as { result?: string; error?: string }]),
  );
  // The frame that carries the clock is ours: nobody compares it.
  const n = tl.clock ? -1 : undefined;
  return { verdicts: verdicts.slice(0, n), outs: outs.slice(0, n), conntrack, answers, stats, files, ms };
}
