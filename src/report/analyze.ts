/** The report on an analysis of captures: what became of every packet, who talks, how connections ended, what failed, and what the
 *  flow table dropped, or another one would change. */
import type { Analysis } from '../analyze/analyze.js';
import type { Ranked } from '../analyze/summary.js';
import type { WhatIf } from '../analyze/what-if.js';
import { numberText } from './format.js';
import type { Bars, Cell, Part, Report, Section, Table } from './model.js';

/** An analysis, or several of a queue together. */
export type Analyzed = Pick<Analysis, 'files' | 'reconciliation' | 'summary'>;

export interface AnalysisReportOptions {
  /** Bars of a chart. */
  top: number;
  facts: Report['facts'];
  notes: readonly string[];
  /** Whether there is a flow table of one's own. */
  flows: boolean;
  /** Under another flow table, and its name. */
  other?: { changes: WhatIf; name: string };
}

/** Rows of a table for each bar of a chart. */
const ROWS = 10;
const MOST_FILES = 1000;
const MOST_NOTES = 20;

/** What Zeek's conn_state means. */
const STATES: Record<string, string> = {
  S0: 'opened, no answer',
  S1: 'open at the end',
  SF: 'opened and closed',
  REJ: 'refused',
  S2: 'open; the originator closed its side',
  S3: 'open; the responder closed its side',
  RSTO: 'reset by the originator',
  RSTR: 'reset by the responder',
  RSTOS0: 'reset by the originator, which had no answer',
  RSTRH: 'answered and reset by the responder, the opening not seen',
  SH: 'closed by the originator, which had no answer',
  SHR: 'answered and closed by the responder, the opening not seen',
  OTH: 'the opening not seen',
};

export function analysisReport(a: Analyzed, options: AnalysisReportOptions): Report {
  const { summary: s, reconciliation: r, files } = a;
  const { other } = options;
  return {
    title: 'Shardtrack analysis',
    lead:
      `${numberText(s.connections)} connections in ${numberText(r.captured.packets)} packets, ${bytesText(r.captured.bytes)}, ` +
      `of ${files.length === 1 ? 'one capture' : `${numberText(files.length)} captures`}.`,
    facts: options.facts,
    notes: shortened(options.notes),
    sections: [
      packets(a),
      ranked('Top talkers', 'Hosts', s.hosts, options.top, 'What hosts sent and got, in connections.'),
      ranked('Services', 'Services', s.services, options.top, 'By protocol and port of the responder.'),
      states(a, options.top),
      failed(a, options.top),
      drops(a, options),
      ...(other === undefined ? [] : [changes(other, options.top)]),
      captures(a),
    ],
  };
}

function packets({ reconciliation: { captured, rows, records, repeated } }: Analyzed): Section {
  const within = rows.find((row) => row.name === 'in connections')?.packets ?? 0;
  const share = captured.packets === 0 ? 0 : (100 * within) / captured.packets;
  const again =
    repeated.packets === 0
      ? ''
      : ` ${numberText(repeated.packets)} packets are in the records of a further zone, too.`;
  return {
    title: 'Where every packet went',
    text: `The rows add up to all that was captured; records count ${numberText(records.packets)} packets and ${numberText(records.bytes)} bytes of frames.${again}`,
    parts: [
      bars('Packets', 'packets', `${numberText(share)} % of packets are in connections.`, rows, 'packets'),
      {
        kind: 'table',
        caption: 'Packets and bytes that were captured',
        head: ['', 'packets', 'bytes'],
        rows: [
          ['all that was captured', captured.packets, captured.bytes],
          ...rows.map((row): Cell[] => [row.name, row.packets, row.bytes]),
        ],
      },
    ],
  };
}

function ranked(title: string, what: string, list: readonly Ranked[], top: number, text: string): Section {
  const shown = list.slice(0, top);
  if (shown.length === 0) return { title, parts: [none('No connections.')] };
  const [unit, size] = unitOf(shown[0].bytes);
  const scaled = shown.map((e) => ({ name: e.name, value: e.bytes / size }));
  return {
    title,
    text,
    parts: [
      {
        kind: 'bars',
        caption: `${what} with the most bytes`,
        alt: `${shown[0].name} has ${bytesText(shown[0].bytes)}, the most.`,
        value: unit,
        bars: scaled,
      },
      {
        kind: 'table',
        caption: `${what} by bytes${upTo(list, top)}`,
        head: ['', 'connections', 'packets', 'bytes'],
        rows: list.slice(0, top * ROWS).map((e) => [e.name, e.connections, e.packets, e.bytes]),
      },
    ],
  };
}

function states({ summary: { endings, tcpStates, protocols } }: Analyzed, top: number): Section {
  const parts = [
    tally('Connections by protocol', protocols, top, (name) => name),
    tally('How connections ended', endings, Infinity, (name) => name),
    tally('TCP connections by conn_state', tcpStates, Infinity, (name) =>
      STATES[name] === undefined ? name : `${name}: ${STATES[name]}`,
    ),
  ].flat();
  return {
    title: 'States',
    text:
      'A connection ends by timeout when no packet has come for as long as its state allows; it is replaced when its tuple is opened again, ' +
      'flushed by an event, or open at the end of the input. Of TCP, conn_state says as in Zeek what was seen of it.',
    parts: parts.length === 0 ? [none('No connections.')] : parts,
  };
}

function tally(
  caption: string,
  map: ReadonlyMap<string, number>,
  top: number,
  nameOf: (name: string) => string,
): Bars[] {
  if (map.size === 0) return [];
  const all = [...map]
    .sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1))
    .map(([name, connections]) => ({ name: nameOf(name), connections }));
  const rows = all.slice(0, top);
  const others = all.slice(top).reduce((n, row) => n + row.connections, 0);
  if (others > 0) rows.push({ name: `${all.length - top} others`, connections: others });
  const alt = `${rows[0].name}: ${numberText(rows[0].connections)}, the most.`;
  return [bars(caption, 'connections', alt, rows, 'connections')];
}

function failed({ summary: { failed: sources, scans } }: Analyzed, top: number): Section {
  const parts: Part[] = [];
  if (scans.length === 0) parts.push(none('Nothing looks like a scan.'));
  else {
    parts.push({
      kind: 'table',
      caption: `What looks like scans${upTo(scans, top)}`,
      head: ['source', 'of', 'failed or unanswered', 'hosts', 'ports'],
      rows: scans.slice(0, top * ROWS).map((f) => [f.src, f.kind, f.failed, f.hosts, f.ports]),
    });
  }
  if (sources.length === 0) parts.push(none('No TCP handshake failed.'));
  else {
    const shown = sources.slice(0, top).map((f) => ({ name: f.src, failed: f.failed }));
    const alt = `${sources[0].src} has ${numberText(sources[0].failed)}, the most.`;
    if (shown.length > 0)
      parts.push(bars('Sources with the most failed handshakes', 'handshakes', alt, shown, 'failed'));
    parts.push({
      kind: 'table',
      caption: `Failed TCP handshakes by source${upTo(sources, top)}`,
      head: ['source', 'failed', 'TCP connections', 'hosts', 'ports'],
      rows: sources.slice(0, top * ROWS).map((f) => [f.src, f.failed, f.connections, f.hosts, f.ports]),
    });
  }
  return {
    title: 'Failed handshakes and scans',
    text: 'Handshakes that were not answered, refused or given up. Hosts and ports are those of what failed, counted up to 256.',
    parts,
  };
}

function drops({ summary: { drops: list } }: Analyzed, { flows, top }: AnalysisReportOptions): Section {
  const title = 'Dropped, by rule';
  if (list.length === 0) {
    return {
      title,
      parts: [
        none(
          flows
            ? 'The flow table dropped nothing.'
            : 'No flow table was given: every connection is tracked, and nothing is dropped.',
        ),
      ],
    };
  }
  const reasons = new Map<string, number>();
  for (const d of list) reasons.set(d.reason, (reasons.get(d.reason) ?? 0) + d.packets);
  const rows = [...reasons].map(([name, n]) => ({ name, packets: n })).sort((x, y) => y.packets - x.packets);
  return {
    title,
    text: 'All packets that the flow table dropped, by the last rule that they went by. Connections are those whose first dropped packet is among them.',
    parts: [
      bars(
        'Dropped packets by reason',
        'packets',
        `${rows[0].name}: ${numberText(rows[0].packets)}, the most.`,
        rows,
        'packets',
      ),
      {
        kind: 'table',
        caption: `Dropped packets by rule${upTo(list, top)}`,
        head: ['reason', 'connections', 'packets', 'rule'],
        rows: list.slice(0, top * ROWS).map((d) => [d.reason, d.connections, d.packets, d.rule]),
      },
    ],
  };
}

function changes(
  { changes: { packets: all, same, changes: list }, name }: { changes: WhatIf; name: string },
  top: number,
): Section {
  const otherwise = all - same.packets;
  const table: Table = {
    kind: 'table',
    caption: `Packets that would fare otherwise${upTo(list, top)}`,
    head: ['now', 'then', 'packets', 'bytes', 'first packet'],
    rows: list.slice(0, top * ROWS).map((c) => [c.from, c.to, c.packets, c.bytes, c.first]),
  };
  return {
    title: `Under ${name}`,
    text: `${numberText(otherwise)} of ${numberText(all)} packets would fare otherwise.`,
    parts: list.length === 0 ? [none('Nothing would change.')] : [table],
  };
}

function captures({ files }: Analyzed): Section {
  return {
    title: 'Captures',
    parts: [
      {
        kind: 'table',
        caption: `What was read${files.length > MOST_FILES ? `, the first ${numberText(MOST_FILES)} of ${numberText(files.length)}` : ''}`,
        head: ['capture', 'packets', 'bytes', 'cut packets', 'damage'],
        rows: files.slice(0, MOST_FILES).map((f) => [f.path, f.packets, f.bytes, f.cut, damageOf(f)]),
      },
    ],
  };
}

/** Without the path, which it starts with. */
function damageOf({ path, damage }: Analyzed['files'][number]): string {
  if (damage === null) return 'none';
  return damage.startsWith(`${path}: `) ? damage.slice(path.length + 2) : damage;
}

function bars<K extends string>(
  caption: string,
  value: string,
  alt: string,
  rows: readonly ({ name: string } & Record<K, number>)[],
  of: K,
): Bars {
  return { kind: 'bars', caption, alt, value, bars: rows.map((row) => ({ name: row.name, value: row[of] })) };
}

function shortened(notes: readonly string[]): string[] {
  const more = notes.length - MOST_NOTES;
  const shown = notes.slice(0, MOST_NOTES);
  return more > 0 ? [...shown, `${numberText(more)} more of the like, on standard error.`] : shown;
}

const none = (text: string): Part => ({ kind: 'text', text });

function upTo(list: readonly unknown[], top: number): string {
  const shown = top * ROWS;
  return list.length > shown ? `, the first ${numberText(shown)} of ${numberText(list.length)}` : '';
}

const UNITS = [
  ['TB', 1e12],
  ['GB', 1e9],
  ['MB', 1e6],
  ['kB', 1e3],
] as const;

function unitOf(bytes: number): readonly [unit: string, size: number] {
  return UNITS.find(([, size]) => bytes >= size) ?? ['bytes', 1];
}

function bytesText(bytes: number): string {
  const [unit, size] = unitOf(bytes);
  return `${numberText(bytes / size)} ${unit}`;
}
