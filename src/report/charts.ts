/** Charts as SVG, drawn by Observable Plot, and the tables that stand behind them.
 *
 *  Colours are variables of the page's style sheet, so that one drawing serves light and dark; series differ by dashes as well. A
 *  chart is drawn twice, for phones and for wider screens, because letters that shrink with the picture can't be read. */
import * as Plot from '@observablehq/plot';
import { newDocument } from './dom.js';
import { numberText } from './format.js';
import type { Bars, Chart, Histogram, History, Intervals, Lines, Table } from './model.js';

/** Series that are told apart by colour and dashes; the style sheet has as many colours. */
export const COLOURS = 8;
const DASHES = ['none', '7 3', '2 2', '9 3 2 3', '12 4', '4 4', '1 3', '6 2 2 2'];
const HEIGHT = 240;
const BAR_HEIGHT = 26;
/** Room for the names of rows, in pixels of a letter. */
const LETTER = 6.2;
const MARK_HEIGHT = 14;
/** Room for a value behind its bar. */
const BAR_VALUE = 60;
/** Rows of the table behind a chart. */
const MOST_ROWS = 200;

const colour = (i: number) => `var(--c${(i % COLOURS) + 1})`;

/** Names of the series of a chart, if it has several. */
export function seriesOf(chart: Chart): string[] {
  if (chart.kind === 'lines') return chart.series.map((s) => s.name);
  if (chart.kind !== 'bars') return [];
  return [...new Set(chart.bars.flatMap((b) => (b.part === undefined ? [] : [b.part])))];
}

/** A sample of a series for its legend. */
export function swatch(chart: Chart, i: number): string {
  const filled = chart.kind === 'bars' || (chart.kind === 'lines' && chart.stacked);
  const mark = filled
    ? `<rect width="22" height="10" fill="${colour(i)}"/>`
    : `<line x1="0" y1="5" x2="22" y2="5" stroke="${colour(i)}" stroke-width="2.5" stroke-dasharray="${DASHES[i % COLOURS]}"/>`;
  return `<svg width="22" height="10" viewBox="0 0 22 10" aria-hidden="true" focusable="false">${mark}</svg>`;
}

/** The chart `width` pixels wide, as an SVG element without a name. */
export function draw(chart: Chart, width: number): string {
  const options: Plot.PlotOptions = {
    ...optionsOf(chart, width),
    document: newDocument(),
    width,
    style: { fontSize: '12px', background: 'none', fontFamily: 'inherit' },
  };
  const svg = Plot.plot(options);
  // The names that Plot gives its groups are for nobody: the picture as a whole has one.
  for (const named of svg.querySelectorAll('[aria-label]')) named.removeAttribute('aria-label');
  svg.setAttribute('aria-hidden', 'true');
  return svg.outerHTML;
}

function optionsOf(chart: Chart, width: number): Plot.PlotOptions {
  switch (chart.kind) {
    case 'lines':
      return lines(chart, width);
    case 'bars':
      return bars(chart, width);
    case 'intervals':
      return intervals(chart, width);
    case 'histogram':
      return histogram(chart, width);
    case 'history':
      return history(chart, width);
  }
}

/** Decades beyond which only powers of ten are marked. */
const FEW_DECADES = 1.5;

/** Marks of an axis with the values from `low` to `high`. */
function ticksOf(scale: 'linear' | 'log' | undefined, width: number, low: number, high: number) {
  if (scale !== 'log' || !(low > 0) || Math.log10(high / low) < FEW_DECADES) return ticks(width);
  const from = Math.ceil(Math.log10(low));
  return Array.from({ length: Math.floor(Math.log10(high)) - from + 1 }, (_, i) => 10 ** (from + i));
}

const ticks = (width: number) => (width < 500 ? 4 : 8);
const plain = { tickFormat: numberText, labelArrow: 'none' } as const;

function lines(chart: Lines, width: number): Plot.PlotOptions {
  const names = chart.series.map((s) => s.name);
  const rows = chart.series.flatMap((s) => s.points.map(([x, y]) => ({ x, y, name: s.name })));
  const log = chart.y.scale === 'log';
  const drawn = log ? rows.filter((r) => r.y > 0) : rows;
  const marks: Plot.Markish[] = chart.stacked
    ? [
        Plot.areaY(
          drawn,
          Plot.stackY({ x: 'x', y: 'y', fill: 'name', order: names, title: 'name' } as Plot.AreaYOptions),
        ),
      ]
    : chart.series.map((s, i) =>
        Plot.lineY(
          drawn.filter((r) => r.name === s.name),
          { x: 'x', y: 'y', stroke: colour(i), strokeWidth: 2, strokeDasharray: DASHES[i % COLOURS] },
        ),
      );
  if (!log) marks.push(Plot.ruleY([0]));
  // What is counted has no marks between.
  const xs = drawn.map((r) => r.x);
  const steps = xs.every(Number.isInteger) ? Math.max(1, Math.max(...xs) - Math.min(...xs)) : ticks(width);
  return {
    height: HEIGHT,
    marginLeft: 58,
    marginBottom: 42,
    x: {
      ...plain,
      label: chart.x.label,
      type: chart.x.scale ?? 'linear',
      ticks: Math.min(ticks(width), steps),
    },
    y: { ...plain, label: chart.y.label, type: chart.y.scale ?? 'linear', grid: true, ticks: 5, zero: !log },
    color: { type: 'ordinal', domain: names, range: names.map((_, i) => colour(i)) },
    marks,
  };
}

/** What names of rows take on the left, at most a good part of the width. */
const nameRoom = (names: readonly string[], width: number) =>
  Math.min(Math.max(40, ...names.map((n) => n.length * LETTER + 14)), width * 0.42);

/** What fits into the room; the table has the whole name. */
function cut(name: string, room: number): string {
  const most = Math.max(4, Math.floor((room - 14) / LETTER));
  return name.length <= most ? name : `${name.slice(0, most - 1)}…`;
}

/** As many as `ticks`, or as have room beside each other: the scale may mark half as many again. */
function ticksThatFit(values: readonly number[], width: number, axis: number): number {
  const longest = Math.max(...values.map((v) => numberText(Math.trunc(v)).length));
  return Math.max(1, Math.min(ticks(width) - 1, Math.floor(axis / (1.5 * (longest + 2) * LETTER))));
}

function bars(chart: Bars, width: number): Plot.PlotOptions {
  const names = [...new Set(chart.bars.map((b) => b.name))];
  const parts = seriesOf(chart);
  const room = nameRoom(names, width);
  const values = chart.bars.map((b) => b.value);
  const marked = ticksThatFit(values, width, width - room - BAR_VALUE);
  const rows = chart.bars.map((b) => ({ ...b, part: b.part ?? '' }));
  const fill = parts.length === 0 ? colour(0) : 'part';
  return {
    height: names.length * BAR_HEIGHT + 50,
    marginLeft: room,
    marginRight: BAR_VALUE,
    marginBottom: 42,
    x: { ...plain, label: chart.value, grid: true, ticks: marked, zero: true },
    y: { label: null, domain: names, tickFormat: (n: string) => cut(n, room), tickSize: 0 },
    color: { type: 'ordinal', domain: parts, range: parts.map((_, i) => colour(i)) },
    marks: [
      Plot.barX(rows, {
        x: 'value',
        y: 'name',
        fill,
        order: parts.length === 0 ? null : parts,
      } as Plot.BarXOptions),
      ...(parts.length === 0
        ? [
            Plot.text(rows, {
              x: 'value',
              y: 'name',
              text: (r: { value: number }) => numberText(r.value),
              textAnchor: 'start',
              dx: 5,
            }),
          ]
        : []),
      Plot.ruleX([0]),
    ],
  };
}

function intervals(chart: Intervals, width: number): Plot.PlotOptions {
  const names = chart.rows.map((r) => r.name);
  const room = nameRoom(names, width);
  const ends = chart.rows.flatMap((r) => [r.value, r.low, r.high]).filter((end) => Number.isFinite(end));
  const finite = chart.rows.filter((r) => Number.isFinite(r.low) && Number.isFinite(r.high));
  return {
    height: names.length * BAR_HEIGHT + 66 + (chart.marks.length > 1 ? MARK_HEIGHT : 0),
    marginLeft: room,
    marginRight: 24,
    marginTop: 26 + (chart.marks.length > 1 ? MARK_HEIGHT : 0),
    marginBottom: 42,
    x: {
      ...plain,
      label: chart.value,
      grid: true,
      ticks: ticksThatFit(ends, width, width - room - 24),
      nice: true,
    },
    y: { type: 'band', label: null, domain: names, tickFormat: (n: string) => cut(n, room), tickSize: 0 },
    marks: [
      Plot.ruleX(chart.marks, { x: 'at', stroke: 'currentColor', strokeDasharray: '4 3' }),
      // Marks are often close together.
      ...chart.marks.map((m, i) =>
        Plot.text([m], { x: 'at', text: 'label', frameAnchor: 'top', dy: -16 - (i % 2) * MARK_HEIGHT }),
      ),
      Plot.ruleY(finite, { y: 'name', x1: 'low', x2: 'high', stroke: colour(0), strokeWidth: 3 }),
      Plot.tickX(finite, { x: 'low', y: 'name', stroke: colour(0), strokeWidth: 2, inset: 5 }),
      Plot.tickX(finite, { x: 'high', y: 'name', stroke: colour(0), strokeWidth: 2, inset: 5 }),
      Plot.dot(chart.rows, { x: 'value', y: 'name', r: 5, fill: colour(0) }),
    ],
  };
}

function histogram(chart: Histogram, width: number): Plot.PlotOptions {
  return {
    height: HEIGHT,
    marginLeft: 58,
    marginBottom: 42,
    marginTop: 30,
    x: {
      ...plain,
      label: chart.x.label,
      type: chart.x.scale ?? 'linear',
      ticks: ticksOf(
        chart.x.scale,
        width,
        Math.min(...chart.bins.map((b) => b.from)),
        Math.max(...chart.bins.map((b) => b.to)),
      ),
    },
    y: { ...plain, label: chart.count, grid: true, ticks: 5, zero: true },
    marks: [
      Plot.rectY(chart.bins, {
        x1: 'from',
        x2: 'to',
        y: 'n',
        fill: colour(0),
        insetLeft: 0.5,
        insetRight: 0.5,
      }),
      Plot.ruleX(chart.marks, { x: 'at', stroke: 'currentColor', strokeDasharray: '4 3' }),
      Plot.text(chart.marks, { x: 'at', text: 'label', frameAnchor: 'top', dy: -12 }),
      Plot.ruleY([0]),
    ],
  };
}

function history(chart: History, width: number): Plot.PlotOptions {
  const domain = domainOf(chart.runs.map((r) => r.value));
  const runs = chart.runs.map((r, i) => ({
    ...r,
    i: i + 1,
    low: Math.max(r.low, domain[0]),
    high: Math.min(r.high, domain[1]),
  }));
  const starts = [0, ...chart.changes];
  const levels = starts.map((from, k) => {
    const to = starts[k + 1] ?? runs.length;
    const part = runs.slice(from, to);
    return { x1: from + 0.5, x2: to + 0.5, y: part.reduce((sum, r) => sum + r.value, 0) / part.length };
  });
  const changes = chart.changes.map((at) => ({ x: at + 0.5, label: `from run ${at + 1}` }));
  return {
    height: HEIGHT,
    marginLeft: 58,
    marginBottom: 42,
    marginTop: 30,
    x: {
      ...plain,
      label: 'run',
      type: 'linear',
      domain: [0.5, runs.length + 0.5],
      ticks: Math.min(runs.length, ticks(width)),
    },
    y: { ...plain, label: chart.value, grid: true, ticks: 5, domain },
    marks: [
      Plot.ruleX(runs, { x: 'i', y1: 'low', y2: 'high', stroke: colour(0), strokeOpacity: 0.6 }),
      Plot.dot(runs, { x: 'i', y: 'value', fill: colour(0), r: 3 }),
      Plot.ruleY(levels, { y: 'y', x1: 'x1', x2: 'x2', stroke: colour(1), strokeWidth: 2 }),
      Plot.ruleX(changes, { x: 'x', stroke: 'currentColor', strokeDasharray: '4 3' }),
      Plot.text(changes, { x: 'x', text: 'label', frameAnchor: 'top', dy: -12 }),
    ],
  };
}

/** Room for the values and their changes: what is not sure about a single run may go beyond it. */
function domainOf(values: readonly number[]): [number, number] {
  if (values.length === 0) return [0, 1];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = Math.max(0.3 * (high - low), 0.02 * Math.abs(high));
  return [low - room, high + room];
}

/** The numbers of a chart. Of long ones every so many rows, which the caption says. */
export function tableOf(chart: Chart): Table {
  const { head, rows } = numbersOf(chart);
  const step = Math.ceil(rows.length / MOST_ROWS);
  return {
    kind: 'table',
    caption:
      step > 1 ? `${chart.caption} (every ${step} of ${numberText(rows.length)} values)` : chart.caption,
    head,
    rows: rows.filter((_, i) => i % step === 0),
  };
}

function numbersOf(chart: Chart): Pick<Table, 'head' | 'rows'> {
  switch (chart.kind) {
    case 'lines': {
      const columns = chart.series.map((s) => new Map(s.points));
      const xs = [...new Set(columns.flatMap((c) => [...c.keys()]))].sort((a, b) => a - b);
      const names = chart.series.map((s) =>
        s.name === chart.y.label ? s.name : `${s.name} (${chart.y.label})`,
      );
      return {
        head: [chart.x.label, ...names],
        rows: xs.map((x) => [x, ...columns.map((c) => c.get(x) ?? null)]),
      };
    }
    case 'bars': {
      const parts = seriesOf(chart);
      if (parts.length === 0)
        return { head: ['', chart.value], rows: chart.bars.map((b) => [b.name, b.value]) };
      const names = [...new Set(chart.bars.map((b) => b.name))];
      const value = (name: string, part: string) =>
        chart.bars.find((b) => b.name === name && b.part === part)?.value ?? null;
      return {
        head: ['', ...parts.map((part) => `${part} (${chart.value})`)],
        rows: names.map((name) => [name, ...parts.map((part) => value(name, part))]),
      };
    }
    case 'intervals':
      return {
        head: ['', chart.value, 'low', 'high'],
        rows: chart.rows.map((r) => [r.name, r.value, r.low, r.high]),
      };
    case 'histogram':
      return {
        head: [`${chart.x.label}: from`, 'to', chart.count],
        rows: chart.bins.map((b) => [b.from, b.to, b.n]),
      };
    case 'history': {
      const changed = new Set(chart.changes);
      return {
        head: ['run', 'what', 'date', chart.value, 'low', 'high', 'change'],
        rows: chart.runs.map((r, i) => [
          `${i + 1}`,
          r.name,
          r.date,
          r.value,
          r.low,
          r.high,
          changed.has(i) ? 'new level from here' : '',
        ]),
      };
    }
  }
}
