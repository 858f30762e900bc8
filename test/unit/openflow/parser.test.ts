/** Flow files: what they become, and where each error stands. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FLOW } from '../../../src/classifier/flow-key.js';
import { formatAction, formatMatch, formatRule } from '../../../src/openflow/format.js';
import { parseFlows } from '../../../src/openflow/parser.js';
import { type FlowProblem, type FlowRule, FlowSyntaxError } from '../../../src/openflow/types.js';

function one(flow: string): FlowRule {
  const rules = parseFlows(flow, 'f');
  assert.equal(rules.length, 1);
  return rules[0];
}

function errors(text: string): FlowProblem[] {
  try {
    parseFlows(text, 'f');
  } catch (error) {
    assert.ok(error instanceof FlowSyntaxError, String(error));
    return error.problems;
  }
  assert.fail(`accepted: ${text}`);
}

test('flow: every key, defaults, comments, blank lines, CRLF and the add command', () => {
  const rules = parseFlows(
    '# a comment\r\n\r\n  add table=3, priority=7 cookie=0x1f,idle_timeout=5,hard_timeout=6,ip actions=2 # end\r\nactions=drop',
    'f',
  );
  assert.equal(rules.length, 2);
  const [a, b] = rules;
  assert.deepEqual(
    [a.table, a.priority, a.cookie, a.idleTimeout, a.hardTimeout, a.actions],
    [3, 7, 31n, 5, 6, [{ kind: 'output', port: 2 }]],
  );
  assert.deepEqual(a.pos, { file: 'f', line: 3, column: 3, length: a.text.length });
  assert.ok(a.text.startsWith('add table=3') && a.text.endsWith('actions=2'));
  assert.deepEqual([b.table, b.priority, b.cookie, b.actions], [0, 32768, 0n, [{ kind: 'drop' }]]);
  assert.ok(b.match.mask.every((w) => w === 0));
});

test('flow: a later flow with the same table, priority and match takes the place of the earlier', () => {
  const text = [
    'priority=5,tcp,tp_dst=80,actions=1',
    'priority=5,udp,actions=2',
    'nw_proto=6,dl_type=0x800,tcp_dst=80,priority=5,actions=3',
    'priority=6,udp,actions=4',
    'table=1,priority=5,udp,actions=5',
  ].join('\n');
  const ports = parseFlows(text, 'f').map((r) => r.actions.map(formatAction).join());
  assert.deepEqual(ports, ['output:3', 'output:2', 'output:4', 'output:5']);
});

test('match: values are masked, a later setting replaces an earlier one', () => {
  const m = one('ip,nw_src=10.1.2.3/16,actions=drop').match;
  assert.equal(m.value[FLOW.NW_SRC], 0x0a010000);
  assert.equal(m.mask[FLOW.NW_SRC] >>> 0, 0xffff0000);
  assert.equal(m.mask[FLOW.ETH_TYPE], 0xffff);
  assert.equal(formatMatch(one('in_port=1,in_port=2,actions=drop').match), 'in_port=2');
  assert.equal(formatMatch(one('tcp,tp_dst=80,tp_dst=*,actions=drop').match), 'tcp');
  const untagged = one('dl_vlan=0xffff,actions=drop').match;
  assert.equal(untagged.mask[FLOW.VLAN_0], 0xffff);
  assert.equal(untagged.value[FLOW.VLAN_0], 0);
});

test('actions: spellings of the same thing', () => {
  const same: [string, string][] = [
    ['output:2', 'output=2'],
    ['output:2', '2'],
    ['output:2', 'OUTPUT(2)'],
    ['LOCAL', 'output:65534'],
    ['IN_PORT', 'in_port'],
    ['NORMAL', 'output:normal'],
    ['pop_vlan', 'strip_vlan'],
    ['resubmit:5', 'resubmit(5)'],
    ['resubmit:5', 'resubmit(5,255)'],
    ['resubmit(,1)', 'resubmit(in_port,1)'],
    ['mod_vlan_vid:5', 'set_vlan_vid:5'],
    ['mod_vlan_pcp:5', 'set_vlan_pcp:0x5'],
    ['ct(commit,force,table=1,zone=5)', 'ct(table=1, zone=0x5,force,commit)'],
    ['ct()', 'ct'],
    ['output:NXM_NX_REG0[0..15]', 'output:reg0[0..15]'],
    ['load:0x7->NXM_NX_REG0[4]', 'load:0->reg0[4]'],
    ['drop', 'drop,drop'],
  ];
  for (const [canonical, spelled] of same) {
    const text = one(`ip,dl_vlan=1,actions=${spelled}`).actions.map(formatAction).join();
    assert.equal(text, canonical.replace('0x7->NXM_NX_REG0[4]', '0x0->NXM_NX_REG0[4]'));
  }
});

test('actions: ct with a zone from a register and its exec', () => {
  const [ct] = one('ip,actions=ct(commit,zone=NXM_NX_REG0[4..19],exec(set_field:0x5/0xf->ct_label))').actions;
  assert.ok(ct.kind === 'ct' && typeof ct.zone === 'object');
  assert.deepEqual([ct.zone.field.name, ct.zone.ofs, ct.zone.bits], ['reg0', 4, 16]);
  const [set] = ct.exec;
  assert.ok(set.kind === 'set');
  assert.deepEqual([set.field.name, set.value, set.mask], ['ct_label', 5n, 15n]);
});

test('format: a rule as dump-flows shows it', () => {
  const text =
    'cookie=0x7, table=1, idle_timeout=9, priority=100,ct_state=+est+trk,tcp,in_port=1,nw_src=10.0.0.0/8,tp_dst=80 actions=ct(commit,exec(load:0x3->NXM_NX_CT_MARK[4..5])),goto_table:2';
  assert.equal(formatRule(one(text)), text);
});

/** A flow, the token that is wrong (marked by « »), a part of the message, the suggestion. */
const WRONG: readonly [string, RegExp, string?][] = [
  ['«priorty»=5,actions=drop', /unknown keyword "priorty"/, 'priority'],
  ['ip,«nw_srv»=1.2.3.4,actions=drop', /unknown keyword/, 'nw_src'],
  ['«tpc»,actions=drop', /unknown keyword/, 'tcp'],
  ['priority=«70000»,actions=drop', /does not fit into 16 bits/],
  ['priority=«x»,actions=drop', /not a number/],
  ['«priority=»,actions=drop', /missing priority/],
  ['table=«255»,actions=drop', /no table 255/],
  ['cookie=1«/2»,actions=drop', /cookie mask/],
  ['ip«»', /no actions/],
  ['ip,«actions»', /without "="/],
  ['«modify» ip,actions=drop', /modify changes flows that are there/],
  ['«mpls=5»,actions=drop', /mpls takes no value/],
  ['«tun_flags=oam»,actions=drop', /field tun_flags is not supported/],
  ['«skb_priority=5»,actions=drop', /field skb_priority is not supported/],
  ['«reg32»=5,actions=drop', /unknown keyword "reg32"/, 'reg2'],
  ['«send_flow_rem=1»,ip,actions=drop', /send_flow_rem takes no value/],
  ['«out_port=1»,ip,actions=drop', /out_port can't stand in add/],
  ['table=«254»,actions=drop', /OFPBRC_EPERM/],
  ['ip,nw_src=«10.1.1»,actions=drop', /not an IPv4 address/],
  ['ip,nw_src=10.1.1.1/«33»,actions=drop', /not an IPv4 mask/],
  ['ipv6,ipv6_src=«fc00:::1»/64,actions=drop', /not an IPv6 address/],
  ['dl_src=«00:11»,actions=drop', /not an Ethernet address/],
  ['in_port=«eth0»,actions=drop', /not a port/],
  ['ct_zone=5«/0xff»,actions=drop', /can't be masked/],
  ['ct_state=+trk-«nwe»,actions=drop', /not a ct_state flag/],
  ['ct_state=+trk-«trk»,actions=drop', /given twice/],
  ['ct_state=new|«foo»,actions=drop', /not a ct_state flag/],
  ['tcp,tcp_flags=0x2/«0x1000»,actions=drop', /does not fit into 12 bits/],
  ['ip,nw_frag=«maybe»,actions=drop', /kind of fragment/],
  ['ip,nw_tos=«3»,actions=drop', /nw_tos has no bits 0x3/],
  ['reg0=5/«x»,actions=drop', /not a number/],
  ['reg0«[0..32]»=5,actions=drop', /only 32 bits wide/],
  ['reg0«[5..4]»=5,actions=drop', /is after last bit/],
  ['«in_port[0]»=1,actions=drop', /as a whole/],
  ['«NXM_NX_REG0»=5,actions=drop', /needs brackets/],
  ['«tp_src=5»,actions=drop', /tcp_src is not in every packet/],
  ['ip,«tcp_dst=5»,actions=drop', /not in every packet/],
  ['«nw_src=1.2.3.4»,actions=drop', /not in every packet/],
  ['arp,«ipv6_src=::1»,actions=drop', /not in every packet/],
  ['udp,«tcp_flags=+syn»,actions=drop', /not in every packet/],
  ['ip,«ct_nw_src=1.2.3.4»,actions=drop', /not in every packet/],
  ['actions=2,«fnord»:5', /unknown action "fnord"/],
  ['actions=«resubmti»(,1)', /unknown action/, 'resubmit'],
  ['actions=output:«nomral»', /unknown port/, 'NORMAL'],
  ['actions=«output»', /needs a port/],
  ['actions=output:«0x2»', /unknown port/],
  ['actions=output:«65280»', /not a port to send to/],
  ['actions=output:«UNSET»', /not a port to send to/],
  ['actions=controller(«reson»=action)', /unknown argument/, 'reason'],
  ['actions=controller(reason=«acton»)', /unknown reason/, 'action'],
  ['actions=group:«4294967295»', /does not exist/],
  ['actions=1,learn(table=5,«NXM_OF_ETH_DTS[]»=NXM_OF_ETH_SRC[]),2', /unknown keyword/, 'NXM_OF_ETH_DST'],
  ['tcp,actions=learn(table=5,«tcp_src=tcp_dst»)', /learned flow/],
  ['actions=learn(priority=«x»)', /not a number of learn/],
  ['actions=2,«meter:1»', /before all other actions/],
  ['actions=meter:1,«meter:2»', /a second meter/],
  ['actions=write_actions(«goto_table:2»)', /can't stand in write_actions/],
  ['actions=«write_actions(2)»,clear_actions', /must come after clear_actions/],
  ['actions=conjunction(1,1/2),«2»', /only with note/],
  ['actions=output(port=1,max_len=«13»)', /shorter than an Ethernet header/],
  ['actions=«drop»,2', /must not be accompanied/],
  ['actions=drop:«5»', /takes no argument/],
  ['actions=2:«3»', /takes no argument/],
  ['actions=resubmit(,«256»)', /no table 256/],
  ['ip,actions=«resubmit(,1,ct)»', /original tuple/],
  ['ip,actions=resubmit(,1,«tc»)', /unknown argument/],
  ['actions=«resubmit()»', /same table/],
  ['table=3,actions=goto_table:«3»', /goes back/],
  ['actions=«goto_table:3»,2', /after all other actions/],
  ['actions=goto_table:3,«goto_table:4»', /second goto_table/],
  ['ip,actions=ct«(»commit', /never closed/],
  ['ip,actions=ct«(»commit,exec(set_field:1->ct_mark)', /never closed/],
  ['ip,actions=ct(commit),«)»', /unknown action/],
  ['ip,actions=ct(«nat(src)»)', /needs commit/],
  ['ip,actions=ct(commit,nat(src=«10.1.1.5-10.1.1.1»),table=1)', /ends before it begins/],
  ['ip,actions=ct(commit,«nat(src=fc00::1)»,table=1)', /IPv6 address for IPv4 packets/],
  ['udp,actions=«ct(commit,alg=ftp)»', /alg=ftp is not for every packet/],
  ['ip,actions=ct(«comit»)', /unknown argument/, 'commit'],
  ['ip,actions=ct(zone=«65536»)', /does not fit into 16 bits/],
  ['ip,actions=ct(zone=«reg0»)', /16 bits wide/],
  ['ip,actions=«ct(force)»', /needs commit/],
  ['ip,actions=«ct(exec(set_field:1->ct_mark))»', /exec\(\) in ct\(\) needs commit/],
  ['ip,actions=ct(commit,exec(set_field:1->«reg0»))', /only ct_mark and ct_label/],
  ['ip,actions=ct(commit,exec(«output:1»))', /only ct_mark and ct_label/],
  ['«»actions=«ct(commit)»', /tracks only IP packets/],
  ['ct_state=+trk+inv,ip,actions=«ct(commit)»', /ct\(commit\) of invalid packets/],
  ['ip,actions=set_field:1->«ct_mark»', /only be set by ct\(\)/],
  ['actions=set_field:1->«ct_state»', /read-only/],
  ['actions=set_field:1->«rge0»', /unknown field/, 'reg0'],
  ['actions=set_field:1->«NXM_NX_REG0[]»', /plain field name/, 'reg0'],
  ['actions=«set_field»', /missing "->"/],
  ['actions=set_field:«1»', /missing "->"/],
  ['actions=set_field:«0x100000000»->reg0', /does not fit/],
  ['actions=set_field:1.2.3.4->«ip_src»', /OFPBAC_MATCH_INCONSISTENT/],
  ['actions=set_field:5->«dl_vlan»', /can't write dl_vlan/, 'vlan_vid'],
  ['actions=set_field:0x1005->«vlan_vid»', /only be set if there is a tag/],
  ['actions=load:«16»->reg0[0..3]', /does not fit into 4 bits/],
  ['actions=load:1->«NXM_NX_RGE0»[]', /unknown field/, 'NXM_NX_REG0'],
  ['actions=load:1->«NXM_NX_TUN_FLAGS»[]', /not supported/],
  ['ip,actions=load:«1»->NXM_OF_IP_TOS[0..1]', /does not have all of these bits/],
  ['actions=move:«reg0[]->eth_src»', /32 bits wide but destination is 48/],
  ['actions=move:«NXM_OF_IP_SRC[]»->reg0', /OFPBAC_MATCH_INCONSISTENT/],
  ['actions=mod_dl_src:«00:11»', /not an Ethernet address/],
  ['ip,actions=mod_nw_tos:«33»', /not a valid TOS/],
  ['actions=«mod_vlan_vid»', /missing VLAN id/],
  ['actions=mod_vlan_vid:«4096»', /does not fit into 12 bits/],
  ['actions=push_vlan:«0x9100»', /not a VLAN ethertype/],
  ['actions=push_vlan:0x8100,push_vlan:0x8100,«push_vlan:0x8100»', /two VLAN tags already/],
  ['actions=«pop_vlan»,push_vlan:0x8100', /together with push_vlan/],
  ['ip,actions=dec_ttl(«x»,2)', /not a controller id/],
];

for (const [marked, message, suggestion] of WRONG) {
  test(`error: ${marked}`, () => {
    const flow = marked.replace(/[«»]/g, '');
    const last = marked.replace(/«»(?=.*«)/, '');
    const column = last.indexOf('«') + 1;
    const length = Math.max(1, last.indexOf('»') - column);
    const problems = errors(`# first line\n${flow}`);
    assert.equal(problems.length, 1, problems.map((p) => p.message).join('; '));
    const [p] = problems;
    assert.match(p.message, message);
    assert.deepEqual(p.pos, { file: 'f', line: 2, column, length });
    assert.equal(p.suggestion, suggestion);
    assert.notEqual(p.expected, '');
  });
}

test('error: all problems of a file are thrown together, each with its line underlined', () => {
  const text = ['ip,actions=ct(commit,nta)', 'priorty=1,nw_srv=2,actions=fnord', 'actions=2', 'ip'].join(
    '\n',
  );
  try {
    parseFlows(text, 'flows.txt');
    assert.fail('accepted');
  } catch (error) {
    assert.ok(error instanceof FlowSyntaxError);
    const places = error.problems.map((p) => `${p.pos.line}:${p.pos.column}`);
    assert.deepEqual(places, ['1:22', '2:1', '2:11', '2:28', '4:3']);
    assert.ok(
      error.message.startsWith(
        [
          'flows.txt:1:22: unknown argument "nta" of ct()',
          '  ip,actions=ct(commit,nta)',
          '                       ^^^',
          '  expected commit, force, zone=N, table=N, nat(...), alg=ftp or exec(...)',
          '  did you mean nat?',
          'flows.txt:2:1: unknown keyword "priorty"',
          '  priorty=1,nw_srv=2,actions=fnord',
          '  ^^^^^^^',
        ].join('\n'),
      ),
      error.message,
    );
    assert.match(error.message, /did you mean priority\?/);
  }
});

test('error: a line with thousands of mistakes is not quoted thousands of times, and of a long line the part around one', () => {
  const problemsOf = (text: string): FlowSyntaxError => {
    try {
      parseFlows(text, 'flows.txt');
    } catch (error) {
      if (error instanceof FlowSyntaxError) return error;
    }
    return assert.fail('accepted');
  };
  const many = problemsOf(`actions=${'fnord,'.repeat(4000)}`);
  assert.equal(many.problems.length, 4000);
  assert.ok(many.message.length < 300_000, `${many.message.length} characters`);
  assert.match(many.message, /\nand 3900 more mistakes$/);
  const far = problemsOf(`actions=${'1,'.repeat(4000)}fnord,${'2,'.repeat(4000)}3`);
  const [, quoted, carets] = far.message.split('\n');
  assert.ok(quoted.length <= 2002, `${quoted.length} characters`);
  assert.equal(quoted.slice(carets.indexOf('^'), carets.length), 'fnord');
});
