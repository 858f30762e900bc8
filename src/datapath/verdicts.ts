/** Verdict templates: what a verdict says apart from the packet. Many packets share one, so a worker
 *  numbers them, tells the collector each one once, and then writes only the number per packet.
 *
 *  A template as words: n, n times (zone, ct_state), m, m times (port, frame ordinal), drop reason; then,
 *  to the end, the stat points that the packet went by: (stat point, bytes of its frame beyond the captured
 *  ones). */
import * as flowKey from '../classifier/flow-key.js';
import type { PacketContext } from './context.js';
import * as opcodes from './program.js';
import * as counters from './stats.js';
import { statOfState } from './stats.js';

// Imported constants are loads from the other module's cells; local ones are folded into the code.
const { OFPP_CONTROLLER } = flowKey;
const { DROP_CONTROLLER, DROP_NO_OUTPUT } = opcodes;
const { STAT } = counters;

/** A power of two. */
const RECENT = 256;

export class VerdictTable {
  private readonly templates: Int32Array[] = [];
  private heads = new Int32Array(64).fill(-1);
  private next = new Int32Array(64);
  private hashes = new Int32Array(64);
  private scratch = new Int32Array(256);
  /** Templates met of late, by what mostly tells them apart: most packets are like one before. */
  private readonly recent = new Int32Array(RECENT).fill(-1);

  /** Number of the packet's template. When that is `size` from before, the template is new. */
  intern(ctx: PacketContext): number {
    const { nPath, nCt } = ctx;
    let at = Math.imul(nPath, 5) + nCt + ctx.nOuts;
    if (nPath > 0) at += ctx.path[nPath - 2] << 2;
    if (nCt > 0) at ^= ctx.ct[nCt - 1];
    at &= RECENT - 1;
    const last = this.recent[at];
    if (last >= 0 && this.same(ctx, this.templates[last])) return last;
    const id = this.find(ctx);
    this.recent[at] = id;
    return id;
  }

  /** Whether the packet's template is this one. */
  private same(ctx: PacketContext, t: Int32Array): boolean {
    const { ct, outs, path, nCt, nOuts, nPath } = ctx;
    if (t.length !== nCt + nOuts + 3 + nPath || t[0] << 1 !== nCt) return false;
    let at = 1;
    for (let i = 0; i < nCt; i++) if (t[at++] !== ct[i]) return false;
    if (t[at++] << 1 !== nOuts) return false;
    for (let i = 0; i < nOuts; i++) if (t[at++] !== outs[i]) return false;
    if (t[at++] !== reasonOf(ctx)) return false;
    for (let i = 0; i < nPath; i++) if (t[at++] !== path[i]) return false;
    return true;
  }

  private find(ctx: PacketContext): number {
    const n = this.encode(ctx);
    const { scratch } = this;
    let hash = n;
    for (let i = 0; i < n; i++) hash = (Math.imul(hash ^ scratch[i], 0x9e3779b1 | 0) >>> 7) ^ scratch[i];
    let bucket = hash & (this.heads.length - 1);
    for (let id = this.heads[bucket]; id >= 0; id = this.next[id]) {
      const t = this.templates[id];
      if (t.length !== n) continue;
      let i = 0;
      while (i < n && t[i] === scratch[i]) i++;
      if (i === n) return id;
    }
    const id = this.templates.push(scratch.slice(0, n)) - 1;
    if (id >= this.next.length) {
      this.grow();
      bucket = hash & (this.heads.length - 1);
    }
    this.hashes[id] = hash;
    this.next[id] = this.heads[bucket];
    this.heads[bucket] = id;
    return id;
  }

  /** Doubles the table: as many chains as templates at most. */
  private grow(): void {
    const size = this.next.length * 2;
    const hashes = new Int32Array(size);
    hashes.set(this.hashes);
    this.hashes = hashes;
    this.heads = new Int32Array(size).fill(-1);
    this.next = new Int32Array(size);
    for (let id = 0; id < size / 2; id++) {
      const bucket = hashes[id] & (size - 1);
      this.next[id] = this.heads[bucket];
      this.heads[bucket] = id;
    }
  }

  get size(): number {
    return this.templates.length;
  }

  /** Adds what `n` packets with this template did in ct() to counters. */
  account(id: number, n: number, stats: Float64Array): void {
    const t = this.templates[id];
    for (let i = 0; i < t[0]; i++) {
      stats[STAT.CT] += n;
      stats[statOfState(t[2 + 2 * i])] += n;
    }
  }

  template(id: number): Int32Array {
    return this.templates[id];
  }

  private encode(ctx: PacketContext): number {
    const { ct, outs, path, nCt, nOuts, nPath } = ctx;
    const n = nCt + nOuts + 3 + nPath;
    if (n > this.scratch.length) this.scratch = new Int32Array(n * 2);
    const { scratch } = this;
    let at = 0;
    scratch[at++] = nCt >> 1;
    for (let i = 0; i < nCt; i++) scratch[at++] = ct[i];
    scratch[at++] = nOuts >> 1;
    for (let i = 0; i < nOuts; i++) scratch[at++] = outs[i];
    scratch[at++] = reasonOf(ctx);
    for (let i = 0; i < nPath; i++) scratch[at++] = path[i];
    return n;
  }
}

/** Why no port got the packet, or 0. */
function reasonOf(ctx: PacketContext): number {
  const { outs, nOuts, reason } = ctx;
  for (let i = 0; i < nOuts; i += 2) if (outs[i] !== OFPP_CONTROLLER) return 0;
  return nOuts > 0 && reason === DROP_NO_OUTPUT ? DROP_CONTROLLER : reason;
}
