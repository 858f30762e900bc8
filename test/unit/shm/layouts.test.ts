/** What the layouts promise: sizes, leading keys, alignment of Float64 fields. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ADDR6,
  BUCKET_SHIFT,
  BUCKET_WAYS,
  COLD,
  CONN,
  CTL_LINE,
  ctlWords,
} from '../../../src/shm/layouts.js';
import { PacketColumns } from '../../../src/shm/packets.js';
import { record } from '../../../src/shm/record.js';

const LINE_BYTES = 64;

test('layouts: the hot half of a connection is one cache line, its key leads', () => {
  assert.equal(CONN.words * 4, LINE_BYTES);
  const { SRC, DST, PORTS, ZONE_PROTO } = CONN.at;
  assert.deepEqual([SRC, DST, PORTS, ZONE_PROTO], [0, 1, 2, 3]);
});

test('layouts: Float64 fields take an even word and the one behind it', () => {
  assert.equal(CONN.at.EXPIRES % 2, 0);
  assert.equal(CONN.at.EXPIRES_HI, CONN.at.EXPIRES + 1);
  assert.equal(COLD.at.CREATED % 2, 0);
  assert.equal(COLD.at.CREATED_HI, COLD.at.CREATED + 1);
});

test('layouts: counters of a direction are found by adding 0 or 1', () => {
  assert.equal(CONN.at.PKTS_1, CONN.at.PKTS_0 + 1);
  assert.equal(CONN.at.BYTES_1, CONN.at.BYTES_0 + 1);
  assert.equal(CONN.at.SEQLO_1, CONN.at.SEQLO_0 + 2);
  assert.equal(CONN.at.SEQHI_1, CONN.at.SEQHI_0 + 2);
});

test('layouts: a label is four words in a row, addresses are eight', () => {
  const { LABEL_0, LABEL_1, LABEL_2, LABEL_3 } = COLD.at;
  assert.deepEqual([LABEL_1, LABEL_2, LABEL_3], [LABEL_0 + 1, LABEL_0 + 2, LABEL_0 + 3]);
  assert.equal(ADDR6.words, 8);
  assert.equal(ADDR6.at.DST_0, 4);
});

test('layouts: an index bucket is one cache line of tags and slots', () => {
  assert.equal((1 << BUCKET_SHIFT) * 4, LINE_BYTES);
  assert.equal(BUCKET_WAYS * 2, 1 << BUCKET_SHIFT);
});

test('layouts: a tracked IPv4 connection needs at most 256 bytes, index included', () => {
  // A level of the index begins with 2.5 records a bucket, and all smaller levels together are as large.
  assert.ok((CONN.words + COLD.words) * 4 + (2 * LINE_BYTES) / 2.5 <= 256);
});

test('layouts: threads write control words in cache lines of their own', () => {
  assert.equal(CTL_LINE * 4, LINE_BYTES);
  assert.equal(ctlWords(3), 7 * CTL_LINE);
});

test('record: the stride is the next power of two', () => {
  assert.equal(record('A').words, 1);
  assert.equal(record('A', 'B', 'C').words, 4);
  assert.equal(record('A', 'B', 'C').shift, 2);
  assert.equal(record('A', 'B', 'C', 'D').words, 4);
});

test('record: a field declared twice is a mistake', () => {
  assert.throws(() => record('A', 'B', 'A'), /field A is declared twice/);
});

test('packet columns: none overlaps another, two views of the memory agree', () => {
  const slots = 5;
  const a = new PacketColumns(slots);
  const b = new PacketColumns(slots, a.sab);
  assert.equal(a.sab.byteLength, PacketColumns.bytes(slots));
  const names = [
    'off',
    'capLen',
    'wireLen',
    'inPort',
    'sec',
    'nsec',
    'hash',
    'verdict',
    'frameChunk',
    'frameOff',
    'clock',
    'seq',
    'sums',
  ] as const;
  names.forEach((name, i) => {
    for (let slot = 0; slot < slots; slot++) a[name][slot] = i * 10 + slot;
  });
  names.forEach((name, i) => {
    assert.deepEqual(
      [...b[name]],
      Array.from({ length: slots }, (_, slot) => i * 10 + slot),
      name,
    );
  });
});
