/** `npm run fuzz`: hostile input for everything that reads some.
 *
 *      npm run fuzz -- --minutes 60                     all fuzzers, each its share of the time
 *      npm run fuzz -- --minutes 5 --only replay        one of them (repeatable)
 *      npm run fuzz -- --minutes 5 CAPTURE...           these captures, and all below folders, are mutated, too
 *      npm run fuzz -- --keep                           adds inputs that make new code run to fixtures/fuzz
 *      npm run fuzz -- --seed 7                         the same inputs again; else the seed is drawn, and printed
 *      npm run fuzz -- --bug                            with a deliberate mistake in each: all must find it
 *      npm run fuzz -- --mutants [--only slices]        mistakes in the product, most of them writes beyond a table
 *
 *  Exit code 1 if something is broken: what, and the input in hex, is printed; --run TARGET=HEX runs one input. */
import { parseArgs } from 'node:util';
import { addCaptures } from '../support/captures.js';
import { unhex } from '../support/packets.js';
import { SMALL_TABLES } from '../support/small.js';
import { addToCorpus } from './corpus.js';
import { fuzz, NAMES, type Outcome } from './fuzz.js';
import { copyWith, FUZZ_MUTANTS, mutated } from './mutants.js';
import { TARGETS } from './targets.js';

/** Shares of the time: replays run everything. */
const SHARES: Readonly<Record<string, number>> = { replay: 4, conversations: 2, frames: 2, compressed: 2 };
const GUARDED = ', bounds checked';
const SMALL = ', small tables';
/** The same once more, otherwise. */
const VARIANTS = [`replay${GUARDED}`, `replay${SMALL}`, `conversations${SMALL}`];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    minutes: { type: 'string', default: '1' },
    seed: { type: 'string' },
    only: { type: 'string', multiple: true, default: [] },
    keep: { type: 'boolean', default: false },
    bug: { type: 'boolean', default: false },
    blind: { type: 'boolean', default: false },
    mutants: { type: 'boolean', default: false },
    run: { type: 'string' },
  },
});

addCaptures(positionals);
if (values.run !== undefined) {
  const [name, hex] = values.run.split('=');
  const make = TARGETS[NAMES.indexOf(name)];
  if (make === undefined) throw new Error(`no fuzzer ${name}; there are ${NAMES.join(', ')}`);
  console.log(await make(false).run(unhex(hex)));
} else {
  process.exitCode = await (values.mutants ? mutants() : all());
}

/** Each of FUZZ_MUTANTS for a minute at most. */
async function mutants(): Promise<number> {
  let missed = 0;
  const { only } = values;
  for (const mutant of FUZZ_MUTANTS.filter((m) => only.length === 0 || only.includes(m.target))) {
    const copy = mutated(mutant);
    const { target, guard = false } = mutant;
    const seed = values.seed === undefined ? 1 : Number(values.seed);
    const { broken, progress } = await fuzz(target, {
      seed,
      seconds: 60,
      guard,
      blind: true,
      loop: copy.loop,
    });
    copy.remove();
    const why = broken?.why.split('\n')[0] ?? 'nothing broken';
    const found = broken !== null && mutant.finds.test(broken.why);
    if (!found) missed++;
    console.log(
      `${found ? 'found' : 'NOT FOUND'} after ${progress.inputs} inputs: ${mutant.about}: ${why.slice(0, 120)}`,
    );
  }
  return missed === 0 ? 0 : 1;
}

async function all(): Promise<number> {
  const seed = values.seed === undefined ? (Math.random() * 2 ** 31) | 0 : Number(values.seed);
  const names = [...NAMES, ...VARIANTS].filter((n) => values.only.length === 0 || values.only.includes(n));
  if (names.length === 0)
    throw new Error(`no fuzzer of these; there are ${[...NAMES, ...VARIANTS].join('; ')}`);
  const share = (name: string): number => SHARES[name] ?? 1;
  const shares = names.reduce((sum, n) => sum + share(n), 0);
  console.log(`seed ${seed}`);
  const sums = { files: 0, packets: 0 };
  let failures = 0;
  for (const name of names) {
    const seconds = (Number(values.minutes) * 60 * share(name)) / shares;
    const guard = name.endsWith(GUARDED);
    const bug = values.bug ? 'property' : 'none';
    const copy = name.endsWith(SMALL) ? copyWith(SMALL_TABLES) : null;
    const o = { seed, seconds, guard, bug, blind: values.blind } as const;
    const outcome = await fuzz(name.split(',')[0], copy === null ? o : { ...o, loop: copy.loop });
    copy?.remove();
    sums.files += outcome.progress.files;
    sums.packets += outcome.progress.packets;
    console.log(line(name, outcome));
    if (outcome.broken !== null) {
      console.log(`  ${outcome.broken.why.replaceAll('\n', '\n  ')}`);
      console.log(`  --run ${outcome.target}=${outcome.broken.input}`);
    }
    if ((outcome.broken !== null) !== values.bug) failures++;
    if (values.keep && outcome.kept.length > 0) {
      addToCorpus(
        outcome.target,
        outcome.kept.map((hex) => ({ hex })),
      );
    }
  }
  console.log(
    `${count(sums.packets)} packets and ${count(sums.files)} files; ${failures === 0 ? 'as expected' : `${failures} fuzzers not as expected`}`,
  );
  return failures === 0 ? 0 : 1;
}

function count(n: number): string {
  return n.toLocaleString('en-US');
}

function line(name: string, { progress: p, broken }: Outcome): string {
  return [
    name.padEnd(24),
    `${count(p.inputs)} inputs`,
    `${count(p.files)} files`,
    `${count(p.packets)} packets`,
    `${count(p.blocks)} blocks`,
    `${p.kept} kept`,
    `${count(p.audits)} audits`,
    `${Math.round(p.peakBytes / 2 ** 20)} MiB, ${Math.round(p.heldBytes / 2 ** 20)} without garbage`,
    broken === null ? 'nothing broken' : 'BROKEN',
  ].join(', ');
}
