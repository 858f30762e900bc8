/** Frames that the datapath changed: copies of the captured frame, in chunks of shared memory.
 *
 *  The packet arena is never written to by a worker; the first change to a frame copies it here. Writer:
 *  the worker that owns the chunks. Reader: the collector, after the packet's completion; it counts the
 *  frames that it is done with in word 0 of the chunk (Atomics.add), and the worker reuses a chunk when
 *  as many have come back as went in. Chunks are made on demand, so a worker never waits for the
 *  collector here: it could be waiting for a packet that this worker has parked.
 *
 *  A frame record, in words from its offset: NEXT_CHUNK, NEXT_OFF (the packet's next changed frame, -1 at
 *  the end), DATA_OFF, LEN; then headroom and the bytes. */

export const FRAME_NEXT_CHUNK = 0;
export const FRAME_NEXT_OFF = 1;
export const FRAME_DATA_OFF = 2;
export const FRAME_LEN = 3;
export const FRAME_RECORD_BYTES = 16;
/** Room for four more VLAN tags or MPLS labels in front; nobody cares what is in it. */
const HEADROOM = 16;
/** Bytes that a frame takes besides its own. */
export const FRAME_OVERHEAD = FRAME_RECORD_BYTES + HEADROOM;
const CHUNK_HEADER_BYTES = 64;
/** So few that what is in use of them, when the collector keeps up, stays in the processor's second cache. */
const CHUNK_BYTES = 1 << 17;

export class FrameChunk {
  readonly sab: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly u8: Uint8Array;
  readonly view: DataView;

  constructor(sab: SharedArrayBuffer) {
    this.sab = sab;
    this.words = new Int32Array(sab);
    this.u8 = new Uint8Array(sab);
    this.view = new DataView(sab);
  }

  /** So many frames of this chunk are done with. */
  release(n: number): void {
    Atomics.add(this.words, 0, n);
  }
}

/** The worker's side. */
export class FrameStore {
  readonly chunks: FrameChunk[] = [];
  private readonly allocated: number[] = [];
  /** Where the next record goes: chunk, and byte in it. */
  private current = -1;
  private at = 0;
  private readonly announce: (id: number, sab: SharedArrayBuffer) => void;

  /** `announce` lets the collector know of a new chunk, before any frame in it is published. */
  constructor(announce: (id: number, sab: SharedArrayBuffer) => void) {
    this.announce = announce;
  }

  /** Makes a record for a frame of `len` bytes that begins `skew` bytes behind a word; `chunk` and `record` say
   *  where. */
  allocate(len: number, skew = 0): void {
    const bytes = (FRAME_RECORD_BYTES + HEADROOM + skew + len + 3) & ~3;
    if (this.current < 0 || this.at + bytes > this.chunks[this.current].u8.length) this.turn(bytes);
    this.chunk = this.current;
    this.record = this.at;
    this.at += bytes;
    this.allocated[this.current]++;
    const { words } = this.chunks[this.current];
    const w = this.record >> 2;
    words[w + FRAME_NEXT_CHUNK] = -1;
    words[w + FRAME_NEXT_OFF] = -1;
    words[w + FRAME_DATA_OFF] = this.record + FRAME_RECORD_BYTES + HEADROOM + skew;
    words[w + FRAME_LEN] = len;
  }
  chunk = -1;
  record = 0;

  /** Makes the current chunk one that has room for a record of `bytes` bytes: from `end` on, up to its own end. Whoever
   *  writes records there says so with `took`. */
  makeRoom(bytes: number): FrameChunk {
    if (this.current < 0 || this.at + bytes > this.chunks[this.current].u8.length) this.turn(bytes);
    this.chunk = this.current;
    return this.chunks[this.current];
  }

  get end(): number {
    return this.at;
  }

  /** `n` records have been written behind `end`, which now is `end`. */
  took(n: number, end: number): void {
    this.allocated[this.current] += n;
    this.at = end;
  }

  /** Gives back the frames of a packet, of which this is the first, before they are published. */
  release(chunk: number, record: number): void {
    for (let id = chunk, at = record; id >= 0; ) {
      const frames = this.chunks[id];
      id = frames.words[(at >> 2) + FRAME_NEXT_CHUNK];
      at = frames.words[(at >> 2) + FRAME_NEXT_OFF];
      frames.release(1);
    }
  }

  /** Goes on to a chunk whose frames have all come back, or to a new one. */
  private turn(bytes: number): void {
    for (let id = 0; id < this.chunks.length; id++) {
      const chunk = this.chunks[id];
      const back = Atomics.load(chunk.words, 0);
      if (back === this.allocated[id] && chunk.u8.length - CHUNK_HEADER_BYTES >= bytes) {
        Atomics.store(chunk.words, 0, 0);
        this.allocated[id] = 0;
        this.current = id;
        this.at = CHUNK_HEADER_BYTES;
        return;
      }
    }
    const sab = new SharedArrayBuffer(Math.max(CHUNK_BYTES, CHUNK_HEADER_BYTES + bytes));
    this.chunks.push(new FrameChunk(sab));
    this.allocated.push(0);
    this.current = this.chunks.length - 1;
    this.at = CHUNK_HEADER_BYTES;
    this.announce(this.current, sab);
  }
}
