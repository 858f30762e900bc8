/** Results of benchmarks: what is stored (docs/bench.schema.json describes it), and how people see it. */
import { execFileSync } from 'node:child_process';
import os from 'node:os';
import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import { markdownTable } from 'markdown-table';
import type { ProcessResult } from './measure.js';
import { resultsMistake } from './schema.js';
import type { BenchSpec } from './spec.js';
import { type Interval, meanOf } from './statistics.js';

/** Changes when a reader of the old one would be misled. */
export const RESULTS_VERSION = 1;

export interface Environment {
  shardtrack: string;
  /** Of the checkout that the program is in, or of the CI run. */
  commit: string | null;
  node: string;
  v8: string;
  cpu: string;
  cores: number;
  memoryBytes: number;
  os: string;
  /** Processes waiting for a processor when it began. */
  load: number;
  /** ISO 8601. */
  date: string;
}

export interface WorkloadResult {
  name: string;
  what: string;
  spec: BenchSpec;
  /** Means over processes, with intervals at `confidence`. */
  summary: Record<Measured, Interval>;
  processes: ProcessResult[];
}

/** A part by itself (`npm run bench:micro`). */
export interface MicroResult {
  /** "suite/name". */
  name: string;
  what: string;
  unit: 'ns/call' | 'ns/word';
  /** What was found besides the time, for people. */
  note: string | null;
  /** Mean over processes of their medians. */
  summary: Interval;
  processes: { median: number; best: number; samples: number }[];
}

export interface BenchResults {
  format: 'shardtrack-bench';
  version: typeof RESULTS_VERSION;
  environment: Environment;
  options: { processes: number; seconds: number; warmupSeconds: number; confidence: number };
  workloads: WorkloadResult[];
  micro: MicroResult[];
}

const MEASURED = ['mpps', 'gbps', 'nsPerPacket', 'cpuNsPerPacket'] as const;
type Measured = (typeof MEASURED)[number];

export const CONFIDENCE = 0.95;

const root = fileURLToPath(new URL('../../../', import.meta.url));

export function environment(version: string): Environment {
  return {
    shardtrack: version,
    commit: commitOf(),
    node: process.version,
    v8: process.versions.v8,
    cpu: os.cpus()[0]?.model ?? 'unknown',
    cores: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    os: `${os.platform()} ${os.release()} ${os.arch()}`,
    load: os.loadavg()[0],
    date: new Date().toISOString(),
  };
}

/** Null outside of a checkout, as in an installed package. */
function commitOf(): string | null {
  try {
    const git = (...args: string[]) =>
      execFileSync('git', ['-C', root, ...args], { stdio: ['ignore', 'pipe', 'ignore'] })
        .toString()
        .trim();
    // A package inside somebody else's checkout has not that commit.
    return git('ls-files', 'package.json') === 'package.json' ? git('rev-parse', 'HEAD') : null;
  } catch {
    return null;
  }
}

export function summarise(
  name: string,
  what: string,
  spec: BenchSpec,
  processes: ProcessResult[],
): WorkloadResult {
  const of = (field: Measured) =>
    meanOf(
      processes.map((p) => p[field]),
      CONFIDENCE,
    );
  const summary = Object.fromEntries(
    MEASURED.map((field) => [field, of(field)]),
  ) as WorkloadResult['summary'];
  return { name, what, spec, summary, processes };
}

const digits = (n: number) => (n >= 100 ? n.toFixed(0) : n.toPrecision(3));
const average = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const withInterval = ({ mean, low, high }: Interval) => `${digits(mean)} (${digits(low)}–${digits(high)})`;

/** A row's title and cell for each workload. */
type Row = [string, (w: WorkloadResult) => string];

const latency = (kind: 'vector' | 'commit') => (w: WorkloadResult) => {
  const parts = w.processes.flatMap((p) => p[kind] ?? []);
  if (parts.length === 0) return '–';
  return (['p50', 'p99', 'max'] as const)
    .map((q) => digits(q === 'max' ? Math.max(...parts.map((p) => p.max)) : average(parts.map((p) => p[q]))))
    .join(' / ');
};
const each = (field: (p: ProcessResult) => number | null) => (w: WorkloadResult) => {
  const values = w.processes.map(field).filter((v) => v !== null);
  return values.length === 0 ? '–' : digits(average(values));
};
const percent = (field: (p: ProcessResult) => number) => (w: WorkloadResult) =>
  `${(100 * average(w.processes.map(field))).toFixed(1)} %`;

const ROWS: Row[] = [
  ['Mpps', (w) => withInterval(w.summary.mpps)],
  ['Gbit/s', (w) => withInterval(w.summary.gbps)],
  ['ns/packet', (w) => withInterval(w.summary.nsPerPacket)],
  ['CPU ns/packet', (w) => withInterval(w.summary.cpuNsPerPacket)],
  ['dispatch, ns/packet', each((p) => p.stages.dispatch)],
  ['coordinate', each((p) => p.stages.coordinate)],
  ['collect', each((p) => p.stages.collect)],
  ['sweep', each((p) => p.stages.sweep)],
  ['wait', each((p) => p.stages.wait)],
  ['vectors (workers)', each((p) => p.stages.vectors)],
  ['vector, µs: p50 / p99 / max', latency('vector')],
  ['commit, µs: p50 / p99 / max', latency('commit')],
  ['microflow hits', percent((p) => p.counts.microflowHits / p.packets)],
  ['upcalls/million', each((p) => (p.counts.upcalls * 1e6) / p.packets)],
  ['commits/million', each((p) => (p.counts.commits * 1e6) / p.packets)],
  ['connections', each((p) => p.connections)],
  ['bytes/connection', each((p) => p.sharedBytesPerConnection)],
  ['peak RSS, MiB', each((p) => p.peakRssBytes / 2 ** 20)],
  ['instructions/packet', each((p) => p.hardware?.instructions ?? null)],
  ['cycles/packet', each((p) => p.hardware?.cycles ?? null)],
  ['GC: count / ms', (w) => `${each((p) => p.collections.count)(w)} / ${each((p) => p.collections.ms)(w)}`],
  ['workers', (w) => `${w.processes[0].workers} (${w.processes[0].ordering})`],
  [
    'start, ms: program / input / packets',
    (w) =>
      (['programMs', 'inputMs', 'packetsMs'] as const)
        .map((part) => each((p) => p.start?.[part] ?? null)(w))
        .join(' / '),
  ],
  ['stable after, s', each((p) => p.warmup.seconds)],
];

function heading({ environment: e, options: o }: BenchResults): string {
  const commit = e.commit === null ? '' : ` (${e.commit.slice(0, 10)})`;
  return (
    `Shardtrack ${e.shardtrack}${commit}, Node ${e.node}, ${e.cpu}, ${e.cores} cores, load ${e.load.toFixed(1)}; ` +
    (o.processes === 1
      ? 'one process'
      : `means of ${o.processes} processes with ${CONFIDENCE * 100} % intervals`)
  );
}

/** What a reader must know to believe the figures. */
export function remarks(results: BenchResults): string[] {
  const remarks: string[] = [];
  for (const w of results.workloads) {
    remarks.push(...(w.processes[0].notices ?? []));
    const restless = w.processes.filter((p) => !p.warmup.stable).length;
    if (restless > 0) {
      remarks.push(
        `${w.name}: ${restless} of ${w.processes.length} processes were not stable when measuring began`,
      );
    }
  }
  if (results.options.processes < 2) remarks.push('one process says nothing about the next: no intervals');
  return remarks;
}

export function summariseMicro(
  of: Pick<MicroResult, 'name' | 'what' | 'unit' | 'note'>,
  processes: MicroResult['processes'],
): MicroResult {
  const summary = meanOf(
    processes.map((p) => p.median),
    CONFIDENCE,
  );
  return { ...of, summary, processes };
}

/** Results as --json and --history write them. Throws Error that begins with `place`. */
export function checkResults(text: string, place: string): BenchResults {
  let results: Partial<BenchResults>;
  try {
    results = JSON.parse(text);
  } catch (error) {
    throw new Error(`${place}: ${(error as Error).message}`);
  }
  if (results?.format !== 'shardtrack-bench' || results.version !== RESULTS_VERSION) {
    throw new Error(
      `${place}: these are no results of shardtrack bench of version ${RESULTS_VERSION}; expected what --json or --history wrote`,
    );
  }
  const mistake = resultsMistake(results);
  if (mistake !== null)
    throw new Error(`${place}: ${mistake}; these results are incomplete or were changed, measure anew`);
  return results as BenchResults;
}

const microRows = (micro: readonly MicroResult[]) =>
  micro.map((m) => [
    m.name,
    withInterval(m.summary),
    digits(Math.min(...m.processes.map((p) => p.best))),
    m.unit,
    m.note === null ? m.what : `${m.what}: ${m.note}`,
  ]);
const MICRO_HEAD = ['', 'mean of medians', 'best', '', ''];

/** The table of all figures: a row of cells, one for each workload, with its title. */
export function resultsRows({ workloads }: BenchResults): [title: string, ...cells: string[]][] {
  return ROWS.map(([title, cell]) => [title, ...workloads.map(cell)]);
}

/** For a terminal. */
export function resultsText(results: BenchResults): string {
  const table = new Table({
    head: ['', ...results.workloads.map((w) => w.name)],
    style: { head: [], border: [], compact: true },
    colAligns: ['left', ...results.workloads.map(() => 'right' as const)],
  });
  table.push(...resultsRows(results));
  const micro = new Table({
    head: MICRO_HEAD,
    style: { head: [], border: [], compact: true },
    colAligns: ['left', 'right', 'right', 'left', 'left'],
  });
  micro.push(...microRows(results.micro));
  const tables = [
    ...(results.workloads.length > 0 ? [table] : []),
    ...(results.micro.length > 0 ? [micro] : []),
  ];
  const notes = remarks(results).map((r) => `note: ${r}\n`);
  return `${heading(results)}\n${tables.map((t) => `${t.toString()}\n`).join('')}${notes.join('')}`;
}

/** For a job summary. */
export function resultsMarkdown(results: BenchResults): string {
  const table = markdownTable([['', ...results.workloads.map((w) => w.name)], ...resultsRows(results)], {
    align: ['l', ...results.workloads.map(() => 'r')],
  });
  const notes = remarks(results).map((r) => `\n> ${r}\n`);
  const micro = markdownTable([MICRO_HEAD, ...microRows(results.micro)], {
    align: ['l', 'r', 'r', 'l', 'l'],
  });
  const tables = [
    ...(results.workloads.length > 0 ? [table] : []),
    ...(results.micro.length > 0 ? [micro] : []),
  ];
  return `## Shardtrack benchmarks\n\n${heading(results)}\n\n${tables.map((t) => `${t}\n`).join('\n')}${notes.join('')}`;
}
