/** When to look at which connection: slots in lists by the millisecond at which they are due.
 *
 *  Two wheels. The near one has a list for each of the 65,536 milliseconds from the cursor on, so that most
 *  connections are looked at once; the far one has a list for each of 4096 epochs of 65,536 ms, which is poured into the
 *  near one when its epoch begins. What is due later still waits in a list of its own, which is gone through when the first of
 *  it may be due. Where both wheels are empty the cursor jumps: a capture may have nothing for years. Putting a slot in,
 *  taking it out and moving it cost the same however many there are.
 *
 *  Times are whole milliseconds. Private to the coordinator. */

const NEAR_BITS = 16;
const NEAR = 2 ** NEAR_BITS;
const FAR = 4096;
/** Lists behind those of the wheels: what is due later than they reach, and what of it is being gone through. */
const LATER = NEAR + FAR;
const POURED = LATER + 1;

/** The near list of a millisecond. `%` of floating-point numbers is a call. */
function nearOf(ms: number): number {
  return (ms - Math.floor(ms / NEAR) * NEAR) | 0;
}

/** Who knows the slots. */
export interface WheelOwner {
  /** The slot was due before `clock`: when it is due again (not before `clock`), or -1 if it is gone. */
  due(slot: number, clock: number): number;
}

export class Wheel {
  /** First slot + 1 of each list. */
  private readonly heads = new Int32Array(NEAR + FAR + 2);
  /** A bit for every near list that may have slots; and the last millisecond for which one may. */
  private readonly filled = new Int32Array(NEAR >> 5);
  private lastNear = -1;
  /** No far list of a later epoch has slots; and no slot of LATER is due before that time. */
  private lastFar = -1;
  private firstLater = Infinity;
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
      list = nearOf(at);
      this.filled[list >> 5] |= 1 << (list & 31);
      if (at > this.lastNear) this.lastNear = at;
    } else {
      const epoch = Math.floor(at / NEAR);
      if (epoch - Math.floor(cursor / NEAR) < FAR) {
        list = NEAR + (epoch % FAR);
        if (epoch > this.lastFar) this.lastFar = epoch;
      } else {
        list = LATER;
        if (at < this.firstLater) this.firstLater = at;
      }
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
    const first = nearOf(this.cursor);
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
      while (heads[POURED] !== 0) {
        if (left-- <= 0) return;
        this.ask(heads[POURED] - 1, clock, owner);
      }
      const { cursor } = this;
      const list = nearOf(cursor);
      const epoch = Math.floor(cursor / NEAR);
      if (this.firstLater < (epoch + 1) * NEAR) {
        this.pour();
        continue;
      }
      if (list === 0) {
        const far = NEAR + (epoch % FAR);
        while (heads[far] !== 0) {
          if (left-- <= 0) return;
          this.ask(heads[far] - 1, clock, owner);
        }
      }
      if (cursor > this.lastNear) {
        const next = epoch < this.lastFar ? (epoch + 1) * NEAR : this.firstLater;
        this.cursor = Math.min(clock, next);
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

  /** Has what is due later looked at: it goes into the wheels, or back. */
  private pour(): void {
    const { heads, before } = this;
    const first = heads[LATER];
    heads[LATER] = 0;
    heads[POURED] = first;
    if (first !== 0) before[first - 1] = -1 - POURED;
    this.firstLater = Infinity;
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
