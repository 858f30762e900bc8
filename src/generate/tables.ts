/** Flow tables that fit the traffic of `traffic.ts`: a stateful firewall in which clients may open connections and
 *  servers may answer, with zones, NAT and access lists as asked for. */
import { formatIpv4 } from '../wire/address.js';
import { accessLines } from './acl.js';
import { Random } from './random.js';
import {
  CLIENT_PORT,
  DNAT_FIRST,
  type Nat,
  SERVER_PORT,
  SERVERS,
  SNAT_FIRST,
  type TrafficOptions,
} from './traffic.js';

export interface TableOptions {
  /** Rules of access lists, besides those that the firewall needs. */
  rules: number;
  /** Tables that they are shared out to. */
  lists: number;
}

export const MOST_LISTS = 200;

/** Register that carries the zone. */
const ZONE = 'NXM_NX_REG0[0..15]';

/** The text of the table. */
export function tablesFor(
  traffic: Pick<TrafficOptions, 'zones' | 'nat' | 'natTargets' | 'ipv6Percent'>,
  { rules, lists }: TableOptions,
): string {
  const { zones, nat, natTargets } = traffic;
  const zone = zones > 0 ? `zone=${ZONE},` : '';
  const families = traffic.ipv6Percent > 0 ? ['ip', 'ipv6'] : ['ip'];
  const last = 1 + (rules > 0 ? lists : 0);
  const flows: string[] = ['# Everything is tracked.'];
  const track = `ct(${zone}${nat === 'none' ? '' : 'nat,'}table=1)`;
  for (const family of families) {
    if (zones === 0) flows.push(`table=0,priority=10,${family},actions=${track}`);
    for (let z = 1; z <= zones; z++) {
      flows.push(`table=0,priority=10,${family},dl_vlan=${z},actions=load:${z}->${ZONE},${track}`);
    }
  }
  flows.push('table=0,priority=0,actions=drop');
  if (rules > 0) flows.push('# Access lists: all go on to the next table.');
  for (let t = 1; t < last; t++) {
    const n = Math.floor(rules / lists) + (t <= rules % lists ? 1 : 0);
    flows.push(`table=${t},priority=0,actions=resubmit(,${t + 1})`);
    for (const line of accessLines(new Random(t), n)) {
      flows.push(`table=${t},${line},actions=resubmit(,${t + 1})`);
    }
  }
  flows.push('# Clients open connections, servers answer.');
  const opening = `table=${last},priority=20,ip,in_port=${CLIENT_PORT},ct_state=+new+trk`;
  for (let t = 0; nat !== 'none' && t < natTargets; t++)
    flows.push(`${opening},${translation(nat, t, zone)}`);
  for (const family of families) {
    const at = (port: number) => `table=${last},priority=10,${family},in_port=${port}`;
    const commit = `ct(commit${zones > 0 ? `,zone=${ZONE}` : ''})`;
    flows.push(`${at(CLIENT_PORT)},ct_state=+new+trk,actions=${commit},output:${SERVER_PORT}`);
    flows.push(`${at(CLIENT_PORT)},ct_state=+est+trk,actions=output:${SERVER_PORT}`);
    flows.push(`${at(SERVER_PORT)},ct_state=+est+trk,actions=output:${CLIENT_PORT}`);
  }
  flows.push(`table=${last},priority=0,actions=drop`);
  return `${flows.join('\n')}\n`;
}

/** Match and actions of what is translated to, or by, the target `t`. */
function translation(nat: Nat, t: number, zone: string): string {
  const [match, to] =
    nat === 'snat'
      ? [`nw_src=10.${t}.0.0/16`, `src=${formatIpv4(SNAT_FIRST + t)}`]
      : [`nw_dst=${formatIpv4(DNAT_FIRST + t)}`, `dst=${formatIpv4(SERVERS + t)}`];
  return `${match},actions=ct(commit,${zone}nat(${to})),output:${SERVER_PORT}`;
}
