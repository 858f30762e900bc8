/** Records in a file for each value of something, in folders of Hive's kind: `FOLDER/day=2024-05-01/connections.parquet`.
 *  DuckDB and Spark read them as one table, in which that is a column. */
import path from 'node:path';
import { protocolName } from '../../coordinator/dump.js';
import type { ConnectionRecord } from '../../coordinator/record.js';
import { makeFolder } from '../folders.js';
import type { RecordSink } from './sinks.js';

/** What may tell files apart; times are those of a connection's first packet, UTC. */
export const PARTITIONS = ['day', 'hour', 'protocol', 'zone'] as const;
export type PartitionBy = (typeof PARTITIONS)[number];

const VALUES: Record<PartitionBy, (r: ConnectionRecord) => string> = {
  day: (r) => new Date(r.startSec * 1000).toISOString().slice(0, 10),
  hour: (r) => new Date(r.startSec * 1000).toISOString().slice(0, 13),
  protocol: (r) => protocolName(r.proto),
  zone: (r) => String(r.zone),
};

export class PartitionedRecords implements RecordSink {
  /** The folder. */
  readonly path: string;
  private readonly by: PartitionBy;
  private readonly name: string;
  private readonly open: (path: string, saved?: unknown) => RecordSink;
  private readonly sinks = new Map<string, RecordSink>();

  /** `open` makes the sink of a file, all of which are called `name`; `saved` is what another's `save` has returned. */
  constructor(
    folder: string,
    by: PartitionBy,
    name: string,
    open: (path: string, saved?: unknown) => RecordSink,
    saved?: unknown,
  ) {
    this.path = folder;
    this.by = by;
    this.name = name;
    this.open = open;
    makeFolder(folder);
    for (const [value, state] of (saved as Map<string, unknown> | undefined) ?? []) this.add(value, state);
  }

  record(r: ConnectionRecord): void {
    const value = VALUES[this.by](r);
    (this.sinks.get(value) ?? this.add(value)).record(r);
  }

  save(): Map<string, unknown> {
    return new Map([...this.sinks].map(([value, sink]) => [value, sink.save()]));
  }

  finish(): void {
    for (const sink of this.sinks.values()) sink.finish();
  }

  abort(): void {
    for (const sink of this.sinks.values()) sink.abort();
  }

  private add(value: string, saved?: unknown): RecordSink {
    const folder = path.join(this.path, `${this.by}=${value}`);
    makeFolder(folder);
    const sink = this.open(path.join(folder, this.name), saved);
    this.sinks.set(value, sink);
    return sink;
  }
}
