/** What a report says, as plain data; `renderReport` of html.ts makes one HTML file of it.
 *
 *  Whoever has something to show makes a `Report` of sections, and sections of tables, charts and text:
 *
 *      const html = await renderReport({
 *        title: 'Analysis of week.pcap',
 *        lead: '12,345 connections in 3 files.',
 *        facts: [['Flow table', 'firewall.txt']],
 *        notes: [],
 *        sections: [
 *          { title: 'Top talkers', parts: [
 *            { kind: 'table', caption: 'Hosts by bytes', head: ['host', 'bytes'], rows: [['10.0.0.1', 1234]] },
 *            { kind: 'bars', caption: 'Connections by state', value: 'connections',
 *              alt: 'Most connections are SF.', bars: [{ name: 'SF', value: 900 }] },
 *            { kind: 'lines', caption: 'Traffic over capture time', alt: 'Steady.', stacked: false,
 *              x: { label: 'capture time, s' }, y: { label: 'packets/s' },
 *              series: [{ name: 'packets/s', points: [[0, 10], [1, 12]] }] },
 *          ] },
 *        ],
 *      });
 *
 *  Every chart needs a caption with what is shown, axes with units, and in `alt` what a person sees in it; its numbers are put
 *  into a table behind it, so no chart is the only place of anything. Nothing here is HTML: texts are escaped. */

export interface Report {
  title: string;
  /** What comes out of it all, in a sentence or two. */
  lead: string;
  /** What was run, and where: name and value. */
  facts: readonly (readonly [name: string, value: string])[];
  /** What a reader must know to believe the figures. */
  notes: readonly string[];
  sections: readonly Section[];
}

export interface Section {
  title: string;
  text?: string;
  parts: readonly Part[];
}

export type Part = Text | Table | Chart;
export type Chart = Lines | Bars | Intervals | Histogram | History;

export interface Text {
  kind: 'text';
  text: string;
}

export type Cell = string | number | null;

export interface Table {
  kind: 'table';
  caption: string;
  /** The first column names its row. Columns of numbers only are set to the right. */
  head: readonly string[];
  rows: readonly (readonly Cell[])[];
}

export interface Axis {
  /** What, and its unit. */
  label: string;
  /** Linear unless said otherwise. */
  scale?: 'linear' | 'log';
}

interface Drawn {
  caption: string;
  /** What a person sees in it, for those who don't. */
  alt: string;
}

/** Values over something that goes on, such as time; `stacked` if they add up to something. */
export interface Lines extends Drawn {
  kind: 'lines';
  x: Axis;
  y: Axis;
  stacked: boolean;
  series: readonly { name: string; points: readonly (readonly [x: number, y: number])[] }[];
}

/** One value for each name; with `part` several, one after the other. */
export interface Bars extends Drawn {
  kind: 'bars';
  /** What the values are, and their unit. */
  value: string;
  bars: readonly { name: string; part?: string; value: number }[];
}

/** Values with what they may be. */
export interface Intervals extends Drawn {
  kind: 'intervals';
  value: string;
  rows: readonly { name: string; value: number; low: number; high: number }[];
  /** Values to compare with. */
  marks: readonly { at: number; label: string }[];
}

/** How often something was between two values. */
export interface Histogram extends Drawn {
  kind: 'histogram';
  x: Axis;
  /** What is counted. */
  count: string;
  bins: readonly { from: number; to: number; n: number }[];
  marks: readonly { at: number; label: string }[];
}

/** A value of one run after the other, and where it has changed. */
export interface History extends Drawn {
  kind: 'history';
  value: string;
  runs: readonly { name: string; date: string; value: number; low: number; high: number }[];
  /** Index of the first run of each part but the first. */
  changes: readonly number[];
}
