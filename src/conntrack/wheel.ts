/** When to look at which connection: slots in lists by the millisecond at which they are due.
 *
 *  Two wheels. The near one has a list for each of the 65,536 milliseconds from the cursor on, so that most
 *  connections are looked at once; the far one has a list for each of 4096 epochs of 65,536 ms, which is poured into the
 *  near one when its epoch begins. What is due later still waits in the last of them, and is looked at early. Putting a slot in, taking it
 *  out and moving it cost the same however many there are.
 *
 *  Times are whole milliseconds. Private to the coordinator. */

const NEAR_BITS = 16;
const NEAR = 2 ** NEAR_BITS;
const FAR = 4096;

/** Who knows the slots. */
export interface WheelOwner {
  /** The slot was due before `clock`: when it is due again (not before `clock`), or -1 if it is gone. */
  due(slot: number, clock: number): number;
}

export class Wheel {
  /** First slot + 1 of each list. */
  private readonly heads = new Int32Array(NEAR + FAR);
  /** A bit for every near list that may have slots; and the last millisecond for which one may. */
  private readonly filled = new Int32Array(NEAR >> 5);
  private lastNear = -1;
  /** By slot: the next one + 1, or 0. */
  private readonly next: Int32Array;
  /** By slot: the one before + 1; -1 - list if it is the first; 0 if it is in none. */
  private readonly before: Int32Array;
  /** Nothing is due earlier. */
  private cursor = 0;
  private n = 0;

  constructor(capacity: number) {
    this.next = new Int32Array(capacity);
    this.before = new Int32Array(capacity);
  }

  /** Touches what is known of a slot. */
  touch(slot: number): number {
    return this.next[slot] ^ this.before[slot];
  }

  /** Puts a slot in, or moves it. */
  put(slot: number, due: number): void {
    if (this.before[slot] !== 0) this.take(slot);
    const { cursor, heads } = this;
    const at = Math.max(due, cursor);
    let list: number;
    if (at - cursor < NEAR) {
      list = at % NEAR;
      this.filled[list >> 5] |= 1 << (list & 31);
      if (at > this.lastNear) this.lastNear = at;
    } else {
      const epoch = Math.floor(cursor / NEAR);
      list = NEAR + ((epoch + Math.min(Math.floor(at / NEAR) - epoch, FAR - 1)) % FAR);
    }
    const first = heads[list];
    this.next[slot] = first;
    this.before[slot] = -1 - list;
    if (first !== 0) this.before[first - 1] = slot + 1;
    heads[list] = slot + 1;
    this.n++;
  }

  /** Takes a slot out, if it is in. */
  take(slot: number): void {
    const { next, before } = this;
    const from = before[slot];
    if (from === 0) return;
    const after = next[slot];
    if (after !== 0) before[after - 1] = from;
    if (from > 0) next[from - 1] = after;
    else this.heads[-1 - from] = after;
    before[slot] = 0;
    this.n--;
  }

  /** Writes slots that `advance` will ask about next to `slots`, as many as fit; returns how many. It may miss some. */
  peek(clock: number, slots: Int32Array): number {
    const { heads, filled, next } = this;
    let n = 0;
    // Those before the wheel begins anew.
    const first = this.cursor % NEAR;
    const end = Math.min(NEAR, first + clock - this.cursor);
    for (let list = first; list < end; ) {
      const bits = filled[list >> 5] >>> (list & 31);
      if (bits === 0) {
        list = (list | 31) + 1;
        continue;
      }
      if ((bits & 1) === 0) {
        list += 31 - Math.clz32(bits & -bits);
        continue;
      }
      for (let slot = heads[list]; slot !== 0; slot = next[slot - 1]) {
        slots[n++] = slot - 1;
        if (n === slots.length) return n;
      }
      list++;
    }
    return n;
  }

  /** Asks `owner` about what was due before `clock`, up to `budget` slots. */
  advance(clock: number, budget: number, owner: WheelOwner): void {
    const { heads, filled } = this;
    let left = budget;
    while (this.cursor < clock) {
      if (this.n === 0) {
        this.cursor = clock;
        return;
      }
      const { cursor } = this;
      const list = cursor % NEAR;
      const epoch = Math.floor(cursor / NEAR);
      if (list === 0) {
        const far = NEAR + (epoch % FAR);
        while (heads[far] !== 0) {
          if (left-- <= 0) return;
          this.ask(heads[far] - 1, clock, owner);
        }
      }
      if (cursor > this.lastNear) {
        this.cursor = Math.min(clock, (epoch + 1) * NEAR);
        continue;
      }
      const bits = filled[list >> 5] >>> (list & 31);
      if (bits === 0) {
        this.step(clock, (list | 31) + 1 - list);
        continue;
      }
      if ((bits & 1) === 0) {
        this.step(clock, 31 - Math.clz32(bits & -bits));
        continue;
      }
      while (heads[list] !== 0) {
        if (left-- <= 0) return;
        this.ask(heads[list] - 1, clock, owner);
      }
      filled[list >> 5] &= ~(1 << (list & 31));
      this.step(clock, 1);
    }
  }

  /** Moves the cursor on over empty lists. */
  private step(clock: number, lists: number): void {
    this.cursor = Math.min(clock, this.cursor + lists);
  }

  private ask(slot: number, clock: number, owner: WheelOwner): void {
    this.take(slot);
    const due = owner.due(slot, clock);
    if (due >= 0) this.put(slot, due);
  }
}
