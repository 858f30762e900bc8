/** Builds Ethernet frames with right lengths and checksums in a buffer of its own. */
import { checksum, sum } from '../../src/wire/checksum.js';

/** Smallest Ethernet frame, without its check sequence. */
export const MIN_FRAME = 60;
export const MAX_FRAME = 1514;
const ETHERNET = 14;
const IPV4 = 20;
const UDP = 8;
const TCP = 20;
const FILL = 0x78;

/** Two ends of an IPv4 connection, in the direction of the packet. */
export interface Ends {
  src: number;
  dst: number;
  sport: number;
  dport: number;
  /** Sent by the end that answers: swaps the MAC addresses. */
  reply: boolean;
}

export class FrameBuilder {
  readonly bytes = new Uint8Array(MAX_FRAME);
  private readonly view = new DataView(this.bytes.buffer);

  /** A UDP frame of `frameBytes` bytes; without `withChecksum` its checksum is 0, "none". Returns its length. */
  udp(ends: Ends, frameBytes: number, withChecksum: boolean): number {
    const { view } = this;
    const l4 = this.ip(ends, 17, frameBytes - ETHERNET);
    const size = frameBytes - ETHERNET - IPV4;
    this.ports(ends, l4);
    view.setUint16(l4 + 4, size);
    view.setUint16(l4 + 6, 0);
    this.bytes.fill(FILL, l4 + UDP, frameBytes);
    // A computed zero is sent as all ones (RFC 768).
    if (withChecksum) view.setUint16(l4 + 6, this.l4Checksum(l4, size, 17) || 0xffff);
    return frameBytes;
  }

  /** A TCP segment with `payload` bytes of data, padded to the smallest frame. Returns its length. */
  tcp(ends: Ends, flags: number, seq: number, ack: number, window: number, payload: number): number {
    const { view } = this;
    const size = TCP + payload;
    const l4 = this.ip(ends, 6, IPV4 + size);
    this.ports(ends, l4);
    view.setInt32(l4 + 4, seq);
    view.setInt32(l4 + 8, ack);
    view.setUint16(l4 + 12, (5 << 12) | flags);
    view.setUint16(l4 + 14, window);
    view.setInt32(l4 + 16, 0);
    this.bytes.fill(FILL, l4 + TCP, l4 + size);
    view.setUint16(l4 + 16, this.l4Checksum(l4, size, 6));
    const end = l4 + size;
    this.bytes.fill(0, end, Math.max(end, MIN_FRAME));
    return Math.max(end, MIN_FRAME);
  }

  /** Ethernet and IPv4 headers (RFC 791); returns where layer 4 begins. */
  private ip(ends: Ends, proto: number, totalLength: number): number {
    const { view } = this;
    const inside = 0x0a;
    view.setInt32(0, 0x50540000);
    view.setUint16(4, ends.reply ? inside : 0x09);
    view.setInt32(6, 0x50540000);
    view.setUint16(10, ends.reply ? 0x09 : inside);
    view.setUint16(12, 0x0800);
    view.setInt32(14, 0x45000000 | totalLength);
    view.setInt32(18, 0);
    view.setUint8(22, 64);
    view.setUint8(23, proto);
    view.setUint16(24, 0);
    view.setInt32(26, ends.src);
    view.setInt32(30, ends.dst);
    view.setUint16(24, checksum(sum(view, ETHERNET, IPV4)));
    return ETHERNET + IPV4;
  }

  private ports(ends: Ends, l4: number): void {
    this.view.setUint16(l4, ends.sport);
    this.view.setUint16(l4 + 2, ends.dport);
  }

  private l4Checksum(l4: number, size: number, proto: number): number {
    return checksum(sum(this.view, l4 - 8, 8) + proto + size + sum(this.view, l4, size));
  }
}
