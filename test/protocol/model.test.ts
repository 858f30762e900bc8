import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { UNMODELLED, unreached } from './coverage.js';
import { exploreCase } from './drawn.js';
import { explore, type Limits, Violation } from './explore.js';
import { type Mirror, mirror } from './mirror.js';
import { MUTANTS, RING_MUTANTS } from './mutants.js';
import { load, type Product, type Rings, ringStage, SCENARIOS, type Scenario, Stage } from './scenarios.js';

const EVERYTHING: Limits = { stops: Number.POSITIVE_INFINITY, runs: 20_000, timeouts: 0 };
/** One thread is stopped once where it could go on, at every place, for as long as it takes the others to sleep. */
const ONE_STOP: Limits = { stops: 1, runs: 120, timeouts: 0 };
/** The same where messages go through a ring word by word, or there are many packets: runs are long. */
const LONG_RUNS: Limits = { ...ONE_STOP, runs: 25 };
const limitsOf = ({ ringWords, packets }: Scenario): Limits =>
  ringWords !== undefined || packets.length > 20 ? LONG_RUNS : ONE_STOP;
/** Drawn scenarios, and orders of each. */
const DRAWN = 20;
const ORDERS = 8;
/** What a mistake may take to be found. */
const SEARCH: Limits = { stops: 2, runs: 1500, timeouts: 0 };

const MESSAGES = [[11], [21, 22, 23], []];

describe('protocol: rings, all interleavings', () => {
  test('messages longer than the ring come out whole and in order', async () => {
    const copy = mirror([], true);
    const rings = await copy.load<Rings>('rings/words.js');
    for (const capacity of [1, 2, 5]) {
      const { complete, states } = explore(ringStage(rings, capacity, MESSAGES), EVERYTHING);
      assert.ok(complete && states > 20, `${states} states of a ring of ${capacity}`);
    }
    copy.remove();
  });

  for (const { about, changes } of RING_MUTANTS) {
    test(`found: ${about}`, async () => {
      const copy = mirror(changes, true);
      const rings = await copy.load<Rings>('rings/words.js');
      assert.throws(() => explore(ringStage(rings, 2, MESSAGES), EVERYTHING), Violation);
      copy.remove();
    });
  }
});

describe('protocol: main thread and workers', () => {
  let copy: Mirror;
  let product: Product;
  before(async () => {
    copy = mirror();
    product = await load(copy);
  });
  after(() => copy.remove());

  test('alone, all interleavings', () => {
    const stage = new Stage(product, SCENARIOS.find((s) => s.name === 'alone')!);
    const { complete, states } = explore(stage.make, EVERYTHING);
    assert.ok(complete && states > 100, `${states} states`);
  });

  for (const scenario of SCENARIOS) {
    test(`${scenario.name}: ${scenario.about}`, () => {
      const { runs } = explore(new Stage(product, scenario).make, limitsOf(scenario));
      assert.ok(runs > 5, `${runs} runs`);
    });
  }

  test('all that threads do with each other has been come by, as far as it is not known why not', () => {
    assert.deepEqual(unreached(copy), UNMODELLED.flatMap(([, places]) => places).sort());
  });

  test('drawn scenarios, in drawn orders', () => {
    const seed = Number(process.env.SHARDTRACK_SEED ?? 1);
    for (let n = 0; n < DRAWN; n++) {
      const { violation } = exploreCase(product, seed, n, ORDERS);
      assert.ifError(
        violation && new Error(`npm run model -- --seed ${seed} --case ${n}`, { cause: violation }),
      );
    }
  });

  for (const { about, scenario, changes } of MUTANTS) {
    test(`found: ${about}`, async () => {
      const wrong = mirror(changes);
      try {
        const played = SCENARIOS.find((s) => s.name === scenario)!;
        const stage = new Stage(await load(wrong), played, new Stage(product, played).want);
        assert.throws(() => {
          explore(stage.make, limitsOf(played));
          explore(stage.make, SEARCH);
        }, Violation);
      } finally {
        wrong.remove();
      }
    });
  }
});
