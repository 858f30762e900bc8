/** Reads the actions of a flow (ovs-actions(7)) and checks them against its match as ovs-ofctl does
 *  before it sends a flow, and as the switch does when it takes one. */
import {
  CS_INV,
  FLOW,
  OFPP_ALL,
  OFPP_FLOOD,
  OFPP_IN_PORT,
  OFPP_LOCAL,
  OFPP_MAX,
  OFPP_NORMAL,
} from '../classifier/flow-key.js';
import {
  FIELDS,
  type Field,
  fieldByName,
  isWireName,
  MOD_TP_DST,
  MOD_TP_SRC,
  type Subfield,
} from './fields.js';
import { isIp, meets, PREREQ_TEXT } from './match.js';
import { nearest, type Pair, type Problems, pairs, type Span, slice } from './tokens.js';
import type { Action, Match } from './types.js';
import {
  ones,
  PORT_NAMES,
  parseFieldValue,
  parseIpv4,
  parseMac,
  parseNumber,
  parsePort,
  parseTable,
  portText,
  Refusal,
} from './values.js';

/** An action and the piece of the line that it came from. */
interface Placed {
  action: Action;
  at: Span;
  /** Spelled set_vlan_vid or set_vlan_pcp, which want a tag, unlike mod_vlan_*. */
  wantsTag?: boolean;
  /** Where the source and destination of a move stand, the field of a set. */
  src?: Span;
  dst?: Span;
  exec?: Placed[];
}

/** Fields of OVS that a flow key has no room for yet. */
export const UNSUPPORTED_FIELDS: RegExp =
  /^(dp_hash|recirc_id|packet_type|conj_id|tun_\w+|tunnel_id|in_port_oxm|actset_output|skb_priority|pkt_mark|reg(1[6-9]|2[0-9]|3[01])|xreg([89]|1[0-5])|xxreg[4-7]|mpls_\w+|nd_reserved|nd_options_type|nsh_\w+|nsp|nsi|nshc[1-4])$/;
const UNSUPPORTED_WIRE =
  /^(NXM_NX_(DP_HASH|RECIRC_ID|CONJ_ID|TUN_\w+|PKT_MARK|MPLS_TTL|COOKIE)|OXM_OF_(PACKET_TYPE|IN_PORT|ACTSET_OUTPUT|TUNNEL_ID|MPLS_\w+|PKT_REG([89]|1[0-5]))|ONFOXM_ET_ACTSET_OUTPUT|NXOXM_\w+|ERICOXM_\w+)$/;

const UNSUPPORTED_ACTIONS = new Set([
  'group',
  'controller',
  'enqueue',
  'bundle',
  'bundle_load',
  'push',
  'pop',
  'set_mpls_label',
  'set_mpls_tc',
  'set_mpls_ttl',
  'dec_mpls_ttl',
  'push_mpls',
  'pop_mpls',
  'dec_nsh_ttl',
  'delete_field',
  'encap',
  'decap',
  'set_tunnel',
  'set_tunnel64',
  'set_queue',
  'pop_queue',
  'fin_timeout',
  'learn',
  'conjunction',
  'multipath',
  'note',
  'exit',
  'sample',
  'unroll_xlate',
  'output_trunc',
  'clone',
  'check_pkt_larger',
  'debug_recirc',
  'debug_slow',
  'meter',
  'clear_actions',
  'write_actions',
  'write_metadata',
]);

type Reader = (p: Pair, problems: Problems) => Placed | undefined;

const PORT_EXPECTED = 'a decimal port number up to 65279, LOCAL, IN_PORT, NORMAL, FLOOD, ALL, or a register';

function names(): string[] {
  return FIELDS.flatMap((f) => [f.name, ...f.aliases.filter((a) => !isWireName(a))]);
}

/** Records that `name` is not a field: not yet, or not at all, with the nearest one. */
export function unknownField(name: Span, expected: string, problems: Problems): void {
  if (UNSUPPORTED_FIELDS.test(name.text) || UNSUPPORTED_WIRE.test(name.text.replace(/_W$/, ''))) {
    problems.add(name, `field ${name.text} is not supported yet`, expected);
    return;
  }
  const candidates = isWireName(name.text) ? FIELDS.flatMap((f) => f.aliases.filter(isWireName)) : names();
  problems.add(name, `unknown field "${name.text}"`, expected, nearest(name.text, candidates));
}

/** `NAME`, `NAME[]`, `NAME[BIT]` or `NAME[FIRST..LAST]` (ovs-actions(7), "Syntax of actions"). */
export function parseSubfield(s: Span, problems: Problems): Subfield | undefined {
  const bracket = s.text.indexOf('[');
  const name = bracket < 0 ? s : slice(s, 0, bracket);
  const field = fieldByName(name.text);
  if (field === undefined) {
    unknownField(name, 'a field such as NXM_NX_REG0[] or reg0[0..15]', problems);
    return undefined;
  }
  if (bracket < 0) return { field, ofs: 0, bits: field.bits };
  const range = slice(s, bracket);
  const parts = /^\[(?:(\d+)(?:\.\.(\d+))?)?\]$/.exec(range.text);
  if (parts === null) {
    problems.add(range, `"${range.text}" is not a range of bits`, '[], [BIT] or [FIRST..LAST]');
    return undefined;
  }
  if (parts[1] === undefined) return { field, ofs: 0, bits: field.bits };
  const first = Number(parts[1]);
  const last = parts[2] === undefined ? first : Number(parts[2]);
  if (first > last) {
    problems.add(range, `first bit ${first} is after last bit ${last}`, `[${last}..${first}]`);
    return undefined;
  }
  if (last >= field.bits) {
    problems.add(range, `${field.name} is only ${field.bits} bits wide`, `bits from 0 to ${field.bits - 1}`);
    return undefined;
  }
  return { field, ofs: first, bits: last - first + 1 };
}

function bare(action: Action): Reader {
  return (p, problems) => {
    if (p.value.text === '') return { action, at: p.whole };
    problems.add(p.value, `${p.key.text} takes no argument`, `${p.key.text} alone`);
    return undefined;
  };
}

function portAction(port: number, where: Span, problems: Problems): Action | undefined {
  switch (port) {
    case OFPP_IN_PORT:
      return { kind: 'in_port' };
    case OFPP_NORMAL:
      return { kind: 'normal' };
    case OFPP_FLOOD:
      return { kind: 'flood' };
    case OFPP_ALL:
      return { kind: 'all' };
  }
  if (port < OFPP_MAX || port === OFPP_LOCAL) return { kind: 'output', port };
  const name = portText(port);
  if (name === 'TABLE' || name === 'CONTROLLER') {
    problems.add(where, `output to ${name} is not supported yet`, PORT_EXPECTED);
  } else {
    problems.add(where, `${where.text} is not a port to send to`, PORT_EXPECTED);
  }
  return undefined;
}

const readOutput: Reader = (p, problems) => {
  const arg = p.value;
  if (arg.text.includes('port') && arg.text.includes('max_len')) {
    problems.add(p.whole, 'output with max_len is not supported yet', PORT_EXPECTED);
    return undefined;
  }
  const port = parsePort(arg.text);
  if (port !== undefined) {
    const action = portAction(port, arg, problems);
    return action && { action, at: p.whole };
  }
  if (/^[A-Za-z]\w*(\[|$)/.test(arg.text)) {
    const name = /^\w+/.exec(arg.text)![0];
    if (arg.text.includes('[') || fieldByName(name) !== undefined || isWireName(name)) {
      const src = parseSubfield(arg, problems);
      return src && { action: { kind: 'output_reg', src }, at: p.whole, src: arg };
    }
  }
  const where = arg.text === '' ? p.whole : arg;
  const close = nearest(arg.text, [...PORT_NAMES.keys()]);
  problems.add(
    where,
    arg.text === '' ? 'output needs a port' : `unknown port "${arg.text}"`,
    PORT_EXPECTED,
    close,
  );
  return undefined;
};

const readResubmit: Reader = (p, problems) => {
  const parts: Span[] = [];
  let from = 0;
  for (const text of p.value.text.split(',')) {
    parts.push(slice(p.value, from, from + text.length));
    from += text.length + 1;
  }
  const [portSpan, tableSpan, extra] = parts;
  if (extra !== undefined) {
    const ct = extra.text === 'ct';
    problems.add(
      extra.text === '' ? p.whole : extra,
      ct ? 'ct in resubmit() is not supported yet' : `unknown argument "${extra.text}"`,
      'resubmit(PORT,TABLE)',
    );
    return undefined;
  }
  let port: number | null = null;
  let table: number | null = null;
  if (portSpan.text !== '') {
    const parsed = parsePort(portSpan.text);
    if (parsed === undefined) {
      problems.add(
        portSpan,
        `unknown port "${portSpan.text}"`,
        'a decimal port number, or nothing to keep it',
      );
      return undefined;
    }
    port = parsed === OFPP_IN_PORT ? null : parsed;
  }
  if (tableSpan !== undefined && tableSpan.text !== '' && tableSpan.text !== '255') {
    const parsed = problems.value(tableSpan, parseTable(tableSpan.text));
    if (parsed === undefined) return undefined;
    table = parsed;
  }
  if (port === null && table === null) {
    problems.add(
      p.whole,
      'resubmit would look up the same table with the same port',
      'resubmit(PORT,TABLE) with one of them',
    );
    return undefined;
  }
  return { action: { kind: 'resubmit', port, table }, at: p.whole };
};

const readGoto: Reader = (p, problems) => {
  const table = problems.value(p.value.text === '' ? p.whole : p.value, parseTable(p.value.text));
  return table === undefined
    ? undefined
    : { action: { kind: 'goto_table', table }, at: p.whole, src: p.value };
};

/** Halves of `VALUE->FIELD`. */
function arrow(p: Pair, problems: Problems): [Span, Span] | undefined {
  const at = p.value.text.indexOf('->');
  const form = p.key.text.toLowerCase() === 'move' ? 'SOURCE->DESTINATION' : 'VALUE->FIELD';
  if (at < 0 || at + 2 === p.value.text.length) {
    const where = p.value.text === '' ? p.whole : p.value;
    problems.add(where, at < 0 ? 'missing "->"' : 'missing field after "->"', `${p.key.text}:${form}`);
    return undefined;
  }
  return [slice(p.value, 0, at), slice(p.value, at + 2)];
}

/** True, and recorded, if actions can't write the field. dl_vlan and dl_vlan_pcp have no code in
 *  OpenFlow: ovs-ofctl refuses one and sends another field for the other. */
function readOnly(field: Field, where: Span, problems: Problems): boolean {
  if (field.name === 'dl_vlan' || field.name === 'dl_vlan_pcp') {
    const instead = field.name === 'dl_vlan' ? 'vlan_vid' : 'vlan_pcp';
    problems.add(where, `actions can't write ${field.name}`, 'a field with an OXM or NXM name', instead);
    return true;
  }
  if (field.writable) return false;
  problems.add(where, `${field.name} is read-only`, 'a writable field (see ovs-fields(7), "Access")');
  return true;
}

const readSetField: Reader = (p, problems) => {
  const halves = arrow(p, problems);
  if (halves === undefined) return undefined;
  const [valueSpan, name] = halves;
  const field = isWireName(name.text) ? undefined : fieldByName(name.text);
  if (field === undefined) {
    const wire = fieldByName(name.text.replace(/\[\]$/, ''));
    if (wire !== undefined) {
      problems.add(name, `set_field takes a plain field name, not "${name.text}"`, 'a field name', wire.name);
    } else {
      unknownField(name, 'a writable field', problems);
    }
    return undefined;
  }
  if (readOnly(field, name, problems)) return undefined;
  const parsed = problems.value(valueSpan, parseFieldValue(valueSpan.text, field));
  if (parsed === undefined) return undefined;
  if (parsed.value & ~field.valid) {
    problems.add(valueSpan, `${field.name} has no such value`, `a value up to ${field.valid}`);
    return undefined;
  }
  const { mask } = parsed;
  return { action: { kind: 'set', field, value: parsed.value & mask, mask }, at: p.whole, dst: name };
};

const readLoad: Reader = (p, problems) => {
  const halves = arrow(p, problems);
  if (halves === undefined) return undefined;
  const dst = parseSubfield(halves[1], problems);
  if (dst === undefined || readOnly(dst.field, halves[1], problems)) return undefined;
  const width = Math.min(dst.bits, dst.field.bits);
  const value = problems.value(halves[0], parseNumber(halves[0].text, width, 'value'));
  if (value === undefined) return undefined;
  const ofs = BigInt(dst.ofs);
  const mask = (ones(dst.bits) << ofs) & dst.field.valid;
  if (mask === 0n || (value << ofs) & ~dst.field.valid) {
    const allowed = `a value within 0x${dst.field.valid.toString(16)}`;
    problems.add(halves[0], `${dst.field.name} does not have all of these bits`, allowed);
    return undefined;
  }
  const action: Action = { kind: 'set', field: dst.field, value: value << ofs, mask, via: 'load' };
  return { action, at: p.whole, dst: halves[1] };
};

const readMove: Reader = (p, problems) => {
  const halves = arrow(p, problems);
  if (halves === undefined) return undefined;
  const src = parseSubfield(halves[0], problems);
  const dst = parseSubfield(halves[1], problems);
  if (src === undefined || dst === undefined || readOnly(dst.field, halves[1], problems)) return undefined;
  if (src.bits !== dst.bits) {
    problems.add(
      p.value,
      `source is ${src.bits} bits wide but destination is ${dst.bits} bits wide`,
      'two fields or ranges of the same width',
    );
    return undefined;
  }
  return { action: { kind: 'move', src, dst }, at: p.whole, src: halves[0], dst: halves[1] };
};

/** mod_* with a value that `parse` reads. */
function modify(field: Field, parse: (text: string) => bigint | Refusal): Reader {
  return (p, problems) => {
    const value = problems.value(p.value.text === '' ? p.whole : p.value, parse(p.value.text));
    if (value === undefined) return undefined;
    return { action: { kind: 'set', field, value, mask: field.valid, via: 'mod' }, at: p.whole, dst: p.key };
  };
}

function modifyNumber(field: Field, what: string): Reader {
  return modify(field, (text) => {
    const value = parseNumber(text, field.bytes * 8, what);
    if (value instanceof Refusal || (value & ~field.valid) === 0n) return value;
    return new Refusal(`${text} is not a valid ${what}`, `a value within 0x${field.valid.toString(16)}`);
  });
}

function modifyAddress(
  field: Field,
  parse: (text: string) => bigint | undefined,
  kind: string,
  example: string,
): Reader {
  return modify(
    field,
    (text) => parse(text) ?? new Refusal(`"${text}" is not an ${kind} address`, `an address like ${example}`),
  );
}

function vlanTag(kind: 'set_vlan_vid' | 'set_vlan_pcp', wantsTag: boolean): Reader {
  return (p, problems) => {
    const [bits, what] = kind === 'set_vlan_vid' ? [12, 'VLAN id'] : [3, 'VLAN priority'];
    const value = problems.value(
      p.value.text === '' ? p.whole : p.value,
      parseNumber(p.value.text, bits, what),
    );
    if (value === undefined) return undefined;
    const n = Number(value);
    const action: Action = kind === 'set_vlan_vid' ? { kind, vid: n } : { kind, pcp: n };
    return { action, at: p.whole, wantsTag };
  };
}

const readPushVlan: Reader = (p, problems) => {
  const where = p.value.text === '' ? p.whole : p.value;
  const tpid = problems.value(where, parseNumber(p.value.text, 16, 'VLAN ethertype'));
  if (tpid === undefined) return undefined;
  if (tpid !== 0x8100n && tpid !== 0x88a8n) {
    problems.add(where, `${p.value.text} is not a VLAN ethertype`, '0x8100 or 0x88a8');
    return undefined;
  }
  return { action: { kind: 'push_vlan', tpid: Number(tpid) }, at: p.whole };
};

const readDecTtl: Reader = (p, problems) => {
  if (p.value.text === '') return { action: { kind: 'dec_ttl' }, at: p.whole };
  problems.add(p.value, 'controller ids of dec_ttl() are not supported yet', 'dec_ttl alone');
  return undefined;
};

const CT_ARGUMENTS = ['commit', 'force', 'zone', 'table', 'exec', 'nat', 'alg'];
const CT_EXPECTED = 'commit, force, zone=N, table=N or exec(...)';

const readCt: Reader = (p, problems) => {
  const action: Action & { kind: 'ct' } = {
    kind: 'ct',
    commit: false,
    force: false,
    zone: 0,
    table: null,
    exec: [],
  };
  const placed: Placed = { action, at: p.whole, exec: [] };
  const before = problems.found.length;
  for (const arg of pairs(p.value, problems)) {
    const { value } = arg;
    const name = arg.key.text;
    if (name === 'commit' || name === 'force') {
      if (value.text !== '' || arg.delimiter !== '') {
        problems.add(arg.whole, `${name} takes no argument`, `${name} alone`);
      }
      action[name] = true;
    } else if (name === 'table') {
      const table = problems.value(value.text === '' ? arg.whole : value, parseTable(value.text));
      if (table !== undefined) action.table = table;
    } else if (name === 'zone') {
      if (/^\d/.test(value.text) || value.text === '') {
        const zone = problems.value(
          value.text === '' ? arg.whole : value,
          parseNumber(value.text, 16, 'zone'),
        );
        // As in OVS, a field stays the zone even if a number follows.
        if (zone !== undefined && typeof action.zone === 'number') action.zone = Number(zone);
        continue;
      }
      const src = parseSubfield(value, problems);
      if (src === undefined) continue;
      if (src.bits !== 16) {
        problems.add(value, `zone is 16 bits wide, this is ${src.bits}`, 'a field or range of 16 bits');
      }
      action.zone = src;
      placed.src = value;
    } else if (name === 'exec') {
      for (const inner of readActions(value, problems)) {
        const dst =
          inner.action.kind === 'set'
            ? inner.action.field
            : inner.action.kind === 'move'
              ? inner.action.dst.field
              : undefined;
        if (dst !== undefined && isCtField(dst)) {
          action.exec.push(inner.action);
          placed.exec!.push(inner);
        } else {
          problems.add(
            inner.dst ?? inner.at,
            'only ct_mark and ct_label can be changed in exec()',
            'set_field, load or move to ct_mark or ct_label',
          );
        }
      }
    } else if (name === 'nat' || name === 'alg') {
      problems.add(arg.whole, `${name} in ct() is not supported yet`, CT_EXPECTED);
    } else {
      problems.add(
        arg.key.text === '' ? arg.whole : arg.key,
        `unknown argument "${name}" of ct()`,
        CT_EXPECTED,
        nearest(name, CT_ARGUMENTS),
      );
    }
  }
  if (action.force && !action.commit) {
    problems.add(p.whole, 'force in ct() needs commit', 'ct(commit,force,...)');
  }
  if (action.exec.length > 0 && !action.commit) {
    problems.add(p.whole, 'exec() in ct() needs commit', 'ct(commit,...,exec(...))');
  }
  return problems.found.length === before ? placed : undefined;
};

function isCtField(f: Field): boolean {
  return f.name === 'ct_mark' || f.name === 'ct_label';
}

const field = (name: string): Field => fieldByName(name)!;

const READERS: ReadonlyMap<string, Reader> = new Map<string, Reader>([
  ['output', readOutput],
  ['output_reg', readOutput],
  ['drop', bare({ kind: 'drop' })],
  ['resubmit', readResubmit],
  ['goto_table', readGoto],
  ['ct', readCt],
  ['ct_clear', bare({ kind: 'ct_clear' })],
  ['set_field', readSetField],
  ['load', readLoad],
  ['move', readMove],
  ['mod_dl_src', modifyAddress(field('eth_src'), parseMac, 'Ethernet', '00:11:22:33:44:55')],
  ['mod_dl_dst', modifyAddress(field('eth_dst'), parseMac, 'Ethernet', '00:11:22:33:44:55')],
  ['mod_nw_src', modifyAddress(field('ip_src'), parseIpv4, 'IPv4', '10.1.2.3')],
  ['mod_nw_dst', modifyAddress(field('ip_dst'), parseIpv4, 'IPv4', '10.1.2.3')],
  ['mod_nw_tos', modifyNumber(field('nw_tos'), 'TOS')],
  ['mod_nw_ecn', modifyNumber(field('nw_ecn'), 'ECN')],
  ['mod_nw_ttl', modifyNumber(field('nw_ttl'), 'TTL')],
  ['set_nw_ttl', modifyNumber(field('nw_ttl'), 'TTL')],
  ['mod_tp_src', modifyNumber(MOD_TP_SRC, 'port')],
  ['mod_tp_dst', modifyNumber(MOD_TP_DST, 'port')],
  ['mod_vlan_vid', vlanTag('set_vlan_vid', false)],
  ['mod_vlan_pcp', vlanTag('set_vlan_pcp', false)],
  ['set_vlan_vid', vlanTag('set_vlan_vid', true)],
  ['set_vlan_pcp', vlanTag('set_vlan_pcp', true)],
  ['strip_vlan', bare({ kind: 'pop_vlan' })],
  ['pop_vlan', bare({ kind: 'pop_vlan' })],
  ['push_vlan', readPushVlan],
  ['dec_ttl', readDecTtl],
]);

const ACTION_EXPECTED = 'an action of ovs-actions(7) or a port';

function readActions(s: Span, problems: Problems): Placed[] {
  const placed: Placed[] = [];
  for (const p of pairs(s, problems)) {
    const name = p.key.text.toLowerCase();
    const reader = READERS.get(name);
    const port = reader === undefined ? parsePort(p.key.text) : undefined;
    if (reader !== undefined) {
      const one = reader(p, problems);
      if (one !== undefined) placed.push(one);
    } else if (UNSUPPORTED_ACTIONS.has(name)) {
      problems.add(
        p.whole,
        `action ${name} is not supported yet`,
        `one of: ${[...READERS.keys()].join(' ')}`,
      );
    } else if (name === 'nat') {
      problems.add(p.whole, 'nat outside ct() is not an action', 'nat only within ct(...)');
    } else if (port !== undefined) {
      if (p.value.text !== '') {
        problems.add(p.value, `port ${p.key.text} takes no argument`, `${p.key.text} alone`);
        continue;
      }
      const action = portAction(port, p.key, problems);
      if (action !== undefined) placed.push({ action, at: p.whole });
    } else {
      const candidates = [...READERS.keys(), ...[...PORT_NAMES.keys()].map((n) => n.toLowerCase())];
      const where = p.key.text === '' ? p.whole : p.key;
      problems.add(where, `unknown action "${p.key.text}"`, ACTION_EXPECTED, nearest(name, candidates));
    }
  }
  return placed;
}

/** The actions of a flow; an empty list reads as drop. What is wrong goes to `problems`. */
export function parseActions(s: Span, problems: Problems): Placed[] {
  const placed = readActions(s, problems);
  const drop = placed.find((a) => a.action.kind === 'drop');
  if (drop !== undefined && placed.some((a) => a.action.kind !== 'drop')) {
    problems.add(drop.at, 'drop must not be accompanied by other actions', 'drop alone');
  }
  const gotos = placed.filter((a) => a.action.kind === 'goto_table');
  for (const extra of gotos.slice(1)) {
    problems.add(extra.at, 'a second goto_table', 'at most one goto_table, at the end');
  }
  const last = placed.at(-1);
  if (gotos.length === 1 && last !== undefined && last !== gotos[0]) {
    problems.add(gotos[0].at, 'goto_table must come after all other actions', 'goto_table at the end');
  }
  for (const one of placed) {
    const dst =
      one.action.kind === 'set'
        ? one.action.field
        : one.action.kind === 'move'
          ? one.action.dst.field
          : undefined;
    if (dst !== undefined && isCtField(dst)) {
      problems.add(
        one.dst ?? one.at,
        `${dst.name} can only be set by ct()`,
        `ct(commit,exec(...->${dst.name}))`,
      );
    }
  }
  if (placed.length === 0) return [{ action: { kind: 'drop' }, at: s }];
  return drop !== undefined ? [drop] : placed;
}

/** Checks actions against the match of their flow: prerequisites of the fields that they read and
 *  write, VLAN tags as they come and go, and the direction of goto_table. */
export function checkActions(
  placed: readonly Placed[],
  match: Match,
  table: number,
  problems: Problems,
): void {
  const tagged = [(match.value[FLOW.VLAN_0] & 0x1000) !== 0, (match.value[FLOW.VLAN_1] & 0x1000) !== 0];
  // OVS can say these only in OpenFlow 1.0 and push_vlan only in 1.1 and later, so not both in a flow.
  let onlyOf10: { at: Span; needs: string } | undefined;
  let of11 = false;
  const loose = (ok: boolean, at: Span, needs: string): void => {
    if (!ok) onlyOf10 ??= { at, needs };
  };
  const need = (f: Field, at: Span): void => {
    if (!meets(match, f.prereq, tagged[0])) {
      problems.add(
        at,
        `${f.name} is not in every packet of this match (OFPBAC_MATCH_INCONSISTENT)`,
        `${PREREQ_TEXT[f.prereq]} in the match`,
      );
    }
  };
  const check = (one: Placed): void => {
    const { action } = one;
    switch (action.kind) {
      case 'output_reg':
        need(action.src.field, one.src ?? one.at);
        break;
      case 'move':
        need(action.src.field, one.src ?? one.at);
        need(action.dst.field, one.dst ?? one.at);
        break;
      case 'set':
        if (action.via === 'mod') {
          loose(meets(match, action.field.prereq, tagged[0]), one.at, PREREQ_TEXT[action.field.prereq]);
          break;
        }
        need(action.field, one.dst ?? one.at);
        if (action.field.name === 'vlan_vid' && !tagged[0]) {
          problems.add(
            one.dst ?? one.at,
            'vlan_vid can only be set if there is a tag (OFPBAC_MATCH_INCONSISTENT)',
            PREREQ_TEXT.vlan,
          );
        }
        if (action.field.name === 'vlan_tci') tagged[0] = (action.value & 0x1000n) !== 0n;
        break;
      case 'dec_ttl':
        loose(isIp(match), one.at, PREREQ_TEXT.ip);
        break;
      case 'set_vlan_vid':
      case 'set_vlan_pcp':
        loose(tagged[0] || one.wantsTag !== true, one.at, PREREQ_TEXT.vlan);
        tagged[0] = true;
        break;
      case 'push_vlan':
        if (tagged[1]) {
          problems.add(one.at, 'there are two VLAN tags already (OFPBAC_BAD_TAG)', 'at most two tags');
        }
        of11 = true;
        tagged[1] = tagged[0];
        tagged[0] = true;
        break;
      case 'pop_vlan':
        loose(tagged[0], one.at, PREREQ_TEXT.vlan);
        tagged[0] = tagged[1];
        tagged[1] = false;
        break;
      case 'goto_table':
        if (action.table <= table) {
          problems.add(
            one.src ?? one.at,
            `goto_table goes back from table ${table}`,
            `a table after ${table}`,
          );
        }
        break;
      case 'ct':
        checkCt(action, one);
        break;
    }
  };
  const checkCt = (action: Action & { kind: 'ct' }, one: Placed): void => {
    if (!isIp(match)) {
      problems.add(
        one.at,
        'ct() tracks only IP packets (OFPBAC_MATCH_INCONSISTENT)',
        'ip or ipv6 in the match, or a protocol over them',
      );
    }
    if (action.commit && (match.value[FLOW.CT_STATE] & CS_INV) !== 0) {
      problems.add(
        one.at,
        'ct(commit) of invalid packets (OFPBAC_MATCH_INCONSISTENT)',
        'a match without ct_state=+inv',
      );
    }
    if (typeof action.zone !== 'number') need(action.zone.field, one.src ?? one.at);
    for (const inner of one.exec ?? []) check(inner);
  };
  for (const one of placed) check(one);
  if (of11 && onlyOf10 !== undefined) {
    problems.add(
      onlyOf10.at,
      'together with push_vlan this needs a narrower match (OFPBAC_MATCH_INCONSISTENT)',
      onlyOf10.needs,
    );
  }
}
