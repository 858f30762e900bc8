/** Tags and labels in front of a frame, in place and through copies. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FLOW } from '../../../src/classifier/flow-key.js';
import { PacketContext } from '../../../src/datapath/context.js';
import { FrameEditor } from '../../../src/datapath/edit.js';
import { FRAME_DATA_OFF, FRAME_LEN, FrameStore } from '../../../src/datapath/frames.js';
import { extract, FrameLayout } from '../../../src/wire/extract.js';
import { type Bytes, cat, ethernet, hex, ipv4, Random, tcp, u32, udp, unhex } from '../../support/packets.js';

interface Bench {
  ctx: PacketContext;
  editor: FrameEditor;
  frame(): string;
}

/** A packet at the start of its first pass. */
function bench(frame: Bytes): Bench {
  const arena = new SharedArrayBuffer(frame.length + 100);
  new Uint8Array(arena).set(frame, 50);
  const frames = new FrameStore(() => {});
  const editor = new FrameEditor(frames, arena);
  const ctx = new PacketContext(new DataView(arena), new Uint8Array(arena));
  ctx.begin(0, new DataView(arena), new Uint8Array(arena), 50, frame.length, 0);
  extract(ctx.view, ctx.off, ctx.len, ctx.key, ctx.layout);
  return {
    ctx,
    editor,
    frame() {
      assert.equal(hex(new Uint8Array(arena, 50, frame.length)), hex(frame), 'the captured frame is kept');
      if (ctx.chunk >= 0) {
        const { words } = frames.chunks[ctx.chunk];
        assert.equal(words[(ctx.record >> 2) + FRAME_DATA_OFF], ctx.off);
        assert.equal(words[(ctx.record >> 2) + FRAME_LEN], ctx.len);
      }
      return hex(ctx.u8.slice(ctx.off, ctx.off + ctx.len));
    },
  };
}

const inner = ipv4({}, tcp()).bytes;
const mpls = (type: number, entries: string, tags: number[] = []) =>
  hex(ethernet({ tags }, { type, bytes: cat(unhex(entries), inner) }));

test('edit: labels go behind the tags, the last comes first, and the EtherType in front of them changes', () => {
  const b = bench(ethernet({ tags: [5] }, { type: 0x800, bytes: inner }));
  b.ctx.conn = 6;
  b.editor.pushMpls(b.ctx, 0x00010140, 0x8847);
  assert.equal(b.ctx.conn, -1, 'a labelled packet has left its connection');
  assert.equal(b.frame(), mpls(0x8847, '00010140', [5]));
  b.editor.pushMpls(b.ctx, 0x00011041, 0x8848);
  assert.equal(b.frame(), mpls(0x8848, '0001104100010140', [5]));
  b.editor.pushVlan(b.ctx, (0x8100 << 16) | 4);
  assert.equal(b.frame(), mpls(0x8848, '0001104100010140', [4, 5]));
  b.editor.popMpls(b.ctx, 0x8847);
  assert.equal(b.frame(), mpls(0x8847, '00010140', [4, 5]));
  b.editor.popVlan(b.ctx);
  b.editor.popMpls(b.ctx, 0x0800);
  assert.equal(b.frame(), mpls(0x0800, '', [5]));
  b.editor.popMpls(b.ctx, 0x86dd);
  assert.equal(b.frame(), mpls(0x0800, '', [5]), 'nothing left to pop');
});

test('edit: what is set in this pass behind new labels is still found', () => {
  const b = bench(ethernet({}, { type: 0x800, bytes: inner }));
  b.editor.pushMpls(b.ctx, 0x00010140, 0x8847);
  b.editor.set(b.ctx, FLOW.NW_DST, 0x0a000063, -1);
  b.editor.set(b.ctx, FLOW.MPLS_0, 0x3f, 0xff);
  const want = ipv4({ dst: '10.0.0.99' }, tcp()).bytes;
  assert.equal(b.frame(), hex(ethernet({}, { type: 0x8847, bytes: cat(unhex('0001013f'), want) })));
});

test('edit: a label of any kind but MPLS is refused', () => {
  const b = bench(ethernet({}, ipv4({}, udp())));
  const before = b.frame();
  b.editor.pushMpls(b.ctx, 0x140, 0x0800);
  assert.equal(b.frame(), before);
});

test('edit: a SNAP frame keeps its LLC header in front of the labels, as in Open vSwitch', () => {
  const b = bench(ethernet({ snap: true }, { type: 0x800, bytes: inner }));
  b.editor.pushMpls(b.ctx, 0x00010140, 0x8847);
  const head = hex(ethernet({}, new Uint8Array())).slice(0, 24);
  assert.equal(b.frame(), `${head}8847aaaa030000000800${'00010140'}${hex(inner)}`);
});

test('edit: any mix of pushes and pops is what a list of tags and labels would give (seeded property)', () => {
  for (let seed = 1; seed <= 300; seed++) {
    const r = new Random(seed);
    const b = bench(ethernet({}, { type: 0x800, bytes: inner }));
    const tags: number[] = [];
    const labels: number[] = [];
    let type = 0x800;
    for (let i = 0; i < 12; i++) {
      const what = r.int(4);
      if (what === 0) {
        tags.unshift(1 + r.int(100));
        b.editor.pushVlan(b.ctx, (0x8100 << 16) | tags[0]);
      } else if (what === 1) {
        tags.shift();
        b.editor.popVlan(b.ctx);
      } else if (what === 2) {
        type = r.once(2) ? 0x8847 : 0x8848;
        labels.unshift(((r.int(1 << 20) << 12) | (labels.length === 0 ? 0x100 : 0) | 64) >>> 0);
        b.editor.pushMpls(b.ctx, labels[0] | 0, type);
      } else {
        if (labels.length > 0) type = labels.length === 1 ? 0x800 : 0x8847;
        labels.shift();
        b.editor.popMpls(b.ctx, type);
      }
      if (r.once(4)) b.ctx.shared = true; // sent meanwhile
      const bytes = cat(labels.flatMap(u32), inner);
      assert.equal(b.frame(), hex(ethernet({ tags }, { type, bytes })), `seed ${seed}, step ${i}`);
      const { layout, off } = b.ctx;
      const fresh = new FrameLayout();
      extract(b.ctx.view, off, b.ctx.len, new Int32Array(b.ctx.key), fresh);
      if (tags.length <= 1) assert.equal(layout.mpls, fresh.mpls, `seed ${seed}, step ${i}`);
      if (tags.length <= 1) assert.equal(layout.l3, fresh.l3, `seed ${seed}, step ${i}`);
    }
  }
});
