/** Changes of the flow, group and meter tables beside a real Open vSwitch: the same ones accepted, groups
 *  printed the same. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseFlowMod, parseMeter, parseMeterId } from '../../../src/openflow/flowmod.js';
import { formatFlowMod } from '../../../src/openflow/format.js';
import { formatGroup, parseGroupMod } from '../../../src/openflow/groups.js';
import { type FlowMod, FlowSyntaxError, type GroupMod } from '../../../src/openflow/types.js';
import { SWITCH_ANSWERS } from './switch-answers.js';
import { SWITCH_CASES, SWITCH_LAXER } from './switch-cases.js';

const FLOW_COMMANDS: ReadonlyMap<string, FlowMod['command']> = new Map([
  ['add-flow', 'add'],
  ['mod-flows', 'modify'],
  ['--strict mod-flows', 'modify_strict'],
  ['del-flows', 'delete'],
  ['--strict del-flows', 'delete_strict'],
]);
const GROUP_COMMANDS: ReadonlyMap<string, GroupMod['command']> = new Map([
  ['add-group', 'add'],
  ['mod-group', 'modify'],
  ['--may-create mod-group', 'add_or_modify'],
  ['del-groups', 'delete'],
  ['insert-buckets', 'insert_buckets'],
  ['remove-buckets', 'remove_buckets'],
]);

/** What is read, as text that is read as the same. */
function read(command: string, text: string): string {
  const flow = FLOW_COMMANDS.get(command);
  const context = { groups: new Set([1]), meters: new Set([1]) };
  if (flow !== undefined) return formatFlowMod(parseFlowMod(flow, text, 'case', context));
  const group = GROUP_COMMANDS.get(command);
  if (group !== undefined) {
    const mod = parseGroupMod(group, text, 'case');
    return mod.group === null ? '' : formatGroup(mod.group);
  }
  return command === 'del-meter'
    ? String(parseMeterId(text, 'case'))
    : JSON.stringify(parseMeter(text, 'case'));
}

test('every case has its answer', () => {
  assert.deepEqual(
    SWITCH_ANSWERS.map((a) => [a.command, a.text]),
    SWITCH_CASES.map((c) => [...c]),
  );
});

for (const { command, text, accepted, printed } of SWITCH_ANSWERS) {
  test(`the switch ${accepted ? 'takes' : 'refuses'} ${command} ${text}`, () => {
    let mine: string | undefined;
    try {
      mine = read(command, text);
    } catch (error) {
      assert.ok(error instanceof FlowSyntaxError, String(error));
      for (const p of error.problems) {
        assert.ok(p.pos.column >= 1 && p.pos.column + p.pos.length - 1 <= text.length + 1, text);
        assert.ok(p.message !== '' && p.expected !== '');
      }
    }
    assert.equal(mine !== undefined, accepted || SWITCH_LAXER.has(text));
    if (printed !== undefined && mine !== undefined) assert.equal(mine, printed);
  });
}
