/** What translation promises, whatever it chooses: reply tuples are unique in their zone, every reply comes back to
 *  whoever sent the packet, checksums are right, and the number of workers changes nothing.
 *
 *  SHARDTRACK_PROPERTY_RUNS=N draws N cases of each kind; SHARDTRACK_PROPERTY_SEED=S begins with case S. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type Bytes,
  ethernet,
  icmp,
  internetChecksum,
  ipv4,
  type Packet,
  Random,
  tcp,
  udp,
  unhex,
  view,
} from '../support/packets.js';
import { randomTraffic } from '../support/random-traffic.js';
import { difference, parseVerdicts, run } from '../support/run.js';

const RUNS = Number(process.env.SHARDTRACK_PROPERTY_RUNS ?? 8);
const FIRST = Number(process.env.SHARDTRACK_PROPERTY_SEED ?? 1);
const seeds = Array.from({ length: RUNS }, (_, i) => FIRST + i);

/** Ranges so small that connections get into each other's way. */
const RANGES = [
  'src=10.9.0.1',
  'src=10.9.0.1-10.9.0.3',
  'src=10.9.0.1:5000-5009',
  'src=10.9.0.1-10.9.0.2:5000-5003,random',
  'src=10.9.0.1-10.9.0.4,persistent',
  'src=10.9.0.1:1024-65535,random',
  'src=0.0.0.0',
  'dst=10.0.1.1-10.0.1.3',
  'dst=10.0.1.1:8000-8004',
  'dst=10.0.1.1-10.0.1.2:8000-8001,random',
];

const table = (range: string): string =>
  `in_port=1,ip,actions=ct(commit,zone=1,nat(${range}),table=1)
in_port=2,ip,actions=ct(zone=1,nat,table=1)
table=1,in_port=1,actions=2
table=1,in_port=2,ct_state=+trk-new-inv,actions=1
`;

/** Packets from a few clients to a few servers, with pauses in which connections expire. */
function requests(r: Random, n: number, pings: boolean): Packet[] {
  const out: Packet[] = [];
  let ms = 0;
  for (let i = 0; i < n; i++) {
    ms += r.once(40) ? 70_000 : r.int(500);
    const src = `10.0.0.${1 + r.int(6)}`;
    const dst = `10.0.1.${1 + r.int(3)}`;
    const sport = r.pick([1, 511, 512, 600, 1023, 1024, 5000, 5001, 65535]);
    const l4 =
      pings && r.once(5)
        ? icmp({ rest: (sport << 16) | 1 })
        : r.once(2)
          ? udp({ sport, dport: r.pick([53, 80]), unsummed: r.once(4) })
          : tcp({ sport, dport: 80, flags: 2, ack: 0 });
    const sec = 1_700_000_000 + Math.floor(ms / 1000);
    out.push({ sec, nsec: (ms % 1000) * 1e6, port: 1, frame: ethernet({}, ipv4({ src, dst }, l4)) });
  }
  return out;
}

/** The answer to a frame, as its receiver would send it. */
function answer(frame: Bytes): Bytes {
  const v = view(frame);
  const quad = (at: number) => [...frame.subarray(at, at + 4)].join('.');
  const l3 = { src: quad(30), dst: quad(26) };
  const proto = frame[23];
  if (proto === 1) return ethernet({}, ipv4(l3, icmp({ type: 0, rest: v.getUint32(38) })));
  const [sport, dport] = [v.getUint16(36), v.getUint16(34)];
  if (proto === 17) return ethernet({}, ipv4(l3, udp({ sport, dport })));
  return ethernet({}, ipv4(l3, tcp({ sport, dport, flags: 18, seq: 9, ack: v.getUint32(38) + 1 })));
}

/** Why a checksum of the frame is wrong, or null. */
function wrongSum(frame: Bytes): string | null {
  if (internetChecksum(frame.subarray(14, 34)) !== 0) return 'IPv4';
  const l4 = frame.subarray(34, 14 + view(frame).getUint16(16));
  if (frame[23] === 1) return internetChecksum(l4) === 0 ? null : 'ICMP';
  if (frame[23] === 17 && view(l4).getUint16(6) === 0) return null;
  const pseudo = [...frame.subarray(26, 34), 0, frame[23], l4.length >>> 8, l4.length & 255];
  return internetChecksum(Uint8Array.from([...pseudo, ...l4])) === 0 ? null : 'TCP or UDP';
}

test('nat: reply tuples are unique, replies come back, checksums are right (property)', async () => {
  let translated = 0;
  let exhausted = 0;
  for (const seed of seeds) {
    for (const range of RANGES) {
      const r = new Random(seed);
      const flows = table(range);
      // An ICMP query whose id a range of DNAT moves loses its answer, as in Open vSwitch.
      const asked = requests(r, 120, !/^dst=.*:/.test(range));
      const first = await run(asked, { flows });
      const story = (what: string) => `seed ${seed}, nat(${range}): ${what}`;
      exhausted += first.traffic.ct.refused_by_reason.nat_exhausted;
      // Each request is answered at once, in a second run of the same requests.
      const both: Packet[] = [];
      for (const [i, p] of asked.entries()) {
        const frame = unhex(first.frames[i].split(' ')[2]);
        assert.equal(wrongSum(frame), null, story(`packet ${i}: ${first.frames[i]}`));
        both.push(p, { ...p, port: 2, frame: answer(frame) });
      }
      const second = await run(both, { flows });
      const states = parseVerdicts(second);
      const out = new Map(second.frames.map((line) => [Number(line.split(' ')[0]), line.split(' ')[2]]));
      for (let i = 0; i < asked.length; i++) {
        const state = states[2 * i].ct[0].state;
        if (!/[sd]nat/.test(state)) continue;
        const sent = asked[i].frame;
        // The second run chooses as the first one did as long as no answer has changed how long something lives.
        if (out.get(2 * i + 1) !== first.frames[i].split(' ')[2]) break;
        translated++;
        const back = out.get(2 * i + 2);
        assert.ok(back !== undefined, story(`the answer to packet ${i} is lost`));
        const frame = unhex(back);
        assert.equal(wrongSum(frame), null, story(`answer to packet ${i}: ${back}`));
        assert.deepEqual(frame.subarray(26, 30), sent.subarray(30, 34), story(`source, packet ${i}`));
        assert.deepEqual(frame.subarray(30, 34), sent.subarray(26, 30), story(`destination, packet ${i}`));
        if (sent[23] !== 1) {
          assert.deepEqual(frame.subarray(34, 36), sent.subarray(36, 38), story(`source port, packet ${i}`));
          assert.deepEqual(frame.subarray(36, 38), sent.subarray(34, 36), story(`port, packet ${i}`));
        }
      }
      for (const { dump } of [first, second]) {
        const replies = dump.map((line) => `${line.split(',')[0]} ${/reply=\([^)]*\)/.exec(line)![0]}`);
        assert.equal(
          new Set(replies).size,
          replies.length,
          story(`a reply tuple twice:\n${dump.join('\n')}`),
        );
      }
      const { ct } = second.traffic;
      assert.equal(
        ct.commits,
        ct.live + ct.expired + ct.evicted + ct.flushed,
        story('connections that were made and went'),
      );
    }
  }
  assert.ok(translated > 500 * RUNS, `${translated} translations are too few`);
  assert.ok(exhausted > 0, 'no range was ever exhausted');
});

test('nat: 0, 1, 2 and 4 workers agree byte for byte', async () => {
  for (const seed of seeds.slice(0, Math.ceil(RUNS / 2))) {
    const r = new Random(seed);
    const packets = randomTraffic(r, { packets: 200 });
    const nat = () => (r.once(2) ? `nat(${r.pick(RANGES).replaceAll('10.0.1.', '10.0.0.')})` : 'nat');
    const commit = (zone: number) => {
      const what = nat();
      return what === 'nat' ? `ct(zone=${zone},nat,table=1)` : `ct(commit,zone=${zone},${what},table=1)`;
    };
    const flows = `in_port=1,ip,actions=${commit(1)}
in_port=2,ip,actions=${commit(1)}
in_port=3,tcp,actions=ct(commit,zone=1,alg=ftp,nat(src=10.9.0.1),table=1)
in_port=3,udp,actions=ct(commit,zone=1,alg=tftp,nat(src=10.9.0.1),table=1)
in_port=4,ipv6,actions=ct(commit,zone=2,nat(src=fd09::1),table=1)
priority=1,ip,actions=ct(zone=1,nat,table=1)
priority=1,ipv6,actions=ct(zone=2,nat,table=1)
table=1,ip,ct_state=+new+trk,actions=ct(commit,zone=2,nat(src=0.0.0.0)),1,2
table=1,priority=1,actions=3,4
`;
    const want = await run(packets, { flows });
    for (const workers of [1, 2, 4]) {
      const got = await run(packets, { flows, workers, jitter: 1 + r.int(1 << 20), window: 2 + r.int(60) });
      const diff = difference(want, got);
      assert.equal(diff, null, `seed ${seed}, ${workers} workers:\n${flows}\n${diff}`);
    }
  }
});
