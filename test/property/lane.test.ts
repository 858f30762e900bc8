/** Tables whose packets must run in input order (coordinator/lane.ts): vectors on the main thread say what one packet
 *  after the other says, whatever happens within a vector.
 *
 *  SHARDTRACK_PROPERTY_RUNS=N draws N cases; SHARDTRACK_PROPERTY_SEED=S begins with case S. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { orderingOf } from '../../src/openflow/order.js';
import { parseFlows } from '../../src/openflow/parser.js';
import { natTraffic, randomNatTable } from '../support/nat-traffic.js';
import {
  ACK,
  arp,
  ethernet,
  FIN,
  fragmentIpv4,
  ipv4,
  type Packet,
  PSH,
  packet,
  Random,
  SYN,
  tcp,
  udp,
} from '../support/packets.js';
import { randomEvents } from '../support/random-events.js';
import { difference, parseVerdicts, type RunOptions, type RunResult, run } from '../support/run.js';

const RUNS = Number(process.env.SHARDTRACK_PROPERTY_RUNS ?? 8);
const FIRST = Number(process.env.SHARDTRACK_PROPERTY_SEED ?? 1);

const modeOf = (flows: string) => orderingOf(parseFlows(flows, 'flows.txt').map((rule) => rule.actions)).mode;

/** A table that needs one packet after the other: one that translates, and something more. */
function randomTable(r: Random, six: boolean): string {
  const base = randomNatTable(r, six);
  const [ip, tcp, udp] = six ? ['ipv6', 'tcp6', 'udp6'] : ['ip', 'tcp', 'udp'];
  const nat = `nat(src=${six ? 'fd00:9:0::1' : '10.9.0.1'})`;
  const also = (match: string, actions: string) =>
    `priority=90,in_port=1,${match},tp_dst=80,actions=${actions}\n`;
  switch (r.int(6)) {
    case 0:
      return base.replaceAll(/zone=\d/g, () => `zone=${r.pick([0, 1, 7])}`);
    case 1:
      return base.replaceAll('actions=ct(', () => (r.once(2) ? 'actions=ct_clear,ct(' : 'actions=ct('));
    case 2:
      return base + also(udp, `set_field:81->udp_dst,ct(commit,zone=1,${nat},table=1)`);
    case 3:
      return base + also(tcp, `ct(commit,zone=1,alg=ftp,${nat},table=1)`);
    case 4:
      return base + also(udp, `meter:1,ct(commit,zone=1,${nat},table=1)`);
    default: {
      const lines = base.split('\n').map((line) => line.replace(/^table=0,/, ''));
      const later = lines.map((line) =>
        line === '' || line.startsWith('table=') ? line : `table=7,${line}`,
      );
      const timeout = r.pick([
        'idle_timeout=1',
        'hard_timeout=1',
        'idle_timeout=2,hard_timeout=3',
        'limit=4',
      ]);
      const learnt = `table=9,${timeout},send_flow_rem,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]`;
      return `${ip},actions=learn(${learnt}),resubmit(,9),resubmit(,8)
table=8,priority=1,${tcp},idle_timeout=5,actions=fin_timeout(idle_timeout=1),resubmit(,7)
table=8,priority=0,actions=resubmit(,7)
${later.join('\n')}`;
    }
  }
}

async function agree(packets: readonly Packet[], want: RunResult, o: RunOptions): Promise<RunResult> {
  const got = await run(packets, o);
  const diff = difference(want, got);
  const { flows, ...rest } = o;
  assert.equal(diff, null, `${JSON.stringify(rest)}, ${packets.length} packets, and\n${flows}\n${diff}`);
  return got;
}
test('lane: several zones, ct_clear, rewriting, helpers, meters, learning: vectors agree with one packet after the other', async () => {
  const sums = { packets: 0, hits: 0, commits: 0, events: 0 };
  for (let seed = FIRST; seed < FIRST + RUNS; seed++) {
    const r = new Random(seed);
    const six = r.once(4);
    const flows = randomTable(r, six);
    const options = { flows, meters: METERS, strict: r.once(5), maxConns: r.once(3) ? 4 + r.int(20) : 1000 };
    const drawn = { packets: 60 + r.int(120), six, delay: r.pick([0, 2, 20]), whole: r.once(3) };
    const once = await natTraffic(r, drawn, options);
    // Most packets more than once: only then entries serve.
    const packets = once.flatMap((p) => Array.from({ length: 1 + r.int(5) }, () => p));
    const events = r.once(2) ? randomEvents(r, packets, 1 + r.int(8)) : '';
    const records = r.once(3);
    const want = await run(packets, { ...options, events, records });
    sums.packets += packets.length;
    sums.commits += want.traffic.ct.commits;
    sums.events += want.traffic.events.done;
    for (const vector of [1, 2, 256]) {
      const schedule = { workers: 1 + r.int(3), vector, window: 2 + r.int(500), jitter: r.int(3) };
      const got = await agree(packets, want, { ...options, events, records, ...schedule });
      sums.hits += got.run.cache.microflow_hits;
    }
  }
  assert.ok(sums.hits > sums.packets / 10, `few packets took the short way: ${JSON.stringify(sums)}`);
  assert.ok(sums.commits > sums.packets / 20 && sums.events > 0, JSON.stringify(sums));
});

const METERS = 'meter=1,pktps,burst,bands=type=drop,rate=3,burst_size=5\n';

// ---- what may happen within a vector ----

const client = '10.0.0.1';
const server = '10.0.1.1';
const answers = (seconds: number, sport: number, dst = client) =>
  packet(
    seconds,
    2,
    ethernet({ src: 2, dst: 1 }, ipv4({ src: server, dst }, udp({ sport: 80, dport: sport }))),
  );
const asks = (seconds: number, sport: number, dst = server, src = client) =>
  packet(seconds, 1, ethernet({ src: 1, dst: 2 }, ipv4({ src, dst }, udp({ sport, dport: 80 }))));

/** Up to 32 packets in one vector, more in a few; how many of them were hits. */
async function inVectors(
  packets: readonly Packet[],
  o: RunOptions,
): Promise<{ want: RunResult; hits: number }> {
  const want = await run(packets, o);
  const mode = modeOf(o.flows);
  assert.ok(mode === 'lockstep' || mode === 'inline', mode);
  const got = await agree(packets, want, { ...o, workers: 1, vector: 4096 });
  assert.ok(got.run.by_worker[0].vectors <= Math.ceil(packets.length / 32));
  const { microflow_hits: hits } = got.run.cache;
  assert.ok(hits > 0, 'no packet took the short way');
  return { want, hits };
}

/** Zone 2 beside the one that translates makes a table lockstep. */
const TWO_ZONES = 'priority=1,in_port=4,ip,actions=ct(commit,zone=2)\n';

test('lane: a younger connection gets a tuple within the vector: older entries serve no more', async () => {
  const flows = `in_port=1,ip,nw_dst=10.0.1.9,actions=ct(commit,zone=1,nat(dst=${server}),table=1)
in_port=1,ip,actions=ct(commit,zone=1,table=1)
in_port=2,ip,actions=ct(zone=1,nat,table=1)
table=1,in_port=1,actions=2
table=1,in_port=2,actions=1
${TWO_ZONES}`;
  const balanced = asks(0, 1000, '10.0.1.9');
  const direct = asks(0, 1000);
  const reply = answers(0, 1000);
  const { want } = await inVectors([balanced, reply, reply, reply, direct, reply, reply], { flows });
  const froms = want.frames
    .filter((line) => line.split(' ')[1] === '1')
    .map((line) => line.split(' ')[2].slice(52, 60));
  // To the balanced address the answers were given back, and then no more.
  assert.deepEqual(froms, ['0a000109', '0a000109', '0a000109', '0a000101', '0a000101']);
});

test('lane: a full table, whose commits remove what has ended and use its slots again, within a vector', async () => {
  const flows = `in_port=1,ip,actions=ct(commit,zone=1,nat(src=10.9.0.1),table=1)
table=1,ip,ct_state=+new,actions=2
table=1,ip,actions=3
${TWO_ZONES}`;
  const events = '{"t": 0, "vsctl": ["add-zone-tp", "netdev", "zone=1", "udp_first=1", "udp_single=1"]}';
  const packets: Packet[] = [];
  for (let second = 0; second < 40; second += 2) {
    for (let i = 0; i < 12; i++) packets.push(asks(second, 1000 + ((second + i) % 5)));
  }
  for (const limit of [
    { maxConns: 2 },
    { events: `${events}\n{"t": 0, "appctl": ["dpctl/ct-set-limits", "zone=1,limit=2"]}` },
  ]) {
    const { want } = await inVectors(packets, { flows, events, ...limit });
    const { commits, refused, expired } = want.traffic.ct;
    assert.ok(commits > 20 && refused > 20 && expired > 20, JSON.stringify(want.traffic.ct));
  }
});

test('lane: the index grows within a vector', async () => {
  const flows = `in_port=1,ip,actions=ct(commit,zone=1,nat(src=10.9.0.1),table=1)
table=1,actions=2
${TWO_ZONES}`;
  // Two entries each, and room for 320.
  const ports = Array.from({ length: 200 }, (_, i) => 2000 + i);
  const { want } = await inVectors(
    [...ports, ...ports, ...ports.slice(0, 100)].map((port) => asks(0, port)),
    { flows },
  );
  assert.equal(want.traffic.ct.commits, ports.length);
});

test('lane: what is learned, and what has ended, serves from the next packet on', async () => {
  const flows = `ip,actions=learn(table=1,hard_timeout=2,send_flow_rem,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),resubmit(,1)
table=1,priority=0,actions=3
`;
  // Answers go to port 3 until the client is known, then to it, until that is over.
  const packets = [0, 0, 0].map(() => answers(0, 1000));
  packets.push(asks(0.5, 1000), asks(0.5, 1000), ...[1, 2, 2.5].map((s) => answers(s, 1000)));
  packets.push(...[2.6, 2.6, 6].map((s) => answers(s, 1000)));
  const { want } = await inVectors(packets, { flows });
  const out = parseVerdicts(want).map((v) => v.out[0]);
  assert.deepEqual(out, [3, 3, 3, 2, 2, 1, 1, 1, 3, 3, 3]);
  assert.ok(want.log.some((line) => line.includes('flow_removed')));
});

test('lane: a flow that goes within the vector has counted the packets before', async () => {
  const flows = `in_port=1,actions=resubmit(,5)
in_port=2,actions=learn(table=5,output:NXM_OF_IN_PORT[]),1
table=5,actions=learn(table=6,delete_learned,send_flow_rem,NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),2,resubmit(,6)
table=6,priority=0,actions=drop
`;
  const packets = [...Array.from({ length: 6 }, () => asks(0, 1)), answers(0, 1), asks(0, 1)];
  const { want } = await inVectors(packets, { flows });
  assert.match(want.log.join('\n'), /flow_removed.*pkts5 /);
});

test('lane: fin_timeout brings ends forward that have passed already', async () => {
  const flows = `in_port=1,tcp,hard_timeout=100,actions=fin_timeout(hard_timeout=1),2
in_port=1,udp,actions=2
priority=0,actions=3
`;
  const segment = (seconds: number, flags: number) =>
    packet(
      seconds,
      1,
      ethernet({}, ipv4({ src: client, dst: server }, tcp({ flags, seq: 1, ack: flags & ACK }))),
    );
  const packets = [
    segment(0, SYN),
    asks(0, 1),
    asks(0, 1),
    asks(0, 1),
    segment(5, ACK),
    segment(5, FIN | ACK),
  ];
  const { want } = await inVectors([...packets, segment(5.5, ACK), asks(6, 1)], { flows });
  assert.deepEqual(
    parseVerdicts(want).map((v) => v.out[0]),
    [2, 2, 2, 2, 2, 2, 3, 2],
  );
});

test('lane: a meter drops packets whose like have passed', async () => {
  const flows = 'in_port=1,udp,actions=meter:1,2\nin_port=2,actions=1\n';
  const packets = Array.from({ length: 20 }, (_, i) => [asks(i / 8, 1), answers(i / 8, 1)]).flat();
  const { want } = await inVectors(packets, { flows, meters: METERS });
  assert.equal(want.traffic.drops.meter, 20 - 5 - 7);
});

test('lane: fragments expire when packets before them in the vector go through ct()', async () => {
  const flows = `in_port=1,ip,actions=ct(commit,zone=1,nat(src=10.9.0.1),table=1)
table=1,actions=2
in_port=2,ip,actions=1
${TWO_ZONES}`;
  const datagram = (id: number) =>
    fragmentIpv4(
      ipv4({ src: client, dst: server, id }, udp({ sport: 7, dport: 80, data: new Uint8Array(1400) })),
      1300,
    ).map((l3) => ethernet({ src: 1, dst: 2 }, l3));
  const [first, second] = [datagram(1), datagram(2)];
  const packets = [packet(0, 1, first[0]), packet(0, 1, second[0]), ...[1, 1, 1].map(() => answers(16, 7))];
  // The first datagram is complete in spite of its age; then a packet goes through ct(), and the second is gone.
  packets.push(packet(16, 1, first[1]), asks(16, 7), asks(16, 7), packet(16.1, 1, second[1]));
  const { want } = await inVectors(packets, { flows });
  assert.equal(want.traffic.ct.reassembled, 1);
});

test('lane: normal, asked at once or left to the collector, learns in input order', async () => {
  const flows = `arp,actions=normal
udp,in_port=1,actions=set_field:81->udp_dst,ct(commit,zone=1),output:4,normal
udp,in_port=2,actions=normal,output:4
`;
  const says = (port: number, src: number, dst: number) =>
    packet(0, port, ethernet({ src, dst, pad: 18 }, arp()));
  const moves = [
    says(3, 1, 7),
    answers(0, 9),
    asks(0, 9),
    answers(0, 9),
    says(3, 1, 7),
    says(3, 2, 7),
    asks(0, 9),
    answers(0, 9),
  ];
  const { want } = await inVectors([...moves, ...moves, ...moves], { flows });
  assert.ok(new Set(parseVerdicts(want).map((v) => v.out.join())).size > 3);
});

test('lane: data connections of FTP in the vector of the command that announces them', async () => {
  const flows = `in_port=1,tcp,tp_dst=21,actions=ct(commit,zone=1,alg=ftp,nat(src=10.9.0.1),table=1)
in_port=1,tcp,actions=ct(zone=1,nat,table=1)
in_port=2,tcp,actions=ct(zone=1,nat,table=1)
table=1,tcp,ct_state=+new+rel,actions=ct(commit,zone=1,nat,exec(set_field:1->ct_mark)),resubmit(,2)
table=1,tcp,actions=resubmit(,2)
table=2,in_port=1,actions=2
table=2,in_port=2,actions=1
`;
  const packets: Packet[] = [];
  const [outside, port] = ['10.9.0.1', 4000];
  const send = (from: 1 | 2, ports: [number, number], flags: number, seq: number, ack: number, text = '') => {
    const [src, dst] = from === 1 ? [client, server] : [server, outside];
    const l4 = tcp({
      sport: ports[0],
      dport: ports[1],
      flags,
      seq,
      ack,
      data: new TextEncoder().encode(text),
    });
    packets.push(packet(0, from, ethernet({ src: from, dst: 3 - from }, ipv4({ src, dst }, l4))));
  };
  const command = 'PORT 10,0,0,1,15,161\r\n'; // 4001
  send(1, [port, 21], SYN, 100, 0);
  send(2, [21, port], SYN | ACK, 500, 101);
  send(1, [port, 21], ACK, 101, 501);
  send(1, [port, 21], PSH | ACK, 101, 501, command);
  send(2, [20, 4001], SYN, 900, 0);
  send(1, [4001, 20], SYN | ACK, 700, 901);
  for (let i = 0; i < 4; i++) {
    send(2, [20, 4001], ACK, 901, 701);
    send(2, [21, port], ACK, 501, 101 + command.length);
    packets.push(asks(0, 5));
  }
  const { want } = await inVectors(packets, { flows: `${flows}udp,actions=2\n` });
  assert.match(want.dump.join('\n'), /parent=/);
  assert.ok(
    parseVerdicts(want)[4].ct.some(({ state }) => state.includes('rel')),
    want.verdicts[4],
  );
});

test('lane: a data connection of FTP in the vector of the answer that announces it, as others before it', async () => {
  const flows = `ip,ct_state=-trk,actions=ct(table=1)
table=1,priority=2,tcp,tp_dst=21,ct_state=+new,actions=ct(commit,alg=ftp),output:2
table=1,priority=1,tcp,ct_state=+new,actions=ct(commit),output:2
table=1,priority=1,udp,ct_state=+new,actions=ct(commit),output:2
table=1,priority=3,ct_state=+est,actions=output:1
`;
  const packets: Packet[] = [];
  const send = (
    from: 1 | 2,
    [sport, dport]: [number, number],
    flags: number,
    seq: number,
    ack: number,
    text = '',
  ) => {
    const [src, dst] = from === 1 ? [client, server] : [server, client];
    const l4 = tcp({ sport, dport, flags, seq, ack, data: new TextEncoder().encode(text) });
    packets.push(packet(0, from, ethernet({ src: from, dst: 3 - from }, ipv4({ src, dst }, l4))));
  };
  // These are enough for openings, which agree with the data connection in all that the table looks at.
  for (let i = 0; i < 100; i++) send(1, [20_000 + i, 8000], SYN, 1, 0);
  send(1, [4000, 21], SYN, 100, 0);
  send(2, [21, 4000], SYN | ACK, 500, 101);
  send(1, [4000, 21], ACK, 101, 501);
  send(2, [21, 4000], PSH | ACK, 501, 101, '227 Entering Passive Mode (10,0,1,1,31,65)\r\n'); // 8001
  send(1, [4001, 8001], SYN, 1, 0);
  packets.push(...[5, 5, 5, 5].map((p) => asks(0, p)));
  const { want } = await inVectors(packets, { flows });
  const data = parseVerdicts(want)[104];
  assert.ok(
    data.ct.every(({ state }) => state.includes('rel')),
    JSON.stringify(data),
  );
});
