/** Where inputs that are made rather than read put their frames: one behind the other in segments of the arena, each on a
 *  16-byte line. Runs in the thread that reads. */
import type {
  CaptureNotice,
  CaptureReader,
  PacketArena,
  PacketRecord,
  ReadResult,
} from '../../src/pcap/types.js';

const ALIGN = 15;
/** Readers may read words before and behind a frame. */
const SLACK = 64;

export abstract class MadeReader implements CaptureReader {
  readonly name: string;
  readonly notices: readonly CaptureNotice[] = [];
  protected readonly arena: PacketArena;
  /** Where the next frame goes, once there is room. */
  protected pos = 0;
  private segment = -1;
  private end = 0;

  constructor(name: string, arena: PacketArena) {
    this.name = name;
    this.arena = arena;
  }

  abstract next(packet: PacketRecord): ReadResult;

  readable(): Promise<void> {
    return Promise.resolve();
  }

  close(): void {
    if (this.segment >= 0) this.arena.close(this.segment);
    this.segment = -1;
  }

  /** Makes room for a frame at `pos`; false if the arena is full. */
  protected makeRoom(length: number): boolean {
    const { arena } = this;
    if (this.end - this.pos >= length + SLACK) return true;
    this.close();
    this.segment = arena.acquire();
    if (this.segment < 0) return false;
    this.pos = this.segment * arena.segmentBytes + SLACK;
    this.end = (this.segment + 1) * arena.segmentBytes;
    return true;
  }

  /** `packet` is the frame of `length` bytes that has been written at `pos`. */
  protected give(packet: PacketRecord, length: number): void {
    packet.off = this.pos;
    packet.segment = this.segment;
    packet.capLen = packet.wireLen = length;
    this.pos += (length + ALIGN) & ~ALIGN;
    this.arena.hold(this.segment);
  }
}
