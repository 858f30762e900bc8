/** One share of a source: the packets between those addresses whose RSS hash falls into bucket `k` of `n`. Both
 *  directions of a connection, ICMP errors about it and fragments, in whatever order, are in one bucket; so the buckets of
 *  a capture together have the connections of the whole, with the packet numbers of the whole.
 *
 *  Fragments alone need more: ct() holds at most 1,000 of all connections, and of datagrams that are too old the oldest goes
 *  with each packet of anybody. So every share looks at the fragments of all: as long as none is refused, and none comes for a
 *  datagram that may or may not have gone by then, no connection depends on another bucket's. As soon as one might, every share
 *  finds out at the same packet, and gives up: the first one analyzes the whole then, and the others nothing. */
import { FLOW, FRAG_ANY, KEY_WORDS } from '../classifier/flow-key.js';
import { Arrival, Reassembly } from '../conntrack/ipf.js';
import { nestedActions } from '../openflow/rules.js';
import type { SegmentArena } from '../pcap/arena.js';
import type { PacketFilter } from '../pcap/filter.js';
import type { MergedRecord, PacketSource, SourceClock } from '../pcap/merge.js';
import { RestoredSource } from '../pcap/restored.js';
import { type LeftOut, SiftedSource } from '../pcap/sifted.js';
import { Steering } from '../rss/steer.js';
import { DEFAULT_RSS_KEY, defaultIndirection, Toeplitz } from '../rss/toeplitz.js';
import { extract } from '../wire/extract.js';
import type { Tables } from './analyze.js';

const { NW } = FLOW;

export interface Bucket {
  /** From 0. */
  k: number;
  n: number;
}

/** All jobs must share packets out alike, so no key is drawn. */
const SEED = 1;

/** Why connections under a flow table depend on each other, so that buckets would not be the whole; null: they don't. */
export function whyTogether({ pipeline, ordering }: Tables): string | null {
  if (ordering.mode !== 'parallel') return ordering.reason ?? 'translates addresses';
  for (const { actions, idleTimeout } of pipeline.rules()) {
    if (idleTimeout !== 0) return 'has flows that end when they are idle';
    for (const { kind } of nestedActions(actions)) {
      if (kind === 'normal') return 'switches by the addresses that it has learned (normal)';
      if (kind === 'group') return 'has groups';
    }
  }
  return null;
}

/** How many ct() a flow table has. */
function ctsOf({ pipeline }: Tables): number {
  let n = 0;
  for (const { actions } of pipeline.rules()) {
    for (const { kind } of nestedActions(actions)) if (kind === 'ct') n++;
  }
  return n;
}

/** Connections of a bucket may depend on those of another. */
export class NotApart extends Error {
  override name = 'NotApart';
}

export interface ShareOptions {
  bucket: Bucket;
  /** After NotApart: the first bucket is the whole, and the others are empty. */
  together: boolean;
  /** Only packets that pass are there at all. */
  filter: PacketFilter | null;
  cutAsIs: boolean;
  /** For `whyTogether` there is no reason. */
  tables: Tables;
}

/** A bucket of `source`. */
export class Share extends SiftedSource {
  /** Of other buckets, and of this one left out by the filter. */
  readonly elsewhere: LeftOut;
  readonly filtered: LeftOut;
  private readonly picked: Picked;
  private readonly watch: FragmentWatch | null;
  private readonly owner: Owner;

  constructor(source: PacketSource, options: ShareOptions, arena: SegmentArena) {
    const { bucket, together, cutAsIs, tables } = options;
    const left = { elsewhere: { packets: 0, bytes: 0 }, filtered: { packets: 0, bytes: 0 } };
    const owner = new Owner(bucket, together);
    const picked = new Picked(source, owner, options.filter, left, !together, arena);
    super(cutAsIs ? picked : new RestoredSource(picked, arena), arena);
    this.elsewhere = left.elsewhere;
    this.filtered = left.filtered;
    this.picked = picked;
    this.owner = owner;
    this.watch = together ? null : new FragmentWatch(arena, ctsOf(tables), tables.builtIn ? 2 : 1);
  }

  protected sift({ off, capLen }: MergedRecord): LeftOut | null {
    const { watch, owner, view } = this;
    if (watch === null || !owner.steering.mayBeFragment(view, off, capLen)) return null;
    watch.see(off, capLen, this.clock);
    return owner.has(view, off, capLen) ? null : this.elsewhere;
  }

  get clock(): SourceClock {
    return this.picked.clock;
  }
}

/** Whose a packet is. */
class Owner {
  readonly steering: Steering;
  private readonly k: number;

  constructor({ k, n }: Bucket, together: boolean) {
    this.steering = new Steering(new Toeplitz(DEFAULT_RSS_KEY), defaultIndirection(together ? 1 : n), SEED);
    this.k = k;
  }

  has(view: DataView, off: number, len: number): boolean {
    return this.steering.homeByAddresses(view, off, len) === this.k;
  }
}

/** The packets of a bucket, and if need be the fragments of all. */
class Picked extends SiftedSource {
  /** Of all packets that pass the filter. */
  readonly clock: SourceClock = { firstSec: 0, firstNsec: 0, sec: -Infinity, nsec: 0, packet: -1 };
  private readonly owner: Owner;
  private readonly passes: PacketFilter | null;
  private readonly left: Pick<Share, 'elsewhere' | 'filtered'>;
  /** Whether to give out the fragments of all. */
  private readonly fragments: boolean;

  constructor(
    source: PacketSource,
    owner: Owner,
    passes: PacketFilter | null,
    left: Pick<Share, 'elsewhere' | 'filtered'>,
    fragments: boolean,
    arena: SegmentArena,
  ) {
    super(source, arena);
    this.fragments = fragments;
    this.owner = owner;
    this.passes = passes;
    this.left = left;
  }

  protected sift(packet: MergedRecord): LeftOut | null {
    const { owner, passes, left, fragments, view, clock } = this;
    const { off, capLen, wireLen } = packet;
    const passed = passes === null || passes(view, off, capLen, wireLen);
    if (passed) tick(clock, packet.sec, packet.nsec);
    const isOwn = owner.has(view, off, capLen);
    if (passed && (isOwn || (fragments && owner.steering.mayBeFragment(view, off, capLen)))) return null;
    return isOwn ? left.filtered : left.elsewhere;
  }
}

function tick(clock: SourceClock, sec: number, nsec: number): void {
  if (++clock.packet === 0) {
    clock.firstSec = sec;
    clock.firstNsec = nsec;
  } else if (sec < clock.sec || (sec === clock.sec && nsec <= clock.nsec)) {
    return;
  }
  clock.sec = sec;
  clock.nsec = nsec;
}

/** Looks at fragments as ct() of all packets would, and at nothing else. */
class FragmentWatch {
  private readonly view: DataView;
  private readonly reassembly = new Reassembly();
  private readonly steering = new Steering(new Toeplitz(DEFAULT_RSS_KEY), defaultIndirection(1), SEED);
  private readonly arrival: Arrival;
  private readonly key = new Int32Array(KEY_WORDS);
  /** Fragments that are held in one pass; each ct() may hold them once more. */
  private readonly most: number;

  constructor(arena: SegmentArena, cts: number, vlanLimit: number) {
    this.view = new DataView(arena.sab);
    this.arrival = new Arrival(arena.u8, this.view);
    this.steering.reassembles = true;
    this.arrival.layout.vlanLimit = vlanLimit;
    this.most = Math.floor(this.reassembly.maxFragments / Math.max(1, cts));
  }

  /** Throws NotApart if what becomes of the fragment may depend on packets that are none. */
  see(off: number, len: number, clock: SourceClock): void {
    const { view, reassembly, steering, arrival, key } = this;
    const now = (clock.sec - clock.firstSec) * 1000 + Math.floor((clock.nsec - clock.firstNsec) / 1e6);
    // As the dispatcher does (Run.isSteered).
    const doubt = steering.doubt(view, off, len);
    if (doubt !== '') {
      reassembly.purge(now);
      steering.settle(doubt, reassembly.firstOf(doubt));
    }
    steering.locate(view, off, len);
    extract(view, off, len, key, arrival.layout);
    if (((key[NW] >>> 24) & FRAG_ANY) === 0 || arrival.layout.l4 < 0) return;
    arrival.off = off;
    arrival.len = len;
    arrival.packet(key, 0, steering.hash);
    reassembly.arrive(arrival, now);
    if (reassembly.isLate || reassembly.held >= this.most) throw new NotApart();
  }
}
