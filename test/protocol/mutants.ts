/** Deliberate mistakes in the product, each of which the exploration of a scenario has to find. */
import type { Mutation } from './mirror.js';

export interface Mutant {
  about: string;
  scenario: string;
  changes: Mutation;
}

const SHARD = 'datapath/shard.js';
const FABRIC = 'coordinator/fabric.js';

export const MUTANTS: readonly Mutant[] = [
  {
    about: 'a worker goes to sleep without looking at its rings again',
    scenario: 'asked',
    changes: [
      [
        SHARD,
        '(blocked || this.work.empty()) && this.repliesRing.empty() && !served',
        'blocked || served || true',
      ],
    ],
  },
  {
    about: 'the main thread goes to sleep without looking at its rings again',
    scenario: 'asked',
    changes: [[FABRIC, 'if (this.quiet())', 'if (this.links.length > 0)']],
  },
  {
    about: 'a worker is woken without its bell',
    scenario: 'asked',
    changes: [
      [
        FABRIC,
        'Atomics.add(this.ctl, bell, 1);\n        Atomics.notify(this.ctl, bell);',
        'Atomics.notify(this.ctl, bell);',
      ],
    ],
  },
  {
    about: 'the main thread is woken without its bell',
    scenario: 'asked',
    changes: [[SHARD, 'Atomics.add(this.ctl, CTL_MAIN_BELL, 1);', '']],
  },
  {
    about: 'a worker reads its bell after it has looked whether to stop',
    scenario: 'ending',
    changes: [
      [SHARD, 'const bell = Atomics.load(this.ctl, this.bellWord + CTL_BELL);', ''],
      [
        SHARD,
        'if (Atomics.load(this.ctl, this.bellWord + CTL_STOP) !== 0)\n                return;',
        'if (Atomics.load(this.ctl, this.bellWord + CTL_STOP) !== 0) return; const bell = Atomics.load(this.ctl, this.bellWord + CTL_BELL);',
      ],
    ],
  },
  {
    about: 'packets are complete before the connections are told of that they have made',
    scenario: 'alone',
    changes: [
      [
        SHARD,
        'while (!this.requests.flush())\n            this.pause();\n        while (!this.done.push(this.completed, this.nCompleted))\n            this.pause();',
        'while (!this.done.push(this.completed, this.nCompleted)) this.pause(); while (!this.requests.flush()) this.pause();',
      ],
    ],
  },
  {
    about: 'packets do not wait for a connection that was made',
    scenario: 'made',
    changes: [[SHARD, 'return this.nMade !== this.served && this.waits(slot);', 'return false;']],
  },
  {
    about: 'connections are said to be found before they are',
    scenario: 'made',
    changes: [
      [
        FABRIC,
        'made += this.enter(worker, words, m + MESSAGE_HEADER, m + words[m]);',
        '{ if (made === 0) Atomics.store(this.ctl, (2 * worker + 1) * CTL_LINE + CTL_SERVED, (link.served + 1) | 0); made += this.enter(worker, words, m + MESSAGE_HEADER, m + words[m]); }',
      ],
    ],
  },
  {
    about: 'a worker does not notice that the index has grown',
    scenario: 'grown',
    changes: [
      [
        'conntrack/partition.js',
        'if (level === this.level)',
        'if (level === this.level || (this.level >= 0 && this.used === undefined))',
      ],
    ],
  },
  {
    about: 'packets that wait behind one are turned round',
    scenario: 'queued',
    changes: [[SHARD, 'chain.queue.push(slot);', 'chain.queue.unshift(slot);']],
  },
  {
    about: 'commits near the limit are answered as they come',
    scenario: 'two workers',
    changes: [[FABRIC, 'coordinator.nearLimit(zone, completions.inFlight)', 'false']],
  },
  {
    about: 'answers in flight are not called back',
    scenario: 'steered',
    changes: [['coordinator/homes.js', 'return this.needed !== null;', 'return false;']],
  },
  {
    about: 'packets that were called back are lost on the way',
    scenario: 'steered',
    changes: [
      [
        FABRIC,
        'this.answerCommit(move.worker, move.token, move.slot, move.rows);',
        'this.answerCommit(move.worker, move.token, move.slot, []);',
      ],
    ],
  },
  {
    about: 'of the frames that are made together it is not said where each is',
    scenario: 'rewritten',
    changes: [['datapath/translated.js', 'frameOff[slot] = at;', '']],
  },
  {
    about: 'the class of a connection that is removed is kept for ever',
    scenario: 'forgotten',
    changes: [['coordinator/homes.js', 'directory.releaseLater(original);', '']],
  },
  {
    about: 'a commit at a limit does not wait for packets before it',
    scenario: 'limit',
    changes: [[FABRIC, 'if (completions.head >= packets.seq[slot])', 'if (completions !== null)']],
  },
  {
    about: 'a commit at the limit of a zone does not wait for packets before it',
    scenario: 'zone limit',
    changes: [
      [
        FABRIC,
        'if (!coordinator.isFull(words[record',
        'if (coordinator.connections < 9 || !coordinator.isFull(words[record',
      ],
    ],
  },
  {
    about: 'completions that wait are forgotten when there is no room for requests',
    scenario: 'unannounced, small rings',
    changes: [
      [SHARD, 'this.unannounced += this.nCompleted;', ''],
      [
        SHARD,
        'while (!this.templates.flush())',
        'this.unannounced += this.nCompleted;\n        while (!this.templates.flush())',
      ],
    ],
  },
  {
    about: 'caches are not emptied when tables change',
    scenario: 'changed',
    changes: [[FABRIC, 'Atomics.store(this.ctl, CTL_GENERATION, generation);', '']],
  },
  {
    about: 'a worker does not look whether sequence numbers are checked',
    scenario: 'changed',
    changes: [[SHARD, 'this.checkSequence = Atomics.load(this.ctl, CTL_NO_SEQ_CHECK) === 0;', '']],
  },
  {
    about: 'a worker that was granted slots goes on with them near the limit',
    scenario: 'granted no more',
    changes: [[SHARD, 'this.granting = Atomics', 'this.granting ||= Atomics']],
  },
  {
    about: 'a worker does not say that it has finished a vector',
    scenario: 'reused',
    changes: [[SHARD, 'Atomics.add(this.ctl, this.ownLine + CTL_EPOCH, 1);', '']],
  },
  {
    about: 'the common epoch does not move on',
    scenario: 'reused, steered',
    changes: [['coordinator/common-epoch.js', 'return ++this.epoch;', 'return this.epoch;']],
  },
  {
    about: 'a worker that waits for room does not look whether it is to stop',
    scenario: 'aborted',
    changes: [[SHARD, 'throw new Stopped();', '{ }']],
  },
  {
    about: 'a packet that was kept waits until fewer are parked',
    scenario: 'crowded, kept',
    changes: [[SHARD, 'return input === null ? 0 : input.takeLate(slots);', 'return 0;']],
  },
  {
    about: 'kept packets are not let go',
    scenario: 'kept',
    changes: [[FABRIC, 'got < 0 || this.homes === null ? NONE : this.homes.arrivals', 'NONE']],
  },
];

const COPY = `this._copy(elements, offset, this.storage, wr, first_part);
    this._copy(elements, offset + first_part, this.storage, 0, second_part);`;
const PUBLISH = `Atomics.store(
      this.write_ptr,
      0,
      (wr + to_write) % this._storage_capacity()
    );`;

/** Of rings. */
export const RING_MUTANTS: readonly Mutant[] = [
  {
    about: 'words are published before they are written',
    scenario: 'ring',
    changes: [
      ['rings/ringbuf.js', `${COPY}\n    ${PUBLISH}`, `${PUBLISH} Atomics.load(this.read_ptr, 0); ${COPY}`],
    ],
  },
  {
    about: 'a part of a message that was pushed is pushed again',
    scenario: 'ring',
    changes: [['rings/words.js', 'this.pushed += this.ring', 'this.pushed = this.ring']],
  },
];
