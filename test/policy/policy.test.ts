/** No packet goes out that the policy forbids; `npm run policy` is the long run.
 *
 *  SHARDTRACK_POLICY_RUNS=N plays N policies; SHARDTRACK_POLICY_SEED=S begins with policy S. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Random } from '../support/packets.js';
import { policy } from './model.js';
import { play } from './play.js';

const RUNS = Number(process.env.SHARDTRACK_POLICY_RUNS ?? 12);
const FIRST = Number(process.env.SHARDTRACK_POLICY_SEED ?? 1);

test('policy: random firewalls and hostile traffic: nothing goes out that the policy forbids, 0 to 4 workers', async () => {
  const sums = { packets: 0, passed: 0, forbidding: 0 };
  for (let n = 0; n < RUNS; n++) {
    const { packets, passed, forbidding, wrong } = await play(FIRST + n, 250, [0, [1, 2, 4][n % 3]]);
    assert.equal(wrong, null);
    sums.packets += packets;
    sums.passed += passed;
    sums.forbidding += forbidding;
  }
  assert.ok(sums.passed > sums.packets / 20, `${sums.passed} of ${sums.packets} packets went out`);
  assert.ok(
    sums.forbidding > sums.packets / 2,
    `${sums.forbidding} of ${sums.packets} packets were forbidden anything`,
  );
});

test('policy: a hole in the switch is found', async () => {
  let found = 0;
  const seeds = [1, 2, 3, 4, 5];
  for (const seed of seeds) {
    // Answers of connections that nobody has opened.
    const hole = policy(new Random(seed)).flows.replaceAll(/ct_state=\+trk\+est/g, 'ct_state=+trk-inv');
    if ((await play(seed, 250, [0], hole)).wrong !== null) found++;
  }
  assert.ok(found > 0, 'none of them was found');
});
