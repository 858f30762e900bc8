/** Threads that are slow, crowded or squeezed: packets, tables and schedules from a seed; `npm run schedules` is the long run.
 *
 *  SHARDTRACK_SCHEDULES_RUNS=N draws N of each kind; SHARDTRACK_SCHEDULES_SEED=S begins with seed S. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Random } from '../support/packets.js';
import { difference, run } from '../support/run.js';
import { drawCase, KINDS, play } from './play.js';

const RUNS = Number(process.env.SHARDTRACK_SCHEDULES_RUNS ?? 2);
const FIRST = Number(process.env.SHARDTRACK_SCHEDULES_SEED ?? 1);

test('schedules: tables, groups, translation, recorded scenarios: nothing comes out but what comes out without workers', async () => {
  for (let seed = FIRST; seed < FIRST + RUNS * KINDS.length; seed++) {
    const { wrong } = await play(seed, KINDS[seed % KINDS.length], 60);
    assert.equal(wrong, null);
  }
});

test('schedules: packets do not overtake answers that tell of earlier ones, however little a ring holds', async () => {
  // Answers that are let go, and others behind them; the rings hold less than any message, so most wait for room.
  let moved = 0;
  for (const seed of [1018, 1020, 1022]) {
    const r = new Random(seed);
    const { packets, options } = await drawCase(r, 'nat', 60);
    const want = await run(packets, options);
    const squeezed = { workers: 3, window: 2, vector: 12, jitter: seed, ringWords: 8, watchdog: 20 };
    const got = await run(packets, { ...options, ...squeezed });
    assert.equal(difference(want, got), null, `seed ${seed}`);
    moved += got.run.moved;
  }
  assert.ok(moved > 0, 'no packet changed its worker: this test tests little');
});
