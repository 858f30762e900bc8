/** Whatever pieces a datagram is cut into, and in whatever order they come: ct() sees the original, and what goes on are
 *  the pieces, byte for byte, in their order. The datagrams are SCTP packets, whose CRC32c (RFC 9260, appendix A) no
 *  exchange of bytes leaves right. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type Bytes,
  cat,
  data,
  type Extension,
  ethernet,
  hex,
  internetChecksum,
  ipv4,
  ipv6,
  type Layer3,
  type Packet,
  packet,
  sctp,
  u16,
  u32,
} from '../support/packets.js';
import { parseVerdicts, run } from '../support/run.js';

const TRACK = `ip,actions=ct(commit,table=1)
ipv6,actions=ct(commit,table=1)
table=1,actions=2
`;
/** The least size of a piece that is not the last, as Open vSwitch has it. */
const LEAST_4 = 1200;
const LEAST_6 = 1280;

interface Datagram {
  readonly six: boolean;
  readonly size: number;
  /** IPv4: words of options; IPv6: extension headers before the fragment header. */
  readonly extra: number;
  /** How much each piece is larger than it must be, in units of 8 bytes. */
  readonly more: readonly number[];
  readonly tags: number;
  /** A bit of the chunk that is wrong, as a fraction; negative: none is. */
  readonly spoilt: number;
}

const datagram: fc.Arbitrary<Datagram> = fc.record({
  six: fc.boolean(),
  size: fc.integer({ min: 1300, max: 12_000 }),
  extra: fc.integer({ min: 0, max: 3 }),
  more: fc.array(fc.integer({ min: 0, max: 200 }), { minLength: 12, maxLength: 12 }),
  tags: fc.integer({ min: 0, max: 1 }),
  spoilt: fc.oneof(fc.constant(-1), fc.double({ min: 0, max: 0.999, noNaN: true })),
});

const EXTENSIONS: readonly Extension[] = [
  { type: 0 },
  { type: 60, body: new Array<number>(14).fill(0) },
  { type: 43 },
];

/** The pieces in order, each as a frame. */
function pieces(d: Datagram, port: number): Bytes[] {
  const l4 = sctp({ sport: port, chunks: [{ type: 0, value: data(d.size) }] });
  const extensions = EXTENSIONS.slice(0, d.extra);
  const options = new Array<number>(4 * d.extra).fill(1);
  const whole = d.six ? ipv6({ extensions }, l4).bytes : ipv4({ id: port, options }, l4).bytes;
  const head = d.six
    ? 40 + extensions.reduce((n, e) => n + 2 + (e.body ?? [1, 2, 3, 4, 5, 6]).length, 0)
    : (whole[0] & 15) * 4;
  if (d.spoilt >= 0) {
    const bit = Math.floor(d.spoilt * d.size * 8);
    whole[head + 16 + (bit >> 3)] ^= 1 << (bit & 7);
  }
  const least = d.six ? LEAST_6 - 8 - head : LEAST_4 - head;
  const out: Layer3[] = [];
  for (let at = head, i = 0; at < whole.length; i++) {
    const end = Math.min(whole.length, at + ((least + 7) & ~7) + 8 * d.more[i % d.more.length]);
    const body = whole.subarray(at, end);
    const last = end === whole.length;
    out.push(
      d.six ? piece6(whole, head, body, at - head, last, port) : piece4(whole, head, body, at - head, last),
    );
    at = end;
  }
  return out.map((l3) => ethernet({ tags: d.tags ? [7] : [] }, l3));
}

function piece4(whole: Bytes, head: number, body: Bytes, offset: number, last: boolean): Layer3 {
  const bytes = cat(whole.subarray(0, head), body);
  bytes.set(u16(bytes.length), 2);
  bytes.set(u16((offset >> 3) | (last ? 0 : 0x2000)), 6);
  bytes.set([0, 0], 10);
  bytes.set(u16(internetChecksum(bytes.subarray(0, head))), 10);
  return { type: 0x0800, bytes };
}

/** RFC 8200, section 4.5: the fragment header goes behind those headers that every piece has. */
function piece6(whole: Bytes, head: number, body: Bytes, offset: number, last: boolean, id: number): Layer3 {
  const front = whole.slice(0, head);
  // What names the next header in the last of them.
  let at = 6;
  for (let next = front[6], off = 40; off < head; ) {
    at = off;
    next = front[off];
    off += 8 * (front[off + 1] + 1);
    assert.ok(next !== undefined);
  }
  const proto = front[at];
  front[at] = 44;
  front.set(u16(head - 40 + 8 + body.length), 4);
  const bytes = cat(front, [proto, 0], u16(offset | (last ? 0 : 1)), u32(id), body);
  return { type: 0x86dd, bytes };
}

test('reassembly of any split in any order is the original (property)', async () => {
  const cases = fc.record({
    datagrams: fc.array(datagram, { minLength: 1, maxLength: 5 }),
    order: fc.array(fc.nat(), { minLength: 60, maxLength: 60 }),
    workers: fc.constantFrom(0, 0, 0, 2),
  });
  await fc.assert(
    fc.asyncProperty(cases, async ({ datagrams, order, workers }) => {
      const parts = datagrams.map((d, i) => pieces(d, 2000 + i));
      const queue = parts.flatMap((p, i) => p.map((_, k) => [i, k] as const));
      const arrivals: (readonly [number, number])[] = [];
      for (let n = 0; queue.length > 0; n++)
        arrivals.push(queue.splice(order[n % order.length] % queue.length, 1)[0]);
      const packets: Packet[] = arrivals.map(([i, k], n) => packet(1 + n / 1000, 1, parts[i][k]));
      const r = await run(packets, { flows: TRACK, workers });
      const left = parts.map((p) => p.length);
      const sent = r.frames.map((line) => line.split(' '));
      for (const [n, v] of parseVerdicts(r).entries()) {
        const [i] = arrivals[n];
        if (--left[i] > 0) {
          assert.deepEqual([v.out, v.reason], [[], 'fragment-held'], `packet ${n + 1}`);
          continue;
        }
        const state = datagrams[i].spoilt < 0 ? '+new+trk' : '+inv+trk';
        assert.deepEqual(v.ct.at(-1), { zone: 0, state }, `packet ${n + 1}`);
        const own = sent.filter(([number]) => number === String(n + 1)).map(([, , frame]) => frame);
        assert.deepEqual(own, parts[i].map(hex), `packet ${n + 1}`);
      }
      const good = datagrams.filter((d) => d.spoilt < 0).length;
      assert.equal(r.dump.length, good);
    }),
    { numRuns: 60 },
  );
});
