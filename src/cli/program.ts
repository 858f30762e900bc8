/** The command line: arguments in, exit code out. */
import fs from 'node:fs';
import { Command, CommanderError, Option } from 'commander';
import { FlowSyntaxError } from '../openflow/types.js';
import { systemReason } from '../pcap/feed.js';
import { MOST_CONNS } from '../shm/layouts.js';
import type { AnalyzeArguments } from './analyze.js';
import {
  collectIn,
  collectOut,
  ExitError,
  parseFault,
  parseInside,
  parsePortList,
  parseRssKey,
  parseWorkers,
  UsageError,
  wholeNumber,
} from './options.js';
import type { ReplayArguments } from './replay.js';
import { InterruptedError } from './signals.js';
import type { TraceArguments } from './trace.js';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;
const EXIT_PIPE = 141;

const { version } = JSON.parse(
  fs.readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'),
) as { version: string };

const EXAMPLES = `
Examples:
  The shipped firewall over a shipped capture, on two workers:
    shardtrack replay fixtures/captures/web-client.pcap --inside 192.168.100.0/24 \\
        --flows fixtures/flows/firewall.txt --workers 2
  One capture per port, one capture out per port, and a line of JSON per packet:
    shardtrack replay --in 1=inside.pcap --in 2=outside.pcap --flows fw.txt \\
        --out 1=to-inside.pcap --out 2=to-outside.pcap --verdicts verdicts.ndjson
  From a pipe; the connection table at the end to standard output:
    tcpdump -w - ... | shardtrack replay - --flows fw.txt --conntrack -

Exit codes:
  0    done
  1    the run failed or can't be trusted: an unreadable or damaged capture, an output
       that can't be written, a worker that died or hangs; outputs keep the ending .partial
  2    wrong usage: options, flow or group table, events file
  130  interrupted (143 by SIGTERM)
  141  whoever read standard output has closed it
`;

const program = new Command('shardtrack')
  .description('Replays packet captures through an Open vSwitch flow table with connection tracking.')
  .version(version)
  .exitOverride()
  .configureHelp({ helpWidth: 100 });

/** The commands. Only the one that is called is defined, and loads what it needs: all of them together take several
 *  times as long to load as a small capture takes to be replayed. */
const COMMANDS: Record<string, () => Promise<void>> = {
  replay: addReplay,
  analyze: addAnalyze,
  trace: addTrace,
  worker: addWorker,
  generate: async () => (await import('./generate.js')).addGenerate(program),
  bench: async () => (await import('./bench.js')).addBench(program, version),
  compare: async () => (await import('./compare.js')).addCompare(program),
  report: async () => (await import('./report.js')).addReport(program),
  flows: addFlows,
};

/** Runs the command that the arguments name, says what went wrong, and sets the exit code. */
export async function run(): Promise<void> {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    // As a program that dies of SIGPIPE would end: `shardtrack ... | head`.
    if (error.code === 'EPIPE') process.exit(EXIT_PIPE);
    process.stderr.write(`shardtrack: <stdout>: cannot write the output: ${systemReason(error)}\n`);
    process.exit(EXIT_FAILED);
  });
  // What can't be said is no reason not to do the work.
  process.stderr.on('error', () => {});
  const called = process.argv[2] ?? '';
  for (const add of Object.hasOwn(COMMANDS, called) ? [COMMANDS[called]] : Object.values(COMMANDS))
    await add();
  try {
    await program.parseAsync();
  } catch (error) {
    process.exitCode = await report(error);
  }
}

/** Says what went wrong; returns the exit code. */
async function report(error: unknown): Promise<number> {
  const { code } = error as NodeJS.ErrnoException;
  // Nothing more can be loaded, not even to tell which error this is.
  if (code === 'EMFILE' || code === 'ENFILE') throw error;
  // Commander has printed its own message; help and version end here too.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  if (error instanceof InterruptedError) {
    process.stderr.write(`shardtrack: ${error.message}\n`);
    return error.signal === 'SIGINT' ? 130 : 143;
  }
  if (error instanceof FlowSyntaxError) {
    process.stderr.write(`${error.message}\n`);
    const n = error.problems.length;
    const then = program.args[0] === 'flows' ? '' : '; nothing was run';
    process.stderr.write(`shardtrack: ${n} mistake${n === 1 ? '' : 's'} in the flow table${then}\n`);
    return EXIT_USAGE;
  }
  const { ClosedPipeError } = await import('../pcap/output-file.js');
  if (error instanceof ClosedPipeError) return EXIT_PIPE;
  const { EventError } = await import('../coordinator/events.js');
  if (error instanceof EventError) {
    process.stderr.write(`${error.message}\n`);
    const n = error.problems.length;
    process.stderr.write(
      `shardtrack: ${n} mistake${n === 1 ? '' : 's'} in the events file; nothing was run\n`,
    );
    return EXIT_USAGE;
  }
  let text = error instanceof Error ? error.message : String(error);
  // V8's own words: "Array buffer allocation failed".
  if (error instanceof RangeError && /allocation failed/i.test(text)) {
    text = `${text}: there is not enough memory, or address space (ulimit -v); a smaller --max-conns or fewer workers need less`;
  }
  process.stderr.write(`shardtrack: ${text}\n`);
  if (error instanceof ExitError) return error.code;
  const { FilterSyntaxError } = await import('../pcap/filter.js');
  return error instanceof UsageError || error instanceof FilterSyntaxError ? EXIT_USAGE : EXIT_FAILED;
}

async function addReplay(): Promise<void> {
  program
    .command('replay')
    .description('replay captures through a flow table')
    .argument(
      '[capture...]',
      'pcap or pcapng, compressed (gzip, zstd, lz4, xz) or not, - for standard input; arrives on port 1 (pcapng: interface k on port k+1)',
    )
    .option('--in <PORT=FILE>', 'capture that arrives on PORT (repeatable; merged by time)', collectIn, [])
    .option(
      '--inside <CIDR,...>',
      'for captures of both directions: these sources arrive on port 1, all others on port 2',
      parseInside,
    )
    .option('--ports <LIST>', 'further ports of the switch', parsePortList, [])
    .option(
      '--flows <FILE>',
      'flow table as for ovs-ofctl add-flows (default: track everything, ct(commit) in zone 0)',
    )
    .option('--groups <FILE>', 'group table as for ovs-ofctl add-groups')
    .option('--meters <FILE>', 'meters as for ovs-ofctl add-meter, one a line')
    .option('--events <FILE>', 'NDJSON of control events by capture time (docs/events.md)')
    .option('--events-log <FILE>', 'NDJSON of what each event printed, or why it was refused')
    .option(
      '--out <PORT=FILE|FILE.pcapng>',
      'what a port sent as pcap, or all ports as pcapng (repeatable)',
      collectOut,
      [],
    )
    .option('--controller <FILE>', 'what went to the controller, as pcap')
    .option('--comments', 'give packets in FILE.pcapng their verdict as a comment')
    .option('--verdicts <FILE>', 'NDJSON, one line a packet')
    .option('--frame-hashes', 'in --verdicts, a hash of every frame that was sent')
    .option(
      '--conntrack <FILE>',
      'the connection table at the end: as dpctl/dump-conntrack -m, or in FILE.ndjson or .json as a line of JSON each',
    )
    .option(
      '--connections <FILE>',
      'a record of every connection, ended or not, as NDJSON (columns: docs/analyze.md)',
    )
    .option('--dump-flows <FILE>', 'the flow tables at the end, as ovs-ofctl dump-flows')
    .option('--dump-groups <FILE>', 'the groups at the end, as dump-groups and dump-group-stats')
    .option(
      '--dpflows <FILE>',
      "the workers' flow caches at the end, as dpctl/dump-flows: depends on the number of workers",
    )
    .option('--stats <FILE>', 'statistics as JSON')
    .option('--html <FILE>', 'a report with charts over capture time, as one HTML file')
    .option('--workers <N|auto>', 'worker threads; 0 runs everything inline', parseWorkers, 'auto')
    .option('--max-conns <N>', 'connections that may be tracked', wholeNumber(1, MOST_CONNS))
    .option('--strict', 'drop packets whose ct(commit) is refused (the table or the zone is full)')
    .option(
      '--rss-key <HEX>',
      '40-byte key of the RSS hash, which says who runs a packet (default: drawn anew)',
      parseRssKey,
    )
    .option('--window <N>', 'packets in flight at most', wholeNumber(1, 1 << 20))
    .option('--vector <N>', 'packets that a worker takes at a time', wholeNumber(1, 4096))
    .option(
      '--watchdog <SECONDS>',
      'fail if no packet is completed for so long (default: 60; 0: never)',
      wholeNumber(0, 86_400),
    )
    .option(
      '--jitter <SEED>',
      'random delays between threads, to show that nothing depends on them',
      wholeNumber(1, 0x7fffffff),
    )
    .addOption(
      new Option('--fault <KIND@N>', 'test only: the first worker fails').argParser(parseFault).hideHelp(),
    )
    .addOption(
      new Option('--ring-words <N>', 'test only: small rings').argParser(wholeNumber(2, 1 << 20)).hideHelp(),
    )
    .addOption(
      new Option('--slow <MS>', 'test only: a slow main thread').argParser(wholeNumber(1, 10_000)).hideHelp(),
    )
    .option('--quiet', 'no progress bar, no summary')
    .addHelpText('after', EXAMPLES)
    .action(async (captures: string[], options: Omit<ReplayArguments, 'captures'>) => {
      const { replayCommand } = await import('./replay.js');
      process.exitCode = await replayCommand({ ...options, captures }, version);
    });
}

async function addWorker(): Promise<void> {
  const { workerCommand } = await import('./analyze.js');
  program
    .command('worker')
    .description('work on what analyze --queue has put into a queue, until stopped')
    .requiredOption('--queue <URL>', 'the Redis, such as redis://host:6379')
    .option('--queue-prefix <NAME>', 'as for analyze')
    .option('--workers <N|auto>', 'threads for packets', parseWorkers, 'auto')
    .option('--quiet', 'say nothing')
    .action(workerCommand);
}

async function addAnalyze(): Promise<void> {
  const { analyzeCommand, collectRecordOutput } = await import('./analyze.js');
  program
    .command('analyze')
    .description(
      'connection records of captures: files, folders, patterns, sets that rotate, as one timeline',
    )
    .argument(
      '<path...>',
      'captures as for replay; folders, with all captures below; patterns; - for standard input',
    )
    .option(
      '-o, --out <FILE|FORMAT=FILE>',
      'records by the ending of the name (.ndjson, .csv, .parquet, .ipfix, .log for Zeek), or ndjson=, csv=, zeek=, parquet=, ipfix=, conntrack= (as conntrack -L), dpctl= (as dump-conntrack -m); - is standard output (repeatable)',
      collectRecordOutput,
      [],
    )
    .option('--report <FILE>', 'summary, reconciliation and state of each file as JSON')
    .option('--html <FILE>', 'the summary with charts, as one HTML file')
    .option(
      '--sql <QUERY>',
      'print what DuckDB answers, which knows the records as the table connections (needs @duckdb/node-api)',
    )
    .option(
      '--filter <EXPRESSION>',
      "only packets that pass, in the language of tcpdump (docs/analyze.md), such as 'tcp port 443'",
    )
    .addOption(
      new Option(
        '--partition <BY>',
        'outputs are folders, such as parquet=FOLDER, with a file for each',
      ).choices(['day', 'hour', 'protocol', 'zone']),
    )
    .option('--flows-b <FILE>', 'say what would change for the packets under this flow table instead')
    .option(
      '--resume <FILE>',
      'keep a checkpoint in FILE, and go on from it after a crash: run the same command again',
    )
    .addOption(
      new Option('--checkpoint-every <N>', 'test only: packets')
        .argParser(wholeNumber(1, 2 ** 30))
        .hideHelp(),
    )
    .option(
      '--queue <URL>',
      'let workers (shardtrack worker) do it, by jobs of BullMQ over this Redis: each path is a timeline of its own, outputs are folders',
    )
    .option('--queue-prefix <NAME>', 'keeps queues in one Redis apart')
    .option(
      '--buckets <N>',
      'with --queue: jobs for each path, which share its connections',
      wholeNumber(1, 128),
      1,
    )
    .option('--top <N>', 'rows of each table of the summary', wholeNumber(0, 1000), 10)
    .option('--inside <CIDR,...>', 'these sources arrive on port 1, all others on port 2', parseInside)
    .option('--ports <LIST>', 'further ports of the switch', parsePortList, [])
    .option(
      '--flows <FILE>',
      'flow table as for ovs-ofctl add-flows (default: everything is tracked, in zone 0)',
    )
    .option('--groups <FILE>', 'group table as for ovs-ofctl add-groups')
    .option('--meters <FILE>', 'meters as for ovs-ofctl add-meter, one a line')
    .option('--events <FILE>', 'NDJSON of control events by capture time (docs/events.md)')
    .option(
      '--ignore-checksums',
      'take checksums for right, as in captures of hosts that leave them to the card',
    )
    .option(
      '--cut-as-is',
      'leave packets that a snapshot length has cut as they are: ct() finds them invalid',
    )
    .option('--workers <N|auto>', 'worker threads; 0 runs everything inline', parseWorkers, 'auto')
    .option('--max-conns <N>', 'connections that may be tracked', wholeNumber(1, MOST_CONNS))
    .option('--jitter <SEED>', 'as for replay', wholeNumber(1, 0x7fffffff))
    .option('--watchdog <SECONDS>', 'as for replay', wholeNumber(0, 86_400))
    .addOption(
      new Option('--fault <KIND@N>', 'test only: the first worker fails').argParser(parseFault).hideHelp(),
    )
    .addOption(
      new Option('--slice-fault <KIND@N>', 'test only: slices but the first fail')
        .argParser(parseFault)
        .hideHelp(),
    )
    .option('--quiet', 'no progress, no summary')
    .action(async (paths: string[], options: Omit<AnalyzeArguments, 'paths'>) => {
      process.exitCode = await analyzeCommand({ ...options, paths }, version);
    });
}

async function addTrace(): Promise<void> {
  program
    .command('trace')
    .description('say why a packet goes where it goes: tables, rules, connections, buckets, megaflow')
    .argument('[capture...]', 'as for replay; all packets before the traced one have their effect')
    .option(
      '--packet <K>',
      'number of the packet of the captures, from 1',
      wholeNumber(1, Number.MAX_SAFE_INTEGER),
    )
    .option(
      '--flow <FLOW>',
      "a packet described as a match, such as 'in_port=1,tcp,nw_src=10.0.0.1,tp_dst=80'; comes after the captures",
    )
    .option('--in <PORT=FILE>', 'capture that arrives on PORT (repeatable; merged by time)', collectIn, [])
    .option('--inside <CIDR,...>', 'as for replay', parseInside)
    .option('--ports <LIST>', 'further ports of the switch', parsePortList, [])
    .option('--flows <FILE>', 'flow table as for ovs-ofctl add-flows')
    .option('--groups <FILE>', 'group table as for ovs-ofctl add-groups')
    .option('--meters <FILE>', 'meters as for ovs-ofctl add-meter, one a line')
    .option('--events <FILE>', 'NDJSON of control events by capture time (docs/events.md)')
    .option('--max-conns <N>', 'connections that may be tracked', wholeNumber(1, MOST_CONNS))
    .option('--strict', 'as for replay')
    .option('--workers <N|auto>', 'worker threads for the packets before', parseWorkers, 'auto')
    .action(async (captures: string[], options: Omit<TraceArguments, 'captures'>) => {
      const { traceCommand } = await import('./trace.js');
      process.stdout.write(await traceCommand({ ...options, captures }));
    });
}

async function addFlows(): Promise<void> {
  const flows = program.command('flows').description('work on flow tables without packets');
  flows
    .command('check')
    .description('check flow tables: all mistakes at once, as replay would find them')
    .argument('<FILE...>', 'flow tables as for ovs-ofctl add-flows, - for standard input')
    .option('--groups <FILE>', 'the group table that they use')
    .option('--meters <FILE>', 'the meters that they use')
    .action(async (files: string[], options: { groups?: string; meters?: string }) => {
      const { checkFlows } = await import('./flows.js');
      process.stdout.write(`${checkFlows(files, options.groups, options.meters).join('\n')}\n`);
    });
  flows
    .command('format')
    .description('print a flow table in canonical form, one flow a line, with its comments')
    .argument('<FILE>', 'flow table as for ovs-ofctl add-flows, - for standard input')
    .action(async (file: string) => {
      const { formatFlows, readText } = await import('./flows.js');
      process.stdout.write(formatFlows(readText(file), file));
    });
}
