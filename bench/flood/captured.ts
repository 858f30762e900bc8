/** Captures played beside a flood, as real traffic: their frames in order, spread evenly over a time. */
import { FLOW, KEY_WORDS } from '../../src/classifier/flow-key.js';
import { openSource } from '../../src/cli/replay.js';
import { newMergedRecord } from '../../src/pcap/merge.js';
import type { PacketArena, PacketRecord } from '../../src/pcap/types.js';
import { ReadResult } from '../../src/pcap/types.js';
import { extract, FrameLayout, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP } from '../../src/wire/extract.js';
import { MadeReader } from '../traffic/made-reader.js';

/** Where a capture's first sender is, and where all others are. */
export const PORT_FIRST = 4;
export const PORT_OTHERS = 5;

export interface CapturedFrame {
  port: number;
  bytes: Uint8Array;
}

/** The frames of captures, of each at most `most`, one capture behind the other. Rejects for one that can't be read. */
export async function capturedFrames(paths: readonly string[], most: number): Promise<CapturedFrame[]> {
  const frames: CapturedFrame[] = [];
  for (const path of paths) {
    const { arena, source } = await openSource([path]);
    const packet = newMergedRecord();
    let first = '';
    for (let n = 0; n < most; ) {
      const state = source.next(packet);
      if (state === ReadResult.END) break;
      if (state !== ReadResult.PACKET) {
        await source.readable();
        continue;
      }
      n++;
      const bytes = arena.u8.slice(packet.off, packet.off + packet.capLen);
      arena.release(packet.segment);
      const sender = Buffer.from(bytes.subarray(6, 12)).toString('hex');
      if (first === '') first = sender;
      frames.push({ port: sender === first ? PORT_FIRST : PORT_OTHERS, bytes });
    }
    source.close();
  }
  return frames;
}

const { NW_SRC, NW_DST, IPV6_SRC_0, NW, TP } = FLOW;
const key = new Int32Array(KEY_WORDS);
const layout = new FrameLayout();

/** Who talks to whom in a frame, the same in both directions. */
export function conversationOf(u8: Uint8Array, off: number, len: number): string {
  extract(new DataView(u8.buffer, u8.byteOffset), off, len, key, layout);
  const proto = key[NW] & 0xff;
  const hasPorts = proto === IPPROTO_TCP || proto === IPPROTO_UDP || proto === IPPROTO_SCTP;
  const [sport, dport] = hasPorts ? [key[TP] >>> 16, key[TP] & 0xffff] : [0, 0];
  const address = (at: number) => key.subarray(at, at + 4).join();
  const ends = [
    `${key[NW_SRC]} ${address(IPV6_SRC_0)} ${sport}`,
    `${key[NW_DST]} ${address(IPV6_SRC_0 + 4)} ${dport}`,
  ];
  return `${proto} ${ends.sort().join(' ')}`;
}

export class CapturedReader extends MadeReader {
  private readonly frames: readonly CapturedFrame[];
  private readonly u8: Uint8Array;
  private readonly from: number;
  private readonly seconds: number;
  private n = 0;

  /** From that second on, for so many. */
  constructor(
    frames: readonly CapturedFrame[],
    arena: PacketArena & { readonly u8: Uint8Array },
    from: number,
    seconds: number,
  ) {
    super('captured', arena);
    this.frames = frames;
    this.u8 = arena.u8;
    this.from = from;
    this.seconds = seconds;
  }

  next(packet: PacketRecord): ReadResult {
    if (this.n === this.frames.length) return ReadResult.END;
    const { port, bytes } = this.frames[this.n];
    if (!this.makeRoom(bytes.length)) return ReadResult.ARENA_FULL;
    const at = (this.n++ / this.frames.length) * this.seconds;
    packet.sec = this.from + Math.floor(at);
    packet.nsec = Math.floor((at % 1) * 1e6) * 1000;
    packet.iface = port;
    this.u8.set(bytes, this.pos);
    this.give(packet, bytes.length);
    return ReadResult.PACKET;
  }
}
