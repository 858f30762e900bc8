/** A source whose packets that a snapshot length has cut are as long again as their IP header says: what is missing is
 *  zeros, and the checksum that covers it is that of the packet as it is now, since nobody can know the one on the
 *  wire. So connections of captures of headers alone have all their packets and bytes. Cut packets whose headers are
 *  not all there, or that say another length than the capture does, stay as they are.
 *
 *  Restored packets lie in segments of their own. Runs in the thread that reads. */
import { checksum, sctpChecksum, sum } from '../wire/checksum.js';
import {
  ETH_TYPE_IP,
  ETH_TYPE_IPV6,
  ETH_TYPE_QINQ,
  ETH_TYPE_VLAN,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_SCTP,
  IPPROTO_TCP,
  IPPROTO_UDP,
  Ipv6Walk,
  walkIpv6,
} from '../wire/extract.js';
import type { SegmentArena } from './arena.js';
import {
  type MergedRecord,
  mergeInto,
  newMergedRecord,
  type PacketSource,
  type SourceClock,
} from './merge.js';
import { type CaptureNotice, ReadResult, type Stretch } from './types.js';

const walk = new Ipv6Walk();
/** Bytes of the transport header that have to be there, and where its checksum is. */
const HEADERS = new Map([
  [IPPROTO_TCP, { bytes: 20, at: 16 }],
  [IPPROTO_UDP, { bytes: 8, at: 6 }],
  [IPPROTO_ICMP, { bytes: 8, at: 2 }],
  [IPPROTO_ICMPV6, { bytes: 8, at: 2 }],
  [IPPROTO_SCTP, { bytes: 12, at: 8 }],
]);

export class RestoredSource implements PacketSource {
  /** Packets that were made whole. */
  restored = 0;
  private readonly source: PacketSource;
  private readonly arena: SegmentArena;
  private readonly view: DataView;
  /** The segment under way, -1 if there is none, and what is used of it. */
  private segment = -1;
  private used = 0;
  /** A packet for which there was no segment. */
  private readonly waiting = newMergedRecord();
  private isWaiting = false;
  /** Of the packet in hand: where its IP and transport headers are, its protocol, and how long it is to be. */
  private l3 = 0;
  private l4 = 0;
  private proto = 0;
  private bytes = 0;
  /** Neither whole nor the first of its fragments: no checksum of its own. */
  private isFragment = false;
  private ipv6 = false;

  constructor(source: PacketSource, arena: SegmentArena) {
    this.source = source;
    this.arena = arena;
    this.view = new DataView(arena.sab);
  }

  next(packet: MergedRecord): ReadResult {
    if (this.isWaiting) {
      mergeInto(packet, this.waiting, this.waiting.source);
      this.isWaiting = false;
    } else {
      const state = this.source.next(packet);
      if (state !== ReadResult.PACKET || packet.capLen >= packet.wireLen) return state;
    }
    if (!this.isWhole(packet) || this.restore(packet)) return ReadResult.PACKET;
    mergeInto(this.waiting, packet, packet.source);
    this.isWaiting = true;
    return ReadResult.ARENA_FULL;
  }

  stretch(): Stretch | null {
    return this.isWaiting ? null : (this.source.stretch?.() ?? null);
  }

  readable(): Promise<void> {
    return this.source.readable();
  }

  get clock(): SourceClock | null {
    return this.source.clock ?? null;
  }

  get notices(): readonly CaptureNotice[] {
    return this.source.notices;
  }

  close(): void {
    if (this.segment >= 0) this.arena.close(this.segment);
    this.segment = -1;
    if (this.isWaiting) this.arena.release(this.waiting.segment);
    this.isWaiting = false;
    this.source.close();
  }

  /** Whether the headers of the packet are all there, and say that the wire had the rest. */
  private isWhole({ off, capLen, wireLen }: MergedRecord): boolean {
    const { view } = this;
    const end = off + capLen;
    let at = off + 12;
    if (capLen < 14) return false;
    let type = view.getUint16(at);
    while ((type === ETH_TYPE_VLAN || type === ETH_TYPE_QINQ) && end - at >= 6) {
      at += 4;
      type = view.getUint16(at);
    }
    at += 2;
    this.l3 = at - off;
    let l4: number;
    if (type === ETH_TYPE_IP && end - at >= 20) {
      this.ipv6 = false;
      l4 = at + ((view.getUint8(at) & 15) << 2);
      this.bytes = this.l3 + view.getUint16(at + 2);
      this.isFragment = (view.getUint16(at + 6) & 0x3fff) !== 0;
      this.proto = view.getUint8(at + 9);
    } else if (type === ETH_TYPE_IPV6 && end - at >= 40) {
      this.ipv6 = true;
      if (!walkIpv6(view, at + 40, end, view.getUint8(at + 6), walk)) return false;
      l4 = walk.off;
      this.bytes = this.l3 + 40 + view.getUint16(at + 4);
      this.isFragment = walk.frag !== 0;
      this.proto = walk.proto;
    } else {
      return false;
    }
    this.l4 = l4 - off;
    if (this.bytes <= capLen || this.bytes > wireLen) return false;
    const header = HEADERS.get(this.proto);
    return end - l4 >= (this.isFragment || header === undefined ? 0 : header.bytes);
  }

  /** False while no segment is free. */
  private restore(packet: MergedRecord): boolean {
    const { arena, bytes, view } = this;
    if (this.segment < 0 || arena.segmentBytes - this.used < bytes) {
      if (this.segment >= 0) arena.close(this.segment);
      this.segment = arena.acquire();
      if (this.segment < 0) return false;
      this.used = 0;
    }
    const to = this.segment * arena.segmentBytes + this.used;
    this.used += (bytes + 7) & ~7;
    arena.u8.copyWithin(to, packet.off, packet.off + packet.capLen);
    arena.u8.fill(0, to + packet.capLen, to + bytes);
    arena.hold(this.segment);
    arena.release(packet.segment);
    packet.off = to;
    packet.capLen = bytes;
    packet.segment = this.segment;
    this.restored++;
    const header = HEADERS.get(this.proto);
    if (header !== undefined && !this.isFragment)
      this.sum(view, to + this.l3, to + this.l4, to + bytes, header.at);
    return true;
  }

  private sum(view: DataView, l3: number, l4: number, end: number, at: number): void {
    const { proto, ipv6 } = this;
    const size = end - l4;
    if (proto === IPPROTO_SCTP) {
      view.setInt32(l4 + at, sctpChecksum(view, l4, size), true);
      return;
    }
    // Over IPv4 a UDP packet may have none.
    if (proto === IPPROTO_UDP && !ipv6 && view.getUint16(l4 + at) === 0) return;
    view.setUint16(l4 + at, 0);
    let total = sum(view, l4, size);
    if (proto !== IPPROTO_ICMP)
      total += (ipv6 ? sum(view, l3 + 8, 32) : sum(view, l3 + 12, 8)) + proto + size;
    const value = checksum(total);
    view.setUint16(l4 + at, proto === IPPROTO_UDP && value === 0 ? 0xffff : value);
  }
}
