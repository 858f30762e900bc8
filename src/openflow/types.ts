/** The parsed form of a flow table: what `parser.ts` makes of `ovs-ofctl add-flows` text, what
 *  `format.ts` prints and what translation walks. Plain data, made once at start and never changed
 *  afterwards, so it may be read from anywhere on its thread. Follows ovs-ofctl(8), section "Flow
 *  Syntax", and ovs-actions(7). */
import type { Field, Subfield } from './fields.js';

/** Where a token stands in its file. Lines and columns count from 1; `length` is in UTF-16 units. */
export interface SourcePos {
  file: string;
  line: number;
  column: number;
  length: number;
}

/** What a rule compares: FLOW_WORDS words each, `value` already ANDed with `mask`. */
export interface Match {
  value: Int32Array;
  mask: Int32Array;
}

/** A run of bits of a field, or a constant of so many bits. */
export type Operand = Subfield | { value: bigint; bits: number };

/** The argument of ct(nat(...)). All null or 0: `nat` without arguments. */
export interface NatSpec {
  type: 'src' | 'dst' | null;
  ipv6: boolean;
  /** Range of addresses, both ends included; null: keep the address. */
  addrMin: bigint | null;
  addrMax: bigint | null;
  /** Range of ports, both ends included; 0: none given. */
  portMin: number;
  portMax: number;
  random: boolean;
  hash: boolean;
  persistent: boolean;
}

/** One spec of learn(): what the learned flow matches or does (ovs-actions(7), "The learn action"). */
export type LearnSpec =
  | { kind: 'match'; src: Operand; dst: Subfield }
  | { kind: 'load'; src: Operand; dst: Subfield }
  | { kind: 'output'; src: Subfield };

/** Hash over fields, as multipath and bundle take them. */
export type HashFields =
  | 'eth_src'
  | 'symmetric_l4'
  | 'symmetric_l3l4'
  | 'symmetric_l3l4+udp'
  | 'nw_src'
  | 'nw_dst'
  | 'symmetric_l3';

/** Priority of a flow that names none. */
export const DEFAULT_PRIORITY = 0x8000;

/** Table number that means all tables, in modifications and deletions (ovs-ofctl(8)). */
export const ALL_TABLES = 255;

/** Why a packet goes to the controller, by OpenFlow number. */
export const CONTROLLER_REASONS: readonly string[] = [
  'no_match',
  'action',
  'invalid_ttl',
  'action_set',
  'group',
  'packet_out',
  'explicit_miss',
  'implicit_miss',
];
/** The reason of a controller action that names none. */
export const REASON_ACTION = 1;
/** The max_len of a controller action that sends whole packets. */
export const MAX_LEN_ALL = 0xffff;

/** One OpenFlow action, in the words of ovs-actions(7). */
export type Action =
  // port: 1 to 0xfeff, or OFPP_LOCAL. maxLen: bytes kept, 0 all; with it port may be a reserved one
  | { kind: 'output'; port: number; maxLen?: number }
  | { kind: 'output_reg'; src: Subfield }
  | { kind: 'enqueue'; port: number; queue: number } // queues don't exist here: an output
  | { kind: 'in_port' }
  | { kind: 'normal' }
  | { kind: 'flood' }
  | { kind: 'all' }
  | {
      kind: 'controller';
      maxLen: number;
      reason: number;
      id: number;
      userdata: Uint8Array;
      pause: boolean;
      meter: number;
    }
  | { kind: 'drop' }
  | { kind: 'group'; group: number }
  // null keeps the current one; ct: swap in the connection's original tuple
  | { kind: 'resubmit'; port: number | null; table: number | null; ct?: boolean }
  | { kind: 'goto_table'; table: number }
  | { kind: 'write_actions'; actions: Action[] }
  | { kind: 'clear_actions' }
  | { kind: 'write_metadata'; value: bigint; mask: bigint }
  | { kind: 'meter'; meter: number }
  | { kind: 'clone'; actions: Action[] }
  | {
      kind: 'ct';
      commit: boolean;
      force: boolean;
      zone: number | Subfield;
      table: number | null;
      exec: Action[];
      nat?: NatSpec;
      alg?: 'ftp' | 'tftp';
    }
  | { kind: 'ct_clear' }
  // set_field, load, mod_*; `via` only tells format.ts how it was spelled, absent for set_field
  | { kind: 'set'; field: Field; value: bigint; mask: bigint; via?: 'load' | 'mod' }
  | { kind: 'move'; src: Subfield; dst: Subfield }
  | { kind: 'push'; src: Subfield }
  | { kind: 'pop'; dst: Subfield }
  | { kind: 'push_vlan'; tpid: number }
  | { kind: 'pop_vlan' }
  | { kind: 'set_vlan_vid'; vid: number } // pushes a tag if there is none
  | { kind: 'set_vlan_pcp'; pcp: number } // pushes a tag if there is none
  | { kind: 'push_mpls'; ethertype: number }
  | { kind: 'pop_mpls'; ethertype: number }
  | { kind: 'dec_mpls_ttl' }
  | { kind: 'dec_ttl'; controllers?: number[] }
  | {
      kind: 'learn';
      idleTimeout: number;
      hardTimeout: number;
      finIdleTimeout: number;
      finHardTimeout: number;
      priority: number;
      cookie: bigint;
      table: number;
      sendFlowRem: boolean;
      deleteLearned: boolean;
      /** Flows that may be learned, 0: no limit. */
      limit: number;
      /** 1 bit that says whether the limit left room. */
      resultDst: Subfield | null;
      specs: LearnSpec[];
    }
  | { kind: 'fin_timeout'; idleTimeout: number; hardTimeout: number }
  | { kind: 'note'; bytes: Uint8Array }
  | {
      kind: 'multipath';
      fields: HashFields;
      basis: number;
      algorithm: 'modulo_n' | 'hash_threshold' | 'hrw' | 'iter_hash';
      links: number;
      arg: number;
      dst: Subfield;
    }
  | {
      kind: 'bundle'; // with dst: bundle_load
      fields: HashFields;
      basis: number;
      algorithm: 'active_backup' | 'hrw';
      ports: number[];
      dst?: Subfield;
    }
  | { kind: 'check_pkt_larger'; size: number; dst: Subfield }
  | { kind: 'conjunction'; id: number; clause: number; nClauses: number } // clause from 0
  | { kind: 'set_queue'; queue: number } // no effect here
  | { kind: 'pop_queue' }
  | { kind: 'exit' };

/** One flow of the table. `text` is its source line without comment and surrounding space. */
export interface FlowRule {
  table: number;
  priority: number;
  cookie: bigint;
  /** Seconds, 0: none. */
  idleTimeout: number;
  hardTimeout: number;
  importance?: number;
  flags?: readonly FlowFlag[];
  match: Match;
  actions: Action[];
  pos: SourcePos;
  text: string;
}

export type FlowFlag =
  | 'send_flow_rem'
  | 'check_overlap'
  | 'reset_counts'
  | 'no_packet_counts'
  | 'no_byte_counts';

/** A change of the flow tables (ovs-ofctl add-flow, mod-flows, del-flows). */
export interface FlowMod {
  command: 'add' | 'modify' | 'modify_strict' | 'delete' | 'delete_strict';
  /** Its table is 255 when all tables are meant, which an addition can't say. Its cookie is the one to
   *  give to an added flow; for the other commands the one to look for. */
  rule: FlowRule;
  /** Modify and delete only what has these bits of the rule's cookie. */
  cookieMask: bigint;
  /** Delete only what outputs to this port or group; null: whatever. */
  outPort: number | null;
  outGroup: number | null;
}

export interface Bucket {
  /** OpenFlow 1.5 bucket id; position when the text gives none. */
  id: number;
  weight: number;
  /** Live while this port or group is; null: always. */
  watchPort: number | null;
  watchGroup: number | null;
  actions: Action[];
}

/** One group (ovs-ofctl(8), "Group Syntax"). */
export interface Group {
  id: number;
  type: 'all' | 'select' | 'indirect' | 'fast_failover';
  /** '' is the switch's own choice: dp_hash. */
  selectionMethod: '' | 'hash' | 'dp_hash';
  selectionParam: bigint;
  /** For hash: the fields with the bits that count; for dp_hash none. */
  fields: { field: Field; mask: bigint }[];
  buckets: Bucket[];
  pos: SourcePos;
  text: string;
}

/** A change of the group table (ovs-ofctl add-group, mod-group, del-groups, insert-buckets, …). */
export interface GroupMod {
  command: 'add' | 'modify' | 'add_or_modify' | 'delete' | 'insert_buckets' | 'remove_buckets';
  /** Group to change; null: all groups (delete). */
  id: number | null;
  /** For add and modify whole, for insert_buckets with the new buckets only. */
  group: Group | null;
  /** Of insert_buckets and remove_buckets. */
  bucket: number | 'first' | 'last' | 'all' | null;
}

/** One meter of the meter table: bands of type drop (ovs-ofctl(8), "Meter Syntax"). */
export interface Meter {
  id: number;
  unit: 'kbps' | 'pktps';
  burst: boolean;
  stats: boolean;
  bands: { rate: number; burstSize: number }[];
}

/** One thing that is wrong with a flow file. */
export interface FlowProblem {
  pos: SourcePos;
  message: string;
  expected: string;
  suggestion?: string;
}

/** Problems that a message has, at most, and characters that it quotes of a line for each: else one line with thousands of
 *  mistakes would be quoted thousands of times. */
const MOST_TOLD = 100;
const MOST_QUOTED = 2000;

/** "FILE:LINE:COLUMN: message", the source line with the token underlined, and what was expected. */
function problemText(p: FlowProblem, source: readonly string[]): string {
  let text = `${p.pos.file}:${p.pos.line}:${p.pos.column}: ${p.message}`;
  const line = source[p.pos.line - 1];
  if (line !== undefined) {
    // Of a long line the part around the token.
    const from = line.length <= MOST_QUOTED ? 0 : Math.max(0, p.pos.column - 1 - MOST_QUOTED / 2);
    const quoted = line.slice(from, from + MOST_QUOTED);
    // A tab before the token is kept, so that the caret stands under it at any tab width.
    const indent = quoted.slice(0, p.pos.column - 1 - from).replace(/[^\t]/g, ' ');
    const size = Math.min(p.pos.length, MOST_QUOTED);
    text += `\n  ${quoted.trimEnd()}\n  ${indent}${'^'.repeat(Math.max(1, size))}`;
  }
  text += `\n  expected ${p.expected}`;
  if (p.suggestion !== undefined) text += `\n  did you mean ${p.suggestion}?`;
  return text;
}

/** All problems of a flow file or of several, in line and column order. */
export class FlowSyntaxError extends Error {
  readonly problems: FlowProblem[];

  /** One error with the problems of several files. */
  static joined(errors: readonly FlowSyntaxError[]): FlowSyntaxError {
    const all = new FlowSyntaxError(errors.flatMap((e) => e.problems));
    all.message = errors.map((e) => e.message).join('\n');
    return all;
  }

  /** `sourceText` is the whole file; the message quotes the lines that it complains about. */
  constructor(problems: FlowProblem[], sourceText = '') {
    const source = sourceText === '' ? [] : sourceText.split(/\r\n|\n/);
    const told = problems.slice(0, MOST_TOLD).map((p) => problemText(p, source));
    if (problems.length > MOST_TOLD) told.push(`and ${problems.length - MOST_TOLD} more mistakes`);
    super(told.join('\n'));
    this.name = 'FlowSyntaxError';
    this.problems = problems;
  }
}
