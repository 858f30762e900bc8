/** Reassembly of fragments in ct(): which fragments belong together, when a datagram is complete, and what
 *  becomes of those that never are. Decides as Open vSwitch's userspace datapath does (ovs-vswitchd(8),
 *  "dpctl/ipf-set-enabled"; RFC 791, section 3.2; RFC 8200, section 4.5).
 *
 *  One for all connections and zones. It belongs to the coordinator, which shows it the fragments in input
 *  order; it copies what it holds, so a frame may go once `arrive` has returned. */
import { FLOW, KEY_WORDS } from '../classifier/flow-key.js';
import { formatIpv4, formatIpv6 } from '../wire/address.js';
import { checksum, sum } from '../wire/checksum.js';
import { datagramOf4, datagramOf6 } from '../wire/datagram.js';
import { ETH_TYPE_IPV6, FrameLayout, lastFragmentHeader } from '../wire/extract.js';

const { ETH_TYPE, RECIRC_ID } = FLOW;

/** The fragment is nothing for reassembly: ct() goes on with it, and finds it invalid unless it is whole. */
export const FRAGMENT_PASSED = 0;
/** ct() calls it invalid: too small, a wrong header, or bytes that another fragment has brought. */
export const FRAGMENT_INVALID = 1;
/** It waits for the others. */
export const FRAGMENT_HELD = 2;
/** It makes its datagram complete: `completed` has all fragments. */
export const FRAGMENT_COMPLETES = 3;

const TIMEOUT_MS = 15_000;
/** So long after its timeout a datagram goes even if nothing else comes through ct(). (Open vSwitch looks for
 *  such datagrams once a minute, and whenever its clock is warped.) */
const PURGE_MS = 10_000;
const MAX_FRAGMENTS = 1000;
const MIN_FRAGMENT_4 = 1200;
const MIN_FRAGMENT_6 = 1280;
const MAX_PACKET = 65535;
const MAX_HEADER_4 = 60;
const MAX_LIST_6 = 65535;
const LIST_STEP = 4;
const FRAGMENT_HEADER_6 = 8;
const MORE_4 = 0x2000;
const OFFSET_4 = 0x1fff;
const MORE_6 = 1;
const OFFSET_6 = 0xfff8;

/** A fragment on its way through ct(). One for all: overwritten by every fragment. */
export class Arrival {
  u8: Uint8Array;
  view: DataView;
  /** Its frame in them. */
  off = 0;
  len = 0;
  readonly layout = new FrameLayout();
  ipv6 = false;
  zone = 0;
  /** The pass that it is on: fragments of different passes don't come together. */
  recircId = 0;
  key: Int32Array = new Int32Array(KEY_WORDS);
  /** Which packets of the input it is ordered with, and where: the same for the first fragment as for the last. */
  hash = 0;
  home = 0;

  constructor(u8: Uint8Array, view: DataView) {
    this.u8 = u8;
    this.view = view;
  }

  /** What it carries besides its bytes. */
  packet(key: Int32Array, zone: number, hash: number): void {
    this.key = key;
    this.zone = zone;
    this.hash = hash;
    this.ipv6 = key[ETH_TYPE] === ETH_TYPE_IPV6;
    this.recircId = key[RECIRC_ID];
  }
}

/** A fragment of a datagram. */
export interface Fragment {
  /** Its frame; null for the one that has just arrived. */
  bytes: Uint8Array | null;
  layout: FrameLayout;
  key: Int32Array;
}

/** Bytes of the datagram that a fragment has, counted in 16 bits; behind an IPv6 fragment header they begin
 *  with 8. */
interface Piece extends Fragment {
  start: number;
  end: number;
  hash: number;
  home: number;
  first: boolean;
}

const UNUSED = 0;
const FAILED = 1;
const OTHER_SEEN = 2;
const FIRST_SEEN = 3;
const LAST_SEEN = 4;
const FIRST_LAST_SEEN = 5;
/** As dpctl/ipf-get-status names them. */
const STATE_NAMES = ['unused', 'reassemble fail', 'other frag', 'first frag', 'last frag', 'first/last frag'];

/** The fragments of one datagram. */
interface List {
  pieces: Piece[];
  /** Pieces that there is room for: it grows by four up to a limit that depends on the least size. */
  size: number;
  state: number;
  expires: number;
  ipv6: boolean;
  datagram: string;
  zone: number;
  recircId: number;
}

/** Counters and limits of one IP version. */
export interface FragmentCounters {
  enabled: boolean;
  minSize: number;
  accepted: number;
  completed: number;
  expired: number;
  tooSmall: number;
  overlapped: number;
  purged: number;
}

function counters(minSize: number): FragmentCounters {
  return {
    enabled: true,
    minSize,
    accepted: 0,
    completed: 0,
    expired: 0,
    tooSmall: 0,
    overlapped: 0,
    purged: 0,
  };
}

export class Reassembly {
  /** Counters and limits by IP version. */
  readonly v4 = counters(MIN_FRAGMENT_4);
  readonly v6 = counters(MIN_FRAGMENT_6);
  /** More are not held. */
  maxFragments = MAX_FRAGMENTS;
  /** Fragments held. */
  held = 0;
  /** When the oldest incomplete datagram expires. */
  oldest = Infinity;
  /** Whether the last fragment came for a datagram that is there only because nothing else has come through ct() since
   *  its timeout. */
  isLate = false;
  /** The fragments of the datagram that the last `arrive` completed, in order. */
  completed: readonly Fragment[] = [];
  /** Incomplete datagrams, the oldest first. */
  private readonly lists = new Map<string, List>();

  /** What ct() does with a fragment. `now` is the clock in ms. */
  arrive(a: Arrival, now: number): number {
    this.completed = [];
    this.isLate = false;
    this.purge(now);
    const own = a.ipv6 ? this.v6 : this.v4;
    const frag = a.ipv6 ? this.parse6(a) : this.parse4(a);
    if (frag !== FRAGMENT_HELD) return frag;
    if (!own.enabled || this.held >= this.maxFragments) return FRAGMENT_PASSED;

    const most = a.ipv6 ? MAX_LIST_6 : mostPieces(this.v4.minSize);
    let list = this.lists.get(this.id);
    this.isLate = list !== undefined && now > list.expires;
    if (list === undefined) {
      list = {
        pieces: [],
        size: Math.min(most, LIST_STEP),
        state: UNUSED,
        expires: now + TIMEOUT_MS,
        ipv6: a.ipv6,
        datagram: this.datagram,
        zone: a.zone,
        recircId: a.recircId,
      };
      this.lists.set(this.id, list);
      if (this.lists.size === 1) this.oldest = list.expires;
    } else if (list.state === FAILED) {
      return FRAGMENT_PASSED;
    } else if (list.pieces.length >= list.size) {
      const more = Math.min(LIST_STEP, most - list.size);
      if (more <= 0) return FRAGMENT_PASSED;
      list.size += more;
    }

    const { start, end } = this;
    if (list.pieces.some((p) => (start >= p.start && start <= p.end) || (end >= p.start && end <= p.end))) {
      own.overlapped++;
      return FRAGMENT_INVALID;
    }
    const { layout, key, hash, home } = a;
    const piece: Piece = { bytes: null, layout, key, start, end, hash, home, first: this.first };
    list.pieces.push(piece);
    this.held++;
    own.accepted++;
    list.state = this.next(list.state);
    if (list.state === FIRST_LAST_SEEN) {
      list.pieces.sort((p, q) => p.start - q.start);
      if (isComplete(list.pieces)) {
        if (fits(list.pieces) && list.pieces[0].hash === a.hash) return this.complete(list, own);
        list.state = FAILED;
      }
    }
    piece.bytes = a.u8.slice(a.off, a.off + a.len);
    piece.layout = new FrameLayout();
    piece.layout.copy(a.layout);
    piece.key = a.key.slice();
    return FRAGMENT_HELD;
  }

  /** Whether it holds no more fragments, and will not before something is later than `now`: then what comes until then does
   *  not depend on what came before, and changes nothing. */
  isFull(now: number): boolean {
    return this.held >= this.maxFragments && now <= this.oldest;
  }

  private complete(list: List, own: FragmentCounters): number {
    this.completed = list.pieces;
    own.completed += this.remove(this.id, list);
    return FRAGMENT_COMPLETES;
  }

  /** ct() has been executed `times` times at `now`: each time the oldest datagram goes, if it is too old. */
  expire(now: number, times: number): void {
    this.purge(now);
    for (const [id, list] of this.lists) {
      if (times-- <= 0 || now <= list.expires) return;
      (list.ipv6 ? this.v6 : this.v4).expired += this.remove(id, list);
    }
  }

  /** Drops what has been too old for long. */
  purge(now: number): void {
    if (now < this.oldest + PURGE_MS) return;
    for (const [id, list] of this.lists) {
      if (now < list.expires + PURGE_MS) return;
      (list.ipv6 ? this.v6 : this.v4).purged += this.remove(id, list);
    }
  }

  /** Returns the number of fragments. */
  private remove(id: string, list: List): number {
    this.lists.delete(id);
    this.held -= list.pieces.length;
    this.oldest = Infinity;
    for (const { expires } of this.lists.values()) {
      this.oldest = expires;
      break;
    }
    return list.pieces.length;
  }

  /** Lines of the lists in dpctl/ipf-get-status -m, the oldest datagram first (Open vSwitch: any order). */
  describeLists(): string[] {
    return Array.from(this.lists.values(), describe);
  }

  /** Where the first fragment of an incomplete datagram went: of the youngest, if it is incomplete in several
   *  zones. `none` if there is no such datagram; null if its first fragment has not come. */
  firstOf(datagram: string): { hash: number; home: number } | null | 'none' {
    let found: { hash: number; home: number } | null | 'none' = 'none';
    for (const list of this.lists.values()) {
      if (list.datagram !== datagram) continue;
      const first = list.pieces.find((p) => p.first);
      if (first !== undefined) found = first;
      else if (found === 'none') found = null;
    }
    return found;
  }

  // ---- the fragment that has arrived ----

  private datagram = '';
  private id = '';
  private start = 0;
  private end = 0;
  private first = false;
  private last = false;

  private identify(a: Arrival, datagram: string): void {
    this.datagram = datagram;
    this.id = `${datagram} ${a.zone} ${a.recircId}`;
  }

  private parse4(a: Arrival): number {
    const { view, layout } = a;
    const l3 = a.off + layout.l3;
    const size = layout.end - layout.l3;
    const offFlags = view.getUint16(l3 + 6);
    if ((offFlags & (MORE_4 | OFFSET_4)) === 0) return FRAGMENT_PASSED;
    const header = (view.getUint8(l3) & 15) << 2;
    if (checksum(sum(view, l3, header)) !== 0) return FRAGMENT_INVALID;
    const offset = offFlags & OFFSET_4;
    const more = (offFlags & MORE_4) !== 0;
    this.first = offset === 0;
    this.last = offset !== 0 && !more;
    if (!this.last && size < this.v4.minSize) {
      this.v4.tooSmall++;
      return FRAGMENT_INVALID;
    }
    this.start = (offset * 8) & 0xffff;
    this.end = (this.start + size - header - 1) & 0xffff;
    this.identify(a, datagramOf4(view, l3));
    return FRAGMENT_HELD;
  }

  private parse6(a: Arrival): number {
    const { view, layout } = a;
    const l3 = a.off + layout.l3;
    const size = layout.end - layout.l3;
    const header = lastFragmentHeader(view, l3, a.off + layout.l4);
    if (header < 0) return FRAGMENT_PASSED;
    const offFlags = view.getUint16(header + 2);
    if ((offFlags & (MORE_6 | OFFSET_6)) === 0) return FRAGMENT_PASSED;
    const offset = offFlags & OFFSET_6;
    const more = (offFlags & MORE_6) !== 0;
    this.first = offset === 0;
    this.last = offset !== 0 && !more;
    if (!this.last && size < this.v6.minSize) {
      this.v6.tooSmall++;
      return FRAGMENT_INVALID;
    }
    this.start = (offset + FRAGMENT_HEADER_6) & 0xffff;
    this.end = (this.start + layout.end - layout.l4 - 1) & 0xffff;
    this.identify(a, datagramOf6(view, l3, header));
    return FRAGMENT_HELD;
  }

  /** The state of a list after this fragment. A last one that comes before the first, and then another one
   *  before it, keeps the list waiting for a first. */
  private next(state: number): number {
    switch (state) {
      case UNUSED:
      case OTHER_SEEN:
        return this.first ? FIRST_SEEN : this.last ? LAST_SEEN : OTHER_SEEN;
      case FIRST_SEEN:
        return this.last ? FIRST_LAST_SEEN : FIRST_SEEN;
      case LAST_SEEN:
        return this.first ? FIRST_LAST_SEEN : LAST_SEEN;
      default:
        return FIRST_LAST_SEEN;
    }
  }
}

/** Fragments that an IPv4 datagram can have if all but the last are of the least size. */
function mostPieces(minSize: number): number {
  return Math.ceil((MAX_PACKET - MAX_HEADER_4) / (minSize - MAX_HEADER_4));
}

function isComplete(pieces: readonly Piece[]): boolean {
  for (let i = 1; i < pieces.length; i++) if (pieces[i - 1].end + 1 !== pieces[i].start) return false;
  return true;
}

/** Whether the datagram, with the frame's headers in front, has a length that IP can tell. One that is
 *  longer than 65,535 bytes has an end that counts as small. */
function fits(pieces: readonly Piece[]): boolean {
  const rest = pieces[pieces.length - 1].end - pieces[1].start + 1;
  return rest >= 0 && pieces[0].layout.end + rest <= MAX_PACKET;
}

function describe(list: List): string {
  const { bytes, layout } = list.pieces[0];
  const frame = bytes as Uint8Array;
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const { l3, l4 } = layout;
  let addresses: string;
  let id: number;
  if (list.ipv6) {
    const words = Int32Array.from({ length: 8 }, (_, i) => view.getInt32(l3 + 8 + i * 4));
    addresses = `src=${formatIpv6(words, 0)},dst=${formatIpv6(words, 4)}`;
    id = view.getUint32(lastFragmentHeader(view, l3, l4) + 4);
  } else {
    addresses = `src=${formatIpv4(view.getInt32(l3 + 12))},dst=${formatIpv4(view.getInt32(l3 + 16))}`;
    id = view.getUint16(l3 + 4);
  }
  return (
    `(${addresses},recirc_id=${list.recircId},ip_id=${id},dl_type=0x${list.ipv6 ? '86dd' : '800'},` +
    `zone=${list.zone},nw_proto=${list.ipv6 ? 0 : view.getUint8(l3 + 9)},` +
    `num_fragments=${list.pieces.length},state=${STATE_NAMES[list.state]})`
  );
}
