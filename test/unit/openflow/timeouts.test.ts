/** Flow timeouts are refused where they stand. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseFlows } from '../../../src/openflow/parser.js';
import { refuseTimeouts } from '../../../src/openflow/timeouts.js';
import { FlowSyntaxError } from '../../../src/openflow/types.js';

test('timeouts: each is named with its place', () => {
  const text = 'actions=drop\n  ip, hard_timeout=7,idle_timeout=60 actions=1\n';
  try {
    refuseTimeouts(parseFlows(text, 'f'), text);
    assert.fail('accepted');
  } catch (error) {
    assert.ok(error instanceof FlowSyntaxError);
    assert.deepEqual(
      error.problems.map((p) => [p.pos.line, p.pos.column, p.pos.length, p.message]),
      [
        [2, 22, 15, 'idle_timeout is not supported yet'],
        [2, 7, 14, 'hard_timeout is not supported yet'],
      ],
    );
  }
});

test('timeouts: 0 is what every flow has', () => {
  const text = 'idle_timeout=0,hard_timeout=0,actions=drop\n';
  refuseTimeouts(parseFlows(text, 'f'), text);
});
