/** Reads changes of the flow tables and of the meter table as `ovs-ofctl` takes them on its command line
 *  (ovs-ofctl(8): add-flow, mod-flows, del-flows, add-meter), and files of them. */
import { MAX_METER } from './actions.js';
import { type FlowContext, flowLines, readFlowMod } from './parser.js';
import { nearest, Problems, type Span, slice, words } from './tokens.js';
import type { FlowMod, Meter } from './types.js';
import { parseNumber } from './values.js';

/** One flow-mod. `file` is the name that positions carry. Throws a FlowSyntaxError with all problems. */
export function parseFlowMod(
  command: FlowMod['command'],
  text: string,
  file: string,
  context: FlowContext = {},
): FlowMod {
  const problems = new Problems(file);
  problems.line = 1;
  const mod = readFlowMod({ text, at: 0 }, command, problems, context);
  problems.throwIfAny(text);
  return mod!;
}

/** The flow-mods of a file, each line with its command or without (add), in order. */
export function parseFlowMods(text: string, file: string, context: FlowContext = {}): FlowMod[] {
  const problems = new Problems(file);
  const mods: FlowMod[] = [];
  for (const line of flowLines(text, problems)) {
    const mod = readFlowMod(line, undefined, problems, context);
    if (mod !== undefined) mods.push(mod);
  }
  problems.throwIfAny(text);
  return mods;
}

const METER_EXPECTED = 'meter=N, kbps or pktps, burst, stats, and bands=type=drop,rate=N,burst_size=N';
const METER_FLAGS = ['kbps', 'pktps', 'burst', 'stats'];
const BAND_KEYS = ['type', 'rate', 'burst_size'];

/** A meter as add-meter and mod-meter take it. Throws a FlowSyntaxError with all problems. */
export function parseMeter(text: string, file: string): Meter {
  const problems = new Problems(file);
  problems.line = 1;
  const meter = readMeter({ text, at: 0 }, problems);
  problems.throwIfAny(text);
  return meter;
}

/** The meters of a file, a line each. Throws a FlowSyntaxError with all problems. */
export function parseMeters(text: string, file: string): Meter[] {
  const problems = new Problems(file);
  const meters = new Map<number, Meter>();
  for (const line of flowLines(text, problems)) {
    const meter = readMeter(line, problems);
    if (meters.has(meter.id)) {
      problems.add(line, `meter ${meter.id} is there already (OFPMMFC_METER_EXISTS)`, 'each meter once');
    }
    meters.set(meter.id, meter);
  }
  problems.throwIfAny(text);
  return [...meters.values()];
}

function readMeter(line: Span, problems: Problems): Meter {
  const before = problems.found.length;
  const { text } = line;
  const meter: Meter = { id: 0, unit: 'kbps', burst: false, stats: false, bands: [] };
  const bands = /\bbands?\s*=/.exec(text);
  if (bands === null) {
    problems.add(slice(line, text.length), 'the meter has no bands', 'bands=type=drop,rate=N');
    return meter;
  }
  const flags = new Set<string>();
  for (const word of words(slice(line, 0, bands.index), ', \t\r\n')) {
    if (METER_FLAGS.includes(word.text)) flags.add(word.text);
    else if (word.text.startsWith('meter='))
      meter.id = readMeterId(slice(word, 'meter='.length), word, problems);
    else {
      const known = ['meter', ...METER_FLAGS];
      problems.add(word, `unknown keyword "${word.text}"`, METER_EXPECTED, nearest(word.text, known));
    }
  }
  if (meter.id === 0 && problems.found.length === before)
    problems.add(line, 'the meter has no number', 'meter=N');
  if (!flags.has('kbps') && !flags.has('pktps')) {
    problems.add(line, 'the meter has no unit', 'kbps or pktps');
  } else if (flags.has('kbps') && flags.has('pktps')) {
    problems.add(line, 'the meter has two units', 'kbps or pktps');
  }
  meter.unit = flags.has('pktps') ? 'pktps' : 'kbps';
  meter.burst = flags.has('burst');
  meter.stats = flags.has('stats');
  readBands(slice(line, bands.index + bands[0].length), meter, problems);
  return meter;
}

/** The meter that del-meter names, or null for all: "meter=N", "meter=all" or nothing. */
export function parseMeterId(text: string, file: string): number | null {
  if (text.trim() === '' || /^\s*meter=all\s*$/.test(text)) return null;
  const problems = new Problems(file);
  problems.line = 1;
  const [word] = words({ text, at: 0 }, ', \t\r\n');
  if (!word.text.startsWith('meter='))
    problems.add(word, `unknown keyword "${word.text}"`, 'meter=N or meter=all');
  const id = problems.found.length > 0 ? 0 : readMeterId(slice(word, 'meter='.length), word, problems);
  problems.throwIfAny(text);
  return id;
}

function readMeterId(s: Span, whole: Span, problems: Problems): number {
  const where = s.text === '' ? whole : s;
  const id = problems.value(where, parseNumber(s.text, 32, 'meter'));
  if (id === undefined) return 0;
  if (id === 0n || id > MAX_METER)
    problems.add(where, `there is no meter ${s.text}`, `a number from 1 to ${MAX_METER}`);
  return Number(id);
}

function readBands(s: Span, meter: Meter, problems: Problems): void {
  const places: Span[] = [];
  for (const word of words(s, ', \t\r\n')) {
    const at = word.text.indexOf('=');
    const key = at < 0 ? word : slice(word, 0, at);
    const value = at < 0 ? slice(word, word.text.length) : slice(word, at + 1);
    const where = value.text === '' ? word : value;
    const band = meter.bands.at(-1);
    if (!BAND_KEYS.includes(key.text)) {
      const close = nearest(key.text, BAND_KEYS);
      problems.add(key, `unknown keyword "${key.text}" of a band`, 'type=drop,rate=N,burst_size=N', close);
    } else if (key.text === 'type') {
      if (value.text !== 'drop')
        problems.add(where, `bands of type "${value.text}" are not supported`, 'type=drop');
      meter.bands.push({ rate: 0, burstSize: 0 });
      places.push(word);
    } else if (band === undefined) {
      problems.add(word, 'a band begins with its type', 'type=drop,...');
    } else {
      const n = Number(problems.value(where, parseNumber(value.text, 32, key.text)) ?? 0n);
      if (key.text === 'rate') band.rate = n;
      else band.burstSize = n;
    }
  }
  if (meter.bands.length === 0) problems.add(s, 'the meter has no bands', 'bands=type=drop,rate=N');
  meter.bands.forEach((band, i) => {
    if (band.rate === 0) problems.add(places[i], 'the band has no rate', 'rate=N');
    if (meter.burst && band.burstSize === 0)
      problems.add(places[i], 'the band has no burst_size', 'burst_size=N, or no burst');
    if (!meter.burst && band.burstSize !== 0)
      problems.add(places[i], 'burst_size without burst', 'burst before the bands');
  });
}
