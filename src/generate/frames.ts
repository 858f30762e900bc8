/** Builds Ethernet frames with right lengths and checksums in a buffer of its own: IPv4 and IPv6, UDP, TCP, ICMP
 *  echo and SCTP, with or without a VLAN tag. */
import { checksum, sctpChecksum, sum } from '../wire/checksum.js';
import {
  ETH_TYPE_IP,
  ETH_TYPE_IPV6,
  ETH_TYPE_VLAN,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
} from '../wire/extract.js';

/** A frame: the first `length` of `bytes`, valid until the next one is asked for. */
export interface Frame {
  bytes: Uint8Array;
  length: number;
  /** Port of the switch that it arrives on; 1 unless told otherwise. */
  port?: number;
}

/** Smallest Ethernet frame, without its check sequence. */
export const MIN_FRAME = 60;
/** Largest, without a VLAN tag. */
export const MAX_FRAME = 1514;
const ETHERNET = 14;
const TAG = 4;
const IPV4 = 20;
const IPV6 = 40;
const UDP = 8;
const TCP = 20;
const ICMP = 8;
const SCTP = 12;
const FILL = 0x78;
const TTL = 64;

/** The first three words of all IPv6 addresses here: fd00:0:0:1::/96 (RFC 4193), the last is the IPv4 address. */
const PREFIX6 = [0xfd000000, 0x00000001, 0];

/** Two ends of a connection, in the direction of the packet. */
export interface Ends {
  src: number;
  dst: number;
  sport: number;
  dport: number;
  /** Sent by the end that answers: swaps the MAC addresses. */
  reply: boolean;
  /** The addresses stand for those of IPv6 that end like them. */
  ipv6?: boolean;
  /** VLAN identifier; 0: no tag. */
  vlan?: number;
}

/** SCTP chunks (RFC 9260, section 3.2). */
export const CHUNK = {
  DATA: 0,
  INIT: 1,
  INIT_ACK: 2,
  SHUTDOWN: 7,
  SHUTDOWN_ACK: 8,
  COOKIE_ECHO: 10,
  COOKIE_ACK: 11,
  SHUTDOWN_COMPLETE: 14,
} as const;
/** Bytes of a chunk's fixed fields, its header included; the cookie has 4 more. */
const CHUNK_BYTES: Record<number, number> = {
  [CHUNK.DATA]: 16,
  [CHUNK.INIT]: 20,
  [CHUNK.INIT_ACK]: 28,
  [CHUNK.SHUTDOWN]: 8,
  [CHUNK.SHUTDOWN_ACK]: 4,
  [CHUNK.COOKIE_ECHO]: 8,
  [CHUNK.COOKIE_ACK]: 4,
  [CHUNK.SHUTDOWN_COMPLETE]: 4,
};
const STATE_COOKIE = 7;
const COOKIE = 0x5eed5eed;
const ALL_OF_IT = 3; // DATA: begins and ends a message

/** Headers before a payload, of frames without tag. */
export function headerBytes(proto: number, ipv6: boolean): number {
  const l4 =
    proto === IPPROTO_TCP
      ? TCP
      : proto === IPPROTO_UDP
        ? UDP
        : proto === IPPROTO_SCTP
          ? SCTP + CHUNK_BYTES[CHUNK.DATA]
          : ICMP;
  return ETHERNET + (ipv6 ? IPV6 : IPV4) + l4;
}

export class FrameBuilder {
  readonly bytes = new Uint8Array(MAX_FRAME + TAG);
  private readonly view = new DataView(this.bytes.buffer);

  /** A UDP frame of `frameBytes` bytes; without `withChecksum` its checksum is 0, "none", which IPv6 has not.
   *  Returns its length. */
  udp(ends: Ends, frameBytes: number, withChecksum: boolean): number {
    const { view } = this;
    const { l4, size } = this.sized(ends, IPPROTO_UDP, frameBytes);
    this.ports(ends, l4);
    view.setUint16(l4 + 4, size);
    view.setUint16(l4 + 6, 0);
    this.bytes.fill(FILL, l4 + UDP, l4 + size);
    // A computed zero is sent as all ones (RFC 768).
    if (withChecksum || ends.ipv6) {
      view.setUint16(l4 + 6, this.l4Checksum(ends, l4, size, IPPROTO_UDP) || 0xffff);
    }
    return this.padded(l4 + size);
  }

  /** A TCP segment with `payload` bytes of data, padded to the smallest frame. Returns its length. */
  tcp(ends: Ends, flags: number, seq: number, ack: number, window: number, payload: number): number {
    const { view } = this;
    const size = TCP + payload;
    const l4 = this.headers(ends, IPPROTO_TCP, size);
    this.ports(ends, l4);
    view.setInt32(l4 + 4, seq);
    view.setInt32(l4 + 8, ack);
    view.setUint16(l4 + 12, (5 << 12) | flags);
    view.setUint16(l4 + 14, window);
    view.setInt32(l4 + 16, 0);
    this.bytes.fill(FILL, l4 + TCP, l4 + size);
    view.setUint16(l4 + 16, this.l4Checksum(ends, l4, size, IPPROTO_TCP));
    return this.padded(l4 + size);
  }

  /** An ICMP echo request or, if it is a reply, the answer (RFC 792, RFC 4443); the source port of the one that
   *  asks is the identifier. Returns its length. */
  echo(ends: Ends, sequence: number, frameBytes: number): number {
    const { view } = this;
    const { ipv6 = false, reply } = ends;
    const proto = ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
    const { l4, size } = this.sized(ends, proto, frameBytes);
    const type = ipv6 ? (reply ? 129 : 128) : reply ? 0 : 8;
    view.setInt32(l4, type << 24);
    view.setUint16(l4 + 4, reply ? ends.dport : ends.sport);
    view.setUint16(l4 + 6, sequence);
    this.bytes.fill(FILL, l4 + ICMP, l4 + size);
    view.setUint16(l4 + 2, ipv6 ? this.l4Checksum(ends, l4, size, proto) : checksum(sum(view, l4, size)));
    return this.padded(l4 + size);
  }

  /** An SCTP packet with one chunk of a type of CHUNK; `payload` is for DATA. Returns its length. */
  sctp(ends: Ends, tag: number, chunk: number, tsn: number, payload: number): number {
    const { view } = this;
    const length = CHUNK_BYTES[chunk] + (chunk === CHUNK.DATA ? payload : 0);
    // Chunks are padded to words; the length doesn't count that.
    const size = SCTP + ((length + 3) & ~3);
    const l4 = this.headers(ends, IPPROTO_SCTP, size);
    this.ports(ends, l4);
    const at = l4 + SCTP;
    this.bytes.fill(0, l4 + 4, l4 + size);
    view.setInt32(l4 + 4, chunk === CHUNK.INIT ? 0 : tag);
    view.setUint8(at, chunk);
    view.setUint16(at + 2, length);
    switch (chunk) {
      case CHUNK.INIT:
      case CHUNK.INIT_ACK:
        view.setInt32(at + 4, tag);
        view.setInt32(at + 8, 0x10000); // what it is ready to take
        view.setInt32(at + 12, (1 << 16) | 1); // streams out and in
        view.setInt32(at + 16, tsn);
        if (chunk === CHUNK.INIT_ACK) {
          view.setUint16(at + 20, STATE_COOKIE);
          view.setUint16(at + 22, 8);
          view.setInt32(at + 24, COOKIE);
        }
        break;
      case CHUNK.COOKIE_ECHO:
        view.setInt32(at + 4, COOKIE);
        break;
      case CHUNK.SHUTDOWN:
        view.setInt32(at + 4, tsn);
        break;
      case CHUNK.DATA:
        view.setUint8(at + 1, ALL_OF_IT);
        view.setInt32(at + 4, tsn);
        this.bytes.fill(FILL, at + 16, at + length);
        break;
    }
    view.setInt32(l4 + 8, sctpChecksum(view, l4, size), true);
    return this.padded(l4 + size);
  }

  /** Headers of a frame of `frameBytes` bytes, or as long as it must be: where layer 4 begins and its bytes. */
  private sized(ends: Ends, proto: number, frameBytes: number): { l4: number; size: number } {
    const before = ETHERNET + (ends.vlan ? TAG : 0) + (ends.ipv6 ? IPV6 : IPV4);
    const size = Math.max(frameBytes - before, proto === IPPROTO_UDP ? UDP : ICMP);
    return { l4: this.headers(ends, proto, size), size };
  }

  /** Ethernet and IP headers in front of `size` bytes; returns where layer 4 begins. */
  private headers(ends: Ends, proto: number, size: number): number {
    const { view } = this;
    const { vlan = 0, ipv6 = false } = ends;
    const inside = 0x0a;
    view.setInt32(0, 0x50540000);
    view.setUint16(4, ends.reply ? inside : 0x09);
    view.setInt32(6, 0x50540000);
    view.setUint16(10, ends.reply ? 0x09 : inside);
    let at = ETHERNET - 2;
    if (vlan !== 0) {
      view.setUint16(at, ETH_TYPE_VLAN);
      view.setUint16(at + 2, vlan);
      at += TAG;
    }
    view.setUint16(at, ipv6 ? ETH_TYPE_IPV6 : ETH_TYPE_IP);
    at += 2;
    return ipv6 ? this.ipv6(ends, at, proto, size) : this.ipv4(ends, at, proto, size);
  }

  /** RFC 791. */
  private ipv4(ends: Ends, at: number, proto: number, size: number): number {
    const { view } = this;
    view.setInt32(at, 0x45000000 | (IPV4 + size));
    view.setInt32(at + 4, 0);
    view.setUint8(at + 8, TTL);
    view.setUint8(at + 9, proto);
    view.setUint16(at + 10, 0);
    view.setInt32(at + 12, ends.src);
    view.setInt32(at + 16, ends.dst);
    view.setUint16(at + 10, checksum(sum(view, at, IPV4)));
    return at + IPV4;
  }

  /** RFC 8200. */
  private ipv6(ends: Ends, at: number, proto: number, size: number): number {
    const { view } = this;
    view.setInt32(at, 6 << 28);
    view.setUint16(at + 4, size);
    view.setUint8(at + 6, proto);
    view.setUint8(at + 7, TTL);
    for (let i = 0; i < 3; i++) {
      view.setInt32(at + 8 + 4 * i, PREFIX6[i]);
      view.setInt32(at + 24 + 4 * i, PREFIX6[i]);
    }
    view.setInt32(at + 20, ends.src);
    view.setInt32(at + 36, ends.dst);
    return at + IPV6;
  }

  private ports(ends: Ends, l4: number): void {
    this.view.setUint16(l4, ends.sport);
    this.view.setUint16(l4 + 2, ends.dport);
  }

  private l4Checksum(ends: Ends, l4: number, size: number, proto: number): number {
    const addresses = ends.ipv6 ? 32 : 8;
    return checksum(sum(this.view, l4 - addresses, addresses) + proto + size + sum(this.view, l4, size));
  }

  /** Fills up to the smallest frame. */
  private padded(end: number): number {
    if (end < MIN_FRAME) this.bytes.fill(0, end, MIN_FRAME);
    return Math.max(end, MIN_FRAME);
  }
}
