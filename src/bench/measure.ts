/** One process of `shardtrack bench`: warms up until the speed is stable, measures, and says what it has found. */
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { quantile } from 'simple-statistics';
import { census } from '../coordinator/census.js';
import { STAT } from '../datapath/stats.js';
import { type Hardware, HardwareCounter } from './hardware.js';
import { type Latency, latencyOf } from './latency.js';
import {
  CollectionCounter,
  type Collections,
  channelOf,
  type Measure,
  type ShardReport,
} from './measured-shard.js';
import { type Counts, MAIN_STAGES, Resident } from './resident.js';
import { type BenchSpec, prepare } from './spec.js';

export interface MeasureOptions {
  /** Measured time. */
  seconds: number;
  /** Warming up takes so long at most. */
  warmupSeconds: number;
}

/** What one slice after the other was like. */
export interface Series {
  /** Seconds of the capture's clock at the end of the slice, since the first packet of all. */
  clock: number[];
  mpps: number[];
  /** Percent of the slice's packets that these caches answered, and upcalls per million packets. */
  microflow: number[];
  megaflow: number[];
  upcalls: number[];
}

/** Live connections by state, now and then. */
export interface States {
  clock: number[];
  /** By name of the state, or of a protocol without states: as many as `clock` has. */
  connections: Record<string, number[]>;
}

export interface WorkerLoad {
  packets: number;
  microflowHits: number;
  megaflowHits: number;
  /** Share of the measured time in vectors; null without workers. */
  busy: number | null;
}

/** Milliseconds from one to the next: start of the process, the program is loaded, packets and tables are there, threads
 *  run and the first packets are done. */
export interface Start {
  programMs: number;
  inputMs: number;
  packetsMs: number;
}

export interface ProcessResult {
  /** Not in results of before it was measured. */
  start?: Start;
  /** What was found in the captures, such as one that is cut off; not if there was nothing. */
  notices?: string[];
  warmup: { seconds: number; stable: boolean };
  seconds: number;
  packets: number;
  mpps: number;
  /** Of slices of a tenth of a second. */
  mppsMedian: number;
  gbps: number;
  nsPerPacket: number;
  cpuNsPerPacket: number;
  /** Nanoseconds a packet in each stage: those of the main thread, and vectors of the workers, all together. */
  stages: Record<string, number>;
  vector: Latency | null;
  commit: Latency | null;
  counts: Counts;
  connections: number;
  sharedBytesPerConnection: number | null;
  peakRssBytes: number;
  collections: Collections;
  /** Per packet, of all threads; null where the machine does not count. */
  hardware: Hardware | null;
  series: Series;
  states: States;
  byWorker: WorkerLoad[];
  workers: number;
  ordering: string;
}

const SLICE_MS = 100;
/** Stable: the mean speed of so many slices is within STABLE of that of as many before. */
const WINDOW = 5;
const STABLE = 0.03;
const LEAST_WARMUP_MS = 1000;
/** Points of a series, at most: slices are joined. */
const POINTS = 60;
/** Looks at the states of connections. */
const CENSUSES = 20;
/** Packets to begin with, while the speed is not known. */
const FIRST = 2048;

export async function measure(spec: BenchSpec, o: MeasureOptions): Promise<ProcessResult> {
  const loadedAt = performance.now();
  const prepared = await prepare(spec);
  const preparedAt = performance.now();
  const phase = new SharedArrayBuffer(4);
  const told: Measure = { phase, channel: `shardtrack-bench-${randomUUID()}` };
  const reports: ShardReport[] = [];
  const ears = Array.from({ length: spec.workers }, (_, id) => channelOf(told, id));
  for (const ear of ears) ear.onmessage = (event) => reports.push((event as { data: ShardReport }).data);
  const resident = new Resident(prepared, {
    workers: spec.workers,
    vector: spec.vector,
    worker: {
      file: fileURLToPath(new URL('../../workers/measured-shard.js', import.meta.url)),
      data: told,
    },
  });
  resident.start();
  try {
    const clock = new Slices(resident);
    await clock.slice();
    // The origin of performance.now() is the start of the process.
    const start: Start = {
      programMs: loadedAt,
      inputMs: preparedAt - loadedAt,
      packetsMs: performance.now() - preparedAt,
    };
    const { notices = [] } = prepared.loaded;
    const warmup = await warmUp(clock, o.warmupSeconds);
    Atomics.store(new Int32Array(phase), 0, 1);
    const collections = new CollectionCounter();
    const before = resident.counts();
    const workersBefore = loads(resident);
    const stagesBefore = resident.stages.slice();
    const hardware = await HardwareCounter.start();
    const run = await runSlices(clock, resident, o.seconds);
    const counted = (await hardware?.stop()) ?? null;
    const { seconds, cpuMs, speeds } = run;
    const counts = difference(resident.counts(), before);
    const { packets } = counts;
    const perPacket = (ms: number) => (ms * 1e6) / packets;
    const stages: Record<string, number> = {};
    MAIN_STAGES.forEach((name, i) => {
      stages[name] = perPacket(resident.stages[i] - stagesBefore[i]);
    });
    const byWorker = loads(resident).map((load, i) => difference(load, workersBefore[i]));
    const { n, sharedBytes } = resident.connections();
    const own = collections.stop();
    await resident.stop();
    await heard(reports, resident.workers);
    stages.vectors = perPacket(reports.reduce((ms, r) => ms + r.busyMs, 0));
    return {
      start,
      ...(notices.length === 0 ? {} : { notices }),
      warmup,
      seconds,
      packets,
      mpps: packets / seconds / 1e6,
      mppsMedian: quantile(speeds, 0.5),
      gbps: (counts.bytes * 8) / seconds / 1e9,
      nsPerPacket: (seconds * 1e9) / packets,
      cpuNsPerPacket: perPacket(cpuMs),
      stages,
      vector: latencyOf(reports.map((r) => r.vectors)),
      commit: latencyOf(reports.map((r) => r.commits)),
      counts,
      connections: n,
      sharedBytesPerConnection: n === 0 ? null : sharedBytes / n,
      peakRssBytes: process.resourceUsage().maxRSS * 1024,
      collections: {
        count: reports.reduce((sum, r) => sum + r.collections.count, own.count),
        ms: reports.reduce((sum, r) => sum + r.collections.ms, own.ms),
      },
      hardware: counted === null ? null : perPacketOf(counted, packets),
      series: run.series,
      states: run.states,
      byWorker: byWorker.map((load, id) => ({
        ...load,
        busy: resident.workers === 0 ? null : busyMsOf(reports, id) / 1000 / seconds,
      })),
      workers: resident.workers,
      ordering: prepared.ordering.mode,
    };
  } finally {
    await resident.stop();
    for (const ear of ears) ear.close();
  }
}

type Load = Omit<WorkerLoad, 'busy'>;

function loads({ fabric }: Resident): Load[] {
  return fabric.counters().byWorker.map((stats) => ({
    packets: stats[STAT.PACKETS],
    microflowHits: stats[STAT.MICROFLOW_HITS],
    megaflowHits: stats[STAT.MEGAFLOW_HITS],
  }));
}

function difference<T extends { [name in keyof T]: number }>(after: T, before: T): T {
  const entries = Object.entries<number>(after).map(([name, n]) => [name, n - before[name as keyof T]]);
  return Object.fromEntries(entries) as T;
}

function perPacketOf(hardware: Hardware, packets: number): Hardware {
  const entries = Object.entries(hardware).map(([name, n]) => [name, n === null ? null : n / packets]);
  return Object.fromEntries(entries) as Hardware;
}

const busyMsOf = (reports: readonly ShardReport[], id: number) =>
  reports.reduce((ms, r) => (r.id === id ? ms + r.busyMs : ms), 0);

interface Measurement {
  /** In slices; looking at connections is not in them. */
  seconds: number;
  cpuMs: number;
  /** Of each slice. */
  speeds: number[];
  series: Series;
  states: States;
}

async function runSlices(clock: Slices, resident: Resident, wanted: number): Promise<Measurement> {
  const rows: (Counts & { clock: number; ms: number })[] = [];
  const states: { clock: number; counts: Map<string, number> }[] = [];
  const speeds: number[] = [];
  let ms = 0;
  let cpu = 0;
  let before = resident.counts();
  while (ms < wanted * 1000) {
    const cpuBefore = process.cpuUsage();
    const began = performance.now();
    speeds.push(await clock.slice());
    const took = performance.now() - began;
    const { user, system } = process.cpuUsage(cpuBefore);
    ms += took;
    cpu += (user + system) / 1000;
    const after = resident.counts();
    rows.push({ ...difference(after, before), clock: resident.clockMs / 1000, ms: took });
    before = after;
    // No packet is in flight between slices.
    if (states.length < (ms * CENSUSES) / (wanted * 1000)) {
      const counts = census(resident.fabric.coordinator.partitions, resident.clockMs);
      states.push({ clock: resident.clockMs / 1000, counts });
    }
  }
  return { seconds: ms / 1000, cpuMs: cpu, speeds, series: seriesOf(rows), states: statesOf(states) };
}

function seriesOf(rows: readonly (Counts & { clock: number; ms: number })[]): Series {
  const series: Series = { clock: [], mpps: [], microflow: [], megaflow: [], upcalls: [] };
  const step = Math.ceil(rows.length / POINTS);
  for (let i = 0; i < rows.length; i += step) {
    const part = rows.slice(i, i + step);
    const sum = (name: 'packets' | 'ms' | 'microflowHits' | 'megaflowHits' | 'upcalls') =>
      part.reduce((total, row) => total + row[name], 0);
    const packets = sum('packets');
    series.clock.push(part[part.length - 1].clock);
    series.mpps.push(packets / sum('ms') / 1000);
    series.microflow.push((100 * sum('microflowHits')) / packets);
    series.megaflow.push((100 * sum('megaflowHits')) / packets);
    series.upcalls.push((1e6 * sum('upcalls')) / packets);
  }
  return series;
}

function statesOf(looks: readonly { clock: number; counts: Map<string, number> }[]): States {
  const names = new Set(looks.flatMap(({ counts }) => [...counts.keys()]));
  return {
    clock: looks.map((look) => look.clock),
    connections: Object.fromEntries(
      [...names].map((name) => [name, looks.map((l) => l.counts.get(name) ?? 0)]),
    ),
  };
}

/** Runs slices of about the same time. */
class Slices {
  private readonly resident: Resident;
  private packets = FIRST;

  constructor(resident: Resident) {
    this.resident = resident;
  }

  /** Millions of packets a second. */
  async slice(): Promise<number> {
    const n = this.packets;
    const began = performance.now();
    await this.resident.run(n);
    const ms = performance.now() - began;
    this.packets = Math.max(FIRST, Math.min(n * 4, Math.round((n * SLICE_MS) / ms)));
    return n / ms / 1000;
  }
}

async function warmUp(clock: Slices, mostSeconds: number): Promise<ProcessResult['warmup']> {
  const began = performance.now();
  const speeds: number[] = [];
  const average = (from: number, to: number) => {
    const part = speeds.slice(from, to);
    return part.reduce((a, b) => a + b, 0) / part.length;
  };
  let stable = false;
  for (let ms = 0; !stable && ms < mostSeconds * 1000; ms = performance.now() - began) {
    speeds.push(await clock.slice());
    const n = speeds.length;
    if (n < 2 * WINDOW || performance.now() - began < LEAST_WARMUP_MS) continue;
    stable = Math.abs(average(n - WINDOW, n) / average(n - 2 * WINDOW, n - WINDOW) - 1) < STABLE;
  }
  return { seconds: (performance.now() - began) / 1000, stable };
}

/** Waits for the reports of all workers, which come by themselves. */
async function heard(reports: readonly ShardReport[], workers: number): Promise<void> {
  const end = performance.now() + 5000;
  while (reports.length < workers) {
    if (performance.now() > end) {
      throw new Error(`bench: ${workers - reports.length} of ${workers} workers did not report`);
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
