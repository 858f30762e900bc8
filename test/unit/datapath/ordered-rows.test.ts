import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { OrderedRows } from '../../../src/datapath/ordered-rows.js';

const SLOTS = 300;

test('ordered rows: as a list that is sorted after every change', () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant('insert' as const), row: fc.nat(SLOTS - 1) }),
    fc.record({ kind: fc.constant('remove' as const), row: fc.nat(SLOTS - 1) }),
    fc.record({ kind: fc.constant('shift' as const), row: fc.nat(5) }),
  );
  fc.assert(
    fc.property(
      fc.shuffledSubarray(
        Array.from({ length: SLOTS }, (_, i) => i),
        { minLength: SLOTS, maxLength: SLOTS },
      ),
      fc.array(step, { minLength: 200, maxLength: 1000 }),
      (numbers, steps) => {
        const seq = Float64Array.from(numbers);
        const rows = new OrderedRows(seq);
        const list: number[] = [];
        for (const { kind, row } of steps) {
          if (kind === 'insert') {
            if (list.includes(row)) continue;
            rows.insert(row);
            list.push(row);
            list.sort((a, b) => seq[a] - seq[b]);
          } else if (kind === 'remove') {
            const at = list.indexOf(row);
            assert.equal(rows.remove(row), at >= 0);
            if (at >= 0) list.splice(at, 1);
          } else {
            const n = Math.min(row, list.length);
            rows.shift(n);
            list.splice(0, n);
          }
          assert.deepEqual(
            Array.from({ length: rows.length }, (_, i) => rows.at(i)),
            list,
          );
        }
      },
    ),
    { numRuns: 30 },
  );
});

test('ordered rows: many more than there is room for at first', () => {
  const rows = new OrderedRows(Float64Array.from({ length: SLOTS }, (_, i) => i));
  for (let row = 0; row < 60; row++) rows.insert(row);
  // Most have left when the end is reached: then the rest moves down; later it needs more room.
  rows.shift(50);
  for (let row = 60; row < SLOTS; row++) rows.insert(row);
  assert.deepEqual(
    Array.from({ length: rows.length }, (_, i) => rows.at(i)),
    Array.from({ length: SLOTS - 50 }, (_, i) => 50 + i),
  );
});
