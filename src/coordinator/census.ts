/** How many live connections there are in each state. */
import type { PartitionWriter } from '../conntrack/partition.js';
import { TCP_STATE_NAMES } from '../conntrack/tcp.js';
import { CONN } from '../shm/layouts.js';
import { IPPROTO_TCP } from '../wire/extract.js';
import { protocolName, tcpOneState } from './dump.js';

const { STATE, ZONE_PROTO } = CONN.at;
const SHIFT = CONN.shift;

/** By TCP state as `dpctl/dump-conntrack` shows it without -m, or by protocol for others: of those that are live at `clock`
 *  (ms). While packets are in flight what workers change meanwhile is seen or not. */
export function census(partitions: readonly PartitionWriter[], clock: number): Map<string, number> {
  const tcp = new Float64Array(TCP_STATE_NAMES.length);
  const others = new Float64Array(256);
  for (const p of partitions) {
    const { hot, used, high } = p;
    for (let slot = 0; slot < high; slot++) {
      if (used[slot] === 0 || p.expires(slot) <= clock) continue;
      const c = slot << SHIFT;
      const proto = (hot[c + ZONE_PROTO] >>> 8) & 0xff;
      if (proto === IPPROTO_TCP) tcp[tcpOneState(hot[c + STATE])]++;
      else others[proto]++;
    }
  }
  const counts = new Map<string, number>();
  tcp.forEach((n, state) => {
    if (n > 0) counts.set(TCP_STATE_NAMES[state], n);
  });
  others.forEach((n, proto) => {
    if (n > 0) counts.set(protocolName(proto), n);
  });
  return counts;
}
