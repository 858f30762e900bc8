/** Changes put together into a PATCH do what they do one after the other, to the last bit of every checksum. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FLOW } from '../../../src/classifier/flow-key.js';
import {
  applyEdits,
  applyPatch,
  compilePatch,
  EDIT_BITS,
  EDIT_ICMP_ID,
  EDIT_WORD,
  PATCH,
} from '../../../src/datapath/edit.js';
import { extract, FrameLayout } from '../../../src/wire/extract.js';
import { type Bytes, data, ethernet, hex, ipv4, Random, tcp, udp, view } from '../../support/packets.js';

const { ETH_DST_HI, ETH_DST_LO_SRC_HI, ETH_SRC_LO, NW_SRC, NW_DST, NW, TP } = FLOW;
const P = PATCH.at;

/** Values that bring out the two zeros of one's complement. */
function value(r: Random): number {
  const half = () => (r.once(3) ? (r.once(2) ? 0xffff : 0) : r.int(0x10000));
  return (half() << 16) | half();
}

function edits(r: Random): number[] {
  const list: number[] = [];
  for (let n = r.int(6); n >= 0; n--) {
    const word = [ETH_DST_HI, ETH_DST_LO_SRC_HI, ETH_SRC_LO, NW_SRC, NW_DST, NW, TP][r.int(7)];
    const to = value(r);
    if (word === NW) list.push(EDIT_BITS | (NW << 8), to & 0x00fc0000, 0x00fc0000);
    else if (r.once(2)) list.push(EDIT_WORD | (word << 8), to);
    else list.push(EDIT_BITS | (word << 8), to & 0xffff0000, 0xffff0000 | 0);
  }
  return list;
}

/** The PATCH for a packet with this header. */
function patchOf(frame: Bytes, list: number[]): Int32Array | null {
  const key = new Int32Array(64);
  extract(view(frame), 0, frame.length, key, new FrameLayout());
  const patch = new Int32Array(1 + Object.keys(P).length);
  const at = 1;
  for (let w = 0; w < 3; w++) patch[at + P.ETH_0 + w] = key[ETH_DST_HI + w];
  patch[at + P.TOS] = (key[NW] >>> 16) & 0xff;
  patch[at + P.SRC] = key[NW_SRC];
  patch[at + P.DST] = key[NW_DST];
  patch[at + P.TP] = key[TP];
  return compilePatch(patch, at, Int32Array.from(list), list.length) ? patch : null;
}

test('patch: what it makes of a packet is what the changes make of it one by one', () => {
  const r = new Random(11);
  for (let round = 0; round < 4000; round++) {
    const [sport, dport] = [r.int(0x10000), r.int(0x10000)];
    const payload = data(r.int(9));
    const isTcp = r.once(2);
    const l4 = isTcp
      ? tcp({ sport, dport, seq: value(r), ack: value(r), data: payload })
      : udp({ sport, dport, data: payload, unsummed: r.once(4) });
    const address = () => `${r.int(256)}.${r.int(256)}.${r.once(2) ? 0 : 255}.${r.int(256)}`;
    const tags = r.once(4) ? [7] : [];
    const frame = ethernet({ tags }, ipv4({ src: address(), dst: address(), tos: r.int(256) }, l4));
    const list = edits(r);
    const key = new Int32Array(64);
    const layout = new FrameLayout();
    extract(view(frame), 0, frame.length, key, layout);
    // Checksums that are the other zero, or wrong.
    if (r.once(5)) view(frame).setUint16(layout.l4 + (isTcp ? 16 : 6), r.once(2) ? 0xffff : r.int(0x10000));

    const patch = patchOf(frame, list);
    assert.ok(patch !== null);
    const want = frame.slice();
    applyEdits(view(want), 0, layout, key, Int32Array.from(list), 0, list.length);
    const got = frame.slice();
    applyPatch(view(got), 0, layout.l3, layout.l4, isTcp, patch, 1);
    assert.equal(hex(got), hex(want), `round ${round}: ${hex(frame)} by ${list}`);
  }
});

test('patch: what depends on more than the header is left to the list', () => {
  const frame = ethernet({}, ipv4({}, udp()));
  assert.equal(patchOf(frame, [EDIT_ICMP_ID, 5]), null);
  assert.equal(patchOf(frame, [EDIT_WORD | (NW << 8), 0x00004011]), null, 'the TTL');
  assert.equal(patchOf(frame, [EDIT_BITS | (NW << 8), 0x00014000, 0x0001ff00]), null);
  assert.equal(patchOf(frame, [EDIT_WORD | (FLOW.IPV6_LABEL << 8), 1]), null);
});
