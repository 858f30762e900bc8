/** The values that the rules of one mask have in one field, in ascending order: tells whether a packet's
 *  value is among them and, where it is not, how many of its leading bits say so. What the prefix tries
 *  of Open vSwitch's classifier are for. Lives in the coordinator. */

/** Words `a..a+n` of `x` and `b..b+n` of `y` as big-endian unsigned numbers: the sign of x - y. */
function compare(x: Int32Array, a: number, y: Int32Array, b: number, n: number): number {
  for (let i = 0; i < n; i++) {
    const [p, q] = [x[a + i], y[b + i]];
    if (p !== q) return p >>> 0 < q >>> 0 ? -1 : 1;
  }
  return 0;
}

/** Leading bits that two numbers of `n` words share. */
export function commonBits(x: Int32Array, a: number, y: Int32Array, b: number, n: number): number {
  for (let i = 0; i < n; i++) {
    const differ = x[a + i] ^ y[b + i];
    if (differ !== 0) return i * 32 + Math.clz32(differ);
  }
  return n * 32;
}

/** A multiset of numbers of `n` words each. */
export class ValueSet {
  private readonly n: number;
  private values: Int32Array;
  private counts: Int32Array;
  private size = 0;

  constructor(n: number) {
    this.n = n;
    this.values = new Int32Array(16 * n);
    this.counts = new Int32Array(16);
  }

  add(value: Int32Array): void {
    const { n } = this;
    const at = this.lowerBound(value);
    if (at < this.size && compare(this.values, at * n, value, 0, n) === 0) {
      this.counts[at]++;
      return;
    }
    if (this.size === this.counts.length) {
      const [values, counts] = [this.values, this.counts];
      this.values = new Int32Array(values.length * 2);
      this.values.set(values);
      this.counts = new Int32Array(counts.length * 2);
      this.counts.set(counts);
    }
    this.values.copyWithin((at + 1) * n, at * n, this.size * n);
    this.counts.copyWithin(at + 1, at, this.size);
    for (let i = 0; i < n; i++) this.values[at * n + i] = value[i];
    this.counts[at] = 1;
    this.size++;
  }

  /** Takes out one of a value that is in. */
  delete(value: Int32Array): void {
    const { n } = this;
    const at = this.lowerBound(value);
    if (--this.counts[at] > 0) return;
    this.values.copyWithin(at * n, (at + 1) * n, this.size * n);
    this.counts.copyWithin(at, at + 1, this.size);
    this.size--;
  }

  /** 0 if the value is in; else how many leading bits of it no value that is in has. */
  missingBits(value: Int32Array): number {
    const { n, values } = this;
    const at = this.lowerBound(value);
    let common = 0;
    if (at < this.size) {
      common = commonBits(values, at * n, value, 0, n);
      if (common === n * 32) return 0;
    }
    if (at > 0) common = Math.max(common, commonBits(values, (at - 1) * n, value, 0, n));
    return common + 1;
  }

  /** Position of the first value that is not less. */
  private lowerBound(value: Int32Array): number {
    let low = 0;
    let high = this.size;
    while (low < high) {
      const mid = (low + high) >>> 1;
      if (compare(this.values, mid * this.n, value, 0, this.n) < 0) low = mid + 1;
      else high = mid;
    }
    return low;
  }
}
