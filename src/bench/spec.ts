/** What one process of a benchmark replays: plain data, so that it can be handed to it. */
import { loadPipeline, portMap } from '../cli/replay.js';
import { parseSizes } from '../generate/sizes.js';
import { type TableOptions, tablesFor } from '../generate/tables.js';
import { SERVER_PORT, type TrafficOptions, traffic } from '../generate/traffic.js';
import type { Workload } from '../generate/workloads.js';
import { type Ordering, orderingOf } from '../openflow/order.js';
import { parseFlows } from '../openflow/parser.js';
import { Pipeline } from '../openflow/tables.js';
import { PrefixSet } from '../wire/cidr.js';
import { type Loaded, loadCaptures, loadFrames } from './load.js';

export interface MadeSpec {
  traffic: Omit<TrafficOptions, 'sizes'> & { sizes: string };
  table: TableOptions;
  rate: number;
}

export interface CaptureSpec {
  captures: string[];
  in: { port: number | null; path: string }[];
  inside?: string;
  ports: number[];
}

export interface BenchSpec {
  name: string;
  made: MadeSpec | null;
  replayed: CaptureSpec | null;
  /** Further ports of the switch, for made traffic. */
  ports?: number[];
  /** Instead of the table of the workload. */
  flows?: string;
  groups?: string;
  meters?: string;
  workers: number;
  vector?: number;
}

export function madeSpec(w: Workload): MadeSpec {
  return { traffic: { ...w.traffic, sizes: w.traffic.sizes.text }, table: w.table, rate: w.rate };
}

/** A spec's packets and tables. */
export interface Prepared {
  loaded: Loaded;
  pipeline: Pipeline;
  ports: readonly number[];
  ordering: Ordering;
}

/** Throws FlowSyntaxError or Error for what can't be read. */
export async function prepare(spec: BenchSpec): Promise<Prepared> {
  const { flows, groups, meters, replayed, made } = spec;
  if (replayed !== null) {
    const inside = replayed.inside === undefined ? undefined : new PrefixSet(replayed.inside);
    // Port 2 is what the shipped tables send to.
    const args = {
      ...replayed,
      inside,
      flows,
      groups,
      meters,
      out: [],
      ports: [...replayed.ports, SERVER_PORT],
    };
    const { pipeline, ports, ordering } = loadPipeline(args);
    const paths = [...args.captures, ...args.in.map((i) => i.path)];
    return { loaded: await loadCaptures(paths, portMap(args)), pipeline, ports, ordering };
  }
  if (made === null) throw new Error(`${spec.name}: neither a workload nor captures`);
  const ports = [...new Set([1, SERVER_PORT, ...(spec.ports ?? [])])];
  const options = { ...made.traffic, sizes: parseSizes(made.traffic.sizes) };
  const loaded = loadFrames(traffic(options), made.rate);
  if (flows !== undefined) {
    return { loaded, ...loadPipeline({ flows, groups, meters, captures: [], in: [], out: [], ports }) };
  }
  const rules = parseFlows(tablesFor(options, made.table), `<${spec.name}>`);
  return {
    loaded,
    pipeline: new Pipeline({ rules, ports }),
    ports,
    ordering: orderingOf(rules.map((r) => r.actions)),
  };
}
