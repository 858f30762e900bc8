/** Conversations: frames with ports and times, through the tracker with all that it knows: TCP, SCTP, ICMP and its errors,
 *  FTP and TFTP helpers, fragments, zones, translation. Begins with what the protocol fuzzers play, and is guided by coverage.
 *
 *  An input is a byte for the table, and a row of frames (rows.ts) with ports and times. */
import { FUZZERS } from '../differential/fuzz/index.js';
import { mutant } from '../differential/fuzz/mutants.js';
import { Script } from '../differential/scenarios/script.js';
import { addedCaptures, framesOf } from '../support/captures.js';
import { type Bytes, cat, type Packet, Random, unhex } from '../support/packets.js';
import { difference } from '../support/run.js';
import { DrawnTurns } from '../support/turns.js';
import { mutateBytes } from './mutate.js';
import { balanced, runOver } from './replays.js';
import { changeRow, type Part, packRow, unpackRow } from './rows.js';
import { check, type MakeTarget, seedOf } from './target.js';

const TABLES = FUZZERS.flatMap((f) =>
  f.tables.map((flows) => ({ flows, ports: Array.from({ length: f.ports }, (_, i) => i + 1) })),
);
const MOST_PACKETS = 48;
const MOST_FRAME = 4000;
/** Between packets: of this unit, some. */
const WAIT_SECONDS = 0.01;
/** From 30 s on, what timeouts are. */
const WAITS = [0, 1, 100, 3000, 4000, 6000, 12_000, 18_000];

/** The row behind the byte for the table. */
export const rowOf = (input: Bytes): Part[] => unpackRow(input.subarray(1), MOST_PACKETS, MOST_FRAME);
export const pack = (table: number, parts: readonly Part[]): Bytes =>
  cat(Uint8Array.of(table), packRow(parts.slice(0, MOST_PACKETS)));

/** The packets of a row, by their times and ports. */
export function packetsOf(parts: readonly Part[]): Packet[] {
  let ticks = 0;
  return parts.map(({ place, wait, frame }) => {
    ticks += wait;
    const t = ticks * WAIT_SECONDS;
    return { sec: Math.floor(t), nsec: Math.floor((t % 1) * 1e9), port: place & PORT_MASK, frame };
  });
}
const PORT_MASK = 63;

/** What the protocol fuzzers play, in each of their tables. */
export function conversations(): Bytes[] {
  const r = new Random(777);
  let table = 0;
  return FUZZERS.flatMap((fuzzer) =>
    fuzzer.tables.flatMap((_, i) => {
      const number = table++;
      return [0, 1].map(() => {
        const script = new Script();
        fuzzer.play(script, (most) => r.int(most), i);
        const parts: Part[] = [];
        let last = 0;
        for (const { t, in_port, hex } of script.records) {
          if (in_port === undefined || hex === undefined || parts.length === MOST_PACKETS) continue;
          const since = (t - last) / WAIT_SECONDS;
          parts.push({ place: in_port, wait: WAITS.findLast((w) => w <= since) ?? 0, frame: unhex(hex) });
          last = t;
        }
        return pack(number, parts);
      });
    }),
  );
}

/** Changes a row, or the table that it goes through, of so many. */
export function mutateConversation(r: Random, input: Bytes, others: readonly Bytes[], tables: number): Bytes {
  const parts = rowOf(input);
  if (r.once(8) || parts.length === 0) return mutateBytes(r, input, others);
  const table = r.once(20) ? r.int(tables) : input[0];
  changeRow(r, parts, {
    waits: WAITS,
    further: [
      (row, at) => {
        row[at].place = 1 + r.int(3);
      },
      (row, at) => {
        const other = rowOf(r.pick(others));
        if (other.length > 0) row.splice(at, 0, ...other.slice(r.int(other.length)).slice(0, 5));
      },
      (row, at) => {
        if (row[at].frame.length >= 15) row[at].frame = mutant((most) => r.int(most), row[at].frame);
      },
    ],
  });
  return pack(table, parts);
}

/** What captures that were added begin with, through a table each; whoever has sent the first frame is on port 1, others on 2. */
function captured(): Bytes[] {
  const rows = addedCaptures().map((file) => framesOf(file).slice(0, MOST_PACKETS));
  return rows
    .filter((frames) => frames.length > 0)
    .map((frames, i) => {
      const first = frames[0].frame.subarray(6, 12);
      return pack(
        i % TABLES.length,
        frames.map(({ ns, frame }, k) => {
          const since = k === 0 ? 0 : Number(ns - frames[k - 1].ns) / 1e9 / WAIT_SECONDS;
          const place = Buffer.compare(frame.subarray(6, 12), first) === 0 ? 1 : 2;
          return { place, wait: Math.min(0xffff, Math.max(0, Math.floor(since))), frame };
        }),
      );
    });
}

export const conversationsTarget: MakeTarget = (bug) => ({
  name: 'conversations',
  about: 'protocols and helpers: rows of mutated packets through tables that track, translate and help',
  seeds: () => [...conversations(), ...captured()],
  mutate: (r, input, others) => mutateConversation(r, input, others, TABLES.length),
  guided: true,
  async run(input) {
    const packets = packetsOf(rowOf(input));
    if (packets.length === 0) return { files: 0, packets: 0 };
    const { flows, ports } = TABLES[input[0] % TABLES.length];
    const r = new Random(seedOf(input));
    const o = { flows, ports, window: 64, maxConns: r.pick([2, 100]), records: r.once(4) };
    const want = await runOver(packets, o, 0);
    balanced(want, packets.length);
    const schedule = {
      workers: 1 + r.int(3),
      window: 2 + r.int(40),
      vector: 1 + r.int(9),
      turns: new DrawnTurns(r),
    };
    const got = await runOver(packets, { ...o, ...schedule }, 0xff);
    // A deliberate mistake that shows where a packet belongs to a connection that a helper has expected, or is an error.
    if (bug) got.verdicts = got.verdicts.map((v) => v.replace('+rel', '+new'));
    const diff = difference(want, got);
    check(
      diff === null,
      () => `${schedule.workers} workers, other surroundings: ${JSON.stringify(o)}\n${diff}`,
    );
    return { files: 0, packets: packets.length };
  },
});
