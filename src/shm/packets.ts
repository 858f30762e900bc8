/** Descriptor columns of the packets in flight, one row a window slot, in one SharedArrayBuffer.
 *
 *  Writer: the dispatcher, before it pushes the slot into a worker's ring (the push publishes the row).
 *  The worker that got the slot writes VERDICT and FRAME_*, and publishes them with the push into its
 *  completion ring. The row is the dispatcher's again once the collector has passed it. */

/** VERDICT: the number of the template, … */
export const VERDICT_TEMPLATE = 0x0fffffff;
/** … whether there are changed frames, only then FRAME_* say something, … */
export const VERDICT_FRAMES = 0x40000000;
/** … and whether that is one, as long as the captured one. */
export const VERDICT_ONE_FRAME = 0x20000000;

/** SUMS: what the dispatcher has found out about a TCP or UDP checksum, if it has. */
export const SUM_UNKNOWN = 0;
export const SUM_RIGHT = 1;
export const SUM_WRONG = 2;

export class PacketColumns {
  readonly sab: SharedArrayBuffer;
  readonly slots: number;
  /** Byte offset of the frame in the packet arena. */
  readonly off: Int32Array;
  readonly capLen: Int32Array;
  readonly wireLen: Int32Array;
  readonly inPort: Int32Array;
  readonly sec: Float64Array;
  readonly nsec: Int32Array;
  /** Packets of one connection have the same hash: those behind a parked one wait. */
  readonly hash: Int32Array;
  /** Verdict template of the worker that ran the packet, with VERDICT_*. */
  readonly verdict: Int32Array;
  /** First changed frame: chunk and offset in it. */
  readonly frameChunk: Int32Array;
  readonly frameOff: Int32Array;
  /** Tracker clock in ms: running maximum of the timestamps. */
  readonly clock: Float64Array;
  /** Packet number, from 0, over the whole input. */
  readonly seq: Float64Array;
  /** What records call it: SEQ, or its number in the source that this input is a share of. */
  readonly number: Float64Array;
  /** SUM_*. */
  readonly sums: Uint8Array;

  /** `sab` is that of other columns. Those of a `share` have NUMBER behind the rest. */
  constructor(
    slots: number,
    sab?: SharedArrayBuffer,
    share = sab !== undefined && sab.byteLength > PacketColumns.bytes(slots),
  ) {
    sab ??= new SharedArrayBuffer(PacketColumns.bytes(slots) + (share ? 8 * slots + 8 : 0));
    this.sab = sab;
    this.slots = slots;
    let at = 0;
    const f64 = () => {
      const column = new Float64Array(sab, at, slots);
      at += slots * 8;
      return column;
    };
    const i32 = () => {
      const column = new Int32Array(sab, at, slots);
      at += slots * 4;
      return column;
    };
    this.clock = f64();
    this.seq = f64();
    this.sec = f64();
    this.off = i32();
    this.capLen = i32();
    this.wireLen = i32();
    this.inPort = i32();
    this.nsec = i32();
    this.hash = i32();
    this.verdict = i32();
    this.frameChunk = i32();
    this.frameOff = i32();
    this.sums = new Uint8Array(sab, at, slots);
    this.number = share ? new Float64Array(sab, (at + slots + 7) & ~7, slots) : this.seq;
  }

  /** Writes a packet's verdict down: template, and its first changed frame, in chunk -1 if there is none; `one`: there
   *  is no other, and it is as long as the captured one. */
  setVerdict(slot: number, template: number, chunk: number, record: number, one: boolean): void {
    const frames = one ? VERDICT_FRAMES | VERDICT_ONE_FRAME : VERDICT_FRAMES;
    this.verdict[slot] = chunk < 0 ? template : template | frames;
    if (chunk < 0) return;
    this.frameChunk[slot] = chunk;
    this.frameOff[slot] = record;
  }

  /** To a verdict that has been written down: one changed frame, as long as the captured one. */
  setFrame(slot: number, chunk: number, record: number): void {
    this.verdict[slot] |= VERDICT_FRAMES | VERDICT_ONE_FRAME;
    this.frameChunk[slot] = chunk;
    this.frameOff[slot] = record;
  }

  static bytes(slots: number): number {
    return slots * (3 * 8 + 9 * 4 + 1);
  }
}
