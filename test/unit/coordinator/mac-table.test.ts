/** MAC learning: who is where, for how long, and what is not learned. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  isMulticast,
  isReserved,
  MAC_AGING_MS,
  MAC_TABLE_SIZE,
  MacTable,
} from '../../../src/coordinator/mac-table.js';

const A = 0x020000000001;
const B = 0xfe0000000002;

test('mac table: an address is where it was last seen, by VLAN', () => {
  const t = new MacTable();
  t.learn(A, 0, 1, 0);
  t.learn(A, 7, 2, 0);
  t.learn(B, 0, 3, 0);
  assert.equal(t.lookup(A, 0, 1), 1);
  assert.equal(t.lookup(A, 7, 1), 2);
  assert.equal(t.lookup(B, 0, 1), 3);
  assert.equal(t.lookup(B, 7, 1), -1);
  t.learn(A, 0, 4, 1);
  assert.equal(t.lookup(A, 0, 1), 4);
});

test('mac table: an address is forgotten after 300 s of silence, being asked for does not help', () => {
  const t = new MacTable();
  t.learn(A, 0, 1, 1000);
  assert.equal(t.lookup(A, 0, 1000 + MAC_AGING_MS - 1), 1);
  assert.equal(t.lookup(A, 0, 1000 + MAC_AGING_MS), -1);
  t.learn(A, 0, 1, 2000);
  t.learn(A, 0, 1, 2000 + MAC_AGING_MS - 1);
  assert.equal(t.lookup(A, 0, 2000 + MAC_AGING_MS), 1);
});

test('mac table: group addresses are not learned', () => {
  const t = new MacTable();
  t.learn(0x010000000001, 0, 1, 0);
  t.learn(0xffffffffffff, 0, 1, 0);
  assert.equal(t.lookup(0x010000000001, 0, 0), -1);
  assert.equal(t.lookup(0xffffffffffff, 0, 0), -1);
});

test('mac table: when it is full the one longest silent makes way', () => {
  const t = new MacTable();
  for (let i = 0; i < MAC_TABLE_SIZE; i++) t.learn(0x020000000000 + i, 0, 1, i);
  t.learn(0x020000000000, 0, 1, MAC_TABLE_SIZE); // the first speaks again
  t.learn(0x030000000000 - 0x010000000000 + 0x10000000, 0, 2, MAC_TABLE_SIZE + 1);
  assert.equal(t.lookup(0x020000000000, 0, MAC_TABLE_SIZE + 2), 1);
  assert.equal(t.lookup(0x020000000001, 0, MAC_TABLE_SIZE + 2), -1);
  assert.equal(t.lookup(0x020000000002, 0, MAC_TABLE_SIZE + 2), 1);
});

test('mac table: group and reserved addresses are told from others', () => {
  assert.equal(isMulticast(0x010000000000), true);
  assert.equal(isMulticast(0x020000000000), false);
  assert.equal(isMulticast(0xffffffffffff), true);
  assert.equal(isReserved(0x0180c2000000), true);
  assert.equal(isReserved(0x0180c200000f), true);
  assert.equal(isReserved(0x0180c2000010), false);
});
