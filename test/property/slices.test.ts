/** What slices read and run in short ways (coordinator/stretch.ts, datapath/express.ts) has the records, sums and summary of a
 *  packet at a time (--workers 0), whatever is wrong with the packets. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { type AnalyzeOptions, analyze } from '../../src/analyze/analyze.js';
import { traffic } from '../../src/generate/traffic.js';
import { workloadNamed } from '../../src/generate/workloads.js';
import { cat, type Packet, pcapFile, Random, view } from '../support/packets.js';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-slices-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

/** Made traffic that is lost, repeated, out of order, damaged, cut and out of its windows. */
function damaged(seed: number): Packet[] {
  const r = new Random(seed);
  const o = { ...workloadNamed('imix').traffic, packets: 4000, connections: 60, life: 30, seed };
  const out: Packet[] = [];
  let ms = 0;
  let late: Uint8Array | null = null;
  const add = (frame: Uint8Array): void => {
    ms += r.once(200) ? r.int(40_000) : r.int(3);
    out.push({ sec: 1_600_000_000 + Math.floor(ms / 1000), nsec: (ms % 1000) * 1e6, port: 1, frame });
  };
  for (const { bytes, length } of traffic(o)) {
    let frame: Uint8Array = bytes.slice(0, length);
    const v = view(frame);
    const l4 = v.getUint16(12) === 0x86dd ? 54 : 34;
    const what = r.int(60);
    if (what === 0) continue;
    if (what === 1) frame[r.int(length)] ^= 1 << r.int(8);
    if (what === 2) frame = frame.slice(0, 14 + r.int(length - 14));
    if (what === 3) frame = cat(frame, new Uint8Array(r.int(9)));
    if (what === 4) v.setUint16(l4 + 2 * r.int(2), [0, 21, 69, 53][r.int(4)]);
    if (what === 5) v.setInt32(l4 + 4, r.word() | 0);
    if (what === 6) v.setInt32(l4 + 4, (v.getInt32(l4 + 4) + r.int(4000) - 2000) | 0);
    if (what === 7 && length >= l4 + 20) v.setUint16(l4 + 14, r.int(0x10000));
    if (what === 8 && length >= l4 + 20) v.setUint8(l4 + 13, r.int(256));
    if (what === 9 && late === null) {
      late = frame;
      continue;
    }
    add(frame);
    if (what === 10) add(frame);
    if (late !== null && r.once(3)) {
      add(late);
      late = null;
    }
  }
  return out;
}

async function records(capture: string, options: Partial<AnalyzeOptions>): Promise<unknown> {
  const out = path.join(folder, 'records.ndjson');
  fs.rmSync(out, { force: true });
  const { reconciliation, result, summary } = await analyze({
    ...{ paths: [capture], maxConns: 10_000, ...options },
    outputs: [{ format: 'ndjson', path: out }],
  });
  return { text: fs.readFileSync(out, 'utf8'), reconciliation, tallies: result.tallies, summary };
}

test('slices: damaged traffic has the records that a packet at a time has', async () => {
  for (let seed = 1; seed <= 6; seed++) {
    const capture = path.join(folder, `${seed}.pcap`);
    fs.writeFileSync(capture, pcapFile(damaged(seed), { nano: seed % 2 === 0, bigEndian: seed % 3 === 0 }));
    // Half of the time wrong checksums are no reason to leave a packet out.
    const common = { ignoreChecksums: seed % 2 === 0, cutAsIs: seed % 3 === 1 };
    const want = await records(capture, { ...common, workers: 0 });
    for (const other of [
      { workers: 1 },
      { workers: 3 },
      { workers: 2, window: 64, vector: 16, jitter: seed },
    ]) {
      assert.deepEqual(
        await records(capture, { ...common, ...other }),
        want,
        `seed ${seed}, ${JSON.stringify(other)}`,
      );
    }
  }
});
