/** Connection records as Parquet, typed and compressed with Snappy, in row groups of ROWS: DuckDB, Spark and pandas
 *  read it as it is. A row group is encoded and written at a time (chunks.ts); head and footer are hyparquet-writer's. */
import type { SchemaElement } from 'hyparquet';
import type { Writer } from 'hyparquet-writer';
// Not the whole of it, which is another fifty modules.
import { ByteWriter } from 'hyparquet-writer/src/bytewriter.js';
import { ParquetWriter } from 'hyparquet-writer/src/parquet-writer.js';
import type { ConnectionRecord } from '../../coordinator/record.js';
import { OutputFile, type Written } from '../../pcap/output-file.js';
import {
  type ChunkColumn,
  type ColumnState,
  DoubleColumn,
  Int32Column,
  Int64Column,
  NamesColumn,
  TextColumn,
} from './chunks.js';
import { COLUMNS, type Column, type RuleNames } from './columns.js';
import type { RecordSink } from './sinks.js';

/** Records in a row group. */
const ROWS = 1 << 15;

/** The file, the description of its row groups, and the rows of the next one. */
interface ParquetState {
  written: Written;
  row_groups: ParquetWriter['row_groups'];
  num_rows: ParquetWriter['num_rows'];
  columns: ColumnState[];
  nRows: number;
}

export class ParquetRecords implements RecordSink {
  readonly path: string;
  private readonly out: OutputFile;
  private readonly bytes: BufferedWriter;
  private readonly writer: ParquetWriter;
  private readonly rules: RuleNames;
  private readonly chunks: ChunkColumn[] = [];
  /** Puts a record's value of each column into its chunk. */
  private readonly puts: ((r: ConnectionRecord) => void)[] = [];
  private nRows = 0;

  /** `saved` is what another sink's `save` has returned. */
  constructor(path: string, rules: RuleNames, saved?: unknown) {
    this.path = path;
    this.rules = rules;
    COLUMNS.forEach((column, i) => {
      this.add(column, SCHEMA[i + 1]);
    });
    const state = saved as ParquetState | undefined;
    this.out = new OutputFile(path, state?.written ?? null);
    this.bytes = writerTo(this.out);
    this.writer = new ParquetWriter({ writer: this.bytes, schema: SCHEMA, createdBy: 'shardtrack' });
    if (state === undefined) return;
    const { row_groups, num_rows } = state;
    Object.assign(this.writer, { row_groups, num_rows });
    // The four bytes that begin a file are in it.
    this.bytes.index = 0;
    this.bytes.offset = state.written.length;
    this.chunks.forEach((chunk, i) => {
      chunk.restore(state.columns[i]);
    });
    this.nRows = state.nRows;
  }

  save(): ParquetState {
    this.bytes.flush();
    const { row_groups, num_rows } = this.writer;
    const columns = this.chunks.map((chunk) => chunk.save());
    return { written: this.out.sync(), row_groups, num_rows, columns, nRows: this.nRows };
  }

  record(r: ConnectionRecord): void {
    for (const put of this.puts) put(r);
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

  private add(column: Column, element: SchemaElement): void {
    const { rules } = this;
    const { chunk, put } = chunkOf(column, element, rules);
    this.chunks.push(chunk);
    this.puts.push(put);
  }

  private flush(): void {
    const { nRows, bytes, writer } = this;
    const from = bytes.offset;
    const columns = this.chunks.map((chunk) => chunk.write(bytes));
    writer.num_rows += BigInt(nRows);
    writer.row_groups.push({
      columns,
      total_byte_size: columns.reduce((n, c) => n + c.meta_data!.total_uncompressed_size, 0n),
      num_rows: BigInt(nRows),
      total_compressed_size: BigInt(bytes.offset - from),
    });
    bytes.flush();
    this.nRows = 0;
  }
}

/** The chunk of a column, and what puts a record's value into it. */
function chunkOf(
  column: Column,
  element: SchemaElement,
  rules: RuleNames,
): { chunk: ChunkColumn; put: (r: ConnectionRecord) => void } {
  if (column.type === 'time') {
    const chunk = new Int64Column(element);
    const { sec, nsec } = column;
    return { chunk, put: (r) => chunk.pushTime(sec(r), nsec(r)) };
  }
  if (column.type === 'text' && column.host !== undefined) {
    const { host } = column;
    const chunk = new TextColumn(element);
    const put = (r: ConnectionRecord): void => {
      const address = host(r);
      if (typeof address === 'number') chunk.pushIpv4(address);
      else chunk.push(address);
    };
    return { chunk, put };
  }
  if (column.type === 'text') {
    const { value } = column;
    const chunk = column.unique ? new NamesColumn(element) : new TextColumn(element);
    const put = (r: ConnectionRecord): void => {
      const text = value(r, rules);
      if (text === null) chunk.skip();
      else chunk.push(text);
    };
    return { chunk, put };
  }
  const { type, value } = column;
  const chunk =
    type === 'small'
      ? new Int32Column(element)
      : type === 'integer'
        ? new Int64Column(element)
        : new DoubleColumn(element);
  const put = (r: ConnectionRecord): void => {
    const number = value(r, rules);
    if (number === null) chunk.skip();
    else chunk.push(number);
  };
  return { chunk, put };
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
