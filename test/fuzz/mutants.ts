/** Deliberate mistakes in copies of the product, most of them of the kind that no verdict shows: writes one word beyond a table,
 *  one record beyond a slot, one byte beyond a frame. The fuzzer of each has to find it. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ROOT } from '../differential/fixture.js';

export interface FuzzMutant {
  about: string;
  /** Name of the fuzzer, and whether its bounds are checked. */
  target: string;
  guard?: boolean;
  /** File of dist/src, text that is there once, and what stands there instead. */
  change: readonly [file: string, text: string, instead: string];
  /** What the fuzzer says. */
  finds: RegExp;
}

const PARTITION = 'conntrack/partition.js';
const SHARD = 'datapath/shard.js';

/** A slot is given out: something is written to a table, elsewhere. */
const onAllocate = (code: string): FuzzMutant['change'] => [
  PARTITION,
  'if (this.high < this.capacity)\n            return this.high++;',
  `if (this.high < this.capacity) { ${code}; return this.high++; }`,
];

export const FUZZ_MUTANTS: readonly FuzzMutant[] = [
  {
    about: 'the first word of the slot behind the last is written',
    target: 'replay',
    change: onAllocate('this.hot[this.capacity << HOT_SHIFT] = 1'),
    finds: /canary: hot: word \d+ behind/,
  },
  {
    about: 'the record behind the one that is made is written',
    target: 'replay',
    change: onAllocate('this.cold[(this.high + 1) << COLD_SHIFT] = 1'),
    finds: /canary: cold: .* never given out/,
  },
  {
    about: 'addresses of IPv6 are written one word too far',
    target: 'replay',
    change: onAllocate('this.addr6[(this.high + 1) << ADDR6_SHIFT] = 1'),
    finds: /canary: addr6: .* never given out/,
  },
  {
    about: 'a translation is written for the next slot',
    target: 'replay',
    change: onAllocate('this.nat[(this.high + 1) << NAT_SHIFT] = 1'),
    finds: /canary: nat: .* never given out/,
  },
  {
    about: 'an entry is put into the first bucket of the next level',
    target: 'replay',
    change: onAllocate('this.index[this.base + ((this.mask + 1) << BUCKET_SHIFT)] = 7'),
    finds: /canary: index: word \d+ of a level/,
  },
  {
    about: 'an ended connection is told of one place too far',
    target: 'replay',
    change: [PARTITION, 'endedSlots[1 + (n & ', 'endedSlots[2 + (n & '],
    finds: /canary: ended: word|outside|verdicts|records|dump|traffic/,
  },
  {
    about: 'an expectation is one word longer than its place',
    target: 'replay',
    change: [
      'conntrack/expected.js',
      'words[0] = (n + 1) | 0;',
      'words[at + STRIDE] = 1; words[0] = (n + 1) | 0;',
    ],
    finds: /canary: expected: word/,
  },
  {
    about: "a worker's epoch is counted in the line of the next",
    target: 'replay',
    change: [
      SHARD,
      'Atomics.add(this.ctl, this.ownLine + CTL_EPOCH, 1);',
      'Atomics.add(this.ctl, this.ownLine + CTL_EPOCH, 1); Atomics.add(this.ctl, this.ownLine + 2, 1);',
    ],
    finds: /canary: ctl: word/,
  },
  {
    about: 'a ring is written one word beyond what is published',
    target: 'replay',
    change: [
      'rings/words.js',
      'this.ring.push(words, n, from);\n        return true;',
      'this.ring.push(words, n, from); this.ring.storage[this.ring.write_ptr[0]] = 1; return true;',
    ],
    finds: /canary: ring/,
  },
  {
    about: 'a changed frame is written back into the captured one',
    target: 'replay',
    change: [
      'datapath/edit.js',
      'chunk.u8.set(from.subarray(fromOff, fromOff + len), off);',
      'chunk.u8.set(from.subarray(fromOff, fromOff + len), off); from[fromOff + len] = 1;',
    ],
    finds: /captured frames|other surroundings/,
  },
  {
    about: 'a descriptor column is read behind its last row',
    target: 'replay',
    guard: true,
    change: [
      SHARD,
      'this.engine.tracker.keeps = init.steered;',
      'this.engine.tracker.keeps = init.steered; this.packets.hash[init.slots];',
    ],
    finds: /guard: element \d+ of an array of/,
  },
  {
    about: 'extension headers of IPv6 are followed beyond the packet',
    target: 'frames',
    change: [
      'wire/extract.js',
      'const units = view.getUint8(at + 1);',
      'const units = view.getUint8(at + 9);',
    ],
    finds: /./,
  },
];

/** A copy of the compiled product and its tests, with the mistake. */
export function mutated({ change: [file, text, instead] }: FuzzMutant): { loop: URL; remove: () => void } {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-mutant-'));
  const dist = fileURLToPath(new URL('../../', import.meta.url));
  for (const part of ['src', 'workers', 'test']) {
    fs.cpSync(path.join(dist, part), path.join(folder, 'dist', part), { recursive: true });
  }
  for (const name of ['fixtures', 'node_modules', 'package.json']) {
    fs.symlinkSync(fs.realpathSync(path.join(ROOT, name)), path.join(folder, name));
  }
  const where = path.join(folder, 'dist', 'src', file);
  const source = fs.readFileSync(where, 'utf8');
  if (source.split(text).length !== 2) throw new Error(`fuzz: ${file} has not "${text}" once`);
  fs.writeFileSync(
    where,
    source.replace(text, () => instead),
  );
  return {
    loop: new URL(`file://${path.join(folder, 'dist', 'test', 'fuzz', 'loop.js')}`),
    remove: () => fs.rmSync(folder, { recursive: true, force: true }),
  };
}
