/** The report on results of `shardtrack bench`, with their history if there is one. */
import { type Trend, trendsOf } from '../bench/history.js';
import type { ProcessResult } from '../bench/measure.js';
import {
  type BenchResults,
  CONFIDENCE,
  type MicroResult,
  remarks,
  resultsRows,
  type WorkloadResult,
} from '../bench/results.js';
import { numberText, percentText, rangeText } from './format.js';
import type { Chart, Histogram, Intervals, Report, Section } from './model.js';

/** Processes that are told apart in a chart. */
const MOST_PROCESSES = 5;

export function benchReport(results: BenchResults, history: readonly BenchResults[] = []): Report {
  const { workloads } = results;
  const best = workloads.map((w) => `${w.name} ${numberText(w.summary.mpps.mean)}`).join(', ');
  return {
    title: 'Shardtrack benchmarks',
    lead:
      workloads.length === 0
        ? `${results.micro.length} parts by themselves.`
        : `Millions of packets a second: ${best}.`,
    facts: factsOf(results),
    notes: remarks(results),
    sections: [
      ...(workloads.length === 0 ? [] : [speeds(results)]),
      ...workloads.map(workloadSection),
      ...microSections(results.micro),
      ...historySections(history),
    ],
  };
}

function factsOf({ environment: e, options: o }: BenchResults): Report['facts'] {
  return [
    ['Shardtrack', e.commit === null ? e.shardtrack : `${e.shardtrack}, commit ${e.commit}`],
    ['Node', `${e.node} (V8 ${e.v8})`],
    ['Machine', `${e.cpu}, ${e.cores} cores, ${numberText(Math.round(e.memoryBytes / 2 ** 30))} GiB`],
    ['System', e.os],
    ['Load at the start', numberText(e.load)],
    ['Date', e.date],
    ['Processes', `${o.processes} for each workload, ${o.seconds} s each after at most ${o.warmupSeconds} s`],
  ];
}

function intervalsOf(
  { workloads }: BenchResults,
  field: keyof WorkloadResult['summary'],
  caption: string,
  value: string,
): Intervals {
  const rows = workloads.map((w) => {
    const { mean, low, high } = w.summary[field];
    return { name: w.name, value: mean, low, high };
  });
  return {
    kind: 'intervals',
    caption: `${caption}: means over processes with ${CONFIDENCE * 100} % intervals`,
    alt: `${rows.map((r) => `${r.name} ${rangeText(r.low, r.high)}`).join(', ')} ${value}.`,
    value,
    rows,
    marks: [],
  };
}

function speeds(results: BenchResults): Section {
  return {
    title: 'Speed',
    parts: [
      intervalsOf(results, 'mpps', 'Packets a second by the clock', 'Mpps'),
      intervalsOf(results, 'cpuNsPerPacket', 'Processor time of all threads a packet', 'ns/packet'),
      {
        kind: 'table',
        caption: 'All figures',
        head: ['', ...results.workloads.map((w) => w.name)],
        rows: resultsRows(results),
      },
    ],
  };
}

function workloadSection(w: WorkloadResult): Section {
  const [first] = w.processes;
  // Lines of a history have no series.
  const parts: Chart[] = first.series.clock.length > 0 ? [throughput(w), caches(first)] : [];
  if (first.states.clock.length > 1) parts.push(states(first));
  parts.push(stages(w.processes));
  if (first.workers > 0) parts.push(...workerLoad(first));
  for (const kind of ['vector', 'commit'] as const) {
    const chart = latency(w.processes, kind);
    if (chart !== null) parts.push(chart);
  }
  return {
    title: `Workload ${w.name}`,
    text:
      `${w.what}. ${first.workers} worker${first.workers === 1 ? '' : 's'} (${first.ordering}). ` +
      `The packets are replayed round after round; capture time goes on from one to the next.`,
    parts,
  };
}

const CAPTURE_TIME = { label: 'capture time, s' };

function throughput({ processes }: WorkloadResult): Chart {
  const shown = processes.slice(0, MOST_PROCESSES);
  const all = shown.flatMap((p) => p.series.mpps);
  return {
    kind: 'lines',
    caption: 'Throughput over capture time',
    alt: `${rangeText(Math.min(...all), Math.max(...all))} Mpps in the slices of ${shown.length} processes.`,
    stacked: false,
    x: CAPTURE_TIME,
    y: { label: 'Mpps' },
    series: shown.map((p, i) => ({
      name: `process ${i + 1}`,
      points: points(p.series.clock, p.series.mpps),
    })),
  };
}

const points = (xs: readonly number[], ys: readonly number[]) =>
  xs.map((x, i): [number, number] => [x, ys[i]]);

function caches({ series, counts, packets }: ProcessResult): Chart {
  const share = (n: number) => `${((100 * n) / packets).toFixed(1)} %`;
  return {
    kind: 'lines',
    caption: 'Cache hits over capture time, first process',
    alt: `Of all packets ${share(counts.microflowHits)} hit the microflow cache; megaflows were hit ${share(counts.megaflowHits)} as often as there are packets.`,
    stacked: false,
    x: CAPTURE_TIME,
    y: { label: '% of packets' },
    series: [
      { name: 'microflow cache', points: points(series.clock, series.microflow) },
      { name: 'megaflow cache', points: points(series.clock, series.megaflow) },
    ],
  };
}

function states({ states: { clock, connections } }: ProcessResult): Chart {
  const names = Object.keys(connections);
  const last = names.map((name) => `${numberText(connections[name][clock.length - 1])} ${name}`);
  return {
    kind: 'lines',
    caption: 'Connections by state over capture time, first process',
    alt: last.length === 0 ? 'There are none.' : `At the end ${last.join(', ')}.`,
    stacked: true,
    x: CAPTURE_TIME,
    y: { label: 'connections' },
    series: names.map((name) => ({ name, points: points(clock, connections[name]) })),
  };
}

function stages(processes: readonly ProcessResult[]): Chart {
  const names = Object.keys(processes[0].stages);
  const bars = names.map((name) => ({
    name: name === 'vectors' ? 'vectors (workers)' : `${name} (main)`,
    value: processes.reduce((sum, p) => sum + p.stages[name], 0) / processes.length,
  }));
  const most = bars.reduce((a, b) => (b.value > a.value ? b : a));
  return {
    kind: 'bars',
    caption: 'Time of each stage a packet, mean of the processes',
    alt: `Most time goes to ${most.name}: ${numberText(most.value)} ns a packet.`,
    value: 'ns/packet',
    bars,
  };
}

function workerLoad({ byWorker }: ProcessResult): Chart[] {
  const all = byWorker.reduce((sum, load) => sum + load.packets, 0);
  const share = byWorker.map((load) => (100 * load.packets) / all);
  const busy = byWorker.map((load) => 100 * (load.busy ?? 0));
  const bars = (values: readonly number[]) => values.map((value, i) => ({ name: `worker ${i}`, value }));
  const said = (values: readonly number[]) =>
    values.map((v, i) => `worker ${i} ${v.toFixed(0)} %`).join(', ');
  return [
    {
      kind: 'bars',
      caption: 'Packets of each worker, first process',
      alt: `${said(share)}.`,
      value: '% of packets',
      bars: bars(share),
    },
    {
      kind: 'bars',
      caption: 'Load of each worker: time in vectors, first process',
      alt: `${said(busy)}.`,
      value: '% of the time',
      bars: bars(busy),
    },
  ];
}

function latency(processes: readonly ProcessResult[], kind: 'vector' | 'commit'): Histogram | null {
  const parts = processes.flatMap((p) => p[kind] ?? []);
  if (!parts.some((p) => p.bins.length > 0)) return null;
  const bins = new Map<number, { from: number; to: number; n: number }>();
  for (const { from, to, n } of parts.flatMap((p) => p.bins)) {
    const bin = bins.get(from);
    if (bin === undefined) bins.set(from, { from, to, n });
    else bin.n += n;
  }
  const mean = (q: 'p50' | 'p99') => parts.reduce((sum, p) => sum + p[q], 0) / parts.length;
  const what =
    kind === 'vector' ? 'a vector' : 'a commit: until the connection is made, or the request for it answered';
  return {
    kind: 'histogram',
    caption: `Latency of ${what}, all processes`,
    alt: `Median ${numberText(mean('p50'))} µs, 99th percentile ${numberText(mean('p99'))} µs.`,
    x: { label: 'latency, µs', scale: 'log' },
    count: `${kind}s`,
    bins: [...bins.values()].sort((a, b) => a.from - b.from),
    marks: [
      { at: mean('p50'), label: 'p50' },
      { at: mean('p99'), label: 'p99' },
    ],
  };
}

/** A chart for each suite. */
function microSections(micro: readonly MicroResult[]): Section[] {
  if (micro.length === 0) return [];
  const suites = new Map<string, MicroResult[]>();
  for (const m of micro) {
    const [suite] = m.name.split('/');
    suites.set(suite, [...(suites.get(suite) ?? []), m]);
  }
  return [
    {
      title: 'Parts by themselves',
      parts: [...suites].map(([suite, parts]): Intervals => {
        const { unit } = parts[0];
        const fastest = parts.reduce((a, b) => (b.summary.mean < a.summary.mean ? b : a));
        return {
          kind: 'intervals',
          caption: `${suite}: means over processes with ${CONFIDENCE * 100} % intervals`,
          alt: `Fastest is ${fastest.name} (${fastest.what}) with ${numberText(fastest.summary.mean)} ${unit}.`,
          value: unit,
          rows: parts.map((m) => ({
            name: m.name.slice(suite.length + 1),
            value: m.summary.mean,
            low: m.summary.low,
            high: m.summary.high,
          })),
          marks: [],
        };
      }),
    },
  ];
}

/** Nothing if there are no earlier runs. */
export function historySections(history: readonly BenchResults[]): Section[] {
  if (history.length < 2) return [];
  return [
    {
      title: 'History',
      text:
        'Runs that measured the same on a machine like the last one’s. Lines are levels between change points, which are ' +
        'found by PELT; bars are intervals over the processes of a run.',
      parts: [
        ...trendsOf(history, 'cpuNsPerPacket').map((t) => trend(t, 'processor time a packet', 'ns/packet')),
        ...trendsOf(history, 'mpps').map((t) => trend(t, 'packets a second by the clock', 'Mpps')),
      ],
    },
  ];
}

function trend({ name, runs, changes, lastChange }: Trend, what: string, value: string): Chart {
  const at = changes[changes.length - 1];
  const alt =
    lastChange === null
      ? `No change in ${runs.length} runs.`
      : `The last of ${changes.length} change${changes.length === 1 ? '' : 's'} in ${runs.length} runs is at run ${at + 1} ` +
        `(${commitText(runs[at].commit)}): ${percentText(lastChange)}.`;
  return {
    kind: 'history',
    caption: `${name}: ${what}, run after run`,
    alt,
    value,
    runs: runs.map((r) => ({
      name: commitText(r.commit),
      date: r.date.slice(0, 16).replace('T', ' '),
      value: r.value.mean,
      low: r.value.low,
      high: r.value.high,
    })),
    changes,
  };
}

const commitText = (commit: string | null) => (commit === null ? 'no commit' : commit.slice(0, 10));
