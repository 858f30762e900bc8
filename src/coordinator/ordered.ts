/** Requests that are answered in order, while they wait for their turn: copies of their words, by the window slot of
 *  the packet that asks. A packet asks once at a time.
 *
 *  Main thread only. Records are as long as the longest request and are used again, the latest first. */

const FIRST_RECORDS = 256;

export class OrderedRequests {
  words: Int32Array;
  private readonly stride: number;
  /** By window slot: record + 1, and who asks. */
  private readonly recordOf: Int32Array;
  private readonly workerOf: Uint8Array;
  private readonly unused: number[] = [];
  private nRecords = 0;
  /** Requests that wait. */
  size = 0;

  constructor(slots: number, longest: number) {
    this.stride = longest;
    this.words = new Int32Array(FIRST_RECORDS * longest);
    this.recordOf = new Int32Array(slots);
    this.workerOf = new Uint8Array(slots);
  }

  /** Keeps the `n` words from `at` that `worker` has sent for the packet in window slot `row`. */
  put(row: number, worker: number, words: Int32Array, at: number, n: number): void {
    const { stride } = this;
    if (n > stride) throw new Error(`a request of ${n} words is longer than ${stride}`);
    const record = this.unused.pop() ?? this.nRecords++;
    if ((record + 1) * stride > this.words.length) {
      const grown = new Int32Array(this.words.length * 2);
      grown.set(this.words);
      this.words = grown;
    }
    const to = record * stride;
    for (let i = 0; i < n; i++) this.words[to + i] = words[at + i];
    this.recordOf[row] = record + 1;
    this.workerOf[row] = worker;
    this.size++;
  }

  has(row: number): boolean {
    return this.recordOf[row] !== 0;
  }

  /** Who has asked for the packet in `row`. */
  worker(row: number): number {
    return this.workerOf[row];
  }

  /** Where in `words` the request of the packet in `row` is, which has one. */
  at(row: number): number {
    return (this.recordOf[row] - 1) * this.stride;
  }

  /** Forgets the request of the packet in `row`, which has one; returns where in `words` it is until the next `put`. */
  take(row: number): number {
    const record = this.recordOf[row] - 1;
    this.recordOf[row] = 0;
    this.unused.push(record);
    this.size--;
    return record * this.stride;
  }
}
