/** Changes to a packet's frame. The captured frame is never written to: the first change copies it into
 *  the worker's frame store (see frames.ts). */
import { FLOW } from '../classifier/flow-key.js';
import { record } from '../shm/record.js';
import { fold } from '../wire/checksum.js';
import * as headers from '../wire/extract.js';
import { type FrameLayout, isMpls } from '../wire/extract.js';
import { setIcmpId, setWord, translateWord6 } from '../wire/rewrite.js';
import type { PacketContext } from './context.js';
import type { FrameStore } from './frames.js';
import * as records from './frames.js';

// Imported constants are loads from the other module's cells; local ones are folded into the code.
const { ETH_TYPE_QINQ, ETH_TYPE_VLAN, MPLS_BOS } = headers;
const { ETH_DST_HI, ETH_SRC_LO, NW_SRC, NW_DST, NW, TP } = FLOW;
const { FRAME_DATA_OFF, FRAME_LEN, FRAME_NEXT_CHUNK, FRAME_NEXT_OFF, FRAME_RECORD_BYTES } = records;

/** Changes to a frame, written down so that a microflow entry can make them again: words `kind | argument << 8`
 *  and what follows. `EDIT_WORD|word value`: a whole flow key word. */
export const EDIT_WORD = 0;
/** `EDIT_BITS|word value mask` */
export const EDIT_BITS = 1;
/** `EDIT_ICMP_ID id` */
export const EDIT_ICMP_ID = 2;
/** `EDIT_SOURCE6|protocol address[4]`, `EDIT_DESTINATION6|protocol address[4]`: translation of an IPv6 address
 *  of a connection of that protocol. */
export const EDIT_SOURCE6 = 3;
export const EDIT_DESTINATION6 = 4;

/** Changes to the header of a TCP or UDP packet over IPv4 that is known but for its TTL, length and checksums, put
 *  together: what its fields become, and by what its checksums change (RFC 1624), folded. */
export const PATCH = record(
  'FIELDS', // PATCH_* of those that change, addresses and ports apart
  'ETH_0',
  'ETH_1',
  'ETH_2',
  'TOS',
  'SRC',
  'DST',
  'TP',
  'IP_SUM',
  'L4_SUM',
);
export const PATCH_ETH = 1;
export const PATCH_TOS = 2;

const P = PATCH.at;
const [P_ETH_0, P_ETH_1, P_ETH_2, P_TOS, P_SRC] = [P.ETH_0, P.ETH_1, P.ETH_2, P.TOS, P.SRC];
const [P_DST, P_TP, P_IP_SUM, P_L4_SUM] = [P.DST, P.TP, P.IP_SUM, P.L4_SUM];

/** Puts the changes `edits[0..n)` together, beginning with the PATCH at word `p`, which has the packet's own fields
 *  and no sums. False if it can't have the same effect as `applyEdits`. */
export function compilePatch(patch: Int32Array, p: number, edits: Int32Array, n: number): boolean {
  let ip = 0;
  let l4 = 0;
  for (let at = 0; at < n; ) {
    const kind = edits[at] & 0xff;
    const word = edits[at] >>> 8;
    if (kind !== WORD && kind !== BITS) return false;
    const mask = kind === WORD ? -1 : edits[at + 2];
    const value = edits[at + 1];
    at += kind === WORD ? 2 : 3;
    if (word >= ETH_DST_HI && word <= ETH_SRC_LO) {
      const w = p + P.ETH_0 + word - ETH_DST_HI;
      patch[w] = (patch[w] & ~mask) | value;
      patch[p] |= PATCH_ETH;
    } else if (word === NW_SRC || word === NW_DST) {
      const w = p + (word === NW_SRC ? P.SRC : P.DST);
      const from = patch[w];
      const to = (from & ~mask) | value;
      if (from === to) continue;
      patch[w] = to;
      ip = fold(ip + difference32(from, to));
      l4 = fold(l4 + difference32(from, to));
    } else if (word === TP) {
      const from = patch[p + P.TP];
      const to = (from & ~mask) | value;
      patch[p + P.TP] = to;
      l4 = fold(l4 + difference32(from, to));
    } else if (word === NW && (mask & ~0x00ff0000) === 0) {
      const from = patch[p + P.TOS];
      const to = (from & ~(mask >>> 16)) | (value >>> 16);
      if (from === to) continue;
      patch[p + P.TOS] = to;
      patch[p] |= PATCH_TOS;
      ip = fold(ip + (~from & 0xffff) + to);
    } else {
      return false;
    }
  }
  patch[p + P.IP_SUM] = ip;
  patch[p + P.L4_SUM] = l4;
  return true;
}

/** What a 32-bit word that goes `from` … `to` adds to a sum (RFC 1624, equation 3). */
function difference32(from: number, to: number): number {
  return (~from >>> 16) + (~from & 0xffff) + (to >>> 16) + (to & 0xffff);
}

/** Makes the changes of the PATCH at word `p` to the frame at `to`, which has its IPv4 header at `l3` and its TCP (or
 *  UDP) header at `l4`. */
export function applyPatch(
  view: DataView,
  to: number,
  l3: number,
  l4: number,
  tcp: boolean,
  patch: Int32Array,
  p: number,
): void {
  const fields = patch[p];
  if (fields !== 0) {
    if (fields & PATCH_ETH) {
      view.setInt32(to, patch[p + P_ETH_0]);
      view.setInt32(to + 4, patch[p + P_ETH_1]);
      view.setInt32(to + 8, patch[p + P_ETH_2]);
    }
    if (fields & PATCH_TOS) view.setUint8(l3 + 1, patch[p + P_TOS]);
  }
  view.setInt32(l3 + 12, patch[p + P_SRC]);
  view.setInt32(l3 + 16, patch[p + P_DST]);
  view.setInt32(l4, patch[p + P_TP]);
  const ip = (~view.getUint16(l3 + 10) & 0xffff) + patch[p + P_IP_SUM];
  view.setUint16(l3 + 10, ~((ip & 0xffff) + (ip >>> 16)));
  const at = tcp ? l4 + 16 : l4 + 6;
  const field = view.getUint16(at);
  // UDP: zero means that the sender computed none (RFC 768); a computed zero is sent as all ones.
  if (field === 0 && !tcp) return;
  const sum = (~field & 0xffff) + patch[p + P_L4_SUM];
  const checksum = ~((sum & 0xffff) + (sum >>> 16)) & 0xffff;
  view.setUint16(at, checksum === 0 && !tcp ? 0xffff : checksum);
}

const [WORD, BITS, ICMP_ID, SOURCE6] = [EDIT_WORD, EDIT_BITS, EDIT_ICMP_ID, EDIT_SOURCE6];

/** Makes the changes in `edits[from..from+n)` to the frame at `off`; of `key`, ETH_TYPE and the protocol in NW
 *  count. */
export function applyEdits(
  view: DataView,
  off: number,
  layout: FrameLayout,
  key: Int32Array,
  edits: Int32Array,
  from: number,
  n: number,
): void {
  const end = from + n;
  for (let at = from; at < end; ) {
    const kind = edits[at] & 0xff;
    const argument = edits[at] >>> 8;
    if (kind === WORD) {
      setWord(view, off, layout, key, argument, edits[at + 1], -1);
      at += 2;
    } else if (kind === BITS) {
      setWord(view, off, layout, key, argument, edits[at + 1], edits[at + 2]);
      at += 3;
    } else if (kind === ICMP_ID) {
      setIcmpId(view, off + layout.l4, edits[at + 1]);
      at += 2;
    } else {
      const to = kind === SOURCE6 ? 8 : 24;
      const size = layout.end - layout.l4;
      for (let i = 0; i < 4; i++) {
        translateWord6(
          view,
          off + layout.l3 + to + i * 4,
          off + layout.l4,
          size,
          argument,
          edits[at + 1 + i],
        );
      }
      at += 5;
    }
  }
}

export class FrameEditor {
  private readonly frames: FrameStore;
  private readonly arenaU8: Uint8Array;
  private readonly arenaView: DataView;

  constructor(frames: FrameStore, arena: SharedArrayBuffer) {
    this.frames = frames;
    this.arenaU8 = new Uint8Array(arena);
    this.arenaView = new DataView(arena);
  }

  /** Writes header bits of a flow key word. */
  set(ctx: PacketContext, word: number, value: number, mask: number): void {
    const { key } = ctx;
    this.claim(ctx);
    ctx.edited((mask === -1 ? WORD : BITS) | (word << 8));
    ctx.edited(value);
    if (mask !== -1) ctx.edited(mask);
    if (setWord(ctx.view, ctx.off, ctx.layout, key, word, value, mask)) ctx.conn = -1;
    // A ct() further on in this pass goes by what the frame says now.
    key[word] = (key[word] & ~mask) | value;
  }

  restoreView(ctx: PacketContext): void {
    if (ctx.chunk < 0) {
      ctx.view = this.arenaView;
      ctx.u8 = this.arenaU8;
    } else {
      const chunk = this.frames.chunks[ctx.chunk];
      ctx.view = chunk.view;
      ctx.u8 = chunk.u8;
    }
  }

  /** Gives the packet a copy of its frame that nothing else refers to, for a change that is written down
   *  (`PacketContext.edited`). */
  claim(ctx: PacketContext): void {
    if (ctx.shared) this.copy(ctx, ctx.u8, ctx.off, ctx.len);
  }

  /** The same for any change, with `room` bytes left behind. */
  own(ctx: PacketContext, room = 0): void {
    ctx.foldable = false;
    if (ctx.shared) this.copy(ctx, ctx.u8, ctx.off, ctx.len, room);
  }

  /** Makes a copy of these bytes the packet's frame, with `room` bytes left behind. */
  copy(ctx: PacketContext, from: Uint8Array, fromOff: number, len: number, room = 0): void {
    const { frames } = this;
    frames.allocate(len + room);
    const chunk = frames.chunks[frames.chunk];
    const at = frames.record >> 2;
    const off = chunk.words[at + FRAME_DATA_OFF];
    chunk.u8.set(from.subarray(fromOff, fromOff + len), off);
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
    ctx.len = len;
    ctx.shared = false;
  }

  /** Puts `text` in the place of the `size` bytes that begin `at` bytes into the frame. */
  splice(ctx: PacketContext, at: number, size: number, text: string): void {
    const by = text.length - size;
    if (by > 0) ctx.shared = true; // no room behind
    this.own(ctx, Math.max(by, 0));
    const { u8, off } = ctx;
    u8.copyWithin(off + at + text.length, off + at + size, off + ctx.len);
    for (let i = 0; i < text.length; i++) u8[off + at + i] = text.charCodeAt(i);
    ctx.len += by;
    ctx.layout.end += by;
    this.frames.chunks[ctx.chunk].words[(ctx.record >> 2) + FRAME_LEN] = ctx.len;
  }

  pushVlan(ctx: PacketContext, tag: number): void {
    this.ownWithRoom(ctx);
    const off = ctx.off - 4;
    ctx.u8.copyWithin(off, ctx.off, ctx.off + 12);
    ctx.view.setInt32(off + 12, tag & ~0x1000);
    this.resize(ctx, off, 4);
  }

  popVlan(ctx: PacketContext): void {
    const type = ctx.view.getUint16(ctx.off + 12);
    if (ctx.len < 18 || (type !== ETH_TYPE_VLAN && type !== ETH_TYPE_QINQ)) return;
    this.own(ctx);
    ctx.u8.copyWithin(ctx.off + 4, ctx.off, ctx.off + 12);
    this.resize(ctx, ctx.off + 4, -4);
  }

  /** Puts a label stack entry in front of the label stack, or behind the VLAN tags if there is none; the
   *  frame's EtherType becomes `ethType`, one of MPLS. What a later action of this pass changes in the IP
   *  packet is still changed behind the labels. */
  pushMpls(ctx: PacketContext, entry: number, ethType: number): void {
    if (!isMpls(ethType)) return;
    this.ownWithRoom(ctx);
    const { layout } = ctx;
    if (layout.mpls < 0) layout.mpls = layout.l3;
    const { mpls } = layout;
    this.setEthType(ctx, ethType);
    const off = ctx.off - 4;
    ctx.u8.copyWithin(off, ctx.off, ctx.off + mpls);
    ctx.view.setInt32(off + mpls, entry);
    this.resize(ctx, off, 4);
    layout.mpls = mpls;
    ctx.conn = -1;
  }

  /** Takes the outermost label stack entry away and makes `ethType` the frame's EtherType. */
  popMpls(ctx: PacketContext, ethType: number): void {
    const { layout } = ctx;
    const { mpls } = layout;
    if (mpls < 0 || layout.l3 - mpls < 4) return;
    this.own(ctx);
    this.setEthType(ctx, ethType);
    const bottom = (ctx.view.getInt32(ctx.off + mpls) & MPLS_BOS) !== 0;
    ctx.u8.copyWithin(ctx.off + 4, ctx.off, ctx.off + mpls);
    this.resize(ctx, ctx.off + 4, -4);
    layout.mpls = bottom ? -1 : mpls;
  }

  /** The EtherType in front of the label stack: the last one of a tagged frame. */
  private setEthType(ctx: PacketContext, ethType: number): void {
    const { layout } = ctx;
    const outer = ctx.view.getUint16(ctx.off + 12);
    const tagged = outer === ETH_TYPE_VLAN || outer === ETH_TYPE_QINQ;
    const at = tagged ? (layout.mpls >= 0 ? layout.mpls : layout.l3) - 2 : 12;
    ctx.view.setUint16(ctx.off + at, ethType);
  }

  /** `own`, with room in front for four more bytes. */
  private ownWithRoom(ctx: PacketContext): void {
    if (!ctx.shared && ctx.off - 4 < ctx.record + FRAME_RECORD_BYTES) ctx.shared = true;
    this.own(ctx);
  }

  /** Gives the packet a copy of the first `len` bytes of its frame. */
  cut(ctx: PacketContext, len: number): void {
    ctx.shared = true;
    this.own(ctx);
    ctx.len = len;
    this.frames.chunks[ctx.chunk].words[(ctx.record >> 2) + FRAME_LEN] = len;
  }

  private resize(ctx: PacketContext, off: number, by: number): void {
    ctx.off = off;
    ctx.len += by;
    ctx.layout.move(by);
    const { words } = this.frames.chunks[ctx.chunk];
    words[(ctx.record >> 2) + FRAME_DATA_OFF] = off;
    words[(ctx.record >> 2) + FRAME_LEN] = ctx.len;
  }
}
