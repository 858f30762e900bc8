/** Word offsets of a shared-memory record, in declaration order, over an Int32Array. The stride is
 *  rounded up to a power of two, so that slot -> word is one shift. */
export function record<const Names extends readonly string[]>(...names: Names) {
  const at = {} as Record<Names[number], number>;
  names.forEach((name, word) => {
    if (Object.hasOwn(at, name)) throw new RangeError(`record: field ${name} is declared twice`);
    at[name as Names[number]] = word;
  });
  const shift = 32 - Math.clz32(names.length - 1);
  return Object.freeze({ at: Object.freeze(at), shift, words: 1 << shift });
}
