/** An explanation tells what a replay does: the same ct_state at each ct(), the same ports, whichever packet
 *  of random traffic through random tables is asked about, with and without workers.
 *
 *  SHARDTRACK_PROPERTY_RUNS=N draws N cases; SHARDTRACK_PROPERTY_SEED=S begins with case S. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Random } from '../support/packets.js';
import { randomTable } from '../support/random-tables.js';
import { randomTraffic } from '../support/random-traffic.js';
import { parseVerdicts, run } from '../support/run.js';

const RUNS = Number(process.env.SHARDTRACK_PROPERTY_RUNS ?? 4);
const FIRST = Number(process.env.SHARDTRACK_PROPERTY_SEED ?? 1);

/** What the lines of an explanation say: ct_state by ct(), ports, reason of a drop. */
function told(lines: readonly string[]): { states: string[]; out: number[]; reason: string | null } {
  const all = (pattern: RegExp) => lines.flatMap((l) => pattern.exec(l)?.[1] ?? []);
  return {
    states: all(/^ct\(.*\): ct_state=(.*)$/),
    out: all(/^Verdict: to port (\w+),/).map((p) => (p === 'LOCAL' ? 65534 : Number(p))),
    reason:
      all(/^Verdict: dropped: (.*)$/)[0] ??
      (lines.some((l) => l.startsWith('Verdict: to port')) ? null : 'controller-only'),
  };
}

test('trace: an explanation agrees with the verdict', async () => {
  for (let seed = FIRST; seed < FIRST + RUNS; seed++) {
    const r = new Random(seed);
    const flows = randomTable(r, { rewriteTuples: r.once(2) });
    const packets = randomTraffic(r, { packets: 120 });
    const verdicts = parseVerdicts(await run(packets, { flows }));
    for (let n = 0; n < 6; n++) {
      const packet = r.int(packets.length);
      const { result } = await run(packets, {
        flows,
        workers: n % 3,
        trace: { packet, frame: null, inPort: 0 },
      });
      assert.equal(result.packets, packet);
      const lines = result.explanation as string[];
      const v = verdicts[packet];
      assert.deepEqual(
        told(lines),
        { states: v.ct.map((c) => c.state), out: v.out, reason: v.reason },
        `seed ${seed}, packet ${packet}\n${flows}\n${lines.join('\n')}`,
      );
    }
  }
});

test('trace: a flow comes after everything else, with all state', async () => {
  const r = new Random(5);
  const packets = randomTraffic(r, { packets: 40 });
  const flows = 'table=0,ip,actions=ct(commit,table=1)\ntable=1,actions=2';
  const last = packets[packets.length - 1];
  const again = await run([...packets, last], { flows });
  const { result } = await run(packets, {
    flows,
    trace: { packet: null, frame: last.frame, inPort: last.port },
  });
  const v = parseVerdicts(again)[packets.length];
  const { states, out } = told(result.explanation as string[]);
  assert.deepEqual({ states, out }, { states: v.ct.map((c) => c.state), out: v.out });
});

test('trace: a packet that the input does not have is not explained', async () => {
  const packets = randomTraffic(new Random(1), { packets: 3 });
  const { result } = await run(packets, { flows: 'actions=2', trace: { packet: 3, frame: null, inPort: 0 } });
  assert.equal(result.explanation, null);
});
