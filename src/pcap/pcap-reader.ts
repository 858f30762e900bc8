/** Classic pcap, read into the arena. Format: draft-ietf-opsawg-pcap; leniency as in Wireshark's
 *  wiretap/libpcap.c. A record:
 *
 *      seconds 4 | micro- or nanoseconds 4 | captured length 4 | original length 4 | packet
 *
 *  Seconds are unsigned. A fraction of a second or more is carried into the seconds. A captured length beyond
 *  the snapshot length or the original length is taken at its word, up to MAX_PACKET_BYTES; `wireLen` is then
 *  the captured length. */

import type { ByteFeed } from './feed.js';
import { LinkKind, toEthernet } from './link-types.js';
import { PCAP_HEADER_BYTES, type PcapHeader } from './pcap-header.js';
import { MAX_PACKET_BYTES, type PacketArena, type PacketRecord, ReadResult, type Stretch } from './types.js';
import { boundedWireLen, damageRemedy, WindowReader } from './window.js';

const { END, PACKET } = ReadResult;
const { ETHERNET } = LinkKind;
const MAX_CAP_LEN = MAX_PACKET_BYTES;
/** Of a record's header; some have more. */
const RECORD_BYTES = 16;

/** Packets of a classic pcap file; the feed stands behind the file header, which `header` describes. */
export class PcapReader extends WindowReader {
  private readonly little: boolean;
  private readonly headBytes: number;
  private readonly fractionNsec: number;
  private readonly kind: LinkKind;
  private readonly swapped: PcapHeader['swapped'];

  constructor(feed: ByteFeed, arena: PacketArena, header: PcapHeader) {
    super(feed, arena, PCAP_HEADER_BYTES);
    this.little = header.little;
    this.headBytes = header.recordHeaderBytes;
    this.fractionNsec = header.fractionNsec;
    this.kind = header.kind;
    this.swapped = header.swapped;
  }

  next(packet: PacketRecord): ReadResult {
    if (this.done) return this.ended();
    const headBytes = this.headBytes;
    if (this.end - this.pos < headBytes) {
      const state = this.fill(headBytes);
      if (state !== PACKET) return state === END ? this.finish(this.offset, headBytes) : state;
    }
    const view = this.view;
    const little = this.little;
    let pos = this.pos;
    let capLen = view.getUint32(pos + 8, little);
    let wireLen = view.getUint32(pos + 12, little);
    if (this.swapped !== 'never' && (this.swapped === 'always' || capLen > wireLen)) {
      const other = capLen;
      capLen = wireLen;
      wireLen = other;
    }
    if (capLen > MAX_CAP_LEN) return this.absurd(capLen);
    const needed = headBytes + capLen;
    if (this.end - pos < needed) {
      const state = this.fill(needed);
      if (state !== PACKET) return state === END ? this.finish(this.offset, needed) : state;
      pos = this.pos;
    }
    let sec = view.getUint32(pos, little);
    let nsec = view.getUint32(pos + 4, little) * this.fractionNsec;
    if (nsec >= 1e9) {
      sec += Math.floor(nsec / 1e9);
      nsec %= 1e9;
    }
    this.pos = pos + needed;
    packet.off = pos + headBytes;
    packet.capLen = capLen;
    packet.wireLen = boundedWireLen(capLen, wireLen);
    packet.sec = sec;
    packet.nsec = nsec;
    packet.iface = 0;
    packet.segment = this.segment;
    this.arena.hold(this.segment);
    if (this.kind !== ETHERNET) toEthernet(this.kind, this.u8, packet);
    return PACKET;
  }

  stretch(): Stretch | null {
    if (this.done || !this.little || this.headBytes !== RECORD_BYTES || this.kind !== ETHERNET) return null;
    const { pos, end, segment, fractionNsec } = this;
    const passed = (_packets: number, _bytes: number, to: number): void => {
      this.pos = to;
    };
    return segment < 0 ? null : { pos, end, segment, source: 0, fractionNsec, passed };
  }

  private absurd(capLen: number): never {
    const offset = this.offset;
    this.fail(offset, absurdLength(capLen, offset));
  }
}

/** The message about a record that claims to be longer than a packet can be. */
export function absurdLength(capLen: number, offset: number): string {
  return `the record there claims a packet of ${capLen} bytes, and the most is ${MAX_PACKET_BYTES}; ${damageRemedy(offset)}`;
}
