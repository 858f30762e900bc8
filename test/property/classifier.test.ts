/** The classifier beside a plain list: the same answers after any changes, and wildcards that hold. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FLOW, FLOW_WORDS, KEY_WORDS } from '../../src/classifier/flow-key.js';
import { RuleTable } from '../../src/openflow/classifier.js';
import type { Action, FlowRule, Match } from '../../src/openflow/types.js';

const RUNS = Number(process.env.SHARDTRACK_PROPERTY_RUNS ?? 12) * 40;

/** Matches on one word: few values, so that rules and flows meet. */
interface Piece {
  word: number;
  value: number;
  mask: number;
}

const prefix = (bits: number) => (bits === 0 ? 0 : -1 << (32 - bits));
const address = fc.oneof(
  fc.integer({ min: 0, max: 3 }).map((n) => 0x0a000000 | n),
  fc.integer({ min: 0, max: 0xffff }).map((n) => 0x0a000000 | n),
  fc.integer(),
);
const port = fc.oneof(fc.integer({ min: 78, max: 82 }), fc.integer({ min: 0, max: 0xffff }));
const anyAddress = fc.constantFrom(
  FLOW.NW_SRC,
  FLOW.NW_DST,
  FLOW.IPV6_SRC_0,
  FLOW.ETH_SRC_LO,
  FLOW.CT_NW_SRC,
);

const exact = (word: number, values: readonly number[], mask = -1): fc.Arbitrary<Piece> =>
  fc.constantFrom(...values).map((value) => ({ word, value, mask }));

const piece: fc.Arbitrary<Piece> = fc.oneof(
  exact(FLOW.REG0, [0, 1, 2]),
  exact(FLOW.METADATA_LO, [0, 7]),
  exact(FLOW.CONJ_ID, [1, 2]),
  exact(FLOW.IN_PORT, [1, 2]),
  exact(FLOW.ETH_TYPE, [0x0800, 0x86dd], 0xffff),
  exact(FLOW.NW, [6, 17, 1], 0xff),
  exact(FLOW.NW, [0, 1 << 24], 0xff000000 | 0),
  exact(FLOW.CT_STATE, [0x20, 0x21], 0x21),
  exact(FLOW.CT_STATE, [0x22], 0x22),
  exact(FLOW.VLAN_0, [0, 0x1001], 0x1fff),
  fc
    .record({ word: anyAddress, value: address, bits: fc.integer({ min: 1, max: 32 }) })
    .map(({ word, value, bits }) => ({ word, value, mask: prefix(bits) })),
  fc.record({ word: anyAddress, value: address, mask: fc.constantFrom(1, 0xff00ff, -1) }),
  fc.record({ value: port, bits: fc.integer({ min: 1, max: 16 }) }).map(({ value, bits }) => ({
    word: FLOW.TP,
    value,
    mask: prefix(bits + 16) & 0xffff,
  })),
  fc.record({ value: port, bits: fc.integer({ min: 1, max: 16 }) }).map(({ value, bits }) => ({
    word: FLOW.TP,
    value: value << 16,
    mask: prefix(bits),
  })),
  fc.record({
    word: fc.constant(FLOW.ETH_DST_LO_SRC_HI),
    value: fc.integer(),
    mask: fc.constantFrom(-1, 0xffff0000 | 0, 0xffff, 0xf0),
  }),
);

const ipv6: fc.Arbitrary<Piece[]> = fc
  .record({
    first: fc.constantFrom(0xfd, 0xfe),
    last: fc.integer({ min: 0, max: 7 }),
    bits: fc.integer({ min: 1, max: 128 }),
  })
  .map(({ first, last, bits }) =>
    [first << 24, 0, 0, last].map((value, i) => ({
      word: FLOW.IPV6_DST_0 + i,
      value,
      mask: prefix(Math.min(32, Math.max(0, bits - i * 32))),
    })),
  );

function makeMatch(pieces: readonly Piece[]): Match {
  const match = { value: new Int32Array(FLOW_WORDS), mask: new Int32Array(FLOW_WORDS) };
  for (const { word, value, mask } of pieces) {
    match.value[word] = (match.value[word] & ~mask) | (value & mask);
    match.mask[word] |= mask;
  }
  return match;
}

const match: fc.Arbitrary<Match> = fc
  .tuple(fc.array(piece, { maxLength: 3 }), fc.option(ipv6, { freq: 6 }))
  .map(([pieces, address6]) => makeMatch([...pieces, ...(address6 ?? [])]));

const clause: fc.Arbitrary<Action> = fc
  .record({ id: fc.integer({ min: 1, max: 3 }), clause: fc.integer({ min: 0, max: 1 }) })
  .map(({ id, clause }) => ({ kind: 'conjunction', id, clause, nClauses: 2 }));

const actions: fc.Arbitrary<Action[]> = fc.oneof(
  { arbitrary: fc.constant<Action[]>([{ kind: 'drop' }]), weight: 3 },
  { arbitrary: fc.array(clause, { minLength: 1, maxLength: 2 }), weight: 2 },
);

/** A rule on one line of a failure's message. */
function show(r: { match: Match; priority: number; actions: Action[] }): string {
  const words = [...r.match.mask.keys()].filter((w) => r.match.mask[w] !== 0);
  const hex = (n: number) => (n >>> 0).toString(16);
  const name = (w: number) => Object.keys(FLOW)[w];
  const text = words.map((w) => `${name(w)}=${hex(r.match.value[w])}/${hex(r.match.mask[w])}`);
  const actions = r.actions.map((a) =>
    a.kind === 'conjunction' ? `${a.id}:${a.clause + 1}/${a.nClauses}` : a.kind,
  );
  return `\n${r.priority} ${text} ${actions}`;
}

const rule: fc.Arbitrary<FlowRule> = fc
  .record({ match, priority: fc.integer({ min: 0, max: 4 }), actions })
  .map((r) => ({
    ...r,
    table: 0,
    cookie: 0n,
    idleTimeout: 0,
    hardTimeout: 0,
    pos: { file: '', line: 1, column: 1, length: 1 },
    text: '',
    [fc.toStringMethod]: () => show(r),
  }));

const flow: fc.Arbitrary<Int32Array> = fc
  .tuple(fc.array(piece, { maxLength: 14 }), fc.option(ipv6), fc.integer({ min: 0, max: 2 }))
  .map(([pieces, address6, reg]) => {
    const { value } = makeMatch([...pieces, ...(address6 ?? [])].map((p) => ({ ...p, mask: -1 })));
    value[FLOW.REG0] = reg;
    value[FLOW.CONJ_ID] = 0;
    return value;
  });

const same = (a: Int32Array, b: Int32Array) => a.every((w, i) => w === b[i]);
const sameMatch = (a: Match, b: Match) => same(a.mask, b.mask) && same(a.value, b.value);
const matches = (r: FlowRule, f: Int32Array) =>
  r.match.mask.every((m, w) => ((f[w] ^ r.match.value[w]) & m) === 0);
const soft = (r: FlowRule) => r.actions.some((a) => a.kind === 'conjunction');

/** Of rules that differ in priority only, the first. */
const topmost = (hitting: readonly FlowRule[]) =>
  hitting.filter((r) => !hitting.some((o) => o.priority > r.priority && sameMatch(o.match, r.match)));

/** The first conjunction that the rule's clauses complete, after those in `done`. */
function completed(r: FlowRule, nClauses: number, done: Map<number, Set<number>>): number | null {
  for (const a of r.actions) {
    if (a.kind !== 'conjunction' || a.nClauses > nClauses) continue;
    const met = done.get(a.id) ?? new Set();
    done.set(a.id, met.add(a.clause));
    if (met.size === a.nClauses) return a.id;
  }
  return null;
}

/** What ovs-fields(7) says, and lib/classifier.c where it doesn't: of rules that differ in priority only,
 *  the lower ones count when the higher one is a clause and its conjunctions have failed. */
function expected(rules: readonly FlowRule[], f: Int32Array): FlowRule | null {
  const hitting = rules.filter((r) => matches(r, f));
  let heads = topmost(hitting);
  const best = (of: readonly FlowRule[]) =>
    of
      .filter((r) => !soft(r))
      .reduce<FlowRule | null>((b, r) => (b === null || r.priority > b.priority ? r : b), null);
  for (;;) {
    heads.sort((a, b) => rules.indexOf(a) - rules.indexOf(b));
    const hard = best(heads);
    const top = Math.max(-1, ...heads.filter(soft).map((r) => r.priority));
    if (top <= (hard?.priority ?? -1)) return hard;
    const clauses = heads.filter((r) => soft(r) && r.priority === top);
    const done = new Map<number, Set<number>>();
    for (const clause of clauses) {
      const id = completed(clause, clauses.length, done);
      if (id === null) continue;
      const again = f.slice();
      again[FLOW.CONJ_ID] = id;
      const found = best(topmost(rules.filter((r) => matches(r, again))));
      if (found !== null) return found;
    }
    heads = heads.flatMap((r) => {
      if (!clauses.includes(r)) return [r];
      const lower = hitting.filter((o) => o.priority < r.priority && sameMatch(o.match, r.match));
      return lower.sort((a, b) => b.priority - a.priority).slice(0, 1);
    });
  }
}

/** The rules without those that another one of the same match and priority precedes. */
const distinct = (rules: readonly FlowRule[]) =>
  rules.filter(
    (r, i) => !rules.slice(0, i).some((o) => o.priority === r.priority && sameMatch(o.match, r.match)),
  );

const ruleList = fc.oneof(
  fc.array(rule, { maxLength: 12 }),
  fc.array(rule, { minLength: 40, maxLength: 80, size: 'max' }),
);

function build(
  rules: readonly FlowRule[],
  drop: readonly number[],
): { table: RuleTable<FlowRule>; left: FlowRule[] } {
  const table = new RuleTable<FlowRule>();
  const members = distinct(rules);
  for (const r of members) table.insert(r);
  const gone = new Set(members.filter((_, i) => drop.includes(i % 7)));
  for (const r of gone) assert.ok(table.remove(r));
  for (const r of gone) assert.ok(!table.remove(r));
  return { table, left: members.filter((r) => !gone.has(r)) };
}

const drops = fc.array(fc.integer({ min: 0, max: 6 }), { maxLength: 3 });

test('classifier: finds what a search of the list finds, and leaves the flow alone', () => {
  fc.assert(
    fc.property(ruleList, drops, fc.array(flow, { minLength: 10, maxLength: 10 }), (rules, drop, flows) => {
      const { table, left } = build(rules, drop);
      assert.equal(table.size, left.length);
      assert.deepEqual([...table.rules()], left);
      for (const r of left) assert.equal(table.find(r.match, r.priority), r);
      for (const r of left) assert.equal(table.find(r.match, 9), null);
      for (const f of flows) {
        const before = f.slice();
        const found = table.lookup(f, new Int32Array(FLOW_WORDS));
        assert.deepEqual(f, before);
        assert.equal(found, expected(left, f));
      }
    }),
    { numRuns: RUNS },
  );
});

test('classifier: a flow with the same bits where the answer looked gets the same answer', () => {
  fc.assert(
    fc.property(
      ruleList,
      drops,
      fc.array(flow, { minLength: 12, maxLength: 12 }),
      fc.infiniteStream(fc.integer()),
      (rules, drop, flows, noise) => {
        const { table } = build(rules, drop);
        for (const f of flows) {
          const wild = new Int32Array(FLOW_WORDS);
          const found = table.lookup(f, wild);
          for (const other of [...flows, ...flows]) {
            const bits = noise.next().value;
            const mixed = f.map((w, i) =>
              i >= KEY_WORDS ? w : (w & wild[i]) | ((other[i] ^ (bits & 1 ? 0 : bits)) & ~wild[i]),
            );
            assert.equal(table.lookup(mixed, new Int32Array(FLOW_WORDS)), found);
          }
        }
      },
    ),
    { numRuns: RUNS },
  );
});

test('classifier: bits that are looked at already are put to use, and stay', () => {
  fc.assert(
    fc.property(
      ruleList,
      fc.array(flow, { minLength: 8, maxLength: 8 }),
      fc.infiniteStream(fc.integer()),
      (rules, flows, bits) => {
        const { table, left } = build(rules, []);
        for (const f of flows) {
          const wild = new Int32Array(FLOW_WORDS).map(() => bits.next().value & bits.next().value);
          const before = wild.slice();
          const found = table.lookup(f, wild);
          assert.equal(found, expected(left, f));
          assert.ok(before.every((w, i) => (w & ~wild[i]) === 0));
          for (const other of flows) {
            const mixed = f.map((w, i) => (i >= KEY_WORDS ? w : (w & wild[i]) | (other[i] & ~wild[i])));
            assert.equal(table.lookup(mixed, before.slice()), found);
          }
        }
      },
    ),
    { numRuns: RUNS },
  );
});
