/** Shared memory whose bounds are checked: every read and write of a typed array over a SharedArrayBuffer, in this
 *  thread, throws if it is outside of the array. Without it, the one is undefined and the other is nothing.
 *
 *  For tests, which it makes a hundred times slower. It can't be taken off again. */

const ARRAYS = ['Int32Array', 'Uint32Array', 'Uint8Array', 'Float64Array'] as const;

/** The array behind a guard. */
const behind = new WeakMap<object, object>();
const unwrap = (x: unknown): unknown => (typeof x === 'object' && x !== null ? (behind.get(x) ?? x) : x);

type AnyArray = Int32Array | Uint32Array | Uint8Array | Float64Array;

const handler: ProxyHandler<AnyArray> = {
  get(target, key) {
    if (typeof key === 'string') {
      const index = Number(key);
      if (!Number.isNaN(index)) {
        inside(target, index, key);
        return target[index];
      }
    }
    const value = Reflect.get(target, key, target) as unknown;
    if (typeof value !== 'function') return value;
    return (...args: unknown[]) => {
      if (key === 'set') room(target, args);
      const result = (value as (...a: unknown[]) => unknown).apply(target, args.map(unwrap));
      if (result === target) return guarded(target);
      return ArrayBuffer.isView(result) && (result as AnyArray).buffer === target.buffer
        ? guarded(result as AnyArray)
        : result;
    };
  },
  set(target, key, value: number) {
    if (typeof key === 'string') {
      const index = Number(key);
      if (!Number.isNaN(index)) {
        inside(target, index, key);
        target[index] = value;
        return true;
      }
    }
    return Reflect.set(target, key, value, target);
  },
};

function inside(array: AnyArray, index: number, key: string): void {
  if (!(Number.isInteger(index) && index >= 0 && index < array.length)) {
    throw new RangeError(`guard: element ${key} of an array of ${array.length}`);
  }
}

function room(array: AnyArray, args: readonly unknown[]): void {
  const [from, at = 0] = args as [ArrayLike<number>, number?];
  if (at + from.length > array.length) {
    throw new RangeError(`guard: ${from.length} elements at ${at} of an array of ${array.length}`);
  }
}

const guards = new WeakMap<object, AnyArray>();

function guarded(array: AnyArray): AnyArray {
  const known = guards.get(array);
  if (known !== undefined) return known;
  const proxy = new Proxy(array, handler);
  behind.set(proxy, array);
  guards.set(array, proxy);
  return proxy;
}

/** Guards all shared memory that is attached from now on. */
export function guardSharedMemory(): void {
  const world = globalThis as unknown as Record<string, unknown>;
  for (const name of ARRAYS) {
    world[name] = new Proxy(world[name] as object, {
      construct(target, args: unknown[], newTarget) {
        const made = Reflect.construct(target as new () => AnyArray, args.map(unwrap), newTarget) as AnyArray;
        return args[0] instanceof SharedArrayBuffer ? guarded(made) : made;
      },
    });
  }
  // What wants real arrays.
  pass(Atomics, Object.getOwnPropertyNames(Atomics));
  pass(Buffer, ['compare', 'from', 'concat']);
}

function pass(owner: object, names: readonly string[]): void {
  const methods = owner as Record<string, unknown>;
  for (const name of names) {
    const method = methods[name];
    if (typeof method !== 'function') continue;
    methods[name] = (...args: unknown[]) =>
      (method as (...a: unknown[]) => unknown).apply(owner, args.map(unwrap));
  }
}
