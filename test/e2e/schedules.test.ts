/** Threads that are slow, crowded or squeezed through the smallest of everything, through the command line: the bytes that come
 *  out are those of a run without workers. */
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const CLI = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const CAPTURES = fileURLToPath(new URL('../../../fixtures/captures/', import.meta.url));
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-schedules-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

const SNAT =
  'table=0,priority=9,in_port=1,ip,actions=ct(commit,zone=1,nat(src=192.0.2.1-192.0.2.3)),output:2\n' +
  'table=0,priority=9,in_port=2,ip,actions=ct(zone=1,nat,table=1)\ntable=0,priority=1,actions=drop\n' +
  'table=1,ip,ct_state=+est,actions=output:1\ntable=1,priority=0,actions=drop\n';
const PLAIN =
  'table=0,ip,ct_state=-trk,actions=ct(table=1)\ntable=0,priority=0,actions=drop\n' +
  'table=1,ip,ct_state=+trk+new,actions=ct(commit),output:2\ntable=1,ip,ct_state=+trk+est,actions=output:2\n' +
  'table=1,priority=0,actions=drop\n';
const LANE = 'table=0,ip,actions=ct(commit),normal\ntable=0,priority=0,actions=normal\n';

/** Captures and tables that go through the different ways there are. */
const RUNS: Record<string, { flows: string; captures: string[] }> = {
  plain: { flows: PLAIN, captures: ['sll.pcap'] },
  translated: { flows: SNAT, captures: ['sll.pcap', 'udp-ntp.pcap'] },
  switched: { flows: LANE, captures: ['sll.pcap'] },
  fragments: {
    flows: PLAIN,
    captures: ['fragments-teardrop.pcap'],
  },
};

const ONE_CORE = spawnSync('taskset', ['-c', '0', 'true']).status === 0;
const TINY = ['--window', '2', '--vector', '1', '--ring-words', '2'];
/** What is squeezed. A look at the rings takes some µs: 5 ms are a thousand times as much. */
const SCHEDULES: Record<string, { args: string[]; pinned?: true }> = {
  'one core': { args: ['--workers', '3'], pinned: true },
  'vectors of one packet': { args: ['--workers', '2', '--vector', '1'] },
  'rings of two': { args: ['--workers', '2', ...TINY] },
  'rings of some words for messages': { args: ['--workers', '4', '--ring-words', '37'] },
  'a main thread a thousand times slower': { args: ['--workers', '2', '--slow', '5'] },
  'random delays': { args: ['--workers', '3', '--jitter', '4711', '--window', '50', '--vector', '7'] },
  'all of it': { args: ['--workers', '2', ...TINY, '--jitter', '99'] },
};

let nRuns = 0;

/** Everything that a run puts out: verdicts, packets of port 2, connections. */
async function outputs(name: string, schedule: readonly string[], pinned = false): Promise<string[]> {
  const { flows, captures } = RUNS[name];
  const at = path.join(folder, String(nRuns++));
  fs.mkdirSync(at);
  const file = (what: string) => path.join(at, what);
  fs.writeFileSync(file('flows'), flows);
  const args = [
    CLI,
    'replay',
    ...captures.map((c) => path.join(CAPTURES, c)),
    '--flows',
    file('flows'),
    '--ports',
    '2',
  ];
  args.push(
    '--inside',
    '10.0.0.0/8,172.16.0.0/12,192.168.0.0/16',
    '--verdicts',
    file('verdicts'),
    '--frame-hashes',
    '--out',
    `2=${file('out')}`,
  );
  args.push('--conntrack', file('dump'), '--quiet', ...schedule);
  const command = pinned ? ['taskset', '-c', '0', process.execPath, ...args] : [process.execPath, ...args];
  await new Promise<void>((resolve, reject) => {
    execFile(command[0], command.slice(1), (error, _out, err) =>
      error ? reject(new Error(err)) : resolve(),
    );
  });
  return ['verdicts', 'out', 'dump'].map((what) => fs.readFileSync(file(what), 'latin1'));
}

describe('schedules', { concurrency: 2 }, () => {
  for (const name of Object.keys(RUNS)) {
    test(`${name}: the same bytes on every schedule`, async (t) => {
      const want = await outputs(name, ['--workers', '0']);
      assert.ok(want.every((text) => text.length > 100));
      for (const [says, { args, pinned }] of Object.entries(SCHEDULES)) {
        if (pinned && !ONE_CORE) {
          t.diagnostic('taskset is not there: nothing is run on one core');
          continue;
        }
        assert.deepEqual(await outputs(name, args, pinned), want, says);
      }
    });
  }
});
