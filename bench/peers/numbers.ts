/** The few figures that are made of other figures. */

/** Of an even number of values the lower of the two in the middle is not taken: their mean is. */
export function median(values: readonly number[]): number {
  if (values.length === 0) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length & 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** What `ovs-appctl dpif-netdev/pmd-stats-show` says of one PMD thread. */
export interface PmdStats {
  packets: number;
  cyclesPerPacket: number;
}

/** Finds the PMD thread that has packets; the text also has the main thread's counters. */
export function parsePmdStats(text: string): PmdStats {
  for (const block of text.split(/^(?=pmd thread|main thread)/m)) {
    if (!block.startsWith('pmd thread')) continue;
    const packets = /packets received: (\d+)/.exec(block);
    const cycles = /avg processing cycles per packet: ([\d.]+)/.exec(block);
    if (packets === null || Number(packets[1]) === 0) continue;
    return { packets: Number(packets[1]), cyclesPerPacket: cycles === null ? Number.NaN : Number(cycles[1]) };
  }
  throw new Error(`pmd-stats-show names no PMD thread with packets:\n${text}`);
}

/** Cycles that the PMD thread has spent, idle or not, since its counters were cleared. */
export function parsePmdCycles(text: string): number {
  for (const block of text.split(/^(?=pmd thread|main thread)/m)) {
    const idle = /idle cycles: (\d+)/.exec(block);
    const busy = /processing cycles: (\d+)/.exec(block);
    if (block.startsWith('pmd thread') && idle !== null && busy !== null) {
      return Number(idle[1]) + Number(busy[1]);
    }
  }
  throw new Error(`pmd-stats-show has no cycles of a PMD thread:\n${text}`);
}

/** "Connections 1000" of `dpctl/ct-stats-show`, whose total line is "Connections Stats:\n    Total: 1000". */
export function parseConnections(text: string): number {
  const total = /Total: (\d+)/.exec(text);
  if (total === null) throw new Error(`ct-stats-show has no total:\n${text}`);
  return Number(total[1]);
}
