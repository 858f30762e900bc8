/** No packet goes out that the policy forbids; `npm run policy` is the long run.
 *
 *  SHARDTRACK_POLICY_RUNS=N plays N policies; SHARDTRACK_POLICY_SEED=S begins with policy S. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { find, POLICY_MUTANTS } from './mutants.js';
import { play } from './play.js';
import { KINDS, type Kind } from './policy.js';

const RUNS = Number(process.env.SHARDTRACK_POLICY_RUNS ?? 10);
const FIRST = Number(process.env.SHARDTRACK_POLICY_SEED ?? 1);

test('policy: random policies and hostile traffic: nothing goes out that the policy forbids, 0 to 4 workers', async () => {
  const sums = { packets: 0, passed: 0, translated: 0, forbidding: 0 };
  for (let n = 0; n < RUNS; n++) {
    const played = await play(FIRST + n, 250, [0, [1, 2, 4][n % 3]], { kind: KINDS[n % KINDS.length] });
    assert.equal(played.wrong, null);
    for (const what of ['packets', 'passed', 'translated', 'forbidding'] as const) sums[what] += played[what];
  }
  const { packets, passed, translated, forbidding } = sums;
  assert.ok(passed > packets / 20, `${passed} of ${packets} packets went out`);
  assert.ok(translated > packets / 50, `${translated} of ${packets} packets were translated`);
  assert.ok(forbidding > packets / 2, `${forbidding} of ${packets} packets were forbidden anything`);
});

/** What is wrong with the switch's table, and not with the policy; in policies of which kind. */
const HOLES: readonly (readonly [about: string, kinds: readonly Kind[], hole: (text: string) => string])[] = [
  [
    'answers of connections that nobody has opened',
    KINDS,
    (text) => text.replaceAll(/ct_state=\+trk\+est/g, 'ct_state=+trk-inv'),
  ],
  [
    'what is denied',
    ['single', 'tenant', 'chain'],
    (text) => text.replaceAll(/.*tp_dst.*actions=drop\n/g, ''),
  ],
  ['one zone for all', ['tenant', 'chain', 'edge'], (text) => text.replaceAll(/zone=\d+/g, 'zone=3')],
  [
    'a second zone that asks for nothing',
    ['chain'],
    (text) => text.replaceAll(/(table=2,.*)ct_state=\S+?,/g, '$1'),
  ],
  ['no commit', ['tenant'], (text) => text.replaceAll(/ct\(commit[^()]*(\([^()]*\))?\),/g, '')],
  ['no mark', ['tenant', 'chain'], (text) => text.replaceAll(/,exec\([^)]*\)/g, '')],
  ['a mark that is not asked for', ['tenant'], (text) => text.replaceAll(/,ct_(mark|label)=1/g, '')],
  ['no translation', ['nat', 'edge'], (text) => text.replaceAll(/,nat\([^)]*\)/g, '')],
  [
    'a range of other addresses',
    ['nat', 'edge'],
    (text) => text.replaceAll('10.9.0.', '10.7.0.').replaceAll('fd00:9:', 'fd00:7:'),
  ],
  ['a range of other ports', ['nat', 'edge'], (text) => text.replaceAll(/:\d+-\d+([,)])/g, ':7000-7009$1')],
  ['answers that are not translated', ['nat'], (text) => text.replaceAll('ct(nat,', 'ct(')],
  [
    'hosts that the balanced address does not stand for',
    ['nat'],
    (text) =>
      text.replaceAll(/nat\(dst=[^)]*/g, (to) =>
        to.replaceAll('10.0.0.', '10.0.5.').replaceAll('fd00::', 'fd00:5::'),
      ),
  ],
];

for (const [about, kinds, hole] of HOLES) {
  test(`policy: a hole in the switch is found: ${about}`, async () => {
    for (const kind of kinds) {
      let found = false;
      for (let seed = 1; seed <= 30 && !found; seed++)
        found = (await play(seed, 250, [0], { kind, hole })).wrong !== null;
      assert.ok(found, kind);
    }
  });
}

test('policy: a mistake in the product is found', async () => {
  const mutant = POLICY_MUTANTS.find((m) => /zone is left out/.test(m.about))!;
  assert.notEqual(await find(mutant, 1, 20), null);
});
