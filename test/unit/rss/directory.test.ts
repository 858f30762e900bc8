/** The directory of steered mode: against a plain model, with hashes that come, join classes and go. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Directory } from '../../../src/rss/directory.js';
import { Random } from '../../support/packets.js';

test('directory: hashes are classes of their own until they are joined, and again when nobody holds them', () => {
  const d = new Directory(8, 1);
  assert.equal(d.classOf(5), 5);
  const five = d.hold(5);
  const six = d.hold(6);
  d.merge(5, 6);
  assert.deepEqual([d.classOf(5), d.classOf(6), d.size], [5, 5, 2]);
  d.release(five);
  // The class keeps the name of a member that is gone.
  assert.equal(d.classOf(6), 5);
  d.release(six);
  assert.deepEqual([d.classOf(5), d.classOf(6), d.size], [5, 6, 0]);
});

test('directory: a packet in flight keeps its hash in its class, and says whether it is the first', () => {
  const d = new Directory(8, 2);
  assert.equal(d.enter(0, 7), 7);
  assert.equal(d.isFresh, true);
  const held = d.hold(9);
  d.merge(9, 7);
  assert.equal(d.enter(1, 7), 9);
  assert.equal(d.isFresh, false);
  d.release(held);
  const rows: number[] = [];
  d.rowsOf(9, (row) => rows.push(row));
  assert.deepEqual(rows, [0, 1]);
  assert.equal(d.classOfRow(1), 9);
  d.leave(0);
  d.leave(1);
  assert.equal(d.size, 0);
});

test('directory: there must be a class to merge', () => {
  const d = new Directory(2, 0);
  d.hold(1);
  assert.throws(() => d.merge(1, 2), /steering: there is no class 2/);
});

test('directory: agrees with a plain model', () => {
  for (let seed = 1; seed <= 40; seed++) {
    const r = new Random(seed);
    const slots = 1 + r.int(40);
    const d = new Directory(slots, r.word());
    const range = r.pick([4, 30, 3000]);
    const spread = r.pick([1, 4096, 0x10001]);
    const hash = () => Math.imul(r.int(range), spread) | 0;
    /** Class of each hash that somebody holds, counts, packets in flight in order. */
    const model = new Map<number, number>();
    const counts = new Map<number, number>();
    const held: { entry: number; hash: number }[] = [];
    const flight: { row: number; hash: number }[] = [];
    let next = 0;
    const more = (h: number) => {
      if (!counts.has(h)) {
        // A class that has its name from a member that is gone takes it back.
        model.set(h, h);
        counts.set(h, 0);
      }
      counts.set(h, counts.get(h)! + 1);
    };
    const less = (h: number) => {
      counts.set(h, counts.get(h)! - 1);
      if (counts.get(h) === 0 && !others(h)) {
        counts.delete(h);
        const name = model.get(h)!;
        model.delete(h);
        if (name !== h && counts.get(name) === 0 && !others(name)) {
          counts.delete(name);
          model.delete(name);
        }
      }
    };
    const others = (h: number) => [...model].some(([x, name]) => x !== h && name === h);
    for (let step = 0; step < 800; step++) {
      const what = r.int(6);
      if (what === 0 && flight.length < slots) {
        const h = hash();
        more(h);
        const row = next++ % slots;
        flight.push({ row, hash: h });
        assert.equal(d.enter(row, h), model.get(h));
      } else if (what === 1 && flight.length > 0) {
        const { row, hash: h } = flight.shift()!;
        d.leave(row);
        less(h);
      } else if (what === 2) {
        const h = hash();
        more(h);
        held.push({ entry: d.hold(h), hash: h });
      } else if (what === 3 && held.length > 0) {
        const [{ entry, hash: h }] = held.splice(r.int(held.length), 1);
        d.release(entry);
        less(h);
      } else if (what === 4 && held.length > 1) {
        const [a, b] = [r.pick(held), r.pick(held)].map(({ hash: h }) => model.get(h)!);
        if (a !== b) {
          d.merge(a, b);
          for (const [h, name] of model) if (name === b) model.set(h, a);
          if (counts.get(b) === 0) {
            counts.delete(b);
            model.delete(b);
          }
        }
      } else {
        const h = hash();
        assert.equal(d.classOf(h), model.get(h) ?? h, `seed ${seed}, step ${step}`);
        const name = model.get(h) ?? h;
        const rows: number[] = [];
        d.rowsOf(name, (row) => rows.push(row));
        const want = flight.filter((f) => model.get(f.hash) === name).map((f) => f.row);
        assert.deepEqual(rows.sort(), want.sort(), `seed ${seed}, step ${step}`);
      }
      assert.equal(d.size, model.size, `seed ${seed}, step ${step}`);
    }
  }
});
