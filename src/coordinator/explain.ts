/** Says why a packet went where it went: runs it through the datapath on the main thread, with every cache
 *  empty, and writes down each pass's translation, each ct() with its connection, and the verdict, in the
 *  manner of `ovs-appctl ofproto/trace` (ovs-vswitchd(8)). For `shardtrack trace`; the workers are idle, and
 *  what the packet changes, it changes for good. */
import {
  CS_DNAT,
  CS_EST,
  CS_INV,
  CS_NEW,
  CS_REL,
  CS_RPL,
  CS_SNAT,
  ctStateText,
  FLOW,
  KEY_WORDS,
  OFPP_CONTROLLER,
} from '../classifier/flow-key.js';
import { MegaflowCache } from '../classifier/megaflow.js';
import { FRAGMENT_COMPLETES, FRAGMENT_HELD, FRAGMENT_INVALID, FRAGMENT_PASSED } from '../conntrack/ipf.js';
import { ConnKey, extractConnKey, INVALID_NONE, INVALID_REASONS } from '../conntrack/key.js';
import { Partition, type PartitionMemory } from '../conntrack/partition.js';
import { TCP_STATE_NAMES } from '../conntrack/tcp.js';
import type { PacketContext } from '../datapath/context.js';
import type { CommitRequest, ControlPlane } from '../datapath/control.js';
import { Engine } from '../datapath/engine.js';
import {
  FRAME_DATA_OFF,
  FRAME_LEN,
  FRAME_NEXT_CHUNK,
  FRAME_NEXT_OFF,
  FrameStore,
} from '../datapath/frames.js';
import { CT_COMMIT, CT_FORCE, DROP_REASONS, OP_CT_WORDS } from '../datapath/program.js';
import { STAT, STAT_WORDS } from '../datapath/stats.js';
import type { TrackObserver } from '../datapath/tracker.js';
import { flowText, megaflowText, TranslationText } from '../openflow/explain.js';
import { formatProgram } from '../openflow/format-dp.js';
import { type Pipeline, TableBucket } from '../openflow/tables.js';
import { portText } from '../openflow/values.js';
import { CONN } from '../shm/layouts.js';
import type { PacketColumns } from '../shm/packets.js';
import { extract, FrameLayout, IPPROTO_TCP } from '../wire/extract.js';
import type { Coordinator } from './coordinator.js';
import { connection, formatConnection } from './dump.js';

const RULER = '='.repeat(79);
const { STATE, ZONE_PROTO } = CONN.at;

/** What makes a ct() call a packet invalid, in words; by INVALID_REASONS. */
const INVALID_TEXT: Readonly<Record<(typeof INVALID_REASONS)[number], string>> = {
  '': 'no reason',
  'not-ip': 'not an IP packet',
  truncated: 'the frame holds less than the IP packet says that it is long',
  fragment: 'a fragment that is not put together with others',
  'bad-ip-checksum': 'wrong IPv4 header checksum',
  'bad-l4-header': 'transport header too short, or with an impossible length',
  'bad-l4-checksum': 'wrong transport checksum',
  'port-zero': 'a port is 0',
  'icmp-type': 'an ICMP type that is neither echo, timestamp, information nor an error',
  'icmp-code': 'an ICMP query with a code other than 0',
  'icmp-error-payload': 'an ICMP error without a valid packet inside',
  'icmp-error-unrelated': 'an ICMP error about a packet of no known connection',
  'not-an-opening-packet': 'no connection has its tuple, and such a packet does not open one',
  'tcp-flags-or-window':
    'flags that make no sense in this state of the connection, or a sequence or acknowledgement number outside the window',
};

/** What becomes of a fragment, by FRAGMENT_*. */
const FRAGMENT_TEXT: Readonly<Record<number, string>> = {
  [FRAGMENT_PASSED]: 'a fragment that goes on as it is',
  [FRAGMENT_INVALID]:
    'a fragment that is too small, has a wrong header, or brings bytes that were there already',
  [FRAGMENT_HELD]: 'a fragment that waits for the rest of its datagram',
  [FRAGMENT_COMPLETES]: 'a fragment that makes its datagram complete: all of them go on',
};

/** What an explanation works on. */
export interface Explained {
  coordinator: Coordinator;
  pipeline: Pipeline;
  /** Home of the packet. */
  home: number;
  partition: PartitionMemory;
  packets: PacketColumns;
  /** Row of the packet; its offset is one of `arena`. */
  slot: number;
  arena: SharedArrayBuffer;
  checkSequence: boolean;
  strict: boolean;
  /** The switch's reassembly, as ControlPlane.fragment. */
  fragment: (ctx: PacketContext, zone: number) => boolean;
}

/** Runs the packet; returns the lines. */
export function explain(what: Explained): string[] {
  return new Explanation(what).run();
}

class Explanation implements ControlPlane, TrackObserver {
  private readonly what: Explained;
  private readonly lines: string[] = [];
  private readonly stats = new Float64Array(STAT_WORDS);
  private readonly frames: FrameStore;
  private readonly engine: Engine;
  /** Stat points of the packet that have been looked at. */
  private nPath = 0;
  // The ct() under way: connection found before it, its state and the counters then.
  private readonly ck = new ConnKey();
  private before = -1;
  private beforeState = 0;
  private readonly statsBefore = new Float64Array(STAT_WORDS);

  constructor(what: Explained) {
    this.what = what;
    this.frames = new FrameStore(() => {});
    this.engine = new Engine(
      new Partition(what.partition),
      new MegaflowCache(),
      this,
      this.frames,
      what.arena,
      what.packets,
      this.stats,
    );
    this.engine.tracker.observer = this;
    this.engine.tracker.checkSequence = what.checkSequence;
    this.engine.tracker.strict = what.strict;
  }

  run(): string[] {
    const { engine, what } = this;
    const ctx = engine.newContext();
    engine.begin(ctx, what.slot);
    engine.partition.refresh();
    if (!engine.run(ctx)) throw new Error('trace: a packet waits although the coordinator answers at once');
    this.chosen(ctx);
    this.verdict(ctx);
    return this.lines;
  }

  // ---- the engine's control plane: answers at once, and takes notes ----

  upcall(ctx: PacketContext): Int32Array {
    const { key } = ctx;
    this.chosen(ctx);
    if (key[FLOW.RECIRC_ID] !== 0) {
      const state = ctStateText(key[FLOW.CT_STATE]);
      this.lines.push(
        '',
        RULER,
        `recirc(0x${key[FLOW.RECIRC_ID].toString(16)})${state === '' ? '' : `, ct_state=${state}`}`,
        RULER,
        '',
      );
    }
    const text = new TranslationText();
    const { program, mask } = this.what.coordinator.translate(key, text);
    this.lines.push(`Flow: ${flowText(key)}`, '', ...text.lines, '');
    this.lines.push(`Megaflow: ${megaflowText(key, mask)}`);
    this.lines.push(`Datapath actions: ${formatProgram(program, key)}`);
    return program;
  }

  reserve(): number {
    return -1;
  }

  made(): void {
    throw new Error('trace: no slot has been reserved');
  }

  commit(ctx: PacketContext, request: CommitRequest): number {
    const { coordinator, home, packets } = this.what;
    const slot = coordinator.commit(home, request.words, 0, packets.seq[ctx.slot], ctx.now);
    this.engine.partition.refresh();
    return slot;
  }

  normal(ctx: PacketContext): boolean {
    ctx.answerPorts.length = 0;
    ctx.answer = this.what.coordinator.normal(ctx.key, ctx.now, ctx.answerPorts);
    const ports = ctx.answerPorts.map(portText).join(', ');
    this.lines.push('', `normal: ${ports === '' ? DROP_REASONS[ctx.answer] : `to ${ports}`}`);
    return true;
  }

  change(ctx: PacketContext, id: number): void {
    this.what.pipeline.execute(id, ctx.now);
  }

  meter(ctx: PacketContext, id: number): boolean {
    const pass = this.what.pipeline.meter(id, ctx.len, ctx.now);
    if (!pass) this.lines.push('', 'meter: over its rate, dropped');
    return pass;
  }

  fragment(ctx: PacketContext, zone: number): boolean {
    this.what.fragment(ctx, zone);
    this.lines.push('', `ct(zone=${zone}): ${FRAGMENT_TEXT[ctx.answer]}`);
    return true;
  }

  // ---- ct() ----

  tracking(ctx: PacketContext): void {
    const { engine, ck } = this;
    const { partition } = engine;
    this.chosen(ctx);
    this.statsBefore.set(this.stats);
    this.before = -1;
    const zone = ctx.program![ctx.pc - OP_CT_WORDS + 2];
    const { key, layout } = ctx;
    if (extractConnKey(ctx.view, ctx.off, layout, key, zone, true, partition.seed, ck) !== INVALID_NONE)
      return;
    const addr6 = ck.ipv6 ? ck.addr6 : null;
    this.before = partition.find(
      ck.hash,
      ck.src,
      ck.dst,
      ck.ports,
      ck.zoneProto,
      ck.zoneProtoReply,
      addr6,
      ctx.now,
    );
    if (this.before >= 0) this.beforeState = partition.hot[((this.before >> 1) << CONN.shift) + STATE];
  }

  tracked(ctx: PacketContext, conn: number): void {
    const { key } = ctx;
    const state = key[FLOW.CT_STATE];
    const flags = ctx.program![ctx.pc - OP_CT_WORDS + 1];
    const zone = key[FLOW.CT_ZONE];
    const asked = `${flags & CT_COMMIT ? 'commit,' : ''}${flags & CT_FORCE ? 'force,' : ''}zone=${zone}`;
    this.lines.push('', `ct(${asked}): ct_state=${ctStateText(state)}`);
    const say = (text: string): void => {
      this.lines.push(` -> ${text}`);
    };
    const made = this.grew(STAT.COMMITS);
    if (conn >= 0) {
      const { slot, text } = this.connectionText(conn, ctx.now);
      const side = conn & 1 ? 'reply' : 'original';
      say(made ? `new connection: ${text}` : `connection, ${side} direction: ${text}`);
      if (this.before >> 1 === slot && !made) this.sayTcp(slot, say);
    } else {
      say(`no connection of zone ${zone} has its tuple`);
    }
    for (const text of this.reasons(state, flags, conn, made)) say(text);
    const mark = key[FLOW.CT_MARK] >>> 0;
    if (mark !== 0) say(`ct_mark=0x${mark.toString(16)}`);
  }

  /** Why the packet has this state. */
  private *reasons(state: number, flags: number, conn: number, made: boolean): Iterable<string> {
    if (state & CS_INV) {
      const reason = INVALID_REASONS.findIndex((_, i) => i > 0 && this.grew(STAT.INVALID_0 + i));
      yield `inv: ${INVALID_TEXT[INVALID_REASONS[Math.max(0, reason)]]}`;
    }
    if (state & CS_NEW) {
      if (made) yield 'new: it opens the connection';
      else if (conn >= 0) yield 'new: no reply has been seen yet';
      else if (this.grew(STAT.COMMITS_FULL)) yield 'new: the table or the zone is full, so no entry was made';
      else if (this.grew(STAT.NAT_EXHAUSTED))
        yield 'new: no free tuple to translate to, so no entry was made';
      else if (flags & CT_COMMIT) yield 'new: no entry was made';
      else yield 'new: it may open a connection, once committed';
    }
    if (state & CS_EST) yield 'est: both directions have been seen';
    if (state & CS_REL) yield 'rel: an ICMP error about the connection, or a data connection of its helper';
    if (state & CS_RPL) yield "rpl: against the connection's first packet";
    if (state & CS_SNAT) yield 'snat: its source is translated';
    if (state & CS_DNAT) yield 'dnat: its destination is translated';
    if (this.before >= 0 && this.grew(STAT.ENDED)) yield 'the connection that was there before ends here';
  }

  private sayTcp(slot: number, say: (text: string) => void): void {
    const { hot } = this.engine.partition;
    const c = slot << CONN.shift;
    if (((hot[c + ZONE_PROTO] >>> 8) & 0xff) !== IPPROTO_TCP) return;
    const name = (state: number): string =>
      `${TCP_STATE_NAMES[state & 15]}/${TCP_STATE_NAMES[(state >>> 4) & 15]}`;
    const was = name(this.beforeState);
    const is = name(hot[c + STATE]);
    say(
      was === is
        ? `TCP stays ${is} (original/reply side)`
        : `TCP goes from ${was} to ${is} (original/reply side)`,
    );
  }

  private connectionText(conn: number, now: number): { slot: number; text: string } {
    const { coordinator, home } = this.what;
    const slot = conn >> 1;
    const row = connection(coordinator.partitions[home], slot);
    return { slot, text: formatConnection(row, now, { verbose: true, statistics: true, zone: null }) };
  }

  private grew(stat: number): boolean {
    return this.stats[stat] > this.statsBefore[stat];
  }

  // ---- groups and the end ----

  /** Says which buckets were chosen since the last time. */
  private chosen(ctx: PacketContext): void {
    const { pipeline } = this.what;
    for (; this.nPath < ctx.nPath; this.nPath += 2) {
      for (const counted of pipeline.stats.list(ctx.path[this.nPath])) {
        if (!(counted instanceof TableBucket)) continue;
        const group = [...pipeline.groups.values()].find((g) => g.buckets.includes(counted));
        if (group !== undefined) this.lines.push('', `group ${group.group.id}: bucket ${counted.bucket.id}`);
      }
    }
  }

  private verdict(ctx: PacketContext): void {
    this.lines.push('', RULER);
    if (ctx.nOuts === 0) this.lines.push(`Verdict: dropped: ${DROP_REASONS[ctx.reason] ?? 'no output'}`);
    for (let i = 0; i < ctx.nOuts; i += 2) {
      const port = ctx.outs[i];
      const to = port === OFPP_CONTROLLER ? 'the controller' : `port ${portText(port)}`;
      const { text, length } = this.frameText(ctx, ctx.outs[i + 1]);
      this.lines.push(`Verdict: to ${to}, ${length} bytes${text === '' ? ', unchanged' : `: ${text}`}`);
    }
  }

  /** The flow of a changed frame, "" for frame 0, the captured one. */
  private frameText(ctx: PacketContext, ordinal: number): { text: string; length: number } {
    const { packets, slot } = this.what;
    if (ordinal === 0) return { text: '', length: packets.capLen[slot] };
    let chunk = ctx.firstChunk;
    let word = ctx.firstRecord >> 2;
    for (let n = 1; n < ordinal; n++) {
      const { words } = this.frames.chunks[chunk];
      chunk = words[word + FRAME_NEXT_CHUNK];
      word = words[word + FRAME_NEXT_OFF] >> 2;
    }
    const { words, view } = this.frames.chunks[chunk];
    const key = new Int32Array(KEY_WORDS);
    const length = words[word + FRAME_LEN];
    extract(view, words[word + FRAME_DATA_OFF], length, key, new FrameLayout());
    key[FLOW.IN_PORT] = packets.inPort[slot];
    return { text: flowText(key), length };
  }
}
