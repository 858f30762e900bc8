/** What a zone limit counts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DEFAULT_ZONE, ZoneLimits } from '../../../src/conntrack/zone-limits.js';
import { Random } from '../../support/packets.js';

test('zone limits: without any, there is room without end and nothing is counted', () => {
  const l = new ZoneLimits(1, 10);
  l.added(5, 0, 1);
  assert.equal(l.room(5), Infinity);
  assert.deepEqual(l.get(5), { zone: 5, limit: 0, count: 0 });
  assert.deepEqual(l.zones(), []);
  assert.equal(l.limitOf(5), null);
});

test('zone limits: what was there before the limit is not counted, nor is its removal', () => {
  const l = new ZoneLimits(1, 10);
  l.added(5, 0, 1);
  l.set(5, 2);
  l.removed(5, 0, 1);
  l.added(5, 0, 2);
  assert.equal(l.room(5), 1);
  l.added(5, 0, 3);
  assert.equal(l.room(5), 0);
  l.removed(5, 0, 2);
  assert.deepEqual(l.get(5), { zone: 5, limit: 2, count: 1 });
});

test('zone limits: a limit below the count refuses, one above it goes on with the count', () => {
  const l = new ZoneLimits(1, 10);
  l.set(5, 9);
  for (let slot = 0; slot < 4; slot++) l.added(5, 0, slot);
  l.set(5, 2);
  assert.equal(l.room(5), -2);
  l.set(5, 5);
  assert.equal(l.room(5), 1);
});

test('zone limits: under the default a zone counts from its first commit, and shows only when asked for', () => {
  const l = new ZoneLimits(2, 10);
  l.set(DEFAULT_ZONE, 2);
  assert.equal(l.room(7), 2);
  l.added(7, 1, 9);
  assert.equal(l.room(7), 1);
  assert.equal(l.limitOf(7), 2);
  assert.deepEqual(l.zones(), []);
  assert.deepEqual(l.get(7), { zone: 7, limit: 2, count: 1 });
  l.set(7, 5);
  assert.deepEqual(l.zones(), [7]);
  assert.equal(l.room(7), 4);
});

test('zone limits: a deleted limit falls back to the default with its count, or is forgotten', () => {
  const l = new ZoneLimits(1, 10);
  l.set(DEFAULT_ZONE, 3);
  l.set(7, 5);
  l.added(7, 0, 1);
  l.remove(7);
  assert.equal(l.room(7), 2);
  l.remove(DEFAULT_ZONE);
  assert.equal(l.room(7), Infinity);
  l.set(7, 5);
  assert.equal(l.get(7).count, 0);
  l.removed(7, 0, 1); // counted by nobody any more
  assert.equal(l.room(7), 5);
  l.set(DEFAULT_ZONE, 0);
  l.remove(99);
  assert.equal(l.room(99), Infinity);
});

test('zone limits: say of a commit whether anybody counts it', () => {
  const l = new ZoneLimits(1, 10);
  assert.equal(l.added(5, 0, 0), false);
  l.set(5, 0);
  assert.equal(l.added(5, 0, 1), true);
  assert.equal(l.added(6, 0, 2), false);
  l.set(DEFAULT_ZONE, 1);
  assert.equal(l.added(6, 0, 3), true);
});

test('zone limits: agree with a plain count under random commits, removals and changes', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const r = new Random(seed);
    const l = new ZoneLimits(2, 64);
    /** By home and slot: the zone, and whether its entry counts it. */
    const live = new Map<string, { zone: number; entry: object | null }>();
    const entries = new Map<number, { limit: number | null }>();
    let byDefault = 0;
    for (let step = 0; step < 600; step++) {
      const zone = r.int(4);
      const home = r.int(2);
      const slot = r.int(64);
      const key = `${home}/${slot}`;
      const there = live.get(key);
      switch (r.int(8)) {
        case 0: {
          const limit = r.int(20);
          l.set(zone, limit);
          const entry = entries.get(zone);
          if (entry) entry.limit = limit;
          else entries.set(zone, { limit });
          break;
        }
        case 1:
          l.remove(zone);
          if (byDefault !== 0 && entries.has(zone))
            (entries.get(zone) as { limit: number | null }).limit = null;
          else entries.delete(zone);
          break;
        case 2:
          byDefault = r.once(3) ? 0 : 1 + r.int(20);
          l.set(DEFAULT_ZONE, byDefault);
          if (byDefault === 0) for (const [z, e] of entries) if (e.limit === null) entries.delete(z);
          break;
        default:
          if (there) {
            l.removed(there.zone, home, slot);
            live.delete(key);
          } else {
            l.added(zone, home, slot);
            if (byDefault !== 0 && !entries.has(zone)) entries.set(zone, { limit: null });
            live.set(key, { zone, entry: entries.get(zone) ?? null });
          }
      }
      for (let z = 0; z < 4; z++) {
        const entry = entries.get(z);
        const count = entry ? [...live.values()].filter((c) => c.entry === entry).length : 0;
        const limit = entry?.limit ?? byDefault;
        assert.deepEqual(l.get(z), { zone: z, limit, count }, `seed ${seed}, step ${step}`);
        const room = entry === undefined && byDefault === 0 ? Infinity : limit - count;
        assert.equal(l.room(z), room, `seed ${seed}, step ${step}`);
      }
    }
  }
});
