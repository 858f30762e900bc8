/** How long does `shardtrack analyze` take for a capture, beside argus, softflowd, nfpcapd and tshark?
 *
 *  Whole processes, start-up included, in turn; wall time, CPU time and peak memory, medians over the rounds. What each
 *  writes: Shardtrack Parquet, argus and nfpcapd their files, softflowd NetFlow to nobody, tshark a list. Those that
 *  are not installed (argus-server, softflowd, nfdump, tshark of Debian) are left out.
 *
 *      npm run bench:analyze -- --packets 1000000 --rounds 5 [--json FILE] [CAPTURE] */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Command } from 'commander';
import { wholeNumber } from '../../src/cli/options.js';
import { costTable, makeMixed, measureAnalyzers } from './contenders.js';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'bench-analyze-capture-'));
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));

const program = new Command('bench:analyze')
  .argument('[capture]', 'default: made traffic of TCP, UDP, ICMP and SCTP, IMIX sizes')
  .option('--packets <N>', 'of made traffic', wholeNumber(1000, 1e9), 1_000_000)
  .option('--rounds <N>', '', wholeNumber(1, 100), 5)
  .option('--json <FILE>', 'write the results')
  .parse();
const { packets, rounds, json } = program.opts<{ packets: number; rounds: number; json?: string }>();
let [capture] = program.args;
if (capture === undefined) {
  capture = path.join(folder, 'mixed.pcap');
  makeMixed(capture, packets);
}
const costs = await measureAnalyzers({ capture, rounds, node: process.execPath }, (name) =>
  process.stderr.write(`${name} is not installed: left out\n`),
);
const { size } = fs.statSync(capture);
process.stdout.write(`${(size / 1e6).toFixed(0)} MB, ${rounds} rounds, Node ${process.version}\n\n`);
process.stdout.write(costTable(costs));
if (json !== undefined) fs.writeFileSync(json, `${JSON.stringify({ size, rounds, costs }, null, 2)}\n`);
