/** MAC learning of the `normal` action (ovs-vswitchd(8)): who was last seen on which port, by VLAN.
 *  Belongs to the coordinator, which asks in input order; times are the tracker's clock in ms.
 *
 *  Every switched packet learns and looks up, on the main thread: so it is a hash table of words, chained, beside
 *  lists in the order of last use, of all and of each port. When it is full an address of the port that has most of
 *  them makes way, so that who makes up addresses drives out none but their own (Open vSwitch's mac-learning.h).
 *  An address is its upper 32 bits and, in one word with the VLAN above them, its
 *  lower 16. */

import { OFPP_LOCAL } from '../classifier/flow-key.js';
import { drawKeys, scatter, stir } from '../conntrack/hash.js';

/** other_config:mac-aging-time, ovs-vswitchd.conf.db(5). */
export const MAC_AGING_MS = 300_000;
/** other_config:mac-table-size. */
export const MAC_TABLE_SIZE = 8192;

const BUCKETS = 2 * MAC_TABLE_SIZE;

/** Entries in the order of last use. */
class UseList {
  /** Neighbours of each entry, for all lists that it can't be in at the same time. */
  private readonly older: Int32Array;
  private readonly newer: Int32Array;
  oldest = -1;
  newest = -1;
  size = 0;

  constructor(older: Int32Array, newer: Int32Array) {
    this.older = older;
    this.newer = newer;
  }

  append(e: number): void {
    this.older[e] = this.newest;
    this.newer[e] = -1;
    if (this.newest < 0) this.oldest = e;
    else this.newer[this.newest] = e;
    this.newest = e;
    this.size++;
  }

  remove(e: number): void {
    const { older, newer } = this;
    if (older[e] < 0) this.oldest = newer[e];
    else newer[older[e]] = newer[e];
    if (newer[e] < 0) this.newest = older[e];
    else older[newer[e]] = older[e];
    this.size--;
  }

  after(e: number): number {
    return this.newer[e];
  }
}

const neighbours = (): Int32Array => new Int32Array(MAC_TABLE_SIZE);

export class MacTable {
  /** Nobody can prepare addresses that collide. */
  private readonly keys = drawKeys(2);
  private readonly hi = new Int32Array(MAC_TABLE_SIZE);
  private readonly lo = new Int32Array(MAC_TABLE_SIZE);
  private readonly ports = new Int32Array(MAC_TABLE_SIZE);
  private readonly seen = new Float64Array(MAC_TABLE_SIZE);
  /** First entry of each bucket, and the next one of each entry; -1 at the end. */
  private readonly heads = new Int32Array(BUCKETS).fill(-1);
  private readonly chain = new Int32Array(MAC_TABLE_SIZE);
  private used = new UseList(neighbours(), neighbours());
  private readonly portOlder = neighbours();
  private readonly portNewer = neighbours();
  private readonly usedByPort = new Map<number, UseList>();
  /** Entries that are or were in use; those of them that are free again, chained. */
  private high = 0;
  private free = -1;

  /** Learns that an address is on `port`: bits 47-16 in `hi`, the VLAN and bits 15-0 in `lo`. Group addresses are
   *  not learned. */
  learn(hi: number, lo: number, port: number, now: number): void {
    if (isMulticast(hi)) return;
    let e = this.find(hi, lo);
    if (e < 0) {
      e = this.take();
      this.hi[e] = hi;
      this.lo[e] = lo;
      const bucket = this.bucketOf(hi, lo);
      this.chain[e] = this.heads[bucket];
      this.heads[bucket] = e;
      this.link(e, port);
    } else if (e !== this.used.newest || this.ports[e] !== port) {
      this.unlink(e);
      this.link(e, port);
    }
    this.seen[e] = now;
  }

  /** The port where the address was last seen, or -1. */
  lookup(hi: number, lo: number, now: number): number {
    const e = this.find(hi, lo);
    if (e < 0) return -1;
    if (now - this.seen[e] >= MAC_AGING_MS) {
      this.remove(e);
      return -1;
    }
    return this.ports[e];
  }

  /** fdb/flush. */
  clear(): void {
    this.heads.fill(-1);
    this.used = new UseList(neighbours(), neighbours());
    this.usedByPort.clear();
    this.free = -1;
    this.high = 0;
  }

  /** fdb/show: the entry that was used longest ago first. */
  show(now: number): string {
    let text = ' Port  VLAN  MAC                Age\n';
    for (let e = this.used.oldest; e >= 0; e = this.used.after(e)) {
      if (now - this.seen[e] >= MAC_AGING_MS) continue;
      const vlan = this.lo[e] >>> 16;
      const mac = (this.hi[e] >>> 0) * 0x10000 + (this.lo[e] & 0xffff);
      const bytes = mac.toString(16).padStart(12, '0').match(/../g) as string[];
      const age = Math.floor((now - this.seen[e]) / 1000);
      const port = this.ports[e];
      const name = port === OFPP_LOCAL ? 'LOCAL' : String(port);
      text += `${name.padStart(5)}  ${String(vlan).padStart(4)}  ${bytes.join(':')}  ${String(age).padStart(3)}\n`;
    }
    return text;
  }

  private find(hi: number, lo: number): number {
    let e = this.heads[this.bucketOf(hi, lo)];
    while (e >= 0 && (this.lo[e] !== lo || this.hi[e] !== hi)) e = this.chain[e];
    return e;
  }

  /** An entry for a new address: if there is none left, that of the address that was used longest ago of the port that
   *  has most. */
  private take(): number {
    if (this.free < 0 && this.high === MAC_TABLE_SIZE) this.remove(this.fullest().oldest);
    if (this.free < 0) return this.high++;
    const e = this.free;
    this.free = this.chain[e];
    return e;
  }

  private remove(e: number): void {
    const { chain, heads } = this;
    const bucket = this.bucketOf(this.hi[e], this.lo[e]);
    if (heads[bucket] === e) {
      heads[bucket] = chain[e];
    } else {
      let before = heads[bucket];
      while (chain[before] !== e) before = chain[before];
      chain[before] = chain[e];
    }
    this.unlink(e);
    chain[e] = this.free;
    this.free = e;
  }

  /** Of ports that have as many the one that has had some for longest. */
  private fullest(): UseList {
    let most = this.used;
    for (const list of this.usedByPort.values()) if (most === this.used || list.size > most.size) most = list;
    return most;
  }

  private link(e: number, port: number): void {
    this.ports[e] = port;
    this.used.append(e);
    let list = this.usedByPort.get(port);
    if (list === undefined) {
      list = new UseList(this.portOlder, this.portNewer);
      this.usedByPort.set(port, list);
    }
    list.append(e);
  }

  private unlink(e: number): void {
    this.used.remove(e);
    const list = this.usedByPort.get(this.ports[e]) as UseList;
    list.remove(e);
    if (list.size === 0) this.usedByPort.delete(this.ports[e]);
  }

  private bucketOf(hi: number, lo: number): number {
    const { keys } = this;
    return stir((scatter(hi, keys[0]) + scatter(lo, keys[1])) | 0) & (BUCKETS - 1);
  }
}

/** Group bit of an Ethernet address (IEEE 802, section 8.2), of which `hi` is bits 47-16. */
export function isMulticast(hi: number): boolean {
  return (hi & 0x01000000) !== 0;
}

/** 01:80:c2:00:00:00 to :0f, which bridges don't forward (IEEE 802.1D, table 7-10). */
export function isReserved(hi: number, lo: number): boolean {
  return hi === 0x0180c200 && (lo & 0xfff0) === 0;
}
