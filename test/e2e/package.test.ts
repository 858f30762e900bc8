/** What is published: the compiled product, captures and tables to try it with, and nothing that only its tests need. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { ROOT } from '../differential/fixture.js';

interface Manifest {
  scripts: Record<string, string>;
  dependencies: Record<string, string>;
  bin: Record<string, string>;
  exports: { '.': Record<string, string> };
}
interface Lock {
  packages: Record<
    string,
    { dev?: boolean; devOptional?: boolean; hasInstallScript?: boolean; integrity?: string }
  >;
}
const read = (name: string): unknown => JSON.parse(readFileSync(path.join(ROOT, name), 'utf8'));

test('package: what is packed', () => {
  const answer = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: ROOT,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [{ files }] = JSON.parse(answer) as [{ files: { path: string }[] }];
  const paths = files.map((f) => f.path);
  const { bin, exports } = read('package.json') as Manifest;
  const needed = [
    'LICENSE',
    'README.md',
    'SECURITY.md',
    'fixtures/captures/ATTRIBUTION.md',
    'dist/workers/shard.js',
  ];
  for (const file of [...needed, ...Object.values(bin), ...Object.values(exports['.'])]) {
    assert.ok(paths.includes(path.posix.normalize(file)), `${file} is not packed`);
  }
  const kinds =
    /^(dist\/(src|workers)\/|ci\/|docs\/bench\.schema\.json$|fixtures\/(captures|flows|scenarios)\/|fixtures\/README\.md$|[A-Z]+(\.md)?$|package\.json$)/;
  assert.deepEqual(
    paths.filter((p) => !kinds.test(p)),
    [],
  );
});

test('package: installing it runs nothing, and all of it has a checksum', () => {
  const { scripts, dependencies } = read('package.json') as Manifest;
  for (const name of ['preinstall', 'install', 'postinstall']) assert.equal(scripts[name], undefined);
  const { packages } = read('package-lock.json') as Lock;
  for (const name of Object.keys(dependencies))
    assert.ok(packages[`node_modules/${name}`], `${name} is not locked`);
  for (const [name, p] of Object.entries(packages)) {
    if (name === '' || p.dev || p.devOptional) continue;
    assert.ok(p.integrity, `${name} has no checksum`);
    assert.notEqual(p.hasInstallScript, true, `${name} runs a script`);
  }
});
