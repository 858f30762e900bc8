/** Groups, flow-mods and meters: what they become, and where each error stands. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseFlowMod, parseFlowMods, parseMeter, parseMeterId } from '../../../src/openflow/flowmod.js';
import { formatFlowMod } from '../../../src/openflow/format.js';
import { parseGroupMod, parseGroupMods, parseGroups } from '../../../src/openflow/groups.js';
import { parseFlows } from '../../../src/openflow/parser.js';
import { ALL_TABLES, FlowSyntaxError } from '../../../src/openflow/types.js';

test('flow-mod: a deletion looks for cookie, port and group in all tables', () => {
  const mod = parseFlowMod('delete', 'cookie=0x5f/0xf,out_port=LOCAL,out_group=7,tcp', 'f');
  assert.deepEqual(
    [mod.command, mod.rule.table, mod.rule.cookie, mod.cookieMask, mod.outPort, mod.outGroup],
    ['delete', ALL_TABLES, 15n, 15n, 0xfffe, 7],
  );
  assert.deepEqual(mod.rule.actions, []);
  const all = parseFlowMod('delete', '', 'f');
  assert.deepEqual([all.outPort, all.outGroup, all.cookieMask], [null, null, 0n]);
  assert.ok(all.rule.match.mask.every((w) => w === 0));
});

test('flow-mod: an addition sets its cookie, a modification only looks for one', () => {
  const add = parseFlowMod('add', 'cookie=5,importance=3,send_flow_rem,reset_counts,actions=2', 'f');
  assert.deepEqual([add.rule.cookie, add.rule.importance, add.rule.table], [5n, 3, 0]);
  assert.deepEqual(add.rule.flags, ['send_flow_rem', 'reset_counts']);
  const modify = parseFlowMod('modify_strict', 'cookie=5,priority=9,table=3,actions=2', 'f');
  assert.deepEqual([modify.rule.cookie, modify.cookieMask, modify.rule.priority], [0n, 0n, 9]);
});

test('flow-mod: the lines of a file carry their commands', () => {
  const text =
    'ip actions=2\nmodify table=3,cookie=1/3,ip,actions=3\ndelete_strict priority=7,out_port=3 # x\ndelete';
  const mods = parseFlowMods(text, 'f');
  assert.deepEqual(
    mods.map((m) => m.command),
    ['add', 'modify', 'delete_strict', 'delete'],
  );
  const printed = mods.map(formatFlowMod);
  assert.deepEqual(printed, [
    'table=0, priority=32768,ip actions=output:2',
    'modify cookie=0x1/0x3, table=3, priority=32768,ip actions=output:3',
    'delete_strict out_port=3, priority=7',
    'delete',
  ]);
  assert.deepEqual(parseFlowMods(printed.join('\n'), 'f').map(formatFlowMod), printed);
});

test('flow table: groups and meters that are not there are found inside other actions too', () => {
  const context = { groups: new Set([1]), meters: new Set<number>() };
  assert.equal(parseFlows('actions=group:1,clone(group:1)', 'f', context).length, 1);
  assert.throws(
    () => parseFlows('actions=clone(group:2),write_actions(group:3)\nactions=meter:4', 'f', context),
    (error: FlowSyntaxError) => {
      assert.deepEqual(
        error.problems.map((p) => `${p.pos.line}:${p.pos.column}: ${p.message}`),
        [
          '1:15: there is no group 2 (OFPBAC_BAD_OUT_GROUP)',
          '1:38: there is no group 3 (OFPBAC_BAD_OUT_GROUP)',
          '2:9: there is no meter 4 (OFPMMFC_INVALID_METER)',
        ],
      );
      return true;
    },
  );
});

test('group: buckets with their numbers, weights and what they watch', () => {
  const text =
    'group_id=5,type=select,selection_method=hash,fields(tcp_dst,ip_src=255.0.0.0),' +
    'bucket=weight:7,output:1,dec_ttl,bucket=bucket_id:0,watch_port:3,watch_group:9,actions=drop,bucket=2';
  const [group] = parseGroups(`# groups\n add ${text}`, 'f');
  assert.deepEqual([group.id, group.type, group.selectionMethod], [5, 'select', 'hash']);
  assert.deepEqual(
    group.fields.map(({ field, mask }) => [field.name, mask]),
    [
      ['ip_src', 0xff000000n],
      ['tcp_dst', 0xffffn],
    ],
  );
  assert.deepEqual(
    group.buckets.map((b) => [b.id, b.weight, b.watchPort, b.watchGroup, b.actions.length]),
    [
      [1, 7, null, null, 2],
      [0, 1, 3, 9, 0],
      [2, 1, null, null, 1],
    ],
  );
  assert.deepEqual(group.pos, { file: 'f', line: 2, column: 2, length: text.length + 4 });
});

test('group-mod: buckets to put in and take out, groups to delete', () => {
  const insert = parseGroupMod(
    'insert_buckets',
    'group_id=1,command_bucket_id=first,bucket=bucket_id:7,1',
    'f',
  );
  assert.deepEqual([insert.id, insert.bucket, insert.group!.buckets[0].id], [1, 'first', 7]);
  assert.deepEqual(parseGroupMod('remove_buckets', 'group_id=1', 'f').bucket, 'all');
  assert.deepEqual(parseGroupMod('remove_buckets', 'group_id=1,command_bucket_id=7', 'f').bucket, 7);
  assert.deepEqual(parseGroupMod('delete', 'group_id=all', 'f').id, null);
  assert.deepEqual(parseGroupMod('delete', '', 'f').id, null);
  assert.deepEqual(
    parseGroupMods(
      'group_id=1,type=all\nadd_or_mod group_id=1,type=all\nremove_bucket group_id=1\ndelete',
      'f',
    ).map((m) => m.command),
    ['add', 'add_or_modify', 'remove_buckets', 'delete'],
  );
});

test('meter: flags and bands', () => {
  assert.deepEqual(
    parseMeter('meter=3 pktps,burst,bands=type=drop,rate=5,burst_size=6 type=drop rate=7,burst_size=8', 'f'),
    {
      id: 3,
      unit: 'pktps',
      burst: true,
      stats: false,
      bands: [
        { rate: 5, burstSize: 6 },
        { rate: 7, burstSize: 8 },
      ],
    },
  );
  assert.equal(parseMeterId('meter=7', 'f'), 7);
  assert.equal(parseMeterId('', 'f'), null);
});

type Read = (text: string) => unknown;
const groupFile: Read = (text) => parseGroups(text, 'f');
const deletion: Read = (text) => parseFlowMod('delete', text, 'f');
const insertion: Read = (text) => parseGroupMod('insert_buckets', text, 'f');
const meter: Read = (text) => parseMeter(text, 'f');

/** Text with the token that is wrong between « », a part of the message, the suggestion. */
const WRONG: readonly [Read, string, RegExp, string?][] = [
  [groupFile, 'group_id=1,type=«al»,bucket=1', /unknown type "al"/, 'all'],
  [groupFile, 'group_id=1,«tpye»=all,bucket=1', /unknown keyword "tpye"/, 'type'],
  [groupFile, 'group_id=1«»,bucket=1', /no type/],
  [groupFile, 'type=all«»', /no number/],
  [groupFile, 'group_id=«4294967041»,type=all', /no group 4294967041/],
  [groupFile, 'group_id=1,type=all,bucket=«outptu»:1', /unknown action "outptu"/, 'output'],
  [groupFile, 'group_id=1,type=select,bucket=1,bucket=weight:1,«goto_table:2»', /can't stand in bucket/],
  [groupFile, 'group_id=1,type=all,bucket=«weight:5»,1', /only buckets of select groups/],
  [groupFile, 'group_id=1,type=all,«bucket=»', /no actions/],
  [groupFile, 'group_id=1,type=select,selection_method=«hsah»,bucket=1', /unknown selection method/, 'hash'],
  [
    groupFile,
    'group_id=1,type=select,selection_method=hash,fields(«ip_scr»),bucket=1',
    /unknown field/,
    'ip_src',
  ],
  [groupFile, 'group_id=1,type=all,«selection_method=dp_hash»,bucket=1', /selects nothing/],
  [groupFile, 'group_id=1,type=all\n«group_id=1,type=all»', /OFPGMFC_GROUP_EXISTS/],
  [groupFile, '«delete» group_id=1', /changes groups that are there/],
  [deletion, 'ip,«priority=5»', /priority can't stand in delete/],
  [deletion, 'cookie=«5»', /a deletion sets no cookie/],
  [deletion, 'out_port=«eth0»', /not a port/],
  [deletion, '«actions=2»', /actions can't stand in delete/],
  [deletion, 'table=«254»', /OFPBRC_EPERM/],
  [insertion, 'group_id=1«»,bucket=1', /needs a place/],
  [insertion, 'group_id=1,command_bucket_id=«all»,bucket=1', /not a number/],
  [insertion, 'group_id=1,command_bucket_id=1,«type=all»,bucket=1', /takes no type/],
  [meter, 'meter=1,kbps«»', /no bands/],
  [meter, 'meter=«0»,kbps,bands=type=drop,rate=5', /no meter 0/],
  [meter, 'meter=1,«kpbs»,kbps,bands=type=drop,rate=5', /unknown keyword/, 'kbps'],
  [meter, 'meter=1,kbps,bands=«type=drop»', /no rate/],
  [meter, 'meter=1,kbps,bands=type=«dscp_remark»,rate=5', /not supported/],
];

for (const [read, marked, message, suggestion] of WRONG) {
  test(`error: ${marked.replace('\n', ' / ')}`, () => {
    const line = marked.split('\n').findIndex((l) => l.includes('«'));
    const column = marked.split('\n')[line].indexOf('«') + 1;
    const length = Math.max(1, marked.split('\n')[line].indexOf('»') - column);
    assert.throws(
      () => read(marked.replace(/[«»]/g, '')),
      (error: unknown) => {
        assert.ok(error instanceof FlowSyntaxError, String(error));
        assert.equal(error.problems.length, 1, error.message);
        const [p] = error.problems;
        assert.match(p.message, message);
        assert.deepEqual(p.pos, { file: 'f', line: line + 1, column, length });
        assert.equal(p.suggestion, suggestion);
        return true;
      },
    );
  });
}
