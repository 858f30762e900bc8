/** Homes of packets in steered mode: which worker runs a packet, and how packets get from one worker to another.
 *
 *  Packets go by the class of their hash (rss/directory.ts). When a connection is made whose tuples are of
 *  different classes, these become one, and the packets of the others that are in flight move: their home
 *  *surrenders* those that it has not run to the end, and the home of the connection *adopts* them together with
 *  the answer to its commit. Until then no tuple that leads them to the connection can be found, and none of
 *  their requests is answered.
 *
 *  Main thread only. docs/architecture.md, "Steered mode", has the argument. */
import type { PartitionWriter } from '../conntrack/partition.js';
import type { Directory } from '../rss/directory.js';
import type { TupleHash } from '../rss/steer.js';
import { ADDR6, CONN, NAT, STATE_TRANSLATED } from '../shm/layouts.js';
import type { PacketColumns } from '../shm/packets.js';

const { SRC, DST, PORTS, ZONE_PROTO, STATE } = CONN.at;

/** The way of packets to the home of a connection that has just been made. */
export interface Move {
  id: number;
  /** The connection's slot; number and window slot of the packet that made it. */
  slot: number;
  seq: number;
  row: number;
  /** HASH of that packet, and of the packets that come to it. */
  into: number;
  /** HASH of packets that come, and the directory's entries for these. */
  from: number[];
  held: number[];
  /** Homes that have not surrendered yet. */
  awaited: number;
  /** Window slots of the packets that move. */
  rows: number[];
  /** Who waits for the answer to its commit, and under which token. */
  worker: number;
  token: number;
}

/** Asks a home for the packets in `rows`, which have this hash. */
export type Ask = (home: number, move: Move, hash: number, rows: readonly number[]) => void;

export class Homes {
  private readonly packets: PacketColumns;
  private readonly directory: Directory;
  private readonly tuples: TupleHash;
  private readonly indirection: Int32Array;
  private readonly isDone: (row: number) => boolean;
  /** What the directory wants to know when a connection goes, by slot: entries of its tuples, or -1. */
  private readonly held: Int32Array;
  /** Under way, by id. */
  private readonly moves = new Map<number, Move>();
  /** Packets that have moved. */
  nMoved = 0;
  private nMoves = 0;
  /** The move that the connection made last needs. */
  private needed: Move | null = null;
  /** By HASH of packets that are to go elsewhere: the packet behind which they do. */
  private readonly calledBack = new Map<number, number>();
  /** By HASH: moves under way that bring packets. */
  private readonly coming = new Map<number, number>();
  /** Moves of packets that are yet to come from elsewhere themselves. */
  private waiting: Move[] = [];
  /** By class: packets in flight that are kept here (`keep`); and 1 for them, by window slot. */
  private readonly kept = new Map<number, number[]>();
  private readonly isKept: Uint8Array;
  /** Kept packets that come to the connection made last. */
  private arriving: number[] = [];
  private readonly over: Move[] = [];

  constructor(
    packets: PacketColumns,
    directory: Directory,
    tuples: TupleHash,
    indirection: Int32Array,
    capacity: number,
    isDone: (row: number) => boolean,
  ) {
    this.packets = packets;
    this.directory = directory;
    this.tuples = tuples;
    this.indirection = indirection;
    this.isDone = isDone;
    this.held = new Int32Array(2 * capacity);
    this.isKept = new Uint8Array(packets.slots);
  }

  /** Gives the packet in window slot `row` its HASH, and returns its home; -1 if it is kept here. */
  steer(row: number, hash: number): number {
    const { kept } = this;
    const name = this.directory.enter(row, hash);
    this.packets.hash[row] = name;
    if (kept.size > 0) {
      const others = kept.get(name);
      if (others !== undefined) {
        others.push(row);
        this.isKept[row] = 1;
        return -1;
      }
    }
    return this.homeOf(name);
  }

  /** Whether the packet that was steered last is the first one of its hash: it may be an answer to one that opens
   *  a connection. */
  get isFirst(): boolean {
    return this.directory.isFresh;
  }

  /** Keeps the packet in `row`, which was steered last and is the first one of its hash, until a connection is made
   *  that it belongs to, or its turn comes: then it need not be called back. */
  keep(row: number): number {
    this.kept.set(this.packets.hash[row], [row]);
    this.isKept[row] = 1;
    return -1;
  }

  /** Whether packets are kept. */
  get keeping(): boolean {
    return this.kept.size > 0;
  }

  /** Lets go of the packets of a class that are kept, if the one in `row` is the first: they go to its home. */
  letGo(row: number): readonly number[] | null {
    if (this.isKept[row] === 0) return null;
    const name = this.packets.hash[row];
    const rows = this.kept.get(name) as number[];
    this.kept.delete(name);
    for (const r of rows) this.isKept[r] = 0;
    return rows;
  }

  /** Kept packets that come to the connection made last, in input order; they go with the answer to its commit. */
  takeArriving(): readonly number[] {
    const { arriving } = this;
    if (arriving.length > 0) {
      arriving.sort((a, b) => this.packets.seq[a] - this.packets.seq[b]);
      this.arriving = [];
    }
    return arriving;
  }

  /** The packet in `row` has been collected. */
  collected(row: number): void {
    this.directory.leave(row);
  }

  homeOf(name: number): number {
    return this.indirection[name & (this.indirection.length - 1)];
  }

  /** The packet in `row` makes the connection in `slot`. False if the tuple of its replies must not be found yet:
   *  then `move` says what must happen first. */
  made(partition: PartitionWriter, slot: number, row: number): boolean {
    const { directory, packets, held, tuples } = this;
    const { hot, nat, addr6 } = partition;
    const c = slot << CONN.shift;
    const n = slot << NAT.shift;
    const proto = (hot[c + ZONE_PROTO] >>> 8) & 0xff;
    const ipv6 = (hot[c + ZONE_PROTO] & 0x80) !== 0;
    const a = slot << ADDR6.shift;
    const original = ipv6
      ? tuples.ofTuple6(proto, addr6, a, hot[c + PORTS])
      : tuples.ofTuple(proto, hot[c + SRC], hot[c + DST], hot[c + PORTS]);
    const seq = packets.seq[row];
    const into = packets.hash[row];
    const move: Move = {
      id: this.nMoves,
      slot,
      seq,
      row,
      into,
      from: [],
      held: [],
      awaited: 0,
      rows: [],
      worker: 0,
      token: 0,
    };
    held[2 * slot] = directory.hold(original);
    held[2 * slot + 1] = -1;
    this.join(move, original);
    if (hot[c + STATE] & STATE_TRANSLATED) {
      const replies = ipv6
        ? tuples.ofTuple6(proto, nat, n + NAT.at.SRC6_0, nat[n + NAT.at.PORTS])
        : tuples.ofTuple(proto, nat[n + NAT.at.SRC], nat[n + NAT.at.DST], nat[n + NAT.at.PORTS]);
      held[2 * slot + 1] = directory.hold(replies);
      this.join(move, replies);
    }
    if (move.from.length === 0) return true;
    move.rows = this.arriving;
    this.arriving = [];
    this.nMoves++;
    this.needed = move;
    return false;
  }

  /** The connection in `slot` is removed. */
  removed(slot: number): void {
    const { held, directory } = this;
    directory.release(held[2 * slot]);
    if (held[2 * slot + 1] >= 0) directory.release(held[2 * slot + 1]);
  }

  /** Makes the class of `hash` that of the packet that makes the connection; packets behind it must move. */
  private join(move: Move, hash: number): void {
    const { directory } = this;
    const name = directory.classOf(hash);
    if (name === move.into) return;
    const rows = this.kept.get(name);
    if (rows !== undefined) {
      // All packets of the class are here.
      this.kept.delete(name);
      for (const row of rows) {
        this.isKept[row] = 0;
        this.packets.hash[row] = move.into;
        this.arriving.push(row);
      }
    } else if (this.coming.has(name) || this.rowsOf(name, name, move.seq).length > 0) {
      move.from.push(name);
      move.held.push(directory.hold(name));
    }
    directory.merge(move.into, name);
  }

  /** Packets in flight of a class that have this HASH, come after `seq` and are not done. */
  private rowsOf(name: number, hash: number, seq: number): number[] {
    const { packets, isDone } = this;
    const rows: number[] = [];
    this.directory.rowsOf(name, (row) => {
      if (packets.hash[row] === hash && packets.seq[row] > seq && !isDone(row)) rows.push(row);
    });
    return rows;
  }

  /** Whether the packet in `row` is to go elsewhere: then nothing that it asks for is answered. */
  isCalledBack(row: number): boolean {
    if (this.calledBack.size === 0) return false;
    const seq = this.calledBack.get(this.packets.hash[row]);
    return seq !== undefined && this.packets.seq[row] > seq;
  }

  /** Whether the connection made last needs packets from elsewhere. */
  get mustMove(): boolean {
    return this.needed !== null;
  }

  /** Whether packets are on their way. */
  get moving(): boolean {
    return this.moves.size > 0;
  }

  /** Begins the move that the connection made last needs, whose commit is to be answered to `worker`. */
  begin(worker: number, token: number, ask: Ask): void {
    const move = this.needed as Move;
    this.needed = null;
    move.worker = worker;
    move.token = token;
    this.moves.set(move.id, move);
    this.coming.set(move.into, (this.coming.get(move.into) ?? 0) + 1);
    for (const name of move.from) this.calledBack.set(name, move.seq);
    if (move.from.some((name) => this.coming.has(name))) this.waiting.push(move);
    else this.ask(move, ask);
  }

  private ask(move: Move, ask: Ask): void {
    const name = this.directory.classOfRow(move.row);
    for (const hash of move.from) {
      const rows = this.rowsOf(name, hash, move.seq);
      if (rows.length === 0) continue;
      rows.sort((a, b) => this.packets.seq[a] - this.packets.seq[b]);
      move.awaited++;
      ask(this.homeOf(hash), move, hash, rows);
    }
    if (move.awaited === 0) this.over.push(move);
  }

  /** A home has surrendered packets for move `id`. */
  surrendered(id: number, rows: Int32Array): void {
    const move = this.moves.get(id) as Move;
    for (const row of rows) move.rows.push(row);
    this.nMoved += rows.length;
    if (--move.awaited === 0) this.over.push(move);
  }

  /** The next move that is over, or null. Its packets have the HASH of the connection, and are in input order. */
  finished(): Move | null {
    const { packets, coming } = this;
    const move = this.over.pop();
    if (move === undefined) return null;
    this.moves.delete(move.id);
    for (const name of move.from) this.calledBack.delete(name);
    for (const e of move.held) this.directory.release(e);
    for (const row of move.rows) packets.hash[row] = move.into;
    move.rows.sort((a, b) => packets.seq[a] - packets.seq[b]);
    const left = (coming.get(move.into) as number) - 1;
    if (left > 0) coming.set(move.into, left);
    else coming.delete(move.into);
    return move;
  }

  /** Begins the moves that have waited for those which are over, when their packets are on the way. */
  goOn(ask: Ask): void {
    const { waiting } = this;
    if (waiting.length === 0) return;
    this.waiting = [];
    for (const move of waiting) {
      if (move.from.some((name) => this.coming.has(name))) this.waiting.push(move);
      else this.ask(move, ask);
    }
  }
}
