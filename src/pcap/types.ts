/** What the capture readers and the rest of the program exchange. */

/** Packets longer than this are taken for damage (Wireshark's WTAP_MAX_PACKET_SIZE_STANDARD). */
export const MAX_PACKET_BYTES = 262144;

/** Space that a reader fills with raw capture bytes; packets are described by their offset into `u8`.
 *  The arena is cut into equal segments; a segment is reused when its reader has left it and every
 *  packet in it has been released. */
export interface PacketArena {
  /** Over a SharedArrayBuffer. */
  readonly u8: Uint8Array;
  readonly segmentBytes: number;
  /** A free segment's number, or -1 while all are in use. */
  acquire(): number;
  /** The reader will put no more packets into this segment. */
  close(segment: number): void;
  /** Counts `n` packets, 1 unless told otherwise, into a segment; a packet out of it, when it has been collected. */
  hold(segment: number, n?: number): void;
  release(segment: number): void;
}

/** One packet as a reader hands it over: always an Ethernet frame, see `link-types.ts`. */
export interface PacketRecord {
  /** Byte offset of the frame in the arena. */
  off: number;
  /** Bytes present. */
  capLen: number;
  /** Bytes on the wire (Ethernet header included where one was made up). */
  wireLen: number;
  /** Timestamp; seconds may be negative in damaged captures. */
  sec: number;
  nsec: number;
  /** Interface number in the capture: 0 in classic pcap; counted over all sections in pcapng. */
  iface: number;
  /** Segment of the arena that holds it. */
  segment: number;
}

export const ReadResult = {
  END: 0,
  PACKET: 1,
  /** The arena has no free segment; call again after packets were released. */
  ARENA_FULL: 2,
  /** A stream has delivered nothing yet; await `readable()`. */
  STARVED: 3,
} as const;
export type ReadResult = (typeof ReadResult)[keyof typeof ReadResult];

/** What a reader wants reported once it is done; never fatal. */
export interface CaptureNotice {
  file: string;
  /** Byte offset in the (uncompressed) capture. */
  offset: number;
  message: string;
}

/** Packets of one capture in file order. */
export interface CaptureReader {
  readonly name: string;
  /** The next packet into `packet`. Synchronous. Throws CaptureError for damage that ends the run. */
  next(packet: PacketRecord): ReadResult;
  /** Resolves when a STARVED reader may have more. */
  readable(): Promise<void>;
  /** Such as a capture cut off in mid-record. */
  readonly notices: readonly CaptureNotice[];
  /** Packets, and bytes on the wire, of interfaces whose link type can't be read: if it is there they are passed over and
   *  counted, else the first is an error. Only pcapng has several interfaces. */
  unreadable?: { packets: number; bytes: number } | null;
  /** What of the capture lies in the arena, if somebody else may read it there; null if not. */
  stretch?(): Stretch | null;
  close(): void;
}

/** Records of a classic capture of Ethernet, little-endian, in the arena from `pos` to `end`, the last of which may not be whole.
 *  `source` is the capture's place among all. */
export interface Stretch {
  readonly pos: number;
  readonly end: number;
  readonly segment: number;
  readonly source: number;
  /** Of a unit of the fraction of a second. */
  readonly fractionNsec: number;
  /** So many packets have been read, up to `pos`, with so many bytes captured and as many on the wire. Who has read them holds them. */
  passed(packets: number, bytes: number, pos: number): void;
}

/** Unusable capture: the message names the file, the byte offset and the remedy; the cause is the system's error, if it
 *  is the system that can't read it. */
export class CaptureError extends Error {
  override name = 'CaptureError';
  readonly file: string;
  readonly offset: number;
  constructor(file: string, offset: number, message: string, options?: ErrorOptions) {
    super(`${file}: byte ${offset}: ${message}`, options);
    this.file = file;
    this.offset = offset;
  }

  /** Whether there may be nothing wrong with the capture. */
  get isOfSystem(): boolean {
    return (this.cause as NodeJS.ErrnoException | undefined)?.syscall !== undefined;
  }
}
