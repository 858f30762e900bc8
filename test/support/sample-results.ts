/** Results of a benchmark, as small as docs/bench.schema.json lets them be. */
import type { ProcessResult } from '../../src/bench/measure.js';
import type { BenchResults } from '../../src/bench/results.js';

/** Runs of `ns` nanoseconds a packet, a process each, of one workload; `parts` are runs of a part by itself. */
export function sampleResults(ns: readonly number[], parts: readonly number[] = [20, 20.5]): BenchResults {
  const interval = (values: readonly number[]) => {
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    return { mean, low: mean * 0.98, high: mean * 1.02 };
  };
  return {
    format: 'shardtrack-bench',
    version: 1,
    environment: {
      shardtrack: '0.1.0',
      commit: 'c'.repeat(40),
      node: 'v20.0.0',
      v8: '11.3',
      cpu: 'one',
      cores: 2,
      memoryBytes: 2 ** 33,
      os: 'linux 6.1 x64',
      load: 0.5,
      date: '2026-01-01T00:00:00.000Z',
    },
    options: { processes: ns.length, seconds: 1, warmupSeconds: 1, confidence: 0.95 },
    workloads: [
      {
        name: 'tcp',
        what: 'TCP connections',
        spec: { name: 'tcp', made: null, replayed: null, workers: 1 },
        summary: {
          mpps: interval(ns.map((t) => 1000 / t)),
          gbps: interval(ns.map((t) => 500 / t)),
          nsPerPacket: interval(ns),
          cpuNsPerPacket: interval(ns),
        },
        processes: ns.map(processOf),
      },
    ],
    micro: [
      {
        name: 'tcp/update',
        what: 'a segment',
        unit: 'ns/call',
        note: null,
        summary: interval(parts),
        processes: parts.map((median) => ({ median, best: median * 0.9, samples: 30 })),
      },
    ],
  };
}

function processOf(ns: number): ProcessResult {
  const latency = { count: 3, p50: 1, p90: 2, p99: 3, p999: 3, max: 3, bins: [{ from: 1, to: 3.5, n: 3 }] };
  return {
    start: { programMs: 50, inputMs: 10, packetsMs: 5 },
    notices: ['a.pcap: cut off'],
    warmup: { seconds: 1, stable: true },
    seconds: 1,
    packets: 1000,
    mpps: 1000 / ns,
    mppsMedian: 1000 / ns,
    gbps: 500 / ns,
    nsPerPacket: ns,
    cpuNsPerPacket: ns,
    stages: { dispatch: 1, coordinate: 2, collect: 3, sweep: 4, wait: 5, vectors: 6 },
    vector: latency,
    commit: null,
    counts: {
      packets: 1000,
      bytes: 64_000,
      upcalls: 3,
      commits: 10,
      refused: 0,
      expired: 1,
      microflowHits: 900,
      megaflowHits: 90,
      parked: 2,
      vectors: 10,
    },
    connections: 9,
    sharedBytesPerConnection: 512,
    peakRssBytes: 2 ** 27,
    collections: { count: 2, ms: 3.5 },
    hardware: { instructions: 3000, cycles: null, cacheMisses: 1, branchMisses: 2 },
    series: {
      clock: [1, 2],
      mpps: [1, 1.1],
      microflow: [90, 91],
      megaflow: [9, 8],
      upcalls: [3, 0],
    },
    states: { clock: [0, 1], connections: { ESTABLISHED: [1, 2], udp: [0, 3] } },
    byWorker: [{ packets: 1000, microflowHits: 900, megaflowHits: 90, busy: 0.7 }],
    workers: 1,
    ordering: 'parallel',
  };
}
