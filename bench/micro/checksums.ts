/** What does a checksum cost? */

import { Random } from '../../src/generate/random.js';
import { checksum, sum } from '../../src/wire/checksum.js';
import { must, type Variant } from './variant.js';

const N = 256;

/** The definition: 16 bits at a time, the carry brought round at once. */
function plainChecksum(view: DataView, off: number, len: number): number {
  let total = 0;
  for (let i = 0; i < len; i += 2) {
    total += view.getUint8(off + i) << 8;
    if (i + 1 < len) total += view.getUint8(off + i + 1);
    if (total > 0xffff) total -= 0xffff;
  }
  return ~total & 0xffff;
}

const ours = (view: DataView, off: number, len: number) => checksum(sum(view, off, len));

function variant(name: string, what: string, bytes: number, of: typeof ours): Variant {
  return {
    name: `checksum/${name}`,
    what: `${what}, ${bytes} bytes`,
    operations: N,
    unit: 'ns/call',
    prepare() {
      const random = new Random(9);
      const data = Uint8Array.from({ length: N + bytes }, () => random.below(256));
      const view = new DataView(data.buffer);
      for (let i = 0; i < N; i++) {
        must(of(view, i, bytes) === plainChecksum(view, i, bytes), `checksum of ${bytes} bytes at ${i}`);
      }
      return () => {
        let x = 0;
        for (let i = 0; i < N; i++) x ^= of(view, i, bytes);
        return x;
      };
    },
  };
}

export const CHECKSUMS: readonly Variant[] = [60, 1500].flatMap((bytes) => [
  variant(`${bytes}`, '32 bits at a time', bytes, ours),
  variant(`${bytes}-plain`, 'baseline: byte by byte', bytes, plainChecksum),
]);
