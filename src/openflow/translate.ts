/** Translation: walks the OpenFlow tables once for a packet's key and returns what the datapath is to do
 *  (a program) and for which other packets that would be the same (a mask). The counterpart of Open
 *  vSwitch's xlate; runs in the coordinator alone.
 *
 *  A translation depends on nothing but the key, the tables and the ports, so which worker asks, and
 *  when, changes nothing.
 *
 *  The mask grows by every bit that decided something: what the classifier looked at to find a rule
 *  (`classifier.ts`) and every bit that an action read. Fields that are only written stay wild, because a write is done
 *  whatever was there. */
import {
  CS_EST,
  CS_NEW,
  CS_RPL,
  FLOW,
  FLOW_WORDS,
  FRAG_ANY,
  KEY_WORDS,
  OFPP_ALL,
  OFPP_FLOOD,
  OFPP_IN_PORT,
  OFPP_NORMAL,
} from '../classifier/flow-key.js';
import {
  CT_ARG_NAT,
  CT_COMMIT,
  CT_FORCE,
  CT_SET_LABEL,
  CT_SET_MARK,
  DROP_ACTION,
  DROP_NO_OUTPUT,
  DROP_NO_PORT,
  DROP_RESUBMIT_DEPTH,
  DROP_TABLE_MISS,
  DROP_TO_IN_PORT,
  MAX_PROGRAM_WORDS,
  OP_CT,
  OP_CT_CLEAR,
  OP_CT_WORDS,
  OP_END,
  OP_NORMAL,
  OP_OUTPUT,
  OP_POP_VLAN,
  OP_PUSH_VLAN,
  OP_RECIRC,
  OP_SET,
  OP_STAT,
} from '../datapath/program.js';
import { ETH_TYPE_IP, ETH_TYPE_IPV6 } from '../wire/extract.js';
import type { Counted } from './counted.js';
import {
  type Field,
  getField,
  getSubfield,
  setField as putField,
  type Subfield,
  setSubfield,
} from './fields.js';
import { meets } from './match.js';
import type { Pipeline, TableRule } from './tables.js';
import type { Action } from './types.js';

const { IN_PORT, RECIRC_ID, CT_STATE, CT_MARK, CT_LABEL_0, ETH_DST_HI, ETH_TYPE } = FLOW;
const { VLAN_0, VLAN_1, NW, TP, ND_TARGET_3, CT_NW_SRC, METADATA_HI } = FLOW;

/** Bounds on resubmits, as in Open vSwitch: ovs-actions(7), "The resubmit action". */
const MAX_DEPTH = 64;
const MAX_RESUBMITS = MAX_DEPTH * MAX_DEPTH;
/** Left free for the actions of one more rule. */
const MAX_RULE_WORDS = 8192;
/** TCI bit that says that there is a tag. */
const VLAN_PRESENT = 0x1000;
const TPID_8021Q = 0x8100;
/** States in which a packet has an original direction tuple. */
const CT_VALID = CS_NEW | CS_EST | CS_RPL;

/** A pass that begins behind ct(table=N): where, and with which registers. */
interface Frozen {
  table: number;
  /** Words METADATA_HI to the last register. */
  words: Int32Array;
}

export interface Translation {
  program: Int32Array;
  /** KEY_WORDS words. */
  mask: Int32Array;
}

class TranslationError extends Error {}

export class Translator {
  /** Ports of the switch in ascending order, LOCAL last. */
  private readonly ports: number[];
  readonly pipeline: Pipeline;
  private readonly frozen: Frozen[] = [];
  private readonly frozenIds = new Map<string, number>();

  // State of the translation under way.
  private readonly flow = new Int32Array(FLOW_WORDS);
  private readonly all = new Int32Array(FLOW_WORDS).fill(-1);
  private readonly wild = new Int32Array(FLOW_WORDS); // bits that the result depends on
  private readonly dirty = new Int32Array(FLOW_WORDS); // bits written since they were last committed
  private readonly wireVlan = new Int32Array(2); // tags on the frame as committed
  private ops: number[] = [];
  private counted: Counted[] = []; // rules that were hit
  private nOutputs = 0;
  private reason = 0;
  private depth = 0;
  private resubmits = 0;
  private table = 0;

  constructor(pipeline: Pipeline) {
    this.pipeline = pipeline;
    this.ports = [...pipeline.ports];
  }

  /** ct(commit) actions in all rules together: about what a packet can commit. */
  get nCommits(): number {
    return this.pipeline.nCommits;
  }

  /** Translates the packet with this key (KEY_WORDS words). */
  translate(key: Int32Array): Translation {
    const { flow, wild, dirty } = this;
    flow.fill(0);
    flow.set(key.subarray(0, KEY_WORDS));
    wild.fill(0);
    dirty.fill(0);
    wild[IN_PORT] = wild[RECIRC_ID] = wild[ETH_TYPE] = -1;
    if (flow[ETH_TYPE] === ETH_TYPE_IP || flow[ETH_TYPE] === ETH_TYPE_IPV6) wild[NW] = 0xff000000 | 0;
    this.wireVlan[0] = flow[VLAN_0];
    this.wireVlan[1] = flow[VLAN_1];
    this.ops = [];
    this.counted = [];
    this.nOutputs = 0;
    this.reason = DROP_NO_OUTPUT;
    this.depth = 0;
    this.resubmits = 0;
    this.table = 0;
    if (flow[RECIRC_ID] !== 0) {
      const frozen = this.frozen[flow[RECIRC_ID] - 1];
      this.table = frozen.table;
      flow.set(frozen.words, METADATA_HI);
    }
    try {
      this.runRule(this.table, this.classify(this.table));
      this.ops.push(OP_END, this.reason);
    } catch (error) {
      if (!(error instanceof TranslationError)) throw error;
      // Open vSwitch drops a packet whose translation fails, whatever the actions before.
      this.ops = [OP_END, DROP_RESUBMIT_DEPTH];
    }
    const stat = this.pipeline.stats.point(this.counted);
    return { program: Int32Array.of(OP_STAT, stat, ...this.ops), mask: wild.slice(0, KEY_WORDS) };
  }

  private runRule(table: number, rule: TableRule | null): void {
    if (rule === null) {
      this.drop(DROP_TABLE_MISS);
      return;
    }
    const outer = this.table;
    this.table = table;
    this.counted.push(rule);
    this.actions(rule.actions);
    this.table = outer;
  }

  /** The rule of highest priority that the flow matches. */
  private classify(table: number): TableRule | null {
    const { flow } = this;
    // Fragments match as if they had no ports: the switch's fragment handling is "normal"
    // (ovs-ofctl(8), set-frags).
    const ports = flow[TP];
    if (flow[NW] & (FRAG_ANY << 24)) flow[TP] = 0;
    const rule = this.pipeline.lookup(table, flow, this.wild);
    flow[TP] = ports;
    return rule;
  }

  private resubmit(table: number, inPort: number): void {
    if (
      this.depth >= MAX_DEPTH ||
      this.resubmits >= MAX_RESUBMITS ||
      this.ops.length > MAX_PROGRAM_WORDS - MAX_RULE_WORDS
    ) {
      throw new TranslationError();
    }
    this.resubmits++;
    const deepens = table <= this.table ? 1 : 0;
    this.depth += deepens;
    const { flow } = this;
    const realPort = flow[IN_PORT];
    flow[IN_PORT] = inPort;
    const rule = this.classify(table);
    flow[IN_PORT] = realPort;
    this.runRule(table, rule);
    this.depth -= deepens;
  }

  private actions(actions: readonly Action[]): void {
    const { flow } = this;
    if (actions.length === 0) this.drop(DROP_ACTION);
    for (const action of actions) {
      switch (action.kind) {
        case 'output':
          this.output(action.port, false);
          break;
        case 'output_reg':
          this.outputReserved(Number(this.read(action.src)));
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
        case 'drop':
          this.drop(DROP_ACTION);
          break;
        case 'resubmit':
          this.resubmit(action.table ?? this.table, action.port ?? flow[IN_PORT]);
          break;
        case 'goto_table':
          this.resubmit(action.table, flow[IN_PORT]);
          break;
        case 'ct':
          this.conntrack(action);
          break;
        case 'ct_clear':
          this.clearConntrack();
          this.ops.push(OP_CT_CLEAR);
          break;
        case 'set':
          if (this.has(action.field)) this.setField(action.field, action.value, action.mask);
          break;
        case 'move':
          if (this.has(action.src.field) && this.has(action.dst.field)) {
            this.write(action.dst, this.read(action.src));
          }
          break;
        case 'push_vlan':
          this.dependOnVlan();
          // A tag beyond the second is lost from the flow key, as in Open vSwitch.
          if (flow[VLAN_1] === 0) {
            flow[VLAN_1] = flow[VLAN_0];
            flow[VLAN_0] = (action.tpid << 16) | VLAN_PRESENT;
          }
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
        case 'dec_ttl': {
          if (flow[ETH_TYPE] !== ETH_TYPE_IP && flow[ETH_TYPE] !== ETH_TYPE_IPV6) break;
          this.wild[NW] |= 0xff00;
          const ttl = (flow[NW] >>> 8) & 0xff;
          if (ttl <= 1) {
            this.drop(DROP_ACTION);
            return;
          }
          flow[NW] = (flow[NW] & ~0xff00) | ((ttl - 1) << 8);
          this.dirty[NW] |= 0xff00;
          break;
        }
      }
    }
  }

  private drop(reason: number): void {
    if (this.nOutputs === 0) this.reason = reason;
  }

  private outputReserved(port: number): void {
    if (port === OFPP_IN_PORT) this.output(this.flow[IN_PORT], true);
    else if (port === OFPP_NORMAL) this.actions([{ kind: 'normal' }]);
    else if (port === OFPP_FLOOD || port === OFPP_ALL) this.flood();
    else this.output(port, false);
  }

  private output(port: number, back: boolean): void {
    if (!back && port === this.flow[IN_PORT]) {
      this.drop(DROP_TO_IN_PORT);
    } else if (!this.ports.includes(port)) {
      this.drop(DROP_NO_PORT);
    } else {
      this.commit();
      this.ops.push(OP_OUTPUT, port);
      this.nOutputs++;
    }
  }

  private flood(): void {
    for (const port of this.ports) if (port !== this.flow[IN_PORT]) this.output(port, false);
  }

  private conntrack(action: Action & { kind: 'ct' }): void {
    const { flow, dirty, ops } = this;
    const zone = typeof action.zone === 'number' ? action.zone : Number(this.read(action.zone));
    this.commit();
    let flags = (action.commit ? CT_COMMIT : 0) | (action.force ? CT_FORCE : 0);
    // What exec() writes, and only that, goes to the connection.
    for (let w = CT_MARK; w < CT_LABEL_0 + 4; w++) dirty[w] = 0;
    this.actionsInCt(action.exec);
    if (dirty[CT_MARK] !== 0) flags |= CT_SET_MARK;
    for (let i = 0; i < 4; i++) if (dirty[CT_LABEL_0 + i] !== 0) flags |= CT_SET_LABEL;
    ops.push(OP_CT, flags, zone, flow[CT_MARK] & dirty[CT_MARK], dirty[CT_MARK]);
    for (let i = 0; i < 4; i++) ops.push(flow[CT_LABEL_0 + i] & dirty[CT_LABEL_0 + i]);
    for (let i = 0; i < 4; i++) ops.push(dirty[CT_LABEL_0 + i]);
    for (let i = CT_ARG_NAT; i < OP_CT_WORDS; i++) ops.push(0);
    for (let w = CT_MARK; w < CT_LABEL_0 + 4; w++) dirty[w] = 0;
    if (action.table !== null) ops.push(OP_RECIRC, this.freeze(action.table));
    // ct_* fields exist only in the pass that ct(table=N) starts.
    this.clearConntrack();
  }

  private actionsInCt(actions: readonly Action[]): void {
    for (const action of actions) {
      if (action.kind === 'set') this.setField(action.field, action.value, action.mask);
      else if (action.kind === 'move' && this.has(action.src.field)) {
        this.write(action.dst, this.read(action.src));
      }
    }
  }

  private clearConntrack(): void {
    const { flow } = this;
    for (let w = CT_STATE; w < CT_LABEL_0 + 4; w++) flow[w] = 0;
    for (let w = CT_NW_SRC; w < KEY_WORDS; w++) flow[w] = 0;
  }

  /** Recirculation id for going on at `table` with the registers as they are. */
  private freeze(table: number): number {
    const words = this.flow.slice(METADATA_HI);
    const name = `${table}/${words.join()}`;
    let id = this.frozenIds.get(name);
    if (id === undefined) {
      id = this.frozen.push({ table, words });
      this.frozenIds.set(name, id);
    }
    return id;
  }

  /** Whether the packet has the field (ovs-fields(7), "Prerequisites"); the answer depends on the packet. */
  private has(field: Field): boolean {
    const { flow, wild, all } = this;
    const { prereq } = field;
    if (prereq === 'ct') {
      wild[CT_STATE] |= CT_VALID;
      return (flow[CT_STATE] & CT_VALID) !== 0;
    }
    if (prereq !== 'none' && prereq !== 'ethernet' && prereq !== 'vlan') wild[NW] |= 0xff;
    if (prereq.startsWith('nd')) wild[TP] = -1;
    if (prereq === 'vlan') this.dependOnVlan();
    return meets({ value: flow, mask: all }, prereq, (flow[VLAN_0] & VLAN_PRESENT) !== 0);
  }

  private read(src: Subfield): bigint {
    addBits(this.wild, src.field, ((1n << BigInt(src.bits)) - 1n) << BigInt(src.ofs));
    return getSubfield(this.flow, src);
  }

  private write(dst: Subfield, value: bigint): void {
    if (isVlan(dst.field)) this.writeVlan(() => setSubfield(this.flow, dst, value));
    else {
      setSubfield(this.flow, dst, value);
      addBits(this.dirty, dst.field, ((1n << BigInt(dst.bits)) - 1n) << BigInt(dst.ofs));
    }
  }

  private setField(field: Field, value: bigint, mask: bigint): void {
    const { flow, dirty } = this;
    if (isVlan(field)) {
      const old = getField(flow, field);
      this.writeVlan(() => putField(flow, field, (old & ~mask) | (value & mask)));
      return;
    }
    const old = getField(flow, field);
    putField(flow, field, (old & ~mask) | (value & mask));
    addBits(dirty, field, mask);
  }

  private dependOnVlan(): void {
    this.wild[VLAN_0] = this.wild[VLAN_1] = -1;
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

  /** Emits what makes the frame look like the flow. */
  private commit(): void {
    const { flow, dirty, ops, wireVlan } = this;
    for (let w = ETH_DST_HI; w <= ND_TARGET_3; w++) {
      if (dirty[w] === 0 || w === VLAN_0 || w === VLAN_1) continue;
      ops.push(OP_SET, w, flow[w] & dirty[w], dirty[w]);
      dirty[w] = 0;
    }
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
