/** Commands of ovs-ofctl(8) as events: changes of the flow, group and meter tables and of ports, and what
 *  the switch answers to questions about them. Each is read and checked when the events file is; it acts
 *  while no packet is in flight. The switch speaks OpenFlow 1.5. A bridge's name before the other
 *  arguments is passed over: there is one bridge. */
import { OFPP_LOCAL } from '../classifier/flow-key.js';
import {
  dumpAggregate,
  dumpFlows,
  dumpGroupStats,
  dumpGroups,
  dumpMeterStats,
  dumpMeters,
  flowModText,
  groupModText,
  meterModText,
} from '../openflow/dump.js';
import { OpenFlowError } from '../openflow/errors.js';
import { parseFlowMod, parseFlowMods, parseMeter, parseMeterId } from '../openflow/flowmod.js';
import { parseGroupMod, parseGroupMods } from '../openflow/groups.js';

import type { Pipeline, Selection } from '../openflow/tables.js';
import { type Action, ALL_TABLES, type FlowMod, FlowSyntaxError, type GroupMod } from '../openflow/types.js';
import { type Command, CommandRefused } from './appctl.js';
import { UsageProblem } from './ct-match.js';

/** A command that has been read. */
export interface OfctlCommand {
  run: Command;
  /** Actions that it may put into the tables: they decide whether packets can be shared out. */
  actions: (readonly Action[])[];
}

/** What is known when the command is read. */
export interface OfctlContext {
  /** Ports of the switch; LOCAL need not be among them. */
  ports: readonly number[];
  /** Reads a file that a command names. */
  readFile: (path: string) => string;
}

interface Entry {
  usage: string;
  min: number;
  max: number;
  options?: readonly string[];
  read(args: readonly string[], options: ReadonlySet<string>, context: OfctlContext): OfctlCommand;
}

/** Options that say nothing here. */
const IGNORED = new Set(['--bundle', '--names', '--no-names']);
/** Where positions of mistakes point to. */
const PLACE = 'argument';

const COMMANDS = new Map<string, Entry>([
  ['add-flow', { usage: 'FLOW', min: 1, max: 1, read: ([text]) => flowMods([flowMod('add', text)]) }],
  [
    'add-flows',
    {
      usage: 'FILE',
      min: 1,
      max: 1,
      read: ([path], _options, { readFile }) => flowMods(parseFlowMods(readFile(path), path)),
    },
  ],
  [
    'mod-flows',
    {
      usage: 'FLOW',
      min: 1,
      max: 1,
      options: ['--strict'],
      read: ([text], o) => flowMods([flowMod(o.has('--strict') ? 'modify_strict' : 'modify', text)]),
    },
  ],
  [
    'del-flows',
    {
      usage: '[FLOW]',
      min: 0,
      max: 1,
      options: ['--strict'],
      read: ([text = ''], o) => flowMods([flowMod(o.has('--strict') ? 'delete_strict' : 'delete', text)]),
    },
  ],
  ['add-group', { usage: 'GROUP', min: 1, max: 1, read: ([text]) => groupMods([groupMod('add', text)]) }],
  [
    'add-groups',
    {
      usage: 'FILE',
      min: 1,
      max: 1,
      read: ([path], _options, { readFile }) => groupMods(parseGroupMods(readFile(path), path)),
    },
  ],
  [
    'mod-group',
    {
      usage: 'GROUP',
      min: 1,
      max: 1,
      options: ['--may-create'],
      read: ([text], o) => groupMods([groupMod(o.has('--may-create') ? 'add_or_modify' : 'modify', text)]),
    },
  ],
  [
    'del-groups',
    { usage: '[GROUP]', min: 0, max: 1, read: ([text = '']) => groupMods([groupMod('delete', text)]) },
  ],
  ...['insert-buckets', 'insert-bucket'].map((name): [string, Entry] => [
    name,
    { usage: 'GROUP', min: 1, max: 1, read: ([text]) => groupMods([groupMod('insert_buckets', text)]) },
  ]),
  ...['remove-buckets', 'remove-bucket'].map((name): [string, Entry] => [
    name,
    { usage: 'GROUP', min: 1, max: 1, read: ([text]) => groupMods([groupMod('remove_buckets', text)]) },
  ]),
  ['add-meter', { usage: 'METER', min: 1, max: 1, read: ([text]) => meterMod('ADD', text) }],
  ['mod-meter', { usage: 'METER', min: 1, max: 1, read: ([text]) => meterMod('MOD', text) }],
  ...['del-meters', 'del-meter'].map((name): [string, Entry] => [
    name,
    {
      usage: '[METER]',
      min: 0,
      max: 1,
      read: ([text = '']) => {
        const id = parseMeterId(text, PLACE);
        return change((pipeline, now) => pipeline.deleteMeters(id, now));
      },
    },
  ]),
  ['mod-port', { usage: 'PORT up|down', min: 2, max: 2, read: readModPort }],
  [
    'dump-flows',
    {
      usage: '[FLOW]',
      min: 0,
      max: 1,
      options: ['--no-stats'],
      read: ([text = ''], options) => {
        const selection = selectionOf(text);
        const stats = !options.has('--no-stats');
        return query((pipeline, now) => dumpFlows(pipeline, selection, now, stats));
      },
    },
  ],
  [
    'dump-aggregate',
    {
      usage: '[FLOW]',
      min: 0,
      max: 1,
      read: ([text = '']) => {
        const selection = selectionOf(text);
        return query((pipeline) => dumpAggregate(pipeline, selection));
      },
    },
  ],
  [
    'dump-groups',
    {
      usage: '[GROUP]',
      min: 0,
      max: 1,
      read: ([text = 'all']) => {
        const id = idOf(text, /^(?:group_id=)?(\d+|all)$/, 'a group');
        return query((pipeline) => dumpGroups(pipeline, id));
      },
    },
  ],
  [
    'dump-group-stats',
    {
      usage: '[group_id=N]',
      min: 0,
      max: 1,
      read: ([text = 'all']) => {
        const id = idOf(text, /^(?:group_id=)?(\d+|all)$/, 'a group');
        return query((pipeline, now) => dumpGroupStats(pipeline, id, now));
      },
    },
  ],
  ...['dump-meters', 'dump-meter'].map((name): [string, Entry] => [
    name,
    {
      usage: '[meter=N]',
      min: 0,
      max: 1,
      read: ([text = '']) => {
        const id = parseMeterId(text, PLACE);
        return query((pipeline) => dumpMeters(pipeline, id));
      },
    },
  ]),
  [
    'meter-stats',
    {
      usage: '[meter=N]',
      min: 0,
      max: 1,
      read: ([text = '']) => {
        const id = parseMeterId(text, PLACE);
        return query((pipeline, now) => dumpMeterStats(pipeline, id, now));
      },
    },
  ],
]);

/** Commands and their arguments, for the manual. */
export function ofctlUsage(): string[] {
  return [...COMMANDS].map(([name, { usage, options = [] }]) =>
    [...options.map((o) => `[${o}]`), name, usage].join(' '),
  );
}

/** Reads `[option…, command, argument…]`, options anywhere; throws UsageProblem. */
export function readOfctl(argv: readonly string[], context: OfctlContext): OfctlCommand {
  const words: string[] = [];
  const options = new Set<string>();
  for (let i = 0; i < argv.length; i++) {
    if (argv[i] === '-O') i++;
    else if (/^--?[A-Za-z]/.test(argv[i])) options.add(argv[i]);
    else words.push(argv[i]);
  }
  const [name = '', ...rest] = words;
  const entry = COMMANDS.get(name);
  if (entry === undefined) {
    throw new UsageProblem(`"${name}" is not supported; expected one of ${[...COMMANDS.keys()].join(', ')}`);
  }
  for (const option of options) {
    if (option.startsWith('-O') || IGNORED.has(option) || entry.options?.includes(option)) continue;
    throw new UsageProblem(`${name} has no option ${option} here`);
  }
  const args = rest.length > entry.max || isBridge(rest[0]) ? rest.slice(1) : rest;
  if (args.length < entry.min || args.length > entry.max) {
    throw new UsageProblem(`${name} with ${rest.length} arguments; expected ${name} ${entry.usage}`);
  }
  try {
    return entry.read(args, options, context);
  } catch (error) {
    if (error instanceof FlowSyntaxError) throw new UsageProblem(`${name}: ${error.message}`);
    throw error;
  }
}

function isBridge(word: string | undefined): boolean {
  return word !== undefined && /^(br[\w-]*|(unix|tcp|ssl):.*)$/.test(word);
}

function flowMod(command: FlowMod['command'], text: string): FlowMod {
  return parseFlowMod(command, text, PLACE);
}

function groupMod(command: GroupMod['command'], text: string): GroupMod {
  return parseGroupMod(command, text, PLACE);
}

/** Changes one after the other; the first that is refused ends it. */
function flowMods(mods: readonly FlowMod[]): OfctlCommand {
  const run: Command = ({ pipeline, clock }) => {
    for (const mod of mods)
      refusable(
        () => pipeline.flowMod(mod, clock),
        () => flowModText(mod),
      );
    return '';
  };
  return { run, actions: mods.map((mod) => mod.rule.actions) };
}

function groupMods(mods: readonly GroupMod[]): OfctlCommand {
  const run: Command = ({ pipeline, clock }) => {
    for (const mod of mods)
      refusable(
        () => pipeline.groupMod(mod, clock),
        () => groupModText(mod),
      );
    return '';
  };
  return { run, actions: mods.flatMap((mod) => mod.group?.buckets.map((b) => b.actions) ?? []) };
}

function meterMod(command: 'ADD' | 'MOD', text: string): OfctlCommand {
  const meter = parseMeter(text, PLACE);
  return change((pipeline, now) => {
    refusable(
      () => (command === 'ADD' ? pipeline.addMeter(meter, now) : pipeline.modifyMeter(meter, now)),
      () => meterModText(command, meter),
    );
  });
}

/** Says why the switch has refused, and what, as the tool does. */
function refusable(act: () => void, message: () => string): void {
  try {
    act();
  } catch (error) {
    if (!(error instanceof OpenFlowError)) throw error;
    throw new CommandRefused(`OFPT_ERROR (OF1.5) (xid=0x2): ${error.code}\n${message()}`);
  }
}

function change(act: (pipeline: Pipeline, now: number) => void): OfctlCommand {
  const run: Command = ({ pipeline, clock }) => {
    act(pipeline, clock);
    return '';
  };
  return { run, actions: [] };
}

function query(ask: (pipeline: Pipeline, now: number) => string): OfctlCommand {
  const run: Command = ({ pipeline, clock }) => {
    pipeline.fold();
    return ask(pipeline, clock);
  };
  return { run, actions: [] };
}

/** The flows that dump-flows and dump-aggregate are asked for. */
function selectionOf(text: string): Selection {
  const { rule, cookieMask, outPort, outGroup } = parseFlowMod('delete', text, PLACE);
  const table = rule.table === ALL_TABLES ? null : rule.table;
  return { table, match: rule.match, cookie: rule.cookie, cookieMask, outPort, outGroup };
}

function idOf(text: string, pattern: RegExp, what: string): number | null {
  const found = pattern.exec(text);
  if (found === null) throw new UsageProblem(`"${text}" is not ${what}; expected its number`);
  return found[1] === 'all' ? null : Number(found[1]);
}

function readModPort(
  [name, state]: readonly string[],
  _options: unknown,
  { ports }: OfctlContext,
): OfctlCommand {
  const digits = /^p?(\d+)$/.exec(name);
  const port = /^local$/i.test(name) ? OFPP_LOCAL : digits === null ? -1 : Number(digits[1]);
  if (port !== OFPP_LOCAL && !ports.includes(port)) {
    throw new UsageProblem(`the switch has no port ${name}, only ${[...ports, 'LOCAL'].join(', ')}`);
  }
  if (state !== 'up' && state !== 'down') {
    throw new UsageProblem(`mod-port: "${state}" is not supported; expected up or down`);
  }
  return change((pipeline) => pipeline.setPort(port, state === 'up'));
}
