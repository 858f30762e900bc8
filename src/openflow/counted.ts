/** Who counts packets: rules, groups and buckets; and stat points, the lists of them that one pass of a
 *  packet goes by.
 *
 *  Translation gives every program the number of its stat point (`OP_STAT`). A packet's verdict template
 *  has the stat points of all its passes, so that the collector, which counts packets by template anyway,
 *  counts for all of them; `Collector.fold` brings the counters up to date when somebody asks. Belongs to
 *  the main thread. */

/** Something with packet and byte counts. */
export interface Counted {
  /** Its own among all that count. */
  readonly uid: number;
  /** `packets` more packets of `bytes` bytes together; the last one came at `last` (ms). */
  credit(packets: number, bytes: number, last: number): void;
}

let uids = 0;

/** A number for something new that counts. */
export function nextUid(): number {
  return ++uids;
}

/** Packets and bytes, and when the last one came. */
export class Counters implements Counted {
  readonly uid = nextUid();
  packets = 0;
  bytes = 0;
  /** Clock in ms of the last packet; of its making, before. */
  used: number;

  constructor(now: number) {
    this.used = now;
  }

  credit(packets: number, bytes: number, last: number): void {
    this.packets += packets;
    this.bytes += bytes;
    if (last > this.used) this.used = last;
  }
}

/** The lists that translation has named, by number. */
export class StatPoints {
  private readonly lists: (readonly Counted[])[] = [];
  private readonly ids = new Map<string, number>();

  /** The number for this list; equal lists have one. What is in it twice is counted twice. */
  point(list: readonly Counted[]): number {
    const name = list.map((c) => c.uid).join();
    let id = this.ids.get(name);
    if (id === undefined) {
      id = this.lists.push([...list]) - 1;
      this.ids.set(name, id);
    }
    return id;
  }

  /** What list `id` has. */
  list(id: number): readonly Counted[] {
    return this.lists[id];
  }

  /** Counts for all in list `id`. */
  credit(id: number, packets: number, bytes: number, last: number): void {
    for (const counted of this.lists[id]) counted.credit(packets, bytes, last);
  }
}
