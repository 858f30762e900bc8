import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { type Analysis, type AnalyzeOptions, analyze } from '../../../src/analyze/analyze.js';
import { FORMATS, type RecordOutput } from '../../../src/output/records/formats.js';
import { pcapFile, Random } from '../../support/packets.js';
import { randomTraffic } from '../../support/random-traffic.js';

const CLI = process.env.SHARDTRACK_CLI ?? fileURLToPath(new URL('../../../src/cli/main.js', import.meta.url));
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-resume-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));
const file = (name: string): string => path.join(folder, name);
const outputsOf = (name: string): RecordOutput[] =>
  FORMATS.map((format) => ({ format, path: file(`${name}.${format}`) }));
const bytesOf = (name: string): string[] =>
  outputsOf(name).map((o) => fs.readFileSync(o.path).toString('base64'));

/** What an analysis says beside its outputs. */
const said = ({ files, reconciliation, summary }: Analysis): unknown => ({ files, reconciliation, summary });

test('resume: however often it crashes, the outputs are those of an undisturbed run', async () => {
  const r = new Random(8);
  const packets = randomTraffic(r, { packets: 900 }).map((p) => ({ ...p, port: 1 }));
  packets.sort((a, b) => a.sec - b.sec || a.nsec - b.nsec);
  fs.writeFileSync(file('a.pcap'), pcapFile(packets.slice(0, 400), { nano: true }));
  fs.writeFileSync(file('b.pcap.gz'), gzipSync(pcapFile(packets.slice(400), { nano: true })));
  const common = { paths: [file('a.pcap'), file('b.pcap.gz')], maxConns: 10_000 };
  for (const [workers, filter] of [
    [0, undefined],
    [2, 'greater 60'],
  ] as const) {
    const want = await analyze({ ...common, filter, workers, outputs: outputsOf('want') });
    assert.ok(want.summary.connections > 30);
    let crashes = 0;
    let got: Analysis | null = null;
    while (got === null) {
      // So many packets are dispatched, then the dispatcher fails.
      let left = crashes < 7 ? 60 + r.int(200) : Infinity;
      const options: AnalyzeOptions = {
        ...common,
        filter,
        workers,
        outputs: outputsOf('got'),
        resume: file('checkpoint'),
        checkpointEvery: 40,
        portMap: {
          portOf() {
            if (--left < 0) throw new Error('crash');
            return 1;
          },
        },
      };
      try {
        got = await analyze(options);
      } catch (error) {
        assert.equal((error as Error).message, 'crash');
        crashes++;
        assert.ok(!fs.existsSync(file('got.csv')), 'it is called .partial');
      }
    }
    assert.ok(crashes >= 3, `${crashes} crashes`);
    assert.deepEqual(bytesOf('got'), bytesOf('want'));
    assert.deepEqual(said(got), said(want));
    assert.ok(!fs.existsSync(file('checkpoint')));
    for (const o of outputsOf('got')) fs.rmSync(o.path);
  }
});

test('resume: a stop while a packet waits for a checkpoint leaves whole outputs, and the rest goes on', async () => {
  const packets = randomTraffic(new Random(9), { packets: 200 }).map((p) => ({ ...p, port: 1 }));
  packets.sort((a, b) => a.sec - b.sec || a.nsec - b.nsec);
  fs.writeFileSync(file('held.pcap'), pcapFile(packets, { nano: true }));
  const common = { paths: [file('held.pcap')], maxConns: 1000 };
  await analyze({ ...common, outputs: outputsOf('held-want') });
  const resumed = { ...common, outputs: outputsOf('held'), resume: file('held.checkpoint') };
  for (const after of [1, 50, Infinity]) {
    const stop = new AbortController();
    let left = after;
    const { reconciliation, result } = await analyze({
      ...resumed,
      workers: 1,
      checkpointEvery: 1,
      stop: stop.signal,
      // Called when a packet is dispatched: the one behind it is read, and waits for its checkpoint.
      portMap: {
        portOf() {
          if (--left === 0) stop.abort();
          return 1;
        },
      },
    });
    assert.equal(reconciliation.captured.packets, result.packets);
  }
  assert.deepEqual(bytesOf('held'), bytesOf('held-want'));
});

function shardtrack(...args: string[]): ChildProcess {
  return spawn(process.execPath, [CLI, ...args], { stdio: 'ignore' });
}
const exit = (child: ChildProcess): Promise<number | null> =>
  new Promise((resolve) => child.on('exit', (code) => resolve(code)));

test('resume: a process that is killed anywhere', { timeout: 120_000 }, async () => {
  const capture = file('imix.pcap');
  const made = ['--packets', '40000', '--connections', '300', '--life', '20', '--sizes', '60'];
  assert.equal(await exit(shardtrack('generate', 'imix', capture, '--quiet', ...made)), 0);
  const args = (name: string): string[] => [
    'analyze',
    capture,
    '--quiet',
    ...['--workers', '1', '--max-conns', '20000'],
    ...outputsOf(name).flatMap((o) => ['-o', `${o.format}=${o.path}`]),
    ...['--report', file(`${name}.json`)],
  ];
  assert.equal(await exit(shardtrack(...args('whole'))), 0);
  const checkpoint = file('kill.checkpoint');
  const r = new Random(Date.now() | 0);
  let kills = 0;
  for (;;) {
    const child = shardtrack(...args('killed'), '--resume', checkpoint, '--checkpoint-every', '1000');
    const ended = exit(child);
    // After a few more checkpoints, somewhere between two of them.
    let seen = 1 + r.int(8);
    let before = mtime(checkpoint);
    const timer = setInterval(() => {
      const now = mtime(checkpoint);
      if (now === before) return;
      before = now;
      if (kills < 3 && --seen === 0) setTimeout(() => child.kill('SIGKILL'), r.int(20));
    }, 1);
    const code = await ended;
    clearInterval(timer);
    if (code === 0) break;
    assert.equal(child.signalCode, 'SIGKILL');
    kills++;
  }
  assert.ok(kills > 0, 'it was killed');
  assert.deepEqual(bytesOf('killed'), bytesOf('whole'));
  assert.deepEqual(fs.readFileSync(file('killed.json')), fs.readFileSync(file('whole.json')));
});

function mtime(path: string): number {
  return fs.statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

test('resume: a checkpoint of something else, and what has none', async () => {
  fs.writeFileSync(file('c.pcap'), pcapFile([]));
  const options = { paths: [file('c.pcap')], outputs: outputsOf('c'), workers: 0, maxConns: 100 };
  fs.writeFileSync(file('other'), 'nonsense');
  await assert.rejects(analyze({ ...options, resume: file('other') }), /other: not a checkpoint/);
  await assert.rejects(
    analyze({ ...options, resume: file('x'), flows: 'actions=drop' }),
    /with a flow table or events/,
  );
  await assert.rejects(analyze({ ...options, outputs: [], resume: file('x') }), /without outputs/);
  const pipe = [{ format: 'csv', path: '-' }] as const;
  await assert.rejects(
    analyze({ ...options, outputs: pipe, resume: file('x') }),
    /of -, which is no regular/,
  );
});

test('resume: a checkpoint of a run with other options is refused, and says which', async () => {
  const packets = randomTraffic(new Random(9), { packets: 400 }).map((p) => ({ ...p, port: 1 }));
  packets.sort((a, b) => a.sec - b.sec || a.nsec - b.nsec);
  fs.writeFileSync(file('d.pcap'), pcapFile(packets));
  fs.writeFileSync(file('c.pcap'), pcapFile([]));
  const ports = (identity: string | undefined, left = Infinity): AnalyzeOptions['portMap'] => ({
    identity,
    portOf() {
      if (--left < 0) throw new Error('crash');
      return 1;
    },
  });
  const options: AnalyzeOptions = {
    paths: [file('d.pcap')],
    outputs: outputsOf('d'),
    workers: 0,
    maxConns: 10_000,
    filter: 'ip',
    portMap: ports('inside 10.0.0.0/8', 90),
    resume: file('d.checkpoint'),
    checkpointEvery: 40,
  };
  await assert.rejects(analyze(options), /crash/);
  assert.ok(fs.existsSync(file('d.checkpoint')));
  const before = fs.readFileSync(file('d.checkpoint'));
  const whole = ports('inside 10.0.0.0/8');
  for (const [other, expected] of [
    [{ portMap: ports('inside 10.1.0.0/16') }, /of a run with other ports \(--inside\)/],
    [{ portMap: undefined }, /other ports \(--inside\)/],
    [{ filter: 'udp' }, /other packets \(--filter\) \("ip", now "udp"\)/],
    [{ filter: undefined }, /other packets \(--filter\)/],
    [{ maxConns: 20_000 }, /other limits \(--max-conns\) \(10000, now 20000\)/],
    [{ ignoreChecksums: true }, /other checks \(--ignore-checksums\)/],
    [{ outputs: outputsOf('e') }, /other outputs/],
    [{ bucket: { k: 0, n: 2 } }, /from a checkpoint of a bucket/],
    [{ paths: [file('c.pcap')] }, /of other captures/],
  ] as const) {
    await assert.rejects(analyze({ ...{ ...options, portMap: whole }, ...other }), expected);
  }
  assert.deepEqual(fs.readFileSync(file('d.checkpoint')), before);
  const { ctimeMs } = fs.statSync(file('d.pcap'));
  fs.utimesSync(file('d.pcap'), new Date(), new Date(ctimeMs + 5000));
  await assert.rejects(analyze({ ...options, portMap: whole }), /captures that have changed/);
  // A checkpoint with another byte, or cut.
  for (const damaged of [
    before.with(before.length >> 1, before[before.length >> 1] ^ 1),
    before.subarray(0, -1),
  ]) {
    fs.writeFileSync(file('d.checkpoint'), damaged);
    await assert.rejects(analyze({ ...options, portMap: whole }), /can be read \(it is damaged/);
  }
});
