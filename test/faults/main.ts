/** `npm run faults`: what goes wrong around a run, from outside.
 *
 *      npm run faults -- --seconds 600 --seed 1              each call of each command, in a drawn order
 *      npm run faults -- --only resume --fault EIO           commands whose name has that, one kind of fault (repeatable)
 *
 *  Exit code 1 if an outcome is none of: all is as undisturbed; a message, an exit code, and nothing that looks whole
 *  and is not. Needs Linux, and a C compiler called cc. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Random } from '../../src/generate/random.js';
import { CLI, COMMANDS, casesOf, Sweep } from './sweep.js';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '600' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string', multiple: true, default: [''] },
    fault: { type: 'string', multiple: true, default: [] },
    packets: { type: 'string', default: '4000' },
  },
});
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-sweep-'));
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
const random = new Random(Number(values.seed));
const capture = path.join(folder, 'made.pcap');
const made = ['generate', 'imix', capture, '--packets', values.packets, '--connections', '700', '--quiet'];
spawnSync(process.execPath, [CLI, ...made]);
const flows = fileURLToPath(new URL('../../../fixtures/flows/firewall.txt', import.meta.url));

const sweep = new Sweep(folder, capture, flows);
const commands = COMMANDS.filter((c) => values.only.some((name) => c.name.includes(name)));
const share = (Number(values.seconds) * 1000) / commands.length;
let broken = 0;
for (const command of commands) {
  const began = performance.now();
  const all = casesOf(command, sweep.calls(command), random).filter(
    (c) => values.fault.length === 0 || values.fault.includes(c.fault),
  );
  let n = 0;
  let noted = 0;
  for (; n < all.length && performance.now() - began < share; n++) {
    const { call, code, err, wrong } = sweep.run(all[n]);
    if (code !== 0) noted++;
    if (wrong.length === 0) continue;
    broken++;
    const { fault, at, ever } = all[n];
    console.log(
      `${command.name}: ${fault}${ever ? ' from' : ' at'} call ${at} (${call}) on: exit code ${code}\n` +
        `${wrong.map((w) => `    ${w}\n`).join('')}${err.replaceAll(/^/gm, '    | ')}`,
    );
  }
  console.log(
    `${command.name}: ${n} of ${all.length} cases, ${noted} of which did not end well; so far ${broken} are wrong`,
  );
}
process.exitCode = broken === 0 ? 0 : 1;
