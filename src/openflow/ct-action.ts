/** Reads ct() and its nat() (ovs-actions(7), "The ct action"). */
import type { Field } from './fields.js';
import type { ListReader, Placed, Reader } from './placed.js';
import { parseSource } from './subfields.js';
import { nearest, type Pair, type Problems, pairs, type Span, slice } from './tokens.js';
import type { Action, NatSpec } from './types.js';
import { parseIpv4, parseIpv6, parseNumber, parseTable } from './values.js';

const CT_ARGUMENTS = ['commit', 'force', 'zone', 'table', 'exec', 'nat', 'alg'];
const CT_EXPECTED = 'commit, force, zone=N, table=N, nat(...), alg=ftp or exec(...)';
const NAT_ARGUMENTS = ['src', 'dst', 'random', 'hash', 'persistent'];
const NAT_EXPECTED = 'src[=RANGE], dst[=RANGE], random, hash or persistent';
const RANGE_EXPECTED = 'ADDRESS[-ADDRESS][:PORT[-PORT]], an IPv6 address with a port in brackets';

/** True for the fields that ct() alone can write. */
export function isCtField(f: Field): boolean {
  return f.name === 'ct_mark' || f.name === 'ct_label';
}

/** The field that an action writes, if it is a set or a move. */
export function writtenField(action: Action): Field | undefined {
  if (action.kind === 'set') return action.field;
  return action.kind === 'move' ? action.dst.field : undefined;
}

/** The reader of ct(); `readList` reads the actions of its exec(). */
export function ctReader(readList: ListReader): Reader {
  return (p, problems, depth) => {
    const action: Action & { kind: 'ct' } = {
      kind: 'ct',
      commit: false,
      force: false,
      zone: 0,
      table: null,
      exec: [],
    };
    const placed: Placed<typeof action> = { action, at: p.whole, inner: [] };
    const before = problems.found.length;
    for (const arg of pairs(p.value, problems)) readArgument(arg, placed, readList, problems, depth);
    if (action.force && !action.commit) {
      problems.add(p.whole, 'force in ct() needs commit', 'ct(commit,force,...)');
    }
    if (action.exec.length > 0 && !action.commit) {
      problems.add(p.whole, 'exec() in ct() needs commit', 'ct(commit,...,exec(...))');
    }
    const { nat } = action;
    if (nat !== undefined && nat.type !== null && !action.commit) {
      problems.add(
        placed.nat!,
        `nat(${nat.type}) in ct() needs commit`,
        'ct(commit,...,nat(...)), or nat alone',
      );
    }
    return problems.found.length === before ? placed : undefined;
  };
}

function readArgument(
  arg: Pair,
  placed: Placed<Action & { kind: 'ct' }>,
  readList: ListReader,
  problems: Problems,
  depth: number,
): void {
  const { action } = placed;
  const { value } = arg;
  const name = arg.key.text;
  const where = value.text === '' ? arg.whole : value;
  switch (name) {
    case 'commit':
    case 'force':
      if (value.text !== '' || arg.delimiter !== '') {
        problems.add(arg.whole, `${name} takes no argument`, `${name} alone`);
      }
      action[name] = true;
      return;
    case 'table': {
      const table = problems.value(where, parseTable(value.text));
      if (table !== undefined) action.table = table;
      return;
    }
    case 'zone':
      readZone(where, value, placed, problems);
      return;
    case 'alg':
      if (value.text === 'ftp' || value.text === 'tftp') action.alg = value.text;
      else
        problems.add(
          where,
          `unknown helper "${value.text}"`,
          'alg=ftp or alg=tftp',
          nearest(value.text, ['ftp', 'tftp']),
        );
      return;
    case 'nat':
      if (placed.nat !== undefined) {
        problems.add(arg.whole, 'a second nat in ct()', 'one nat');
        return;
      }
      placed.nat = arg.whole;
      action.nat = readNat(arg, problems);
      return;
    case 'exec':
      for (const inner of readList(value, 'ct', problems, depth + 1)) {
        action.exec.push(inner.action);
        placed.inner!.push(inner);
      }
      return;
    default:
      problems.add(
        arg.key.text === '' ? arg.whole : arg.key,
        `unknown argument "${name}" of ct()`,
        CT_EXPECTED,
        nearest(name, CT_ARGUMENTS),
      );
  }
}

function readZone(
  where: Span,
  value: Span,
  placed: Placed<Action & { kind: 'ct' }>,
  problems: Problems,
): void {
  const { action } = placed;
  if (/^\d/.test(value.text) || value.text === '') {
    const zone = problems.value(where, parseNumber(value.text, 16, 'zone'));
    // As in OVS, a field stays the zone even if a number follows.
    if (zone !== undefined && typeof action.zone === 'number') action.zone = Number(zone);
    return;
  }
  const src = parseSource(value, problems);
  if (src === undefined) return;
  if (src.bits !== 16) {
    problems.add(value, `zone is 16 bits wide, this is ${src.bits}`, 'a field or range of 16 bits');
  }
  action.zone = src;
  placed.src = value;
}

function readNat(p: Pair, problems: Problems): NatSpec | undefined {
  const nat: NatSpec = {
    type: null,
    ipv6: false,
    addrMin: null,
    addrMax: null,
    portMin: 0,
    portMax: 0,
    random: false,
    hash: false,
    persistent: false,
  };
  const before = problems.found.length;
  const flags: Span[] = [];
  for (const arg of pairs(p.value, problems)) {
    const name = arg.key.text;
    if (name === 'src' || name === 'dst') {
      if (nat.type !== null) problems.add(arg.whole, 'a second range in nat()', 'one of src and dst, once');
      nat.type = name;
      if (arg.value.text !== '') readNatRange(arg.value, nat, problems);
    } else if (name === 'random' || name === 'hash' || name === 'persistent') {
      if (arg.delimiter !== '') problems.add(arg.whole, `${name} takes no argument`, `${name} alone`);
      nat[name] = true;
      flags.push(arg.key);
    } else {
      const where = name === '' ? arg.whole : arg.key;
      problems.add(where, `unknown argument "${name}" of nat()`, NAT_EXPECTED, nearest(name, NAT_ARGUMENTS));
    }
  }
  if (nat.type === null && flags.length > 0) {
    problems.add(flags[0], `${flags[0].text} in nat() needs src or dst`, 'nat(src=RANGE,...)');
  }
  if (nat.random && nat.hash) {
    problems.add(flags.at(-1)!, 'both hash and random in nat()', 'one of them');
  }
  // Without a range OVS forgets how to choose from it.
  if (nat.addrMin === null && nat.portMin === 0) nat.random = nat.hash = nat.persistent = false;
  return problems.found.length === before ? nat : undefined;
}

const ADDRESS = String.raw`(?:\d+\.\d+\.\d+\.\d+|\[[0-9a-fA-F:.]+\]|[0-9a-fA-F:]*:[0-9a-fA-F:.]*)`;
const RANGE = new RegExp(`^(${ADDRESS})(?:-(${ADDRESS}))?(?::(\\d+)(?:-(\\d+))?)?$`);

/** `ADDRESS[-ADDRESS][:PORT[-PORT]]`. An address or port that is 0 is none, as in OpenFlow. */
function readNatRange(s: Span, nat: NatSpec, problems: Problems): void {
  const parts = RANGE.exec(s.text);
  if (parts === null) {
    problems.add(s, `"${s.text}" is not a range of addresses`, RANGE_EXPECTED);
    return;
  }
  const v6 = parts[1].includes(':');
  const parse = (text: string): bigint | undefined =>
    v6 ? parseIpv6(text.replace(/^\[(.*)\]$/, '$1')) : parseIpv4(text);
  const min = parse(parts[1]);
  const max = parts[2] === undefined ? min : parse(parts[2]);
  if (min === undefined || max === undefined) {
    const bad = min === undefined ? parts[1] : parts[2];
    const at = min === undefined ? 0 : parts[1].length + 1;
    problems.add(
      slice(s, at, at + bad.length),
      `"${bad}" is not an ${v6 ? 'IPv6' : 'IPv4'} address`,
      RANGE_EXPECTED,
    );
    return;
  }
  if (max < min || (min === 0n && max !== 0n)) {
    problems.add(s, `the range ends before it begins, or begins with zero`, RANGE_EXPECTED);
    return;
  }
  nat.ipv6 = v6;
  if (min !== 0n) {
    nat.addrMin = min;
    nat.addrMax = max;
  }
  if (parts[3] === undefined) return;
  const portMin = Number(parts[3]);
  const portMax = parts[4] === undefined ? portMin : Number(parts[4]);
  if (portMax > 0xffff || portMax < portMin || (portMin === 0 && portMax !== 0)) {
    problems.add(
      s,
      `${parts[3]}${parts[4] === undefined ? '' : `-${parts[4]}`} is not a range of ports`,
      'ports from 1 to 65535 in ascending order',
    );
    return;
  }
  nat.portMin = portMin;
  nat.portMax = portMax;
}
