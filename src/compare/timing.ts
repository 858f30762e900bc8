/** Compares how long two sides take for the same packets, on a machine that does other things as well.
 *
 *  Both are resident, each in a process of its own, and take turns in slices of some milliseconds over the same part of
 *  the packets, in the order A B B A, so that what comes and goes meets both alike. Code layout and decisions of the
 *  compiler differ from start to start: hence several pairs of fresh processes, each of which gives one ratio, and a
 *  confidence interval over the pairs (of the logarithms; slices of one pair are not independent).
 *
 *  Times are compared: by the clock, and processor time of the main thread and of the workers. A slow-down of a
 *  thread that is not the bottleneck shows in the last two only. A pair's ratio is the mean of the middle half of its
 *  slices, since now and then others take the processor away, or its cache.
 *
 *  A fourth comes from short slices that begin with empty flow caches: processor time of all threads when the flow tables
 *  must be asked, which warm slices hardly do. It is known less well, so it can show a slow-down but not the lack of one.
 *
 *  On a busy machine slices scatter, so a pair goes on until its own ratio is known well enough or has taken as long as
 *  its start. The comparison looks at the intervals after some of the pairs, and stops when they say enough. */
import { mean, quantileSorted } from 'simple-statistics';
import type { Counts } from '../bench/resident.js';
import { BenchChild } from '../bench/run.js';
import { SLICES_VERSION, type Slice, type SliceReady } from '../bench/slices.js';
import type { BenchSpec } from '../bench/spec.js';
import { studentInterval, wilcoxonInterval } from '../bench/statistics.js';
import { childOf, type Side } from './sides.js';

export const TIMES = ['time', 'main', 'others', 'cold'] as const;
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
  /** Each side's slices of a pair, at least. */
  slices: number;
  /** Processor time of each side before, in every pair, at most. */
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
const LOOK_EVERY = 2;
/** Chance on each side of an interval of each kind. There are some looks at three times each, but for equal sides the
 *  tolerance comes on top. Drawn 1,600 times with 25 pairs that vary by 2 to 4 %, equal sides were called slower in at most
 *  0.5 %, and 5 % was found in 97 to 100 % (`npm run bench:regression -- --draw 1600`). */
const CHANCE = 0.0025;
/** Together, on both sides, in percent. */
export const INTERVAL = 100 * (1 - 4 * CHANCE);
/** A pair's ratio is known well enough with this standard error. */
const SURE = 0.004;
/** Nor do its slices take more than this share of the time that there is for all pairs. */
const MOST_OF_BUDGET = 0.05;
/** Slices between two looks at that. */
const MORE_SLICES = 8;
/** Slices over which a side must have become no faster, by more than SETTLED, to be warm, and the least time before. */
const SETTLING = 5;
const SETTLED = 0.03;
const LEAST_WARMUP = 0.5;
/** Slices with empty flow caches: how many to each warm one, and how many packets. */
const COLD_SLICES = 2;
const COLD_PACKETS = 1024;
/** A slice that is too short is all overhead. */
const LEAST_PACKETS = 256;

export async function compareTimes(o: TimingOptions): Promise<TimingComparison> {
  const began = performance.now();
  const elapsed = () => (performance.now() - began) / 1000;
  const logs: Record<TimeName, number[]> = { time: [], main: [], others: [], cold: [] };
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
      const log = name === 'cold' ? logRatio(pair.cold, 'cpu') : logRatio(pair.slices, name);
      if (log !== null) logs[name].push(log);
    }
    addCounts(totals.base, pair.counts.base);
    addCounts(totals.candidate, pair.counts.candidate);
    ratios = ratiosOf(logs, pairs);
    o.progress?.(pairs, ratios);
    if (isLook(pairs)) verdict = earlyVerdict(ratios, o);
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
  const { cold, ...warm } = ratios;
  const telling = Object.values(warm).filter((r) => r !== undefined);
  if (telling.length > 0 && telling.every((r) => r.high < 1 + notice)) return 'not slower';
  return "can't tell";
}

/** Whether the intervals are looked at after so many pairs. */
export function isLook(pairs: number): boolean {
  return pairs >= FIRST_LOOK && (pairs - FIRST_LOOK) % LOOK_EVERY === 0;
}

/** Small slow-downs take more pairs: what looks like one is not called none before the time is over. */
export function earlyVerdict(
  ratios: Partial<Record<string, Ratio>>,
  limits: Pick<TimingOptions, 'tolerance' | 'notice'>,
): TimingVerdict {
  const verdict = judge(ratios, limits);
  if (verdict !== 'not slower') return verdict;
  const { cold, ...warm } = ratios;
  const all = Object.values(warm).filter((r) => r !== undefined);
  return all.every((r) => r.ratio < 1 + limits.tolerance) ? verdict : "can't tell";
}

/** Of the candidate's time by base's, from the pairs' logarithms: the narrower of Student's interval, which needs few
 *  pairs, and Wilcoxon's, which does not mind a pair that is far out, as those are in which the compiler has decided otherwise. */
export function ratioOf(logs: readonly number[]): Ratio {
  const { mean: m, half } = studentInterval(logs, 1 - 2 * CHANCE);
  const ranks = wilcoxonInterval(logs, CHANCE);
  const ratio = Math.exp(ranks.centre);
  if (logs.length < 2) return { ratio, low: 0, high: Number.POSITIVE_INFINITY };
  return {
    ratio,
    low: Math.min(ratio, Math.exp(Math.max(m - half, ranks.low))),
    high: Math.max(ratio, Math.exp(Math.min(m + half, ranks.high))),
  };
}

function ratiosOf(logs: Record<TimeName, number[]>, pairs: number): TimingComparison['ratios'] {
  const ratios: TimingComparison['ratios'] = {};
  for (const name of TIMES) {
    // A time that is sometimes not to be had says nothing.
    if (logs[name].length < pairs) continue;
    ratios[name] = ratioOf(logs[name]);
  }
  return ratios;
}

interface Pair {
  /** Of both sides, over the same packets. */
  slices: [base: Slice, candidate: Slice][];
  /** With empty flow caches at first; none if a side does not know that. */
  cold: [base: Slice, candidate: Slice][];
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
  const began = performance.now();
  try {
    await Promise.all(both.map((runner) => runner.open(runner === base ? o.baseSpec : o.candidateSpec)));
    const packets = await warmUp(both, o);
    const start = performance.now();
    const mostMs = Math.min(start - began, o.budgetSeconds * MOST_OF_BUDGET * 1000);
    const before = { base: await base.counts(), candidate: await candidate.counts() };
    const turns = async (i: number, n: number, cold: boolean): Promise<[Slice, Slice]> => {
      const turn = ((i + index) & 1) === 0;
      const first = await (turn ? base : candidate).slice(n, cold);
      const second = await (turn ? candidate : base).slice(n, cold);
      return turn ? [first, second] : [second, first];
    };
    const slices: Pair['slices'] = [];
    for (let i = 0; i < o.slices || !isEnough(slices, start, mostMs); i++) {
      slices.push(await turns(i, packets, false));
    }
    const counts = {
      base: difference(await base.counts(), before.base),
      candidate: difference(await candidate.counts(), before.candidate),
    };
    const cold: Pair['cold'] = [];
    if (both.every((runner) => runner.knowsCold)) {
      const few = Math.min(base.packets, candidate.packets, COLD_PACKETS);
      for (let i = 0; i < o.slices * COLD_SLICES; i++) cold.push(await turns(i, few, true));
    }
    return {
      slices,
      cold,
      counts,
      workers: { base: base.workers, candidate: candidate.workers },
    };
  } finally {
    base.end();
    candidate.end();
  }
}

/** Whether a pair's ratio is known well enough, or has taken `mostMs`. Asked now and then. */
function isEnough(slices: Pair['slices'], start: number, mostMs: number): boolean {
  if (slices.length % MORE_SLICES !== 0) return false;
  if (performance.now() - start > mostMs) return true;
  return (['time', 'main', 'others'] as const).every((name) => {
    // The clock says little on a busy machine; processor time does, if it is told.
    if (name === 'time' && slices[0][0].main !== null) return true;
    const logs = logsOf(slices, name);
    if (logs === null || logs.length < 2) return true;
    logs.sort((x, y) => x - y);
    // Of normal values the middle half is 1.35 standard deviations wide.
    const deviation = (quantileSorted(logs, 0.75) - quantileSorted(logs, 0.25)) / 1.35;
    return deviation / Math.sqrt(logs.length) < SURE;
  });
}

/** Both take turns until each has run for a while and has become no faster; returns how many packets a slice has, the same for both: a part of
 *  a round, or whole rounds, so that both meet the same packets and no part is left out. */
async function warmUp(runners: readonly Runner[], o: TimingOptions): Promise<number> {
  const round = Math.min(...runners.map((r) => r.packets));
  let packets = Math.min(round, 4096);
  const spent = runners.map(() => 0);
  const costs: number[][] = runners.map(() => []);
  let msPerPacket = 0;
  for (;;) {
    const least = Math.min(...spent);
    if (least >= o.warmupMs || (least >= o.warmupMs * LEAST_WARMUP && costs.every(isSettled))) break;
    let slowest = 0;
    for (const [i, runner] of runners.entries()) {
      const { time, main, others } = await runner.slice(packets, false);
      const cost = main === null || others === null ? time : main + others;
      spent[i] += cost;
      costs[i].push(cost / packets);
      slowest = Math.max(slowest, time / packets);
    }
    msPerPacket = slowest;
    packets = slicePackets(round, o.sliceMs / msPerPacket);
  }
  return packets;
}

/** Whether the last slices cost about what those before did. */
function isSettled(costs: readonly number[]): boolean {
  if (costs.length < 2 * SETTLING) return false;
  const middle = (from: number, to?: number) =>
    quantileSorted(
      costs.slice(from, to).sort((a, b) => a - b),
      0.5,
    );
  return middle(-SETTLING) > middle(-2 * SETTLING, -SETTLING) * (1 - SETTLED);
}

/** About `wanted` packets: a whole part of a round, or whole rounds. */
export function slicePackets(round: number, wanted: number): number {
  if (wanted >= round) return round * Math.max(1, Math.round(wanted / round));
  return Math.max(Math.min(LEAST_PACKETS, round), Math.ceil(round / Math.max(1, Math.round(round / wanted))));
}

/** Of a slice: `cpu` is that of all threads. */
type SliceTime = keyof Slice | 'cpu';

function timeOf(slice: Slice, name: SliceTime): number | null {
  if (name !== 'cpu') return slice[name];
  return slice.main === null || slice.others === null ? null : slice.main + slice.others;
}

/** Logarithms of the candidate's time by the base's, of each slice; null if it can't be told. */
function logsOf(slices: readonly [Slice, Slice][], name: SliceTime): number[] | null {
  const logs: number[] = [];
  for (const [a, b] of slices) {
    const [x, y] = [timeOf(a, name), timeOf(b, name)];
    if (x === null || y === null) return null;
    if (x > 0 && y > 0) logs.push(Math.log(y / x));
  }
  return logs;
}

/** Logarithm of the candidate's time by the base's, of the middle half of the slices; null if it can't be told. */
export function logRatio(slices: readonly [Slice, Slice][], name: SliceTime): number | null {
  const logs = logsOf(slices, name);
  if (logs === null || logs.length === 0 || logs.length < slices.length / 2) return null;
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
  /** Installations of before that do not say so. */
  knowsCold = false;

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
    this.knowsCold = ready.cold === true;
  }

  async slice(packets: number, cold: boolean): Promise<Slice> {
    return ((await this.child.ask({ kind: 'slice', packets, cold })) as { slice: Slice }).slice;
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
