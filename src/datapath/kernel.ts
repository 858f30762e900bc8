/** WebAssembly for what most packets need on the way of express.ts: kernel/express.ts, which is compiled to KERNEL_CODE.
 *  Vectors of 16 bytes sum checksums up, and nothing has to be warm before it is fast. Where WebAssembly can't be had,
 *  Express does all of it. */
import type { Space } from '../shm/space.js';
import { KERNEL_CODE } from './kernel-code.js';

/** Where the kernel finds its tables, all in one Space, and numbers that it needs. */
export interface KernelPlaces {
  /** Window slots of the vector. */
  SLOTS: Int32Array;
  OFF: Int32Array;
  CAP_LEN: Int32Array;
  WIRE_LEN: Int32Array;
  IN_PORT: Int32Array;
  NSEC: Int32Array;
  SEC: Float64Array;
  CLOCK: Float64Array;
  SEQ: Float64Array;
  VERDICT: Int32Array;
  SUMS: Uint8Array;
  KEYS: Int32Array;
  KEY_ADDR6: Int32Array;
  KEY_HASHES: Int32Array;
  L3S: Int32Array;
  L4S: Int32Array;
  L3_SIZES: Int32Array;
  L4_SIZES: Int32Array;
  FOUND: Int32Array;
  HASHES: Int32Array;
  SRCS: Int32Array;
  DSTS: Int32Array;
  REST: Int32Array;
  VERDICTS: Int32Array;
  INDEX: Int32Array;
  HOT: Int32Array;
  RECORDS: Int32Array;
  ADDR6: Int32Array;
  TIMEOUTS: Float64Array;
  MOST_PORTS: number;
  SEED: number;
  /** 0: checksums are taken for right. */
  VERIFY: number;
}

interface Global {
  value: number;
}

export interface Kernel {
  /** Parses and looks up the `n` packets of the vector; those that are nothing for it are in REST: returns how many. `base` and
   *  `mask` as in Partition. */
  stage(n: number, base: number, mask: number): number;
  /** Steps and counts packets from `i` on. Returns the first that it does not take, or `n`. */
  run(i: number, n: number): number;
  /** Bytes on the wire of the packets that `run` has taken, since it was set to 0. */
  readonly TAKEN_BYTES: Global;
}

interface WebAssemblyCode {
  Module: new (code: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { exports: Kernel & Record<string, Global> };
}

/** Null if there is no WebAssembly that can run it. */
export function loadKernel(space: Space, places: KernelPlaces): Kernel | null {
  const { Module, Instance } = (globalThis as unknown as { WebAssembly: WebAssemblyCode }).WebAssembly;
  let exports: Kernel & Record<string, Global>;
  try {
    const module = new Module(Buffer.from(KERNEL_CODE, 'base64'));
    ({ exports } = new Instance(module, { env: { memory: space.memory } }));
  } catch {
    // Processors without SSE4.1 have no vectors of 16 bytes.
    return null;
  }
  for (const [name, place] of Object.entries(places)) {
    exports[name].value = typeof place === 'number' ? place : place.byteOffset;
  }
  return exports;
}
