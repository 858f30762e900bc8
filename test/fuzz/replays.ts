/** Whole replays: traffic of the protocol fuzzers, made traffic and shipped captures, its frames mutated, through tables
 *  of all kinds. Every packet gets one verdict; nothing writes to captured frames or depends on what lies around them;
 *  the books balance; the partition is sound; and workers must agree with none. */
import type { SegmentArena } from '../../src/pcap/arena.js';
import { MergedSource } from '../../src/pcap/merge.js';
import type { PacketArena } from '../../src/pcap/types.js';
import { newPacketRecord } from '../../src/pcap/window.js';
import { FUZZERS } from '../differential/fuzz/index.js';
import { mutant } from '../differential/fuzz/mutants.js';
import { Script } from '../differential/scenarios/script.js';
import { natTraffic, randomBalancer, randomNatTable } from '../support/nat-traffic.js';
import { type Packet, Random, unhex } from '../support/packets.js';
import { GROUPS, randomTable } from '../support/random-tables.js';
import { randomTraffic } from '../support/random-traffic.js';
import { difference, MemoryReader, type RunOptions, type RunResult, runSource } from '../support/run.js';
import { DrawnTurns } from '../support/turns.js';
import { mutateBytes } from './mutate.js';
import { check, type MakeTarget, seedOf } from './target.js';

/** In one case of so many workers are threads, which take longer to start than all the rest; in the others they take turns. */
const WITH_THREADS = 40;

interface Case {
  packets: Packet[];
  options: RunOptions;
}

async function drawCase(r: Random): Promise<Case> {
  const n = 100 + r.int(900);
  const kind = r.int(3);
  if (kind === 0) {
    const fuzzer = r.pick(FUZZERS);
    const table = r.int(fuzzer.tables.length);
    const packets: Packet[] = [];
    while (packets.length < n) {
      const script = new Script();
      fuzzer.play(script, (most) => r.int(most), table);
      const last = packets.at(-1)?.sec ?? 0;
      for (const { t, in_port, hex } of script.records) {
        if (in_port === undefined || hex === undefined) continue;
        const sec = Math.floor(t);
        packets.push({
          sec: last + sec,
          nsec: Math.floor((t - sec) * 1e9),
          port: in_port,
          frame: unhex(hex),
        });
      }
    }
    const options = {
      flows: fuzzer.tables[table],
      ports: Array.from({ length: fuzzer.ports }, (_, i) => i + 1),
    };
    return { packets, options };
  }
  const six = r.once(2);
  if (kind === 1) {
    // Answers to what came out: most of them are called back, or kept.
    const tables = r.once(3) ? randomBalancer(r, six) : { flows: randomNatTable(r, six) };
    const packets = await natTraffic(r, { packets: n, six, delay: r.int(40) }, tables);
    return { packets, options: tables };
  }
  const flows = r.once(6)
    ? randomNatTable(r, six)
    : randomTable(r, { groups: true, rewriteTuples: r.once(4) });
  const packets = randomTraffic(r, { packets: n, flows: 2 + r.int(40), plain: r.once(3), calm: r.once(2) });
  return { packets, options: { flows, groups: GROUPS } };
}

/** Changes frames: some not at all, so that there are connections for the others to meet. */
function mutateFrames(r: Random, packets: readonly Packet[]): Packet[] {
  const share = r.pick([2, 4, 10]);
  return packets.map((p, i) => {
    if (!r.once(share)) return p;
    if (r.once(3))
      return { ...p, frame: mutateBytes(r, p.frame, [packets[r.int(i + 1)].frame]).slice(0, 4000) };
    return { ...p, frame: p.frame.length < 15 ? p.frame : mutant((most) => r.int(most), p.frame) };
  });
}

/** An arena that uses no segment twice, so that one can look at what was in it. */
class Paper implements PacketArena {
  readonly sab: SharedArrayBuffer;
  readonly u8: Uint8Array;
  readonly segmentBytes: number;
  readonly nSegments: number;
  private next = 0;
  private held = 0;

  /** Room for all packets, full of `fill`. */
  constructor(packets: readonly Packet[], fill: number) {
    const bytes = packets.reduce((sum, p) => sum + p.frame.length + 1, 0);
    const longest = packets.reduce((most, p) => Math.max(most, p.frame.length), 0);
    this.segmentBytes = Math.max(1 << 14, (longest + 256) & ~7);
    this.nSegments = Math.ceil(bytes / (this.segmentBytes - longest - 64)) + 1;
    this.sab = new SharedArrayBuffer(this.nSegments * this.segmentBytes);
    this.u8 = new Uint8Array(this.sab).fill(fill);
  }

  acquire(): number {
    return this.next++;
  }
  close(): void {}
  hold(): void {
    this.held++;
  }
  release(): void {
    this.held--;
  }
  get nFreeSegments(): number {
    return this.held === 0 ? this.nSegments : 0;
  }
}

/** Runs a case over memory full of `fill`; checks that frames are as they were, and what lies between them. */
export async function runOver(packets: readonly Packet[], o: RunOptions, fill: number): Promise<RunResult> {
  // Of a SegmentArena, a replay needs no more than this.
  const arena = new Paper(packets, fill) as unknown as SegmentArena;
  const source = new MergedSource([new MemoryReader(packets, arena)], arena);
  const result = await runSource(source, arena, (_source, iface) => iface, o);
  const fresh = new Paper(packets, fill) as unknown as SegmentArena;
  const reader = new MemoryReader(packets, fresh);
  const record = newPacketRecord();
  for (let n = 0; n < packets.length; n++) reader.next(record);
  const same = Buffer.compare(Buffer.from(arena.sab), Buffer.from(fresh.sab)) === 0;
  check(same, () => 'something was written into captured frames, or between them');
  return result;
}

export function balanced({ traffic, verdicts }: RunResult, packets: number): void {
  check(verdicts.length === packets, () => `${verdicts.length} verdicts for ${packets} packets`);
  const { ct } = traffic;
  const dropped = Object.values(traffic.drops).reduce((sum, n) => sum + n, 0);
  check(traffic.packets === packets, () => `${traffic.packets} packets counted of ${packets}`);
  check(
    traffic.passed + dropped === packets,
    () => `${traffic.passed} passed and ${dropped} dropped of ${packets}`,
  );
  const ended = ct.expired + ct.evicted + ct.flushed;
  check(ct.commits === ct.live + ended, () => `${ct.commits} commits, ${ct.live} live, ${ended} ended`);
}

export const replayTarget: MakeTarget = (bug) => ({
  name: 'replay',
  about: 'whole replays of mutated captures through random tables',
  seeds: () => [],
  mutate: (r) => r.bytes(4),
  guided: false,
  async run(input) {
    const seed = seedOf(input);
    const r = new Random(seed);
    const { packets: drawn, options } = await drawCase(r);
    const packets = mutateFrames(r, drawn);
    const o: RunOptions = {
      // Tables are made for so many connections more.
      window: 256,
      ...options,
      maxConns: r.pick([3, 20, 1000, 1000]),
      strict: r.once(4),
      records: r.once(6),
    };
    const want = await runOver(packets, o, 0);
    balanced(want, packets.length);
    const workers = 1 + r.int(3);
    const schedule: RunOptions = { ...o, workers, window: 2 + r.int(64), vector: 1 + r.int(9) };
    if (seed % WITH_THREADS === 0) {
      schedule.jitter = r.once(2) ? 0 : 1 + r.int(1 << 20);
      // Whoever finds a ring full waits for the other, which takes no turn meanwhile.
      if (r.once(2)) schedule.ringWords = 2 + r.int(30);
    } else {
      schedule.turns = new DrawnTurns(r);
    }
    const got = await runOver(packets, schedule, 0xff);
    // A deliberate mistake that shows where a packet of a connection is a fragment.
    if (bug) got.verdicts = got.verdicts.map((v) => (v.includes('+inv') ? v.replace('+inv', '+new') : v));
    const diff = difference(want, got);
    check(diff === null, () => `${workers} workers, other surroundings: ${JSON.stringify(o)}\n${diff}`);
    return { files: 0, packets: packets.length };
  },
});
