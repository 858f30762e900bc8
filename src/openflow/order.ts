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
  /** Whether it has ct(), as far as that matters: inline nobody asks. */
  tracks: boolean;
}

/** The ordering that a pipeline with these action lists (of rules, buckets, flow-mods to come) needs. */
export function orderingOf(lists: Iterable<readonly Action[]>): Ordering {
  let rewrites: string | null = null;
  let tracks = false;
  let lockstep: string | null = null;
  for (const list of lists) {
    for (const action of nestedActions(list)) {
      switch (action.kind) {
        case 'learn':
          return { mode: 'inline', reason: 'learns flows', tracks };
        case 'fin_timeout':
          return { mode: 'inline', reason: 'has fin_timeout', tracks };
        case 'meter':
          return { mode: 'inline', reason: 'meters', tracks };
        case 'ct':
          tracks = true;
          if (action.nat !== undefined) lockstep ??= 'translates addresses';
          if (action.alg !== undefined) lockstep ??= 'has helpers expect connections';
          break;
        case 'set':
          if (isTuple(action.field)) rewrites = 'rewrites addresses or ports and tracks';
          break;
        case 'move':
        case 'pop':
          if (isTuple(action.dst.field)) rewrites = 'rewrites addresses or ports and tracks';
          break;
      }
    }
  }
  const reason = lockstep ?? (tracks ? rewrites : null);
  return { mode: reason === null ? 'parallel' : 'lockstep', reason, tracks };
}

function isTuple(field: Field): boolean {
  return field.segments.some((s) => (s.word >= NW_SRC && s.word < NW) || s.word === TP);
}
