/** Frames: every parser that workers and dispatcher run. None reads outside of the frame, all agree with themselves
 *  wherever the frame lies, and the fast parse vouches for nothing that the slow one refuses. */

import { FLOW, KEY_WORDS } from '../../src/classifier/flow-key.js';
import { Arrival, FRAGMENT_COMPLETES, FRAGMENT_HELD, Reassembly } from '../../src/conntrack/ipf.js';
import {
  ConnKey,
  extractConnKey,
  INVALID_IP_CHECKSUM,
  INVALID_L4_CHECKSUM,
  INVALID_NONE,
  INVALID_REASONS,
} from '../../src/conntrack/key.js';
import { STAGED_KEY, Staging, VLAN_BAD_IP, VLAN_BAD_L4, VLAN_OTHER } from '../../src/datapath/staging.js';
import { Steering } from '../../src/rss/steer.js';
import { DEFAULT_RSS_KEY, defaultIndirection, Toeplitz } from '../../src/rss/toeplitz.js';
import { PacketColumns } from '../../src/shm/packets.js';
import { PrefixSet } from '../../src/wire/cidr.js';
import { extract, FrameLayout } from '../../src/wire/extract.js';
import { addedCaptures, framesOf, shippedCaptures } from '../support/captures.js';
import {
  type Bytes,
  ethernet,
  fragmentIpv4,
  fragmentIpv6,
  ipv4,
  ipv6,
  payload,
  Random,
  u16,
} from '../support/packets.js';
import { randomTraffic } from '../support/random-traffic.js';
import { mutateBytes } from './mutate.js';
import { changeRow, packRow, unpackRow } from './rows.js';
import { check, type MakeTarget, seedOf } from './target.js';

const MOST_FRAME = 9000;
const SEED = 0x5eed;

/** What the parsers say of a frame. */
interface Parsed {
  key: Int32Array;
  layout: FrameLayout;
  reason: number;
  conn: ConnKey;
  hash: number;
  home: number;
  answers: boolean[];
  staged: number;
  /** STAGED_KEY.VLAN. */
  stagedVlan: number;
}

/** A place for frames: what surrounds them differs from one to the other. */
class Place {
  private readonly off: number;
  private readonly fill: number;
  private readonly exact: boolean;
  private readonly u8: Uint8Array;
  private readonly sab = new SharedArrayBuffer(MOST_FRAME + 1024);
  private readonly packets = new PacketColumns(1);
  private readonly inside = new PrefixSet('10.0.0.0/8,fd00::/8');
  private readonly staging = new Staging(this.packets, this.sab, 1, SEED);
  private readonly toeplitz = new Toeplitz(DEFAULT_RSS_KEY);

  /** `exact`: memory ends where the frame does, so that reading on throws. */
  constructor(off: number, exact: boolean, fill: number) {
    this.off = off;
    this.exact = exact;
    this.fill = fill;
    this.u8 = new Uint8Array(this.sab).fill(fill);
  }

  parse(frame: Bytes, extractor: typeof extract): Parsed {
    const { off, u8, packets, staging } = this;
    const len = frame.length;
    u8.set(frame, off);
    const view = this.exact ? new DataView(this.sab, 0, off + len) : new DataView(this.sab);
    const key = new Int32Array(KEY_WORDS);
    const layout = new FrameLayout();
    // Without a flow table, analyze looks behind two VLAN tags.
    layout.vlanLimit = staging.vlanLimit = 1 + (seedOf(frame) & 1);
    extractor(view, off, len, key, layout);
    const conn = new ConnKey();
    const reason = extractConnKey(view, off, layout, key, 7, false, SEED, conn);
    const steering = new Steering(this.toeplitz, INDIRECTION, 1);
    steering.reassembles = true;
    const fragment = steering.mayBeFragment(view, off, len);
    const id = steering.losesId(view, off, len, true);
    steering.locate(view, off, len);
    const answers = [fragment, id, steering.mayAnswer(view), this.inside.holdsSource(view, off, len)];
    answers.push(steering.doubt(view, off, len) !== '');
    packets.off[0] = off;
    packets.capLen[0] = len;
    packets.inPort[0] = 3;
    (staging as { view: DataView }).view = view;
    staging.parse(FIRST, 1);
    const end = off + len;
    check(
      u8.subarray(off, end).every((b, i) => b === frame[i]) && u8[end] === this.fill,
      () => 'a parser has written to the frame, or behind it',
    );
    u8.fill(this.fill, off, end);
    const { hash, home } = steering;
    return {
      key,
      layout,
      reason,
      conn,
      hash,
      home,
      answers,
      staged: staging.hashes[0],
      stagedVlan: staging.keys[STAGED_KEY.at.VLAN],
    };
  }
}
const FIRST = Int32Array.of(0);
const INDIRECTION = defaultIndirection(4);

function text(p: Parsed): string {
  const { layout: l, conn: c } = p;
  // Of a packet that is refused, the tuple means nothing.
  const tuple =
    p.reason === INVALID_NONE ? [c.src, c.dst, c.ports, c.zoneProto, c.related, c.ipv6, c.proto, c.hash] : [];
  return JSON.stringify([
    [...p.key],
    l.mpls,
    l.l3,
    l.l4,
    l.end,
    p.reason,
    tuple,
    p.hash,
    p.home,
    p.answers,
    p.staged,
  ]);
}

/** Frames of captures and of made traffic. */
function seeds(): Bytes[] {
  const captured = [...shippedCaptures(), ...addedCaptures()]
    .flatMap((file) => framesOf(file).slice(0, 40))
    .map(({ frame }) => frame)
    .filter((b) => b.length < 2000);
  const made = randomTraffic(new Random(4711), { packets: 600, flows: 20 }).map((p) => p.frame);
  return [...captured, ...made];
}

export const framesTarget: MakeTarget = (bug) => {
  const places = [new Place(0, true, 0), new Place(37, false, 0xff), new Place(64, false, 0x45)];
  // Takes the length of IPv6 on trust if the traffic class is odd.
  const extractor: typeof extract = bug
    ? (view, off, len, key, layout) => {
        extract(view, off, len, key, layout);
        if (key[FLOW.ETH_TYPE] === 0x86dd && layout.l4 >= 0 && view.getUint8(off + layout.l3 + 1) & 0x10) {
          layout.end = layout.l3 + 40 + view.getUint16(off + layout.l3 + 4) + 3;
        }
      }
    : extract;
  return {
    name: 'frames',
    about: 'every parser of frames: flow key, tuple, checksums, RSS, fragments, the fast parse',
    seeds,
    mutate: mutateBytes,
    guided: true,
    run(input) {
      const frame = input.subarray(0, MOST_FRAME);
      const [first, ...others] = places.map((place) => place.parse(frame, extractor));
      const { mpls, l3, l4, end } = first.layout;
      for (const at of [mpls, l3, l4]) check(at >= -1 && at <= frame.length, () => `a layer begins at ${at}`);
      check(
        end >= 0 && end <= frame.length && l4 <= end,
        () => `layer 4 is ${l4} to ${end} of ${frame.length}`,
      );
      for (const other of others) {
        check(
          text(other) === text(first),
          () => `it matters where the frame lies:\n${text(first)}\n${text(other)}`,
        );
      }
      // What the fast parse knows to be wrong is what ct() refuses, and the other way round.
      if (first.staged !== 0 && (first.stagedVlan & VLAN_OTHER) === 0) {
        const { reason, stagedVlan } = first;
        const agree =
          (reason === INVALID_IP_CHECKSUM) === ((stagedVlan & VLAN_BAD_IP) !== 0) &&
          (reason === INVALID_L4_CHECKSUM) === ((stagedVlan & VLAN_BAD_L4) !== 0);
        check(agree, () => `the fast parse says ${stagedVlan >>> 0}, ct() "${INVALID_REASONS[reason]}"`);
      }
      return { files: 0, packets: 1 };
    },
  };
};

// ---- reassembly ----

function fragmentSeeds(): Bytes[] {
  const r = new Random(42);
  return Array.from({ length: 24 }, (_, i) => {
    const size = r.pick([1300, 2600, 4000, 9000]);
    const six = i % 2 === 1;
    const l4 = payload(17, r.bytes(size));
    const parts = six ? fragmentIpv6(ipv6({}, l4), 1400, i) : fragmentIpv4(ipv4({ id: i }, l4), 1400);
    if (r.once(2)) parts.reverse();
    return packRow(
      parts.map((l3) => ({ frame: ethernet({}, l3), wait: r.once(8) ? 16_000 : r.int(9), place: 0 })),
    );
  });
}

export const reassemblyTarget: MakeTarget = (bug) => ({
  name: 'reassembly',
  about: 'fragments in ct(): rows of mutated fragments, IPv4 and IPv6, over zones and time',
  seeds: fragmentSeeds,
  mutate: (r, input, others) => {
    if (r.once(3)) return mutateBytes(r, input, others);
    // Whole parts, so that the row stays one.
    const parts = unpackRow(input);
    if (parts.length === 0) return mutateBytes(r, input, others);
    changeRow(r, parts, {
      // Milliseconds.
      waits: [0, 1, 15_000, 15_001, 25_000, 65_535],
      further: [
        (row, at) => {
          const { frame } = row[at];
          // Another offset, or another answer to whether more follow; its checksum is made right below.
          const l3 = 14;
          if (frame.length > l3 + 48) frame.set(u16(r.int(0x4000)), l3 + (frame[l3] >> 4 === 6 ? 42 : 6));
        },
        (row, at) => {
          row[at].place = r.int(4);
        },
      ],
    });
    for (const part of parts) if (!r.once(6)) resum(part.frame);
    return packRow(parts).slice(0, 1 << 16);
  },
  guided: true,
  run(input) {
    const r = new Reassembly();
    r.maxFragments = 2 + (seedOf(input) % 40);
    if (bug) {
      const arrive = r.arrive.bind(r);
      // Whoever comes last may bring what is there already.
      r.arrive = (a, now) => {
        const answer = arrive(a, now);
        if (answer === FRAGMENT_COMPLETES && r.completed.length > 2) r.completed = r.completed.slice(1);
        return answer;
      };
    }
    let now = 0;
    let inside = 0;
    const parts = unpackRow(input);
    for (const { frame, wait, place } of parts) {
      now += wait;
      const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
      const arrival = new Arrival(frame, view);
      const key = new Int32Array(KEY_WORDS);
      extract(view, 0, frame.length, key, arrival.layout);
      // ct() shows it fragments only.
      if (key[FLOW.NW] >>> 24 === 0 || arrival.layout.l4 < 0) continue;
      arrival.off = 0;
      arrival.len = frame.length;
      arrival.packet(key, place & 3, 0);
      const answer = r.arrive(arrival, now);
      if (answer === FRAGMENT_HELD) {
        r.expire(now, 1);
        inside++;
      }
      check(r.held <= r.maxFragments && r.held >= 0, () => `${r.held} fragments are held`);
      check(
        (answer === FRAGMENT_COMPLETES) === r.completed.length > 0,
        () => `answer ${answer} with ${r.completed.length} fragments`,
      );
      if (answer === FRAGMENT_COMPLETES) whole(r, frame);
      check(r.describeLists().length <= r.held, () => 'more datagrams than fragments');
    }
    check(r.held <= inside, () => `${r.held} of ${inside} are held`);
    r.purge(now + 1e6);
    check(r.held === 0 && r.describeLists().length === 0, () => `${r.held} fragments are held for ever`);
    return { files: 0, packets: parts.length };
  },
});

/** A datagram that is complete: its fragments follow each other, and one of them is the last frame. */
function whole(r: Reassembly, frame: Bytes): void {
  const { completed } = r;
  check(
    completed.filter((f) => f.bytes === null).length === 1,
    () => 'the fragment that arrived is not there once',
  );
  const ranges = completed.map(({ bytes, layout, key }) => {
    const b = bytes ?? frame;
    const v = new DataView(b.buffer, b.byteOffset, b.length);
    // Whatever version the header says: what carries it says what it is.
    const six = key[FLOW.ETH_TYPE] === 0x86dd;
    if (six) {
      // The fragment header is the last but one in all that reassembly takes; its offset is in words of 8.
      let at = layout.l3 + 40;
      let next = b[layout.l3 + 6];
      let offset = -1;
      while (at + 8 <= layout.l4 && [0, 43, 44, 51, 60].includes(next)) {
        if (next === 44) offset = v.getUint16(at + 2) & 0xfff8;
        const size = next === 44 ? 8 : next === 51 ? (b[at + 1] + 2) * 4 : (b[at + 1] + 1) * 8;
        next = b[at];
        at += size;
      }
      return { from: offset, size: layout.end - layout.l4, six };
    }
    const header = (b[layout.l3] & 15) << 2;
    return { from: (v.getUint16(layout.l3 + 6) & 0x1fff) * 8, size: layout.end - layout.l3 - header, six };
  });
  check(ranges[0].from === 0, () => `the datagram begins with ${ranges[0].from}`);
  for (let i = 1; i < ranges.length; i++) {
    const at = (ranges[i - 1].from + ranges[i - 1].size) & 0xffff;
    check(ranges[i].from === at, () => `behind ${at} bytes of the datagram comes ${ranges[i].from}`);
  }
}

/** Makes the checksum of an IPv4 header right. */
function resum(frame: Bytes): void {
  if (frame.length < 34 || frame[14] >> 4 !== 4) return;
  const size = (frame[14] & 15) << 2;
  if (size < 20 || 14 + size > frame.length) return;
  frame[24] = frame[25] = 0;
  let total = 0;
  for (let i = 14; i < 14 + size; i += 2) total += (frame[i] << 8) | frame[i + 1];
  while (total >>> 16) total = (total & 0xffff) + (total >>> 16);
  frame.set(u16(~total & 0xffff), 24);
}
