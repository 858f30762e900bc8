/** A meter of the switch at work: token buckets on the capture clock (ovs-ofctl(8), "Meter Table
 *  Commands"; OpenFlow 1.5, section 5.7.1). Belongs to the main thread; packets come in input order. */
import type { Meter } from './types.js';

export class TableMeter {
  readonly meter: Meter;
  /** Clock in ms. */
  readonly created: number;
  packets = 0;
  bytes = 0;
  /** By band: what it let no further. */
  readonly bandPackets: number[];
  readonly bandBytes: number[];
  /** Clock in ms up to which the buckets have been filled. */
  private filled: number;
  /** What each bucket has left and can hold: thousandths of a packet, or bits. */
  private readonly left: number[];
  private readonly sizes: number[];

  constructor(meter: Meter, now: number) {
    this.meter = meter;
    this.created = this.filled = now;
    this.bandPackets = meter.bands.map(() => 0);
    this.bandBytes = meter.bands.map(() => 0);
    this.sizes = meter.bands.map((band) => burstOf(band) * 1000);
    this.left = [...this.sizes];
  }

  /** Whether a packet of so many bytes may pass at `now` (ms). Every band that can takes it into account;
   *  of those that can't, the one of the highest rate counts it as dropped. */
  pass(bytes: number, now: number): boolean {
    const { meter, left, sizes } = this;
    const elapsed = now - this.filled;
    if (elapsed > 0) {
      this.filled = now;
      for (let b = 0; b < left.length; b++) {
        left[b] = Math.min(sizes[b], left[b] + elapsed * meter.bands[b].rate);
      }
    }
    this.packets++;
    this.bytes += bytes;
    const volume = meter.unit === 'pktps' ? 1000 : bytes * 8;
    let exceeded = -1;
    for (let b = 0; b < left.length; b++) {
      if (left[b] >= volume) left[b] -= volume;
      else if (exceeded < 0 || meter.bands[b].rate > meter.bands[exceeded].rate) exceeded = b;
    }
    if (exceeded < 0) return true;
    this.bandPackets[exceeded]++;
    this.bandBytes[exceeded] += bytes;
    return false;
  }
}

/** Without a burst size a band holds a second's worth. */
export function burstOf(band: Meter['bands'][number]): number {
  return band.burstSize === 0 ? band.rate : band.burstSize;
}
