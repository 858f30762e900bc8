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

/** The file, the description of its row groups, and the rows of the next one. */
interface ParquetState {
  length: number;
  row_groups: ParquetWriter['row_groups'];
  num_rows: ParquetWriter['num_rows'];
  pendingIndexes: ParquetWriter['pendingIndexes'];
  data: unknown[][];
}

export class ParquetRecords implements RecordSink {
  readonly path: string;
  private readonly out: OutputFile;
  private readonly bytes: BufferedWriter;
  private readonly writer: ParquetWriter;
  private readonly rules: RuleNames;
  /** By column. */
  private data: unknown[][] = COLUMNS.map(() => []);
  private nRows = 0;

  /** `saved` is what another sink's `save` has returned. */
  constructor(path: string, rules: RuleNames, saved?: unknown) {
    this.path = path;
    this.rules = rules;
    const state = saved as ParquetState | undefined;
    this.out = new OutputFile(path, state?.length ?? null);
    this.bytes = writerTo(this.out);
    this.writer = new ParquetWriter({ writer: this.bytes, schema: SCHEMA, createdBy: 'shardtrack' });
    if (state === undefined) return;
    const { row_groups, num_rows, pendingIndexes } = state;
    Object.assign(this.writer, { row_groups, num_rows, pendingIndexes });
    // The four bytes that begin a file are in it.
    this.bytes.index = 0;
    this.bytes.offset = state.length;
    this.data = state.data;
    this.nRows = state.data[0].length;
  }

  save(): ParquetState {
    this.bytes.flush();
    const { row_groups, num_rows, pendingIndexes } = this.writer;
    return { length: this.out.sync(), row_groups, num_rows, pendingIndexes, data: this.data };
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

type BufferedWriter = Writer & { index: number; flush: () => void };

/** A writer that hands its bytes to the file after each row group. */
function writerTo(out: OutputFile): BufferedWriter {
  const writer = new ByteWriter();
  const flush = (): void => {
    out.write(writer.getBytes());
    writer.index = 0;
  };
  return Object.assign(writer, { flush, finish: flush });
}
