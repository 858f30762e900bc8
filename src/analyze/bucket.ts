/** One share of a source: the packets between those addresses whose RSS hash falls into bucket `k` of `n`. Both
 *  directions of a connection, ICMP errors about it and fragments, in whatever order, are in one bucket; so the buckets of
 *  a capture together have the connections of the whole, with their states. */
import type { SegmentArena } from '../pcap/arena.js';
import { FilteredSource } from '../pcap/filtered.js';
import type { PacketSource } from '../pcap/merge.js';
import { Steering } from '../rss/steer.js';
import { DEFAULT_RSS_KEY, defaultIndirection, Toeplitz } from '../rss/toeplitz.js';

export interface Bucket {
  /** From 0. */
  k: number;
  n: number;
}

export function bucketOf(source: PacketSource, { k, n }: Bucket, arena: SegmentArena): FilteredSource {
  const steering = new Steering(new Toeplitz(DEFAULT_RSS_KEY), defaultIndirection(n));
  return new FilteredSource(
    source,
    (view, off, capLen) => steering.homeByAddresses(view, off, capLen) === k,
    arena,
    true,
  );
}
