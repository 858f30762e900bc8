import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SUPPORTED_LINK_TYPES } from '../../../src/pcap/link-types.js';
import { Bytes as B, Blocks, type Bytes, fromFile, fromStream, hexOf, payload, pcap } from './helpers.js';

const V4 = Buffer.concat([Buffer.of(0x45), payload(39)]);
const V6 = Buffer.concat([Buffer.of(0x60), payload(59)]);
const MAC = '0200000000aa';
const ZERO = '000000000000';

/** The one frame that a packet of that link type becomes: through pcap by file and stream, and through pcapng. */
async function frame(
  linkType: number,
  data: Uint8Array,
  wireLen = data.length,
): Promise<{ hex: string; wireLen: number }> {
  const file = pcap([{ sec: 1, frac: 0, data, wireLen }], { linkType });
  const got = await fromFile(file);
  assert.equal(got.error, undefined);
  assert.equal(got.packets.length, 1, 'never lost');
  assert.deepEqual(await fromStream(file), got);
  for (const b of [new Blocks(true), new Blocks(false)]) {
    const enhanced = await fromFile(
      Buffer.concat([b.section(), b.iface({ linkType }), b.enhanced(0, 1n, data, wireLen)]),
    );
    const simple = await fromFile(
      Buffer.concat([b.section(), b.iface({ linkType, snapLen: data.length }), b.simple(data, wireLen)]),
    );
    assert.equal(enhanced.packets[0].hex, got.packets[0].hex);
    if (data.length > 0) assert.equal(simple.packets[0].hex, got.packets[0].hex);
  }
  return { hex: got.packets[0].hex, wireLen: got.packets[0].wireLen };
}

const net = (): Bytes => new B(false);
const eth = (source: string, type: string, rest: Uint8Array): string => ZERO + source + type + hexOf(rest);

test('link types: raw IP by its version nibble, IPv4 and IPv6 by their number', async () => {
  for (const linkType of [12, 14, 101]) {
    assert.deepEqual(await frame(linkType, V4, 100), { hex: eth(ZERO, '0800', V4), wireLen: 114 });
    assert.deepEqual(await frame(linkType, V6), { hex: eth(ZERO, '86dd', V6), wireLen: 74 });
    assert.equal((await frame(linkType, Buffer.of(0x50, 1))).hex, eth(ZERO, 'ffff', Buffer.of(0x50, 1)));
    assert.deepEqual(await frame(linkType, Buffer.alloc(0)), {
      hex: eth(ZERO, 'ffff', Buffer.alloc(0)),
      wireLen: 14,
    });
  }
  assert.equal((await frame(228, V4)).hex, eth(ZERO, '0800', V4));
  assert.equal((await frame(229, V6)).hex, eth(ZERO, '86dd', V6));
  assert.equal((await frame(229, Buffer.alloc(0))).hex, eth(ZERO, '86dd', Buffer.alloc(0)));
});

test('link types: BSD loopback, the address family in any order and of any system', async () => {
  for (const [family, type] of [
    [2, '0800'],
    [10, '86dd'],
    [23, '86dd'],
    [24, '86dd'],
    [28, '86dd'],
    [30, '86dd'],
    [0x0806, '0806'],
    [7, 'ffff'],
  ] as const) {
    for (const little of [true, false]) {
      const data = new B(little).u32(family).add(V4).all;
      assert.deepEqual(await frame(0, data, 80), { hex: eth(ZERO, type, V4), wireLen: 90 });
    }
    assert.equal((await frame(108, net().u32(family).add(V4).all)).hex, eth(ZERO, type, V4));
  }
  assert.equal((await frame(108, new B(true).u32(2).add(V4).all)).hex, eth(ZERO, 'ffff', V4));
});

test('link types: Linux cooked v1 and v2, with the source address when it has six bytes', async () => {
  const address = Buffer.from(`${MAC}0000`, 'hex');
  const v1 = (n: number, protocol: number, rest: Uint8Array): Buffer =>
    net().u16(4).u16(1).u16(n).add(address).u16(protocol).add(rest).all;
  const v2 = (n: number, protocol: number, rest: Uint8Array): Buffer =>
    net().u16(protocol).u16(0).u32(9).u16(1).u8(4, n).add(address).add(rest).all;
  for (const [linkType, make, header] of [
    [113, v1, 16],
    [276, v2, 20],
  ] as const) {
    assert.deepEqual(await frame(linkType, make(6, 0x0800, V4), 1000), {
      hex: eth(MAC, '0800', V4),
      wireLen: 1000 - header + 14,
    });
    assert.equal((await frame(linkType, make(0, 0x86dd, V6))).hex, eth(ZERO, '86dd', V6));
    assert.equal((await frame(linkType, make(8, 0x0806, V4))).hex, eth(ZERO, '0806', V4));
    // 802.2: a length instead of a type, of what was on the wire.
    const llc = Buffer.from('424203000000', 'hex');
    assert.equal((await frame(linkType, make(6, 4, llc), 38 + header)).hex, eth(MAC, '0026', llc));
    assert.equal((await frame(linkType, make(6, 1, llc), 9000)).hex, eth(MAC, '05dc', llc));
  }
});

test('link types: a packet cut inside its link header is delivered as a frame too short for Ethernet', async () => {
  for (const [linkType, header] of [
    [0, 4],
    [108, 4],
    [113, 16],
    [276, 20],
  ]) {
    for (let n = 0; n < header; n++) {
      const data = payload(n);
      const got = await frame(linkType, data, 60);
      assert.deepEqual(got, { hex: hexOf(data.subarray(0, 13)), wireLen: 60 });
    }
    const bare = await frame(linkType, Buffer.alloc(header));
    assert.equal(bare.hex.length, 28);
    assert.equal(bare.wireLen, 14);
  }
});

test('link types: every other one is named with its number, its name and what is supported', async () => {
  for (const [linkType, name] of [
    [105, '105 (IEEE 802.11)'],
    [9, '9 (PPP)'],
    [8224, '8224'],
    [65535, '65535'],
  ] as const) {
    const file = pcap([{ sec: 1, frac: 0, data: V4 }], { linkType });
    for (const got of [await fromFile(file), await fromStream(file)]) {
      assert.equal(got.error?.offset, 20);
      assert.ok(
        got.error?.message.includes(
          `link type ${name} is not supported; supported are ${SUPPORTED_LINK_TYPES}`,
        ),
      );
    }
  }
});
