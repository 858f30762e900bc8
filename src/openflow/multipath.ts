/** How multipath turns a hash into the number of a link. */
import { hashInt } from '../wire/hash.js';
import type { Action } from './types.js';

/** Link number that a hash chooses (ovs-actions(7), "The multipath action"). */
export function multipath(hash: number, action: Action & { kind: 'multipath' }): number {
  const { links, arg } = action;
  switch (action.algorithm) {
    case 'modulo_n':
      return hash % links;
    case 'hash_threshold':
      return links === 1 ? 0 : Math.floor(hash / (Math.floor(0xffffffff / links) + 1));
    case 'hrw': {
      if (links > 64) return iterated(hash, links, 0);
      let best = 0;
      for (let link = 1, score = hashInt(hash, 0); link < links; link++) {
        const weight = hashInt(hash, link);
        if (weight <= score) continue;
        best = link;
        score = weight;
      }
      return best;
    }
    case 'iter_hash':
      return iterated(hash, links, arg);
  }
}

function iterated(hash: number, links: number, modulo: number): number {
  const m = modulo < links || Math.floor(modulo / 2) > links ? 2 ** Math.ceil(Math.log2(links)) : modulo;
  for (let i = 0; ; i++) {
    const link = (hashInt(hash, i) % m) & 0xffff;
    if (link < links) return link;
  }
}
