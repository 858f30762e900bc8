/** Reads learn() (ovs-actions(7), "The learn action"). */
import { FLOW } from '../classifier/flow-key.js';
import { FIELDS, fieldByName, isWireName, type Subfield } from './fields.js';
import { catchAll, matchSubfield, meets, PREREQ_TEXT, VLAN_CFI } from './match.js';
import type { Placed, Reader } from './placed.js';
import {
  arrow,
  hasLongCode,
  isUnsupported,
  parseDestination,
  parseSource,
  parseSubfield,
  readOnly,
} from './subfields.js';
import { nearest, type Pair, type Problems, pairs, type Span } from './tokens.js';
import { type Action, DEFAULT_PRIORITY, type LearnSpec } from './types.js';
import { parseFieldValue, parseNumber, parseTable, Refusal } from './values.js';

type Learn = Action & { kind: 'learn' };

const NUMBERS: ReadonlyMap<
  string,
  'idleTimeout' | 'hardTimeout' | 'finIdleTimeout' | 'finHardTimeout' | 'priority'
> = new Map([
  ['idle_timeout', 'idleTimeout'],
  ['hard_timeout', 'hardTimeout'],
  ['fin_idle_timeout', 'finIdleTimeout'],
  ['fin_hard_timeout', 'finHardTimeout'],
  ['priority', 'priority'],
]);
const KEYWORDS = [
  ...NUMBERS.keys(),
  'table',
  'cookie',
  'send_flow_rem',
  'delete_learned',
  'limit',
  'result_dst',
  'load',
  'output',
];
const EXPECTED =
  'FIELD, FIELD=VALUE, FIELD=FIELD, load:VALUE->FIELD, output:FIELD, or table, idle_timeout, …';

export const readLearn: Reader = (p, problems) => {
  const action: Learn = {
    kind: 'learn',
    idleTimeout: 0,
    hardTimeout: 0,
    finIdleTimeout: 0,
    finHardTimeout: 0,
    priority: DEFAULT_PRIORITY,
    cookie: 0n,
    table: 1,
    sendFlowRem: false,
    deleteLearned: false,
    limit: 0,
    resultDst: null,
    specs: [],
  };
  const placed: Placed<Learn> = { action, at: p.whole, specs: [] };
  const before = problems.found.length;
  for (const arg of pairs(p.value, problems)) readArgument(arg, placed, problems);
  return problems.found.length === before ? placed : undefined;
};

/** A decimal number; where ovs-ofctl reads 0 for what is none, this refuses it. */
function decimal(text: string, bits: number, name: string): number | Refusal {
  const n = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (n < 2 ** bits) return n;
  return new Refusal(
    `${name} "${text}" is not a number of learn()`,
    `a decimal number from 0 to ${2 ** bits - 1}`,
  );
}

function readArgument(arg: Pair, placed: Placed<Learn>, problems: Problems): void {
  const { action } = placed;
  const { value } = arg;
  const name = arg.key.text;
  const where = value.text === '' ? arg.whole : value;
  const number = NUMBERS.get(name);
  if (number !== undefined) {
    action[number] = problems.value(where, decimal(value.text, 16, name)) ?? 0;
    return;
  }
  switch (name) {
    case 'table':
      action.table = problems.value(where, parseTable(value.text)) ?? 0;
      return;
    case 'cookie':
      action.cookie = problems.value(where, parseNumber(value.text, 64, 'cookie')) ?? 0n;
      return;
    case 'limit':
      action.limit = problems.value(where, decimal(value.text, 32, name)) ?? 0;
      return;
    case 'send_flow_rem':
    case 'delete_learned':
      if (arg.delimiter !== '') problems.add(arg.whole, `${name} takes no argument`, `${name} alone`);
      if (name === 'send_flow_rem') action.sendFlowRem = true;
      else action.deleteLearned = true;
      return;
    case 'result_dst': {
      const dst = value.text === '' ? undefined : parseDestination(value, problems);
      if (value.text === '') problems.add(arg.whole, 'result_dst needs a field', 'one bit, such as reg0[0]');
      if (dst === undefined) return;
      if (dst.bits !== 1)
        problems.add(value, `the result is 1 bit wide, this is ${dst.bits}`, 'one bit, such as reg0[0]');
      action.resultDst = dst;
      return;
    }
  }
  const spec = readSpec(arg, problems);
  if (spec === undefined) return;
  action.specs.push(spec);
  placed.specs!.push(arg.whole);
}

function readSpec(arg: Pair, problems: Problems): LearnSpec | undefined {
  const name = arg.key.text;
  const { value } = arg;
  if (name === 'output') {
    if (value.text === '') {
      problems.add(arg.whole, 'output needs a field', 'output:FIELD');
      return undefined;
    }
    const src = parseSource(value, problems);
    return src === undefined || hasLongCode(src.field, value, 'learn', problems)
      ? undefined
      : { kind: 'output', src };
  }
  if (name === 'load') return readLoadSpec(arg, problems);
  const field = fieldByName(name.replace(/\[.*$/, ''));
  if (field === undefined && !isUnsupported(name.replace(/\[.*$/, ''))) {
    const where = name === '' ? arg.whole : arg.key;
    const fields = FIELDS.flatMap((f) => [
      f.name,
      ...f.aliases.filter((a) => isWireName(a) === isWireName(name)),
    ]);
    problems.add(
      where,
      `unknown keyword "${name}" in learn()`,
      EXPECTED,
      nearest(name, [...KEYWORDS, ...fields]),
    );
    return undefined;
  }
  const dst = parseSource(arg.key, problems);
  if (dst === undefined || hasLongCode(dst.field, arg.key, 'learn', problems)) return undefined;
  if (value.text === '') return { kind: 'match', src: dst, dst };
  if (fieldByName(value.text.replace(/\[.*$/, '')) !== undefined) {
    const src = parseSource(value, problems);
    if (src === undefined || hasLongCode(src.field, value, 'learn', problems)) return undefined;
    if (src.bits === dst.bits) return { kind: 'match', src, dst };
    problems.add(
      arg.whole,
      `${name} is ${dst.bits} bits wide but ${value.text} is ${src.bits}`,
      'fields or ranges of the same width',
    );
    return undefined;
  }
  const constant = problems.value(value, parseConstant(value.text, dst));
  return constant === undefined
    ? undefined
    : { kind: 'match', src: { value: constant, bits: dst.bits }, dst };
}

function parseConstant(text: string, dst: Subfield): bigint | Refusal {
  if (dst.ofs !== 0 || dst.bits !== dst.field.bits) return parseNumber(text, dst.bits, 'value');
  const parsed = parseFieldValue(text, dst.field);
  if (parsed instanceof Refusal) return parsed;
  if (parsed.mask === dst.field.valid) return parsed.value;
  return new Refusal(`a value in learn() takes no mask`, `${dst.field.name}=VALUE`);
}

function readLoadSpec(arg: Pair, problems: Problems): LearnSpec | undefined {
  const halves = arrow(arg, problems);
  if (halves === undefined) return undefined;
  const [from, to] = halves;
  if (from.text === '') {
    problems.add(arg.value, 'missing source before "->"', 'load:VALUE->FIELD');
    return undefined;
  }
  const dst = parseSubfield(to, problems);
  if (
    dst === undefined ||
    hasLongCode(dst.field, to, 'learn', problems) ||
    readOnly(dst.field, to, problems)
  ) {
    return undefined;
  }
  if (/^\d/.test(from.text)) {
    const value = problems.value(from, parseNumber(from.text, dst.bits, 'value'));
    return value === undefined ? undefined : { kind: 'load', src: { value, bits: dst.bits }, dst };
  }
  const src = parseSource(from, problems);
  if (src === undefined || hasLongCode(src.field, from, 'learn', problems)) return undefined;
  if (src.bits === dst.bits) return { kind: 'load', src, dst };
  problems.add(
    arg.value,
    `source is ${src.bits} bits wide but destination is ${dst.bits} bits wide`,
    'two fields or ranges of the same width',
  );
  return undefined;
}

/** Checks what learn() reads against the match of its flow (`need`), and what the learned flow compares
 *  and writes against the constants that it compares, in the order of the specs. */
export function checkLearn(
  placed: Placed<Learn>,
  need: (src: Subfield, at: Span) => void,
  problems: Problems,
): void {
  const learned = catchAll();
  placed.action.specs.forEach((spec, i) => {
    const at = placed.specs![i];
    if ('field' in spec.src) need(spec.src, at);
    if (spec.kind === 'output') return;
    const { field } = spec.dst;
    const tagged = (learned.value[FLOW.VLAN_0] & VLAN_CFI) !== 0;
    if (!meets(learned, field.prereq, tagged)) {
      problems.add(
        at,
        `${field.name} is not in every packet of the learned flow (OFPBAC_MATCH_INCONSISTENT)`,
        `constants before it, such as eth_type=0x800: ${PREREQ_TEXT[field.prereq]}`,
      );
    }
    if (spec.kind === 'match' && 'value' in spec.src) {
      matchSubfield(learned, field, spec.dst.ofs, spec.dst.bits, spec.src.value);
    }
  });
}
