/** The timeline of a replay: points over capture time that are joined as the capture goes on. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { parseHTML } from 'linkedom';
import { Verdict, type VerdictTemplate } from '../../../src/coordinator/collector.js';
import type { Lines } from '../../../src/report/model.js';
import { Timeline } from '../../../src/report/replay.js';

function timelineOf(packets: readonly { at: number; bytes: number; reason?: string }[]): Timeline {
  const timeline = new Timeline();
  const v = new Verdict();
  for (const { at, bytes, reason = null } of packets) {
    v.sec = 1000 + Math.floor(at);
    v.nsec = Math.round((at % 1) * 1e9);
    v.wireLen = bytes;
    v.template = { reason } as VerdictTemplate;
    timeline.verdict(v);
  }
  timeline.finish(new Map([['udp', 3]]));
  return timeline;
}

const series = (timeline: Timeline, caption: RegExp) => {
  const chart = timeline.parts().find((p) => p.kind === 'lines' && caption.test(p.caption)) as Lines;
  return chart.series[0].points;
};

test('timeline: nothing is lost, however long the capture', () => {
  for (const seconds of [0.01, 3, 700, 90_000]) {
    const n = 5000;
    const packets = Array.from({ length: n }, (_, i) => ({ at: (i * seconds) / n, bytes: 100 }));
    const timeline = timelineOf(packets);
    const points = series(timeline, /^Packets/);
    assert.ok(points.length <= 240 && (seconds < 1 || points.length >= 120), `${points.length} points`);
    const total = points.reduce((sum, [, perSecond]) => sum + perSecond * timeline.width, 0);
    assert.ok(Math.abs(total - n) < 1e-6, `${seconds} s: ${total} packets`);
    const mbit = series(timeline, /^Traffic/).reduce((sum, [, rate]) => sum + rate * timeline.width, 0);
    assert.ok(Math.abs(mbit - (n * 800) / 1e6) < 1e-9);
  }
});

test('timeline: drops are where they happened; steps back count for the latest time', () => {
  const timeline = timelineOf([
    { at: 0, bytes: 60 },
    { at: 0.002, bytes: 60, reason: 'no-match' },
    { at: 0.001, bytes: 60, reason: 'no-match' },
    { at: 0.0035, bytes: 60 },
  ]);
  assert.deepEqual(
    series(timeline, /^Dropped/).map(([, share]) => share),
    [0, 0, 100, 0],
  );
});

test('timeline: connections of the end', () => {
  const states = timelineOf([{ at: 0, bytes: 60 }])
    .parts()
    .find((p) => p.kind === 'lines' && /state/.test(p.caption));
  assert.deepEqual((states as Lines).series, [{ name: 'udp', points: [[0, 3]] }]);
});

test('replay --html: what the statistics say is in the report, with any number of workers', () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'shardtrack-replay-html-'));
  after(() => fs.rmSync(folder, { recursive: true, force: true }));
  const root = fileURLToPath(new URL('../../../../', import.meta.url));
  for (const workers of ['0', '2']) {
    const html = path.join(folder, `${workers}.html`);
    const { status, stderr } = spawnSync(process.execPath, [
      path.join(root, 'dist/src/cli/main.js'),
      ...['replay', path.join(root, 'fixtures/captures/web-client.pcap'), '--inside', '192.168.100.0/24'],
      ...['--flows', path.join(root, 'fixtures/flows/firewall.txt'), '--workers', workers],
      ...['--html', html, '--quiet'],
    ]);
    assert.equal(status, 0, stderr.toString());
    const { document } = parseHTML(fs.readFileSync(html, 'utf8'));
    const table = (caption: string) =>
      [...document.querySelectorAll('table')]
        .filter((t) => t.querySelector('caption')?.textContent === caption)
        .flatMap((t) => [...t.querySelectorAll('tbody tr')])
        .map((row) => [...row.querySelectorAll('th, td')].map((c) => c.textContent));
    assert.deepEqual(table('What became of the packets'), [
      ['passed', '2,771'],
      ['dropped: drop-action', '367'],
    ]);
    const packets = table('Packets over capture time');
    assert.ok(packets.length > 100);
    assert.equal(table('Packets of each worker').length, workers === '0' ? 1 : 2);
    // 61 live connections at the end.
    const [, ...states] = table('Connections by state over capture time').at(-1) as string[];
    assert.equal(
      states.reduce((sum, n) => sum + Number(n), 0),
      61,
    );
  }
});

test('timeline: no packets', () => {
  assert.ok(timelineOf([]).parts().length > 0);
});
