/** Where explanations part. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { partingOf } from '../../../src/compare/results.js';

const head = ['0. ct_state=-trk,ip, priority 100', 'ct(table=1)'];
const found = (reply: string, id: string) =>
  `-> connection, original direction: tcp,orig=(src=${id},dst=10.0.0.2,sport=1,dport=2),reply=(${reply}),id=0,timeout=29,protoinfo=(state_orig=ESTABLISHED,state_reply=ESTABLISHED)`;

test('parting: at a rule, and that is no matter of connections', () => {
  assert.deepEqual(partingOf([...head, '1. in_port=2, priority 90'], [...head, '1. priority 0', 'drop']), {
    base: '1. in_port=2, priority 90',
    candidate: '1. priority 0',
    key: '1. in_port=2, priority 90\n1. priority 0',
    byConnection: false,
  });
  assert.deepEqual(partingOf([...head, 'output:2'], head)?.candidate, 'nothing more');
  assert.equal(partingOf(head, [...head]), null);
});

test('parting: at the state of a connection', () => {
  const at = (state: string) => [...head, `ct(zone=5): ct_state=${state}`];
  assert.equal(partingOf(at('+est+trk'), at('+new+trk'))?.byConnection, true);
  assert.equal(partingOf(at('+est+trk'), [...head, 'drop'])?.byConnection, false);
});

test('parting: connections that differ in the same are of one kind, whichever they are', () => {
  const part = (id: string) =>
    partingOf([...head, found('dst=203.0.113.1', id)], [...head, found('dst=203.0.113.2', id)]);
  const [one, two] = ['10.0.0.1', '10.0.0.9'].map(part);
  assert.equal(one?.byConnection, true);
  assert.equal(one?.key, two?.key);
  assert.equal(one?.base, 'tcp (src=10.0.0.1,dst=10.0.0.2,sport=1,dport=2): reply=(dst=203.0.113.1)');
  const none = (id: string) =>
    partingOf([...head, found('dst=1', id)], [...head, '-> no connection of zone 0 has its tuple']);
  assert.equal(none('10.0.0.1')?.byConnection, true);
  assert.equal(none('10.0.0.1')?.key, none('10.0.0.9')?.key);
});
