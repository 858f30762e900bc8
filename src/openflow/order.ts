/** Whether the packets of a pipeline may be shared out among workers.
 *
 *  - parallel: every packet's verdict depends on its own connection and what its home knows.
 *  - lockstep: a packet may come back as another connection, whose home would be elsewhere; all packets go
 *    to one home, in order.
 *  - inline: packets change what decides about the next packet, whatever its connection; they run on the
 *    main thread, which has the tables. */
import { FLOW } from '../classifier/flow-key.js';
import type { Field } from './fields.js';
import { nestedActions } from './rules.js';
import type { Action } from './types.js';

const { NW_SRC, NW, TP } = FLOW;

export interface Ordering {
  mode: 'parallel' | 'lockstep' | 'inline';
  /** What the flow table does that it has to be so; null: nothing. */
  reason: string | null;
  /** Whether it has ct(). */
  tracks: boolean;
}

/** The ordering that a pipeline with these action lists (of rules, buckets, flow-mods to come) needs. */
export function orderingOf(lists: Iterable<readonly Action[]>): Ordering {
  let rewrites: string | null = null;
  let tracks = false;
  let lockstep: string | null = null;
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
          if (action.nat !== undefined) lockstep ??= 'translates addresses';
          if (action.alg !== undefined) lockstep ??= 'has helpers expect connections';
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
          if (isTuple(action.dst.field)) rewrites = 'rewrites addresses or ports and tracks';
          break;
      }
    }
  }
  if (inline !== null) return { mode: 'inline', reason: inline, tracks };
  const reason = lockstep ?? (tracks ? rewrites : null);
  return { mode: reason === null ? 'parallel' : 'lockstep', reason, tracks };
}

function isTuple(field: Field): boolean {
  return field.segments.some((s) => (s.word >= NW_SRC && s.word < NW) || s.word === TP);
}
