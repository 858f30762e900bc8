/** What does it cost to read a packet's headers? */
import { FLOW, FLOW_WORDS } from '../../src/classifier/flow-key.js';
import { Steering } from '../../src/rss/steer.js';
import { DEFAULT_RSS_KEY, defaultIndirection, Toeplitz } from '../../src/rss/toeplitz.js';
import { extract, FrameLayout } from '../../src/wire/extract.js';
import { type Frames, tcpFrames, udpFrames } from './frames.js';
import { must, type Variant } from './variant.js';

const N = 1024;

interface Parsed {
  dstMac: string;
  srcMac: string;
  etherType: number;
  src: number;
  dst: number;
  proto: number;
  tos: number;
  ttl: number;
  sport: number;
  dport: number;
  flags: number;
}

/** As one would write it without a thought for speed: an object a packet, MAC addresses as text. */
function parsePlainly(view: DataView, off: number): Parsed {
  const mac = (at: number) =>
    Array.from({ length: 6 }, (_, i) =>
      view
        .getUint8(at + i)
        .toString(16)
        .padStart(2, '0'),
    ).join(':');
  const l3 = off + 14;
  const l4 = l3 + (view.getUint8(l3) & 15) * 4;
  const proto = view.getUint8(l3 + 9);
  return {
    dstMac: mac(off),
    srcMac: mac(off + 6),
    etherType: view.getUint16(off + 12),
    src: view.getInt32(l3 + 12),
    dst: view.getInt32(l3 + 16),
    proto,
    tos: view.getUint8(l3 + 1),
    ttl: view.getUint8(l3 + 8),
    sport: view.getUint16(l4),
    dport: view.getUint16(l4 + 2),
    flags: proto === 6 ? view.getUint16(l4 + 12) & 0xfff : 0,
  };
}

function extraction(name: string, what: string, make: () => Frames): Variant {
  return {
    name: `parsing/${name}`,
    what,
    operations: N,
    unit: 'ns/call',
    prepare() {
      const f = make();
      const key = new Int32Array(FLOW_WORDS);
      const layout = new FrameLayout();
      for (let i = 0; i < N; i++) {
        extract(f.view, f.off[i], f.len[i], key, layout);
        const want = parsePlainly(f.view, f.off[i]);
        must(
          key[FLOW.NW_SRC] === want.src &&
            key[FLOW.NW_DST] === want.dst &&
            key[FLOW.TP] === ((want.sport << 16) | want.dport) &&
            key[FLOW.TCP_FLAGS] === want.flags &&
            (key[FLOW.NW] & 0xff) === want.proto,
          `packet ${i}`,
        );
      }
      return () => {
        let x = 0;
        for (let i = 0; i < N; i++) {
          extract(f.view, f.off[i], f.len[i], key, layout);
          x ^= key[FLOW.TP];
        }
        return x;
      };
    },
  };
}

function steering(workers: number): Variant {
  return {
    name: `parsing/locate-${workers}`,
    what: `Steering.locate: home of a packet, ${workers === 1 ? '1 worker' : `${workers} workers`}`,
    operations: N,
    unit: 'ns/call',
    prepare() {
      const f = udpFrames(N, N / 2);
      const steer = new Steering(new Toeplitz(DEFAULT_RSS_KEY), defaultIndirection(workers), 1);
      const at = (i: number) => {
        steer.locate(f.view, f.off[i], f.len[i]);
        return steer.hash * 256 + steer.home;
      };
      // A request and its answer follow each other.
      for (let i = 0; i < N; i += 2) must(at(i) === at(i + 1), `packet ${i} and its answer are apart`);
      return () => {
        let x = 0;
        for (let i = 0; i < N; i++) {
          steer.locate(f.view, f.off[i], f.len[i]);
          x ^= steer.home;
        }
        return x;
      };
    },
  };
}

export const PARSING: readonly Variant[] = [
  extraction('extract-udp', 'extract: flow key of a UDP frame', () => udpFrames(N, N / 2)),
  extraction('extract-tcp', 'extract: flow key of a TCP frame', () => tcpFrames(N, N / 8)),
  {
    name: 'parsing/objects',
    what: 'baseline: an object a packet',
    operations: N,
    unit: 'ns/call',
    prepare() {
      const f = udpFrames(N, N / 2);
      must(parsePlainly(f.view, f.off[0]).srcMac === '50:54:00:00:00:0a', 'MAC address');
      return () => {
        let x = 0;
        for (let i = 0; i < N; i++) {
          const p = parsePlainly(f.view, f.off[i]);
          x ^= p.sport ^ p.srcMac.length;
        }
        return x;
      };
    },
  },
  steering(1),
  steering(4),
];
