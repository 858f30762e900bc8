/** npm run scenario -- NAME [options of shardtrack replay]: runs a scenario of docs/scenarios.
 *
 *  Three come with their traffic. That of `carrier-nat` (100,000 subscribers) is made first, in a temporary folder;
 *  --subscribers N and --workers N are its options. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { wholeNumber } from '../../src/cli/options.js';
import { carrier } from './carrier.js';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const SCENARIOS = path.join(ROOT, 'fixtures', 'scenarios');
const CLI = path.join(ROOT, 'dist', 'src', 'cli', 'main.js');
const CARRIER = 'carrier-nat';

const count = (n: number) => n.toLocaleString('en-US');

/** Arguments of `shardtrack replay` for a scenario that comes with its traffic. */
function argumentsOf(name: string): string[] {
  const folder = path.relative(process.cwd(), path.join(SCENARIOS, name));
  const file = (f: string) => path.join(folder, f);
  const args = ['replay', file('traffic.pcapng'), '--ports', '1,2,3,4', '--flows', file('flows.txt')];
  if (fs.existsSync(file('groups.txt'))) args.push('--groups', file('groups.txt'));
  if (fs.existsSync(file('events.ndjson'))) args.push('--events', file('events.ndjson'));
  return args;
}

async function runCarrier(o: { subscribers: number; each: number; workers: number }): Promise<void> {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'scenario-'));
  try {
    const r = await carrier({ ...o, dir });
    process.stdout.write(
      `${count(o.subscribers)} subscribers, ${count(r.connections)} connections, ${o.workers} worker(s)\n\n`,
    );
    for (const [i, { subscribers, connections }] of r.outside.entries()) {
      process.stdout.write(
        `203.0.113.${i + 1}  ${count(subscribers).padStart(8)} subscribers ${count(connections).padStart(9)} connections\n`,
      );
    }
    process.stdout.write(
      `\nout of range ${r.outOfRange}, subscribers with a second address ${r.wandering}, ` +
        `connections that look alike ${r.confused}\n` +
        `${count(r.home)} of ${count(r.answers)} answers came home\n`,
    );
    if (r.outOfRange + r.wandering + r.confused > 0 || r.home !== r.answers) process.exitCode = 1;
  } finally {
    fs.rmSync(dir, { recursive: true, force: true });
  }
}

const program = new Command('scenario').description('runs a scenario of docs/scenarios');
for (const name of fs.readdirSync(SCENARIOS).sort()) {
  if (name === CARRIER) continue;
  program
    .command(name)
    .argument('[options...]', 'further options of shardtrack replay')
    .allowUnknownOption()
    .helpOption(false)
    .action((rest: string[]) => {
      const args = [...argumentsOf(name), ...rest];
      process.stderr.write(`npx shardtrack ${args.join(' ')}\n\n`);
      process.exitCode = spawnSync(process.execPath, [CLI, ...args], { stdio: 'inherit' }).status ?? 1;
    });
}
program
  .command(CARRIER)
  .option('--subscribers <N>', 'how many there are', wholeNumber(1, 1_000_000), 100_000)
  .option('--each <N>', 'connections of each', wholeNumber(1, 100), 2)
  .option('--workers <N>', 'worker threads', wholeNumber(0, 128), 1)
  .action(runCarrier);
try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`scenario: ${(error as Error).message}\n`);
  process.exit(1);
}
