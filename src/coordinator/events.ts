/** Control events: what an administrator would do at given capture times (`--events FILE.ndjson`). Each
 *  line is `{"t": seconds, "appctl": [command, argument…]}`; every packet stamped earlier sees the state
 *  before, every later one the state after.
 *
 *  Commands are those of ovs-appctl (ovs-vswitchd(8), "Datapath commands"). */
import type { Fabric } from './fabric.js';

export interface ControlEvent {
  sec: number;
  nsec: number;
  /** Where it stands, for messages: FILE:LINE. */
  place: string;
  /** Applies it at `clock` (ms); no packet is in flight. */
  apply(fabric: Fabric, clock: number): void;
}

/** A mistake in an events file: the message names file, line and remedy. */
export class EventError extends Error {
  override name = 'EventError';
}

const SUPPORTED = 'dpctl/flush-conntrack [zone=N], dpctl/ct-enable-tcp-seq-chk, dpctl/ct-disable-tcp-seq-chk';

/** Parses an events file; the result is in order of time, ties in file order. */
export function parseEvents(text: string, file: string): ControlEvent[] {
  const events: ControlEvent[] = [];
  text.split('\n').forEach((line, i) => {
    if (line.trim() === '' || line.trimStart().startsWith('#')) return;
    const place = `${file}:${i + 1}`;
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch (error) {
      throw new EventError(`${place}: not JSON (${(error as Error).message}); expected one object a line`);
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new EventError(
        `${place}: expected an object such as {"t": 12.5, "appctl": ["dpctl/flush-conntrack"]}`,
      );
    }
    const event = value as Record<string, unknown>;
    const { sec, nsec } = parseTime(line, event.t, place);
    const extra = Object.keys(event).find((k) => k !== 't' && k !== 'appctl');
    if (extra !== undefined) {
      throw new EventError(
        `${place}: "${extra}" is not supported yet; expected "appctl" with one of ${SUPPORTED}`,
      );
    }
    events.push({ sec, nsec, place, apply: parseCommand(event.appctl, place) });
  });
  return events.sort((a, b) => a.sec - b.sec || a.nsec - b.nsec);
}

/** Nanoseconds don't survive a JSON number of today's seconds, so the digits are read from the line. */
function parseTime(line: string, t: unknown, place: string): { sec: number; nsec: number } {
  const digits = /"t"\s*:\s*"?(-?\d+)(?:\.(\d+))?(?![\d.eE])/.exec(line);
  if ((typeof t !== 'number' && typeof t !== 'string') || !Number.isFinite(Number(t))) {
    throw new EventError(
      `${place}: "t" is ${JSON.stringify(t) ?? 'missing'}; expected seconds, such as 12.5`,
    );
  }
  if (digits === null) {
    const seconds = Number(t);
    const sec = Math.floor(seconds);
    return { sec, nsec: Math.round((seconds - sec) * 1e9) };
  }
  const sec = Number(digits[1]);
  const nsec = Number((digits[2] ?? '').padEnd(9, '0').slice(0, 9));
  return digits[1].startsWith('-') && nsec > 0 ? { sec: sec - 1, nsec: 1e9 - nsec } : { sec, nsec };
}

function parseCommand(argv: unknown, place: string): ControlEvent['apply'] {
  if (!Array.isArray(argv) || argv.length === 0 || !argv.every((a) => typeof a === 'string')) {
    throw new EventError(`${place}: expected "appctl" with a list of strings, one of ${SUPPORTED}`);
  }
  const [command, ...args] = argv as string[];
  switch (command) {
    case 'dpctl/flush-conntrack': {
      // An optional datapath name comes first; there is only one.
      const rest = args.filter((a) => !/^(netdev|system|dummy)@/.test(a));
      const zone = /^zone=(\d+)$/.exec(rest[0] ?? '');
      if (rest.length === 0) return (fabric, clock) => fabric.coordinator.flush(null, clock);
      if (rest.length === 1 && zone !== null && Number(zone[1]) <= 0xffff) {
        return (fabric, clock) => fabric.coordinator.flush(Number(zone[1]), clock);
      }
      throw new EventError(
        `${place}: "${rest.join(' ')}": flushing is by zone=0 to zone=65535, or all, so far`,
      );
    }
    case 'dpctl/ct-enable-tcp-seq-chk':
      return (fabric) => fabric.setSequenceCheck(true);
    case 'dpctl/ct-disable-tcp-seq-chk':
      return (fabric) => fabric.setSequenceCheck(false);
    default:
      throw new EventError(`${place}: "${command}" is not supported yet; expected one of ${SUPPORTED}`);
  }
}
