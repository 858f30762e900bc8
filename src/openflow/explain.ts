/** Writes down a translation in the manner of `ovs-appctl ofproto/trace` (ovs-vswitchd(8)): tables visited
 *  and rules hit, actions with what they changed, groups and buckets, indented by depth. */
import { FLOW, FLOW_WORDS, KEY_WORDS } from '../classifier/flow-key.js';
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
import { FIELDS, type Field, getField } from './fields.js';
import { formatAction, formatMatch } from './format.js';
import { isMpls } from './match.js';
import type { TableBucket, TableGroup, TableRule } from './tables.js';
import type { Tracer } from './translate.js';
import type { Action, Match } from './types.js';
import { fieldValueText } from './values.js';

const INDENT = '    ';
/** A table's line starts with its number, so that the rule is where its actions' parent is. */
const TABLE_WIDTH = 2;

/** Names that say the same as others, or that are clearer through others, when fields change. */
const SHADOWED =
  /^(xreg|xxreg|dl_vlan|vlan_vid|vlan_pcp|ip_dscp|nw_frag|in_port_oxm|packet_type|tunnel_id|actset_output)/;

/** Takes notes of one translation. */
export class TranslationText implements Tracer {
  readonly lines: string[] = [];
  private depth = 0;

  enterTable(table: number, rule: TableRule | null): void {
    const place = `${this.indent()}${String(table).padStart(TABLE_WIDTH)}. `;
    if (rule === null) {
      this.lines.push(`${place}No match.`);
    } else {
      const match = formatMatch(rule.match);
      const cookie = rule.cookie === 0n ? '' : `, cookie 0x${rule.cookie.toString(16)}`;
      this.lines.push(`${place}${match === '' ? '' : `${match}, `}priority ${rule.priority}${cookie}`);
    }
    this.depth++;
  }

  enterGroup(group: TableGroup): void {
    this.lines.push(`${this.indent()}group ${group.group.id}, type ${group.group.type}`);
    this.depth++;
  }

  enterBucket(_group: TableGroup, bucket: TableBucket, how: string): void {
    this.enter(`bucket ${bucket.bucket.id}${how === '' ? '' : ` (${how})`}`);
  }

  enter(what: string): void {
    this.lines.push(this.indent() + what);
    this.depth++;
  }

  leave(): void {
    this.depth--;
  }

  action(action: Action): void {
    this.lines.push(this.indent() + formatAction(action));
  }

  changed(before: Int32Array, after: Int32Array): void {
    for (const text of changesOf(before, after)) this.note(text);
  }

  note(text: string): void {
    this.lines.push(`${this.indent()} -> ${text}`);
  }

  froze(id: number, table: number): void {
    this.note(
      `a clone of the packet recirculates as recirc(0x${id.toString(16)}), to resume at table ${table}`,
    );
  }

  private indent(): string {
    return INDENT.repeat(this.depth);
  }
}

/** "ip_dst is now 10.0.0.9", for every field that differs between two flows (FLOW_WORDS words). */
export function changesOf(before: Int32Array, after: Int32Array): string[] {
  const texts: string[] = [];
  const told = new Set<string>();
  const untracked = before[FLOW.CT_STATE] !== 0 && after[FLOW.CT_STATE] === 0;
  if (untracked) texts.push('the packet itself goes on untracked, with all ct_ fields 0');
  for (const field of FIELDS) {
    if (SHADOWED.test(field.name) || (untracked && field.name.startsWith('ct_'))) continue;
    const value = getField(after, field);
    if (value === getField(before, field)) continue;
    // Fields of several protocols share words: the packet has one of them.
    const place = field.segments.map((s) => `${s.word}.${s.shift}`).join();
    if (told.has(place) || !applies(field, after)) continue;
    told.add(place);
    texts.push(`${field.name} is now ${fieldValueText(field, value, field.valid)}`);
  }
  return texts;
}

/** Whether packets of this flow are of the kind that has the field. */
function applies(field: Field, flow: Int32Array): boolean {
  const type = flow[FLOW.ETH_TYPE];
  const proto = flow[FLOW.NW] & 0xff;
  const ip = type === ETH_TYPE_IP || type === ETH_TYPE_IPV6;
  switch (field.prereq) {
    case 'arp':
      return type === ETH_TYPE_ARP || type === ETH_TYPE_RARP;
    case 'ipv4':
      return type === ETH_TYPE_IP;
    case 'ipv6':
      return type === ETH_TYPE_IPV6;
    case 'ip':
      return ip;
    case 'tcp':
      return ip && proto === IPPROTO_TCP;
    case 'udp':
      return ip && proto === IPPROTO_UDP;
    case 'sctp':
      return ip && proto === IPPROTO_SCTP;
    case 'icmp4':
      return type === ETH_TYPE_IP && proto === IPPROTO_ICMP;
    case 'icmp6':
      return type === ETH_TYPE_IPV6 && proto === IPPROTO_ICMPV6;
    case 'nd':
    case 'nd_solicit':
    case 'nd_advert':
      return type === ETH_TYPE_IPV6 && proto === IPPROTO_ICMPV6;
    default:
      return true;
  }
}

/** The flow of one packet as a match on everything that it has, e.g.
 *  "recirc_id=0x1,ct_state=+new+trk,tcp,in_port=1,dl_src=…,nw_src=10.0.0.1,…". */
export function flowText(flow: Int32Array): string {
  const match: Match = { value: new Int32Array(FLOW_WORDS), mask: new Int32Array(FLOW_WORDS) };
  match.value.set(flow);
  const { value, mask } = match;
  const all = (first: number, last = first): void => {
    mask.fill(-1, first, last + 1);
  };
  const present = (first: number, last = first): void => {
    for (let w = first; w <= last; w++) if (value[w] !== 0) mask[w] = -1;
  };
  present(FLOW.RECIRC_ID);
  present(FLOW.DP_HASH);
  present(FLOW.CT_STATE, FLOW.CT_LABEL_3);
  if (value[FLOW.CT_LABEL_0] | value[FLOW.CT_LABEL_1] | value[FLOW.CT_LABEL_2] | value[FLOW.CT_LABEL_3]) {
    all(FLOW.CT_LABEL_0, FLOW.CT_LABEL_3);
  }
  all(FLOW.ETH_DST_HI, FLOW.ETH_SRC_LO);
  mask[FLOW.VLAN_0] = 0xffff;
  mask[FLOW.IN_PORT] = 0xffff;
  mask[FLOW.ETH_TYPE] = 0xffff;
  if (flow.length === FLOW_WORDS) {
    present(FLOW.METADATA_HI, FLOW.METADATA_LO);
    present(FLOW.REG0, FLOW.REG31);
  }
  const type = value[FLOW.ETH_TYPE];
  const proto = value[FLOW.NW] & 0xff;
  if (type === ETH_TYPE_IP || type === ETH_TYPE_ARP || type === ETH_TYPE_RARP) {
    all(FLOW.NW_SRC, FLOW.NW_DST);
  }
  if (type === ETH_TYPE_ARP || type === ETH_TYPE_RARP) {
    mask[FLOW.NW] = 0xff;
    all(FLOW.ARP_SHA_HI, FLOW.ARP_THA_LO);
  } else if (type === ETH_TYPE_IP || type === ETH_TYPE_IPV6) {
    all(FLOW.NW);
    if (type === ETH_TYPE_IPV6) {
      all(FLOW.IPV6_SRC_0, FLOW.IPV6_DST_3);
      all(FLOW.IPV6_LABEL);
    }
    const icmp = type === ETH_TYPE_IP ? IPPROTO_ICMP : IPPROTO_ICMPV6;
    if ([IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP, icmp].includes(proto)) all(FLOW.TP);
    if (proto === IPPROTO_TCP) mask[FLOW.TCP_FLAGS] = 0xfff;
    if (proto === IPPROTO_ICMPV6) {
      present(FLOW.ARP_SHA_HI, FLOW.ARP_THA_LO);
      if (value.slice(FLOW.ND_TARGET_0, FLOW.ND_TARGET_3 + 1).some((w) => w !== 0)) {
        all(FLOW.ND_TARGET_0, FLOW.ND_TARGET_3);
      }
    }
  } else if (isMpls(match)) {
    all(FLOW.MPLS_0);
  }
  return formatMatch(match);
}

/** A megaflow: the bits of `key` that count, e.g. "recirc_id=0,ip,in_port=1,nw_frag=no". */
export function megaflowText(key: Int32Array, mask: Int32Array): string {
  const match: Match = { value: new Int32Array(FLOW_WORDS), mask: new Int32Array(FLOW_WORDS) };
  for (let w = 0; w < KEY_WORDS; w++) {
    match.value[w] = key[w] & mask[w];
    match.mask[w] = mask[w];
  }
  // The second tag and the labels below the first have no field of their own.
  match.mask[FLOW.VLAN_0] &= 0xffff;
  return formatMatch(match);
}
