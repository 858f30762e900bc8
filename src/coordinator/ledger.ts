/** The books of the connection table: commits and what became of them, by zone. Whatever happens, in every zone
 *
 *      committed = live + expired + evicted + flushed
 *
 *  Every entry is made where the thing itself is done, so that the sum tells whether something was lost or done
 *  twice. Written by the coordinator. */

const ZONES = 0x10000;

/** Connections made. */
export const COMMITTED = 0;
/** Connections whose time was over. */
export const EXPIRED = 1;
/** Connections that a packet ended: a SYN after both ends had closed, or `ct(commit,force)` from the other side. */
export const EVICTED = 2;
/** Connections that a command removed. */
export const FLUSHED = 3;
/** Commits that made no connection: the table was full, the zone was, no tuple was left to translate to. */
export const TABLE_FULL = 4;
export const ZONE_FULL = 5;
export const NO_TUPLE_LEFT = 6;
const COLUMNS = 8;

/** By reason of PartitionWriter.remove (REMOVED_*). */
export const ENTRY_OF_REMOVAL = [EXPIRED, EVICTED, FLUSHED] as const;

export class Ledger {
  private readonly totals = new Float64Array(COLUMNS);
  /** By zone. */
  private readonly rows = new Float64Array(ZONES * COLUMNS);

  count(zone: number, entry: number): void {
    this.totals[entry]++;
    this.rows[zone * COLUMNS + entry]++;
  }

  total(entry: number): number {
    return this.totals[entry];
  }

  /** Commits that made no connection. */
  get refused(): number {
    const { totals } = this;
    return totals[TABLE_FULL] + totals[ZONE_FULL] + totals[NO_TUPLE_LEFT];
  }

  /** Of one zone. */
  of(zone: number, entry: number): number {
    return this.rows[zone * COLUMNS + entry];
  }

  /** Zones in which a commit has been asked for, in order. */
  zones(): number[] {
    const { rows } = this;
    const zones: number[] = [];
    for (let zone = 0; zone < ZONES; zone++) {
      const r = zone * COLUMNS;
      if (rows[r + COMMITTED] + rows[r + TABLE_FULL] + rows[r + ZONE_FULL] + rows[r + NO_TUPLE_LEFT] > 0) {
        zones.push(zone);
      }
    }
    return zones;
  }
}
