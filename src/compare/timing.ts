/** Compares how long two sides take for the same packets, on a machine that does other things as well.
 *
 *  Both are resident, each in a process of its own, and take turns, in the order A B B A, so that what comes and goes meets
 *  both alike. Code layout and decisions of the compiler differ from start to start: hence several pairs of fresh processes,
 *  each of which gives one ratio of everything that is measured, and confidence intervals over the pairs.
 *
 *  Most is measured in *turns* (bench/turns.ts): workers and main thread one after the other on one thread, in chunks of some
 *  tenths of a millisecond. Whatever else runs makes a chunk slower, never faster, so of the visits to a chunk of packets a
 *  low one says what it costs; the sum over chunks has been seen to vary by 1 % from process to process, where slices of
 *  10 ms with threads vary by 15 % from slice to slice. Both are on the same core then, where taskset can say so. It is done for several *scenes* (workloads) and for each part of
 *  the program, so that a slow-down that only new connections meet is not hidden behind established ones, nor a slow
 *  dispatcher behind a busy worker. Chunks that begin with empty flow caches have the cost of translation.
 *
 *  What turns can't show is measured too, less well: threads at work at once (slices, by the clock and processor time), and
 *  whole runs of the program from its start. These can show a slow-down; a comparison does not go on until they show the lack of one.
 *
 *  The comparison looks at the intervals after some of the pairs, and stops when they say enough. */
import { mean, quantileSorted, sampleVariance } from 'simple-statistics';
import type { Counts } from '../bench/resident.js';
import { BenchChild } from '../bench/run.js';
import { SLICES_VERSION, type Slice, type SliceReady } from '../bench/slices.js';
import type { BenchSpec } from '../bench/spec.js';
import { studentQuantile, wilcoxonInterval } from '../bench/statistics.js';
import { PARTS, type TurnsReady } from '../bench/turns.js';
import { allowedCores, coresOf, pin } from './affinity.js';
import { childOf, type Side } from './sides.js';
import { type StartOptions, startTime } from './start.js';

/** Of threads at work at once. */
const THREAD_TIMES = ['time', 'main', 'others'] as const;

/** What both sides replay, each with what it has of its own. */
export interface Scene {
  name: string;
  base: BenchSpec;
  candidate: BenchSpec;
}

export interface TimingOptions {
  base: Side;
  candidate: Side;
  /** The first is run with threads too. */
  scenes: readonly Scene[];
  /** Whole runs of the program; null: none. */
  start: StartOptions | null;
  /** A slow-down by more than this is one: 0.01 is a hundredth. */
  tolerance: number;
  /** A slow-down by less than this is none that matters. */
  notice: number;
  /** It ends when so many seconds are over. */
  budgetSeconds: number;
  mostPairs: number;
  /** Milliseconds that each side runs in turns in each scene of a pair, a third of that before it counts. */
  turnsMs: number;
  /** Of threads: length of a slice, each side's slices of a pair, and processor time of each side before, at most. */
  sliceMs: number;
  slices: number;
  warmupMs: number;
  progress?: (pairs: number, ratios: TimingComparison['ratios']) => void;
  signal?: AbortSignal;
}

/** Candidate's time by base's: 1.05 is 5 % slower. */
export interface Ratio {
  ratio: number;
  low: number;
  high: number;
  /** How many times tolerance and notice a slow-down of this must be to be one and to matter; 1 unless said. Null: it may
   *  show a slow-down, but nothing is asked of it, because it is known less well than the others. */
  weight?: number | null;
  /** Nanoseconds a packet. */
  base?: number;
  candidate?: number;
}

export type TimingVerdict = 'slower' | 'not slower' | "can't tell";

export interface TimingComparison {
  verdict: TimingVerdict;
  pairs: number;
  seconds: number;
  /** As it was asked for. */
  tolerance: number;
  notice: number;
  /** By what was measured: a key of report.ts's titles, or text that says what. */
  ratios: Record<string, Ratio>;
  /** Per packet, of all pairs together; they don't depend on time. Of the first scene. */
  counts: { base: Record<string, number>; candidate: Record<string, number> };
  workers: { base: number; candidate: number };
  /** Of each pair, as logarithms. */
  logs: Record<string, number[]>;
}

/** When the intervals are looked at. */
const FIRST_LOOK = 4;
const EVERY_LOOK = 6;
const LOOK_EVERY = 2;
/** Chance on each side of an interval of each kind. There are some looks at some twenty times each, but for equal sides the
 *  tolerance comes on top (`npm run bench:regression -- --draw 1600` says how often that is wrong). */
const CHANCE = 0.0003;
/** Together, on both sides, in percent. */
export const INTERVAL = 100 * (1 - 4 * CHANCE);
/** How many pairs it counts for that all measures vary about alike (`moderated`). */
const PRIOR_PAIRS = 4;
/** Of so many pairs one is left out on each end. */
const TRIMMED_OF = 6;
/** A part that takes less than this of the time of a scene is not looked at by itself; one that takes less than SMALL is
 *  asked for less certainty: for what makes SMALL times the notice of the whole. */
const NEGLIGIBLE = 0.02;
const SMALL = 0.2;
/** Packets of a chunk of a scene, and of what is asked for at a time: a round, or about an equal part of a long one. */
const CHUNK = 2048;
const PASS = 32_768;
/** Of the first packets of a round with empty caches. */
const COLD_CHUNK = 1024;
/** How often the scenes are gone through, and how much of a scene's time before anything counts: the first finds code that has
 *  never run. */
const SWEEPS = 2;
const FIRST_WARMUP = 1.5;
const WARMUP = 0.4;
/** Parts of PARTS that are looked at by themselves. */
const LOOKED_AT = [
  ['dispatch', [0]],
  ['workers', [1]],
  ['coordinate', [2, 3]],
] as const;
const ALL_PARTS = PARTS.map((_, part) => part);
/** Which visit of a chunk says what it costs, from the fastest (0) to the slowest (1); and from how many on. */
const LOW = 0.05;
const LEAST_VISITS = 8;
/** With threads: slices over which a side must have become no faster, by more than SETTLED, to be warm, and the least time
 *  before. */
const SETTLING = 5;
const SETTLED = 0.03;
const LEAST_WARMUP = 0.5;
/** A slice that is too short is all overhead. */
const LEAST_PACKETS = 256;
/** Whole runs are made in one of so many pairs. */
const START_EVERY = 2;
/** The clock with threads is asked for less certainty. */
const THREADS_WEIGHT = 4;

/** Logarithms of ratios and nanoseconds a packet, of each pair. */
interface Measured {
  logs: number[];
  base: number[];
  candidate: number[];
  kind: 'part' | 'all' | 'cold' | 'threads' | 'start';
  scene: string;
}
type Measures = Map<string, Measured>;

export async function compareTimes(o: TimingOptions): Promise<TimingComparison> {
  const began = performance.now();
  const elapsed = () => (performance.now() - began) / 1000;
  const measures: Measures = new Map();
  const totals = { base: emptyCounts(), candidate: emptyCounts() };
  let workers = { base: 0, candidate: 0 };
  let pairs = 0;
  let longest = 0;
  let verdict: TimingVerdict = "can't tell";
  let ratios: TimingComparison['ratios'] = {};
  // A pair that would not be done in time is not begun.
  while (pairs < o.mostPairs && (pairs < 2 || elapsed() + longest < o.budgetSeconds)) {
    const start = elapsed();
    const pair = await new Pair(o, pairs, measures).run();
    longest = Math.max(longest, elapsed() - start);
    pairs++;
    workers = pair.workers;
    addCounts(totals.base, pair.counts.base);
    addCounts(totals.candidate, pair.counts.candidate);
    ratios = ratiosOf(measures, pairs);
    o.progress?.(pairs, ratios);
    if (isLook(pairs)) verdict = earlyVerdict(ratios, o);
    if (verdict !== "can't tell") break;
  }
  if (verdict === "can't tell" && pairs >= FIRST_LOOK) verdict = judge(ratios, o);
  return {
    verdict,
    pairs,
    seconds: elapsed(),
    tolerance: o.tolerance,
    notice: o.notice,
    ratios,
    counts: { base: perPacket(totals.base), candidate: perPacket(totals.candidate) },
    workers,
    logs: Object.fromEntries(Object.keys(ratios).map((name) => [name, measures.get(name)!.logs])),
  };
}

type Limits = Pick<TimingOptions, 'tolerance' | 'notice'>;

/** What the intervals say. */
export function judge(ratios: Record<string, Ratio>, { tolerance, notice }: Limits): TimingVerdict {
  const all = Object.values(ratios);
  if (all.some((r) => isSlower(r, tolerance))) return 'slower';
  const asked = all.filter((r) => r.weight !== null);
  if (asked.length > 0 && asked.every((r) => r.high < 1 + notice * (r.weight ?? 1))) return 'not slower';
  return "can't tell";
}

/** Whether this by itself is a slow-down. */
export const isSlower = (r: Ratio, tolerance: number) => r.low > 1 + tolerance * (r.weight ?? 1);

/** Whether the intervals are looked at after so many pairs. */
export function isLook(pairs: number): boolean {
  return pairs >= FIRST_LOOK && (pairs <= EVERY_LOOK || (pairs - EVERY_LOOK) % LOOK_EVERY === 0);
}

/** Small slow-downs take more pairs: what looks like one is not called none before the time is over. */
export function earlyVerdict(ratios: Record<string, Ratio>, limits: Limits): TimingVerdict {
  const verdict = judge(ratios, limits);
  if (verdict !== 'not slower') return verdict;
  const asked = Object.values(ratios).filter((r) => r.weight !== null);
  return asked.every((r) => r.ratio < 1 + limits.tolerance * (r.weight ?? 1)) ? verdict : "can't tell";
}

/** Of the candidate's time by base's, from the pairs' logarithms: the narrower of Student's interval, which needs few pairs,
 *  and those of a mean without the ends (K. K. Yuen, 1974) and of ranks (Wilcoxon), which do not mind a pair that is far out,
 *  as those are in which the compiler has decided otherwise. `prior`: the variance that others have (moderated t-statistic:
 *  G. K. Smyth, 2004); it counts for PRIOR_PAIRS. */
export function ratioOf(logs: readonly number[], prior: number | null = null): Ratio {
  const ranks = wilcoxonInterval(logs, CHANCE);
  const ratio = Math.exp(ranks.centre);
  const n = logs.length;
  if (n < 2) return { ratio, low: 0, high: Number.POSITIVE_INFINITY };
  const intervals = [trimmedInterval(logs, 0, prior)];
  const ends = Math.floor(n / TRIMMED_OF);
  if (ends > 0) intervals.push(trimmedInterval(logs, ends, prior));
  return {
    ratio,
    low: Math.min(ratio, Math.exp(Math.max(ranks.low, ...intervals.map((i) => i.mean - i.half)))),
    high: Math.max(ratio, Math.exp(Math.min(ranks.high, ...intervals.map((i) => i.mean + i.half)))),
  };
}

/** The mean without so many values on each end, and half its interval. */
function trimmedInterval(
  values: readonly number[],
  ends: number,
  prior: number | null,
): { mean: number; half: number } {
  const sorted = [...values].sort((a, b) => a - b);
  const n = sorted.length;
  const kept = sorted.slice(ends, n - ends);
  // Winsorised: the ends are as far out as what is kept.
  const drawnIn = sorted.map((v) => Math.min(Math.max(v, kept[0]), kept[kept.length - 1]));
  const own = ((n - 1) * sampleVariance(drawnIn)) / (kept.length - 1);
  const weight = prior === null ? 0 : PRIOR_PAIRS;
  const freedom = kept.length - 1 + weight;
  const variance = ((kept.length - 1) * own + weight * (prior ?? 0)) / freedom;
  return {
    mean: mean(kept),
    half: Math.sqrt(variance / kept.length) * studentQuantile(1 - CHANCE, freedom),
  };
}

/** The variance that measures in turns have: the median. Null before there are two pairs. */
export function commonVariance(all: readonly (readonly number[])[]): number | null {
  const variances = all.filter((logs) => logs.length > 1).map((logs) => sampleVariance([...logs]));
  if (variances.length === 0) return null;
  return quantileSorted(
    variances.sort((a, b) => a - b),
    0.5,
  );
}

function ratiosOf(measures: Measures, pairs: number): TimingComparison['ratios'] {
  const ratios: TimingComparison['ratios'] = {};
  const inTurns = [...measures.values()].filter((m) => m.kind === 'part' || m.kind === 'all');
  const prior = commonVariance(inTurns.map((m) => m.logs));
  for (const [name, m] of measures) {
    // A time that is sometimes not to be had says nothing.
    if (m.logs.length < (m.kind === 'start' ? 2 : pairs)) continue;
    const [base, candidate] = [mean(m.base), mean(m.candidate)];
    let weight: number | null = 1;
    if (m.kind === 'part') {
      const whole = measures.get(allOf(m.scene))!;
      const share = Math.max(base / mean(whole.base), candidate / mean(whole.candidate));
      if (share < NEGLIGIBLE) continue;
      weight = Math.max(1, SMALL / share);
    } else if (inTurns.length > 0 && m.kind !== 'all') {
      weight = name === 'time' ? THREADS_WEIGHT : null;
    }
    const isTurns = m.kind === 'part' || m.kind === 'all';
    ratios[name] = { ...ratioOf(m.logs, isTurns ? prior : null), weight, base, candidate };
  }
  return ratios;
}

const allOf = (scene: string) => `${scene}: all`;

interface SceneTurns {
  scene: Scene;
  /** Of each runner. */
  warm: Passes[];
  cold: Passes[];
}

/** What one side's visits of each chunk took: a list of visits for each chunk, of milliseconds by PARTS. */
type Visits = number[][][];

/** Milliseconds of some PARTS in a round: a low visit of each chunk. */
function roundMs(visits: Visits, parts: readonly number[]): number {
  let sum = 0;
  for (const of of visits) sum += low(of.map((visit) => costOf(visit, parts)));
  return sum;
}

const costOf = (visit: readonly number[], parts: readonly number[]) =>
  parts.reduce((sum, part) => sum + visit[part], 0);

function low(costs: number[]): number {
  costs.sort((a, b) => a - b);
  return costs[Math.floor(LOW * (costs.length - 1))];
}

/** Logarithm of the candidate's milliseconds a packet by the base's. Rounds that are too long to be gone through often are
 *  compared chunk by chunk. */
export function turnsRatio(base: Visits, candidate: Visits, parts: readonly number[]): number | null {
  const visits = Math.min(...[...base, ...candidate].map((of) => of.length));
  if (visits >= LEAST_VISITS || base.length !== candidate.length) {
    const [a, b] = [roundMs(base, parts), roundMs(candidate, parts)];
    return a > 0 && b > 0 ? Math.log(b / a) : null;
  }
  const logs: number[] = [];
  for (let i = 0; i < base.length; i++) {
    if (base[i].length === 0 || candidate[i].length === 0) continue;
    const [a, b] = [base[i], candidate[i]].map((of) => low(of.map((visit) => costOf(visit, parts))));
    if (a > 0 && b > 0) logs.push(Math.log(b / a));
  }
  return logs.length === 0 ? null : middleHalf(logs);
}

/** One pair of fresh processes; what it measures goes into `measures`. */
class Pair {
  private readonly o: TimingOptions;
  private readonly index: number;
  private readonly measures: Measures;
  private readonly base: Runner;
  private readonly candidate: Runner;
  /** In the order in which they are started: who starts first may get the better place in memory. */
  private readonly both: Runner[];

  constructor(o: TimingOptions, index: number, measures: Measures) {
    this.o = o;
    this.index = index;
    this.measures = measures;
    const first = new Runner(index % 2 === 0 ? o.base : o.candidate, o.signal);
    const second = new Runner(index % 2 === 0 ? o.candidate : o.base, o.signal);
    this.both = [first, second];
    [this.base, this.candidate] = index % 2 === 0 ? [first, second] : [second, first];
  }

  async run(): Promise<Pick<TimingComparison, 'workers'> & { counts: { base: Counts; candidate: Counts } }> {
    const { o, base, candidate } = this;
    try {
      await this.turns();
      await this.threads(o.scenes[0]);
      if (o.start !== null && this.index % START_EVERY === 0) await this.start(o.start);
      return {
        counts: { base: base.counted!, candidate: candidate.counted! },
        workers: { base: base.workers, candidate: candidate.workers },
      };
    } finally {
      base.end();
      candidate.end();
    }
  }

  private add(
    name: string,
    kind: Measured['kind'],
    scene: string,
    log: number | null,
    base: number,
    candidate: number,
  ): void {
    if (log === null) return;
    const m = this.measures.get(name) ?? { logs: [], base: [], candidate: [], kind, scene };
    this.measures.set(name, m);
    m.logs.push(log);
    m.base.push(base);
    m.candidate.push(candidate);
  }

  /** Both run all scenes in turns; not if one of them is an older installation that can't. They are gone through twice,
   *  because the compiler may not have been done with a scene at first. */
  private async turns(): Promise<void> {
    const { o, base, candidate, both } = this;
    const last = o.scenes.length - 1;
    const all: SceneTurns[] = [];
    for (const scene of o.scenes) {
      const opened = await Promise.all(
        both.map((r) => r.openScene(r === base ? scene.base : scene.candidate)),
      );
      if (opened.includes(false)) return;
      all.push({
        scene,
        warm: both.map((r) => r.passes(CHUNK)),
        cold: both.map((r) => r.passes(COLD_CHUNK)),
      });
    }
    for (let sweep = 0; sweep < SWEEPS; sweep++) {
      this.share(sweep);
      for (const [number, { warm }] of all.entries()) {
        if (sweep === 0)
          await this.spend(number, o.turnsMs * (number === 0 ? FIRST_WARMUP : WARMUP), warm, false, false);
        await this.spend(number, o.turnsMs / SWEEPS, warm, false, true);
      }
    }
    await this.spend(last, o.turnsMs, all[last].cold, true, true);
    for (const [number, { scene, warm, cold }] of all.entries()) {
      const measure = (
        name: string,
        kind: Measured['kind'],
        of: Passes[],
        parts: readonly number[],
        first?: number,
      ) => {
        const [a, b] = [base, candidate].map((r) => of[both.indexOf(r)].visits.slice(0, first));
        const ns = (visits: Visits, r: Runner) =>
          (roundMs(visits, parts) / (first === undefined ? r.packetsOf(number) : COLD_CHUNK)) * 1e6;
        this.add(name, kind, scene.name, turnsRatio(a, b, parts), ns(a, base), ns(b, candidate));
      };
      for (const [name, parts] of LOOKED_AT) measure(`${scene.name}: ${name}`, 'part', warm, parts);
      measure(allOf(scene.name), 'all', warm, ALL_PARTS);
      if (number < last) continue;
      // The first chunk of a round finds the caches empty.
      for (const [name, parts] of LOOKED_AT.slice(1))
        measure(`${scene.name}, empty caches: ${name}`, 'cold', cold, parts, 1);
    }
    for (const r of both) r.counted = r.turnsCounts();
    this.share(null);
  }

  /** Has both run on the same core, another one in the next sweep; or where they like. */
  private share(sweep: number | null): void {
    const allowed = allowedCores();
    if (allowed === null) return;
    const cores = coresOf(allowed);
    for (const r of this.both)
      r.pin(sweep === null ? allowed : `${cores[(this.index + sweep) % cores.length]}`);
  }

  /** Lets both run a scene, in turns, for so many milliseconds each. */
  private async spend(
    scene: number,
    ms: number,
    of: Passes[],
    cold: boolean,
    counts: boolean,
  ): Promise<void> {
    const spent = () => Math.min(...of.map((passes) => passes.spentMs));
    for (let i = this.index, end = spent() + ms; spent() < end; i++) {
      for (const side of (i & 1) === 0 ? [0, 1] : [1, 0]) {
        await this.both[side].pass(scene, of[side], cold, counts);
      }
    }
  }

  /** Both run a scene with threads, in slices. */
  private async threads(scene: Scene): Promise<void> {
    const { o, base, candidate, both, index } = this;
    await Promise.all(both.map((r) => r.open(r === base ? scene.base : scene.candidate)));
    const packets = await warmUp(both, o);
    const before = await Promise.all([base.counts(), candidate.counts()]);
    const slices: [Slice, Slice][] = [];
    for (let i = 0; i < o.slices; i++) {
      const turn = ((i + index) & 1) === 0;
      const first = await (turn ? base : candidate).slice(packets);
      const second = await (turn ? candidate : base).slice(packets);
      slices.push(turn ? [first, second] : [second, first]);
    }
    for (const [i, r] of [base, candidate].entries()) r.counted ??= difference(await r.counts(), before[i]);
    for (const name of THREAD_TIMES) {
      // Without workers the other threads are those of the compiler and the garbage collector.
      if (name === 'others' && base.workers + candidate.workers === 0) continue;
      const ns = (side: 0 | 1) => (middleHalf(slices.map((pair) => pair[side][name] ?? 0)) / packets) * 1e6;
      this.add(name, 'threads', scene.name, logRatio(slices, name), ns(0), ns(1));
    }
  }

  /** Whole runs of the program. */
  private async start(options: StartOptions): Promise<void> {
    const { o, index } = this;
    const cost = { base: 0, candidate: 0 };
    const order = ['base', 'candidate'] as const;
    for (const side of index % 2 === 0 ? order : order.toReversed()) {
      cost[side] = await startTime(o[side], options[side], o.signal);
    }
    this.add(
      'start',
      'start',
      '',
      Math.log(cost.candidate / cost.base),
      cost.base * 1e6,
      cost.candidate * 1e6,
    );
  }
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
      const { time, main, others } = await runner.slice(packets);
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

/** Logarithm of the candidate's time by the base's, of the middle half of the slices; null if it can't be told. */
export function logRatio(slices: readonly [Slice, Slice][], name: keyof Slice): number | null {
  const logs: number[] = [];
  for (const [{ [name]: x }, { [name]: y }] of slices) {
    if (x === null || y === null) return null;
    if (x > 0 && y > 0) logs.push(Math.log(y / x));
  }
  return logs.length === 0 || logs.length < slices.length / 2 ? null : middleHalf(logs);
}

/** Their mean, without the lowest and highest quarter. */
function middleHalf(values: number[]): number {
  values.sort((x, y) => x - y);
  const cut = Math.floor(values.length / 4);
  return mean(values.slice(cut, values.length - cut));
}

/** What one side has measured in a scene. */
class Passes {
  /** Packets that are asked for at a time, of a round. */
  readonly sizes: number[] = [];
  readonly chunk: number;
  readonly visits: Visits = [];
  /** Where in `visits` each pass begins. */
  private readonly firsts: number[] = [];
  private position = 0;
  spentMs = 0;

  constructor(packets: number, chunk: number) {
    this.chunk = chunk;
    const n = Math.max(1, Math.round(packets / PASS));
    for (let left = packets; left > 0; left -= this.sizes[this.sizes.length - 1]) {
      this.sizes.push(Math.min(left, Math.ceil(packets / n)));
      this.firsts.push(this.visits.length);
      const chunks = Math.ceil(this.sizes[this.sizes.length - 1] / chunk);
      for (let i = 0; i < chunks; i++) this.visits.push([]);
    }
  }

  /** Packets of the next pass. */
  get next(): number {
    return this.sizes[this.position];
  }

  add(chunks: readonly number[][], counts: boolean): void {
    for (const [i, visit] of chunks.entries()) {
      if (counts) this.visits[this.firsts[this.position] + i].push(visit);
      for (const ms of visit) this.spentMs += ms;
    }
    this.position = (this.position + 1) % this.sizes.length;
  }
}

/** A process of one side. */
class Runner {
  private readonly child: BenchChild;
  private readonly label: string;
  /** Of a round, with threads. */
  packets = 0;
  workers = 0;
  /** What is told of this pair. */
  counted: Counts | null = null;
  /** Packets of a round of each scene. */
  private readonly scenes: number[] = [];
  /** Of the first scene. */
  private scenePassed: Counts | null = null;

  constructor(side: Side, signal: AbortSignal | undefined) {
    this.label = side.label;
    this.child = new BenchChild(side.label, { entry: childOf(side), node: side.node, signal });
  }

  /** Lets it run on these cores only, if that can be said here. */
  pin(cores: string): void {
    pin(this.child.pid, cores);
  }

  /** With threads. */
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

  /** In turns. False if this installation does not know that. */
  async openScene(spec: BenchSpec): Promise<boolean> {
    try {
      const { scene } = (await this.child.ask({ kind: 'scene', spec })) as { scene: TurnsReady };
      this.scenes.push(scene.packets);
      return true;
    } catch (error) {
      if (/came before "open"/.test((error as Error).message)) return false;
      throw error;
    }
  }

  packetsOf(scene: number): number {
    return this.scenes[scene];
  }

  /** Of the scene opened last. */
  passes(chunk: number): Passes {
    return new Passes(this.scenes[this.scenes.length - 1], chunk);
  }

  async pass(scene: number, passes: Passes, cold: boolean, counts: boolean): Promise<void> {
    const request = { kind: 'round', scene, packets: passes.next, chunk: passes.chunk, cold } as const;
    const answer = (await this.child.ask(request)) as { chunks: number[][]; counts: Counts };
    passes.add(answer.chunks, counts);
    if (scene === 0) this.scenePassed = answer.counts;
  }

  /** Of all that has been run in the scene. */
  turnsCounts(): Counts {
    return this.scenePassed!;
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
