/** Microflow cache of one worker: the vectorised shortcut for packets of known connections.
 *
 *  An entry folds a packet's whole way through the datapath, all passes and all ct(), into one exact
 *  match: which connections it goes through, the ct_state that each must say, how the frame is changed, and
 *  the verdict. It stands as long as they do say it. The engine (`engine.ts`) is the truth: entries are made
 *  from what it did, and whatever an entry can't vouch for is left to it, before anything has been changed.
 *
 *  A vector goes through in stages, each a small loop, so that the cache misses of different packets
 *  overlap: parse and verify checksums (`staging.ts`); touch the buckets; find and touch the entries; compare
 *  them and touch the connections. The last stage, in the shard, is in packet order and is the only one that changes anything.
 *
 *  Entries cover TCP, UDP and ICMP echo over IPv4 and IPv6, and whatever has no ports over IPv4, unfragmented,
 *  through at most four connections, translated or not, with changes to addresses, ports and other header
 *  fields. An entry is one cache line; what not all need is in other arrays beside it (EXTRA, MORE). Entries lie in
 *  the order in which they were made, and are found through an index of buckets, a cache line each: so what is
 *  searched is a fifth of what is found, and connections of one time lie together.
 *
 *  How an entry knows a connection again, whose slot may have been given to another:
 *  - by its tuple, if that is the packet's, and nothing else is to be known about it: the hot half is all
 *    that is touched;
 *  - else by CREATED, a number that no two connections share, beside which mark and label lie.
 *
 *  A packet's connection could change under an entry in one more way: a younger connection gets the same
 *  tuple (see `Partition.find`). The coordinator counts when that happens (`Partition.conflicts`); then all
 *  is forgotten.
 *
 *  Private to its thread. */
import * as flowKey from '../classifier/flow-key.js';
import * as megaflows from '../classifier/megaflow.js';
import * as keys from '../conntrack/key.js';
import type { Partition } from '../conntrack/partition.js';
import * as tcp from '../conntrack/tcp.js';
import { tcpTimer, tcpUpdate } from '../conntrack/tcp.js';
import * as timers from '../conntrack/timeouts.js';
import { timerBlock } from '../conntrack/timeouts.js';
import * as updates from '../conntrack/verdict.js';
import { allocatePrivate } from '../shm/aligned.js';
import * as layouts from '../shm/layouts.js';
import type { PacketColumns } from '../shm/packets.js';
import { record } from '../shm/record.js';
import * as headers from '../wire/extract.js';
import { FrameLayout } from '../wire/extract.js';
import * as traces from './context.js';
import * as editing from './edit.js';
import { applyEdits, applyPatch, compilePatch } from './edit.js';
import type { FrameStore } from './frames.js';
import * as frameRecords from './frames.js';
import type { Recorder } from './recorder.js';
import * as stagedKeys from './staging.js';
import { Staging } from './staging.js';
import * as counters from './stats.js';
import * as translations from './translated.js';
import { copyWords, FrameTranslator, isShort } from './translated.js';

// Imported constants are loads from the other module's cells; local ones are folded into the code.
const { FLOW, KEY_WORDS } = flowKey;
const { FTP_PORT, TFTP_PORT } = keys;
const {
  MAX_ACK_WINDOW,
  TCP_ACK,
  TCP_FIN,
  TCP_RST,
  TCP_SYN,
  TCPS_CLOSING,
  TCPS_SYN_SENT,
  WSCALE_KNOWN,
  WSCALE_MAX,
  WSCALE_SHIFT,
  WSCALE_UNKNOWN,
} = tcp;
const { TM_ICMP_FIRST, TM_ICMP_REPLY, TM_UDP_MULTIPLE, TM_UDP_SINGLE } = timers;
const { UPDATE_INVALID, UPDATE_VALID, UPDATE_VALID_NEW } = updates;
const { COLD, CONN, NAT, RECORD, STATE_CHILD, STATE_FTP, STATE_HAS_META, STATE_SPECIAL, STATE_TFTP } =
  layouts;
const { STATE_TRANSLATED } = layouts;
const { ETH_TYPE_IP, ETH_TYPE_IPV6, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP } = headers;
const { MAX_TRACED, STEP_EST, STEP_EST_RPL, STEP_INV, STEP_NEW } = traces;
if (STEP_EST_RPL !== STEP_EST + 1) throw new Error('microflow: a reply must be one step on');
const { FRAME_DATA_OFF } = frameRecords;
const { PATCH } = editing;
const PATCH_WORDS = Object.keys(PATCH.at).length;
const { INVALID_0 } = counters.STAT;
const { CHANGE_SHIFT } = translations;
const { STAGED_ADDR6, STAGED_KEY, VLAN_BAD_IP, VLAN_BAD_L4, VLAN_IPV6, VLAN_OTHER } = stagedKeys;
const { FOLDS_IP, FOLDS_OTHER } = megaflows;

/** An entry: one cache line. It begins with a packet's STAGED_KEY. */
const ENTRY = record(
  'PORT_NW',
  'SRC',
  'DST',
  'TP',
  'ETH_0',
  'ETH_1',
  'ETH_2',
  'VLAN',
  'CONN_0', //     slot << 1 | reply
  'ZONE_PROTO_0',
  'CONN_1',
  'ZONE_PROTO_1',
  'STEPS', //      what each is to say, as PacketContext.steps
  'VERDICT', //    template
  'INFO', //       INFO_* below
  'HASH',
);
const { PORT_NW, SRC, DST, TP, VLAN } = ENTRY.at;
const { ETH_0, CONN_0, ZONE_PROTO_0, STEPS, VERDICT, INFO, HASH } = ENTRY.at;
/** With INFO_TRANSLATED: what the address and the ports become. */
const NEW_ADDRESS = ENTRY.at.CONN_1;
const NEW_TP = ENTRY.at.ZONE_PROTO_1;
const SHIFT = ENTRY.shift;
const KEY_SHIFT = STAGED_KEY.shift;
const STAGED_WORDS = STAGED_KEY.words;
const ADDR6_WORDS = STAGED_ADDR6;
const IPV6_BIT = VLAN_IPV6;

/** INFO: connections in bits 0-2, … */
const INFO_CONNS = 7;
/** … whether there is more to it than one connection known by its tuple, … */
const INFO_GENERAL = 8;
/** … whether it has EXTRA, … */
const INFO_EXTRA = 16;
/** … whether the frame is changed, … */
const INFO_EDITED = 32;
/** … in a way that is a PATCH, … */
const INFO_PATCH = 64;
/** … whether it has MORE beside EXTRA, … */
const INFO_MORE = 128;
/** … of each connection, two bits from INFO_KNOWN on: whether it is known by CREATED, and then whether it
 *  has a mark or label; … */
const INFO_KNOWN = 8;
/** … or, without INFO_GENERAL, that the connection translates it, the source or the destination: NEW_*; … */
const INFO_TRANSLATED = 1 << 15;
const INFO_DESTINATION = 1 << 14;
/** … how many ct() call the packet invalid, and why (INVALID_*); … */
const INFO_INVALID = 16;
const MAX_INVALID = 0xff;
const INFO_REASON = 24;
/** … and the number of STEPS. */
const INFO_STEPS = 28;

/** A bit of VLAN that no packet has: of entries for segments that a connection calls invalid. They stand beside those of
 *  the same packets when they are valid. */
const VLAN_INVALID = 0x02000000;
/** What the hashes of such entries differ by. */
const INVALID_HASH = 0x5bd1e995;
/** `runGeneral`: some connection calls the segment invalid, which the entry doesn't. */
const REJECTED = -2;
const KNOWN_BY_CREATED = 1;
const KNOWN_META = 2;
/** KNOWN_BY_CREATED of the connections but the first. */
const OTHERS_KNOWN = 0b01010100;

/** Of plain entries: number of the entry of the same packets when their connection calls them invalid. A hint: what is there
 *  is compared. */
const TWIN = ENTRY.at.CONN_1;
/** What INFO is of an entry of packets that one connection calls invalid, known by its tuple, and that goes by no other. */
const TWIN_INFO =
  INFO_CONNS |
  INFO_EDITED |
  INFO_PATCH |
  (0xff << INFO_KNOWN) |
  (MAX_INVALID << INFO_INVALID) |
  (15 << INFO_STEPS);
const TWIN_IS = 1 | (1 << INFO_INVALID) | (1 << INFO_STEPS);

/** EXTRA of an entry, a cache line: the caller's tag, … */
const X_SHIFT = 4;
const X_TAG = 0;
/** … CREATED of its first connection, … */
const X_CREATED_0 = 1;
/** … changes to the frame, if they are a PATCH (edit.ts), … */
const X_PATCH = 3;
/** … its third and fourth connection, and their zones. */
const X_CONN_2 = 13;
const X_ZONES = 15;

/** MORE, 64 words, what few need: other changes to the frame, … */
const M_SHIFT = 6;
const M_EDITS = 0;
const M_N_EDITS = 28;
/** … CREATED of connections 1 to 3, … */
const M_CREATED_1 = 32;
/** … the rest of the key of an IPv6 packet, … */
const M_ADDR6 = 38;
/** … mark and label of connections 0 to 2. */
const M_META = 44;
const META_WORDS = 5;
const MAX_META = 3;

const C_SRC = CONN.at.SRC;
const C_DST = CONN.at.DST;
const C_PORTS = CONN.at.PORTS;
const C_ZONE_PROTO = CONN.at.ZONE_PROTO;
const C_STATE = CONN.at.STATE;
const C_WINS = CONN.at.WINS;
const C_SEQLO_0 = CONN.at.SEQLO_0;
/** The tuple of the replies, once an entry has needed it, of connections other than TCP's: see `isTranslation`. */
const C_REPLY = C_SEQLO_0;
const C_EXPIRES_F64 = CONN.at.EXPIRES >> 1;
const C_PKTS_0 = CONN.at.PKTS_0;
const C_BYTES_0 = CONN.at.BYTES_0;
const HOT_SHIFT = CONN.shift;
const RECORD_SHIFT = RECORD.shift;
/** Words to the second cache line of a record: packets in order touch two. */
const RECORD_LINE = 16;
const MARK = COLD.at.MARK;
const CREATED = COLD.at.CREATED;
const CARRY = COLD.at.CARRY;
const COLD_SHIFT = COLD.shift;
const NAT_SHIFT = NAT.shift;
if (NAT.at.SRC !== 0 || NAT.at.DST !== 1 || NAT.at.PORTS !== 2)
  throw new Error('microflow: a tuple comes first');
/** Words of a hot record that a packet may change, counters apart: STATE to EXPIRES. */
const STEPPED_WORDS = CONN.at.PKTS_0 - CONN.at.STATE;

/** A bucket: 8 hashes, 0 for none, and then the first words of their entries. A search begins at the way that the
 *  hash's upper bits name and goes round; a bucket that is full sends it on to the next. There are twice as many
 *  ways as entries. */
const BUCKET_SHIFT = 4;
const WAYS = 8;
const FIRST_ENTRIES = 1 << 10;
const MAX_ENTRIES = 1 << 21;
const NO_EXTRA: Int32Array = new Int32Array(0);

/** What entries of any packet cover: where it came from, what it has been through, its Ethernet header. */
const LINK_WORDS = [
  FLOW.IN_PORT,
  FLOW.RECIRC_ID,
  FLOW.CT_STATE,
  FLOW.CT_ZONE,
  FLOW.CT_MARK,
  FLOW.CT_LABEL_0,
  FLOW.CT_LABEL_1,
  FLOW.CT_LABEL_2,
  FLOW.CT_LABEL_3,
  FLOW.ETH_DST_HI,
  FLOW.ETH_DST_LO_SRC_HI,
  FLOW.ETH_SRC_LO,
  FLOW.ETH_TYPE,
  FLOW.VLAN_0,
];

/** Bits of a megaflow's mask that an entry's key, or what it checks, covers. */
const COVERED = new Int32Array(KEY_WORDS);
for (const w of [
  ...LINK_WORDS,
  FLOW.VLAN_1,
  FLOW.NW_SRC,
  FLOW.NW_DST,
  FLOW.IPV6_SRC_0,
  FLOW.IPV6_SRC_1,
  FLOW.IPV6_SRC_2,
  FLOW.IPV6_SRC_3,
  FLOW.IPV6_DST_0,
  FLOW.IPV6_DST_1,
  FLOW.IPV6_DST_2,
  FLOW.IPV6_DST_3,
  FLOW.TP,
  FLOW.CT_NW_SRC,
  FLOW.CT_NW_DST,
  FLOW.CT_TP,
  FLOW.CT_NW_PROTO,
  FLOW.CT_IPV6_SRC_0,
  FLOW.CT_IPV6_SRC_1,
  FLOW.CT_IPV6_SRC_2,
  FLOW.CT_IPV6_SRC_3,
  FLOW.CT_IPV6_DST_0,
  FLOW.CT_IPV6_DST_1,
  FLOW.CT_IPV6_DST_2,
  FLOW.CT_IPV6_DST_3,
]) {
  COVERED[w] = -1;
}
COVERED[FLOW.NW] = ~0xff00; // all but the TTL

/** The same of packets that are not IP: of what they carry, nothing. */
const COVERED_OTHER = new Int32Array(KEY_WORDS);
for (const w of LINK_WORDS) COVERED_OTHER[w] = -1;

/** Which entries can stand for a megaflow with this mask: FOLDS_*. */
export function coveredBy(mask: Int32Array): number {
  let folds = FOLDS_IP | FOLDS_OTHER;
  for (let w = 0; w < KEY_WORDS; w++) {
    if ((mask[w] & ~COVERED[w]) !== 0) folds &= ~FOLDS_IP;
    if ((mask[w] & ~COVERED_OTHER[w]) !== 0) folds &= ~FOLDS_OTHER;
  }
  return folds;
}

/** Whether these bits of a flow key word are the same for all packets of an entry. */
export function isCovered(word: number, bits: number): boolean {
  return (bits & ~COVERED[word]) === 0;
}

/** Zeroed words that begin on a cache line. */
function allocateWords(n: number): Int32Array {
  return new Int32Array(allocatePrivate(n * 4), 0, n);
}

/** Words of the index of so many entries. */
function indexWords(entries: number): number {
  return ((entries * 2) / WAYS) << BUCKET_SHIFT;
}

/** First word of the first entry that has this hash, or -1. Hash 0 has none. */
function candidate(index: Int32Array, bucketMask: number, hash: number): number {
  for (let bucket = hash & bucketMask; ; bucket = (bucket + 1) & bucketMask) {
    const b = bucket << BUCKET_SHIFT;
    for (let p = 0; p < WAYS; p++) {
      const way = b + (((hash >>> 29) + p) & (WAYS - 1));
      const h = index[way];
      if (h === 0) return -1;
      if (h === hash) return index[way + WAYS];
    }
  }
}

/** Enters the entry at word `e`. */
function enter(index: Int32Array, bucketMask: number, hash: number, e: number): void {
  for (let bucket = hash & bucketMask; ; bucket = (bucket + 1) & bucketMask) {
    const b = bucket << BUCKET_SHIFT;
    for (let p = 0; p < WAYS; p++) {
      const way = b + (((hash >>> 29) + p) & (WAYS - 1));
      if (index[way] !== 0) continue;
      index[way] = hash;
      index[way + WAYS] = e;
      return;
    }
  }
}

/** TCP step of a segment of `l4Size` bytes at `l4` that passes all checks and changes neither peer's state: see
 *  `tcpUpdate`, of which this is the common case. Returns the timer that it starts anew; -1, and nothing changed, for
 *  all others. */
export function tcpStep(
  hot: Int32Array,
  c: number,
  reply: number,
  state: number,
  view: DataView,
  l4: number,
  l4Size: number,
): number {
  const srcState = (state >>> (reply << 2)) & 15;
  const dstState = (state >>> ((reply ^ 1) << 2)) & 15;
  // An acknowledgement moves a peer out of these two states.
  if (srcState < TCPS_SYN_SENT || dstState === TCPS_SYN_SENT || dstState === TCPS_CLOSING) return -1;
  const offFlagsWin = view.getInt32((l4 + 12) | 0);
  if (((offFlagsWin >>> 16) & (TCP_SYN | TCP_FIN | TCP_RST | TCP_ACK)) !== TCP_ACK) return -1;
  const payload = (l4Size - ((offFlagsWin >>> 28) << 2)) | 0;
  const wins = hot[c + C_WINS];
  const srcWin = reply === 0 ? wins & 0xffff : wins >>> 16;
  const dstWin = reply === 0 ? wins >>> 16 : wins & 0xffff;
  const srcScale = reply === 0 ? state >>> 8 : state >>> 16;
  const dstScale = reply === 0 ? state >>> 16 : state >>> 8;
  let sws = 0;
  let dws = 0;
  if (srcScale & dstScale & WSCALE_KNOWN) {
    sws = srcScale & WSCALE_SHIFT;
    dws = dstScale & WSCALE_SHIFT;
  } else if (srcScale & dstScale & WSCALE_UNKNOWN) {
    sws = dws = WSCALE_MAX;
  }
  const src = c + C_SEQLO_0 + (reply << 1);
  const dst = c + C_SEQLO_0 + ((reply ^ 1) << 1);
  const srcLo = hot[src];
  const srcHi = hot[src + 1];
  const ack = view.getInt32((l4 + 8) | 0);
  const win = offFlagsWin & 0xffff;
  // Segments without data are let off the sequence check.
  const seq = payload === 0 ? srcLo : view.getInt32((l4 + 4) | 0);
  const end = (seq + payload) | 0;
  const ackSkew = (hot[dst] - ack) | 0;
  if (
    ((srcHi - end) | 0) < 0 ||
    ((seq - ((srcLo - (dstWin << dws)) | 0)) | 0) < 0 ||
    ackSkew < -MAX_ACK_WINDOW ||
    ackSkew > MAX_ACK_WINDOW << sws
  ) {
    return -1;
  }
  if (win > srcWin) hot[c + C_WINS] = reply === 0 ? win | (dstWin << 16) : dstWin | (win << 16);
  if (((end - srcLo) | 0) > 0) hot[src] = end;
  const scaled = win << sws;
  if (((ack + scaled - hot[dst + 1]) | 0) >= 0) hot[dst + 1] = (ack + (scaled === 0 ? 1 : scaled)) | 0;
  return tcpTimer(srcState, dstState);
}

/** Whether the connection at word `c` has the packet's tuple in direction `reply`, and in the other one that of the packet
 *  as it is to become, turned round. The tuple of its replies is at word `r` of `of`. */
function isTranslation(
  hot: Int32Array,
  c: number,
  of: Int32Array,
  r: number,
  reply: number,
  src: number,
  dst: number,
  tp: number,
  newSrc: number,
  newDst: number,
  newTp: number,
): boolean {
  const turned = (newTp << 16) | (newTp >>> 16);
  if (reply === 0) {
    return (
      hot[c + C_SRC] === src &&
      hot[c + C_DST] === dst &&
      hot[c + C_PORTS] === tp &&
      of[r] === newDst &&
      of[r + 1] === newSrc &&
      of[r + 2] === turned
    );
  }
  return (
    of[r] === src &&
    of[r + 1] === dst &&
    of[r + 2] === tp &&
    hot[c + C_SRC] === newDst &&
    hot[c + C_DST] === newSrc &&
    hot[c + C_PORTS] === turned
  );
}

/** What the engine did with a packet, for making an entry. */
export interface Trace {
  /** Nothing but covered matches, steady connections, plain outputs, and changes that are in `edits`. */
  readonly foldable: boolean;
  readonly nConns: number;
  readonly conns: Int32Array;
  readonly steps: number;
  readonly nSteps: number;
  /** Copies of the frame that were made, and the changes to it if there was one. */
  readonly nFrames: number;
  readonly edits: Int32Array;
  readonly nEdits: number;
  /** How many ct() called it invalid, all for this reason. */
  readonly nInvalid: number;
  readonly invalid: number;
}

export class MicroflowCache {
  private entries: Int32Array = allocateWords(FIRST_ENTRIES << SHIFT);
  /** EXTRA of each entry, once one has needed it. */
  private extra: Int32Array = NO_EXTRA;
  private more: Int32Array = NO_EXTRA;
  /** Entries that there is room for, and that there are. */
  private room = FIRST_ENTRIES;
  private nEntries = 0;
  private index: Int32Array = allocateWords(indexWords(FIRST_ENTRIES));
  private bucketMask = (indexWords(FIRST_ENTRIES) >> BUCKET_SHIFT) - 1;
  /** Entries made so far; and when the vector was staged. */
  private made = 0;
  private stagedMade = 0;
  /** Conflicts of the partition that are known of. */
  private conflicts = 0;
  private readonly partition: Partition;
  private readonly packets: PacketColumns;
  private readonly frames: FrameStore;
  readonly staging: Staging;
  private readonly arenaU8: Uint8Array;
  private readonly arenaWords: Int32Array;
  /** Counters of the engine (STAT); here only why packets are invalid. */
  private readonly stats: Float64Array;
  /** First word of each staged packet's entry, or -1. */
  private readonly found: Int32Array;
  /** Positions of staged packets that have none: the first `nMissed` elements. */
  readonly missed: Int32Array;
  nMissed = 0;
  /** Who keeps records of connections. */
  recorder: Recorder | null = null;
  /** Keeps the loads of the touching stages alive. */
  sink = 0;

  // The packet being run.
  private readonly conns = new Int32Array(MAX_TRACED);
  private readonly saved = new Int32Array(MAX_TRACED * STEPPED_WORDS);
  private readonly layout = new FrameLayout();
  private readonly key = new Int32Array(KEY_WORDS);
  /** Translates what `runPlain` has run. */
  private readonly translator: FrameTranslator;
  /** Window slots of the staged vector. */
  private slots: Int32Array = NO_EXTRA;

  constructor(
    partition: Partition,
    packets: PacketColumns,
    frames: FrameStore,
    arena: SharedArrayBuffer,
    vector: number,
    stats: Float64Array,
  ) {
    this.stats = stats;
    this.partition = partition;
    this.packets = packets;
    this.frames = frames;
    this.staging = new Staging(packets, arena, vector, partition.seed);
    this.arenaU8 = new Uint8Array(arena);
    this.arenaWords = new Int32Array(arena, 0, arena.byteLength >> 2);
    this.found = new Int32Array(vector);
    this.missed = new Int32Array(vector);
    this.translator = new FrameTranslator(this.staging, packets, frames, arena, vector);
  }

  /** ct() takes checksums for right. */
  set vlanLimit(n: number) {
    this.staging.vlanLimit = n;
  }

  set ignoreChecksums(on: boolean) {
    this.staging.ignoreChecksums = on;
  }

  /** Forgets everything, whatever is staged. */
  clear(): void {
    this.nEntries = 0;
    this.anyInvalid = false;
    this.found.fill(-1);
    if (this.room === FIRST_ENTRIES) {
      this.index.fill(0);
      return;
    }
    this.room = FIRST_ENTRIES;
    this.entries = allocateWords(FIRST_ENTRIES << SHIFT);
    this.extra = NO_EXTRA;
    this.more = NO_EXTRA;
    this.index = allocateWords(indexWords(FIRST_ENTRIES));
    this.bucketMask = (indexWords(FIRST_ENTRIES) >> BUCKET_SHIFT) - 1;
  }

  /** Forgets everything if a connection has got the tuple of another. A thread that commits by itself asks after
   *  each; all others see it when a vector is staged. */
  noticeConflicts(): void {
    if (this.partition.conflicts === this.conflicts) return;
    this.conflicts = this.partition.conflicts;
    this.clear();
  }

  /** Stages 1 to 4 for the packets in `slots[0..n)`. Changes nothing that anyone can see. */
  stage(slots: Int32Array, n: number): void {
    this.staging.parse(slots, n);
    this.lookUp(slots, n);
  }

  /** Stages 2 to 4, of packets that `staging` has parsed. */
  lookUp(slots: Int32Array, n: number): void {
    const { partition, staging, found, missed } = this;
    this.noticeConflicts();
    this.slots = slots;
    const { entries, index, bucketMask } = this;
    const { hashes } = staging;
    const { hot, nat } = partition;
    const records = this.recorder === null ? null : partition.records;
    let sink = 0;
    for (let i = 0; i < n; i++) sink ^= index[(hashes[i] & bucketMask) << BUCKET_SHIFT];
    for (let i = 0; i < n; i++) {
      const e = candidate(index, bucketMask, hashes[i]);
      found[i] = e;
      if (e >= 0) sink ^= entries[e];
    }
    let nMissed = 0;
    for (let i = 0; i < n; i++) {
      let e = found[i];
      if (e >= 0 && !this.sameKey(e, i)) {
        e = this.find(i, hashes[i]);
        found[i] = e;
      }
      if (e < 0) {
        missed[nMissed++] = i;
        continue;
      }
      const slot = entries[e + CONN_0] >> 1;
      const info = entries[e + INFO];
      sink ^= hot[slot << HOT_SHIFT];
      if (records !== null) {
        sink ^= records[slot << RECORD_SHIFT] ^ records[(slot << RECORD_SHIFT) + RECORD_LINE];
      }
      if ((info & (INFO_GENERAL | INFO_TRANSLATED)) === 0) continue;
      if (info & INFO_GENERAL) sink ^= this.touch(e);
      else if (((entries[e + ZONE_PROTO_0] >>> 8) & 0xff) === IPPROTO_TCP) sink ^= nat[slot << NAT_SHIFT];
    }
    this.sink = sink;
    this.nMissed = nMissed;
    this.now = this.packets.clock[slots[0]];
    this.stagedMade = this.made;
  }

  /** The same for a few packets of the vector, `list[0..n)`: the others have none. */
  lookUpSome(slots: Int32Array, list: Int32Array, n: number): void {
    const { staging, found, index, bucketMask } = this;
    this.noticeConflicts();
    this.slots = slots;
    found.fill(-1);
    for (let j = 0; j < n; j++) {
      const i = list[j];
      const e = candidate(index, bucketMask, staging.hashes[i]);
      found[i] = e < 0 || this.sameKey(e, i) ? e : this.find(i, staging.hashes[i]);
    }
    this.nMissed = 0;
    this.now = this.packets.clock[slots[0]];
    this.stagedMade = this.made;
  }

  /** Touches what `runGeneral` will look at. */
  private touch(e: number): number {
    const { entries, extra, more } = this;
    const { hot, cold } = this.partition;
    const info = entries[e + INFO];
    const x = (e >> SHIFT) << X_SHIFT;
    let sink = 0;
    const m = (e >> SHIFT) << M_SHIFT;
    if (info & INFO_EXTRA) sink ^= extra[x];
    if (info & INFO_MORE) sink ^= more[m] ^ more[m + M_CREATED_1];
    for (let j = 0; j < (info & INFO_CONNS); j++) {
      const conn = j < 2 ? entries[e + CONN_0 + 2 * j] : extra[x + X_CONN_2 + j - 2];
      sink ^= hot[(conn >> 1) << HOT_SHIFT];
      if ((info >>> (INFO_KNOWN + 2 * j)) & KNOWN_BY_CREATED) sink ^= cold[(conn >> 1) << COLD_SHIFT];
    }
    return sink;
  }

  /** The tag that the entry of packet `i` was made with, after `run` has found it. */
  tagOf(i: number): number {
    const e = this.found[i];
    return this.entries[e + INFO] & INFO_EXTRA ? this.extra[((e >> SHIFT) << X_SHIFT) + X_TAG] : 0;
  }

  /** What is known of the checksums of packet `i` of the staged vector, as PacketContext.sums. */
  sums(i: number): number {
    const { hashes, keys } = this.staging;
    if (hashes[i] === 0) return 0;
    const bits = keys[(i << KEY_SHIFT) + VLAN];
    if (bits & (VLAN_OTHER | VLAN_BAD_IP)) return 0;
    return bits & VLAN_BAD_L4 ? 2 : 1;
  }

  /** Stage 5 for the packets of the staged vector from `from` on, as long as each is of one known connection, in whose
   *  state nothing rare happens; adds to `hits`, by verdict template, and writes their window slots to `completed[at]` and
   *  on. Returns the first that isn't, for `run`.
   *
   *  One loop, with what it reads in locals: what `run` would do, at half the price. */
  runPlain(from: number, n: number, hits: Int32Array, completed: Int32Array, at: number): number {
    const { entries, found, partition, staging, packets, checkSequence, translator, slots } = this;
    const { hot, hotF64, nat, timeouts } = partition;
    const { keys, l3Sizes, l4s, l4Sizes, view } = staging;
    const { clock, verdict, capLen } = packets;
    const { changes } = translator;
    let nChanges = 0;
    let total = 0;
    let i = from;
    for (; i < n; i++) {
      const e = found[i];
      if (e < 0) break;
      const info = entries[e + INFO];
      if ((info & INFO_GENERAL) !== 0) break;
      const slot = slots[i];
      const now = clock[slot];
      const conn = entries[e + CONN_0];
      const reply = conn & 1;
      const c = (conn >> 1) << HOT_SHIFT;
      const zoneProto = entries[e + ZONE_PROTO_0];
      const state = hot[c + C_STATE];
      if (hotF64[(c >> 1) + C_EXPIRES_F64] <= now) break;
      if (hot[c + C_ZONE_PROTO] !== zoneProto) break;
      const isTcp = ((zoneProto >>> 8) & 0xff) === IPPROTO_TCP;
      const k = i << KEY_SHIFT;
      const src = keys[k + SRC];
      const dst = keys[k + DST];
      const ports = keys[k + TP];
      let newSrc = src;
      let newDst = dst;
      let newTp = ports;
      if ((info & INFO_TRANSLATED) === 0) {
        const from0 = reply === 0 ? src : dst;
        const to0 = reply === 0 ? dst : src;
        const ports0 = reply === 0 ? ports : (ports << 16) | (ports >>> 16);
        if ((state & STATE_SPECIAL) !== 0) break;
        if (hot[c + C_SRC] !== from0 || hot[c + C_DST] !== to0 || hot[c + C_PORTS] !== ports0) break;
      } else {
        if ((state & STATE_SPECIAL) !== STATE_TRANSLATED) break;
        if ((info & INFO_DESTINATION) === 0) newSrc = entries[e + NEW_ADDRESS];
        else newDst = entries[e + NEW_ADDRESS];
        newTp = entries[e + NEW_TP];
        const of = isTcp ? nat : hot;
        const r = isTcp ? (conn >> 1) << NAT_SHIFT : c + C_REPLY;
        if (!isTranslation(hot, c, of, r, reply, src, dst, ports, newSrc, newDst, newTp)) break;
      }
      const expected = entries[e + STEPS];
      if (isTcp) {
        if (!checkSequence || expected !== STEP_EST + reply) break;
        const timer = tcpStep(hot, c, reply, state, view, l4s[i], l4Sizes[i]);
        if (timer < 0) break;
        hotF64[(c >> 1) + C_EXPIRES_F64] = now + timeouts[timerBlock(state, hot, c) + timer];
      } else {
        const phase = reply === 1 ? 2 : (state & 15) === 0 ? 1 : state & 15;
        if (expected !== (phase !== 2 ? STEP_NEW : STEP_EST + reply)) break;
        hot[c + C_STATE] = (state & ~15) | phase;
        const timer = phase === 2 ? TM_UDP_MULTIPLE : TM_UDP_SINGLE;
        hotF64[(c >> 1) + C_EXPIRES_F64] = now + timeouts[timerBlock(state, hot, c) + timer];
      }
      const pkts = c + C_PKTS_0 + reply;
      hot[pkts] = (hot[pkts] + 1) | 0;
      const bytes = c + C_BYTES_0 + reply;
      const before = hot[bytes];
      const after = (before + l3Sizes[i]) | 0;
      hot[bytes] = after;
      if (after >>> 0 < before >>> 0) {
        partition.cold[((c >> HOT_SHIFT) << COLD_SHIFT) + CARRY] += reply ? 0x10000 : 1;
      }
      const template = entries[e + VERDICT];
      hits[template]++;
      verdict[slot] = template;
      completed[at + i - from] = slot;
      total = (total + capLen[slot]) | 0;
      if ((info & INFO_TRANSLATED) !== 0) {
        const change = nChanges++ << CHANGE_SHIFT;
        changes[change] = i;
        changes[change + 1] = newSrc;
        changes[change + 2] = newDst;
        changes[change + 3] = newTp;
      }
    }
    this.bytes += total;
    if (nChanges > 0) translator.make(slots, nChanges);
    if (this.recorder !== null) this.recordPlain(this.recorder, from, i);
    return i;
  }
  /** Bytes of the packets that `runPlain` has run; whoever counts them sets it to 0. */
  bytes = 0;

  /** Records the packets that `runPlain` has run. */
  private recordPlain(recorder: Recorder, from: number, to: number): void {
    const { entries, found, slots } = this;
    const { l4s, l4Sizes, l3Sizes } = this.staging;
    for (let i = from; i < to; i++) {
      const e = found[i];
      recorder.hit(entries[e + CONN_0], slots[i], l4s[i], l4Sizes[i], l3Sizes[i], entries[e + VERDICT]);
    }
  }

  /** Stage 5 for packet `i` of the staged vector. Returns its verdict template, or -1: ask the engine. */
  run(i: number, slot: number): number {
    let e = this.found[i];
    if (e < 0) {
      const hash = this.staging.hashes[i];
      if (hash === 0) return -1;
      // Packets before it in the vector may have left an entry.
      if (this.made !== this.stagedMade) e = this.find(i, hash);
      if (e < 0) return this.runInvalid(i, slot);
      this.found[i] = e;
    }
    const { entries, partition, staging } = this;
    const info = entries[e + INFO];
    if (info & (INFO_GENERAL | INFO_TRANSLATED)) {
      const verdict = this.runGeneral(e, info, i, slot);
      return verdict === REJECTED ? this.runInvalid(i, slot) : verdict;
    }
    const { hot, hotF64 } = partition;
    const now = this.packets.clock[slot];
    const conn = entries[e + CONN_0];
    const reply = conn & 1;
    const c = (conn >> 1) << HOT_SHIFT;
    const expected = entries[e + STEPS];
    const zoneProto = entries[e + ZONE_PROTO_0];
    if (hotF64[(c >> 1) + C_EXPIRES_F64] <= now || !this.owns(c, reply, zoneProto, i)) return -1;
    if (((zoneProto >>> 8) & 0xff) === IPPROTO_TCP) {
      // What is not the common case may change more.
      if (!this.tcp(c, reply, expected, i, now)) {
        const outcome = this.tcpOnce(conn, expected, i, now);
        if (outcome === REJECTED) return this.runTwin(e, i, slot);
        if (outcome < 0) return -1;
      }
    } else if (!this.udp(c, reply, expected, now)) {
      return -1;
    }
    this.count(hot, c, reply, staging.l3Sizes[i]);
    const verdict = entries[e + VERDICT];
    this.packets.verdict[slot] = verdict;
    if (this.recorder !== null) {
      const { l4s, l4Sizes, l3Sizes } = staging;
      this.recorder.hit(conn, slot, l4s[i], l4Sizes[i], l3Sizes[i], verdict);
    }
    return verdict;
  }

  /** `run` by the entry of such packets that a connection calls invalid. */
  private runInvalid(i: number, slot: number): number {
    const e = this.findInvalid(i, -1);
    if (e < 0) return -1;
    this.found[i] = e;
    return Math.max(-1, this.runGeneral(e, this.entries[e + INFO], i, slot));
  }

  /** The entry of such packets as packet `i` that a connection calls invalid, or -1. If it is at word `hint`, that is where
   *  it is looked for first. */
  private findInvalid(i: number, hint: number): number {
    if (!this.anyInvalid) return -1;
    const { keys, hashes } = this.staging;
    const hash = hashes[i] ^ INVALID_HASH || 1;
    const k = i << KEY_SHIFT;
    keys[k + VLAN] |= VLAN_INVALID;
    const there = hint >= 0 && hint < this.nEntries << SHIFT && this.sameKey(hint, i);
    const e = there ? hint : this.find(i, hash);
    keys[k + VLAN] &= ~VLAN_INVALID;
    return e;
  }

  /** `run` of a packet that the one connection of its entry at `e`, a plain one, has called invalid, and was left as it
   *  is by that: by the entry beside it, if that says the same of the same connection; else the connection is put
   *  back. */
  private runTwin(e: number, i: number, slot: number): number {
    const { entries } = this;
    const twin = this.findInvalid(i, entries[e + TWIN] << SHIFT);
    const info = twin < 0 ? 0 : entries[twin + INFO];
    const isTwin =
      (info & TWIN_INFO) === TWIN_IS &&
      entries[twin + CONN_0] === entries[e + CONN_0] &&
      this.recorder === null;
    if (!isTwin) {
      this.putBack(entries[e + CONN_0] >> 1);
      return this.runInvalid(i, slot);
    }
    entries[e + TWIN] = twin >> SHIFT;
    this.found[i] = twin;
    this.stats[INVALID_0 + ((info >>> INFO_REASON) & 15)]++;
    const verdict = entries[twin + VERDICT];
    this.packets.verdict[slot] = verdict;
    return verdict;
  }

  /** TCP step of any segment of a single connection. Returns 0 if the outcome is the expected one; REJECTED if it is
   *  invalid, and the record may have been changed (see `putBack`); else -1, and nothing has been. */
  private tcpOnce(conn: number, expected: number, i: number, now: number): number {
    const { saved } = this;
    const { hot } = this.partition;
    const from = ((conn >> 1) << HOT_SHIFT) + C_STATE;
    for (let w = 0; w < STEPPED_WORDS; w++) saved[w] = hot[from + w];
    this.rejected = false;
    if (this.tcpAny(conn >> 1, conn & 1, expected, i, now)) return 0;
    if (this.rejected) return REJECTED;
    this.putBack(conn >> 1);
    return -1;
  }

  /** The record in `slot` as `tcpOnce` has found it. */
  private putBack(slot: number): void {
    const { saved } = this;
    const { hot } = this.partition;
    const to = (slot << HOT_SHIFT) + C_STATE;
    for (let w = 0; w < STEPPED_WORDS; w++) hot[to + w] = saved[w];
  }
  /** Whether there is such an entry. */
  private anyInvalid = false;

  /** `run` for any entry: all connections must agree, so what was changed before one does not is put back. */
  private runGeneral(e: number, info: number, i: number, slot: number): number {
    const { entries, extra, conns, saved, staging } = this;
    const { hot, hotF64 } = this.partition;
    const now = this.packets.clock[slot];
    const x = (e >> SHIFT) << X_SHIFT;
    const m = (e >> SHIFT) << M_SHIFT;
    const n = info & INFO_CONNS;
    const translated = (info & INFO_GENERAL) === 0 && (info & INFO_TRANSLATED) !== 0;
    for (let j = 0; j < n; j++) {
      const conn = j < 2 ? entries[e + CONN_0 + 2 * j] : extra[x + X_CONN_2 + j - 2];
      const c = (conn >> 1) << HOT_SHIFT;
      if (hotF64[(c >> 1) + C_EXPIRES_F64] <= now) return -1;
      const known = info >>> (INFO_KNOWN + 2 * j);
      if (translated) {
        if (!this.ownsTranslated(e, conn, i)) return -1;
      } else if (known & KNOWN_BY_CREATED) {
        if (!this.isStill(conn >> 1, e, j, known & KNOWN_META)) return -1;
      } else {
        let zoneProto = entries[e + ZONE_PROTO_0 + (j & 1) * 2];
        if (j === 2) zoneProto = (extra[x + X_ZONES] << 16) | (zoneProto & 0xffff);
        else if (j === 3) zoneProto = (extra[x + X_ZONES] & ~0xffff) | (zoneProto & 0xffff);
        if (!this.owns(c, conn & 1, zoneProto, i)) return -1;
      }
      conns[j] = conn;
    }
    const proto = (entries[e + PORT_NW] >>> 8) & 0xff;
    for (let j = 0; j < n; j++) {
      const from = ((conns[j] >> 1) << HOT_SHIFT) + C_STATE;
      for (let w = 0; w < STEPPED_WORDS; w++) saved[j * STEPPED_WORDS + w] = hot[from + w];
    }
    const all = entries[e + STEPS];
    const nSteps = info >>> INFO_STEPS;
    this.rejected = false;
    for (let at = 0, steps = all; at < nSteps; at++, steps >>>= 4) {
      if (this.step(conns[(steps >>> 2) & 3], steps & 3, proto, i, now)) continue;
      for (let j = 0; j < n; j++) {
        const to = ((conns[j] >> 1) << HOT_SHIFT) + C_STATE;
        for (let w = 0; w < STEPPED_WORDS; w++) hot[to + w] = saved[j * STEPPED_WORDS + w];
      }
      return this.rejected ? REJECTED : -1;
    }
    const bytes = staging.l3Sizes[i];
    for (let at = 0, steps = all; at < nSteps; at++, steps >>>= 4) {
      if ((steps & 3) === STEP_INV) continue;
      const conn = conns[(steps >>> 2) & 3];
      this.count(hot, (conn >> 1) << HOT_SHIFT, conn & 1, bytes);
    }
    const verdict = entries[e + VERDICT];
    this.packets.verdict[slot] = verdict;
    if (translated) {
      this.translate(e, i);
    } else if (info & INFO_EDITED) {
      this.edit(x, m, info, i, slot);
    }
    const nInvalid = (info >>> INFO_INVALID) & 0xff;
    if (nInvalid !== 0) this.stats[INVALID_0 + ((info >>> INFO_REASON) & 15)] += nInvalid;
    if (this.recorder !== null) {
      const { l4s, l4Sizes, l3Sizes } = staging;
      this.recorder.hits(conns, n, slot, l4s[i], l4Sizes[i], l3Sizes[i], verdict);
    }
    return verdict;
  }

  /** Whether the record at word `c` still is the connection of the packet's tuple, and nothing special. */
  private owns(c: number, reply: number, zoneProto: number, i: number): boolean {
    const { keys } = this.staging;
    const { hot } = this.partition;
    if (hot[c + C_ZONE_PROTO] !== zoneProto || hot[c + C_STATE] & STATE_SPECIAL) return false;
    const k = i << KEY_SHIFT;
    const ports = keys[k + TP];
    if (reply === 0) {
      return (
        hot[c + C_SRC] === keys[k + SRC] && hot[c + C_DST] === keys[k + DST] && hot[c + C_PORTS] === ports
      );
    }
    return (
      hot[c + C_SRC] === keys[k + DST] &&
      hot[c + C_DST] === keys[k + SRC] &&
      hot[c + C_PORTS] === ((ports << 16) | (ports >>> 16))
    );
  }

  /** Whether the connection still is the one that the entry at `e` translates packet `i` by. */
  private ownsTranslated(e: number, conn: number, i: number): boolean {
    const { entries, partition, staging } = this;
    const { hot, nat } = partition;
    const c = (conn >> 1) << HOT_SHIFT;
    const zoneProto = entries[e + ZONE_PROTO_0];
    if (hot[c + C_ZONE_PROTO] !== zoneProto || (hot[c + C_STATE] & STATE_SPECIAL) !== STATE_TRANSLATED)
      return false;
    const tcp = ((zoneProto >>> 8) & 0xff) === IPPROTO_TCP;
    const of = tcp ? nat : hot;
    const r = tcp ? (conn >> 1) << NAT_SHIFT : c + C_REPLY;
    const { keys } = staging;
    const k = i << KEY_SHIFT;
    const src = keys[k + SRC];
    const dst = keys[k + DST];
    const destination = entries[e + INFO] & INFO_DESTINATION;
    const address = entries[e + NEW_ADDRESS];
    const newSrc = destination ? src : address;
    const newDst = destination ? address : dst;
    return isTranslation(
      hot,
      c,
      of,
      r,
      conn & 1,
      src,
      dst,
      keys[k + TP],
      newSrc,
      newDst,
      entries[e + NEW_TP],
    );
  }

  /** Makes the frame of packet `i`, as the entry at `e` has it. */
  private translate(e: number, i: number): void {
    const { entries, staging, translator } = this;
    const { changes } = translator;
    const k = i << KEY_SHIFT;
    const destination = entries[e + INFO] & INFO_DESTINATION;
    changes[0] = i;
    changes[1] = destination ? staging.keys[k + SRC] : entries[e + NEW_ADDRESS];
    changes[2] = destination ? entries[e + NEW_ADDRESS] : staging.keys[k + DST];
    changes[3] = entries[e + NEW_TP];
    translator.make(this.slots, 1);
  }

  /** Whether all that packet `i` met is one connection that translates its source or its destination and has nothing
   *  else to it; then the connection can be told by its two tuples, and `patch` says what becomes of the packet.
   *
   *  The hot half of what is not TCP has room for the tuple of the replies, in words that only TCP has a use for. It is
   *  written here, by the connection's home; the coordinator has zeroed it. */
  private isTranslated(i: number, { conns, edits, nEdits }: Trace): boolean {
    const { partition, patch } = this;
    const { hot, nat } = partition;
    const { keys } = this.staging;
    const k = i << KEY_SHIFT;
    const slot = conns[0] >> 1;
    const c = slot << HOT_SHIFT;
    if ((hot[c + C_STATE] & STATE_SPECIAL) !== STATE_TRANSLATED) return false;
    if (!this.patches(i, edits, nEdits) || patch[PATCH.at.FIELDS] !== 0) return false;
    const src = keys[k + SRC];
    const dst = keys[k + DST];
    const newSrc = patch[PATCH.at.SRC];
    const newDst = patch[PATCH.at.DST];
    const newTp = patch[PATCH.at.TP];
    if ((newSrc === src) === (newDst === dst)) return false;
    const r = slot << NAT_SHIFT;
    // Else what the coordinator has zeroed could be taken for a tuple.
    if ((nat[r] | nat[r + 1]) === 0) return false;
    if (!isTranslation(hot, c, nat, r, conns[0] & 1, src, dst, keys[k + TP], newSrc, newDst, newTp))
      return false;
    if (((hot[c + C_ZONE_PROTO] >>> 8) & 0xff) !== IPPROTO_TCP) {
      for (let w = 0; w < 3; w++) hot[c + C_REPLY + w] = nat[r + w];
    }
    return true;
  }

  /** Whether the record in `slot` still is connection `j` of the entry at `e`, and its mark and label are what they
   *  were. The order of loads matters: EXPIRES was looked at before (see `Coordinator.commit`). */
  private isStill(slot: number, e: number, j: number, meta: number): boolean {
    const { extra, more } = this;
    const { hot, cold } = this.partition;
    const c = slot << COLD_SHIFT;
    const x = (e >> SHIFT) << X_SHIFT;
    const m = (e >> SHIFT) << M_SHIFT;
    if (j === 0) {
      if (
        cold[c + CREATED] !== extra[x + X_CREATED_0] ||
        cold[c + CREATED + 1] !== extra[x + X_CREATED_0 + 1]
      ) {
        return false;
      }
    } else {
      const created = m + M_CREATED_1 - 2 + 2 * j;
      if (cold[c + CREATED] !== more[created] || cold[c + CREATED + 1] !== more[created + 1]) return false;
    }
    const has = hot[(slot << HOT_SHIFT) + C_STATE] & STATE_HAS_META;
    if (meta === 0) return has === 0;
    if (has === 0) return false;
    const want = m + M_META + j * META_WORDS;
    for (let w = 0; w < META_WORDS; w++) if (cold[c + MARK + w] !== more[want + w]) return false;
    return true;
  }

  /** Runs the packet through a connection. False if its state is not the expected one; then the record may
   *  have been changed. */
  private step(conn: number, expected: number, proto: number, i: number, now: number): boolean {
    const c = (conn >> 1) << HOT_SHIFT;
    const reply = conn & 1;
    if (proto === IPPROTO_TCP) {
      return this.tcp(c, reply, expected, i, now) || this.tcpAny(conn >> 1, reply, expected, i, now);
    }
    if (proto === IPPROTO_ICMP || proto === IPPROTO_ICMPV6) return this.icmp(c, reply, expected, now);
    return this.udp(c, reply, expected, now);
  }

  /** UDP step, if the outcome is the expected state; else changes nothing. */
  private udp(c: number, reply: number, expected: number, now: number): boolean {
    const { hot, hotF64 } = this.partition;
    const state = hot[c + C_STATE];
    let phase = state & 15;
    if (reply === 1) phase = 2;
    else if (phase === 0) phase = 1;
    const outcome = phase !== 2 ? STEP_NEW : reply === 1 ? STEP_EST_RPL : STEP_EST;
    if (outcome !== expected) return false;
    hot[c + C_STATE] = (state & ~15) | phase;
    const timer = phase === 2 ? TM_UDP_MULTIPLE : TM_UDP_SINGLE;
    hotF64[(c >> 1) + C_EXPIRES_F64] = now + this.partition.timeouts[timerBlock(state, hot, c) + timer];
    return true;
  }

  /** ICMP and ICMPv6 step, in the same way. */
  private icmp(c: number, reply: number, expected: number, now: number): boolean {
    const { hot, hotF64 } = this.partition;
    const state = hot[c + C_STATE];
    const phase = reply === 1 ? 1 : state & 15;
    const outcome = phase === 0 ? STEP_NEW : reply === 1 ? STEP_EST_RPL : STEP_EST;
    if (outcome !== expected) return false;
    hot[c + C_STATE] = (state & ~15) | phase;
    const timer = phase === 0 ? TM_ICMP_FIRST : TM_ICMP_REPLY;
    hotF64[(c >> 1) + C_EXPIRES_F64] = now + this.partition.timeouts[timerBlock(state, hot, c) + timer];
    return true;
  }

  /** TCP step of a segment that `tcpStep` covers. Otherwise changes nothing. */
  private tcp(c: number, reply: number, expected: number, i: number, now: number): boolean {
    if (!this.checkSequence || expected !== STEP_EST + reply) return false;
    const { hot, hotF64, timeouts } = this.partition;
    const { view, l4s, l4Sizes } = this.staging;
    const state = hot[c + C_STATE];
    const timer = tcpStep(hot, c, reply, state, view, l4s[i], l4Sizes[i]);
    if (timer < 0) return false;
    hotF64[(c >> 1) + C_EXPIRES_F64] = now + timeouts[timerBlock(state, hot, c) + timer];
    return true;
  }

  /** TCP step of any segment. */
  private tcpAny(slot: number, reply: number, expected: number, i: number, now: number): boolean {
    const { hot, hotF64, timeouts } = this.partition;
    const { view, l4s, l4Sizes } = this.staging;
    const l4 = l4s[i];
    const payload = l4Sizes[i] - ((view.getUint8(l4 + 12) >>> 4) << 2);
    switch (tcpUpdate(hot, hotF64, slot, reply, view, l4, payload, now, this.checkSequence, timeouts)) {
      case UPDATE_VALID:
        return expected === (reply === 1 ? STEP_EST_RPL : STEP_EST);
      case UPDATE_VALID_NEW:
        return expected === STEP_NEW;
      case UPDATE_INVALID:
        this.rejected = true;
        return expected === STEP_INV;
      default:
        return false;
    }
  }
  /** Whether a step of the packet being run came out as invalid. */
  private rejected = false;
  /** dpctl/ct-{en,dis}able-tcp-seq-chk. */
  checkSequence = true;

  private count(hot: Int32Array, c: number, reply: number, bytes: number): void {
    hot[c + C_PKTS_0 + reply] = (hot[c + C_PKTS_0 + reply] + 1) | 0;
    const before = hot[c + C_BYTES_0 + reply];
    const after = (before + bytes) | 0;
    hot[c + C_BYTES_0 + reply] = after;
    if (after >>> 0 < before >>> 0) {
      this.partition.cold[((c >> HOT_SHIFT) << COLD_SHIFT) + CARRY] += reply ? 0x10000 : 1;
    }
  }

  /** Makes a copy of the frame and changes it, as the entry with EXTRA at `x` and MORE at `m` says. */
  private edit(x: number, m: number, info: number, i: number, slot: number): void {
    const { frames, packets, staging, layout, key, extra, more } = this;
    const { keys, l3s, l4s, l3Sizes } = staging;
    const from = packets.off[slot];
    const len = packets.capLen[slot];
    // At the same place within a word as the original.
    frames.allocate(len, from & 3);
    const { view, words, u8 } = frames.chunks[frames.chunk];
    const to = words[(frames.record >> 2) + FRAME_DATA_OFF];
    if (isShort(from, len, this.arenaWords))
      copyWords(this.arenaWords, from >> 2, (from + len + 3) >> 2, words, to >> 2);
    else u8.set(this.arenaU8.subarray(from, from + len), to);
    const k = i << KEY_SHIFT;
    const proto = (keys[k + PORT_NW] >>> 8) & 0xff;
    const by = to - from;
    if (info & INFO_PATCH) {
      applyPatch(view, to, l3s[i] + by, l4s[i] + by, proto === IPPROTO_TCP, extra, x + X_PATCH);
    } else {
      layout.l3 = l3s[i] - from;
      layout.l4 = l4s[i] - from;
      layout.end = layout.l3 + l3Sizes[i];
      key[FLOW.ETH_TYPE] = keys[k + VLAN] & IPV6_BIT ? ETH_TYPE_IPV6 : ETH_TYPE_IP;
      key[FLOW.NW] = proto;
      applyEdits(view, to, layout, key, more, m + M_EDITS, more[m + M_N_EDITS]);
    }
    packets.setFrame(slot, frames.chunk, frames.record);
  }

  /** Makes an entry for packets like the one in staged position `i`, which the engine has just run. */
  insert(i: number, trace: Trace, verdict: number, tag = 0): void {
    const { staging } = this;
    const { keys, hashes } = staging;
    const hash = hashes[i];
    if (hash === 0 || !trace.foldable || trace.nFrames > 1 || trace.nInvalid > MAX_INVALID) return;
    if (trace.nInvalid === 0 || trace.nSteps === 0) {
      this.put(i, hash, trace, verdict, tag);
      return;
    }
    // Records of connections count such segments.
    if (this.recorder !== null) return;
    const k = i << KEY_SHIFT;
    keys[k + VLAN] |= VLAN_INVALID;
    this.put(i, hash ^ INVALID_HASH || 1, trace, verdict, tag);
    keys[k + VLAN] &= ~VLAN_INVALID;
    this.anyInvalid = true;
  }

  private put(i: number, hash: number, trace: Trace, verdict: number, tag: number): void {
    const { staging, partition } = this;
    const { conns, steps, nSteps, nConns, edits, nEdits, nInvalid } = trace;
    const k = i << KEY_SHIFT;
    const { keys } = staging;
    const unusual = keys[k + VLAN] & (VLAN_OTHER | VLAN_BAD_IP | VLAN_BAD_L4);
    // Records of connections tell such packets apart; where layers are is known of IP only.
    if (unusual !== 0 && (this.recorder !== null || (unusual & VLAN_OTHER && trace.nFrames > 0))) return;
    const tp = keys[k + TP];
    const proto = (keys[k + PORT_NW] >>> 8) & 0xff;
    if (proto === IPPROTO_TCP) {
      if (tp >>> 16 === FTP_PORT || (tp & 0xffff) === FTP_PORT) return;
    } else if (proto === IPPROTO_UDP && (tp & 0xffff) === TFTP_PORT) {
      return;
    }
    const ipv6 = (keys[k + VLAN] & IPV6_BIT) !== 0;
    const { hot, cold } = partition;
    let info = nConns | (nInvalid << INFO_INVALID) | (trace.invalid << INFO_REASON) | (nSteps << INFO_STEPS);
    if (nConns !== 1 || nSteps !== 1 || nInvalid > 0) info |= INFO_GENERAL;
    if (nConns > 2 || ipv6 || tag !== 0) info |= INFO_GENERAL | INFO_EXTRA;
    const ports = proto === IPPROTO_TCP || proto === IPPROTO_UDP;
    const one = trace.nFrames === 1 && ports && (info & INFO_GENERAL) === 0;
    const translated = one && this.isTranslated(i, trace);
    if (translated) info |= INFO_TRANSLATED;
    else if (trace.nFrames > 0) info |= INFO_GENERAL | INFO_EXTRA | INFO_EDITED;
    let meta = false;
    for (let j = 0; j < nConns && !translated; j++) {
      const c = (conns[j] >> 1) << HOT_SHIFT;
      const state = hot[c + C_STATE];
      if (state & (STATE_FTP | STATE_TFTP | STATE_CHILD)) return;
      if (!ipv6 && ports && this.owns(c, conns[j] & 1, hot[c + C_ZONE_PROTO], i)) continue;
      const has = state & STATE_HAS_META;
      if (has && j >= MAX_META) return;
      if (has) meta = true;
      info |= INFO_GENERAL | INFO_EXTRA;
      info |= (has ? KNOWN_BY_CREATED | KNOWN_META : KNOWN_BY_CREATED) << (INFO_KNOWN + 2 * j);
    }
    if (info & INFO_EDITED) info |= !ipv6 && ports && this.patches(i, edits, nEdits) ? INFO_PATCH : INFO_MORE;
    // Some connection but the first is known by CREATED.
    if (ipv6 || meta || info & (OTHERS_KNOWN << INFO_KNOWN)) info |= INFO_MORE;
    let e = this.find(i, hash);
    if (e < 0) {
      if (this.nEntries === this.room) this.makeRoom();
      e = this.nEntries++ << SHIFT;
      enter(this.index, this.bucketMask, hash, e);
    }
    this.made++;
    const { entries } = this;
    for (let w = 0; w < STAGED_WORDS; w++) entries[e + w] = keys[k + w];
    entries[e + STEPS] = steps;
    for (let j = 0; j < nConns && j < 2; j++) {
      entries[e + CONN_0 + 2 * j] = conns[j];
      entries[e + ZONE_PROTO_0 + 2 * j] = hot[((conns[j] >> 1) << HOT_SHIFT) + C_ZONE_PROTO];
    }
    entries[e + VERDICT] = verdict;
    entries[e + HASH] = hash;
    const { patch } = this;
    if (translated) {
      const destination = patch[PATCH.at.DST] !== keys[k + DST];
      entries[e + NEW_ADDRESS] = patch[destination ? PATCH.at.DST : PATCH.at.SRC];
      entries[e + NEW_TP] = patch[PATCH.at.TP];
      if (destination) info |= INFO_DESTINATION;
    }
    entries[e + INFO] = info;
    if (!(info & INFO_EXTRA)) return;

    if (this.extra.length === 0) this.extra = allocateWords(this.room << X_SHIFT);
    const { extra } = this;
    const x = (e >> SHIFT) << X_SHIFT;
    extra[x + X_TAG] = tag;
    if (info & INFO_PATCH) for (let w = 0; w < patch.length; w++) extra[x + X_PATCH + w] = patch[w];
    for (let j = 2; j < nConns; j++) {
      extra[x + X_CONN_2 + j - 2] = conns[j];
      const zone = hot[((conns[j] >> 1) << HOT_SHIFT) + C_ZONE_PROTO] >>> 16;
      extra[x + X_ZONES] = j === 2 ? zone : extra[x + X_ZONES] | (zone << 16);
    }
    if (nConns > 0) {
      const c = (conns[0] >> 1) << COLD_SHIFT;
      extra[x + X_CREATED_0] = cold[c + CREATED];
      extra[x + X_CREATED_0 + 1] = cold[c + CREATED + 1];
    }
    if (info & INFO_MORE) this.putMore((e >> SHIFT) << M_SHIFT, i, trace, ipv6);
  }

  /** The rest of an entry, at word `m` of MORE. */
  private putMore(m: number, i: number, { conns, nConns, edits, nEdits }: Trace, ipv6: boolean): void {
    if (this.more.length === 0) this.more = allocateWords(this.room << M_SHIFT);
    const { more, staging } = this;
    const { cold } = this.partition;
    more[m + M_N_EDITS] = nEdits;
    for (let w = 0; w < nEdits; w++) more[m + M_EDITS + w] = edits[w];
    if (ipv6) {
      for (let w = 0; w < ADDR6_WORDS; w++) more[m + M_ADDR6 + w] = staging.addr6[i * ADDR6_WORDS + w];
    }
    for (let j = 0; j < nConns; j++) {
      const slot = conns[j] >> 1;
      const c = slot << COLD_SHIFT;
      if (j > 0) {
        const created = m + M_CREATED_1 - 2 + 2 * j;
        more[created] = cold[c + CREATED];
        more[created + 1] = cold[c + CREATED + 1];
      }
      if (j >= MAX_META) continue;
      for (let w = 0; w < META_WORDS; w++) more[m + M_META + j * META_WORDS + w] = cold[c + MARK + w];
    }
  }

  /** Whether these changes to staged packet `i` are a PATCH; then it is in `patch`. */
  private patches(i: number, edits: Int32Array, nEdits: number): boolean {
    const { patch } = this;
    const { keys } = this.staging;
    const k = i << KEY_SHIFT;
    patch.fill(0);
    patch[PATCH.at.ETH_0] = keys[k + ETH_0];
    patch[PATCH.at.ETH_1] = keys[k + ETH_0 + 1];
    patch[PATCH.at.ETH_2] = keys[k + ETH_0 + 2];
    patch[PATCH.at.TOS] = keys[k + PORT_NW] & 0xff;
    patch[PATCH.at.SRC] = keys[k + SRC];
    patch[PATCH.at.DST] = keys[k + DST];
    patch[PATCH.at.TP] = keys[k + TP];
    return compilePatch(patch, 0, edits, nEdits);
  }
  private readonly patch = new Int32Array(PATCH_WORDS);

  /** Whether the entry may serve once more, as far as its first connection tells. */
  private alive(e: number): boolean {
    const { entries } = this;
    if ((entries[e + INFO] & INFO_CONNS) === 0) return true;
    const c = (entries[e + CONN_0] >> 1) << HOT_SHIFT;
    const { hot, hotF64 } = this.partition;
    return hotF64[(c >> 1) + C_EXPIRES_F64] > this.now && hot[c + C_ZONE_PROTO] === entries[e + ZONE_PROTO_0];
  }
  /** Clock of the vector being run, in ms. */
  private now = 0;

  /** Drops entries whose connection is gone. If that leaves more than two thirds, room is doubled, or the older
   *  half makes way. */
  private makeRoom(): void {
    const { entries, extra, more, room } = this;
    const end = this.nEntries << SHIFT;
    let alive = 0;
    for (let e = 0; e < end; e += 1 << SHIFT) if (this.alive(e)) alive++;
    const crowded = alive * 3 > room * 2;
    let drop = 0;
    let to = entries;
    let toExtra = extra;
    let toMore = more;
    if (crowded && room < MAX_ENTRIES) {
      this.room = room * 2;
      to = allocateWords(this.room << SHIFT);
      if (extra.length > 0) toExtra = allocateWords(this.room << X_SHIFT);
      if (more.length > 0) toMore = allocateWords(this.room << M_SHIFT);
      this.index = allocateWords(indexWords(this.room));
      this.bucketMask = (indexWords(this.room) >> BUCKET_SHIFT) - 1;
    } else {
      if (crowded) drop = alive - (room >> 1);
      this.index.fill(0);
    }
    let n = 0;
    for (let from = 0; from < end; from += 1 << SHIFT) {
      if (!this.alive(from)) continue;
      if (drop > 0) {
        drop--;
        continue;
      }
      // At most as far from the start as it was, so in place nothing is lost.
      const e = n++ << SHIFT;
      const x = (e >> SHIFT) << X_SHIFT;
      const y = (from >> SHIFT) << X_SHIFT;
      for (let w = 0; w < 1 << SHIFT; w++) to[e + w] = entries[from + w];
      if (to[e + INFO] & INFO_EXTRA) for (let w = 0; w < 1 << X_SHIFT; w++) toExtra[x + w] = extra[y + w];
      if (to[e + INFO] & INFO_MORE) {
        const m = (e >> SHIFT) << M_SHIFT;
        const o = (from >> SHIFT) << M_SHIFT;
        for (let w = 0; w < 1 << M_SHIFT; w++) toMore[m + w] = more[o + w];
      }
      enter(this.index, this.bucketMask, to[e + HASH], e);
    }
    this.entries = to;
    this.extra = toExtra;
    this.more = toMore;
    this.nEntries = n;
    // What was staged names entries by where they were.
    this.found.fill(-1);
  }

  /** First word of the entry of staged packet `i`, or -1. */
  private find(i: number, hash: number): number {
    const { index, bucketMask } = this;
    for (let bucket = hash & bucketMask; ; bucket = (bucket + 1) & bucketMask) {
      const b = bucket << BUCKET_SHIFT;
      for (let p = 0; p < WAYS; p++) {
        const way = b + (((hash >>> 29) + p) & (WAYS - 1));
        if (index[way] === 0) return -1;
        if (index[way] === hash && this.sameKey(index[way + WAYS], i)) return index[way + WAYS];
      }
    }
  }

  /** Whether entry and staged packet have the same key. */
  private sameKey(e: number, i: number): boolean {
    const { entries } = this;
    const { keys } = this.staging;
    const k = i << KEY_SHIFT;
    return (
      entries[e] === keys[k] &&
      entries[e + 1] === keys[k + 1] &&
      entries[e + 2] === keys[k + 2] &&
      entries[e + 3] === keys[k + 3] &&
      entries[e + 4] === keys[k + 4] &&
      entries[e + 5] === keys[k + 5] &&
      entries[e + 6] === keys[k + 6] &&
      entries[e + 7] === keys[k + 7] &&
      ((keys[k + VLAN] & IPV6_BIT) === 0 || this.sameAddr6(e, i))
    );
  }

  private sameAddr6(e: number, i: number): boolean {
    const { more } = this;
    const { addr6 } = this.staging;
    const m = ((e >> SHIFT) << M_SHIFT) + M_ADDR6;
    for (let w = 0; w < ADDR6_WORDS; w++) if (more[m + w] !== addr6[i * ADDR6_WORDS + w]) return false;
    return true;
  }
}
