/** When a slot that all workers may have found is free again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CommonEpoch } from '../../../src/coordinator/common-epoch.js';
import { CTL_ASLEEP, CTL_EPOCH, CTL_LINE, ctlWords } from '../../../src/shm/layouts.js';

test('common epoch: moves on when every worker has finished a vector since, or sleeps', () => {
  const ctl = new Int32Array(new SharedArrayBuffer(ctlWords(3) * 4));
  const line = (worker: number) => (2 * worker + 2) * CTL_LINE;
  const finishes = (worker: number) => Atomics.add(ctl, line(worker) + CTL_EPOCH, 1);
  const epoch = new CommonEpoch(ctl, 3);
  const before = epoch.now();
  finishes(0);
  finishes(1);
  finishes(1);
  assert.equal(epoch.now(), before);
  finishes(2);
  assert.equal(epoch.now(), before + 1);
  assert.equal(epoch.now(), before + 1);
  // One that sleeps holds nothing.
  finishes(0);
  finishes(2);
  Atomics.store(ctl, line(1) + CTL_ASLEEP, 1);
  assert.equal(epoch.now(), before + 2);
  Atomics.store(ctl, line(1) + CTL_ASLEEP, 0);
  finishes(0);
  finishes(2);
  assert.equal(epoch.now(), before + 2);
  finishes(1);
  assert.equal(epoch.now(), before + 3);
});
