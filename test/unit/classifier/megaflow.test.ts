/** The megaflow cache beside a linear scan over its entries. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ctStateText, FLOW, KEY_WORDS } from '../../../src/classifier/flow-key.js';
import { MegaflowCache } from '../../../src/classifier/megaflow.js';
import { Random } from '../../support/packets.js';

interface Linear {
  key: Int32Array;
  mask: Int32Array;
  program: Int32Array;
}

function matches(e: Linear, key: Int32Array): boolean {
  for (let w = 0; w < KEY_WORDS; w++) if ((key[w] & e.mask[w]) !== (e.key[w] & e.mask[w])) return false;
  return true;
}

/** Keys with few distinct values in few words, so that they meet. */
function randomKey(r: Random): Int32Array {
  const key = new Int32Array(KEY_WORDS);
  key[FLOW.IN_PORT] = 1 + r.int(3);
  key[FLOW.RECIRC_ID] = r.int(2);
  key[FLOW.NW_SRC] = (r.int(4) << 30) | r.int(4);
  key[FLOW.TP] = r.int(16) << 28;
  key[FLOW.CT_IPV6_DST_3] = -r.int(2);
  return key;
}

function randomMask(r: Random): Int32Array {
  const mask = new Int32Array(KEY_WORDS);
  mask[FLOW.IN_PORT] = mask[FLOW.RECIRC_ID] = -1;
  if (r.once(2)) mask[FLOW.NW_SRC] = r.once(2) ? -1 : 0x80000000 | 0;
  if (r.once(2)) mask[FLOW.TP] = r.once(2) ? 0xffff0000 | 0 : -1;
  if (r.once(3)) mask[FLOW.CT_IPV6_DST_3] = -1;
  return mask;
}

test('megaflow: finds what a linear scan finds, through growth and reordering of masks (property)', () => {
  fc.assert(
    fc.property(fc.integer(), fc.integer({ min: 1, max: 300 }), (seed, steps) => {
      const r = new Random(seed);
      const cache = new MegaflowCache();
      const linear: Linear[] = [];
      for (let i = 0; i < steps; i++) {
        const key = randomKey(r);
        const want = linear.filter((e) => matches(e, key));
        const got = cache.find(key);
        if (want.length === 0) {
          assert.equal(got, null);
          const mask = randomMask(r);
          const program = Int32Array.of(i);
          // As with upcalls: an entry is only made where none is, but may overlap with others.
          linear.push({ key: key.slice(), mask, program });
          assert.equal(cache.insert(key, mask, program).program, program);
        } else {
          assert.ok(got !== null && want.some((e) => e.program === got.program));
        }
      }
      assert.equal(cache.size, linear.length);
      assert.equal(cache.entries().length, linear.length);
    }),
    { numRuns: 60 },
  );
});

test('megaflow: bits outside the mask do not matter, every bit inside does', () => {
  const cache = new MegaflowCache();
  const r = new Random(3);
  const key = Int32Array.from({ length: KEY_WORDS }, () => r.word() | 0);
  const mask = Int32Array.from({ length: KEY_WORDS }, () => (r.once(2) ? r.word() | 0 : 0));
  cache.insert(key, mask, Int32Array.of(1));
  for (let w = 0; w < KEY_WORDS; w++) {
    for (let bit = 0; bit < 32; bit++) {
      const other = key.slice();
      other[w] ^= 1 << bit;
      assert.equal(cache.find(other) === null, ((mask[w] >>> bit) & 1) === 1, `word ${w}, bit ${bit}`);
    }
  }
});

test('megaflow: the entry does not keep the arrays that it was made from', () => {
  const cache = new MegaflowCache();
  const key = new Int32Array(KEY_WORDS).fill(7);
  const mask = new Int32Array(KEY_WORDS).fill(-1);
  cache.insert(key, mask, Int32Array.of(1));
  const asked = key.slice();
  key.fill(0);
  mask.fill(0);
  assert.ok(cache.find(asked) !== null);
  assert.equal(cache.find(key), null);
});

test('megaflow: a full cache keeps what is in use, and nothing else is lost', () => {
  const r = new Random(1);
  const LIMIT = 200;
  const cache = new MegaflowCache(() => 0, LIMIT);
  const mask = new Int32Array(KEY_WORDS).fill(-1);
  const keyOf = (i: number) => {
    const key = new Int32Array(KEY_WORDS);
    key[FLOW.NW_SRC] = i;
    return key;
  };
  const busy = [0, 1, 2, 3, 4].map(keyOf);
  let lost = 0;
  for (let i = 5; i < 10_000; i++) {
    for (const key of busy) {
      if (cache.find(key) !== null) continue;
      lost++;
      cache.insert(key, mask, Int32Array.of(-1));
    }
    const narrow = mask.slice();
    narrow[FLOW.TP] = r.int(3);
    cache.insert(keyOf(i), narrow, Int32Array.of(i));
    assert.ok(cache.size <= LIMIT);
    assert.equal(cache.find(keyOf(i))?.program[0], i);
  }
  // Entries that are used once go before those that are used all the time.
  assert.ok(lost < 60, `${lost} upcalls for five busy flows`);
  assert.equal(cache.evictions, 9995 + lost - LIMIT);
  const left = cache.entries();
  assert.equal(left.length, LIMIT);
  for (const entry of left) assert.equal(cache.find(entry.key), entry);
});

test('megaflow: masks without entries go away, and clear() forgets all', () => {
  const cache = new MegaflowCache(() => 0, 3);
  const mask = (bits: number) => {
    const m = new Int32Array(KEY_WORDS);
    m[FLOW.NW_SRC] = bits;
    m[FLOW.IN_PORT] = -1;
    return m;
  };
  const key = (port: number) => {
    const k = new Int32Array(KEY_WORDS);
    k[FLOW.IN_PORT] = port;
    return k;
  };
  for (let i = 1; i <= 3; i++) cache.insert(key(i), mask(1 << i), Int32Array.of(i));
  assert.equal(cache.masks(), 3);
  for (let i = 4; i <= 6; i++) cache.insert(key(i), mask(1), Int32Array.of(i));
  assert.equal(cache.masks(), 1);
  cache.clear();
  assert.deepEqual([cache.size, cache.masks(), cache.find(key(6))], [0, 0, null]);
  cache.insert(key(1), mask(1), Int32Array.of(1));
  assert.equal(cache.size, 1);
});

test('ct_state text: flags in bit order', () => {
  assert.equal(ctStateText(0), '');
  assert.equal(ctStateText(0x21), '+new+trk');
  assert.equal(ctStateText(0x2a), '+est+rpl+trk');
  assert.equal(ctStateText(0xff), '+new+est+rel+rpl+inv+trk+snat+dnat');
});
