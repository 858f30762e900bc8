/** Random policies and hostile traffic: no packet goes out that the model of the policy forbids. */
import { answer } from '../support/nat-traffic.js';
import {
  type Bytes,
  ethernet,
  hex,
  icmp,
  icmp6,
  ipv4,
  ipv6,
  type Packet,
  Random,
  SYN,
  tcp,
  udp,
  unhex,
} from '../support/packets.js';
import { randomTraffic } from '../support/random-traffic.js';
import { difference, type RunResult, run } from '../support/run.js';
import { type Frame, Model } from './model.js';
import { HOSTS, type Kind, type Policy, policy, TRANSLATED, VIRTUAL } from './policy.js';

export interface Played {
  kind: Kind;
  packets: number;
  /** Packets that went out, those that went out changed, and packets that the model forbade some port. */
  passed: number;
  translated: number;
  forbidding: number;
  /** What should not have happened; null: nothing. */
  wrong: string | null;
}

export interface PlayOptions {
  kind?: Kind;
  /** Changes what the switch gets, and the model does not. */
  hole?: (text: string) => string;
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
function turned(frame: Bytes): Bytes {
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

/** The packets of hosts and attackers. For a policy that translates they are between inside and outside, and outside asks for
 *  the balanced address and for translated ones. */
export function traffic(r: Random, translates: boolean, n: number): Packet[] {
  const packets = hostile(r, n);
  // What goes from port 1 to 2, or 3 to 4, there.
  const sides = [0, 1, 3, 2, 4];
  return translates
    ? packets.map((p) => (r.once(5) ? stranger(r, p) : { ...p, port: sides[p.port] }))
    : packets;
}

/** Answers what comes out of the switch, and the answers. */
async function answered(r: Random, asked: Packet[], p: Policy): Promise<Packet[]> {
  let packets = asked;
  for (let round = 0; round < 2; round++) {
    const { frames } = await run(packets, { flows: p.flows, groups: p.groups });
    const answers: Packet[][] = packets.map(() => []);
    for (const line of frames) {
      const [number, port, text] = line.split(' ');
      const frame = unhex(text);
      const l3 = r.once(4) ? null : answer(r, frame[12] === 0x86, frame);
      const at = Math.min(packets.length - 1, Number(number) - 1 + r.int(6));
      const { sec, nsec } = packets[at];
      // Now and then by another way.
      const from = r.once(20) ? 1 + r.int(4) : Number(port);
      if (l3 !== null) answers[at].push({ sec, nsec, port: from, frame: ethernet({ src: 9 }, l3) });
    }
    packets = packets.flatMap((q, i) => [q, ...answers[i]]);
  }
  return packets;
}

/** Who speaks to an address that stands for others, at the time of another packet. */
function stranger(r: Random, { sec, nsec }: Packet): Packet {
  const six = r.int(2);
  const src = `${HOSTS[six]}${1 + r.int(9)}`;
  const dst = r.once(2) ? VIRTUAL[six] : `${r.pick([TRANSLATED, HOSTS])[six]}${1 + r.int(4)}`;
  const ports = { sport: 40000 + r.int(5), dport: r.pick([80, 53, 443, 5000, 40000, 40001]) };
  const l4 = r.pick([
    () => tcp({ ...ports, flags: SYN, seq: r.word() }),
    () => udp(ports),
    () => (six ? icmp6({ rest: ports.sport << 16 }) : icmp({ rest: ports.sport << 16 })),
  ])();
  const l3 = six ? ipv6({ src, dst }, l4) : ipv4({ src, dst }, l4);
  return { sec, nsec, port: 3 + r.int(2), frame: ethernet({ src: 8 }, l3) };
}

/** Plays case `seed` with each number of workers. */
export async function play(
  seed: number,
  n: number,
  workers: readonly number[],
  { kind, hole = (text) => text }: PlayOptions = {},
): Promise<Played> {
  const r = new Random(seed);
  const drawn = policy(r, kind);
  const translates = drawn.kind === 'nat' || drawn.kind === 'edge';
  const asked = traffic(r, translates, n);
  const packets = translates ? (await answered(r, asked, drawn)).slice(0, n) : asked;
  const options = { flows: hole(drawn.flows), groups: hole(drawn.groups) };
  const played: Played = {
    kind: drawn.kind,
    packets: 0,
    passed: 0,
    translated: 0,
    forbidding: 0,
    wrong: null,
  };
  let first: RunResult | null = null;
  for (const count of workers) {
    const schedule =
      count === 0 ? {} : { window: 4 + r.int(200), vector: 1 + r.int(32), jitter: r.once(2) ? 0 : seed + 1 };
    const result = await run(packets, { ...options, workers: count, ...schedule });
    const seen = look(drawn, packets, result);
    played.packets += packets.length;
    played.passed += seen.passed;
    played.translated += seen.translated;
    played.forbidding += seen.forbidding;
    if (seen.wrong !== null) played.wrong ??= `seed ${seed}, ${drawn.kind}, ${count} workers: ${seen.wrong}`;
    if (first === null) first = result;
    else played.wrong ??= difference(first, result);
  }
  return played;
}

/** What the model says of a run. */
function look(
  drawn: Policy,
  packets: readonly Packet[],
  result: RunResult,
): Omit<Played, 'kind' | 'packets'> {
  const came: Frame[][] = packets.map(() => []);
  for (const line of result.frames) {
    const [number, port, text] = line.split(' ');
    came[Number(number) - 1].push({ port: Number(port), frame: unhex(text) });
  }
  const model = new Model(drawn.rules);
  const seen = { passed: 0, translated: 0, forbidding: 0, wrong: null as string | null };
  for (const [i, p] of packets.entries()) {
    const sent = came[i];
    if (sent.length > 0) seen.passed++;
    if (sent.length === 1 && Buffer.compare(sent[0].frame, p.frame) !== 0) seen.translated++;
    if (model.allows(p.port, p.sec + p.nsec / 1e9, p.frame, sent) || seen.wrong !== null) continue;
    const frames = sent.map((s) => `  ${s.port} ${hex(s.frame)}`).join('\n');
    seen.wrong =
      `packet ${i + 1} from port ${p.port}, ${hex(p.frame)}, went out as\n${frames}\n${result.verdicts[i]}\n` +
      `${drawn.flows}${drawn.groups}`;
  }
  seen.forbidding = model.forbidding;
  return seen;
}
