/** Control events: what a controller or an administrator would do at given capture times (`--events
 *  FILE.ndjson`; docs/events.md). Each line is `{"t": seconds, KIND: …}`; every packet stamped earlier sees the
 *  state before, every later one the state after.
 *
 *  A file is read and checked as a whole before anything runs. An event that can't be carried out when its time
 *  comes is refused: the run goes on, and the log says why. */
import { OFPP_LOCAL } from '../classifier/flow-key.js';
import { type Command, CommandRefused, type CommandTarget, maxConnsOf, readAppctl } from './appctl.js';
import { UsageProblem } from './ct-match.js';
import { type OfctlCommand, readOfctl } from './ofctl.js';
import { readVsctl } from './vsctl.js';

/** An event, checked. */
export interface ControlEvent {
  sec: number;
  nsec: number;
  /** Where it stands, for messages: FILE:LINE. */
  place: string;
  /** What is done, as the file has it: its kind and the arguments. */
  kind: string;
  argument: unknown;
  /** Acts while no packet is in flight; returns what it prints. Throws CommandRefused. */
  run: Command;
  /** Actions that it may put into the flow tables. */
  actions: OfctlCommand['actions'];
  /** Connections that the table must have room for, because this event allows so many. */
  capacity: number;
}

/** What became of an event. */
export interface EventOutcome {
  event: ControlEvent;
  /** What the command printed, if it was done. */
  result: string | null;
  /** Why it was refused, if it was. */
  error: string | null;
}

/** Mistakes in an events file; each names file, line and remedy. */
export class EventError extends Error {
  override name = 'EventError';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

/** What is known of the switch when the file is read. */
export interface EventContext {
  /** Its ports; LOCAL need not be among them. */
  ports: readonly number[];
  /** Reads a file that a command names; absent: commands can't name files. */
  readFile?: (path: string) => string;
}

type Reader = (argument: unknown, context: EventContext) => Command | OfctlCommand;

/** Reads what follows a kind; throws UsageProblem. */
const KINDS: Readonly<Record<string, Reader>> = {
  appctl: (argument) => readAppctl(argumentList('appctl', argument)),
  ofctl: (argument, { ports, readFile = noFiles }) =>
    readOfctl(argumentList('ofctl', argument), { ports, readFile }),
  vsctl: (argument) => readVsctl(argumentList('vsctl', argument)),
  port: readPortEvent,
};
const EXAMPLE = '{"t": 12.5, "appctl": ["dpctl/flush-conntrack"]}';

/** Times are counted in milliseconds, as whole numbers. */
const MOST_SECONDS = 1e12;

/** Parses an events file; the result is in order of time, ties in file order. Throws EventError. */
export function parseEvents(text: string, file: string, context: EventContext): ControlEvent[] {
  const events: ControlEvent[] = [];
  const problems: string[] = [];
  text.split('\n').forEach((line, i) => {
    if (line.trim() === '' || line.trimStart().startsWith('#')) return;
    const place = `${file}:${i + 1}`;
    try {
      events.push(parseEvent(line, place, context));
    } catch (error) {
      if (!(error instanceof UsageProblem)) throw error;
      problems.push(`${place}: ${error.message}`);
    }
  });
  if (problems.length > 0) throw new EventError(problems);
  return events.sort((a, b) => a.sec - b.sec || a.nsec - b.nsec);
}

function parseEvent(line: string, place: string, context: EventContext): ControlEvent {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    throw new UsageProblem(
      `not JSON (${(error as Error).message}); expected one object a line, such as ${EXAMPLE}`,
    );
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new UsageProblem(`expected an object such as ${EXAMPLE}`);
  }
  const { t, note: _note, ...rest } = value as Record<string, unknown>;
  const time = parseTime(line, t);
  const keys = Object.keys(rest);
  const kinds = Object.keys(KINDS).map((k) => `"${k}"`);
  const unknown = keys.find((k) => !Object.hasOwn(KINDS, k));
  if (unknown !== undefined) {
    throw new UsageProblem(`"${unknown}" is not known; expected "t" and one of ${kinds.join(', ')}`);
  }
  if (keys.length !== 1) {
    const found = keys.length === 0 ? 'nothing to do' : `${keys.length} things to do at once`;
    throw new UsageProblem(`${found}; expected one of ${kinds.join(', ')}, such as ${EXAMPLE}`);
  }
  const [kind] = keys;
  const argument = rest[kind];
  const read = KINDS[kind](argument, context);
  const { run, actions } = typeof read === 'function' ? { run: read, actions: [] } : read;
  return {
    ...time,
    place,
    kind,
    argument,
    run,
    actions,
    capacity: capacityOf(argument),
  };
}

/** Nanoseconds don't survive a JSON number of today's seconds, so the digits are read from the line. */
function parseTime(line: string, t: unknown): { sec: number; nsec: number } {
  const digits = /"t"\s*:\s*"?(-?\d+)(?:\.(\d+))?(?![\d.eE])/.exec(line);
  if ((typeof t !== 'number' && typeof t !== 'string') || t === '' || !Number.isFinite(Number(t))) {
    throw new UsageProblem(`"t" is ${JSON.stringify(t) ?? 'missing'}; expected seconds, such as 12.5`);
  }
  // Of two times, JSON.parse has taken the last.
  if (Math.max(Math.abs(Number(t)), Math.abs(Number(digits?.[1] ?? 0))) > MOST_SECONDS) {
    throw new UsageProblem(`"t" is ${t}; expected at most ${MOST_SECONDS} seconds`);
  }
  if (digits === null) {
    const seconds = Number(t);
    const sec = Math.floor(seconds);
    return { sec, nsec: Math.min(999_999_999, Math.round((seconds - sec) * 1e9)) };
  }
  const sec = Number(digits[1]);
  const nsec = Number((digits[2] ?? '').padEnd(9, '0').slice(0, 9));
  return digits[1].startsWith('-') && nsec > 0 ? { sec: sec - 1, nsec: 1e9 - nsec } : { sec, nsec };
}

function noFiles(path: string): never {
  throw new UsageProblem(`${path} can't be read here; expected the text itself`);
}

function argumentList(kind: string, argument: unknown): string[] {
  if (!Array.isArray(argument) || argument.length === 0 || !argument.every((a) => typeof a === 'string')) {
    throw new UsageProblem(
      `"${kind}" is ${JSON.stringify(argument)}; expected a list of strings: command, arguments`,
    );
  }
  return argument as string[];
}

/** `[3, "down"]` */
function readPortEvent(argument: unknown, { ports }: EventContext): Command {
  const [name, state, ...more] = Array.isArray(argument) ? argument : [];
  const port = name === 'LOCAL' || name === 'local' ? OFPP_LOCAL : name;
  if (typeof port !== 'number' || !Number.isInteger(port) || more.length > 0) {
    throw new UsageProblem(
      `"port" is ${JSON.stringify(argument)}; expected a port and "up" or "down", such as [3, "down"]`,
    );
  }
  if (state !== 'up' && state !== 'down') {
    throw new UsageProblem(`port ${name} can't be ${JSON.stringify(state)}; expected "up" or "down"`);
  }
  if (port !== OFPP_LOCAL && !ports.includes(port)) {
    throw new UsageProblem(
      `the switch has no port ${port}, only ${[...ports, 'LOCAL'].join(', ')}; expected one of these, or --ports ${port}`,
    );
  }
  return ({ pipeline }) => {
    pipeline.setPort(port, state === 'up');
    return '';
  };
}

/** Of dpctl/ct-set-maxconns; 0 for all others. */
function capacityOf(argument: unknown): number {
  if (!Array.isArray(argument) || argument[0] !== 'dpctl/ct-set-maxconns') return 0;
  return maxConnsOf(argument.at(-1) as string);
}

/** Carries an event out. */
export function runEvent(event: ControlEvent, target: CommandTarget): EventOutcome {
  try {
    return { event, result: event.run(target), error: null };
  } catch (error) {
    if (!(error instanceof CommandRefused)) throw error;
    return { event, result: null, error: error.message };
  }
}

/** A line of the events log. */
export function outcomeJson({ event, result, error }: EventOutcome): string {
  const what = { [event.kind]: event.argument, ...(error === null ? { result } : { error }) };
  return `{"t":${timeText(event)},${JSON.stringify(what).slice(1)}`;
}

/** A line of the events log for something that happened by itself. */
export function noteJson(time: Pick<ControlEvent, 'sec' | 'nsec'>, what: string, text: string): string {
  return `{"t":${timeText(time)},${JSON.stringify(what)}:${JSON.stringify(text)}}`;
}

/** As few digits as say it. */
function timeText({ sec, nsec }: Pick<ControlEvent, 'sec' | 'nsec'>): string {
  if (nsec === 0) return String(sec);
  if (sec >= 0) return `${sec}.${String(nsec).padStart(9, '0').replace(/0+$/, '')}`;
  const below = String(1e9 - nsec)
    .padStart(9, '0')
    .replace(/0+$/, '');
  return `${sec === -1 ? '-0' : sec + 1}.${below}`;
}
