/** Formats of connection records by name. */
import type { RuleNames } from './columns.js';
import { IpfixRecords } from './ipfix.js';
import { ParquetRecords } from './parquet.js';
import {
  ConntrackRecords,
  CsvRecords,
  DpctlRecords,
  NdjsonRecords,
  type RecordSink,
  ZeekRecords,
} from './sinks.js';

export const FORMATS = ['ndjson', 'csv', 'zeek', 'parquet', 'ipfix', 'conntrack', 'dpctl'] as const;
export type Format = (typeof FORMATS)[number];

/** Where records go, and how. */
export interface RecordOutput {
  format: Format;
  /** A file; `-` is standard output. */
  path: string;
}

/** Opens the output. Throws Error naming the path and the system's reason. */
export function openSink({ format, path }: RecordOutput, rules: RuleNames): RecordSink {
  switch (format) {
    case 'ndjson':
      return new NdjsonRecords(path, rules);
    case 'csv':
      return new CsvRecords(path, rules);
    case 'zeek':
      return new ZeekRecords(path);
    case 'parquet':
      return new ParquetRecords(path, rules);
    case 'ipfix':
      return new IpfixRecords(path);
    case 'conntrack':
      return new ConntrackRecords(path);
    case 'dpctl':
      return new DpctlRecords(path);
  }
}
