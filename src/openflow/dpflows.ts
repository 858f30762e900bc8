/** The megaflows that workers have at the end of a run, as one list: what --dpflows writes. Which entries
 *  there are, and how many packets each saw, depends on which worker had which packet. */
import { FLOW, KEY_WORDS } from '../classifier/flow-key.js';
import type { Megaflow } from '../classifier/megaflow.js';
import { formatDpFlow } from './format-dp.js';

/** One line an entry, by recirculation id and input port; those that several workers had are added up.
 *  `now`: clock in ms. */
export function dumpDpFlows(workers: readonly (readonly Megaflow[])[], now: number): string[] {
  const merged = new Map<string, Megaflow>();
  for (const flow of workers.flat()) {
    const name = `${flow.mask.subarray(0, KEY_WORDS)}/${flow.key}/${flow.program}`;
    const other = merged.get(name);
    if (other === undefined) {
      merged.set(name, { ...flow });
      continue;
    }
    other.packets += flow.packets;
    other.bytes += flow.bytes;
    other.used = Math.max(other.used, flow.used);
  }
  return [...merged.values()]
    .map((flow) => ({ flow, line: formatDpFlow(flow, flow.used < 0 ? -1 : Math.max(0, now - flow.used)) }))
    .sort((a, b) => {
      for (const w of [FLOW.RECIRC_ID, FLOW.IN_PORT]) {
        const order = a.flow.key[w] - b.flow.key[w];
        if (order !== 0) return order;
      }
      return a.line < b.line ? -1 : 1;
    })
    .map(({ line }) => line);
}
