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
/** What is counted in one zone. */
interface Entry {
  /** Its own limit, or null: the default one. */
  limit: number | null;
  /** Connections. */
  count: number;
  /** Never that of another entry, nor 0. */
  readonly id: number;
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
  private ids = 0;
  /** By home and slot: id of the entry that counts the connection, or 0. */
  private readonly countedBy: Int32Array[] = [];
  private readonly capacity: number;

  /** `capacity`: slots of each of the `homes` partitions. */
  constructor(homes: number, capacity: number) {
    this.capacity = capacity;
    this.countedBy.length = homes;
  }

  /** dpctl/ct-set-limits for a zone or DEFAULT_ZONE. */
  set(zone: number, limit: number): void {
    if (zone === DEFAULT_ZONE) {
      if (limit === 0) this.remove(DEFAULT_ZONE);
      else this.byDefault = limit;
      return;
    }
    const entry = this.entries.get(zone);
    if (entry === undefined) this.entries.set(zone, this.newEntry(limit));
    else entry.limit = limit;
  }

  /** dpctl/ct-del-limits for a zone or DEFAULT_ZONE. */
  remove(zone: number): void {
    if (zone === DEFAULT_ZONE) {
      this.byDefault = 0;
      for (const [z, entry] of this.entries) if (entry.limit === null) this.entries.delete(z);
      return;
    }
    const entry = this.entries.get(zone);
    if (entry === undefined) return;
    if (this.byDefault !== 0) entry.limit = null;
    else this.entries.delete(zone);
  }

  /** dpctl/ct-get-limits for a zone or DEFAULT_ZONE. */
  get(zone: number): ZoneLimit {
    const entry = this.entries.get(zone);
    return { zone, limit: entry?.limit ?? this.byDefault, count: entry?.count ?? 0 };
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

  /** Whether no zone is limited. */
  get none(): boolean {
    return this.byDefault === 0 && this.entries.size === 0;
  }

  /** Connections that may be committed to `zone` before it is full; what has ended still counts. */
  room(zone: number): number {
    const entry = this.entries.get(zone);
    if (entry === undefined) return this.byDefault === 0 ? Infinity : this.byDefault;
    const limit = entry.limit ?? this.byDefault;
    return limit - entry.count;
  }

  /** A connection is being committed to `zone`. False if no limit counts it. */
  added(zone: number, home: number, slot: number): boolean {
    let entry = this.entries.get(zone);
    if (entry === undefined) {
      if (this.byDefault === 0) return false;
      entry = this.newEntry(null);
      this.entries.set(zone, entry);
    }
    entry.count++;
    this.countedBy[home] ??= new Int32Array(this.capacity);
    this.countedBy[home][slot] = entry.id;
    return true;
  }

  /** A connection of `zone` is gone. */
  removed(zone: number, home: number, slot: number): void {
    const id = this.countedBy[home]?.[slot] ?? 0;
    if (id === 0) return;
    this.countedBy[home][slot] = 0;
    const entry = this.entries.get(zone);
    if (entry?.id === id) entry.count--;
  }

  private newEntry(limit: number | null): Entry {
    this.ids = (this.ids + 1) | 0 || 1;
    return { limit, count: 0, id: this.ids };
  }
}
