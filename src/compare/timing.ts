/** Compares how long two sides take for the same packets, on a machine that does other things as well.
 *
 *  Both are resident, each in a process of its own, and take turns, in the order A B B A, so that what comes and goes meets
 *  both alike. Code layout and decisions of the compiler differ from start to start: hence several pairs of fresh processes,
 *  each of which gives one ratio of everything that is measured, and confidence intervals over the pairs.
 *
 *  Most is measured in *turns* (bench/turns.ts): workers and main thread one after the other on one thread, and after each
 *  chunk of packets, about a millisecond, the other side has its turn with the same chunk, on the same core where taskset
 *  can say so. A shared machine is faster or slower by 10 to 25 % for seconds on end, which both meet alike; the ratios of chunks,
 *  without the lowest and highest quarter, give a pair's ratio. That varies by 1 to 2 % from pair to pair, where slices of 10 ms
 *  with threads vary by 15 % from slice to slice. It is done for several *scenes* (workloads) and for each part of
 *  the program, so that a slow-down that only new connections meet is not hidden behind established ones, nor a slow
 *  dispatcher behind a busy worker; and for all scenes together. Chunks that begin with empty flow caches have the cost of
 *  translation; blocks of chunks have what does not come in every chunk.
 *
 *  What turns can't show is measured too, less well: threads at work at once (slices, by the clock and processor time), and
 *  whole runs of the program from its start. These can show a slow-down; a comparison does not go on until they show the lack of one.
 *
 *  The comparison looks at the intervals after some of the pairs, and stops when they say enough. */
import { spawnSync } from 'node:child_process';
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
  /** Milliseconds that each side runs in turns in each scene of a pair when it counts. */
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

/** Pairs that are in turns at the same time. */
const MOST_LANES = 2;
/** When the intervals are looked at. */
const FIRST_LOOK = 4;
const EVERY_LOOK = 6;
const LOOK_EVERY = 2;
/** Chance on each side of an interval of each kind. There are some looks at some twenty times each, but for equal sides the
 *  tolerance comes on top (`npm run bench:regression -- --draw 1600` says how often that is wrong). */
const CHANCE = 0.001;
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
/** Packets of a chunk, and with empty caches. */
const CHUNK = 4096;
const COLD_CHUNK = 1024;
/** Chunks of a block. */
const BLOCK = 12;
/** How often the scenes are gone through, and before anything counts, and milliseconds of each then: a scene may undo what the
 *  compiler has made of another. */
const SWEEPS = 2;
const WARMUP_SWEEPS = 2;
const WARMUP_MS = 250;
/** Parts of PARTS that are looked at by themselves. */
const LOOKED_AT = [
  ['dispatch', [0]],
  ['workers', [1]],
  ['coordinate', [2, 3]],
] as const;
const ALL_PARTS = PARTS.map((_, part) => part);
/** With the time that a side was without a processor. */
const BY_THE_CLOCK = [...ALL_PARTS, PARTS.length];
/** Fewer chunks, or blocks, say nothing. */
const LEAST_CHUNKS = 4;
/** Of all scenes together. */
const TOGETHER = 'all scenes';
/** With threads: slices over which a side must have become no faster, by more than SETTLED, to be warm, and the least time
 *  before. */
const SETTLING = 5;
const SETTLED = 0.03;
const LEAST_WARMUP = 0.5;
/** A slice that is too short is all overhead. */
const LEAST_PACKETS = 256;
/** Chunks with empty caches have this many times a scene's milliseconds. */
const COLD = 1.5;
/** They are known less well all the same: of how many times the notice a part is asked for, and how many times the variance of others
 *  it has (in 57 comparisons of equal builds 4.5 and 2.2 % from pair to pair, others 1.3 %). */
const COLD_PARTS: Readonly<Record<string, { weight: number; variances: number }>> = {
  workers: { weight: 3, variances: 12 },
  coordinate: { weight: 1.5, variances: 3 },
};
/** Threads and whole runs are measured in one of so many pairs. */
const THREADS_EVERY = 4;
const START_EVERY = 4;
/** For the sides of a pair to have the same places in memory and the same decisions of the compiler as far as they are the same
 *  program, nothing of V8 may depend on time or chance: code is compiled when a function has run so often, not when another
 *  thread has got round to it. */
const SETTLED_FLAGS = ['--no-concurrent-recompilation', '--no-concurrent-sparkplug', '--single-threaded-gc'];
const SEED_FLAGS = ['--hash-seed', '--random-seed'];

/** Logarithms of ratios and nanoseconds a packet, of each pair. */
interface Measured {
  logs: number[];
  base: number[];
  candidate: number[];
  kind: 'part' | 'all' | 'less' | 'cold' | 'threads' | 'start';
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
  // Pairs that would not be done in time are not begun.
  while (pairs < o.mostPairs && (pairs < 2 || elapsed() + longest < o.budgetSeconds)) {
    const start = elapsed();
    const lanes = Math.min(lanesHere(), o.mostPairs - pairs);
    const batch = Array.from({ length: lanes }, (_, lane) => new Pair(o, pairs + lane, measures));
    await Promise.all(batch.map((pair) => pair.turns()));
    for (const pair of batch) {
      await pair.rest();
      workers = pair.workers ?? workers;
      addCounts(totals.base, pair.counts.base);
      addCounts(totals.candidate, pair.counts.candidate);
    }
    longest = Math.max(longest, elapsed() - start);
    pairs += lanes;
    ratios = ratiosOf(measures, pairs);
    o.progress?.(pairs, ratios);
    if (isLook(pairs)) verdict = earlyVerdict(ratios, o);
    if (verdict !== "can't tell") break;
  }
  if (verdict === "can't tell") verdict = lateVerdict(ratios, pairs, o);
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

/** Of what may be called none early: how many times the tolerance the ratio may seem to be. */
const SEEMING = 2;

/** Small slow-downs take more pairs: what looks like one is not called none before the time is over. */
export function earlyVerdict(ratios: Record<string, Ratio>, limits: Limits): TimingVerdict {
  const verdict = judge(ratios, limits);
  if (verdict !== 'not slower') return verdict;
  const asked = Object.values(ratios).filter((r) => r.weight !== null);
  return asked.every((r) => r.ratio < 1 + SEEMING * limits.tolerance * (r.weight ?? 1))
    ? verdict
    : "can't tell";
}

/** Of fewer pairs than FIRST_LOOK: how many times the tolerance a slow-down must be, and in how many measures. */
const PLAIN = 3;
const PLAIN_IN = 2;

/** What is said when the time is over. If there was no time for FIRST_LOOK pairs, as on a machine that is busy with other things,
 *  only what is plainly slower, in a part and in the whole or in several scenes, is called so, and nothing is called not slower. */
export function lateVerdict(ratios: Record<string, Ratio>, pairs: number, limits: Limits): TimingVerdict {
  if (pairs >= FIRST_LOOK) return judge(ratios, limits);
  const plain = Object.values(ratios).filter((r) => isSlower(r, PLAIN * limits.tolerance));
  return plain.length >= PLAIN_IN ? 'slower' : "can't tell";
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
    if (m.logs.length < (inTurns.length > 0 && isRare(m) ? 2 : pairs)) continue;
    const [base, candidate] = [mean(m.base), mean(m.candidate)];
    let weight: number | null = 1;
    let variances = 1;
    if (m.kind === 'part') {
      const whole = measures.get(name.replace(/: \w+$/, ': all'))!;
      const share = Math.max(base / mean(whole.base), candidate / mean(whole.candidate));
      if (share < NEGLIGIBLE) continue;
      weight = Math.max(1, SMALL / share);
    } else if (m.kind === 'cold') {
      ({ weight, variances } = COLD_PARTS[name.slice(name.lastIndexOf(' ') + 1)]);
    } else if (inTurns.length > 0 && m.kind !== 'all') {
      weight = null;
    }
    const assumed = weight === null || prior === null ? null : prior * variances;
    ratios[name] = { ...ratioOf(m.logs, assumed), weight, base, candidate };
  }
  return ratios;
}

const isRare = ({ kind }: Measured) => kind === 'threads' || kind === 'start';

interface SceneTurns {
  scene: Scene;
  /** Of each runner. */
  warm: Track[];
  cold: Track[];
}

/** What one side took for chunks of packets, one after the other: milliseconds by PARTS, and those without a processor. */
type Chunks = readonly (readonly number[])[];

const costOf = (chunk: readonly number[], parts: readonly number[]) =>
  parts.reduce((sum, part) => sum + (chunk[part] ?? 0), 0);

/** Logarithm of the candidate's time by the base's in some PARTS: of the chunks that had their turns one right after the
 *  other, or of so many of them together (`block`). Null if there are too few. */
export function turnsRatio(
  base: Chunks,
  candidate: Chunks,
  parts: readonly number[],
  block = 1,
): number | null {
  const logs: number[] = [];
  for (let i = 0; i + block <= Math.min(base.length, candidate.length); i += block) {
    const [a, b] = [base, candidate].map((of) =>
      of.slice(i, i + block).reduce((sum, chunk) => sum + costOf(chunk, parts), 0),
    );
    if (a > 0 && b > 0) logs.push(Math.log(b / a));
  }
  return logs.length < LEAST_CHUNKS ? null : middleHalf(logs);
}

/** A process of each side. */
class Sides {
  readonly base: Runner;
  readonly candidate: Runner;
  /** In the order in which they are started: who starts first may get the better place in memory. */
  readonly both: readonly Runner[];

  /** `flagsOf`: options for a Node binary. */
  constructor(o: TimingOptions, index: number, flagsOf: (node: string) => string[]) {
    const start = (side: Side) => new Runner(side, flagsOf(side.node), o.signal);
    const first = start(index % 2 === 0 ? o.base : o.candidate);
    const second = start(index % 2 === 0 ? o.candidate : o.base);
    this.both = [first, second];
    [this.base, this.candidate] = index % 2 === 0 ? [first, second] : [second, first];
  }

  end(): void {
    for (const r of this.both) r.end();
  }
}

/** One pair of fresh processes for each way to measure; what it measures goes into `measures`. */
class Pair {
  private readonly o: TimingOptions;
  private readonly index: number;
  private readonly measures: Measures;
  readonly counts = { base: emptyCounts(), candidate: emptyCounts() };
  /** If they were seen. */
  workers: TimingComparison['workers'] | null = null;
  /** False if a side is an older installation that knows no turns. */
  private knowsTurns = true;

  constructor(o: TimingOptions, index: number, measures: Measures) {
    this.o = o;
    this.index = index;
    this.measures = measures;
  }

  /** Both run all scenes in turns, on a core of their own. */
  async turns(): Promise<void> {
    const { o, index } = this;
    const sides = new Sides(o, index, (node) => settledFlags(node, index + 1));
    try {
      share(sides, index);
      this.knowsTurns = await this.scenes(sides);
    } finally {
      sides.end();
    }
  }

  /** What needs more than one core. */
  async rest(): Promise<void> {
    const { o, index, knowsTurns } = this;
    if (!knowsTurns || index % THREADS_EVERY === 0) {
      const sides = new Sides(o, index, () => []);
      try {
        await this.threads(sides, o.scenes[0]);
      } finally {
        sides.end();
      }
    }
    if (o.start !== null && index % START_EVERY === 0) await this.start(o.start);
  }

  private add(
    name: string,
    kind: Measured['kind'],
    log: number | null,
    base: number,
    candidate: number,
  ): void {
    if (log === null) return;
    const m = this.measures.get(name) ?? { logs: [], base: [], candidate: [], kind };
    this.measures.set(name, m);
    m.logs.push(log);
    m.base.push(base);
    m.candidate.push(candidate);
  }

  /** False if one of them is an older installation that can't. */
  private async scenes(sides: Sides): Promise<boolean> {
    const { o, counts } = this;
    const { base, candidate, both } = sides;
    const last = o.scenes.length - 1;
    const all: SceneTurns[] = [];
    for (const scene of o.scenes) {
      const packets = await Promise.all(
        both.map((r) => r.openScene(r === base ? scene.base : scene.candidate)),
      );
      if (packets.includes(null)) return false;
      // Of different captures only rounds can be compared.
      const same = hasSamePackets(scene);
      all.push({
        scene,
        warm: packets.map((round) => new Track(same ? CHUNK : round!)),
        cold: packets.map((round) => new Track(same ? COLD_CHUNK : round!)),
      });
    }
    for (let sweep = 0; sweep < WARMUP_SWEEPS; sweep++) {
      for (const [number, { warm }] of all.entries())
        await this.spend(both, number, WARMUP_MS, warm, false, false);
    }
    for (let sweep = 0; sweep < SWEEPS; sweep++) {
      for (const [number, { warm }] of all.entries())
        await this.spend(both, number, o.turnsMs / SWEEPS, warm, false, true);
    }
    await this.spend(both, last, o.turnsMs / 2, all[last].cold, true, false);
    await this.spend(both, last, o.turnsMs * COLD, all[last].cold, true, true);
    for (const [number, { scene, warm, cold }] of all.entries()) {
      for (const [name, parts] of LOOKED_AT)
        this.compare(sides, `${scene.name}: ${name}`, 'part', warm, parts);
      this.compare(sides, `${scene.name}: all`, 'all', warm, ALL_PARTS);
      this.compare(sides, `${scene.name}: all, in blocks`, 'less', warm, ALL_PARTS, BLOCK);
      this.compare(sides, `${scene.name}: all, by the clock`, 'less', warm, BY_THE_CLOCK);
      if (number < last) continue;
      for (const [name, parts] of LOOKED_AT.slice(1))
        this.compare(sides, `${scene.name}, empty caches: ${name}`, 'cold', cold, parts, 2);
    }
    if (last > 0) this.together();
    addCounts(counts.base, base.turnsCounts());
    addCounts(counts.candidate, candidate.turnsCounts());
    return true;
  }

  /** Adds a ratio of what both took in turns. */
  private compare(
    sides: Sides,
    name: string,
    kind: Measured['kind'],
    of: readonly Track[],
    parts: readonly number[],
    block = 1,
  ): void {
    const [a, b] = [sides.base, sides.candidate].map((r) => of[sides.both.indexOf(r)]);
    const log = turnsRatio(a.chunks, b.chunks, parts, block);
    if (log === null) return;
    const ns = (track: Track) =>
      (middleHalf(track.chunks.map((chunk) => costOf(chunk, parts))) / track.packets) * 1e6;
    this.add(name, kind, log + Math.log(a.packets / b.packets), ns(a), ns(b));
  }

  /** Adds ratios of all scenes together. */
  private together(): void {
    const { measures, o } = this;
    for (const name of [...LOOKED_AT.map(([part]) => part), 'all']) {
      const of = o.scenes.flatMap((scene) => measures.get(`${scene.name}: ${name}`) ?? []);
      if (of.length < o.scenes.length) continue;
      const last = (values: number[]) => values[values.length - 1];
      this.add(
        `${TOGETHER}: ${name}`,
        name === 'all' ? 'all' : 'part',
        mean(of.map((m) => last(m.logs))),
        mean(of.map((m) => last(m.base))),
        mean(of.map((m) => last(m.candidate))),
      );
    }
  }

  /** Lets both run a scene, in turns, for so many milliseconds each. */
  private async spend(
    both: readonly Runner[],
    scene: number,
    ms: number,
    of: readonly Track[],
    cold: boolean,
    counts: boolean,
  ): Promise<void> {
    const spent = [0, 0];
    for (let i = this.index; Math.min(...spent) < ms; i++) {
      for (const side of (i & 1) === 0 ? [0, 1] : [1, 0]) {
        const chunk = await both[side].chunk(scene, of[side].packets, cold);
        if (counts) of[side].chunks.push(chunk);
        spent[side] += costOf(chunk, ALL_PARTS);
      }
    }
  }

  /** Both run a scene with threads, in slices. */
  private async threads({ base, candidate, both }: Sides, scene: Scene): Promise<void> {
    const { o, index, counts, knowsTurns } = this;
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
    this.workers = { base: base.workers, candidate: candidate.workers };
    if (!knowsTurns) {
      addCounts(counts.base, difference(await base.counts(), before[0]));
      addCounts(counts.candidate, difference(await candidate.counts(), before[1]));
    }
    for (const name of THREAD_TIMES) {
      // Without workers the other threads are those of the compiler and the garbage collector.
      if (name === 'others' && base.workers + candidate.workers === 0) continue;
      const ns = (side: 0 | 1) => (middleHalf(slices.map((pair) => pair[side][name] ?? 0)) / packets) * 1e6;
      this.add(name, 'threads', logRatio(slices, name), ns(0), ns(1));
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
    this.add('start', 'start', Math.log(cost.candidate / cost.base), cost.base * 1e6, cost.candidate * 1e6);
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
class Track {
  /** Of a chunk. */
  readonly packets: number;
  readonly chunks: number[][] = [];

  constructor(packets: number) {
    this.packets = packets;
  }
}

/** How many pairs can be in turns at the same time: each has a core. */
function lanesHere(): number {
  const allowed = allowedCores();
  return allowed === null ? 1 : Math.min(MOST_LANES, coresOf(allowed).length);
}

/** Has both run on the same core, another one for another number. */
function share({ both }: Sides, number: number): void {
  const allowed = allowedCores();
  if (allowed === null) return;
  const cores = coresOf(allowed);
  for (const r of both) r.pin(`${cores[number % cores.length]}`);
}

const knownFlags = new Map<string, readonly string[]>();

/** Options of SETTLED_FLAGS and SEED_FLAGS that a Node binary has. */
function settledFlags(node: string, seed: number): string[] {
  let known = knownFlags.get(node);
  if (known === undefined) {
    const { stdout } = spawnSync(node, ['--v8-options'], { encoding: 'utf8' });
    // It lists what is on unless asked for by its negation.
    const has = (flag: string) => stdout?.includes(flag) || stdout?.includes(flag.replace('--no-', '--'));
    known = [...SETTLED_FLAGS, ...SEED_FLAGS].filter(has);
    knownFlags.set(node, known);
  }
  return known.map((flag) => (SEED_FLAGS.includes(flag) ? `${flag}=${seed}` : flag));
}

const hasSamePackets = ({ base, candidate }: Scene) =>
  JSON.stringify([base.made, base.replayed]) === JSON.stringify([candidate.made, candidate.replayed]);

/** A process of one side. */
class Runner {
  private readonly child: BenchChild;
  private readonly label: string;
  /** Of a round, with threads. */
  packets = 0;
  workers = 0;
  /** Of the first scene. */
  private scenePassed: Counts | null = null;

  constructor(side: Side, flags: string[], signal: AbortSignal | undefined) {
    this.label = side.label;
    this.child = new BenchChild(side.label, { entry: childOf(side), node: side.node, flags, signal });
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

  /** In turns; returns the packets of a round. Null if this installation does not know that. */
  async openScene(spec: BenchSpec): Promise<number | null> {
    try {
      const { scene } = (await this.child.ask({ kind: 'scene', spec })) as { scene: TurnsReady };
      return scene.packets;
    } catch (error) {
      if (/came before "open"/.test((error as Error).message)) return null;
      throw error;
    }
  }

  /** Runs the next packets of a scene; returns milliseconds by PARTS. */
  async chunk(scene: number, packets: number, cold: boolean): Promise<number[]> {
    const request = { kind: 'round', scene, packets, chunk: packets, cold } as const;
    const answer = (await this.child.ask(request)) as { chunks: number[][]; counts: Counts };
    if (scene === 0) this.scenePassed = answer.counts;
    return answer.chunks[0];
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
