/** A short run of every fuzzer, and that each can fail. `npm run fuzz` runs them for longer.
 *
 *  SHARDTRACK_FUZZ_SEED=S draws other inputs. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { allocatePartition, PartitionWriter } from '../../src/conntrack/partition.js';
import { audit, auditAll, plant } from '../support/canaries.js';
import { Random } from '../support/packets.js';
import { readCorpus } from './corpus.js';
import { fuzz } from './fuzz.js';
import { FUZZ_MUTANTS, mutated } from './mutants.js';
import type { MakeTarget } from './target.js';
import { TARGETS } from './targets.js';

const SEED = Number(process.env.SHARDTRACK_FUZZ_SEED ?? 20_261_123);
const SHORT_MS = 300;
/** A deliberate mistake must be found within so many inputs. */
const FOUND_WITHIN = 30_000;

auditAll();

/** Runs inputs for a while; returns the first that breaks something, and what. */
async function play(make: MakeTarget, bug: boolean, most: number, ms: number): Promise<string | null> {
  const target = make(bug);
  const r = new Random(SEED);
  const corpus = [...target.seeds(), ...readCorpus(target.name)];
  if (corpus.length === 0) corpus.push(r.bytes(4));
  const until = performance.now() + ms;
  for (let n = 0; n < most && (n < 5 || performance.now() < until); n++) {
    const input = target.mutate(r, r.pick(corpus), corpus);
    try {
      await target.run(input);
    } catch (error) {
      return `seed ${SEED}: npm run fuzz -- --run ${target.name}=${Buffer.from(input).toString('hex')}\n${(error as Error).stack}`;
    }
  }
  return null;
}

describe('fuzz', () => {
  for (const make of TARGETS) {
    const { name, about } = make(false);
    test(`${name}: ${about}: nothing is broken`, async () => {
      assert.equal(await play(make, false, Infinity, SHORT_MS), null);
    });
    test(`${name}: a deliberate mistake is found`, async () => {
      assert.notEqual(await play(make, true, FOUND_WITHIN, 60_000), null);
    });
  }

  for (const [bug, why] of [
    ['throw', /deliberate bug/],
    ['hang', /more than 1 s/],
    ['exit', /SIGSEGV/],
    ['memory', /memory has grown by \d+ MiB/],
  ] as const) {
    test(`a fuzzer's process that ends by ${bug}: what happened, and the input that did it`, async () => {
      const { broken } = await fuzz('prefixes', { seed: 1, seconds: 20, bug, hangSeconds: 1, blind: true });
      assert.match(broken?.why ?? 'nothing', why);
      assert.match(broken?.input ?? '', /^[0-9a-f]*$/);
    });
  }

  // Some of them; `npm run fuzz -- --mutants` runs all.
  for (const mutant of FUZZ_MUTANTS.filter((_, i) => (SEED + i) % 12 === 0)) {
    test(`a mistake in the product is found: ${mutant.about}`, async () => {
      const copy = mutated(mutant);
      const { target, guard = false, finds } = mutant;
      try {
        const { broken } = await fuzz(target, {
          seed: SEED,
          seconds: 60,
          guard,
          blind: true,
          loop: copy.loop,
        });
        assert.match(broken?.why ?? 'nothing', finds);
      } finally {
        copy.remove();
      }
    });
  }

  test('canaries: a record behind the last slot, one that was never given out, a bucket of another level', () => {
    const writer = () => {
      const p = new PartitionWriter(allocatePartition(1000, 1), () => 0);
      p.allocate();
      p.used[0] = 1;
      p.publish(0);
      plant(p);
      audit(p);
      return p;
    };
    const behind = writer();
    behind.hot[1000 * 16 + 5] = 0;
    assert.throws(() => audit(behind), /canary: hot: word 16005 behind its 16000 words is 0/);
    const never = writer();
    never.hot[500 * 16] = 7;
    assert.throws(() => audit(never), /canary: hot: word 8000 of slot 500, never given out, is 7/);
    const level = writer();
    (level as unknown as { index: Int32Array }).index[64 * 16 + 3] = 9;
    assert.throws(() => audit(level), /canary: index: word 1027 of a level that is not in use is 9/);
    const lost = writer();
    lost.used[0] = 0;
    assert.throws(() => audit(lost), /slot that is not in use/);
  });

  test('bounds-checked shared memory: outside of an array is an error, Atomics and rings work', () => {
    const url = (file: string) => JSON.stringify(new URL(file, import.meta.url).href);
    const program = `
      const { guardSharedMemory } = await import(${url('../support/guard.js')});
      guardSharedMemory();
      const { WordRing } = await import(${url('../../src/rings/words.js')});
      const ring = new WordRing(WordRing.allocate(4));
      ring.push(Int32Array.of(1, 2, 3), 3);
      const out = new Int32Array(4);
      const words = new Int32Array(new SharedArrayBuffer(8));
      Atomics.store(words, 1, 5);
      const says = [ring.pop(out, 4), out.join(), words[1]];
      for (const bad of [() => words[2], () => words[-1], () => { words[2] = 1; }, () => words.set([1, 2, 3])]) {
        try { bad(); says.push('nothing'); } catch (error) { says.push(error.message); }
      }
      console.log(JSON.stringify(says));`;
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program]);
    assert.equal(stderr.toString(), '');
    assert.deepEqual(JSON.parse(stdout.toString()), [
      3,
      '1,2,3,0',
      5,
      'guard: element 2 of an array of 2',
      'guard: element -1 of an array of 2',
      'guard: element 2 of an array of 2',
      'guard: 3 elements at 0 of an array of 2',
    ]);
  });
});
