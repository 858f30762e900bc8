/** ct(): finds a packet's connection, runs it through the connection's state machine, and gives the packet
 *  its conntrack metadata. The only code that changes a connection's mutable state, besides the shortcut in
 *  microflow.ts. */
import * as flowKey from '../classifier/flow-key.js';
import { Expectations } from '../conntrack/expectations.js';
import { tupleHash } from '../conntrack/hash.js';
import * as keys from '../conntrack/key.js';
import { ConnKey, extractConnKey, fold, replyZoneProto } from '../conntrack/key.js';
import * as natAsk from '../conntrack/nat.js';
import { rangeHash } from '../conntrack/nat.js';
import type { Partition } from '../conntrack/partition.js';
import { tcpNew, tcpUpdate, tcpValidNew } from '../conntrack/tcp.js';
import * as timers from '../conntrack/timeouts.js';
import { timerBlock } from '../conntrack/timeouts.js';
import * as updates from '../conntrack/verdict.js';
import * as layouts from '../shm/layouts.js';
import * as headers from '../wire/extract.js';
import type { PacketContext } from './context.js';
import * as waits from './context.js';
import * as requests from './control.js';
import { CommitRequest, type ControlPlane } from './control.js';
import type { FrameEditor } from './edit.js';
import { Helpers } from './helpers.js';
import { NatRewriter } from './nat.js';
import * as opcodes from './program.js';
import * as counters from './stats.js';
import { statOfState } from './stats.js';

// Imported constants are loads from the other module's cells; local ones are folded into the code.
const { CS_DNAT, CS_EST, CS_INV, CS_NEW, CS_REL, CS_RPL, CS_SNAT, CS_TRK, FLOW, KEY_WORDS } = flowKey;
const {
  FTP_PORT,
  INVALID_IP_CHECKSUM,
  INVALID_L4_CHECKSUM,
  INVALID_NONE,
  INVALID_NOT_IP,
  INVALID_NOT_OPENING,
  INVALID_TCP,
  INVALID_UNRELATED,
  TFTP_PORT,
} = keys;
const { ASK_HASH, ASK_WORDS } = natAsk;
const { DEFAULT_TIMEOUTS_MS, TM_ICMP_FIRST, TM_ICMP_REPLY, TM_UDP_FIRST, TM_UDP_MULTIPLE, TM_UDP_SINGLE } =
  timers;
const { UPDATE_INVALID, UPDATE_NEW, UPDATE_VALID, UPDATE_VALID_NEW } = updates;
const {
  ADDR6,
  COLD,
  CONN,
  CREATED_STEP,
  KIND_IPV4,
  KIND_IPV6,
  PARENT,
  STATE_CHILD,
  STATE_FTP,
  STATE_HAS_META,
  STATE_TFTP,
  STATE_TRANSLATED,
} = layouts;
const { IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP } = headers;
const { STEP_EST, STEP_EST_RPL, STEP_INV, STEP_NEW, WAIT_COMMIT } = waits;
const {
  CHILD_ADDRESS,
  CHILD_END,
  CHILD_META,
  CHILD_PARENT,
  COMMIT_CHILD,
  COMMIT_CONN,
  COMMIT_IPV6,
  COMMIT_NAT,
  COMMIT_NTH,
  NO_TUPLE,
  PENDING,
} = requests;
const {
  ALG_FTP,
  ALG_NONE,
  ALG_TFTP,
  CT_ARG_ALG,
  CT_ARG_NAT,
  CT_COMMIT,
  CT_FORCE,
  CT_SET_LABEL,
  CT_SET_MARK,
  DROP_COMMIT_REFUSED,
  OP_CT_WORDS,
  OP_END,
} = opcodes;
const { STAT } = counters;

const { CT_STATE, CT_ZONE, CT_MARK, CT_LABEL_0, NW_SRC, NW_DST, NW, TP } = FLOW;
const { CT_NW_SRC, CT_NW_DST, CT_TP, CT_NW_PROTO, CT_IPV6_SRC_0, IPV6_SRC_0 } = FLOW;
const { SRC, DST, PORTS, ZONE_PROTO, STATE, EXPIRES, PKTS_0, BYTES_0 } = CONN.at;
const { MARK, LABEL_0, CARRY, CREATED } = COLD.at;
const CONN_WORDS = CONN.words;
const HOT_SHIFT = CONN.shift;
const COLD_SHIFT = COLD.shift;
const ADDR6_SHIFT = ADDR6.shift;
const PARENT_SHIFT = PARENT.shift;
const PARENT_ADDR6 = PARENT.at.SRC6_0;
const EXPIRES_F64 = EXPIRES >> 1;

const REFUSED = Int32Array.of(OP_END, DROP_COMMIT_REFUSED);

/** Who wants to know what ct() does with a packet (`shardtrack trace`, recorder.ts). */
export interface TrackObserver {
  /** Before the OP_CT that ends at ctx.pc. */
  tracking?(ctx: PacketContext): void;
  /** After it: `conn` is `slot << 1 | reply` of the packet's connection, or -1. */
  tracked(ctx: PacketContext, conn: number): void;
}

export class Tracker {
  observer: TrackObserver | null = null;
  /** Why the last packet that was invalid was (INVALID_*). */
  invalid = INVALID_NONE;
  /** dpctl/ct-{en,dis}able-tcp-seq-chk. */
  checkSequence = true;
  /** Whether checksums are taken for right. */
  ignoreChecksums = false;
  /** Whether a packet ends where its commit is refused (`--strict`). */
  strict = false;
  /** Whether packets may have to be forgotten: their contexts keep what they change. */
  keeps = false;
  private readonly partition: Partition;
  private readonly control: ControlPlane;
  private readonly stats: Float64Array;
  private readonly ck = new ConnKey();
  private readonly request = new CommitRequest();
  private readonly rewriter: NatRewriter;
  private readonly helpers: Helpers;
  private readonly expectations: Expectations;

  constructor(partition: Partition, control: ControlPlane, editor: FrameEditor, stats: Float64Array) {
    this.partition = partition;
    this.control = control;
    this.stats = stats;
    this.rewriter = new NatRewriter(partition, editor);
    this.expectations = new Expectations(partition);
    this.helpers = new Helpers(partition, editor, this.expectations);
  }

  /** The packet and zone of the last ct() if that was of a whole packet, as it is on the wire, and found nothing: `ck` is its
   *  tuple. */
  private missedBy = -1;
  private missedIn = 0;

  /** The packet will be run again, when there may be a connection. */
  forget(ctx: PacketContext): void {
    if (this.missedBy === ctx.seq) this.missedBy = -1;
  }

  /** Whether helpers expect connections. */
  get expects(): boolean {
    return this.expectations.any;
  }

  /** OP_CT at `pc`. False if it waits for a commit. */
  track(ctx: PacketContext, pc: number): boolean {
    const program = ctx.program!;
    const { key, layout } = ctx;
    const { partition, stats, ck } = this;
    const flags = program[pc + 1];
    const zone = program[pc + 2];
    const nat = program[pc + CT_ARG_NAT];
    ctx.count(stats, STAT.CT);
    this.observer?.tracking?.(ctx);
    if (flags & CT_FORCE) ctx.foldable = false;

    // A packet that the last ct() of this zone found a connection for is not run through it again,
    // except where a helper would read it.
    if (
      ctx.conn >= 0 &&
      partition.hot[((ctx.conn >> 1) << HOT_SHIFT) + ZONE_PROTO] >>> 16 === zone &&
      !(flags & CT_FORCE) &&
      controlType(ctx, program[pc + CT_ARG_ALG] || this.algOf(ctx.conn >> 1)) === ALG_NONE
    ) {
      const { conn } = ctx;
      if (this.keeps && !ctx.inTurn) ctx.keep(partition, conn >> 1);
      if (nat !== 0) {
        this.translate(ctx, conn, zone, ctx.related);
        ctx.conn = -1;
      }
      key[CT_ZONE] = zone;
      this.readMeta(ctx, conn >> 1);
      this.writeMeta(ctx, pc, conn >> 1);
      this.note(ctx, conn);
      return true;
    }

    // A packet that a ct() of this zone has just found no connection for is as it was then.
    const again =
      this.missedBy === ctx.seq && this.missedIn === zone && ctx.nFrames === 0 && ctx.datagram === null;
    this.missedBy = -1;
    const invalid = again
      ? INVALID_NONE
      : ctx.sums === 2
        ? INVALID_L4_CHECKSUM
        : extractConnKey(
            ctx.view,
            ctx.off,
            layout,
            key,
            zone,
            ctx.sums === 1 || this.ignoreChecksums,
            partition.seed,
            ck,
          );
    if (invalid !== INVALID_NONE) {
      if (invalid === INVALID_L4_CHECKSUM) ctx.sums = 2;
      this.reject(ctx, zone, invalid);
      return true;
    }
    ctx.sums = 1;

    // A new zone starts afresh.
    if (key[CT_STATE] !== 0 && key[CT_ZONE] !== zone) key[CT_STATE] = 0;

    const now = ctx.now;
    const translated = (key[CT_STATE] & (CS_SNAT | CS_DNAT)) !== 0;
    // What is on the wire, before `ck` becomes what it was before translation.
    const { ports } = ck;
    let found = again ? -1 : translated ? this.findTranslated(now) : this.find(now);
    const unknown = found < 0 && !translated;
    if (found < 0) ctx.missed = true;
    else if (this.keeps && !ctx.inTurn) ctx.keep(partition, found >> 1);
    if (found >= 0 && flags & CT_FORCE && found & 1) {
      // ct(force) from the other side: the old connection ends here.
      this.expire(ctx, found >> 1);
      found = -1;
    }
    let alg = program[pc + CT_ARG_ALG];
    if (alg === ALG_NONE && found >= 0) alg = this.algOf(found >> 1);
    const control = ck.related ? ALG_NONE : controlOf(ck.proto, ports, alg);

    let create = false;
    let conn = found;
    if (found < 0 && translated && nat === 0) conn = this.findOriginal(ctx);
    if (found >= 0) {
      create = control === ALG_FTP ? this.updateFtp(ctx, found, nat !== 0) : this.update(ctx, found);
      if (create || key[CT_STATE] & CS_REL) ctx.foldable = false;
      else ctx.trace(found, this.outcome);
      if (nat !== 0 && !create) this.translate(ctx, found, zone, ck.related);
    } else if (conn >= 0) {
      ctx.foldable = false;
      if (this.keeps && !ctx.inTurn) ctx.keep(partition, conn >> 1);
      create = this.update(ctx, conn);
    } else if (ck.related) {
      ctx.foldable = false;
      this.invalidate(ctx, INVALID_UNRELATED);
    } else {
      create = true;
    }

    ctx.expectation = null;
    if (create) {
      ctx.expectation = this.expectations.find(ck, now);
      if (unknown && ctx.expectation === null) ctx.traceOpening(zone);
      else ctx.foldable = false;
      // A packet whose connection is gone, or has just ended, may look like one of another connection: then it
      // opens none, and its state stays, with mark and label of what has just ended.
      if (unknown || this.find(now) < 0) {
        conn = -1;
        if (!this.opens(ctx)) {
          this.invalidate(ctx, INVALID_NOT_OPENING);
        } else {
          key[CT_STATE] = ctx.expectation === null ? CS_NEW : CS_NEW | CS_REL;
          if (flags & CT_COMMIT) {
            const stored = storedAlg(alg, control);
            if (nat === 0 && stored === ALG_NONE && ctx.expectation === null) {
              const slot = this.control.reserve(ctx);
              if (slot >= 0) {
                ctx.opened = slot;
                ctx.openedNth = nthOf(ctx);
                this.make(ctx, zone, slot);
                this.stats[STAT.COMMITS]++;
                this.finishTracking(ctx, pc, slot << 1, ALG_NONE, false);
                return true;
              }
            }
            ctx.foldable = false;
            this.fillRequest(ctx, pc, zone, stored);
            const slot = this.control.commit(ctx, this.request);
            if (slot === PENDING) {
              ctx.wait = WAIT_COMMIT;
              return false;
            }
            this.committed(ctx, slot);
            return true;
          }
          if (unknown && ctx.datagram === null) {
            this.missedBy = ctx.seq;
            this.missedIn = zone;
          }
        }
      }
    }
    this.finishTracking(ctx, pc, conn, control, ck.related);
    return true;
  }

  /** ct() of a packet that can't be tracked, for one of the reasons INVALID_*. */
  reject(ctx: PacketContext, zone: number, reason: number): void {
    const { key } = ctx;
    // Of these reasons, the key of a microflow entry tells.
    if (reason !== INVALID_NOT_IP && reason !== INVALID_IP_CHECKSUM && reason !== INVALID_L4_CHECKSUM) {
      ctx.foldable = false;
    }
    this.invalidate(ctx, reason);
    key[CT_ZONE] = zone;
    key[CT_STATE] |= CS_TRK;
    clearMeta(key);
    clearOrigTuple(key);
    this.note(ctx, -1);
  }

  /** The coordinator has answered the commit of the OP_CT just before ctx.pc. */
  committed(ctx: PacketContext, slot: number): void {
    const pc = ctx.pc - OP_CT_WORDS;
    let control = ALG_NONE;
    if (slot >= 0) {
      this.stats[STAT.COMMITS]++;
      control = controlType(ctx, this.algOf(slot));
      if (this.partition.hot[(slot << HOT_SHIFT) + STATE] & STATE_TRANSLATED) {
        this.rewriter.translate(ctx, slot, 0, false);
      }
    } else {
      this.stats[slot === NO_TUPLE ? STAT.NAT_EXHAUSTED : STAT.COMMITS_FULL]++;
    }
    this.finishTracking(ctx, pc, slot >= 0 ? slot << 1 : -1, control, false);
    if (slot < 0 && this.strict) {
      ctx.program = REFUSED;
      ctx.pc = 0;
    }
  }

  /** Conntrack metadata of the packet, and what ct() was asked to set; then the helper's turn. */
  private finishTracking(
    ctx: PacketContext,
    pc: number,
    conn: number,
    control: number,
    related: boolean,
  ): void {
    const { key } = ctx;
    const nat = ctx.program![pc + CT_ARG_NAT] !== 0;
    key[CT_STATE] |= CS_TRK;
    key[CT_ZONE] = ctx.program![pc + 2];
    // Translation looks its connection up by itself.
    ctx.conn = nat ? -1 : conn;
    ctx.related = related;
    if (conn >= 0) {
      this.readMeta(ctx, conn >> 1);
      this.origTupleOfConn(key, conn >> 1);
      this.writeMeta(ctx, pc, conn >> 1);
      if (control !== ALG_NONE && this.algOf(conn >> 1) !== ALG_NONE) {
        this.helpers.read(ctx, control, conn, nat);
      }
    } else if (ctx.expectation !== null) {
      const { meta, tuple } = ctx.expectation;
      key[CT_MARK] = meta[0];
      for (let i = 0; i < 4; i++) key[CT_LABEL_0 + i] = meta[1 + i];
      origTupleOf(key, tuple[0], tuple[1], tuple[2], tuple[3], tuple, PARENT.at.SRC6_0);
    } else {
      clearMeta(key);
      if (related) this.origTupleOfKey(key);
      else origTupleOfPacket(key);
    }
    ctx.expectation = null;
    this.note(ctx, conn);
  }

  /** The connection of the tuple in `ck`. */
  private find(now: number): number {
    const { src, dst, ports, zoneProto, zoneProtoReply, hash, ipv6, addr6 } = this.ck;
    return this.partition.find(hash, src, dst, ports, zoneProto, zoneProtoReply, ipv6 ? addr6 : null, now);
  }

  /** The same for a packet that the zone has translated already: it looks like the other direction's
   *  packets turned round. `ck` becomes what it was before translation. */
  private findTranslated(now: number): number {
    const { ck } = this;
    turn(ck);
    const found = this.find(now);
    if (found < 0) {
      turn(ck);
      return -1;
    }
    const { related } = ck;
    this.partition.load(found >> 1, (found & 1) ^ 1, ck);
    ck.related = related;
    return found ^ 1;
  }

  /** The connection that the packet's original tuple names, for a packet that was translated and then
   *  changed. It counts as a packet of the original direction. */
  private findOriginal(ctx: PacketContext): number {
    const { key } = ctx;
    const { ck, original, partition } = this;
    const proto = key[CT_NW_PROTO];
    if (proto === 0) return -1;
    original.ipv6 = ck.ipv6;
    const icmp = ck.proto === (ck.ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
    original.ports = icmp ? ck.ports : key[CT_TP];
    const kind = icmp ? key[CT_TP] >>> 16 : ck.ipv6 ? KIND_IPV6 : KIND_IPV4;
    original.zoneProto = (key[CT_ZONE] << 16) | (proto << 8) | kind;
    original.zoneProtoReply = replyZoneProto(original.zoneProto);
    if (ck.ipv6) {
      for (let i = 0; i < 8; i++) original.addr6[i] = key[CT_IPV6_SRC_0 + i];
      fold(original, partition.seed);
    } else {
      original.src = key[CT_NW_SRC];
      original.dst = key[CT_NW_DST];
    }
    const { src, dst, ports, zoneProto, zoneProtoReply } = original;
    const hash = tupleHash(partition.seed, src, dst, ports, zoneProto);
    const addr6 = ck.ipv6 ? original.addr6 : null;
    const found = partition.find(hash, src, dst, ports, zoneProto, zoneProtoReply, addr6, ctx.now);
    return found < 0 ? -1 : found & ~1;
  }
  private readonly original = new ConnKey();

  /** Translates a packet of a translated connection, unless this zone has done so before. */
  private translate(ctx: PacketContext, conn: number, zone: number, related: boolean): void {
    const { key } = ctx;
    if (!(this.partition.hot[((conn >> 1) << HOT_SHIFT) + STATE] & STATE_TRANSLATED)) return;
    if (key[CT_STATE] & (CS_SNAT | CS_DNAT)) {
      if (key[CT_ZONE] === zone) return;
      key[CT_STATE] &= ~(CS_SNAT | CS_DNAT);
    }
    this.rewriter.translate(ctx, conn >> 1, conn & 1, related);
  }

  /** Which helper reads the connection. */
  private algOf(slot: number): number {
    const state = this.partition.hot[(slot << HOT_SHIFT) + STATE];
    return state & STATE_FTP ? ALG_FTP : state & STATE_TFTP ? ALG_TFTP : ALG_NONE;
  }

  /** `update` for a packet on an FTP control connection: the state machine sees the sequence numbers of
   *  the end whose data has been rewritten as that end knows them. */
  private updateFtp(ctx: PacketContext, found: number, nat: boolean): boolean {
    const skewDir = this.helpers.skewDirection(found >> 1);
    if ((found & 1) !== skewDir) {
      this.helpers.adjust(ctx, found, nat);
      return this.update(ctx, found);
    }
    const create = this.update(ctx, found);
    if (!create) this.helpers.adjust(ctx, found, nat);
    return create;
  }

  /** Adds a line to the verdict's `ct`. */
  private note(ctx: PacketContext, conn: number): void {
    const state = ctx.key[CT_STATE];
    this.observer?.tracked(ctx, conn);
    ctx.count(this.stats, statOfState(state));
    ctx.ct[ctx.nCt++] = ctx.key[CT_ZONE];
    ctx.ct[ctx.nCt++] = state;
  }

  private invalidate(ctx: PacketContext, reason: number): void {
    ctx.key[CT_STATE] = CS_INV;
    this.invalid = reason;
    ctx.traceInvalid(reason);
    ctx.count(this.stats, STAT.INVALID_0 + reason);
  }

  /** Runs the packet through its connection's state machine. True if it must open a new one. */
  private update(ctx: PacketContext, found: number): boolean {
    const { key, layout } = ctx;
    const { hot, hotF64, timeouts } = this.partition;
    const slot = found >> 1;
    const reply = found & 1;
    const { ck } = this;
    if (ck.related) {
      key[CT_STATE] |= reply ? CS_REL | CS_RPL : CS_REL;
      return false;
    }
    const c = slot << HOT_SHIFT;
    if (hot[c + STATE] & STATE_CHILD) key[CT_STATE] |= CS_REL;
    let verdict: number;
    if (ck.proto === IPPROTO_TCP) {
      const l4 = ctx.off + layout.l4;
      const payload = layout.end - layout.l4 - ((ctx.view.getUint8(l4 + 12) >>> 4) << 2);
      const { now } = ctx;
      verdict = tcpUpdate(hot, hotF64, slot, reply, ctx.view, l4, payload, now, this.checkSequence, timeouts);
    } else {
      const state = hot[c + STATE];
      let phase = state & 15;
      let timer: number;
      if (hasIcmpStates(ck.proto)) {
        if (reply) phase = 1;
        verdict = phase === 0 ? UPDATE_VALID_NEW : UPDATE_VALID;
        timer = phase === 0 ? TM_ICMP_FIRST : TM_ICMP_REPLY;
      } else {
        if (reply) phase = 2;
        else if (phase === 0) phase = 1;
        verdict = phase === 2 ? UPDATE_VALID : UPDATE_VALID_NEW;
        timer = phase === 2 ? TM_UDP_MULTIPLE : TM_UDP_SINGLE;
      }
      hotF64[(c >> 1) + EXPIRES_F64] = ctx.now + timeouts[timerBlock(state, hot, c) + timer];
      hot[c + STATE] = (state & ~15) | phase;
    }
    switch (verdict) {
      case UPDATE_VALID:
        key[CT_STATE] = (key[CT_STATE] & ~CS_NEW) | (reply ? CS_EST | CS_RPL : CS_EST);
        this.outcome = reply ? STEP_EST_RPL : STEP_EST;
        break;
      case UPDATE_VALID_NEW:
        key[CT_STATE] |= CS_NEW;
        this.outcome = STEP_NEW;
        break;
      case UPDATE_NEW:
        this.expire(ctx, slot);
        return true;
      case UPDATE_INVALID:
        this.invalidate(ctx, INVALID_TCP);
        this.outcome = STEP_INV;
        return false;
    }
    this.count(slot, reply, layout.end - layout.l3);
    return false;
  }

  /** STEP_* that the last packet got, if it opens no connection. */
  private outcome = STEP_NEW;

  private count(slot: number, reply: number, bytes: number): void {
    const { hot, cold } = this.partition;
    const c = slot << HOT_SHIFT;
    hot[c + PKTS_0 + reply] = (hot[c + PKTS_0 + reply] + 1) | 0;
    const before = hot[c + BYTES_0 + reply];
    const after = (before + bytes) | 0;
    hot[c + BYTES_0 + reply] = after;
    if (after >>> 0 < before >>> 0) cold[(slot << COLD_SHIFT) + CARRY] += reply ? 0x10000 : 1;
  }

  /** Ends a connection at this packet. The sweeper, which takes only what ended before the oldest packet
   *  in flight, can't have it before this packet is done. */
  private expire(ctx: PacketContext, slot: number): void {
    this.stats[STAT.ENDED]++;
    ctx.missed = true;
    this.partition.end(slot, ctx.now, ctx.seq);
  }

  /** Whether the packet may open a connection. */
  private opens(ctx: PacketContext): boolean {
    const { ck } = this;
    const l4 = ctx.off + ctx.layout.l4;
    if (ck.proto === IPPROTO_TCP) return tcpValidNew(ctx.view.getUint8(l4 + 13));
    if (!hasIcmpStates(ck.proto)) return true;
    if (ctx.layout.l4 === ctx.layout.end) return false;
    const type = ctx.view.getUint8(l4);
    return ck.proto === IPPROTO_ICMPV6 ? type === 128 : type === 8 || type === 13 || type === 15;
  }

  /** Makes the connection that the packet opens, one without anything special, in a reserved slot. */
  private make(ctx: PacketContext, zone: number, slot: number): void {
    const { ck, partition } = this;
    const { hot, cold, coldF64 } = partition;
    // CREATED before EXPIRES, as in Coordinator.commit.
    const m = slot << COLD_SHIFT;
    for (let w = 0; w < CREATED; w++) cold[m + w] = 0;
    coldF64[(m + CREATED) >> 1] = ctx.seq + nthOf(ctx) / CREATED_STEP;
    const c = slot << HOT_SHIFT;
    for (let w = STATE; w < CONN_WORDS; w++) hot[c + w] = 0;
    this.fillRecord(ctx, zone, hot, partition.hotF64, c);
    if (ck.ipv6) {
      const a = slot << ADDR6_SHIFT;
      for (let i = 0; i < 8; i++) partition.addr6[a + i] = ck.addr6[i];
    }
    this.control.made(ctx.slot, slot, ck.hash);
  }

  /** Fills the hot record at word `c`, but for what is 0 in it, for the connection that the packet opens. */
  private fillRecord(
    ctx: PacketContext,
    zone: number,
    words: Int32Array,
    f64: Float64Array,
    c: number,
  ): void {
    const { ck } = this;
    words[c + SRC] = ck.src;
    words[c + DST] = ck.dst;
    words[c + PORTS] = ck.ports;
    words[c + ZONE_PROTO] = (zone << 16) | (ck.zoneProto & 0xffff);
    if (ck.proto === IPPROTO_TCP) {
      const l4 = ctx.off + ctx.layout.l4;
      const size = ctx.layout.end - ctx.layout.l4;
      const payload = size - ((ctx.view.getUint8(l4 + 12) >>> 4) << 2);
      tcpNew(words, f64, c, ctx.view, l4, payload, ctx.now);
    } else {
      const timer = hasIcmpStates(ck.proto) ? TM_ICMP_FIRST : TM_UDP_FIRST;
      f64[(c >> 1) + EXPIRES_F64] = ctx.now + DEFAULT_TIMEOUTS_MS[timer];
    }
    words[c + PKTS_0] = 1;
    words[c + BYTES_0] = ctx.layout.end - ctx.layout.l3;
  }

  /** Asks for the connection that the packet opens. */
  private fillRequest(ctx: PacketContext, pc: number, zone: number, alg: number): void {
    const { ck, request } = this;
    const { words, f64 } = request;
    request.clear();
    words[COMMIT_NTH] = nthOf(ctx);
    this.fillRecord(ctx, zone, words, f64, COMMIT_CONN);
    if (alg !== ALG_NONE) words[COMMIT_CONN + STATE] |= alg === ALG_FTP ? STATE_FTP : STATE_TFTP;
    const addresses = ck.ipv6 ? request.add(COMMIT_IPV6) : -1;
    if (addresses >= 0) words.set(ck.addr6, addresses);
    const program = ctx.program!;
    if (program[pc + CT_ARG_NAT] !== 0) {
      const ask = request.add(COMMIT_NAT);
      for (let i = 0; i < ASK_WORDS; i++) words[ask + i] = program[pc + CT_ARG_NAT + i];
      words[ask + ASK_HASH] = rangeHash(words, COMMIT_CONN, addresses, ask, false);
    }
    const { expectation } = ctx;
    if (expectation !== null) {
      const child = request.add(COMMIT_CHILD);
      words[child + CHILD_END] = expectation.end;
      words.set(expectation.address, child + CHILD_ADDRESS);
      words.set(expectation.meta, child + CHILD_META);
      words.set(expectation.tuple, child + CHILD_PARENT);
    }
  }

  private readMeta(ctx: PacketContext, slot: number): void {
    const { key } = ctx;
    const { hot, cold } = this.partition;
    if (hot[(slot << HOT_SHIFT) + STATE] & STATE_HAS_META) {
      const m = slot << COLD_SHIFT;
      key[CT_MARK] = cold[m + MARK];
      for (let i = 0; i < 4; i++) key[CT_LABEL_0 + i] = cold[m + LABEL_0 + i];
    } else {
      clearMeta(key);
    }
  }

  /** ct(commit, exec(...)): mark and label of the connection, bit by bit. */
  private writeMeta(ctx: PacketContext, pc: number, slot: number): void {
    const program = ctx.program!;
    const flags = program[pc + 1];
    if (!(flags & (CT_SET_MARK | CT_SET_LABEL))) return;
    const { key } = ctx;
    const { hot, cold } = this.partition;
    // Mark and label of a data connection are its parent's.
    if (hot[(slot << HOT_SHIFT) + STATE] & STATE_CHILD) return;
    const m = slot << COLD_SHIFT;
    if (flags & CT_SET_MARK) {
      key[CT_MARK] = program[pc + 3] | (key[CT_MARK] & ~program[pc + 4]);
    }
    if (flags & CT_SET_LABEL) {
      for (let i = 0; i < 4; i++) {
        key[CT_LABEL_0 + i] = program[pc + 5 + i] | (key[CT_LABEL_0 + i] & ~program[pc + 9 + i]);
      }
    }
    const known = slot !== ctx.opened;
    if (known && cold[m + MARK] !== key[CT_MARK]) ctx.foldable = false;
    cold[m + MARK] = key[CT_MARK];
    let any = key[CT_MARK];
    for (let i = 0; i < 4; i++) {
      if (known && cold[m + LABEL_0 + i] !== key[CT_LABEL_0 + i]) ctx.foldable = false;
      cold[m + LABEL_0 + i] = key[CT_LABEL_0 + i];
      any |= key[CT_LABEL_0 + i];
    }
    const c = slot << HOT_SHIFT;
    hot[c + STATE] = any !== 0 ? hot[c + STATE] | STATE_HAS_META : hot[c + STATE] & ~STATE_HAS_META;
  }

  private origTupleOfConn(key: Int32Array, slot: number): void {
    const { hot, addr6, parent } = this.partition;
    const c = slot << HOT_SHIFT;
    if (hot[c + STATE] & STATE_CHILD) {
      const p = slot << PARENT_SHIFT;
      origTupleOf(key, parent[p], parent[p + 1], parent[p + 2], parent[p + 3], parent, p + PARENT_ADDR6);
    } else {
      const a = slot << ADDR6_SHIFT;
      origTupleOf(key, hot[c + SRC], hot[c + DST], hot[c + PORTS], hot[c + ZONE_PROTO], addr6, a);
    }
  }

  /** The tuple in `ck`: that of the packet inside an ICMP error, turned round. */
  private origTupleOfKey(key: Int32Array): void {
    const { ck } = this;
    clearOrigTuple(key);
    key[CT_NW_PROTO] = ck.proto;
    if (ck.ipv6) for (let i = 0; i < 8; i++) key[CT_IPV6_SRC_0 + i] = ck.addr6[i];
    else {
      key[CT_NW_SRC] = ck.src;
      key[CT_NW_DST] = ck.dst;
    }
    key[CT_TP] = isIcmp(ck) ? (ck.zoneProto & 0xff) << 16 : ck.ports;
  }
}

/** Which of the packet's ct() is under way, as CONN.CREATED has it. */
function nthOf(ctx: PacketContext): number {
  return Math.min(ctx.nCt >> 1, CREATED_STEP - 1);
}

/** The states of a connection go by its protocol number, also when ICMP comes over the wrong IP version. */
function hasIcmpStates(proto: number): boolean {
  return proto === IPPROTO_ICMP || proto === IPPROTO_ICMPV6;
}

/** ICMP over IPv4 or ICMPv6 over IPv6: the tuple has type and code. */
function isIcmp(ck: ConnKey): boolean {
  return ck.proto === (ck.ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
}

/** Which helper's control connection the packet looks like: that of ct(alg=…) or of its connection, if the
 *  protocol is right, or by its port, helper or not. */
function controlType(ctx: PacketContext, alg: number): number {
  const proto = ctx.key[NW] & 0xff;
  if (proto !== IPPROTO_TCP && proto !== IPPROTO_UDP) return ALG_NONE;
  return controlOf(proto, ctx.view.getInt32(ctx.off + ctx.layout.l4), alg);
}

/** The same for a packet with these ports. */
function controlOf(proto: number, ports: number, alg: number): number {
  const dport = ports & 0xffff;
  if (proto === IPPROTO_TCP) {
    return alg === ALG_FTP || dport === FTP_PORT || ports >>> 16 === FTP_PORT ? ALG_FTP : ALG_NONE;
  }
  return proto === IPPROTO_UDP && (alg === ALG_TFTP || dport === TFTP_PORT) ? ALG_TFTP : ALG_NONE;
}

/** The helper that a new connection gets: the one asked for, unless the packet looks like another's. */
function storedAlg(alg: number, control: number): number {
  return control === ALG_NONE || control === alg ? alg : ALG_NONE;
}

/** Makes the tuple that of the other direction. */
function turn(ck: ConnKey): void {
  const { src, ports, zoneProto, addr6 } = ck;
  ck.src = ck.dst;
  ck.dst = src;
  ck.ports = (ports << 16) | (ports >>> 16);
  ck.zoneProto = ck.zoneProtoReply;
  ck.zoneProtoReply = zoneProto;
  if (!ck.ipv6) return;
  for (let i = 0; i < 4; i++) {
    const word = addr6[i];
    addr6[i] = addr6[4 + i];
    addr6[4 + i] = word;
  }
}

/** Writes a tuple, with IPv6 addresses at `addr6[a]`, to the packet's original tuple. */
function origTupleOf(
  key: Int32Array,
  src: number,
  dst: number,
  ports: number,
  zoneProto: number,
  addr6: Int32Array,
  a: number,
): void {
  const proto = (zoneProto >>> 8) & 0xff;
  const kind = zoneProto & 0xff;
  clearOrigTuple(key);
  key[CT_NW_PROTO] = proto;
  if (kind & 0x80) {
    for (let i = 0; i < 8; i++) key[CT_IPV6_SRC_0 + i] = addr6[a + i];
    key[CT_TP] = proto === IPPROTO_ICMPV6 ? kind << 16 : ports;
  } else {
    key[CT_NW_SRC] = src;
    key[CT_NW_DST] = dst;
    key[CT_TP] = proto === IPPROTO_ICMP ? kind << 16 : ports;
  }
}

function clearMeta(key: Int32Array): void {
  key[CT_MARK] = 0;
  for (let i = 0; i < 4; i++) key[CT_LABEL_0 + i] = 0;
}

function clearOrigTuple(key: Int32Array): void {
  for (let w = CT_NW_SRC; w < KEY_WORDS; w++) key[w] = 0;
}

export function clearTracking(ctx: PacketContext): void {
  ctx.conn = -1;
  ctx.key[CT_STATE] = 0;
  ctx.key[CT_ZONE] = 0;
  clearMeta(ctx.key);
  clearOrigTuple(ctx.key);
}

/** Packets without a connection show their own tuple. */
function origTupleOfPacket(key: Int32Array): void {
  clearOrigTuple(key);
  const proto = key[NW] & 0xff;
  key[CT_NW_PROTO] = proto;
  if (key[NW_SRC] !== 0 || key[NW_DST] !== 0) {
    key[CT_NW_SRC] = key[NW_SRC];
    key[CT_NW_DST] = key[NW_DST];
  } else {
    for (let i = 0; i < 8; i++) key[CT_IPV6_SRC_0 + i] = key[IPV6_SRC_0 + i];
  }
  const ports = proto === IPPROTO_TCP || proto === IPPROTO_UDP || proto === IPPROTO_SCTP;
  if (ports || proto === IPPROTO_ICMP || proto === IPPROTO_ICMPV6) key[CT_TP] = key[TP];
}
