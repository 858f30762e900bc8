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

test('ordering: whatever writes addresses or ports keeps packets together', () => {
  const tracks = ',ct(commit),2';
  assert.equal(ordering(`udp,actions=mod_nw_src:10.0.0.1${tracks}`).mode, 'lockstep');
  for (const write of [
    'move:NXM_OF_IP_DST[0..1]->TO',
    'pop:TO',
    'multipath(eth_src,0,modulo_n,2,0,TO)',
    'check_pkt_larger(100)->TO',
    'bundle_load(eth_src,0,hrw,ofport,TO,slaves:1,2)',
  ]) {
    const bits = write.startsWith('check') ? '[0]' : write.startsWith('bundle') ? '[0..15]' : '[0..1]';
    for (const [to, mode] of [
      ['NXM_OF_IP_SRC', 'lockstep'],
      ['NXM_NX_REG0', 'parallel'],
    ]) {
      assert.equal(ordering(`udp,actions=${write.replace('TO', to + bits)}${tracks}`).mode, mode, write);
    }
  }
  assert.equal(ordering('ip,actions=bundle(eth_src,0,hrw,ofport,slaves:1,2),ct(commit)').mode, 'parallel');
});

test('ordering: says whether there is ct()', () => {
  const plain = { mode: 'parallel', reason: null, targets: [], movesPorts: false };
  assert.deepEqual(ordering('ip,actions=ct(commit),2'), { ...plain, tracks: true });
  assert.deepEqual(ordering('actions=2'), { ...plain, tracks: false });
});

test('ordering: translation in one zone is steered; several zones, ct_clear and helpers keep packets together', () => {
  const nat = 'ip,actions=ct(commit,zone=5,nat(src=10.0.0.1-10.0.0.9)),2';
  const { mode, targets, movesPorts } = ordering(`${nat}\nip,in_port=2,actions=ct(zone=5,nat),1`);
  assert.deepEqual([mode, movesPorts], ['steered', false]);
  const range = { min: Uint32Array.of(0x0a000001), max: Uint32Array.of(0x0a000009) };
  assert.deepEqual(targets, [range]);
  for (const other of [
    'ip,in_port=2,actions=ct(nat),1',
    'ip,in_port=2,actions=ct(zone=NXM_NX_REG0[0..15]),1',
    'arp,actions=ct_clear,1',
    'tcp,actions=ct(commit,zone=5,alg=ftp),1',
    'tcp,actions=mod_nw_dst:10.0.0.1,2',
  ]) {
    const all = ordering(`${nat}\n${other}`);
    assert.equal(all.mode, 'lockstep', other);
    assert.ok(all.reason !== null);
  }
  assert.equal(ordering('ip,actions=ct(commit,nat(dst=10.0.0.1:80-90)),2').movesPorts, true);
  const six = ordering('ipv6,actions=ct(commit,nat(src=fd00::1)),2').targets[0].min;
  assert.deepEqual(six, Uint32Array.of(0xfd000000, 0, 0, 1));
});
