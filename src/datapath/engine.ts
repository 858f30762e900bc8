/** The datapath's reference path: one packet at a time, one action at a time, through megaflows, the
 *  connection tracker and recirculation, until it has a verdict or must wait for the coordinator.
 *
 *  `--workers 0` is this engine with a coordinator that answers at once. A worker thread runs the same
 *  engine with a coordinator at the other end of two rings, and parks the packets that wait. */
import * as flowKey from '../classifier/flow-key.js';
import type { MegaflowCache } from '../classifier/megaflow.js';
import * as megaflows from '../classifier/megaflow.js';
import type { Partition } from '../conntrack/partition.js';
import type { PacketColumns } from '../shm/packets.js';
import * as headers from '../wire/extract.js';
import { extract, extractInto, VLAN_LIMIT } from '../wire/extract.js';
import * as waits from './context.js';
import { PacketContext } from './context.js';
import type { ControlPlane } from './control.js';
import { FrameEditor } from './edit.js';
import { Fragments, isFragment } from './fragments.js';
import type { FrameStore } from './frames.js';
import * as opcodes from './program.js';
import { Selector } from './selector.js';
import * as counters from './stats.js';
import { clearTracking, Tracker } from './tracker.js';

// Imported constants are loads from the other module's cells; local ones are folded into the code.
const { FLOW, OFPP_CONTROLLER, OFPP_NORMAL } = flowKey;
const { WAIT_COMMIT, WAIT_FRAGMENT, WAIT_NONE, WAIT_NORMAL, WAIT_UPCALL } = waits;
const {
  DROP_METER,
  DROP_NO_OUTPUT,
  DROP_RECIRC_LIMIT,
  DROP_TOO_SHORT,
  MAX_OUTPUTS,
  OP_CHECK_LEN,
  OP_CLONE,
  OP_CONTROLLER,
  OP_CT,
  OP_CT_CLEAR,
  OP_CT_WORDS,
  OP_DP_HASH,
  OP_END,
  OP_FIN_TIMEOUT,
  OP_HASH_FIELDS,
  OP_HASH_HEADERS,
  OP_LEARN,
  OP_METER,
  OP_NORMAL,
  OP_OUTPUT,
  OP_POP_MPLS,
  OP_POP_VLAN,
  OP_PUSH_MPLS,
  OP_PUSH_VLAN,
  OP_RECIRC,
  OP_SELECT_BEST,
  OP_SELECT_MAP,
  OP_SET,
  OP_STAT,
  OP_TRUNC,
} = opcodes;
const { STAT } = counters;

const { IN_PORT, RECIRC_ID, VLAN_0, DP_HASH, ETH_TYPE } = FLOW;
const { ETH_TYPE_IP, ETH_TYPE_IPV6 } = headers;
const { FOLDS_IP, FOLDS_OTHER } = megaflows;
/** Length of OP_CONTROLLER that stands for the whole frame. */
const SEND_ALL = 0xffff;

export class Engine {
  readonly partition: Partition;
  readonly megaflows: MegaflowCache;
  readonly stats: Float64Array;
  private readonly control: ControlPlane;
  readonly tracker: Tracker;
  private readonly editor: FrameEditor;
  private readonly frames: FrameStore;
  private readonly fragments: Fragments;
  private readonly arenaU8: Uint8Array;
  private readonly arenaView: DataView;
  private readonly packets: PacketColumns;
  private readonly selector: Selector;
  /** VLAN tags that contexts look behind. */
  vlanLimit = VLAN_LIMIT;

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
    this.editor = new FrameEditor(frames, arena);
    this.tracker = new Tracker(partition, control, this.editor, stats);
    this.fragments = new Fragments(control, this.tracker, this.editor, stats);
    this.arenaU8 = new Uint8Array(arena);
    this.arenaView = new DataView(arena);
    this.packets = packets;
    this.selector = new Selector(this.arenaView);
    this.stats = stats;
  }

  newContext(): PacketContext {
    const ctx = new PacketContext(this.arenaView, this.arenaU8);
    ctx.layout.vlanLimit = this.vlanLimit;
    return ctx;
  }

  /** Takes up the packet in window slot `slot`. */
  begin(ctx: PacketContext, slot: number): void {
    const { packets, stats } = this;
    const len = packets.capLen[slot];
    ctx.begin(slot, this.arenaView, this.arenaU8, packets.off[slot], len, packets.clock[slot]);
    ctx.key[IN_PORT] = packets.inPort[slot];
    ctx.seq = packets.seq[slot];
    stats[STAT.PACKETS]++;
    stats[STAT.BYTES] += len;
  }

  /** Makes as if a packet that waits had never been taken up: it goes to another home. */
  forget(ctx: PacketContext): void {
    const { stats } = this;
    ctx.restore(this.partition);
    this.tracker.forget(ctx);
    stats[STAT.PACKETS]--;
    stats[STAT.BYTES] -= this.packets.capLen[ctx.slot];
    for (let i = 0; i < ctx.nCounted; i++) stats[ctx.counted[i]]--;
    if (ctx.nFrames > 0) this.frames.release(ctx.firstChunk, ctx.firstRecord);
  }

  /** Runs the packet on. True when it has its verdict; false when it waits (`ctx.wait` says for what). */
  run(ctx: PacketContext): boolean {
    if (ctx.wait !== WAIT_NONE) {
      const wait = ctx.wait;
      ctx.wait = WAIT_NONE;
      if (wait === WAIT_COMMIT) {
        this.tracker.committed(ctx, ctx.answer);
        if (ctx.datagram !== null) this.fragments.tracked(ctx);
      } else if (wait === WAIT_FRAGMENT) {
        if (!this.fragments.answered(ctx)) return false;
      } else if (wait === WAIT_NORMAL) this.switched(ctx);
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
          this.editor.restoreView(ctx);
          break;
        case OP_STAT:
          ctx.pc = pc + 2;
          ctx.path[ctx.nPath++] = program[pc + 1];
          ctx.path[ctx.nPath++] = ctx.len - this.packets.capLen[ctx.slot];
          break;
        case OP_OUTPUT:
          ctx.pc = pc + 2;
          this.output(ctx, program[pc + 1]);
          break;
        case OP_SET:
          ctx.pc = pc + 4;
          this.editor.set(ctx, program[pc + 1], program[pc + 2], program[pc + 3]);
          break;
        case OP_PUSH_VLAN:
          ctx.pc = pc + 2;
          this.editor.pushVlan(ctx, program[pc + 1]);
          break;
        case OP_POP_VLAN:
          ctx.pc = pc + 1;
          this.editor.popVlan(ctx);
          break;
        case OP_CT:
          ctx.pc = pc + OP_CT_WORDS;
          if (isFragment(ctx) ? !this.fragments.track(ctx) : !this.tracker.track(ctx, pc)) return false;
          break;
        case OP_CT_CLEAR:
          ctx.pc = pc + 1;
          clearTracking(ctx);
          break;
        case OP_RECIRC: {
          const id = program[pc + 1];
          ctx.pc = pc + 3;
          if (!ctx.canRecirculate) {
            ctx.reason = DROP_RECIRC_LIMIT;
            if (program[ctx.pc] === OP_END) {
              if (!ctx.pop()) return true;
              this.editor.restoreView(ctx);
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
        case OP_CLONE:
          // The packet goes on after its clone.
          ctx.pc = pc + 2 + program[pc + 1];
          ctx.push();
          ctx.pc = pc + 2;
          break;
        case OP_CHECK_LEN:
          ctx.foldable = false;
          ctx.pc = pc + 3 + (ctx.len > program[pc + 1] ? 0 : program[pc + 2]);
          break;
        case OP_TRUNC:
          ctx.pc = pc + 2;
          this.truncate(ctx, program[pc + 1]);
          break;
        case OP_CONTROLLER:
          ctx.pc = pc + 4;
          if (program[pc + 1] !== SEND_ALL) this.truncate(ctx, program[pc + 1]);
          this.output(ctx, OFPP_CONTROLLER);
          break;
        case OP_PUSH_MPLS:
          ctx.pc = pc + 3;
          this.editor.pushMpls(ctx, program[pc + 1], program[pc + 2]);
          break;
        case OP_POP_MPLS:
          ctx.pc = pc + 2;
          this.editor.popMpls(ctx, program[pc + 1]);
          break;
        case OP_DP_HASH:
          ctx.pc = pc + 3;
          this.selector.dpHash(ctx, program[pc + 1], program[pc + 2], this.packets);
          break;
        case OP_HASH_HEADERS:
          ctx.pc = pc + 3;
          this.selector.headers(ctx, program[pc + 1], program[pc + 2]);
          break;
        case OP_HASH_FIELDS:
          ctx.pc = pc + program[pc + 1];
          this.selector.fields(ctx, program, pc);
          break;
        case OP_SELECT_MAP:
          ctx.pc = pc + program[pc + 2 + (ctx.key[DP_HASH] & (program[pc + 1] - 1))];
          break;
        case OP_SELECT_BEST:
          ctx.pc = pc + this.selector.best(program, pc);
          break;
        case OP_NORMAL:
          ctx.pc = pc + 1;
          // The switch looks at the frame as the actions before have left it.
          if (ctx.nFrames > 0) extract(ctx.view, ctx.off, ctx.len, ctx.key, ctx.layout);
          if (!this.control.normal(ctx)) {
            ctx.foldable = false;
            ctx.wait = WAIT_NORMAL;
            return false;
          }
          // Only if that has been left to the collector, the verdict is the same for other packets.
          if (ctx.answerPorts[0] !== OFPP_NORMAL) ctx.foldable = false;
          this.switched(ctx);
          break;
        case OP_LEARN:
        case OP_FIN_TIMEOUT:
          ctx.pc = pc + 2;
          this.control.change(ctx, program[pc + 1]);
          break;
        case OP_METER:
          ctx.foldable = false;
          ctx.pc = pc + 2;
          if (this.control.meter(ctx, program[pc + 1])) break;
          ctx.reason = DROP_METER;
          if (!ctx.pop()) return true;
          this.editor.restoreView(ctx);
          break;
        default:
          throw new Error(`datapath: program has opcode ${program[pc]} at ${pc}`);
      }
    }
  }

  /** The program for the packet's next pass. */
  private lookup(ctx: PacketContext): Int32Array | null {
    if (!ctx.parsed) {
      extractInto(ctx.view, ctx.off, ctx.len, ctx.key, ctx.layout);
      ctx.parsed = true;
    } else if (ctx.nFrames > 0) {
      // Something may have changed the frame since.
      extract(ctx.view, ctx.off, ctx.len, ctx.key, ctx.layout);
    }
    if (ctx.len < 14) return TOO_SHORT;
    const hit = this.megaflows.find(ctx.key);
    if (hit !== null) {
      this.stats[STAT.MEGAFLOW_HITS]++;
      const type = ctx.key[ETH_TYPE];
      const folds = type === ETH_TYPE_IP || type === ETH_TYPE_IPV6 ? FOLDS_IP : FOLDS_OTHER;
      if ((hit.folds & folds) === 0) ctx.foldable = false;
      hit.bytes += ctx.len;
      hit.used = ctx.now;
      ctx.megaflows[ctx.nMegaflows++] = hit;
      return hit.program;
    }
    ctx.foldable = false;
    const program = this.control.upcall(ctx);
    if (program === null) ctx.wait = WAIT_UPCALL;
    return program;
  }

  private truncate(ctx: PacketContext, bytes: number): void {
    ctx.foldable = false;
    ctx.cut = Math.max(0, ctx.len - bytes);
  }

  private output(ctx: PacketContext, port: number): void {
    if (ctx.nOuts === 2 * MAX_OUTPUTS) {
      ctx.count(this.stats, STAT.OUTPUTS_CUT);
      return;
    }
    if (ctx.cut > 0) {
      const { cut } = ctx;
      ctx.cut = 0;
      ctx.push();
      this.editor.cut(ctx, ctx.len - cut);
      ctx.outs[ctx.nOuts++] = port;
      ctx.outs[ctx.nOuts++] = ctx.frame;
      ctx.pop();
      this.editor.restoreView(ctx);
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
      this.editor.popVlan(ctx);
    }
    for (const port of ctx.answerPorts) this.output(ctx, port);
    ctx.reason = ctx.answer;
    if (strip) {
      ctx.pop();
      this.editor.restoreView(ctx);
    }
  }
}

const TOO_SHORT = Int32Array.of(OP_END, DROP_TOO_SHORT);
