/** No two live connections of a zone share a tuple that translation has chosen, at any moment of a run and for any
 *  number of workers; and what is drawn from a range is spread over it.
 *
 *  SHARDTRACK_PROPERTY_RUNS=N draws N cases, SHARDTRACK_PROPERTY_SEED=S begins with case S. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type LiveCase, playShardtrack, type Step, workersDisagree } from '../differential/live.js';
import { answerTo } from '../differential/nat-cases.js';
import { ends, RST, SYN, tcp, udp, unhex } from '../differential/packets.js';
import { chiSquare, chiSquareBound } from '../support/chi-square.js';
import { ethernet, ipv4, type Packet, Random, udp as udpLayer } from '../support/packets.js';
import { difference, run } from '../support/run.js';

const RUNS = Number(process.env.SHARDTRACK_PROPERTY_RUNS ?? 4);
const FIRST = Number(process.env.SHARDTRACK_PROPERTY_SEED ?? 1);

/** Connections with mark 1 are translated to what was free; those with mark 2 are not translated. Zones 1 and 2 have
 *  translated ones only, zone 3 has both. */
const table = (r: Random) => `table=0,in_port=1,ip,actions=ct(zone=1,nat,table=1)
table=0,in_port=2,ip,actions=ct(zone=2,nat,table=2)
table=0,in_port=3,ip,actions=ct(zone=3,nat,table=3)
table=0,in_port=4,ip,actions=ct(zone=1,nat,table=4)
table=4,ip,actions=ct(zone=2,nat,table=5)
table=5,ip,actions=ct(zone=3,nat,table=9)
table=1,priority=9,ip,ct_state=+new,actions=ct(commit,zone=1,nat(src=${r.pick([
  '10.9.0.1:5000-5001',
  '10.9.0.1-10.9.0.2:5000-5001',
  '10.9.0.1:1024-65535,random',
  '10.9.0.1-10.9.0.3',
  '10.9.0.1,persistent',
])}),exec(set_field:1->ct_mark),table=9)
table=2,priority=9,ip,ct_state=+new,actions=ct(commit,zone=2,nat(dst=${r.pick([
  '10.1.2.1-10.1.2.2:80-81',
  '10.1.2.1',
  '10.1.2.1-10.1.2.3:8000-8001,random',
])}),exec(set_field:1->ct_mark),table=9)
table=3,priority=9,ip,ct_state=+new,nw_dst=10.254.0.0/16,actions=ct(commit,zone=3,nat(dst=10.1.2.1),exec(set_field:1->ct_mark),table=9)
table=3,priority=8,ip,ct_state=+new,nw_src=10.1.1.2,actions=ct(commit,zone=3,nat(src=10.1.1.1),exec(set_field:1->ct_mark),table=9)
table=3,priority=7,ip,ct_state=+new,nw_src=10.1.1.3,actions=ct(commit,zone=3,nat(src=0.0.0.0),exec(set_field:1->ct_mark),table=9)
table=3,priority=6,ip,ct_state=+new,actions=ct(commit,zone=3,exec(set_field:2->ct_mark),table=9)
table=1,priority=1,ip,actions=resubmit(,9)
table=2,priority=1,ip,actions=resubmit(,9)
table=3,priority=1,ip,actions=resubmit(,9)
table=9,in_port=4,actions=1
table=9,actions=4
`;

/** Few addresses and ports, so that nearly everything gets into the way of something else. */
function crowd(r: Random, packets: number): LiveCase {
  const steps: Step[] = [];
  let us = 0;
  const sent: number[] = [];
  const push = (step: Omit<Step, 'us'>) => {
    us += 1000;
    steps.push({ us, ...step });
  };
  for (let i = 0; i < packets; i++) {
    if (r.once(50)) us += r.pick([10, 31, 61]) * 1e6;
    if (r.once(40)) push({ note: 'flush', cmd: ['dpctl/flush-conntrack', `zone=${1 + r.int(3)}`] });
    if (i % 5 === 4) push({ note: 'dump', cmd: ['dpctl/dump-conntrack', '-m'] });
    if (sent.length > 0 && r.once(3)) {
      const of = r.pick(sent.slice(-10));
      const flags = r.once(4) ? { flags: RST } : {};
      push({
        note: `answer to ${of}`,
        packet: (seen) => {
          const [first] = seen(of);
          const frame = first === undefined ? null : answerTo(unhex(first[1]), flags);
          return frame === null ? null : { port: first[0], frame };
        },
      });
      continue;
    }
    const e = ends(
      `10.1.1.${1 + r.int(3)}`,
      r.pick([5000, 5001, 1023, 600]),
      r.pick(['10.1.2.1', '10.1.2.2', '10.254.0.1', '10.254.0.2']),
      r.pick([80, 81]),
    );
    const frame = r.once(2) ? udp(e) : tcp(e, SYN, 1, 0);
    const port = 1 + r.int(3);
    sent.push(steps.length);
    push({ note: 'request', packet: () => ({ port, frame }) });
  }
  return { flows: table(r), ports: 4, steps };
}

interface Row {
  readonly line: string;
  readonly orig: string;
  readonly reply: string;
  readonly chosen: boolean;
}

/** A line's zone with protocol, and what it says of the connection. */
function row(line: string): [string, Row] {
  const of = (what: string) => new RegExp(`${what}=\\(([^)]*)\\)`).exec(line)![1];
  const zone = `${line.split(',')[0]} ${/zone=\d+/.exec(line)![0]}`;
  return [zone, { line, orig: of('orig'), reply: of('reply'), chosen: /mark=1\b/.test(line) }];
}

/** Why the connections of a table, oldest first, should not be there together, or null. A tuple that translation
 *  chooses must be new in its zone, and so must the original tuple of every connection: else the packet would have
 *  belonged to the connection that was there. The replies of an untranslated connection may look like those of an
 *  older, translated one (the client of a virtual address speaks with the server behind it), as in Open vSwitch. */
function conflict(lines: readonly string[]): string | null {
  const tuples = new Map<string, Map<string, Row>>();
  for (const line of lines) {
    const [zone, r] = row(line);
    const taken = tuples.get(zone) ?? new Map<string, Row>();
    tuples.set(zone, taken);
    for (const tuple of r.chosen ? [r.orig, r.reply] : [r.orig]) {
      const other = taken.get(tuple);
      if (other !== undefined) return `${tuple} is of two connections:\n${other.line}\n${line}`;
    }
    taken.set(r.orig, r);
    taken.set(r.reply, r);
  }
  return null;
}

test('nat: what was chosen is unique in its zone at every moment (property)', async () => {
  let most = 0;
  let exhausted = 0;
  for (let seed = FIRST; seed < FIRST + RUNS; seed++) {
    const c = crowd(new Random(seed), 260);
    const played = await playShardtrack(c);
    for (const [i, lines] of played.said.entries()) {
      assert.equal(conflict(lines), null, `seed ${seed}, step ${i}\n${c.flows}`);
      most = Math.max(most, lines.length);
    }
    assert.equal(await workersDisagree(c, played, seed), null, `seed ${seed}\n${c.flows}`);
    exhausted += played.exhausted;
  }
  assert.ok(most > 20, `tables of ${most} connections are too small`);
  assert.ok(exhausted > 0, 'no range was ever exhausted');
});

/** `n` requests from clients and ports of their own. */
function requests(r: Random, n: number): Packet[] {
  return Array.from({ length: n }, (_, i) => {
    const src = `10.${1 + r.int(60)}.${r.int(256)}.${1 + r.int(250)}`;
    const l4 = udpLayer({ sport: 1024 + r.int(60_000), dport: 53 });
    const frame = ethernet({}, ipv4({ src, dst: '198.51.100.1' }, l4));
    return { sec: 1_700_000_000, nsec: i * 1000, port: 1, frame };
  });
}

for (const [range, what] of [
  ['src=10.9.0.1-10.9.0.8', 'address'],
  ['src=10.9.0.1-10.9.0.8,hash', 'address'],
  ['src=10.9.0.1-10.9.0.8,persistent', 'address'],
  ['dst=10.9.0.0-10.9.0.6', 'address'],
  ['src=10.9.0.1:32768-65535', 'port'],
  ['src=10.9.0.1:32768-65535,random', 'port'],
  ['dst=10.9.0.1-10.9.0.4:1000-1063,persistent', 'both'],
] as const) {
  test(`nat(${range}) spreads connections over its range evenly`, async () => {
    const flows = `in_port=1,udp,actions=ct(commit,zone=1,nat(${range}),table=1)\ntable=1,actions=2\n`;
    const { frames } = await run(requests(new Random(7), 8000), { flows });
    assert.equal(frames.length, 8000);
    const [, end, first, last, low, high] = /^(\w+)=[\d.]+\.(\d+)(?:-[\d.]+\.(\d+))?(?::(\d+)-(\d+))?/.exec(
      range,
    )!;
    const at = end === 'src' ? 26 : 30;
    const addresses = Number(last ?? first) - Number(first) + 1;
    const perAddress = new Array<number>(addresses).fill(0);
    const perPort = new Array<number>(64).fill(0);
    for (const line of frames) {
      const b = unhex(line.split(' ')[2]);
      const address = b[at + 3] - Number(first);
      assert.ok(address >= 0 && address < addresses, `${range}: ${b.subarray(at, at + 4).join('.')}`);
      perAddress[address]++;
      if (low === undefined) continue;
      const port = (b[end === 'src' ? 34 : 36] << 8) | b[end === 'src' ? 35 : 37];
      assert.ok(port >= Number(low) && port <= Number(high), `${range}: port ${port}`);
      perPort[Math.floor(((port - Number(low)) * 64) / (Number(high) - Number(low) + 1))]++;
    }
    if (what !== 'port') assert.ok(chiSquare(perAddress) < chiSquareBound(addresses - 1), `${perAddress}`);
    if (what !== 'address') assert.ok(chiSquare(perPort) < chiSquareBound(63), `${perPort}`);
  });
}

test('nat(…,persistent) gives a client one address, whatever it speaks with', async () => {
  const r = new Random(9);
  const packets = Array.from({ length: 600 }, (_, i): Packet => {
    const l3 = { src: `10.1.0.${1 + (i % 20)}`, dst: `198.51.${r.int(256)}.${r.int(256)}` };
    const frame = ethernet({}, ipv4(l3, udpLayer({ sport: 1024 + r.int(60_000), dport: 1 + r.int(1000) })));
    return { sec: 1_700_000_000, nsec: i * 1000, port: 1, frame };
  });
  const addresses = async (flag: string) => {
    const flows = `in_port=1,udp,actions=ct(commit,nat(src=10.9.0.1-10.9.0.64${flag})),2\n`;
    const { frames } = await run(packets, { flows });
    return Array.from({ length: 20 }, (_, client) => {
      const own = frames.filter((_, i) => i % 20 === client).map((f) => unhex(f.split(' ')[2])[29]);
      return new Set(own).size;
    });
  };
  assert.deepEqual(new Set(await addresses(',persistent')), new Set([1]));
  assert.ok(Math.min(...(await addresses(''))) > 10);
});

/** Datagrams of clients 1, 2, … from port 4000 to `to`, at second `at`. */
function datagrams(hosts: readonly number[], to: string, at: number): Packet[] {
  return hosts.map((host, i) => {
    const frame = ethernet(
      {},
      ipv4({ src: `10.1.1.${host}`, dst: to }, udpLayer({ sport: 4000, dport: 53 })),
    );
    return { sec: 1_700_000_000 + at, nsec: i * 1000, port: 1, frame };
  });
}

for (const strict of [false, true]) {
  test(`exhaustion is counted${strict ? ', dropped under --strict' : ''}, harms nobody else, and ends with what it came from`, async () => {
    const packets = [
      ...datagrams([1, 2, 3, 4], '198.51.100.1', 0),
      // Whoever has a tuple keeps it; another server has tuples of its own.
      ...datagrams([2, 1, 3], '198.51.100.1', 40),
      ...datagrams([3, 4], '198.51.100.2', 41),
      // The first two have been silent for a minute.
      ...datagrams([3, 4], '198.51.100.1', 101),
    ];
    const flows = `in_port=1,ip,actions=ct(commit,zone=1,nat(src=10.9.0.1:5000-5001),table=1)\ntable=1,actions=2\n`;
    const r = await run(packets, { flows, strict });
    const lines = r.verdicts.map((v) => JSON.parse(v) as { ct: { state: string }[]; reason: string | null });
    const translated = lines.map((l) => l.ct[0].state.includes('snat'));
    assert.deepEqual(translated, [
      ...[true, true, false, false],
      ...[true, true, false],
      ...[true, true],
      ...[true, true],
    ]);
    for (const [i, line] of lines.entries()) {
      assert.equal(line.reason, strict && !translated[i] ? 'commit-refused' : null, `packet ${i + 1}`);
      if (!translated[i]) assert.equal(line.ct[0].state, '+new+trk');
    }
    assert.equal(r.traffic.ct.refused_by_reason.nat_exhausted, 3);
    // Untranslated packets go on with the address that they came with.
    const sources = r.frames.map((f) => unhex(f.split(' ')[2]).subarray(26, 30).join('.'));
    assert.equal(sources.filter((s) => s !== '10.9.0.1').length, strict ? 0 : 3);
    for (const workers of [1, 2]) {
      assert.equal(difference(r, await run(packets, { flows, strict, workers })), null);
    }
  });
}

test('the flows of ovs-actions(7)’s kind run as written, spaces and all', async () => {
  const flows = `table=0,in_port=1,tcp,tp_dst=21,actions=ct(commit, nat(src=10.0.0.240), alg=ftp),2
table=0,in_port=1,udp,actions=ct(commit, zone=1, nat(src=10.0.0.240:32768-65535, random)),2
table=0,in_port=3,tcp,actions=ct(commit, nat(dst=10.0.0.128-10.0.0.254, hash)),2
table=0,in_port=3,udp,actions=ct(commit, nat(dst=10.0.0.240-10.0.0.254:32768-65535, persistent)),2
`;
  const r = new Random(3);
  const packets = Array.from({ length: 400 }, (_, i): Packet => {
    const e = ends(`192.0.2.${1 + r.int(50)}`, 1024 + r.int(60_000), '10.0.0.1', i % 4 === 0 ? 21 : 53);
    const frame = i % 2 === 0 ? tcp(e, SYN, 1, 0) : udp(e);
    return { sec: 1_700_000_000, nsec: i * 1000, port: i % 4 < 2 ? 1 : 3, frame };
  });
  const { frames, dump } = await run(packets, { flows });
  assert.equal(frames.length, 400);
  for (const [i, line] of frames.entries()) {
    const b = unhex(line.split(' ')[2]);
    const [src, dst] = [b.subarray(26, 30).join('.'), b.subarray(30, 34).join('.')];
    const [sport, dport] = [(b[34] << 8) | b[35], (b[36] << 8) | b[37]];
    const was = packets[i].frame;
    const inRange =
      i % 4 === 0
        ? src === '10.0.0.240' && sport === ((was[34] << 8) | was[35])
        : i % 4 === 1
          ? src === '10.0.0.240' && sport >= 32768
          : i % 4 === 2
            ? /^10\.0\.0\.(12[89]|1[3-9]\d|2[0-4]\d|25[0-4])$/.test(dst) && dport === 53
            : /^10\.0\.0\.2(4\d|5[0-4])$/.test(dst) && dport >= 32768;
    assert.ok(inRange, `packet ${i + 1}: ${src}:${sport} > ${dst}:${dport}`);
  }
  assert.equal(dump.filter((line) => line.includes('helper=ftp')).length, 100);
});
