/** Workers that take turns with the main thread, on its thread, in an order that is drawn: what threads do, without starting
 *  any, the same every time for the same seed, where coverage sees it and bounds are checked (test/support/guard.ts). */
import type { Completions, Fabric } from '../../src/coordinator/fabric.js';
import type { Turns } from '../../src/coordinator/replay.js';
import { Shard, type ShardInit } from '../../src/datapath/shard.js';
import type { Random } from './packets.js';

/** A worker that is told when to go on. */
class TurnShard extends Shard {
  /** A vector, and what belongs to it; false if it can't go on. */
  turn(): boolean {
    return this.step();
  }
}

export class DrawnTurns implements Turns {
  private readonly r: Random;
  private readonly shards: TurnShard[] = [];

  constructor(r: Random) {
    this.r = r;
  }

  start(fabric: Fabric, completions: Completions): void {
    fabric.start(completions, (init: ShardInit) => this.shards.push(new TurnShard(init)));
    const stop = fabric.stop.bind(fabric);
    let ended = false;
    fabric.stop = async (patienceMs?: number) => {
      await stop(patienceMs);
      if (ended) return;
      ended = true;
      // They have been told to stop: this brings their counters up to date.
      for (const shard of this.shards) shard.run();
    };
  }

  /** Whatever the main thread has done, some go on for a while, or until they can't. */
  did(): void {
    const { r, shards } = this;
    for (let n = r.int(shards.length + 1); n > 0; n--) {
      const shard = r.pick(shards);
      for (let turns = r.once(3) ? Infinity : r.int(4); turns > 0 && shard.turn(); turns--);
    }
  }
}
