/** What threads do in the model: packets through the main thread's side and workers, over the copy that mirror.ts makes.
 *  Thread 0 is the main thread, with the loop of coordinator/replay.ts; the others are workers.
 *
 *  After each run: every packet has one verdict, in input order, and it is that of a run without workers; so are the
 *  connections at the end. When a packet is collected, all connections that it and those before it have made are in the
 *  books. Threads that all sleep are a deadlock, as is a worker that does not stop. */
import assert from 'node:assert/strict';
import type { Collector, Verdict } from '../../src/coordinator/collector.js';
import type { dumpConntrack } from '../../src/coordinator/dump.js';
import type { Fabric } from '../../src/coordinator/fabric.js';
import type { Shard, ShardInit } from '../../src/datapath/shard.js';
import type { orderingOf } from '../../src/openflow/order.js';
import type { parseFlows } from '../../src/openflow/parser.js';
import type { Pipeline } from '../../src/openflow/tables.js';
import type { Translator } from '../../src/openflow/translate.js';
import type { MessageReader, MessageWriter, WordRing } from '../../src/rings/words.js';
import type { Steering } from '../../src/rss/steer.js';
import type { defaultIndirection, Toeplitz } from '../../src/rss/toeplitz.js';
import {
  ACK,
  type Bytes,
  data,
  ethernet,
  FIN,
  fragmentIpv4,
  ipv4,
  ipv6,
  type Random,
  RST,
  SYN,
  tcp,
  udp,
} from '../support/packets.js';
import type { World } from './explore.js';
import type { Mirror } from './mirror.js';
import { $again, $call, $op, $top, $works, type Memory, type Pending, use } from './sched.js';

interface Frame {
  port: number;
  /** Clock in ms. */
  at: number;
  bytes: Bytes;
}

export interface Scenario {
  name: string;
  about: string;
  flows: string;
  workers: number;
  window: number;
  vector: number;
  maxConns: number;
  packets: readonly Frame[];
  /** So many of them first, in whatever order: translations and verdicts are known then. */
  ready?: number;
  /** Threads are stopped until the end, not only until all packets are collected. */
  stops?: boolean;
  /** What is changed before a packet, while none is in flight. */
  fence?: { before: number; flow: string; checkSequence: boolean };
  /** Workers are told to stop while packets are in flight: the run is over, and nothing is asked but that they end. */
  aborts?: boolean;
  /** Connections that zone 0 may have. */
  zoneLimit?: number;
  /** Capacity of the rings of requests, answers and templates, if it is to be small. */
  ringWords?: number;
  /** Whether ended connections are removed meanwhile. */
  sweeps?: boolean;
  /** Whether packets that may be answers are kept on the main thread (steered mode): all, or these. */
  keeps?: boolean | readonly number[];
}

const CLIENT = '10.0.0.1';
const SERVER = '10.0.0.2';

function udpFrame(port: number, at: number, from: string, sport: number, to: string, dport: number): Frame {
  return { port, at, bytes: ethernet({}, ipv4({ src: from, dst: to }, udp({ sport, dport }))) };
}
function tcpFrame(
  port: number,
  at: number,
  from: string,
  sport: number,
  to: string,
  dport: number,
  o: object,
): Frame {
  return { port, at, bytes: ethernet({}, ipv4({ src: from, dst: to }, tcp({ sport, dport, ...o }))) };
}
const there = (sport: number, at = 0): Frame => udpFrame(1, at, CLIENT, sport, SERVER, 53);
const frame6 = (port: number, src: string, sport: number, dst: string, dport: number): Frame => ({
  port,
  at: 0,
  bytes: ethernet({}, ipv6({ src, dst }, udp({ sport, dport }))),
});
const there6 = (sport: number): Frame => frame6(1, 'fd00::1', sport, 'fd00::2', 53);
const back6 = (sport: number): Frame => frame6(2, 'fd00::2', 53, 'fd00::1', sport);
const back = (sport: number, at = 0): Frame => udpFrame(2, at, SERVER, 53, CLIENT, sport);
/** Packets of a connection like those that follow: all translations and verdicts are known then. */
const KNOWN = [there(90), back(90), there(90)];
const asked = (server: string, at = 0): Frame => udpFrame(1, at, CLIENT, 40001, server, 53);
const answered = (server: string, at = 0): Frame => udpFrame(2, at, server, 53, '10.0.9.9', 7000);
const TRANSLATED = [asked('10.0.0.9'), answered('10.0.0.9'), asked('10.0.0.9')];

/** The commit is the last that is asked for: a worker may make the connection by itself. */
const LAST = `table=0,ip,actions=ct(table=1)
table=1,ip,ct_state=+new,actions=ct(commit),output:2
table=1,ip,ct_state=+est-rpl,actions=output:2
table=1,ip,ct_state=+est+rpl,actions=output:1`;
/** Another ct() follows it: the coordinator is asked. */
const ASKED = `table=0,ip,actions=ct(table=1)
table=1,ip,ct_state=+new,actions=ct(commit),ct(zone=1,table=2)
table=1,ip,ct_state=+est-rpl,actions=output:2
table=1,ip,ct_state=+est+rpl,actions=output:1
table=2,ip,actions=output:3`;
const NORMAL = 'table=0,ip,actions=normal,ct(table=1)\ntable=1,ip,actions=output:3';
const NAT = `table=0,ip,ct_state=-trk,actions=ct(nat,table=1)
table=1,ip,ct_state=+new,in_port=1,actions=ct(commit,nat(src=10.0.9.9:7000)),output:2
table=1,ip,ct_state=+est-rpl,actions=output:2
table=1,ip,ct_state=+est+rpl,actions=output:1`;

/** Answers of unknown connections open one, too. */
const NAT_BOTH = `${NAT}\ntable=1,ip,ct_state=+new,in_port=2,actions=ct(commit),output:1`;
/** Addresses that differ, so that whose translation a packet has shows. */
const NAT_RANGE = NAT.replace('src=10.0.9.9:7000', 'src=10.0.9.1-10.0.9.9');
const SWITCHED = `table=0,ip,actions=ct(table=1)
table=1,ip,ct_state=+new,actions=ct(commit,table=2)
table=1,ip,ct_state=+est,actions=resubmit(,2)
table=2,ip,actions=normal,output:3`;
const NOTHING_BEHIND = 'table=0,ip,actions=ct(table=1)\ntable=1,ip,actions=normal';
/** Two fragments of a datagram. */
const PARTS: readonly Frame[] = fragmentIpv4(
  ipv4({ src: CLIENT, dst: SERVER, id: 7 }, udp({ sport: 5, dport: 53, data: data(100) })),
  84,
).map((part) => ({ port: 1, at: 0, bytes: ethernet({}, part) }));

/** Translated connections, each long after the one before has ended. */
const LATER = [3, 4, 5, 6].map((n) => asked(`10.0.0.${n}`, n * 200_000));

/** More than there are slots of connections, in scenarios of six. */
const SLOTS = 32;
/** As many connections, each long after the one before has ended: all slots have been in use. Then two packets of the last,
 *  and connections that may get its slot. */
const slotsUsed = (of: (n: number, at: number) => Frame): Frame[] => [
  ...Array.from({ length: SLOTS }, (_, i) => of(100 + i, i * 200_000)),
  ...[140, 99 + SLOTS, 141, 99 + SLOTS].map((n) => of(n, SLOTS * 200_000)),
];

const few = { workers: 1, window: 4, vector: 2, maxConns: 100 };

export const SCENARIOS: readonly Scenario[] = [
  {
    ...few,
    name: 'made',
    about:
      'connections that the worker makes in granted slots; packets behind them wait until they can be found',
    flows: LAST,
    ready: 3,
    packets: [...KNOWN, there(1), back(1), there(2)],
  },
  {
    ...few,
    name: 'alone',
    about: 'one connection that the worker makes: it is in the books when its packet is complete',
    flows: LAST,
    ready: 3,
    packets: [...KNOWN, there(1)],
  },
  {
    ...few,
    name: 'ending',
    about: 'the first packet of all, with its translations, and the end: workers stop, also those that sleep',
    flows: 'table=0,actions=output:2',
    stops: true,
    packets: [there(1)],
  },
  {
    ...few,
    name: 'translated',
    about: 'translations that packets wait for, one behind the other, and behind their own connection',
    flows: LAST,
    packets: [there(1), there(1)],
  },
  {
    ...few,
    name: 'asked',
    about: 'connections that the worker asks for: upcall, commit, packets parked behind each other',
    flows: ASKED,
    ready: 3,
    packets: [...KNOWN, there(1), back(1), there(1)],
  },
  {
    ...few,
    name: 'queued',
    about: 'packets that wait behind one, in their order',
    flows: ASKED,
    ready: 3,
    packets: [...KNOWN, there(1), there(1), back(1)],
  },
  {
    ...few,
    name: 'grown',
    about: 'the index grows while connections are made and looked for',
    flows: LAST,
    window: 3,
    ready: 3,
    packets: [...KNOWN, there(1), there(2), there(3), back(1), back(3)],
  },
  {
    ...few,
    name: 'removed',
    about: 'connections end, are removed, and their slots used again',
    flows: LAST,
    window: 2,
    maxConns: 20,
    sweeps: true,
    ready: 3,
    packets: [...KNOWN, there(1), there(2, 70_000), there(1, 140_000), back(1, 140_000)],
  },
  {
    ...few,
    name: 'reused',
    about:
      'each slot has been used: new connections need those that have been removed, once no search can be there any more',
    flows: ASKED,
    window: 4,
    maxConns: 6,
    sweeps: true,
    ready: SLOTS,
    packets: slotsUsed(there),
  },
  {
    ...few,
    name: 'reused, steered',
    about: 'the same of translated connections in the table that workers share',
    flows: NAT,
    workers: 2,
    window: 4,
    maxConns: 6,
    sweeps: true,
    ready: SLOTS,
    packets: slotsUsed((n, at) => asked(`10.0.0.${n}`, at)),
  },
  {
    ...few,
    name: 'full',
    about: 'a full table: commits are refused, in order',
    flows: LAST,
    maxConns: 2,
    ready: 3,
    packets: [...KNOWN, there(1), there(2), back(2)],
  },
  {
    ...few,
    name: 'normal',
    about: 'packets whose switching depends on order, and something follows it',
    flows: NORMAL,
    ready: 3,
    packets: [...KNOWN, there(1), back(1), there(2)],
  },
  {
    ...few,
    name: 'small rings',
    about: 'rings that hold less than an answer or a template, a window of two, vectors of one packet',
    flows: ASKED,
    window: 2,
    vector: 1,
    ringWords: 2,
    ready: 3,
    packets: [...KNOWN, there(1), back(1)],
  },
  {
    ...few,
    name: 'two workers',
    about: 'two workers, whose requests depend on the order between them',
    flows: LAST,
    workers: 2,
    maxConns: 2,
    ready: 3,
    packets: [...KNOWN, there(1), there(2), back(1)],
  },
  {
    ...few,
    name: 'steered',
    about:
      'translated connections: an answer behind its request is called back from its home and handed over',
    flows: NAT,
    workers: 2,
    ready: 3,
    packets: [...TRANSLATED, asked(SERVER), answered(SERVER)],
  },
  {
    ...few,
    name: 'kept',
    about: 'the same, with answers kept on the main thread until their request is through',
    flows: NAT,
    workers: 2,
    keeps: true,
    ready: 3,
    packets: [...TRANSLATED, asked(SERVER), answered(SERVER)],
  },
  {
    ...few,
    name: 'rewritten',
    about: 'frames of translated packets, made a vector at a time from what is known of them',
    flows: NAT,
    workers: 2,
    ready: 3,
    packets: [...TRANSLATED, asked('10.0.0.9'), answered('10.0.0.9'), asked('10.0.0.9')],
  },
  {
    ...few,
    name: 'forgotten',
    about: "translated connections end and are removed: their packets are nobody's, and go where others go",
    flows: NAT,
    workers: 2,
    window: 2,
    maxConns: 20,
    sweeps: true,
    ready: 3,
    packets: [...TRANSLATED, asked(SERVER, 200_000), answered(SERVER, 200_000), asked('10.0.0.9', 400_000)],
  },
  {
    ...few,
    name: 'stepped',
    about: 'the state of a TCP connection, changed by packets in both directions',
    flows: LAST,
    ready: 3,
    packets: [
      ...KNOWN,
      tcpFrame(1, 0, CLIENT, 9, SERVER, 80, { flags: SYN, seq: 100 }),
      tcpFrame(2, 0, SERVER, 80, CLIENT, 9, { flags: SYN | ACK, seq: 500, ack: 101 }),
      tcpFrame(1, 0, CLIENT, 9, SERVER, 80, { flags: ACK, seq: 101, ack: 501 }),
    ],
  },
  {
    ...few,
    name: 'limit',
    about: 'commits to a full table that make room by their own clock, while packets before them still look',
    flows: NAT_RANGE,
    vector: 4,
    maxConns: 1,
    ready: 1,
    packets: LATER,
  },
  {
    ...few,
    name: 'zone limit',
    about: 'the same at the limit of a zone',
    flows: NAT_RANGE,
    vector: 4,
    zoneLimit: 1,
    ready: 1,
    packets: LATER,
  },
  {
    ...few,
    name: 'limit, plain',
    about: 'the same of connections that are not translated',
    flows: LAST,
    vector: 4,
    maxConns: 1,
    ready: 3,
    packets: [...KNOWN, there(1, 200_000), there(2, 400_000), there(3, 600_000)],
  },
  {
    ...few,
    name: 'fragments',
    about: 'fragments that wait for each other, in frames that were changed',
    flows: ASKED.replace('actions=ct(', 'actions=mod_nw_tos:4,ct('),
    packets: [...PARTS, there(1)],
  },
  {
    ...few,
    name: 'ipv6',
    about: 'addresses of IPv6, which are written elsewhere than the rest of a tuple',
    flows: ASKED.replaceAll('ip,', 'ipv6,'),
    ready: 2,
    packets: [there6(90), back6(90), there6(1), back6(1)],
  },
  {
    ...few,
    name: 'misses',
    about: 'translations that packets of two connections wait for',
    flows: LAST,
    packets: [there(1), there(2), back(1)],
  },
  {
    ...few,
    name: 'switched',
    about: 'a packet that has its connection, and is then switched in its turn',
    flows: SWITCHED,
    ready: 3,
    packets: [...KNOWN, there(1), there(1), there(2)],
  },
  {
    ...few,
    name: 'left to switch',
    about: 'packets that are switched when they are collected',
    flows: NOTHING_BEHIND,
    ready: 3,
    packets: [...KNOWN, there(1), back(1)],
  },
  {
    ...few,
    name: 'ended',
    about: 'a connection that a packet ends, and the next one begins',
    flows: LAST,
    maxConns: 20,
    sweeps: true,
    ready: 3,
    packets: [
      ...KNOWN,
      tcpFrame(1, 0, CLIENT, 9, SERVER, 80, { flags: SYN, seq: 100 }),
      tcpFrame(2, 0, SERVER, 80, CLIENT, 9, { flags: RST | ACK, seq: 0, ack: 101 }),
      tcpFrame(1, 0, CLIENT, 9, SERVER, 80, { flags: SYN, seq: 9000 }),
      there(2, 1),
      there(3, 2),
    ],
  },
  {
    ...few,
    name: 'cold',
    about: 'translated packets before anything is known: translations, frames, answers called back',
    flows: NAT,
    workers: 2,
    packets: [asked(SERVER), answered(SERVER), asked(SERVER)],
  },
  {
    ...few,
    name: 'called back',
    about: 'answers are called back which have nothing to say, or wait for their turn',
    flows: NAT,
    workers: 2,
    window: 5,
    vector: 1,
    ready: 4,
    packets: [
      ...TRANSLATED,
      answered('10.0.0.8'),
      asked(SERVER),
      answered(SERVER),
      answered(SERVER),
      asked(SERVER),
    ],
  },
  {
    ...few,
    name: 'called back asking',
    about: 'answers are called back which ask for a connection of their own, with what waits behind them',
    flows: NAT_BOTH,
    workers: 2,
    window: 5,
    ready: 4,
    packets: [
      ...TRANSLATED,
      answered('10.0.0.8'),
      asked(SERVER),
      answered(SERVER),
      answered(SERVER),
      asked(SERVER),
    ],
  },
  {
    ...few,
    name: 'small rings, steered',
    about: 'answers that do not fit into their ring, while packets are handed over and others come',
    flows: NAT,
    workers: 2,
    window: 3,
    vector: 1,
    ringWords: 7,
    ready: 3,
    packets: [...TRANSLATED, asked(SERVER), answered(SERVER), asked(SERVER), answered(SERVER), asked(SERVER)],
  },
  {
    ...few,
    name: 'small rings, cold',
    about: 'the same of one worker, and templates that do not fit into theirs',
    flows: LAST,
    ringWords: 2,
    packets: [there(1), back(1)],
  },
  {
    ...few,
    name: 'aborted',
    about: 'workers are told to stop while they wait for room in their rings',
    flows: ASKED,
    ringWords: 2,
    aborts: true,
    ready: 3,
    packets: [...KNOWN, there(1), back(1)],
  },
  {
    ...few,
    name: 'unannounced',
    about: 'completions that the main thread is not woken for at once',
    flows: LAST,
    window: 16,
    ready: 3,
    packets: [...KNOWN, there(1), back(1), there(2)],
  },
  {
    ...few,
    name: 'unannounced, small rings',
    about: 'the same, behind requests that do not fit into their ring',
    flows: LAST,
    window: 16,
    ringWords: 2,
    ready: 3,
    packets: [...KNOWN, there(1), there(2)],
  },
  {
    ...few,
    name: 'out of slots',
    about: 'more connections than slots have been granted, and more packets that wait than may',
    flows: LAST,
    window: 8,
    vector: 8,
    ready: 3,
    packets: [...KNOWN, there(1), there(2), there(3), there(4), there(5), there(6), there(7), back(6)],
  },
  {
    ...few,
    name: 'granted no more',
    about: 'slots are granted, until so few connections are left to the limit that workers have to ask',
    flows: LAST,
    window: 2,
    maxConns: 18,
    ready: 3,
    packets: [...KNOWN, ...Array.from({ length: 20 }, (_, i) => there(1 + i))],
  },
  {
    ...few,
    name: 'changed',
    about: 'tables and settings that change while no packet is in flight',
    flows: LAST,
    ready: 3,
    fence: {
      before: 5,
      flow: 'table=1,priority=40000,ip,ct_state=+est-rpl,actions=output:3',
      checkSequence: false,
    },
    packets: [
      ...KNOWN,
      tcpFrame(1, 0, CLIENT, 9, SERVER, 80, { flags: SYN, seq: 100 }),
      tcpFrame(2, 0, SERVER, 80, CLIENT, 9, { flags: SYN | ACK, seq: 500, ack: 101 }),
      // Far out of its window: invalid, if that were still looked at.
      tcpFrame(1, 0, CLIENT, 9, SERVER, 80, { flags: ACK, seq: 2 ** 30, ack: 501, data: data(4) }),
      there(90),
    ],
  },
  {
    ...few,
    name: 'turn',
    about: 'packets of no connection, which have to wait for their turn before that is certain',
    flows: NAT,
    workers: 2,
    ready: 4,
    packets: [...TRANSLATED, answered('10.0.0.8'), asked(SERVER), answered('10.0.0.7'), answered('10.0.0.8')],
  },
  {
    ...few,
    name: 'called back cold',
    about: 'answers are called back which wait for a translation that another packet has asked for',
    flows: NAT,
    workers: 2,
    ready: 1,
    packets: [asked('10.0.0.9'), asked(SERVER), answered('10.0.0.8'), answered('10.0.0.7'), answered(SERVER)],
  },
  {
    ...few,
    name: 'crowded',
    about: 'more packets than may wait, in steered mode',
    flows: NAT_BOTH,
    window: 8,
    vector: 4,
    ready: 4,
    packets: [
      ...TRANSLATED,
      answered('10.0.0.8'),
      ...[11, 12, 13, 14, 15, 16, 17, 18].map((n) => answered(`10.0.0.${n}`)),
    ],
  },
  {
    ...few,
    name: 'crowded, kept',
    about: 'a packet that was kept comes to a worker with as many that wait as may',
    flows: NAT_BOTH,
    window: 8,
    vector: 4,
    ready: 4,
    keeps: [4],
    packets: [
      ...TRANSLATED,
      answered('10.0.0.8'),
      ...[11, 12, 13, 14, 15, 16, 17, 18].map((n) => answered(`10.0.0.${n}`)),
    ],
  },
  {
    ...few,
    name: 'at once',
    about: 'all packets in flight are complete at once',
    flows: LAST,
    window: 2,
    ready: 3,
    packets: [...KNOWN, there(90), back(90), there(90), back(90)],
  },
];

/** A scenario of a drawn table, with drawn packets, limits and sizes. */
export function drawn(r: Random): Scenario {
  const flows = r.pick([
    LAST,
    ASKED,
    NORMAL,
    NAT,
    NAT,
    NAT_BOTH,
    NAT_BOTH,
    NAT_RANGE,
    SWITCHED,
    NOTHING_BEHIND,
  ]);
  const translates = /nat\(src/.test(flows);
  const packets: Frame[] = [];
  let at = 0;
  for (let n = 4 + r.int(6); n > 0; n--) {
    if (r.once(6)) at += r.pick([1, 40_000, 200_000]);
    const sport = 1 + r.int(3);
    const server = `10.0.0.${2 + r.int(4)}`;
    const flags = r.pick([SYN, SYN | ACK, ACK, RST, FIN | ACK]);
    if (translates) packets.push(r.once(2) ? asked(server, at) : answered(server, at));
    else if (!r.once(3)) packets.push(r.once(3) ? back(sport, at) : there(sport, at));
    else if (r.once(2)) packets.push(tcpFrame(1, at, CLIENT, sport, SERVER, 80, { flags, seq: 1 }));
    else packets.push(tcpFrame(2, at, SERVER, 80, CLIENT, sport, { flags, seq: 1, ack: 2 }));
  }
  if (!translates && r.once(4)) {
    const from = r.int(packets.length);
    packets.splice(from, 0, ...PARTS.map((part) => ({ ...part, at: packets[from].at })));
  }
  return {
    name: 'drawn',
    about: 'drawn',
    flows,
    packets,
    workers: 1 + r.int(3),
    window: 2 + r.int(6),
    vector: 1 + r.int(4),
    maxConns: r.pick([1, 2, 3, 20, 100]),
    sweeps: r.once(2),
    keeps: r.once(2),
    ...(r.once(3) ? { ringWords: 2 + r.int(12) } : {}),
    ...(r.once(6) ? { zoneLimit: 1 + r.int(2) } : {}),
  };
}

/** The modules of a copy. */
export interface Product {
  Fabric: typeof Fabric;
  Shard: typeof Shard;
  Collector: typeof Collector;
  Pipeline: typeof Pipeline;
  Translator: typeof Translator;
  parseFlows: typeof parseFlows;
  orderingOf: typeof orderingOf;
  Steering: typeof Steering;
  Toeplitz: typeof Toeplitz;
  DEFAULT_RSS_KEY: Uint8Array;
  defaultIndirection: typeof defaultIndirection;
  dumpConntrack: typeof dumpConntrack;
}

export async function load(mirror: Mirror): Promise<Product> {
  const files = [
    'coordinator/fabric.js',
    'datapath/shard.js',
    'coordinator/collector.js',
    'openflow/tables.js',
    'openflow/translate.js',
    'openflow/parser.js',
    'openflow/order.js',
    'rss/steer.js',
    'rss/toeplitz.js',
    'coordinator/dump.js',
  ];
  return Object.assign({}, ...(await Promise.all(files.map((f) => mirror.load<object>(f))))) as Product;
}

const FRAME_ROOM = 128;
/** Bytes of a fragment at least (dpctl/ipf-set-min-frag). */
const MIN_FRAGMENT = 68;

/** What a run has said: a line a packet, how many connections there had been by then, and the connections left. */
interface Outcome {
  lines: string[];
  commits: number[];
  dump: string[];
}

/** A scenario, over the modules of a copy: makes one world after the other. */
export class Stage {
  private readonly p: Product;
  private readonly s: Scenario;
  private readonly arena: SharedArrayBuffer;
  private readonly rules: ReturnType<typeof parseFlows>;
  private readonly steered: boolean;
  private readonly seed: number;
  /** By packet: hash and home. */
  private readonly hashes: number[] = [];
  private readonly homes: number[] = [];
  /** What a run without workers says. */
  readonly want: Outcome;

  /** `want`: of a product without mistakes; `seed`: key of the tables' hashes, and where packets go. */
  constructor(product: Product, scenario: Scenario, want?: Outcome, seed = 12345) {
    this.seed = seed;
    this.p = product;
    this.s = scenario;
    const { packets, workers, flows } = scenario;
    this.arena = new SharedArrayBuffer(packets.length * FRAME_ROOM);
    const u8 = new Uint8Array(this.arena);
    packets.forEach(({ bytes }, i) => {
      u8.set(bytes, i * FRAME_ROOM);
    });
    this.rules = product.parseFlows(flows, 'flows.txt');
    const { mode } = product.orderingOf(this.rules.map((r) => r.actions));
    this.steered = mode === 'steered';
    const steering = new product.Steering(
      new product.Toeplitz(product.DEFAULT_RSS_KEY),
      product.defaultIndirection(workers),
      seed,
    );
    steering.reassembles = !this.steered;
    const view = new DataView(this.arena);
    packets.forEach(({ bytes }, i) => {
      steering.locate(view, i * FRAME_ROOM, bytes.length);
      this.hashes.push(steering.hash);
      this.homes.push(steering.home);
    });
    this.want = want ?? this.reference();
  }

  /** A run without workers. */
  private reference(): Outcome {
    use(null);
    const { fabric, collector, outcome, dump } = this.begin(0);
    fabric.start(collector);
    for (let i = 0; i < this.s.packets.length; i++) {
      if (this.fences(fabric, i)) {
        fabric.setSequenceCheck(this.s.fence!.checkSequence);
        fabric.tidy();
      }
      this.fill(fabric, collector, i);
      fabric.dispatch(i % this.s.window, 0);
      fabric.flush();
      fabric.poll();
      collector.drain();
      fabric.sweep(100);
    }
    outcome.dump = dump();
    return outcome;
  }

  /** A run from its beginning. */
  readonly make = (begin: (w: Memory, n: number) => void): World => {
    const { s, want } = this;
    use(null);
    const { fabric, collector, outcome, dump } = this.begin(s.workers);
    const inits: ShardInit[] = [];
    fabric.start(collector, (init) => inits.push(init));
    const buffers = inits.flatMap((i) => [
      i.ctl,
      i.work,
      i.done,
      i.requests,
      i.replies,
      i.templates,
      ...(i.grants === null ? [] : [i.grants]),
      i.partition.ctl,
      i.partition.ended,
      i.partition.expected,
    ]);
    const tables = inits.flatMap(({ partition: t }) => [
      new Int32Array(t.hot),
      new Int32Array(t.index),
      new Int32Array(t.nat),
    ]);
    const shards = inits.map((init) => new this.p.Shard(init));
    const levels = inits.map((i) => i.partition.ctl);
    begin({ buffers, levels, tables: [fabric.packets.hash, ...tables] }, 1 + s.workers);
    return {
      threads: [this.main(fabric, collector), ...shards.map((shard) => $call(1, shard, 'run'))],
      active: () =>
        collector.head >= (s.ready ?? 0) &&
        (s.stops === true || s.aborts === true || collector.head < s.packets.length),
      check: () => {
        if (s.aborts === true) return;
        outcome.dump = dump();
        assert.deepEqual(outcome.lines, want.lines, 'verdicts');
        assert.deepEqual(outcome.dump, want.dump, 'connections');
        if (fabric.homes !== null) this.checkDirectory(fabric);
        outcome.commits.forEach((n, i) => {
          assert.ok(n >= want.commits[i], `${n} connections in the books when packet ${i + 1} is collected`);
        });
      },
    };
  };

  private begin(workers: number) {
    const { p, s, arena } = this;
    const translator = new p.Translator(
      new p.Pipeline({ rules: this.rules, groups: [], meters: [], ports: [1, 2, 3] }),
    );
    const outcome: Outcome = { lines: [], commits: [], dump: [] };
    const fabric: Fabric = new p.Fabric({
      workers,
      steered: this.steered,
      mayAnswer: (slot: number): boolean =>
        typeof s.keeps === 'object' ? s.keeps.includes(fabric.packets.seq[slot]) : s.keeps === true,
      slots: s.window,
      arena,
      translator,
      ports: [1, 2, 3],
      maxConns: s.maxConns,
      vector: s.vector,
      seed: this.seed,
      ...(s.ringWords === undefined ? {} : { ringWords: s.ringWords }),
    });
    const { coordinator } = fabric;
    fabric.reassembly.v4.minSize = MIN_FRAGMENT;
    if (s.zoneLimit !== undefined) coordinator.limits.set(0, s.zoneLimit);
    const sink = {
      verdict: (v: Verdict) => {
        const frames = v.template.frames.map((f) =>
          Buffer.from(v.frameBytes[f].slice(v.frameOff[f], v.frameOff[f] + v.frameLen[f])).toString('hex'),
        );
        outcome.lines.push(`${v.packet} ${v.template.json} ${frames.join(' ')}`);
        outcome.commits.push(coordinator.ledger.total(0));
      },
    };
    const collector = new p.Collector(
      fabric.packets,
      arena,
      workers,
      (slot) => fabric.homes?.collected(slot),
      [sink],
      translator.pipeline.stats,
      fabric.reassembly,
    );
    const end = s.packets.at(-1)!.at;
    const dump = () => {
      coordinator.settle(end + 1);
      return p.dumpConntrack(coordinator.partitions, end);
    };
    return { fabric, collector, outcome, dump };
  }

  /** No more hashes are named than the connections that are left have tuples. */
  private checkDirectory({ homes, coordinator }: Fabric): void {
    const { directory } = homes as unknown as { directory: { settle(): void; nNodes: number } };
    directory.settle();
    const tuples = 2 * coordinator.connections;
    assert.ok(directory.nNodes <= tuples, `${directory.nNodes} hashes are named for ${tuples} tuples`);
  }

  /** Changes the flow table, if that is due before packet `i`; the rest of the fence is to follow. */
  private fences(fabric: Fabric, i: number): boolean {
    const { fence } = this.s;
    if (fence?.before !== i) return false;
    const [rule] = this.p.parseFlows(fence.flow, 'events');
    fabric.pipeline.flowMod({ command: 'add', rule, cookieMask: 0n, outPort: null, outGroup: null }, 0);
    return true;
  }

  private fill(fabric: Fabric, collector: Collector, i: number): void {
    const { packets } = fabric;
    const { port, at, bytes } = this.s.packets[i];
    const slot = i % this.s.window;
    packets.off[slot] = i * FRAME_ROOM;
    packets.capLen[slot] = packets.wireLen[slot] = bytes.length;
    packets.sec[slot] = packets.nsec[slot] = 0;
    packets.seq[slot] = i;
    packets.clock[slot] = at;
    packets.inPort[slot] = port;
    packets.hash[slot] = this.hashes[i];
    if (collector.inFlight === 0) collector.clock = at;
    collector.dispatched++;
  }

  /** The main thread: the loop of coordinator/replay.ts, and Fabric.stop. */
  private *main(fabric: Fabric, collector: Collector): Generator<Pending, void> {
    const { packets, window, workers, ready = 0 } = this.s;
    let next = 0;
    for (;;) {
      $top();
      let busy = false;
      const upTo = collector.head < ready ? ready : packets.length;
      while (next < upTo && collector.inFlight < window) {
        if (collector.inFlight > 0 && next === this.s.fence?.before) break;
        $works(30);
        if (this.fences(fabric, next)) {
          yield* $call(15, fabric, 'setSequenceCheck', this.s.fence!.checkSequence);
          yield* $call(16, fabric, 'tidy');
        }
        this.fill(fabric, collector, next);
        yield* $call(10, fabric, 'dispatch', next % window, this.homes[next]);
        next++;
        busy = true;
      }
      yield* $call(11, fabric, 'flush');
      if (this.s.aborts === true && next === packets.length) break;
      if (yield* $call(12, fabric, 'poll')) busy = true;
      if (collector.drain()) busy = true;
      if (next === packets.length && collector.inFlight === 0) break;
      if (this.s.sweeps) yield* $call(13, fabric, 'sweep', 100);
      if (!busy) yield* $call(14, fabric, 'sleep', 1);
    }
    const { ctl } = fabric as unknown as { ctl: Int32Array };
    for (let worker = 0; worker < workers; worker++) {
      const line = (2 * worker + 1) * 16;
      yield* $op(20, 'store', ctl, line + 1, 1);
      yield* $op(21, 'add', ctl, line, 1);
      yield* $op(22, 'notify', ctl, line);
    }
  }
}

/** The modules of a copy of the rings. */
export interface Rings {
  WordRing: typeof WordRing;
  MessageWriter: typeof MessageWriter;
  MessageReader: typeof MessageReader;
}

/** Messages through a ring of `capacity` words, which is less than they have: what comes out is what went in. */
export function ringStage(p: Rings, capacity: number, messages: readonly number[][]) {
  return (begin: (memory: Memory, n: number) => void): World => {
    use(null);
    const sab = p.WordRing.allocate(capacity);
    const pause = new SharedArrayBuffer(4);
    const writer = new p.MessageWriter(new p.WordRing(sab));
    const reader = new p.MessageReader(new p.WordRing(sab), 8);
    begin({ buffers: [sab, pause], levels: [], tables: [] }, 2);
    const got: number[][] = [];
    const rest = new Int32Array(pause);
    function* write(): Generator<Pending, void> {
      for (const [i, payload] of messages.entries()) {
        const at = writer.begin(1, i, payload.length);
        writer.words.set(payload, at);
        for ($again(); !(yield* $call(1, writer, 'flush')); $again()) yield* $op(2, 'wait', rest, 0, 0, 0.1);
      }
    }
    function* read(): Generator<Pending, void> {
      while (got.length < messages.length) {
        $top();
        const m = (yield* $call(3, reader, 'next')) as number;
        if (m < 0) yield* $op(4, 'wait', rest, 0, 0, 0.1);
        else got.push([...reader.words.slice(m + 3, m + reader.words[m])]);
      }
    }
    return {
      threads: [write(), read()],
      active: () => true,
      check: () => assert.deepEqual(got, messages, 'messages'),
    };
  };
}
