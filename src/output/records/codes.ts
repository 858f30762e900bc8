/** Numbers for what can be told by a word, such as an IPv4 address: the first has id 0. Open addressing over typed arrays, for
 *  tables that every record is looked up in. */

const FIRST_ROOM = 1 << 8;

export class Codes {
  /** The codes by id: the first `size` elements. */
  codes = new Int32Array(FIRST_ROOM >> 1);
  size = 0;
  /** Ids, -1 where there is none, by hash. */
  private table = new Int32Array(FIRST_ROOM).fill(-1);
  private shift = 24;

  /** The id of a code; it gets one if it has none. */
  idOf(code: number): number {
    const { table, codes, shift } = this;
    const mask = table.length - 1;
    for (let at = Math.imul(code, 0x9e3779b1 | 0) >>> shift; ; at = (at + 1) & mask) {
      const id = table[at];
      if (id < 0) return this.add(code, at);
      if (codes[id] === code) return id;
    }
  }

  clear(): void {
    this.size = 0;
    this.table.fill(-1);
  }

  private add(code: number, at: number): number {
    const id = this.size++;
    if (id === this.codes.length) {
      this.grow();
      this.codes[id] = code;
      this.place(id);
      return id;
    }
    this.codes[id] = code;
    this.table[at] = id;
    return id;
  }

  private grow(): void {
    const codes = new Int32Array(2 * this.codes.length);
    codes.set(this.codes);
    const known = this.codes.length;
    this.codes = codes;
    this.table = new Int32Array(2 * this.table.length).fill(-1);
    this.shift--;
    for (let id = 0; id < known; id++) this.place(id);
  }

  private place(id: number): void {
    const { table, shift } = this;
    const mask = table.length - 1;
    let at = Math.imul(this.codes[id], 0x9e3779b1 | 0) >>> shift;
    while (table[at] >= 0) at = (at + 1) & mask;
    table[at] = id;
  }
}
