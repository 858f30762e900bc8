/** A case for other schedules: packets, flow table and events, and how the threads that run them are slowed down,
 *  crowded and squeezed. All of it is drawn from a seed. The run without workers says what must come out. */
import fs from 'node:fs';
import { fixtureNames, loadFixture, secondsText, timeline } from '../differential/fixture.js';
import { addedCaptures, framesOf, shippedCaptures } from '../support/captures.js';
import { natTraffic, randomBalancer, randomNatTable } from '../support/nat-traffic.js';
import { type Packet, Random } from '../support/packets.js';
import { randomEvents, randomFlowMods } from '../support/random-events.js';
import { GROUPS, randomFlow, randomTable } from '../support/random-tables.js';
import { randomTraffic } from '../support/random-traffic.js';
import { difference, type RunOptions, run } from '../support/run.js';

export const KINDS = ['table', 'groups', 'flow-mods', 'nat', 'balancer', 'recorded', 'captured'] as const;
/** Where packets and tables come from: drawn tables over drawn traffic with fragments, groups, tables that change; drawn
 *  translations with one address or by groups, whose packets move from worker to worker; what was recorded with Open vSwitch
 *  (`fixtures/oracle`: FTP, learn, meters, timeouts, fragments, ...); captures through drawn tables. */
export type Kind = (typeof KINDS)[number];

export type Schedule = Required<
  Pick<RunOptions, 'workers' | 'window' | 'vector' | 'jitter' | 'ringWords' | 'slow'>
>;

interface Case {
  packets: readonly Packet[];
  options: RunOptions;
  name: string;
}

const ROOM = 1 << 18;
/** Seconds without a completed packet. */
const WATCHDOG = 20;

export async function drawCase(r: Random, kind: Kind, packets: number): Promise<Case> {
  const maxConns = r.once(5) ? 4 + r.int(20) : 1000;
  const strict = r.once(5);
  switch (kind) {
    case 'table':
    case 'groups':
    case 'flow-mods': {
      const flows = randomTable(r, { groups: kind === 'groups', rewriteTuples: r.once(4) });
      const traffic = randomTraffic(r, { packets, flows: 4 + r.int(30), calm: !r.once(3) });
      const events =
        kind === 'flow-mods'
          ? randomFlowMods(r, traffic, 1 + r.int(12), () => randomFlow(r))
          : r.once(2)
            ? randomEvents(r, traffic, 1 + r.int(12))
            : '';
      const options = { flows, ...(kind === 'groups' ? { groups: GROUPS } : {}), events, maxConns, strict };
      return { packets: traffic, options, name: kind };
    }
    case 'nat':
    case 'balancer': {
      const six = r.once(4);
      const tables = kind === 'nat' ? { flows: randomNatTable(r, six), groups: '' } : randomBalancer(r, six);
      const options = { ...tables, maxConns, strict };
      const shape = { packets, six, delay: r.pick([0, 2, 20]), whole: !r.once(4) };
      const traffic = await natTraffic(r, shape, options);
      const events = r.once(3) ? randomEvents(r, traffic, 1 + r.int(8)) : '';
      return { packets: traffic, options: { ...options, events }, name: kind };
    }
    case 'recorded':
      return recorded(r.pick(fixtureNames()));
    case 'captured': {
      const { packets: traffic, name } = captured(r, packets);
      const flows = r.once(3) ? randomNatTable(r, r.once(4)) : randomTable(r, { rewriteTuples: r.once(4) });
      return { packets: traffic, options: { flows, maxConns, strict }, name };
    }
  }
}

/** So many packets in a row of some capture that has any; whoever sent the first one is on port 1, others are on 2. */
function captured(r: Random, packets: number): { packets: readonly Packet[]; name: string } {
  const added = addedCaptures();
  for (;;) {
    const file = r.pick(added.length > 0 && !r.once(4) ? added : shippedCaptures());
    const frames = framesOf(file);
    const from = r.int(Math.max(1, frames.length - packets));
    const row = frames.slice(from, from + packets);
    if (row.length === 0) continue;
    const first = row[0].frame.subarray(6, 12);
    return {
      name: `${file} from packet ${from + 1} on`,
      packets: row.map(({ ns, frame }) => ({
        sec: Number(ns / 1_000_000_000n),
        nsec: Number(ns % 1_000_000_000n),
        port: Buffer.compare(frame.subarray(6, 12), first) === 0 ? 1 : 2,
        frame,
      })),
    };
  }
}

function recorded(name: string): Case {
  const { flows, groups, meta, records } = loadFixture(name);
  const { packets, events } = timeline(records);
  const read = (file: string | null) => (file === null ? '' : fs.readFileSync(file, 'utf8'));
  return {
    packets: packets.map(({ us, port, frame }) => ({
      sec: Math.floor(us / 1e6),
      nsec: (us % 1e6) * 1000,
      port,
      frame,
    })),
    options: {
      flows: read(flows),
      groups: read(groups),
      ports: Array.from({ length: meta.ports }, (_, i) => i + 1),
      events: events
        .map(({ us, kind, args }) => `{"t": ${secondsText(us)}, "${kind}": ${JSON.stringify(args)}}\n`)
        .join(''),
    },
    name,
  };
}

export function drawSchedule(r: Random): Schedule {
  // Half of the time something is the least that there may be.
  return {
    workers: r.pick([1, 2, 2, 3, 4, 5]),
    window: r.once(2) ? r.pick([1, 2, 3]) : 2 + r.int(r.once(2) ? 20 : 400),
    vector: r.once(2) ? 1 : 1 + r.int(64),
    jitter: r.once(3) ? 0 : 1 + r.int(1 << 20),
    ringWords: r.pick([2, 3 + r.int(30), 3 + r.int(100), 3 + r.int(100), ROOM]),
    slow: r.once(8) ? 1 : 0,
  };
}

export interface Played {
  name: string;
  packets: number;
  /** Packets that changed their home. */
  moved: number;
  /** What differs, with all that it takes to see it again; null: nothing. */
  wrong: string | null;
}

/** Plays case `seed` on a schedule drawn with it. */
export async function play(seed: number, kind: Kind, packets: number): Promise<Played> {
  const r = new Random(seed);
  const drawn = await drawCase(r, kind, packets);
  const schedule = drawSchedule(r);
  const story = `--seed ${seed} --only ${kind}, ${drawn.name}: ${JSON.stringify(schedule)}`;
  const want = await run(drawn.packets, drawn.options);
  try {
    const got = await run(drawn.packets, { ...drawn.options, ...schedule, watchdog: WATCHDOG });
    const found = difference(want, got);
    const wrong = found === null ? null : `${story}\n${found}`;
    return { name: drawn.name, packets: drawn.packets.length, moved: got.run.moved, wrong };
  } catch (error) {
    const wrong = `${story}\n${(error as Error).message}`;
    return { name: drawn.name, packets: drawn.packets.length, moved: 0, wrong };
  }
}
