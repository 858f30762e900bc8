/** The library as a program meets it: the examples of docs/analyze.md run, and the types are what they say. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { records, verdicts } from '../../src/index.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const CAPTURE = path.join(ROOT, 'fixtures/captures/web-client.pcap');
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-library-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

/** A project that has the package. */
function project(): void {
  fs.mkdirSync(path.join(folder, 'node_modules'), { recursive: true });
  fs.writeFileSync(path.join(folder, 'package.json'), '{"type":"module"}');
  for (const [name, to] of [
    ['node_modules/shardtrack', ROOT],
    ['fixtures', path.join(ROOT, 'fixtures')],
  ]) {
    if (!fs.existsSync(path.join(folder, name))) fs.symlinkSync(to, path.join(folder, name));
  }
}

test('library: the examples of the documentation run', () => {
  project();
  const text = fs.readFileSync(path.join(ROOT, 'docs/analyze.md'), 'utf8');
  const examples = [...text.matchAll(/```ts\n([\s\S]*?)```/g)].map((m) => m[1]);
  assert.equal(examples.length, 3);
  const printed = examples.map((example, i) => {
    const name = path.join(folder, `example-${i}.mjs`);
    fs.writeFileSync(name, example);
    return execFileSync(process.execPath, [name], { cwd: folder, encoding: 'utf8' });
  });
  assert.equal(printed[0], '70 3138\n');
  assert.ok(fs.readFileSync(path.join(folder, 'connections.csv'), 'utf8').startsWith('start,end,'));
  assert.equal(printed[1].trimEnd().split('\n').length, 110);
  assert.match(printed[2], /^156 56\n$/);
});

test('library: its types', () => {
  project();
  fs.writeFileSync(
    path.join(folder, 'types.ts'),
    `import { type Analysis, type AnalyzeOptions, analyze, type ConnectionRecord, type PacketVerdict, records, verdicts } from 'shardtrack';
const options: AnalyzeOptions = { paths: ['a.pcap'], filter: 'tcp', workers: 2, outputs: [{ format: 'parquet', path: 'a.parquet' }] };
const analysis: Analysis = await analyze(options);
const packets: number = analysis.reconciliation.captured.packets;
for await (const r of records({ paths: [] })) {
  const record: ConnectionRecord = r;
  const ending: 'timeout' | 'replaced' | 'flushed' | 'open' = record.ending;
  const both: readonly [number, number] = record.packets;
  void [ending, both, packets];
}
const run = verdicts({ paths: [] });
for await (const v of run) {
  const verdict: PacketVerdict = v;
  const reason: string | null = verdict.reason;
  void reason;
}
const connections: number = (await run.result).connections;
void connections;
// @ts-expect-error no such format
await analyze({ paths: [], outputs: [{ format: 'xml', path: 'a' }] });
// @ts-expect-error paths are needed
await analyze({});
// @ts-expect-error records has them one by one
records({ paths: [], onRecord() {} });
// @ts-expect-error it is only read
run.result = Promise.reject();
`,
  );
  fs.writeFileSync(
    path.join(folder, 'tsconfig.json'),
    JSON.stringify({
      compilerOptions: {
        strict: true,
        noEmit: true,
        target: 'ES2022',
        module: 'NodeNext',
        skipLibCheck: true,
        types: ['node'],
        typeRoots: [path.join(ROOT, 'node_modules/@types')],
      },
      files: ['types.ts'],
    }),
  );
  const tsc = path.join(ROOT, 'node_modules/typescript/bin/tsc');
  const { stdout, status } = spawnSync(process.execPath, [tsc, '-p', folder], { encoding: 'utf8' });
  assert.equal(status, 0, stdout);
});

test('library: a slow consumer gets everything, one that breaks off ends the run', async () => {
  let n = 0;
  for await (const v of verdicts({
    paths: [CAPTURE, `${CAPTURE.slice(0, -5)}.pcap`],
    workers: 1,
    maxConns: 1000,
  })) {
    assert.equal(v.packet, ++n);
    if (n % 500 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.equal(n, 3138);
  const run = records({ paths: [CAPTURE], workers: 0, maxConns: 1000 });
  const { result } = run;
  for await (const r of run) {
    assert.ok(r.packets[0] > 0);
    break;
  }
  // All may have been read by then.
  await result.catch((error: Error) => assert.equal(error.name, 'BrokenOff'));
  const failing = records({ paths: ['/nowhere.pcap'] });
  await assert.rejects(async () => {
    for await (const _ of failing) assert.fail();
  }, /no such file/);
});
