/** Translation, action by action: what program a flow table gives for a packet, in the words of
 *  dpctl/dump-flows, and on which bits it depends. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FLOW, KEY_WORDS } from '../../../src/classifier/flow-key.js';
import {
  DROP_REASONS,
  MAX_PROGRAM_WORDS,
  OP_END,
  OP_RECIRC,
  opWords,
} from '../../../src/datapath/program.js';
import { formatMegaflow, formatProgram } from '../../../src/openflow/format-dp.js';
import { parseGroups } from '../../../src/openflow/groups.js';
import { parseFlows } from '../../../src/openflow/parser.js';
import { Pipeline } from '../../../src/openflow/tables.js';
import { type Tracer, Translator } from '../../../src/openflow/translate.js';

const { ETH_DST_LO_SRC_HI, ETH_SRC_LO, ETH_TYPE, IN_PORT, NW, NW_SRC, NW_DST, TP, TCP_FLAGS } = FLOW;
const { VLAN_0, MPLS_0, MPLS_1, RECIRC_ID, CT_STATE, CT_NW_PROTO, CT_NW_SRC, CT_NW_DST, CT_TP } = FLOW;

/** A key; a TCP packet from 10.0.0.1:1000 to 10.0.0.2:80 on port 1 unless told otherwise. */
function key(words: Partial<Record<keyof typeof FLOW, number>> = {}): Int32Array {
  const k = new Int32Array(KEY_WORDS);
  k[IN_PORT] = 1;
  k[ETH_DST_LO_SRC_HI] = 0x0200;
  k[ETH_SRC_LO] = 1;
  k[ETH_TYPE] = 0x800;
  k[NW_SRC] = 0x0a000001;
  k[NW_DST] = 0x0a000002;
  k[NW] = 0x4006;
  k[TP] = (1000 << 16) | 80;
  k[TCP_FLAGS] = 0x10;
  for (const [name, value] of Object.entries(words)) k[FLOW[name as keyof typeof FLOW]] = value;
  return k;
}

const mplsKey = (...stack: number[]) => {
  const k = key({ ETH_TYPE: 0x8847 });
  for (const w of [NW_SRC, NW_DST, NW, TP, TCP_FLAGS]) k[w] = 0;
  stack.forEach((entry, i) => {
    k[MPLS_0 + i] = entry;
  });
  return k;
};
const entry = (label: number, bos: 0 | 1, ttl = 64) => (label << 12) | (bos << 8) | ttl;

interface Table {
  translator: Translator;
  pipeline: Pipeline;
  /** The program for a packet, as text. */
  of: (k?: Int32Array, tracer?: Tracer) => string;
  /** The packets that have the same one. */
  wild: (k?: Int32Array) => string;
  /** Why it goes nowhere. */
  reason: (k?: Int32Array) => string | null;
  /** The passes that its program starts. */
  passes: (k: Int32Array) => Int32Array[];
}

function table(flows: string, groups = ''): Table {
  const pipeline = new Pipeline({
    rules: parseFlows(flows, 'flows'),
    groups: parseGroups(groups, 'groups'),
    ports: [1, 2, 3, 4],
  });
  const translator = new Translator(pipeline);
  return {
    translator,
    pipeline,
    of: (k = key(), tracer) => {
      const { program } = translator.translate(k, tracer);
      return formatProgram(program, k);
    },
    wild: (k = key()) => formatMegaflow(k, translator.translate(k).mask),
    reason: (k = key()) => {
      const { program } = translator.translate(k);
      assert.equal(program.at(-2), OP_END);
      return DROP_REASONS[program.at(-1)!];
    },
    passes: (k) => {
      const { program } = translator.translate(k);
      const ids: Int32Array[] = [];
      for (let pc = 0; pc < program.length; pc += opWords(program, pc)) {
        if (program[pc] !== OP_RECIRC) continue;
        const again = k.slice();
        again[RECIRC_ID] = program[pc + 1];
        ids.push(again);
      }
      return ids;
    },
  };
}

test('output: ports, in_port, to the input port, to none', () => {
  assert.equal(table('actions=2,3,in_port').of(), '2,3,1');
  assert.equal(table('actions=all').of(), '2,3,4,LOCAL');
  assert.equal(table('actions=1').reason(), 'output-to-input-port');
  assert.equal(table('actions=9').reason(), 'no-such-port');
  assert.equal(table('table=1,actions=2').reason(), 'table-miss');
  assert.equal(table('actions=load:3->NXM_NX_REG0[],output:NXM_NX_REG0[]').of(), '3');
  assert.equal(table('actions=output:NXM_OF_ETH_SRC[0..15]').wild().includes('eth(src='), true);
});

test('output: max_len cuts the next output only; to the input port and elsewhere there is none', () => {
  assert.equal(table('actions=output(port=2,max_len=64),3').of(), 'trunc(64),2,3');
  assert.equal(table('actions=output(port=1,max_len=64)').reason(), 'output-to-input-port');
  assert.equal(table('actions=output(port=in_port,max_len=64)').of(), 'trunc(64),1');
});

test('controller: reason, id and length; paused it ends the packet', () => {
  const controller = (text: string) => `userspace(controller(${text}))`;
  assert.equal(
    table('actions=controller(max_len=100,id=5,reason=no_match),2').of(),
    `${controller('reason=0,controller_id=5,max_len=100')},2`,
  );
  assert.equal(
    table('actions=controller(pause),2').of(),
    controller('reason=1,controller_id=0,max_len=65535'),
  );
  assert.equal(
    table('ip,actions=dec_ttl(7,8),2').of(key({ NW: 0x0106 })),
    `${controller('reason=2,controller_id=7,max_len=65535')},${controller('reason=2,controller_id=8,max_len=65535')}`,
  );
});

test('set: written fields stay wild; what was written is known to later tables', () => {
  const t = table(
    'priority=1,actions=set_field:02:00:00:00:00:09->eth_dst,resubmit(,1)\ntable=1,dl_dst=02:00:00:00:00:09,actions=2',
  );
  assert.equal(t.of(), 'set(eth(dst=02:00:00:00:00:09)),2');
  assert.equal(t.wild(), 'recirc_id(0),in_port(1),eth_type(0x0800),ipv4(frag=no)');
});

test('clone: what it changes does not last, stack and action set are its own', () => {
  assert.equal(table('ip,actions=clone(mod_nw_dst:10.9.9.9,2),3').of(), 'clone(set(ipv4(dst=10.9.9.9)),2),3');
  assert.equal(table('ip,actions=clone(2,4),3').of(), '2,4,3', 'no clone where nothing changes');
  assert.equal(
    table('ip,actions=3,clone(mod_nw_dst:10.9.9.9,2)').of(),
    '3,set(ipv4(dst=10.9.9.9)),2',
    'nor in the end',
  );
  assert.equal(
    table(
      'actions=load:3->NXM_NX_REG0[],push:NXM_NX_REG0[],clone(pop:NXM_NX_REG1[],output:NXM_NX_REG1[]),pop:NXM_NX_REG2[],output:NXM_NX_REG2[]',
    ).of(),
    '3',
  );
  const t = table('ip,actions=clone(ct(commit,zone=1),2),3');
  assert.equal(t.of(), 'clone(ct(commit,zone=1),2),3');
});

test('stack: last in, first out, in any width; from an empty one nothing comes', () => {
  const push = 'load:2->NXM_NX_REG0[],push:NXM_NX_REG0[0..7],load:3->NXM_NX_REG0[],push:NXM_NX_REG0[]';
  assert.equal(
    table(
      `actions=${push},pop:NXM_NX_REG1[],output:NXM_NX_REG1[],pop:NXM_NX_REG1[],output:NXM_NX_REG1[]`,
    ).of(),
    '3,2',
  );
  assert.equal(table('actions=load:2->NXM_NX_REG0[],pop:NXM_NX_REG0[],output:NXM_NX_REG0[]').of(), '2');
});

test('action set: order, last of a kind, only with a final action; resubmitted tables add to it', () => {
  const vlans = 'push_vlan(vid=0,pcp=0)';
  assert.equal(
    table('ip,actions=write_actions(output:2,push_vlan:0x8100,dec_ttl,set_field:02:00:00:00:00:09->eth_dst)')
      .of()
      .replace(/set\(ipv4\(ttl=63\)\)/, 'ttl'),
    `set(eth(dst=02:00:00:00:00:09)),ttl,${vlans},2`,
  );
  assert.equal(table('actions=write_actions(output:2),goto_table:1\ntable=1,actions=3').of(), '3,2');
  assert.equal(
    table('actions=write_actions(output:2),goto_table:1\ntable=1,actions=write_actions(output:3)').of(),
    '3',
  );
  assert.equal(
    table('actions=write_actions(output:2),goto_table:1\ntable=1,actions=clear_actions').reason(),
    'no-output',
  );
  assert.equal(table('ip,actions=write_actions(dec_ttl)').of(), 'drop', 'nothing without a final action');
  assert.equal(
    table('actions=write_actions(output:2),goto_table:1\ntable=1,actions=exit').of(),
    'drop',
    'exit ends it, too',
  );
  const groups = 'group_id=1,type=all,bucket=actions=output:4';
  assert.equal(
    table('actions=write_actions(output:2,group:1)', groups).of(),
    '4',
    'a group goes before an output',
  );
});

test('actset_output: the output of the action set, unset once it has a group', () => {
  const next = 'table=1,actset_output=2,actions=3\ntable=1,priority=1,actions=4';
  assert.equal(table(`actions=write_actions(output:2),goto_table:1\n${next}`).of(), '3,2');
  const groups = 'group_id=1,type=all,bucket=actions=drop';
  assert.equal(table(`actions=write_actions(output:2,group:1),goto_table:1\n${next}`, groups).of(), '4');
});

test('resubmit: with another port, twice, and with the tuple of the connection', () => {
  assert.equal(table('in_port=1,actions=resubmit(3,1)\ntable=1,in_port=3,actions=in_port').of(), '1');
  assert.equal(table('actions=resubmit(,1),resubmit(,1)\ntable=1,actions=2').of(), '2,2');
  const t = table(
    'ct_state=+trk-inv,ip,actions=resubmit(,1,ct)\ntable=1,ip,nw_src=10.0.0.7,actions=2\ntable=1,priority=1,actions=3',
  );
  const tracked = key({ RECIRC_ID: 0 });
  tracked[CT_STATE] = 0x22;
  tracked[CT_NW_PROTO] = 6;
  tracked[CT_NW_SRC] = 0x0a000007;
  tracked[CT_NW_DST] = 0x0a000002;
  tracked[CT_TP] = (1000 << 16) | 80;
  assert.equal(t.of(tracked), '2');
  tracked[CT_NW_SRC] = 0x0a000008;
  assert.equal(t.of(tracked), '3');
  assert.match(t.wild(tracked), /ct_tuple4\(src=/);
  assert.doesNotMatch(t.wild(tracked), /ipv4\(src=/);
});

test('resubmit: depth, number and stack are bounded, and then nothing is sent', () => {
  assert.equal(table('actions=2,resubmit(,0)').reason(), 'resubmit-limit');
  const wide = 'actions=2,push:NXM_NX_XXREG0[],push:NXM_NX_XXREG1[],resubmit(,0)';
  assert.equal(table(wide).reason(), 'resubmit-limit');
  const tree = Array.from(
    { length: 13 },
    (_, i) => `table=${i},actions=${i === 12 ? '2' : `resubmit(,${i + 1}),resubmit(,${i + 1})`}`,
  );
  assert.equal(table(tree.join('\n')).reason(), 'resubmit-limit');
  const pushes = Array.from({ length: 70 }, () => 'push:NXM_NX_XXREG0[]').join();
  assert.equal(table(`actions=2,${pushes},resubmit(,0)`).reason(), 'stack-limit');
});

test('resubmit: beyond 64 kB of actions no further table is entered, as in Open vSwitch', () => {
  const many = Array.from({ length: 3000 }, () => '2,3').join();
  const t = table(`actions=resubmit(,1),resubmit(,1),resubmit(,1),resubmit(,1)\ntable=1,actions=${many}`);
  const { program } = t.translator.translate(key());
  assert.ok(program.length > 16384 && program.length < MAX_PROGRAM_WORDS, `${program.length} words`);
  assert.equal(program.length % 12000 < 10, true, 'two of the four');
});

test('group: all buckets, each on its own copy; indirect; counted as a whole', () => {
  const groups =
    'group_id=1,type=all,bucket=actions=mod_dl_src:02:00:00:00:00:07,output:2,bucket=actions=output:3,bucket=actions=drop\ngroup_id=2,type=indirect,bucket=actions=output:4';
  const t = table('actions=group:1,group:2,in_port', groups);
  assert.equal(t.of(), 'clone(set(eth(src=02:00:00:00:00:07)),2),3,4,1');
  const pipeline = t.pipeline;
  pipeline.stats.credit(t.translator.translate(key()).program[1], 1, 60, 0);
  const one = pipeline.groups.get(1)!;
  assert.deepEqual([one.packets, one.bytes, ...one.buckets.map((b) => b.packets)], [1, 60, 1, 1, 1]);
});

test('group: an in-line ct() in a bucket acts on the packet; what the bucket wrote is set back', () => {
  const groups =
    'group_id=1,type=all,bucket=actions=mod_nw_dst:10.9.9.9,ct(commit,zone=1)\ngroup_id=2,type=all,bucket=actions=mod_nw_dst:10.9.9.9,output:2';
  const t = table('ip,actions=group:1,3', groups);
  assert.equal(t.of(), 'set(ipv4(dst=10.9.9.9)),ct(commit,zone=1),set(ipv4(dst=10.0.0.2)),3');
  assert.match(t.wild(), /dst=10\.0\.0\.2/, 'so that the program is for this address');
  assert.doesNotMatch(table('ip,actions=group:2,3', groups).wild(), /dst=/);
});

test('group: fast failover takes the first bucket whose port or group lives', () => {
  const groups = `group_id=1,type=ff,bucket=watch_port:2,actions=output:2,bucket=watch_port:3,actions=output:3
group_id=2,type=ff,bucket=watch_group:1,actions=output:4,bucket=watch_port:9,actions=output:2`;
  const t = table('in_port=1,actions=group:1\nin_port=3,actions=group:2', groups);
  assert.equal(t.of(), '2');
  t.pipeline.setPort(2, false);
  assert.equal(t.of(), '3');
  assert.equal(t.of(key({ IN_PORT: 3 })), '4');
  t.pipeline.setPort(3, false);
  assert.equal(t.reason(), 'no-live-bucket');
  assert.equal(t.reason(key({ IN_PORT: 3 })), 'no-live-bucket');
});

test('group: select branches by hash in the datapath, so that no mask needs the connection', () => {
  const buckets =
    'bucket=bucket_id=1,weight=1,actions=output:2,bucket=bucket_id=2,weight=3,actions=output:3,bucket=bucket_id=3,weight=0,actions=output:4';
  const dp = table('actions=group:1,in_port', `group_id=1,type=select,${buckets}`);
  assert.equal(dp.of(), 'hash(sym_1(0)),recirc(0x1)');
  assert.equal(dp.wild(), 'recirc_id(0),in_port(1),eth_type(0x0800),ipv4(frag=no)');
  const [again] = dp.passes(key());
  assert.equal(dp.of(again), 'clone(select(bucket(weight=12,actions(3)),bucket(weight=4,actions(2)))),1');
  assert.equal(dp.wild(again), 'recirc_id(0x1),in_port(1),eth_type(0x0800),ipv4(frag=no)');
  const byFields = table(
    'actions=group:1',
    `group_id=1,type=select,selection_method=hash,fields(ip_src,tcp_dst),${buckets}`,
  );
  assert.match(
    byFields.of(),
    /^hash\(fields\(\d+\)\),select\(bucket\(weight=1,actions\(2\)\),bucket\(weight=3,/,
  );
  assert.doesNotMatch(byFields.wild(), /src=|tcp\(/);
  const one = table('actions=group:1', 'group_id=1,type=select,bucket=weight=5,actions=output:2');
  assert.equal(one.of(one.passes(key())[0]), '2', 'a bucket without rival needs no choice');
  const none = table('actions=group:1', 'group_id=1,type=select,bucket=weight=0,actions=output:2');
  assert.equal(none.reason(), 'no-live-bucket');
});

test('group: a dead bucket of a select group leaves its hash values to the live ones', () => {
  const t = table(
    'actions=group:1',
    'group_id=1,type=select,bucket=watch_port:2,actions=output:2,bucket=watch_port:3,actions=output:3,bucket=watch_port:4,actions=output:4',
  );
  const [again] = t.passes(key());
  const weights = () => [...t.of(again).matchAll(/weight=(\d+)/g)].map((m) => Number(m[1])).sort();
  assert.deepEqual(weights(), [5, 5, 6]);
  t.pipeline.setPort(3, false);
  assert.equal(weights().length, 2);
  assert.equal(weights()[0] + weights()[1], 16);
});

test('group: exit ends a bucket only; a bucket is counted where it is chosen', () => {
  const groups = 'group_id=1,type=all,bucket=actions=resubmit(,1),bucket=actions=output:3';
  assert.equal(table('actions=group:1,4\ntable=1,actions=2,exit,4', groups).of(), '2,3,4');
  const select =
    'group_id=1,type=select,bucket=bucket_id=1,actions=output:2,bucket=bucket_id=2,actions=output:3';
  const t = table('actions=group:1', select);
  const { program } = t.translator.translate(t.passes(key())[0]);
  const points: number[] = [];
  for (let pc = 0; pc < program.length; pc += opWords(program, pc)) {
    if (program[pc] === 9) points.push(program[pc + 1]);
  }
  assert.equal(points.length, 2, 'each bucket in its branch; the rule in the pass before');
  t.pipeline.stats.credit(points[1], 1, 60, 0);
  assert.deepEqual(
    t.pipeline.groups.get(1)!.buckets.map((b) => b.packets),
    [0, 1],
  );
});

test('check_pkt_larger: both sorts of frames, each with the rest of the list, then the lists around', () => {
  const t = table(
    'ip,actions=check_pkt_larger(100)->NXM_NX_REG0[0],resubmit(,1)\ntable=1,reg0=1,actions=2\ntable=1,reg0=0,ip,actions=mod_nw_dst:10.9.9.9,3',
  );
  assert.equal(t.of(), 'check_pkt_len(size=100,gt(2),le(set(ipv4(dst=10.9.9.9)),3))');
  const inner = table(
    'actions=resubmit(,1),4\ntable=1,actions=check_pkt_larger(100)->NXM_NX_REG0[0],output:NXM_NX_REG0[]',
  );
  assert.equal(inner.of(), 'clone(check_pkt_len(size=100,gt(),le())),4');
});

test('ct: recirculates with registers, stack, action set; ct_clear only of what was tracked', () => {
  const t = table(
    'ip,actions=load:3->NXM_NX_REG0[],push:NXM_NX_REG0[],write_actions(output:4),goto_table:1\ntable=1,ip,actions=ct(table=2,zone=5),2\ntable=2,actions=pop:NXM_NX_REG1[],output:NXM_NX_REG1[],ct_clear',
  );
  assert.equal(t.of(), 'ct(zone=5),recirc(0x1),2,4');
  const [again] = t.passes(key());
  again[CT_STATE] = 0x21;
  assert.equal(t.of(again), '3,ct_clear,4');
  assert.equal(table('ip,actions=ct(commit,zone=1),ct_clear,2').of(), 'ct(commit,zone=1),2');
  assert.match(
    table('ip,actions=ct(commit,zone=1,nat(src=10.1.1.1-10.1.1.9:100-200,random)),2').of(),
    /^ct\(commit,zone=1,nat\(src=10\.1\.1\.1-10\.1\.1\.9:100-200,random\)\),2$/,
  );
});

test('ct: states are told apart by what is frozen, and forgotten when nobody can come back', () => {
  const t = table('ip,actions=move:NXM_OF_IP_SRC[]->NXM_NX_REG0[],ct(table=1)\ntable=1,actions=2');
  const a = t.of();
  assert.equal(t.of(), a);
  const [again] = t.passes(key());
  assert.notEqual(t.of(key({ NW_SRC: 5 })), a);
  assert.equal(t.of(again), '2');
  t.translator.forget();
  assert.equal(t.reason(again), 'recirculation-lost');
});

test('MPLS: push on IP, push on labels, pop; beyond what was popped the packet is parsed anew', () => {
  assert.equal(
    table('ip,actions=push_mpls:0x8847,set_field:17->mpls_label,2').of(key({ NW: (0xa8 << 16) | 0x0906 })),
    'push_mpls(label=17,tc=2,ttl=9,bos=1,eth_type=0x8847),2',
  );
  const two = mplsKey(entry(5, 0), entry(6, 1));
  assert.equal(
    table('mpls,actions=push_mpls:0x8847,set_field:9->mpls_label,2').of(two),
    'push_mpls(label=9,tc=0,ttl=64,bos=0,eth_type=0x8847),2',
  );
  assert.equal(table('mpls,actions=pop_mpls:0x8847,2').of(two), 'pop_mpls(eth_type=0x8847),2');
  const pop = table('mpls,actions=pop_mpls:0x0800,2,dec_ttl,3');
  const one = mplsKey(entry(5, 1));
  assert.equal(pop.of(one), 'pop_mpls(eth_type=0x800),2,recirc(0x1)');
  const [again] = pop.passes(one);
  const inside = key({ RECIRC_ID: again[RECIRC_ID] });
  assert.equal(pop.of(inside), 'set(ipv4(ttl=63)),3');
  assert.equal(table('mpls,actions=dec_mpls_ttl,2').of(one).startsWith('set(mpls(ttl=63'), true);
  assert.equal(table('mpls,actions=dec_mpls_ttl,2').reason(mplsKey(entry(5, 1, 1))), 'ttl-exceeded');
});

test('MPLS: a fourth label is too much: for the packet, or in a bucket for the bucket', () => {
  const three = mplsKey(entry(1, 0), entry(2, 0), entry(3, 1));
  assert.equal(table('mpls,actions=2,push_mpls:0x8847,3').reason(three), 'mpls-limit');
  const groups = 'group_id=1,type=all,bucket=actions=resubmit(,1),bucket=actions=output:3';
  const t = table('mpls,actions=group:1,4\ntable=1,mpls,actions=push_mpls:0x8847,2', groups);
  assert.equal(t.of(three), '3,4');
  assert.equal(three[MPLS_1], entry(2, 0));
});

test('multipath and bundle: by a hash that the mask covers', () => {
  const t = table(
    'ip,actions=multipath(nw_src,50,modulo_n,4,0,NXM_NX_REG0[0..7]),resubmit(,1)\ntable=1,actions=2',
  );
  assert.match(t.wild(), /ipv4\(src=10\.0\.0\.1,frag/);
  const up = table('actions=bundle(eth_src,0,active_backup,ofport,members:9,3,2)');
  assert.equal(up.of(), '3');
  up.pipeline.setPort(3, false);
  assert.equal(up.of(), '2');
  const seen = new Set<string>();
  const hrw = table('actions=bundle(eth_src,7,hrw,ofport,members:2,3,4)');
  for (let i = 0; i < 60; i++) seen.add(hrw.of(key({ ETH_SRC_LO: i })));
  assert.deepEqual([...seen].sort(), ['2', '3', '4']);
  assert.equal(
    table(
      'actions=bundle_load(eth_src,0,active_backup,ofport,NXM_NX_REG0[0..15],members:9,4),output:NXM_NX_REG0[]',
    ).of(),
    '4',
  );
});

test('ttl: an expired packet goes no further in its list, but the list around goes on', () => {
  const t = table('actions=resubmit(,1),3\ntable=1,ip,actions=dec_ttl,2');
  assert.equal(t.of(), 'set(ipv4(ttl=63)),2,3');
  assert.match(t.of(key({ NW: 0x0106 })), /^userspace\(.*\),3$/);
});

test('vlan: tags as on the wire are popped and pushed only where they differ', () => {
  const tagged = key({ VLAN_0: (0x8100 << 16) | 0x1005 });
  assert.equal(table('actions=strip_vlan,2').of(tagged), 'pop_vlan,2');
  assert.equal(table('actions=strip_vlan,2').of(), '2');
  assert.equal(table('actions=push_vlan:0x8100,set_field:4102->vlan_vid,2').of(), 'push_vlan(vid=6,pcp=0),2');
  assert.equal(VLAN_0 in tagged, true);
});

test('learn: what the packet teaches, at the head of the program, and not again', () => {
  const t = table(
    'priority=5,actions=learn(table=5,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:NXM_OF_IN_PORT[]->NXM_NX_REG1[0..15],output:NXM_OF_IN_PORT[]),2',
  );
  assert.equal(t.of(), 'learn(0),2');
  t.pipeline.execute(0, 0);
  assert.equal(t.of(), '2');
  const learned = t.pipeline.rules().find((rule) => rule.table === 5)!;
  assert.deepEqual(
    learned.actions.map((a) => a.kind),
    ['set', 'output'],
  );
  assert.notEqual(t.of(key({ ETH_SRC_LO: 9 })), '2');
});

test('trace: tables, actions, groups and buckets are told in order', () => {
  const told: string[] = [];
  const tracer: Tracer = {
    enterTable: (n, rule) => told.push(`table ${n} ${rule === null ? 'miss' : rule.priority}`),
    enterGroup: (g) => told.push(`group ${g.group.id}`),
    enterBucket: (_, b, how) => told.push(`bucket ${b.bucket.id}: ${how}`),
    enter: (what) => told.push(what),
    leave: () => told.push('.'),
    action: (a) => told.push(a.kind),
    changed: (before, after) => told.push(`reg0 ${before[FLOW.REG0]} ${after[FLOW.REG0]}`),
    note: (text) => told.push(text),
    froze: (id, n) => told.push(`froze ${id} ${n}`),
  };
  const t = table(
    'priority=7,actions=load:5->NXM_NX_REG0[],group:1,resubmit(,1)',
    'group_id=1,type=indirect,bucket=actions=output:2',
  );
  t.of(key(), tracer);
  assert.deepEqual(told, [
    'table 0 7',
    'set',
    'reg0 0 5',
    'group',
    'group 1',
    'bucket 0: all buckets run',
    'output',
    '.',
    '.',
    'resubmit',
    'table 1 miss',
    'drop: table-miss',
    '.',
    '.',
  ]);
});
