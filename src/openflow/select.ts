/** Which buckets of a group live, and how a select group spreads packets over them. Follows
 *  ovs-ofctl(8), "Group Syntax", and what Open vSwitch does where the manual leaves it open. */
import { HASH_5TUPLE, HASH_SYMMETRIC_L3L4 } from '../wire/hash.js';
import type { Pipeline, TableBucket, TableGroup } from './tables.js';
import type { Group } from './types.js';

/** Groups that may watch groups in a chain. */
const MAX_LIVENESS_DEPTH = 128;
/** Slots of a hash map at most, and at least. */
const MAX_HASH_VALUES = 256;
const MIN_HASH_VALUES = 16;

export function isLive(pipeline: Pipeline, group: Group, b: TableBucket, depth = 0): boolean {
  if (depth >= MAX_LIVENESS_DEPTH) return false;
  const { weight, watchPort, watchGroup } = b.bucket;
  if (group.type === 'select' && weight === 0) return false;
  if (watchPort === null && watchGroup === null) return true;
  if (watchPort !== null && pipeline.isUp(watchPort)) return true;
  if (watchGroup === null) return false;
  const watched = pipeline.groups.get(watchGroup);
  return watched !== undefined && firstLive(pipeline, watched, depth + 1) !== null;
}

export function firstLive(pipeline: Pipeline, group: TableGroup, depth = 0): TableBucket | null {
  for (const b of group.buckets) if (isLive(pipeline, group.group, b, depth)) return b;
  return null;
}

/** How a select group chooses by a hash that the packet has. */
export interface Selection {
  /** Bucket indices by hash, a power of two of them. */
  slots: number[];
  /** Which hash of the headers (HASH_*). */
  which: number;
  basis: number;
}

/** null: by score, from a hash of fields that the group names, or of the headers. */
export function selectionOf(group: Group): Selection | null {
  if (group.selectionMethod === 'hash') return null;
  const slots = hashSlots(group);
  if (slots === null) return null;
  if (group.selectionMethod === '') return { slots, which: HASH_SYMMETRIC_L3L4, basis: 0 };
  // The upper half of the parameter is the algorithm, of which there are two.
  const symmetric = group.selectionParam >> 32n === 1n;
  return {
    slots,
    which: symmetric ? HASH_SYMMETRIC_L3L4 : HASH_5TUPLE,
    basis: Number(BigInt.asIntN(32, group.selectionParam)),
  };
}

/** Hash values shared out by weight, so that buckets alternate as evenly as they can: Webster's method of
 *  apportionment. Null if there are no weights, or weights so far apart that MAX_HASH_VALUES do not do. */
function hashSlots(group: Group): number[] | null {
  const { buckets } = group;
  const weights = buckets.map((b) => b.weight);
  const total = weights.reduce((sum, w) => sum + w, 0);
  if (total === 0) return null;
  const least = Math.min(...weights.filter((w) => w > 0));
  const wanted = Math.max(Math.ceil(total / least), Math.min(buckets.length * 4, MAX_HASH_VALUES));
  const n = Math.max(MIN_HASH_VALUES, 2 ** Math.ceil(Math.log2(wanted)));
  if (n > MAX_HASH_VALUES) return null;
  const seats = buckets.map(() => 0);
  const slots: number[] = [];
  for (let i = 0; i < n; i++) {
    let best = 0;
    const claim = (b: number) => weights[b] / (2 * seats[b] + 1);
    for (let b = 1; b < buckets.length; b++) if (claim(b) > claim(best)) best = b;
    seats[best]++;
    slots.push(best);
  }
  return slots;
}
