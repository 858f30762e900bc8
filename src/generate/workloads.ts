/** Workloads by name: what `shardtrack generate` writes and `shardtrack bench` replays, unless told otherwise. */
import { parseSizes } from './sizes.js';
import type { TableOptions } from './tables.js';
import type { TrafficOptions } from './traffic.js';
import { DEFAULT_RATE } from './write.js';

export interface Workload {
  name: string;
  /** In half a line. */
  what: string;
  traffic: TrafficOptions;
  table: TableOptions;
  /** Packets a second of the capture's clock. */
  rate: number;
}

const BASE: TrafficOptions = {
  packets: 100_000,
  connections: 1000,
  life: 0,
  protocols: { tcp: 0, udp: 1, icmp: 0, sctp: 0 },
  ipv6Percent: 0,
  replyPercent: 50,
  floodPercent: 0,
  sizes: parseSizes('60'),
  servers: 16,
  zones: 0,
  nat: 'none',
  natTargets: 8,
  checksums: true,
  complete: false,
  seed: 1,
};

const TCP = { tcp: 1, udp: 0, icmp: 0, sctp: 0 };
/** Closing connections make the capture one that can be replayed in a loop. */
const CLOSING = { protocols: TCP, complete: true };

function workload(
  name: string,
  what: string,
  traffic: Partial<TrafficOptions>,
  more: Partial<TableOptions & { rate: number }> = {},
): Workload {
  const { rules = 0, lists = 8, rate = DEFAULT_RATE } = more;
  return { name, what, traffic: { ...BASE, ...traffic }, table: { rules, lists }, rate };
}

export const WORKLOADS: readonly Workload[] = [
  workload('udp', '1,000 UDP connections, 60 bytes, both ways', {}),
  workload('udp-many', '100,000 UDP connections', { connections: 100_000, packets: 300_000 }),
  workload('udp-large', '1,000 UDP connections, 1514 bytes', {
    sizes: parseSizes('1514'),
    packets: 50_000,
  }),
  workload('tcp', '1,000 TCP connections: handshake, 64 segments both ways, close', {
    ...CLOSING,
    life: 64,
  }),
  workload('tcp-short', 'TCP connections of 2 segments: new ones all the time', { ...CLOSING, life: 2 }),
  workload('imix', 'TCP, UDP, ICMP and SCTP, a fifth IPv6, IMIX sizes', {
    complete: true,
    connections: 4000,
    life: 16,
    protocols: { tcp: 70, udp: 25, icmp: 3, sctp: 2 },
    ipv6Percent: 20,
    sizes: parseSizes('imix'),
  }),
  workload('ipv6', '1,000 TCP connections over IPv6', { ...CLOSING, life: 64, ipv6Percent: 100 }),
  workload('snat', '2,000 TCP connections behind 8 addresses', {
    ...CLOSING,
    connections: 2000,
    life: 16,
    nat: 'snat',
  }),
  workload('dnat', '2,000 TCP connections with 16 services behind addresses of their own', {
    ...CLOSING,
    connections: 2000,
    life: 16,
    nat: 'dnat',
    natTargets: 16,
  }),
  workload('zones', '4,000 TCP connections in 64 zones', {
    ...CLOSING,
    connections: 4000,
    life: 16,
    zones: 64,
  }),
  workload(
    'rules',
    'a firewall of 10,000 rules in 18 lists; new connections all the time',
    {
      ...CLOSING,
      life: 8,
    },
    { rules: 10_000, lists: 18 },
  ),
  // So slow that half-open connections of one round are gone before the next.
  workload(
    'syn-flood',
    '9 of 10 packets are SYNs from nowhere, the others TCP',
    {
      ...CLOSING,
      life: 32,
      connections: 200,
      floodPercent: 90,
    },
    { rate: 1000 },
  ),
];

/** Throws RangeError naming those that there are. */
export function workloadNamed(name: string): Workload {
  const found = WORKLOADS.find((w) => w.name === name);
  if (found !== undefined) return found;
  throw new RangeError(
    `there is no workload "${name}"; there are ${WORKLOADS.map((w) => w.name).join(', ')}`,
  );
}
