/** Puts verdicts back into input order and hands them to whoever writes them down.
 *
 *  It also counts packets by verdict template, and from that, now and then, for the rules, groups and
 *  buckets that the packets went by.
 *
 *  Reads: the VERDICT and FRAME_* columns, verdict templates and changed frames of the workers, after
 *  their completion. Writes: `head`, behind which window slots and frames are free again. */
import { ctStateText, OFPP_CONTROLLER, OFPP_NORMAL } from '../classifier/flow-key.js';
import type { Reassembly } from '../conntrack/ipf.js';
import {
  FRAME_DATA_OFF,
  FRAME_LEN,
  FRAME_NEXT_CHUNK,
  FRAME_NEXT_OFF,
  FRAME_OVERHEAD,
  type FrameChunk,
} from '../datapath/frames.js';
import { DROP_CONTROLLER, DROP_NO_OUTPUT, DROP_REASONS } from '../datapath/program.js';
import type { StatPoints } from '../openflow/counted.js';
import { type PacketColumns, VERDICT_FRAMES, VERDICT_ONE_FRAME, VERDICT_TEMPLATE } from '../shm/packets.js';
import { ETH_TYPE_QINQ, ETH_TYPE_VLAN } from '../wire/extract.js';
import type { Bridge, Completions } from './fabric.js';

/** What many verdicts have in common. */
export interface VerdictTemplate {
  /** One element per ct() executed: zone and resulting ct_state (as in `ctStateText`). */
  readonly ct: readonly { zone: number; state: string }[];
  /** Ports in output order. */
  readonly out: readonly number[];
  /** Which frame went to each of them: 0 is the captured one. */
  readonly frames: readonly number[];
  /** Frames that went to a controller; never in `out`. */
  readonly controller: readonly number[];
  /** Stable name of why there was no output, or null. */
  readonly reason: string | null;
  /** `"ct":[…],"out":[…],"reason":…`, and `"controller":n` if anything went there. */
  readonly json: string;
  /** Whether only the captured frame goes out. */
  readonly plain: boolean;
  /** Stat points that the packets went by, and bytes of the frame there beyond the captured ones. */
  readonly path: Int32Array;
  /** Packets with this verdict and bytes of their captured frames, not yet in the tallies, and the clock of
   *  the last. */
  packets: number;
  bytes: number;
  last: number;
  /** The frame that `normal` is to switch when it is the packet's turn, or -1. Such a template is no packet's verdict:
   *  those that it becomes are in `switched`, by where `normal` sends. */
  readonly normal: number;
  readonly switched: Map<number, VerdictTemplate>;
}

/** One packet's verdict; reused for the next packet. */
export class Verdict {
  /** Packet number, from 1. */
  packet = 0;
  sec = 0;
  nsec = 0;
  inPort = 0;
  wireLen = 0;
  template!: VerdictTemplate;
  /** Bytes of each frame: 0 is the captured one, then the changed copies in order. */
  readonly frameBytes: Uint8Array[] = [];
  readonly frameOff: number[] = [];
  readonly frameLen: number[] = [];
}

/** Takes verdicts in input order. */
export interface VerdictSink {
  verdict(v: Verdict): void;
}

/** Packets and bytes. */
export interface Tally {
  packets: number;
  bytes: number;
}

export class Collector implements Completions {
  head = 0;
  clock = 0;
  /** Packets dispatched; the dispatcher counts. */
  dispatched = 0;
  /** Packets without a drop reason, and those with one. */
  passed = 0;
  readonly drops = new Map<string, number>();
  /** The latter by reason and stat point of their last pass, -1 if they went by none. */
  readonly dropsByStat = new Map<string, Map<number, number>>();
  readonly outByPort = new Map<number, Tally>();
  /** Packets sent to controllers. */
  controller = 0;
  /** Bytes that changed frames took, and those of the chunks that they were in. */
  copied = 0;
  chunkBytes = 0;
  bytes = 0;
  private readonly packets: PacketColumns;
  private readonly arenaU8: Uint8Array;
  private readonly arenaView: DataView;
  private readonly release: (slot: number) => void;
  private readonly sinks: readonly VerdictSink[];
  private readonly templates: VerdictTemplate[][];
  /** Templates that have packets which are not in the tallies. */
  private dirty: VerdictTemplate[] = [];
  private readonly stats: StatPoints;
  private readonly chunks: FrameChunk[][];
  /** Worker + 1 of completed packets, by slot. */
  private readonly done: Uint16Array;
  /** 1 for packets that have had the answer to their last request, by slot. */
  private readonly settled: Uint8Array;
  /** And how many ct() they have been through. */
  private readonly settledCts: Int32Array;
  /** Everything before it is complete or settled, and switched. Never behind `head`. */
  private turnSeq = 0;
  /** What the verdicts of packets have become that were left to be switched in their turn, by slot. */
  private readonly switched: (VerdictTemplate | null)[];
  bridge: Bridge | null = null;
  private readonly reassembly: Reassembly;
  private readonly v = new Verdict();

  /** `release` gives the arena space of a slot's packet back; `stats` says what counts at a stat point. */
  constructor(
    packets: PacketColumns,
    arena: SharedArrayBuffer,
    workers: number,
    release: (slot: number) => void,
    sinks: readonly VerdictSink[],
    stats: StatPoints,
    reassembly: Reassembly,
  ) {
    this.stats = stats;
    this.packets = packets;
    this.arenaU8 = new Uint8Array(arena);
    this.arenaView = new DataView(arena);
    this.release = release;
    this.sinks = sinks;
    const homes = Math.max(1, workers);
    this.templates = Array.from({ length: homes }, () => []);
    this.chunks = Array.from({ length: homes }, () => []);
    this.done = new Uint16Array(packets.slots);
    this.settled = new Uint8Array(packets.slots);
    this.settledCts = new Int32Array(packets.slots);
    this.switched = new Array<VerdictTemplate | null>(packets.slots).fill(null);
    this.reassembly = reassembly;
  }

  /** Starts behind the first `packets` packets, which had so many bytes. */
  resume(packets: number, bytes: number): void {
    this.head = this.dispatched = this.turnSeq = packets;
    this.bytes = bytes;
  }

  get inFlight(): number {
    return this.dispatched - this.head;
  }

  turn(): number {
    const { done, settled, packets } = this;
    while (this.turnSeq < this.dispatched) {
      const slot = this.turnSeq % packets.slots;
      const worker = done[slot] - 1;
      if (worker < 0 && settled[slot] === 0) break;
      this.turnSeq++;
      if (worker >= 0) {
        const template = this.templates[worker][packets.verdict[slot] & VERDICT_TEMPLATE];
        if (template.normal >= 0) this.switched[slot] = this.switch(template, worker, slot);
      }
      if (packets.clock[slot] > this.reassembly.oldest) this.expireFragments(slot);
    }
    return this.turnSeq;
  }

  isDone(slot: number): boolean {
    return this.done[slot] !== 0;
  }

  answered(slot: number, cts: number): void {
    this.settled[slot] = 1;
    this.settledCts[slot] = cts;
  }

  /** Fragments expire when a later packet goes through ct(). */
  private expireFragments(slot: number): void {
    const worker = this.done[slot] - 1;
    const cts =
      worker < 0
        ? this.settledCts[slot]
        : this.templates[worker][this.packets.verdict[slot] & VERDICT_TEMPLATE].ct.length;
    this.reassembly.expire(this.packets.clock[slot], cts);
  }

  template(worker: number, id: number, words: Int32Array): void {
    this.templates[worker][id] = decode(words);
  }

  chunk(worker: number, id: number, chunk: FrameChunk): void {
    this.chunks[worker][id] = chunk;
    this.chunkBytes += chunk.u8.length;
  }

  /** Packets completed so far, collected or not. */
  completed = 0;

  complete(worker: number, slots: Int32Array, n: number): void {
    const { done } = this;
    this.completed += n;
    for (let i = 0; i < n; i++) done[slots[i]] = worker + 1;
  }

  /** Emits what is complete and in turn. False if that was nothing. */
  drain(): boolean {
    const { done, settled, packets, templates } = this;
    const { verdict, slots } = packets;
    const from = this.head;
    let slot = from % slots;
    for (; this.head < this.dispatched; slot = slot + 1 === slots ? 0 : slot + 1) {
      const worker = done[slot] - 1;
      if (worker < 0) break;
      const word = verdict[slot];
      let template = templates[worker][word & VERDICT_TEMPLATE];
      if (this.turnSeq === this.head) {
        this.turnSeq++;
        if (template.normal >= 0) template = this.switch(template, worker, slot);
        if (packets.clock[slot] > this.reassembly.oldest) this.expireFragments(slot);
      } else if (template.normal >= 0) {
        template = this.switched[slot] as VerdictTemplate;
      }
      if (template.packets++ === 0) this.dirty.push(template);
      template.bytes += packets.capLen[slot];
      template.last = packets.clock[slot];
      if (this.sinks.length > 0) this.emit(template, worker, slot, word);
      else if (word & VERDICT_FRAMES) this.skip(template, worker, slot, word);
      done[slot] = 0;
      settled[slot] = 0;
      this.release(slot);
      this.head++;
    }
    if (this.head === from) return false;
    this.giveBack();
    // The sweeper may take what ended before the oldest packet still in flight.
    if (this.head < this.dispatched) this.clock = packets.clock[slot];
    return true;
  }

  /** The verdict of a packet that was left to be switched, in its turn. */
  private switch(template: VerdictTemplate, worker: number, slot: number): VerdictTemplate {
    const { packets } = this;
    const bridge = this.bridge as Bridge;
    let view = this.arenaView;
    let at = packets.off[slot];
    if (template.normal > 0) {
      let id = packets.frameChunk[slot];
      let w = packets.frameOff[slot] >> 2;
      for (let n = template.normal; n > 1; n--) {
        const { words } = this.chunks[worker][id];
        id = words[w + FRAME_NEXT_CHUNK];
        w = words[w + FRAME_NEXT_OFF] >> 2;
      }
      const chunk = this.chunks[worker][id];
      view = chunk.view;
      at = chunk.words[w + FRAME_DATA_OFF];
    }
    const type = view.getUint16(at + 12);
    const vlan = type === ETH_TYPE_VLAN || type === ETH_TYPE_QINQ ? view.getUint16(at + 14) & 0x0fff : 0;
    const middle = view.getInt32(at + 4);
    const last = view.getInt32(at + 8);
    const inPort = packets.inPort[slot];
    const srcHi = (middle << 16) | (last >>> 16);
    const now = packets.clock[slot];
    const to = bridge.forward(view.getInt32(at), middle >>> 16, srcHi, last & 0xffff, vlan, inPort, now);
    // By where it goes, or by where it must not go back to.
    const by = to >= 0 ? to : -inPort * 0x10000 + to;
    let known = template.switched.get(by);
    if (known === undefined) {
      const ports: number[] = [];
      const reason = bridge.portsOf(to, inPort, ports);
      known = switchedTo(template, ports, reason);
      template.switched.set(by, known);
    }
    return known;
  }

  /** A packet with changed frames that nobody wants to see. */
  private skip(template: VerdictTemplate, worker: number, slot: number, word: number): void {
    if (word & VERDICT_ONE_FRAME) this.frameDone(this.chunks[worker][this.packets.frameChunk[slot]]);
    else this.emit(template, worker, slot, word);
  }

  /** One frame of the chunk is done with. */
  private frameDone(chunk: FrameChunk): void {
    if (chunk !== this.chunkDone) {
      this.giveBack();
      this.chunkDone = chunk;
    }
    this.nDone++;
  }

  /** Tells the worker of the frames that are done with. */
  private giveBack(): void {
    if (this.nDone > 0) this.chunkDone?.release(this.nDone);
    this.nDone = 0;
  }
  /** Of this chunk so many are, and the worker has not been told. */
  private chunkDone: FrameChunk | null = null;
  private nDone = 0;

  private emit(template: VerdictTemplate, worker: number, slot: number, word: number): void {
    const { packets, v } = this;
    v.packet = packets.seq[slot] + 1;
    v.sec = packets.sec[slot];
    v.nsec = packets.nsec[slot];
    v.inPort = packets.inPort[slot];
    v.wireLen = packets.wireLen[slot];
    v.template = template;
    v.frameBytes[0] = this.arenaU8;
    v.frameOff[0] = packets.off[slot];
    v.frameLen[0] = packets.capLen[slot];
    let n = 1;
    let id = word & VERDICT_FRAMES ? packets.frameChunk[slot] : -1;
    let record = packets.frameOff[slot];
    while (id >= 0) {
      const { words, u8 } = this.chunks[worker][id];
      const w = record >> 2;
      v.frameBytes[n] = u8;
      v.frameOff[n] = words[w + FRAME_DATA_OFF];
      v.frameLen[n] = words[w + FRAME_LEN];
      this.copied += v.frameLen[n] + FRAME_OVERHEAD;
      n++;
      id = words[w + FRAME_NEXT_CHUNK];
      record = words[w + FRAME_NEXT_OFF];
    }
    const { out, frames, plain } = template;
    if (!plain) {
      // The tallies will be given bytes as captured.
      for (let i = 0; i < out.length; i++) {
        const grown = v.frameLen[frames[i]] - v.frameLen[0];
        if (grown !== 0) this.tally(out[i], 0, grown);
      }
    }
    for (const sink of this.sinks) sink.verdict(v);
    if (n > 1) this.releaseFrames(worker, slot);
  }

  private tally(port: number, packets: number, bytes: number): void {
    let tally = this.outByPort.get(port);
    if (tally === undefined) {
      tally = { packets: 0, bytes: 0 };
      this.outByPort.set(port, tally);
    }
    tally.packets += packets;
    tally.bytes += bytes;
  }

  /** Brings `passed`, `drops`, `outByPort` and `bytes` up to date, and the counters of rules, groups and buckets. */
  settle(): void {
    for (const template of this.dirty) {
      const { packets, bytes, last, out, path, reason } = template;
      for (const port of out) this.tally(port, packets, bytes);
      this.controller += packets * template.controller.length;
      if (reason === null) this.passed += packets;
      else this.drop(reason, path.length > 0 ? path[path.length - 2] : -1, packets);
      this.bytes += bytes;
      for (let i = 0; i < path.length; i += 2) {
        this.stats.credit(path[i], packets, bytes + path[i + 1] * packets, last);
      }
      template.packets = template.bytes = 0;
    }
    this.dirty = [];
  }

  private drop(reason: string, stat: number, packets: number): void {
    this.drops.set(reason, (this.drops.get(reason) ?? 0) + packets);
    let byStat = this.dropsByStat.get(reason);
    if (byStat === undefined) {
      byStat = new Map();
      this.dropsByStat.set(reason, byStat);
    }
    byStat.set(stat, (byStat.get(stat) ?? 0) + packets);
  }

  private releaseFrames(worker: number, slot: number): void {
    let id = this.packets.frameChunk[slot];
    let record = this.packets.frameOff[slot];
    while (id >= 0) {
      const chunk = this.chunks[worker][id];
      // The worker may take the chunk for other frames as soon as the last one is back.
      id = chunk.words[(record >> 2) + FRAME_NEXT_CHUNK];
      record = chunk.words[(record >> 2) + FRAME_NEXT_OFF];
      this.frameDone(chunk);
    }
  }
}

function decode(words: Int32Array): VerdictTemplate {
  let at = 0;
  const ct: { zone: number; state: string }[] = [];
  for (let n = words[at++]; n > 0; n--, at += 2) {
    ct.push({ zone: words[at], state: ctStateText(words[at + 1]) });
  }
  const out: number[] = [];
  const frames: number[] = [];
  const controller: number[] = [];
  let normal = -1;
  for (let n = words[at++]; n > 0; n--, at += 2) {
    if (words[at] === OFPP_CONTROLLER) {
      controller.push(words[at + 1]);
    } else if (words[at] === OFPP_NORMAL) {
      normal = words[at + 1];
    } else {
      out.push(words[at]);
      frames.push(words[at + 1]);
    }
  }
  const reason = DROP_REASONS[words[at++]];
  return template(ct, out, frames, controller, reason, words.slice(at), normal);
}

/** What the template of packets that `normal` switches becomes, when it sends to `ports`, or to none for a reason. */
function switchedTo(from: VerdictTemplate, ports: readonly number[], reason: number): VerdictTemplate {
  const { ct, controller, path, normal } = from;
  const out = [...from.out, ...ports];
  const frames = [...from.frames, ...ports.map(() => normal)];
  let why: string | null = null;
  if (out.length === 0) {
    why = DROP_REASONS[controller.length > 0 && reason === DROP_NO_OUTPUT ? DROP_CONTROLLER : reason];
  }
  return template(ct, out, frames, controller, why, path, -1);
}

function template(
  ct: VerdictTemplate['ct'],
  out: readonly number[],
  frames: readonly number[],
  controller: readonly number[],
  reason: string | null,
  path: Int32Array,
  normal: number,
): VerdictTemplate {
  const told = controller.length === 0 ? {} : { controller: controller.length };
  const json = JSON.stringify({ ct, out, reason, ...told }).slice(1, -1);
  const plain = frames.every((frame) => frame === 0);
  return {
    ct,
    out,
    frames,
    controller,
    reason,
    json,
    plain,
    path,
    packets: 0,
    bytes: 0,
    last: 0,
    normal,
    switched: new Map(),
  };
}
