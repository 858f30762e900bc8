/** The carrier NAT of docs/scenarios: makes the traffic of many subscribers, replays it, answers every packet that left as
 *  the world would, replays both, and looks at who was translated to what.
 *
 *  The answers are made of what the first replay sent. The second one chooses the same, because a choice is a hash of the
 *  connection and the packet's number, and the answers come after all requests. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { FrameBuilder, MIN_FRAME } from '../../src/generate/frames.js';
import { Random } from '../../src/generate/random.js';
import { SegmentArena } from '../../src/pcap/arena.js';
import { MergedSource, newMergedRecord } from '../../src/pcap/merge.js';
import { openCapture } from '../../src/pcap/open.js';
import { PcapWriter } from '../../src/pcap/pcap-writer.js';
import { ReadResult } from '../../src/pcap/types.js';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const CLI = path.join(ROOT, 'dist', 'src', 'cli', 'main.js');
export const CARRIER_FLOWS = path.join(ROOT, 'fixtures', 'scenarios', 'carrier-nat', 'flows.txt');

const EPOCH = 1_600_000_000;
/** 100.64.0.1 and 203.0.113.1, whose last byte the choice of an address shows in. */
const FIRST_SUBSCRIBER = 0x64400001;
const FIRST_OUTSIDE = 0xcb007101 | 0;
const OUTSIDE = 8;
const LEAST_PORT = 1024;
/** Requests take as long, in microseconds, and answers come as late: before UDP forgets the requests. */
const REQUESTS_US = 20e6;
const ANSWERS_AT_US = 30e6;

export interface CarrierOptions {
  readonly subscribers: number;
  /** Connections of each. */
  readonly each: number;
  readonly workers: number;
  /** Folder for the captures. */
  readonly dir: string;
}

export interface CarrierReport {
  readonly connections: number;
  /** By outside address: subscribers and connections behind it. */
  readonly outside: readonly { readonly subscribers: number; readonly connections: number }[];
  /** Packets that left with an address or port out of range. */
  readonly outOfRange: number;
  /** Subscribers that have had more than one outside address. */
  readonly wandering: number;
  /** Packets of two connections that the world can't tell apart. */
  readonly confused: number;
  /** Answers that reached whoever had asked, and answers. */
  readonly home: number;
  readonly answers: number;
}

/** A datagram as it stands in a capture. */
interface Datagram {
  readonly src: number;
  readonly dst: number;
  readonly sport: number;
  readonly dport: number;
}

function replay(args: readonly string[]): Promise<void> {
  return new Promise((done, fail) => {
    const child = spawn(process.execPath, [CLI, 'replay', ...args, '--flows', CARRIER_FLOWS, '--quiet'], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    child.on('error', fail);
    child.on('close', (code) =>
      code === 0 ? done() : fail(new Error(`shardtrack replay ended with ${code}`)),
    );
  });
}

function write(file: string, datagrams: readonly Datagram[], fromUs: number): void {
  const builder = new FrameBuilder();
  const writer = new PcapWriter(file);
  const gap = Math.max(1, Math.floor(REQUESTS_US / datagrams.length));
  for (const [i, d] of datagrams.entries()) {
    const length = builder.udp({ ...d, reply: false }, MIN_FRAME, true);
    const us = fromUs + i * gap;
    const nsec = (us % 1e6) * 1000;
    writer.write(EPOCH + Math.floor(us / 1e6), nsec, builder.bytes, 0, length, length);
  }
  writer.finish();
}

async function read(file: string): Promise<Datagram[]> {
  const arena = new SegmentArena(8);
  const source = new MergedSource([await openCapture(file, arena)], arena);
  const record = newMergedRecord();
  const view = new DataView(arena.sab);
  const datagrams: Datagram[] = [];
  for (;;) {
    const result = source.next(record);
    if (result === ReadResult.END) break;
    if (result === ReadResult.STARVED) await source.readable();
    if (result !== ReadResult.PACKET) continue;
    const { off } = record;
    datagrams.push({
      src: view.getInt32(off + 26),
      dst: view.getInt32(off + 30),
      sport: view.getUint16(off + 34),
      dport: view.getUint16(off + 36),
    });
    arena.release(record.segment);
  }
  source.close();
  return datagrams;
}

/** Every subscriber asks `each` servers once, in random order. */
function requests({ subscribers, each }: CarrierOptions): Datagram[] {
  const random = new Random(1);
  return Array.from(random.permutation(subscribers * each), (i) => ({
    src: FIRST_SUBSCRIBER + (i % subscribers),
    dst: 0xc6330000 + random.below(0x1000),
    sport: 1024 + random.below(64_000),
    dport: [53, 123, 443][random.below(3)],
  }));
}

const text = (d: Datagram): string => `${d.src >>> 0}:${d.sport}>${d.dst >>> 0}:${d.dport}`;

export async function carrier(o: CarrierOptions): Promise<CarrierReport> {
  const file = (name: string) => path.join(o.dir, name);
  const workers = ['--workers', `${o.workers}`];
  const asked = requests(o);
  write(file('subscribers.pcap'), asked, 0);
  await replay(['--in', `1=${file('subscribers.pcap')}`, '--out', `2=${file('world.pcap')}`, ...workers]);
  const left = await read(file('world.pcap'));
  if (left.length !== asked.length) throw new Error(`${left.length} of ${asked.length} requests left`);
  const answers = left.map((d) => ({ src: d.dst, dst: d.src, sport: d.dport, dport: d.sport }));
  write(file('answers.pcap'), answers, ANSWERS_AT_US);
  await replay([
    ...['--in', `1=${file('subscribers.pcap')}`, '--in', `2=${file('answers.pcap')}`],
    ...['--out', `1=${file('home.pcap')}`, ...workers],
  ]);
  const home = await read(file('home.pcap'));

  const outside = Array.from({ length: OUTSIDE }, () => ({ subscribers: 0, connections: 0 }));
  const addressOf = new Map<number, number>();
  const seen = new Set<string>();
  let outOfRange = 0;
  let wandering = 0;
  let confused = 0;
  for (const [i, d] of left.entries()) {
    const k = d.src - FIRST_OUTSIDE;
    if (k < 0 || k >= OUTSIDE || d.sport < LEAST_PORT) {
      outOfRange++;
      continue;
    }
    const before = addressOf.get(asked[i].src);
    if (before === undefined) outside[k].subscribers++;
    else if (before !== k) wandering++;
    addressOf.set(asked[i].src, k);
    outside[k].connections++;
    if (seen.has(text(d))) confused++;
    seen.add(text(d));
  }
  const wanted = asked.map((d) => text({ src: d.dst, dst: d.src, sport: d.dport, dport: d.sport }));
  const came = home.filter((d, i) => text(d) === wanted[i]).length;
  return {
    connections: asked.length,
    outside,
    outOfRange,
    wandering,
    confused,
    home: came,
    answers: answers.length,
  };
}
