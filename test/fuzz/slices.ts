/** The way of `analyze` without a flow table: slices, in which TCP and UDP pass by all caches (datapath/express.ts), beside
 *  the engine that takes one packet after the other. The same rows as the conversations, so connections open, answer, end,
 *  expire and begin again; records, verdicts, frames and sums must be the same, with 1 to 3 slices.
 *
 *  An input is a byte for the number of slices, their vector and the table's size, and a row of frames (rows.ts). */
import path from 'node:path';
import { inspect, isDeepStrictEqual } from 'node:util';
import { TRACK_ALL } from '../../src/analyze/analyze.js';
import { joinTallies } from '../../src/coordinator/records.js';
import { SLICE_STEP, Slice, SlicesWontDo } from '../../src/coordinator/slice.js';
import { CAPTURES } from '../differential/fixture.js';
import { addedCaptures, framesOf } from '../support/captures.js';
import type { Bytes } from '../support/packets.js';
import { difference, type RunOptions, type RunResult } from '../support/run.js';
import { conversations, mutateConversation, pack, packetsOf, rowOf } from './conversations.js';
import { balanced, runOver } from './replays.js';
import { check, type MakeTarget } from './target.js';

/** Of each slice: so many that it never says that there may be too many. */
const CONNECTIONS = 2 * SLICE_STEP + 100;
const PORTS = Array.from({ length: 64 }, (_, i) => i + 1);
const KINDS = 256;

/** What people's programs say to each other: the beginnings of captures. */
function captured(): Bytes[] {
  const names = ['tcp-handshakes', 'tcp-sequence-wrap', 'web-client', 'sctp', 'udp-ntp'];
  return [...names.map((name) => path.join(CAPTURES, `${name}.pcap`)), ...addedCaptures()].map((file) =>
    pack(
      0,
      framesOf(file).map(({ frame }) => ({ place: 1, wait: 1, frame })),
    ),
  );
}

/** Without ct_state, of which the fast way knows one for all packets of a port: analyze shows none. */
const stateless = (run: RunResult): RunResult => ({
  ...run,
  verdicts: run.verdicts.map((line) => line.replace(/"state":"[^"]*"/g, '')),
  traffic: { ...run.traffic, ct: { ...run.traffic.ct, new: 0, established: 0, related: 0, invalid: 0 } },
});

/** Records in the order of their connections' first packets. */
function inOrder(records: readonly string[]): string[] {
  const first = (line: string): number => (JSON.parse(line) as { first_packet: number }).first_packet;
  return records
    .map((line) => ({ line, at: first(line) }))
    .sort((a, b) => a.at - b.at)
    .map(({ line }) => line);
}

export const slicesTarget: MakeTarget = (bug) => ({
  name: 'slices',
  about: 'analyze in slices, which TCP and UDP pass without caches, beside the engine',
  seeds: () => [...conversations(), ...captured()],
  mutate: (r, input, others) => mutateConversation(r, input, others, KINDS),
  guided: true,
  async run(input) {
    const packets = packetsOf(rowOf(input));
    if (packets.length === 0) return { files: 0, packets: 0 };
    const n = 1 + (input[0] % 3);
    const vector = [1, 2, 7, 64][(input[0] >> 2) & 3];
    const o: RunOptions = {
      ...{ flows: TRACK_ALL, ports: PORTS, records: true, vlanLimit: 2, window: 128 },
      maxConns: n * CONNECTIONS,
    };
    const want = await runOver(packets, o, 0);
    balanced(want, packets.length);
    const memory = Slice.allocate(n);
    const slices: RunResult[] = [];
    // One after the other: there are too few packets for a mark, at which they would wait for each other.
    for (let k = 0; k < n; k++) {
      const slice = new Slice(memory, k, n, { maxConns: n * CONNECTIONS, vector: vector, watchdog: 0 });
      try {
        slices.push(await runOver(packets, { ...o, workers: 1, vector, slice }, 0xff));
      } catch (error) {
        // Then it is done without slices.
        if (error instanceof SlicesWontDo) return { files: 0, packets: packets.length };
        throw error;
      }
    }
    if (bug) {
      // A deliberate mistake that shows where a connection has been ended by RST.
      for (const s of slices)
        s.records = s.records.map((line) => line.replace('"conn_state":"RSTO"', '"conn_state":"OTH"'));
    }
    if (n === 1) {
      const diff = difference(stateless(want), stateless(slices[0]));
      check(diff === null, () => `one slice, vectors of ${vector}: ${diff}`);
    }
    const all = inOrder(want.records);
    const got = inOrder(slices.flatMap((s) => s.records));
    const other = all.length === got.length ? all.findIndex((line, i) => line !== got[i]) : got.length;
    check(
      other < 0,
      () =>
        `${n} slices, vectors of ${vector}: ${got.length} records of ${all.length}\n${all[other]}\n${got[other]}`,
    );
    const [whole, sum] = [want.result.tallies, joinTallies(slices.map((s) => s.result.tallies))];
    check(isDeepStrictEqual(whole, sum), () => `tallies ${inspect(whole)}, in slices ${inspect(sum)}`);
    return { files: 0, packets: packets.length };
  },
});
