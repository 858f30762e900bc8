/** SQL over connection records, by an embedded DuckDB: an optional package, because it is 70 MB. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

export interface SqlResult {
  columns: string[];
  /** JSON values; what JSON can't say (large integers, times) is text. */
  rows: unknown[][];
}

/** Throws Error, naming the remedy, if DuckDB is not installed. */
export async function loadDuckDb(): Promise<typeof import('@duckdb/node-api')> {
  try {
    return await import('@duckdb/node-api');
  } catch (error) {
    throw new Error(
      `--sql needs DuckDB, which is not installed; install it with: npm install @duckdb/node-api (${(error as Error).message.split('\n')[0]})`,
    );
  }
}

/** Runs a query over the records in a Parquet file, which it knows as the table `connections`. */
export async function queryRecords(parquet: string, sql: string): Promise<SqlResult> {
  const { DuckDBInstance } = await loadDuckDb();
  const instance = await DuckDBInstance.create(':memory:');
  const connection = await instance.connect();
  try {
    const file = parquet.replaceAll("'", "''");
    await connection.run(`create view connections as select * from read_parquet('${file}')`);
    const reader = await connection.runAndReadAll(sql);
    return { columns: reader.columnNames(), rows: reader.getRowsJson() as unknown[][] };
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

/** A folder for a file that only a query needs; removed with everything in it by the function. */
export function temporaryParquet(): { path: string; remove: () => void } {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-sql-'));
  return {
    path: path.join(folder, 'connections.parquet'),
    remove: () => fs.rmSync(folder, { recursive: true, force: true }),
  };
}
