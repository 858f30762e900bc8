/** Real packets, from the shipped captures, in another order, again, turned round, cut and damaged, mostly with right
 *  checksums, so that what is wrong with them gets further than the checksum. */
import { addedCaptures, framesOf, shippedCaptures } from '../../support/captures.js';
import { isFragment, layers } from '../frame.js';
import { type Bytes, cat, checksum, crc32c, u16, u32 } from '../packets.js';
import { SHOW } from '../scenarios/script.js';
import { type Draw, damaged, type Fuzzer, once, pick } from './fuzzer.js';

const TRACK = `# Everything is committed in zone 0, whatever comes in where.
table=0,priority=10,ip,actions=ct(commit,table=1)
table=0,priority=9,ipv6,actions=ct(commit,table=1)
table=0,priority=0,actions=output:3
table=1,actions=${SHOW},output:3
`;

/** What matches see of such packets, before ct() and behind it. */
const FIELDS = `# Matches on header fields before ct() and behind it; the last byte of the destination MAC tells which.
table=0,priority=90,tcp,actions=load:1->NXM_NX_REG1[],ct(commit,zone=5,table=1)
table=0,priority=90,udp,tp_dst=53,actions=load:2->NXM_NX_REG1[],ct(commit,zone=5,table=1)
table=0,priority=80,udp,actions=load:3->NXM_NX_REG1[],ct(commit,zone=5,table=1)
table=0,priority=90,icmp,icmp_type=3,actions=load:4->NXM_NX_REG1[],ct(commit,zone=5,table=1)
table=0,priority=90,tcp6,actions=load:5->NXM_NX_REG1[],ct(commit,zone=5,table=1)
table=0,priority=90,udp6,actions=load:6->NXM_NX_REG1[],ct(commit,zone=5,table=1)
table=0,priority=90,icmp6,icmp_type=135,actions=load:7->NXM_NX_REG1[],ct(commit,zone=5,table=1)
table=0,priority=90,sctp,actions=load:8->NXM_NX_REG1[],ct(commit,zone=5,table=1)
table=0,priority=50,ip,nw_ttl=1,actions=load:9->NXM_NX_REG1[],ct(commit,zone=5,table=1)
table=0,priority=40,ip,actions=load:10->NXM_NX_REG1[],ct(commit,zone=5,table=1)
table=0,priority=40,ipv6,ip_frag=no,actions=load:11->NXM_NX_REG1[],ct(commit,zone=5,table=1)
table=0,priority=30,ipv6,actions=load:12->NXM_NX_REG1[],ct(commit,zone=5,table=1)
table=0,priority=0,actions=output:3
table=1,priority=90,tcp,tcp_flags=+syn-ack,actions=load:1->NXM_NX_REG1[8..15],resubmit(,2)
table=1,priority=90,tcp,tp_dst=80,actions=load:2->NXM_NX_REG1[8..15],resubmit(,2)
table=1,priority=90,udp,tp_src=53,actions=load:3->NXM_NX_REG1[8..15],resubmit(,2)
table=1,priority=80,ct_state=+inv+trk,actions=load:4->NXM_NX_REG1[8..15],resubmit(,2)
table=1,priority=0,actions=resubmit(,2)
table=2,actions=${SHOW},move:NXM_NX_REG1[]->NXM_OF_ETH_DST[0..31],output:3
`;

let loaded: readonly (readonly Bytes[])[] | null = null;

/** The Ethernet frames of the shipped captures, and of those that were added, by capture. */
function captures(): readonly (readonly Bytes[])[] {
  loaded ??= [...shippedCaptures(), ...addedCaptures()]
    .map((file) => framesOf(file).map(({ frame }) => frame))
    .filter((frames) => frames.length > 0);
  return loaded;
}

/** Makes the checksums of a packet right that is whole and no fragment. */
function resummed(frame: Bytes): Bytes {
  const l = layers(frame);
  if (!l.version || l.later || l.l4 < 0) return frame;
  const out = frame.slice();
  const { l3, l4, proto } = l;
  const word = (o: number) => (out[o] << 8) | out[o + 1];
  if (l.version === 4 && l4 >= l3 + 20 && l4 <= out.length) {
    out.set([0, 0], l3 + 10);
    out.set(u16(checksum(out.subarray(l3, l4))), l3 + 10);
  }
  const end = l3 + (l.version === 4 ? word(l3 + 2) : 40 + word(l3 + 4));
  if (end > out.length || l4 >= end) return out;
  const at = ({ 1: 2, 6: 16, 17: 6, 58: 2, 132: 8 } as Record<number, number>)[proto];
  if (at === undefined || l4 + at + (proto === 132 ? 4 : 2) > end) return out;
  if (proto === 132) {
    out.set([0, 0, 0, 0], l4 + at);
    const sum = crc32c(out.subarray(l4, end));
    out.set([sum & 255, (sum >>> 8) & 255, (sum >>> 16) & 255, sum >>> 24], l4 + at);
    return out;
  }
  out.set([0, 0], l4 + at);
  const addresses = l.version === 4 ? out.subarray(l3 + 12, l3 + 20) : out.subarray(l3 + 8, l3 + 40);
  const pseudo = proto === 1 ? new Uint8Array() : cat(addresses, u32(end - l4), [0, 0, 0, proto]);
  out.set(u16(checksum(cat(pseudo, out.subarray(l4, end)))), l4 + at);
  return out;
}

/** The same the other way round: addresses, and ports or an ICMP query's type. */
function turned(frame: Bytes): Bytes {
  const l = layers(frame);
  const out = frame.slice();
  if (!l.version || l.l4 < 0 || l.l4 + 4 > out.length) return out;
  const swapAt = (a: number, b: number, n: number): void => {
    const first = out.slice(a, a + n);
    out.set(out.slice(b, b + n), a);
    out.set(first, b);
  };
  swapAt(0, 6, 6);
  if (l.version === 4) swapAt(l.l3 + 12, l.l3 + 16, 4);
  else swapAt(l.l3 + 8, l.l3 + 24, 16);
  if (l.later) return out;
  if (l.proto === 6 || l.proto === 17 || l.proto === 132) swapAt(l.l4, l.l4 + 2, 2);
  if (l.proto === 1 && (out[l.l4] & ~8) === 0) out[l.l4] ^= 8;
  if (l.proto === 58 && out[l.l4] >> 1 === 64) out[l.l4] ^= 1;
  return out;
}

/** A frame, changed; most checksums are made right again. */
export function mutant(r: Draw, frame: Bytes): Bytes {
  const l = layers(frame);
  let out = frame;
  switch (r(10)) {
    case 0:
      return turned(frame);
    case 1:
      out = damaged(r, frame, 12, 1);
      break;
    case 2:
      out = damaged(r, frame, l.l3, 2);
      break;
    case 3:
      if (l.l4 > 0) out = damaged(r, frame, l.l4, 2);
      break;
    case 4: // one bit
      out = frame.slice();
      out[12 + r(Math.min(80, out.length - 12))] ^= 1 << r(8);
      break;
    case 5: // cut
      return frame.subarray(0, 14 + r(Math.min(100, frame.length - 13)));
    case 6: // more behind it
      return cat(frame, new Uint8Array(1 + r(40)).fill(r(256)));
    case 7: // a word of the header behind IP, often a length, a type or an offset
      if (l.l4 > 0 && l.l4 + 16 < frame.length) {
        out = frame.slice();
        out.set(u16(pick(r, [0, 1, 7, 8, 0xffff, 0x8000, r(65_536)])), l.l4 + 2 * r(8));
      }
      break;
    case 8: // the same of IP
      if (l.version && l.l3 + 40 < frame.length) {
        out = frame.slice();
        out.set(
          u16(pick(r, [0, 1, 20, 40, 0xffff, 0x2000, 0x4000, r(65_536)])),
          l.l3 + 2 * r(l.version === 4 ? 10 : 20),
        );
      }
      break;
    default:
      return frame;
  }
  return once(r, 5) ? out : resummed(out);
}

export const mutantFuzzer: Fuzzer = {
  name: 'mutants',
  about: 'packets of the shipped captures, out of order, turned round, cut and damaged',
  tables: [TRACK, FIELDS],
  ports: 3,
  play: (s, r) => {
    let fragments = 0;
    const send = (frame: Bytes, note?: string): void => {
      // A datagram's fragments come in on one port (docs/ovs-differences.md).
      const { src, dst } = layers(frame);
      const port = isFragment(frame) ? 1 + Number(src < dst) : 1 + r(2);
      if (isFragment(frame)) fragments++;
      s.pkt(port, frame, note);
    };
    for (let n = 1 + r(3); n > 0; n--) {
      const frames = pick(r, captures());
      const from = r(frames.length);
      for (let k = from; k < Math.min(frames.length, from + 5 + r(30)); k++) {
        if (once(r, 10)) continue;
        send(once(r, 2) ? frames[k] : mutant(r, frames[k]));
        if (once(r, 8)) send(mutant(r, frames[from + r(k - from + 1)]), 'again');
        if (once(r, 25)) s.wait(pick(r, [0.5, 5, 9]));
      }
    }
    // What waits for its other fragments is dropped before the next case.
    for (const pause of [8, 8]) {
      s.wait(pause);
      for (let n = 0; n < fragments; n++) s.pkt(1, DRAIN, 'drops what is too old');
    }
  },
};

/** A UDP packet from port 9 to port 9. */
const DRAIN = resummed(
  cat(
    [
      2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 9, 1, 10, 9,
      9, 2,
    ],
    [0, 9, 0, 9, 0, 8, 0, 0],
  ),
);
