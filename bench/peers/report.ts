/** The table: raw figures of both sides, the ratio of each pair of runs, and whether it is what issue 6 wants. */
import { markdownTable } from 'markdown-table';
import { median } from './numbers.js';
import type { OurResult } from './ours.js';
import type { OvsResult } from './ovs.js';

/** A workload's runs, in pairs. */
export interface Row {
  workload: string;
  what: string;
  target: number | null;
  packets: number;
  bytes: number;
  /** Empty if only our side was measured. */
  ovs: OvsResult[];
  ours: OurResult[];
  /** To be said below the table. */
  notes: string[];
  /** Why there are no figures. */
  error?: string;
}

/** Our speed over theirs, run by run; without their side, over nothing. */
export function ratios(row: Pick<Row, 'ovs' | 'ours'>): number[] {
  return row.ovs.map((peer, i) => row.ours[i].mpps / peer.mpps);
}

export function verdict(ratio: number, target: number | null): string {
  if (target === null || Number.isNaN(ratio)) return '–';
  return ratio >= target ? 'yes' : '**no**';
}

const of = <T>(results: readonly T[], key: (r: T) => number, digits: number) => {
  const m = median(results.map(key));
  return Number.isNaN(m) ? '–' : m.toFixed(digits);
};

const HEAD = [
  'workload',
  'OVS Mpps',
  'cycles a packet',
  'ours Mpps',
  'Gbit/s',
  'our CPU ns a packet',
  'connections (OVS / ours)',
  'bytes a connection',
  'upcalls',
  'ours / OVS',
  'target',
  'met',
];

function line(row: Row): string[] {
  if (row.error !== undefined) {
    return [
      `\`${row.workload}\``,
      'failed',
      ...HEAD.slice(4).map(() => '–'),
      `${row.target ?? '–'}`,
      '–',
    ].slice(0, HEAD.length);
  }
  const each = ratios(row);
  const ratio = median(each);
  const several = each.length > 1 ? ` (${each.map((r) => r.toFixed(2)).join(', ')})` : '';
  return [
    `\`${row.workload}\``,
    of(row.ovs, (r) => r.mpps, 2),
    of(row.ovs, (r) => r.cyclesPerPacket, 0),
    of(row.ours, (r) => r.mpps, 2),
    of(row.ours, (r) => r.gbps, 2),
    of(row.ours, (r) => r.cpu_ns_per_packet, 0),
    `${of(row.ovs, (r) => r.connections, 0)} / ${of(row.ours, (r) => r.connections, 0)}`,
    of(row.ours, (r) => r.shared_bytes_per_connection ?? Number.NaN, 1),
    of(row.ours, (r) => r.upcalls, 0),
    Number.isNaN(ratio) ? '–' : `${ratio.toFixed(2)}${several}`,
    row.target === null ? '–' : `${row.target}`,
    verdict(ratio, row.target),
  ];
}

/** A workload in a line, for those who wait. */
export function summary(row: Row): string {
  const { workload, ovs, ours, error, target } = row;
  if (error !== undefined) return `${workload}: failed: ${error}`;
  const each = ratios(row);
  const figures = `${of(ours, (r) => r.mpps, 2)} Mpps, ${of(ours, (r) => r.gbps, 2)} Gbit/s, ${of(ours, (r) => r.cpu_ns_per_packet, 0)} ns of processor a packet`;
  if (ovs.length === 0) return `${workload}: ${figures}`;
  const ratio = median(each);
  const wanted = target === null ? '' : `; wanted ${target}: ${ratio >= target ? 'yes' : 'no'}`;
  return `${workload}: Open vSwitch ${of(ovs, (r) => r.mpps, 2)} Mpps; ours ${figures}; ratio ${ratio.toFixed(2)} (${each.map((r) => r.toFixed(2)).join(', ')})${wanted}`;
}

/** A table of GitHub's Markdown. */
export function table(rows: readonly Row[]): string {
  return markdownTable([HEAD, ...rows.map(line)], { align: ['l', ...HEAD.slice(1).map(() => 'r')] });
}

/** What the workloads are. */
export function legend(rows: readonly Row[]): string {
  return markdownTable(
    [
      ['workload', 'what', 'packets a round', 'bytes a packet'],
      ...rows.map((r) => [
        `\`${r.workload}\``,
        r.what,
        r.packets.toLocaleString('en'),
        r.packets === 0 ? '–' : (r.bytes / r.packets).toFixed(0),
      ]),
    ],
    { align: ['l', 'l', 'r', 'r'] },
  );
}

/** One workload beside one of the same side: how much slower it is, in time and in processor time. */
export interface Likeness {
  workload: string;
  like: string;
  within: number;
  /** Of each round, ours. */
  speed: number[];
  cpu: number[];
  /** Open vSwitch's speed. */
  ovs: number[];
}

export function likeness(row: Row, like: Row, within: number): Likeness {
  return {
    workload: row.workload,
    like: like.workload,
    within,
    speed: row.ours.map((r, i) => r.mpps / like.ours[i].mpps),
    cpu: row.ours.map((r, i) => r.cpu_ns_per_packet / like.ours[i].cpu_ns_per_packet),
    ovs: row.ovs.map((r, i) => r.mpps / like.ovs[i].mpps),
  };
}

export function likenessText(l: Likeness): string {
  const list = (values: number[]) =>
    `${median(values).toFixed(3)} (${values.map((v) => v.toFixed(3)).join(', ')})`;
  // Processor time tells even where a core is shared; speed tells what a user sees.
  const met = median(l.cpu) <= 1 + l.within ? 'yes' : '**no**';
  const ovs = l.ovs.length === 0 ? '' : `; Open vSwitch's speed: ${list(l.ovs)}`;
  return (
    `\`${l.workload}\` beside \`${l.like}\`, both ours: speed ${list(l.speed)}, processor time a packet ${list(l.cpu)}; ` +
    `wanted: processor time within ${l.within * 100} %: ${met}${ovs}`
  );
}

/** The tracker alone beside ovstest's, in Mpps. */
export interface TrackerRow {
  ovs: number[];
  ours: number[];
  target: number;
}

export function trackerText({ ovs, ours, target }: TrackerRow): string {
  const each = ours.map((mpps, i) => mpps / ovs[i]);
  const m = (values: number[]) => median(values).toFixed(2);
  const ratio = ovs.length === 0 ? Number.NaN : median(each);
  const theirs = ovs.length === 0 ? 'not measured' : `${m(ovs)} Mpps`;
  const beside =
    ovs.length === 0 ? '' : `, ratio ${ratio.toFixed(2)} (${each.map((r) => r.toFixed(2)).join(', ')})`;
  return `\`conntrack\`: ovstest test-conntrack benchmark, 1 thread, batches of 32: ${theirs}; ours on the same packets ${m(ours)} Mpps${beside}; wanted ${target}: ${verdict(ratio, target)}`;
}
