import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { allocatePrivate, allocateShared } from '../../../src/shm/aligned.js';

test('aligned: there is as much as was asked for, and it is zero', () => {
  for (const bytes of [1, 64, 65_536, 65_537, 5_000_000]) {
    for (const buffer of [allocateShared(bytes), allocatePrivate(bytes)]) {
      assert.ok(buffer.byteLength >= bytes);
      assert.ok(new Uint8Array(buffer).every((byte) => byte === 0));
    }
  }
  assert.ok(allocateShared(64) instanceof SharedArrayBuffer);
  assert.ok(allocatePrivate(64) instanceof ArrayBuffer);
});

test('aligned: threads share it', async () => {
  const shared = new Int32Array(allocateShared(64));
  const source = 'const { workerData } = require("node:worker_threads"); new Int32Array(workerData)[5] = 7;';
  const worker = new Worker(source, { eval: true, workerData: shared.buffer });
  await new Promise((resolve) => worker.once('exit', resolve));
  assert.equal(shared[5], 7);
});
