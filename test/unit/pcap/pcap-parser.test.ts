/** The file reader beside the npm package pcap-parser, packet by packet, over the captures in fixtures/. */

import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import pcapParser, { type Packet } from 'pcap-parser';
import { SegmentArena } from '../../../src/pcap/arena.js';
import { openCapture, openCaptureStream } from '../../../src/pcap/open.js';
import { drain, hexOf, projectRoot } from './helpers.js';

/** Link header bytes that Ethernet's 14 replace. */
const LINK_HEADER: Record<number, number> = {
  0: 4,
  108: 4,
  113: 16,
  276: 20,
  12: 0,
  14: 0,
  101: 0,
  228: 0,
  229: 0,
};

function captures(folder: string): string[] {
  const names = fs.readdirSync(folder, { recursive: true, encoding: 'utf8' });
  return names.filter((name) => /\.(pcap|cap|pcapng)$/.test(name)).map((name) => path.join(folder, name));
}

/** What pcap-parser makes of a file; undefined if it can't read it. */
function parse(
  file: string,
): Promise<{ linkType: number; minorVersion: number; packets: Packet[] } | undefined> {
  return new Promise((resolve) => {
    const parser = pcapParser.parse(file);
    const packets: Packet[] = [];
    let linkType = -1;
    let minorVersion = 0;
    parser.on('globalHeader', (header) => {
      linkType = header.linkLayerType & 0xffff;
      minorVersion = header.minorVersion;
    });
    parser.on('packet', (packet) => packets.push(packet));
    parser.on('error', () => resolve(undefined));
    parser.on('end', () => resolve({ linkType, minorVersion, packets }));
  });
}

test('every capture under fixtures/ that pcap-parser reads comes out the same here, from a file and from a stream', async () => {
  const files = captures(path.join(projectRoot(), 'fixtures'));
  let nCompared = 0;
  for (const file of files) {
    const theirs = await parse(file);
    // It doesn't know that versions before 2.4 have the lengths swapped.
    if (theirs === undefined || theirs.minorVersion !== 4) continue;
    const { linkType } = theirs;
    const arena = (): SegmentArena => new SegmentArena(3, 1 << 20);
    const ours = await drain((to) => openCapture(file, to), arena());
    if (ours.error !== undefined) {
      // Damage that pcap-parser passes over in silence, or a link type that it doesn't look at: no fewer packets before.
      assert.ok(ours.packets.length <= theirs.packets.length, `${file}: ${ours.error.message}`);
    } else {
      assert.equal(ours.packets.length, theirs.packets.length, file);
    }
    ours.packets.forEach((packet, i) => {
      const { header, data } = theirs.packets[i];
      const where = `${file} packet ${i + 1}`;
      const carry = Math.floor(header.timestampMicroseconds / 1e6);
      assert.equal(packet.sec, header.timestampSeconds + carry, where);
      assert.equal(packet.nsec, (header.timestampMicroseconds - carry * 1e6) * 1000, where);
      const grow = linkType === 1 ? 0 : 14 - LINK_HEADER[linkType];
      const skip = linkType === 1 ? 0 : LINK_HEADER[linkType];
      if (data.length < skip) return;
      const wireLen = Math.min(Math.max(header.originalLength, header.capturedLength), 0x7fffff00);
      assert.equal(packet.wireLen, wireLen + grow, where);
      assert.equal(packet.hex.slice(linkType === 1 ? 0 : 28), hexOf(data.subarray(skip)), where);
    });
    const streamed = await drain((to) => openCaptureStream(file, fs.createReadStream(file), to), arena());
    assert.deepEqual(streamed, ours, file);
    nCompared++;
  }
  assert.ok(nCompared >= 3, `${nCompared} of ${files.length} captures were compared`);
});
