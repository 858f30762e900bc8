/** Data connections that helpers expect: FTP's, TFTP's. An expectation belongs to its control connection and
 *  lives as long; any number of connections may come of it, from any port of the address that it names. At most
 *  MOST_EXPECTED are kept, whoever announces them: beyond that the oldest one is forgotten.
 *
 *  Private to the thread that is the home of both connections: flow tables with helpers run on one home. A record
 *  of each goes into a ring of the partition's memory, for the coordinator to show. */
import { COLD, CONN, NAT, PARENT } from '../shm/layouts.js';
import { tupleHash } from './hash.js';
import { ConnKey } from './key.js';
import { NAT_DST } from './nat.js';
import type { Partition } from './partition.js';

const { SRC, DST, PORTS, ZONE_PROTO, EXPIRES } = CONN.at;
const CREATED_F64 = COLD.at.CREATED >> 1;
/** Mark and label, the first words of COLD. */
const META_WORDS = 5;
/** Expectations kept before those of dead connections are looked for. */
const FIRST_PURGE = 1024;
/** Some 200 MB. */
export const MOST_EXPECTED = 1 << 16;

export class Expectation {
  /** Whom it expects: addresses and protocol as in ConnKey, and the destination port. */
  src = 0;
  dst = 0;
  port = 0;
  zoneProto = 0;
  readonly addr6 = new Int32Array(8);
  /** What the data connection is translated to, if it is: the end of its reply tuple (1: destination) that
   *  gets the address. */
  end = 0;
  readonly address = new Int32Array(4);
  /** The control connection: its slot, the packet that committed it, … */
  parent = 0;
  created = 0;
  /** … its original tuple, as PARENT, and mark and label that it had when it announced the data. */
  readonly tuple = new Int32Array(PARENT.words);
  readonly meta = new Int32Array(META_WORDS);
  /** Of whom it expects. */
  hash = 0;
}

export class Expectations {
  private readonly partition: Partition;
  private readonly byHash = new Map<number, Expectation[]>();
  /** In the order in which they were announced, from element `oldest` on: all there are, and no others. */
  private order: Expectation[] = [];
  private oldest = 0;
  private purgeAt: number;
  private readonly most: number;
  /** Announced since dead ones were looked for. */
  private added = 0;
  private readonly wanted = new ConnKey();
  private readonly other = new ConnKey();

  constructor(partition: Partition, most = MOST_EXPECTED) {
    this.partition = partition;
    this.most = most;
    this.purgeAt = Math.min(most, FIRST_PURGE);
  }

  private get size(): number {
    return this.order.length - this.oldest;
  }

  /** Whether there are any. */
  get any(): boolean {
    return this.size > 0;
  }

  /** The expectation that a packet with this tuple fulfils. `now` in ms. */
  find(key: ConnKey, now: number): Expectation | null {
    if (this.size === 0) return null;
    const list = this.byHash.get(this.hash(key));
    if (list === undefined) return null;
    for (const e of list) if (fulfils(key, e) && this.lives(e, now)) return e;
    return null;
  }

  /** Expects a connection to `port` of what the control connection in `slot` connects. Announced by a packet
   *  of the original direction (`reply` 0) its server will connect, else its client. What is expected
   *  already stays as it is. */
  add(slot: number, reply: number, port: number, now: number): void {
    const { partition, wanted, other } = this;
    const { hot, addr6, cold, coldF64, nat } = partition;
    partition.load(slot, reply ^ 1, wanted);
    wanted.ports = port;
    if (this.find(wanted, now) !== null) return;
    this.makeRoom(now);

    const e = new Expectation();
    e.src = wanted.src;
    e.dst = wanted.dst;
    e.port = port;
    e.zoneProto = wanted.zoneProto;
    e.addr6.set(wanted.addr6);
    // The data connection is translated as its parent, seen from whoever opens it: an address of the
    // parent's other direction takes the place of one of this.
    partition.load(slot, reply, other);
    const dnat = nat[(slot << NAT.shift) + NAT.at.ACTION] === NAT_DST;
    e.end = (reply === 1) !== dnat ? 1 : 0;
    const from = e.end === 1 ? 4 : 0;
    if (other.ipv6) for (let i = 0; i < 4; i++) e.address[i] = other.addr6[from + i];
    else e.address[0] = e.end === 1 ? other.dst : other.src;

    e.parent = slot;
    e.created = coldF64[((slot << COLD.shift) >> 1) + CREATED_F64];
    const c = slot << CONN.shift;
    e.tuple[PARENT.at.SRC] = hot[c + SRC];
    e.tuple[PARENT.at.DST] = hot[c + DST];
    e.tuple[PARENT.at.PORTS] = hot[c + PORTS];
    e.tuple[PARENT.at.ZONE_PROTO] = hot[c + ZONE_PROTO];
    if (wanted.ipv6) for (let i = 0; i < 8; i++) e.tuple[PARENT.at.SRC6_0 + i] = addr6[(slot << 3) + i];
    for (let i = 0; i < META_WORDS; i++) e.meta[i] = cold[(slot << COLD.shift) + i];
    e.hash = this.hash(wanted);
    const list = this.byHash.get(e.hash);
    if (list === undefined) this.byHash.set(e.hash, [e]);
    else list.push(e);
    this.order.push(e);
    partition.expected.add(e);
  }

  private hash(key: ConnKey): number {
    return tupleHash(this.partition.seed, key.src, key.dst, key.ports & 0xffff, key.zoneProto);
  }

  /** Whether its control connection still is there. */
  private lives(e: Expectation, now: number): boolean {
    const { hotF64, coldF64 } = this.partition;
    return (
      hotF64[((e.parent << CONN.shift) + EXPIRES) >> 1] > now &&
      coldF64[((e.parent << COLD.shift) >> 1) + CREATED_F64] === e.created
    );
  }

  /** Makes room for another one. */
  private makeRoom(now: number): void {
    const { most } = this;
    this.added++;
    if (this.size < this.purgeAt) return;
    // Where most live, looking through them pays once for every so many.
    if (this.size < most || this.added > most >> 1) this.purge(now);
    if (this.size < most) return;
    const e = this.order[this.oldest++];
    const list = (this.byHash.get(e.hash) as Expectation[]).filter((other) => other !== e);
    if (list.length === 0) this.byHash.delete(e.hash);
    else this.byHash.set(e.hash, list);
  }

  /** Drops what can't be fulfilled any more. */
  private purge(now: number): void {
    this.order = this.order.slice(this.oldest).filter((e) => this.lives(e, now));
    this.oldest = 0;
    this.added = 0;
    this.byHash.clear();
    for (const e of this.order) {
      const list = this.byHash.get(e.hash);
      if (list === undefined) this.byHash.set(e.hash, [e]);
      else list.push(e);
    }
    this.purgeAt = Math.min(this.most, Math.max(FIRST_PURGE, 2 * this.size));
  }
}

function fulfils(key: ConnKey, e: Expectation): boolean {
  if (key.src !== e.src || key.dst !== e.dst || key.zoneProto !== e.zoneProto) return false;
  if ((key.ports & 0xffff) !== e.port) return false;
  if (key.ipv6) for (let i = 0; i < 8; i++) if (key.addr6[i] !== e.addr6[i]) return false;
  return true;
}
