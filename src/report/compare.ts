/** The report on a comparison of `shardtrack compare`. */
import { connectionText } from '../compare/connections.js';
import {
  type Comparison,
  causeText,
  connectionsTitle,
  costText,
  isNotable,
  MUCH,
  STORED_TITLES,
  titleOf,
} from '../compare/report.js';
import type { ResultsComparison } from '../compare/results.js';
import type { StoredComparison } from '../compare/stored.js';
import { INTERVAL, isSlower, type Ratio, type TimingComparison } from '../compare/timing.js';
import { numberText, percentText, rangeText } from './format.js';
import type { Intervals, Part, Report, Section } from './model.js';

export interface Limits {
  /** Shares. */
  tolerance: number;
  notice: number;
}

export function comparisonReport(c: Comparison, limits: Limits): Report {
  const said: string[] = [];
  const sections: Section[] = [];
  if (c.timing !== null) {
    said.push(`Time: ${c.timing.verdict}.`);
    sections.push(timingSection(c.timing, limits));
  }
  if (c.stored !== null) {
    said.push(`Stored results: ${c.stored.verdict}.`);
    sections.push(storedSection(c.stored, limits));
  }
  if (c.results !== null) {
    const { packets, connections } = c.results;
    const same = packets.different + connections.different === 0;
    said.push(
      same
        ? 'Verdicts, bytes and connections are the same.'
        : `${numberText(packets.different)} packets and ${numberText(connections.different)} connections differ.`,
    );
    sections.push(resultsSection(c.results));
  }
  return {
    title: `Shardtrack: ${c.base} → ${c.candidate}`,
    lead: said.join(' '),
    facts: [
      ['Base', c.base],
      ['Candidate', c.candidate],
      ['What was replayed', c.what],
      ...(c.timing === null && c.stored === null ? [] : limitFacts(limits)),
    ],
    notes: c.stored?.remarks ?? [],
    sections,
  };
}

const limitFacts = ({ tolerance, notice }: Limits): [string, string][] => [
  ['Slower is', `an interval above +${numberText(100 * tolerance)} %`],
  ['Not slower is', `all intervals below +${numberText(100 * notice)} %`],
];

function ratioChart(rows: readonly (Ratio & { name: string })[], caption: string, limits: Limits): Intervals {
  const percent = percentOfRatio;
  return {
    kind: 'intervals',
    caption,
    alt: `${rows.map((r) => `${r.name} ${percentText(r.ratio - 1)} (${rangeText(percent(r.low), percent(r.high))})`).join(', ')}.`,
    value: 'difference, %',
    rows: rows.map((r) => ({
      name: r.name,
      value: percent(r.ratio),
      low: percent(r.low),
      high: Number.isFinite(r.high) ? percent(r.high) : r.high,
    })),
    marks: [
      { at: 100 * limits.tolerance, label: 'tolerance' },
      { at: 100 * limits.notice, label: 'notice' },
    ],
  };
}

function timingSection(t: TimingComparison, limits: Limits): Section {
  const rows = Object.entries(t.ratios).map(([name, r]) => ({ name: titleOf(name), key: name, ...r }));
  // Threads scatter by so much more that the others would be dots beside them.
  const isWell = (r: Ratio) => r.weight !== null;
  const someWell = rows.some(isWell);
  const asked = rows.filter((r) => isWell(r) || !someWell);
  const others = rows.filter((r) => !asked.includes(r));
  const title = `Candidate's time by base's, with ${INTERVAL.toFixed(1)} % intervals`;
  const parts: Part[] = [ratioChart(asked, title, limits)];
  if (others.length > 0) {
    parts.push(ratioChart(others, 'What is known less well', limits));
  }
  // Lines beyond these could not be told apart.
  const alls = rows.filter((r) => r.key.endsWith(': all') || r.key === 'time');
  parts.push(
    {
      kind: 'table',
      caption: 'Nanoseconds a packet, means of all pairs',
      head: ['', 'base', 'candidate', 'difference', ''],
      rows: rows.map((r) => [
        r.name,
        costText(r.key, r.base),
        costText(r.key, r.candidate),
        percentText(r.ratio - 1),
        isSlower(r, t.tolerance) ? 'slower' : '',
      ]),
    },
    {
      kind: 'lines',
      caption: 'Each pair of processes by itself',
      alt: alls
        .map((r) => `${r.name} ${rangeText(...extent((t.logs[r.key] ?? []).map(percentOf)))} %`)
        .join(', '),
      stacked: false,
      x: { label: 'pair' },
      y: { label: 'difference, %' },
      series: alls.map((r) => ({
        name: r.name,
        points: (t.logs[r.key] ?? []).map((log, i): [number, number] => [i + 1, percentOf(log)]),
      })),
    },
  );
  const counters = Object.keys(t.counts.base).map((name) => ({
    name,
    base: t.counts.base[name],
    candidate: t.counts.candidate[name],
  }));
  parts.push({
    kind: 'table',
    caption: 'Counters per packet, which do not depend on time',
    head: ['', 'base', 'candidate', ''],
    rows: counters.map((c) => [c.name, c.base, c.candidate, isNotable(c.base, c.candidate) ? 'differs' : '']),
  });
  return {
    title: `Time: ${t.verdict}`,
    text:
      `${t.pairs} pairs of processes in ${t.seconds.toFixed(0)} s; ` +
      `${t.workers.base} and ${t.workers.candidate} workers.`,
    parts,
  };
}

const percentOfRatio = (ratio: number) => 100 * (Math.min(ratio, MUCH) - 1);
const percentOf = (log: number) => 100 * (Math.exp(log) - 1);
const extent = (values: readonly number[]): [number, number] => [Math.min(...values), Math.max(...values)];

function storedSection(s: StoredComparison, limits: Limits): Section {
  const rows = s.workloads.flatMap((load) =>
    Object.entries(load.ratios).map(([name, r]) => ({ name: `${load.name}: ${STORED_TITLES[name]}`, ...r })),
  );
  return {
    title: `Stored results: ${s.verdict}`,
    text: 'The two were measured at different times, so that only large differences can be told.',
    parts: [
      ratioChart(rows, "Candidate's time by base's, with 99 % intervals", limits),
      {
        kind: 'table',
        caption: 'Verdicts',
        head: ['workload', 'verdict'],
        rows: s.workloads.map((w) => [w.name, w.verdict]),
      },
    ],
  };
}

function resultsSection({ packets, causes, connections }: ResultsComparison): Section {
  const parts: Part[] = [];
  if (packets.different === 0) {
    parts.push({ kind: 'text', text: `The same became of all ${numberText(packets.base)} packets.` });
  }
  for (const [i, cause] of causes.entries()) {
    parts.push({
      kind: 'table',
      caption: `Cause ${i + 1}: ${causeText(cause)}`,
      head: ['base', 'candidate', 'packets', 'first packet', 'time', 'port'],
      rows: cause.groups.map((g) => [
        g.base,
        g.candidate,
        g.packets,
        g.first.packet,
        g.first.ts,
        `${g.first.inPort}`,
      ]),
    });
  }
  if (connections.different === 0) {
    parts.push({
      kind: 'text',
      text: `All ${numberText(connections.base)} connections${connections.all ? '' : ' at the end'} are the same.`,
    });
  } else {
    parts.push({
      kind: 'table',
      caption: `${connectionsTitle(connections.all)}: ${numberText(connections.base)} and ${numberText(connections.candidate)}; ${numberText(connections.different)} differ`,
      head: ['difference', 'connections', 'first made by packet', 'which'],
      rows: connections.groups.map((g) => [
        g.difference,
        g.connections,
        g.first.packet,
        connectionText((g.first.base ?? g.first.candidate) as string),
      ]),
    });
  }
  return { title: 'Verdicts, bytes and connections', parts };
}
