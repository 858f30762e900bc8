/** Packets that open connections, without the engine: what it did with one such packet, for all that its megaflows
 *  can't tell apart from it.
 *
 *  An opening says of the TCP and UDP packets over IPv4 that agree with it in some bits of their headers: a ct() of
 *  this zone that finds no connection is followed by a commit of it in the same zone, or by none, and leads to this
 *  verdict. It is made from what the engine did (`learn`); the bits are those that the megaflows on the way looked at.
 *  Unlike a microflow entry it names no connection, so one of them serves a whole flow table's new connections.
 *
 *  What a megaflow does not say is looked at for each packet: that there is no connection, in the packet's turn; that
 *  its flags may open one (tcp.ts); that nobody expects it. A packet of which any of this is not so is the engine's,
 *  and nothing has been changed.
 *
 *  As in microflow.ts a vector goes through in two steps: one finds the openings, hashes the tuples and touches the
 *  buckets of the connection index, so that the misses overlap; the other, in packet order, looks there and makes the
 *  connection. It makes only those of which the coordinator need only be told (`ControlPlane.reserve`).
 *
 *  Private to its thread. Forgotten when the tables change. */
import * as flowKey from '../classifier/flow-key.js';
import { drawKeys, scatter, stir, tupleHash } from '../conntrack/hash.js';
import * as keys from '../conntrack/key.js';
import type { Partition } from '../conntrack/partition.js';
import { tagOf } from '../conntrack/partition.js';
import { tcpNew, tcpValidNew } from '../conntrack/tcp.js';
import * as timers from '../conntrack/timeouts.js';
import * as layouts from '../shm/layouts.js';
import type { PacketColumns } from '../shm/packets.js';
import * as headers from '../wire/extract.js';
import type { PacketContext } from './context.js';
import * as opcodes from './program.js';
import { opWords } from './program.js';
import type { Staging } from './staging.js';
import * as stagedKeys from './staging.js';

// Imported constants are loads from the other module's cells; local ones are folded into the code.
const { FLOW } = flowKey;
const { FTP_PORT, TFTP_PORT } = keys;
const { BUCKET_SHIFT, BUCKET_WAYS, COLD, CONN, CREATED_STEP, STATE_HAS_META, TAG_FREE } = layouts;
const { IPPROTO_TCP, IPPROTO_UDP } = headers;
const { OP_CLONE, OP_CONTROLLER, OP_CT, OP_CT_CLEAR, OP_END, OP_OUTPUT, OP_RECIRC, OP_STAT } = opcodes;
const { DEFAULT_TIMEOUTS_MS, TM_UDP_FIRST } = timers;
const { STAGED_KEY, VLAN_BAD_IP, VLAN_BAD_L4, VLAN_IPV6, VLAN_OTHER } = stagedKeys;
const { PORT_NW, SRC, DST, TP, ETH_0, ETH_1, ETH_2, VLAN } = STAGED_KEY.at;
const KEY_SHIFT = STAGED_KEY.shift;
const STAGED_WORDS = STAGED_KEY.words;
/** Packets that openings don't cover. */
const UNUSUAL = VLAN_BAD_IP | VLAN_BAD_L4 | VLAN_IPV6 | VLAN_OTHER;
const UDP_FIRST_MS = DEFAULT_TIMEOUTS_MS[TM_UDP_FIRST];

const C_SRC = CONN.at.SRC;
const C_DST = CONN.at.DST;
const C_PORTS = CONN.at.PORTS;
const C_ZONE_PROTO = CONN.at.ZONE_PROTO;
const C_STATE = CONN.at.STATE;
const C_EXPIRES = CONN.at.EXPIRES;
const C_PKTS_0 = CONN.at.PKTS_0;
const C_PKTS_1 = CONN.at.PKTS_1;
const C_BYTES_0 = CONN.at.BYTES_0;
const C_BYTES_1 = CONN.at.BYTES_1;
const HOT_SHIFT = CONN.shift;
const COLD_SHIFT = COLD.shift;
const { CARRY, CREATED, MARK } = COLD.at;
/** Mark and label, the first words of COLD. */
const META_WORDS = 5;

/** An opening: the bits that packets agree in, and which these are, … */
const O_VALUE = 0;
const O_MASK = STAGED_WORDS;
/** … its zone in bits 16 to 31; 1 if it commits; … */
const O_ZONE = 2 * STAGED_WORDS;
const O_COMMITS = O_ZONE + 1;
/** … which ct() that is, the verdict template, mark and label, whether one of these is not 0. */
const O_NTH = O_ZONE + 2;
const O_VERDICT = O_ZONE + 3;
const O_META = O_ZONE + 4;
const O_HAS_META = O_META + META_WORDS;
const O_SHIFT = 5;

/** Openings of one mask, by open addressing, at most half full; and masks. When there is no room, all is learned anew:
 *  flow tables that need more would rather be searched for in the engine's caches. */
const MOST = 512;
const MASKS = 8;
/** Drawn by each thread, so that nobody can prepare packets that collide. No result depends on them. */
const HASH_KEYS = drawKeys(STAGED_WORDS);

/** Openings with one mask. */
class Masked {
  readonly mask = new Int32Array(STAGED_WORDS);
  /** Opening + 1, by hash of the masked key. */
  readonly places = new Int32Array(2 * MOST);
}

function hashOf(words: Int32Array, at: number, mask: Int32Array): number {
  let h = 0;
  for (let w = 0; w < STAGED_WORDS; w++) h = (h + scatter(words[at + w] & mask[w], HASH_KEYS[w])) | 0;
  return stir(h) & (2 * MOST - 1);
}

/** Who gives slots for connections, and is told of what has been made in them. */
export interface Slots {
  /** A slot for a connection that can't be refused, or -1. */
  grant(): number;
  /** The packet in window slot `row` has made a connection in `slot`; `hash` is that of its tuple. */
  made(row: number, slot: number, hash: number): void;
}

export class Openings {
  private readonly partition: Partition;
  private readonly packets: PacketColumns;
  private readonly staging: Staging;
  private readonly slots: Slots;
  private readonly words = new Int32Array(MOST << O_SHIFT);
  private n = 0;
  private masked: Masked[] = [];
  /** First word of the opening that was found last. */
  private last = 0;
  /** Of each staged packet: first word of its opening, or -1; and the hash of its tuple. */
  private readonly found: Int32Array;
  private readonly hashes: Int32Array;
  /** Whether `found` says something of the staged vector. */
  private any = false;
  /** Keeps the loads of `stage` alive. */
  sink = 0;
  /** Connections made since the caller set it to 0. */
  commits = 0;

  constructor(partition: Partition, packets: PacketColumns, staging: Staging, slots: Slots, vector: number) {
    this.partition = partition;
    this.packets = packets;
    this.staging = staging;
    this.slots = slots;
    this.found = new Int32Array(vector);
    this.hashes = new Int32Array(vector);
  }

  /** Forgets everything, whatever is staged. */
  clear(): void {
    this.n = this.last = 0;
    this.masked = [];
    this.any = false;
  }

  /** The first step, for the `n` packets of the staged vector without a microflow entry: `missed` lists them. */
  stage(missed: Int32Array, nMissed: number, n: number): void {
    this.any = nMissed > 0 && this.n > 0;
    if (!this.any) return;
    const { words, found, partition, staging, hashes } = this;
    const { keys } = staging;
    const { index, base, mask, seed } = partition;
    found.fill(-1, 0, n);
    for (let j = 0; j < nMissed; j++) {
      const i = missed[j];
      const k = i << KEY_SHIFT;
      const ports = keys[k + TP];
      // ct() calls them invalid.
      if (staging.hashes[i] === 0 || ports >>> 16 === 0 || (ports & 0xffff) === 0) continue;
      if (isHelpers(ports)) continue;
      let o = this.last;
      if (!agrees(words, o, keys, k)) {
        o = this.find(k);
        if (o < 0) continue;
        this.last = o;
      }
      const zoneProto = words[o + O_ZONE] | (keys[k + PORT_NW] & 0xff00);
      const hash = tupleHash(seed, keys[k + SRC], keys[k + DST], ports, zoneProto);
      found[i] = o;
      hashes[i] = hash;
    }
    // By itself: with so much between two loads, few of them would be under way at a time.
    let sink = 0;
    for (let j = 0; j < nMissed; j++) sink ^= index[base + ((hashes[missed[j]] & mask) << BUCKET_SHIFT)];
    this.sink = sink;
  }

  private find(k: number): number {
    const { words, staging, masked } = this;
    const { keys } = staging;
    for (let m = 0; m < masked.length; m++) {
      const { mask, places } = masked[m];
      for (let at = hashOf(keys, k, mask); places[at] !== 0; at = (at + 1) & (places.length - 1)) {
        const o = (places[at] - 1) << O_SHIFT;
        if (agrees(words, o, keys, k)) return o;
      }
    }
    return -1;
  }

  /** The second step for packet `i` of the staged vector, in window slot `row`: its verdict template, or -1, and
   *  nothing has been done. */
  run(i: number, row: number): number {
    if (!this.any) return -1;
    const o = this.found[i];
    if (o < 0) return -1;
    const { words, partition, staging, packets } = this;
    const { keys } = staging;
    const k = i << KEY_SHIFT;
    const src = keys[k + SRC];
    const dst = keys[k + DST];
    const ports = keys[k + TP];
    const proto = (keys[k + PORT_NW] >>> 8) & 0xff;
    const zoneProto = words[o + O_ZONE] | (proto << 8);
    const now = packets.clock[row];
    const hash = this.hashes[i];
    const l4 = staging.l4s[i];
    if (proto === IPPROTO_TCP && !tcpValidNew(staging.view.getUint8(l4 + 13))) return -1;
    if (this.mayBe(hash) && partition.find(hash, src, dst, ports, zoneProto, zoneProto, null, now) >= 0) {
      return -1;
    }
    if (words[o + O_COMMITS] !== 0) {
      const slot = this.slots.grant();
      if (slot < 0) return -1;
      const { hot, hotF64, cold, coldF64 } = partition;
      // CREATED before EXPIRES, as in Coordinator.commit.
      const m = slot << COLD_SHIFT;
      for (let w = 0; w < META_WORDS; w++) cold[m + MARK + w] = words[o + O_META + w];
      cold[m + CARRY] = 0;
      coldF64[(m + CREATED) >> 1] = packets.seq[row] + words[o + O_NTH] / CREATED_STEP;
      const c = slot << HOT_SHIFT;
      hot[c + C_SRC] = src;
      hot[c + C_DST] = dst;
      hot[c + C_PORTS] = ports;
      hot[c + C_ZONE_PROTO] = zoneProto;
      hot[c + C_PKTS_0] = 1;
      hot[c + C_PKTS_1] = 0;
      hot[c + C_BYTES_0] = staging.l3Sizes[i];
      hot[c + C_BYTES_1] = 0;
      if (proto === IPPROTO_TCP) {
        const { view } = staging;
        const payload = staging.l4Sizes[i] - ((view.getUint8(l4 + 12) >>> 4) << 2);
        tcpNew(hot, hotF64, c, view, l4, payload, now);
      } else {
        for (let w = C_STATE; w < C_EXPIRES; w++) hot[c + w] = 0;
        hotF64[(c + C_EXPIRES) >> 1] = now + UDP_FIRST_MS;
      }
      if (words[o + O_HAS_META] !== 0) hot[c + C_STATE] |= STATE_HAS_META;
      this.slots.made(row, slot, hash);
      this.commits++;
    }
    const verdict = words[o + O_VERDICT];
    packets.verdict[row] = verdict;
    return verdict;
  }

  /** Whether the index may have the tuple: not if its bucket has a free way and no such tag. */
  private mayBe(hash: number): boolean {
    const { index, base, mask } = this.partition;
    const b = base + ((hash & mask) << BUCKET_SHIFT);
    const tag = tagOf(hash);
    for (let way = 0; way < BUCKET_WAYS; way++) {
      const t = index[b + way];
      if (t === TAG_FREE) return false;
      if (t === tag) return true;
    }
    return true;
  }

  /** Takes note of what the engine has done with packet `i` of the staged vector, if others may be done so too. */
  learn(i: number, ctx: PacketContext, verdict: number): void {
    const { staging } = this;
    const { keys } = staging;
    if (staging.hashes[i] === 0 || !isOpening(ctx)) return;
    const k = i << KEY_SHIFT;
    const proto = (keys[k + PORT_NW] >>> 8) & 0xff;
    if ((proto !== IPPROTO_TCP && proto !== IPPROTO_UDP) || (keys[k + VLAN] & UNUSUAL) !== 0) return;
    const mask = maskOf(ctx);
    let masked = this.masked.find((m) => m.mask.every((bits, w) => bits === mask[w]));
    if (this.n === MOST || (masked === undefined && this.masked.length === MASKS)) {
      this.clear();
      masked = undefined;
    }
    if (masked === undefined) {
      masked = new Masked();
      masked.mask.set(mask);
      this.masked.push(masked);
    }
    const { places } = masked;
    const { words } = this;
    let at = hashOf(keys, k, mask);
    for (; places[at] !== 0; at = (at + 1) & (places.length - 1)) {
      if (agrees(words, (places[at] - 1) << O_SHIFT, keys, k)) return;
    }
    const o = this.n++ << O_SHIFT;
    places[at] = this.n;
    for (let w = 0; w < STAGED_WORDS; w++) {
      words[o + O_VALUE + w] = keys[k + w] & mask[w];
      words[o + O_MASK + w] = mask[w];
    }
    words[o + O_ZONE] = ctx.opensIn << 16;
    words[o + O_COMMITS] = ctx.opened >= 0 ? 1 : 0;
    words[o + O_NTH] = ctx.openedNth;
    words[o + O_VERDICT] = verdict;
    let any = 0;
    for (let w = 0; w < META_WORDS; w++) {
      const value = ctx.opened < 0 ? 0 : this.partition.cold[(ctx.opened << COLD_SHIFT) + MARK + w];
      words[o + O_META + w] = value;
      any |= value;
    }
    words[o + O_HAS_META] = any;
  }
}

/** Whether the key at word `k` has the bits of the opening at `o`. */
function agrees(words: Int32Array, o: number, keys: Int32Array, k: number): boolean {
  let differ = 0;
  for (let w = 0; w < STAGED_WORDS; w++) {
    differ |= (keys[k + w] & words[o + O_MASK + w]) ^ words[o + O_VALUE + w];
  }
  return differ === 0;
}

/** Whether the engine has done with the packet what it does with all that its megaflows cover, as long as they open
 *  connections. */
function isOpening(ctx: PacketContext): boolean {
  if (ctx.opensIn < 0 || !ctx.foldable || ctx.nSteps > 0 || ctx.nInvalid > 0 || ctx.nFrames > 0) return false;
  if (isHelpers(ctx.key[FLOW.TP])) return false;
  for (let j = 0; j < ctx.nMegaflows; j++) if (!isUniform(ctx.megaflows[j].program)) return false;
  return true;
}

/** Whether helpers look at packets with these ports, asked for or not: a second ct() of a zone does not pass them by. */
function isHelpers(ports: number): boolean {
  const dport = ports & 0xffff;
  return dport === FTP_PORT || dport === TFTP_PORT || ports >>> 16 === FTP_PORT;
}

/** Whether the program does the same with all packets: nothing in it goes by a hash, or is decided in order. */
function isUniform(program: Int32Array): boolean {
  for (let pc = 0; pc < program.length; pc += opWords(program, pc)) {
    switch (program[pc]) {
      case OP_CLONE:
      case OP_CONTROLLER:
      case OP_CT:
      case OP_CT_CLEAR:
      case OP_END:
      case OP_OUTPUT:
      case OP_RECIRC:
      case OP_STAT:
        continue;
      default:
        return false;
    }
  }
  return true;
}

/** The bits of a staged key that the packet's megaflows have looked at. The original tuple of a packet without a
 *  connection is its own; what else ct() says is the same for all that open one. */
function maskOf(ctx: PacketContext): Int32Array {
  const mask = new Int32Array(STAGED_WORDS);
  mask[PORT_NW] = 0xff00;
  mask[VLAN] = -1;
  for (let j = 0; j < ctx.nMegaflows; j++) {
    const m = ctx.megaflows[j].mask;
    if (m[FLOW.IN_PORT] !== 0) mask[PORT_NW] |= 0xffff0000;
    mask[PORT_NW] |= (m[FLOW.NW] >>> 16) & 0xff;
    mask[SRC] |= m[FLOW.NW_SRC] | m[FLOW.CT_NW_SRC];
    mask[DST] |= m[FLOW.NW_DST] | m[FLOW.CT_NW_DST];
    mask[TP] |= m[FLOW.TP] | m[FLOW.CT_TP];
    mask[ETH_0] |= m[FLOW.ETH_DST_HI];
    mask[ETH_1] |= m[FLOW.ETH_DST_LO_SRC_HI];
    mask[ETH_2] |= m[FLOW.ETH_SRC_LO];
  }
  return mask;
}
