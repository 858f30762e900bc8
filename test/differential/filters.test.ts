import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { CAPTURES, countPassing, RECORDED, type Recorded } from './filters.js';

const recorded = JSON.parse(fs.readFileSync(RECORDED, 'utf8')) as Recorded;
const filters = Object.keys(recorded.filters);

test('filter: passes as many packets of the shipped captures as tcpdump, and refuses what it refuses', async () => {
  const differences: string[] = [];
  for (const [i, name] of recorded.captures.entries()) {
    const counts = await countPassing(path.join(CAPTURES, name), filters);
    counts.forEach((got, k) => {
      const want = recorded.filters[filters[k]]?.[i] ?? null;
      if (got !== want) differences.push(`${filters[k]}: ${name}: ${got}, tcpdump ${want}`);
    });
  }
  assert.deepEqual(differences, []);
  const passing = Object.values(recorded.filters).filter((n) => n?.some((c) => c > 0));
  assert.ok(passing.length > 150, `${passing.length} filters let something pass`);
});
