/** ct_state of every packet of the shipped captures, against what Open vSwitch answered (capture-states.ts). */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { CAPTURES, CODES, comparable, ethernetPackets, FLOWS, readStates, sha256 } from './capture-states.js';
import { describe as inWords, stateText } from './frame.js';
import { runProduct } from './product.js';

/** An absolute time that any reader accepts, with room for the gaps of a capture. */
const EPOCH_S = 1_000_000_000;

describe('ct_state of the shipped captures against Open vSwitch', { concurrency: 2 }, () => {
  let work = '';
  before(() => {
    work = mkdtempSync(path.join(os.tmpdir(), 'shardtrack-states-'));
    writeFileSync(path.join(work, 'flows.txt'), FLOWS);
  });
  after(() => rmSync(work, { recursive: true, force: true }));
  const stored = readStates();
  assert.ok(stored.length > 0, 'fixtures/captures/ovs-states.jsonl has no answers');
  for (const s of stored) {
    it(`${s.file}: ${s.states.length} packets`, async () => {
      const data = readFileSync(path.join(CAPTURES, s.file));
      assert.equal(sha256(data), s.sha256, 'the capture is not the one that was recorded');
      const packets = ethernetPackets(data);
      assert.ok(typeof packets !== 'string');
      assert.equal(packets.length, s.states.length);
      const tl = {
        packets: packets.map((p) => ({ us: p.us, port: 1, frame: p.frame })),
        events: [],
        clock: false,
      };
      for (const workers of [0, 2]) {
        const run = await runProduct(tl, {
          flows: path.join(work, 'flows.txt'),
          ports: 2,
          workers,
          work: path.join(work, s.file),
          epoch: EPOCH_S,
        });
        const compared = comparable(packets);
        const bad: string[] = [];
        packets.forEach((p, k) => {
          if (!compared[k]) return;
          const want = CODES[s.states[k]];
          const ct = run.verdicts[k].ct[0];
          const got = ct ? stateText(ct.state) : 'no ct';
          if (want !== got)
            bad.push(
              `packet ${k + 1} (${inWords(p.frame.toString('hex'))}): Open vSwitch ${want}, shardtrack ${got}`,
            );
        });
        assert.ok(
          !bad.length,
          `--workers ${workers}: ${bad.length} of ${packets.length} packets differ; the first:\n    ${bad.slice(0, 3).join('\n    ')}`,
        );
      }
    });
  }
});
