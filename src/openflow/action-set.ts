/** Action sets (ovs-actions(7), "Action Sets"): what write_actions and buckets collect, and the list that it
 *  stands for. */
import { OFPP_ALL, OFPP_CONTROLLER, OFPP_FLOOD, OFPP_IN_PORT, OFPP_NORMAL } from '../classifier/flow-key.js';
import { type Action, REASON_ACTION } from './types.js';

/** The port of an action that counts as an output in an action set, or null. */
export function outputOf(action: Action): number | null {
  switch (action.kind) {
    case 'output':
      return action.port;
    case 'in_port':
      return OFPP_IN_PORT;
    case 'normal':
      return OFPP_NORMAL;
    case 'flood':
      return OFPP_FLOOD;
    case 'all':
      return OFPP_ALL;
    case 'controller':
      return isPlain(action) ? OFPP_CONTROLLER : null;
    default:
      return null;
  }
}

/** Whether a controller() action says no more than an output to the controller does. */
export function isPlain(action: Action & { kind: 'controller' }): boolean {
  const { reason, id, userdata, pause, meter } = action;
  return reason === REASON_ACTION && id === 0 && userdata.length === 0 && !pause && meter === 0;
}

/** Actions of which an action set has one, in the order in which they run. */
const SLOTS = ['pop_vlan', 'pop_mpls', 'push_mpls', 'push_vlan', 'dec_ttl', 'dec_mpls_ttl'] as const;
/** What an action set ends with; of several the last kind counts. */
const FINALS = ['ct', 'ct_clear', 'resubmit', 'output', 'group'] as const;

/** The action list that an action set, or a bucket, stands for: without a final action nothing is done
 *  (ovs-actions(7), "Action Sets"). */
export function actionListOf(set: readonly Action[]): Action[] {
  const slots: (Action | undefined)[] = SLOTS.map(() => undefined);
  const changes: Action[] = [];
  let final: Action | undefined;
  let finalClass = 0;
  for (const action of set) {
    const slot = (SLOTS as readonly string[]).indexOf(action.kind);
    const finalKind = outputOf(action) === null ? action.kind : 'output';
    const cls = (FINALS as readonly string[]).indexOf(finalKind);
    if (slot >= 0) slots[slot] = action;
    else if (cls >= 0) {
      if (cls >= finalClass) {
        final = action;
        finalClass = cls;
      }
    } else if (CHANGES.has(action.kind)) changes.push(action);
  }
  if (final === undefined) return [];
  return [...slots.filter((a) => a !== undefined), ...changes, final];
}

const CHANGES = new Set(['set', 'move', 'set_vlan_vid', 'set_vlan_pcp', 'set_queue']);
