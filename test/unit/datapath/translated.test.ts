/** Frames of translated packets, made a vector at a time, are what the changes make of them one by one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FLOW } from '../../../src/classifier/flow-key.js';
import { applyEdits, EDIT_WORD } from '../../../src/datapath/edit.js';
import { FRAME_DATA_OFF, FRAME_LEN, FRAME_NEXT_CHUNK, FrameStore } from '../../../src/datapath/frames.js';
import { Staging } from '../../../src/datapath/staging.js';
import { CHANGE_SHIFT, FrameTranslator } from '../../../src/datapath/translated.js';
import { PacketColumns, VERDICT_FRAMES, VERDICT_ONE_FRAME } from '../../../src/shm/packets.js';
import { extract, FrameLayout } from '../../../src/wire/extract.js';
import { type Bytes, data, ethernet, hex, ipv4, Random, tcp, udp, view } from '../../support/packets.js';

const { NW_SRC, NW_DST, TP } = FLOW;
const VECTOR = 64;
const TEMPLATE = 5;

/** Values that bring out the two zeros of one's complement. */
function value(r: Random): number {
  const half = () => (r.once(3) ? (r.once(2) ? 0xffff : 0) : r.int(0x10000));
  return (half() << 16) | half();
}

/** TCP or UDP over IPv4; one of ten is longer than what is copied word by word. */
function packet(r: Random): Bytes {
  const payload = data(r.once(10) ? 500 + r.int(900) : r.int(60));
  const [sport, dport] = [r.int(0x10000), r.int(0x10000)];
  const l4 = r.once(2)
    ? tcp({ sport, dport, seq: value(r), ack: value(r), data: payload })
    : udp({ sport, dport, data: payload, unsummed: r.once(4) });
  const address = () => `${1 + r.int(250)}.${r.int(256)}.${r.once(2) ? 0 : 255}.${r.int(256)}`;
  return ethernet({ tags: r.once(4) ? [7] : [] }, ipv4({ src: address(), dst: address() }, l4));
}

test('translated frames: any length and alignment, over many chunks, as by changes one by one', () => {
  const r = new Random(3);
  const arena = new SharedArrayBuffer(1 << 18);
  const u8 = new Uint8Array(arena);
  const packets = new PacketColumns(VECTOR);
  const frames = new FrameStore(() => {});
  const staging = new Staging(packets, arena, VECTOR, 1);
  const translator = new FrameTranslator(staging, packets, frames, arena, VECTOR);
  const slots = Int32Array.from({ length: VECTOR }, (_, i) => i);
  for (let round = 0; round < 60; round++) {
    const want: Bytes[] = [];
    // The last one ends where the arena does.
    const made = Array.from({ length: VECTOR }, () => packet(r));
    let off = u8.length - made.reduce((n, frame) => n + frame.length + 3, 0);
    for (let i = 0; i < VECTOR; i++) {
      off += i < VECTOR - 1 ? r.int(4) : u8.length - off - made[i].length;
      u8.set(made[i], off);
      packets.off[i] = off;
      packets.capLen[i] = made[i].length;
      packets.verdict[i] = TEMPLATE;
      off += made[i].length;
    }
    staging.parse(slots, VECTOR);
    for (let i = 0; i < VECTOR; i++) {
      const frame = made[i];
      const key = new Int32Array(64);
      const layout = new FrameLayout();
      extract(view(frame), 0, frame.length, key, layout);
      const source = r.once(2);
      let address = value(r);
      if (address === key[source ? NW_SRC : NW_DST]) address ^= 1;
      const ports = r.once(4) ? key[TP] : value(r);
      const change = i << CHANGE_SHIFT;
      translator.changes[change] = i;
      translator.changes[change + 1] = source ? address : key[NW_SRC];
      translator.changes[change + 2] = source ? key[NW_DST] : address;
      translator.changes[change + 3] = ports;
      const list = [EDIT_WORD | ((source ? NW_SRC : NW_DST) << 8), address, EDIT_WORD | (TP << 8), ports];
      const copy = frame.slice();
      applyEdits(view(copy), 0, layout, key, Int32Array.from(list), 0, list.length);
      want.push(copy);
    }
    translator.make(slots, VECTOR);
    for (let i = 0; i < VECTOR; i++) {
      assert.equal(packets.verdict[i], TEMPLATE | VERDICT_FRAMES | VERDICT_ONE_FRAME);
      const chunk = frames.chunks[packets.frameChunk[i]];
      const w = packets.frameOff[i] >> 2;
      assert.equal(chunk.words[w + FRAME_NEXT_CHUNK], -1);
      assert.equal(chunk.words[w + FRAME_LEN], want[i].length);
      const at = chunk.words[w + FRAME_DATA_OFF];
      const got = chunk.u8.slice(at, at + want[i].length);
      assert.equal(hex(got), hex(want[i]), `round ${round}, packet ${i}`);
      assert.equal(
        hex(u8.slice(packets.off[i], packets.off[i] + made[i].length)),
        hex(made[i]),
        'as captured',
      );
    }
  }
  assert.ok(frames.chunks.length > 1, 'more than one chunk');
});
