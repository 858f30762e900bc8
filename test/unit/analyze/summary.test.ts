import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Summarizer } from '../../../src/analyze/summary.js';
import { ConnectionRecord, ROW_WORDS } from '../../../src/coordinator/record.js';
import { RECORD } from '../../../src/shm/layouts.js';
import { formatIpv4 } from '../../../src/wire/address.js';
import { Random } from '../../support/packets.js';

/** As in summary.ts. */
const RANKED = 1 << 15;

test('summary: more hosts than are kept: the largest are, of equals those whose names come first', () => {
  const r = new Random(5);
  const words = new Int32Array(ROW_WORDS);
  const f64 = new Float64Array(words.buffer);
  const record = new ConnectionRecord(words, f64, 0);
  const summarizer = new Summarizer(() => null);
  // The definition, a host at a time.
  let hosts = new Map<string, number>();
  for (let i = 0; i < 80_000; i++) {
    // GRE, so that nothing but hosts is counted by name; from one to itself.
    const at = record.origAt;
    words[at] = words[at + 1] = r.once(8) ? r.int(50) : r.word() | 0;
    words[at + 3] = 47 << 8;
    const bytes = r.once(3) ? 60 : r.int(5) * 60;
    f64[RECORD.at.FRAME_BYTES_0 >> 1] = bytes;
    summarizer.add(record);
    const name = formatIpv4(words[at]);
    if (!hosts.has(name) && hosts.size >= 2 * RANKED) {
      const sorted = [...hosts].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
      hosts = new Map(sorted.slice(0, RANKED));
    }
    hosts.set(name, (hosts.get(name) ?? 0) + bytes);
  }
  const want = [...hosts].sort(([a, x], [b, y]) => y - x || (a < b ? -1 : 1));
  const { hosts: got, exact } = summarizer.summary();
  assert.equal(exact, false);
  assert.deepEqual(
    got.map(({ name, bytes }) => [name, bytes]),
    want,
  );
  // Another goes on from what it has saved.
  const other = new Summarizer(() => null);
  other.restore(structuredClone(summarizer.save()));
  assert.deepEqual(other.summary(), summarizer.summary());
});
