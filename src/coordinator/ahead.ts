/** What the dispatcher does for workers while it has nothing else to do: it verifies the checksums of packets before it
 *  hands them over. Of real traffic these are a third of a worker's time.
 *
 *  It does so while many packets are in flight: then the workers are behind, and it would go to sleep. Verified are TCP and UDP
 *  over plain IPv4, as in datapath/staging.ts, which has a verdict on exactly the same bytes. What it says is true
 *  or unknown, so how much of it the dispatcher has had time for shows in no result.
 *
 *  Writer of the packets' SUMS: this thread. */
import type { PacketColumns } from '../shm/packets.js';
import * as columns from '../shm/packets.js';
import { checksum, sum } from '../wire/checksum.js';
import * as headers from '../wire/extract.js';

// Imported constants are loads from the other module's cells; local ones are folded into the code.
const { ETH_TYPE_IP, IPPROTO_TCP, IPPROTO_UDP } = headers;
const { SUM_RIGHT, SUM_UNKNOWN, SUM_WRONG } = columns;

/** Packets in flight from which on workers are taken for behind. */
export const BEHIND = 4096;
/** Of a batch so many must have a checksum to verify, or the next ones are left alone: reading headers for nothing costs
 *  more than it saves. */
const WORTHWHILE = 1 / 8;
const PAUSE = 64;

export class Ahead {
  private readonly packets: PacketColumns;
  private readonly view: DataView;
  /** Batches that are still to be left alone. */
  private pause = 0;

  constructor(packets: PacketColumns, arena: SharedArrayBuffer) {
    this.packets = packets;
    this.view = new DataView(arena);
  }

  /** Writes SUMS of the packets in `slots[0..n)`, which no worker has been told of; `verify`: whether there is time. */
  prepare(slots: Int32Array, n: number, verify: boolean): void {
    if (verify && --this.pause < 0) {
      const verified = this.verify(slots, n);
      this.pause = verified < n * WORTHWHILE ? PAUSE : 0;
      return;
    }
    const { sums } = this.packets;
    for (let i = 0; i < n; i++) sums[slots[i]] = SUM_UNKNOWN;
  }

  /** Returns how many there were to verify. */
  private verify(slots: Int32Array, n: number): number {
    const { view } = this;
    const { off, capLen, sums } = this.packets;
    let verified = 0;
    for (let i = 0; i < n; i++) {
      const slot = slots[i];
      const known = verifyPayload(view, off[slot], capLen[slot]);
      sums[slot] = known;
      if (known !== SUM_UNKNOWN) verified++;
    }
    return verified;
  }
}

/** SUM_* of the frame of `len` bytes at `off`: SUM_UNKNOWN for all but TCP over plain IPv4, and UDP that has a
 *  checksum. */
export function verifyPayload(view: DataView, off: number, len: number): number {
  if (len < 42 || view.getUint16((off + 12) | 0) !== ETH_TYPE_IP) return SUM_UNKNOWN;
  const l3 = (off + 14) | 0;
  const w0 = view.getInt32(l3); // version, header length, tos, total length
  const total = w0 & 0xffff;
  if (w0 >>> 24 !== 0x45 || total > len - 14 || total < 28) return SUM_UNKNOWN;
  if ((view.getInt32((l3 + 4) | 0) & 0x3fff) !== 0) return SUM_UNKNOWN;
  const proto = view.getUint8((l3 + 9) | 0);
  const l4 = (l3 + 20) | 0;
  if (proto === IPPROTO_UDP) {
    if (view.getUint16((l4 + 6) | 0) === 0) return SUM_UNKNOWN;
  } else if (proto !== IPPROTO_TCP) {
    return SUM_UNKNOWN;
  }
  const size = (total - 20) | 0;
  const src = view.getInt32((l3 + 12) | 0);
  const dst = view.getInt32((l3 + 16) | 0);
  const pseudo = (src >>> 16) + (src & 0xffff) + (dst >>> 16) + (dst & 0xffff) + proto + size;
  return checksum(sum(view, l4, size) + pseudo) === 0 ? SUM_RIGHT : SUM_WRONG;
}
