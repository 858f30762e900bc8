/** Makes captures for the benchmarks: the same bytes for the same options.
 *
 *      node dist/bench/traffic/main.js udp --packets 140000 --connections 1000 OUT.pcap
 *      node dist/bench/traffic/main.js tcp --packets 140000 --connections 10000 OUT.pcap
 *      node dist/bench/traffic/main.js mixed --copies 16 CAPTURE... OUT.pcap
 *
 *  and flow tables that let all of it pass:
 *
 *      node dist/bench/traffic/main.js flows --rules 10000 --tables 20 OUT.txt */
import fs from 'node:fs';
import { Command } from 'commander';
import { wholeNumber } from '../../src/cli/options.js';
import { MAX_FRAME, MIN_FRAME } from '../../src/generate/frames.js';
import { writeCapture } from '../../src/generate/write.js';
import { firewall } from './acl.js';
import { type FlowOptions, mixed, tcp, type UdpOptions, udp } from './generate.js';

const say = (n: number, path: string) => process.stderr.write(`${path}: ${n} packets\n`);

const flows = (command: Command) =>
  command
    .argument('<out>', 'capture to write; - is standard output')
    .option('--packets <N>', 'packets', wholeNumber(1, 1e9), 140_000)
    .option('--connections <N>', 'connections, one client address each', wholeNumber(1, 0xffffff), 1000)
    .option('--frame <BYTES>', 'length of frames with data', wholeNumber(MIN_FRAME, MAX_FRAME), MIN_FRAME)
    .option('--seed <N>', 'order of the connections', wholeNumber(0, 0x7fffffff), 1);

const program = new Command('bench:traffic');
flows(program.command('udp'))
  .description('UDP datagrams')
  .option('--both', 'every second packet is a reply', false)
  .option('--checksums', 'with UDP checksums', false)
  .action(async (out: string, o: FlowOptions & { frame: number; both: boolean; checksums: boolean }) => {
    const options: UdpOptions = { ...o, frameBytes: o.frame, bothWays: o.both };
    say((await writeCapture(out, udp(options))).packets, out);
  });
flows(program.command('tcp'))
  .description('TCP: handshakes, then data both ways')
  .action(async (out: string, o: FlowOptions & { frame: number }) => {
    say((await writeCapture(out, tcp({ ...o, frameBytes: o.frame }))).packets, out);
  });
program
  .command('mixed')
  .description('real captures, joined; each flow several times under other addresses')
  .argument('<files...>', 'captures, and at last the one to write')
  .option('--packets <N>', 'packets at most', wholeNumber(1, 1e9), 140_000)
  .option('--copies <N>', 'copies of each flow', wholeNumber(1, 256), 16)
  .option('--max-frame <BYTES>', 'leaves out longer frames', wholeNumber(1, 262144), MAX_FRAME)
  .action(async (files: string[], o: { packets: number; copies: number; maxFrame: number }) => {
    const out = files.pop() as string;
    say((await writeCapture(out, mixed({ ...o, captures: files }))).packets, out);
  });
program
  .command('flows')
  .description('a stateful firewall with access lists in a row of tables')
  .argument('<out>', 'flow table to write')
  .option('--rules <N>', 'rules', wholeNumber(9, 1e6), 10_000)
  .option('--tables <N>', 'tables', wholeNumber(3, 200), 20)
  .action((out: string, o: { rules: number; tables: number }) => {
    const text = firewall(o.rules, o.tables);
    fs.writeFileSync(out, text);
    process.stderr.write(`${out}: ${text.split('\n').length - 1} rules\n`);
  });
try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`bench:traffic: ${(error as Error).message}\n`);
  process.exit(1);
}
