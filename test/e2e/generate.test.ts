/** `shardtrack generate` as a user meets it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readPcap } from '../support/packets.js';

const CLI = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-generate-'));
after(() => fs.rmSync(folder, { recursive: true, force: true }));

function cli(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, ...args], { maxBuffer: 1 << 26 });
  return { status, out: stdout, err: stderr.toString() };
}

test('generate: capture and table go through replay as it says', () => {
  for (const name of ['x.pcap', 'x.pcapng']) {
    const capture = path.join(folder, name);
    const flows = path.join(folder, 'flows.txt');
    const made = cli(
      'generate',
      'snat',
      capture,
      '--flows',
      flows,
      '--packets',
      '2000',
      '--connections',
      '50',
    );
    assert.equal(made.status, 0, made.err);
    const hint = /replay it with: shardtrack (.*)\n/.exec(made.err);
    assert.ok(hint !== null, made.err);
    const replayed = cli(...hint[1].split(' '), '--workers', '0', '--stats', '-');
    assert.equal(replayed.status, 0, replayed.err);
    const { traffic } = JSON.parse(replayed.out.toString());
    assert.deepEqual(traffic.drops, {});
    assert.equal(traffic.ct.invalid, 0);
    assert.ok(traffic.out['1'].packets > 100 && traffic.out['2'].packets > 100);
  }
});

test('generate: the clock of the capture goes at the rate asked for', () => {
  const { status, out } = cli('generate', 'udp', '-', '--packets', '5', '--rate', '3', '--quiet');
  assert.equal(status, 0);
  const at = path.join(folder, 'rate.pcap');
  fs.writeFileSync(at, out);
  const packets = readPcap(fs.readFileSync(at));
  assert.deepEqual(
    packets.map((p) => [p.sec - 1_600_000_000, p.frac]),
    [
      [0, 0],
      [0, 333333333],
      [0, 666666666],
      [1, 0],
      [1, 333333333],
    ],
  );
});

test('generate: a rate of new connections is kept', () => {
  const at = path.join(folder, 'new.pcap');
  const made = cli(
    ...['generate', 'tcp', at, '--packets', '20000', '--rate', '10000', '--new-rate', '500'],
    ...['--connections', '20', '--quiet'],
  );
  assert.equal(made.status, 0, made.err);
  const packets = readPcap(fs.readFileSync(at));
  const syns = packets.filter((p) => p.frame[14 + 20 + 13] === 2).length;
  const rate = syns / (packets.length / 10_000);
  assert.ok(Math.abs(rate - 500) < 50, `${rate} a second`);
});

test('generate: mistakes end with 2 and say what would be right', () => {
  const wrong = (...args: string[]) => {
    const { status, err } = cli('generate', ...args);
    assert.equal(status, 2, err);
    return err;
  };
  const out = path.join(folder, 'never.pcap');
  assert.match(wrong(), /expected the name of a workload/);
  assert.match(wrong('nope', out), /no workload "nope"; there are udp/);
  assert.match(wrong('udp', out, '--sizes', '12'), /"12" is not a frame size; expected 60 to 1514/);
  assert.match(wrong('udp', out, '--protocols', 'gre:1'), /"gre:1" is not a protocol/);
  assert.match(wrong('snat', out, '--ipv6', '5'), /IPv4/);
  assert.match(wrong('tcp', out, '--life', '3', '--new-rate', '3'), /leave one out/);
  assert.match(wrong('tcp', out, '--new-rate', '900000'), /use at most --new-rate/);
  assert.match(wrong('udp', '-', '--flows', '-'), /only one of the outputs/);
  assert.ok(!fs.existsSync(out) && !fs.existsSync(`${out}.partial`));
});

test('generate: --list names the workloads', () => {
  const { status, out } = cli('generate', '--list');
  assert.equal(status, 0);
  assert.match(out.toString(), /^udp {10}1,000 UDP connections/);
});
