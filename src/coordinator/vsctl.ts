/** Commands of ovs-vsctl(8) about zones: timeout policies and limits. Read and checked with the events file. */
import { TIMEOUT_ATTRIBUTES } from '../conntrack/timeouts.js';
import { DEFAULT_ZONE } from '../conntrack/zone-limits.js';
import { type Command, CommandRefused } from './appctl.js';
import { parseZone, UsageProblem } from './ct-match.js';

/** How ovs-vsctl begins the text of an error. */
const SPEAKER = 'ovs-vsctl: ';
const MAX_U32 = 0xffff_ffff;

interface Entry {
  usage: string;
  /** Arguments, the datapath's name included. */
  min: number;
  max: number;
  options: readonly string[];
  read(args: readonly string[], options: ReadonlySet<string>): Command;
}

const COMMANDS = new Map<string, Entry>([
  [
    'add-zone-tp',
    {
      usage: 'DATAPATH zone=N ATTRIBUTE=SECONDS...',
      min: 3,
      max: Infinity,
      options: ['--may-exist'],
      read: readAddPolicy,
    },
  ],
  [
    'del-zone-tp',
    { usage: 'DATAPATH zone=N', min: 2, max: 2, options: ['--if-exists'], read: readDelPolicy },
  ],
  ['list-zone-tp', { usage: 'DATAPATH', min: 1, max: 1, options: [], read: () => listPolicies }],
  [
    'set-zone-limit',
    { usage: 'DATAPATH ZONE|default LIMIT', min: 3, max: 3, options: [], read: readSetLimit },
  ],
  [
    'del-zone-limit',
    { usage: 'DATAPATH ZONE|default', min: 2, max: 2, options: ['--if-exists'], read: readDelLimit },
  ],
  ['list-zone-limits', { usage: 'DATAPATH', min: 1, max: 1, options: [], read: () => listLimits }],
]);

/** Commands and their arguments, for the manual. */
export function vsctlUsage(): string[] {
  return [...COMMANDS].map(([name, { usage, options }]) =>
    [...options.map((o) => `[${o}]`), name, usage].join(' '),
  );
}

/** Reads `[option…, command, argument…]`, several with `--` between them; throws UsageProblem. */
export function readVsctl(argv: readonly string[]): Command {
  const commands: Command[] = [];
  let from = 0;
  for (let i = 0; i <= argv.length; i++) {
    if (i < argv.length && argv[i] !== '--') continue;
    if (i > from) commands.push(readOne(argv.slice(from, i)));
    from = i + 1;
  }
  if (commands.length === 0) throw new UsageProblem(`no command; expected one of ${names()}`);
  return (target) => commands.map((command) => command(target)).join('');
}

function names(): string {
  return [...COMMANDS.keys()].join(', ');
}

function readOne(argv: readonly string[]): Command {
  const options = new Set<string>();
  let at = 0;
  while (argv[at]?.startsWith('--')) options.add(argv[at++]);
  const name = argv[at];
  const entry = COMMANDS.get(name);
  if (entry === undefined) {
    throw new UsageProblem(`unknown command '${name ?? argv.join(' ')}'; expected one of ${names()}`);
  }
  const wrong = [...options].find((o) => !entry.options.includes(o));
  if (wrong !== undefined)
    throw new UsageProblem(`'${name}' command has no '${wrong}' option; expected none such`);
  const args = argv.slice(at + 1);
  if (args.length < entry.min || args.length > entry.max) {
    throw new UsageProblem(`'${name}' command has ${args.length} arguments; expected ${name} ${entry.usage}`);
  }
  if (!['netdev', 'dummy', 'system'].includes(args[0])) {
    throw new UsageProblem(`datapath ${args[0]} does not exist; expected netdev`);
  }
  return entry.read(args, options);
}

// ---- timeout policies ----

function zoneArgument(text: string): number {
  if (text.startsWith('zone=')) return parseZone(text.slice(5));
  throw new UsageProblem(`invalid zone argument, ${text}; expected zone=N`);
}

/** A zone that has a policy gets this one instead, with or without --may-exist. */
function readAddPolicy(args: readonly string[]): Command {
  const zone = zoneArgument(args[1]);
  const attributes = new Map<string, number>();
  for (const arg of args.slice(2)) {
    const [name, text, ...more] = arg.split('=');
    const seconds = /^\d{1,10}$/.test(text ?? '') ? Number(text) : Number.NaN;
    if (!TIMEOUT_ATTRIBUTES.has(name)) {
      throw new UsageProblem(
        `"${name}" is no timeout; expected one of ${[...TIMEOUT_ATTRIBUTES.keys()].join(', ')}`,
      );
    }
    if (!(seconds <= MAX_U32) || more.length > 0) {
      throw new UsageProblem(`"${arg}" does not say how long; expected ${name}=SECONDS`);
    }
    attributes.set(name, seconds);
  }
  return ({ fabric, clock }) => {
    fabric.coordinator.setPolicy(zone, attributes, clock);
    return '';
  };
}

function readDelPolicy(args: readonly string[], options: ReadonlySet<string>): Command {
  const zone = zoneArgument(args[1]);
  const mustExist = !options.has('--if-exists');
  return ({ fabric, clock }) => {
    const { coordinator } = fabric;
    if (mustExist && !coordinator.policies.has(zone)) {
      throw new CommandRefused(`${SPEAKER}zone id ${zone} does not have a policy`);
    }
    coordinator.setPolicy(zone, null, clock);
    return '';
  };
}

const listPolicies: Command = ({ fabric }) => {
  const { policies, databaseLimits } = fabric.coordinator;
  const zones = new Set([
    ...policies.zones(),
    ...[...databaseLimits.keys()].filter((z) => z !== DEFAULT_ZONE),
  ]);
  return [...zones]
    .sort((a, b) => a - b)
    .map((zone) => {
      const policy = policies.of(zone);
      const text =
        policy === undefined
          ? 'system default'
          : [...policy].map(([name, seconds]) => `${name}=${seconds}`).join(' ');
      return `Zone:${zone}, Timeout Policies: ${text}\n`;
    })
    .join('');
};

// ---- limits in the database ----

function limitZone(text: string): number {
  if (text === 'default') return DEFAULT_ZONE;
  if (!/^\d+$/.test(text)) throw new UsageProblem(`invalid zone id, ${text}; expected a zone or default`);
  return parseZone(text);
}

function readSetLimit([, zoneText, limitText]: readonly string[]): Command {
  const zone = limitZone(zoneText);
  const limit = /^\d{1,10}$/.test(limitText) ? Number(limitText) : Number.NaN;
  if (!(limit <= MAX_U32)) throw new UsageProblem(`invalid limit, ${limitText}; expected 0 to ${MAX_U32}`);
  return ({ fabric }) => {
    fabric.coordinator.databaseLimits.set(zone, limit);
    fabric.coordinator.limits.set(zone, limit);
    return '';
  };
}

function readDelLimit([datapath, zoneText]: readonly string[], options: ReadonlySet<string>): Command {
  const zone = limitZone(zoneText);
  const mustExist = !options.has('--if-exists');
  return ({ fabric }) => {
    const { databaseLimits, limits } = fabric.coordinator;
    if (!databaseLimits.delete(zone)) {
      if (!mustExist) return '';
      throw new CommandRefused(
        zone === DEFAULT_ZONE
          ? `${SPEAKER}datapath ${datapath} does not have a limit`
          : `${SPEAKER}zone_id ${zone} does not have a limit`,
      );
    }
    limits.remove(zone);
    return '';
  };
}

const listLimits: Command = ({ fabric }) =>
  [...fabric.coordinator.databaseLimits]
    .sort(([a], [b]) => a - b)
    .map(([zone, limit]) =>
      zone === DEFAULT_ZONE ? `Default, Limit: ${limit}\n` : `Zone: ${zone}, Limit: ${limit}\n`,
    )
    .join('');
