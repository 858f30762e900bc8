/** Copies of the compiled product in which tables are small: levels of the index, rings and lists are full, go round and grow
 *  with a few packets, as they do after hours otherwise. */

/** A change of a compiled file: text that is there once, and what stands there instead; of a constant, "NAME = ", whatever its
 *  value is. */
export type Change = readonly [file: string, text: string, instead: string];

/** Tables that are smaller, with the same results; but fewer connections are expected. */
export const SMALL_TABLES: readonly Change[] = [
  ['datapath/shard.js', 'MAX_PARKED = ', 'MAX_PARKED = 4'],
  // Workers that take turns on one thread can't wait for room in it.
  ['datapath/shard.js', 'REQUEST_RING_WORDS = ', 'REQUEST_RING_WORDS = 1024 * LONGEST_REQUEST'],
  ['datapath/shard.js', 'MAX_GRANTED = ', 'MAX_GRANTED = 4'],
  ['datapath/shard.js', 'GRANTS_AT_ONCE = ', 'GRANTS_AT_ONCE = 1'],
  ['datapath/shard.js', 'MADE_HASHES = ', 'MADE_HASHES = 1 << 4'],
  ['datapath/microflow.js', 'FIRST_ENTRIES = ', 'FIRST_ENTRIES = 1 << 4'],
  ['coordinator/fabric.js', 'FIRST_GRANTED = ', 'FIRST_GRANTED = 2'],
  ['coordinator/fabric.js', 'SWEPT_AFTER = ', 'SWEPT_AFTER = 1'],
  ['conntrack/partition.js', 'FIRST_LEVEL_BUCKETS = ', 'FIRST_LEVEL_BUCKETS = 1'],
  ['conntrack/partition.js', 'LEAVING_AT_ONCE = ', 'LEAVING_AT_ONCE = 1'],
  ['conntrack/partition.js', 'ENDED_SLOTS = ', 'ENDED_SLOTS = 1 << 4'],
  ['conntrack/expected.js', 'EXPECTED_SLOTS = ', 'EXPECTED_SLOTS = 4'],
  ['conntrack/expectations.js', 'MOST_EXPECTED = ', 'MOST_EXPECTED = 3'],
  ['conntrack/expectations.js', 'FIRST_PURGE = ', 'FIRST_PURGE = 2'],
  ['conntrack/wheel.js', 'NEAR_BITS = ', 'NEAR_BITS = 6'],
  ['conntrack/wheel.js', 'FAR = ', 'FAR = 4096 * 16'],
  ['rss/directory.js', 'FIRST_BUCKETS = ', 'FIRST_BUCKETS = 1 << 2'],
];

/** The text of a file, changed. Throws if it has not the text once. */
export function changed(source: string | undefined, [file, text, instead]: Change): string {
  if (source === undefined || source.split(text).length !== 2)
    throw new Error(`${file} has not "${text}" once; what changes copies of the product has to follow it`);
  const at = source.indexOf(text);
  const end = text.endsWith(' = ') ? source.indexOf(';', at) : at + text.length;
  return source.slice(0, at) + instead + source.slice(end);
}
