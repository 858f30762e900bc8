import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parquetMetadata, parquetReadObjects, type SchemaElement } from 'hyparquet';
import { ByteWriter, ParquetWriter } from 'hyparquet-writer';
import {
  type ChunkColumn,
  type ColumnState,
  DoubleColumn,
  Int32Column,
  Int64Column,
  NamesColumn,
  TextColumn,
} from '../../../src/output/records/chunks.js';
import { formatIpv4 } from '../../../src/wire/address.js';

const optional = (name: string, type: SchemaElement['type']): SchemaElement => ({
  name,
  type: type!,
  repetition_type: 'OPTIONAL',
});
const text = (name: string): SchemaElement => ({ ...optional(name, 'BYTE_ARRAY'), converted_type: 'UTF8' });
const ELEMENTS: SchemaElement[] = [
  optional('small', 'INT32'),
  optional('integer', 'INT64'),
  optional('time', 'INT64'),
  optional('seconds', 'DOUBLE'),
  text('text'),
  text('name'),
];

interface Row {
  small: number | null;
  integer: number | null;
  time: [number, number] | null;
  seconds: number | null;
  text: string | null;
  name: string | null;
}

class Table {
  readonly small = new Int32Column(ELEMENTS[0]);
  readonly integer = new Int64Column(ELEMENTS[1]);
  readonly time = new Int64Column(ELEMENTS[2]);
  readonly seconds = new DoubleColumn(ELEMENTS[3]);
  readonly text = new TextColumn(ELEMENTS[4]);
  readonly name = new NamesColumn(ELEMENTS[5]);

  get columns(): ChunkColumn[] {
    return [this.small, this.integer, this.time, this.seconds, this.text, this.name];
  }

  push(row: Row): void {
    for (const key of ['small', 'integer', 'seconds'] as const) {
      const value = row[key];
      if (value === null) this[key].skip();
      else this[key].push(value);
    }
    for (const key of ['text', 'name'] as const) {
      const value = row[key];
      if (value === null) this[key].skip();
      else this[key].push(value);
    }
    if (row.time === null) this.time.skip();
    else this.time.pushTime(...row.time);
  }
}

/** The groups as a file, whose chunks are written one after the other. */
async function read(table: Table, groups: readonly Row[][]): Promise<{ rows: unknown[]; file: ArrayBuffer }> {
  const bytes = new ByteWriter();
  const schema = [{ name: 'root', num_children: ELEMENTS.length }, ...ELEMENTS];
  const writer = new ParquetWriter({ writer: bytes, schema });
  for (const rows of groups) {
    for (const row of rows) table.push(row);
    const columns = table.columns.map((column) => column.write(bytes));
    const n = columns[0].meta_data!.num_values;
    writer.num_rows += n;
    writer.row_groups.push({ columns, total_byte_size: 1n, num_rows: n });
  }
  writer.finish();
  const file = bytes.getBuffer();
  return { rows: await parquetReadObjects({ file }), file };
}

const expected = (r: Row): unknown => ({
  ...r,
  integer: r.integer === null ? null : BigInt(r.integer),
  time: r.time === null ? null : BigInt(r.time[0]) * 1_000_000_000n + BigInt(r.time[1]),
});

const few = fc.constantFrom('', 'a', 'état', 'x'.repeat(300), '10.0.0.1');
const sometimes = <T>(value: fc.Arbitrary<T>): fc.Arbitrary<T | null> =>
  fc.option(value, { freq: 4, nil: null });
const row: fc.Arbitrary<Row> = fc.record({
  small: sometimes(fc.oneof(fc.integer({ min: 0, max: 3 }), fc.integer())),
  integer: sometimes(fc.oneof(fc.constant(7), fc.nat(300), fc.maxSafeInteger())),
  time: sometimes(fc.tuple(fc.integer(), fc.nat(999_999_999))),
  seconds: sometimes(fc.oneof(fc.constantFrom(0, -0, 1.5), fc.double({ noNaN: true }))),
  text: sometimes(few),
  name: sometimes(fc.string({ maxLength: 40 })),
});
/** Rows and runs of equal rows. */
const group = fc
  .array(fc.tuple(row, fc.constantFrom(1, 1, 1, 9, 300)), { minLength: 1, maxLength: 60 })
  .map((runs) => runs.flatMap(([r, n]) => new Array<Row>(n).fill(r)));

test('chunks: what is put in comes out, from several row groups', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(group, { minLength: 1, maxLength: 3 }), async (groups) => {
      const { rows } = await read(new Table(), groups);
      assert.deepEqual(rows, groups.flat().map(expected));
    }),
    { numRuns: 60 },
  );
});

test('chunks: another table goes on with what one has saved', async () => {
  await fc.assert(
    fc.asyncProperty(group, group, async (first, then) => {
      const one = new Table();
      for (const r of first) one.push(r);
      const saved = structuredClone(one.columns.map((c) => c.save()));
      const other = new Table();
      other.columns.forEach((c, i) => {
        c.restore(saved[i] as ColumnState);
      });
      const { rows } = await read(other, [then]);
      assert.deepEqual(rows, [...first, ...then].map(expected));
    }),
    { numRuns: 20 },
  );
});

test('chunks: bounds of numbers, times and texts', async () => {
  const at = (small: number, sec: number, nsec: number, t: string): Row => ({
    small,
    integer: small * 2 ** 33,
    time: [sec, nsec],
    seconds: small / 2,
    text: t,
    name: t,
  });
  const rows = [at(5, 10, 3, 'b'), at(-2, -1, 999_999_999, 'c'), at(3, 10, 4, 'a')];
  const { file } = await read(new Table(), [[...rows, expectedNull]]);
  const bounds = parquetMetadata(file).row_groups[0].columns.map(({ meta_data: m }) => [
    m!.statistics!.min_value,
    m!.statistics!.max_value,
    m!.statistics!.null_count,
  ]);
  assert.deepEqual(bounds, [
    [-2, 5, 1n],
    [-2n * 2n ** 33n, 5n * 2n ** 33n, 1n],
    [-1n, 10_000_000_004n, 1n],
    [-1, 2.5, 1n],
    ['a', 'c', 1n],
    ['a', 'c', 1n],
  ]);
});
const expectedNull: Row = { small: null, integer: null, time: null, seconds: null, text: null, name: null };

test('chunks: thirty thousand values of few kinds take a few bytes', async () => {
  const rows = Array.from(
    { length: 30_000 },
    (_, i): Row => ({
      ...expectedNull,
      small: 4,
      text: i < 15_000 ? 'SF' : 'S0',
    }),
  );
  const { file } = await read(new Table(), [rows]);
  assert.ok(file.byteLength < 2000, `${file.byteLength} bytes`);
});

test('chunks: IPv4 addresses as words give the bytes that their texts give', () => {
  const addresses = fc.array(
    fc.oneof(fc.integer(), fc.constantFrom('fd00::1', '::', 'fd00:0:0:1::9'), fc.constant(null)),
    { maxLength: 600 },
  );
  fc.assert(
    fc.property(addresses, fc.nat(600), (values, cut) => {
      const bytes = [true, false].map((asWords) => {
        let column = new TextColumn(text('host'));
        values.forEach((value, i) => {
          if (i === cut) {
            const saved = structuredClone(column.save());
            column = new TextColumn(text('host'));
            column.restore(saved);
          }
          if (value === null) column.skip();
          else if (typeof value === 'string') column.push(value);
          else if (asWords) column.pushIpv4(value);
          else column.push(formatIpv4(value));
        });
        // Twice: the next chunk begins with nothing of the one before.
        const out = new ByteWriter();
        const first = column.write(out).meta_data?.statistics;
        column.push('x');
        column.write(out);
        return { bytes: out.getBytes(), first };
      });
      assert.deepEqual(bytes[0], bytes[1]);
    }),
    { numRuns: 60 },
  );
});
