/** What is replayed: the same capture and flow table for both sides, everything arriving on port 1. */
import { fileURLToPath } from 'node:url';
import type { Frame } from '../../src/generate/frames.js';
import { mixed, tcp, udp } from '../traffic/generate.js';

const root = new URL('../../../', import.meta.url);
const fixture = (name: string) => fileURLToPath(new URL(`fixtures/captures/${name}`, root));

const table = (name: string) => fileURLToPath(new URL(`bench/peers/flows/${name}`, root));

export const FIREWALL = table('firewall.txt');

/** As many as DPDK's preloading takes, with some room. */
export const PACKETS = 140_000;

/** The larger Ethernet captures that are shipped, without those that are damaged on purpose. */
const REAL = [
  'web-client.pcap',
  'icmp6-errors-ospf.pcap',
  'scan-arp.pcap',
  'http-arp.pcapng',
  'icmp-nbns.pcap',
  'tcp-handshakes.pcap',
  'udp-teredo.pcap',
];

export interface Workload {
  name: string;
  what: string;
  frames: () => Iterable<Frame> | AsyncIterable<Frame>;
  flows: string;
  groups?: string;
  /** Every packet opens a connection: Open vSwitch sees the capture once, on our side connections expire between the
   *  rounds. */
  fresh?: boolean;
}

/** Packets a second of the capture's clock where every packet opens a connection: UDP forgets one in 60 s, and a round
 *  takes longer. */
export const FRESH_RATE = 1000;

const flows = { packets: PACKETS, frameBytes: 60, seed: 1, bothWays: false, checksums: false };

export const WORKLOADS: readonly Workload[] = [
  {
    name: 'udp-1000',
    flows: FIREWALL,
    what: 'UDP, 1,000 connections, 60 bytes',
    frames: () => udp({ ...flows, connections: 1000 }),
  },
  {
    name: 'udp-100000',
    flows: FIREWALL,
    what: 'UDP, 100,000 connections, 60 bytes',
    frames: () => udp({ ...flows, connections: 100_000 }),
  },
  {
    name: 'tcp-10000',
    flows: FIREWALL,
    what: 'TCP both ways, 10,000 connections, 60 bytes',
    frames: () => tcp({ ...flows, connections: 10_000 }),
  },
  {
    name: 'mixed',
    flows: FIREWALL,
    what: 'real captures, each flow 32 times',
    frames: () => mixed({ captures: REAL.map(fixture), packets: PACKETS, copies: 32, maxFrame: 1514 }),
  },
  {
    name: 'zones-100000',
    what: 'three zones deep, 100,000 UDP connections',
    flows: table('zones.txt'),
    frames: () => udp({ ...flows, connections: 100_000 }),
  },
  {
    name: 'snat-100000',
    what: 'SNAT over 8 addresses, 100,000 UDP connections',
    flows: table('snat.txt'),
    frames: () => udp({ ...flows, connections: 100_000 }),
  },
  {
    name: 'dnat-100000',
    what: 'DNAT over 8 addresses, 100,000 UDP connections',
    flows: table('dnat.txt'),
    frames: () => udp({ ...flows, connections: 100_000 }),
  },
  {
    name: 'balance-100000',
    what: 'a select group of 8 backends, 100,000 UDP connections',
    flows: table('balance.txt'),
    groups: table('balance-groups.txt'),
    frames: () => udp({ ...flows, connections: 100_000 }),
  },
  {
    name: 'snat-new',
    what: 'SNAT over 8 addresses, every packet a new UDP connection',
    flows: table('snat.txt'),
    fresh: true,
    frames: () => udp({ ...flows, connections: PACKETS }),
  },
  {
    name: 'balance-new',
    what: 'a select group of 8 backends, every packet a new UDP connection',
    flows: table('balance.txt'),
    groups: table('balance-groups.txt'),
    fresh: true,
    frames: () => udp({ ...flows, connections: PACKETS }),
  },
];
