import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sharesOf, simulate, type Tandem } from '../../../bench/model/tandem.js';

const BASE: Tandem = {
  ...{ cores: 2, dispatchers: 1, shares: sharesOf(1), dispatch: 10, collect: 10, work: 100 },
  ...{ wake: 0, window: 16384, burst: 1024, vector: 256 },
};
const mpps = (t: Partial<Tandem>) => simulate({ ...BASE, ...t }, 500_000).mpps;
const near = (is: number, wanted: number) =>
  assert.ok(Math.abs(is / wanted - 1) < 0.05, `${is}, not ${wanted}`);

test('model: the slowest station sets the pace', () => {
  near(mpps({}), 10);
  near(mpps({ work: 5 }), 50);
});

test('model: threads share what cores there are', () => {
  near(mpps({ cores: 1 }), 1000 / 120);
  // Two workers and the main thread on two cores: 120 ns of work a packet.
  near(mpps({ shares: sharesOf(2) }), 2000 / 120);
  near(mpps({ shares: sharesOf(2), cores: 3 }), 20);
});

test('model: one dispatcher feeds so many workers and no more, two twice as many', () => {
  near(mpps({ shares: sharesOf(8), cores: 9 }), 50);
  near(mpps({ shares: sharesOf(8), cores: 10, dispatchers: 2 }), 80);
});

test('model: uneven shares leave the others waiting', () => {
  near(mpps({ shares: [0.75, 0.25], cores: 3 }), 1000 / 75);
  assert.ok(sharesOf(3).every((s) => s >= 42 / 128 && s <= 43 / 128));
});
