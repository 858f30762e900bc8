/** When a run is taken for stuck. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Watchdog, type WorkerState } from '../../../src/coordinator/watchdog.js';

const state = (epoch: number, asleep = false): WorkerState => ({ epoch, asleep });

test('watchdog: packets in flight and none completed for so long: names the workers that have not moved', () => {
  let now = 0;
  const states = [state(5), state(7), state(9, true)];
  const dog = new Watchdog(10_000, () => states.map((s) => ({ ...s })));
  dog.look(now, 1, 10);
  for (; now < 9_900; now += 100) {
    states[1].epoch++;
    dog.look(now, 1, 10);
  }
  assert.throws(() => {
    for (let i = 0; i < 5; i++) {
      now += 100;
      dog.look(now, 1, 10);
    }
  }, /no packet of 9 in flight has been completed for 10 s: worker 0 is stuck; --watchdog SECONDS/);
  states[0].asleep = true;
  assert.throws(() => dog.look(now + 100, 1, 10), /all workers wait for something/);
});

test('watchdog: progress, an empty window, a stopped process and 0 are no faults', () => {
  const looks = (limit: number, step: number, completed: (n: number) => number, dispatched: number) => {
    const dog = new Watchdog(limit, () => [state(1)]);
    for (let n = 0; n < 100; n++) dog.look(n * step, completed(n), dispatched);
  };
  looks(1000, 100, (n) => n >> 3, 1000);
  looks(1000, 100, () => 50, 50);
  looks(0, 1000, () => 1, 50);
  // An hour between two looks counts half a second.
  const dog = new Watchdog(60_000, () => [state(1)]);
  for (let n = 0; n < 100; n++) dog.look(n * 3_600_000, 1, 50);
  assert.throws(() => {
    for (let n = 100; n < 130; n++) dog.look(n * 3_600_000, 1, 50);
  });
});
