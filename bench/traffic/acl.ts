/** An access list as firewalls have it, and packets for it: made for benchmarks, always the same.
 *
 *  Networks nest: /16s of a site, /24s in them, hosts in these, so that rules overlap as real ones do. */
import { FLOW, FLOW_WORDS } from '../../src/classifier/flow-key.js';
import { parseFlows } from '../../src/openflow/parser.js';
import type { FlowRule } from '../../src/openflow/types.js';
import { Random } from './random.js';

const SERVICES = [22, 25, 53, 80, 110, 143, 161, 389, 443, 993, 3306, 5432, 8080, 8443, 9090];
/** Port ranges as masks. */
const RANGES = ['0x8000/0x8000', '0x400/0xfc00', '0x1f90/0xfff0', '0x2710/0xfffe'];

const dotted = (address: number): string => [24, 16, 8, 0].map((s) => (address >>> s) & 0xff).join('.');

/** A host of one of 16 sites of 32 networks. */
function host(r: Random): number {
  return (10 << 24) | (r.below(16) << 16) | (r.below(32) << 8) | (1 + r.below(200)) | 0;
}

function network(r: Random): string {
  const address = host(r);
  const bits = [16, 20, 24, 24, 24, 28, 32, 32, 32, 32][r.below(10)];
  return `${dotted(address & (-1 << (32 - bits)))}/${bits}`;
}

/** Priority and match of a rule. */
function line(r: Random, sector: string): string {
  const match: string[] = [];
  const kind = r.below(10);
  const proto = kind < 6 ? 'tcp' : kind < 8 ? 'udp' : kind < 9 ? 'icmp' : 'ip';
  if (r.below(4) > 0) match.push(`nw_src=${network(r)}`);
  if (r.below(4) > 1 || match.length === 0) match.push(`nw_dst=${network(r)}`);
  if (proto === 'tcp' || proto === 'udp') {
    match.push(
      `tp_dst=${r.below(5) === 0 ? RANGES[r.below(RANGES.length)] : SERVICES[r.below(SERVICES.length)]}`,
    );
  }
  return `priority=${100 + r.below(50)},${proto},${sector}${match}`;
}

function* lines(r: Random, n: number, sectors: number): Generator<string> {
  const seen = new Set<string>();
  while (seen.size < n) {
    const text = line(r, sectors > 1 ? `reg5=${r.below(sectors)},` : '');
    if (seen.has(text)) continue;
    seen.add(text);
    yield text;
  }
}

/** `n` rules. With `sectors` above 1 each belongs to one value of reg5, as rules of a virtual machine do. */
export function accessList(n: number, sectors = 1): FlowRule[] {
  const text = [...lines(new Random(n), n - 1, sectors)].map((l) => `${l},actions=output:2`);
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
    for (const l of lines(new Random(t), n, 1)) text.push(`table=${t},${l},actions=resubmit(,${t + 1})`);
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
