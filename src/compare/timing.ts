/** Compares how long two sides take for the same packets, on a machine that does other things as well.
 *
 *  Both are resident, each in a process of its own, and take turns in slices of some milliseconds over the same part of
 *  the packets, in the order A B B A, so that what comes and goes meets both alike. Code layout and decisions of the
 *  compiler differ from start to start: hence several pairs of fresh processes, each of which gives one ratio, and a
 *  confidence interval over the pairs (Student's, of the logarithms; slices of one pair are not independent).
 *
 *  Three times are compared: by the clock, and processor time of the main thread and of the workers. A slow-down of a
 *  thread that is not the bottleneck shows in the last two only. A pair's ratio is the mean of the middle half of its
 *  slices, since now and then others take the processor away, or its cache.
 *
 *  It looks at the intervals after some of the pairs, and stops when they say enough. */
import { mean } from 'simple-statistics';
import type { Counts } from '../bench/resident.js';
import { BenchChild } from '../bench/run.js';
import { SLICES_VERSION, type Slice, type SliceReady } from '../bench/slices.js';
import type { BenchSpec } from '../bench/spec.js';
import { studentInterval } from '../bench/statistics.js';
import { childOf, type Side } from './sides.js';

export const TIMES = ['time', 'main', 'others'] as const;
export type TimeName = (typeof TIMES)[number];

export interface TimingOptions {
  base: Side;
  candidate: Side;
  baseSpec: BenchSpec;
  candidateSpec: BenchSpec;
  /** A slow-down by more than this is one: 0.01 is a hundredth. */
  tolerance: number;
  /** A slow-down by less than this is none that matters. */
  notice: number;
  /** It ends when so many seconds are over. */
  budgetSeconds: number;
  mostPairs: number;
  sliceMs: number;
  /** Each side's slices of a pair. */
  slices: number;
  /** Processor time of each side before, in every pair. */
  warmupMs: number;
  progress?: (pairs: number, ratios: TimingComparison['ratios']) => void;
  signal?: AbortSignal;
}

/** Candidate's time by base's: 1.05 is 5 % slower. */
export interface Ratio {
  ratio: number;
  low: number;
  high: number;
}

export type TimingVerdict = 'slower' | 'not slower' | "can't tell";

export interface TimingComparison {
  verdict: TimingVerdict;
  pairs: number;
  seconds: number;
  ratios: Partial<Record<TimeName, Ratio>>;
  /** Per packet, of all pairs together; they don't depend on time. */
  counts: { base: Record<string, number>; candidate: Record<string, number> };
  workers: { base: number; candidate: number };
  /** Of each pair, as logarithms. */
  logs: Partial<Record<TimeName, number[]>>;
}

/** When the intervals are looked at. */
const FIRST_LOOK = 5;
const LOOK_EVERY = 3;
/** Chance on each side of an interval. There are some looks at three times each, but for equal sides the tolerance
 *  comes on top. */
const CHANCE = 0.0025;
/** A slice that is too short is all overhead. */
const LEAST_PACKETS = 256;

export async function compareTimes(o: TimingOptions): Promise<TimingComparison> {
  const began = performance.now();
  const elapsed = () => (performance.now() - began) / 1000;
  const logs: Record<TimeName, number[]> = { time: [], main: [], others: [] };
  const totals = { base: emptyCounts(), candidate: emptyCounts() };
  let workers = { base: 0, candidate: 0 };
  let pairs = 0;
  let longest = 0;
  let verdict: TimingVerdict = "can't tell";
  let ratios: TimingComparison['ratios'] = {};
  // A pair that would not be done in time is not begun.
  while (pairs < o.mostPairs && (pairs < 2 || elapsed() + longest < o.budgetSeconds)) {
    const start = elapsed();
    const pair = await runPair(o, pairs);
    longest = Math.max(longest, elapsed() - start);
    pairs++;
    workers = pair.workers;
    for (const name of TIMES) {
      // Without workers the other threads are those of the compiler and the garbage collector.
      if (name === 'others' && workers.base + workers.candidate === 0) continue;
      const log = logRatio(pair.slices, name);
      if (log !== null) logs[name].push(log);
    }
    addCounts(totals.base, pair.counts.base);
    addCounts(totals.candidate, pair.counts.candidate);
    ratios = ratiosOf(logs, pairs);
    o.progress?.(pairs, ratios);
    const isLook = pairs >= FIRST_LOOK && (pairs - FIRST_LOOK) % LOOK_EVERY === 0;
    if (isLook) verdict = judge(ratios, o);
    if (verdict !== "can't tell") break;
  }
  if (verdict === "can't tell" && pairs >= FIRST_LOOK) verdict = judge(ratios, o);
  return {
    verdict,
    pairs,
    seconds: elapsed(),
    ratios,
    counts: { base: perPacket(totals.base), candidate: perPacket(totals.candidate) },
    workers,
    logs,
  };
}

/** What the intervals say. */
export function judge(
  ratios: Partial<Record<string, Ratio>>,
  { tolerance, notice }: Pick<TimingOptions, 'tolerance' | 'notice'>,
): TimingVerdict {
  const all = Object.values(ratios).filter((r) => r !== undefined);
  if (all.length === 0) return "can't tell";
  if (all.some((r) => r.low > 1 + tolerance)) return 'slower';
  if (all.every((r) => r.high < 1 + notice)) return 'not slower';
  return "can't tell";
}

function ratiosOf(logs: Record<TimeName, number[]>, pairs: number): TimingComparison['ratios'] {
  const ratios: TimingComparison['ratios'] = {};
  for (const name of TIMES) {
    // A time that is sometimes not to be had says nothing.
    if (logs[name].length < pairs) continue;
    const { mean, half } = studentInterval(logs[name], 1 - 2 * CHANCE);
    const low = pairs < 2 ? 0 : Math.exp(mean - half);
    const high = pairs < 2 ? Number.POSITIVE_INFINITY : Math.exp(mean + half);
    ratios[name] = { ratio: Math.exp(mean), low, high };
  }
  return ratios;
}

interface Pair {
  /** Of both sides, over the same packets. */
  slices: [base: Slice, candidate: Slice][];
  counts: { base: Counts; candidate: Counts };
  workers: { base: number; candidate: number };
}

async function runPair(o: TimingOptions, index: number): Promise<Pair> {
  // Who starts first may get the better place in memory.
  const baseFirst = index % 2 === 0;
  const early = new Runner(baseFirst ? o.base : o.candidate, o.signal);
  const late = new Runner(baseFirst ? o.candidate : o.base, o.signal);
  const [base, candidate] = baseFirst ? [early, late] : [late, early];
  const both = [early, late];
  try {
    for (const runner of both) await runner.open(runner === base ? o.baseSpec : o.candidateSpec);
    const packets = await warmUp(both, o);
    const before = { base: await base.counts(), candidate: await candidate.counts() };
    const slices: Pair['slices'] = [];
    for (let i = 0; i < o.slices; i++) {
      const turn = ((i + index) & 1) === 0;
      const first = await (turn ? base : candidate).slice(packets);
      const second = await (turn ? candidate : base).slice(packets);
      slices.push(turn ? [first, second] : [second, first]);
    }
    return {
      slices,
      counts: {
        base: difference(await base.counts(), before.base),
        candidate: difference(await candidate.counts(), before.candidate),
      },
      workers: { base: base.workers, candidate: candidate.workers },
    };
  } finally {
    base.end();
    candidate.end();
  }
}

/** Both take turns until each has run for a while; returns how many packets a slice has, the same for both: a part of
 *  a round, or whole rounds, so that both meet the same packets and no part is left out. */
async function warmUp(runners: readonly Runner[], o: TimingOptions): Promise<number> {
  const round = Math.min(...runners.map((r) => r.packets));
  let packets = Math.min(round, 4096);
  const spent = runners.map(() => 0);
  let msPerPacket = 0;
  while (Math.min(...spent) < o.warmupMs) {
    let slowest = 0;
    for (const [i, runner] of runners.entries()) {
      const { time, main, others } = await runner.slice(packets);
      spent[i] += main === null || others === null ? time : main + others;
      slowest = Math.max(slowest, time / packets);
    }
    msPerPacket = slowest;
    packets = slicePackets(round, o.sliceMs / msPerPacket);
  }
  return packets;
}

/** About `wanted` packets: a whole part of a round, or whole rounds. */
export function slicePackets(round: number, wanted: number): number {
  if (wanted >= round) return round * Math.max(1, Math.round(wanted / round));
  return Math.max(Math.min(LEAST_PACKETS, round), Math.ceil(round / Math.max(1, Math.round(round / wanted))));
}

/** Logarithm of the candidate's time by the base's, of the middle half of the slices; null if it can't be told. */
export function logRatio(slices: readonly [Slice, Slice][], name: TimeName): number | null {
  const logs: number[] = [];
  for (const [a, b] of slices) {
    const [x, y] = [a[name], b[name]];
    if (x === null || y === null) return null;
    if (x > 0 && y > 0) logs.push(Math.log(y / x));
  }
  if (logs.length < slices.length / 2) return null;
  logs.sort((x, y) => x - y);
  const cut = Math.floor(logs.length / 4);
  return mean(logs.slice(cut, logs.length - cut));
}

/** A process of one side. */
class Runner {
  private readonly child: BenchChild;
  private readonly label: string;
  packets = 0;
  workers = 0;

  constructor(side: Side, signal: AbortSignal | undefined) {
    this.label = side.label;
    this.child = new BenchChild(side.label, { entry: childOf(side), node: side.node, signal });
  }

  async open(spec: BenchSpec): Promise<void> {
    const { ready } = (await this.child.ask({ kind: 'open', spec })) as { ready: SliceReady };
    if (ready.version !== SLICES_VERSION) {
      throw new Error(
        `${this.label}: it speaks version ${ready.version} of the protocol of slices, this program version ${SLICES_VERSION}`,
      );
    }
    this.packets = ready.packets;
    this.workers = ready.workers;
  }

  async slice(packets: number): Promise<Slice> {
    return ((await this.child.ask({ kind: 'slice', packets })) as { slice: Slice }).slice;
  }

  async counts(): Promise<Counts> {
    return ((await this.child.ask({ kind: 'counts' })) as { counts: Counts }).counts;
  }

  end(): void {
    this.child.end();
  }
}

function emptyCounts(): Counts {
  return {
    packets: 0,
    bytes: 0,
    upcalls: 0,
    commits: 0,
    refused: 0,
    expired: 0,
    microflowHits: 0,
    megaflowHits: 0,
    parked: 0,
    vectors: 0,
  };
}

const NAMES = Object.keys(emptyCounts()) as (keyof Counts)[];

function difference(a: Counts, b: Counts): Counts {
  const d = emptyCounts();
  for (const name of NAMES) d[name] = a[name] - b[name];
  return d;
}

function addCounts(to: Counts, more: Counts): void {
  for (const name of NAMES) to[name] += more[name];
}

function perPacket(counts: Counts): Record<string, number> {
  const { packets } = counts;
  return Object.fromEntries(
    NAMES.filter((name) => name !== 'packets').map((name) => [
      name,
      packets === 0 ? 0 : counts[name] / packets,
    ]),
  );
}
