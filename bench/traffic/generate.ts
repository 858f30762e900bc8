/** Traffic for the benchmarks, packet by packet: the same bytes for the same options, on every machine. */
import { FLOW, FLOW_WORDS } from '../../src/classifier/flow-key.js';
import { type Frame, FrameBuilder, MAX_FRAME, MIN_FRAME } from '../../src/generate/frames.js';
import { Random } from '../../src/generate/random.js';
import { minSegments, SegmentArena } from '../../src/pcap/arena.js';
import { MergedSource, newMergedRecord } from '../../src/pcap/merge.js';
import { openCapture } from '../../src/pcap/open.js';
import { MAX_PACKET_BYTES, ReadResult } from '../../src/pcap/types.js';
import { ETH_TYPE_IP, extract, FrameLayout, IPPROTO_TCP, IPPROTO_UDP } from '../../src/wire/extract.js';
import { setWord } from '../../src/wire/rewrite.js';

export interface FlowOptions {
  packets: number;
  connections: number;
  /** Length of every frame that carries data. */
  frameBytes: number;
  seed: number;
}

export interface UdpOptions extends FlowOptions {
  /** Every second packet is a reply. */
  bothWays: boolean;
  /** With a UDP checksum; else it is 0. */
  checksums: boolean;
}

/** The clients' ports run round. */
const CLIENT_PORTS = 50000;
const FIRST_CLIENT_PORT = 1024;
const FIRST_CLIENT = 0x0a000000; // 10.0.0.0
const SERVER = 0xc0a80001 | 0; //   192.168.0.1

function checkFlows(o: FlowOptions, least: number): void {
  if (o.connections < 1 || o.connections > 0xffffff) {
    throw new RangeError(`${o.connections} connections; there can be 1 to ${0xffffff}`);
  }
  if (o.frameBytes < least || o.frameBytes > MAX_FRAME) {
    throw new RangeError(`frames of ${o.frameBytes} bytes; they can have ${least} to ${MAX_FRAME}`);
  }
}

/** UDP datagrams of `connections` clients with one server: the connections take turns in random order, the same
 *  in every turn. */
export function* udp(o: UdpOptions): Generator<Frame> {
  checkFlows(o, MIN_FRAME);
  const builder = new FrameBuilder();
  const order = new Random(o.seed).permutation(o.connections);
  for (let i = 0; i < o.packets; i++) {
    const turn = o.bothWays ? i >>> 1 : i;
    const length = builder.udp(
      ends(order[turn % o.connections], 53, o.bothWays && (i & 1) === 1),
      o.frameBytes,
      o.checksums,
    );
    yield { bytes: builder.bytes, length };
  }
}

function ends(connection: number, port: number, reply: boolean) {
  const client = FIRST_CLIENT + connection;
  const clientPort = FIRST_CLIENT_PORT + (connection % CLIENT_PORTS);
  return reply
    ? { src: SERVER, dst: client, sport: port, dport: clientPort, reply }
    : { src: client, dst: SERVER, sport: clientPort, dport: port, reply };
}

const TCP_SYN = 0x02;
const TCP_PSH_ACK = 0x18;
const TCP_ACK = 0x10;
const TCP_WINDOW = 0xffff;
const TCP_HEADERS = 54;

/** TCP connections of many clients with one server. Each opens with a handshake; then client and server send a
 *  segment in turn and never close. All stays within the first window, so that the capture can be replayed in a
 *  loop: later rounds are retransmissions, and every packet of them is still valid. */
export function* tcp(o: FlowOptions): Generator<Frame> {
  checkFlows(o, MIN_FRAME);
  const payload = o.frameBytes - TCP_HEADERS;
  const perConnection = Math.ceil(o.packets / o.connections);
  if (perConnection * payload >= TCP_WINDOW) {
    throw new RangeError(
      `${perConnection} packets a connection with ${payload} bytes each don't fit one window; use more connections`,
    );
  }
  const builder = new FrameBuilder();
  const random = new Random(o.seed);
  const order = random.permutation(o.connections);
  // First sequence numbers of client and server; how much each has sent.
  const isn = Int32Array.from({ length: 2 * o.connections }, () => random.below(0x100000000));
  const sent = new Int32Array(2 * o.connections);
  for (let i = 0; i < o.packets; i++) {
    const connection = order[i % o.connections];
    const turn = Math.floor(i / o.connections);
    // Turn 0 SYN, 1 SYN-ACK, 2 ACK, 3 client, 4 server, …
    const reply = turn === 1 || (turn > 3 && (turn & 1) === 0);
    const me = 2 * connection + (reply ? 1 : 0);
    const peer = me ^ 1;
    const flags = turn === 0 ? TCP_SYN : turn === 1 ? TCP_SYN | TCP_ACK : turn === 2 ? TCP_ACK : TCP_PSH_ACK;
    const data = turn < 3 ? 0 : payload;
    const length = builder.tcp(
      ends(connection, 80, reply),
      flags,
      (isn[me] + sent[me]) | 0,
      turn === 0 ? 0 : (isn[peer] + sent[peer]) | 0,
      TCP_WINDOW,
      data,
    );
    sent[me] += data + (flags & TCP_SYN ? 1 : 0);
    yield { bytes: builder.bytes, length };
  }
}

export interface MixedOptions {
  captures: readonly string[];
  /** Stops after so many packets. */
  packets: number;
  /** How many times each flow is there. */
  copies: number;
  /** Longer frames are left out. */
  maxFrame?: number;
}

/** The frames of captures, one after the other; those longer than `maxFrame` are left out. */
async function* framesOf(captures: readonly string[], maxFrame: number): AsyncGenerator<Uint8Array> {
  const arena = new SegmentArena(minSegments(1) + 4);
  const record = newMergedRecord();
  for (const path of captures) {
    const source = new MergedSource([await openCapture(path, arena)], arena);
    try {
      for (;;) {
        const result = source.next(record);
        if (result === ReadResult.END) break;
        if (result === ReadResult.STARVED) await source.readable();
        if (result !== ReadResult.PACKET) continue;
        const { off, capLen } = record;
        const frame = capLen > maxFrame ? null : arena.u8.slice(off, off + capLen);
        arena.release(record.segment);
        if (frame !== null) yield frame;
      }
    } finally {
      source.close();
    }
  }
}

/** How many flows captures have, both directions together: pairs of IPv4 addresses, protocol, and ports where there
 *  are some. */
export async function countFlows(captures: readonly string[], maxFrame = MAX_PACKET_BYTES): Promise<number> {
  const key = new Int32Array(FLOW_WORDS);
  const layout = new FrameLayout();
  const flows = new Set<string>();
  for await (const frame of framesOf(captures, maxFrame)) {
    key.fill(0);
    extract(new DataView(frame.buffer), 0, frame.length, key, layout);
    if (key[FLOW.ETH_TYPE] !== ETH_TYPE_IP || layout.l4 < 0) continue;
    const proto = key[FLOW.NW] & 0xff;
    const ports = proto === IPPROTO_TCP || proto === IPPROTO_UDP ? key[FLOW.TP] : 0;
    const src = `${key[FLOW.NW_SRC]}:${ports >>> 16}`;
    const dst = `${key[FLOW.NW_DST]}:${ports & 0xffff}`;
    flows.add(src < dst ? `${src} ${dst} ${proto}` : `${dst} ${src} ${proto}`);
  }
  return flows.size;
}

/** Real captures, joined and multiplied: every frame comes `copies` times, in copy n with n exclusive-ored to
 *  the second byte of both IPv4 addresses (both directions of a connection stay together) and the checksums
 *  updated. Frames that are not IPv4, and packets inside ICMP errors, are the same in every copy. */
export async function* mixed(o: MixedOptions): AsyncGenerator<Frame> {
  if (o.captures.length === 0) throw new RangeError('mixed: no captures given');
  if (o.copies < 1 || o.copies > 256) throw new RangeError(`${o.copies} copies; there can be 1 to 256`);
  const bytes = new Uint8Array(MAX_PACKET_BYTES);
  const view = new DataView(bytes.buffer);
  const key = new Int32Array(FLOW_WORDS);
  const layout = new FrameLayout();
  let left = o.packets;
  for await (const original of framesOf(o.captures, o.maxFrame ?? MAX_PACKET_BYTES)) {
    const { length } = original;
    for (let copy = 0; copy < o.copies; copy++) {
      if (left-- <= 0) return;
      bytes.set(original);
      if (copy > 0) {
        extract(view, 0, length, key, layout);
        if (key[FLOW.ETH_TYPE] === ETH_TYPE_IP && layout.l4 >= 0) {
          for (const word of [FLOW.NW_SRC, FLOW.NW_DST]) {
            setWord(view, 0, layout, key, word, key[word] ^ (copy << 16), -1);
          }
        }
      }
      yield { bytes, length };
    }
  }
}
