/** What is fuzzed. */
import type { Bytes, Random } from '../support/packets.js';

/** A fuzzer: inputs to begin with, how they are changed, and what must hold for any of them. */
export interface Target {
  readonly name: string;
  readonly about: string;
  /** Inputs to begin with. None: the input is four bytes, from which `run` draws the rest. */
  readonly seeds: () => readonly Bytes[];
  readonly mutate: (r: Random, input: Bytes, others: readonly Bytes[]) => Bytes;
  /** Runs the product on an input. Throws if anything does not hold; depends on the input alone. */
  readonly run: (input: Bytes) => Work | Promise<Work>;
  /** Runs inputs that made new code run again, changed. */
  readonly guided: boolean;
}

/** What one input was. */
export interface Work {
  files: number;
  packets: number;
}

/** Makes a target. With `bug`, the product's functions that it calls have a deliberate mistake: it must be found. */
export type MakeTarget = (bug: boolean) => Target;

/** A broken property. */
export class Broken extends Error {
  override name = 'Broken';
}

export function check(holds: boolean, what: () => string): asserts holds {
  if (!holds) throw new Broken(what());
}

/** Draws from an input's bytes. */
export function seedOf(input: Bytes): number {
  let hash = 0x811c9dc5;
  for (const byte of input) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}
