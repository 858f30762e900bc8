/** Deliberate mistakes in copies of the product that let packets by, or let them by as what they must not be: the policies have
 *  to find each. */
import { copyWith } from '../fuzz/mutants.js';
import type { Change } from '../support/small.js';
import type { Played, PlayOptions, play } from './play.js';
import type { Kind } from './policy.js';

export interface PolicyMutant {
  about: string;
  /** Policies that can show it. */
  kind: Kind;
  /** 0 unless told otherwise. */
  workers?: number;
  changes: readonly Change[];
}

const TRACKER = 'datapath/tracker.js';

export const POLICY_MUTANTS: readonly PolicyMutant[] = [
  {
    about: 'the zone is left out of the tuple',
    kind: 'tenant',
    changes: [
      [
        'conntrack/key.js',
        'const zoneProto = (zone << 16) | (key.proto << 8)',
        'const zoneProto = key.proto << 8',
      ],
      [TRACKER, '(zone << 16) | (ck.zoneProto & 0xffff)', 'ck.zoneProto & 0xffff'],
    ],
  },
  {
    about: 'what a zone has said stays in the next one',
    kind: 'chain',
    changes: [[TRACKER, 'key[CT_STATE] !== 0 && key[CT_ZONE] !== zone', 'false']],
  },
  {
    about: 'a connection is established by its own second packet',
    kind: 'tenant',
    changes: [[TRACKER, 'verdict = phase === 2 ?', 'verdict = phase >= 1 ?']],
  },
  {
    about: 'workers keep what they once said of a UDP connection',
    kind: 'tenant',
    workers: 1,
    changes: [
      [
        'datapath/microflow.js',
        'const outcome = phase !== 2 ? STEP_NEW : reply === 1 ? STEP_EST_RPL : STEP_EST;\n',
        'const outcome = expected;\n',
      ],
    ],
  },
  {
    about: 'marks and labels are not read',
    kind: 'tenant',
    changes: [[TRACKER, '& STATE_HAS_META) {', '& STATE_HAS_META & 0) {']],
  },
  {
    about: 'answers are not translated back',
    kind: 'nat',
    changes: [[TRACKER, 'if (nat !== 0 && !create)', 'if (nat !== 0 && !create && !(found & 1))']],
  },
  {
    about: 'the packet inside an ICMP error is not translated',
    kind: 'nat',
    changes: [['datapath/nat.js', 'this.inner(ctx, snat);', '']],
  },
  {
    about: 'an ICMP error about nothing is related',
    kind: 'nat',
    changes: [[TRACKER, 'this.invalidate(ctx, INVALID_UNRELATED);', 'key[CT_STATE] = CS_REL;']],
  },
  {
    about: 'a range of ports has one more',
    kind: 'nat',
    changes: [['conntrack/nat.js', 'offset % (last - first + 1)', 'offset % (last - first + 2)']],
  },
  {
    about: 'two connections are translated to the same',
    kind: 'nat',
    changes: [['conntrack/nat.js', 'if (this.isFree())\n', 'if (min > 0)\n']],
  },
];

/** Plays policies from `seed` on with a copy that has the mistake, until it is found; or null. */
export async function find(mutant: PolicyMutant, seed: number, policies: number): Promise<Played | null> {
  const copy = copyWith(mutant.changes);
  try {
    const changed: { play: typeof play } = await import(new URL('../policy/play.js', copy.loop).href);
    const options: PlayOptions = { kind: mutant.kind };
    for (let n = 0; n < policies; n++) {
      const played = await changed.play(seed + n, 500, [mutant.workers ?? 0], options);
      if (played.wrong !== null) return played;
    }
    return null;
  } finally {
    copy.remove();
  }
}
