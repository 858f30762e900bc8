/** The thread that writes records: what becomes of the others when it fails or dies. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { CHUNK_ROWS, RecordWriter } from '../../../src/analyze/writer.js';
import { ConnectionRecord, ROW_WORDS } from '../../../src/coordinator/record.js';

const words = new Int32Array(ROW_WORDS);
const record = new ConnectionRecord(words, new Float64Array(words.buffer), 0);
const MANY = 200 * CHUNK_ROWS;

function recordMany(writer: RecordWriter): void {
  for (let i = 0; i < MANY; i++) writer.record(record, () => null);
}

test('an output of records that fails while the main thread is busy: abort says which, and why', {
  skip: process.platform !== 'linux',
}, async () => {
  const writer = await RecordWriter.open([{ path: '/dev/full', format: 'ndjson' }]);
  assert.throws(() => recordMany(writer), /an output of records has failed/);
  assert.match(String(await writer.abort()), /\/dev\/full: cannot write the output: ENOSPC/);
});

test('a thread that dies while the main thread waits for it: who waits is told', {
  skip: process.platform !== 'linux',
}, async () => {
  const writer = await RecordWriter.open([{ path: '/dev/null', format: 'ndjson' }]);
  const { worker } = writer as unknown as { worker: Worker };
  void worker.terminate();
  assert.throws(() => recordMany(writer), /the thread that writes records has died/);
  assert.equal(await writer.abort(), null);
});
