/** A flow's actions as OpenFlow 1.5 carries them, and so as `ovs-ofctl -O OpenFlow15 dump-flows` shows them:
 *  one set_field for load and nearly all mod_*, push_vlan where a tag may be missing, set_queue around the
 *  output of enqueue. For dumps; what runs are the actions as they were written. */
import { FLOW, OFPP_IN_PORT } from '../classifier/flow-key.js';
import { IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP } from '../wire/extract.js';
import { fieldByName, MOD_TP_DST, MOD_TP_SRC } from './fields.js';
import { catchAll, VLAN_CFI } from './match.js';
import type { Action, Group, Match } from './types.js';

const VLAN_VID = fieldByName('vlan_vid')!;
const VLAN_PCP = fieldByName('vlan_pcp')!;
const IP_DSCP = fieldByName('ip_dscp')!;
const TPID_8021Q = 0x8100;
const TRANSPORTS: ReadonlyMap<number, string> = new Map([
  [IPPROTO_TCP, 'tcp'],
  [IPPROTO_UDP, 'udp'],
  [IPPROTO_SCTP, 'sctp'],
]);

/** What is known of the packet at one place of the list. */
interface Known {
  /** Outer and inner VLAN tag. */
  tagged: [boolean, boolean];
  transport: string | undefined;
}

/** The actions of a flow with this match. */
export function asOpenFlow15(actions: readonly Action[], match: Match): Action[] {
  const { value } = match;
  return convert(actions, {
    tagged: [(value[FLOW.VLAN_0] & VLAN_CFI) !== 0, (value[FLOW.VLAN_1] & VLAN_CFI) !== 0],
    transport: TRANSPORTS.get(value[FLOW.NW] & 0xff),
  });
}

/** The match: "no tag" compares the priority of a tag no more. */
export function matchAsOpenFlow15(match: Match): Match {
  const untagged = (match.value[FLOW.VLAN_0] & 0xffff) === 0 && (match.mask[FLOW.VLAN_0] & 0xffff) === 0xffff;
  if (!untagged) return match;
  const mask = match.mask.slice();
  mask[FLOW.VLAN_0] &= ~0xe000;
  return { value: match.value, mask };
}

/** The group with the actions of its buckets; of the packets that come to it nothing is known. */
export function groupAsOpenFlow15(group: Group): Group {
  const buckets = group.buckets.map((b) => ({ ...b, actions: asOpenFlow15(b.actions, catchAll()) }));
  return { ...group, buckets };
}

function convert(actions: readonly Action[], known: Known): Action[] {
  return actions.flatMap((action) => convertOne(action, known));
}

function within(known: Known): Known {
  return { ...known, tagged: [...known.tagged] };
}

function convertOne(a: Action, known: Known): Action | Action[] {
  switch (a.kind) {
    case 'set':
      return convertSet(a, known);
    case 'set_vlan_vid':
      return tagging(
        { kind: 'set', field: VLAN_VID, value: BigInt(a.vid | VLAN_CFI), mask: VLAN_VID.valid },
        known,
      );
    case 'set_vlan_pcp':
      return tagging({ kind: 'set', field: VLAN_PCP, value: BigInt(a.pcp), mask: VLAN_PCP.valid }, known);
    case 'push_vlan':
      known.tagged = [true, known.tagged[0]];
      return a;
    case 'pop_vlan':
      known.tagged = [known.tagged[1], false];
      return a;
    case 'push_mpls':
      known.transport = undefined;
      return a;
    case 'enqueue':
      return [
        { kind: 'set_queue', queue: a.queue },
        a.port === OFPP_IN_PORT ? { kind: 'in_port' } : { kind: 'output', port: a.port },
        { kind: 'pop_queue' },
      ];
    case 'write_actions':
      // An empty set is not even sent.
      return a.actions.length === 0 ? [] : { ...a, actions: convert(a.actions, within(known)) };
    case 'clone':
      return { ...a, actions: convert(a.actions, within(known)) };
    case 'ct':
      return { ...a, exec: convert(a.exec, within(known)) };
    default:
      return a;
  }
}

/** `set` behind a push_vlan, unless there is a tag. */
function tagging(set: Action, known: Known): Action[] {
  const pushes = !known.tagged[0];
  known.tagged[0] = true;
  return pushes ? [{ kind: 'push_vlan', tpid: TPID_8021Q }, set] : [set];
}

function convertSet(a: Action & { kind: 'set' }, known: Known): Action {
  const { field, value, mask } = a;
  if (field.name === 'vlan_tci') known.tagged[0] = (value & BigInt(VLAN_CFI)) !== 0n;
  if (a.via === undefined) return a;
  if (a.via === 'mod') {
    // These have codes of their own.
    if (field.name === 'nw_ttl' || field.name === 'mpls_ttl') return a;
    if (field.name === 'nw_tos')
      return { kind: 'set', field: IP_DSCP, value: value >> 2n, mask: IP_DSCP.valid };
    if (field === MOD_TP_SRC || field === MOD_TP_DST) {
      const own = fieldByName(`${known.transport}${field.name.slice('tp'.length)}`);
      return own === undefined ? a : { kind: 'set', field: own, value, mask };
    }
  }
  return { kind: 'set', field, value, mask };
}
