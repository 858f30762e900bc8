/** MAC learning of the `normal` action (ovs-vswitchd(8)): who was last seen on which port, by VLAN.
 *  Belongs to the coordinator, which asks in input order; times are the tracker's clock in ms. */

import { OFPP_LOCAL } from '../classifier/flow-key.js';

/** other_config:mac-aging-time, ovs-vswitchd.conf.db(5). */
export const MAC_AGING_MS = 300_000;
/** other_config:mac-table-size. */
export const MAC_TABLE_SIZE = 8192;

interface Entry {
  port: number;
  seen: number;
}

export class MacTable {
  /** In order of last use, oldest first. */
  private readonly entries = new Map<string, Entry>();

  /** Learns that `mac` (48 bits as a number) is on `port`. Group addresses are not learned. */
  learn(mac: number, vlan: number, port: number, now: number): void {
    if (isMulticast(mac)) return;
    const key = `${vlan}/${mac}`;
    this.entries.delete(key);
    this.entries.set(key, { port, seen: now });
    if (this.entries.size > MAC_TABLE_SIZE) this.entries.delete(this.entries.keys().next().value!);
  }

  /** The port where `mac` was last seen, or -1. */
  lookup(mac: number, vlan: number, now: number): number {
    const key = `${vlan}/${mac}`;
    const entry = this.entries.get(key);
    if (entry === undefined) return -1;
    if (now - entry.seen >= MAC_AGING_MS) {
      this.entries.delete(key);
      return -1;
    }
    return entry.port;
  }

  /** fdb/flush. */
  clear(): void {
    this.entries.clear();
  }

  /** fdb/show: the entry that was used longest ago first. */
  show(now: number): string {
    let text = ' Port  VLAN  MAC                Age\n';
    for (const [key, { port, seen }] of this.entries) {
      if (now - seen >= MAC_AGING_MS) continue;
      const [vlan, mac] = key.split('/');
      const bytes = Number(mac).toString(16).padStart(12, '0').match(/../g) as string[];
      const age = Math.floor((now - seen) / 1000);
      const name = port === OFPP_LOCAL ? 'LOCAL' : String(port);
      text += `${name.padStart(5)}  ${vlan.padStart(4)}  ${bytes.join(':')}  ${String(age).padStart(3)}\n`;
    }
    return text;
  }
}

/** Group bit of an Ethernet address (IEEE 802, section 8.2). */
export function isMulticast(mac: number): boolean {
  return (Math.floor(mac / 2 ** 40) & 1) === 1;
}

/** 01:80:c2:00:00:00 to :0f, which bridges don't forward (IEEE 802.1D, table 7-10). */
export function isReserved(mac: number): boolean {
  return mac >= 0x0180c2000000 && mac <= 0x0180c200000f;
}
