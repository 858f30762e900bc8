/** What no scenario comes by: parts of the code that is explored (mirror.ts) which the exploration says nothing about. */
import type { Mirror } from './mirror.js';
import { passed } from './sched.js';

/** Methods, branches and atomic operations of a copy that no thread has come by so far while it could be stopped, the
 *  outermost of each, in the order of the alphabet. */
export function unreached({ places }: Mirror): string[] {
  const names = new Set<string>();
  for (const [site, { text, within }] of places) {
    if (!passed.has(site) && (within === 0 || passed.has(within))) names.add(text);
  }
  return [...names].sort();
}

/** What need not be come by, and why; or what does it instead. Whatever else is new has to get a scenario. */
export const UNMODELLED: readonly (readonly [why: string, places: readonly string[]])[] = [
  [
    'tests, benchmarks and the watchdog ask for it, or it waits at random',
    [
      'Fabric.coin',
      'Fabric.counters',
      'Fabric.explain',
      'Fabric.next',
      'Fabric.poll: if (this.random !== 0 && this.next() % 4 === 0)',
      'Fabric.poll: if (this.slow > 0)',
      'Fabric.start',
      'Fabric.workerStates',
      'PartitionWriter.usedBytes',
      'Shard.delay',
      'Shard.fail',
      'Shard.next',
      'Shard.step: if (this.init.fault !== null)',
      'Shard.step: if (this.random !== 0)',
    ],
  ],
  [
    'without workers, or in the lane of the main thread, there is one thread',
    [
      'Fabric.dispatch: if (this.local !== null)',
      'Fabric.poll: if (links.length === 0)',
      'Fabric.setSequenceCheck: if (this.local !== null)',
      'Shard.change',
      'Shard.meter',
      'VectorLoop.runExpress',
      'VectorLoop.runVector: if (this.express !== null)',
      'VectorLoop.start: if (this.express !== null && ctx.nSeen === 1 && ctx.nFrames === 0)',
    ],
  ],
  [
    'an error that must not be',
    [
      'Fabric.flushLink: if (!link.work.push(link.batch, link.nBatch))',
      'Fabric.grant: if (!link.grants.push(grants, n))',
      'Shard.run: if (!(error instanceof Stopped))',
      'Shard.surrender: if (this.parked.has(hash))',
    ],
  ],
  [
    'there is always room: as many slots as connections that live, are granted or in flight; the whole window in a ring',
    ['Fabric.grant: if (slot < 0)', 'Shard.flush: while (!this.done.push(this.completed, this.nCompleted))'],
  ],
  [
    'tables and settings change while no packet is in flight; what is not changed needs nothing',
    [
      'Fabric.revalidate: if (generation === this.generation)',
      'Fabric.tidy: if (this.crowded)',
      'Fabric.tidy: if (this.tidied === this.generation)',
      'PartitionWriter.setShortest',
    ],
  ],
  ['only while it is made, before any thread runs', ['PartitionWriter.share']],
  ['touches what is changed next, and changes nothing', ['Homes.touchRemoved', 'PartitionWriter.touchSwept']],
  [
    "one thread's own memory grows: unit tests of rings and `OrderedRows`, the fuzzer `replay`",
    [
      'MessageReader.grow',
      'MessageReader.next: if (this.n > 0 && this.words[0] > this.words.length)',
      'MessageWriter.begin: if (need > this.buffer.length)',
      'OrderedRows.makeRoom',
      'VectorLoop.complete: if (id === this.hits.length)',
    ],
  ],
  [
    "one thread's own caches and counters, and one of two places alike",
    [
      'VectorLoop.runVector: if (this.nCompleted === completed.length)',
      'Shard.run: if (this.init.dpflows)',
      'VectorLoop.account: if (hits[id] > 0)',
      'VectorLoop.countBehind',
      'VectorLoop.runVector: if ((++stats[STAT.VECTORS] & 0xff) === 0)',
      'VectorLoop.runVector: if (this.dpflows)',
      'VectorLoop.start: if (!ctx.foldable)',
    ],
  ],
  [
    'tuples that two connections have or had, and errors of ICMP, whose own tuple is another: `schedules`, test/property/called-back',
    ['Homes.name', 'Partition.created'],
  ],
  ['helpers run in the lane of the main thread: test/property/expectations', ['Partition.loadParent']],
  [
    'packets that are called back and come to a worker that has others: test/property/called-back',
    ['SteeredInput.adopt: for (let i = 0; i < adopted.length && seq[adopted.at(i)] < last;)'],
  ],
  [
    'rare, and not seen in short runs of other tests either',
    [
      'PartitionWriter.matches',
      'Shard.forgetParked: if (!chain.holds && isFinal(ctx))',
      'SteeredInput.drop: if (this.adopted.remove(row))',
    ],
  ],
  [
    'a ring of answers that is full while packets of the same worker come: `schedules` with small rings',
    ['Fabric.flushLink: if (this.homes !== null && link.replies.pending && !link.replies.flush())'],
  ],
];
