/** Deliberate mistakes in copies of the product, most of them of the kind that no verdict shows: writes one word beyond a table,
 *  one record beyond a slot, one byte beyond a frame. The fuzzer of each has to find it. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { ROOT } from '../differential/fixture.js';
import { type Change, changed, SMALL_TABLES } from '../support/small.js';

export interface FuzzMutant {
  about: string;
  /** Name of the fuzzer, and whether its bounds are checked. */
  target: string;
  guard?: boolean;
  /** Tables are small. */
  small?: boolean;
  change: Change;
  /** What the fuzzer says. */
  finds: RegExp;
}

const PARTITION = 'conntrack/partition.js';
const SHARD = 'datapath/shard.js';
const IPF = 'conntrack/ipf.js';
const EXPRESS = 'datapath/express.js';

/** A slot is given out: something is written to a table, elsewhere. */
const onAllocate = (code: string): Change => [
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
  {
    about: 'one fragment more is held than may be',
    target: 'reassembly',
    change: [IPF, 'this.held >= this.maxFragments)', 'this.held > this.maxFragments)'],
    finds: /fragments are held/,
  },
  {
    about: 'a fragment of each datagram that goes is still counted',
    target: 'reassembly',
    change: [IPF, 'this.held -= list.pieces.length;', 'this.held -= list.pieces.length - 1;'],
    finds: /are held/,
  },
  {
    about: 'a datagram with a hole is complete',
    target: 'reassembly',
    change: [IPF, 'pieces[i - 1].end + 1 !== pieces[i].start', 'pieces[i - 1].end + 1 > pieces[i].start'],
    finds: /bytes of the datagram comes/,
  },
  {
    about: 'the ring of expectations does not go round',
    target: 'conversations',
    small: true,
    guard: true,
    change: [
      'conntrack/expected.js',
      'HEADER + (n & (EXPECTED_SLOTS - 1)) * STRIDE;\n        words',
      'HEADER + n * STRIDE;\n        words',
    ],
    finds: /guard: /,
  },
  {
    about: 'a translation is taken to be free whoever has it',
    target: 'replay',
    change: [
      'conntrack/nat.js',
      'return !partition.isTaken(hash, src, dst, ports, replyZoneProto, zoneProto, addr6, now, seq);',
      'return true;',
    ],
    finds: /have the same answers/,
  },
  {
    about: 'a free slot is given out and stays free',
    target: 'replay',
    change: [PARTITION, 'const slot = this.free.pop();', 'const slot = this.free[this.free.length - 1];'],
    finds: /is not in the index|slots: |index: /,
  },
  {
    about: "a removed slot is nobody's any more",
    target: 'replay',
    change: [
      PARTITION,
      'this.limboHead = head;\n',
      'this.limboHead = head + (head < limbo.length ? 1 : 0);\n',
    ],
    finds: /slots: \d+ is lost/,
  },
  {
    about: 'the sweep goes by the youngest packet, not by the oldest in flight',
    target: 'replay',
    small: true,
    change: [
      'coordinator/fabric.js',
      'this.coordinator.sweep(clock, budget + 2 * come);',
      'this.coordinator.sweep(Math.max(clock, ...this.packets.clock), budget + 2 * come);',
    ],
    finds: /./,
  },
  {
    about: 'an index that grows forgets the tuples of answers',
    target: 'replay',
    small: true,
    change: [
      PARTITION,
      'if (!this.withheld.get(hash)?.includes(slot))',
      'if (this.withheld.get(hash)?.includes(slot))',
    ],
    finds: /./,
  },
  {
    about: 'ways are set free although entries are behind them',
    target: 'replay',
    small: true,
    change: [PARTITION, 'if (this.passed[bucket] === 0)', 'if (this.passed[bucket] >= 0)'],
    finds: /index/,
  },
  {
    about: 'a bucket does not know of entries that were put further on',
    target: 'replay',
    small: true,
    change: [PARTITION, 'if (--this.passed[full] === 0)', 'if (this.passed[full] === 0)'],
    finds: /entries are behind bucket/,
  },
  {
    about: 'a class of packets is forgotten while some are in flight',
    target: 'replay',
    small: true,
    change: ['rss/directory.js', 'while (due < queueEnd && queueAt[due] <= nLeft)', 'while (due < queueEnd)'],
    finds: /./,
  },
  {
    about: 'nodes of connections are not followed when the directory grows',
    target: 'replay',
    small: true,
    change: ['coordinator/homes.js', 'follow(held, 2 * this.high);', ''],
    finds: /./,
  },
  {
    about: 'answers are counted as requests',
    target: 'slices',
    change: [
      EXPRESS,
      'hot[c + C_PKTS_0 + reply] = (hot[c + C_PKTS_0 + reply] + 1) | 0;',
      'hot[c + C_PKTS_0] = (hot[c + C_PKTS_0] + 1) | 0;',
    ],
    finds: /./,
  },
  {
    about: 'a connection that ends at this millisecond is still there',
    target: 'slices',
    change: [EXPRESS, 'C_EXPIRES_F64] > now', 'C_EXPIRES_F64] >= now'],
    finds: /./,
  },
  {
    about: 'a segment that is not valid changes its connection',
    target: 'slices',
    change: [EXPRESS, 'hot[at + w] = saved[w];', 'hot[at + w] = hot[at + w];'],
    finds: /./,
  },
  {
    about: 'answers do not say that there are answers',
    target: 'slices',
    change: [EXPRESS, 'const phase = reply === 1 ? 2', 'const phase = reply === 1 ? 1'],
    finds: /./,
  },
  {
    about: 'what the packets of a vector open is not looked for by those behind them',
    target: 'slices',
    change: [EXPRESS, 'if (conn < 0)\n', 'if (conn < 0 || this.commits > 0)\n'],
    finds: /./,
  },
];

/** A copy of the compiled product and its tests, changed. */
export function copyWith(changes: readonly Change[]): { loop: URL; remove: () => void } {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-mutant-'));
  const dist = fileURLToPath(new URL('../../', import.meta.url));
  for (const part of ['src', 'workers', 'test']) {
    fs.cpSync(path.join(dist, part), path.join(folder, 'dist', part), { recursive: true });
  }
  for (const name of ['docs', 'fixtures', 'node_modules', 'package.json']) {
    fs.symlinkSync(fs.realpathSync(path.join(ROOT, name)), path.join(folder, name));
  }
  for (const change of changes) {
    const where = path.join(folder, 'dist', 'src', change[0]);
    fs.writeFileSync(where, changed(fs.readFileSync(where, 'utf8'), change));
  }
  return {
    loop: new URL(`file://${path.join(folder, 'dist', 'test', 'fuzz', 'loop.js')}`),
    remove: () => fs.rmSync(folder, { recursive: true, force: true }),
  };
}

/** A copy with the mistake. */
export function mutated({ change, small = false }: FuzzMutant): ReturnType<typeof copyWith> {
  return copyWith([...(small ? SMALL_TABLES : []), change]);
}
