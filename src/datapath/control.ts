/** The coordinator, as a datapath thread sees it. */
import { HASHED_ASK_WORDS } from '../conntrack/nat.js';
import { ADDR6, CONN, PARENT } from '../shm/layouts.js';
import type { PacketContext } from './context.js';

/** Answer of a control plane that will answer later. */
export const PENDING = -2;
/** Answers to a commit that made no entry: the table is full; no tuple is left to translate to. */
export const NO_ENTRY = -1;
export const NO_TUPLE = -3;

/** A commit request as words: what is in it, which of the packet's ct() asks, then the hot record (STATE says which helper reads the
 *  connection), then, as far as they are in it and in this order: the addresses of an IPv6 connection; the
 *  hashed ask for translation (conntrack/nat.ts); what a helper promised its data connection. */
export const COMMIT_IPV6 = 1;
export const COMMIT_NAT = 2;
export const COMMIT_CHILD = 4;
export const COMMIT_NTH = 1;
export const COMMIT_CONN = 2;
const COMMIT_REST = COMMIT_CONN + CONN.words;
/** Of a promise: 1 if the address is the one that replies go to, 0 if they come from it; … */
export const CHILD_END = 0;
/** … the address; mark and label; the tuple of the parent, as PARENT. */
export const CHILD_ADDRESS = 1;
export const CHILD_META = 5;
export const CHILD_PARENT = 10;
const CHILD_WORDS = CHILD_PARENT + PARENT.words;
export const MAX_COMMIT_WORDS = COMMIT_REST + ADDR6.words + HASHED_ASK_WORDS + CHILD_WORDS;

/** One a thread: filled for every commit. */
export class CommitRequest {
  readonly words = new Int32Array((MAX_COMMIT_WORDS + 1) & ~1);
  readonly f64 = new Float64Array(this.words.buffer);
  /** Words in use. */
  length = 0;

  /** An empty hot record, and nothing else. */
  clear(): void {
    const { words } = this;
    for (let w = 0; w < COMMIT_REST; w++) words[w] = 0;
    this.length = COMMIT_REST;
  }

  /** Makes room for a part and returns where it starts. Parts are added in order. */
  add(part: number): number {
    const at = this.length;
    this.words[0] |= part;
    this.length += wordsOf(part);
    return at;
  }
}

function wordsOf(part: number): number {
  return part === COMMIT_IPV6 ? ADDR6.words : part === COMMIT_NAT ? HASHED_ASK_WORDS : CHILD_WORDS;
}

/** Where a part of the request at `at` starts, or -1. */
export function commitPart(words: Int32Array, at: number, part: number): number {
  const parts = words[at];
  if (!(parts & part)) return -1;
  let from = at + COMMIT_REST;
  for (let p = COMMIT_IPV6; p < part; p <<= 1) if (parts & p) from += wordsOf(p);
  return from;
}

/** The coordinator, as a datapath thread sees it. Each call answers at once or says that it is pending;
 *  then the answer arrives through the context, and `run` is called again. */
export interface ControlPlane {
  /** Translates the packet's key and installs a megaflow; null: pending. */
  upcall(ctx: PacketContext): Int32Array | null;
  /** A slot for the connection that the packet opens, if nothing can refuse it and nothing has to be chosen for it: the
   *  caller fills the record and calls `made`. -1: it takes a commit. */
  reserve(ctx: PacketContext): number;
  /** The packet in window slot `row` has filled the record in the reserved slot; `hash` is that of its tuple. */
  made(row: number, slot: number, hash: number): void;
  /** Slot of the new connection, NO_ENTRY, NO_TUPLE or PENDING. */
  commit(ctx: PacketContext, request: CommitRequest): number;
  /** Fills ctx.answerPorts and sets ctx.answer to a drop reason; false: pending. */
  normal(ctx: PacketContext): boolean;
  /** Executes change `id` of the tables (OP_LEARN, OP_FIN_TIMEOUT); inline only. */
  change(ctx: PacketContext, id: number): void;
  /** Whether meter `id` lets the packet pass; inline only. */
  meter(ctx: PacketContext, id: number): boolean;
  /** Sets ctx.answer to what becomes of a fragment in ct() of `zone` (FRAGMENT_*), and ctx.fragments if it
   *  completes its datagram; false: pending. */
  fragment(ctx: PacketContext, zone: number): boolean;
}
