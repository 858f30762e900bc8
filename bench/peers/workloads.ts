/** What is replayed: the same packets and flow table for both sides. What is made here arrives on port 1. */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { PortFile } from '../../src/cli/options.js';
import { openSource, portMap } from '../../src/cli/replay.js';
import { type Frame, MAX_FRAME } from '../../src/generate/frames.js';
import { writeCapture } from '../../src/generate/write.js';
import { newMergedRecord } from '../../src/pcap/merge.js';
import { PcapWriter } from '../../src/pcap/pcap-writer.js';
import { ReadResult } from '../../src/pcap/types.js';
import type { PrefixSet } from '../../src/wire/cidr.js';
import { firewall } from '../traffic/acl.js';
import { countFlows, mixed, tcp, udp } from '../traffic/generate.js';
import type { Arrival } from './ovs.js';

const root = new URL('../../../', import.meta.url);
const fixture = (name: string) => fileURLToPath(new URL(`fixtures/captures/${name}`, root));

const table = (name: string) => fileURLToPath(new URL(`bench/peers/flows/${name}`, root));

export const FIREWALL = table('firewall.txt');

/** Where the flow tables send to. */
export const OUTPUT = 2;

/** Real captures for `mixed-large`, where the checkout lies beside the corpus. */
export const CORPUS = fileURLToPath(new URL('../shared/corpus/mixed-large', root));

/** Flows that these are multiplied to. */
const MIXED_FLOWS = 100_000;

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
const REAL_COPIES = 32;

/** Seconds of the capture's clock that a round takes where every packet opens a connection: UDP forgets one in 60 s, so
 *  that connections expire between the rounds, and six of ten are alive. */
const FRESH_SECONDS = 100;

/** What a workload is made from. */
export interface Sources {
  /** Folder for what is made. */
  dir: string;
  /** Real captures for `mixed-large`. */
  corpus: string;
}

/** A workload, made. */
export interface Prepared {
  arrivals: Arrival[];
  /** Ports that only send. */
  outputs: number[];
  flows: string;
  groups?: string | undefined;
  packets: number;
  bytes: number;
  /** To be said below the table. */
  notes: string[];
}

export interface Workload {
  name: string;
  what: string;
  /** How many times as fast as OVS-DPDK issue 6 wants it to be. */
  target: number | null;
  /** Every packet opens a connection: Open vSwitch's figure is of the first time that the capture comes; on our side
   *  connections expire between the rounds, so that making and removing them are both in the figure. */
  fresh?: boolean;
  /** Only if it is asked for. */
  extra?: boolean;
  /** A workload that is measured in the same rounds, and is to be no faster than `within` of it. */
  like?: { name: string; within: number };
  prepare(sources: Sources): Promise<Prepared>;
}

type Frames = Iterable<Frame> | AsyncIterable<Frame>;

interface Made extends Omit<Workload, 'prepare'> {
  /** Where all packets are counted; everything arrives on port 1. */
  frames: (sources: Sources) => Frames | Promise<Frames>;
  flows: string | (() => string);
  groups?: string;
}

function made(m: Made): Workload {
  return {
    ...m,
    async prepare(sources) {
      const capture = path.join(sources.dir, `${m.name}.pcap`);
      const frames = await m.frames(sources);
      const rate = m.fresh ? { rate: Math.ceil(FRESH_PACKETS / FRESH_SECONDS) } : {};
      const { packets, bytes } = await writeCapture(capture, frames, rate);
      let { flows } = m;
      if (typeof flows !== 'string') {
        const text = flows();
        flows = path.join(sources.dir, `${m.name}.flows`);
        fs.writeFileSync(flows, text);
      }
      return {
        arrivals: [{ port: 1, capture, packets }],
        outputs: [OUTPUT],
        flows,
        groups: m.groups,
        packets,
        bytes,
        notes: [],
      };
    },
  };
}

const FEW = 140_000;
const MANY = 1_000_000;
/** Where every packet opens a connection. Eight addresses have room for 516,096 translated ones to one port of one
 *  server. */
const FRESH_PACKETS = 280_000;

const flows = { frameBytes: 60, seed: 1, bothWays: false, checksums: false };
const udp100k = () => udp({ ...flows, packets: 200_000, connections: 100_000 });
const udpFresh = () => udp({ ...flows, packets: FRESH_PACKETS, connections: FRESH_PACKETS });

export const WORKLOADS: readonly Workload[] = [
  made({
    name: 'udp-1000',
    target: 4,
    flows: FIREWALL,
    what: 'firewall, established, 1,000 UDP connections',
    frames: () => udp({ ...flows, packets: FEW, connections: 1000 }),
  }),
  made({
    name: 'udp-100000',
    target: 5,
    flows: FIREWALL,
    what: 'firewall, established, 100,000 UDP connections',
    frames: udp100k,
  }),
  made({
    name: 'udp-1000000',
    target: 5,
    flows: FIREWALL,
    what: 'firewall, established, 1,000,000 UDP connections',
    frames: () => udp({ ...flows, packets: MANY, connections: MANY }),
  }),
  made({
    name: 'tcp-100000',
    target: 5,
    flows: FIREWALL,
    what: 'firewall, TCP both ways, 100,000 connections, handshake and 7 segments each',
    frames: () => tcp({ ...flows, packets: MANY, connections: 100_000 }),
  }),
  made({
    name: 'snat-100000',
    target: 4,
    what: 'SNAT over 8 addresses, established, 100,000 UDP connections',
    flows: table('snat.txt'),
    frames: udp100k,
  }),
  made({
    name: 'dnat-100000',
    target: 4,
    what: 'DNAT over 8 addresses, established, 100,000 UDP connections',
    flows: table('dnat.txt'),
    frames: udp100k,
  }),
  made({
    name: 'balance-100000',
    target: 4,
    what: 'load balancer: a select group of 8 backends by DNAT, established, 100,000 UDP connections',
    flows: table('balance.txt'),
    groups: table('balance-groups.txt'),
    frames: udp100k,
  }),
  made({
    name: 'zones-100000',
    target: 4,
    what: 'three zones deep, established, 100,000 UDP connections',
    flows: table('zones.txt'),
    frames: udp100k,
  }),
  made({
    name: 'udp-new',
    target: 3,
    what: 'firewall, every packet a new UDP connection',
    flows: FIREWALL,
    fresh: true,
    frames: udpFresh,
  }),
  made({
    name: 'tcp-new',
    target: 3,
    what: 'firewall, every packet the SYN of a new connection',
    flows: FIREWALL,
    fresh: true,
    frames: () => tcp({ ...flows, packets: FRESH_PACKETS, connections: FRESH_PACKETS }),
  }),
  made({
    name: 'snat-new',
    target: 3,
    what: 'SNAT over 8 addresses, every packet a new UDP connection',
    flows: table('snat.txt'),
    fresh: true,
    frames: udpFresh,
  }),
  made({
    name: 'balance-new',
    target: null,
    what: 'load balancer, every packet a new UDP connection',
    flows: table('balance.txt'),
    groups: table('balance-groups.txt'),
    fresh: true,
    frames: udpFresh,
  }),
  made({
    name: 'rules-10',
    target: null,
    what: 'firewall of 10 rules in 3 tables, 100,000 UDP connections',
    flows: () => firewall(10, 3),
    frames: udp100k,
  }),
  made({
    name: 'rules-10000',
    target: null,
    like: { name: 'rules-10', within: 0.05 },
    what: 'firewall of 10,000 rules in 20 tables, the same packets',
    flows: () => firewall(10_000, 20),
    frames: udp100k,
  }),
  {
    ...made({
      name: 'mixed-large',
      target: 4,
      what: `real captures joined, each flow several times: ${MIXED_FLOWS.toLocaleString('en')} flows`,
      flows: FIREWALL,
      frames: async ({ corpus }) => mixed(await multiplied(realCaptures(corpus))),
    }),
  },
  made({
    name: 'mixed',
    target: null,
    extra: true,
    what: `shipped captures joined, each flow ${REAL_COPIES} times`,
    flows: FIREWALL,
    frames: () =>
      mixed({ captures: REAL.map(fixture), packets: FEW, copies: REAL_COPIES, maxFrame: MAX_FRAME }),
  }),
  made({
    name: 'tcp-10000',
    target: null,
    extra: true,
    what: 'firewall, TCP both ways, 10,000 connections',
    flows: FIREWALL,
    frames: () => tcp({ ...flows, packets: FEW, connections: 10_000 }),
  }),
];

/** Those of the folder, or those that are shipped. */
export function realCaptures(corpus: string): string[] {
  if (!fs.existsSync(corpus)) return REAL.map(fixture);
  const names = fs.readdirSync(corpus).filter((name) => /\.(pcap|pcapng|cap)$/.test(name));
  if (names.length === 0) throw new Error(`${corpus}: there are no captures in it`);
  return names.sort().map((name) => path.join(corpus, name));
}

/** All of the captures, each flow so often that there are MIXED_FLOWS. */
async function multiplied(captures: string[]) {
  const n = await countFlows(captures, MAX_FRAME);
  const copies = Math.min(256, Math.max(1, Math.ceil(MIXED_FLOWS / n)));
  return { captures, packets: Number.MAX_SAFE_INTEGER, copies, maxFrame: MAX_FRAME };
}

/** Captures and tables of one's own. */
export interface Own {
  captures: string[];
  in: PortFile[];
  inside?: PrefixSet;
  ports: number[];
  flows: string;
  groups?: string;
}

/** A workload of somebody else's captures. DPDK takes classic pcap of frames that fit its buffers, so every port's
 *  packets are written to a file of their own, in the order of all of them, one a microsecond: nothing expires between
 *  two rounds. */
export function ownWorkload(own: Own): Workload {
  return {
    name: 'own',
    what: [...own.captures, ...own.in.map((i) => i.path)].map((p) => path.basename(p)).join(', '),
    target: null,
    async prepare({ dir }) {
      const { arena, source } = await openSource([...own.captures, ...own.in.map((i) => i.path)]);
      const { portOf } = portMap(own);
      const record = newMergedRecord();
      const view = new DataView(arena.sab);
      const files = new Map<number, { writer: PcapWriter; arrival: Arrival }>();
      let packets = 0;
      let bytes = 0;
      let tooLong = 0;
      try {
        for (;;) {
          const result = source.next(record);
          if (result === ReadResult.END) break;
          if (result === ReadResult.STARVED) await source.readable();
          if (result !== ReadResult.PACKET) continue;
          const { off, capLen, iface } = record;
          if (capLen > MAX_FRAME) {
            tooLong++;
          } else {
            const port = portOf(record.source, iface, view, off, capLen);
            let file = files.get(port);
            if (file === undefined) {
              const capture = path.join(dir, `own-${port}.pcap`);
              file = { writer: new PcapWriter(capture), arrival: { port, capture, packets: 0 } };
              files.set(port, file);
            }
            const sec = 1_600_000_000 + Math.floor(packets / 1e6);
            file.writer.write(sec, (packets % 1e6) * 1000, arena.u8, off, capLen, capLen);
            file.arrival.packets++;
            packets++;
            bytes += capLen;
          }
          arena.release(record.segment);
        }
      } finally {
        source.close();
        for (const { writer } of files.values()) writer.finish();
      }
      if (packets === 0) throw new Error('the captures hold no packets');
      const arrivals = [...files.values()].map((f) => f.arrival).sort((a, b) => a.port - b.port);
      const outputs = [...new Set([...own.ports, OUTPUT])].filter((p) => !files.has(p));
      const notes: string[] = [];
      if (tooLong > 0) notes.push(`${tooLong} packets of more than ${MAX_FRAME} bytes are left out`);
      if (arrivals.length > 1) {
        notes.push('Open vSwitch replays the ports side by side, each in its own order, and not by time');
      }
      return { arrivals, outputs, flows: own.flows, groups: own.groups, packets, bytes, notes };
    },
  };
}
