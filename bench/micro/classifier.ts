/** What does finding a rule cost, by number of rules in the table, and how many masks do megaflows get? */
import { FLOW_WORDS, KEY_WORDS } from '../../src/classifier/flow-key.js';
import { Random } from '../../src/generate/random.js';
import { RuleTable } from '../../src/openflow/classifier.js';
import type { FlowRule } from '../../src/openflow/types.js';
import { accessList, packetFor } from '../traffic/acl.js';
import { must, type Variant } from './variant.js';

const N = 1024;
/** Packets over which masks are counted. */
const PACKETS = 2000;

const fill = (rules: readonly FlowRule[]): RuleTable<FlowRule> => {
  const table = new RuleTable<FlowRule>();
  for (const rule of rules) table.insert(rule);
  return table;
};

/** Highest priority that matches, by looking at every rule. */
function scan(rules: readonly FlowRule[], flow: Int32Array): number {
  let best = -1;
  for (const { priority, match } of rules) {
    if (priority > best && match.mask.every((m, w) => ((flow[w] ^ match.value[w]) & m) === 0))
      best = priority;
  }
  return best;
}

/** Megaflows, and masks of them, that the packets leave behind. */
function megaflows(
  table: RuleTable<FlowRule>,
  flows: readonly Int32Array[],
): { entries: number; masks: number } {
  const masks = new Map<string, { mask: Int32Array; keys: Set<string> }>();
  const wild = new Int32Array(FLOW_WORDS);
  let entries = 0;
  const keyOf = (flow: Int32Array, mask: Int32Array) =>
    flow
      .subarray(0, KEY_WORDS)
      .map((w, i) => w & mask[i])
      .join();
  for (const flow of flows) {
    const registers = flow.subarray(KEY_WORDS).join();
    let hit = false;
    for (const { mask, keys } of masks.values()) hit ||= keys.has(registers + keyOf(flow, mask));
    if (hit) continue;
    wild.fill(0);
    table.lookup(flow, wild);
    const name = wild.subarray(0, KEY_WORDS).join();
    const same = masks.get(name) ?? { mask: wild.slice(0, KEY_WORDS), keys: new Set() };
    masks.set(name, same);
    same.keys.add(registers + keyOf(flow, wild));
    entries++;
  }
  return { entries, masks: masks.size };
}

function variant(n: number, sectors: number, maxMasks: number): Variant {
  const name = sectors > 1 ? `classifier/rules-${n}-by-reg5` : `classifier/rules-${n}`;
  let note = '';
  return {
    name,
    what: 'RuleTable.lookup',
    operations: N,
    unit: 'ns/call',
    note: () => note,
    prepare() {
      const rules = accessList(n, sectors);
      const table = fill(rules);
      const r = new Random(7);
      const flows = Array.from({ length: PACKETS }, () => packetFor(r, rules, sectors));
      const wild = new Int32Array(FLOW_WORDS);
      for (const flow of flows.slice(0, 200)) {
        must(table.lookup(flow, wild)?.priority === scan(rules, flow), `rule for ${flow}`);
      }
      const { entries, masks } = megaflows(table, flows);
      must(masks <= maxMasks, `${masks} masks`);
      note = `${masks} masks of ${entries} megaflows for ${PACKETS} packets`;
      return () => {
        let x = 0;
        for (let i = 0; i < N; i++) {
          wild.fill(0);
          x += table.lookup(flows[i], wild)!.priority;
        }
        return x;
      };
    },
  };
}

export const CLASSIFIER: readonly Variant[] = [
  variant(10, 1, 60),
  variant(100, 1, 300),
  variant(1000, 1, 300),
  variant(10000, 1, 300),
  variant(10000, 100, 400),
  {
    name: 'classifier/insert-remove',
    what: 'a rule into 10,000 others and out again',
    operations: N,
    unit: 'ns/call',
    prepare() {
      const rules = accessList(11000);
      const table = fill(rules.slice(0, 10000));
      const others = rules.slice(10000);
      return () => {
        for (let i = 0; i < N; i++) {
          const rule = others[i % others.length];
          table.insert(rule);
          table.remove(rule);
        }
        must(table.size === 10000, 'size');
        return table.size;
      };
    },
  },
];
