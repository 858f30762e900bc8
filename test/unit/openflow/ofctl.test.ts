/** The parser beside a real ovs-ofctl: same flows accepted, same match, same actions. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FLOW_WORDS } from '../../../src/classifier/flow-key.js';
import { putFieldBits } from '../../../src/openflow/fields.js';
import { formatActions, formatMatch } from '../../../src/openflow/format.js';
import { asOpenFlow15 } from '../../../src/openflow/openflow15.js';
import { parseFlows } from '../../../src/openflow/parser.js';
import { type Action, type FlowRule, FlowSyntaxError } from '../../../src/openflow/types.js';
import { ANSWERS } from './ofctl-answers.js';
import { CASES, STRICTER, UNREADABLE } from './ofctl-cases.js';

const answerOf = new Map(ANSWERS.map((a) => [a.flow, a]));

function parse(flow: string): FlowRule | undefined {
  try {
    return parseFlows(flow, 'case')[0];
  } catch (error) {
    assert.ok(error instanceof FlowSyntaxError, String(error));
    assert.ok(error.problems.length > 0);
    for (const p of error.problems) {
      assert.equal(p.pos.line, 1);
      assert.ok(p.pos.column >= 1 && p.pos.column + p.pos.length - 1 <= flow.length + 1, flow);
      assert.ok(p.message !== '' && p.expected !== '');
    }
    return undefined;
  }
}

/** What an action does, without how it was spelled: OpenFlow 1.5 has only set_field for load and
 *  mod_*, and mod_vlan_* where there is a tag already. */
function effect(a: Action): unknown {
  const bits = new Int32Array(FLOW_WORDS);
  const mask = new Int32Array(FLOW_WORDS);
  switch (a.kind) {
    case 'set':
      if (a.field.name === 'vlan_vid' && a.mask === 0x1fffn) {
        return { kind: 'set_vlan_vid', vid: Number(a.value & 0xfffn) };
      }
      if (a.field.name === 'vlan_pcp') return { kind: 'set_vlan_pcp', pcp: Number(a.value) };
      putFieldBits(bits, a.field, a.value);
      putFieldBits(mask, a.field, a.mask);
      return { bits, mask };
    case 'ct':
      return { ...a, exec: a.exec.map(effect) };
    case 'clone':
    case 'write_actions':
      return { ...a, actions: a.actions.map(effect) };
    default:
      return a;
  }
}

for (const flow of CASES) {
  const answer = answerOf.get(flow)!;
  test(`ovs-ofctl ${answer.accepted ? (answer.normalized ? 'warns of' : 'takes') : 'refuses'} ${flow}`, () => {
    const rule = parse(flow);
    assert.equal(rule !== undefined, answer.accepted && answer.normalized !== true);
    if (rule === undefined) return;
    // "table:3 tcp,in_port=1 cookie:0x5 idle:5 actions=..." is how a FLOW_MOD is printed.
    const words = answer.match!.split(' ');
    const match = words
      .filter((word) => !/^(table|cookie|idle|hard|importance):|^$|^[a-z]+_[a-z_]+$/.test(word))
      .join(',')
      .replace(/^priority=\d+,?/, '');
    assert.deepEqual(parse(`${match},actions=drop`)?.match, rule.match, answer.match);
    // mod_vlan_* where no tag is known is printed with the push_vlan that it may mean.
    assert.equal(formatMatch(rule.match), match);
    if (answer.actions === undefined || UNREADABLE.has(flow)) return;
    assert.equal(formatActions(asOpenFlow15(rule.actions, rule.match)), answer.actions);
    if (/mod_vlan/.test(flow) && /push_vlan/.test(answer.actions)) return;
    const again = parse(`table=${rule.table},${match},actions=${answer.actions}`);
    assert.deepEqual(again?.actions.map(effect), rule.actions.map(effect), answer.actions);
  });
}

for (const flow of STRICTER) {
  test(`refused though ovs-ofctl takes it: ${flow}`, () => {
    assert.equal(answerOf.get(flow)!.accepted, true);
    assert.equal(parse(flow), undefined);
  });
}
