/** Connection records as Parquet, typed and compressed with Snappy, in row groups of ROWS: DuckDB, Spark and pandas
 *  read it as it is. Written by hyparquet-writer; a row group is encoded and written at a time. */
import type { SchemaElement } from 'hyparquet';
import { ByteWriter, ParquetWriter, type Writer } from 'hyparquet-writer';
import type { ConnectionRecord } from '../../coordinator/record.js';
import { OutputFile } from '../../pcap/output-file.js';
import { COLUMNS, type Column, type RuleNames } from './columns.js';
import type { RecordSink } from './sinks.js';

/** Records in a row group. */
const ROWS = 1 << 15;

export class ParquetRecords implements RecordSink {
  readonly path: string;
  private readonly out: OutputFile;
  private readonly writer: ParquetWriter;
  private readonly rules: RuleNames;
  /** By column. */
  private data: unknown[][] = COLUMNS.map(() => []);
  private nRows = 0;

  constructor(path: string, rules: RuleNames) {
    this.path = path;
    this.rules = rules;
    this.out = new OutputFile(path);
    this.writer = new ParquetWriter({ writer: writerTo(this.out), schema: SCHEMA, createdBy: 'shardtrack' });
  }

  record(r: ConnectionRecord): void {
    COLUMNS.forEach((column, i) => {
      const value = column.value(r, this.rules);
      this.data[i].push(column.type === 'integer' && value !== null ? BigInt(value) : value);
    });
    if (++this.nRows === ROWS) this.flush();
  }

  finish(): void {
    if (this.nRows > 0) this.flush();
    this.writer.finish();
    this.out.finish();
  }

  abort(): void {
    this.out.abort();
  }

  private flush(): void {
    const { nRows } = this;
    const columnData = COLUMNS.map(({ name }, i) => ({ name, data: this.data[i] }));
    this.writer.write({ columnData, rowGroupSize: nRows });
    this.data = COLUMNS.map(() => []);
    this.nRows = 0;
  }
}

const SCHEMA: SchemaElement[] = [{ name: 'root', num_children: COLUMNS.length }, ...COLUMNS.map(element)];

function element({ name, type }: Column): SchemaElement {
  const optional = { name, repetition_type: 'OPTIONAL' } as const;
  switch (type) {
    case 'text':
      return { ...optional, type: 'BYTE_ARRAY', converted_type: 'UTF8' };
    case 'integer':
      return { ...optional, type: 'INT64' };
    case 'small':
      return { ...optional, type: 'INT32' };
    case 'seconds':
      return { ...optional, type: 'DOUBLE' };
    case 'time':
      return {
        ...optional,
        type: 'INT64',
        logical_type: { type: 'TIMESTAMP', isAdjustedToUTC: true, unit: 'NANOS' },
      };
  }
}

/** A writer that hands its bytes to the file after each row group. */
function writerTo(out: OutputFile): Writer {
  const writer = new ByteWriter();
  const flush = (): void => {
    out.write(writer.getBytes());
    writer.index = 0;
  };
  return Object.assign(writer, { flush, finish: flush });
}
