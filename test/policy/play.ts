/** Random stateful firewalls and hostile traffic: no packet goes out that the model of the policy forbids. */
import { type Packet, Random } from '../support/packets.js';
import { randomTraffic } from '../support/random-traffic.js';
import { difference, parseVerdicts, type RunResult, run } from '../support/run.js';
import { Model, policy } from './model.js';

export interface Played {
  packets: number;
  /** Packets that went out, and packets that the model forbade some port. */
  passed: number;
  forbidding: number;
  /** What should not have happened; null: nothing. */
  wrong: string | null;
}

/** Traffic of hosts on both sides, and of an attacker who sees it: their packets from elsewhere, turned round, again. */
function hostile(r: Random, n: number): Packet[] {
  const honest = randomTraffic(r, { packets: n, flows: 4 + r.int(20), plain: r.once(2), calm: !r.once(4) });
  return honest.map((p, i) => {
    if (!r.once(6)) return p;
    const seen = honest[r.int(i + 1)];
    return { ...p, port: 3 + r.int(2), frame: r.once(2) ? seen.frame : turned(seen.frame) };
  });
}

/** Addresses and ports exchanged; checksums stay right. */
function turned(frame: Uint8Array): Uint8Array {
  const out = frame.slice();
  const swap = (a: number, b: number, size: number): void => {
    if (b + size > out.length) return;
    const first = out.slice(a, a + size);
    out.copyWithin(a, b, b + size);
    out.set(first, b);
  };
  const type = (out[12] << 8) | out[13];
  if (type === 0x800) {
    swap(26, 30, 4);
    swap(34, 36, 2);
  } else if (type === 0x86dd) {
    swap(22, 38, 16);
    swap(54, 56, 2);
  }
  return out;
}

/** Plays case `seed` with each number of workers. `flows` replaces the table that the switch gets. */
export async function play(
  seed: number,
  n: number,
  workers: readonly number[],
  flows?: string,
): Promise<Played> {
  const r = new Random(seed);
  const { flows: drawn, rules } = policy(r);
  const packets = hostile(r, n);
  const played: Played = { packets: 0, passed: 0, forbidding: 0, wrong: null };
  let first: RunResult | null = null;
  for (const count of workers) {
    const schedule =
      count === 0 ? {} : { window: 4 + r.int(200), vector: 1 + r.int(32), jitter: r.once(2) ? 0 : seed + 1 };
    const result = await run(packets, { flows: flows ?? drawn, workers: count, ...schedule });
    const model = new Model(rules);
    for (const [i, { out }] of parseVerdicts(result).entries()) {
      const allowed = model.allowed(packets[i].port, packets[i].frame);
      played.packets++;
      if (out.length > 0) played.passed++;
      const leak = out.find((port) => !allowed.has(port));
      if (leak === undefined || played.wrong !== null) continue;
      const hex = Buffer.from(packets[i].frame).toString('hex');
      played.wrong = `seed ${seed}, ${count} workers: packet ${i + 1} from port ${packets[i].port} went out of port ${leak}: ${hex}\n${result.verdicts[i]}\n${drawn}`;
    }
    played.forbidding += model.forbidding;
    if (first === null) first = result;
    else played.wrong ??= difference(first, result);
  }
  return played;
}
