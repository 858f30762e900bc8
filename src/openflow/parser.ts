/** Reads flow tables in the syntax of `ovs-ofctl add-flows` (ovs-ofctl(8), "Flow Syntax"). What OVS
 *  knows and this program does not do yet is refused by name; nothing is ignored. All problems of a
 *  file are reported at once. */

import { FLOW, OFPP_NONE } from '../classifier/flow-key.js';
import {
  ETH_TYPE_ARP,
  ETH_TYPE_IP,
  ETH_TYPE_IPV6,
  ETH_TYPE_MPLS,
  ETH_TYPE_MPLS_MCAST,
  ETH_TYPE_RARP,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
} from '../wire/extract.js';
import { flattened, parseActions } from './actions.js';
import { checkActions } from './consistency.js';
import { FIELDS, type Field, fieldByName, isWireName } from './fields.js';
import { catchAll, matchField, matchSubfield, meets, missingForMatch } from './match.js';
import type { Placed } from './placed.js';
import { isUnsupported, parseSubfield, unknownField } from './subfields.js';
import { nearest, type Pair, Problems, pairs, type Span, slice, trim } from './tokens.js';
import {
  type Action,
  ALL_TABLES,
  DEFAULT_PRIORITY,
  type FlowFlag,
  type FlowMod,
  type FlowRule,
  type Match,
} from './types.js';
import { ones, parseFieldValue, parseNumber, parsePort, parseTable } from './values.js';

/** Shorthands for eth_type and nw_proto (ovs-fields(7), "Shorthands"). */
const PROTOCOLS: ReadonlyMap<string, readonly [ethType: number, proto: number]> = new Map([
  ['ip', [ETH_TYPE_IP, 0]],
  ['ipv4', [ETH_TYPE_IP, 0]],
  ['ip4', [ETH_TYPE_IP, 0]],
  ['arp', [ETH_TYPE_ARP, 0]],
  ['rarp', [ETH_TYPE_RARP, 0]],
  ['mpls', [ETH_TYPE_MPLS, 0]],
  ['mplsm', [ETH_TYPE_MPLS_MCAST, 0]],
  ['icmp', [ETH_TYPE_IP, IPPROTO_ICMP]],
  ['tcp', [ETH_TYPE_IP, IPPROTO_TCP]],
  ['udp', [ETH_TYPE_IP, IPPROTO_UDP]],
  ['sctp', [ETH_TYPE_IP, IPPROTO_SCTP]],
  ['ipv6', [ETH_TYPE_IPV6, 0]],
  ['ip6', [ETH_TYPE_IPV6, 0]],
  ['icmp6', [ETH_TYPE_IPV6, IPPROTO_ICMPV6]],
  ['tcp6', [ETH_TYPE_IPV6, IPPROTO_TCP]],
  ['udp6', [ETH_TYPE_IPV6, IPPROTO_UDP]],
  ['sctp6', [ETH_TYPE_IPV6, IPPROTO_SCTP]],
]);

/** Counters that dump-flows prints and that add-flows reads back as nothing. */
const COUNTERS = new Set(['duration', 'n_packets', 'n_bytes', 'idle_age', 'hard_age']);
/** Words that ovs-ofctl takes and does nothing with. */
const NO_EFFECT = new Set(['no_readonly_table', 'allow_hidden_fields']);

/** What a flow can be named before its match, and with which commands. */
type Command = FlowMod['command'];
const ADDING: readonly Command[] = ['add', 'modify', 'modify_strict'];
const DELETING: readonly Command[] = ['delete', 'delete_strict'];
const KEYWORDS: ReadonlyMap<string, readonly Command[]> = new Map<string, readonly Command[]>([
  ['table', [...ADDING, ...DELETING]],
  ['cookie', [...ADDING, ...DELETING]],
  ['priority', [...ADDING, 'delete_strict']],
  ['idle_timeout', ADDING],
  ['hard_timeout', ADDING],
  ['importance', ['add']],
  ['out_port', DELETING],
  ['out_group', DELETING],
  ['actions', ADDING],
]);
/** The flags with the lowest version of OpenFlow that has them, for those that 1.0 lacks. */
const FLAGS: ReadonlyMap<FlowFlag, string | undefined> = new Map([
  ['send_flow_rem', undefined],
  ['check_overlap', undefined],
  ['reset_counts', 'reset_counts'],
  ['no_packet_counts', 'no_packet_counts'],
  ['no_byte_counts', 'no_byte_counts'],
]);
const COMMANDS: readonly Command[] = ['add', 'modify', 'modify_strict', 'delete', 'delete_strict'];

/** The last table, which Open vSwitch keeps for itself. */
const INTERNAL_TABLE = 254;
const ETH_TYPE_FIELD = fieldByName('eth_type')!;
const NW_PROTO_FIELD = fieldByName('nw_proto')!;
const KEY_EXPECTED = 'a field of ovs-fields(7), priority, table, cookie, idle_timeout or hard_timeout';

/** What the switch has, so that flows which name other groups or meters can be refused with their
 *  place. Absent: any will do. */
export interface FlowContext {
  groups?: ReadonlySet<number>;
  meters?: ReadonlySet<number>;
}

/** A field that the flow compares, and where it says so. */
interface Compared {
  field: Field;
  at: Span;
}

interface Draft {
  command: Command;
  table: number;
  priority: number;
  cookie: bigint;
  cookieMask: bigint;
  idleTimeout: number;
  hardTimeout: number;
  importance: number;
  flags: FlowFlag[];
  outPort: number | null;
  outGroup: number | null;
  match: Match;
  compared: Compared[];
  /** What in the head needs OpenFlow 1.1 or later. */
  later: string | undefined;
}

/** The flows of a file, in order; a flow with the table, priority and match of an earlier one takes
 *  its place. `file` is the name that positions carry. Throws a FlowSyntaxError with all problems. */
export function parseFlows(text: string, file: string, context: FlowContext = {}): FlowRule[] {
  const problems = new Problems(file);
  const rules: FlowRule[] = [];
  const placeOf = new Map<string, number>();
  for (const line of flowLines(text, problems)) {
    const mod = readFlowMod(line, undefined, problems, context);
    if (mod === undefined) continue;
    const { rule } = mod;
    if (mod.command !== 'add') {
      const word = slice(line, 0, mod.command.length);
      problems.add(
        word,
        `${mod.command} changes flows that are there`,
        'add, or no command, in a flow table',
      );
      continue;
    }
    const key = `${rule.table} ${rule.priority} ${rule.match.value.join()} ${rule.match.mask.join()}`;
    const index = placeOf.get(key) ?? rules.length;
    placeOf.set(key, index);
    rules[index] = rule;
  }
  problems.throwIfAny(text);
  return rules;
}

/** The lines of a file that say something, without comment and surrounding space; `problems.line`
 *  follows. */
export function* flowLines(text: string, problems: Problems): Iterable<Span> {
  for (const [i, line] of text.split('\n').entries()) {
    problems.line = i + 1;
    const comment = line.indexOf('#');
    const flow = trim({ text: comment < 0 ? line : line.slice(0, comment), at: 0 });
    if (flow.text !== '') yield flow;
  }
}

/** One flow-mod: of this command, or of the one that the line begins with (add if none). */
export function readFlowMod(
  line: Span,
  command: Command | undefined,
  problems: Problems,
  context: FlowContext,
): FlowMod | undefined {
  const before = problems.found.length;
  const [body, named] = command === undefined ? skipCommand(line) : [line, command];
  const deletes = named === 'delete' || named === 'delete_strict';
  // As ovs-ofctl does: the actions start at the first "action", whatever stands before.
  const word = deletes ? -1 : body.text.indexOf('action');
  const head = word < 0 ? body : slice(body, 0, word);
  const draft: Draft = {
    command: named,
    table: named === 'add' ? 0 : ALL_TABLES,
    priority: DEFAULT_PRIORITY,
    cookie: 0n,
    cookieMask: 0n,
    idleTimeout: 0,
    hardTimeout: 0,
    importance: 0,
    flags: [],
    outPort: null,
    outGroup: null,
    match: catchAll(),
    compared: [],
    later: undefined,
  };
  for (const p of pairs(head, problems)) readKey(p, draft, problems);
  if (problems.found.length === before) checkMatch(draft, problems);
  let actions: Action[] = [];
  if (!deletes) {
    const list = actionsOf(body, word, problems);
    if (list === undefined) return undefined;
    const placed = parseActions(list, problems);
    if (problems.found.length === before) {
      const table = draft.table === ALL_TABLES ? -1 : draft.table;
      checkActions(placed, draft.match, table, problems, draft.later);
      checkReferences(placed, context, problems);
    }
    actions = placed.map((p) => p.action);
  }
  if (problems.found.length > before) return undefined;
  const { table, priority, cookie, idleTimeout, hardTimeout, importance, flags, match } = draft;
  const pos = { file: problems.file, line: problems.line, column: line.at + 1, length: line.text.length };
  const rule: FlowRule = {
    table,
    priority,
    cookie,
    idleTimeout,
    hardTimeout,
    match,
    actions,
    pos,
    text: line.text,
  };
  if (importance !== 0) rule.importance = importance;
  if (flags.length > 0) rule.flags = [...FLAGS.keys()].filter((flag) => flags.includes(flag));
  const { cookieMask, outPort, outGroup } = draft;
  return { command: named, rule, cookieMask, outPort, outGroup };
}

function isFlag(name: string): name is FlowFlag {
  return FLAGS.has(name as FlowFlag);
}

/** The line after its command, and the command. */
function skipCommand(line: Span): [Span, Command] {
  const word = /^[^, \t]+/.exec(line.text)?.[0] ?? '';
  const command = COMMANDS.find((name) => name === word);
  return command === undefined ? [line, 'add'] : [slice(line, word.length), command];
}

/** The list after "actions=", which starts at `word`. */
function actionsOf(body: Span, word: number, problems: Problems): Span | undefined {
  if (word < 0) {
    problems.add(slice(body, body.text.length), 'the flow has no actions', 'actions=...');
    return undefined;
  }
  const keyword = /^actions?(?=\s*=)/.exec(body.text.slice(word));
  if (keyword === null) {
    const wrong = /^\w*/.exec(body.text.slice(word))![0];
    problems.add(slice(body, word, word + wrong.length), `"${wrong}" without "="`, 'actions=...');
    return undefined;
  }
  return slice(body, body.text.indexOf('=', word) + 1);
}

function checkMatch(draft: Draft, problems: Problems): void {
  const { match } = draft;
  for (const { field, at } of draft.compared) {
    let needs = missingForMatch(match, field);
    // Of the original tuple the switch also wants the addresses to be those of the packet's protocol.
    if (needs === undefined && /^ct_(nw|ipv6)_(src|dst)$/.test(field.name)) {
      const v4 = field.name.startsWith('ct_nw');
      if (!meets(match, v4 ? 'ipv4' : 'ipv6', false)) needs = v4 ? 'ip' : 'ipv6';
    }
    if (draft.command === 'add' && isHidden(match, field)) {
      problems.add(at, `the switch keeps ${field.name} for itself (OFPBRC_EPERM)`, 'another field');
    }
    if (needs !== undefined) {
      problems.add(at, `${field.name} is not in every packet of this match`, `${needs} in the same match`);
    }
  }
}

/** True for a comparison that Open vSwitch takes only of its own flows. */
function isHidden(match: Match, field: Field): boolean {
  return field.name === 'dp_hash' || (field.name === 'recirc_id' && match.value[FLOW.RECIRC_ID] !== 0);
}

/** Checks that the groups and meters of the actions exist. */
function checkReferences(placed: readonly Placed[], context: FlowContext, problems: Problems): void {
  for (const { action, at } of flattened(placed)) {
    if (action.kind === 'group' && context.groups?.has(action.group) === false) {
      problems.add(
        at,
        `there is no group ${action.group} (OFPBAC_BAD_OUT_GROUP)`,
        'a group of --groups FILE',
      );
    } else if (action.kind === 'meter' && context.meters?.has(action.meter) === false) {
      problems.add(
        at,
        `there is no meter ${action.meter} (OFPMMFC_INVALID_METER)`,
        'a meter that was added before',
      );
    }
  }
}

function readKey(p: Pair, draft: Draft, problems: Problems): void {
  const name = p.key.text;
  const { match } = draft;
  const protocol = PROTOCOLS.get(name);
  const field = isWireName(name) ? undefined : fieldByName(name);
  if (name === 'packet_type') {
    if (!/^\((0|0x0+),(0|0x0+)\)$/.test(p.value.text)) {
      const where = p.value.text === '' ? p.whole : p.value;
      problems.add(where, 'only Ethernet packets are supported', 'packet_type=(0,0)');
    }
  } else if (isFlag(name) && ADDING.includes(draft.command)) {
    if (p.delimiter !== '') problems.add(p.whole, `${name} takes no value`, `${name} alone`);
    draft.flags.push(name);
    draft.later ??= FLAGS.get(name);
  } else if (protocol !== undefined || name === 'eth') {
    if (p.value.text !== '') {
      problems.add(p.whole, `${name} takes no value`, `${name} alone`);
    } else if (protocol !== undefined) {
      matchField(match, ETH_TYPE_FIELD, BigInt(protocol[0]), 0xffffn);
      if (protocol[1] !== 0) matchField(match, NW_PROTO_FIELD, BigInt(protocol[1]), 0xffn);
    }
  } else if (field !== undefined) {
    if (p.value.text === '') {
      problems.add(p.whole, `${name} needs a value`, `${name}=VALUE`);
      return;
    }
    const parsed = problems.value(p.value, parseFieldValue(p.value.text, field));
    if (parsed === undefined) return;
    matchField(match, field, parsed.value, parsed.mask);
    if (parsed.mask !== 0n) draft.compared.push({ field, at: p.whole });
  } else if (name.includes('[')) {
    readSubfieldKey(p, draft, problems);
  } else if (isUnsupported(name)) {
    problems.add(p.whole, `field ${name} is not supported`, KEY_EXPECTED);
  } else {
    readKeyword(p, draft, problems);
  }
}

function readSubfieldKey(p: Pair, draft: Draft, problems: Problems): void {
  const s = parseSubfield(p.key, problems);
  if (s === undefined) return;
  if (!s.field.maskable && s.bits !== s.field.bits) {
    problems.add(p.key, `${s.field.name} can only be matched as a whole`, `${s.field.name}=VALUE`);
    return;
  }
  const where = p.value.text === '' ? p.whole : p.value;
  const value = problems.value(where, parseNumber(p.value.text, s.bits, 'value'));
  if (value === undefined) return;
  matchSubfield(draft.match, s.field, s.ofs, s.bits, value);
  draft.compared.push({ field: s.field, at: p.whole });
}

function readKeyword(p: Pair, draft: Draft, problems: Problems): void {
  const name = p.key.text;
  const { value } = p;
  const where = value.text === '' ? p.whole : value;
  const number = (bits: number): number =>
    Number(problems.value(where, parseNumber(value.text, bits, name)) ?? 0n);
  const commands = KEYWORDS.get(name) ?? (isFlag(name) ? ADDING : undefined);
  if (commands?.includes(draft.command) === false) {
    const others = commands.map((command) => command.replace('_', ' ')).join(', ');
    problems.add(
      p.whole,
      `${name} can't stand in ${draft.command.replace('_', ' ')}`,
      `${name} only in: ${others}`,
    );
    return;
  }
  switch (name) {
    case 'priority':
      draft.priority = number(16);
      return;
    case 'idle_timeout':
      draft.idleTimeout = number(16);
      return;
    case 'hard_timeout':
      draft.hardTimeout = number(16);
      return;
    case 'importance':
      draft.importance = number(16);
      return;
    case 'table':
      readTable(where, value, draft, problems);
      return;
    case 'out_port': {
      const port = parsePort(value.text);
      if (port === undefined)
        problems.add(where, `"${value.text}" is not a port`, 'a decimal port number or LOCAL');
      else draft.outPort = port === OFPP_NONE ? null : port;
      return;
    }
    case 'out_group':
      draft.outGroup = value.text.toLowerCase() === 'any' ? null : number(32);
      return;
    case 'cookie':
      readCookie(p, draft, problems);
      return;
  }
  if (COUNTERS.has(name) || NO_EFFECT.has(name)) return;
  if (isWireName(name) && fieldByName(name) !== undefined) {
    problems.add(p.key, `"${name}" needs brackets to be matched`, `${name}[]=VALUE`);
    return;
  }
  if (isWireName(name)) {
    unknownField(p.key, KEY_EXPECTED, problems);
    return;
  }
  const known = [
    ...FIELDS.flatMap((f) => [f.name, ...f.aliases.filter((a) => !isWireName(a))]),
    ...PROTOCOLS.keys(),
    ...KEYWORDS.keys(),
    ...FLAGS.keys(),
  ];
  const token = p.key.text === '' ? p.whole : p.key;
  problems.add(token, `unknown keyword "${name}"`, KEY_EXPECTED, nearest(name, known));
}

function readTable(where: Span, value: Span, draft: Draft, problems: Problems): void {
  if (draft.command !== 'add' && value.text === String(ALL_TABLES)) return;
  const table = problems.value(where, parseTable(value.text));
  if (table === INTERNAL_TABLE && draft.command !== 'delete_strict') {
    problems.add(
      where,
      `table ${table} belongs to the switch itself (OFPBRC_EPERM)`,
      'a table number from 0 to 253',
    );
  }
  draft.table = table ?? 0;
}

/** `VALUE`, the cookie to set, or `VALUE/MASK`, the cookies to look for. */
function readCookie(p: Pair, draft: Draft, problems: Problems): void {
  const { value } = p;
  const where = value.text === '' ? p.whole : value;
  const number = (s: Span): bigint =>
    s.text === '-1'
      ? ones(64)
      : (problems.value(s.text === '' ? where : s, parseNumber(s.text, 64, 'cookie')) ?? 0n);
  const slash = value.text.indexOf('/');
  if (slash < 0) {
    if (DELETING.includes(draft.command)) {
      problems.add(where, 'a deletion sets no cookie', `cookie=${value.text}/-1 for flows with this cookie`);
    }
    // What OpenFlow 1.1 and later do with it in a modification: nothing.
    const cookie = number(value);
    if (draft.command === 'add') draft.cookie = cookie;
    return;
  }
  if (draft.command === 'add') {
    problems.add(slice(value, slash), 'adding a flow takes no cookie mask', 'cookie=VALUE');
    return;
  }
  draft.cookieMask = number(slice(value, slash + 1));
  draft.cookie = number(slice(value, 0, slash)) & draft.cookieMask;
}
