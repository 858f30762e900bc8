/** What helpers have expected, for dpctl/dump-conntrack-exp: a ring of records in a partition's memory. The home
 *  worker writes it; the coordinator reads it while no packet is in flight. It holds the last EXPECTED_SLOTS;
 *  whether one is still valid shows in the record of its control connection. */
import { PARENT } from '../shm/layouts.js';
import { record } from '../shm/record.js';
import type { Expectation } from './expectations.js';

/** An expectation, in words. */
const EXPECTED = record(
  'SRC', // the tuple of whom it expects, as in CONN; only the destination port is known
  'DST',
  'PORT',
  'ZONE_PROTO',
  'CREATED', // Float64: COLD.CREATED of the control connection …
  'CREATED_HI',
  'SLOT', //    … its slot, and what it gives its child: mark and label
  'MARK',
  'LABEL_0',
  'LABEL_1',
  'LABEL_2',
  'LABEL_3',
  'SRC6_0',
  'SRC6_1',
  'SRC6_2',
  'SRC6_3',
  'DST6_0',
  'DST6_1',
  'DST6_2',
  'DST6_3',
  'PARENT', //  the words of PARENT from here on
);
const { SRC, DST, PORT, ZONE_PROTO, CREATED, SLOT, MARK, SRC6_0 } = EXPECTED.at;
const STRIDE = 40;
const EXPECTED_SLOTS = 16384;
/** Words before the first record. */
const HEADER = 2;

export function allocateExpected(): SharedArrayBuffer {
  return new SharedArrayBuffer((HEADER + EXPECTED_SLOTS * STRIDE) * 4);
}

/** One record, read. */
export interface Expected {
  src: number;
  dst: number;
  port: number;
  zoneProto: number;
  addr6: Int32Array;
  mark: number;
  label: Int32Array;
  /** The control connection: slot and COLD.CREATED, and its original tuple, as PARENT. */
  slot: number;
  created: number;
  parent: Int32Array;
}

export class ExpectedRing {
  /** Word 0: records written, modulo 2^32. */
  private readonly words: Int32Array;
  private readonly f64: Float64Array;

  constructor(memory: SharedArrayBuffer) {
    this.words = new Int32Array(memory);
    this.f64 = new Float64Array(memory);
  }

  add(e: Expectation): void {
    const { words, f64 } = this;
    const n = words[0];
    const at = HEADER + (n & (EXPECTED_SLOTS - 1)) * STRIDE;
    words[at + SRC] = e.src;
    words[at + DST] = e.dst;
    words[at + PORT] = e.port;
    words[at + ZONE_PROTO] = e.zoneProto;
    words[at + SLOT] = e.parent;
    f64[(at + CREATED) >> 1] = e.created;
    words.set(e.meta, at + MARK);
    words.set(e.addr6, at + SRC6_0);
    words.set(e.tuple, at + EXPECTED.at.PARENT);
    words[0] = (n + 1) | 0;
  }

  /** The oldest first. */
  *records(): Generator<Expected> {
    const { words, f64 } = this;
    const n = words[0] >>> 0;
    for (let i = Math.max(0, n - EXPECTED_SLOTS); i < n; i++) {
      const at = HEADER + (i & (EXPECTED_SLOTS - 1)) * STRIDE;
      const from = at + EXPECTED.at.PARENT;
      yield {
        src: words[at + SRC],
        dst: words[at + DST],
        port: words[at + PORT],
        zoneProto: words[at + ZONE_PROTO],
        addr6: words.slice(at + SRC6_0, at + SRC6_0 + 8),
        mark: words[at + MARK] >>> 0,
        label: words.slice(at + MARK + 1, at + MARK + 5),
        slot: words[at + SLOT],
        created: f64[(at + CREATED) >> 1],
        parent: words.slice(from, from + PARENT.words),
      };
    }
  }
}
