/** Packets that strangers shape, of kinds that are more than a header with drawn ends: errors of ICMP, fragments that don't fit together,
 *  chains of extension headers. Drawn from a seed that is always the same: the same packets every time, if they are
 *  asked for in order. */
import { type Ends, FrameBuilder, MAX_FRAME } from '../../src/generate/frames.js';
import { Random } from '../../src/generate/random.js';
import { checksum, sum } from '../../src/wire/checksum.js';
import { IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP } from '../../src/wire/extract.js';
import { endsOf, isTcp, SERVER, STRANGERS, serverPort } from './ends.js';

export const SHAPED = ['errors', 'overlaps', 'chains'] as const;
export type ShapedFlood = (typeof SHAPED)[number];

const SEED = 9;
const IP = 14;
const IPV4 = 20;
const IPV6 = 40;
const UDP = 8;
const ICMP = 8;
const MORE_4 = 0x2000;

/** Destination unreachable, source quench, redirect, time exceeded, parameter problem (RFC 792). */
const ERRORS_4 = [3, 4, 5, 11, 12];
/** Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443), redirect (RFC 4861). */
const ERRORS_6 = [1, 2, 3, 4, 137];
/** Of an inner packet's layer 4, at most. */
const INNER = 48;

/** Bytes of a fragment that is not the last: more than the least that Open vSwitch takes, with IP 1,200 and 1,280. */
const FRAGMENT = 1280;
/** Datagrams of the first third. What is held of them, and of the pile, is less than the 1,000 that may be. */
const FEW = 32;
/** Pieces of the second third's only datagram, 8 bytes each, with holes between them. */
const PILE = 500;
const LAST_UNIT = 0x1fff;

const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT_HEADER = 44;
const AH = 51;
const NO_NEXT = 59;
const DESTINATION = 60;
const OPTIONS = [HOP_BY_HOP, ROUTING, DESTINATION];
/** What an IPv6 packet may have behind its header in a frame. */
const ROOM = MAX_FRAME - IP - IPV6;

export class ShapedPackets {
  /** The last one made. */
  readonly bytes: Uint8Array;
  private readonly builder = new FrameBuilder();
  private readonly inside = new FrameBuilder();
  private readonly view: DataView;
  private readonly random = new Random(SEED);
  private readonly real: number;
  private readonly packets: number;

  /** Of so many, against so many real connections. */
  constructor(packets: number, real: number) {
    this.packets = packets;
    this.real = real;
    this.bytes = this.builder.bytes;
    this.view = new DataView(this.bytes.buffer);
  }

  /** Makes packet `n`; returns its length. */
  make(flood: ShapedFlood, n: number): number {
    if (flood === 'errors') return this.error();
    return flood === 'overlaps' ? this.fragment(n) : this.chain();
  }

  private one(values: readonly number[]): number {
    return values[this.random.below(values.length)];
  }

  private stranger(): number {
    return STRANGERS + this.random.below(1 << 30);
  }

  /** Ethernet and IP headers in front of `size` bytes, 8 at least; returns where these are. */
  private packet(ends: Ends, proto: number, size: number, id = 0, fragment = 0): number {
    const { view, builder } = this;
    const l4 = IP + (ends.ipv6 ? IPV6 : IPV4);
    builder.udp(ends, l4 + size, false);
    if (ends.ipv6) view.setUint8(IP + 6, proto);
    else {
      view.setUint16(IP + 4, id);
      view.setUint16(IP + 6, fragment);
      view.setUint8(IP + 9, proto);
      view.setUint16(IP + 10, 0);
      view.setUint16(IP + 10, checksum(sum(view, IP, IPV4)));
    }
    return l4;
  }

  /** Sum of the pseudo-header of IPv6 (RFC 8200, section 8.1). */
  private pseudo(proto: number, size: number): number {
    return sum(this.view, IP + 8, 32) + proto + size;
  }

  /** An error about a packet that a real connection or nobody has sent, half of them each. */
  private error(): number {
    const { random, view, real } = this;
    const connection = random.below(real);
    const about = endsOf(connection, random.below(2) === 1, true, serverPort(connection));
    if (random.below(2) === 1) about.src = this.stranger();
    const inner = this.inner(about, isTcp(connection));
    const size = ICMP + inner.length;
    const ends: Ends = { ...about, src: this.stranger(), dst: about.src, sport: 0, dport: 0 };
    const { ipv6 = false } = ends;
    const proto = ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
    const l4 = this.packet(ends, proto, size);
    this.bytes.set(inner, l4 + ICMP);
    const type = random.below(4) === 0 ? random.below(256) : this.one(ipv6 ? ERRORS_6 : ERRORS_4);
    view.setUint8(l4, type);
    view.setUint8(l4 + 1, random.below(16));
    view.setUint16(l4 + 2, 0);
    view.setInt32(l4 + 4, random.below(1500));
    const right = checksum(sum(view, l4, size) + (ipv6 ? this.pseudo(proto, size) : 0));
    view.setUint16(l4 + 2, random.below(16) === 0 ? right ^ 1 : right);
    return l4 + size;
  }

  /** What the error is about: whole, cut off, a fragment, or of another protocol. */
  private inner(ends: Ends, tcp: boolean): Uint8Array {
    const { random, inside } = this;
    const header = ends.ipv6 ? IPV6 : IPV4;
    const l4 = IP + header;
    const data = random.below(INNER);
    if (tcp) inside.tcp(ends, random.below(64), random.below(1 << 30), 0, 0xffff, data);
    else inside.udp(ends, l4 + UDP + data, true);
    const { bytes } = inside;
    let length = header + Math.max(ICMP, random.below(INNER));
    switch (random.below(16)) {
      case 0:
        length = random.below(length);
        break;
      case 1:
        if (ends.ipv6) bytes[IP + 6] = FRAGMENT_HEADER;
        else bytes[IP + 6] = random.below(64);
        break;
      case 2:
        bytes[IP + (ends.ipv6 ? 6 : 9)] = this.one([IPPROTO_ICMP, IPPROTO_ICMPV6, random.below(256)]);
        break;
      case 3:
        bytes[IP] = random.below(256);
        break;
    }
    return bytes.subarray(IP, IP + length);
  }

  /** A third: fragments of a few datagrams, which overlap, are too small, or complete them. Another: thousands of pieces of
   *  one datagram that is never whole. The last: all of it, of ever other datagrams. */
  private fragment(n: number): number {
    const { random } = this;
    const phase = Math.floor((3 * n) / this.packets);
    if (phase === 1) {
      const ends: Ends = { src: STRANGERS, dst: SERVER, sport: 0, dport: 0, reply: false, ipv6: true };
      // Pieces that may be small are those that have none behind them.
      if (random.below(64) === 0) return this.piece(ends, IPPROTO_UDP, 1, 0, FRAGMENT, true);
      return this.piece(ends, IPPROTO_UDP, 1, FRAGMENT / 8 + 2 * random.below(PILE) + 2, 8, false);
    }
    const which = phase === 0 ? random.below(FEW) : random.below(1 << 30);
    // Real packets have identifier 0.
    const id = which & 1;
    const connection = (which >>> 1) % this.real;
    const ends = endsOf(connection, false, true, serverPort(connection));
    // A real TCP connection would have to take what was made up as sent by its client.
    if (isTcp(connection) || random.below(2) === 0) ends.sport = random.below(1024);
    if (phase === 2 && random.below(2) === 1) ends.src = STRANGERS + which;
    const proto = isTcp(connection) ? IPPROTO_TCP : IPPROTO_UDP;
    const units = FRAGMENT / 8;
    switch (random.below(8)) {
      case 0:
      case 1:
        return this.piece(ends, proto, id, 0, FRAGMENT, true);
      case 2:
        return this.piece(ends, proto, id, units, 8 + random.below(FRAGMENT), false);
      case 3: // teardrop: ends inside of the first
        return this.piece(ends, proto, id, 1 + random.below(units - 16), 8 + random.below(100), false);
      case 4: // tiny: ports in one, flags in another (RFC 1858)
        return this.piece(ends, proto, id, random.below(2), 8, true);
      case 5: // behind the end of the longest datagram
        return this.piece(ends, proto, id, LAST_UNIT - random.below(200), FRAGMENT, random.below(2) === 1);
      case 6:
        return this.piece(ends, proto, id, random.below(2 * units), FRAGMENT, true);
      default:
        return this.piece(ends, proto, id, random.below(4 * units), 8 + random.below(FRAGMENT), false);
    }
  }

  /** A fragment with `size` bytes from the `offset`th eight on. */
  private piece(ends: Ends, proto: number, id: number, offset: number, size: number, more: boolean): number {
    if (!ends.ipv6) return this.packet(ends, proto, size, id, offset | (more ? MORE_4 : 0)) + size;
    const { view, bytes } = this;
    const at = this.packet(ends, FRAGMENT_HEADER, size + 8);
    bytes.copyWithin(at + 8, at, at + 8);
    this.fragmentHeader(at, proto, (offset << 3) | (more ? 1 : 0));
    view.setInt32(at + 4, id);
    return at + 8 + size;
  }

  private fragmentHeader(at: number, next: number, offsetFlags: number): void {
    const { view } = this;
    view.setUint16(at, next << 8);
    view.setUint16(at + 2, offsetFlags);
    view.setInt32(at + 4, this.random.below(1 << 30));
  }

  /** UDP of a stranger, or of a real connection, behind as many headers as there is room for. */
  private chain(): number {
    const { random, view, bytes, real } = this;
    const connection = random.below(real) | 3;
    const ends = endsOf(connection, false, true, serverPort(connection));
    if (connection >= real || random.below(4) > 0) {
      ends.src = this.stranger();
      ends.sport = 1024 + random.below(50000);
    }
    const kind = random.below(8);
    const l3 = this.packet(ends, IPPROTO_UDP, ROOM);
    const most = kind === 7 ? 8 * random.below(4) : ROOM - UDP;
    /** Where a header is that says that this is a fragment, if one does. */
    const fragmentAt = kind === 3 || kind === 4 ? 8 * random.below(most >> 3) : -1;
    let at = l3;
    let said = IP + 6;
    while (most - (at - l3) >= 8) {
      const left = most - (at - l3);
      const type =
        at - l3 === fragmentAt || kind === 1
          ? FRAGMENT_HEADER
          : kind === 2
            ? this.one([...OPTIONS, AH, FRAGMENT_HEADER])
            : this.one(OPTIONS);
      view.setUint8(said, type);
      said = at;
      if (type === FRAGMENT_HEADER) {
        const later = kind === 4 ? 8 * (1 + random.below(LAST_UNIT)) : 0;
        this.fragmentHeader(at, 0, at - l3 === fragmentAt ? later | 1 : 0);
        at += 8;
        continue;
      }
      // Its length is counted in words by AH, less 2 of them; in eights by others, less the first.
      const bytesOf = kind === 2 ? 8 * (1 + random.below(Math.min(left >> 3, 200))) : 8;
      bytes.fill(0, at, at + bytesOf);
      view.setUint8(at + 1, type === AH ? bytesOf / 4 - 2 : bytesOf / 8 - 1);
      at += bytesOf;
    }
    if (kind === 5) view.setUint8(said + 1, 255); // more than there is
    view.setUint8(said, kind === 6 ? this.one([NO_NEXT, IPPROTO_ICMPV6, random.below(256)]) : IPPROTO_UDP);
    view.setUint16(at, ends.sport);
    view.setUint16(at + 2, ends.dport);
    view.setUint16(at + 4, UDP);
    view.setUint16(at + 6, 0);
    view.setUint16(at + 6, checksum(this.pseudo(IPPROTO_UDP, UDP) + sum(view, at, UDP)) || 0xffff);
    view.setUint16(IP + 4, at + UDP - l3);
    return at + UDP;
  }
}
