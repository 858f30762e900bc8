/** Packets of which each needs a translation of its own, as of a flood through a table that puts addresses into zones: whoever
 *  waits is not looked at again with every answer. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MegaflowCache } from '../../src/classifier/megaflow.js';
import { ethernet, ipv4, type Packet, Random, udp } from '../support/packets.js';
import { difference, run } from '../support/run.js';
import { DrawnTurns } from '../support/turns.js';

const N = 1500;
const FLOWS = `ip,ct_state=-trk,actions=move:NXM_OF_IP_SRC[0..15]->NXM_NX_REG0[0..15],ct(zone=NXM_NX_REG0[0..15],table=1)
table=1,ct_state=+trk+new,ip,actions=ct(commit,zone=NXM_NX_REG0[0..15]),2
table=1,ct_state=+trk+est,actions=2
table=1,actions=drop
`;

test('upcalls: who waits for a translation of its own is looked at a few times, and the result is that of no workers', async (t) => {
  const packets = Array.from(
    { length: N },
    (_, i): Packet => ({
      sec: 1_700_000_000 + Math.floor(i / 1000),
      nsec: (i % 1000) * 1e6,
      port: 1,
      // Each third is one that has been there before.
      frame: ethernet(
        {},
        ipv4(
          { src: `10.0.${(i - (i % 3 === 2 ? 2 : 0)) >> 8}.${(i - (i % 3 === 2 ? 2 : 0)) & 255}` },
          udp({}),
        ),
      ),
    }),
  );
  const want = await run(packets, { flows: FLOWS });
  const find = t.mock.method(MegaflowCache.prototype, 'find');
  for (const [seed, workers] of [
    [1, 1],
    [2, 2],
    [3, 3],
  ]) {
    find.mock.resetCalls();
    const got = await run(packets, { flows: FLOWS, workers, turns: new DrawnTurns(new Random(seed)) });
    assert.equal(difference(want, got), null);
    const looks = find.mock.callCount() / N;
    assert.ok(looks < 8, `${looks} searches for a packet with ${workers} workers`);
  }
});
