import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Frame } from '../../../src/generate/frames.js';
import { parseSizes } from '../../../src/generate/sizes.js';
import { tablesFor } from '../../../src/generate/tables.js';
import { type TrafficOptions, traffic } from '../../../src/generate/traffic.js';
import { WORKLOADS, workloadNamed } from '../../../src/generate/workloads.js';
import { parseFlows } from '../../../src/openflow/parser.js';
import { address, crc32c, internetChecksum, type Packet, view } from '../../support/packets.js';
import { run } from '../../support/run.js';

/** Copies of the frames, a millisecond apart. */
function packets(o: TrafficOptions): Packet[] {
  return Array.from(traffic(o), ({ bytes, length, port = 1 }: Frame, i) => ({
    sec: 1_600_000_000 + Math.floor(i / 1000),
    nsec: (i % 1000) * 1_000_000,
    port,
    frame: bytes.slice(0, length),
  }));
}

const small = (name: string, changes: Partial<TrafficOptions> = {}): TrafficOptions => ({
  ...workloadNamed(name).traffic,
  packets: 600,
  connections: 40,
  ...changes,
});

/** Headers by the RFCs, with the means of the tests only. */
function parse(frame: Uint8Array) {
  const v = view(frame);
  let l3 = 14;
  let type = v.getUint16(12);
  let vlan = 0;
  if (type === 0x8100) {
    vlan = v.getUint16(14);
    type = v.getUint16(16);
    l3 = 18;
  }
  const ipv6 = type === 0x86dd;
  const l4 = l3 + (ipv6 ? 40 : 20);
  const end = l3 + (ipv6 ? 40 + v.getUint16(l3 + 4) : v.getUint16(l3 + 2));
  const proto = frame[l3 + (ipv6 ? 6 : 9)];
  const addresses = ipv6 ? frame.subarray(l3 + 8, l3 + 40) : frame.subarray(l3 + 12, l3 + 20);
  return { v, l3, l4, end, proto, ipv6, vlan, addresses };
}

function checkSums(frame: Uint8Array): void {
  const { v, l3, l4, end, proto, ipv6, addresses } = parse(frame);
  if (!ipv6) assert.equal(internetChecksum(frame.subarray(l3, l4)), 0, 'IPv4 header');
  assert.ok(end <= frame.length);
  const l4Bytes = frame.subarray(l4, end);
  if (proto === 132) {
    const zeroed = l4Bytes.slice();
    zeroed.fill(0, 8, 12);
    assert.equal(v.getUint32(l4 + 8, true), crc32c(zeroed), 'SCTP');
    return;
  }
  if (proto === 17) assert.equal(v.getUint16(l4 + 4), end - l4, 'length of UDP');
  const pseudo = proto === 1 ? [] : [...addresses, 0, 0, l4Bytes.length >> 8, l4Bytes.length & 255, 0, proto];

  assert.equal(internetChecksum(Uint8Array.from([...pseudo, ...l4Bytes])), 0, `protocol ${proto}`);
}

for (const { name, what } of WORKLOADS) {
  test(`generate: ${name} has right checksums, fits its table and is tracked without exception`, async () => {
    const w = workloadNamed(name);
    const traffic = small(name);
    const frames = packets(traffic);
    for (const { frame } of frames) checkSums(frame);
    // Fewer rules than the workload has: their number decides nothing here.
    const flows = tablesFor(traffic, { ...w.table, rules: Math.min(100, w.table.rules) });
    const { traffic: counted } = await run(frames, { flows, ports: [1, 2] });
    assert.equal(counted.ct.invalid, 0, what);
    assert.deepEqual(counted.drops, {});
    const out = (port: number) => counted.out[port]?.packets ?? 0;
    assert.equal(out(2), frames.filter((p) => p.port === 1).length);
    assert.equal(out(1), frames.filter((p) => p.port === 2).length);
    assert.equal(counted.ct.related, 0);
  });
}

test('generate: the same seed gives the same bytes, another seed others', () => {
  const bytes = (seed: number) => Buffer.concat(packets(small('imix', { seed })).map((p) => p.frame));
  assert.deepEqual(bytes(7), bytes(7));
  assert.notDeepEqual(bytes(7), bytes(8));
});

test('generate: so many packets as asked for, unless connections shall end', () => {
  const counts = (o: Partial<TrafficOptions>) => packets(small('tcp', { life: 4, ...o })).length;
  assert.equal(counts({ complete: false }), 600);
  const complete = counts({});
  assert.ok(complete > 400 && complete < 800, `${complete}`);
});

test('generate: all connections have ended when the capture is complete', async () => {
  const o = small('tcp', { life: 4 });
  const { result } = await run(packets(o), { flows: tablesFor(o, { rules: 0, lists: 1 }), ports: [1, 2] });
  assert.ok(result.dump().length >= 40);
  assert.doesNotMatch(result.dump().join('\n'), /state=ESTABLISHED/);
});

test('generate: what crosses a NAT comes back as the other side sees it', async () => {
  for (const name of ['snat', 'dnat']) {
    const o = small(name, { natTargets: 3 });
    const frames = packets(o);
    const targets = new Set<string>();
    for (const { frame, port } of frames) {
      const { addresses } = parse(frame);
      const outside =
        name === 'snat'
          ? port === 2
            ? addresses.subarray(4)
            : null
          : port === 1
            ? addresses.subarray(4)
            : null;
      if (outside !== null) targets.add(outside.join('.'));
    }
    const first = address(name === 'snat' ? '203.0.113.0' : '198.18.0.0').join('.');
    assert.equal(targets.size, 3);
    assert.ok(targets.has(first), [...targets].join());
  }
});

test('generate: a one-way flow has no replies but the ones that TCP needs', () => {
  assert.ok(packets(small('udp', { replyPercent: 0 })).every((p) => p.port === 1));
  const data = packets(
    small('tcp', { replyPercent: 0, life: 400, sizes: parseSizes('1514'), packets: 20_000 }),
  )
    .filter((p) => p.port === 2)
    .map((p) => p.frame.length);
  assert.ok(data.length > 40 && data.every((n) => n === 60));
});

test('generate: zones are VLANs, a flood comes from ever new addresses', () => {
  const vlans = new Set(packets(small('zones', { zones: 5 })).map((p) => parse(p.frame).vlan));
  assert.deepEqual([...vlans].sort(), [1, 2, 3, 4, 5]);
  const flood = packets(small('syn-flood', { floodPercent: 100, complete: false }));
  const sources = new Set(flood.map((p) => Buffer.from(p.frame.subarray(26, 36)).toString('hex')));
  assert.equal(sources.size, 600);
});

test('generate: IMIX has its shares, a range its ends', () => {
  const count = (sizes: string) => {
    const n = new Map<number, number>();
    const o = small('udp', { sizes: parseSizes(sizes), packets: 6000 });
    for (const { frame } of packets(o)) n.set(frame.length, (n.get(frame.length) ?? 0) + 1);
    return n;
  };
  const imix = count('imix');
  assert.deepEqual(
    [...imix.keys()].sort((a, b) => a - b),
    [60, 590, 1514],
  );
  assert.ok(Math.abs(imix.get(60)! - 3500) < 200 && Math.abs(imix.get(590)! - 2000) < 200);
  assert.deepEqual([...count('60-63').keys()].sort(), [60, 61, 62, 63]);
  assert.ok(Math.abs(parseSizes('imix').mean - (7 * 60 + 4 * 590 + 1514) / 12) < 1e-9);
});

test('generate: sizes that are none are refused', () => {
  for (const text of ['', '59', '1515', '60-', '100-60', '60:0', '60:1:2', 'x', '60,,70']) {
    assert.throws(() => parseSizes(text), RangeError, text);
  }
});

test('generate: options that do not go together are refused', () => {
  const first = (o: Partial<TrafficOptions>) => () => traffic(small('tcp', o)).next();
  assert.throws(first({ connections: 0 }), /connections: 0 is out of range/);
  assert.throws(first({ life: 0 }), /never end/);
  assert.throws(first({ protocols: { tcp: 0, udp: 0, icmp: 0, sctp: 0 } }), /weight 0/);
  assert.throws(first({ nat: 'snat', protocols: { tcp: 1, udp: 0, icmp: 0, sctp: 1 } }), /SCTP/);
  assert.throws(first({ nat: 'dnat', ipv6Percent: 1 }), /IPv4/);
  assert.throws(first({ nat: 'snat', natTargets: 2, connections: 100_000 }), /use at least 4/);
  assert.throws(first({ zones: 5000 }), /zones/);
});

test('generate: a table has the rules that were asked for', () => {
  const rules = (o: Partial<TrafficOptions>, n: number, lists: number) =>
    parseFlows(tablesFor(small('tcp', o), { rules: n, lists }), 'made').length;
  const plain = rules({}, 0, 1);
  assert.equal(rules({}, 1000, 7), plain + 1000 + 7);
  assert.equal(rules({ zones: 9 }, 0, 1), plain + 8);
  assert.equal(rules({ nat: 'dnat', natTargets: 5 }, 0, 1), plain + 5);
});

test('generate: an unknown workload is answered with those that there are', () => {
  assert.throws(() => workloadNamed('nope'), /"nope"; there are udp, /);
});
