/** `npm run policy -- --policies 1000 --packets 1000 --seed 1`: random firewalls, hostile traffic, 0, 1, 2 and 4 workers. */
import { parseArgs } from 'node:util';
import { play } from './play.js';

const { values } = parseArgs({
  options: {
    policies: { type: 'string', default: '1000' },
    packets: { type: 'string', default: '1000' },
    seed: { type: 'string', default: '1' },
    workers: { type: 'string', default: '0,1,2,4' },
  },
});
const workers = values.workers.split(',').map(Number);
const sums = { packets: 0, passed: 0, forbidding: 0 };
const wrong: string[] = [];
for (let n = 0; n < Number(values.policies); n++) {
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
  `${values.policies} policies, ${values.workers} workers: ${sums.packets} packets, ${sums.passed} went out, ` +
    `${sums.forbidding} were forbidden a port; ${wrong.length} policies violated`,
);
process.exitCode = wrong.length === 0 ? 0 : 1;
