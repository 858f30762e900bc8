/** The wheel beside a Map of due times. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Wheel } from '../../../src/conntrack/wheel.js';

const SLOTS = 12;
/** Distances in ms: within a list word, an epoch, a few epochs, and beyond the far wheel. */
const span = fc.oneof(
  fc.nat(40),
  fc.nat(70_000),
  fc.nat(400_000),
  fc.constantFrom(65_535, 65_536, 65_537, 4096 * 65_536 + 5, 2 ** 40),
);

/** A wheel whose slots are gone once their time has come. */
class Bench {
  readonly wheel = new Wheel(SLOTS);
  readonly dueAt = new Map<number, number>();
  clock = 0;
  asked = 0;

  put(slot: number, due: number): void {
    this.dueAt.set(slot, due);
    this.wheel.put(slot, due);
  }

  take(slot: number): void {
    this.dueAt.delete(slot);
    this.wheel.take(slot);
  }

  advance(ms: number, budget = Infinity): void {
    this.clock += ms;
    this.wheel.advance(this.clock, budget, {
      due: (slot, clock) => {
        this.asked++;
        const due = this.dueAt.get(slot);
        assert.ok(due !== undefined, `slot ${slot} has been taken out`);
        assert.equal(clock, this.clock);
        if (due >= clock) return due;
        this.dueAt.delete(slot);
        return -1;
      },
    });
  }
}

test('wheel: whatever was due earlier has been asked about, whenever it was put in or moved (property)', () => {
  const command = fc.oneof(
    { weight: 6, arbitrary: fc.record({ op: fc.constant('put'), slot: fc.nat(SLOTS - 1), ms: span }) },
    {
      weight: 2,
      arbitrary: fc.record({ op: fc.constant('take'), slot: fc.nat(SLOTS - 1), ms: fc.constant(0) }),
    },
    { weight: 5, arbitrary: fc.record({ op: fc.constant('advance'), slot: fc.constant(0), ms: span }) },
  );
  fc.assert(
    fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
      const b = new Bench();
      for (const { op, slot, ms } of commands) {
        if (op === 'put') b.put(slot, b.clock + ms);
        else if (op === 'take') b.take(slot);
        else {
          const before = new Map(b.dueAt);
          b.advance(ms);
          for (const [s, due] of before) {
            assert.equal(b.dueAt.has(s), due >= b.clock, `slot ${s}, due at ${due}, at ${b.clock}`);
          }
        }
      }
    }),
    { numRuns: 400 },
  );
});

test('wheel: what a budget leaves over is asked about later, each slot once', () => {
  const b = new Bench();
  for (let slot = 0; slot < SLOTS; slot++) b.put(slot, slot < 6 ? 10 : 70_000);
  b.advance(11, 4);
  assert.equal(b.dueAt.size, SLOTS - 4);
  b.advance(0, 1);
  assert.equal(b.dueAt.size, SLOTS - 5);
  b.advance(70_000, 3);
  assert.equal(b.dueAt.size, SLOTS - 8);
  b.advance(0);
  assert.equal(b.dueAt.size, 0);
  assert.ok(b.asked <= SLOTS + 6, 'those of the second epoch may be asked twice');
});

test('wheel: a moved slot is due at its new time only', () => {
  const b = new Bench();
  b.put(3, 10);
  b.put(3, 500_000);
  b.advance(400_000);
  assert.equal(b.asked, 0);
  b.put(3, 400_001);
  b.advance(2);
  assert.equal(b.dueAt.size, 0);
  assert.equal(b.asked, 1);
});

test('wheel: a slot that is due within 65 s is asked about once, wherever the cursor stands', () => {
  for (const start of [0, 1, 5536, 30_000, 65_535, 65_536, 131_071]) {
    const b = new Bench();
    b.advance(start);
    b.put(3, start + 60_000);
    b.advance(60_000);
    assert.equal(b.asked, 0, `put in at ${start}: asked early`);
    b.advance(1);
    assert.equal(b.asked, 1, `put in at ${start}`);
    assert.equal(b.dueAt.size, 0);
  }
});

test('wheel: what peek names is what advance asks about next (property)', () => {
  fc.assert(
    fc.property(
      fc.nat(200_000),
      fc.array(fc.nat(3000), { minLength: 1, maxLength: SLOTS }),
      fc.nat(3000),
      fc.integer({ min: 1, max: SLOTS }),
      (start, dues, ms, most) => {
        const b = new Bench();
        b.advance(start);
        for (const [slot, due] of dues.entries()) b.put(slot, start + due);
        const slots = new Int32Array(most);
        const n = b.wheel.peek(start + ms, slots);
        const before = new Set(b.dueAt.keys());
        b.advance(ms, n);
        const gone = [...before].filter((slot) => !b.dueAt.has(slot));
        assert.deepEqual(
          gone.sort((x, y) => x - y),
          [...slots.subarray(0, n)].sort((x, y) => x - y),
        );
        // It may miss some only where the wheel begins anew.
        const due = dues.filter((d) => d < ms).length;
        if (Math.floor(start / 65_536) === Math.floor((start + ms) / 65_536)) {
          assert.equal(n, Math.min(due, most));
        }
      },
    ),
  );
});

test('wheel: what is put in while it is years behind is asked about twice at most', () => {
  const YEARS = 82_000_000_000;
  const b = new Bench();
  for (let slot = 0; slot < SLOTS; slot++) b.put(slot, 10);
  b.advance(YEARS, 4);
  assert.equal(b.asked, 4);
  for (let slot = 0; slot < SLOTS; slot++) if (!b.dueAt.has(slot)) b.put(slot, b.clock + 60_000);
  b.advance(0);
  assert.equal(b.dueAt.size, 4);
  b.advance(60_001);
  assert.equal(b.dueAt.size, 0);
  assert.ok(b.asked <= SLOTS + 8, `${b.asked}`);
});
