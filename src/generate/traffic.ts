/** Traffic of many connections, packet by packet: the same bytes for the same options, on every machine.
 *
 *  `connections` connections are open at a time. They take turns in a random order that stays the same; each sends
 *  the next packet of its script: handshake, data both ways, close. When one has ended, the next takes its place, so
 *  any number of packets needs no more memory than the open connections do.
 *
 *  Clients (10.0.0.0/8, behind port 1) talk to servers (192.168.0.0/16, behind port 2). With NAT both sides see what
 *  a switch with the table of `tables.ts` makes of it: every translated address has ports of its own clients only,
 *  so that the translation is known beforehand. */
import { IPPROTO_ICMP, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP } from '../wire/extract.js';
import { CHUNK, type Ends, type Frame, FrameBuilder, headerBytes } from './frames.js';
import { Random } from './random.js';
import type { Sizes } from './sizes.js';

export const CLIENT_PORT = 1;
export const SERVER_PORT = 2;

export type Nat = 'none' | 'snat' | 'dnat';

/** Shares of connections, by weight. */
export interface Protocols {
  tcp: number;
  udp: number;
  icmp: number;
  sctp: number;
}

export interface TrafficOptions {
  /** Frames; with `complete` about as many, but at least what the first connections need. Infinity: as long as
   *  somebody asks. */
  packets: number;
  /** Open at a time. */
  connections: number;
  /** Packets with data that a connection has before it closes; 0: it never does. */
  life: number;
  protocols: Protocols;
  /** Of every hundred connections. */
  ipv6Percent: number;
  /** Of every hundred packets with data. 0: the clients' side only, and TCP's handshakes and acknowledgements. */
  replyPercent: number;
  /** Of every hundred packets: SYNs of clients that are never heard of again. */
  floodPercent: number;
  sizes: Sizes;
  servers: number;
  /** Zones: as many VLANs, from 1 on, that connections are dealt out to; 0: no tags. */
  zones: number;
  nat: Nat;
  /** Addresses that clients are translated to, or that servers are behind. */
  natTargets: number;
  /** UDP checksums over IPv4; there are always some over IPv6. */
  checksums: boolean;
  /** Stops only when all connections have ended. Needs a life. */
  complete: boolean;
  seed: number;
}

const CLIENTS = 0x0a000000; //             10.0.0.0/8
const FLOODERS = 0x0b000000; //            11.0.0.0/8
export const SERVERS = 0xc0a80001 | 0; //  192.168.0.1 on
/** What clients are translated to: 203.0.113.0 on (RFC 5737). */
export const SNAT_FIRST = 0xcb007100 | 0;
/** What servers are behind: 198.18.0.0 on (RFC 2544). */
export const DNAT_FIRST = 0xc6120000 | 0;
const FIRST_CLIENT_PORT = 1024;
const CLIENT_PORTS = 60000;
/** Addresses of clients that there are. */
const CLIENT_ADDRESSES = 0xffff00;
export const MOST_CONNECTIONS = 0xffff00;
export const MOST_TARGETS = 256;
export const MOST_ZONES = 4094;
export const MOST_SERVERS = 0xff00;

const FIN = 0x01;
const SYN = 0x02;
const PSH = 0x08;
const ACK = 0x10;
const WINDOW = 0xffff;
/** What one side sends before the other acknowledges it, at the latest. */
const MOST_UNACKED = WINDOW >> 1;
/** `left` of a connection that never ends. */
const FOREVER = 0x7fffffff;
/** SYN, SYN ACK, ACK. */
const TCP_HANDSHAKE = 3;
const SCTP_HANDSHAKE = [CHUNK.INIT, CHUNK.INIT_ACK, CHUNK.COOKIE_ECHO, CHUNK.COOKIE_ACK];
const SCTP_CLOSE = [CHUNK.SHUTDOWN, CHUNK.SHUTDOWN_ACK, CHUNK.SHUTDOWN_COMPLETE];
/** `left` goes below 0 while a connection closes: it has closed when three packets have done that. */
const CLOSED = -3;
/** Handshake and close, at most. */
const AROUND = 7;

/** Keeps the addresses of a flood apart from those of connections. */
const FLOOD_SALT = 0x40000000;

/** Throws RangeError for what can't be. */
export function checkTraffic(o: TrafficOptions): void {
  const within = (what: string, n: number, least: number, most: number) => {
    if (!(n >= least && n <= most))
      throw new RangeError(`${what}: ${n} is out of range; there can be ${least} to ${most}`);
  };
  within('connections', o.connections, 1, MOST_CONNECTIONS);
  within('servers', o.servers, 1, MOST_SERVERS);
  within('zones', o.zones, 0, MOST_ZONES);
  within('addresses to translate to', o.natTargets, 1, MOST_TARGETS);
  for (const percent of [o.ipv6Percent, o.replyPercent, o.floodPercent]) within('percent', percent, 0, 100);
  const { tcp, udp, icmp, sctp } = o.protocols;
  if (!(tcp + udp + icmp + sctp > 0)) throw new RangeError('protocols: all have the weight 0');
  if (o.nat !== 'none' && sctp > 0) {
    throw new RangeError(
      'NAT: the tracker sees no ports in SCTP, so that its translation is not known beforehand; leave it out',
    );
  }
  if (o.nat !== 'none' && o.ipv6Percent > 0) {
    throw new RangeError('NAT: the made tables translate IPv4; set the share of IPv6 to 0');
  }
  if (o.complete && o.life === 0) {
    throw new RangeError('nothing would ever be complete: connections without a life never end');
  }
  const perTarget = Math.ceil(o.connections / o.natTargets);
  if (o.nat === 'snat' && perTarget > CLIENT_PORTS / 2) {
    throw new RangeError(
      `${o.connections} connections are too many for ${o.natTargets} addresses to translate to; ` +
        `use at least ${Math.ceil(o.connections / (CLIENT_PORTS / 2))}`,
    );
  }
}

/** A number that looks random, the same for the same connection. */
function mix(n: number, seed: number): number {
  let h = Math.imul(n ^ seed, 0x9e3779b1);
  h = Math.imul(h ^ (h >>> 15), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

export function* traffic(o: TrafficOptions): Generator<Frame> {
  checkTraffic(o);
  const run = new Traffic(o);
  const { order, frame } = run;
  // From here on no connection is opened any more; all of the first ones are.
  const enough = o.complete ? Math.max(o.packets - run.ending, order.length) : o.packets;
  let turn = 0;
  for (let n = 0; n < enough || (o.complete && run.nOpen > 0); ) {
    if (o.floodPercent > 0 && run.random.below(100) < o.floodPercent) {
      run.flood();
    } else {
      const place = order[turn];
      turn = turn + 1 === order.length ? 0 : turn + 1;
      if (!run.step(place, n < enough)) continue;
    }
    yield frame;
    n++;
  }
}

class Traffic {
  readonly random: Random;
  readonly order: Int32Array;
  readonly frame: Frame;
  /** Connections that are open. */
  nOpen = 0;
  /** Packets that those which are open have left, about. */
  readonly ending: number;
  private readonly o: TrafficOptions;
  private readonly builder = new FrameBuilder();
  private readonly ends: Required<Ends>;
  // By place: number of the connection, or -1; its protocol; packets sent; those with data to come; what client and
  // server have sent, and how much of it has been acknowledged.
  private readonly number: Float64Array;
  private readonly protocol: Uint8Array;
  private readonly ipv6: Uint8Array;
  private readonly sent: Int32Array;
  private readonly left: Int32Array;
  private readonly seq: Int32Array;
  private readonly acked: Int32Array;
  private nextNumber = 0;
  private nFlood = 0;

  constructor(o: TrafficOptions) {
    this.o = o;
    this.random = new Random(o.seed);
    const n = o.connections;
    this.order = this.random.permutation(n);
    this.number = new Float64Array(n).fill(-1);
    this.protocol = new Uint8Array(n);
    this.ipv6 = new Uint8Array(n);
    this.sent = new Int32Array(n);
    this.left = new Int32Array(n);
    this.seq = new Int32Array(2 * n);
    this.acked = new Int32Array(2 * n);
    this.frame = { bytes: this.builder.bytes, length: 0, port: CLIENT_PORT };
    this.ends = { src: 0, dst: 0, sport: 0, dport: 0, reply: false, ipv6: false, vlan: 0 };
    this.ending = (n * (o.life + AROUND)) / 2 / (1 - Math.min(99, o.floodPercent) / 100);
  }

  /** A packet of the connection at a place; false if there is none, and no new one is wanted. */
  step(place: number, mayOpen: boolean): boolean {
    if (this.number[place] < 0) {
      if (!mayOpen) return false;
      this.open(place);
    }
    switch (this.protocol[place]) {
      case IPPROTO_TCP:
        this.tcp(place);
        break;
      case IPPROTO_SCTP:
        this.sctp(place);
        break;
      default:
        this.datagram(place);
    }
    this.sent[place]++;
    return true;
  }

  /** A SYN from somewhere, to the first server. */
  flood(): void {
    const { o, frame, ends } = this;
    const n = this.nFlood++;
    const h = mix(n, o.seed ^ FLOOD_SALT);
    this.address(Math.floor(h / 256), 0, false);
    ends.src = FLOODERS | (h & 0xffffff) | 0;
    ends.sport = FIRST_CLIENT_PORT + (mix(n, h) % CLIENT_PORTS);
    ends.dport = 80;
    ends.ipv6 = false;
    frame.port = CLIENT_PORT;
    frame.length = this.builder.tcp(ends, SYN, h | 0, 0, WINDOW, 0);
  }

  private open(place: number): void {
    const { o, random } = this;
    const n = this.nextNumber++;
    this.number[place] = n;
    const { tcp, udp, icmp, sctp } = o.protocols;
    const at = random.below(tcp + udp + icmp + sctp);
    this.protocol[place] =
      at < tcp
        ? IPPROTO_TCP
        : at < tcp + udp
          ? IPPROTO_UDP
          : at < tcp + udp + icmp
            ? IPPROTO_ICMP
            : IPPROTO_SCTP;
    this.ipv6[place] = random.below(100) < o.ipv6Percent ? 1 : 0;
    this.sent[place] = 0;
    // The first ones end one after the other, so that later on as many begin at any time as end.
    this.left[place] = o.life === 0 ? FOREVER : n < o.connections ? 1 + random.below(o.life) : o.life;
    for (const side of [2 * place, 2 * place + 1]) {
      this.seq[side] = random.below(0x100000000);
      this.acked[side] = this.seq[side];
    }
    this.nOpen++;
  }

  private close(place: number): void {
    this.number[place] = -1;
    this.nOpen--;
  }

  /** Fills `ends` for a packet of connection `n`; as they are seen on the side that the packet comes from. */
  private address(n: number, protocol: number, reply: boolean): void {
    const { o, ends, frame } = this;
    ends.vlan = o.zones === 0 ? 0 : 1 + (n % o.zones);
    const target = n % o.natTargets;
    const turn = Math.floor(n / o.natTargets);
    const snat = o.nat === 'snat';
    // A target's clients have a port each, and keep it.
    const port = FIRST_CLIENT_PORT + (turn % CLIENT_PORTS);
    const client = snat ? CLIENTS | (target << 16) | (turn % CLIENT_PORTS) : CLIENTS + (n % CLIENT_ADDRESSES);
    const server = SERVERS + (o.nat === 'dnat' ? target : mix(n, o.seed) % o.servers);
    const service = protocol === IPPROTO_TCP ? 80 : protocol === IPPROTO_SCTP ? 3868 : 5001;
    ends.reply = reply;
    frame.port = reply ? SERVER_PORT : CLIENT_PORT;
    if (reply) {
      ends.src = server;
      ends.dst = snat ? SNAT_FIRST + target : client;
      ends.sport = service;
      ends.dport = port;
    } else {
      ends.src = client;
      ends.dst = o.nat === 'dnat' ? DNAT_FIRST + target : server;
      ends.sport = port;
      ends.dport = service;
    }
  }

  private aim(place: number, reply: boolean): void {
    this.address(this.number[place], this.protocol[place], reply);
    this.ends.ipv6 = this.ipv6[place] !== 0;
  }

  private replies(): boolean {
    return this.random.below(100) < this.o.replyPercent;
  }

  /** Bytes of data in a frame of the next size. */
  private payload(place: number): number {
    const { o, ends } = this;
    const size = o.sizes.next(this.random);
    const before = headerBytes(this.protocol[place], ends.ipv6) + (ends.vlan === 0 ? 0 : 4);
    return Math.max(1, size - before);
  }

  private datagram(place: number): void {
    const { o, frame, builder, ends } = this;
    const first = this.sent[place] === 0;
    // An answer to an echo request needs one before.
    this.aim(place, !first && this.replies());
    const size = o.sizes.next(this.random);
    frame.length =
      this.protocol[place] === IPPROTO_UDP
        ? builder.udp(ends, size, o.checksums)
        : builder.echo(ends, this.sent[place] & 0xffff, size);
    if (this.left[place] !== FOREVER && --this.left[place] === 0) this.close(place);
  }

  private tcp(place: number): void {
    const { frame, builder, ends, seq, acked } = this;
    const sent = this.sent[place];
    const client = 2 * place;
    const server = client + 1;
    let reply = sent === 1;
    let flags = sent === 0 ? SYN : sent === 1 ? SYN | ACK : ACK;
    let payload = 0;
    if (sent >= TCP_HANDSHAKE) {
      const left = this.left[place];
      // What waits for an acknowledgement gets it before more is sent.
      if (((seq[client] - acked[client]) | 0) > MOST_UNACKED) reply = true;
      else if (((seq[server] - acked[server]) | 0) > MOST_UNACKED) reply = false;
      else if (left > 0) {
        reply = this.replies();
        flags = PSH | ACK;
        payload = -1;
        if (this.left[place] !== FOREVER) this.left[place]--;
      } else {
        // FIN of the client, FIN of the server, ACK.
        reply = left === -1;
        flags = left === -2 ? ACK : FIN | ACK;
        this.left[place]--;
      }
    }
    this.aim(place, reply);
    if (payload < 0) payload = this.payload(place);
    const me = reply ? server : client;
    const peer = me ^ 1;
    frame.length = builder.tcp(ends, flags, seq[me], flags & ACK ? seq[peer] : 0, WINDOW, payload);
    seq[me] = (seq[me] + payload + (flags & (SYN | FIN) ? 1 : 0)) | 0;
    if (flags & SYN) acked[me] = seq[me];
    if (flags & ACK) acked[peer] = seq[peer];
    if (this.left[place] === CLOSED) this.close(place);
  }

  /** RFC 9260, sections 5.1 and 9.2. */
  private sctp(place: number): void {
    const { frame, builder, ends, seq } = this;
    const sent = this.sent[place];
    let reply: boolean;
    let chunk: number;
    if (sent < SCTP_HANDSHAKE.length) {
      chunk = SCTP_HANDSHAKE[sent];
      reply = (sent & 1) === 1;
    } else if (this.left[place] > 0) {
      chunk = CHUNK.DATA;
      reply = this.replies();
      if (this.left[place] !== FOREVER) this.left[place]--;
    } else {
      chunk = SCTP_CLOSE[-this.left[place]];
      reply = this.left[place] === -1;
      this.left[place]--;
    }
    this.aim(place, reply);
    const me = 2 * place + (reply ? 1 : 0);
    const peer = me ^ 1;
    // The tag that a side wants to see comes with its INIT or INIT ACK.
    const tag = chunk === CHUNK.INIT || chunk === CHUNK.INIT_ACK ? this.acked[me] : this.acked[peer];
    frame.length = builder.sctp(ends, tag, chunk, seq[me], chunk === CHUNK.DATA ? this.payload(place) : 0);
    if (chunk === CHUNK.DATA) seq[me] = (seq[me] + 1) | 0;
    if (this.left[place] === CLOSED) this.close(place);
  }
}
