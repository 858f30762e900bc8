/** Keeps what analysis wants to know of connections, beside what the tracker needs: times, sizes, TCP flags,
 *  repetitions, round trips, drops; and counts every packet for one category, so that a reconciliation adds up.
 *
 *  Runs where the datapath does, only if records are asked for. Writer of RECORD and of its own tallies: this
 *  thread, the home of the connections. Readers: the main thread, RECORD once the connection has ended for all
 *  packets in flight, tallies at the end. All is done in the order of a connection's packets, so nothing depends on
 *  the number of workers. */
import { CS_INV, FLOW } from '../classifier/flow-key.js';
import { INVALID_NOT_IP, INVALID_REASONS } from '../conntrack/key.js';
import type { Partition } from '../conntrack/partition.js';
import { TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN } from '../conntrack/tcp.js';
import { CONN, RECORD, RECORD_RTT, RECORD_STREAM_0, RECORD_SYN, RECORD_SYNACK } from '../shm/layouts.js';
import type { PacketColumns } from '../shm/packets.js';
import {
  ETH_TYPE_IP,
  ETH_TYPE_IPV6,
  ETH_TYPE_QINQ,
  ETH_TYPE_VLAN,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
} from '../wire/extract.js';
import type { PacketContext } from './context.js';
import { DROP_CONTROLLER, DROP_FRAGMENT_HELD, DROP_NONE, DROP_TOO_SHORT } from './program.js';
import type { Tracker, TrackObserver } from './tracker.js';
import type { VerdictTable } from './verdicts.js';

const { CT_STATE, ETH_TYPE } = FLOW;
const { ZONE_PROTO } = CONN.at;
const HOT_SHIFT = CONN.shift;
const R = RECORD.at;
const SHIFT = RECORD.shift;
const FIRST_PACKET = R.FIRST_PACKET >> 1;
const LAST_PACKET = R.LAST_PACKET >> 1;
const FRAME_BYTES_0 = R.FRAME_BYTES_0 >> 1;
const IP_BYTES_0 = R.IP_BYTES_0 >> 1;
const PAYLOAD_0 = R.PAYLOAD_0 >> 1;
const SEQ_BYTES_0 = R.SEQ_BYTES_0 >> 1;
const MISSED_0 = R.MISSED_0 >> 1;
const SYNACK_NS = R.SYNACK_NS >> 1;
const RTT_NS = R.RTT_NS >> 1;
const DROP_PACKET = R.DROP_PACKET >> 1;
const { PKTS_0, START_SEC, START_NSEC, END_SEC, END_NSEC, NEXT_0, FLAGS, SYN_SEC, SYN_NSEC } = R;
const { HOLE_LO_0, HOLE_HI_0, RETRANS_0, DISORDER_0, INVALID, ERRORS, VLAN, IN_PORT } = R;
const { HISTORY_0, HISTORY_1, DROPS, DROP_REASON, DROP_STAT, CLOSED_SEC, CLOSED_NSEC } = R;

/** What became of a packet, in RECORD's terms. */
export const CATEGORY = {
  NONE: 0,
  /** Counted in a connection's packets. */
  CONNECTION: 1,
  /** An ICMP error about a connection. */
  ERROR: 2,
  /** TCP, of a connection, outside of its windows. */
  OUT_OF_WINDOW: 3,
  /** Tracked, but there is no connection: none was committed, or none could be. */
  NO_CONNECTION: 4,
  /** IP that the flow table has not sent through ct(). */
  UNTRACKED: 5,
  NOT_IP: 6,
  /** No whole Ethernet header. */
  TOO_SHORT: 7,
  /** All fragments of a datagram but the last to come, which counts for all; or its datagram stayed incomplete. */
  FRAGMENT: 8,
  /** Plus the reason: index into INVALID_REASONS. */
  INVALID_0: 9,
} as const;
const CATEGORIES = CATEGORY.INVALID_0 + INVALID_REASONS.length;
/** Tallies: packets and wire bytes of each category; then of packets that a second connection counts, too. */
export const TALLY_REPEATED = 2 * CATEGORIES;
export const TALLY_WORDS = TALLY_REPEATED + 2;

/** Events of HISTORY in the original direction, and how many more that of replies is. */
const EVENT_SYN = 1;
const EVENT_SYNACK = 2;
const EVENT_ACK = 3;
const EVENT_DATA = 4;
const EVENT_FIN = 5;
const EVENT_RST = 6;
const EVENTS = 6;
/** FIN and RST among the bits of HISTORY_1, shifted down. */
const ORIG_ENDS = (1 << (EVENT_FIN - 1)) | (1 << (EVENT_RST - 1));
const REPLY_ENDS = ORIG_ENDS << EVENTS;

export class Recorder implements TrackObserver {
  private readonly partition: Partition;
  private readonly packets: PacketColumns;
  private readonly arena: DataView;
  private readonly tracker: Tracker;
  private readonly words: Int32Array;
  private readonly f64: Float64Array;
  private readonly tallies: Float64Array;
  /** By verdict: drop reason (0: none), and the stat point of the last pass. */
  private dropReasons: Int32Array = new Int32Array(64);
  private dropStats: Int32Array = new Int32Array(64);
  private nVerdicts = 0;
  /** Packets go through the engine for others to count. */
  uncounted = false;

  /** Becomes the tracker's observer. */
  constructor(
    partition: Partition,
    packets: PacketColumns,
    arena: SharedArrayBuffer,
    tracker: Tracker,
    tallies: SharedArrayBuffer,
  ) {
    this.partition = partition;
    this.packets = packets;
    this.arena = new DataView(arena);
    this.tracker = tracker;
    const { records } = partition;
    if (records === null) throw new Error('recorder: the partition has no room for records');
    this.words = records;
    this.f64 = new Float64Array(records.buffer);
    this.tallies = new Float64Array(tallies);
    tracker.observer = this;
  }

  /** A packet that the microflow cache has answered: of connection `conn` (`slot << 1 | reply`). `l4` is where its
   *  transport header is in the arena. */
  hit(conn: number, slot: number, l4: number, l4Size: number, l3Size: number, verdict: number): void {
    this.tally(CATEGORY.CONNECTION, this.packets.wireLen[slot]);
    this.count(conn, slot, this.arena, l4, l4Size, l3Size);
    const reason = this.dropReasons[verdict];
    if (reason !== 0) this.drop(conn, slot, reason, this.dropStats[verdict]);
  }

  /** The same of a packet, of IP, that has been through the `n` connections in `conns`, in their order; through no
   *  ct() if there are none. */
  hits(
    conns: Int32Array,
    n: number,
    slot: number,
    l4: number,
    l4Size: number,
    l3Size: number,
    verdict: number,
  ): void {
    if (n === 0) {
      this.tally(CATEGORY.UNTRACKED, this.packets.wireLen[slot]);
      return;
    }
    this.hit(conns[0], slot, l4, l4Size, l3Size, verdict);
    const reason = this.dropReasons[verdict];
    for (let j = 1; j < n; j++) {
      let known = 0;
      while (conns[known] >> 1 !== conns[j] >> 1) known++;
      if (known < j) continue;
      this.repeated(this.packets.wireLen[slot]);
      this.count(conns[j], slot, this.arena, l4, l4Size, l3Size);
      if (reason !== 0) this.drop(conns[j], slot, reason, this.dropStats[verdict]);
    }
  }

  /** A packet in the engine has been through a ct(). */
  tracked(ctx: PacketContext, conn: number): void {
    const state = ctx.key[CT_STATE];
    if (conn < 0) {
      if (ctx.category !== CATEGORY.NONE) return;
      if (!(state & CS_INV)) ctx.category = CATEGORY.NO_CONNECTION;
      else {
        const { invalid } = this.tracker;
        ctx.category = invalid === INVALID_NOT_IP ? CATEGORY.NOT_IP : CATEGORY.INVALID_0 + invalid;
      }
      return;
    }
    for (let i = 0; i < ctx.nSeen; i++) if (ctx.seen[i] === conn >> 1) return;
    const again = ctx.nSeen > 0;
    ctx.seen[ctx.nSeen++] = conn >> 1;
    const r = (conn >> 1) << SHIFT;
    let category: number;
    if (ctx.related) {
      this.words[r + ERRORS]++;
      category = CATEGORY.ERROR;
    } else if (state & CS_INV) {
      this.words[r + INVALID]++;
      category = CATEGORY.OUT_OF_WINDOW;
    } else {
      const { layout } = ctx;
      const size = layout.end - layout.l4;
      this.count(conn, ctx.slot, ctx.view, ctx.off + layout.l4, size, layout.end - layout.l3);
      category = CATEGORY.CONNECTION;
      if (again && ctx.category === CATEGORY.CONNECTION) this.repeated(this.packets.wireLen[ctx.slot]);
    }
    // One connection that counts the packet is enough.
    if (!again || category === CATEGORY.CONNECTION) ctx.category = category;
  }

  /** The engine is done with a packet, whose verdict has the number `verdict` of `table`. */
  done(ctx: PacketContext, verdict: number, table: VerdictTable): void {
    while (this.nVerdicts <= verdict) this.note(table.template(this.nVerdicts));
    if (this.uncounted) return;
    const reason = this.dropReasons[verdict];
    if (reason !== 0) {
      for (let i = 0; i < ctx.nSeen; i++)
        this.drop(ctx.seen[i] << 1, ctx.slot, reason, this.dropStats[verdict]);
    }
    this.tally(
      ctx.category === CATEGORY.NONE ? untracked(ctx) : ctx.category,
      this.packets.wireLen[ctx.slot],
    );
  }

  /** Whether packets with this verdict, which the engine has given, are dropped. */
  drops(verdict: number): boolean {
    return this.dropReasons[verdict] !== 0;
  }

  /** Takes down what a verdict template says of drops. */
  private note(template: Int32Array): void {
    const id = this.nVerdicts++;
    if (id === this.dropReasons.length) {
      this.dropReasons = doubled(this.dropReasons);
      this.dropStats = doubled(this.dropStats);
    }
    let at = 1 + 2 * template[0];
    at += 1 + 2 * template[at];
    const reason = template[at++];
    if (reason === DROP_NONE || reason === DROP_CONTROLLER || reason === DROP_FRAGMENT_HELD) return;
    this.dropReasons[id] = reason;
    // The last pass decides; 0 stands for none.
    this.dropStats[id] = at < template.length ? template[template.length - 2] + 1 : 0;
  }

  /** The first drop is that of the earliest packet: one that waited to be switched may be done after later ones. */
  private drop(conn: number, slot: number, reason: number, stat: number): void {
    const r = (conn >> 1) << SHIFT;
    const { words, f64 } = this;
    const packet = this.packets.seq[slot] + 1;
    if (words[r + DROPS]++ > 0 && f64[(r >> 1) + DROP_PACKET] < packet) return;
    f64[(r >> 1) + DROP_PACKET] = packet;
    words[r + DROP_REASON] = reason;
    words[r + DROP_STAT] = stat;
  }

  private tally(category: number, bytes: number): void {
    this.tallies[2 * category]++;
    this.tallies[2 * category + 1] += bytes;
  }

  private repeated(bytes: number): void {
    this.tallies[TALLY_REPEATED]++;
    this.tallies[TALLY_REPEATED + 1] += bytes;
  }

  /** Counts a packet of a connection. Its transport header is at `l4` of `view`, `l4Size` bytes with payload. */
  private count(
    conn: number,
    slot: number,
    view: DataView,
    l4: number,
    l4Size: number,
    l3Size: number,
  ): void {
    const { words, f64, packets } = this;
    const reply = conn & 1;
    const r = (conn >> 1) << SHIFT;
    const d = (r >> 1) + reply;
    const sec = packets.sec[slot];
    const nsec = packets.nsec[slot];
    if (words[r + PKTS_0] === 0 && words[r + PKTS_0 + 1] === 0) {
      words[r + START_SEC] = words[r + END_SEC] = sec;
      words[r + START_NSEC] = words[r + END_NSEC] = nsec;
      f64[(r >> 1) + FIRST_PACKET] = packets.number[slot];
      words[r + VLAN] = vlanOf(this.arena, packets.off[slot], packets.capLen[slot]);
      words[r + IN_PORT] = packets.inPort[slot];
    } else {
      const end = words[r + END_SEC] >>> 0;
      if (sec > end || (sec === end && nsec > words[r + END_NSEC])) {
        words[r + END_SEC] = sec;
        words[r + END_NSEC] = nsec;
      }
    }
    words[r + PKTS_0 + reply]++;
    f64[(r >> 1) + LAST_PACKET] = packets.number[slot];
    f64[d + FRAME_BYTES_0] += packets.wireLen[slot];
    f64[d + IP_BYTES_0] += l3Size;
    const proto = (this.partition.hot[((conn >> 1) << HOT_SHIFT) + ZONE_PROTO] >>> 8) & 0xff;
    if (proto === IPPROTO_TCP) {
      const payload = l4Size - ((view.getUint8(l4 + 12) >>> 4) << 2);
      f64[d + PAYLOAD_0] += payload;
      this.segment(r, reply, sec, nsec, view.getUint8(l4 + 13), view.getInt32(l4 + 4), payload);
      return;
    }
    const header = proto === IPPROTO_UDP || proto === IPPROTO_ICMP || proto === IPPROTO_ICMPV6 ? 8 : 0;
    const payload = Math.max(0, l4Size - header);
    f64[d + PAYLOAD_0] += payload;
    // Of UDP a datagram without payload, too, as in Zeek.
    if (payload > 0 || proto === IPPROTO_UDP) this.event(r, EVENT_DATA + (reply ? EVENTS : 0));
  }

  /** Flags, stream and handshake of a TCP segment (RFC 9293). */
  private segment(
    r: number,
    reply: number,
    sec: number,
    nsec: number,
    flags: number,
    seq: number,
    payload: number,
  ): void {
    const { words, f64 } = this;
    const before = words[r + FLAGS];
    if (flags & (TCP_FIN | TCP_RST)) this.close(r, reply, sec, nsec);
    this.events(r, reply, flags, payload);
    words[r + FLAGS] |= flags << (reply << 3);
    if ((before & RECORD_RTT) === 0) this.handshake(r, reply, sec, nsec, flags);
    // A reset may have any sequence number and is not of the stream.
    if (flags & TCP_RST) return;

    const length = payload + ((flags & TCP_SYN) >>> 1) + (flags & TCP_FIN);
    const d = (r >> 1) + reply;
    const end = (seq + length) | 0;
    const next = words[r + NEXT_0 + reply];
    if ((before & (RECORD_STREAM_0 << reply)) === 0) {
      words[r + FLAGS] |= RECORD_STREAM_0 << reply;
      words[r + NEXT_0 + reply] = end;
      f64[d + SEQ_BYTES_0] = payload;
      return;
    }
    if (length === 0) return;
    const ahead = (seq - next) | 0;
    const h = r + (reply << 1);
    if (((end - next) | 0) > 0) {
      words[r + NEXT_0 + reply] = end;
      if (ahead > 0) {
        f64[d + MISSED_0] += ahead;
        words[h + HOLE_LO_0] = next;
        words[h + HOLE_HI_0] = seq;
      } else if (ahead < 0 && payload > 0) {
        words[r + RETRANS_0 + reply]++;
      }
      f64[d + SEQ_BYTES_0] += Math.max(0, payload + Math.min(0, ahead));
      return;
    }
    // All of it is behind the furthest byte: it fills the hole, or has been there.
    const lo = words[h + HOLE_LO_0];
    const hi = words[h + HOLE_HI_0];
    if (((seq - lo) | 0) >= 0 && ((hi - seq) | 0) > 0) {
      words[r + DISORDER_0 + reply]++;
      const filled = Math.min(payload, (hi - seq) | 0);
      f64[d + MISSED_0] -= filled;
      f64[d + SEQ_BYTES_0] += filled;
      if (seq === lo) words[h + HOLE_LO_0] = (seq + filled) | 0;
      else words[h + HOLE_HI_0] = seq;
      return;
    }
    // A keep-alive repeats the last byte, or none (RFC 9293, section 3.8.4).
    if (ahead === -1 && payload <= 1 && (flags & (TCP_SYN | TCP_FIN)) === 0) return;
    words[r + RETRANS_0 + reply]++;
  }

  /** From the last SYN to its answer, and to the acknowledgement of that. */
  private handshake(r: number, reply: number, sec: number, nsec: number, flags: number): void {
    const { words, f64 } = this;
    const state = words[r + FLAGS];
    const kind = flags & (TCP_SYN | TCP_ACK | TCP_RST);
    if (reply === 0 && kind === TCP_SYN && (state & RECORD_SYNACK) === 0) {
      words[r + FLAGS] |= RECORD_SYN;
      words[r + SYN_SEC] = sec;
      words[r + SYN_NSEC] = nsec;
      return;
    }
    if ((state & RECORD_SYN) === 0) return;
    const ns = (sec - (words[r + SYN_SEC] >>> 0)) * 1e9 + (nsec - words[r + SYN_NSEC]);
    if (reply === 1 && kind === (TCP_SYN | TCP_ACK) && (state & RECORD_SYNACK) === 0) {
      words[r + FLAGS] |= RECORD_SYNACK;
      f64[(r >> 1) + SYNACK_NS] = ns;
    } else if (reply === 0 && kind === TCP_ACK && (state & RECORD_SYNACK) !== 0) {
      words[r + FLAGS] |= RECORD_RTT;
      f64[(r >> 1) + RTT_NS] = ns;
    }
  }

  /** A FIN or RST that is not in the events yet. */
  private close(r: number, reply: number, sec: number, nsec: number): void {
    const { words } = this;
    const events = words[r + HISTORY_1] >>> 16;
    if (events & (reply ? REPLY_ENDS : ORIG_ENDS) || !(events & (reply ? ORIG_ENDS : REPLY_ENDS))) return;
    words[r + CLOSED_SEC] = sec;
    words[r + CLOSED_NSEC] = nsec;
  }

  private events(r: number, reply: number, flags: number, payload: number): void {
    const by = reply ? EVENTS : 0;
    if (flags & TCP_SYN) this.event(r, by + (flags & TCP_ACK ? EVENT_SYNACK : EVENT_SYN));
    else if (flags & TCP_ACK && payload === 0 && (flags & (TCP_FIN | TCP_RST)) === 0) {
      this.event(r, by + EVENT_ACK);
    }
    if (payload > 0) this.event(r, by + EVENT_DATA);
    if (flags & TCP_FIN) this.event(r, by + EVENT_FIN);
    if (flags & TCP_RST) this.event(r, by + EVENT_RST);
  }

  /** Adds an event to the history, if it is the first of its kind: bits 16 to 27 of HISTORY_1 tell. */
  private event(r: number, event: number): void {
    const { words } = this;
    const known = words[r + HISTORY_1] >>> 16;
    if ((known >>> (event - 1)) & 1) return;
    let n = 0;
    for (let bits = known; bits !== 0; bits &= bits - 1) n++;
    words[r + HISTORY_1] |= 0x10000 << (event - 1);
    words[r + (n < 8 ? HISTORY_0 : HISTORY_1)] |= event << ((n & 7) << 2);
  }
}

/** The category of a packet that has met no ct(). */
function untracked(ctx: PacketContext): number {
  if (ctx.reason === DROP_FRAGMENT_HELD) return CATEGORY.FRAGMENT;
  if (ctx.reason === DROP_TOO_SHORT) return CATEGORY.TOO_SHORT;
  const type = ctx.key[ETH_TYPE];
  return type === ETH_TYPE_IP || type === ETH_TYPE_IPV6 ? CATEGORY.UNTRACKED : CATEGORY.NOT_IP;
}

/** RECORD.VLAN of a frame. */
function vlanOf(view: DataView, off: number, len: number): number {
  if (len < 18 || !isTag(view.getUint16(off + 12))) return 0;
  const outer = view.getUint16(off + 14) | 0x1000;
  const inner = len >= 22 && isTag(view.getUint16(off + 16)) ? view.getUint16(off + 18) | 0x1000 : 0;
  return (outer << 16) | inner;
}

function isTag(type: number): boolean {
  return type === ETH_TYPE_VLAN || type === ETH_TYPE_QINQ;
}

function doubled(array: Int32Array): Int32Array {
  const next = new Int32Array(array.length * 2);
  next.set(array);
  return next;
}
