/** Further files and arguments that people give: filters, options, results and histories of benchmarks, checkpoints. What is
 *  wrong is refused with a message that says where, and what is taken is what it says. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { InvalidArgumentError } from 'commander';
import { analyze } from '../../src/analyze/analyze.js';
import { CheckpointFile, type Subject } from '../../src/analyze/checkpoint.js';
import { readHistory, trendsOf } from '../../src/bench/history.js';
import { type BenchResults, resultsMarkdown, resultsText } from '../../src/bench/results.js';
import { collectRecordOutput } from '../../src/cli/analyze.js';
import * as options from '../../src/cli/options.js';
import { compareStored } from '../../src/compare/stored.js';
import { compileFilter, FilterSyntaxError } from '../../src/pcap/filter.js';
import { benchReport } from '../../src/report/bench.js';
import { renderReport } from '../../src/report/lazy.js';
import { ROOT } from '../differential/fixture.js';
import { type Bytes, pcapFile, Random } from '../support/packets.js';
import { randomTraffic } from '../support/random-traffic.js';
import { sampleResults } from '../support/sample-results.js';
import { mutateBytes } from './mutate.js';
import { check, type MakeTarget, seedOf } from './target.js';
import { NOTHING, textTarget } from './texts.js';

// ---- filters ----

/** Frames of all kinds, each twice: other bytes lie around it. */
const FRAMES = randomTraffic(new Random(31), { packets: 48, flows: 12 }).map(({ frame }) =>
  [0x00, 0xff].map((fill) => {
    const room = new Uint8Array(frame.length + 64).fill(fill);
    room.set(frame, 32);
    return new DataView(room.buffer, 0, room.length);
  }),
);

const answers = (text: string, longer: number): boolean[][] => {
  const passes = compileFilter(text);
  return FRAMES.map((places) =>
    places.map((view) => passes(view, 32, view.byteLength - 64 + longer, view.byteLength - 64)),
  );
};

export const filterTarget = textTarget(
  'filter',
  'filters of --filter, over frames: the same in parentheses, and whatever lies around a frame',
  () => {
    const recorded = JSON.parse(
      fs.readFileSync(path.join(ROOT, 'fixtures', 'filters', 'tcpdump.json'), 'utf8'),
    ) as { filters: object };
    return Object.keys(recorded.filters);
  },
  (text, _input, bug) => {
    let got: boolean[][];
    try {
      // One byte more of the frame than there is.
      got = answers(text, bug ? 1 : 0);
    } catch (error) {
      if (!(error instanceof FilterSyntaxError)) throw error;
      check(
        error.column >= 1 && error.column <= text.length + 1,
        () => `column ${error.column} of ${text.length}: ${error.message}`,
      );
      return NOTHING;
    }
    check(
      got.every(([a, b]) => a === b),
      () => 'it matters what lies around a frame',
    );
    if (text.trim() !== '') {
      check(isDeepStrictEqual(answers(`(${text})`, 0), got), () => 'in parentheses it is another');
    }
    return { files: 1, packets: FRAMES.length };
  },
);

// ---- options ----

const READERS: readonly ((text: string) => unknown)[] = [
  options.parsePort,
  options.parsePortList,
  options.parseWorkers,
  options.parseRssKey,
  options.wholeNumber(1, 100),
  options.parseFault,
  (text) => options.collectIn(text, []),
  (text) => options.collectOut(text, []),
  (text) => collectRecordOutput(text, []),
];

const isPort = (port: unknown): boolean =>
  port === null || port === 65534 || (Number.isInteger(port) && Number(port) >= 1 && Number(port) <= 0xfeff);

export const optionsTarget = textTarget(
  'options',
  'values of options: ports, files of ports, numbers, keys',
  () => [
    '1',
    'LOCAL',
    '1,2, 65279',
    'auto',
    '6d5a'.repeat(20),
    '6d:5a:'.repeat(20),
    'throw@5',
    '3=out.pcap',
    'a.pcapng',
    'csv=x',
  ],
  (text, _input, bug) => {
    for (const read of READERS) {
      let value: unknown;
      try {
        value = read(text);
      } catch (error) {
        check(
          error instanceof InvalidArgumentError,
          () => `${JSON.stringify(text)}: ${(error as Error).stack}`,
        );
        continue;
      }
      if (read === options.parsePort && bug && value === 3) value = 0;
      const ports =
        read === options.parsePort || read === options.parsePortList
          ? [value].flat()
          : Array.isArray(value)
            ? value.flatMap((v: object) => ('port' in v ? [v.port] : []))
            : [];
      check(ports.every(isPort), () => `${JSON.stringify(text)} is port ${ports.join()}`);
      if (read === options.parseRssKey) check((value as Bytes).length === 40, () => `a key of ${value}`);
    }
    return NOTHING;
  },
);

// ---- results of benchmarks, and histories ----

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-fuzz-inputs-'));
process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }));
const HISTORY = path.join(folder, 'history.ndjson');
const OTHER = sampleResults([100, 104]);
const LIMITS = { tolerance: 0.01, notice: 0.05 };
/** HTML takes a hundred times as long as all the rest: it is made of one in so many. */
const WITH_HTML = 16;

export const resultsTarget = textTarget(
  'results',
  'results of benchmarks and histories, as report and compare read them',
  () => {
    const lines = [[250, 260], [251], [300, 310, 290]].map((ns) => JSON.stringify(sampleResults(ns)));
    return [lines[0], lines[2], lines.join('\n')];
  },
  async (text, input, bug) => {
    fs.writeFileSync(HISTORY, text);
    let history: ReturnType<typeof readHistory>;
    try {
      // As if whatever says of itself that it is results were some.
      history = bug ? text.split('\n').map((line) => JSON.parse(line) as BenchResults) : readHistory(HISTORY);
    } catch (error) {
      if (bug) return NOTHING;
      const { message } = error as Error;
      check(message.startsWith(`${HISTORY}:`) && message.length < 2000, () => `${(error as Error).stack}`);
      return NOTHING;
    }
    const last = history[history.length - 1];
    if (last === undefined) return NOTHING;
    const said = `${resultsText(last)}${resultsMarkdown(last)}`;
    check(!said.includes('undefined'), () => `undefined in:\n${said}`);
    const trends = trendsOf(history, 'cpuNsPerPacket');
    check(
      trends.every(({ runs, changes }) => changes.every((at) => at > 0 && at < runs.length)),
      () => 'a change where there is no run',
    );
    try {
      compareStored(OTHER, last, LIMITS);
    } catch (error) {
      check(/no workload in common/.test((error as Error).message), () => `${(error as Error).stack}`);
    }
    const report = benchReport(last, history);
    if (seedOf(input) % WITH_HTML === 0) {
      const html = await renderReport(report);
      check(html.includes('</html>'), () => 'a report without an end');
    }
    return NOTHING;
  },
  1 << 16,
);

// ---- checkpoints ----

const CAPTURE = path.join(folder, 'a.pcap');
const CHECKPOINT = path.join(folder, 'checkpoint');
/** Packets between two checkpoints, and until the analysis fails. */
const EVERY = 40;
const FAILS_AFTER = 170;

interface Genuine {
  bytes: Bytes;
  subject: Subject;
  stored: CheckpointFile['stored'];
}
let genuine: Promise<Genuine> | null = null;

/** The checkpoint of an analysis that has failed. */
async function made(): Promise<Genuine> {
  const packets = randomTraffic(new Random(8), { packets: 200, calm: true }).map((p) => ({ ...p, port: 1 }));
  fs.writeFileSync(CAPTURE, pcapFile(packets, { nano: true }));
  let left = FAILS_AFTER;
  const outputs = [{ format: 'csv', path: path.join(folder, 'a.csv') }] as const;
  const portMap = {
    identity: 'one',
    portOf() {
      if (--left < 0) throw new Error('crash');
      return 1;
    },
  };
  const common = { paths: [CAPTURE], outputs, workers: 0, maxConns: 1000, portMap };
  await analyze({ ...common, resume: CHECKPOINT, checkpointEvery: EVERY }).catch((error: Error) => {
    check(error.message === 'crash', () => `${error.stack}`);
  });
  const further = { filter: null, cutAsIs: false, ignoreChecksums: false, maxConns: 1000, ports: 'one' };
  const subject = { paths: [CAPTURE], outputs, options: further };
  const file = new CheckpointFile(CHECKPOINT, subject);
  file.leave();
  const { stored } = file;
  return { bytes: new Uint8Array(fs.readFileSync(CHECKPOINT)), subject, stored };
}

/** Of the file with a deliberate mistake: whoever has changed it has also said that it is whole. */
const DIGEST_BYTES = 32;

export const checkpointTarget: MakeTarget = (bug) => ({
  name: 'checkpoint',
  about: 'files of --resume: one that is not as it was written is refused',
  // What is changed is drawn: the file has names and times of other files in it.
  seeds: () => [],
  mutate: (r) => r.bytes(4),
  guided: false,
  async run(input) {
    genuine ??= made();
    const { bytes, subject, stored } = await genuine;
    const r = new Random(seedOf(input));
    const changed = mutateBytes(r, bytes, [bytes]);
    if (bug && changed.length > DIGEST_BYTES) {
      const { createHash } = await import('node:crypto');
      changed.set(createHash('sha256').update(changed.subarray(DIGEST_BYTES)).digest());
    }
    fs.writeFileSync(CHECKPOINT, changed);
    let read: CheckpointFile;
    try {
      read = new CheckpointFile(CHECKPOINT, subject);
    } catch (error) {
      const { message } = error as Error;
      check(
        message.startsWith(`${CHECKPOINT}: `) && message.includes('remove it to start anew'),
        () => `${(error as Error).stack}`,
      );
      return NOTHING;
    }
    read.leave();
    check(isDeepStrictEqual(read.stored, stored), () => 'a changed checkpoint is taken');
    return NOTHING;
  },
});
