/** Packets for bench:flood, made as they are asked for: real connections, and strangers who come between them.
 *
 *      0 s                    ESTABLISHED_AT                  … + packets / rate            … + TAIL
 *      | real connections open | they talk, the flood comes    | they talk, nobody else      |
 *
 *  The same bytes at the same times for the same options. Frames are written straight into the arena. */

import { type Ends, FrameBuilder, MIN_FRAME } from '../../src/generate/frames.js';
import type { PacketArena, PacketRecord } from '../../src/pcap/types.js';
import { ReadResult } from '../../src/pcap/types.js';
import { checksum, sum } from '../../src/wire/checksum.js';
import { MadeReader } from '../traffic/made-reader.js';

export const FLOODS = ['syn', 'udp', 'ack', 'collide', 'reopen', 'fragments'] as const;
/** What strangers send, each from an address of its own unless it says otherwise:
 *
 *  - `syn`, `udp`: what opens a connection; `ack`: what looks like the middle of one
 *  - `collide`: SYNs whose tuples have the same sum and the same exclusive or, for hashes that add or fold ends
 *  - `reopen`: SYN and RST in turn from 512 addresses, so that connections end and come again
 *  - `fragments`: first fragments of datagrams that nothing more comes of */
export type Flood = (typeof FLOODS)[number];

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
const ESTABLISHED_AT = 2;
const TAIL = 70;

const FIRST_SECOND = 1_600_000_000;
const SERVER = 0xc0a80001 | 0; // 192.168.0.1
const CLIENTS = 0x0a000000; //    10.0.0.0
const STRANGERS = 0x40000000; //  64.0.0.0/2
const CLIENT_PORT = 20000;
const FRAGMENT_BYTES = 1314; //   1300 of IP: more than the least that OVS takes
const REOPENING = 512;
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
  private readonly stranger: Uint8Array;
  private readonly strangerLength: number;
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
    this.stranger = this.strangersFrame();
    this.strangerLength = this.stranger.length;
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
    const length = isReal ? MIN_FRAME + PAYLOAD : this.strangerLength;
    if (!this.makeRoom(length)) return ReadResult.ARENA_FULL;
    const at = isReal ? realAt : floodAt;
    packet.sec = FIRST_SECOND + Math.floor(at);
    packet.nsec = Math.floor((at % 1) * 1e6) * 1000;
    if (isReal) {
      packet.iface = this.real(this.nReal++);
    } else {
      this.strangersPacket(this.nFlood++);
      packet.iface = PORT_STRANGERS;
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
    const client = CLIENTS + connection;
    const isTcp = connection % 2 === 0;
    const serverPort = isTcp ? 80 : 53;
    const ends: Ends = reply
      ? { src: SERVER, dst: client, sport: serverPort, dport: CLIENT_PORT, reply }
      : { src: client, dst: SERVER, sport: CLIENT_PORT, dport: serverPort, reply };
    if (isTcp) {
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
    const length =
      flood === 'udp'
        ? builder.udp({ ...ends, dport: 53 }, MIN_FRAME, true)
        : builder.tcp(ends, flood === 'ack' ? TCP_ACK : TCP_SYN, 1, flood === 'ack' ? 1 : 0, WINDOW, 0);
    return builder.bytes.slice(0, length);
  }

  private strangersPacket(n: number): void {
    const { view, pos } = this;
    const { flood } = this.o;
    this.arena.u8.set(this.stranger, pos);
    let who = flood === 'reopen' ? (n >>> 1) % REOPENING : n;
    let port = 1024 + (n % 50000);
    if (flood === 'reopen') port = 1024;
    else if (flood === 'collide') {
      // Address and port differ by the same bits in opposite directions: their sum, and folded together their
      // exclusive or, stay what they are.
      port = n & 0xffff;
      who = (n >>> 16) * 0x10000 + (0xffff - port);
    } else who = Math.imul(who, SCATTER) & 0x3fffffff;
    const src = STRANGERS + who;
    view.setInt32(pos + IPV4 + 12, src);
    const words = (src >>> 16) + (src & 0xffff);
    view.setUint16(pos + IPV4 + 10, checksum(this.ipSum + words));
    this.written = this.strangerLength;
    if (flood === 'fragments') return;
    const tcp = flood !== 'udp';
    let extra = words + port;
    view.setUint16(pos + L4, port);
    if (flood === 'reopen' && (n & 1) === 1) {
      view.setUint8(pos + L4 + 13, TCP_RST);
      view.setInt32(pos + L4 + 4, 2);
      extra += TCP_RST - TCP_SYN + 1;
    }
    view.setUint16(pos + L4 + (tcp ? 16 : 6), checksum(this.l4Sum + extra) || 0xffff);
  }
}
