/** What the rules of a table may lead a packet to: whether from there on it is only changed and sent, or may ask for
 *  something whose answer depends on other packets (a connection, `normal`, a meter, a flow to be learned).
 *
 *  A graph of tables, with all groups as one more node: what its rules do, and where they go on to. It only grows, so a
 *  rule that goes costs nothing, and one that comes costs a look at its actions; it may remember too much, never
 *  too little. Translation asks it where packets recirculate to (OP_RECIRC of datapath/program.ts).
 *
 *  Main thread only. */
import { OFPP_LOCAL, OFPP_MAX } from '../classifier/flow-key.js';
import { nestedActions } from './rules.js';
import type { Action } from './types.js';

/** The node of all groups, behind the tables. */
const GROUPS = 256;

export class Reach {
  /** By node: whether its own actions ask for something, and the nodes that they go on to. */
  private readonly asks = new Uint8Array(GROUPS + 1);
  private readonly next: Set<number>[] = Array.from({ length: GROUPS + 1 }, () => new Set());
  /** By node: answers of `onlySends` since the graph has grown last. */
  private readonly known = new Map<number, boolean>();

  /** A rule of `table` has these actions. */
  rule(table: number, actions: readonly Action[]): void {
    this.add(table, actions);
  }

  /** A bucket of a group has these actions. */
  bucket(actions: readonly Action[]): void {
    this.add(GROUPS, actions);
  }

  private add(node: number, actions: readonly Action[]): void {
    const next = this.next[node];
    const before = next.size;
    const asks = this.asks[node];
    if (this.collect(node, actions, next)) this.asks[node] = 1;
    if (next.size !== before || this.asks[node] !== asks) this.known.clear();
  }

  /** Whether packets that enter `table` are only changed and sent. */
  onlySends(table: number): boolean {
    let answer = this.known.get(table);
    if (answer === undefined) {
      answer = this.allSend([table]);
      this.known.set(table, answer);
    }
    return answer;
  }

  /** Whether packets for which these actions are done in `table` are. */
  listOnlySends(table: number, actions: readonly Action[]): boolean {
    const next = new Set<number>();
    return !this.collect(table, actions, next) && this.allSend([...next]);
  }

  private allSend(nodes: number[]): boolean {
    const seen = new Set(nodes);
    // A set's iteration takes in what is added meanwhile.
    for (const node of seen) {
      if (this.asks[node] !== 0) return false;
      for (const to of this.next[node]) seen.add(to);
    }
    return true;
  }

  /** Adds the nodes that the actions of `node` go on to; returns whether they ask for something themselves. */
  private collect(node: number, actions: readonly Action[], next: Set<number>): boolean {
    let asks = false;
    for (const action of nestedActions(actions)) {
      switch (action.kind) {
        case 'ct':
        case 'normal':
        case 'learn':
        case 'fin_timeout':
        case 'meter':
        case 'output_reg': // any port, `normal` among them
          asks = true;
          break;
        case 'controller':
          if (action.meter !== 0) asks = true;
          break;
        case 'output':
          if (action.port >= OFPP_MAX && action.port !== OFPP_LOCAL) asks = true;
          break;
        case 'group':
          next.add(GROUPS);
          break;
        case 'goto_table':
          next.add(action.table);
          break;
        case 'resubmit':
          // In a group it is the table of whoever uses that.
          if (action.table !== null) next.add(action.table);
          else if (node === GROUPS) asks = true;
          else next.add(node);
          break;
        case 'write_actions':
          // They are done in the table where the pipeline ends.
          if (action.actions.some((a) => a.kind === 'resubmit')) asks = true;
          break;
      }
    }
    return asks;
  }
}
