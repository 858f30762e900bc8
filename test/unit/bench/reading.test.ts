import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { measure, writeFile } from '../../../bench/reading/main.js';

test('reading: both readers find the same packets in what the benchmark writes', async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'reading-test-'));
  try {
    const sizes = [64, 594, 1518];
    const classic = path.join(dir, 'a.pcap');
    const modern = path.join(dir, 'a.pcapng');
    writeFile(classic, 'pcap', sizes, 3e6);
    writeFile(modern, 'pcapng', sizes, 3e6);
    const ours = await measure(classic, 'ours');
    const theirs = await measure(classic, 'pcap-parser');
    assert.ok(ours.packets > 3000 && ours.fileBytes > 2.9e6);
    assert.deepEqual([theirs.packets, theirs.bytes], [ours.packets, ours.bytes]);
    assert.equal(ours.fileBytes, 24 + 16 * ours.packets + ours.bytes);
    const other = await measure(modern, 'ours');
    assert.ok(other.packets > 3000 && other.bytes < other.fileBytes);
  } finally {
    fs.rmSync(dir, { recursive: true });
  }
});
