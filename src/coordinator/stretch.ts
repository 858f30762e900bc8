/** Reads packets of a slice straight from where their capture lies in the arena (pcap/types.ts, Stretch): what the readers,
 *  `Steering.addressHash` and `Run.fillSlice` do, in one loop that calls nothing, for packets of which they would do nothing
 *  special. Writer of the rows' columns, as the dispatcher. */
import { MAX_PACKET_BYTES, type Stretch } from '../pcap/types.js';
import { mixEnds } from '../rss/steer.js';
import type { PacketColumns } from '../shm/packets.js';
import * as headers from '../wire/extract.js';
import type { Slice } from './slice.js';

const { ETH_TYPE_IPV6, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP, IPPROTO_UDP } = headers;
/** Bytes of a record's header. */
const HEAD = 16;
/** EtherType, version and length of a header without options; and the first byte of such frames behind which there is room for
 *  addresses and type of an ICMP message. */
const PLAIN_IPV4 = 0x080045;
const LEAST_IPV4 = 38;
const LEAST_IPV6 = 55;
/** The type of an ICMP message that is no error: an echo's, or its answer's. */
const ECHO = 8;

export class StretchReader {
  /** Results of `read`: where it has come to, packets that are the slice's, captured bytes of all, and the clock. */
  pos = 0;
  own = 0;
  bytes = 0;
  clock = 0;
  private readonly view: DataView;
  private readonly packets: PacketColumns;
  private readonly k: number;
  private readonly n: number;

  constructor(view: DataView, packets: PacketColumns, slice: Slice) {
    this.view = view;
    this.packets = packets;
    this.k = slice.k;
    this.n = slice.n;
  }

  /** At most `most` packets, and at most `room` of the slice, which get window slots from `slot` on and arrive on `port`. The
   *  first has number `seq`; before it the clock, in ms since `firstSec` and `firstNsec`, was `clock`, and it is not to pass
   *  `limit`. Ends before fragments, ICMP errors, tags, cut packets, and all that is not IP. Returns how many. */
  read(
    { pos, end, fractionNsec }: Stretch,
    most: number,
    room: number,
    slot: number,
    port: number,
    seq: number,
    firstSec: number,
    firstNsec: number,
    clock: number,
    limit: number,
  ): number {
    const { view, packets, k, n: slices } = this;
    const { slots } = packets;
    let n = 0;
    let own = 0;
    let bytes = 0;
    while (n < most && own < room && end - pos >= HEAD) {
      const len = view.getInt32((pos + 8) | 0, true);
      if (len !== view.getInt32((pos + 12) | 0, true)) break;
      if (len < LEAST_IPV4 || len > MAX_PACKET_BYTES || len > end - pos - HEAD) break;
      const o = (pos + HEAD) | 0;
      const type = view.getInt32((o + 12) | 0) >>> 8;
      let x = 0;
      let sum = 0;
      if (type === PLAIN_IPV4) {
        if ((view.getInt32((o + 18) | 0) & 0x3fff) !== 0) break;
        if (view.getUint8((o + 23) | 0) === IPPROTO_ICMP && (view.getUint8((o + 34) | 0) & ~ECHO) !== 0)
          break;
        const src = view.getInt32((o + 26) | 0);
        const dst = view.getInt32((o + 30) | 0);
        x = src ^ dst;
        sum = (src + dst) | 0;
      } else if (type >>> 8 === ETH_TYPE_IPV6 && len >= LEAST_IPV6) {
        const proto = view.getUint8((o + 20) | 0);
        if (proto === IPPROTO_ICMPV6) {
          if (view.getUint8((o + 54) | 0) < 128) break;
        } else if (proto !== IPPROTO_TCP && proto !== IPPROTO_UDP) {
          break;
        }
        for (let at = (o + 22) | 0; at < o + 54; at = (at + 4) | 0) {
          const word = view.getInt32(at);
          x ^= word;
          sum = (sum + word) | 0;
        }
      } else {
        break;
      }
      const sec = view.getUint32(pos, true);
      const nsec = view.getUint32((pos + 4) | 0, true) * fractionNsec;
      if (nsec >= 1e9) break;
      const ms = (sec - firstSec) * 1000 + Math.floor((nsec - firstNsec) / 1e6);
      const now = Math.max(ms, clock);
      if (now > limit) break;
      clock = now;
      if (slices === 1 || (mixEnds(x, sum) >>> 0) % slices === k) {
        packets.off[slot] = o;
        packets.capLen[slot] = len;
        packets.wireLen[slot] = len;
        packets.sec[slot] = sec;
        packets.nsec[slot] = nsec;
        packets.seq[slot] = seq + n;
        packets.clock[slot] = clock;
        packets.inPort[slot] = port;
        own++;
        slot = slot + 1 === slots ? 0 : slot + 1;
      }
      n++;
      bytes += len;
      pos = (o + len) | 0;
    }
    this.pos = pos;
    this.own = own;
    this.bytes = bytes;
    this.clock = clock;
    return n;
  }
}
