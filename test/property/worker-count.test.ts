/** The contract: the number of workers, the window, the vector and the schedule never change a verdict, an
 *  output byte, a connection or a traffic counter. Random tables and traffic; `--workers 0` is the answer.
 *
 *  SHARDTRACK_PROPERTY_RUNS=N draws N cases of each kind; SHARDTRACK_PROPERTY_SEED=S begins with case S. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ethernet, ipv4, type Packet, packet, Random, SYN, tcp, udp } from '../support/packets.js';
import { randomEvents, randomFlowMods } from '../support/random-events.js';
import { GROUPS, randomFlow, randomTable } from '../support/random-tables.js';
import { randomTraffic } from '../support/random-traffic.js';
import { difference, type RunOptions, type RunResult, run } from '../support/run.js';

const RUNS = Number(process.env.SHARDTRACK_PROPERTY_RUNS ?? 8);
const FIRST = Number(process.env.SHARDTRACK_PROPERTY_SEED ?? 1);

/** Seeds are the same in every run, so that a failure can be repeated. */
const seeds = Array.from({ length: RUNS }, (_, i) => FIRST + i);

function story(seed: number, o: RunOptions, packets: readonly Packet[], what: string): string {
  const { flows, groups: _, ...rest } = o;
  return `seed ${seed}: ${JSON.stringify(rest)}, ${packets.length} packets, and\n${flows}\n${what}`;
}

async function agree(
  seed: number,
  packets: readonly Packet[],
  want: RunResult,
  o: RunOptions,
): Promise<RunResult> {
  const got = await run(packets, o);
  const diff = difference(want, got);
  assert.ok(diff === null, story(seed, o, packets, diff ?? ''));
  return got;
}

/** A schedule that is as unkind as can be drawn. */
function randomSchedule(r: Random, workers: number): Partial<RunOptions> {
  return {
    workers,
    window: 2 + r.int(r.once(2) ? 8 : 63),
    vector: 1 + r.int(8),
    jitter: r.once(4) ? 0 : 1 + r.int(1 << 20),
  };
}

for (const rewriteTuples of [false, true]) {
  const name = rewriteTuples ? 'tables that rewrite addresses (lockstep)' : 'random tables and traffic';
  test(`worker count: ${name}: 0, 1, 2 and 4 workers agree byte for byte`, async () => {
    let microflows = 0;
    for (const seed of rewriteTuples ? seeds.slice(0, Math.ceil(RUNS / 2)) : seeds) {
      const r = new Random(seed);
      const flows = randomTable(r, { rewriteTuples, groups: true });
      const packets = randomTraffic(r, { packets: 150 + r.int(300) });
      const want = await run(packets, { flows, groups: GROUPS });
      assert.equal(want.verdicts.length, packets.length);
      for (const workers of rewriteTuples ? [2] : [1, 2, 4]) {
        const got = await agree(seed, packets, want, {
          flows,
          groups: GROUPS,
          ...randomSchedule(r, workers),
        });
        microflows += got.run.cache.microflow_hits;
      }
    }
    assert.ok(rewriteTuples || microflows > 0, 'no packet took the short way: this test tests half of it');
  });
}

test('worker count: long conversations, most of whose packets take the short way, agree with the long way', async () => {
  const tables = [
    'ip,ct_state=-trk,actions=ct(table=1)\ntable=1,ip,ct_state=+trk+new,actions=ct(commit),2\ntable=1,ip,ct_state=+trk+est,actions=1,2',
    'ip,actions=ct(commit,table=1)\ntable=1,in_port=1,actions=2\ntable=1,priority=0,actions=1',
    'ip,actions=ct(commit,zone=1),ct(commit,zone=2,table=1)\ntable=1,ip,ct_state=+est,actions=2,3\ntable=1,priority=0,actions=1',
    'ip,ct_state=-trk,actions=ct(zone=1,table=1)\ntable=1,ip,ct_state=+trk+new,actions=ct(commit,zone=1,exec(set_field:1->ct_mark)),2\ntable=1,ip,ct_state=+est,ct_mark=1,actions=ct(commit,zone=1,exec(set_field:0->ct_mark)),1\ntable=1,ip,ct_state=+est,actions=2',
    'ip,tcp,tcp_flags=-syn,actions=ct(table=1)\nip,actions=ct(commit),2\ntable=1,ip,nw_ttl=64,actions=1,2',
  ].map((t) => t.replace('ip,tcp,', 'tcp,'));
  const shares: number[] = [];
  for (const seed of seeds.slice(0, Math.ceil(RUNS / 4))) {
    for (const [i, flows] of tables.entries()) {
      const r = new Random(seed * 1000 + i);
      const packets = randomTraffic(r, {
        packets: 1200,
        flows: 6 + r.int(20),
        plain: true,
        calm: !r.once(4),
      });
      const at = packets[400 + r.int(400)];
      const toggle = (t: number, what: string) => `{"t": ${t}, "appctl": ["dpctl/ct-${what}-tcp-seq-chk"]}`;
      const timers = `"tcp_established=${1 + r.int(3)}", "udp_single=${1 + r.int(3)}", "udp_multiple=${1 + r.int(3)}"`;
      const policy = (zone: number) =>
        `{"t": 0, "vsctl": ["add-zone-tp", "netdev", "zone=${zone}", ${timers}]}`;
      const events = [
        ...(r.once(3) ? [toggle(at.sec, 'disable'), toggle(at.sec + 1, 'enable')] : []),
        ...(r.once(2) ? [policy(r.int(2))] : []),
      ].join('\n');
      const want = await run(packets, { flows, events });
      // Small windows: what waits behind a first packet never takes the short way.
      const schedule = {
        window: 8 + r.int(100),
        vector: 1 + r.int(32),
        jitter: r.once(2) ? 0 : 1 + r.int(1 << 20),
      };
      const got = await agree(seed, packets, want, { flows, events, workers: 1 + r.int(3), ...schedule });
      shares.push(got.run.cache.microflow_hits / packets.length);
    }
  }
  assert.ok(Math.max(...shares) > 0.25, `shares of packets that took the short way: ${shares}`);
});

test('worker count: a connection table that fills up: 0, 1 and 3 workers refuse the same commits', async () => {
  let refused = 0;
  for (const seed of seeds.slice(0, Math.ceil(RUNS / 3))) {
    const r = new Random(seed ^ 0x5eed);
    const flows = randomTable(r, { rules: 4 });
    const packets = randomTraffic(r, { packets: 200, flows: 30 });
    const maxConns = 1 + r.int(12);
    const want = await run(packets, { flows, maxConns });
    refused += want.traffic.ct.refused;
    for (const workers of [1, 3]) {
      await agree(seed, packets, want, { flows, maxConns, ...randomSchedule(r, workers) });
    }
  }
  assert.ok(refused > 0, 'no table was full: this test tests nothing');
});

test('worker count: workers make connections by themselves until the table is nearly full, then ask: all agree', async () => {
  const flows = [
    'table=0,priority=9,ip,actions=ct(table=1)',
    'table=1,priority=9,ip,ct_state=+new,udp,udp_dst=53,actions=ct(commit,exec(set_field:7->ct_mark)),2',
    'table=1,priority=8,ip,ct_state=+new,actions=ct(commit),2',
    'table=1,priority=9,ip,ct_state=+est,ct_mark=7,actions=3',
    'table=1,priority=8,ip,ct_state=+est,actions=4',
  ].join('\n');
  let refused = 0;
  let alone = 0;
  for (const seed of seeds.slice(0, Math.ceil(RUNS / 2))) {
    const r = new Random(seed ^ 0x6ea47);
    const packets: Packet[] = [];
    let t = 100;
    for (let i = 0; i < 500; i++) {
      // The table empties now and then, by time or by force.
      t += r.once(60) ? 25 + r.int(50) : r.int(20) / 1000;
      const client = `10.0.${r.int(4)}.${r.int(60)}`;
      const ends = { src: client, dst: '10.1.0.1' };
      const ports = { sport: 1000 + r.int(3), dport: r.pick([53, 80]) };
      const back = r.once(4);
      const there = ipv4(ends, r.once(5) ? tcp({ ...ports, flags: SYN }) : udp(ports));
      const answer = ipv4({ src: ends.dst, dst: client }, udp({ sport: ports.dport, dport: ports.sport }));
      packets.push(packet(t, back ? 2 : 1, ethernet({}, back ? answer : there)));
    }
    const maxConns = 60 + r.int(200);
    const want = await run(packets, { flows, maxConns });
    refused += want.traffic.ct.refused;
    for (const workers of [1, 2, 4]) {
      const schedule = { ...randomSchedule(r, workers), window: 2 + r.int(8) };
      const got = await agree(seed, packets, want, { flows, maxConns, ...schedule });
      // Whoever asks is parked.
      alone += Math.max(0, got.traffic.ct.commits - got.run.parked);
    }
  }
  assert.ok(refused > 0, 'no table was full: this test tests half of it');
  assert.ok(alone > 0, 'no worker made a connection by itself: this test tests half of it');
});

test('worker count: any RSS key gives the same answer, and so does the size of the window inline', async () => {
  for (const seed of seeds.slice(0, Math.ceil(RUNS / 6))) {
    const r = new Random(seed ^ 0x4b4559);
    const flows = randomTable(r);
    const packets = randomTraffic(r, { packets: 200 });
    const want = await run(packets, { flows });
    await agree(seed, packets, want, { flows, workers: 2, rssKey: r.bytes(40) });
    await agree(seed, packets, want, { flows, workers: 0, window: 1 + r.int(4) });
  }
});

test('worker count: control events between packets act and answer the same for 0, 1, 2 and 4 workers', async () => {
  const sums = { flushed: 0, zone_limit: 0, refused: 0, strict: 0 };
  for (const seed of seeds) {
    const r = new Random(seed ^ 0xe4e475);
    const flows = randomTable(r);
    const packets = randomTraffic(r, { packets: 250 + r.int(200), flows: 20, calm: !r.once(3) });
    const events = randomEvents(r, packets, 4 + r.int(30));
    const strict = r.once(2);
    const want = await run(packets, { flows, events, strict });
    const { ct, drops } = want.traffic;
    sums.flushed += ct.flushed;
    sums.zone_limit += ct.refused_by_reason.zone_limit;
    sums.refused += want.traffic.events.refused;
    sums.strict += drops['commit-refused'] ?? 0;
    for (const workers of seed % 2 ? [2] : [1, 4]) {
      await agree(seed, packets, want, { flows, events, strict, ...randomSchedule(r, workers) });
    }
  }
  for (const [what, n] of Object.entries(sums))
    assert.ok(n > 0, `${what} is 0: this test tests less than it says`);
});

test('worker count: flow-mods, group-mods, timeouts and questions between packets: 0, 1 and 3 workers agree', async () => {
  let removed = 0;
  for (const seed of seeds.slice(0, Math.ceil(RUNS / 2))) {
    const r = new Random(seed ^ 0x7ab1e5);
    const flows = `${randomTable(r)}table=0,priority=15,udp,idle_timeout=1,send_flow_rem,actions=output:2,output:3
table=0,priority=16,tcp,tp_dst=80,hard_timeout=2,send_flow_rem,actions=normal,output:1\n`;
    const packets = randomTraffic(r, { packets: 250 });
    const events = randomFlowMods(r, packets, 4 + r.int(20), () => randomFlow(r));
    const want = await run(packets, { flows, events });
    removed += want.log.filter((line) => line.includes('flow_removed')).length;
    for (const workers of [1, 3]) {
      await agree(seed, packets, want, { flows, events, ...randomSchedule(r, workers) });
    }
  }
  assert.ok(removed > 0, 'no flow has ended by itself: this test tests half of it');
});

test('worker count: tables that learn, meter and follow FINs run the same for any number of workers', async () => {
  let learned = 0;
  for (const seed of seeds.slice(0, Math.ceil(RUNS / 2))) {
    const r = new Random(seed ^ 0x1ea2);
    const timeout = r.pick(['idle_timeout=1', 'hard_timeout=1', 'idle_timeout=3,hard_timeout=2', 'limit=3']);
    const flows = `${randomTable(r)}table=0,priority=300,ip,actions=learn(table=9,${timeout},eth_type=0x800,NXM_OF_IP_DST[]=NXM_OF_IP_SRC[],output:NXM_OF_IN_PORT[]),resubmit(,9),resubmit(,8)
table=8,priority=1,tcp,idle_timeout=5,actions=fin_timeout(idle_timeout=1),output:1
table=8,priority=0,actions=resubmit(,1)
table=9,priority=0,actions=output:4\n`;
    const packets = randomTraffic(r, { packets: 250 });
    const want = await run(packets, { flows });
    learned += want.tables.filter((line) => line.includes('table=9') && line.includes('nw_dst')).length;
    await agree(seed, packets, want, { flows, ...randomSchedule(r, 1 + r.int(3)) });
  }
  assert.ok(learned > 0, 'nothing was learned: this test tests nothing');
});

test('schedule: with injected delays packets wait for the coordinator, and nothing changes', async () => {
  const r = new Random(77);
  const flows = [
    'table=0,priority=10,ip,actions=ct(table=1)',
    'table=0,priority=10,ipv6,actions=ct(table=1)',
    'table=0,priority=0,actions=normal',
    'table=1,priority=10,ip,ct_state=+trk+new,actions=ct(commit,exec(set_field:1->ct_mark)),normal',
    'table=1,priority=5,ct_state=+trk+est,ct_mark=1,actions=in_port,normal',
    'table=1,priority=0,actions=normal',
  ].join('\n');
  const packets = randomTraffic(r, { packets: 600, flows: 24 });
  const want = await run(packets, { flows });
  for (const jitter of [1, 4711, 99991]) {
    const got = await agree(77, packets, want, { flows, workers: 3, jitter, window: 128, vector: 16 });
    assert.ok(got.run.parked > 0, `jitter ${jitter}: no packet was parked`);
  }
});

test('workers that make thousands of copies of each packet do not run ahead of what is written', async () => {
  const r = new Random(5);
  const copies = Array.from({ length: 4000 }, (_, i) => `set_field:${i % 60}->ip_dscp,output:2`).join(',');
  const frame = ethernet({}, ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }, udp({ data: r.bytes(20) })));
  const packets = Array.from({ length: 500 }, (_, i) => packet(i / 1000, 1, frame));
  const nap = new Int32Array(new SharedArrayBuffer(4));
  const sink = { verdict: () => void Atomics.wait(nap, 0, 0, 1) };
  const { result } = await run(packets, { flows: `ip,actions=${copies}\n`, workers: 1, sink });
  assert.equal(result.outByPort.get(2)?.packets, 4000 * packets.length);
  // 64 MiB in flight, and what comes until it is known how much a packet makes.
  assert.ok(result.frameBytes < 80 << 20, `${result.frameBytes} bytes of chunks`);
});
