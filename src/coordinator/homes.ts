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
import { type Directory, movedTo } from '../rss/directory.js';
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
  /** HASH of packets that come, and the directory's nodes for these. */
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

export interface HomesOptions {
  packets: PacketColumns;
  directory: Directory;
  tuples: TupleHash;
  indirection: Int32Array;
  /** Connections that may exist. */
  capacity: number;
  isDone: (row: number) => boolean;
  /** Whether the packet in a window slot may be an answer to one in flight. */
  mayAnswer: (row: number) => boolean;
}

export class Homes {
  private readonly packets: PacketColumns;
  private readonly directory: Directory;
  private readonly tuples: TupleHash;
  private readonly indirection: Int32Array;
  private readonly isDone: (row: number) => boolean;
  private readonly mayAnswer: (row: number) => boolean;
  /** The directory's nodes of each connection's tuples, or -1. */
  private readonly held: Int32Array;
  /** Slots from here on have never been used. */
  private high = 0;
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
  /** 1 for packets in flight that are kept here (`steer`), by window slot; and how many hashes have some. */
  private readonly isKept: Uint8Array;
  private nKept = 0;
  /** Kept packets that come to the connection made last, or that are let go. */
  private readonly arriving: number[] = [];
  /** What the connection being made calls back: as in Move. */
  private from: number[] = [];
  private fromHeld: number[] = [];
  private readonly over: Move[] = [];

  constructor(o: HomesOptions) {
    this.packets = o.packets;
    this.directory = o.directory;
    this.tuples = o.tuples;
    this.indirection = o.indirection;
    this.isDone = o.isDone;
    this.mayAnswer = o.mayAnswer;
    this.held = new Int32Array(2 * o.capacity);
    this.isKept = new Uint8Array(o.packets.slots);
    o.directory.onMoved = (to) => this.nodesMoved(to);
  }

  /** Gives the packets in window slots `rows[0..n)`, whose HASH is that of their tuple, the HASH of their class, and
   *  puts their homes into `homes`; -1: the packet is kept here, until a connection is made that it belongs to,
   *  or its turn comes: then it need not be called back. */
  steer(rows: Int32Array, n: number, homes: Int32Array): void {
    const { directory, packets, indirection } = this;
    const { hash } = packets;
    directory.settle();
    directory.touch(hash, rows, n);
    for (let i = 0; i < n; i++) {
      const row = rows[i];
      const node = directory.enter(row, hash[row]);
      if (node >= 0) hash[row] = directory.nameOf(node);
      else if (this.keep(row)) {
        homes[i] = -1;
        continue;
      }
      homes[i] = indirection[hash[row] & (indirection.length - 1)];
    }
  }

  /** Whether the packet in `row`, whose hash is not named, is kept. */
  private keep(row: number): boolean {
    const first = this.directory.firstRow(this.packets.hash[row]);
    if (first !== row) {
      this.isKept[row] = this.isKept[first];
      return this.isKept[row] !== 0;
    }
    if (!this.mayAnswer(row)) return false;
    this.isKept[row] = 1;
    this.nKept++;
    return true;
  }

  /** Whether packets are kept. */
  get keeping(): boolean {
    return this.nKept > 0;
  }

  /** Lets go of the packets of a class that are kept, if the one in `row` is one of them: they go to its home. The
   *  answer is valid until the next call of anything. */
  letGo(row: number): readonly number[] | null {
    if (this.isKept[row] === 0) return null;
    this.arriving.length = 0;
    const hash = this.packets.hash[row];
    this.take(hash, hash);
    return this.arriving;
  }

  /** Appends the packets with `hash`, which are kept, to `arriving`; `name` is their class. */
  private take(hash: number, name: number): void {
    const { directory, arriving } = this;
    this.nKept--;
    const first = arriving.length;
    directory.rowsAt(hash, arriving);
    for (let i = first; i < arriving.length; i++) {
      this.isKept[arriving[i]] = 0;
      this.packets.hash[arriving[i]] = name;
    }
    if (first > 0) arriving.sort(this.inOrder);
  }
  private readonly inOrder = (a: number, b: number) => this.packets.seq[a] - this.packets.seq[b];

  /** Kept packets that come to the connection made last, in input order; they go with the answer to its commit. Valid
   *  until the next connection is made. */
  get arrivals(): readonly number[] {
    return this.arriving;
  }

  /** The packet in `row` has been collected. */
  collected(row: number): void {
    this.directory.leave(row);
  }

  homeOf(name: number): number {
    return this.indirection[name & (this.indirection.length - 1)];
  }

  /** The packet in `row` makes the connection in `slot`. False if the tuple of its replies must not be found yet:
   *  then `begin` says what must happen first. */
  made(partition: PartitionWriter, slot: number, row: number): boolean {
    const { packets, held, tuples } = this;
    const { hot, nat, addr6 } = partition;
    const c = slot << CONN.shift;
    const n = slot << NAT.shift;
    const proto = (hot[c + ZONE_PROTO] >>> 8) & 0xff;
    const ipv6 = (hot[c + ZONE_PROTO] & 0x80) !== 0;
    const a = slot << ADDR6.shift;
    if (slot >= this.high) this.high = slot + 1;
    if (this.arriving.length > 0) this.arriving.length = 0;
    const original = ipv6
      ? tuples.ofTuple6(proto, addr6, a, hot[c + PORTS])
      : tuples.ofTuple(proto, hot[c + SRC], hot[c + DST], hot[c + PORTS]);
    held[2 * slot] = held[2 * slot + 1] = -1;
    // Whatever tuple the packet had: its class has a name from now on.
    if (original !== packets.hash[row]) this.name(packets.hash[row]);
    held[2 * slot] = this.bring(original, row, slot);
    if (hot[c + STATE] & STATE_TRANSLATED) {
      const replies = ipv6
        ? tuples.ofTuple6(proto, nat, n + NAT.at.SRC6_0, nat[n + NAT.at.PORTS])
        : tuples.ofTuple(proto, nat[n + NAT.at.SRC], nat[n + NAT.at.DST], nat[n + NAT.at.PORTS]);
      held[2 * slot + 1] = this.bring(replies, row, slot);
    }
    if (this.from.length === 0) return true;
    this.needed = {
      id: this.nMoves++,
      slot,
      seq: packets.seq[row],
      row,
      into: packets.hash[row],
      from: this.from,
      held: this.fromHeld,
      awaited: 0,
      rows: this.arriving.slice(),
      worker: 0,
      token: 0,
    };
    this.from = [];
    this.fromHeld = [];
    return false;
  }

  /** Sees to it that a hash in flight is named. */
  private name(hash: number): void {
    const { directory } = this;
    const node = directory.obtain(hash);
    if (!directory.isFresh) return;
    directory.hold(node);
    directory.releaseLater(node);
  }

  /** A connection made by the packet in `row` has a tuple with `hash`: its class becomes that of the packet, which is
   *  named by then, and packets behind it must move. Returns the node, held. `slot` is the connection's. */
  private bring(hash: number, row: number, slot: number): number {
    const { directory } = this;
    const into = this.packets.hash[row];
    const node = directory.obtain(hash);
    directory.hold(node);
    const name = directory.nameOf(node);
    if (name === into) return node;
    const first = directory.isFresh ? directory.firstRow(hash) : -1;
    if (first >= 0 && this.isKept[first] !== 0) {
      // All packets of the class are here.
      this.take(hash, into);
    } else if (first >= 0 || !directory.isFresh) {
      this.callBack(name, this.packets.seq[row]);
    } else if (this.held[2 * slot] >= 0) {
      directory.attach(node, this.held[2 * slot]);
      return node;
    }
    directory.merge(into, name);
    return node;
  }

  /** Touches what a connection changes that is made by a packet with this hash, … */
  touchHash(hash: number): number {
    return this.directory.touchHash(hash);
  }

  /** … and one that has this tuple. IPv4. */
  touchTuple(proto: number, src: number, dst: number, ports: number): number {
    return this.directory.touchHash(this.tuples.ofTuple(proto, src, dst, ports));
  }

  /** Touches what the removal of the connections in the first `n` slots will change. */
  touchRemoved(slots: Int32Array, n: number): number {
    return this.directory.touchNodes(this.held, slots, n);
  }

  /** The connection in `slot` is removed. */
  removed(slot: number): void {
    const { held, directory } = this;
    const [original, replies] = [held[2 * slot], held[2 * slot + 1]];
    held[2 * slot] = held[2 * slot + 1] = -1;
    directory.releaseLater(original);
    if (replies >= 0) directory.releaseLater(replies);
  }

  /** Notes that packets behind packet `seq` of the class `name` are to move, if there are any. */
  private callBack(name: number, seq: number): void {
    const { directory } = this;
    if (!this.coming.has(name) && this.rowsOf(name, name, seq).length === 0) return;
    this.from.push(name);
    const node = directory.obtain(name);
    directory.hold(node);
    this.fromHeld.push(node);
  }

  /** Packets in flight of a class that have this HASH, come after `seq` and are not done. */
  private rowsOf(name: number, hash: number, seq: number): number[] {
    const { packets, isDone } = this;
    const rows: number[] = [];
    this.directory.rowsOf(name, rows);
    return rows.filter((row) => packets.hash[row] === hash && packets.seq[row] > seq && !isDone(row));
  }

  private nodesMoved(to: Int32Array): void {
    const { held } = this;
    const follow = (nodes: number[] | Int32Array, n: number) => {
      for (let i = 0; i < n; i++) if (nodes[i] >= 0) nodes[i] = movedTo(nodes[i], to);
    };
    follow(held, 2 * this.high);
    follow(this.fromHeld, this.fromHeld.length);
    for (const move of this.moves.values()) follow(move.held, move.held.length);
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
    for (const [i, hash] of move.from.entries()) {
      const name = this.directory.nameOf(move.held[i]);
      const rows = this.rowsOf(name, hash, move.seq);
      if (rows.length === 0) continue;
      rows.sort(this.inOrder);
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
    for (const node of move.held) this.directory.releaseLater(node);
    for (const row of move.rows) packets.hash[row] = move.into;
    move.rows.sort(this.inOrder);
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
