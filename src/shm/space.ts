/** One block of WebAssembly's memory in which tables lie that its code reads beside threads: arena, columns, connections.
 *
 *  It grows as tables are taken out of it, each on a page of its own; nothing is given back before all of it. Pages are zero,
 *  and not used before something is written, as in shm/aligned.ts. The views that it gives stay what they are. */

const PAGE_BYTES = 1 << 16;
/** Of address space: 4 GiB, the most that there can be. */
const MAX_PAGES = 1 << 16;
const ALIGNMENT = 4096;

/** What of WebAssembly is used; its types come with those of browsers. */
interface Memory {
  readonly buffer: SharedArrayBuffer;
  grow(pages: number): number;
}
const { Memory } = (
  globalThis as unknown as {
    WebAssembly: {
      Memory: new (descriptor: { initial: number; maximum: number; shared: boolean }) => Memory;
    };
  }
).WebAssembly;

export class Space {
  readonly memory: Memory;
  private used = 0;

  private constructor(memory: Memory) {
    this.memory = memory;
  }

  /** Null if there is no room for it. */
  static open(): Space | null {
    try {
      return new Space(new Memory({ initial: 1, maximum: MAX_PAGES, shared: true }));
    } catch {
      return null;
    }
  }

  /** Zeroed words. Throws Error with a remedy if there is no room. */
  int32(n: number): Int32Array {
    const at = this.take(n * 4);
    return new Int32Array(this.memory.buffer, at, n);
  }

  float64(n: number): Float64Array {
    const at = this.take(n * 8);
    return new Float64Array(this.memory.buffer, at, n);
  }

  /** Where `bytes` zeroed bytes begin in `memory.buffer`. */
  take(bytes: number): number {
    const { memory } = this;
    const at = this.used;
    const end = at + Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    const pages = Math.ceil(end / PAGE_BYTES) - memory.buffer.byteLength / PAGE_BYTES;
    try {
      if (pages > 0) memory.grow(pages);
    } catch (error) {
      const size = Math.ceil(bytes / 2 ** 20);
      throw new Error(
        `no room for a table of ${size} MiB of shared memory; a smaller --max-conns or a higher ulimit -v help`,
        { cause: error },
      );
    }
    this.used = end;
    return at;
  }
}
