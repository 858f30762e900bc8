/** Entry point of a worker thread, started by piscina as one long task: attaches the shared memory and
 *  runs the loop until it is told to stop. */
import { Shard, type ShardInit } from '../src/datapath/shard.js';

export default function run(init: ShardInit): void {
  new Shard(init).run();
}
