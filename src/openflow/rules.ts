/** Rules in the tables: what the switch adds to a flow, and how rules and matches compare. */
import { OFPP_ALL, OFPP_CONTROLLER, OFPP_FLOOD, OFPP_IN_PORT, OFPP_NORMAL } from '../classifier/flow-key.js';
import { type Counted, Counters, nextUid } from './counted.js';
import type { Action, FlowFlag, FlowRule, Match, SourcePos } from './types.js';

/** A flow in a table. Its table, match and priority never change; the rest does, when it is added again or
 *  modified. */
export class TableRule extends Counters implements FlowRule {
  readonly table: number;
  readonly priority: number;
  readonly match: Match;
  readonly pos: SourcePos;
  readonly text: string;
  cookie!: bigint;
  idleTimeout!: number;
  hardTimeout!: number;
  importance!: number;
  flags!: readonly FlowFlag[];
  actions!: Action[];
  /** Clock in ms. */
  created!: number;
  modified!: number;
  /** Whether it is in a table. */
  live = false;
  /** The deadline that it stands in the queue with. */
  queued = Number.POSITIVE_INFINITY;
  /** Counts packets that would have learned this flow anew: its hard timeout starts again. */
  readonly refresh: Counted = {
    uid: nextUid(),
    credit: (_packets, _bytes, last) => {
      if (last > this.modified) this.modified = last;
    },
  };

  constructor(rule: FlowRule, now: number) {
    super(now);
    this.table = rule.table;
    this.priority = rule.priority;
    this.match = rule.match;
    this.pos = rule.pos;
    this.text = rule.text;
    this.set(rule, now);
  }

  /** Makes it what adding `rule`, of the same match, would; the counters stay. */
  set(rule: FlowRule, now: number): void {
    this.cookie = rule.cookie;
    this.idleTimeout = rule.idleTimeout;
    this.hardTimeout = rule.hardTimeout;
    this.importance = rule.importance ?? 0;
    this.flags = rule.flags ?? [];
    this.actions = rule.actions;
    this.created = this.modified = now;
  }

  /** The clock in ms at which it is still there, and after which it is gone; Infinity: never. */
  get deadline(): number {
    const idle = this.idleTimeout === 0 ? Number.POSITIVE_INFINITY : this.used + this.idleTimeout * 1000;
    const hard = this.hardTimeout === 0 ? Number.POSITIVE_INFINITY : this.modified + this.hardTimeout * 1000;
    return Math.min(idle, hard);
  }
}

/** Whether `match` has all bits of `wanted`: the loose comparison of mod-flows and del-flows. */
export function narrower(match: Match, wanted: Match): boolean {
  for (let w = 0; w < wanted.mask.length; w++) {
    const bits = wanted.mask[w];
    if ((match.mask[w] & bits) !== bits || ((match.value[w] ^ wanted.value[w]) & bits) !== 0) return false;
  }
  return true;
}

/** Whether a packet can match both. */
export function overlap(a: Match, b: Match): boolean {
  return a.mask.every((bits, w) => (bits & b.mask[w] & (a.value[w] ^ b.value[w])) === 0);
}

/** The actions of a list and of the lists in it. */
export function* nestedActions(list: readonly Action[]): Generator<Action> {
  for (const action of list) {
    yield action;
    if (action.kind === 'clone' || action.kind === 'write_actions') yield* nestedActions(action.actions);
    else if (action.kind === 'ct') yield* nestedActions(action.exec);
  }
}

/** Reserved ports that are actions of their own. */
const RESERVED: Partial<Record<Action['kind'], number>> = {
  in_port: OFPP_IN_PORT,
  normal: OFPP_NORMAL,
  flood: OFPP_FLOOD,
  all: OFPP_ALL,
  controller: OFPP_CONTROLLER,
};

/** Whether the flow outputs to `port` by name (the out_port of del-flows). */
export function outputsTo(rule: FlowRule, port: number): boolean {
  for (const a of nestedActions(rule.actions)) {
    if (a.kind === 'output' || a.kind === 'enqueue') {
      if (a.port === port) return true;
    } else if (RESERVED[a.kind] === port) return true;
  }
  return false;
}

/** Whether the flow uses the group. */
export function usesGroup(rule: FlowRule, group: number): boolean {
  for (const a of nestedActions(rule.actions)) if (a.kind === 'group' && a.group === group) return true;
  return false;
}

/** Whether the flow uses the meter. */
export function usesMeter(rule: FlowRule, meter: number): boolean {
  for (const a of nestedActions(rule.actions)) if (a.kind === 'meter' && a.meter === meter) return true;
  return false;
}

/** Whether two lists say the same. They are plain data over the shared rows of the field table. */
export function sameActions(a: readonly Action[], b: readonly Action[]): boolean {
  return same(a, b);
}

function same(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  const [x, y] = [a as Record<string, unknown>, b as Record<string, unknown>];
  const keys = Object.keys(x);
  return keys.length === Object.keys(y).length && keys.every((k) => k in y && same(x[k], y[k]));
}
