/** `npm run model -- --seconds 600`: all interleavings of all scenarios, each for its share of the time; `--only NAME` (more
 *  than once) some of them, `--stops 2` those in which a thread is stopped so often where it could go on, and first of all
 *  with `--bugs` the deliberate mistakes. Exit code 1 if anything is violated: what, and in which order threads ran. */
import { parseArgs } from 'node:util';
import { explore, type Limits, Violation } from './explore.js';
import { mirror } from './mirror.js';
import { MUTANTS } from './mutants.js';
import { load, SCENARIOS, Stage } from './scenarios.js';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '30' },
    only: { type: 'string', multiple: true, default: [] },
    stops: { type: 'string' },
    bugs: { type: 'boolean', default: false },
  },
});
const chosen = SCENARIOS.filter((s) => values.only.length === 0 || values.only.includes(s.name));
const limits: Limits = {
  stops: values.stops === undefined ? Number.POSITIVE_INFINITY : Number(values.stops),
  runs: Number.POSITIVE_INFINITY,
  seconds: Number(values.seconds) / chosen.length,
  timeouts: 0,
};

const copy = mirror();
const product = await load(copy);
if (values.bugs) {
  for (const { about, scenario, changes } of MUTANTS) {
    const wrong = mirror(changes);
    const played = SCENARIOS.find((s) => s.name === scenario)!;
    const stage = new Stage(await load(wrong), played, new Stage(product, played).want);
    let found = false;
    try {
      explore(stage.make, { ...limits, stops: 2 });
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      found = true;
    }
    wrong.remove();
    console.log(`${found ? 'found' : 'NOT FOUND'}: ${about}`);
    if (!found) process.exitCode = 1;
  }
}
for (const scenario of chosen) {
  const began = performance.now();
  try {
    const { runs, states, complete } = explore(new Stage(product, scenario).make, limits);
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    console.log(
      `${scenario.name.padEnd(12)} ${runs} runs, ${states} states in ${seconds} s: ${complete ? 'all' : 'no end'}`,
    );
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    console.log(`${scenario.name.padEnd(12)} VIOLATED: ${error.message}`);
    process.exitCode = 1;
  }
}
copy.remove();
