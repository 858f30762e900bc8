/** How far a fuzzer is. */
export interface Progress {
  inputs: number;
  files: number;
  packets: number;
  /** Blocks of code that have run, and inputs that are kept because of new ones. */
  blocks: number;
  kept: number;
  audits: number;
  peakBytes: number;
  /** Still in use after a garbage collection, at most. */
  heldBytes: number;
}

export const NOTHING: Progress = {
  inputs: 0,
  files: 0,
  packets: 0,
  blocks: 0,
  kept: 0,
  audits: 0,
  peakBytes: 0,
  heldBytes: 0,
};
