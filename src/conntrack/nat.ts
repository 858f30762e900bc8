/** Chooses what a new connection is translated to: `ct(commit,nat(…))` (ovs-actions(7), "The ct action").
 *
 *  The coordinator alone chooses, in input order. The tuple that replies will have must belong to no other
 *  live connection of the zone; so the choice depends on the connections before it, and on nothing else:
 *  where Open vSwitch starts at a random place of a range, this starts at a hash of the tuple, so that a
 *  replay repeats itself. The order in which ports are tried, and when that ends, is Open vSwitch's. */
import { CONN, NAT } from '../shm/layouts.js';
import { IPPROTO_ICMP, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP } from '../wire/extract.js';
import { hashAdd, hashFinish, swap32 } from '../wire/hash.js';
import { fold6, tupleHash } from './hash.js';
import { replyZoneProto } from './key.js';
import type { PartitionWriter } from './partition.js';

const { SRC, DST, PORTS, ZONE_PROTO } = CONN.at;
const NAT_SHIFT = NAT.shift;
const NAT_AT = NAT.at;

/** What `nat` asks for, bits of an ask's first word. `nat` was given; alone: translate what belongs to a
 *  translated connection. */
export const NAT_ON = 1;
export const NAT_SRC = 2;
export const NAT_DST = 4;
export const NAT_IPV6 = 8;
/** An address was given; else the packet keeps its own. */
export const NAT_ADDRESS = 16;
export const NAT_RANDOM = 32;
export const NAT_HASH = 64;
export const NAT_PERSISTENT = 128;

/** An ask: NAT_* bits; first and last address, most significant word first, an IPv4 one in the first word;
 *  ports, first << 16 | last, 0 for none. */
export const ASK_MIN = 1;
export const ASK_MAX = 5;
export const ASK_PORTS = 9;
export const ASK_WORDS = 10;
/** The hash of the connection and the range, behind an ask; and words of both. */
export const ASK_HASH = ASK_WORDS;
export const HASHED_ASK_WORDS = ASK_WORDS + 1;

/** Ports tried before starting again elsewhere, half as many then, and the fewest. */
const MAX_ATTEMPTS = 128;
const MIN_ATTEMPTS = 16;
/** Stands for the random number that Open vSwitch draws when it starts. */
const BASIS = 0x5eed;
/** Addresses of an IPv6 range that are used. */
const MAX_DELTA = 0xfffffffe;

/** Whether translation can tell two connections of the protocol apart by port or ICMP id. */
function hasPorts(proto: number): boolean {
  return proto === IPPROTO_TCP || proto === IPPROTO_UDP || proto === IPPROTO_SCTP || proto === IPPROTO_ICMP;
}

/** One a coordinator: what it chose last is in its fields. */
export class Binder {
  /** The tuple of the replies. */
  src = 0;
  dst = 0;
  ports = 0;
  readonly addr6 = new Int32Array(8);

  // The connection under way.
  private partition!: PartitionWriter;
  private ipv6 = false;
  private zoneProto = 0;
  private replyZoneProto = 0;
  private now = 0;
  private seq = 0;
  private state = 0;
  private readonly address = new Int32Array(4);

  /** Chooses for the connection whose record is at word `c` of `words` (IPv6 addresses at `a`, or -1) what
   *  the hashed ask at `ask` wants. `seq` is the packet that commits it. False if there is no tuple left. */
  choose(
    partition: PartitionWriter,
    words: Int32Array,
    c: number,
    a: number,
    ask: number,
    seq: number,
    now: number,
  ): boolean {
    this.propose(partition, words, c, a, ask, seq, now);
    const flags = words[ask];
    const ports = words[ask + ASK_PORTS];
    const proto = (words[c + ZONE_PROTO] >>> 8) & 0xff;
    if (!hasPorts(proto)) return this.isFree();
    const sport = words[c + PORTS] >>> 16;
    const first = ports >>> 16;
    const last = ports & 0xffff;
    let port = this.ports & 0xffff;
    let min = first;
    let max = last;
    if ((flags & NAT_SRC && ports === 0) || flags & NAT_DST) {
      // Without a range the port stays in its class.
      port = sport;
      min = port < 512 ? 1 : port < 1024 ? 600 : 1024;
      max = port < 512 ? 511 : port < 1024 ? 1023 : 65535;
    }
    if (flags & NAT_DST && ports !== 0 && this.search(0xffff0000 | 0, this.ports >>> 16, first, last))
      return true;
    // An ICMP query has its id in the place of both ports.
    return this.search(proto === IPPROTO_ICMP ? -1 : 0xffff, port, min, max);
  }

  /** The tuple that `choose` tries first. */
  propose(
    partition: PartitionWriter,
    words: Int32Array,
    c: number,
    a: number,
    ask: number,
    seq: number,
    now: number,
  ): void {
    this.begin(partition, words, c, a, now);
    this.seq = seq;
    const flags = words[ask];
    const ports = words[ask + ASK_PORTS];
    const all = words[ask + ASK_HASH];
    const hash = flags & NAT_PERSISTENT ? rangeHash(words, c, a, ask, true) : all;
    this.state = hashAdd(hashAdd(all, seq), Math.floor(seq / 0x100000000));
    const offset = (flags & NAT_RANDOM ? this.draw() : all) >>> 0;

    this.chooseAddress(words, c, a, ask, hash >>> 0);
    if (flags & NAT_SRC) this.setAddress(1);
    else this.setAddress(0);
    if (!hasPorts((words[c + ZONE_PROTO] >>> 8) & 0xff)) return;

    const sport = words[c + PORTS] >>> 16;
    const dport = words[c + PORTS] & 0xffff;
    if (ports === 0 && flags & (NAT_SRC | NAT_DST)) {
      this.ports = (dport << 16) | sport;
      return;
    }
    const first = ports >>> 16;
    const last = ports & 0xffff;
    const from = first + (offset % (last - first + 1));
    this.ports = flags & NAT_DST ? (from << 16) | sport : (dport << 16) | from;
  }

  /** Takes the address that a helper has promised, in ask words `address`, as the reply's source (end 0) or
   *  destination (end 1). */
  promise(
    words: Int32Array,
    c: number,
    a: number,
    end: number,
    address: number,
    partition: PartitionWriter,
  ): void {
    this.begin(partition, words, c, a, 0);
    for (let i = 0; i < 4; i++) this.address[i] = words[address + i];
    this.setAddress(end);
  }

  /** Writes the choice and `action` to the record in `slot`. */
  store(slot: number, action: number): void {
    const { nat } = this.partition;
    const n = slot << NAT_SHIFT;
    nat[n + NAT_AT.SRC] = this.src;
    nat[n + NAT_AT.DST] = this.dst;
    nat[n + NAT_AT.PORTS] = this.ports;
    nat[n + NAT_AT.ACTION] = action;
    if (this.ipv6) for (let i = 0; i < 8; i++) nat[n + NAT_AT.SRC6_0 + i] = this.addr6[i];
  }

  /** The reply tuple of a connection that is not translated. */
  private begin(partition: PartitionWriter, words: Int32Array, c: number, a: number, now: number): void {
    const ports = words[c + PORTS];
    this.partition = partition;
    this.now = now;
    this.ipv6 = a >= 0;
    this.zoneProto = words[c + ZONE_PROTO];
    this.replyZoneProto = replyZoneProto(this.zoneProto);
    this.src = words[c + DST];
    this.dst = words[c + SRC];
    this.ports = (ports << 16) | (ports >>> 16);
    if (a >= 0) for (let i = 0; i < 8; i++) this.addr6[i] = words[a + (i ^ 4)];
  }

  /** An address of the range, by hash. */
  private chooseAddress(words: Int32Array, c: number, a: number, ask: number, hash: number): void {
    const { address } = this;
    const flags = words[ask];
    const min = ask + ASK_MIN;
    const max = ask + ASK_MAX;
    if ((words[min] | words[min + 1] | words[min + 2] | words[min + 3]) === 0) {
      // All zero (0.0.0.0, or none given): the packet keeps its own.
      const end = flags & NAT_SRC ? 0 : flags & NAT_DST ? 1 : -1;
      address.fill(0);
      if (end < 0) return;
      if (a >= 0) for (let i = 0; i < 4; i++) address[i] = words[a + 4 * end + i];
      else address[0] = words[c + (end === 0 ? SRC : DST)];
      return;
    }
    if (!this.ipv6) {
      const range = (words[max] >>> 0) - (words[min] >>> 0) + 1;
      address[0] = words[min] + (hash % range);
      return;
    }
    let carry = hash % (delta6(words, min, max) + 1);
    for (let i = 3; i >= 0; i--) {
      const sum = (words[min + i] >>> 0) + carry;
      address[i] = sum;
      carry = sum > 0xffffffff ? 1 : 0;
    }
  }

  private setAddress(end: number): void {
    const { address, addr6, partition } = this;
    let word = address[0];
    if (this.ipv6) {
      for (let i = 0; i < 4; i++) addr6[4 * end + i] = address[i];
      word = fold6(partition.seed, address[0], address[1], address[2], address[3]);
    }
    if (end === 0) this.src = word;
    else this.dst = word;
  }

  private isFree(): boolean {
    const { partition, src, dst, ports, zoneProto } = this;
    const { replyZoneProto, now, seq } = this;
    const hash = tupleHash(partition.seed, src, dst, ports, zoneProto);
    const addr6 = this.ipv6 ? this.addr6 : null;
    return !partition.isTaken(hash, src, dst, ports, replyZoneProto, zoneProto, addr6, now, seq);
  }

  /** Tries ports from `port` on, then `min` to `max` round, in the reply's port that `mask` covers. Leaves
   *  `port` there when none is free. */
  private search(mask: number, port: number, min: number, max: number): boolean {
    const range = (max - min + 1) & 0xffff;
    let attempts = Math.min(range, MAX_ATTEMPTS);
    let from = port;
    for (;;) {
      // A first port outside its class is one more to try.
      let left = from < min || from > max ? max - min + 2 : max - min + 1;
      for (let i = 0; i < attempts && left > 0; i++, left--) {
        this.setPort(mask, from);
        if (this.isFree()) return true;
        from = from < min || from >= max ? min : from + 1;
      }
      if (attempts >= range || attempts < MIN_ATTEMPTS) break;
      attempts >>= 1;
      from = min + ((this.draw() >>> 0) % range);
    }
    this.setPort(mask, port);
    return false;
  }

  private setPort(mask: number, port: number): void {
    this.ports = (this.ports & ~mask) | (((port << 16) | port) & mask);
  }

  /** The next number of a sequence that the packet and its tuple begin. */
  private draw(): number {
    this.state = hashAdd(this.state, 1);
    return hashFinish(this.state, 0) | 0;
  }
}

/** Hash of the connection and the range, as Open vSwitch takes it; `sourceOnly` leaves out all but the
 *  source address, and the random start: then it is the very same number. */
export function rangeHash(words: Int32Array, c: number, a: number, ask: number, sourceOnly: boolean): number {
  const zoneProto = words[c + ZONE_PROTO];
  const proto = (zoneProto >>> 8) & 0xff;
  const ports = words[c + PORTS];
  let hash = sourceOnly ? 0 : BASIS;
  hash = addAddress(hash, words, a, 0, words[c + SRC]);
  if (!sourceOnly) {
    hash = hashAdd(hash, ports >>> 16);
    hash = addAddress(hash, words, a, 4, words[c + DST]);
    hash = hashAdd(hash, ports & 0xffff);
  }
  for (let i = ASK_MIN; i < ASK_PORTS; i++) hash = hashAdd(hash, swap32(words[ask + i]));
  const range = words[ask + ASK_PORTS];
  hash = hashAdd(hash, (range << 16) | (range >>> 16));
  hash = hashAdd(hash, a >= 0 ? 0xdd86 : 0x0008); // EtherType, in network order
  hash = hashAdd(hash, proto);
  return hashFinish(hashAdd(hash, zoneProto >>> 16), 0) | 0;
}

function addAddress(hash: number, words: Int32Array, a: number, from: number, ipv4: number): number {
  let h = hash;
  if (a >= 0) {
    for (let i = 0; i < 4; i++) h = hashAdd(h, swap32(words[a + from + i]));
    return h;
  }
  h = hashAdd(h, swap32(ipv4));
  for (let i = 1; i < 4; i++) h = hashAdd(h, 0);
  return h;
}

/** How far apart two IPv6 addresses are, as far as ranges go. */
function delta6(words: Int32Array, min: number, max: number): number {
  let delta = 0;
  for (let i = 0; i < 4; i++) {
    delta = delta * 0x100000000 + ((words[max + i] >>> 0) - (words[min + i] >>> 0));
  }
  return Math.min(delta, MAX_DELTA);
}
