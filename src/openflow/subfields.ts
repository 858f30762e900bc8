/** Names of fields and runs of their bits as actions write them (ovs-actions(7), "Syntax of actions"),
 *  and what is wrong with them. */
import {
  FIELDS,
  type Field,
  fieldByName,
  isExperimenter,
  isWireName,
  type Subfield,
  wireName,
} from './fields.js';
import { nearest, type Pair, type Problems, type Span, slice } from './tokens.js';

/** Fields of OVS that no packet of a capture has (tunnel options, NSH) or that OVS itself can't match. */
const UNSUPPORTED_FIELDS = /^(skb_priority|packet_type|tun_(?!id$|src$|dst$)\w+|nsh_\w+|nsp|nsi|nshc[1-4])$/;
const UNSUPPORTED_WIRE =
  /^(NXM_NX_(TUN_(?!ID$|IPV4_)\w+|COOKIE)|OXM_OF_PACKET_TYPE|NXOXM_(ET_(ERSPAN|GTPU)|NSH)_\w+)$/;

/** True for a field of OVS that this program knows by name only. */
export function isUnsupported(name: string): boolean {
  return UNSUPPORTED_FIELDS.test(name) || UNSUPPORTED_WIRE.test(name.replace(/_W$/, ''));
}

function names(): string[] {
  return FIELDS.flatMap((f) => [f.name, ...f.aliases.filter((a) => !isWireName(a))]);
}

/** Records that `name` is not a field: not here, or not at all, with the nearest one. */
export function unknownField(name: Span, expected: string, problems: Problems): void {
  if (isUnsupported(name.text)) {
    problems.add(name, `field ${name.text} is not supported`, expected);
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

/** Halves of `VALUE->FIELD`. */
export function arrow(p: Pair, problems: Problems): [Span, Span] | undefined {
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
export function readOnly(field: Field, where: Span, problems: Problems): boolean {
  if (field.name === 'dl_vlan' || field.name === 'dl_vlan_pcp') {
    const instead = field.name === 'dl_vlan' ? 'vlan_vid' : 'vlan_pcp';
    problems.add(where, `actions can't write ${field.name}`, 'a field with an OXM or NXM name', instead);
    return true;
  }
  if (field.writable) return false;
  problems.add(where, `${field.name} is read-only`, 'a writable field (see ovs-fields(7), "Access")');
  return true;
}

/** A subfield that an action reads. dl_vlan and dl_vlan_pcp have no code in OpenFlow: the switch
 *  refuses an action with them. */
export function parseSource(s: Span, problems: Problems): Subfield | undefined {
  const src = parseSubfield(s, problems);
  if (src === undefined || wireName(src.field) !== undefined) return src;
  const instead = src.field.name === 'dl_vlan' ? 'vlan_vid' : 'vlan_pcp';
  problems.add(s, `actions can't read ${src.field.name}`, 'a field with an OXM or NXM name', instead);
  return undefined;
}

/** A subfield that an action writes. */
export function parseDestination(s: Span, problems: Problems): Subfield | undefined {
  const dst = parseSubfield(s, problems);
  return dst === undefined || readOnly(dst.field, s, problems) ? undefined : dst;
}

/** True, and recorded, for a field that learn, multipath and bundle_load have no room for. */
export function hasLongCode(field: Field, where: Span, what: string, problems: Problems): boolean {
  if (!isExperimenter(field)) return false;
  problems.add(
    where,
    `${what} can't take ${field.name} (experimenter OXM field)`,
    'reg0 to reg15, or another field',
  );
  return true;
}
