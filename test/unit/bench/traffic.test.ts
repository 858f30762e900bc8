import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { mixed, tcp, udp } from '../../../bench/traffic/generate.js';
import { FLOW_WORDS } from '../../../src/classifier/flow-key.js';
import {
  ConnKey,
  extractConnKey,
  INVALID_ICMP_TYPE,
  INVALID_NONE,
  INVALID_NOT_IP,
} from '../../../src/conntrack/key.js';
import { tcpNew, tcpUpdate } from '../../../src/conntrack/tcp.js';
import { allocateTimeouts } from '../../../src/conntrack/timeouts.js';
import { UPDATE_VALID, UPDATE_VALID_NEW } from '../../../src/conntrack/verdict.js';
import type { Frame } from '../../../src/generate/frames.js';
import { writeCapture } from '../../../src/generate/write.js';
import { CONN } from '../../../src/shm/layouts.js';
import { extract, FrameLayout } from '../../../src/wire/extract.js';

const captures = fileURLToPath(new URL('../../../../fixtures/captures/', import.meta.url));

const TIMEOUTS = new Float64Array(allocateTimeouts());

function read(frame: Frame) {
  const view = new DataView(frame.bytes.buffer, 0, frame.length);
  const flow = new Int32Array(FLOW_WORDS);
  const layout = new FrameLayout();
  const key = new ConnKey();
  extract(view, 0, frame.length, flow, layout);
  const reason = extractConnKey(view, 0, layout, flow, 0, false, 1, key);
  return { view, layout, key, reason };
}

/** The client of a frame and whether it is a reply; fails if the frame can't be tracked. */
function track(frame: Frame) {
  const { view, layout, key, reason } = read(frame);
  assert.equal(reason, INVALID_NONE);
  const reply = (key.ports & 0xffff) > 1023;
  const name = reply ? `${key.dst}:${key.ports & 0xffff}` : `${key.src}:${key.ports >>> 16}`;
  return { name, reply, view, layout };
}

const flows = { packets: 200, connections: 50, frameBytes: 60, seed: 1 };

for (const bothWays of [false, true]) {
  for (const checksums of [false, true]) {
    test(`traffic: udp frames are valid, bothWays ${bothWays}, checksums ${checksums}`, () => {
      const names = new Map<string, number>();
      let replies = 0;
      for (const frame of udp({ ...flows, bothWays, checksums })) {
        assert.equal(frame.length, 60);
        const { name, reply, view, layout } = track(frame);
        assert.equal(view.getUint16(layout.l4 + 6) !== 0, checksums);
        names.set(name, (names.get(name) ?? 0) + 1);
        if (reply) replies++;
      }
      assert.equal(names.size, 50);
      assert.deepEqual([...new Set(names.values())], [4]);
      assert.equal(replies, bothWays ? 100 : 0);
    });
  }
}

test('traffic: the same seed gives the same bytes, another seed another order', () => {
  const bytes = (seed: number) =>
    Buffer.concat(
      Array.from(udp({ ...flows, seed, bothWays: false, checksums: false }), (f) =>
        Buffer.from(f.bytes.slice(0, f.length)),
      ),
    );
  assert.deepEqual(bytes(7), bytes(7));
  assert.notDeepEqual(bytes(7), bytes(8));
});

test('traffic: tcp connections are established, and stay valid when replayed in a loop', () => {
  const slots = new Map<string, number>();
  const hot = new Int32Array(50 * CONN.words);
  const hotF64 = new Float64Array(hot.buffer);
  for (let round = 0; round < 3; round++) {
    for (const frame of tcp({ ...flows, packets: 500 })) {
      const { name, reply, view, layout } = track(frame);
      const payload = layout.end - layout.l4 - 20;
      const slot = slots.get(name);
      if (slot === undefined) {
        slots.set(name, slots.size);
        tcpNew(hot, hotF64, (slots.size - 1) * CONN.words, view, layout.l4, payload, 0);
        continue;
      }
      const got = tcpUpdate(hot, hotF64, slot, reply ? 1 : 0, view, layout.l4, payload, 0, true, TIMEOUTS);
      assert.ok(got === UPDATE_VALID || got === UPDATE_VALID_NEW, `round ${round}: ${got}`);
    }
  }
  assert.equal(slots.size, 50);
});

test('traffic: what does not fit is refused', () => {
  const first = (frames: Generator<Frame>) => frames.next();
  assert.throws(
    () => first(udp({ ...flows, frameBytes: 59, bothWays: false, checksums: false })),
    /59 bytes/,
  );
  assert.throws(() => first(udp({ ...flows, connections: 0, bothWays: false, checksums: false })), /0 conn/);
  assert.throws(() => first(tcp({ ...flows, packets: 1e6, connections: 1 })), /use more connections/);
});

test('traffic: mixed multiplies the flows of a capture and keeps its checksums right', async () => {
  const tuples: Set<string>[] = [];
  for (const copies of [1, 4]) {
    const seen = new Set<string>();
    for await (const frame of mixed({ captures: [`${captures}web-client.pcap`], packets: 1e6, copies })) {
      const { reason, key } = read(frame);
      assert.ok(
        reason === INVALID_NONE || reason === INVALID_NOT_IP || reason === INVALID_ICMP_TYPE,
        `${reason}`,
      );
      if (reason === INVALID_NONE && !key.ipv6) seen.add(`${key.proto} ${key.src} ${key.dst} ${key.ports}`);
    }
    tuples.push(seen);
  }
  assert.ok(tuples[0].size > 100);
  assert.equal(tuples[1].size, 4 * tuples[0].size);
});

test('traffic: a capture of so many packets is written', async (t) => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'traffic-'));
  t.after(() => fs.rmSync(dir, { recursive: true }));
  const file = path.join(dir, 'x.pcap');
  const { packets } = await writeCapture(file, udp({ ...flows, bothWays: false, checksums: false }));
  assert.equal(packets, 200);
  assert.equal(fs.statSync(file).size, 24 + 200 * 76);
});
