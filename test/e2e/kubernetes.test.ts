/** docs/kubernetes.yaml: what it says is what Kubernetes takes, its parts fit each other, and its commands work. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Deployment } from 'kubernetes-types/apps/v1.js';
import type { Job } from 'kubernetes-types/batch/v1.js';
import type { Container, PersistentVolumeClaim, PodTemplateSpec, Service } from 'kubernetes-types/core/v1.js';
import { parseAllDocuments } from 'yaml';
import { queryRecords } from '../../src/analyze/sql.js';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const CLI = process.env.SHARDTRACK_CLI ?? path.join(ROOT, 'dist/src/cli/main.js');
const HAS_REDIS = spawnSync('redis-server', ['--version']).error === undefined;
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-kubernetes-'));
const children: ChildProcess[] = [];
after(() => {
  for (const child of children) child.kill('SIGKILL');
  fs.rmSync(folder, { recursive: true, force: true });
});

const documents = parseAllDocuments(fs.readFileSync(path.join(ROOT, 'docs/kubernetes.yaml'), 'utf8'));
type Resource = PersistentVolumeClaim | Service | Deployment | Job;
const resources = documents.map((document) => document.toJS() as Resource);
const ofKind = <T extends Resource>(kind: string): T[] => resources.filter((r) => r.kind === kind) as T[];
const deployments = ofKind<Deployment>('Deployment');
const [job] = ofKind<Job>('Job');
const templates: PodTemplateSpec[] = [...deployments.map((d) => d.spec!.template), job.spec!.template];
const containers = templates.flatMap((t) => t.spec!.containers);
const argsOf = (name: string): string[] => containers.find((c) => c.name === name)!.args!;

test('kubernetes: the manifest is YAML without a doubt, and of the types that Kubernetes has', () => {
  for (const { errors, warnings } of documents) assert.deepEqual([errors, warnings], [[], []]);
  const lines = resources.map(({ apiVersion, kind }, i) => {
    const module = apiVersion === 'v1' ? 'core/v1' : apiVersion;
    const text = JSON.stringify(resources[i]);
    return `export const r${i}: import('kubernetes-types/${module}').${kind} = ${text};\n`;
  });
  fs.writeFileSync(path.join(folder, 'manifest.ts'), lines.join(''));
  const tsc = (): string => {
    const options = [
      '--noEmit',
      '--strict',
      '--skipLibCheck',
      '--module',
      'esnext',
      '--moduleResolution',
      'bundler',
    ];
    const program = path.join(ROOT, 'node_modules/typescript/bin/tsc');
    const files = [path.join(folder, 'manifest.ts'), path.join(folder, 'mistake.ts')];
    return spawnSync(process.execPath, [program, ...options, ...files], { encoding: 'utf8' }).stdout;
  };
  fs.symlinkSync(path.join(ROOT, 'node_modules'), path.join(folder, 'node_modules'));
  // A field that there is not must be found.
  const mistake = lines[lines.length - 1]
    .replace('"restartPolicy"', '"restart"')
    .replace(/ r\d+:/, ' wrong:');
  fs.writeFileSync(path.join(folder, 'mistake.ts'), mistake);
  const found = tsc()
    .trim()
    .split('\n')
    .filter((line) => !line.startsWith(' '));
  assert.equal(found.length, 1, found.join('\n'));
  assert.match(found[0], /mistake\.ts.*'"restart"' does not exist in type 'PodSpec'/);
});

test('kubernetes: selectors, volumes, claims and hosts of the manifest are there', () => {
  for (const { metadata, spec } of deployments) {
    assert.deepEqual(spec!.selector.matchLabels, spec!.template.metadata!.labels, metadata!.name);
  }
  const labels = deployments.map((d) => d.spec!.template.metadata!.labels!.app);
  const claims = ofKind<PersistentVolumeClaim>('PersistentVolumeClaim').map((c) => c.metadata!.name);
  for (const { spec } of templates) {
    const volumes = new Map((spec!.volumes ?? []).map((v) => [v.name, v.persistentVolumeClaim!.claimName]));
    for (const claim of volumes.values()) assert.ok(claims.includes(claim));
    for (const mount of spec!.containers.flatMap((c) => c.volumeMounts ?? []))
      assert.ok(volumes.has(mount.name));
  }
  for (const name of ['worker', 'analyze']) {
    const args = argsOf(name);
    const { hostname, port } = new URL(args[args.indexOf('--queue') + 1]);
    const service = ofKind<Service>('Service').find((s) => s.metadata!.name === hostname)!;
    assert.deepEqual(
      service.spec!.ports!.map((p) => String(p.port)),
      [port],
    );
    const server = deployments.find(
      (d) => d.spec!.template.metadata!.labels!.app === service.spec!.selector!.app,
    );
    assert.deepEqual(
      server!.spec!.template.spec!.containers[0].ports!.map((p) => String(p.containerPort)),
      [port],
    );
    assert.ok(labels.includes(service.spec!.selector!.app));
    const mounts = (containers.find((c) => c.name === name) as Container).volumeMounts!;
    for (const at of args.flatMap((arg) => /(?:^|=)(\/.*)/.exec(arg)?.[1] ?? []))
      assert.ok(at.startsWith(`${mounts[0].mountPath}/`));
  }
});

function run(
  program: string,
  args: readonly string[],
): { text: () => string; ended: Promise<number | null> } {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (b: Buffer) => (text += b));
  children.push(child);
  return { text: () => text, ended: new Promise((resolve) => child.on('exit', resolve)) };
}

test('kubernetes: the commands of the manifest analyze captures', {
  skip: HAS_REDIS ? false : 'redis-server is not installed',
}, async () => {
  const port = await new Promise<number>((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
  const local = (name: string): string[] =>
    argsOf(name).map((arg) =>
      arg.replace('shardtrack-redis:6379', `127.0.0.1:${port}`).replaceAll('/shared', folder),
    );
  const redis = run('redis-server', [...local('redis'), '--port', String(port), '--dir', folder]);
  while (!/Ready to accept/.test(redis.text())) await new Promise((resolve) => setTimeout(resolve, 20));
  fs.mkdirSync(path.join(folder, 'captures'));
  for (const name of ['web-client.pcap', 'sctp.pcap'])
    fs.copyFileSync(path.join(ROOT, 'fixtures/captures', name), path.join(folder, 'captures', name));
  for (const name of ['worker', 'analyze']) assert.equal(argsOf(name)[0], 'shardtrack');
  const worker = run(process.execPath, [CLI, ...local('worker').slice(1)]);
  const analyze = run(process.execPath, [CLI, ...local('analyze').slice(1)]);
  assert.equal(await analyze.ended, 0, analyze.text() + worker.text());
  const { rows } = await queryRecords(
    path.join(folder, 'records/**/*.parquet'),
    'select count(*)::int, count(distinct bucket)::int, sum(orig_packets + reply_packets)::int from connections',
  );
  const [connections, buckets, packets] = rows[0] as number[];
  assert.ok(connections > 100 && packets > 2000, `${connections} connections, ${packets} packets`);
  assert.ok(buckets > 1);
});
