/** Expectations: as many as there may be, whoever announces them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Expectations } from '../../../src/conntrack/expectations.js';
import { ConnKey } from '../../../src/conntrack/key.js';
import { allocatePartition, Partition } from '../../../src/conntrack/partition.js';
import { allocateTimeouts } from '../../../src/conntrack/timeouts.js';
import { COLD, CONN } from '../../../src/shm/layouts.js';

const { SRC, DST, PORTS, ZONE_PROTO, EXPIRES } = CONN.at;

/** A partition with control connections in slots 0 to n - 1, which live until `ends`. */
function controls(n: number, ends: (slot: number) => number): Partition {
  const partition = new Partition(allocatePartition(64, 7, allocateTimeouts(), false));
  const { hot, hotF64, coldF64 } = partition;
  for (let slot = 0; slot < n; slot++) {
    const c = slot << CONN.shift;
    hot[c + SRC] = 100 + slot;
    hot[c + DST] = 1;
    hot[c + PORTS] = (2000 << 16) | 21;
    hot[c + ZONE_PROTO] = 6 << 8;
    hotF64[(c + EXPIRES) >> 1] = ends(slot);
    coldF64[((slot << COLD.shift) + COLD.at.CREATED) >> 1] = slot + 1;
  }
  return partition;
}

function expects(e: Expectations, slot: number, port: number, now: number): boolean {
  const key = new ConnKey();
  key.src = 1;
  key.dst = 100 + slot;
  key.ports = (20 << 16) | port;
  key.zoneProto = 6 << 8;
  return e.find(key, now) !== null;
}

test('expectations: the oldest makes way when there are as many as there may be, whoever announced it', () => {
  const e = new Expectations(
    controls(2, () => 1e9),
    100,
  );
  for (let n = 0; n < 1000; n++) e.add(n % 2, 0, 5000 + n, 1);
  const alive = Array.from({ length: 1000 }, (_, n) => n).filter((n) => expects(e, n % 2, 5000 + n, 2));
  assert.deepEqual([alive.length, alive[0]], [100, 900]);
});

test('expectations: those of connections that have ended make way first', () => {
  const e = new Expectations(
    controls(2, (slot) => (slot === 0 ? 10 : 1e9)),
    100,
  );
  for (let n = 0; n < 60; n++) e.add(1, 0, 5000 + n, 1);
  for (let n = 0; n < 40; n++) e.add(0, 0, 6000 + n, 1);
  for (let n = 0; n < 40; n++) e.add(1, 0, 7000 + n, 20);
  const lives = (slot: number, from: number, n: number) =>
    Array.from({ length: n }, (_, i) => expects(e, slot, from + i, 20)).filter(Boolean).length;
  assert.deepEqual([lives(1, 5000, 60), lives(0, 6000, 40), lives(1, 7000, 40)], [60, 0, 40]);
});

test('expectations: what is announced again stays where it is', () => {
  const e = new Expectations(
    controls(1, () => 1e9),
    10,
  );
  for (let n = 0; n < 10; n++) e.add(0, 0, 5000 + n, 1);
  for (let n = 0; n < 100; n++) e.add(0, 0, 5000, 1);
  assert.ok(Array.from({ length: 10 }, (_, n) => expects(e, 0, 5000 + n, 2)).every(Boolean));
});
