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
import { Random } from '../../../src/generate/random.js';

const A = 0x020000000001;
const B = 0xfe0000000002;

/** A table that is asked by whole addresses. */
class Table {
  readonly table = new MacTable();
  learn(mac: number, vlan: number, port: number, now: number): void {
    this.table.learn((mac / 0x10000) | 0, (vlan << 16) | (mac % 0x10000), port, now);
  }
  lookup(mac: number, vlan: number, now: number): number {
    return this.table.lookup((mac / 0x10000) | 0, (vlan << 16) | (mac % 0x10000), now);
  }
}

test('mac table: an address is where it was last seen, by VLAN', () => {
  const t = new Table();
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
  const t = new Table();
  t.learn(A, 0, 1, 1000);
  assert.equal(t.lookup(A, 0, 1000 + MAC_AGING_MS - 1), 1);
  assert.equal(t.lookup(A, 0, 1000 + MAC_AGING_MS), -1);
  t.learn(A, 0, 1, 2000);
  t.learn(A, 0, 1, 2000 + MAC_AGING_MS - 1);
  assert.equal(t.lookup(A, 0, 2000 + MAC_AGING_MS), 1);
});

test('mac table: group addresses are not learned', () => {
  const t = new Table();
  t.learn(0x010000000001, 0, 1, 0);
  t.learn(0xffffffffffff, 0, 1, 0);
  assert.equal(t.lookup(0x010000000001, 0, 0), -1);
  assert.equal(t.lookup(0xffffffffffff, 0, 0), -1);
});

test('mac table: when it is full the one longest silent of the port with most makes way', () => {
  const t = new Table();
  for (let i = 0; i < MAC_TABLE_SIZE; i++) t.learn(0x020000000000 + i, 0, 1, i);
  t.learn(0x020000000000, 0, 1, MAC_TABLE_SIZE); // the first speaks again
  t.learn(0x030000000000 - 0x010000000000 + 0x10000000, 0, 2, MAC_TABLE_SIZE + 1);
  assert.equal(t.lookup(0x020000000000, 0, MAC_TABLE_SIZE + 2), 1);
  assert.equal(t.lookup(0x020000000001, 0, MAC_TABLE_SIZE + 2), -1);
  assert.equal(t.lookup(0x020000000002, 0, MAC_TABLE_SIZE + 2), 1);
});

test('mac table: who makes up addresses drives out none of other ports', () => {
  const t = new Table();
  t.learn(A, 0, 1, 0);
  t.learn(B, 0, 2, 0);
  for (let i = 0; i < 3 * MAC_TABLE_SIZE; i++) t.learn(0x020000100000 + i, 0, 3, 1);
  assert.equal(t.lookup(A, 0, 2), 1);
  assert.equal(t.lookup(B, 0, 2), 2);
  assert.equal(t.lookup(0x020000100000 + 3 * MAC_TABLE_SIZE - 1, 0, 2), 3);
  assert.equal(t.lookup(0x020000100000, 0, 2), -1);
});

test('mac table: whatever is learned, moved and forgotten, it is what a Map in the order of use would say', () => {
  const t = new Table();
  const model = new Map<number, { port: number; seen: number }>();
  const random = new Random(7);
  const count = new Map<number, number>();
  const counted = (port: number, by: number): void => {
    const n = (count.get(port) ?? 0) + by;
    if (n === 0) count.delete(port);
    else count.set(port, n);
  };
  const forget = (mac: number): void => {
    const was = model.get(mac);
    if (was !== undefined) counted(was.port, -1);
    model.delete(mac);
  };
  for (let now = 0; now < 60_000; now++) {
    // More addresses than the table holds; now and then a long silence.
    const mac = 0x020000000000 + random.below(MAC_TABLE_SIZE + 500);
    const at = now * 20;
    const known = model.get(mac);
    if (known !== undefined && at - known.seen >= MAC_AGING_MS) forget(mac);
    assert.equal(t.lookup(mac, 0, at), model.get(mac)?.port ?? -1);
    if (random.below(3) === 0) continue;
    // One has more than the others.
    const port = Math.max(0, random.below(7) - 3);
    if (!model.has(mac) && model.size === MAC_TABLE_SIZE) {
      const most = Math.max(...count.values());
      const [fullest] = [...count].find(([, n]) => n === most) as [number, number];
      const [oldest] = [...model].find(([, known]) => known.port === fullest) as [number, unknown];
      forget(oldest);
    }
    forget(mac);
    counted(port, 1);
    model.set(mac, { port, seen: at });
    t.learn(mac, 0, port, at);
  }
  const ports = (text: string) =>
    text
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/ +/)[0]);
  const live = [...model.values()].filter(({ seen }) => 60_000 * 20 - seen < MAC_AGING_MS);
  assert.deepEqual(
    ports(t.table.show(60_000 * 20)),
    live.map(({ port }) => String(port)),
  );
  t.table.clear();
  assert.equal(t.table.show(0).trim().split('\n').length, 1);
});

test('mac table: group and reserved addresses are told from others', () => {
  assert.equal(isMulticast(0x01000000), true);
  assert.equal(isMulticast(0x02000000), false);
  assert.equal(isMulticast(-1), true);
  assert.equal(isReserved(0x0180c200, 0), true);
  assert.equal(isReserved(0x0180c200, 0x0f), true);
  assert.equal(isReserved(0x0180c200, 0x10), false);
  assert.equal(isReserved(0x0180c201, 0), false);
});
