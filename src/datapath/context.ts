/** Everything that one packet needs on its way through the datapath, so that it can be put aside at any
 *  action and taken up again. Contexts are pooled; one thread owns each. */

import * as flowKey from '../classifier/flow-key.js';
import type { Megaflow } from '../classifier/megaflow.js';
import type { Expectation } from '../conntrack/expectations.js';
import type { Fragment } from '../conntrack/ipf.js';
import type { Partition } from '../conntrack/partition.js';
import { COLD, CONN } from '../shm/layouts.js';
import { FrameLayout } from '../wire/extract.js';
import type { Datagram } from './fragments.js';
import * as opcodes from './program.js';
import { onlySends } from './program.js';

// Imported constants are loads from the other module's cells; local ones are folded into the code.
const { KEY_WORDS } = flowKey;
const { MAX_PASSES, MAX_RECIRC_DEPTH } = opcodes;

/** What a parked packet waits for. */
export const WAIT_NONE = 0;
export const WAIT_UPCALL = 1;
export const WAIT_COMMIT = 2;
export const WAIT_NORMAL = 3;
export const WAIT_FRAGMENT = 4;
/** It has its verdict, unless an earlier packet opens the connection that it found none of. */
export const WAIT_TURN = 5;

/** The packet as it was when a clone of it was recirculated. */
class Saved {
  readonly key = new Int32Array(KEY_WORDS);
  readonly layout = new FrameLayout();
  program: Int32Array = EMPTY;
  pc = 0;
  depth = 0;
  conn = -1;
  related = false;
  frame = 0;
  chunk = -1;
  record = 0;
  off = 0;
  len = 0;
}

const EMPTY = new Int32Array(1);
const KEPT_WORDS = 1 + CONN.words + COLD.words;

/** What the state machine of a connection said to a packet: invalid, still new, established, a reply. */
export const STEP_INV = 0;
export const STEP_NEW = 1;
export const STEP_EST = 2;
export const STEP_EST_RPL = 3;
/** Connections that a foldable packet goes through at most, and how often. */
export const MAX_TRACED = 4;
export const MAX_STEPS = 8;
/** Words of changes to a frame that are written down. */
export const MAX_EDIT_WORDS = 28;

/** What `onlySends` has said of programs and places in them, by a few bits of both. */
const ANSWERS = 64;
const askedOf: Int32Array[] = new Array(ANSWERS).fill(EMPTY);
const askedAt = new Int32Array(ANSWERS).fill(-1);
const answers = new Uint8Array(ANSWERS);

function knownOnlySends(program: Int32Array, pc: number): boolean {
  const i = (pc + 7 * program.length) & (ANSWERS - 1);
  if (askedOf[i] !== program || askedAt[i] !== pc) {
    askedOf[i] = program;
    askedAt[i] = pc;
    answers[i] = onlySends(program, pc) ? 1 : 0;
  }
  return answers[i] !== 0;
}

export class PacketContext {
  slot = 0;
  /** Tracker clock in ms. */
  now = 0;
  /** Packet number. */
  seq = 0;
  /** Flow key: headers as of the start of the pass, conntrack metadata as of now. */
  readonly key = new Int32Array(KEY_WORDS);
  readonly layout = new FrameLayout();
  /** Whether key and layout have been read from a frame. */
  parsed = false;

  // Current frame: ordinal 0 is the captured one, others are copies in chunk `chunk` at `record`.
  frame = 0;
  chunk = -1;
  record = 0;
  view: DataView;
  u8: Uint8Array;
  off = 0;
  len = 0;
  /** An output or a clone refers to these bytes: copy before a change. */
  shared = true;
  nFrames = 0;
  firstChunk = -1;
  firstRecord = 0;
  lastChunk = -1;
  lastRecord = 0;

  /** `slot << 1 | reply` of the connection that the last ct() found, or -1; and whether the packet is an
   *  ICMP error about it. */
  conn = -1;
  related = false;
  /** What expected the connection that the ct() under way opens. */
  expectation: Expectation | null = null;
  /** Checksums: 0 not looked at, 1 right, 2 wrong. */
  sums = 0;

  program: Int32Array | null = null;
  pc = 0;
  depth = 0;
  /** Bytes at the end of the frame that the next output leaves away. */
  cut = 0;
  /** Passes so far, clones' included. */
  passes = 0;
  reason = 0;

  // Results.
  /** Zone and ct_state of each ct() executed: the first `nCt` elements. */
  readonly ct: number[] = [];
  nCt = 0;
  /** Port and frame ordinal of each output: the first `nOuts` elements. */
  readonly outs: number[] = [];
  nOuts = 0;
  /** Stat point of each pass, and by how many bytes its frame was longer than the captured one: the first
   *  `nPath` elements. */
  readonly path: number[] = [];
  nPath = 0;

  // Trace for the microflow cache.
  foldable = false;
  nConns = 0;
  /** The connections that were looked up, `slot << 1 | reply`: the first `nConns` elements. */
  readonly conns = new Int32Array(MAX_TRACED);
  /** What the packet went through, the first in the low bits: four bits each, STEP_* and then which of the
   *  connections it was. */
  steps = 0;
  nSteps = 0;
  /** How many ct() called it invalid, all for the same reason (INVALID_*) if it can be folded. */
  nInvalid = 0;
  invalid = 0;
  /** Changes to the frame (see edit.ts): the first `nEdits` elements. */
  readonly edits = new Int32Array(MAX_EDIT_WORDS);
  nEdits = 0;
  /** The megaflows that its passes found: the first `nMegaflows` elements. */
  readonly megaflows: Megaflow[] = [];
  nMegaflows = 0;
  // Trace for openings.ts.
  /** Zone in which ct() found no connection that the packet could belong to, but one that it could open, or -1. */
  opensIn = -1;
  /** Slot in which the connection was made, without asking, or -1; and by which ct(). */
  opened = -1;
  openedNth = 0;

  // What the recorder has counted it for: a category, and connections, the first `nSeen` elements.
  category = 0;
  readonly seen: number[] = [];
  nSeen = 0;
  // What it takes to forget that the packet was here.
  /** A ct() found no connection, or ended it: what came of that stands if it holds in the packet's turn. */
  missed = false;
  /** Something was answered in its turn: nothing that was found out since can change. */
  inTurn = false;
  /** Its last request that depends on order has been made: what is left is changing and sending it. */
  asksNoMore = false;
  /** Counters that it went into: the first `nCounted` elements. */
  readonly counted: number[] = [];
  nCounted = 0;
  /** Records of connections as they were before the packet, KEPT_WORDS each: slot, hot, cold. */
  kept = EMPTY;
  nKept = 0;

  // Parking.
  wait = WAIT_NONE;
  /** What the coordinator answered: a slot for a commit. */
  answer = 0;
  /** Ports that the coordinator gave for OP_NORMAL. */
  readonly answerPorts: number[] = [];
  /** Fragments of the datagram that this one completes, in order, as the coordinator gave them. */
  fragments: readonly Fragment[] = [];
  /** The datagram that stands in the packet's place while the tracker looks at it. */
  datagram: Datagram | null = null;
  /** Number under which the worker has parked it. */
  token = -1;

  private readonly stack: Saved[] = [];
  private saved = 0;

  constructor(view: DataView, u8: Uint8Array) {
    this.view = view;
    this.u8 = u8;
  }

  /** Makes it ready for a new packet, whose frame is at `off` of the arena. */
  begin(slot: number, view: DataView, u8: Uint8Array, off: number, len: number, now: number): void {
    this.slot = slot;
    this.now = now;
    const { key } = this;
    for (let w = 0; w < KEY_WORDS; w++) key[w] = 0;
    this.parsed = false;
    this.frame = 0;
    this.chunk = -1;
    this.view = view;
    this.u8 = u8;
    this.off = off;
    this.len = len;
    this.shared = true;
    this.nFrames = 0;
    this.firstChunk = -1;
    this.lastChunk = -1;
    this.conn = -1;
    this.related = false;
    this.expectation = null;
    this.sums = 0;
    this.program = null;
    this.pc = 0;
    this.depth = 0;
    this.cut = 0;
    this.passes = 0;
    this.reason = 0;
    this.nCt = 0;
    this.nOuts = 0;
    this.nPath = 0;
    this.wait = WAIT_NONE;
    this.saved = 0;
    this.foldable = true;
    this.nConns = 0;
    this.steps = 0;
    this.nSteps = 0;
    this.nInvalid = 0;
    this.invalid = 0;
    this.nEdits = 0;
    this.category = 0;
    this.nSeen = 0;
    this.missed = false;
    this.inTurn = false;
    this.asksNoMore = false;
    this.nCounted = 0;
    this.nKept = 0;
    this.nMegaflows = 0;
    this.opensIn = -1;
    this.opened = -1;
  }

  /** Adds to the trace that the packet went through `conn` with outcome STEP_*. */
  trace(conn: number, step: number): void {
    const { conns, nConns } = this;
    let j = 0;
    while (j < nConns && conns[j] !== conn) j++;
    if (j === MAX_TRACED || this.nSteps === MAX_STEPS) {
      this.foldable = false;
      return;
    }
    if (j === nConns) conns[this.nConns++] = conn;
    this.steps |= (step | (j << 2)) << (4 * this.nSteps++);
  }

  /** Adds to the trace that a ct() of `zone` found none. */
  traceOpening(zone: number): void {
    if (this.opensIn >= 0 && this.opensIn !== zone) this.foldable = false;
    this.opensIn = zone;
  }

  /** Adds to the trace that a ct() called the packet invalid. */
  traceInvalid(reason: number): void {
    if (this.nInvalid > 0 && this.invalid !== reason) this.foldable = false;
    this.nInvalid++;
    this.invalid = reason;
  }

  /** Writes down a word of a change to the frame; when there are too many, the packet can't be folded. */
  edited(word: number): void {
    if (this.nEdits === MAX_EDIT_WORDS) this.foldable = false;
    else this.edits[this.nEdits++] = word;
  }

  /** Counts the packet, or something that it does. */
  count(stats: Float64Array, counter: number): void {
    stats[counter]++;
    this.counted[this.nCounted++] = counter;
  }

  /** Keeps the record of a connection that the packet is about to change. */
  keep(partition: Partition, slot: number): void {
    const { nKept } = this;
    for (let i = 0; i < nKept; i++) if (this.kept[i * KEPT_WORDS] === slot) return;
    if ((nKept + 1) * KEPT_WORDS > this.kept.length) {
      const grown = new Int32Array((nKept + 1) * 2 * KEPT_WORDS);
      grown.set(this.kept);
      this.kept = grown;
    }
    const { kept } = this;
    const { hot, cold } = partition;
    let at = nKept * KEPT_WORDS;
    kept[at++] = slot;
    const c = slot << CONN.shift;
    for (let i = 0; i < CONN.words; i++) kept[at++] = hot[c + i];
    const m = slot << COLD.shift;
    for (let i = 0; i < COLD.words; i++) kept[at++] = cold[m + i];
    this.nKept++;
  }

  /** Gives connections what `keep` has kept. */
  restore(partition: Partition): void {
    const { kept } = this;
    const { hot, cold } = partition;
    for (let i = 0; i < this.nKept; i++) {
      let at = i * KEPT_WORDS;
      const slot = kept[at++];
      hot.set(kept.subarray(at, at + CONN.words), slot << CONN.shift);
      at += CONN.words;
      cold.set(kept.subarray(at, at + COLD.words), slot << COLD.shift);
    }
    this.nKept = 0;
  }

  /** Remembers the packet, to go on with after its clone. */
  push(): void {
    if (this.saved === this.stack.length) this.stack.push(new Saved());
    const s = this.stack[this.saved++];
    s.key.set(this.key);
    s.layout.copy(this.layout);
    s.program = this.program!;
    s.pc = this.pc;
    s.depth = this.depth;
    s.conn = this.conn;
    s.related = this.related;
    s.frame = this.frame;
    s.chunk = this.chunk;
    s.record = this.record;
    s.off = this.off;
    s.len = this.len;
    this.shared = true;
  }

  /** Goes back to the packet whose clone is done; false if there is none. The caller restores the view. */
  pop(): boolean {
    if (this.saved === 0) return false;
    const s = this.stack[--this.saved];
    this.key.set(s.key);
    this.layout.copy(s.layout);
    this.program = s.program;
    this.pc = s.pc;
    this.depth = s.depth;
    this.conn = s.conn;
    this.related = s.related;
    this.frame = s.frame;
    this.chunk = s.chunk;
    this.record = s.record;
    this.off = s.off;
    this.len = s.len;
    this.shared = true;
    return true;
  }

  /** Whether nothing waits behind what the packet is doing now: no original of a clone, no other fragment. */
  get isAlone(): boolean {
    return this.saved === 0;
  }

  /** Whether the packet, once its present request is answered, makes no other and touches no connection:
   *  then those behind it need not wait for its completion. */
  get isLastRequest(): boolean {
    if (!knownOnlySends(this.program!, this.pc)) return false;
    for (let i = 0; i < this.saved; i++) {
      const { program, pc } = this.stack[i];
      if (!knownOnlySends(program, pc)) return false;
    }
    return true;
  }

  /** Whether the packet's only changed frame is the current one, and as long as the captured one, of `len` bytes. */
  hasOneFrame(len: number): boolean {
    return this.nFrames === 1 && this.frame === 1 && this.len === len;
  }

  /** Whether another recirculation fits. */
  get canRecirculate(): boolean {
    return this.depth < MAX_RECIRC_DEPTH && this.passes < MAX_PASSES;
  }
}
