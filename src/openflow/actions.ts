/** Reads the actions of a flow or of a bucket (ovs-actions(7)) and checks what of them may stand
 *  together, as ovs-ofctl does; `consistency.ts` checks them against the match. */

import {
  OFPP_ALL,
  OFPP_CONTROLLER,
  OFPP_FLOOD,
  OFPP_IN_PORT,
  OFPP_LOCAL,
  OFPP_MAX,
  OFPP_NORMAL,
  OFPP_TABLE,
} from '../classifier/flow-key.js';
import { isPlain } from './action-set.js';
import { ctReader, isCtField, writtenField } from './ct-action.js';
import { type Field, fieldByName, isWireName, MOD_TP_DST, MOD_TP_SRC } from './fields.js';
import { bundleReader, readMultipath } from './hash-actions.js';
import { readLearn } from './learn-action.js';
import type { ListReader, Outer, Placed, Reader } from './placed.js';
import { arrow, parseDestination, parseSource, parseSubfield, readOnly, unknownField } from './subfields.js';
import { nearest, type Pair, type Problems, pairs, type Span, slice, words } from './tokens.js';
import { type Action, CONTROLLER_REASONS, MAX_LEN_ALL, REASON_ACTION } from './types.js';
import {
  ones,
  PORT_NAMES,
  parseFieldValue,
  parseIpv4,
  parseMac,
  parseNumber,
  parsePort,
  parseTable,
  Refusal,
} from './values.js';

/** Actions of OVS that this program does not do. */
const UNSUPPORTED_ACTIONS = new Set([
  'dec_nsh_ttl',
  'delete_field',
  'encap',
  'decap',
  'sample',
  'unroll_xlate',
  'output_trunc',
  'debug_recirc',
  'debug_slow',
]);

const PORT_EXPECTED = 'a decimal port number up to 65279, a reserved port such as NORMAL, or a register';
/** Lists in lists that ovs-ofctl takes. */
const MAX_NESTING = 100;
/** The highest number that a group can have. */
export const MAX_GROUP = 0xffffff00;
/** The highest number that a meter can have. */
export const MAX_METER = 0xffff0000;
/** Bytes of an Ethernet header, the shortest that output may cut a packet to. */
const MIN_OUTPUT_LENGTH = 14;

function bare(action: Action): Reader {
  return (p, problems) => {
    if (p.value.text === '') return { action, at: p.whole };
    problems.add(p.value, `${p.key.text} takes no argument`, `${p.key.text} alone`);
    return undefined;
  };
}

function toController(maxLen: number): Action & { kind: 'controller' } {
  return {
    kind: 'controller',
    maxLen,
    reason: REASON_ACTION,
    id: 0,
    userdata: new Uint8Array(),
    pause: false,
    meter: 0,
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
    case OFPP_CONTROLLER:
      return toController(MAX_LEN_ALL);
  }
  if (port < OFPP_MAX || port === OFPP_LOCAL || port === OFPP_TABLE) return { kind: 'output', port };
  problems.add(where, `${where.text} is not a port to send to`, PORT_EXPECTED);
  return undefined;
}

const readOutput: Reader = (p, problems, depth) => {
  const arg = p.value;
  if (arg.text.includes('port') && arg.text.includes('max_len')) {
    return readTruncated(p, problems, depth);
  }
  const port = parsePort(arg.text);
  if (port !== undefined) {
    const action = portAction(port, arg, problems);
    return action && { action, at: p.whole };
  }
  if (/^[A-Za-z]\w*(\[|$)/.test(arg.text)) {
    const name = /^\w+/.exec(arg.text)![0];
    if (arg.text.includes('[') || fieldByName(name) !== undefined || isWireName(name)) {
      const src = parseSource(arg, problems);
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
  const [portSpan, tableSpan, ctSpan, extra] = parts;
  const wrong = ctSpan !== undefined && ctSpan.text !== '' && ctSpan.text !== 'ct' ? ctSpan : extra;
  if (wrong !== undefined) {
    const where = wrong.text === '' ? p.whole : wrong;
    problems.add(
      where,
      `unknown argument "${wrong.text}"`,
      'resubmit(PORT,TABLE) or resubmit(PORT,TABLE,ct)',
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
  const action: Action = { kind: 'resubmit', port, table };
  if (ctSpan?.text === 'ct') action.ct = true;
  return { action, at: p.whole };
};

const readGoto: Reader = (p, problems) => {
  const table = problems.value(p.value.text === '' ? p.whole : p.value, parseTable(p.value.text));
  return table === undefined
    ? undefined
    : { action: { kind: 'goto_table', table }, at: p.whole, src: p.value };
};

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
  const src = parseSource(halves[0], problems);
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
  const controllers: number[] = [];
  for (const word of words(p.value, ', ')) {
    const id = /^\d+$/.test(word.text) ? Number(word.text) : Number.NaN;
    if (id <= 0xffff) controllers.push(id);
    else problems.add(word, `"${word.text}" is not a controller id`, 'a decimal number from 0 to 65535');
  }
  if (controllers.length > 0) return { action: { kind: 'dec_ttl', controllers }, at: p.whole };
  problems.add(p.whole, 'dec_ttl() needs controller ids', 'dec_ttl, or dec_ttl(ID,...)');
  return undefined;
};

const readTruncated: Reader = (p, problems) => {
  const before = problems.found.length;
  let port: number | undefined;
  let maxLen: number | undefined;
  for (const arg of pairs(p.value, problems)) {
    const where = arg.value.text === '' ? arg.whole : arg.value;
    if (arg.key.text === 'port') {
      port = parsePort(arg.value.text);
      if (port === undefined || (port >= OFPP_MAX && port !== OFPP_LOCAL && port !== OFPP_IN_PORT)) {
        problems.add(
          where,
          `can't cut packets for port "${arg.value.text}"`,
          'a decimal port number, LOCAL or IN_PORT',
        );
      }
    } else if (arg.key.text === 'max_len') {
      maxLen = Number(problems.value(where, parseNumber(arg.value.text, 32, 'max_len')) ?? MIN_OUTPUT_LENGTH);
      if (maxLen < MIN_OUTPUT_LENGTH) {
        problems.add(
          where,
          `max_len ${maxLen} is shorter than an Ethernet header`,
          `${MIN_OUTPUT_LENGTH} or more`,
        );
      }
    } else {
      problems.add(
        arg.key.text === '' ? arg.whole : arg.key,
        `unknown argument "${arg.key.text}"`,
        'port=PORT,max_len=BYTES',
      );
    }
  }
  if (problems.found.length > before) return undefined;
  if (port !== undefined && maxLen !== undefined) {
    return { action: { kind: 'output', port, maxLen }, at: p.whole };
  }
  problems.add(p.whole, 'output() needs port and max_len', 'output(port=PORT,max_len=BYTES)');
  return undefined;
};

/** Bytes in hexadecimal, with points and spaces between them or without. */
function parseHex(text: string): Uint8Array | undefined {
  const bytes = text.match(/[0-9a-fA-F]{2}|[^ .\t]/g) ?? [];
  if (bytes.some((byte) => byte.length !== 2)) return undefined;
  return Uint8Array.from(bytes, (byte) => Number.parseInt(byte, 16));
}

const CONTROLLER_EXPECTED = 'max_len=N, reason=REASON, id=N, userdata=HEX, pause or meter_id=N';

const readController: Reader = (p, problems) => {
  const { value } = p;
  const action = toController(MAX_LEN_ALL);
  if (/^\d*$/.test(value.text)) {
    if (value.text !== '') {
      const maxLen = problems.value(value, parseNumber(value.text, 16, 'max_len'));
      if (maxLen === undefined) return undefined;
      action.maxLen = Number(maxLen);
    }
    return { action, at: p.whole };
  }
  const before = problems.found.length;
  for (const arg of pairs(value, problems)) {
    const where = arg.value.text === '' ? arg.whole : arg.value;
    const number = (bits: number): number =>
      Number(problems.value(where, parseNumber(arg.value.text, bits, arg.key.text)) ?? 0n);
    switch (arg.key.text) {
      case 'max_len':
        action.maxLen = number(16);
        break;
      case 'id':
        action.id = number(16);
        break;
      case 'meter_id':
        action.meter = number(32);
        break;
      case 'pause':
        action.pause = true;
        break;
      case 'reason':
        action.reason = CONTROLLER_REASONS.indexOf(arg.value.text.toLowerCase());
        if (action.reason < 0) {
          const close = nearest(arg.value.text, CONTROLLER_REASONS);
          problems.add(
            where,
            `unknown reason "${arg.value.text}"`,
            `one of: ${CONTROLLER_REASONS.join(' ')}`,
            close,
          );
        }
        break;
      case 'userdata': {
        const bytes = parseHex(arg.value.text);
        if (bytes !== undefined) action.userdata = bytes;
        else problems.add(where, 'userdata is not in hexadecimal', 'pairs of digits, such as 00.1f.20');
        break;
      }
      default:
        problems.add(
          arg.key.text === '' ? arg.whole : arg.key,
          `unknown argument "${arg.key.text}" of controller()`,
          CONTROLLER_EXPECTED,
          nearest(arg.key.text, ['max_len', 'reason', 'id', 'userdata', 'pause', 'meter_id']),
        );
    }
  }
  return problems.found.length === before ? { action, at: p.whole } : undefined;
};

const readEnqueue: Reader = (p, problems) => {
  const parts = words(p.value, ':q,');
  if (parts.length !== 2) {
    problems.add(p.whole, 'enqueue needs a port and a queue', 'enqueue:PORT:QUEUE');
    return undefined;
  }
  const port = parsePort(parts[0].text);
  const queue = problems.value(parts[1], parseNumber(parts[1].text, 32, 'queue'));
  if (port === undefined || (port >= OFPP_MAX && port !== OFPP_LOCAL && port !== OFPP_IN_PORT)) {
    problems.add(
      parts[0],
      `"${parts[0].text}" is not a port with queues`,
      'a decimal port number, LOCAL or IN_PORT',
    );
    return undefined;
  }
  return queue === undefined
    ? undefined
    : { action: { kind: 'enqueue', port, queue: Number(queue) }, at: p.whole };
};

/** An action with one number. */
function numbered(
  bits: number,
  what: string,
  make: (n: number) => Action,
  most = ones(bits),
  least = 0n,
): Reader {
  return (p, problems) => {
    const where = p.value.text === '' ? p.whole : p.value;
    const n = problems.value(where, parseNumber(p.value.text, bits, what));
    if (n === undefined) return undefined;
    if (n >= least && n <= most) return { action: make(Number(n)), at: p.whole };
    problems.add(where, `${what} ${p.value.text} does not exist`, `${what}s from ${least} to ${most}`);
    return undefined;
  };
}

const readPushMpls: Reader = (p, problems) => {
  const where = p.value.text === '' ? p.whole : p.value;
  const type = problems.value(where, parseNumber(p.value.text, 16, 'MPLS ethertype'));
  if (type === undefined) return undefined;
  if (type === 0x8847n || type === 0x8848n) {
    return { action: { kind: 'push_mpls', ethertype: Number(type) }, at: p.whole };
  }
  problems.add(where, `${p.value.text} is not an MPLS ethertype`, '0x8847 or 0x8848');
  return undefined;
};

const readSetTunnel: Reader = (p, problems) => {
  const where = p.value.text === '' ? p.whole : p.value;
  const tunId = field('tun_id');
  const value = problems.value(where, parseNumber(p.value.text, 64, 'tunnel id'));
  if (value === undefined) return undefined;
  return { action: { kind: 'set', field: tunId, value, mask: tunId.valid, via: 'mod' }, at: p.whole };
};

const readPush: Reader = (p, problems) => {
  const src = parseSource(p.value.text === '' ? p.whole : p.value, problems);
  return src && { action: { kind: 'push', src }, at: p.whole, src: p.value };
};

const readPop: Reader = (p, problems) => {
  const dst = parseDestination(p.value.text === '' ? p.whole : p.value, problems);
  return dst && { action: { kind: 'pop', dst }, at: p.whole, dst: p.value };
};

const readNote: Reader = (p, problems) => {
  const bytes = parseHex(p.value.text);
  if (bytes === undefined) {
    problems.add(p.value, 'note is not in hexadecimal', 'pairs of digits, such as 00.1f.20');
    return undefined;
  }
  // OpenFlow pads actions to 8 bytes, 10 of which are before the note.
  const padded = new Uint8Array(6 + 8 * Math.ceil(Math.max(0, bytes.length - 6) / 8));
  padded.set(bytes);
  return { action: { kind: 'note', bytes: padded }, at: p.whole };
};

const readFinTimeout: Reader = (p, problems) => {
  const action: Action & { kind: 'fin_timeout' } = { kind: 'fin_timeout', idleTimeout: 0, hardTimeout: 0 };
  const before = problems.found.length;
  for (const arg of pairs(p.value, problems)) {
    const where = arg.value.text === '' ? arg.whole : arg.value;
    const name = arg.key.text;
    if (name === 'idle_timeout' || name === 'hard_timeout') {
      const seconds = Number(problems.value(where, parseNumber(arg.value.text, 16, name)) ?? 0n);
      action[name === 'idle_timeout' ? 'idleTimeout' : 'hardTimeout'] = seconds;
    } else {
      const close = nearest(name, ['idle_timeout', 'hard_timeout']);
      problems.add(
        name === '' ? arg.whole : arg.key,
        `unknown argument "${name}" of fin_timeout()`,
        'idle_timeout=N or hard_timeout=N',
        close,
      );
    }
  }
  return problems.found.length === before ? { action, at: p.whole } : undefined;
};

const MAX_CLAUSES = 64;

const readConjunction: Reader = (p, problems) => {
  const parts = /^\s*(0[xX][0-9a-fA-F]+|\d+)\s*,\s*(\d+)\s*\/\s*(\d+)\s*$/.exec(p.value.text);
  const where = p.value.text === '' ? p.whole : p.value;
  if (parts === null) {
    problems.add(where, `"${p.value.text}" does not say a clause of a conjunction`, 'conjunction(ID,K/N)');
    return undefined;
  }
  const id = problems.value(where, parseNumber(parts[1], 32, 'conjunction id'));
  const clause = Number(parts[2]);
  const nClauses = Number(parts[3]);
  if (id === undefined) return undefined;
  if (nClauses < 2 || nClauses > MAX_CLAUSES || clause < 1 || clause > nClauses) {
    problems.add(
      where,
      `there is no clause ${clause} of ${nClauses}`,
      `K/N with N from 2 to ${MAX_CLAUSES} and K from 1 to N`,
    );
    return undefined;
  }
  return { action: { kind: 'conjunction', id: Number(id), clause: clause - 1, nClauses }, at: p.whole };
};

const readCheckPktLarger: Reader = (p, problems) => {
  let size = p.value;
  let { target } = p;
  if (target === undefined) {
    const halves = arrow(p, problems);
    if (halves === undefined) return undefined;
    [size, target] = halves;
  }
  const bytes = problems.value(
    size.text === '' ? p.whole : size,
    parseNumber(size.text, 16, 'packet length'),
  );
  const dst = parseDestination(target.text === '' ? p.whole : target, problems);
  if (bytes === undefined || dst === undefined) return undefined;
  if (dst.bits === 1) {
    return { action: { kind: 'check_pkt_larger', size: Number(bytes), dst }, at: p.whole, dst: target };
  }
  problems.add(target, `the result is 1 bit wide, this is ${dst.bits}`, 'one bit, such as reg0[0]');
  return undefined;
};

const readWriteMetadata: Reader = (p, problems) => {
  const where = p.value.text === '' ? p.whole : p.value;
  const slash = p.value.text.indexOf('/');
  const head = slash < 0 ? where : slice(p.value, 0, slash);
  const value = problems.value(head, parseNumber(slash < 0 ? p.value.text : head.text, 64, 'metadata'));
  let mask: bigint | undefined = ones(64);
  if (slash >= 0) {
    const tail = slice(p.value, slash + 1);
    mask = problems.value(tail, parseNumber(tail.text, 64, 'metadata mask'));
  }
  if (value === undefined || mask === undefined) return undefined;
  return { action: { kind: 'write_metadata', value: value & mask, mask }, at: p.whole };
};

function nesting(kind: 'clone' | 'write_actions'): Reader {
  return (p, problems, depth) => {
    const before = problems.found.length;
    const inner = readList(p.value, kind, problems, depth + 1);
    if (problems.found.length > before) return undefined;
    return { action: { kind, actions: inner.map((one) => one.action) }, at: p.whole, inner };
  };
}

const field = (name: string): Field => fieldByName(name)!;

const READERS: ReadonlyMap<string, Reader> = new Map<string, Reader>([
  ['output', readOutput],
  ['output_reg', readOutput],
  ['drop', bare({ kind: 'drop' })],
  ['resubmit', readResubmit],
  ['goto_table', readGoto],
  ['ct', ctReader((s, outer, problems, depth) => readList(s, outer, problems, depth))],
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
  ['push_mpls', readPushMpls],
  ['pop_mpls', numbered(16, 'ethertype', (ethertype) => ({ kind: 'pop_mpls', ethertype }))],
  ['set_mpls_label', modifyNumber(field('mpls_label'), 'MPLS label')],
  ['set_mpls_tc', modifyNumber(field('mpls_tc'), 'MPLS traffic class')],
  ['set_mpls_ttl', modifyNumber(field('mpls_ttl'), 'MPLS TTL')],
  ['dec_mpls_ttl', bare({ kind: 'dec_mpls_ttl' })],
  ['set_tunnel', readSetTunnel],
  ['set_tunnel64', readSetTunnel],
  ['controller', readController],
  ['enqueue', readEnqueue],
  ['set_queue', numbered(32, 'queue', (queue) => ({ kind: 'set_queue', queue }))],
  ['pop_queue', bare({ kind: 'pop_queue' })],
  ['group', numbered(32, 'group', (group) => ({ kind: 'group', group }), BigInt(MAX_GROUP))],
  ['meter', numbered(32, 'meter', (meter) => ({ kind: 'meter', meter }), BigInt(MAX_METER), 1n)],
  ['push', readPush],
  ['pop', readPop],
  ['multipath', readMultipath],
  ['bundle', bundleReader(false)],
  ['bundle_load', bundleReader(true)],
  ['learn', readLearn],
  ['conjunction', readConjunction],
  ['check_pkt_larger', readCheckPktLarger],
  ['fin_timeout', readFinTimeout],
  ['note', readNote],
  ['exit', bare({ kind: 'exit' })],
  ['clone', nesting('clone')],
  ['write_actions', nesting('write_actions')],
  ['clear_actions', bare({ kind: 'clear_actions' })],
  ['write_metadata', readWriteMetadata],
]);

const ACTION_EXPECTED = 'an action of ovs-actions(7) or a port';

function readOne(p: Pair, problems: Problems, depth: number): Placed | undefined {
  const name = p.key.text.toLowerCase();
  const reader = READERS.get(name);
  if (p.target !== undefined && name !== 'check_pkt_larger') {
    problems.add(
      p.target.text === '' ? p.whole : p.target,
      `${p.key.text}() stands before no "->"`,
      `${p.key.text}(...)`,
    );
    return undefined;
  }
  if (reader !== undefined) return reader(p, problems, depth);
  if (UNSUPPORTED_ACTIONS.has(name)) {
    problems.add(p.whole, `action ${name} is not supported`, `one of: ${[...READERS.keys()].join(' ')}`);
    return undefined;
  }
  if (name === 'nat') {
    problems.add(p.whole, 'nat outside ct() is not an action', 'nat only within ct(...)');
    return undefined;
  }
  if (name === 'apply_actions') {
    problems.add(p.whole, 'apply_actions is what a list of actions does anyway', 'its actions by themselves');
    return undefined;
  }
  const port = parsePort(p.key.text);
  if (port !== undefined) {
    if (p.value.text !== '') {
      problems.add(p.value, `port ${p.key.text} takes no argument`, `${p.key.text} alone`);
      return undefined;
    }
    const action = portAction(port, p.key, problems);
    return action && { action, at: p.whole };
  }
  const candidates = [...READERS.keys(), ...[...PORT_NAMES.keys()].map((n) => n.toLowerCase())];
  const where = p.key.text === '' ? p.whole : p.key;
  problems.add(where, `unknown action "${p.key.text}"`, ACTION_EXPECTED, nearest(name, candidates));
  return undefined;
}

/** The actions of a list, drop left out. What is wrong goes to `problems`. */
const readList: ListReader = (s, outer, problems, depth) =>
  readPairs(s, pairs(s, problems), outer, problems, depth);

function readPairs(
  s: Span,
  list: readonly Pair[],
  outer: Outer,
  problems: Problems,
  depth: number,
): Placed[] {
  if (depth > MAX_NESTING) {
    problems.add(s, 'actions are nested too deeply', `at most ${MAX_NESTING} levels`);
    return [];
  }
  const placed: Placed[] = [];
  for (const p of list) {
    const one = readOne(p, problems, depth);
    if (one !== undefined) placed.push(one);
  }
  const drop = placed.find((a) => a.action.kind === 'drop');
  if (drop !== undefined && placed.some((a) => a.action.kind !== 'drop')) {
    problems.add(drop.at, 'drop must not be accompanied by other actions', 'drop alone');
  }
  const rest = placed.filter((a) => a.action.kind !== 'drop');
  if (rest.some((a) => a.action.kind === 'conjunction')) {
    checkConjunctions(rest, problems);
  } else {
    for (const one of rest) checkNesting(one, outer, problems);
    checkOrder(rest, outer, problems);
  }
  return rest;
}

function checkConjunctions(placed: readonly Placed[], problems: Problems): void {
  for (const { action, at } of placed) {
    if (action.kind === 'conjunction' || action.kind === 'note') continue;
    problems.add(at, 'conjunction stands only with note and other conjunctions', 'conjunction(...) alone');
  }
}

/** What an action set has a place for (ovs-actions(7), "Action Sets"). */
const IN_ACTION_SET: ReadonlySet<Action['kind']> = new Set([
  'set',
  'move',
  'set_vlan_vid',
  'set_vlan_pcp',
  'set_queue',
  'push_vlan',
  'pop_vlan',
  'push_mpls',
  'pop_mpls',
  'dec_ttl',
  'dec_mpls_ttl',
  'ct',
  'ct_clear',
  'resubmit',
  'output',
  'in_port',
  'normal',
  'flood',
  'all',
  'controller',
  'group',
]);

function fitsActionSet(a: Action): boolean {
  if (a.kind === 'output') return a.maxLen === undefined;
  if (a.kind !== 'controller') return IN_ACTION_SET.has(a.kind);
  return isPlain(a);
}

/** Checks that an action may stand where `outer` is around it. */
function checkNesting(one: Placed, outer: Outer, problems: Problems): void {
  if (outer === 'write_actions' && ORDER[one.action.kind] === undefined && !fitsActionSet(one.action)) {
    problems.add(
      one.at,
      `an action set has no place for ${one.action.kind} (OFPBAC_BAD_TYPE)`,
      'output, group, resubmit, ct, set_field, move, tags, label stacks, TTLs or set_queue',
    );
  }
  const written = writtenField(one.action);
  const where = one.dst ?? one.at;
  if (outer === 'ct') {
    if (written !== undefined && isCtField(written)) return;
    problems.add(
      where,
      'only ct_mark and ct_label can be changed in exec()',
      'set_field, load or move to ct_mark or ct_label',
    );
  } else if (written !== undefined && isCtField(written)) {
    problems.add(where, `${written.name} can only be set by ct()`, `ct(commit,exec(...->${written.name}))`);
  }
}

/** Places of the instructions in a flow (ovs-actions(7), "Instructions"); all other actions are one. */
const ORDER: Readonly<Partial<Record<Action['kind'], number>>> = {
  meter: 0,
  clear_actions: 2,
  write_actions: 3,
  write_metadata: 4,
  goto_table: 5,
};
const APPLY = 1;

function orderOf(one: Placed): number {
  return ORDER[one.action.kind] ?? APPLY;
}

function checkOrder(placed: readonly Placed[], outer: Outer, problems: Problems): void {
  let previous: Placed | undefined;
  for (const one of placed) {
    const { kind } = one.action;
    const order = orderOf(one);
    const allowed = outer === 'flow' || order === APPLY || (outer === 'bucket' && kind === 'meter');
    if (outer !== 'ct' && !allowed) {
      problems.add(one.at, `${kind} can't stand in ${outer}`, `${kind} only among the actions of a flow`);
    }
    if (previous !== undefined && previous.action.kind === kind && order !== APPLY) {
      problems.add(one.at, `a second ${kind}`, `at most one ${kind}`);
    } else if (previous !== undefined && order < orderOf(previous)) {
      if (kind === 'meter') {
        problems.add(one.at, 'meter must come before all other actions', 'meter at the beginning');
      } else {
        const before = previous.action.kind;
        const after = before === 'goto_table' ? 'all other actions' : order === APPLY ? 'the actions' : kind;
        problems.add(previous.at, `${before} must come after ${after}`, `${before} behind ${after}`);
      }
    }
    previous = one;
  }
}

/** The actions of a flow; an empty list reads as drop. What is wrong goes to `problems`. */
export function parseActions(s: Span, problems: Problems): Placed[] {
  const placed = readList(s, 'flow', problems, 0);
  return placed.length === 0 ? [{ action: { kind: 'drop' }, at: s }] : placed;
}

/** The actions among the pieces `list` of the bucket `s`; none for drop. */
export function parseBucketActions(s: Span, list: readonly Pair[], problems: Problems): Placed[] {
  return readPairs(s, list, 'bucket', problems, 0);
}

/** All actions of a list with those inside them. */
export function* flattened(placed: readonly Placed[]): Iterable<Placed> {
  for (const one of placed) {
    yield one;
    if (one.inner !== undefined) yield* flattened(one.inner);
  }
}
