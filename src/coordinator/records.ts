/** Connection records: one for each tracked connection, given out when it has ended, in an order that does not
 *  depend on the number of workers.
 *
 *  A connection is removed some time after it has ended, whenever the coordinator comes across it. So records wait
 *  here until the next *mark*, and those that had ended before the mark's clock are given out in the order of their
 *  creation. Marks are packets (every MARK_PACKETS, or fewer while many connections live), and before the records of
 *  a mark are given out, everything that has ended by its clock is removed. What a mark gives out is thus a function
 *  of the input alone, and so is which packets are marks. Memory is bounded by the connections that live, and those
 *  that end between two marks. */
import { createHash } from 'node:crypto';
import { type PartitionWriter, REMOVED_FLUSHED } from '../conntrack/partition.js';
import { CATEGORY, TALLY_REPEATED, TALLY_WORDS } from '../datapath/recorder.js';
import { ADDR6, CONN, RECORD, RECORD_EVENTS, RECORD_RTT, RECORD_SYNACK } from '../shm/layouts.js';
import { IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP } from '../wire/extract.js';
import { type Connection, connection } from './dump.js';

const R = RECORD.at;
const SHIFT = RECORD.shift;
const MARK_PACKETS = 1 << 16;

/** How a connection ended: its time was over; a packet opened another with its tuple; an administrator flushed it;
 *  it had not ended when the input did. */
export type Ending = 'timeout' | 'replaced' | 'flushed' | 'open';

/** By the reason of a removal: REMOVED_EXPIRED, REMOVED_EVICTED, REMOVED_FLUSHED. */
const ENDINGS = ['timeout', 'replaced', 'flushed'] as const;

/** Original direction first. */
export type Both<T> = readonly [T, T];

/** A connection and what was seen of it. Times are those of the capture: seconds and nanoseconds. */
export class ConnectionRecord {
  /** Tuples, zone, mark, label, parent, counters of the tracker. */
  readonly connection: Connection;
  readonly ending: Ending;
  private readonly words: Int32Array;
  private readonly f64: Float64Array;
  /** First word of its RECORD in `words`. */
  private readonly base: number;
  /** Addresses of the original tuple in words, CONN's ports and type. */
  private readonly addresses: readonly number[];
  private readonly ports: number;
  private readonly zoneProto: number;

  /** `words` and `f64` are over one memory, and have the RECORD of the connection in `slot` from word `base` on. */
  constructor(
    partition: PartitionWriter,
    slot: number,
    ending: Ending,
    words: Int32Array,
    f64: Float64Array,
    base: number,
  ) {
    this.connection = connection(partition, slot);
    this.ending = ending;
    this.words = words;
    this.f64 = f64;
    this.base = base;
    const c = slot << CONN.shift;
    const a = slot << ADDR6.shift;
    const { hot, addr6 } = partition;
    this.addresses = this.connection.ipv6
      ? Array.from(addr6.subarray(a, a + ADDR6.words))
      : [hot[c + CONN.at.SRC], hot[c + CONN.at.DST]];
    this.ports = partition.hot[c + CONN.at.PORTS];
    this.zoneProto = partition.hot[c + CONN.at.ZONE_PROTO];
  }

  get startSec(): number {
    return this.words[this.base + R.START_SEC];
  }
  get startNsec(): number {
    return this.words[this.base + R.START_NSEC];
  }
  get endSec(): number {
    return this.words[this.base + R.END_SEC];
  }
  get endNsec(): number {
    return this.words[this.base + R.END_NSEC];
  }

  /** From the first packet to the latest, in ns. */
  get durationNs(): number {
    return (this.endSec - this.startSec) * 1e9 + (this.endNsec - this.startNsec);
  }

  /** Numbers of its first and last packet, from 1. */
  get firstPacket(): number {
    return this.f64[(this.base + R.FIRST_PACKET) >> 1] + 1;
  }
  get lastPacket(): number {
    return this.f64[(this.base + R.LAST_PACKET) >> 1] + 1;
  }

  get packets(): Both<number> {
    return [this.words[this.base + R.PKTS_0] >>> 0, this.words[this.base + R.PKTS_1] >>> 0];
  }
  /** Of whole frames on the wire; from the IP header on; behind the transport header. */
  get frameBytes(): Both<number> {
    return this.both(R.FRAME_BYTES_0);
  }
  get ipBytes(): Both<number> {
    return this.both(R.IP_BYTES_0);
  }
  get payloadBytes(): Both<number> {
    return this.both(R.PAYLOAD_0);
  }
  /** TCP: bytes of the stream that were seen, each once; and bytes between them that were not. */
  get streamBytes(): Both<number> {
    return this.both(R.SEQ_BYTES_0);
  }
  get missedBytes(): Both<number> {
    return this.both(R.MISSED_0);
  }
  /** All TCP flags seen, as in the header. */
  get tcpFlags(): Both<number> {
    const flags = this.words[this.base + R.FLAGS];
    return [flags & 0xff, (flags >>> 8) & 0xff];
  }
  get retransmissions(): Both<number> {
    return [this.words[this.base + R.RETRANS_0], this.words[this.base + R.RETRANS_1]];
  }
  get outOfOrder(): Both<number> {
    return [this.words[this.base + R.DISORDER_0], this.words[this.base + R.DISORDER_1]];
  }

  /** From the last SYN to the SYN-ACK, and to the ACK of that, in ns. */
  get synAckNs(): number | null {
    return this.words[this.base + R.FLAGS] & RECORD_SYNACK ? this.f64[(this.base + R.SYNACK_NS) >> 1] : null;
  }
  get handshakeNs(): number | null {
    return this.words[this.base + R.FLAGS] & RECORD_RTT ? this.f64[(this.base + R.RTT_NS) >> 1] : null;
  }

  /** Packets with its tuple that its windows or states do not allow; not in `packets`. */
  get invalid(): number {
    return this.words[this.base + R.INVALID];
  }
  /** ICMP errors about it; not in `packets`. */
  get icmpErrors(): number {
    return this.words[this.base + R.ERRORS];
  }

  /** VLAN ids of its first packet, outer first. */
  get vlan(): number[] {
    const tags = this.words[this.base + R.VLAN];
    return [tags >>> 16, tags & 0xffff].filter((tci) => tci & 0x1000).map((tci) => tci & 0xfff);
  }
  get inPort(): number {
    return this.words[this.base + R.IN_PORT];
  }

  /** First occurrences in order, in the letters of Zeek: S, H (SYN-ACK), A (bare ACK), D (data), F, R; small for
   *  replies. */
  get history(): string {
    let text = '';
    for (const word of [this.words[this.base + R.HISTORY_0], this.words[this.base + R.HISTORY_1] & 0xffff]) {
      for (let left = word; left !== 0; left >>>= 4) text += RECORD_EVENTS[(left & 15) - 1];
    }
    return text;
  }

  /** Its packets that the flow table dropped; why the first of them was (index into DROP_REASONS), and at which stat
   *  point, or -1. */
  get drops(): number {
    return this.words[this.base + R.DROPS];
  }
  get dropReason(): number {
    return this.words[this.base + R.DROP_REASON];
  }
  get dropStat(): number {
    return this.words[this.base + R.DROP_STAT] - 1;
  }

  /** Community ID of the original tuple, version 1, seed 0 (github.com/corelight/community-id-spec). */
  get communityId(): string {
    const { proto, ipv6 } = this.connection;
    const { addresses } = this;
    const size = ipv6 ? 16 : 4;
    const ends = Buffer.alloc(2 * size);
    addresses.forEach((word, i) => {
      ends.writeInt32BE(word, 4 * i);
    });
    const ports = communityPorts(proto, ipv6, this.ports, this.zoneProto);
    const src = ends.subarray(0, size);
    const dst = ends.subarray(size);
    const order = Buffer.compare(src, dst) || (ports === null ? 0 : ports[0] - ports[1]);
    const hash = createHash('sha1').update(Buffer.of(0, 0));
    hash
      .update(order <= 0 ? src : dst)
      .update(order <= 0 ? dst : src)
      .update(Buffer.of(proto, 0));
    if (ports !== null) {
      const [a, b] = order <= 0 ? ports : [ports[1], ports[0]];
      hash.update(Buffer.of(a >>> 8, a & 0xff, b >>> 8, b & 0xff));
    }
    return `1:${hash.digest('base64')}`;
  }

  private both(word: number): Both<number> {
    const at = (this.base + word) >> 1;
    return [this.f64[at], this.f64[at + 1]];
  }
}

/** conn_state of Zeek, by the events of the history. Of UDP it says who has sent; of anything else OTH. */
export function connState(r: ConnectionRecord): string {
  const { proto } = r.connection;
  if (proto === IPPROTO_UDP) {
    const [orig, reply] = r.packets;
    return reply > 0 ? (orig > 0 ? 'SF' : 'SHR') : 'S0';
  }
  if (proto !== IPPROTO_TCP) return 'OTH';
  const { history } = r;
  const has = (event: string): boolean => history.includes(event);
  const opened = has('S') && has('h');
  if (opened) {
    // Who resets first has aborted it.
    if (has('R') || has('r')) {
      const first = [...history].find((event) => event === 'R' || event === 'r');
      return first === 'R' ? 'RSTO' : 'RSTR';
    }
    if (has('F') && has('f')) return 'SF';
    return has('F') ? 'S2' : has('f') ? 'S3' : 'S1';
  }
  if (has('S')) {
    if (has('r')) return 'REJ';
    if (has('R')) return 'RSTOS0';
    if (has('F')) return 'SH';
    return /[a-z]/.test(history) ? 'OTH' : 'S0';
  }
  if (has('h')) return has('r') ? 'RSTRH' : has('f') ? 'SHR' : 'OTH';
  return 'OTH';
}

/** The ports that go into a Community ID: ICMP has the type and that of its answer. */
function communityPorts(
  proto: number,
  ipv6: boolean,
  ports: number,
  zoneProto: number,
): [number, number] | null {
  if (proto === (ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) {
    const type = zoneProto & 0xff;
    return [type, ICMP_ANSWERS.get(type) ?? 0];
  }
  if (proto !== IPPROTO_TCP && proto !== IPPROTO_UDP && proto !== IPPROTO_SCTP) return null;
  return [ports >>> 16, ports & 0xffff];
}
/** The types that open a connection, ICMP and ICMPv6: they share no number. */
const ICMP_ANSWERS = new Map([
  [8, 0],
  [13, 14],
  [15, 16],
  [128, 129],
]);

/** Packets and bytes of a category of packets (CATEGORY). */
export interface Tallies {
  /** By category: packets and wire bytes. */
  readonly packets: Float64Array;
  readonly bytes: Float64Array;
  /** Packets that a further connection counts, in another zone. */
  readonly repeatedPackets: number;
  readonly repeatedBytes: number;
}

/** Sums up the recorders' tallies. */
export function sumTallies(tallies: readonly Float64Array[]): Tallies {
  const categories = TALLY_REPEATED / 2;
  const sum = new Float64Array(TALLY_WORDS);
  for (const t of tallies) for (let i = 0; i < TALLY_WORDS; i++) sum[i] += t[i];
  return {
    packets: Float64Array.from({ length: categories }, (_, i) => sum[2 * i]),
    bytes: Float64Array.from({ length: categories }, (_, i) => sum[2 * i + 1]),
    repeatedPackets: sum[TALLY_REPEATED],
    repeatedBytes: sum[TALLY_REPEATED + 1],
  };
}

/** All packets that records count, once for every record. */
export function recordedPackets(t: Tallies): number {
  return t.packets[CATEGORY.CONNECTION] + t.repeatedPackets;
}

interface Waiting {
  /** Clock in ms. */
  end: number;
  record: ConnectionRecord;
}

/** Records that share a copy of their RECORDs. */
const SHARED_COPY = 256;

export class RecordKeeper {
  private readonly partitions: readonly PartitionWriter[];
  private readonly give: (record: ConnectionRecord) => void;
  private readonly settle: (clock: number) => void;
  private waiting: Waiting[] = [];
  /** Marks that have been dispatched and not reached: packet numbers and clocks. */
  private readonly marks: { packet: number; clock: number }[] = [];
  private nextMark = MARK_PACKETS;
  private copies = new Int32Array(0);
  private copiesF64 = new Float64Array(0);
  private nCopied = SHARED_COPY;
  /** The mark after which the next one is worth a look at all connections. */
  private quietUntil = 0;
  /** Clock in ms of the flush under way. */
  flushClock = 0;

  /** `settle` removes all that has ended before a clock. */
  constructor(
    partitions: readonly PartitionWriter[],
    settle: (clock: number) => void,
    give: (record: ConnectionRecord) => void,
  ) {
    this.partitions = partitions;
    this.settle = settle;
    this.give = give;
  }

  /** The connection in `slot` is about to be removed, for this reason (REMOVED_*). */
  removed(partition: PartitionWriter, slot: number, reason: number): void {
    const end = reason === REMOVED_FLUSHED ? this.flushClock : partition.expires(slot);
    if (this.nCopied === SHARED_COPY) {
      this.copies = new Int32Array(SHARED_COPY << SHIFT);
      this.copiesF64 = new Float64Array(this.copies.buffer);
      this.nCopied = 0;
    }
    const { copies, copiesF64 } = this;
    const base = this.nCopied++ << SHIFT;
    copies.set(partition.records!.subarray(slot << SHIFT, (slot + 1) << SHIFT), base);
    const record = new ConnectionRecord(partition, slot, ENDINGS[reason], copies, copiesF64, base);
    this.waiting.push({ end, record });
  }

  /** Packet number `packet` has been dispatched at `clock`. */
  dispatched(packet: number, clock: number): void {
    if (packet !== this.nextMark) return;
    this.nextMark += MARK_PACKETS;
    this.marks.push({ packet, clock });
  }

  /** All packets before number `head` have been collected. */
  advance(head: number): void {
    while (this.marks.length > 0 && this.marks[0].packet <= head) {
      const { packet, clock } = this.marks.shift()!;
      if (packet < this.quietUntil) continue;
      this.settle(clock);
      this.flush(clock);
      this.quietUntil = packet + this.liveBefore(packet);
    }
  }

  /** The input has ended, and all that had ended by then has been removed. */
  finish(): void {
    const last = this.waiting.map(({ record }) => ({
      created: record.connection.created,
      make: () => record,
    }));
    for (const p of this.partitions) {
      const words = p.records!;
      const f64 = new Float64Array(words.buffer, words.byteOffset, words.length >> 1);
      for (let slot = 0; slot < p.high; slot++) {
        if (p.used[slot] === 0) continue;
        // Nothing changes any more: no copy is needed.
        const make = () => new ConnectionRecord(p, slot, 'open', words, f64, slot << SHIFT);
        last.push({ created: p.created(slot), make });
      }
    }
    this.waiting = [];
    last.sort((a, b) => a.created - b.created);
    for (const { make } of last) this.give(make());
  }

  /** Gives out what had ended before `clock`. */
  private flush(clock: number): void {
    const due: Waiting[] = [];
    const rest: Waiting[] = [];
    for (const w of this.waiting) (w.end < clock ? due : rest).push(w);
    this.waiting = rest;
    due.sort((a, b) => a.record.connection.created - b.record.connection.created);
    for (const { record } of due) this.give(record);
  }

  /** Live connections that packets before number `packet` have made. */
  private liveBefore(packet: number): number {
    let n = 0;
    for (const p of this.partitions) {
      for (let slot = 0; slot < p.high; slot++) if (p.used[slot] !== 0 && p.created(slot) < packet) n++;
    }
    return n;
  }
}
