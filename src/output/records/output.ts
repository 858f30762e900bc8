/** Opens outputs of connection records by their format. */
import type { RuleNames } from './columns.js';
import { ENDING, type RecordOutput } from './formats.js';
import { IpfixRecords } from './ipfix.js';
import { ParquetRecords } from './parquet.js';
import { PartitionedRecords } from './partitioned.js';
import {
  ConntrackRecords,
  CsvRecords,
  DpctlRecords,
  NdjsonRecords,
  type RecordSink,
  ZeekRecords,
} from './sinks.js';

/** Opens the output, or goes on with it where a sink was when its `save` returned this. Throws Error naming the path
 *  and the system's reason. */
export function openSink(output: RecordOutput, rules: RuleNames, saved?: unknown): RecordSink {
  const { format, path, partition } = output;
  if (partition !== undefined) {
    const open = (file: string, state?: unknown): RecordSink =>
      openSink({ format, path: file }, rules, state);
    return new PartitionedRecords(path, partition, `connections.${ENDING[format]}`, open, saved);
  }
  switch (format) {
    case 'ndjson':
      return new NdjsonRecords(path, rules, saved);
    case 'csv':
      return new CsvRecords(path, rules, saved);
    case 'zeek':
      return new ZeekRecords(path, saved);
    case 'parquet':
      return new ParquetRecords(path, rules, saved);
    case 'ipfix':
      return new IpfixRecords(path, saved);
    case 'conntrack':
      return new ConntrackRecords(path, saved);
    case 'dpctl':
      return new DpctlRecords(path, saved);
  }
}
