/** A worker that does nothing: what comes out of its ring goes back, with one and the same verdict. */
import { MSG_TEMPLATE, type ShardInit } from '../../src/datapath/shard.js';
import { MessageWriter, WordRing } from '../../src/rings/words.js';
import { CTL_ASLEEP, CTL_BELL, CTL_LINE, CTL_STOP } from '../../src/shm/layouts.js';
import { PacketColumns } from '../../src/shm/packets.js';

/** No ct(), no output, reason 1. */
const TEMPLATE = Int32Array.of(0, 0, 1);
const VECTOR = 256;
const SPINS = 64;

export default function run(init: ShardInit): void {
  const ctl = new Int32Array(init.ctl);
  const bell = (2 * init.id + 1) * CTL_LINE;
  const own = (2 * init.id + 2) * CTL_LINE;
  const work = new WordRing(init.work);
  const done = new WordRing(init.done);
  const { verdict, frameChunk } = new PacketColumns(init.slots, init.packets);
  const templates = new MessageWriter(new WordRing(init.templates));
  templates.words.set(TEMPLATE, templates.begin(MSG_TEMPLATE, 0, TEMPLATE.length));
  templates.flush();
  const slots = new Int32Array(VECTOR);
  let idle = 0;
  while (Atomics.load(ctl, bell + CTL_STOP) === 0) {
    const rung = Atomics.load(ctl, bell + CTL_BELL);
    const n = work.pop(slots, VECTOR);
    for (let i = 0; i < n; i++) {
      verdict[slots[i]] = 0;
      frameChunk[slots[i]] = -1;
    }
    done.push(slots, n);
    if (n > 0) {
      idle = 0;
    } else if (++idle > SPINS) {
      Atomics.store(ctl, own + CTL_ASLEEP, 1);
      if (work.empty()) Atomics.wait(ctl, bell + CTL_BELL, rung, 100);
      Atomics.store(ctl, own + CTL_ASLEEP, 0);
      idle = 0;
    }
  }
  init.port.close();
}
