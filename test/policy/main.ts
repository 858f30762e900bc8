/** `npm run policy -- --policies 1000 --packets 1000 --seed 1`: random firewalls, hostile traffic, 0, 1, 2 and 4 workers.
 *  `--seconds N` stops then, and says how far it has come; the next ones have the seeds behind that. */
import { parseArgs } from 'node:util';
import { play } from './play.js';

const { values } = parseArgs({
  options: {
    policies: { type: 'string', default: '1000' },
    packets: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '1' },
    workers: { type: 'string', default: '0,1,2,4' },
    seconds: { type: 'string', default: 'Infinity' },
  },
});
const workers = values.workers.split(',').map(Number);
const sums = { packets: 0, passed: 0, forbidding: 0 };
const wrong: string[] = [];
let n = 0;
for (; n < Number(values.policies) && performance.now() < Number(values.seconds) * 1000; n++) {
  const played = await play(Number(values.seed) + n, Number(values.packets), workers);
  sums.packets += played.packets;
  sums.passed += played.passed;
  sums.forbidding += played.forbidding;
  if (played.wrong !== null) {
    wrong.push(played.wrong);
    console.log(played.wrong);
  }
}
console.log(
  `${n} policies from ${values.seed} on, ${values.workers} workers: ${sums.packets} packets, ${sums.passed} went out, ` +
    `${sums.forbidding} were forbidden a port; ${wrong.length} policies violated`,
);
process.exitCode = wrong.length === 0 ? 0 : 1;
