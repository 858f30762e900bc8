/** A report with everything that reports can have, texts that HTML would misunderstand included. */
import { Random } from '../../src/generate/random.js';
import type { Report } from '../../src/report/model.js';

export function sampleReport(): Report {
  const random = new Random(11);
  const noise = () => random.below(1000) / 1000;
  const range = (n: number) => Array.from({ length: n }, (_, i) => i);
  const level = (i: number) => (i < 14 ? 412 : 455) + 12 * noise();
  return {
    title: 'Sample <report> & "everything"',
    lead: '1,234,567 packets in 12.5 s: 3.41 Mpps with 2 workers.',
    facts: [
      ['Machine', 'AMD EPYC, 2 cores'],
      ['Flow table', '<script>alert(1)</script>'],
    ],
    notes: ['tcp: 1 of 5 processes was not stable when measuring began'],
    sections: [
      {
        title: 'Throughput',
        text: 'What went through, by the clock of the capture.',
        parts: [
          {
            kind: 'lines',
            caption: 'Throughput over capture time',
            alt: 'Steady at about 3.4 million packets a second, with a dip to 2 at 30 s.',
            stacked: false,
            x: { label: 'capture time, s' },
            y: { label: 'Mpps' },
            series: ['tcp', 'udp', 'imix'].map((name, k) => ({
              name,
              points: range(60).map((i): [number, number] => [
                i,
                3.4 - k + 0.3 * noise() - (i === 30 ? 1 : 0),
              ]),
            })),
          },
          {
            kind: 'lines',
            caption: 'Connections by state over capture time',
            alt: 'ESTABLISHED grows to 1,000; up to 300 in TIME_WAIT.',
            stacked: true,
            x: { label: 'capture time, s' },
            y: { label: 'connections' },
            series: ['SYN_SENT', 'ESTABLISHED', 'FIN_WAIT_1', 'TIME_WAIT', 'UDP'].map((name, k) => ({
              name,
              points: range(40).map((i): [number, number] => [
                i,
                Math.round(i * (20 - 3 * k) * (1 + 0.2 * noise())),
              ]),
            })),
          },
        ],
      },
      {
        title: 'Workers and caches',
        parts: [
          {
            kind: 'bars',
            caption: 'Packets of each worker',
            alt: 'Worker 0 has 52 %, worker 1 48 %.',
            value: 'packets',
            bars: [
              { name: 'worker 0', value: 642_000 },
              { name: 'worker 1', value: 592_567 },
            ],
          },
          {
            kind: 'bars',
            caption: 'What answered, of each worker',
            alt: 'Nearly all from the microflow cache.',
            value: '% of packets',
            bars: ['worker 0', 'worker 1 with a rather long name that must be cut'].flatMap((name) => [
              { name, part: 'microflow', value: 91.2 },
              { name, part: 'megaflow', value: 8.1 },
              { name, part: 'upcall', value: 0.7 },
            ]),
          },
          {
            kind: 'histogram',
            caption: 'Latency of a vector',
            alt: 'Most vectors take 30 to 60 µs; the median is 42 µs, the 99th percentile 180 µs.',
            x: { label: 'latency, µs', scale: 'log' },
            count: 'vectors',
            bins: range(24).map((i) => ({
              from: 10 * 1.2 ** i,
              to: 10 * 1.2 ** (i + 1),
              n: Math.round(10_000 * Math.exp(-(((i - 8) / 3) ** 2))),
            })),
            marks: [
              { at: 42, label: 'p50' },
              { at: 180, label: 'p99' },
            ],
          },
        ],
      },
      {
        title: 'Comparison',
        parts: [
          {
            kind: 'intervals',
            caption: "Candidate's time by base's, with 99.5 % intervals",
            alt: 'Processor time of the workers is 4 to 6 % up, the others are within 1 %.',
            value: 'difference, %',
            rows: [
              { name: 'time by the clock', value: 0.3, low: -1.4, high: 2 },
              { name: 'processor time, main thread', value: -0.1, low: -0.6, high: 0.4 },
              { name: 'processor time, workers', value: 5.1, low: 4.2, high: 6 },
            ],
            marks: [
              { at: 0, label: 'equal' },
              { at: 1, label: 'tolerance' },
            ],
          },
          {
            kind: 'table',
            caption: 'Packets that differ',
            head: ['packets', 'base', 'candidate', 'first packet'],
            rows: [
              [12, 'zone 0 new,trk; to port 2', 'dropped: no flow matched', '17 (1700000000.000001, port 1)'],
              [3, 'to port 2', 'to port 3', null],
            ],
          },
          { kind: 'text', text: 'All 1,000 connections at the end are the same.' },
        ],
      },
      {
        title: 'History',
        parts: [
          {
            kind: 'history',
            caption: 'tcp: processor time a packet, run after run',
            alt: 'About 418 ns until run 14, then about 461.',
            value: 'ns/packet',
            runs: range(30).map((i) => {
              const value = level(i);
              return {
                name: `commit ${1000 + i}`,
                date: `2026-11-${String(i + 1).padStart(2, '0')}`,
                value,
                low: value - 6,
                high: value + 6,
              };
            }),
            changes: [14],
          },
        ],
      },
    ],
  };
}
