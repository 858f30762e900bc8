/** What a flow table needs its packets to be in order for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { orderingOf } from '../../../src/openflow/order.js';
import { parseFlows } from '../../../src/openflow/parser.js';

const ordering = (flows: string) => orderingOf(parseFlows(flows, 'flows.txt').map((r) => r.actions));

test('ordering: taking labels off what is tracked needs it, for the dispatcher does not look behind them', () => {
  const pop = 'mpls,actions=pop_mpls:0x0800,resubmit(,1)';
  assert.equal(ordering(`${pop}\ntable=1,ip,actions=ct(commit),2`).mode, 'lockstep');
  assert.equal(ordering(`${pop}\ntable=1,ip,actions=2`).mode, 'parallel');
});

test('ordering: says whether there is ct()', () => {
  assert.deepEqual(ordering('ip,actions=ct(commit),2'), { mode: 'parallel', reason: null, tracks: true });
  assert.deepEqual(ordering('actions=2'), { mode: 'parallel', reason: null, tracks: false });
});
