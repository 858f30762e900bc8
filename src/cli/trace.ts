/** `shardtrack trace`. */
import { FLOW, KEY_WORDS } from '../classifier/flow-key.js';
import { replay, type TraceRequest } from '../coordinator/replay.js';
import { parseFlows } from '../openflow/parser.js';
import { Translator } from '../openflow/translate.js';
import { composeFrame } from '../wire/compose.js';
import { UsageError } from './options.js';
import { loadPipeline, openSource, pathsOf, portMap, type ReplayArguments, workersOf } from './replay.js';

export interface TraceArguments
  extends Pick<
    ReplayArguments,
    | 'captures'
    | 'in'
    | 'inside'
    | 'ports'
    | 'flows'
    | 'groups'
    | 'meters'
    | 'events'
    | 'maxConns'
    | 'strict'
    | 'workers'
  > {
  /** From 1. */
  packet?: number;
  flow?: string;
}

/** Port of a flow that names none. */
const DEFAULT_PORT = 1;

/** The explanation as text. Throws UsageError, FlowSyntaxError and EventError for exit code 2, anything else
 *  for 1. */
export async function traceCommand(args: TraceArguments): Promise<string> {
  const request = requestOf(args);
  const paths = pathsOf(args);
  if (paths.length === 0 && request.packet !== null) {
    throw new UsageError('no capture given; expected a file that --packet is in, or --flow alone');
  }
  const { pipeline, ports, events, ordering } = loadPipeline({
    ...args,
    out: [],
    ports: request.frame === null ? args.ports : [...args.ports, request.inPort],
  });
  const { arena, source } = await openSource(paths);
  const result = await replay({
    source,
    arena,
    portMap: portMap(args),
    ports,
    translator: new Translator(pipeline),
    workers: workersOf(args),
    ordering,
    events,
    strict: args.strict,
    maxConns: args.maxConns,
    trace: request,
  });
  if (result.damage !== null) throw result.damage;
  if (result.explanation === null) {
    throw new Error(`there is no packet ${args.packet}: ${paths.join(', ')} has ${result.packets} packets`);
  }
  const after = `after ${result.packets} packet${result.packets === 1 ? '' : 's'}, ${result.captureSeconds} s`;
  const what = request.frame === null ? `Packet ${args.packet}` : 'The flow';
  return `${what}, ${after}\n\n${result.explanation.join('\n')}\n`;
}

function requestOf(args: TraceArguments): TraceRequest {
  if ((args.packet === undefined) === (args.flow === undefined)) {
    throw new UsageError('which packet? expected --packet K or --flow FLOW');
  }
  if (args.packet !== undefined) return { packet: args.packet - 1, frame: null, inPort: 0 };
  const [rule] = parseFlows(`${args.flow},actions=drop`, '--flow');
  const key = rule.match.value.slice(0, KEY_WORDS);
  const tracked = Object.entries(FLOW).some(
    ([name, word]) => name.startsWith('CT_') && word < KEY_WORDS && rule.match.mask[word] !== 0,
  );
  if (tracked) {
    throw new UsageError(
      '--flow has ct_ fields; a packet that arrives has none: leave them out, ct() finds out by itself',
    );
  }
  return { packet: null, frame: composeFrame(key), inPort: key[FLOW.IN_PORT] || DEFAULT_PORT };
}
