/** The switch's tables while it runs: flows, groups, meters, ports. Translation reads them; flow-mods,
 *  group-mods, learn() and timeouts change them, by the rules of OpenFlow 1.5 (section 6.4, "Flow Table
 *  Modification Messages") as Open vSwitch follows them.
 *
 *  `generation` moves on with every change that a translation may depend on: what was translated before
 *  must not serve a packet after. Belongs to the main thread; changed only while no packet is in flight,
 *  or by the packet that is being run there. */
import { OFPP_LOCAL } from '../classifier/flow-key.js';
import { RuleTable } from './classifier.js';
import { type Counted, Counters, StatPoints } from './counted.js';
import { DeadlineQueue } from './deadlines.js';
import { OpenFlowError } from './errors.js';
import { TableMeter } from './meter.js';
import { Reach } from './reach.js';
import {
  narrower,
  nestedActions,
  outputsTo,
  overlap,
  sameActions,
  TableRule,
  usesGroup,
  usesMeter,
} from './rules.js';
import {
  type Action,
  ALL_TABLES,
  type Bucket,
  type FlowMod,
  type FlowRule,
  type Group,
  type GroupMod,
  type Match,
  type Meter,
} from './types.js';

export { TableRule } from './rules.js';

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
  /** Clock in ms. */
  readonly created: number;

  /** `old`: the group that it takes the place of; buckets of it go on counting, the group does not. */
  constructor(group: Group, now: number, old: TableGroup | null = null) {
    super(now);
    this.group = group;
    this.created = old === null ? now : old.created;
    this.buckets = group.buckets.map((bucket) => {
      const made = new TableBucket(bucket, now);
      const before = old?.buckets.find((b) => b.bucket === bucket);
      if (before !== undefined) made.credit(before.packets, before.bytes, before.used);
      return made;
    });
  }
}

/** What learn() does with the tables as they are. */
export interface LearnOutcome {
  /** Number for OP_LEARN, which goes to the head of the program; -1: nothing changes. */
  id: number;
  /** The flow is there already: counts in the program's stat point; null: it is not, or must change. */
  refresh: Counted | null;
  /** Whether the limit left room. */
  success: boolean;
}

/** Why a flow is gone, in the words of Open vSwitch. */
export type RemovalReason = 'idle' | 'hard' | 'delete' | 'group_delete' | 'meter_delete';

/** Which flows to change, delete or list. */
export interface Selection {
  /** null: all. */
  table: number | null;
  match: Match;
  cookie: bigint;
  cookieMask: bigint;
  outPort: number | null;
  outGroup: number | null;
}

export interface PipelineInit {
  rules: readonly FlowRule[];
  groups?: readonly Group[];
  meters?: readonly Meter[];
  /** LOCAL need not be among them. */
  ports: readonly number[];
}

type Pending =
  | { kind: 'learn'; rule: FlowRule }
  | { kind: 'fin'; rule: TableRule; idle: number; hard: number };

export class Pipeline {
  generation = 1;
  /** ct(commit) actions in all rules together: about what a packet can commit. */
  nCommits = 0;
  readonly stats = new StatPoints();
  /** What the rules so far may lead to. */
  readonly reach = new Reach();
  readonly groups = new Map<number, TableGroup>();
  readonly meters = new Map<number, TableMeter>();
  /** Ports of the switch in ascending order, LOCAL last. */
  readonly ports: readonly number[];
  /** Brings the counters of rules, groups and buckets up to date. */
  fold: () => void = () => {};
  /** Is told of flows that go and have send_flow_rem. */
  onRemoved: (rule: TableRule, reason: RemovalReason, now: number) => void = () => {};
  private readonly down = new Set<number>();
  private readonly tables = new Map<number, RuleTable<TableRule>>();
  private readonly byCookie = new Map<bigint, Set<TableRule>>();
  /** How many learn(delete_learned) of live rules there are, by table and cookie. */
  private readonly learners = new Map<string, { table: number; cookie: bigint; n: number }>();
  private readonly deadlines = new DeadlineQueue();
  /** What translation has announced and the packet has not executed yet. */
  private readonly pending = new Map<number, Pending>();
  private nPending = 0;

  /** Throws OpenFlowError if flows name groups or meters that are not there: reading them should have. */
  constructor(init: PipelineInit) {
    const ports = new Set(init.ports);
    ports.delete(OFPP_LOCAL);
    this.ports = [...[...ports].sort((a, b) => a - b), OFPP_LOCAL];
    for (const group of init.groups ?? []) this.setGroup(new TableGroup(group, 0));
    for (const meter of init.meters ?? []) this.meters.set(meter.id, new TableMeter(meter, 0));
    for (const rule of init.rules) {
      this.check(rule.actions);
      this.add(rule, 0);
    }
  }

  // ---- reading ----

  /** The flow of highest priority in the table that matches, or null; adds to `wild` what decided. */
  lookup(table: number, flow: Int32Array, wild: Int32Array): TableRule | null {
    const rules = this.tables.get(table);
    return rules === undefined ? null : rules.lookup(flow, wild);
  }

  /** All flows: by table, then highest priority, then oldest first. */
  rules(): TableRule[] {
    return [...this.tables.keys()].sort((a, b) => a - b).flatMap((table) => this.rulesOf(table));
  }

  private rulesOf(table: number): TableRule[] {
    const rules = this.tables.get(table);
    if (rules === undefined) return [];
    return [...rules.rules()].sort((a, b) => b.priority - a.priority || a.uid - b.uid);
  }

  /** The flows that a loose selection takes, in the order of `rules()`. */
  select(s: Selection): TableRule[] {
    const all = s.table === null ? this.rules() : this.rulesOf(s.table);
    return all.filter((rule) => this.chosen(rule, s) && narrower(rule.match, s.match));
  }

  private chosen(rule: TableRule, s: Selection): boolean {
    return (
      ((rule.cookie ^ s.cookie) & s.cookieMask) === 0n &&
      (s.outPort === null || outputsTo(rule, s.outPort)) &&
      (s.outGroup === null || usesGroup(rule, s.outGroup))
    );
  }

  /** Makes everything that was translated be translated anew. */
  renew(): void {
    this.generation++;
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

  // ---- flow-mods ----

  /** Applies a change of the flow tables; throws OpenFlowError. */
  flowMod(mod: FlowMod, now: number): void {
    const { rule, command } = mod;
    const deletes = command === 'delete' || command === 'delete_strict';
    // OpenFlow 1.5 has no way to modify flows of all tables; the tools then send table 0.
    const table = rule.table === ALL_TABLES ? (deletes ? null : 0) : rule.table;
    const selection: Selection = {
      table,
      match: rule.match,
      cookie: rule.cookie,
      cookieMask: command === 'add' ? 0n : mod.cookieMask,
      outPort: mod.outPort,
      outGroup: mod.outGroup,
    };
    switch (command) {
      case 'add':
        this.check(rule.actions);
        this.add(rule, now);
        break;
      case 'modify':
      case 'modify_strict': {
        selection.outPort = selection.outGroup = null;
        const chosen = command === 'modify' ? this.select(selection) : this.exact(selection, rule.priority);
        if (chosen.length === 0) break;
        this.check(rule.actions);
        const reset = rule.flags?.includes('reset_counts') ?? false;
        const dead = chosen.flatMap((old) => this.modify(old, rule.actions, old.cookie, now, reset));
        this.forgetLearned(dead, now);
        break;
      }
      case 'delete':
        this.removeAll(this.select(selection), 'delete', now);
        break;
      case 'delete_strict':
        this.removeAll(this.exact(selection, rule.priority), 'delete', now);
        break;
    }
  }

  /** The flows of exactly this match and priority. */
  private exact(s: Selection, priority: number): TableRule[] {
    const tables = s.table === null ? [...this.tables.keys()].sort((a, b) => a - b) : [s.table];
    return tables.flatMap((table) => {
      const rule = this.tables.get(table)?.find(s.match, priority) ?? null;
      return rule !== null && this.chosen(rule, s) ? [rule] : [];
    });
  }

  /** Adds a flow, or makes the one of the same match and priority be it. */
  private add(rule: FlowRule, now: number): void {
    const table = this.table(rule.table);
    const old = table.find(rule.match, rule.priority);
    if (old !== null) {
      if (rule.flags?.includes('reset_counts')) this.reset(old);
      this.forgetLearned(
        this.change(old, () => old.set(rule, now)),
        now,
      );
      return;
    }
    if (rule.flags?.includes('check_overlap')) {
      for (const other of table.rules()) {
        if (other.priority === rule.priority && overlap(other.match, rule.match)) {
          throw new OpenFlowError('OFPFMFC_OVERLAP');
        }
      }
    }
    this.insert(new TableRule(rule, now));
  }

  /** Gives a flow other actions and another cookie; returns learned flows that nobody learns any more. */
  private modify(old: TableRule, actions: Action[], cookie: bigint, now: number, reset: boolean): string[] {
    if (reset) this.reset(old);
    return this.change(old, () => {
      old.actions = actions;
      old.cookie = cookie;
      old.modified = now;
    });
  }

  private reset(rule: TableRule): void {
    // Packets so far belong to what is forgotten.
    this.fold();
    rule.packets = rule.bytes = 0;
  }

  private change(rule: TableRule, how: () => void): string[] {
    // In again before out: what it learned before and still learns stays.
    const before = rule.actions;
    this.take(rule);
    how();
    this.insert(rule);
    return this.unlearn(before);
  }

  private table(id: number): RuleTable<TableRule> {
    let table = this.tables.get(id);
    if (table === undefined) {
      table = new RuleTable();
      this.tables.set(id, table);
    }
    return table;
  }

  private insert(rule: TableRule): void {
    this.table(rule.table).insert(rule);
    rule.live = true;
    let same = this.byCookie.get(rule.cookie);
    if (same === undefined) {
      same = new Set();
      this.byCookie.set(rule.cookie, same);
    }
    same.add(rule);
    this.nCommits += commitsOf(rule.actions);
    this.reach.rule(rule.table, rule.actions);
    for (const a of rule.actions) {
      if (a.kind !== 'learn' || !a.deleteLearned) continue;
      const name = `${a.table}/${a.cookie}`;
      const learner = this.learners.get(name);
      if (learner === undefined) this.learners.set(name, { table: a.table, cookie: a.cookie, n: 1 });
      else learner.n++;
    }
    this.deadlines.add(rule);
    this.generation++;
  }

  private setGroup(group: TableGroup): void {
    this.groups.set(group.group.id, group);
    for (const { bucket } of group.buckets) this.reach.bucket(bucket.actions);
  }

  private take(rule: TableRule): void {
    this.table(rule.table).remove(rule);
    rule.live = false;
    const same = this.byCookie.get(rule.cookie)!;
    same.delete(rule);
    if (same.size === 0) this.byCookie.delete(rule.cookie);
    this.nCommits -= commitsOf(rule.actions);
    this.generation++;
  }

  /** Counts down what these actions learn with delete_learned; returns what nobody learns any more. */
  private unlearn(actions: readonly Action[]): string[] {
    const dead: string[] = [];
    for (const a of actions) {
      if (a.kind !== 'learn' || !a.deleteLearned) continue;
      const name = `${a.table}/${a.cookie}`;
      if (--this.learners.get(name)!.n === 0) dead.push(name);
    }
    return dead;
  }

  private forgetLearned(names: readonly string[], now: number): void {
    for (const name of names) {
      const { table, cookie, n } = this.learners.get(name)!;
      if (n > 0) continue;
      this.learners.delete(name);
      const learned = [...(this.byCookie.get(cookie) ?? [])].filter((rule) => rule.table === table);
      this.removeAll(learned, 'delete', now);
    }
  }

  private removeAll(rules: readonly TableRule[], reason: RemovalReason, now: number): void {
    if (rules.length === 0) return;
    this.fold();
    const dead: string[] = [];
    for (const rule of rules) {
      this.take(rule);
      dead.push(...this.unlearn(rule.actions));
      if (rule.flags.includes('send_flow_rem')) this.onRemoved(rule, reason, now);
    }
    this.forgetLearned([...new Set(dead)], now);
  }

  /** Throws if the actions name a group or a meter that is not there. */
  private check(actions: readonly Action[]): void {
    for (const a of nestedActions(actions)) {
      if (a.kind === 'group' && !this.groups.has(a.group)) throw new OpenFlowError('OFPBAC_BAD_OUT_GROUP');
      if (a.kind === 'meter' && !this.meters.has(a.meter)) throw new OpenFlowError('OFPMMFC_INVALID_METER');
    }
  }

  // ---- learn() and fin_timeout ----

  /** What learning `rule` would do now; `limit` is that of learn(), 0 for none. The answer holds for this
   *  generation, so a translation may be built on it. Learned flows are seen from the next pass on. */
  learn(rule: FlowRule, limit: number): LearnOutcome {
    const old = this.table(rule.table).find(rule.match, rule.priority);
    if (old !== null && sameFlow(old, rule)) return { id: -1, refresh: old.refresh, success: true };
    if (limit > 0 && this.learned(rule) >= limit) return { id: -1, refresh: null, success: false };
    // Timeouts and flags of a flow that is there stay what they are.
    if (old !== null && old.cookie === rule.cookie && sameActions(old.actions, rule.actions)) {
      return { id: -1, refresh: old.refresh, success: true };
    }
    return { id: this.announce({ kind: 'learn', rule }), refresh: null, success: true };
  }

  /** Flows with the table and the cookie of `rule`. */
  private learned(rule: FlowRule): number {
    let n = 0;
    for (const other of this.byCookie.get(rule.cookie) ?? []) if (other.table === rule.table) n++;
    return n;
  }

  /** What fin_timeout does to a rule that a packet with FIN or RST hits: number for OP_FIN_TIMEOUT, or -1
   *  if its timeouts are no longer than that. 0 is no timeout. */
  finTimeout(rule: TableRule, idle: number, hard: number): number {
    if (
      reduced(rule.idleTimeout, idle) === rule.idleTimeout &&
      reduced(rule.hardTimeout, hard) === rule.hardTimeout
    ) {
      return -1;
    }
    return this.announce({ kind: 'fin', rule, idle, hard });
  }

  private announce(what: Pending): number {
    const id = this.nPending++;
    this.pending.set(id, what);
    return id;
  }

  /** Executes OP_LEARN or OP_FIN_TIMEOUT. It changes the tables, so the program never runs again. */
  execute(id: number, now: number): void {
    const what = this.pending.get(id);
    if (what === undefined) throw new Error(`tables: change ${id} of a packet is not announced`);
    this.pending.delete(id);
    if (what.kind === 'fin') {
      const { rule } = what;
      rule.idleTimeout = reduced(rule.idleTimeout, what.idle);
      rule.hardTimeout = reduced(rule.hardTimeout, what.hard);
      if (rule.live) this.deadlines.add(rule);
      // It need not be asked for again.
      this.generation++;
      return;
    }
    const { rule } = what;
    const old = this.table(rule.table).find(rule.match, rule.priority);
    if (old === null) this.insert(new TableRule(rule, now));
    else this.forgetLearned(this.modify(old, rule.actions, rule.cookie, now, false), now);
  }

  // ---- timeouts ----

  /** The first clock (ms) after which a flow may be gone. Packets have used it since, perhaps. */
  get nextDeadline(): number {
    return this.deadlines.next;
  }

  /** Removes the flows that are gone for a packet at `now`. */
  expire(now: number): void {
    if (this.deadlines.next >= now) return;
    this.fold();
    for (let rule = this.deadlines.take(now); rule !== null; rule = this.deadlines.take(now)) {
      const hard = rule.hardTimeout !== 0 && rule.modified + rule.hardTimeout * 1000 < now;
      this.removeAll([rule], hard ? 'hard' : 'idle', now);
    }
  }

  // ---- groups ----

  /** Applies a change of the group table; throws OpenFlowError. */
  groupMod(mod: GroupMod, now: number): void {
    const { command, id } = mod;
    if (command === 'delete') {
      const ids = id === null ? [...this.groups.keys()] : this.groups.has(id) ? [id] : [];
      for (const gone of ids) {
        this.groups.delete(gone);
        this.removeAll(
          this.rules().filter((rule) => usesGroup(rule, gone)),
          'group_delete',
          now,
        );
      }
      if (ids.length > 0) this.generation++;
      return;
    }
    const old = this.groups.get(id!);
    if (command === 'add' || (command === 'add_or_modify' && old === undefined)) {
      if (old !== undefined) throw new OpenFlowError('OFPGMFC_GROUP_EXISTS');
      this.setGroup(new TableGroup(mod.group!, now));
    } else {
      if (old === undefined) throw new OpenFlowError('OFPGMFC_UNKNOWN_GROUP');
      const group =
        command === 'modify' || command === 'add_or_modify' ? mod.group! : rebucketed(old.group, mod);
      this.fold();
      this.setGroup(new TableGroup(group, now, old));
    }
    this.generation++;
  }

  // ---- meters ----

  addMeter(meter: Meter, now: number): void {
    if (this.meters.has(meter.id)) throw new OpenFlowError('OFPMMFC_METER_EXISTS');
    this.meters.set(meter.id, new TableMeter(meter, now));
  }

  modifyMeter(meter: Meter, now: number): void {
    const old = this.meters.get(meter.id);
    if (old === undefined) throw new OpenFlowError('OFPMMFC_UNKNOWN_METER');
    this.meters.set(meter.id, new TableMeter(meter, now));
  }

  /** Deletes a meter, or all, and the flows that use it. */
  deleteMeters(id: number | null, now: number): void {
    for (const gone of id === null ? [...this.meters.keys()] : [id]) {
      if (!this.meters.delete(gone)) continue;
      this.removeAll(
        this.rules().filter((rule) => usesMeter(rule, gone)),
        'meter_delete',
        now,
      );
    }
  }

  /** Executes OP_METER: whether the packet of so many bytes goes on. */
  meter(id: number, bytes: number, now: number): boolean {
    const meter = this.meters.get(id);
    return meter === undefined || meter.pass(bytes, now);
  }
}

function commitsOf(actions: readonly Action[]): number {
  let n = 0;
  for (const a of nestedActions(actions)) if (a.kind === 'ct' && a.commit) n++;
  return n;
}

/** Whether learning `rule` leaves `old` as it is. */
function sameFlow(old: TableRule, rule: FlowRule): boolean {
  return (
    old.idleTimeout === rule.idleTimeout &&
    old.hardTimeout === rule.hardTimeout &&
    old.importance === (rule.importance ?? 0) &&
    old.flags.join() === (rule.flags ?? []).join() &&
    old.cookie === rule.cookie &&
    sameActions(old.actions, rule.actions)
  );
}

/** A timeout brought down to `most`; 0 is none. */
function reduced(timeout: number, most: number): number {
  return most !== 0 && (timeout === 0 || timeout > most) ? most : timeout;
}

/** The group with buckets put in or taken out. */
function rebucketed(old: Group, mod: GroupMod): Group {
  const { bucket } = mod;
  const at = (id: number): number => {
    const found = old.buckets.findIndex((b) => b.id === id);
    if (found < 0) throw new OpenFlowError('OFPGMFC_UNKNOWN_BUCKET');
    return found;
  };
  const buckets = [...old.buckets];
  if (mod.command === 'insert_buckets') {
    const added = mod.group!.buckets;
    if (added.some((b) => old.buckets.some((o) => o.id === b.id))) {
      throw new OpenFlowError('OFPGMFC_BUCKET_EXISTS');
    }
    const where = bucket === 'first' ? 0 : typeof bucket === 'number' ? at(bucket) + 1 : buckets.length;
    buckets.splice(where, 0, ...added);
  } else if (bucket === 'all') {
    buckets.length = 0;
  } else if (typeof bucket === 'number') {
    buckets.splice(at(bucket), 1);
  } else if (buckets.length > 0) {
    buckets.splice(bucket === 'first' ? 0 : buckets.length - 1, 1);
  }
  return { ...old, buckets };
}
