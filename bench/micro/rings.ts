/** What does it cost to hand words over in a ring? One thread pushes and pops in turn: cost of the calls, without
 *  that of moving cache lines. */
import { WordRing } from '../../src/rings/words.js';
import { must, type Variant } from './variant.js';

const WORDS = 4096;

function checkOrder(push: (n: number) => boolean, pop: () => number, got: Int32Array, batch: number): void {
  must(push(batch) && pop() === batch, 'what was pushed was not popped');
  for (let i = 0; i < batch; i++) must(got[i] === i + 1, `word ${i} changed`);
  must(pop() === 0, 'more was popped than was pushed');
}

function ring(batch: number): Variant {
  return {
    name: `rings/words-${batch}`,
    what: `WordRing: push and pop ${batch} words`,
    operations: WORDS,
    unit: 'ns/word',
    prepare() {
      const r = new WordRing(WordRing.allocate(1024));
      const words = Int32Array.from({ length: batch }, (_, i) => i + 1);
      const got = new Int32Array(batch);
      checkOrder(
        (n) => r.push(words, n),
        () => r.pop(got, batch),
        got,
        batch,
      );
      return () => {
        let x = 0;
        for (let i = 0; i < WORDS; i += batch) {
          r.push(words, batch);
          x += r.pop(got, batch);
        }
        return x;
      };
    },
  };
}

/** A ring without threads: what the atomic operations and checks of the other cost. */
function plainRing(batch: number): Variant {
  return {
    name: `rings/plain-${batch}`,
    what: `baseline: a ring for one thread, ${batch} words`,
    operations: WORDS,
    unit: 'ns/word',
    prepare() {
      const store = new Int32Array(1024);
      let head = 0;
      let tail = 0;
      const words = Int32Array.from({ length: batch }, (_, i) => i + 1);
      const got = new Int32Array(batch);
      const push = (n: number) => {
        if (1024 - (head - tail) < n) return false;
        for (let i = 0; i < n; i++) store[(head + i) & 1023] = words[i];
        head = (head + n) | 0;
        return true;
      };
      const pop = () => {
        const n = Math.min(batch, head - tail);
        for (let i = 0; i < n; i++) got[i] = store[(tail + i) & 1023];
        tail = (tail + n) | 0;
        return n;
      };
      checkOrder(push, pop, got, batch);
      return () => {
        let x = 0;
        for (let i = 0; i < WORDS; i += batch) {
          push(batch);
          x += pop();
        }
        return x;
      };
    },
  };
}

export const RINGS: readonly Variant[] = [1, 32, 256].flatMap((batch) => [ring(batch), plainRing(batch)]);
