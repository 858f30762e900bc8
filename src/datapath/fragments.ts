/** ct() of a fragment: asks the coordinator, which holds fragments until their datagram is complete
 *  (conntrack/ipf.ts); runs the datagram through the tracker; and lets all its fragments go on with the
 *  program of the one that completed it, in the state that the datagram got.
 *
 *  The datagram is a frame that only the tracker sees. What translation changes in it is carried over to the
 *  fragments: addresses to all, the rest to the first. */
import { FLOW, FRAG_ANY, KEY_WORDS } from '../classifier/flow-key.js';
import { FRAGMENT_COMPLETES, FRAGMENT_HELD, FRAGMENT_INVALID, type Fragment } from '../conntrack/ipf.js';
import { INVALID_FRAGMENT } from '../conntrack/key.js';
import { checksum, sum } from '../wire/checksum.js';
import { ETH_TYPE_IP, FrameLayout, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP } from '../wire/extract.js';
import { type PacketContext, WAIT_FRAGMENT } from './context.js';
import type { ControlPlane } from './control.js';
import type { FrameEditor } from './edit.js';
import { DROP_FRAGMENT_HELD, OP_CT_WORDS, OP_END } from './program.js';
import { STAT } from './stats.js';
import type { Tracker } from './tracker.js';

const { CT_STATE, CT_NW_SRC, CT_LABEL_3, ETH_TYPE, NW_SRC, IPV6_SRC_0, NW, TP } = FLOW;
const FRAG_MASK = 0xff000000 | 0;

const HELD = Int32Array.of(OP_END, DROP_FRAGMENT_HELD);

/** A fragment of the datagram in hand, with its frame in the frame store or, if it is the one that came
 *  last, wherever it was. */
interface Part {
  readonly key: Int32Array;
  readonly layout: FrameLayout;
  frame: number;
  chunk: number;
  record: number;
  off: number;
  len: number;
  shared: boolean;
}

/** A datagram on its way through the tracker. */
export interface Datagram {
  readonly parts: readonly Part[];
  /** Its bytes as they came. */
  readonly before: Uint8Array;
  readonly layout: FrameLayout;
}

/** Whether the packet is a fragment that can be told from others. */
export function isFragment(ctx: PacketContext): boolean {
  return ((ctx.key[NW] >>> 24) & FRAG_ANY) !== 0 && ctx.layout.l4 >= 0;
}

export class Fragments {
  private readonly control: ControlPlane;
  private readonly tracker: Tracker;
  private readonly editor: FrameEditor;
  private readonly stats: Float64Array;

  constructor(control: ControlPlane, tracker: Tracker, editor: FrameEditor, stats: Float64Array) {
    this.control = control;
    this.tracker = tracker;
    this.editor = editor;
    this.stats = stats;
  }

  /** OP_CT of a fragment, just before ctx.pc. False if the packet waits. */
  track(ctx: PacketContext): boolean {
    ctx.foldable = false;
    this.stats[STAT.FRAGMENTS]++;
    if (!this.control.fragment(ctx, zoneOf(ctx))) {
      ctx.wait = WAIT_FRAGMENT;
      return false;
    }
    return this.answered(ctx);
  }

  /** The coordinator has answered: ctx.answer and ctx.fragments. False if the packet waits again. */
  answered(ctx: PacketContext): boolean {
    switch (ctx.answer) {
      case FRAGMENT_HELD:
        this.hold(ctx);
        return true;
      case FRAGMENT_COMPLETES:
        this.assemble(ctx, ctx.fragments);
        ctx.fragments = [];
        if (!this.tracker.track(ctx, ctx.pc - OP_CT_WORDS)) return false;
        this.tracked(ctx);
        return true;
      case FRAGMENT_INVALID:
        this.stats[STAT.CT]++;
        this.tracker.reject(ctx, zoneOf(ctx), INVALID_FRAGMENT);
        return true;
      default:
        return this.tracker.track(ctx, ctx.pc - OP_CT_WORDS);
    }
  }

  /** The tracker is done with the datagram: its fragments go on, the first one now. */
  tracked(ctx: PacketContext): void {
    const { parts, before, layout } = ctx.datagram as Datagram;
    const after = ctx.u8.subarray(ctx.off, ctx.off + ctx.len);
    const result = ctx.key.slice();
    ctx.datagram = null;
    if (Buffer.compare(before, after) !== 0) {
      const ipv4 = result[ETH_TYPE] === ETH_TYPE_IP;
      for (const part of parts) this.translate(ctx, part, part === parts[0], after, layout, ipv4);
    }
    ctx.conn = -1;
    ctx.sums = 0;
    for (let i = parts.length - 1; i >= 0; i--) {
      this.load(ctx, parts[i]);
      ctx.key.set(result.subarray(CT_STATE, CT_LABEL_3 + 1), CT_STATE);
      ctx.key.set(result.subarray(CT_NW_SRC, KEY_WORDS), CT_NW_SRC);
      if (i > 0) ctx.push();
    }
    this.stats[STAT.REASSEMBLED]++;
  }

  /** The packet ends here, for now. */
  private hold(ctx: PacketContext): void {
    this.stats[STAT.FRAGMENTS_HELD]++;
    ctx.program = HELD;
    ctx.pc = 0;
  }

  /** Puts the datagram in the packet's place. */
  private assemble(ctx: PacketContext, fragments: readonly Fragment[]): void {
    const arrived = partOf(ctx, ctx.key, ctx.layout);
    const parts = fragments.map(({ bytes, key, layout }) => {
      if (bytes === null) return arrived;
      this.editor.copy(ctx, bytes, 0, bytes.length);
      return partOf(ctx, key, layout);
    });
    const first = parts[0];
    const ipv4 = first.key[ETH_TYPE] === ETH_TYPE_IP;
    const { l3 } = first.layout;
    // Without the extension headers of IPv6: nothing here depends on them.
    const l4 = ipv4 ? first.layout.l4 : l3 + 40;
    const end = parts.reduce((n, { layout }) => n + layout.end - layout.l4, l4);
    const u8 = new Uint8Array(end);
    const view = new DataView(u8.buffer);
    let at = l4;
    for (const part of parts) {
      this.load(ctx, part);
      const { layout, off } = part;
      if (part === first) u8.set(ctx.u8.subarray(off, off + l4));
      u8.set(ctx.u8.subarray(off + layout.l4, off + layout.end), at);
      at += layout.end - layout.l4;
    }
    if (ipv4) {
      view.setUint16(l3 + 2, end - l3);
      view.setUint16(l3 + 6, view.getUint16(l3 + 6) & 0xc000);
      sumHeader(view, l3, l4);
    } else {
      view.setUint16(l3 + 4, end - l4);
      view.setUint8(l3 + 6, first.key[NW] & 0xff);
    }
    const layout = new FrameLayout();
    layout.l3 = l3;
    layout.l4 = l4;
    layout.end = end;
    ctx.key.set(first.key);
    ctx.key[NW] &= ~FRAG_MASK;
    ctx.layout.copy(layout);
    this.editor.copy(ctx, u8, 0, end);
    ctx.conn = -1;
    ctx.sums = 0;
    ctx.datagram = { parts, before: u8, layout };
  }

  /** Carries over to a fragment what translation changed in the datagram, whose bytes are now `after`. */
  private translate(
    ctx: PacketContext,
    part: Part,
    isFirst: boolean,
    after: Uint8Array,
    whole: FrameLayout,
    ipv4: boolean,
  ): void {
    this.load(ctx, part);
    this.editor.own(ctx);
    const { l3, l4, end } = part.layout;
    const [from, bytes, word] = ipv4 ? [12, 8, NW_SRC] : [8, 32, IPV6_SRC_0];
    const { u8, view, off } = ctx;
    u8.set(after.subarray(whole.l3 + from, whole.l3 + from + bytes), off + l3 + from);
    if (ipv4) sumHeader(view, off + l3, off + l4);
    for (let i = 0; i < bytes >> 2; i++) part.key[word + i] = view.getInt32(off + l3 + from + i * 4);
    if (isFirst) {
      u8.set(after.subarray(whole.l4, Math.min(after.length, whole.l4 + end - l4)), off + l4);
      if (hasPorts(part.key[NW] & 0xff)) part.key[TP] = view.getInt32(off + l4);
    }
    part.frame = ctx.frame;
    part.chunk = ctx.chunk;
    part.record = ctx.record;
    part.off = ctx.off;
    part.shared = false;
  }

  private load(ctx: PacketContext, part: Part): void {
    ctx.key.set(part.key);
    ctx.layout.copy(part.layout);
    ctx.frame = part.frame;
    ctx.chunk = part.chunk;
    ctx.record = part.record;
    ctx.off = part.off;
    ctx.len = part.len;
    ctx.shared = part.shared;
    this.editor.restoreView(ctx);
  }
}

/** Zone of the OP_CT before ctx.pc. */
function zoneOf(ctx: PacketContext): number {
  return ctx.program![ctx.pc - OP_CT_WORDS + 2];
}

/** The packet as it is, with a key and a layout of its own. */
function partOf(ctx: PacketContext, key: Int32Array, layout: FrameLayout): Part {
  const own = new FrameLayout();
  own.copy(layout);
  const { frame, chunk, record, off, len, shared } = ctx;
  return { key: key.slice(), layout: own, frame, chunk, record, off, len, shared };
}

function sumHeader(view: DataView, l3: number, l4: number): void {
  view.setUint16(l3 + 10, 0);
  view.setUint16(l3 + 10, checksum(sum(view, l3, l4 - l3)));
}

function hasPorts(proto: number): boolean {
  return proto === IPPROTO_TCP || proto === IPPROTO_UDP || proto === IPPROTO_SCTP;
}
