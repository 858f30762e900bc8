/** How many connections a zone may have: rule for rule that of Open vSwitch's userspace tracker
 *  (ovs-appctl(8), dpctl/ct-set-limits), but for the time at which an ended connection gives its place back.
 *  There a sweeper does that within 20 seconds; here the caller removes what has ended before a commit is
 *  refused, so that the capture's clock alone decides whether it fits.
 *
 *  - An entry counts the connections that were committed since it was made: when the zone was given a limit,
 *    or under a default limit by the zone's first commit.
 *  - A zone's own limit beats the default. 0 means none at all; a default of 0 is no default.
 *  - Deleting a zone's limit puts it under the default one, with its count, or forgets the entry.
 *
 *  Private to the coordinator. */

/** Instead of a zone: the default limit. */
export const DEFAULT_ZONE = -1;
/** More than a partition has slots. */
const SLOTS = 2 ** 26;

/** What is counted in one zone. */
class Entry {
  /** Its own limit, or null: the default one. */
  limit: number | null;
  /** The connections, as home * SLOTS + slot. */
  readonly members: number[] = [];
  /** Up to this time in ms no member can have ended, but for those that a packet ended … */
  nextExpiry = -1;
  /** … of which there had been so many when it was last looked. */
  lastEnded = -1;

  constructor(limit: number | null) {
    this.limit = limit;
  }
}

/** What dpctl/ct-get-limits says of a zone. */
export interface ZoneLimit {
  zone: number;
  limit: number;
  count: number;
}

export class ZoneLimits {
  /** 0: none. */
  private byDefault = 0;
  private readonly entries = new Map<number, Entry>();
  /** By home and slot: place among its entry's members + 1, or 0. */
  private readonly places: Int32Array[] = [];
  private readonly capacity: number;

  /** `capacity`: slots of each of the `homes` partitions. */
  constructor(homes: number, capacity: number) {
    this.capacity = capacity;
    this.places.length = homes;
  }

  /** dpctl/ct-set-limits for a zone or DEFAULT_ZONE. */
  set(zone: number, limit: number): void {
    if (zone === DEFAULT_ZONE) {
      if (limit === 0) this.remove(DEFAULT_ZONE);
      else this.byDefault = limit;
      return;
    }
    const entry = this.entries.get(zone);
    if (entry === undefined) this.entries.set(zone, new Entry(limit));
    else entry.limit = limit;
  }

  /** dpctl/ct-del-limits for a zone or DEFAULT_ZONE. */
  remove(zone: number): void {
    if (zone === DEFAULT_ZONE) {
      this.byDefault = 0;
      for (const [z, entry] of this.entries) if (entry.limit === null) this.forget(z, entry);
      return;
    }
    const entry = this.entries.get(zone);
    if (entry === undefined) return;
    if (this.byDefault !== 0) entry.limit = null;
    else this.forget(zone, entry);
  }

  /** dpctl/ct-get-limits for a zone or DEFAULT_ZONE; `live` says whether a member counts. */
  get(zone: number, live: (home: number, slot: number) => boolean): ZoneLimit {
    const entry = this.entries.get(zone);
    let count = 0;
    for (const member of entry?.members ?? []) {
      if (live(Math.floor(member / SLOTS), member % SLOTS)) count++;
    }
    return { zone, limit: entry?.limit ?? this.byDefault, count };
  }

  /** The limit that a zone is under, or null. */
  limitOf(zone: number): number | null {
    const limit = this.entries.get(zone)?.limit ?? null;
    return limit === null && this.byDefault !== 0 ? this.byDefault : limit;
  }

  /** The zones that have a limit of their own, in order. */
  zones(): number[] {
    return [...this.entries]
      .filter(([, entry]) => entry.limit !== null)
      .map(([zone]) => zone)
      .sort((a, b) => a - b);
  }

  /** Connections that may be committed to `zone` before it is full; what has ended still counts. */
  room(zone: number): number {
    const entry = this.entries.get(zone);
    if (entry === undefined) return this.byDefault === 0 ? Infinity : this.byDefault;
    const limit = entry.limit ?? this.byDefault;
    return limit - entry.members.length;
  }

  /** Looks for members of `zone` that ended before `clock`, unless there can be none since the last time:
   *  every refused commit asks for this. `look` says when a member ends, or -1 when it has removed it; `ended`
   *  counts the connections that packets have ended; nobody refreshes one for less than until `soonest`. */
  makeRoom(
    zone: number,
    clock: number,
    ended: number,
    soonest: number,
    look: (home: number, slot: number) => number,
  ): void {
    const entry = this.entries.get(zone);
    if (entry === undefined || (clock <= entry.nextExpiry && ended === entry.lastEnded)) return;
    entry.lastEnded = ended;
    let next = soonest;
    // Backwards, because the last takes the place of one that is removed.
    for (let i = entry.members.length - 1; i >= 0; i--) {
      const member = entry.members[i];
      const ends = look(Math.floor(member / SLOTS), member % SLOTS);
      if (ends >= 0 && ends < next) next = ends;
    }
    entry.nextExpiry = next;
  }

  /** Forgets when it was last looked for what has ended: timeouts have changed. */
  forgetTimes(): void {
    for (const entry of this.entries.values()) entry.nextExpiry = -1;
  }

  /** A connection of `zone` has been committed. */
  added(zone: number, home: number, slot: number): void {
    let entry = this.entries.get(zone);
    if (entry === undefined) {
      if (this.byDefault === 0) return;
      entry = new Entry(null);
      this.entries.set(zone, entry);
    }
    this.places[home] ??= new Int32Array(this.capacity);
    this.places[home][slot] = entry.members.push(home * SLOTS + slot);
  }

  /** A connection of `zone` is gone. */
  removed(zone: number, home: number, slot: number): void {
    const place = this.places[home]?.[slot] ?? 0;
    if (place === 0) return;
    this.places[home][slot] = 0;
    const { members } = this.entries.get(zone) as Entry;
    const last = members.pop() as number;
    if (place > members.length) return;
    members[place - 1] = last;
    this.places[Math.floor(last / SLOTS)][last % SLOTS] = place;
  }

  private forget(zone: number, entry: Entry): void {
    for (const member of entry.members) {
      this.places[Math.floor(member / SLOTS)][member % SLOTS] = 0;
    }
    this.entries.delete(zone);
  }
}
