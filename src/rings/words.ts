/** Rings of Int32 words between two threads, over ringbuf.js: single producer, single consumer, wait-free.
 *  ringbuf.js publishes a push with one store of its write pointer, so words are pushed and popped in
 *  batches. */
import { RingBuffer } from 'ringbuf.js';

export class WordRing {
  private readonly ring: RingBuffer;

  constructor(sab: SharedArrayBuffer) {
    this.ring = new RingBuffer(sab, Int32Array);
  }

  /** Memory for a ring of `words`. */
  static allocate(words: number): SharedArrayBuffer {
    return RingBuffer.getStorageForCapacity(words, Int32Array);
  }

  /** Pushes `n` words from `from`; false, and nothing pushed, if they don't fit. */
  push(words: Int32Array, n: number, from = 0): boolean {
    if (n === 0) return true;
    if (this.ring.availableWrite() < n) return false;
    this.ring.push(words, n, from);
    return true;
  }

  /** Pushes as many of the `n` words from `from` as fit; returns how many. */
  pushSome(words: Int32Array, n: number, from: number): number {
    return this.ring.push(words, n, from);
  }

  /** Pops up to `max` words to `words[at]` and on; returns how many. */
  pop(words: Int32Array, max: number, at = 0): number {
    return this.ring.pop(words, max, at);
  }

  empty(): boolean {
    return this.ring.availableRead() === 0;
  }
}

/** Gathers messages `[length, type, token, …]` and pushes them together. */
export class MessageWriter {
  private buffer = new Int32Array(1 << 12);
  private n = 0;
  /** Words of the gathered messages that have been pushed. */
  private pushed = 0;
  private readonly ring: WordRing;

  constructor(ring: WordRing) {
    this.ring = ring;
  }

  /** Room for a message of `payload` words; returns where its payload begins in `words`. */
  begin(type: number, token: number, payload: number): number {
    const need = this.n + payload + MESSAGE_HEADER;
    if (need > this.buffer.length) {
      const grown = new Int32Array(Math.max(need, this.buffer.length * 2));
      grown.set(this.buffer.subarray(0, this.n));
      this.buffer = grown;
    }
    const at = this.n;
    this.buffer[at] = payload + MESSAGE_HEADER;
    this.buffer[at + 1] = type;
    this.buffer[at + 2] = token;
    this.n = need;
    return at + MESSAGE_HEADER;
  }

  get words(): Int32Array {
    return this.buffer;
  }

  get pending(): boolean {
    return this.n > 0;
  }

  /** Pushes what fits, up to the middle of a message if need be: a message may be longer than the ring,
   *  and its reader waits for the rest. True when nothing is left. */
  flush(): boolean {
    if (this.n === 0) return true;
    this.pushed += this.ring.pushSome(this.buffer, this.n - this.pushed, this.pushed);
    if (this.pushed < this.n) return false;
    this.n = this.pushed = 0;
    return true;
  }
}

/** Words before a message's payload: total length, type, token. */
export const MESSAGE_HEADER = 3;

/** Takes messages out of a ring. */
export class MessageReader {
  words: Int32Array;
  private readonly ring: WordRing;
  private n = 0;
  private at = 0;

  /** `usual`: words of the longest message to expect; a longer one makes the buffer grow. */
  constructor(ring: WordRing, usual: number) {
    this.ring = ring;
    this.words = new Int32Array(usual * 2 + 1024);
  }

  /** Offset of the next message's first word in `words`, or -1. Valid until the next call. */
  next(): number {
    if (!this.complete()) {
      this.words.copyWithin(0, this.at, this.n);
      this.n -= this.at;
      this.at = 0;
      if (this.n > 0 && this.words[0] > this.words.length) this.grow(this.words[0]);
      this.n += this.ring.pop(this.words, this.words.length - this.n, this.n);
      if (!this.complete()) return -1;
    }
    const message = this.at;
    this.at += this.words[message];
    return message;
  }

  /** Where the messages end that have been taken out of the ring; the last may be a part of one. */
  get end(): number {
    return this.n;
  }

  /** Whether there is nothing to take. */
  empty(): boolean {
    return !this.complete() && this.ring.empty();
  }

  private grow(least: number): void {
    const grown = new Int32Array(least * 2);
    grown.set(this.words.subarray(0, this.n));
    this.words = grown;
  }

  private complete(): boolean {
    return this.n > this.at && this.n - this.at >= this.words[this.at];
  }
}
