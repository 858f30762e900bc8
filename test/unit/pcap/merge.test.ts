import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { minSegments, SegmentArena } from '../../../src/pcap/arena.js';
import { MergedSource, newMergedRecord } from '../../../src/pcap/merge.js';
import { openCapture, openCaptureStream } from '../../../src/pcap/open.js';
import { ReadResult } from '../../../src/pcap/types.js';
import { chunked, pcap, SEGMENT, tempFile } from './helpers.js';

/** Merges captures of one-byte packets at the given times; gives `source:sec` in the order that comes out. */
async function merge(times: number[][], stream = false): Promise<string[]> {
  const arena = new SegmentArena(minSegments(times.length), SEGMENT);
  const files = times.map((list) => pcap(list.map((sec) => ({ sec, frac: 0, data: Buffer.alloc(60) }))));
  const readers = await Promise.all(
    files.map((bytes) =>
      stream ? openCaptureStream('s', chunked(bytes, 50), arena) : openCapture(tempFile(bytes), arena),
    ),
  );
  const merged = new MergedSource(readers, arena);
  const packet = newMergedRecord();
  const out: string[] = [];
  for (;;) {
    const state = merged.next(packet);
    if (state === ReadResult.END) break;
    if (state === ReadResult.STARVED) await merged.readable();
    else {
      assert.equal(state, ReadResult.PACKET);
      out.push(`${packet.source}:${packet.sec}`);
      arena.release(packet.segment);
    }
  }
  assert.equal(merged.next(packet), ReadResult.END);
  merged.close();
  assert.equal(arena.nFreeSegments, arena.nSegments);
  return out;
}

test('merge: by time; ties go to the capture that is first in the list', async () => {
  for (const stream of [false, true]) {
    assert.deepEqual(await merge([[1, 3, 5], [1, 2, 3, 6], []], stream), [
      '0:1',
      '1:1',
      '1:2',
      '0:3',
      '1:3',
      '0:5',
      '1:6',
    ]);
    assert.deepEqual(await merge([[7, 8]], stream), ['0:7', '0:8']);
    assert.deepEqual(await merge([[], []], stream), []);
  }
});

test('merge: a capture whose time steps back keeps its own order', async () => {
  assert.deepEqual(
    await merge([
      [5, 1, 6],
      [2, 5, 5],
    ]),
    ['1:2', '0:5', '0:1', '1:5', '1:5', '0:6'],
  );
});

test('merge: the same as a stable pick of the least head, for any captures', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 12 }), { maxLength: 9 }),
      async (times) => {
        const left = times.map((list) => [...list]);
        const expected: string[] = [];
        for (;;) {
          let best = -1;
          left.forEach((list, i) => {
            if (list.length > 0 && (best < 0 || list[0] < left[best][0])) best = i;
          });
          if (best < 0) break;
          expected.push(`${best}:${left[best].shift()}`);
        }
        assert.deepEqual(await merge(times), expected);
      },
    ),
    { numRuns: 60 },
  );
});

test('merge: notices of all, a damaged capture ends the run, closing lets go of what was looked at ahead', async () => {
  const arena = new SegmentArena(minSegments(2), SEGMENT);
  const one = (sec: number, capLen?: number) => ({ sec, frac: 0, data: Buffer.alloc(60), capLen });
  const cut = tempFile(pcap([one(1), one(2)]).subarray(0, 150));
  const bad = tempFile(pcap([one(1), one(9, 0x7fffffff)]));
  const merged = new MergedSource([await openCapture(cut, arena), await openCapture(bad, arena)], arena);
  const packet = newMergedRecord();
  assert.equal(merged.next(packet), ReadResult.PACKET);
  arena.release(packet.segment);
  assert.equal(merged.next(packet), ReadResult.PACKET);
  arena.release(packet.segment);
  assert.throws(() => merged.next(packet), /byte 100: .*claims a packet/);
  assert.deepEqual(
    merged.notices.map((n) => [n.file, n.offset]),
    [[cut, 100]],
  );
  merged.close();
  assert.equal(arena.nFreeSegments, arena.nSegments);
  const again = new MergedSource([await openCapture(bad, arena), await openCapture(cut, arena)], arena);
  assert.equal(again.next(packet), ReadResult.PACKET);
  arena.release(packet.segment);
  again.close();
  assert.equal(arena.nFreeSegments, arena.nSegments);
});
