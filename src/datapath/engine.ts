/** The datapath's reference path: one packet at a time, one action at a time, through megaflows, the
 *  connection tracker and recirculation, until it has a verdict or must wait for the coordinator.
 *
 *  `--workers 0` is this engine with a coordinator that answers at once. A worker thread runs the same
 *  engine with a coordinator at the other end of two rings, and parks the packets that wait. */
import { CS_EST, CS_INV, CS_NEW, CS_REL, CS_RPL, CS_TRK, FLOW, KEY_WORDS } from '../classifier/flow-key.js';
import type { MegaflowCache } from '../classifier/megaflow.js';
import {
  ConnKey,
  extractConnKey,
  FTP_PORT,
  INVALID_FRAGMENT,
  INVALID_L4_CHECKSUM,
  INVALID_NONE,
  INVALID_NOT_OPENING,
  INVALID_TCP,
  INVALID_UNRELATED,
  TFTP_PORT,
} from '../conntrack/key.js';
import type { Partition } from '../conntrack/partition.js';
import { tcpNew, tcpUpdate, tcpValidNew } from '../conntrack/tcp.js';
import {
  ICMP_FIRST_MS,
  ICMP_REPLY_MS,
  OTHER_BIDIR_MS,
  OTHER_FIRST_MS,
  OTHER_MULTIPLE_MS,
} from '../conntrack/timeouts.js';
import { UPDATE_INVALID, UPDATE_NEW, UPDATE_VALID, UPDATE_VALID_NEW } from '../conntrack/verdict.js';
import { ADDR6, COLD, CONN, STATE_HAS_META } from '../shm/layouts.js';
import type { PacketColumns } from '../shm/packets.js';
import {
  ETH_TYPE_QINQ,
  ETH_TYPE_VLAN,
  extract,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
} from '../wire/extract.js';
import { setWord } from '../wire/rewrite.js';
import { PacketContext, WAIT_COMMIT, WAIT_NONE, WAIT_NORMAL, WAIT_UPCALL } from './context.js';
import {
  FRAME_DATA_OFF,
  FRAME_LEN,
  FRAME_NEXT_CHUNK,
  FRAME_NEXT_OFF,
  FRAME_RECORD_BYTES,
  type FrameStore,
} from './frames.js';
import {
  CT_COMMIT,
  CT_FORCE,
  CT_SET_LABEL,
  CT_SET_MARK,
  DROP_NO_OUTPUT,
  DROP_RECIRC_LIMIT,
  DROP_TOO_SHORT,
  MAX_OUTPUTS,
  OP_CT,
  OP_CT_CLEAR,
  OP_CT_WORDS,
  OP_END,
  OP_NORMAL,
  OP_OUTPUT,
  OP_POP_VLAN,
  OP_PUSH_VLAN,
  OP_RECIRC,
  OP_SET,
} from './program.js';
import { STAT, statOfState } from './stats.js';

const { IN_PORT, RECIRC_ID, CT_STATE, CT_ZONE, CT_MARK, CT_LABEL_0, NW_SRC, NW_DST, NW, TP } = FLOW;
const { VLAN_0, CT_NW_SRC, CT_NW_DST, CT_TP, CT_NW_PROTO, CT_IPV6_SRC_0, IPV6_SRC_0 } = FLOW;
const { SRC, DST, PORTS, ZONE_PROTO, STATE, EXPIRES, PKTS_0, BYTES_0 } = CONN.at;
const { MARK, LABEL_0, CARRY } = COLD.at;
const HOT_SHIFT = CONN.shift;
const COLD_SHIFT = COLD.shift;
const ADDR6_SHIFT = ADDR6.shift;
const EXPIRES_F64 = EXPIRES >> 1;

/** Answer of a control plane that will answer later. */
export const PENDING = -2;
/** Answer to a commit that made no entry: the table is full. */
export const NO_ENTRY = -1;

/** The record that a commit asks for: CONN words, then the addresses of an IPv6 connection. */
export class CommitRequest {
  readonly words = new Int32Array(CONN.words);
  readonly f64 = new Float64Array(this.words.buffer);
  readonly addr6 = new Int32Array(ADDR6.words);
  ipv6 = false;
}

/** The coordinator, as a datapath thread sees it. Each call answers at once or says that it is pending;
 *  then the answer arrives through the context, and `run` is called again. */
export interface ControlPlane {
  /** Translates the packet's key and installs a megaflow; null: pending. */
  upcall(ctx: PacketContext): Int32Array | null;
  /** Slot of the new connection, NO_ENTRY or PENDING. */
  commit(ctx: PacketContext, request: CommitRequest): number;
  /** Fills ctx.answerPorts and sets ctx.answer to a drop reason; false: pending. */
  normal(ctx: PacketContext): boolean;
}

export class Engine {
  readonly partition: Partition;
  readonly megaflows: MegaflowCache;
  readonly stats: Float64Array;
  /** dpctl/ct-{en,dis}able-tcp-seq-chk. */
  checkSequence = true;
  private readonly control: ControlPlane;
  private readonly frames: FrameStore;
  private readonly arenaU8: Uint8Array;
  private readonly arenaView: DataView;
  private readonly packets: PacketColumns;
  private readonly ck = new ConnKey();
  private readonly request = new CommitRequest();

  constructor(
    partition: Partition,
    megaflows: MegaflowCache,
    control: ControlPlane,
    frames: FrameStore,
    arena: SharedArrayBuffer,
    packets: PacketColumns,
    stats: Float64Array,
  ) {
    this.partition = partition;
    this.megaflows = megaflows;
    this.control = control;
    this.frames = frames;
    this.arenaU8 = new Uint8Array(arena);
    this.arenaView = new DataView(arena);
    this.packets = packets;
    this.stats = stats;
  }

  newContext(): PacketContext {
    return new PacketContext(this.arenaView, this.arenaU8);
  }

  /** Takes up the packet in window slot `slot`. */
  begin(ctx: PacketContext, slot: number): void {
    const { packets, stats } = this;
    const len = packets.capLen[slot];
    ctx.begin(slot, this.arenaView, this.arenaU8, packets.off[slot], len, packets.clock[slot]);
    ctx.key[IN_PORT] = packets.inPort[slot];
    stats[STAT.PACKETS]++;
    stats[STAT.BYTES] += len;
  }

  /** Runs the packet on. True when it has its verdict; false when it waits (`ctx.wait` says for what). */
  run(ctx: PacketContext): boolean {
    if (ctx.wait !== WAIT_NONE) {
      const wait = ctx.wait;
      ctx.wait = WAIT_NONE;
      if (wait === WAIT_COMMIT) this.committed(ctx, ctx.answer);
      else if (wait === WAIT_NORMAL) this.switched(ctx);
    }
    for (;;) {
      let program = ctx.program;
      if (program === null) {
        program = this.lookup(ctx);
        if (program === null) return false;
        ctx.program = program;
        ctx.pc = 0;
      }
      const pc = ctx.pc;
      switch (program[pc]) {
        case OP_END:
          // The switch, or a clone, may have given a better reason before.
          if (program[pc + 1] !== DROP_NO_OUTPUT || ctx.reason === 0) ctx.reason = program[pc + 1];
          if (!ctx.pop()) return true;
          this.restoreView(ctx);
          break;
        case OP_OUTPUT:
          ctx.pc = pc + 2;
          this.output(ctx, program[pc + 1]);
          break;
        case OP_SET:
          ctx.pc = pc + 4;
          this.set(ctx, program[pc + 1], program[pc + 2], program[pc + 3]);
          break;
        case OP_PUSH_VLAN:
          ctx.pc = pc + 2;
          this.pushVlan(ctx, program[pc + 1]);
          break;
        case OP_POP_VLAN:
          ctx.pc = pc + 1;
          this.popVlan(ctx);
          break;
        case OP_CT:
          ctx.pc = pc + OP_CT_WORDS;
          if (!this.track(ctx, pc)) return false;
          break;
        case OP_CT_CLEAR:
          ctx.pc = pc + 1;
          clearTracking(ctx);
          break;
        case OP_RECIRC: {
          const id = program[pc + 1];
          ctx.pc = pc + 2;
          if (!ctx.canRecirculate) {
            ctx.reason = DROP_RECIRC_LIMIT;
            if (program[ctx.pc] === OP_END) {
              if (!ctx.pop()) return true;
              this.restoreView(ctx);
            }
            break;
          }
          // The packet goes on after its clone, unless there is nothing left to do.
          if (program[ctx.pc] !== OP_END) ctx.push();
          ctx.key[RECIRC_ID] = id;
          ctx.depth++;
          ctx.passes++;
          ctx.program = null;
          break;
        }
        case OP_NORMAL:
          ctx.pc = pc + 1;
          ctx.foldable = false;
          // The switch looks at the frame as the actions before have left it.
          if (ctx.nFrames > 0) extract(ctx.view, ctx.off, ctx.len, ctx.key, ctx.layout);
          if (!this.control.normal(ctx)) {
            ctx.wait = WAIT_NORMAL;
            return false;
          }
          this.switched(ctx);
          break;
        default:
          throw new Error(`datapath: program has opcode ${program[pc]} at ${pc}`);
      }
    }
  }

  /** The program for the packet's next pass. */
  private lookup(ctx: PacketContext): Int32Array | null {
    extract(ctx.view, ctx.off, ctx.len, ctx.key, ctx.layout);
    if (ctx.len < 14) return TOO_SHORT;
    const hit = this.megaflows.find(ctx.key);
    if (hit !== null) {
      this.stats[STAT.MEGAFLOW_HITS]++;
      if (!hit.foldable) ctx.foldable = false;
      return hit.program;
    }
    ctx.foldable = false;
    const program = this.control.upcall(ctx);
    if (program === null) ctx.wait = WAIT_UPCALL;
    return program;
  }

  private set(ctx: PacketContext, word: number, value: number, mask: number): void {
    const { key } = ctx;
    this.own(ctx);
    if (setWord(ctx.view, ctx.off, ctx.layout, key, word, value, mask)) ctx.conn = -1;
    // A ct() further on in this pass goes by what the frame says now.
    key[word] = (key[word] & ~mask) | value;
  }

  private output(ctx: PacketContext, port: number): void {
    if (ctx.nOuts === 2 * MAX_OUTPUTS) {
      this.stats[STAT.OUTPUTS_CUT]++;
      return;
    }
    ctx.outs[ctx.nOuts++] = port;
    ctx.outs[ctx.nOuts++] = ctx.frame;
    ctx.shared = true;
  }

  private switched(ctx: PacketContext): void {
    const tag = ctx.key[VLAN_0];
    const strip = (tag & 0x1000) !== 0 && (tag & 0x0fff) === 0 && ctx.answerPorts.length > 0;
    // A priority tag is not passed on (ovs-vswitchd.conf.db(5), priority-tags), but actions behind still
    // see it.
    if (strip) {
      ctx.push();
      this.popVlan(ctx);
    }
    for (const port of ctx.answerPorts) this.output(ctx, port);
    ctx.reason = ctx.answer;
    if (strip) {
      ctx.pop();
      this.restoreView(ctx);
    }
  }

  private restoreView(ctx: PacketContext): void {
    if (ctx.chunk < 0) {
      ctx.view = this.arenaView;
      ctx.u8 = this.arenaU8;
    } else {
      const chunk = this.frames.chunks[ctx.chunk];
      ctx.view = chunk.view;
      ctx.u8 = chunk.u8;
    }
  }

  /** Gives the packet a copy of its frame that nothing else refers to. */
  private own(ctx: PacketContext): void {
    if (!ctx.shared) return;
    ctx.foldable = false;
    const { frames } = this;
    frames.allocate(ctx.len);
    const chunk = frames.chunks[frames.chunk];
    const at = frames.record >> 2;
    const off = chunk.words[at + FRAME_DATA_OFF];
    chunk.u8.set(ctx.u8.subarray(ctx.off, ctx.off + ctx.len), off);
    if (ctx.nFrames === 0) {
      ctx.firstChunk = frames.chunk;
      ctx.firstRecord = frames.record;
    } else {
      const last = this.frames.chunks[ctx.lastChunk].words;
      last[(ctx.lastRecord >> 2) + FRAME_NEXT_CHUNK] = frames.chunk;
      last[(ctx.lastRecord >> 2) + FRAME_NEXT_OFF] = frames.record;
    }
    ctx.lastChunk = frames.chunk;
    ctx.lastRecord = frames.record;
    ctx.frame = ++ctx.nFrames;
    ctx.chunk = frames.chunk;
    ctx.record = frames.record;
    ctx.view = chunk.view;
    ctx.u8 = chunk.u8;
    ctx.off = off;
    ctx.shared = false;
  }

  private pushVlan(ctx: PacketContext, tag: number): void {
    if (!ctx.shared && ctx.off - 4 < ctx.record + FRAME_RECORD_BYTES) ctx.shared = true; // no room in front
    this.own(ctx);
    const off = ctx.off - 4;
    ctx.u8.copyWithin(off, ctx.off, ctx.off + 12);
    ctx.view.setInt32(off + 12, tag & ~0x1000);
    this.resize(ctx, off, 4);
  }

  private popVlan(ctx: PacketContext): void {
    const type = ctx.view.getUint16(ctx.off + 12);
    if (ctx.len < 18 || (type !== ETH_TYPE_VLAN && type !== ETH_TYPE_QINQ)) return;
    this.own(ctx);
    ctx.u8.copyWithin(ctx.off + 4, ctx.off, ctx.off + 12);
    this.resize(ctx, ctx.off + 4, -4);
  }

  private resize(ctx: PacketContext, off: number, by: number): void {
    ctx.off = off;
    ctx.len += by;
    if (ctx.layout.l3 >= 0) ctx.layout.l3 += by;
    if (ctx.layout.l4 >= 0) ctx.layout.l4 += by;
    ctx.layout.end += by;
    const { words } = this.frames.chunks[ctx.chunk];
    words[(ctx.record >> 2) + FRAME_DATA_OFF] = off;
    words[(ctx.record >> 2) + FRAME_LEN] = ctx.len;
  }

  // ---- connection tracking ----

  /** OP_CT at `pc`. False if it waits for a commit. */
  private track(ctx: PacketContext, pc: number): boolean {
    const program = ctx.program!;
    const { key, layout } = ctx;
    const { partition, stats, ck } = this;
    const flags = program[pc + 1];
    const zone = program[pc + 2];
    stats[STAT.CT]++;
    if (flags & (CT_FORCE | CT_SET_MARK | CT_SET_LABEL)) ctx.foldable = false;

    // A packet that the last ct() of this zone found a connection for is not run through it again,
    // except on the control ports of helpers.
    if (
      ctx.conn >= 0 &&
      partition.hot[((ctx.conn >> 1) << HOT_SHIFT) + ZONE_PROTO] >>> 16 === zone &&
      !(flags & CT_FORCE) &&
      !onHelperPort(ctx)
    ) {
      key[CT_ZONE] = zone;
      this.readMeta(ctx, ctx.conn >> 1);
      this.writeMeta(ctx, pc, ctx.conn >> 1);
      this.note(ctx);
      return true;
    }

    const invalid =
      ctx.sums === 2
        ? INVALID_L4_CHECKSUM
        : extractConnKey(ctx.view, ctx.off, layout, key, zone, ctx.sums === 1, partition.seed, ck);
    if (invalid !== INVALID_NONE) {
      if (invalid === INVALID_L4_CHECKSUM) ctx.sums = 2;
      if (invalid === INVALID_FRAGMENT) stats[STAT.FRAGMENTS]++;
      ctx.foldable = false;
      this.invalidate(key, invalid);
      key[CT_ZONE] = zone;
      key[CT_STATE] |= CS_TRK;
      clearMeta(key);
      clearOrigTuple(key);
      this.note(ctx);
      return true;
    }
    ctx.sums = 1;

    // A new zone starts afresh.
    if (key[CT_STATE] !== 0 && key[CT_ZONE] !== zone) key[CT_STATE] = 0;

    const now = ctx.now;
    let found = partition.find(
      ck.hash,
      ck.src,
      ck.dst,
      ck.ports,
      ck.zoneProto,
      ck.zoneProtoReply,
      ck.ipv6 ? ck.addr6 : null,
      now,
    );
    if (found >= 0 && flags & CT_FORCE && found & 1) {
      // ct(force) from the other side: the old connection ends here.
      this.expire(found >> 1, now);
      found = -1;
    }

    let create = false;
    let conn = found;
    if (found >= 0) {
      create = this.update(ctx, found);
      if (create || key[CT_STATE] & (CS_INV | CS_REL)) ctx.foldable = false;
      else ctx.trace(found, key[CT_STATE] | CS_TRK);
    } else if (ck.related) {
      ctx.foldable = false;
      this.invalidate(key, INVALID_UNRELATED);
    } else {
      create = true;
    }

    if (create) {
      conn = -1;
      ctx.foldable = false;
      if (!this.opens(ctx)) {
        this.invalidate(key, INVALID_NOT_OPENING);
      } else {
        key[CT_STATE] = CS_NEW;
        if (flags & CT_COMMIT) {
          this.fillRequest(ctx, zone);
          const slot = this.control.commit(ctx, this.request);
          if (slot === PENDING) {
            ctx.wait = WAIT_COMMIT;
            return false;
          }
          this.committed(ctx, slot);
          return true;
        }
      }
    }
    this.finishTracking(ctx, pc, conn, ck.related);
    return true;
  }

  /** The coordinator has answered the commit of the OP_CT just before ctx.pc. */
  private committed(ctx: PacketContext, slot: number): void {
    this.stats[slot >= 0 ? STAT.COMMITS : STAT.COMMITS_FULL]++;
    this.finishTracking(ctx, ctx.pc - OP_CT_WORDS, slot >= 0 ? slot << 1 : -1, false);
  }

  /** Conntrack metadata of the packet, and what ct() was asked to set. */
  private finishTracking(ctx: PacketContext, pc: number, conn: number, related: boolean): void {
    const { key } = ctx;
    key[CT_STATE] |= CS_TRK;
    key[CT_ZONE] = ctx.program![pc + 2];
    ctx.conn = conn;
    if (conn >= 0) {
      this.readMeta(ctx, conn >> 1);
      this.origTupleOfConn(key, conn >> 1);
      this.writeMeta(ctx, pc, conn >> 1);
    } else {
      clearMeta(key);
      if (related) this.origTupleOfKey(key);
      else origTupleOfPacket(key);
    }
    this.note(ctx);
  }

  /** Adds a line to the verdict's `ct`. */
  private note(ctx: PacketContext): void {
    const state = ctx.key[CT_STATE];
    this.stats[statOfState(state)]++;
    ctx.ct[ctx.nCt++] = ctx.key[CT_ZONE];
    ctx.ct[ctx.nCt++] = state;
  }

  private invalidate(key: Int32Array, reason: number): void {
    key[CT_STATE] = CS_INV;
    this.stats[STAT.INVALID_0 + reason]++;
  }

  /** Runs the packet through its connection's state machine. True if it must open a new one. */
  private update(ctx: PacketContext, found: number): boolean {
    const { key, layout } = ctx;
    const { hot, hotF64 } = this.partition;
    const slot = found >> 1;
    const reply = found & 1;
    const { ck } = this;
    if (ck.related) {
      key[CT_STATE] |= reply ? CS_REL | CS_RPL : CS_REL;
      return false;
    }
    const c = slot << HOT_SHIFT;
    let verdict: number;
    if (ck.proto === IPPROTO_TCP) {
      const l4 = ctx.off + layout.l4;
      const payload = layout.end - layout.l4 - ((ctx.view.getUint8(l4 + 12) >>> 4) << 2);
      verdict = tcpUpdate(hot, hotF64, slot, reply, ctx.view, l4, payload, ctx.now, this.checkSequence);
    } else {
      const state = hot[c + STATE];
      let phase = state & 15;
      if (hasIcmpStates(ck.proto)) {
        if (reply) phase = 1;
        verdict = phase === 0 ? UPDATE_VALID_NEW : UPDATE_VALID;
        hotF64[(c >> 1) + EXPIRES_F64] = ctx.now + (phase === 0 ? ICMP_FIRST_MS : ICMP_REPLY_MS);
      } else {
        if (reply) phase = 2;
        else if (phase === 0) phase = 1;
        verdict = phase === 2 ? UPDATE_VALID : UPDATE_VALID_NEW;
        hotF64[(c >> 1) + EXPIRES_F64] = ctx.now + (phase === 2 ? OTHER_BIDIR_MS : OTHER_MULTIPLE_MS);
      }
      hot[c + STATE] = (state & ~15) | phase;
    }
    switch (verdict) {
      case UPDATE_VALID:
        key[CT_STATE] = (key[CT_STATE] & ~CS_NEW) | (reply ? CS_EST | CS_RPL : CS_EST);
        break;
      case UPDATE_VALID_NEW:
        key[CT_STATE] |= CS_NEW;
        break;
      case UPDATE_NEW:
        this.expire(slot, ctx.now);
        return true;
      case UPDATE_INVALID:
        this.invalidate(key, INVALID_TCP);
        return false;
    }
    this.count(slot, reply, layout.end - layout.l3);
    return false;
  }

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
  private expire(slot: number, now: number): void {
    this.stats[STAT.ENDED]++;
    this.partition.hotF64[((slot << HOT_SHIFT) >> 1) + EXPIRES_F64] = now;
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

  private fillRequest(ctx: PacketContext, zone: number): void {
    const { ck, request } = this;
    const { words, f64 } = request;
    words.fill(0);
    words[SRC] = ck.src;
    words[DST] = ck.dst;
    words[PORTS] = ck.ports;
    words[ZONE_PROTO] = (zone << 16) | (ck.zoneProto & 0xffff);
    request.ipv6 = ck.ipv6;
    if (ck.ipv6) request.addr6.set(ck.addr6);
    if (ck.proto === IPPROTO_TCP) {
      const l4 = ctx.off + ctx.layout.l4;
      const size = ctx.layout.end - ctx.layout.l4;
      const payload = size - ((ctx.view.getUint8(l4 + 12) >>> 4) << 2);
      tcpNew(words, f64, 0, ctx.view, l4, payload, ctx.now);
    } else {
      f64[EXPIRES_F64] = ctx.now + (hasIcmpStates(ck.proto) ? ICMP_FIRST_MS : OTHER_FIRST_MS);
    }
    words[PKTS_0] = 1;
    words[BYTES_0] = ctx.layout.end - ctx.layout.l3;
  }

  private readMeta(ctx: PacketContext, slot: number): void {
    const { key } = ctx;
    const { hot, cold } = this.partition;
    if (hot[(slot << HOT_SHIFT) + STATE] & STATE_HAS_META) {
      ctx.foldable = false;
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
    const m = slot << COLD_SHIFT;
    if (flags & CT_SET_MARK) {
      key[CT_MARK] = program[pc + 3] | (key[CT_MARK] & ~program[pc + 4]);
    }
    if (flags & CT_SET_LABEL) {
      for (let i = 0; i < 4; i++) {
        key[CT_LABEL_0 + i] = program[pc + 5 + i] | (key[CT_LABEL_0 + i] & ~program[pc + 9 + i]);
      }
    }
    cold[m + MARK] = key[CT_MARK];
    let any = key[CT_MARK];
    for (let i = 0; i < 4; i++) {
      cold[m + LABEL_0 + i] = key[CT_LABEL_0 + i];
      any |= key[CT_LABEL_0 + i];
    }
    const c = slot << HOT_SHIFT;
    hot[c + STATE] = any !== 0 ? hot[c + STATE] | STATE_HAS_META : hot[c + STATE] & ~STATE_HAS_META;
  }

  private origTupleOfConn(key: Int32Array, slot: number): void {
    const { hot, addr6 } = this.partition;
    const c = slot << HOT_SHIFT;
    const zoneProto = hot[c + ZONE_PROTO];
    const proto = (zoneProto >>> 8) & 0xff;
    const kind = zoneProto & 0xff;
    clearOrigTuple(key);
    key[CT_NW_PROTO] = proto;
    if (kind & 0x80) {
      const a = slot << ADDR6_SHIFT;
      for (let i = 0; i < 8; i++) key[CT_IPV6_SRC_0 + i] = addr6[a + i];
      key[CT_TP] = proto === IPPROTO_ICMPV6 ? kind << 16 : hot[c + PORTS];
    } else {
      key[CT_NW_SRC] = hot[c + SRC];
      key[CT_NW_DST] = hot[c + DST];
      key[CT_TP] = proto === IPPROTO_ICMP ? kind << 16 : hot[c + PORTS];
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

const TOO_SHORT = Int32Array.of(OP_END, DROP_TOO_SHORT);

/** The states of a connection go by its protocol number, also when ICMP comes over the wrong IP version. */
function hasIcmpStates(proto: number): boolean {
  return proto === IPPROTO_ICMP || proto === IPPROTO_ICMPV6;
}

/** ICMP over IPv4 or ICMPv6 over IPv6: the tuple has type and code. */
function isIcmp(ck: ConnKey): boolean {
  return ck.proto === (ck.ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
}

/** FTP and TFTP control ports: the tracker looks at every packet there, helper or not. */
function onHelperPort(ctx: PacketContext): boolean {
  const proto = ctx.key[NW] & 0xff;
  if (proto !== IPPROTO_TCP && proto !== IPPROTO_UDP) return false;
  const l4 = ctx.off + ctx.layout.l4;
  const dport = ctx.view.getUint16(l4 + 2);
  if (proto === IPPROTO_UDP) return dport === TFTP_PORT;
  return dport === FTP_PORT || ctx.view.getUint16(l4) === FTP_PORT;
}

function clearMeta(key: Int32Array): void {
  key[CT_MARK] = 0;
  for (let i = 0; i < 4; i++) key[CT_LABEL_0 + i] = 0;
}

function clearOrigTuple(key: Int32Array): void {
  for (let w = CT_NW_SRC; w < KEY_WORDS; w++) key[w] = 0;
}

function clearTracking(ctx: PacketContext): void {
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
