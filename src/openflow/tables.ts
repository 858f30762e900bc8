/** The switch's tables while it runs: flows, groups, meters, ports. Translation reads them; flow-mods,
 *  group-mods, learn() and timeouts change them.
 *
 *  `generation` moves on with every change that a translation may depend on: what was translated before
 *  must not serve a packet after. Belongs to the main thread; changed only while no packet is in flight,
 *  or in a packet's turn in a run where packets go one after the other. */
import { OFPP_LOCAL } from '../classifier/flow-key.js';
import { RuleTable } from './classifier.js';
import { type Counted, Counters, nextUid, StatPoints } from './counted.js';
import type { Action, Bucket, FlowFlag, FlowRule, Group, Match, Meter, SourcePos } from './types.js';

/** A flow in a table. Its match and priority never change; its actions do, when it is modified. */
export class TableRule extends Counters implements FlowRule {
  readonly table: number;
  readonly priority: number;
  readonly match: Match;
  cookie: bigint;
  idleTimeout: number;
  hardTimeout: number;
  importance: number;
  flags: readonly FlowFlag[];
  actions: Action[];
  readonly pos: SourcePos;
  readonly text: string;
  /** Clock in ms. */
  created: number;
  modified: number;
  /** Counts a packet that would have learned this flow anew: its hard timeout starts again. */
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
    this.cookie = rule.cookie;
    this.idleTimeout = rule.idleTimeout;
    this.hardTimeout = rule.hardTimeout;
    this.importance = rule.importance ?? 0;
    this.flags = rule.flags ?? [];
    this.actions = rule.actions;
    this.pos = rule.pos;
    this.text = rule.text;
    this.created = this.modified = now;
  }
}

/** A bucket of a group, with its counters. */
export class TableBucket extends Counters {
  readonly bucket: Bucket;

  constructor(bucket: Bucket, now: number) {
    super(now);
    this.bucket = bucket;
  }
}

/** A group, with its counters. A change of it makes a new one. */
export class TableGroup extends Counters {
  readonly group: Group;
  readonly buckets: readonly TableBucket[];
  readonly created: number;

  constructor(group: Group, now: number, created = now) {
    super(now);
    this.group = group;
    this.created = created;
    this.buckets = group.buckets.map((b) => new TableBucket(b, now));
  }
}

/** What learn() would do with the tables as they are. */
export interface LearnOutcome {
  /** Number for OP_LEARN, which goes to the head of the program; -1: nothing would change. */
  id: number;
  /** Counts in the program's stat point; null: no such flow yet. */
  refresh: Counted | null;
  /** Whether the limit left room. */
  success: boolean;
}

export interface PipelineInit {
  rules: readonly FlowRule[];
  groups?: readonly Group[];
  meters?: readonly Meter[];
  /** LOCAL need not be among them. */
  ports: readonly number[];
}

export class Pipeline {
  generation = 1;
  /** ct(commit) actions in all rules together: about what a packet can commit. */
  nCommits = 0;
  readonly stats = new StatPoints();
  readonly groups = new Map<number, TableGroup>();
  readonly meters = new Map<number, Meter>();
  /** Ports of the switch in ascending order, LOCAL last. */
  readonly ports: readonly number[];
  private readonly down = new Set<number>();
  private readonly tables = new Map<number, RuleTable<TableRule>>();

  constructor(init: PipelineInit) {
    const ports = new Set(init.ports);
    ports.delete(OFPP_LOCAL);
    this.ports = [...[...ports].sort((a, b) => a - b), OFPP_LOCAL];
    for (const rule of init.rules) this.add(new TableRule(rule, 0));
    for (const group of init.groups ?? []) this.groups.set(group.id, new TableGroup(group, 0));
    for (const meter of init.meters ?? []) this.meters.set(meter.id, meter);
  }

  /** The flow of highest priority in the table that matches, or null; adds to `wild` what decided. */
  lookup(table: number, flow: Int32Array, wild: Int32Array): TableRule | null {
    const rules = this.tables.get(table);
    return rules === undefined ? null : rules.lookup(flow, wild);
  }

  hasPort(port: number): boolean {
    return this.ports.includes(port);
  }

  /** Whether the port is there and up. */
  isUp(port: number): boolean {
    return this.hasPort(port) && !this.down.has(port);
  }

  /** Takes a port down or up. */
  setPort(port: number, up: boolean): void {
    if (up === !this.down.has(port)) return;
    if (up) this.down.delete(port);
    else this.down.add(port);
    this.generation++;
  }

  private add(rule: TableRule): void {
    let table = this.tables.get(rule.table);
    if (table === undefined) {
      table = new RuleTable();
      this.tables.set(rule.table, table);
    }
    table.insert(rule);
    for (const action of rule.actions) if (action.kind === 'ct' && action.commit) this.nCommits++;
    this.generation++;
  }
}
