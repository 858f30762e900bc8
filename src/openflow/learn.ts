/** What a packet teaches: the flow that learn() makes of it (ovs-actions(7), "The learn action"). */
import { OFPP_ALL, OFPP_FLOOD, OFPP_IN_PORT, OFPP_LOCAL, OFPP_MAX } from '../classifier/flow-key.js';
import type { Subfield } from './fields.js';
import { catchAll, matchSubfield } from './match.js';
import type { Action, FlowRule, Operand, SourcePos } from './types.js';

/** The flow that `action`, of the flow at `pos`, makes of a packet whose fields `read` gives. */
export function learnedFlow(
  action: Action & { kind: 'learn' },
  read: (src: Subfield) => bigint,
  pos: SourcePos,
): FlowRule {
  const match = catchAll();
  const actions: Action[] = [];
  if (action.finIdleTimeout !== 0 || action.finHardTimeout !== 0) {
    actions.push({
      kind: 'fin_timeout',
      idleTimeout: action.finIdleTimeout,
      hardTimeout: action.finHardTimeout,
    });
  }
  const source = (src: Operand) => ('value' in src ? src.value : read(src));
  for (const spec of action.specs) {
    switch (spec.kind) {
      case 'match': {
        const { field, ofs, bits } = spec.dst;
        matchSubfield(match, field, ofs, bits, source(spec.src));
        break;
      }
      case 'load': {
        const { field, ofs, bits } = spec.dst;
        const mask = ((1n << BigInt(bits)) - 1n) << BigInt(ofs);
        actions.push({ kind: 'set', field, value: source(spec.src) << BigInt(ofs), mask, via: 'load' });
        break;
      }
      case 'output': {
        const output = outputTo(read(spec.src));
        if (output !== null) actions.push(output);
        break;
      }
    }
  }
  return {
    table: action.table,
    priority: action.priority,
    cookie: action.cookie,
    idleTimeout: action.idleTimeout,
    hardTimeout: action.hardTimeout,
    flags: action.sendFlowRem ? ['send_flow_rem'] : [],
    match,
    actions: actions.length === 0 ? [{ kind: 'drop' }] : actions,
    pos,
    text: '',
  };
}

/** An output to a port that a packet names; to other reserved ports than these there is none. */
function outputTo(port: bigint): Action | null {
  switch (port) {
    case BigInt(OFPP_IN_PORT):
      return { kind: 'in_port' };
    case BigInt(OFPP_FLOOD):
      return { kind: 'flood' };
    case BigInt(OFPP_ALL):
      return { kind: 'all' };
    default:
      return port < BigInt(OFPP_MAX) || port === BigInt(OFPP_LOCAL)
        ? { kind: 'output', port: Number(port) }
        : null;
  }
}
