/** Which bucket of a select group a packet takes: the hashes and choices of OP_DP_HASH, OP_HASH_* and
 *  OP_SELECT_BEST. Private to its engine. */
import { FLOW, KEY_WORDS } from '../classifier/flow-key.js';
import type { PacketColumns } from '../shm/packets.js';
import { ETH_TYPE_ARP, extract, FrameLayout } from '../wire/extract.js';
import { HASH_5TUPLE, hashAdd, hashFinish, hashHeaders, hashInt, swap32 } from '../wire/hash.js';
import type { PacketContext } from './context.js';
import { isCovered } from './microflow.js';

const { DP_HASH, ETH_TYPE } = FLOW;

export class Selector {
  private readonly arena: DataView;
  private readonly key = new Int32Array(KEY_WORDS);
  private readonly layout = new FrameLayout();
  /** For the next choice by score. */
  private hash = 0;

  constructor(arena: DataView) {
    this.arena = arena;
  }

  /** OP_DP_HASH: the hash stays with the packet through all later passes. The one over the 5-tuple is what
   *  a network card would have given with the packet, before any change. */
  dpHash(ctx: PacketContext, which: number, basis: number, packets: PacketColumns): void {
    if (which === HASH_5TUPLE) {
      const { slot } = ctx;
      let key = ctx.key;
      if (ctx.nFrames > 0) {
        key = this.key;
        extract(this.arena, packets.off[slot], packets.capLen[slot], key, this.layout);
      }
      // Of ARP's addresses, of which the keys of the microflow cache say nothing.
      if (key[ETH_TYPE] === ETH_TYPE_ARP) ctx.foldable = false;
      ctx.key[DP_HASH] = hashInt(hashHeaders(key, which, 0), basis);
    } else {
      ctx.key[DP_HASH] = hashHeaders(this.current(ctx), which, basis);
    }
  }

  /** OP_HASH_HEADERS */
  headers(ctx: PacketContext, which: number, basis: number): void {
    this.hash = hashHeaders(this.current(ctx), which, basis);
  }

  /** The headers as they are now: the context's key is as of the start of the pass. */
  private current(ctx: PacketContext): Int32Array {
    if (ctx.nFrames === 0) return ctx.key;
    extract(ctx.view, ctx.off, ctx.len, this.key, this.layout);
    return this.key;
  }

  /** OP_HASH_FIELDS at `pc` */
  fields(ctx: PacketContext, program: Int32Array, pc: number): void {
    const { key } = ctx;
    let hash = program[pc + 2];
    let at = pc + 4;
    for (let n = program[pc + 3]; n > 0; n--) {
      const bytes = program[at++];
      for (let left = bytes; left > 0; left -= 4) {
        let value = program[at++];
        for (let parts = program[at++]; parts > 0; parts--, at += 3) {
          const word = program[at];
          const mask = program[at + 1];
          const shift = program[at + 2];
          if (!isCovered(word, mask)) ctx.foldable = false;
          const bits = key[word] & mask;
          value |= shift >= 0 ? bits << shift : bits >>> -shift;
        }
        hash = hashAdd(hash, swap32(value));
      }
      hash = hashFinish(hash, bytes);
    }
    this.hash = hash;
  }

  /** OP_SELECT_BEST at `pc`: the offset of the bucket with the highest score; of equals the last. Highest
   *  random weight: without a bucket its packets are shared out, and no others move. */
  best(program: Int32Array, pc: number): number {
    let best = 0;
    let bestScore = -1;
    for (let n = program[pc + 1], at = pc + 2; n > 0; n--, at += 3) {
      const score = (hashInt(program[at], this.hash) & 0xffff) * program[at + 1];
      if (score < bestScore) continue;
      best = program[at + 2];
      bestScore = score;
    }
    return best;
  }
}
