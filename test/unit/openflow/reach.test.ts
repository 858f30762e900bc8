/** Whether packets that recirculate are only changed and sent from there on: the last word of OP_RECIRC. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FLOW, KEY_WORDS } from '../../../src/classifier/flow-key.js';
import {
  OP_CHECK_LEN,
  OP_CLONE,
  OP_CT_CLEAR,
  OP_END,
  OP_NORMAL,
  OP_OUTPUT,
  OP_RECIRC,
  OP_SELECT_MAP,
  onlySends,
  opWords,
} from '../../../src/datapath/program.js';
import { parseFlowMods } from '../../../src/openflow/flowmod.js';
import { parseGroups } from '../../../src/openflow/groups.js';
import { parseFlows } from '../../../src/openflow/parser.js';
import { Pipeline } from '../../../src/openflow/tables.js';
import { Translator } from '../../../src/openflow/translate.js';

const COMMIT = 'table=0,ip,actions=ct(commit,nat(src=1.1.1.1),table=1)';

/** What the first pass says of the passes that it starts. */
function passes(pipeline: Pipeline): boolean[] {
  const key = new Int32Array(KEY_WORDS);
  key[FLOW.IN_PORT] = 1;
  key[FLOW.ETH_TYPE] = 0x800;
  const { program } = new Translator(pipeline).translate(key);
  const answers: boolean[] = [];
  for (let pc = 0; pc < program.length; pc += opWords(program, pc)) {
    if (program[pc] === OP_RECIRC) answers.push(program[pc + 2] === 1);
  }
  return answers;
}

function sends(flows: string, groups = ''): boolean {
  const rules = parseFlows(flows, 'flows', {
    groups: new Set(parseGroups(groups, 'groups').map((g) => g.id)),
  });
  const pipeline = new Pipeline({ rules, groups: parseGroups(groups, 'groups'), ports: [1, 2, 3] });
  const [first] = passes(pipeline);
  return first;
}

test('reach: tables that only send, and those that ask', () => {
  assert.equal(sends(`${COMMIT}\ntable=1,actions=mod_nw_ttl:3,clone(output:2),ct_clear,output:3`), true);
  assert.equal(sends(COMMIT), true);
  for (const asks of [
    'normal',
    'ct(commit,zone=1)',
    'ct(zone=1)',
    'output:NXM_NX_REG0[]',
    'clone(normal)',
    'table',
  ]) {
    assert.equal(
      sends(`${COMMIT}\ntable=1,ip,priority=9,actions=2\ntable=1,ip,actions=${asks}`),
      false,
      asks,
    );
  }
});

test('reach: through tables, groups and the action set', () => {
  const far = `${COMMIT}\ntable=1,actions=resubmit(,2)\ntable=2,actions=resubmit(,1),goto_table:3`;
  assert.equal(sends(`${far}\ntable=3,actions=2`), true);
  assert.equal(sends(`${far}\ntable=3,actions=normal`), false);
  assert.equal(sends(`${far}\ntable=4,actions=normal`), true);
  const group = `${COMMIT}\ntable=1,actions=group:1`;
  assert.equal(sends(group, 'group_id=1,type=all,bucket=2,bucket=3'), true);
  assert.equal(sends(group, 'group_id=1,type=all,bucket=2,bucket=ct(commit)'), false);
  assert.equal(sends(group, 'group_id=1,type=all,bucket=resubmit(,5)'), true);
  const set = (actions: string) =>
    sends(
      `table=0,ip,actions=write_actions(${actions}),goto_table:7\ntable=7,ip,actions=ct(commit,table=1)\ntable=1,actions=2`,
    );
  assert.equal(set('output:2'), true);
  assert.equal(set('ct(commit,zone=2)'), false);
});

test('reach: a rule that comes later counts, one that has gone still does', () => {
  const pipeline = new Pipeline({
    rules: parseFlows(`${COMMIT}\ntable=1,actions=2`, 'flows'),
    ports: [1, 2],
  });
  assert.deepEqual(passes(pipeline), [true]);
  const [add] = parseFlowMods('table=1,priority=1,actions=normal', 'mods');
  pipeline.flowMod(add, 0);
  assert.deepEqual(passes(pipeline), [false]);
  pipeline.flowMod({ ...add, command: 'delete_strict' }, 0);
  assert.deepEqual(passes(pipeline), [false]);
});

test('reach: only the branches that a packet may take from where it is', () => {
  const clone = [OP_CLONE, 3, OP_NORMAL, OP_END, 0];
  assert.ok(!onlySends(Int32Array.of(...clone, OP_OUTPUT, 2, OP_END, 0), 0));
  assert.ok(onlySends(Int32Array.of(...clone, OP_OUTPUT, 2, OP_END, 0), clone.length));
  // The end of a branch is not the beginning of the next.
  assert.ok(onlySends(Int32Array.of(OP_OUTPUT, 2, OP_END, 0, OP_NORMAL, OP_END, 0), 0));
  const select = [OP_SELECT_MAP, 2, 4, 8, OP_OUTPUT, 2, OP_END, 0, OP_NORMAL, OP_END, 0];
  assert.ok(!onlySends(Int32Array.from(select), 0));
  assert.ok(onlySends(Int32Array.from(select), 4));
  const long = (op: number) => Int32Array.of(OP_CHECK_LEN, 100, 3, op, OP_END, 0, OP_OUTPUT, 2, OP_END, 0);
  assert.ok(!onlySends(long(OP_NORMAL), 0));
  assert.ok(onlySends(long(OP_CT_CLEAR), 0));
  assert.ok(onlySends(Int32Array.of(OP_RECIRC, 7, 1, OP_END, 0), 0));
  assert.ok(!onlySends(Int32Array.of(OP_RECIRC, 7, 0, OP_END, 0), 0));
});
