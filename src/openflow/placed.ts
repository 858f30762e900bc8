/** An action together with where it stands, while a flow is being read. */
import type { Pair, Problems, Span } from './tokens.js';
import type { Action } from './types.js';

/** An action and the piece of the line that it came from. */
export interface Placed<A extends Action = Action> {
  action: A;
  at: Span;
  /** Spelled set_vlan_vid or set_vlan_pcp, which want a tag, unlike mod_vlan_*. */
  wantsTag?: boolean;
  /** Where its source stands: of move, push, output, a zone; the table of goto_table. */
  src?: Span;
  /** Where its destination stands. */
  dst?: Span;
  /** The actions within: of ct's exec, clone, write_actions. */
  inner?: Placed[];
  /** Where each spec of learn stands. */
  specs?: Span[];
  /** Where nat stands in ct. */
  nat?: Span;
}

/** Reads the arguments of one action; `depth` counts the actions around it. */
export type Reader = (p: Pair, problems: Problems, depth: number) => Placed | undefined;

/** What may stand around a list of actions, and so decides what may stand in it. */
export type Outer = 'flow' | 'bucket' | 'ct' | 'clone' | 'write_actions';

/** Reads the list of actions inside another action. */
export type ListReader = (s: Span, outer: Outer, problems: Problems, depth: number) => Placed[];
