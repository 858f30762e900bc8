/** A connection record: a row of words that says all there is of a connection and what was seen of it. A row is copied
 *  out of its partition when the connection has ended; it goes to another thread as it is, and nothing is made of
 *  it before somebody asks.
 *
 *      word   0 ...  63   RECORD
 *            64 ...  79   CONN
 *            80 ...  95   NAT; word 86 has the ending
 *            96 ... 107   PARENT
 *           108,    109   Float64: clock in ms at the packet that made the connection
 *           112 ... 119   ADDR6
 *           120 ... 127   COLD */
import { fold6 } from '../conntrack/hash.js';
import { ConnKey, replyZoneProto } from '../conntrack/key.js';
import type { PartitionWriter } from '../conntrack/partition.js';
import {
  ADDR6,
  COLD,
  CONN,
  NAT,
  PARENT,
  RECORD,
  RECORD_EVENTS,
  RECORD_RTT,
  RECORD_SYNACK,
  STATE_CHILD,
  STATE_FTP,
  STATE_TFTP,
  STATE_TRANSLATED,
} from '../shm/layouts.js';
import { ipv6Text } from '../wire/address.js';
import {
  ETH_TYPE_IP,
  ETH_TYPE_IPV6,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
} from '../wire/extract.js';
import { type Connection, type Tuple, tupleOf } from './dump.js';
import { sha1 } from './sha1.js';

const R = RECORD.at;
/** Words of a row, and where its parts are. */
export const ROW_SHIFT = 7;
export const ROW_WORDS = 1 << ROW_SHIFT;
const ROW_CONN = 64;
const ROW_NAT = 80;
const ROW_ENDING = ROW_NAT + NAT.at.UNUSED_0;
const ROW_PARENT = 96;
const ROW_CREATED_MS = 108;
const ROW_ADDR6 = 112;
const ROW_COLD = 120;
const { SRC, DST, PORTS, ZONE_PROTO, STATE } = CONN.at;

/** How a connection ended: its time was over; a packet opened another with its tuple; an administrator flushed it;
 *  it had not ended when the input did. */
export type Ending = 'timeout' | 'replaced' | 'flushed' | 'open';

/** By the reason of a removal: REMOVED_EXPIRED, REMOVED_EVICTED, REMOVED_FLUSHED. */
const ENDINGS = ['timeout', 'replaced', 'flushed', 'open'] as const;
export const ENDING_OPEN = 3;

/** Original direction first. */
export type Both<T> = readonly [T, T];

/** Copies all that is known of the connection in `slot` to the row at `base`. `f64` is over the memory of `words`. */
export function copyRow(
  partition: PartitionWriter,
  slot: number,
  ending: number,
  words: Int32Array,
  f64: Float64Array,
  base: number,
): void {
  const { records, hot, cold, addr6, nat, parent } = partition;
  const state = hot[(slot << CONN.shift) + STATE];
  copy(records!, slot << RECORD.shift, RECORD.words, words, base);
  copy(hot, slot << CONN.shift, CONN.words, words, base + ROW_CONN);
  if (state & STATE_TRANSLATED) copy(nat, slot << NAT.shift, NAT.words, words, base + ROW_NAT);
  if (state & STATE_CHILD)
    copy(parent, slot << PARENT.shift, ROW_CREATED_MS - ROW_PARENT, words, base + ROW_PARENT);
  if (hot[(slot << CONN.shift) + ZONE_PROTO] & 0x80) {
    copy(addr6, slot << ADDR6.shift, ADDR6.words, words, base + ROW_ADDR6);
  }
  copy(cold, slot << COLD.shift, COLD.words, words, base + ROW_COLD);
  words[base + ROW_ENDING] = ending;
  f64[(base + ROW_CREATED_MS) >> 1] = partition.createdMs[slot];
}

/** CREATED of the row at `base`: rows of one time are given out in its order. */
export function createdOf(f64: Float64Array, base: number): number {
  return f64[(base + ROW_COLD + COLD.at.CREATED) >> 1];
}

/** The other way round: fills a record that nobody can find yet from the row at `base`. */
export function pasteRow(
  partition: PartitionWriter,
  slot: number,
  words: Int32Array,
  f64: Float64Array,
  base: number,
): void {
  const { records, hot, cold, addr6, nat, parent } = partition;
  copy(words, base, RECORD.words, records!, slot << RECORD.shift);
  copy(words, base + ROW_CONN, CONN.words, hot, slot << CONN.shift);
  const state = hot[(slot << CONN.shift) + STATE];
  if (state & STATE_TRANSLATED) copy(words, base + ROW_NAT, NAT.words, nat, slot << NAT.shift);
  if (state & STATE_CHILD) {
    copy(words, base + ROW_PARENT, ROW_CREATED_MS - ROW_PARENT, parent, slot << PARENT.shift);
  }
  if (hot[(slot << CONN.shift) + ZONE_PROTO] & 0x80) {
    copy(words, base + ROW_ADDR6, ADDR6.words, addr6, slot << ADDR6.shift);
    // Folded with a number that every run draws anew.
    const [a, b, c, d, e, f, g, h] = addr6.subarray(slot << ADDR6.shift, (slot + 1) << ADDR6.shift);
    hot[(slot << CONN.shift) + SRC] = fold6(partition.seed, a, b, c, d);
    hot[(slot << CONN.shift) + DST] = fold6(partition.seed, e, f, g, h);
    if (slot >= partition.high6) partition.high6 = slot + 1;
  }
  copy(words, base + ROW_COLD, COLD.words, cold, slot << COLD.shift);
  partition.createdMs[slot] = f64[(base + ROW_CREATED_MS) >> 1];
}

/** The least frame that has the original tuple of the row at `base`: its home is that of the connection. */
export function frameOfRow(words: Int32Array, base: number): DataView {
  const zoneProto = words[base + ROW_CONN + ZONE_PROTO];
  const proto = (zoneProto >>> 8) & 0xff;
  const ports = words[base + ROW_CONN + PORTS];
  const ipv6 = (zoneProto & 0x80) !== 0;
  const view = new DataView(new ArrayBuffer(14 + (ipv6 ? 40 : 20) + 20));
  const l4 = ipv6 ? 54 : 34;
  if (ipv6) {
    view.setUint16(12, ETH_TYPE_IPV6);
    view.setUint8(14, 0x60);
    view.setUint16(18, 20);
    view.setUint8(20, proto);
    for (let i = 0; i < 8; i++) view.setInt32(22 + 4 * i, words[base + ROW_ADDR6 + i]);
  } else {
    view.setUint16(12, ETH_TYPE_IP);
    view.setUint8(14, 0x45);
    view.setUint16(16, 40);
    view.setUint8(23, proto);
    view.setInt32(26, words[base + ROW_CONN + SRC]);
    view.setInt32(30, words[base + ROW_CONN + DST]);
  }
  if (proto === (ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) {
    // Kinds of ICMPv6 are 0x80 and 0x81, its types as well.
    view.setUint8(l4, zoneProto & 0xff);
    view.setUint16(l4 + 4, ports >>> 16);
  } else {
    view.setInt32(l4, ports);
  }
  return view;
}

function copy(from: Int32Array, at: number, n: number, to: Int32Array, base: number): void {
  for (let i = 0; i < n; i++) to[base + i] = from[at + i];
}

/** A connection and what was seen of it. Times are those of the capture: seconds and nanoseconds. */
export class ConnectionRecord {
  /** The row starts at `base` of `words`; `f64` is over the same memory. */
  readonly words: Int32Array;
  readonly f64: Float64Array;
  readonly base: number;
  private made: Connection | null = null;

  constructor(words: Int32Array, f64: Float64Array, base: number) {
    this.words = words;
    this.f64 = f64;
    this.base = base;
  }

  /** Tuples, zone, mark, label, parent, counters of the tracker. */
  get connection(): Connection {
    this.made ??= this.make();
    return this.made;
  }

  get ending(): Ending {
    return ENDINGS[this.words[this.base + ROW_ENDING]];
  }

  get proto(): number {
    return (this.words[this.base + ROW_CONN + ZONE_PROTO] >>> 8) & 0xff;
  }
  get ipv6(): boolean {
    return (this.words[this.base + ROW_CONN + ZONE_PROTO] & 0x80) !== 0;
  }
  /** TCP, and both ends have sent a FIN, or one a RST. */
  get isClosed(): boolean {
    const { events } = this;
    return ((events | (events >>> REPLY)) & RST) !== 0 || (events & (events >>> REPLY) & FIN) !== 0;
  }

  /** Words of the row at which tuples start: SRC, DST and PORTS of CONN, the same of the replies of a translated
   *  connection, and source and destination of IPv6. */
  get origAt(): number {
    return this.base + ROW_CONN;
  }
  get natAt(): number {
    return this.base + ROW_NAT;
  }
  get addr6At(): number {
    return this.base + ROW_ADDR6;
  }
  get natAddr6At(): number {
    return this.base + ROW_NAT + NAT.at.SRC6_0;
  }

  /** What `connection` says, without making all of it: an address is a word if it is one of IPv4, else text; ports are
   *  those of a tuple, the source in the upper half. */
  host(reply: 0 | 1, dst: 0 | 1): number | string {
    const { words, base } = this;
    const translated = reply === 1 && this.isTranslated;
    const end = reply === 1 && !translated ? 1 - dst : dst;
    if (this.ipv6) return ipv6Text(words, (translated ? this.natAddr6At : base + ROW_ADDR6) + 4 * end);
    return words[(translated ? base + ROW_NAT : base + ROW_CONN) + (end === 0 ? SRC : DST)];
  }
  ports(reply: 0 | 1): number {
    const { words, base } = this;
    if (reply === 1 && this.isTranslated) return words[base + ROW_NAT + PORTS];
    const ports = words[base + ROW_CONN + PORTS];
    return reply === 0 ? ports : (ports << 16) | (ports >>> 16);
  }
  /** ICMP or ICMPv6, over whichever version of IP: no ports, but a type and an id. */
  get isIcmp(): boolean {
    const { proto } = this;
    return proto === IPPROTO_ICMP || proto === IPPROTO_ICMPV6;
  }
  get icmpType(): number {
    const right = this.proto === (this.ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
    return right ? this.words[this.base + ROW_CONN + ZONE_PROTO] & 0xff : 0;
  }
  /** Of the tracker (CONN.STATE). */
  get state(): number {
    return this.words[this.base + ROW_CONN + STATE];
  }
  get mark(): number {
    return this.words[this.base + ROW_COLD + COLD.at.MARK] >>> 0;
  }
  get label(): Int32Array {
    return this.labelAt(this.base + ROW_COLD + COLD.at.LABEL_0);
  }
  get helper(): Connection['helper'] {
    const { state } = this;
    return state & STATE_FTP ? 'ftp' : state & STATE_TFTP ? 'tftp' : null;
  }
  /** A helper expected it. */
  get isChild(): boolean {
    return (this.state & STATE_CHILD) !== 0;
  }

  get zone(): number {
    return this.words[this.base + ROW_CONN + ZONE_PROTO] >>> 16;
  }
  get isTranslated(): boolean {
    return (this.words[this.base + ROW_CONN + STATE] & STATE_TRANSLATED) !== 0;
  }
  /** Of the packet that made it, from 0, plus a fraction: no two records have the same. */
  get created(): number {
    return this.f64[(this.base + ROW_COLD + COLD.at.CREATED) >> 1];
  }

  /** `created` in numbers of the source that the input is a share of. */
  get place(): number {
    const { created } = this;
    return this.firstPacket - 1 + (created - Math.floor(created));
  }

  /** Of the capture's time; unsigned, so until 2106. */
  get startSec(): number {
    return this.words[this.base + R.START_SEC] >>> 0;
  }
  get startNsec(): number {
    return this.words[this.base + R.START_NSEC];
  }
  get endSec(): number {
    return this.words[this.base + R.END_SEC] >>> 0;
  }
  get endNsec(): number {
    return this.words[this.base + R.END_NSEC];
  }

  /** From the first packet to the latest, in ns. */
  get durationNs(): number {
    return (this.endSec - this.startSec) * 1e9 + (this.endNsec - this.startNsec);
  }

  /** TCP: from the first packet to the FIN or RST after which both ends had sent one; null if they have not. */
  get closedNs(): number | null {
    const { words, base } = this;
    if (words[base + R.CLOSED_SEC] === 0) return null;
    const sec = (words[base + R.CLOSED_SEC] >>> 0) - this.startSec;
    return sec * 1e9 + (words[base + R.CLOSED_NSEC] - this.startNsec);
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
  get vlan(): readonly number[] {
    const tags = this.words[this.base + R.VLAN];
    if (tags === 0) return NO_VLAN;
    return [tags >>> 16, tags & 0xffff].filter((tci) => tci & 0x1000).map((tci) => tci & 0xfff);
  }
  get inPort(): number {
    return this.words[this.base + R.IN_PORT];
  }

  /** First occurrences in order, in the letters of Zeek: S, H (SYN-ACK), A (bare ACK), D (data), F, R; small for
   *  replies. */
  get history(): string {
    return this.story.text;
  }

  /** The history, and what it makes of a TCP connection (`connState`). */
  get story(): Story {
    const { words, base } = this;
    const key = (words[base + R.HISTORY_0] >>> 0) + (words[base + R.HISTORY_1] & 0xffff) * 2 ** 32;
    let story = stories.get(key);
    if (story === undefined) {
      story = { text: this.spell(), tcpState: tcpState(this) };
      if (stories.size < MOST_STORIES) stories.set(key, story);
    }
    return story;
  }

  private spell(): string {
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

  /** Bit k - 1: event k of RECORD_EVENTS was seen. */
  get events(): number {
    return (this.words[this.base + R.HISTORY_1] >>> 16) & 0xfff;
  }

  /** Event `n` of the history in its order, 0 if there were not so many. */
  event(n: number): number {
    return (this.words[this.base + (n < 8 ? R.HISTORY_0 : R.HISTORY_1)] >>> ((n & 7) << 2)) & 15;
  }

  /** Community ID of the original tuple, version 1, seed 0 (github.com/corelight/community-id-spec). */
  get communityId(): string {
    const { proto, ipv6, words, base } = this;
    const n = ipv6 ? 4 : 1;
    const at = base + (ipv6 ? ROW_ADDR6 : ROW_CONN + SRC);
    const c = base + ROW_CONN;
    const ports = communityPorts(proto, ipv6, words[c + PORTS], words[c + ZONE_PROTO]);
    let order = ports === null ? 0 : (ports >>> 16) - (ports & 0xffff);
    for (let i = n - 1; i >= 0; i--) {
      if (words[at + i] !== words[at + n + i]) order = (words[at + i] >>> 0) - (words[at + n + i] >>> 0);
    }
    // Seed, 16 bits; addresses, the lower one first; protocol; 0; ports.
    let size = 2;
    const put = (word: number, bytes: number): void => {
      for (let i = bytes - 1; i >= 0; i--) message[size++] = word >>> (8 * i);
    };
    const first = order <= 0 ? at : at + n;
    const second = order <= 0 ? at + n : at;
    message[0] = message[1] = 0;
    for (let i = 0; i < n; i++) put(words[first + i], 4);
    for (let i = 0; i < n; i++) put(words[second + i], 4);
    put(proto << 8, 2);
    if (ports !== null) put(order <= 0 ? ports : (ports << 16) | (ports >>> 16), 4);
    sha1(message, size, digest);
    return `1:${digest.base64Slice(0, DIGEST_BYTES)}`;
  }

  private make(): Connection {
    const { words, f64, base } = this;
    const c = base + ROW_CONN;
    const m = base + ROW_COLD;
    const state = words[c + STATE];
    const carry = words[m + COLD.at.CARRY];
    return {
      proto: this.proto,
      ipv6: this.ipv6,
      orig: this.tuple(c, base + ROW_ADDR6, words[c + ZONE_PROTO]),
      reply: this.replyTuple(),
      helper: this.helper,
      parent:
        state & STATE_CHILD
          ? this.tuple(
              base + ROW_PARENT,
              base + ROW_PARENT + PARENT.at.SRC6_0,
              words[base + ROW_PARENT + PARENT.at.ZONE_PROTO],
            )
          : null,
      zone: this.zone,
      mark: this.mark,
      label: this.label,
      state,
      packets: [words[c + CONN.at.PKTS_0] >>> 0, words[c + CONN.at.PKTS_1] >>> 0],
      bytes: [
        (words[c + CONN.at.BYTES_0] >>> 0) + (carry & 0xffff) * 2 ** 32,
        (words[c + CONN.at.BYTES_1] >>> 0) + (carry >>> 16) * 2 ** 32,
      ],
      created: this.created,
      createdMs: f64[(base + ROW_CREATED_MS) >> 1],
      expiresMs: f64[(c + CONN.at.EXPIRES) >> 1],
    };
  }

  private labelAt(at: number): Int32Array {
    const { words } = this;
    const any = words[at] | words[at + 1] | words[at + 2] | words[at + 3];
    return any === 0 ? NO_LABEL : words.slice(at, at + 4);
  }

  private replyTuple(): Tuple {
    const { words, base } = this;
    const c = base + ROW_CONN;
    const zoneProto = replyZoneProto(words[c + ZONE_PROTO]);
    const n = base + ROW_NAT;
    if (words[c + STATE] & STATE_TRANSLATED) return this.tuple(n, n + NAT.at.SRC6_0, zoneProto);
    const ports = words[c + PORTS];
    key.src = words[c + DST];
    key.dst = words[c + SRC];
    key.ports = (ports << 16) | (ports >>> 16);
    const a = base + ROW_ADDR6;
    for (let i = 0; i < 8; i++) key.addr6[i] = words[a + (i ^ 4)];
    return this.tupleOfKey(zoneProto);
  }

  /** The tuple whose SRC, DST and PORTS start at `at`, and whose IPv6 addresses are at `addr6`. */
  private tuple(at: number, addr6: number, zoneProto: number): Tuple {
    const { words } = this;
    key.src = words[at];
    key.dst = words[at + DST];
    key.ports = words[at + PORTS];
    for (let i = 0; i < 8; i++) key.addr6[i] = words[addr6 + i];
    return this.tupleOfKey(zoneProto);
  }

  private tupleOfKey(zoneProto: number): Tuple {
    key.zoneProto = zoneProto;
    key.proto = (zoneProto >>> 8) & 0xff;
    key.ipv6 = (zoneProto & 0x80) !== 0;
    return tupleOf(key);
  }

  private both(word: number): Both<number> {
    const at = (this.base + word) >> 1;
    return [this.f64[at], this.f64[at + 1]];
  }
}

const key = new ConnKey();
const NO_VLAN: readonly number[] = [];
const NO_LABEL = new Int32Array(4);
/** By their events: most connections share a few. */
const stories = new Map<number, Story>();
const MOST_STORIES = 1 << 12;
interface Story {
  readonly text: string;
  readonly tcpState: string;
}
/** What a Community ID is the digest of: at most 2 + 32 + 2 + 4 bytes. */
const message = new Uint8Array(40);
const DIGEST_BYTES = 20;
const digest = Buffer.alloc(DIGEST_BYTES) as Buffer & { base64Slice(from: number, to: number): string };

/** Events as bits: those of the original direction, and how far up those of replies are. */
const SYN = 1;
const SYNACK = 2;
/** The number of its event. */
const ACK = 3;
const FIN = 16;
const RST = 32;
const REPLY = 6;

/** conn_state of Zeek, by the events of the history. Of UDP it says who has sent; of anything else OTH. */
export function connState(r: ConnectionRecord): string {
  const { proto } = r;
  if (proto === IPPROTO_UDP) {
    const [orig, reply] = r.packets;
    return reply > 0 ? (orig > 0 ? 'SF' : 'SHR') : 'S0';
  }
  if (proto !== IPPROTO_TCP) return 'OTH';
  return r.story.tcpState;
}

/** What Zeek knows of an end of a TCP connection. */
const INACTIVE = 0;
/** It has sent something, but neither a SYN nor an answer to one. */
const PARTIAL = 1;
const SYN_SENT = 2;
const ESTABLISHED = 3;
const CLOSED = 4;
const RESET = 5;

/** States of both ends after the events of the history, and from these a conn_state. Whoever resets after its FIN has
 *  closed nevertheless, if the other end has sent its FIN, or sends it later. */
function tcpState(r: ConnectionRecord): string {
  const ends = [INACTIVE, INACTIVE];
  const before = [INACTIVE, INACTIVE];
  let data = false;
  let acked = false;
  for (let n = 0; n < RECORD_EVENTS.length; n++) {
    const event = r.event(n);
    if (event === 0) break;
    const end = event > REPLY ? 1 : 0;
    const other = 1 - end;
    const was = ends[end];
    switch (1 << ((event - 1) % REPLY)) {
      case SYN:
        if (was <= PARTIAL) ends[end] = SYN_SENT;
        break;
      case SYNACK:
        if (was <= SYN_SENT) ends[end] = ends[other] === SYN_SENT ? ESTABLISHED : SYN_SENT;
        if (ends[other] === SYN_SENT) ends[other] = ESTABLISHED;
        break;
      case FIN:
        ends[end] = CLOSED;
        if (ends[other] === RESET && before[other] === CLOSED) ends[other] = CLOSED;
        break;
      case RST:
        // One that answers a reset changes nothing.
        if ((was === CLOSED && ends[other] === CLOSED) || ends[other] === RESET) break;
        before[end] = was;
        ends[end] = RESET;
        break;
      default:
        if (was === INACTIVE) ends[end] = PARTIAL;
        if (event === ACK) acked = true;
        data ||= event !== ACK && event !== ACK + REPLY;
    }
  }
  const [orig, reply] = ends;
  if (reply === RESET) {
    if (orig === SYN_SENT || (orig === RESET && !data)) return 'REJ';
    return orig <= PARTIAL ? 'RSTRH' : 'RSTR';
  }
  if (orig === RESET) {
    if (reply > PARTIAL) return 'RSTO';
    return r.events & SYN && !acked && !(r.events & FIN) ? 'RSTOS0' : 'OTH';
  }
  if (orig === CLOSED && reply === CLOSED) return 'SF';
  if (orig === CLOSED) return reply <= PARTIAL ? 'SH' : 'S2';
  if (reply === CLOSED) return orig <= PARTIAL ? 'SHR' : 'S3';
  if (orig === SYN_SENT && reply === INACTIVE) return 'S0';
  return orig === ESTABLISHED && reply === ESTABLISHED ? 'S1' : 'OTH';
}

/** The ports that go into a Community ID, the source in the upper half: ICMP has the type and that of its answer. */
function communityPorts(proto: number, ipv6: boolean, ports: number, zoneProto: number): number | null {
  if (proto === (ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP)) {
    const type = zoneProto & 0xff;
    return (type << 16) | (ICMP_ANSWERS.get(type) ?? 0);
  }
  if (proto !== IPPROTO_TCP && proto !== IPPROTO_UDP && proto !== IPPROTO_SCTP) return null;
  return ports;
}
/** The types that open a connection, ICMP and ICMPv6: they share no number. */
const ICMP_ANSWERS = new Map([
  [8, 0],
  [13, 14],
  [15, 16],
  [128, 129],
]);
