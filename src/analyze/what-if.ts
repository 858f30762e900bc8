/** What would become of the packets of captures under another flow table: both tables run over the same packets, one
 *  verdict of each at a time, and what differs is counted by what it was and what it would be. */
import type { AnalyzeOptions, Tables } from './analyze.js';
import { type PacketVerdict, verdicts } from './iterate.js';
import type { Amount } from './reconcile.js';

/** Packets with one verdict under the first table, and another under the second. */
export interface Change extends Amount {
  /** Such as `out 1,2` or `drop: no-output`. */
  from: string;
  to: string;
  /** Number of the first of them. */
  first: number;
}

export interface WhatIf {
  packets: number;
  same: Amount;
  /** Those with the most packets first. */
  changes: readonly Change[];
}

type Options = Omit<AnalyzeOptions, 'onRecord' | 'outputs' | 'resume' | 'room' | 'flows' | 'events'>;

/** Events are of one table, so none run. */
export async function whatIf(options: Options, a: string | Tables, b: string | Tables): Promise<WhatIf> {
  const before = verdicts({ ...options, flows: a })[Symbol.asyncIterator]();
  const after = verdicts({ ...options, flows: b })[Symbol.asyncIterator]();
  const same = { packets: 0, bytes: 0 };
  const changes = new Map<string, Change>();
  let packets = 0;
  try {
    for (;;) {
      const [x, y] = await Promise.all([before.next(), after.next()]);
      if (x.done || y.done) break;
      packets++;
      const from = outcomeOf(x.value);
      const to = outcomeOf(y.value);
      const bytes = x.value.wireLength;
      if (from === to) {
        same.packets++;
        same.bytes += bytes;
        continue;
      }
      const key = `${from} > ${to}`;
      let change = changes.get(key);
      if (change === undefined) {
        change = { from, to, packets: 0, bytes: 0, first: x.value.packet };
        changes.set(key, change);
      }
      change.packets++;
      change.bytes += bytes;
    }
  } finally {
    await Promise.all([before.return?.(), after.return?.()]);
  }
  return { packets, same, changes: [...changes.values()].sort((p, q) => q.packets - p.packets) };
}

function outcomeOf({ out, reason }: PacketVerdict): string {
  if (out.length > 0) return `out ${out.join()}`;
  return reason === null ? 'to the controller' : `drop: ${reason}`;
}
