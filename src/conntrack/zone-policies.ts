/** The timeout policies of zones: what `ovs-vsctl add-zone-tp` has said, and its shape in the table that
 *  workers read (timeouts.ts).
 *
 *  A connection goes by the policy that its zone had when it was committed. When that is replaced or deleted,
 *  the connection keeps its time until a packet refreshes it, then gets the default timeouts: the coordinator
 *  takes STATE_HAS_POLICY from the zone's connections. Private to the coordinator, but for that table. */
import { setPolicy, TIMEOUT_ATTRIBUTES } from './timeouts.js';

export class ZonePolicies {
  /** Seconds by attribute, in the order of their names. */
  private readonly policies = new Map<number, ReadonlyMap<string, number>>();
  private readonly timeouts: Float64Array;

  constructor(timeouts: Float64Array) {
    this.timeouts = timeouts;
  }

  /** Whether any zone has one. */
  get any(): boolean {
    return this.policies.size > 0;
  }

  has(zone: number): boolean {
    return this.policies.has(zone);
  }

  /** Zones that have a policy, in order. */
  zones(): number[] {
    return [...this.policies.keys()].sort((a, b) => a - b);
  }

  of(zone: number): ReadonlyMap<string, number> | undefined {
    return this.policies.get(zone);
  }

  /** False if that is the zone's policy already. */
  set(zone: number, attributes: ReadonlyMap<string, number>): boolean {
    const sorted = new Map([...attributes].sort(([a], [b]) => (a < b ? -1 : 1)));
    const before = this.policies.get(zone);
    if (before !== undefined && same(before, sorted)) return false;
    this.policies.set(zone, sorted);
    const byTimer = new Map<number, number>();
    for (const [name, seconds] of sorted) {
      const timer = TIMEOUT_ATTRIBUTES.get(name);
      if (timer !== undefined && timer !== null) byTimer.set(timer, seconds);
    }
    setPolicy(this.timeouts, zone, byTimer);
    this.endsAtOnce = this.shortest() === 0;
    return true;
  }

  remove(zone: number): void {
    this.policies.delete(zone);
    this.endsAtOnce = this.shortest() === 0;
  }

  /** Whether a policy has a timer of 0: a packet may leave its connection ended at its own time. */
  endsAtOnce = false;

  /** The shortest time in ms that any policy gives a connection; Infinity if there is none. */
  shortest(): number {
    let seconds = Infinity;
    for (const policy of this.policies.values()) {
      for (const [name, value] of policy)
        if (TIMEOUT_ATTRIBUTES.get(name) != null) seconds = Math.min(seconds, value);
    }
    return seconds * 1000;
  }
}

function same(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): boolean {
  return a.size === b.size && [...a].every(([name, value]) => b.get(name) === value);
}
