/** Where every packet of the captures went: rows that add up to what was read, and to what the records say. */
import { INVALID_REASONS } from '../conntrack/key.js';
import type { Tallies } from '../coordinator/records.js';
import { CATEGORY } from '../datapath/recorder.js';
import type { CaptureReport } from '../pcap/timeline.js';

/** Packets, and bytes of their frames on the wire. */
export interface Amount {
  packets: number;
  bytes: number;
}

export interface Reconciliation {
  /** Read from the captures, without what is of other buckets: the sum of all rows. */
  captured: Amount;
  /** What became of them; rows without packets are left out. */
  rows: readonly (Amount & { name: string })[];
  /** What the records count. Packets that went through connections of several zones are counted in each: `repeated`
   *  more than the row of connections. */
  records: Amount & { connections: number };
  repeated: Amount;
}

const NAMES: readonly (readonly [number, string])[] = [
  [CATEGORY.CONNECTION, 'in connections'],
  [CATEGORY.ERROR, 'ICMP errors about connections'],
  [CATEGORY.OUT_OF_WINDOW, 'TCP that its connection does not allow'],
  [CATEGORY.FRAGMENT, 'fragments counted with the last of their datagram, or never complete'],
  [CATEGORY.NO_CONNECTION, 'tracked, without a connection'],
  [CATEGORY.UNTRACKED, 'IP that the flow table does not track'],
  [CATEGORY.NOT_IP, 'not IP'],
  [CATEGORY.TOO_SHORT, 'no whole Ethernet header'],
];

/** Throws Error if anything does not add up: the program is wrong then. */
export function reconcile(
  files: readonly CaptureReport[],
  t: Tallies,
  records: Amount & { connections: number },
  { filtered, elsewhere, unreadable }: { filtered: Amount; elsewhere: Amount; unreadable: Amount },
): Reconciliation {
  const all = [
    ...NAMES,
    ...INVALID_REASONS.map((reason, i) => [CATEGORY.INVALID_0 + i, `invalid: ${reason}`] as const),
  ];
  const rows = [
    ...all.map(([category, name]) => ({ name, packets: t.packets[category], bytes: t.bytes[category] })),
    { name: 'left out by the filter', ...filtered },
    { name: 'of interfaces whose link type is not supported', ...unreadable },
  ].filter((row) => row.packets > 0);
  const read = sum(files);
  const captured = {
    packets: read.packets + unreadable.packets - elsewhere.packets,
    bytes: read.bytes + unreadable.bytes - elsewhere.bytes,
  };
  const repeated = { packets: t.repeatedPackets, bytes: t.repeatedBytes };
  const counted = sum(rows);
  const inRecords = {
    packets: t.packets[CATEGORY.CONNECTION] + repeated.packets,
    bytes: t.bytes[CATEGORY.CONNECTION] + repeated.bytes,
  };
  check('packets of all kinds', counted.packets, captured.packets);
  check('bytes of all kinds', counted.bytes, captured.bytes);
  check('packets in records', records.packets, inRecords.packets);
  check('bytes in records', records.bytes, inRecords.bytes);
  return { captured, rows, records, repeated };
}

export function sum(amounts: readonly Amount[]): Amount {
  return {
    packets: amounts.reduce((n, a) => n + a.packets, 0),
    bytes: amounts.reduce((n, a) => n + a.bytes, 0),
  };
}

function check(what: string, got: number, expected: number): void {
  if (got !== expected)
    throw new Error(`analyze: ${what} are ${got}, and ${expected} are there: a mistake of Shardtrack`);
}
