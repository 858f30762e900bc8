/** Translation: walks the OpenFlow tables once for a packet's key and returns what the datapath is to do
 *  (a program) and for which other packets that would be the same (a mask). The counterpart of Open
 *  vSwitch's xlate; runs in the coordinator alone.
 *
 *  A translation depends on nothing but the key, the tables and the ports, so which worker asks, and
 *  when, changes nothing.
 *
 *  The mask grows by every bit that decided something: what a table lookup compared, what an action read.
 *  Fields that are only written stay wild, because a write is done whatever was there; and what was
 *  written is known from then on, so that comparing it adds nothing to the mask.
 *
 *  Buckets of a group, clone() and check_pkt_larger work on a copy of the packet: each is a clone in the
 *  program as well, unless it changes nothing or comes last. Only buckets with an in-line ct() run on the
 *  packet itself, as they do in Open vSwitch: what ct() did to it stays, what they wrote is set back when
 *  it is next sent. */
import {
  CS_EST,
  CS_NEW,
  CS_RPL,
  FLOW,
  FLOW_WORDS,
  FRAG_ANY,
  KEY_WORDS,
  OFPP_ALL,
  OFPP_CONTROLLER,
  OFPP_FLOOD,
  OFPP_IN_PORT,
  OFPP_MAX,
  OFPP_NONE,
  OFPP_NORMAL,
  OFPP_TABLE,
} from '../classifier/flow-key.js';
import {
  ALG_FTP,
  ALG_NONE,
  ALG_TFTP,
  CT_COMMIT,
  CT_FORCE,
  CT_SET_LABEL,
  CT_SET_MARK,
  DROP_ACTION,
  DROP_MPLS,
  DROP_NO_BUCKET,
  DROP_NO_GROUP,
  DROP_NO_OUTPUT,
  DROP_NO_PORT,
  DROP_PROGRAM_SIZE,
  DROP_REASONS,
  DROP_RECIRC_LOST,
  DROP_RESUBMIT_DEPTH,
  DROP_STACK,
  DROP_TABLE_MISS,
  DROP_TO_IN_PORT,
  DROP_TTL,
  MAX_PROGRAM_WORDS,
  NAT_ADDRESS,
  NAT_DST,
  NAT_HASH,
  NAT_IPV6,
  NAT_ON,
  NAT_PERSISTENT,
  NAT_RANDOM,
  NAT_SRC,
  OP_CHECK_LEN,
  OP_CLONE,
  OP_CONTROLLER,
  OP_CT,
  OP_CT_CLEAR,
  OP_DP_HASH,
  OP_END,
  OP_FIN_TIMEOUT,
  OP_HASH_FIELDS,
  OP_HASH_HEADERS,
  OP_LEARN,
  OP_METER,
  OP_NORMAL,
  OP_OUTPUT,
  OP_POP_MPLS,
  OP_POP_VLAN,
  OP_PUSH_MPLS,
  OP_PUSH_VLAN,
  OP_RECIRC,
  OP_SELECT_BEST,
  OP_SELECT_MAP,
  OP_SET,
  OP_STAT,
  OP_TRUNC,
  opWords,
  SOFT_PROGRAM_WORDS,
} from '../datapath/program.js';
import {
  ETH_TYPE_IP,
  ETH_TYPE_IPV6,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  isMpls,
  MPLS_BOS,
} from '../wire/extract.js';
import {
  HASH_ETH_SRC,
  HASH_NW_DST,
  HASH_NW_SRC,
  HASH_SYMMETRIC_L3,
  HASH_SYMMETRIC_L3L4,
  HASH_SYMMETRIC_L3L4_UDP,
  HASH_SYMMETRIC_L4,
  hashHeaders,
  hashInt,
  hashUint64,
} from '../wire/hash.js';
import { actionListOf, isPlain, outputOf } from './action-set.js';
import type { Counted } from './counted.js';
import {
  FIELDS,
  type Field,
  getField,
  getSubfield,
  setField as putField,
  type Subfield,
  setSubfield,
} from './fields.js';
import { learnedFlow } from './learn.js';
import { meets } from './match.js';
import { multipath } from './multipath.js';
import { firstLive, isLive, type Selection, selectionOf } from './select.js';
import type { Pipeline, TableBucket, TableGroup, TableRule } from './tables.js';
import {
  type Action,
  type HashFields,
  MAX_LEN_ALL,
  type NatSpec,
  REASON_ACTION,
  type SourcePos,
} from './types.js';

const { IN_PORT, RECIRC_ID, CT_STATE, CT_MARK, CT_LABEL_0, ETH_DST_HI, ETH_SRC_LO, ETH_TYPE } = FLOW;
const { ETH_DST_LO_SRC_HI, VLAN_0, VLAN_1, NW_SRC, NW_DST, NW, TP, ND_RESERVED, MPLS_0 } = FLOW;
const { IPV6_SRC_0, IPV6_DST_0, DP_HASH, CT_NW_SRC, CT_NW_DST, CT_TP, CT_NW_PROTO, CT_IPV6_SRC_0 } = FLOW;
const { METADATA_HI, ACTSET_OUTPUT, CONJ_ID, TCP_FLAGS } = FLOW;

/** Bounds on resubmits, as in Open vSwitch: ovs-actions(7), "The resubmit action". */
const MAX_DEPTH = 64;
const MAX_RESUBMITS = MAX_DEPTH * MAX_DEPTH;
/** Bytes on the stack from which on no further table or group is entered. */
const MAX_STACK_BYTES = 65536;
/** Label stack entries that the flow key holds. */
const MAX_LABELS = 3;
/** Where recirculated packets go on: a table that puts addresses into registers before ct() makes one for
 *  every address. */
const MAX_FROZEN = 65536;
/** TCI bit that says that there is a tag. */
const VLAN_PRESENT = 0x1000;
const TPID_8021Q = 0x8100;
/** States in which a packet has an original direction tuple. */
const CT_VALID = CS_NEW | CS_EST | CS_RPL;
/** actset_output of a packet without an output in its action set, as OpenFlow 1.1 numbers ports. */
const PORT_UNSET = 0xfffffff7 | 0;
const TCP_FIN = 0x01;
const TCP_RST = 0x04;
/** Where a flow stands that an action left from before recirculation has learned. */
const NOWHERE: SourcePos = { file: '', line: 0, column: 0, length: 0 };
const REASON_INVALID_TTL = 2;

/** Which hash of wire/hash.ts the names of ovs-actions(7) mean. */
const HASHES: Record<HashFields, number> = {
  eth_src: HASH_ETH_SRC,
  symmetric_l4: HASH_SYMMETRIC_L4,
  symmetric_l3l4: HASH_SYMMETRIC_L3L4,
  'symmetric_l3l4+udp': HASH_SYMMETRIC_L3L4_UDP,
  nw_src: HASH_NW_SRC,
  nw_dst: HASH_NW_DST,
  symmetric_l3: HASH_SYMMETRIC_L3,
};

/** An action, or, in an action list that was frozen, the table that what follows belongs to. */
type Step = Action | { kind: 'unroll'; table: number };

interface Pushed {
  value: bigint;
  bytes: number;
}

/** Where and how a pass begins that recirculation starts. */
interface Frozen {
  /** Looked up, unless there are `steps`. */
  table: number;
  steps: Step[];
  inPort: number;
  /** Words METADATA_HI to the last register. */
  words: Int32Array;
  stack: Pushed[];
  actionSet: Action[];
  /** Whether the packet's connection tracking state still means something. */
  tracked: boolean;
  /** Whether the packet has got a hash for select groups. */
  hashed: boolean;
}

/** What a copy of the packet may change and the packet itself gets back. */
interface Saved {
  flow: Int32Array;
  wrote: Int32Array;
  dirty: Int32Array;
  wireVlan: Int32Array;
  wireLabels: number[];
  relabelled: boolean;
  wasMpls: boolean;
  hashed: boolean;
}

export interface Translation {
  program: Int32Array;
  /** KEY_WORDS words. */
  mask: Int32Array;
}

/** Who wants to know how a translation came about (`shardtrack trace`). Whatever is told between an
 *  `enter…` and its `leave` happened inside. */
export interface Tracer {
  /** A table was looked up; null: no rule matched. */
  enterTable(table: number, rule: TableRule | null): void;
  enterGroup(group: TableGroup): void;
  /** `how` says why it was chosen. */
  enterBucket(group: TableGroup, bucket: TableBucket, how: string): void;
  /** Something else with actions of its own: "action set", "thaw", … */
  enter(what: string): void;
  leave(): void;
  /** Before it is done. */
  action(action: Action): void;
  /** After an action that changed something: FLOW_WORDS words. Both are reused. */
  changed(before: Int32Array, after: Int32Array): void;
  /** A remark, or why the packet goes nowhere. */
  note(text: string): void;
  /** The packet comes back with this recirculation id, at this table unless actions are left. */
  froze(id: number, table: number): void;
}

/** Ends a translation, or a bucket's, without a result. */
class TranslationError extends Error {
  readonly reason: number;

  constructor(reason: number) {
    super(DROP_REASONS[reason] ?? '');
    this.reason = reason;
  }
}

export class Translator {
  readonly pipeline: Pipeline;
  private readonly maxFrozen: number;
  private readonly frozen = new Map<number, Frozen>();
  private readonly frozenIds = new Map<string, number>();
  private lastFrozenId = 0;
  /** Numbers for actions, to name what was frozen. */
  private readonly uids = new WeakMap<Step, number>();
  private lastUid = 0;

  // State of the translation under way.
  private readonly flow = new Int32Array(FLOW_WORDS);
  private readonly all = new Int32Array(FLOW_WORDS).fill(-1);
  private readonly wild = new Int32Array(FLOW_WORDS); // bits that the result depends on
  private readonly wrote = new Int32Array(FLOW_WORDS); // bits whose value the translation itself has set
  private readonly dirty = new Int32Array(FLOW_WORDS); // bits written since they were last committed
  private readonly emitted = new Int32Array(FLOW_WORDS); // bits committed since the bucket began
  private readonly probe = new Int32Array(FLOW_WORDS);
  private readonly before = new Int32Array(FLOW_WORDS);
  private readonly wireVlan = new Int32Array(2); // tags on the frame as committed
  private wireLabels: number[] = []; // label stack as committed, outermost first
  private relabelled = false; // labels were pushed or popped since
  private ops: number[] = [];
  /** Words of the programs around the one being written. */
  private outerWords = 0;
  private credits: Counted[] = [];
  private changes: number[] = []; // OP_LEARN, OP_FIN_TIMEOUT
  private nOutputs = 0;
  private reason = 0;
  private depth = 0;
  private resubmits = 0;
  private table = 0;
  private rule: TableRule | null = null;
  private stack: Pushed[] = [];
  private stackBytes = 0;
  private actionSet: Action[] = [];
  private setHasGroup = false;
  private exit = false;
  private freezing = false;
  private steps: Step[] = []; // what is left to do after freezing
  private paused: (Action & { kind: 'controller' }) | null = null; // what froze it: a controller goes on
  private hashing: Selection | null = null; // what froze it: the packet is to get this hash
  private hashed = false; // the packet has a hash
  private wasMpls = false;
  private tracked = false;
  private tracer: Tracer | null = null;

  /** `maxFrozen` is how many places where recirculated packets go on make it crowded. */
  constructor(pipeline: Pipeline, maxFrozen = MAX_FROZEN) {
    this.pipeline = pipeline;
    this.maxFrozen = maxFrozen;
  }

  /** ct(commit) actions in all rules together: about what a packet can commit. */
  get nCommits(): number {
    return this.pipeline.nCommits;
  }

  /** Whether so many places where recirculated packets go on are kept that it is time to forget them. */
  get crowded(): boolean {
    return this.frozen.size > this.maxFrozen;
  }

  /** Forgets where recirculated packets go on. Only while no packet is in flight and no program is kept
   *  anywhere: after a new generation has begun. */
  forget(): void {
    this.frozen.clear();
    this.frozenIds.clear();
  }

  /** Translates the packet with this key (KEY_WORDS words). */
  translate(key: Int32Array, tracer: Tracer | null = null): Translation {
    const { flow, wild } = this;
    flow.fill(0);
    flow.set(key.subarray(0, KEY_WORDS));
    flow[ACTSET_OUTPUT] = PORT_UNSET;
    wild.fill(0);
    this.dirty.fill(0);
    this.emitted.fill(0);
    this.wrote.fill(0, 0, KEY_WORDS);
    this.wrote.fill(-1, KEY_WORDS);
    wild[IN_PORT] = wild[RECIRC_ID] = wild[ETH_TYPE] = -1;
    if (flow[ETH_TYPE] === ETH_TYPE_IP || flow[ETH_TYPE] === ETH_TYPE_IPV6) wild[NW] = 0xff000000 | 0;
    this.wireVlan[0] = flow[VLAN_0];
    this.wireVlan[1] = flow[VLAN_1];
    this.wireLabels = [];
    this.relabelled = false;
    this.ops = [];
    this.lastClone = -1;
    this.outerWords = 0;
    this.credits = [];
    this.changes = [];
    this.rule = null;
    this.nOutputs = 0;
    this.reason = DROP_NO_OUTPUT;
    this.depth = 0;
    this.resubmits = 0;
    this.table = 0;
    this.stack = [];
    this.stackBytes = 0;
    this.actionSet = [];
    this.setHasGroup = false;
    this.exit = false;
    this.freezing = false;
    this.steps = [];
    this.paused = null;
    this.hashing = null;
    this.hashed = false;
    this.wasMpls = false;
    this.tracked = false;
    this.tracer = tracer;
    try {
      this.begin();
      this.finish();
    } catch (error) {
      if (!(error instanceof TranslationError)) throw error;
      // Open vSwitch drops a packet whose translation fails, whatever the actions before.
      tracer?.note(error.message);
      this.ops = [OP_END, error.reason];
      this.credit();
    }
    this.tracer = null;
    return { program: Int32Array.from(this.ops), mask: wild.slice(0, KEY_WORDS) };
  }

  private begin(): void {
    const { flow, tracer } = this;
    if (flow[RECIRC_ID] === 0) {
      this.enterTable(0, flow[IN_PORT]);
    } else {
      const frozen = this.frozen.get(flow[RECIRC_ID]);
      if (frozen === undefined) throw new TranslationError(DROP_RECIRC_LOST);
      tracer?.enter('thaw');
      this.thaw(frozen);
      if (frozen.steps.length > 0) this.actions(frozen.steps);
      else this.enterTable(frozen.table, flow[IN_PORT]);
      tracer?.leave();
    }
    this.runActionSet();
    if (this.freezing) this.finishFreezing();
  }

  private thaw(frozen: Frozen): void {
    const { flow } = this;
    this.table = frozen.table;
    flow.set(frozen.words, METADATA_HI);
    flow[ACTSET_OUTPUT] = PORT_UNSET;
    flow[IN_PORT] = frozen.inPort;
    this.stack = [...frozen.stack];
    this.stackBytes = this.stack.reduce((n, pushed) => n + pushed.bytes + 1, 0);
    this.tracked = frozen.tracked;
    this.hashed = frozen.hashed;
    if (!frozen.tracked) this.clearConntrack();
    if (frozen.actionSet.length > 0) this.writeActions(frozen.actionSet);
  }

  /** Ends the program. */
  private finish(): void {
    const { ops } = this;
    const last = this.lastClone;
    if (last >= 0 && last + 2 + ops[last + 1] === ops.length && this.reason === DROP_NO_OUTPUT) {
      // Nothing is left for the packet itself: what its clone does it does.
      ops.splice(last, 2);
    } else {
      ops.push(OP_END, this.reason);
    }
    this.credit();
    if (this.ops.length > MAX_PROGRAM_WORDS) throw new TranslationError(DROP_PROGRAM_SIZE);
  }
  /** Place of the last OP_CLONE in `ops` that is not within another, or -1. */
  private lastClone = -1;

  /** Puts what the packet counts for, and what it changes in the tables, in front of the program. */
  private credit(): void {
    const { credits, changes } = this;
    const stat = credits.length === 0 ? [] : [OP_STAT, this.pipeline.stats.point(credits)];
    if (stat.length + changes.length > 0) this.ops = [...stat, ...changes, ...this.ops];
    this.credits = [];
    this.changes = [];
  }

  // ---- tables ----

  /** A lookup of the packet as it came, or of goto_table: no rule is the end of it. */
  private enterTable(table: number, inPort: number): void {
    const outer = this.table;
    this.table = table;
    this.runRule(this.lookup(table, inPort));
    this.table = outer;
  }

  private runRule(rule: TableRule | null): void {
    this.tracer?.enterTable(this.table, rule);
    if (rule === null) {
      this.drop(DROP_TABLE_MISS);
    } else {
      const outer = this.rule;
      this.rule = rule;
      this.credits.push(rule);
      this.actions(rule.actions);
      this.rule = outer;
    }
    this.tracer?.leave();
  }

  /** The rule of highest priority that the flow matches. */
  private lookup(table: number, inPort: number): TableRule | null {
    const { flow, wild, wrote, probe } = this;
    const ports = flow[TP];
    const realPort = flow[IN_PORT];
    flow[IN_PORT] = inPort;
    // Fragments match as if they had no ports: the switch's fragment handling is "normal"
    // (ovs-ofctl(8), set-frags).
    if (flow[NW] & (FRAG_ANY << 24)) flow[TP] = 0;
    // What was written is as good as compared already.
    for (let w = 0; w < FLOW_WORDS; w++) probe[w] = wild[w] | wrote[w];
    const rule = this.pipeline.lookup(table, flow, probe);
    for (let w = 0; w < KEY_WORDS; w++) wild[w] |= probe[w] & ~wrote[w];
    flow[TP] = ports;
    flow[IN_PORT] = realPort;
    return rule;
  }

  /** Whether another table or group may be entered. */
  private hasRoom(): boolean {
    if (this.depth >= MAX_DEPTH || this.resubmits >= MAX_RESUBMITS) {
      throw new TranslationError(DROP_RESUBMIT_DEPTH);
    }
    if (this.outerWords + this.ops.length > SOFT_PROGRAM_WORDS) {
      this.tracer?.note(
        `the actions have come to more than ${SOFT_PROGRAM_WORDS * 4} bytes: translation ends`,
      );
      this.exit = true;
      return false;
    }
    if (this.stackBytes >= MAX_STACK_BYTES) throw new TranslationError(DROP_STACK);
    return true;
  }

  private resubmit(table: number, inPort: number, original: boolean): void {
    if (this.wasMpls) {
      this.freeze();
      return;
    }
    if (!this.hasRoom()) return;
    if (original) {
      this.need(CT_NW_PROTO, 0xff);
      if ((this.flow[CT_NW_PROTO] & 0xff) === 0 || !this.isIp()) {
        this.tracer?.note('resubmit with ct of a packet that is not IP or has no connection');
        this.drop(DROP_TABLE_MISS);
        return;
      }
      this.swapTuple();
    }
    const rule = this.lookup(table, inPort);
    if (original) this.swapTuple();
    this.resubmits++;
    const deepens = table <= this.table ? 1 : 0;
    const outer = this.table;
    this.depth += deepens;
    this.table = table;
    this.runRule(rule);
    this.table = outer;
    this.depth -= deepens;
  }

  /** Exchanges the packet's addresses, ports and protocol with those of its connection. */
  private swapTuple(): void {
    const ipv4 = this.flow[ETH_TYPE] === ETH_TYPE_IP;
    for (const words of [this.flow, this.wild, this.wrote]) {
      const proto = words[NW] & 0xff;
      words[NW] = (words[NW] & ~0xff) | (words[CT_NW_PROTO] & 0xff);
      words[CT_NW_PROTO] = (words[CT_NW_PROTO] & ~0xff) | proto;
      swap(words, TP, CT_TP);
      if (ipv4) {
        swap(words, NW_SRC, CT_NW_SRC);
        swap(words, NW_DST, CT_NW_DST);
      } else {
        for (let i = 0; i < 8; i++) swap(words, IPV6_SRC_0 + i, CT_IPV6_SRC_0 + i);
      }
    }
  }

  // ---- action lists ----

  private actions(list: readonly Step[]): void {
    const { flow, tracer } = this;
    if (list.length === 0) this.drop(DROP_ACTION);
    for (let i = 0; i < list.length; i++) {
      const action = list[i];
      if (this.wasMpls && !this.exit && mustSeeInside(action)) this.freeze();
      if (this.exit) {
        if (this.freezing) this.postpone(list, i);
        return;
      }
      if (tracer !== null) {
        if (action.kind !== 'unroll') tracer.action(action);
        this.before.set(flow);
      }
      switch (action.kind) {
        case 'resubmit':
          // What freezes inside is not done again when it thaws.
          this.resubmit(action.table ?? this.table, this.portOf(action.port), action.ct ?? false);
          continue;
        case 'goto_table':
          this.resubmit(action.table, flow[IN_PORT], false);
          continue;
        case 'check_pkt_larger':
          this.checkLength(action.size, action.dst, list.slice(i + 1));
          return;
        case 'unroll':
          this.table = action.table;
          this.rule = null;
          break;
        default:
          if (!this.action(action)) return;
      }
      if (tracer !== null && !flow.every((word, w) => word === this.before[w])) {
        tracer.changed(this.before, flow);
      }
      if (this.freezing && this.steps.length === 0) {
        this.postpone(list, i);
        return;
      }
    }
  }

  private portOf(port: number | null): number {
    return port === null || port === OFPP_IN_PORT ? this.flow[IN_PORT] : port;
  }

  /** Does one action. False: the rest of its list is not done. */
  private action(action: Action): boolean {
    const { flow } = this;
    switch (action.kind) {
      case 'output':
        if (action.maxLen === undefined || action.maxLen === 0) this.outputReserved(action.port, MAX_LEN_ALL);
        else this.truncated(action.port, action.maxLen);
        break;
      case 'output_reg': {
        const port = this.read(action.src);
        if (port <= 0xffffn) this.outputReserved(Number(port), MAX_LEN_ALL);
        else this.drop(DROP_NO_PORT);
        break;
      }
      case 'enqueue':
        if (action.port === OFPP_IN_PORT) this.output(flow[IN_PORT], true);
        else this.output(action.port, false);
        break;
      case 'in_port':
        this.output(flow[IN_PORT], true);
        break;
      case 'normal':
        this.commit();
        this.ops.push(OP_NORMAL);
        this.nOutputs++;
        break;
      case 'flood':
      case 'all':
        this.flood();
        break;
      case 'controller':
        if (action.pause) {
          this.paused = action;
          this.freeze();
        } else if (!this.pipeline.meters.has(action.meter)) {
          this.controller(action.maxLen, action.reason, action.id);
        } else {
          this.commit();
          this.ops.push(OP_CLONE, 8, OP_METER, action.meter);
          this.controller(action.maxLen, action.reason, action.id);
          this.ops.push(OP_END, DROP_NO_OUTPUT);
        }
        break;
      case 'drop':
        this.drop(DROP_ACTION);
        break;
      case 'group': {
        if (!this.hasRoom()) break;
        const group = this.pipeline.groups.get(action.group);
        if (group === undefined) {
          this.drop(DROP_NO_GROUP);
          return false;
        }
        this.group(group);
        break;
      }
      case 'write_actions':
        this.writeActions(action.actions);
        break;
      case 'clear_actions':
        this.actionSet = [];
        this.setHasGroup = false;
        flow[ACTSET_OUTPUT] = PORT_UNSET;
        break;
      case 'write_metadata': {
        const hi = Number(BigInt.asIntN(32, action.mask >> 32n));
        const lo = Number(BigInt.asIntN(32, action.mask));
        const at = METADATA_HI;
        flow[at] = (flow[at] & ~hi) | (Number(BigInt.asIntN(32, action.value >> 32n)) & hi);
        flow[at + 1] = (flow[at + 1] & ~lo) | (Number(BigInt.asIntN(32, action.value)) & lo);
        break;
      }
      case 'meter':
        this.ops.push(OP_METER, action.meter);
        break;
      case 'clone':
        this.clone(action.actions);
        break;
      case 'ct':
        this.conntrack(action);
        break;
      case 'ct_clear':
        if (this.tracked) {
          this.clearConntrack();
          this.tracked = false;
          this.ops.push(OP_CT_CLEAR);
        }
        break;
      case 'set':
        if (this.has(action.field)) this.setField(action.field, action.value, action.mask);
        break;
      case 'move':
        if (this.has(action.src.field) && this.has(action.dst.field)) {
          this.write(action.dst, this.read(action.src));
        }
        break;
      case 'push': {
        const bytes = Math.ceil(action.src.bits / 8);
        this.stack.push({ value: this.read(action.src), bytes });
        this.stackBytes += bytes + 1;
        break;
      }
      case 'pop': {
        const pushed = this.stack.pop();
        if (pushed === undefined) {
          this.tracer?.note('nothing is on the stack');
          break;
        }
        this.stackBytes -= pushed.bytes + 1;
        if (this.has(action.dst.field)) {
          this.write(action.dst, pushed.value & ((1n << BigInt(action.dst.bits)) - 1n));
        }
        break;
      }
      case 'push_vlan':
        this.dependOnVlan();
        // The inner one of two tags makes way, as in Open vSwitch.
        flow[VLAN_1] = flow[VLAN_0];
        flow[VLAN_0] = (action.tpid << 16) | VLAN_PRESENT;
        break;
      case 'pop_vlan':
        this.dependOnVlan();
        flow[VLAN_0] = flow[VLAN_1];
        flow[VLAN_1] = 0;
        break;
      case 'set_vlan_vid':
        this.setTci(action.vid, 0x0fff);
        break;
      case 'set_vlan_pcp':
        this.setTci(action.pcp << 13, 0xe000);
        break;
      case 'push_mpls':
        this.pushMpls(action.ethertype);
        break;
      case 'pop_mpls':
        this.popMpls(action.ethertype);
        break;
      case 'dec_mpls_ttl': {
        if (isMpls(flow[ETH_TYPE])) {
          this.need(MPLS_0, 0xff);
          const ttl = flow[MPLS_0] & 0xff;
          if (ttl > 1) {
            flow[MPLS_0] = (flow[MPLS_0] & ~0xff) | (ttl - 1);
            this.wrote[MPLS_0] |= 0xff;
            this.dirty[MPLS_0] |= 0xff;
            break;
          }
          this.controller(MAX_LEN_ALL, REASON_INVALID_TTL, 0);
        }
        this.drop(DROP_TTL);
        return false;
      }
      case 'dec_ttl': {
        if (!this.isIp()) break;
        this.need(NW, 0xff00);
        const ttl = (flow[NW] >>> 8) & 0xff;
        if (ttl <= 1) {
          for (const id of action.controllers ?? [0]) this.controller(MAX_LEN_ALL, REASON_INVALID_TTL, id);
          this.drop(DROP_TTL);
          return false;
        }
        flow[NW] = (flow[NW] & ~0xff00) | ((ttl - 1) << 8);
        this.wrote[NW] |= 0xff00;
        this.dirty[NW] |= 0xff00;
        break;
      }
      case 'multipath':
        this.write(action.dst, BigInt(multipath(this.hash(action.fields, action.basis), action)));
        break;
      case 'bundle': {
        const port = this.bundle(action);
        if (action.dst === undefined) this.outputReserved(port, 0);
        else this.write(action.dst, BigInt(port) & ((1n << BigInt(action.dst.bits)) - 1n));
        break;
      }
      case 'learn':
        this.learn(action);
        break;
      case 'fin_timeout':
        this.finTimeout(action.idleTimeout, action.hardTimeout);
        break;
      case 'exit':
        this.exit = true;
        break;
    }
    return true;
  }

  /** The flow that is learned is seen from the next pass on. */
  private learn(action: Action & { kind: 'learn' }): void {
    const flow = learnedFlow(action, (src) => this.read(src), this.rule?.pos ?? NOWHERE);
    const { id, refresh, success } = this.pipeline.learn(flow, action.limit);
    if (id >= 0) this.changes.push(OP_LEARN, id);
    if (refresh !== null) this.credits.push(refresh);
    if (!success) this.tracer?.note('limit exceeded: nothing is learned');
    if (action.resultDst !== null) this.write(action.resultDst, success ? 1n : 0n);
  }

  private finTimeout(idle: number, hard: number): void {
    const { flow, rule } = this;
    this.need(NW, 0xff);
    if (rule === null || !this.isIp() || (flow[NW] & 0xff) !== IPPROTO_TCP) return;
    this.need(TCP_FLAGS, TCP_FIN | TCP_RST);
    if ((flow[TCP_FLAGS] & (TCP_FIN | TCP_RST)) === 0) return;
    const id = this.pipeline.finTimeout(rule, idle, hard);
    if (id >= 0) this.changes.push(OP_FIN_TIMEOUT, id);
  }

  private drop(reason: number): void {
    this.tracer?.note(`drop: ${DROP_REASONS[reason]}`);
    if (this.nOutputs === 0) this.reason = reason;
  }

  private isIp(): boolean {
    return this.flow[ETH_TYPE] === ETH_TYPE_IP || this.flow[ETH_TYPE] === ETH_TYPE_IPV6;
  }

  // ---- outputs ----

  private outputReserved(port: number, maxLen: number): void {
    switch (port) {
      case OFPP_IN_PORT:
        this.output(this.flow[IN_PORT], true);
        break;
      case OFPP_TABLE:
        this.resubmit(0, this.flow[IN_PORT], false);
        break;
      case OFPP_NORMAL:
        this.action({ kind: 'normal' });
        break;
      case OFPP_FLOOD:
      case OFPP_ALL:
        this.flood();
        break;
      case OFPP_CONTROLLER:
        this.controller(maxLen, REASON_ACTION, 0);
        break;
      case OFPP_NONE:
        break;
      default:
        this.output(port, false);
    }
  }

  private output(port: number, back: boolean): void {
    if (!back && port === this.flow[IN_PORT]) {
      this.drop(DROP_TO_IN_PORT);
    } else if (!this.pipeline.hasPort(port)) {
      this.drop(DROP_NO_PORT);
    } else {
      this.commit();
      this.ops.push(OP_OUTPUT, port);
      this.nOutputs++;
    }
  }

  /** Cuts what it sends; only a port of the switch will do (ovs-actions(7), "The output action"). */
  private truncated(port: number, maxLen: number): void {
    const { flow } = this;
    const to = port === OFPP_IN_PORT ? flow[IN_PORT] : port;
    if (port === flow[IN_PORT]) this.drop(DROP_TO_IN_PORT);
    else if (!this.pipeline.hasPort(to)) this.drop(DROP_NO_PORT);
    else {
      // What is pushed by the output itself comes on top, as in Open vSwitch.
      this.ops.push(OP_TRUNC, maxLen);
      this.output(to, true);
    }
  }

  private flood(): void {
    for (const port of this.pipeline.ports) if (port !== this.flow[IN_PORT]) this.output(port, false);
  }

  private controller(maxLen: number, reason: number, id: number): void {
    this.commit();
    this.ops.push(OP_CONTROLLER, maxLen, reason, id);
  }

  /** hash of the headers, for multipath and bundle: the result becomes part of the flow, so that the mask
   *  has what it depends on. */
  private hash(fields: HashFields, basis: number): number {
    const { flow } = this;
    const which = HASHES[fields];
    const type = flow[ETH_TYPE];
    const proto = flow[NW] & 0xff;
    const addresses = (src: boolean, dst: boolean) => {
      if (type === ETH_TYPE_IP) {
        if (src) this.need(NW_SRC, -1);
        if (dst) this.need(NW_DST, -1);
      } else if (type === ETH_TYPE_IPV6) {
        for (let i = 0; i < 4; i++) {
          if (src) this.need(IPV6_SRC_0 + i, -1);
          if (dst) this.need(IPV6_DST_0 + i, -1);
        }
      }
    };
    const ethernet = () => {
      this.need(ETH_DST_HI, -1);
      this.need(ETH_DST_LO_SRC_HI, -1);
      this.need(ETH_SRC_LO, -1);
      this.need(VLAN_0, 0x0fff);
      this.need(VLAN_1, 0x0fff);
    };
    const ports = (udp: boolean) => {
      if (!this.isIp()) return;
      this.need(NW, 0xff0000ff | 0);
      if (proto === IPPROTO_TCP || proto === IPPROTO_SCTP || (udp && proto === IPPROTO_UDP))
        this.need(TP, -1);
    };
    switch (fields) {
      case 'eth_src':
        this.need(ETH_DST_LO_SRC_HI, 0xffff);
        this.need(ETH_SRC_LO, -1);
        break;
      case 'nw_src':
        addresses(true, false);
        break;
      case 'nw_dst':
        addresses(false, true);
        break;
      case 'symmetric_l3':
        addresses(true, true);
        break;
      case 'symmetric_l4':
        ethernet();
        addresses(true, true);
        ports(false);
        break;
      default:
        if (!this.isIp()) ethernet();
        addresses(true, true);
        ports(fields === 'symmetric_l3l4+udp');
    }
    return hashHeaders(flow, which, basis);
  }

  private bundle(action: Action & { kind: 'bundle' }): number {
    const { pipeline } = this;
    const up = action.ports.filter((p) => {
      if (p < OFPP_MAX || pipeline.hasPort(p)) return pipeline.isUp(p);
      return p !== OFPP_CONTROLLER;
    });
    if (up.length === 0) return OFPP_NONE;
    if (action.algorithm === 'active_backup') return up[0];
    const hash = action.ports.length > 1 ? this.hash(action.fields, action.basis) : 0;
    let best = -1;
    let bestScore = -1;
    action.ports.forEach((p, i) => {
      const score = hashInt(i, hash);
      if (up.includes(p) && score > bestScore) {
        best = p;
        bestScore = score;
      }
    });
    return best;
  }

  // ---- copies of the packet ----

  private save(): Saved {
    return {
      flow: this.flow.slice(),
      wrote: this.wrote.slice(),
      dirty: this.dirty.slice(),
      wireVlan: this.wireVlan.slice(),
      wireLabels: this.wireLabels,
      relabelled: this.relabelled,
      wasMpls: this.wasMpls,
      hashed: this.hashed,
    };
  }

  /** Goes back to the packet as it was. `wire`: on the wire, too. */
  private restore(s: Saved, wire: boolean): void {
    this.flow.set(s.flow);
    this.wrote.set(s.wrote);
    this.dirty.set(s.dirty);
    this.wasMpls = s.wasMpls;
    this.hashed = s.hashed;
    if (!wire) return;
    this.wireVlan.set(s.wireVlan);
    this.wireLabels = s.wireLabels;
    this.relabelled = s.relabelled;
  }

  /** What `body` adds to the program, which is left as it was. */
  private collect(body: () => void): number[] {
    const outer = this.ops;
    const outerClone = this.lastClone;
    this.outerWords += outer.length;
    this.ops = [];
    this.lastClone = -1;
    try {
      body();
      return this.ops;
    } finally {
      this.ops = outer;
      this.lastClone = outerClone;
      this.outerWords -= outer.length;
    }
  }

  private append(words: readonly number[]): void {
    for (const word of words) this.ops.push(word);
  }

  private appendClone(words: readonly number[]): void {
    this.lastClone = this.ops.length;
    this.ops.push(OP_CLONE, words.length);
    this.append(words);
  }

  /** Runs `body` on a copy of the packet. `inPlace`: if it tracks, on the packet itself. */
  private isolated(inPlace: boolean, body: () => void): void {
    const saved = this.save();
    const emitted = this.emitted.slice();
    this.emitted.fill(0);
    const words = this.collect(body);
    if (inPlace && tracksInLine(words)) {
      this.append(words);
      this.restore(saved, false);
      // What is on the wire now is set back before the packet is sent.
      for (let w = 0; w < FLOW_WORDS; w++) this.dirty[w] |= this.emitted[w];
      for (let w = 0; w < FLOW_WORDS; w++) this.emitted[w] |= emitted[w];
      return;
    }
    this.emitted.set(emitted);
    this.restore(saved, true);
    if (words.length === 0) return;
    if (onlyOutputs(words)) {
      this.append(words);
    } else {
      words.push(OP_END, DROP_NO_OUTPUT);
      this.appendClone(words);
    }
  }

  /** A part of the program that only some packets run, with its own end. */
  private branch(body: () => void): number[] {
    const saved = this.save();
    const { reason } = this;
    this.reason = DROP_NO_OUTPUT;
    const words = this.collect(() => {
      body();
      this.ops.push(OP_END, this.reason);
    });
    this.reason = reason;
    this.restore(saved, true);
    return words;
  }

  /** Parts of the program of which each packet runs one. */
  private branches(bodies: (() => void)[]): number[][] {
    const { nOutputs } = this;
    let most = nOutputs;
    const parts = bodies.map((body) => {
      this.nOutputs = nOutputs;
      const words = this.branch(body);
      most = Math.max(most, this.nOutputs);
      return words;
    });
    this.nOutputs = most;
    return parts;
  }

  private clone(list: readonly Action[]): void {
    this.commit();
    const { stack, stackBytes, actionSet, tracked } = this;
    this.isolated(false, () => {
      this.stack = [];
      this.stackBytes = 0;
      this.actionSet = [];
      this.tracer?.enter('clone');
      this.actions(list);
      this.runActionSet();
      if (this.freezing) this.finishFreezing();
      this.tracer?.leave();
    });
    this.stack = stack;
    this.stackBytes = stackBytes;
    this.actionSet = actionSet;
    this.tracked = tracked;
  }

  /** check_pkt_larger: the rest of the list is translated for longer frames and for the others, and each
   *  frame runs one of the two. As in Open vSwitch stack and action set begin empty there, shorter frames
   *  find what longer ones have left in them, and an exit among longer frames ends the lists around. */
  private checkLength(size: number, dst: Subfield, rest: readonly Step[]): void {
    this.commit();
    const { stack, stackBytes, actionSet, tracked } = this;
    let exited = false;
    this.stack = [];
    this.stackBytes = 0;
    this.actionSet = [];
    const half = (larger: bigint) => () => {
      this.tracked = tracked;
      this.exit = false;
      this.tracer?.enter(larger ? `longer than ${size} bytes` : `not longer than ${size} bytes`);
      this.write(dst, larger);
      if (rest.length > 0) this.actions(rest);
      this.runActionSet();
      if (this.freezing) this.finishFreezing();
      this.tracer?.leave();
      if (larger) exited = this.exit;
    };
    // Rules of both halves count every packet, as they do in Open vSwitch.
    const [larger, others] = this.branches([half(1n), half(0n)]);
    this.appendClone([OP_CHECK_LEN, size, larger.length, ...larger, ...others]);
    this.stack = stack;
    this.stackBytes = stackBytes;
    this.actionSet = actionSet;
    this.tracked = tracked;
    this.exit = exited;
  }

  // ---- groups ----

  private group(group: TableGroup): void {
    const { pipeline, tracer } = this;
    tracer?.enterGroup(group);
    switch (group.group.type) {
      case 'all':
      case 'indirect':
        for (const b of group.buckets) this.bucket(group, b, 'all buckets run');
        this.credits.push(group, ...group.buckets);
        break;
      case 'fast_failover': {
        const live = firstLive(pipeline, group);
        if (live === null) this.drop(DROP_NO_BUCKET);
        else this.chosen(group, live, 'first live bucket');
        break;
      }
      case 'select':
        if (this.wasMpls) this.freeze();
        else this.select(group);
        break;
    }
    tracer?.leave();
  }

  private chosen(group: TableGroup, bucket: TableBucket, how: string): void {
    this.bucket(group, bucket, how);
    this.credits.push(group, bucket);
  }

  private bucket(group: TableGroup, bucket: TableBucket, how: string): void {
    this.tracer?.enterBucket(group, bucket, how);
    const list = actionListOf(bucket.bucket.actions);
    const { nOutputs, reason, credits, changes, stack, stackBytes, actionSet, tracked, depth, table, rule } =
      this;
    this.depth++;
    this.isolated(true, () => {
      try {
        this.actions(list);
        if (this.freezing) this.finishFreezing();
      } catch (error) {
        // Too deep a label stack ends the bucket alone.
        if (!(error instanceof TranslationError) || error.reason !== DROP_MPLS) throw error;
        this.ops = [];
        Object.assign(this, { nOutputs, reason, credits, changes, stack, stackBytes, actionSet });
        Object.assign(this, { tracked, depth: depth + 1, table, rule });
        this.drop(DROP_MPLS);
      }
    });
    this.depth--;
    this.exit = false;
    this.tracer?.leave();
  }

  /** A select group. Which bucket a packet takes is decided by the datapath, from a hash: each bucket that
   *  may be chosen is a branch of the program. For a hash of the headers as they are on the wire the packet
   *  comes back first, as in Open vSwitch, and keeps the hash. */
  private select(group: TableGroup): void {
    const { pipeline } = this;
    const { buckets } = group;
    const selection = selectionOf(group.group);
    if (selection !== null && !this.hashed) {
      this.hashing = selection;
      this.freeze();
      return;
    }
    const live = buckets.map((b) => isLive(pipeline, group.group, b));
    const candidates = buckets.filter((_, i) => live[i]);
    if (candidates.length === 0) {
      this.drop(DROP_NO_BUCKET);
      return;
    }
    if (candidates.length === 1) {
      this.chosen(group, candidates[0], 'the only live bucket');
      return;
    }
    this.commit();
    const { credits, changes } = this;
    const branches = this.branches(
      candidates.map((b) => () => {
        this.credits = [];
        this.changes = [];
        this.chosen(group, b, selection === null ? 'by fields' : 'by hash');
        this.credit();
      }),
    );
    this.credits = credits;
    this.changes = changes;
    const places: number[] = [];
    let at = selection === null ? 2 + 3 * candidates.length : 2 + selection.slots.length;
    for (const words of branches) {
      places.push(at);
      at += words.length;
    }
    const words: number[] = [];
    if (selection === null) {
      this.hashOp(group, words);
      words.push(OP_SELECT_BEST, candidates.length);
      candidates.forEach((b, i) => {
        words.push(b.bucket.id, b.bucket.weight, places[i]);
      });
    } else {
      const { slots } = selection;
      words.push(OP_SELECT_MAP, slots.length);
      slots.forEach((_, i) => {
        // The place of a dead bucket goes to the next live one.
        let slot = i;
        while (!live[slots[slot]]) slot = (slot + 1) % slots.length;
        words.push(places[candidates.indexOf(buckets[slots[slot]])]);
      });
    }
    this.appendClone([...words, ...branches.flat()]);
  }

  /** The hash over the fields that a group names, in the order of ovs-fields(7); over the headers if it
   *  names none. Known bits go into the program. */
  private hashOp(group: TableGroup, words: number[]): void {
    const { flow, wrote } = this;
    const { fields, selectionParam, selectionMethod } = group.group;
    if (selectionMethod !== 'hash' || fields.length === 0) {
      words.push(OP_HASH_HEADERS, HASH_SYMMETRIC_L4, 0);
      return;
    }
    const used = fields
      .filter(({ field }) => this.has(field))
      .sort((a, b) => FIELDS.indexOf(a.field) - FIELDS.indexOf(b.field));
    const at = words.length;
    words.push(OP_HASH_FIELDS, 0, hashUint64(selectionParam) | 0, used.length);
    for (const { field, mask } of used) {
      words.push(field.bytes);
      for (let first = 0; first < field.bytes; first += 4) {
        const constantAt = words.length;
        words.push(0, 0);
        // Bits of the value from the most significant one; this word has 32 from `first` on.
        let end = field.segments.reduce((bits, s) => bits + s.bits, 0);
        for (const s of field.segments) {
          end -= s.bits;
          const low = 32 - (field.bytes - first) * 8 + end; // place of the segment's lowest bit in the word
          if (low >= 32 || low + s.bits <= 0) continue;
          const shift = low - s.shift;
          let bits = Number(((mask & field.valid) >> BigInt(end)) & ((1n << BigInt(s.bits)) - 1n)) << s.shift;
          if (low < 0) bits = (bits >>> (s.shift - low)) << (s.shift - low);
          if (low + s.bits > 32) bits &= (2 ** (s.shift + 32 - low) - 1) | 0;
          const known = flow[s.word] & bits & wrote[s.word];
          words[constantAt] |= shift >= 0 ? known << shift : known >>> -shift;
          bits &= ~wrote[s.word];
          if (bits === 0) continue;
          words[constantAt + 1]++;
          words.push(s.word, bits, shift);
        }
      }
    }
    words[at + 1] = words.length - at;
  }

  // ---- action set ----

  private writeActions(list: readonly Action[]): void {
    const { flow } = this;
    if (!this.setHasGroup) {
      for (const action of list) {
        const port = outputOf(action);
        if (port !== null) flow[ACTSET_OUTPUT] = port < OFPP_MAX ? port : (port + 0xffff0000) | 0;
        else if (action.kind === 'group') {
          flow[ACTSET_OUTPUT] = PORT_UNSET;
          this.setHasGroup = true;
          break;
        }
      }
    }
    this.actionSet = [...this.actionSet, ...list];
  }

  private runActionSet(): void {
    if (this.freezing) return;
    const list = actionListOf(this.actionSet);
    this.actionSet = [];
    if (list.length === 0) return;
    this.tracer?.enter('action set');
    this.actions(list);
    this.tracer?.leave();
  }

  // ---- freezing ----

  private freeze(): void {
    this.exit = true;
    this.freezing = true;
  }

  /** Leaves the actions from `i` on for after recirculation. */
  private postpone(list: readonly Step[], i: number): void {
    if (i === list.length) return;
    this.steps.push({ kind: 'unroll', table: this.table }, ...list.slice(i));
  }

  /** The packet comes back to go on with what was postponed. The lists around, except that of a group, stay
   *  ended: in Open vSwitch, too, what follows a clone() that recirculates does not run. */
  private finishFreezing(): void {
    const { paused } = this;
    if (paused === null) {
      const { hashing, hashed } = this;
      this.commit();
      if (hashing !== null) this.ops.push(OP_DP_HASH, hashing.which, hashing.basis);
      this.hashed ||= hashing !== null;
      this.recirculate(0);
      this.hashed = hashed;
    } else {
      this.controller(paused.maxLen, paused.reason, paused.id);
    }
    this.paused = null;
    this.hashing = null;
    this.steps = [];
    this.freezing = false;
  }

  /** A new pass that goes on at `table`, or with the postponed actions. */
  private recirculate(table: number): void {
    const { actionSet, steps, ops } = this;
    const { reach } = this.pipeline;
    let sends = reach.listOnlySends(table, actionSet);
    if (steps.length === 0) sends &&= reach.onlySends(table);
    // Actions after an `unroll` belong to its table.
    for (let i = 0, of = table; i < steps.length && sends; i++) {
      const step = steps[i];
      if (step.kind === 'unroll') of = step.table;
      else sends = reach.listOnlySends(of, [step]);
    }
    ops.push(OP_RECIRC, this.froze(table), sends ? 1 : 0);
  }

  /** Recirculation id for going on at `table`, or with the postponed actions, with everything else as it
   *  is. */
  private froze(table: number): number {
    const { flow, stack, actionSet, steps, tracked, hashed } = this;
    const words = flow.slice(METADATA_HI);
    // Made anew from the action set; found by the lookup.
    words[ACTSET_OUTPUT - METADATA_HI] = words[CONJ_ID - METADATA_HI] = 0;
    const inPort = flow[IN_PORT];
    const name = [
      table,
      steps.map((s) => (s.kind === 'unroll' ? `@${s.table}` : this.uid(s))),
      inPort,
      // Character by character, as numbers would take five times as long.
      String.fromCharCode.apply(null, new Uint16Array(words.buffer) as unknown as number[]),
      stack.map((p) => `${p.value}:${p.bytes}`),
      actionSet.map((a) => this.uid(a)),
      tracked,
      hashed,
    ].join('/');
    let id = this.frozenIds.get(name);
    if (id === undefined) {
      id = ++this.lastFrozenId;
      this.frozen.set(id, {
        table,
        steps: [...steps],
        inPort,
        words,
        stack: [...stack],
        actionSet: [...actionSet],
        tracked,
        hashed,
      });
      this.frozenIds.set(name, id);
    }
    this.tracer?.froze(id, table);
    return id;
  }

  private uid(step: Step): number {
    let uid = this.uids.get(step);
    if (uid === undefined) {
      uid = ++this.lastUid;
      this.uids.set(step, uid);
    }
    return uid;
  }

  // ---- connection tracking ----

  private conntrack(action: Action & { kind: 'ct' }): void {
    const { flow, dirty, ops } = this;
    const zone = typeof action.zone === 'number' ? action.zone : Number(this.read(action.zone));
    this.commit();
    let flags = (action.commit ? CT_COMMIT : 0) | (action.force ? CT_FORCE : 0);
    // What exec() writes, and only that, goes to the connection.
    for (let w = CT_MARK; w < CT_LABEL_0 + 4; w++) dirty[w] = 0;
    for (const a of action.exec) {
      this.tracer?.action(a);
      this.action(a);
    }
    if (dirty[CT_MARK] !== 0) flags |= CT_SET_MARK;
    for (let i = 0; i < 4; i++) if (dirty[CT_LABEL_0 + i] !== 0) flags |= CT_SET_LABEL;
    ops.push(OP_CT, flags, zone, flow[CT_MARK] & dirty[CT_MARK], dirty[CT_MARK]);
    for (let i = 0; i < 4; i++) ops.push(flow[CT_LABEL_0 + i] & dirty[CT_LABEL_0 + i]);
    for (let i = 0; i < 4; i++) ops.push(dirty[CT_LABEL_0 + i]);
    pushNat(ops, action.nat);
    ops.push(action.alg === 'ftp' ? ALG_FTP : action.alg === 'tftp' ? ALG_TFTP : ALG_NONE);
    for (let w = CT_MARK; w < CT_LABEL_0 + 4; w++) dirty[w] = 0;
    if (action.table !== null) {
      this.tracked = true;
      this.recirculate(action.table);
    }
    // ct_* fields exist only in the pass that ct(table=N) starts.
    this.clearConntrack();
    this.tracked = false;
  }

  private clearConntrack(): void {
    const { flow, wrote } = this;
    for (let w = CT_STATE; w < CT_LABEL_0 + 4; w++) flow[w] = 0;
    for (let w = CT_NW_SRC; w < KEY_WORDS; w++) flow[w] = 0;
    wrote.fill(-1, CT_STATE, CT_LABEL_0 + 4);
    wrote.fill(-1, CT_NW_SRC, KEY_WORDS);
  }

  // ---- fields ----

  /** The result depends on these bits of the packet, unless they were written before. */
  private need(word: number, bits: number): void {
    this.wild[word] |= bits & ~this.wrote[word];
  }

  private needField(field: Field, mask: bigint): void {
    const { wild, wrote } = this;
    let at = BigInt(field.segments.reduce((bits, s) => bits + s.bits, 0));
    for (const s of field.segments) {
      at -= BigInt(s.bits);
      const bits = Number((mask >> at) & ((1n << BigInt(s.bits)) - 1n)) << s.shift;
      wild[s.word] |= bits & ~wrote[s.word];
    }
  }

  /** Whether the packet has the field (ovs-fields(7), "Prerequisites"); the answer depends on the packet. */
  private has(field: Field): boolean {
    const { flow, all } = this;
    const { prereq } = field;
    if (prereq === 'ct') {
      this.need(CT_STATE, CT_VALID);
      return (flow[CT_STATE] & CT_VALID) !== 0;
    }
    if (prereq !== 'none' && prereq !== 'ethernet' && prereq !== 'vlan') this.need(NW, 0xff);
    if (prereq.startsWith('nd')) this.need(TP, -1);
    if (prereq === 'vlan') this.dependOnVlan();
    return meets({ value: flow, mask: all }, prereq, (flow[VLAN_0] & VLAN_PRESENT) !== 0);
  }

  private read(src: Subfield): bigint {
    this.needField(src.field, ((1n << BigInt(src.bits)) - 1n) << BigInt(src.ofs));
    return getSubfield(this.flow, src);
  }

  private write(dst: Subfield, value: bigint): void {
    if (isVlan(dst.field)) this.writeVlan(() => setSubfield(this.flow, dst, value));
    else {
      setSubfield(this.flow, dst, value);
      this.written(dst.field, ((1n << BigInt(dst.bits)) - 1n) << BigInt(dst.ofs));
    }
  }

  private setField(field: Field, value: bigint, mask: bigint): void {
    const { flow } = this;
    const old = getField(flow, field);
    if (isVlan(field)) {
      this.writeVlan(() => putField(flow, field, (old & ~mask) | (value & mask)));
    } else {
      putField(flow, field, (old & ~mask) | (value & mask));
      this.written(field, mask);
    }
  }

  private written(field: Field, mask: bigint): void {
    addBits(this.dirty, field, mask);
    addBits(this.wrote, field, mask);
  }

  private dependOnVlan(): void {
    for (const w of [VLAN_0, VLAN_1]) {
      this.need(w, -1);
      this.wrote[w] = -1;
    }
  }

  /** Writes to the tag; a TCI with the present bit on an untagged packet makes a tag. */
  private writeVlan(put: () => void): void {
    const { flow } = this;
    this.dependOnVlan();
    put();
    if (!(flow[VLAN_0] & VLAN_PRESENT)) {
      flow[VLAN_0] = flow[VLAN_1];
      flow[VLAN_1] = 0;
    } else if (flow[VLAN_0] >>> 16 === 0) {
      flow[VLAN_0] |= TPID_8021Q << 16;
    }
  }

  private setTci(value: number, mask: number): void {
    const { flow } = this;
    this.writeVlan(() => {
      flow[VLAN_0] = (flow[VLAN_0] & ~mask) | value | VLAN_PRESENT;
    });
  }

  // ---- MPLS ----

  /** Label stack entries of the packet, which the result depends on from now on. */
  private labels(): number {
    const { flow } = this;
    if (!isMpls(flow[ETH_TYPE])) return 0;
    let n = 0;
    for (let i = 0; i < MAX_LABELS; i++) {
      this.need(MPLS_0 + i, -1);
      if (flow[MPLS_0 + i] & MPLS_BOS) return i + 1;
      if (flow[MPLS_0 + i] !== 0) n++;
    }
    return n;
  }

  /** Before labels are pushed or popped: what is written to them is on the wire, and the wire is known. */
  private relabel(n: number): void {
    if (this.relabelled) return;
    this.commit();
    this.wireLabels = [...this.flow.subarray(MPLS_0, MPLS_0 + n)];
    this.relabelled = true;
    this.wrote.fill(-1, MPLS_0, MPLS_0 + MAX_LABELS);
  }

  private pushMpls(ethertype: number): void {
    const { flow, wrote } = this;
    const n = this.labels();
    if (n >= MAX_LABELS) throw new TranslationError(DROP_MPLS);
    if (n === 0) this.commit();
    this.relabel(n);
    if (n > 0) {
      for (let i = n; i >= 1; i--) flow[MPLS_0 + i] = flow[MPLS_0 + i - 1];
      flow[MPLS_0] &= ~MPLS_BOS;
    } else {
      // RFC 3032: the explicit null label, 2 for IPv6; class and TTL of the packet inside.
      const label = flow[ETH_TYPE] === ETH_TYPE_IPV6 ? 2 : 0;
      let tc = 0;
      let ttl = 64;
      if (this.isIp()) {
        this.need(NW, 0xfcff00);
        tc = (flow[NW] >>> 18) & 7;
        ttl = (flow[NW] >>> 8) & 0xff || 64;
      }
      flow[MPLS_0] = (label << 12) | (tc << 9) | MPLS_BOS | ttl;
      // What is inside can't be matched any more.
      flow.fill(0, NW_SRC, ND_RESERVED + 1);
      wrote.fill(-1, NW_SRC, ND_RESERVED + 1);
      flow.fill(0, CT_NW_SRC, CT_TP + 1);
      wrote.fill(-1, CT_NW_SRC, CT_TP + 1);
      flow.fill(0, CT_IPV6_SRC_0, KEY_WORDS);
      wrote.fill(-1, CT_IPV6_SRC_0, KEY_WORDS);
      flow[DP_HASH] = 0;
      wrote[DP_HASH] = -1;
      this.hashed = false;
    }
    flow[ETH_TYPE] = ethertype;
  }

  private popMpls(ethertype: number): void {
    const { flow } = this;
    const n = this.labels();
    if (n === 0) return;
    if (n === MAX_LABELS && !(flow[MPLS_0 + n - 1] & MPLS_BOS)) throw new TranslationError(DROP_MPLS);
    this.relabel(n);
    for (let i = 1; i < n; i++) flow[MPLS_0 + i - 1] = flow[MPLS_0 + i];
    flow[MPLS_0 + n - 1] = 0;
    flow[ETH_TYPE] = ethertype;
    if (!isMpls(ethertype)) this.wasMpls = true;
  }

  // ---- the wire ----

  /** Emits what makes the frame look like the flow. */
  private commit(): void {
    const { flow } = this;
    this.commitWords(ETH_DST_HI, ETH_SRC_LO);
    const inside = !isMpls(flow[ETH_TYPE]);
    if (inside) this.commitLabels();
    if (this.isDirty(NW_SRC, ND_RESERVED)) {
      // Open vSwitch takes a packet without a protocol for one without a layer 3 header.
      this.need(NW, 0xff);
      if ((flow[NW] & 0xff) !== 0) this.commitWords(NW_SRC, ND_RESERVED);
    }
    if (!inside) this.commitLabels();
    this.commitVlans();
  }

  private isDirty(from: number, to: number): boolean {
    for (let w = from; w <= to; w++) if (this.dirty[w] !== 0) return true;
    return false;
  }

  private commitWords(from: number, to: number): void {
    const { flow, dirty, emitted, ops } = this;
    for (let w = from; w <= to; w++) {
      const bits = dirty[w];
      if (bits === 0) continue;
      this.need(w, bits);
      ops.push(OP_SET, w, flow[w] & bits, bits);
      emitted[w] |= bits;
      dirty[w] = 0;
    }
  }

  private commitLabels(): void {
    const { flow, dirty, ops } = this;
    if (!this.relabelled) {
      if (isMpls(flow[ETH_TYPE])) this.commitWords(MPLS_0, MPLS_0);
      return;
    }
    const type = flow[ETH_TYPE];
    const is: number[] = [];
    if (isMpls(type)) {
      for (let i = 0; i < MAX_LABELS && flow[MPLS_0 + i] !== 0; i++) {
        is.push(flow[MPLS_0 + i]);
        if (flow[MPLS_0 + i] & MPLS_BOS) break;
      }
    }
    const was = [...this.wireLabels];
    let common = 0;
    while (
      common < was.length &&
      common < is.length &&
      was[was.length - 1 - common] === is[is.length - 1 - common]
    ) {
      common++;
    }
    while (was.length > common) {
      if (was.length - 1 === common && is.length > common) {
        ops.push(OP_SET, MPLS_0, is[is.length - was.length], -1);
        common++;
        continue;
      }
      // The last one to go says what is inside.
      ops.push(OP_POP_MPLS, !isMpls(type) && was.length > 1 ? 0x8847 : type);
      was.shift();
    }
    for (let n = was.length; n < is.length; n++) ops.push(OP_PUSH_MPLS, is[is.length - n - 1], type);
    this.wireLabels = is;
    dirty[MPLS_0] = 0;
  }

  private commitVlans(): void {
    const { flow, ops, wireVlan } = this;
    const was = wireVlan[0] === 0 ? [] : wireVlan[1] === 0 ? [wireVlan[0]] : [wireVlan[1], wireVlan[0]];
    const is = flow[VLAN_0] === 0 ? [] : flow[VLAN_1] === 0 ? [flow[VLAN_0]] : [flow[VLAN_1], flow[VLAN_0]];
    let common = 0;
    while (common < was.length && common < is.length && was[common] === is[common]) common++;
    for (let n = was.length; n > common; n--) ops.push(OP_POP_VLAN);
    for (const tag of is.slice(common)) ops.push(OP_PUSH_VLAN, tag);
    wireVlan[0] = flow[VLAN_0];
    wireVlan[1] = flow[VLAN_1];
  }
}

function pushNat(ops: number[], nat: NatSpec | undefined): void {
  if (nat === undefined) {
    for (let i = 0; i < 10; i++) ops.push(0);
    return;
  }
  let flags = NAT_ON;
  if (nat.type === 'src') flags |= NAT_SRC;
  if (nat.type === 'dst') flags |= NAT_DST;
  if (nat.ipv6) flags |= NAT_IPV6;
  if (nat.addrMin !== null) flags |= NAT_ADDRESS;
  if (nat.random) flags |= NAT_RANDOM;
  if (nat.hash) flags |= NAT_HASH;
  if (nat.persistent) flags |= NAT_PERSISTENT;
  ops.push(flags);
  for (const address of [nat.addrMin ?? 0n, nat.addrMax ?? nat.addrMin ?? 0n]) {
    if (nat.ipv6) for (let i = 3; i >= 0; i--) ops.push(Number(BigInt.asIntN(32, address >> BigInt(32 * i))));
    else ops.push(Number(BigInt.asIntN(32, address)), 0, 0, 0);
  }
  ops.push((nat.portMin << 16) | nat.portMax);
}

/** Whether an action needs the packet behind an MPLS label stack that was popped: the packet comes back to be
 *  parsed first. Sending it, and changing what is in front, does not (Open vSwitch's list). */
function mustSeeInside(action: Step): boolean {
  switch (action.kind) {
    case 'output':
    case 'in_port':
    case 'normal':
    case 'flood':
    case 'all':
    case 'drop':
    case 'enqueue':
    case 'output_reg':
    case 'set_vlan_vid':
    case 'set_vlan_pcp':
    case 'set_queue':
    case 'group':
      return false;
    case 'controller':
      return !isPlain(action);
    case 'set':
      return action.field.segments.some((s) => s.word >= NW_SRC && s.word <= MPLS_0 + 2);
    default:
      return true;
  }
}

/** Whether a program has a ct(), or forgets one, outside of any clone or branch. */
function tracksInLine(ops: readonly number[]): boolean {
  for (let pc = 0; pc < ops.length; ) {
    if (ops[pc] === OP_CT || ops[pc] === OP_CT_CLEAR) return true;
    pc += ops[pc] === OP_CLONE ? 2 + ops[pc + 1] : opWords(ops, pc);
  }
  return false;
}

function onlyOutputs(ops: readonly number[]): boolean {
  for (let pc = 0; pc < ops.length; pc += opWords(ops, pc)) {
    if (ops[pc] !== OP_OUTPUT && ops[pc] !== OP_CONTROLLER && ops[pc] !== OP_TRUNC) return false;
  }
  return true;
}

function swap(words: Int32Array, a: number, b: number): void {
  const held = words[a];
  words[a] = words[b];
  words[b] = held;
}

/** Adds the bits `mask` of a field to words of a flow. */
function addBits(words: Int32Array, field: Field, mask: bigint): void {
  let at = BigInt(field.segments.reduce((bits, s) => bits + s.bits, 0));
  for (const s of field.segments) {
    at -= BigInt(s.bits);
    words[s.word] |= Number((mask >> at) & ((1n << BigInt(s.bits)) - 1n)) << s.shift;
  }
}

function isVlan(field: Field): boolean {
  return field.segments.some((s) => s.word === VLAN_0 || s.word === VLAN_1);
}
