/** `npm run policy -- --policies 1000 --packets 1000 --seed 1`: random policies, hostile traffic, 0, 1, 2 and 4 workers.
 *  `--seconds N` stops then, and says how far it has come; the next ones have the seeds behind that. `--kind nat`: such
 *  policies only. `--bugs`: mistakes in copies of the product, which must be found.
 *  `--ovs DIR`: the model beside Open vSwitch, of a build tree. */
import { parseArgs } from 'node:util';
import { find, POLICY_MUTANTS } from './mutants.js';
import { judgeModel } from './ovs.js';
import { play } from './play.js';
import { KINDS } from './policy.js';

const { values } = parseArgs({
  options: {
    policies: { type: 'string', default: '1000' },
    packets: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '1' },
    workers: { type: 'string', default: '0,1,2,4' },
    seconds: { type: 'string', default: 'Infinity' },
    kind: { type: 'string' },
    bugs: { type: 'boolean', default: false },
    ovs: { type: 'string' },
  },
});
const seed = Number(values.seed);
process.exitCode = (await chosen()) ? 0 : 1;

function chosen(): Promise<boolean> {
  const count = { seed, policies: Number(values.policies), packets: Number(values.packets) };
  if (values.ovs !== undefined) return judgeModel(values.ovs, count);
  return values.bugs ? bugs() : policies();
}

async function policies(): Promise<boolean> {
  const workers = values.workers.split(',').map(Number);
  const kind = KINDS.find((k) => k === values.kind);
  if (values.kind !== undefined && kind === undefined)
    throw new Error(`--kind ${values.kind}: there are ${KINDS.join(', ')}`);
  const sums = { packets: 0, passed: 0, translated: 0, forbidding: 0 };
  const kinds = KINDS.map(() => 0);
  let nWrong = 0;
  let n = 0;
  for (; n < Number(values.policies) && performance.now() < Number(values.seconds) * 1000; n++) {
    const played = await play(seed + n, Number(values.packets), workers, kind === undefined ? {} : { kind });
    for (const what of ['packets', 'passed', 'translated', 'forbidding'] as const) sums[what] += played[what];
    kinds[KINDS.indexOf(played.kind)]++;
    if (played.wrong === null) continue;
    nWrong++;
    console.log(played.wrong);
  }
  console.log(
    `${n} policies (${KINDS.map((k, i) => `${kinds[i]} ${k}`).join(', ')}) from ${seed} on, ${values.workers} workers: ` +
      `${sums.packets} packets, ${sums.passed} went out, ${sums.translated} of them translated, ` +
      `${sums.forbidding} were forbidden a port; ${nWrong} policies violated`,
  );
  return nWrong === 0;
}

async function bugs(): Promise<boolean> {
  let all = true;
  for (const mutant of POLICY_MUTANTS) {
    const found = await find(mutant, seed, 60);
    console.log(`${found === null ? 'NOT FOUND' : 'found'}: ${mutant.about}`);
    if (found !== null) console.log(`  ${found.wrong!.split('\n')[0].slice(0, 160)}`);
    all &&= found !== null;
  }
  return all;
}
