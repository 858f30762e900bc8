/** Timeout policies of zones, as the coordinator keeps them and as workers read them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  allocateTimeouts,
  DEFAULT_TIMEOUTS_MS,
  firstTimer,
  TIMEOUT_ATTRIBUTES,
  TM_ICMP_FIRST,
  TM_SHIFT,
  TM_TCP_SYN_SENT,
  TM_UDP_FIRST,
  TM_UDP_SINGLE,
  timerBlock,
} from '../../../src/conntrack/timeouts.js';
import { ZonePolicies } from '../../../src/conntrack/zone-policies.js';
import { CONN, STATE_HAS_POLICY } from '../../../src/shm/layouts.js';

const { ZONE_PROTO } = CONN.at;

test('timeouts: every attribute that has a meaning has a timer and a default of its own', () => {
  const timers = [...TIMEOUT_ATTRIBUTES.values()].filter((t) => t !== null);
  assert.deepEqual(
    timers.sort((a, b) => a - b),
    DEFAULT_TIMEOUTS_MS.map((_, i) => i),
  );
  assert.ok(DEFAULT_TIMEOUTS_MS.length <= 1 << TM_SHIFT);
});

test('timeouts: a connection goes by the default block, or by that of its zone if flagged, to the last zone', () => {
  const hot = new Int32Array(CONN.words);
  const timeouts = new Float64Array(allocateTimeouts());
  for (const zone of [0, 5, 65535]) {
    hot[ZONE_PROTO] = zone << 16;
    assert.equal(timerBlock(~STATE_HAS_POLICY, hot, 0), 0);
    const block = timerBlock(STATE_HAS_POLICY, hot, 0);
    assert.equal(block, (zone + 1) << TM_SHIFT);
    assert.ok(block + (1 << TM_SHIFT) <= timeouts.length);
  }
});

test('timeouts: policies reach TCP, UDP, ICMP and ICMPv6', () => {
  assert.deepEqual([6, 17, 1, 58, 132, 47].map(firstTimer), [
    TM_TCP_SYN_SENT,
    TM_UDP_FIRST,
    TM_ICMP_FIRST,
    TM_ICMP_FIRST,
    -1,
    -1,
  ]);
});

test('policies: what is not named has its default; a repeat with other values replaces all of it', () => {
  const timeouts = new Float64Array(allocateTimeouts());
  const p = new ZonePolicies(timeouts);
  const at = (timer: number) => timeouts[(6 << TM_SHIFT) + timer];
  assert.equal(p.set(5, new Map([['udp_single', 7]])), true);
  assert.deepEqual([at(TM_UDP_SINGLE), at(TM_UDP_FIRST)], [7000, DEFAULT_TIMEOUTS_MS[TM_UDP_FIRST]]);
  assert.equal(p.set(5, new Map([['udp_single', 7]])), false, 'no change');
  assert.equal(
    p.set(
      5,
      new Map([
        ['udp_first', 4_294_967_295],
        ['tcp_unack', 3],
      ]),
    ),
    true,
  );
  assert.deepEqual([at(TM_UDP_SINGLE), at(TM_UDP_FIRST)], [60_000, 4_294_967_295_000]);
  assert.deepEqual(
    [...(p.of(5) ?? [])],
    [
      ['tcp_unack', 3],
      ['udp_first', 4_294_967_295],
    ],
  );
  assert.deepEqual(
    DEFAULT_TIMEOUTS_MS.map((_, t) => timeouts[t]),
    [...DEFAULT_TIMEOUTS_MS],
    'the default policy is as it was',
  );
});

test('policies: the shortest timeout counts only what has a meaning', () => {
  const p = new ZonePolicies(new Float64Array(allocateTimeouts()));
  assert.equal(p.shortest(), Infinity);
  p.set(9, new Map([['tcp_unack', 1]]));
  assert.equal(p.shortest(), Infinity);
  p.set(2, new Map([['icmp_reply', 2]]));
  p.set(3, new Map([['icmp_reply', 5]]));
  assert.equal(p.shortest(), 2000);
  assert.deepEqual(p.zones(), [2, 3, 9]);
  p.remove(2);
  assert.equal(p.shortest(), 5000);
});
