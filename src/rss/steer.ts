/** Finds the home of a packet: parses just enough of it to hash the tuple that the tracker would find its
 *  connection by. Packets of one connection, in both directions and in every zone, and ICMP errors about
 *  it, get the same `hash` and the same `home`.
 *
 *  Packets that can't belong to a connection get one too: it only has to be the same in every run. */
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
import type { Toeplitz } from './toeplitz.js';

const walk = new Ipv6Walk();
const ETH_TYPE_QINQ_OLD = 0x9100;

export class Steering {
  /** Results of `locate`. */
  hash = 0;
  home = 0;
  private readonly toeplitz: Toeplitz;
  private readonly indirection: Int32Array;
  private readonly several: boolean;
  /** Source address (1 or 4 words), destination, ports. */
  private readonly words = new Int32Array(9);
  private proto = 0;

  constructor(toeplitz: Toeplitz, indirection: Int32Array) {
    this.toeplitz = toeplitz;
    this.indirection = indirection;
    this.several = indirection.some((home) => home !== indirection[0]);
    this.home = indirection[0];
  }

  /** Sets `hash` and `home` for the frame of `len` bytes at `off`. */
  locate(view: DataView, off: number, len: number): void {
    const n = this.parse(view, off, len);
    const { words } = this;
    this.order(n);
    let h = this.proto;
    for (let i = 0; i < n; i++) {
      h = Math.imul(h ^ words[i], 0x9e3779b1 | 0);
      h = (h << 13) | (h >>> 19);
    }
    h = Math.imul(h ^ (h >>> 15), 0x85ebca6b | 0);
    this.hash = h ^ (h >>> 13);
    if (this.several) {
      this.home = this.indirection[this.toeplitz.hash(words, n) & (this.indirection.length - 1)];
    }
  }

  /** Puts the lower of the two ends first. */
  private order(n: number): void {
    const { words } = this;
    const half = n >> 1;
    const ports = words[n - 1];
    let swap = false;
    let i = 0;
    while (i < half && words[i] === words[half + i]) i++;
    if (i < half) swap = words[i] > words[half + i];
    else swap = ports >>> 16 > (ports & 0xffff);
    if (!swap) return;
    for (i = 0; i < half; i++) {
      const w = words[i];
      words[i] = words[half + i];
      words[half + i] = w;
    }
    words[n - 1] = (ports << 16) | (ports >>> 16);
  }

  /** Fills `words` and `proto`; returns the number of words. */
  private parse(view: DataView, off: number, len: number): number {
    const { words } = this;
    const end = off + len;
    if (len >= 14) {
      let at = off + 12;
      let type = view.getUint16(at);
      while (
        (type === ETH_TYPE_VLAN || type === ETH_TYPE_QINQ || type === ETH_TYPE_QINQ_OLD) &&
        end - at >= 6
      ) {
        at += 4;
        type = view.getUint16(at);
      }
      at += 2;
      if (type < 0x600 && end - at >= 8 && view.getInt32(at) === (0xaaaa0300 | 0)) {
        type = view.getUint16(at + 6);
        at += 8;
      }
      if (type === ETH_TYPE_IP && end - at >= 20) return this.parse4(view, at, end, true);
      if (type === ETH_TYPE_IPV6 && end - at >= 40) return this.parse6(view, at, end, true);
      this.proto = type;
    } else {
      this.proto = 0;
    }
    // Not IP: never tracked, so it may go anywhere. By its addresses.
    words[0] = len >= 14 ? view.getInt32(off + 2) : 0;
    words[1] = len >= 14 ? view.getInt32(off + 8) : 0;
    words[2] = 0;
    return 3;
  }

  private parse4(view: DataView, at: number, end: number, outer: boolean): number {
    const { words } = this;
    const header = (view.getUint8(at) & 15) << 2;
    const proto = view.getUint8(at + 9);
    const l4 = at + header;
    const fragment = (view.getUint16(at + 6) & 0x3fff) !== 0;
    if (outer && proto === IPPROTO_ICMP && !fragment && end - l4 >= 28 && isError4(view.getUint8(l4))) {
      // An error follows the packet that it is about.
      return this.parse4(view, l4 + 8, end, false);
    }
    this.proto = proto;
    words[0] = view.getInt32(at + 12);
    words[1] = view.getInt32(at + 16);
    words[2] =
      (view.getUint16(at + 6) & (outer ? 0x3fff : 0x1fff)) !== 0
        ? 0
        : ports(view, l4, end, proto, IPPROTO_ICMP);
    return 3;
  }

  private parse6(view: DataView, at: number, end: number, outer: boolean): number {
    const { words } = this;
    let proto = view.getUint8(at + 6);
    let portWord = 0;
    if (walkIpv6(view, at + 40, end, proto, walk)) {
      proto = walk.proto;
      const l4 = walk.off;
      if (outer && proto === IPPROTO_ICMPV6 && walk.frag === 0 && end - l4 >= 48) {
        const type = view.getUint8(l4);
        if (type >= 1 && type <= 4) return this.parse6(view, l4 + 8, end, false);
      }
      if (walk.frag === 0) portWord = ports(view, l4, end, proto, IPPROTO_ICMPV6);
    }
    this.proto = proto;
    for (let i = 0; i < 8; i++) words[i] = view.getInt32(at + 8 + i * 4);
    words[8] = portWord;
    return 9;
  }
}

function isError4(type: number): boolean {
  return type === 3 || type === 4 || type === 5 || type === 11 || type === 12;
}

/** Ports, or an ICMP identifier twice, or 0. */
function ports(view: DataView, l4: number, end: number, proto: number, icmp: number): number {
  if (proto === IPPROTO_TCP || proto === IPPROTO_UDP || proto === IPPROTO_SCTP) {
    return end - l4 >= 4 ? view.getInt32(l4) : 0;
  }
  if (proto === icmp && end - l4 >= 6) {
    const id = view.getUint16(l4 + 4);
    return (id << 16) | id;
  }
  return 0;
}
