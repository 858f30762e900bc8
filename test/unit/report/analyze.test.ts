/** What the report on an analysis says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseHTML } from 'linkedom';
import { analysisReport } from '../../../src/report/analyze.js';
import { renderReport } from '../../../src/report/html.js';
import type { Report, Table } from '../../../src/report/model.js';
import { SAMPLE_OPTIONS, sampleAnalysis, sampleAnalysisReport } from '../../support/sample-analysis.js';

const titles = (report: Report): string[] => report.sections.map((s) => s.title);

/** Rows of the table of a section, as they stand in the page. */
function rowsOf(report: Report, section: string): string[][] {
  const { document } = parseHTML(renderReport(report));
  const heading = [...document.querySelectorAll('h2')].find((h) => h.textContent === section);
  const tables = [...heading!.parentElement!.querySelectorAll('table')];
  const table = tables.filter((t) => t.closest('details') === null).at(-1);
  return [...(table?.querySelectorAll('tbody tr') ?? [])].map((tr) =>
    [...tr.children].map((cell) => cell.textContent ?? ''),
  );
}

test('analysis report: every section says what the analysis says', () => {
  const report = sampleAnalysisReport();
  assert.match(report.lead, /^12,345 connections in 1,300,040 packets, 987\.7 MB, of 2 captures/);
  assert.deepEqual(rowsOf(report, 'Where every packet went'), [
    ['all that was captured', '1,300,040', '987,658,321'],
    ['in connections', '1,299,000', '987,000,000'],
    ['not IP', '1,000', '650,000'],
    ['invalid: bad-l4-checksum', '40', '8,321'],
  ]);
  assert.match(
    report.sections[0].text as string,
    /records count 1,299,007 packets.* 7 packets are in the records of a further zone/,
  );
  const hosts = rowsOf(report, 'Top talkers');
  assert.equal(hosts.length, 100);
  assert.deepEqual(hosts[0], ['10.0.0.0', '150', '1,800', '185,185,050']);
  assert.deepEqual(
    rowsOf(report, 'Services').map((r) => r[0]),
    ['tcp/443', 'udp/53', 'icmp'],
  );
  assert.deepEqual(rowsOf(report, 'Failed handshakes and scans'), [['10.0.0.66', '42', '44', '40', '2']]);
  assert.deepEqual(rowsOf(report, 'Dropped, by rule'), [
    ['no-output', '5', '50', 'table=0, priority=7,tcp,tp_dst=80 actions=ct(commit)'],
    ['no-match', '1', '2', '–'],
  ]);
  assert.deepEqual(rowsOf(report, 'Under new <i>.txt'), [['out 2', 'drop: no-output', '10', '1,000', '17']]);
  assert.deepEqual(rowsOf(report, 'Captures')[1], [
    'day/b.pcap',
    '40',
    '4,000',
    '3',
    'byte 4711: the packet is cut off',
  ]);
  const states = report.sections.find((s) => s.title === 'States');
  assert.ok(
    states?.parts.some(
      (p) => p.kind === 'bars' && p.bars.some((b) => b.name === 'S0: opened, no answer' && b.value === 40),
    ),
  );
  assert.equal(report.notes.length, 21);
  assert.match(report.notes[20], /^10 more/);
});

test('analysis report: long paths leave room for what is wrong with the captures', () => {
  const analyzed = sampleAnalysis();
  const path = '/data/captures/2024-05-01/site-a/eth0<1>.pcap';
  const report = analysisReport(
    { ...analyzed, files: [{ ...analyzed.files[0], path, damage: `${path}: byte 0: it is empty` }] },
    SAMPLE_OPTIONS,
  );
  const rows = rowsOf(report, 'Captures');
  assert.deepEqual([rows[0][0], rows[0].at(-1)], [path, 'byte 0: it is empty']);
  assert.ok(renderReport(report).includes('<th scope="row" class="l">/data/captures/'));
});

test('analysis report: without a flow table, and of nothing at all', () => {
  const { other: _, ...options } = { ...SAMPLE_OPTIONS, flows: false };
  const analyzed = sampleAnalysis();
  const nothing = new Map<string, number>();
  const empty = analysisReport(
    {
      files: [],
      reconciliation: {
        captured: { packets: 0, bytes: 0 },
        rows: [],
        records: { connections: 0, packets: 0, bytes: 0 },
        repeated: { packets: 0, bytes: 0 },
      },
      summary: {
        connections: 0,
        exact: true,
        hosts: [],
        services: [],
        endings: nothing,
        tcpStates: nothing,
        protocols: nothing,
        failed: [],
        scans: [],
        drops: [],
        retransmissions: 0,
        outOfOrder: 0,
      },
    },
    options,
  );
  assert.deepEqual(
    titles(empty).filter((t) => /Under|Dropped/.test(t)),
    ['Dropped, by rule'],
  );
  const html = renderReport(empty);
  for (const said of [/No connections\./, /Nothing looks like a scan\./, /No flow table was given/])
    assert.match(html, said);
  const narrow = analysisReport(analyzed, { ...options, top: 0 });
  assert.ok(renderReport(narrow).includes('Shardtrack analysis'));
});

test('analysis report: one bar has nothing to be marked twice', () => {
  const bars = sampleAnalysisReport()
    .sections.flatMap((s) => s.parts)
    .filter((p) => p.kind === 'bars');
  for (const chart of bars)
    assert.equal(new Set(chart.bars.map((b) => b.name)).size, chart.bars.length, chart.caption);
  const tables = sampleAnalysisReport()
    .sections.flatMap((s) => s.parts)
    .filter((p): p is Table => p.kind === 'table');
  for (const table of tables)
    for (const row of table.rows) assert.equal(row.length, table.head.length, table.caption);
});
