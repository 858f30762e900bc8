/** Window slots in the order of their packets' numbers: what has been adopted from elsewhere (shard.ts). Most come behind
 *  all that are there, and leave from the front. One that comes between, or leaves from there, costs a search by halves, and what
 *  lies behind it moves by a place. */

const FIRST_ROOM = 64;

export class OrderedRows {
  private readonly seq: Float64Array;
  /** In use: `rows[head..end)`. */
  private rows = new Int32Array(FIRST_ROOM);
  private head = 0;
  private end = 0;

  /** `seq`: number of the packet in each window slot. It must not change while the slot is in here. */
  constructor(seq: Float64Array) {
    this.seq = seq;
  }

  get length(): number {
    return this.end - this.head;
  }

  at(i: number): number {
    return this.rows[this.head + i];
  }

  insert(row: number): void {
    if (this.end === this.rows.length) this.makeRoom();
    const { rows, end } = this;
    if (end > this.head && this.seq[rows[end - 1]] > this.seq[row]) {
      const at = this.search(row);
      rows.copyWithin(at + 1, at, end);
      rows[at] = row;
    } else {
      rows[end] = row;
    }
    this.end++;
  }

  /** False if it is not there. */
  remove(row: number): boolean {
    const at = this.search(row);
    if (at === this.end || this.rows[at] !== row) return false;
    this.rows.copyWithin(at, at + 1, this.end--);
    return true;
  }

  /** Takes away the first `n`. */
  shift(n: number): void {
    this.head += n;
    if (this.head === this.end) this.head = this.end = 0;
  }

  /** The first place whose packet does not come before that in `row`. */
  private search(row: number): number {
    const { rows, seq } = this;
    let low = this.head;
    for (let high = this.end; low < high; ) {
      const middle = (low + high) >>> 1;
      if (seq[rows[middle]] < seq[row]) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private makeRoom(): void {
    const { rows, head, end } = this;
    // So that moving down costs each row less than one step.
    const to = head > rows.length >> 1 ? rows : new Int32Array(2 * rows.length);
    to.set(rows.subarray(head, end));
    this.rows = to;
    this.head = 0;
    this.end = end - head;
  }
}
