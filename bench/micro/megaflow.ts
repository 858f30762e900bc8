/** What does a megaflow lookup cost, by number of masks? */
import { FLOW, KEY_WORDS } from '../../src/classifier/flow-key.js';
import { MegaflowCache } from '../../src/classifier/megaflow.js';
import { Random } from '../../src/generate/random.js';
import { must, type Variant } from './variant.js';

const N = 1024;
const ENTRIES = 256; // in all

interface Wanted {
  key: Int32Array;
  mask: Int32Array;
}

/** `ENTRIES` flows over `masks` masks that look at ever longer prefixes of the destination; the input port tells
 *  masks apart, so that entries don't overlap. */
function flows(masks: number): Wanted[] {
  return Array.from({ length: ENTRIES }, (_, i) => {
    const m = i % masks;
    const mask = new Int32Array(KEY_WORDS);
    const key = new Int32Array(KEY_WORDS);
    mask[FLOW.IN_PORT] = mask[FLOW.RECIRC_ID] = mask[FLOW.ETH_TYPE] = -1;
    mask[FLOW.CT_STATE] = 0x21;
    mask[FLOW.NW_DST] = -1 << (16 - m);
    key[FLOW.IN_PORT] = m + 1;
    key[FLOW.ETH_TYPE] = 0x0800;
    key[FLOW.CT_STATE] = 0x20;
    key[FLOW.NW_DST] = (0x0a000000 + i * 0x10000) | 0;
    return { key, mask };
  });
}

/** Packets of the flows in random order, with noise where no mask looks. */
function packets(wanted: Wanted[]): { keys: Int32Array[]; answers: Int32Array } {
  const random = new Random(11);
  const answers = Int32Array.from({ length: N }, () => random.below(wanted.length));
  const keys = Array.from(answers, (i) => {
    const key = wanted[i].key.slice();
    key[FLOW.TP] = random.below(0x7fffffff);
    key[FLOW.NW_SRC] = random.below(0x7fffffff);
    return key;
  });
  return { keys, answers };
}

function variant(masks: number): Variant {
  return {
    name: `megaflow/masks-${masks}`,
    what: `MegaflowCache.find, ${ENTRIES} entries of ${masks} masks`,
    operations: N,
    unit: 'ns/call',
    prepare() {
      const wanted = flows(masks);
      const cache = new MegaflowCache();
      const entries = wanted.map(({ key, mask }, i) => cache.insert(key, mask, Int32Array.of(i)));
      must(cache.masks() === masks, `${cache.masks()} masks`);
      const { keys, answers } = packets(wanted);
      keys.forEach((key, i) => {
        must(cache.find(key) === entries[answers[i]], `packet ${i}`);
      });
      must(cache.find(new Int32Array(KEY_WORDS)) === null, 'a packet of no flow is found');
      return () => {
        let x = 0;
        for (let i = 0; i < N; i++) x += cache.find(keys[i])!.program[0];
        return x;
      };
    },
  };
}

export const MEGAFLOW: readonly Variant[] = [
  variant(2),
  variant(16),
  {
    name: 'megaflow/scan',
    what: `baseline: ${ENTRIES} entries one after the other`,
    operations: N,
    unit: 'ns/call',
    prepare() {
      const wanted = flows(16);
      const { keys, answers } = packets(wanted);
      const matches = (key: Int32Array, { mask, key: want }: Wanted) => {
        for (let w = 0; w < KEY_WORDS; w++) if ((key[w] & mask[w]) !== (want[w] & mask[w])) return false;
        return true;
      };
      const find = (key: Int32Array) => wanted.findIndex((entry) => matches(key, entry));
      keys.forEach((key, i) => {
        must(find(key) === answers[i], `packet ${i}`);
      });
      return () => {
        let x = 0;
        for (let i = 0; i < N; i++) x += find(keys[i]);
        return x;
      };
    },
  },
];
