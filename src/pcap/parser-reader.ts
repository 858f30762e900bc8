/** Classic microsecond captures that arrive as a stream, parsed by the npm package pcap-parser.
 *
 *  pcap-parser believes every record length (it would wait for 4 GiB), joins buffers anew for each chunk while a
 *  record is incomplete, has no notion of backpressure and says nothing about a capture that is cut off. So a guard
 *  walks the record headers first and hands it whole records only, some tens of kilobytes at a time, and the next
 *  batch only once the packets of this one are in the arena:
 *
 *      feed -> staging buffer -> guard (walks lengths) -> pcap-parser -> queue of packets -> arena segment
 *
 *  It parses synchronously within the guard's `emit('data')`, so `next` can stay synchronous too. */

import { EventEmitter } from 'node:events';
import pcapParser, { type Packet } from 'pcap-parser';
import { SEGMENT_HEADROOM } from './arena.js';
import { type ByteFeed, FEED_END, FEED_STARVED } from './feed.js';
import { LinkKind, toEthernet } from './link-types.js';
import { PCAP_HEADER_BYTES, type PcapHeader } from './pcap-header.js';
import { absurdLength } from './pcap-reader.js';
import {
  CaptureError,
  type CaptureNotice,
  type CaptureReader,
  MAX_PACKET_BYTES,
  type PacketArena,
  type PacketRecord,
  ReadResult,
} from './types.js';
import { boundedWireLen } from './window.js';

const { END, PACKET, ARENA_FULL, STARVED } = ReadResult;

const RECORD_HEADER = 16;
/** Bytes that pcap-parser gets at a time, unless one record is longer. */
const BATCH_BYTES = 1 << 16;
const STAGING_BYTES = MAX_PACKET_BYTES + RECORD_HEADER + 2 * BATCH_BYTES;
/** Room in front of each packet for its Ethernet header. */
const PACKET_HEADROOM = 16;

/** What pcap-parser takes for its stream. */
class Guard extends EventEmitter {
  pause(): void {}
  resume(): void {}
}

/** Packets of a classic microsecond capture; the feed stands behind the file header, which `headerBytes` are. */
export class ParserReader implements CaptureReader {
  readonly name: string;
  readonly notices: CaptureNotice[] = [];
  private readonly feed: ByteFeed;
  private readonly arena: PacketArena;
  private readonly header: PcapHeader;
  private readonly guard = new Guard();
  private readonly staging: Buffer;
  private readonly view: DataView;
  /** Staged bytes: parsed up to `from`, filled up to `to`. */
  private from = 0;
  private to = 0;
  /** Offset in the capture of `staging[from]`. */
  private offset = PCAP_HEADER_BYTES;
  private queue: Packet[] = [];
  private queueHead = 0;
  private segment = -1;
  private pos = 0;
  private segmentEnd = 0;
  private done = false;
  private failure: CaptureError | undefined;
  private parserError: Error | undefined;

  constructor(feed: ByteFeed, arena: PacketArena, header: PcapHeader, headerBytes: Uint8Array) {
    this.name = feed.name;
    this.feed = feed;
    this.arena = arena;
    this.header = header;
    this.staging = Buffer.from(new ArrayBuffer(STAGING_BYTES));
    this.view = new DataView(this.staging.buffer);
    const parser = pcapParser.parse(this.guard);
    parser.on('packet', (packet) => this.queue.push(packet));
    parser.on('error', (error) => {
      this.parserError = error;
    });
    this.guard.emit('data', Buffer.from(headerBytes.subarray(0, PCAP_HEADER_BYTES)));
  }

  next(packet: PacketRecord): ReadResult {
    for (;;) {
      if (this.queueHead < this.queue.length && !this.done)
        return this.place(packet, this.queue[this.queueHead]);
      if (this.failure !== undefined) throw this.failure;
      if (this.done) return END;
      this.queue.length = 0;
      this.queueHead = 0;
      if (this.parseStaged()) continue;
      // Fewer bytes than a record: move them to the front, once, and read on.
      if (this.from > 0) {
        this.staging.copyWithin(0, this.from, this.to);
        this.to -= this.from;
        this.from = 0;
      }
      const got = this.feed.read(this.staging, this.to, STAGING_BYTES - this.to);
      if (got === FEED_STARVED) return STARVED;
      if (got === FEED_END) return this.finish();
      this.to += got;
    }
  }

  readable(): Promise<void> {
    return this.feed.readable();
  }

  close(): void {
    this.done = true;
    this.queue.length = 0;
    this.leaveSegment();
    this.feed.close();
  }

  /** The guard: walks the staged records and hands a batch of whole ones to pcap-parser. False: there is none. */
  private parseStaged(): boolean {
    const little = this.header.little;
    let at = this.from;
    let nRecords = 0;
    while (this.to - at >= RECORD_HEADER && at - this.from < BATCH_BYTES) {
      const capLen = this.view.getUint32(at + 8, little);
      if (capLen > MAX_PACKET_BYTES) {
        if (nRecords > 0) break; // those before it first
        this.fail(absurdLength(capLen, this.offset));
      }
      if (this.to - at < RECORD_HEADER + capLen) break;
      at += RECORD_HEADER + capLen;
      nRecords++;
    }
    if (nRecords === 0) return false;
    this.guard.emit('data', this.staging.subarray(this.from, at));
    if (this.parserError !== undefined || this.queue.length !== nRecords) {
      const why =
        this.parserError?.message ?? `it found ${this.queue.length} packets where there are ${nRecords}`;
      this.fail(`pcap-parser failed: ${why}; read the capture from a file instead`);
    }
    this.offset += at - this.from;
    this.from = at;
    return true;
  }

  /** Copies a parsed packet into the arena. */
  private place(packet: PacketRecord, parsed: Packet): ReadResult {
    const { header, data } = parsed;
    const capLen = data.length;
    if (this.segment < 0 || this.pos + PACKET_HEADROOM + capLen > this.segmentEnd) {
      const room = this.arena.segmentBytes - SEGMENT_HEADROOM - PACKET_HEADROOM;
      if (capLen > room) {
        this.queue.length = 0;
        this.fail(
          `a packet of ${capLen} bytes does not fit the arena's segments of ${this.arena.segmentBytes} bytes; use larger ones`,
        );
      }
      const next = this.arena.acquire();
      if (next < 0) return ARENA_FULL;
      this.leaveSegment();
      this.segment = next;
      this.pos = next * this.arena.segmentBytes + SEGMENT_HEADROOM;
      this.segmentEnd = (next + 1) * this.arena.segmentBytes;
    }
    const off = this.pos + PACKET_HEADROOM;
    this.arena.u8.set(data, off);
    this.pos = off + capLen;
    this.queueHead++;
    const microseconds = header.timestampMicroseconds;
    const carry = microseconds >= 1e6 ? Math.floor(microseconds / 1e6) : 0;
    const wireLen = header.originalLength;
    packet.off = off;
    packet.capLen = capLen;
    packet.wireLen = boundedWireLen(capLen, wireLen);
    packet.sec = header.timestampSeconds + carry;
    packet.nsec = (microseconds - carry * 1e6) * 1000;
    packet.iface = 0;
    packet.segment = this.segment;
    this.arena.hold(this.segment);
    if (this.header.kind !== LinkKind.ETHERNET) toEthernet(this.header.kind, this.arena.u8, packet);
    return PACKET;
  }

  private finish(): ReadResult {
    const there = this.to - this.from;
    if (there > 0) {
      const needed = RECORD_HEADER + (there < RECORD_HEADER ? 0 : this.view.getUint32(8, this.header.little));
      this.notices.push({
        file: this.name,
        offset: this.offset,
        message: `the capture is cut off in mid-record: the record needs ${needed} bytes and ${there} are there; every packet before it was read`,
      });
    }
    if (this.feed.shortfall !== '') {
      this.notices.push({ file: this.name, offset: this.offset + there, message: this.feed.shortfall });
    }
    this.done = true;
    this.leaveSegment();
    return END;
  }

  private fail(message: string): never {
    this.failure = new CaptureError(this.name, this.offset, message);
    this.done = true;
    this.leaveSegment();
    throw this.failure;
  }

  private leaveSegment(): void {
    if (this.segment >= 0) this.arena.close(this.segment);
    this.segment = -1;
  }
}
