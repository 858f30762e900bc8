/** Plays one script to Shardtrack and to a running Open vSwitch, packet by packet, where later packets answer what
 *  earlier ones became: hosts behind a translating switch see what it chose, and reply to that. Both sides get the
 *  same script; what they send may differ where Open vSwitch's choice is free. */
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { SegmentArena } from '../../src/pcap/arena.js';
import { MergedSource } from '../../src/pcap/merge.js';
import { type CaptureReader, type PacketRecord, ReadResult } from '../../src/pcap/types.js';
import { type Packet, Random } from '../support/packets.js';
import { difference, type RunOptions, run, runSource } from '../support/run.js';
import { LOCAL, type Outputs, secondsText } from './fixture.js';
import type { Ovs } from './ovs.js';
import { type Bytes, hex, unhex } from './packets.js';

/** What came out for an earlier step, [port, frame in hex], by port. */
export type Seen = (step: number) => Outputs;

export interface Arrival {
  readonly port: number;
  readonly frame: Bytes;
}

/** Something that happens at a time: a packet or an ovs-appctl command. */
export interface Step {
  /** Microseconds since the case began; never decreasing. The first step is a packet. */
  readonly us: number;
  readonly note: string;
  /** null: what it would answer never came. */
  readonly packet?: (seen: Seen) => Arrival | null;
  readonly cmd?: readonly string[];
}

export interface LiveCase {
  readonly flows: string;
  readonly groups?: string;
  /** Ports 1 to this number. */
  readonly ports: number;
  readonly steps: readonly Step[];
}

/** What one side did, by step. */
export interface Played {
  /** The packet that arrived; null where a filler took its place. */
  readonly in: readonly (Arrival | null)[];
  readonly out: readonly Outputs[];
  /** Lines of a command's answer; connections oldest first where it is Shardtrack that answers. */
  readonly said: readonly (readonly string[])[];
  /** The connection table at the end. */
  readonly table: readonly string[];
}

/** What Shardtrack also tells. */
export interface Ours extends Played {
  /** Commits that found no tuple. */
  readonly exhausted: number;
}

/** A frame that no flow table here looks at, for steps whose packet never came. */
const FILLER: Bytes = (() => {
  const frame = new Uint8Array(60);
  frame.set([0x88, 0xb5], 12);
  return frame;
})();
const EPOCH = 1_700_000_000;

function runOptions(c: LiveCase): RunOptions {
  const events = c.steps
    .filter((s) => s.cmd)
    .map((s) => `{"t": ${secondsText(EPOCH * 1e6 + s.us)}, "appctl": ${JSON.stringify(s.cmd)}}\n`);
  return {
    flows: c.flows,
    ...(c.groups === undefined ? {} : { groups: c.groups }),
    ports: [...Array.from({ length: c.ports }, (_, i) => i + 1), LOCAL],
    events: events.join(''),
  };
}

/** Makes each packet when it is read, which inline is when all earlier ones are done. */
class LiveReader implements CaptureReader {
  readonly name = 'live';
  readonly notices = [];
  readonly in: (Arrival | null)[] = [];
  private readonly steps: readonly Step[];
  private readonly arena: SegmentArena;
  private readonly seen: Seen;
  private at = 0;

  constructor(steps: readonly Step[], arena: SegmentArena, seen: Seen) {
    this.steps = steps;
    this.arena = arena;
    this.seen = seen;
  }

  next(record: PacketRecord): ReadResult {
    while (this.at < this.steps.length && !this.steps[this.at].packet) {
      this.in.push(null);
      this.at++;
    }
    const step = this.steps[this.at];
    if (step === undefined) return ReadResult.END;
    const segment = this.arena.acquire();
    if (segment < 0) return ReadResult.ARENA_FULL;
    const came = step.packet!(this.seen);
    const { frame, port } = came ?? { frame: FILLER, port: 1 };
    record.off = segment * this.arena.segmentBytes + 64;
    record.capLen = record.wireLen = frame.length;
    record.sec = EPOCH + Math.floor(step.us / 1e6);
    record.nsec = (step.us % 1e6) * 1000;
    record.iface = port;
    record.segment = segment;
    this.arena.u8.set(frame, record.off);
    this.arena.hold(segment);
    this.arena.close(segment);
    this.in.push(came);
    this.at++;
    return ReadResult.PACKET;
  }

  async readable(): Promise<void> {}

  close(): void {}
}

/** Plays the case to Shardtrack, inline. */
export async function playShardtrack(c: LiveCase): Promise<Ours> {
  const arena = new SegmentArena(6, 1 << 16);
  const out: [number, string][][] = c.steps.map(() => []);
  const stepOf = c.steps.flatMap((s, i) => (s.packet ? [i] : []));
  const reader = new LiveReader(c.steps, arena, (step) => out[step]);
  const r = await runSource(new MergedSource([reader], arena), arena, (_source, iface) => iface, {
    ...runOptions(c),
    onOutput: (packet, port, frame) => {
      const outputs = out[stepOf[packet - 1]];
      outputs.push([port, frame]);
      outputs.sort(([p], [q]) => p - q);
    },
  });
  const said: string[][] = c.steps.map(() => []);
  const exhausted = r.traffic.ct.refused_by_reason.nat_exhausted;
  const cmds = c.steps.flatMap((s, i) => (s.cmd ? [i] : []));
  for (const [k, line] of r.log.entries()) {
    const { result, error } = JSON.parse(line) as { result?: string; error?: string };
    said[cmds[k]] = (error ?? result ?? '').split('\n').filter(Boolean);
  }
  return { in: reader.in, out, said, table: r.dump, exhausted };
}

/** Why the packets that arrived give something else on worker threads (1, 2 or 4, as drawn), or null. */
export async function workersDisagree(c: LiveCase, played: Played, seed: number): Promise<string | null> {
  const r = new Random(seed);
  const packets: Packet[] = c.steps.flatMap((s, i) =>
    s.packet
      ? [
          {
            sec: EPOCH + Math.floor(s.us / 1e6),
            nsec: (s.us % 1e6) * 1000,
            port: played.in[i]?.port ?? 1,
            frame: played.in[i]?.frame ?? FILLER,
          },
        ]
      : [],
  );
  const inline = await run(packets, runOptions(c));
  const workers = r.pick([1, 2, 4]);
  const o = { ...runOptions(c), workers, jitter: 1 + r.int(1 << 20), window: 2 + r.int(60) };
  const found = difference(inline, await run(packets, o));
  return found === null ? null : `--workers ${workers}: ${found}`;
}

/** Where the tables of a case lie while Open vSwitch reads them, and when the case began on its clock. */
export interface Stage {
  readonly dir: string;
  readonly startMs: number;
}

/** Plays the case to Open vSwitch, whose tables it replaces. */
export async function playOvs(ovs: Ovs, c: LiveCase, stage: Stage): Promise<Played> {
  const flows = path.join(stage.dir, 'flows.txt');
  const groups = path.join(stage.dir, 'groups.txt');
  writeFileSync(flows, c.flows);
  await ovs.ofctl(['del-flows']);
  await ovs.ofctl(['del-groups']);
  await ovs.clock(stage.startMs);
  await ovs.command(['dpctl/flush-conntrack']);
  if (c.groups !== undefined) {
    writeFileSync(groups, c.groups);
    await ovs.addGroups(groups);
  }
  await ovs.addFlows(flows, c.flows);
  const out: Outputs[] = [];
  const said: string[][] = [];
  const arrived: (Arrival | null)[] = [];
  for (const step of c.steps) {
    await ovs.clock(stage.startMs + Math.floor(step.us / 1000));
    let outputs: Outputs = [];
    let lines: string[] = [];
    let came: Arrival | null = null;
    if (step.packet) {
      came = step.packet((i) => out[i]);
      const { port, frame } = came ?? { port: 1, frame: FILLER };
      outputs = [...(await ovs.packet(port, hex(frame)))].sort(([p], [q]) => p - q);
    } else {
      const { result, error } = await ovs.command(step.cmd!);
      lines = (error ?? result ?? '').split('\n').filter(Boolean);
    }
    out.push(outputs);
    said.push(lines);
    arrived.push(came);
  }
  return { in: arrived, out, said, table: await ovs.table() };
}

/** The copy of step `of` that left by the first port that `choose` takes; null if there is none. */
export function copyOf(
  seen: Seen,
  of: number,
  choose: (port: number) => boolean = () => true,
): Arrival | null {
  const found = seen(of).find(([port]) => choose(port));
  return found === undefined ? null : { port: found[0], frame: unhex(found[1]) };
}
