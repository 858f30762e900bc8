/** The traffic of bench:flood: as real as it claims, the same every time; and the point of it in small. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { SHAPED, ShapedPackets } from '../../../bench/flood/shaped.js';
import {
  FLOODS,
  type FloodOptions,
  FloodReader,
  PORT_SERVER,
  PORT_STRANGERS,
} from '../../../bench/flood/traffic.js';
import { SegmentArena } from '../../../src/pcap/arena.js';
import { MergedSource, newMergedRecord } from '../../../src/pcap/merge.js';
import { ReadResult } from '../../../src/pcap/types.js';
import { hex } from '../../support/packets.js';
import { parseVerdicts, type RunOptions, runSource } from '../../support/run.js';

const BASE: FloodOptions = {
  flood: 'syn',
  packets: 3000,
  silent: false,
  rate: 1000,
  real: 20,
  realRate: 20,
};
const FLOWS = `ip,ct_state=-trk,actions=ct(zone=1,table=1)
ipv6,ct_state=-trk,actions=ct(zone=1,table=1)
table=1,ip,ct_state=+new,actions=ct(commit,zone=1),output:2
table=1,ipv6,ct_state=+new,actions=ct(commit,zone=1),output:2
table=1,ip,ct_state=+est,actions=output:4\n`;

function replay(o: FloodOptions, options: Partial<RunOptions>) {
  const arena = new SegmentArena(8);
  const source = new MergedSource([new FloodReader(o, arena)], arena);
  return runSource(source, arena, (_source, iface) => iface, { flows: FLOWS, ...options });
}

/** Every frame, in hex. */
function frames(o: FloodOptions): string[] {
  const arena = new SegmentArena(8);
  const reader = new FloodReader(o, arena);
  const record = newMergedRecord();
  const found: string[] = [];
  while (reader.next(record) === ReadResult.PACKET) {
    found.push(
      `${record.sec}.${record.nsec} ${hex(arena.u8.subarray(record.off, record.off + record.capLen))}`,
    );
    arena.release(record.segment);
  }
  reader.close();
  return found;
}

const isShaped = (flood: string) => (SHAPED as readonly string[]).includes(flood);

for (const flood of FLOODS.filter((name) => name !== 'expectations' && !isShaped(name))) {
  test(`flood ${flood}: strangers open connections, or fragments wait; real ones talk, each within its own`, async () => {
    const r = await replay({ ...BASE, flood }, {});
    const verdicts = parseVerdicts(r);
    const real = verdicts.filter((v) => v.in_port !== PORT_STRANGERS);
    const strangers = verdicts.length - real.length;
    assert.equal(strangers, BASE.packets);
    const opening = real.filter((v) => v.ct[0].state === '+new+trk').length;
    // Of a TCP connection the SYN is new, and so is what comes before the answer.
    assert.equal(opening, BASE.real);
    assert.ok(real.slice(3 * BASE.real).every((v) => v.ct[0].state.includes('+est') && v.out[0] === 4));
    const { ct } = r.traffic;
    if (flood === 'fragments') assert.equal(ct.fragments_held, 1000);
    // One source port in 65,536 of collide is 0, which is nobody's.
    else assert.ok(ct.invalid <= 1, `${ct.invalid} invalid`);
    assert.equal(ct.evicted > 0, flood === 'reopen');
    if (flood === 'syn' || flood === 'udp' || flood === 'ack') {
      assert.equal(ct.commits, BASE.real + BASE.packets, 'every stranger is another one');
    }
  });
}

test('flood expectations: strangers announce ports over FTP; real transfers are related', async () => {
  const flows = fs.readFileSync(new URL('../../../../bench/flood/ftp.txt', import.meta.url), 'utf8');
  const o: FloodOptions = { ...BASE, flood: 'expectations', real: 32, realRate: 200 };
  const r = await replay(o, { flows });
  const verdicts = parseVerdicts(r);
  const strangers = verdicts.filter((v) => v.in_port === PORT_STRANGERS);
  // The server answers each of their 256 sessions.
  assert.equal(strangers.length, o.packets - 256);
  const announcements = strangers.slice(-(o.packets - 3 * 256));
  assert.ok(announcements.every((v) => v.ct[0].state === '+est+trk'));
  const related = verdicts.filter((v) => v.ct[0].state.includes('+rel'));
  assert.ok(
    related.length > 10 && related.every((v) => v.in_port === PORT_SERVER),
    `${related.length} related`,
  );
  assert.equal(r.traffic.ct.invalid, 0);
});

for (const flood of SHAPED) {
  test(`flood ${flood}: real packets fare as without it, whatever it names, with any number of workers`, async () => {
    const o: FloodOptions = { ...BASE, flood };
    type Line = ReturnType<typeof parseVerdicts>[number];
    const isReal = (v: Line) => v.in_port !== PORT_STRANGERS;
    const verdict = ({ ts, ct, out, reason }: Line) => ({ ts, ct, out, reason });
    const want = parseVerdicts(await replay({ ...o, silent: true }, {}));
    const states = new Set<string>();
    for (const workers of [0, 1, 2]) {
      const r = await replay(o, { workers });
      const got = parseVerdicts(r);
      assert.equal(got.length, want.length + o.packets);
      assert.deepEqual(got.filter(isReal).map(verdict), want.map(verdict), `${workers} workers`);
      for (const v of got) if (!isReal(v)) states.add(v.ct[0]?.state ?? v.reason);
      const { ct } = r.traffic;
      if (flood === 'errors') assert.equal(ct.commits, BASE.real, 'errors open nothing');
      else if (flood === 'overlaps') assert.ok(ct.reassembled > 3, `${ct.reassembled} reassembled`);
    }
    const some: Record<string, string[]> = {
      errors: ['+inv+trk', '+rel+rpl+trk', '+rel+trk'],
      overlaps: ['+est+trk', '+inv+trk', '+new+trk', 'fragment-held'],
      chains: ['+est+trk', '+inv+trk', '+new+trk', 'fragment-held'],
    };
    assert.deepEqual([...states].sort(), some[flood]);
  });
}

test('flood chains: most are as long as a frame may be, and hold up to 181 headers', () => {
  const packets = new ShapedPackets(100, 20);
  const lengths = Array.from({ length: 100 }, (_, n) => packets.make('chains', n));
  const longest = lengths.filter((length) => length === 14 + 40 + 181 * 8 + 8).length;
  assert.ok(longest > 50 && lengths.every((length) => length <= 1514), `${longest} as long`);
});

test('flood: the same frames at the same times every time; silent, only the real ones', () => {
  const all = frames(BASE);
  assert.deepEqual(frames(BASE), all);
  assert.equal(new Set(all).size, all.length);
  const silent = frames({ ...BASE, silent: true });
  assert.equal(silent.length, all.length - BASE.packets);
  const there = new Set(all);
  assert.ok(silent.every((frame) => there.has(frame)));
});

test('flood: no real packet fares worse beside strangers, at no limit and with any number of workers', async () => {
  const FEW = { ...BASE, packets: 600, rate: 300 };
  const limit = '{"t": 0, "appctl": ["dpctl/ct-set-limits", "zone=1,limit=25"]}';
  for (const options of [{}, { maxConns: 25 }, { events: limit }]) {
    const want = parseVerdicts(await replay({ ...FEW, silent: true }, options));
    for (const workers of [0, 1, 2]) {
      const r = await replay(FEW, { ...options, workers });
      const got = parseVerdicts(r).filter((v) => v.in_port !== PORT_STRANGERS);
      const verdict = ({ ts, ct, out, reason }: (typeof got)[number]) => ({ ts, ct, out, reason });
      assert.deepEqual(got.map(verdict), want.map(verdict), `${workers} workers, ${JSON.stringify(options)}`);
      const full = options.maxConns !== undefined || options.events !== undefined;
      assert.equal(r.traffic.ct.refused, full ? FEW.packets - 5 : 0);
    }
  }
});
