/** What do a worker and the main thread each do for a packet?
 *
 *      npm run bench:turns -- --in 1=FILE --flows FILE --workers 1 --packets 250000 --rounds 6
 *
 *  Both in turns on one thread: 1024 packets are handed over, each worker runs vectors until it has nothing to do, then
 *  the main thread answers, removes what has ended and collects. So nobody waits, sleeps or is woken, and processor time
 *  means the same beside any other load; what is missing is that lines of memory move between cores. Best of the rounds,
 *  in ns a packet. */
import { Command } from 'commander';
import { Resident } from '../../src/bench/resident.js';
import { prepare } from '../../src/bench/spec.js';
import { collectIn, type PortFile, wholeNumber } from '../../src/cli/options.js';
import { Shard, type ShardInit } from '../../src/datapath/shard.js';

interface Arguments {
  in: PortFile[];
  flows: string;
  workers: number;
  warmup: number;
  packets: number;
  rounds: number;
}

const BURST = 1024;
/** Connections that the sweeper looks at in a turn. */
const SWEEP_SLICE = 4096;

/** A worker that is told when to go on. */
class Steps extends Shard {
  override step(): boolean {
    return super.step();
  }
}

class Turns extends Resident {
  private readonly shards: Steps[] = [];
  /** Microseconds of processor time: dispatch (and what runs without a worker), workers, main thread. */
  readonly spent = new Float64Array(3);

  override start(): void {
    this.fabric.start(this.collector, (init: ShardInit) => this.shards.push(new Steps(init)));
  }

  /** Sends `n` packets through. */
  go(n: number): void {
    const { fabric, collector, shards, spent } = this;
    const end = this.seq + n;
    spent.fill(0);
    let at = processorTime();
    const lap = (part: number) => {
      const now = processorTime();
      spent[part] += now - at;
      at = now;
    };
    while (this.seq < end || collector.inFlight > 0) {
      const room = Math.min(BURST, this.most - collector.inFlight, end - this.seq);
      for (let i = 0; i < room && !this.mustWait(); i++) this.dispatch();
      fabric.flush();
      lap(0);
      for (const shard of shards) while (shard.step());
      lap(1);
      fabric.sweep(SWEEP_SLICE);
      fabric.poll();
      collector.drain();
      lap(2);
    }
  }
}

function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

async function main(args: Arguments): Promise<void> {
  const { flows, workers } = args;
  const replayed = { captures: [], in: args.in, ports: [] };
  const turns = new Turns(await prepare({ name: 'turns', made: null, replayed, flows, workers }), {
    workers,
  });
  turns.start();
  turns.go(args.warmup);
  const best = new Float64Array(3).fill(Number.POSITIVE_INFINITY);
  for (let round = 0; round < args.rounds; round++) {
    turns.go(args.packets);
    turns.spent.forEach((us, part) => {
      best[part] = Math.min(best[part], (us * 1000) / args.packets);
    });
  }
  const [dispatch, worker, rest] = [...best].map(Math.round);
  console.log(
    `ns a packet: dispatch ${dispatch}, workers ${worker}, main thread ${rest}; ${turns.connections().n} connections`,
  );
  await turns.stop();
}

const program = new Command('bench:turns')
  .requiredOption('--in <PORT=FILE>', 'capture that arrives on PORT', collectIn, [])
  .requiredOption('--flows <FILE>', 'flow table')
  .option('--workers <N>', 'workers; 0: the reference path', wholeNumber(0, 64), 1)
  .option('--warmup <N>', 'packets before', wholeNumber(0, 1e9), 800_000)
  .option('--packets <N>', 'packets a round', wholeNumber(1, 1e9), 250_000)
  .option('--rounds <N>', 'rounds', wholeNumber(1, 1000), 6)
  .action(main);
await program.parseAsync();
