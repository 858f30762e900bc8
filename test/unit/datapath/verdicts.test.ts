/** Verdict templates, and the store of changed frames. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PacketContext } from '../../../src/datapath/context.js';
import {
  FRAME_DATA_OFF,
  FRAME_LEN,
  FRAME_NEXT_CHUNK,
  FrameChunk,
  FrameStore,
} from '../../../src/datapath/frames.js';
import { VerdictTable } from '../../../src/datapath/verdicts.js';
import { Random } from '../../support/packets.js';

function context(ct: number[], outs: number[], reason: number): PacketContext {
  const u8 = new Uint8Array(64);
  const ctx = new PacketContext(new DataView(u8.buffer), u8);
  ctx.begin(0, new DataView(u8.buffer), u8, 0, 64, 0);
  for (const word of ct) ctx.ct[ctx.nCt++] = word;
  for (const word of outs) ctx.outs[ctx.nOuts++] = word;
  ctx.reason = reason;
  return ctx;
}

test('verdicts: equal verdicts share a number, new ones get the next', () => {
  const table = new VerdictTable();
  assert.equal(table.intern(context([0, 0x21], [2, 0], 0)), 0);
  assert.equal(table.intern(context([0, 0x22], [2, 0], 0)), 1);
  assert.equal(table.intern(context([0, 0x21], [2, 0], 0)), 0);
  assert.equal(table.size, 2);
  assert.deepEqual([...table.template(1)], [1, 0, 0x22, 1, 2, 0, 0]);
});

test('verdicts: the reason counts only without output', () => {
  const table = new VerdictTable();
  const out = table.intern(context([], [1, 0], 3));
  assert.equal(table.intern(context([], [1, 0], 5)), out);
  assert.notEqual(table.intern(context([], [], 3)), table.intern(context([], [], 5)));
});

test('verdicts: where ct and outputs meet they are not mixed up', () => {
  const table = new VerdictTable();
  assert.notEqual(table.intern(context([1, 2], [], 0)), table.intern(context([], [1, 2], 0)));
  assert.notEqual(table.intern(context([1, 2, 3, 4], [], 0)), table.intern(context([1, 2], [3, 4], 0)));
});

test('verdicts: thousands of long ones keep their numbers (seeded property)', () => {
  const table = new VerdictTable();
  const r = new Random(8);
  const known = new Map<string, number>();
  for (let i = 0; i < 4000; i++) {
    const pairs = (n: number) => Array.from({ length: 2 * r.int(n) }, () => r.int(3));
    const [ct, outs, reason] = [pairs(i % 50 === 0 ? 300 : 4), pairs(5), r.int(3)];
    const name = JSON.stringify([ct, outs, outs.length === 0 ? reason : 0]);
    const id = table.intern(context(ct, outs, reason));
    assert.equal(id, known.get(name) ?? known.size);
    known.set(name, id);
  }
  assert.equal(table.size, known.size);
});

test('frames: records do not overlap, and keep room in front for tags', () => {
  const announced: number[] = [];
  const store = new FrameStore((id) => announced.push(id));
  const spans: { chunk: number; from: number; to: number }[] = [];
  const r = new Random(4);
  for (let i = 0; i < 3000; i++) {
    const len = r.once(50) ? 60_000 : r.int(1600);
    store.allocate(len);
    const words = store.chunks[store.chunk].words;
    const data = words[(store.record >> 2) + FRAME_DATA_OFF];
    assert.equal(words[(store.record >> 2) + FRAME_LEN], len);
    assert.equal(words[(store.record >> 2) + FRAME_NEXT_CHUNK], -1);
    assert.equal(store.record % 4, 0);
    assert.ok(data - store.record >= 16 + 16, 'headroom');
    assert.ok(data + len <= store.chunks[store.chunk].u8.length);
    spans.push({ chunk: store.chunk, from: store.record, to: data + len });
  }
  spans.sort((a, b) => a.chunk - b.chunk || a.from - b.from);
  for (let i = 1; i < spans.length; i++) {
    assert.ok(spans[i].chunk > spans[i - 1].chunk || spans[i].from >= spans[i - 1].to);
  }
  assert.deepEqual(
    announced,
    Array.from({ length: store.chunks.length }, (_, i) => i),
  );
});

test('frames: a chunk is used again only when every frame in it has come back', () => {
  const store = new FrameStore(() => {});
  // Frames until the store goes on to another chunk; the last one lies there.
  const turn = () => {
    const first = store.chunk;
    for (let n = 1; ; n++) {
      store.allocate(1000);
      if (store.chunk !== first) return n;
    }
  };
  store.allocate(1000);
  const inFirst = turn();
  assert.equal(store.chunk, 1);
  const seen = new FrameChunk(store.chunks[0].sab);
  for (let i = 0; i < inFirst - 1; i++) seen.release(1);
  turn();
  assert.equal(store.chunk, 2, 'one frame of chunk 0 was still out');
  seen.release(1);
  turn();
  assert.equal(store.chunk, 0);
  assert.equal(store.chunks.length, 3);
});

test('frames: a frame larger than a chunk gets one of its size', () => {
  const store = new FrameStore(() => {});
  store.allocate(3_000_000);
  assert.ok(store.chunks[store.chunk].u8.length >= 3_000_000);
  store.allocate(10);
  assert.ok(store.chunks.length <= 2);
});
