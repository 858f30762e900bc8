/** The statistics of a run: as JSON (`--stats`) and as text. */

import { INVALID_REASONS } from '../conntrack/key.js';
import {
  COMMITTED,
  EVICTED,
  EXPIRED,
  FLUSHED,
  NO_TUPLE_LEFT,
  TABLE_FULL,
  ZONE_FULL,
} from '../coordinator/ledger.js';
import type { ReplayResult } from '../coordinator/replay.js';
import { STAT } from '../datapath/stats.js';
import type { Ordering } from '../openflow/order.js';

export interface RunInfo {
  version: string;
  workers: number;
  ordering: Ordering;
}

/** `traffic` depends on input and flow table alone: it is the same for any number of workers. `run` is
 *  about this run. */
export function statsOf(result: ReplayResult, info: RunInfo) {
  const { total, byWorker } = result.counters;
  const invalid: Record<string, number> = {};
  INVALID_REASONS.forEach((name, i) => {
    if (i > 0 && total[STAT.INVALID_0 + i] > 0) invalid[name] = total[STAT.INVALID_0 + i];
  });
  const drops = Object.fromEntries([...result.drops].sort(([a], [b]) => (a < b ? -1 : 1)));
  const out = Object.fromEntries([...result.outByPort].sort(([a], [b]) => a - b));
  const { seconds, ledger } = result;
  return {
    shardtrack: info.version,
    traffic: {
      packets: result.packets,
      bytes: result.bytes,
      capture_seconds: result.captureSeconds,
      out,
      controller: result.controller,
      passed: result.passed,
      drops,
      outputs_over_limit: total[STAT.OUTPUTS_CUT],
      ct: {
        actions: total[STAT.CT],
        new: total[STAT.CT_NEW],
        established: total[STAT.CT_ESTABLISHED],
        related: total[STAT.CT_RELATED],
        invalid: total[STAT.CT_INVALID],
        invalid_by_reason: invalid,
        fragments: total[STAT.FRAGMENTS],
        fragments_held: total[STAT.FRAGMENTS_HELD],
        reassembled: total[STAT.REASSEMBLED],
        ...booksOf((entry) => ledger.total(entry), result.connections),
        zones: Object.fromEntries(
          ledger
            .zones()
            .map((zone) => [zone, booksOf((entry) => ledger.of(zone, entry), result.connectionsOf(zone))]),
        ),
      },
      events: result.events,
    },
    run: {
      workers: info.workers,
      ordering: info.ordering.mode,
      ordering_reason: info.ordering.reason,
      seconds,
      mpps: result.packets / seconds / 1e6,
      gbps: (result.bytes * 8) / seconds / 1e9,
      cache: {
        microflow_hits: total[STAT.MICROFLOW_HITS],
        opening_hits: total[STAT.OPENING_HITS],
        megaflow_hits: total[STAT.MEGAFLOW_HITS],
        upcalls: result.upcalls,
      },
      parked: total[STAT.PARKED],
      moved: result.moved,
      by_worker: byWorker.map((s) => ({
        packets: s[STAT.PACKETS],
        share: result.packets === 0 ? 0 : s[STAT.PACKETS] / result.packets,
        vectors: s[STAT.VECTORS],
      })),
      shared_bytes: result.sharedBytes,
      peak_rss_bytes: process.resourceUsage().maxRSS * 1024,
    },
    notices: result.notices,
    error: result.damage === null ? null : result.damage.message,
  };
}

/** What became of commits and connections: commits = live + expired + evicted + flushed. */
function booksOf(entry: (name: number) => number, live: number) {
  return {
    commits: entry(COMMITTED),
    refused: entry(TABLE_FULL) + entry(ZONE_FULL) + entry(NO_TUPLE_LEFT),
    refused_by_reason: {
      table_full: entry(TABLE_FULL),
      zone_limit: entry(ZONE_FULL),
      nat_exhausted: entry(NO_TUPLE_LEFT),
    },
    expired: entry(EXPIRED),
    evicted: entry(EVICTED),
    flushed: entry(FLUSHED),
    live,
  };
}

export type Stats = ReturnType<typeof statsOf>;

const count = (n: number) => n.toLocaleString('en-US');

function plural(n: number, one: string): string {
  return `${count(n)} ${one}${n === 1 ? '' : 's'}`;
}

function counts(rows: Record<string, number>): string {
  const entries = Object.entries(rows).filter(([, n]) => n > 0);
  return entries.length === 0 ? 'none' : entries.map(([name, n]) => `${name} ${count(n)}`).join(', ');
}

/** For people. */
export function summaryText(stats: Stats): string {
  const { traffic, run } = stats;
  const { ct } = traffic;
  const inOrder = run.ordering === 'lockstep' || run.ordering === 'inline';
  const outputs = Object.entries(traffic.out).map(
    ([port, t]) => `${port === '65534' ? 'LOCAL' : `port ${port}`} ${count(t.packets)}`,
  );
  if (traffic.controller > 0) outputs.push(`controller ${count(traffic.controller)}`);
  const rows: [string, string][] = [
    [
      'packets',
      `${count(traffic.packets)} (${count(traffic.bytes)} bytes), ${traffic.capture_seconds.toFixed(3)} s of capture`,
    ],
    ['output', outputs.length === 0 ? 'none' : outputs.join(', ')],
    ['dropped', counts(traffic.drops)],
    [
      'tracked',
      `new ${count(ct.new)}, established ${count(ct.established)}, related ${count(ct.related)}, invalid ${count(ct.invalid)}`,
    ],
    ['invalid', counts(ct.invalid_by_reason)],
    [
      'connections',
      `${count(ct.commits)} made, ${count(ct.expired)} expired, ${count(ct.evicted)} evicted, ${count(ct.flushed)} flushed, ${count(ct.live)} live`,
    ],
    [
      'speed',
      `${run.mpps.toPrecision(3)} Mpps, ${run.gbps.toPrecision(3)} Gbit/s, ${run.seconds.toFixed(3)} s`,
    ],
    [
      'threads',
      run.workers === 0
        ? 'none: everything inline'
        : inOrder
          ? 'none: all on the main thread, in vectors'
          : `${plural(run.workers, 'worker')}: ${run.by_worker.map((w) => `${(w.share * 100).toFixed(1)} %`).join(', ')}`,
    ],
    [
      'flow cache',
      `microflow ${count(run.cache.microflow_hits)}, openings ${count(run.cache.opening_hits)}, megaflow ${count(run.cache.megaflow_hits)}, upcalls ${count(run.cache.upcalls)}`,
    ],
    ['memory', `${(run.peak_rss_bytes / 2 ** 20).toFixed(0)} MiB at most`],
  ];
  if (ct.refused > 0) {
    const { table_full, zone_limit, nat_exhausted } = ct.refused_by_reason;
    const why = {
      'the connection table was full': table_full,
      'the zone was at its limit': zone_limit,
      'no address and port was left to translate to': nat_exhausted,
    };
    rows.splice(6, 0, ['refused', `${plural(ct.refused, 'commit')}: ${counts(why)}`]);
  }
  const { events } = traffic;
  if (events.done + events.refused > 0) {
    rows.push(['events', `${count(events.done)} done, ${count(events.refused)} refused`]);
  }
  if (inOrder && run.workers > 0) {
    rows.push([
      'note',
      `the flow table ${run.ordering_reason}: all packets ran on the main thread, in order`,
    ]);
  }
  return rows.map(([name, value]) => `${name.padEnd(12)} ${value}\n`).join('');
}
