/** Translation is sound: whatever falls into the mask of a translation is translated to the same program,
 *  so that a cached megaflow never gives another result than a fresh look at the tables. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FLOW, KEY_WORDS } from '../../src/classifier/flow-key.js';
import { OP_RECIRC, opWords } from '../../src/datapath/program.js';
import { parseGroups } from '../../src/openflow/groups.js';
import { parseFlows } from '../../src/openflow/parser.js';
import { Pipeline } from '../../src/openflow/tables.js';
import { type Translation, Translator } from '../../src/openflow/translate.js';
import type { FlowRule } from '../../src/openflow/types.js';
import { extract, FrameLayout } from '../../src/wire/extract.js';
import { Random, view } from '../support/packets.js';
import { GROUPS, randomTable } from '../support/random-tables.js';
import { randomTraffic } from '../support/random-traffic.js';

const RUNS = Number(process.env.SHARDTRACK_PROPERTY_RUNS ?? 12) * 20;
const FIRST = Number(process.env.SHARDTRACK_PROPERTY_SEED ?? 1);

/** Recirculation ids that a program leads to. */
function recirculations(program: Int32Array): number[] {
  const ids: number[] = [];
  for (let pc = 0; pc < program.length; pc += opWords(program, pc)) {
    if (program[pc] === OP_RECIRC) ids.push(program[pc + 1]);
  }
  return ids;
}

const STATES = [0, 0x20, 0x21, 0x22, 0x2a, 0x24, 0x2c, 0x30];

/** Keys of random packets, first pass, without tracking. */
function keysOf(r: Random, n: number): Int32Array[] {
  return randomTraffic(r, { packets: n, flows: 6 }).map(({ frame, port }) => {
    const key = new Int32Array(KEY_WORDS);
    extract(view(frame), 0, frame.length, key, new FrameLayout());
    key[FLOW.IN_PORT] = port;
    return key;
  });
}

/** The key as it may come back from ct(). */
function tracked(r: Random, key: Int32Array, recirculation: number): Int32Array {
  const k = key.slice();
  k[FLOW.RECIRC_ID] = recirculation;
  k[FLOW.CT_STATE] = r.pick(STATES);
  if (k[FLOW.CT_STATE] === 0) return k;
  k[FLOW.CT_ZONE] = r.pick([0, 1, 2, 5, 10, 20]);
  k[FLOW.CT_MARK] = r.int(4);
  k[FLOW.CT_LABEL_3] = r.pick([0, 5, 0x15]);
  k[FLOW.CT_NW_SRC] = k[FLOW.NW_SRC];
  k[FLOW.CT_TP] = k[FLOW.TP];
  return k;
}

const inside = (key: Int32Array, of: Int32Array, mask: Int32Array) => {
  for (let w = 0; w < KEY_WORDS; w++) if ((key[w] ^ of[w]) & mask[w]) return false;
  return true;
};

const translatorOf = (rules: FlowRule[], ports: number[]) =>
  new Translator(new Pipeline({ rules, groups: parseGroups(GROUPS, 'groups'), ports }));

const sameWords = (a: Int32Array, b: Int32Array) => a.length === b.length && a.every((w, i) => w === b[i]);

const show = (key: Int32Array) =>
  Object.entries(FLOW)
    .filter(([, w]) => w < KEY_WORDS && key[w] !== 0)
    .map(([name, w]) => `${name}=${(key[w] >>> 0).toString(16)}`)
    .join(' ');

test('translation: a packet that falls into the mask of another gets the same program (seeded property)', () => {
  let hits = 0;
  for (let seed = FIRST; seed < FIRST + RUNS; seed++) {
    const r = new Random(seed);
    const flows = randomTable(r, { rules: 4 + r.int(20), rewriteTuples: r.once(3), groups: true });
    const translator = translatorOf(parseFlows(flows, 'drawn'), [1, 2, 3, 4]);
    const cache: (Translation & { key: Int32Array })[] = [];
    const ids = [0];
    const first = keysOf(r, 120);
    for (let i = 0; i < 400; i++) {
      const base = r.pick(first);
      const key = i < 120 ? first[i] : tracked(r, base, r.pick(ids));
      const fresh = translator.translate(key);
      for (const old of cache) {
        if (!inside(key, old.key, old.mask)) continue;
        hits++;
        if (sameWords(fresh.program, old.program)) continue;
        assert.fail(
          `${fresh.program}\nis not\n${old.program}\nseed ${seed}: ${show(key)}\nfalls into the mask of ${show(old.key)}\n(${show(old.mask)})\n${flows}`,
        );
      }
      cache.push({ ...fresh, key: key.slice() });
      for (const id of recirculations(fresh.program)) if (!ids.includes(id)) ids.push(id);
    }
  }
  assert.ok(hits > RUNS * 100, `${hits} packets fell into a mask: too few to tell`);
});

test('translation: bits outside the mask may come from any other packet (seeded property)', () => {
  for (let seed = FIRST; seed < FIRST + RUNS; seed++) {
    const r = new Random(seed ^ 0x7e57);
    const flows = randomTable(r, { rules: 4 + r.int(20), rewriteTuples: r.once(3), groups: true });
    const translator = translatorOf(parseFlows(flows, 'drawn'), [1, 2, 3, 4]);
    const keys = keysOf(r, 100);
    const ids = [0];
    for (let i = 0; i < 300; i++) {
      const key = i < 100 ? keys[i] : tracked(r, r.pick(keys), r.pick(ids));
      const { program, mask } = translator.translate(key);
      for (const id of recirculations(program)) if (!ids.includes(id)) ids.push(id);
      // Of the same network protocol: the mask always has the EtherType.
      const others = keys.filter((k) => k[FLOW.ETH_TYPE] === key[FLOW.ETH_TYPE]);
      const other = tracked(r, r.pick(others), key[FLOW.RECIRC_ID]);
      const mixed = key.map((w, n) => (w & mask[n]) | (other[n] & ~mask[n]));
      const again = translator.translate(mixed).program;
      if (sameWords(again, program)) continue;
      assert.fail(
        `${again}\nis not\n${program}\nseed ${seed}: ${show(mixed)}\nhas the masked bits of ${show(key)}\n(${show(mask)})\n${flows}`,
      );
    }
  }
});

test('translation: asking again gives the same answer, and leaves the key alone', () => {
  for (let seed = FIRST; seed < FIRST + 10; seed++) {
    const r = new Random(seed);
    const rules = parseFlows(randomTable(r, { rules: 15, groups: true }), 'drawn');
    const [a, b] = [translatorOf(rules, [1, 2, 3, 4]), translatorOf(rules, [4, 3, 2, 1])];
    for (const key of keysOf(r, 60)) {
      const before = key.slice();
      const one = a.translate(key);
      assert.deepEqual(key, before);
      assert.deepEqual(a.translate(key), one);
      assert.deepEqual(b.translate(key), one, 'the order in which ports are named does not matter');
    }
  }
});
