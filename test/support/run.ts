/** Replays packets from memory through the real thing: source, dispatcher, workers, collector. */
import assert from 'node:assert/strict';
import { ruleNames } from '../../src/analyze/analyze.js';
import { statsOf } from '../../src/cli/summary.js';
import type { Verdict, VerdictSink } from '../../src/coordinator/collector.js';
import { outcomeJson, parseEvents } from '../../src/coordinator/events.js';
import type { ConnectionRecord } from '../../src/coordinator/record.js';
import { type ReplayResult, replay, type TraceRequest, type Turns } from '../../src/coordinator/replay.js';
import type { Slice } from '../../src/coordinator/slice.js';
import { parseMeters } from '../../src/openflow/flowmod.js';
import { parseGroups } from '../../src/openflow/groups.js';
import { orderingOf } from '../../src/openflow/order.js';
import { parseFlows } from '../../src/openflow/parser.js';
import { Pipeline } from '../../src/openflow/tables.js';
import { Translator } from '../../src/openflow/translate.js';
import { recordJson } from '../../src/output/records/sinks.js';
import { SegmentArena } from '../../src/pcap/arena.js';
import { MergedSource } from '../../src/pcap/merge.js';
import { type CaptureReader, type PacketRecord, ReadResult } from '../../src/pcap/types.js';
import { hex, type Packet } from './packets.js';

export interface RunOptions {
  flows: string;
  groups?: string;
  meters?: string;
  /** Ports of the switch; 1 to 4 unless told otherwise. */
  ports?: readonly number[];
  workers?: number;
  window?: number;
  vector?: number;
  jitter?: number;
  /** Instead of threads. */
  turns?: Turns;
  ringWords?: number;
  slow?: number;
  watchdog?: number;
  maxConns?: number;
  rssKey?: Uint8Array;
  /** Lines of an events file. */
  events?: string;
  strict?: boolean;
  /** Keep records of connections. */
  records?: boolean;
  trace?: TraceRequest;
  /** Takes verdicts and frames; then the result has none. */
  sink?: VerdictSink;
  /** As analyze without a flow table has it: a share of the connections, and VLAN tags to look behind. */
  slice?: Slice;
  vlanLimit?: 1 | 2;
  /** See Translator. */
  maxFrozen?: number;
  /** Told of every output, in hex, when its packet is collected: with no workers, before the next is read. */
  onOutput?: (packet: number, port: number, frame: string) => void;
}

/** What must not depend on the number of workers, and what may. */
export interface RunResult {
  /** Lines as `--verdicts` has them. */
  verdicts: string[];
  /** "packet number, port, frame", by output. */
  frames: string[];
  dump: string[];
  /** Lines of dump-flows, dump-groups and dump-group-stats. */
  tables: string[];
  /** Lines as `--conntrack FILE.ndjson` has them. */
  table: string[];
  /** Lines as `--events-log` has them. */
  log: string[];
  /** Lines of connection records, if they were asked for. */
  records: string[];
  /** `traffic` of `--stats`. */
  traffic: ReturnType<typeof statsOf>['traffic'];
  run: ReturnType<typeof statsOf>['run'];
  result: ReplayResult;
}

/** A verdict line, parsed. */
export interface VerdictLine {
  packet: number;
  ts: string;
  in_port: number;
  ct: { zone: number; state: string }[];
  out: number[];
  reason: string | null;
}

/** Packets of a list, copied into arena segments at any alignment. `iface` is the port. */
export class MemoryReader implements CaptureReader {
  readonly name = 'memory';
  readonly notices = [];
  private readonly packets: readonly Packet[];
  private readonly arena: SegmentArena;
  private at = 0;
  private segment = -1;
  private used = 0;

  constructor(packets: readonly Packet[], arena: SegmentArena) {
    this.packets = packets;
    this.arena = arena;
  }

  next(record: PacketRecord): ReadResult {
    const { arena } = this;
    const p = this.packets[this.at];
    if (p === undefined) {
      this.close();
      return ReadResult.END;
    }
    if (this.segment >= 0 && this.used + p.frame.length > arena.segmentBytes) this.close();
    if (this.segment < 0) {
      this.segment = arena.acquire();
      if (this.segment < 0) return ReadResult.ARENA_FULL;
      this.used = 64;
    }
    record.off = this.segment * arena.segmentBytes + this.used;
    record.capLen = p.frame.length;
    record.wireLen = p.frame.length;
    record.sec = p.sec;
    record.nsec = p.nsec;
    record.iface = p.port;
    record.segment = this.segment;
    arena.u8.set(p.frame, record.off);
    arena.hold(this.segment);
    this.used += p.frame.length + 1;
    this.at++;
    return ReadResult.PACKET;
  }

  async readable(): Promise<void> {}

  close(): void {
    if (this.segment >= 0) this.arena.close(this.segment);
    this.segment = -1;
  }
}

class Recorder implements VerdictSink {
  readonly verdicts: string[] = [];
  readonly frames: string[] = [];
  onOutput: RunOptions['onOutput'];

  verdict(v: Verdict): void {
    const nsec = String(v.nsec).padStart(9, '0');
    this.verdicts.push(
      `{"packet":${v.packet},"ts":"${v.sec}.${nsec}","in_port":${v.inPort},${v.template.json}}`,
    );
    const { out, frames } = v.template;
    for (let i = 0; i < out.length; i++) {
      const f = frames[i];
      const bytes = v.frameBytes[f].subarray(v.frameOff[f], v.frameOff[f] + v.frameLen[f]);
      const text = hex(bytes);
      this.frames.push(`${v.packet} ${out[i]} ${text}`);
      this.onOutput?.(v.packet, out[i], text);
    }
  }
}

/** Replays `packets`. */
export async function run(packets: readonly Packet[], o: RunOptions): Promise<RunResult> {
  const longest = packets.reduce((n, p) => Math.max(n, p.frame.length), 0);
  const arena = new SegmentArena(6, Math.max(1 << 14, (longest + 256) & ~7));
  return runSource(
    new MergedSource([new MemoryReader(packets, arena)], arena),
    arena,
    (_source, iface) => iface,
    o,
  );
}

/** Replays a source; checks that the arena got everything back. */
export async function runSource(
  source: MergedSource,
  arena: SegmentArena,
  portOf: (source: number, iface: number) => number,
  o: RunOptions,
): Promise<RunResult> {
  const ports = o.ports ?? [1, 2, 3, 4];
  const rules = parseFlows(o.flows, 'flows.txt');
  const recorder = new Recorder();
  recorder.onOutput = o.onOutput;
  const workers = o.workers ?? 0;
  const groups = parseGroups(o.groups ?? '', 'groups.txt');
  const events = o.events === undefined ? [] : parseEvents(o.events, 'events.ndjson', { ports });
  const lists = [
    ...[...rules, ...groups.flatMap((g) => g.buckets)].map((r) => r.actions),
    ...events.flatMap((e) => e.actions),
  ];
  const ordering = orderingOf(lists);
  const log: string[] = [];
  const records: string[] = [];
  const meters = parseMeters(o.meters ?? '', 'meters.txt');
  const pipeline = new Pipeline({ rules, groups, meters, ports });
  const ruleOf = ruleNames(pipeline);
  const result = await replay({
    source,
    arena,
    portMap: { portOf },
    ports,
    translator: new Translator(pipeline, o.maxFrozen),
    workers,
    ordering,
    events,
    onFlowRemoved: (line) => log.push(line),
    onEvent: (outcome) => log.push(outcomeJson(outcome)),
    ...(o.strict === undefined ? {} : { strict: o.strict }),
    ...(o.trace === undefined ? {} : { trace: o.trace }),
    ...(o.records ? { onRecord: (r: ConnectionRecord) => records.push(recordJson(r, ruleOf)) } : {}),
    sinks: [o.sink ?? recorder],
    // The tables are sized by this; tests hold few connections.
    maxConns: o.maxConns ?? 100_000,
    ...(o.rssKey === undefined ? {} : { rssKey: o.rssKey }),
    ...(o.window === undefined ? {} : { window: o.window }),
    ...(o.vector === undefined ? {} : { vector: o.vector }),
    ...(o.jitter === undefined ? {} : { jitter: o.jitter }),
    ...(o.turns === undefined ? {} : { turns: o.turns }),
    ...(o.ringWords === undefined ? {} : { ringWords: o.ringWords }),
    ...(o.slow === undefined ? {} : { slow: o.slow }),
    ...(o.slice === undefined ? {} : { slice: o.slice }),
    ...(o.vlanLimit === undefined ? {} : { vlanLimit: o.vlanLimit }),
    ...(o.watchdog === undefined ? {} : { watchdog: o.watchdog }),
  });
  assert.equal(arena.nFreeSegments, arena.nSegments, 'a packet was never released');
  const { traffic, run } = statsOf(result, { version: 'test', workers, ordering });
  const { verdicts, frames } = recorder;
  const dump = result.dump();
  const tables = `${result.dumpFlows()}${result.dumpGroups()}`.split('\n');
  return { verdicts, frames, dump, tables, table: result.dumpJson(), log, records, traffic, run, result };
}

export function parseVerdicts(r: RunResult): VerdictLine[] {
  return r.verdicts.map((line) => JSON.parse(line) as VerdictLine);
}

/** First difference of two runs in what must not differ, or null. */
export function difference(a: RunResult, b: RunResult): string | null {
  for (const what of ['verdicts', 'frames', 'log', 'records', 'dump', 'tables', 'table'] as const) {
    const n = Math.max(a[what].length, b[what].length);
    for (let i = 0; i < n; i++) {
      if (a[what][i] !== b[what][i]) return `${what}[${i}]:\n  ${a[what][i]}\n  ${b[what][i]}`;
    }
  }
  const [x, y] = [JSON.stringify(a.traffic), JSON.stringify(b.traffic)];
  return x === y ? null : `traffic:\n  ${x}\n  ${y}`;
}
