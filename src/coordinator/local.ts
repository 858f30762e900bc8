/** The datapath on the main thread, where no worker is asked for or none can be used. */
import type { Megaflow } from '../classifier/megaflow.js';
import type { VectorOptions } from '../datapath/vectors.js';
import type { Pipeline } from '../openflow/tables.js';
import type { PacketColumns } from '../shm/packets.js';
import type { Direct } from './direct.js';
import type { Completions } from './fabric.js';

export interface LocalOptions extends VectorOptions {
  packets: PacketColumns;
  pipeline: Pipeline;
  control: Direct;
  /** Test only: seed of random vectors, 0 for none. */
  jitter: number;
}

export interface LocalDatapath {
  /** Who takes the completed packets; before the first one. */
  completions: Completions | null;
  checkSequence: boolean;
  /** The next packet of the input is in window slot `slot`. */
  take(slot: number): void;
  /** Runs what has been taken to the end. */
  finish(): void;
  /** Drops what is cached of older tables; no packet is in flight. */
  forget(): void;
  /** Brings the counters up to date. */
  account(): void;
  megaflows(): readonly Megaflow[];
}
