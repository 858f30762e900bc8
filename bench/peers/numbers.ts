/** The figures that are made of other figures, and those that are found in what Open vSwitch prints. */

/** Of an even number of values neither of the two in the middle is taken: their mean is. */
export function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length & 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** What `ovs-appctl dpif-netdev/pmd-stats-show` says of one PMD thread since its counters were cleared. */
export interface PmdStats {
  packets: number;
  /** Spent on packets; and on looking for some. */
  busyCycles: number;
  idleCycles: number;
}

/** The PMD thread's counters: the text also has the main thread's. Without any packets yet all are 0. */
export function parsePmdStats(text: string): PmdStats {
  for (const block of text.split(/^(?=pmd thread|main thread)/m)) {
    if (!block.startsWith('pmd thread')) continue;
    const packets = /packets received: (\d+)/.exec(block);
    const idle = /idle cycles: (\d+)/.exec(block);
    const busy = /processing cycles: (\d+)/.exec(block);
    if (packets === null) break;
    return {
      packets: Number(packets[1]),
      busyCycles: busy === null ? 0 : Number(busy[1]),
      idleCycles: idle === null ? 0 : Number(idle[1]),
    };
  }
  throw new Error(`pmd-stats-show names no PMD thread:\n${text}`);
}

/** The number in "Connections Stats:\n    Total: 1000", of `dpctl/ct-stats-show`. */
export function parseConnections(text: string): number {
  const total = /Total: (\d+)/.exec(text);
  if (total === null) throw new Error(`ct-stats-show has no total:\n${text}`);
  return Number(total[1]);
}

/** Counters at a time, in ms. */
export interface Sample extends PmdStats {
  at: number;
}

/** Speed between the first sample that has packets and the last one in which the capture had not begun again.
 *  Throws RangeError if that is no time at all. */
export function firstRound(
  samples: readonly Sample[],
  packets: number,
): { mpps: number; cyclesPerPacket: number } {
  const inside = samples.filter((s) => s.packets > 0 && s.packets <= packets);
  const [from, to] = [inside[0], inside[inside.length - 1]];
  if (from === undefined || to.packets === from.packets) {
    throw new RangeError(
      `the ${packets} packets went by between two looks at the counters; use a longer capture`,
    );
  }
  const n = to.packets - from.packets;
  return { mpps: n / (to.at - from.at) / 1000, cyclesPerPacket: (to.busyCycles - from.busyCycles) / n };
}

/** "conntrack:    662 ms", of `ovstest test-conntrack benchmark`. */
export function parseOvstest(text: string): number {
  const ms = /conntrack:\s+(\d+) ms/.exec(text);
  if (ms === null) throw new Error(`ovstest says nothing about conntrack:\n${text}`);
  return Number(ms[1]);
}

/** What DPDK has to be given so that a capture of `packets` packets fits a port's own buffers: Open vSwitch makes a
 *  buffer for each descriptor of each queue that was asked for, whether the device has that many or not, and some
 *  more (dpdk_calculate_mbufs). */
export function queuesFor(packets: number): number {
  return Math.max(1, Math.ceil((packets * 1.02 + IN_FLIGHT) / QUEUE_DESCRIPTORS));
}
/** Descriptors of a queue, the most that Open vSwitch allows. */
export const QUEUE_DESCRIPTORS = 4096;
const IN_FLIGHT = 4096;
/** Of a port besides its descriptors. */
const EXTRA_BUFFERS = 16384 + 2 * 4096;
/** Bytes of a buffer for frames of 1514, with its header and what Open vSwitch keeps there; rounded up. */
const BUFFER_BYTES = 3300;
const MEBI = 1 << 20;

/** Hugepage memory in MiB for ports with so many queues each. */
export function memoryFor(queues: readonly number[]): number {
  let bytes = 256 * MEBI;
  for (const n of queues) bytes += (n * (QUEUE_DESCRIPTORS + 32) + EXTRA_BUFFERS) * BUFFER_BYTES;
  return Math.max(1024, Math.ceil(bytes / MEBI / 64) * 64);
}
