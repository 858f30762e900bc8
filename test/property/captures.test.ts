/** The shipped captures through the shipped flow tables: 0, 1, 2 and 4 workers agree byte for byte. All
 *  captures are merged by time into one input; those that end in damage are replayed alone. */
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { minSegments, SegmentArena } from '../../src/pcap/arena.js';
import { MergedSource } from '../../src/pcap/merge.js';
import { openCapture } from '../../src/pcap/open.js';
import { difference, type RunOptions, type RunResult, runSource } from '../support/run.js';

const fixtures = fileURLToPath(new URL('../../../fixtures', import.meta.url));
const captures = fs
  .readdirSync(`${fixtures}/captures`)
  .filter((name) => /\.(pcap|pcapng)(\.gz)?$/.test(name))
  .map((name) => `${fixtures}/captures/${name}`);
const tables = fs.readdirSync(`${fixtures}/flows`).filter((name) => name.endsWith('.txt'));

async function replayFiles(paths: readonly string[], o: RunOptions): Promise<RunResult> {
  const arena = new SegmentArena(minSegments(paths.length) + 2, 1 << 19);
  const readers = [];
  for (const path of paths) readers.push(await openCapture(path, arena));
  return runSource(new MergedSource(readers, arena), arena, (source, iface) => 1 + ((source + iface) % 4), o);
}

const flowsOf = (table: string) => fs.readFileSync(`${fixtures}/flows/${table}`, 'utf8');

let whole: Promise<string[]> | undefined;
/** The captures that read to their end. */
function wholeCaptures(): Promise<string[]> {
  whole ??= (async () => {
    const found: string[] = [];
    for (const path of captures) {
      if ((await replayFiles([path], { flows: 'actions=drop' })).result.damage === null) found.push(path);
    }
    return found;
  })();
  return whole;
}

for (const table of tables) {
  test(`captures: all of them through ${table}: 0, 1, 2 and 4 workers agree`, async () => {
    const paths = await wholeCaptures();
    assert.ok(paths.length >= 20, `${paths.length} captures`);
    const flows = flowsOf(table);
    const want = await replayFiles(paths, { flows });
    assert.ok(want.result.packets > 500, `${want.result.packets} packets`);
    for (const workers of [1, 2, 4]) {
      const got = await replayFiles(paths, { flows, workers, window: workers === 4 ? 300 : 4096 });
      assert.equal(difference(want, got), null, `${table}, ${workers} workers`);
    }
  });
}

test('captures: those that end in damage: everything before it is the same for 0 and 2 workers', async () => {
  const good = new Set(await wholeCaptures());
  const flows = flowsOf('firewall.txt');
  for (const path of captures) {
    if (good.has(path)) continue;
    const want = await replayFiles([path], { flows });
    const got = await replayFiles([path], { flows, workers: 2 });
    assert.equal(difference(want, got), null, path);
    assert.equal(got.result.damage?.message, want.result.damage?.message);
  }
});
