/** `shardtrack generate`. */
import type { Command } from 'commander';
import { InvalidArgumentError, Option } from 'commander';
import { MAX_FRAME, MIN_FRAME } from '../generate/frames.js';
import { parseSizes, type Sizes } from '../generate/sizes.js';
import { MOST_LISTS, type TableOptions, tablesFor } from '../generate/tables.js';
import {
  checkTraffic,
  MOST_CONNECTIONS,
  MOST_SERVERS,
  MOST_TARGETS,
  MOST_ZONES,
  type Nat,
  type Protocols,
  SERVER_PORT,
  type TrafficOptions,
  traffic,
} from '../generate/traffic.js';
import { WORKLOADS, type Workload, workloadNamed } from '../generate/workloads.js';
import { writeCapture } from '../generate/write.js';
import { OutputFile } from '../pcap/output-file.js';
import { checkOutputs, UsageError, wholeNumber } from './options.js';

/** Changes to a named workload; what is undefined stays. */
export interface WorkloadChanges {
  packets?: number;
  connections?: number;
  life?: number;
  newRate?: number;
  protocols?: Protocols;
  ipv6?: number;
  replies?: number;
  flood?: number;
  sizes?: Sizes;
  servers?: number;
  zones?: number;
  nat?: Nat;
  natTargets?: number;
  checksums: boolean;
  complete?: boolean;
  seed?: number;
  rate?: number;
  rules?: number;
  lists?: number;
}

export interface GenerateArguments extends WorkloadChanges {
  list?: boolean;
  format?: 'pcap' | 'pcapng';
  flows?: string;
  quiet?: boolean;
}

/** Packets of a connection without data: TCP's handshake and close, SCTP's. */
const AROUND: Protocols = { tcp: 6, udp: 0, icmp: 0, sctp: 7 };
/** Clients and floods, for `--inside`. */
const INSIDE4 = '10.0.0.0/7';
const INSIDE6 = 'fd00:0:0:1::a00:0/103';

const percent = wholeNumber(0, 100);

function parseProtocols(text: string): Protocols {
  const protocols: Protocols = { tcp: 0, udp: 0, icmp: 0, sctp: 0 };
  for (const entry of text.split(',')) {
    const [, name, weight = '1'] = /^(tcp|udp|icmp|sctp)(?::(\d{1,6}))?$/.exec(entry.trim()) ?? [];
    if (name === undefined) {
      throw new InvalidArgumentError(
        `"${entry}" is not a protocol with its share; expected as in tcp:70,udp:25,icmp:5; there is sctp too.`,
      );
    }
    protocols[name as keyof Protocols] = Number(weight);
  }
  return protocols;
}

function parseSizesOption(text: string): Sizes {
  try {
    return parseSizes(text);
  } catch (error) {
    throw new InvalidArgumentError(`${(error as Error).message}.`);
  }
}

/** Gives a command the options that change a workload. */
export function workloadOptions(command: Command): Command {
  return command
    .option('--packets <N>', 'about how many', wholeNumber(1, Number.MAX_SAFE_INTEGER))
    .option('--connections <N>', 'that are open at a time', wholeNumber(1, MOST_CONNECTIONS))
    .option('--life <N>', 'packets with data of a connection; 0: it never ends', wholeNumber(0, 1e9))
    .option('--new-rate <N>', 'new connections a second of the capture: sets --life', wholeNumber(1, 1e9))
    .option(
      '--protocols <LIST>',
      'shares of connections, such as tcp:70,udp:25,icmp:3,sctp:2',
      parseProtocols,
    )
    .option('--ipv6 <PERCENT>', 'of connections', percent)
    .option('--replies <PERCENT>', 'of packets with data; 0: one direction', percent)
    .option('--flood <PERCENT>', 'of packets: SYNs of clients that are not heard of again', percent)
    .option(
      '--sizes <SIZES>',
      `bytes of frames with data (${MIN_FRAME} to ${MAX_FRAME}): 60, imix, 60-1514, or 60:7,590:4,1514:1 with weights`,
      parseSizesOption,
    )
    .option('--servers <N>', 'that there are', wholeNumber(1, MOST_SERVERS))
    .option('--zones <N>', 'VLANs that are tracked apart', wholeNumber(0, MOST_ZONES))
    .addOption(new Option('--nat <KIND>', 'what is translated').choices(['none', 'snat', 'dnat']))
    .option('--nat-targets <N>', 'addresses to translate to or from', wholeNumber(1, MOST_TARGETS))
    .option('--no-checksums', 'UDP over IPv4 without')
    .option('--complete', 'lets all connections end, so that the capture can be replayed in a loop')
    .option('--no-complete', 'stops where it is')
    .option('--rate <N>', "packets a second of the capture's clock", wholeNumber(1, 1e9))
    .option('--rules <N>', 'rules of access lists in the flow table', wholeNumber(0, 1e6))
    .option('--lists <N>', 'tables for these rules', wholeNumber(1, MOST_LISTS))
    .option('--seed <N>', 'another number gives other packets', wholeNumber(0, 0x7fffffff));
}

/** The first of these options that was given, as it is written; null if none was. */
export function changeGiven(changes: WorkloadChanges): string | null {
  const { checksums, complete, ...others } = changes;
  if (!checksums) return '--no-checksums';
  if (complete !== undefined) return complete ? '--complete' : '--no-complete';
  const names = [
    ...([
      'packets',
      'connections',
      'life',
      'newRate',
      'protocols',
      'ipv6',
      'replies',
      'flood',
      'sizes',
    ] as const),
    ...(['servers', 'zones', 'nat', 'natTargets', 'seed', 'rate', 'rules', 'lists'] as const),
  ];
  const name = names.find((n) => others[n] !== undefined);
  return name === undefined ? null : `--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
}

/** A named workload with changes. Throws UsageError. */
export function changedWorkload(name: string, c: WorkloadChanges): Workload {
  let base: Workload;
  try {
    base = workloadNamed(name);
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  if (c.newRate !== undefined && c.life !== undefined) {
    throw new UsageError('--new-rate says how long connections live, and so does --life; leave one out');
  }
  const rate = c.rate ?? base.rate;
  const t = base.traffic;
  const protocols = c.protocols ?? t.protocols;
  const life =
    c.newRate === undefined
      ? (c.life ?? t.life)
      : lifeFor(rate * (1 - (c.flood ?? t.floodPercent) / 100), c.newRate, protocols);
  const table: TableOptions = { rules: c.rules ?? base.table.rules, lists: c.lists ?? base.table.lists };
  const changed: TrafficOptions = {
    packets: c.packets ?? t.packets,
    connections: c.connections ?? t.connections,
    life,
    protocols,
    ipv6Percent: c.ipv6 ?? t.ipv6Percent,
    replyPercent: c.replies ?? t.replyPercent,
    floodPercent: c.flood ?? t.floodPercent,
    sizes: c.sizes ?? t.sizes,
    servers: c.servers ?? t.servers,
    zones: c.zones ?? t.zones,
    nat: c.nat ?? t.nat,
    natTargets: c.natTargets ?? t.natTargets,
    checksums: c.checksums && t.checksums,
    // Those that never end don't unless asked for.
    complete: c.complete ?? (t.complete && life > 0),
    seed: c.seed ?? t.seed,
  };
  try {
    checkTraffic(changed);
  } catch (error) {
    throw new UsageError(`${name}: ${(error as Error).message}`);
  }
  return { ...base, traffic: changed, table, rate };
}

/** Packets with data that a connection of the mix has if `perSecond` begin and end with `rate` packets. */
function lifeFor(rate: number, perSecond: number, protocols: Protocols): number {
  let weights = 0;
  let around = 0;
  for (const name of ['tcp', 'udp', 'icmp', 'sctp'] as const) {
    weights += protocols[name];
    around += protocols[name] * AROUND[name];
  }
  const life = Math.round(rate / perSecond - around / weights);
  if (life >= 1) return life;
  throw new UsageError(
    `${perSecond} new connections a second need more packets than ${Math.floor(rate)} a second; ` +
      `use at most --new-rate ${Math.floor(rate / (1 + around / weights))}, or a higher --rate`,
  );
}

/** How a replay is told which packets come from where. */
function portsHint(path: string, format: string, ipv6: boolean): string {
  return format === 'pcapng'
    ? `${path} --ports 1,2`
    : `${path} --inside ${INSIDE4}${ipv6 ? `,${INSIDE6}` : ''}`;
}

/** The table of workloads, for people. */
export function workloadList(): string {
  return WORKLOADS.map((w) => `${w.name.padEnd(12)} ${w.what}\n`).join('');
}

/** Runs the command. Throws UsageError for exit code 2, anything else for 1. */
export async function generateCommand(
  name: string | undefined,
  path: string | undefined,
  args: GenerateArguments,
): Promise<void> {
  if (args.list) {
    process.stdout.write(workloadList());
    return;
  }
  if (name === undefined || path === undefined) {
    throw new UsageError('expected the name of a workload and a file to write; --list shows the names');
  }
  checkOutputs([args.flows, path]);
  const workload = changedWorkload(name, args);
  const format = args.format ?? (/\.(pcapng|ntar)$/i.test(path) ? 'pcapng' : 'pcap');
  if (args.flows !== undefined) {
    const out = new OutputFile(args.flows);
    out.writeText(tablesFor(workload.traffic, workload.table));
    out.finish();
  }
  const { packets, bytes, seconds } = await writeCapture(path, traffic(workload.traffic), {
    format,
    rate: workload.rate,
    ports: SERVER_PORT,
  });
  if (args.quiet) return;
  const n = (x: number) => x.toLocaleString('en-US');
  const flows = args.flows === undefined ? '' : ` --flows ${args.flows}`;
  process.stderr.write(
    `${path === '-' ? '<stdout>' : path}: ${n(packets)} packets, ${n(bytes)} bytes, ${seconds.toFixed(3)} s of capture\n` +
      `replay it with: shardtrack replay ${portsHint(path, format, workload.traffic.ipv6Percent > 0)}${flows}\n`,
  );
}

/** Adds the command to the program. */
export function addGenerate(program: Command): void {
  const command = program
    .command('generate')
    .description('write made traffic as a capture, and a flow table for it')
    .argument('[workload]', 'name of a workload; the options change it')
    .argument('[out]', 'FILE.pcap or FILE.pcapng, - for standard output')
    .option('--list', 'show the workloads');
  workloadOptions(command)
    .addOption(new Option('--format <FORMAT>', 'unless the name says').choices(['pcap', 'pcapng']))
    .option('--flows <FILE>', 'write a flow table that fits')
    .option('--quiet', 'say nothing')
    .action((name: string | undefined, out: string | undefined, o: GenerateArguments) =>
      generateCommand(name, out, o),
    );
}
