/** The control plane: translation, commits, MAC learning, removal. The only thread that changes the
 *  index of a partition.
 *
 *  It answers requests from the datapath. Translations and commits may be answered in any order: they
 *  depend on no other connection (as long as the table is far from its limit). What depends on the order
 *  of the input (`normal`; commits close to the limit) is asked only when every earlier packet is done;
 *  the caller sees to that (`mustWait`). */
import { FLOW, OFPP_LOCAL } from '../classifier/flow-key.js';
import type { PartitionWriter } from '../conntrack/partition.js';
import { SHORTEST_TIMEOUT_MS } from '../conntrack/timeouts.js';
import {
  DROP_NORMAL_NO_PORT,
  DROP_NORMAL_PARTIAL_VLAN,
  DROP_NORMAL_RESERVED,
  DROP_NORMAL_SAME_PORT,
} from '../datapath/program.js';
import type { Translation, Translator } from '../openflow/translate.js';
import { ADDR6, COLD, CONN } from '../shm/layouts.js';
import { ETH_TYPE_QINQ, ETH_TYPE_VLAN } from '../wire/extract.js';
import { isReserved, MacTable } from './mac-table.js';

const { IN_PORT, ETH_DST_HI, ETH_DST_LO_SRC_HI, ETH_SRC_LO, ETH_TYPE, VLAN_0 } = FLOW;
const HOT_SHIFT = CONN.shift;
const COLD_SHIFT = COLD.shift;
const ADDR6_SHIFT = ADDR6.shift;
const COLD_WORDS = COLD.words;
const CREATED_F64 = COLD.at.CREATED >> 1;
const VLAN_PRESENT = 0x1000;

/** Words of a `normal` request: what the L2 switch looks at. */
export const NORMAL_WORDS = 6;

export class Coordinator {
  readonly partitions: readonly PartitionWriter[];
  private readonly translator: Translator;
  private readonly ports: readonly number[];
  private readonly macs = new MacTable();
  /** Counts connections that a packet ended on the spot. */
  private readonly endedByPackets: () => number;
  /** Connections that may exist (dpctl/ct-set-maxconns). */
  readonly maxConns: number;
  upcalls = 0;
  commits = 0;
  full = 0;
  expired = 0;
  flushed = 0;

  constructor(
    partitions: readonly PartitionWriter[],
    translator: Translator,
    ports: readonly number[],
    maxConns: number,
    endedByPackets: () => number,
  ) {
    this.partitions = partitions;
    this.translator = translator;
    this.ports = [...ports.filter((p) => p !== OFPP_LOCAL), OFPP_LOCAL];
    this.maxConns = maxConns;
    this.endedByPackets = endedByPackets;
  }

  get connections(): number {
    let n = 0;
    for (const p of this.partitions) n += p.count;
    return n;
  }

  translate(key: Int32Array): Translation {
    this.upcalls++;
    return this.translator.translate(key);
  }

  /** Whether a commit now could meet the limit, so that its order matters. `inFlight` packets may each
   *  have committed ahead of their turn. */
  nearLimit(inFlight: number): boolean {
    return this.connections + Math.max(8, this.translator.nCommits) * inFlight >= this.maxConns;
  }

  /** Makes a connection of the `words` (CONN.words) and `addr6` (or null) of a request; `seq` is the
   *  packet that asks. Returns the slot, or -1 when the table is full. */
  commit(home: number, words: Int32Array, at: number, addr6At: number, seq: number, clock: number): number {
    const partition = this.partitions[home];
    if (this.connections >= this.maxConns) {
      this.makeRoom(clock);
      if (this.connections >= this.maxConns) {
        this.full++;
        return -1;
      }
    }
    const slot = partition.allocate();
    if (slot < 0)
      throw new Error(`conntrack: partition ${home} has no slot below the limit of ${this.maxConns}`);
    const c = slot << HOT_SHIFT;
    const { hot, cold, coldF64, addr6 } = partition;
    for (let i = 0; i < CONN.words; i++) hot[c + i] = words[at + i];
    const m = slot << COLD_SHIFT;
    for (let i = 0; i < COLD_WORDS; i++) cold[m + i] = 0;
    coldF64[(m >> 1) + CREATED_F64] = seq;
    if (addr6At >= 0) {
      const a = slot << ADDR6_SHIFT;
      for (let i = 0; i < ADDR6.words; i++) addr6[a + i] = words[addr6At + i];
      if (slot >= partition.high6) partition.high6 = slot + 1;
    }
    partition.publish(slot);
    this.commits++;
    return slot;
  }

  /** Removes what has ended before `clock`. A flood asks for this with every packet, so the tables are
   *  searched only when something can have ended since the last time: at its own time, or by a packet
   *  that ended it. */
  private makeRoom(clock: number): void {
    const ended = this.endedByPackets();
    if (clock <= this.nextExpiry && ended === this.lastEnded) return;
    this.lastEnded = ended;
    this.sweepAll(clock);
    this.nextExpiry = clock + SHORTEST_TIMEOUT_MS;
    for (const p of this.partitions) this.nextExpiry = Math.min(this.nextExpiry, p.nextExpiry());
  }
  private nextExpiry = -1;
  private lastEnded = -1;

  private sweepAll(clock: number): void {
    for (const p of this.partitions) this.expired += p.sweep(clock, Infinity);
  }

  /** A slice of the sweep; `clock` is that of the oldest packet in flight. */
  sweep(clock: number, budget: number): void {
    for (const p of this.partitions) this.expired += p.sweep(clock, budget);
  }

  /** L2 switching for the frame in `key` (header words as on the wire now). Appends the ports to
   *  `ports`; returns a drop reason, or 0. Must be asked in input order. */
  normal(key: Int32Array, now: number, ports: number[]): number {
    const inPort = key[IN_PORT];
    const dst = (key[ETH_DST_HI] >>> 0) * 0x10000 + (key[ETH_DST_LO_SRC_HI] >>> 16);
    const src = (key[ETH_DST_LO_SRC_HI] & 0xffff) * 0x100000000 + (key[ETH_SRC_LO] >>> 0);
    const tag = key[VLAN_0];
    const type = key[ETH_TYPE];
    if ((type === ETH_TYPE_VLAN || type === ETH_TYPE_QINQ) && !(tag & VLAN_PRESENT)) {
      return DROP_NORMAL_PARTIAL_VLAN;
    }
    if (isReserved(dst)) return DROP_NORMAL_RESERVED;
    const vlan = tag & VLAN_PRESENT ? tag & 0x0fff : 0;
    this.macs.learn(src, vlan, inPort, now);
    const port = this.macs.lookup(dst, vlan, now);
    if (port === inPort) return DROP_NORMAL_SAME_PORT;
    if (port >= 0) ports.push(port);
    else for (const p of this.ports) if (p !== inPort) ports.push(p);
    return ports.length === 0 ? DROP_NORMAL_NO_PORT : 0;
  }

  /** dpctl/flush-conntrack, all or one zone. Only while no packet is in flight. */
  flush(zone: number | null, clock: number): void {
    // What has ended by itself counts as expired, however far the sweeper has come.
    this.sweepAll(clock + 1);
    for (const p of this.partitions) {
      for (let slot = 0; slot < p.high; slot++) {
        if (p.used[slot] && (zone === null || p.zone(slot) === zone)) {
          p.remove(slot);
          this.flushed++;
        }
      }
    }
  }

  /** Bytes of shared memory that the connections have needed so far, index included. */
  sharedBytes(): number {
    let n = 0;
    for (const p of this.partitions) n += p.usedBytes();
    return n;
  }
}
