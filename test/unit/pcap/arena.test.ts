import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MIN_SEGMENT_BYTES, minSegments, SegmentArena } from '../../../src/pcap/arena.js';
import { MAX_PACKET_BYTES } from '../../../src/pcap/types.js';

test('arena: a segment is free again when its reader has left it and its packets are released, in either order', () => {
  const arena = new SegmentArena(2, 1024);
  assert.equal(arena.u8.buffer, arena.sab);
  assert.equal(arena.u8.length, 2048);
  const a = arena.acquire();
  const b = arena.acquire();
  assert.deepEqual([a, b, arena.acquire()], [0, 1, -1]);
  arena.hold(a);
  arena.hold(a);
  arena.close(a);
  arena.release(a);
  assert.equal(arena.acquire(), -1);
  arena.release(a);
  assert.equal(arena.nFreeSegments, 1);
  arena.hold(b);
  arena.release(b);
  assert.equal(arena.nFreeSegments, 1, 'still open');
  arena.close(b);
  assert.equal(arena.acquire(), b, 'the one used last comes first');
  assert.equal(arena.acquire(), a);
});

test('arena: misuse is an error and not a corrupt count', () => {
  const arena = new SegmentArena(1, 1024);
  assert.throws(() => arena.close(0), /segment 0 closed, but it is not open/);
  assert.throws(() => arena.release(0), /released twice/);
  assert.throws(() => arena.release(5), /released twice/);
});

test('arena: sizes that cannot be are refused with what can', () => {
  assert.throws(() => new SegmentArena(0), /0 segments of 1048576 bytes; there can be 1 to 2047/);
  assert.throws(() => new SegmentArena(2048), /there can be 1 to 2047/);
  assert.throws(() => new SegmentArena(1.5), RangeError);
  assert.throws(() => new SegmentArena(1, 1001), /1001 is not a multiple of 8/);
  assert.throws(() => new SegmentArena(1, 0), RangeError);
  assert.ok(MIN_SEGMENT_BYTES > MAX_PACKET_BYTES + 64 + 32 && MIN_SEGMENT_BYTES % 8 === 0);
  assert.equal(minSegments(0), 2);
  assert.equal(minSegments(3), 6);
});
