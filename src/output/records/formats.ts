/** Formats of connection records by name, and where records go. What writes them is in output.ts, which is loaded by the
 *  thread that does. */
import type { PartitionBy } from './partitioned.js';

export const FORMATS = ['ndjson', 'csv', 'zeek', 'parquet', 'ipfix', 'conntrack', 'dpctl'] as const;
export type Format = (typeof FORMATS)[number];

/** Where records go, and how. */
export interface RecordOutput {
  format: Format;
  /** A file; `-` is standard output. */
  path: string;
  /** The path is a folder, with a file for each value of this. */
  partition?: PartitionBy;
}

/** How files are called in a folder. */
export const ENDING: Record<Format, string> = {
  ndjson: 'ndjson',
  csv: 'csv',
  zeek: 'log',
  parquet: 'parquet',
  ipfix: 'ipfix',
  conntrack: 'txt',
  dpctl: 'txt',
};
