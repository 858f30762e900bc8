/** Flow tables that change: flow-mods, deadlines, learn, meters. The rest is beside a real switch
 *  (test/differential/scenarios/tables.ts). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OpenFlowError } from '../../../src/openflow/errors.js';
import { parseFlowMod, parseMeter } from '../../../src/openflow/flowmod.js';
import { TableMeter } from '../../../src/openflow/meter.js';
import { parseFlows } from '../../../src/openflow/parser.js';
import { Pipeline } from '../../../src/openflow/tables.js';

const pipeline = (flows: string) => new Pipeline({ rules: parseFlows(flows, 'f'), ports: [1, 2] });

test('tables: every change moves the generation on, and one that is refused changes nothing', () => {
  const p = pipeline('in_port=1,actions=2\n');
  let { generation } = p;
  const moved = () => {
    const has = p.generation !== generation;
    generation = p.generation;
    return has;
  };
  p.flowMod(parseFlowMod('add', 'in_port=2,actions=1', 'f'), 5);
  assert.ok(moved());
  p.flowMod(parseFlowMod('modify', 'in_port=2,actions=drop', 'f'), 6);
  assert.ok(moved());
  assert.throws(() => p.flowMod(parseFlowMod('add', 'actions=group:4', 'f'), 6), OpenFlowError);
  p.flowMod(parseFlowMod('delete', 'in_port=3', 'f'), 7);
  assert.ok(!moved());
  p.setPort(1, true);
  assert.ok(!moved());
  p.setPort(1, false);
  assert.ok(moved());
  assert.deepEqual(
    p.rules().map((r) => [r.created, r.modified]),
    [
      [0, 0],
      [5, 6],
    ],
  );
});

test('tables: a flow is there at its deadline and gone after it; use puts an idle deadline off', () => {
  const p = pipeline('in_port=1,idle_timeout=2,actions=2\nin_port=2,hard_timeout=3,actions=1\n');
  const gone: string[] = [];
  p.onRemoved = (rule, reason, now) => gone.push(`${rule.text.slice(0, 9)} ${reason} ${now}`);
  p.flowMod(parseFlowMod('add', 'in_port=2,hard_timeout=3,send_flow_rem,actions=1', 'f'), 0);
  const [idle] = p.rules();
  const point = p.stats.point([idle, idle]);
  assert.equal(p.stats.point([idle, idle]), point);
  p.expire(2000);
  assert.equal(p.rules().length, 2);
  p.stats.credit(point, 3, 300, 1500);
  assert.deepEqual([idle.packets, idle.bytes, idle.used], [6, 600, 1500]);
  p.expire(3000);
  assert.equal(p.rules().length, 2);
  p.expire(3001);
  assert.deepEqual(gone, ['in_port=2 hard 3001']);
  p.expire(3500);
  assert.equal(p.rules().length, 1);
  p.expire(3501);
  assert.equal(p.rules().length, 0);
  assert.equal(p.nextDeadline, Number.POSITIVE_INFINITY);
});

test('tables: learning adds, then refreshes; the limit counts flows of the same cookie', () => {
  const p = pipeline('in_port=1,actions=2\n');
  const [a, b] = ['1', '2'].map(
    (n) => parseFlows(`table=1,cookie=7,nw_src=10.0.0.${n},ip,hard_timeout=9,actions=1`, 'f')[0],
  );
  const first = p.learn(a, 1);
  assert.ok(first.id >= 0 && first.success && first.refresh === null);
  p.execute(first.id, 100);
  assert.throws(() => p.execute(first.id, 100), /not announced/);
  const again = p.learn(a, 1);
  assert.ok(again.id < 0 && again.success);
  again.refresh!.credit(1, 60, 4000);
  assert.equal(p.rules()[1].deadline, 13_000);
  assert.deepEqual(p.learn(b, 1), { id: -1, refresh: null, success: false });
  assert.ok(p.learn(b, 2).id >= 0);
});

test('meters: a bucket holds its burst and fills by the clock; of two bands the faster one counts the drop', () => {
  const m = new TableMeter(parseMeter('meter=1,pktps,burst,bands=type=drop,rate=2,burst_size=3', 'm'), 0);
  assert.deepEqual(
    [0, 0, 0, 0, 499, 500, 501].map((t) => m.pass(100, t)),
    [true, true, true, false, false, true, false],
  );
  const two = new TableMeter(parseMeter('meter=1,kbps,bands=type=drop,rate=1,type=drop,rate=2', 'm'), 0);
  assert.deepEqual(
    [100, 100, 100].map((bytes) => two.pass(bytes, 0)),
    [true, false, false],
  );
  assert.deepEqual([two.packets, two.bytes, two.bandPackets, two.bandBytes], [3, 300, [1, 1], [100, 100]]);
});
