/** Reads flow tables in the syntax of `ovs-ofctl add-flows` (ovs-ofctl(8), "Flow Syntax"). What OVS
 *  knows and this program does not do yet is refused by name; nothing is ignored. All problems of a
 *  file are reported at once. */

import {
  ETH_TYPE_ARP,
  ETH_TYPE_IP,
  ETH_TYPE_IPV6,
  ETH_TYPE_RARP,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
} from '../wire/extract.js';
import { checkActions, parseActions, parseSubfield, UNSUPPORTED_FIELDS, unknownField } from './actions.js';
import { FIELDS, type Field, fieldByName, isWireName } from './fields.js';
import { catchAll, matchField, matchSubfield, missingForMatch } from './match.js';
import { nearest, type Pair, Problems, pairs, type Span, slice, trim } from './tokens.js';
import { type FlowRule, FlowSyntaxError, type Match } from './types.js';
import { ones, parseFieldValue, parseNumber, parseTable } from './values.js';

/** Shorthands for eth_type and nw_proto (ovs-fields(7), "Shorthands"). */
const PROTOCOLS: ReadonlyMap<string, readonly [ethType: number, proto: number]> = new Map([
  ['ip', [ETH_TYPE_IP, 0]],
  ['ipv4', [ETH_TYPE_IP, 0]],
  ['ip4', [ETH_TYPE_IP, 0]],
  ['arp', [ETH_TYPE_ARP, 0]],
  ['rarp', [ETH_TYPE_RARP, 0]],
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

const KEYWORDS = ['priority', 'table', 'cookie', 'idle_timeout', 'hard_timeout', 'actions'];
/** Counters that dump-flows prints and that add-flows reads back as nothing. */
const COUNTERS = new Set(['duration', 'n_packets', 'n_bytes', 'idle_age', 'hard_age']);
const UNSUPPORTED_KEYWORDS = new Set([
  'mpls',
  'mplsm',
  'send_flow_rem',
  'check_overlap',
  'reset_counts',
  'no_packet_counts',
  'no_byte_counts',
  'no_readonly_table',
  'allow_hidden_fields',
  'importance',
  'out_port',
  'out_group',
]);
const OTHER_COMMANDS = new Set(['modify', 'modify_strict', 'delete', 'delete_strict']);

const DEFAULT_PRIORITY = 0x8000;
const ETH_TYPE_FIELD = fieldByName('eth_type')!;
const NW_PROTO_FIELD = fieldByName('nw_proto')!;
const KEY_EXPECTED = 'a field of ovs-fields(7), priority, table, cookie, idle_timeout or hard_timeout';

/** A field that the flow compares, and where it says so. */
interface Compared {
  field: Field;
  at: Span;
}

interface Draft {
  table: number;
  priority: number;
  cookie: bigint;
  idleTimeout: number;
  hardTimeout: number;
  match: Match;
  compared: Compared[];
}

/** The flows of a file, in order; a flow with the table, priority and match of an earlier one takes
 *  its place. `file` is the name that positions carry. Throws a FlowSyntaxError with all problems. */
export function parseFlows(text: string, file: string): FlowRule[] {
  const problems = new Problems(file);
  const rules: FlowRule[] = [];
  const placeOf = new Map<string, number>();
  text.split('\n').forEach((line, i) => {
    problems.line = i + 1;
    const comment = line.indexOf('#');
    const flow = trim({ text: comment < 0 ? line : line.slice(0, comment), at: 0 });
    if (flow.text === '') return;
    const rule = parseLine(flow, problems);
    if (rule === undefined) return;
    const key = `${rule.table} ${rule.priority} ${rule.match.value.join()} ${rule.match.mask.join()}`;
    const index = placeOf.get(key) ?? rules.length;
    placeOf.set(key, index);
    rules[index] = rule;
  });
  if (problems.found.length > 0) {
    problems.found.sort((a, b) => a.pos.line - b.pos.line || a.pos.column - b.pos.column);
    throw new FlowSyntaxError(problems.found, text);
  }
  return rules;
}

function parseLine(line: Span, problems: Problems): FlowRule | undefined {
  const before = problems.found.length;
  const body = skipCommand(line, problems);
  if (body === undefined) return undefined;
  // As ovs-ofctl does: the actions start at the first "action", whatever stands before.
  const word = body.text.indexOf('action');
  const head = word < 0 ? body : slice(body, 0, word);
  const draft: Draft = {
    table: 0,
    priority: DEFAULT_PRIORITY,
    cookie: 0n,
    idleTimeout: 0,
    hardTimeout: 0,
    match: catchAll(),
    compared: [],
  };
  for (const p of pairs(head, problems)) readKey(p, draft, problems);
  const matchIsGood = problems.found.length === before;
  if (matchIsGood) {
    for (const { field, at } of draft.compared) {
      const needs = missingForMatch(draft.match, field);
      if (needs !== undefined) {
        problems.add(at, `${field.name} is not in every packet of this match`, `${needs} in the same match`);
      }
    }
  }
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
  const list = slice(body, body.text.indexOf('=', word) + 1);
  const placed = parseActions(list, problems);
  if (problems.found.length === before) checkActions(placed, draft.match, draft.table, problems);
  if (problems.found.length > before) return undefined;
  const { table, priority, cookie, idleTimeout, hardTimeout, match } = draft;
  const pos = { file: problems.file, line: problems.line, column: line.at + 1, length: line.text.length };
  const actions = placed.map((p) => p.action);
  return { table, priority, cookie, idleTimeout, hardTimeout, match, actions, pos, text: line.text };
}

function skipCommand(line: Span, problems: Problems): Span | undefined {
  const word = /^[^, \t]+/.exec(line.text)?.[0] ?? '';
  if (word === 'add') return slice(line, word.length);
  if (!OTHER_COMMANDS.has(word)) return line;
  problems.add(slice(line, 0, word.length), `command ${word} is not supported yet`, 'add, or no command');
  return undefined;
}

function readKey(p: Pair, draft: Draft, problems: Problems): void {
  const name = p.key.text;
  const { match } = draft;
  const protocol = PROTOCOLS.get(name);
  const field = isWireName(name) ? undefined : fieldByName(name);
  if (protocol !== undefined || name === 'eth') {
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
  } else if (UNSUPPORTED_FIELDS.test(name)) {
    problems.add(p.whole, `field ${name} is not supported yet`, KEY_EXPECTED);
  } else if (UNSUPPORTED_KEYWORDS.has(name)) {
    problems.add(p.whole, `${name} is not supported yet`, KEY_EXPECTED);
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
  const number = (bits: number): bigint | undefined =>
    problems.value(where, parseNumber(value.text, bits, name));
  switch (name) {
    case 'priority':
      draft.priority = Number(number(16) ?? 0n);
      return;
    case 'idle_timeout':
      draft.idleTimeout = Number(number(16) ?? 0n);
      return;
    case 'hard_timeout':
      draft.hardTimeout = Number(number(16) ?? 0n);
      return;
    case 'table':
      draft.table = problems.value(where, parseTable(value.text)) ?? 0;
      return;
    case 'cookie':
      if (value.text.includes('/')) {
        const slash = value.text.indexOf('/');
        problems.add(slice(value, slash), 'adding a flow takes no cookie mask', 'cookie=VALUE');
      } else {
        draft.cookie = (value.text === '-1' ? ones(64) : number(64)) ?? 0n;
      }
      return;
  }
  if (COUNTERS.has(name)) return;
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
    ...KEYWORDS,
  ];
  const token = p.key.text === '' ? p.whole : p.key;
  problems.add(token, `unknown keyword "${name}"`, KEY_EXPECTED, nearest(name, known));
}
