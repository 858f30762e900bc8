/** `--queue`: jobs over a real Redis, workers that are killed. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { analyze } from '../../src/analyze/analyze.js';
import { jobsOf, runJob, together } from '../../src/analyze/queue.js';
import { queryRecords } from '../../src/analyze/sql.js';
import { pcapFile, Random } from '../support/packets.js';
import { randomTraffic } from '../support/random-traffic.js';

const CLI = process.env.SHARDTRACK_CLI ?? fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const HAS_REDIS = spawnSync('redis-server', ['--version']).error === undefined;
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-queue-'));
const children: ChildProcess[] = [];
after(() => {
  for (const child of children) child.kill('SIGKILL');
  fs.rmSync(folder, { recursive: true, force: true });
});
const file = (...names: string[]): string => path.join(folder, ...names);

// Seeds whose buckets are exactly the whole. 3, 8 and 12 of 1 to 12 are not, by one packet each: lists of fragments expire one with
// each packet through ct(), and 1,000 fragments are held at most, both over the packets of all buckets (docs/analyze.md). To be exact a bucket
// would have to run ct()'s reassembly for the packets of all the others.
before(() => {
  for (const [name, seed] of [
    ['a', 5],
    ['b', 6],
  ] as const) {
    const packets = randomTraffic(new Random(seed), { packets: 1500 }).map((p) => ({ ...p, port: 1 }));
    packets.sort((x, y) => x.sec - y.sec || x.nsec - y.nsec);
    fs.writeFileSync(file(`${name}.pcap`), pcapFile(packets, { nano: true }));
  }
});

/** What does not depend on the packets of other connections: all but their numbers. */
function lines(text: string): string[] {
  return text
    .trimEnd()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.replace(/"(first|last)_packet":\d+,/g, ''))
    .sort();
}

async function whole(): Promise<string[]> {
  const all: string[] = [];
  for (const name of ['a', 'b']) {
    const out = file(`${name}.whole`);
    const outputs = [{ format: 'ndjson', path: out }] as const;
    await analyze({ paths: [file(`${name}.pcap`)], workers: 0, maxConns: 10_000, outputs });
    all.push(...lines(fs.readFileSync(out, 'utf8')));
  }
  return all.sort();
}

function parts(at: string): string[] {
  const names = fs.readdirSync(at, { recursive: true, withFileTypes: true });
  return names.filter((e) => e.isFile()).map((e) => path.join(e.parentPath, e.name));
}

test('queue: the buckets of captures together are the captures, and their numbers add up', async () => {
  const sets = [[file('a.pcap')], [file('b.pcap')]];
  const outputs = [
    { format: 'ndjson', path: file('jobs') },
    { format: 'parquet', path: file('table') },
  ] as const;
  const jobs = jobsOf(sets, 3, outputs, { maxConns: 10_000 });
  assert.equal(jobs.length, 6);
  const results = [];
  for (const job of jobs) results.push(await runJob(job, 0, new AbortController().signal));
  // Again, as when a worker has lost its lock: nothing changes.
  await runJob(jobs[1], 0, new AbortController().signal);
  const want = await whole();
  const found = parts(file('jobs'));
  assert.equal(found.length, 6);
  assert.deepEqual(found.flatMap((p) => lines(fs.readFileSync(p, 'utf8'))).sort(), want);
  const all = together(results);
  assert.equal(all.captured.packets, 3000);
  assert.equal(all.summary.connections, want.length);
  assert.equal(
    all.reconciliation.rows.reduce((n, row) => n + row.packets, 0),
    3000,
  );
  const { rows } = await queryRecords(
    file('table/**/*.parquet'),
    'select capture_set, count(distinct bucket), count(*) from connections group by 1 order by 1',
  );
  assert.equal(rows.length, 2);
  assert.equal(Number((rows[0] as string[])[2]) + Number((rows[1] as string[])[2]), want.length);
});

function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

function shardtrack(...args: string[]): ChildProcess & { text: string } {
  const env = { ...process.env, SHARDTRACK_QUEUE_LOCK_MS: '1500' };
  const child = Object.assign(spawn(process.execPath, [CLI, ...args], { env, stdio: 'pipe' }), { text: '' });
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (b: Buffer) => {
      child.text += b;
    });
  }
  children.push(child);
  return child;
}
const exit = (child: ChildProcess): Promise<number | null> =>
  new Promise((resolve) => (child.exitCode !== null ? resolve(child.exitCode) : child.on('exit', resolve)));
async function says(child: { text: string }, pattern: RegExp): Promise<void> {
  while (!pattern.test(child.text)) await new Promise((resolve) => setTimeout(resolve, 10));
}

test('queue: workers are killed, and every job has exactly one result', {
  skip: HAS_REDIS ? false : 'redis-server is not installed',
  timeout: 180_000,
}, async () => {
  const port = await freePort();
  const redis = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', ''], {
    cwd: folder,
    stdio: 'ignore',
  });
  children.push(redis);
  const url = `redis://127.0.0.1:${port}`;
  const worker = () => shardtrack('worker', '--queue', url, '--workers', '0');
  const client = shardtrack(
    ...['analyze', file('a.pcap'), file('b.pcap'), '--queue', url, '--buckets', '3'],
    ...['-o', `ndjson=${file('out')}`, '--report', file('report.json'), '--max-conns', '10000'],
  );
  // The first worker is killed in its first job, whatever that is, and so is the second.
  for (let i = 0; i < 2; i++) {
    const victim = worker();
    await says(victim, /bucket \d of 3/);
    victim.kill('SIGKILL');
    await exit(victim);
  }
  const workers = [worker(), worker()];
  assert.equal(await exit(client), 0, client.text);
  for (const w of workers) w.kill('SIGTERM');
  for (const w of workers) assert.equal(await exit(w), 0, w.text);
  const found = parts(file('out'));
  assert.equal(found.length, 6, found.join(' '));
  const want = await whole();
  assert.deepEqual(found.flatMap((p) => lines(fs.readFileSync(p, 'utf8'))).sort(), want);
  const report = JSON.parse(fs.readFileSync(file('report.json'), 'utf8'));
  assert.equal(report.reconciliation.captured.packets, 3000);
  assert.equal(report.summary.connections, want.length);
  assert.match(client.text, /6 of 6 jobs done, 3,000 packets/);
  assert.match(client.text, /2 captures, 3,000 packets/);
});

test('queue: a job that fails for good fails the run, and says why', {
  skip: HAS_REDIS ? false : 'redis-server is not installed',
  timeout: 60_000,
}, async () => {
  const port = await freePort();
  children.push(
    spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', ''], {
      cwd: folder,
      stdio: 'ignore',
    }),
  );
  const url = `redis://127.0.0.1:${port}`;
  fs.writeFileSync(file('taken'), '');
  const worker = shardtrack('worker', '--queue', url, '--workers', '0');
  const client = shardtrack('analyze', file('a.pcap'), '--queue', url, '-o', `csv=${file('taken')}`);
  assert.equal(await exit(client), 1, client.text);
  assert.match(client.text, /1 of 1 jobs have failed; the first, .*a\.pcap, bucket 1 of 1: /);
  worker.kill('SIGTERM');
  assert.equal(await exit(worker), 0);
});

test('queue: wrong usage', async () => {
  const { text, code } = await (async () => {
    const child = shardtrack('analyze', file('a.pcap'), '--queue', 'redis://127.0.0.1:1');
    return { code: await exit(child), text: child.text };
  })();
  assert.equal(code, 2);
  assert.match(text, /--queue needs folders/);
});
