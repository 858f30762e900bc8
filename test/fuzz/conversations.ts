/** Conversations: frames with ports and times, through the tracker with all that it knows: TCP, SCTP, ICMP and its errors,
 *  FTP and TFTP helpers, fragments, zones, translation. Begins with what the protocol fuzzers play, and is guided by coverage.
 *
 *  An input is a byte for the table, and for each packet a byte for the port and the time since the last, the frame's length
 *  in two bytes, and the frame. */
import { FUZZERS } from '../differential/fuzz/index.js';
import { mutant } from '../differential/fuzz/mutants.js';
import { Script } from '../differential/scenarios/script.js';
import { type Bytes, cat, type Packet, Random, u16, unhex } from '../support/packets.js';
import { difference } from '../support/run.js';
import { DrawnTurns } from '../support/turns.js';
import { mutateBytes } from './mutate.js';
import { balanced, runOver } from './replays.js';
import { check, type MakeTarget, seedOf } from './target.js';

interface Part {
  port: number;
  wait: number;
  frame: Bytes;
}

const TABLES = FUZZERS.flatMap((f) =>
  f.tables.map((flows) => ({ flows, ports: Array.from({ length: f.ports }, (_, i) => i + 1) })),
);
/** Seconds between packets, by two bits of a byte. */
const WAITS = [0, 0.01, 1, 40];
const PORT_BITS = 6;
const MOST_PACKETS = 48;
const MOST_FRAME = 4000;

function pack(table: number, parts: readonly Part[]): Bytes {
  return cat(
    Uint8Array.of(table),
    ...parts.flatMap(({ port, wait, frame }) => [
      Uint8Array.of((wait << PORT_BITS) | port, ...u16(frame.length)),
      frame,
    ]),
  );
}

function unpack(input: Bytes): Part[] {
  const parts: Part[] = [];
  for (let at = 1; at + 3 <= input.length && parts.length < MOST_PACKETS; ) {
    const length = Math.min(MOST_FRAME, (input[at + 1] << 8) | input[at + 2]);
    const frame = input.slice(at + 3, at + 3 + length);
    parts.push({ port: input[at] & ((1 << PORT_BITS) - 1), wait: input[at] >> PORT_BITS, frame });
    at += 3 + length;
  }
  return parts;
}

function seeds(): Bytes[] {
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
          const since = t - last;
          const wait = WAITS.findLastIndex((w) => w <= since);
          parts.push({ port: in_port, wait: Math.max(0, wait), frame: unhex(hex) });
          last = t;
        }
        return pack(number, parts);
      });
    }),
  );
}

export const conversationsTarget: MakeTarget = (bug) => ({
  name: 'conversations',
  about: 'protocols and helpers: rows of mutated packets through tables that track, translate and help',
  seeds,
  mutate(r, input, others) {
    if (r.once(8)) return mutateBytes(r, input, others);
    const parts = unpack(input);
    if (parts.length === 0) return mutateBytes(r, input, others);
    let table = input[0];
    for (let n = 1 + r.int(4); n > 0; n--) {
      const at = r.int(parts.length);
      const part = parts[at];
      switch (r.int(9)) {
        case 0:
          parts.splice(at, 0, { ...part });
          break;
        case 1:
          if (parts.length > 1) parts.splice(at, 1);
          break;
        case 2:
          parts.splice(r.int(parts.length), 0, ...parts.splice(at, 1));
          break;
        case 3:
          part.wait = r.int(WAITS.length);
          break;
        case 4:
          part.port = 1 + r.int(3);
          break;
        case 5:
          if (r.once(4)) table = r.int(TABLES.length);
          break;
        case 6: {
          const other = unpack(r.pick(others));
          if (other.length > 0) parts.splice(at, 0, ...other.slice(r.int(other.length)).slice(0, 5));
          break;
        }
        case 7:
          part.frame = mutateBytes(r, part.frame, [r.pick(parts).frame]).slice(0, MOST_FRAME);
          break;
        default:
          if (part.frame.length >= 15) part.frame = mutant((most) => r.int(most), part.frame);
      }
    }
    return pack(table, parts.slice(0, MOST_PACKETS));
  },
  guided: true,
  async run(input) {
    const parts = unpack(input);
    if (parts.length === 0) return { files: 0, packets: 0 };
    const { flows, ports } = TABLES[input[0] % TABLES.length];
    let t = 0;
    const packets = parts.map(({ port, wait, frame }): Packet => {
      t += WAITS[wait];
      return { sec: Math.floor(t), nsec: Math.floor((t % 1) * 1e9), port, frame };
    });
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
