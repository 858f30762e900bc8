/** Whether the packets of a pipeline may be shared out among workers.
 *
 *  - parallel: every packet's verdict depends on its own connection and what its home knows.
 *  - steered: a packet may come back as another connection of the one zone that there is. Connections bring the
 *    packets of both their tuples together (coordinator/homes.ts).
 *  - lockstep: a packet may come back as another connection, whose home would be elsewhere; all packets run in
 *    order, on the main thread (coordinator/lane.ts).
 *  - inline: packets change what decides about the next packet, whatever its connection; they run there, too. */
import { FLOW } from '../classifier/flow-key.js';
import type { AddressRange } from '../rss/steer.js';
import type { Field } from './fields.js';
import { nestedActions } from './rules.js';
import type { Action } from './types.js';

const { NW_SRC, NW, TP } = FLOW;

export interface Ordering {
  mode: 'parallel' | 'steered' | 'lockstep' | 'inline';
  /** What the flow table does that it has to be so; null: nothing. */
  reason: string | null;
  /** Whether it has ct(). */
  tracks: boolean;
  /** Addresses that it translates to. */
  targets: readonly AddressRange[];
  /** Whether it translates to a range of destination ports. */
  movesPorts: boolean;
}

/** The ordering that a pipeline with these action lists (of rules, buckets, flow-mods to come) needs. */
export function orderingOf(lists: Iterable<readonly Action[]>): Ordering {
  let rewrites: string | null = null;
  let tracks = false;
  let lockstep: string | null = null;
  let translates = false;
  /** The one zone; null before any, NaN if there may be several. */
  let zone: number | null = null;
  let clears = false;
  const targets: AddressRange[] = [];
  let movesPorts = false;
  let inline: string | null = null;
  for (const list of lists) {
    for (const action of nestedActions(list)) {
      switch (action.kind) {
        case 'learn':
          inline ??= 'learns flows';
          break;
        case 'fin_timeout':
          inline ??= 'has fin_timeout';
          break;
        case 'meter':
          inline ??= 'meters';
          break;
        case 'controller':
          if (action.meter !== 0) inline ??= 'meters';
          break;
        case 'ct':
          tracks = true;
          if (action.nat !== undefined) {
            translates = true;
            if (action.nat.type === 'dst' && action.nat.portMin > 0) movesPorts = true;
            const { addrMin: min, addrMax: max, ipv6 } = action.nat;
            if (min !== null && max !== null)
              targets.push({ min: wordsOf(min, ipv6), max: wordsOf(max, ipv6) });
          }
          if (typeof action.zone !== 'number') zone = Number.NaN;
          else if (zone !== action.zone) zone = zone === null ? action.zone : Number.NaN;
          if (action.alg !== undefined) lockstep ??= 'has helpers expect connections';
          break;
        case 'ct_clear':
          clears = true;
          break;
        case 'set':
          if (isTuple(action.field)) rewrites = 'rewrites addresses or ports and tracks';
          break;
        case 'pop_mpls':
          // The dispatcher does not look behind labels.
          rewrites = 'takes labels off what it tracks';
          break;
        case 'move':
        case 'pop':
        case 'multipath':
        case 'bundle':
        case 'check_pkt_larger':
          if (action.dst !== undefined && isTuple(action.dst.field)) {
            rewrites = 'rewrites addresses or ports and tracks';
          }
          break;
      }
    }
  }
  if (inline !== null) return { mode: 'inline', reason: inline, tracks, targets, movesPorts };
  if (translates) {
    // A translated packet must not be looked up as a connection of its own.
    if (Number.isNaN(zone)) lockstep ??= 'translates addresses and tracks in several zones';
    else if (clears) lockstep ??= 'translates addresses and clears what it tracks';
  }
  const reason = lockstep ?? (tracks ? rewrites : null);
  if (reason !== null) return { mode: 'lockstep', reason, tracks, targets, movesPorts };
  return { mode: translates ? 'steered' : 'parallel', reason: null, tracks, targets, movesPorts };
}

function wordsOf(address: bigint, ipv6: boolean): Uint32Array {
  const words = new Uint32Array(ipv6 ? 4 : 1);
  for (let i = words.length - 1, rest = address; i >= 0; i--, rest >>= 32n)
    words[i] = Number(rest & 0xffffffffn);
  return words;
}

function isTuple(field: Field): boolean {
  return field.segments.some((s) => (s.word >= NW_SRC && s.word < NW) || s.word === TP);
}
