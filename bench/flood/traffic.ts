/** Packets for bench:flood, made as they are asked for: real connections, and strangers who come between them.
 *
 *      0 s                    ESTABLISHED_AT                  … + packets / rate            … + TAIL
 *      | real connections open | they talk, the flood comes    | they talk, nobody else      |
 *
 *  The same bytes at the same times for the same options. Frames are written straight into the arena. */

import { packetHash, tupleHash } from '../../src/conntrack/hash.js';
import { type Ends, FrameBuilder, MAX_FRAME, MIN_FRAME } from '../../src/generate/frames.js';
import type { PacketArena, PacketRecord } from '../../src/pcap/types.js';
import { ReadResult } from '../../src/pcap/types.js';
import { DEFAULT_RSS_KEY, INDIRECTION_ENTRIES, Toeplitz } from '../../src/rss/toeplitz.js';
import { checksum, sum } from '../../src/wire/checksum.js';
import { MadeReader } from '../traffic/made-reader.js';
import { CLIENT_PORT, CLIENTS, endsOf, isTcp, SERVER, STRANGERS, serverPort } from './ends.js';
import { SHAPED, type ShapedFlood, ShapedPackets } from './shaped.js';

export const FLOODS = [
  'normal',
  'syn',
  'udp',
  'ack',
  'collide',
  'table',
  'cache',
  'pile',
  'reopen',
  'fragments',
  'elephant',
  'zones',
  'expectations',
  'masks',
  'learn',
  'macs',
  ...SHAPED,
] as const;
/** What strangers send, each from an address of its own unless it says otherwise:
 *
 *  - `normal`: no flood: UDP of 16,384 addresses in turn, to measure others by
 *  - `syn`, `udp`: what opens a connection; `ack`: what looks like the middle of one
 *  - `collide`: SYNs whose tuples have the same sum and the same exclusive or, for hashes that add or fold ends
 *  - `table`, `cache`, `pile`: UDP of 16,384 ends in turn, prepared by somebody who knows the source and KNOWN_KEY: they share a
 *    bucket of the connection table, of the flow cache, or come to one worker
 *  - `reopen`: SYN and RST in turn from 512 addresses, so that connections end and come again
 *  - `fragments`: first fragments of datagrams that nothing more comes of
 *  - `elephant`: UDP of one connection
 *  - `zones`: UDP from 65,536 addresses, each in a zone of its own (flows: zones.txt)
 *  - `expectations`: 256 FTP sessions, each of whose packets announces another port; a part of the real connections are FTP
 *    sessions with transfers (flows: ftp.txt)
 *  - `masks`: UDP that agrees with each of three rules up to another bit, so that there are as many masks in the
 *    flow cache as there can be, and no two packets are of one entry (flows: masks.txt)
 *  - `learn`: UDP, each packet of which has a flow learned (flows: learn.txt)
 *  - `macs`: UDP, each packet from another MAC address, through a learning switch (flows: macs.txt)
 *
 *  Made by `shaped.ts`, and half of the real connections are over IPv6 (flows: both.txt):
 *
 *  - `errors`: errors of ICMP and ICMPv6, and other types, about packets of real connections and of nobody
 *  - `overlaps`: fragments that overlap, are tiny, lie behind the longest datagram's end, or have addresses and identifiers of real
 *    packets; a third of them are pieces of one datagram
 *  - `chains`: IPv6 extension headers, mostly as many as a frame has room for, fragment headers among them */
export type Flood = (typeof FLOODS)[number];

/** The key that `table` and `cache` are prepared for; `pile` is for the RSS key that everybody knows. */
export const KNOWN_KEY = 0x5eed1e55;

export interface FloodOptions {
  flood: Flood;
  /** Packets of strangers; 0: only the real connections. */
  packets: number;
  /** The same without sending them: how long the flood would take counts for the real packets. */
  silent: boolean;
  /** Packets of strangers a second of capture time. */
  rate: number;
  /** Real connections, one half TCP, the other UDP. */
  real: number;
  /** Their packets a second. */
  realRate: number;
}

/** Ports: clients, server, strangers. */
export const PORT_CLIENTS = 1;
export const PORT_SERVER = 2;
export const PORT_STRANGERS = 3;

/** Seconds until all real connections are established, and after the flood. */
export const ESTABLISHED_AT = 2;
const TAIL = 70;
/** What rules of masks.txt look at: the last bits of the source, and its port. */
const MASKED_WHO = 1;
const MASKED_PORT = 1025;
const MASKED_TO = 53;

export const FIRST_SECOND = 1_600_000_000;
const FRAGMENT_BYTES = 1314; //   1300 of IP: more than the least that OVS takes
const REOPENING = 512;
const PREPARED = 1 << 14;
/** Buckets that PREPARED connections, or entries, have at least. */
const BUCKETS = 1 << 12;
const FTP_SESSIONS = 256;
/** One of so many real connections is an FTP session, in `expectations`. */
const FTP_SHARE = 16;
const FTP_PORT = 21;
const FTP_DATA_PORT = 20;
/** Numbers of three digits, so that all announcements are as long: so many, from the first. */
const DIGITS = 156;
const FIRST_NUMBER = 100;
const ANNOUNCEMENT = 31;
const UDP_TUPLE = 0x11100; // CONN.ZONE_PROTO of UDP over IPv4 in zone 1
const TCP = 6;
const UDP = 17;
const MAC_SOURCE = 6;
const IPV4 = 14;
const L4 = 34;
const TCP_SYN = 0x02;
const TCP_RST = 0x04;
const TCP_ACK = 0x10;
const TCP_PSH_ACK = 0x18;
const WINDOW = 0xffff;
const PAYLOAD = 10;
/** Odd: multiplication by it is a permutation of 30-bit numbers. */
const SCATTER = 0x2c9277b5;

export class FloodReader extends MadeReader {
  private readonly o: FloodOptions;
  private readonly view: DataView;
  private readonly builder = new FrameBuilder();
  private nReal = 0;
  private nFlood = 0;
  private readonly lastReal: number;
  /** Bytes that each end of each TCP connection has sent. */
  private readonly sent: Int32Array;
  /** Addresses and ports that strangers take turns with, or none. */
  private readonly prepared: Int32Array;
  private readonly stranger: Uint8Array;
  private readonly strangerLength: number;
  private readonly shaped: ShapedPackets | null;
  /** Of the header of `stranger`, and of its TCP or UDP part, both with zeros where a stranger's own words go. */
  private readonly ipSum: number;
  private readonly l4Sum: number;

  constructor(options: FloodOptions, arena: PacketArena & { readonly sab: SharedArrayBuffer }) {
    super('flood', arena);
    this.o = options;
    this.view = new DataView(arena.sab);
    this.sent = new Int32Array(2 * options.real);
    const talking = options.packets / options.rate + TAIL;
    this.lastReal = 3 * options.real + Math.floor(talking * options.realRate);
    this.prepared = prepare(options.flood);
    this.shaped = isShaped(options.flood) ? new ShapedPackets(options.packets, options.real) : null;
    this.stranger = this.strangersFrame();
    this.strangerLength = this.shaped === null ? this.stranger.length : MAX_FRAME;
    const view = new DataView(this.stranger.buffer);
    view.setInt32(IPV4 + 12, 0);
    view.setUint16(IPV4 + 10, 0);
    this.ipSum = sum(view, IPV4, 20);
    const proto = this.stranger[IPV4 + 9];
    const size = view.getUint16(IPV4 + 2) - 20;
    if (this.o.flood !== 'fragments') {
      view.setUint16(L4, 0);
      view.setUint16(L4 + (proto === 6 ? 16 : 6), 0);
      this.l4Sum = sum(view, L4, size) + sum(view, IPV4 + 16, 4) + proto + size;
    } else this.l4Sum = 0;
  }

  next(packet: PacketRecord): ReadResult {
    const { o } = this;
    const realAt = this.nReal < this.lastReal ? this.realTime(this.nReal) : Infinity;
    const floodAt = this.nFlood < o.packets && !o.silent ? ESTABLISHED_AT + this.nFlood / o.rate : Infinity;
    if (realAt === Infinity && floodAt === Infinity) return ReadResult.END;
    const isReal = realAt <= floodAt;
    const length = isReal ? MIN_FRAME + ANNOUNCEMENT : this.strangerLength;
    if (!this.makeRoom(length)) return ReadResult.ARENA_FULL;
    const at = isReal ? realAt : floodAt;
    packet.sec = FIRST_SECOND + Math.floor(at);
    packet.nsec = Math.floor((at % 1) * 1e6) * 1000;
    if (isReal) {
      packet.iface = this.real(this.nReal++);
    } else {
      packet.iface = PORT_STRANGERS;
      this.strangersPacket(this.nFlood++, packet);
    }
    this.give(packet, this.written);
    return ReadResult.PACKET;
  }
  private written = 0;

  /** The real packets open one connection after the other, three packets each, then take turns. */
  private realTime(n: number): number {
    const { real, realRate } = this.o;
    const opening = 3 * real;
    return n < opening ? (n / opening) * (ESTABLISHED_AT - 0.5) : ESTABLISHED_AT + (n - opening) / realRate;
  }

  /** Writes real packet `n`; returns its port. */
  private real(n: number): number {
    const { real } = this.o;
    const opening = n < 3 * real;
    const connection = opening ? Math.floor(n / 3) : n % real;
    const turn = opening ? n % 3 : 3 + Math.floor(n / real);
    const reply = turn === 1 || (turn > 3 && (turn & 1) === 0);
    const { builder } = this;
    const tcp = isTcp(connection);
    const isFtp = tcp && this.o.flood === 'expectations' && connection % FTP_SHARE === 0;
    if (isFtp && turn >= 3) return this.ftp(CLIENTS + connection, connection, turn, reply);
    const ends = endsOf(connection, reply, this.shaped !== null, isFtp ? FTP_PORT : serverPort(connection));
    if (tcp) {
      const { sent } = this;
      const me = 2 * connection + (reply ? 1 : 0);
      const flags =
        turn === 0 ? TCP_SYN : turn === 1 ? TCP_SYN | TCP_ACK : turn === 2 ? TCP_ACK : TCP_PSH_ACK;
      const data = turn < 3 ? 0 : PAYLOAD;
      this.written = builder.tcp(ends, flags, sent[me], turn === 0 ? 0 : sent[me ^ 1], WINDOW, data);
      sent[me] = (sent[me] + data + (flags & TCP_SYN ? 1 : 0)) | 0;
    } else {
      this.written = builder.udp(ends, MIN_FRAME, true);
    }
    this.arena.u8.set(builder.bytes.subarray(0, this.written), this.pos);
    return reply ? PORT_SERVER : PORT_CLIENTS;
  }

  /** A packet of a real FTP session: the client announces a port, the server connects to the one announced before. */
  private ftp(client: number, connection: number, turn: number, reply: boolean): number {
    const { builder, sent } = this;
    const n = connection / FTP_SHARE + (turn >> 1) * 7;
    if (reply) {
      const ends: Ends = { src: SERVER, dst: client, sport: FTP_DATA_PORT, dport: portOf(n), reply: false };
      this.written = builder.tcp(ends, TCP_SYN, 0, 0, WINDOW, 0);
    } else {
      const ends: Ends = { src: client, dst: SERVER, sport: CLIENT_PORT, dport: FTP_PORT, reply: false };
      const me = 2 * connection;
      // The server says nothing, so it has sent one byte: its SYN.
      this.written = this.announce(ends, sent[me], sent[me + 1], n + 7);
      sent[me] = (sent[me] + ANNOUNCEMENT) | 0;
    }
    this.arena.u8.set(builder.bytes.subarray(0, this.written), this.pos);
    return reply ? PORT_SERVER : PORT_CLIENTS;
  }

  /** A segment that announces port `portOf(n)` of its source; returns its length. */
  private announce(ends: Ends, seq: number, ack: number, n: number): number {
    const { bytes } = this.builder;
    const length = this.builder.tcp(ends, TCP_PSH_ACK, seq, ack, WINDOW, ANNOUNCEMENT);
    const octets = [24, 16, 8, 0].map((shift) => (ends.src >>> shift) & 0xff);
    const port = portOf(n);
    const text = `PORT ${octets.join(',')},${port >>> 8},${port & 0xff}\r\n`.padEnd(ANNOUNCEMENT);
    for (let i = 0; i < ANNOUNCEMENT; i++) bytes[L4 + 20 + i] = text.charCodeAt(i);
    const view = new DataView(bytes.buffer, 0, L4 + 20 + ANNOUNCEMENT + 1);
    const size = 20 + ANNOUNCEMENT;
    view.setUint16(L4 + 16, 0);
    view.setUint16(L4 + 16, checksum(sum(view, IPV4 + 12, 8) + TCP + size + sum(view, L4, size)));
    return length;
  }

  /** Packet `n` of strangers' FTP sessions: they open, then announce. */
  private announcing(n: number, packet: PacketRecord): void {
    const opening = 3 * FTP_SESSIONS;
    const session = n < opening ? Math.floor(n / 3) : n % FTP_SESSIONS;
    const turn = n < opening ? n % 3 : 3;
    const src = STRANGERS + session;
    const there: Ends = { src, dst: SERVER, sport: CLIENT_PORT, dport: FTP_PORT, reply: false };
    const { builder } = this;
    if (turn === 0) this.written = builder.tcp(there, TCP_SYN, 0, 0, WINDOW, 0);
    else if (turn === 1) {
      const back: Ends = { src: SERVER, dst: src, sport: FTP_PORT, dport: CLIENT_PORT, reply: true };
      this.written = builder.tcp(back, TCP_SYN | TCP_ACK, 0, 1, WINDOW, 0);
      packet.iface = PORT_SERVER;
    } else if (turn === 2) this.written = builder.tcp(there, TCP_ACK, 1, 1, WINDOW, 0);
    else {
      // The same bytes of the stream again and again: that is as good.
      this.written = this.announce(there, 1, 1, Math.floor(n / FTP_SESSIONS));
    }
    this.arena.u8.set(builder.bytes.subarray(0, this.written), this.pos);
  }

  /** A stranger's frame with everything that does not change. */
  private strangersFrame(): Uint8Array {
    const { builder } = this;
    const { flood } = this.o;
    const ends: Ends = { src: STRANGERS, dst: SERVER, sport: 0, dport: 80, reply: false };
    if (flood === 'fragments') {
      const frame = builder.bytes.slice(0, builder.udp(ends, FRAGMENT_BYTES, false));
      frame[IPV4 + 6] = 0x20; // more fragments
      return frame;
    }
    if (flood === 'expectations') return builder.bytes.slice(0, L4 + 20 + ANNOUNCEMENT);
    const length =
      flood !== 'syn' && flood !== 'ack' && flood !== 'collide' && flood !== 'reopen'
        ? builder.udp({ ...ends, dport: 53 }, MIN_FRAME, true)
        : builder.tcp(ends, flood === 'ack' ? TCP_ACK : TCP_SYN, 1, flood === 'ack' ? 1 : 0, WINDOW, 0);
    return builder.bytes.slice(0, length);
  }

  private strangersPacket(n: number, packet: PacketRecord): void {
    const { view, pos, prepared } = this;
    const { flood } = this.o;
    if (flood === 'expectations') {
      this.announcing(n, packet);
      return;
    }
    if (this.shaped !== null) {
      this.written = this.shaped.make(flood as ShapedFlood, n);
      this.arena.u8.set(this.shaped.bytes.subarray(0, this.written), pos);
      return;
    }
    this.arena.u8.set(this.stranger, pos);
    let who = flood === 'reopen' ? (n >>> 1) % REOPENING : n;
    let port = 1024 + (n % 50000);
    let to = MASKED_TO;
    if (flood === 'reopen') port = 1024;
    else if (flood === 'collide') {
      // Address and port differ by the same bits in opposite directions: their sum, and folded together their
      // exclusive or, stay what they are.
      port = n & 0xffff;
      who = (n >>> 16) * 0x10000 + (0xffff - port);
    } else if (prepared.length > 0) {
      const at = (n % PREPARED) * 2;
      who = prepared[at];
      port = prepared[at + 1];
    } else if (flood === 'elephant') {
      who = 0;
      port = 1024;
    } else if (flood === 'zones') who = n & 0xffff;
    else if (flood === 'masks') {
      const drawn = Math.imul(n, SCATTER) >>> 0;
      who = unlike(MASKED_WHO, drawn % 30, drawn);
      // Nobody has port 0.
      port = unlike(MASKED_PORT, (drawn >>> 8) & 15, drawn >>> 3) || 1;
      to = unlike(MASKED_TO, (drawn >>> 12) & 15, drawn >>> 7) || 1;
    } else who = Math.imul(who, SCATTER) & 0x3fffffff;
    const src = STRANGERS + who;
    view.setInt32(pos + IPV4 + 12, src);
    const words = (src >>> 16) + (src & 0xffff);
    view.setUint16(pos + IPV4 + 10, checksum(this.ipSum + words));
    this.written = this.strangerLength;
    if (flood === 'fragments') return;
    const tcp = this.stranger[IPV4 + 9] === TCP;
    let extra = words + port;
    if (flood === 'masks') {
      view.setUint16(pos + L4 + 2, to);
      extra += to + (0xffff - MASKED_TO);
    } else if (flood === 'macs') view.setInt32(pos + MAC_SOURCE + 2, STRANGERS + n);
    view.setUint16(pos + L4, port);
    if (flood === 'reopen' && (n & 1) === 1) {
      view.setUint8(pos + L4 + 13, TCP_RST);
      view.setInt32(pos + L4 + 4, 2);
      extra += TCP_RST - TCP_SYN + 1;
    }
    view.setUint16(pos + L4 + (tcp ? 16 : 6), checksum(this.l4Sum + extra) || 0xffff);
  }
}

function isShaped(flood: Flood): flood is ShapedFlood {
  return (SHAPED as readonly string[]).includes(flood);
}

/** A number that is another one than `value` from bit `bit` on down. */
function unlike(value: number, bit: number, drawn: number): number {
  const below = (1 << bit) - 1;
  return ((value ^ (1 << bit)) & ~below) | (drawn & below);
}

/** The port that is announced as number `n`. */
function portOf(n: number): number {
  return ((FIRST_NUMBER + (Math.floor(n / DIGITS) % DIGITS)) << 8) | (FIRST_NUMBER + (n % DIGITS));
}

/** Addresses, counted from STRANGERS, and ports of PREPARED strangers. */
function prepare(flood: Flood): Int32Array {
  const toeplitz = new Toeplitz(DEFAULT_RSS_KEY);
  const is: Partial<Record<Flood, (src: number, port: number) => boolean>> = {
    normal: () => true,
    table: (src, port) =>
      (tupleHash(KNOWN_KEY, src, SERVER, (port << 16) | 53, UDP_TUPLE) & (BUCKETS - 1)) === 0,
    cache: (src, port) =>
      (packetHash(KNOWN_KEY, (PORT_STRANGERS << 16) | (UDP << 8), src, SERVER, (port << 16) | 53) &
        (BUCKETS - 1)) ===
      0,
    // The server's address is the lower one, as words go.
    pile: (src, port) => (toeplitz.hash3(SERVER, src, (53 << 16) | port) & (INDIRECTION_ENTRIES - 1)) === 0,
  };
  const fits = is[flood];
  if (fits === undefined) return new Int32Array(0);
  const prepared = new Int32Array(2 * PREPARED);
  for (let i = 0, n = 0; n < PREPARED; i++) {
    const [who, port] = [i >>> 5, 1024 + (i & 31)];
    if (!fits(STRANGERS + who, port)) continue;
    prepared[2 * n] = who;
    prepared[2 * n++ + 1] = port;
  }
  return prepared;
}
