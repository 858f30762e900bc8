/** Finds the home of a packet: parses just enough of it to hash the tuple that the tracker would find its
 *  connection by. Packets of one connection, in both directions and in every zone, and ICMP errors about
 *  it, get the same `hash` and the same `home`.
 *
 *  Packets that can't belong to a connection get one too: it only has to be the same in every run.
 *
 *  A fragment that ct() may put together with others is steered like its datagram: the first fragment shows
 *  the ports, and those after it follow it. One that comes before the first goes by addresses; it can't be
 *  the one that completes the datagram, which is the only one that reaches a connection. */
import { FRAG_ANY, FRAG_LATER } from '../classifier/flow-key.js';
import { keysOf, scatter, stir } from '../conntrack/hash.js';
import { datagramOf4, datagramOf6 } from '../wire/datagram.js';
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
  lastFragmentHeader,
  walkIpv6,
} from '../wire/extract.js';
import type { Toeplitz } from './toeplitz.js';

const walk = new Ipv6Walk();
// Imported constants are loads from the other module's cells; local ones are folded into the code.
const TCP = 6;
const UDP = 17;
/** EtherType 0x0800, then version 4 and five words of header. */
const PLAIN_IPV4 = 0x080045;
/** Of Ethernet, IPv4 and ports. */
const PLAIN_BYTES = 38;
const ETH_TYPE_QINQ_OLD = 0x9100;
/** Keys of up to eight words of addresses, of ports and protocol. */
const PORTS_KEY = 8;
const PROTO_KEY = 9;
const KEYS = 10;
/** Datagrams whose first fragment is remembered; the oldest is forgotten for a new one. The tracker holds at
 *  most 5000 fragments. */
const MAX_DATAGRAMS = 1 << 16;

/** Addresses that translation may choose, both ends included; each 1 word or 4, in network order. */
export interface AddressRange {
  min: Uint32Array;
  max: Uint32Array;
}

/** Where the first fragment of a datagram went. */
interface Place {
  hash: number;
  home: number;
  /** Another first fragment of the same number went elsewhere: only who holds the fragments knows better. */
  doubtful: boolean;
  /** Its place in the ring of those that are remembered. */
  at: number;
}

export class Steering {
  /** Results of `locate`. */
  hash = 0;
  home = 0;
  private readonly toeplitz: Toeplitz;
  private readonly indirection: Int32Array;
  private readonly several: boolean;
  private readonly keys: Int32Array;
  /** Source address (1 or 4 words), destination, ports. */
  private readonly words = new Int32Array(9);
  private proto = 0;
  /** Whether fragments follow the first of their datagram. */
  reassembles = false;
  private readonly datagrams = new Map<string, Place>();
  /** Their names in the order in which they came, `next` the oldest: a Map that loses its first entry again and again takes
   *  ever longer to find the next one. */
  private readonly ring: string[] = [];
  private next = 0;
  /** Datagrams in doubt. */
  private nDoubtful = 0;
  /** FRAG_* of the packet that was parsed last, and its datagram if it is a fragment. */
  private frag = 0;
  private datagram = '';
  /** Where `network` has found what comes behind the EtherType. */
  private l3 = 0;
  /** Of the packet whose tuple was parsed last: its words, where its ports are and where it ends. */
  private n = 0;
  private l4 = 0;
  private end = 0;
  /** For `mayAnswer`. */
  targets: readonly AddressRange[] = [];

  /** `seed`: key of `hash`, the same as that of a TupleHash which is to agree. */
  constructor(toeplitz: Toeplitz, indirection: Int32Array, seed: number) {
    this.keys = keysOf(seed, KEYS);
    this.toeplitz = toeplitz;
    this.indirection = indirection;
    this.several = indirection.some((home) => home !== indirection[0]);
    this.home = indirection[0];
  }

  /** Sets `hash` and `home` for the frame of `len` bytes at `off`. */
  locate(view: DataView, off: number, len: number): void {
    // IPv4 without tag, options and fragments: EtherType, version and length in one word.
    if (len >= PLAIN_BYTES && view.getInt32(off + 12) >>> 8 === PLAIN_IPV4) {
      const proto = view.getUint8(off + 23);
      if ((proto === TCP || proto === UDP) && (view.getInt32(off + 18) & 0x3fff) === 0) {
        this.locatePlain(view, off, len, proto);
        return;
      }
    }
    this.frag = 0;
    const n = this.parse(view, off, len);
    if (this.frag & FRAG_LATER) {
      const place = this.datagrams.get(this.datagram);
      if (place !== undefined) {
        this.hash = place.hash;
        this.home = place.home;
        return;
      }
    }
    const { words } = this;
    this.n = n;
    order(words, n);
    this.hash = mix(this.keys, this.proto, words, n);
    if (this.several) {
      this.home = this.indirection[this.toeplitz.hash(words, n) & (this.indirection.length - 1)];
    }
    if (this.frag === FRAG_ANY) this.remember();
  }

  /** `locate` of a plain TCP or UDP packet, whose ports are at byte 34: the same results in a quarter of the time. */
  private locatePlain(view: DataView, off: number, len: number, proto: number): void {
    let src = view.getInt32(off + 26);
    let dst = view.getInt32(off + 30);
    let ports = view.getInt32(off + 34);
    if (src > dst || (src === dst && ports >>> 16 > (ports & 0xffff))) {
      const lower = dst;
      dst = src;
      src = lower;
      ports = (ports << 16) | (ports >>> 16);
    }
    // As `mix`.
    const { keys } = this;
    const addresses = stir((scatter(src, keys[0]) + scatter(dst, keys[1])) | 0);
    const rest = (Math.imul(ports, keys[PORTS_KEY] | 1) + Math.imul(proto, keys[PROTO_KEY] | 1)) | 0;
    this.hash = stir((addresses + rest) | 0);
    if (this.several) {
      this.home = this.indirection[this.toeplitz.hash3(src, dst, ports) & (this.indirection.length - 1)];
    }
    if (this.targets.length === 0) return;
    const { words } = this;
    words[0] = src;
    words[1] = dst;
    words[2] = ports;
    this.n = 3;
    this.proto = proto;
    this.l4 = off + 34;
    this.end = off + len;
  }

  /** The home by addresses alone, which all fragments of a datagram have. */
  homeByAddresses(view: DataView, off: number, len: number): number {
    const { words, indirection } = this;
    const n = this.parse(view, off, len);
    words[n - 1] = 0;
    order(words, n);
    return indirection[this.toeplitz.hash(words, n) & (indirection.length - 1)];
  }

  /** A hash by addresses alone, for shares of a capture: as `homeByAddresses`, at a fraction of the price. With
   *  `reassembles` it sets `isFragment`. */
  addressHash(view: DataView, off: number, len: number): number {
    if (len >= PLAIN_BYTES && view.getInt32(off + 12) >>> 8 === PLAIN_IPV4) {
      // Neither a fragment nor ICMP.
      if ((view.getInt32(off + 18) & 0x3fff) === 0 && view.getUint8(off + 23) !== IPPROTO_ICMP) {
        const src = view.getInt32(off + 26);
        const dst = view.getInt32(off + 30);
        this.isFragment = false;
        return mixEnds(src ^ dst, src + dst);
      }
    }
    const { words } = this;
    this.frag = 0;
    const n = this.parse(view, off, len) - 1;
    this.isFragment = this.frag !== 0;
    let x = 0;
    let sum = 0;
    for (let i = 0; i < n; i++) {
      x ^= words[i];
      sum = (sum + words[i]) | 0;
    }
    return mixEnds(x, sum);
  }
  isFragment = false;

  /** Whether the frame is a first fragment of an ICMP error: those that follow it have other addresses. */
  isErrorFragment(view: DataView, off: number, len: number): boolean {
    const end = off + len;
    const type = this.network(view, off, end);
    const at = this.l3;
    if (type === ETH_TYPE_IP && end - at >= 20) {
      const l4 = at + ((view.getUint8(at) & 15) << 2);
      const first = (view.getUint16(at + 6) & 0x1fff) === 0;
      return first && view.getUint8(at + 9) === IPPROTO_ICMP && end > l4 && isError4(view.getUint8(l4));
    }
    if (type !== ETH_TYPE_IPV6 || end - at < 40) return false;
    if (!walkIpv6(view, at + 40, end, view.getUint8(at + 6), walk) || walk.frag === 0) return false;
    if (walk.proto !== IPPROTO_ICMPV6 || (walk.frag & FRAG_LATER) !== 0 || end <= walk.off) return false;
    return view.getUint8(walk.off) < 128;
  }

  /** Whether the frame is one for a ct() of all IP. */
  isIp(view: DataView, off: number, len: number): boolean {
    if (len < 14) return false;
    const type = this.network(view, off, off + len);
    return type === ETH_TYPE_IP || type === ETH_TYPE_IPV6;
  }

  /** Whether the packet that `locate` has seen last may be an answer to one that has been translated to `targets`:
   *  a good guess, by addresses and TCP flags. */
  mayAnswer(view: DataView): boolean {
    const { words, targets, n, l4, end } = this;
    if (this.proto === IPPROTO_TCP && end - l4 > 13 && (view.getUint8(l4 + 13) & 0x12) === 2) return false;
    const size = n >> 1;
    for (const { min, max } of targets) {
      if (min.length !== size) continue;
      if (isWithin(words, 0, min, max) || isWithin(words, size, min, max)) return true;
    }
    return false;
  }

  /** Whether the frame needs `locate` to find out that it is no fragment. */
  mayBeFragment(view: DataView, off: number, len: number): boolean {
    if (len < 14) return false;
    const end = off + len;
    const type = this.network(view, off, end);
    const at = this.l3;
    if (type === ETH_TYPE_IP) return end - at >= 20 && (view.getUint16(at + 6) & 0x3fff) !== 0;
    return type === ETH_TYPE_IPV6 && end - at >= 40 && isExtension(view.getUint8(at + 6));
  }

  /** Whether it is ICMP whose connection may be translated to an id that its packets don't get: that is so of ICMP
   *  over IPv6, and with `ports` (a range of them for the destination) of IPv4 queries. */
  losesId(view: DataView, off: number, len: number, ports: boolean): boolean {
    if (len < 14) return false;
    const end = off + len;
    const type = this.network(view, off, end);
    const at = this.l3;
    if (type === ETH_TYPE_IPV6) return end - at >= 40 && view.getUint8(at + 6) === IPPROTO_ICMP;
    if (!ports || type !== ETH_TYPE_IP || end - at < 20 || view.getUint8(at + 9) !== IPPROTO_ICMP)
      return false;
    const l4 = at + ((view.getUint8(at) & 15) << 2);
    return end > l4 && !isError4(view.getUint8(l4));
  }

  /** Whether the packet must be alone in flight in steered mode: it may be another connection's than its tuple
   *  says (docs/architecture.md). `ports` as for `losesId`. */
  isAlone(view: DataView, off: number, len: number, ports: boolean): boolean {
    return this.mayBeFragment(view, off, len) || this.losesId(view, off, len, ports);
  }

  /** Whether it takes `settle` to know where the frame belongs: its datagram, or '' if it does not. */
  doubt(view: DataView, off: number, len: number): string {
    if (this.nDoubtful === 0 || !this.mayBeFragment(view, off, len)) return '';
    this.frag = 0;
    this.parse(view, off, len);
    if ((this.frag & FRAG_LATER) === 0) return '';
    return this.datagrams.get(this.datagram)?.doubtful === true ? this.datagram : '';
  }

  /** Where the first fragment of `datagram` is waiting; null if it does not, and 'none' if nothing does. */
  settle(datagram: string, first: { hash: number; home: number } | null | 'none'): void {
    if (first === 'none') this.forget(datagram);
    else if (first !== null) {
      const at = this.datagrams.get(datagram)?.at ?? -1;
      this.datagrams.set(datagram, { hash: first.hash, home: first.home, doubtful: true, at });
    }
  }

  private remember(): void {
    const { datagrams, datagram, hash, home } = this;
    const before = datagrams.get(datagram);
    const doubtful = before !== undefined && (before.doubtful || before.hash !== hash);
    if (doubtful && !before.doubtful) this.nDoubtful++;
    if (before !== undefined) {
      datagrams.set(datagram, { hash, home, doubtful, at: before.at });
      return;
    }
    const at = this.next;
    this.next = (at + 1) % MAX_DATAGRAMS;
    const oldest = this.ring[at];
    if (oldest !== undefined && datagrams.get(oldest)?.at === at) this.forget(oldest);
    this.ring[at] = datagram;
    datagrams.set(datagram, { hash, home, doubtful, at });
  }

  private forget(datagram: string): void {
    if (this.datagrams.get(datagram)?.doubtful === true) this.nDoubtful--;
    this.datagrams.delete(datagram);
  }

  /** Fills `words` and `proto`; returns the number of words. */
  private parse(view: DataView, off: number, len: number): number {
    const { words } = this;
    const end = off + len;
    if (len >= 14) {
      const type = this.network(view, off, end);
      const at = this.l3;
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

  /** Finds what is behind tags and LLC: sets `l3` and returns the EtherType. */
  private network(view: DataView, off: number, end: number): number {
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
    this.l3 = at;
    return type;
  }

  private parse4(view: DataView, at: number, end: number, outer: boolean): number {
    const { words } = this;
    const header = (view.getUint8(at) & 15) << 2;
    const proto = view.getUint8(at + 9);
    const l4 = at + header;
    const later = (view.getUint16(at + 6) & 0x1fff) !== 0;
    if (outer && this.reassembles && (view.getUint16(at + 6) & 0x3fff) !== 0) {
      this.frag = later ? FRAG_ANY | FRAG_LATER : FRAG_ANY;
      this.datagram = datagramOf4(view, at);
    }
    if (outer && proto === IPPROTO_ICMP && !later && end - l4 >= 28 && isError4(view.getUint8(l4))) {
      // An error follows the packet that it is about.
      return this.parse4(view, l4 + 8, end, false);
    }
    this.proto = proto;
    this.l4 = l4;
    this.end = end;
    words[0] = view.getInt32(at + 12);
    words[1] = view.getInt32(at + 16);
    words[2] = later ? 0 : ports(view, l4, end, proto, IPPROTO_ICMP);
    return 3;
  }

  private parse6(view: DataView, at: number, end: number, outer: boolean): number {
    const { words } = this;
    let proto = view.getUint8(at + 6);
    let portWord = 0;
    if (walkIpv6(view, at + 40, end, proto, walk)) {
      proto = walk.proto;
      const l4 = walk.off;
      const later = (walk.frag & FRAG_LATER) !== 0;
      if (outer && this.reassembles && walk.frag !== 0) {
        this.frag = walk.frag;
        this.datagram = datagramOf6(view, at, lastFragmentHeader(view, at, l4));
      }
      if (outer && proto === IPPROTO_ICMPV6 && !later && end - l4 >= 48) {
        const type = view.getUint8(l4);
        if (type >= 1 && type <= 4) return this.parse6(view, l4 + 8, end, false);
      }
      if (!later) portWord = ports(view, l4, end, proto, IPPROTO_ICMPV6);
      this.l4 = l4;
    } else {
      this.l4 = end;
    }
    this.proto = proto;
    this.end = end;
    for (let i = 0; i < 8; i++) words[i] = view.getInt32(at + 8 + i * 4);
    words[8] = portWord;
    return 9;
  }
}

/** `Steering.hash` of the packets of a connection, from one of its tuples. */
export class TupleHash {
  private readonly words = new Int32Array(9);
  private readonly keys: Int32Array;

  constructor(seed: number) {
    this.keys = keysOf(seed, KEYS);
  }

  /** IPv4; `ports` as CONN.PORTS. */
  ofTuple(proto: number, src: number, dst: number, ports: number): number {
    const { words } = this;
    words[0] = src;
    words[1] = dst;
    words[2] = ports;
    order(words, 3);
    return mix(this.keys, proto, words, 3);
  }

  /** IPv6; source and destination are the 8 words from `addresses[at]`. */
  ofTuple6(proto: number, addresses: Int32Array, at: number, ports: number): number {
    const { words } = this;
    for (let i = 0; i < 8; i++) words[i] = addresses[at + i];
    words[8] = ports;
    order(words, 9);
    return mix(this.keys, proto, words, 9);
  }
}

/** Whether the address at `words[at]` lies in a range. */
function isWithin(words: Int32Array, at: number, min: Uint32Array, max: Uint32Array): boolean {
  return compare(words, at, min) >= 0 && compare(words, at, max) <= 0;
}

function compare(words: Int32Array, at: number, address: Uint32Array): number {
  for (let i = 0; i < address.length; i++) {
    const d = (words[at + i] >>> 0) - address[i];
    if (d !== 0) return d;
  }
  return 0;
}

/** Puts the lower of the two ends of a tuple of `n` words first. */
function order(words: Int32Array, n: number): void {
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

/** A keyed hash of a tuple whose ends are in order (conntrack/hash.ts). Tuples of the same addresses and protocol have the
 *  same only if they have the same ports: it tells the connections of a datagram's fragments apart. Addresses are stirred
 *  first, as a source port counts in the upper half alone. */
function mix(keys: Int32Array, proto: number, words: Int32Array, n: number): number {
  let sum = 0;
  for (let i = 0; i < n - 1; i++) sum = (sum + scatter(words[i], keys[i])) | 0;
  const rest = (Math.imul(words[n - 1], keys[PORTS_KEY] | 1) + Math.imul(proto, keys[PROTO_KEY] | 1)) | 0;
  return stir((stir(sum) + rest) | 0);
}

/** A hash of what two addresses have together, whichever is first. */
export function mixEnds(x: number, sum: number): number {
  let h = Math.imul(x, 0x9e3779b1 | 0) ^ Math.imul(sum, 0x85ebca6b | 0);
  h = Math.imul(h ^ (h >>> 15), 0xc2b2ae35 | 0);
  return h ^ (h >>> 13);
}

/** Next headers that `walkIpv6` looks behind. */
function isExtension(proto: number): boolean {
  return proto === 0 || proto === 43 || proto === 44 || proto === 51 || proto === 60;
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
