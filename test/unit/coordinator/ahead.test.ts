/** What the dispatcher finds out about checksums is what a worker would have found out. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Ahead } from '../../../src/coordinator/ahead.js';
import { STAGED_KEY, Staging, VLAN_BAD_L4 } from '../../../src/datapath/staging.js';
import { PacketColumns, SUM_RIGHT, SUM_UNKNOWN, SUM_WRONG } from '../../../src/shm/packets.js';
import { type Bytes, data, ethernet, ipv4, Random, tcp, udp } from '../../support/packets.js';

const VECTOR = 256;
const SEED = 77;

/** A frame, of which a byte may be wrong, and which may be cut short or padded. */
function frame(r: Random): Bytes {
  const [sport, dport] = [r.int(0x10000), r.int(0x10000)];
  const payload = data(r.once(3) ? r.int(1400) : r.int(40));
  const l4 = r.once(2)
    ? tcp({ sport, dport, seq: r.int(0x7fffffff), ack: r.int(0x7fffffff), data: payload })
    : udp({ sport, dport, data: payload, unsummed: r.once(4) });
  const src = r.once(2) ? '10.0.0.1' : '255.255.255.255';
  const bytes = ethernet({ pad: r.once(3) ? r.int(20) : 0 }, ipv4({ src }, l4));
  if (r.once(3)) bytes[r.int(bytes.length)] ^= 1 << r.int(8);
  return r.once(8) ? bytes.subarray(0, r.int(bytes.length)) : bytes;
}

function columns(frames: readonly Bytes[]): { packets: PacketColumns; arena: SharedArrayBuffer } {
  const arena = new SharedArrayBuffer(frames.reduce((n, f) => n + f.length, 64));
  const packets = new PacketColumns(frames.length);
  let at = 0;
  for (const [slot, f] of frames.entries()) {
    new Uint8Array(arena).set(f, at);
    packets.off[slot] = at;
    packets.capLen[slot] = packets.wireLen[slot] = f.length;
    packets.inPort[slot] = 1;
    at += f.length;
  }
  return { packets, arena };
}

const slots = Int32Array.from({ length: VECTOR }, (_, i) => i);

test('ahead: workers stage the same keys with what it says and without', () => {
  const r = new Random(5);
  const seen = new Set<number>();
  for (let round = 0; round < 40; round++) {
    const { packets, arena } = columns(Array.from({ length: VECTOR }, () => frame(r)));
    const stage = () => {
      const staging = new Staging(packets, arena, VECTOR, SEED);
      staging.parse(slots, VECTOR);
      return [[...staging.keys], [...staging.hashes], [...staging.l4Sizes]];
    };
    const alone = stage();
    new Ahead(packets, arena).prepare(slots, VECTOR, true);
    for (const known of packets.sums) seen.add(known);
    assert.deepEqual(stage(), alone, `round ${round}`);
  }
  assert.deepEqual([...seen].sort(), [SUM_UNKNOWN, SUM_RIGHT, SUM_WRONG]);
});

test('ahead: a worker believes it', () => {
  const segment = tcp({ sport: 1, dport: 2, seq: 3, ack: 4, data: data(100) });
  const good = ethernet({}, ipv4({}, segment));
  const { packets, arena } = columns([good]);
  packets.sums[0] = SUM_WRONG;
  const staging = new Staging(packets, arena, 1, SEED);
  staging.parse(slots.subarray(0, 1), 1);
  assert.equal(staging.keys[STAGED_KEY.at.VLAN], VLAN_BAD_L4);
});

test('ahead: where there is no time, and after batches without anything to verify, it forgets the packets before', () => {
  const r = new Random(6);
  const unsummed = () => ethernet({}, ipv4({}, udp({ sport: 1, dport: r.int(99), unsummed: true })));
  const { packets, arena } = columns(Array.from({ length: VECTOR }, unsummed));
  const ahead = new Ahead(packets, arena);
  for (const verify of [false, true, true, true]) {
    packets.sums.fill(SUM_RIGHT);
    ahead.prepare(slots, VECTOR, verify);
    assert.ok(packets.sums.every((known) => known === SUM_UNKNOWN));
  }
});
