/** How does one worker compare with OVS-DPDK's one PMD thread, on the same captures and flow table?
 *
 *  Both sides run in turn, A B A B, so that what else the machine does hits both; the ratio is the median over
 *  the pairs. Our side also has its main thread, which hands out packets and collects verdicts.
 *
 *      npm run bench:peers -- --rounds 3 --seconds 3 --json FILE --markdown FILE
 *      npm run bench:peers -- --in 1=A.pcap --in 2=B.pcap --flows FILE
 *
 *  A line for each workload is printed as soon as it is done, and the files are written anew after each round: what ends the
 *  run early takes nothing away from what was measured.
 *
 *  At the end `analyze` as a whole process beside argus, softflowd, nfpcapd and tshark, as in bench:analyze; `--only analyze` measures
 *  nothing else.
 *
 *  Needs Debian's openvswitch-switch-dpdk, root, and up to 6 GiB for hugepages while it runs. Exit code 2 where that
 *  is missing; --skip-ovs measures only our side, with no needs. 1 if a workload fails; the others are measured. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Command } from 'commander';
import { collectIn, type PortFile, parseInside, parsePortList, wholeNumber } from '../../src/cli/options.js';
import type { PrefixSet } from '../../src/wire/cidr.js';
import { type Costs, costTable, makeMixed, measureAnalyzers } from '../analyze/contenders.js';
import { parseOvstest } from './numbers.js';
import { child, measureOurs, measureTracker } from './ours.js';
import { OvsDpdk, type OvsResult, ovsVersion, type Versions, which, whyNot } from './ovs.js';
import {
  type Likeness,
  legend,
  likeness,
  likenessText,
  type Row,
  summary,
  type TrackerRow,
  table,
  trackerText,
} from './report.js';
import { CORPUS, ownWorkload, type Prepared, WORKLOADS, type Workload } from './workloads.js';

interface Options {
  captures: string[];
  only?: string[];
  rounds: number;
  seconds: number;
  warmup: number;
  workers: number;
  analyzePackets: number;
  node: string;
  corpus: string;
  ovstest?: string;
  in: PortFile[];
  inside?: PrefixSet;
  ports: number[];
  flows?: string;
  groups?: string;
  skipOvs: boolean;
  json?: string;
  markdown?: string;
}

/** `shardtrack analyze` beside argus, softflowd, nfpcapd and tshark: the name for --only. */
const ANALYZE = 'analyze';
/** The tracker alone, beside ovstest: the name for --only. */
const TRACKER = 'conntrack';
const TRACKER_TARGET = 2;
const TRACKER_BATCH = 32;
const TRACKER_PACKETS = 50_000_000;

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'bench-peers-'));
const CPU = os.cpus()[0]?.model ?? 'unknown';
/** What a signal has printed. */
let report: Report | null = null;
/** Ends what runs right now. */
let kill: () => void = () => {};
const started = (stop: () => void) => {
  kill = stop;
};

process.on('exit', () => {
  kill();
  fs.rmSync(dir, { recursive: true, force: true });
});
for (const [signal, number] of [
  ['SIGINT', 2],
  ['SIGTERM', 15],
  ['SIGHUP', 1],
] as const) {
  process.on(signal, () => {
    if (report !== null) {
      progress('');
      report.print();
    }
    process.exit(128 + number);
  });
}

/** What has been measured so far. */
class Report {
  readonly rows: Row[] = [];
  tracker: TrackerRow | null = null;
  analyzers: readonly Costs[] = [];
  complete = false;
  private readonly options: Options;
  private readonly versions: Versions | null;
  private readonly commit = commit();
  private readonly load = os.loadavg()[0];

  constructor(options: Options, versions: Versions | null) {
    this.options = options;
    this.versions = versions;
  }

  /** Writes the files that were asked for. */
  save(): void {
    const { json, markdown } = this.options;
    if (json !== undefined) replace(json, `${JSON.stringify(this.figures(), null, 2)}\n`);
    if (markdown !== undefined) replace(markdown, this.text());
  }

  print(): void {
    process.stdout.write(this.text());
  }

  /** Rows that have figures, or a reason why not. */
  private get measured(): Row[] {
    return this.rows.filter((r) => r.ours.length > 0 || r.error !== undefined);
  }

  private get likenesses(): Likeness[] {
    const likenesses: Likeness[] = [];
    for (const { name, like } of WORKLOADS) {
      const [row, other] = [name, like?.name].map((n) =>
        this.rows.find((r) => r.workload === n && r.ours.length > 0 && r.error === undefined),
      );
      if (like !== undefined && row !== undefined && other !== undefined) {
        likenesses.push(likeness(row, other, like.within));
      }
    }
    return likenesses;
  }

  private get node(): string {
    return this.rows.find((r) => r.ours.length > 0)?.ours[0].node ?? process.version;
  }

  private text(): string {
    const { options: o, versions, measured, tracker } = this;
    const peer =
      versions === null ? 'not measured' : `${versions.ovs} with DPDK ${versions.dpdk}, one PMD thread`;
    const out: string[] = [
      `Shardtrack ${this.commit}, Node ${this.node}, ${o.workers} worker(s); Open vSwitch ${peer}.`,
      `${CPU}, ${os.cpus().length} cores, load ${this.load.toFixed(1)} at the start; ${new Date().toISOString().slice(0, 10)}; medians of ${o.rounds} rounds of ${o.seconds} s, in brackets the ratio of each pair.`,
      '',
    ];
    if (!this.complete) out.push('Ended early, or still running: some workloads or rounds are missing.', '');
    if (measured.length > 0) out.push(table(measured), '');
    for (const l of this.likenesses) out.push(likenessText(l), '');
    if (tracker !== null && tracker.ours.length > 0) out.push(trackerText(tracker), '');
    if (this.analyzers.length > 0) out.push(analyzersText(this.analyzers, o), '');
    for (const row of measured) {
      for (const note of row.notes) out.push(`\`${row.workload}\`: ${note}`, '');
      if (row.error !== undefined) out.push(`\`${row.workload}\` failed: ${row.error}`, '');
    }
    if (measured.length > 0) out.push(legend(measured), '');
    return out.join('\n');
  }

  private figures(): object {
    const { commit, node, load, versions, options, measured, likenesses, complete } = this;
    const { tracker, analyzers } = this;
    return {
      ...{ date: new Date().toISOString(), complete, commit, node, cpu: CPU, cores: os.cpus().length, load },
      ...{
        versions,
        options: { ...options, inside: undefined },
        rows: measured,
        likenesses,
        tracker,
        analyzers,
      },
    };
  }
}

/** Whoever reads the file finds the old text or the new one. */
function replace(file: string, text: string): void {
  fs.writeFileSync(`${file}.partial`, text);
  fs.renameSync(`${file}.partial`, file);
}

async function measurePeer(p: Prepared, fresh: boolean, o: Options): Promise<OvsResult> {
  const ovs = new OvsDpdk();
  kill = () => ovs.kill();
  try {
    return await ovs.measure({ ...p, fresh, warmup: o.warmup, seconds: o.seconds });
  } finally {
    await ovs.stop();
    kill = () => {};
  }
}

/** Workloads whose runs take turns: one, or one and what it is compared with. */
async function measureTogether(workloads: readonly Workload[], o: Options, report: Report): Promise<void> {
  const prepared: Prepared[] = [];
  const rows: Row[] = workloads.map(({ name, what, target }) => ({
    workload: name,
    what,
    target,
    packets: 0,
    bytes: 0,
    ovs: [],
    ours: [],
    notes: [],
  }));
  report.rows.push(...rows);
  try {
    for (const [i, workload] of workloads.entries()) {
      progress(`${workload.name}: making its packets`);
      prepared.push(await workload.prepare({ dir, corpus: o.corpus }));
      Object.assign(rows[i], {
        packets: prepared[i].packets,
        bytes: prepared[i].bytes,
        notes: prepared[i].notes,
      });
    }
    for (let round = 0; round < o.rounds; round++) {
      for (const [i, { name, fresh = false }] of workloads.entries()) {
        const p = prepared[i];
        progress(`${name}: round ${round + 1} of ${o.rounds}`);
        const peer = o.skipOvs ? null : await measurePeer(p, fresh, o);
        const ours = await measureOurs({ ...o, ...p, dir }, started);
        if (peer !== null) rows[i].ovs.push(peer);
        rows[i].ours.push(ours);
        report.save();
      }
    }
  } catch (error) {
    const why = (error as Error).message;
    progress('');
    process.stderr.write(`bench:peers: ${workloads.map((w) => w.name).join(', ')}: ${why}\n`);
    for (const row of rows) row.error = why.split('\n')[0];
    process.exitCode = 1;
  }
  for (const { arrivals } of prepared)
    for (const { capture } of arrivals) fs.rmSync(capture, { force: true });
  report.save();
  progress('');
  for (const row of rows) process.stdout.write(`${summary(row)}\n`);
}

async function measureTrackers(o: Options, report: Report): Promise<void> {
  const row: TrackerRow = { ovs: [], ours: [], target: TRACKER_TARGET };
  report.tracker = row;
  const args = ['test-conntrack', 'benchmark', '1', `${TRACKER_PACKETS}`, `${TRACKER_BATCH}`];
  try {
    for (let round = 0; round < o.rounds; round++) {
      progress(`${TRACKER}: round ${round + 1} of ${o.rounds}`);
      const theirs =
        o.ovstest === undefined || o.skipOvs ? null : parseOvstest(await child(o.ovstest, args, started));
      const { mpps } = await measureTracker(o.node, TRACKER_PACKETS, TRACKER_BATCH, started);
      if (theirs !== null) row.ovs.push(TRACKER_PACKETS / theirs / 1000);
      row.ours.push(mpps);
      report.save();
    }
    progress('');
  } catch (error) {
    progress('');
    process.stderr.write(`bench:peers: ${TRACKER}: ${(error as Error).message}\n`);
    process.exitCode = 1;
  }
  if (row.ours.length > 0) process.stdout.write(`${trackerText(row)}\n`);
}

/** Whole processes over one capture, in turn. */
async function measureAnalyze(o: Options, report: Report): Promise<void> {
  const capture = path.join(dir, 'analyze.pcap');
  try {
    progress(`${ANALYZE}: making its packets`);
    makeMixed(capture, o.analyzePackets);
    const missing = (name: string) =>
      process.stderr.write(`bench:peers: ${ANALYZE}: ${name} is not installed: left out\n`);
    report.analyzers = await measureAnalyzers(
      {
        ...{ capture, rounds: o.rounds, node: o.node, started },
        progress(costs) {
          report.analyzers = costs;
          progress(
            `${ANALYZE}: ${costs.reduce((n, c) => n + c.rounds.length, 0)} of ${costs.length * o.rounds} runs`,
          );
          report.save();
        },
      },
      missing,
    );
    progress('');
  } catch (error) {
    progress('');
    process.stderr.write(`bench:peers: ${ANALYZE}: ${(error as Error).message}\n`);
    process.exitCode = 1;
  }
  fs.rmSync(capture, { force: true });
  if (report.analyzers.length > 0) process.stdout.write(`${analyzersText(report.analyzers, o)}\n`);
}

function analyzersText(costs: readonly Costs[], o: Options): string {
  return `\`${ANALYZE}\`: records of a capture of ${o.analyzePackets} packets (bench:analyze), whole processes, medians of ${o.rounds} rounds.\n\n${costTable(costs)}`;
}

function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

/** Those that were asked for, in groups that take turns. */
function chosen(o: Options): Workload[][] {
  const names = [...WORKLOADS.map((w) => w.name), TRACKER, ANALYZE];
  const unknown = o.only?.find((name) => !names.includes(name));
  if (unknown !== undefined)
    throw new Error(`there is no workload ${unknown}; there are ${names.join(', ')}`);
  const groups: Workload[][] = [];
  if (o.flows !== undefined) {
    groups.push([ownWorkload({ ...o, flows: o.flows })]);
    if (o.only === undefined) return groups;
  }
  for (const w of WORKLOADS) {
    if (o.only === undefined ? w.extra : !o.only.includes(w.name)) continue;
    const like = groups.find(([first]) => first.name === w.like?.name);
    if (like === undefined) groups.push([w]);
    else like.push(w);
  }
  return groups;
}

/** The commit of the checkout, if it is one. */
function commit(): string {
  try {
    const git = (...args: string[]) =>
      execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
    return `${git('rev-parse', '--short', 'HEAD')}${git('status', '--porcelain', '-uno') === '' ? '' : ' (changed)'}`;
  } catch {
    return 'unknown';
  }
}

async function main(o: Options): Promise<void> {
  const own = o.captures.length + o.in.length > 0;
  if (own !== (o.flows !== undefined)) {
    throw new Error(
      'captures of your own need their flow table, and the other way round: --in PORT=FILE --flows FILE',
    );
  }
  const groups = chosen(o);
  const alone = o.only?.every((name) => name === ANALYZE) ?? false;
  if (!o.skipOvs && !alone) {
    const reason = whyNot();
    if (reason !== null) {
      process.stderr.write(`bench:peers: ${reason} (--skip-ovs measures only our side)\n`);
      process.exitCode = 2;
      return;
    }
  }
  const versions = o.skipOvs || alone ? null : await ovsVersion();
  report = new Report(o, versions);
  for (const group of groups) await measureTogether(group, o, report);
  const wanted = (name: string) => (o.only === undefined ? !own : o.only.includes(name));
  if (wanted(TRACKER)) await measureTrackers(o, report);
  if (wanted(ANALYZE)) await measureAnalyze(o, report);
  report.complete = true;
  report.save();
  process.stdout.write('\n');
  report.print();
}

const program = new Command('bench:peers')
  .argument('[capture...]', 'a workload of your own: captures as for replay, with --flows')
  .option(
    '--only <NAME...>',
    `of the workloads ${[...WORKLOADS.map((w) => w.name), TRACKER, ANALYZE].join(', ')}`,
  )
  .option('--rounds <N>', 'pairs of runs a workload', wholeNumber(1, 1000), 3)
  .option('--seconds <S>', 'measured time of a run', wholeNumber(1, 3600), 3)
  .option('--warmup <S>', 'time before it, two whole rounds of the capture at least', wholeNumber(1, 600), 3)
  .option('--workers <N>', 'our workers', wholeNumber(0, 128), 1)
  .option('--analyze-packets <N>', `of the capture of ${ANALYZE}`, wholeNumber(1000, 1e9), 1_000_000)
  .option('--node <FILE>', 'Node that runs our side', process.execPath)
  .option('--corpus <DIR>', 'real captures for mixed-large; shipped ones if it is not there', CORPUS)
  .option('--ovstest <FILE>', "for conntrack: tests/ovstest of Open vSwitch's build", which('ovstest'))
  .option('--in <PORT=FILE>', 'the same, arriving on PORT (repeatable)', collectIn, [])
  .option(
    '--inside <CIDR,...>',
    'for captures of your own: these sources arrive on port 1, all others on port 2',
    parseInside,
  )
  .option('--ports <LIST>', 'further ports of the switch', parsePortList, [])
  .option('--flows <FILE>', 'their flow table')
  .option('--groups <FILE>', 'their group table')
  .option('--skip-ovs', 'only our side', false)
  .option('--json <FILE>', 'all figures as JSON, written anew after each round')
  .option('--markdown <FILE>', 'the table, written anew after each round')
  .addHelpText(
    'after',
    `
All workloads take about 10 minutes with --rounds 2 --seconds 2 --warmup 2, and 15 with what is set otherwise.
Nothing else should run meanwhile. Needs root and Debian's openvswitch-switch-dpdk.`,
  )
  .action((captures: string[], o: Omit<Options, 'captures'>) => main({ ...o, captures }));
try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`bench:peers: ${(error as Error).message}\n`);
  process.exit(1);
}
