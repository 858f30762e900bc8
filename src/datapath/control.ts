/** The coordinator, as a datapath thread sees it. */
import { ADDR6, CONN } from '../shm/layouts.js';
import type { PacketContext } from './context.js';

/** Answer of a control plane that will answer later. */
export const PENDING = -2;
/** Answer to a commit that made no entry: the table is full. */
export const NO_ENTRY = -1;

/** The record that a commit asks for: CONN words, then the addresses of an IPv6 connection. */
export class CommitRequest {
  readonly words = new Int32Array(CONN.words);
  readonly f64 = new Float64Array(this.words.buffer);
  readonly addr6 = new Int32Array(ADDR6.words);
  ipv6 = false;
}

/** The coordinator, as a datapath thread sees it. Each call answers at once or says that it is pending;
 *  then the answer arrives through the context, and `run` is called again. */
export interface ControlPlane {
  /** Translates the packet's key and installs a megaflow; null: pending. */
  upcall(ctx: PacketContext): Int32Array | null;
  /** Slot of the new connection, NO_ENTRY or PENDING. */
  commit(ctx: PacketContext, request: CommitRequest): number;
  /** Fills ctx.answerPorts and sets ctx.answer to a drop reason; false: pending. */
  normal(ctx: PacketContext): boolean;
  /** Executes change `id` of the tables (OP_LEARN, OP_FIN_TIMEOUT); inline only. */
  change(ctx: PacketContext, id: number): void;
  /** Whether meter `id` lets the packet pass; inline only. */
  meter(ctx: PacketContext, id: number): boolean;
}
