/** `npm run schedules -- --minutes 10 --seed 1 [--only KIND] [--core 0] [CAPTURE...]`: packets, tables and schedules from a
 *  seed; every run must give what the run without workers gives. `--core`: all threads on this processor. Captures, and all below
 *  folders, are played beside the shipped ones by the kind `captured`, and nothing else unless --only says so. */
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { addCaptures } from '../support/captures.js';
import { KINDS, type Kind, play } from './play.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    minutes: { type: 'string', default: '1' },
    seed: { type: 'string', default: '1' },
    packets: { type: 'string', default: '200' },
    only: { type: 'string', multiple: true },
    core: { type: 'string' },
  },
});
addCaptures(positionals);
const kinds = (values.only ?? (positionals.length > 0 ? ['captured'] : KINDS)) as Kind[];
const unknown = kinds.find((kind) => !KINDS.includes(kind));
if (unknown !== undefined) throw new Error(`--only ${unknown}: expected one of ${KINDS.join(', ')}`);
if (values.core !== undefined) {
  // Threads that are yet to come inherit it.
  const { status } = spawnSync('taskset', ['-acp', values.core, String(process.pid)], { stdio: 'ignore' });
  if (status !== 0) throw new Error(`--core ${values.core}: taskset can't do that`);
}
const until = performance.now() + Number(values.minutes) * 60_000;
const runs: Record<string, number> = {};
let packets = 0;
let moved = 0;
let wrong = 0;
let seed = Number(values.seed);
for (; performance.now() < until; seed++) {
  const kind = kinds[seed % kinds.length];
  const played = await play(seed, kind, Number(values.packets));
  runs[kind] = (runs[kind] ?? 0) + 1;
  packets += played.packets;
  moved += played.moved;
  if (played.wrong === null) continue;
  wrong++;
  console.log(played.wrong);
}
console.log(
  `seeds ${values.seed} to ${seed - 1}: ${Object.entries(runs)
    .map(([kind, n]) => `${kind} ${n}`)
    .join(', ')}; ${packets} packets, of which ${moved} changed their worker; ${wrong} runs differ`,
);
process.exitCode = wrong === 0 ? 0 : 1;
