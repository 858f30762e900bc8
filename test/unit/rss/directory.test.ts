/** The directory of steered mode: against a plain model, with hashes that come, join classes and go. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Directory, movedTo } from '../../../src/rss/directory.js';
import { Random } from '../../support/packets.js';

/** Holds a hash; returns its node. */
function hold(d: Directory, hash: number): number {
  const node = d.obtain(hash);
  d.hold(node);
  return node;
}

function rowsOf(d: Directory, name: number): number[] {
  const rows: number[] = [];
  d.rowsOf(name, rows);
  return rows;
}

test('directory: hashes are classes of their own until they are joined, and again when nobody holds them', () => {
  const d = new Directory(8, 1);
  assert.equal(d.classOf(5), 5);
  const five = hold(d, 5);
  const six = hold(d, 6);
  d.merge(5, 6);
  assert.deepEqual([d.classOf(5), d.classOf(6), d.size], [5, 5, 2]);
  d.releaseLater(five);
  d.settle();
  // The class keeps the name of a member that is gone.
  assert.equal(d.classOf(6), 5);
  d.releaseLater(six);
  d.settle();
  assert.deepEqual([d.classOf(5), d.classOf(6), d.size], [5, 6, 0]);
});

test('directory: a hash stays in its class until no packet is in flight that was given it', () => {
  const d = new Directory(8, 2);
  const nodes = [hold(d, 7), hold(d, 9)];
  d.merge(9, 7);
  assert.equal(d.nameOf(d.enter(0, 7)), 9);
  for (const node of nodes) d.releaseLater(node);
  d.settle();
  assert.equal(d.classOf(7), 9);
  // And so does one that comes when nobody else holds it any more.
  assert.equal(d.nameOf(d.enter(1, 7)), 9);
  d.leave(0);
  d.settle();
  assert.equal(d.classOf(7), 9);
  assert.deepEqual([rowsOf(d, 9), d.firstRow(7), d.firstRow(9)], [[1], 1, -1]);
  d.leave(1);
  d.settle();
  assert.deepEqual([d.classOf(7), d.size, d.firstRow(7)], [7, 0, -1]);
  // A packet whose hash is not named leaves nothing behind.
  assert.equal(d.enter(2, 7), -1);
  assert.deepEqual([rowsOf(d, 7), d.size], [[2], 0]);
});

test('directory: a fresh hash joins the class of another', () => {
  const d = new Directory(8, 2);
  const one = hold(d, 1);
  d.attach(hold(d, 2), one);
  d.attach(hold(d, 3), one);
  assert.deepEqual(
    [1, 2, 3].map((h) => d.classOf(h)),
    [1, 1, 1],
  );
  hold(d, 4);
  d.merge(4, 1);
  assert.deepEqual(
    [1, 2, 3, 4].map((h) => d.classOf(h)),
    [4, 4, 4, 4],
  );
});

test('directory: there must be a class to merge', () => {
  const d = new Directory(2, 0);
  hold(d, 1);
  assert.throws(() => d.merge(1, 2), /steering: there is no class 2/);
});

test('directory: agrees with a plain model', () => {
  for (let seed = 1; seed <= 40; seed++) {
    const r = new Random(seed);
    const slots = 1 + r.int(40);
    const d = new Directory(slots, r.word());
    const range = seed > 2 ? r.pick([4, 30, 3000]) : 100_000;
    const steps = range > 3000 ? 24_000 : 800;
    const spread = r.pick([1, 4096, 0x10001]);
    const hash = () => Math.imul(r.int(range), spread) | 0;
    /** Class of each hash that is named, how many hold it, whether some are to be released; hashes by class. */
    const model = new Map<number, number>();
    const counts = new Map<number, number>();
    const leaving = new Set<number>();
    const sizes = new Map<number, number>();
    const resize = (name: number, by: number) => sizes.set(name, (sizes.get(name) ?? 0) + by);
    const others = (h: number) => model.get(h) === h && sizes.get(h)! > 1;
    const held: { node: number; hash: number }[] = [];
    d.onMoved = (to) => {
      for (const h of held) h.node = movedTo(h.node, to);
    };
    /** Packets in flight in order, and whether they were given a class. */
    const flight: { row: number; hash: number; named: boolean }[] = [];
    let entered = 0;
    let left = 0;
    let queue: { hash: number; at: number }[] = [];
    const forget = (h: number) => {
      const name = model.get(h)!;
      counts.delete(h);
      model.delete(h);
      leaving.delete(h);
      resize(name, -1);
      if (name !== h && counts.get(name) === 0 && !others(name)) forget(name);
    };
    const later = (h: number) => {
      leaving.add(h);
      queue.push({ hash: h, at: entered });
    };
    const more = (h: number) => {
      if (!model.has(h)) {
        model.set(h, h);
        resize(h, 1);
        counts.set(h, 0);
      }
      counts.set(h, counts.get(h)! + 1);
    };
    const settle = () => {
      for (const { hash: h, at } of queue) {
        if (at > left) continue;
        counts.set(h, counts.get(h)! - 1);
        if (counts.get(h) === 0 && !others(h)) forget(h);
      }
      queue = queue.filter(({ at }) => at > left);
    };
    for (let step = 0; step < steps; step++) {
      // At first more come than go, in some cases many more than there is room for.
      const what = steps > 800 && step < steps * 0.8 && r.int(19) > 0 ? 2 : r.int(7);
      if (what === 0 && flight.length < slots) {
        const h = hash();
        const row = entered++ % slots;
        flight.push({ row, hash: h, named: model.has(h) });
        if (leaving.has(h)) {
          more(h);
          later(h);
        }
        const node = d.enter(row, h);
        assert.equal(node < 0 ? undefined : d.nameOf(node), model.get(h));
      } else if (what === 1 && flight.length > 0) {
        d.leave(flight.shift()!.row);
        left++;
      } else if (what === 2) {
        const h = hash();
        more(h);
        held.push({ node: hold(d, h), hash: h });
      } else if (what === 3 && held.length > 0) {
        const [{ node, hash: h }] = held.splice(r.int(held.length), 1);
        d.releaseLater(node);
        later(h);
      } else if (what === 4 && held.length > 1) {
        const [a, b] = [r.pick(held), r.pick(held)].map(({ hash: h }) => model.get(h)!);
        if (a !== b) {
          d.merge(a, b);
          for (const [h, name] of model) if (name === b) model.set(h, a);
          resize(a, sizes.get(b)!);
          sizes.set(b, 0);
          if (counts.get(b) === 0) forget(b);
        }
      } else if (what === 5) {
        d.settle();
        settle();
      } else {
        const h = hash();
        assert.equal(d.classOf(h), model.get(h) ?? h, `seed ${seed}, step ${step}`);
        const name = model.get(h) ?? h;
        const want = flight.filter((f) => (model.get(f.hash) ?? f.hash) === name).map((f) => f.row);
        assert.deepEqual(rowsOf(d, name).sort(), want.sort(), `seed ${seed}, step ${step}`);
        assert.equal(d.firstRow(h), flight.find((f) => f.hash === h)?.row ?? -1);
      }
      assert.equal(d.size, model.size, `seed ${seed}, step ${step}`);
      for (const f of flight) assert.ok(!f.named || model.has(f.hash), `seed ${seed}, step ${step}`);
    }
  }
});
