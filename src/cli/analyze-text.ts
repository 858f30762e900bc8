/** What `shardtrack analyze` says on the terminal. */
import type { Ranked } from '../analyze/summary.js';
import type { WhatIf } from '../analyze/what-if.js';
import type { Analyzed } from '../report/analyze.js';

export const count = (n: number): string => n.toLocaleString('en-US');

export const INEXACT = 'Of hosts, services and sources the small ones were let go on the way.';

/** The summary for people, of an analysis that has taken so many seconds. */
export function summaryText(a: Analyzed, seconds: number, top: number): string {
  const { summary: s, reconciliation: r, files } = a;
  const damaged = files.filter((f) => f.damage !== null).length;
  const cut = files.reduce((n, f) => n + f.cut, 0);
  let text = `${count(files.length)} capture${files.length === 1 ? '' : 's'}`;
  if (damaged > 0) text += ` (${count(damaged)} damaged)`;
  text += `, ${count(r.captured.packets)} packets`;
  if (cut > 0) text += ` (${count(cut)} cut)`;
  text += `, ${count(r.captured.bytes)} bytes in ${seconds.toFixed(2)} s: ${count(s.connections)} connections\n`;

  const rows = r.rows.map((row) => [row.name, count(row.packets), count(row.bytes)]);
  rows.push(['all that was captured', count(r.captured.packets), count(r.captured.bytes)]);
  text += table('packets', ['', 'packets', 'bytes'], rows);
  if (r.repeated.packets > 0) {
    text += `${count(r.repeated.packets)} packets are in the records of a further zone, too.\n`;
  }
  const ranked = (list: readonly Ranked[]): string[][] =>
    list.slice(0, top).map((e) => [e.name, count(e.connections), count(e.packets), count(e.bytes)]);
  const columns = ['', 'connections', 'packets', 'bytes'];
  text += table('hosts', columns, ranked(s.hosts));
  text += table('services', columns, ranked(s.services));
  text += table('how connections ended', ['', 'connections'], tally(s.endings));
  text += table('TCP, conn_state', ['', 'connections'], tally(s.tcpStates));
  text += table(
    'failed handshakes',
    ['source', 'failed', 'of', 'hosts', 'ports'],
    s.failed
      .slice(0, top)
      .map((f) => [f.src, count(f.failed), count(f.connections), count(f.hosts), count(f.ports)]),
  );
  text += table(
    'what looks like scans',
    ['source', 'of', 'failed', 'hosts', 'ports'],
    s.scans.slice(0, top).map((f) => [f.src, f.kind, count(f.failed), count(f.hosts), count(f.ports)]),
  );
  text += table(
    'dropped',
    ['reason', 'connections', 'packets', 'rule'],
    s.drops.slice(0, top).map((d) => [d.reason, count(d.connections), count(d.packets), d.rule ?? '-']),
  );
  if (!s.exact) text += `${INEXACT}\n`;
  return text;
}

/** What another flow table would change. */
export function whatIfText({ packets, same, changes }: WhatIf, top: number, name: string): string {
  let text = `\nunder ${name}: ${count(packets - same.packets)} of ${count(packets)} packets would fare otherwise\n`;
  text += table(
    'changes',
    ['now', 'then', 'packets', 'bytes', 'first'],
    changes.slice(0, top).map((c) => [c.from, c.to, count(c.packets), count(c.bytes), count(c.first)]),
  );
  return text;
}

function tally(map: ReadonlyMap<string, number>): string[][] {
  return [...map].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1)).map(([name, n]) => [name, count(n)]);
}

/** Numbers to the right; nothing if there are no rows. */
function table(title: string, head: readonly string[], rows: readonly string[][]): string {
  if (rows.length === 0) return '';
  const all = [head, ...rows];
  const last = head.length - 1;
  const widths = head.map((_, i) => Math.max(...all.map((row) => row[i].length)));
  const line = (row: readonly string[]): string =>
    row
      .map((cell, i) =>
        i === 0 ? cell.padEnd(widths[i]) : i === last && cell.length > 20 ? cell : cell.padStart(widths[i]),
      )
      .join('  ')
      .trimEnd();
  return `\n${title}\n${all.map((row) => `  ${line(row)}\n`).join('')}`;
}
