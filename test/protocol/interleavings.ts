/** Explores what a reader of shared memory can see while a writer writes, over the real code of both.
 *
 *  The writer runs first, over memory that notes every store, in order. Then the reader runs, over and over: before each
 *  read, any number of further stores may have happened. Of the numbers between two stores to the word that is read, the
 *  least stands for all: the reader sees the same, and more is left to happen. So every result that the reader can have is
 *  found, for stores that are seen in the order in which they were made (x86-64; elsewhere, what the Atomics order). */

type Words = Int32Array | Float64Array;

export interface Store {
  array: Words;
  index: number;
  value: number;
}

/** Where typed arrays over shared memory are watched: in the fields of an object. */
function watch(
  owner: object,
  onRead: (a: Words, i: number) => void,
  onWrite: (a: Words, i: number, v: number) => void,
) {
  const fields = owner as Record<string, unknown>;
  for (const name of Object.keys(fields)) {
    const array = fields[name];
    if (!(array instanceof Int32Array || array instanceof Float64Array)) continue;
    if (!(array.buffer instanceof SharedArrayBuffer)) continue;
    const proxy = new Proxy(array, {
      get(target, key) {
        const index = typeof key === 'string' ? Number(key) : Number.NaN;
        if (Number.isNaN(index)) {
          const value = Reflect.get(target, key, target) as unknown;
          return typeof value === 'function' ? value.bind(target) : value;
        }
        onRead(target, index);
        return target[index];
      },
      set(target, key, value: number) {
        onWrite(target, Number(key), value);
        target[Number(key)] = value;
        return true;
      },
    });
    behind.set(proxy, array);
    fields[name] = proxy;
  }
}

const behind = new WeakMap<object, Words>();
const { load, store, add } = Atomics;

/** Atomic operations on watched arrays are reads and writes like others, in the order of the program. */
function watchAtomics(): () => void {
  const atomics = Atomics as unknown as Record<string, unknown>;
  atomics['load'] = (a: Int32Array, i: number) => (behind.has(a) ? a[i] : load(a, i));
  atomics['store'] = (a: Int32Array, i: number, v: number) => {
    if (!behind.has(a)) return store(a, i, v);
    a[i] = v;
    return v;
  };
  atomics['add'] = (a: Int32Array, i: number, v: number) => {
    if (!behind.has(a)) return add(a, i, v);
    const before = a[i];
    a[i] = before + v;
    return before;
  };
  return () => Object.assign(atomics, { load, store, add });
}

export interface Exploration {
  /** Runs of the reader: one for each thing that it can see. */
  runs: number;
  stores: number;
}

/** Explores all that `reader` can see of what `writer` does. Both make their views of the memory themselves, by
 *  `attach`, each in its own thread, as it were. `check` gets what the reader returned, and how many of the stores had
 *  happened when it ended; it throws if that must not be. `reorder` changes the order of stores: a
 *  mistake to be found. */
export function explore<W extends object, R extends object, T>(o: {
  /** New memory, as it is before. */
  setUp: () => { writer: W; reader: R };
  write: (writer: W) => void;
  read: (reader: R) => T;
  check: (result: T, ended: number) => void;
  reorder?: (stores: Store[]) => Store[];
}): Exploration {
  const restore = watchAtomics();
  try {
    const log: { buffer: number; float: boolean; index: number; value: number }[] = [];
    const first = o.setUp();
    const stores: Store[] = [];
    watch(
      first.writer,
      () => {},
      (array, index, value) => stores.push({ array, index, value }),
    );
    // Buffers are numbered by their first use in the objects' fields, which is the same each time.
    o.write(first.writer);
    const buffersOf = (owner: object): ArrayBufferLike[] => {
      const found: ArrayBufferLike[] = [];
      for (const value of Object.values(owner)) {
        const array = typeof value === 'object' && value !== null ? (behind.get(value) ?? value) : value;
        if (!(array instanceof Int32Array || array instanceof Float64Array)) continue;
        if (array.buffer instanceof SharedArrayBuffer && !found.includes(array.buffer))
          found.push(array.buffer);
      }
      return found;
    };
    const names = buffersOf(first.writer);
    for (const { array, index, value } of o.reorder?.(stores) ?? stores) {
      const float = array instanceof Float64Array;
      log.push({ buffer: names.indexOf(array.buffer), float, index, value });
    }
    // By word, both halves of a Float64 being one: which stores leave something there.
    const touched = new Map<string, number[]>();
    log.forEach((s, at) => {
      const key = `${s.buffer} ${(s.float ? s.index * 2 : s.index) & ~1}`;
      touched.set(key, [...(touched.get(key) ?? []), at + 1]);
    });

    let runs = 0;
    // Choices at each read, of how many stores had happened; the next to try is found by counting up.
    let choices: number[] = [];
    for (;;) {
      const { reader, writer } = o.setUp();
      const buffers = buffersOf(writer);
      const ints = buffers.map((b) => new Int32Array(b));
      const floats = buffers.map((b) => new Float64Array(b, 0, b.byteLength >> 3));
      let done = 0;
      const happen = (until: number): void => {
        for (; done < until; done++) {
          const s = log[done];
          if (s.float) floats[s.buffer][s.index] = s.value;
          else ints[s.buffer][s.index] = s.value;
        }
      };
      const options: number[][] = [];
      let depth = 0;
      watch(
        reader,
        (array, index) => {
          const buffer = buffers.indexOf(array.buffer);
          const word = array instanceof Float64Array ? index * 2 : index;
          const at = touched.get(`${buffer} ${word & ~1}`);
          if (at === undefined) return;
          // As it is, or as a later store leaves it.
          const here = [done, ...at.filter((n) => n > done)];
          if (depth === choices.length) choices.push(0);
          options.push(here);
          happen(here[choices[depth++]]);
        },
        () => {},
      );
      const result = o.read(reader);
      runs++;
      o.check(result, done);
      choices.length = depth;
      while (choices.length > 0) {
        const last = choices.length - 1;
        if (choices[last] + 1 < options[last].length) {
          choices[last]++;
          break;
        }
        choices = choices.slice(0, last);
      }
      if (choices.length === 0) return { runs, stores: log.length };
    }
  } finally {
    restore();
  }
}
