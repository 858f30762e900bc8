/** Access lists (`src/generate/acl.ts`) as rules, packets for them, and a firewall of many tables: made for
 *  benchmarks, always the same. */
import { FLOW, FLOW_WORDS } from '../../src/classifier/flow-key.js';
import { accessLines, host, SERVICES } from '../../src/generate/acl.js';
import { Random } from '../../src/generate/random.js';
import { parseFlows } from '../../src/openflow/parser.js';
import type { FlowRule } from '../../src/openflow/types.js';

/** `n` rules. With `sectors` above 1 each belongs to one value of reg5, as rules of a virtual machine do. */
export function accessList(n: number, sectors = 1): FlowRule[] {
  const text = [...accessLines(new Random(n), n - 1, sectors)].map((l) => `${l},actions=output:2`);
  return parseFlows(['priority=0,actions=drop', ...text].join('\n'), 'made');
}

/** A stateful firewall of `rules` rules in `tables` tables: tracking, then access lists one after the other
 *  that all go on to the next table, then what is allowed: everything that comes in on port 1, and answers. */
export function firewall(rules: number, tables: number): string {
  const last = tables - 1;
  const fixed = [
    'table=0,priority=10,ip,actions=ct(table=1)',
    'table=0,priority=0,actions=drop',
    `table=${last},priority=10,ip,in_port=1,ct_state=+new+trk,actions=ct(commit),output:2`,
    `table=${last},priority=10,ip,in_port=1,ct_state=+est+trk,actions=output:2`,
    `table=${last},priority=10,ip,in_port=2,ct_state=+est+trk,actions=output:1`,
    `table=${last},priority=0,actions=drop`,
  ];
  const steps = last - 1;
  const text: string[] = [];
  for (let t = 1; t < last; t++) {
    text.push(`table=${t},priority=0,actions=resubmit(,${t + 1})`);
    const n = Math.floor((rules - fixed.length) / steps) - 1;
    for (const l of accessLines(new Random(t), n)) text.push(`table=${t},${l},actions=resubmit(,${t + 1})`);
  }
  return `${[...fixed, ...text].join('\n')}\n`;
}

/** A packet: of a rule's addresses and ports where it has them, or from anywhere. */
export function packetFor(r: Random, rules: readonly FlowRule[], sectors = 1): Int32Array {
  const flow = new Int32Array(FLOW_WORDS);
  flow[FLOW.IN_PORT] = 1 + r.below(4);
  flow[FLOW.ETH_TYPE] = 0x0800;
  flow[FLOW.NW_SRC] = host(r);
  flow[FLOW.NW_DST] = r.below(4) > 0 ? host(r) : r.below(0x7fffffff);
  flow[FLOW.NW] = [6, 6, 6, 17, 17, 1][r.below(6)];
  flow[FLOW.TP] =
    ((1024 + r.below(60000)) << 16) | (r.below(3) > 0 ? SERVICES[r.below(SERVICES.length)] : r.below(65536));
  flow[FLOW.REG5] = r.below(sectors);
  if (r.below(2) === 0) return flow;
  const { value, mask } = rules[r.below(rules.length)].match;
  return flow.map((word, w) => (word & ~mask[w]) | value[w]);
}
