/** One process of `shardtrack bench`: warms up until the speed is stable, measures, and says what it has found. */
import { randomUUID } from 'node:crypto';
import type { RecordableHistogram } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { BroadcastChannel } from 'node:worker_threads';
import { quantile } from 'simple-statistics';
import {
  CollectionCounter,
  type Collections,
  type Measure,
  newHistogram,
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

/** Microseconds. */
export interface Latency {
  count: number;
  p50: number;
  p90: number;
  p99: number;
  p999: number;
  max: number;
}

export interface ProcessResult {
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
  workers: number;
  ordering: string;
}

const SLICE_MS = 100;
/** Stable: the mean speed of so many slices is within STABLE of that of as many before. */
const WINDOW = 5;
const STABLE = 0.03;
const LEAST_WARMUP_MS = 1000;
/** Packets to begin with, while the speed is not known. */
const FIRST = 2048;

export async function measure(spec: BenchSpec, o: MeasureOptions): Promise<ProcessResult> {
  const prepared = await prepare(spec);
  const phase = new SharedArrayBuffer(4);
  const channel = `shardtrack-bench-${randomUUID()}`;
  const reports: ShardReport[] = [];
  const ear = new BroadcastChannel(channel);
  ear.onmessage = (event) => reports.push((event as { data: ShardReport }).data);
  const resident = new Resident(prepared, {
    workers: spec.workers,
    vector: spec.vector,
    worker: {
      file: fileURLToPath(new URL('../../workers/measured-shard.js', import.meta.url)),
      data: { phase, channel } satisfies Measure,
    },
  });
  resident.start();
  try {
    const clock = new Slices(resident);
    const warmup = await warmUp(clock, o.warmupSeconds);
    Atomics.store(new Int32Array(phase), 0, 1);
    const collections = new CollectionCounter();
    const before = resident.counts();
    const stagesBefore = resident.stages.slice();
    const cpuBefore = process.cpuUsage();
    const began = performance.now();
    const speeds: number[] = [];
    while (performance.now() - began < o.seconds * 1000) speeds.push(await clock.slice());
    const seconds = (performance.now() - began) / 1000;
    const cpu = process.cpuUsage(cpuBefore);
    const after = resident.counts();
    const counts = Object.fromEntries(
      Object.entries(after).map(([name, n]) => [name, n - before[name as keyof Counts]]),
    ) as unknown as Counts;
    const { packets } = counts;
    const perPacket = (ms: number) => (ms * 1e6) / packets;
    const stages: Record<string, number> = {};
    MAIN_STAGES.forEach((name, i) => {
      stages[name] = perPacket(resident.stages[i] - stagesBefore[i]);
    });
    const { n, sharedBytes } = resident.connections();
    const own = collections.stop();
    await resident.stop();
    await heard(reports, resident.workers);
    stages.vectors = perPacket(reports.reduce((ms, r) => ms + r.busyMs, 0));
    return {
      warmup,
      seconds,
      packets,
      mpps: packets / seconds / 1e6,
      mppsMedian: quantile(speeds, 0.5),
      gbps: (counts.bytes * 8) / seconds / 1e9,
      nsPerPacket: (seconds * 1e9) / packets,
      cpuNsPerPacket: ((cpu.user + cpu.system) * 1000) / packets,
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
      workers: resident.workers,
      ordering: prepared.ordering.mode,
    };
  } finally {
    await resident.stop();
    ear.close();
  }
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

function latencyOf(parts: readonly RecordableHistogram[]): Latency | null {
  const all = newHistogram();
  for (const part of parts) if (part.count > 0) all.add(part);
  if (all.count === 0) return null;
  const us = (p: number) => all.percentile(p) / 1000;
  return { count: all.count, p50: us(50), p90: us(90), p99: us(99), p999: us(99.9), max: all.max / 1000 };
}
