/** Counters of one engine, in a shared Float64Array that it alone writes. */
import * as flowKey from '../classifier/flow-key.js';
import * as keys from '../conntrack/key.js';

// Imported constants are loads from the other module's cells; local ones are folded into the code.
const { CS_EST, CS_INV, CS_REL } = flowKey;
const { INVALID_REASONS } = keys;

/** Index of each counter; INVALID_0 + reason (see INVALID_REASONS) for why packets were invalid. */
export const STAT = {
  PACKETS: 0,
  BYTES: 1,
  MEGAFLOW_HITS: 2,
  UPCALLS: 3,
  MICROFLOW_HITS: 4,
  CT: 5,
  CT_NEW: 6,
  CT_ESTABLISHED: 7,
  CT_RELATED: 8,
  CT_INVALID: 9,
  COMMITS: 10,
  COMMITS_FULL: 11,
  PARKED: 12,
  VECTORS: 13,
  FRAGMENTS: 14,
  OUTPUTS_CUT: 15,
  /** Connections that a packet ended on the spot. */
  ENDED: 16,
  /** Commits that found no tuple to translate to. */
  NAT_EXHAUSTED: 17,
  FRAGMENTS_HELD: 18,
  REASSEMBLED: 19,
  /** Packets that opened a connection, or could have, without the engine (openings.ts). */
  OPENING_HITS: 20,
  INVALID_0: 21,
} as const;
export const STAT_WORDS = STAT.INVALID_0 + INVALID_REASONS.length;

/** The counter that a ct() with this result goes into. */
export function statOfState(state: number): number {
  if (state & CS_INV) return STAT.CT_INVALID;
  if (state & CS_REL) return STAT.CT_RELATED;
  return state & CS_EST ? STAT.CT_ESTABLISHED : STAT.CT_NEW;
}
