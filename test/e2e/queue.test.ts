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

// Of seed 5 some fragments come so late that buckets alone could not tell what becomes of them.
before(() => {
  for (const [name, seed] of [
    ['a', 8],
    ['b', 5],
  ] as const) {
    const packets = randomTraffic(new Random(seed), { packets: 1500 }).map((p) => ({ ...p, port: 1 }));
    packets.sort((x, y) => x.sec - y.sec || x.nsec - y.nsec);
    fs.writeFileSync(file(`${name}.pcap`), pcapFile(packets, { nano: true }));
  }
});

/** In any order: jobs are not. */
function lines(text: string): string[] {
  return text
    .trimEnd()
    .split('\n')
    .filter((line) => line !== '')
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
  // Of b, the first bucket is the whole.
  assert.deepEqual(
    results.map((r) => r.captured.packets > 0),
    [true, true, true, true, false, false],
  );
  const all = together(results);
  assert.equal(all.captured.packets, 3000);
  assert.equal(all.summary.connections, want.length);
  const { summary } = await analyze({ paths: [file('a.pcap')], workers: 0, maxConns: 10_000 });
  assert.deepEqual(together(results.slice(0, 3)).summary, summary);
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

test('queue: a Redis that is killed, and comes back without its data, loses nothing', {
  skip: HAS_REDIS ? false : 'redis-server is not installed',
  timeout: 180_000,
}, async () => {
  const port = await freePort();
  const start = (): ChildProcess => {
    const child = spawn('redis-server', ['--port', String(port), '--bind', '127.0.0.1', '--save', ''], {
      cwd: folder,
      stdio: 'ignore',
    });
    children.push(child);
    return child;
  };
  const redis = start();
  const url = `redis://127.0.0.1:${port}`;
  const client = shardtrack(
    ...['analyze', file('a.pcap'), file('b.pcap'), '--queue', url, '--buckets', '2'],
    ...['-o', `ndjson=${file('lost')}`, '--max-conns', '10000'],
  );
  const worker = shardtrack('worker', '--queue', url, '--workers', '0');
  await says(worker, /bucket \d of 2/);
  redis.kill('SIGKILL');
  await exit(redis);
  start();
  assert.equal(await exit(client), 0, client.text);
  worker.kill('SIGTERM');
  assert.equal(await exit(worker), 0, worker.text);
  const found = parts(file('lost'));
  assert.equal(found.length, 4, found.join(' '));
  assert.deepEqual(found.flatMap((p) => lines(fs.readFileSync(p, 'utf8'))).sort(), await whole());
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

test('queue: buckets under a flow table are the whole, with the drops of each rule', async () => {
  const flows =
    'ip,actions=ct(table=1)\nipv6,actions=ct(table=1,zone=3)\n' +
    'table=1,ct_state=+new+trk,tcp,actions=drop\ntable=1,ct_state=+new+trk,ip,actions=ct(commit),2\n' +
    'table=1,ct_state=+new+trk,ipv6,actions=ct(commit,zone=3),ct(zone=4,table=2)\ntable=1,ct_state=+est,actions=7\n' +
    'table=2,ipv6,actions=ct(commit,zone=4)\n';
  const options = { flows, ports: [2], maxConns: 10_000, filter: 'not udp port 53' };
  for (const name of ['a', 'b']) {
    const paths = [file(`${name}.pcap`)];
    const out = file(`${name}.log`);
    const outputs = [{ format: 'zeek', path: out }] as const;
    const { summary, reconciliation } = await analyze({ ...options, paths, workers: 0, outputs });
    const results = [];
    const jobs = jobsOf([paths], 4, [{ format: 'zeek', path: file(`log-${name}`) }], options);
    for (const job of jobs) results.push(await runJob(job, 1, new AbortController().signal));
    const records = (text: string): string[] => lines(text).filter((line) => !line.startsWith('#'));
    assert.deepEqual(
      parts(file(`log-${name}`))
        .flatMap((p) => records(fs.readFileSync(p, 'utf8')))
        .sort(),
      records(fs.readFileSync(out, 'utf8')),
    );
    const all = together(results);
    assert.deepEqual(all.summary, summary);
    const byName = (rows: readonly { name: string }[]) =>
      [...rows].sort((x, y) => (x.name < y.name ? -1 : 1));
    assert.deepEqual(byName(all.reconciliation.rows), byName(reconciliation.rows));
    assert.ok(
      summary.drops.some((d) => d.connections === 0 && /table=1.*tcp actions=drop/.test(d.rule ?? '')),
    );
    assert.ok(
      summary.drops.some((d) => /table=1.*actions=(output:)?7/.test(d.rule ?? '')),
      JSON.stringify(summary.drops),
    );
  }
});

test('queue: what depends on other connections is not shared out', async () => {
  const run = (flows: string) =>
    analyze({ paths: [file('a.pcap')], workers: 0, bucket: { k: 0, n: 2 }, flows });
  for (const [flows, why] of [
    ['actions=normal', /a flow table that switches by the addresses that it has learned/],
    ['ip,actions=ct(commit,nat(src=10.9.9.9)),2', /that translates addresses/],
    ['ip,idle_timeout=9,actions=ct(commit),2', /that has flows that end when they are idle/],
    ['ip,actions=learn(table=1),2', /that learns flows/],
  ] as const) {
    await assert.rejects(run(flows), why);
  }
  await assert.rejects(analyze({ paths: [file('a.pcap')], bucket: { k: 2, n: 2 } }), /no bucket 2 of 2/);
  const outputs = [{ format: 'csv', path: '/dev/null' }] as const;
  await assert.rejects(
    analyze({ paths: [file('a.pcap')], bucket: { k: 0, n: 2 }, outputs }),
    /into \/dev\/null, which is no regular file/,
  );
});

test('queue: wrong usage', async () => {
  const run = async (...args: string[]): Promise<{ code: number | null; text: string }> => {
    const child = shardtrack('analyze', file('a.pcap'), '--queue', 'redis://127.0.0.1:1', ...args);
    return { code: await exit(child), text: child.text };
  };
  const none = await run();
  assert.equal(none.code, 2);
  assert.match(none.text, /--queue needs folders/);
  fs.writeFileSync(file('normal.txt'), 'actions=normal\n');
  const normal = await run('-o', `csv=${file('n')}`, '--buckets', '2', '--flows', file('normal.txt'));
  assert.equal(normal.code, 2);
  assert.match(normal.text, /normal\.txt switches by .*; leave --buckets out/);
  const alone = shardtrack('analyze', file('a.pcap'), '--buckets', '2');
  assert.equal(await exit(alone), 2);
  assert.match(alone.text, /--buckets shares captures out among the workers of --queue/);
});

test('queue: a Redis that is not there is named, soon, and nobody need wait for it', async () => {
  const url = `redis://:secret@127.0.0.1:${await freePort()}`;
  const client = shardtrack('analyze', file('a.pcap'), '--queue', url, '-o', `csv=${file('nowhere')}`);
  const impatient = shardtrack('analyze', file('a.pcap'), '--queue', url, '-o', `csv=${file('nowhere')}`);
  setTimeout(() => impatient.kill('SIGINT'), 3000);
  assert.equal(await exit(impatient), 130, impatient.text);
  assert.equal(await exit(client), 1);
  assert.match(client.text, /no Redis at 127\.0\.0\.1:\d+: connect ECONNREFUSED.*; start one there/);
  assert.ok(!client.text.includes('secret'));
});
