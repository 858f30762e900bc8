/** What a micro benchmark is made of. */

export interface Variant {
  /** "group/name". */
  name: string;
  what: string;
  /** Operations in one run. */
  operations: number;
  unit: 'ns/call' | 'ns/word';
  /** Builds what is needed, checks that the results are right (throws if not) and returns the run. What a run
   *  returns only keeps its work alive. */
  prepare(): () => number;
  /** Something to report besides the time; asked after `prepare`. */
  note?(): string;
}

/** Fails the benchmark: a wrong answer is not worth timing. */
export function must(right: boolean, what: string): void {
  if (!right) throw new Error(`wrong result: ${what}`);
}
