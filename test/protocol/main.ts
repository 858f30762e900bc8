/** `npm run model -- --seconds 600`: all interleavings of all scenarios, each for its share of the time; `--only NAME` (more
 *  than once) some of them, `--stops 2` those in which a thread is stopped so often where it could go on, and first of all
 *  with `--bugs` the deliberate mistakes. `--coverage` tells what no scenario has come by.
 *
 *  `--seed 7`: for as long scenarios that are drawn, each in some orders that are drawn; `--case 12` one of them again.
 *  Exit code 1 if anything is violated: what, and in which order threads ran. */
import { parseArgs } from 'node:util';
import { UNMODELLED, unreached } from './coverage.js';
import { exploreCase } from './drawn.js';
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
    coverage: { type: 'boolean', default: false },
    seed: { type: 'string' },
    case: { type: 'string' },
  },
});
const seconds = Number(values.seconds);
/** Orders that a drawn scenario is run in, and seconds at most. */
const ORDERS = 30;
const ORDERS_SECONDS = 5;

const copy = mirror();
const product = await load(copy);
if (values.bugs) await findBugs();
if (values.seed === undefined) exploreAll();
else exploreDrawn(Number(values.seed));
copy.remove();
if (values.coverage) {
  const why = new Map(UNMODELLED.flatMap(([reason, places]) => places.map((p) => [p, reason] as const)));
  for (const place of unreached(copy))
    console.log(`not reached: ${place} (${why.get(place) ?? 'NO REASON'})`);
}

async function findBugs(): Promise<void> {
  for (const { about, scenario, changes } of MUTANTS) {
    const wrong = mirror(changes);
    const played = SCENARIOS.find((s) => s.name === scenario)!;
    const stage = new Stage(await load(wrong), played, new Stage(product, played).want);
    const found = [1, 2].some((stops) => violationOf(stage, { ...limitsOf(1), stops }) instanceof Violation);
    wrong.remove();
    console.log(`${found ? 'found' : 'NOT FOUND'}: ${about}`);
    if (!found) process.exitCode = 1;
  }
}

function limitsOf(share: number): Limits {
  return {
    stops: values.stops === undefined ? Number.POSITIVE_INFINITY : Number(values.stops),
    runs: Number.POSITIVE_INFINITY,
    seconds: seconds * share,
    timeouts: 0,
  };
}

/** What has been explored, or what was violated. */
function violationOf(stage: Stage, limits: Limits): ReturnType<typeof explore> | Violation {
  try {
    return explore(stage.make, limits);
  } catch (error) {
    if (error instanceof Violation) return error;
    throw error;
  }
}

function exploreAll(): void {
  const chosen = SCENARIOS.filter((s) => values.only.length === 0 || values.only.includes(s.name));
  for (const scenario of chosen) {
    const began = performance.now();
    const got = violationOf(new Stage(product, scenario), limitsOf(1 / chosen.length));
    const name = scenario.name.padEnd(24);
    if (got instanceof Violation) violated(name, got);
    else {
      const { runs, states, complete } = got;
      const took = ((performance.now() - began) / 1000).toFixed(1);
      console.log(`${name} ${runs} runs, ${states} states in ${took} s: ${complete ? 'all' : 'no end'}`);
    }
  }
}

function exploreDrawn(seed: number): void {
  const until = performance.now() + seconds * 1000;
  let runs = 0;
  const [first, last] =
    values.case === undefined
      ? [0, Number.POSITIVE_INFINITY]
      : [Number(values.case), Number(values.case) + 1];
  let n = first;
  for (; n < last && performance.now() < until; n++) {
    const got = exploreCase(product, seed, n, ORDERS, ORDERS_SECONDS);
    if (got.violation === null) runs += got.runs;
    else
      violated(
        `--seed ${seed} --case ${n} ${JSON.stringify({ ...got.scenario, packets: undefined })}`,
        got.violation,
      );
  }
  console.log(`${n - first} drawn scenarios, ${runs} runs`);
}

function violated(what: string, { message }: Violation): void {
  console.log(`${what} VIOLATED: ${message}`);
  process.exitCode = 1;
}
