/** The ring of expectations that the coordinator shows. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Expectation } from '../../../src/conntrack/expectations.js';
import { allocateExpected, ExpectedRing } from '../../../src/conntrack/expected.js';

function expectation(n: number): Expectation {
  const e = new Expectation();
  e.src = n;
  e.dst = -n;
  e.port = n & 0xffff;
  e.zoneProto = (n << 16) | (6 << 8);
  e.addr6.fill(n);
  e.parent = 2 * n;
  e.created = n + 0.5;
  e.tuple.fill(3 * n);
  e.meta.set([-1, n, n + 1, n + 2, n + 3]);
  return e;
}

test('expected: what the worker writes the coordinator reads, in order', () => {
  const memory = allocateExpected();
  const writer = new ExpectedRing(memory);
  const reader = new ExpectedRing(memory);
  assert.deepEqual([...reader.records()], []);
  writer.add(expectation(1));
  writer.add(expectation(7));
  const [first, second] = reader.records();
  assert.equal(first.src, 1);
  assert.deepEqual(second, {
    src: 7,
    dst: -7,
    port: 7,
    zoneProto: (7 << 16) | 0x600,
    addr6: new Int32Array(8).fill(7),
    mark: 0xffffffff,
    label: Int32Array.of(7, 8, 9, 10),
    slot: 14,
    created: 7.5,
    parent: new Int32Array(second.parent.length).fill(21),
  });
});

test('expected: the last 16,384 are kept', () => {
  const ring = new ExpectedRing(allocateExpected());
  for (let n = 0; n < 20_000; n++) ring.add(expectation(n));
  const kept = [...ring.records()].map((e) => e.src);
  assert.deepEqual([kept.length, kept[0], kept.at(-1)], [16_384, 20_000 - 16_384, 19_999]);
});
