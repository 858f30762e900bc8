/** The coordinator as a datapath on the main thread asks it: it answers at once.
 *
 *  A packet asks when all before it are done, so every answer is given in input order. */
import type { MegaflowCache } from '../classifier/megaflow.js';
import { Arrival, FRAGMENT_HELD, type Reassembly } from '../conntrack/ipf.js';
import type { Partition } from '../conntrack/partition.js';
import type { PacketContext } from '../datapath/context.js';
import type { CommitRequest } from '../datapath/control.js';
import type { Pipeline } from '../openflow/tables.js';
import { CONN } from '../shm/layouts.js';
import type { PacketColumns } from '../shm/packets.js';
import type { Coordinator } from './coordinator.js';

export class Direct {
  private readonly coordinator: Coordinator;
  private readonly pipeline: Pipeline;
  private readonly packets: PacketColumns;
  private readonly reassembly: Reassembly;
  private readonly arrival: Arrival;

  constructor(
    coordinator: Coordinator,
    pipeline: Pipeline,
    packets: PacketColumns,
    reassembly: Reassembly,
    arena: SharedArrayBuffer,
  ) {
    this.coordinator = coordinator;
    this.pipeline = pipeline;
    this.packets = packets;
    this.reassembly = reassembly;
    this.arrival = new Arrival(new Uint8Array(arena), new DataView(arena));
  }

  upcall(ctx: PacketContext, megaflows: MegaflowCache): Int32Array {
    const { program, mask } = this.coordinator.translate(ctx.key);
    return megaflows.insert(ctx.key, mask, program).program;
  }

  reserve(): number {
    return this.coordinator.commitsFreely(1) ? this.coordinator.reserve(0) : -1;
  }

  made(row: number, slot: number, hash: number, partition: Partition): void {
    const now = this.packets.clock[row];
    const { hot, hotF64 } = partition;
    const c = slot << CONN.shift;
    const expires = hotF64[(c + CONN.at.EXPIRES) >> 1];
    this.coordinator.made(0, slot, hash, hot[c + CONN.at.ZONE_PROTO], expires, now);
  }

  commit(ctx: PacketContext, request: CommitRequest): number {
    return this.coordinator.commit(0, request.words, 0, ctx.seq, ctx.now);
  }

  normal(ctx: PacketContext): boolean {
    ctx.answerPorts.length = 0;
    ctx.answer = this.coordinator.normal(ctx.key, ctx.now, ctx.answerPorts);
    return true;
  }

  change(ctx: PacketContext, id: number): void {
    this.pipeline.execute(id, ctx.now);
  }

  meter(ctx: PacketContext, id: number): boolean {
    return this.pipeline.meter(id, ctx.len, ctx.now);
  }

  fragment(ctx: PacketContext, zone: number): boolean {
    const { arrival, reassembly } = this;
    arrival.u8 = ctx.u8;
    arrival.view = ctx.view;
    arrival.off = ctx.off;
    arrival.len = ctx.len;
    arrival.layout.copy(ctx.layout);
    arrival.packet(ctx.key, zone, this.packets.hash[ctx.slot]);
    ctx.answer = arrive(reassembly, arrival, ctx.now);
    ctx.fragments = reassembly.completed;
    return true;
  }

  /** The same of a fragment that goes no further here, whatever it completes. */
  hold(ctx: PacketContext, zone: number): boolean {
    this.fragment(ctx, zone);
    if (ctx.answer !== FRAGMENT_HELD) this.reassembly.expire(ctx.now, 1);
    ctx.answer = FRAGMENT_HELD;
    ctx.fragments = [];
    return true;
  }
}

/** A fragment is in ct() at `now`; returns what becomes of it (FRAGMENT_*). */
export function arrive(reassembly: Reassembly, arrival: Arrival, now: number): number {
  const answer = reassembly.arrive(arrival, now);
  // What goes on is counted with the verdict.
  if (answer === FRAGMENT_HELD) reassembly.expire(now, 1);
  return answer;
}
