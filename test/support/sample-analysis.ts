/** An analysis with everything that its report can have, and names that HTML would misunderstand. */
import { type AnalysisReportOptions, type Analyzed, analysisReport } from '../../src/report/analyze.js';
import type { Report } from '../../src/report/model.js';

const range = (n: number) => Array.from({ length: n }, (_, i) => i);
const ranked = (name: string, n: number) => ({
  name,
  connections: n,
  packets: 12 * n,
  bytes: 1_234_567 * n,
});

export function sampleAnalysis(): Analyzed {
  return {
    files: [
      {
        path: 'day/<b>a</b>.pcap',
        packets: 1_300_000,
        bytes: 987_654_321,
        cut: 0,
        misdated: 0,
        unreadable: { packets: 0, bytes: 0 },
        damage: null,
        notices: [],
      },
      {
        path: 'day/b.pcap',
        packets: 40,
        bytes: 4_000,
        cut: 3,
        misdated: 0,
        unreadable: { packets: 0, bytes: 0 },
        damage: 'day/b.pcap: byte 4711: the packet is cut off',
        notices: [],
      },
    ],
    reconciliation: {
      captured: { packets: 1_300_040, bytes: 987_658_321 },
      rows: [
        { name: 'in connections', packets: 1_299_000, bytes: 987_000_000 },
        { name: 'not IP', packets: 1_000, bytes: 650_000 },
        { name: 'invalid: bad-l4-checksum', packets: 40, bytes: 8_321 },
      ],
      records: { connections: 12_345, packets: 1_299_007, bytes: 987_000_700 },
      repeated: { packets: 7, bytes: 700 },
    },
    summary: {
      connections: 12_345,
      exact: true,
      hosts: range(150).map((i) => ranked(`10.0.${i >> 8}.${i & 255}`, 150 - i)),
      services: [ranked('tcp/443', 90), ranked('udp/53', 7), ranked('icmp', 1)],
      endings: new Map([
        ['open', 345],
        ['timeout', 12_000],
      ]),
      tcpStates: new Map([
        ['SF', 9_000],
        ['S0', 40],
        ['REJ', 2],
      ]),
      protocols: new Map([
        ['tcp', 9_042],
        ['udp', 3_300],
        ['icmp', 3],
      ]),
      failed: [{ src: '10.0.0.66', failed: 42, connections: 44, hosts: 40, ports: 2 }],
      scans: [{ src: '10.0.0.66', kind: 'hosts', failed: 42, connections: 44, hosts: 40, ports: 2 }],
      drops: [
        {
          reason: 'no-output',
          rule: 'table=0, priority=7,tcp,tp_dst=80 actions=ct(commit)',
          connections: 5,
          packets: 50,
        },
        { reason: 'no-match', rule: null, connections: 1, packets: 2 },
      ],
      retransmissions: 3,
      outOfOrder: 1,
    },
  };
}

export const SAMPLE_OPTIONS: AnalysisReportOptions = {
  top: 10,
  facts: [['Paths', 'day']],
  notes: range(30).map((i) => `file ${i}: cut`),
  flows: true,
  other: {
    name: 'new <i>.txt',
    changes: {
      packets: 1_300_040,
      same: { packets: 1_300_030, bytes: 987_657_321 },
      changes: [{ from: 'out 2', to: 'drop: no-output', packets: 10, bytes: 1_000, first: 17 }],
    },
  },
};

export function sampleAnalysisReport(): Report {
  return analysisReport(sampleAnalysis(), SAMPLE_OPTIONS);
}
