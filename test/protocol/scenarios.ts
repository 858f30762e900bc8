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
import { ACK, type Bytes, ethernet, ipv4, SYN, tcp, udp } from '../support/packets.js';
import type { World } from './explore.js';
import type { Mirror } from './mirror.js';
import { $call, $op, $top, $works, type Memory, type Pending, use } from './sched.js';

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
  /** Capacity of the rings of answers and templates, if it is to be small. */
  ringWords?: number;
  /** Whether ended connections are removed meanwhile. */
  sweeps?: boolean;
  /** Whether packets that may be answers are kept on the main thread (steered mode). */
  keeps?: boolean;
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
];

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

const SEED = 12345;
const FRAME_ROOM = 128;

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
  /** By packet: hash and home. */
  private readonly hashes: number[] = [];
  private readonly homes: number[] = [];
  /** What a run without workers says. */
  readonly want: Outcome;

  /** `want`: of a product without mistakes. */
  constructor(product: Product, scenario: Scenario, want?: Outcome) {
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
      SEED,
    );
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
    (globalThis as { ringWords?: number | undefined }).ringWords = s.ringWords;
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
        collector.head >= (s.ready ?? 0) && (s.stops === true || collector.head < s.packets.length),
      check: () => {
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
    const fabric = new p.Fabric({
      workers,
      steered: this.steered,
      mayAnswer: () => s.keeps === true,
      slots: s.window,
      arena,
      translator,
      ports: [1, 2, 3],
      maxConns: s.maxConns,
      vector: s.vector,
      seed: SEED,
    });
    const { coordinator } = fabric;
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
        $works(30);
        this.fill(fabric, collector, next);
        yield* $call(10, fabric, 'dispatch', next % window, this.homes[next]);
        next++;
        busy = true;
      }
      yield* $call(11, fabric, 'flush');
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
        while (!(yield* $call(1, writer, 'flush'))) yield* $op(2, 'wait', rest, 0, 0, 0.1);
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
