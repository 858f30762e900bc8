/** Memory that begins on a cache line.
 *
 *  Records here are laid out by cache lines, which is worth nothing if the buffer does not begin on one: those of
 *  the ArrayBuffer constructors begin 16 bytes behind one, where malloc puts large blocks, so that each record lies
 *  in two. Memory of WebAssembly begins on a page; like theirs, it is zero pages until something is written.
 *  Where there is none to be had (more than 4 GiB, or address space is short), an ordinary buffer does as well,
 *  only slower. */

const PAGE_BYTES = 1 << 16;
const MAX_PAGES = 1 << 16;

/** What of WebAssembly.Memory is used; its types come with those of browsers. */
interface MemoryConstructor {
  new (descriptor: { initial: number; maximum: number; shared?: boolean }): { buffer: ArrayBufferLike };
}
const { Memory } = (globalThis as unknown as { WebAssembly: { Memory: MemoryConstructor } }).WebAssembly;

/** At least `bytes` bytes that threads can share. Throws Error with a remedy if there is no room. */
export function allocateShared(bytes: number): SharedArrayBuffer {
  const memory = allocate(bytes, true);
  if (memory !== null) return memory as SharedArrayBuffer;
  try {
    return new SharedArrayBuffer(bytes);
  } catch (error) {
    const size = Math.ceil(bytes / 2 ** 20);
    throw new Error(
      `no room for a table of ${size} MiB of shared memory; a smaller --max-conns, fewer workers or a higher ulimit -v help`,
      { cause: error },
    );
  }
}

/** At least `bytes` bytes for one thread. */
export function allocatePrivate(bytes: number): ArrayBuffer {
  return (allocate(bytes, false) ?? new ArrayBuffer(bytes)) as ArrayBuffer;
}

function allocate(bytes: number, shared: boolean): ArrayBufferLike | null {
  const pages = Math.max(1, Math.ceil(bytes / PAGE_BYTES));
  if (pages > MAX_PAGES) return null;
  try {
    return new Memory({ initial: pages, maximum: pages, shared }).buffer;
  } catch {
    return null;
  }
}
