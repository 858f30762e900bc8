import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { type Analysis, type AnalyzeOptions, analyze } from '../../../src/analyze/analyze.js';
import { slicesOf } from '../../../src/analyze/slices.js';
import { SLICE_STEP, Slice, SlicesWontDo, threadNumber } from '../../../src/coordinator/slice.js';
import { data, ethernet, ipv4, packet, pcapFile, Random, udp } from '../../support/packets.js';
import { randomTraffic } from '../../support/random-traffic.js';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-slices-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));
const file = (name: string): string => path.join(folder, name);

interface Got {
  text: string;
  analysis: Analysis;
}

/** What an analysis writes and says. */
async function run(capture: string, options: Partial<AnalyzeOptions>): Promise<Got> {
  const out = file('records.ndjson');
  fs.rmSync(out, { force: true });
  const outputs = [{ format: 'ndjson' as const, path: out }];
  const analysis = await analyze({ paths: [capture], maxConns: 100_000, ...options, outputs });
  return { text: fs.readFileSync(out, 'utf8'), analysis };
}

function assertSame(got: Got, want: Got, what: string): void {
  assert.equal(got.text, want.text, what);
  for (const key of ['files', 'reconciliation', 'summary'] as const) {
    assert.deepEqual(got.analysis[key], want.analysis[key], what);
  }
  assert.deepEqual(got.analysis.result.tallies, want.analysis.result.tallies, what);
}

test('slices: random traffic, with fragments and errors, has the records that one thread gives out', async () => {
  let records = 0;
  for (let seed = 1; seed <= 3; seed++) {
    const r = new Random(seed);
    const packets = randomTraffic(r, { packets: 400, flows: 20, calm: seed % 2 === 0 });
    const capture = file('random.pcap');
    fs.writeFileSync(
      capture,
      pcapFile(
        packets.map((p) => ({ ...p, port: 1 })),
        { nano: true },
      ),
    );
    const filter = seed % 3 === 0 ? 'not port 53' : undefined;
    const want = await run(capture, { workers: 0, filter });
    records += want.analysis.summary.connections;
    for (const further of [
      { workers: 1 },
      { workers: 2 + (seed % 2), window: 64, vector: 8, jitter: seed },
    ]) {
      assertSame(
        await run(capture, { ...further, filter }),
        want,
        `seed ${seed}, ${JSON.stringify(further)}`,
      );
    }
  }
  assert.ok(records > 30);
});

test('slices: records come as connections end, between marks in the order of their making', async () => {
  // Three marks of 65,536 packets, a connection every 30 packets, each of which lives for a few seconds.
  const frames = Array.from({ length: 3000 }, (_, i) =>
    ethernet({}, ipv4({ src: `10.1.${i >> 8}.${i & 255}`, dst: '10.0.0.2' }, udp({ data: data(2) }))),
  );
  const packets = Array.from({ length: 200_000 }, (_, i) =>
    packet(i / 100, 1, frames[Math.floor(i / 30) % frames.length]),
  );
  const parts = Array.from({ length: 100 }, (_, i) => pcapFile(packets.slice(i * 2000, (i + 1) * 2000)));
  const capture = file('many.pcap');
  fs.writeFileSync(capture, Buffer.concat(parts.map((part, i) => (i === 0 ? part : part.subarray(24)))));
  const want = await run(capture, { workers: 0 });
  assert.equal(want.analysis.summary.connections, Math.ceil(200_000 / 30));
  assert.ok([...want.analysis.summary.endings.keys()].includes('timeout'));
  for (const workers of [1, 3]) assertSame(await run(capture, { workers }), want, `${workers} slices`);
  // More connections than there may be: whoever comes first is an answer that slices don't have.
  const few = await run(capture, { workers: 0, maxConns: 50 });
  assert.ok(few.analysis.summary.connections < want.analysis.summary.connections);
  assertSame(await run(capture, { workers: 2, maxConns: 50 }), few, 'a full table');

  const stop = new AbortController();
  const stopped = await run(capture, { workers: 2, stop: stop.signal, progress: () => stop.abort() });
  const { packets: n } = stopped.analysis.result;
  assert.equal(stopped.analysis.reconciliation.captured.packets, n);
  assert.ok(n === 200_000 || n % SLICE_STEP === 0);
});

test('slices: who can have them', () => {
  const capture = file('a.pcap');
  fs.writeFileSync(capture, pcapFile([packet(1, 1, ethernet({}, ipv4({}, udp())))]));
  const of = (options: Partial<AnalyzeOptions>, paths = [capture]): number =>
    slicesOf({ paths, ...options }, paths);
  assert.equal(of({ workers: 3 }), 3);
  assert.equal(of({}), 1, 'a small capture is not worth another thread');
  assert.equal(of({ workers: 0 }), 0);
  assert.equal(of({ flows: 'actions=drop' }), 0);
  assert.equal(of({ onRecord: () => {} }), 0);
  assert.equal(of({ resume: file('x') }), 0);
  assert.equal(of({ workers: 2 }, ['-']), 0);
  assert.equal(of({ workers: 2, outputs: [{ format: 'csv', path: '-' }] }), 0);
  assert.equal(of({ workers: 2, outputs: [{ format: 'csv', path: file('new.csv') }] }), 2);
  const zipped = file('a.pcap.gz');
  fs.writeFileSync(zipped, Uint8Array.of(0x1f, 0x8b, 8, 0));
  assert.equal(of({ workers: 2 }, [capture, zipped]), 0);
});

test('slices: a stop is at a packet that none has passed, and one that gives up takes the others with it', () => {
  const sab = Slice.allocate(2);
  const [a, b] = [0, 1].map((k) => new Slice(sab, k, 2, { maxConns: 1000, vector: 256, watchdog: 60 }));
  assert.ok(a.goesOn(0) && a.goesOn(SLICE_STEP) && b.goesOn(0));
  a.tell(3);
  b.tell(4);
  assert.equal(a.total(), 7);
  a.tell(5);
  assert.equal(b.total(), 7, 'of the mark that it has come to');
  a.stop();
  assert.ok(!a.goesOn(2 * SLICE_STEP));
  assert.ok(b.goesOn(SLICE_STEP));
  assert.ok(!b.goesOn(2 * SLICE_STEP));
  b.fail();
  assert.throws(() => a.goesOn(0), SlicesWontDo);
});

test('slices: one that has died, or is stuck, is not waited for', {
  skip: process.platform !== 'linux',
}, () => {
  const sab = Slice.allocate(2);
  const [a, b] = [0, 1].map((k) => new Slice(sab, k, 2, { maxConns: 1000, vector: 256, watchdog: 1 }));
  a.begin();
  b.begin();
  a.tell(3);
  assert.throws(() => a.total(), /slice 1 of 2 has not got on for 1 s: its thread is stuck/);
  // A number that no thread of this process has.
  const line = new Int32Array(sab).subarray(32);
  line[line.indexOf(threadNumber())] = 1;
  assert.throws(() => a.total(), { name: 'SlicesWontDo', message: 'the thread of slice 1 has died' });
});
