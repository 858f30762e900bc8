/** pcapng, read into the arena. Format: draft-ietf-opsawg-pcapng; leniency as in Wireshark's wiretap/pcapng.c.
 *
 *      block type 4 | block length 4 | body, padded to 4 | block length 4
 *
 *  Any number of sections, each in its own byte order; interfaces are numbered over all of them. Packets come
 *  from Enhanced, Simple and obsolete Packet Blocks; every other block is passed over without being held, whatever
 *  its size up to MAX_BLOCK_BYTES. A Simple Packet Block has no timestamp: its packet gets second 0.
 *
 *  The reader is a state machine that can stop between any two reads: STARVED and ARENA_FULL leave it where it is. */

import { FEED_END, FEED_STARVED } from './feed.js';
import { LinkKind, linkKind, toEthernet, unsupportedLinkType } from './link-types.js';
import { MAX_SECONDS, TickClock } from './timestamp.js';
import { type CaptureReader, MAX_PACKET_BYTES, type PacketRecord, ReadResult } from './types.js';
import { boundedWireLen, damageRemedy, WindowReader } from './window.js';

/** Longer blocks are taken for damage (Wireshark's MAX_BLOCK_SIZE). */
export const MAX_BLOCK_BYTES = 16 << 20;

/** Interfaces in one capture; more are taken for damage. */
const MAX_INTERFACES = 1 << 20;

const { END, PACKET, STARVED } = ReadResult;
/** The packet was passed over. */
const PASSED = -1;
const { ETHERNET } = LinkKind;
const MAX_CAP_LEN = MAX_PACKET_BYTES;

const SECTION_HEADER = 0x0a0d0d0a;
const INTERFACE_DESCRIPTION = 1;
const OBSOLETE_PACKET = 2;
const SIMPLE_PACKET = 3;
const ENHANCED_PACKET = 6;

const OPT_END = 0;
const IF_TSRESOL = 9;
const IF_TSOFFSET = 14;

/** Between two blocks; before a block's second length; in an interface's options. */
const AT_BLOCK = 0;
const AT_TRAILER = 1;
const IN_OPTIONS = 2;

const MAX_TSOFFSET = 2n ** 52n;
const DEFAULT_CLOCK = new TickClock(6, 0);

interface Interface {
  linkType: number;
  /** undefined: can't be read. */
  kind: LinkKind | undefined;
  snapLen: number;
  clock: TickClock;
  /** That it can't be read has been said. */
  isNoted: boolean;
}

/** True when `bytes` start as a pcapng file. */
export function isPcapngMagic(bytes: Uint8Array): boolean {
  return bytes[0] === 0x0a && bytes[1] === 0x0d && bytes[2] === 0x0d && bytes[3] === 0x0a;
}

/** Packets of a pcapng file; the feed stands at its first byte (`startOffset` 0). */
export class PcapngReader extends WindowReader {
  unreadable: CaptureReader['unreadable'] = null;
  private little = true;
  private interfaces: Interface[] = [];
  /** Interfaces of the sections before. */
  private firstInterface = 0;
  private state = AT_BLOCK;
  /** The current block: where it starts and how long it says it is. */
  private blockOffset = 0;
  private blockLen = 0;
  /** Bytes to pass over before `state` goes on. */
  private toPass = 0;
  /** Bytes of options that were not looked at. */
  private rest = 0;
  /** The interface being described. */
  private tsresol = 6;
  private tsoffset = 0;

  next(packet: PacketRecord): ReadResult {
    if (this.done) return this.ended();
    for (;;) {
      if (this.state !== AT_BLOCK) {
        let state: ReadResult = PACKET;
        if (this.toPass > 0) state = this.pass();
        else if (this.state === IN_OPTIONS) state = this.parseOption();
        else state = this.passTrailer();
        if (state !== PACKET) return state;
        continue;
      }
      if (this.end - this.pos < 12) {
        const state = this.fill(12);
        if (state !== PACKET) return state === END ? this.finish(this.offset, 12) : state;
      }
      const view = this.view;
      const type = view.getUint32(this.pos, this.little);
      if (type === SECTION_HEADER) {
        const state = this.startSection();
        if (state !== PACKET) return state;
        continue;
      }
      const blockLen = view.getUint32(this.pos + 4, this.little);
      if (blockLen < 12 || (blockLen & 3) !== 0 || blockLen > MAX_BLOCK_BYTES)
        this.badBlockLength(blockLen, 12);
      let state: ReadResult;
      switch (type) {
        case ENHANCED_PACKET:
        case OBSOLETE_PACKET: {
          const got = this.packetBlock(packet, type, blockLen);
          if (got !== PASSED) return got;
          break;
        }
        case SIMPLE_PACKET: {
          const got = this.simplePacket(packet, blockLen);
          if (got !== PASSED) return got;
          break;
        }
        case INTERFACE_DESCRIPTION:
          state = this.describeInterface(blockLen);
          if (state !== PACKET) return state;
          break;
        default:
          this.leaveBlock(8, blockLen);
      }
    }
  }

  /** Enhanced: interface 4 | ticks 8 | captured 4 | original 4 | data; obsolete: interface 2 | drops 2 | the same. */
  private packetBlock(packet: PacketRecord, type: number, blockLen: number): ReadResult | typeof PASSED {
    if (blockLen < 32) this.badBlockLength(blockLen, 32);
    if (this.end - this.pos < 28) {
      const state = this.fill(28);
      if (state !== PACKET) return state === END ? this.finish(this.offset, blockLen) : state;
    }
    const view = this.view;
    const little = this.little;
    const capLen = view.getUint32(this.pos + 20, little);
    if (capLen > MAX_CAP_LEN || 32 + capLen > blockLen) this.badPacketLength(capLen, blockLen);
    // The whole block if the window can hold it, so that a packet counts as there only when its block is.
    const whole = blockLen <= this.windowBytes;
    const needed = whole ? blockLen : 28 + capLen;
    if (this.end - this.pos < needed) {
      const state = this.fill(needed);
      if (state !== PACKET) return state === END ? this.finish(this.offset, blockLen) : state;
    }
    const pos = this.pos;
    const id = type === ENHANCED_PACKET ? view.getUint32(pos + 8, little) : view.getUint16(pos + 8, little);
    const itf = this.interfaceOf(id);
    if (whole) {
      const trailer = view.getUint32(pos + blockLen - 4, little);
      if (trailer !== blockLen) this.badTrailer(this.offset, blockLen, trailer);
    }
    const clock = itf.clock;
    clock.convert(view.getUint32(pos + 12, little), view.getUint32(pos + 16, little));
    if (clock.clamped) this.noteTime();
    packet.sec = clock.sec;
    packet.nsec = clock.nsec;
    packet.iface = this.firstInterface + id;
    const wireLen = view.getUint32(pos + 24, little);
    if (whole) this.pos = pos + blockLen;
    else this.leaveBlock(needed, blockLen);
    return this.deliver(packet, itf, pos + 28, capLen, wireLen);
  }

  /** Original length 4 | data, as much of it as the first interface's snapshot length and the block allow. */
  private simplePacket(packet: PacketRecord, blockLen: number): ReadResult | typeof PASSED {
    if (blockLen < 16) this.badBlockLength(blockLen, 16);
    const wireLen = this.view.getUint32(this.pos + 8, this.little);
    const itf = this.interfaceOf(0);
    let capLen = Math.min(wireLen, blockLen - 16);
    if (itf.snapLen !== 0 && capLen > itf.snapLen) capLen = itf.snapLen;
    if (capLen > MAX_CAP_LEN) this.badPacketLength(capLen, blockLen);
    const whole = blockLen <= this.windowBytes;
    const needed = whole ? blockLen : 12 + capLen;
    if (this.end - this.pos < needed) {
      const state = this.fill(needed);
      if (state !== PACKET) return state === END ? this.finish(this.offset, blockLen) : state;
    }
    const pos = this.pos;
    if (whole) {
      const trailer = this.view.getUint32(pos + blockLen - 4, this.little);
      if (trailer !== blockLen) this.badTrailer(this.offset, blockLen, trailer);
      this.pos = pos + blockLen;
    } else {
      this.leaveBlock(needed, blockLen);
    }
    packet.sec = 0;
    packet.nsec = 0;
    packet.iface = this.firstInterface;
    return this.deliver(packet, itf, pos + 12, capLen, wireLen);
  }

  private deliver(
    packet: PacketRecord,
    itf: Interface,
    off: number,
    capLen: number,
    wireLen: number,
  ): ReadResult | typeof PASSED {
    if (itf.kind === undefined) {
      const unreadable = this.unreadable as { packets: number; bytes: number };
      unreadable.packets++;
      unreadable.bytes += boundedWireLen(capLen, wireLen);
      return PASSED;
    }
    packet.off = off;
    packet.capLen = capLen;
    packet.wireLen = boundedWireLen(capLen, wireLen);
    packet.segment = this.segment;
    this.arena.hold(this.segment);
    if (itf.kind !== ETHERNET) toEthernet(itf.kind, this.u8, packet);
    return PACKET;
  }

  /** The interface that a packet names; it must have been described and be of a link type we can read. */
  private interfaceOf(id: number): Interface {
    const itf = this.interfaces[id];
    if (itf === undefined) {
      const offset = this.offset;
      this.fail(
        offset,
        `the packet block there names interface ${id}, and its section has described ${this.interfaces.length}; ${damageRemedy(offset)}`,
      );
    }
    if (itf.kind === undefined && !itf.isNoted) {
      const why = `interface ${id}: ${unsupportedLinkType(itf.linkType)}`;
      if (this.unreadable === null) this.fail(this.offset, why);
      const message = `${why}; its packets are passed over`;
      this.notices.push({ file: this.name, offset: this.offset, message });
      itf.isNoted = true;
    }
    return itf;
  }

  /** Magic 4 | major 2 | minor 2 | section length 8 | options. The magic gives the section's byte order. */
  private startSection(): ReadResult {
    const state = this.fill(28);
    if (state !== PACKET) return state === END ? this.finish(this.offset, 28) : state;
    const view = this.view;
    const magic = view.getUint32(this.pos + 8, true);
    if (magic !== 0x1a2b3c4d && magic !== 0x4d3c2b1a) {
      const offset = this.offset;
      this.fail(
        offset,
        `the section header there has byte-order magic 0x${magic.toString(16)} and not 0x1a2b3c4d in either order; ${damageRemedy(offset)}`,
      );
    }
    this.little = magic === 0x1a2b3c4d;
    const blockLen = view.getUint32(this.pos + 4, this.little);
    if (blockLen < 28 || (blockLen & 3) !== 0 || blockLen > MAX_BLOCK_BYTES)
      this.badBlockLength(blockLen, 28);
    const major = view.getUint16(this.pos + 12, this.little);
    const minor = view.getUint16(this.pos + 14, this.little);
    if (major !== 1) {
      const offset = this.offset;
      this.fail(
        offset,
        `the section there is of pcapng version ${major}.${minor}, and 1.x is supported; keep the first ${offset} bytes`,
      );
    }
    this.firstInterface += this.interfaces.length;
    this.interfaces = [];
    this.leaveBlock(16, blockLen);
    return PACKET;
  }

  /** Link type 2 | reserved 2 | snaplen 4 | options. */
  private describeInterface(blockLen: number): ReadResult {
    if (blockLen < 20) this.badBlockLength(blockLen, 20);
    const state = this.fill(16);
    if (state !== PACKET) return state === END ? this.finish(this.offset, blockLen) : state;
    if (this.firstInterface + this.interfaces.length >= MAX_INTERFACES) {
      const offset = this.offset;
      this.fail(offset, `more than ${MAX_INTERFACES} interfaces are described; ${damageRemedy(offset)}`);
    }
    const linkType = this.view.getUint16(this.pos + 8, this.little);
    const snapLen = this.view.getUint32(this.pos + 12, this.little);
    this.interfaces.push({
      linkType,
      kind: linkKind(linkType),
      snapLen,
      clock: DEFAULT_CLOCK,
      isNoted: false,
    });
    this.tsresol = 6;
    this.tsoffset = 0;
    this.leaveBlock(16, blockLen);
    this.rest = this.toPass;
    this.toPass = 0;
    this.state = IN_OPTIONS;
    return PACKET;
  }

  /** One option of an interface: code 2 | length 2 | value, padded to 4. Options that don't fit are ignored. */
  private parseOption(): ReadResult {
    if (this.rest < 4) return this.endOptions();
    let state = this.fill(4);
    if (state !== PACKET) return state === END ? this.finish(this.blockOffset, this.blockLen) : state;
    const code = this.view.getUint16(this.pos, this.little);
    const length = this.view.getUint16(this.pos + 2, this.little);
    const size = 4 + ((length + 3) & ~3);
    if (code === OPT_END || size > this.rest) return this.endOptions();
    if ((code === IF_TSRESOL && length === 1) || (code === IF_TSOFFSET && length === 8)) {
      state = this.fill(size);
      if (state !== PACKET) return state === END ? this.finish(this.blockOffset, this.blockLen) : state;
      if (code === IF_TSRESOL) this.tsresol = this.u8[this.pos + 4];
      else this.tsoffset = this.safeOffset(this.view.getBigInt64(this.pos + 4, this.little));
      this.pos += size;
      this.rest -= size;
      return PACKET;
    }
    // Values of other options may be large; they are passed over without being held.
    this.pos += 4;
    this.rest -= size;
    this.toPass = size - 4;
    return PACKET;
  }

  /** All options are known: the interface's clock can be made. */
  private endOptions(): ReadResult {
    if (this.tsresol !== 6 || this.tsoffset !== 0) {
      this.interfaces[this.interfaces.length - 1].clock = new TickClock(this.tsresol, this.tsoffset);
    }
    this.toPass = this.rest;
    this.state = AT_TRAILER;
    return PACKET;
  }

  /** Offsets beyond 2^52 seconds would make timestamps inexact, and are damage in any case. */
  private safeOffset(seconds: bigint): number {
    if (seconds >= -MAX_TSOFFSET && seconds <= MAX_TSOFFSET) return Number(seconds);
    this.notices.push({
      file: this.name,
      offset: this.blockOffset,
      message: `the interface described there has a time offset of ${seconds} seconds; it is ignored`,
    });
    return 0;
  }

  private toldOfTime = false;

  private noteTime(): void {
    if (this.toldOfTime) return;
    this.toldOfTime = true;
    this.notices.push({
      file: this.name,
      offset: this.offset,
      message: `the time of the packet there is more than ${MAX_SECONDS} seconds from 1970; such times are taken for that one`,
    });
  }

  /** Takes `parsed` bytes of the block at `pos`; what follows them up to the trailer is passed over. */
  private leaveBlock(parsed: number, blockLen: number): void {
    this.blockOffset = this.offset;
    this.blockLen = blockLen;
    this.pos += parsed;
    this.toPass = blockLen - parsed - 4;
    this.state = AT_TRAILER;
  }

  private pass(): ReadResult {
    while (this.toPass > 0) {
      const step = this.skip(this.toPass);
      if (step === FEED_STARVED) return STARVED;
      if (step === FEED_END) return this.finish(this.blockOffset, this.blockLen);
      this.toPass -= step;
    }
    return PACKET;
  }

  private passTrailer(): ReadResult {
    const state = this.fill(4);
    if (state !== PACKET) return state === END ? this.finish(this.blockOffset, this.blockLen) : state;
    const trailer = this.view.getUint32(this.pos, this.little);
    if (trailer !== this.blockLen) this.badTrailer(this.blockOffset, this.blockLen, trailer);
    this.pos += 4;
    this.state = AT_BLOCK;
    return PACKET;
  }

  private badBlockLength(blockLen: number, least: number): never {
    const offset = this.offset;
    this.fail(
      offset,
      `the block there claims ${blockLen} bytes; it must be a multiple of 4 from ${least} to ${MAX_BLOCK_BYTES}; ${damageRemedy(offset)}`,
    );
  }

  private badPacketLength(capLen: number, blockLen: number): never {
    const offset = this.offset;
    this.fail(
      offset,
      `the block there has ${blockLen} bytes and claims a packet of ${capLen}; a packet must fit its block and have at most ${MAX_PACKET_BYTES} bytes; ${damageRemedy(offset)}`,
    );
  }

  private badTrailer(offset: number, blockLen: number, trailer: number): never {
    this.fail(
      offset,
      `the block there claims ${blockLen} bytes at its start and ${trailer} at its end; ${damageRemedy(offset)}`,
    );
  }
}
