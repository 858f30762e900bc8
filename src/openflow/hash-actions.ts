/** Reads multipath, bundle and bundle_load (ovs-actions(7)), whose arguments go by place. */

import { OFPP_CONTROLLER, OFPP_MAX } from '../classifier/flow-key.js';
import type { Reader } from './placed.js';
import { hasLongCode, parseDestination } from './subfields.js';
import { nearest, type Pair, type Problems, type Span, slice, words } from './tokens.js';
import type { HashFields } from './types.js';
import { parsePort } from './values.js';

const FIELDS: readonly HashFields[] = [
  'eth_src',
  'symmetric_l4',
  'symmetric_l3l4',
  'symmetric_l3l4+udp',
  'nw_src',
  'nw_dst',
  'symmetric_l3',
];
const ALGORITHMS = ['modulo_n', 'hash_threshold', 'hrw', 'iter_hash'] as const;
const BUNDLE_ALGORITHMS = ['active_backup', 'hrw'] as const;
const MULTIPATH_FORM = 'multipath(FIELDS,BASIS,ALGORITHM,LINKS,ARG,DESTINATION)';
const MAX_MEMBERS = 2048;

function oneOf<T extends string>(
  s: Span,
  known: readonly T[],
  what: string,
  problems: Problems,
): T | undefined {
  const name = s.text.toLowerCase();
  const found = known.find((k) => k === name);
  if (found === undefined) {
    problems.add(s, `unknown ${what} "${s.text}"`, `one of: ${known.join(' ')}`, nearest(name, known));
  }
  return found;
}

/** A decimal number; ovs-ofctl reads 0 where there is none and drops high bits, here that is refused. */
function decimal(s: Span, least: number, most: number, what: string, problems: Problems): number | undefined {
  const n = /^\d+$/.test(s.text) ? Number(s.text) : Number.NaN;
  if (n >= least && n <= most) return n;
  problems.add(s, `"${s.text}" is not a valid ${what}`, `a decimal number from ${least} to ${most}`);
  return undefined;
}

function tooFew(p: Pair, form: string, problems: Problems): undefined {
  problems.add(p.whole, `not enough arguments to ${p.key.text}`, form);
}

export const readMultipath: Reader = (p, problems) => {
  const args = words(p.value, ', ');
  if (args.length < 6) return tooFew(p, MULTIPATH_FORM, problems);
  if (args.length > 6) {
    problems.add(args[6], `too many arguments to ${p.key.text}`, MULTIPATH_FORM);
    return undefined;
  }
  const fields = oneOf(args[0], FIELDS, 'hash fields', problems);
  const basis = decimal(args[1], 0, 0xffff, 'basis', problems);
  const algorithm = oneOf(args[2], ALGORITHMS, 'algorithm', problems);
  const links = decimal(args[3], 1, 0x10000, 'number of links', problems);
  const arg = decimal(args[4], 0, 0xffffffff, 'argument', problems);
  const dst = parseDestination(args[5], problems);
  if (fields === undefined || basis === undefined || algorithm === undefined) return undefined;
  if (links === undefined || arg === undefined || dst === undefined) return undefined;
  if (hasLongCode(dst.field, args[5], 'multipath', problems)) return undefined;
  if (dst.bits < 16 && links > 1 << dst.bits) {
    problems.add(args[5], `${dst.bits} bits hold fewer values than ${links} links`, 'a wider destination');
    return undefined;
  }
  return {
    action: { kind: 'multipath', fields, basis, algorithm, links, arg, dst },
    at: p.whole,
    dst: args[5],
  };
};

/** The reader of bundle, or of bundle_load with a destination. */
export function bundleReader(load: boolean): Reader {
  const form = `${load ? 'bundle_load' : 'bundle'}(FIELDS,BASIS,ALGORITHM,ofport,${load ? 'DESTINATION,' : ''}members:PORT,...)`;
  const n = load ? 5 : 4;
  return (p, problems) => {
    const delimiter = /(?:^|[, ])([A-Za-z]*):/.exec(p.value.text);
    const args = words(delimiter === null ? p.value : slice(p.value, 0, delimiter.index), ', ');
    if (delimiter === null || args.length < n) return tooFew(p, form, problems);
    if (args.length > n) {
      problems.add(args[n], `too many arguments to ${p.key.text}`, form);
      return undefined;
    }
    const colon = delimiter.index + delimiter[0].length;
    const keyword = slice(p.value, colon - 1 - delimiter[1].length, colon - 1);
    if (!/^(members|slaves)$/i.test(keyword.text)) {
      problems.add(
        keyword.text === '' ? p.whole : keyword,
        `"${keyword.text}" instead of members`,
        form,
        'members',
      );
    }
    const fields = oneOf(args[0], FIELDS, 'hash fields', problems);
    const basis = decimal(args[1], 0, 0xffff, 'basis', problems);
    const algorithm = oneOf(args[2], BUNDLE_ALGORITHMS, 'algorithm', problems);
    oneOf(args[3], ['ofport'], 'kind of members', problems);
    const ports = readMembers(slice(p.value, colon), problems);
    const dst = load ? parseDestination(args[4], problems) : undefined;
    if (fields === undefined || basis === undefined || algorithm === undefined) return undefined;
    if (!load) return { action: { kind: 'bundle', fields, basis, algorithm, ports }, at: p.whole };
    if (dst === undefined || hasLongCode(dst.field, args[4], 'bundle_load', problems)) return undefined;
    if (dst.bits < 16) {
      problems.add(args[4], `a port needs 16 bits, this has ${dst.bits}`, 'a destination of 16 bits or more');
      return undefined;
    }
    return { action: { kind: 'bundle', fields, basis, algorithm, ports, dst }, at: p.whole, dst: args[4] };
  };
}

function readMembers(s: Span, problems: Problems): number[] {
  const ports: number[] = [];
  for (const word of words(s, ', []')) {
    const port = parsePort(word.text);
    if (port === undefined || port === OFPP_CONTROLLER || (port >= OFPP_MAX && port < 0xfff8)) {
      problems.add(word, `"${word.text}" is not a port for a bundle`, 'a decimal port number or LOCAL');
    } else {
      ports.push(port);
    }
  }
  if (ports.length > MAX_MEMBERS) problems.add(s, `${ports.length} members`, `at most ${MAX_MEMBERS}`);
  return ports;
}
