/** First stage of the microflow cache: what identifies each packet of a vector, as columns.
 *
 *  A packet that the cache can't cover has hash 0: fragments, tunnels of headers, most of what ct() would call
 *  invalid. For all others the checks here are those of `extract` (wire/extract.ts) and `extractConnKey`
 *  (conntrack/key.ts), so that the engine need not verify checksums again. Packets with a wrong checksum, and frames
 *  that carry no IP, have keys that others don't have.
 *
 *  Private to its thread; overwritten by the next vector. */
import { fold6, packetHash } from '../conntrack/hash.js';
import { replyType, replyType6 } from '../conntrack/key.js';
import type { PacketColumns } from '../shm/packets.js';
import * as columns from '../shm/packets.js';
import { record } from '../shm/record.js';
import { checksum, sum } from '../wire/checksum.js';
import * as headers from '../wire/extract.js';

// Imported constants are loads from the other module's cells; local ones are folded into the code.
const { ETH_TYPE_IP, ETH_TYPE_IPV6, ETH_TYPE_NONE, ETH_TYPE_QINQ, ETH_TYPE_VLAN } = headers;
const { SUM_UNKNOWN, SUM_WRONG } = columns;
const { IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_IGMP, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP } = headers;

/** What a packet is known by. */
export const STAGED_KEY = record(
  'PORT_NW', // in_port:16 | proto:8 | tos:8
  'SRC', //     IPv4 address, or the last word of an IPv6 one, or the EtherType of what is not IP
  'DST',
  'TP', //      ports; ICMP: type:8 | code:8 | id:16; IGMP: as FLOW.TP
  'ETH_0', //   destination and source MAC
  'ETH_1',
  'ETH_2',
  'VLAN', //    as FLOW.VLAN_0, with VLAN_* below, bits that no TPID has
);
export const VLAN_IPV6 = 0x40000000;
/** The frame carries no IP: PORT_NW has the port only, TP is 0. */
export const VLAN_OTHER = 0x20000000;
/** The checksum of the IP header is wrong; or that is right, and that of the payload is wrong. */
export const VLAN_BAD_IP = 0x10000000;
export const VLAN_BAD_L4 = 0x04000000;
/** Words of the other parts of IPv6 addresses: the first three of the source, then of the destination. */
export const STAGED_ADDR6 = 6;

const { PORT_NW, SRC, DST, TP, ETH_0, ETH_1, ETH_2, VLAN } = STAGED_KEY.at;
const KEY_SHIFT = STAGED_KEY.shift;
const ADDR6_WORDS = STAGED_ADDR6;
/** Packets whose headers are read before their payload is. */
const BLOCK = 32;
const [IPV6_BIT, OTHER_BIT, BAD_IP, BAD_L4] = [VLAN_IPV6, VLAN_OTHER, VLAN_BAD_IP, VLAN_BAD_L4];

export class Staging {
  /** STAGED_KEY of each packet. */
  readonly keys: Int32Array;
  readonly addr6: Int32Array;
  /** 0: not for the cache. */
  readonly hashes: Int32Array;
  /** Where the IP packet and its payload begin, and how long they are. */
  readonly l3s: Int32Array;
  readonly l4s: Int32Array;
  readonly l3Sizes: Int32Array;
  readonly l4Sizes: Int32Array;
  readonly view: DataView;
  /** Whether checksums are taken for right. */
  ignoreChecksums = false;
  /** VLAN tags that are looked behind; the engine does it for a second one. */
  vlanLimit = 1;
  /** Keeps the loads of `touch` alive. */
  sink = 0;
  private readonly packets: PacketColumns;
  private readonly seed: number;
  /** What `parsePlain` leaves: packets to parse, and packets whose payload is to be verified. */
  private readonly rest: Int32Array;
  private nRest = 0;
  private readonly sums: Int32Array;
  private nSums = 0;

  constructor(packets: PacketColumns, arena: SharedArrayBuffer, vector: number, seed: number) {
    this.packets = packets;
    this.view = new DataView(arena);
    this.seed = seed;
    this.keys = new Int32Array(vector << KEY_SHIFT);
    this.addr6 = new Int32Array(vector * ADDR6_WORDS);
    this.hashes = new Int32Array(vector);
    this.l3s = new Int32Array(vector);
    this.l4s = new Int32Array(vector);
    this.l3Sizes = new Int32Array(vector);
    this.l4Sizes = new Int32Array(vector);
    this.rest = new Int32Array(vector);
    this.sums = new Int32Array(vector);
  }

  /** Reads the packets in `slots[0..n)`. */
  parse(slots: Int32Array, n: number): void {
    if (slots[n - 1] - slots[0] !== n - 1) this.sink = this.touch(slots, n);
    for (let from = 0; from < n; from += BLOCK) {
      this.parsePlain(slots, from, Math.min(from + BLOCK, n));
      const { rest, nRest, sums, nSums } = this;
      if (nSums > 0) this.verify(sums, nSums);
      for (let r = 0; r < nRest; r++) this.parseAny(rest[r], slots[rest[r]]);
    }
  }

  /** Loads a word of each row and of each frame, so that their misses overlap where packets of other workers lie between
   *  those of this one: what is in a row the processor fetches ahead by itself. */
  private touch(slots: Int32Array, n: number): number {
    const { view } = this;
    const { off, capLen } = this.packets;
    let sink = 0;
    for (let i = 0; i < n; i++) {
      const slot = slots[i];
      if (capLen[slot] >= 42) sink ^= view.getInt32((off[slot] + 12) | 0);
    }
    return sink;
  }

  /** Reads TCP and UDP over plain IPv4, without tags and options, all but the checksum of the payload; of it and of
   *  other packets makes lists. A loop that calls nothing: then its columns stay in registers. */
  private parsePlain(slots: Int32Array, from: number, n: number): void {
    const { view, packets, keys, hashes, l3s, l4s, l4Sizes, l3Sizes, rest, sums, seed } = this;
    const { off, capLen, inPort, sums: known } = packets;
    const verify = !this.ignoreChecksums;
    let nRest = 0;
    let nSums = 0;
    for (let i = from; i < n; i++) {
      const slot = slots[i];
      const o = off[slot];
      const len = capLen[slot];
      hashes[i] = 0;
      rest[nRest++] = i;
      if (len < 42 || view.getUint16((o + 12) | 0) !== ETH_TYPE_IP) continue;
      const l3 = (o + 14) | 0;
      const w0 = view.getInt32(l3); //            version, header length, tos, total length
      const w1 = view.getInt32((l3 + 4) | 0); //  id, fragment
      const w2 = view.getInt32((l3 + 8) | 0); //  ttl, protocol, checksum
      const total = w0 & 0xffff;
      const room = (len - 14) | 0;
      if (w0 >>> 24 !== 0x45 || total > room || total < 28 || room - total > 0xffff) continue;
      if ((w1 & 0x3fff) !== 0) continue;
      const src = view.getInt32((l3 + 12) | 0);
      const dst = view.getInt32((l3 + 16) | 0);
      // The upper halves; the lower ones are what is left of the sum.
      const high = (w0 >>> 16) + (w1 >>> 16) + (w2 >>> 16) + (src >>> 16) + (dst >>> 16);
      const both = ((w0 + w1 + w2 + src + dst) | 0) - (high << 16) + high;
      if (verify && (both & 0xffff) + (both >>> 16) !== 0xffff) continue;
      const proto = (w2 >>> 16) & 0xff;
      const l4 = (l3 + 20) | 0;
      const size = (total - 20) | 0;
      // The dispatcher may have had the time to look.
      const sum = known[slot];
      if (proto === IPPROTO_TCP) {
        if (size < 20) continue;
        const data = (view.getUint8((l4 + 12) | 0) >>> 4) << 2;
        if (data < 20 || data > size) continue;
        if (verify && sum === SUM_UNKNOWN) sums[nSums++] = i;
      } else if (proto === IPPROTO_UDP) {
        const w = view.getInt32((l4 + 4) | 0); // length, checksum
        if (w >>> 16 < 8 || w >>> 16 > size) continue;
        // A sender may leave it out (RFC 768).
        if (verify && (w & 0xffff) !== 0 && sum === SUM_UNKNOWN) sums[nSums++] = i;
      } else {
        continue;
      }
      nRest--;
      const k = i << KEY_SHIFT;
      const portNw = (inPort[slot] << 16) | (proto << 8) | ((w0 >>> 16) & 0xff);
      const tp = view.getInt32(l4);
      keys[k + PORT_NW] = portNw;
      keys[k + SRC] = src;
      keys[k + DST] = dst;
      keys[k + TP] = tp;
      keys[k + ETH_0] = view.getInt32(o);
      keys[k + ETH_1] = view.getInt32((o + 4) | 0);
      keys[k + ETH_2] = view.getInt32((o + 8) | 0);
      keys[k + VLAN] = sum === SUM_WRONG ? BAD_L4 : 0;
      hashes[i] = packetHash(seed, portNw, src, dst, tp);
      l3s[i] = l3;
      l4s[i] = l4;
      l4Sizes[i] = size;
      l3Sizes[i] = total;
    }
    this.nRest = nRest;
    this.nSums = nSums;
  }

  /** Verifies the checksums over the payload of the packets in `list[0..n)`. */
  private verify(list: Int32Array, n: number): void {
    const { view, keys, l4s, l4Sizes } = this;
    for (let j = 0; j < n; j++) {
      const i = list[j];
      const k = i << KEY_SHIFT;
      const size = l4Sizes[i];
      const src = keys[k + SRC];
      const dst = keys[k + DST];
      const pseudo = (src >>> 16) + (src & 0xffff) + (dst >>> 16) + (dst & 0xffff);
      const proto = (keys[k + PORT_NW] >>> 8) & 0xff;
      if (checksum(sum(view, l4s[i], size) + pseudo + proto + size) !== 0) keys[k + VLAN] |= BAD_L4;
    }
  }

  /** Reads any packet. */
  private parseAny(i: number, slot: number): void {
    const { view, packets, keys, l3s, l4s, l4Sizes, l3Sizes } = this;
    const o = packets.off[slot];
    const len = packets.capLen[slot];
    if (len < 42) return;
    let l3 = o + 14;
    let type = view.getUint16(o + 12);
    let vlan = 0;
    if (type === ETH_TYPE_VLAN || type === ETH_TYPE_QINQ) {
      vlan = view.getInt32(o + 12) | 0x1000;
      type = view.getUint16(o + 16);
      l3 = o + 18;
    }
    if (type !== ETH_TYPE_IP) {
      if (type === ETH_TYPE_IPV6) this.parse6(i, slot, l3, vlan);
      else this.parseOther(i, slot, l3, type, vlan);
      return;
    }
    const first = view.getInt32(l3); // version, length, tos, total length
    const room = o + len - l3;
    const total = first & 0xffff;
    const header = (first >>> 22) & 0x3c;
    if (header < 20 || total > room || total < header + 8 || room - total > 0xffff) return;
    if ((view.getUint16(l3 + 6) & 0x3fff) !== 0) return;
    const proto = view.getUint8(l3 + 9);
    const l4 = l3 + header;
    const size = total - header;
    let tp = view.getInt32(l4);
    const headerRight = this.ignoreChecksums || checksum(sum(view, l3, header)) === 0;
    let check = headerRight && !this.ignoreChecksums;
    let pseudo = 0;
    if (proto === IPPROTO_TCP) {
      if (size < 20) return;
      const data = (view.getUint8(l4 + 12) >>> 4) << 2;
      if (data < 20 || data > size) return;
      pseudo = sum(view, l3 + 12, 8) + IPPROTO_TCP + size;
    } else if (proto === IPPROTO_UDP) {
      const length = view.getUint16(l4 + 4);
      if (length < 8 || length > size) return;
      if (view.getUint16(l4 + 6) === 0) check = false;
      pseudo = sum(view, l3 + 12, 8) + IPPROTO_UDP + size;
    } else if (proto === IPPROTO_ICMP) {
      if (replyType(tp >>> 24) < 0 || (tp & 0x00ff0000) !== 0) return;
      tp = (tp & (0xffff0000 | 0)) | view.getUint16(l4 + 4);
    } else if (proto === IPPROTO_SCTP || proto === IPPROTO_ICMPV6) {
      return;
    } else {
      tp = proto === IPPROTO_IGMP ? ((tp >>> 24) << 16) | ((tp >>> 16) & 0xff) : 0;
      check = false;
    }
    let bad = headerRight ? 0 : BAD_IP;
    if (check && checksum(sum(view, l4, size) + pseudo) !== 0) bad = BAD_L4;

    const k = i << KEY_SHIFT;
    const portNw = (packets.inPort[slot] << 16) | (proto << 8) | ((first >>> 16) & 0xff);
    const src = view.getInt32(l3 + 12);
    const dst = view.getInt32(l3 + 16);
    keys[k + PORT_NW] = portNw;
    keys[k + SRC] = src;
    keys[k + DST] = dst;
    keys[k + TP] = tp;
    keys[k + ETH_0] = view.getInt32(o);
    keys[k + ETH_1] = view.getInt32(o + 4);
    keys[k + ETH_2] = view.getInt32(o + 8);
    keys[k + VLAN] = vlan | bad;
    this.hashes[i] = packetHash(this.seed, portNw, src, dst, tp);
    l3s[i] = l3;
    l4s[i] = l4;
    l4Sizes[i] = size;
    l3Sizes[i] = total;
  }

  /** The same for an IPv6 packet without extension headers. */
  private parse6(i: number, slot: number, l3: number, vlan: number): void {
    const { view, packets, keys, addr6, seed } = this;
    const o = packets.off[slot];
    const room = o + packets.capLen[slot] - l3;
    if (room < 48) return;
    const size = view.getUint16(l3 + 4);
    if (size < 8 || size + 40 > room || room - size - 40 > 0xffff) return;
    const proto = view.getUint8(l3 + 6);
    const l4 = l3 + 40;
    let tp = view.getInt32(l4);
    if (proto === IPPROTO_TCP) {
      if (size < 20) return;
      const data = (view.getUint8(l4 + 12) >>> 4) << 2;
      if (data < 20 || data > size) return;
    } else if (proto === IPPROTO_UDP) {
      const length = view.getUint16(l4 + 4);
      if (length < 8 || length > size) return;
    } else if (proto === IPPROTO_ICMPV6) {
      if (replyType6(tp >>> 24) < 0 || (tp & 0x00ff0000) !== 0) return;
      tp = (tp & (0xffff0000 | 0)) | view.getUint16(l4 + 4);
    } else {
      return;
    }
    const right =
      this.ignoreChecksums || checksum(sum(view, l4, size) + sum(view, l3 + 8, 32) + proto + size) === 0;

    const k = i << KEY_SHIFT;
    const a = i * ADDR6_WORDS;
    const portNw = (packets.inPort[slot] << 16) | (proto << 8) | ((view.getInt32(l3) >>> 20) & 0xff);
    for (let w = 0; w < 3; w++) {
      addr6[a + w] = view.getInt32(l3 + 8 + w * 4);
      addr6[a + 3 + w] = view.getInt32(l3 + 24 + w * 4);
    }
    const src = view.getInt32(l3 + 20);
    const dst = view.getInt32(l3 + 36);
    keys[k + PORT_NW] = portNw;
    keys[k + SRC] = src;
    keys[k + DST] = dst;
    keys[k + TP] = tp;
    keys[k + ETH_0] = view.getInt32(o);
    keys[k + ETH_1] = view.getInt32(o + 4);
    keys[k + ETH_2] = view.getInt32(o + 8);
    keys[k + VLAN] = vlan | (right ? IPV6_BIT : IPV6_BIT | BAD_L4);
    this.hashes[i] = packetHash(
      seed,
      portNw,
      fold6(seed, addr6[a], addr6[a + 1], addr6[a + 2], src),
      fold6(seed, addr6[a + 3], addr6[a + 4], addr6[a + 5], dst),
      tp,
    );
    this.l3s[i] = l3;
    this.l4s[i] = l4;
    this.l4Sizes[i] = size;
    this.l3Sizes[i] = size + 40;
  }

  /** A frame of another protocol: what its addresses, EtherType and tag say. */
  private parseOther(i: number, slot: number, l3: number, type: number, vlan: number): void {
    const { view, packets, keys, seed } = this;
    const o = packets.off[slot];
    if (vlan !== 0 && this.vlanLimit > 1 && (type === ETH_TYPE_VLAN || type === ETH_TYPE_QINQ)) return;
    if (type < 0x0600) {
      // 802.2; behind LLC/SNAP there may be anything.
      if (view.getInt32(l3) === (0xaaaa0300 | 0)) return;
      type = ETH_TYPE_NONE;
    }
    const k = i << KEY_SHIFT;
    const eth0 = view.getInt32(o);
    const eth1 = view.getInt32(o + 4);
    const eth2 = view.getInt32(o + 8);
    const port = packets.inPort[slot] << 16;
    keys[k + PORT_NW] = port;
    keys[k + SRC] = type;
    keys[k + DST] = 0;
    keys[k + TP] = 0;
    keys[k + ETH_0] = eth0;
    keys[k + ETH_1] = eth1;
    keys[k + ETH_2] = eth2;
    keys[k + VLAN] = vlan | OTHER_BIT;
    this.hashes[i] = packetHash(seed, port | type, Math.imul(eth0 ^ vlan, 0x9e3779b1 | 0), eth1, eth2);
  }
}
