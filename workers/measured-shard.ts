/** Entry point of a worker thread of `shardtrack bench`: as shard.ts, with a stopwatch. */
import { workerData } from 'piscina';
import { type Measure, MeasuredShard } from '../src/bench/measured-shard.js';
import type { ShardInit } from '../src/datapath/shard.js';

export default function run(init: ShardInit): void {
  new MeasuredShard(init, workerData as Measure).run();
}
