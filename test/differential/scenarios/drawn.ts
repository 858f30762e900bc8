/** A few cases of each protocol fuzzer (../fuzz), with each of its flow tables. `npm run oracle:fuzz` draws as many more
 *  as one likes. */
import { BETWEEN_S, FUZZERS, playCase } from '../fuzz/index.js';
import type { Scenario } from './script.js';

const SEED = 100;
/** Fragments are large. */
const CASES: Readonly<Record<string, number>> = { fragments: 1 };

export const drawnScenarios: readonly Scenario[] = FUZZERS.flatMap((f) =>
  f.tables.map(
    (flows, table): Scenario => ({
      name: `drawn-${f.name}-${table + 1}`,
      about: `drawn at random (seed ${SEED}): ${f.about}`,
      flows,
      ports: f.ports,
      play: (s) => {
        for (let n = 0; n < (CASES[f.name] ?? 2); n++) {
          if (n > 0) s.wait(BETWEEN_S);
          playCase(s, f, SEED, 10 * table + n, table);
        }
      },
    }),
  ),
);
