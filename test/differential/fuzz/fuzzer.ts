/** What a protocol fuzzer is: flow tables, and traffic drawn at random. */
import type { Script } from '../scenarios/script.js';

/** A number from 0 to n - 1. */
export type Draw = (n: number) => number;

export interface Fuzzer {
  readonly name: string;
  readonly about: string;
  /** Each seed takes one of them. */
  readonly tables: readonly string[];
  readonly ports: number;
  /** One case: it begins with no connections. Depends on the draws alone. `table` is the number of its flow table. */
  readonly play: (s: Script, r: Draw, table: number) => void;
}

export const pick = <T>(r: Draw, list: readonly T[]): T => list[r(list.length)];

/** True once in n. */
export const once = (r: Draw, n: number): boolean => r(n) === 0;

/** Fisher and Yates. */
export function shuffled<T>(r: Draw, list: readonly T[]): T[] {
  const out = [...list];
  for (let i = out.length - 1; i > 0; i--) {
    const j = r(i + 1);
    [out[i], out[j]] = [out[j], out[i]];
  }
  return out;
}

/** Changes up to `most` bytes from `from` on; checksums are left as they were. */
export function damaged(r: Draw, frame: Uint8Array, from: number, most: number): Uint8Array {
  const out = frame.slice();
  if (out.length <= from) return out;
  for (let n = 1 + r(most); n > 0; n--) out[from + r(out.length - from)] = r(256);
  return out;
}
