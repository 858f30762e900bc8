/** What is replayed: the same capture and flow table for both sides, everything arriving on port 1. */
import { fileURLToPath } from 'node:url';
import type { Frame } from '../../src/generate/frames.js';
import { mixed, tcp, udp } from '../traffic/generate.js';

const root = new URL('../../../', import.meta.url);
const fixture = (name: string) => fileURLToPath(new URL(`fixtures/captures/${name}`, root));

export const FIREWALL = fileURLToPath(new URL('bench/peers/flows/firewall.txt', root));

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
}

const flows = { packets: PACKETS, frameBytes: 60, seed: 1, bothWays: false, checksums: false };

export const WORKLOADS: readonly Workload[] = [
  {
    name: 'udp-1000',
    what: 'UDP, 1,000 connections, 60 bytes',
    frames: () => udp({ ...flows, connections: 1000 }),
  },
  {
    name: 'udp-100000',
    what: 'UDP, 100,000 connections, 60 bytes',
    frames: () => udp({ ...flows, connections: 100_000 }),
  },
  {
    name: 'tcp-10000',
    what: 'TCP both ways, 10,000 connections, 60 bytes',
    frames: () => tcp({ ...flows, connections: 10_000 }),
  },
  {
    name: 'mixed',
    what: 'real captures, each flow 32 times',
    frames: () => mixed({ captures: REAL.map(fixture), packets: PACKETS, copies: 32, maxFrame: 1514 }),
  },
];
