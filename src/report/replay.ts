/** The report on one replay: what went through over the capture's time, and what the threads did. */
import { census } from '../coordinator/census.js';
import type { Verdict, VerdictSink } from '../coordinator/collector.js';
import type { Coordinator } from '../coordinator/coordinator.js';
import { numberText } from './format.js';
import type { Lines, Part, Report, Section } from './model.js';

/** Points of a series, at most; when there are more, two become one. */
const MOST = 240;
/** Seconds of capture time in a point, to begin with. */
const FINEST = 0.001;
/** Looking at all connections takes at most this share of the time. */
const CENSUS_SHARE = 0.05;

interface Point {
  packets: number;
  bytes: number;
  dropped: number;
  /** Milliseconds by the clock until it was collected. */
  tookMs: number;
  /** As last seen in it. */
  states: Map<string, number> | null;
}

const emptyPoint = (): Point => ({ packets: 0, bytes: 0, dropped: 0, tookMs: 0, states: null });

/** Collects what happens over capture time, in points whose width doubles when there are too many. */
export class Timeline implements VerdictSink {
  /** Seconds in a point. */
  width = FINEST;
  private points: Point[] = [];
  private first: { sec: number; nsec: number } | null = null;
  /** The largest time so far, as index of its point: captures step back now and then. */
  private at = 0;
  /** Of the latest packet, since the first. */
  private timeMs = 0;
  private lastMs = performance.now();
  private spentMs = 0;
  private readonly beganMs = performance.now();

  verdict(v: Verdict): void {
    this.first ??= { sec: v.sec, nsec: v.nsec };
    const time = v.sec - this.first.sec + (v.nsec - this.first.nsec) / 1e9;
    this.timeMs = Math.max(this.timeMs, time * 1000);
    const point = this.pointAt(time);
    point.packets++;
    point.bytes += v.wireLen;
    if (v.template.reason !== null) point.dropped++;
  }

  private pointAt(time: number): Point {
    let index = Math.max(this.at, Math.floor(time / this.width));
    while (index >= MOST) {
      this.halve();
      index = Math.max(this.at, Math.floor(time / this.width));
    }
    this.at = index;
    while (this.points.length <= index) this.points.push(emptyPoint());
    return this.points[index];
  }

  private halve(): void {
    const joined: Point[] = [];
    for (let i = 0; i < this.points.length; i += 2) {
      const [a, b] = [this.points[i], this.points[i + 1] ?? emptyPoint()];
      joined.push({
        packets: a.packets + b.packets,
        bytes: a.bytes + b.bytes,
        dropped: a.dropped + b.dropped,
        tookMs: a.tookMs + b.tookMs,
        states: b.states ?? a.states,
      });
    }
    this.points = joined;
    this.width *= 2;
    this.at >>= 1;
  }

  /** Called now and then: the time since the last call is that of the packets since, and connections are counted. */
  look(coordinator: Coordinator): void {
    const now = this.lap();
    const point = this.points[this.at];
    if (point === undefined || this.spentMs > CENSUS_SHARE * (now - this.beganMs)) return;
    point.states = census(coordinator.partitions, this.timeMs);
    this.spentMs += performance.now() - now;
  }

  /** Called at the end, with the connections that there are then. */
  finish(states: Map<string, number>): void {
    this.lap();
    const point = this.points[this.at];
    if (point !== undefined) point.states = states;
  }

  private lap(): number {
    const now = performance.now();
    const point = this.points[this.at];
    if (point !== undefined) point.tookMs += now - this.lastMs;
    this.lastMs = now;
    return now;
  }

  parts(): Part[] {
    const { points, width } = this;
    const x = { label: 'capture time, s' };
    const series = (of: (p: Point) => number) => points.map((p, i): [number, number] => [i * width, of(p)]);
    const line = (
      caption: string,
      alt: string,
      label: string,
      name: string,
      of: (p: Point) => number,
    ): Lines => ({
      kind: 'lines',
      caption,
      alt,
      stacked: false,
      x,
      y: { label },
      series: [{ name, points: series(of) }],
    });
    const most = (of: (p: Point) => number) => numberText(Math.max(0, ...points.map(of)));
    const perSecond = (n: number) => n / width;
    const packets = (p: Point) => perSecond(p.packets);
    const mbits = (p: Point) => (perSecond(p.bytes) * 8) / 1e6;
    const parts: Part[] = [
      line(
        'Packets over capture time',
        `At most ${most(packets)} packets a second.`,
        'packets/s',
        'packets',
        packets,
      ),
      line('Traffic over capture time', `At most ${most(mbits)} Mbit/s.`, 'Mbit/s', 'traffic', mbits),
    ];
    const share = (p: Point) => (p.packets === 0 ? 0 : (100 * p.dropped) / p.packets);
    parts.push(
      line(
        'Dropped packets over capture time',
        `At most ${most(share)} %.`,
        '% of packets',
        'dropped',
        share,
      ),
    );
    const timed = points.map((p, i) => ({ ...p, i })).filter((p) => p.tookMs > 0);
    if (timed.length > 1) {
      parts.push({
        kind: 'lines',
        caption: 'Speed of the replay over capture time',
        alt: 'How fast the packets of each moment went through.',
        stacked: false,
        x,
        y: { label: 'Mpps' },
        series: [{ name: 'speed', points: this.speeds() }],
      });
    }
    const looks = points
      .map((p, i) => ({ at: i * width, states: p.states }))
      .filter((l) => l.states !== null);
    const names = [...new Set(looks.flatMap((l) => [...(l.states as Map<string, number>).keys()]))];
    if (looks.length > 0) {
      parts.push({
        kind: 'lines',
        caption: 'Connections by state over capture time',
        alt: `At the end ${names.map((n) => `${numberText(looks[looks.length - 1].states?.get(n) ?? 0)} ${n}`).join(', ') || 'none'}.`,
        stacked: true,
        x,
        y: { label: 'connections' },
        series: names.map((name) => ({
          name,
          points: looks.map((l): [number, number] => [l.at, l.states?.get(name) ?? 0]),
        })),
      });
    }
    return parts;
  }

  /** Packets of points by the time until the next point that has one: several points may go by between two looks. */
  private speeds(): [number, number][] {
    const speeds: [number, number][] = [];
    let packets = 0;
    for (const [i, p] of this.points.entries()) {
      packets += p.packets;
      if (p.tookMs === 0) continue;
      speeds.push([i * this.width, packets / p.tookMs / 1000]);
      packets = 0;
    }
    return speeds;
  }
}

/** What `replay --stats` writes, as far as the report needs it. */
interface ReplayStats {
  shardtrack: string;
  traffic: {
    packets: number;
    bytes: number;
    capture_seconds: number;
    passed: number;
    drops: Record<string, number>;
    out: Record<string, { packets: number; bytes: number }>;
    ct: Record<string, unknown>;
  };
  run: {
    workers: number;
    ordering: string;
    seconds: number;
    mpps: number;
    cache: Record<string, number>;
    by_worker: { packets: number; share: number; vectors: number }[];
  };
}

export function replayReport(
  stats: ReplayStats,
  timeline: Timeline,
  facts: readonly (readonly [string, string])[],
): Report {
  const { traffic, run } = stats;
  const sections: Section[] = [
    { title: 'Over capture time', parts: timeline.parts() },
    {
      title: 'Verdicts',
      parts: [
        {
          kind: 'bars',
          caption: 'What became of the packets',
          alt: `${numberText(traffic.passed)} of ${numberText(traffic.packets)} packets passed.`,
          value: 'packets',
          bars: [
            { name: 'passed', value: traffic.passed },
            ...Object.entries(traffic.drops).map(([name, value]) => ({ name: `dropped: ${name}`, value })),
          ],
        },
        {
          kind: 'table',
          caption: 'Out of each port',
          head: ['port', 'packets', 'bytes'],
          rows: Object.entries(traffic.out).map(([port, { packets, bytes }]) => [port, packets, bytes]),
        },
        {
          kind: 'table',
          caption: 'Connection tracking',
          head: ['', 'count'],
          rows: Object.entries(traffic.ct).filter(
            (row): row is [string, number] => typeof row[1] === 'number',
          ),
        },
      ],
    },
    {
      title: 'Threads and caches',
      parts: [
        ...(run.by_worker.length === 0
          ? []
          : [
              {
                kind: 'bars' as const,
                caption: 'Packets of each worker',
                alt: `${run.by_worker.map((w, i) => `worker ${i} ${(100 * w.share).toFixed(0)} %`).join(', ')}.`,
                value: 'packets',
                bars: run.by_worker.map((w, i) => ({ name: `worker ${i}`, value: w.packets })),
              },
            ]),
        {
          kind: 'bars',
          caption: 'What answered for packets',
          alt: `${numberText(run.cache.microflow_hits)} hits of the microflow cache, ${numberText(run.cache.upcalls)} upcalls.`,
          value: 'times',
          bars: Object.entries(run.cache).map(([name, value]) => ({ name: name.replace('_', ' '), value })),
        },
      ],
    },
  ];
  return {
    title: 'Shardtrack replay',
    lead:
      `${numberText(traffic.packets)} packets of ${numberText(traffic.capture_seconds)} s of capture in ` +
      `${numberText(run.seconds)} s: ${numberText(run.mpps)} Mpps.`,
    facts: [['Shardtrack', stats.shardtrack], ['Workers', `${run.workers} (${run.ordering})`], ...facts],
    notes: [],
    sections,
  };
}
