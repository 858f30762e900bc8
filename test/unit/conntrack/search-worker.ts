/** Second thread of partition.test.ts: searches like a worker does, in vectors, and looks at what it finds
 *  when it finds it and again at the end of the vector. */
import { workerData } from 'node:worker_threads';
import { Partition, type PartitionMemory } from '../../../src/conntrack/partition.js';
import { find, type Tuple, wrongWord } from './model.js';

const { memory, ctl, tuples, nStable } = workerData as {
  memory: PartitionMemory;
  /** Words: stop, epoch, error code, its detail, found, searched, vectors that saw the index grown. */
  ctl: SharedArrayBuffer;
  tuples: Tuple[];
  /** The first so many are always in the index. */
  nStable: number;
};
const words = new Int32Array(ctl);
const partition = new Partition(memory);
let random = 99;
const next = (n: number) => {
  random = (Math.imul(random, 1103515245) + 12345) | 0;
  return (random >>> 8) % n;
};
const fail = (code: number, detail: number) => {
  Atomics.store(words, 3, detail);
  Atomics.compareExchange(words, 2, 0, code);
};
const held: { tuple: Tuple; slot: number }[] = [];
let mask = partition.mask;
while (Atomics.load(words, 0) === 0) {
  partition.refresh();
  if (partition.mask !== mask) {
    mask = partition.mask;
    Atomics.add(words, 6, 1);
  }
  held.length = 0;
  for (let i = 1 + next(32); i > 0; i--) {
    const at = next(tuples.length);
    const tuple = tuples[at];
    const found = find(partition, tuple);
    words[5]++;
    if (found < 0) {
      if (at < nStable) fail(1, at);
      continue;
    }
    words[4]++;
    const wrong = wrongWord(partition, found >> 1, tuple);
    if (wrong >= 0) fail(2, wrong);
    held.push({ tuple, slot: found >> 1 });
  }
  for (const { tuple, slot } of held) {
    const wrong = wrongWord(partition, slot, tuple);
    if (wrong >= 0) fail(3, wrong);
  }
  Atomics.add(words, 1, 1);
}
