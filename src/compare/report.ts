/** A comparison as people read it, in a terminal or as Markdown. */
import Table from 'cli-table3';
import { markdownTable } from 'markdown-table';
import { connectionText } from './connections.js';
import type { Cause, ResultsComparison } from './results.js';
import type { StoredComparison } from './stored.js';
import { INTERVAL, isSlower, type Ratio, type TimingComparison } from './timing.js';

export interface Comparison {
  format: 'shardtrack-compare';
  version: 1;
  base: string;
  candidate: string;
  /** What was replayed. */
  what: string;
  results: ResultsComparison | null;
  timing: TimingComparison | null;
  stored: StoredComparison | null;
}

const TITLES: Record<string, string> = {
  time: 'with threads: by the clock',
  main: 'with threads: processor time, main thread',
  others: 'with threads: processor time, workers',
  start: 'a whole short run, processor time',
};
/** Of stored results. */
export const STORED_TITLES: Record<string, string> = { time: 'time by the clock', cpu: 'processor time' };
/** Groups and causes that are shown; JSON has all. */
const SHOWN = 20;

interface Writer {
  heading(text: string): string;
  table(head: string[], rows: string[][]): string;
  line(text: string): string;
  /** What a program says, as it says it. */
  code(text: string): string;
}

const terminal: Writer = {
  heading: (text) => `\n${text}\n`,
  table(head, rows) {
    const table = new Table({ head, style: { head: [], border: [], compact: true } });
    table.push(...rows);
    return `${table.toString()}\n`;
  },
  line: (text) => `${text}\n`,
  code: (text) => text,
};

const markdown: Writer = {
  heading: (text) => `\n### ${text}\n\n`,
  table: (head, rows) => `${markdownTable([head, ...rows.map((row) => row.map(escaped))])}\n\n`,
  line: (text) => `${text}\n\n`,
  code: (text) => `\`${text}\``,
};

const escaped = (text: string) => text.replaceAll('|', '\\|').replaceAll('<', '&lt;');
const count = (n: number) => n.toLocaleString('en-US');
/** No ratio beyond this is worth its digits. */
export const MUCH = 10;
const percent = (ratio: number) =>
  ratio > MUCH
    ? `more than ${MUCH} times`
    : `${ratio >= 1 ? '+' : '−'}${Math.abs((ratio - 1) * 100).toFixed(2)} %`;
const interval = ({ low, high }: Ratio) =>
  high === Number.POSITIVE_INFINITY ? 'unknown' : `${percent(low)} to ${percent(high)}`;

export const comparisonText = (c: Comparison) => report(c, terminal);
export const comparisonMarkdown = (c: Comparison) =>
  `## Shardtrack: ${c.base} → ${c.candidate}\n\n${report(c, markdown)}`;

function report(c: Comparison, w: Writer): string {
  const parts = [w.line(`base: ${c.base}; candidate: ${c.candidate}; ${c.what}`)];
  if (c.results !== null) parts.push(resultsReport(c.results, w));
  if (c.timing !== null) parts.push(timingReport(c.timing, w));
  if (c.stored !== null) parts.push(storedReport(c.stored, w));
  return parts.join('');
}

function resultsReport({ packets, causes, connections }: ResultsComparison, w: Writer): string {
  const parts = [w.heading('Verdicts and bytes')];
  if (packets.different === 0) {
    parts.push(w.line(`the same for all ${count(packets.base)} packets`));
  } else {
    parts.push(
      w.line(
        `${count(packets.different)} of ${count(Math.max(packets.base, packets.candidate))} packets differ, for ${count(causes.length)} cause${causes.length === 1 ? '' : 's'}`,
      ),
    );
    for (const [i, cause] of causes.slice(0, SHOWN).entries()) {
      parts.push(w.line(`${i + 1}. ${causeText(cause, w.code)}`));
      const rows = cause.groups
        .slice(0, SHOWN)
        .map((g) => [
          count(g.packets),
          g.base,
          g.candidate,
          `${g.first.packet} (${g.first.ts}, port ${g.first.inPort})`,
        ]);
      parts.push(w.table(['packets', 'base', 'candidate', 'first packet'], rows));
    }
    if (causes.length > SHOWN) parts.push(w.line(`and ${causes.length - SHOWN} more causes; --json has all`));
  }
  parts.push(w.heading(connectionsTitle(connections.all)));
  if (connections.different === 0) {
    parts.push(w.line(`all ${count(connections.base)} are the same`));
    return parts.join('');
  }
  parts.push(
    w.line(
      `${count(connections.base)} and ${count(connections.candidate)}; ${count(connections.different)} differ`,
    ),
  );
  const rows = connections.groups
    .slice(0, SHOWN)
    .map((g) => [
      count(g.connections),
      g.difference,
      `${g.first.packet}`,
      connectionText((g.first.base ?? g.first.candidate) as string),
    ]);
  parts.push(w.table(['connections', 'difference', 'first made by packet', 'which'], rows));
  return parts.join('');
}

export const connectionsTitle = (all: boolean) => (all ? 'Connections' : 'Connections at the end');

/** A cause in a line: how many packets from which on, and where the explanations part. */
export function causeText(
  { base, candidate, consequence, packets, first }: Cause,
  code = terminal.code,
): string {
  const many = `${count(packets)} packet${packets === 1 ? '' : 's'}, ${packets === 1 ? '' : 'the first is '}number ${first.packet}`;
  if (base === null || candidate === null) return `${many}; not explained`;
  return `${many}; ${consequence ? 'a consequence of earlier packets; ' : ''}base: ${code(base)} — candidate: ${code(candidate)}`;
}

function timingReport(t: TimingComparison, w: Writer): string {
  const rows = Object.entries(t.ratios).map(([name, r]) => [
    titleOf(name),
    costText(name, r.base),
    costText(name, r.candidate),
    percent(r.ratio),
    interval(r),
    isSlower(r, t.tolerance) ? 'slower' : '',
  ]);
  const counters = Object.keys(t.counts.base)
    .filter((name) => !['parked', 'vectors'].includes(name))
    .filter((name) => isNotable(t.counts.base[name], t.counts.candidate[name]))
    .map((name) => [name, ...[t.counts.base, t.counts.candidate].map((c) => (c[name] * 1e6).toFixed(0))]);
  const parts = [
    w.heading(`Time: ${t.verdict}`),
    w.line(
      `${t.pairs} pairs of processes, ${t.seconds.toFixed(0)} s; ${t.workers.base} and ${t.workers.candidate} workers`,
    ),
    w.table(
      ['ns a packet', 'base', 'candidate', 'difference', `${INTERVAL.toFixed(1)} % interval`, ''],
      rows,
    ),
  ];
  if (counters.length > 0) parts.push(w.table(['per million packets', 'base', 'candidate'], counters));
  return parts.join('');
}

/** What a row of times is called. */
export const titleOf = (name: string) => TITLES[name] ?? name;

/** Nanoseconds a packet; a whole run has milliseconds. */
export function costText(name: string, ns: number | undefined): string {
  if (ns === undefined) return '';
  return name === 'start' ? `${(ns / 1e6).toFixed(0)} ms` : ns.toFixed(1);
}

/** By more than a hundredth: which cache answers depends on the schedule too, a little. */
export function isNotable(a: number, b: number): boolean {
  return Math.abs(a - b) > 0.01 * Math.max(a, b);
}

function storedReport(s: StoredComparison, w: Writer): string {
  const rows = s.workloads.flatMap((load) =>
    Object.entries(load.ratios).map(([name, r]) => [
      load.name,
      STORED_TITLES[name],
      percent(r.ratio),
      interval(r),
      load.verdict,
    ]),
  );
  return [
    w.heading(`Stored results: ${s.verdict}`),
    w.table(['workload', 'candidate by base', 'difference', '99 % interval', 'verdict'], rows),
    ...s.remarks.map((r) => w.line(`note: ${r}`)),
  ].join('');
}
