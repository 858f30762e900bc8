/** `shardtrack compare`. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type BenchSpec, madeSpec } from '../bench/spec.js';
import { type Comparison, comparisonMarkdown, comparisonText } from '../compare/report.js';
import { compareResults, replayArguments } from '../compare/results.js';
import {
  BuildError,
  openSide,
  parseSide,
  type Side,
  type SideName,
  TABLES,
  type Tables,
} from '../compare/sides.js';
import { compareStored, readResults } from '../compare/stored.js';
import { compareTimes, type Scene, type TimingOptions, type TimingVerdict } from '../compare/timing.js';
import { EventError } from '../coordinator/events.js';
import { tablesFor } from '../generate/tables.js';
import { SERVER_PORT, traffic } from '../generate/traffic.js';
import { writeCapture } from '../generate/write.js';
import { FlowSyntaxError } from '../openflow/types.js';
import { ClosedPipeError } from '../pcap/output-file.js';
import { comparisonReport } from '../report/compare.js';
import { renderReport } from '../report/lazy.js';
import { type BenchArguments, benchOptions, capturesOf, checkInput } from './bench.js';
import { changedWorkload } from './generate.js';
import { ExitError, UsageError, usage, wholeNumber } from './options.js';
import { loadPipeline, workersOf } from './replay.js';
import { Reports } from './reports.js';
import { abortOnSignals } from './signals.js';

export interface CompareArguments extends BenchArguments {
  workload?: string[];
  events?: string;
  only?: 'results' | 'time';
  tolerance: number;
  notice: number;
  budget: number;
  pairs: number;
  turns: number;
  slice: number;
  slices: number;
  warmupMs: number;
  explain: number;
  exitSlower: number;
  exitUnknown: number;
  exitDifferent: number;
}

/** Exit code if nothing could be compared. */
const EXIT_FAILED = 4;
/** Until the compiler has done most of its work. */
const WARMUP_MS = 400;
/** What times are compared for, unless told otherwise: established connections, new ones, translated ones, and a large
 *  flow table. Results are compared for the first. */
const SCENES = ['tcp', 'tcp-short', 'snat', 'rules'];
/** Packets of a made workload, unless told otherwise: both sides prepare them in every pair; and rules. */
const PACKETS = 32_768;
const MORE_PACKETS = 16_384;
const RULES = 2000;
/** Connections that are open at a time: new ones come in every chunk of packets, not all in the first. */
const CONNECTIONS = 128;
/** Of those, packets of a run from its start; captures of the user's are run from the start if they are no larger. */
const START_PACKETS = 64;
const START_BYTES = 4 << 20;

/** What both sides replay. */
interface Input {
  /** For times. */
  specs: BenchSpec[];
  /** For results, and runs from the start; a side may have one of its own, and tables. */
  captures: string[];
  tables: Tables;
  /** Arguments of `replay` and `trace`. */
  args: string[];
  what: string;
}

/** Runs the command; resolves to the exit code. Throws UsageError, FlowSyntaxError and EventError for exit code 2, ExitError
 *  for what fails. */
export async function compareCommand(
  baseText: string,
  candidateText: string,
  o: CompareArguments,
): Promise<number> {
  if (o.notice <= o.tolerance) {
    throw new UsageError(`--notice ${o.notice} must be more than --tolerance ${o.tolerance}`);
  }
  const names = [baseText, candidateText].map((text) => usage(() => parseSide(text)));
  const limits = limitsOf(o);
  const comparison: Comparison = {
    format: 'shardtrack-compare',
    version: 1,
    base: baseText,
    candidate: candidateText,
    what: 'stored results',
    results: null,
    timing: null,
    stored: null,
  };
  if (names.every(([name]) => name.kind === 'result')) {
    const [base, candidate] = names.map(([name]) => usage(() => readResults(name.value)));
    comparison.stored = usage(() => compareStored(base, candidate, limits));
    return finish(comparison, comparison.stored.verdict, o, reportsOf(o));
  }
  const say = (text: string) => {
    if (!o.quiet) process.stderr.write(`${text}\n`);
  };
  const abort = new AbortController();
  const off = abortOnSignals(abort);
  let reports: Reports<'json' | 'markdown' | 'html'> | null = null;
  let folder: string | null = null;
  let verdict: TimingVerdict | null = null;
  try {
    const sides: Side[] = [];
    for (const name of names) sides.push(await open(name, say, abort.signal));
    const [base, candidate] = sides;
    checkSides(o, sides);
    reports = reportsOf(o);
    folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-compare-'));
    const input = await inputOf(o, folder, [base, candidate]);
    comparison.what = input.what;
    if (o.only !== 'time') {
      const { captures, args, tables } = input;
      const { explain } = o;
      const { signal } = abort;
      comparison.results = await compareResults({ base, candidate, captures, args, tables, explain, signal });
    }
    if (o.only !== 'results') {
      comparison.timing = await compareTimes({
        base,
        candidate,
        scenes: input.specs.map(
          (spec): Scene => ({
            name: spec.name,
            base: specOf(base, spec),
            candidate: specOf(candidate, spec),
          }),
        ),
        start: await startOf(o, folder, [base, candidate], input),
        ...limits,
        budgetSeconds: o.budget,
        mostPairs: o.pairs,
        turnsMs: o.turns,
        sliceMs: o.slice,
        slices: o.slices,
        warmupMs: o.warmupMs,
        signal: abort.signal,
        progress: (pairs, ratios) => {
          const all = ratios['all scenes: all'] ?? ratios[`${input.specs[0].name}: all`] ?? ratios.time;
          say(`pair ${pairs}${all === undefined ? '' : `: ${((all.ratio - 1) * 100).toFixed(1)} %`}`);
        },
      });
      verdict = comparison.timing.verdict;
    }
    return await finish(comparison, verdict, o, reports);
  } catch (error) {
    if (abort.signal.aborted) throw abort.signal.reason;
    const own = [UsageError, FlowSyntaxError, EventError, ClosedPipeError, ExitError];
    throw own.some((kind) => error instanceof kind) ? error : failed(error);
  } finally {
    reports?.discard();
    if (folder !== null) fs.rmSync(folder, { recursive: true, force: true });
    off();
  }
}

const failed = (error: unknown) => new ExitError((error as Error).message, EXIT_FAILED, error);

async function open(
  names: readonly SideName[],
  say: (text: string) => void,
  signal: AbortSignal,
): Promise<Side> {
  try {
    return await openSide(names, say, signal);
  } catch (error) {
    throw error instanceof BuildError ? failed(error) : new UsageError((error as Error).message);
  }
}

const reportsOf = ({ json, markdown, html }: CompareArguments) => new Reports({ json, markdown, html });

/** Throws UsageError for what is not there, does not go together, or would do nothing; FlowSyntaxError and EventError for
 *  mistakes in tables. */
function checkSides(o: CompareArguments, sides: readonly Side[]): void {
  const withCapture = sides.filter((side) => side.capture !== undefined).length;
  if (withCapture === 1 && capturesOf(o).length === 0) {
    throw new UsageError('one side is a capture; expected another one, or --capture FILE for it');
  }
  const tablesOfSides = sides.map((side) => ({ ...pick(o), ...side.tables }));
  checkInput(
    o,
    o.workload !== undefined,
    tablesOfSides.every((t) => t.flows !== undefined),
    withCapture === 2,
  );
  if (tablesOfSides.some((t) => t.events !== undefined) && o.only !== 'results') {
    throw new UsageError('events are done once, so times can not be compared with them; add --only results');
  }
  const { ports, capture: captures, in: ins } = o;
  const common = { ports: [...ports, 1, SERVER_PORT], captures, in: ins, out: [] };
  for (const tables of tablesOfSides) {
    if (Object.keys(tables).length > 0) loadPipeline({ ...common, ...tables });
  }
}

function pick(o: CompareArguments): Tables {
  return Object.fromEntries(TABLES.flatMap((name) => (o[name] === undefined ? [] : [[name, o[name]]])));
}

const limitsOf = (o: CompareArguments) => ({ tolerance: o.tolerance / 100, notice: o.notice / 100 });

async function inputOf(o: CompareArguments, folder: string, sides: readonly Side[]): Promise<Input> {
  const workers = workersOf(o);
  const { flows, groups, meters, vector } = o;
  const paths = capturesOf(o);
  const ports = [...new Set([...o.ports, SERVER_PORT])];
  const args = ['--workers', `${workers}`, '--ports', ports.join(',')];
  for (const { port, path: file } of o.in) args.push('--in', `${port}=${file}`);
  if (o.inside !== undefined) args.push('--inside', o.inside);
  const tables = pick(o);
  const common = { flows, groups, meters, workers, vector };
  if (paths.length > 0 || sides.every((side) => side.capture !== undefined)) {
    const replayed = { captures: o.capture, in: o.in, inside: o.inside, ports };
    const specs = [{ ...common, name: 'capture', made: null, replayed }];
    const own = sides.map((side) => side.capture).filter((file) => file !== undefined);
    const what = [...(own.length === 2 ? [] : paths), ...own].join(', ');
    return { specs, captures: o.capture, args, tables, what };
  }
  const names = workloadsOf(o);
  const workloads = names.map((name, i) =>
    changedWorkload(name, {
      ...o,
      packets: o.packets ?? (i === 0 ? PACKETS : MORE_PACKETS),
      connections: o.connections ?? CONNECTIONS,
      rules: o.rules ?? (name === 'rules' ? RULES : undefined),
    }),
  );
  const [workload] = workloads;
  const capture = path.join(folder, 'workload.pcapng');
  const table = path.join(folder, 'flows.txt');
  if (o.only !== 'time') {
    await writeCapture(capture, traffic(workload.traffic), {
      format: 'pcapng',
      rate: workload.rate,
      ports: SERVER_PORT,
    });
    fs.writeFileSync(table, tablesFor(workload.traffic, workload.table));
  }
  return {
    specs: workloads.map((w) => ({ ...common, name: w.name, made: madeSpec(w), replayed: null, ports })),
    captures: [capture],
    args,
    tables: { ...tables, flows: flows ?? table },
    what: `workload${names.length === 1 ? '' : 's'} ${names.join(', ')}`,
  };
}

const workloadsOf = (o: CompareArguments) => o.workload ?? SCENES;

/** What is run from the start: a short capture of the first workload, or the user's if it is small. */
async function startOf(
  o: CompareArguments,
  folder: string,
  sides: readonly Side[],
  { specs, args, captures, tables }: Input,
): Promise<TimingOptions['start']> {
  let from = captures;
  const [{ made, replayed }] = specs;
  if (made !== null) {
    const workload = changedWorkload(workloadsOf(o)[0], {
      ...o,
      packets: Math.min(o.packets ?? PACKETS, START_PACKETS),
    });
    const capture = path.join(folder, 'start.pcapng');
    await writeCapture(capture, traffic(workload.traffic), {
      format: 'pcapng',
      rate: workload.rate,
      ports: SERVER_PORT,
    });
    if (o.flows === undefined)
      fs.writeFileSync(path.join(folder, 'flows.txt'), tablesFor(workload.traffic, workload.table));
    from = [capture];
  } else {
    const paths = [
      ...captures,
      ...replayed!.in.map((i) => i.path),
      ...sides.flatMap((side) => side.capture ?? []),
    ];
    if (paths.some((file) => fs.statSync(file).size > START_BYTES)) return null;
  }
  const [base, candidate] = sides.map((side) => [
    ...replayArguments(side, { args, captures: from, tables }),
    '--quiet',
  ]);
  return { base, candidate };
}

/** What is replayed, with what the side has of its own. */
function specOf(side: Side, spec: BenchSpec): BenchSpec {
  const { events, ...tables } = side.tables;
  const own = { ...spec, ...tables };
  if (side.capture === undefined) return own;
  const before = spec.replayed ?? { in: [], ports: [] };
  return { ...own, made: null, replayed: { ...before, in: [], captures: [side.capture] } };
}

/** Writes the report; returns the exit code. */
async function finish(
  c: Comparison,
  verdict: TimingVerdict | null,
  o: CompareArguments,
  reports: Reports<'json' | 'markdown' | 'html'>,
): Promise<number> {
  await reports.write('json', () => `${JSON.stringify(c, null, 2)}\n`);
  await reports.write('markdown', () => comparisonMarkdown(c));
  await reports.write('html', () => renderReport(comparisonReport(c, limitsOf(o))));
  if (!o.quiet && !reports.taken) process.stdout.write(comparisonText(c));
  if (verdict === 'slower') return o.exitSlower;
  const { results } = c;
  if (results !== null && results.packets.different + results.connections.different > 0)
    return o.exitDifferent;
  return verdict === "can't tell" ? o.exitUnknown : 0;
}

function percentage(text: string): number {
  const n = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (n >= 0 && n <= 100) return n;
  throw new InvalidArgumentError('expected percent, such as 1 or 2.5.');
}

const parseNames = (text: string) => text.split(',').map((name) => name.trim());

/** Adds the command to the program. */
export function addCompare(program: Command): void {
  const command = program
    .command('compare')
    .description(
      'compare what two installations, commits, Node binaries, flow tables or captures do, and how fast',
    )
    .argument(
      '<base>',
      'a folder, commit, Node binary, flow table, capture or stored result; or KIND:VALUE, several with commas between',
    )
    .argument('<candidate>', 'what is compared with it')
    .option(
      '--workload <LIST>',
      `what both replay, without captures (default: ${SCENES.join(',')})`,
      parseNames,
    );
  const code = wholeNumber(0, 125);
  benchOptions(command)
    .option('--events <FILE>', 'NDJSON of control events (docs/events.md), with --only results')
    .addOption(new Option('--only <PART>', 'what to compare').choices(['results', 'time']))
    .option('--tolerance <PERCENT>', 'a slow-down by more is one', percentage, 1)
    .option('--notice <PERCENT>', 'a slow-down by less does not matter', percentage, 5)
    .option('--budget <S>', 'time for the comparison of times, at most', wholeNumber(1, 86400), 80)
    .option('--pairs <N>', 'pairs of processes, at most', wholeNumber(2, 1000), 40)
    .option(
      '--turns <MS>',
      'that a side runs in turns for each workload in a pair',
      wholeNumber(1, 60_000),
      300,
    )
    .option('--slice <MS>', 'length of a slice with threads', wholeNumber(1, 1000), 10)
    .option('--slices <N>', 'slices with threads of each side in a pair', wholeNumber(4, 10_000), 12)
    .option(
      '--warmup-ms <MS>',
      'processor time before slices, in every process',
      wholeNumber(0, 60_000),
      WARMUP_MS,
    )
    .option('--explain <N>', 'groups of packets whose first is explained', wholeNumber(0, 1000), 20)
    .option('--exit-slower <CODE>', 'exit code', code, 1)
    .option('--exit-unknown <CODE>', "exit code of can't tell", code, 2)
    .option('--exit-different <CODE>', 'exit code of other results, unless slower', code, 3)
    .option('--json <FILE>', 'the comparison as JSON')
    .option('--markdown <FILE>', 'the comparison as Markdown')
    .option('--html <FILE>', 'the comparison as one HTML file with charts')
    .option('--quiet', 'no report, no progress')
    .action(async (base: string, candidate: string, o: CompareArguments) => {
      process.exitCode = await compareCommand(base, candidate, o);
    });
}
