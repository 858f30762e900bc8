/** `npm run faults`: what goes wrong around a run, from outside.
 *
 *      npm run faults -- --seconds 600 --seed 1 [CAPTURE...]  each call of each command, in a drawn order; kills
 *      npm run faults -- --only resume --fault EIO            commands whose name has that, one kind of fault (repeatable)
 *      npm run faults -- --only 'again and again'             kills only
 *
 *  Exit code 1 if an outcome is none of: all is as undisturbed; a message, an exit code, and nothing that looks whole
 *  and is not. Without captures one is made. Needs Linux and, for calls, a C compiler called cc. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Random } from '../../src/generate/random.js';
import { KillLoop } from './kill.js';
import { CLI, COMMANDS, type Command, casesOf, Sweep } from './sweep.js';

const AGAIN = 'analyze --resume, killed again and again';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string', default: '600' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string', multiple: true, default: [''] },
    fault: { type: 'string', multiple: true, default: [] },
  },
});
const seed = Number(values.seed);
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-sweep-'));
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
const flows = fileURLToPath(new URL('../../../fixtures/flows/firewall.txt', import.meta.url));
const wanted = (name: string) => values.only.some((text) => name.includes(text));
const commands = COMMANDS.filter((c) => wanted(c.name));
const captures = positionals.length > 0 ? positionals : [null];
const parts = captures.length * (commands.length + (wanted(AGAIN) ? 1 : 0));
const share = (Number(values.seconds) * 1000) / parts;
let broken = 0;

for (const [i, given] of captures.entries()) {
  const own = path.join(folder, String(i));
  fs.mkdirSync(own);
  if (given !== null) console.log(`${given}:`);
  if (commands.length > 0) {
    const sweep = new Sweep(path.join(own, 'sweep'), given ?? made(4000, 700), flows);
    for (const command of commands) sweepOver(sweep, command);
  }
  if (wanted(AGAIN)) {
    const kills = path.join(own, 'kill');
    fs.mkdirSync(kills);
    const loop = new KillLoop(kills, path.resolve(given ?? made(100_000, 10_000)), seed);
    const { rounds, kills: n, faults, wrong } = await loop.run(performance.now() + share);
    for (const text of wrong) console.log(`${AGAIN}: ${text}`);
    broken += wrong.length;
    console.log(
      `${AGAIN}: ${rounds} rounds, ${n} kills, ${faults} workers that failed; ${wrong.length} are wrong`,
    );
  }
}
console.log(`${broken} are wrong`);
process.exitCode = broken === 0 ? 0 : 1;

function made(packets: number, connections: number): string {
  const capture = path.join(folder, `made-${packets}.pcap`);
  const wants = ['--packets', String(packets), '--connections', String(connections), '--quiet'];
  spawnSync(process.execPath, [CLI, 'generate', 'imix', capture, ...wants]);
  return capture;
}

function sweepOver(sweep: Sweep, command: Command): void {
  const began = performance.now();
  let calls: number;
  try {
    calls = sweep.calls(command);
  } catch (error) {
    console.log(`${command.name}: left out: ${(error as Error).message}`);
    return;
  }
  const all = casesOf(command, calls, new Random(seed)).filter(
    (c) => values.fault.length === 0 || values.fault.includes(c.fault),
  );
  let [n, failed, before] = [0, 0, broken];
  for (; n < all.length && performance.now() - began < share; n++) {
    const { call, code, err, wrong } = sweep.run(all[n]);
    if (code !== 0) failed++;
    if (wrong.length === 0) continue;
    broken++;
    const { fault, at, ever } = all[n];
    console.log(
      `${command.name}: ${fault}${ever ? ' from' : ' at'} call ${at} (${call}) on: exit code ${code}\n` +
        `${wrong.map((w) => `    ${w}\n`).join('')}${err.replaceAll(/^/gm, '    | ')}`,
    );
  }
  console.log(
    `${command.name}: ${n} of ${all.length} cases, ${failed} ended with a fault, the others as if there were none; ${broken - before} are wrong`,
  );
}
